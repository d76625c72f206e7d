"""Kernels of your own, written in Python, for the CPU and for GPUs: docs/kernels.md.

    from forno import kernels

    @kernels.elementwise
    def swiglu(x, y, slope): return x * kernels.sigmoid(slope * x) * y

The decorators are `elementwise` and `row`; the functions stand for those of tensors inside of what they decorate, and are those of tensors outside.
"""
from __future__ import annotations

from .framework import api as torch
from .framework.programs import elementwise as elementwise, on_elements, row as row

FUNCTIONS = """abs acos acosh asin asinh atan atan2 atanh bitwise_and bitwise_not bitwise_or bitwise_xor ceil clamp copysign cos cosh digamma erf erfc erfinv exp exp2 expm1 floor
               fmax fmin fmod gelu hypot isfinite isinf isnan lgamma log log10 log1p log2 logaddexp logical_and logical_not logical_or logical_xor logsigmoid maximum minimum mish
               pow reciprocal relu remainder round rsqrt sigmoid sign silu sin sinc sinh softplus sqrt square tan tanh trunc where""".split()


def _function(name: str):
    """A function of elements inside of a kernel, of tensors outside."""
    def f(*args):
        found = on_elements(name, args)
        return getattr(torch, name)(*args) if found is None else found
    f.__name__ = f.__qualname__ = name
    return f


globals().update({name: _function(name) for name in FUNCTIONS})
