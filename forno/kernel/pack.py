"""Panels: pieces of a matrix copied so that a micro-kernel reads them front to back, converted to the accumulator's type on the way.

    dst[k * width + i] = src[i * si + k * sk]        0 <= i < valid, 0 <= k < depth; the lanes from `valid` to `width` hold anything

`i` runs over a panel's rows (of A) or columns (of B); either may be the contiguous one in memory, or neither.
Vectors are stored whole where `width` is not a multiple of them: the next step overwrites the excess, so panels must be packed in
ascending order and leave room behind the last one.
"""
from __future__ import annotations

from ..core import dtype as dt
from ..core.dtype import dtype
from .text import Val
from .tile import Program, Tile

ARGS = "ptr src, i64 si, i64 sk, ptr dst, i64 width, i64 valid, i64 depth"


def write(p: Program, name: str, stored: dtype, t: Tile, columns: bool):
    """Adds function `name` to p: panels of B (`columns`: width is t.columns) or of A (any width up to t.rows)."""
    T, L = t.acc, t.lanes
    blocks = t.vectors if columns else -(-t.rows // L)
    with p.define(name, ARGS) as (src, si, sk, dst, width, valid, depth):
        if columns: width = p.int(t.columns)

        def lines():
            """i is contiguous: copies."""
            masks = [p.mask(p.max(valid - b * L, 0), L) for b in range(blocks)]

            def copy(masked):
                with p.loop(0, depth) as k:
                    s, d = p.offset(src, sk * k, stored), p.offset(dst, width * k, T)
                    places = [p.offset(s, b * L, stored) for b in range(blocks)]
                    xs = [p.load_masked(at, stored, mask) if masked else p.load(at, stored, L) for at, mask in zip(places, masks)]
                    for b, x in enumerate(xs): p.store(p.cast(x, T), p.offset(d, b * L, T))
            if columns: p.otherwise(valid.eq(t.columns), lambda: copy(False), lambda: copy(True))
            else: copy(True)

        def squares():
            """k is contiguous: squares of L x L through registers; the last one overlaps the one before it. The last block comes first: what it stores
            beyond a line belongs to the first block."""
            held = p.ceil_div(valid, L)
            with p.loop(0, held) as n:
                b = held - 1 - n
                rows = [p.offset(src, p.min(valid - 1, b * L + i) * si, stored) for i in range(L)]
                with p.loop(0, p.ceil_div(depth, L)) as q:
                    k = p.min(q * L, depth - L)
                    lines = square(p, [p.cast(p.load(p.offset(r, k, stored), stored, L), T) for r in rows])
                    d = p.offset(dst, k * width + b * L, T)
                    for i, x in enumerate(lines): p.store(x, p.offset(d, width * i, T))

        def elements():
            with p.loop(0, depth) as k, p.loop(0, valid) as i:
                p.store(p.cast(p.load(p.offset(src, i * si + k * sk, stored), stored), T), p.offset(dst, k * width + i, T))

        p.otherwise(si.eq(1), lines, lambda: p.otherwise(p.both(sk.eq(1), depth >= L), squares, elements))


def square(p: Program, rows: list[Val]) -> list[Val]:
    """The transpose of L vectors of L lanes: exchange blocks of 1, 2, 4, … lanes between rows that far apart."""
    L = len(rows)
    step = 1
    while step < L:
        new = [None] * L
        low = [c if not c & step else L + (c ^ step) for c in range(L)]
        high = [c | step if not c & step else L + c for c in range(L)]
        for i in range(L):
            if i & step: continue
            new[i], new[i | step] = p.shuffle(rows[i], rows[i | step], low), p.shuffle(rows[i], rows[i | step], high)
        rows, step = new, step * 2
    return rows


def write_complex(p: Program, name: str, stored: dtype, t: Tile, columns: bool):
    """The same for complex matrices seen as real ones of twice the size: A's pairs (re, im) run along k, and every element of B becomes
    the 2 x 2 block [[re, im], [-im, re]], so that a real product gives interleaved complex results. Strides count real numbers."""
    T, real = t.acc, stored.real
    with p.define(name, ARGS) as (src, si, sk, dst, width, valid, depth), p.loop(0, depth) as k, p.loop(0, valid) as i:
        odd = k & 1
        if not columns:
            x = p.load(p.offset(src, i * si + (k - odd) * sk + odd, real), real)
        else:
            part = i & 1
            x = p.load(p.offset(src, (i - part) * si + (k - odd) * sk + p.pick(odd.eq(part), 0, 1), real), real)
            x = p.select(p.both(odd.eq(1), part.eq(0)), p.neg(x), x)
        p.store(p.cast(x, T), p.offset(dst, k * width + i, T))


def write_pairs(p: Program, name: str, stored: dtype, t: Tile, columns: bool):
    """The same for words of two bfloat16: dst[k * width + i] = (src[i * si + 2k * sk], src[i * si + (2k + 1) * sk]); behind an odd depth stands a zero.
    float32 is rounded."""
    L, word = t.lanes, dt.int32
    blocks = t.vectors if columns else -(-t.rows // L)
    with p.define(name, ARGS) as (src, si, sk, dst, width, valid, depth):
        if columns: width = p.int(t.columns)
        words, held = depth // 2, dt.uint16 if stored is dt.bfloat16 else stored

        def one(x): return p.cast(x if held is dt.uint16 else p.bitcast(p.cast(x, dt.bfloat16), dt.uint16), word)
        def pair(x, y): return p.or_(one(x), p.shl(one(y), 16)) if held is dt.uint16 or x.n == 1 else p.rounded_pairs(x, y, True)

        def row_words(at):
            """L words of a row that lies along k."""
            if held is dt.uint16: return p.load(at, word, L, stored.size)
            return p.rounded_pairs(p.load(at, stored, L), p.load(p.offset(at, L, stored), stored, L), False)

        def lines():
            masks = [p.mask(p.max(valid - b * L, 0), L) for b in range(blocks)]

            def copy(masked):
                def line(at, b):
                    at = p.offset(at, b * L, stored)
                    return p.load_masked(at, held, masks[b]) if masked else p.load(at, held, L)
                with p.loop(0, words) as k:
                    first = p.offset(src, sk * (k * 2), stored)
                    second, d = p.offset(first, sk, stored), p.offset(dst, width * k, word)
                    xs = [pair(line(first, b), line(second, b)) for b in range(blocks)]
                    for b, x in enumerate(xs): p.store(x, p.offset(d, b * L, word))
            if columns: p.otherwise(valid.eq(t.columns), lambda: copy(False), lambda: copy(True))
            else: copy(True)
            last()

        def squares():
            """k is contiguous: words lie in memory as they are wanted."""
            groups = p.ceil_div(valid, L)
            with p.loop(0, groups) as n:
                b = groups - 1 - n
                rows = [p.offset(src, p.min(valid - 1, b * L + i) * si, stored) for i in range(L)]
                with p.loop(0, p.ceil_div(words, L)) as q:
                    k = p.min(q * L, words - L)
                    d = p.offset(dst, k * width + b * L, word)
                    for i, x in enumerate(square(p, [row_words(p.offset(r, k * 2, stored)) for r in rows])): p.store(x, p.offset(d, width * i, word))
            last()

        def elements():
            with p.loop(0, words) as k, p.loop(0, valid) as i:
                first, second = (p.load(p.offset(src, i * si + (k * 2 + j) * sk, stored), held) for j in (0, 1))
                p.store(pair(first, second), p.offset(dst, k * width + i, word))
            last()

        def last():
            with p.if_((depth & 1).ne(0)), p.loop(0, valid) as i:
                x = p.load(p.offset(src, i * si + (depth - 1) * sk, stored), held)
                p.store(one(x), p.offset(dst, words * width + i, word))

        p.otherwise(si.eq(1), lines, lambda: p.otherwise(p.both(sk.eq(1), words >= L), squares, elements))


def writer(stored: dtype, t: Tile): return write_complex if stored.category == dt.COMPLEX else write_pairs if t.pairs else write


