"""Which values need memory of their own, and how it is laid out.

Comes in: a simplified graph. Goes out: the same graph with a MOVE wherever elements must be copied because no affine view will do, every
view a view of a **root** (a value with its own buffer, or one that loops compute in passing), and for every output who owns its buffer:

  own     the root's buffer is the output's
  alias   a view of an input, or of a root that another output owns
"""
from __future__ import annotations

from typing import NamedTuple

from ..core.graph import Graph, Value
from ..core.kernels import Native
from ..core.op import TABLE
from ..core.shape import View, compose, contiguous, is_contiguous, whole
from .expand import replaced, rewrite, topological
from .values import MOVE, is_identity, nbytes, numel

GENERATORS = ("full", "iota")
SOLO = ("contract", "routine", "opaque")          # kinds that run as kernels of their own on operands in memory
FILLED = ("cat", "assemble")                      # results that several values are written into
ALIASING = ("put", "addput")                      # results that take over the first operand's buffer
FEW_ROWS, OFTEN = 64, 4                           # from so many products on, of at most so many rows, a matrix is worth turning


def root_of(x: Value) -> tuple[Value, View]:
    """The value that x shows, and how."""
    return (x.ins[0], x.attr) if x.op is not None and x.op.name == "view" else (x, whole(x.shape))


def held(root: Value) -> Value:
    """The value in whose buffer root's elements lie: the same bytes read as another type have no buffer of their own."""
    while root.op is not None and root.op.name == "bitcast": root = root_of(root.ins[0])[0]
    return root


class Owner(NamedTuple):
    kind: str                                     # 'own' | 'alias'
    root: Value
    view: View | None = None                      # of the root's buffer; None: all of it


class Layout:
    """`laid`: roots whose buffer isn't row-major. `natives`: what routine rows planned. Both by id of the value."""

    def __init__(self, graph: Graph, outputs: list[Value]):
        self.laid: dict[int, View] = {id(v): v.view for v in graph.inputs if v.view is not None and not is_identity(v.view, numel(v))}
        self.natives: dict[int, Native] = {}
        self.takes: dict[int, int] = {}           # routine values that overwrite an operand: its position
        self.moves: dict[tuple, Value] = {}       # by root and view
        self.often = turned_often(outputs)
        outputs = rewrite(outputs, self.rule)
        self.owners: list[Owner] = []
        self.outputs = self.assign(graph, outputs)

    def of(self, root: Value) -> View:
        """How a root's elements lie in its buffer."""
        return self.laid.get(id(root)) or whole(root.shape)

    def access(self, x: Value) -> View | None:
        """x's elements in its root's buffer; None when they have no affine order there."""
        root, w = root_of(x)
        laid = self.laid.get(id(root))
        return w if laid is None else compose(laid, w)

    def move(self, x: Value, why: str, shared=True) -> Value:
        """x's elements, row-major in memory of their own."""
        if not shared: return Value(MOVE, (x,), why, x.dtype, x.shape)
        root, w = root_of(x)
        key = id(root), w.strides, w.offset, x.shape
        m = self.moves.get(key)
        if m is None: m = self.moves[key] = Value(MOVE, (x,), why, x.dtype, x.shape)
        return m

    def rule(self, v: Value, ins: tuple) -> Value:
        name, kind = v.op.name, v.op.kind
        if name == "view":
            x = ins[0]
            laid = self.laid.get(id(x))
            composed = laid is None or compose(laid, v.attr) is not None
            if x.op is not None and x.op.name == "view" or not composed: ins = (self.move(x, "no affine view shows it"),)
        elif name in ALIASING: ins = (self.move(ins[0], "written through a view next", shared=False), ins[1] if name == "put" else self.dense(ins[1]))
        elif name == "matmul":
            ins = tuple([x if self.is_matrix(x) else self.matrix(x) for x in ins])
            if id(v.ins[1]) in self.often: ins = ins[0], self.move(ins[1], "turned once for many products of few rows")
        elif kind == "routine" and v.op.strided: ins = tuple([x if self.lies_right(x, v.op.dense) else self.move(x, "no affine view shows it") for x in ins])
        elif kind in SOLO or name == "bitcast": ins = tuple([self.dense(x) if x.__class__ is Value else x for x in ins])
        new = replaced(v, ins)
        if kind == "routine":
            native = new.op.plan(new.attr, new, *new.ins, **(dict(views=[self.access(x) for x in new.ins]) if new.op.strided else {}))
            taken = [i for i, p in enumerate(native.operands[:len(ins)]) if p.mode == "rw"]
            if taken and len(native.operands) == len(ins):
                copy = self.move(ins[taken[0]], "overwritten by the routine", shared=False)
                new = replaced(v, tuple([copy if i == taken[0] else x for i, x in enumerate(ins)]))
                self.takes[id(new)] = taken[0]
            self.natives[id(new)] = native
        return new

    def dense(self, x: Value) -> Value:
        """x, or its copy, as a row-major buffer that starts at its first element."""
        root, _ = root_of(x)
        at = self.access(x)
        if generated(root): return self.move(x, "a constant in memory")
        whole_buffer = at is not None and at.offset == 0 and is_contiguous(at.shape, at.strides) and numel(x) == numel(root)
        return x if whole_buffer else self.move(x, f"{root.op or 'input'} isn't row-major memory here")

    def lies_right(self, x: Value, dense: bool) -> bool:
        """Can a strided routine read x where it lies?"""
        at = self.access(x)
        return at is not None and not generated(x) and (not dense or is_contiguous(at.shape, at.strides))

    def is_matrix(self, x: Value) -> bool:
        """Can a matrix product read x where it lies? One of the last two strides must be 1."""
        at = self.access(x)
        if at is None or generated(root_of(x)[0]): return False
        (m, k), (rows, cols) = at.shape[-2:], at.strides[-2:]
        return (cols == 1 or k == 1) and rows >= 0 or (rows == 1 or m == 1) and cols >= 0

    def matrix(self, x: Value) -> Value:
        """A copy of x that a matrix product can read: row-major, or the transpose of it, so that a matrix and its transpose share one copy."""
        root, w = root_of(x)
        if w.strides[-1] <= w.strides[-2] or len(x.shape) > 2: return self.move(x, "no axis is contiguous")
        turned = Value(TABLE["view"], (root,), View(w.shape[::-1], w.strides[::-1], w.offset), x.dtype, x.shape[::-1])
        return Value(TABLE["view"], (self.move(turned, "no axis is contiguous"),), View(x.shape, (1, x.shape[0]), 0), x.dtype, x.shape)

    # ---- outputs
    def assign(self, graph: Graph, outputs: list[Value]) -> list[Value]:
        """An owner per output; returns the values to compute, one per output."""
        wanted = [v.strides for v in graph.outputs]
        need_order = self.read_in_order(outputs)
        owned: dict[int, Value] = {}
        owners: list[Owner | None] = [None] * len(outputs)
        values = list(outputs)
        for i, v in enumerate(outputs):           # first those that are a root's whole value, in order
            root, w = root_of(v)
            mine = held(root)
            if mine.op is None or id(mine) in owned or nbytes(mine) != nbytes(root): continue
            strides, turned = wanted[i], inverse(w, root.shape)
            if strides is None and turned is not None and not is_identity(w, numel(root)):            # its axes in another order: so they lie
                if root.op.name != "view" and not fixed(root, need_order) and not generated(root):
                    self.laid[id(root)], owned[id(mine)] = View(root.shape, turned, 0), root
                    owners[i], values[i] = Owner("own", root), root
                continue
            if not is_identity(w, numel(root)): continue
            plain = strides is None or is_contiguous(v.shape, strides)
            if generated(root) or not plain and (root.shape != v.shape or fixed(root, need_order)): continue
            if not plain: self.laid[id(root)] = View(v.shape, tuple(strides), 0)
            owned[id(mine)] = root
            owners[i], values[i] = Owner("own", root), root
        for i, v in enumerate(outputs):
            if owners[i] is not None: continue
            root, w = root_of(v)
            mine = held(root)
            at = compose(self.laid[id(root)], w) if id(root) in self.laid else w
            there = id(mine) in owned or mine.op is None and (mine is root or mine.view is None)      # where a slice starts is told in its own elements
            if there and at is not None: owners[i], values[i] = Owner("alias", root, at), root
            elif self.expanded(graph.outputs[i], root):    # an expanded value stays as small as it was made
                if root.op.name == "full": root, w = Value(root.op, root.ins, ((1,), *root.attr[1:]), root.dtype, (1,)), View(v.shape, (0,) * len(v.shape), 0)
                base = self.move(root, "a constant in memory", shared=False) if generated(root) else root
                owners[i], values[i] = Owner("own", base, w), base
                owned[id(held(base))] = base
            else:
                values[i] = m = self.move(v, "an output of its own", shared=False)
                if wanted[i] is not None and not is_contiguous(v.shape, wanted[i]): self.laid[id(m)] = View(v.shape, tuple(wanted[i]), 0)
                owners[i] = Owner("own", m)
        self.owners = owners
        return values

    def expanded(self, v: Value, root: Value) -> bool:
        """Does output v repeat a value smaller than itself, which nobody else has in memory?"""
        if v.op is None or v.op.name != "view" or id(root) in self.laid or numel(v) <= numel(v.ins[0]): return False
        return root.op is not None and (root.op.name == "full" or numel(v) > numel(root))

    def read_in_order(self, outputs) -> set[int]:
        """Roots that someone reads through a view or as a dense buffer: they must stay row-major. Views that are nothing but outputs don't count if they only
        put axes in another order."""
        out: set[int] = set()
        seen: set[int] = set()
        free = {id(v): v for v in outputs if v.op is not None and v.op.name == "view" and inverse(v.attr, v.ins[0].shape) is not None}
        stack = list(outputs)
        while stack:
            v = stack.pop()
            if id(v) in seen: continue
            seen.add(id(v))
            tensors = [x for x in v.ins if x.__class__ is Value]
            for x in tensors:
                if free.pop(id(x), None) is not None: out.add(id(x.ins[0]))
            if v.op is None or id(v) in free: pass
            elif v.op.name in ("view", "bitcast", *FILLED, *ALIASING) or v.op.kind in SOLO: out.update(id(root_of(x)[0]) for x in tensors)
            stack.extend(tensors)
        return out


def fixed(root: Value, need_order: set[int]) -> bool:
    """Must a value with a buffer lie row-major?"""
    return root.op.kind in SOLO or root.op.name in (*FILLED, *ALIASING, "bitcast") or id(root) in need_order


def inverse(w: View, shape) -> tuple[int, ...] | None:
    """Strides of a row-major value's axes in the memory of a view that puts them in another order; None if it does more."""
    at = dict(zip(w.strides, contiguous(w.shape)))
    strides = contiguous(shape)
    if w.offset or sorted(w.shape) != sorted(shape) or len(set(w.strides)) != len(w.strides) or any([at.get(s) is None for s in strides]): return None
    return tuple([at[s] for s in strides])


def turned_often(outputs) -> set[int]:
    """Matrices that are right operands of several products of few rows, and lie in memory column by column: each product would have to turn them.
    (A vector's products read them as they lie.)"""
    times: dict[int, int] = {}
    for v in topological(outputs):
        if v.op is None or v.op.name != "matmul" or not 1 < v.shape[-2] <= FEW_ROWS or len(v.shape) > 2: continue
        x = v.ins[1]
        if x.op is not None and x.op.name == "view" and x.attr.strides == (1, x.shape[0]): times[id(x)] = times.get(id(x), 0) + 1
    return {i for i, n in times.items() if n >= OFTEN}


def generated(x: Value) -> bool:
    """Is x a constant or a ramp, through views? Loops make those in passing; they have no buffer."""
    root = root_of(x)[0]
    return root.op is not None and root.op.name in GENERATORS


