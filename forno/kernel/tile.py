"""Register tiles: the inner loops that matrix products and convolutions share.

Comes in: an accumulator type. Goes out: a `Tile` (how many rows and vectors this processor's registers hold) and the address of a table of
micro-kernels, one per row count, compiled when a shape first needs it. Every micro-kernel multiplies two packed panels,

    C[i, j] (+)= sum over k of A[k, i] * B[k, j]        A: [k][rows], B: k rows of `vectors * lanes` columns, `sb` elements apart

Where the processor multiplies bfloat16 as they are (AVX512-BF16: two products and two sums per lane in the time of one multiply-add of float32), a panel's
elements are words of two, (A[2k, i], A[2k + 1, i]), and k counts words.

A micro-kernel knows nothing of types in memory, transposition, batches, edges or images: packing routines and drivers do.
"""
from __future__ import annotations

import ctypes
import functools
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from ..core import dtype as dt
from ..cpu import code, isa
from .abi import share
from .builder import Builder
from .text import PTR, Val


def accumulator(t: dt.dtype) -> dt.dtype:
    """What products of `t` are summed in. Integers wrap, so the low bits of 32 (64) are right for every narrower type."""
    if t.category == dt.COMPLEX: return t.real
    if t.category == dt.FLOAT: return t.opmath
    return dt.int64 if t.size == 8 else dt.int32


@dataclass(frozen=True, slots=True)
class Tile:
    """`rows` x (`vectors` * `lanes`) accumulators live in registers."""
    acc: dt.dtype
    rows: int
    vectors: int
    lanes: int
    pairs: bool = False                        # panels hold words of two bfloat16

    @property
    def columns(self) -> int: return self.vectors * self.lanes

    def steps(self, k):
        """How many words of panels k elements are; a number or an Int."""
        return (k + 1) // 2 if self.pairs else k


def even_split(total: int, most: int, multiple: int) -> int:
    """The size of equal pieces of `total`, each at most `most`, rounded up to a multiple."""
    if total == 0: return 1
    size = -(-total // -(-total // most))
    return -(-size // multiple) * multiple


@functools.cache
def tile(acc: dt.dtype, pairs: bool = False) -> Tile:
    """28 of 32 registers on AVX-512 (2 hold B, 1 a broadcast of A), 12 of 16 on AVX2, 24 of 32 on NEON,
    8 of 16 on SSE (whose products need one more)."""
    rows, vectors = {"avx512": (14, 2), "avx2": (6, 2), "baseline": (4, 2), "neon": (6, 4)}[isa.level]
    return Tile(acc, rows, vectors, isa.vector_bytes // acc.size, pairs)


def product_tile(stored: dt.dtype, rounding: bool = False) -> Tile:
    """The tile for products of matrices that memory holds as `stored`. `rounding`: float32 may be multiplied as bfloat16."""
    return tile(accumulator(stored), (stored is dt.bfloat16 or rounding and stored is dt.float32) and isa.has("avx512bf16") and isa.level == "avx512")


# ---- the builder with numbers that read as numbers
class Int(Val):
    """An int64 with Python's operators; division truncates and trusts its operands."""
    __slots__ = ("b",)

    def __init__(self, b, v: Val):
        super().__init__(v.text, dt.int64, 1, v.const)
        self.b = b

    def _make(self, v): return Int(self.b, v)
    def __add__(self, o): return self._make(self.b.add(self, o))
    def __radd__(self, o): return self._make(self.b.add(o, self))
    def __sub__(self, o): return self._make(self.b.sub(self, o))
    def __rsub__(self, o): return self._make(self.b.sub(o, self))
    def __mul__(self, o): return self._make(self.b.mul(self, o))
    def __rmul__(self, o): return self._make(self.b.mul(o, self))

    def _plain(self, op, o):
        o = self.b.index(o)
        return self if o.const == 1 and op == "sdiv" else self._make(self.b.emit(f"{op} {self}, {o.text}", dt.int64))

    def __floordiv__(self, o): return self._plain("sdiv", o)
    def __mod__(self, o): return self._plain("srem", o)
    def __and__(self, o): return self._plain("and", o)
    def __or__(self, o): return self._plain("or", o)
    def __lshift__(self, o): return self._plain("shl", o)
    def __rshift__(self, o): return self._plain("ashr", o)
    def __lt__(self, o): return self.b.lt(self, o)
    def __le__(self, o): return self.b.le(self, o)
    def __gt__(self, o): return self.b.gt(self, o)
    def __ge__(self, o): return self.b.ge(self, o)
    def eq(self, o): return self.b.eq(self, o)
    def ne(self, o): return self.b.ne(self, o)


class Program(Builder):
    """A Builder for tile programs: several functions that call each other, and much arithmetic on run-time sizes."""

    def int(self, x) -> Int: return Int(self, self.index(x))

    def min(self, x, y): return Int(self, Builder.min(self, x, y)) if isinstance(x, Int) else Builder.min(self, x, y)
    def max(self, x, y): return Int(self, Builder.max(self, x, y)) if isinstance(x, Int) else Builder.max(self, x, y)
    def pick(self, cond, x, y) -> Int: return Int(self, self.select(cond, self.int(x), self.int(y)))
    def both(self, *conds):
        return functools.reduce(self.and_, conds)

    @contextmanager
    def loop(self, lo, hi, step=1):
        with Builder.loop(self, lo, hi, step) as i: yield Int(self, i)

    @contextmanager
    def define(self, name: str, args: str, internal=True):
        """`args` as in 'ptr a, i64 n'; gives them."""
        named = [a.split() for a in args.split(",")]
        with self.function(name, ", ".join(f"{t} %{n}" for t, n in named), internal=internal):
            yield [Val(f"%{n}", PTR) if t == "ptr" else Int(self, Val(f"%{n}", dt.int64)) for t, n in named]

    def run(self, function: str | Val, *args):
        """A call of a function of this module, or of an address."""
        self.put(f"call void {function.text if isinstance(function, Val) else '@' + function}({', '.join(str(self._argument(a)) for a in args)})")

    def _argument(self, a): return self.index(a) if isinstance(a, int) else a

    def read(self, p: Val, i) -> Int: return Int(self, self.load(self.offset(p, i, dt.int64), dt.int64))
    def read_pointer(self, p: Val, i) -> Val: return self.load(self.offset(p, i, dt.int64), PTR)
    def write(self, x, p: Val, i): self.store(self.index(x), self.offset(p, i, dt.int64))

    def otherwise(self, cond: Val, then, other):
        """A branch without results: then() or other() writes the code."""
        k = self.name("")
        self.put(f"br i1 {cond.text}, label %then{k}, label %else{k}")
        for name, write in (("then", then), ("else", other)):
            self.label(f"{name}{k}")
            write()
            self.put(f"br label %end{k}")
        self.label(f"end{k}")

    def mask_of(self, bits: Int, n: int) -> Val:
        """The lanes whose bit is set."""
        return self.emit(f"bitcast i{n} {self.emit(f'trunc {bits} to i{n}', dt.int64).text} to <{n} x i1>", dt.bool, n)

    def load_merged(self, p: Val, t, mask: Val, other: Val) -> Val:
        """Like load_masked; the lanes that are not set keep `other`'s."""
        return self.select(mask, self.load_masked(p, t, mask), other)

    def dot_pairs(self, x: Val, y: Val, z: Val) -> Val:
        """z + the two products of the bfloat16 in each word of x and y; numbers below 2^-126 count as 0."""
        wide, pairs = f"<{y.n} x float>", f"<{2 * y.n} x bfloat>"
        a, b = (self.emit(f"bitcast {v} to {pairs}", v.dtype, y.n).text for v in (self.splat(x, y.n), y))
        self.declared["llvm.x86.avx512bf16.dpbf16ps.512"] = f"declare {wide} @llvm.x86.avx512bf16.dpbf16ps.512({wide}, {pairs}, {pairs})"
        return self.emit(f"call {wide} @llvm.x86.avx512bf16.dpbf16ps.512({z}, {pairs} {a}, {pairs} {b})", dt.float32, y.n)

    def rounded_pairs(self, x: Val, y: Val, alternating: bool) -> Val:
        """Two vectors of float32 as one of words of two bfloat16: (x0, x1), (x2, x3) … (y0, y1) …, or if alternating (x0, y0), (x1, y1) …"""
        n, name = x.n, "llvm.x86.avx512bf16.cvtne2ps2bf16.512"
        self.declared[name] = f"declare <{2 * n} x bfloat> @{name}(<{n} x float>, <{n} x float>)"
        both = self.emit(f"call <{2 * n} x bfloat> @{name}({y}, {x})", dt.bfloat16, 2 * n)
        halves = Val(self.emit(f"bitcast <{2 * n} x bfloat> {both.text} to <{2 * n} x i16>", dt.uint16, 2 * n).text, dt.uint16, 2 * n)
        if alternating: halves = self.shuffle(halves, None, [i for k in range(n) for i in (k, n + k)])
        return self.emit(f"bitcast {halves} to <{n} x i32>", dt.int32, n)

    def choose_pointer(self, cond: Val, x: Val, y: Val) -> Val: return self.emit(f"select {cond}, {x}, {y}", PTR)

    def share(self, total, parts, part):
        """The contiguous range of `total` things that `part` of `parts` does, all alike."""
        return total * part // parts, total * (part + 1) // parts

    def mine(self, ctx: Val, total, tell: bool = True) -> tuple[Int, Int]:
        """This thread's part of `total` things: see `abi.share`."""
        lo, hi = share(self, ctx, total, tell)
        return Int(self, lo), Int(self, hi)

    def ceil_div(self, x, y): return (x + (y - 1)) // y


class Kept(NamedTuple):
    """Memory that may have been filled by an earlier run (core.kernels.Keeps): is there any, must it be filled (or whatever stands in for it), where is it?"""
    given: Val
    empty: Val
    address: Val


def kept_memory(p: Program, word: Int, vals: Val) -> Kept:
    bits = p.int(p.choose(word >= 0, lambda: p.read(vals, word), lambda: p.int(0)))
    given = bits.ne(0)
    return Kept(given, p.or_(bits.eq(0), (bits & 1).ne(0)), p.emit(f"inttoptr i64 {(bits & -2).text} to ptr", PTR))


def store_rows(p: Program, t: Tile, sums: Val, pitch, out: Val, words: dict, m, columns, result: dt.dtype):
    """C's elements from rows of finished sums; `out`: where the first one goes."""
    T, L, row, column = t.acc, t.lanes, words["c_row"], words["c_col"]

    def vectors():
        with p.loop(0, m) as i, p.loop(0, p.ceil_div(columns, L)) as q:
            x = p.cast(p.load(p.offset(sums, i * pitch + q * L, T), T, L), result)
            p.store_masked(x, p.offset(out, i * row + q * L, result), p.mask(columns - q * L, L))

    def elements():
        with p.loop(0, columns) as j, p.loop(0, m) as i:
            p.store(p.cast(p.load(p.offset(sums, i * pitch + j, T), T), result), p.offset(out, i * row + j * column, result))
    p.otherwise(column.eq(1), vectors, elements)


# ---- micro-kernels
AHEAD = 64                                     # steps between fetching a panel of packed weights and multiplying it: they come from far
MICRO = "ptr a, ptr b, ptr c, i64 k, i64 sb, i64 ldc, i64 adding, i64 ra, i64 ka"


def chains(rows: int, vectors: int) -> int:
    """Sums per element that a micro-kernel makes in turn: few accumulators alone would wait for each other's multiply-adds."""
    return min(max(8 // (rows * vectors), 1), 4)


@code.program("micro")
def micro_kernel(t: Tile, rows: int, vectors: int, direct: bool) -> str:
    """C tile (+)= A B. Packed: A is [k][rows]. Direct: element (i, k) of A lies i*ra + k*ka elements on, unpacked; of pairs, (i, 2k) lies i*ra + 2k elements on."""
    p, T, L = Program(), t.acc, t.lanes
    word, stored, multiply = (dt.int32, dt.bfloat16, p.dot_pairs) if t.pairs else (T, T, p.mad)
    cells = [(i, v) for i in range(rows) for v in range(vectors)]
    in_turn = chains(rows, vectors)
    with p.define("micro", MICRO, internal=False) as (a, b, c, k, sb, ldc, adding, ra, ka):
        out = [p.offset(c, ldc * i, T) for i in range(rows)]
        for i, v in cells: p.prefetch(p.offset(out[i], v * L, T), write=True)
        sums = [[p.variable(p.const(0, T, L)) for _ in cells] for _ in range(in_turn)]
        ap = p.variable(a)
        bp = p.variable(b)

        def body(chain):
            pa, pb = p.get(ap), p.get(bp)
            if not direct: p.prefetch(p.offset(pa, rows * AHEAD, word))
            else:
                for v in range(vectors): p.prefetch(p.offset(pb, sb * AHEAD + v * L, word))
            bs = [p.load(p.offset(pb, v * L, word), word, L) for v in range(vectors)]
            at = pa
            for i in range(rows):
                x = p.load(at, word, 1, stored.size)
                at = p.offset(at, ra, stored) if direct else p.offset(at, 1, word)      # a running address: LLVM folds it into displacements or one add per row
                for v in range(vectors):
                    s = chain[i * vectors + v]
                    p.set(s, multiply(x, bs[v], p.get(s)))
            p.set(ap, p.offset(pa, rows, word) if not direct else p.offset(pa, 1, word) if t.pairs else p.offset(pa, ka, T))
            p.set(bp, p.offset(pb, sb, word))
        with p.loop(0, k // in_turn):
            for chain in sums: body(chain)
        if in_turn > 1:
            with p.loop(0, k % in_turn): body(sums[0])
        total = [functools.reduce(p.add, map(p.get, column)) for column in zip(*sums)]

        def put(adding):
            for (i, v), s in zip(cells, total):
                at = p.offset(out[i], v * L, T)
                p.store(p.add(p.load(at, T, L), s) if adding else s, at)
        p.otherwise(adding.ne(0), lambda: put(True), lambda: put(False))
    return p.module()


class Micro:
    """The table of one accumulator type: entry ((direct * vectors + v - 1) * rows + r - 1) is the kernel of r rows and v vectors, or null."""

    def __init__(self, t: Tile):
        self.tile = t
        self.table = (ctypes.c_void_p * (2 * t.vectors * t.rows))()

    @property
    def address(self) -> int: return ctypes.addressof(self.table)

    def need(self, rows: int, vectors: int, direct: bool = False):
        i = (direct * self.tile.vectors + vectors - 1) * self.tile.rows + rows - 1
        if self.table[i] is None: self.table[i] = micro_kernel(self.tile, rows, vectors, direct)[0]


@functools.cache
def micro(acc: dt.dtype, pairs: bool = False) -> Micro: return Micro(tile(acc, pairs))


def kernel_of(p: Program, t: Tile, table: Val, rows: Int, vectors: Int, direct: int | Int = 0) -> Val:
    """The table's entry for run-time numbers of rows and vectors."""
    return p.read_pointer(table, (vectors + (direct * t.vectors - 1)) * t.rows + (rows - 1))


@code.program("tile")
def entry(operands: int) -> str:
    """tile(ctx, vals, words): calls the driver whose address is the first word behind the operands' positions, with the words from there on."""
    p = Program()
    with p.define("tile", "ptr ctx, ptr vals, ptr words", internal=False) as (ctx, vals, words):
        p.run(p.read_pointer(words, operands), ctx, vals, words, p.offset(words, operands, dt.int64))
    return p.module()
