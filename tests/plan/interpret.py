"""A slow interpreter of plans in NumPy, and the direct evaluation of graphs to compare it with.

It keeps each buffer as bytes, so operands that share memory by mistake corrupt each other here as they would in a kernel, and it checks
that a nest writes what it also reads only at equal indices and only in its last pass.
"""
from __future__ import annotations

import importlib
import itertools
import math
import pkgutil

import numpy as np

from forno import dnn
from forno import plan as planner
from forno.core import dtype as dt
from forno.core import kernels as k
from forno.core.graph import Graph, Scalar, Value
from forno.core.plan import Place
from forno.core.shape import View, as_numpy_strided, contiguous, reach, whole
from forno.dnn import contract, oracle
from forno.plan.expand import topological
from forno.plan.values import Expr
from forno.plan.verify import verify

for _module in pkgutil.iter_modules(dnn.__path__): importlib.import_module(f"forno.dnn.{_module.name}")       # the op table


# ---- graphs by hand
def source(number, shape, dtype=dt.float32, view=None) -> Expr:
    return Expr(Value(None, (), None, dtype, tuple(shape), None, view, number))


def graph(inputs, outputs, donated=(), prefer=None) -> Graph:
    return Graph(tuple(x.value for x in inputs), tuple(x.value for x in outputs), frozenset(donated), prefer or {})


# ---- the answer
def direct(g: Graph, arrays, numbers=()) -> list[np.ndarray]:
    """Each row's oracle, value by value. `arrays`: the inputs' logical values."""
    got: dict[int, np.ndarray] = {}
    roots = planner.expand(list(g.outputs))
    for v in topological(roots):
        if v.op is None: got[id(v)] = arrays[v.number]; continue
        ins = [(got[id(x)], x.dtype) if x.__class__ is Value else numbers[x.index] if x.__class__ is Scalar else x.value for x in v.ins]
        if v.op.name == "full": got[id(v)] = oracle.convert(np.full(v.shape, ins[0] if ins else v.attr[2]), v.dtype)
        elif v.op.name == "iota": got[id(v)] = oracle.convert(np.asarray(v.op.oracle(v.attr, *ins)), v.dtype)
        else: got[id(v)] = oracle.evaluate(v.op, v.attr, ins)[0]
    return [got[id(v)] for v in roots]


# ---- memory
def load_bits(flat: np.ndarray, dtype) -> np.ndarray:
    """Bytes as an array of what computing uses: bfloat16 as float32."""
    x = flat.view(dtype.code)
    return oracle.unbits(x) if dtype is dt.bfloat16 else x


def store_bits(x: np.ndarray, dtype) -> np.ndarray: return oracle.bits(x) if dtype is dt.bfloat16 else x.astype(dtype.code)


def buffer_of(array: np.ndarray, v: Value) -> np.ndarray:
    """An input's buffer, bytes, with the logical value laid out by its view."""
    view = v.view or whole(v.shape)
    size = max(reach(view)[1] + 1, 0)
    flat = np.zeros(size, v.dtype.code)
    if array.size: as_numpy_strided(flat, view)[...] = store_bits(array, v.dtype)
    return flat.view(np.uint8)


def strided(flat: np.ndarray, shape, strides, offset, dtype) -> np.ndarray:
    """A window on bytes, as raw storage elements."""
    return as_numpy_strided(flat.view(dtype.code), View(tuple(shape), tuple(strides), offset))


class Machine:
    """Runs one plan."""

    def __init__(self, g: Graph, plan, arrays, numbers=()):
        self.g, self.plan, self.numbers = g, plan, numbers
        self.ins = [buffer_of(a, v) for a, v in zip(arrays, g.inputs)]
        self.before = [b.copy() for b in self.ins]
        self.arena = np.full(plan.arena, 0xA5, np.uint8)
        self.outs = [np.full(o.nbytes, 0x5A, np.uint8) if o.kind == "fresh" else None for o in plan.outs]
        for step in plan.steps: self.step(step)

    def bytes(self, place, size=None):
        if place.kind == "in": return self.ins[place.index]
        if place.kind == "out": return self.outs[place.index]
        return self.arena[place.index:] if size is None else self.arena[place.index:place.index + size]

    def out(self, i: int) -> np.ndarray:
        o, v = self.plan.outs[i], self.g.outputs[i]
        if o.kind == "alias":
            flat, view = self.bytes(o.source), o.view
            at = (flat, view.shape, view.strides, view.offset)
        else:
            flat = self.outs[i] if o.kind == "fresh" else self.bytes(o.source)
            at = (flat, *(o.view or (v.shape, v.strides or contiguous(v.shape), 0)))
        raw = strided(*at, v.dtype) if math.prod(v.shape) else np.zeros(v.shape, v.dtype.code)
        return oracle.unbits(raw) if v.dtype is dt.bfloat16 else raw.copy()

    def step(self, step):
        kernel = step.kernel
        assert len(kernel.operands) == len(step.places)
        {k.Nest: self.nest, k.Gemm: self.gemm, k.Conv: self.conv, k.Native: self.native, k.Host: self.host}[type(kernel)](kernel, step.places)

    def raw(self, places, i, shape, strides, offset, dtype):
        """An operand's storage elements (a window, not a copy)."""
        place = places[i]
        flat = self.bytes(place)
        usable = flat[:flat.size // dtype.size * dtype.size]
        return strided(usable, shape, strides, offset, dtype)

    # ---- loop nests
    def nest(self, n: k.Nest, places):
        shape, na = (*n.axes, *n.window), len(n.axes)
        self.check(n, places)
        vals = []
        for e in n.body:
            c = type(e)
            if c is k.Load:
                assert n.operands[e.operand].mode in ("r", "rw") and e.dtype is n.operands[e.operand].dtype and len(e.strides) == len(shape)
                x = self.raw(places, e.operand, shape, e.strides, e.offset, e.dtype).copy()
                x = oracle.unbits(x) if e.dtype is dt.bfloat16 else x
                vals.append((x if any(e.strides[na:]) else x[(..., *(slice(0, 1),) * len(n.window))], e.dtype))
            elif c is k.Index:
                grid = np.full(shape, e.offset, np.int64)
                for d, coeff in enumerate(e.coeffs): grid = grid + coeff * np.arange(shape[d]).reshape([-1 if i == d else 1 for i in range(len(shape))])
                vals.append((grid if any(e.coeffs[na:]) else grid[(..., *(slice(0, 1),) * len(n.window))], dt.int64))
            elif c is k.Const:
                assert e.dtype.opmath is e.dtype
                vals.append((np.full((1,) * len(shape), e.value, e.dtype.code), e.dtype))
            elif c is k.Number:
                vals.append((oracle.convert(np.full((1,) * len(shape), self.numbers[places[e.operand].index]), e.dtype), e.dtype))
            elif c is k.Cast: vals.append((oracle.convert(vals[e.arg][0].astype(oracle.code(vals[e.arg][1].opmath)), e.dtype), e.dtype))
            elif c is k.Apply:
                args = [vals[a][0] for a in e.args]
                assert all(vals[a][1].opmath is vals[a][1] for a in e.args), "halves are computed in float32"
                out = np.asarray(e.op.oracle(None, *args))
                vals.append((out.astype(e.dtype.code), e.dtype))
            elif c is k.Reduce: vals.append((self.reduce(e, vals[e.arg][0], vals[e.arg][1], shape, na), e.dtype))
            elif c is k.Store:
                assert n.operands[e.operand].mode in ("w", "rw") and vals[e.arg][1] is e.dtype is n.operands[e.operand].dtype
                x = vals[e.arg][0]
                if not any(e.strides[na:]) and n.window:
                    assert x.shape[na:] == (1,) * len(n.window) or math.prod(n.window) == 1, "an inner value stored once per row"
                    target = self.raw(places, e.operand, n.axes, e.strides[:na], e.offset, e.dtype)
                    target[...] = store_bits(np.broadcast_to(x, (*n.axes, *(1,) * len(n.window))).reshape(n.axes), e.dtype)
                else: self.raw(places, e.operand, shape, e.strides, e.offset, e.dtype)[...] = store_bits(np.broadcast_to(x, shape), e.dtype)
                vals.append(None)

    def reduce(self, e, x, dtype, shape, na):
        x = np.broadcast_to(x, shape).reshape(*shape[:na], -1)
        if e.combine in ("argmax", "argmin"):
            out = getattr(np, e.combine)(x, -1)
        else:
            f = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum, "any": np.logical_or, "all": np.logical_and}[e.combine]
            wide = {"f4": "f8", "c8": "c16"}.get(x.dtype.str[1:]) if e.combine in ("sum", "prod") else None
            if wide: x = x.astype(wide)
            out = f.reduce(x, -1)
        assert e.dtype.opmath is e.dtype
        return oracle.convert(out, e.dtype).reshape(*shape[:na], *(1,) * (len(shape) - na))

    def check(self, n: k.Nest, places):
        """Nothing is written where something else is still to be read."""
        levels, last, na = [], 0, len(n.axes)
        for e in n.body:
            c = type(e)
            below = e.args if c is k.Apply else (e.arg,) if c in (k.Cast, k.Reduce, k.Store) else ()
            level = max([levels[a] for a in below], default=0)
            if c in (k.Reduce, k.Store): last = max(last, level)
            levels.append(level + (c is k.Reduce))
        spans = []
        for i, (o, p) in enumerate(zip(n.operands, places)):
            mine = [e for e in n.body if type(e) in (k.Load, k.Store) and e.operand == i]
            loads, stores = [e for e in mine if type(e) is k.Load], [e for e in mine if type(e) is k.Store]
            assert bool(loads) == ("r" in o.mode) and bool(stores) == ("w" in o.mode) or o.mode == "n", "modes tell what the body does"
            for s in stores:
                for l in loads:
                    assert (l.strides, l.offset) == (s.strides, s.offset), "in place at different indices"
                    if any(s.strides[na:]): assert levels[s.arg] >= last, "in place before the last pass"
            if o.mode != "n":
                lengths = (*n.axes, *n.window)
                size = max(e.offset + sum(abs(s) * (d - 1) for s, d in zip(e.strides, lengths)) for e in mine) + 1
                spans.append((p.kind, p.index, size * o.dtype.size, "w" in o.mode))
        for a, b in itertools.combinations(spans, 2):
            if a[0] == b[0] and (a[3] or b[3]):
                if a[0] == "arena": assert a[1] + a[2] <= b[1] or b[1] + b[2] <= a[1], "operands overlap"
                else: assert a[1] != b[1], "one buffer as two operands"

    # ---- the rest
    def matrix(self, m: k.Matrix, batch, rows, cols, places, i):
        return self.raw(places, i, (*batch, rows, cols), (*m.batch, m.rows, m.cols), m.offset, m.dtype)

    def gemm(self, g: k.Gemm, places):
        a, b = self.matrix(g.a, g.batch, g.m, g.k, places, 0), self.matrix(g.b, g.batch, g.k, g.n, places, 1)
        read = oracle.unbits if g.a.dtype is dt.bfloat16 else lambda x: x
        out = np.matmul(read(a).astype(oracle.code(g.a.dtype.opmath)), read(b).astype(oracle.code(g.a.dtype.opmath)))
        if g.epilogue is not None: return self.epilogue(g, out, places)
        self.matrix(g.c, g.batch, g.m, g.n, places, 2)[...] = store_bits(out, g.c.dtype)

    def epilogue(self, g: k.Gemm | k.Conv, product, places):
        """The product as a buffer of its own, then the nest."""
        nest, gemm = g.epilogue, isinstance(g, k.Gemm)
        lengths = (*g.batch, g.m, g.n) if gemm else (g.n, g.k, math.prod(g.out))
        assert nest.axes == lengths and not nest.window and g.operands[2:] == nest.operands[1:]
        c = ((*g.c.batch, g.c.rows, g.c.cols), g.c.offset) if gemm else (contiguous(lengths), 0)
        assert any(type(e) is k.Store and e.operand == 1 and (e.strides, e.offset) == c for e in nest.body)
        written = {p for p, o in zip(places, g.operands) if "w" in o.mode}
        assert len(set(places[2:]) & set(places[:2])) == 0 or not written & set(places[:2])
        self.ins.append(store_bits(np.ascontiguousarray(product), g.a.dtype if gemm else g.dtype).reshape(-1).view(np.uint8))
        self.nest(nest, (Place("in", len(self.ins) - 1), *places[2:]))
        self.ins.pop()

    def conv(self, c: k.Conv, places):
        shapes = {"x": (c.n, c.c, *c.size), "w": (c.k, c.c // c.groups, *c.taps), "y": (c.n, c.k, *c.out)}
        names = {"forward": "xwy", "input": "ywx", "weight": "yxw"}[c.which]
        arrays = [self.raw(places, i, shapes[s], contiguous(shapes[s]), 0, c.dtype) for i, s in enumerate(names)]
        spec = contract.ConvSpec(c.stride, c.padding, c.dilation, c.groups, c.size, c.taps)
        row = {"forward": contract.conv, "input": contract.conv_input, "weight": contract.conv_weight}[c.which]
        bias = [self.raw(places, 3, (c.k,), (1,), 0, c.dtype)] if c.bias else []
        out = row.oracle(spec, *arrays[:2], *bias)
        if c.epilogue is not None: return self.epilogue(c, out, places)
        arrays[2][...] = out

    def native(self, n: k.Native, places):
        assert n.name == "addput", n.name
        ndim, rest = n.words[0], n.words[1:]
        shape, strides, (offset, numel) = rest[:ndim], rest[ndim:2 * ndim], rest[2 * ndim:]
        x = self.raw(places, 0, shape, contiguous(shape), 0, n.operands[0].dtype)
        out = self.raw(places, 1, (numel,), (1,), 0, n.operands[1].dtype)
        for i in itertools.product(*map(range, shape)): out[offset + sum(a * b for a, b in zip(i, strides))] += x[i]

    def host(self, h: k.Host, places):
        raise NotImplementedError


def run(g: Graph, arrays, numbers=(), accepts=None):
    """Plan, interpret; returns the plan and the outputs. Inputs that weren't donated must be as they were."""
    plan = planner.make(g, accepts)
    verify(g, plan)
    machine = Machine(g, plan, arrays, numbers)
    taken = {o.source.index for o in plan.outs if o.kind == "donated"}
    for i, (a, b) in enumerate(zip(machine.ins, machine.before)):
        if i not in taken: assert (a == b).all(), f"input {i} was overwritten"
    return plan, [machine.out(i) for i in range(len(g.outputs))]


def check(g: Graph, arrays, numbers=(), tolerance=1e-5, accepts=None):
    """The planned result is the direct result. Returns the plan."""
    plan, got = run(g, arrays, numbers, accepts)
    for i, (x, y) in enumerate(zip(got, direct(g, arrays, numbers))):
        assert x.shape == y.shape and x.dtype == y.dtype, (i, x.shape, y.shape, x.dtype, y.dtype)
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance, err_msg=f"output {i}\n{plan}")
    return plan
