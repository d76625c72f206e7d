"""Panels of shifted images: what a convolution multiplies, read straight from images, and written back to them.

A panel is `columns` consecutive pixels of the result. Under one tap the source pixels of one vector of them lie in a few **runs** of consecutive
memory: one per row of the image, less where rows follow each other. A panel's **plan** lists these runs for every tap (relative to an image), as
(address, mask) pairs; with it, filling the panel takes one masked load per run and channel. Panels repeat after `period` images, so plans
are kept and used again: by the next images, the next channels, the next groups.
"""
from __future__ import annotations

from ..core import dtype as dt
from .text import Val
from .tile import Int, Program, Tile

# run-time words of a whole launch, of a part (a set of output pixels that have the same taps), and of each of its taps
WORDS = """driver micro tail turned groups images m channels panels height taller bias in_place alone parts
stage stage_width stage_phases stage_pitch stage_step stage_rows shared_a kept w_group w_m w_channel taps""".split()
PART = """g0 g1 g2 d_step h_step x_d x_h s_channel s_image s_h s_d o_off o_d o_h o_w o_channel o_image flat
taps block panels_at_once a_off ordered period period_panels panels_total plans plan_words""".split()
TAP = "d h w limit off weight".split()
STAGE = "stage_width stage_phases stage_pitch stage_step".split()
# the head of a plan: what it is for; where the first pixel lies in the result, whether all lie side by side there; whether every vector has one run
HEAD = "key place plain simple".split()
SEGMENT = "lane count base d h w".split()      # pixels of one vector that lie in one row of one image


def segment_words(t: Tile) -> int: return t.vectors + 1 + len(SEGMENT) * (t.columns + t.vectors)


def plan_words(t: Tile, width: int, taps: int, flat: bool) -> int:
    """Room for one panel's plan, when rows of the result have `width` pixels: key, places of scattered pixels, counts and runs per tap."""
    runs = min(t.columns, t.columns // max(width, 1) + 2) + t.vectors
    return len(HEAD) + (0 if flat else t.columns) + taps * (t.vectors + 2 * runs)


def period(t: Tile, pixels: int, images: int) -> int:
    """After how many images panels begin anew: few, but so that the last panel's empty lanes cost little."""
    def waste(g): return -(-g * pixels // t.columns) * t.columns / (g * pixels)
    return min(range(1, max(min(images, 16), 1) + 1), key=lambda g: (max(waste(g), 1.04), g)) if pixels else 1


MOST_THREADS = 1024
AHEAD = 16                                     # channels between fetching pixels and copying them: they lie too far apart for a prefetcher
NEXT_PAGE = 4096                               # bytes between fetching rows and staging them: a prefetcher stops at every page


class Record:
    """Named words at a run-time address."""

    def __init__(self, p: Program, base: Val, names: list[str]): self.p, self.base, self.names = p, base, names

    def __getitem__(self, name: str) -> Int: return self.p.read(self.base, self.names.index(name))

    def __setitem__(self, name: str, x): self.p.write(x, self.base, self.names.index(name))


def record_at(p: Program, base: Val, i, names) -> Record: return Record(p, p.offset(base, i * len(names), dt.int64), names)


class Panels:
    """The numbers of a part's panels inside a function of p: which pixels panel j has."""

    def __init__(self, p: Program, t: Tile, r: Record, images: Int):
        self.p, self.t, self.images = p, t, images
        self.pixels, self.period, self.count = r["g0"] * r["g1"] * r["g2"], r["period"], r["period_panels"]
        self.plans, self.words = r["plans"], r["plan_words"]
        self.flat = r["flat"].ne(0)

    def at(self, j: Int) -> tuple[Int, Int, Int]:
        """(first image of panel j's period, its first pixel counted from there, its number of pixels)."""
        p, NR = self.p, self.t.columns
        turn = j // self.count
        image, first = turn * self.period, (j - turn * self.count) * NR
        return image, first, p.min(p.min(self.period, self.images - image) * self.pixels - first, NR)

    def plan(self, plans: Val, j: Int) -> Val: return self.p.offset(plans, j % self.plans * self.words, dt.int64)

    def runs(self, plan: Val) -> Val:
        """Where a plan's runs begin: behind its pixels' places if they are scattered."""
        return self.p.offset(plan, self.p.pick(self.flat, len(HEAD), len(HEAD) + self.t.columns), dt.int64)

    def forget(self, plans: Val):
        with self.p.loop(0, self.plans) as i: self.p.write(0, plans, i * self.words)


# ---- plans
def write_segments(p: Program, t: Tile):
    """segments: the runs of the `cols` pixels from `first` on; table[0..vectors] say where each vector's segments begin, they follow."""
    L = t.lanes
    with p.define("segments", "ptr part, ptr table, i64 first, i64 cols") as (part, table, first, cols):
        r = Record(p, part, PART)
        g0, g1, g2 = r["g0"], r["g1"], r["g2"]
        d_step, h_step, s_d, s_h, s_image = (r[x] for x in ("d_step", "h_step", "s_d", "s_h", "s_image"))
        row, w = first // g2, p.variable(first % g2)
        h, d, image = p.variable(row % g1), p.variable(row // g1 % g0), p.variable(row // g1 // g0)
        lane, count = p.variable(p.int(0)), p.variable(p.int(0))
        get = lambda x: p.int(p.get(x))
        for v in range(t.vectors):
            p.write(get(count), table, v)
            with p.loop_while() as again:                      # at least one trip: an empty segment does no harm
                at, x = get(lane), get(w)
                n = p.max(p.min(p.min(g2 - x, L * (v + 1) - at), cols - at), 0)
                s = record_at(p, p.offset(table, t.vectors + 1, dt.int64), get(count), SEGMENT)
                dd, hh = get(d) * d_step, get(h) * h_step
                s["lane"], s["count"], s["d"], s["h"], s["w"] = at - L * v, n, dd, hh, x
                s["base"] = get(image) * s_image + dd * s_d + hh * s_h + x
                p.set(count, get(count) + 1)
                p.set(lane, at + n)
                p.set(w, x + n)
                with p.if_((x + n).eq(g2)):
                    p.set(w, p.int(0))
                    p.set(h, get(h) + 1)
                    with p.if_(get(h).eq(g1)):
                        p.set(h, p.int(0))
                        p.set(d, get(d) + 1)
                        with p.if_(get(d).eq(g0)):
                            p.set(d, p.int(0))
                            p.set(image, get(image) + 1)
                again(p.both(get(lane) < L * (v + 1), get(lane) < cols))
        p.write(get(count), table, t.vectors)


def write_plan(p: Program, t: Tile):
    """plan: makes panel (first, cols)'s plan at `out`, unless it is there already."""
    with p.define("plan", "ptr part, ptr table, ptr out, i64 first, i64 cols") as (part, table, out, first, cols):
        key = first * (2 * t.columns) + cols + 1
        with p.if_(p.read(out, 0).ne(key)):
            p.write(key, out, 0)
            p.run("segments", part, table, first, cols)
            r = Record(p, part, PART)
            x_d, x_h, place, pixels, head = r["x_d"], r["x_h"], p.variable(p.int(len(HEAD))), r["g0"] * r["g1"] * r["g2"], Record(p, out, HEAD)
            image, inside = first // pixels, first % pixels
            head["place"], head["plain"] = image * r["o_image"] + inside, p.pick(p.both(r["flat"].ne(0), inside + cols <= pixels), 1, 0)
            with p.if_(r["flat"].eq(0)):
                p.run("lanes", part, p.offset(out, len(HEAD), dt.int64), first, cols)
                p.set(place, p.int(len(HEAD) + t.columns))
            simple = p.variable(p.int(1))
            with p.loop(0, r["taps"]) as i:
                tap = record_at(p, p.offset(part, len(PART), dt.int64), i, TAP)
                td, th, tw, limit, off = (tap[x] for x in TAP[:5])
                counts = p.int(p.get(place))
                begin = p.variable(counts + t.vectors)
                for v in range(t.vectors):
                    end = p.variable(p.get(begin))
                    with p.loop(p.read(table, v), p.read(table, v + 1)) as k:
                        s = record_at(p, p.offset(table, t.vectors + 1, dt.int64), k, SEGMENT)
                        d, h, x = s["d"] + td, s["h"] + th, s["w"] + tw
                        lo, hi = p.max(0 - x, 0), p.min(s["count"], limit - x)
                        with p.if_(p.both(d >= 0, d < x_d, h >= 0, h < x_h, hi > lo)):
                            mask = ((p.int(1) << hi) - (p.int(1) << lo)) << s["lane"]
                            address, here = s["base"] + off - s["lane"], p.int(p.get(end))
                            last = p.max(here - 2, p.int(p.get(begin)))      # consecutive rows of the image may be consecutive in memory: one run
                            same = p.both(here > p.int(p.get(begin)), p.read(out, last).eq(address))
                            at = p.pick(same, last, here)
                            p.write(p.pick(same, p.read(out, at + 1), 0) | mask, out, at + 1)
                            p.write(address, out, at)
                            p.set(end, at + 2)
                    with p.if_((p.int(p.get(end)) - p.int(p.get(begin))).eq(0)):        # an empty one, so that such panels stay simple
                        p.write(0, out, p.get(begin))
                        p.write(0, out, p.int(p.get(begin)) + 1)
                        p.set(end, p.int(p.get(begin)) + 2)
                    n = (p.int(p.get(end)) - p.int(p.get(begin))) >> 1
                    p.write(n, out, counts + v)
                    p.set(simple, p.pick(n.eq(1), p.get(simple), 0))
                    p.set(begin, p.get(end))
                p.set(place, p.get(begin))
            head["simple"] = p.get(simple)


def write_lanes(p: Program):
    """lanes: where each of `cols` pixels from `first` on lies in the result, from its channel's first element."""
    with p.define("lanes", "ptr part, ptr table, i64 first, i64 cols") as (part, table, first, cols):
        r = Record(p, part, PART)
        g0, g1, g2 = r["g0"], r["g1"], r["g2"]
        steps = [r[x] for x in ("o_image", "o_d", "o_h", "o_w")]
        with p.loop(0, cols) as i:
            w, row = (first + i) % g2, (first + i) // g2
            at = row // g1 // g0 * steps[0] + row // g1 % g0 * steps[1] + row % g1 * steps[2] + w * steps[3]
            p.write(at, table, i)


class Runs:
    """Walks a plan's runs at run time, tap by tap."""

    def __init__(self, p: Program, t: Tile, runs: Val, src: Val):
        self.p, self.t, self.runs, self.src = p, t, runs, src
        self.place = p.variable(p.int(0))

    @property
    def counts(self) -> list[Int]:
        here = self.p.int(self.p.get(self.place))
        return [self.p.read(self.runs, here + v) for v in range(self.t.vectors)]

    @property
    def begin(self) -> Int: return self.p.int(self.p.get(self.place)) + self.t.vectors

    def run(self, at: Int) -> tuple[Val, Val]:
        """(address, mask)"""
        return self.p.offset(self.src, self.p.read(self.runs, at), self.t.acc), self.p.mask_of(self.p.read(self.runs, at + 1), self.t.lanes)

    def each(self, taps: Int, simple: Int, write):
        """write(tap, one vector per vector of the panel) for all taps."""
        p, vectors = self.p, range(self.t.vectors)

        def one(at): return p.load_masked(self.run(at)[0], self.t.acc, self.run(at)[1])

        def short():
            with p.loop(0, taps) as i: write(i, [one(i * (3 * self.t.vectors) + self.t.vectors + 2 * v) for v in vectors])

        def long():
            with p.loop(0, taps) as i:
                counts, at, xs = self.counts, self.begin, []
                for n in counts:
                    xs.append(self.gathered(at, n))
                    at = at + n * 2
                write(i, xs)
                self.skip(counts)
        p.otherwise(simple.ne(0), short, long)

    def skip(self, counts: list[Int]): self.p.set(self.place, self.begin + sum(counts[1:], counts[0]) * 2)

    def gathered(self, at: Int, n: Int, step=None) -> Val:
        """One vector from n runs, `step` elements further on."""
        p, T = self.p, self.t.acc
        x = p.variable(p.const(0, T, self.t.lanes))
        with p.loop(0, n) as i:
            address, mask = self.run(at + i * 2)
            p.set(x, p.load_merged(p.offset(address, step or 0, T), T, mask, p.get(x)))
        return p.get(x)


def write_columns(p: Program, t: Tile):
    """columns: dst[(channel * taps + tap) * line + lane] = the image shifted by the tap, for `channels` channels from `src` on."""
    T, L = t.acc, t.lanes
    with p.define("columns", "ptr part, ptr runs, ptr src, ptr dst, i64 line, i64 channels") as (part, runs, src, dst, line, channels):
        r = Record(p, part, PART)
        taps, s_channel = r["taps"], r["s_channel"]
        step, walk = taps * line, Runs(p, t, runs, src)

        def fill(to, sources):
            """All channels; sources: per vector its runs."""
            with p.loop(0, channels) as c:
                for v, ((address, mask), *more) in sources.items():
                    p.prefetch(p.offset(address, (c + AHEAD) * s_channel, T))
                    x = p.load_masked(p.offset(address, c * s_channel, T), T, mask)
                    for address, mask in more: x = p.load_merged(p.offset(address, c * s_channel, T), T, mask, x)
                    p.store(x, p.offset(to, c * step + v * L, T))

        def fill_many(to, v, at, n):
            with p.loop(0, channels) as c: p.store(walk.gathered(at, n, c * s_channel), p.offset(to, c * step + v * L, T))

        with p.loop(0, taps) as i:
            to, counts, begin = p.offset(dst, i * line, T), walk.counts, walk.begin

            def one_by_one():
                at = begin
                for v, n in enumerate(counts):
                    p.otherwise(n.eq(2), lambda: fill(to, {v: [walk.run(at), walk.run(at + 2)]}),
                                lambda: p.otherwise(n.eq(1), lambda: fill(to, {v: [walk.run(at)]}), lambda: fill_many(to, v, at, n)))
                    at = at + n * 2
            p.otherwise(p.both(*(n.eq(1) for n in counts)), lambda: fill(to, {v: [walk.run(begin + 2 * v)] for v in range(t.vectors)}), one_by_one)
            walk.skip(counts)


# ---- results
def write_scatter(p: Program, stored: dt.dtype, t: Tile):
    """scatter: a scratch tile to y's pixels, one by one; `adding` to what is there."""
    with p.define("scatter", "ptr tile, ptr y, ptr table, i64 channel, i64 rows, i64 cols, i64 adding") as (
            src, y, table, channel, rows, cols, adding):
        with p.loop(0, rows) as i, p.loop(0, cols) as j:
            at = p.offset(y, i * channel + p.read(table, j), stored)
            x = p.load(p.offset(src, i * t.columns + j, t.acc), t.acc)
            if stored is t.acc: x = p.add(x, p.select(adding.ne(0), p.load(at, stored), p.const(0, stored)))
            p.store(p.cast(x, stored), at)


def write_spread(p: Program, stored: dt.dtype, t: Tile):
    """spread: a scratch tile to pixels that are consecutive within each image, but may reach into the next one."""
    T, L = t.acc, t.lanes
    with p.define("spread", "ptr part, ptr tile, ptr y, i64 first, i64 rows, i64 cols, i64 adding") as (part, src, y, first, rows, cols, adding):
        r = Record(p, part, PART)
        pixels, o_image, o_channel, done = r["g0"] * r["g1"] * r["g2"], r["o_image"], r["o_channel"], p.variable(p.int(0))
        with p.loop_while() as again:
            lane = p.int(p.get(done))
            image = (first + lane) // pixels
            inside = first + lane - image * pixels
            n = p.min(pixels - inside, cols - lane)
            for v in range(t.vectors):
                lo, hi = p.max(lane - v * L, 0), p.min(lane + n - v * L, L)
                with p.if_(hi > lo):
                    mask, base = p.mask_of((p.int(1) << hi) - (p.int(1) << lo), L), image * o_image + inside - lane + v * L
                    with p.loop(0, rows) as i:
                        x, at = p.load(p.offset(src, i * t.columns + v * L, T), T, L), p.offset(y, base + i * o_channel, stored)
                        there = p.emit(f"select {adding.ne(0)}, {mask}, {p.const(False, dt.bool, L)}", dt.bool, L)
                        if stored is T: x = p.add(x, p.load_masked(at, T, there))
                        p.store_masked(p.cast(x, stored), at, mask)
            p.set(done, lane + n)
            again(lane + n < cols)


def write_bias(p: Program, stored: dt.dtype, t: Tile):
    with p.define("add_bias", "ptr tile, i64 ld, ptr bias, i64 rows") as (tile_at, ld, bias, rows):
        with p.loop(0, rows) as i:
            x = p.cast(p.load(p.offset(bias, i, stored), stored), t.acc)
            for v in range(t.vectors):
                at = p.offset(tile_at, i * ld + v * t.lanes, t.acc)
                p.store(p.add(p.load(at, t.acc, t.lanes), x), at)


# ---- sources
def write_stage(p: Program, stored: dt.dtype, t: Tile):
    """stage: rows lo..hi of an image to staged form: columns sorted by residue modulo the stride, in the accumulator's type."""
    T, L = t.acc, t.lanes
    with p.define("stage", "ptr numbers, ptr src, ptr dst, i64 lo, i64 hi") as (numbers, src, dst, lo, hi):
        r = Record(p, numbers, STAGE)
        width, phases, pitch, step = (r[x] for x in STAGE)
        with p.loop(lo, hi) as row:
            s, d = p.offset(src, row * width, stored), p.offset(dst, row * step, T)
            with p.loop(0, width * stored.size, 64) as at: p.prefetch(p.offset(p.offset(s, NEXT_PAGE // stored.size, stored), at, dt.uint8))

            def converted():
                with p.loop(0, p.ceil_div(width, L)) as q:
                    x = p.load_masked(p.offset(s, q * L, stored), stored, p.mask(width - q * L, L))
                    p.store_masked(p.cast(x, T), p.offset(d, q * L, T), p.mask(width - q * L, L))

            def pairs():
                with p.loop(0, p.ceil_div(width, 2 * L)) as q:
                    rest = width - q * (2 * L)
                    x, y = (p.cast(p.load_masked(p.offset(s, (q * 2 + i) * L, stored), stored, p.mask(p.max(rest - i * L, 0), L)), T) for i in (0, 1))
                    for i in (0, 1):
                        line = p.shuffle(x, y, range(i, 2 * L, 2))
                        p.store_masked(line, p.offset(d, pitch * i + q * L, T), p.mask((rest + (1 - i)) >> 1, L))

            def sorted_():
                with p.loop(0, width) as i:
                    p.store(p.cast(p.load(p.offset(s, i, stored), stored), T), p.offset(d, i % phases * pitch + i // phases, T))
            p.otherwise(phases.eq(1), converted, lambda: p.otherwise(phases.eq(2), pairs, sorted_))


def write_walk(p: Program, stored: dt.dtype, t: Tile):
    """All that a program needs to read panels of shifted images."""
    write_segments(p, t)
    write_lanes(p)
    write_plan(p, t)
    write_columns(p, t)
    write_stage(p, stored, t)


def write_collect(p: Program, stored: dt.dtype, t: Tile):
    """collect: spread's opposite for one row: `cols` pixels from `first` on, as vectors of the accumulator's type with zeros behind them."""
    T, L = t.acc, t.lanes
    with p.define("collect", "ptr part, ptr y, ptr dst, i64 first, i64 cols") as (part, y, dst, first, cols):
        r = Record(p, part, PART)
        pixels, o_image, done = r["g0"] * r["g1"] * r["g2"], r["o_image"], p.variable(p.int(0))
        for v in range(t.vectors): p.store(p.const(0, T, L), p.offset(dst, v * L, T))
        with p.loop_while() as again:
            lane = p.int(p.get(done))
            image = (first + lane) // pixels
            inside = first + lane - image * pixels
            n = p.min(pixels - inside, cols - lane)
            with p.loop(0, p.ceil_div(n, L)) as q:
                mask = p.mask(n - q * L, L)
                x = p.load_masked(p.offset(y, image * o_image + inside + q * L, stored), stored, mask)
                p.store_masked(p.cast(x, T), p.offset(dst, lane + q * L, T), mask)
            p.set(done, lane + n)
            again(lane + n < cols)


# ---- what the programs share
def meet(p: Program, ctx: Val):
    """All threads have come here."""
    with p.if_(p.read(ctx, 1) > 1): p.run(p.read_pointer(ctx, 4), ctx)


def staged(p: Program, ctx: Val, w: Val, W: Record, x: Val, shared: Val) -> Val:
    """The images to read: x itself, or its staged copy, of which this thread makes its share."""
    staging = W["stage"].ne(0)
    with p.if_(staging):
        lo, hi = p.mine(ctx, W["stage_rows"], tell=False)
        p.run("stage", p.offset(w, WORDS.index(STAGE[0]), dt.int64), x, shared, lo, hi)
    return p.choose_pointer(staging, shared, x)
