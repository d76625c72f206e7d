"""Functions that rearrange or select by position without looking at values: repeat, flip, roll, triangles, diagonals, meshes, einsum."""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..core.shape import View, contiguous, normalize_dim
from ..dnn import elementwise as ew
from ..dnn import movement as mv
from ..graph.line import record
from . import creation, functions as fn, gathering, views
from .autocast import matmul
from .bind import apply, binary
from .size import place
from .tensor import Tensor, owned, read, without_data
from .views import ints, shape_of

multiply = binary(ew.mul)


def repeat(input, *sizes, repeats=None):
    sizes = ints(sizes if repeats is None else (repeats,))
    shape = shape_of(input)
    if len(sizes) < len(shape):
        raise RuntimeError("Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor")
    if any(n < 0 for n in sizes): raise RuntimeError(f"Trying to create tensor with negative dimension {min(sizes)}: {list(sizes)}")
    shape = (1,) * (len(sizes) - len(shape)) + shape
    x = views.reshape(input, tuple(n for s in shape for n in (1, s)))
    x = views.expand(x, tuple(n for r, s in zip(sizes, shape) for n in (r, s)))
    return views.fresh(views.reshape(x, tuple(r * s for r, s in zip(sizes, shape))))


def tile(input, *counts, dims=None):
    dims = ints(counts if dims is None else (dims,))
    return repeat(input, (1,) * (len(shape_of(input)) - len(dims)) + dims)


def repeat_interleave(input, repeats=None, dim=None, *, output_size=None):
    if repeats is None: input, repeats = None, input
    if input is not None and dim is None: input, dim = views.reshape(input, (-1,)), 0
    if not isinstance(repeats, Tensor) or not shape_of(repeats):
        k = int(repeats)
        if k < 0: raise RuntimeError("Repeats must be non-negative")
        d = normalize_dim(dim, len(shape_of(input)))
        shape = shape_of(input)
        x = views.expand(views.unsqueeze(input, d + 1), (*shape[:d + 1], k, *shape[d + 1:]))
        return views.fresh(views.reshape(x, (*shape[:d], shape[d] * k, *shape[d + 1:])))
    ends = gathering.cumsum(repeats, 0)
    if repeats.is_meta and output_size is not None:
        where = without_data(dt.int64, (output_size,))
        return where if input is None else gathering.index_select(input, dim, where)
    least = fn.amin(repeats) if shape_of(repeats)[0] else 0
    total = int(ends[-1]) if shape_of(repeats)[0] else 0
    if int(least) < 0: raise RuntimeError("repeats can not be negative")
    if output_size is not None and output_size != total: raise RuntimeError("allocated size does not match required size")
    where = gathering.searchsorted(ends, creation.arange(total, dtype=ends.dtype), right=True)
    return where if input is None else gathering.index_select(input, dim, where)


def flip(input, *axes, dims=None):
    shape = shape_of(input)
    axes = [normalize_dim(d, len(shape)) for d in ints(axes if dims is None else (dims,))]
    dims = set(axes)
    if len(dims) != len(axes): raise RuntimeError(f"dim {next(d for d in axes if axes.count(d) > 1)} appears multiple times in the list of dims")
    st = contiguous(shape)
    v = View(shape, tuple(-s if d in dims else s for d, s in enumerate(st)), sum((n - 1) * s for d, (n, s) in enumerate(zip(shape, st)) if d in dims and n))
    return views.as_preserved(owned(record(mv.view, (read(input),), v)), input) if 0 not in shape else views.clone(input)


def fliplr(input):
    if input.ndim < 2: raise RuntimeError("Input must be >= 2-d.")
    return flip(input, 1)


def flipud(input):
    if input.ndim < 1: raise RuntimeError("Input must be >= 1-d.")
    return flip(input, 0)


def roll(input, shifts, dims=None):
    if dims is None: return views.reshape(roll(views.reshape(input, (-1,)), shifts, 0), shape_of(input))
    shifts = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    if len(shifts) != len(dims): raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}")
    if 0 in shape_of(input): return views.clone(input)
    for s, d in zip(shifts, dims):
        n = shape_of(input)[d]
        k = -s % n
        input = fn.cat([views.narrow(input, d, k, n - k), views.narrow(input, d, 0, k)], d) if k else views.dense_copy(input)
    return input


def rot90(input, k=1, dims=(0, 1)):
    if len(dims) != 2: raise RuntimeError(f"expected total rotation dims == 2, but got dims = {len(dims)}")
    if input.ndim < 2: raise RuntimeError(f"expected total dims >= 2, but got total dims = {input.ndim}")
    a, b = (normalize_dim(d, input.ndim) for d in dims)
    if a == b: raise RuntimeError(f"expected rotation dims to be different, but got dim0 = {dims[0]} and dim1 = {dims[1]}")
    k %= 4
    if k == 1: return views.transpose(flip(input, b), a, b)
    if k == 2: return flip(input, (a, b))
    if k == 3: return views.transpose(flip(input, a), a, b)
    return views.clone(input)


# ---------------------------------------------------------------- triangles and diagonals
def _triangle(input, diagonal, lower):
    shape = shape_of(input)
    if len(shape) < 2: raise RuntimeError(f"{'tril' if lower else 'triu'}: input tensor must have at least 2 dimensions")
    rows = views.reshape(creation.arange(shape[-2]), (-1, 1))
    columns = creation.arange(shape[-1])
    outside = fn.sub(columns, rows) > diagonal if lower else fn.sub(columns, rows) < diagonal
    return apply(ew.masked_fill, input, outside, 0)


def tril(input, diagonal=0): return _triangle(input, diagonal, True)
def triu(input, diagonal=0): return _triangle(input, diagonal, False)


def _corner(name, lower):
    def f(row, col, offset=0, *, dtype=dt.int64, device="cpu", layout=None):
        ones = _triangle(creation.ones(row, col), offset, lower)
        return creation.finish(fn.to(views.transpose(gathering.nonzero(ones), 0, 1), dtype), False, place(device))
    f.__name__ = name
    return f


tril_indices, triu_indices = _corner("tril_indices", True), _corner("triu_indices", False)


def diag(input, diagonal=0):
    if len(shape_of(input)) == 1: return diag_embed(input, diagonal)
    if len(shape_of(input)) != 2: raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {len(shape_of(input))}D")
    return views.clone(views.diagonal(input, diagonal))


def diag_embed(input, offset=0, dim1=-2, dim2=-1):
    shape = shape_of(input)
    n = shape[-1] + abs(offset)
    a, b = normalize_dim(dim1, len(shape) + 1), normalize_dim(dim2, len(shape) + 1)
    base = creation.zeros(*shape[:-1], n, n, dtype=input.dtype)
    st = contiguous((*shape[:-1], n, n))
    window = View(shape, (*st[:-2], n + 1), offset if offset >= 0 else -offset * n)
    out = apply(mv.put, base, input, attr=window)
    return views.movedim(out, (-2, -1), (a, b)) if (a, b) != (len(shape) - 1, len(shape)) else out


def diagflat(input, offset=0): return diag_embed(views.reshape(input, (-1,)), offset)


def trace(input):
    if input.ndim != 2: raise RuntimeError(f"trace: expected a matrix, but got tensor with dim {input.ndim}")
    return fn.sum(views.diagonal(input))


def meshgrid(*tensors, indexing="ij"):
    if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)): tensors = tuple(tensors[0])
    if indexing not in ("ij", "xy"): raise RuntimeError(f"torch.meshgrid: indexing must be one of \"xy\" or \"ij\", but received: {indexing}")
    swap = indexing == "xy" and len(tensors) > 1
    if swap: tensors = (tensors[1], tensors[0], *tensors[2:])
    shape = tuple(t.numel() for t in tensors)
    out = [views.expand(views.reshape(t, (1,) * i + (-1,) + (1,) * (len(tensors) - 1 - i)), shape) for i, t in enumerate(tensors)]
    if swap: out[:2] = out[1], out[0]
    return tuple(out)


def cartesian_prod(*tensors):
    if len(tensors) == 1: return tensors[0]
    return fn.stack([views.reshape(t, (-1,)) for t in meshgrid(*tensors)], 1)


# ---------------------------------------------------------------- splitting, stacking
def _splitter(name, axis, least):
    def f(input, indices_or_sections):
        n = len(shape_of(input))
        if n < least: raise RuntimeError(f"torch.{name} requires a tensor with at least {least} dimension{'s' if least > 1 else ''}, but got a tensor with {n} dimensions!")
        if isinstance(indices_or_sections, str): raise TypeError(f"{name}(): argument 'indices_or_sections' (position 2) must be tuple of ints or int, not str")
        d = 0 if n == 1 and axis == 1 else axis
        if isinstance(indices_or_sections, int) and (indices_or_sections == 0 or shape_of(input)[d] % indices_or_sections):
            raise RuntimeError(f"torch.{name} attempted to split along dimension {d}, but the size of the dimension {shape_of(input)[d]} is not divisible by the split_size {indices_or_sections}!")
        return views.tensor_split(input, indices_or_sections, d)
    f.__name__ = name
    return f


hsplit, vsplit, dsplit = _splitter("hsplit", 1, 1), _splitter("vsplit", 0, 2), _splitter("dsplit", 2, 3)


def _at_least(k):
    def f(*tensors):
        many = len(tensors) != 1 or isinstance(tensors[0], (list, tuple))
        ts = tensors[0] if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else tensors
        out = tuple(_grow(t, k) for t in ts)
        return out if many else out[0]
    return f


def _grow(t, k):
    n = len(shape_of(t))
    if n >= k: return t
    if k == 1: return views.reshape(t, (1,))
    if k == 2: return views.reshape(t, (1, 1)) if n == 0 else views.unsqueeze(t, 0)
    return views.reshape(t, (1, 1, 1)) if n == 0 else views.unsqueeze(views.unsqueeze(t, 0), -1) if n == 1 else views.unsqueeze(t, -1)


atleast_1d, atleast_2d, atleast_3d = _at_least(1), _at_least(2), _at_least(3)


def hstack(tensors):
    if not len(tensors): raise RuntimeError("hstack expects a non-empty TensorList")
    ts = [_grow(t, 1) for t in tensors]
    return fn.cat(ts, 0 if ts[0].ndim == 1 else 1)


def vstack(tensors):
    if not len(tensors): raise RuntimeError("vstack expects a non-empty TensorList")
    return fn.cat([_grow(t, 2) for t in tensors], 0)
def dstack(tensors):
    if not len(tensors): raise RuntimeError("dstack expects a non-empty TensorList")
    return fn.cat([_grow(t, 3) for t in tensors], 2)
def column_stack(tensors): return hstack([views.reshape(t, (t.numel(), 1)) if t.ndim <= 1 else t for t in tensors])


# ---------------------------------------------------------------- tensor products
def tensordot(a, b, dims=2):
    if isinstance(dims, int): left, right = list(range(a.ndim - dims, a.ndim)), list(range(dims))
    else: left, right = ([d] if isinstance(d, int) else list(d) for d in dims)
    left, right = [d % a.ndim for d in left], [d % b.ndim for d in right]
    for i, j in zip(left, right):
        m, n = a.shape[i], b.shape[j]
        if m != n and 1 not in (m, n): raise RuntimeError(f"contracted dimensions need to match, but first has size {m} in dim {i} and second has size {n} in dim {j}")
        if n == 1: a = fn.sum(a, i, True, dtype=a.dtype)                          # a single element meets a whole axis: it is a factor of the axis's sum
        elif m == 1: b = fn.sum(b, j, True, dtype=b.dtype)
    rest_a, rest_b = [d for d in range(a.ndim) if d not in left], [d for d in range(b.ndim) if d not in right]
    inner = math.prod([a.shape[d] for d in left])
    x = views.reshape(views.permute(a, rest_a + left), (-1, inner)) if inner else views.reshape(views.permute(a, rest_a + left), (math.prod([a.shape[d] for d in rest_a]), 0))
    y = views.reshape(views.permute(b, right + rest_b), (inner, math.prod([b.shape[d] for d in rest_b])))
    product = matmul if x.numel() > inner or y.numel() > inner else fn.matmul      # a single number is a sum of products to autocast, no matrix product
    return views.reshape(product(x, y), [a.shape[d] for d in rest_a] + [b.shape[d] for d in rest_b])


def kron(input, other):
    n = max(input.ndim, other.ndim)
    a = views.reshape(input, (1,) * (n - input.ndim) + shape_of(input))
    b = views.reshape(other, (1,) * (n - other.ndim) + shape_of(other))
    x = views.reshape(a, tuple(k for s in shape_of(a) for k in (s, 1)))
    y = views.reshape(b, tuple(k for s in shape_of(b) for k in (1, s)))
    return views.reshape(multiply(x, y), tuple(p * q for p, q in zip(shape_of(a), shape_of(b))))


def einsum(equation, *operands):
    """Sums of products named by letters: pairs are contracted from the left, each as one batched matrix product."""
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)): operands = tuple(operands[0])
    equation = equation.replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if len(terms) != len(operands): raise RuntimeError("einsum(): more operands were provided than specified in the equation" if len(terms) < len(operands) else
                                                       "einsum(): fewer operands were provided than specified in the equation")
    dots = max(t.ndim - len(s.replace("...", "")) for s, t in zip(terms, operands)) if "..." in left else 0
    names = [chr(0x100 + i) for i in range(dots)]
    terms = [s.replace("...", "".join(names[dots - (t.ndim - len(s.replace("...", ""))):])) for s, t in zip(terms, operands)]
    for s, t in zip(terms, operands):
        if len(s) != t.ndim: raise RuntimeError(f"einsum(): the number of subscripts in the equation ({len(s)}) does not match the number of dimensions ({t.ndim}) for operand, and no ellipsis was given")
    letters = "".join(terms)
    result = right.replace("...", "".join(names)) if arrow else "".join(names) + "".join(sorted(c for c in set(letters) if letters.count(c) == 1 and c not in names))
    for c in result:
        if c not in letters: raise RuntimeError(f"einsum(): output subscript {c} does not appear in the equation for any input operand")
    parts = [_diagonals(s, t) for s, t in zip(terms, operands)]
    while len(parts) > 1:
        (s, a), (u, b) = parts[0], parts[1]
        keep = set(result).union(*(p[0] for p in parts[2:]))
        parts[:2] = [_contract(s, a, u, b, keep)]
    s, t = parts[0]
    gone = [i for i, c in enumerate(s) if c not in result]
    if gone: t, s = fn.sum(t, gone), "".join(c for c in s if c in result)
    return views.permute(t, [s.index(c) for c in result]) if s != result else t


def _diagonals(s, t):
    """An operand whose letters are all different."""
    for c in sorted(set(s)):
        while s.count(c) > 1:
            i = s.index(c)
            j = s.index(c, i + 1)
            t = views.diagonal(t, 0, i, j)
            s = s[:i] + s[i + 1:j] + s[j + 1:] + c
    return s, t


def _contract(s, a, u, b, keep):
    for c in set(s) - set(u) - keep: a, s = fn.sum(a, s.index(c)), s.replace(c, "")
    for c in set(u) - set(s) - keep: b, u = fn.sum(b, u.index(c)), u.replace(c, "")
    batch = [c for c in s if c in u and c in keep]
    inner = [c for c in s if c in u and c not in keep]
    mine, other = [c for c in s if c not in u], [c for c in u if c not in s]
    size = {}
    for letters, t in ((s, a), (u, b)):
        for c, n in zip(letters, shape_of(t)):
            if size.get(c, 1) != 1 and n not in (1, size[c]):
                raise RuntimeError(f"einsum(): subscript {c} has size {n} for operand 1 which does not broadcast with previously seen size {size[c]}")
            size[c] = max(size.get(c, 1), n) if n else 0

    def group(letters, t, *groups):
        t = views.permute(t, [letters.index(c) for g in groups for c in g])
        t = views.expand(t, [size[c] for g in groups for c in g])
        return views.reshape(t, [math.prod(size[c] for c in g) for g in groups])
    if inner: out = matmul(group(s, a, batch, mine, inner), group(u, b, batch, inner, other))
    else: out = multiply(group(s, a, batch, mine, []), group(u, b, batch, [], other))          # nothing to sum: types promote
    names = batch + mine + other
    return "".join(names), views.reshape(out, [size[c] for c in names])
