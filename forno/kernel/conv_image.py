"""A convolution's forward product and input gradient: one program, a sum over shifted images.

    y[image, m, pixel] = bias[m] + sum over channel, tap of  w[m, channel, tap] * x[image, channel, pixel * step + shift(tap)]       (0 outside x)

Comes in: an element type. Goes out: the address of `image(ctx, vals, words, w)`; w are images.WORDS, then per part PART and its TAPs.
Rows of the matrix product are channels of y, columns are pixels; **turned**, when pixels would leave many lanes empty (49 of them a quarter), rows are
pixels and columns channels, and tiles are turned back on their way to y. Weights are packed once, by all threads; after that threads don't meet again.
"""
from __future__ import annotations

from contextlib import contextmanager

from ..core import dtype as dt
from ..cpu import code
from . import epilogue, pack
from .gemm import grid
from .images import (HEAD, PART, TAP, WORDS, Panels, Record, Runs, meet, period, record_at, segment_words, staged, write_bias, write_scatter,
                     write_spread, write_walk)
from .text import Val
from .tile import Int, Program, Tile, accumulator, kept_memory, kernel_of, tile

PAD = 64                                       # elements behind a panel that packing may overwrite
STEPS = 64                                     # of a turned tile's sums are made for all its rows: so much of image and weights stays in L1


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
        columns, L = p.read_pointer(ctx, 2), t.lanes
        width = -(-t.rows // L) * L
        turned, ordered = W["turned"].ne(0), r["ordered"].ne(0)
        slot = channels * taps * p.pick(turned, t.columns, t.rows) + PAD
        lo, hi = p.mine(ctx, W["groups"] * panels, tell=False)
        with p.loop(lo, hi) as i:
            row, height = _height(p, W, i % panels)
            src = p.offset(weights, i // panels * W["w_group"] + row * w_m, stored)
            dst = p.offset(packed, r["a_off"] + i * slot, t.acc)

            def general():
                """Channel after channel: the rows' taps through squares, then those that the part has, in its order."""
                with p.loop(0, channels) as c:
                    with p.loop(0, p.ceil_div(height, L)) as n, p.loop(0, W["taps"], L) as first:
                        mask = p.mask(p.min(W["taps"] - first, L), L)
                        lines = [p.offset(src, p.min(n * L + i, height - 1) * w_m + c * w_channel + first, stored) for i in range(L)]
                        for i, x in enumerate(pack.square(p, [p.cast(p.load_masked(at, stored, mask), t.acc) for at in lines])):
                            p.store(x, p.offset(columns, (first + i) * width + n * L, t.acc))
                    with p.loop(0, taps) as j:
                        from_ = p.offset(columns, record_at(p, p.offset(part, len(PART), dt.int64), j, TAP)["weight"] * width, t.acc)
                        to = p.offset(dst, (c * taps + j) * height, t.acc)
                        for n in range(width // L): p.store(p.load(p.offset(from_, n * L, t.acc), t.acc, L), p.offset(to, n * L, t.acc))

            def single():
                first = record_at(p, p.offset(part, len(PART), dt.int64), p.int(0), TAP)["weight"]
                p.run("pack_a", p.offset(src, first, stored), w_m, w_channel, dst, height, height, channels)

            def whole():
                p.otherwise(turned, lambda: p.run("pack_b", src, w_m, p.int(1), dst, p.int(t.columns), height, channels * taps),
                            lambda: p.run("pack_a", src, w_m, p.int(1), dst, height, height, channels * taps))
            with p.if_(taps > 0): p.otherwise(ordered, whole, lambda: p.otherwise(taps.eq(1), single, general))


def _write_pixels(p: Program, stored: dt.dtype, t: Tile):
    """pixels: this thread's share of one part's output."""
    T, L, NR, MR = t.acc, t.lanes, t.columns, t.rows
    with p.define("pixels", "ptr ctx, ptr vals, ptr words, ptr w, ptr part, ptr source, ptr weights, ptr packed, ptr y, ptr bias") as (
            ctx, vals, words, w, part, source, weights, packed, y, bias):
        W, r = Record(p, w, WORDS), Record(p, part, PART)
        channels, panels, m, taps, block, at_once = W["channels"], W["panels"], W["m"], r["taps"], r["block"], r["panels_at_once"]
        s_channel, s_image, o_channel, o_image = r["s_channel"], r["s_image"], r["o_channel"], r["o_image"]
        in_place, has_bias, table = W["in_place"].ne(0), W["bias"].ne(0), p.read_pointer(w, WORDS.index("micro"))
        turned = W["turned"].ne(0)
        pn, kc, slot = Panels(p, t, r, W["images"]), block * taps, channels * taps * p.pick(turned, NR, MR) + PAD
        tile_at = p.read_pointer(ctx, 2)
        segments = p.offset(tile_at, tiles_room(t), T)
        plans = p.offset(segments, segment_words(t), dt.int64)
        columns = p.offset(plans, pn.plans * pn.words, dt.int64)
        (b0, b1), (p0, p1), (j0, j1) = grid(p, ctx, W["groups"], panels, r["panels_total"], 12)       # pixels come from far
        keeping = pn.plans >= pn.count
        pn.forget(plans)

        def leave(panel, out_row, height, adding):
            """A scratch tile to y."""
            here = p.offset(out_row, panel.image * o_image, stored)
            p.otherwise(pn.flat, lambda: p.run("spread", part, tile_at, here, panel.first, height, panel.cols, adding),
                        lambda: p.run("scatter", tile_at, here, p.offset(panel.plan, len(HEAD), dt.int64), o_channel, height, panel.cols, adding))

        def target(panel, out_row, height):
            """(whether a whole tile may be written to y directly, where to write it)"""
            head = Record(p, panel.plan, HEAD)
            directly = p.both(head["plain"].ne(0), in_place, panel.cols.eq(NR), p.or_(p.not_(turned), (height % L).eq(0)))
            return directly, p.choose_pointer(directly, p.offset(out_row, panel.image * o_image + head["place"], stored), tile_at)

        tail = p.read_pointer(w, WORDS.index("tail"))

        def finish(panel, out, row, height, waiting, ahead=False):
            """The epilogue, image by image, on a tile that waits in scratch (cached memory of its own: y's may be far) or has been summed up in y."""
            done = p.variable(p.int(0))
            with p.loop_while() as again:
                lane = p.int(p.get(done))
                image = (panel.first + lane) // pn.pixels
                inside = panel.first + lane - image * pn.pixels
                count, image = p.min(pn.pixels - inside, panel.cols - lane), panel.image + image
                src = p.choose_pointer(waiting, p.offset(tile_at, lane, T), p.offset(out, image * o_image + inside, T))
                p.run(tail, vals, words, src, p.int(epilogue.AHEAD) if ahead else p.pick(waiting, NR, o_channel), image, row, inside, height, count)
                p.set(done, lane + count)
                again(lane + count < panel.cols)

        def block_of(group, turn, c0):
            count = p.min(block, channels - c0)
            adding, last = p.pick(c0.eq(0), 0, 1), c0 + block >= channels
            finishes = p.both(last, W["tail"].ne(0))
            waiting = p.both(finishes, c0.eq(0))
            out = p.offset(y, r["o_off"] + group * m * o_channel, stored)
            image = p.offset(source, turn.image * s_image + (group * channels + c0) * s_channel, T)
            with turn.each() as panel: p.run("columns", part, pn.runs(panel.plan), image, p.offset(columns, panel.number * kc * NR, T), NR, count)
            with p.loop(p0, p1) as q:
                row, height = _height(p, W, q)
                a = p.offset(packed, r["a_off"] + (group * panels + q) * slot + c0 * taps * p.pick(turned, NR, height), T)
                out_row, bias_row = p.offset(out, row * o_channel, stored), p.offset(bias, group * m + row, stored)
                with turn.each() as panel:
                    with p.if_(finishes): finish(panel, out_row, group * m + row, height, waiting, ahead=True)
                    whole, y_at = target(panel, out_row, height)
                    directly = p.both(whole, p.not_(waiting))
                    dst = p.choose_pointer(waiting, tile_at, y_at)
                    ld, more, b = p.pick(directly, o_channel, NR), p.pick(directly, adding, 0), p.offset(columns, panel.number * kc * NR, T)

                    def straight():
                        p.run(kernel_of(p, t, table, height, p.ceil_div(panel.cols, L)), a, b, dst, count * taps, NR, ld, more, 0, 0)

                    def turning(): p.run("turned", table, b, a, p.offset(tile_at, NR * NR, T), dst, count * taps, ld, height, panel.cols, more)
                    p.otherwise(turned, turning, straight)
                    with p.if_(p.both(has_bias, last)): p.run("add_bias", dst, ld, bias_row, height)
                    with p.if_(p.not_(p.or_(directly, waiting))): leave(panel, out_row, height, adding)
                    with p.if_(finishes): finish(panel, out_row, group * m + row, height, waiting)

        def alone(group, turn):
            """Depthwise: a single channel makes a single channel, a panel is summed in registers."""
            out = p.offset(y, r["o_off"] + group * o_channel, stored)
            image = p.offset(source, turn.image * s_image + group * s_channel, T)
            with turn.each() as panel:
                directly, dst = target(panel, out, p.int(1))
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


def tiles_room(t: Tile) -> int:
    """Elements of scratch for tiles: one that waits, and one that will be turned into it."""
    return 2 * t.columns ** 2


def turned_rows(t: Tile, images: int, pixels: int) -> set[int]:
    """All heights of tiles whose rows are pixels."""
    g = period(t, pixels, images)
    columns = {t.columns if g * pixels >= t.columns else 0, g * pixels % t.columns, images % g * pixels % t.columns} - {0}
    return {height for n in columns for height in (n // -(-n // t.rows), -(-n // -(-n // t.rows)))}


def _write_turned(p: Program, t: Tile):
    """turned: a tile of `cols` pixels by `rows` channels, which comes out of the product as pixel by channel."""
    T, L, NR = t.acc, t.lanes, t.columns
    with p.define("turned", "ptr table, ptr image, ptr weights, ptr sums, ptr dst, i64 k, i64 ld, i64 rows, i64 cols, i64 adding") as (
            table, image, weights, sums, dst, k, ld, rows, cols, adding):
        panels = p.ceil_div(cols, t.rows)
        height, taller = cols // panels, cols % panels
        with p.loop(0, p.max(k, 1), STEPS) as k0, p.loop(0, panels) as q:
            at, high = q * height + p.min(q, taller), height + p.pick(q < taller, 1, 0)
            p.run(kernel_of(p, t, table, high, p.ceil_div(rows, L), 1), p.offset(image, k0 * NR + at, T), p.offset(weights, k0 * NR, T), p.offset(sums, at * NR, T),
                  p.min(k - k0, STEPS), NR, NR, p.min(k0, 1), 1, NR)

        def leave(add):
            with p.loop(0, rows, L) as row, p.loop(0, cols, L) as col:
                lines = pack.square(p, [p.load(p.offset(sums, (col + i) * NR + row, T), T, L) for i in range(L)])
                for i, x in enumerate(lines):
                    to = p.offset(dst, (row + i) * ld + col, T)
                    p.store(p.add(p.load(to, T, L), x) if add else x, to)
        p.otherwise(adding.ne(0), lambda: leave(True), lambda: leave(False))


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


@code.program("image")
def driver(stored: dt.dtype) -> str:
    t = tile(accumulator(stored))
    p = Program()
    pack.write(p, "pack_a", stored, t, False)
    pack.write(p, "pack_b", stored, t, True)
    write_walk(p, stored, t)
    write_scatter(p, stored, t)
    write_spread(p, stored, t)
    write_bias(p, stored, t)
    _write_row(p, t)
    _write_turned(p, t)
    _write_weights(p, stored, t)
    _write_pixels(p, stored, t)
    with p.define("image", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W = Record(p, w, WORDS)
        shared = p.read_pointer(ctx, 3)
        x, weights, y = (p.read_pointer(vals, p.read(words, i)) for i in range(3))
        bias = p.read_pointer(vals, p.read(words, p.pick(W["bias"].ne(0), 3, 0)))
        first, kept = p.offset(w, len(WORDS), dt.int64), kept_memory(p, W["kept"], vals)
        packed = p.choose_pointer(kept.given, kept.address, p.offset(shared, W["shared_a"], t.acc))
        source = staged(p, ctx, w, W, x, shared)
        part = p.variable(first)
        with p.if_(p.both(W["alone"].eq(0), kept.empty)), p.loop(0, W["parts"]):
            p.run("pack_weights", ctx, w, p.get(part), weights, packed)
            p.set(part, _next_part(p, p.get(part)))
        with p.if_(p.or_(kept.empty, W["stage"].ne(0))): meet(p, ctx)
        p.set(part, first)
        with p.loop(0, W["parts"]):
            p.run("pixels", ctx, vals, words, w, p.get(part), source, weights, packed, y, bias)
            p.set(part, _next_part(p, p.get(part)))
    return p.module()
