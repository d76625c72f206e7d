"""The GPU floor: the driver's ABI and the silicon's facts.

Comes in: FORNO_GPU, and whatever driver the system has. Goes out: `driver()`, one `Driver` per process, or `Missing` with one sentence that says why there is
none. Nothing is opened before somebody asks. It knows functions, addresses and error codes; what a tensor or a kernel is, it doesn't.
"""
from __future__ import annotations

import importlib
import os
import threading

from ..core.flags import flags
from .absent import answers, device_count, device_name
from .driver import Driver, open_library, start
from .errors import CudaError, Missing, OutOfMemory

_lock = threading.Lock()
_found: Driver | Missing | None = None         # what the first question found out


def driver() -> Driver:
    """The driver that FORNO_GPU chooses, opened by the first call."""
    global _found
    with _lock:
        if _found is None:
            try: _found = _open(flags.GPU)
            except Missing as e: _found = e
    if isinstance(_found, Missing): raise _found.with_traceback(None)
    return _found


def reason() -> str | None:
    """Why there is no GPU, in one sentence; None: there is one."""
    try: driver()
    except Missing as e: return str(e)
    return None


def forked() -> bool:
    """Was the driver opened by a process that this one was forked from? It can't be used here then, nor be opened again."""
    return isinstance(_found, Driver) and _found.process != os.getpid()


def _open(kind: str) -> Driver:
    if kind == "none": raise Missing("FORNO_GPU=none turns GPUs off: unset it to use the one that may be there")
    if kind == "auto": return start(open_library())
    # a test tool as large as the rest of forno's GPU code: only who asks for it pays for its import
    return importlib.import_module(f"{__name__}.sim").install(int(kind.partition(":")[2] or 1))


def _child() -> None:
    global _lock
    _lock = threading.Lock()                   # another thread may have held it


if hasattr(os, "register_at_fork"): os.register_at_fork(after_in_child=_child)
