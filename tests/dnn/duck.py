"""Tensors for tests of the op table alone: NumPy values, rows applied by their oracles, and a small tape over the rows' gradient rules.

A Duck has what gradient rules and composite expansions may use of a tensor, and nothing else: operators, `row`, `filled`, the shape methods
of views, `sum`, `amax`, `to`, `real`. What works here works on the framework's tensors and on the planner's values.
"""
import math

import numpy as np
import torch

from forno.core import dtype as dt
from forno.core.dtype import FLOAT
from forno.core.op import TABLE
from forno.core.shape import View, contiguous, expand_strides, normalize_dim
from forno.dnn import (  # noqa: F401
    activation,
    contract,
    elementwise,
    functions,
    gather,
    norm,
    oracle,
    pool,
    recipes,
    reduce,
    special,
)
from forno.dnn import movement as mv


class Ref:
    """A run-time number in a gradient rule: only an operand of an operator."""

    def __init__(self, value): self.value, self.type = value, type(value)


class Duck:
    def __init__(self, array, dtype, line=None):
        self.array, self.dtype, self.line, self.shape = array, dtype, line, tuple(array.shape)

    @staticmethod
    def record(op, *operands, attr=None):
        operands = [x.value if isinstance(x, Ref) else x for x in operands]
        array, dtype = oracle_of(op, attr, operands)
        return Duck(array, dtype, (op, operands, attr))

    def row(self, op, *others, attr=None): return Duck.record(op, self, *others, attr=attr)
    def filled(self, shape, value, dtype=None): return Duck(np.full(shape, value, oracle.code(dtype or self.dtype)), dtype or self.dtype)
    def ramp(self, n, start=0, step=1, dtype=dt.int64): return Duck((start + step * np.arange(n)).astype(oracle.code(dtype)), dtype)

    def __add__(self, x): return self.row(TABLE["add"], x)
    def __radd__(self, x): return Duck.record(TABLE["add"], x, self)
    def __sub__(self, x): return self.row(TABLE["sub"], x)
    def __rsub__(self, x): return Duck.record(TABLE["sub"], x, self)
    def __mul__(self, x): return self.row(TABLE["mul"], x)
    def __rmul__(self, x): return Duck.record(TABLE["mul"], x, self)
    def __truediv__(self, x): return self.row(TABLE["div"], x)
    def __rtruediv__(self, x): return Duck.record(TABLE["div"], x, self)
    def __pow__(self, x): return self.row(TABLE["pow"], x)
    def __rpow__(self, x): return Duck.record(TABLE["pow"], x, self)
    def __neg__(self): return self.row(TABLE["neg"])
    def __lt__(self, x): return self.row(TABLE["lt"], x)
    def __le__(self, x): return self.row(TABLE["le"], x)
    def __gt__(self, x): return self.row(TABLE["gt"], x)
    def __ge__(self, x): return self.row(TABLE["ge"], x)
    def __eq__(self, x): return self.row(TABLE["eq"], x)
    def __ne__(self, x): return self.row(TABLE["ne"], x)
    def __and__(self, x): return self.row(TABLE["bitwise_and"], x)
    def __or__(self, x): return self.row(TABLE["bitwise_or"], x)
    def __invert__(self): return self.row(TABLE["bitwise_not"])
    __hash__ = object.__hash__

    def view(self, shape, strides, offset=0): return self.row(mv.view, attr=View(tuple(shape), tuple(strides), offset))

    def reshape(self, shape):
        shape = tuple(shape)
        known = math.prod(n for n in shape if n != -1)
        shape = tuple(math.prod(self.shape) // max(known, 1) if n == -1 else n for n in shape)
        return self.view(shape, contiguous(shape))

    def expand(self, shape): return self.view(shape, expand_strides(self.shape, contiguous(self.shape), tuple(shape)))

    def permute(self, dims):
        st = contiguous(self.shape)
        return self.view([self.shape[d] for d in dims], [st[d] for d in dims])

    def transpose(self, a, b):
        dims = list(range(len(self.shape)))
        dims[a], dims[b] = dims[b], dims[a]
        return self.permute(dims)

    def narrow(self, dim, start, length):
        st = contiguous(self.shape)
        return self.view([length if d == dim else n for d, n in enumerate(self.shape)], st, st[dim] * start)

    def _reduce(self, name, dims, keepdim):
        dims = tuple(sorted(normalize_dim(d, len(self.shape)) for d in ((dims,) if isinstance(dims, int) else dims)))
        out = self.row(TABLE[name], attr=dims)
        return out if keepdim else out.reshape([n for d, n in enumerate(out.shape) if d not in dims])

    def sum(self, dims, keepdim=False): return self._reduce("sum", dims, keepdim)
    def amax(self, dims, keepdim=False): return self._reduce("amax", dims, keepdim)
    def amin(self, dims, keepdim=False): return self._reduce("amin", dims, keepdim)
    def to(self, dtype): return self if dtype is self.dtype else self.row(mv.cast, attr=dtype)

    @property
    def real(self): return self.row(TABLE["real"])

    def __repr__(self): return f"Duck({self.array!r}, {self.dtype})"


def oracle_of(op, attr, operands):
    if op.oracle is None: out = expanded(op, attr, operands); return out.array, out.dtype
    return oracle.evaluate(op, attr, [(x.array, x.dtype) if isinstance(x, Duck) else x for x in operands])


def expanded(op, attr, operands):
    """A composite row by its own expansion; the result must agree with its infer."""
    dtype, shape = op.infer(attr, *(oracle.Meta(x.dtype, x.shape) if isinstance(x, Duck) else type(x) for x in operands))
    out = op.expand(attr, *operands)
    assert (out.dtype, out.shape) == (dtype, tuple(shape)), (op, out.dtype, out.shape, dtype, shape)
    return out


def grads(outputs, cotangents, inputs):
    """Gradients of sum(outputs · cotangents) with respect to inputs, as Ducks one can differentiate again."""
    order, seen = [], set()
    stack = [(o, False) for o in outputs]
    while stack:
        t, done = stack.pop()
        if done: order.append(t); continue
        if id(t) in seen: continue
        seen.add(id(t))
        stack.append((t, True))
        if t.line: stack.extend((x, False) for x in t.line[1] if isinstance(x, Duck))
    got = {}
    for o, c in zip(outputs, cotangents): got[id(o)] = got[id(o)] + c if id(o) in got else c
    for t in reversed(order):
        g = got.get(id(t))
        if g is None or t.line is None: continue
        op, xs, attr = t.line
        assert g.dtype is t.dtype and g.shape == t.shape, f"gradient of {op}: {g.dtype}{g.shape} for {t.dtype}{t.shape}"
        rules = op.rules(len(xs))
        args = [seal(x, op.kind == "composite" or "abcdefgh"[i] in op.saves) if isinstance(x, Duck) else Ref(x) for i, x in enumerate(xs)]
        for i, x in enumerate(xs):
            if not isinstance(x, Duck) or x.dtype.category < FLOAT or i >= len(rules) or rules[i] is None: continue
            gi = rules[i](g, seal(t, "o" in op.saves), *args, attr=attr)
            if gi is None: continue
            if op.kind == "elementwise": gi = sum_to(gi, x.shape)
            if gi.dtype is not x.dtype: gi = (gi.real if gi.dtype.is_complex and not x.dtype.is_complex else gi).to(x.dtype)
            got[id(x)] = got[id(x)] + gi if id(x) in got else gi
    return [got.get(id(x)) for x in inputs]


class Sealed(Duck):
    """An operand whose value is not saved: rules may only look at its shape and dtype."""

    def __init__(self, t): self.dtype, self.shape = t.dtype, t.shape
    def row(self, op, *others, attr=None): raise AssertionError(f"a gradient rule uses a value that `saves` doesn't list ({op})")


def seal(t, saved): return t if saved else Sealed(t)


def sum_to(g, shape):
    lead = len(g.shape) - len(shape)
    dims = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and g.shape[i + lead] != 1)
    return (g.sum(dims, True) if dims else g).reshape(shape)


# ---- exchange with torch
def from_torch(t):
    d = dt.BY_NAME[str(t.dtype)[6:]]
    t = t.detach()
    return Duck((t.float() if t.dtype == torch.bfloat16 else t.resolve_conj().resolve_neg()).contiguous().numpy().copy(), d)


def to_torch(x):
    return torch.from_numpy(np.ascontiguousarray(x.array)).to(getattr(torch, x.dtype.name)).reshape(x.shape)
