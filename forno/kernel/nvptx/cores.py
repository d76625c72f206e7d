"""Exponentials on what a GPU has besides arithmetic: 2^x, 1/x and tanh as instructions that are nearly right.

Comes in: a builder and a float32. Goes out: a float32. The first functions are for float32 results; `NEARLY` are for results that are rounded to a half type,
which hides their errors but near ties. Everything else is computed as on the CPU (kernel/math.py, with its bounds); division and square roots are rounded correctly.

  exp, exp2   2 ulp: 2^-22.5 is the instruction's own, half an ulp what its operand was rounded by; denormal results too
  sigmoid     3 ulp; 0 below -88, where exp(-x) is infinite
  tanh        2 ulp, as on the CPU
  NEARLY      relative errors below 2^-16; results below 2^-126 are 0. tanh of bfloat16: 2^-11
"""
from __future__ import annotations

from ...core import dtype as dt
from .. import math
from ..builder import Builder, HALVES
from ..text import Val

LOG2E, LOG2E_LOW = 1.44269502162933349609375, 1.92596303e-8      # their sum is log2(e) to 50 bits
MAGIC = 1.5 * 2.0 ** 23                        # added to a number, it leaves the whole part in the low bits


def power_of_two(b, x: Val) -> Val: return b.call("llvm.nvvm.ex2.approx.ftz.f", dt.float32, x)
def reciprocal(b, x: Val) -> Val: return b.call("llvm.nvvm.rcp.approx.ftz.f", dt.float32, x)


def _scaled(b, x: Val, rest) -> Val:
    """2^x as 2^(x - n) · 2^n with n whole and 2^n normal; `rest(n)` gives x - n, which takes what n can't: at 2^-140 it is -14."""
    held = b.intrinsic("maxnum", b.intrinsic("minnum", x, b.const(127.0, x)), b.const(-126.0, x))
    shifted = b.add(held, MAGIC)
    scale = b.from_bits(b.add(b.shl(b.bits(shifted), 23), 0x3F800000))
    return b.mul(power_of_two(b, rest(b.sub(shifted, MAGIC))), scale)


def exp(b, x: Val) -> Val: return _scaled(b, b.mul(x, LOG2E), lambda n: b.fma(x, LOG2E_LOW, b.fma(x, LOG2E, b.neg(n))))
def exp2(b, x: Val) -> Val: return _scaled(b, x, lambda n: b.sub(x, n))
def sigmoid(b, x: Val) -> Val: return b.div(1.0, b.add(exp(b, b.neg(x)), 1.0))


def tanh(b, x: Val) -> Val: return _tanh(b, x, lambda e: b.mul(b.div(1.0, b.add(e, 1.0)), 2.0), exp)


def _tanh(b, x: Val, twice_inverse, exp) -> Val:
    a = b.abs(x)
    z = b.mul(x, x)
    p = math.poly(b, z, -5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
    large = b.sub(1.0, twice_inverse(exp(b, b.add(a, a))))
    return b.copysign(b.select(b.lt(a, 0.625), b.mad(b.mul(p, z), a, a), large), x)


# ---- for half types
def exp_nearly(b, x: Val, t) -> Val: return power_of_two(b, b.mul(x, LOG2E))
def exp2_nearly(b, x: Val, t) -> Val: return power_of_two(b, x)
def sigmoid_nearly(b, x: Val, t) -> Val: return reciprocal(b, b.add(power_of_two(b, b.mul(x, -LOG2E)), 1.0))


def tanh_nearly(b, x: Val, t) -> Val:
    if t is dt.bfloat16 and b.isa.has("tanh"):
        b.declared["llvm.tanh.f32"] = "declare float @llvm.tanh.f32(float)"
        return b.emit(f"call afn float @llvm.tanh.f32({x})", dt.float32)
    return _tanh(b, x, lambda e: b.mul(reciprocal(b, b.add(e, 1.0)), 2.0), lambda b, v: exp_nearly(b, v, t))


SINGLE = {"exp": exp, "exp2": exp2, "sigmoid": sigmoid, "tanh": tanh}
NEARLY = {"exp": exp_nearly, "exp2": exp2_nearly, "sigmoid": sigmoid_nearly, "tanh": tanh_nearly}


def method(name: str):
    """A builder's method that takes its core where there is one for the dtype."""
    usual, single, nearly = getattr(Builder, name), SINGLE[name], NEARLY[name]

    def function(self, x: Val) -> Val:
        if x.n > 1 or x.parts or x.dtype not in (dt.float32, *HALVES): return usual(self, x)
        return single(self, x) if x.dtype is dt.float32 else self._widen(lambda v: nearly(self, v, x.dtype), x)
    function.__name__ = name
    return function
