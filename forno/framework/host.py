"""Steps that a well-kept library computes on the host (LAPACK, pocketfft through NumPy): the plan stops for them."""
from __future__ import annotations

import ctypes
import math

import numpy as np

from ..core.kernels import Host


def call(kernel: Host, addresses):
    """Run one opaque row on the buffers at `addresses`; the last is the result's."""
    arrays = []
    for operand, view, address in zip(kernel.operands, kernel.views, addresses):
        n = math.prod(view.shape)
        flat = np.frombuffer((ctypes.c_char * (n * operand.dtype.size)).from_address(address), operand.dtype.code, n) if n else np.empty(0, operand.dtype.code)
        arrays.append(np.lib.stride_tricks.as_strided(flat, view.shape, [s * operand.dtype.size for s in view.strides]))
    *ins, out = arrays
    out[...] = kernel.op.host(kernel.attr, *ins)
