"""Graph in, graph out: convolutions of float16 and bfloat16 become convolutions of float32 between conversions, or, with one tap, products of matrices.

Sums are taken in float32 in any case and rounded once, at the end. What is converted outside is converted once, in the loops that make a value, where a
convolution would do it for every panel that it packs; and float32 has the better algorithms (kernel/winograd.py). Products of matrices have kernels of their
own for bfloat16, twice as fast as float32's.
"""
from __future__ import annotations

import math

from ..core.dtype import bfloat16, float16, float32
from ..core.graph import Value
from ..core.shape import View, whole
from .expand import replaced, rewrite, share
from .simplify import make

CONVOLUTIONS = ("conv", "conv_input", "conv_weight")


def widen(outputs: list[Value]) -> list[Value]:
    found = []

    def rule(v, ins):
        v = replaced(v, ins)
        if v.op.name not in CONVOLUTIONS or v.dtype not in (bfloat16, float16): return v
        found.append(v)
        if single_tap(v): return product(v)
        operands = tuple([make("cast", x, attr=float32, dtype=float32) for x in v.ins])
        return make("cast", Value(v.op, operands, v.attr, float32, v.shape), attr=v.dtype, dtype=v.dtype)
    widened = rewrite(outputs, rule)
    return share(widened) if found else outputs


def single_tap(v: Value) -> bool:
    """Is every pixel of the result made of one pixel, and of nothing else?"""
    spec = v.attr
    return (v.op.name != "conv_weight" and len(v.ins) == 2 and v.ins[1].shape[2:] == (1,) * len(spec.stride) == spec.stride and spec.groups == 1
            and not any(spec.padding) and v.ins[0].shape[2:] == v.shape[2:])


def product(v: Value) -> Value:
    """Channels by channels times channels by pixels, for every image."""
    x, w = v.ins
    k, c = w.shape[:2]
    channels = whole((k, c)) if v.op.name == "conv" else View((c, k), (1, c), 0)
    matrix = make("view", w, attr=channels, shape=channels.shape)
    pixels = (*x.shape[:2], math.prod(x.shape[2:]))                              # (images, channels, pixels)
    images = make("view", x, attr=whole(pixels), shape=pixels)
    shape = (x.shape[0], matrix.shape[0], pixels[2])
    return make("view", make("matmul", matrix, images, attr=None, shape=shape), attr=whole(v.shape), shape=v.shape)
