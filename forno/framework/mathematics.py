"""Mathematical functions that are a few rows, with PyTorch's arguments."""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..core.state import state
from ..dnn import elementwise as ew
from ..dnn import functions as fns
from ..dnn import special as sp
from . import creation, functions as fn, views
from .bind import apply
from .results import named
from .tensor import Tensor
from .views import shape_of

_LARGEST = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38, "float32": 3.4028234663852886e38, "float64": 1.7976931348623157e308}


def nan_to_num(input, nan=None, posinf=None, neginf=None):
    if input.dtype.category < dt.FLOAT: return views.clone(input)
    top = _LARGEST[input.dtype.real.name]
    return apply(ew.nan_to_num, input, 0.0 if nan is None else float(nan), top if posinf is None else float(posinf), -top if neginf is None else float(neginf))


def inexact(x): return x if x.dtype.category >= dt.FLOAT else fn.to(x, state.default_dtype)


def logit(input, eps=None):
    if input.dtype.is_complex: raise NotImplementedError(f"\"logit_cpu\" not implemented for '{ew.TITLES[input.dtype.name]}'")
    x = inexact(input)
    if eps is not None: x = fn.clamp(x, eps, 1 - eps) if eps <= 1 - eps else fn.clamp(x, 1 - eps, eps)
    return apply(fns.log, apply(ew.div, x, apply(ew.add, apply(ew.neg, x), 1)))


def mvlgamma(input, p):
    x = inexact(input)
    if p < 1: raise RuntimeError("p has to be greater than or equal to 1")
    steps = creation.arange(0, -p / 2, -0.5, dtype=x.dtype)
    return fn.add(fn.sum(apply(sp.lgamma, fn.add(views.unsqueeze(x, -1), steps)), -1), p * (p - 1) / 4 * math.log(math.pi))


def polygamma(n, input):
    if n < 0: raise RuntimeError("polygamma(n, x) does not support negative n.")
    if n == 0: return apply(sp.digamma, input)
    x = inexact(input)
    return apply(sp.polygamma, apply(fn.mv.full, attr=((), x.dtype, float(n))), x)


def polygamma_method(self, n): return polygamma(n, self)


def ldexp(input, other):
    if not isinstance(input, Tensor): raise TypeError(f"ldexp(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
    if not isinstance(other, Tensor): raise TypeError(f"ldexp(): argument 'other' (position 2) must be Tensor, not {type(other).__name__}")
    return apply(ew.mul, input, fn.pow(2.0, other))


def frexp(input):
    if input.dtype.category != dt.FLOAT: raise RuntimeError("torch.frexp() only supports floating-point dtypes")
    wide = fn.to(input, dt.float64)
    size = apply(ew.abs_, wide)
    plain = apply(ew.logical_and, apply(ew.isfinite, wide), apply(ew.ne, wide, 0))
    exponent = fn.where(plain, fn.add(apply(ew.floor, apply(fns.log2, fn.where(plain, size, 1.0))), 1), 0.0)
    half = apply(ew.mul, apply(ew.mul, wide, fn.pow(2.0, apply(ew.floor, apply(ew.mul, exponent, -0.5)))), fn.pow(2.0, fn.sub(apply(ew.neg, exponent), apply(ew.floor, apply(ew.mul, exponent, -0.5)))))
    big = apply(ew.logical_and, plain, apply(ew.ge, apply(ew.abs_, half), 1.0))
    small = apply(ew.logical_and, plain, apply(ew.lt, apply(ew.abs_, half), 0.5))
    half = fn.where(big, apply(ew.mul, half, 0.5), fn.where(small, apply(ew.mul, half, 2.0), half))
    exponent = fn.add(exponent, fn.sub(fn.to(big, dt.float64), fn.to(small, dt.float64)))
    return named("frexp", mantissa=fn.to(fn.where(plain, half, wide), input.dtype), exponent=fn.to(exponent, dt.int32))


def float_power(input, exponent):
    kind = dt.complex128 if any(isinstance(x, complex) or isinstance(x, Tensor) and x.dtype.is_complex for x in (input, exponent)) else dt.float64
    a, b = (fn.to(x, kind) if isinstance(x, Tensor) else (complex(x) if kind.is_complex else float(x)) for x in (input, exponent))
    return fn.pow(a, b)


def positive(input):
    if input.dtype is dt.bool: raise RuntimeError("The `+` operator, on a bool tensor is not supported.")
    return input


def sum_to_size(self, *size):
    size = views.ints(size)
    if not size: return fn.sum(self)
    lead = self.ndim - len(size)
    if lead < 0 or any(n not in (1, m) for n, m in zip(size, shape_of(self)[lead:])):
        raise RuntimeError(f"size {{{list(size)}}} is not expandable to size {{{list(shape_of(self))}}}.")
    dims = tuple(range(lead)) + tuple(d for d in range(lead, self.ndim) if size[d - lead] == 1 and shape_of(self)[d] != 1)
    return views.reshape(fn.sum(self, dims, True) if dims else self, size)
