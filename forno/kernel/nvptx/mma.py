"""Products of matrices on tensor cores: mma.sync with float32 sums, of float16, bfloat16, and of float32 rounded to tf32 where a program allows that.

Comes in: a `Product` of matrices (or of images that lie like some), for compute capability 8.0 or later. Goes out: a DeviceLaunch. Four warps make a square tile,
each a quarter of it. Three stages of 64 bytes along k lie in shared memory: while one is multiplied, two are on their way (cp.async, 16 bytes at a time, zeros
beyond the matrix; where addresses aren't that even, plain loads). A factor's tile has a line per row, 64 bytes along k; of 16-bit types whose rows are neighbours
in memory, a line per k, which ldmatrix transposes. Blocks of 16 bytes change places within a line, so that eight lines are read from eight different groups of
banks.
"""
from __future__ import annotations

from ...core import dtype as dt
from ...core.kernels import DeviceLaunch
from ...cpu.isa import Isa
from ...cpu.nvptx import number_of
from ..text import PTR, Val
from .abi import WARP
from .product import TOGETHER, Product, ProductKernel, tiled

THREADS, STAGES, LINE, CHUNK = 128, 3, 64, 16  # bytes of a line along k, and of one copy
MMA = {dt.bfloat16: "m16n8k16.row.col.bf16", dt.float16: "m16n8k16.row.col.f32.f32", dt.float32: "m16n8k8.row.col.tf32"}
OLDER = "m16n8k8.row.col.f32.f32"              # of float16 before capability 8.0: half as deep
FOUR_WORDS, FOUR_SUMS = "{ i32, i32, i32, i32 }", "{ float, float, float, float }"
MANY = 96                                      # tiles of 128 × 128 that keep a GPU busy
PITCH = 8                                      # results by which a line is longer when they leave: pairs of eight lines are in different banks


class TensorKernel(ProductKernel):
    """`tile`: results per side, 64 or 128. `strips`: warps side by side; two are one below the other."""

    def __init__(self, p: Product, isa: Isa, partial: bool, tile: int, strips: int = 2):
        super().__init__(p, isa, 2 * strips * WARP)
        self.partial, self.tile, self.strips = partial, tile, strips
        self.blocks = {"a": tile // 32, "b": tile // (16 * strips)}          # of 16 rows that a warp reads of a factor
        self.t = p.a.dtype
        self.per = CHUNK // self.t.size        # elements of a copy
        self.depth = LINE // self.t.size
        self.room = tile * LINE                # bytes of a factor's tile
        self.turned = {name: turns(self.matrices[name]) for name in "ab"}

    def kernel(self):
        with self.body("product"):
            self.position(self.tile, self.tile)
            self.shared_memory(max(2 * STAGES * self.room, self.results_bytes))
            self.divide()
            self.even = {name: self.evenly(name) for name in "ab"}
            self.corners = self.reads()
            sums = self.zeros()
            with self.if_(self.lt(self.begin, self.end)):
                for s in range(STAGES - 1): self.bring(self.const(s * 2 * self.room, self.ix), self.add(self.begin, s * self.depth))
            here, free = self.variable(self.const(0, self.ix)), self.variable(self.const((STAGES - 1) * 2 * self.room, self.ix))
            with self.loop(self.cast(self.begin, dt.int64), self.cast(self.end, dt.int64), self.depth) as k0:
                self.nvvm(f"cp.async.wait.group(i32 {STAGES - 2})")
                self.barrier()
                self.bring(self.get(free), self.add(self.cast(k0, self.ix), (STAGES - 1) * self.depth))
                self.multiply(sums, self.get(here))
                for stage in (here, free): self.set(stage, self.after(self.get(stage)))
            self.nvvm("cp.async.wait.group(i32 0)")
            self.results(sums)
        return self.module(), tuple(self.keys)

    def divide(self):
        """A warp's part of the tile."""
        self.lane, warp = self.and_(self.tid, WARP - 1), self.shr(self.tid, 5)
        self.down, self.across = self.mul(self.quotient(warp, self.strips), self.tile // 2), self.mul(self.and_(warp, self.strips - 1), self.tile // self.strips)

    def zeros(self): return [[[self.variable(self.const(0, dt.float32)) for _ in range(4)] for _ in range(2 * self.blocks["b"])] for _ in range(self.blocks["a"])]

    @property
    def results_bytes(self) -> int: return self.tile // 2 * (self.tile + PITCH) * 4

    def nvvm(self, call: str):
        """An instruction without a result; `call` has its operands' types."""
        name, _, rest = call.partition("(")
        kinds = ", ".join(a.strip().rsplit(" ", 1)[0] for a in rest[:-1].split(", ")) if rest[:-1] else ""
        self.declared[name] = f"declare void @llvm.nvvm.{name}({kinds.replace('i32', 'i32 immarg') if 'wait' in name else kinds})"
        self.put(f"call void @llvm.nvvm.{call}")

    def after(self, stage: Val) -> Val: return self.select(self.eq(stage, (STAGES - 1) * 2 * self.room), 0, self.add(stage, 2 * self.room))

    def shared_at(self, at: Val) -> str: return self.emit(f"getelementptr i8, ptr addrspace(3) @shared, {at}", PTR).text

    # ---- from memory
    def evenly(self, name: str) -> Val:
        """Can this batch entry's matrix be copied 16 bytes at a time?"""
        at = self.emit(f"ptrtoint {self.origins[name]} to i64", dt.int64)
        return self.and_(self.eq(self.and_(at, CHUNK - 1), 0), self.ne(self.word(name, "straight"), 0))

    def bring(self, stage: Val, k0: Val):
        """A step along k, which begins at k0, of both factors: one group of copies."""
        for name in "ab": self.bring_one(name, stage, k0)
        self.nvvm("cp.async.commit.group()")

    def bring_one(self, name: str, stage: Val, k0: Val):
        first, limit, at = (self.row0, "m", 0) if name == "a" else (self.column0, "n", self.room)
        self.bring_factor(name, first, self.length(limit), self.add(stage, at), k0)

    def bring_factor(self, name: str, first: Val, limit: Val, stage: Val, k0: Val):
        """A thread's copies are a number of lines apart. `line`: index across lines; `along`: where its 16 bytes begin on them."""
        s, turned = self.matrices[name], self.turned[name]
        blocks = self.tile // self.per if turned else LINE // CHUNK
        apart, bits = self.threads_per_block // blocks, blocks.bit_length() - 1
        chunk, line = self.and_(self.tid, blocks - 1), self.shr(self.tid, bits)
        along = self.mul(chunk, self.per)
        across0, across_end, along0, along_end = (k0, self.end, first, limit) if turned else (first, limit, k0, self.end)
        across_by, which = self.length(name, "k" if turned else "i", 0, "stride"), "i" if turned else "k"
        at = self.add(along0, along)
        turns_ = (self.depth if turned else self.tile) // apart

        def copies():
            begins = self.place(name, which, self.digits(at, name, which))[0] if len(getattr(s, which)) > 1 else at
            left = self.intrinsic("smax", self.intrinsic("smin", self.sub(along_end, at), self.const(self.per, self.ix)), self.const(0, self.ix))
            for turn in range(turns_):
                y = self.add(line, turn * apart)
                across = self.add(across0, y)
                n = self.select(self.lt(across, across_end), left, 0)
                source = self.offset(self.origins[name], self.select(self.gt(n, 0), self.add(self.mul(across, across_by), begins), 0), s.dtype)
                source = self.emit(f"addrspacecast {source} to ptr addrspace(1)", PTR).text
                target, nbytes = self.shared_at(self.add(stage, self.in_tile(turned, y, chunk))), self.cast(self.mul(n, self.t.size), dt.int32)
                self.nvvm(f"cp.async.cg.shared.global.16.s(ptr addrspace(3) {target}, ptr addrspace(1) {source}, {nbytes})")

        def elements():
            with self.loop(0, turns_) as turn:
                y = self.add(line, self.mul(self.cast(turn, self.ix), apart))
                across, target = self.add(across0, y), self.shared_at(self.add(stage, self.in_tile(turned, y, chunk)))
                xs = []
                for e in range(self.per):
                    x = self.add(at, e)
                    inside = self.and_(self.lt(across, across_end), self.lt(x, along_end))
                    place = self.select(inside, self.add(self.mul(across, across_by), self.place(name, which, self.digits(x, name, which))[0]), 0)
                    xs.append(self.select(inside, self.load(self.offset(self.origins[name], place, s.dtype), s.dtype), 0))
                for e, x in enumerate(xs):
                    place = self.emit(f"getelementptr i8, ptr addrspace(3) {target}, i32 {e * self.t.size}", PTR).text
                    self.put(f"store {x}, ptr addrspace(3) {place}, align {self.t.size}")
        if turned or s.along_k: self.choose(self.even[name], copies, elements)
        else: elements()

    def in_tile(self, turned: bool, line: Val, chunk: Val) -> Val:
        """Where a block of 16 bytes lies in a factor's tile."""
        if turned: return self.add(self.mul(line, self.tile * self.t.size), self.mul(self.xor(chunk, self.and_(line, 7)), CHUNK))
        return self.add(self.mul(line, LINE), self.mul(self.xor(chunk, self.and_(self.shr(line, 1), 3)), CHUNK))

    # ---- to registers
    def reads(self) -> dict:
        """(factor, block of 16 rows, step of two blocks along k) -> this lane's part of an ldmatrix of it. Only what isn't known before is worked out: by step, or by
        block, as lines lie."""
        low, middle, high = self.and_(self.lane, 7), self.and_(self.shr(self.lane, 3), 1), self.shr(self.lane, 4)
        out = {}
        for name, first, second_row, second_k in (("a", self.down, middle, high), ("b", self.across, high, middle)):
            eight_rows, eight_k = self.mul(second_row, 8), self.mul(second_k, 8)
            if self.turned[name]:              # a line per k
                k = self.add(low, eight_k)
                for block in range(self.blocks[name]):
                    chunk = self.add(self.add(self.shr(first, 3), 2 * block), second_row)
                    for step in range(2): out[name, block, step] = self.in_tile(True, k, chunk), step * 16 * self.tile * self.t.size
            else:
                row = self.add(self.add(first, low), eight_rows)
                for step in range(2):
                    at = self.in_tile(False, row, self.add(second_k, 2 * step))
                    for block in range(self.blocks[name]): out[name, block, step] = at, block * 16 * LINE
        return out

    def fragment(self, name: str, stage: Val, block: int, step: int) -> list[str]:
        """Four matrices of 8 × 8 (of float32: 8 × 4) as registers of the warp."""
        at, more = self.corners[name, block, step]
        place = self.shared_at(self.add(self.add(stage, at), more + (self.room if name == "b" else 0)))
        how = "ldmatrix.sync.aligned.m8n8.x4." + ("trans." if self.turned[name] else "") + "b16.p3"
        self.declared[how] = f"declare {FOUR_WORDS} @llvm.nvvm.{how}(ptr addrspace(3))"
        four = self.emit(f"call {FOUR_WORDS} @llvm.nvvm.{how}(ptr addrspace(3) {place})", PTR).text
        return [self.register(self.emit(f"extractvalue {FOUR_WORDS} {four}, {i}", dt.int32)) for i in range(4)]

    def register(self, x: Val) -> str:
        """A fragment's register as mma takes it, with its type."""
        if self.t is dt.float16: return f"<2 x half> {self.emit(f'bitcast {x} to <2 x half>', dt.int32).text}"
        return str(self.call("llvm.nvvm.f2tf32.rna", dt.int32, self.bitcast(x, dt.float32))) if self.t is dt.float32 else str(x)

    def multiply(self, sums, stage: Val, steps=(0, 1)):
        now = [[[self.get(s) for s in four] for four in line] for line in sums]
        for step in steps:
            left, right = ([self.fragment(name, stage, block, step) for block in range(self.blocks[name])] for name in "ab")
            right = [half for four in right for half in (four[:2], four[2:])]
            for x, line in zip(left, now):
                for j, y in enumerate(right):
                    line[j] = self.add_product(x, y, line[j])
        for places, line in zip(sums, now):
            for four, xs in zip(places, line):
                for place, x in zip(four, xs): self.set(place, x)

    def add_product(self, x: list[str], y: list[str], sums: list[Val]) -> list[Val]:
        """Four sums of a lane and what a step adds to them, from fragments of 16 rows and of 8 columns."""
        older = number_of(self.isa.cpu) < 80
        name, word = f"llvm.nvvm.mma.{OLDER if older else MMA[self.t]}", "<2 x half>" if self.t is dt.float16 else "i32"
        pieces = [(*x[:2], y[0]), (*x[2:], y[1])] if older else [(*x, *y)]
        self.declared[name] = f"declare {FOUR_SUMS} @{name}({', '.join([word] * len(pieces[0]) + ['float'] * 4)})"
        for piece in pieces:
            four = self.emit(f"call {FOUR_SUMS} @{name}({', '.join([*piece, *map(str, sums)])})", PTR).text
            sums = [self.emit(f"extractvalue {FOUR_SUMS} {four}, {q}", dt.float32) for q in range(4)]
        return sums

    # ---- to memory
    def results(self, sums):
        """By way of shared memory, half of every warp's rows at a time, so that neighbouring threads write neighbours."""
        pitch, rows, wide = self.tile + PITCH, self.tile // 2, TOGETHER if self.p.flat else 1
        half = rows // 2                       # of a warp's rows
        line, pair = self.shr(self.lane, 2), self.mul(self.and_(self.lane, 3), 2)
        mine = self.add(self.mul(self.add(self.quotient(self.down, 2), line), pitch), self.add(self.across, pair))
        across = self.p.c.along_k or self.p.flat
        together = self.together() if wide > 1 else None
        for above in (0, half):
            self.barrier()
            for i in range(half // 16):
                for j, four in enumerate(sums[above // 16 + i]):
                    for q, s in enumerate(four):
                        at = self.add(self.mul(mine, 4), 4 * ((16 * i + q // 2 * 8) * pitch + 8 * j + q % 2))
                        self.put(f"store {self.get(s)}, ptr addrspace(3) {self.shared_at(at)}, align 4")
            self.barrier()
            with self.leaving(rows, self.tile, across, wide) as (y, x, column):
                row = self.add(self.row0, self.add(self.add(self.mul(self.quotient(y, half), rows), self.and_(y, half - 1)), above))
                with self.if_(self.lt(row, self.length("m"))): self.finish_some(together, self.add(self.mul(y, pitch), x), row, column)

    def finish_some(self, together: Val | None, at: Val, row: Val, column: Val):
        """Neighbours of a row, from shared memory: in one piece where that many are left, and `together` allows it. None: a single one."""
        def some(n, by) -> Val:
            kind = "float" if n == 1 else f"<{n} x float>"
            return self.emit(f"load {kind}, ptr addrspace(3) {self.shared_at(self.mul(self.add(at, by), 4))}, align {4 * n}", dt.float32, n)

        def single(by):
            with self.if_(self.lt(self.add(column, by), self.length("n"))): self.finish(some(1, by), row, self.add(column, by))

        def singles():
            with self.loop(0, TOGETHER) as e: single(self.cast(e, self.ix))
        if together is None: return single(0)
        whole = self.and_(together, self.le(self.add(column, TOGETHER), self.length("n")))
        self.choose(whole, lambda: self.finish(some(TOGETHER, 0), row, column), singles)


def turns(source) -> bool: return source.dtype.size == 2 and not source.along_k


def accepts(p: Product, isa: Isa) -> bool:
    """Can tensor cores compute it, and is there enough of it?"""
    if number_of(isa.cpu) < 80 or p.a.dtype not in MMA or p.a.dtype is dt.float32 and not p.rounding: return False
    return not p.a.axes and not p.b.axes and all(len(s.k if turns(s) else s.i) == 1 for s in (p.a, p.b)) and min(p.m, p.n, p.k) >= 8


def tile_of(p: Product) -> int: return 128 if min(p.m, p.n) > 64 and -(-p.m // 128) * -(-p.n // 128) * p.count >= MANY else 64


def launch(p: Product, isa: Isa) -> DeviceLaunch:
    tile = tile_of(p)
    return tiled(TensorKernel, p, isa, tile, tile, THREADS, LINE // p.a.dtype.size, tile)
