"""A test tool: runs a graph with each row's NumPy oracle instead of machine code (FORNO_EXECUTOR=oracle).

It tells whether a wrong number comes from the tensor semantics above or from the kernels below.
"""
from __future__ import annotations

import ctypes

import numpy as np

from ..core import dtype as dt
from ..core.graph import Scalar
from ..core.shape import as_numpy_strided, contiguous
from ..cpu import memory
from ..dnn.elementwise import operand_dtypes
from ..graph.line import Slice


def prepare(graph, lines):
    def execute(buffers, scalars):
        values = {}
        for v, b in zip(graph.inputs, buffers): values[id(v)] = load(v, b)
        return [store(v, evaluate(v, values, scalars)) for v in graph.outputs]
    return None, execute


def array(buffer, dtype, count): return np.frombuffer((ctypes.c_char * (count * dtype.size)).from_address(buffer.address), dtype.code) if count else np.empty(0, dtype.code)


def load(v, buf):
    if buf.__class__ is Slice:
        flat = array(buf.buffer, v.dtype, buf.buffer.nbytes // v.dtype.size)
        a = as_numpy_strided(flat, buf.view).copy()
    else:
        flat = array(buf, v.dtype, int(np.prod(v.shape)))
        strides = v.strides or contiguous(v.shape)
        a = np.lib.stride_tricks.as_strided(flat, v.shape, [s * v.dtype.size for s in strides]).copy()
    return widen(a, v.dtype)


def widen(a, dtype):
    """bfloat16 as float32 holding the same numbers."""
    return (a.astype(np.uint32) << 16).view(np.float32).reshape(a.shape) if dtype is dt.bfloat16 else a


def narrow(a, dtype):
    if dtype is not dt.bfloat16: return np.asarray(a).astype(dtype.code, copy=False)
    bits = np.ascontiguousarray(a, np.float32).view(np.uint32).reshape(np.shape(a))
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(a), np.uint16(0x7FC0), rounded)


def store(v, a):
    a = narrow(np.broadcast_to(a, v.shape), v.dtype)
    out = memory.empty(a.size * v.dtype.size)
    if a.size:
        flat = array(out, v.dtype, a.size)
        np.lib.stride_tricks.as_strided(flat, v.shape, [s * v.dtype.size for s in v.strides or contiguous(v.shape)])[...] = a
    return out


def evaluate(root, values, scalars):
    todo = [root]
    while todo:
        v = todo[-1]
        if id(v) in values: todo.pop(); continue
        missing = [x for x in v.ins if not isinstance(x, Scalar) and id(x) not in values]
        if missing: todo.extend(missing); continue
        todo.pop()
        args = [x.type(scalars[x.index]) if isinstance(x, Scalar) else values[id(x)] for x in v.ins]
        if v.op.kind == "elementwise" and v.op.name != "cast":
            types = operand_dtypes(v.op, [x.type if isinstance(x, Scalar) else x for x in v.ins])
            args = [np.asarray(x).astype(t.opmath.code) for t, x in zip(types, args)]
        with np.errstate(all="ignore"): r = v.op.oracle(v.attr, *args)
        r = np.asarray(r)
        values[id(v)] = widen(narrow(r, v.dtype), v.dtype) if v.dtype.size == 2 and v.dtype.category == 2 else r.astype(v.dtype.code, copy=False)
    return values[id(root)]
