"""Devices of this process and the one that a thread works on.

A device is opened (its primary context retained) when it is first used. Driver calls speak of the calling thread's current context, so `use(index)` comes before them.
What is known of a device is remembered by driver: tests exchange it.
"""
from __future__ import annotations

import functools
import threading

from .. import gpu
from ..gpu import chips
from ..gpu.names import NAMES

ABSENT = "Torch not compiled with CUDA enabled"
OLDEST_PTX = 63                                # shfl.sync and what else kernels take for granted
MAJOR, MINOR = 75, 76                          # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_…


class _Current(threading.local):
    """`index`: the device that "cuda" means in this thread; `opened`: (driver, device) whose context the driver has here."""
    index, opened = 0, None


CURRENT = _Current()


def count() -> int:
    """How many devices this process may use; 0 where there is no driver."""
    try: return gpu.driver().DeviceGetCount()
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


@functools.cache
def context(driver, index: int) -> int:
    """A device's primary context."""
    return driver.DevicePrimaryCtxRetain(driver.DeviceGet(index))


def use(index: int):
    """The driver, with this device's context current in this thread."""
    driver = gpu.driver()
    if CURRENT.opened != (driver, index):
        driver.CtxSetCurrent(context(driver, index))
        CURRENT.opened = driver, index
    return driver


@functools.cache
def capability(driver, index: int) -> tuple[int, int]:
    """A device's compute capability."""
    return tuple([driver.DeviceGetAttribute(attribute, driver.DeviceGet(index)) for attribute in (MAJOR, MINOR)])


def target(index: int) -> tuple[str, int]:
    """(what PTX is generated for, its version): the newest chip not newer than this one, in the oldest PTX that knows it."""
    driver = gpu.driver()
    name = next(t for t in chips.targets(capability(driver, index), driver.version) if t[-1].isdigit())
    digits = name.removeprefix("sm_")
    return name, max(chips.CHIPS[int(digits[:-1]), int(digits[-1])].ptx, OLDEST_PTX)


def number_of(name: str) -> int:
    """"cuda:1" -> 1"""
    return int(name[5:])
