"""The error function, its inverse, and the gamma function's logarithm and derivative, on a Builder's values; see math.py for the rules.

Coefficients: Juffa's erf for float32, fdlibm's for float64, Stirling's series for the gamma functions.
"""
from __future__ import annotations

import math as m

from ..core import dtype as dt
from .math import INF, NAN, at_least, at_most, exp, in_double, log, poly

FUNCTIONS = ("erf", "erfc", "erfinv", "lgamma", "digamma")


def erf(b, x):
    if x.dtype is dt.float64: return _erf_double(b, x)[0]
    t, q = b.abs(x), b.mul(x, x)
    r = b.mad(t, -1.72853470e-5, 3.83197126e-4)
    r = b.mad(r, q, b.mad(t, -3.88396438e-3, 2.42546219e-2))
    for c in (-1.06777877e-1, -6.34846687e-1, -1.28717512e-1): r = b.mad(r, t, c)
    far = b.sub(1.0, exp(b, b.mad(r, t, b.neg(t))))
    p = poly(b, q, -5.96761703e-4, 4.99119423e-3, -2.67681349e-2, 1.12819925e-1, -3.76125336e-1, 1.28379166e-1)
    far = b.select(b.gt(t, 4.0), b.const(1, x), far)
    return b.select(b.gt(t, 0.927734375), b.copysign(far, x), b.mad(p, x, x))


@in_double
def erfc(b, x): return _erf_double(b, x)[1]


def _erf_double(b, x):
    """(erf, erfc): four intervals, as in fdlibm."""
    a = b.abs(x)
    z = b.mul(x, x)
    near = b.div(poly(b, z, -2.37630166566501626084e-05, -5.77027029648944159157e-03, -2.84817495755985104766e-02, -3.25042107247001499370e-01,
                       1.28379167095512558561e-01),
                 poly(b, z, -3.96022827877536812320e-06, 1.32494738004321644526e-04, 5.08130628187576562776e-03, 6.50222499887672944485e-02,
                       3.97917223959155352819e-01, 1.0))
    s = b.sub(a, 1.0)
    middle = b.div(poly(b, s, -2.16637559486879084300e-03, 3.54783043256182359371e-02, -1.10894694282396677476e-01, 3.18346619901161753674e-01,
                         -3.72207876035701323847e-01, 4.14856118683748331666e-01, -2.36211856075265944077e-03),
                   poly(b, s, 1.19844998467991074170e-02, 1.36370839120290507362e-02, 1.26171219808761642112e-01, 7.18286544141962662868e-02,
                         5.40397917702171048937e-01, 1.06420880400844228286e-01, 1.0))
    far = at_most(b, at_least(b, a, 1.25), 30.0)
    s = b.div(1.0, b.mul(far, far))
    wide = b.lt(a, 1 / 0.35)
    top = (poly(b, s, -9.81432934416914548592e+00, -8.12874355063065934246e+01, -1.84605092906711035994e+02, -1.62396669462573470355e+02,
                 -6.23753324503260060396e+01, -1.05586262253232909814e+01, -6.93858572707181764372e-01, -9.86494403484714822705e-03),
           poly(b, s, -4.83519191608651397019e+02, -1.02509513161107724954e+03, -6.37566443368389627722e+02, -1.60636384855821916062e+02,
                 -1.77579549177547519889e+01, -7.99283237680523006574e-01, -9.86494292470009928597e-03))
    bottom = (poly(b, s, -6.04244152148580987438e-02, 6.57024977031928170135e+00, 1.08635005541779435134e+02, 4.29008140027567833386e+02,
                    6.45387271733267880336e+02, 4.34565877475229228821e+02, 1.37657754143519042600e+02, 1.96512716674392571292e+01, 1.0),
              poly(b, s, -2.24409524465858183362e+01, 4.74528541206955367215e+02, 2.55305040643316442583e+03, 3.19985821950859553908e+03,
                    1.53672958608443695994e+03, 3.25792512996573918826e+02, 3.03380607434824582924e+01, 1.0))
    ratio = b.div(b.select(wide, *top), b.select(wide, *bottom))
    cut = b.from_bits(b.and_(b.bits(far), -1 << 32))                  # squares exactly
    tail = b.mul(exp(b, b.sub(-0.5625, b.mul(cut, cut))), exp(b, b.add(b.mul(b.sub(cut, far), b.add(cut, far)), ratio)))
    tail = b.div(tail, far)
    is_near, is_middle, minus = b.lt(a, 0.84375), b.lt(a, 1.25), b.signbit(x)
    erf_far = b.select(is_middle, b.add(middle, 8.45062911510467529297e-01), b.sub(1.0, tail))
    erf_value = b.select(is_near, b.mad(x, near, x), b.copysign(erf_far, x))
    erfc_far = b.select(is_middle, b.sub(1 - 8.45062911510467529297e-01, middle), tail)
    erfc_near = b.select(b.lt(x, 0.25), b.sub(1.0, b.mad(x, near, x)), b.sub(0.5, b.mad(x, near, b.sub(x, 0.5))))
    erfc_value = b.select(is_near, erfc_near, b.select(minus, b.sub(2.0, erfc_far), erfc_far))
    nan = b.isnan(x)
    return b.select(nan, x, erf_value), b.select(nan, x, erfc_value)


def erfinv(b, x):
    """A rational start as PyTorch's CPU code has it, in the middle and towards the ends, then two of Newton's steps."""
    y = b.abs(x)
    z = b.mul(x, x)
    num, den = (-0.140543331, 0.914624893, -1.645349621, 0.886226899), (0.012229801, -0.329097515, 1.442710462, -2.118377725, 1.0)
    center = b.div(b.mul(x, _horner(b, z, num)), _horner(b, z, den))
    t = b.sqrt(b.neg(b.log(b.div(b.sub(1, y), 2))))
    tail = b.div(_horner(b, t, (1.641345311, 3.429567803, -1.624906493, -1.970840454)), _horner(b, t, (1.637067800, 3.543889200, 1.0)))
    out = b.select(b.le(y, 0.7), center, b.copysign(tail, x))
    for _ in range(2): out = b.sub(out, b.div(b.sub(b.erf(out), x), b.mul(2 / m.sqrt(m.pi), b.exp(b.neg(b.mul(out, out))))))
    edge = b.copysign(b.const(INF, x), x)
    return b.select(b.lt(y, 1), out, b.select(b.eq(y, 1), edge, b.const(NAN, x)))


def _horner(b, x, coefficients):
    """Rounded once per step on every processor."""
    out = b.const(coefficients[0], x)
    for c in coefficients[1:]: out = b.fma(out, x, b.const(c, x))
    return out


def _shifted(b, x, low):
    """x moved up to at least `low` in whole steps: (moved, product and sum of reciprocals of the values passed)."""
    product, total = b.const(1, x, x.n), b.const(0, x, x.n)
    for _ in range(low):
        step = b.lt(x, float(low))
        product = b.select(step, b.mul(product, x), product)
        total = b.select(step, b.add(total, b.div(1.0, x)), total)
        x = b.select(step, b.add(x, 1.0), x)
    return x, product, total


@in_double
def lgamma(b, x):
    """log|Γ(x)|; Stirling's series from 8 up, reflection below ½. Error: 1e-14 of max(1, |result|)."""
    low = b.lt(x, 0.5)
    y, product, _ = _shifted(b, at_most(b, b.select(low, b.sub(1.0, x), x), 1e306), 8)
    w = b.div(1.0, y)
    series = b.mul(w, poly(b, b.mul(w, w), 43867 / 244188, -3617 / 122400, 1 / 156, -691 / 360360, 1 / 1188, -1 / 1680, 1 / 1260, -1 / 360, 1 / 12))
    out = b.sub(b.add(b.mad(b.sub(y, 0.5), log(b, y), b.sub(0.9189385332046727, y)), series), log(b, product))
    angle = b.sub(x, b.round(x))
    reflected = b.sub(log(b, b.div(m.pi, b.abs(b.sin(b.mul(angle, m.pi))))), out)
    reflected = b.select(b.eq(angle, 0.0), b.const(INF, x), reflected)
    out = b.select(low, reflected, b.select(b.or_(b.eq(x, 1.0), b.eq(x, 2.0)), b.const(0, x), out))
    return b.select(b.isnan(x), x, b.select(b.eq(b.abs(x), INF), b.const(INF, x), out))


@in_double
def digamma(b, x):
    """Γ'/Γ; asymptotic series from 8 up, reflection below 0. Error: 8 ulp of max(1, |result|)."""
    low = b.lt(x, 0.0)
    y, _, total = _shifted(b, b.select(low, b.sub(1.0, x), x), 8)
    w = b.div(1.0, b.mul(y, y))
    series = b.mul(w, poly(b, w, -3617 / 8160, 1 / 12, -691 / 32760, 1 / 132, -1 / 240, 1 / 252, -1 / 120, 1 / 12))
    out = b.sub(b.sub(b.sub(log(b, y), b.div(0.5, y)), series), total)
    angle = b.sub(x, b.round(x))
    out = b.select(low, b.sub(out, b.div(m.pi, b.tan(b.mul(angle, m.pi)))), out)
    out = b.select(b.and_(low, b.eq(angle, 0.0)), b.const(NAN, x), out)
    return b.select(b.eq(x, 0.0), b.copysign(b.const(INF, x), b.neg(x)), out)
