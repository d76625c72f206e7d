"""A test tool: runs a graph with each row's NumPy oracle instead of machine code (FORNO_EXECUTOR=oracle).

It tells whether a wrong number comes from the tensor semantics above or from the kernels below.
"""
from __future__ import annotations

import ctypes

import numpy as np

from ..core import dtype as dt
from ..core.graph import Scalar, Value
from ..core.shape import as_numpy_strided, contiguous
from ..cpu import memory
from ..dnn import oracle as rows
from ..graph.line import Slice
from ..plan.expand import expand, topological


def prepare(graph, lines):
    made = expand(list(graph.outputs))         # composite rows have no oracle of their own: the rows they are made of do

    def execute(buffers, scalars):
        values = {}
        for v, b in zip(graph.inputs, buffers): values[id(v)] = load(v, b)
        return [store(v, evaluate(m, values, scalars)) for v, m in zip(graph.outputs, made)]
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
    return rows.unbits(a) if v.dtype is dt.bfloat16 else a


def store(v, a):
    a = np.broadcast_to(a, v.shape)
    a = rows.bits(a) if v.dtype is dt.bfloat16 else a.astype(v.dtype.code, copy=False)
    out = memory.empty(a.size * v.dtype.size)
    if a.size:
        flat = array(out, v.dtype, a.size)
        np.lib.stride_tricks.as_strided(flat, v.shape, [s * v.dtype.size for s in v.strides or contiguous(v.shape)])[...] = a
    return out


def evaluate(root, values, scalars):
    """The value of `root`; `values` holds what is known, by identity."""
    for v in topological([root]):
        if id(v) in values: continue
        ins = [(values[id(x)], x.dtype) if x.__class__ is Value else x.type(scalars[x.index]) if x.__class__ is Scalar else x.value for x in v.ins]
        if v.op.name == "full": values[id(v)] = rows.convert(np.full(v.shape, ins[0] if ins else v.attr[2]), v.dtype)
        elif v.op.name == "iota": values[id(v)] = rows.convert(np.asarray(v.op.oracle(v.attr, *ins)), v.dtype)
        else: values[id(v)] = rows.evaluate(v.op, v.attr, ins)[0]
    return values[id(root)]
