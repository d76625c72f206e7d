"""Memory of devices.

`empty(nbytes, device)` gives a Block; its end gives the memory back for work that is queued later in the same stream.
"""
from __future__ import annotations

from collections import defaultdict

from ..gpu.names import NAMES
from . import devices

ROUND = 512                                    # bytes; what a block's size is rounded up to
_idle: dict[tuple, list[int]] = defaultdict(list)          # (driver, device, size) -> addresses


class Block:
    """`nbytes` of memory at `address` of a device, valid as long as this object lives. `pool`: where its address goes then."""
    __slots__ = ("address", "nbytes", "device", "pool", "kept", "__weakref__")
    exposed, _writable, _readable = False, None, None        # no array can see it

    def __init__(self, address: int, nbytes: int, device: str, pool: list): self.address, self.nbytes, self.device, self.pool, self.kept = address, nbytes, device, pool, None
    def __del__(self): self.pool.append(self.address)

    def __repr__(self): return f"<{self.nbytes} bytes at {self.address:#x} of {self.device}>"


def empty(nbytes: int, device: str) -> Block:
    """Memory with whatever was in it."""
    index, size = devices.number_of(device), -(-max(nbytes, 1) // ROUND) * ROUND
    driver = devices.use(index)
    pool = _idle[driver, index, size]
    return Block(pool.pop() if pool else driver.MemAlloc(size), nbytes, NAMES[index], pool)


def send_to(device: str, source: int, nbytes: int, target: int):
    """Bytes of the host to a device. The source may be used again at once."""
    if nbytes: devices.use(devices.number_of(device)).MemcpyHtoD(target, source, nbytes)


def fetch_from(device: str, source: int, nbytes: int, target: int):
    """Bytes of a device to the host, when all that was queued before is done."""
    if nbytes: devices.use(devices.number_of(device)).MemcpyDtoH(target, source, nbytes)


def across(device: str, source: int, nbytes: int, other: str, target: int):
    """Bytes from one device to another, when all that was queued on the first is done, and before anything is queued on the second."""
    if not nbytes: return
    here, there = devices.number_of(device), devices.number_of(other)
    devices.use(here).StreamSynchronize(None)
    driver = devices.use(there)
    driver.MemcpyPeerAsync(target, devices.context(driver, there), source, devices.context(driver, here), nbytes, None)
    driver.StreamSynchronize(None)
