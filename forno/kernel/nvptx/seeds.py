"""What a GPU has besides arithmetic: instructions that are nearly right, from which the functions of float32 begin.

Comes in: a builder and float32 values. Goes out: a float32. Errors are PTX's documented ones, relative to the result, and flushing means that denormals count as 0:

  power_of_two   2^x     2^-22         denormal results are flushed
  logarithm      log2 x  2^-22.6       besides, 2^-22.6 of it between 1/2 and 2; denormals are fine
  reciprocal     1/x     2^-23         denormal x are flushed, and so are denormal results
  root           √x      2^-23         denormal x are flushed
  inverse_root   1/√x    2^-22.9       denormals are fine
"""
from __future__ import annotations

from ...core import dtype as dt
from ..text import Val

MAGIC = 1.5 * 2.0 ** 23                        # added to a number, it leaves the whole part in the low bits
INF = float("inf")
PIO2 = 1.5707963267948966
PIO2_FACTORS = (0.9331894516944885, 1.6832555532455444)         # two float32 whose product is π/2 to 48 bits: in a fused multiplication it costs nothing


def power_of_two(b, x: Val) -> Val: return b.call("llvm.nvvm.ex2.approx.ftz.f", dt.float32, x)
def logarithm(b, x: Val) -> Val: return b.call("llvm.nvvm.lg2.approx.f", dt.float32, x)
def reciprocal(b, x: Val) -> Val: return b.call("llvm.nvvm.rcp.approx.ftz.f", dt.float32, x)
def root(b, x: Val) -> Val: return b.call("llvm.nvvm.sqrt.approx.ftz.f", dt.float32, x)
def inverse_root(b, x: Val) -> Val: return b.call("llvm.nvvm.rsqrt.approx.f", dt.float32, x)
def saturated(b, x: Val) -> Val: return b.call("llvm.nvvm.saturate.f", dt.float32, x)                  # into [0, 1]; NaN is 0



def held(b, x: Val, low: float, high: float) -> Val:
    """x between two limits; NaN stays."""
    return b.intrinsic("maximum", b.intrinsic("minimum", x, b.const(high, x)), b.const(low, x))


def larger(b, x: Val, y: Val) -> Val: return b.intrinsic("maxnum", x, y)
def smaller(b, x: Val, y: Val) -> Val: return b.intrinsic("minnum", x, y)


def near_one(b, high: Val, low: Val) -> tuple[Val, Val, Val]:
    """Two numbers, the larger of which is brought between 1/2 and 8 (a denormal one: below) by a power of two, and what undoes that."""
    size = b.and_(b.bits(high), 0x7E000000)
    down = b.from_bits(b.sub(0x7E800000, size))
    return b.mul(high, down), b.mul(low, down), b.from_bits(b.add(size, 0x00800000))


def quotient(b, x: Val, y: Val) -> Val:
    """x / y, y of moderate size: rounded nearly always correctly."""
    r = reciprocal(b, y)
    q = b.mul(x, r)
    return b.fma(r, b.fma(b.neg(q), y, x), q)


def quarter_turn_less(b, x: Val) -> Val: return b.fma(b.const(PIO2_FACTORS[0], x), PIO2_FACTORS[1], b.neg(x))
def half_turn_less(b, x: Val) -> Val: return b.fma(b.const(2 * PIO2_FACTORS[0], x), PIO2_FACTORS[1], b.neg(x))
