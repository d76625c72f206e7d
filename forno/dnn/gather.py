"""Rows that read or write at positions held by other tensors: index, gather, scatter, embedding, nonzero.

Every one of them is the same movement of elements: a nest of loops in which index tensors add to one array's address. `Places` describes it, and each
kind of indexing makes three rows from its own way of finding places:

  read     x at the places                                           (index, gather, index_select, take, embedding)
  write    a copy of base with values written or combined there      (index_put, scatter, index_add, put); attr = (where, mode, include_self)
  back     zeros with values added there: the gradient of read       attr = (where, shape); costs no more than the values and the zeros

All operands are dense and row-major. Indices are int32 or int64. Writes are deterministic: of several writes to one place the last wins, sums are added
in the order of the values (halves round after every addition, as in PyTorch). Triangles (tril, triu) and one_hot are elementwise, with iota.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..core import dtype as dt
from ..core.kernels import Native, Operand
from ..core.op import TABLE, Composite, Routine
from ..core.shape import broadcast, broadcast_layout, contiguous, exactly, expand_strides, restride
from .elementwise import TITLES, select



class Places(NamedTuple):
    """A nest over `shape`: element [i] sits at Σ i·strides + Σ over index tensors k of k[Σ i·steps_k]·stride_k."""
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    steps: tuple[tuple[int, ...], ...]
    picks: tuple[tuple[int, int, int], ...]    # size, stride, lowest allowed index of each


def canonical(p: Places, *arrays):
    """`p` with axes of length 1 dropped, neighbours joined, and the contiguous run at its end taken off: lengths, strides of every array, run, kind of run.

    `arrays`: strides over p.shape of further arrays that are read along (a write's values). kind: 'row', 'one' if those are one value all along, '' for no run.
    """
    lengths, out = [], [[] for _ in range(1 + len(arrays) + len(p.steps))]
    every = (p.strides, *arrays, *p.steps)
    if 0 in p.shape: return [0], [[0] for _ in every], 1, ""
    for d, n in enumerate(p.shape):
        if n == 1: continue
        now = [a[d] for a in every]
        if lengths and all(o[-1] == s * n for o, s in zip(out, now)):
            lengths[-1] *= n
            for o, s in zip(out, now): o[-1] = s
        else:
            lengths.append(n)
            for o, s in zip(out, now): o.append(s)
    direct = 1 + len(arrays)
    together = lengths and out[0][-1] == 1 and all(o[-1] == 0 for o in out[direct:])
    kind = {(): "row", (1,): "row", (0,): "one"}.get(tuple(o[-1] for o in out[1:direct]), "") if together else ""
    inner = lengths.pop() if kind else 1
    if kind: out = [o[:-1] for o in out]
    return lengths, out, inner, kind if inner > 1 else ""


def _regular(lengths, steps) -> tuple | None:
    """The index tensors' steps along the last axis, if it is long enough for several positions at a time and they are all 0 or 1."""
    steps = tuple(o[-1] for o in steps) if lengths and lengths[-1] >= 16 else (None,)
    return steps if all(s in (0, 1) for s in steps) else None


def read_kernel(label: str, p: Places, x, indices, result) -> Native:
    lengths, strides, inner, run = canonical(p)
    words = [*lengths, *(s for o in strides for s in o), *(w for pick in p.picks for w in pick), inner, math.prod(lengths)]
    spec = (len(lengths), tuple(i.dtype for i in indices), x.dtype.size, bool(run), None if run else _regular(lengths, strides[1:]))
    operands = (Operand(x.dtype, "r"), *(Operand(i.dtype, "r") for i in indices), Operand(x.dtype, "w"))
    return Native("take", spec, tuple(words), operands, math.prod(p.shape), label)


def write_kernel(label: str, p: Places, values, steps, indices, result, mode: str, start: str) -> Native:
    """`steps`: strides of the values over p.shape. start: 'base' (operand 0 is it), 'fresh' (the same, but written places begin anew), 'zero'."""
    lengths, strides, inner, run = canonical(p, steps)
    numel = math.prod(result.shape)
    unit = min((s for s in contiguous(result.shape) if s >= inner), default=max(numel, 1))
    if inner > 1 and unit != inner:            # runs don't tile the result: element by element, so that threads own whole blocks
        lengths, strides = [*lengths, inner], [[*o, int(k == 0 or k == 1 and run == "row")] for k, o in enumerate(strides)]
        inner, unit, run = 1, 1, ""
    words = [*lengths, *(s for o in strides for s in o), *(w for pick in p.picks for w in pick), inner, math.prod(lengths), numel, unit]
    spec = (len(lengths), tuple(i.dtype for i in indices), result.dtype, mode, start, run, None if run else _regular(lengths, strides[2:]))
    reads = tuple(Operand(i.dtype, "r") for i in indices)
    if start == "zero": operands = (Operand(values.dtype, "r"), *reads, Operand(result.dtype, "w"))
    else: operands = (Operand(result.dtype, "rw"), *reads, Operand(values.dtype, "r"))
    return Native("scatter", spec, tuple(words), operands, math.prod(p.shape) + (numel if start == "zero" else 0), label)


# ---------------------------------------------------------------- places
def _check_sizes(p: Places):
    """An axis of length 0 has no valid position, so the kernel would have none to fall back to."""
    if 0 in p.shape: return
    for d, (size, _, _) in enumerate(p.picks):
        if size == 0: raise IndexError(f"index is out of bounds for dimension {d} with size 0")


def _check_indices(name, indices):
    for i in indices:
        if i.dtype not in (dt.int32, dt.int64):
            raise IndexError("tensors used as indices must be long, int, byte or bool tensors") if name == "index" else \
                RuntimeError(f"{name}(): Expected dtype int32/int64 for index")


def at_index(axes, shape, indices) -> Places:
    """x[…, i, …, j, …]: index tensors, broadcast together, on `axes`. Their axes come where the first indexed one was, or first if others lie between."""
    try: picked = broadcast(*(i.shape for i in indices))
    except RuntimeError:
        shapes = ", ".join(str(list(i.shape)) for i in indices)
        raise IndexError(f"shape mismatch: indexing tensors could not be broadcast together with shapes {shapes}") from None
    strides, rest = contiguous(shape), [d for d in range(len(shape)) if d not in axes]
    together = axes[-1] - axes[0] == len(axes) - 1
    before = [d for d in rest if d < axes[0]] if together else []
    after = [d for d in rest if d not in before]
    out = (*(shape[d] for d in before), *picked, *(shape[d] for d in after))
    own = (*(strides[d] for d in before), *(0,) * len(picked), *(strides[d] for d in after))
    steps = tuple((*(0,) * len(before), *expand_strides(i.shape, contiguous(i.shape), picked), *(0,) * len(after)) for i in indices)
    return Places(out, own, steps, tuple((shape[d], strides[d], -shape[d]) for d in axes))


def at_gather(dim, shape, indices) -> Places:
    """x[i0, …, index[i0, …, ik], …, ik] with the index in the place of i_dim."""
    index, = indices
    if max(len(index.shape), 1) != max(len(shape), 1) and math.prod(index.shape):          # a number counts as a vector of one
        raise RuntimeError("Index tensor must have the same number of dimensions as input tensor")
    if math.prod(index.shape) and any(n > m for d, (n, m) in enumerate(zip(index.shape, shape)) if d != dim):
        raise RuntimeError(f"Size does not match: expected index {list(index.shape)} to be no larger than self {list(shape)} apart from dimension {dim}")
    strides = contiguous(shape) if shape else (1,)
    own = tuple(0 if d == dim else strides[d] for d in range(len(index.shape)))
    return Places(index.shape, own, (contiguous(index.shape),), ((shape[dim] if shape else 1, strides[dim], 0),))


def at_select(dim, shape, indices) -> Places:
    """Slices of x along `dim`, at the positions of a vector (or one number)."""
    index, = indices
    if len(index.shape) > 1: raise IndexError("index_select(): Index is supposed to be a vector")
    n, strides = math.prod(index.shape), contiguous(shape)
    if not shape: return Places((), (), ((),), ((1, 1, 0),))
    return Places((*shape[:dim], n, *shape[dim + 1:]), tuple(0 if d == dim else s for d, s in enumerate(strides)),
                  (tuple(int(d == dim) for d in range(len(shape))),), ((shape[dim], strides[dim], 0),))


def at_take(attr, shape, indices) -> Places:
    """x as one long vector."""
    index, = indices
    n = math.prod(shape)
    return Places(index.shape, (0,) * len(index.shape), (contiguous(index.shape),), ((n, 1, -n),))


def at_row(attr, shape, indices) -> Places:
    """weight[index]: rows of a matrix, without negative indices."""
    index, = indices
    n = len(index.shape)
    return Places((*index.shape, shape[1]), (*(0,) * n, 1), ((*contiguous(index.shape), 0),), ((shape[0], shape[1], 0),))


# ---------------------------------------------------------------- rows from places
def _flat(p: Places, indices) -> np.ndarray:
    """For oracles: the flat position of every element of the nest."""
    out = np.zeros(p.shape, np.int64)
    for d, (n, s) in enumerate(zip(p.shape, p.strides)): out += (np.arange(n) * s).reshape([-1 if e == d else 1 for e in range(len(p.shape))])
    for i, steps, (size, stride, low) in zip(indices, p.steps, p.picks):
        seen = np.lib.stride_tricks.as_strided(np.ascontiguousarray(i).reshape(-1), p.shape, [s * i.itemsize for s in steps]).astype(np.int64)
        if ((seen < low) | (seen >= size)).any(): raise IndexError(f"index out of range for size {size}")
        out += np.where(seen < 0, seen + size, seen) * stride
    return out


_UFUNC = {"sum": np.add, "prod": np.multiply, "amax": np.maximum, "amin": np.minimum}


def _fill_value(mode, dtype):
    if mode == "sum": return 0
    if mode == "prod": return 1
    if dtype.kind == "f": return -np.inf if mode == "amax" else np.inf
    if dtype.kind == "b": return mode == "amin"
    return np.iinfo(dtype).min if mode == "amax" else np.iinfo(dtype).max


def _combined(base, at, values, mode, include_self=True):
    out = np.array(base, order="C")
    flat, at, values = out.reshape(-1), at.reshape(-1), values.reshape(-1)
    if mode == "set":
        for k, v in zip(at, values): flat[k] = v
        return out
    if not include_self: flat[at] = _fill_value(mode, out.dtype)
    with np.errstate(invalid="ignore"): _UFUNC[mode].at(flat, at, values)
    return out


def _sum_to(g, shape):
    """The gradient of a value that was broadcast."""
    lead = g.ndim - len(shape)
    dims = tuple(range(lead)) + tuple(d for d in range(lead, g.ndim) if shape[d - lead] == 1 and g.shape[d] != 1)
    if dims: g = g.sum(dims, True)
    return g.reshape(shape)


class Access(NamedTuple):
    """The rows of one kind of indexing."""
    read: Routine
    write: Routine
    back: Routine


class _Write(Routine):
    """Operands base, indices…, values: rules for the first and the last."""

    def rules(self, n): return (self.grads[0], *(None,) * (n - 2), self.grads[1])


def _read(name, places, saves="b", grad=None, layout=None) -> Routine:
    def infer(attr, x, *indices):
        _check_indices(name, indices)
        p = places(attr, x.shape, indices)
        _check_sizes(p)
        return x.dtype, p.shape

    def back_to(g, o, x, *i, attr): return g.row(TABLE[f"{name}_back"], *i, attr=(attr, x.shape))
    return Routine(name, infer, (grad or back_to,), saves, lambda attr, x, *i: np.ascontiguousarray(x).reshape(-1)[_flat(places(attr, x.shape, i), i)],
                   plan=lambda attr, result, x, *i: read_kernel(name, places(attr, x.shape, i), x, i, result), layout=layout)


def _back(read, places) -> Routine:
    """Operands values, indices…; attr = (where, shape)."""
    def steps(p, v): return expand_strides(v.shape, contiguous(v.shape), p.shape)

    def oracle(attr, v, *i):
        p = places(*attr, i)
        return _combined(np.zeros(attr[1], v.dtype), _flat(p, i), np.broadcast_to(v, p.shape), "sum")

    def plan(attr, result, v, *i):
        p = places(*attr, i)
        return write_kernel(f"{read.name}_back", p, v, steps(p, v), i, result, "sum", "zero")
    return Routine(f"{read.name}_back", lambda attr, v, *i: (v.dtype, tuple(attr[1])), (lambda g, o, v, *i, attr: g.row(read, *i, attr=attr[0]),), read.saves,
                   oracle, plan=plan)


def _write(name, places, grads, saves, larger=False) -> Routine:
    """Operands base, indices…, values; attr = (where, mode, include_self). `larger`: values may reach over the places, else they broadcast to them."""
    def steps(p, v):
        if larger and len(v.shape) == len(p.shape): return contiguous(v.shape)
        return expand_strides(v.shape, contiguous(v.shape), p.shape)

    def infer(attr, base, *rest):
        *indices, values = rest
        _check_indices(name, indices)
        if name in _LIMITS: _check_reduction(name, attr[1], base.dtype)
        if values.dtype is not base.dtype:
            raise RuntimeError(f"{name}(): Expected self and source to have the same dtype, but got {TITLES[base.dtype.name]} and {TITLES[values.dtype.name]}")
        p, v = places(attr[0], base.shape, indices), values.shape
        _check_sizes(p)
        fits = len(v) == len(p.shape) and all(n <= m for n, m in zip(p.shape, v)) if larger and v else len(v) <= len(p.shape) and broadcast_to(v, p.shape)
        if not fits and 0 not in p.shape:
            raise RuntimeError(f"shape mismatch: value tensor of shape {list(v)} cannot be broadcast to indexing result of shape {list(p.shape)}")
        return base.dtype, base.shape

    def oracle(attr, base, *rest):
        *i, v = rest
        p = places(attr[0], base.shape, i)
        v = v[tuple(slice(n) for n in p.shape)] if larger and v.ndim else np.broadcast_to(v, p.shape)
        return _combined(base, _flat(p, i), v, *attr[1:])

    def plan(attr, result, base, *rest):
        *i, v = rest
        at, mode, include_self = attr
        p = places(at, base.shape, i)
        return write_kernel(name, p, v, steps(p, v), i, result, mode, "base" if include_self or mode == "set" else "fresh")
    return _Write(name, infer, grads, saves, oracle, plan=plan)


# (bool, complex): what PyTorch's code combines of these, or nothing
_LIMITS = {"scatter_reduce": (("sum", "prod", "amax", "amin"), ("sum", "prod", "mean")), "index_reduce": ((), ())}


def _check_reduction(name, mode, dtype):
    allowed = _LIMITS[name][dtype.is_complex]
    if dtype.category in (dt.BOOL, dt.COMPLEX) and mode not in allowed and mode != "set":               # gradients set places to zero
        kernel = "index_func_" if name == "index_reduce" else f"scatter_gather_tensor_cpu_reduce_{mode}"
        raise NotImplementedError(f"\"{kernel}\" not implemented for '{TITLES[dtype.name]}'")


def broadcast_to(shape, to) -> bool: return all(n in (1, m) for n, m in zip(reversed(shape), reversed(to)))


def _plain_rules(name):
    """Gradients of writing ('set') and adding ('sum')."""
    def make(read):
        def base(g, o, b, *rest, attr):
            at, mode, include_self = attr
            if mode == "sum" and include_self: return g
            return g.row(TABLE[name], *rest[:-1], g.filled((), 0), attr=(at, "set", True))

        def values(g, o, b, *rest, attr):
            return _sum_to(g.row(read, *rest[:-1], attr=attr[0]), rest[-1].shape)
        return base, values
    return make


def _reducing_rules(name):
    """Gradients of products and extremes, as PyTorch has them: equal extremes share evenly; a product's zeros are left out and put back."""
    def make(read):
        def without(g, index, attr):           # places whose old value was dropped
            return g if attr[2] else g.row(TABLE[name], index, g.filled((), 0), attr=(attr[0], "set", True))

        def shared(g, o, b, index, v, attr):
            mine, theirs = (b == o).to(g.dtype), (v == o.row(read, index, attr=attr[0])).to(g.dtype)
            part = g / mine.row(TABLE[name], index, theirs, attr=(attr[0], "sum", True))
            return mine, theirs, part

        def base(g, o, b, index, v, attr):
            at, mode, include_self = attr
            if mode == "sum": return without(g, index, attr)
            if mode == "prod":
                full = select(b == 0, 1, b)
                return without(g * full.row(TABLE[name], index, v, attr=attr) / full, index, attr)
            mine, _, part = shared(g, o, b, index, v, attr)
            return without(mine * part, index, attr)

        def values(g, o, b, index, v, attr):
            at, mode, include_self = attr
            if mode == "sum": return g.row(read, index, attr=at)
            if mode != "prod":
                _, theirs, part = shared(g, o, b, index, v, attr)
                return theirs * part.row(read, index, attr=at)
            zero = v == 0
            count = g.filled(b.shape, 0).row(TABLE[name], index, zero.to(g.dtype), attr=(at, "sum", True)).row(read, index, attr=at)
            single = (count == 1) & zero
            rest = b.row(TABLE[name], index, select(single, 1, v), attr=attr)
            return select(single, (g * rest).row(read, index, attr=at), (g * o).row(read, index, attr=at) / select(zero, 1, v))
        return base, values
    return make


def access(names, places, saves="b", larger=False, grad=None, layout=None) -> Access:
    read, write = names
    reader = _read(read, places, saves, grad, layout)
    return Access(reader, _write(write, places, _plain_rules(write)(reader), saves, larger), _back(reader, places))


def _index_layout(axes, shape, x, *indices):
    """x with strides 0 where indices pick, and the indices, each where its own axes lie, are the operands of one elementwise step."""
    rest = [d for d in range(len(x.shape)) if d not in axes]
    before = [d for d in rest if d < axes[0]] if axes[-1] - axes[0] == len(axes) - 1 else []
    after = [d for d in rest if d not in before]
    picked = shape[len(before):len(shape) - len(after)]
    own = x.memory or contiguous(x.shape)
    operands = [(shape, (*(own[d] for d in before), *(0,) * len(picked), *(own[d] for d in after)))]
    for i in indices:
        st = expand_strides(i.shape, i.memory or contiguous(i.shape), picked)
        ones = (*(1,) * len(before), *picked, *(1,) * len(after))
        operands.append((ones, restride(picked, st, ones) or contiguous(ones)))
    return broadcast_layout(shape, operands)


index, index_put, index_back = access(("index", "index_put"), at_index, saves="bcdefgh", layout=_index_layout)
"""attr of index = the axes indexed, one per index tensor. Masks come as the columns of nonzero."""

gather, scatter, gather_back = access(("gather", "scatter"), at_gather, larger=True)
"""attr of gather = dim. scatter's values may be larger than the index, or one number."""

index_select, index_write, index_select_back = access(("index_select", "index_write"), at_select)
"""attr of index_select = dim. index_write with 'set' is index_copy, with 'sum' index_add."""

take, put_at, take_back = access(("take", "put_at"), at_take)
"""attr of take = None."""

scatter_reduce = _write("scatter_reduce", at_gather, _reducing_rules("scatter_reduce")(gather), "abco", larger=True)
index_reduce = _write("index_reduce", at_select, _reducing_rules("index_reduce")(index_select), "abco")
"""attr = (dim, 'sum' | 'prod' | 'amax' | 'amin', include_self)."""


# ---------------------------------------------------------------- indices out of range
def lookups(op, attr, operands) -> list[tuple[int, int, int, int]]:
    """(operand, axis, size, lowest allowed) of every index a row reads; none for rows that read no index."""
    name = op.name.removesuffix("_back")
    places = _PLACES.get(name)
    if places is None: return []
    first, *rest = operands
    where, shape = attr if name != op.name else (attr[0] if op.name in _WRITES else attr, first.shape)
    indices = rest[:-1] if op.name in _WRITES else rest
    axes = range(len(where)) if places is at_index else [0 if places in (at_row, at_take) else where] * len(indices)
    return [(1 + k, axis, size, low) for k, (axis, (size, _, low)) in enumerate(zip(axes, places(where, shape, indices).picks))]


def out_of_range(op, attr, axis: int, index: int, size: int, ndim: int = 2) -> Exception:
    """PyTorch's exception for a row's wrong index; `axis` counts the index tensors of x[…]."""
    name = op.name.removesuffix("_back")
    if name == "index_select" and axis == 1: return RuntimeError(f"INDICES element is out of DATA bounds, id={index} axis_dim={size}")
    if name in ("embedding", "index_select", "index_reduce", "index_reduce_mean"): return IndexError("index out of range in self")
    if name in ("take", "put_at"): return IndexError(f"out of range: tried to access index {index} on a tensor of {size} elements.")
    text = f"index {index} is out of bounds for dimension {axis} with size {size}"
    if name == "index_write": return IndexError(f"index_copy_(): {text}") if attr[1] == "set" else RuntimeError(text) if ndim > 1 else IndexError("index out of range in self")
    return IndexError(text) if name.startswith("index") else RuntimeError(text)


_WRITES = frozenset(("index_put", "scatter", "index_write", "put_at", "scatter_reduce", "index_reduce", "scatter_reduce_mean", "index_reduce_mean"))
_PLACES = dict(index=at_index, index_put=at_index, gather=at_gather, scatter=at_gather, scatter_reduce=at_gather, index_select=at_select, index_write=at_select,
               index_reduce=at_select, take=at_take, put_at=at_take, embedding=at_row, scatter_reduce_mean=at_gather, index_reduce_mean=at_select)


# ---------------------------------------------------------------- embedding
def _embedding_grad(g, o, weight, i, attr):
    """attr = (padding_idx or None, scale_grad_by_freq): no gradient from padding; rows that were read often count less."""
    padding, scale = attr
    column = (*i.shape, 1)
    if padding is not None: g = select((i == padding).reshape(column), 0, g)
    if scale:
        rows = (weight.shape[0],)
        count = g.filled(i.shape, 1).row(index_back, i, attr=((0,), rows)).row(index, i, attr=(0,))
        g = g / count.reshape(column)
    return g.row(TABLE["embedding_back"], i, attr=(attr, weight.shape))


embedding = _read("embedding", at_row, "b", _embedding_grad)
embedding_back = _back(embedding, at_row)


# ---------------------------------------------------------------- means
def _mean(name, read, plain) -> Composite:
    """Sum and count, divided; a place that nothing was written to keeps its value. attr = (dim, include_self)."""
    def count(base, index, v, attr):
        n = base.filled(base.shape, int(attr[1])).row(TABLE[plain], index, base.filled(v.shape, 1), attr=(attr[0], "sum", True))
        return select(n == 0, 1, n)

    def expand(attr, base, index, v):
        total = base.row(TABLE[name], index, v, attr=(attr[0], "sum", attr[1]))
        n = count(base, index, v, attr)
        return total / n if base.dtype.category >= dt.FLOAT else total.row(TABLE["floor_divide"], n)

    def of_base(g, o, base, index, v, attr):
        g = g / count(g, index, v, attr)
        return g if attr[1] else g.row(TABLE[plain], index, g.filled((), 0), attr=(attr[0], "set", True))

    def of_values(g, o, base, index, v, attr): return (g / count(g.filled(base.shape, 0), index, v, attr)).row(read, index, attr=attr[0])

    def oracle(attr, base, index, v):
        p = (at_gather if name == "scatter_reduce" else at_select)(attr[0], base.shape, (index,))
        v = v[tuple(slice(n) for n in p.shape)]
        at = _flat(p, (index,))
        n = np.maximum(_combined(np.full(base.shape, int(attr[1])), at, np.ones(p.shape, np.int64), "sum"), 1)
        total = _combined(base, at, v, "sum", attr[1])
        return (total / n).astype(base.dtype) if base.dtype.kind in "fc" else total // n
    def infer(attr, base, index, v):
        _check_reduction(name, "mean", base.dtype)
        return base.dtype, base.shape
    return Composite(f"{name}_mean", infer, (of_base, None, of_values), "abc", oracle, expand=expand)


scatter_mean = _mean("scatter_reduce", gather, "scatter")
index_mean = _mean("index_reduce", index_select, "index_write")


# ---------------------------------------------------------------- nonzero
def blocks(shape) -> int:
    """Parts that nonzero counts apart: more than threads, so that counts don't depend on them; small tensors are one part."""
    return 64 if math.prod(shape) >= 1 << 15 else 1


def _count_plan(attr, result, x):
    return Native("nonzero_count", (x.dtype,), (math.prod(x.shape), blocks(x.shape)), (Operand(x.dtype, "r"), Operand(dt.int64, "w")), math.prod(x.shape), "nonzero_count")


def _count_oracle(attr, x):
    flat = np.ascontiguousarray(x).reshape(-1)
    n = blocks(x.shape)
    return np.array([np.count_nonzero(flat[flat.size * k // n:flat.size * (k + 1) // n]) for k in range(n)], np.int64)


def _fill_plan(attr, result, x, counts):
    operands = (Operand(x.dtype, "r"), Operand(dt.int64, "r"), Operand(dt.int64, "w"))
    return Native("nonzero_fill", (x.dtype, len(x.shape)), (math.prod(x.shape), blocks(x.shape), *x.shape), operands, math.prod(x.shape), "nonzero_fill")


nonzero_count = Routine("nonzero_count", lambda attr, x: (dt.int64, (blocks(x.shape),)), oracle=_count_oracle, plan=_count_plan)
"""How many elements aren't zero, in each of `blocks` equal parts: the caller adds them up and asks nonzero_fill for that many positions."""

nonzero_fill = Routine("nonzero_fill", lambda attr, x, counts: (dt.int64, (attr, len(x.shape))),
                       oracle=lambda attr, x, counts: np.argwhere(x).astype(np.int64), plan=_fill_plan, layout=lambda attr, shape, *operands: exactly(shape, (1, attr)))
"""attr = their number. Operands x and its counts; the positions, row-major, one per row."""
