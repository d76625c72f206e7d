"""Products with one row: a vector times a matrix, which is read once, at memory's speed, and never copied.

Comes in: a `Gemm` with m = 1 whose matrix b is contiguous along n or along k. Goes out: the address of a driver, its words and its scratch.
Along n: eight rows of b at a time are added to a piece of the result. Along k: eight columns at a time are summed up lane by lane.
"""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..core.kernels import Gemm
from ..cpu import code
from . import epilogue
from .tile import Program, Tile, accumulator, tile

WORDS = "driver tail a_at b_at batch rank n k a_off a_col b_off b_row b_col c_off c_col copy".split()
AT_ONCE = 8
PIECE = 4096                                   # columns whose sums stay in L1


def accepts(g: Gemm) -> bool: return g.m == 1 and g.a.dtype.category != dt.COMPLEX and (g.b.cols == 1 or g.b.rows == 1)


def build(g: Gemm, a_at: int, b_at: int) -> tuple[tuple[int, ...], int]:
    """(words, scratch); the driver's address is the first word."""
    stored, t = g.a.dtype, tile(accumulator(g.a.dtype))
    copy = stored is not t.acc or g.a.cols != 1
    values = dict(driver=driver(stored, g.c.dtype)[0], tail=0, a_at=a_at, b_at=b_at, batch=math.prod(g.batch), rank=len(g.batch), n=g.n, k=g.k,
                  a_off=g.a.offset, a_col=g.a.cols, b_off=g.b.offset, b_row=g.b.rows, b_col=g.b.cols, c_off=g.c.offset, c_col=g.c.cols,
                  copy=int(copy))
    axes = tuple(x for axis in zip(g.batch, g.a.batch, g.b.batch, g.c.batch) for x in axis)
    tail_words = ()
    if g.epilogue is not None: values["tail"], tail_words = epilogue.build(g, t, len(WORDS) + len(axes))
    return (*(values[x] for x in WORDS), *axes, *tail_words), t.acc.size * (PIECE + 64 + (g.k if copy else 0))


@code.program("main")
def driver(stored: dt.dtype, result: dt.dtype) -> str:
    t = tile(accumulator(stored))
    p = Program()
    write_rows(p, stored, t)
    write_columns(p, stored, t)
    T, L = t.acc, t.lanes
    with p.define("main", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W = {name: p.read(w, i) for i, name in enumerate(WORDS)}
        n, k, tail = W["n"], W["k"], p.read_pointer(w, WORDS.index("tail"))
        tid, nt, sums = p.read(ctx, 0), p.read(ctx, 1), p.read_pointer(ctx, 2)
        copied = p.offset(sums, PIECE + 64, T)
        a, b, c = (p.read_pointer(vals, p.read(words, i)) for i in (W["a_at"], W["b_at"], 2))
        by_item = W["batch"] >= nt
        each = p.pick(by_item, 1, nt)
        rounds = p.max(p.ceil_div(n, each * PIECE), 1)       # pieces for every thread, all of one size: the longest decides
        piece = p.max((p.ceil_div(n, each * rounds) + AT_ONCE - 1) & -AT_ONCE, 64)
        pieces = p.ceil_div(n, piece)
        lo, hi = p.share(W["batch"] * pieces, nt, tid)
        before = p.variable(p.int(-1))
        with p.loop(lo, hi) as unit:
            item, col = unit // pieces, unit % pieces * piece
            cols = p.min(n - col, piece)
            a_off, b_off, c_off = batch_offsets(p, p.offset(w, len(WORDS), dt.int64), W["rank"], item, [W[x] for x in ("a_off", "b_off", "c_off")])
            row = p.offset(a, a_off, stored)
            with p.if_(p.both(W["copy"].ne(0), p.int(p.get(before)).ne(item))), p.loop(0, k) as i:
                p.store(p.cast(p.load(p.offset(row, i * W["a_col"], stored), stored), T), p.offset(copied, i, T))
            p.set(before, item)
            x = p.choose_pointer(W["copy"].ne(0), copied, row)
            here = p.offset(b, b_off + col * W["b_col"], stored)
            p.otherwise(W["b_col"].eq(1), lambda: p.run("rows", x, here, W["b_row"], sums, cols, k),
                        lambda: p.run("columns", x, here, W["b_col"], sums, cols, k))

            def store():
                out = p.offset(c, c_off + col * W["c_col"], result)

                def vectors():
                    with p.loop(0, p.ceil_div(cols, L)) as q:
                        p.store_masked(p.cast(p.load(p.offset(sums, q * L, T), T, L), result), p.offset(out, q * L, result), p.mask(cols - q * L, L))

                def elements():
                    with p.loop(0, cols) as j: p.store(p.cast(p.load(p.offset(sums, j, T), T), result), p.offset(out, j * W["c_col"], result))
                p.otherwise(W["c_col"].eq(1), vectors, elements)
            p.otherwise(W["tail"].ne(0), lambda: p.run(tail, vals, words, sums, 0, item, 0, col, 1, cols), store)
    return p.module()


def batch_offsets(p: Program, axes, rank, item, starts):
    """Element offsets of the operands for one flat batch position; `axes`: per axis its length and their strides."""
    rest, sums = p.variable(item), [p.variable(s) for s in starts]
    with p.loop(0, rank) as r:
        axis = p.offset(axes, (rank - 1 - r) * (len(starts) + 1), dt.int64)
        length, q = p.read(axis, 0), p.int(p.get(rest))
        index = q % length
        p.set(rest, q // length)
        for s, place in enumerate(sums): p.set(place, p.int(p.get(place)) + index * p.read(axis, s + 1))
    return [p.int(p.get(s)) for s in sums]


def write_rows(p: Program, stored: dt.dtype, t: Tile):
    """rows: sums[j] = sum over k of x[k] * b[k * step + j]."""
    T, L = t.acc, t.lanes
    with p.define("rows", "ptr x, ptr b, i64 step, ptr sums, i64 cols, i64 k") as (x, b, step, sums, cols, k):
        with p.loop(0, p.ceil_div(cols, L)) as q: p.store(p.const(0, T, L), p.offset(sums, q * L, T))
        whole, rest = cols // L, p.mask(cols % L, L)

        def add(first, count):
            xs = [p.load(p.offset(x, first + i, T), T) for i in range(count)]
            lines = [p.offset(b, (first + i) * step, stored) for i in range(count)]

            def vector(at, load):
                total = p.load(p.offset(sums, at, T), T, L)
                for value, line in zip(xs, lines): total = p.mad(value, p.cast(load(p.offset(line, at, stored)), T), total)
                p.store(total, p.offset(sums, at, T))
            with p.loop(0, whole) as q: vector(q * L, lambda at: p.load(at, stored, L))
            with p.if_((cols % L).ne(0)): vector(whole * L, lambda at: p.load_masked(at, stored, rest))
        with p.loop(0, k // AT_ONCE) as i: add(i * AT_ONCE, AT_ONCE)
        with p.loop(k // AT_ONCE * AT_ONCE, k) as i: add(i, 1)


def write_columns(p: Program, stored: dt.dtype, t: Tile):
    """columns: sums[j] = sum over k of x[k] * b[j * step + k]."""
    T, L = t.acc, t.lanes
    with p.define("columns", "ptr x, ptr b, i64 step, ptr sums, i64 cols, i64 k") as (x, b, step, sums, cols, k):
        whole, rest = k // L, p.mask(k % L, L)
        with p.loop(0, cols, AT_ONCE) as j:                    # beyond the last column it is computed again
            lines = [p.offset(b, p.min(j + i, cols - 1) * step, stored) for i in range(AT_ONCE)]
            totals = [p.variable(p.const(0, T, L)) for _ in lines]

            def vector(at, load):
                xs = load(p.offset(x, at, T), T)
                for line, total in zip(lines, totals): p.set(total, p.mad(xs, p.cast(load(p.offset(line, at, stored), stored), T), p.get(total)))
            with p.loop(0, whole) as q: vector(q * L, lambda at, t: p.load(at, t, L))
            with p.if_((k % L).ne(0)): vector(whole * L, lambda at, t: p.load_masked(at, t, rest))
            for i, total in enumerate(totals): p.store(p.reduce(p.get(total), p.add), p.offset(sums, j + i, T))
