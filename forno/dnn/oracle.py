"""What every row means, in NumPy: the reference that tests and the oracle executor compare with.

Comes in: a row, its attr, operands (NumPy arrays with their dtype, or Python numbers). Goes out: the result's array, rounded to the result's
dtype. bfloat16 values travel here as float32 arrays that hold only bfloat16 values; `bits` and `unbits` convert to and from storage.
"""
from __future__ import annotations

import numpy as np

from ..core import dtype as dt
from ..core.dtype import dtype
from ..core.op import Elementwise, Op
from .elementwise import operand_dtypes


def code(t: dtype): return np.dtype(np.float32) if t is dt.bfloat16 else t.code


def bits(x: np.ndarray) -> np.ndarray:
    """float32 to bfloat16 storage, to nearest even."""
    u = np.array(x, np.float32, order="C").view(np.uint32)
    return np.where(np.isnan(x), np.uint16(0x7FC0), ((u + (0x7FFF + ((u >> 16) & 1))) >> 16).astype(np.uint16))


def unbits(x: np.ndarray) -> np.ndarray: return (x.astype(np.uint32) << 16).view(np.float32)


def convert(x: np.ndarray, to: dtype) -> np.ndarray:
    """PyTorch's conversion of values: complex drops its imaginary part, anything but zero is True."""
    with np.errstate(all="ignore"):
        if to is dt.bool: return x != 0
        if x.dtype.kind == "c" and to.category != dt.COMPLEX: x = x.real
        if x.dtype.kind == "f" and to.category == dt.INT:          # through int64: out-of-range floats are undefined anyway
            return x.astype(np.int64).astype(to.code) if to is not dt.uint64 else x.astype(np.uint64)
        if to is dt.bfloat16: return unbits(bits(x.astype(np.float32)))
        return x.astype(to.code)


class Meta:
    """What infer sees of an operand."""
    __slots__ = ("dtype", "shape")

    def __init__(self, dtype, shape): self.dtype, self.shape = dtype, shape


def evaluate(row: Op, attr, operands) -> tuple[np.ndarray, dtype]:
    """`operands`: (array, dtype) pairs or Python numbers."""
    metas = [Meta(x[1], x[0].shape) if isinstance(x, tuple) else type(x) for x in operands]
    result, shape = row.infer(attr, *metas)
    if row.name == "cast": return convert(operands[0][0], result), result
    if isinstance(row, Elementwise):
        arrays = []
        for i, (x, t) in enumerate(zip(operands, operand_dtypes(row, metas))):
            if isinstance(x, tuple): arrays.append(convert(x[0], t).astype(code(t.opmath), copy=False))
            elif i in row.rounds: arrays.append(convert(convert(np.asarray(x), t), t.opmath))
            else: arrays.append(convert(np.asarray(x), t.opmath))
    else: arrays = [x[0].astype(code(x[1].opmath), copy=False) if isinstance(x, tuple) else x for x in operands]
    out = np.asarray(row.oracle(attr, *arrays))
    out = convert(out, result)
    return np.broadcast_to(out, shape) if row.kind == "elementwise" else out, result
