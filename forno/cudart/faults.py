"""What kernels report: an index that is out of range, a value that a row refuses.

A kernel can't raise. It claims its device's record (once: the first failure is kept until somebody looks), writes code, index, size and its step's number, and
goes on with index 0. The record lies in the host's memory, so a look at it is no call of the driver's; whoever waits for a device looks afterwards.
"""
from __future__ import annotations

import ctypes
import itertools
import weakref

from .. import gpu
from ..core.errors import AcceleratorError
from . import devices

WORDS = 5                                      # code, index, size, step, claimed (kernel/nvptx/abi.py writes them)
PORTABLE, MAPPED = 1, 2                        # CU_MEMHOSTALLOC_…
_numbers = itertools.count(1)
_tables: weakref.WeakValueDictionary = weakref.WeakValueDictionary()         # a step's number -> the plan's table


@devices.remembered
def record(driver, index: int) -> tuple:
    """(the host's look at a device's record, its address there)"""
    devices.use(index)
    with devices.relaxed(driver): at = driver.MemHostAlloc(8 * WORDS, PORTABLE | MAPPED)
    words = (ctypes.c_int64 * WORDS).from_address(at)
    words[:] = [0] * WORDS
    written(driver).add(index)
    return words, driver.MemHostGetDevicePointer(at, 0)


@devices.remembered
def written(driver) -> set:
    """The devices that have a record."""
    return set()


def number(table) -> int:
    """A number for a step of a plan, whose `told(number, code, index, size)` says what a failure there means."""
    n = next(_numbers)
    _tables[n] = table
    return n


def seen(index: int) -> AcceleratorError | None:
    """The error that a device reported by now, once."""
    driver = gpu.driver()
    if index not in written(driver): return None
    words, _ = record(driver, index)
    code, at, size, step, _ = words
    if not code: return None
    words[:] = [0] * WORDS
    table = _tables.get(step)
    what = f"index {at} is out of bounds for dimension with size {size}" if table is None else table.told(step, code, at, size)
    return AcceleratorError(f"CUDA error: device-side assert triggered\n{what}\nThe kernel that found it on cuda:{index} went on with index 0: what it computed, "
                            "and what was computed from that, is not to be used. Kernels run later than they are recorded, so this line may be another.")


def check(index: int):
    """Raise what a device reported by now."""
    error = seen(index)
    if error is not None: raise error
