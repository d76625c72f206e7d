"""Elementwise rows of orthogonal polynomials: (x, n), the n-th one's value at x. n is cut to a whole number; below 0, or none, gives 0.

Each is its three-term recurrence, a loop over all lanes until the last is done, in the operands' type, because where a type overflows is part of the
result. Chebyshev's have closed forms: at ±1, and between them for larger n. Hermite's end where a type's range does.
"""
from __future__ import annotations

import numpy as np

from ..core import dtype as dt
from .bessel import full_size
from .elementwise import row
from .special import NAN


# ---- recurrences
def _steps(b, n, first, step):
    """p₀ = 1, p₁ = first, pₖ₊₁ = step(k, pₖ, pₖ₋₁) up to k = n - 1, or until there's nothing but NaN."""
    count, lanes = b.cast(n, dt.float64), first.n
    before, last = b.variable(b.const(1.0, first, lanes)), b.variable(first)
    at = b.variable(b.const(1.0, dt.float64))
    with b.loop_while() as again:
        k, p, q = b.get(at), b.get(before), b.get(last)
        going = b.and_(b.lt(k, count), b.not_(b.isnan(q)))
        new = step(b.cast(k, q.dtype), q, p)
        b.set(before, b.select(going, q, p))
        b.set(last, b.select(going, new, q))
        b.set(at, b.add(k, 1.0))
        again(b.any_lane(b.and_(going, b.lt(b.add(k, 1.0), count))))
    return b.select(b.eq(n, 0.0), b.const(1.0, first), b.get(last))


def _np_steps(n, first, step):
    before, last = np.ones_like(first), first
    for k in range(1, int(n.max(initial=0))):
        going = (k < n) & ~np.isnan(last)
        if not going.any(): break
        k = first.dtype.type(k)
        before, last = np.where(going, last, before), np.where(going, step(k, last, before), last)
    return np.where(n == 0, 1, last)


def _order(b, n):
    """The whole number an int64 would hold; what it can't hold is below 0."""
    return b.select(b.lt(n, 2.0 ** 63), b.trunc(n), b.const(-1.0, n))


def polynomial(name, emit, oracle):
    def run(b, x, n):
        lanes = max(x.n, n.n)
        x, n = b.splat(x, lanes), _order(b, b.splat(n, lanes))
        return b.select(b.lt(n, 0.0), b.const(0.0, x), emit(b, x, n))

    def check(x, n):
        x, n = np.broadcast_arrays(x, np.where(n < 2.0 ** 63, np.trunc(n), -1))
        return np.where(n < 0, 0, oracle(x, n))
    return row(name, run, check, rule=full_size(name), types="f", names=f"special.{name}")


# ---- Chebyshev's four kinds, and those of 2x - 1
SLOPE = {"t": (1.0, 0.0), "u": (2.0, 0.0), "v": (2.0, -1.0), "w": (2.0, 1.0)}                     # p₁ = slope · x + more
CLOSED = {"t": 6, "u": 8, "v": 8, "w": 8, "shifted_t": 6, "shifted_u": 6, "shifted_v": 6, "shifted_w": 4}     # above these n


def chebyshev(kind, shifted):
    prefix = "shifted_" if shifted else ""
    above, (slope, more) = CLOSED[prefix + kind], SLOPE[kind]

    def emit(b, x, n):
        y = b.sub(b.add(x, x), 1.0) if shifted else x
        one, two_y = b.const(1.0, y), b.add(y, y)
        sign = b.select(b.eq(b.rem(n, 2.0), 0.0), one, b.const(-1.0, y))
        next_n, odd_n = b.add(n, 1.0), b.add(b.add(n, n), 1.0)
        right, left = {"t": (one, one), "u": (next_n, next_n), "v": (one, odd_n), "w": (odd_n, one)}[kind]
        left = b.mul(sign, left)
        a = b.acos(b.min(b.max(y, -1.0), 1.0))
        half, turn = b.mul(a, 0.5), b.mul(b.add(n, 0.5), a)
        if kind == "t": closed = b.cos(b.mul(n, a))
        if kind == "u": closed = b.div(b.sin(b.mul(next_n, a)), b.sin(a))
        if kind == "v": closed = b.select(b.eq(b.sin(half), 1.0), left, b.div(b.cos(turn), b.cos(half)))
        if kind == "w": closed = b.select(b.eq(b.cos(half), 1.0), left if shifted else b.select(b.gt(x, 0.0), right, left), b.div(b.sin(turn), b.sin(half)))
        inside = b.and_(b.lt(b.abs(y), 1.0), b.gt(n, float(above)))
        edge = b.eq(b.abs(y), 1.0)
        first = b.add(b.mul(y, slope), more) if more else b.mul(y, slope)
        count = b.select(b.or_(inside, edge), b.const(0.0, n), n)
        out = _steps(b, count, first, lambda k, q, p: b.sub(b.mul(two_y, q), p))
        return b.select(edge, b.select(b.gt(y, 0.0), right, left), b.select(inside, closed, out))

    def oracle(x, n):
        y = x + x - 1 if shifted else x
        sign = np.where(n % 2 == 0, 1, -1)
        right, left = {"t": (1, 1), "u": (n + 1, n + 1), "v": (1, 2 * n + 1), "w": (2 * n + 1, 1)}[kind]
        a = np.arccos(np.clip(y, -1, 1))
        closed = {"t": np.cos(n * a), "u": np.sin((n + 1) * a) / np.sin(a), "v": np.cos((n + 0.5) * a) / np.cos(a / 2),
                  "w": np.sin((n + 0.5) * a) / np.sin(a / 2)}[kind]
        inside, edge = (np.abs(y) < 1) & (n > above), np.abs(y) == 1
        out = _np_steps(np.where(inside | edge, 0, n), slope * y + more, lambda k, q, p: 2 * y * q - p)
        return np.where(edge, np.where(y > 0, right, sign * left), np.where(inside, closed, out))
    return polynomial(f"{prefix}chebyshev_polynomial_{kind}", emit, oracle)


CHEBYSHEV = [chebyshev(kind, shifted) for shifted in (False, True) for kind in "tuvw"]

# ---- Hermite's, the physicists' and the probabilists'
LIMIT = {4: 128, 8: 512}                         # by size of the type: the last n with a value


def hermite(name, factor):
    def emit(b, x, n):
        y, over = b.mul(x, factor), b.gt(n, float(LIMIT[x.dtype.size]))
        out = _steps(b, b.select(over, b.const(0.0, n), n), y, lambda k, q, p: b.sub(b.mul(y, q), b.mul(b.mul(k, factor), p)))
        return b.select(over, b.const(NAN, x), out)

    def oracle(x, n):
        over, y = n > LIMIT[x.dtype.itemsize], x.dtype.type(factor) * x
        return np.where(over, NAN, _np_steps(np.where(over, 0, n), y, lambda k, q, p: y * q - x.dtype.type(factor) * k * p))
    return polynomial(name, emit, oracle)


hermite_polynomial_h, hermite_polynomial_he = hermite("hermite_polynomial_h", 2.0), hermite("hermite_polynomial_he", 1.0)


# ---- Laguerre's and Legendre's
def _laguerre(b, x, n):
    first = b.sub(1.0, x)
    out = _steps(b, b.select(b.eq(x, 0.0), b.const(0.0, n), n), first,
                 lambda k, q, p: b.div(b.sub(b.mul(b.add(b.add(k, k), first), q), b.mul(k, p)), b.add(k, 1.0)))
    return b.select(b.eq(x, 0.0), b.const(1.0, x), out)


def _legendre(b, x, n):
    edge = b.eq(b.abs(x), 1.0)
    sign = b.select(b.or_(b.gt(x, 0.0), b.eq(b.rem(n, 2.0), 0.0)), b.const(1.0, x), b.const(-1.0, x))
    out = _steps(b, b.select(edge, b.const(0.0, n), n), x,
                 lambda k, q, p: b.div(b.sub(b.mul(b.mul(b.add(b.add(k, k), 1.0), x), q), b.mul(k, p)), b.add(k, 1.0)))
    return b.select(edge, sign, out)


laguerre_polynomial_l = polynomial("laguerre_polynomial_l", _laguerre,
                                   lambda x, n: _np_steps(n, 1 - x, lambda k, q, p: ((k + k + (1 - x)) * q - k * p) / (k + 1)))
legendre_polynomial_p = polynomial("legendre_polynomial_p", _legendre,
                                   lambda x, n: _np_steps(n, x, lambda k, q, p: ((k + k + 1) * x * q - k * p) / (k + 1)))
NAMES = frozenset(op.name for op in (*CHEBYSHEV, hermite_polynomial_h, hermite_polynomial_he, laguerre_polynomial_l, legendre_polynomial_p))
