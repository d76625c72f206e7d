"""The rules every plan keeps, checked one by one (FORNO_CHECK=1). Comes in: a graph and its plan. Goes out: nothing, or PlanError."""
from __future__ import annotations

import itertools
import math

from ..core import kernels as k
from ..core.graph import Graph
from ..core.plan import Plan, Step
from ..core.shape import View, reach, whole


class PlanError(AssertionError):
    """A plan that breaks a rule; a fault of the planner, never of the program."""


def verify(graph: Graph, plan: Plan):
    sizes = {("in", v.number): (reach(v.view or whole(v.shape))[1] + 1) * v.dtype.size for v in graph.inputs}
    sizes.update({("out", i): o.nbytes for i, o in enumerate(plan.outs)})
    written: list[tuple] = []                     # arena ranges (low, high) that hold something; high None: unknown
    filled: set[int] = set()                      # outputs that do
    taken = {o.source.index for o in plan.outs if o.kind == "donated"}
    for number, step in enumerate(plan.steps):
        try: check(step, sizes, plan.arena, written, filled, taken)
        except PlanError as e: raise PlanError(f"step {number}, {step.kernel.label}: {e}\n{plan}") from None
    for i, (o, v) in enumerate(zip(plan.outs, graph.outputs)):
        need(o.kind != "fresh" or i in filled or 0 in v.shape, f"output {i} is never written")
        if o.kind == "donated":
            need(o.source.index in graph.donated and (o.view is not None or o.nbytes == math.prod(v.shape) * v.dtype.size), f"output {i} may not have its buffer")
        need(o.kind != "alias" or o.view.shape == v.shape, f"output {i} is a view of another shape")


def need(rule: bool, text: str):
    if not rule: raise PlanError(text)


def check(step: Step, sizes, arena: int, written, filled, taken):
    kernel = step.kernel
    need(len(kernel.operands) == len(step.places), "operands and places differ in number")
    spans = []
    for i, (o, p) in enumerate(zip(kernel.operands, step.places)):
        need((o.mode == "n") == (p.kind == "number") and o.mode in ("r", "w", "rw", "n"), f"operand {i} has mode '{o.mode}' in {p.kind}")
        if o.mode == "n": continue
        ends = bytes_of(kernel, i) * o.dtype.size
        if p.kind == "arena":
            need(p.index % 64 == 0 and p.index + ends <= arena, f"operand {i} reaches byte {p.index + ends} of an arena of {arena}")
            held = (p.index, None) in written or not ends or any([hi is not None and lo <= p.index and p.index + ends <= hi for lo, hi in written])
            need("r" not in o.mode or held, f"operand {i} is read before it is written")
            spans.append((i, "arena", p.index, p.index + ends, "w" in o.mode))
        else:
            need(ends <= sizes[p], f"operand {i} reaches byte {ends} of {sizes[p]} in {p.kind} {p.index}")
            need(p.kind != "in" or "w" not in o.mode or p.index in taken, f"operand {i} writes input {p.index}, which isn't donated")
            need(p.kind != "out" or "r" not in o.mode or p.index in filled, f"operand {i} is read before it is written")
            spans.append((i, p, 0, ends, "w" in o.mode))
    for (i, a, lo, hi, w), (j, b, lo2, hi2, w2) in itertools.combinations(spans, 2):
        need(a != b or not (w or w2) or hi <= lo2 or hi2 <= lo, f"operands {i} and {j} share memory, and one is written")
    for _, p, lo, hi, w in spans:
        if w and p == "arena" and isinstance(kernel, k.Native): written.append((lo, None))             # its size is the routine's affair
        elif w and p == "arena": hold(written, lo, hi)
        elif w and p.kind == "out": filled.add(p.index)


def hold(written: list, lo: int, hi: int):
    """Join a range to those that hold something."""
    for a, b in [r for r in written if r[1] is not None and r[0] <= hi and lo <= r[1]]:
        written.remove((a, b))
        lo, hi = min(a, lo), max(b, hi)
    written.append((lo, hi))


def bytes_of(kernel, i: int) -> int:
    """Elements of operand i that the kernel may touch, counted from its start (0 where the noun doesn't tell)."""
    if isinstance(kernel, k.Nest): return touched(kernel, i)
    if isinstance(kernel, k.Gemm):
        if kernel.epilogue is not None and i > 1: return touched(kernel.epilogue, i - 1)
        m, shape = ((kernel.a, (kernel.m, kernel.k)), (kernel.b, (kernel.k, kernel.n)), (kernel.c, (kernel.m, kernel.n)))[i]
        return reach(View((*kernel.batch, *shape), (*m.batch, m.rows, m.cols), m.offset))[1] + 1
    if isinstance(kernel, k.Conv):
        if kernel.epilogue is not None and i > 1: return touched(kernel.epilogue, i - 1)
        x, w = kernel.n * kernel.c * math.prod(kernel.size), kernel.k * (kernel.c // kernel.groups) * math.prod(kernel.taps)
        y = kernel.n * kernel.k * math.prod(kernel.out)
        return {"forward": (x, w, y, kernel.k), "input": (y, w, x), "weight": (y, x, w)}[kernel.which][i]
    if isinstance(kernel, k.Host): return math.prod(kernel.views[i].shape)
    return 0


def touched(nest: k.Nest, i: int) -> int:
    lengths = (*nest.axes, *nest.window)
    mine = [e for e in nest.body if e.__class__ in (k.Load, k.Store) and e.operand == i]
    return max([reach(View(lengths, e.strides, e.offset))[1] + 1 for e in mine], default=0)
