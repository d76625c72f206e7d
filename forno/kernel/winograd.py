"""Convolutions of few taps per axis with a quarter of the products, or a third: Winograd's minimal filtering.

Four pixels of a row that are sums over three taps take six products instead of twelve: of transformed images with transformed weights,

    y = A' [(G w) * (B' x)]            in two dimensions y = A' [(G w G') * (B' x B)] A, 36 products for 16 pixels of 9 taps each

so a convolution becomes one matrix product over channels per **point** (36), between transforms. Comes in: a `Conv` that `pays`. Goes out: a
`Launch`. Forward products and input gradients (the same with turned weights) cut images into strips of tiles, and transform, multiply and transform
back a few strips at a time in scratch. The weight gradient is the transpose, dw = G' [sum over tiles of (A y) * (B' x)] G; its transforms are shared by
all threads. Images and weights pass through squares in registers, so that transforms work on vectors of channels whatever the images' width.

With a stride of 2, even and odd pixels are channels of their own (**phases**) that meet two taps each, 25 products for 16 pixels of 16 taps in four phases. An
input gradient's phases are those of its result: four sums of their own, woven together at the end.

Images of two pixels (a residual network's last stages) have a rule of their own, three products for two pixels and no padding.
The interpolation points 0, ±5/8, ±3/2 and infinity keep errors three times below those of the usual 0, ±1, ±2.
"""
from __future__ import annotations

import itertools
import math
from typing import NamedTuple

from ..core import dtype as dt
from ..core.flags import flags
from ..core.kernels import Conv, Keeps, Launch
from ..core.kernels import Program as Code
from ..cpu import code, isa
from . import choices, epilogue, pack
from .abi import had
from .gemm import PARALLEL_FLOPS, grid
from .images import Record, meet
from .text import Val
from .tile import Int, Program, Tile, chains, entry, kept_memory, kernel_of, micro, tile

T = dt.float32

# the driver's run-time words: sizes; where scratch holds what (in elements); distances between tiles, points and phases in it; the images that are read and
# left. Behind them, phase by phase, the numbers of its taps (taps² for one that isn't there)
WORDS = """driver micro m channels depth images points blocks block least strips tiles w_m w_channel bias kept passing joint group tail
x_table y_table x_stage y_stage v_at m_at u_at packed_at ld_v ld_m point_v point_m point_u phase_v phase_m phase_u panel_u apart
x_h x_w x_top x_first x_pitch x_channel x_image y_h y_w y_pitch y_channel y_image""".split()


AHEAD = 4, 128                                 # between fetching weights and transforming them: channels that lie apart, elements of a row


class Rule(NamedTuple):
    """One axis: `points` products make `outputs` pixels from `inputs` pixels. image = B' (points × inputs), weight = G (points × taps), result = A' (outputs × points)."""
    image: tuple
    weight: tuple
    result: tuple

    @property
    def inputs(self): return len(self.image[0])

    @property
    def outputs(self): return len(self.result)

    @property
    def points(self): return len(self.image)


def toom(taps: int, *at: float) -> Rule:
    """Four outputs: products of polynomials at these points and at infinity, transposed."""
    def polynomial(roots):                     # its coefficients, the constant first
        out = [1.0]
        for r in roots: out = [a - r * b for a, b in zip([0.0, *out], [*out, 0.0])]
        return out
    others = [[b for b in at if b != a] for a in at]
    image = [[*polynomial(roots), 0.0] for roots in others] + [polynomial(at)]
    weight = [[a ** k / math.prod(a - b for b in roots) for k in range(taps)] for a, roots in zip(at, others)] + [[0.0] * (taps - 1) + [1.0]]
    result = [[*(a ** k for a in at), float(k == 3)] for k in range(4)]
    return Rule(*(tuple(map(tuple, m)) for m in (image, weight, result)))


FOUR, HALF = toom(3, 0.0, 0.625, -0.625, 1.5, -1.5), toom(2, 0.0, 0.75, -0.75, 2.0)      # for three taps, and for the two of a phase
TWO = Rule(((1, 1), (0, 1), (1, 0)), ((0, 1, 0), (0, -1, 1), (1, -1, 0)), ((1, 1, 0), (1, 0, 1)))      # both neighbours are padding


def transposed(matrix): return tuple(zip(*matrix))


# ---- what a convolution is made of
class Form(NamedTuple):
    """What selects machine code: rules of both axes, taps per axis, stride, and whether phases are the result's (`woven`) or the image's."""
    down: Rule
    across: Rule
    taps: int
    stride: int
    woven: bool

    @property
    def phases(self): return self.stride ** 2

    @property
    def read(self): return 1 if self.woven else self.stride        # pixels from one input of a tile to the next

    @property
    def left(self): return self.stride if self.woven else 1        # pixels from one output to the next

    @property
    def points(self): return self.down.points * self.across.points

    def reach(self, rule: Rule) -> int: return (rule.inputs - 1) * self.read + self.stride        # pixels that a tile reads, all phases together

    @property
    def height(self): return self.reach(self.down)

    @property
    def rows(self): return self.down.outputs * self.left


class Axis(NamedTuple):
    rule: Rule
    tiles: int
    shift: int                                 # of the first tile's first input


def axis(size: int, out: int, padding: int, stride: int, back: bool) -> Axis:
    """Of the tiles that are read; an input gradient reads dy."""
    if stride == 2: return Axis(HALF, -(-size // 8), padding // 2 - 1) if back else Axis(HALF, -(-out // 4), -padding)
    if back: size, out, padding = out, size, 2 - padding
    return Axis(TWO, 1, 0) if size == out == 2 else Axis(FOUR, -(-out // 4), -padding)


def axes(c: Conv) -> tuple[Axis, Axis]:
    return tuple(axis(s, o, p, c.stride[2], c.which == "input") for s, o, p in zip(c.size[1:], c.out[1:], c.padding[1:]))


def form_of(c: Conv) -> Form:
    down, across = axes(c)
    return Form(down.rule, across.rule, c.taps[2], c.stride[2], c.which == "input" and c.stride[2] == 2)


def accepts(c: Conv) -> bool:
    """Is it a convolution that `build` can do?"""
    taps, stride, padding = c.taps[2], c.stride[2], c.padding[2]
    if c.dtype is not T or c.groups != 1 or c.dilation != (1, 1, 1) or c.taps != (1, taps, taps) or c.size[0] != 1 or c.padding[0] or min(c.n, *c.size, *c.out) < 1: return False
    if stride == 1: return taps == 3 and c.stride[1] == 1 and max(c.padding) <= 2
    if stride != 2 or c.stride[1] != 2 or taps not in (3, 4) or c.padding[1] != padding or padding >= taps: return False
    if c.which != "input" and c.c % tile(T).lanes: return False            # phases follow each other as channels do
    f = form_of(c)
    return all(s - a.shift <= (a.tiles - 1) * 4 * f.read + f.reach(HALF) for s, a in zip(c.out[1:] if c.which == "input" else c.size[1:], axes(c)))


def pays(c: Conv) -> bool:
    """Can it be done, and are transforms cheaper than the products they save?"""
    if not flags.WINOGRAD or min(c.c, c.k) < 12 or not accepts(c): return False
    (down, across), f, stride = axes(c), form_of(c), c.stride[2]
    # three taps with a stride save a third; of more than 64 channels' phases transformed images leave L2, which costs more
    if stride == 2 and c.taps[2] == 3 and c.which == "forward" and c.c > 64: return False
    tiles, weights = c.n * down.tiles * across.tiles, c.c * c.k * f.phases * f.points
    direct = c.n * math.prod(c.size if c.which == "input" and stride == 1 else c.out) * c.taps[2] ** 2 * c.c * c.k
    if T.size * weights > 1 << 28: return False
    # a transformed value costs what twenty products do, a transformed weight the way to a cache and back: as much, and twice that if none holds them all;
    # a direct product with a stride sorts its images first
    ours = tiles * (weights + 20 * f.points * f.phases * (c.c + (c.k if f.woven else c.k / f.phases))) + weights * (45 if T.size * weights > isa.caches()[2] // 2 else 16)
    return ours < direct * (1 if stride == 1 else 1.3)


# ---- transforms
def apply(p: Program, matrix, xs: list[Val]) -> list[Val]:
    """matrix · xs, where rows (or columns) that differ in some signs only share what they have in common."""
    rows = [list(map(float, r)) for r in matrix]
    xs = list(xs)
    for a in range(len(xs)):
        for b in range(a + 1, len(xs)):
            signs = [r[a] * r[b] for r in rows]
            if all(abs(r[a]) == abs(r[b]) for r in rows) and min(signs) < 0 < max(signs):
                xs[a], xs[b] = p.add(xs[a], xs[b]), p.sub(xs[a], xs[b])
                for r in rows: r[a], r[b] = (r[a], 0.0) if r[a] == r[b] else (0.0, r[a])
    out: list[Val | None] = [None] * len(rows)
    for i, r in enumerate(rows):
        if out[i] is not None: continue
        for j in range(i + 1, len(rows)):
            same = [a if a == b else 0.0 for a, b in zip(r, rows[j])]
            turned = [a if a != b else 0.0 for a, b in zip(r, rows[j])]
            if out[j] is None and all(abs(a) == abs(b) for a, b in zip(r, rows[j])) and any(same) and any(turned):
                x, y = form(p, same, xs), form(p, turned, xs)
                out[i], out[j] = p.add(x, y), p.sub(x, y)
                break
        else: out[i] = form(p, r, xs)
    return out


def form(p: Program, row, xs) -> Val:
    terms = sorted(((a, x) for a, x in zip(row, xs) if a), key=lambda t: t[0] != 1)
    if not terms: return p.const(0, T, xs[0].n)
    (a, total), *rest = terms
    if a != 1: total = p.mul(total, p.const(a, T))
    for a, x in rest: total = p.add(total, x) if a == 1 else p.sub(total, x) if a == -1 else p.mad(p.splat(p.const(a, T), x.n), x, total)
    return total


def both(p: Program, rows, columns, xs: list[list[Val]]) -> list[list[Val]]:
    """rows · xs · columns'"""
    half = [apply(p, rows, list(x)) for x in zip(*xs)]                     # [column][row]
    return [apply(p, columns, list(x)) for x in zip(*half)]


# ---- strips of images
def _write_table(p: Program):
    """table: where `rows` rows of `width` pixels lie in a stage of `pitch` columns; `more` pixels behind them lie behind the stage."""
    with p.define("table", "ptr table, i64 rows, i64 width, i64 pitch, i64 first, i64 more") as (table, rows, width, pitch, first, more):
        with p.loop(0, rows) as i, p.loop(0, width) as j: p.write(i * pitch + first + j, table, i * width + j)
        with p.loop(0, more) as j: p.write(rows * pitch, table, rows * width + j)


def _write_take(p: Program, name: str, t: Tile, rows, columns, step: int, apart: int):
    """A strip of up to `lanes` channels, rows from `top` on: through squares to a stage [row][column][channel], from there, transformed, to out[point][tile].
    Inputs of a tile are `step` pixels apart; `apart` phases per axis begin `shift` pixels apart, and are transformed one by one."""
    L, reach = t.lanes, (len(rows[0]) - 1) * step + apart
    with p.define(name, "ptr src, i64 channel, i64 valid, i64 top, i64 height, i64 width, i64 pitch, i64 next, i64 tiles, ptr table, ptr stage, ptr out, i64 ld, i64 point, "
                        "i64 shift, i64 phase") as (src, channel, valid, top, high, width, pitch, next_, tiles, table, stage, out, ld, point, shift, phase):
        lo = p.max(top, 0)
        hi = p.max(p.min(top + reach, high), lo)
        zero, pixels, skipped = p.const(0, T, L), (hi - lo) * width, (lo - top) * width
        lines = [p.offset(src, p.min(valid - 1, i) * channel + lo * width, T) for i in range(L)]
        with p.loop(0, pixels, L) as q:
            mask = p.mask(p.min(pixels - q, L), L)
            for i, x in enumerate(pack.square(p, [p.load_masked(p.offset(line, q, T), T, mask) for line in lines])):
                p.store(x, p.offset(stage, p.read(table, skipped + q + i) * L, T))
        for a, b in ((0, lo - top), (hi - top, reach)):
            with p.loop(p.int(a) * pitch, p.int(b) * pitch) as i: p.store(zero, p.offset(stage, i * L, T))
        with p.loop(0, tiles) as tile_, p.loop(0, apart * apart) as number:
            begin = (pitch * (number // apart) + number % apart) * shift if apart > 1 else 0
            at = p.offset(stage, (tile_ * next_ + begin) * L, T)
            xs = [[p.load(p.offset(at, (pitch * i + j) * step * L, T), T, L) for j in range(len(columns[0]))] for i in range(len(rows[0]))]
            to = p.offset(out, tile_ * ld + number * phase, T)
            for i, line in enumerate(both(p, rows, columns, xs)):
                for j, x in enumerate(line): p.store(x, p.offset(to, point * (i * len(columns) + j), T))


def _write_give(p: Program, t: Tile, rows, columns, step: int):
    """give: the opposite: in[point][tile], transformed, plus bias, to a stage, through squares to `valid` channels of a strip of the result. `step` phases per
    axis are woven together."""
    L, across = t.lanes, len(columns)
    with p.define("give", "ptr src, i64 ld, i64 point, i64 phase, i64 tiles, ptr bias, i64 biased, ptr table, ptr stage, i64 pitch, ptr dst, i64 channel, i64 valid, "
                          "i64 pixels") as (
            src, ld, point, phase, tiles, bias, biased, table, stage, pitch, dst, channel, valid, pixels):
        more = p.load_masked(bias, T, p.mask(biased, L))
        with p.loop(0, tiles) as tile_, p.loop(0, step * step) as number:
            at = p.offset(src, tile_ * ld + number * phase, T)
            to = p.offset(stage, (tile_ * (across * step) + (pitch * (number // step) + number % step if step > 1 else 0)) * L, T)
            xs = [[p.load(p.offset(at, point * (i * len(columns[0]) + j), T), T, L) for j in range(len(columns[0]))] for i in range(len(rows[0]))]
            for i, line in enumerate(both(p, rows, columns, xs)):
                for j, x in enumerate(line): p.store(p.add(x, more), p.offset(to, (pitch * i + j) * step * L, T))
        _leave(p, t, pixels, lambda i: p.offset(stage, p.read(table, i) * L, T), dst, channel, valid)


def _leave(p: Program, t: Tile, count: Int, source, dst: Val, channel: Int, valid: Int):
    """Vectors of channels at source(0..count) to `valid` rows of memory, `channel` apart."""
    L = t.lanes
    buffer = p.alloca(T, L, L)
    with p.loop(0, count, L) as q:
        mask = p.mask(p.min(count - q, L), L)
        lines = pack.square(p, [p.load(source(p.min(q + i, count - 1)), T, L) for i in range(L)])

        def whole():
            for i, x in enumerate(lines): p.store_masked(x, p.offset(dst, channel * i + q, T), mask)

        def some():
            for i, x in enumerate(lines): p.store(x, p.offset(buffer, i * L, T))
            with p.loop(0, valid) as i: p.store_masked(p.load(p.offset(buffer, i * L, T), T, L), p.offset(dst, channel * i + q, T), mask)
        p.otherwise(valid.eq(L), whole, some)


# ---- forward products and input gradients
def _write_weights(p: Program, t: Tile, f: Form):
    """weights: places lo..hi, of which every `channels` are a vector of columns, to panels of columns, which lie `panel` apart, each [phase][point][channel][column]."""
    L, taps, n = t.lanes, f.taps ** 2, len(f.down.weight[0])
    with p.define("weights", "ptr w, ptr weights, ptr packed, i64 lo, i64 hi, i64 channels, i64 column, i64 channel, i64 panel, i64 phase, i64 point") as (
            w, weights, packed, lo, hi, channels, column, channel, panel, phase_u, point_u):
        W, numbers = Record(p, w, WORDS), p.offset(w, len(WORDS), dt.int64)
        m, w_m, w_channel = W["m"], W["w_m"], W["w_channel"]
        buffer = p.alloca(T, L, taps + 1)
        p.store(p.const(0, T, L), p.offset(buffer, taps * L, T))
        with p.loop(lo, hi) as i:
            b, c = i // channels, i % channels
            lines = [p.offset(weights, p.min(column + b * L + k, m - 1) * w_m + (channel + c) * w_channel, T) for k in range(L)]
            ahead = p.pick(w_m < w_channel, w_channel * AHEAD[0], AHEAD[1])          # input gradients go down a column of weights, forward products along 16 rows
            for line in lines: p.prefetch(p.offset(line, ahead, T))
            for first in range(0, taps, L):
                mask = p.mask(p.int(min(taps - first, L)), L)
                for k, x in enumerate(pack.square(p, [p.load_masked(p.offset(line, first, T), T, mask) for line in lines])[:taps - first]):
                    p.store(x, p.offset(buffer, (first + k) * L, T))
            with p.loop(0, f.phases) as phase:
                xs = [[p.load(p.offset(buffer, p.read(numbers, (phase * n + j) * n + k) * L, T), T, L) for k in range(n)] for j in range(n)]
                to = p.offset(packed, phase * phase_u + b // t.vectors * panel + c * t.columns + b % t.vectors * L, T)
                for j, line in enumerate(both(p, f.down.weight, f.across.weight, xs)):
                    for k, x in enumerate(line): p.store(x, p.offset(to, point_u * (j * f.across.points + k), T))


def _prepare(p: Program, W: Record, private: Val, f: Form, t: Tile):
    """Tables and stages of one thread."""
    x_table, y_table = (p.offset(private, W[x], T) for x in ("x_table", "y_table"))
    x_stage, y_stage = (p.offset(private, W[x], T) for x in ("x_stage", "y_stage"))
    p.run("table", x_table, f.height, W["x_w"], W["x_pitch"], W["x_first"], t.lanes)
    p.run("table", y_table, f.rows, W["y_w"], W["y_pitch"], 0, t.lanes)
    for stage, size in ((x_stage, W["x_pitch"] * f.height), (y_stage, W["y_pitch"] * f.rows)):
        with p.loop(0, size) as i: p.store(p.const(0, T, t.lanes), p.offset(stage, i * t.lanes, T))
    return x_table, y_table, x_stage, y_stage


@code.program("winograd")
def image_driver(f: Form) -> str:
    t = tile(T)
    L, NR, p = t.lanes, t.columns, Program()
    _write_table(p)
    down, across = f.down, f.across
    _write_take(p, "take", t, down.image, across.image, f.read, f.stride)
    _write_give(p, t, down.result, across.result, f.left)
    _write_weights(p, t, f)
    with p.define("winograd", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W, table = Record(p, w, WORDS), p.read_pointer(w, WORDS.index("micro"))
        m, channels, depth, strips, tiles, block = (W[x] for x in ("m", "channels", "depth", "strips", "tiles", "block"))
        ld_v, ld_m, point_v, point_m, point_u = (W[x] for x in ("ld_v", "ld_m", "point_v", "point_m", "point_u"))
        kept, private = kept_memory(p, W["kept"], vals), p.read_pointer(ctx, 2)
        packed = p.choose_pointer(kept.given, kept.address, p.offset(p.read_pointer(ctx, 3), W["packed_at"], T))
        x, weights, y = (p.read_pointer(vals, p.read(words, i)) for i in range(3))
        has_bias, tail = W["bias"].ne(0), p.read_pointer(w, WORDS.index("tail"))
        bias = p.read_pointer(vals, p.read(words, p.pick(has_bias, 3, 0)))
        passing = p.both(W["passing"].ne(0), p.not_(kept.given))
        shared = p.both(kept.empty, p.not_(passing))
        with p.if_(shared):
            lo, hi = p.mine(ctx, p.ceil_div(m, L) * channels, tell=False)
            p.run("weights", w, weights, packed, lo, hi, channels, 0, 0, W["panel_u"], W["phase_u"], point_u)
        x_table, y_table, x_stage, y_stage = _prepare(p, W, private, f, t)
        joint = W["joint"].ne(0)
        v_at = p.offset(p.choose_pointer(joint, p.read_pointer(ctx, 3), private), W["v_at"], T)
        m_at = p.offset(private, W["m_at"], T)
        least, all_strips, columns = W["least"], W["images"] * strips, p.ceil_div(m, NR)
        parts = p.max(all_strips // least, 1)
        (u0, u1), (j0, j1) = ([p.pick(joint, x, y) for x, y in zip(*ranges)] for ranges in zip(
            ((0, parts), p.mine(ctx, columns, tell=False)), grid(p, ctx, p.int(1), parts, columns)[1:]))
        with p.if_(joint): had(p, ctx, j1 - j0, columns)
        turns = p.ceil_div(u1 - u0, p.max(block // least, 1))
        with p.if_(shared): meet(p, ctx)

        def group_of(first, count, panels, height, taller, g0, g1):
            """Products of a block with panels g0..g1 of columns, and what they make."""
            def product(v, u, out, j, deep, adding):
                """All tiles' columns of panel j at one point."""
                with p.loop(0, panels) as q:
                    at, high = q * height + p.min(q, taller), height + p.pick(q < taller, 1, 0)
                    kernel = kernel_of(p, t, table, high, p.ceil_div(p.min(m - j * NR, NR), L), 1)
                    p.run(kernel, p.offset(v, at * ld_v, T), u, p.offset(out, at * ld_m + (j - g0) * NR, T), deep, NR, ld_m, adding, ld_v, 1)

            def with_panels():
                with p.loop(0, W["points"]) as point, p.loop(g0, g1) as j:
                    product(p.offset(v_at, point * point_v, T), p.offset(packed, j * W["panel_u"] + point * point_u, T), p.offset(m_at, point * point_m, T), j, depth, 0)

            def as_on_the_way():
                """With kept weights: sums of as many channels as there were before there were any, so that every run gives the same bits; but point after
                point, so that its image stays in L1 and weights come front to back."""
                some = W["passing"]
                with p.loop(0, f.points) as point, p.loop(g0, g1) as j, p.loop(0, channels, some) as c0, p.loop(0, f.phases) as phase:
                    adding = p.pick(p.or_(c0 > 0, p.both(phase > 0, W["phase_m"].eq(0))), 1, 0)
                    u_at = j * W["panel_u"] + phase * W["phase_u"] + point * point_u + c0 * NR
                    product(p.offset(v_at, phase * W["phase_v"] + point * point_v + c0, T), p.offset(packed, u_at, T),
                            p.offset(m_at, phase * W["phase_m"] + point * point_m, T), j, p.min(channels - c0, some), adding)

            def on_the_way():
                """Weights are needed once: a few channels of a panel are transformed, multiplied, and forgotten before they leave L2."""
                some, u_at = W["passing"], p.offset(private, W["u_at"], T)
                point_some = some * NR + 16
                with p.loop(g0, g1) as j, p.loop(0, channels, some) as c0:
                    deep = p.min(channels - c0, some)
                    p.run("weights", w, weights, u_at, 0, deep * p.ceil_div(p.min(m - j * NR, NR), L), deep, j * NR, c0, 0, point_some * f.points, point_some)
                    with p.loop(0, f.phases) as phase, p.loop(0, f.points) as point:
                        adding = p.pick(p.or_(c0 > 0, p.both(phase > 0, W["phase_m"].eq(0))), 1, 0)
                        product(p.offset(v_at, phase * W["phase_v"] + point * point_v + c0, T), p.offset(u_at, (phase * f.points + point) * point_some, T),
                                p.offset(m_at, phase * W["phase_m"] + point * point_m, T), j, deep, adding)
            p.otherwise(passing, on_the_way, lambda: p.otherwise(W["passing"].ne(0), as_on_the_way, with_panels))
            with p.loop(0, count) as s, p.loop(g0 * t.vectors, p.min(g1 * t.vectors, p.ceil_div(m, L))) as b:
                image, row = (first + s) // strips, (first + s) % strips
                valid, pixel = p.min(m - b * L, L), row * f.rows * W["y_w"]
                to, pixels = p.offset(y, image * W["y_image"] + b * L * W["y_channel"] + pixel, T), p.min(W["y_h"] - row * f.rows, f.rows) * W["y_w"]
                p.run("give", p.offset(m_at, s * tiles * ld_m + (b - g0 * t.vectors) * L, T), ld_m, point_m, W["phase_m"], tiles,
                      p.offset(bias, b * L, T), p.pick(has_bias, valid, 0), y_table, y_stage, W["y_pitch"],
                      to, W["y_channel"], valid, pixels)
                with p.if_(W["tail"].ne(0)): p.run(tail, vals, words, to, W["y_channel"], image, b * L, pixel, valid, pixels)

        with p.loop(0, turns) as number:
            first, end = (u0 + x for x in p.share(u1 - u0, turns, number))
            first, end = first * least, p.pick(end.eq(parts), all_strips, end * least)           # the last has what is left over
            count, of_x = end - first, p.ceil_div(channels, L)
            lo, hi = (p.pick(joint, x, y) for x, y in zip(p.mine(ctx, count * of_x, tell=False), (0, count * of_x)))
            with p.loop(lo, hi) as i:
                s, b = i // of_x, i % of_x
                image, row = (first + s) // strips, (first + s) % strips
                p.run("take", p.offset(x, image * W["x_image"] + b * L * W["x_channel"], T), W["x_channel"], p.min(channels - b * L, L),
                      row * (down.outputs * f.read) + W["x_top"], W["x_h"], W["x_w"], W["x_pitch"], across.outputs * f.read, tiles, x_table, x_stage,
                      p.offset(v_at, s * tiles * ld_v + b * L, T), ld_v, point_v, W["apart"], W["phase_v"])
            with p.if_(joint): meet(p, ctx)
            panels = p.ceil_div(count * tiles, t.rows)
            height, taller = count * tiles // panels, count * tiles % panels
            with p.loop(j0, j1, W["group"]) as g0: group_of(first, count, panels, height, taller, g0, p.min(g0 + W["group"], j1))
            with p.if_(joint): meet(p, ctx)
    return p.module()


# ---- weight gradients
def _write_finish(p: Program, t: Tile, f: Form):
    """finish: sums of `count` channels and `valid` columns, transformed, to dw, whose rows lie `row` apart."""
    L, taps, n = t.lanes, f.taps ** 2, len(f.down.weight[0])
    with p.define("finish", "ptr w, ptr sums, i64 channel, i64 point, i64 phase, ptr stage, ptr dw, i64 row, i64 count, i64 valid") as (
            w, sums, channel, point, phase, stage, dw, row, count, valid):
        with p.loop(0, count) as c, p.loop(0, f.phases) as number:
            at = p.offset(sums, number * phase + c * channel, T)
            xs = [[p.load(p.offset(at, point * (i * f.across.points + j), T), T, L) for j in range(f.across.points)] for i in range(f.down.points)]
            for i, line in enumerate(both(p, transposed(f.down.weight), transposed(f.across.weight), xs)):
                for j, g in enumerate(line):
                    tap = p.read(w, len(WORDS) + (number * n + i) * n + j)
                    p.store(g, p.offset(stage, p.pick(tap < taps, c * taps + tap, L * taps) * L, T))
        _leave(p, t, count * taps, lambda i: p.offset(stage, i * L, T), dw, row, valid)


def together(t: Tile) -> int:
    """Channels of a weight gradient that are multiplied and finished while their sums are in L2."""
    return 2 * t.lanes


@code.program("winograd")
def weight_driver(f: Form) -> str:
    t = tile(T)
    L, NR, p = t.lanes, t.columns, Program()
    _write_table(p)
    _write_finish(p, t, f)
    down, across, taps = f.down, f.across, f.taps ** 2
    _write_take(p, "take_x", t, down.image, across.image, f.read, f.stride)
    _write_take(p, "take_y", t, transposed(down.result), transposed(across.result), 1, 1)
    with p.define("winograd", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W, table = Record(p, w, WORDS), p.read_pointer(w, WORDS.index("micro"))
        m, channels, depth, strips, tiles, block = (W[x] for x in ("m", "channels", "depth", "strips", "tiles", "block"))
        ld_v, ld_m, point_v, point_m, point_u = (W[x] for x in ("ld_v", "ld_m", "point_v", "point_m", "point_u"))
        shared, private = p.read_pointer(ctx, 3), p.read_pointer(ctx, 2)
        dy, x, dw = (p.read_pointer(vals, p.read(words, i)) for i in range(3))
        x_table, y_table, x_stage, y_stage = _prepare(p, W, private, f, t)
        v_at, y_at, sums = p.offset(shared, W["v_at"], T), p.offset(shared, W["m_at"], T), shared
        of_x, of_y, panels = p.ceil_div(channels, L), p.ceil_div(m, L), p.ceil_div(depth, t.rows)
        height, taller = depth // panels, depth % panels

        def product(q, height, taller, j, v, y_point, out, ld, deep, adding):
            """Panel q of rows, panel j of columns, at one point."""
            at, high = q * height + p.min(q, taller), height + p.pick(q < taller, 1, 0)
            kernel = kernel_of(p, t, table, high, p.ceil_div(p.min(m - j * NR, NR), L), 1)
            p.run(kernel, p.offset(v, at, T), p.offset(y_point, j * NR, T), p.offset(out, at * ld, T), deep, ld_m, ld, adding, 1, ld_v)

        def finish(c0, k0, at, channel, point, phase):
            p.run("finish", w, at, channel, point, phase, x_stage, p.offset(dw, (k0 * channels + c0) * taps, T), channels * taps, p.min(channels - c0, L), p.min(m - k0, L))

        with p.loop(0, W["blocks"]) as number:
            first = number * block
            count = p.min(block, W["images"] * strips - first)
            lo, hi = p.mine(ctx, count * (of_x + of_y), tell=False)
            with p.loop(lo, hi) as i:
                s, b = i // (of_x + of_y), i % (of_x + of_y)
                image, row = (first + s) // strips, (first + s) % strips

                def take_x():
                    p.run("take_x", p.offset(x, image * W["x_image"] + b * L * W["x_channel"], T), W["x_channel"], p.min(channels - b * L, L),
                          row * (down.outputs * f.read) + W["x_top"], W["x_h"], W["x_w"], W["x_pitch"], across.outputs * f.read, tiles, x_table, x_stage,
                          p.offset(v_at, s * tiles * ld_v + b * L, T), ld_v, point_v, W["apart"], W["phase_v"])

                def take_y():
                    k = (b - of_x) * L
                    p.run("take_y", p.offset(dy, image * W["y_image"] + k * W["y_channel"], T), W["y_channel"], p.min(m - k, L),
                          row * down.outputs, W["y_h"], W["y_w"], W["y_pitch"], across.outputs, tiles, y_table, y_stage,
                          p.offset(y_at, s * tiles * ld_m + k, T), ld_m, point_m, 0, 0)
                p.otherwise(b < of_x, take_x, take_y)
            meet(p, ctx)
            with p.if_(W["passing"].eq(0)):
                lo, hi = p.mine(ctx, W["points"] * panels)
                with p.loop(lo, hi) as i, p.loop(0, p.ceil_div(m, NR)) as j:
                    point = i // panels
                    product(i % panels, height, taller, j, p.offset(v_at, point * point_v, T), p.offset(y_at, point * point_m, T),
                            p.offset(sums, point * point_u + j * NR, T), ld_m, count * tiles, p.min(number, 1))
                meet(p, ctx)

        def on_the_way():
            """All tiles are one block: sums of a few channels are made, transformed and left before they leave L2."""
            some, own, point_some = together(t), p.offset(private, W["u_at"], T), together(t) * NR + 16
            of_c, of_k = p.ceil_div(channels, some), p.ceil_div(m, NR)
            lo, hi = p.mine(ctx, of_c * of_k)
            with p.loop(lo, hi) as i:
                c0, j = i % of_c * some, i // of_c
                count = p.min(channels - c0, some)
                panels = p.ceil_div(count, t.rows)
                with p.loop(0, f.phases) as phase, p.loop(0, f.points) as point, p.loop(0, panels) as q:
                    product(q, count // panels, count % panels, j, p.offset(v_at, phase * W["phase_v"] + point * point_v + c0, T), p.offset(y_at, point * point_m, T),
                            p.offset(own, (phase * f.points + point) * point_some, T), NR, W["images"] * strips * tiles, 0)
                with p.loop(0, count, L) as c, p.loop(0, p.min(m - j * NR, NR), L) as k:
                    finish(c0 + c, j * NR + k, p.offset(own, c * NR + k, T), NR, point_some, point_some * f.points)

        def from_sums():
            lo, hi = p.mine(ctx, of_x * of_y, tell=False)
            with p.loop(lo, hi) as i:
                c0, k0 = i % of_x * L, i // of_x * L
                finish(c0, k0, p.offset(sums, c0 * ld_m + k0, T), ld_m, point_u, channels * ld_m)
        p.otherwise(W["passing"].ne(0), on_the_way, from_sums)
    return p.module()


# ---- a shape's numbers
JOINT, FINE = 4, 4                             # so few blocks, of fewer parts, are done one after the other by all threads: they share the transforms, and the columns
LEAST = 5                                      # rows of a tile from which on it sums in one way (`chains`)


CHANGES = {"larger blocks": 2, "smaller blocks": 0.5}


def build(c: Conv, choice: str = "") -> Launch:
    """`choice`: one of CHANGES, where the Launch offers it."""
    t, (down, across), f = tile(T), axes(c), form_of(c)
    L, weight, back, taps = t.lanes, c.which == "weight", c.which == "input", f.taps ** 2
    (x_h, x_w), (y_h, y_w) = (c.out[1:], c.size[1:]) if back else (c.size[1:], c.out[1:])
    m, channels = (c.c, c.k) if back else (c.k, c.c)
    depth, points = (channels, f.points * f.phases) if f.woven else (channels * f.phases, f.points)
    strips, tiles = down.tiles, across.tiles
    x_pitch, y_pitch = (tiles - 1) * f.across.outputs * f.read + f.reach(f.across), tiles * f.across.outputs * f.left
    ld_v, ld_m = (-(-a // L) * L + 16 for a in (depth, m))             # never a power of two apart
    block, blocks = usual = _blocks(c.n * strips, tiles, points, depth, m, weight)
    if choice: block, blocks = _resized(block, c.n * strips, choice)
    least = -(-LEAST // tiles)                                          # strips that are cut no further, so that a result doesn't depend on cuts
    joint = not weight and (blocks == 1 or blocks <= JOINT and c.n * strips // least < FINE)
    most = block if weight else max(block, least) + least - 1
    at, places = 0, {}

    def place(name, size):
        nonlocal at
        places[name], at = at, at + -(-size // 16) * 16
    place("x_table", 2 * (f.height * x_w + L))
    place("y_table", 2 * (f.rows * y_w + L))
    place("x_stage", max(x_pitch * f.height, taps * L if weight else 0) * L + L)
    place("y_stage", (y_pitch * f.rows + 1) * L)
    columns = -(-m // t.columns)
    group = 1 if not weight and _stays(usual[0], tiles, points, depth, m) else columns    # panels of columns that are multiplied point by point
    if not weight: ld_m = group * t.columns
    point_v, point_m = (most * tiles * ld + 16 for ld in (ld_v, ld_m))
    scratch, passing, places["u_at"] = at, 0, at
    if weight:
        point_u = depth * ld_m + 16
        # transformed images are read again for every few channels then; far fewer than the sums, or the sums would go through L3
        passing = int(blocks == 1 and (2 * block * tiles * (ld_v + ld_m) < depth * m or points * depth * m * T.size > 3 * isa.caches()[1]))
        scratch, at = at + (points * f.phases * (together(t) * t.columns + 16) + t.columns if passing else 0), 0 if passing else points * point_u + t.columns
    else: point_u = t.columns * depth * (1 if group == 1 else columns)              # in the order in which they are read
    if joint: places["v_at"] = 0
    else: place("v_at", points * point_v + 16)
    place("m_at", points * point_m + t.columns)
    if not weight and blocks == 1: passing = min(max(isa.caches()[1] // 4 // (T.size * f.phases * f.points * t.columns), 8), channels)
    if not weight: place("u_at", f.phases * f.points * (passing * t.columns + 16))
    packed = 0 if weight else points * depth * columns * t.columns + 16
    places["packed_at"] = -(-(points * point_v + 16) // 16) * 16 if joint else 0
    shared, scratch = (at, scratch) if weight else (places["packed_at"] + (0 if passing else packed), at)
    kernels, multiplied = micro(T), {count * tiles for count in range(1 if c.n * strips <= least else least, min(most, c.n * strips) + 1)}
    if weight: multiplied = {min(channels, together(t)), channels % together(t) or together(t)} if passing else {depth}
    for height, vectors in _products(multiplied, m, t): kernels.need(height, vectors, direct=True)
    address, _ = (weight_driver if weight else image_driver)(f)
    values = dict(places, driver=address, micro=kernels.address, m=m, channels=channels, depth=depth, images=c.n, points=points, blocks=blocks, block=block, least=least,
                  strips=strips, tiles=tiles, w_m=taps if back else channels * taps, w_channel=m * taps if back else taps, bias=int(c.bias), kept=-1, passing=passing,
                  joint=int(joint), group=group, tail=0, ld_v=ld_v, ld_m=ld_m, point_v=point_v, point_m=point_m, point_u=point_u, apart=c.padding[2] % 2 if f.woven else 1,
                  phase_v=f.points * point_v if f.woven else channels, phase_m=f.points * point_m if f.woven else 0,
                  phase_u=f.points * point_u if f.woven else channels * t.columns, panel_u=t.columns * depth * (points if group == 1 else 1),
                  x_h=x_h, x_w=x_w, x_top=down.shift, x_first=-across.shift, x_pitch=x_pitch, x_channel=x_h * x_w, x_image=channels * x_h * x_w,
                  y_h=y_h, y_w=y_w, y_pitch=y_pitch, y_channel=y_h * y_w, y_image=m * y_h * y_w)
    numbers, tail_words = _numbers(f, back, c.padding[2]), ()
    if c.epilogue is not None:
        values["tail"], tail_words = epilogue.build(c, t, len(WORDS) + len(numbers) + 4)
        tail_words = c.n, 0, 0, 0, *tail_words                         # the tail's batch axis first
    entry_address, text = entry(len(c.operands))
    flops = 2 * points * c.n * strips * tiles * m * depth
    moved = T.size * (c.n * (channels * x_h * x_w + m * y_h * y_w) + m * channels * taps)
    keeps = None if weight else Keeps(1, len(c.operands) + WORDS.index("kept"), packed * T.size + 64, ("winograd", f, back, c.padding[2] % 2, m, channels, group == 1))
    names = () if weight else tuple(name for name in CHANGES if _sums_alike(usual, _resized(usual[0], c.n * strips, name), c.n * strips, tiles, m, t))
    offered = choices.of_conv(c, names, build) if names and flops > choices.FLOPS else None
    return Launch(Code("winograd", entry_address, text), (*[values[x] for x in WORDS], *numbers, *tail_words), flops > PARALLEL_FLOPS,
                  scratch=scratch * T.size + 64, shared=shared * T.size + 64, bytes=moved, flops=flops, keeps=keeps, choices=offered)


def _products(multiplied: set[int], m: int, t: Tile) -> set[tuple[int, int]]:
    """(rows, vectors) of all tiles of products with so many rows."""
    heights = {height for rows in multiplied for panels in [-(-rows // t.rows)] for height in (rows // panels, -(-rows // panels))}
    return {(height, vectors) for height in heights for vectors in (t.vectors if m >= t.columns else 0, -(-(m % t.columns) // t.lanes)) if vectors}


def _resized(block: int, strips: int, choice: str) -> tuple[int, int]:
    block = min(max(int(block * CHANGES[choice]), 1), strips)
    return block, -(-strips // block)


def _sums_alike(usual: tuple[int, int], new: tuple[int, int], strips: int, tiles: int, m: int, t: Tile) -> bool:
    """Can blocks be of another size? One block alone adds up channels in pieces, and small tiles in turns."""
    if new == usual or min(usual[1], new[1]) == 1: return False
    sizes = {size for block, blocks in (usual, new) for size in _products({block * tiles, (strips - (blocks - 1) * block) * tiles}, m, t)}
    return len({chains(*size) for size in sizes}) == 1


def _numbers(f: Form, back: bool, padding: int) -> list[int]:
    """Which tap (row * taps + column) is where in a phase's weights: a forward product's phases hold every other tap, an input gradient's in opposite order."""
    n = len(f.down.weight[0])

    def tap(phase, i): return f.stride * (n - 1 - i) + (phase + padding) % f.stride if back else f.stride * i + phase
    out = []
    for down, across, i, j in itertools.product(range(f.stride), range(f.stride), range(n), range(n)):
        row, column = tap(down, i), tap(across, j)
        out.append(row * f.taps + column if max(row, column) < f.taps else f.taps ** 2)
    return out


def _blocks(strips: int, tiles: int, points: int, depth: int, m: int, weight: bool) -> tuple[int, int]:
    """(strips per block, blocks) with the least traffic beyond L2: every block reads all weights; of images and results that don't stay there everything
    passes twice. The same for any number of threads; many blocks are even in number, so that two can share them."""
    if weight: block = -(-strips // -(-strips // max(128 // tiles, 1)))
    else:
        value, weights = T.size * points * strips * tiles, T.size * points * depth * m
        again = weights // 4 if weights <= isa.caches()[1] // 2 else weights           # they stay in L2

        def traffic(block): return -(-strips // block) * again + (0 if _stays(block, tiles, points, depth, m) else 2 * value * (depth + m))
        # all in one block, if that is as good: then transformed weights never leave L2
        block = min(range(1, strips + 1), key=lambda n: (traffic(n) + (n < strips) * weights // 16, n))
        while block > 1 and -(-strips // block) > JOINT and -(-strips // block) % 2: block -= 1
    return block, -(-strips // block)


def _stays(block: int, tiles: int, points: int, depth: int, m: int) -> bool:
    """Does a block's image stay in L2, with the products of one panel of columns? Then one panel comes after the other, else all are multiplied point by point."""
    l2, weights = isa.caches()[1], T.size * points * depth * m
    room = min(l2 * 7 // 8 - weights, l2 * 3 // 8) if weights <= l2 // 2 else l2 * 2 // 3
    return T.size * points * block * tiles * (depth + min(m, tile(T).columns)) <= room
