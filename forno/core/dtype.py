"""Element types and PyTorch's promotion rules.

A dtype is one object with PyTorch's spelling (`repr` is `torch.float32`, because scripts compare and print it).
Promotion follows https://docs.pytorch.org/docs/2.13/tensor_attributes.html#type-promotion-doc
"""
from __future__ import annotations

import builtins                                # this file's `bool` is a dtype

import numpy as np

BOOL, INT, FLOAT, COMPLEX = range(4)          # categories, in promotion order


class dtype:
    """One element type. `code` is the NumPy type that stores it (bfloat16 travels as uint16)."""
    __slots__ = ("name", "category", "size", "code", "signed", "rank", "opmath", "real", "__weakref__")

    def __init__(self, name, category, size, code, signed, rank):
        self.name, self.category, self.size, self.signed, self.rank = name, category, size, signed, rank
        self.code = np.dtype(code)
        self.opmath = self                     # what arithmetic is done in
        self.real = self                       # the part type of a complex type

    @property
    def is_floating_point(self): return self.category == FLOAT

    @property
    def is_complex(self): return self.category == COMPLEX

    @property
    def is_signed(self): return self.signed

    @property
    def itemsize(self): return self.size

    def to_real(self): return self.real

    def to_complex(self): return {float16: complex32, float64: complex128}.get(self, self if self.category == COMPLEX else complex64)

    def __repr__(self): return f"torch.{self.name}"
    def __reduce__(self): return self.name     # pickles as the module's global: one object per type, always
    def __deepcopy__(self, memo): return self
    def __copy__(self): return self


uint8 = dtype("uint8", INT, 1, "u1", False, 0)
int8 = dtype("int8", INT, 1, "i1", True, 1)
int16 = dtype("int16", INT, 2, "i2", True, 2)
int32 = dtype("int32", INT, 4, "i4", True, 3)
int64 = dtype("int64", INT, 8, "i8", True, 4)
uint16 = dtype("uint16", INT, 2, "u2", False, 2)
uint32 = dtype("uint32", INT, 4, "u4", False, 3)
uint64 = dtype("uint64", INT, 8, "u8", False, 4)
float16 = dtype("float16", FLOAT, 2, "f2", True, 0)
bfloat16 = dtype("bfloat16", FLOAT, 2, "u2", True, 0)
float32 = dtype("float32", FLOAT, 4, "f4", True, 1)
float64 = dtype("float64", FLOAT, 8, "f8", True, 2)
complex32 = dtype("complex32", COMPLEX, 4, "V4", True, 0)     # storage only: NumPy has no such type
complex64 = dtype("complex64", COMPLEX, 8, "c8", True, 1)
complex128 = dtype("complex128", COMPLEX, 16, "c16", True, 2)
bool = dtype("bool", BOOL, 1, "?", False, 0)
for _half in (float16, bfloat16): _half.opmath = float32
complex64.real, complex128.real, complex32.real = float32, float64, float16

ALL = (uint8, int8, int16, int32, int64, uint16, uint32, uint64, float16, bfloat16, float32, float64, complex64, complex128, bool)
BY_NAME = {t.name: t for t in (*ALL, complex32)}
FROM_NUMPY = {t.code: t for t in ALL if t is not bfloat16}
SCALAR_CATEGORY = {builtins.bool: BOOL, int: INT, float: FLOAT, complex: COMPLEX}


def limits(t: dtype) -> tuple:
    """The least and the greatest finite number that an integer or float type holds."""
    if t.category == FLOAT:
        high = {float16: 65504.0, bfloat16: 2.0**128 - 2.0**120, float32: 2.0**128 - 2.0**104, float64: float.fromhex("0x1.fffffffffffffp+1023")}[t]
        return -high, high
    bits = 8 * t.size
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if t.signed else (0, (1 << bits) - 1)


def promote_types(a: dtype, b: dtype) -> dtype:
    """The smallest type that holds both, by PyTorch's table (uint8 with a signed type gives the next signed one)."""
    if a is b: return a
    if a.category != b.category:
        hi, lo = (a, b) if a.category > b.category else (b, a)
        if hi.category == COMPLEX and lo is float64: return complex128
        if hi.category == COMPLEX and hi is complex32 and lo in (float32, bfloat16): return complex64
        return hi
    if a.category == INT and a.signed != b.signed:
        u, s = (b, a) if a.signed else (a, b)
        if u is not uint8: raise RuntimeError(f"Promotion for uint16, uint32, uint64 types is not supported, attempted to promote {a.name} and {b.name}")
        return int16 if s is int8 else s
    if a.rank == b.rank: return float32        # float16 with bfloat16
    return a if a.rank > b.rank else b


def default_for(category: int, default: dtype) -> dtype:
    """The type a bare Python number of this category has, when no tensor sets it (`default` is get_default_dtype())."""
    if category == COMPLEX: return complex128 if default is float64 else complex64
    return (bool, int64, default)[category]


def result_type(operands, default: dtype) -> dtype:
    """PyTorch's result type of (dtype, ndim) pairs and bare category numbers.

    Three ranks of authority: tensors with dimensions, 0-d tensors, Python numbers; a lower rank counts only when its category is higher.
    """
    best: list[dtype | None] = [None, None, None]
    for x in operands:
        if isinstance(x, tuple): t, p = x[0], (0 if x[1] else 1)
        else: t, p = default_for(x, default), 2
        best[p] = t if best[p] is None else promote_types(best[p], t)
    out = None
    for t in best:
        if t is None: continue
        if out is None: out = t
        elif t.category > out.category:
            out = out.to_complex() if t.category == COMPLEX and out.category == FLOAT else t      # complex of lower rank keeps the floats' precision
    return out
