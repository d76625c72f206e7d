"""Tensor maps of the simulated driver: the checks of the real one, and 128 bytes that whoever simulates bulk copies can read (`decode`).

The real bytes are opaque, and nobody may make them but the driver. The rules are those that cuTensorMapEncodeTiled's documentation states.
"""
from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass

from .graphs import GraphCalls
from .work import Refuse

SIZES = (1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4)          # by CU_TENSOR_MAP_DATA_TYPE_…: u8 u16 u32 i32 u64 i64 f16 f32 f64 bf16 f32.ftz tf32 tf32.ftz
_FLOATS = range(6, 13)
_SPANS = (0, 32, 64, 128)                                # bytes that a swizzle works on
_MAGIC = 0x50414D54
_FORM = struct.Struct("<IBBBBBxxxQ5Q4Q5H5B5x")           # what it is, base, sizes, strides, box, steps: 128 bytes at most


@dataclass(frozen=True)
class Tiled:
    """A tensor in global memory and the box of it that one copy moves; the innermost axis first. Strides are of axes 1 and up, in bytes."""
    dtype: int
    base: int
    sizes: tuple[int, ...]
    strides: tuple[int, ...]
    box: tuple[int, ...]
    steps: tuple[int, ...]
    interleave: int
    swizzle: int
    fill_nan: bool

    def encode(self) -> bytes:
        def full(values, n): return (*values, *[0] * (n - len(values)))
        head = _FORM.pack(_MAGIC, self.dtype, len(self.sizes), self.interleave, self.swizzle, self.fill_nan, self.base,
                          *full(self.sizes, 5), *full(self.strides, 4), *full(self.box, 5), *full(self.steps, 5))
        return head.ljust(128, b"\0")


def decode(data: bytes) -> Tiled | None:
    """None: these bytes are no tensor map."""
    magic, dtype, rank, interleave, swizzle, nan, base, *rest = _FORM.unpack_from(data)
    if magic != _MAGIC: return None
    return Tiled(dtype, base, tuple(rest[:rank]), tuple(rest[5:5 + rank - 1]), tuple(rest[9:9 + rank]), tuple(rest[14:14 + rank]), interleave, swizzle, bool(nan))


class TensorMapCalls(GraphCalls):
    def TensorMapEncodeTiled(self, to, dtype, rank, base, sizes, strides, box, steps, interleave, swizzle, promotion, fill):
        if not any(d.capability >= (9, 0) for d in self.devices): raise Refuse("NOT_SUPPORTED")
        if to % 64 or not 0 <= dtype < len(SIZES) or not 1 <= rank <= 5: raise Refuse("INVALID_VALUE")
        made = Tiled(dtype, base, tuple((ctypes.c_uint64 * rank).from_address(sizes)), tuple((ctypes.c_uint64 * (rank - 1)).from_address(strides)) if rank > 1 else (),
                     tuple((ctypes.c_uint32 * rank).from_address(box)), tuple((ctypes.c_uint32 * rank).from_address(steps)), interleave, swizzle, fill == 1)
        if why := fault(made, promotion, fill):
            self.find("tensor map", f"call {self.calls}: {why}")
            raise Refuse("INVALID_VALUE")
        ctypes.memmove(to, made.encode(), 128)


def fault(t: Tiled, promotion: int, fill: int) -> str:
    """What the driver refuses, in words; empty: nothing."""
    item, align = SIZES[t.dtype], 32 if t.interleave == 2 else 16
    row = t.box[0] * item
    rules = (
        (t.interleave in (0, 1, 2) and t.swizzle in range(4) and promotion in range(4) and fill in (0, 1), "an unknown interleave, swizzle, promotion or fill"),
        (t.base % align == 0, f"the address {t.base:#x} is no multiple of {align}"),
        (all(0 < n <= 1 << 32 for n in t.sizes), f"sizes {t.sizes} must be 1 to 2^32"),
        (all(s % align == 0 and s < 1 << 40 for s in t.strides), f"strides {t.strides} must be multiples of {align} below 2^40"),
        (all(0 < n <= 256 for n in t.box), f"the box {t.box} must be 1 to 256 along each axis"),
        (all(0 < n <= 8 for n in t.steps), f"steps {t.steps} must be 1 to 8"),
        (t.interleave != 0 or row % 16 == 0, f"a row of the box has {row} bytes, which is no multiple of 16"),
        (t.interleave != 0 or t.swizzle == 0 or row <= _SPANS[t.swizzle & 3], f"a row of the box has {row} bytes, more than the swizzle's {_SPANS[t.swizzle & 3]}"),
        (t.interleave == 0 or len(t.sizes) >= 3, "an interleaved tensor has at least three axes"),
        (t.interleave != 2 or t.swizzle == 1, "an interleave of 32 bytes goes with a swizzle of 32 bytes"),
        (fill == 0 or t.dtype in _FLOATS, "only floating-point tensors can be filled with NaN"),
    )
    return next((text for holds, text in rules if not holds), "")
