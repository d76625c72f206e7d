"""What tuning may try (cpu/tune.py): a kernel's other words, by name.

A choice moves no sum: blocks and orders that are offered add up every element as the usual ones do, so that results depend on nothing that was measured.
"""
from __future__ import annotations

from ..core.kernels import Choices, Conv

FLOPS = 2_000_000                              # of smaller kernels nothing is offered: looking would cost more than it could save


def of_conv(c: Conv, names: tuple[str, ...], build) -> Choices:
    """`build(c, name)`: the Launch of that choice."""
    kernel = (f"convolution {c.which} {c.dtype} {c.n}x{c.c}x{c.size} {c.k}/{c.groups} {c.taps} {c.stride} {c.padding} {c.dilation} {c.bias}; "
              f"{c.epilogue and c.epilogue.label}")

    def make(name):
        launch = build(c, name)
        return launch.words, launch.scratch, launch.shared
    return Choices(kernel, lambda: names, make)
