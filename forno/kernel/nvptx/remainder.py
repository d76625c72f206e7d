"""Remainders of float32 on a GPU, exact and without float64.

Comes in: a builder and float32 values. Goes out: a float32.
"""
from __future__ import annotations

from ...core import dtype as dt
from ..text import Val
from .seeds import INF

MOST = 22                                      # bits of a quotient whose multiple of the divisor leaves nothing to round


def rem(b, x: Val, y: Val) -> Val:
    """With x's sign, as C's fmod: x - q · y for the whole quotient q; a quotient of more bits is taken away from the top."""
    a, d = b.abs(x), b.abs(y)
    good = b.and_(b.lt(a, INF), b.gt(d, 0.0))
    far = b.and_(good, b.ge(a, b.mul(d, 2.0 ** MOST)))
    left = b.choose(far, lambda: _shortened(b, a, d), lambda: a)
    r = b.select(b.eq(d, INF), a, _step(b, left, d))
    return b.copysign(b.select(good, r, b.const(float("nan"), x)), x)


def _step(b, a: Val, d: Val) -> Val:
    """a minus its whole multiple of d; the quotient may have been rounded up to the next whole number."""
    r = b.fma(b.neg(b.trunc(b.div(a, d))), d, a)
    return b.select(b.lt(r, 0.0), b.add(r, d), r)


def _exponent(b, x: Val) -> Val:
    """Of a positive number, in a float's bias: below 1 for denormals."""
    small = b.lt(x, 2.0 ** -126)
    return b.sub(b.shr(b.bits(b.select(small, b.mul(x, 2.0 ** 24), x)), 23), b.select(small, b.const(24, dt.int32), 0))


def _shortened(b, a: Val, d: Val) -> Val:
    """What is left of a when multiples of d · 2^n have been taken away, n falling to 0."""
    place, least = b.variable(a), b.add(_exponent(b, d), MOST)
    with b.loop_while() as again:
        left = b.get(place)
        n = b.intrinsic("smax", b.sub(_exponent(b, left), least), b.const(0, dt.int32))
        half = b.shr(n, 1)
        c = d
        for part in (half, b.sub(n, half)): c = b.mul(c, b.from_bits(b.shl(b.add(part, 127), 23)))
        b.set(place, _step(b, left, c))
        again(b.gt(n, 0))
    return b.get(place)


SINGLE = {"rem": rem}
