"""PTX to functions of a device.

The driver's compiler makes machine code (a cubin) of it, which a folder keeps: the same kernel, driver and chip again, and nothing is compiled.
"""
from __future__ import annotations

import ctypes
import functools
import hashlib
import os

from ..core.flags import flags
from ..cpu import code as host_code
from ..gpu.chips import STATIC_SHARED
from ..gpu.errors import CODES, CudaError, error
from ..gpu.prototypes import FUNCTION, JIT
from . import devices

_PTX = 1                                       # CU_JIT_INPUT_PTX
_LOG = 8192                                    # bytes of what the compiler says
_STALE = frozenset((CODES["NO_BINARY_FOR_GPU"], CODES["INVALID_IMAGE"]))


@functools.cache
def cubins() -> host_code.Cache:
    """The folder, beside that of the host's machine code."""
    return host_code.Cache(os.path.join(os.path.dirname(host_code.folder()), "cubin"), flags.CACHE_SIZE << 20)


@devices.remembered
def function(driver, index: int, ptx: str, name: str) -> int:
    """The handle of a kernel on a device, whose context is current."""
    return driver.ModuleGetFunction(module(driver, index, ptx), name.encode())


@devices.remembered
def module(driver, index: int, ptx: str) -> int:
    """Loaded code. A capture may be underway: that isn't its business."""
    text = ptx.encode() + b"\0"
    made_for = f"{driver.version}|{devices.title(driver, index)}|{devices.capability(driver, index)}|"
    key = hashlib.sha256(made_for.encode() + text).digest()
    with devices.relaxed(driver):
        kept = cubins().read(key)
        if kept is not None:
            try: return driver.ModuleLoadDataEx(kept, 0, None, None)
            except CudaError as e:
                if e.code not in _STALE: raise
        cubin = linked(driver, text)
        cubins().write(key, cubin)
        return driver.ModuleLoadDataEx(cubin, 0, None, None)


def linked(driver, text: bytes) -> bytes:
    """PTX as machine code for the current device; an error has what the compiler said."""
    log = ctypes.create_string_buffer(_LOG)
    options, values = (ctypes.c_int * 2)(JIT["error_log"], JIT["error_size"]), (ctypes.c_void_p * 2)(ctypes.addressof(log), _LOG)
    link = driver.LinkCreate(2, options, values)
    try:
        driver.LinkAddData(link, _PTX, text, len(text), None, 0, None, None)
        at, nbytes = driver.LinkComplete(link)
        return ctypes.string_at(at, nbytes)
    except CudaError as e:
        raise error(e.function, e.code, log.value.decode(errors="replace").strip()) from None
    finally: driver.LinkDestroy(link)


@devices.remembered
def own_shared(driver, function: int) -> int:
    """Bytes of shared memory that a kernel has without asking."""
    return driver.FuncGetAttribute(FUNCTION["static_shared"], function)


def allow_shared(driver, function: int, nbytes: int):
    """A kernel may be launched with so much dynamic shared memory: more than what all may have must be asked for."""
    if own_shared(driver, function) + nbytes <= STATIC_SHARED or driver.FuncGetAttribute(FUNCTION["dynamic_shared"], function) >= nbytes: return
    driver.FuncSetAttribute(function, FUNCTION["dynamic_shared"], nbytes)
