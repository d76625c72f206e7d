"""Products on any GPU and of any type: tiles in shared memory, each thread a square of results in registers.

Comes in: core.kernels.Gemm, or any `Product`. Goes out: a DeviceLaunch, of the kernel that suits it: skinny.py's for few rows, mma.py's or gathered.py's
where tensor cores take the type, else the one here. A block computes a square tile of one batch entry. Steps along k lie in shared memory, in the type that sums
are made in (float32 for half types): while one is multiplied, the next one is on its way through registers. Sums go along k in order, in parts whose number
depends on sizes alone, so results are the same bits in every run.
"""
from __future__ import annotations

import math
from dataclasses import replace

from ...core import dtype as dt
from ...core.errors import unsupported
from ...core.kernels import DeviceLaunch, Gemm, Matrix
from ...core.state import state
from ...cpu.isa import Isa
from ..text import Val
from . import gathered, mma, skinny
from .product import Digit, Product, ProductKernel, Source, Walk, tiled

ACROSS = 16                                    # threads per side of a block
THREADS = ACROSS * ACROSS
QUAD = 4                                       # results of a thread lie in squares of so many: reads of shared memory are 16 bytes
SPAN = ACROSS * QUAD                           # rows from a thread's square to its next one
PAD = 4                                        # elements by which rows in shared memory are longer
MANY = 96                                      # large tiles that keep a GPU busy


class TileKernel(ProductKernel):
    """`side`: results per side of a thread's square, 4 or 8."""

    def __init__(self, p: Product, isa: Isa, partial: bool, side: int):
        super().__init__(p, isa, THREADS)
        self.partial, self.side, self.tile, self.depth = partial, side, ACROSS * side, depth_of(p)
        blocks = 1 if p.sum.category == dt.COMPLEX or side > QUAD else 2 if p.b.axes or p.sum.size == 8 else 3            # left alone, ptxas aims at more, and spills
        self.tuning = f' "nvvm.minctasm"="{blocks}"'
        self.line = self.tile + PAD
        self.room = self.depth * self.line     # elements of a factor's tile

    def kernel(self):
        with self.body("product"):
            self.position(self.tile, self.tile)
            self.across, self.down = self.and_(self.tid, ACROSS - 1), self.shr(self.tid, ACROSS.bit_length() - 1)
            self.tiles = self.shared_memory(4 * self.room * self.sum.size)
            self.sums = [[self.variable(self.const(0, self.sum)) for _ in range(self.side)] for _ in range(self.side)]
            walks = (Walk(self, "a", self.row0, self.length("m"), self.tile, self.depth), Walk(self, "b", self.column0, self.length("n"), self.tile, self.depth))
            stage = self.variable(self.const(0, self.ix))
            with self.if_(self.lt(self.begin, self.end)): self.bring(walks, [w.fetch(self.begin) for w in walks], self.const(0, self.ix))
            self.barrier()
            with self.loop(self.cast(self.begin, dt.int64), self.cast(self.end, dt.int64), self.depth) as k0:
                here = self.get(stage)
                other = self.sub(2 * self.room, here)
                for w in walks: w.advance()
                ahead = [w.fetch(self.add(self.cast(k0, self.ix), self.depth)) for w in walks]
                self.multiply(here)
                self.bring(walks, ahead, other)
                self.set(stage, other)
                self.barrier()
            self.results()
        return self.module(), tuple(self.keys)

    def bring(self, walks, values, stage: Val):
        """Elements of both factors into a stage of shared memory: (k, i) at k lines and i."""
        for w, xs, first in zip(walks, values, (0, self.room)):
            for (i, k), x in zip(w.at, xs):
                self.store(x, self.offset(self.tiles, self.add(self.add(stage, first), self.add(self.mul(k, self.line), i)), self.sum))

    def multiply(self, stage: Val):
        sums = [[self.get(s) for s in line] for line in self.sums]
        rows, columns = (self.offset(self.tiles, self.add(self.add(stage, first), self.mul(at, QUAD)), self.sum) for at, first in ((self.down, 0), (self.across, self.room)))
        for k in range(self.depth):
            a, b = ([x for q in range(self.side // QUAD) for x in self.four(p, k * self.line + q * SPAN)] for p in (rows, columns))
            sums = [[self.fma(x, y, s) for y, s in zip(b, line)] for x, line in zip(a, sums)]
        for places, line in zip(self.sums, sums):
            for place, s in zip(places, line): self.set(place, s)

    def four(self, p: Val, at: int) -> list[Val]:
        x = self.load(self.offset(p, at, self.sum), self.sum, QUAD, min(16, QUAD * self.sum.size))
        return [self.extract(x, i) for i in range(QUAD)]

    def results(self):
        """By way of shared memory, so that neighbouring threads write neighbours, and what becomes of a sum is written once for many."""
        per = QUAD if self.sum.size <= 8 else QUAD // 2                     # of a square's rows at a time
        pitch, rows = self.tile + 1, ACROSS * per
        for first in range(0, self.side, per):
            above = first // QUAD * SPAN + first % QUAD
            if first: self.barrier()
            for i in range(per):
                for j, s in enumerate(self.sums[first + i]):
                    at = self.add(self.mul(self.add(self.mul(self.down, per), i), pitch), self.add(self.mul(self.across, QUAD), j // QUAD * SPAN + j % QUAD))
                    self.store(self.get(s), self.offset(self.tiles, at, self.sum))
            self.barrier()
            with self.leaving(rows, self.tile, self.p.c.along_k) as (y, x, column):
                row = self.add(self.row0, self.add(self.add(self.mul(self.shr(y, per.bit_length() - 1), QUAD), self.and_(y, per - 1)), above))
                with self.if_(self.and_(self.lt(row, self.length("m")), self.lt(column, self.length("n")))):
                    self.finish(self.load(self.offset(self.tiles, self.add(self.mul(y, pitch), x), self.sum), self.sum), row, column)


def depth_of(p: Product) -> int:
    """Of a step: two stages of both factors fit a block's shared memory."""
    return 16 if p.sum.size <= 8 else 8


def launch(p: Product, isa: Isa) -> DeviceLaunch:
    if (few := skinny.launch(p, isa)) is not None: return few
    if gathered.accepts(p, isa): return gathered.launch(p, isa)
    if mma.accepts(p, isa): return mma.launch(p, isa)
    side = 2 * QUAD if p.sum.size <= 4 and min(p.m, p.n) > SPAN and -(-p.m // 128) * -(-p.n // 128) * p.count >= MANY else QUAD
    return tiled(TileKernel, p, isa, ACROSS * side, ACROSS * side, THREADS, depth_of(p), side)


# ---------------------------------------------------------------- matrices
def build(g: Gemm, isa: Isa) -> DeviceLaunch:
    if g.a.dtype in (dt.bool, dt.complex32): raise unsupported("matmul", g.a.dtype, device="cuda", instead="convert the operands")
    return launch(replace(product_of(g), rounding=g.rounding or state.tf32[0]), isa)


def product_of(g: Gemm) -> Product:
    a = source(0, g.a, (g.m, g.a.rows), (g.k, g.a.cols))
    b = source(1, g.b, (g.n, g.b.cols), (g.k, g.b.rows))
    c = source(2, g.c, (g.m, g.c.rows), (g.n, g.c.cols))
    count = math.prod(g.batch)
    moved = count * (g.m * g.k * g.a.dtype.size + g.k * g.n * g.b.dtype.size + g.m * g.n * g.c.dtype.size)
    return Product(g.batch, g.m, g.n, g.k, a, b, c, g.operands, g.c.dtype, g.epilogue, g.rounding, bytes=moved)


def source(operand: int, x: Matrix, i: tuple[int, int], k: tuple[int, int]) -> Source:
    return Source(operand, x.dtype, (Digit(*i),), (Digit(*k),), i[1] != 1 or k[1] == 1, x.offset, x.batch)
