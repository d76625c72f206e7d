"""Arithmetic and functions of complex numbers, as pairs of real values on a Builder.

Comes in: Vals with parts (re, im). Goes out: the same, or a real Val where PyTorch gives one (abs, angle).
Formulas of the textbook; NaN and infinity follow from their parts. complex64 multiplies and divides as PyTorch does, in float32.
"""
from __future__ import annotations

import math as m

from ..core import dtype as dt


def add(b, x, y): return b.pair(b.add(x.re, y.re), b.add(x.im, y.im))
def sub(b, x, y): return b.pair(b.sub(x.re, y.re), b.sub(x.im, y.im))
def mul(b, x, y): return b.pair(b.sub(b.mul(x.re, y.re), b.mul(x.im, y.im)), b.add(b.mul(x.re, y.im), b.mul(x.im, y.re)))


def div(b, x, y):
    """Both scaled by the larger part of y, so that squares stay in range. By zero: the parts go to infinity or NaN one by one; by infinity: to zero."""
    size = b.max(b.abs(y.re), b.abs(y.im))
    zero, one = b.eq(size, 0.0), b.const(1, size)
    s = b.select(zero, one, size)
    c, d = [b.select(b.eq(b.abs(v), float("inf")), b.copysign(one, v), b.div(v, s)) for v in (y.re, y.im)]
    c = b.select(zero, one, c)
    norm = b.select(zero, 0.0, b.mul(b.add(b.mul(c, c), b.mul(d, d)), s))
    return b.pair(b.div(b.add(b.mul(x.re, c), b.mul(x.im, d)), norm), b.div(b.sub(b.mul(x.im, c), b.mul(x.re, d)), norm))


def abs(b, x): return b.hypot(x.re, x.im)
def angle(b, x): return b.atan2(x.im, x.re)
def times_i(b, x): return b.pair(b.neg(x.im), x.re)
def over_i(b, x): return b.pair(x.im, b.neg(x.re))


def exp(b, x):
    """A real exponent keeps its zero imaginary part, whatever the size."""
    e = b.exp(x.re)
    real = b.eq(x.im, 0.0)
    return b.pair(b.mul(e, b.cos(x.im)), b.select(real, x.im, b.mul(e, b.sin(x.im))))


def exp2(b, x): return exp(b, _scaled(b, x, m.log(2)))
def expm1(b, x):
    """(e^re - 1)·cos + (cos - 1), with cos - 1 as -2 sin²(im/2)."""
    half = b.sin(b.mul(x.im, 0.5))
    less = b.mul(b.mul(half, half), -2.0)
    t = b.expm1(x.re)
    return b.pair(b.add(b.mul(t, b.add(less, 1.0)), less), b.mul(b.add(t, 1.0), b.sin(x.im)))


def log(b, x):
    """log|x| from the squares where |x| is near 1, so that small logarithms keep their digits."""
    size = abs(b, x)
    hi, lo = b.max(b.abs(x.re), b.abs(x.im)), b.min(b.abs(x.re), b.abs(x.im))
    near = b.and_(b.gt(size, 0.5), b.lt(size, 2.0))
    square = b.mad(b.sub(hi, 1.0), b.add(hi, 1.0), b.mul(lo, lo))
    return b.pair(b.select(near, b.mul(b.log1p(b.select(near, square, 0.0)), 0.5), b.log(size)), angle(b, x))


def _scaled(b, x, k): return b.pair(b.mul(x.re, k), b.mul(x.im, k))
def log2(b, x): return _scaled(b, log(b, x), 1 / m.log(2))
def log10(b, x): return _scaled(b, log(b, x), 1 / m.log(10))
def log1p(b, x): return log(b, b.pair(b.add(x.re, 1.0), x.im))


def sqrt(b, x):
    """The larger part from √((|x| + |re|) / 2), the other by division; the root with a non-negative real part."""
    a = b.abs(x.re)
    t = b.sqrt(b.mul(b.add(b.mul(abs(b, x), 0.5), b.mul(a, 0.5)), 1.0))
    other = b.div(b.abs(x.im), b.mul(b.select(b.eq(t, 0.0), b.const(1, t), t), 2.0))
    right = b.not_(b.signbit(x.re))
    return b.pair(b.select(right, t, other), b.copysign(b.select(right, other, t), x.im))


def rsqrt(b, x): return div(b, b.const(1, x), sqrt(b, x))


def pow(b, x, y):
    """exp(y · log x). 0 to a power with a positive real part is 0, with a negative one infinite; to any other, 0 among them, it is no number."""
    zero = b.and_(b.eq(x.re, 0.0), b.eq(x.im, 0.0))
    out = exp(b, mul(b, y, log(b, b.select(zero, b.const(1, x), x))))
    nan = b.const(m.nan, x.re)
    pole = b.pair(b.select(b.lt(y.re, 0.0), b.const(m.inf, x.re), nan), nan)
    return b.select(zero, b.select(b.gt(y.re, 0.0), b.const(0, x), pole), out)


def sin(b, x): return b.pair(b.mul(b.sin(x.re), b.cosh(x.im)), b.mul(b.cos(x.re), b.sinh(x.im)))
def cos(b, x): return b.pair(b.mul(b.cos(x.re), b.cosh(x.im)), b.neg(b.mul(b.sin(x.re), b.sinh(x.im))))
def sinh(b, x): return over_i(b, sin(b, times_i(b, x)))
def cosh(b, x): return cos(b, times_i(b, x))


def tanh(b, x):
    """(sinh 2re + i sin 2im) / (cosh 2re + cos 2im); far out it is ±1."""
    two = _scaled(b, x, 2.0)
    far = b.gt(b.abs(two.re), 80.0 if x.re.dtype is dt.float32 else 700.0)
    low = b.add(b.cosh(b.select(far, 0.0, two.re)), b.cos(two.im))
    return b.pair(b.select(far, b.copysign(b.const(1, x.re), x.re), b.div(b.sinh(b.select(far, 0.0, two.re)), low)),
                  b.select(far, b.mul(x.im, 0.0), b.div(b.sin(two.im), low)))


def tan(b, x): return over_i(b, tanh(b, times_i(b, x)))
def sigmoid(b, x): return div(b, b.const(1, x), add(b, b.const(1, x), exp(b, b.neg(x))))


def asinh(b, x):
    """log(x + √(x² + 1)) on the right half, odd."""
    left = b.signbit(x.re)
    y = b.select(left, b.neg(x), x)
    out = log(b, add(b, y, sqrt(b, add(b, mul(b, y, y), b.const(1, x)))))
    return b.select(left, b.neg(out), out)


def asin(b, x): return over_i(b, asinh(b, times_i(b, x)))


def acos(b, x):
    s = asin(b, x)
    return b.pair(b.sub(m.pi / 2, s.re), b.neg(s.im))


def acosh(b, x):
    root = mul(b, sqrt(b, sub(b, x, b.const(1, x))), sqrt(b, add(b, x, b.const(1, x))))
    return log(b, add(b, x, root))


def atanh(b, x):
    one = b.const(1, x)
    return _scaled(b, sub(b, log1p(b, x), log(b, sub(b, one, x))), 0.5)


def atan(b, x): return over_i(b, atanh(b, times_i(b, x)))


def sgn(b, x):
    size = abs(b, x)
    zero = b.eq(size, 0.0)
    s = b.select(zero, b.const(1, size), size)
    return b.pair(b.div(x.re, s), b.div(x.im, s))
