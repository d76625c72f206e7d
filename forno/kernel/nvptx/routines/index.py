"""Reading and writing at positions that other tensors hold, on a GPU: gather, scatter, put, nonzero.

Comes in: Natives in the canonical form of `dnn/gather.py`, whose words the CPU's routines/index.py explains. Goes out: DeviceLaunches.

take      a thread per element of the result: neighbours read neighbours of a run
scatter   sums, and extremes of whole numbers, are made in memory by whoever comes, several neighbours of a run at once. Sums that are rounded depend on the order,
          so not under `use_deterministic_algorithms`. Of plain writes the last wins: every place is marked with its last position first, where that is less
          work than sorting. What is left is sorted by its place, equal places in the order of the values; then a thread per place and element of the run
          walks through what goes there, as the CPU does, or a warp does where much goes to one place
nonzero   a block per part of the elements: it counts; then it writes, each chunk behind the one before

An index out of range is reported; what would have been written there is left out.
"""
from __future__ import annotations

import functools
import math

from ....core import dtype as dt
from ....core.errors import unsupported
from ....core.kernels import DeviceLaunch, Native
from ....core.shape import View, contiguous, overlaps
from ....core.state import state
from ....cpu.isa import Isa
from ...routines.code import X
from ...routines.index import _COMBINE, _RAW, IDENTITY, Words, merged
from . import atomic, order
from .code import THREADS, WARP, Device, blocks, chain, stage

COUNTING = 1024                                # threads of a block that counts, at most as many parts
EACH = 8                                       # elements that they take at a time
WIDEST = 16                                    # bytes that a thread moves at once
FAR = (1 << 32) - 1
TALLY = 2048                                   # places for which a block has room
AHEAD, TURNS = 8, 4                            # values that a thread asks for at once, and each lane of a warp that walks together
FEW = 8                                        # elements of a run whose long places are walked by warps: neighbours of longer ones are read together anyway
MARKS = 8                                      # per position: a mark takes 4 bytes, and sorting moves 16 bytes per position at least twice


# ---- places
def axis_offsets(c: Device, position: X, lengths, strides) -> list[X]:
    """Where a position of a nest, counted row-major, lies in every array; one list of strides per array."""
    offsets = [c.const(0) for _ in strides]
    for d in range(len(lengths) - 1, -1, -1):
        at = position % lengths[d] if d else position
        offsets = [o + at * s[d] for o, s in zip(offsets, strides)]
        if d: position = position // lengths[d]
    return offsets


def picked(c: Device, pointers, types, picks, offsets, start: X) -> tuple[X, X]:
    """(start + the sum of index·stride, whether all indices are in range)"""
    good = c.const(True, dt.bool)
    for p, t, (size, stride, low), at in zip(pointers, types, picks, offsets):
        index, fine = c.tested(c.load(p, t, at).to(dt.int64), size, low)
        start, good = start + index * stride, good & fine
    return start, good


def begins_at(c: Device, nbytes: int, *pointers: X) -> X:
    """Do all of these begin at a multiple of so many bytes?"""
    return (functools.reduce(X.__or__, map(c.address, pointers)) & (nbytes - 1)).eq(0)


# ---- reads
def _take(c: Device, axes: int, types: tuple, size: int, piece: int, run: bool):
    """`size`: bytes that a thread moves. 16 of them, which are several elements, go at once where both arrays begin at multiples of that, else piece by piece."""
    k = len(types)
    x, pointers, out = c.operand(0), [c.operand(1 + i) for i in range(k)], c.operand(1 + k)
    w = Words(c, 2 + k)
    lengths, strides = w(axes), [w(axes) for _ in range(1 + k)]
    picks = [w(3) for _ in range(k)]
    inner, count = w(), w()
    if size == WIDEST: whole = begins_at(c, WIDEST, x, out)
    with c.each(count * inner) as e:
        position, j = (e // inner, e % inner) if run else (e, c.const(0))
        offsets = axis_offsets(c, position, lengths, strides)
        at = picked(c, pointers, types, picks, offsets[1:], offsets[0])[0] + j
        if size < WIDEST: c.store(c.load(x, _RAW[size], at), out, e)
        else: _move(c, whole, c.at(x, at * WIDEST), c.at(out, e * WIDEST), _RAW[piece])


def _move(c: Device, whole: X, source: X, target: X, piece: dt.dtype):
    with c.either(whole) as otherwise:
        c.b.store(c.b.load(source.v, dt.uint64, 2, WIDEST), target.v, WIDEST)
        otherwise()
        for i in range(WIDEST // piece.size): c.store(c.load(source, piece, i), target, i)


def take(n: Native, isa: Isa) -> DeviceLaunch:
    """Where every run begins and ends at a multiple of 16 bytes, that is what an element is."""
    axes, types, size, run, _ = n.spec
    k, w, many = len(types), list(n.words), WIDEST // size
    counted = [*range(axes, 2 * axes), *((2 + k) * axes + 3 * i + 1 for i in range(k)), (2 + k) * axes + 3 * k]         # strides of x, and the runs' length
    piece = min(size, 8)
    if run and not any(w[i] % many for i in counted):
        size = WIDEST
        for i in counted: w[i] //= many
    return stage(n, isa, _take, (axes, types, size, piece, run), w, blocks(w[-2] * w[-1]))


# ---- writes
class Writes:
    """What a kernel of a write knows. `places`: which operands are the result, the values, and the first index tensor; words as of `scatter`, then an offset."""

    def __init__(self, c: Device, axes: int, types: tuple, places: tuple):
        self.c, self.types, (out, values, first) = c, types, places
        k = len(types)
        self.out, self.values, self.pointers = c.operand(out), c.operand(values), [c.operand(first + i) for i in range(k)]
        w = Words(c, len(c.operands))
        self.lengths, self.strides = w(axes), [w(axes) for _ in range(2 + k)]
        self.picks = [w(3) for _ in range(k)]
        self.inner, self.count, self.numel, self.unit, self.offset = w(5)

    def place(self, position: X) -> tuple[X, X]:
        """(where a position's run begins in the result, whether its indices are in range)"""
        own, *offsets = axis_offsets(self.c, position, self.lengths, [self.strides[0], *self.strides[2:]])
        return picked(self.c, self.pointers, self.types, self.picks, offsets, own + self.offset)

    def source(self, position: X, j: X, run: str) -> X:
        """Where among the values its element j is."""
        at, = axis_offsets(self.c, position, self.lengths, [self.strides[1]])
        return at + j if run == "row" else at

    def value(self, t: dt.dtype, position: X, j: X, run: str) -> X: return self.c.load(self.values, t, self.source(position, j, run))


def _clear(c: Device, axes: int, types: tuple, places: tuple, t: dt.dtype):
    w, zero = Writes(c, axes, types, places), c.const(0, t)
    with c.each(w.numel) as i: c.store(zero, w.out, i)


def _begin(c: Device, axes: int, types: tuple, places: tuple, t: dt.dtype, mode: str):
    """Places that are written begin anew. Who writes there, and how many, doesn't matter."""
    w = Writes(c, axes, types, places)
    with c.each(w.count * w.inner) as e:
        at, good = w.place(e // w.inner)
        with c.when(good): atomic.put(c, c.const(IDENTITY[mode](t), t), w.out, at + e % w.inner)


def _add(c: Device, axes: int, types: tuple, places: tuple, t: dt.dtype, mode: str, run: str, many: int):
    """In any order. `many`: neighbours that one thread adds at once, if their memory begins at a multiple of their bytes; words count those."""
    w = Writes(c, axes, types, places)
    if many > 1: whole = begins_at(c, many * t.size, w.out, *([w.values] if run == "row" else []))
    with c.each(w.count * w.inner) as e:
        position, j = e // w.inner, e % w.inner
        at, good = w.place(position)
        with c.when(good):
            target, source = at + j, w.source(position, j, run)
            if many == 1: atomic.combine(c, mode, c.load(w.values, t, source), w.out, target, w.numel)
            else: _add_neighbours(c, w, t, mode, whole, target * many, source * many if run == "row" else source, run, many)


def _add_neighbours(c: Device, w: Writes, t: dt.dtype, mode: str, whole: X, target: X, source: X, run: str, many: int):
    with c.either(whole) as otherwise:
        atomic.add(c, t, c.at(w.out, target, t), atomic.neighbours(c, t, c.at(w.values, source, t), many, run == "one"))
        otherwise()
        with c.loop(0, many) as i: atomic.combine(c, mode, c.load(w.values, t, source + i if run == "row" else source), w.out, target + i, w.numel)


def _tally(c: Device, axes: int, types: tuple, places: tuple, t: dt.dtype):
    """Whole numbers, many for each of few places: every block adds up its own in shared memory first."""
    w, room, zero = Writes(c, axes, types, places), c.room(TALLY * t.size), c.const(0, t)
    with c.across(w.numel) as i: c.store(zero, room, i)
    c.barrier()
    with c.each(w.count) as position:
        at, good = w.place(position)
        with c.when(good): atomic.tally(c, w.value(t, position, at, ""), room, at)
    c.barrier()
    with c.across(w.numel) as i:
        x = c.load(room, t, i)
        with c.when(x.ne(0)): atomic.combine(c, "sum", x, w.out, i, w.numel)


def _apart(c: Device, axes: int, types: tuple, places: tuple, t: dt.dtype, mode: str, start: str, run: str, marked: bool):
    """Places that no two positions share. `marked`: they do, and only a position with a mark writes."""
    w = Writes(c, axes, types, places)
    marks = c.scratch() if marked else None
    with c.each(w.count * w.inner) as e:
        position, j = e // w.inner, e % w.inner
        at, good = w.place(position)
        if marked: good = good & c.load(marks, dt.uint32, at // w.inner).eq((position + 1).to(dt.uint32))
        with c.when(good):
            old = c.const(IDENTITY[mode](t), t) if start == "fresh" else c.load(w.out, t, at + j)
            c.store(_COMBINE[mode](old, w.value(t, position, j, run)), w.out, at + j)


def _unmark(c: Device, axes: int, types: tuple, places: tuple):
    w, zero = Writes(c, axes, types, places), c.const(0, dt.uint32)
    marks = c.scratch()
    with c.each(w.numel // w.inner) as i: c.store(zero, marks, i)


def _mark(c: Device, axes: int, types: tuple, places: tuple):
    """Each run of the result is marked with the last position that goes there, counted from 1."""
    w = Writes(c, axes, types, places)
    marks = c.scratch()
    with c.each(w.count) as position:
        at, good = w.place(position)
        with c.when(good): atomic.combine(c, "amax", (position + 1).to(dt.uint32), marks, at // w.inner, w.numel)


def _places(c: Device, k: dt.dtype, axes: int, types: tuple, places: tuple):
    """The source of a sort: where each position goes; what goes nowhere is last."""
    w = Writes(c, axes, types, places)

    def make(_, position: X) -> tuple[X, X]:
        at, good = w.place(position)
        return good.where(at, -1).to(k), position
    return make


def _latest(c: Device, axes: int, types: tuple, places: tuple, t: dt.dtype, run: str, k: dt.dtype, first: int, turn: int):
    """Of plain writes in sorted order the last one to each place is done."""
    w, lines = Writes(c, axes, types, places), order.Lines(c, k, first, turn)
    with c.each(w.count * w.inner) as e:
        i, j = e // w.inner, e % w.inner
        here = lines.key(i)
        last = (i + 1 >= w.count) | lines.key((i + 1).min(w.count - 1)).ne(here)
        with c.when(last & here.ne(-1)): c.store(w.value(t, lines.place(i), j, run), w.out, here.to(dt.int64) + j)


def _combine(c: Device, axes: int, types: tuple, places: tuple, t: dt.dtype, mode: str, start: str, run: str, k: dt.dtype, first: int, turn: int, warps: bool):
    """A thread per place and element of its run combines what goes there, one value after the other; in sorted order, a place is where the first of its writes is. What
    takes time is to wait for values, so it asks for several at once. `warps`: where there are more, all lanes ask for the rest, and each combines all of it."""
    c.b.tuning = ' "nvvm.minctasm"="3"'         # blocks per multiprocessor: left alone, ptxas aims at four, and spills
    w, lines = Writes(c, axes, types, places), order.Lines(c, k, first, turn)
    both, nothing = _COMBINE[mode], c.const(IDENTITY[mode](t), t)
    with c.each_warp((w.count * w.inner + (WARP - 1)) // WARP) as group:
        e = group * WARP + c.lane
        inside = e < w.count * w.inner
        e = e.min(w.count * w.inner - 1)
        i, j = e // w.inner, e % w.inner
        here = lines.key(i)
        fresh = inside & here.ne(-1) & (i.eq(0) | lines.key((i - 1).max(0)).ne(here))
        total, at, more = c.var(nothing, t), c.var(i), c.var(fresh, dt.bool)

        def some():
            found = _found(c, w, lines, t, run, at.now, here, j, AHEAD, 1)
            x = total.now
            for good, y in found: x = good.where(both(x, y), x)
            total.set(x)
            at.add(AHEAD)
            more.set(found[-1][0])
        with c.when(fresh):
            if start != "fresh": total.set(c.load(w.out, t, here.to(dt.int64) + j))
            if warps: some()
            else:
                with c.forever_while(lambda: more.now): some()
        if warps: _together(c, w, lines, t, mode, run, here, j, total, at, more)
        with c.when(fresh): c.store(total.now, w.out, here.to(dt.int64) + j)


def _found(c: Device, w: Writes, lines: order.Lines, t: dt.dtype, run: str, at: X, here: X, j: X, n: int, step: int) -> list[tuple[X, X]]:
    """For n positions in sorted order: (does it go `here`, its value). Instead of values that don't, the first one is read again, which is at hand."""
    items = [lines.items.load((at + u * step).min(w.count - 1)) for u in range(n)]
    good = [(at + u * step < w.count) & lines.items.key(x, lines.k).eq(here) for u, x in enumerate(items)]
    places = [lines.items.place(x) for x in items]
    return [(g, w.value(t, g.where(p, places[0]), j, run)) for g, p in zip(good, places)]


def _together(c: Device, w: Writes, lines: order.Lines, t: dt.dtype, mode: str, run: str, here: X, j: X, total, at, more):
    """The rest of each place of which a lane has `more`, by all lanes of the warp, in the same order."""
    both, neutral = _COMBINE[mode], _neutral(c, mode, t)
    c.b.warp_barrier()
    waiting = c.var(c.ballot(more.now))
    with c.forever_while(lambda: waiting.now.ne(0)):
        owner = c.lowest(waiting.now)
        place, column, x, p = c.from_lane(here, owner), c.from_lane(j, owner), c.var(c.from_lane(total.now, owner), t), c.var(c.from_lane(at.now, owner))
        with c.forever() as leave:
            found = _found(c, w, lines, t, run, p.now + c.lane, place, column, TURNS, WARP)
            there = [c.ballot(good) for good, _ in found]
            for (good, y), lanes in zip(found, there):
                if neutral is None: _in_order(c, x, both, y, c.ones(lanes))
                else: _in_order(c, x, both, good.where(y, neutral))
            p.add(TURNS * WARP)
            leave(there[-1].ne((1 << WARP) - 1))
        with c.when(c.lane.eq(owner)): total.set(x.now)
        c.b.warp_barrier()
        waiting.set(waiting.now & (waiting.now - 1))


def _neutral(c: Device, mode: str, t: dt.dtype) -> X | None:
    """What changes no bit of whatever it is combined with: to numbers that are rounded -0 is added. Products of complex numbers have no such thing."""
    if t.category == dt.COMPLEX: return c.const(complex(-0.0, -0.0), t) if mode == "sum" else None
    return c.const(-0.0 if mode == "sum" and t.is_floating_point else IDENTITY[mode](t), t)


def _in_order(c: Device, x, both, y: X, count: X | None = None):
    """x is combined with each lane's y; only the first `count`, if not all of them."""
    with c.loop(0, WARP, AHEAD) as lane:
        ys, out = [c.from_lane(y, lane + u) for u in range(AHEAD)], x.now
        for u, z in enumerate(ys): out = both(out, z) if count is None else (lane + u < count).where(both(out, z), out)
        x.set(out)


def writes(n: Native, isa: Isa, axes: int, types: tuple, t: dt.dtype, mode: str, start: str, run: str, words: tuple, places: tuple, meet: bool) -> DeviceLaunch:
    """`words` as Writes reads them. `meet`: may two positions have one place?"""
    inner, count, numel = words[-5:-2]
    common, threads = (axes, types, places), blocks(count * inner)
    stages = [stage(n, isa, _clear, (*common, t), words, blocks(numel))] if start == "zero" else []
    if not meet: return chain([*stages, stage(n, isa, _apart, (*common, t, mode, start, run, False), words, threads)])
    if atomic.combines(t, mode, isa) and not (state.deterministic and atomic.rounds(t)):
        if start == "fresh": stages.append(stage(n, isa, _begin, (*common, t, mode), words, threads))
        stages.append(_adding(n, isa, common, t, mode, run, words))
        return chain(stages)
    if count >= FAR: raise unsupported(f"{n.label} of {count} places", t, "cuda", "split it")
    if mode == "set" and count > order.TILE and numel // inner <= MARKS * count:
        marking = [stage(n, isa, _unmark, common, words, blocks(numel // inner)), stage(n, isa, _mark, common, words, blocks(count))]
        return chain([*marking, stage(n, isa, _apart, (*common, t, mode, start, run, True), words, threads)], 4 * (numel // inner))
    k = dt.uint32 if numel < FAR else dt.uint64
    sorting = order.Sort(n, isa, _places, common, k, words, 1, count)
    if mode == "set": last = stage(n, isa, _latest, (*common, t, run, k, sorting.first, sorting.turn), sorting.words, threads)
    else: last = stage(n, isa, _combine, (*common, t, mode, start, run, k, sorting.first, sorting.turn, inner < FEW), sorting.words, threads)
    return chain([*stages, *sorting.stages, last], sorting.scratch)


def _adding(n: Native, isa: Isa, common: tuple, t: dt.dtype, mode: str, run: str, words: tuple) -> DeviceLaunch:
    """Neighbours at once, as many as divide every stride in the result and the length of runs."""
    _, count, numel = words[-5:-2]
    if t.category == dt.INT and mode == "sum" and not run and numel <= TALLY and count >= 8 * numel: return stage(n, isa, _tally, (*common, t), words, blocks(count, 8 * THREADS))
    axes, types, _ = common
    k, words = len(types), list(words)
    picks = (3 + k) * axes
    counted = [*range(axes, (3 if run == "row" else 2) * axes), *range(picks + 1, picks + 3 * k, 3), picks + 3 * k, len(words) - 1]
    many = next(m for m in atomic.widths(t, isa) if m == 1 or mode == "sum" and run and not any(words[i] % m for i in counted))
    for i in counted: words[i] //= many
    return stage(n, isa, _add, (*common, t, mode, run, many), words, blocks(words[-4] * words[-5]))


def scatter(n: Native, isa: Isa) -> DeviceLaunch:
    axes, types, t, mode, start, run, _ = n.spec
    k = len(types)
    places = (k + 1, 0, 1) if start == "zero" else (0, k + 1, 1)
    count = n.words[-3]
    return writes(n, isa, axes, types, t, mode, start, run, (*n.words, 0), places, count > 1)


def addput(n: Native, isa: Isa) -> DeviceLaunch:
    """Operands v (contiguous), out; out[offset + Σ i·stride] += v[i]; words = (ndim, *shape, *strides, offset, numel)."""
    ndim, *rest = n.words
    shape, strides, (offset, numel) = rest[:ndim], rest[ndim:2 * ndim], rest[2 * ndim:]
    meet = overlaps(View(tuple(shape), tuple(strides), offset))
    lengths, arrays = merged(shape, (strides, contiguous(tuple(shape))))
    words = (*lengths, *arrays[0], *arrays[1], 1, math.prod(shape), numel, 1, offset)
    return writes(n, isa, len(lengths), (), n.spec[0], "sum", "base", "", words, (1, 0, 0), meet)


# ---- nonzero
def _both(a: tuple, b: tuple) -> tuple: return a[0] + b[0],


def _nonzero_count(c: Device, t: dt.dtype):
    """EACH elements of a thread are asked for at once, each with its neighbours."""
    x, counts, n, parts = c.operand(0), c.operand(1), c.word(2), c.word(3)
    zero, room = c.const(0), c.room(16 * COUNTING // 32)
    with c.each_block(parts) as part:
        found, hi = c.var(0), n * (part + 1) // parts
        with c.loop(n * part // parts, hi, COUNTING * EACH) as first:
            places = [first + c.thread + k * COUNTING for k in range(EACH)]
            values = [c.load(x, t, i.min(n - 1)) for i in places]
            for i, value in zip(places, values): found.add(((i < hi) & value.ne(0)).to(dt.int64))
        _, (total,) = c.block_scan((found.now,), _both, (zero,), room)
        with c.when(c.thread.eq(0)): c.store(total, counts, part)


def nonzero_count(n: Native, isa: Isa) -> DeviceLaunch:
    """Operands x, counts (an int64 per part); words = (elements, parts)."""
    return stage(n, isa, _nonzero_count, n.spec, n.words, n.words[1], COUNTING)


def _nonzero_fill(c: Device, t: dt.dtype, ndim: int):
    """A thread has EACH neighbours: what it found, as bits, goes behind what the threads before it found."""
    x, counts, out, n, parts = c.operand(0), c.operand(1), c.operand(2), c.word(3), c.word(4)
    shape, zero, room = Words(c, 5)(ndim), c.const(0), c.room(16 * COUNTING // 32)
    with c.each_block(parts) as part:
        before = (c.thread < part).where(c.load(counts, dt.int64, c.thread.min(parts - 1)), 0)
        _, (lead,) = c.block_scan((before,), _both, (zero,), room)
        at, hi = c.var(lead), n * (part + 1) // parts
        with c.loop(n * part // parts, hi, COUNTING * EACH) as first:
            mine = first + c.thread * EACH
            values = [c.load(x, t, (mine + k).min(n - 1)) for k in range(EACH)]
            bits = functools.reduce(X.__or__, [((mine + k < hi) & value.ne(0)).to(dt.int64) << k for k, value in enumerate(values)])
            (before,), (total,) = c.block_scan((c.ones(bits),), _both, (zero,), room)
            place, left = c.var(at.now + before), c.var(bits)
            with c.forever_while(lambda: left.now.ne(0)):
                rest, to = mine + c.lowest(left.now), place.now * ndim
                for d in range(ndim - 1, -1, -1):
                    c.store(rest % shape[d] if d else rest, out, to + d)
                    if d: rest = rest // shape[d]
                place.add(1)
                left.set(left.now & (left.now - 1))
            at.add(total)


def nonzero_fill(n: Native, isa: Isa) -> DeviceLaunch:
    """Operands x, counts, positions (found, ndim) int64; words = (elements, parts, *shape)."""
    return stage(n, isa, _nonzero_fill, n.spec, n.words, n.words[1], COUNTING)


ROUTINES = {f.__name__: f for f in (take, scatter, addput, nonzero_count, nonzero_fill)}
