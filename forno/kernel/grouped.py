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
x_h x_w x_used y_h y_w weave grid_h grid_w stage line lines_at start_at packed_at apart at_once w_group w_row ordered parts""".split()
PART = "depth at packed".split()               # how many terms a sum has, where they begin, where its weights are packed
TERM = "weight distance".split()               # of one term: where its weight lies in a row's, and where its pixels in the stage
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
    if most <= 32 and math.prod(c.taps) > 1: return True
    return planes <= 128 and rows <= (64 if c.which == "input" and c.stride[1] > 1 else 8)


def _lanes_in_use(c: Conv) -> float:
    """The part of a line's lanes that are pixels of the result, if its planes are one band."""
    span, step = (c.taps[2] - 1) * c.dilation[2], c.stride[2]
    h, w = (-(-n // step) for n in c.size[1:]) if c.which == "input" else c.out[1:]
    lanes = tile(accumulator(c.dtype)).lanes
    return h * w / (-(-((h - 1) * (w + span // step) + w) // lanes) * lanes)


# ---- micro-kernels
@code.program("product")
def product_kernel(t: Tile, rows: int, vectors: int) -> str:
    """out[i, v] = start[i] + sum over k of weights[k, i] * stage[v + distance[k]]."""
    p, T, L = Program(), t.acc, t.lanes
    with p.define("product", "ptr weights, ptr stage, ptr terms, i64 depth, ptr start, ptr out, i64 line", internal=False) as (weights, stage, terms, depth, start, out, line):
        sums = [[p.variable(p.splat(p.load(p.offset(start, i, T), T), L)) for _ in range(vectors)] for i in range(rows)]
        with p.loop(0, depth) as k:
            here, column = p.offset(stage, record_at(p, terms, k, TERM)["distance"], T), p.offset(weights, k * rows, T)
            xs = [p.load(p.offset(here, v * L, T), T, L) for v in range(vectors)]
            for i, row in enumerate(sums):
                w = p.load(p.offset(column, i, T), T)
                for s, x in zip(row, xs): p.set(s, p.mad(w, x, p.get(s)))
        for i, row in enumerate(sums):
            for v, s in enumerate(row): p.store(p.get(s), p.offset(out, line * i + v * L, T))
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

    def __init__(self, t: Tile, weight: bool):
        self.tile, self.kernel = t, dots_kernel if weight else product_kernel
        self.table = (ctypes.c_void_p * (rows_of_tile(t) * WIDEST))()

    @property
    def address(self) -> int: return ctypes.addressof(self.table)

    def need(self, rows: int, vectors: int):
        i = (rows - 1) * WIDEST + vectors - 1
        if self.table[i] is None: self.table[i] = self.kernel(self.tile, rows, vectors)[0]


@functools.cache
def kernels(acc: dt.dtype, weight: bool) -> Kernels: return Kernels(tile(acc), weight)


def _tiles(p: Program, w: Val, W: Record, total: Int, write):
    """write(kernel, first row, rows, first column, columns) for a group's rows and `total` columns (vectors, or terms of a weight gradient), cut evenly."""
    pieces, table = p.ceil_div(total, W["most"]), p.read_pointer(w, WORDS.index("table"))
    with p.loop(0, W["panels"]) as q, p.loop(0, pieces) as i:
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


def _write_leave(p: Program, stored: dt.dtype, t: Tile):
    """leave: one row's lines (part after part `apart` elements further on) to the result's pixels from row `row` of parts on."""
    T, L = t.acc, t.lanes
    with p.define("leave", "ptr w, ptr lines, i64 apart, ptr y, i64 row, i64 rows") as (w, lines, apart, y, row, rows):
        W = Record(p, w, WORDS)
        pitch, y_w, weave, grid_w = W["pitch"], W["y_w"], W["weave"], W["grid_w"]

        def straight():
            whole = y_w // L * L
            mask = p.mask(y_w - whole, L)
            with p.loop(0, rows) as j:
                src, to = p.offset(lines, j * pitch, T), p.offset(y, (row + j) * y_w, stored)
                with p.loop(0, whole, L) as q: p.store(p.cast(p.load(p.offset(src, q, T), T, L), stored), p.offset(to, q, stored))
                with p.if_(y_w > whole): p.store_masked(p.cast(p.load(p.offset(src, whole, T), T, L), stored), p.offset(to, whole, stored), mask)

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
        p.otherwise(weave.eq(1), straight, lambda: p.otherwise(weave.eq(2), pairs, elements))


@code.program("grouped")
def image_driver(stored: dt.dtype) -> str:
    t = tile(accumulator(stored))
    T, L, p = t.acc, t.lanes, Program()
    write_stage(p, stored, t)
    _write_fetch(p)
    pack.write(p, "pack_rows", stored, t, False)
    _write_pack(p, stored, t)
    _write_leave(p, stored, t)
    with p.define("grouped", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W, block, parts = Record(p, w, WORDS), p.read_pointer(ctx, 2), p.offset(w, len(WORDS), dt.int64)
        images, weights, result = (p.read_pointer(vals, p.read(words, i)) for i in range(3))
        bias, tail = p.read_pointer(vals, p.read(words, p.pick(W["bias"].ne(0), 3, 0))), p.read_pointer(w, WORDS.index("tail"))
        lines, start, packed = (p.offset(block, W[at], T) for at in ("lines_at", "start_at", "packed_at"))
        m, line, pixels, there = W["rows"], W["line"], W["y_h"] * W["y_w"], p.variable(p.int(-1))
        clear(p, t, block, W["packed_at"])
        lo, hi = p.share(W["groups"] * W["images"] * W["bands"], p.read(ctx, 1), p.read(ctx, 0))
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
            vectors = p.ceil_div((rows - 1) * W["pitch"] + W["grid_w"], L)
            with p.loop(0, W["parts"]) as i:
                part = record_at(p, parts, i, PART)
                depth, terms, matrix, sums = part["depth"], p.offset(w, part["at"], dt.int64), p.offset(packed, part["packed"], T), p.offset(lines, i * m * line, T)

                def multiply(kernel, first, height, column, _):
                    p.run(kernel, p.offset(matrix, first * depth, T), p.offset(block, column * L, T), terms, depth, p.offset(start, first, T),
                          p.offset(sums, first * line + column * L, T), line)
                _tiles(p, w, W, vectors, multiply)
            with p.loop(0, m) as i: p.run("leave", w, p.offset(lines, i * line, T), m * line, p.offset(y, i * pixels, stored), row, rows)
            with p.if_(W["tail"].ne(0)):
                first = row * W["y_w"]
                p.run(tail, vals, words, p.offset(y, first, stored), pixels, image, group * m, first, m, rows * W["y_w"])
    return p.module()


# ---- weight gradients
@code.program("grouped")
def weight_driver(stored: dt.dtype) -> str:
    """Threads share out the planes that are read."""
    t = tile(accumulator(stored))
    T, L, p = t.acc, t.lanes, Program()
    write_stage(p, stored, t)
    _write_fetch(p)
    with p.define("grouped", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W, blocks = Record(p, w, WORDS), p.read_pointer(ctx, 2)
        dy, images, result = (p.read_pointer(vals, p.read(words, i)) for i in range(3))
        part, sums = record_at(p, p.offset(w, len(WORDS), dt.int64), p.int(0), PART), p.offset(blocks, W["packed_at"], T)
        m, line, planes, all_terms, terms = W["rows"], W["line"], W["planes"], part["depth"], p.offset(w, part["at"], dt.int64)
        taps, pixels = all_terms // planes, W["y_h"] * W["y_w"]
        clear(p, t, blocks, W["packed_at"])
        lo, hi = p.share(W["groups"] * planes, p.read(ctx, 1), p.read(ctx, 0))
        with p.loop(lo // planes, p.ceil_div(hi, planes)) as group:
            begin, end = p.max(lo - group * planes, 0), p.min(hi - group * planes, planes)
            depth = (end - begin) * taps
            clear(p, t, sums, m * depth * L)
            with p.loop(0, W["images"], W["at_once"]) as n0, p.loop(0, W["bands"]) as number:
                row, rows = _begin_band(p, t, W, blocks, number)
                count = p.min(W["images"] - n0, W["at_once"])
                with p.loop(0, count) as n:
                    block = p.offset(blocks, n * W["apart"], T)
                    _stage_planes(p, stored, t, W, images, n0 + n, group, block, row, begin, end)
                    first, later = ((n0 + n) * W["groups"] + group) * m, _next_image(p, W, n0 + n, m) * pixels
                    with p.loop(0, m) as i:
                        at = (first + i) * pixels + row * W["y_w"]
                        p.run("fetch", p.offset(dy, at + later, stored), rows * (W["y_w"] * stored.size))
                        p.run("stage", p.offset(dy, at, stored), p.offset(block, W["lines_at"] + i * line, T), 0, rows, 0, W["y_w"], W["y_w"], W["pitch"], 0, 1, 1, 0)

                def multiply(kernel, first, height, k, _):
                    p.run(kernel, p.offset(blocks, W["lines_at"] + first * line, T), blocks, p.offset(terms, k * len(TERM), dt.int64), line, count, W["apart"],
                          (rows - 1) * W["pitch"] + W["y_w"], p.offset(sums, (first * depth + k) * L, T), depth)
                _tiles(p, w, W, depth, multiply)
            with p.loop(0, m) as i, p.loop(0, depth, L) as k:                                  # lanes' sums, a square at a time
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
    pitch, slack = grid_w + span_w // stride, 3 * t.lanes
    fixed, per_row = planes * stride ** 2 * (span_h // stride * pitch + slack) + len(parts) * m * slack, (planes * stride ** 2 + len(parts) * m) * pitch
    l1 = isa.caches()[0] // t.acc.size
    bands = max(-(-grid_h // max(min((BAND * l1 - fixed) // per_row, grid_h), 1)), 1 if weight else min(-(-SHARES // (c.n * c.groups)), grid_h // 8))
    band = -(-grid_h // bands)
    bands = -(-grid_h // band)
    reach = (band - 1) * stride + span_h + 1
    plane = -(-reach // stride) * pitch + slack
    stage, line = (-(-size // 16) * 16 for size in (stride * stride * plane, band * pitch + slack))
    lines_at = planes * stage
    apart = lines_at + len(parts) * m * line
    at_once = max(min(TURN * l1 // apart, c.n), 1) if weight and bands == 1 else 1
    start_at = at_once * apart
    packed_at = start_at + -(-m // 16) * 16
    height, taller, most = _shares(m, t)
    micro = kernels(t.acc, weight)
    totals = {n * taps for n in range(1, planes + 1)} if weight else {-(-((rows - 1) * pitch + grid_w) // t.lanes) for rows in (band, grid_h - (bands - 1) * band)}
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
                  grid_h=grid_h, grid_w=grid_w, stage=stage, line=line, lines_at=lines_at, start_at=start_at, packed_at=packed_at, apart=apart, at_once=at_once,
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
