"""Attention as one kernel: softmax(scale · Q Kᵀ + mask) V and its three gradients, without a matrix of scores in memory.

Comes in: a Native of dnn/attention.py, whose words say where operands lie (any strides). Goes out: a Launch.

Scores are made transposed, a tile of [keys][queries] at a time: queries run along the lanes, so that a softmax over keys is plain vector arithmetic, keys
and values are the direct operand of the register tiles (nothing but Q is packed), and what one product writes the next one reads as its panel:

    forward    Sᵀ = K Qᵀ;  running maximum and sum per lane;  Oᵀ = Oᵀ · correction + Vᵀ Pᵀ
    backward   Pᵀ = exp(K Qᵀ - lse);  Dᵀ = Pᵀ ∘ (V Gᵀ - δ), δ = rowsum(G ∘ O);  dV += Pᵀ G;  dK += Dᵀ Q;  dQᵀ += Kᵀ Dᵀ

Forward threads share blocks of queries, backward threads whole heads (all query heads of one key head): sums have one order, whoever makes them.
Keys and values are first copied to scratch ("staged") when they are half types, have no contiguous axis, or lie a power of two apart.
"""
from __future__ import annotations

import functools
import math

from ..core import dtype as dt
from ..core.errors import unsupported
from ..core.kernels import Launch, Native
from ..core.kernels import Program as Code
from ..cpu import code, isa
from . import one_query, pack
from .gemm import PARALLEL_FLOPS, even_split
from .gemv import batch_offsets
from .tile import Program, Tile, accumulator, entry, kernel_of, micro, tile

KEYS = 140                                     # at most, in a tile of scores
INF = float("inf")

# a Native's words: these, then (offset, row stride, column stride) of every strided operand, then (length, one stride per operand) of every batch axis
GIVEN = "queries keys depth width group causal saved scale rank".split()
# the driver's: these, then what the Native says of operands and axes. at_…: areas of scratch
AREAS = "q g query_rows g_rows out scores slopes mask top sum factors k v dk dv".split()
WORDS = [*"driver micro items blocks wide block rows depth_rows width_rows stage_k stage_v pitch_k pitch_v pitch_dk pitch_dv".split(), *GIVEN,
         *(f"at_{area}" for area in AREAS)]
FORWARD, BACKWARD = ("q", "k", "v"), ("q", "k", "v", "g", "o", "l")
POSITIONS = {"forward": dict(q=0, k=1, v=2, m=3), "backward": dict(g=0, o=1, l=2, q=3, k=4, v=5, m=6)}


class Tools:
    """What both directions are written with: their words, operands, and functions of the module."""

    def __init__(self, p: Program, stored: dt.dtype, mask: dt.dtype | None, t: Tile):
        self.p, self.stored, self.mask, self.t = p, stored, mask, t
        pack.write(p, "panel", stored, t, True)
        if mask is not None: pack.write(p, "mask_panel", mask, t, True)
        _write_times(p, t)
        _write_stage(p, stored, t)
        _write_scaled(p, t)
        _write_hidden(p, t)
        _write_turn(p, t)
        if mask is not None: _write_masked(p, mask, t)

    def read(self, which: str, vals, words, w):
        """Run-time numbers and operands of the driver."""
        p, self.w = self.p, w
        self.names = [*(FORWARD if which == "forward" else BACKWARD), *(["m"] if self.mask is not None else [])]
        for i, name in enumerate(WORDS):
            if name not in ("driver", "micro", "scale"): setattr(self, name, p.read(w, i))
        self.table = p.read_pointer(w, WORDS.index("micro"))
        self.scale = p.cast(p.load(p.offset(w, WORDS.index("scale"), dt.int64), dt.float64), self.t.acc)
        at, self.base, self.row, self.col, self.start = POSITIONS[which], {}, {}, {}, []
        for i, name in enumerate(self.names):
            first = len(WORDS) + 3 * i
            self.base[name] = p.read_pointer(vals, p.read(words, at[name]))
            self.start.append(p.read(w, first))
            self.row[name], self.col[name] = p.read(w, first + 1), p.read(w, first + 2)
        self.axes = p.offset(w, len(WORDS) + 3 * len(self.names), dt.int64)
        self.result = p.read_pointer(vals, p.read(words, len(at) - 1 + (self.mask is not None)))

    def types(self, name): return {"m": self.mask, "l": self.t.acc}.get(name, self.stored)

    def of(self, item):
        """Where every operand's matrix of this item begins."""
        offsets = batch_offsets(self.p, self.axes, self.rank, item, self.start)
        return {name: self.p.offset(self.base[name], o, self.types(name)) for name, o in zip(self.names, offsets)}

    def constant(self, at, count, x):
        """Whole vectors of one number."""
        with self.p.loop(0, count, self.t.lanes) as i: self.p.store(self.p.splat(self.p.value(x, self.scale), self.t.lanes), self.p.offset(at, i, self.t.acc))

    def area(self, scratch, name, i=0): return self.p.offset(scratch, getattr(self, "at_" + name) + i, self.t.acc)

    def times(self, a, ra, ka, b, sb, c, ldc, m, height, cols, depth, adding):
        """c (+)= a b, in panels of `height` rows."""
        self.p.run("times", self.table, a, ra, ka, b, sb, c, ldc, m, height, cols, depth, adding)

    def matrix(self, scratch, x, name, k0, count, cols):
        """(address, row stride, column stride) of `count` rows of k or v from row k0 on, staged if need be."""
        p, staged, pitch = self.p, getattr(self, "stage_" + name).ne(0), getattr(self, "pitch_" + name)
        there, here = p.offset(x[name], k0 * self.row[name], self.stored), self.area(scratch, name)
        with p.if_(staged): p.run("stage", there, self.row[name], self.col[name], here, pitch, count, cols)
        return p.choose_pointer(staged, here, there), p.pick(staged, pitch, self.row[name]), p.pick(staged, 1, self.col[name])

    def queries_of(self, x, name, q, dst, cols, depth):
        """A panel [depth][queries] from query q on."""
        self.p.run("panel", self.p.offset(x[name], q * self.row[name], self.stored), self.row[name], self.col[name], dst, self.p.int(self.t.columns), cols, depth)

    def restrict(self, scratch, x, scores, pitch, q, k0, cols, rows):
        """Masks on a tile of scores whose first element is (key k0, query q)."""
        p, t = self.p, self.t
        if self.mask is not None:
            tile_of_mask = self.area(scratch, "mask")
            at = p.offset(x["m"], q * self.row["m"] + k0 * self.col["m"], self.mask)
            p.run("mask_panel", at, self.row["m"], self.col["m"], tile_of_mask, p.int(t.columns), cols, rows)
            p.run("masked", scores, pitch, tile_of_mask, rows, p.ceil_div(cols, t.lanes))
        with p.if_(p.both(self.causal.ne(0), k0 + (rows - 1) > q)): p.run("hidden", scores, pitch, q - k0, rows, p.ceil_div(cols, t.lanes))

    def seen(self, q, k0, cols, count):
        """How many of `count` keys from k0 on the queries [q, q + cols) can see, in whole panels of rows."""
        p = self.p
        near = p.ceil_div(p.max(q + cols - k0, 0), self.rows) * self.rows
        return p.pick(self.causal.ne(0), p.min(count, near), count)


# ---- functions of the module
def _write_times(p: Program, t: Tile):
    args = "ptr table, ptr a, i64 ra, i64 ka, ptr b, i64 sb, ptr c, i64 ldc, i64 m, i64 height, i64 cols, i64 depth, i64 adding"
    with p.define("times", args) as (table, a, ra, ka, b, sb, c, ldc, m, height, cols, depth, adding):
        with p.loop(0, m, height) as i, p.loop(0, cols, t.columns) as j:
            kernel = kernel_of(p, t, table, p.min(m - i, height), p.ceil_div(p.min(cols - j, t.columns), t.lanes), 1)
            p.run(kernel, p.offset(a, i * ra, t.acc), p.offset(b, j, t.acc), p.offset(c, i * ldc + j, t.acc), depth, sb, ldc, adding, ra, ka)


def _write_stage(p: Program, stored: dt.dtype, t: Tile):
    """dst[i * pitch + j] = src[i * row + j * col], in the accumulator's type."""
    T, L = t.acc, t.lanes
    with p.define("stage", "ptr src, i64 row, i64 col, ptr dst, i64 pitch, i64 rows, i64 cols") as (src, row, col, dst, pitch, rows, cols):
        def vectors():
            with p.loop(0, cols, L) as j:
                mask = p.mask(p.min(cols - j, L), L)
                with p.loop(0, rows) as i: p.store(p.cast(p.load_masked(p.offset(src, i * row + j, stored), stored, mask), T), p.offset(dst, i * pitch + j, T))

        def elements():
            with p.loop(0, rows) as i, p.loop(0, cols) as j:
                p.store(p.cast(p.load(p.offset(src, i * row + j * col, stored), stored), T), p.offset(dst, i * pitch + j, T))
        p.otherwise(col.eq(1), vectors, elements)


def _write_scaled(p: Program, t: Tile):
    """A panel of `rows` lines times a number per lane."""
    T, L = t.acc, t.lanes
    with p.define("scaled", "ptr x, ptr factors, i64 rows, i64 vectors") as (x, factors, rows, vectors):
        with p.loop(0, vectors) as v:
            f = p.load(p.offset(factors, v * L, T), T, L)
            with p.loop(0, rows) as i:
                at = p.offset(x, i * t.columns + v * L, T)
                p.store(p.mul(p.load(at, T, L), f), at)


def _write_hidden(p: Program, t: Tile):
    """Causal: lane i of row j becomes -inf where ahead + i < j."""
    T, L = t.acc, t.lanes
    with p.define("hidden", "ptr scores, i64 pitch, i64 ahead, i64 rows, i64 vectors") as (scores, pitch, ahead, rows, vectors):
        with p.loop(0, vectors) as v:
            lane = p.add(p.iota(L), p.splat(ahead + v * L, L))
            with p.loop(p.max(ahead, 0), rows) as j:
                at = p.offset(scores, j * pitch + v * L, T)
                p.store(p.select(p.lt(lane, p.splat(j, L)), p.const(-INF, T, L), p.load(at, T, L)), at)


def _write_masked(p: Program, mask: dt.dtype, t: Tile):
    """A mask's tile on a tile of scores: added, or -inf where a boolean one is False."""
    T, L = t.acc, t.lanes
    with p.define("masked", "ptr scores, i64 pitch, ptr mask, i64 rows, i64 vectors") as (scores, pitch, tile_of_mask, rows, vectors):
        with p.loop(0, rows) as j, p.loop(0, vectors) as v:
            at, m = p.offset(scores, j * pitch + v * L, T), p.load(p.offset(tile_of_mask, j * t.columns + v * L, T), T, L)
            s = p.load(at, T, L)
            p.store(p.select(p.eq(m, 0.0), p.const(-INF, T, L), s) if mask is dt.bool else p.add(s, m), at)


def _write_turn(p: Program, t: Tile):
    """dst[i * width + j] = src[j * columns + i] for i < rows, j < width: a panel back to rows that follow each other."""
    T, L = t.acc, t.lanes
    with p.define("turn", "ptr src, ptr dst, i64 width, i64 rows") as (src, dst, width, rows):
        def squares():
            with p.loop(0, rows, L) as i, p.loop(0, width, L) as j:
                lines = pack.square(p, [p.load(p.offset(src, (j + k) * t.columns + i, T), T, L) for k in range(L)])
                for k, x in enumerate(lines):
                    with p.if_(i + k < rows): p.store(x, p.offset(dst, (i + k) * width + j, T))

        def elements():
            with p.loop(0, rows) as i, p.loop(0, width) as j: p.store(p.load(p.offset(src, j * t.columns + i, T), T), p.offset(dst, i * width + j, T))
        p.otherwise((width % L).eq(0), squares, elements)


def _write_put(p: Program, t: Tile):
    """Rows of scratch, `pitch` apart, to dense rows; `adding` to what is there."""
    T, L = t.acc, t.lanes
    with p.define("put", "ptr src, i64 pitch, ptr dst, i64 rows, i64 cols, i64 adding") as (src, pitch, dst, rows, cols, adding):
        with p.loop(0, cols, L) as j:
            mask = p.mask(p.min(cols - j, L), L)
            with p.loop(0, rows) as i:
                x, at = p.load(p.offset(src, i * pitch + j, T), T, L), p.offset(dst, i * cols + j, T)
                p.otherwise(adding.ne(0), lambda: p.store_masked(p.add(x, p.load_masked(at, T, mask)), at, mask), lambda: p.store_masked(x, at, mask))


def _write_soften(p: Program, t: Tile):
    """Scores to exp(score - maximum) with running maximum and sum per lane; `correction` is what earlier sums were multiplied by."""
    T, L, NR = t.acc, t.lanes, t.columns
    with p.define("soften", "ptr scores, ptr top, ptr sum, ptr correction, i64 rows, i64 vectors") as (scores, top, total, correction, rows, vectors):
        with p.loop(0, vectors) as v:
            def at(j): return p.offset(scores, j * NR + v * L, T)
            here = [p.offset(x, v * L, T) for x in (top, total, correction)]
            before = p.load(here[0], T, L)
            best = [p.variable(before) for _ in range(4)]
            many = rows - rows % 4

            def higher(place, j):
                x, b = p.load(at(j), T, L), p.get(place)
                p.set(place, p.select(p.gt(x, b), x, b))
            with p.loop(0, many, 4) as j:
                for i, place in enumerate(best): higher(place, j + i)
            with p.loop(many, rows) as j: higher(best[0], j)
            now = functools.reduce(lambda a, b: p.select(p.gt(a, b), a, b), map(p.get, best))
            shift = p.select(p.eq(now, -INF), p.const(0, T, L), now)             # nothing seen so far
            sums = [p.variable(p.const(0, T, L)) for _ in range(4)]

            def weight(place, j):
                e = p.exp(p.sub(p.load(at(j), T, L), shift))
                p.store(e, at(j))
                p.set(place, p.add(p.get(place), e))
            with p.loop(0, many, 4) as j:
                for i, place in enumerate(sums): weight(place, j + i)
            with p.loop(many, rows) as j: weight(sums[0], j)
            c = p.exp(p.sub(before, shift))
            p.store(now, here[0])
            p.store(p.mad(p.load(here[1], T, L), c, functools.reduce(p.add, map(p.get, sums))), here[1])
            p.store(c, here[2])


def _write_weighted(p: Program, t: Tile):
    """Scores to weights exp(score - lse); products V Gᵀ to weights · (product - δ)."""
    T, L = t.acc, t.lanes
    with p.define("weighted", "ptr scores, ptr products, i64 pitch, ptr lse, ptr delta, i64 rows, i64 vectors") as (scores, products, pitch, lse, delta, rows, vectors):
        with p.loop(0, vectors) as v:
            shift, d = (p.load(p.offset(x, v * L, T), T, L) for x in (lse, delta))
            with p.loop(0, rows) as j:
                s, g = (p.offset(x, j * pitch + v * L, T) for x in (scores, products))
                weight = p.exp(p.sub(p.load(s, T, L), shift))
                p.store(weight, s)
                p.store(p.mul(weight, p.sub(p.load(g, T, L), d)), g)


# ---- forward
def _forward(p: Program, f: Tools, ctx):
    t, w = f.t, f.wide
    T, L, NR = t.acc, t.lanes, t.columns
    scratch = p.read_pointer(ctx, 2)
    scores, factors = f.area(scratch, "scores"), f.area(scratch, "factors")
    lo, hi = p.mine(ctx, f.items * f.blocks)
    with p.loop(lo, hi) as unit:
        item, first = unit // f.blocks, unit % f.blocks * w * NR
        x, last = f.of(item), p.min(f.queries, first + w * NR)
        f.constant(factors, NR, f.scale)
        with p.loop(first, last, NR) as q:                                       # panels of queries, and where things of a panel lie
            at, cols = q - first, p.min(last - q, NR)
            f.queries_of(x, "q", q, f.area(scratch, "q", at * f.depth), cols, f.depth)
            p.run("scaled", f.area(scratch, "q", at * f.depth), factors, f.depth, p.ceil_div(cols, L))
        f.constant(f.area(scratch, "top"), w * NR, -INF)
        f.constant(f.area(scratch, "sum"), w * NR, 0)
        f.constant(f.area(scratch, "out"), w * NR * f.width, 0)
        with p.loop(0, p.pick(f.causal.ne(0), p.min(f.keys, last), f.keys), f.block) as k0:
            count = p.min(f.block, f.keys - k0)
            k_at, k_row, k_col = f.matrix(scratch, x, "k", k0, count, f.depth)
            v_at, v_row, v_col = f.matrix(scratch, x, "v", k0, count, f.width)
            with p.loop(first, last, NR) as q:
                at, cols = q - first, p.min(last - q, NR)
                rows, out = f.seen(q, k0, cols, count), f.area(scratch, "out", at * f.width)
                with p.if_(rows > 0):
                    f.times(k_at, k_row, k_col, f.area(scratch, "q", at * f.depth), NR, scores, NR, rows, f.rows, cols, f.depth, 0)
                    f.restrict(scratch, x, scores, p.int(NR), q, k0, cols, rows)
                    p.run("soften", scores, f.area(scratch, "top", at), f.area(scratch, "sum", at), factors, rows, p.ceil_div(cols, L))
                    with p.if_(k0 > 0): p.run("scaled", out, factors, f.width, p.ceil_div(cols, L))
                    f.times(v_at, v_col, v_row, scores, NR, out, NR, f.width, f.width_rows, cols, rows, 1)
        with p.loop(first, last, NR) as q:
            at, cols = q - first, p.min(last - q, NR)
            with p.loop(0, cols, L) as i:
                total, top = (p.load(f.area(scratch, name, at + i), T, L) for name in ("sum", "top"))
                none = p.eq(total, 0.0)                                          # every key is masked: zeros, and weights that stay zero in backward
                p.store(p.select(none, p.const(0, T, L), p.div(1.0, total)), p.offset(factors, i, T))
                with p.if_(f.saved.ne(0)):
                    lse = p.select(none, p.const(INF, T, L), p.add(top, p.log(total)))
                    p.store_masked(lse, p.offset(f.result, f.items * f.queries * f.width + item * f.queries + q + i, T), p.mask(p.min(cols - i, L), L))
            out = f.area(scratch, "out", at * f.width)
            p.run("scaled", out, factors, f.width, p.ceil_div(cols, L))
            p.run("turn", out, p.offset(f.result, (item * f.queries + q) * f.width, T), f.width, cols)


# ---- backward
def _backward(p: Program, f: Tools, ctx):
    scratch = p.read_pointer(ctx, 2)
    lo, hi = p.mine(ctx, f.items // f.group)
    with p.loop(lo, hi) as unit, p.loop(0, f.group) as member:
        item = unit * f.group + member
        x = f.of(item)
        _panels(p, f, scratch, x)
        with p.loop(0, f.keys, f.block) as k0:
            count = p.min(f.block, f.keys - k0)
            _key_block(p, f, scratch, x, k0, count)
            for name, cols, pitch, before in (("dk", f.depth, f.pitch_dk, 0), ("dv", f.width, f.pitch_dv, f.items // f.group * f.keys * f.depth)):
                place = f.items * f.queries * f.depth + before + (unit * f.keys + k0) * cols
                p.run("put", f.area(scratch, name), pitch, p.offset(f.result, place, f.t.acc), count, cols, p.pick(member > 0, 1, 0))
        f.constant(f.area(scratch, "factors"), f.t.columns, f.scale)
        with p.loop(0, f.queries, f.t.columns) as q:
            at, cols = f.area(scratch, "out", q * f.depth), p.min(f.queries - q, f.t.columns)
            p.run("scaled", at, f.area(scratch, "factors"), f.depth, p.ceil_div(cols, f.t.lanes))
            p.run("turn", at, p.offset(f.result, (item * f.queries + q) * f.depth, f.t.acc), f.depth, cols)


def _panels(p: Program, f: Tools, scratch, x):
    """Scaled Q and G of one head, as panels of queries and as rows; per query its lse and δ."""
    T, L, NR, factors = f.t.acc, f.t.lanes, f.t.columns, f.area(scratch, "factors")
    f.constant(factors, NR, f.scale)
    with p.loop(0, f.queries, NR) as q:
        cols, o = p.min(f.queries - q, NR), f.area(scratch, "out")
        g = f.area(scratch, "g", q * f.width)
        f.queries_of(x, "q", q, f.area(scratch, "q", q * f.depth), cols, f.depth)
        p.run("scaled", f.area(scratch, "q", q * f.depth), factors, f.depth, p.ceil_div(cols, L))
        f.queries_of(x, "g", q, g, cols, f.width)
        f.queries_of(x, "o", q, o, cols, f.width)
        with p.loop(0, cols, L) as i:
            delta = p.variable(p.const(0, T, L))
            with p.loop(0, f.width) as j:
                p.set(delta, p.mad(*(p.load(p.offset(at, j * NR + i, T), T, L) for at in (g, o)), p.get(delta)))
            p.store(p.get(delta), f.area(scratch, "sum", q + i))
        with p.loop(q, q + cols) as i: p.store(p.load(p.offset(x["l"], i * f.row["l"], T), T), f.area(scratch, "top", i))
    for name, area, width in (("q", "query_rows", f.depth), ("g", "g_rows", f.width)):
        with p.loop(0, width, NR) as j:
            at, cols = f.area(scratch, area, j * f.queries), p.min(width - j, NR)
            p.run("panel", p.offset(x[name], j * f.col[name], f.stored), f.col[name], f.row[name], at, p.int(NR), cols, f.queries)
            if name == "q": p.run("scaled", at, factors, f.queries, p.ceil_div(cols, L))
    f.constant(f.area(scratch, "out"), p.ceil_div(f.queries, NR) * NR * f.depth, 0)


def _key_block(p: Program, f: Tools, scratch, x, k0, count):
    """dK and dV of `count` keys, and their part of dQ."""
    NR, L = f.t.columns, f.t.lanes
    step = f.wide * NR
    scores, slopes, dk, dv = (f.area(scratch, name) for name in ("scores", "slopes", "dk", "dv"))
    k_at, k_row, k_col = f.matrix(scratch, x, "k", k0, count, f.depth)
    v_at, v_row, v_col = f.matrix(scratch, x, "v", k0, count, f.width)
    f.constant(dk, count * f.pitch_dk, 0)
    f.constant(dv, count * f.pitch_dv, 0)
    with p.loop(p.pick(f.causal.ne(0), k0 // step * step, 0), f.queries, step) as first:
        wide = p.min(f.queries - first, step)
        rows = f.seen(first, k0, wide, count)
        with p.if_(rows > 0):
            with p.loop(0, wide, NR) as i:
                q, cols, s, d = first + i, p.min(wide - i, NR), p.offset(scores, i, f.t.acc), p.offset(slopes, i, f.t.acc)
                f.times(k_at, k_row, k_col, f.area(scratch, "q", q * f.depth), NR, s, step, rows, f.rows, cols, f.depth, 0)
                f.times(v_at, v_row, v_col, f.area(scratch, "g", q * f.width), NR, d, step, rows, f.rows, cols, f.width, 0)
                f.restrict(scratch, x, s, step, q, k0, cols, rows)
                p.run("weighted", s, d, step, f.area(scratch, "top", q), f.area(scratch, "sum", q), rows, p.ceil_div(cols, L))
                f.times(k_at, k_col, k_row, d, step, f.area(scratch, "out", q * f.depth), NR, f.depth, f.depth_rows, cols, rows, 1)
            for tile_of, area, into, pitch, width in ((scores, "g_rows", dv, f.pitch_dv, f.width), (slopes, "query_rows", dk, f.pitch_dk, f.depth)):
                with p.loop(0, width, NR) as j:
                    panel = f.area(scratch, area, j * f.queries + first * NR)
                    f.times(tile_of, step, 1, panel, NR, p.offset(into, j, f.t.acc), pitch, rows, f.rows, p.min(width - j, NR), wide, 1)


@code.program("main")
def driver(which: str, stored: dt.dtype, mask: dt.dtype | None) -> str:
    """The address of main(ctx, vals, words, w): w are WORDS."""
    p, t = Program(), tile(accumulator(stored))
    f = Tools(p, stored, mask, t)
    (_write_soften if which == "forward" else _write_weighted)(p, t)
    if which == "backward": _write_put(p, t)
    with p.define("main", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        f.read(which, vals, words, w)
        (_forward if which == "forward" else _backward)(p, f, ctx)
    return p.module()


def build(n: Native) -> Launch:
    which, stored, mask = n.spec
    if stored.category != dt.FLOAT: raise unsupported("scaled_dot_product_attention", stored, instead="convert the operands to a floating-point type")
    t, given = tile(accumulator(stored)), dict(zip(GIVEN, n.words))
    names, rest = [*(FORWARD if which == "forward" else BACKWARD), *(["m"] if mask else [])], n.words[len(GIVEN):]
    where = {name: rest[3 * i:3 * i + 3] for i, name in enumerate(names)}
    axes = rest[3 * len(names):]
    items = math.prod(axes[::len(names) + 1])
    if one_query.accepts(which, given, where): return one_query.build(n, given, where, axes)
    queries, keys, depth, width = (given[x] for x in ("queries", "keys", "depth", "width"))
    NR, back = t.columns, which == "backward"

    def height(n): return -(-n // max(-(-n // t.rows), 1)) or 1

    def line(n): return -(-n // NR) * NR
    block = even_split(keys, KEYS, t.rows)
    panels = -(-queries // NR)
    wide = min(2 if back else 4, max(panels, 1))

    def staged(name): return int(stored is not t.acc or 1 not in where[name][1:] or where[name][1] * t.acc.size % 4096 == 0 and panels > 1)
    pitch = {name: -(-n // t.lanes) * t.lanes + t.lanes * (n * t.acc.size % 1024 == 0) for name, n in (("k", depth), ("v", width))}
    kernels = micro(t.acc)
    heights = {min(t.rows, keys), keys % t.rows, *(h for n in (depth, width) for h in (height(n), n % height(n)))} - {0}
    ends = {queries, depth, width} if back else {queries}
    for vectors in {v for n in ends for v in (t.vectors * (n >= NR), -(-(n % NR) // t.lanes))} - {0}:
        for rows in heights: kernels.need(rows, vectors, direct=True)
    tall, side = (panels if back else wide) * NR, wide * NR
    areas = dict(q=tall * depth, g=tall * width * back, query_rows=queries * line(depth) * back, g_rows=queries * line(width) * back,
                 out=max(tall * depth, NR * width) if back else tall * width, scores=block * side if back else block * NR, slopes=block * side * back,
                 mask=block * NR * bool(mask), top=tall, sum=tall, factors=NR, k=block * pitch["k"] * staged("k"), v=block * pitch["v"] * staged("v"),
                 dk=block * line(depth) * back, dv=block * line(width) * back)
    values, at = dict(given), 0
    for name in AREAS:
        values["at_" + name] = at
        at += -(-(areas[name] + t.lanes) // 16) * 16
    values.update(driver=driver(which, stored, mask)[0], micro=kernels.address, items=items, blocks=-(-panels // wide), wide=wide, block=block, rows=t.rows,
                  depth_rows=height(depth), width_rows=height(width), stage_k=staged("k"), stage_v=staged("v"), pitch_k=pitch["k"], pitch_v=pitch["v"],
                  pitch_dk=line(depth), pitch_dv=line(width))
    address, text = entry(len(n.operands))
    flops = 2 * items * queries * keys * ((depth + width) if not back else 3 * depth + 2 * width) // (1 + given["causal"])
    return Launch(Code("attention", address, text), (*(values[x] for x in WORDS), *(x for name in names for x in where[name]), *axes),
                  flops > PARALLEL_FLOPS, scratch=at * t.acc.size, bytes=n.work, flops=flops)
