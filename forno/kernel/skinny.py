"""Products of some rows with a matrix b that lies along k (the weights of a linear layer): computed as their transposes, so that b is never packed.

Comes in: a `Gemm` that `accepts` takes. Goes out: the address of a driver, its words and its scratch. Each row of a, packed once, is a lane; b's columns, which
lie in memory as rows, are read as they lie, one number at a time, and memory is asked for the next block of them while this one is multiplied. Sums of a block
wait in scratch, are transposed there in registers, and leave through the epilogue or into C.
"""
from __future__ import annotations

import ctypes
import functools
import math

from ..core import dtype as dt
from ..core.kernels import Gemm
from ..cpu import code, isa
from . import epilogue, pack
from .gemv import batch_offsets
from .text import Val
from .tile import Program, Tile, accumulator, even_split, store_rows, tile

WORDS = "driver tiles tail a_at b_at batch rank m n k a_off a_row a_col b_off b_col c_off c_row c_col panels height taller at_once kc vectors wide width".split()
LEAST, MOST = 9, 128                           # rows of a: fewer leave too many lanes empty, with more packing b costs little
SHORTEST = 256                                 # steps of k
BLOCK = 96                                     # columns of b that are multiplied before the next ones, at most
DEPTH = 512                                    # steps of k after which sums wait in scratch, at most
HIGHEST, WIDEST = 12, 4                        # columns of b and vectors of rows of a in a tile of registers


def accepts(g: Gemm) -> bool:
    """Of a product that few.py doesn't take."""
    stored = g.a.dtype
    return LEAST <= g.m <= MOST and stored.category == dt.FLOAT and stored is accumulator(stored) and not g.rounding and g.b.rows == 1 and g.n >= 64 and g.k >= SHORTEST


def build(g: Gemm, a_at: int, b_at: int) -> tuple[tuple[int, ...], int]:
    """(words, scratch); the driver's address is the first word."""
    t = tile(g.a.dtype)
    vectors = -(-g.m // t.lanes)
    rows, wide = register_tile(vectors)
    panels, at_once = -(-g.n // rows), BLOCK // rows
    height, taller = divmod(g.n, panels)
    heights = (height, height + 1) if taller else (height,)
    width = -(-at_once * heights[-1] // t.lanes) * t.lanes
    for high in heights:
        for count in {wide, (vectors - 1) % wide + 1}: need(g.a.dtype, high, count)
    values = dict(driver=driver(g.a.dtype, g.c.dtype)[0], tiles=ctypes.addressof(tiles(g.a.dtype)), tail=0, a_at=a_at, b_at=b_at, batch=math.prod(g.batch), rank=len(g.batch),
                  m=g.m, n=g.n, k=g.k, a_off=g.a.offset, a_row=g.a.rows, a_col=g.a.cols, b_off=g.b.offset, b_col=g.b.cols, c_off=g.c.offset, c_row=g.c.rows, c_col=g.c.cols,
                  panels=panels, height=height, taller=taller, at_once=at_once, kc=even_split(g.k, DEPTH, 16), vectors=vectors, wide=wide, width=width)
    axes = tuple(x for axis in zip(g.batch, g.a.batch, g.b.batch, g.c.batch) for x in axis)
    tail_words = ()
    if g.epilogue is not None: values["tail"], tail_words = epilogue.build(g, t, len(WORDS) + len(axes))
    return (*(values[x] for x in WORDS), *axes, *tail_words), t.acc.size * (vectors * t.lanes * (2 * width + g.k) + 64)


def register_tile(vectors: int) -> tuple[int, int]:
    """(rows, vectors): as many tiles as are needed side by side, all as wide as they can alike; then as high as registers allow."""
    many = isa.level in ("avx512", "neon")
    wide = -(-vectors // -(-vectors // (WIDEST if many else 2)))
    return {1: HIGHEST, 2: HIGHEST, 3: 9, 4: 6}[wide] if many else tile(dt.float32).rows, wide


@functools.cache
def tiles(stored: dt.dtype):
    """The table of one type: entry ((vectors - 1) * HIGHEST + rows - 1) is the kernel of that size, or null."""
    return (ctypes.c_void_p * (WIDEST * HIGHEST))()


def need(stored: dt.dtype, rows: int, vectors: int):
    table, i = tiles(stored), (vectors - 1) * HIGHEST + rows - 1
    if table[i] is None: table[i] = tile_kernel(tile(stored), rows, vectors)[0]


@code.program("main")
def driver(stored: dt.dtype, result: dt.dtype) -> str:
    p, t = Program(), tile(stored)
    T, L = t.acc, t.lanes
    pack.write(p, "pack", stored, Tile(T, 1, 1, L), True)
    _write_turn(p, t)
    with p.define("main", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W = {name: p.read(w, i) for i, name in enumerate(WORDS)}
        m, k, kc, panels, vectors, width = (W[x] for x in ("m", "k", "kc", "panels", "vectors", "width"))
        table, tail, pitch, sums = p.read_pointer(w, WORDS.index("tiles")), p.read_pointer(w, WORDS.index("tail")), vectors * L, p.read_pointer(ctx, 2)
        turned = p.offset(sums, pitch * width, T)
        packed = p.offset(turned, pitch * width, T)                                            # (pieces of k, vectors, steps, L)
        a, b, c = (p.read_pointer(vals, p.read(words, i)) for i in (W["a_at"], W["b_at"], 2))
        lo, hi = p.mine(ctx, W["batch"] * panels)

        def first_row(q): return q * W["height"] + p.min(q, W["taller"])

        with p.loop(lo // panels, p.ceil_div(hi, panels)) as item:
            a_off, b_off, c_off = batch_offsets(p, p.offset(w, len(WORDS), dt.int64), W["rank"], item, [W[x] for x in ("a_off", "b_off", "c_off")])
            with p.loop(0, k, kc) as k0, p.loop(0, vectors) as v:
                depth = p.min(kc, k - k0)
                p.run("pack", p.offset(a, a_off + v * L * W["a_row"] + k0 * W["a_col"], stored), W["a_row"], W["a_col"],
                      p.offset(packed, (k0 * vectors + v * depth) * L, T), p.int(L), p.min(m - v * L, L), depth)
            end = p.min(hi - item * panels, panels)
            with p.loop(p.max(lo - item * panels, 0), end, W["at_once"]) as first:
                behind, col = p.min(first + W["at_once"], end), first_row(first)
                cols = first_row(behind) - col
                out = p.offset(c, c_off + col * W["c_col"], result)
                p.otherwise(W["tail"].ne(0), lambda: p.run(tail, vals, words, sums, p.int(epilogue.AHEAD), item, 0, col, m, cols),
                            lambda: _ask(p, out, m, cols, W["c_row"], W["c_col"], result))
                with p.loop(0, k, kc) as k0:
                    depth = p.min(kc, k - k0)
                    further = p.pick(k0 + kc >= k, cols * W["b_col"] - k0, kc)                 # to the next block
                    with p.loop(0, vectors, W["wide"]) as v, p.loop(first, behind) as q:
                        row, height = first_row(q), W["height"] + p.pick(q < W["taller"], 1, 0)
                        at = p.offset(b, b_off + row * W["b_col"] + k0, stored)
                        kernel = p.read_pointer(table, (p.min(vectors - v, W["wide"]) - 1) * HIGHEST + height - 1)
                        p.run(kernel, at, W["b_col"], p.offset(packed, (k0 * vectors + v * depth) * L, T), p.offset(sums, (row - col) * pitch + v * L, T), pitch, depth, k0,
                              p.offset(at, further, stored))
                p.run("turn", sums, turned, pitch, width, m, cols)
                p.otherwise(W["tail"].ne(0), lambda: p.run(tail, vals, words, turned, width, item, 0, col, m, cols),
                            lambda: store_rows(p, t, turned, width, out, W, m, cols, result))
    return p.module()


def _ask(p: Program, out: Val, m, cols, row, col, t: dt.dtype):
    """Ask for the part of C that will be written."""
    with p.if_(col.eq(1)), p.loop(0, m) as i, p.loop(0, cols, 64 // t.size) as j: p.prefetch(p.offset(out, i * row + j, t), write=True, locality=2)


@code.program("tile")
def tile_kernel(t: Tile, height: int, vectors: int) -> str:
    """sums[i * pitch + v * L + lane] (+)= sum over q of b[i * step + q] * x[(v * k + q) * L + lane]; the lines that lie like b's from `ahead` on are asked for."""
    p, T, L = Program(), t.acc, t.lanes
    line = 64 // T.size
    with p.define("tile", "ptr b, i64 step, ptr x, ptr sums, i64 pitch, i64 k, i64 adding, ptr ahead", internal=False) as (b, step, x, sums, pitch, k, adding, ahead):
        panels = [p.offset(x, k * (v * L), T) for v in range(vectors)]
        totals = [[p.variable(p.const(0, T, L)) for _ in range(vectors)] for _ in range(height)]

        def one_step(at):
            ys = [p.load(p.offset(panel, at * L, T), T, L) for panel in panels]
            row = p.offset(b, at, T)
            for of_row in totals:
                one = p.load(row, T)
                for y, total in zip(ys, of_row): p.set(total, p.mad(one, y, p.get(total)))
                row = p.offset(row, step, T)                          # a running address: LLVM folds it into few registers
        whole = k & -line
        with p.loop(0, whole, line) as start:
            far = p.offset(ahead, start, T)
            for i in range(height): p.prefetch(p.offset(far, step * i, T), locality=2)
            with p.loop(start, start + line) as at: one_step(at)
        with p.loop(whole, k) as at: one_step(at)

        def put(adding):
            for i, of_row in enumerate(totals):
                for v, total in enumerate(of_row):
                    at = p.offset(sums, pitch * i + v * L, T)
                    p.store(p.add(p.load(at, T, L), p.get(total)) if adding else p.get(total), at)
        p.otherwise(adding.ne(0), lambda: put(True), lambda: put(False))
    return p.module()


def _write_turn(p: Program, t: Tile):
    """to[i * width + j] = sums[j * pitch + i], squares of vectors at a time; what stands beyond m and cols is moved, too."""
    T, L = t.acc, t.lanes
    with p.define("turn", "ptr sums, ptr to, i64 pitch, i64 width, i64 m, i64 cols") as (sums, to, pitch, width, m, cols):
        with p.loop(0, cols, L) as j, p.loop(0, m, L) as i:
            lines = pack.square(p, [p.load(p.offset(sums, (j + s) * pitch + i, T), T, L) for s in range(L)])
            for s, x in enumerate(lines): p.store(x, p.offset(to, (i + s) * width + j, T))
