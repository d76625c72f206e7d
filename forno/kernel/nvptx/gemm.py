"""Matrix products on any GPU and of any type: tiles in shared memory, each thread a square of results in registers.

Comes in: core.kernels.Gemm. Goes out: a DeviceLaunch. A block computes TILE × TILE results of one batch entry; DEPTH columns of a and rows of b at a time lie in
shared memory, in the type that sums are made in (float32 for half types). Sums go along k in order, so results are the same bits in every run.
"""
from __future__ import annotations

import functools
import math

from ...core.kernels import DeviceLaunch, Gemm
from ...cpu import nvptx
from ...cpu.isa import Isa
from ..text import Val
from .abi import DeviceKernel

TILE, DEPTH, SIDE, PAD = 64, 16, 4, 4          # results per side of a block and of a thread; elements by which rows in shared memory are longer
ACROSS = TILE // SIDE                          # threads per side
THREADS = ACROSS * ACROSS
ROW = TILE + PAD


class GemmKernel(DeviceKernel):
    """`rank`: batch axes. `along_k`, `along_n`: are a's elements neighbours along k, b's along n? Threads read neighbours."""
    threads_per_block = THREADS

    def __init__(self, operands, isa: Isa, types, rank: int, along_k: bool, along_n: bool):
        self.isa = isa
        super().__init__(operands)
        self.a_type, self.b_type, self.c_type = types
        self.rank, self.along_k, self.along_n = rank, along_k, along_n
        self.sum = self.a_type.opmath

    def kernel(self):
        with self.body("gemm"):
            thread = self.special("tid.x")
            self.thread, row, column = thread, self.shr(thread, 4), self.and_(thread, ACROSS - 1)
            room = 2 * DEPTH * ROW * self.sum.size
            shared = self.shared_memory(room)
            self.left, self.right = shared, self.offset(shared, DEPTH * ROW, self.sum)
            tile, self.column0 = self.divided_by(self.special("ctaid.x"), self.word("tiles n"))
            batch, self.row0 = self.divided_by(tile, self.word("tiles m"))
            self.row0, self.column0 = self.mul(self.row0, TILE), self.mul(self.column0, TILE)
            a, b, c = self.origins(batch)
            sums = [[self.variable(self.const(0, self.sum)) for _ in range(SIDE)] for _ in range(SIDE)]
            with self.loop(0, self.word("k"), DEPTH) as k0:
                self.stage(a, self.left, self.a_type, k0, self.row0, self.word("m"), self.word("a rows"), self.word("a cols"), self.along_k)
                self.stage(b, self.right, self.b_type, k0, self.column0, self.word("n"), self.word("b cols"), self.word("b rows"), not self.along_n)
                self.barrier()
                self.multiply(sums, row, column)
                self.barrier()
            self.results(sums, c, row, column)
        return self.module(), tuple(self.keys)

    def divided_by(self, x: Val, y: Val) -> tuple[Val, Val]:
        q = self.truncdiv_small(x, y)
        return q, self.sub(x, self.mul(q, y))

    def origins(self, batch: Val):
        """Where this batch entry's matrices begin."""
        at = [self.word(name, "offset") for name in "abc"]
        for d in reversed(range(self.rank)):
            batch, i = self.divided_by(batch, self.word("batch", d)) if d else (batch, batch)
            at = [self.add(x, self.mul(i, self.word(name, "batch", d))) for x, name in zip(at, "abc")]
        return [self.offset(self.base(k), x, t) for k, (x, t) in enumerate(zip(at, (self.a_type, self.b_type, self.c_type)))]

    def stage(self, source: Val, target: Val, t, k0: Val, first: Val, size: Val, step: Val, k_step: Val, along_k: bool):
        """DEPTH × TILE elements, zeros beyond the matrix: element (k, i) at target[k * ROW + i]. `step`, `k_step`: strides of i and k."""
        for turn in range(TILE * DEPTH // THREADS):
            at = self.add(self.thread, turn * THREADS)
            k, i = (self.and_(at, DEPTH - 1), self.shr(at, 4)) if along_k else (self.shr(at, 6), self.and_(at, TILE - 1))
            row, depth = self.add(first, i), self.add(k0, k)
            inside = self.and_(self.lt(row, size), self.lt(depth, self.word("k")))
            index = self.add(self.mul(row, step), self.mul(depth, k_step))
            x = self.choose(inside, lambda index=index: self.cast(self.load(self.offset(source, index, t), t), self.sum), lambda: self.const(0, self.sum))
            self.store(x, self.offset(target, self.add(self.mul(k, ROW), i), self.sum))

    def multiply(self, sums, row: Val, column: Val):
        rows, columns = self.offset(self.left, self.mul(row, SIDE), self.sum), self.offset(self.right, self.mul(column, SIDE), self.sum)
        for k in range(DEPTH):
            a, b = ([self.load(self.offset(p, k * ROW + i, self.sum), self.sum) for i in range(SIDE)] for p in (rows, columns))
            for i in range(SIDE):
                for j in range(SIDE): self.set(sums[i][j], self.fma(a[i], b[j], self.get(sums[i][j])))

    def results(self, sums, c: Val, row: Val, column: Val):
        first, side = self.add(self.row0, self.mul(row, SIDE)), self.add(self.column0, self.mul(column, SIDE))
        for i in range(SIDE):
            for j in range(SIDE):
                y, x = self.add(first, i), self.add(side, j)
                with self.if_(self.and_(self.lt(y, self.word("m")), self.lt(x, self.word("n")))):
                    at = self.add(self.mul(y, self.word("c rows")), self.mul(x, self.word("c cols")))
                    self.store(self.cast(self.get(sums[i][j]), self.c_type), self.offset(c, at, self.c_type))


@functools.cache
def program(operands, isa: Isa, *structure):
    text, keys = GemmKernel(operands, isa, *structure).kernel()
    return nvptx.ptx(text, "gemm", isa), keys


def build(g: Gemm, isa: Isa) -> DeviceLaunch:
    ptx, keys = program(g.operands, isa, (g.a.dtype, g.b.dtype, g.c.dtype), len(g.batch), g.a.cols == 1, g.b.cols == 1)
    tiles_m, tiles_n = -(-g.m // TILE), -(-g.n // TILE)
    matrices = {"a": g.a, "b": g.b, "c": g.c}
    named = {"m": g.m, "n": g.n, "k": g.k, "tiles m": tiles_m, "tiles n": tiles_n, "a rows": g.a.rows, "a cols": g.a.cols, "b rows": g.b.rows, "b cols": g.b.cols,
             "c rows": g.c.rows, "c cols": g.c.cols}

    def number(key):
        if key[0] == "batch": return g.batch[key[1]]
        if key[0] in matrices: return matrices[key[0]].offset if key[1] == "offset" else matrices[key[0]].batch[key[2]]
        return named[key[0]]
    count = math.prod(g.batch)
    moved = count * (g.m * g.k * g.a.dtype.size + g.k * g.n * g.b.dtype.size + g.m * g.n * g.c.dtype.size)
    return DeviceLaunch("gemm", ptx, tuple(map(number, keys)), (max(1, tiles_m * tiles_n * count), 1, 1), (THREADS, 1, 1), bytes=moved, flops=2 * count * g.m * g.n * g.k)
