"""Which values share a kernel.

Comes in: a laid-out graph. Goes out: groups in which every value belongs to one loop nest, and kernels of their own for the rest.

Values are taken operands first. Each starts a group of its own, and groups merge along the edges between values whenever their domains
meet (frame.py), nothing between the two would have to run in the middle, and the result stays small enough for registers. A value seen
through a permuting or slicing view can't share the loop; it is computed again by its only reader at the reader's indices (absorbed), or stored.
"""
from __future__ import annotations

from ..core.graph import Scalar, Value
from ..core.shape import View, compose, contiguous, expand_strides
from . import frame
from .layout import ALIASING, GENERATORS, SOLO, Layout, held, root_of
from .values import ASSEMBLE, MOVE, SINK, is_identity, numel

MAX_NODES = 64                                    # values in a body: past this, registers spill and compile times grow faster than traffic shrinks
MAX_OPERANDS = 24
MAX_AGAIN = 3                                     # values worth computing once per repetition instead of storing once
AGAIN_COST, AGAIN_READS = 8, 2                    # work and memory streams that are cheaper, twice, than a store and a load
BIG, FEW = 1 << 15, 4                             # a window pass that feeds the next one needs this many parallel rows, unless it is small
SHORT = 8                                         # a nest that reduces isn't cut into runs this short for others' sake: they fill no vector
COLUMNS = 1 << 18                                 # sums over slow axes walk memory in strides: from this size on, nothing else is stored on the way

LIGHT = frozenset("""add sub mul neg add_scaled square where masked_fill lt le gt ge eq ne cast move relu abs maximum minimum clamp clamp_min
                     clamp_max logical_not logical_and logical_or logical_xor bitwise_not bitwise_and bitwise_or bitwise_xor sign conj""".split())
COST = {**dict.fromkeys(LIGHT, 1), "div": 2, "sqrt": 2, "rsqrt": 2, "reciprocal": 2}                       # a function costs 6


class Group:
    """Values that one kernel computes. `before`: masks of all groups that must have run; `hard`: those whose results it reads from memory anyway.

    `again`: values of other groups that it computes once more rather than reading them.
    """
    __slots__ = ("mask", "before", "hard", "preds", "cuts", "window", "nodes", "outer", "again", "reads", "solo", "into", "last", "followed")

    def __init__(self, mask, cuts, window, nodes, last, solo=None):
        self.mask, self.cuts, self.window, self.nodes, self.last, self.solo = mask, cuts, window, nodes, last, solo
        self.before = self.hard = 0
        self.followed = False                     # does any group wait for this one?
        self.preds: set[Group] = set()
        self.outer: set[int] = set()
        self.again: set[int] = set()
        self.reads: set = set()                   # ids of values in memory, and numbers
        self.into: Group | None = None


class Fusion:
    """The state of the pass; `groups` (in an order that runs), `sinks` and `inlined` are its result."""

    def __init__(self, layout: Layout, order: list[Value]):
        self.layout = layout
        self.groups: list[Group] = []
        self.alive: list[Group] = []              # those that no other has taken in, and some that one has
        self.home: dict[int, Group] = {}
        self.sinks: dict[int, list[Value]] = {}   # put and cat: the stores that complete the value
        self.stored: set[int] = set()             # values known to be in memory so far
        self.inlined: set[int] = set()            # absorbed values: computed wherever they are read
        self.uses = count_uses(layout, order)
        self.owned = {id(held(o.root)) for o in layout.owners}
        self.size: dict[int, int] = {}
        self.is_free: dict[int, bool] = {}
        self.number = 0
        for v in order:
            if v.op is not None: self.visit(v)
        for o in layout.owners:
            if o.kind == "own": self.materialise(held(o.root))
        self.siblings()
        self.groups = sorted((g for g in self.groups if g.into is None), key=lambda g: g.before.bit_count())

    # ---- one value
    def visit(self, v: Value):
        self.number += 1
        name, kind = v.op.name, v.op.kind
        if name in ("view", "bitcast") or self.free(v) or v.op is MOVE and 0 in v.shape: return
        if name == "put":
            self.sink(v, v.ins[1], v.attr, after=v.ins[0])
        elif name == "cat":
            at, strides = 0, contiguous(v.shape)
            for x in v.ins:
                self.sink(v, x, View(x.shape, strides, at * strides[v.attr]))
                at += x.shape[v.attr]
        elif v.op is ASSEMBLE:
            for x, w in zip(v.ins, v.attr): self.sink(v, x, w)
        elif kind in SOLO or name == "addput": self.alone(v)
        else: self.place(v)

    def sink(self, target: Value, x: Value, view: View, after: Value | None = None):
        s = Value(SINK, (x,), (target, view), x.dtype, x.shape)
        self.sinks.setdefault(id(target), []).append(s)
        self.place(s, after)

    def free(self, v: Value) -> bool:
        """Values that loops make in passing, wherever they are read: constants, ramps, casts of inputs, and light arithmetic on such."""
        known = self.is_free.get(id(v))
        if known is None: known = self.is_free[id(v)] = v.op is not None and self._free(v)
        return known

    def _free(self, v: Value) -> bool:
        if v.op.name in GENERATORS: return True
        if v.op.kind != "elementwise" or v.op.name not in LIGHT: return False
        roots = [root_of(x)[0] for x in v.ins if x.__class__ is Value]
        if v.op.name == "cast": return roots[0].op is None and id(roots[0]) not in self.layout.laid or self.free(roots[0])
        return all([r.op is not None and self.free(r) for r in roots]) and closure_size(v) <= 2 * MAX_AGAIN

    def new(self, cuts, window, nodes, solo=None) -> Group:
        g = Group(1 << len(self.groups), cuts, window, nodes, self.number, solo)
        self.groups.append(g)
        self.alive.append(g)
        for n in nodes: self.home[id(n)] = g
        return g

    def of(self, v: Value) -> Group:
        """The group a value is in now."""
        g = self.home[id(v)]
        while g.into is not None: g = g.into
        return g

    def writers(self, root: Value) -> list[Group]:
        sinks = self.sinks.get(id(root))
        return [self.of(s) for s in sinks] if sinks else [self.of(root)]

    def buffer(self, root: Value) -> Value:
        """The value under whose name root's memory goes: results that take over an operand's buffer share its name."""
        while (root := held(root)).op is not None and (root.op.name in ALIASING or id(root) in self.layout.takes):
            root = root.ins[self.layout.takes.get(id(root), 0)]
        return root

    def edge(self, before: Group, g: Group, hard: bool):
        g.preds.add(before)
        before.followed = True
        g.before |= before.before | before.mask
        if hard: g.hard |= before.mask

    def materialise(self, root: Value):
        """A value that must be in memory though nobody thought so."""
        if root.op is not None and id(root) not in self.home and id(root) not in self.sinks and 0 not in root.shape: self.place(root)

    def read(self, root: Value, g: Group, hard=True):
        """g reads root's buffer."""
        root = held(root)
        g.reads.add(id(root))
        self.size[id(root)] = numel(root)
        if root.op is None or 0 in root.shape: return
        self.materialise(root)
        self.stored.add(id(root))
        for w in self.writers(root): self.edge(w, g, hard)

    def alone(self, v: Value):
        g = self.new((), None, [v], solo=v)
        for x in v.ins:
            if x.__class__ is Value: self.read(root_of(x)[0], g)

    def place(self, v: Value, after: Value | None = None):
        """A loop's value: its own group first, then merged with its operands' groups."""
        shape = v.shape
        g = self.new(frame.cuts_of(shape), None, [v])
        if v.op.kind == "reduce":
            shape = v.ins[0].shape
            g.cuts, g.window = frame.cuts_of(shape), frame.window_of(shape, v.attr)
            g.outer.add(id(v))
        if after is not None: self.read(after, g)
        g.reads.update([x for x in v.ins if x.__class__ is Scalar])
        links = []
        for x in {id(x): x for x in v.ins if x.__class__ is Value}.values():
            root, w = root_of(x)
            w = View(shape, expand_strides(x.shape, w.strides, shape), w.offset)
            if root.op is None: self.read(root, g); continue
            if self.free(root):
                if self.computable(root, w, ()): continue
                self.materialise(root)
            if id(root) not in self.home or self.of(root).solo is not None: self.read(root, g); continue
            how, window = frame.relation(w, numel(root))
            if how == "other" or how == "repeated" and v.op.kind == "reduce":
                if not self.absorb(g, root, w) and not self.again(g, root, w): self.read(root, g)
            else: links.append((root, w, how, window))
        for root, *_ in links: self.edge(self.of(root), g, False)
        for root, w, how, _ in sorted(links, key=lambda l: -self.of(l[0]).last):
            g, h = self.of(v), self.of(root)
            if g is h: continue
            kinds = {self.fit(g, v, h, *l) for l in links if self.of(l[0]) is h}
            if len(kinds) == 1 and self.merge(g, h, kinds.pop()): continue
            if how == "repeated" and self.absorb(g, root, w) or self.again(g, root, w): continue
            self.read(root, g, hard=how == "repeated")

    # ---- merging
    def fit(self, g: Group, v: Value, h: Group, root: Value, w, how: str, window) -> str | None:
        """How v's group g and its operand's group h can share a domain: 'level', 'h under g', 'g under h', or not."""
        v_outer, r_outer = id(v) in g.outer and v.op.kind != "reduce", id(root) in h.outer         # a reduction reads where inner values are
        if how == "same":
            slow = v.op.kind == "reduce" and g.window[0][0] > 1 and frame.size(g.cuts) >= COLUMNS
            if slow and h.window is None and self.uses[id(root)] > 1: return None
            if v_outer == r_outer: return "level" if g.window is None or h.window is None or g.window == h.window else None
            if v_outer: return "h under g" if h.window is None else None
            return "g under h" if g.window is None else None
        if v_outer: return None
        if r_outer:
            # a pass over the window that feeds the next one: rows must be many enough to share among threads
            if h.window != window or g.window not in (None, window): return None
            return "level" if frame.kept(h.cuts, window) >= FEW or frame.size(h.cuts) <= BIG else None
        return "h under g" if h.window is None and g.window == window else None

    def merge(self, g: Group, h: Group, fit: str | None) -> bool:
        """h takes g in, if the domains meet, no third group has to run between them, and the body stays small."""
        if fit is None or len(g.nodes) + len(h.nodes) > MAX_NODES or len(g.reads | h.reads) > MAX_OPERANDS: return False
        if fit == "level": cuts, window = frame.meet(g.cuts, h.cuts), g.window or h.window
        elif fit == "h under g": cuts, window = frame.lift(g.cuts, g.window, h.cuts), g.window
        else: cuts, window = frame.lift(h.cuts, h.window, g.cuts), h.window
        if cuts is None or fit == "level" and frame.size(g.cuts) != frame.size(h.cuts): return False
        if window and fit == "level" and frame.size(cuts) > BIG and cuts[0] < min(SHORT, max(g.cuts[0], h.cuts[0])): return False
        if not self.adjacent(g, h): return False
        if fit == "h under g": h.outer = g.outer | {id(n) for n in h.nodes}
        elif fit == "g under h": h.outer = h.outer | {id(n) for n in g.nodes}
        else: h.outer = h.outer | g.outer
        h.cuts, h.window, h.nodes, h.reads, h.again = cuts, window, h.nodes + g.nodes, h.reads | g.reads, h.again | g.again
        h.last = max(h.last, g.last)
        self.union(g, h)
        return True

    def adjacent(self, a: Group, b: Group) -> bool:
        """May a and b run as one? Not if one reads the other's memory, nor if a third must run between them."""
        if a.before & b.mask: later, earlier = a, b
        elif b.before & a.mask: later, earlier = b, a
        else: return True
        if later.hard & earlier.mask: return False
        for p in later.preds:
            while p.into is not None: p = p.into
            if p is not earlier and p is not later and p.before & earlier.mask: return False
        return True

    def union(self, g: Group, h: Group):
        g.into = h
        news = h.followed and g.before & ~(h.before | h.mask) or g.followed and h.before & ~(g.before | g.mask)
        h.followed |= g.followed
        h.mask |= g.mask
        h.preds = {p for p in map(current, h.preds | g.preds) if p is not h}
        h.hard |= g.hard
        h.before = (h.before | g.before) & ~h.mask
        if not news: return                       # whoever waits for one part knows all that the whole waits for
        both = h.before | h.mask
        self.alive = [x for x in self.alive if x.into is None]
        for x in self.alive:
            if x.before & h.mask and both & ~x.before: x.before |= both

    # ---- computing again
    def absorb(self, g: Group, root: Value, w: View) -> bool:
        """Compute root, which g sees through the view w, inside g: its group must be a chain that nobody else reads."""
        h = self.of(root)
        if h.window is not None or len(h.nodes) > MAX_NODES // 4 or len(g.reads | h.reads) > MAX_OPERANDS: return False
        inside = {id(n) for n in h.nodes}
        if self.inlined & inside or any([n.op is SINK or n.op is MOVE and n is not root or n.op.checks(n.dtype, n.ins, Value) for n in h.nodes]): return False
        repeated = frame.size(frame.cuts_of(w.shape)) > numel(root)
        if repeated and (len(inside) > MAX_AGAIN or any([n.op.name not in LIGHT for n in h.nodes])): return False
        count: dict[int, int] = {id(root): 1}
        for n in h.nodes:
            for r in {id(root_of(x)[0]) for x in n.ins if x.__class__ is Value} & inside: count[r] = count.get(r, 0) + 1
        if any([count.get(i, 0) != self.uses.get(i, 0) for i in inside]) or not self.computable(root, w, inside): return False
        self.inlined |= inside
        for p in map(current, h.preds): self.edge(p, g, True)         # h's operands are read at other indices than they are made
        g.reads |= h.reads
        g.again |= h.again
        g.mask |= h.mask                          # nobody else waits for h: root was its only way out
        g.before &= ~g.mask
        h.into = g
        return True

    def again(self, g: Group, root: Value, w: View) -> bool:
        """Compute root in g too, from what is in memory anyway: when that is less traffic than storing it and little work."""
        if id(root) in self.stored or id(root) in self.owned: return False
        nodes, leaves, cost, full, cuts = set(), {}, 0, numel(root), g.cuts
        times = -(-frame.size(frame.cuts_of(w.shape)) // full)
        if is_identity(w, full) and frame.size(g.cuts) == frame.size(self.of(root).cuts) == full:     # root's own broadcasts are affine in its domain
            cuts = frame.meet(g.cuts, self.of(root).cuts)
            if cuts is None: return False
            w = frame.inner_map(cuts, None)
        todo, done = [(root, w)], set()
        while todo:
            r, at = todo.pop()
            if (id(r), at.strides, at.offset) in done: continue
            done.add((id(r), at.strides, at.offset))
            leaf = r.op is None or self.free(r) or id(r) in self.stored or id(r) not in self.home or self.of(r).solo is not None
            if leaf or r.op.kind == "reduce" or 8 * numel(r) <= full:
                if not self.computable(r, at, ()): return False
                leaves[id(r)] = r
                continue
            if r.op.kind != "elementwise" or r.op.checks(r.dtype, r.ins, Value): return False
            cost += times * COST.get(r.op.name, 6)
            if cost > AGAIN_COST: return False
            nodes.add(id(r))
            for x in r.ins:
                if x.__class__ is not Value: continue
                below, shown = root_of(x)
                to = compose(View(r.shape, expand_strides(x.shape, shown.strides, r.shape), shown.offset), at)
                if to is None: return False
                todo.append((below, to))
        leaves = [r for r in leaves.values() if not self.free(r)]
        if sum([8 * numel(r) > full and id(r) not in g.reads for r in leaves]) > (AGAIN_READS if self.uses[id(root)] == 1 else 1): return False
        for r in leaves:                          # g must come after all of them
            m = held(r)
            if m.op is not None and (id(m) in self.home or id(m) in self.sinks) and any([h is g or h.before & g.mask for h in self.writers(m)]): return False
        g.again |= nodes
        g.cuts = cuts
        for r in leaves: self.read(r, g)
        return True

    def computable(self, r: Value, w: View, inside, seen=None) -> bool:
        """Do all of r's operands have affine indices when r is read through w?"""
        seen = set() if seen is None else seen
        if (id(r), w.strides, w.offset) in seen: return True
        seen.add((id(r), w.strides, w.offset))
        if r.op is None or not (id(r) in inside or id(r) in self.inlined or self.free(r)):
            laid = self.layout.laid.get(id(r))
            return laid is None or compose(laid, w) is not None
        if r.op.name in GENERATORS: return True
        for x in r.ins:
            if x.__class__ is not Value: continue
            root, shown = root_of(x)
            at = compose(View(r.shape, expand_strides(x.shape, shown.strides, r.shape), shown.offset), w)
            if at is None or not self.computable(root, at, inside, seen): return False
        return True


    def siblings(self):
        """Groups over one domain that read the same big value read it once, if neither waits for the other."""
        readers: dict[int, list[Group]] = {}
        for g in self.groups:
            if g.into is None and g.solo is None:
                for r in g.reads: readers.setdefault(r, []).append(g)
        for r, groups in readers.items():
            for a, b in zip(groups, groups[1:]):
                a, b = current(a), current(b)
                if a is b or frame.size(a.cuts) != frame.size(b.cuts) or self.size.get(r) != frame.size(a.cuts): continue
                if a.window != b.window or a.before & b.mask or b.before & a.mask: continue
                self.merge(b, a, "level")


def current(g: Group) -> Group:
    while g.into is not None: g = g.into
    return g


def count_uses(layout: Layout, order: list[Value]) -> dict[int, int]:
    """How many values read each root, through whatever views."""
    uses: dict[int, int] = {}
    for v in order:
        if v.op is None or v.op.name == "view": continue
        for r in {id(root_of(x)[0]) for x in v.ins if x.__class__ is Value}: uses[r] = uses.get(r, 0) + 1
    for o in layout.owners: uses[id(o.root)] = uses.get(id(o.root), 0) + 1
    return uses


def closure_size(v: Value) -> int:
    """Values in the expression tree above v."""
    return 1 + sum([closure_size(root_of(x)[0]) for x in v.ins if x.__class__ is Value and root_of(x)[0].op is not None])
