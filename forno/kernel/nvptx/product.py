"""What a product is on a GPU, whoever computes it: c(i, j) = sum over k of a(i, k) · b(j, k), of matrices and of convolutions.

Comes in: a `Product`, made by gemm.py and conv.py. Goes out: what its kernels share: a block's part of the work, an index's place in memory, a factor's
elements as a tile wants them, and what happens to a finished sum. A factor is never spread out in memory: where an image's pixel lies is worked out while
it is read, by digits that count, so that loops hold no division.
"""
from __future__ import annotations

import math
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import reduce

from ...core import dtype as dt
from ...core.kernels import Apply, Cast, Const, DeviceLaunch, Load, Nest, Number, Operand, Store
from ...cpu import nvptx
from ...cpu.isa import Isa
from ..text import Val
from .abi import LATE, DeviceKernel

NARROW = 1 << 31                               # below it, indices and places are 32-bit numbers
TOGETHER = 4                                   # results of a row that leave in one store
TARGET, PART, MOST = 256, 512, 32              # blocks that are wanted; the shortest part of a sum worth a block of its own; parts at most


@dataclass(frozen=True, slots=True)
class Digit:
    """A digit of an index, which counts to `radix` (the first one as far as it gets). Each step moves an element's place by `stride`, or coordinate `axis`."""
    radix: int
    stride: int
    axis: int = -1


@dataclass(frozen=True, slots=True)
class Axis:
    """A coordinate of an image: (`shift` + what digits add) / `divisor`. It moves the place by `step`; outside of range(size), or broken, the element is 0."""
    shift: int
    size: int
    step: int
    divisor: int = 1


@dataclass(frozen=True, slots=True)
class Source:
    """An operand as a matrix: element (i, k). `along_k`: neighbours in memory are neighbours along k. Of the result, k counts columns."""
    operand: int
    dtype: dt.dtype
    i: tuple[Digit, ...]
    k: tuple[Digit, ...]
    along_k: bool
    offset: int = 0
    batch: tuple[int, ...] = ()
    axes: tuple[Axis, ...] = ()

    @property
    def form(self): return self.operand, self.dtype, tuple([d.axis for d in self.i]), tuple([d.axis for d in self.k]), self.along_k, tuple([x.divisor for x in self.axes])

    @property
    def reach(self) -> int:
        """No element of one batch entry lies further from its first than this."""
        return sum([d.radix * abs(d.stride) for d in (*self.i, *self.k)]) + sum([(x.size + abs(x.shift)) * x.step for x in self.axes])

    @property
    def straight(self) -> bool:
        """Do 16 bytes of neighbours lie at a multiple of 16 bytes from the batch entry's first element, wherever they begin at such a multiple along their line?
        (Of a line of several digits: where its last one has whole multiples, too.)"""
        lines, line = (self.i, self.k) if self.along_k else (self.k, self.i)
        if self.axes or len(lines) > 1 or line[-1].stride != 1: return False
        steps = [*[d.stride for d in line[:-1]], *[d.radix for d in line[1:]], *[d.stride for d in lines if d.radix > 1]]
        return not any([n * self.dtype.size % 16 for n in steps])

    @property
    def even(self) -> bool:
        """Do TOGETHER neighbours along k lie at a multiple of their size from the batch entry's first element?"""
        return len(self.i) == len(self.k) == self.k[0].stride == 1 and self.i[0].stride % TOGETHER == 0

    def number(self, what, *at) -> int:
        if what in ("offset", "straight", "even"): return int(getattr(self, what))
        if what == "batch": return self.batch[at[0]]
        if what == "axis": return getattr(self.axes[at[0]], at[1])
        if what == "advance": return digits_of(at[1], self.k)[at[0]]
        return getattr(getattr(self, what)[at[0]], at[1])                   # i, k: a digit's radix or stride


def digits_of(n: int, digits: tuple[Digit, ...]) -> list[int]:
    out = []
    for d in reversed(digits[1:]):
        n, r = divmod(n, max(d.radix, 1))
        out.insert(0, r)
    return [n, *out]


@dataclass(frozen=True, slots=True)
class Product:
    """`result`: what sums are rounded to before anything else happens to them. `bias`: an operand with a number per row of all batch entries, or 0.

    `epilogue` is a Nest over (batch…, i, j), or (image, channel, pixel) `of_images`: j's digits are image and pixel, and a batch entry is a group of channels.
    `rounding`: factors of float32 may be rounded. `bytes`: what is read and written at least.
    """
    batch: tuple[int, ...]
    m: int
    n: int
    k: int
    a: Source
    b: Source
    c: Source
    operands: tuple[Operand, ...]
    result: dt.dtype
    epilogue: Nest | None = None
    rounding: bool = False
    bias: int = 0
    of_images: bool = False
    bytes: int = 0

    @property
    def sum(self): return self.a.dtype.opmath

    @property
    def count(self) -> int: return math.prod(self.batch)

    @property
    def flops(self) -> int: return 2 * self.count * self.m * self.n * self.k

    @property
    def wide(self) -> bool: return max(self.k, MOST * self.count * self.m * self.n, *[s.reach for s in (self.a, self.b, self.c)]) >= NARROW >> 1

    @property
    def flat(self) -> bool:
        """Are neighbours of a row neighbours in memory, wherever a sum goes and whatever its epilogue reads (if that isn't one number for all of them)?"""
        found = [(v.strides[-1], isinstance(v, Store)) for v in self.epilogue.body if isinstance(v, (Load, Store)) and v.operand] if self.epilogue else []
        return len(self.c.k) == self.c.k[0].stride == 1 and not self.of_images and all(s == 1 or s == 0 and not store for s, store in found)

    @property
    def form(self):
        """What machine code depends on."""
        return (self.a.form, self.b.form, self.c.form, len(self.batch), self.operands, self.result, self.bias, self.of_images, self.wide, self.flat,
                self.epilogue and tuple(map(_form, self.epilogue.body)))


def _form(v):
    if isinstance(v, (Load, Store)): return replace(v, strides=(), offset=0), v.strides[-1] if v.strides[-1] in (0, 1) else None
    return (v.dtype, repr(v.value)) if isinstance(v, Const) else v


class ProductKernel(DeviceKernel):
    """`ix`: the type of indices. `partial`: sums of a part of k go to scratch. A block's place is known after `position`: batch entry, first row and column."""
    partial = False

    def __init__(self, p: Product, isa: Isa, threads: int):
        self.isa, self.threads_per_block = isa, threads
        super().__init__(p.operands)
        self.p, self.ix, self.sum = p, dt.int64 if p.wide else dt.int32, p.sum
        self.matrices = {"a": p.a, "b": p.b, "c": p.c}
        self.known = {}                        # of a column that a thread stays in: its digits

    def length(self, *key) -> Val:
        """A word as an index."""
        return self.cast(self.word(*key), self.ix)

    def below(self, x: Val, y) -> Val:
        """0 <= x < y"""
        return self.emit(f"icmp ult {x}, {self.value(y, x).text}", dt.bool)

    def quotient(self, x: Val, y) -> Val: return self.emit(f"udiv {x}, {self.value(y, x).text}", self.ix)

    def divided_by(self, x: Val, y: Val) -> tuple[Val, Val]:
        q = self.quotient(x, y)
        return q, self.sub(x, self.mul(q, y))

    # ---- who does what
    def position(self, rows: int, columns: int):
        """Neighbouring blocks have neighbouring columns of the result."""
        self.tid, rest = (self.cast(self.special(name), self.ix) for name in ("tid.x", "ctaid.x"))
        rest, column = self.divided_by(rest, self.length("tiles n"))
        rest, row = self.divided_by(rest, self.length("tiles m"))
        item, self.portion = self.divided_by(rest, self.length("parts")) if self.partial else (rest, None)
        self.row0, self.column0 = self.mul(row, rows), self.mul(column, columns)
        self.begin = self.mul(self.portion, self.length("part")) if self.partial else self.const(0, self.ix)
        self.end = self.intrinsic("smin", self.add(self.begin, self.length("part")), self.length("k")) if self.partial else self.length("k")
        self.locate(item)

    def locate(self, item: Val):
        """Where this batch entry's matrices begin."""
        self.item, rest, self.entry_of = item, item, []
        for d in reversed(range(len(self.p.batch))):
            rest, i = self.divided_by(rest, self.length("batch", d)) if d else (rest, rest)
            self.entry_of.insert(0, i)
        self.origins = {}
        for name, s in self.matrices.items():
            steps = [self.mul(self.cast(x, dt.int64), self.word(name, "batch", d)) for d, x in enumerate(self.entry_of)]
            self.origins[name] = self.offset(self.base(s.operand), reduce(self.add, steps, self.word(name, "offset")), s.dtype)

    # ---- indices
    def digits(self, x: Val, name: str, which: str) -> list[Val]:
        """An index in its digits."""
        out = []
        for d in reversed(range(1, len(getattr(self.matrices[name], which)))):
            x, r = self.divided_by(x, self.length(name, which, d, "radix"))
            out.insert(0, r)
        return [x, *out]

    def place(self, name: str, which: str, digits: list[Val]) -> tuple[Val, list[Val]]:
        """(elements, [steps of coordinates]) by which an index moves an element."""
        s = self.matrices[name]
        at, moves = self.const(0, self.ix), [self.const(0, self.ix) for _ in s.axes]
        for d, (digit, x) in enumerate(zip(getattr(s, which), digits)):
            by = self.mul(x, self.length(name, which, d, "stride"))
            if digit.axis < 0: at = self.add(at, by)
            else: moves[digit.axis] = self.add(moves[digit.axis], by)
        return at, moves

    def at_pixel(self, name: str, at: Val, coordinates: list[Val], inside: Val | None) -> tuple[Val, Val]:
        """(is there an element, its place), where an index's digits have led. `inside`: is there one as far as indices tell?"""
        for n, (axis, x) in enumerate(zip(self.matrices[name].axes, coordinates)):
            if axis.divisor > 1:
                q = self.quotient(x, axis.divisor)
                whole = self.and_(self.ge(x, 0), self.eq(self.mul(q, axis.divisor), x))
                inside, x = whole if inside is None else self.and_(inside, whole), q
            within = self.below(x, self.length(name, "axis", n, "size"))
            inside = within if inside is None else self.and_(inside, within)
            at = self.add(at, self.mul(x, self.length(name, "axis", n, "step")))
        return inside, at

    # ---- what happens to a sum
    @contextmanager
    def leaving(self, rows: int, columns: int, across: bool, wide: int = 1):
        """A loop over a tile's results, `wide` neighbours of a row at a time: (row and column in the tile, the result's column). Neighbouring threads have neighbours of a
        row, or of a column, and a thread stays in its column, or row."""
        n = (columns if across else rows) // wide
        near, far, apart = self.and_(self.tid, n - 1), self.shr(self.tid, n.bit_length() - 1), self.threads_per_block // n
        if across:
            x = self.mul(near, wide)
            column = self.add(self.column0, x)
            if not self.partial: self.known[column.text] = self.digits(column, "c", "k")
        with self.loop(0, rows * columns // wide // self.threads_per_block) as turn:
            other = self.add(far, self.mul(self.cast(turn, self.ix), apart))
            yield (other, x, column) if across else (near, other, self.add(self.column0, other))

    def finish(self, x: Val, row: Val, column: Val):
        """A sum, or a part of one, whose row and column the result has."""
        if not self.partial: return self.leave(x, row, column)
        at = self.add(self.mul(self.portion, self.length("items")), self.item)
        at = self.add(self.mul(self.add(self.mul(at, self.length("m")), row), self.length("n")), column)
        self.store(x, self.offset(self.word("scratch"), at, self.sum), x.n * self.sum.size)

    def together(self) -> Val:
        """May `finish` take TOGETHER neighbours of a row (`flat`) that begin at a multiple of so many? Where they go, and what they meet there, must lie as evenly."""
        if self.partial: return self.eq(self.and_(self.length("n"), TOGETHER - 1), 0)
        if self.p.epilogue is None: found = [(self.origins["c"], self.word("c", "even"), self.p.c.dtype)]
        else:
            found = [(self.base(v.operand + 1), self.word("epilogue", i, "even"), v.dtype) for i, v in enumerate(self.p.epilogue.body)
                     if isinstance(v, (Load, Store)) and v.operand and v.strides[-1] == 1]
        def even(p, known, t): return self.and_(self.eq(self.and_(self.emit(f"ptrtoint {p} to i64", dt.int64), TOGETHER * t.size - 1), 0), self.ne(known, 0))
        return reduce(self.and_, [even(*x) for x in found])

    def leave(self, x: Val, row: Val, column: Val):
        p = self.p
        digits = self.known.get(column.text) or self.digits(column, "c", "k")
        if p.bias or p.of_images: whole = self.add(self.mul(self.item, self.length("m")), row)
        if p.bias: x = self.add(x, self.cast(self.load(self.offset(self.base(p.bias), whole, p.result), p.result), self.sum))
        x = self.cast(x, p.result)
        if p.epilogue is not None: return self.chain(x, (digits[0], whole, digits[1]) if p.of_images else (*self.entry_of, row, column))
        at = self.add(self.place("c", "i", self.digits(row, "c", "i"))[0], self.place("c", "k", digits)[0])
        self.store(x, self.offset(self.origins["c"], at, p.c.dtype), x.n * p.c.dtype.size)

    def chain(self, x: Val, index: tuple[Val, ...]):
        """The epilogue of one element, or of neighbours of a row (`flat`). Its operand 0 is x; its others are the kernel's, one further."""
        index, done = [self.cast(i, dt.int64) for i in index], []

        def element(i, v):
            at = reduce(self.add, [self.mul(x, self.word("epilogue", i, d)) for d, x in enumerate(index)], self.word("epilogue", i, "offset"))
            return self.offset(self.base(v.operand + 1), at, v.dtype)
        for i, v in enumerate(self.p.epilogue.body):
            if isinstance(v, Load) and not v.operand: out = self.cast(x, v.dtype)
            elif isinstance(v, Load) and (x.n == 1 or v.strides[-1] == 0): out = self.load(element(i, v), v.dtype)
            elif isinstance(v, Load): out = self.load(element(i, v), v.dtype, x.n, x.n * v.dtype.size)
            elif isinstance(v, Const): out = self.const(v.value, v.dtype)
            elif isinstance(v, Number): out = self.number(v.operand + 1, v.dtype)
            elif isinstance(v, Cast): out = self.cast(done[v.arg], v.dtype)
            elif isinstance(v, Apply): out = v.op.emit(self, *[done[a] for a in v.args])
            else: out = self.store(self.splat(done[v.arg], x.n), element(i, v), x.n * v.dtype.size)
            done.append(out)


def advance(b: ProductKernel, name: str, digits: list, by: int):
    """One step along k, digit by digit: no division."""
    carry = None
    for d in reversed(range(len(digits))):
        x = b.add(b.get(digits[d]), b.length(name, "advance", d, by))
        if carry is not None: x = b.add(x, carry)
        if d:
            radix = b.length(name, "k", d, "radix")
            over = b.ge(x, radix)
            x, carry = b.select(over, b.sub(x, radix), x), b.cast(over, b.ix)
        b.set(digits[d], x)


class Walk:
    """A thread's part of a factor's tile of `size` × `depth` elements, as it goes along k: zeros beyond the matrix. `at`: their places (i, k) in the tile."""

    def __init__(self, b: ProductKernel, name: str, first: Val, limit: Val, size: int, depth: int):
        self.b, self.name, self.source, self.depth = b, name, b.matrices[name], depth
        turns = range(size * depth // b.threads_per_block)
        line = depth if self.source.along_k else size                       # neighbouring threads read so many neighbours
        near, far = b.and_(b.tid, line - 1), b.shr(b.tid, line.bit_length() - 1)
        others = [b.add(far, t * (b.threads_per_block // line)) for t in turns]
        i, k = ([near], others) if not self.source.along_k else (others, [near])
        self.at = [(i[t % len(i)], k[t % len(k)]) for t in turns]
        self.rows = [self.row(b.add(first, x), limit) for x in i]
        self.columns = [(x, [b.variable(v) for v in b.digits(b.add(b.begin, x), name, "k")]) for x in k]

    def row(self, i: Val, limit: Val):
        at, moves = self.b.place(self.name, "i", self.b.digits(i, self.name, "i"))
        return self.b.lt(i, limit), at, [self.b.add(x, self.b.length(self.name, "axis", n, "shift")) for n, x in enumerate(moves)]

    def fetch(self, k0: Val) -> list[Val]:
        """This thread's elements of the step that begins at k0, in the type of sums."""
        b = self.b
        columns = [(b.lt(b.add(k0, x), b.end), *b.place(self.name, "k", [b.get(v) for v in digits])) for x, digits in self.columns]
        return [self.element(self.rows[t % len(self.rows)], columns[t % len(columns)]) for t in range(len(self.at))]

    def element(self, row, column) -> Val:
        """Loads don't wait for the question whether there is anything to load: what is outside reads the first element, and is 0."""
        b, s = self.b, self.source
        inside, at = b.at_pixel(self.name, b.add(row[1], column[1]), [b.add(x, y) for x, y in zip(row[2], column[2])], b.and_(row[0], column[0]))
        x = b.load(b.offset(b.origins[self.name], b.select(inside, at, 0), s.dtype), s.dtype)
        return b.select(inside, b.cast(x, b.sum), 0)

    def advance(self):
        """One step along k: `depth` is added digit by digit."""
        for _, digits in self.columns: advance(self.b, self.name, digits, self.depth)


class SumKernel(ProductKernel):
    """Adds the parts of every sum in their order: a thread per element of the result."""

    def __init__(self, p: Product, isa: Isa):
        super().__init__(p, isa, 256)
        self.matrices = {"c": p.c}

    def kernel(self):
        with self.body("sums"):
            at = self.add(self.mul(self.cast(self.special("ctaid.x"), self.ix), 256), self.cast(self.special("tid.x"), self.ix))
            total = self.length("total")
            with self.if_(self.lt(at, total)):
                rest, column = self.divided_by(at, self.length("n"))
                item, row = self.divided_by(rest, self.length("m"))
                self.locate(item)
                x, scratch = self.variable(self.const(0, self.sum)), self.word("scratch")
                with self.loop(0, self.word("parts")) as part:
                    place = self.add(self.mul(self.cast(part, self.ix), total), at)
                    self.set(x, self.add(self.get(x), self.load(self.offset(scratch, place, self.sum), self.sum)))
                self.leave(self.get(x), row, column)
        return self.module(), tuple(self.keys)


# ---------------------------------------------------------------- launches
_programs: dict = {}                           # (kernel, form, processor, what else it is made for) -> (PTX, keys of its words)


def program(make, name: str, p: Product, isa: Isa, *options):
    key = make, p.form, isa.cpu, isa.features, options
    if key not in _programs:
        text, keys = make(p, isa, *options).kernel()
        _programs[key] = nvptx.ptx(text, name, isa), keys
    return _programs[key]


def numbers(p: Product, keys, named: dict) -> tuple[int, ...]:
    def number(key):
        what = key[0]
        if what in LATE: return 0
        if what in ("a", "b", "c"): return getattr(p, what).number(*key[1:])
        if what == "batch": return p.batch[key[1]]
        if what == "epilogue": return of_chain(p.epilogue.body[key[1]], key[2])
        return named[what]
    return tuple(map(number, keys))


def of_chain(v: Load | Store, what) -> int:
    if what == "even": return int(all(x % TOGETHER == 0 for x in (*v.strides[:-1], v.offset)))
    return v.offset if what == "offset" else v.strides[what]


def late_of(keys): return tuple([(k, key[0]) for k, key in enumerate(keys) if key[0] in LATE])


def parts_of(p: Product, blocks: int, depth: int) -> tuple[int, int]:
    """(parts of every sum, each one's length). A matter of sizes alone: results are the same bits on any GPU."""
    parts = min(-(-TARGET // max(blocks, 1)), p.k // PART, MOST)
    if parts <= 1: return 1, p.k
    length = -(-p.k // (parts * depth)) * depth
    return -(-p.k // length), length


def tiled(make, p: Product, isa: Isa, rows: int, columns: int, threads: int, depth: int, *options) -> DeviceLaunch:
    """The launch of a kernel whose blocks have `rows` × `columns` results each, and of the one that adds parts, where sums are long and blocks few.

    `make(p, isa, partial, *options)` gives the kernel."""
    if p.count * p.m * p.n == 0: p = replace(p, m=0, k=0)
    tiles_m, tiles_n = -(-p.m // rows), -(-p.n // columns)
    blocks = tiles_m * tiles_n * p.count
    parts, part = parts_of(p, blocks, depth)
    ptx, keys = program(make, "product", p, isa, parts > 1, *options)
    total = p.count * p.m * p.n
    named = {"m": p.m, "n": p.n, "k": p.k, "tiles m": max(tiles_m, 1), "tiles n": max(tiles_n, 1), "parts": parts, "part": part, "items": p.count, "total": total}
    then = ()
    if parts > 1:
        text, own = program(SumKernel, "sums", p, isa)
        then = DeviceLaunch("sums", text, numbers(p, own, named), (-(-total // 256), 1, 1), (256, 1, 1), late=late_of(own)),
    return DeviceLaunch("product", ptx, numbers(p, keys, named), (max(1, blocks * parts), 1, 1), (threads, 1, 1), late=late_of(keys),
                        scratch=parts * total * p.sum.size if parts > 1 else 0, then=then, bytes=p.bytes, flops=p.flops)
