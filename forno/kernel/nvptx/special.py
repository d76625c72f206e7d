"""The error function, its complement, its inverse, and the gamma function's logarithm and derivative on a GPU, in float32.

Comes in: a builder and float32 values. Goes out: a float32. Errors stand in cores.py; the CPU computes all but erf in float64, of which most GPUs have little.
"""
from __future__ import annotations

import math as m

from .. import math
from ..text import Val
from .angles import tan_short
from .exponentials import log, scaled_exp
from .seeds import INF, logarithm, power_of_two, quotient, reciprocal, root, smaller

PI, NAN = m.pi, float("nan")
CENTER = 4.0                                   # erfc is a polynomial of (t - CENTER) / (t + CENTER), but for what it falls by
LAST = 10.1                                    # where it is 0 in float32
ERF = (7.806903e-05, -0.0007997853, 0.005187162, -0.026853347, 0.11283579, -0.37612626, 0.12837917)
ERF_FAR = (0.00027760706, -0.0043403627, 0.03186561, -0.1495212, -0.91974276, -1.6266025, -0.0003530471)
ERFC = (0.0011197086, 0.007600273, -0.015573063, 0.03621921, -0.066838846, 0.0938289, -0.1009562, 0.06809492, 0.015375453, -0.13962112, 1.2329952)
ERFINV = (-3.237709e-10, 1.7774935e-09, 3.4710805e-08, -4.159166e-07, -5.413814e-07, 5.080016e-05, -0.00043878346, -0.0018700939, 0.17137195, 1.4831394)
ERFINV_END = (0.0, -4.8137023e-05, -2.954908e-06, 0.0004601452, -0.0012135896, 0.0021082142, -0.0034584587, 0.0054100296, 0.8350986, 2.913621)
LGAMMA = (5.0120045e-05, -0.00021543387, 0.0005275104, -0.0011982139, 0.0028892697, -0.0073862057, 0.020580847, -0.067352064, 0.32246703, 0.42278433)
SINPI = (0.07969464, -0.599367, 2.550259, -5.1677203, 3.1415927)
UP = 2.0 ** 24                                 # what makes denormals normal
STIRLING = (1 / 1260, -1 / 360, 1 / 12)
HALF_LOG_TAU = 0.9189385332046727


# ---- error functions
def erf(b, x: Val) -> Val:
    """1 - 2^(a polynomial), and another polynomial where that would cancel."""
    a, z = smaller(b, b.abs(x), b.const(4.0, x)), b.mul(x, x)
    far = b.sub(1.0, power_of_two(b, math.poly(b, a, *ERF_FAR)))
    return b.select(b.gt(b.abs(x), 1.0), b.copysign(far, x), b.fma(math.poly(b, z, *ERF), x, x))


def erfc(b, x: Val) -> Val:
    """e^(-t²) / (1 + 2t) · polynomial; the square's rounding goes into the exponent. (Shepherd and Laframboise, 1981.)"""
    t = smaller(b, b.abs(x), b.const(LAST, x))
    p = math.poly(b, quotient(b, b.sub(t, CENTER), b.add(t, CENTER)), *ERFC)
    s = b.mul(t, t)
    y = b.mul(quotient(b, p, b.fma(t, 2.0, 1.0)), scaled_exp(b, b.neg(s), low=b.fma(b.neg(t), t, s)))
    y = b.select(b.lt(x, 0.0), b.sub(2.0, y), y)
    return b.select(b.ge(b.abs(x), 0.5), y, b.sub(1.0, b.fma(math.poly(b, b.mul(x, x), *ERF), x, x)))        # NaN, too


def erfinv(b, x: Val) -> Val:
    """x times a polynomial of w = -log2(1 - x²), or of √w towards the ends (Giles, 2010)."""
    w = b.neg(logarithm(b, b.fma(b.neg(x), x, 1.0)))
    middle = b.lt(w, 7.0)
    s = b.select(middle, b.sub(w, 3.5), b.sub(root(b, w), 3.7))
    p = b.select(middle, b.const(ERFINV[0], x), ERFINV_END[0])
    for c, d in zip(ERFINV[1:], ERFINV_END[1:]): p = b.fma(p, s, b.select(middle, b.const(c, x), d))
    return b.mul(x, b.select(b.eq(b.abs(x), 1.0), b.const(INF, x), p))


# ---- gamma functions
def lgamma(b, x: Val) -> Val:
    """log|Γ(x)|: of 2 + u by a polynomial, and by Stirling's series from 8 up; in between, and below, by the logarithm of what is passed on the way."""
    minus = b.lt(x, 0.0)
    y = b.abs(x)
    u, product, up = _near_two(b, y)
    large = b.ge(y, 8.0)
    l = log(b, b.select(large, y, product))
    near = b.fma(u, math.poly(b, u, *LGAMMA), b.select(up, l, b.neg(l)))
    w = reciprocal(b, y)
    series = b.fma(w, math.poly(b, b.mul(w, w), *STIRLING), HALF_LOG_TAU)
    half = b.mul(l, 0.5)
    term = b.mul(b.sub(y, 0.5), half)
    far = b.add(b.add(b.sub(term, y), series), term)
    out = b.select(large, far, near)
    out = b.choose(minus, lambda: _reflected(b, x, out), lambda: out)
    return b.select(b.eq(b.abs(x), INF), b.const(INF, x), out)


def _near_two(b, y: Val) -> tuple[Val, Val, Val]:
    """(u, product, up?) with Γ(y) = Γ(2 + u) · product if up, else / product; u between -1/2 and 1, for y up to 8"""
    low, middle = b.lt(y, 0.5), b.lt(y, 1.5)
    below = b.select(low, b.fma(y, y, y), b.select(middle, y, 1.0))
    u, product = y, b.const(1, y)
    for k in range(5):
        step = b.ge(u, 3.0)
        u = b.select(step, b.sub(u, 1.0), u)
        product = b.select(step, b.mul(product, u), product)
    start = b.select(low, b.const(0, y), b.select(middle, b.const(1, y), 2.0))
    return b.sub(u, start), b.select(middle, below, product), b.not_(middle)


def _reflected(b, x: Val, out: Val) -> Val:
    """log(π / |x · sin(πx)|) - log Γ(|x|)"""
    f = b.abs(_fraction(b, x))
    sine = b.mul(math.poly(b, b.mul(f, f), *SINPI), f)
    return b.select(b.eq(f, 0.0), b.const(INF, x), b.sub(b.sub(b.sub(m.log(PI), log(b, sine)), log(b, b.abs(x))), out))


def _fraction(b, x: Val) -> Val: return b.sub(x, b.intrinsic("roundeven", x))


def digamma(b, x: Val) -> Val:
    """Γ'/Γ: the asymptotic series from 6 up; below, six reciprocals as one fraction: with t = x² + 5x they are (2x + 5)(1/t + 1/(t + 4) + 1/(t + 6))."""
    minus = b.lt(x, 0.0)
    y = b.select(minus, b.sub(1.0, x), x)
    small = b.lt(y, 6.0)
    t = b.fma(y, y, b.mul(y, 5.0))
    top = b.mul(b.fma(y, 2.0, 5.0), b.fma(t, b.fma(t, 3.0, 20.0), 24.0))
    passed = b.mul(top, reciprocal(b, b.mul(t, b.fma(t, b.add(t, 10.0), 24.0))))
    y = b.select(small, b.add(y, 6.0), y)
    w = reciprocal(b, y)
    z = b.mul(w, w)
    series = b.mul(z, math.poly(b, z, 1 / 252, -1 / 120, 1 / 12))
    out = b.sub(b.sub(b.fma(w, -0.5, log(b, y)), series), b.select(small, passed, b.const(0, x)))
    out = b.choose(minus, lambda: b.sub(out, _cotangent(b, x)), lambda: out)
    return b.select(b.eq(x, 0.0), b.copysign(b.const(INF, x), b.neg(x)), out)


def _cotangent(b, x: Val) -> Val:
    """π / tan(πx); NaN at whole numbers"""
    f = _fraction(b, x)
    a = b.abs(f)
    far = b.gt(a, 0.25)
    t = tan_short(b, b.mul(b.select(far, b.sub(0.5, a), a), PI))
    y = b.select(far, b.mul(t, PI), b.mul(reciprocal(b, b.mul(t, UP)), PI * UP))
    y = b.copysign(y, f)
    return b.select(b.eq(f, 0.0), b.const(NAN, x), y)


SINGLE = {f.__name__: f for f in (erf, erfc, erfinv, lgamma, digamma)}
