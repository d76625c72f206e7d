"""Convolutions: three matrix products per convolution, whose image operand is never spread out in memory.

Comes in: a `Conv`. Goes out: a `Launch`. Forward and input gradient are one program, a sum over shifted images,

    y[image, m, pixel] = sum over channel, tap of  w[m, channel, tap] * x[image, channel, pixel * step + shift(tap)]       (0 outside x)

(the input gradient reads dy with the opposite shifts; where stride > 1 it falls apart in one such sum per residue of the pixel, each with its
own taps). Rows are channels of y, columns are pixels of all images one after another. Panels of 32 or so pixels are filled straight from the
image: for every tap the pixels of a vector lie in a few runs, and one masked load per run, repeated over the channels, does it. Horizontal
strides would scatter these runs, so such images (and half types) are first staged: columns sorted by residue, converted to float32.

The weight gradient sums over pixels: the same panels, transposed, times dy's. Threads share out channels, or pixels when there are few
channels; then each has its own sum, and these are added in the order of the threads.
"""
from __future__ import annotations

import functools
import itertools
import math

from ..core import dtype as dt
from ..core.errors import unsupported
from ..core.kernels import Conv, Launch
from ..core.kernels import Program as Code
from ..cpu import code, isa
from . import pack
from .builder import Val
from .gemm import PARALLEL_FLOPS, even_split, grid, write_put
from .tile import Int, Program, Tile, accumulator, entry, kernel_of, micro, tile

# run-time words: of the whole launch; of each part (a set of output pixels that have the same taps); of each of its taps
WORDS = """driver micro groups images m channels panels height taller bias in_place parts
stage stage_rows stage_width stage_phases stage_pitch stage_step shared_a w_group w_m w_channel""".split()
PART = "g0 g1 g2 d_step h_step x_d x_h s_channel s_image o_off o_d o_h o_w o_channel o_image flat taps block panels_at_once a_off s_h s_d ordered".split()
TAP = "d h w limit off weight".split()
SEGMENT = "lane count base d h w".split()      # pixels of one vector that lie in one row of one image

PAD = 64                                       # elements behind a panel that packing may overwrite
MOST_THREADS = 1024
K_BLOCK = 384                                  # channels times taps that are summed before the tile goes to memory


def segment_words(t: Tile) -> int: return t.vectors + 1 + len(SEGMENT) * (t.columns + t.vectors)


class Record:
    """Named words at a run-time address."""

    def __init__(self, p: Program, base: Val, names: list[str]): self.p, self.base, self.names = p, base, names

    def __getitem__(self, name: str) -> Int: return self.p.read(self.base, self.names.index(name))

    def __setitem__(self, name: str, x): self.p.write(x, self.base, self.names.index(name))


def record_at(p: Program, base: Val, i, names) -> Record: return Record(p, p.offset(base, i * len(names), dt.int64), names)


# ---- pieces of the programs
def _write_segments(p: Program, t: Tile):
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


def _write_columns(p: Program, t: Tile):
    """columns: dst[(channel * taps + tap) * columns + lane] = the image shifted by the tap, for `channels` channels from `src` on."""
    T, L = t.acc, t.lanes
    with p.define("columns", "ptr part, ptr table, ptr src, ptr dst, i64 channels") as (part, table, src, dst, channels):
        r = Record(p, part, PART)
        x_d, x_h, taps, s_channel = r["x_d"], r["x_h"], r["taps"], r["s_channel"]
        step = taps * t.columns
        lists = [(p.alloca(dt.int64, 1, L + 1), p.alloca(dt.int64, 1, L + 1)) for _ in range(t.vectors)]

        def runs(v, tap):
            """Lists the runs of vector v under this tap, addresses and masks; gives their number."""
            (addresses, masks), (td, th, tw, limit, off) = lists[v], tap
            count = p.variable(p.int(0))
            with p.loop(p.read(table, v), p.read(table, v + 1)) as i:
                s = record_at(p, p.offset(table, t.vectors + 1, dt.int64), i, SEGMENT)
                d, h, x = s["d"] + td, s["h"] + th, s["w"] + tw
                lo, hi = p.max(0 - x, 0), p.min(s["count"], limit - x)
                with p.if_(p.both(d >= 0, d < x_d, h >= 0, h < x_h, hi > lo)):
                    mask = ((p.int(1) << hi) - (p.int(1) << lo)) << s["lane"]
                    address, n = s["base"] + off - s["lane"], p.int(p.get(count))
                    last = p.max(n - 1, 0)                     # consecutive rows of the image may be consecutive in memory: one run
                    same = p.both(n > 0, p.read(addresses, last).eq(address))
                    at = p.pick(same, last, n)
                    p.write(address, addresses, at)
                    p.write(p.pick(same, p.read(masks, last), 0) | mask, masks, at)
                    p.set(count, at + 1)
            return p.int(p.get(count))

        def run(v, i): return p.offset(src, p.read(lists[v][0], i), T), p.mask_of(p.read(lists[v][1], i), L)

        def fill(to, sources):
            """All channels; sources: per vector its runs."""
            with p.loop(0, channels) as c:
                for v, loads in sources.items():
                    x = p.const(0, T, L)
                    for address, mask in loads: x = p.load_merged(p.offset(address, c * s_channel, T), T, mask, x)
                    p.store(x, p.offset(to, c * step + v * L, T))

        def fill_many(to, v, n):
            with p.loop(0, channels) as c:
                x = p.variable(p.const(0, T, L))
                with p.loop(0, n) as i:
                    address, mask = run(v, i)
                    p.set(x, p.load_merged(p.offset(address, c * s_channel, T), T, mask, p.get(x)))
                p.store(p.get(x), p.offset(to, c * step + v * L, T))

        with p.loop(0, taps) as i:
            record = record_at(p, p.offset(part, len(PART), dt.int64), i, TAP)
            tap, to = [record[x] for x in TAP[:5]], p.offset(dst, i * t.columns, T)
            counts = [runs(v, tap) for v in range(t.vectors)]

            def one_by_one():
                for v, n in enumerate(counts):
                    p.otherwise(n.eq(2), lambda: fill(to, {v: [run(v, 0), run(v, 1)]}),
                                lambda: p.otherwise(n.eq(1), lambda: fill(to, {v: [run(v, 0)]}), lambda: fill_many(to, v, n)))
            p.otherwise(p.both(*(n.eq(1) for n in counts)), lambda: fill(to, {v: [run(v, 0)] for v in range(t.vectors)}), one_by_one)


def _write_lanes(p: Program):
    """lanes: where each of `cols` pixels from `first` on lies in y, from its channel's first element."""
    with p.define("lanes", "ptr part, ptr table, i64 first, i64 cols") as (part, table, first, cols):
        r = Record(p, part, PART)
        g0, g1, g2 = r["g0"], r["g1"], r["g2"]
        steps = [r[x] for x in ("o_image", "o_d", "o_h", "o_w")]
        with p.loop(0, cols) as i:
            w, row = (first + i) % g2, (first + i) // g2
            at = row // g1 // g0 * steps[0] + row // g1 % g0 * steps[1] + row % g1 * steps[2] + w * steps[3]
            p.write(at, table, i)


def _write_scatter(p: Program, stored: dt.dtype, t: Tile):
    """scatter: a scratch tile to y's pixels, one by one; `adding` to what is there."""
    with p.define("scatter", "ptr tile, ptr y, ptr table, i64 channel, i64 rows, i64 cols, i64 adding") as (src, y, table, channel, rows, cols, adding):
        with p.loop(0, rows) as i, p.loop(0, cols) as j:
            at = p.offset(y, i * channel + p.read(table, j), stored)
            x = p.load(p.offset(src, i * t.columns + j, t.acc), t.acc)
            if stored is t.acc: x = p.add(x, p.select(adding.ne(0), p.load(at, stored), p.const(0, stored)))
            p.store(p.cast(x, stored), at)


def _write_spread(p: Program, stored: dt.dtype, t: Tile):
    """spread: a scratch tile whose pixels are consecutive within each image but reach into the next one."""
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
                        if stored is T: x = p.add(x, p.load_masked(at, T, p.emit(f"select {adding.ne(0)}, {mask}, {p.const(False, dt.bool, L)}", dt.bool, L)))
                        p.store_masked(p.cast(x, stored), at, mask)
            p.set(done, lane + n)
            again(lane + n < cols)


def _write_bias(p: Program, stored: dt.dtype, t: Tile):
    with p.define("add_bias", "ptr tile, i64 ld, ptr bias, i64 rows") as (tile_at, ld, bias, rows):
        with p.loop(0, rows) as i:
            x = p.cast(p.load(p.offset(bias, i, stored), stored), t.acc)
            for v in range(t.vectors):
                at = p.offset(tile_at, i * ld + v * t.lanes, t.acc)
                p.store(p.add(p.load(at, t.acc, t.lanes), x), at)


def _write_stage(p: Program, stored: dt.dtype, t: Tile):
    """stage: rows lo..hi of an image to staged form: columns sorted by residue modulo the stride, in the accumulator's type."""
    T, L = t.acc, t.lanes
    with p.define("stage", "ptr w, ptr src, ptr dst, i64 lo, i64 hi") as (w, src, dst, lo, hi):
        r = Record(p, w, WORDS)
        width, phases, pitch, step = (r[x] for x in ("stage_width", "stage_phases", "stage_pitch", "stage_step"))
        with p.loop(lo, hi) as row:
            s, d = p.offset(src, row * width, stored), p.offset(dst, row * step, T)

            def converted():
                with p.loop(0, p.ceil_div(width, L)) as q:
                    x = p.load_masked(p.offset(s, q * L, stored), stored, p.mask(width - q * L, L))
                    p.store_masked(p.cast(x, T), p.offset(d, q * L, T), p.mask(width - q * L, L))

            def pairs(done):
                with p.loop(0, width // (2 * L)) as q:
                    x, y = (p.cast(p.load(p.offset(s, (q * 2 + i) * L, stored), stored, L), T) for i in (0, 1))
                    p.store(p.shuffle(x, y, range(0, 2 * L, 2)), p.offset(d, q * L, T))
                    p.store(p.shuffle(x, y, range(1, 2 * L, 2)), p.offset(d, pitch + q * L, T))
                p.set(done, width // (2 * L) * (2 * L))

            def sorted_():
                done = p.variable(p.int(0))
                with p.if_(phases.eq(2)): pairs(done)
                with p.loop(p.int(p.get(done)), width) as i:
                    p.store(p.cast(p.load(p.offset(s, i, stored), stored), T), p.offset(d, i % phases * pitch + i // phases, T))
            p.otherwise(phases.eq(1), converted, sorted_)


def _meet(p: Program, ctx: Val):
    """All threads have come here."""
    with p.if_(p.read(ctx, 1) > 1): p.run(p.read_pointer(ctx, 4), ctx)


def _next_part(p: Program, part: Val) -> Val:
    return p.offset(part, Record(p, part, PART)["taps"] * len(TAP) + len(PART), dt.int64)


def _height(p: Program, W: Record, q: Int) -> tuple[Int, Int]:
    """First row and height of panel q: the first `taller` panels have one row more."""
    more = q < W["taller"]
    return q * W["height"] + p.pick(more, q, W["taller"]), W["height"] + p.pick(more, 1, 0)


# ---- forward and input gradient
def _write_weights(p: Program, stored: dt.dtype, t: Tile):
    """pack_weights: this thread's share of a part's weights, as panels [channel][tap][row] of whole K."""
    with p.define("pack_weights", "ptr ctx, ptr w, ptr part, ptr weights, ptr packed") as (ctx, w, part, weights, packed):
        W, r = Record(p, w, WORDS), Record(p, part, PART)
        panels, channels, taps, w_m, w_channel = W["panels"], W["channels"], r["taps"], W["w_m"], W["w_channel"]
        slot, ordered = channels * taps * t.rows + PAD, r["ordered"].ne(0)
        lo, hi = p.share(W["groups"] * panels, p.read(ctx, 1), p.read(ctx, 0))
        with p.loop(lo, hi) as i:
            row, height = _height(p, W, i % panels)
            src = p.offset(weights, i // panels * W["w_group"] + row * w_m, stored)
            dst = p.offset(packed, r["a_off"] + i * slot, t.acc)

            def general():
                """One tap after the other."""
                with p.loop(0, taps) as j:
                    s = p.offset(src, record_at(p, p.offset(part, len(PART), dt.int64), j, TAP)["weight"], stored)
                    with p.loop(0, channels) as c, p.loop(0, height) as m:
                        x = p.cast(p.load(p.offset(s, m * w_m + c * w_channel, stored), stored), t.acc)
                        p.store(x, p.offset(dst, (c * taps + j) * height + m, t.acc))

            def single():
                first = record_at(p, p.offset(part, len(PART), dt.int64), p.int(0), TAP)["weight"]
                p.run("pack_a", p.offset(src, first, stored), w_m, w_channel, dst, height, height, channels)
            p.otherwise(ordered, lambda: p.run("pack_a", src, w_m, p.int(1), dst, height, height, channels * taps),
                        lambda: p.otherwise(taps.eq(1), single, general))


def _write_pixels(p: Program, stored: dt.dtype, t: Tile):
    """pixels: this thread's share of one part's output."""
    T, L, NR, MR = t.acc, t.lanes, t.columns, t.rows
    with p.define("pixels", "ptr ctx, ptr w, ptr part, ptr source, ptr packed, ptr y, ptr bias") as (ctx, w, part, source, packed, y, bias):
        W, r = Record(p, w, WORDS), Record(p, part, PART)
        channels, panels, m, taps, block, at_once = W["channels"], W["panels"], W["m"], r["taps"], r["block"], r["panels_at_once"]
        s_channel, o_channel, o_image = r["s_channel"], r["o_channel"], r["o_image"]
        in_place, has_bias, flat, table = W["in_place"].ne(0), W["bias"].ne(0), r["flat"].ne(0), p.read_pointer(w, WORDS.index("micro"))
        pixels, kc, slot = r["g0"] * r["g1"] * r["g2"], block * taps, channels * taps * MR + PAD
        total = W["images"] * pixels
        tile_at = p.read_pointer(ctx, 2)
        segments = p.offset(tile_at, MR * NR, T)
        lanes = p.offset(segments, at_once * segment_words(t), dt.int64)
        columns = p.offset(lanes, at_once * NR, dt.int64)
        (b0, b1), (p0, p1), (j0, j1) = grid(p, ctx, W["groups"], panels, p.ceil_div(total, NR))

        def panel(j):
            """First pixel and number of pixels of panel j, its position within one image, and whether it is a plain piece of that image."""
            first = j * NR
            cols, image = p.min(total - first, NR), first // pixels
            inside = first - image * pixels
            return first, cols, image * o_image + inside, p.both(flat, inside + cols <= pixels)

        def prepare(jb, je):
            with p.loop(jb, je) as j:
                first, cols, _, _ = panel(j)
                p.run("segments", part, p.offset(segments, (j - jb) * segment_words(t), dt.int64), first, cols)
                with p.if_(p.not_(flat)): p.run("lanes", part, p.offset(lanes, (j - jb) * NR, dt.int64), first, cols)

        def block_of(group, jb, je, c0):
            count = p.min(block, channels - c0)
            adding, last = p.pick(c0.eq(0), 0, 1), c0 + block >= channels
            image = p.offset(source, (group * channels + c0) * s_channel, T)
            out = p.offset(y, r["o_off"] + group * m * o_channel, stored)
            with p.loop(jb, je) as j:
                p.run("columns", part, p.offset(segments, (j - jb) * segment_words(t), dt.int64), image, p.offset(columns, (j - jb) * kc * NR, T), count)
            with p.loop(p0, p1) as q:
                row, height = _height(p, W, q)
                a = p.offset(packed, r["a_off"] + (group * panels + q) * slot + c0 * taps * height, T)
                out_row, bias_row = p.offset(out, row * o_channel, stored), p.offset(bias, group * m + row, stored)
                with p.loop(jb, je) as j:
                    first, cols, at, plain = panel(j)
                    y_at = p.offset(out_row, at, stored)
                    directly = p.both(plain, in_place, cols.eq(NR))
                    dst, ld = p.choose_pointer(directly, y_at, tile_at), p.pick(directly, o_channel, NR)
                    kernel = kernel_of(p, t, table, height, p.ceil_div(cols, L))
                    p.run(kernel, a, p.offset(columns, (j - jb) * kc * NR, T), dst, count * taps, NR, ld, p.pick(directly, adding, 0), 0, 0)
                    with p.if_(p.both(has_bias, last)): p.run("add_bias", dst, ld, bias_row, height)
                    with p.if_(p.not_(directly)):
                        p.otherwise(flat, lambda: p.run("spread", part, tile_at, out_row, first, height, cols, adding),
                                    lambda: p.run("scatter", tile_at, out_row, p.offset(lanes, (j - jb) * NR, dt.int64), o_channel, height, cols, adding))

        with p.loop(b0, b1) as group, p.loop(j0, j1, at_once) as jb:
            je = p.min(jb + at_once, j1)
            prepare(jb, je)
            with p.loop(0, p.max(channels, 1), block) as c0: block_of(group, jb, je, c0)


@functools.cache
def _image_driver(stored: dt.dtype) -> tuple[int, str]:
    t = tile(accumulator(stored))
    p = Program()
    pack.write(p, "pack_a", stored, t, False)
    _write_segments(p, t)
    _write_columns(p, t)
    _write_lanes(p)
    _write_scatter(p, stored, t)
    _write_spread(p, stored, t)
    _write_bias(p, stored, t)
    _write_stage(p, stored, t)
    _write_weights(p, stored, t)
    _write_pixels(p, stored, t)
    with p.define("image", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W = Record(p, w, WORDS)
        shared = p.read_pointer(ctx, 3)
        x, weights, y = (p.read_pointer(vals, p.read(words, i)) for i in range(3))
        bias = p.read_pointer(vals, p.read(words, p.pick(W["bias"].ne(0), 3, 0)))
        packed, first = p.offset(shared, W["shared_a"], t.acc), p.offset(w, len(WORDS), dt.int64)
        source = _staged(p, ctx, w, W, x, shared)
        part = p.variable(first)
        with p.loop(0, W["parts"]):
            p.run("pack_weights", ctx, w, p.get(part), weights, packed)
            p.set(part, _next_part(p, p.get(part)))
        _meet(p, ctx)
        p.set(part, first)
        with p.loop(0, W["parts"]):
            p.run("pixels", ctx, w, p.get(part), source, packed, y, bias)
            p.set(part, _next_part(p, p.get(part)))
    text = p.module()
    return code.load(text, "image", 1), text


def _staged(p: Program, ctx: Val, w: Val, W: Record, x: Val, shared: Val) -> Val:
    """The images to read: x itself, or its staged copy, of which this thread makes its share."""
    staging = W["stage"].ne(0)
    with p.if_(staging):
        lo, hi = p.share(W["stage_rows"], p.read(ctx, 1), p.read(ctx, 0))
        p.run("stage", w, x, shared, lo, hi)
    return p.choose_pointer(staging, shared, x)


# ---- weight gradient
@functools.cache
def _weight_driver(stored: dt.dtype) -> tuple[int, str]:
    t = tile(accumulator(stored))
    p = Program()
    pack.write(p, "pack_a", stored, t, False)
    pack.write(p, "pack_b", t.acc, t, True)
    _write_segments(p, t)
    _write_columns(p, t)
    _write_stage(p, stored, t)
    write_put(p, t.acc, t)
    _write_sums(p, stored, t)
    with p.define("weight", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W, part = Record(p, w, WORDS), p.offset(w, len(WORDS), dt.int64)
        tid, nt, shared = p.read(ctx, 0), p.read(ctx, 1), p.read_pointer(ctx, 3)
        dy, x, dw = (p.read_pointer(vals, p.read(words, i)) for i in range(3))
        source = _staged(p, ctx, w, W, x, p.offset(shared, MOST_THREADS, dt.int64))
        with p.if_(W["stage"].ne(0)): _meet(p, ctx)
        r = Record(p, part, PART)
        channels, pixels = W["groups"] * W["channels"], W["images"] * r["g0"] * r["g1"] * r["g2"]
        panels, size = p.ceil_div(pixels, t.columns), channels * r["taps"] * W["m"]
        # every thread its channels, if there are enough to go round evenly; else its pixels, with a sum of its own
        by_channel = p.both(W["in_place"].ne(0), p.or_(nt.eq(1), p.both(channels >= nt * 8, channels * r["taps"] >= nt * 128)))
        own = p.offset(p.read_pointer(ctx, 2), W["shared_a"], t.acc)

        def channel_split():
            lo, hi = p.share(channels, nt, tid)
            p.run("sums", ctx, w, part, dy, source, dw, lo, hi, 0, panels)

        def pixel_split():
            lo, hi = p.share(panels, nt, tid)
            p.run("sums", ctx, w, part, dy, source, own, 0, channels, lo, hi)
            p.store(own, p.offset(shared, tid, dt.int64))
            _meet(p, ctx)
            lo, hi = p.share(size, nt, tid)
            with p.loop(lo, hi) as i:
                x = p.variable(p.load(p.offset(p.read_pointer(shared, 0), i, t.acc), t.acc))
                with p.loop(1, nt) as other: p.set(x, p.add(p.get(x), p.load(p.offset(p.read_pointer(shared, other), i, t.acc), t.acc)))
                p.store(p.cast(p.get(x), stored), p.offset(dw, i, stored))
        p.otherwise(by_channel, channel_split, pixel_split)
    text = p.module()
    return code.load(text, "weight", 1), text


def _write_sums(p: Program, stored: dt.dtype, t: Tile):
    """sums: dw (in the accumulator's type) of channels c_lo..c_hi (counted through all groups), over pixel panels j_lo..j_hi."""
    T, L, NR, MR = t.acc, t.lanes, t.columns, t.rows
    with p.define("sums", "ptr ctx, ptr w, ptr part, ptr dy, ptr source, ptr dw, i64 c_lo, i64 c_hi, i64 j_lo, i64 j_hi") as (
            ctx, w, part, dy, source, dw, c_lo, c_hi, j_lo, j_hi):
        W, r = Record(p, w, WORDS), Record(p, part, PART)
        channels, panels, m, taps, block, at_once = W["channels"], W["panels"], W["m"], r["taps"], r["block"], r["panels_at_once"]
        s_channel, o_channel, o_image, table = r["s_channel"], r["o_channel"], r["o_image"], p.read_pointer(w, WORDS.index("micro"))
        pixels, depth_max = r["g0"] * r["g1"] * r["g2"], at_once * NR
        total, slot, ld = W["images"] * pixels, depth_max * MR + PAD, channels * taps
        tile_at = p.read_pointer(ctx, 2)
        segments = p.offset(tile_at, MR * NR, T)
        columns = p.offset(segments, segment_words(t), dt.int64)
        a_at = p.offset(columns, p.ceil_div(block * taps, NR) * NR * NR, T)
        b_at = p.offset(a_at, panels * slot, T)
        with p.loop(j_lo, p.max(j_hi, j_lo + 1), at_once) as jb, p.loop(c_lo // channels, p.ceil_div(c_hi, channels)) as group:
            je = p.min(jb + at_once, j_hi)
            depth, adding = p.max(p.min(je * NR, total) - jb * NR, 0), p.pick(jb.eq(j_lo), 0, 1)
            with p.loop(0, panels) as q:                       # dy's panels, [pixel][row], image by image
                row, height = _height(p, W, q)
                done = p.variable(p.int(0))
                with p.if_(depth > 0), p.loop_while() as again:
                    at = p.int(p.get(done))
                    image, inside = (jb * NR + at) // pixels, (jb * NR + at) % pixels
                    run = p.min(pixels - inside, depth - at)
                    p.run("pack_a", p.offset(dy, image * o_image + (group * m + row) * o_channel + inside, stored), o_channel, 1,
                          p.offset(a_at, q * slot + at * height, T), height, height, run)
                    p.set(done, at + run)
                    again(at + run < depth)
            lo, hi = p.max(c_lo, group * channels), p.min(c_hi, (group + 1) * channels)
            with p.loop(lo, hi, block) as c0:
                count = p.min(block, hi - c0)
                wide = count * taps
                with p.loop(jb, je) as j:
                    first = j * NR
                    cols = p.min(total - first, NR)
                    p.run("segments", part, segments, first, cols)
                    p.run("columns", part, segments, p.offset(source, c0 * s_channel, T), columns, count)
                    with p.loop(0, p.ceil_div(wide, NR)) as q:
                        p.run("pack_b", p.offset(columns, q * NR * NR, T), NR, 1, p.offset(b_at, q * depth_max * NR + (first - jb * NR) * NR, T),
                              NR, p.min(wide - q * NR, NR), cols)
                with p.loop(0, p.ceil_div(wide, NR)) as j, p.loop(0, panels) as q:
                    row, height = _height(p, W, q)
                    cols = p.min(wide - j * NR, NR)
                    directly = cols.eq(NR)
                    at = p.offset(dw, (group * m + row) * ld + (c0 - group * channels) * taps + j * NR, T)
                    kernel = kernel_of(p, t, table, height, p.ceil_div(cols, L))
                    p.run(kernel, p.offset(a_at, q * slot, T), p.offset(b_at, j * depth_max * NR, T), p.choose_pointer(directly, at, tile_at), depth,
                          NR, p.pick(directly, ld, NR), p.pick(directly, adding, 0), 0, 0)
                    with p.if_(p.not_(directly)): p.run("put", tile_at, at, ld, 1, height, cols, adding)


# ---- a shape's numbers
def build(c: Conv) -> Launch:
    if c.dtype.category != dt.FLOAT: raise unsupported("convolution", c.dtype, instead="convert the operands to a floating-point type")
    t = tile(accumulator(c.dtype))
    weight = c.which == "weight"
    m, channels = (c.c // c.groups, c.k // c.groups) if c.which == "input" else (c.k // c.groups, c.c // c.groups)
    taps = math.prod(c.taps)
    size, width = (c.out, c.out[2]) if c.which == "input" else (c.size, c.size[2])            # of the images that are read
    phases = 1 if c.which == "input" else c.stride[2]
    staged = phases > 1 or c.dtype is not t.acc
    pitch = -(-width // phases)
    s_h = phases * pitch if staged else width
    source = dict(s_h=s_h, s_d=size[1] * s_h, s_channel=size[0] * size[1] * s_h, s_image=channels * c.groups * size[0] * size[1] * s_h, x_d=size[0], x_h=size[1])
    in_place = c.dtype is t.acc
    parts, packed = [], 0
    for shape, tap_list in (_residues(c, s_h, source["s_d"]) if c.which == "input" else [_forward(c, pitch, phases, s_h, source["s_d"], weight)]):
        n = len(tap_list)
        block = channels if not (in_place or weight) else even_split(channels, max(K_BLOCK // max(n, 1), 1), 1)
        if weight: at_once = max(256 // t.columns, 1)
        elif m * channels * n * t.acc.size <= isa.caches()[1] // 2: at_once = 1              # the weights stay in L2
        else: at_once = max(isa.caches()[1] * 3 // 8 // (t.acc.size * max(block * n, 1) * t.columns), 1)
        values = dict(source, **shape, taps=n, block=max(block, 1), panels_at_once=at_once, a_off=packed,
                      ordered=int(c.which == "forward"))
        parts.append((values, tap_list))
        packed += c.groups * -(-m // t.rows) * (channels * n * t.rows + PAD)
    panels = -(-m // t.rows)
    height, taller = divmod(m, panels) if panels else (0, 0)
    kernels = micro(t.acc)
    for rows in {height, height + 1} if taller else {height}:
        for vectors in range(1, t.vectors + 1):
            if rows: kernels.need(rows, vectors)
    rows = c.n * channels * c.groups * size[0] * size[1]
    stage_size = rows * s_h if staged else 0
    per_thread = t.rows * t.columns * t.acc.size + 8 * segment_words(t)
    if weight:
        v = parts[0][0]
        wide = -(-v["block"] * taps // t.columns) * t.columns
        depth = v["panels_at_once"] * t.columns
        own = per_thread // t.acc.size + wide * t.columns + panels * (depth * t.rows + PAD) + wide * depth
        per_thread = (own + c.groups * m * channels * taps) * t.acc.size
        shared = MOST_THREADS * 8 + stage_size * t.acc.size
    else:
        own = stage_size
        per_thread += max(v["panels_at_once"] * (t.columns * (8 + t.acc.size * v["block"] * v["taps"]) + 8 * segment_words(t)) for v, _ in parts)
        shared = (stage_size + packed) * t.acc.size
    address, _ = (_weight_driver if weight else _image_driver)(c.dtype)
    head = dict(driver=address, micro=kernels.address, groups=c.groups, images=c.n, m=m, channels=channels, panels=panels, height=height, taller=taller,
                bias=int(c.bias), in_place=int(in_place), parts=len(parts), stage=int(staged), stage_rows=rows, stage_width=width,
                stage_phases=phases, stage_pitch=pitch, stage_step=s_h, shared_a=own,
                w_group=m * channels * taps, w_m=taps if c.which == "input" else channels * taps, w_channel=m * taps if c.which == "input" else taps)
    words = [head[x] for x in WORDS]
    for values, tap_list in parts: words += [*(values[x] for x in PART), *itertools.chain(*tap_list)]
    entry_address, text = entry(len(c.operands))
    flops = 2 * c.n * c.k * channels * taps * math.prod(c.out) if c.which == "forward" else 2 * c.n * c.k * (c.c // c.groups) * taps * math.prod(c.out)
    moved = c.dtype.size * (c.n * (c.c * math.prod(c.size) + c.k * math.prod(c.out)) + c.k * (c.c // c.groups) * taps)
    return Launch(Code("conv", entry_address, text), tuple(words), flops > PARALLEL_FLOPS, scratch=per_thread + 512, shared=shared + 512, bytes=moved, flops=flops)


def _forward(c: Conv, pitch: int, phases: int, s_h: int, s_d: int, weight: bool):
    """The one part of a forward product (and of the weight gradient, which pairs the same pixels): its shape words and its taps."""
    g = c.out
    shape = dict(g0=g[0], g1=g[1], g2=g[2], d_step=c.stride[0], h_step=c.stride[1], o_off=0, o_d=g[1] * g[2], o_h=g[2], o_w=1,
                 o_channel=math.prod(g), o_image=c.k * math.prod(g), flat=1)
    taps = []
    for i, at in enumerate(itertools.product(*map(range, c.taps))):
        d, h, x = (a * step - pad for a, step, pad in zip(at, c.dilation, c.padding))
        phase, w = x % phases, x // phases
        taps.append((d, h, w, -(-(c.size[2] - phase) // phases), d * s_d + h * s_h + phase * pitch + w, i))
    return shape, taps


def _residues(c: Conv, s_h: int, s_d: int):
    """The input gradient's parts: input pixel i = residue + j * stride meets tap r at output pixel j + (residue + padding - r * dilation) / stride."""
    x = c.size
    for residue in itertools.product(*(range(min(s, n)) for s, n in zip(c.stride, x))):
        g = [-(-(n - a) // s) for n, a, s in zip(x, residue, c.stride)]
        strides = (x[1] * x[2], x[2], 1)
        o = [s * step for s, step in zip(c.stride, strides)]
        shape = dict(g0=g[0], g1=g[1], g2=g[2], d_step=1, h_step=1, o_off=sum(a * step for a, step in zip(residue, strides)), o_d=o[0], o_h=o[1], o_w=o[2],
                     o_channel=math.prod(x), o_image=c.c * math.prod(x), flat=int(c.stride == (1, 1, 1)))
        taps = []
        for i, at in enumerate(itertools.product(*map(range, c.taps))):
            shifts = [a + pad - r * step for a, pad, r, step in zip(residue, c.padding, at, c.dilation)]
            if any(v % s for v, s in zip(shifts, c.stride)): continue
            d, h, w = (v // s for v, s in zip(shifts, c.stride))
            taps.append((d, h, w, c.out[2], d * s_d + h * s_h + w, i))
        yield shape, taps
