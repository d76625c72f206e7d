"""The functions of a GPU's kernels: which of them are its own, and how far they are from the exact result.

Comes in: a builder and values. Goes out: a value. SINGLE are for float32; for half types they are computed in float32 and rounded, unless NEARLY has a shorter
way, whose errors the rounding hides but near ties. DOUBLE are for float64, the rest of which is as on the CPU (kernel/math.py, circular.py, special.py, with
their bounds). Division and square roots are rounded correctly.

docs/ptx.md has a table of errors: of the formulas, with instructions that are exact, and of all, with instructions that err as far as PTX's manual lets them.
"""
from __future__ import annotations

from ...core import dtype as dt
from .. import math
from ..builder import Builder, HALVES
from ..text import Val
from . import angles, exponentials, remainder, special
from .exponentials import LN2, LOG2E
from .seeds import logarithm, power_of_two, reciprocal


# ---- for half types: relative errors below 2^-16; results below 2^-126 are 0. tanh of bfloat16: 2^-11, logarithms of bfloat16: 2^-15 near 1
def exp_nearly(b, x: Val, t) -> Val: return power_of_two(b, b.mul(x, LOG2E))
def exp2_nearly(b, x: Val, t) -> Val: return power_of_two(b, x)
def sigmoid_nearly(b, x: Val, t) -> Val: return reciprocal(b, b.add(power_of_two(b, b.mul(x, -LOG2E)), 1.0))


def tanh_nearly(b, x: Val, t) -> Val:
    if t is not dt.bfloat16 or not b.isa.has("tanh"): return exponentials.tanh(b, x)
    b.declared["llvm.tanh.f32"] = "declare float @llvm.tanh.f32(float)"
    return b.emit(f"call afn float @llvm.tanh.f32({x})", dt.float32)


def _log_nearly(name: str, factor: float):
    def function(b, x: Val, t) -> Val:
        if t is not dt.bfloat16: return SINGLE[name](b, x)
        y = logarithm(b, x)
        return y if factor == 1 else b.mul(y, factor)
    return function


SINGLE = {**{name: getattr(exponentials, name) for name in math.FUNCTIONS}, **angles.SINGLE, **special.SINGLE, **remainder.SINGLE}
DOUBLE = angles.DOUBLE
NEARLY = {"exp": exp_nearly, "exp2": exp2_nearly, "sigmoid": sigmoid_nearly, "tanh": tanh_nearly, "log": _log_nearly("log", LN2), "log2": _log_nearly("log2", 1),
          "log10": _log_nearly("log10", 0.30102999566398119521)}


def method(name: str):
    """A builder's method that takes its core where there is one for the dtype."""
    usual, single, nearly, double = getattr(Builder, name), SINGLE[name], NEARLY.get(name), DOUBLE.get(name)

    def function(self, *xs) -> Val:
        x = next(v for v in xs if isinstance(v, Val))
        t = x.dtype
        if x.n > 1 or x.parts or not (t is dt.float32 or t in HALVES or double and t is dt.float64): return usual(self, *xs)
        xs = [self.value(v, x) for v in xs]
        if t in HALVES: return self._widen(lambda *vs: nearly(self, *vs, t) if nearly else single(self, *vs), *xs)
        return (single if t is dt.float32 else double)(self, *xs)
    function.__name__ = name
    return function
