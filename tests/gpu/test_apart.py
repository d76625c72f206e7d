"""Windows of several devices are cut into parts that fit together: random graphs, each of whose parts is carried out by itself, in terms instead of numbers."""
import random

import pytest

from forno.core import dtype as dt
from forno.core.graph import Graph, Scalar, Value
from forno.core.op import TABLE
from forno.core.shape import View
from forno.dnn import movement as mv
from forno.framework import custom
from forno.framework.apart import Relay, parts_of, scattered
from forno.plan.expand import topological

DEVICES = ("cpu", "cuda:0", "cuda:1")
FIRST = View((2, 2), (2, 1), 0)                # of (2, 2): all of it; as an input's view, a part of memory that is another's, too


def drawn(r: random.Random) -> Graph:
    """Any graph that lines can make: constants go along to any device, numbers on the CPU meet tensors of GPUs, and what is history alone may lie anywhere."""
    inputs = [Value(None, (), None, dt.float32, r.choice([(), (2, 2)]), None, None, k, r.choice(DEVICES)) for k in range(r.randint(0, 4))]
    for v in inputs:
        if v.shape and r.random() < 0.4: v.view = FIRST
    values, free = list(inputs), set()
    for _ in range(r.randint(10, 40)):
        x, y = (r.choice(values[-6:] if values else [None]) for _ in range(2))
        kind = r.choice(["full", "add", "add", "number", "view", "copy", "dense", "detach", "straight", "overwrite", "function", "transfer", "transfer", "transfer", "put"])
        if x is None or kind == "full":
            v = Value(mv.full, (Scalar(0, float),) if r.random() < 0.3 else (), ((2, 2), dt.float32, r.random()), dt.float32, (2, 2))
            free.add(id(v))
        elif kind == "transfer": v = Value(mv.transfer, (x,), None, x.dtype, x.shape, device=r.choice(DEVICES))
        elif kind in ("view", "copy", "dense", "detach", "number"):
            op, attr = dict(view=(mv.view, FIRST), copy=(mv.copy, None), dense=(mv.copy, "dense"), detach=(mv.detach, None), number=(TABLE["mul"], None))[kind]
            v = Value(op, (x, Scalar(0, float)) if kind == "number" else (x,), attr, x.dtype, x.shape, device=x.device)
            if id(x) in free: free.add(id(v))
        else:
            fixed = [a for a in (x, y) if id(a) not in free]
            device = next((a.device for a in fixed if a.shape or a.device != "cpu"), "cpu") if kind != "function" else y.device
            if kind != "function" and any([a.device != device and (a.shape or a.device != "cpu") for a in fixed]): continue
            op, attr = dict(add=(TABLE["add"], None), put=(mv.put, FIRST), straight=(mv.straight, None), overwrite=(mv.overwrite, None), function=(custom.FUNCTION, ("F", -1)))[kind]
            v = Value(op, (x, y), attr, dt.float32, y.shape if op.history else max(x.shape, y.shape), device=device)
            if not fixed: free.add(id(v))
        values.append(v)
    made = [v for v in values if v.op is not None] or values
    outs = list(dict.fromkeys(r.choice(made if r.random() < 0.9 else values) for _ in range(r.randint(1, 5))))
    inputs_used = [v for v in topological(outs) if v.op is None]
    for k, v in enumerate(inputs_used): v.number = k
    donated = frozenset(k for k, v in enumerate(inputs_used) if v.view is None and v not in outs and r.random() < 0.6)
    return Graph(tuple(inputs_used), tuple(outs), donated, {})


def term(v: Value, known: dict):
    """What a value is, written out."""
    if v in known: return known[v]
    if v.op is None: raise AssertionError(f"{v}, which nobody gave")
    if v.op is mv.transfer or v.op.history is not None: return term(v.ins[-1], known)
    return str(v.op), v.attr, tuple([x if x.__class__ is Scalar else term(x, known) for x in v.ins])


class Memory:
    """A buffer that knows what it holds."""

    def __init__(self, device, holds): self.device, self.holds, self.lost = device, holds, False


def carried_out(part):
    """A part by itself: what it is given lies on its device and is still there; it may write over what it may have."""
    def run(buffers, scalars):
        for b, v in zip(buffers, part.inputs): assert b.device == part.device and not b.lost, (b.device, part.device, b.lost)
        known = {v: b.holds for v, b in zip(part.graph.inputs, buffers)}
        out = [Memory(part.device, term(v, known)) for v in part.graph.outputs]
        for k in part.graph.donated: buffers[k].lost = True
        return out
    return run


def carry(buffer, v, device):
    assert not scattered(v)                    # it travels as it lies
    return Memory(device, buffer.holds)


def check(seed):
    graph = drawn(random.Random(seed))
    want = [term(v, {x: ("input", x.number) for x in graph.inputs}) for v in graph.outputs]
    parts = parts_of(graph)
    for p in parts: p.execute = carried_out(p)
    got = Relay(graph, parts, carry)([Memory(v.device, ("input", v.number)) for v in graph.inputs], [])
    assert [b.holds for b in got] == want and [b.device for b in got] == [v.device for v in graph.outputs], seed
    return parts


@pytest.mark.parametrize("first", range(0, 2000, 500))
def test_parts_fit_together(first): assert sum([len(check(seed)) > 2 for seed in range(first, first + 500)]) > 50


@pytest.mark.slow
@pytest.mark.parametrize("first", range(10000, 110000, 10000))
def test_many(first):
    for seed in range(first, first + 10000): check(seed)


def test_history_alone():
    """What is only the history of a value isn't carried to its device."""
    x, y = (Value(None, (), None, dt.float32, (2, 2), number=k, device=f"cuda:{k}") for k in range(2))
    there = Value(mv.transfer, (x,), "cuda:1", dt.float32, (2, 2), device="cuda:1")
    old = Value(TABLE["mul"], (there, there), None, dt.float32, (2, 2), device="cuda:1")
    new = Value(mv.overwrite, (old, y), None, dt.float32, (2, 2), device="cuda:1")
    part, = parts_of(Graph((x, y), (new,), frozenset(), {}))
    assert part.inputs == [y] and not part.carried
