"""Pooling rows: a padded value seen through overlapping windows, and a reduction over each window.

x is (N, C, *size); attr = a Window, or the output's size for the adaptive ones. Windows are one view, so that a pool is one nest of loops:

  max_pool, max_pool_indices   largest element of each window, and its flat position in the plane (the first of equals)
  avg_pool                     the mean; padding counts as zeros or not, or any divisor
  adaptive_avg_pool            windows of equal size are a view; others are sums of what lies within them, axis by axis
  adaptive_max_pool, …_indices windows gathered, shorter ones filled up with their own last element
"""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..core import dtype as dt
from ..core.shape import View, contiguous, follows
from .elementwise import maximum, minimum, select, trunc_divide
from .gather import gather, gather_back
from .movement import put, view
from .recipes import need, recipe, up
from .reduce import amax, amin, argmax, sum_


class Window(NamedTuple):
    """One entry per spatial axis. `ceil`: windows may reach over the end, if they start inside. count_pad and divisor: avg_pool only."""
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    ceil: bool = False
    count_pad: bool = True
    divisor: int = 0

    def out(self, size):
        out = []
        for n, k, s, p, d in zip(size, self.kernel, self.stride, self.padding, self.dilation):
            m = (n + 2 * p - d * (k - 1) - 1 + (s - 1 if self.ceil else 0)) // s + 1
            out.append(m - 1 if self.ceil and (m - 1) * s >= n + p else m)
        return tuple(out)


def _infer(name, result=None):
    def infer(spec, x):
        need(name, x, (dt.INT, dt.FLOAT))
        if min(spec.stride) <= 0: raise RuntimeError("stride should not be zero" if 0 in spec.stride else "stride must be greater than zero")
        if min(spec.kernel) <= 0: raise RuntimeError("kernel size should be greater than zero, but got " + " ".join(f"{k}" for k in spec.kernel))
        if min(spec.dilation) <= 0: raise RuntimeError("dilation should be greater than zero, but got " + " ".join(f"{k}" for k in spec.dilation))
        for k, p, d in zip(spec.kernel, spec.padding, spec.dilation):
            if p < 0: raise RuntimeError(f"pad must be non-negative, but got pad: {p}")
            if p > (d * (k - 1) + 1) // 2:
                raise RuntimeError(f"pad should be at most half of effective kernel size, but got pad={p}, kernel_size={k} and dilation={d}")
        if 0 in x.shape[1:]: raise RuntimeError(f"{name}(): Expected input's non-batch dimensions to have positive length, but input has a shape of {list(x.shape)}")
        size, out = x.shape[2:], spec.out(x.shape[2:])
        if min(out) < 1:
            shapes = ["x".join(map(str, (x.shape[1], *s))) for s in (size, out)]
            raise RuntimeError(f"Given input size: ({shapes[0]}). Calculated output size: ({shapes[1]}). Output size is too small")
        return result or x.dtype, (*x.shape[:2], *out)
    return infer


# ---- windows
def places(spec, shape):
    """(padded shape, where x lies in it, the windows' view of it); padded shape is x's when nothing reaches over the edge."""
    size, n = shape[2:], len(spec.kernel)
    out = spec.out(size)
    reach = [(m - 1) * s + d * (k - 1) + 1 for m, k, s, d in zip(out, spec.kernel, spec.stride, spec.dilation)]
    padded = (*shape[:2], *(max(r, p + m) for r, p, m in zip(reach, spec.padding, size)))
    steps = contiguous(padded)
    inside = View(tuple(shape), steps, sum(p * s for p, s in zip(spec.padding, steps[2:])))
    strides = (*steps[:2], *(t * s for t, s in zip(steps[2:], spec.stride)), *(t * d for t, d in zip(steps[2:], spec.dilation)))
    assert len(strides) == 2 + 2 * n
    return padded, inside, View((*shape[:2], *out, *spec.kernel), strides, 0)


def windows(x, spec, fill):
    """(N, C, *out, *kernel)"""
    padded, inside, seen = places(spec, x.shape)
    if padded != tuple(x.shape): x = x.filled(padded, fill).row(put, x, attr=inside)
    return x.row(view, attr=seen)


class Shaped(NamedTuple):
    shape: tuple[int, ...]


def unwindowed(g, spec, shape):
    """The transpose of `windows`: every window's elements added at their places in a value of `shape`."""
    padded, inside, seen = places(spec, shape)
    k, tiles = len(spec.kernel), spec.stride == spec.kernel and max(spec.dilation) == 1
    if tiles and padded == tuple(shape) and all(n % t == 0 for n, t in zip(shape[2:], spec.kernel)):      # every element is in exactly one window
        return g.permute((0, 1, *(d for a in range(k) for d in (2 + a, 2 + k + a)))).reshape(shape)
    g = view.grads[0](g, None, Shaped(padded), attr=seen)
    return g if padded == tuple(shape) else g.row(view, attr=inside)


def last(n, k): return tuple(range(n - k, n))


def reduced(x, row, k):
    """x reduced over its last k axes, which go away."""
    n = len(x.shape)
    return x.row(row, attr=last(n, k)).reshape(x.shape[:n - k])


def lowest(x): return -math.inf if x.dtype.category == dt.FLOAT else int(np.iinfo(x.dtype.code).min)


# ---- max
def _largest(spec, x): return reduced(windows(x, spec, lowest(x)), amax, len(spec.kernel))


def _where(spec, x):
    """Position in the window of each maximum, row-major: (N, C, *out). The maximum is there anyway; asking who it is costs less than argmax."""
    w, k = windows(x, spec, lowest(x)), len(spec.kernel)
    largest = w.row(amax, attr=last(len(w.shape), k))
    found = (w == largest) | (w != w)          # a NaN is the maximum, and equals nothing
    place = x.ramp(math.prod(spec.kernel), dtype=dt.int32).reshape(spec.kernel)
    return reduced(select(found, place, math.prod(spec.kernel)), amin, k).to(dt.int64)


def _flat(spec, x):
    """The same as a position in the plane: per axis, out · stride - padding + tap · dilation."""
    where, size, k = _where(spec, x), x.shape[2:], len(spec.kernel)
    flat, out = None, where.shape[2:]
    for axis in range(k):
        inner = math.prod(spec.kernel[axis + 1:])
        tap = _times(where, inner, spec.kernel[axis])
        if axis < k - 1: where = where - tap * inner
        start = x.ramp(out[axis], -spec.padding[axis], spec.stride[axis]).reshape((out[axis], *(1,) * (k - 1 - axis)))
        part = (start + tap * spec.dilation[axis]) * math.prod(size[axis + 1:])
        flat = part if flat is None else flat + part
    return flat


def _whole(x, n): return x if isinstance(n, int) and n == 1 else x.row(trunc_divide, n)


def _times(x, n, most):
    """How often n goes into x, which is less than most · n. Few comparisons are quicker than a division of int64, which no processor has for vectors."""
    if n == 1 or most > 8: return _whole(x, n)
    out = None
    for k in range(1, most):
        here = (x >= k * n).to(dt.int64)
        out = here if out is None else out + here
    return x.filled(x.shape, 0) if out is None else out


def planes(x): return x.reshape((*x.shape[:2], math.prod(x.shape[2:])))


def _max_grad(g, o, x, attr):
    k = len(attr.kernel)
    # windows don't overlap: each element asks whether it won
    if all(s >= e for s, e in zip(attr.stride, attr.kernel)) and max(attr.dilation) == 1:
        where = _where(attr, x).reshape((*g.shape, *(1,) * k))
        mine = x.ramp(math.prod(attr.kernel)).reshape(attr.kernel)
        return unwindowed(select(where == mine, g.reshape((*g.shape, *(1,) * k)), 0), attr, x.shape)
    return planes(g).row(gather_back, planes(x.row(max_pool_indices, attr=attr)), attr=(2, planes(x).shape)).reshape(x.shape)


max_pool = recipe("max_pool", _infer("max_pool2d"), _largest, _max_grad, layout=follows)
max_pool_indices = recipe("max_pool_indices", _infer("max_pool2d", dt.int64), _flat, layout=follows)


# ---- average
def _divisor(spec, x):
    """A number, or how many elements each window has: (1, 1, *out)."""
    if spec.divisor: return spec.divisor
    size, out = x.shape[2:], spec.out(x.shape[2:])
    border = spec.padding if spec.count_pad else (0,) * len(size)
    counts = []
    for n, m, k, s, p, b in zip(size, out, spec.kernel, spec.stride, spec.padding, border):
        counts.append([min(i * s - p + k, n + b) - max(i * s - p, -b) for i in range(m)])
    if all(len(set(c)) == 1 for c in counts): return math.prod(c[0] for c in counts)
    total = None
    for axis, (n, m, k, s, p, b) in enumerate(zip(size, out, spec.kernel, spec.stride, spec.padding, border)):
        first = x.ramp(m, -p, s)
        c = (first + k).row(minimum, n + b) - first.row(maximum, -b)
        c = c.reshape((m, *(1,) * (len(size) - 1 - axis)))
        total = c if total is None else total * c
    return total


def _average(spec, x):
    w = windows(up(x), spec, 0)
    return (reduced(w, sum_, len(spec.kernel)) / _divisor(spec, x)).to(x.dtype) if x.dtype.category == dt.FLOAT else \
        _whole(reduced(w, sum_, len(spec.kernel)), _divisor(spec, x)).to(x.dtype)


def _average_grad(g, o, x, attr):
    share = (up(g) / _divisor(attr, x)).reshape((*g.shape, *(1,) * len(attr.kernel)))
    return unwindowed(share.expand((*g.shape, *attr.kernel)), attr, x.shape).to(x.dtype)


avg_pool = recipe("avg_pool", _infer("avg_pool2d"), _average, _average_grad, saves="", layout=follows)


# ---- adaptive
def _adaptive_infer(name, result=None):
    def infer(out, x):
        need(name, x, (dt.FLOAT,))
        for d, n in enumerate(x.shape[2:], 2):
            if n == 0:
                raise RuntimeError(f"{name}(): Expected input to have non-zero size for non-batch dimensions, "
                                   f"but input has sizes {list(x.shape)} with dimension {d} being empty")
        return result or x.dtype, (*x.shape[:2], *out)
    return infer


def equal_windows(out, size) -> Window | None:
    """The windows of an adaptive pool when they are all alike."""
    if any(m == 0 or n % m for m, n in zip(out, size)): return None
    kernel = tuple(n // m for m, n in zip(out, size))
    return Window(kernel, kernel, (0,) * len(kernel), (1,) * len(kernel))


def bounds(x, m, n):
    """First element of each of m bins over n, and one past the last: floor(i · n / m), ceil((i + 1) · n / m)."""
    i = x.ramp(m)
    return (i * n).row(trunc_divide, m), ((i + 1) * n + (m - 1)).row(trunc_divide, m)


def _members(x, m, n):
    """(m, n): which elements are in which bin; and the bins' lengths (m, 1)."""
    first, end = (b.reshape((m, 1)) for b in bounds(x, m, n))
    at = x.ramp(n)
    return (at >= first) & (at < end), (end - first).to(x.dtype)


def _along(x, axis): return x.transpose(axis, -1)


def _adaptive_average(out, x):
    spec = equal_windows(out, x.shape[2:])
    if spec: return _average(spec, x)
    h, x = x.dtype, up(x)
    for axis, m in enumerate(out, 2):
        n = x.shape[axis]
        if n == m: continue
        inside, length = _members(x, m, n)
        rows = _along(x, axis)                                                 # (…, n)
        bins = select(inside, rows.reshape((*rows.shape[:-1], 1, n)), 0) / length                 # (…, m, n)
        x = _along(reduced(bins, sum_, 1), axis)
    return x.to(h)


def _adaptive_average_grad(g, o, x, attr):
    spec = equal_windows(attr, x.shape[2:])
    if spec: return _average_grad(g, o, x, spec)
    g = up(g)
    for axis, m in enumerate(attr, 2):
        n = x.shape[axis]
        if n == m: continue
        inside, length = _members(g, m, n)
        rows = _along(g, axis)                                                 # (…, m)
        shares = select(inside.transpose(0, 1), rows.reshape((*rows.shape[:-1], 1, m)) / length.reshape((m,)), 0)      # (…, n, m)
        g = _along(reduced(shares, sum_, 1), axis)
    return g.to(x.dtype)


adaptive_avg_pool = recipe("adaptive_avg_pool", _adaptive_infer("adaptive_avg_pool2d"), _adaptive_average, _adaptive_average_grad, saves="", layout=follows)


def _bins(out, x):
    """Flat positions of each bin's elements, the shorter bins filled up with their last one: (*out, *longest)."""
    size, k, flat = x.shape[2:], len(out), None
    for axis, (m, n) in enumerate(zip(out, size)):
        first, end = bounds(x, m, n)
        longest = max(-(-(i + 1) * n // m) - i * n // m for i in range(m))
        at = (first.reshape((m, 1)) + x.ramp(longest)).row(minimum, end.reshape((m, 1)) - 1)
        at = at.reshape((*(m if d == axis else longest if d == k + axis else 1 for d in range(2 * k)),)) * math.prod(size[axis + 1:])
        flat = at if flat is None else flat + at
    return flat


def _gathered(out, x):
    """(values, flat positions) of all bins: (N, C, *out, elements of a bin)."""
    flat = _bins(out, x)
    shape = (*x.shape[:2], math.prod(flat.shape))
    index = flat.reshape((1, 1, shape[2])).expand(shape)
    bins = (*x.shape[:2], *out, math.prod(flat.shape[len(out):]))
    return planes(x).row(gather, index, attr=2).reshape(bins), index.reshape(bins)


def _adaptive_largest(out, x):
    spec = equal_windows(out, x.shape[2:])
    return _largest(spec, x) if spec else reduced(_gathered(out, x)[0], amax, 1)


def _adaptive_where(out, x):
    spec = equal_windows(out, x.shape[2:])
    if spec: return _flat(spec, x)
    values, index = _gathered(out, x)
    axis = len(values.shape) - 1
    return index.row(gather, values.row(argmax, attr=(axis,)), attr=axis).reshape(values.shape[:-1])


def _adaptive_largest_grad(g, o, x, attr):
    where = planes(x.row(adaptive_max_pool_indices, attr=attr))
    return planes(g).row(gather_back, where, attr=(2, planes(x).shape)).reshape(x.shape)


adaptive_max_pool = recipe("adaptive_max_pool", _adaptive_infer("adaptive_max_pool2d"), _adaptive_largest, _adaptive_largest_grad, layout=follows)
adaptive_max_pool_indices = recipe("adaptive_max_pool_indices", _adaptive_infer("adaptive_max_pool2d", dt.int64), _adaptive_where, layout=follows)
