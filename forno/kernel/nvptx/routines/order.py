"""Sorting lines of keys on a GPU.

Comes in: how many lines of how many keys, and a source that makes key i of a line. Goes out: launches after which scratch holds every line in order: keys
(unsigned) and the positions they came from. Equal keys stay in the order of their positions, so no two elements are alike and every order is the only one.

Blocks sort tiles of a line in their shared memory by a bitonic network; then launch by launch, neighbouring runs become one: every element finds
its place by counting, with a binary search, what stands before it in the other run.

A key of 4 bytes and its position are one number of 8 bytes; beside a key of 8 bytes its position lies in an array of its own.
"""
from __future__ import annotations

from ....core import dtype as dt
from ....core.kernels import Native
from ....cpu.isa import Isa
from ...routines.code import X
from .code import MOST_BLOCKS, THREADS, Device, blocks, stage

TILE = 2048                                    # elements that a block sorts at a time
LINES = 3                                      # words that say how lines lie


class Items:
    """Elements in some memory of `room` of them: (key and position) or (key, position)."""

    def __init__(self, c: Device, k: dt.dtype, base: X, room):
        self.c, self.wide = c, k.size == 8
        self.arrays = [(base, dt.uint64), *([(c.at(base, room * 8), dt.uint32)] if self.wide else [])]

    def load(self, i) -> tuple[X, ...]: return tuple(self.c.load(p, t, i) for p, t in self.arrays)

    def store(self, item: tuple, i):
        for x, (p, _) in zip(item, self.arrays): self.c.store(x, p, i)

    def made(self, key: X, place: X) -> tuple[X, ...]:
        if self.wide: return key, place.to(dt.uint32)
        return (key.to(dt.uint64) << 32) | place.to(dt.uint64),

    def last(self) -> tuple[X, ...]:
        """What comes behind every element."""
        return tuple(self.c.const(-1, t) for _, t in self.arrays)

    def before(self, a: tuple, b: tuple) -> X:
        if not self.wide: return a[0] < b[0]
        return (a[0] < b[0]) | (a[0].eq(b[0]) & (a[1] < b[1]))

    def key(self, item: tuple, k: dt.dtype) -> X: return item[0] if self.wide else (item[0] >> 32).to(k)
    def place(self, item: tuple) -> X: return (item[1] if self.wide else item[0].to(dt.uint32)).to(dt.int64)


def item_bytes(k: dt.dtype) -> int: return 12 if k.size == 8 else 8


class Lines:
    """All lines in scratch, half `turn` of it. Words from `first` on: lines, elements per line, elements for which a half has room (an even number)."""

    def __init__(self, c: Device, k: dt.dtype, first: int, turn: int):
        at = first + len(c.operands)
        self.c, self.k, self.count, self.n, self.room = c, k, *(c.word(at + i) for i in range(LINES))
        self.items = self.half(turn)

    def half(self, turn: int) -> Items:
        return Items(self.c, self.k, self.c.at(self.c.scratch(), self.room * (turn * item_bytes(self.k))), self.room)

    def key(self, i) -> X: return self.items.key(self.items.load(i), self.k)
    def place(self, i) -> X: return self.items.place(self.items.load(i))

    def below(self, line: X, hi: X, key: X) -> X:
        """How many of a line's first `hi` keys are smaller than `key`."""
        c, a, z = self.c, self.c.var(0), self.c.var(hi)
        with c.forever_while(lambda: a.now < z.now):
            mid = (a.now + z.now) >> 1
            less = self.key(line * self.n + mid) < key
            low, high = a.now, z.now
            a.set(less.where(mid + 1, low))
            z.set(less.where(high, mid))
        return a.now


def _tiles(c: Device, source, structure: tuple, k: dt.dtype, first: int, turn: int):
    """Tiles of lines from their source to scratch, each in order. Words: the lines', then length of a tile (a power of two), tiles per line."""
    lines = Lines(c, k, first, turn)
    at = first + len(c.operands) + LINES
    size, each = c.word(at), c.word(at + 1)
    here = Items(c, k, c.room(TILE * item_bytes(k)), TILE)
    make, thread, tiles = source(c, k, *structure), c.thread, lines.count * each
    per = c.const(TILE) // size
    with c.each_block((tiles + (per - 1)) // per) as group:
        def place(e: X):
            tile = group * per + e // size
            i = tile % each * size + e % size
            return tile // each, i, (tile < tiles) & (i < lines.n)
        with c.loop(thread, TILE, THREADS) as e:
            line, i, inside = place(e)
            here.store(c.either_of(inside, lambda: here.made(*make(line, i)), here.last), e)
        _network(c, here, size)
        with c.loop(thread, TILE, THREADS) as e:
            line, i, inside = place(e)
            with c.when(inside): lines.items.store(here.load(e), line * lines.n + i)


def _network(c: Device, here: Items, size: X):
    """Batcher's bitonic sort of every `size` elements of a tile."""
    length = c.var(2)
    with c.forever_while(lambda: length.now <= size):
        step = c.var(length.now >> 1)
        with c.forever_while(lambda: step.now > 0):
            s = step.now
            c.barrier()
            with c.loop(c.thread, TILE // 2, THREADS) as p:
                low = ((p & -s) << 1) | (p & (s - 1))
                high = low + s
                a, b = here.load(low), here.load(high)
                upwards = (low & length.now & (size - 1)).eq(0)
                with c.when(here.before(b, a).eq(upwards)):
                    here.store(b, low)
                    here.store(a, high)
            step.set(s >> 1)
        length.set(length.now << 1)
    c.barrier()


def _best(c: Device, k: dt.dtype, first: int, turn: int):
    """A source: the first elements of every sorted tile. Words: the lines', then length of a tile, elements of each that matter."""
    lines, at = Lines(c, k, first, turn), first + len(c.operands) + LINES
    size, keep = c.word(at), c.word(at + 1)

    def make(line: X, i: X) -> tuple[X, X]:
        place = i // keep * size + i % keep
        item = lines.items.load(line * lines.n + place.min(lines.n - 1))
        there = place < lines.n
        return there.where(lines.items.key(item, k), -1), there.where(lines.items.place(item), -1)
    return make


def _merge(c: Device, k: dt.dtype, first: int, turn: int):
    """Runs of `width` elements become runs of twice as many, in the other half of scratch. Words: the lines', then width."""
    lines = Lines(c, k, first, turn)
    width, n = c.word(first + len(c.operands) + LINES), lines.n
    source, target = lines.items, lines.half(1 - turn)
    with c.each(lines.count * n) as e:
        line, i = e // n * n, e % n
        inside = i % width
        run = i - inside
        odd = (run // width) & 1
        other = run + width - odd * width * 2
        count = (n - other).min(width).max(0)
        mine, a, z = source.load(e), c.var(0), c.var(count)
        with c.forever_while(lambda: a.now < z.now):
            mid = (a.now + z.now) >> 1
            less = source.before(source.load(line + other + mid), mine)
            low, high = a.now, z.now
            a.set(less.where(mid + 1, low))
            z.set(less.where(high, mid))
        target.store(mine, line + run.min(other) + inside + a.now)


class Sort:
    """The launches that sort `count` lines of `length` keys of type k. `source(c, k, *structure)` gives make(line, i), the key and position i of a line;
    `words` are its words. `keep`: only so many of a line's first elements matter, so that no more of any tile go on.

    Then `Lines(c, k, first, turn)` finds the result, in launches with the words `words`; `scratch`: bytes.
    """

    def __init__(self, n: Native, isa: Isa, source, structure: tuple, k: dt.dtype, words: tuple, count: int, length: int, keep: int = TILE):
        self.native, self.isa, self.k, self.count = n, isa, k, count
        self.room, self.stages, self.turn = (count * length + 1) & -2, [], 0
        size = self.tiles(source, structure, words, length)
        while 4 * keep <= size < length:
            words, structure = (*self.words, size, keep), (self.first, self.turn)
            self.turn, length = 1 - self.turn, -(-length // size) * keep
            size = self.tiles(_best, structure, words, length)
        while size < length:
            self.stages.append(stage(n, isa, _merge, (k, self.first, self.turn), (*self.words, size), blocks(count * length)))
            self.turn, size = 1 - self.turn, 2 * size
        self.scratch = 2 * item_bytes(k) * self.room

    def tiles(self, source, structure: tuple, words: tuple, length: int) -> int:
        """Adds a launch that sorts tiles, and says how long they are."""
        size = min(TILE, 1 << max(length - 1, 0).bit_length())
        each = -(-length // size)
        self.first, self.words = len(words), (*words, self.count, length, self.room)
        count = min(-(-self.count * each * size // TILE), MOST_BLOCKS)
        self.stages.append(stage(self.native, self.isa, _tiles, (source, structure, self.k, self.first, self.turn), (*self.words, size, each), count))
        return size
