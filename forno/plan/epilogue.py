"""Elementwise chains that run on the tiles of a matrix product or a convolution before they leave the nearest cache.

Comes in: tasks, and a predicate of the kernel floor that tells which kernels with such a chain it can build. Goes out: the tasks, where a
product that only one loop nest reads has taken that nest in as `epilogue`. The product itself is then never in memory. A nest that only copies a matrix
product to other strides (heads back into rows, a slice of a concatenation) needs no epilogue: the product is written there.
"""
from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from ..core.graph import Value
from ..core.kernels import Apply, Cast, Conv, Gemm, Load, Matrix, Nest, Number, Operand, Store
from ..core.op import TABLE
from ..core.shape import contiguous
from . import frame
from .loops import Draft
from .order import Task

MAX_BODY, MAX_OPERANDS = 48, 12                   # a tile's rows wait in registers while the body runs


def epilogues(tasks: list[Task], owned: set[int], accepts: Callable[[Gemm | Conv], bool] | None, unfolded: Callable[[Value], Gemm]) -> list[Task]:
    """`unfolded`: the product of a value with every batch axis by itself, for chains that tell them apart."""
    readers: dict[int, list[Task]] = {}
    for t in tasks:
        for x in {id(x): x for x in t.reads()}: readers.setdefault(x, []).append(t)
    gone: dict[int, Task] = {}
    for product in tasks:
        if product.kernel.__class__ not in (Gemm, Conv): continue
        v = product.operands[2]
        if v.op.name not in ("matmul", "conv") or id(v) in owned or len(readers.get(id(v), ())) != 1: continue
        chain = readers[id(v)][0]
        if chain.kernel.__class__ is not Draft or id(chain) in gone or chain.kernel.window or "rw" in chain.modes: continue
        if [t for x, t in zip(chain.operands, chain.kernel.dtypes) if x is v] != [v.dtype]: continue     # its bytes are read as another type
        if v.op.name == "conv": made = with_chain(product, chain, v)
        else: made = taken_in(product.kernel, chain, v) or taken_in(unfolded(v), chain, v)
        if made is None or made[0].epilogue is not None and (accepts is None or not accepts(made[0])): continue
        kernel, operands = made
        gone[id(product)] = chain
        chain.kernel, chain.operands, chain.modes = kernel, product.operands[:2] + operands, [o.mode for o in kernel.operands]
        chain.after = (chain.after | product.after) - {product}
        if kernel.epilogue: chain.label, chain.reason = f"{product.label}+{chain.label}", f"a product and its only reader ({chain.reason})"
        else: chain.label, chain.reason = product.label, f"a product, written where it is wanted ({chain.reason})"
        chain.copies = False
        for x in product.operands[:2]: readers[id(x)] = [chain if t is product else t for t in readers[id(x)]]
    return [t for t in tasks if id(t) not in gone]


def taken_in(g: Gemm, chain: Task, v: Value) -> tuple[Gemm, list] | None:
    """The product with this chain as its epilogue, and the operands that follow a and b; None if the chain's indices aren't the product's."""
    lengths = (*g.batch, g.m, g.n)
    made = chain_over(lengths, chain, v)
    if made is None: return None
    operands, body, values = made
    first = next(e for e in body if e.__class__ is Store and e.operand == 1)
    c = Matrix(first.dtype, first.strides[:-2], *first.strides[-2:], first.offset)
    if len(body) == 2 and 1 not in (c.rows, c.cols): return None      # single elements leave faster from a loop of their own
    epilogue = None if len(body) == 2 else Nest(lengths, (), operands, body, chain.label)
    return replace(g, c=c, operands=(*g.operands[:2], *operands[1:]), epilogue=epilogue), values


def with_chain(product: Task, chain: Task, v: Value) -> tuple[Conv, list] | None:
    """The same for a convolution, whose result lies as it always does. Its bias becomes the chain's first step."""
    c = product.kernel
    lengths = c.n, c.k, math.prod(c.out)
    made = chain_over(lengths, chain, v, in_order=True)
    if made is None or len(made[1]) == 2: return None
    operands, body, values = made
    if c.bias:
        at = next(i for i, e in enumerate(body) if e.__class__ is Load and e.operand == 0)
        biased = Load(len(operands), v.dtype, (0, 1, 0)), Apply(TABLE["add"], (at, at + 1), v.dtype)
        body = (*body[:at + 1], *biased, *[later(e, at) for e in body[at + 1:]])
        operands, values = (*operands, c.operands[3]), [*values, product.operands[3]]
    return replace(c, bias=False, operands=(*c.operands[:2], *operands[1:]), epilogue=Nest(lengths, (), operands, body, chain.label)), values


def later(e, at: int):
    """A body's entry when two more stand behind entry `at`, of which the second stands for it."""
    def moved(i): return i + 2 if i >= at else i
    if e.__class__ is Apply: return replace(e, args=tuple(map(moved, e.args)))
    return replace(e, arg=moved(e.arg)) if e.__class__ in (Cast, Store) else e


def chain_over(lengths, chain: Task, v: Value, in_order=False):
    """(operands, body, values of all operands but the product) of a chain, by the product's axes: the product is operand 0; operand 1 is a result that can hold
    partial sums, `in_order`: one that lies as the product does. None if there is none, or if the chain's indices aren't the product's."""
    draft = chain.kernel
    if len(draft.body) > MAX_BODY or len(draft.operands) > MAX_OPERANDS or math.prod(draft.axes) != math.prod(lengths): return None
    product = next(i for i, x in enumerate(draft.operands) if x is v)
    seen = next(e for e in draft.body if e.__class__ is Load and e.operand == product).strides
    order = sorted(range(len(seen)), key=lambda d: -seen[d])           # the nest's axes in the order of the product's
    axes = [draft.axes[d] for d in order]
    own, body = contiguous(lengths), []

    def elsewhere(e): return e.offset or any([s != c for s, c, n in zip(e.strides, own, lengths) if n > 1])
    for e in draft.body:
        if e.__class__ in (Load, Store):
            strides = regroup(axes, [e.strides[d] for d in order], lengths)
            if strides is None: return None
            e = replace(e, strides=strides)
            if e.__class__ is Load and e.operand == product and elsewhere(e): return None
        elif e.__class__.__name__ == "Index": return None
        body.append(e)
    stores = [e for e in body if e.__class__ is Store and [s.operand for s in body if s.__class__ is Store].count(e.operand) == 1]
    if in_order: stores = [e for e in stores if e.dtype is v.dtype and not elsewhere(e)]
    if not stores: return None
    first = max(stores, key=lambda e: (e.dtype is v.dtype, e.strides[-1] == 1))          # partial sums can wait in such memory
    kept = [i for i, m in enumerate(draft.modes) if m and i not in (product, first.operand)]
    order = [product, first.operand, *kept]
    at = {old: new for new, old in enumerate(order)}
    body = tuple([replace(e, operand=at[e.operand]) if e.__class__ in (Load, Store, Number) else e for e in body])
    operands = tuple([Operand(draft.dtypes[i], draft.modes[i]) for i in order])
    return operands, body, [draft.operands[i] for i in order[1:]]


def regroup(axes, strides, lengths) -> tuple[int, ...] | None:
    """An access by `axes`, by other axes over the same positions; None if it isn't affine by those."""
    fine = frame.meet(frame.cuts_of(axes), frame.cuts_of(lengths))
    if fine is None: return None
    base, low = [], 1                             # [low, high, stride] of the old axes, innermost first
    for n, s in zip(reversed(axes), reversed(strides)):
        if n != 1: base.append((low, low * n, s)); low *= n
    steps, last = {}, 1
    for c in fine:
        lo, _, s = next(b for b in base if b[0] <= last < b[1])
        steps[last] = (c, s * (last // lo))
        last = c
    out, low = [], 1
    for n in reversed(lengths):
        if n == 1: out.append(1 if not out else 0); continue
        high, stride, at = low * n, steps[low][1], low
        while at < high:
            c, s = steps[at]
            if s != stride * (at // low): return None
            at = c
        out.append(stride)
        low = high
    return tuple(reversed(out))
