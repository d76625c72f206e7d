"""A window on several devices, as parts that have one device each.

Comes in: a graph whose values say where they are. Goes out: parts in order, each a graph of its own, and what is carried from one to another.

A value's stage is the number of times its past changed devices; values of one stage and device are one part. Constants of forno's own have no device:
whoever needs them makes them. What a part reads of another device arrives as one more input, row-major.
"""
from __future__ import annotations

from dataclasses import dataclass, field

from ..core.errors import StepError
from ..core.graph import Graph, Scalar, Value
from ..core.shape import View, contiguous
from ..dnn import movement as mv
from ..graph.line import Slice
from ..plan.expand import topological


class Line:
    """What a runner asks of the line of a value that only goes from part to part. `last`: the window's last line, which knows all the others."""
    __slots__ = ("dtype", "shape", "strides", "op", "prev", "last")

    def __init__(self, v: Value, last): self.dtype, self.shape, self.strides, self.op, self.prev, self.last = v.dtype, v.shape, v.strides, mv.copy, None, last
    slot = property(lambda self: self.last.slot)
    def program(self): return self.last.program()


@dataclass(slots=True)
class Part:
    """One device's values of one stage. `inputs`: the values it is given, as the whole graph has them; `carried`: those of them that come from another device."""
    device: str
    made: dict = field(default_factory=dict)           # id of the whole graph's value -> this part's
    inputs: list = field(default_factory=list)
    outputs: list = field(default_factory=list)
    carried: set = field(default_factory=set)
    graph: Graph | None = None
    execute: object = None


class Parting:
    """Cuts one graph."""

    def __init__(self, graph: Graph):
        values = computed(graph.outputs)
        self.free, self.stage, self.parts, self.home, self.dense = set(), {}, {}, {}, {}
        for v in values:
            ins = [x for x in operands(v) if x.__class__ is Value]
            if v.op is not None and v.op is not mv.transfer and all([id(x) in self.free for x in ins]): self.free.add(id(v))
            else: self.stage[id(v)] = max([self.stage[id(x)] + (x.device != v.device and (x.op is not None or x.view is not None)) for x in ins if id(x) not in self.free], default=0)
        outs = {id(v) for v in graph.outputs}
        for v in values:
            if v.op is not None and (id(v) not in self.free or id(v) in outs): self.place(v)

    def part(self, device: str, stage: int) -> Part:
        return self.parts.setdefault((stage, device), Part(device))

    def place(self, v: Value):
        part = self.part(v.device, self.stage.get(id(v), 0))
        self.home[id(v)] = part
        self.within(part, v)

    def within(self, part: Part, v: Value) -> Value:
        """A value as this part sees it: made here, or given."""
        out = part.made.get(id(v))
        if out is not None: return out
        if v.op is not None and (id(v) in self.free or self.home.get(id(v)) is part):
            if v.op is mv.transfer: out = relaid(self.within(part, v.ins[0]) if id(v.ins[0]) in self.free else self.given(part, v.ins[0]), v)
            else: out = self.again(part, v)
            part.made[id(v)] = out
            return out
        return self.given(part, v)

    def again(self, part: Part, v: Value) -> Value:
        """A value's row on its operands as this part sees them."""
        if passes(v): return self.within(part, v.ins[-1])
        return Value(v.op, tuple([x if x.__class__ is Scalar else self.within(part, x) for x in v.ins]), v.attr, v.dtype, v.shape, v.strides)

    def given(self, part: Part, v: Value) -> Value:
        """What another part, or the caller, gives to this one. Views are made again; another device is sent bytes as they lie."""
        if v.device != part.device and scattered(v): v = self.straightened(v)
        out = part.made.get(id(v))
        if out is None and v.op is not None and scattered(v):
            out = part.made[id(v)] = self.again(part, v)
        if out is None:
            lies = v.view if v.op is None and v.device == part.device else None if v.strides is None else View(v.shape, v.strides, 0)
            out = part.made[id(v)] = Value(None, (), None, v.dtype, v.shape, v.strides, lies, len(part.inputs))
            part.inputs.append(v)
            if v.device != part.device: part.carried.add(len(part.inputs) - 1)
            if v.op is not None: self.wanted(self.home[id(v)], v)
        return out

    def straightened(self, v: Value) -> Value:
        """A value that lies scattered, in memory of its own."""
        if id(v) not in self.dense:
            w = self.dense[id(v)] = Value(mv.copy, (v,), "dense", v.dtype, v.shape, None, device=v.device)
            part = self.home[id(w)] = self.home.get(id(v)) or self.part(v.device, 0)
            self.within(part, w)
        return self.dense[id(v)]

    def wanted(self, part: Part, v: Value):
        if v not in part.outputs: part.outputs.append(v)


def parts_of(graph: Graph) -> list[Part]:
    """The parts in the order in which they run, each with its graph."""
    cut = Parting(graph)
    for v in graph.outputs:
        part = cut.home.get(id(v)) or cut.part(v.device, 0)
        cut.within(part, v)
        cut.wanted(part, v)
    ordered = [p for _, p in sorted(cut.parts.items(), key=lambda x: x[0][0]) if p.outputs]
    uses: dict = {}
    for p in ordered:
        for v in p.inputs: uses[id(v)] = uses.get(id(v), 0) + 1
    for p in ordered:
        numbers = {v.number: k for k, v in enumerate(p.inputs) if v.op is None and v.device == p.device and uses[id(v)] == 1}
        donated = frozenset(numbers[n] for n in graph.donated if n in numbers)
        order = {id(v): j for j, v in enumerate(p.outputs)}
        prefer = {order[id(graph.outputs[j])]: numbers[n] for j, n in graph.prefer.items() if n in numbers and numbers[n] in donated and id(graph.outputs[j]) in order}
        p.graph = Graph(tuple(p.made[id(v)] for v in p.inputs), tuple(p.made[id(v)] for v in p.outputs), donated, prefer)
    return ordered


class Relay:
    """Runs parts one after the other; what one device made for another is carried there by `carry(buffer, value, device)`."""

    def __init__(self, graph: Graph, parts: list[Part], carry):
        self.graph, self.parts, self.carry = graph, parts, carry
        self.inputs = {id(v): k for k, v in enumerate(graph.inputs)}

    def __call__(self, buffers, scalars):
        known = {id(v): buffers[k] for k, v in enumerate(self.graph.inputs)}
        for p in self.parts:
            given = []
            for k, v in enumerate(p.inputs):
                b = known[id(v)]
                given.append(self.carry(b, v, p.device) if k in p.carried or v.op is not None and not lies_dense(b, v) else b)
            try: out = p.execute(given, scalars)
            except StepError as error: raise self.told(error, p, known) from error.__cause__
            for v, b in zip(p.outputs, out): known[id(v)] = b
        return [known[id(v)] for v in self.graph.outputs]

    def told(self, error: StepError, part: Part, known: dict) -> StepError:
        """A part's failure in the numbers of the whole graph."""
        done = {id(part.outputs[j]): b for j, b in error.made.items()} | {id(v): known[id(v)] for v in self.graph.outputs if id(v) in known and v.op is not None}
        made = {j: done[id(v)] for j, v in enumerate(self.graph.outputs) if id(v) in done}
        return StepError(error.cause, made, {self.inputs[id(part.inputs[i])] for i in error.spoiled if id(part.inputs[i]) in self.inputs}, error.row)


def passes(v: Value) -> bool:
    """Is this a row of history alone, which passes its last operand on?"""
    return v.op is not None and v.op.history is not None and v.op is not mv.copy


def operands(v: Value) -> tuple: return v.ins[-1:] if passes(v) else v.ins


def computed(outputs) -> list[Value]:
    """What the outputs are computed from, operands first; what is their history alone isn't."""
    seen, todo = set(), list(outputs)
    while todo:
        v = todo.pop()
        if v.__class__ is not Value or id(v) in seen: continue
        seen.add(id(v))
        todo += operands(v)
    return [v for v in topological(outputs) if id(v) in seen]


def lies_dense(buffer, v: Value) -> bool:
    """Does a value lie in memory as whoever reads it expects? One that shares memory may not."""
    return buffer.__class__ is not Slice or 0 in v.shape or buffer.view.strides == (v.strides or contiguous(v.shape))


def scattered(v: Value) -> bool:
    """May a value share memory with another one, and be a part of it?"""
    while v.op is not None and v.op.history is not None and (v.op is not mv.copy or v.attr is None): v = v.ins[-1]
    return v.view is not None if v.op is None else v.op is mv.view


def relaid(made: Value, v: Value) -> Value:
    """What arrived, laid out as v is to be."""
    return made if made.strides == v.strides else Value(mv.copy, (made,), v.strides or "dense", v.dtype, v.shape, v.strides)


def lines_of(part: Part, graph: Graph, lines) -> list:
    """What the runner of a part is told of its outputs."""
    known, last = {id(v): l for v, l in zip(graph.outputs, lines)}, max(lines, key=lambda l: l.slot)
    return [known.get(id(v)) or Line(v, last) for v in part.outputs]
