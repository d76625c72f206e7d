"""Convolutions as products whose image operand is read where it lies.

Comes in: core.kernels.Conv, any of its three directions. Goes out: a DeviceLaunch of one of the products' kernels, groups being its batch:

  forward  (channels of y) × (images, pixels of y), summed over channels of x and taps
  input    (channels of x) × (images, pixels of x), summed over channels of y and taps; a pixel that the stride passes by is 0
  weight   (channels of y) × (channels of x, taps), summed over images and pixels of y
"""
from __future__ import annotations

import math
from dataclasses import replace

from ...core.kernels import Conv, DeviceLaunch
from ...core.state import state
from ...cpu.isa import Isa
from . import gemm
from .product import Axis, Digit, Product, Source


def build(c: Conv, isa: Isa) -> DeviceLaunch: return gemm.launch(replace(product_of(c), rounding=state.tf32[1]), isa)


def product_of(c: Conv) -> Product:
    channels, kernels, taps = c.c // c.groups, c.k // c.groups, math.prod(c.taps)
    x, y = math.prod(c.size), math.prod(c.out)
    single = c.taps == c.stride == (1, 1, 1) and not any(c.padding)         # is every pixel made of one pixel? Then they are one row
    used = [] if single else [d for d in range(3) if not c.size[d] == c.out[d] == c.taps[d] == 1 or c.padding[d]]      # axes along which anything moves
    weights, moved = kernels * channels * taps, c.dtype.size * (c.n * (c.c * x + c.k * y) + c.k * channels * taps)

    def steps(size): return size[1] * size[2], size[2], 1

    def along(counts, by) -> tuple[Digit, ...]:
        """Digits of which each moves a coordinate."""
        return tuple([Digit(counts[d], by[d], n) for n, d in enumerate(used)])

    of_image, of_result = c.c * x, c.k * y
    read = tuple([Axis(-c.padding[d], c.size[d], steps(c.size)[d]) for d in used])
    pixels, shifts = (Digit(y, 1),) if single else along(c.out, c.stride), along(c.taps, c.dilation)
    if c.which == "forward":
        m, n, k = kernels, c.n * y, channels * taps
        a = Source(1, c.dtype, (Digit(m, k),), (Digit(k, 1),), True, 0, (weights,))
        b = Source(0, c.dtype, (Digit(c.n, of_image), *pixels), (Digit(channels, x), *shifts), False, 0, (channels * x,), read)
        out = Source(2, c.dtype, (Digit(m, y),), (Digit(c.n, of_result), Digit(y, 1)), True, 0, (kernels * y,))
    elif c.which == "input":
        m, n, k = channels, c.n * x, kernels * taps
        written = tuple([Axis(c.padding[d], c.out[d], steps(c.out)[d], c.stride[d]) for d in used])
        each = (Digit(taps, 1),) if taps > 1 else ()
        a = Source(1, c.dtype, (Digit(m, taps),), (Digit(kernels, channels * taps), *each), taps > 1, 0, (weights,))
        b = Source(0, c.dtype, (Digit(c.n, of_result), *(pixels if single else along(c.size, (1, 1, 1)))),
                   (Digit(kernels, y), *along(c.taps, [-d for d in c.dilation])), False, 0, (kernels * y,), written)
        out = Source(2, c.dtype, (Digit(m, x),), (Digit(c.n, of_image), Digit(x, 1)), True, 0, (channels * x,))
    else:
        m, n, k = kernels, channels * taps, c.n * y
        a = Source(0, c.dtype, (Digit(m, y),), (Digit(c.n, of_result), Digit(y, 1)), True, 0, (kernels * y,))
        b = Source(1, c.dtype, (Digit(channels, x), *shifts), (Digit(c.n, of_image), *pixels), True, 0, (channels * x,), read)
        out = Source(2, c.dtype, (Digit(m, n),), (Digit(n, 1),), True, 0, (weights,))
    if c.n * x * y == 0: k = 0                 # nothing to read
    return Product((c.groups,), m, n, k, a, b, out, c.operands, c.dtype, c.epilogue, bias=3 if c.bias else 0, of_images=c.which == "forward", bytes=moved)
