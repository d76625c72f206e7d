"""Is this graph legal? Every rule that the planner relies on, checked one by one (FORNO_CHECK=1). Comes in: a graph. Goes out: nothing, or GraphError."""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..core.graph import Graph, Scalar, Value
from ..core.shape import dense, reach, whole
from ..core.state import state


class GraphError(AssertionError):
    """A graph that breaks a rule; a fault of the tensor core, never of the program."""


def need(rule, v, text: str):
    if not rule: raise GraphError(f"{v!r}: {text}")


def verify(graph: Graph):
    types: dict[int, type] = {}
    for i, v in enumerate(graph.inputs):
        need(v.op is None and v.number == i and not v.ins, v, f"is not input {i}")
        need(v.view is None or v.view.shape == v.shape, v, f"lies at {v.view}")
    known = {id(v) for v in graph.inputs}
    for v in values(graph):
        if v.op is None:
            need(id(v) in known, v, "an input that the graph doesn't list")
            continue
        for x in v.ins:
            if x.__class__ is not Scalar: continue
            need(types.setdefault(x.index, x.type) is x.type, v, f"number {x.index} is {types[x.index].__name__} and {x.type.__name__}")
        need(v.strides is None or dense(v.shape, v.strides), v, f"strides {v.strides} leave holes or overlap")
        inferred(v)
        geometry(v)
    for k in graph.donated: need(0 <= k < len(graph.inputs) and graph.inputs[k].view is None, k, "is donated, but not an input with memory of its own")
    for j, k in graph.prefer.items():
        need(k in graph.donated and graph.outputs[j].shape == graph.inputs[k].shape, graph.outputs[j], f"can't take over the memory of input {k}")


def values(graph: Graph) -> list[Value]:
    """Everything the outputs need, operands first."""
    out, done, todo = [], set(), list(graph.outputs)
    while todo:
        v = todo[-1]
        waiting = [x for x in v.ins if x.__class__ is Value and id(x) not in done]
        if id(v) in done or not waiting:
            todo.pop()
            if id(v) not in done: out.append(v)
            done.add(id(v))
        else: todo.extend(waiting)
    return out


def inferred(v: Value):
    """dtype and shape are what the row's rule says, under the default dtype of the line (it may have changed since)."""
    operands = [x.type if x.__class__ is Scalar else x for x in v.ins]
    was, found = state.default_dtype, []
    try:
        for default in (was, dt.float32, dt.float64, dt.bfloat16, dt.float16):
            state.default_dtype = default
            dtype, shape = v.op.infer(v.attr, *operands)
            if dtype is v.dtype and tuple(shape) == v.shape: return
            found.append((dtype, tuple(shape)))
    finally: state.default_dtype = was
    raise GraphError(f"{v!r} of {operands}: the row's rule says {found[0]}")


def geometry(v: Value):
    """Views and writes through views stay inside their operand."""
    if v.op.name not in ("view", "put", "addput"): return
    lo, hi = reach(v.attr)
    size = math.prod(v.ins[0].shape)
    need(hi < lo or 0 <= lo and hi < size, v, f"reaches elements {lo}..{hi} of {size}")
    if v.op.name != "view": need(v.ins[1].shape == v.attr.shape, v, f"writes {v.ins[1].shape} through {v.attr.shape}")


def fits(graph: Graph, buffers):
    """The buffers of this run are as large as the graph's inputs say."""
    for v, b in zip(graph.inputs, buffers):
        lo, hi = reach(v.view or whole(v.shape))
        whole_buffer = getattr(b, "buffer", b)
        start = b.address - whole_buffer.address                                          # a slice begins at its first element
        first, end = start + lo * v.dtype.size, start + (hi + 1) * v.dtype.size
        need(hi < lo or first >= 0 and end <= whole_buffer.nbytes, v, f"reaches bytes {first}..{end} of {whole_buffer.nbytes}")
