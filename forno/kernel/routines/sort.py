"""Ordering lines: argsort, the k smallest, order statistics, the commonest value, binary search.

Comes in: Natives whose words begin with (outer, n, inner): element (o, i, j) of x lies at (o·n + i)·inner + j, lines run along i. Goes out: Launches.

Every element becomes an unsigned key whose order is the wanted one (NaN last, -0 equal to 0, complemented when descending). Short lines are sorted by
insertion, long ones digit by digit from the low end; both keep equal elements in their order. Where PyTorch doesn't, `introsort` says what it does with
them. Lines are shared among threads; keys and positions live in each thread's scratch.
"""
from __future__ import annotations

from ...core import dtype as dt
from ...core.errors import unsupported
from ...core.kernels import Launch, Native
from ..text import PTR, Val
from .code import Code, X
from .index import launch, program, sweep
from .introsort import Items

SHORT = 48                                     # up to here insertion beats the digits' counting
WHOLE = 128                                    # up to here halving does
DIGITS = 256


def key_type(t: dt.dtype) -> dt.dtype: return dt.uint64 if t.size == 8 else dt.uint32


def key(x: X, t: dt.dtype, descending: bool) -> X:
    """A number whose unsigned order is the order of x."""
    c, k = x.c, key_type(t)
    if t.is_floating_point:
        x = x.to(t.opmath)
        signed = dt.int64 if k is dt.uint64 else dt.int32
        bits = x.eq(0.0).where(c.splat(c.const(0, signed), x.v.n), x.bits(signed))
        out = (bits ^ ((bits >> (8 * k.size - 1)) | c.const(-1 << (8 * k.size - 1), signed))).bits(k)
        out = x.isnan().where(c.splat(c.const(-1, k), x.v.n), out)
    elif t.signed: out = x.to(dt.int64 if k is dt.uint64 else dt.int32).bits(k) ^ (1 << (8 * k.size - 1))
    else: out = x.to(k)
    return ~out if descending else out


class Line:
    """One thread's scratch: two arrays of keys, two of positions, the digits' counts."""

    def __init__(self, c: Code, t: dt.dtype, n: X):
        self.c, self.k, self.n = c, key_type(t), n
        room, at = (n + 15) & -16, c.scratch()
        self.keys = (at, c.at(at, room, self.k))
        self.places = (c.at(at, room * (2 * self.k.size)), c.at(at, room * (2 * self.k.size + 4)))
        self.counts = c.at(at, room * (2 * self.k.size + 8))

    def load(self, x: X, t: dt.dtype, first: X, inner: X, descending: bool):
        c = self.c
        with c.loop(0, self.n) as i:
            c.store(key(c.load(x, t, first + i * inner), t, descending), self.keys[0], i)
            c.store(i.to(dt.uint32), self.places[0], i)

    def sort(self, n: X):
        """The first n keys in order, with their positions, in the first pair. One function of the module, however often it is called."""
        b = self.c.b
        arrays = (*self.keys, *self.places, self.counts)

        def write():
            with b.function("sort_line", ", ".join(f"ptr %p{i}" for i in range(5)) + ", i64 %n", internal=True):
                a, z, p, q, counts = (X(self.c, Val(f"%p{i}", PTR)) for i in range(5))
                inner = Line.__new__(Line)
                inner.c, inner.k, inner.n, inner.keys, inner.places, inner.counts = self.c, self.k, X(self.c, Val("%n", dt.int64)), (a, z), (p, q), counts
                with self.c.either(inner.n <= SHORT) as otherwise:
                    inner._insertion()
                    otherwise()
                    inner._digits()
        b.helper("sort_line", write)
        self.c.call("sort_line", None, *arrays, n)

    def items(self) -> Items: return Items(self.c, self.keys[0], self.places[0], self.k)

    def unstable(self, n: X, load):
        """The same as std::sort does it; its order of equal elements is worked out where there are some (`load` fetches the line again)."""
        c, keys, i = self.c, self.keys[0], self.c.var(1)
        with c.either(n <= WHOLE) as otherwise:
            self.items().sort(n)
            otherwise()
            self.sort(n)
            with c.forever() as leave:
                leave(i.now >= n)
                leave(c.load(keys, self.k, i.now).eq(c.load(keys, self.k, i.now - 1)))
                i.add(1)
            with c.when(i.now < n):
                load()
                self.items().sort(n)

    def _insertion(self):
        c, (keys, _), (places, _) = self.c, self.keys, self.places
        with c.loop(1, self.n) as i:
            mine, place, j = c.load(keys, self.k, i), c.load(places, dt.uint32, i), c.var(i)
            with c.forever() as leave:
                leave(j.now <= 0)
                before = c.load(keys, self.k, j.now - 1)
                leave(before <= mine)
                c.store(before, keys, j.now)
                c.store(c.load(places, dt.uint32, j.now - 1), places, j.now)
                j.add(-1)
            c.store(mine, keys, j.now)
            c.store(place, places, j.now)

    def _digits(self):
        """Least significant digit first; a digit that all keys share costs nothing."""
        c, n, rounds = self.c, self.n, self.k.size
        zero = c.const(0, dt.uint32)
        with c.loop(0, rounds * DIGITS) as i: c.store(zero, self.counts, i)
        with c.loop(0, n) as i:
            x = c.load(self.keys[0], self.k, i)
            for r in range(rounds):
                at = ((x >> (8 * r)) & 255).to(dt.int64) + r * DIGITS
                c.store(c.load(self.counts, dt.uint32, at) + 1, self.counts, at)
        swapped = c.var(0)
        with c.loop(0, rounds) as r:
            counts, shift = c.at(self.counts, r * DIGITS, dt.uint32), (r * 8).to(self.k)
            def digit_of(x): return (x._plain("lshr", shift) & 255).to(dt.int64)
            odd = swapped.now.ne(0)
            (a, b), (p, q) = (self._turned(odd, *pair) for pair in (self.keys, self.places))
            shared = c.load(counts, dt.uint32, digit_of(c.load(a, self.k))).to(dt.int64)
            with c.when(shared.ne(n)):
                total = c.var(zero)
                with c.loop(0, DIGITS) as d:
                    count = c.load(counts, dt.uint32, d)
                    c.store(total.now, counts, d)
                    total.set(total.now + count)
                with c.loop(0, n) as i:
                    x = c.load(a, self.k, i)
                    digit = digit_of(x)
                    to = c.load(counts, dt.uint32, digit)
                    c.store(to + 1, counts, digit)
                    c.store(x, b, to.to(dt.int64))
                    c.store(c.load(p, dt.uint32, i), q, to.to(dt.int64))
                swapped.set(1 - swapped.now)
        with c.when(swapped.now.ne(0)):
            for (to, source), t in ((self.keys, self.k), (self.places, dt.uint32)):
                sweep(c, 0, n, 8, lambda i, w: c.store(c.load(source, t, i, w), to, i))

    def _turned(self, odd: X, x: X, y: X):
        """(x, y), or (y, x) after an odd number of passes."""
        return tuple(X(self.c, self.c.b.emit(f"select {odd.v}, {second.v}, {first.v}", first.v.dtype)) for first, second in ((x, y), (y, x)))


def scratch(t: dt.dtype, n: int) -> int: return ((n + 15) & -16) * 2 * (key_type(t).size + 4) + key_type(t).size * DIGITS * 4


def _each_line(c: Code, body):
    """body(o, j, first element) for this thread's lines."""
    outer, n, inner = (c.word(2 + k) for k in range(3))
    lo, hi = c.share(outer * inner)
    with c.loop(lo, hi) as line:
        o, j = line // inner, line % inner
        body(o, j, o * n * inner + j)
    return outer, n, inner


# ---- order: operands x, positions (outer, k, inner) int64; spec = (dtype, descending, how); words (outer, n, inner, k)
# how: 'stable', 'sort' (as std::sort leaves equal elements), or for the k first 'top' or 'top in any order'
def _order(c: Code, t: dt.dtype, descending: bool, how: str):
    x, out, n, inner, k = c.operand(0), c.operand(1), c.word(3), c.word(4), c.word(5)
    line = Line(c, t, n)

    def one(o, j, first):
        def load(): line.load(x, t, first, inner, descending)
        load()
        if how == "stable": line.sort(n)
        elif how == "sort": line.unstable(n, load)
        else:
            items = line.items()
            items.nth(k - 1, n)
            if how == "top": items.sort(k - 1)
        with c.loop(0, k) as i: c.store(c.load(line.places[0], dt.uint32, i).to(dt.int64), out, (o * k + i) * inner + j)
    _each_line(c, one)


def _few(c: Code, t: dt.dtype, descending: bool):
    """The first k of many: a heap of the best so far, whose top gives way to whatever comes before it."""
    x, out, n, inner, k = c.operand(0), c.operand(1), c.word(3), c.word(4), c.word(5)
    line, width = Line(c, t, k), 16
    items, group = line.items(), X(c, c.b.alloca(line.k, 1, width))

    def one(o, j, first):
        line.load(x, t, first, inner, descending)
        items.heap(k)
        top = c.var(items.key(0))

        def try_one(mine, i):
            with c.when(mine < top.now):
                items.replace(k, (mine, i.to(dt.uint32)))
                top.set(items.key(0))

        def several(i, w):
            new = key(c.load(x, t, first + i * inner, w), t, descending)
            if w == 1: return try_one(new, i)
            left = c.var(c.bits_of(new < c.splat(top.now, w)))
            with c.when(left.now.ne(0)):
                c.store(new, group)
                with c.forever() as leave:
                    leave(left.now.eq(0))
                    e = c.lowest(left.now)
                    left.set(left.now & (left.now - 1))
                    try_one(c.load(group, line.k, e), i + e)
        with c.either(inner.eq(1)) as otherwise:
            sweep(c, k, n, width, several)
            otherwise()
            sweep(c, k, n, 1, several)
        items.settle(k)
        with c.loop(0, k) as i: c.store(c.load(line.places[0], dt.uint32, i).to(dt.int64), out, (o * k + i) * inner + j)
    _each_line(c, one)


def order(n: Native) -> Launch:
    outer, size, inner, k = n.words
    if size >= 1 << 32: raise unsupported(f"sort of {size} elements along one axis", instead="split it")
    t, descending, how = n.spec
    if how.startswith("top") and 0 < 64 * k <= size: return launch(n, program("few", _few, t, descending), n.words, scratch(t, k))      # PyTorch's std::partial_sort
    return launch(n, program("order", _order, t, descending, how), n.words, scratch(t, size))


# ---- statistic: operands x, position (outer, inner) int64; spec = (dtype, 'kth' | 'median' | 'nanmedian' | 'mode'); words (outer, n, inner, k)
def _statistic(c: Code, t: dt.dtype, what: str):
    x, out, n, inner, k = c.operand(0), c.operand(1), c.word(3), c.word(4), c.word(5)
    line = Line(c, t, n)

    def one(o, j, first):
        line.load(x, t, first, inner, False)
        if what == "mode": line.unstable(n, lambda: line.load(x, t, first, inner, False))
        elif what == "kth": line.items().quick(k, n)
        else: line.sort(n)
        keys, places, at = line.keys[0], line.places[0], c.var(k)
        if what == "mode": _commonest(c, line, at)
        elif what != "kth":
            numbers = c.var(n)                 # NaN sorts last
            if t.is_floating_point:
                with c.forever() as leave:
                    leave(numbers.now <= 0)
                    leave(c.load(keys, line.k, numbers.now - 1).ne(-1))
                    numbers.add(-1)
            if what == "median": at.set((numbers.now < n).where(numbers.now, (n - 1) >> 1))
            else: at.set(((numbers.now - 1) >> 1).max(0))
        c.store(c.load(places, dt.uint32, at.now).to(dt.int64), out, o * inner + j)
    _each_line(c, one)


def _commonest(c: Code, line: Line, at):
    """The end of the longest run of equal keys, the first of several."""
    keys, best, start = line.keys[0], c.var(0), c.var(0)
    with c.loop(0, line.n) as i:
        here = c.load(keys, line.k, i)
        with c.when(here.ne(c.load(keys, line.k, start.now))): start.set(i)
        with c.when(i - start.now >= best.now):
            best.set(i - start.now + 1)
            at.set(i)


def statistic(n: Native) -> Launch: return launch(n, program("statistic", _statistic, *n.spec), n.words, scratch(n.spec[0], n.words[1]))


# ---- search: operands bounds, values[, sorter], result; spec = (dtype, right, result dtype, has sorter)
# words (lines, bounds per line, values per line, step from one line's bounds to the next)
def _search(c: Code, t: dt.dtype, right: bool, result: dt.dtype, sorter: bool):
    bounds, values, order, out = c.operand(0), c.operand(1), c.operand(2) if sorter else None, c.operand(3 if sorter else 2)
    count, n, m, step = (c.word((4 if sorter else 3) + k) for k in range(4))
    lo, hi = c.share(count * m)
    with c.loop(lo, hi) as i:
        x, base, a, z = c.load(values, t, i).to(t.opmath), i // m * step, c.var(0), c.var(n)
        with c.forever() as leave:
            leave(a.now >= z.now)
            mid = (a.now + z.now) >> 1
            y = c.load(bounds, t, base + (c.load(order, dt.int64, base + mid) if sorter else mid)).to(t.opmath)
            before = y > x if right else y >= x                              # no branch: it would be a coin toss
            low, high = a.now, z.now
            z.set(before.where(mid, high))
            a.set(before.where(low, mid + 1))
        c.store(a.now.to(result), out, i)


def search(n: Native) -> Launch: return launch(n, program("search", _search, *n.spec), n.words)


ROUTINES = {f.__name__: f for f in (order, statistic, search)}
