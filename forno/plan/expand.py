"""Graph in, graph out: composite rows become the rows they are made of, and equal values become one.

Every pass over the graph is `rewrite`: values are visited operands first, and a rule answers with the value that stands for each.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable

from ..core.graph import Scalar, Value
from .values import Expr, Literal, Number

# rows whose equal operands don't mean equal results, or that are too special to compare
UNSHARED = ("opaque",)


def topological(outputs: Iterable[Value]) -> list[Value]:
    """Every value that the outputs need, operands first; depth first in operand order, without recursion."""
    seen: set[int] = set()
    order: list[Value] = []
    stack: list = list(outputs)[::-1]
    while stack:
        v = stack.pop()
        if v is None: order.append(stack.pop()); continue             # all that was above it: its operands
        if id(v) in seen: continue
        seen.add(id(v))
        stack += v, None
        stack += [x for x in v.ins[::-1] if x.__class__ is Value and id(x) not in seen]
    return order


def rewrite(outputs: list[Value], rule: Callable) -> list[Value]:
    """`rule(v, ins)` gives the value that replaces v, whose operands are already replaced by `ins`."""
    new: dict[int, Value] = {}
    order = topological(outputs)
    for v in order:
        ins = v.ins
        for x in ins:
            if x.__class__ is Value and new[id(x)] is not x:
                ins = tuple([new[id(x)] if x.__class__ is Value else x for x in ins])
                break
        new[id(v)] = v if v.op is None else rule(v, ins)
    return [new[id(v)] for v in outputs]


def replaced(v: Value, ins: tuple) -> Value:
    """v with other operands."""
    return v if ins is v.ins else Value(v.op, ins, v.attr, v.dtype, v.shape)


def expand(outputs: list[Value]) -> list[Value]:
    """Composite rows, expanded."""
    def rule(v, ins):
        if v.op.kind != "composite": return replaced(v, ins)
        out = v.op.expand(v.attr, *(Expr(x) if x.__class__ is Value else Number(x) for x in ins)).value
        if out.dtype is not v.dtype or out.shape != v.shape:
            raise TypeError(f"row {v.op} promises {v.dtype.name}{list(v.shape)} and expands to {out.dtype.name}{list(out.shape)}")
        return out
    return rewrite(outputs, rule)


def share(outputs: list[Value]) -> list[Value]:
    """Common subexpressions, by hash-consing. Random rows share only as the object they are."""
    seen: dict = {}

    def rule(v, ins):
        v = replaced(v, ins)
        if v.op.kind in UNSHARED or "random" in v.op.name or getattr(v.op, "random", False): return v
        key = (v.op, tuple([_exact(x) for x in ins]), repr(v.attr) if v.op.name in ("full", "iota") else v.attr, v.dtype, v.shape)
        try: return seen.setdefault(key, v)
        except TypeError: return v                # an attribute that can't be hashed
    return rewrite(outputs, rule)


def _exact(x):
    """A number equals only itself: 0.0, -0.0, 0 and False are four."""
    return id(x) if x.__class__ is Value else (x.index, x.type) if x.__class__ is Scalar else repr(x) if x.__class__ is Literal else x
