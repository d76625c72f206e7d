"""CPU memory: a caching allocator, and windows for NumPy on what it gave.

Comes in: a number of bytes, or foreign memory with its owner. Goes out: a `Buffer`, whose end gives the memory back. Blocks are kept by size class
and used again, because fresh memory costs a page fault per 4 KiB at first touch (a 256 MiB tensor: 110 ms, as much as ten kernels over it).

There is no lock: list.pop, list.append and a straight-line += are atomic under the GIL. A buffer's finalizer may run at any moment, in any thread, also
in the middle of a function of this module; a lock would have to be free then, and over a fork.
"""
from __future__ import annotations

import contextlib
import ctypes
import functools
import mmap
import os
import sys
import weakref
from collections import defaultdict

import numpy as np

from ..core.errors import OutOfMemoryError
from ..core.flags import flags
from ..core.hot import hot, know

SMALL = 64 << 10                               # up to here: malloc; idle blocks bounded per class
MAPPED = 1 << 20                               # from here: pages straight from the system, which takes them back at once
_HUGE = 2 << 20                                # from here: huge pages, which make first touch six times cheaper
_KEEP = 8 << 20                                # idle bytes of one small class
_LIMIT = 1 << 47                               # user address space of x86-64 and aarch64


def machine_bytes() -> int:
    """Physical memory, or the container's part of it."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError), open("/sys/fs/cgroup/memory.max") as f: total = min(total, int(f.read()))
    return total


_libc = ctypes.CDLL(None, use_errno=True)
_aligned_alloc = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t)(("aligned_alloc", _libc))
_free = ctypes.PYFUNCTYPE(None, ctypes.c_void_p)(("free", _libc))
_mmap = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long)(("mmap", _libc))
_munmap = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)(("munmap", _libc))
_madvise = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)(("madvise", _libc))
_ADVICE = getattr(mmap, "MADV_HUGEPAGE", None)
_FAILED = ctypes.c_void_p(-1).value

new = object.__new__
_idle: dict[int, list[int]] = defaultdict(list)      # size class -> addresses
_bound = flags.MEMORY << 20
_idle_bound = machine_bytes() // 4                  # when more than that is idle in big blocks, everything idle goes back to the system
_idle_big = [0]                                      # bytes in idle blocks above SMALL
_reserved = _peak = 0


def nobody():
    """In place of a reference to an array: whether this memory is seen must be asked of `exposed`."""
    return


@know
class Buffer:
    """`nbytes` of memory at `address`, valid as long as this object lives. `owner` keeps foreign memory alive."""
    __slots__ = ("address", "nbytes", "owner", "kept", "_writable", "_readable", "__weakref__")
    device = "cpu"

    def __init__(self, address: int, nbytes: int, owner=None):
        self.address, self.nbytes, self.owner = address, nbytes, owner
        self.kept = None                             # by form, what kernels made of these values alone (core.kernels.Keeps); False: others may write at any time
        self._writable = self._readable = None       # weak: the array of bytes that all arrays on this buffer have as base. Both None: nobody sees this memory

    @property
    def exposed(self) -> bool:
        """Does any array made by `as_array` still see this memory?"""
        return (self._writable is not None and self._writable() is not None) or (self._readable is not None and self._readable() is not None)

    def __repr__(self): return f"<{self.nbytes} bytes at {self.address:#x}>"


@know
class Block(Buffer):
    """A Buffer of this allocator, which `empty` makes. `size` is its class."""
    __slots__ = ("size",)

    # defaults, not globals: at interpreter exit the module's names may be gone before the last buffer
    def __del__(self, idle=_idle, small=SMALL, keep=_KEEP, big=_idle_big, bound=_idle_bound, ending=sys.is_finalizing):
        size = self.size
        free = idle[size]
        if size > small:
            free.append(self.address)
            big[0] += size
            if big[0] > bound and not ending(): empty_cache()
        elif len(free) * size < keep: free.append(self.address)
        elif not ending(): _release(self.address, size)


@functools.lru_cache(4096)
def _class_of(nbytes: int) -> int:
    """Eight classes per power of two: at most an eighth is wasted, and shapes that differ a little share blocks. Big ones have 32: weights lie in them for long."""
    if nbytes < 0: raise RuntimeError(f"alloc_cpu() seems to have been called with negative number: {nbytes}")
    if nbytes >= _LIMIT: raise _out_of_memory(nbytes)
    if nbytes <= 4096: return (nbytes or 1) + 63 & -64
    shift = (nbytes - 1).bit_length() - (4 if nbytes < MAPPED else 6)
    size = (nbytes + (1 << shift) - 1) >> shift << shift
    return size if size < MAPPED else size + mmap.PAGESIZE - 1 & -mmap.PAGESIZE


@hot
def empty(nbytes):
    """64-byte aligned memory with whatever was in it."""
    size = _class_of(nbytes)
    free = _idle[size]
    try: address = free.pop()
    except IndexError: address, size = _obtain(size, nbytes)
    else:
        if size > SMALL: _idle_big[0] -= size
    b = new(Block)
    b.address, b.nbytes, b.size = address, nbytes, size
    b.owner = b.kept = b._writable = b._readable = None
    return b


def wrap(address: int, nbytes: int, owner) -> Buffer:
    """Memory of someone else, kept by `owner`."""
    return Buffer(address, nbytes, owner)


def _obtain(size: int, nbytes: int) -> tuple[int, int]:
    """(address, size) of an idle block that is a little larger, or of new memory; when there is none or the bound is reached, once more after giving back what
    is idle."""
    global _reserved, _peak
    if size >= MAPPED and (larger := _larger(size)) is not None: return larger
    for last in (False, True):
        _reserved += size                      # before asking, so that two threads can't pass the bound together
        if (not _bound or _reserved <= _bound) and (address := _allocate(size)) is not None:
            _peak = max(_peak, _reserved)
            return address, size
        _reserved -= size
        if not last: empty_cache()
    raise _out_of_memory(nbytes)


def _larger(size: int) -> tuple[int, int] | None:
    """(address, size) of the smallest idle block of the classes up to an eighth above this one."""
    step = 1 << (size - 1).bit_length() - 6
    for larger in range(size + step, size + size // 8 + 1, step):
        free = _idle.get(larger)
        if not free: continue
        try: address = free.pop()
        except IndexError: continue            # another thread was faster
        _idle_big[0] -= larger
        return address, larger
    return None


def _allocate(size: int) -> int | None:
    if size < MAPPED: return _aligned_alloc(64, size)
    address = _mmap(None, size, mmap.PROT_READ | mmap.PROT_WRITE, mmap.MAP_PRIVATE | mmap.MAP_ANON, -1, 0)
    if address == _FAILED: return None
    if size >= _HUGE and _ADVICE is not None: _madvise(address, size, _ADVICE)
    return address


def _release(address: int, size: int) -> None:
    global _reserved
    _reserved -= size
    if size < MAPPED: _free(address)
    else: _munmap(address, size)


def empty_cache() -> None:
    """Gives every idle block back to the system."""
    for size, free in list(_idle.items()):
        while free:
            try: address = free.pop()
            except IndexError: break                 # another thread was faster
            if size > SMALL: _idle_big[0] -= size
            _release(address, size)


def stats() -> dict[str, int]:
    """Bytes: `reserved` from the system, of which `idle` wait for use and `live` are in buffers; the highest `peak` of reserved; the `limit` set."""
    idle = sum(size * len(free) for size, free in list(_idle.items()))
    return {"reserved": _reserved, "idle": idle, "live": _reserved - idle, "peak": _peak, "limit": _bound}


def _out_of_memory(nbytes: int) -> OutOfMemoryError:
    s = stats()
    bound = f", FORNO_MEMORY allows {_bound}" if _bound else ""
    return OutOfMemoryError(
        f"[enforce fail at alloc_cpu.cpp] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate {nbytes} bytes. "
        f"Error code 12 (Cannot allocate memory). {s['live']} bytes are in use, {s['idle']} idle, the machine has {machine_bytes()}{bound}")


# ---- arrays that share a buffer
class _Window:
    """What NumPy asks for an address. As the base of every array on the buffer it keeps the buffer, not the other way round."""
    __slots__ = ("buffer", "__array_interface__")

    def __init__(self, buffer: Buffer, readonly: bool):
        self.buffer = buffer
        self.__array_interface__ = {"data": (buffer.address, readonly), "shape": (buffer.nbytes,), "typestr": "|u1", "version": 3}


def as_array(buffer: Buffer, code, shape, strides, offset: int = 0, readonly: bool = False) -> np.ndarray:
    """An array of NumPy type `code` on the buffer's memory; strides and offset in bytes. While it or a view of it lives, `buffer.exposed` is true."""
    if not readonly and buffer.kept: buffer.kept = None
    seen = buffer._readable if readonly else buffer._writable
    whole = seen and seen()
    if whole is None:
        whole = np.asarray(_Window(buffer, readonly))
        if readonly: buffer._readable = weakref.ref(whole)
        else: buffer._writable = weakref.ref(whole)
    return np.ndarray(shape, code, whole, offset if 0 not in shape else 0, strides if 0 not in shape else None)
