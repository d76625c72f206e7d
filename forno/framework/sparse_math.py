"""What is computed with sparse tensors: elementwise functions that keep zero, sums, products, softmax, parts and joins.

Comes in: tensors of which at least one is sparse. Goes out: a sparse tensor on the places that PyTorch's result has, or a dense one. Everything is written
with rows on values and positions; functions whose number of elements depends on values (products of two sparse tensors, selections) run the window.
"""
from __future__ import annotations

import itertools

from ..core import dtype as dt
from ..core.shape import normalize_dim
from ..core.state import state
from ..dnn import gather as ga
from . import data, functions as fn, gathering, views
from .bind import apply, element_type, number
from .layouts import refusal
from .patterns import Pattern, added, arange, rows, zeros
from .size import sparse_coo, sparse_csc, sparse_csr, strided
from .sparse import SparseTensor, coalesce, converted, empty, finish, like, made, replaced, to_dense, to_sparse, values_at
from .tensor import Tensor
from .views import shape_of


def is_sparse(x) -> bool: return isinstance(x, SparseTensor)


def by_places(x: SparseTensor) -> SparseTensor:
    """x as coordinates without duplicates."""
    return coalesce(converted(x, sparse_coo))


def in_layout(x: SparseTensor, layout) -> SparseTensor: return x if layout is sparse_coo else converted(x, layout)


# ---------------------------------------------------------------- elementwise
def unary(row):
    """A function that maps 0 to 0, on values. Duplicates are summed first, unless the function is linear."""
    linear = row.name == "neg"

    def f(input):
        x = input if linear else coalesce(input) if input.layout is sparse_coo else input
        return like(x, apply(row, x.carrier))
    f.__name__ = row.name
    return f


def one_number(x) -> bool:
    """A Python number or a dense tensor with one element and no axes."""
    return not is_sparse(x) and (not isinstance(x, Tensor) and number(x) is not None or isinstance(x, Tensor) and not shape_of(x))


def mul(input, other):
    if not is_sparse(input): input, other = other, input
    if one_number(other): return like(input, input.carrier * other)
    if not isinstance(other, Tensor): return NotImplemented
    if is_sparse(other): return common(input, other, lambda a, b: a * b)
    other = views.expand(other, input.shape) if tuple(other.shape) != tuple(input.shape) else other
    return like(input, input.carrier * values_at(other, input.pattern))


def common(a: SparseTensor, b: SparseTensor, f) -> SparseTensor:
    """f where both have elements."""
    same_size("mul", a, b)
    if a.pattern is b.pattern and a.pattern.coalesced: return like(a, f(a.carrier, b.carrier))
    layout, a, b = a.layout, by_places(a), by_places(b)
    if a.pattern is b.pattern: return in_layout(like(a, f(a.carrier, b.carrier)), layout)
    mine, theirs = a.pattern.keys(), b.pattern.keys()
    if not a.pattern.nnz or not b.pattern.nnz: return in_layout(empty(tuple(a.shape), dt.promote_types(a.dtype, b.dtype), a.pattern.axes), layout)
    at = fn.clamp(gathering.searchsorted(theirs, mine), max=b.pattern.nnz - 1)
    found = gathering.nonzero(rows(theirs, at) == mine, as_tuple=True)[0]
    return in_layout(made(selected(a.pattern, found), f(rows(a.carrier, found), rows(b.carrier, rows(at, found)))), layout)


def selected(p: Pattern, which: Tensor, size=None) -> Pattern:
    """Some of a pattern's elements, in their order."""
    return Pattern(sparse_coo, size or p.size, (apply(ga.index_select, p.coordinates().parts[0], which, attr=1),), p.coalesced)


def same_size(name, a, b):
    if tuple(a.shape) != tuple(b.shape):
        raise RuntimeError(f"{name}: expected sizes of 'self' and 'other' to match, but {list(a.shape)} != {list(b.shape)}")


def div(input, other, *, rounding_mode=None):
    if not is_sparse(input): raise RuntimeError("Sparse division requires the divisor to be a scalar or zero-dim dense tensor; use the divisor's to_dense()")
    if not one_number(other):
        if not isinstance(other, Tensor): return NotImplemented
        raise RuntimeError("Sparse division requires a scalar or zero-dim dense tensor divisor" + ("" if is_sparse(other) else f" (got shape {list(other.shape)} for divisor)"))
    x = coalesce(input) if rounding_mode is not None and input.layout is sparse_coo else input
    return like(x, fn.div(x.carrier, other, rounding_mode=rounding_mode))


def floor_divide(input, other): return div(input, other, rounding_mode="floor")


def add(input, other, *, alpha=1):
    if not isinstance(other, Tensor) or not isinstance(input, Tensor):
        if number(other if isinstance(input, Tensor) else input) is None: return NotImplemented
        raise RuntimeError("add(sparse, dense) is not supported. Use add(dense, sparse) instead.")
    if not is_sparse(input): return into_dense(input, other, alpha)
    if not is_sparse(other):
        if input.layout is not sparse_coo: return into_dense(other if alpha == 1 else other * alpha, input, 1)
        raise RuntimeError("add(sparse, dense) is not supported. Use add(dense, sparse) instead.")
    same_size("add", input, other)
    if alpha != 1: other = like(other, other.carrier * alpha)
    if input.pattern is other.pattern: return like(input, input.carrier + other.carrier)
    layout, a, b = input.layout, converted(input, sparse_coo), converted(other, sparse_coo)
    if shape_of(a.carrier)[1:] != shape_of(b.carrier)[1:]: raise RuntimeError("add: expected 'self' and 'other' to have same number of sparse dimensions")
    joined = made(Pattern(sparse_coo, a.pattern.size, (fn.cat([a.pattern.parts[0], b.pattern.parts[0]], 1),)), fn.cat([a.carrier, b.carrier], 0))
    if a.pattern.coalesced and b.pattern.coalesced: joined = coalesce(joined)
    return in_layout(joined, layout)


def into_dense(x: Tensor, s: SparseTensor, alpha) -> Tensor:
    """x with the elements of s added at their places."""
    if tuple(x.shape) != tuple(s.shape):
        shape = fn.broadcast_tensors(x, x.new_zeros(()).expand(s.shape))[0].shape
        if tuple(shape) != tuple(s.shape): raise RuntimeError(f"add: Expected 'self' to have same size as sparse 'other', but self has size {list(x.shape)} while other has size {list(s.shape)}")
        x = views.expand(x, shape)
    kind = dt.result_type([(x.dtype, 1), (s.dtype, 1)], state.default_dtype)
    values = fn.to(s.carrier if alpha == 1 else s.carrier * alpha, kind)
    axes = tuple(range(s.pattern.axes))
    if len(axes) == 1: return apply(ga.index_write, fn.to(x, kind), s.pattern.at(0), values, attr=(0, "sum", True))
    return apply(ga.index_put, fn.to(x, kind), *s.pattern.all(), values, attr=(axes, "sum", True))


def sub(input, other, *, alpha=1):
    if isinstance(other, Tensor) and isinstance(input, Tensor) and is_sparse(input) and not is_sparse(other) and input.layout is sparse_coo:
        raise RuntimeError("add(sparse, dense) is not supported. Use add(dense, sparse) instead.")
    return add(input, other, alpha=-alpha)


def pow(input, exponent):
    if not is_sparse(input) or not one_number(exponent): return NotImplemented
    if exponent == 0: raise RuntimeError("pow: cannot raise to zero power on sparse tensor; it would make the result tensor dense")
    x = coalesce(input) if input.layout is sparse_coo else input
    return like(x, fn.pow(x.carrier, exponent))


# ---------------------------------------------------------------- sums
def sum(input, dim=None, keepdim=False, *, dtype=None, axis=None):
    dtype = element_type(dtype)
    x = input if dtype is None else like(input, fn.to(input.carrier, dtype))
    n = len(x.shape)
    axes = fn.axes_of(dim if axis is None else axis, n)
    if len(axes) == n:
        total = fn.sum(x.carrier)
        return views.reshape(total, (1,) * n) if keepdim else total
    x = by_places(x)
    p = x.pattern
    gone = [d for d in axes if d < p.axes]
    dense = tuple([d - p.axes + 1 for d in axes if d >= p.axes])
    values = fn.sum(x.carrier, dense, keepdim) if dense else x.carrier
    if not gone: return made(p, values)
    if len(gone) == p.axes and not keepdim: return fn.sum(values, 0)
    stay = [d for d in range(p.axes) if d not in gone or keepdim]
    zero = zeros((p.nnz,), dt.int64)
    places = fn.stack([zero if d in gone else p.at(d) for d in stay], 0)
    return coalesce(made(Pattern(sparse_coo, [1 if d in gone else p.size[d] for d in stay], (places,)), values))


def torch_sparse_sum(input, dim=None, dtype=None):
    """torch.sparse.sum: the same, with dtype as the third argument."""
    return sum(input, dim, dtype=dtype)


def norm(input, p="fro", dim=None, keepdim=False, dtype=None):
    if dim is not None or keepdim: raise RuntimeError("norm_sparse currently does not support keepdim=True" if keepdim else "norm_sparse currently only supports full reductions, so 'dim' must either be empty or contain all dimensions of the input")
    x = coalesce(input) if input.layout is sparse_coo else input
    return views.reshape(x.carrier, (-1,)).norm(2 if p in ("fro", None) else p, dtype=dtype)


def any_(input): return fn.any(input.carrier)


# ---------------------------------------------------------------- softmax
def softmaxer(row):
    def f(input, dim, dtype=None, *, _stacklevel=3):
        dtype = element_type(dtype)
        x = by_places(input) if dtype is None else by_places(like(input, fn.to(input.carrier, dtype)))
        p, d = x.pattern, normalize_dim(dim, len(x.shape))
        if d >= p.axes: return made(p, getattr(x.carrier, row)(d - p.axes + 1))
        others = tuple([k for k in range(p.axes) if k != d])
        group, n, values = p.flat(others), p.room(others), x.carrier
        shape = (n, *shape_of(values)[1:])
        wide = views.expand(views.reshape(group, (-1,) + (1,) * (len(shape) - 1)), shape_of(values))
        top = gathering.scatter_reduce(zeros(shape, values.dtype), 0, wide, values.detach(), "amax", include_self=False)
        shifted = values - rows(top, group)
        e = shifted.exp()
        total = rows(added(e, group, n), group)
        return made(p, e / total if row == "softmax" else shifted - total.log())
    f.__name__ = row
    return f


softmax, log_softmax = softmaxer("softmax"), softmaxer("log_softmax")


# ---------------------------------------------------------------- products
def check_product(a, b):
    if len(a.shape) != 2 or len(b.shape) != 2: raise RuntimeError(f"mm: Expected 2-D tensors, but got {len(a.shape)}-D and {len(b.shape)}-D")
    if a.shape[1] != b.shape[0]: raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({a.shape[0]}x{a.shape[1]} and {b.shape[0]}x{b.shape[1]})")
    if a.dtype is not b.dtype: raise RuntimeError(f"expected m1 and m2 to have the same dtype, but got: {a.dtype.name} != {b.dtype.name}")


def mm(input, mat2):
    """sparse @ dense and dense @ sparse are dense, sparse @ sparse is sparse."""
    check_product(input, mat2)
    if is_sparse(input) and is_sparse(mat2): return sparse_product(input, mat2)
    if is_sparse(mat2): return views.t(times_dense(transpose(mat2, 0, 1), views.t(input)))
    return times_dense(input, mat2)


def times_dense(a: SparseTensor, b: Tensor) -> Tensor:
    """(n, k) sparse @ (k, m): rows of b, times the values, added where they belong."""
    only_flat(a, "mm")
    p = a.pattern
    return added(views.unsqueeze(a.carrier, 1) * rows(b, p.at(1)), p.at(0), p.size[0])


def only_flat(a, name):
    if len(shape_of(a.carrier)) != 1: raise RuntimeError(f"{name}: expected a sparse tensor without dense dimensions, but got {len(shape_of(a.carrier)) - 1} of them")


def sparse_product(a: SparseTensor, b: SparseTensor) -> SparseTensor:
    """Every element of a meets the elements of one row of b."""
    only_flat(a, "mm")
    only_flat(b, "mm")
    layout, a, b = a.layout, by_places(a), by_places(b)
    p, q = a.pattern, b.pattern
    first, second = pairs(p.at(1), q.ordered(0)[1])
    values = rows(a.carrier, first) * rows(b.carrier, second)
    places = fn.stack([rows(p.at(0), first), rows(q.at(1), second)], 0)
    return in_layout(coalesce(made(Pattern(sparse_coo, (p.size[0], q.size[1]), (places,)), values)), layout)


def pairs(at: Tensor, pointers: Tensor):
    """(k, j): element k with every j in pointers[at[k]] .. pointers[at[k] + 1]. Their number is a value."""
    start = rows(pointers, at)
    ends = gathering.cumsum(rows(pointers, at + 1) - start, 0)
    total = int(data.item(ends[-1])) if shape_of(at)[0] else 0
    k = gathering.searchsorted(ends, arange(total), right=True)
    before = fn.cat([zeros((1,), dt.int64), ends])
    return k, arange(total) - rows(before, k) + rows(start, k)


def mv(input, vec):
    if len(input.shape) != 2 or len(vec.shape) != 1: raise RuntimeError(f"mv: two tensor dim should be 2 and 1, but got SparseTensor Dim: {len(input.shape)} Tensor Dim: {len(vec.shape)}")
    if input.shape[1] != vec.shape[0]: raise RuntimeError("mv: expected self.size(-1) == vec.size(-1)")
    return views.squeeze(mm(input, views.unsqueeze(vec, 1)), 1)


def matmul(input, other):
    if not isinstance(other, Tensor) or not isinstance(input, Tensor): return NotImplemented
    n, m = len(input.shape), len(other.shape)
    if n == 2 and m == 2: return mm(input, other)
    if n == 2 and m == 1 and not is_sparse(other): return mv(input, other)
    if n == 1 and m == 2 and not is_sparse(input): return mv(transpose(other, 0, 1), input)
    if n == 3 and m == 3 and is_sparse(input) and not is_sparse(other): return bmm(input, other)
    raise NotImplementedError(f"'matmul' is not implemented for {n}-D and {m}-D tensors with layouts {input.layout!r} and {other.layout!r}; use it on x.to_dense()")


def bmm(input, mat2):
    """A batch of sparse matrices times dense ones, as one product of a block diagonal matrix."""
    if not is_sparse(input) or is_sparse(mat2): raise NotImplementedError("'bmm' is implemented for sparse @ dense; use it on x.to_dense()")
    (b, n, k), m = input.shape, mat2.shape[2]
    if tuple(mat2.shape[:2]) != (b, k): raise RuntimeError(f"bmm: mat1 {list(input.shape)} and mat2 {list(mat2.shape)} don't fit")
    p = input.pattern
    places = fn.stack([p.at(0) * n + p.at(1), p.at(0) * k + p.at(2)], 0)
    blocks = made(Pattern(sparse_coo, (b * n, b * k), (places,), p.coalesced), input.carrier)
    return views.reshape(times_dense(blocks, views.reshape(mat2, (b * k, m))), (b, n, m))


def addmm(input, mat1, mat2, *, beta=1, alpha=1):
    product = mm(mat1, mat2)
    if alpha != 1: product = product * alpha
    if beta == 0: return product
    if is_sparse(input): return add(input if beta == 1 else input * beta, product if is_sparse(product) else to_sparse(product))
    return (input if beta == 1 else input * beta) + product


def addmv(input, mat, vec, *, beta=1, alpha=1):
    return (input if beta == 1 else input * beta) + mv(mat, vec) * alpha


def smm(input, mat): return to_sparse(mm(input, mat))
def sspaddmm(input, mat1, mat2, *, beta=1, alpha=1): return addmm(input, mat1, to_sparse(mat2), beta=beta, alpha=alpha)


def hspmm(mat1, mat2):
    """sparse @ dense with only the rows that have elements."""
    dense, x = mm(mat1, mat2), by_places(mat1)
    there = gathering.nonzero(added(fn.to(x.carrier * 0 + 1, dt.int64), x.pattern.at(0), x.pattern.size[0]), as_tuple=True)[0]
    return made(Pattern(sparse_coo, (shape_of(dense)[0],), (views.unsqueeze(there, 0),)), rows(dense, there))


def sampled_addmm(input, mat1, mat2, *, beta=1.0, alpha=1.0):
    """(mat1 @ mat2) at the places of input only, plus input."""
    if not is_sparse(input) or input.layout is not sparse_csr: raise refusal("sampled_addmm", input.layout)
    p = input.pattern
    dots = fn.sum(rows(mat1, p.at(0)) * rows(views.t(mat2), p.at(1)), 1)
    return like(input, dots * alpha + input.carrier * beta)


# ---------------------------------------------------------------- masks and diagonals
def sparse_mask(input, mask):
    """input's values at the places of mask."""
    if not is_sparse(mask): raise NotImplementedError("sparse_mask(): expected 'mask' to be sparse; use torch.where or a product for a dense one")
    if tuple(input.shape) != tuple(mask.shape): raise RuntimeError(f"sparse_mask(): operands have incompatible sizes; self has size {list(input.shape)} but mask has size {list(mask.shape)}")
    if not is_sparse(input): return made(mask.pattern, values_at(input, mask.pattern))
    a, q = by_places(input), mask.pattern
    if a.pattern is q: return a
    if not a.pattern.nnz: return made(q, zeros((q.nnz, *shape_of(a.carrier)[1:]), a.dtype))
    mine, theirs = a.pattern.keys(), q.keys()
    at = fn.clamp(gathering.searchsorted(mine, theirs), max=a.pattern.nnz - 1)
    found = views.reshape(rows(mine, at) == theirs, (-1,) + (1,) * (len(shape_of(a.carrier)) - 1))
    return made(q, fn.where(found, rows(a.carrier, at), 0))


def spdiags(diagonals, offsets, shape, layout=None):
    """A matrix with the rows of `diagonals` on the diagonals `offsets`; element j of a row stands in column j."""
    if len(shape_of(diagonals)) == 1: diagonals = views.unsqueeze(diagonals, 0)
    if len(shape_of(offsets)) == 0: offsets = views.unsqueeze(offsets, 0)
    if len(shape) != 2: raise RuntimeError("Output shape must be 2d")
    if shape_of(offsets)[0] != shape_of(diagonals)[0]: raise RuntimeError(f"Number of diagonals ({shape_of(diagonals)[0]}) does not match the number of offsets ({shape_of(offsets)[0]})")
    if layout not in (None, sparse_coo, sparse_csr, sparse_csc): raise RuntimeError(f"Only output layouts (Sparse, SparseCsc, SparseCsr) are supported, got {layout!r}")
    steps = data.tolist(offsets)
    if len(set(steps)) != len(steps): raise RuntimeError("Offset tensor contains duplicate values")
    n, m = shape
    places, parts = [], []
    for k, o in enumerate(steps):
        low, high = max(o, 0), min(m, n + o, shape_of(diagonals)[1])
        if high <= low: continue
        column = arange(high - low) + low
        places.append(fn.stack([column - o, column], 0))
        parts.append(diagonals[k, low:high])
    if not parts: return in_layout(empty((n, m), diagonals.dtype), layout or sparse_coo)
    return in_layout(made(Pattern(sparse_coo, (n, m), (fn.cat(places, 1),)), fn.cat(parts, 0)), layout or sparse_coo)


# ---------------------------------------------------------------- other places, same values
def transpose(input, dim0, dim1):
    n = len(input.shape)
    i, j = normalize_dim(dim0, n), normalize_dim(dim1, n)
    order = list(range(n))
    order[i], order[j] = j, i
    return permute(input, order)


def permute(input, *axes, dims=None):
    order = tuple([normalize_dim(d, len(input.shape)) for d in views.ints(axes if dims is None else (dims,))])
    p = input.pattern
    if len(order) != len(input.shape):
        raise RuntimeError(f"permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired ordering of dimensions i.e. input.dim() = {len(input.shape)} "
                           f"is not equal to len(dims) = {len(order)}")
    if len(set(order)) != len(order): raise RuntimeError("permute(): duplicate dims are not allowed.")
    if any((d < p.axes) != (k < p.axes) for k, d in enumerate(order)): raise RuntimeError("transpose: transposed dimensions must be both sparse or both dense")
    values = input.carrier
    dense = [0] + [d - p.axes + 1 for d in order[p.axes:]]
    if dense != sorted(dense): values = views.permute(values, tuple(dense))
    return made(p.permuted(order[:p.axes]), values)


def t(input):
    if len(input.shape) > 2: raise RuntimeError(f"t() expects a tensor with <= 2 sparse and 0 dense dimensions, but self is {len(input.shape)}D")
    return transpose(input, 0, 1) if len(input.shape) == 2 else input


def unsqueeze(input, dim):
    n = len(input.shape)
    if not -n - 1 <= dim <= n: raise IndexError(f"Dimension out of range (expected to be in range of [{-n - 1}, {n}], but got {dim})")
    d, p = dim % (n + 1), input.pattern
    if d > p.axes: return made(unmarked(p), views.unsqueeze(input.carrier, d - p.axes + 1))
    at = p.all()
    places = fn.stack([*at[:d], zeros((p.nnz,), dt.int64), *at[d:]], 0)
    return made(Pattern(sparse_coo, (*p.size[:d], 1, *p.size[d:]), (places,)), input.carrier)


def without(p: Pattern, d: int, which: Tensor) -> Pattern:
    """Some of the elements, without axis d."""
    places = fn.stack([rows(p.at(k), which) for k in range(p.axes) if k != d], 0)
    return Pattern(sparse_coo, p.size[:d] + p.size[d + 1:], (places,))


def unmarked(p: Pattern) -> Pattern:
    """The same places, not said to be coalesced: PyTorch forgets it here."""
    return Pattern(p.layout, p.size, p.parts)


def select(input, dim, index):
    d, p = normalize_dim(dim, len(input.shape)), input.pattern
    n = input.shape[d]
    if not -n <= index < n: raise IndexError(f"select(): index {index} out of range for tensor of size {list(input.shape)} at dimension {d}")
    index %= n
    if d >= p.axes: return made(unmarked(p), views.select(input.carrier, d - p.axes + 1, index))
    if input.layout is not sparse_coo: input = converted(input, sparse_coo); p = input.pattern
    found = gathering.nonzero(p.at(d) == index, as_tuple=True)[0]
    values = rows(input.carrier, found)
    return fn.sum(values, 0) if p.axes == 1 else made(without(p, d, found), values)


def index_select(input, dim, index):
    d, p = normalize_dim(dim, len(input.shape)), input.pattern
    if len(shape_of(index)) != 1: raise IndexError("index_select(): Index is supposed to be a vector")
    if d >= p.axes: return made(unmarked(p), apply(ga.index_select, input.carrier, index, attr=d - p.axes + 1))
    if input.layout is not sparse_coo: return in_layout(index_select(converted(input, sparse_coo), d, index), input.layout)
    gathering.inside(ga.index_select, index, 0, p.size[d], 0)
    order, pointers = p.ordered(d)
    k, j = pairs(fn.to(index, dt.int64), pointers)
    source = rows(order, j)
    places = fn.stack([k if e == d else rows(p.at(e), source) for e in range(p.axes)], 0)
    size = (*p.size[:d], shape_of(index)[0], *p.size[d + 1:])
    return made(Pattern(sparse_coo, size, (places,)), rows(input.carrier, source))


def narrow(input, dim, start, length):
    """The elements of a range of positions, copied."""
    d, p = normalize_dim(dim, len(input.shape)), input.pattern
    n = input.shape[d]
    if start < 0: start += n
    if length < 0: raise RuntimeError("narrow(): length must be non-negative.")
    if not 0 <= start <= n: raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n}], but got {start})")
    if start + length > n: raise RuntimeError(f"start ({start}) + length ({length}) exceeds dimension size ({n}).")
    if d >= p.axes: return made(p, views.narrow(input.carrier, d - p.axes + 1, start, length))
    at = p.at(d)
    found = gathering.nonzero((at >= start) & (at < start + length), as_tuple=True)[0]
    places = fn.stack([rows(p.at(e), found) - (start if e == d else 0) for e in range(p.axes)], 0)
    return made(Pattern(sparse_coo, (*p.size[:d], length, *p.size[d + 1:]), (places,), p.coalesced), rows(input.carrier, found))


def narrow_copy(input, dim, start, length):
    """narrow with memory of its own."""
    return narrow(input, dim, start, length) if is_sparse(input) else views.clone(views.narrow(input, dim, start, length))


def getitem(input, index):
    """x[i], x[i, j], x[tensor], x[...]: whole numbers and one vector; slices would be views, which sparse tensors have none of."""
    parts, out, d = index if isinstance(index, tuple) else (index,), input, 0
    for k in parts:
        if k is Ellipsis or isinstance(k, slice) and k == slice(None): d += 1 if k is not Ellipsis else len(out.shape) - d - (len(parts) - parts.index(k) - 1)
        elif isinstance(k, Tensor) and k.dtype.category == dt.INT and len(shape_of(k)) == 1: out = index_select(out, d, k); d += 1
        elif isinstance(k, (list, range)): out = index_select(out, d, data.from_data(list(k))); d += 1
        elif k is None: out = unsqueeze(out, d); d += 1
        elif hasattr(k, "__index__"): out = select(out, d, k.__index__()) if is_sparse(out) else views.select(out, d, k.__index__())
        elif isinstance(k, slice) and k.step in (None, 1): low, high, _ = k.indices(out.shape[d]); out = narrow(out, d, low, max(high - low, 0)); d += 1
        else: raise NotImplementedError(f"indexing a tensor with layout {input.layout!r} by {type(k).__name__} is not implemented; use it on x.to_dense()")
    return out


def unbind(input, dim=0): return tuple([select(input, dim, k) for k in range(input.shape[dim])])
def iterate(input): return iter(unbind(input, 0))


def cat(tensors, dim=0):
    tensors = fn.sequence("cat", tensors)
    if not all(is_sparse(x) for x in tensors): raise RuntimeError("Concatenating sparse tensors, but a dense tensor was found")
    tensors = [converted(x, sparse_coo) for x in tensors]
    first = tensors[0]
    d, axes = normalize_dim(dim, len(first.shape)), first.pattern.axes
    for i, x in enumerate(tensors):
        if [n for k, n in enumerate(x.shape) if k != d] != [n for k, n in enumerate(first.shape) if k != d]:
            raise RuntimeError(f"Sizes of tensors must match except in dimension {d}. Got {list(first.shape)} and {list(x.shape)} for tensor number {i} in the list.")
    kind = dt.result_type([(x.dtype, 1) for x in tensors], state.default_dtype)
    values, start, places = [fn.to(x.carrier, kind) for x in tensors], 0, []
    if d >= axes: values = padded(values, d - axes + 1)
    for x in tensors:
        at = x.pattern.all()
        if d < axes: at[d] = at[d] + start
        places.append(fn.stack(at, 0))
        start += x.shape[d]
    size = [start if k == d else n for k, n in enumerate(first.shape)]
    return made(Pattern(sparse_coo, size[:axes], (fn.cat(places, 1),)), fn.cat(values, 0))


def padded(values, d):
    """Values that stand beside one another along a dense axis: each with zeros where the others are."""
    ends = list(itertools.accumulate([shape_of(v)[d] for v in values]))
    out = []
    for v, end in zip(values, ends):
        blanks = [zeros((*shape_of(v)[:d], k, *shape_of(v)[d + 1:]), v.dtype) for k in (end - shape_of(v)[d], ends[-1] - end)]
        out.append(fn.cat([blanks[0], v, blanks[1]], d))
    return out


def stack(tensors, dim=0):
    tensors = fn.sequence("stack", tensors)
    d = normalize_dim(dim, len(tensors[0].shape) + 1)
    return cat([unsqueeze(x, d) for x in tensors], d)


# ---------------------------------------------------------------- fresh tensors like a sparse one
def zeros_like(input, *, dtype=None, layout=None, device=None, requires_grad=False, memory_format=None):
    kind, p = element_type(dtype) or input.dtype, input.pattern
    if layout is strided: return zeros(tuple(input.shape), kind)
    if layout not in (None, p.layout): return in_layout(empty(tuple(input.shape), kind), layout)
    if p.layout is sparse_coo: return empty(tuple(input.shape), kind, p.axes)
    pointers, places = p.parts
    return made(Pattern(p.layout, p.size, (zeros(shape_of(pointers), pointers.dtype), zeros((0,), places.dtype))), zeros((0, *shape_of(input.carrier)[1:]), kind))


def zeros_in(layout, size, dtype, requires_grad):
    """torch.zeros(…, layout=…)."""
    return finish(in_layout(empty(size, dtype), layout), requires_grad)


def new_zeros(input, *size, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False):
    """Tensor.new_zeros and the like of a sparse tensor are sparse and have no elements."""
    return finish(in_layout(empty(views.ints(size), element_type(dtype) or input.dtype), layout or input.layout), requires_grad)


def allclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    return to_dense(input).allclose(to_dense(other), rtol, atol, equal_nan)


def equal(input, other): return tuple(input.shape) == tuple(other.shape) and to_dense(input).equal(to_dense(other))
