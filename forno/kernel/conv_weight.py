"""A convolution's weight gradient: a sum over pixels.

    dw[k, channel, tap] = sum over image, pixel of  dy[image, k, pixel] * x[image, channel, pixel * step + shift(tap)]

Comes in: an element type. Goes out: the address of `weight(ctx, vals, words, w)`; w are images.WORDS, PART, TAPs.
Rows of the matrix product are (channel, tap), read unpacked from panels of shifted images, which hold pixels side by side; columns are k. So only dy
is transposed while it is packed, and the sums (every thread's own, in blocks of channels) once in the end. Threads share out channels, or pixels
when there are few channels; then their sums are added in the order of the threads, unless the result may not depend on their number (`ordered`).
"""
from __future__ import annotations


from ..core import dtype as dt
from ..cpu import code
from . import pack
from .images import (HEAD, MOST_THREADS, PART, WORDS, Panels, Record, Runs, meet, segment_words, staged, write_collect, write_walk)
from .tile import Int, Program, Tile, accumulator, kernel_of, tile


@code.program("weight")
def driver(stored: dt.dtype) -> str:
    t = tile(accumulator(stored))
    p = Program()
    pack.write(p, "pack", stored, t, True)
    write_walk(p, stored, t)
    write_collect(p, stored, t)
    _write_dots(p, t)
    _write_sums(p, stored, t)
    _write_alone(p, stored, t)
    _write_turn(p, stored, t)
    T, L = t.acc, t.lanes
    with p.define("weight", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W, part = Record(p, w, WORDS), p.offset(w, len(WORDS), dt.int64)
        tid, nt, shared = p.read(ctx, 0), p.read(ctx, 1), p.read_pointer(ctx, 3)
        dy, x, dw = (p.read_pointer(vals, p.read(words, i)) for i in range(3))
        source = staged(p, ctx, w, W, x, p.offset(shared, MOST_THREADS, dt.int64))
        with p.if_(W["stage"].ne(0)): meet(p, ctx)
        r, own = Record(p, part, PART), p.offset(p.read_pointer(ctx, 2), W["shared_a"], T)
        channels, panels, alone = W["groups"] * W["channels"], r["panels_total"], W["alone"].ne(0)
        by_channel = p.or_(p.or_(nt.eq(1), r["ordered"].ne(0)), p.both(channels >= nt * 8, channels * r["taps"] >= nt * 128))

        def sums(c_lo, c_hi, j_lo, j_hi):
            p.otherwise(alone, lambda: p.run("alone", ctx, w, part, dy, source, own, c_lo, c_hi, j_lo, j_hi),
                        lambda: p.run("sums", ctx, w, part, dy, source, own, c_lo, c_hi, j_lo, j_hi))

        def channel_split():
            lo, hi = p.mine(ctx, channels)
            sums(lo, hi, 0, panels)
            p.run("turn", w, part, own, dw, lo, hi, 0, 1)

        def pixel_split():
            lo, hi = p.share(panels, nt, tid)
            sums(0, channels, lo, hi)
            p.store(own, p.offset(shared, tid, dt.int64))
            meet(p, ctx)
            total, first = W["groups"] * p.ceil_div(W["channels"], r["block"]) * _block_size(p, t, W), p.read_pointer(shared, 0)
            lo, hi = p.mine(ctx, p.ceil_div(p.pick(alone, channels * r["taps"], total), L), tell=False)
            with p.loop(lo, hi) as i:
                x = p.variable(p.load(p.offset(first, i * L, T), T, L))
                with p.loop(1, nt) as other: p.set(x, p.add(p.get(x), p.load(p.offset(p.read_pointer(shared, other), i * L, T), T, L)))
                p.store(p.get(x), p.offset(first, i * L, T))
            meet(p, ctx)
            p.run("turn", w, part, first, dw, 0, channels, tid, nt)
        p.otherwise(by_channel, channel_split, pixel_split)
    return p.module()


def _block_size(p: Program, t: Tile, W: Record) -> Int:
    """Elements of one block of channels' sums: `panels` times `height` rows of (channel, tap), and whole panels of k."""
    return W["panels"] * W["height"] * (p.ceil_div(W["m"], t.columns) * t.columns)


def _write_sums(p: Program, stored: dt.dtype, t: Tile):
    """sums: those of channels c_lo..c_hi (counted through all groups), over pixel panels j_lo..j_hi, block after block."""
    T, L, NR = t.acc, t.lanes, t.columns
    with p.define("sums", "ptr ctx, ptr w, ptr part, ptr dy, ptr source, ptr own, i64 c_lo, i64 c_hi, i64 j_lo, i64 j_hi") as (
            ctx, w, part, dy, source, own, c_lo, c_hi, j_lo, j_hi):
        W, r = Record(p, w, WORDS), Record(p, part, PART)
        channels, height, m, taps, block, at_once = W["channels"], W["height"], W["m"], r["taps"], r["block"], r["panels_at_once"]
        s_channel, s_image, o_channel, o_image = r["s_channel"], r["s_image"], r["o_channel"], r["o_image"]
        table, size = p.read_pointer(w, WORDS.index("micro")), _block_size(p, t, W)
        pn, depth_max, outputs = Panels(p, t, r, W["images"]), at_once * NR, p.ceil_div(m, NR)
        pixels, line = pn.pixels, depth_max + NR
        segments = p.read_pointer(ctx, 2)
        plans = p.offset(segments, segment_words(t), dt.int64)
        columns = p.offset(plans, pn.plans * pn.words, dt.int64)
        dy_at = p.offset(columns, W["panels"] * height * line, T)
        pn.forget(plans)

        def start(j):
            """The position of panel j's first pixel among all, and its number of pixels."""
            image, first, cols = pn.at(j)
            return image * pixels + first, cols

        with p.loop(j_lo, p.max(j_hi, j_lo + 1), at_once) as jb:
            je, out = p.min(jb + at_once, j_hi), p.variable(own)           # without pixels there is still one round, which writes zeros
            base, final = start(jb)[0], start(je - 1)
            depth, adding = p.pick(je > jb, final[0] + final[1] - base, 0), p.pick(jb.eq(j_lo), 0, 1)
            with p.loop(c_lo // channels, p.ceil_div(c_hi, channels)) as group:
                with p.loop(0, outputs) as q:                              # dy's panels, [pixel][k], image by image
                    done = p.variable(p.int(0))
                    with p.if_(depth > 0), p.loop_while() as again:
                        at = p.int(p.get(done))
                        image, inside = (base + at) // pixels, (base + at) % pixels
                        run = p.min(pixels - inside, depth - at)
                        p.run("pack", p.offset(dy, image * o_image + (group * m + q * NR) * o_channel + inside, stored), o_channel, 1,
                              p.offset(dy_at, (q * depth_max + at) * NR, T), NR, p.min(m - q * NR, NR), run)
                        p.set(done, at + run)
                        again(at + run < depth)
                hi = p.min(c_hi, (group + 1) * channels)
                with p.loop(p.max(c_lo, group * channels), hi, block) as c0:
                    count = p.min(block, hi - c0)
                    with p.loop(jb, je) as j:
                        (image, first, cols), plan = pn.at(j), pn.plan(plans, j)
                        p.run("plan", part, segments, plan, first, cols)
                        p.run("columns", part, pn.runs(plan), p.offset(source, image * s_image + c0 * s_channel, T),
                              p.offset(columns, image * pixels + first - base, T), line, count)
                    with p.loop(0, outputs) as j, p.loop(0, p.ceil_div(count * taps, height)) as q:
                        kernel = kernel_of(p, t, table, height, p.ceil_div(p.min(m - j * NR, NR), L), 1)
                        p.run(kernel, p.offset(columns, q * height * line, T), p.offset(dy_at, j * depth_max * NR, T),
                              p.offset(p.get(out), q * height * (outputs * NR) + j * NR, T), depth, NR, outputs * NR, adding, line, 1)
                    p.set(out, p.offset(p.get(out), size, T))


def _write_alone(p: Program, stored: dt.dtype, t: Tile):
    """alone: the same for depthwise convolutions: per channel and tap one vector of partial sums; the results lie as in dw."""
    T, L = t.acc, t.lanes
    with p.define("alone", "ptr ctx, ptr w, ptr part, ptr dy, ptr source, ptr own, i64 c_lo, i64 c_hi, i64 j_lo, i64 j_hi") as (
            ctx, w, part, dy, source, own, c_lo, c_hi, j_lo, j_hi):
        W, r = Record(p, w, WORDS), Record(p, part, PART)
        taps, s_channel, s_image, o_channel, o_image = (r[x] for x in ("taps", "s_channel", "s_image", "o_channel", "o_image"))
        pn, in_place, segments = Panels(p, t, r, W["images"]), W["in_place"].ne(0), p.read_pointer(ctx, 2)
        plans = p.offset(segments, segment_words(t), dt.int64)
        row = p.offset(plans, pn.plans * pn.words, dt.int64)
        partial = p.offset(row, t.columns, T)
        pn.forget(plans)
        with p.loop(c_lo, c_hi) as c:
            with p.loop(0, taps) as i: p.store(p.const(0, T, L), p.offset(partial, i * L, T))
            with p.loop(j_lo, j_hi) as j:
                (image, first, cols), plan = pn.at(j), pn.plan(plans, j)
                p.run("plan", part, segments, plan, first, cols)
                head, ys = Record(p, plan, HEAD), p.offset(dy, image * o_image + c * o_channel, stored)
                ready = p.both(head["plain"].ne(0), cols.eq(t.columns), in_place)
                with p.if_(p.not_(ready)): p.run("collect", part, ys, row, first, cols)
                p.run("dots", taps, head["simple"], pn.runs(plan), p.offset(source, image * s_image + c * s_channel, T),
                      p.choose_pointer(ready, p.offset(ys, head["place"], stored), row), partial)
            with p.loop(0, taps) as i:
                p.store(p.reduce(p.load(p.offset(partial, i * L, T), T, L), p.add), p.offset(own, c * taps + i, T))


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


def _write_turn(p: Program, stored: dt.dtype, t: Tile):
    """turn: the sums of channels c_lo..c_hi, transposed, to dw; of each block `number`'s share of `shares`."""
    T, L = t.acc, t.lanes
    with p.define("turn", "ptr w, ptr part, ptr own, ptr dw, i64 c_lo, i64 c_hi, i64 number, i64 shares") as (
            w, part, own, dw, c_lo, c_hi, number, shares):
        W, r = Record(p, w, WORDS), Record(p, part, PART)
        channels, m, taps, block, size = W["channels"], W["m"], r["taps"], r["block"], _block_size(p, t, W)
        ld = p.ceil_div(m, t.columns) * t.columns

        def straight():
            lo, hi = p.share((c_hi - c_lo) * taps, shares, number)
            with p.loop(lo + c_lo * taps, hi + c_lo * taps) as i: p.store(p.cast(p.load(p.offset(own, i, T), T), stored), p.offset(dw, i, stored))

        def squares():
            sums, square = p.variable(own), p.alloca(T, L, L)
            lo, hi = p.share(p.ceil_div(m, L), shares, number)
            with p.loop(c_lo // channels, p.ceil_div(c_hi, channels)) as group:
                end = p.min(c_hi, (group + 1) * channels)
                with p.loop(p.max(c_lo, group * channels), end, block) as c0:
                    wide = p.min(block, end - c0) * taps
                    with p.loop(lo, hi) as q, p.loop(0, wide, L) as i:
                        src, mask = p.offset(p.get(sums), q * L, T), p.mask(wide - i, L)
                        lines = pack.square(p, [p.load(p.offset(src, p.min(i + j, wide - 1) * ld, T), T, L) for j in range(L)])
                        out = p.offset(dw, (group * m + q * L) * (channels * taps) + (c0 - group * channels) * taps + i, stored)
                        for j, x in enumerate(lines): p.store(x, p.offset(square, j * L, T))
                        with p.loop(0, p.min(m - q * L, L)) as j:
                            x = p.load(p.offset(square, j * L, T), T, L)
                            p.store_masked(p.cast(x, stored), p.offset(out, channels * taps * j, stored), mask)
                    p.set(sums, p.offset(p.get(sums), size, T))
        p.otherwise(W["alone"].ne(0), straight, squares)
