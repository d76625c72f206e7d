"""One function on many examples at once: a function runs once on a stand-in example, and its lines are recorded again with one more axis.

While a `Level` is open, the thread records into a window of its own that can't be flushed: its inputs are `stand-ins` (one example's shape, no value) and
whatever the function captures. Leaving it, every line that the results need is recorded in the window around it: as it is when no operand differs per
example, else by the batching rule of its row (dnn.batching). Gradients taken inside are lines like any other, so they batch by themselves; levels nest.
"""
from __future__ import annotations

import math
import warnings
from sys import getrefcount

from ..core.op import Composite
from ..cpu import memory as mem
from ..dnn import batching as rules, movement as mv
from ..graph.line import HISTORY, INPUT, LEAF, LOCAL, PLAIN, Leaf, Node, Poison, Run, advance, given, record, set_grad_mode
from . import data, functions as fn, views
from .bind import apply
from .engine import BASE
from .tensor import Tensor, owned, read, wrap

NO_VALUE = ("vmap: It looks like you're calling .item() on a Tensor, or using it for data-dependent control flow (if, for, print of a value). Its value differs "
            "per example, so there is no single answer; use torch.where, or move this out of the function under vmap.")
LEAKED = "this tensor was made inside of vmap, where it had one value per example; return it from the function instead of keeping it"
RANDOM = ("vmap: called random operation while in randomness error mode. Please either use the 'same' or 'different' randomness flags on vmap or perform the "
          "randomness operation out of vmap")


class Level:
    """A window in which one example stands for `size` of them. Use: enter, `stand_in` for every batched input, run, `results`, leave."""

    def __init__(self, size: int, randomness: str = "error"):
        self.size, self.randomness = size, randomness
        self.outside = {}                      # id of a stand-in -> the node of all examples
        self.done: dict[int, tuple[Node, bool]] = {}       # slot -> (its value in the window around, does it differ per example)
        self.flags: list[bool] = []            # by slot: does it differ per example
        self.groups = {}                       # id of a custom Function's call -> the same in the window around

    def __enter__(self) -> Level:
        self.outer = LOCAL.run
        self.run = Run()
        self.run.autocast = self.outer.autocast
        self.run.open(self.outer.grad, self.outer.inference)
        self.run.level, self.run.hold = self, 1
        LOCAL.run = self.run
        return self

    def __exit__(self, *error):
        if error[0] is None: self.release()
        LOCAL.run = self.outer

    # ---- inside
    def stand_in(self, whole: Tensor, dim: int) -> Tensor:
        """One example of `whole`, whose axis `dim` numbers the examples."""
        with self.around(): n = read(whole if dim == 0 else whole.movedim(dim, 0))
        return wrap(self.stood(n))

    def stood(self, whole: Node) -> Node:
        line = whole.line
        n = given(Poison(RuntimeError(NO_VALUE)), line.dtype, line.shape[1:], None, None, line.grad, None, line.device)
        self.outside[id(n)] = whole
        self.enter(n)
        return n

    def enter(self, n: Node) -> int:
        """graph.line.enter for this window: nothing needs a value here."""
        line = n.line
        kind = PLAIN if not line.grad else LEAF if n.past.__class__ is Leaf else HISTORY
        e = advance(self.run, INPUT, (), (line.dtype, line.shape, kind, line.strides, None, line.memory, line.device))
        s = self.run.inputs[id(n)] = e.slot
        self.run.nodes.append(n)
        return s

    def drawn(self, shape, dtype, fill, each: bool) -> Tensor:
        """Random numbers made inside: none, the same for every example, or others for each."""
        if self.randomness == "error": raise RuntimeError(RANDOM)
        count = self.size if self.randomness == "different" else 1
        size = math.prod(shape)
        buffer = mem.empty(count * size * dtype.size)
        if each:
            for k in range(count): fill(buffer.address + k * size * dtype.size, size)
        else: fill(buffer.address, count * size)
        if count == 1 and self.randomness == "same": return wrap(data.node_of(buffer, dtype, tuple(shape)))
        return wrap(self.stood(data.node_of(buffer, dtype, (count, *shape))))

    def drawn_there(self, shape, make, each: bool) -> Tensor:
        """The same on a GPU, where numbers are lines: `make(shape)` records them in the window around."""
        if self.randomness == "error": raise RuntimeError(RANDOM)
        with self.around():
            if self.randomness == "same": return make(shape)
            whole = fn.cat([views.unsqueeze(make(shape), 0) for _ in range(self.size)]) if each else make((self.size, *shape))
        return wrap(self.stood(read(whole)))

    def settle(self):
        """Somebody inside asks for values. What doesn't differ per example has one."""
        nodes = self.run.nodes
        ready = [s for s in range(len(nodes)) if not self.differs(s) and nodes[s].buf is None]
        with self.around():
            for s in ready: data.realize(wrap(self.value(s)))
        for s in ready: nodes[s].buf = self.done[s][0].buf
        for s, n in enumerate(nodes):
            if n.buf is None: n.buf = Poison(RuntimeError(NO_VALUE))

    # ---- from lines of one example to lines of all
    def around(self) -> _Around: return _Around(self)

    def line(self, s: int): return self.run.nodes[s].line
    def is_input(self, s: int) -> bool: return self.run.inputs.get(id(self.run.nodes[s])) == s

    def differs(self, s: int) -> bool:
        """Does slot s depend on a stand-in? Slots are asked in order once."""
        flags, nodes = self.flags, self.run.nodes
        while len(flags) <= s:
            k = len(flags)
            if self.is_input(k): flags.append(id(nodes[k]) in self.outside)
            else: flags.append(any([flags[c] for c in nodes[k].line.ins if c.__class__ is int]))
        return flags[s]

    def value(self, s: int) -> Node:
        """Slot s in the window around, recorded there with all it needs, first to last."""
        need, todo = set(), [s]
        while todo:
            k = todo.pop()
            if k in need or k in self.done: continue
            need.add(k)
            if not self.is_input(k): todo.extend([c for c in self.line(k).ins if c.__class__ is int])
        for k in sorted(need): self.done[k] = self.recorded(k), self.differs(k)
        return self.done[s][0]

    def recorded(self, s: int) -> Node:
        n = self.run.nodes[s]
        if self.is_input(s): return self.outside.get(id(n), n)
        line = n.line
        operands = list(self.operands(line))
        before = [x for x, _, _ in operands if isinstance(x, Node)]
        if line.op.history == "leaf": return before[-1]        # gradients were taken inside already
        set_grad_mode(line.grad)
        if line.op.name == "function": return self.function(s, n, before)
        if not self.differs(s): return record(line.op, [x for x, _, _ in operands], line.attr)
        parts = tuple(rules.Part(owned(x) if isinstance(x, Node) else x, differs, of) for x, differs, of in operands)
        return read(batched(rules.Job(apply, line.op, line.attr, self.size, parts, line.shape, line.dtype), self.randomness))

    def function(self, s: int, n: Node, before) -> Node:
        """A vertex of a custom Function: one of the same kind, where somebody around may ask for a gradient through it and its value doesn't bring one along."""
        group, number, value = n.past.ctx.group, n.line.attr[1], before[-1]
        if self.differs(s) and not self.differs(n.line.ins[-1]): value = read(owned(value).expand(self.size, *value.line.shape))
        if group.placed or not any([x.line.grad for x in before]): return value
        if number >= 0: return self.groups[id(group)].joint(number, value)
        self.groups[id(group)] = made = group.around(self, [self.placed(x)[0] if x.line.grad else x for x in group.before], value, self.differs(s))
        return made.root

    def placed(self, n: Node) -> tuple[Node, bool]:
        """A value of this window in the one around, which is open: (its node, does it have the examples' axis in front)."""
        s = n.line.slot
        if not (0 <= s < len(self.run.nodes) and self.run.nodes[s] is n): s = self.run.inputs.get(id(n))
        return (n, False) if s is None else (self.value(s), self.differs(s))

    def operands(self, line):
        """For each operand of a line: (its node in the window around, does it differ per example, its line), or (number, False, its type)."""
        scalars, k = self.run.scalars, line.scal
        for c in line.ins:
            if c.__class__ is int: yield *self.done[c], self.line(c)
            elif c.__class__ is type: yield scalars[k], False, c; k += 1
            else: yield scalars[c[1]], False, c[0]

    def results(self, t: Tensor) -> tuple[Tensor, bool]:
        """A tensor the function gave, in the window around: (value, does it have the examples' axis in front)."""
        n = read(t)
        s = n.line.slot
        if not (0 <= s < len(self.run.nodes) and self.run.nodes[s] is n): s = self.run.inputs.get(id(n))
        if s is None: return t, False          # captured, never touched
        with self.around(): return owned(self.value(s)), self.differs(s)

    def release(self):
        """What is still held of this window: values that all examples share move out; the others say where they belong."""
        nodes, outer = self.run.nodes, self.outer
        counts = tuple(map(getrefcount, nodes))
        for s, n in enumerate(nodes):
            if counts[s] <= BASE or self.is_input(s): continue
            if self.differs(s):
                n.buf = Poison(RuntimeError(LEAKED))
                n.line, n.past = blank_like(n), None
                continue
            with self.around(): m = record(mv.copy, (self.value(s),))
            outer.nodes[m.line.slot] = n
            n.line, n.buf = m.line, m.buf
            if n.past.__class__ is not Leaf: n.past = m.past


class _Around:
    """The window around a level, for a while. Nothing is flushed by itself meanwhile."""

    def __init__(self, level: Level): self.level = level

    def __enter__(self):
        outer = self.level.outer
        LOCAL.run, self.grad = outer, outer.grad
        outer.hold += 1

    def __exit__(self, *error):
        set_grad_mode(self.grad)
        self.level.outer.hold -= 1
        LOCAL.run = self.level.run


def blank_like(n: Node): return given(None, n.line.dtype, n.line.shape, device=n.line.device).line


def batched(job: rules.Job, randomness: str) -> Tensor:
    """The row on all examples: by its rule, by its parts, or one example after the other."""
    rule = rules.rule(job.op)
    out = rule(job) if rule is not None else None
    if out is None and isinstance(job.op, Composite): out = expanded(job, randomness)
    if out is None: out = one_by_one(job)
    return out if out.dtype is job.dtype else out.to(job.dtype)


def expanded(job: rules.Job, randomness: str) -> Tensor:
    """A composite row's parts, recorded for one example and batched in turn."""
    with Level(job.size, randomness) as level:
        xs = [level.stand_in(p.x, 0) if p.batched else p.x for p in job.parts]
        out, differs = level.results(job.op.expand(job.attr, *xs))
    return out if differs else out.expand((job.size, *job.shape))


def one_by_one(job: rules.Job) -> Tensor:
    """A row without a rule, once per example."""
    if job.op.name.startswith("nonzero"):
        raise RuntimeError("vmap: It looks like you're attempting to use an operation whose result's shape depends on values (nonzero, masks, unique). Every example "
                           "would have a shape of its own; use torch.where instead.")
    warnings.warn(f"There is a performance drop because '{job.op.name}' has no batching rule: vmap runs it once for each of {job.size} examples.", stacklevel=2)
    outs = [job.apply(job.op, *(p.x.select(0, k) if p.batched else p.x for p in job.parts), attr=job.attr).unsqueeze(0) for k in range(job.size)]
    if not outs: return job.parts[0].x.filled((0, *job.shape), 0, job.dtype)
    return apply(mv.cat, *outs, attr=0)
