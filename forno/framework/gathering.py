"""Functions that read, write or order elements at positions held by other tensors."""
from __future__ import annotations

import functools
import math

import numpy as np

from ..core import dtype as dt
from ..core.shape import normalize_dim
from ..dnn import claims as cl
from ..dnn import elementwise as ew
from ..dnn import gather as ga
from ..dnn import movement as mv
from ..dnn import reduce as rd
from ..dnn import scan as sc
from ..dnn import sort as so
from ..graph.line import record
from . import data, functions as fn, views
from .bind import apply, binary, constant, held, land, number
from .modes import is_grad_enabled
from .phrase import remembered
from .results import named
from .tensor import Tensor, check_write, device_name, is_meta, on_device, owned, read, without_data
from .views import shape_of


multiply = binary(ew.mul)


# ---------------------------------------------------------------- indices out of range
def inside(op, index: Tensor, axis: int, size: int, low: int, attr=None, ndim: int = 2):
    """A small index tensor whose values are there already is checked now, where the user stands; others by the kernel, at the flush."""
    def check(values):
        if low == 0 and data.below(values, size): return
        for found in (int(values.min()), int(values.max())):
            if not low <= found < size: raise ga.out_of_range(op, attr, axis, found, size, ndim)
    data.look(index, (low, size), check)


def claimed(x: Tensor, low, high, error: type, text: str) -> Tensor:
    """x, which PyTorch demands to be from low to high; `text` as in dnn/claims.py. Small integers that are known are looked at now."""
    def check(values):
        wrong = np.flatnonzero((values < low) | (values > high))
        if wrong.size: raise cl.refusal((error, text), values, low, high)
    if x.dtype.category == dt.INT: data.look(x, (low, high, text), check)
    return apply(cl.within, x, low, high, attr=(error, text))


def along(op, input, d, index, values=None, attr=None) -> Tensor:
    """A row that takes positions along one axis."""
    if shape_of(input): inside(op, index, d, shape_of(input)[d], 0, attr, len(shape_of(input)))
    return apply(op, input, index, attr=d) if values is None else apply(op, input, index, values, attr=attr)


# ---------------------------------------------------------------- advanced indexing
def beside(t: Tensor, picks) -> list:
    """Indices where t is: those on the CPU are taken to any device."""
    where = device_name(t)
    if where == "meta" or all([p is None or device_name(p) == where for p in picks]): return picks
    if any([p is not None and device_name(p) not in ("cpu", where) for p in picks]):
        raise RuntimeError(f"indices should be either on cpu or on the same device as the indexed tensor ({where})")
    return [p if p is None else on_device(p, where) for p in picks]


def index(t: Tensor, picks) -> Tensor:
    """t[…] with one int64 tensor or None per axis."""
    picks = beside(t, picks)
    axes = tuple(d for d, p in enumerate(picks) if p is not None)
    for k, d in enumerate(axes): inside(ga.index, picks[d], k, shape_of(t)[d], -shape_of(t)[d])
    return apply(ga.index, t, *[p for p in picks if p is not None], attr=axes)


def write_at(t: Tensor, picks, value, accumulate=False) -> Tensor:
    """t[…] = value with one int64 tensor or None per axis."""
    axes = tuple(d for d, p in enumerate(picks) if p is not None)
    check_write(t, False)
    picks = beside(t, picks)
    for k, d in enumerate(axes): inside(ga.index_put, picks[d], k, shape_of(t)[d], -shape_of(t)[d])
    value = fn.to(value, t.dtype)
    land(t, record(ga.index_put, (read(t), *[read(p) for p in picks if p is not None], read(value)), (axes, "sum" if accumulate else "set", True)))
    return t


def unlike(input, values) -> RuntimeError:
    return RuntimeError(f"Index put requires the source and destination dtypes match, got {ew.TITLES[input.dtype.name]} for the destination and "
                        f"{ew.TITLES[values.dtype.name]} for the source.")


def picks_of(t, indices) -> list:
    """torch.index_put's indices, one tensor or None per axis."""
    picks = []
    for x in indices: picks += [None] if x is None else index_tensors(x, shape_of(t), len(picks))
    if len(picks) > len(shape_of(t)): raise IndexError(f"too many indices for tensor of dimension {len(shape_of(t))} (got {len(picks)})")
    return picks


def index_put_(input, indices, values, accumulate=False):
    if values.dtype is not input.dtype: raise unlike(input, values)
    return write_at(input, picks_of(input, indices), values, accumulate)


def index_put(input, indices, values, accumulate=False): return index_put_(views.clone(input), indices, values, accumulate)


def is_mask(x) -> bool: return isinstance(x, Tensor) and x.dtype in (dt.bool, dt.uint8) or isinstance(x, np.ndarray) and x.dtype == np.bool_


def index_tensors(x, shape, d) -> list:
    """An index operand as int64 tensors, one per axis it consumes; masks become the positions of their true elements."""
    if not isinstance(x, Tensor): x = data.from_data(x) if len(x) else data.from_data(x, dt.int64)
    if x.dtype in (dt.bool, dt.uint8):
        mask = shape_of(x)
        if mask != shape[d:d + len(mask)]:
            k = next(k for k in range(len(mask)) if d + k >= len(shape) or mask[k] != shape[d + k])
            raise IndexError(f"The shape of the mask {list(mask)} at index {k} does not match the shape of the indexed tensor {list(shape)} at index {d + k}")
        return list(nonzero(x, as_tuple=True))
    if x.dtype.category != dt.INT: raise IndexError("tensors used as indices must be long, int, byte or bool tensors")
    return [fn.to(x, dt.int64)]


def first(input) -> Tensor:
    """The position of a 0-d tensor's only element."""
    return without_data(dt.int64, ()) if is_meta(input) else on_device(apply(mv.full, attr=((), dt.int64, 0)), device_name(input))


def nonzero(input, *, as_tuple=False):
    """Positions of elements that aren't zero: their number is a value, so this runs the window."""
    counts = _counted(input)
    where = _found(data.total(counts))(input, counts)
    if not as_tuple: return where
    if not shape_of(input): return (on_device(apply(mv.full, attr=((shape_of(where)[0],), dt.int64, 0)), device_name(input)),)
    return views.unbind(where, 1)


@remembered
def _counted(x): return apply(ga.nonzero_count, x)


@functools.lru_cache(4096)
def _found(n: int):
    """The function that writes n positions: calls are remembered by function, and the number differs from call to call."""
    def found(x, counts): return apply(ga.nonzero_fill, x, counts, attr=n)
    return remembered(found)


def where(condition, input=None, other=None):
    """One of two tensors by a condition; with the condition alone, where it holds."""
    if input is None and other is None: return nonzero(condition, as_tuple=True)
    return fn.where(condition, input, other)


def masked_select(input, mask):
    if mask.dtype is not dt.bool: raise RuntimeError("masked_select: expected BoolTensor for mask")
    input, mask = fn.broadcast_tensors(input, mask)
    if not shape_of(input): input, mask = views.reshape(input, (1,)), views.reshape(mask, (1,))
    return index(input, list(nonzero(mask, as_tuple=True)))


def flat_dim(t, dim): return normalize_dim(dim, len(shape_of(t)))


def indices_of(index):
    if index.dtype not in (dt.int64, dt.int32): raise RuntimeError("expected index to have dtype int32/int64")
    return index


def positions(name, index):
    """An index of gather or scatter: an empty one may have any type."""
    if index.dtype in (dt.int64, dt.int32): return index
    if index.numel(): raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index")
    return fn.to(index, dt.int64)


def gather(input, dim, index, *, sparse_grad=False):
    index = positions("gather", index)
    if not index.numel(): return views.clone(views.reshape(views.narrow(views.reshape(input, (-1,)), 0, 0, 0), shape_of(index)))
    return along(ga.gather, input, flat_dim(input, dim), index)


def take_along_dim(input, indices, dim=None):
    if dim is None: return gather(views.reshape(input, (-1,)), 0, views.reshape(indices, (-1,)))
    d = flat_dim(input, dim)
    indices = apply(ew.remainder, positions("take_along_dim", indices), shape_of(input)[d] if shape_of(input) else 1)        # negative ones count from the end
    shape = list(fn.broadcast(shape_of(input)[:d] + (1,) + shape_of(input)[d + 1:], shape_of(indices)[:d] + (1,) + shape_of(indices)[d + 1:]))
    return gather(views.expand(input, shape[:d] + [shape_of(input)[d]] + shape[d + 1:]), d, views.expand(indices, shape[:d] + [shape_of(indices)[d]] + shape[d + 1:]))


def index_select(input, dim, index): return along(ga.index_select, input, flat_dim(input, dim), indices_of(index))

def take(input, index):
    n = math.prod(shape_of(input))
    inside(ga.take, index, 0, n, -n)
    return apply(ga.take, input, index, attr=None)


MODES = {None: "set", "add": "sum", "sum": "sum", "multiply": "prod", "prod": "prod", "amax": "amax", "amin": "amin"}


def scatter(input, dim, index, src=None, *, value=None, reduce=None):
    src = value if src is None else src
    if not isinstance(src, Tensor): src = owned(constant(src, input.dtype))
    index = positions("scatter", index)
    d = flat_dim(input, dim)
    if reduce in ("multiply", "prod"): return apply(ga.scatter_reduce, input, index, src if shape_of(src) else views.expand(src, shape_of(index)), attr=(d, "prod", True))
    return along(ga.scatter, input, d, index, src, (d, MODES[reduce], True))


def scatter_add(input, dim, index, src): return scatter(input, dim, index, src, reduce="add")


def scatter_reduce(input, dim, index, src, reduce, *, include_self=True):
    d = flat_dim(input, dim)
    if input.dtype.is_complex and is_grad_enabled() and (input.requires_grad or src.requires_grad):
        raise RuntimeError("scatter_reduce does not support automatic differentiation for outputs with complex dtype.")
    if reduce == "mean": return apply(ga.scatter_mean, input, index, src, attr=(d, include_self))
    if reduce == "sum" and include_self: return scatter_add(input, dim, index, src)
    if reduce not in ("sum", "prod", "amax", "amin"): raise RuntimeError(f"reduce argument must be either sum, prod, mean, amax or amin, got {reduce}")
    return along(ga.scatter_reduce, input, d, index, src, (d, reduce, include_self))


def index_add(input, dim, index, source, *, alpha=1):
    if shape_of(source) and index.numel() != shape_of(source)[flat_dim(source, dim) if len(shape_of(source)) > dim else 0]:
        raise RuntimeError(f"index_add_(): Number of indices ({index.numel()}) should be equal to source.size(dim): ({shape_of(source)})")
    if len(shape_of(source)) != len(shape_of(input)) and shape_of(source) and shape_of(input):
        raise RuntimeError(f"source tensor shape must match self tensor shape, excluding the specified dimension. Got self.shape = {list(shape_of(input))} source.shape = {list(shape_of(source))}")
    if alpha != 1: source = multiply(source, alpha).to(source.dtype)
    d = flat_dim(input, dim)
    return along(ga.index_write, input, d, indices_of(index), source, (d, "sum", True))


def index_copy(input, dim, index, source):
    d = flat_dim(input, dim)
    return along(ga.index_write, input, d, indices_of(index), source, (d, "set", True))


def index_fill(input, dim, index, value):
    if isinstance(value, Tensor) and shape_of(value):
        raise RuntimeError(f"index_fill_ only supports a 0-dimensional value tensor, but got tensor with {value.ndim} dimension(s).")
    if not input.dtype.is_complex and (value.dtype.is_complex if isinstance(value, Tensor) else isinstance(value, complex)):
        raise RuntimeError("index_fill_(): Converting complex Scalar to non-complex type is not supported")
    if not isinstance(value, Tensor): held(value, input.dtype)
    d = flat_dim(input, dim)
    n = shape_of(input)[d] if shape_of(input) else 1
    index = claimed(indices_of(index), -n, n - 1, IndexError, f"index {{x}} is out of bounds for dimension {d} with size {n}")
    index = fn.where(index < 0, index + n, index)                # this one of the family counts from the end too
    there = apply(ga.index_write, apply(mv.full, attr=((n,), dt.bool, False)), index, apply(mv.full, attr=((), dt.bool, True)), attr=(0, "set", True))
    there = views.reshape(there, tuple(n if k == d else 1 for k in range(len(shape_of(input)))))
    return views.as_preserved(apply(ew.masked_fill, input, there, value), input)


# ---------------------------------------------------------------- order
def picked(input, where, dim, keepdim):
    """(values, indices) of one position per line."""
    values = gather(input, dim, where) if shape_of(input) else views.clone(input)
    if keepdim or not shape_of(input): return values, where
    return views.squeeze(values, dim), views.squeeze(where, dim)


def order(input, d, descending, stable):
    """Positions in order. PyTorch's are stable along an expanded axis and for long lists of integers, too."""
    n = shape_of(input)[d] if shape_of(input) else 1
    long = n >= 1 << 15 and input.ndim == 1 and input.dtype.category == dt.INT and not descending
    return apply(so.argsort, input, attr=(d, bool(descending), bool(stable) or n <= 16 or long or input.stride(d) == 0))


def sort(input, dim=-1, descending=False, stable=False):
    d = flat_dim(input, dim)
    where = order(input, d, descending, stable)
    return named("sort", values=views.as_preserved(gather(input, d, where), input) if shape_of(input) else views.clone(input), indices=where)


def argsort(input, dim=-1, descending=False, stable=False): return order(input, flat_dim(input, dim), descending, stable)


def topk(input, k, dim=-1, largest=True, sorted=True):
    d = flat_dim(input, dim)
    where = apply(so.topk, input, attr=(d, bool(largest), int(k), bool(sorted)))
    if not shape_of(input): return named("topk", values=views.clone(input), indices=first(input))          # also for k = 0
    return named("topk", values=gather(input, d, where), indices=where)


def statistic(row, name):
    def f(input, *args, dim=None, keepdim=False):
        attr = ()
        if name == "kthvalue":
            k, *args = args
            attr = (int(k) - 1,)
        if args: dim, *args = args
        if args: keepdim, = args
        if dim is None:
            if name in ("median", "nanmedian") and not input.numel(): return fn.to(apply(mv.full, attr=((), dt.float32, math.nan)), input.dtype)
            if name in ("median", "nanmedian"): return picked(views.reshape(input, (-1,)), apply(row, views.reshape(input, (-1,)), attr=(0,)), 0, False)[0]
            dim = -1
        d = flat_dim(input, dim)
        values, where = picked(input, apply(row, input, attr=(d, *attr)), d, keepdim)
        return named(name, values=values, indices=where)
    f.__name__ = name
    return f


kthvalue, median, nanmedian, mode = statistic(so.kthvalue, "kthvalue"), statistic(so.median, "median"), statistic(so.nanmedian, "nanmedian"), statistic(so.mode, "mode")


def extreme(name, row, arg, pairwise):
    """max and min: of everything, along an axis with indices, or of two tensors."""
    def f(input, dim=None, keepdim=False, *, other=None):
        if isinstance(dim, Tensor): other = dim
        if other is not None: return pairwise(input, other)
        if dim is None:
            if input.numel() == 0: raise RuntimeError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with the 'dim' argument.")
            return fn.reduce(row, input)
        d = flat_dim(input, dim)
        if input.dtype.is_complex and 0 not in shape_of(input)[d:d + 1]: raise RuntimeError(f"{name}(): does not support complex input")
        if not shape_of(input): return named(name, values=views.clone(input), indices=first(input))
        if shape_of(input)[d] == 0: raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")
        where = apply(arg, fn.to(input, dt.uint8) if input.dtype is dt.bool else input, attr=(d,))
        values, where = picked(input, where, d, keepdim)
        return named(name, values=values, indices=where)
    f.__name__ = name
    return f


max_, min_ = extreme("max", rd.amax, rd.argmax, binary(ew.maximum)), extreme("min", rd.amin, rd.argmin, binary(ew.minimum))


# ---------------------------------------------------------------- running sums
def running(row):
    def f(input, dim, *, dtype=None):
        if dtype is not None: input = fn.to(input, dtype)
        out = apply(row, input, attr=(flat_dim(input, dim), False))
        return out if dtype is None else fn.to(out, dtype)
    f.__name__ = row.name
    return f


cumsum, cumprod, logcumsumexp = running(sc.cumsum), running(sc.cumprod), running(sc.logcumsumexp)


def running_extreme(row, name):
    def f(input, dim):
        d = flat_dim(input, dim)
        where = apply(row, input, attr=(d, False))
        return named(name, values=gather(input, d, where) if shape_of(input) else views.clone(input), indices=where)
    return f


cummax, cummin = running_extreme(sc.cummax, "cummax"), running_extreme(sc.cummin, "cummin")


def searchsorted(sorted_sequence, input, *, out_int32=False, right=False, side=None, sorter=None):
    scalar = not isinstance(input, Tensor)
    values = apply(mv.full, attr=((1,), sorted_sequence.dtype, number(input))) if scalar else input
    flat = not scalar and not shape_of(values)
    if flat: values = views.reshape(values, (1,))
    if sorter is not None and sorter.numel(): sorter = claimed(sorter, 0, shape_of(sorter)[-1] - 1, RuntimeError, "torch.searchsorted(): sorter index out of range")
    args = (sorted_sequence, values) if sorter is None else (sorted_sequence, values, sorter)
    r = apply(so.searchsorted, *args, attr=(right or side == "right", dt.int32 if out_int32 else dt.int64))
    return views.reshape(r, ()) if scalar or flat else r


def bucketize(input, boundaries, *, out_int32=False, right=False): return searchsorted(boundaries, input, out_int32=out_int32, right=right)
