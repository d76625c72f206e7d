"""Rows that move values, or only their history.

All views are one row: `view` reads its operand's contiguous value through an affine map, and its gradient is the transposed map. All
writes through views are `put`, which gives PyTorch's rules for in-place operations on views by construction. History rows change what
backward sees and nothing else; they cost no kernel.
"""
from __future__ import annotations

import math

import numpy as np

from ..core import dtype as dt
from ..core.op import Elementwise, Movement
from ..core.shape import View, as_numpy_strided, contiguous, dense_layout, exactly, follows, overlaps, whole


def same(attr, a, *rest): return a.dtype, a.shape
def last(attr, *operands): return operands[-1].dtype, operands[-1].shape


# ---------------------------------------------------------------- generators
def _full_oracle(attr, value=None):
    shape, dtype, const = attr
    return np.full(shape, const if value is None else value, dtype.code)


full = Movement("full", lambda attr, *number: (attr[1], attr[0]), oracle=_full_oracle)
"""attr = (shape, dtype, value): a constant; with a number operand, `value` is None and the run's number fills it."""


def _iota_oracle(attr, *numbers):
    n, dtype, start, step = attr
    if numbers: start, step = numbers
    return (start + step * np.arange(n)).astype(dtype.code)


iota = Movement("iota", lambda attr, *numbers: (attr[1], (attr[0],)), oracle=_iota_oracle)
"""attr = (length, dtype, start, step): start + step * i; with two number operands those are start and step."""

# ---------------------------------------------------------------- dtype
cast = Elementwise("cast", lambda attr, a: (attr, a.shape), grads=(lambda g, o, a, attr: g.to(a.dtype),),
                   oracle=lambda attr, a: a.astype(attr.code), emit=lambda b, x: x,
                   compute=lambda operands, default: operands[0][0], result=None)
"""attr = the new dtype. The planner lowers it as core.kernels.Cast."""


# ---------------------------------------------------------------- views and writes through views
def _view_grad(g, o, a, attr):
    repeated = tuple(i for i, (n, s) in enumerate(zip(attr.shape, attr.strides)) if s == 0 and n > 1)
    if repeated: g = g.sum(repeated, True)
    shape = tuple(1 if i in repeated else n for i, n in enumerate(attr.shape))
    if attr.offset == 0 and math.prod(shape) == math.prod(a.shape) and attr.strides == contiguous(attr.shape): return g.row(view, attr=whole(a.shape))
    target = View(shape, attr.strides, attr.offset)
    back = transposed(target, a.shape)
    if back is not None: return g.row(view, attr=back)
    return g.filled(a.shape, 0, g.dtype).row(addput if overlaps(target) else put, g, attr=target)


def transposed(v: View, shape) -> View | None:
    """The inverse of a view that only permutes and reverses axes of a contiguous value of `shape`, as a view; None if it does more."""
    if v.offset != sum(-s * (n - 1) for n, s in zip(v.shape, v.strides) if s < 0) or math.prod(v.shape) != math.prod(shape) or 0 in shape: return None
    order = sorted((i for i in range(len(v.shape)) if v.shape[i] > 1), key=lambda i: -abs(v.strides[i]))
    step = 1
    for i in reversed(order):
        if abs(v.strides[i]) != step: return None
        step *= v.shape[i]
    mine = contiguous(v.shape)                 # position of g's elements, axis by axis, in order of the base's memory
    dims = [(v.shape[i], mine[i] if v.strides[i] > 0 else -mine[i]) for i in order]
    out, k, left = [], 0, (dims[0][0] if dims else 1)
    for n in shape:                            # split the ordered axes into the base's; an axis of the base may join several of g's only if they are contiguous there
        if n == 1: out.append(1); continue
        if k >= len(dims): return None
        m, s = dims[k]
        if left == n: out.append(s); k += 1; left = dims[k][0] if k < len(dims) else 1
        elif left % n == 0 and left > n: left //= n; out.append(s * left)
        else: return None
    return View(tuple(shape), tuple(out), sum(-s * (m - 1) for m, s in dims if s < 0))


view = Movement("view", lambda attr, a: (a.dtype, attr.shape), grads=(_view_grad,),
                oracle=lambda attr, a: as_numpy_strided(np.ascontiguousarray(a), attr).copy())
"""attr = a View of the operand's contiguous logical value: slice, permute, expand, diagonal, unfold, reshape are all this row."""


def _put_oracle(attr, base, v):
    out = np.array(base, order="C")
    if v.size: as_numpy_strided(out, attr)[...] = v
    return out


put = Movement("put", same, saves="p", oracle=_put_oracle,
               grads=(lambda g, o, a, v, attr: g.row(put, g.filled(v.shape, 0, g.dtype), attr=attr),
                      lambda g, o, a, v, attr: g.row(view, attr=attr)))
"""base with `v` written through attr, a View of base: PyTorch's CopySlices. It always counts as saving something ('p')."""


def _addput_oracle(attr, base, v):
    out = np.array(base, order="C")
    where = as_numpy_strided(np.arange(out.size), attr)
    np.add.at(out.reshape(-1), where.reshape(-1), np.broadcast_to(v, attr.shape).reshape(-1))
    return out


addput = Movement("addput", same, oracle=_addput_oracle,
                  grads=(lambda g, o, a, v, attr: g, lambda g, o, a, v, attr: g.row(view, attr=attr)))
"""base with `v` added through a View that may reach an element twice (the gradient of unfold)."""


def _bitcast_oracle(attr, a):
    source, to = attr
    if source is dt.bfloat16: a = (np.ascontiguousarray(a, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    flat = np.ascontiguousarray(a, source.code).reshape(-1).view(np.uint8)
    out = flat[:flat.size // to.size * to.size].view(to.code)
    return (out.astype(np.uint32) << 16).view(np.float32) if to is dt.bfloat16 else out


bitcast = Movement("bitcast", lambda attr, a: (attr[1], (math.prod(a.shape) * a.dtype.size // attr[1].size,)), oracle=_bitcast_oracle,
                   grads=(lambda g, o, a, attr: g.row(bitcast, attr=attr[::-1]).row(view, attr=whole(a.shape)) if attr[0].real is attr[1].real else None,))
"""attr = (dtype, new dtype): the bytes of a contiguous value as one row of another type; bytes at the end that fill no element are left out.

Only between complex numbers and their parts is it a map that has a derivative."""


def _cat_infer(attr, *xs):
    n = sum(x.shape[attr] for x in xs)
    return xs[0].dtype, xs[0].shape[:attr] + (n,) + xs[0].shape[attr + 1:]


class _Cat(Movement):
    """One rule per operand needs to know where the operand starts, so the rules are made for a given count."""

    def rules(self, n):
        return tuple(_cat_rule(i) for i in range(n))


def _cat_rule(i):
    def rule(g, o, *xs, attr):
        start = sum(x.shape[attr] for x in xs[:i])
        return g.narrow(attr, start, xs[i].shape[attr])
    return rule


def _cat_layout(attr, shape, *xs): return follows(attr, shape, xs[0]) if all([follows(attr, shape, x) for x in xs]) else None


cat = _Cat("cat", _cat_infer, grads=(_cat_rule(0),), oracle=lambda attr, *xs: np.concatenate(xs, axis=attr), layout=_cat_layout)
"""attr = axis. Operands have one dtype and shapes that agree elsewhere."""

# ---------------------------------------------------------------- history
copy = Movement("copy", same, grads=(lambda g, o, a, attr: g,), oracle=lambda attr, a: a, history="copy")
"""The same value as a new vertex of the graph: the result of copy_, clone, alias-making operations. attr: how it lies ("dense" or strides), None for as before."""

transfer = Movement("transfer", same, grads=(lambda g, o, a, attr: g,), oracle=lambda attr, a: a,
                    layout=lambda attr, shape, a: None if a.memory is None else exactly(shape, dense_layout(shape, a.memory)))
"""attr = the device that the value goes to ("cpu", "cuda:0", "meta"). Gradients are taken to their operands' devices by whoever walks (graph/derive.py)."""

detach = Movement("detach", same, oracle=lambda attr, a: a, history="cut")
gradleaf = Movement("gradleaf", same, oracle=lambda attr, a: a, history="leaf")
"""A leaf: gradients stop here and are collected in its node's Leaf."""

straight = Movement("straight", last, grads=(lambda g, o, h, v, attr: g, None), oracle=lambda attr, h, v: v, history="keep")
"""A write that autograd must not see: operand 1's value with operand 0's history."""

overwrite = Movement("overwrite", last, oracle=lambda attr, old, v: v, history="copy",
                     grads=(lambda g, o, a, v, attr: g.filled(a.shape, 0, g.dtype), lambda g, o, a, v, attr: g))
"""A tracked full write (copy_, zero_, fill_): the value is new, the old history gets a zero gradient."""
