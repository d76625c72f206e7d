"""Backward without a tape: lines are walked from the result towards the leaves, and each row's gradient rule records new lines.

Comes in: root nodes with their cotangents, and a face (how to wrap a node as a Tensor and unwrap one). Goes out: gradients at leaves or at
the nodes asked for. Order is creation order reversed (window, slot), which is PyTorch's sequence number.
"""
from __future__ import annotations

import heapq
import threading
from collections.abc import Callable
from typing import NamedTuple

from ..core.dtype import COMPLEX
from ..core.op import keeps
from ..core.state import state
from .line import LOCAL, History, Leaf, Node, Ref, record


class Face(NamedTuple):
    """What derivation needs of tensors."""
    wrap: Callable                             # node -> Tensor
    unwrap: Callable                           # Tensor -> node
    accumulate: Callable                       # (Leaf, strides of its tensor, gradient Tensor, create_graph) -> the node the leaf's gradient holds
    placed: Callable                           # (gradient Tensor, device) -> it there: constants have no device yet, and those of 0-d tensors may be elsewhere
    inspect: Callable                          # (Line, operand, gradient Tensor) under detect_anomaly


TENSOR, RETAIN, BEFORE, AFTER = range(4)       # stages of hooks: on a tensor's gradient, after all of those, before and after what a vertex does with it
PACKED = 4                                     # no call: what hooks on kept values made of those


class _Walking(threading.local):
    def __init__(self): self.stack = []        # derivations that this thread is in, the innermost last


WALKING = _Walking()


def called(hooks, stage: int, grads: tuple, *more) -> tuple:
    """A vertex's gradients after the hooks of one stage."""
    for h in hooks or ():
        if h.stage == stage: grads = h(grads, *more)
    return grads


class Derivation:
    """One walk. `fresh` stays true while everything seen may be remembered for the next run of the same lines."""

    def __init__(self, face: Face, retain: bool, create: bool, wanted: dict | None = None):
        self.face, self.retain, self.create, self.wanted = face, retain, create, wanted
        self.run = LOCAL.run
        self.autocast = self.run.autocast      # rules compute in the types their operands have; what users wrote runs as its caller asked
        self.window = self.run.id              # a gradient written into memory that something outside sees runs the window
        self.grads: dict = {}                  # vertex key -> [node, gradient Tensor]
        self.heap: list = []
        self.leaves: list = []                 # (leaf node, gradient node) in the order reached
        self.got: dict = {}                    # id of a wanted vertex -> gradient
        self.fresh = True
        self.again: dict = {}                  # id of a dead node -> its value, recorded again
        self.passed: list = []                 # vertices whose rows this walk has asked for gradients, or recorded again
        self.freed: set = set()
        self.leads: dict = {}
        self.ends: dict = {}                   # id of a leaf's node -> node: leaves that were met on the way to the wanted
        self.numbers: list = []                # (archived node, operand, Ref): numbers of closed windows that rules were given
        self.roots: list = []
        self.visits: set | None = None         # vertices below the roots, when somebody asks

    def key(self, n: Node):
        """A vertex's place in time; leaves come last and are known by identity. None: no gradient goes there."""
        past = n.past
        if past.__class__ is Leaf: return 0, id(past)
        if not n.line.grad: return None
        if past.__class__ is History and past.run is not None: return past.run, n.line.slot
        home = self.home(n)
        return None if home is None else (home.id, n.line.slot)

    def home(self, n: Node):
        """The open window that n was recorded in: this one, or one around it (a function under vmap has its own). None: it came from elsewhere."""
        run, s = self.run, n.line.slot
        while not (0 <= s < len(run.nodes) and run.nodes[s] is n and id(n) not in run.inputs):
            if run.level is None: return None
            run = run.level.outer
        return run

    def operands(self, n: Node) -> list:
        """Nodes and numbers a vertex was made from (numbers of this window as Refs)."""
        past = n.past
        if past.__class__ is History and past.run is not None:
            if all([x.__class__ is Node for x in past.ins]): return past.ins
            out = []
            for i, x in enumerate(past.ins):
                if x.__class__ is not Node:
                    x = Ref(x.__class__, None, x)
                    self.numbers.append((n, i, x))
                out.append(x)
            return out
        run, out, k = self.home(n), [], n.line.scal
        for c in n.line.ins:
            if c.__class__ is int: out.append(run.nodes[c])
            elif c.__class__ is type: out.append(Ref(c, k if run is self.run else None, run.scalars[k])); k += 1
            else: out.append(Ref(c[0], c[1] if run is self.run else None, run.scalars[c[1]]))
        return out

    def reaches(self, n: Node) -> bool:
        """autograd.grad walks only what leads to the inputs asked for."""
        if self.wanted is None: return True
        if n.past.__class__ is Leaf: self.ends[id(n)] = n
        stack = [n]
        while stack:                           # depth first without recursion: graphs are deeper than Python's stack
            x = stack[-1]
            k = vertex(x)
            if k in self.leads: stack.pop(); continue
            if k in self.wanted: self.leads[k] = True; stack.pop(); continue
            if self.key(x) is None or x.past.__class__ is Leaf: self.leads[k] = False; stack.pop(); continue
            below = [y for y in self.operands(x) if y.__class__ is Node and (y.line.grad or y.past.__class__ is Leaf)]
            for y in below:
                if y.past.__class__ is Leaf: self.ends[id(y)] = y
            todo = [y for y in below if vertex(y) not in self.leads]
            if todo: stack.extend(todo); continue
            self.leads[k] = any([self.leads[vertex(y)] for y in below])
            stack.pop()
        return self.leads[vertex(n)]

    def send(self, n: Node, g):
        key = self.key(n)
        if key is None: return
        have = self.grads.get(key)
        if have is None:
            self.grads[key] = [n, g]
            heapq.heappush(self.heap, (-key[0], -key[1]))
        else: have[1] = have[1] + g

    def available(self, n: Node) -> Node:
        """A value: as it is, or computed again from what still lives when its window let it go."""
        past = n.past
        if n.buf is not None or past.__class__ is not History or past.run is None or id(n) in self.run.inputs: return n
        out = self.again.get(id(n))
        if out is None:
            todo = [n]
            while todo:                        # operands first
                x = todo[-1]
                dead = [y for y in x.past.ins if y.__class__ is Node and y.buf is None and y.past.__class__ is History and y.past.run is not None
                        and id(y) not in self.again]
                if dead: todo.extend(dead); continue
                todo.pop()
                if id(x) not in self.again:
                    ins = [self.again.get(id(y), (None, y))[1] for y in self.operands(x)]
                    self.passed.append(x)
                    self.again[id(x)] = (x, record(x.line.op, ins, x.line.attr))
            out = self.again[id(n)]
        return out[1]

    def visit(self, n: Node, g):
        """One vertex: hooks, then a leaf's collection or the row's rules."""
        past, k = n.past, vertex(n)
        self.passed.append(n)
        g = self.face.placed(g, n.line.device)
        wanted = self.wanted is not None and k in self.wanted
        hooks = past.hooks if past is not None else None
        if wanted and hooks and past.__class__ is not Leaf and self.reaches_below(n): self.take(k, g); wanted = False      # as PyTorch: hooks come too late for it
        for h in hooks or ():
            self.fresh = False                 # a hook's own lines must never be replayed for a run without it
            if h.stage > RETAIN: continue
            r = h(g)
            if r is not None: g = r
        if wanted: self.take(k, g)
        if past.__class__ is Leaf:
            if self.wanted is None: self.collect(n, g)
            return
        if past.__class__ is History and past.ctx is not None:
            self.custom(n, g)
            return
        self.rules(n, g)

    def take(self, k, g): self.got[k] = self.got[k] + g if k in self.got else g

    def collect(self, n: Node, g):
        had = n.past.grad is not None
        if n.past.after: self.fresh = False
        g, = called(n.past.hooks, BEFORE, (g,))
        gn = self.face.accumulate(n.past, n.line.memory, g, self.create)
        if gn is None: self.fresh = False
        self.leaves.append((n, gn, had))
        for h in n.past.after or (): h(n.past)
        called(n.past.hooks, AFTER, (), (g,))

    def rules(self, n: Node, g):
        hooks = n.past.hooks if n.past is not None else None
        if not hooks:
            for x, gi in self.gradients(n, g): self.send(x, gi)
        elif self.reaches_below(n):
            g, = called(hooks, BEFORE, (g,))
            found = list(self.gradients(n, g))
            for h in hooks:
                if h.stage == AFTER: found = self.behind(h, g, found)
            for x, gi in found: self.send(x, gi)

    def behind(self, h, g, found):
        """What a hook makes of its vertex's gradients; those of rows that are part of the same vertex are worked out at once."""
        out = []
        while found:
            x, gi = found.pop(0)
            if any([x is y for y in h.inner]): found[:0] = self.gradients(x, gi)
            else: out.append((x, gi))
        places = []                            # where in `out` the gradient of each edge is
        for e in h.edges: places.append(next((k for k, (x, _) in enumerate(out) if x is e and k not in places), None))
        given = h(tuple(None if k is None else out[k][1] for k in places), (g,))
        for k, gi in zip(places, given):
            if k is not None: out[k] = out[k][0], gi
        return [(x, gi) for x, gi in out if gi is not None]

    def reaches_below(self, n: Node) -> bool:
        """Is this vertex asked for anything, or only for the gradient that arrives at it?"""
        return any([x.__class__ is Node and (x.line.grad or x.past.__class__ is Leaf) and self.reaches(x) for x in self.operands(n)])

    def gradients(self, n: Node, g):
        """(operand, its gradient) by the row's rules, for every operand that wants one."""
        op, line, ins, face = n.line.op, n.line, self.operands(n), self.face
        rules = op.rules(len(ins))
        needed = [i for i, x in enumerate(ins) if x.__class__ is Node and i < len(rules) and rules[i] is not None
                  and (x.line.grad or x.past.__class__ is Leaf) and self.reaches(x)]
        if not needed: return
        if op.saves and not (op.passes and all([i in op.passes for i, x in enumerate(ins) if x.__class__ is Node and x.line.grad])):
            if self.is_freed(n):
                raise RuntimeError("Trying to backward through the graph a second time (or directly access saved tensors after they have already been freed). "
                                   "Saved intermediate values of the graph are freed when you call .backward() or autograd.grad(). Specify retain_graph=True if "
                                   "you need to backward through the graph a second time or if you need to access saved tensors after calling backward. "
                                   f"The operation is {op.name}{at(line)}.")
            self.freed.add(n)
        packed = packed_values(n)
        if packed is None:
            args = [face.wrap(self.available(x) if keeps(op, i) else x) if x.__class__ is Node else x for i, x in enumerate(ins)]
            o = face.wrap(self.available(n) if "o" in op.saves else n)
        else: args, o = self.unpacked(packed, op, ins), packed.value("o", n, self.create, self.available) if "o" in packed.values else face.wrap(n)
        for i in needed:
            gi = rules[i](g, o, *args, attr=line.attr)
            if gi is None: continue
            x = ins[i].line
            if state.anomaly: face.inspect(line, i, gi)
            if op.kind == "elementwise": gi = sum_to(gi, x.shape)
            if gi.dtype is not x.dtype: gi = to_dtype(gi, x.dtype)
            yield ins[i], gi

    def unpacked(self, packed, op, ins) -> list:
        """The operands of a vertex whose kept values were packed."""
        out = []
        for i, x in enumerate(ins):
            if x.__class__ is not Node: out.append(x)
            elif i in packed.values: out.append(packed.value(i, x, self.create, self.available))
            else: out.append(self.face.wrap(self.available(x) if keeps(op, i) else x))
        return out

    def custom(self, n: Node, g):
        """A user's Function: its backward is Python, so nothing of this walk is remembered."""
        self.fresh = False
        self.run.autocast = self.autocast
        try: found = list(n.past.ctx(n, g))
        finally: self.run.autocast = None
        for x, gi in found:
            if x.__class__ is Node and gi is not None and (x.line.grad or x.past.__class__ is Leaf) and self.reaches(x): self.send(x, gi)
        if not self.retain: n.past.ctx.free()

    def is_freed(self, n: Node) -> bool:
        past = n.past
        if past.__class__ is History and past.run is not None: return past.freed
        return any([n.line.slot in f for f in self.home(n).freed])

    def will_visit(self, n: Node) -> bool:
        """Does (or did) this walk come by a vertex?"""
        if self.visits is None:
            self.visits, todo = set(), list(self.roots)
            while todo:
                x = todo.pop()
                if vertex(x) in self.visits or self.key(x) is None or not self.reaches(x): continue
                self.visits.add(vertex(x))
                if x.past.__class__ is Leaf: continue
                todo.extend([y for y in self.operands(x) if y.__class__ is Node])
        return vertex(n) in self.visits

    def go(self, roots):
        self.roots = [n for n, _ in roots]
        WALKING.stack.append(self)
        self.run.autocast = None
        try:
            for n, g in roots: self.send(n, g)
            while self.heap:
                a, b = heapq.heappop(self.heap)
                n, g = self.grads.pop((-a, -b))
                self.visit(n, g)
        finally:
            WALKING.stack.pop()
            self.run.autocast = self.autocast
        if not self.retain: self.free()

    def free(self):
        here = []
        for n in self.freed:
            past = n.past
            if past is not None and past.hooks: past.hooks[:] = [h for h in past.hooks if h.stage != PACKED]
            if past.__class__ is History and past.run is not None: past.freed = True
            elif self.run.id == self.window: here.append(n.line.slot)
        self.run.freed.append(frozenset(here))


def packed_values(n: Node):
    """What hooks on kept values made of them at this vertex, or None."""
    return next((h for h in (n.past.hooks if n.past is not None else None) or () if h.stage == PACKED), None)


def vertex(n: Node) -> int:
    """Identity of the graph's vertex a node stands for: a leaf keeps it through in-place updates."""
    return id(n.past) if n.past.__class__ is Leaf else id(n)


def sum_to(g, shape):
    """A gradient summed over the axes its operand was broadcast along."""
    have = tuple(g.shape)
    if have == shape: return g
    lead = len(have) - len(shape)
    dims = tuple(range(lead)) + tuple(i + lead for i, n in enumerate(shape) if n == 1 and have[i + lead] != 1)
    if dims: g = g.sum(dims, True)
    return g.reshape(shape)


def to_dtype(g, dtype):
    """A gradient in its operand's type; a complex gradient of a real operand keeps its real part."""
    if g.dtype.category == COMPLEX and dtype.category != COMPLEX: g = g.real
    return g.to(dtype)


def at(line) -> str:
    """The user's own line, for messages."""
    return f", recorded at {line.where[0]}:{line.where[1]}" if line.where else ""
