"""Elementwise rows of special functions: gamma and its derivatives, Bessel, normal distribution, and integers' common divisors.

Most compute in float64 whatever the type: rare functions, where simple formulas with digits to spare beat tuned ones.
"""
from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np

from ..core import dtype as dt
from .elementwise import abs_, as_tensor, inexact, row, select, sgn, zeros
from .functions import SQRT_PI, exp, fn, log

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
    """Hurwitz. A whole s has values to the left of 0, too: all of the fraction's, and those from 1 - fraction up to 1 - q, mirrored. Poles at q = 0, -1, …"""
    n = max(s.n, q.n)
    s, q = b.splat(s, n), b.splat(q, n)
    left = b.and_(b.lt(q, 0.0), b.eq(s, b.trunc(s)))
    fraction = b.sub(q, b.floor(q))
    other = b.sub(1.0, fraction)
    sign = b.select(b.eq(b.rem(s, 2.0), 0.0), b.const(1.0, q), b.const(-1.0, q))
    at, weight = b.variable(b.select(left, fraction, q)), b.variable(b.const(1.0, q, n))
    total, turn = b.variable(b.const(0.0, q, n)), b.variable(b.const(0.0, q))
    with b.loop_while() as again:              # one turn, or three where some lane lies to the left
        b.set(total, b.fma(_positive_zeta(b, s, b.get(at)), b.get(weight), b.get(total)))
        k = b.get(turn)
        second = b.splat(b.eq(k, 0.0), n)
        b.set(at, b.select(left, b.select(second, other, b.sub(1.0, q)), b.const(1.0, q)))
        b.set(weight, b.select(left, b.select(second, sign, b.neg(sign)), b.const(0.0, q)))
        b.set(turn, b.add(k, 1.0))
        again(b.and_(b.any_lane(left), b.lt(k, 2.0)))
    pole = b.and_(b.le(q, 0.0), b.eq(q, b.trunc(q)))
    broken = b.and_(b.lt(q, 0.0), b.ne(s, b.trunc(s)))
    out = b.select(pole, b.const(INF, q), b.select(broken, b.const(NAN, q), b.get(total)))
    return b.select(b.eq(s, 1.0), b.const(INF, q), b.select(b.lt(s, 1.0), b.const(NAN, q), out))


def _positive_zeta(b, s, q):
    """Ten terms, then Euler and Maclaurin's."""
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
    return total


def _np_zeta(s, q):
    if s == 1 or (s > 1 and q <= 0 and q == math.trunc(q)): return INF
    if s < 1 or (q <= 0 and s != math.trunc(s)): return NAN
    count = 10 + max(0, math.ceil(-q))         # the terms to the left of 0 one by one
    total, k = sum((q + i) ** -s for i in range(count)), 0
    q += count - 1
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


# ---- incomplete gamma functions: P (lower) and Q (upper), normalised
ENOUGH = 2000                                  # terms, as in PyTorch's
# Temme's uniform expansion (DLMF 8.12.7): row k holds c_k(η), which is divided by a^k
TEMME = ((-1 / 3, 1 / 12, -2 / 135, 1 / 864, 1 / 2835, -139 / 777600, 3.9192631785224378e-5, -2.1854485106799922e-6, -1.85406221071516e-6,
          8.296711340953086e-7, -1.7665952736826079e-7),
         (-1 / 540, -1 / 288, 1 / 378, -77 / 77760, 2.0576131687242798e-4, -4.0187757201646091e-7, -1.8098550334489978e-5, 7.6491609160811101e-6),
         (25 / 6048, -139 / 51840, 7.7160493827160494e-4, 2.0093878600823045e-6, -1.0736653226365161e-4, 5.2923448829120125e-5),
         (101 / 155520, 2.2947209362139918e-4, -4.6918949439525571e-4, 2.6772061203145617e-4), (-8.6188829091671698e-4,))


def _converge(b, start, step):
    """step(values, k) until its second result, how much each lane still moved, is negligible on every lane."""
    places = [b.variable(v) for v in start]
    k = b.variable(b.const(1.0, start[0]))
    with b.loop_while() as again:
        values, moved, size = step([b.get(p) for p in places], b.get(k))
        for p, v in zip(places, values): b.set(p, v)
        b.set(k, b.add(b.get(k), 1.0))
        again(b.any_lane(b.and_(b.gt(b.abs(moved), b.mul(b.abs(size), 1e-16)), b.splat(b.lt(b.get(k), float(ENOUGH)), start[0].n))))
    return [b.get(p) for p in places]


def _gamma_series(b, a, x):
    """1 + x/(a+1) + x²/((a+1)(a+2)) + …"""
    def step(values, k):
        term, total = values
        term = b.div(b.mul(term, x), b.add(a, k))
        total = b.add(total, term)
        return (term, total), term, total
    return _converge(b, (b.const(1.0, x, x.n), b.const(1.0, x, x.n)), step)[1]


def _gamma_fraction(b, a, x):
    """The continued fraction of Γ(a, x) e^x x^-a (DLMF 8.9.2), by Lentz's method."""
    tiny = 1e-300
    away = lambda v: b.select(b.lt(b.abs(v), tiny), b.const(tiny, v), v)
    first = b.sub(b.add(x, 1.0), a)

    def step(values, k):
        c, d, out = values
        top, bottom = b.mul(b.sub(a, k), k), b.add(first, b.mul(k, 2.0))
        d = b.div(1.0, away(b.add(b.mul(top, d), bottom)))
        c = away(b.add(bottom, b.div(top, c)))
        factor = b.mul(c, d)
        return (c, d, b.mul(out, factor)), b.sub(factor, 1.0), b.const(1.0, x)
    d = b.div(1.0, away(first))
    return _converge(b, (b.const(1e300, x, x.n), d, d), step)[2]


def _gamma_factor(b, a, x):
    """x^a e^-x / Γ(a); for larger a with Stirling's series, so that nothing large cancels."""
    mu = b.div(b.sub(x, a), a)
    w = b.div(1.0, a)
    tail = b.mul(w, b.add(1 / 12, b.mul(b.mul(w, w), b.add(-1 / 360, b.mul(b.mul(w, w), b.add(1 / 1260, b.mul(b.mul(w, w), -1 / 1680)))))))
    big = b.mul(b.sqrt(b.mul(a, 0.5 / math.pi)), b.exp(b.sub(b.mul(a, b.sub(b.log1p(mu), mu)), tail)))
    return b.select(b.gt(a, 20.0), big, b.exp(b.sub(b.sub(b.mul(a, b.log(x)), x), b.lgamma(a))))


def _gamma_uniform(b, a, x):
    """(P, Q) for large a and x near it: a normal distribution's tail and a correction."""
    mu = b.div(b.sub(x, a), a)
    half = b.max(b.sub(mu, b.log1p(mu)), 0.0)                                      # η²/2
    eta = b.copysign(b.sqrt(b.mul(half, 2.0)), mu)
    total, power = b.const(0.0, x), b.const(1.0, x)
    for row_ in TEMME:
        value = b.const(row_[-1], x)
        for c in row_[-2::-1]: value = b.fma(value, eta, b.const(c, x))
        total = b.fma(value, power, total)
        power = b.div(power, a)
    rest = b.div(b.mul(b.exp(b.neg(b.mul(a, half))), total), b.sqrt(b.mul(a, 2 * math.pi)))
    z = b.mul(eta, b.sqrt(b.mul(a, 0.5)))
    return b.sub(b.mul(b.erfc(b.neg(z)), 0.5), rest), b.add(b.mul(b.erfc(z), 0.5), rest)


def _incomplete_gamma(b, a, x, upper):
    """Series below a + 1, fraction above, Temme's expansion near a large a; the edges are SciPy's."""
    n = max(a.n, x.n)
    a, x = b.splat(a, n), b.splat(x, n)
    plain = b.and_(b.and_(b.gt(a, 0.0), b.gt(x, 0.0)), b.and_(b.lt(a, INF), b.lt(x, INF)))
    wide = b.and_(plain, b.and_(b.gt(a, 200.0), b.lt(b.abs(b.sub(x, a)), b.mul(b.sqrt(a), 4.5))))
    near, rest = b.lt(x, b.add(a, 1.0)), b.and_(plain, b.not_(wide))
    low, high = b.and_(rest, near), b.and_(rest, b.not_(near))
    factor = _gamma_factor(b, b.select(plain, a, 1.0), b.select(plain, x, 1.0))
    a1, x1 = b.select(low, a, 1.0), b.select(low, x, 0.0)
    p = b.mul(b.div(factor, a1), _gamma_series(b, a1, x1))
    q = b.mul(factor, _gamma_fraction(b, b.select(high, a, 1.0), b.select(high, x, 3.0)))
    uniform = _gamma_uniform(b, b.select(wide, a, 300.0), b.select(wide, x, 300.0))[upper]
    out = b.select(wide, uniform, b.select(near, b.sub(1.0, p) if upper else p, q if upper else b.sub(1.0, q)))
    zero, one = b.const(0.0, x), b.const(1.0, x)
    none, full = (one, zero) if upper else (zero, one)                             # before and behind everything
    behind = b.or_(b.and_(b.eq(a, 0.0), b.gt(x, 0.0)), b.isinf(x))
    edge = b.select(b.or_(b.eq(x, 0.0), b.isinf(a)), none, b.select(behind, full, b.const(NAN, x)))
    nowhere = b.or_(b.and_(b.isinf(a), b.isinf(x)), b.and_(b.eq(a, 0.0), b.eq(x, 0.0)))
    bad = b.or_(nowhere, b.or_(b.lt(a, 0.0), b.lt(x, 0.0)))
    return b.select(plain, out, b.select(bad, b.const(NAN, x), edge))


def _np_gammainc(a, x, upper):
    if a < 0 or x < 0 or (a == 0 and not x > 0) or (a == x == INF): return NAN
    if (x == 0 or a == INF) and a != 0: return float(upper)
    if a == 0 or x == INF: return float(not upper)
    if math.isnan(a + x): return NAN
    factor = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        for k in range(1, 10000): total += (term := term * x / (a + k))
        return 1 - factor * total if upper else factor * total
    out = 0.0
    for k in range(2000, 0, -1): out = k * (a - k) / (x + 2 * k + 1 - a + out)
    q = factor / (x + 1 - a + out)
    return q if upper else 1 - q


def _no_slope(name):
    """The derivative by the first operand, which PyTorch hasn't either."""
    def refuse(g, o, *xs): raise NotImplementedError(f"the derivative for '{name}: input' is not implemented.")
    return refuse


def _incomplete(name, names, upper):
    slope = lambda g, o, a, x: g * (-1 if upper else 1) * ((a - 1) * x.row(log) - x - a.row(lgamma)).row(exp)
    return row(name, double(lambda b, a, x: _incomplete_gamma(b, a, x, upper)), f64(lambda a, x: _np_gammainc(a, x, upper)), _no_slope(name), slope,
               types="f", saves="ab", names=names, kernel=f"{name}_cpu")


igamma = _incomplete("igamma", "igamma special.gammainc", False)
igammac = _incomplete("igammac", "igammac special.gammaincc", True)


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
        grown = b.exp(b.abs(x))
        if order:                                                                  # near 0 the power series: the sum above cancels
            a = b.min(b.abs(x), 1.0)
            z, series = b.mul(b.mul(a, a), 0.25), b.const(1.0, x)
            for k in range(9, 0, -1): series = b.fma(b.mul(series, z), b.const(1 / (k * (k + 1)), x), b.const(1.0, x))
            near = b.mul(b.mul(a, 0.5), series)
            out = b.select(b.lt(b.abs(x), 1.0), b.div(near, grown), out)
        if not scaled: out = b.mul(out, grown)
        out = b.select(b.isinf(x), b.const(0.0 if scaled else NAN, x), out)
        if order: out = b.select(b.lt(x, 0.0), b.neg(out), out)
        return b.select(b.isnan(x), x, out)

    def oracle(x):
        if math.isinf(x): return 0.0 if scaled else NAN                            # as PyTorch has it
        theta = (np.arange(400) + 0.5) * math.pi / 400
        return float(np.mean(np.exp(x * np.cos(theta) - (abs(x) if scaled else 0)) * np.cos(order * theta)))
    return emit, f64(oracle)


def _slope_of_i1(g, x, slope):
    """½ at 0 and where the quotient says nothing any more."""
    clear = x.row(abs_) > (2.220446049250313e-16 if x.dtype is dt.float64 else 1.1920929e-7)
    return g * select(clear, slope(select(clear, x, 1)), 0.5)


i0 = special("i0", *_bessel(0, False), lambda g, o, x: g * x.row(i1), names="i0 special.i0")
i0e = special("i0e", *_bessel(0, True), lambda g, o, x: g * (x.row(i1e) - x.row(sgn) * o), saves="ao")
i1 = special("i1", *_bessel(1, False), lambda g, o, x: _slope_of_i1(g, x, lambda y: x.row(i0) - o / y), saves="ao")
i1e = special("i1e", *_bessel(1, True), lambda g, o, x: _slope_of_i1(g, x, lambda y: x.row(i0e) - o * (x.row(sgn) + 1 / y)), saves="ao")


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


def _ndtri(b, p):
    """The smaller side's x: a rational guess in √(-2 log p) (Abramowitz and Stegun 26.2.23), then Newton's steps towards log p."""
    upper = b.gt(p, 0.5)
    q = b.select(upper, b.sub(1.0, p), p)
    goal = b.log(q)
    t = b.sqrt(b.mul(goal, -2.0))
    top = b.fma(b.fma(t, b.const(0.010328, p), b.const(0.802853, p)), t, b.const(2.515517, p))
    bottom = b.fma(b.fma(b.fma(t, b.const(0.001308, p), b.const(0.189269, p)), t, b.const(1.432788, p)), t, b.const(1.0, p))
    x = b.sub(b.div(top, bottom), t)
    for _ in range(2):
        have = _log_ndtr(b, x)
        slope = b.exp(b.add(have, b.mul(b.mul(x, x), 0.5)))
        x = b.sub(x, b.mul(b.mul(b.sub(have, goal), slope), math.sqrt(2 * math.pi)))
    x = b.select(b.eq(q, 0.0), b.const(-INF, p), x)
    return b.select(upper, b.neg(x), x)


def _np_ndtri(p):
    if p in (0, 1): return math.copysign(INF, p - 0.5)
    return NormalDist().inv_cdf(p)


erfcx = special("erfcx", _erfcx, f64(_np_erfcx), lambda g, o, x: g * (2 * x * o - 2 / SQRT_PI), saves="ao")
ndtr = special("ndtr", lambda b, x: b.mul(b.erfc(b.mul(x, -math.sqrt(0.5))), 0.5), f64(lambda x: math.erfc(-x * math.sqrt(0.5)) / 2),
               lambda g, o, x: g * (-0.5 * (x * x)).row(exp) / math.sqrt(2 * math.pi))
log_ndtr = special("log_ndtr", _log_ndtr, f64(_np_log_ndtr), lambda g, o, x: g * math.sqrt(2 / math.pi) / (x * -math.sqrt(0.5)).row(erfcx))

ndtri = special("ndtri", _ndtri, f64(_np_ndtri), lambda g, o, x: g * math.sqrt(2 * math.pi) * (0.5 * (o * o)).row(exp), saves="o")


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


nextafter = row("nextafter", _nextafter, np.nextafter, lambda g, o, x, y: select(x == y, 0, g), lambda g, o, x, y: zeros(g), types="f",
                saves="ab")
