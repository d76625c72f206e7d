"""Attention of one query per head, as a text is written: keys and values are read once, where they lie, at memory's speed.

Comes in: what kernel/attention.py is given, with a single query, keys and values contiguous along their features, and nothing to be saved. Goes out: a Launch.
Scores are products of one row (kernel/gemv.py), keys along the lanes; softmax is a pass over them; the result is another product of one row.
"""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..core.kernels import Launch, Native
from ..core.kernels import Program as Code
from ..cpu import code
from .gemm import PARALLEL_FLOPS
from .gemv import AT_ONCE, batch_offsets, write_columns, write_rows
from .tile import Int, Program, Tile, accumulator, entry, tile

INF = float("inf")
OPERANDS = "q k v m".split()
WORDS = "driver items keys depth width scale rank at_scores at_sums".split()          # then what the Native says of operands and axes


def accepts(which: str, given: dict, where: dict) -> bool:
    return which == "forward" and given["queries"] == 1 and not given["saved"] and not given["causal"] and where["k"][2] == where["v"][2] == 1


def build(n: Native, given: dict, where: dict, axes) -> Launch:
    """`where`: (offset, row stride, column stride) of every operand; `axes`: (length, one stride per operand) of every batch axis."""
    _, stored, mask = n.spec
    t, items = tile(accumulator(stored)), math.prod(axes[::len(where) + 1])
    room = [-(-size // t.lanes) * t.lanes + t.lanes for size in (given["depth"], given["keys"] + AT_ONCE, given["width"])]       # whole vectors are written
    values = dict(given, driver=driver(stored, mask)[0], items=items, at_scores=room[0], at_sums=room[0] + room[1])
    address, text = entry(len(n.operands))
    flops = 2 * items * given["keys"] * (given["depth"] + given["width"])
    return Launch(Code("attention", address, text), (*(values[x] for x in WORDS), *(x for place in where.values() for x in place), *axes),
                  flops > PARALLEL_FLOPS, scratch=sum(room) * t.acc.size, bytes=n.work, flops=flops)


@code.program("main")
def driver(stored: dt.dtype, mask: dt.dtype | None) -> str:
    """main(ctx, vals, words, w): w are WORDS."""
    p, t = Program(), tile(accumulator(stored))
    T, names = t.acc, OPERANDS if mask is not None else OPERANDS[:3]
    write_rows(p, stored, t)
    write_columns(p, stored, t)
    with p.define("main", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W = {name: p.read(w, i) for i, name in enumerate(WORDS) if name != "scale"}
        scale = p.cast(p.load(p.offset(w, WORDS.index("scale"), dt.int64), dt.float64), T)
        start, row, col = ({name: p.read(w, len(WORDS) + 3 * i + part) for i, name in enumerate(names)} for part in range(3))
        base = {name: p.read_pointer(vals, p.read(words, i)) for i, name in enumerate(names)}
        result = p.read_pointer(vals, p.read(words, len(names)))
        query = p.read_pointer(ctx, 2)
        scores, sums = (p.offset(query, W[x], T) for x in ("at_scores", "at_sums"))
        lo, hi = p.mine(ctx, W["items"])
        with p.loop(lo, hi) as item:
            places = batch_offsets(p, p.offset(w, len(WORDS) + 3 * len(names), dt.int64), W["rank"], item, list(start.values()))
            x = {name: p.offset(base[name], at, mask if name == "m" else stored) for name, at in zip(names, places)}
            with p.loop(0, W["depth"]) as i:
                p.store(p.mul(p.cast(p.load(p.offset(x["q"], i * col["q"], stored), stored), T), scale), p.offset(query, i, T))
            p.run("columns", query, x["k"], row["k"], scores, W["keys"], W["depth"])
            if mask is not None: _hide(p, t, scores, x["m"], col["m"], mask, W["keys"])
            total = _soften(p, t, scores, W["keys"])
            p.run("rows", scores, x["v"], row["v"], sums, W["width"], W["keys"])
            share = p.splat(p.select(p.eq(total, 0.0), p.const(0, T), p.div(1.0, total)), t.lanes)             # every key is masked: zeros
            with p.loop(0, W["width"], t.lanes) as j:
                out = p.offset(result, item * W["width"] + j, T)
                p.store_masked(p.mul(p.load(p.offset(sums, j, T), T, t.lanes), share), out, p.mask(p.min(W["width"] - j, t.lanes), t.lanes))
    return p.module()


def _hide(p: Program, t: Tile, scores, at, step: Int, mask: dt.dtype, keys: Int):
    """A mask on the scores: added, or -inf where a boolean one is False."""
    T = t.acc
    with p.loop(0, keys) as j:
        place, m = p.offset(scores, j, T), p.cast(p.load(p.offset(at, j * step, mask), mask), T)
        s = p.load(place, T)
        p.store(p.select(p.eq(m, 0.0), p.const(-INF, T), s) if mask is dt.bool else p.add(s, m), place)


def _soften(p: Program, t: Tile, scores, keys: Int):
    """Scores to exp(score - maximum); their sum."""
    T, L = t.acc, t.lanes
    def higher(a, b): return p.select(p.gt(a, b), a, b)
    best = p.variable(p.const(-INF, T, L))
    with p.loop(0, keys, L) as j:
        s = p.select(p.mask(p.min(keys - j, L), L), p.load(p.offset(scores, j, T), T, L), p.const(-INF, T, L))           # beyond the last key: nothing
        p.store(s, p.offset(scores, j, T))
        p.set(best, higher(s, p.get(best)))
    top = p.reduce(p.get(best), higher)
    shift = p.splat(p.select(p.eq(top, -INF), p.const(0, T), top), L)
    sums = p.variable(p.const(0, T, L))
    with p.loop(0, keys, L) as j:
        e = p.exp(p.sub(p.load(p.offset(scores, j, T), T, L), shift))
        p.store(e, p.offset(scores, j, T))
        p.set(sums, p.add(p.get(sums), e))
    return p.reduce(p.get(sums), p.add)
