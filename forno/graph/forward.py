"""Forward mode without a tape: lines are walked from the inputs towards the results, and tangents are recorded beside them.

Comes in: result nodes and the tangents of the vertices they depend on. Goes out: the results' tangents. No row has a rule of its own for this: a gradient
rule is a linear function of the gradient it is given, J^T g, and J t is what transposes it once more. By kind:

  elementwise     J is diagonal, so its transpose is itself: the gradient rules are given the operands' tangents
  linear rows     (views, sums, …) the row itself, on tangents
  products        (matmul) the row with one operand after the other replaced by its tangent
  all others      the gradient rule is recorded for a gradient nobody gives, and differentiated with respect to it; planning drops the unused half
"""
from __future__ import annotations

from ..core.dtype import FLOAT
from ..core.op import keeps
from .derive import Derivation, to_dtype, vertex
from .line import History, Leaf, Node

LINEAR = frozenset(("view", "put", "addput", "cat", "copy", "transfer", "sum", "bitcast"))
PRODUCTS = frozenset(("matmul",))


class Forward(Derivation):
    """One walk: `tangents` of vertices by `vertex(node)`; `leaf` makes a node whose gradient can be asked for."""

    def __init__(self, face, leaf, tangents: dict):
        super().__init__(face, True, True, dict.fromkeys(tangents))
        self.leaf, self.tangents = leaf, tangents

    def of(self, n: Node):
        """The tangent of one result, None where it depends on nothing that has one."""
        if not self.reaches(n): return None
        todo, seen = [n], {}
        while todo:                            # what lies between, operands before results
            x = todo.pop()
            if vertex(x) in self.tangents or vertex(x) in seen: continue
            seen[vertex(x)] = x
            todo.extend([y for y in self.operands(x) if y.__class__ is Node and self.on_the_way(y)])
        for x in sorted(seen.values(), key=lambda y: self.key(y) or (0, 0)):
            if vertex(x) not in self.tangents: self.tangents[vertex(x)] = self.pushed(x)
        return self.tangents[vertex(n)]

    def on_the_way(self, n: Node) -> bool: return (n.line.grad or n.past.__class__ is Leaf) and self.reaches(n)

    def pushed(self, n: Node):
        """The tangent of a vertex from those of its operands."""
        if n.past.__class__ is History and n.past.ctx is not None:             # a custom function says itself what it does to tangents
            return None if n.past.ctx.push is None else n.past.ctx.push(lambda x: self.tangents.get(vertex(x)))
        op, line, ins, face = n.line.op, n.line, self.operands(n), self.face
        rules = op.rules(len(ins))
        moving = {i: self.tangents[vertex(x)] for i, x in enumerate(ins)
                  if x.__class__ is Node and i < len(rules) and rules[i] is not None and self.on_the_way(x) and self.tangents[vertex(x)] is not None}
        if not moving: return None
        args = [face.wrap(self.available(x) if keeps(op, i) or op.name in PRODUCTS else x) if x.__class__ is Node else x for i, x in enumerate(ins)]
        if op.name in LINEAR:
            return row(op, [moving.get(i, zero(a)) for i, a in enumerate(args)], line.attr)
        if op.name in PRODUCTS:
            return total(row(op, [t if j == i else a for j, a in enumerate(args)], line.attr) for i, t in moving.items())
        o = face.wrap(self.available(n) if "o" in op.saves else n)
        if op.kind == "elementwise" and line.dtype.category == FLOAT and all(t.dtype.category == FLOAT for t in moving.values()):
            return total(to_dtype(rules[i](spread(t, o, line.dtype), o, *args, attr=line.attr), line.dtype) for i, t in moving.items())
        return self.transposed(op, line, o, args, rules, moving)

    def transposed(self, op, line, o, args, rules, moving):
        """J t, as the gradient of t · (J^T g) with respect to g."""
        g = self.leaf(o)
        gn = self.face.unwrap(g)
        back = Derivation(self.face, True, True, {vertex(gn): gn})
        roots = []
        for i, t in moving.items():
            r = rules[i](g, o, *args, attr=line.attr)
            if r is None: continue
            if op.kind == "elementwise": t = spread(t, r, t.dtype)
            rn = self.face.unwrap(to_dtype(r, t.dtype))
            if rn.line.grad: roots.append((rn, t))
        back.go(roots)
        return back.got.get(vertex(gn))


def row(op, operands, attr):
    """A row on tensors."""
    first, *rest = operands
    return first.row(op, *rest, attr=attr)


def total(parts):
    out = None
    for p in parts: out = p if out is None else out + p
    return out


def zero(like): return like.filled(tuple(like.shape), 0, like.dtype)


def spread(t, like, dtype):
    """A tangent in the shape and type of a result that its operand was broadcast to."""
    t = t.to(dtype)
    return t if tuple(t.shape) == tuple(like.shape) else t.expand(tuple(like.shape))
