"""Rows that order elements along one axis. They give positions; values are read there by `gather`, which also brings their gradient.

NaN is last when ascending, first when descending. Equal elements keep their order in a stable sort; in any other they end up where PyTorch's algorithm
leaves them, which is C++'s (`introsort`). unique is made of these parts: sort, compare neighbours, cumsum, nonzero.
"""
from __future__ import annotations

import math

import numpy as np

from ..core import dtype as dt
from ..core.kernels import Native, Operand
from ..core.op import Routine
from ..core.shape import preserves
from . import introsort
from .elementwise import TITLES
from .scan import lines


def _check(name, x):
    if x.dtype.is_complex: raise RuntimeError(f" {name} does not support complex dtypes on CPU")


def _resized(shape, dim, n): return (*shape[:dim], n, *shape[dim + 1:]) if shape else ()


def _sorted(x, dim, descending=False) -> np.ndarray:
    """Stable positions along an axis; NumPy puts NaN last."""
    if not x.ndim: return np.zeros((), np.int64)
    if not descending: return np.argsort(x, dim, kind="stable")
    back = np.argsort(np.flip(x, dim), dim, kind="stable")                   # from the end, so that flipping restores equal elements' order
    return x.shape[dim] - 1 - np.flip(back, dim)


def _each(x, dim, f) -> np.ndarray:
    """f(line) for every line along an axis: positions, as many for each."""
    if not x.ndim: return np.zeros((), np.int64)
    moved = np.moveaxis(x, dim, -1)
    found, many = [f(v) for v in moved.reshape(math.prod(moved.shape[:-1]), moved.shape[-1])], len(f(np.zeros(moved.shape[-1])))
    return np.moveaxis(np.array(found, np.int64).reshape(*moved.shape[:-1], many), -1, dim)


def _order(name, infer, k, how, oracle, layout=None) -> Routine:
    """attr = (dim, descending, …); k(attr, n): how many positions; how(attr): what is to become of equal elements."""
    def plan(attr, out, x):
        outer, n, inner = lines(x.shape, attr[0])
        return Native("order", (x.dtype, attr[1], how(attr)), (outer, n, inner, k(attr, n)), (Operand(x.dtype, "r"), Operand(dt.int64, "w")), math.prod(x.shape) * 8, name)
    return Routine(name, infer, oracle=oracle, plan=plan, layout=layout)


def _argsort_infer(attr, x):
    _check("Sort", x)
    return dt.int64, x.shape


def _topk_infer(attr, x):
    dim, _, k, _ = attr
    _check("topk", x)
    if x.dtype is dt.bool: raise RuntimeError("topk does not support bool dtypes on CPU")
    if not 0 <= k <= (x.shape[dim] if x.shape else 1): raise RuntimeError("selected index k out of range")
    return dt.int64, _resized(x.shape, dim, k)


argsort = _order("argsort", _argsort_infer, lambda attr, n: n, lambda attr: "stable" if attr[2] else "sort",
                 lambda attr, x: _sorted(x, *attr[:2]) if attr[2] else _each(x, attr[0], lambda v: introsort.sort(v, attr[1])), preserves)
"""attr = (dim, descending, stable)."""

topk = _order("topk", _topk_infer, lambda attr, n: attr[2], lambda attr: "top" if attr[3] else "top in any order",
              lambda attr, x: _each(x, attr[0], lambda v: introsort.top(v, *attr[1:])))
"""attr = (dim, largest, k, sorted): positions of the k first in that order."""


def _statistic(what, pick, name=None) -> Routine:
    """attr = (dim,) or (dim, k); the result keeps the axis with length 1. pick(sorted positions, line, k) chooses one of them."""
    name = name or what

    def infer(attr, x):
        dim, k = attr[0], attr[-1]
        n = x.shape[dim] if x.shape else 1
        if n == 0: raise IndexError(f"{name.removeprefix('nan')}(): Expected reduction dim {dim} to have non-zero size.")
        if what == "kth" and not 0 <= k < n: raise RuntimeError("kthvalue(): selected number k out of range for dimension " + str(dim))
        if x.dtype.is_complex or x.dtype is dt.bool and what != "mode" and (x.shape or what != "kth"):
            raise NotImplementedError(f"\"{name.removeprefix('nan')}_{'out' if 'median' in name else 'cpu'}\" not implemented for '{TITLES[x.dtype.name]}'")
        return dt.int64, _resized(x.shape, dim, 1)

    def plan(attr, out, x):
        return Native("statistic", (x.dtype, what), (*lines(x.shape, attr[0]), attr[-1]), (Operand(x.dtype, "r"), Operand(dt.int64, "w")), math.prod(x.shape) * 8, name)

    def oracle(attr, x):
        if not x.ndim: return np.zeros((), np.int64)
        if what == "kth": return _each(x, attr[0], lambda v: [introsort.kth(v, attr[-1])])
        places = _each(x, attr[0], lambda v: introsort.sort(v, False)) if what == "mode" else _sorted(x, attr[0])
        moved, order = np.moveaxis(x, attr[0], -1), np.moveaxis(places, attr[0], -1)
        flat = [pick(o, v[o], attr[-1]) for o, v in zip(order.reshape(-1, order.shape[-1]), moved.reshape(-1, moved.shape[-1]))]
        return np.moveaxis(np.array(flat, np.int64).reshape(*moved.shape[:-1], 1), -1, attr[0])
    return Routine(name, infer, oracle=oracle, plan=plan)


def _numbers(v) -> int: return len(v) - int(np.isnan(v).sum()) if v.dtype.kind == "f" else len(v)


def _commonest(order, v, k):
    best, start, at = 0, 0, 0
    for i in range(len(v)):
        if v[i] != v[start] and not (v[i] != v[i] and v[start] != v[start]): start = i
        if i - start >= best: best, at = i - start + 1, i
    return order[at]


kthvalue = _statistic("kth", None, "kthvalue")
"""attr = (dim, k), k from 0."""
median = _statistic("median", lambda order, v, k: order[_numbers(v) if _numbers(v) < len(v) else (len(v) - 1) // 2])
"""attr = (dim,). The lower of two middle ones; the first NaN if there is one."""
nanmedian = _statistic("nanmedian", lambda order, v, k: order[max((_numbers(v) - 1) // 2, 0)])
mode = _statistic("mode", _commonest)
"""attr = (dim,). The last place of the commonest value, the smallest of several."""


def _search_infer(attr, bounds, values, *sorter):
    right, result = attr
    if bounds.dtype is not values.dtype:
        raise RuntimeError("torch.searchsorted(): boundary tensor and input value tensor should have same dtype, "
                           f"but got boundary tensor dtype {TITLES[bounds.dtype.name]} and input value tensor dtype {TITLES[values.dtype.name]}")
    if len(bounds.shape) > 1 and (len(bounds.shape) != len(values.shape) or bounds.shape[:-1] != values.shape[:-1]):
        raise RuntimeError("torch.searchsorted(): boundaries tensor should be 1 dimension or the first N-1 dimensions of boundaries tensor and input value tensor must match, "
                           f"but we got boundaries tensor {list(bounds.shape)} and input value tensor {list(values.shape)}")
    if bounds.dtype.category in (dt.BOOL, dt.COMPLEX) and 0 not in values.shape:
        raise NotImplementedError(f"\"searchsorted_out_cpu\" not implemented for '{TITLES[bounds.dtype.name]}'")
    if sorter and sorter[0].dtype is not dt.int64: raise RuntimeError("torch.searchsorted(): sorter must be a tensor of long dtype")
    if sorter and sorter[0].shape != bounds.shape: raise RuntimeError("torch.searchsorted(): boundary and sorter must have the same size")
    return result, values.shape


def _search_plan(attr, out, bounds, values, *sorter):
    right, result = attr
    n = bounds.shape[-1]
    count, step = (1, 0) if len(bounds.shape) == 1 else (math.prod(bounds.shape[:-1]), n)
    operands = tuple(Operand(x.dtype, "r") for x in (bounds, values, *sorter)) + (Operand(result, "w"),)
    each = math.prod(values.shape) // max(count, 1)
    return Native("search", (bounds.dtype, right, result, bool(sorter)), (count, n, each, step), operands, math.prod(values.shape) * 8, "searchsorted")


def _search_oracle(attr, bounds, values, *sorter):
    right, result = attr
    if sorter: bounds = np.take_along_axis(bounds, sorter[0], -1)
    side = "right" if right else "left"
    if bounds.ndim == 1: return np.searchsorted(bounds, values, side).astype(result.code)
    out = [np.searchsorted(b, v, side) for b, v in zip(bounds.reshape(-1, bounds.shape[-1]), values.reshape(math.prod(bounds.shape[:-1]), -1))]
    return np.array(out).reshape(values.shape).astype(result.code)


searchsorted = Routine("searchsorted", _search_infer, oracle=_search_oracle, plan=_search_plan)
"""attr = (right, result dtype). Operands: sorted bounds (a vector, or one line per line of values), values, and perhaps the order that sorts the bounds."""
