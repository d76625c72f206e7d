"""Pinned memory of the host: the device itself reads and writes it, while the host goes on.

Blocks are kept by size (powers of two, as PyTorch's) and given out again when the copies that they are part of are done.
"""
from __future__ import annotations

import bisect
import threading
import time
from collections import defaultdict, deque

from .. import gpu
from ..cpu.memory import Buffer, nobody
from . import devices
from .statistics import Tally
from .streams import Event

_PORTABLE = 1                                  # CU_MEMHOSTALLOC_PORTABLE: pinned for every device


class Pinned(Buffer):
    """Pinned memory of the host, valid as long as this object lives. `used`: (device, stream) of copies that were queued. It is written where it lies."""
    __slots__ = ("used", "size", "returned")
    exposed = True

    def __del__(self): self.returned.append((self.address, self.size, self.used))


class Times:
    """Microseconds that calls of the driver took."""

    def __init__(self): self.each = []

    def shown(self) -> dict[str, int]:
        total, n = round(sum(self.each)), len(self.each)
        return {"total": total, "max": round(max(self.each, default=0)), "min": round(min(self.each, default=0)), "count": n, "avg": total // n if n else 0}


class Statistics:
    """torch.cuda.host_memory_stats's numbers, under its names."""

    def __init__(self):
        self.tallies = {name: Tally() for name in ("allocations", "allocated_bytes", "active_requests", "active_bytes")}
        self.times = {"host_alloc_time": Times(), "host_free_time": Times()}

    def up(self, **amounts: int):
        for name, n in amounts.items(): self.tallies[name].up(n)

    def down(self, **amounts: int):
        for name, n in amounts.items(): self.tallies[name].down(n)

    def timed(self, name: str, f, *args):
        """f(*args), whose time counts."""
        start = time.perf_counter()
        out = f(*args)
        self.times[name].each.append((time.perf_counter() - start) * 1e6)
        return out

    def shown(self) -> dict:
        out = {name: t.shown() for name, t in (*self.tallies.items(), *self.times.items())}
        return out | {"num_host_alloc": self.tallies["allocations"].allocated, "num_host_free": self.tallies["allocations"].freed}

    def reset_peaks(self):
        for t in self.tallies.values(): t.peak = t.current

    def reset_accumulated(self):
        for t in self.tallies.values(): t.allocated = t.freed = 0
        for t in self.times.values(): t.each.clear()


class Allocator:
    """A process's pinned memory."""

    def __init__(self):
        self.lock, self.returned = threading.RLock(), deque()
        self.idle: dict[int, list[int]] = defaultdict(list)             # size -> addresses
        self.waiting: list[tuple[list[Event], int, int]] = []
        self.starts: list[int] = []                                    # of all there is
        self.sizes: dict[int, int] = {}
        self.stats = Statistics()

    def empty(self, nbytes: int) -> Pinned:
        size = max(512, 1 << (max(nbytes, 1) - 1).bit_length())
        with self.lock:
            self.collect()
            at = self.idle[size].pop() if self.idle[size] else self.obtain(size)
            self.stats.up(active_requests=1, active_bytes=size)
        out = Pinned(at, nbytes)
        out.used, out.size, out.returned = set(), size, self.returned
        out._readable = nobody                 # like memory that an array sees
        return out

    def obtain(self, size: int) -> int:
        driver = devices.use(devices.current())
        with devices.relaxed(driver): at = self.stats.timed("host_alloc_time", driver.MemHostAlloc, size, _PORTABLE)
        bisect.insort(self.starts, at)
        self.sizes[at] = size
        self.stats.up(allocations=1, allocated_bytes=size)
        return at

    def collect(self):
        while self.returned:
            try: at, size, used = self.returned.popleft()
            except IndexError: break
            events = []
            for index, stream in used:
                events.append(Event())
                events[-1].record(index, stream)
            self.waiting.append((events, at, size))
        still = []
        for events, at, size in self.waiting:
            if all(e.query() for e in events):
                self.idle[size].append(at)
                self.stats.down(active_requests=1, active_bytes=size)
            else: still.append((events, at, size))
        self.waiting = still

    def holds(self, address: int) -> bool:
        k = bisect.bisect_right(self.starts, address) - 1
        return k >= 0 and address < self.starts[k] + self.sizes[self.starts[k]]

    def release(self):
        """Gives what is idle back to the driver."""
        with self.lock:
            self.collect()
            for addresses in self.idle.values():
                while addresses:
                    at = addresses.pop()
                    self.starts.remove(at)
                    self.stats.down(allocations=1, allocated_bytes=self.sizes.pop(at))
                    self.stats.timed("host_free_time", devices.use(devices.current()).MemFreeHost, at)


@devices.remembered
def of(driver) -> Allocator: return Allocator()


def empty(nbytes: int) -> Pinned: return of(gpu.driver()).empty(nbytes)


def holds(driver, address: int) -> bool:
    """Is this address in memory that is pinned?"""
    known = of(driver)
    return bool(known.starts) and known.holds(address)
