"""Sparse tensors: a Pattern (where the elements are) and a dense tensor of values. https://docs.pytorch.org/docs/2.13/sparse.html

Comes in: indices and values, or a dense tensor. Goes out: a SparseTensor, its parts, a dense tensor again. Nothing new is recorded for it: every function
is written with rows on `carrier`, the dense tensor of values, (nnz, *dense axes), so gradients flow through it, and a sparse leaf is a tensor whose
values are a leaf. What isn't written for sparse tensors raises NotDense (framework/layouts.py).
"""
from __future__ import annotations

import functools
import math

from ..core import dtype as dt
from ..core.errors import unsupported
from ..core.shape import normalize_dim
from ..core.state import state
from ..dnn import elementwise as ew
from ..dnn import gather as ga
from ..graph.line import LOCAL
from . import autograd, creation, data, functions as fn, gathering, methods, views
from .bind import apply, element_type
from .layouts import OTHERS, Elsewhere
from .patterns import POINTERS, Pattern, rows, zeros
from .size import CPU, Size, on_cpu, sparse_bsc, sparse_bsr, sparse_coo, sparse_csc, sparse_csr, strided
from .tensor import Tensor, data_of, detached, new
from .views import shape_of

INSTEAD = {layout: Elsewhere(layout) for layout in (sparse_coo, sparse_csr, sparse_csc)}
KINDS = {sparse_coo: "Sparse", sparse_csr: "SparseCsr", sparse_csc: "SparseCsc"}
PARTS = {sparse_csr: ("crow_indices", "col_indices"), sparse_csc: ("ccol_indices", "row_indices")}


class SparseTensor(Tensor):
    """`pattern`: where the elements are. `carrier`: their values, a dense tensor with all of autograd's state."""
    __slots__ = ("pattern", "carrier")
    prints_as_tensor = True

    @property
    def layout(self): return self.pattern.layout

    @property
    def shape(self): return Size(self.pattern.size + shape_of(self.carrier)[1:])

    @property
    def is_sparse(self): return self.pattern.layout is sparse_coo

    @property
    def is_sparse_csr(self): return self.pattern.layout is sparse_csr

    @property
    def requires_grad(self): return self.carrier.requires_grad

    @requires_grad.setter
    def requires_grad(self, on): methods.set_requires_grad(self.carrier, on)

    @property
    def grad(self): return gradient(self)

    @grad.setter
    def grad(self, g): set_gradient(self, g)

    @grad.deleter
    def grad(self): set_gradient(self, None)

    @property
    def data(self): return like(self, data_of(self.carrier))

    @data.setter
    def data(self, value): self.pattern, self.alias, self.carrier.data = value.pattern, value.alias, value.carrier

    dtype, device, itemsize = property(lambda s: s.carrier.dtype), property(lambda s: CPU), property(lambda s: s.carrier.dtype.size)
    ndim = property(lambda s: dim(s))

    is_meta = property(lambda s: False)

    def with_gradient(self, g): return given(self, g)
    def values_at(self, g): return values_at(g, self.pattern)

    is_leaf, grad_fn = property(lambda s: s.carrier.is_leaf), property(lambda s: s.carrier.grad_fn)
    retains_grad, _version = property(lambda s: s.carrier.retains_grad), property(lambda s: s.carrier._version)


OTHERS.add(SparseTensor)


CLASSES: dict[type, type] = {Tensor: SparseTensor}


def make_subclass(cls, x, require_grad=False):
    """A sparse instance of a subclass of Tensor (Parameter), on the values of x."""
    if cls not in CLASSES:
        CLASSES[cls] = type(cls.__name__, (SparseTensor, cls), {"__slots__": (), "__module__": cls.__module__, "prints_as_tensor": cls.__dict__.get("prints_as_tensor", False)})
        OTHERS.add(CLASSES[cls])
    t = like(x, detached(x.carrier))
    t.__class__ = CLASSES[cls]
    return finish(t, require_grad)


# ---------------------------------------------------------------- making
def made(pattern: Pattern, values: Tensor) -> SparseTensor:
    t = new(SparseTensor)
    t.node, t.alias, t.pattern, t.carrier = None, INSTEAD[pattern.layout], pattern, values
    return t


def like(x: SparseTensor, values: Tensor) -> SparseTensor: return made(x.pattern, values)


class check_sparse_tensor_invariants:
    """Whether constructors look at the indices they are given: enable(), disable(), a context manager, a decorator."""
    on = False

    def __init__(self, enable=True): self.state, self.saved_state = enable, None

    @staticmethod
    def is_enabled(): return check_sparse_tensor_invariants.on

    @staticmethod
    def enable(): check_sparse_tensor_invariants.on = True

    @staticmethod
    def disable(): check_sparse_tensor_invariants.on = False

    def __enter__(self):
        if self.saved_state is not None:
            raise RuntimeError("This context manager instance is already activated. Use a different context manager instance for context nesting.")
        self.saved_state, check_sparse_tensor_invariants.on = self.is_enabled(), self.state

    def __exit__(self, *error): check_sparse_tensor_invariants.on, self.saved_state = self.saved_state, None

    def __call__(self, f):
        @functools.wraps(f)
        def checked(*args, **kw):
            with type(self)(self.state): return f(*args, **kw)
        return checked


def values_of(given, dtype) -> Tensor:
    """Values a constructor was given, on the same memory but as a tensor of their own."""
    t = creation.as_tensor(given, dtype=dtype) if isinstance(given, Tensor) else data.from_data(given, dtype)
    return views.view(t, shape_of(t)) if t.requires_grad else detached(t)


def index_of(given) -> Tensor:
    t = given if isinstance(given, Tensor) else data.from_data(given)
    return detached(t)


def sparse_coo_tensor(indices=None, values=None, size=None, *, dtype=None, device=None, pin_memory=False, requires_grad=False, check_invariants=None, is_coalesced=None):
    """Values at coordinates: indices (sparse axes, nnz), values (nnz, *dense axes)."""
    on_cpu(device)
    dtype = element_type(dtype)
    if values is None:
        if size is None: size, indices = indices, None
        return finish(empty(views.ints((size,)), dtype), requires_grad)
    indices, values = fn.to(index_of(indices), dt.int64), values_of(values, dtype)
    if not shape_of(values): values = views.expand(values, (1,))
    i, v = shape_of(indices), shape_of(values)
    if len(i) != 2: raise RuntimeError(f"indices must be sparse_dim x nnz, but got: {list(i)}")
    if i[1] != v[0]: raise RuntimeError(f"indices and values must have same nnz, but got nnz from indices: {i[1]}, nnz from values: {v[0]}")
    if size is None: size = (*inferred(indices), *v[1:])
    size = views.ints((size,))
    if len(size) != i[0] + len(v) - 1:
        raise RuntimeError(f"'len(size) == sparse_dim + dense_dim' is not satisfied: len(size) = {len(size)}, sparse_dim = {i[0]}, dense_dim = {len(v) - 1}")
    if tuple(v[1:]) != size[i[0]:]: raise RuntimeError(f"values has incorrect size, expected {[v[0], *size[i[0]:]]}, got {list(v)}")
    pattern = Pattern(sparse_coo, size[:i[0]], (indices,), bool(is_coalesced))
    if check_sparse_tensor_invariants.on if check_invariants is None else check_invariants: check(pattern)
    return finish(made(pattern, values), requires_grad)


def finish(t, requires_grad):
    if requires_grad and not t.requires_grad: t.requires_grad = True
    return t


def empty(size, dtype=None, axes=None) -> SparseTensor:
    axes = len(size) if axes is None else axes
    return made(Pattern(sparse_coo, size[:axes], (zeros((axes, 0), dt.int64),), True), zeros((0, *size[axes:]), dtype or state.default_dtype))


def inferred(indices: Tensor) -> list[int]:
    """The smallest size that holds all indices."""
    if not shape_of(indices)[1]:
        if shape_of(indices)[0]: raise RuntimeError("Cannot infer size: indices are empty")
        return []
    low, high = data.tolist(fn.amin(indices, 1)), data.tolist(fn.amax(indices, 1))
    for d, n in enumerate(low):
        if n < 0: raise RuntimeError(f"found negative index {n} for dim {d}")
    return [n + 1 for n in high]


def check(p: Pattern):
    """PyTorch's invariants of coordinates and of compressed indices."""
    if p.layout is sparse_coo:
        if not p.nnz: return
        low, high = data.tolist(fn.amin(p.parts[0], 1)), data.tolist(fn.amax(p.parts[0], 1))
        for d, (a, b, n) in enumerate(zip(low, high, p.size)):
            if a < 0: raise RuntimeError(f"found negative index {a} for dim {d}")
            if b >= n: raise RuntimeError(f"size is inconsistent with indices: for dim {d}, size is {n} but found index {b}")
        if p.coalesced and p.nnz > 1:
            keys = p.keys()
            if not data.item(fn.all(views.narrow(keys, 0, 1, p.nnz - 1) > views.narrow(keys, 0, 0, p.nnz - 1))):
                raise RuntimeError("cannot set is_coalesced to true if indices correspond to uncoalesced COO tensor")
        return
    (c, i), axis = PARTS[p.layout], POINTERS[p.layout]
    pointers, places, n = data.tolist(p.parts[0]), data.tolist(p.parts[1]), p.size[1 - axis]

    def demand(holds, what):
        if not holds: raise RuntimeError(f"`{what}` is not satisfied.")
    other = ("ncols", "nrows")[axis]
    demand(pointers[0] == 0, f"{c}[..., 0] == 0")
    demand(pointers[-1] == p.nnz, f"{c}[..., -1] == nnz")
    demand(all(0 <= b - a <= n for a, b in zip(pointers, pointers[1:])), f"0 <= {c}[..., 1:] - {c}[..., :-1] <= {other}")
    demand(all(0 <= x < n for x in places), f"0 <= {i} < {other}")
    for a, b in zip(pointers, pointers[1:]):
        demand(all(x < y for x, y in zip(places[a:b], places[a + 1:b])), f"{i}[..., {c}[..., i - 1]:{c}[..., i]] for all i = 1, ..., {('nrows', 'ncols')[axis]} are sorted and distinct along the last dimension values")


def compressed(layout, pointers, places, values, size=None, *, dtype=None, device=None, pin_memory=False, requires_grad=False, check_invariants=None):
    on_cpu(device)
    if layout not in POINTERS: raise unsupported(f"{layout!r}", dtype, instead="use torch.sparse_csr_tensor")
    (c, i), axis = PARTS[layout], POINTERS[layout]
    pointers, places, values = index_of(pointers), index_of(places), values_of(values, element_type(dtype))
    pointers, places = [x if x.dtype in (dt.int32, dt.int64) else fn.to(x, dt.int64) for x in (pointers, places)]
    for name, x in ((c, pointers), (i, places)):
        if len(shape_of(x)) != 1: raise unsupported(f"{name} with batch axes", values.dtype, instead="use one sparse tensor per matrix")
    if pointers.dtype is not places.dtype: raise RuntimeError(f"{c} and {i} must have the same dtype, but got {ew.TITLES[pointers.dtype.name]} and {ew.TITLES[places.dtype.name]}, respectively")
    nnz = shape_of(places)[0]
    if shape_of(values)[:1] != (nnz,): raise RuntimeError(f"`{i}.shape[-1] must be equal to nnz (={shape_of(values)[0]}) as defined by values.shape[0]` but got {nnz}")
    if size is None:
        widest = data.item(fn.amax(places)) + 1 if nnz else 0
        size = (shape_of(pointers)[0] - 1, widest)[::1 - 2 * axis] + shape_of(values)[1:]
    size = views.ints((size,))
    if shape_of(pointers)[0] != size[axis] + 1:
        raise RuntimeError(f"{c}.shape[-1] must be equal to the number of {('rows', 'columns')[axis]} + 1 (={size[axis] + 1}), but got {shape_of(pointers)[0]}")
    pattern = Pattern(layout, size[:2], (pointers, places))
    if check_sparse_tensor_invariants.on if check_invariants is None else check_invariants: check(pattern)
    return finish(made(pattern, values), requires_grad)


def sparse_csr_tensor(crow_indices, col_indices, values, size=None, **kw): return compressed(sparse_csr, crow_indices, col_indices, values, size, **kw)
def sparse_csc_tensor(ccol_indices, row_indices, values, size=None, **kw): return compressed(sparse_csc, ccol_indices, row_indices, values, size, **kw)


def sparse_compressed_tensor(compressed_indices, plain_indices, values, size=None, *, layout=None, **kw):
    if layout is None: raise RuntimeError("sparse_compressed_tensor expected sparse compressed tensor layout but got None")
    return compressed(layout, compressed_indices, plain_indices, values, size, **kw)


class OldType(type):
    """torch.sparse.FloatTensor and its like: constructors and isinstance checks of one dtype."""

    def __instancecheck__(cls, x): return isinstance(x, SparseTensor) and x.layout is sparse_coo and x.dtype is cls.dtype

    def __call__(cls, *args, device=None):
        if not args: return empty((0,), cls.dtype)
        if not isinstance(args[0], Tensor): return empty(views.ints(args), cls.dtype)
        if args[1].dtype is not cls.dtype: raise TypeError(f"expected {cls.__module__}.{cls.__name__} values, but got {args[1].type()}")
        return sparse_coo_tensor(*args, device=device)


def old_constructor(dtype) -> OldType: return OldType(ew.TITLES[dtype.name] + "Tensor", (), {"dtype": dtype, "__module__": "torch.sparse", "__doc__": f"Sparse tensors of {dtype!r}."})


# ---------------------------------------------------------------- to and from dense
def to_sparse(self, sparse_dim=None, *, layout=None, blocksize=None, dense_dim=None):
    """The elements that aren't zero (slices, for fewer sparse axes than there are)."""
    if isinstance(self, SparseTensor):
        return converted(self, layout or sparse_coo)
    if layout is not None and layout is not sparse_coo: return converted(to_sparse(self), layout) if layout in POINTERS else refuse_blocks(layout)
    n = len(shape_of(self))
    axes = n if sparse_dim is None else sparse_dim
    if not (0 < axes <= n or axes == n): raise RuntimeError(f"sparse_dim must be in range (0, {n}], but got {axes}" if axes else f"sparse_dim argument must be in >0 when self.dim()>0, got {axes}")
    there = detached(self)
    if axes < n: there = fn.any(there != 0, tuple(range(axes, n)))
    if not n: return made(Pattern(sparse_coo, (), (zeros((0, int(bool(self != 0))), dt.int64),), True), views.reshape(self, (1,))[:int(bool(self != 0))])
    places = views.contiguous_(views.t(gathering.nonzero(there)))
    pattern = Pattern(sparse_coo, shape_of(self)[:axes], (places,), True)
    return made(pattern, apply(ga.index, self, *pattern.all(), attr=tuple(range(axes))))


def refuse_blocks(layout): raise unsupported(f"to_sparse(layout={layout!r})", instead="use torch.sparse_csr or torch.sparse_coo")


def converted(x: SparseTensor, layout) -> SparseTensor | Tensor:
    """Any of the layouts; compressed ones have their elements sorted."""
    p = x.pattern
    if layout is p.layout: return x
    if layout is strided: return to_dense(x)
    if layout is sparse_coo: return made(p.coordinates(), x.carrier)
    if layout not in POINTERS: refuse_blocks(layout)
    if p.axes != 2: raise RuntimeError(f"to_sparse_{layout.name[7:]}: expected 2 sparse dimensions, but got a {p.axes}D sparse tensor with {len(shape_of(x.carrier)) - 1} dense dimensions")
    x = coalesce(converted(x, sparse_coo))
    values, pattern = x.carrier, compressed_pattern(x.pattern, layout)
    return made(pattern, values if layout is sparse_csr else rows(values, x.pattern.ordered(1)[0]))


def compressed_pattern(p: Pattern, layout) -> Pattern:
    found = p.facts.get(layout)
    if found is None:
        axis = POINTERS[layout]
        order, pointers = p.ordered(axis)
        found = p.facts[layout] = Pattern(layout, p.size, (pointers, p.at(1) if layout is sparse_csr else rows(p.at(0), order)))
    return found


def to_sparse_csr(self, dense_dim=None): return csr_of(self, sparse_csr)
def to_sparse_csc(self, dense_dim=None): return csr_of(self, sparse_csc)


def csr_of(self, layout):
    if not isinstance(self, SparseTensor):
        if len(shape_of(self)) != 2: raise RuntimeError("Only tensors with two or more dimensions can be converted to the SparseCsr layout, got "
                                                        f"{len(shape_of(self))}D" if len(shape_of(self)) < 2 else f"to_sparse_{layout.name[7:]} of batches is not implemented")
        self = to_sparse(self)
    return converted(self, layout)


def to_sparse_coo(self): return to_sparse(self)


def to_dense(self, dtype=None, *, masked_grad=None):
    if not isinstance(self, SparseTensor): return self if dtype is None else fn.to(self, dtype)
    p, values = self.pattern, self.carrier
    if dtype is not None: values = fn.to(values, dtype)
    if not p.axes: return fn.sum(values, 0)
    return apply(ga.index_back, values, *p.all(), attr=(tuple(range(p.axes)), tuple(self.shape)))


def coalesce(x: SparseTensor) -> SparseTensor:
    """Sorted, with equal places summed."""
    if x.layout is not sparse_coo: raise RuntimeError(f"coalesce expected sparse coordinate tensor layout but got {KINDS[x.layout]}")
    if x.pattern.coalesced: return x
    order, group, _, pattern = x.pattern.sorted()
    values = rows(x.carrier, order)
    if pattern.nnz < x.pattern.nnz: values = apply(ga.index_select_back, values, group, attr=(0, (pattern.nnz, *shape_of(values)[1:])))
    return made(pattern, values)


# ---------------------------------------------------------------- parts
def coordinates_only(x, what):
    if not isinstance(x, SparseTensor): raise RuntimeError(f"{what} expected sparse coordinate tensor layout but got Strided")
    if x.layout is not sparse_coo: raise RuntimeError(f"{what} expected sparse coordinate tensor layout but got {KINDS[x.layout]}")


def indices(x):
    coordinates_only(x, "indices")
    if not x.pattern.coalesced: raise RuntimeError("Cannot get indices on an uncoalesced tensor, please call .coalesce() first")
    return detached(x.pattern.parts[0])


def values(x):
    if not isinstance(x, SparseTensor): raise RuntimeError("values expected sparse tensor layout but got Strided")
    if not x.pattern.coalesced: raise RuntimeError("Cannot get values on an uncoalesced tensor, please call .coalesce() first")
    return views.view(x.carrier, shape_of(x.carrier))


def _indices(x): coordinates_only(x, "_indices"); return detached(x.pattern.parts[0])
def _values(x): return detached(x.carrier)
def _nnz(x): return x.pattern.nnz


def is_coalesced(x):
    coordinates_only(x, "is_coalesced")
    return x.pattern.coalesced


def part_of(name):
    layouts = [layout for layout, names in PARTS.items() if name in names]

    def part(x):
        if x.layout not in layouts:
            kind = "row" if name in PARTS[sparse_csr] else "column"
            raise RuntimeError(f"{name} expected sparse {kind} compressed tensor layout but got {'Strided' if x.layout is strided else KINDS[x.layout]}")
        return detached(x.pattern.parts[PARTS[x.layout].index(name)])
    part.__name__ = name
    return part


crow_indices, col_indices, ccol_indices, row_indices = map(part_of, ("crow_indices", "col_indices", "ccol_indices", "row_indices"))


def sparse_dim(x): return x.pattern.axes if isinstance(x, SparseTensor) else 0
def dense_dim(x): return len(shape_of(x.carrier)) - 1 if isinstance(x, SparseTensor) else len(shape_of(x))


# ---------------------------------------------------------------- what every tensor answers
def dim(x): return x.pattern.axes + len(shape_of(x.carrier)) - 1
def size(x, dim=None): return x.shape if dim is None else x.shape[normalize_dim(dim, len(x.shape))]
def numel(x): return math.prod(x.shape)


def length(x):
    if not x.shape: raise TypeError("len() of a 0-d tensor")
    return x.shape[0]


def stride(x, dim=None):
    if x.layout is not sparse_coo: raise RuntimeError("Sparse CSR tensors do not have strides")
    return (0,) * len(x.shape) if dim is None else 0


def gradient(x):
    """x.grad: on x's places; where x names a place twice, on the places without duplicates."""
    g = x.carrier.grad
    return None if g is None else given(x, g)


def given(x, g: Tensor) -> SparseTensor:
    """x's gradient from that of its values."""
    if x.pattern.coalesced: return like(x, g)
    _, _, first, pattern = x.pattern.sorted()
    return made(pattern, rows(g, first))


def set_gradient(x, g):
    if g is not None:
        if not isinstance(g, Tensor): raise TypeError(f"assigned grad expected to be a Tensor or None but got grad of type {type(g).__name__}")
        if tuple(g.shape) != tuple(x.shape): raise RuntimeError("assigned grad has data of a different size")
        g = values_at(g, x.pattern)
    x.carrier.grad = g


def values_at(g: Tensor, p: Pattern) -> Tensor:
    """The values of any tensor at the places of a pattern."""
    if isinstance(g, SparseTensor):
        if g.pattern is p: return g.carrier
        g = to_dense(g)
    return apply(ga.index, g, *p.all(), attr=tuple(range(p.axes)))


def requires_grad_(x, requires_grad=True):
    methods.requires_grad_(x.carrier, requires_grad)
    return x


def detach(x): return like(x, detached(x.carrier))


def detach_(x):
    x.carrier = detached(x.carrier)
    return x


def clone(x, *, memory_format=None):
    p = x.pattern
    return made(Pattern(p.layout, p.size, tuple([views.clone(i) for i in p.parts]), p.coalesced), views.clone(x.carrier))


def backward(x, gradient=None, retain_graph=None, create_graph=False, inputs=None):
    if gradient is not None: gradient = values_at(gradient, x.pattern)
    elif numel(x) != 1: raise RuntimeError("grad can be implicitly created only for scalar outputs")
    autograd.backward((x.carrier,), None if gradient is None else (gradient,), retain_graph, create_graph, inputs=inputs)


def register_hook(x, hook):
    def on_values(g):
        r = hook(like(x, g))
        return None if r is None else values_at(r, x.pattern)
    return autograd.add_hook(x.carrier, on_values)


def retain_grad(x): autograd.retain_grad(x.carrier)


def to(x, *args, **kw):
    kw.pop("memory_format", None)
    t = methods.to(x.carrier, *[a.carrier if isinstance(a, SparseTensor) else a for a in args], **kw)
    if t is x.carrier: return x
    return like(x, t)


def type_(x, dtype=None, non_blocking=False):
    if dtype is None: return f"torch.sparse{'' if x.is_sparse else '_' + x.layout.name[7:]}.{ew.TITLES[x.dtype.name]}Tensor"
    return like(x, methods.type_(x.carrier, dtype))


def caster(dtype):
    def method(x, memory_format=None): return to(x, dtype)
    return method


def copy_(x, src, non_blocking=False):
    if not isinstance(src, SparseTensor) or src.layout is not x.layout:
        raise RuntimeError("copy_() between dense and sparse Tensors is not implemented! Found self type = " + f"{x.type()} and src type = {src.type()}")
    if tuple(src.shape) != tuple(x.shape): raise RuntimeError(f"copy_(): expected tensors of one size, but got {list(x.shape)} and {list(src.shape)}")
    return replaced(x, src.pattern, fn.to(views.clone(src.carrier), x.dtype))


def replaced(x, pattern: Pattern, values: Tensor):
    """x with other elements: what in-place functions do. Values stay where they lie when the places stay."""
    if LOCAL.run.grad and x.requires_grad and x.is_leaf: raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
    if pattern is x.pattern: x.carrier.copy_(values)
    elif x.is_leaf:
        was = x.requires_grad
        x.pattern, x.carrier = pattern, detached(values) if was else values
        if was: x.carrier.requires_grad_()
    else: x.pattern, x.carrier = pattern, values
    return x


def zero_(x):
    p = x.pattern
    if p.layout is not sparse_coo: return replaced(x, p, zeros(shape_of(x.carrier), x.dtype))
    return replaced(x, Pattern(sparse_coo, p.size, (zeros((p.axes, 0), dt.int64),), True), zeros((0, *shape_of(x.carrier)[1:]), x.dtype))


def sparse_resize_(x, size, sparse_dim, dense_dim):
    """Another size for the same elements."""
    size, p = views.ints((size,)), x.pattern
    if sparse_dim + dense_dim != len(size): raise RuntimeError(f"'len(size) == sparse_dim + dense_dim' is not satisfied: len(size) = {len(size)}, sparse_dim = {sparse_dim}, dense_dim = {dense_dim}")
    if p.nnz and (sparse_dim != p.axes or any(n < m for n, m in zip(size, x.shape))):
        raise RuntimeError("resizing to a smaller size or another number of sparse dimensions on a non-empty sparse tensor is not supported; use sparse_resize_and_clear_")
    if not p.nnz: return sparse_resize_and_clear_(x, size, sparse_dim, dense_dim)
    if size[p.axes:] != tuple(x.shape[p.axes:]): raise unsupported("sparse_resize_ of dense axes", x.dtype, instead="make a new tensor")
    return replaced(x, Pattern(sparse_coo, size[:p.axes], p.parts, p.coalesced), x.carrier)


def sparse_resize_and_clear_(x, size, sparse_dim, dense_dim):
    e = empty(views.ints((size,)), x.dtype, sparse_dim)
    return replaced(x, e.pattern, e.carrier)


def copied(x, memo):
    if id(x) not in memo:
        if not x.is_leaf: raise RuntimeError("Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment.")
        t = clone(detach(x))
        t.__class__ = x.__class__
        memo[id(x)] = finish(t, x.requires_grad)
    return memo[id(x)]


def rebuilt(layout, parts, values, size, coalesced, requires_grad, cls=Tensor):
    """What pickle calls."""
    t = made(Pattern(layout, tuple(size), tuple(parts), coalesced), values)
    return finish(t, requires_grad) if cls is Tensor else make_subclass(cls, t, requires_grad)


def reduce_ex(x, protocol=2):
    p, cls = x.pattern, next(dense for dense, sparse in CLASSES.items() if sparse is type(x))
    return rebuilt, (p.layout, p.parts, detached(x.carrier), p.size, p.coalesced, x.requires_grad, cls)


def shallow(x): return like(x, x.carrier)


def mark_coalesced(x, on):
    """What PyTorch's own code calls to say that indices are sorted."""
    p = x.pattern
    x.pattern = Pattern(p.layout, p.size, p.parts, on)
    return x


def only_sparse(f):
    """A sparse tensor's method as dense tensors answer it."""
    def refused(x): raise RuntimeError(f"{f.__name__} expected sparse coordinate tensor layout but got Strided")
    return refused


def parts(x) -> tuple:
    """What PyTorch's files hold of a sparse tensor."""
    p = x.pattern
    return (p.parts[0], detached(x.carrier), x.shape, p.coalesced) if p.layout is sparse_coo else (*p.parts, detached(x.carrier), x.shape)


def no_array(x, *args, **kw): raise TypeError(f"can't convert {KINDS[x.layout]} layout tensor to numpy. Use Tensor.to_dense() first.")
def no_exchange(x, *args, **kw): raise RuntimeError("Cannot access data pointer of Tensor that doesn't have storage; use x.to_dense(), or hand over indices and values")
def no_storage(x): raise NotImplementedError("Cannot access storage of SparseTensorImpl; use x.to_dense(), x.indices() or x.values()")
