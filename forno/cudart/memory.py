"""Memory of devices.

`empty(nbytes, device)` gives a Block; its end gives the memory back for work that is queued later in the same stream.
"""
from __future__ import annotations

from collections import defaultdict

from ..gpu.names import NAMES
from . import devices

ROUND = 512                                    # bytes; what a block's size is rounded up to
_idle: dict[tuple[int, int], list[int]] = defaultdict(list)          # (device, size) -> addresses


class Block:
    """`nbytes` of memory at `address` of a device, valid as long as this object lives."""
    __slots__ = ("address", "nbytes", "size", "device", "kept", "__weakref__")
    exposed, _writable, _readable = False, None, None        # no array can see it

    def __init__(self, address: int, nbytes: int, size: int, device: str): self.address, self.nbytes, self.size, self.device, self.kept = address, nbytes, size, device, None

    def __del__(self, idle=_idle, number=devices.number_of): idle[number(self.device), self.size].append(self.address)

    def __repr__(self): return f"<{self.nbytes} bytes at {self.address:#x} of {self.device}>"


def empty(nbytes: int, device: str) -> Block:
    """Memory with whatever was in it."""
    index, size = devices.number_of(device), -(-max(nbytes, 1) // ROUND) * ROUND
    free = _idle[index, size]
    address = free.pop() if free else devices.use(index).MemAlloc(size)
    return Block(address, nbytes, size, NAMES[index])


def send_to(device: str, source: int, nbytes: int, target: int):
    """Bytes of the host to a device. The source may be used again at once."""
    if nbytes: devices.use(devices.number_of(device)).MemcpyHtoD(target, source, nbytes)


def fetch_from(device: str, source: int, nbytes: int, target: int):
    """Bytes of a device to the host, when all that was queued before is done."""
    if nbytes: devices.use(devices.number_of(device)).MemcpyDtoH(target, source, nbytes)


def across(device: str, source: int, nbytes: int, other: str, target: int):
    """Bytes from one device to another."""
    if nbytes: devices.use(devices.number_of(other)).MemcpyDtoD(target, source, nbytes)
