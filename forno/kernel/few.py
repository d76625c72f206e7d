"""Products with a few rows whose matrix b lies along k (the weights of a linear layer, in a small batch): b is read once, as it lies, and never packed.

Comes in: a `Gemm` with 2 to MOST rows. Goes out: the address of a driver, its words and its scratch. A few columns of b are multiplied with a few rows of a,
lane by lane; sums of lanes come last, several at once.
"""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..core.kernels import Gemm
from ..cpu import code, isa
from . import epilogue
from .gemv import batch_offsets
from .text import Val
from .tile import Program, Tile, accumulator, store_rows, tile

WORDS = "driver tail a_at b_at batch rank m n k a_off a_row b_off b_col c_off c_row c_col panels height taller".split()
MOST, FAR = 24, 8                              # with more rows packing b pays; of a b that doesn't stay in L2, making them lanes does (kernel/skinny.py)
BUSY = 4                                       # rows that keep a core so busy that b, if it is far, should be asked for ahead
SHORTEST = 8                                   # vectors in k: in shorter ones the sums of lanes cost too much
PIECE, ROOM = 512, 16                          # columns whose sums wait in scratch, and what the last store may write behind them
DEPTH = 4096                                   # bytes of a row or column at once, so that some of both stay in L1


def accepts(g: Gemm) -> bool:
    """Of a product that isn't turned any more."""
    stored = g.a.dtype
    return (2 <= g.m <= (FAR if far(g) else MOST) and stored.category == dt.FLOAT and stored is accumulator(stored) and not g.rounding and g.a.cols == 1 and g.b.rows == 1
            and g.k >= SHORTEST * tile(stored).lanes)


def far(g: Gemm) -> bool:
    """Does b come from beyond L2?"""
    return g.b.dtype.size * g.n * g.k > isa.caches()[1]


def build(g: Gemm, a_at: int, b_at: int) -> tuple[tuple[int, ...], int]:
    """(words, scratch); the driver's address is the first word."""
    t, (panels, columns) = tile(g.a.dtype), register_block(g.m)
    height, taller = divmod(g.m, panels)
    heights = (height, height + 1) if taller else (height,)
    values = dict(driver=driver(g.a.dtype, g.c.dtype, heights, columns, g.m >= BUSY and far(g))[0], tail=0, a_at=a_at, b_at=b_at, batch=math.prod(g.batch),
                  rank=len(g.batch), m=g.m, n=g.n, k=g.k, a_off=g.a.offset, a_row=g.a.rows, b_off=g.b.offset, b_col=g.b.cols, c_off=g.c.offset, c_row=g.c.rows, c_col=g.c.cols,
                  panels=panels, height=height, taller=taller)
    axes = tuple(x for axis in zip(g.batch, g.a.batch, g.b.batch, g.c.batch) for x in axis)
    tail_words = ()
    if g.epilogue is not None: values["tail"], tail_words = epilogue.build(g, t, len(WORDS) + len(axes))
    return (*(values[x] for x in WORDS), *axes, *tail_words), t.acc.size * g.m * (PIECE + ROOM)


def register_block(m: int) -> tuple[int, int]:
    """(panels of rows, columns at once): the sums of a panel, and a vector of each column, stay in registers."""
    registers = 32 if isa.level in ("avx512", "neon") else 16
    panels = -(-m // ((registers - 1) // 4 - 1))
    return panels, 8 if (-(-m // panels) + 1) * 8 < registers else 4


@code.program("main")
def driver(stored: dt.dtype, result: dt.dtype, heights: tuple[int, ...], columns: int, ahead: bool) -> str:
    t, p = tile(stored), Program()
    for height in heights: _write_dots(p, t, height, columns, ahead)
    T, pitch, depth = t.acc, PIECE + ROOM, DEPTH // t.acc.size
    with p.define("main", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W = {name: p.read(w, i) for i, name in enumerate(WORDS)}
        m, n, k, tail = W["m"], W["n"], W["k"], p.read_pointer(w, WORDS.index("tail"))
        tid, nt, sums = p.read(ctx, 0), p.read(ctx, 1), p.read_pointer(ctx, 2)
        a, b, c = (p.read_pointer(vals, p.read(words, i)) for i in (W["a_at"], W["b_at"], 2))
        piece = p.min(p.max((n // p.pick(W["batch"] >= nt, 1, nt) + 15) & -16, 64), PIECE)
        pieces = p.ceil_div(n, piece)
        lo, hi = p.share(W["batch"] * pieces, nt, tid)
        with p.loop(lo, hi) as unit:
            item, col = unit // pieces, unit % pieces * piece
            cols = p.min(n - col, piece)
            a_off, b_off, c_off = batch_offsets(p, p.offset(w, len(WORDS), dt.int64), W["rank"], item, [W[x] for x in ("a_off", "b_off", "c_off")])
            with p.loop(0, k, depth) as k0, p.loop(0, cols, columns) as j, p.loop(0, W["panels"]) as q:
                row = q * W["height"] + p.min(q, W["taller"])
                at = (p.offset(a, a_off + row * W["a_row"] + k0, stored), W["a_row"], p.offset(b, b_off + (col + j) * W["b_col"] + k0, stored), W["b_col"],
                      p.offset(sums, row * pitch + j, T), cols - j, p.min(k - k0, depth), k0)
                p.otherwise(q < W["taller"], lambda: p.run(f"dots{heights[-1]}", *at), lambda: p.run(f"dots{heights[0]}", *at))
            out = p.offset(c, c_off + col * W["c_col"], result)
            p.otherwise(W["tail"].ne(0), lambda: p.run(tail, vals, words, sums, pitch, item, 0, col, m, cols),
                        lambda: store_rows(p, t, sums, pitch, out, W, m, cols, result))
    return p.module()


def _write_dots(p: Program, t: Tile, height: int, columns: int, ahead: bool):
    """dots of `height` rows and `columns` columns: sums[i * pitch + j] = sum over k of a[i * a_row + k] * b[j * b_col + k], and what was there if `adding`.
    Beyond the last column it is computed again. `ahead`: the next columns are asked for."""
    T, L = t.acc, t.lanes
    with p.define(f"dots{height}", "ptr a, i64 a_row, ptr b, i64 b_col, ptr sums, i64 cols, i64 k, i64 adding") as (a, a_row, b, b_col, sums, cols, k, adding):
        whole, rest = k // L, p.mask(k % L, L)
        rows, lines = [p.offset(a, a_row * i, T) for i in range(height)], [p.offset(b, p.min(cols - 1, j) * b_col, T) for j in range(columns)]
        totals = [[p.variable(p.const(0, T, L)) for _ in lines] for _ in rows]

        def vector(at, load):
            ys = [load(p.offset(line, at, T)) for line in lines]
            for row, of_row in zip(rows, totals):
                x = load(p.offset(row, at, T))
                for y, total in zip(ys, of_row): p.set(total, p.mad(x, y, p.get(total)))
        with p.loop(0, whole) as q:
            for line in lines if ahead else (): p.prefetch(p.offset(line, b_col * columns + q * L, T), locality=2)
            vector(q * L, lambda at: p.load(at, T, L))
        with p.if_((k % L).ne(0)): vector(whole * L, lambda at: p.load_masked(at, T, rest))
        for i, of_row in enumerate(totals):
            for v, x in enumerate(lane_sums(p, [p.get(total) for total in of_row])):
                at = p.offset(sums, i * (PIECE + ROOM) + v * L, T)
                p.store(p.select(adding.ne(0), p.add(x, p.load(at, T, x.n)), x), at)


def lane_sums(p: Program, xs: list[Val]) -> list[Val]:
    """The sums of each vector's lanes, side by side; the number of vectors is a power of two. Neighbours are added until one lane is left of each vector."""
    n, count = xs[0].n, len(xs)
    for _ in range(int(math.log2(n))):
        pairs = list(zip(xs[::2], xs[1::2])) or [(xs[0], xs[0])]
        xs = [p.add(p.shuffle(x, y, range(0, 2 * n, 2)), p.shuffle(x, y, range(1, 2 * n, 2))) for x, y in pairs]
    return [p.shuffle(x, None, range(min(count, n))) for x in xs]
