"""Rows that run as kernels of their own: matrix products, convolutions, routines, opaque rows. A value in, its kernel noun out."""
from __future__ import annotations

import math

from ..core import kernels as k
from ..core.graph import Scalar, Value
from ..core.shape import contiguous, expand_strides, whole
from ..core.state import state
from .layout import Layout
from .loops import NUMBER_DTYPE
from .values import numel


def kernel_of(v: Value, layout: Layout):
    """(kernel, operands): the noun, and the values (or numbers) its operands are."""
    name = v.op.name
    if name == "matmul": return gemm(v, layout), [*v.ins, v]
    if name in ("conv", "conv_input", "conv_weight"): return conv(v), [*v.ins[:2], v, *v.ins[2:]]
    if name == "addput": return addput(v), [v.ins[1], v]
    if v.op.kind == "routine": return layout.natives[id(v)], list(v.ins) if id(v) in layout.takes else [*v.ins, v]
    return host(v), [*v.ins, v]


def modes(*values: Value, result: Value) -> tuple[k.Operand, ...]:
    return (*(k.Operand(x.dtype, "r") for x in values), k.Operand(result.dtype, "w"))


# ---- matrix product
def gemm(v: Value, layout: Layout, fold: bool = True) -> k.Gemm:
    """`fold`: batch axes that continue each other are one; a batch over which b doesn't move is more rows of a."""
    a, b = v.ins
    at, bt = layout.access(a), layout.access(b)
    (m, n), depth = v.shape[-2:], a.shape[-1]
    batch = v.shape[:-2]
    rows, cols = contiguous((m, n))
    c_strides = contiguous(v.shape)[:-2]
    axes: list[list[int]] = []                                        # [length, a's stride, b's, c's], outermost first
    a_strides, b_strides = [expand_strides(x.shape[:-2], w.strides[:-2], batch) for x, w in ((a, at), (b, bt))]
    for length, *strides in zip(batch, a_strides, b_strides, c_strides):
        if length == 1: continue
        joined = fold and axes and all([outer == inner * length for outer, inner in zip(axes[-1][1:], strides)])
        if joined: axes[-1] = [axes[-1][0] * length, *strides]
        else: axes.append([length, *strides])
    a_rows, a_cols = unit(at.strides[-2:], (m, depth))
    b_rows, b_cols = unit(bt.strides[-2:], (depth, n))
    while fold and axes and axes[-1][2] == 0 and (m == 1 and (a_cols == 1 or depth == 1) or axes[-1][1] == m * a_rows) and axes[-1][3] == m * rows:
        length, a_rows = axes[-1][0], (axes[-1][1] if m == 1 else a_rows)
        m *= length
        axes.pop()
    strides = list(zip(*axes)) or [(), (), (), ()]
    left, right = k.Matrix(a.dtype, strides[1], a_rows, a_cols, at.offset), k.Matrix(b.dtype, strides[2], b_rows, b_cols, bt.offset)
    return k.Gemm(strides[0], m, n, depth, left, right, k.Matrix(v.dtype, strides[3], rows, cols), modes(a, b, result=v), None, "matmul", state.rounding)


def unit(strides, shape) -> tuple[int, int]:
    """Strides of a matrix, where an axis of length 1 has whatever makes the matrix look row-major, or column-major if it is a column of rows."""
    (rows, cols), (m, n) = strides, shape
    if n == 1 and m > 1: return (rows, 1)
    if m == 1: return (n * cols if cols == 1 or n == 1 else 1, 1 if n == 1 else cols)
    return rows, cols


# ---- convolution
def conv(v: Value) -> k.Conv:
    spec, which = v.attr, {"conv": "forward", "conv_input": "input", "conv_weight": "weight"}[v.op.name]
    x, w, y = {"forward": (v.ins[0], v.ins[1], v), "input": (v, v.ins[1], v.ins[0]), "weight": (v.ins[1], v, v.ins[0])}[which]
    missing = 5 - len(x.shape)

    def three(t, default): return (default,) * missing + tuple(t)
    operands = modes(*v.ins[:2], result=v) + tuple([k.Operand(b.dtype, "r") for b in v.ins[2:]])
    sizes = three(x.shape[2:], 1), three(y.shape[2:], 1), three(w.shape[2:], 1)
    return k.Conv(which, x.shape[0], x.shape[1], w.shape[0], spec.groups, *sizes,
                  three(spec.stride, 1), three(spec.padding, 0), three(spec.dilation, 1), v.dtype, len(v.ins) > 2, operands, v.op.name, state.deterministic)


# ---- the rest
def addput(v: Value) -> k.Native:
    """v.ins[1] added into the result's buffer, a copy of v.ins[0], through a view that may reach an element twice."""
    x, w = v.ins[1], v.attr
    operands = k.Operand(x.dtype, "r"), k.Operand(v.dtype, "rw")
    return k.Native("addput", (v.dtype,), (len(w.shape), *w.shape, *w.strides, w.offset, numel(v)), operands, math.prod(w.shape), "addput")


def host(v: Value) -> k.Host:
    """Every operand dense; `views` say their shapes."""
    operands = tuple([k.Operand(NUMBER_DTYPE[x.type], "n") if x.__class__ is Scalar else k.Operand(x.dtype, "r") for x in v.ins])
    views = tuple([whole(()) if x.__class__ is Scalar else whole(x.shape) for x in (*v.ins, v)])
    return k.Host(v.op, v.attr, (*operands, k.Operand(v.dtype, "w")), views, v.op.name)
