"""The memory of one device, given out in pieces.

Comes in: sizes and streams. Goes out: a `Piece` of a segment that the driver gave. Pieces are given out again in the order of their stream, so nothing waits when
one is freed. Sizes, splitting and statistics are PyTorch's: sizes are multiples of 512 bytes; pieces of up to 1 MiB come from segments of 2 MiB, those below 10 MiB
from segments of 20 MiB, larger ones have their own; the smallest idle piece that is large enough is cut, and joined with its idle neighbours when it comes back.

What finalizers leave in `returned` is looked at when somebody asks for memory or for numbers. A simulated machine is told what is given out (`Machine.divide`), and
fills it with NaN before, if it asks for that (`Machine.poisoning`).
"""
from __future__ import annotations

import bisect
import gc
import itertools
import threading
from collections import deque

from ..core.errors import OutOfMemoryError
from ..gpu.errors import OutOfMemory
from . import devices
from .history import History
from .statistics import Statistics, size_text
from .streams import Event

ROUND = 512
SMALL, SMALL_SEGMENT = 1 << 20, 2 << 20        # pieces of up to so many bytes come from segments of so many
MEDIUM, LARGE_SEGMENT = 10 << 20, 20 << 20     # larger ones below MEDIUM from such
LARGE_ROUND = 2 << 20                          # segments of their own have multiples of this


class Segment:
    """What the driver gave at once; `first` is the piece at its start."""
    __slots__ = ("address", "size", "first", "frames")

    def __init__(self, address: int, size: int, frames: list): self.address, self.size, self.first, self.frames = address, size, None, frames


class Piece:
    """A part of a segment; `before` and `after` are its neighbours. `asked`: bytes that are wanted of it while it is given out. `others`: streams it is used in besides.
    `frames`: who asked, if that is noted."""
    __slots__ = ("address", "size", "asked", "stream", "pool", "segment", "before", "after", "state", "others", "frames")

    def __init__(self, address: int, size: int, stream: int, pool: Pool, segment: Segment, before=None, after=None):
        self.address, self.size, self.stream, self.pool, self.segment, self.before, self.after = address, size, stream, pool, segment, before, after
        self.asked, self.state, self.others, self.frames = 0, IDLE, set(), []

    @property
    def parted(self) -> bool: return self.before is not None or self.after is not None


CAPTURING: set[int] = set()                    # threads that capture
IDLE, LIVE, WAITING = "inactive", "active_allocated", "active_pending_free"        # states of a piece, by PyTorch's names
_numbers = itertools.count(1)
WHEN_SHORT: list = []                          # what is called before memory is said to be exhausted: it may let go of some


class Pool:
    """Idle pieces of one kind, by stream, size and address. `apart`: the private memory that it is a part of."""

    def __init__(self, kind: str, apart: Graphs | None = None): self.kind, self.apart, self.idle = kind, apart, []

    def put(self, p: Piece): bisect.insort(self.idle, (p.stream, p.size, p.address, p))
    def remove(self, p: Piece): del self.idle[bisect.bisect_left(self.idle, (p.stream, p.size, p.address))]

    def take(self, size: int, stream: int) -> Piece | None:
        """The smallest piece that is large enough."""
        k = bisect.bisect_left(self.idle, (stream, size))
        if k == len(self.idle) or self.idle[k][0] != stream: return None
        return self.idle.pop(k)[3]


class Graphs(tuple):
    """Memory of graphs, or of a user's pool, which nobody else gets as long as one of them lives; as a tuple its number. `users`: graphs, pools, and captures underway.
    `whole`: its pieces aren't cut."""

    def __new__(cls): return super().__new__(cls, (0, next(_numbers)))
    def __init__(self): self.users, self.pools, self.whole = 0, {}, False
    def of(self, index: int) -> tuple[Pool, Pool]: return self.pools.setdefault(index, (Pool("small_pool", self), Pool("large_pool", self)))


LAST_RESORT: list[Graphs] = []                 # whose idle pieces anybody gets before memory runs out


class Allocator:
    """One device's memory. Its functions may be called by any thread."""

    def __init__(self, driver, index: int):
        self.index, self.machine = index, driver.machine
        self.lock, self.returned = threading.RLock(), deque()
        self.pools = Pool("small_pool"), Pool("large_pool")
        self.segments: dict[int, Segment] = {}
        self.waiting: list[tuple[list[Event], Piece]] = []          # pieces that other streams still use
        self.private: dict[int, list[Graphs]] = {}                 # thread -> where its memory comes from, the last first
        self.raw: dict[int, Piece] = {}                            # given out by address
        self.capturing, self.fraction = 0, 1.0                     # captures underway; the part of all memory that may be used
        self.deferred: list[Piece] = []                            # freed while something is captured: no event may be asked then
        self.changed: set[Segment] = set()                         # segments of which a simulated machine knows what isn't so any more
        self.stats, self.history = Statistics(), History(index)

    # ---- giving out
    def allocate(self, nbytes: int, stream: int) -> Piece:
        if nbytes < 0: raise RuntimeError(f"invalid size of memory: {nbytes} bytes")
        size = -(-max(nbytes, 1) // ROUND) * ROUND
        with self.lock:
            self.collect()
            mine = self.private.get(threading.get_ident())
            pool = (mine[-1].of(self.index) if mine else self.pools)[size > SMALL]
            piece = self.idle(pool, size, stream) or self.fresh(pool, size, stream, nbytes)
            self.cut(piece, size)
            piece.state, piece.asked = LIVE, nbytes
            self.stats.given(piece)
            self.changed.add(piece.segment)
            if self.history.on: piece.frames = self.history.note("alloc", piece.address, piece.size, stream, pool.apart)
            self.tell(piece)
            return piece

    def idle(self, pool: Pool, size: int, stream: int) -> Piece | None:
        """A piece that is there."""
        p = pool.take(size, stream)
        if p is not None and p.parted: self.stats.joined(p)
        return p

    def cut(self, p: Piece, size: int):
        """What is left of a piece goes back, if it is worth it."""
        rest, apart = p.size - size, p.pool.apart
        if rest < ROUND or p.pool.kind == "large_pool" and rest <= SMALL or apart is not None and apart.whole: return
        q = Piece(p.address + size, rest, p.stream, p.pool, p.segment, p, p.after)
        if p.after is not None: p.after.before = q
        p.after, p.size = q, size
        p.pool.put(q)
        self.stats.parted(q)

    def fresh(self, pool: Pool, size: int, stream: int, nbytes: int) -> Piece:
        """A segment of the driver's as one piece; what is idle is given back first if it must be, and what garbage holds."""
        room = SMALL_SEGMENT if size <= SMALL else LARGE_SEGMENT if size < MEDIUM else -(-size // LARGE_ROUND) * LARGE_ROUND
        at = self.obtain(room)
        if not at and not self.capturing:
            self.stats.count("num_alloc_retries")
            self.release()
            at = self.obtain(room)
        if not at:
            gc.collect()
            for let_go in WHEN_SHORT if not self.capturing else (): let_go()
            self.collect()
            if (found := self.idle(pool, size, stream)) is not None: return found
            if not self.capturing: self.release()
            at = self.obtain(room)
        if not at:
            for memory in LAST_RESORT:
                if (found := self.idle(memory.of(self.index)[size > SMALL], size, stream)) is not None: return found
            self.stats.count("num_ooms")
            raise self.exhausted(room)
        s = self.segments[at] = Segment(at, room, self.history.note("segment_alloc", at, room, stream, pool.apart) if self.history.on else [])
        s.first = Piece(at, room, stream, pool, s)
        self.stats.opened(s.first)
        return s.first

    def obtain(self, room: int) -> int:
        """The address of new memory, or 0."""
        if self.fraction < 1 and self.stats.reserved + room > self.allowed: return 0
        driver = devices.use(self.index)
        try:
            with devices.relaxed(driver): return driver.MemAlloc(room)
        except OutOfMemory: return 0

    @property
    def allowed(self) -> int: return int(self.fraction * devices.all_memory(devices.use(self.index), self.index))

    # ---- taking back
    def collect(self):
        """Takes back what was dropped since last time, and what other streams are done with."""
        while self.returned:
            try: self.freed(self.returned.popleft())
            except IndexError: break           # another thread was faster
        if self.capturing: return
        while self.deferred: self.begin_waiting(self.deferred.pop())
        if self.waiting: self.finish_waiting()

    def freed(self, p: Piece):
        self.stats.dropped(p)
        if self.history.on: self.history.note("free_requested", p.address, p.size, p.stream, p.pool.apart)
        if p.others and self.capturing: p.state = WAITING; self.deferred.append(p)
        elif p.others: self.begin_waiting(p)
        else: self.back(p)

    def begin_waiting(self, p: Piece):
        events = []
        for stream in p.others:
            events.append(Event())
            events[-1].record(self.index, stream)
        p.state = WAITING
        self.waiting.append((events, p))

    def finish_waiting(self):
        still = []
        for events, p in self.waiting:
            if all(e.query() for e in events): self.back(p)
            else: still.append((events, p))
        self.waiting = still

    def back(self, p: Piece):
        """Nobody uses a piece any more but its own stream: whoever comes next in it may have it."""
        self.stats.ended(p)
        if self.history.on: self.history.note("free_completed", p.address, p.size, p.stream, p.pool.apart)
        self.changed.add(p.segment)
        p.state, p.asked, p.frames = IDLE, 0, []
        p.others.clear()
        for q in (p.before, p.after):
            if q is None or q.state is not IDLE: continue
            p.pool.remove(q)
            self.stats.joined(q)
            if q is p.before: p.address, p.before = q.address, q.before
            else: p.after = q.after
            p.size += q.size
        if p.before is not None: p.before.after = p
        else: p.segment.first = p
        if p.after is not None: p.after.before = p
        p.pool.put(p)
        if p.parted: self.stats.parted(p)

    def release(self):
        """Gives the driver back what is idle as a whole. The driver waits for the device's work first."""
        self.collect()
        self.stats.count("num_sync_all_streams")
        if self.waiting:
            devices.synchronize(self.index)
            self.finish_waiting()
        for s in list(self.segments.values()):
            p = s.first
            if p.state is not IDLE or p.after is not None or p.pool.apart is not None and p.pool.apart.users: continue
            p.pool.remove(p)
            del self.segments[s.address]
            self.changed.discard(s)
            self.stats.closed(p)
            if self.history.on: self.history.note("segment_free", s.address, s.size, p.stream, p.pool.apart)
            devices.use(self.index).MemFree(s.address)

    def empty_cache(self):
        with self.lock:
            if not self.capturing: self.release()

    # ---- by address, for other libraries
    def lend(self, nbytes: int, stream: int) -> int:
        piece = self.allocate(nbytes, stream)
        self.raw[piece.address] = piece
        return piece.address

    def take_back(self, at: int):
        self.returned.append(self.raw.pop(at))

    def holder(self, at: int) -> Segment | None:
        """The segment that an address lies in."""
        return next((s for s in self.segments.values() if s.address <= at < s.address + s.size), None)

    # ---- memory apart: of graphs, and of pools
    def draw_from(self, memory: Graphs):
        """This thread's memory comes from there, until `draw_no_more`."""
        with self.lock:
            self.collect()
            memory.users += 1
            self.private.setdefault(threading.get_ident(), []).append(memory)

    def draw_no_more(self) -> Graphs:
        """It comes from where it came from before."""
        with self.lock:
            mine = self.private[threading.get_ident()]
            out = mine.pop()
            if not mine: del self.private[threading.get_ident()]
            return out

    def begin_capture(self, memory: Graphs):
        with self.lock:
            self.draw_from(memory)
            self.capturing += 1
            CAPTURING.add(threading.get_ident())

    def end_capture(self):
        """The graph that was captured is a user of what it had."""
        with self.lock:
            self.capturing -= 1
            self.draw_no_more()
            CAPTURING.discard(threading.get_ident())

    # ---- a simulated machine knows who may touch what
    def tell(self, given: Piece):
        """What is given out of each segment now is what kernels that come next may touch; what the piece held is gone."""
        for s in self.changed if self.machine is not None else ():
            spans, p = [], s.first
            while p is not None:
                if p.state is not IDLE: spans.append((p.address, p.address + max(p.asked, 1)))
                p = p.after
            self.machine.divide(s.address, spans)
        self.changed.clear()
        if self.machine is not None and self.machine.poisoning and given.asked: self.machine.poison(given.address, given.asked, given.stream)

    # ---- numbers
    def exhausted(self, room: int) -> OutOfMemoryError:
        """PyTorch's sentence."""
        free, total = devices.use(self.index).MemGetInfo()
        if self.history.on: self.history.note("oom", free, room, 0, None)
        given, reserved = self.stats.allocated, self.stats.reserved
        limit = f" {size_text(self.allowed)} allowed;" if self.fraction < 1 else ""
        apart = [s.first for s in self.segments.values() if s.first.pool.apart is not None]
        private = f", with {size_text(sum(p.segment.size for p in apart))} allocated in private pools (e.g., CUDA Graphs)" if apart else ""
        return OutOfMemoryError(
            f"CUDA out of memory. Tried to allocate {size_text(room)}. GPU {self.index} has a total capacity of {size_text(total)} of which {size_text(free)} is free. "
            f"Including non-PyTorch memory, this process has {size_text(total - free)} memory in use.{limit} "
            f"Of the allocated memory {size_text(given)} is allocated by PyTorch{private}, and {size_text(reserved - given)} is reserved by PyTorch but unallocated. "
            "Free tensors, take smaller batches, or end other programs on this GPU (nvidia-smi shows them).")

    def snapshot(self) -> list[dict]:
        """The segments and what they are divided into, as torch.cuda.memory_snapshot gives them."""
        with self.lock:
            self.collect()
            out = []
            for s in sorted(self.segments.values(), key=lambda s: s.address):
                pieces, p = [], s.first
                while p is not None:
                    pieces.append(p)
                    p = p.after
                blocks = [{"address": p.address, "size": p.size, "requested_size": p.asked, "state": p.state, "frames": p.frames} for p in pieces]
                live, pool = [p for p in pieces if p.state is LIVE], s.first.pool
                out.append({"device": self.index, "address": s.address, "total_size": s.size, "allocated_size": sum(p.size for p in live),
                            "active_size": sum(p.size for p in pieces if p.state is not IDLE), "requested_size": sum(p.asked for p in live), "stream": s.first.stream,
                            "segment_type": pool.kind.removesuffix("_pool"), "segment_pool_id": (0, 0) if pool.apart is None else tuple(pool.apart),
                            "is_expandable": False, "frames": s.frames, "blocks": blocks})
            return out


@devices.remembered
def of(driver, index: int) -> Allocator: return Allocator(driver, index)
