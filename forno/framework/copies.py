"""Views as copies (torch.permute_copy and its like), and small functions of layout and segments that are made of others."""
from __future__ import annotations

import math
import warnings

from ..core import dtype as dt
from ..core.state import state
from ..dnn import movement as mv
from . import complexes, creation, data, functions as fn, gathering, linalg, methods, statistics, views
from .bind import apply, element_type
from .size import place
from .tensor import detached
from .views import shape_of


def slice_view(input, dim=0, start=None, end=None, step=1):
    return input[(slice(None),) * (dim % max(1, input.ndim)) + (slice(start, end, step),)]


def copied(name, view):
    """The view's values in memory of their own."""
    def f(*args, **kw):
        r = view(*args, **kw)
        return tuple(views.dense_copy(t) for t in r) if isinstance(r, (tuple, list)) else views.dense_copy(r)
    f.__name__ = f.__qualname__ = name
    return f


def of_number(input, dim, index): return views.select(input, dim, index)


VIEWS = dict(alias=lambda input: input, as_strided=views.as_strided, detach=detached, diagonal=views.diagonal, expand=views.expand, narrow=views.narrow, permute=views.permute,
             select=of_number, slice=slice_view, split=views.split, split_with_sizes=views.split, squeeze=views.squeeze, t=views.t, transpose=views.transpose,
             unbind=views.unbind, unfold=views.unfold, unsqueeze=views.unsqueeze, view=views.view, view_as_complex=complexes.view_as_complex, view_as_real=complexes.view_as_real)
COPIES = {f"{name}_copy": copied(f"{name}_copy", view) for name, view in VIEWS.items()}
narrow_copy_method = COPIES["narrow_copy"]
MANY = ("split_copy", "split_with_sizes_copy", "unbind_copy", "alias_copy", "detach_copy")       # several results, or no way to say `out=` for them


# ---- layout
def empty_permuted(size, physical_layout, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """Uninitialised memory in which the axes lie in the order given, the outermost first."""
    order = tuple(physical_layout)
    if sorted(order) != list(range(len(size))): raise RuntimeError("Number of dimensions in the tensor input does not match the length of the physical layout, or its entries repeat")
    t = creation.empty(*[size[k] for k in order], dtype=dtype, device=device)
    t = views.permute(t, tuple(order.index(k) for k in range(len(size)))) if size else t
    return creation.finish(t, requires_grad)


def dim_order(self, *, ambiguity_check=False):
    """Axes from the outermost in memory to the innermost."""
    strides, shape = self.stride(), shape_of(self)
    return tuple(sorted(range(self.ndim), key=lambda k: (-strides[k], -shape[k] if strides[k] == 0 else 0, k)))


def nonzero_static(input, *, size, fill_value=-1):
    """nonzero with a given number of rows: cut off, or filled up."""
    if size < 0: raise RuntimeError(f"nonzero_static: 'size' must be an non-negative integer, but got {size}")
    found = gathering.nonzero(input)[:size]
    return fn.cat((found, creation.full((size - len(found), input.ndim), fill_value, dtype=dt.int64, device=input.device)))


# ---- norms by their old names
def frobenius_norm(input, dim, keepdim=False): return linalg.matrix_norm(input, "fro", dim, keepdim) if len(views.ints((dim,))) == 2 else statistics.norm(input, 2, dim, keepdim)
def nuclear_norm(input, dim=None, keepdim=False): return linalg.matrix_norm(input, "nuc", (-2, -1) if dim is None else dim, keepdim)


def norm_except_dim(v, pow=2, dim=0):
    """The norm over every axis but one, which weight normalisation divides by."""
    if dim == -1: return statistics.norm(v, pow)
    return statistics.norm(v, pow, tuple(k for k in range(v.ndim) if k != dim % v.ndim), True)


# ---- segments
SEGMENTS = dict(sum=("sum", 0.0), mean=("sum", 0.0), max=("amax", -math.inf), min=("amin", math.inf), prod=("prod", 1.0))


def segment_reduce(data, reduce, *, lengths=None, indices=None, offsets=None, axis=0, unsafe=False, initial=None):
    """Runs of given lengths along an axis, each reduced to one element; axes in front of it have lengths of their own."""
    if reduce not in SEGMENTS: raise RuntimeError(f"segment_reduce(): unexpected reduction '{reduce}'")
    if (lengths is None) == (offsets is None): raise RuntimeError("segment_reduce(): Either lengths or offsets must be defined, not both")
    if lengths is None: lengths = offsets[..., 1:] - offsets[..., :-1]
    if lengths.ndim != axis + 1: raise RuntimeError("segment_reduce(): Expected axis to be the last dimension of lengths.")
    if data.dtype.category != dt.FLOAT: raise RuntimeError("segment_reduce(): Expected data to be a floating-point tensor")
    ends = lengths.cumsum(-1)
    n, count = shape_of(data)[axis], shape_of(lengths)[-1]
    if not unsafe and not (bool(fn.all(lengths >= 0)) and bool(fn.all(ends[..., -1] == n))):
        raise RuntimeError("segment_reduce(): Expected all rows of lengths along axis to sum to data.size(lengths.dim()-1) when !unsafe.")
    places = creation.arange(n, device=lengths.device).expand((*shape_of(ends)[:-1], n)).contiguous()
    segment = gathering.searchsorted(ends, places, right=True)                    # (…, n): which run an element belongs to
    segment = segment.reshape(*shape_of(segment), *(1,) * (data.ndim - axis - 1)).expand(shape_of(data))
    how, start = SEGMENTS[reduce]
    if initial is not None and how not in ("amax", "amin"): start = float(initial)
    out = creation.full((*shape_of(data)[:axis], count, *shape_of(data)[axis + 1:]), start, dtype=data.dtype, device=data.device)
    out = gathering.scatter_reduce(out, axis, segment, data, how, include_self=True)
    if how in ("amax", "amin") and initial is not None:                 # an element that equals it gets the whole gradient: they don't share it, as in PyTorch
        return fn.where(out < initial if how == "amax" else out > initial, float(initial), out)
    if reduce != "mean": return out
    size = lengths.reshape(*shape_of(lengths), *(1,) * (data.ndim - axis - 1)).to(data.dtype)
    return out / size if initial is None else fn.where(size > 0, out / size, start)


# ---- functions of Python, element by element
def written(name, self, values):
    if self.requires_grad: raise RuntimeError(f"Can't call {name}() on Variable that requires grad. Use var.detach().{name}() instead.")
    return methods.copy_(self, data.from_data(values, self.dtype).reshape(shape_of(self)))


def elements(t, like): return data.tolist(views.broadcast_to(t, shape_of(like)).reshape(-1))
def apply_(self, callable): return written("apply_", self, [callable(x) for x in elements(self, self)])
def map_(self, tensor, callable): return written("map_", self, [callable(x, y) for x, y in zip(elements(self, self), elements(tensor, self))])
def map2_(self, x, y, callable): return written("map2_", self, [callable(*v) for v in zip(elements(self, self), elements(x, self), elements(y, self))])


def module_load(self, other, assign=False):
    """What load_state_dict puts in a parameter's place: `other` as it is, or its values."""
    if assign: return other if isinstance(other, type(self)) else detached(other)
    return methods.copy_(detached(self), other) if self.requires_grad else methods.copy_(self, other)


def range_(start=0, end=None, step=1, *, dtype=None, layout=None, device=None, requires_grad=False):
    """torch.range: start to end with both of them, in the default float type."""
    warnings.warn("torch.range is deprecated and will be removed in a future release because its behavior is inconsistent with Python's range builtin. Instead, use torch.arange, "
                  "which produces values in [start, end).", stacklevel=2)
    if end is None: start, end = 0, start
    if step == 0: raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0: raise RuntimeError("upper bound and lower bound inconsistent with step sign")
    return creation.finish(apply(mv.iota, attr=(math.floor((end - start) / step) + 1, element_type(dtype) or state.default_dtype, start, step)), requires_grad, place(device))
