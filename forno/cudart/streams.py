"""Streams and events: where a thread's work is queued, and points in it that others wait for.

Comes in: a device and, for work, whatever queues it. Goes out: the driver's handles. Each thread has a current stream on each device, at first the default one (0).
The others come from a pool, as PyTorch's do, and live as long as the process: they don't wait for the default stream, nor it for them.
"""
from __future__ import annotations

import itertools
import threading
import weakref

from .. import gpu
from . import devices

DEFAULT = 0                                    # the legacy default stream
POOL = 32                                      # streams of one device and priority, as in PyTorch
HIGHEST = -3                                   # PyTorch's greatest priority; drivers have -5
_NON_BLOCKING, _BLOCKING_SYNC, _NO_TIMING, _INTERPROCESS = 1, 1, 2, 4


class _Chosen(threading.local):
    """Device -> (the driver, this thread's current stream there)."""

    def __init__(self): self.streams: dict[int, tuple] = {}


_CHOSEN = _Chosen()
_lock = threading.Lock()


def current(index: int) -> int:
    """The stream that this thread's work on a device goes to."""
    chosen = _CHOSEN.streams.get(index)
    return DEFAULT if chosen is None or chosen[0]() is not gpu.driver() else chosen[1]


def choose(index: int, stream: int) -> int:
    """Makes a stream the current one of its device; the one before."""
    before = current(index)
    _CHOSEN.streams[index] = weakref.ref(gpu.driver()), stream
    return before


@devices.remembered
def priorities(driver, index: int) -> tuple[int, int]:
    """(least, greatest) priority; greater ones are smaller numbers."""
    least, greatest = devices.use(index).CtxGetStreamPriorityRange()
    return least, max(greatest, HIGHEST)


@devices.remembered
def pool_of(driver, index: int, priority: int) -> tuple[itertools.count, list[int]]:
    """(whose turn it is, the streams made so far)"""
    return itertools.count(), []


def from_pool(index: int, priority: int = 0) -> int:
    """A stream; after the first POOL ones, one that somebody may have, too."""
    driver = devices.use(index)
    least, greatest = priorities(driver, index)
    priority = min(max(priority, greatest), least)
    turns, made = pool_of(driver, index, priority)
    with _lock:
        k = next(turns) % POOL
        if k == len(made):
            with devices.relaxed(driver): made.append(driver.StreamCreateWithPriority(_NON_BLOCKING, priority))
        return made[k]


def priority(index: int, stream: int) -> int: return devices.use(index).StreamGetPriority(stream)


def follow(index: int, stream: int, other_index: int, other: int):
    """What comes next in `stream` waits for all that `other` holds now; the two may be of two devices."""
    event = Event()
    event.record(other_index, other)
    event.wait(index, stream)


@devices.remembered
def spare(driver, index: int, flags: int) -> list[int]:
    """Events that nobody needs any more."""
    return []


class Event:
    """A point in a stream. It belongs to the device of the stream that first records it; until then it is passed. `interprocess`: others may wait for it, too."""
    __slots__ = ("flags", "index", "handle", "spare", "__weakref__")

    def __init__(self, timing: bool = False, blocking: bool = False, interprocess: bool = False):
        self.flags = (0 if timing else _NO_TIMING) | (_BLOCKING_SYNC if blocking else 0) | (_INTERPROCESS if interprocess else 0)
        self.index, self.handle, self.spare = -1, 0, None

    # a finalizer may run anywhere, inside a call of the driver's, too: so it calls nothing
    def __del__(self):
        if self.handle: self.spare.append(self.handle)

    def open(self, index: int):
        driver = self.at(index)
        self.handle = self.spare.pop() if self.spare else driver.EventCreate(self.flags)

    def at(self, index: int):
        """The driver, for an event that comes to be on a device."""
        driver = devices.use(index)
        self.spare, self.index = spare(driver, index, self.flags), index
        while self.spare and self.flags & _INTERPROCESS: driver.EventDestroy(self.spare.pop())          # nobody gets an event that others know
        return driver

    def shared(self) -> bytes:
        """What another process of this machine opens it by."""
        if not self.handle: self.open(devices.current())
        return devices.use(self.index).IpcGetEventHandle(self.handle)

    @classmethod
    def of_another(cls, index: int, shared: bytes) -> Event:
        """Another process's event, on the same device."""
        self = cls(interprocess=True)
        self.handle = self.at(index).IpcOpenEventHandle(shared)
        return self

    def record(self, index: int, stream: int):
        if not self.handle: self.open(index)
        if index != self.index: raise RuntimeError(f"Event device {self.index} does not match recording stream's device {index}.")
        devices.use(index).EventRecord(self.handle, stream)

    def wait(self, index: int, stream: int):
        """What comes next in a stream waits for this point."""
        if self.handle: devices.use(index).StreamWaitEvent(stream, self.handle, 0)

    def query(self) -> bool: return not self.handle or devices.use(self.index).EventQuery(self.handle)

    def synchronize(self):
        if self.handle: devices.use(self.index).EventSynchronize(self.handle)

    def elapsed(self, end: Event) -> float:
        """Milliseconds from here to `end`."""
        return devices.use(self.index).EventElapsedTime(self.handle, end.handle)
