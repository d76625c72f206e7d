"""Ordering lines on a GPU: argsort, the k smallest, order statistics, the commonest value, binary search.

Comes in: Natives whose words begin with (outer, n, inner): element (o, i, j) of x lies at (o·n + i)·inner + j, lines run along i. Goes out: DeviceLaunches.

Lines are sorted whole (`order`), equal elements in their order, and what is asked for is picked. A search has a thread per value.
"""
from __future__ import annotations

from ....core import dtype as dt
from ....core.errors import unsupported
from ....core.kernels import DeviceLaunch, Native
from ....cpu.isa import Isa
from ...routines.code import X
from ...routines.sort import _search, key, key_type
from . import order as engine
from .code import THREADS, Device, blocks, chain, stage

FAR = (1 << 32) - 1
GIVEN = 4                                      # words of a Native here


def _keys(c: Device, k: dt.dtype, t: dt.dtype, descending: bool):
    """The source: keys of x's lines."""
    x, n, inner = c.operand(0), c.word(3), c.word(4)

    def make(line: X, i: X) -> tuple[X, X]: return key(c.load(x, t, (line // inner * n + i) * inner + line % inner), t, descending), i
    return make


def sorted_lines(n: Native, isa: Isa, t: dt.dtype, descending: bool, keep: int = engine.TILE) -> engine.Sort:
    outer, size, inner, _ = n.words
    if size > FAR: raise unsupported(f"{n.label} of {size} elements along one axis", t, "cuda", "split it")
    return engine.Sort(n, isa, _keys, (t, descending), key_type(t), n.words, outer * inner, size, keep)


# ---- order: operands x, positions (outer, k, inner) int64; spec = (dtype, descending, how); words (outer, n, inner, k)
def _first(c: Device, t: dt.dtype, first: int, turn: int):
    """The positions of every line's k first elements."""
    out, inner, k = c.operand(1), c.word(4), c.word(5)
    lines = engine.Lines(c, key_type(t), first, turn)
    with c.each(lines.count * k) as e:
        rest, j = e // inner, e % inner
        line = rest // k * inner + j
        c.store(lines.place(line * lines.n + rest % k), out, e)


def order(n: Native, isa: Isa) -> DeviceLaunch:
    outer, _, inner, k = n.words
    sort = sorted_lines(n, isa, *n.spec[:2], max(k, 1))
    return chain([*sort.stages, stage(n, isa, _first, (n.spec[0], sort.first, sort.turn), sort.words, blocks(outer * inner * k))], sort.scratch)


# ---- statistic: operands x, position (outer, inner) int64; spec = (dtype, 'kth' | 'median' | 'nanmedian' | 'mode'); words (outer, n, inner, k)
def _pick(c: Device, t: dt.dtype, what: str, turn: int):
    """A thread per line: the place in order that is asked for."""
    out, lines = c.operand(1), engine.Lines(c, key_type(t), GIVEN, turn)
    with c.each(lines.count) as line:
        at = c.word(5)
        if what != "kth":
            numbers = lines.below(line, lines.n, c.const(-1, lines.k)) if t.is_floating_point else lines.n       # NaN sorts last
            if what == "median": at = (numbers < lines.n).where(numbers, (lines.n - 1) >> 1)
            else: at = ((numbers - 1) >> 1).max(0)
        c.store(lines.place(line * lines.n + at), out, line)


def _larger(a: tuple, b: tuple) -> tuple: return a[0].max(b[0]),


def _commonest(c: Device, t: dt.dtype, turn: int):
    """A block per line: the end of the longest run of equal keys, the first of several."""
    out, lines, room = c.operand(1), engine.Lines(c, key_type(t), GIVEN, turn), c.room(16 * THREADS // 32)
    with c.each_block(lines.count) as line:
        best = c.var(c.const(0, dt.uint64))
        with c.across(lines.n) as i:
            run = i + 1 - lines.below(line, i, lines.key(line * lines.n + i))
            score = (run.bits(dt.uint64) << 32) | (FAR - i).bits(dt.uint64)
            best.set(best.now.max(score))
        _, (top,) = c.block_scan((best.now,), _larger, (c.const(0, dt.uint64),), room)
        with c.when(c.thread.eq(0)): c.store(lines.place(line * lines.n + (FAR - (top & FAR).bits(dt.int64))), out, line)


def statistic(n: Native, isa: Isa) -> DeviceLaunch:
    (t, what), (outer, _, inner, _) = n.spec, n.words
    sort, count = sorted_lines(n, isa, t, False), outer * inner
    if what == "mode": last = stage(n, isa, _commonest, (t, sort.turn), sort.words, min(count, 1 << 20))
    else: last = stage(n, isa, _pick, (t, what, sort.turn), sort.words, blocks(count))
    return chain([*sort.stages, last], sort.scratch)


# ---- search: as on the CPU, a value per thread
def search(n: Native, isa: Isa) -> DeviceLaunch:
    count, _, each, _ = n.words
    return stage(n, isa, _search, n.spec, n.words, -(-count * each // THREADS))


ROUTINES = {f.__name__: f for f in (order, statistic, search)}
