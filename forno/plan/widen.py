"""Graph in, graph out: convolutions of float16 and bfloat16 become convolutions of float32 between conversions.

Sums are taken in float32 in any case and rounded once, at the end. What is converted outside is converted once, in the loops that make a value, where a
convolution would do it for every panel that it packs; and float32 has the better algorithms (kernel/winograd.py). Matrix products have kernels of their own
for bfloat16.
"""
from __future__ import annotations

from ..core.dtype import bfloat16, float16, float32
from ..core.graph import Value
from .expand import replaced, rewrite, share
from .simplify import make


def narrow_convolution(v: Value) -> bool: return v.op is not None and v.op.name in ("conv", "conv_input", "conv_weight") and v.dtype in (bfloat16, float16)


def widen(outputs: list[Value]) -> list[Value]:
    found = []

    def rule(v, ins):
        v = replaced(v, ins)
        if not narrow_convolution(v): return v
        found.append(v)
        operands = tuple([make("cast", x, attr=float32, dtype=float32) for x in v.ins])
        return make("cast", Value(v.op, operands, v.attr, float32, v.shape), attr=v.dtype, dtype=v.dtype)
    widened = rewrite(outputs, rule)
    return share(widened) if found else outputs
