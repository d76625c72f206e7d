"""Memory of devices, as kernels and copies are given it.

`empty(nbytes, device)` gives a Block of the current stream; its end gives the memory back for work that is queued later in that stream (`allocator`). Copies are
queued in the current stream, too. Pinned memory of the host (`host`) is read and written by the device itself, later: the rest may be used again at once.
"""
from __future__ import annotations

import itertools
from collections import deque

from ..core.errors import warn
from ..cpu.memory import nobody
from ..gpu.errors import CODES, error
from ..gpu.names import NAMES
from . import allocator, devices, host, liveness, streams

_born = itertools.count()
_captured = [0]                                # blocks that are older: a graph may have their addresses
ON_WAIT = [0]                                  # what is done when the host waits for a value: 0 nothing, 1 a warning, 2 an error


class Block:
    """`nbytes` of memory at `address` of a device, valid as long as this object lives. `piece`: what the allocator knows of it."""
    __slots__ = ("address", "nbytes", "device", "piece", "returned", "kept", "born", "__weakref__")
    _writable = _readable = None               # no array sees it

    def __init__(self, address: int, nbytes: int, device: str, piece, returned: deque):
        self.address, self.nbytes, self.device, self.piece, self.returned, self.kept, self.born = address, nbytes, device, piece, returned, None, next(_born)

    # a finalizer may run at any moment, inside the allocator, too: what it leaves is looked at later
    def __del__(self): self.returned.append(self.piece)

    @property
    def exposed(self) -> bool:
        """Does somebody else know this memory? A graph that was captured reads and writes it whenever it is run."""
        return self.born < _captured[0]

    def __repr__(self): return f"<{self.nbytes} bytes at {self.address:#x} of {self.device}>"


class Outside:
    """Memory of a device that something outside knows, another library or another process: it may write there at any time, so values are read from it at once and written
    where they lie. `owner` keeps it: a Block, or whoever lent it."""
    __slots__ = ("address", "nbytes", "device", "owner", "kept", "__weakref__")
    exposed, _writable, _readable = True, None, staticmethod(nobody)

    def __init__(self, address: int, nbytes: int, device: str, owner): self.address, self.nbytes, self.device, self.owner, self.kept = address, nbytes, device, owner, False
    def __repr__(self): return f"<{self.nbytes} bytes at {self.address:#x} of {self.device}, known to others>"


def expose() -> int:
    """A capture begins or ends: the addresses of all blocks there are now may be in its graph, so that new values of tensors that have them must go there. Blocks born
    later have greater numbers."""
    _captured[0] = next(_born)
    return _captured[0]


def empty(nbytes: int, device: str) -> Block:
    """Memory with whatever was in it."""
    index = devices.number_of(device)
    mine = allocator.of(devices.use(index), index)
    piece = mine.allocate(nbytes, streams.current(index))
    return Block(piece.address, nbytes, NAMES[index], piece, mine.returned)


def used_in(block: Block | Outside, stream: int):
    """The block's memory is used in another stream than its own; it isn't given out again before that is done. What another library lent is its own business."""
    if block.__class__ is Outside: block = block.owner
    if block.__class__ is Block and stream != block.piece.stream: block.piece.others.add(stream)


# ---------------------------------------------------------------- copies
def waits():
    """The host waits for a device, and programs may want to know."""
    if ON_WAIT[0] == 2: raise RuntimeError("called a synchronizing CUDA operation")
    warn("called a synchronizing CUDA operation")


def send_to(device: str, source: int, nbytes: int, target: int):
    """Bytes of the host to a device. The source may be used again at once."""
    if not nbytes: return
    index = devices.number_of(device)
    driver, stream = devices.use(index), streams.current(index)
    if allocator.of(driver, index).capturing: raise error("MemcpyHtoDAsync", CODES["STREAM_CAPTURE_UNSUPPORTED"], "a graph would read this memory of the host whenever it runs")
    driver.MemcpyHtoDAsync(target, source, nbytes, stream)
    # what isn't pinned was read already, unless the device reads the host's pages itself
    if host.holds(driver, source) or devices.attribute(driver, index, "pageable"):
        if ON_WAIT[0]: waits()
        wait(index, stream)


def fetch_from(device: str, source: int, nbytes: int, target: int):
    """Bytes of a device to the host, when all that was queued before is done."""
    if not nbytes: return
    if ON_WAIT[0]: waits()
    index = devices.number_of(device)
    stream = streams.current(index)
    devices.use(index).MemcpyDtoHAsync(target, source, nbytes, stream)
    wait(index, stream)


def send_pinned(source: host.Pinned, start: int, nbytes: int, block: Block):
    """Bytes of pinned memory to a device, later."""
    if not nbytes: return
    index = devices.number_of(block.device)
    driver, stream = devices.use(index), streams.current(index)
    driver.MemcpyHtoDAsync(block.address, source.address + start, nbytes, stream)
    if liveness.WATCHED: liveness.note(source, block)
    source.used.add((index, stream))
    used_in(block, stream)


def fetch_pinned(block: Block, start: int, nbytes: int, target: host.Pinned, offset: int = 0):
    """Bytes of a device to pinned memory, later."""
    if not nbytes: return
    index = devices.number_of(block.device)
    driver, stream = devices.use(index), streams.current(index)
    driver.MemcpyDtoHAsync(target.address + offset, block.address + start, nbytes, stream)
    if liveness.WATCHED: liveness.note(block, target)
    target.used.add((index, stream))
    used_in(block, stream)


def copy(device: str, source: int, nbytes: int, target: int):
    """Bytes within a device."""
    if not nbytes: return
    index = devices.number_of(device)
    devices.use(index).MemcpyDtoDAsync(target, source, nbytes, streams.current(index))


def copied(block: Block) -> Block:
    """A block of the same bytes."""
    out = empty(block.nbytes, block.device)
    copy(block.device, block.address, block.nbytes, out.address)
    return out


def across(device: str, source: int, nbytes: int, other: str, target: int):
    """Bytes from one device to another, when all that was queued on either is done, and before anything else is queued on either."""
    if not nbytes: return
    here, there = devices.number_of(device), devices.number_of(other)
    if here == there: return copy(device, source, nbytes, target)
    devices.reach(devices.use(here), here, there)
    mine, theirs = streams.current(here), streams.current(there)
    streams.follow(here, mine, there, theirs)
    driver = devices.use(here)
    driver.MemcpyPeerAsync(target, devices.context(driver, there), source, devices.context(driver, here), nbytes, mine)
    streams.follow(there, theirs, here, mine)


# ---------------------------------------------------------------- waiting
def wait(index: int, stream: int):
    """Until a stream's work is done."""
    devices.use(index).StreamSynchronize(stream)
