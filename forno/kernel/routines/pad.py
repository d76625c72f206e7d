"""Padding with the value's own elements (`dnn/pad.py`), one row of the result after the other.

  words: per axis the result's length, the operand's, and how much stands before; then of the last axis: elements before its middle, elements of the
         middle, where the middle starts in the operand; then how many rows there are

Rows are shared among threads. The middle of a row is copied in vectors; the elements around it are folded back one by one.
"""
from __future__ import annotations

from ...core import dtype as dt
from ...core.kernels import Launch, Native
from ...cpu import isa
from .code import Code, X
from .index import Words, launch, program, sweep, walk_rows

_RAW = {1: dt.uint8, 2: dt.uint16, 4: dt.uint32, 8: dt.uint64}


def _folded(c: Code, name: str, t: X, n: X) -> X:
    """The position on an axis of length n that position t stands for."""
    if name == "circular_pad": return t + (t < 0).where(n, c.const(0)) - (t >= n).where(n, c.const(0))
    if name == "reflection_pad":
        t = t.max(-t)
        t = (t < n).where(t, (n - 1) * 2 - t)
    return t.max(c.const(0)).min(n - 1)


def _pad(c: Code, name: str, rank: int, t):
    x, out, words = c.operand(0), c.operand(1), Words(c, 2)
    axes = [words(3) for _ in range(rank)]
    before, count, start, rows = words(4)
    length, n, low = axes.pop()
    lo, hi = c.share(rows)

    def row(place: X, base: X):
        """Row number `place` of the result, from the operand's elements at `base`."""
        to, source = c.at(out, place * length, t), c.at(x, base, t)

        def copy(i, width): c.store(c.load(source, t, start + i, width), to, before + i)
        sweep(c, 0, count, max(1, isa.vector_bytes // t.size) if t.size <= 8 else 1, copy)
        for first, last in ((c.const(0), before), (before + count, length)):
            with c.loop(first, last) as j: c.store(c.load(source, t, _folded(c, name, j - low, n)), to, j)
    if not axes: return _alone(c, lo, hi, row)

    def part(first: X, begin: X, end: X, base: list[X]):
        """Rows of one plane, whose number is a row's number by the rows of a plane."""
        plane, offset, step = (first + begin) // axes[-1][0], c.const(0), c.const(1)
        for k in range(len(axes) - 2, -1, -1):
            size, own, less = axes[k]
            offset, step, plane = offset + _folded(c, name, plane % size - less, own) * step, step * own, plane // size
        _, own, less = axes[-1]
        with c.loop(begin, end) as j: row(first + j, (offset * own + _folded(c, name, j - less, own)) * n)
    walk_rows(c, [size for size, *_ in axes], [[c.const(0) for _ in axes]], lo, hi, part)


def _alone(c: Code, lo: X, hi: X, row):
    with c.loop(lo, hi) as j: row(j, c.const(0))


def pad(n: Native) -> Launch:
    name, rank, t = n.spec
    return launch(n, program("pad", _pad, name, rank, _RAW.get(t.size, t)), n.words)


ROUTINES = {"pad": pad}
