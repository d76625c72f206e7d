"""Convolutions of 3 taps per axis with a quarter of the products: Winograd's minimal filtering.

Four pixels of a row that are sums over three taps take six products instead of twelve: of transformed images with transformed weights,

    y = A' [(G w) * (B' x)]            in two dimensions y = A' [(G w G') * (B' x B)] A, 36 products for 16 pixels of 9 taps each

so a convolution becomes one matrix product over channels per **point** (36), between transforms. Comes in: a `Conv` that `pays`. Goes out: a
`Launch`. Forward products and input gradients (the same with turned weights) cut images into strips of tiles, and transform, multiply and transform
back a few strips at a time in scratch. The weight gradient is the transpose, dw = G' [sum over tiles of (A y) * (B' x)] G; its transforms are shared by
all threads. Images and weights pass through squares in registers, so that transforms work on vectors of channels whatever the images' width.

Images of two pixels (a residual network's last stages) have a rule of their own, three products for two pixels and no padding.
The interpolation points 0, ±5/8, ±3/2 and infinity keep errors three times below those of the usual 0, ±1, ±2.
"""
from __future__ import annotations

import functools
import math
from typing import NamedTuple

from ..core import dtype as dt
from ..core.flags import flags
from ..core.kernels import Conv, Keeps, Launch
from ..core.kernels import Program as Code
from ..cpu import code, isa
from . import pack
from .gemm import PARALLEL_FLOPS, grid
from .images import Record, meet
from .text import Val
from .tile import Int, Program, Tile, entry, kept_memory, kernel_of, micro, tile

T = dt.float32
TAPS = 9


# the driver's run-time words: sizes; where scratch holds what (in elements); distances between tiles and points in it; the images that are read and left
WORDS = """driver micro m channels images points blocks block strips tiles w_m w_channel turned bias kept
x_table y_table x_stage y_stage v_at m_at ld_v ld_m point_v point_m point_u
x_h x_w x_top x_first x_pitch x_channel x_image y_h y_w y_pitch y_channel y_image""".split()


class Rule(NamedTuple):
    """One axis: `points` products make `outputs` pixels from `inputs` pixels. image = B' (points × inputs), weight = G (points × 3), result = A' (outputs × points)."""
    image: tuple
    weight: tuple
    result: tuple

    @property
    def inputs(self): return len(self.image[0])

    @property
    def outputs(self): return len(self.result)

    @property
    def points(self): return len(self.image)


def _toom() -> Rule:
    """Products of polynomials at five points and at infinity, transposed."""
    at = (0.0, 0.625, -0.625, 1.5, -1.5)

    def polynomial(roots):                     # its coefficients, the constant first
        out = [1.0]
        for r in roots: out = [a - r * b for a, b in zip([0.0, *out], [*out, 0.0])]
        return out
    others = [[b for b in at if b != a] for a in at]
    image = [[*polynomial(roots), 0.0] for roots in others] + [polynomial(at)]
    weight = [[a ** k / math.prod(a - b for b in roots) for k in range(3)] for a, roots in zip(at, others)] + [[0.0, 0.0, 1.0]]
    result = [[*(a ** k for a in at), float(k == 3)] for k in range(4)]
    return Rule(*(tuple(map(tuple, m)) for m in (image, weight, result)))


FOUR = _toom()
TWO = Rule(((1, 1), (0, 1), (1, 0)), ((0, 1, 0), (0, -1, 1), (1, -1, 0)), ((1, 1, 0), (1, 0, 1)))      # both neighbours are padding


def transposed(matrix): return tuple(zip(*matrix))


# ---- what a convolution is made of
class Axis(NamedTuple):
    rule: Rule
    tiles: int
    shift: int                                 # of the first tile's first input


def axis(size: int, out: int, padding: int) -> Axis:
    if size == out == 2: return Axis(TWO, 1, 0)
    return Axis(FOUR, -(-out // 4), -padding)


def axes(c: Conv) -> tuple[Axis, Axis]:
    """Of rows and columns of the tiles that are read; the input gradient reads dy, with the padding that makes it dx's size."""
    if c.which == "input": return tuple(axis(o, s, 2 - p) for s, o, p in zip(c.size[1:], c.out[1:], c.padding[1:]))
    return tuple(axis(s, o, p) for s, o, p in zip(c.size[1:], c.out[1:], c.padding[1:]))


def pays(c: Conv) -> bool:
    """Is it such a convolution, and are transforms cheaper than the products they save?"""
    if not flags.WINOGRAD or c.dtype is not T or c.taps != (1, 3, 3) or c.stride != (1, 1, 1) or c.dilation != (1, 1, 1) or c.groups != 1: return False
    if c.size[0] != 1 or c.padding[0] or max(c.padding) > 2 or min(c.n, *c.size, *c.out) < 1 or min(c.c, c.k) < 12: return False
    h, w = axes(c)
    points, tiles = h.rule.points * w.rule.points, c.n * h.tiles * w.tiles
    direct = c.n * math.prod(c.size if c.which == "input" else c.out) * TAPS * c.c * c.k
    # a transformed value costs what twenty products do, a transformed weight the way to a cache and back: as much, and twice that if none holds them all
    far = T.size * points * c.c * c.k > isa.caches()[2] // 2
    ours = points * tiles * (c.c * c.k + 20 * (c.c + c.k)) + points * c.c * c.k * (45 if far else 16)
    return ours < direct


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


def _write_take(p: Program, name: str, t: Tile, rows, columns):
    """A strip of up to `lanes` channels, rows from `top` on: through squares to a stage [row][column][channel], from there, transformed, to out[point][tile]."""
    L, height, width_in = t.lanes, len(rows[0]), len(columns[0])
    with p.define(name, "ptr src, i64 channel, i64 valid, i64 top, i64 height, i64 width, i64 pitch, i64 step, i64 tiles, ptr table, ptr stage, ptr out, i64 ld, i64 point") as (
            src, channel, valid, top, high, width, pitch, step, tiles, table, stage, out, ld, point):
        lo, hi = p.max(top, 0), p.min(top + height, high)
        zero, pixels, skipped = p.const(0, T, L), (hi - lo) * width, (lo - top) * width
        lines = [p.offset(src, p.min(valid - 1, i) * channel + lo * width, T) for i in range(L)]
        with p.loop(0, pixels, L) as q:
            mask = p.mask(p.min(pixels - q, L), L)
            for i, x in enumerate(pack.square(p, [p.load_masked(p.offset(line, q, T), T, mask) for line in lines])):
                p.store(x, p.offset(stage, p.read(table, skipped + q + i) * L, T))
        for a, b in ((0, lo - top), (hi - top, height)):
            with p.loop(p.int(a) * pitch, p.int(b) * pitch) as i: p.store(zero, p.offset(stage, i * L, T))
        with p.loop(0, tiles) as tile_:
            at = p.offset(stage, tile_ * step * L, T)
            xs = [[p.load(p.offset(at, (pitch * i + j) * L, T), T, L) for j in range(width_in)] for i in range(height)]
            to = p.offset(out, tile_ * ld, T)
            for i, line in enumerate(both(p, rows, columns, xs)):
                for j, x in enumerate(line): p.store(x, p.offset(to, point * (i * len(columns) + j), T))


def _write_give(p: Program, t: Tile, rows, columns):
    """give: the opposite: in[point][tile], transformed, plus bias, to a stage, through squares to `valid` channels of a strip of the result."""
    L, across = t.lanes, len(columns)
    with p.define("give", "ptr src, i64 ld, i64 point, i64 tiles, ptr bias, i64 biased, ptr table, ptr stage, i64 pitch, ptr dst, i64 channel, i64 valid, i64 pixels") as (
            src, ld, point, tiles, bias, biased, table, stage, pitch, dst, channel, valid, pixels):
        more = p.load_masked(bias, T, p.mask(biased, L))
        with p.loop(0, tiles) as tile_:
            at, to = p.offset(src, tile_ * ld, T), p.offset(stage, tile_ * (across * L), T)
            xs = [[p.load(p.offset(at, point * (i * len(columns[0]) + j), T), T, L) for j in range(len(columns[0]))] for i in range(len(rows[0]))]
            for i, line in enumerate(both(p, rows, columns, xs)):
                for j, x in enumerate(line): p.store(p.add(x, more), p.offset(to, (pitch * i + j) * L, T))
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
def _write_weights(p: Program, t: Tile, down: Rule, across: Rule):
    """weights: this thread's share of the transformed weights, panels [point][column panel][channel][column]."""
    L = t.lanes
    with p.define("weights", "ptr ctx, ptr w, ptr weights, ptr packed") as (ctx, w, weights, packed):
        W = Record(p, w, WORDS)
        m, channels, w_m, w_channel = W["m"], W["channels"], W["w_m"], W["w_channel"]
        start, step, buffer = p.pick(W["turned"].ne(0), TAPS - 1, 0), p.pick(W["turned"].ne(0), -1, 1), p.alloca(T, L, TAPS)
        lo, hi = p.share(p.ceil_div(m, L) * channels, p.read(ctx, 1), p.read(ctx, 0))
        with p.loop(lo, hi) as n:
            b, c = n // channels, n % channels
            lines = [p.offset(weights, p.min(b * L + i, m - 1) * w_m + c * w_channel, T) for i in range(L)]
            for first in range(0, TAPS, L):
                mask = p.mask(p.int(min(TAPS - first, L)), L)
                for i, x in enumerate(pack.square(p, [p.load_masked(p.offset(line, first, T), T, mask) for line in lines])[:TAPS - first]):
                    p.store(x, p.offset(buffer, (first + i) * L, T))
            xs = [[p.load(p.offset(buffer, (start + step * (3 * i + j)) * L, T), T, L) for j in range(3)] for i in range(3)]
            to = p.offset(packed, (b // t.vectors * channels + c) * t.columns + b % t.vectors * L, T)
            for i, line in enumerate(both(p, down.weight, across.weight, xs)):
                for j, x in enumerate(line): p.store(x, p.offset(to, W["point_u"] * (i * across.points + j), T))


def _prepare(p: Program, W: Record, private: Val, down: Rule, across: Rule, t: Tile, result_rows: int):
    """Tables and stages of one thread."""
    x_table, y_table = (p.offset(private, W[x], T) for x in ("x_table", "y_table"))
    x_stage, y_stage = (p.offset(private, W[x], T) for x in ("x_stage", "y_stage"))
    p.run("table", x_table, down.inputs, W["x_w"], W["x_pitch"], W["x_first"], t.lanes)
    p.run("table", y_table, result_rows, W["y_w"], W["y_pitch"], 0, t.lanes)
    for stage, size in ((x_stage, W["x_pitch"] * down.inputs), (y_stage, W["y_pitch"] * result_rows)):
        with p.loop(0, size) as i: p.store(p.const(0, T, t.lanes), p.offset(stage, i * t.lanes, T))
    return x_table, y_table, x_stage, y_stage


@functools.cache
def image_driver(down: Rule, across: Rule) -> tuple[int, str]:
    t = tile(T)
    L, NR, p = t.lanes, t.columns, Program()
    _write_table(p)
    _write_take(p, "take", t, down.image, across.image)
    _write_give(p, t, down.result, across.result)
    _write_weights(p, t, down, across)
    with p.define("winograd", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W, table = Record(p, w, WORDS), p.read_pointer(w, WORDS.index("micro"))
        m, channels, strips, tiles, block = (W[x] for x in ("m", "channels", "strips", "tiles", "block"))
        ld_v, ld_m, point_v, point_m, point_u = (W[x] for x in ("ld_v", "ld_m", "point_v", "point_m", "point_u"))
        kept, private = kept_memory(p, W["kept"], vals), p.read_pointer(ctx, 2)
        packed = p.choose_pointer(kept.given, kept.address, p.read_pointer(ctx, 3))
        x, weights, y = (p.read_pointer(vals, p.read(words, i)) for i in range(3))
        has_bias = W["bias"].ne(0)
        bias = p.read_pointer(vals, p.read(words, p.pick(has_bias, 3, 0)))
        with p.if_(kept.empty): p.run("weights", ctx, w, weights, packed)
        x_table, y_table, x_stage, y_stage = _prepare(p, W, private, down, across, t, down.outputs)
        v_at, m_at = p.offset(private, W["v_at"], T), p.offset(private, W["m_at"], T)
        _, (b0, b1), (j0, j1) = grid(p, ctx, p.int(1), W["blocks"], p.ceil_div(m, NR))
        with p.if_(kept.empty): meet(p, ctx)
        with p.loop(b0, b1) as number:
            first = number * block
            count = p.min(block, W["images"] * strips - first)
            with p.loop(0, count) as s, p.loop(0, p.ceil_div(channels, L)) as b:
                image, row = (first + s) // strips, (first + s) % strips
                p.run("take", p.offset(x, image * W["x_image"] + b * L * W["x_channel"], T), W["x_channel"], p.min(channels - b * L, L),
                      row * down.outputs + W["x_top"], W["x_h"], W["x_w"], W["x_pitch"], across.outputs, tiles, x_table, x_stage,
                      p.offset(v_at, s * tiles * ld_v + b * L, T), ld_v, point_v)
            panels = p.ceil_div(count * tiles, t.rows)
            height, taller = count * tiles // panels, count * tiles % panels
            with p.loop(0, W["points"]) as point, p.loop(j0, j1) as j, p.loop(0, panels) as q:
                at, high = q * height + p.min(q, taller), height + p.pick(q < taller, 1, 0)
                kernel = kernel_of(p, t, table, high, p.ceil_div(p.min(m - j * NR, NR), L), 1)
                p.run(kernel, p.offset(v_at, point * point_v + at * ld_v, T), p.offset(packed, point * point_u + j * channels * NR, T),
                      p.offset(m_at, point * point_m + at * ld_m + (j - j0) * NR, T), channels, NR, ld_m, 0, ld_v, 1)
            with p.loop(0, count) as s, p.loop(j0 * t.vectors, p.min(j1 * t.vectors, p.ceil_div(m, L))) as b:
                image, row = (first + s) // strips, (first + s) % strips
                valid = p.min(m - b * L, L)
                p.run("give", p.offset(m_at, s * tiles * ld_m + (b - j0 * t.vectors) * L, T), ld_m, point_m, tiles,
                      p.offset(bias, b * L, T), p.pick(has_bias, valid, 0), y_table, y_stage, W["y_pitch"],
                      p.offset(y, image * W["y_image"] + b * L * W["y_channel"] + row * down.outputs * W["y_w"], T), W["y_channel"], valid,
                      p.min(W["y_h"] - row * down.outputs, down.outputs) * W["y_w"])
    text = p.module()
    return code.load(text, "winograd", 1), text


# ---- weight gradients
@functools.cache
def weight_driver(down: Rule, across: Rule) -> tuple[int, str]:
    t = tile(T)
    L, NR, p = t.lanes, t.columns, Program()
    _write_table(p)
    _write_take(p, "take_x", t, down.image, across.image)
    _write_take(p, "take_y", t, transposed(down.result), transposed(across.result))
    with p.define("winograd", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W, table = Record(p, w, WORDS), p.read_pointer(w, WORDS.index("micro"))
        m, channels, strips, tiles, block = (W[x] for x in ("m", "channels", "strips", "tiles", "block"))
        ld_v, ld_m, point_v, point_m, point_u = (W[x] for x in ("ld_v", "ld_m", "point_v", "point_m", "point_u"))
        tid, nt, shared, private = p.read(ctx, 0), p.read(ctx, 1), p.read_pointer(ctx, 3), p.read_pointer(ctx, 2)
        dy, x, dw = (p.read_pointer(vals, p.read(words, i)) for i in range(3))
        x_table, y_table, x_stage, y_stage = _prepare(p, W, private, down, across, t, down.outputs)
        v_at, y_at, sums = p.offset(shared, W["v_at"], T), p.offset(shared, W["m_at"], T), shared
        of_x, of_y, panels = p.ceil_div(channels, L), p.ceil_div(m, L), p.ceil_div(channels, t.rows)
        height, taller = channels // panels, channels % panels
        with p.loop(0, W["blocks"]) as number:
            first = number * block
            count = p.min(block, W["images"] * strips - first)
            lo, hi = p.share(count * (of_x + of_y), nt, tid)
            with p.loop(lo, hi) as i:
                s, b = i // (of_x + of_y), i % (of_x + of_y)
                image, row = (first + s) // strips, (first + s) % strips

                def take_x():
                    p.run("take_x", p.offset(x, image * W["x_image"] + b * L * W["x_channel"], T), W["x_channel"], p.min(channels - b * L, L),
                          row * down.outputs + W["x_top"], W["x_h"], W["x_w"], W["x_pitch"], across.outputs, tiles, x_table, x_stage,
                          p.offset(v_at, s * tiles * ld_v + b * L, T), ld_v, point_v)

                def take_y():
                    k = (b - of_x) * L
                    p.run("take_y", p.offset(dy, image * W["y_image"] + k * W["y_channel"], T), W["y_channel"], p.min(m - k, L),
                          row * down.outputs, W["y_h"], W["y_w"], W["y_pitch"], across.outputs, tiles, y_table, y_stage,
                          p.offset(y_at, s * tiles * ld_m + k, T), ld_m, point_m)
                p.otherwise(b < of_x, take_x, take_y)
            meet(p, ctx)
            lo, hi = p.share(W["points"] * panels, nt, tid)
            with p.loop(lo, hi) as i:
                point, q = i // panels, i % panels
                at, high = q * height + p.min(q, taller), height + p.pick(q < taller, 1, 0)
                with p.loop(0, p.ceil_div(m, NR)) as j:
                    kernel = kernel_of(p, t, table, high, p.ceil_div(p.min(m - j * NR, NR), L), 1)
                    p.run(kernel, p.offset(v_at, point * point_v + at, T), p.offset(y_at, point * point_m + j * NR, T),
                          p.offset(sums, point * point_u + at * ld_m + j * NR, T), count * tiles, ld_m, ld_m, p.min(number, 1), 1, ld_v)
            meet(p, ctx)
        lo, hi = p.share(of_x * of_y, nt, tid)
        with p.loop(lo, hi) as i:
            c0, k0 = i % of_x * L, i // of_x * L
            count = p.min(channels - c0, L)
            with p.loop(0, count) as c:
                at = p.offset(sums, (c0 + c) * ld_m + k0, T)
                xs = [[p.load(p.offset(at, point_u * (i * across.points + j), T), T, L) for j in range(across.points)] for i in range(down.points)]
                for i, line in enumerate(both(p, transposed(down.weight), transposed(across.weight), xs)):
                    for j, g in enumerate(line): p.store(g, p.offset(x_stage, (c * TAPS + 3 * i + j) * L, T))
            _leave(p, t, count * TAPS, lambda i: p.offset(x_stage, i * L, T), p.offset(dw, (k0 * channels + c0) * TAPS, T), channels * TAPS, p.min(m - k0, L))
    text = p.module()
    return code.load(text, "winograd", 1), text


# ---- a shape's numbers
def build(c: Conv) -> Launch:
    t, (down, across) = tile(T), axes(c)
    L, weight = t.lanes, c.which == "weight"
    (x_h, x_w), (y_h, y_w) = (c.out[1:], c.size[1:]) if c.which == "input" else (c.size[1:], c.out[1:])
    m, channels = (c.c, c.k) if c.which == "input" else (c.k, c.c)
    points, strips, tiles = down.rule.points * across.rule.points, down.tiles, across.tiles
    x_pitch, y_pitch = (tiles - 1) * across.rule.outputs + across.rule.inputs, tiles * across.rule.outputs
    ld_v, ld_m = (-(-a // L) * L + 16 for a in (channels, m))          # never a power of two apart
    block, blocks = _blocks(c.n * strips, tiles, points, channels, m, weight)
    at, places = 0, {}

    def place(name, size):
        nonlocal at
        places[name], at = at, at + -(-size // 16) * 16
    x_pixels, y_pixels = x_pitch * down.rule.inputs + 1, y_pitch * down.rule.outputs + 1
    place("x_table", 2 * (down.rule.inputs * x_w + L))
    place("y_table", 2 * (down.rule.outputs * y_w + L))
    place("x_stage", max(x_pixels, TAPS * L if weight else 0) * L)
    place("y_stage", y_pixels * L)
    point_v, point_m = (block * tiles * ld + 16 for ld in (ld_v, ld_m))
    if weight:
        point_u = channels * ld_m + 16
        scratch, at = at, points * point_u + t.columns
    else: point_u = -(-m // t.columns) * t.columns * channels + 16
    place("v_at", points * point_v + 16)
    place("m_at", points * point_m + t.columns)
    shared, scratch = (at, scratch) if weight else (points * point_u + 16, at)
    kernels, wide = micro(T), {t.vectors if m >= t.columns else 0, -(-(m % t.columns) // L)} - {0}
    for rows in {channels} if weight else {block * tiles, (c.n * strips - (blocks - 1) * block) * tiles}:
        panels = -(-rows // t.rows)
        for height in {rows // panels, -(-rows // panels)}:
            for vectors in wide: kernels.need(height, vectors, direct=True)
    address, _ = (weight_driver if weight else image_driver)(down.rule, across.rule)
    values = dict(places, driver=address, micro=kernels.address, m=m, channels=channels, images=c.n, points=points, blocks=blocks, block=block,
                  strips=strips, tiles=tiles, w_m=TAPS if c.which == "input" else channels * TAPS, w_channel=m * TAPS if c.which == "input" else TAPS,
                  turned=int(c.which == "input"), bias=int(c.bias), kept=-1, ld_v=ld_v, ld_m=ld_m, point_v=point_v, point_m=point_m, point_u=point_u,
                  x_h=x_h, x_w=x_w, x_top=down.shift, x_first=-across.shift, x_pitch=x_pitch, x_channel=x_h * x_w, x_image=channels * x_h * x_w,
                  y_h=y_h, y_w=y_w, y_pitch=y_pitch, y_channel=y_h * y_w, y_image=m * y_h * y_w)
    entry_address, text = entry(len(c.operands))
    flops = 2 * points * c.n * strips * tiles * m * channels
    moved = T.size * (c.n * (channels * x_h * x_w + m * y_h * y_w) + m * channels * TAPS)
    keeps = None if weight else Keeps(1, len(c.operands) + WORDS.index("kept"), shared * T.size + 64, ("winograd", c.which, down.rule, across.rule, m, channels))
    return Launch(Code("winograd", entry_address, text), tuple([values[x] for x in WORDS]), flops > PARALLEL_FLOPS,
                  scratch=scratch * T.size + 64, shared=shared * T.size + 64, bytes=moved, flops=flops, keeps=keeps)


def _blocks(strips: int, tiles: int, points: int, channels: int, m: int, weight: bool) -> tuple[int, int]:
    """(strips per block, blocks): transformed images of a block stay in L2, unless reading the transformed weights again would cost more. The same for
    any number of threads, and even, so that two can share them."""
    l2 = isa.caches()[1]
    kept = l2 * 3 // 8 // (T.size * points * (channels + m))
    wanted = 128 if weight else max(kept, 14) if T.size * points * channels * m <= l2 // 2 else max(kept, min(channels * m // (channels + m), 128))
    blocks = -(-strips // max(wanted // tiles, 1))
    if blocks % 2 and not weight and blocks < strips: blocks += 1
    block = -(-strips // blocks)
    return block, -(-strips // block)
