"""The simulated machine: its devices, and the scheduler that runs what streams hold in a random order that their dependences allow.

Comes in: works, posted to streams by the driver's functions (calls/). Goes out: their effects, later: when the host waits or asks, and at random at any
call. Time is virtual: an operation starts when all it depends on has ended, and takes what a simple model of the device says; nothing queues for the
device itself.
"""
from __future__ import annotations

import contextlib
import itertools
import os
import random
import sys
import threading
import time
from dataclasses import dataclass, field

from .. import chips
from . import memory
from .memory import Allocation, Arena, Space
from .order import Access, Finding, join, touch
from .work import Broken, Refuse, Work

HOME = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))) + os.sep
CALL = 1e-6                                    # virtual seconds of one call
PATIENCE = 10.0                                # real seconds that a wait lasts while nothing can run, as another thread may still post something


@dataclass(frozen=True)
class Spec:
    """A kind of device. The default is an H200 with little memory."""
    name: str = "Simulated H200"
    capability: tuple[int, int] = (9, 0)
    nbytes: int = 2 << 30
    sms: int = 132
    hertz: float = 1.98e9
    bandwidth: float = 4.8e12                  # bytes/s
    l2: int = 50 << 20
    pageable: bool = False                     # does it read the host's pages itself (HMM)? Copies of them are queued then, instead of staged
    serial: int | None = None                  # which GPU of its machine it is; None: as it is numbered


@dataclass(eq=False, repr=False)
class Device:
    ordinal: int
    spec: Spec
    arena: Arena
    peers: set[int]                            # devices that it can reach
    lost: bool = False
    context: Context | None = None
    default_pool: object = None
    pool: object = None

    def __post_init__(self):
        self.chip = chips.chip(self.spec.capability)
        self.serial = self.ordinal if self.spec.serial is None else self.spec.serial
        self.capability, self.sms, self.hertz, self.bandwidth = self.spec.capability, self.spec.sms, self.spec.hertz, self.spec.bandwidth


@dataclass(eq=False, repr=False)
class Context:
    """A device's primary context."""
    device: Device
    handle: int = 0
    retained: int = 0
    error: int = 0                             # sticky
    flags: int = 0
    legacy: Stream | None = None
    streams: list = field(default_factory=list)          # all but the legacy one
    threads: dict = field(default_factory=dict)          # per-thread default streams
    peers: set = field(default_factory=set)              # devices whose memory may be touched from here
    limits: dict = field(default_factory=dict)

    def stream_of(self, thread: int, machine) -> Stream:
        if thread not in self.threads: self.threads[thread] = machine.new_stream(self, 0, 0)
        return self.threads[thread]


@dataclass(eq=False, repr=False)
class Stream:
    context: Context
    number: int                                # also its lane among the clocks
    blocking: bool = True
    priority: int = 0
    handle: int = 0
    tail: Op | None = None
    capture: object = None

    def __str__(self): return "the default stream" if self is self.context.legacy else f"stream {self.number}"


@dataclass(eq=False, repr=False)
class Event:
    context: Context
    timing: bool
    handle: int = 0
    op: Op | None = None                       # what was recorded last
    captured: tuple | None = None              # (capture, its nodes) where it was recorded in a capture
    interprocess: bool = False
    known: bool = False                        # does another process know it?


class Op:
    """A work in line. `clock`: what happened before it, and itself once it has run."""
    __slots__ = ("work", "context", "stream", "lane", "call", "place", "text", "needs", "before", "next", "done", "clock", "start", "finish")

    def __init__(self, work: Work, context: Context, stream: Stream | None, lane: int, call: int, clock: dict, now: float):
        self.work, self.context, self.stream, self.lane, self.call, self.place, self.clock = work, context, stream, lane, call, caller(), clock
        self.text = ""
        self.needs, self.before, self.next, self.done, self.start, self.finish = 0, [], [], False, now, now

    def learn(self, clock: dict) -> None: self.clock = join(self.clock, clock)

    def __str__(self):
        if not self.text:
            self.text = f"{self.work.name}, call {self.call} in {self.stream or 'a graph'}{place_name(self.place)}"
        return self.text


def place_name(place: tuple[str, int] | None) -> str: return f" ({os.path.basename(place[0])}:{place[1]})" if place else ""


def caller() -> tuple[str, int] | None:
    """File and line outside of forno from where the driver was called."""
    frame = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith(HOME): frame = frame.f_back
    return None if frame is None else (frame.f_code.co_filename, frame.f_lineno)


class _Thread(threading.local):
    """What a machine knows of a thread. `context`: the current one; `callback`: a host function of a stream runs here; `busy`: a call is at work; `mode`: of
    captures; `number`: Python gives the identity of an ended thread to the next."""
    context = number = None
    callback = busy = False
    mode = 0


class Core:
    """State and scheduler. `calls` make a driver of it."""

    def __init__(self, specs: list[Spec], seed: int, version: int, peers=None):
        self.random, self.seed, self.version = random.Random(seed), seed, version
        self.lock = threading.RLock()
        self.changed = threading.Condition(self.lock)
        self.local = _Thread()
        self.threads = itertools.count()
        self.space, self.values = Space(), {}
        self.divisions: dict[int, tuple] = {}            # allocation -> start, end, start, … of the parts that an allocator above has given out; only exchanged
        everyone = range(len(specs))
        reach = peers if peers is not None else [[i != j for j in everyone] for i in everyone]
        self.devices = [Device(i, s, Arena(i, s.nbytes), {j for j in everyone if reach[i][j]}) for i, s in enumerate(specs)]
        self.found: list[Finding] = []
        self._said = set()
        self.ready: list[Op] = []
        self.running = 0
        self.host_clock: dict[int, int] = {}
        self.ticks: dict[int, int] = {}
        self.lanes = self.calls = 0
        self.now = 0.0
        self.slow = 1.0
        self.handles: dict[int, object] = {}
        self.next_handle = 1 << 53
        # how this seed goes about it: how often calls let something run, and whether streams are picked evenly or by whim
        self.eager = self.random.choice((0.0, 0.1, 0.5, 1.0))
        self.whims: dict[int, float] | None = {} if self.random.random() < 0.5 else None

    @property
    def thread(self) -> int:
        if self.local.number is None: self.local.number = next(self.threads)
        return self.local.number

    # ---- handles
    def put(self, thing) -> int:
        self.next_handle += 64
        self.handles[self.next_handle] = thing
        return self.next_handle

    def get(self, handle: int, kind: type, code: str = "INVALID_HANDLE"):
        thing = self.handles.get(handle)
        if not isinstance(thing, kind): raise Refuse(code)
        return thing

    def lane(self) -> int:
        self.lanes += 1
        return self.lanes

    def new_stream(self, context: Context, flags: int, priority: int) -> Stream:
        s = Stream(context, self.lane(), not flags & 1, priority)
        s.handle = self.put(s)
        context.streams.append(s)
        return s

    # ---- findings
    def find(self, kind: str, text: str, once=None) -> None:
        """Notes what is wrong, once for each `once`."""
        key = (kind, once or text)
        if key not in self._said: self.found.append(Finding(kind, text))
        self._said.add(key)

    # ---- posting
    def post(self, work: Work, stream: Stream, before=()) -> Op:
        """Puts a work behind all that the stream holds. The default stream waits for all blocking ones, and they for it."""
        op = Op(work, stream.context, stream, stream.number, self.calls, self.host_clock, self.now)
        context = stream.context
        follows = [stream.tail, *before]
        if stream is context.legacy: follows += [s.tail for s in context.streams if s.blocking]
        elif stream.blocking: follows.append(context.legacy.tail)
        stream.tail = op
        return self.line_up(op, follows)

    def line_up(self, op: Op, follows) -> Op:
        for p in dict.fromkeys(follows):
            if p is None: continue
            if p.done: self._passed(p, op)
            else:
                op.needs += 1
                op.before.append(p)
                p.next.append(op)
        if not op.needs: self.ready.append(op)
        self.changed.notify_all()
        return op

    @staticmethod
    def _passed(p: Op, op: Op) -> None:
        op.learn(p.clock)
        op.start = max(op.start, p.finish)

    # ---- running
    def step(self, among=None, calls=True) -> bool:
        """Runs one operation that is ready, of those in `among` if that is given."""
        can = [op for op in self.ready if (among is None or op in among) and (calls or not op.work.calls) and not op.work.blocked(self)]
        if not can: return False
        op = can[0] if len(can) == 1 else self._pick(can)
        self.ready.remove(op)
        self._run(op)
        return True

    def _pick(self, can: list[Op]) -> Op:
        if self.whims is None: return self.random.choice(can)
        if self.random.random() < 0.05: self.whims.clear()
        return max(can, key=lambda op: self.whims.setdefault(op.lane, self.random.random()))

    def _run(self, op: Op) -> None:
        tick = self.ticks[op.lane] = self.ticks.get(op.lane, 0) + 1
        op.clock = {**op.clock, op.lane: tick}
        self.running += 1
        cost = 0.0
        try:
            if not op.context.error and not op.context.device.lost: cost = op.work.run(self, op)
        except Broken as e:
            op.context.error = e.code
            self.find(e.kind, f"{op}: {e}")
        finally:
            self.running -= 1
            op.finish, op.done = op.start + cost, True
            for n in op.next:
                self._passed(op, n)
                n.needs -= 1
                if not n.needs: self.ready.append(n)
            op.next, op.before = [], []
            self.changed.notify_all()

    def run_until(self, op: Op) -> None:
        """What an operation needs runs, and the operation."""
        among = self._ancestors(op) if not op.done and self.random.random() < 0.5 else None
        since = time.monotonic()
        while not op.done:
            if self.step(among) or (among is not None and self.step()): since = time.monotonic()
            elif not self.changed.wait(0.05) and time.monotonic() - since > PATIENCE and not self.running:
                self.find("hang", f"{op} never ends: it waits for what nobody posts")
                raise Refuse("LAUNCH_TIMEOUT")

    def some(self) -> None:
        """At random, lets a few operations run; no host functions: the caller may hold what they need, and does not know that it waits."""
        while self.ready and self.random.random() < self.eager:
            if not self.step(calls=False): break

    def wait(self, ops) -> None:
        """The host waits: what it needs runs, and maybe other things, too. Then the host knows all that they knew."""
        ops = [op for op in ops if op is not None]
        for op in ops:
            self.run_until(op)
            self.host_clock = join(self.host_clock, op.clock)
            self.now = max(self.now, op.finish)
        for context in {op.context for op in ops}: self.check(context)

    def finish(self, context: Context) -> None:
        """Waits for all of a device's streams. Destroyed ones are forgotten now: until then, the default stream has to follow their work."""
        self.wait([s.tail for s in (context.legacy, *context.streams)])
        context.streams = [s for s in context.streams if s.handle in self.handles]

    @staticmethod
    def _ancestors(op: Op) -> set[Op]:
        out, todo = {op}, [op]
        while todo:
            for p in todo.pop().before:
                if p not in out and not p.done:
                    out.add(p)
                    todo.append(p)
        return out

    def is_done(self, ops) -> bool:
        """The host asks, which lets things go on; a positive answer is knowledge."""
        ops = [op for op in ops if op is not None]
        if not all(op.done for op in ops):
            self.step()
            self.some()
        if not all(op.done for op in ops): return False
        self.wait(ops)
        return True

    @staticmethod
    def check(context: Context) -> None:
        if context.device.lost: raise Refuse("UNKNOWN")
        if context.error: raise Refuse(context.error)

    @contextlib.contextmanager
    def outside(self):
        """While a host function runs, other threads may call the driver; this one may not."""
        self.local.callback, self.local.busy = True, False
        self.lock.release()
        try: yield
        finally:
            self.lock.acquire()
            self.local.callback, self.local.busy = False, True

    # ---- memory, as operations touch it
    def touch_any(self, op: Op, at: int, nbytes: int, writes: bool, strong: bool = False, peer: bool = False) -> None:
        """A copy's or a fill's access: by a device address, or one of the host, of which only pinned memory is known."""
        if not nbytes: return
        if at < memory.DELTA:
            a = self.space.at(at + memory.DELTA)
            if a is None: return
            at += memory.DELTA
        else: a = self.space.at(at)
        if a is None or not a.live or at + nbytes > a.end:
            raise Broken("ILLEGAL_ADDRESS", self.describe(at, nbytes), "use after free" if a is None and self.space.was(at) else "fault")
        if a.device not in (-1, op.context.device.ordinal) and op.context.device.ordinal not in a.readers and not peer:
            raise Broken("ILLEGAL_ADDRESS", f"{a} is memory of device {a.device}, which device {op.context.device.ordinal} has no access to")
        if not strong: self.touch(op, a, at, at + nbytes, writes)

    def touch(self, op: Op, a: Allocation, start: int, end: int, writes: bool) -> None:
        """Notes an access and compares it with those that nothing orders before it."""
        tick = op.clock.get(op.lane, 0)
        a.written += writes
        old = touch(a.history, Access(start, end, writes, op.lane, tick, str(op)), op.clock)
        if old is not None:
            what = " and ".join(sorted({"writes" if writes else "reads", "writes" if old.writes else "reads"})) if writes != old.writes else "both write"
            low, high = max(start, old.start), min(end, old.end)
            self.find("race", f"{op} {'writes' if writes else 'reads'} and {old.name} {'writes' if old.writes else 'reads'} {a}, bytes {low - a.start} to {high - a.start}, "
                              f"and nothing orders them ({what})", once=(a.start, op.work.name, old.name.split(", call")[0]))

    def describe(self, at: int, nbytes: int) -> str:
        """What lies at an address that may not be touched."""
        a = self.space.at(at)
        if a is not None and not a.live: return f"{nbytes} bytes at {at:#x}: {a} does not exist yet in the order of streams"
        if a is not None and at + nbytes > a.end: return f"{nbytes} bytes at {at:#x}, {at + nbytes - a.end} more than there are in {a}"
        if a is not None: return f"{nbytes} bytes at {at:#x} in {a}, of device {a.device}"
        if (a := self.space.was(at)) is not None: return f"{nbytes} bytes at {at:#x} in {a}, which was freed by: {a.freed_by}"
        if (a := self.space.below(at)) is not None: return f"{nbytes} bytes at {at:#x}, {at - a.end} bytes past the end of {a}"
        return f"{nbytes} bytes at {at:#x}, where nothing was ever allocated"

    def free_now(self, a: Allocation, by: str) -> None:
        if a.kind in ("memory", "pool", "global") and a.live and (at := memory.broken_zone(a)) is not None:
            self.find("red zone", f"somebody wrote at {at:#x}, outside of {a}")
        self.space.remove(a, by)
        if a.start in self.divisions: self.divisions = {at: parts for at, parts in self.divisions.items() if at != a.start}
        memory.fill(a.host, min(a.nbytes, memory.PAGE), memory.POISON)
        arena = self.devices[a.device].arena
        if a.file is not None: arena.from_file(a.host, a.nbytes, a.file)
        arena.release(a.start, a.nbytes)
        arena.used -= memory.round_up(a.nbytes, memory.ALIGN)
        if a.pool is not None: a.pool.used -= a.nbytes
