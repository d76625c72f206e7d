"""Devices of this process and the one that a thread works on.

A device is opened (its primary context retained) when it is first used. Driver calls speak of the calling thread's current context, so `use(index)` comes before them.
What is known of a device is remembered with the driver: tests exchange it.
"""
from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import threading
import weakref

from .. import gpu
from ..gpu import chips
from ..gpu.errors import CODES, CudaError
from ..gpu.names import NAMES
from ..gpu.prototypes import DEVICE

ABSENT = "Torch not compiled with CUDA enabled"
FORKED = "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the 'spawn' start method"
OLDEST_PTX = 63                                # shfl.sync and what else kernels take for granted
VECTORS_PTX = 81                               # additions to 16 bytes in memory, on chips from 9.0 on
RELAXED = 2                                    # CU_STREAM_CAPTURE_MODE_RELAXED


class _Current(threading.local):
    """`index`: the device that "cuda" means in this thread; `opened`: (weakly: the driver, device) whose context the driver has here."""
    index, opened = 0, None


CURRENT = _Current()


def remembered(f):
    """f(driver, …) is asked once; the answer goes when the driver goes."""
    @functools.wraps(f)
    def ask(driver, *what):
        key = f, what
        try: return driver.above[key]
        except KeyError: pass                  # and no part of what f raises
        return driver.above.setdefault(key, f(driver, *what))
    return ask


@remembered
def _count(driver) -> int: return driver.DeviceGetCount()


def count() -> int:
    """How many devices this process may use; 0 where there is no driver."""
    try: return _count(gpu.driver())
    except gpu.Missing: return 0


def place(index: int | None) -> str:
    """The name of a device, which must be there; None is this thread's."""
    n = count()
    if n == 0: raise AssertionError(ABSENT)
    if index is None: index = CURRENT.index
    if not 0 <= index < n: raise RuntimeError(f"CUDA error: invalid device ordinal: there is no cuda:{index}, devices here are cuda:0 to cuda:{n - 1}")
    return NAMES[index]


def current() -> int: return CURRENT.index


def select(index: int):
    """From now on "cuda" means this device in this thread."""
    place(index)
    CURRENT.index = index


@remembered
def context(driver, index: int) -> int:
    """A device's primary context."""
    return driver.DevicePrimaryCtxRetain(driver.DeviceGet(index))


def opened() -> list[int]:
    """The devices that were used so far."""
    if gpu.reason() is not None or gpu.forked(): return []
    return sorted(key[1][0] for key in list(gpu.driver().above) if key[0] is context.__wrapped__)


def use(index: int):
    """The driver, with this device's context current in this thread."""
    driver = gpu.driver()
    opened = CURRENT.opened
    if opened is None or opened[0]() is not driver or opened[1] != index:
        if gpu.forked(): raise RuntimeError(FORKED)
        driver.CtxSetCurrent(context(driver, index))
        CURRENT.opened = weakref.ref(driver), index
    return driver


def _child():
    """What the parent opened can't be used in a process that was forked: the next use says so."""
    CURRENT.opened = None


if hasattr(os, "register_at_fork"): os.register_at_fork(after_in_child=_child)


def synchronize(index: int):
    """Waits for all work of a device."""
    use(index).CtxSynchronize()


@contextlib.contextmanager
def relaxed(driver):
    """Inside, calls are allowed that could disturb a capture but don't: of code and of new memory."""
    mode = ctypes.c_int(RELAXED)
    driver.ThreadExchangeStreamCaptureMode(ctypes.byref(mode))
    try: yield
    finally: driver.ThreadExchangeStreamCaptureMode(ctypes.byref(mode))


# ---------------------------------------------------------------- what devices are
@remembered
def attribute(driver, index: int, name: str) -> int:
    """One of gpu.prototypes.DEVICE's numbers."""
    return driver.DeviceGetAttribute(DEVICE[name], driver.DeviceGet(index))


@remembered
def capability(driver, index: int) -> tuple[int, int]:
    """A device's compute capability."""
    return attribute(driver, index, "major"), attribute(driver, index, "minor")


@remembered
def title(driver, index: int) -> str:
    """What its maker calls a device."""
    return driver.DeviceGetName(driver.DeviceGet(index))


@remembered
def all_memory(driver, index: int) -> int: return driver.DeviceTotalMem(driver.DeviceGet(index))


def target(index: int) -> tuple[str, int]:
    """(what PTX is generated for, its version): the newest chip not newer than this one, in the oldest PTX that knows it and what kernels use of it."""
    driver = gpu.driver()
    name = next(t for t in chips.targets(capability(driver, index), driver.version) if t[-1].isdigit())
    chip = chips.CHIPS[chips.capability_of(name)]
    used = min(VECTORS_PTX, chips.newest_ptx(driver.version)) if chip.capability >= (9, 0) else OLDEST_PTX
    return name, max(chip.ptx, used)


def number_of(name: str) -> int:
    """"cuda:1" -> 1"""
    return int(name[5:])


# ---------------------------------------------------------------- several
def can_reach(index: int, other: int) -> bool:
    """Could a device touch another one's memory?"""
    driver = gpu.driver()
    return index != other and bool(driver.DeviceCanAccessPeer(driver.DeviceGet(index), driver.DeviceGet(other)))


@remembered
def reach(driver, index: int, other: int):
    """Lets a device touch another one's memory, if it can: copies needn't go through the host then."""
    if not can_reach(index, other): return
    theirs = context(driver, other)
    use(index)
    try:
        with relaxed(driver): driver.CtxEnablePeerAccess(theirs, 0)
    except CudaError as e:
        if e.code != CODES["PEER_ACCESS_ALREADY_ENABLED"]: raise
