"""Depthwise convolutions, where every channel is convolved with taps of its own: the three products, planes in the nearest cache.

Comes in: a `Conv` that `accepts` takes. Goes out: a `Launch`. A band of an image is **staged**: with its padding, in the accumulator's type, and for a stride
sorted by residues of rows and columns; dy of an input gradient with a stride is staged with zeros in between. In a stage every tap is a constant distance,
also across rows, so planes are lines and small images fill vectors:

    result[q] = sum over taps of w[tap] * stage[q + distance[tap]]         q = row * pitch + column; columns beyond the result's are left behind

A weight gradient is a product of two stages per tap, dw[tap] = sum over q of dy[q] * stage[q + distance[tap]], its sums per lane kept over all images.
"""
from __future__ import annotations

import itertools
import math

from ..core import dtype as dt
from ..core.kernels import Conv, Launch
from ..core.kernels import Program as Code
from ..cpu import code, isa
from .gemm import PARALLEL_FLOPS
from .images import Record, record_at
from .text import Val
from .tile import Int, Program, Tile, accumulator, entry, tile

# the driver's run-time words; behind them the taps' distances, or for results RUNs of 4, 3, 2 and 1 taps. x_: the images that are read, y_: the result
# (weight gradients: dy)
WORDS = """driver images channels taps bands band reach pitch plane stride insert pad_h pad_w bias x_h x_w x_used y_h y_w stage line at_once w_at
runs4 runs3 runs2 runs1""".split()
RUN = "distance weight step".split()           # taps side by side: the first one's distance and number, and how numbers go on
PLANES = 8                                     # small planes that are staged before the first is read: what was just stored can't be read at once in other pieces
AT_ONCE = 4                                    # vectors of a result, as many as hide a multiply-add's latency
TAPS_AT_ONCE = 9                               # taps of a weight gradient whose sums are in registers


def accepts(c: Conv) -> bool:
    if c.groups != c.c or c.k != c.c or c.c == 0 or c.size[0] != 1 or c.taps[0] != 1 or c.padding[0] or min(c.n, *c.size, *c.out) < 1: return False
    uniform = c.stride[1] == c.stride[2]
    return uniform and (c.which != "input" or all((r - 1) * d >= p for r, d, p in zip(c.taps, c.dilation, c.padding)))


# ---- stages
def write_stage(p: Program, stored: dt.dtype, t: Tile):
    """stage: rows lo..hi, row i as row i * insert + at. Vectors are stored whole: what is too much is zero, and written over by the next row."""
    T, L = t.acc, t.lanes
    with p.define("stage", "ptr src, ptr dst, i64 lo, i64 hi, i64 at, i64 width, i64 row, i64 pitch, i64 plane, i64 stride, i64 insert, i64 pad") as (
            src, dst, lo, hi, at, width, row, pitch, plane, stride, insert, pad):
        def place(i, stride):
            """Of row i; a known stride spares divisions."""
            k = i * insert + at
            if stride == 1: return p.offset(dst, k * pitch, T)
            if stride.__class__ is int: return p.offset(dst, (k & stride - 1) * (stride * plane) + (k >> stride.bit_length() - 1) * pitch, T)
            return p.offset(dst, k % stride * stride * plane + k // stride * pitch, T)

        def read(i, column, mask):
            at = p.offset(src, i * row + column, stored)
            return p.cast(p.load(at, stored, L) if mask is None else p.load_masked(at, stored, mask), T)

        def by_rows(vectors, write):
            """write(row, column, masks) for pieces of so many vectors; in memory rows follow each other, and so they are read."""
            size = vectors * L
            whole = width // size * size
            masks = [p.mask(p.min(p.max(width - whole - k * L, 0), L), L) for k in range(vectors)]
            with p.loop(lo, hi) as i:
                with p.loop(0, whole, size) as column: write(i, column, [None] * vectors)
                with p.if_(width > whole): write(i, whole, masks)

        def copied(i, column, masks): p.store(read(i, column, masks[0]), p.offset(place(i, 1), pad + column, T))

        def residues(xs):
            """One vector per residue modulo len(xs)."""
            if len(xs) == 1: return xs
            even, odd = (residues([p.shuffle(x, y, range(i, 2 * L, 2)) for x, y in zip(xs[::2], xs[1::2])]) for i in (0, 1))
            return [x for pair in zip(even, odd) for x in pair]

        def sorted_(i, column, masks):
            size, to = len(masks), place(i, len(masks))
            for k, x in enumerate(residues([read(i, column + k * L, mask) for k, mask in enumerate(masks)])):
                p.store(x, p.offset(to, (pad + k) % size * plane + (pad + k) // size + column // size, T))

        def spread(i, column, masks):
            x, to, zero = read(i, column, masks[0]), p.offset(place(i, 1), pad + column * 2, T), p.const(0, T, L)
            for k in (0, 1): p.store(p.shuffle(x, zero, [j for a in range(k * L // 2, (k + 1) * L // 2) for j in (a, L)]), p.offset(to, k * L, T))

        def elements():
            with p.loop(lo, hi) as i, p.loop(0, width) as j:
                k = j * insert + pad
                p.store(p.cast(p.load(p.offset(src, i * row + j, stored), stored), T), p.offset(place(i, stride), k % stride * plane + k // stride, T))
        whole = p.both(stride.eq(1), insert.eq(1))
        p.otherwise(whole, lambda: by_rows(1, copied), lambda: p.otherwise(p.both(stride.eq(2), insert.eq(1)), lambda: by_rows(2, sorted_),
                    lambda: p.otherwise(p.both(stride.eq(4), insert.eq(1)), lambda: by_rows(4, sorted_),
                    lambda: p.otherwise(p.both(stride.eq(1), insert.eq(2)), lambda: by_rows(1, spread), elements))))


def clear(p: Program, t: Tile, at: Val, count: Int):
    with p.loop(0, count, t.lanes) as i: p.store(p.const(0, t.acc, t.lanes), p.offset(at, i, t.acc))


def stage_image(p: Program, W: Record, image: Val, stage: Val, row: Int):
    """The rows of an image that result rows from `row` on read."""
    insert, at = W["insert"], W["pad_h"] - row * W["stride"]
    lo, hi = p.ceil_div(p.max(0 - at, 0), insert), p.min(W["x_h"], p.max(p.ceil_div(W["reach"] - at, insert), 0))
    p.run("stage", image, stage, lo, hi, at, W["x_used"], W["x_w"], W["pitch"], W["plane"], W["stride"], insert, W["pad_w"])


# ---- forward products and input gradients
def longest_run(t: Tile) -> int: return min(4, t.lanes + 1)


def _write_line(p: Program, t: Tile):
    """line: result[q] for `count` places (and a few more). Vectors of taps side by side are made of two neighbours: loads would cross cache lines."""
    T, L = t.acc, t.lanes
    with p.define("line", "ptr stage, ptr weights, ptr w, ptr out, i64 count, ptr start") as (stage, weights, w, out, count, start):
        first, W, table = p.load(start, T), Record(p, w, WORDS), p.offset(w, len(WORDS), dt.int64)

        def some(q, vectors):
            sums = [p.variable(p.splat(first, L)) for _ in range(vectors)]
            here, begin = p.offset(stage, q, T), p.int(0)
            for n in range(longest_run(t), 0, -1):
                end = begin + W[f"runs{n}"]
                with p.loop(begin, end) as i:
                    run = record_at(p, table, i, RUN)
                    at, taps = p.offset(here, run["distance"], T), p.offset(weights, run["weight"], T)
                    xs = [p.load(p.offset(at, v * L, T), T, L) for v in range(vectors + (n > 1))]
                    for k in range(n):
                        tap = p.load(p.offset(taps, run["step"] * k, T), T)
                        for v, s in enumerate(sums):
                            p.set(s, p.mad(tap, p.shuffle(xs[v], xs[v + 1], range(k, k + L)) if k else xs[v], p.get(s)))
                begin = end
            for v, s in enumerate(sums): p.store(p.get(s), p.offset(out, q + v * L, T))
        vectors = p.ceil_div(count, L)
        done = vectors // AT_ONCE * AT_ONCE
        with p.loop(0, done * L, AT_ONCE * L) as q: some(q, AT_ONCE)
        with p.if_(vectors - done >= 2): some(done * L, 2)
        with p.if_((vectors & 1).ne(0)): some((vectors - 1) * L, 1)


@code.program("depthwise")
def image_driver(stored: dt.dtype) -> str:
    t = tile(accumulator(stored))
    T, L, p = t.acc, t.lanes, Program()
    write_stage(p, stored, t)
    _write_line(p, t)
    with p.define("depthwise", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W, stage = Record(p, w, WORDS), p.read_pointer(ctx, 2)
        images, weights, result = (p.read_pointer(vals, p.read(words, i)) for i in range(3))
        has_bias, taps, pitch = W["bias"].ne(0), W["taps"], W["pitch"]
        bias = p.read_pointer(vals, p.read(words, p.pick(has_bias, 3, 0)))
        lines, own, y_w, channels = p.offset(stage, W["at_once"] * W["stage"], T), p.offset(stage, W["w_at"], T), W["y_w"], W["channels"]
        first = p.alloca(T)
        clear(p, t, stage, W["w_at"])
        lo, hi = p.mine(ctx, W["images"] * channels)
        with p.loop(lo, hi, W["at_once"]) as i0, p.loop(0, W["bands"]) as number:
            row, planes = number * W["band"], p.min(hi - i0, W["at_once"])
            rows = p.min(W["y_h"] - row, W["band"])
            with p.if_(W["bands"] > 1): clear(p, t, stage, W["stage"])
            with p.loop(0, planes) as i:
                stage_image(p, W, p.offset(images, (i0 + i) * (W["x_h"] * W["x_w"]), stored), p.offset(stage, i * W["stage"], T), row)
            with p.loop(0, planes) as i:
                c = (i0 + i) % channels
                p.store(p.const(0, T), first)
                with p.if_(has_bias): p.store(p.cast(p.load(p.offset(bias, c, stored), stored), T), first)
                if stored is not T:
                    with p.loop(0, taps) as j: p.store(p.cast(p.load(p.offset(weights, c * taps + j, stored), stored), T), p.offset(own, j, T))
                p.run("line", p.offset(stage, i * W["stage"], T), p.offset(weights, c * taps, T) if stored is T else own, w,
                      p.offset(lines, i * W["line"], T), (rows - 1) * pitch + y_w, first)
            with p.loop(0, planes) as i, p.loop(0, y_w, L) as q:
                mask, to = p.mask(p.min(y_w - q, L), L), p.offset(result, ((i0 + i) * W["y_h"] + row) * y_w + q, stored)
                with p.loop(0, rows) as k:
                    p.store_masked(p.cast(p.load(p.offset(lines, i * W["line"] + k * pitch + q, T), T, L), stored), p.offset(to, k * y_w, stored), mask)
    return p.module()


# ---- weight gradients
def _write_dots(p: Program, t: Tile):
    """dots: sums[tap] += dy[q] * stage[q + distance[tap]], lane by lane, over `planes` planes."""
    T, L = t.acc, t.lanes
    with p.define("dots", "ptr stage, i64 step, ptr distances, i64 taps, ptr dy, i64 line, i64 planes, i64 count, ptr sums") as (
            stage, step, distances, taps, dy, line, planes, count, sums):
        def some(first, n):
            places = [p.offset(sums, (first + k) * L, T) for k in range(n)]
            totals = [p.variable(p.load(at, T, L)) for at in places]
            starts = [p.read(distances, first + k) for k in range(n)]
            with p.loop(0, planes) as i, p.loop(0, count, L) as q:
                y, here = p.load(p.offset(dy, i * line + q, T), T, L), p.offset(stage, i * step + q, T)
                for s, at in zip(totals, starts): p.set(s, p.mad(y, p.load(p.offset(here, at, T), T, L), p.get(s)))
            for at, s in zip(places, totals): p.store(p.get(s), at)
        done = taps // TAPS_AT_ONCE * TAPS_AT_ONCE
        with p.loop(0, done, TAPS_AT_ONCE) as i: some(i, TAPS_AT_ONCE)
        with p.loop(done, taps) as i: some(i, 1)


@code.program("depthwise")
def weight_driver(stored: dt.dtype) -> str:
    t = tile(accumulator(stored))
    T, L, p = t.acc, t.lanes, Program()
    write_stage(p, stored, t)
    _write_dots(p, t)
    with p.define("depthwise", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        W, stage = Record(p, w, WORDS), p.read_pointer(ctx, 2)
        dy, images, result = (p.read_pointer(vals, p.read(words, i)) for i in range(3))
        taps, pitch, channels, y_w = W["taps"], W["pitch"], W["channels"], W["y_w"]
        lines, sums = p.offset(stage, W["at_once"] * W["stage"], T), p.offset(stage, W["w_at"], T)
        clear(p, t, stage, W["w_at"])
        lo, hi = p.mine(ctx, channels)
        with p.loop(lo, hi) as c:
            clear(p, t, sums, taps * L)
            with p.loop(0, W["images"], W["at_once"]) as n0, p.loop(0, W["bands"]) as number:
                row, planes = number * W["band"], p.min(W["images"] - n0, W["at_once"])
                rows = p.min(W["y_h"] - row, W["band"])
                with p.if_(W["bands"] > 1): clear(p, t, stage, W["w_at"])
                with p.loop(0, planes) as n:
                    i = (n0 + n) * channels + c
                    stage_image(p, W, p.offset(images, i * (W["x_h"] * W["x_w"]), stored), p.offset(stage, n * W["stage"], T), row)
                    p.run("stage", p.offset(dy, (i * W["y_h"] + row) * y_w, stored), p.offset(lines, n * W["line"], T), 0, rows, 0, y_w, y_w, pitch, 0, 1, 1, 0)
                p.run("dots", stage, W["stage"], p.offset(w, len(WORDS), dt.int64), taps, lines, W["line"], planes, (rows - 1) * pitch + y_w, sums)
            with p.loop(0, taps) as i:
                p.store(p.cast(p.reduce(p.load(p.offset(sums, i * L, T), T, L), p.add), stored), p.offset(result, c * taps + i, stored))
    return p.module()


# ---- a shape's numbers
def build(c: Conv) -> Launch:
    t, back, weight = tile(accumulator(c.dtype)), c.which == "input", c.which == "weight"
    (x_h, x_w), (y_h, y_w) = (c.out[1:], c.size[1:]) if back else (c.size[1:], c.out[1:])
    spans = [(r - 1) * d for r, d in zip(c.taps[1:], c.dilation[1:])]
    stride, insert = (1, c.stride[1]) if back else (c.stride[1], 1)
    pad_h, pad_w = (s - p if back else p for s, p in zip(spans, c.padding[1:]))
    pitch, slack = y_w + spans[1] // stride, (AT_ONCE + 1) * t.lanes
    room = isa.caches()[0] // 2 // t.acc.size                              # for a band, staged and summed
    band = max(min((room - stride * (stride * slack + spans[0] * pitch)) // ((stride * stride + 1) * pitch), y_h), 1)
    bands = -(-y_h // band)
    band = -(-y_h // bands)
    bands = -(-y_h // band)
    reach = (band - 1) * stride + spans[0] + 1
    plane = -(-reach // stride) * pitch + slack
    stage, line = (-(-size // 16) * 16 for size in (stride * stride * plane, band * pitch + slack))
    at_once = max(min(room // (stage + line), PLANES), 1) if bands == 1 else 1
    w_at = at_once * (stage + line)
    taps = math.prod(c.taps)
    distances = []
    for at in itertools.product(*map(range, c.taps[1:])):
        h, w = (s - a * d if back else a * d for s, a, d in zip(spans, at, c.dilation[1:]))
        distances.append((h % stride * stride + w % stride) * plane + h // stride * pitch + w // stride)
    table, counts = (distances, dict.fromkeys(range(1, 5), 0)) if weight else _runs(distances, c.taps[2], longest_run(t))
    values = dict(driver=(weight_driver if weight else image_driver)(c.dtype)[0], images=c.n, channels=c.c, taps=taps, bands=bands, band=band,
                  reach=reach, pitch=pitch, plane=plane, stride=stride, insert=insert, pad_h=pad_h, pad_w=pad_w, bias=int(c.bias),
                  x_h=x_h, x_w=x_w, x_used=min(x_w, stride * pitch - pad_w), y_h=y_h, y_w=y_w, stage=stage, line=line, at_once=at_once, w_at=w_at,
                  **{f"runs{n}": count for n, count in counts.items()})
    address, text = entry(len(c.operands))
    flops = 2 * c.n * c.c * taps * math.prod(c.out)
    moved = c.dtype.size * (c.n * c.c * (x_h * x_w + y_h * y_w) + c.c * taps)
    scratch = (w_at + taps * (t.lanes if weight else 1) + t.lanes) * t.acc.size
    return Launch(Code("depthwise", address, text), tuple([values[x] for x in WORDS] + table), flops > PARALLEL_FLOPS, scratch=scratch + 64, bytes=moved, flops=flops)


def _runs(distances: list[int], taps_w: int, longest: int) -> tuple[list[int], dict[int, int]]:
    """Rows of taps cut into runs of up to `longest` whose distances follow each other: their words, the longest first, and how many there are of each length."""
    runs: list[list[int]] = []                                             # numbers of taps
    for row in range(0, len(distances), taps_w):
        chains: list[list[int]] = []
        for i in sorted(range(row, row + taps_w), key=lambda i: distances[i]):
            if chains and distances[i] == distances[chains[-1][-1]] + 1: chains[-1].append(i)
            else: chains.append([i])
        for chain in chains:
            size = -(-len(chain) // -(-len(chain) // longest))
            runs += [chain[k:k + size] for k in range(0, len(chain), size)]
    runs.sort(key=len, reverse=True)
    words = [x for r in runs for x in (distances[r[0]], r[0], r[1] - r[0] if len(r) > 1 else 0)]
    return words, {n: sum(len(r) == n for r in runs) for n in range(1, 5)}
