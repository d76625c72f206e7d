"""What the planner knows of one value: its bytes, its operands' types, and an expression class for writing rows in terms of rows.

`operand_dtypes(value)` is the one place that decides what type an elementwise row's operands are converted to. `Expr` is what
`Composite.expand` receives: a value with Python operators and PyTorch's method names, each of which makes one more value.
"""
from __future__ import annotations

import math
from typing import NamedTuple

from ..core import dtype as dt
from ..core.graph import Scalar, Value
from ..core.op import TABLE, Op
from ..core.shape import View, contiguous, expand_strides, normalize_dim, whole
from ..core.state import state


class Literal(NamedTuple):
    """A number written in an expansion: part of the plan, unlike a Scalar, and promoted like any Python number."""
    value: bool | int | float | complex

    @property
    def type(self): return type(self.value)


class Marker(Op):
    """Rows that only the planner makes."""
    kind = "marker"


def _marker(name):
    m = object.__new__(Marker)                 # not in the op table: no user can record it
    object.__setattr__(m, "name", name)
    return m


MOVE = _marker("move")                         # ins (x,): x's elements in a buffer of their own
ASSEMBLE = _marker("assemble")                     # ins (x, …), attr (View, …): values that together fill the result, each through its view
SINK = _marker("sink")                         # ins (x,), attr (target Value, View): x written into the target's buffer through the view


def numel(v: Value) -> int: return math.prod(v.shape)
def nbytes(v: Value) -> int: return math.prod(v.shape) * v.dtype.size


def is_identity(w: View, count: int) -> bool:
    """Does this view show all `count` elements of its value in order?"""
    if w.offset or math.prod(w.shape) != count: return False
    step = 1
    for n, s in zip(reversed(w.shape), reversed(w.strides)):
        if n != 1:
            if s != step: return False
            step *= n
    return True


_types: dict = {}


def operand_dtypes(v: Value) -> tuple[dt.dtype, ...]:
    """The compute type of every operand of an elementwise value. The default dtype of the time of recording shows in v.dtype."""
    kinds = tuple([(x.dtype, len(x.shape)) if x.__class__ is Value else dt.SCALAR_CATEGORY[x.type] for x in v.ins])
    key = (v.op, kinds, v.dtype, state.default_dtype)
    out = _types.get(key)
    if out is None:
        for default in (state.default_dtype, dt.float32, dt.float64, dt.bfloat16, dt.float16):
            t = v.op.compute(kinds, default)
            out = t if isinstance(t, tuple) else (t,) * len(kinds)
            if v.op.result is None or v.op.result(out[-1]) is v.dtype: break
        _types[key] = out
    return out


# ---- expressions
_methods: dict[str, Op] = {}
_known = 0


def _method(name: str) -> Op | None:
    """The elementwise row that is this PyTorch method."""
    global _known
    if _known != len(TABLE):
        for op in list(TABLE.values()):
            if op.kind == "elementwise":
                for n in (*op.names, op.name): _methods.setdefault(n, op)
        _known = len(TABLE)
    return _methods.get(name)


class Number:
    """A reference to one of the run's numbers; arithmetic with an expression is the expression's."""
    __slots__ = ("scalar",)

    def __init__(self, scalar): self.scalar = scalar


def _bare(x): return x.value if x.__class__ is Expr else x.scalar if x.__class__ is Number else x if isinstance(x, (Value, Scalar)) else Literal(x)
def _described(x): return x if x.__class__ is Value else x.type


def apply(op: Op, *operands, attr=None) -> Expr:
    """One more value. Composite rows expand on the spot."""
    if op.kind == "composite": return op.expand(attr, *operands)
    ins = tuple(_bare(x) for x in operands)
    dtype, shape = op.infer(attr, *(_described(x) for x in ins))
    return Expr(Value(op, ins, attr, dtype, tuple(shape)))


class Expr:
    """A value being built. Only what expansions and gradient rules use; every method is a row or a view."""
    __slots__ = ("value",)

    def __init__(self, value: Value): self.value = value

    @property
    def shape(self): return self.value.shape
    @property
    def dtype(self): return self.value.dtype
    @property
    def ndim(self): return len(self.value.shape)
    def size(self, dim=None): return self.shape if dim is None else self.shape[dim]
    def dim(self): return len(self.shape)
    def numel(self): return numel(self.value)
    def __repr__(self): return f"Expr({self.value!r})"

    def row(self, op, *others, attr=None): return apply(op, self, *others, attr=attr)

    def filled(self, shape, value, dtype=None):
        dtype = dtype or self.dtype
        value = _bare(value)
        if value.__class__ is Literal: return Expr(Value(TABLE["full"], (), (tuple(shape), dtype, value.value), dtype, tuple(shape)))
        return Expr(Value(TABLE["full"], (value,), (tuple(shape), dtype, None), dtype, tuple(shape)))

    def ramp(self, n, start=0, step=1, dtype=dt.int64):
        """start + step · i for i < n, unrelated to self."""
        return Expr(Value(TABLE["iota"], (), (n, dtype, start, step), dtype, (n,)))

    def __getattr__(self, name):
        op = _method(name)
        if op is None: raise AttributeError(f"expressions have no method '{name}': no elementwise row is called so")
        return lambda *others, attr=None: apply(op, self, *others, attr=attr)

    # ---- views
    def viewed(self, shape, strides, offset=0): return apply(TABLE["view"], self, attr=View(tuple(shape), tuple(strides), offset))

    def reshape(self, *shape):
        shape = _dims(shape)
        if -1 in shape:
            rest = math.prod(n for n in shape if n != -1)
            shape = tuple(self.numel() // rest if n == -1 else n for n in shape)
        return self if shape == self.shape else apply(TABLE["view"], self, attr=whole(shape))

    view = reshape
    def contiguous(self): return self
    def clone(self): return self
    def detach(self): return self
    def flatten(self, start=0, end=-1):
        if not self.shape: return self.reshape(1)
        a, b = normalize_dim(start, self.ndim), normalize_dim(end, self.ndim)
        return self.reshape(*self.shape[:a], math.prod(self.shape[a:b + 1]), *self.shape[b + 1:])

    def expand(self, *shape):
        shape = _dims(shape)
        lead = len(shape) - self.ndim
        shape = tuple(self.shape[i - lead] if n == -1 else n for i, n in enumerate(shape))
        return self if shape == self.shape else self.viewed(shape, expand_strides(self.shape, contiguous(self.shape), shape))

    def expand_as(self, other): return self.expand(other.shape)

    def permute(self, *dims):
        dims = tuple(normalize_dim(d, self.ndim) for d in _dims(dims))
        strides = contiguous(self.shape)
        return self.viewed([self.shape[d] for d in dims], [strides[d] for d in dims])

    def transpose(self, a, b):
        dims = list(range(self.ndim))
        a, b = normalize_dim(a, self.ndim), normalize_dim(b, self.ndim)
        dims[a], dims[b] = dims[b], dims[a]
        return self.permute(*dims)

    @property
    def mT(self): return self.transpose(-1, -2)
    @property
    def T(self): return self.permute(*reversed(range(self.ndim)))

    def unsqueeze(self, dim):
        dim = normalize_dim(dim, self.ndim + 1)
        return self.reshape(*self.shape[:dim], 1, *self.shape[dim:])

    def squeeze(self, dim=None):
        dims = range(self.ndim) if dim is None else [normalize_dim(d, self.ndim) for d in (dim if isinstance(dim, tuple) else (dim,))]
        return self.reshape(*(n for d, n in enumerate(self.shape) if n != 1 or d not in dims))

    def narrow(self, dim, start, length):
        dim, strides = normalize_dim(dim, self.ndim), contiguous(self.shape)
        return self.viewed([*self.shape[:dim], length, *self.shape[dim + 1:]], strides, start * strides[dim])

    def select(self, dim, index): return self.narrow(dim, index % self.shape[dim], 1).squeeze(dim)

    def __getitem__(self, index):
        index = index if isinstance(index, tuple) else (index,)
        if Ellipsis in index:
            at = index.index(Ellipsis)
            index = (*index[:at], *(slice(None),) * (self.ndim - sum(i is not None for i in index) + 1), *index[at + 1:])
        shape, strides, offset, old, axis = [], [], 0, contiguous(self.shape), 0
        for i in (*index, *(slice(None),) * (self.ndim - sum(i is not None for i in index))):
            if i is None: shape.append(1); strides.append(1); continue
            n, s = self.shape[axis], old[axis]
            axis += 1
            if isinstance(i, slice):
                r = range(n)[i]
                shape.append(len(r)); strides.append(s * r.step); offset += s * (r.start if len(r) else 0)
            else: offset += s * (i % n)
        return self.viewed(shape, strides, offset)

    # ---- types
    def to(self, dtype): return self if dtype is self.dtype else apply(TABLE["cast"], self, attr=dtype)
    def type_as(self, other): return self.to(other.dtype)
    def float(self): return self.to(dt.float32)
    def double(self): return self.to(dt.float64)
    def bool(self): return self.to(dt.bool)
    def long(self): return self.to(dt.int64)

    # ---- reductions
    def _reduced(self, name, dims, keepdim):
        if dims is None or dims == (): dims = range(self.ndim)
        elif isinstance(dims, int): dims = (dims,)
        axes = tuple(sorted(normalize_dim(d, self.ndim) for d in dims)) if self.shape else ()
        out = apply(TABLE[name], self, attr=axes)
        return out if keepdim else out.reshape(*(n for d, n in enumerate(self.shape) if d not in axes))

    def sum(self, dim=None, keepdim=False, dtype=None): return (self.to(dtype) if dtype else self)._reduced("sum", dim, keepdim)
    def prod(self, dim=None, keepdim=False): return self._reduced("prod", dim, keepdim)
    def amax(self, dim=None, keepdim=False): return self._reduced("amax", dim, keepdim)
    def amin(self, dim=None, keepdim=False): return self._reduced("amin", dim, keepdim)
    def any(self, dim=None, keepdim=False): return self._reduced("any", dim, keepdim)
    def all(self, dim=None, keepdim=False): return self._reduced("all", dim, keepdim)
    def argmax(self, dim=None, keepdim=False): return self._reduced("argmax", dim, keepdim)
    def argmin(self, dim=None, keepdim=False): return self._reduced("argmin", dim, keepdim)

    def mean(self, dim=None, keepdim=False):
        total = self.sum(dim, keepdim)
        return total / (self.numel() // max(total.numel(), 1))

    # ---- operators and methods whose PyTorch name isn't their row's
    def __add__(self, x): return apply(TABLE["add"], self, x)
    def __radd__(self, x): return apply(TABLE["add"], x, self)
    def __sub__(self, x): return apply(TABLE["sub"], self, x)
    def __rsub__(self, x): return apply(TABLE["sub"], x, self)
    def __mul__(self, x): return apply(TABLE["mul"], self, x)
    def __rmul__(self, x): return apply(TABLE["mul"], x, self)
    def __truediv__(self, x): return apply(TABLE["div"], self, x)
    def __rtruediv__(self, x): return apply(TABLE["div"], x, self)
    def __floordiv__(self, x): return apply(TABLE["floor_divide"], self, x)
    def __mod__(self, x): return apply(TABLE["remainder"], self, x)
    def __pow__(self, x): return apply(TABLE["square"], self) if isinstance(x, int) and x == 2 else apply(TABLE["pow"], self, x)
    def __rpow__(self, x): return apply(TABLE["pow"], x, self)
    def __neg__(self): return apply(TABLE["neg"], self)
    def __abs__(self): return apply(TABLE["abs"], self)
    def __invert__(self): return apply(TABLE["bitwise_not"], self)
    def __and__(self, x): return apply(TABLE["bitwise_and"], self, x)
    def __or__(self, x): return apply(TABLE["bitwise_or"], self, x)
    def __xor__(self, x): return apply(TABLE["bitwise_xor"], self, x)
    def __lt__(self, x): return apply(TABLE["lt"], self, x)
    def __le__(self, x): return apply(TABLE["le"], self, x)
    def __gt__(self, x): return apply(TABLE["gt"], self, x)
    def __ge__(self, x): return apply(TABLE["ge"], self, x)
    def __eq__(self, x): return apply(TABLE["eq"], self, x)
    def __ne__(self, x): return apply(TABLE["ne"], self, x)
    __hash__ = object.__hash__
    def __matmul__(self, x): return apply(TABLE["matmul"], self, x)
    matmul = __matmul__
    def max(self, other): return apply(TABLE["maximum"], self, other)
    def min(self, other): return apply(TABLE["minimum"], self, other)
    def where(self, cond, other): return apply(TABLE["where"], cond, self, other)
    def pow(self, x): return self ** x


def _dims(args): return tuple(args[0]) if len(args) == 1 and isinstance(args[0], (tuple, list)) else tuple(args)
