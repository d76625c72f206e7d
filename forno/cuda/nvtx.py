"""torch.cuda.nvtx: ranges and marks for NVIDIA's profiler, where its library is; dropped elsewhere."""
from __future__ import annotations

import contextlib
import ctypes
import functools

__all__ = ["mark", "range", "range_end", "range_pop", "range_push", "range_start"]
_NAMES = ("libnvToolsExt.so.1", "libnvtx3interop.so.1", "libnvToolsExt.so")


@functools.cache
def _library():
    """NVTX's C functions, or None. Nobody looks for it before a range is made."""
    for name in _NAMES:
        with contextlib.suppress(OSError):
            found = ctypes.CDLL(name)
            found.nvtxRangeStartA.restype = ctypes.c_uint64
            found.nvtxRangeEnd.argtypes = [ctypes.c_uint64]
            return found
    return None


def range_push(msg: str) -> int:
    """Begins a range of this thread; its depth, -1 without the library."""
    return -1 if (nvtx := _library()) is None else nvtx.nvtxRangePushA(msg.encode())


def range_pop() -> int: return -1 if (nvtx := _library()) is None else nvtx.nvtxRangePop()
def range_start(msg: str) -> int: return 0 if (nvtx := _library()) is None else nvtx.nvtxRangeStartA(msg.encode())


def range_end(range_id: int):
    if (nvtx := _library()) is not None: nvtx.nvtxRangeEnd(range_id)


def mark(msg: str):
    if (nvtx := _library()) is not None: nvtx.nvtxMarkA(msg.encode())


class range(contextlib.ContextDecorator):
    """`with range("name"):`, or a decorator."""

    def __init__(self, msg: str, *args, **kwargs): self.msg = msg.format(*args, **kwargs)
    def __enter__(self): range_push(self.msg)
    def __exit__(self, *error): range_pop()
