"""The runtime as machine code: compiled once per machine, its functions' addresses by position."""
from __future__ import annotations

import ctypes
import functools
import hashlib
import pathlib

import numpy as np

from ...cpu import code
from . import native
from .runtime import chance, collectives, integers, memory, numbers, races, schedule

_MODULES = (numbers, integers, chance, races, memory, collectives, schedule)


def _written(): return native.text(*_MODULES, table="ptx_runtime"), list(native.functions(*_MODULES))


@functools.cache
def sources() -> str:
    """A digest of all that writes texts here: while it is the same, what the cache knows isn't written again."""
    found = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.rglob("*.py")): found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()


@functools.cache
def _made() -> tuple[int, list[str]]:
    """The address of the function that tells all addresses, and the functions' names."""
    text = code.Text(_written, f"the PTX runtime {sources()}")
    return code.load(text, "ptx_runtime", 1), text.notes


@functools.cache
def positions() -> dict[str, int]:
    """Function -> its place in `addresses`."""
    return {name: i for i, name in enumerate(_made()[1])}


@functools.cache
def addresses() -> np.ndarray:
    out = np.zeros(len(positions()), np.int64)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p)(_made()[0])(out.ctypes.data)
    return out


@functools.cache
def run_grid():
    """The function that runs a launch, as ctypes sees it."""
    return ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p)(int(addresses()[positions()["run_grid"]]))
