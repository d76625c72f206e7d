"""Reduction rows: several numbers in, one out. attr = the axes reduced, sorted and non-negative; the result keeps them with length 1.

The operand is converted to the result's type first (sums and products of integers and bools are int64; any and all read bools). Half types
accumulate in float32. NaN wins amax and amin; argmax and argmin give the first position in row-major order of the reduced axes.
"""
from __future__ import annotations

import math

import numpy as np

from ..core import dtype as dt
from ..core.op import Composite, Reduce
from .elementwise import TITLES, conjugate, logical_and, select, times


def _kept(x, axes): return tuple(1 if d in axes else n for d, n in enumerate(x.shape))


def widened(t): return dt.int64 if t.category < dt.FLOAT else t
def same(t): return t
def position(t): return dt.int64
def truth(t): return dt.uint8 if t is dt.uint8 else dt.bool


def _need_elements(name, x, axes):
    for d in axes:
        if x.shape[d] == 0: raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")


def row(name, combine, oracle, grad=None, result=same, types="bifc", identity=True, saves="", kernel=None, refuse=None) -> Reduce:
    """`identity`: the reduction of no element has a value (0, 1, False, True). `kernel` and `refuse`: what errors say, as in elementwise.row."""
    allowed = {"bifc".index(c) for c in types}

    def infer(axes, x):
        if refuse and x.dtype.category in refuse: raise RuntimeError(refuse[x.dtype.category])
        if not identity: _need_elements(name, x, axes)
        if x.dtype.category not in allowed: raise NotImplementedError(f"\"{kernel or name + '_cpu'}\" not implemented for '{TITLES[x.dtype.name]}'")
        return result(x.dtype), _kept(x, axes)
    return Reduce(name, infer, (grad and (lambda g, o, x, attr: grad(g, o, x, attr)),), saves, lambda axes, x: oracle(x, axes), combine)


def _numbers_only(name): return {dt.COMPLEX: f"{name}(): does not support complex input", dt.BOOL: f"{name}(): does not support bool input"}


def _arg(ufunc):
    def oracle(x, axes):
        rest = [d for d in range(x.ndim) if d not in axes]
        flat = x.transpose(*rest, *axes).reshape([x.shape[d] for d in rest] + [math.prod(x.shape[d] for d in axes)])
        return ufunc(flat, -1).reshape(_kept(x, axes)).astype(np.int64)
    return oracle


def _sums(ufunc):
    """Halves arrive here as float32; float32 is summed in float64, the best answer there is."""
    def oracle(x, axes):
        wide = x.dtype if x.dtype.kind not in "bui" else np.dtype(np.int64)
        with np.errstate(all="ignore"):
            inner = {"f4": "f8", "c8": "c16"}.get(wide.str[1:], wide)
            return ufunc.reduce(x, axis=axes, keepdims=True, dtype=inner).astype(wide) if axes else x.astype(wide)
    return oracle


def _share(g, o, x, axes):
    """Equal extremes share the gradient evenly."""
    hit = x == o
    return g * hit / hit.row(sum_, attr=axes)


def _parted(x, axes):
    """What products next to zeros are made of: where they are, how many per line, x and its product without them."""
    zero = x == 0
    filled = select(zero, 1, x)
    return zero, zero.row(sum_, attr=axes), filled, filled.row(prod, attr=axes)


def _others(axes, x):
    """Dividing would lose what stands next to a zero."""
    zero, count, filled, rest = _parted(x, axes)
    return select(count == 0, rest / filled, select((count == 1).row(logical_and, zero), rest, 0))


def _others_grad(g, o, x, attr):
    """The sum over all others i of gᵢ times the product without both: without zeros, with one, with two."""
    zero, count, filled, rest = _parted(x, attr)
    filled, rest = conjugate(filled), conjugate(rest)
    hit, missed = select(zero, g, 0).row(sum_, attr=attr), select(zero, 0, g / filled).row(sum_, attr=attr)
    none = (missed - g / filled) * rest / filled
    one = select(zero, missed * rest, hit * rest / filled)
    return select(count == 0, none, select(count == 1, one, select((count == 2).row(logical_and, zero), (hit - g) * rest, 0)))


sum_ = row("sum", "sum", _sums(np.add), lambda g, o, x, axes: g.expand(x.shape), widened)
prod = row("prod", "prod", _sums(np.multiply), lambda g, o, x, axes: times(g, x.row(others, attr=axes)), widened, saves="a")
others = Composite("prod_others", lambda axes, x: (x.dtype, x.shape), (_others_grad,), "a", expand=_others)
"""Along the axes, the product of all elements but this one: the product's gradient, with a gradient of its own that holds at zeros."""
amax = row("amax", "max", lambda x, axes: np.max(x, axis=axes, keepdims=True), _share, types="bif", identity=False, saves="ao",
           kernel="max_values_cpu")
amin = row("amin", "min", lambda x, axes: np.min(x, axis=axes, keepdims=True), _share, types="bif", identity=False, saves="ao",
           kernel="min_values_cpu")
argmax = row("argmax", "argmax", _arg(np.argmax), result=position, types="if", identity=False, refuse=_numbers_only("argmax"))
argmin = row("argmin", "argmin", _arg(np.argmin), result=position, types="if", identity=False, refuse=_numbers_only("argmin"))
any_ = row("any", "any", lambda x, axes: np.any(x, axis=axes, keepdims=True).astype(x.dtype if x.dtype == np.uint8 else np.bool_), result=truth)
all_ = row("all", "all", lambda x, axes: np.all(x, axis=axes, keepdims=True).astype(x.dtype if x.dtype == np.uint8 else np.bool_), result=truth)
