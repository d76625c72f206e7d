"""Padding with the value's own elements: reflection_pad, replication_pad, circular_pad.

attr = (low, high) per axis: how many elements are put before and behind it; negative amounts cut. An element of the result at place j along an axis comes
from position j - low, which is folded back where it lies before or behind the axis. The kernel walks rows of the result: `spans` says which part of a
row is which. What was cut is still reflected, so a caller who wants it gone narrows first, as PyTorch's circular padding does.

The gradient is that of every axis in turn: the middle, and the parts around it added where they came from.
"""
from __future__ import annotations

import math

import numpy as np

from ..core.kernels import Native, Operand
from ..core.op import Routine
from ..core.shape import View, contiguous, follows
from .movement import put, view

# where position t of an axis of length n, which lies before it or behind it, has its element; in NumPy, and as the kernel does it
FOLDS = dict(reflection_pad=lambda t, n: np.where(abs(t) < n, abs(t), 2 * (n - 1) - t), replication_pad=lambda t, n: np.clip(t, 0, n - 1), circular_pad=lambda t, n: t % max(n, 1))

REACH = dict(reflection_pad=1, replication_pad=-math.inf, circular_pad=0)      # how many elements of an axis the padding on one side must leave


def spans(n, low, high) -> tuple[range, range, range]:
    """Positions that the result has before an axis of length n, on it, behind it."""
    first, end = -low, n + high
    return range(first, min(0, end)), range(max(first, 0), min(n, end)), range(max(first, n), end)


def canonical(shape, amounts) -> list[tuple[int, int, int]]:
    """(length, low, high) per axis; neighbours that aren't padded are one."""
    out: list[tuple[int, int, int]] = []
    for n, (low, high) in zip(shape, amounts):
        if not low and not high and out and not out[-1][1] and not out[-1][2]: out[-1] = out[-1][0] * n, 0, 0
        else: out.append((n, low, high))
    return out


def _row(name) -> Routine:
    fold = FOLDS[name]

    def infer(amounts, x):
        shape = tuple([n + low + high for n, (low, high) in zip(x.shape, amounts)])
        for axis, (n, (low, high)) in enumerate(zip(x.shape, amounts)):
            if max(low, high) > (n - REACH[name] if n else 0) and max(low, high) > 0 and 0 not in shape:
                raise RuntimeError(f"{name}: padding ({low}, {high}) of axis {axis} is more than its {n} elements can give; pad in several steps")
        return x.dtype, shape

    def oracle(amounts, x):
        for axis, (low, high) in enumerate(amounts):
            if low or high: x = np.take(x, fold(np.arange(-low, x.shape[axis] + high), x.shape[axis]), axis)
        return x

    def plan(amounts, result, x):
        axes = canonical(x.shape, amounts)
        left, middle, right = spans(*axes[-1])
        words = [w for n, low, high in axes for w in (n + low + high, n, low)] + [len(left), len(middle), middle.start, math.prod([n + low + high for n, low, high in axes[:-1]])]
        return Native("pad", (name, len(axes), x.dtype), tuple(words), (Operand(x.dtype, "r"), Operand(x.dtype, "w")), math.prod(result.shape), name)

    def grad(g, o, x, attr):
        for axis, (low, high) in enumerate(attr):
            if low or high: g = _axis_grad(name, g, axis, x.shape[axis], low, high)
        return g
    return Routine(name, infer, (grad,), "", oracle, plan=plan, layout=None if name == "circular_pad" else follows)


def _axis_grad(name, g, axis, n, low, high):
    shape = (*g.shape[:axis], n, *g.shape[axis + 1:])
    steps = contiguous(shape)

    def placed(part, start):                   # zeros, and the part from `start` on
        return g.filled(shape, 0, g.dtype).row(put, part, attr=View(tuple(part.shape), steps, start * steps[axis]))

    def turned(part):
        at = contiguous(part.shape)
        return part.row(view, attr=View(tuple(part.shape), (*at[:axis], -at[axis], *at[axis + 1:]), (part.shape[axis] - 1) * at[axis]))

    def around(span, part):
        if name == "replication_pad": return placed(part.sum((axis,), True), 0 if span.start < 0 else n - 1)
        if name == "circular_pad": return placed(part, span.start % n)
        return placed(turned(part), -span[-1] if span.start < 0 else 2 * (n - 1) - span[-1])
    left, middle, right = spans(n, low, high)
    out, k = None, 0
    for span in (left, middle, right):
        if len(span):
            part = g.narrow(axis, k, len(span))
            part = placed(part, span.start) if span is middle else around(span, part)
            out = part if out is None else out + part
        k += len(span)
    return g.filled(shape, 0, g.dtype) if out is None else out


reflection_pad, replication_pad, circular_pad = (_row(name) for name in FOLDS)
