"""Products on tensor cores whose factors don't lie as copies want them: images of convolutions, matrices with gaps, any matrix where a chip has no asynchronous copies.

Comes in: a `Product`, for compute capability 7.5 (float16) or 8.0 and later. Goes out: a DeviceLaunch. As in mma.py, but a gathered factor's elements are loaded one
by one, a step along k ahead, half of them while half a step is multiplied; 16 bytes of them go to shared memory together. Neighbouring threads read neighbours in
memory: each has an index of its own (a row of the tile, where rows lie side by side, else a k). The other index is the same for a warp, so where it moves an
element is worked out once, and stands in a table in shared memory. A factor whose lines are straight is copied as in mma.py.
"""
from __future__ import annotations

from ...core import dtype as dt
from ...core.kernels import DeviceLaunch
from ...cpu import nvptx
from ...cpu.isa import Isa
from ...cpu.nvptx import number_of
from ..text import Val
from . import mma
from .abi import WARP
from .mma import CHUNK, LINE, MMA, TensorKernel
from .product import Product, Source, advance, tiled

STAGES = 2
PTX = 65                                       # ldmatrix
FAR = 1 << 30                                  # moves a coordinate out of any image


class GatheredKernel(TensorKernel):
    """`gathered`: the factors ("a", "b" or "ab") whose elements are loaded one by one."""

    def __init__(self, p: Product, isa: Isa, partial: bool, tile: int, gathered: str):
        super().__init__(p, isa, partial, tile, strips_of(tile))
        self.gathered, self.copied = gathered, [name for name in "ab" if name not in gathered]
        for name in gathered: self.turned[name] = self.t.size == 2 and self.matrices[name].along_k

    def kernel(self):
        with self.body("product"):
            self.position(self.tile, self.tile)
            tables = [Table(self, name) for name in self.gathered]
            at = 2 * STAGES * self.room
            for t in tables:
                t.at = at
                at += t.nbytes
            self.shared_memory(max(at, self.results_bytes))
            self.divide()
            self.even = {name: self.evenly(name) for name in self.copied}
            self.corners = self.reads()
            sums, first, limit = self.zeros(), {"a": self.row0, "b": self.column0}, {"a": "m", "b": "n"}
            gathers = [Gather(self, t, first[t.name], self.length(limit[t.name])) for t in tables]
            self.barrier()
            with self.if_(self.lt(self.begin, self.end)):
                start = self.const(0, self.ix)
                self.copy(start, self.begin)
                for half in range(2): self.arrive(gathers, start, half, [g.fetch(start, half) for g in gathers])
            for g in gathers: g.advance(self.const(2 * self.room, self.ix), self.add(self.begin, self.depth))
            here = self.variable(self.const(0, self.ix))
            with self.loop(self.cast(self.begin, dt.int64), self.cast(self.end, dt.int64), self.depth) as k0:
                k0, stage = self.cast(k0, self.ix), self.get(here)
                other, ahead = self.sub(2 * self.room, stage), self.add(k0, self.depth)
                self.landed()
                self.barrier()
                self.copy(other, ahead)
                for g in gathers: g.aim(ahead)
                for half in range(2):
                    found = [g.fetch(other, half) for g in gathers]
                    self.multiply(sums, stage, (half,))
                    self.arrive(gathers, other, half, found)
                for g in gathers: g.advance(stage, self.add(ahead, self.depth))
                self.set(here, other)
            self.landed()
            self.results(sums)
        return self.module(), tuple(self.keys)

    def copy(self, stage: Val, k0: Val):
        """A step along k of the factors that are copied."""
        for name in self.copied: self.bring_one(name, stage, k0)
        if self.copied: self.nvvm("cp.async.commit.group()")

    def landed(self):
        if self.copied: self.nvvm("cp.async.wait.group(i32 0)")

    def vector(self, words: list[Val]) -> Val:
        if len(words) == 1: return words[0]
        v = Val("poison", words[0].dtype, len(words))
        for i, x in enumerate(words): v = self.insert(v, x, i)
        return v

    def packed(self, xs: list[Val]) -> Val:
        """16 bytes of neighbours as four words."""
        if self.t.size == 4: return self.vector([self.bitcast(x, dt.uint32) for x in xs])
        words = [self.cast(self.bitcast(x, dt.uint16), dt.uint32) for x in xs]
        return self.vector([self.or_(low, self.shl(high, 16)) for low, high in zip(words[::2], words[1::2])])

    @staticmethod
    def arrive(gathers, stage: Val, half: int, found):
        for g, chunks in zip(gathers, found): g.arrive(stage, half, chunks)


class Table:
    """A factor's table in shared memory: an entry per row of the tile, or per k of a step, twice. `words` of an entry: the place, and moves of coordinates."""

    def __init__(self, b: GatheredKernel, name: str):
        self.b, self.name, self.source, self.at = b, name, b.matrices[name], 0
        self.of_rows = self.source.along_k     # then threads have k's
        self.words = 1 << len(self.source.axes).bit_length()
        self.step = b.depth * 4 * self.words   # bytes of a step's entries

    @property
    def nbytes(self) -> int: return self.b.tile * 4 * self.words if self.of_rows else 2 * self.step

    def write(self, entry: list[Val], at: Val):
        """Whoever calls this is the only thread that writes this entry."""
        b = self.b
        v = b.vector([*entry, *[b.const(0, b.ix)] * (self.words - len(entry))])
        b.put(f"store {v}, ptr addrspace(3) {b.shared_at(at)}, align {4 * self.words}")

    def read(self, at: Val) -> list[Val]:
        b = self.b
        kind = "i32" if self.words == 1 else f"<{self.words} x i32>"
        v = b.emit(f"load {kind}, ptr addrspace(3) {b.shared_at(at)}, align {4 * self.words}", b.ix, self.words)
        return [v] if self.words == 1 else [b.extract(v, i) for i in range(1 + len(self.source.axes))]


class Gather:
    """A thread's part of a factor. Its digits along k are those of the k's it works out: its own, or those of the table's entry that it writes."""

    def __init__(self, b: GatheredKernel, table: Table, first: Val, limit: Val):
        self.b, self.table, self.name, self.source = b, table, table.name, table.source
        width = b.depth if table.of_rows else b.tile                        # of what threads have an index of their own in
        self.own, self.group = b.and_(b.tid, width - 1), b.shr(b.tid, width.bit_length() - 1)
        threads = b.threads_per_block
        self.groups, self.rounds = threads // width, b.tile * LINE // (threads * CHUNK)
        self.lane = b.and_(b.tid, b.depth - 1)
        self.digits = [b.variable(x) for x in b.digits(b.add(b.begin, self.lane), self.name, "k")]
        row = b.and_(b.tid, b.tile - 1)
        index = b.add(first, row)
        entry = self.entry("i", b.digits(index, self.name, "i"), b.lt(index, limit))
        if table.of_rows:
            self.by_one(b.tile, lambda: table.write(entry, self.entry_at(row)))
            self.aim(b.begin)
        else:
            self.mine = entry
            self.note(b.const(0, b.ix), b.begin)

    def by_one(self, n: int, write):
        """The first n threads write an entry each."""
        if n == self.b.threads_per_block: write()
        else:
            with self.b.if_(self.b.lt(self.b.tid, n)): write()

    def entry_at(self, i) -> Val:
        """Where the table's entry i lies."""
        return self.b.add(self.b.mul(i, 4 * self.table.words), self.table.at)

    def entry(self, which: str, digits: list[Val], inside: Val) -> list[Val]:
        """By how much an index moves an element's place, and its coordinates. Outside: so far that nothing is there."""
        b = self.b
        at, moves = b.place(self.name, which, digits)
        if which == "i": moves = [b.add(x, b.length(self.name, "axis", n, "shift")) for n, x in enumerate(moves)]
        if not moves: return [b.select(inside, at, -1)]
        return [at, b.select(inside, moves[0], FAR), *moves[1:]]

    def of_k(self, k0: Val) -> list[Val]:
        """The entry of this thread's k in the step that begins at k0, where its digits are."""
        b = self.b
        return self.entry("k", [b.get(x) for x in self.digits], b.lt(b.add(k0, self.lane), b.end))

    def aim(self, k0: Val):
        """Its own k, for the step that is fetched next."""
        if self.table.of_rows: self.mine = self.of_k(k0)

    def slot(self, stage: Val) -> Val:
        """Entries of a stage's step, bytes from the first one's."""
        return self.b.shr(stage, (2 * self.b.room // self.table.step).bit_length() - 1)

    def note(self, stage: Val, k0: Val):
        def write(): self.table.write(self.of_k(k0), self.b.add(self.slot(stage), self.entry_at(self.lane)))
        self.by_one(self.b.depth, write)

    def advance(self, stage: Val, k0: Val):
        """Digits of the step at k0, and its entries, for the one that will be in this stage."""
        advance(self.b, self.name, self.digits, self.b.depth)
        if not self.table.of_rows: self.note(stage, k0)

    def chunks(self, half: int) -> list[Val]:
        """16 bytes' worth of neighbours each, half of this thread's."""
        b, some = self.b, range(half * self.rounds // 2, (half + 1) * self.rounds // 2)
        if self.table.of_rows: return [b.add(self.group, r * self.groups) for r in some]
        return [b.add(b.mul(self.group, self.rounds), r) for r in some]

    def fetch(self, stage: Val, half: int) -> list[list[Val]]:
        """Elements of the step that this stage is for."""
        b, out = self.b, []
        for chunk in self.chunks(half):
            first = self.entry_at(b.mul(chunk, b.per))
            if not self.table.of_rows: first = b.add(self.slot(stage), first)
            out.append([self.element(self.table.read(b.add(first, 4 * self.table.words * e))) for e in range(b.per)])
        return out

    def element(self, other: list[Val]) -> Val:
        """What is outside reads the first element, and is 0."""
        b, s, mine = self.b, self.source, self.mine
        known = None if s.axes else b.ge(b.or_(mine[0], other[0]), 0)
        inside, at = b.at_pixel(self.name, b.add(mine[0], other[0]), [b.add(x, y) for x, y in zip(mine[1:], other[1:])], known)
        x = b.load(b.offset(b.origins[self.name], b.select(inside, at, 0), s.dtype), s.dtype)
        return b.select(inside, x, 0)

    def arrive(self, stage: Val, half: int, found: list[list[Val]]):
        b = self.b
        stage = b.add(stage, b.room if self.name == "b" else 0)
        for chunk, xs in zip(self.chunks(half), found):
            if self.table.of_rows and b.t.size == 4:
                for e, x in enumerate(xs):
                    line = b.add(b.mul(chunk, b.per), e)
                    place = b.add(b.in_tile(False, line, b.shr(self.own, 2)), b.mul(b.and_(self.own, 3), 4))
                    b.put(f"store {x}, ptr addrspace(3) {b.shared_at(b.add(stage, place))}, align 4")
            else: b.put(f"store {b.packed(xs)}, ptr addrspace(3) {b.shared_at(b.add(stage, b.in_tile(b.turned[self.name], self.own, chunk)))}, align 16")


def copied(s: Source) -> bool:
    """Do its lines lie as asynchronous copies want them?"""
    return s.straight and (s.along_k or s.dtype.size == 2)


def accepts(p: Product, isa: Isa) -> bool:
    """Can tensor cores compute it, and is there enough of it?"""
    t, chip = p.a.dtype, number_of(isa.cpu)
    if t not in MMA or chip < (75 if t is dt.float16 else 80) or t is dt.float32 and not p.rounding: return False
    return not p.wide and min(p.m, p.n, p.k) >= 8 and all(x.size * x.divisor < FAR >> 1 for s in (p.a, p.b) for x in s.axes)


def launch(p: Product, isa: Isa) -> DeviceLaunch:
    names = names_of(p, isa)
    return launch_with(p, isa, mma.tile_of(p), names) if names else mma.launch(p, isa)


def strips_of(tile: int) -> int:
    """Warps side by side: sums must leave registers for elements on their way."""
    return tile // 32


def names_of(p: Product, isa: Isa) -> str:
    """The factors that must be gathered."""
    return "".join([name for name in "ab" if number_of(isa.cpu) < 80 or not copied(getattr(p, name))])


def launch_with(p: Product, isa: Isa, tile: int, names: str) -> DeviceLaunch:
    return tiled(GatheredKernel, p, nvptx.at_least(isa, PTX), tile, tile, 2 * strips_of(tile) * WARP, LINE // p.a.dtype.size, tile, names)
