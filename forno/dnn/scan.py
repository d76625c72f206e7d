"""Running sums and their kin along one axis. attr = (dim, reverse): with reverse they run from the end, which is what gradients need.

cummax and cummin give positions; the values are read by `gather`, which also brings their gradient. Integers and bools sum into int64.
"""
from __future__ import annotations

import math

import numpy as np

from ..core import dtype as dt
from ..core.kernels import Native, Operand
from ..core.op import Routine
from .elementwise import TITLES, conjugate, select


def lines(shape, dim) -> tuple[int, int, int]:
    """outer, n, inner: how the elements along `dim` lie in a row-major value."""
    return (math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1:])) if shape else (1, 1, 1)


def summed(t): return dt.int64 if t.category < dt.FLOAT else t
def position(t): return dt.int64
def same(t): return t


def _flipped(f):
    def oracle(attr, x):
        dim, reverse = attr
        if not x.ndim: return f(x.reshape(1), 0).reshape(())
        return np.flip(f(np.flip(x, dim), dim), dim) if reverse else f(x, dim)
    return oracle


def _row(name, oracle, result, types, grad=None, saves="") -> Routine:
    """`oracle(attr, x)`."""
    allowed = {"bifc".index(c) for c in types}

    def infer(attr, x):
        if x.dtype.category not in allowed: raise NotImplementedError(f"\"{name}_cpu\" not implemented for '{TITLES[x.dtype.name]}'")
        return result(x.dtype), x.shape

    def plan(attr, out, x):
        dim, reverse = attr
        return Native("scan", (name, x.dtype, out.dtype, reverse), lines(x.shape, dim), (Operand(x.dtype, "r"), Operand(out.dtype, "w")), math.prod(x.shape), name)
    return Routine(name, infer, (grad,), saves, oracle, plan=plan)


def _positions(better):
    def f(x, dim):
        x = np.moveaxis(x, dim, 0)
        out, best = np.zeros(x.shape, np.int64), x[:1].copy()
        where = np.zeros(x.shape[1:], np.int64)
        for i in range(len(x)):
            take = np.isnan(x[i]) | (~np.isnan(best[0]) & better(x[i], best[0])) if x.dtype.kind == "f" else better(x[i], best[0])
            best[0] = np.where(take, x[i], best[0])
            where = np.where(take, i, where)
            out[i] = where
        return np.moveaxis(out, 0, dim)

    def oracle(attr, x):
        out = _flipped(f)(attr, x)
        return x.shape[attr[0]] - 1 - out if attr[1] and x.ndim else out
    return oracle


def _sums(ufunc):
    def f(x, dim):
        wide = {"f": np.float64, "c": np.complex128}.get(x.dtype.kind, np.int64)
        with np.errstate(all="ignore"): return ufunc.accumulate(x, axis=dim, dtype=wide).astype(x.dtype if x.dtype.kind in "fc" else np.int64)
    return f


def _sum_grad(g, o, x, attr): return g.row(cumsum, attr=(attr[0], not attr[1]))


def _product_grad(g, o, x, attr):
    """Before a line's first zero: Σ g·o of what follows, over x. At it: the same with that zero taken for a one. After it: nothing."""
    dim, reverse = attr
    back = (dim, not reverse)
    zero = x == 0
    seen = zero.to(dt.int64).row(cumsum, attr=attr)
    x, o, first = conjugate(x), conjugate(o), zero & (seen == 1)
    before = (g * o).row(cumsum, attr=back) / select(zero, 1, x)
    without = select(first, 1, x).row(cumprod, attr=attr)
    at = select(seen > 0, g * without, 0).row(cumsum, attr=back)
    return select(seen == 0, before, select(first, at, 0))


def _log_grad(g, o, x, attr):
    """Σ g·exp(x - o) over what follows, in logarithms, gains and losses apart. Sums of nothing but exp(-inf) get no gradient (PyTorch: NaN)."""
    if x.dtype.is_complex: return conjugate(((conjugate(g).log() - o).row(logcumsumexp, attr=(attr[0], not attr[1])) + x).exp())
    back, none = (attr[0], not attr[1]), float("-inf")
    size = select(o == none, none, abs(g).log() - o)
    gain = select(g > 0, size, none).row(logcumsumexp, attr=back) + x
    loss = select(g < 0, size, none).row(logcumsumexp, attr=back) + x
    return gain.exp() - loss.exp()


def _log_oracle(x, dim):
    with np.errstate(all="ignore"):
        if x.dtype.kind == "c": return np.log(np.add.accumulate(np.exp(x.astype(np.complex128)), axis=dim)).astype(x.dtype)
        return np.logaddexp.accumulate(x.astype(np.float64), axis=dim).astype(x.dtype)


cumsum = _row("cumsum", _flipped(_sums(np.add)), summed, "bifc", _sum_grad)
cumprod = _row("cumprod", _flipped(_sums(np.multiply)), summed, "bifc", _product_grad, "ao")
logcumsumexp = _row("logcumsumexp", _flipped(_log_oracle), same, "fc", _log_grad, "ao")
cummax = _row("cummax", _positions(np.greater_equal), position, "bif")
cummin = _row("cummin", _positions(np.less_equal), position, "bif")
