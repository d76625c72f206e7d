"""How partial results of a reduction become one.

Comes in: a builder, the name of a Reduce's combining rule, and two accumulators: (value,), or (value, position) for argmax and argmin. Goes out: one.
"""
from __future__ import annotations

import math

from ..core import dtype as dt

ARG = ("argmax", "argmin")


def identity(combine: str, t):
    """What a sum, product, extreme … of nothing is, in dtype t."""
    if combine in ("sum", "any"): return 0
    if combine in ("prod", "all"): return 1
    low = combine.endswith("max")
    if t.category == dt.FLOAT: return -math.inf if low else math.inf
    if t is dt.bool: return not low
    bits = 8 * t.size
    smallest, largest = (-(1 << bits - 1), (1 << bits - 1) - 1) if t.signed else (0, (1 << bits) - 1)
    return smallest if low else largest


def combine(b, how: str, x, y):
    if how in ARG: return _combine_positions(b, how, x, y)
    (x,), (y,) = x, y
    if how == "sum": return (b.add(x, y),)
    if how == "prod": return (b.mul(x, y),)
    if how == "any": return (b.or_(x, y),)
    if how == "all": return (b.and_(x, y),)
    if x.dtype.category != dt.FLOAT: return (b.max if how == "max" else b.min)(x, y),
    # one instruction keeps x where either is NaN, another puts NaN where y is: the next step waits for no comparison
    best = b.select(b.gt(y, x) if how == "max" else b.lt(y, x), y, x)
    return b.select(b.isnan(y), math.nan, best),


def _combine_positions(b, how: str, x, y):
    """(value, position) pairs; position -1: none yet. The better one, NaN above all, then the first."""
    (a, i), (c, j) = x, y
    ahead = b.gt(c, a) if how == "argmax" else b.lt(c, a)
    tie, nan_a, nan_c = b.eq(a, c), b.isnan(a), b.isnan(c)
    ahead = b.or_(ahead, b.and_(nan_c, b.not_(nan_a)))
    ahead = b.and_(ahead, b.not_(nan_a)) if a.dtype.category == dt.FLOAT else ahead
    tie = b.or_(tie, b.and_(nan_a, nan_c))
    take = b.or_(ahead, b.and_(tie, b.lt(j, i)))
    take = b.and_(b.or_(take, b.lt(i, 0)), b.ge(j, 0))
    return b.select(take, c, a), b.select(take, j, i)
