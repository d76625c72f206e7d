"""Elementwise rows of special functions: gamma and its derivatives, Bessel, normal distribution, and integers' common divisors.

Most compute in float64 whatever the type: rare functions, where simple formulas with digits to spare beat tuned ones.
"""
from __future__ import annotations

import math

import numpy as np

from ..core import dtype as dt
from .elementwise import as_tensor, inexact, row, select, sgn
from .functions import SQRT_PI, exp, fn

BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)     # B2, B4, …
INF, NAN = math.inf, math.nan


def double(emit):
    """Compute in float64, round once."""
    def run(b, *xs):
        out = emit(b, *(b.cast(x, dt.float64) for x in xs))
        return b.cast(out, xs[0].dtype)
    return run


def f64(f):
    """An oracle that computes in float64 and never raises."""
    def safe(*xs):
        try: return f(*xs)
        except (ValueError, OverflowError, ZeroDivisionError): return math.nan
    return np.vectorize(safe, otypes=[np.float64])


def special(name, emit, oracle, *grads, saves="a", names=None, **more):
    return row(name, double(emit), oracle, *grads, rule=inexact, types="f", saves=saves, names=f"special.{name}" if names is None else names, **more)


# ---- gamma
def _np_lgamma(x): return INF if math.isinf(x) or (x <= 0 and x == int(x)) else math.lgamma(x)


def _np_digamma(x):
    if x == 0: return math.copysign(INF, -x)
    if x == INF: return x
    if x < 0:
        if x == math.trunc(x): return NAN
        return _np_digamma(1 - x) - math.pi / math.tan(math.pi * (x - math.trunc(x)))
    out = 0.0
    while x < 10: out -= 1 / x; x += 1
    return out + math.log(x) - 0.5 / x - sum(c / (2 * i + 2) * x ** -(2 * i + 2) for i, c in enumerate(BERNOULLI))


EULER = (12.0, -720.0, 30240.0, -1209600.0, 47900160.0, -1.8924375803183791606e9, 7.47242496e10, -2.950130727918164224e12, 1.1646782814350067249e14,
         -4.5979787224074726105e15, 1.8152105401943546773e17, -7.1661652561756670113e18)


def _zeta(b, s, q):
    """Hurwitz: ten terms, then Euler and Maclaurin's. Not defined for s < 1, nor for q <= 0 with a broken s; poles at q = 0, -1, …"""
    total, at = b.pow(q, b.neg(s)), q
    for _ in range(9):
        at = b.add(at, 1.0)
        total = b.add(total, b.pow(at, b.neg(s)))
    last = b.pow(at, b.neg(s))
    total = b.sub(b.add(total, b.div(b.mul(last, at), b.sub(s, 1.0))), b.mul(last, 0.5))
    rising, k = s, 0.0
    for c in EULER:
        last = b.div(last, at)
        total = b.add(total, b.div(b.mul(rising, last), c))
        rising = b.mul(rising, b.mul(b.add(s, k + 1), b.add(s, k + 2)))
        last = b.div(last, at)
        k += 2
    pole = b.and_(b.le(q, 0.0), b.eq(q, b.trunc(q)))
    broken = b.and_(b.lt(q, 0.0), b.ne(s, b.trunc(s)))
    out = b.select(pole, b.const(INF, q), b.select(broken, b.const(NAN, q), total))
    return b.select(b.eq(s, 1.0), b.const(INF, q), b.select(b.lt(s, 1.0), b.const(NAN, q), out))


def _np_zeta(s, q):
    if s == 1 or (s > 1 and q <= 0 and q == math.trunc(q)): return INF
    if s < 1 or (q <= 0 and s != math.trunc(s)): return NAN
    total, k = sum((q + i) ** -s for i in range(10)), 0
    q += 9
    total += q ** (1 - s) / (s - 1) - 0.5 * q ** -s
    rising = s
    for i, c in enumerate(EULER):
        total += rising * q ** (-s - 1 - 2 * i) / c
        rising *= (s + k + 1) * (s + k + 2)
        k += 2
    return total


lgamma = fn("lgamma", lambda b, x: b.lgamma(x), f64(_np_lgamma), lambda g, o, x: g * x.row(digamma), types="f", names="lgamma special.gammaln")
digamma = fn("digamma", lambda b, x: b.digamma(x), f64(_np_digamma), lambda g, o, x: g * x.filled((), 1, x.dtype).row(polygamma, x), types="f",
             names="digamma special.digamma special.psi")
zeta = special("zeta", _zeta, f64(_np_zeta), None, lambda g, o, s, q: g * -s * (s + 1).row(zeta, q), saves="ab")
# (n, x), n a whole number: (-1)^(n+1) n! ζ(n + 1, x); the zeroth is digamma, a row of its own
polygamma = special("polygamma", lambda b, n, x: _polygamma(b, n, x), f64(lambda n, x: _np_polygamma(n, x)),
                    None,
                    lambda g, o, n, x: g * (as_tensor(n, x) + 1).row(polygamma, x), saves="ab", names="")


def _polygamma(b, n, x):
    """The first one is reflected to the right half, as PyTorch does; the others aren't."""
    mirrored = b.and_(b.eq(n, 1.0), b.lt(x, 0.5))
    z = _zeta(b, b.add(n, 1.0), b.select(mirrored, b.sub(1.0, x), x))
    size = b.mul(b.exp(b.lgamma(b.add(n, 1.0))), z)
    sine = b.div(b.sin(b.mul(x, math.pi)), math.pi)
    out = b.select(b.eq(b.rem(n, 2.0), 0.0), b.neg(size), size)
    return b.select(mirrored, b.sub(b.div(1.0, b.mul(sine, sine)), z), out)


def _np_polygamma(n, x):
    if n == 1 and x < 0.5: return (math.pi / math.sin(math.pi * x)) ** 2 - _np_zeta(2, 1 - x) if x != math.trunc(x) else INF
    return (-1) ** (n + 1) * math.gamma(n + 1) * _np_zeta(n + 1, x)


# ---- Bessel functions of the first kind, modified: ∫ exp(x cos θ) cos kθ dθ / π by a rule that is exact for periodic functions
POINTS, FAR = 48, 30.0


def _scaled_bessel(b, x, order):
    """exp(-|x|) I_order(|x|)"""
    y = b.abs(x)
    near = b.min(y, FAR)
    total = b.const(0.0, x)
    for k in range(POINTS // 2 + 1):
        c = math.cos(2 * math.pi * k / POINTS)
        weight = (1 if k in (0, POINTS // 2) else 2) * (c if order else 1) / POINTS
        if weight: total = b.fma(b.exp(b.mul(near, c - 1)), b.const(weight, x), total)
    z, series, term = b.max(y, FAR), b.const(1.0, x), b.const(1.0, x)
    for k in range(1, 16):
        term = b.div(b.mul(term, -(4 * order * order - (2 * k - 1) ** 2) / (8 * k)), z)
        series = b.add(series, term)
    return b.select(b.gt(y, FAR), b.div(series, b.sqrt(b.mul(z, 2 * math.pi))), total)


def _bessel(order, scaled):
    def emit(b, x):
        out = _scaled_bessel(b, x, order)
        if not scaled: out = b.mul(out, b.exp(b.abs(x)))
        out = b.select(b.isinf(x), b.const(0.0 if scaled else INF, x), out)
        if order: out = b.select(b.lt(x, 0.0), b.neg(out), out)
        return b.select(b.isnan(x), x, out)

    def oracle(x):
        if math.isinf(x): return 0.0 if scaled else (math.copysign(INF, x) if order else INF)
        theta = (np.arange(400) + 0.5) * math.pi / 400
        return float(np.mean(np.exp(x * np.cos(theta) - (abs(x) if scaled else 0)) * np.cos(order * theta)))
    return emit, f64(oracle)


i0 = special("i0", *_bessel(0, False), lambda g, o, x: g * x.row(i1), names="i0 special.i0")
i0e = special("i0e", *_bessel(0, True), lambda g, o, x: g * (x.row(i1e) - x.row(sgn) * o), saves="ao")
i1 = special("i1", *_bessel(1, False), lambda g, o, x: g * select(x == 0, 0.5, x.row(i0) - o / select(x == 0, 1, x)), saves="ao")
i1e = special("i1e", *_bessel(1, True), lambda g, o, x: g * select(x == 0, 0.5, x.row(i0e) - o * (x.row(sgn) + 1 / select(x == 0, 1, x))), saves="ao")


# ---- normal distribution
def _erfcx(b, x):
    """exp(x²) erfc(x); far out the asymptotic series, where both factors leave the range."""
    z = b.max(x, 25.0)
    w = b.div(0.5, b.mul(z, z))
    series = b.const(1.0, x)
    for k in (9, 7, 5, 3, 1): series = b.sub(1.0, b.mul(b.mul(w, float(k)), series))
    return b.select(b.gt(x, 25.0), b.div(series, b.mul(z, SQRT_PI)), b.mul(b.exp(b.mul(x, x)), b.erfc(x)))


def _np_erfcx(x):
    if x > 25: return sum(math.prod(range(1, 2 * k, 2)) * (-0.5 / (x * x)) ** k for k in range(6)) / (x * SQRT_PI)
    return INF if x < -26.6 else math.exp(x * x) * math.erfc(x)


def _log_ndtr(b, x):
    low = b.lt(x, -1.0)
    deep = b.sub(b.log(b.mul(_erfcx(b, b.mul(x, -math.sqrt(0.5))), 0.5)), b.mul(b.mul(x, x), 0.5))
    return b.select(low, deep, b.log1p(b.mul(b.erfc(b.mul(x, math.sqrt(0.5))), -0.5)))


def _np_log_ndtr(x):
    if x < -1: return math.log(_np_erfcx(-x * math.sqrt(0.5)) / 2) - x * x / 2 if x > -INF else -INF
    return math.log1p(-math.erfc(x * math.sqrt(0.5)) / 2)


erfcx = special("erfcx", _erfcx, f64(_np_erfcx), lambda g, o, x: g * (2 * x * o - 2 / SQRT_PI), saves="ao")
ndtr = special("ndtr", lambda b, x: b.mul(b.erfc(b.mul(x, -math.sqrt(0.5))), 0.5), f64(lambda x: math.erfc(-x * math.sqrt(0.5)) / 2),
               lambda g, o, x: g * (-0.5 * (x * x)).row(exp) / math.sqrt(2 * math.pi))
log_ndtr = special("log_ndtr", _log_ndtr, f64(_np_log_ndtr), lambda g, o, x: g * math.sqrt(2 / math.pi) / (x * -math.sqrt(0.5)).row(erfcx))


# ---- integers
def _gcd(b, x, y):
    """Euclid's, on all lanes until the last is done."""
    n = max(x.n, y.n)
    big, small = b.variable(b.splat(b.abs(x), n)), b.variable(b.splat(b.abs(y), n))
    with b.loop_while() as again:
        p, q = b.get(big), b.get(small)
        going = b.ne(q, 0)
        b.set(big, b.select(going, q, p))
        b.set(small, b.select(going, b.rem(p, q), q))
        again(b.any_lane(going))
    return b.abs(b.get(big))


def _lcm(b, x, y):
    g = _gcd(b, x, y)
    zero = b.eq(g, 0)
    return b.select(zero, g, b.abs(b.mul(b.truncdiv(x, b.select(zero, b.const(1, g), g)), y)))


gcd = row("gcd", _gcd, np.gcd, None, None, types="i")
lcm = row("lcm", _lcm, lambda x, y: np.abs(np.lcm(x, y)), None, None, types="i")


def _nextafter(b, x, y):
    """One step of the bits: away from zero if y lies further out on x's side, else towards it."""
    bits = b.bits(x)
    out = b.xor(b.gt(y, x), b.lt(x, 0.0))
    step = b.bitcast(b.select(out, b.add(bits, 1), b.sub(bits, 1)), x.dtype)
    tiny = b.copysign(b.bitcast(b.const(1, bits), x.dtype), y)
    step = b.select(b.eq(x, 0.0), tiny, step)
    return b.select(b.or_(b.isnan(x), b.isnan(y)), b.add(x, y), b.select(b.eq(x, y), y, step))


nextafter = row("nextafter", _nextafter, np.nextafter, None, None, types="f")
