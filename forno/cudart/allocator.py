"""The memory of one device, given out in pieces.

Comes in: sizes and streams. Goes out: a `Piece` of a segment that the driver gave. Pieces are given out again in the order of their stream, so nothing waits when
one is freed. Sizes, splitting and statistics are PyTorch's: sizes are multiples of 512 bytes; pieces of up to 1 MiB come from segments of 2 MiB, those below 10 MiB
from segments of 20 MiB, larger ones have their own; the smallest idle piece that is large enough is cut, and joined with its idle neighbours when it comes back.

What finalizers leave in `returned` is looked at when somebody asks for memory or for numbers. A simulated machine is told what is given out (`Machine.divide`).
"""
from __future__ import annotations

import bisect
import functools
import gc
import threading
from collections import deque

from ..core.errors import OutOfMemoryError
from ..gpu.errors import OutOfMemory
from . import devices
from .statistics import Statistics, size_text
from .streams import Event

ROUND = 512
SMALL, SMALL_SEGMENT = 1 << 20, 2 << 20        # pieces of up to so many bytes come from segments of so many
MEDIUM, LARGE_SEGMENT = 10 << 20, 20 << 20     # larger ones below MEDIUM from such
LARGE_ROUND = 2 << 20                          # segments of their own have multiples of this


class Segment:
    """What the driver gave at once; `first` is the piece at its start."""
    __slots__ = ("address", "size", "first")

    def __init__(self, address: int, size: int): self.address, self.size, self.first = address, size, None


class Piece:
    """A part of a segment; `before` and `after` are its neighbours. `asked`: bytes that are wanted of it while it is given out. `others`: streams it is used in besides."""
    __slots__ = ("address", "size", "asked", "stream", "pool", "segment", "before", "after", "state", "others")

    def __init__(self, address: int, size: int, stream: int, pool: Pool, segment: Segment, before=None, after=None):
        self.address, self.size, self.stream, self.pool, self.segment, self.before, self.after = address, size, stream, pool, segment, before, after
        self.asked, self.state, self.others = 0, IDLE, set()

    @property
    def parted(self) -> bool: return self.before is not None or self.after is not None


CAPTURING: set[int] = set()                    # threads that capture
IDLE, LIVE, WAITING = "inactive", "active_allocated", "active_pending_free"        # states of a piece, by PyTorch's names


class Pool:
    """Idle pieces of one kind, by stream, size and address. `graphs`: the private memory of graphs that it is a part of."""

    def __init__(self, kind: str, graphs: Graphs | None = None): self.kind, self.graphs, self.idle = kind, graphs, []

    def put(self, p: Piece): bisect.insort(self.idle, (p.stream, p.size, p.address, p))
    def remove(self, p: Piece): del self.idle[bisect.bisect_left(self.idle, (p.stream, p.size, p.address))]

    def take(self, size: int, stream: int) -> Piece | None:
        """The smallest piece that is large enough."""
        k = bisect.bisect_left(self.idle, (stream, size))
        if k == len(self.idle) or self.idle[k][0] != stream: return None
        return self.idle.pop(k)[3]


class Graphs:
    """Memory of graphs, which nobody else gets as long as one of them lives. `users`: graphs, and captures underway."""

    def __init__(self): self.pools, self.users = (Pool("small_pool", self), Pool("large_pool", self)), 0


class Allocator:
    """One device's memory. Its functions may be called by any thread."""

    def __init__(self, driver, index: int):
        self.driver, self.index, self.machine = driver, index, driver.machine
        self.lock, self.returned = threading.RLock(), deque()
        self.pools = Pool("small_pool"), Pool("large_pool")
        self.segments: dict[int, Segment] = {}
        self.waiting: list[tuple[list[Event], Piece]] = []          # pieces that other streams still use
        self.private: dict[int, Graphs] = {}                       # thread -> where its memory comes from while it captures
        self.capturing, self.fraction, self.total = 0, 1.0, 0      # captures underway; the part of all memory that may be used
        self.deferred: list[Piece] = []                            # freed while something is captured: no event may be asked then
        self.changed: set[Segment] = set()                         # segments of which a simulated machine knows what isn't so any more
        self.stats = Statistics()

    # ---- giving out
    def allocate(self, nbytes: int, stream: int) -> Piece:
        if nbytes < 0: raise RuntimeError(f"invalid size of memory: {nbytes} bytes")
        size = -(-max(nbytes, 1) // ROUND) * ROUND
        with self.lock:
            self.collect()
            mine = self.private.get(threading.get_ident())
            pool = (mine.pools if mine else self.pools)[size > SMALL]
            piece = self.idle(pool, size, stream) or self.fresh(pool, size, stream, nbytes)
            self.cut(piece, size)
            piece.state, piece.asked = LIVE, nbytes
            self.stats.given(piece)
            self.changed.add(piece.segment)
            self.tell()
            return piece

    def idle(self, pool: Pool, size: int, stream: int) -> Piece | None:
        """A piece that is there."""
        p = pool.take(size, stream)
        if p is not None and p.parted: self.stats.joined(p)
        return p

    def cut(self, p: Piece, size: int):
        """What is left of a piece goes back, if it is worth it."""
        rest = p.size - size
        if rest < ROUND or p.pool.kind == "large_pool" and rest <= SMALL: return
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
            self.collect()
            if (found := self.idle(pool, size, stream)) is not None: return found
            if not self.capturing: self.release()
            at = self.obtain(room)
        if not at:
            self.stats.count("num_ooms")
            raise self.exhausted(nbytes)
        s = self.segments[at] = Segment(at, room)
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
    def allowed(self) -> int: return int(self.fraction * self.all_memory())

    def all_memory(self) -> int:
        if not self.total: self.total = self.driver.DeviceTotalMem(self.driver.DeviceGet(self.index))
        return self.total

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
        self.changed.add(p.segment)
        p.state, p.asked = IDLE, 0
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
        if self.waiting:
            devices.synchronize(self.index)
            self.finish_waiting()
        for s in list(self.segments.values()):
            p = s.first
            if p.state is not IDLE or p.after is not None or p.pool.graphs is not None and p.pool.graphs.users: continue
            p.pool.remove(p)
            del self.segments[s.address]
            self.changed.discard(s)
            self.stats.closed(p)
            devices.use(self.index).MemFree(s.address)

    def empty_cache(self):
        with self.lock:
            if not self.capturing: self.release()

    # ---- graphs
    def begin_capture(self, memory: Graphs):
        with self.lock:
            self.collect()
            memory.users += 1
            self.capturing += 1
            self.private[threading.get_ident()] = memory
            CAPTURING.add(threading.get_ident())

    def end_capture(self):
        """This thread's memory comes from where all comes from again; the graph that was captured is a user of what it had."""
        with self.lock:
            self.capturing -= 1
            del self.private[threading.get_ident()]
            CAPTURING.discard(threading.get_ident())

    # ---- a simulated machine knows who may touch what
    def tell(self):
        """What is given out of each segment now is what kernels that come next may touch."""
        for s in self.changed if self.machine is not None else ():
            spans, p = [], s.first
            while p is not None:
                if p.state is not IDLE: spans.append((p.address, p.address + max(p.asked, 1)))
                p = p.after
            self.machine.divide(s.address, spans)
        self.changed.clear()

    # ---- numbers
    def exhausted(self, nbytes: int) -> OutOfMemoryError:
        """PyTorch's sentence."""
        free, total = devices.use(self.index).MemGetInfo()
        given, reserved = self.stats.allocated, self.stats.reserved
        limit = f" {size_text(self.allowed)} allowed;" if self.fraction < 1 else ""
        private = sum(s.size for s in self.segments.values() if s.first.pool.graphs is not None)
        graphs = f", with {size_text(private)} allocated in private pools (e.g., CUDA Graphs)" if private else ""
        return OutOfMemoryError(
            f"CUDA out of memory. Tried to allocate {size_text(nbytes)}. GPU {self.index} has a total capacity of {size_text(total)} of which {size_text(free)} is free. "
            f"Including non-PyTorch memory, this process has {size_text(total - free)} memory in use.{limit} "
            f"Of the allocated memory {size_text(given)} is allocated by PyTorch{graphs}, and {size_text(reserved - given)} is reserved by PyTorch but unallocated. "
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
                blocks = [{"address": p.address, "size": p.size, "requested_size": p.asked, "state": p.state, "frames": []} for p in pieces]
                live, pool = [p for p in pieces if p.state is LIVE], s.first.pool
                out.append({"device": self.index, "address": s.address, "total_size": s.size, "allocated_size": sum(p.size for p in live),
                            "active_size": sum(p.size for p in pieces if p.state is not IDLE), "requested_size": sum(p.asked for p in live), "stream": s.first.stream,
                            "segment_type": pool.kind.removesuffix("_pool"), "segment_pool_id": (0, id(pool.graphs)) if pool.graphs else (0, 0),
                            "is_expandable": False, "frames": [], "blocks": blocks})
            return out


@functools.cache
def of(driver, index: int) -> Allocator: return Allocator(driver, index)
