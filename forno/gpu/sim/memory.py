"""A simulated machine's memory: arenas outside the host's reach, allocations with red zones, pinned host memory, and memory apart from addresses.

Comes in: sizes. Goes out: device addresses, which are host addresses plus DELTA: no processor accepts them, so that code which takes one for a host address
faults at once. New memory holds 0xFF (NaN, -1); freed addresses are not given out again before the arena's address space is used up.
"""
from __future__ import annotations

import bisect
import ctypes
import mmap
import os
import weakref
from dataclasses import dataclass, field

import numpy as np

DELTA = 1 << 52                                # device address - host address: not canonical on x86-64, above every user address on aarch64
ALIGN = 512                                    # of what cuMemAlloc gives
ZONE = 512                                     # bytes around an allocation that nobody may touch
PAGE = 2 << 20                                 # granularity of cuMemCreate and cuMemMap
POISON, ZONE_BYTE = 0xFF, 0xBD
_TIMES = 4                                     # addresses that a device has for each byte of its memory, so that freed ones can rest
_POISONED = 8 << 20                            # bytes of an allocation that are filled, from either end: filling all would make the host's pages real

_libc = ctypes.CDLL(None, use_errno=True)
_mmap = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)(("mmap", _libc))
_munmap = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)(("munmap", _libc))
_madvise = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)(("madvise", _libc))
_FAILED = ctypes.c_void_p(-1).value
_NORESERVE = 0x4000 if os.name == "posix" else 0
_FIXED = 0x10
_BOTH, _NOTHING = mmap.PROT_READ | mmap.PROT_WRITE, 0


def round_up(n: int, to: int) -> int: return -(-n // to) * to


@dataclass(eq=False, slots=True)
class Allocation:
    """Memory from `start` to `end` (device addresses). Kernels and copies may touch it while `live`."""
    start: int
    end: int
    device: int                                # -1: the host's
    kind: str                                  # "memory", "pool", "mapped", "host", "registered", "global"
    name: str
    live: bool = True
    freed_by: str = ""
    pool: object = None
    readers: frozenset = frozenset()           # devices that may touch it besides its own
    history: list = field(default_factory=list)          # accesses (order.py)
    written: int = 0                           # how often operations wrote to it
    file: int | None = None                    # that other processes map

    @property
    def nbytes(self) -> int: return self.end - self.start

    @property
    def host(self) -> int: return self.start - DELTA

    def __str__(self): return f"{self.name} ({self.nbytes} bytes at {self.start:#x})"


class Arena:
    """One device's addresses, and how much of its memory is used."""

    def __init__(self, device: int, capacity: int):
        self.device, self.capacity, self.used, self.peak = device, capacity, 0, 0
        self.room = round_up(_TIMES * capacity, PAGE)
        self.whole = self.room + PAGE
        self.block = _mmap(None, self.whole, _BOTH, mmap.MAP_PRIVATE | mmap.MAP_ANON | _NORESERVE, -1, 0)
        if self.block == _FAILED: raise MemoryError(f"a simulated device needs {self.whole >> 20} MiB of addresses")
        weakref.finalize(self, _munmap, self.block, self.whole).atexit = False
        self.base = round_up(self.block, PAGE)
        self.next = self.base
        self.taken: list[tuple[int, int]] = []               # [start, end) in use, sorted, as host addresses; only needed once `next` is at the end

    def reserve(self, nbytes: int) -> int:
        """A device address with `nbytes` behind it and a red zone on either side, or 0."""
        align = mmap.PAGESIZE if nbytes >= mmap.PAGESIZE else ALIGN          # large ones share no page at their start: they can become files
        at = round_up(self.next + ZONE, align)
        if at + nbytes + ZONE <= self.base + self.room: self.next = at + round_up(nbytes, ALIGN)
        else:
            at = self._gap(nbytes, align)
            if not at: return 0
        bisect.insort(self.taken, (at - ZONE, at + nbytes + ZONE))
        return at + DELTA

    def _gap(self, nbytes: int, align: int) -> int:
        end = self.base
        for start, stop in [*self.taken, (self.base + self.room, 0)]:
            at = round_up(end + ZONE, align)
            if at + nbytes + ZONE <= start: return at
            end = max(end, stop)
        return 0

    def to_file(self, host: int, nbytes: int) -> int:
        """Moves what lies there into an anonymous file, which is mapped in its place. The last page's rest may be somebody else's: it goes along."""
        room = round_up(nbytes, mmap.PAGESIZE)
        file = os.memfd_create("forno", os.MFD_CLOEXEC)
        os.ftruncate(file, room)
        os.pwrite(file, ctypes.string_at(host, room), 0)
        if _mmap(host, room, _BOTH, mmap.MAP_SHARED | _FIXED, file, 0) == _FAILED: raise OSError(ctypes.get_errno(), "mmap")
        return file

    def from_file(self, host: int, nbytes: int, file: int) -> None:
        """The other way round."""
        room = round_up(nbytes, mmap.PAGESIZE)
        was = ctypes.string_at(host, room)
        if _mmap(host, room, _BOTH, mmap.MAP_PRIVATE | mmap.MAP_ANON | _NORESERVE | _FIXED, -1, 0) == _FAILED: raise OSError(ctypes.get_errno(), "mmap")
        ctypes.memmove(host, was, room)
        os.close(file)

    def release(self, at: int, nbytes: int) -> None:
        """The addresses are free; their pages, too."""
        host = at - DELTA
        self.taken.remove((host - ZONE, host + nbytes + ZONE))
        first, last = round_up(host, mmap.PAGESIZE), (host + nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first and _madvise(first, last - first, 4): raise OSError(ctypes.get_errno(), "madvise")


class Reservation:
    """Addresses without memory, from `at`; files (physical allocations) are mapped into them."""

    def __init__(self, nbytes: int, align: int):
        self.nbytes, whole = nbytes, nbytes + align
        block = _mmap(None, whole, _NOTHING, mmap.MAP_PRIVATE | mmap.MAP_ANON | _NORESERVE, -1, 0)
        if block == _FAILED: raise MemoryError(f"{whole} bytes of addresses")
        self.at, self.free = round_up(block, align) + DELTA, weakref.finalize(self, _munmap, block, whole)
        self.free.atexit = False

    def map(self, at: int, nbytes: int, file: int) -> None: self._place(at, nbytes, _BOTH, mmap.MAP_SHARED, file)

    def unmap(self, at: int, nbytes: int) -> None: self._place(at, nbytes, _NOTHING, mmap.MAP_PRIVATE | mmap.MAP_ANON | _NORESERVE, -1)

    @staticmethod
    def _place(at, nbytes, rights, flags, file):
        if _mmap(at - DELTA, nbytes, rights, flags | _FIXED, file, 0) == _FAILED: raise OSError(ctypes.get_errno(), "mmap")


def fill(at: int, nbytes: int, byte: int) -> None:
    """Poisons memory, or its two ends where it is large. `at` is a host address."""
    if nbytes <= 2 * _POISONED: ctypes.memset(at, byte, nbytes)
    else:
        ctypes.memset(at, byte, _POISONED)
        ctypes.memset(at + nbytes - _POISONED, byte, _POISONED)


def mark_zones(a: Allocation) -> None:
    ctypes.memset(a.host - ZONE, ZONE_BYTE, ZONE)
    ctypes.memset(a.host + a.nbytes, ZONE_BYTE, ZONE)


def broken_zone(a: Allocation) -> int | None:
    """The address of a red zone's byte that somebody wrote."""
    for start in (a.host - ZONE, a.host + a.nbytes):
        zone = ctypes.string_at(start, ZONE)
        rest = zone.lstrip(bytes([ZONE_BYTE]))
        if rest: return start + ZONE - len(rest) + DELTA
    return None


class Space:
    """All allocations of a machine by address. `changes` counts, so that tables made of them can be kept."""

    def __init__(self): self.starts, self.items, self.changes, self.gone = [], [], 0, {}

    def add(self, a: Allocation) -> Allocation:
        k = bisect.bisect_left(self.starts, a.start)
        self.starts.insert(k, a.start)
        self.items.insert(k, a)
        self.changes += 1
        return a

    def remove(self, a: Allocation, by: str) -> None:
        k = bisect.bisect_left(self.starts, a.start)
        del self.starts[k], self.items[k]
        a.live, a.freed_by = False, by
        a.history.clear()
        self.gone[a.start] = a
        if len(self.gone) > 10000: del self.gone[next(iter(self.gone))]
        self.changes += 1

    def at(self, address: int) -> Allocation | None:
        """The live allocation that holds this byte."""
        k = bisect.bisect_right(self.starts, address) - 1
        return self.items[k] if k >= 0 and address < self.items[k].end else None

    def below(self, address: int) -> Allocation | None:
        """The allocation that ends just before this byte."""
        k = bisect.bisect_right(self.starts, address) - 1
        return self.items[k] if k >= 0 and address - self.items[k].end < PAGE else None

    def was(self, address: int) -> Allocation | None:
        """The freed allocation that held this byte, the latest first."""
        return next((a for a in reversed(self.gone.values()) if a.start <= address < a.end), None)

    def visible(self, device: int) -> list[Allocation]:
        """What this device's kernels and copies may touch, by address."""
        return [a for a in self.items if a.live and (a.device in (device, -1) or device in a.readers)]

    def intervals(self, device: int, divisions: dict[int, tuple]) -> tuple[np.ndarray, np.ndarray]:
        """What a device's kernels may touch as sorted starts and ends; of an allocation that an allocator above has divided, its parts alone."""
        ends = []                              # of spans, in order: allocations are, and so are the parts of each
        for a in self.visible(device):
            if (parts := divisions.get(a.start)) is None: ends += (a.start, a.end)
            else: ends += parts
        table = np.array(ends, np.uint64).reshape(-1, 2)
        return np.ascontiguousarray(table[:, 0]), np.ascontiguousarray(table[:, 1])
