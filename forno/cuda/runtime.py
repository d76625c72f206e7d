"""torch.cuda.cudart(): the few functions of CUDA's runtime library that PyTorch lets through, on the driver's. They return codes, and `check_error` raises them."""
from __future__ import annotations

import enum

from ..cudart import devices
from ..gpu import errors
from . import where


class cudaError(enum.IntEnum):
    """The codes that scripts name; others come as numbers."""
    success = 0
    cudaErrorInvalidValue = 1
    cudaErrorMemoryAllocation = 2
    cudaErrorNotReady = 600
    cudaErrorIllegalAddress = 700
    cudaErrorNotSupported = 801


class cudaStatus:
    """Codes under older names."""
    SUCCESS: int = 0
    ERROR_NOT_READY: int = 34


class CudaError(RuntimeError):
    """A code that a function of `cudart()` returned."""

    def __init__(self, code: int): super().__init__(f"{cudaGetErrorString(code)} ({int(code)})")


def check_error(res: int):
    """Raises what isn't success."""
    if res != cudaError.success: raise CudaError(res)


def _code(f, *args):
    """What a call returns to C."""
    try: f(*args)
    except errors.CudaError as e: return cudaError(e.code) if e.code in cudaError._value2member_map_ else e.code
    return cudaError.success


def _driver(): return devices.use(where.number())
def cudaGetErrorString(code) -> str: return errors.described(int(code))[1]
def cudaProfilerStart(): return _code(_driver().ProfilerStart)
def cudaProfilerStop(): return _code(_driver().ProfilerStop)
def cudaHostRegister(ptr: int, size: int, flags: int = 0): return _code(_driver().MemHostRegister, ptr, size, flags)
def cudaHostUnregister(ptr: int): return _code(_driver().MemHostUnregister, ptr)
def cudaStreamDestroy(stream: int): return _code(_driver().StreamDestroy, stream)
def cudaMemGetInfo(device: int) -> tuple[int, int]: return devices.use(where.number(device)).MemGetInfo()


class Runtime:
    """What `cudart()` returns."""
    cudaError = cudaError
    cudaGetErrorString, cudaProfilerStart, cudaProfilerStop = map(staticmethod, (cudaGetErrorString, cudaProfilerStart, cudaProfilerStop))
    cudaHostRegister, cudaHostUnregister, cudaStreamDestroy, cudaMemGetInfo = map(staticmethod, (cudaHostRegister, cudaHostUnregister, cudaStreamDestroy, cudaMemGetInfo))


def cudart() -> type[Runtime]:
    """CUDA's runtime functions, with a device opened."""
    _driver()
    return Runtime
