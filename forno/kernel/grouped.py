"""Grouped convolutions of few channels each: the three products, a group's planes in the nearest cache.

Comes in: a `Conv` that `pays` takes. Goes out: a `Launch`. A band of a group's planes is **staged** as depthwise convolutions do it (depthwise.py): with its
padding, and for a stride sorted by residues, so that taps are constant distances and planes are lines. A group's weights are one matrix (rows: channels of
the result; `depth`: channels that are read times taps), and its product with the stage needs no copy of shifted images:

    result[row, q] = sum over k of weights[row, k] * stage[q + distance[k]]        q = row of pixels * pitch + column; columns beyond the result's are left behind

An input gradient with a stride falls apart in one such product per residue of its pixels, each with taps of its own, all from one stage; they are woven
together when they leave scratch. A weight gradient is dw[row, k] = sum over q of dy[row, q] * stage[q + distance[k]], its sums per lane kept over all images.
"""
from __future__ import annotations

import ctypes
import functools
import itertools
import math

from ..core import dtype as dt
from ..core.kernels import Conv, Launch
from ..core.kernels import Program as Code
from ..cpu import code, isa
from . import epilogue, pack
from .depthwise import clear, stage_image, write_stage
from .gemm import PARALLEL_FLOPS
from .images import Record, record_at
from .text import Val
from .tile import Int, Program, Tile, accumulator, entry, tile

# the driver's run-time words; behind them the PARTs, then their TERMs. x_: the images that are read, y_: what is left; rows: a group's channels
# that are left, planes: those that are read; grid_: pixels of a part (y's, but for a stride's input gradient)
WORDS = """driver table tail images groups planes rows panels height taller most bands band reach pitch plane stride insert pad_h pad_w bias
x_h x_w x_used y_h y_w weave grid_h grid_w across out_w stage line lines_at start_at places_at packed_at apart at_once w_group w_row ordered parts""".split()
PART = "depth at packed".split()               # how many terms a sum has, where they begin, where its weights are packed
TERM = "weight distance".split()               # of one term: where its weight lies in a row's, and where its pixels in the stage
PLACE = "stage whole segments count".split()   # of one vector of pixels: where it begins in the stage, whether it is stored whole, its SEGMENTs
SEGMENT = "out mask".split()                   # lanes that are side by side in the result
WIDEST = 6                                     # vectors of a tile: more hide nothing
BAND, TURN = 4, 2                              # how many times L1 a band takes, staged and summed, and the images of a weight gradient's turn
SHARES = 16                                    # into which a result is cut at least, where that leaves bands of 8 rows: for threads
PAD = 64                                       # elements behind the last panel that packing may overwrite


def rows_of_tile(t: Tile) -> int: return 8 if t.rows * t.vectors >= 24 else 4


def pays(c: Conv) -> bool:
    """Is it a convolution that `build` can do, faster than products of shifted panels? Those fill lanes with several images, but leave rows empty."""
    if c.stride[1] != c.stride[2] or c.size[0] != 1 or c.taps[0] != 1 or c.padding[0] or min(c.n, c.c, c.k, *c.size, *c.out) < 1: return False
    rows, planes = c.k // c.groups, c.c // c.groups
    if c.which == "input": rows, planes = planes, rows
    weight = c.which == "weight"
    return _few(c, rows, planes) and _lanes_in_use(c) >= (0.7 if rows <= (8 if weight else 4) else 0.8)


def _few(c: Conv, rows: int, planes: int) -> bool:
    """Are there so few channels that panels would be half empty, or would cost more to fill than they save? Pixels that lie apart are left one by one there."""
    most = max(rows, planes)
    if c.groups > 1: return most <= 32
    if (most <= 32 or c.which != "input" and planes <= 4 and rows <= 128) and math.prod(c.taps) > 1: return True
    return planes <= 128 and rows <= (64 if c.which == "input" and c.stride[1] > 1 else 8)


def _lanes_in_use(c: Conv) -> float:
    """The part of a line's lanes that are pixels of the result, if its planes are one band."""
    span, step = (c.taps[2] - 1) * c.dilation[2], c.stride[2]
    h, w = (-(-n // step) for n in c.size[1:]) if c.which == "input" else c.out[1:]
    lanes = tile(accumulator(c.dtype)).lanes
    return h * w / (-(-((h - 1) * (w + span // step) + w) // lanes) * lanes)


# ---- micro-kernels
@code.program("product")
def product_kernel(t: Tile, rows: int, vectors: int, stored: dt.dtype) -> str:
    """out[i, pixel] = start[i] + sum over k of weights[k, i] * stage[pixel + distance[k]], for the pixels of the vectors at `places`; rows lie `apart`."""
    p, T, L = Program(), t.acc, t.lanes
    with p.define("product", "ptr weights, ptr stage, ptr terms, i64 depth, ptr start, ptr places, ptr segments, ptr out, i64 apart", internal=False) as (
            weights, stage, terms, depth, start, places, segments, out, apart):
        to = [record_at(p, places, v, PLACE) for v in range(vectors)]
        pixels = [p.offset(stage, place["stage"], T) for place in to]
        sums = [[p.variable(p.splat(p.load(p.offset(start, i, T), T), L)) for _ in range(vectors)] for i in range(rows)]
        with p.loop(0, depth) as k:
            distance, column = record_at(p, terms, k, TERM)["distance"], p.offset(weights, k * rows, T)
            xs = [p.load(p.offset(at, distance, T), T, L) for at in pixels]
            for i, row in enumerate(sums):
                w = p.load(p.offset(column, i, T), T)
                for s, x in zip(row, xs): p.set(s, p.mad(w, x, p.get(s)))
        for v, place in enumerate(to):
            results, first = [p.cast(p.get(row[v]), stored) for row in sums], place["segments"]

            def leave(number, store):
                segment = record_at(p, segments, number, SEGMENT)
                for i, x in enumerate(results): store(x, p.offset(out, apart * i + segment["out"], stored), segment)

            def piecewise():
                with p.loop(first, first + place["count"]) as number:
                    leave(number, lambda x, at, segment: p.store_masked(x, at, p.mask_of(segment["mask"], L)))
            p.otherwise(place["whole"].ne(0), lambda: leave(first, lambda x, at, _: p.store(x, at)), piecewise)
    return p.module()


@code.program("dots")
def dots_kernel(t: Tile, rows: int, terms: int) -> str:
    """sums[i, k] += dy[i, q] * stage[q + distance[k]], lane by lane, over all q and `images` images."""
    p, T, L = Program(), t.acc, t.lanes
    with p.define("dots", "ptr dy, ptr stage, ptr terms, i64 line, i64 images, i64 apart, i64 count, ptr sums, i64 depth", internal=False) as (
            dy, stage, entries, line, images, apart, count, sums, depth):
        places = [[p.offset(sums, (depth * i + k) * L, T) for k in range(terms)] for i in range(rows)]
        totals = [[p.variable(p.load(at, T, L)) for at in row] for row in places]
        shifts = [record_at(p, entries, k, TERM)["distance"] for k in range(terms)]
        with p.loop(0, images) as image:
            ys, xs = [p.offset(dy, image * apart + line * i, T) for i in range(rows)], [p.offset(stage, image * apart + s, T) for s in shifts]
            with p.loop(0, count, L) as q:
                now = [p.load(p.offset(x, q, T), T, L) for x in xs]
                for y, row in zip(ys, totals):
                    y = p.load(p.offset(y, q, T), T, L)
                    for s, x in zip(row, now): p.set(s, p.mad(y, x, p.get(s)))
        for at, s in zip(itertools.chain(*places), itertools.chain(*totals)): p.store(p.get(s), at)
    return p.module()


class Kernels:
    """The table of one kind of micro-kernel: entry (rows - 1) * WIDEST + vectors - 1 is its kernel of that size, or null."""

    def __init__(self, t: Tile, stored: dt.dtype | None):
        self.tile, self.stored = t, stored
        self.table = (ctypes.c_void_p * (rows_of_tile(t) * WIDEST))()

    @property
    def address(self) -> int: return ctypes.addressof(self.table)

    def need(self, rows: int, vectors: int):
        i, size = (rows - 1) * WIDEST + vectors - 1, (self.tile, rows, vectors)
        if self.table[i] is None: self.table[i] = (dots_kernel(*size) if self.stored is None else product_kernel(*size, self.stored))[0]


@functools.cache
def kernels(acc: dt.dtype, stored: dt.dtype | None) -> Kernels:
    """Products that leave results as `stored`, or dots."""
    return Kernels(tile(acc), stored)


def _tiles(p: Program, w: Val, W: Record, panels: tuple, total: Int, write):
    """write(kernel, first row, rows, first column, columns) for the rows of `panels` (first, end) and `total` columns (vectors, or terms of a weight gradient),
    cut evenly."""
    pieces, table = p.ceil_div(total, W["most"]), p.read_pointer(w, WORDS.index("table"))
    with p.loop(*panels) as q, p.loop(0, pieces) as i:
        row, rows = _panel(p, W, q)
        lo, hi = p.share(total, pieces, i)
        write(p.read_pointer(table, (rows - 1) * WIDEST + (hi - lo - 1)), row, rows, lo, hi - lo)


def _panel(p: Program, W: Record, q: Int) -> tuple[Int, Int]:
    """First row and height of panel q: the first `taller` panels have one row more."""
    more = q < W["taller"]
    return q * W["height"] + p.pick(more, q, W["taller"]), W["height"] + p.pick(more, 1, 0)


def _begin_band(p: Program, t: Tile, W: Record, block: Val, number: Int) -> tuple[Int, Int]:
    """First row and height of a band. What a band before it left in rows that are padding now, or behind the last row, is cleared."""
    row = number * W["band"]
    rows, at = p.min(W["grid_h"] - row, W["band"]), W["pad_h"] - row * W["stride"]
    beyond = p.or_(p.or_(at > 0, W["reach"] - at > W["x_h"]), rows < W["band"])
    with p.if_(p.both(W["bands"] > 1, beyond)): clear(p, t, block, W["apart"])
    return row, rows


def _stage_planes(p: Program, stored: dt.dtype, t: Tile, W: Record, images: Val, image: Int, group: Int, block: Val, row: Int, begin: Int, end: Int):
    """One band of a group's planes begin..end. Meanwhile the same band of its next image is fetched: it lies too far away for the processor to expect it."""
    first, size = (image * W["groups"] + group) * W["planes"], W["x_h"] * W["x_w"]
    lo = p.min(p.max(row * W["stride"] - W["pad_h"], 0), W["x_h"])
    rows = p.min(W["x_h"] - lo, W["reach"])
    with p.loop(begin, end) as i:
        plane = p.offset(images, (first + i) * size, stored)
        p.run("fetch", p.offset(plane, _next_image(p, W, image, W["planes"]) * size + lo * W["x_w"], stored), rows * (W["x_w"] * stored.size))
        stage_image(p, W, plane, p.offset(block, (i - begin) * W["stage"], t.acc), row)


def _next_image(p: Program, W: Record, image: Int, channels: Int) -> Int:
    """How many channels further on the next image of this group begins, or the first one of the next group."""
    across = W["groups"] * channels
    return p.pick(image + 1 < W["images"], across, channels - (W["images"] - 1) * across)


def _write_fetch(p: Program):
    """fetch: asks for memory that is read soon, but not at once."""
    with p.define("fetch", "ptr at, i64 bytes") as (at, count), p.loop(0, count, 64) as i: p.prefetch(p.offset(at, i, dt.uint8), locality=2)


# ---- forward products and input gradients
def _write_pack(p: Program, stored: dt.dtype, t: Tile):
    """pack: a group's weights, part after part, panel after panel: [term][row]."""
    T = t.acc
    with p.define("pack", "ptr w, ptr weights, ptr packed") as (w, weights, packed):
        W, parts = Record(p, w, WORDS), p.offset(w, len(WORDS), dt.int64)
        with p.loop(0, W["parts"]) as number, p.loop(0, W["panels"]) as q:
            part, (row, rows) = record_at(p, parts, number, PART), _panel(p, W, q)
            depth, src = part["depth"], p.offset(weights, row * W["w_row"], stored)
            to, terms = p.offset(packed, part["packed"] + row * depth, T), p.offset(w, part["at"], dt.int64)

            def elements():
                with p.loop(0, depth) as k:
                    column, here = p.offset(src, record_at(p, terms, k, TERM)["weight"], stored), p.offset(to, k * rows, T)
                    with p.loop(0, rows) as i: p.store(p.cast(p.load(p.offset(column, i * W["w_row"], stored), stored), T), p.offset(here, i, T))
            p.otherwise(W["ordered"].ne(0), lambda: p.run("pack_rows", src, W["w_row"], p.int(1), to, rows, rows, depth), elements)


def _write_places(p: Program, t: Tile):
    """places: of the vectors of `rows` rows of pixels, and behind them their segments. Rows that end in a vector of their own are `across` vectors each; if that
    would leave too many lanes empty, vectors go on in the next row."""
    L = t.lanes
    with p.define("places", "ptr w, ptr places, ptr segments, i64 rows, i64 vectors") as (w, places, segments, rows, vectors):
        W, next_ = Record(p, w, WORDS), p.variable(p.int(0))
        pitch, across, out_w = W["pitch"], W["across"], W["out_w"]
        with p.loop(0, vectors) as v:
            row = v // p.max(across, 1)
            q, begin = p.pick(across.eq(0), v * L, row * pitch + (v - row * across) * L), p.int(p.get(next_))
            end = p.pick(across.eq(0), rows * pitch, (row + 1) * pitch)
            lane = p.variable(p.int(0))
            with p.loop_while() as again:
                here, first = p.int(p.get(next_)), p.int(p.get(lane))
                row, column = (q + first) // pitch, (q + first) % pitch
                n = p.max(p.min(p.min(out_w - column, L - first), end - q - first), 0)
                with p.if_(n > 0):
                    out, last = row * out_w + column - first, p.max(here - 1, begin)
                    same = p.both(here > begin, record_at(p, segments, last, SEGMENT)["out"].eq(out))
                    segment = record_at(p, segments, p.pick(same, last, here), SEGMENT)
                    segment["mask"] = p.pick(same, segment["mask"], 0) | ((p.int(1) << n) - 1) << first
                    segment["out"] = out
                    p.set(next_, p.pick(same, here, here + 1))
                p.set(lane, first + p.pick(n > 0, n, pitch - column))
                again(p.both(p.int(p.get(lane)) < L, q + p.get(lane) < end))
            place, count = record_at(p, places, v, PLACE), p.int(p.get(next_)) - begin
            place["stage"], place["segments"], place["count"] = q, begin, count
            place["whole"] = p.pick(p.both(count.eq(1), record_at(p, segments, begin, SEGMENT)["mask"].eq((1 << L) - 1)), 1, 0)


def _write_weave(p: Program, stored: dt.dtype, t: Tile):
    """weave: one row's lines (part after part `apart` elements further on) to the result's pixels from row `row` of parts on."""
    T, L = t.acc, t.lanes
    with p.define("weave", "ptr w, ptr lines, i64 apart, ptr y, i64 row, i64 rows") as (w, lines, apart, y, row, rows):
        W = Record(p, w, WORDS)
        pitch, y_w, weave, grid_w = W["pitch"], W["y_w"], W["weave"], W["grid_w"]

        def lines_of(a, j):
            """(first line of the parts of residue a's row j, where it goes)"""
            return p.offset(lines, a * weave * apart + j * pitch, T), p.offset(y, ((row + j) * weave + a) * y_w, stored)

        def each_row():
            with p.loop(0, weave) as a, p.loop(0, p.min(rows, p.ceil_div(p.max(W["y_h"] - a, 0), weave) - row)) as j: yield lines_of(a, j)

        def pairs():
            for src, to in each_row():
                with p.loop(0, grid_w, L) as q:
                    even, odd = (p.load(p.offset(src, apart * b + q, T), T, L) for b in (0, 1))
                    for k in (0, 1):
                        x = p.shuffle(even, odd, [i for n in range(k * L // 2, (k + 1) * L // 2) for i in (n, L + n)])
                        p.store_masked(p.cast(x, stored), p.offset(to, q * 2 + k * L, stored), p.mask(p.min(p.max(y_w - q * 2 - k * L, 0), L), L))

        def elements():
            for src, to in each_row():
                with p.loop(0, y_w) as i: p.store(p.cast(p.load(p.offset(src, i % weave * apart + i // weave, T), T), stored), p.offset(to, i, stored))
        p.otherwise(weave.eq(2), pairs, elements)


@code.program("grouped")
def image_driver(stored: dt.dtype) -> str:
    t = tile(accumulator(stored))
    T, L, p = t.acc, t.lanes, Program()
    write_stage(p, stored, t)
    _write_fetch(p)
    pack.write(p, "pack_rows", stored, t, False)
    _write_pack(p, stored, t)
    _write_places(p, t)
    _write_weave(p, stored, t)
    with p.define("grouped", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W, block, parts = Record(p, w, WORDS), p.read_pointer(ctx, 2), p.offset(w, len(WORDS), dt.int64)
        images, weights, result = (p.read_pointer(vals, p.read(words, i)) for i in range(3))
        bias, tail = p.read_pointer(vals, p.read(words, p.pick(W["bias"].ne(0), 3, 0))), p.read_pointer(w, WORDS.index("tail"))
        lines, start, places, packed = (p.offset(block, W[at], T) for at in ("lines_at", "start_at", "places_at", "packed_at"))
        m, line, pixels, there, planned = W["rows"], W["line"], W["y_h"] * W["y_w"], p.variable(p.int(-1)), p.variable(p.int(0))
        direct, across = W["weave"].eq(1), W["across"]
        clear(p, t, block, W["places_at"])
        lo, hi = p.mine(ctx, W["groups"] * W["images"] * W["bands"])
        with p.loop(lo, hi) as unit:
            number, image, group = unit % W["bands"], unit // W["bands"] % W["images"], unit // (W["bands"] * W["images"])
            with p.if_(p.int(p.get(there)).ne(group)):
                p.run("pack", w, p.offset(weights, group * W["w_group"], stored), packed)
                with p.if_(W["bias"].ne(0)), p.loop(0, m) as i:
                    p.store(p.cast(p.load(p.offset(bias, group * m + i, stored), stored), T), p.offset(start, i, T))
                p.set(there, group)
            y = p.offset(result, (image * W["groups"] + group) * (m * pixels), stored)
            row, rows = _begin_band(p, t, W, block, number)
            _stage_planes(p, stored, t, W, images, image, group, block, row, p.int(0), W["planes"])
            vectors = p.pick(across.eq(0), p.ceil_div((rows - 1) * W["pitch"] + W["grid_w"], L), rows * across)
            segments = p.offset(places, vectors * len(PLACE), dt.int64)
            with p.if_(p.int(p.get(planned)).ne(rows)):
                p.run("places", w, places, segments, rows, vectors)
                p.set(planned, rows)
            with p.loop(0, W["parts"]) as i:
                part = record_at(p, parts, i, PART)
                depth, terms, matrix = part["depth"], p.offset(w, part["at"], dt.int64), p.offset(packed, part["packed"], T)

                def multiply(kernel, first, height, column, _):
                    out = p.choose_pointer(direct, p.offset(y, first * pixels + row * W["y_w"], stored), p.offset(lines, (i * m + first) * line, T))
                    p.run(kernel, p.offset(matrix, first * depth, T), block, terms, depth, p.offset(start, first, T),
                          p.offset(places, column * len(PLACE), dt.int64), segments, out, p.pick(direct, pixels, line))
                _tiles(p, w, W, (0, W["panels"]), vectors, multiply)
            with p.if_(p.not_(direct)), p.loop(0, m) as i:
                p.run("weave", w, p.offset(lines, i * line, T), m * line, p.offset(y, i * pixels, stored), row, rows)
            with p.if_(W["tail"].ne(0)):
                first = row * W["y_w"]
                p.run(tail, vals, words, p.offset(y, first, stored), pixels, image, group * m, first, m, rows * W["y_w"])
    return p.module()


# ---- weight gradients
@code.program("grouped")
def weight_driver(stored: dt.dtype) -> str:
    """Threads share out the planes that are read, or the panels of rows of dy if there are more of those."""
    t = tile(accumulator(stored))
    T, L, p = t.acc, t.lanes, Program()
    write_stage(p, stored, t)
    _write_fetch(p)
    with p.define("grouped", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W, blocks = Record(p, w, WORDS), p.read_pointer(ctx, 2)
        dy, images, result = (p.read_pointer(vals, p.read(words, i)) for i in range(3))
        part, sums = record_at(p, p.offset(w, len(WORDS), dt.int64), p.int(0), PART), p.offset(blocks, W["packed_at"], T)
        m, line, planes, panels, all_terms, terms = W["rows"], W["line"], W["planes"], W["panels"], part["depth"], p.offset(w, part["at"], dt.int64)
        taps, pixels = all_terms // planes, W["y_h"] * W["y_w"]
        clear(p, t, blocks, W["packed_at"])
        by_planes = planes >= panels
        shares = p.pick(by_planes, planes, panels)
        lo, hi = p.mine(ctx, W["groups"] * shares)
        with p.loop(lo // shares, p.ceil_div(hi, shares)) as group:
            first, last = p.max(lo - group * shares, 0), p.min(hi - group * shares, shares)
            begin, end = p.pick(by_planes, first, 0), p.pick(by_planes, last, planes)
            first, last = p.pick(by_planes, 0, first), p.pick(by_planes, panels, last)
            rows_lo, rows_hi = _panel(p, W, first)[0], _panel(p, W, last)[0]
            depth = (end - begin) * taps
            clear(p, t, p.offset(sums, rows_lo * depth * L, T), (rows_hi - rows_lo) * depth * L)
            with p.loop(0, W["images"], W["at_once"]) as n0, p.loop(0, W["bands"]) as number:
                row, rows = _begin_band(p, t, W, blocks, number)
                count = p.min(W["images"] - n0, W["at_once"])
                with p.loop(0, count) as n:
                    block = p.offset(blocks, n * W["apart"], T)
                    _stage_planes(p, stored, t, W, images, n0 + n, group, block, row, begin, end)
                    channel, later = ((n0 + n) * W["groups"] + group) * m, _next_image(p, W, n0 + n, m) * pixels
                    with p.loop(rows_lo, rows_hi) as i:
                        at = (channel + i) * pixels + row * W["y_w"]
                        p.run("fetch", p.offset(dy, at + later, stored), rows * (W["y_w"] * stored.size))
                        p.run("stage", p.offset(dy, at, stored), p.offset(block, W["lines_at"] + i * line, T), 0, rows, 0, W["y_w"], W["y_w"], W["pitch"], 0, 1, 1, 0)

                def multiply(kernel, at, height, k, _):
                    p.run(kernel, p.offset(blocks, W["lines_at"] + at * line, T), blocks, p.offset(terms, k * len(TERM), dt.int64), line, count, W["apart"],
                          (rows - 1) * W["pitch"] + W["y_w"], p.offset(sums, (at * depth + k) * L, T), depth)
                _tiles(p, w, W, (first, last), depth, multiply)
            with p.loop(rows_lo, rows_hi) as i, p.loop(0, depth, L) as k:                      # lanes' sums, a square at a time
                lines = pack.square(p, [p.load(p.offset(sums, (i * depth + k + j) * L, T), T, L) for j in range(L)])
                to = p.offset(result, (group * m + i) * all_terms + begin * taps + k, stored)
                p.store_masked(p.cast(functools.reduce(p.add, lines), stored), to, p.mask(p.min(depth - k, L), L))
    return p.module()


# ---- a shape's numbers
def build(c: Conv) -> Launch:
    t, back, weight = tile(accumulator(c.dtype)), c.which == "input", c.which == "weight"
    taps, planes, m, s = math.prod(c.taps), c.c // c.groups, c.k // c.groups, c.stride[1]
    w_group, w_plane, w_row = m * planes * taps, taps, planes * taps
    if back: planes, m, w_plane, w_row = m, planes, w_row, w_plane
    (x_h, x_w), (y_h, y_w) = (c.out[1:], c.size[1:]) if back else (c.size[1:], c.out[1:])
    stride, weave = (1, s) if back else (s, 1)
    grid_h, grid_w = -(-y_h // weave), -(-y_w // weave)
    (pad_h, pad_w), parts = _residues(c) if back else (c.padding[1:], [[(a * c.dilation[1], b * c.dilation[2], a * c.taps[2] + b)
                                                                       for a in range(c.taps[1]) for b in range(c.taps[2])]])
    span_h, span_w = (max([tap[i] for tap_list in parts for tap in tap_list]) for i in (0, 1))
    pitch, slack = _pitch(grid_w, span_w, stride, pad_w, x_w), 3 * t.lanes
    direct = weave == 1 and not weight
    kept = 0 if direct else len(parts) * m                           # lines of sums (or of dy) beside the planes
    fixed, per_row = planes * stride ** 2 * (span_h // stride * pitch + slack) + kept * slack, (planes * stride ** 2 + kept) * pitch
    l1 = isa.caches()[0] // t.acc.size
    bands = max(-(-grid_h // max(min((BAND * l1 - fixed) // per_row, grid_h), 1)), 1 if weight else min(-(-SHARES // (c.n * c.groups)), grid_h // 8))
    band = -(-grid_h // bands)
    bands = -(-grid_h // band)
    reach = (band - 1) * stride + span_h + 1
    plane = -(-reach // stride) * pitch + slack
    stage, line = (-(-size // 16) * 16 for size in (stride * stride * plane, band * pitch + slack))
    lines_at = planes * stage
    apart = lines_at + kept * line
    at_once = max(min(TURN * l1 // apart, c.n), 1) if weight and bands == 1 else 1
    start_at = at_once * apart
    places_at = start_at + -(-m // 16) * 16
    heights = {band, grid_h - (bands - 1) * band}
    across = -(-y_w // t.lanes) if direct else 0
    def by_line(rows): return -(-((rows - 1) * pitch + grid_w) // t.lanes)
    if band * across > by_line(band): across = 0
    vectors = [rows * across or by_line(rows) for rows in heights]
    packed_at = places_at if weight else -(-(places_at + 8 // t.acc.size * max(vectors) * (len(PLACE) + len(SEGMENT) * (t.lanes // pitch + 2))) // 16) * 16
    height, taller, most = _shares(m, t)
    micro = kernels(t.acc, None if weight else c.dtype if direct else t.acc)
    totals = {n * taps for n in range(1, planes + 1)} if weight else vectors
    for rows, total in itertools.product({height, height + 1} if taller else {height}, totals):
        pieces = -(-total // most)
        for size in {total // pieces, -(-total // pieces)}: micro.need(rows, size)
    records, terms, packed = [], [], 0
    first = len(WORDS) + len(parts) * len(PART)
    for tap_list in parts:
        records += [planes * len(tap_list), first + len(terms), packed]
        packed += m * planes * len(tap_list)
        terms += [x for i in range(planes) for h, w, tap in tap_list
                  for x in (i * w_plane + tap, i * stage + (h % stride * stride + w % stride) * plane + h // stride * pitch + w // stride)]
    values = dict(driver=(weight_driver if weight else image_driver)(c.dtype)[0], table=micro.address, tail=0, images=c.n, groups=c.groups, planes=planes, rows=m,
                  panels=-(-m // rows_of_tile(t)), height=height, taller=taller, most=most, bands=bands, band=band, reach=reach, pitch=pitch, plane=plane, stride=stride,
                  insert=1, pad_h=pad_h, pad_w=pad_w, bias=int(c.bias), x_h=x_h, x_w=x_w, x_used=min(x_w, stride * pitch - pad_w), y_h=y_h, y_w=y_w, weave=weave,
                  grid_h=grid_h, grid_w=grid_w, across=across, out_w=y_w if direct else pitch, stage=stage, line=line, lines_at=lines_at, start_at=start_at,
                  places_at=places_at, packed_at=packed_at, apart=apart, at_once=at_once,
                  w_group=w_group, w_row=w_row, ordered=int(not back), parts=len(parts))
    after = records + terms
    if c.epilogue is not None:
        after += c.n, 0, 0, 0                  # the tail's batch axis
        values["tail"], tail_words = epilogue.build(c, t, len(WORDS) + len(after))
        after += tail_words
    address, text = entry(len(c.operands))
    flops = 2 * c.n * c.k * (c.c // c.groups) * taps * math.prod(c.out)
    moved = c.dtype.size * (c.n * (c.c * x_h * x_w + c.k * y_h * y_w) + c.groups * w_group)
    scratch = (packed_at + ((w_group + t.lanes) * t.lanes if weight else packed) + PAD) * t.acc.size
    words = (*(values[x] for x in WORDS), *after)
    return Launch(Code("grouped", address, text), words, flops > PARALLEL_FLOPS, scratch=scratch + 64, bytes=moved, flops=flops)


def _pitch(grid_w: int, span_w: int, stride: int, pad_w: int, x_w: int) -> int:
    """The length of a stage's rows: what is read behind one is the next one's padding, where there is any."""
    read = (grid_w - 1) * stride + span_w + 1
    return max(-(-max(read - pad_w, min(read, pad_w + x_w)) // stride), grid_w)


def _shares(m: int, t: Tile) -> tuple[int, int, int]:
    """How high panels of m rows are, how many of them are one higher, and how many vectors beside those registers hold."""
    panels = -(-m // rows_of_tile(t))
    height, taller = divmod(m, panels)
    registers = 32 if t.rows * t.vectors >= 24 else 16
    return height, taller, min((registers - 1) // (height + (taller > 0) + 1), WIDEST)


def _residues(c: Conv) -> tuple[tuple[int, int], list[list[tuple[int, int, int]]]]:
    """The input gradient's padding, and per residue of a pixel its taps: pixel i = residue + j * stride meets tap r at dy's pixel
    j + (residue + padding - r * dilation) / stride."""
    s, parts = c.stride[1], []
    for residue in itertools.product(range(s), repeat=2):
        taps = []
        for number, at in enumerate(itertools.product(*map(range, c.taps[1:]))):
            shifts = [a + pad - r * d for a, pad, r, d in zip(residue, c.padding[1:], at, c.dilation[1:])]
            if not any(x % s for x in shifts): taps.append((*(x // s for x in shifts), number))
        parts.append(taps)
    padding = tuple([max(0, *[-tap[i] for taps in parts for tap in taps]) for i in (0, 1)])
    return padding, [[(h + padding[0], w + padding[1], number) for h, w, number in taps] for taps in parts]
