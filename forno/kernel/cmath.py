"""Arithmetic and functions of complex numbers, as pairs of real values on a Builder.

Comes in: Vals with parts (re, im). Goes out: the same, or a real Val where PyTorch gives one (abs, angle).
Inverse functions are Kahan's, continuous from the side that the sign of a zero says; infinities and NaN give what C (Annex G) and so PyTorch gives.
complex64 multiplies and divides as PyTorch does, in float32.
"""
from __future__ import annotations

import math as m

from ..core import dtype as dt


def add(b, x, y): return b.pair(b.add(x.re, y.re), b.add(x.im, y.im))
def sub(b, x, y): return b.pair(b.sub(x.re, y.re), b.sub(x.im, y.im))
def mul(b, x, y): return b.pair(b.sub(b.mul(x.re, y.re), b.mul(x.im, y.im)), b.add(b.mul(x.re, y.im), b.mul(x.im, y.re)))


def div(b, x, y):
    """Both scaled by the larger part of y, so that squares stay in range. By zero: the parts go to infinity or NaN one by one; by one infinite part: to zero."""
    size = b.max(b.abs(y.re), b.abs(y.im))
    zero, one = b.eq(size, 0.0), b.const(1, size)
    s = b.select(zero, one, size)
    c, d = [b.select(b.eq(b.abs(v), float("inf")), b.copysign(one, v), b.div(v, s)) for v in (y.re, y.im)]
    c = b.select(zero, one, c)
    norm = b.select(zero, 0.0, b.mul(b.add(b.mul(c, c), b.mul(d, d)), s))
    norm = b.select(b.and_(b.isinf(y.re), b.isinf(y.im)), m.nan, norm)
    return b.pair(b.div(b.add(b.mul(x.re, c), b.mul(x.im, d)), norm), b.div(b.sub(b.mul(x.im, c), b.mul(x.re, d)), norm))


def abs(b, x): return b.hypot(x.re, x.im)
def angle(b, x): return b.atan2(x.im, x.re)
def times_i(b, x): return b.pair(b.neg(x.im), x.re)
def over_i(b, x): return b.pair(x.im, b.neg(x.re))


def plus(b, x, k): return b.pair(b.add(x.re, k), x.im)          # and a real number: a zero keeps its sign
def less(b, k, x): return b.pair(b.sub(k, x.re), b.neg(x.im))
def infinite(b, x): return b.or_(b.isinf(x.re), b.isinf(x.im))
def lost(b, angle): return b.not_(b.isfinite(angle))            # it has no sine


def exp(b, x):
    """A real exponent keeps its zero imaginary part, whatever the size; an infinite one asks for no angle."""
    e, any_angle = b.exp(x.re), b.and_(b.isinf(x.re), lost(b, x.im))
    flat = b.or_(b.eq(x.im, 0.0), b.and_(any_angle, b.lt(x.re, 0.0)))
    zero = b.copysign(b.const(0, x.re), x.im)
    return b.pair(b.select(any_angle, e, b.mul(e, b.cos(x.im))), b.select(flat, zero, b.mul(e, b.sin(x.im))))


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

def log1p(b, x):
    """Half the log1p of (2 + re) · re + im² near zero."""
    out, square = log(b, plus(b, x, 1.0)), b.mad(b.add(x.re, 2.0), x.re, b.mul(x.im, x.im))
    near = b.lt(abs(b, x), 0.5)
    small = b.select(b.eq(square, 0.0), x.re, b.mul(b.log1p(b.select(near, square, 0.0)), 0.5))
    return b.pair(b.select(b.isnan(x), m.nan, b.select(near, small, out.re)), out.im)




def sqrt(b, x):
    """The larger part from √((|x| + |re|) / 2), the other by division; the root with a non-negative real part."""
    a = b.abs(x.re)
    t = b.sqrt(b.mul(b.add(b.mul(abs(b, x), 0.5), b.mul(a, 0.5)), 1.0))
    other = b.div(b.abs(x.im), b.mul(b.select(b.eq(t, 0.0), b.const(1, t), t), 2.0))
    right, up = b.not_(b.signbit(x.re)), b.isinf(x.im)
    return b.pair(b.select(up, b.abs(x.im), b.select(right, t, other)), b.select(up, x.im, b.copysign(b.select(right, other, t), x.im)))


def rsqrt(b, x): return div(b, b.const(1, x), sqrt(b, x))


def pow(b, x, y):
    """exp(y · log x). 0 to a power with a positive real part is 0, with a negative one infinite; to any other, 0 among them, it is no number."""
    zero = b.and_(b.eq(x.re, 0.0), b.eq(x.im, 0.0))
    out = exp(b, mul(b, y, log(b, b.select(zero, b.const(1, x), x))))
    nan = b.const(m.nan, x.re)
    pole = b.pair(b.select(b.lt(y.re, 0.0), b.const(m.inf, x.re), nan), nan)
    return b.select(zero, b.select(b.gt(y.re, 0.0), b.const(0, x), pole), out)


def sinh(b, x):
    edge = b.and_(lost(b, x.im), b.or_(b.eq(x.re, 0.0), b.isinf(x.re)))
    return b.pair(b.select(edge, x.re, b.mul(b.sinh(x.re), b.cos(x.im))), b.select(b.eq(x.im, 0.0), x.im, b.mul(b.cosh(x.re), b.sin(x.im))))


def cosh(b, x):
    gone, flat = lost(b, x.im), b.or_(b.eq(x.re, 0.0), b.eq(x.im, 0.0))
    zero = b.copysign(b.const(0, x.re), b.mul(b.copysign(b.const(1, x.re), x.re), b.copysign(b.const(1, x.re), x.im)))
    im = b.select(b.and_(flat, b.or_(gone, b.eq(x.im, 0.0))), zero, b.mul(b.sinh(x.re), b.sin(x.im)))
    return b.pair(b.select(b.and_(gone, b.isinf(x.re)), b.abs(x.re), b.mul(b.cosh(x.re), b.cos(x.im))), im)


def sin(b, x): return over_i(b, sinh(b, times_i(b, x)))
def cos(b, x): return cosh(b, times_i(b, x))


def tanh(b, x):
    """(sinh re · cosh re + i sin im · cos im) / (sinh² re + cos² im); far out it is ±1."""
    far, gone = b.gt(b.abs(x.re), 40.0 if x.re.dtype is dt.float32 else 350.0), lost(b, x.im)
    near, cos = b.select(far, 0.0, x.re), b.cos(x.im)
    sinh, turn = b.sinh(near), b.mul(b.sin(x.im), cos)
    low = b.add(b.mul(sinh, sinh), b.mul(cos, cos))
    re = b.select(b.and_(gone, b.eq(x.re, 0.0)), x.re, b.div(b.mul(sinh, b.cosh(near)), low))
    zero = b.copysign(b.const(0, x.re), b.select(gone, x.im, turn))
    return b.pair(b.select(far, b.copysign(b.const(1, x.re), x.re), re), b.select(b.or_(far, b.eq(x.im, 0.0)), zero, b.div(turn, low)))


def tan(b, x): return over_i(b, tanh(b, times_i(b, x)))
def sigmoid(b, x): return div(b, b.const(1, x), add(b, b.const(1, x), exp(b, b.neg(x))))


def asin(b, x):
    """An infinite argument has an infinite imaginary part and the angle of its quadrant."""
    p, q = sqrt(b, less(b, 1.0, x)), sqrt(b, plus(b, x, 1.0))
    re = b.atan2(x.re, b.sub(b.mul(p.re, q.re), b.mul(p.im, q.im)))
    im = b.asinh(b.sub(b.mul(p.re, q.im), b.mul(p.im, q.re)))
    far = infinite(b, x)
    return b.pair(b.select(b.eq(x.re, 0.0), x.re, b.select(far, b.atan2(x.re, b.abs(x.im)), re)), b.select(far, b.copysign(b.const(m.inf, x.im), x.im), im))


def acos(b, x):
    p, q = sqrt(b, less(b, 1.0, x)), sqrt(b, plus(b, x, 1.0))
    re = b.mul(b.atan2(p.re, q.re), 2.0)
    im = b.asinh(b.sub(b.mul(q.re, p.im), b.mul(q.im, p.re)))
    far, middle = infinite(b, x), b.and_(b.eq(x.re, 0.0), b.isnan(x.im))
    re = b.select(far, b.atan2(b.abs(x.im), x.re), b.select(middle, m.pi / 2, re))
    return b.pair(re, b.select(far, b.copysign(b.const(m.inf, x.im), b.neg(x.im)), im))


def acosh(b, x):
    p, q = sqrt(b, plus(b, x, -1.0)), sqrt(b, plus(b, x, 1.0))
    re = b.asinh(b.add(b.mul(p.re, q.re), b.mul(p.im, q.im)))
    im = b.mul(b.atan2(p.im, q.re), 2.0)
    far, middle = infinite(b, x), b.and_(b.eq(x.re, 0.0), b.isnan(x.im))
    return b.pair(b.select(far, m.inf, re), b.select(far, b.atan2(x.im, x.re), b.select(middle, m.pi / 2, im)))


def atanh(b, x):
    a = b.abs(x.re)
    left, square, far = b.sub(1.0, a), b.mul(x.im, x.im), infinite(b, x)
    gap = b.mad(left, left, square)
    close = b.lt(gap, 1e-30 if a.dtype is dt.float32 else 1e-290)            # to ±1, where squares vanish
    re = b.mul(b.log1p(b.div(b.mul(a, 4.0), b.select(close, 1.0, gap))), 0.25)
    re = b.select(close, b.mul(b.sub(m.log(2), b.log(b.hypot(left, x.im))), 0.5), re)
    im = b.mul(b.atan2(b.mul(x.im, 2.0), b.sub(b.mul(left, b.add(a, 1.0)), square)), 0.5)
    quarter = b.copysign(b.const(m.pi / 2, a), x.im)
    return b.pair(b.copysign(b.select(b.or_(far, b.eq(a, 0.0)), 0.0, re), x.re), b.select(b.and_(far, b.not_(b.isnan(x.im))), quarter, im))


def asinh(b, x): return over_i(b, asin(b, times_i(b, x)))
def atan(b, x): return over_i(b, atanh(b, times_i(b, x)))


def sgn(b, x):
    size = abs(b, x)
    zero = b.eq(size, 0.0)
    s = b.select(zero, b.const(1, size), size)
    return b.pair(b.div(x.re, s), b.div(x.im, s))
