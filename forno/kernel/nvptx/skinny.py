"""Products with few rows (or few columns: their transposes): what they cost is reading the large factor, so that is read once.

Comes in: a `Product` of matrices. Goes out: a DeviceLaunch, or None. Where the large factor's columns lie along k (weights of a linear layer), a warp makes all sums
of a column: its lanes read 16 bytes each where addresses allow it. Where they lie side by side, neighbouring threads have neighbouring columns and the warps of a
block share k.
"""
from __future__ import annotations

from dataclasses import replace

from ...core import dtype as dt
from ...core.kernels import DeviceLaunch
from ...cpu.isa import Isa
from ..epilogue import turned as turned_chain
from ..text import Val
from .abi import WARP
from .product import PART, Product, ProductKernel, late_of, numbers, program

FEW = 8                                        # rows at most
WARPS = {True: 4, False: 8}                    # of a block, by whether columns lie along k
DEEP = 32                                      # shorter sums are no work for a warp


class SkinnyKernel(ProductKernel):
    """All sums of as many columns as a block has warps, or lanes."""

    def __init__(self, p: Product, isa: Isa, rows: int):
        super().__init__(p, isa, WARP * WARPS[p.b.along_k])
        self.rows = rows

    def kernel(self):
        with self.body("product"):
            along = self.p.b.along_k
            self.position(1, WARPS[True] if along else WARP)
            lane, warp = self.and_(self.tid, WARP - 1), self.shr(self.tid, 5)
            column = self.add(self.column0, warp if along else lane)
            at = self.intrinsic("smin", column, self.sub(self.length("n"), 1))
            self.left, self.right = self.origins["a"], self.line("b", "i", at)
            if along: self.by_lanes(lane, column)
            else: self.by_warps(lane, warp, column)
        return self.module(), tuple(self.keys)

    def line(self, name: str, which: str, x) -> Val:
        s = self.matrices[name]
        return self.offset(self.origins[name], self.mul(x, self.length(name, which, 0, "stride")), s.dtype)

    def add_to(self, sums, k: Val):
        """One element of k."""
        y = self.cast(self.load(self.offset(self.right, self.mul(k, self.length("b", "k", 0, "stride")), self.p.b.dtype), self.p.b.dtype), self.sum)
        for r, place in enumerate(sums):
            at = self.add(self.mul(k, self.length("a", "k", 0, "stride")), self.mul(self.length("a", "i", 0, "stride"), r))
            x = self.cast(self.load(self.offset(self.left, at, self.p.a.dtype), self.p.a.dtype), self.sum)
            self.set(place, self.fma(x, y, self.get(place)))

    # ---- a warp per column
    def by_lanes(self, lane: Val, column: Val):
        sums = [self.variable(self.const(0, self.sum)) for _ in range(self.rows)]
        vectors = self.sum.category != dt.COMPLEX and self.p.a.along_k
        rest = self.by_vectors(sums, lane) if vectors else self.const(0, self.ix)
        with self.loop(self.cast(self.add(rest, lane), dt.int64), self.cast(self.end, dt.int64), WARP) as k: self.add_to(sums, self.cast(k, self.ix))
        found = []
        for x in map(self.get, sums):
            for i in reversed(range(5)): x = self.add(x, self.butterfly(x, 1 << i))
            found.append(x)
        mine = found[0]                        # lane r leaves row r
        for r in range(1, self.rows): mine = self.select(self.eq(lane, r), found[r], mine)
        with self.if_(self.and_(self.lt(lane, self.rows), self.lt(column, self.length("n")))): self.finish(mine, lane, column)

    def by_vectors(self, sums, lane: Val) -> Val:
        """Whole vectors of 16 bytes; where what they leave begins. 0 if addresses or strides don't allow any."""
        t = self.p.b.dtype
        n = 16 // t.size
        where = [self.emit(f"ptrtoint {self.origins[name]} to i64", dt.int64) for name in "ab"]
        straight = self.and_(self.word("a", "straight"), self.word("b", "straight"))
        even = self.and_(self.eq(self.and_(self.or_(*where), 15), 0), self.ne(straight, 0))
        whole = self.select(even, self.and_(self.end, -n), 0)
        wide = [self.variable(self.const(0, self.sum, n)) for _ in sums]
        with self.loop(self.cast(self.mul(lane, n), dt.int64), self.cast(whole, dt.int64), WARP * n) as k:
            k = self.cast(k, self.ix)
            y = self.cast(self.load(self.offset(self.right, k, t), t, n, 16), self.sum)
            for r, place in enumerate(wide):
                x = self.offset(self.left, self.add(k, self.mul(self.length("a", "i", 0, "stride"), r)), t)
                self.set(place, self.fma(self.cast(self.load(x, t, n, 16), self.sum), y, self.get(place)))
        for s, place in zip(sums, wide): self.set(s, self.reduce(self.get(place), self.add))
        return whole

    # ---- a thread per column, a part of k per warp
    def by_warps(self, lane: Val, warp: Val, column: Val):
        sums = [self.variable(self.const(0, self.sum)) for _ in range(self.rows)]
        with self.loop(self.cast(warp, dt.int64), self.cast(self.end, dt.int64), WARPS[False]) as k: self.add_to(sums, self.cast(k, self.ix))
        room = self.shared_memory(WARPS[False] * self.rows * WARP * self.sum.size)
        for r, s in enumerate(sums): self.store(self.get(s), self.offset(room, self.add(self.add(self.mul(warp, self.rows * WARP), r * WARP), lane), self.sum))
        self.barrier()
        with self.if_(self.and_(self.lt(warp, self.rows), self.lt(column, self.length("n")))):          # warp r leaves row r
            x = None
            for w in range(WARPS[False]):
                y = self.load(self.offset(room, self.add(self.add(self.mul(warp, WARP), lane), w * self.rows * WARP), self.sum), self.sum)
                x = y if x is None else self.add(x, y)
            self.finish(x, warp, column)


def turned(p: Product) -> Product:
    """The transpose."""
    c = replace(p.c, i=p.c.k, k=p.c.i, along_k=p.c.i[0].stride == 1 or p.c.k[0].stride != 1)
    return replace(p, m=p.n, n=p.m, a=p.b, b=p.a, c=c, epilogue=p.epilogue and turned_chain(p.epilogue))


def launch(p: Product, isa: Isa) -> DeviceLaunch | None:
    if p.of_images or p.a.axes or p.b.axes or p.bias or any(len(d) > 1 for s in (p.a, p.b, p.c) for d in (s.i, s.k)): return None
    if p.m > FEW >= p.n: p = turned(p)
    if not 0 < p.m <= FEW or p.n * p.count == 0 or p.k < DEEP or p.n * p.count < WARP and p.k >= 4 * PART: return None
    ptx, keys = program(SkinnyKernel, "product", p, isa, p.m)
    columns = WARPS[True] if p.b.along_k else WARP
    blocks = -(-p.n // columns)
    named = {"m": p.m, "n": p.n, "k": p.k, "tiles m": 1, "tiles n": blocks}
    return DeviceLaunch("product", ptx, numbers(p, keys, named), (blocks * p.count, 1, 1), (WARP * WARPS[p.b.along_k], 1, 1), late=late_of(keys), bytes=p.bytes, flops=p.flops)
