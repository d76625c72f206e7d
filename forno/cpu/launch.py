"""A plan's kernels in one native call.

Comes in: a plan's steps as addresses and words. Goes out: a `Table`, flat native arrays made once; `run(vals)` walks them. The caller runs serial steps
alone; a parallel step wakes the pool, and its end is the only barrier. A plan without parallel steps never touches a worker.

A kernel that meets a wrong index writes the error record; the walk stops after that step, as eager execution would, and `run` returns the record.
"""
from __future__ import annotations

import array
import functools
import itertools
import struct
import time
from typing import NamedTuple

from ..core.hot import free, held, hot, know
from ..core.kernels import Choices
from . import clock, code, hot as hot_functions, isa, memory, threads, tune

QUICK = 50e-6                                  # plans shorter than this keep the GIL: releasing it costs little, getting it back from a busy thread 5 ms

_TEXT = """
; call: pool, steps, first, last, times (null: none), walks begun. A step: kernel, words, parallel, unused. Returns the number of the step that failed plus 1, or 0.
define i64 @walk(ptr %call, ptr %vals) #0 {
entry:
  %pool = load ptr, ptr %call
  %steps.p = getelementptr i64, ptr %call, i64 1
  %steps = load ptr, ptr %steps.p
  %first.p = getelementptr i64, ptr %call, i64 2
  %first = load i64, ptr %first.p
  %last.p = getelementptr i64, ptr %call, i64 3
  %last = load i64, ptr %last.p
  %times.p = getelementptr i64, ptr %call, i64 4
  %times = load ptr, ptr %times.p
  %timed = icmp ne ptr %times, null
  %ctx = getelementptr i8, ptr %pool, i64 SERIAL
  %mystep = getelementptr i64, ptr %ctx, i64 STEP
  %error = getelementptr i8, ptr %pool, i64 ERROR
  %dispatch.p = getelementptr i8, ptr %pool, i64 DISPATCH
  %dispatch = load ptr, ptr %dispatch.p
  store i64 0, ptr %error
  %begun.p = getelementptr i64, ptr %call, i64 5
  %begun.n = load i64, ptr %begun.p
  %begun.n1 = add i64 %begun.n, 1
  store i64 %begun.n1, ptr %begun.p
  br i1 %timed, label %start, label %head
start:
  %t0 = call i64 @now()
  %t0.p = getelementptr i64, ptr %times, i64 %first
  store i64 %t0, ptr %t0.p
  br label %head
head:
  %i = phi i64 [ %first, %entry ], [ %first, %start ], [ %i1, %next ]
  %more = icmp slt i64 %i, %last
  br i1 %more, label %step, label %done
step:
  %s = getelementptr [4 x i64], ptr %steps, i64 %i
  %kernel = load ptr, ptr %s
  %words.p = getelementptr i64, ptr %s, i64 1
  %words = load ptr, ptr %words.p
  %parallel.p = getelementptr i64, ptr %s, i64 2
  %parallel = load i64, ptr %parallel.p
  %all = icmp ne i64 %parallel, 0
  br i1 %all, label %together, label %alone
together:
  call void %dispatch(ptr %pool, ptr %kernel, ptr %vals, ptr %words, i64 %i)
  br label %after
alone:
  store i64 %i, ptr %mystep
  call void %kernel(ptr %ctx, ptr %vals, ptr %words)
  br label %after
after:
  %i1 = add i64 %i, 1
  br i1 %timed, label %clock, label %check
clock:
  %t = call i64 @now()
  %t.p = getelementptr i64, ptr %times, i64 %i1
  store i64 %t, ptr %t.p
  br label %check
check:
  %bad = load i64, ptr %error
  %failed = icmp ne i64 %bad, 0
  br i1 %failed, label %stop, label %next
next:
  br label %head
stop:
  ret i64 %i1
done:
  ret i64 0
}

attributes #0 = { ATTRIBUTES }
"""


class Step(NamedTuple):
    """One kernel on its operands: `words` are the operands' positions in the value table, then the kernel's own numbers."""
    address: int
    words: tuple[int, ...]
    parallel: bool = False
    scratch: int = 0
    shared: int = 0
    choices: Choices | None = None


class Frame(NamedTuple):
    """One run's values: the bytes that kernels read, and the arena they point into."""
    vals: bytes
    arena: memory.Buffer | None


class Error(NamedTuple):
    code: int                                  # 1: index out of range; 2: a row's check failed, `index` says which
    index: int
    size: int
    step: int


@functools.cache
def _walker() -> int:
    text = clock.TEXT + _TEXT
    for name, value in (("SERIAL", threads.AT["serial"]), ("ERROR", threads.AT["error"]), ("STEP", threads.STEP),
                        ("DISPATCH", threads.AT["dispatch"]), ("ATTRIBUTES", isa.attributes)):
        text = text.replace(name, str(value))
    return code.load(text, "walk", 1, ("clock_gettime",))


@know
class Table:
    """The native form of a plan.

    The value table that kernels see is what the caller passes (`nvals` words: addresses of inputs and outputs, numbers), then one word per entry of
    `arena_offsets`: the address of that byte of the run's arena. So operand positions nvals, nvals + 1, … are intermediates.
    """
    __slots__ = ("steps", "nvals", "nbytes", "arena_bytes", "arena_offsets", "tail", "tail_base", "scratch", "shared", "words", "flat", "call", "call_address", "walker", "pool",
                 "trials", "quickest", "quick", "times", "others", "look")

    def __init__(self, steps, nvals: int, arena_bytes: int = 0, arena_offsets: tuple[int, ...] = ()):
        self.steps, self.nvals, self.nbytes, self.arena_bytes, self.arena_offsets = [Step(*s) for s in steps], nvals, 8 * nvals, arena_bytes, tuple(arena_offsets)
        self.words = array.array("q", [w for s in self.steps for w in s.words])
        at, flat = self.words.buffer_info()[0], []
        for s in self.steps:
            flat += s.address, at, int(s.parallel), 0
            at += 8 * len(s.words)
        self.flat = array.array("q", flat)
        self.call = array.array("q", [0, self.flat.buffer_info()[0], 0, len(self.steps), 0, 0])
        self.call_address, self.walker = self.call.buffer_info()[0], _walker()
        self.scratch = max((s.scratch for s in self.steps), default=0)
        self.shared = max((s.shared for s in self.steps), default=0)
        self.tail, self.tail_base, self.pool = b"", -1, None
        self.trials, self.quickest, self.quick = 3, 1.0, False         # quick: it keeps the GIL
        self.times, self.others, self.look = None, {}, None               # others: words that tuning put in place of some steps'
        tune.apply(self)

    def __len__(self): return len(self.steps)

    @property
    def begun(self) -> int:
        """Native walks so far. Python delivers an interrupt only after a walk it met: who sees this number change knows that the results are there."""
        return self.call[5]

    def error(self) -> Error | None:
        """The last walk's error record."""
        e = Error(*self.pool.error())
        return e if e.code else None

    def frame(self, vals: bytes) -> Frame:
        """Values with their arena. A plan that stops for host steps makes one frame and runs its parts on it."""
        if not self.arena_offsets: return Frame(vals, None)
        arena = memory.empty(self.arena_bytes)
        if arena.address != self.tail_base: self.move(arena.address)
        return Frame(vals + self.tail, arena)

    def move(self, base: int):
        """The arena lies elsewhere than last time."""
        self.tail, self.tail_base = struct.pack(f"{len(self.arena_offsets)}q", *[base + o for o in self.arena_offsets]), base

    def run(self, vals: bytes) -> Error | None: return run(self, vals)

    def run_part(self, frame: Frame, first: int, last: int) -> Error | None:
        """Steps first … last-1 on a frame."""
        with threads.lock:
            self.call[2], self.call[3] = first, last
            try: failed = walk(self, frame.vals)
            finally: self.call[2], self.call[3] = 0, len(self.steps)
        return self.error() if failed else None

    def enlist(self):
        """Run on the pool there is now."""
        pool = threads.pool()
        pool.reserve(self.scratch, self.shared)
        self.pool, self.call[0] = pool, pool.address

    def timed_walk(self, vals: bytes) -> int:
        """The first runs, timed: a plan that is always quick will keep the GIL from then on, one that isn't may be worth tuning."""
        if self.look is not None: return self.look.walk(vals)
        start = time.perf_counter()
        failed = self.plain_walk(vals)
        self.quickest = min(self.quickest, time.perf_counter() - start)
        self.trials -= 1
        if not self.trials:
            self.quick = self.quickest < QUICK
            hot_functions.install()            # a program that repeats itself
            self.look = tune.look(self)
            self.trials = int(self.look is not None)
        return failed

    def timed(self, vals: bytes) -> tuple[Error | None, list[float]]:
        """A run with the seconds of each step."""
        with threads.lock:
            self.clock(True)
            try: error = self.run(vals)
            finally: self.clock(False)
        return error, [max(b - a, 0) * 1e-9 for a, b in itertools.pairwise(self.times)]

    def clock(self, on: bool):
        """Do walks note the time after every step?"""
        if self.times is None: self.times = array.array("q", [0] * (len(self.steps) + 1))
        self.call[4] = self.times.buffer_info()[0] if on else 0

    # ---- for tune
    def plain_walk(self, vals: bytes) -> int: return free(self.walker, self.call_address, vals)

    def timed_steps(self, vals: bytes):
        """A walk; its result, and the seconds of step i as a function, None for a step that isn't in this part."""
        self.clock(True)
        try: failed = self.plain_walk(vals)
        finally: self.clock(False)
        first, last, times = self.call[2], self.call[3], self.times
        return failed, lambda i: (times[i + 1] - times[i]) * 1e-9 if first <= i < last else None

    def put(self, i: int, words: array.array):
        """Step i runs with these words from now on."""
        self.others[i] = words
        self.flat[4 * i + 1] = words.buffer_info()[0]

    def enlarge(self, scratch: int, shared: int):
        """Words to come need so much scratch."""
        self.scratch, self.shared = max(scratch, self.scratch), max(shared, self.shared)
        if self.pool is not None: self.pool.reserve(self.scratch, self.shared)

    def settled(self):
        """Nothing is left to be tuned."""
        self.look, self.trials = None, 0

    def refuse(self, vals: bytes): raise RuntimeError(f"{len(vals)} bytes of values for a plan that takes {self.nvals} words")


@hot
def run(table, vals):
    """All steps; `vals` are struct.pack'ed 8-byte words. None, or what went wrong first."""
    failed: int
    if len(vals) != table.nbytes: table.refuse(vals)
    arena = None                               # it lives until the end of this call
    if table.arena_offsets:
        arena = memory.empty(table.arena_bytes)
        if arena.address != table.tail_base: table.move(arena.address)
        vals = vals + table.tail
    threads.lock.acquire()
    try: failed = walk(table, vals)
    except BaseException:
        threads.lock.release()
        raise
    threads.lock.release()
    return table.error() if failed != 0 else None


@hot
def walk(table, vals):
    """All steps on complete values, with the lock held. 0, or the number of the step that failed plus 1."""
    if table.pool is None or table.pool is not threads.ready[0]: table.enlist()
    if table.trials: return table.timed_walk(vals)
    if table.quick: return held(table.walker, table.call_address, vals)
    return free(table.walker, table.call_address, vals)
