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
from contextlib import contextmanager

from ..core import dtype as dt
from ..core.errors import unsupported
from ..core.kernels import Conv, Launch
from ..core.kernels import Program as Code
from ..cpu import code, isa
from . import pack
from .builder import Val
from .gemm import PARALLEL_FLOPS, even_split, grid, write_put
from .images import (HEAD, PART, STAGE, TAP, Panels, Record, Runs, period, plan_words, record_at, segment_words, write_bias, write_collect, write_columns, write_lanes, write_plan,
                     write_scatter, write_segments, write_spread, write_stage)
from .tile import Int, Program, Tile, accumulator, entry, kernel_of, micro, tile

# run-time words of the whole launch; parts and taps (images.py) follow
WORDS = """driver micro groups images m channels panels height taller bias in_place alone parts
stage stage_width stage_phases stage_pitch stage_step stage_rows shared_a w_group w_m w_channel""".split()

PAD = 64                                       # elements behind a panel that packing may overwrite
MOST_THREADS = 1024
K_BLOCK = 512                                  # channels times taps that are summed before the tile goes to memory
PLAN_BYTES = 4 << 20                           # plans kept by each thread


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
    with p.define("pixels", "ptr ctx, ptr w, ptr part, ptr source, ptr weights, ptr packed, ptr y, ptr bias") as (
            ctx, w, part, source, weights, packed, y, bias):
        W, r = Record(p, w, WORDS), Record(p, part, PART)
        channels, panels, m, taps, block, at_once = W["channels"], W["panels"], W["m"], r["taps"], r["block"], r["panels_at_once"]
        s_channel, s_image, o_channel, o_image = r["s_channel"], r["s_image"], r["o_channel"], r["o_image"]
        in_place, has_bias, table = W["in_place"].ne(0), W["bias"].ne(0), p.read_pointer(w, WORDS.index("micro"))
        pn, kc, slot = Panels(p, t, r, W["images"]), block * taps, channels * taps * MR + PAD
        tile_at = p.read_pointer(ctx, 2)
        segments = p.offset(tile_at, MR * NR, T)
        plans = p.offset(segments, segment_words(t), dt.int64)
        columns = p.offset(plans, pn.plans * pn.words, dt.int64)
        (b0, b1), (p0, p1), (j0, j1) = grid(p, ctx, W["groups"], panels, r["panels_total"])
        keeping = pn.plans >= pn.count
        pn.forget(plans)

        def leave(panel, out_row, height, adding):
            """A scratch tile to y."""
            here = p.offset(out_row, panel.image * o_image, stored)
            p.otherwise(pn.flat, lambda: p.run("spread", part, tile_at, here, panel.first, height, panel.cols, adding),
                        lambda: p.run("scatter", tile_at, here, p.offset(panel.plan, len(HEAD), dt.int64), o_channel, height, panel.cols, adding))

        def target(panel, out_row):
            """(whether a whole tile may be written to y directly, where to write it)"""
            head = Record(p, panel.plan, HEAD)
            directly = p.both(head["plain"].ne(0), in_place, panel.cols.eq(NR))
            return directly, p.choose_pointer(directly, p.offset(out_row, panel.image * o_image + head["place"], stored), tile_at)

        def block_of(group, turn, c0):
            count = p.min(block, channels - c0)
            adding, last = p.pick(c0.eq(0), 0, 1), c0 + block >= channels
            out = p.offset(y, r["o_off"] + group * m * o_channel, stored)
            image = p.offset(source, turn.image * s_image + (group * channels + c0) * s_channel, T)
            with turn.each() as panel: p.run("columns", part, pn.runs(panel.plan), image, p.offset(columns, panel.number * kc * NR, T), count)
            with p.loop(p0, p1) as q:
                row, height = _height(p, W, q)
                a = p.offset(packed, r["a_off"] + (group * panels + q) * slot + c0 * taps * height, T)
                out_row, bias_row = p.offset(out, row * o_channel, stored), p.offset(bias, group * m + row, stored)
                with turn.each() as panel:
                    directly, dst = target(panel, out_row)
                    ld, kernel = p.pick(directly, o_channel, NR), kernel_of(p, t, table, height, p.ceil_div(panel.cols, L))
                    p.run(kernel, a, p.offset(columns, panel.number * kc * NR, T), dst, count * taps, NR, ld, p.pick(directly, adding, 0), 0, 0)
                    with p.if_(p.both(has_bias, last)): p.run("add_bias", dst, ld, bias_row, height)
                    with p.if_(p.not_(directly)): leave(panel, out_row, height, adding)

        def alone(group, turn):
            """Depthwise: a single channel makes a single channel, a panel is summed in registers."""
            out = p.offset(y, r["o_off"] + group * o_channel, stored)
            image = p.offset(source, turn.image * s_image + group * s_channel, T)
            with turn.each() as panel:
                directly, dst = target(panel, out)
                p.run("row", taps, Record(p, panel.plan, HEAD)["simple"], pn.runs(panel.plan), image, columns, dst)
                with p.if_(has_bias): p.run("add_bias", dst, 0, p.offset(bias, group, stored), 1)
                with p.if_(p.not_(directly)): leave(panel, out, p.int(1), p.int(0))

        with p.loop(b0, b1) as group:
            with p.if_(W["alone"].ne(0)):                      # its weights, one per tap, where the panels would be
                with p.loop(0, taps) as i:
                    from_ = group * W["w_group"] + record_at(p, p.offset(part, len(PART), dt.int64), i, TAP)["weight"]
                    p.store(p.cast(p.load(p.offset(weights, from_, stored), stored), T), p.offset(columns, i, T))
            with p.loop(j0 // pn.count, p.ceil_div(j1, pn.count)) as number:
                begin = number * pn.count
                with p.loop(p.max(j0 - begin, 0), p.min(j1 - begin, pn.count), at_once) as lo:
                    turn = Turn(pn, plans, keeping, number * pn.period, lo, p.min(p.min(lo + at_once, j1 - begin), pn.count))
                    with turn.each() as panel: p.run("plan", part, segments, panel.plan, panel.first, panel.cols)

                    def by_tiles():
                        with p.loop(0, p.max(channels, 1), block) as c0: block_of(group, turn, c0)
                    p.otherwise(W["alone"].ne(0), lambda: alone(group, turn), by_tiles)


class Turn:
    """Panels lo..hi of one period."""

    def __init__(self, pn: Panels, plans: Val, keeping: Val, image: Int, lo: Int, hi: Int):
        self.pn, self.plans, self.keeping, self.image, self.lo, self.hi = pn, plans, keeping, image, lo, hi
        self.end = pn.p.min(pn.period, pn.images - image) * pn.pixels

    @contextmanager
    def each(self):
        pn, p = self.pn, self.pn.p
        with p.loop(self.lo, self.hi) as i:
            self.number, self.first = i - self.lo, i * pn.t.columns
            self.cols = p.min(self.end - self.first, pn.t.columns)
            self.plan = p.offset(self.plans, p.pick(self.keeping, i, self.number) * pn.words, dt.int64)
            yield self


def _write_row(p: Program, t: Tile):
    """row: dst[lane] = sum over taps of weights[tap] times the image shifted by the tap."""
    T, L = t.acc, t.lanes
    with p.define("row", "i64 taps, i64 simple, ptr runs, ptr src, ptr weights, ptr dst") as (taps, simple, runs, src, weights, dst):
        sums = [p.variable(p.const(0, T, L)) for _ in range(t.vectors)]

        def add(i, xs):
            w = p.load(p.offset(weights, i, T), T)
            for s, x in zip(sums, xs): p.set(s, p.mad(w, x, p.get(s)))
        Runs(p, t, runs, src).each(taps, simple, add)
        for v, s in enumerate(sums): p.store(p.get(s), p.offset(dst, v * L, T))


@functools.cache
def _image_driver(stored: dt.dtype) -> tuple[int, str]:
    t = tile(accumulator(stored))
    p = Program()
    pack.write(p, "pack_a", stored, t, False)
    write_segments(p, t)
    write_lanes(p)
    write_plan(p, t)
    write_columns(p, t)
    write_scatter(p, stored, t)
    write_spread(p, stored, t)
    write_bias(p, stored, t)
    write_stage(p, stored, t)
    _write_row(p, t)
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
        with p.if_(W["alone"].eq(0)), p.loop(0, W["parts"]):
            p.run("pack_weights", ctx, w, p.get(part), weights, packed)
            p.set(part, _next_part(p, p.get(part)))
        _meet(p, ctx)
        p.set(part, first)
        with p.loop(0, W["parts"]):
            p.run("pixels", ctx, w, p.get(part), source, weights, packed, y, bias)
            p.set(part, _next_part(p, p.get(part)))
    text = p.module()
    return code.load(text, "image", 1), text


def _staged(p: Program, ctx: Val, w: Val, W: Record, x: Val, shared: Val) -> Val:
    """The images to read: x itself, or its staged copy, of which this thread makes its share."""
    staging = W["stage"].ne(0)
    with p.if_(staging):
        lo, hi = p.share(W["stage_rows"], p.read(ctx, 1), p.read(ctx, 0))
        p.run("stage", p.offset(w, WORDS.index(STAGE[0]), dt.int64), x, shared, lo, hi)
    return p.choose_pointer(staging, shared, x)


# ---- weight gradient
@functools.cache
def _weight_driver(stored: dt.dtype) -> tuple[int, str]:
    t = tile(accumulator(stored))
    p = Program()
    pack.write(p, "pack_a", stored, t, False)
    pack.write(p, "pack_b", t.acc, t, True)
    write_segments(p, t)
    write_lanes(p)
    write_plan(p, t)
    write_columns(p, t)
    write_stage(p, stored, t)
    write_put(p, t.acc, t)
    write_collect(p, stored, t)
    _write_dots(p, t)
    _write_sums(p, stored, t)
    with p.define("weight", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W, part = Record(p, w, WORDS), p.offset(w, len(WORDS), dt.int64)
        tid, nt, shared = p.read(ctx, 0), p.read(ctx, 1), p.read_pointer(ctx, 3)
        dy, x, dw = (p.read_pointer(vals, p.read(words, i)) for i in range(3))
        source = _staged(p, ctx, w, W, x, p.offset(shared, MOST_THREADS, dt.int64))
        with p.if_(W["stage"].ne(0)): _meet(p, ctx)
        r = Record(p, part, PART)
        channels, panels = W["groups"] * W["channels"], r["panels_total"]
        size = channels * r["taps"] * W["m"]
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
        s_channel, s_image, o_channel, o_image = r["s_channel"], r["s_image"], r["o_channel"], r["o_image"]
        table = p.read_pointer(w, WORDS.index("micro"))
        pn, depth_max = Panels(p, t, r, W["images"]), at_once * NR
        pixels, slot, ld = pn.pixels, depth_max * MR + PAD, channels * taps
        tile_at = p.read_pointer(ctx, 2)
        segments = p.offset(tile_at, MR * NR, T)
        plans = p.offset(segments, segment_words(t), dt.int64)
        columns = p.offset(plans, pn.plans * pn.words, dt.int64)
        a_at = p.offset(columns, p.ceil_div(block * taps, NR) * NR * NR, T)
        b_at = p.offset(a_at, panels * slot, T)
        pn.forget(plans)

        def start(j):
            """The position of panel j's first pixel among all, and its number of pixels."""
            image, first, cols = pn.at(j)
            return image * pixels + first, cols
        def by_tiles():
            with p.loop(j_lo, p.max(j_hi, j_lo + 1), at_once) as jb, p.loop(c_lo // channels, p.ceil_div(c_hi, channels)) as group:
                je = p.min(jb + at_once, j_hi)                     # without pixels there is still one round, which writes zeros
                base, final = start(jb)[0], start(je - 1)
                depth, adding = p.pick(je > jb, final[0] + final[1] - base, 0), p.pick(jb.eq(j_lo), 0, 1)
                with p.loop(0, panels) as q:                       # dy's panels, [pixel][row], image by image
                    row, height = _height(p, W, q)
                    done = p.variable(p.int(0))
                    with p.if_(depth > 0), p.loop_while() as again:
                        at = p.int(p.get(done))
                        image, inside = (base + at) // pixels, (base + at) % pixels
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
                        (image, first, cols), plan = pn.at(j), pn.plan(plans, j)
                        p.run("plan", part, segments, plan, first, cols)
                        p.run("columns", part, pn.runs(plan), p.offset(source, image * s_image + c0 * s_channel, T), columns, count)
                        with p.loop(0, p.ceil_div(wide, NR)) as q:
                            p.run("pack_b", p.offset(columns, q * NR * NR, T), NR, 1, p.offset(b_at, q * depth_max * NR + (image * pixels + first - base) * NR, T),
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

        def alone():
            """Depthwise: per channel and tap one vector of partial sums."""
            with p.loop(c_lo, c_hi) as c:
                with p.loop(0, taps) as i: p.store(p.const(0, T, L), p.offset(columns, i * L, T))
                with p.loop(j_lo, j_hi) as j:
                    (image, first, cols), plan = pn.at(j), pn.plan(plans, j)
                    p.run("plan", part, segments, plan, first, cols)
                    head, ys = Record(p, plan, HEAD), p.offset(dy, image * o_image + c * o_channel, stored)
                    ready = p.both(head["plain"].ne(0), cols.eq(NR), W["in_place"].ne(0))
                    with p.if_(p.not_(ready)): p.run("collect", part, ys, tile_at, first, cols)
                    p.run("dots", taps, head["simple"], pn.runs(plan), p.offset(source, image * s_image + c * s_channel, T),
                          p.choose_pointer(ready, p.offset(ys, head["place"], stored), tile_at), columns)
                with p.loop(0, taps) as i:
                    p.store(p.reduce(p.load(p.offset(columns, i * L, T), T, L), p.add), p.offset(dw, c * taps + i, T))
        p.otherwise(W["alone"].ne(0), alone, by_tiles)


def _write_dots(p: Program, t: Tile):
    """dots: sums[tap] += row times the image shifted by the tap, lane by lane."""
    T, L = t.acc, t.lanes
    with p.define("dots", "i64 taps, i64 simple, ptr runs, ptr src, ptr row, ptr sums") as (taps, simple, runs, src, row, sums):
        ys = [p.load(p.offset(row, v * L, T), T, L) for v in range(t.vectors)]

        def add(i, xs):
            at = p.offset(sums, i * L, T)
            total = p.load(at, T, L)
            for x, y in zip(xs, ys): total = p.mad(y, x, total)
            p.store(total, at)
        Runs(p, t, runs, src).each(taps, simple, add)


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
    in_place, alone = c.dtype is t.acc, m == channels == 1
    parts, packed = [], 0
    for shape, tap_list in (_residues(c, s_h, source["s_d"]) if c.which == "input" else [_forward(c, pitch, phases, s_h, source["s_d"], weight)]):
        n = len(tap_list)
        block = channels if not (in_place or weight) else even_split(channels, max(K_BLOCK // max(n, 1), 1), 1)
        if alone: at_once = 64
        elif weight: at_once = max(256 // t.columns, 1)
        elif m * channels * n * t.acc.size <= isa.caches()[1] // 2: at_once = 1              # the weights stay in L2
        else: at_once = max(isa.caches()[1] * 3 // 8 // (t.acc.size * max(block * n, 1) * t.columns), 1)
        pixels = shape["g0"] * shape["g1"] * shape["g2"]
        g = period(t, pixels, c.n)
        per, room = -(-g * pixels // t.columns), plan_words(t, shape["g2"], n, bool(shape["flat"]))
        kept = max(-(-at_once // max(per, 1)), 1) * per if per * room * 8 <= PLAN_BYTES else at_once
        values = dict(source, **shape, period=g, period_panels=max(per, 1), panels_total=c.n // g * per + -(-(c.n % g) * pixels // t.columns),
                      plans=max(kept, 1), plan_words=room, taps=n, block=max(block, 1), panels_at_once=at_once, a_off=packed,
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
    per_thread = t.rows * t.columns * t.acc.size + 8 * segment_words(t) + 8 * max(v["plans"] * v["plan_words"] for v, _ in parts)
    if weight:
        v = parts[0][0]
        wide = -(-v["block"] * taps // t.columns) * t.columns
        depth = v["panels_at_once"] * t.columns
        own = per_thread // t.acc.size + wide * t.columns + panels * (depth * t.rows + PAD) + wide * depth
        per_thread = (own + c.groups * m * channels * taps) * t.acc.size
        shared = MOST_THREADS * 8 + stage_size * t.acc.size
    else:
        own = stage_size
        per_thread += max(v["panels_at_once"] * t.columns * t.acc.size * max(v["block"] * v["taps"], 1) for v, _ in parts)
        shared = (stage_size + packed) * t.acc.size
    address, _ = (_weight_driver if weight else _image_driver)(c.dtype)
    head = dict(driver=address, micro=kernels.address, groups=c.groups, images=c.n, m=m, channels=channels, panels=panels, height=height, taller=taller,
                bias=int(c.bias), in_place=int(in_place), alone=int(alone), parts=len(parts), stage=int(staged), stage_rows=rows, stage_width=width,
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
