"""Memory of devices that other processes see: torch.multiprocessing's way of sending tensors on GPUs.

Comes in: a block. Goes out: what another process of this machine needs to see the same memory (the driver's handle of the whole segment, and where in it), and how it says
that it is done. Processes know nothing of each other's streams, so who sends waits for its work first, and who is done waits for its own before it says so.

What was sent isn't given out again before the receiver is done with it, or has ended: it locks a file that both have, which the system unlocks with its last process.
"""
from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
import weakref
from collections import deque

from ..core.errors import unsupported
from ..gpu.names import NAMES
from . import allocator, devices, streams
from .memory import Block, Outside, wait

RECEIVED = ("Attempted to send CUDA tensor received from another process; this is not currently supported. Consider cloning before sending.")
_HERE = b"received"                            # what a receiver writes into the file once it has locked it


# ---------------------------------------------------------------- sending
@devices.remembered
def sent(driver) -> list[tuple[int, Block]]:
    """(file, block) of what other processes have, or will."""
    return []


def send(memory: Outside) -> tuple[bytes, int, int, int]:
    """(the driver's handle, where the memory begins, the device, a file that the receiver locks)."""
    index = devices.number_of(memory.device)
    driver, block = devices.use(index), memory.owner
    if isinstance(block, Received): raise RuntimeError(RECEIVED)
    if block.__class__ is not Block: raise unsupported("sending another library's memory to a process", device="cuda", instead="send a clone() of it")
    collect()
    segment = allocator.of(driver, index).holder(memory.address)
    wait(index, block.piece.stream)
    wait(index, streams.current(index))
    handle = driver.IpcGetMemHandle(segment.address)
    file = anonymous()
    sent(driver).append((file, block))
    return handle, memory.address - segment.address, index, file


def anonymous() -> int:
    if hasattr(os, "memfd_create"): return os.memfd_create("forno", os.MFD_CLOEXEC)
    file, path = tempfile.mkstemp(prefix="forno")
    os.unlink(path)
    return file


def over(file: int) -> bool:
    """Has a receiver had the memory, and is it done?"""
    if os.pread(file, len(_HERE), 0) != _HERE: return False
    try: fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError: return False
    return True


# ---------------------------------------------------------------- receiving
class Segment:
    """Another process's segment, seen from here."""

    def __init__(self, driver, index: int, handle: bytes):
        self.index, self.address, self.closing = index, 0, left(driver)
        self.address = driver.IpcOpenMemHandle(handle, 1)         # peers may touch it, too

    # a finalizer may run anywhere, inside a call of the driver's, too: so it calls nothing
    def __del__(self): self.closing.append((self.index, self.address, -1))


class Received:
    """Somebody else's memory in such a segment, and the lock on it."""

    def __init__(self, segment: Segment, file: int): self.segment, self.file, self.closing = segment, file, segment.closing
    def __del__(self): self.closing.append((self.segment.index, 0, self.file))


@devices.remembered
def left(driver) -> deque:
    """(device, address of a segment, file) of what nobody here uses any more."""
    return deque()


@devices.remembered
def segments(driver) -> weakref.WeakValueDictionary:
    """Segments by handle: one is opened once."""
    return weakref.WeakValueDictionary()


def receive(handle: bytes, offset: int, nbytes: int, index: int, file: int) -> Outside:
    """The memory that another process sent; it is the sender's as long as this one lives."""
    devices.place(index)
    driver = devices.use(index)
    collect()
    segment = segments(driver).get(handle)
    if segment is None: segment = segments(driver)[handle] = Segment(driver, index, handle)
    mine = os.open(f"/proc/self/fd/{file}", os.O_RDWR | os.O_CLOEXEC)          # a lock belongs to what was opened, and the sender has opened the other
    os.close(file)
    fcntl.flock(mine, fcntl.LOCK_SH)
    os.pwrite(mine, _HERE, 0)
    return Outside(segment.address + offset, nbytes, NAMES[index], Received(segment, mine))


def collect():
    """Gives back what others sent and nobody here uses, and takes back what others are done with."""
    for index in devices.opened():
        driver = devices.use(index)
        while left(driver):
            where, address, file = left(driver).popleft()
            devices.synchronize(where)
            if address: devices.use(where).IpcCloseMemHandle(address)
            if file >= 0: os.close(file)
        mine = sent(driver)
        for entry in [e for e in mine if over(e[0])]:
            mine.remove(entry)
            with contextlib.suppress(OSError): os.close(entry[0])


allocator.WHEN_SHORT.append(collect)
