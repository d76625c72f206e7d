"""The runtime as machine code: compiled once per machine, its functions' addresses by position."""
from __future__ import annotations

import ctypes
import functools

import numpy as np

from ...cpu import code
from . import native
from .runtime import chance, collectives, integers, memory, numbers, races, schedule

_MODULES = (numbers, integers, chance, races, memory, collectives, schedule)


@functools.cache
def positions() -> dict[str, int]:
    """Function -> its place in `addresses`."""
    return {name: i for i, name in enumerate(native.functions(*_MODULES))}


@functools.cache
def addresses() -> np.ndarray:
    out = np.zeros(len(positions()), np.int64)
    start = code.load(native.text(*_MODULES, table="ptx_runtime"), "ptx_runtime", 1)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(start)(out.ctypes.data)
    return out


@functools.cache
def run_grid():
    """The function that runs a launch, as ctypes sees it."""
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(int(addresses()[positions()["run_grid"]]))
