"""Pinned memory of the host: the device itself reads and writes it, while the host goes on.

Blocks are kept by size (powers of two, as PyTorch's) and given out again when the copies that they are part of are done.
"""
from __future__ import annotations

import bisect
import threading
from collections import defaultdict, deque

from .. import gpu
from ..cpu.memory import Buffer, nobody
from . import devices
from .streams import Event

_PORTABLE = 1                                  # CU_MEMHOSTALLOC_PORTABLE: pinned for every device


class Pinned(Buffer):
    """Pinned memory of the host, valid as long as this object lives. `used`: (driver, device, stream) of copies that were queued. It is written where it lies."""
    __slots__ = ("used", "size", "returned")
    exposed = True

    def __del__(self): self.returned.append((self.address, self.size, self.used))


class Allocator:
    """A process's pinned memory."""

    def __init__(self, driver):
        self.driver, self.lock, self.returned = driver, threading.RLock(), deque()
        self.idle: dict[int, list[int]] = defaultdict(list)             # size -> addresses
        self.waiting: list[tuple[list[Event], int, int]] = []
        self.starts: list[int] = []                                    # of all there is
        self.sizes: dict[int, int] = {}

    def empty(self, nbytes: int) -> Pinned:
        size = max(512, 1 << (max(nbytes, 1) - 1).bit_length())
        with self.lock:
            self.collect()
            at = self.idle[size].pop() if self.idle[size] else self.obtain(size)
        out = Pinned(at, nbytes)
        out.used, out.size, out.returned = set(), size, self.returned
        out._readable = nobody                 # like memory that an array sees
        return out

    def obtain(self, size: int) -> int:
        driver = devices.use(devices.current())
        with devices.relaxed(driver): at = driver.MemHostAlloc(size, _PORTABLE)
        bisect.insort(self.starts, at)
        self.sizes[at] = size
        return at

    def collect(self):
        while self.returned:
            try: at, size, used = self.returned.popleft()
            except IndexError: break
            events = []
            for _, index, stream in used:
                events.append(Event())
                events[-1].record(index, stream)
            self.waiting.append((events, at, size))
        still = []
        for events, at, size in self.waiting:
            if all(e.query() for e in events): self.idle[size].append(at)
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
                    del self.sizes[at]
                    devices.use(devices.current()).MemFreeHost(at)


@devices.remembered
def of(driver) -> Allocator: return Allocator(driver)


def empty(nbytes: int) -> Pinned: return of(gpu.driver()).empty(nbytes)


def holds(driver, address: int) -> bool:
    """Is this address in memory that is pinned?"""
    known = of(driver)
    return bool(known.starts) and known.holds(address)
