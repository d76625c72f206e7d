"""Writing parts into copies, finding and counting different elements."""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..core.shape import is_contiguous, normalize_dim, whole
from ..dnn import elementwise as ew
from ..dnn import gather as ga
from ..dnn import movement as mv
from ..dnn import recipes as rc
from . import creation, data, functions as fn, gathering, views
from .bind import apply
from .modes import no_grad
from .tensor import Tensor, device_name, on_device, share
from .views import shape_of


# ---------------------------------------------------------------- parts written into a copy
def written(name, cut):
    """`cut(x, *where)` shows a part; the function returns a copy of input with src there."""
    def f(input, src, *where, **named):
        out = views.clone(input)
        part = cut(out, *where, **named)
        if shape_of(part) != shape_of(src): raise RuntimeError(f"expected src to have a size equal to the slice of self. src size = {list(shape_of(src))}, slice size = {list(shape_of(part))}")
        part.copy_(src)
        return out
    f.__name__ = name
    return f


def _slice(input, dim=0, start=None, end=None, step=1): return views.slice_(input, normalize_dim(dim, input.ndim), start, end, step)


def as_strided_scatter(input, src, size, stride, storage_offset=None):
    with no_grad(): part = views.as_strided(input.detach(), size, stride, storage_offset)
    if shape_of(part) != shape_of(src): raise RuntimeError(f"expected src to have a size equal to the slice of self. src size = {list(shape_of(src))}, slice size = {list(shape_of(part))}")
    mem, room = views.memory(input), math.prod(share(input).store.shape)
    at = views.memory(part)
    inside = at.offset + sum((n - 1) * s for n, s in zip(at.shape, at.strides)) < math.prod(mem.shape) or 0 in at.shape
    if mem == whole(mem.shape) and inside: return apply(rc.as_strided_scatter, input, fn.to(src, input.dtype), attr=at)
    if input.requires_grad and not is_contiguous(mem.shape, mem.strides): raise RuntimeError("as_strided_scatter is currently only supported for contiguous inputs")
    if any(n > 1 and s == 0 for n, s in zip(mem.shape, mem.strides)): out = views.clone(input)
    else: out = views.as_strided(views.clone(views.as_strided(input, (room,), (1,), 0)), *mem)          # of all memory: src may lie beside input
    views.as_strided(out, size, stride, storage_offset).copy_(src)
    return out


select_scatter, slice_scatter = written("select_scatter", lambda x, dim, index: views.select(x, dim, index)), written("slice_scatter", _slice)
diagonal_scatter = written("diagonal_scatter", views.diagonal)


def fill_diagonal_(self, fill_value, wrap=False):
    shape = shape_of(self)
    if len(shape) < 2: raise RuntimeError("dimensions must larger than 1")
    if len(shape) > 2 and len(set(shape)) > 1: raise RuntimeError("all dimensions of input must be of equal length")
    n = min(shape)
    strides = views.memory(self).strides
    views.as_strided(self, (n,), (sum(strides),)).fill_(fill_value)
    if wrap and len(shape) == 2 and shape[0] > shape[1] + 1:
        count = -(-(shape[0] - shape[1] - 1) // (shape[1] + 1))
        for k in range(count):
            top = (shape[1] + 1) * (k + 1)
            views.diagonal(views.narrow(self, 0, top, min(shape[1], shape[0] - top))).fill_(fill_value)
    return self


def masked_scatter(input, mask, source):
    """Elements where mask is true, replaced by source's first elements, in order."""
    if mask.dtype is not dt.bool: raise RuntimeError(f"masked_scatter_ only supports boolean masks, but got mask with dtype {mask.dtype!r}")
    if source.dtype is not input.dtype: raise RuntimeError(f"masked_scatter: expected self and source to have same dtypes but got {ew.TITLES[input.dtype.name]} and {ew.TITLES[source.dtype.name]}")
    input, mask = fn.broadcast_tensors(input, mask)
    if not mask.is_meta and source.numel() < data.item(fn.sum(mask)): raise RuntimeError("Number of elements of source < number of ones in mask")
    if not source.numel(): return views.dense_copy(input)
    order = fn.sub(gathering.cumsum(views.reshape(mask, (-1,)), 0), 1)
    taken = gathering.index_select(views.reshape(source, (-1,)), 0, apply(ew.clamp_min, order, 0) if source.numel() else order)
    return views.dense_copy(fn.where(mask, views.reshape(taken, shape_of(mask)), input))


def put(input, index, source, accumulate=False):
    if index.dtype is not dt.int64: raise RuntimeError(f"put_(): Expected a long tensor for index, but got {ew.TITLES[index.dtype.name]}")
    if index.numel() != source.numel(): raise RuntimeError(f"put_(): Expected source and index to have the same number of elements, but got source.numel() = {source.numel()}, index.numel() = {index.numel()}")
    return apply(ga.put_at, input, index, views.reshape(source, shape_of(index)), attr=(None, "sum" if accumulate else "set", True))


def index_reduce(input, dim, index, source, reduce, *, include_self=True):
    d = normalize_dim(dim, input.ndim)
    if reduce == "mean": return apply(ga.index_mean, input, index, source, attr=(d, include_self))
    if reduce not in ("prod", "amax", "amin"): raise RuntimeError(f"index_reduce(): Expected reduce to be one of prod, mean, amax or amin but got {reduce}.")
    return apply(ga.index_reduce, input, index, source, attr=(d, reduce, include_self))


# ---------------------------------------------------------------- finding
def argwhere(input): return gathering.nonzero(input)


def isin(elements, test_elements, *, assume_unique=False, invert=False):
    if not isinstance(elements, Tensor) and not isinstance(test_elements, Tensor): raise TypeError("isin(): at least one argument must be a Tensor")
    x = elements if isinstance(elements, Tensor) else fn.as_tensor(elements, test_elements)
    y = test_elements if isinstance(test_elements, Tensor) else fn.as_tensor(test_elements, x)
    hit = fn.any(apply(ew.eq, views.unsqueeze(x, -1), views.reshape(y, (-1,))), -1) if y.numel() else apply(mv.full, attr=(shape_of(x), dt.bool, False))
    return apply(ew.logical_not, hit) if invert else hit


def unravel_index(indices, shape):
    shape = (int(shape),) if isinstance(shape, int) else tuple(int(n) for n in (shape.tolist() if isinstance(shape, Tensor) else shape))
    if indices.dtype.category != dt.INT: raise ValueError(f"expected 'indices' to be integer dtype, but got {indices.dtype!r}")
    indices, out, step = fn.to(indices, dt.int64), [], 1
    for n in reversed(shape):
        out.append(apply(ew.remainder, apply(ew.floor_divide, indices, step), n))
        step *= n
    return tuple(reversed(out))


# ---------------------------------------------------------------- different elements
def _rows(x, dim):
    """x as (n, elements) along one axis, and how to go back."""
    d = normalize_dim(dim, x.ndim)
    moved = views.movedim(x, d, 0)
    rest = shape_of(moved)[1:]
    return views.reshape(moved, (shape_of(moved)[0], math.prod(rest))), lambda rows: views.movedim(views.reshape(rows, (shape_of(rows)[0], *rest)), 0, d)


def _starts(rows):
    """Where a row differs from the one before it."""
    n = shape_of(rows)[0]
    k = max(n - 1, 0)
    change = fn.any(apply(ew.ne, views.narrow(rows, 0, n - k, k), views.narrow(rows, 0, 0, k)), 1)
    return fn.cat([on_device(apply(mv.full, attr=((min(n, 1),), dt.bool, True)), device_name(rows)), change], 0)


def _runs(rows, back, inverse, counts, shape, order=None):
    """Results for rows whose equals are neighbours; `order` tells where each came from."""
    n = shape_of(rows)[0]
    fresh = _starts(rows)
    starts = gathering.nonzero(fresh, as_tuple=True)[0]
    out = [back(gathering.index_select(rows, 0, starts))]
    if inverse:
        rank = fn.sub(gathering.cumsum(fresh, 0), 1)
        if order is not None: rank = gathering.scatter(apply(mv.full, attr=((n,), dt.int64, 0)), 0, order, rank)
        out.append(views.reshape(rank, shape))
    if counts:
        ends = fn.cat([views.narrow(starts, 0, min(1, starts.numel()), max(starts.numel() - 1, 0)), on_device(apply(mv.full, attr=((min(n, 1),), dt.int64, n)), device_name(rows))], 0)
        out.append(fn.sub(ends, starts))
    return tuple(out) if len(out) > 1 else out[0]


def unique(input, sorted=True, return_inverse=False, return_counts=False, dim=None):
    """Different elements, or different slices along dim, ascending. Their number is a value, so this runs the window."""
    if input.dtype.is_complex: raise NotImplementedError(f"\"unique\" not implemented for '{ew.TITLES[input.dtype.name]}'")
    if dim is None:
        values, order = gathering.sort(views.reshape(input, (-1,)), 0, stable=True)
        return _runs(views.unsqueeze(values, 1), lambda r: views.reshape(r, (-1,)), return_inverse, return_counts, shape_of(input), order)
    rows, back = _rows(input, dim)
    order = on_device(creation.arange(shape_of(rows)[0]), device_name(input))
    for c in range(shape_of(rows)[1] - 1, -1, -1):             # a stable sort per column, the first column last
        order = gathering.index_select(order, 0, gathering.argsort(gathering.index_select(views.select(rows, 1, c), 0, order), 0, stable=True))
    return _runs(gathering.index_select(rows, 0, order), back, return_inverse, return_counts, (shape_of(rows)[0],), order)


def unique_consecutive(input, return_inverse=False, return_counts=False, dim=None):
    if dim is None: return _runs(views.reshape(input, (-1, 1)), lambda r: views.reshape(r, (-1,)), return_inverse, return_counts, shape_of(input))
    rows, back = _rows(input, dim)
    return _runs(rows, back, return_inverse, return_counts, (shape_of(rows)[0],))


def msort(input): return gathering.sort(input, 0)[0]
