"""Reading and writing at positions that other tensors hold: gather, scatter, put, nonzero.

Comes in: Natives in the canonical form of `dnn/gather.py`. Goes out: Launches. A canonical form is a loop nest over R axes with one stride per axis
for every array, K index tensors that each add index·stride to the address, and at the end of it a run of contiguous elements:

  words: R lengths, then R strides of each array: data (the result's for writes), values (writes only), K index tensors;
         K times (size, stride, lowest allowed index); run length, elements of the result, elements of the smallest block that holds a run

Reads split the positions among threads. Writes must give one answer however many threads there are. Where different positions along an axis never meet
in one place, threads split that axis. Otherwise each walks all positions in order and writes only what it owns, a slice of every run when runs are long,
else a part of the result's blocks.

Along the last axis several positions are taken at a time: a vector of indices is tested, then nothing stands between the loads and stores of elements.
"""
from __future__ import annotations

import functools
import math

from ...core import dtype as dt
from ...core.kernels import Launch, Native, Program
from ...core.shape import View, overlaps
from ...cpu import code, isa
from .code import Code, X

PARALLEL = 1 << 15                             # elements from which a second thread pays
APART = 8                                      # an axis of that length is shared among threads
_RAW = {1: dt.uint8, 2: dt.uint16, 4: dt.uint32, 8: dt.uint64}


@functools.cache
def program(name: str, write, *structure) -> Program:
    """`write(c, *structure)` fills the body of a kernel."""
    def body() -> str:
        c = Code()
        with c.kernel(name): write(c, *structure)
        return c.text()
    text = code.Text(body, f"{write.__module__}.{write.__qualname__}{(name, *structure)!r}")
    return Program(name, code.load(text, name), text)


def launch(n: Native, p: Program, words, scratch=0, shared=0) -> Launch:
    return Launch(p, tuple(words), n.work >= PARALLEL, scratch, shared, sum(o.dtype.size for o in n.operands) * n.work)


class Words:
    """Reads a kernel's words in order, once, before its loops."""

    def __init__(self, c: Code, at: int): self.c, self.at = c, at

    def __call__(self, count: int | None = None):
        if count is None:
            self.at += 1
            return self.c.word(self.at - 1)
        return [self() for _ in range(count)]


def walk_rows(c: Code, lengths: list[X], strides: list[list[X]], lo: X, hi: X, body):
    """body(first, start, stop, offsets) for the parts of innermost axes that make up positions [lo, hi) of a nest, row-major.

    Element j of [start, stop) has position first + j; `offsets` are the arrays' at j = 0.
    """
    last, done = lengths[-1], c.var(lo)
    with c.forever() as leave:
        leave(done.now >= hi)
        row, start = done.now // last, done.now % last
        stop, base = last.min(start + (hi - done.now)), [c.const(0) for _ in strides]
        for d in range(len(lengths) - 2, -1, -1):
            at = row % lengths[d] if d else row
            base = [b + at * s[d] for b, s in zip(base, strides)]
            if d: row = row // lengths[d]
        body(done.now - start, start, stop, base)
        done.add(stop - start)


def walk(c: Code, lengths: list[X], strides: list[list[X]], lo: X, hi: X, body):
    """body(position, offsets) for positions [lo, hi) of a nest, row-major; one offset per array."""
    if not lengths:
        with c.loop(lo, hi) as i: body(i, [c.const(0) for _ in strides])
        return

    def row(first, start, stop, base):
        with c.loop(start, stop) as j: body(first + j, [b + j * s[-1] for b, s in zip(base, strides)])
    walk_rows(c, lengths, strides, lo, hi, row)


def sweep(c: Code, lo, hi, width: int, body):
    """body(i, width) over [lo, hi), one by one at the end."""
    lo, hi = c.i64(lo), c.i64(hi)
    if width == 1:
        with c.loop(lo, hi) as i: body(i, 1)
        return
    whole = lo + ((hi - lo) & -width)
    with c.loop(lo, whole, width) as i: body(i, width)
    with c.loop(whole, hi) as i: body(i, 1)


def _picked(c: Code, pointers, types, picks, offsets, start: X, tested=False) -> X:
    """start + the sum of index·stride. `tested`: the indices are known to be in range."""
    for p, t, (size, stride, low), at in zip(pointers, types, picks, offsets):
        index = c.load(p, t, at).to(dt.int64)
        start = start + (index + (index < 0).where(size, 0) if tested else c.checked(index, size, low)) * stride
    return start


def _tested(c: Code, pointers, types, picks, lengths, strides, count) -> X:
    """Are all indices in range? The last that isn't goes into the error record."""
    width = 2 * isa.vector_bytes // 8
    bad, lanes = c.var(False, dt.bool), c.var(c.splat(c.const(False, dt.bool), width))
    for p, t, (size, _, low), steps in zip(pointers, types, picks, strides):
        def test(i, n, p=p, t=t, size=size, low=low):
            index, faults = c.load(p, t, i, n).to(dt.int64), lanes if n > 1 else bad
            faults.set(faults.now | (index < c.splat(low, n)) | (index >= c.splat(size, n)))
        end = c.const(1)                       # index tensors are dense: all of their elements are read
        for length, step in zip(lengths, steps): end = end + (length - 1) * step
        sweep(c, 0, (count > 0).where(end, 0), width, test)
    bad.set(bad.now | X(c, c.b.any_lane(lanes.now.v)))
    with c.when(bad.now): walk(c, lengths, strides, c.const(0), count, lambda _, offsets: _picked(c, pointers, types, picks, offsets, c.const(0)))
    return ~bad.now


def _plain(c: Code, pointers, types, picks, steps, offsets, j: X, width: int) -> X:
    """Are all indices of positions [j, j + width) along the last axis in range, and none counted from the end?"""
    bad = c.splat(c.const(False, dt.bool), width)
    for p, t, (size, _, _), step, at in zip(pointers, types, picks, steps, offsets):
        index = c.load(p, t, at + j, width).to(dt.int64) if step else c.splat(c.load(p, t, at).to(dt.int64), width)
        bad = bad | (index.bits(dt.uint64) >= c.splat(size.bits(dt.uint64), width))
    return ~X(c, c.b.any_lane(bad.v))


def _places(c: Code, data: X, t, pointers, types, picks, steps, strides, offsets, start: X, j: X, width: int):
    """The offsets of positions [j, j + width), whose indices are `_plain`. Random reads of a row wait for memory one by one; what the next row will read
    is asked for in order meanwhile."""
    by = strides[-1]
    if len(strides) > 1:
        ahead = by
        for (_, stride, _), step in zip(picks, steps):
            if step: ahead = ahead + stride
        c.b.prefetch(c.at(data, start + strides[-2] + j * ahead, t).v)
    fixed = start + j * by
    for p, t, (_, stride, _), step, at in zip(pointers, types, picks, steps, offsets):
        if not step: fixed = fixed + c.load(p, t, at).to(dt.int64) * stride
    for e in range(width):
        here = fixed + by * e
        for p, t, (_, stride, _), step, at in zip(pointers, types, picks, steps, offsets):
            if step: here = here + c.load(c.at(p, at + j, t), t, e).to(dt.int64) * stride
        yield here


# ---- reads: operands data, K index tensors, result
# spec = (R, index dtypes, element bytes, has runs, the index tensors' steps along the last axis if all are 0 or 1)
def _take(c: Code, axes: int, types: tuple, size: int, run: bool, steps: tuple | None):
    k = len(types)
    x, pointers, out = c.operand(0), [c.operand(1 + i) for i in range(k)], c.operand(1 + k)
    w = Words(c, 2 + k)
    lengths, strides = w(axes), [w(axes) for _ in range(1 + k)]
    picks = [w(3) for _ in range(k)]
    inner, count = w(), w()
    t, lanes = (_RAW[8], 2) if size == 16 else (_RAW[size], 1)               # 16-byte elements travel as two words

    def one(position, offsets):
        at = _picked(c, pointers, types, picks, offsets[1:], offsets[0])
        if not run: return c.store(c.load(x, t, at * lanes, lanes), out, position * lanes)
        source, target = c.at(x, at * lanes, t), c.at(out, position * inner * lanes, t)
        sweep(c, 0, inner * lanes, isa.vector_bytes // t.size, lambda i, n: c.store(c.load(source, t, i, n), target, i))
    lo, hi = c.share(count)
    if steps is None or size == 16: return walk(c, lengths, strides, lo, hi, one)

    def row(first, start, stop, base):
        def several(j, width):
            if width == 1: return one(first + j, [b + j * s[-1] for b, s in zip(base, strides)])
            with c.either(_plain(c, pointers, types, picks, steps, base[1:], j, width)) as otherwise:
                target = c.at(out, first + j, t)
                places = _places(c, x, t, pointers, types, picks, steps, strides[0], base[1:], base[0], j, width)
                for e, at in enumerate(places): c.store(c.load(x, t, at), target, e)
                otherwise()                    # tells which index it is
                with c.loop(j, j + width) as i: one(first + i, [b + i * s[-1] for b, s in zip(base, strides)])
        sweep(c, start, stop, isa.vector_bytes // 8, several)
    walk_rows(c, lengths, strides, lo, hi, row)


def take(n: Native) -> Launch: return launch(n, program("take", _take, *n.spec), n.words)


# ---- writes: operands base (which becomes the result), K index tensors, values; with start 'zero': values, index tensors, result
# spec = (R, index dtypes, dtype, mode, start, kind of run, the index tensors' steps along the last axis if all are 0 or 1 and there are no runs)
IDENTITY = {"sum": lambda t: 0, "prod": lambda t: 1,
            "amax": lambda t: float("-inf") if t.is_floating_point else 0 if not t.signed else -(1 << (8 * t.size - 1)),
            "amin": lambda t: float("inf") if t.is_floating_point else 1 if t is dt.bool else (1 << (8 * t.size - t.signed)) - 1}
_COMBINE = {"set": lambda old, new: new, "sum": lambda old, new: old + new, "prod": lambda old, new: old * new,
            "amax": lambda old, new: old.max(new), "amin": lambda old, new: old.min(new)}


def _scatter(c: Code, axes: int, types: tuple, t: dt.dtype, mode: str, start: str, run: str, steps: tuple | None, split: int):
    """start: 'base' (the result holds it already), 'zero' (filled here), 'fresh' (places that are written begin with the mode's identity).
    run: 'row' (of as many values), 'one' (the same value all along) or ''. split: the axis that threads share, -1 if places may meet."""
    k = len(types)
    pointers = [c.operand(1 + i) for i in range(k)]
    out, values = (c.operand(i) for i in ((k + 1, 0) if start == "zero" else (0, k + 1)))
    w = Words(c, k + 2)
    lengths, strides = w(axes), [w(axes) for _ in range(2 + k)]
    picks = [w(3) for _ in range(k)]
    inner, count, numel, unit = w(4)
    width = max(isa.vector_bytes // t.size, 1)
    owned = split < 0
    from_slice, to_slice = c.var(0), c.var(inner)
    from_block, to_block = c.var(0), c.var(numel)
    with c.either((inner >= c.nt * (256 // t.size)) if owned else c.const(False, dt.bool)) as otherwise:         # slices of four cache lines and more
        lo, hi = c.share(inner)
        from_slice.set(lo)
        to_slice.set(hi)
        otherwise()
        lo, hi = c.share(numel // unit.max(1))
        from_block.set(lo * unit)
        to_block.set(hi * unit)
    lo, hi, first_mine, last_mine = from_slice.now, to_slice.now, from_block.now, to_block.now
    if start == "zero":
        zero, step = c.const(0, t), inner.max(1)
        with c.either(hi - lo < inner) as otherwise:                         # my slice of every run: here runs tile the result
            with c.loop(0, numel, step) as at: sweep(c, at + lo, at + hi, width, lambda i, n: c.store(c.splat(zero, n), out, i))
            otherwise()
            sweep(c, first_mine, last_mine, width, lambda i, n: c.store(c.splat(zero, n), out, i))
        if not owned: c.barrier()
    mine, whole = list(lengths), pointers
    if not owned:
        from_here, to_here = c.share(lengths[split])
        mine[split] = to_here - from_here
        out, values = (c.at(p, from_here * s[split], t) for p, s in zip((out, values), strides))
        pointers = [c.at(p, from_here * s[split], i) for p, s, i in zip(pointers, strides[2:], types)]

    def combined(combine):
        def put(at, value_at):
            if not run: return c.store(combine(c.load(out, t, at), c.load(values, t, value_at)), out, at)
            source, target = c.at(values, value_at, t), c.at(out, at, t)
            new = c.load(source, t) if run == "one" else None
            sweep(c, lo, hi, width, lambda i, n: c.store(combine(c.load(target, t, i, n), c.load(source, t, i, n) if new is None else c.splat(new, n)), target, i))

        def place(at, value_at):
            if not owned: return put(at, value_at)
            with c.when((at >= first_mine) & (at < last_mine)): put(at, value_at)

        def one(_, offsets): place(_picked(c, pointers, types, picks, offsets[2:], offsets[0], start != "zero"), offsets[1])
        total = mine[0] if mine else c.const(1)
        for n in mine[1:]: total = total * n
        if steps is None: return walk(c, mine, strides, c.const(0), total, one)

        def row(first, begin, end, base):
            def several(j, width):
                if width == 1: return one(None, [b + j * s[-1] for b, s in zip(base, strides)])
                with c.either(_plain(c, pointers, types, picks, steps, base[2:], j, width)) as otherwise:
                    for e, at in enumerate(_places(c, out, t, pointers, types, picks, steps, strides[0], base[2:], base[0], j, width)):
                        place(at, base[1] + (j + e) * strides[1][-1])
                    otherwise()
                    with c.loop(j, j + width) as i: one(None, [b + i * s[-1] for b, s in zip(base, strides)])
            sweep(c, begin, end, isa.vector_bytes // 8, several)
        walk_rows(c, mine, strides, c.const(0), total, row)
    if start == "zero": return combined(_COMBINE[mode])
    with c.when(_tested(c, whole, types, picks, lengths, strides[2:], count)):      # what is written in place stays as it was if an index is wrong
        if start == "fresh": combined(lambda old, new: c.splat(c.const(IDENTITY[mode](t), t), old.v.n))
        combined(_COMBINE[mode])


def _split(n: Native) -> int:
    """The longest axis of a write whose positions never meet in one place: every stride is more than all smaller ones reach together. Else -1."""
    axes, types, run = n.spec[0], n.spec[1], n.spec[5]
    k = len(types)
    lengths, strides = n.words[:axes], n.words[axes:2 * axes]
    picks, inner = n.words[(3 + k) * axes:(3 + k) * axes + 3 * k], n.words[(3 + k) * axes + 3 * k]
    steps = sorted([(s, m) for s, m in zip(strides, lengths) if s] + [(picks[3 * i + 1], picks[3 * i]) for i in range(k)])
    reach = inner - 1 if run else 0
    for s, m in steps:
        if s <= reach: return -1
        reach += s * (m - 1)
    longest = max((d for d in range(axes) if strides[d]), key=lambda d: lengths[d], default=-1)
    return longest if longest >= 0 and lengths[longest] >= APART else -1


def scatter(n: Native) -> Launch: return launch(n, program("scatter", _scatter, *n.spec, _split(n)), n.words)


# ---- addput: operands v (contiguous), out; out[offset + Σ i·stride] += v[i]; spec = (dtype,), words = (ndim, *shape, *strides, offset, numel)
def _addput(c: Code, axes: int, t: dt.dtype, shared: bool):
    v, out, w = c.operand(0), c.operand(1), Words(c, 2)
    lengths, strides, offset, numel, count = w(axes), w(axes), w(), w(), w()

    def one(position, offsets):
        at = offset + offsets[0]
        def add(): c.store(c.load(out, t, at) + c.load(v, t, position), out, at)
        if not shared: return add()
        with c.when((at >= mine) & (at < end)): add()
    mine, end = c.share(numel)
    lo, hi = (c.const(0), count) if shared else c.share(count)
    walk(c, lengths, [strides], lo, hi, one)


def addput(n: Native) -> Launch:
    ndim, *rest = n.words
    shape, strides, (offset, numel) = rest[:ndim], rest[ndim:2 * ndim], rest[2 * ndim:]
    lengths, (strides,) = merged(shape, (strides,))
    shared = overlaps(View(tuple(lengths), tuple(strides), offset))           # elements reached twice: each by its owner, in order
    return launch(n, program("addput", _addput, len(lengths), n.spec[0], shared), (*lengths, *strides, offset, numel, math.prod(shape)))


def merged(shape, arrays) -> tuple[list[int], list[list[int]]]:
    """A nest without axes of length 1, and with neighbours joined wherever every array's strides continue each other."""
    lengths, out = [], [[] for _ in arrays]
    for d, n in enumerate(shape):
        if n == 1: continue
        now = [a[d] for a in arrays]
        if lengths and all(o[-1] == s * n for o, s in zip(out, now)):
            lengths[-1] *= n
            for o, s in zip(out, now): o[-1] = s
            continue
        lengths.append(n)
        for o, s in zip(out, now): o.append(s)
    return lengths, out


# ---- nonzero: a pass that counts per block, a pass that writes; spec = (dtype,) and (dtype, ndim)
def _found(c: Code, x: X, t: dt.dtype, i: X, n: int) -> X:
    """Which of n elements from i on aren't 0, as bits."""
    found = c.load(x, t, i, n).ne(0)
    return c.bits_of(found) if n > 1 else found.to(dt.int64)


def _width(t: dt.dtype) -> int: return isa.vector_bytes // t.size


def _count(c: Code, t: dt.dtype):
    x, counts, n, blocks = c.operand(0), c.operand(1), c.word(2), c.word(3)
    lo, hi = c.share(blocks)
    with c.loop(lo, hi) as block:
        found = c.var(0)
        sweep(c, n * block // blocks, n * (block + 1) // blocks, _width(t), lambda i, w: found.add(c.ones(_found(c, x, t, i, w))))
        c.store(found.now, counts, block)


def nonzero_count(n: Native) -> Launch:
    """Operands x, counts (an int64 per block); words = (elements, blocks)."""
    return launch(n, program("nonzero_count", _count, *n.spec), n.words)


def _fill(c: Code, t: dt.dtype, ndim: int):
    if not ndim: return
    x, counts, out, n, blocks = c.operand(0), c.operand(1), c.operand(2), c.word(3), c.word(4)
    shape, at = Words(c, 5)(ndim), c.var(0)
    lo, hi = c.share(blocks)
    with c.loop(0, lo) as block: at.add(c.load(counts, dt.int64, block))

    def row(first, start, stop, outer):
        def several(j, w):
            left = c.var(_found(c, x, t, first + j, w))
            with c.forever() as leave:
                leave(left.now.eq(0))
                for d, k in enumerate((*outer[:-1], j + c.lowest(left.now))): c.store(k, out, at.now * ndim + d)
                left.set(left.now & (left.now - 1))
                at.add(1)
        sweep(c, start, stop, _width(t), several)
    coordinates = [[c.const(int(d == k)) for d in range(ndim)] for k in range(ndim)]             # an array per axis, whose offset is the place along it
    walk_rows(c, shape, coordinates, n * lo // blocks, n * hi // blocks, row)


def nonzero_fill(n: Native) -> Launch:
    """Operands x, counts, positions (found, ndim) int64; words = (elements, blocks, *shape)."""
    return launch(n, program("nonzero_fill", _fill, *n.spec), n.words)


ROUTINES = {f.__name__: f for f in (take, scatter, addput, nonzero_count, nonzero_fill)}
