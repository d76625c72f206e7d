"""Graph in, graph out: a sum of matrix products is one product of what they are made of, put side by side.

A weight used at every step of a recurrence gets a gradient per step: h₁ᵀg₁ + h₂ᵀg₂ + … is (h₁; h₂; …)ᵀ (g₁; g₂; …). The result is written once instead of once per
step, and the long product runs at full speed; only rounding differs. A rule of its own, because `simplify` keeps every bit.
"""
from __future__ import annotations

from ..core.graph import Value
from ..core.op import TABLE
from ..core.shape import View, contiguous
from .expand import replaced, rewrite, share, topological
from .simplify import make, plus_zero
from .values import ASSEMBLE, Literal

FEW = 3                                           # products; fewer are left to their epilogues


def gather_products(outputs: list[Value]) -> list[Value]:
    order = topological(outputs)
    uses: dict[int, int] = {}
    for x in (*outputs, *[x for v in order for x in v.ins if x.__class__ is Value]): uses[id(x)] = uses.get(id(x), 0) + 1
    inner = {id(x) for v in order if is_sum(v) for x in v.ins if is_sum(x) and uses[id(x)] == 1}
    sums = {}
    for v in order:
        if is_sum(v) and id(v) not in inner and (kinds := kinds_of(terms_of(v, inner), uses)) is not None: sums[id(v)] = kinds
    if not sums: return outputs
    made: dict[int, Value] = {}

    def new(x): return made.get(id(x), x)

    def rule(v, ins):
        out = made[id(v)] = together(v, *sums[id(v)], new) if id(v) in sums else replaced(v, ins)
        return out
    return share(rewrite(outputs, rule))


def is_sum(v) -> bool:
    """Two values of the sum's own shape and type."""
    return v.__class__ is Value and v.op is not None and v.op.name == "add" and len(v.ins) == 2 and all([
        x.__class__ is Value and x.shape == v.shape and x.dtype is v.dtype for x in v.ins])


def terms_of(v: Value, inner: set[int]) -> list[Value]:
    """A chain's terms, the first one added first."""
    out, stack = [], [v]
    while stack:
        x = stack.pop()
        if x is v or id(x) in inner: stack.extend(x.ins[::-1])
        else: out.append(x)
    return out


def kinds_of(terms: list[Value], uses: dict[int, int]):
    """Products that are worth gathering, by (is the term the product's transpose, the product's shape), and the other terms; None if there are none."""
    kinds: dict = {}
    for x in terms if len(terms) >= FEW else ():
        p, turned = (x.ins[0], True) if is_turned(x) else (x, False)
        if uses[id(x)] == uses[id(p)] == 1 and p.op is not None and p.op.name == "matmul" and all([len(y.shape) == 2 for y in (p, *p.ins)]):
            kinds.setdefault((turned, p.shape), []).append((x, p))
    for (turned, (m, n)), found in list(kinds.items()):
        depth = sum([p.ins[0].shape[1] for _, p in found])
        if len(found) < FEW or depth * (m + n) > (len(found) - 1) * m * n: del kinds[turned, (m, n)]           # copies cost more than sums
    gathered = {id(x) for found in kinds.values() for x, _ in found}
    return (kinds, [x for x in terms if id(x) not in gathered]) if kinds else None


def together(v: Value, kinds: dict, rest: list[Value], new) -> Value:
    """The sum v with one product per kind. `new`: what stands for a value now."""
    terms = list(map(new, rest))
    for (turned, shape), found in kinds.items():
        found = found[::-1]                       # gradients are summed from the last step to the first
        a = stacked([transposed(new(p.ins[0])) for _, p in found])           # (depth, m)
        b = stacked([new(p.ins[1]) for _, p in found])                       # (depth, n)
        total = Value(TABLE["matmul"], (transposed(a), b), None, v.dtype, shape)
        terms.append(transposed(total) if turned else total)
    out, *more = terms
    for x in more: out = Value(v.op, (out, x), None, v.dtype, v.shape)
    return out


def is_turned(x: Value) -> bool:
    """A matrix seen as its transpose."""
    return x.op is not None and x.op.name == "view" and len(x.shape) == 2 and x.ins[0].shape == x.shape[::-1] and x.attr == View(x.shape, (1, x.shape[0]), 0)


def transposed(x: Value) -> Value: return make("view", x, attr=View(x.shape[::-1], (1, x.shape[1]), 0), shape=x.shape[::-1])


def stacked(xs: list[Value]) -> Value:
    """Matrices of as many columns below each other: a view if they lie like that, else written into one buffer."""
    (count, n), rows = xs[0].shape, sum([x.shape[0] for x in xs])
    first = xs[0]
    if first.op is not None and first.op.name == "view" and first.attr.strides == (n, 1):
        root, start = first.ins[0], first.attr.offset
        if all([x.op is not None and x.op.name == "view" and x.ins[0] is root and x.attr == View((count, n), (n, 1), start + i * count * n) for i, x in enumerate(xs)]):
            return make("view", root, attr=View((rows, n), (n, 1), start), shape=(rows, n))
    windows, at = [], 0
    for x in xs:
        windows.append(View(x.shape, (n, 1), at))
        at += x.shape[0] * n
    shape = (len(xs), count, n) if rows == len(xs) * count and all([x.shape[0] == count for x in xs]) else (rows, n)
    # adding 0 makes the same value of it that the gradient of a stack is (simplify's `add`)
    pieces = tuple([x if plus_zero(x) else Value(TABLE["add"], (x, Literal(0)), None, x.dtype, x.shape) for x in xs])
    out = Value(ASSEMBLE, pieces, tuple(windows), first.dtype, shape)
    return make("view", out, attr=View((rows, n), contiguous((rows, n)), 0), shape=(rows, n))
