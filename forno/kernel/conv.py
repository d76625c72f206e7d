"""Convolutions: three matrix products per convolution, whose image operand is never spread out in memory.

Comes in: a `Conv`. Goes out: a `Launch`: the driver of its kind (conv_image.py, conv_weight.py; one per element type, for all shapes) and the
numbers of this shape, which say for every tap how the image is shifted, and how the sums are blocked.

The input gradient is a forward product that reads dy with the opposite shifts. Where stride > 1 it falls apart in one such product per residue of the
input pixel, each with its own taps. Forward products with a horizontal stride would read scattered pixels, so their images (and those of half types)
are first staged: columns sorted by residue, converted to float32.
"""
from __future__ import annotations

import itertools
import math

from ..core import dtype as dt
from ..core.errors import unsupported
from ..core.kernels import Conv, Keeps, Launch
from ..core.kernels import Program as Code
from ..cpu import isa
from . import choices, conv_image, conv_weight, depthwise, epilogue, grouped, winograd
from .conv_image import PAD
from .gemm import PARALLEL_FLOPS, even_split
from .images import MOST_THREADS, PART, WORDS, period, plan_words, segment_words
from .tile import Tile, accumulator, entry, micro, tile

K_BLOCK = 512                                  # channels times taps that are summed before the tile goes to memory
PLAN_BYTES = 4 << 20                           # plans kept by each thread
CHANGES = {"more pixels": 2, "fewer pixels": 0.5}      # that are multiplied with a panel of weights before the next one


def takes_epilogue(c: Conv) -> bool:
    """Can `build` run c's epilogue on its tiles?"""
    return c.which == "forward" and c.dtype is accumulator(c.dtype) and not depthwise.accepts(c) and min(c.n, c.c, c.k) > 0 and not c.c == c.k == c.groups


def gains_by_epilogue(c: Conv) -> bool:
    """Does that save time? A loop over a result that is still in a cache takes less than what interrupting the product does."""
    return takes_epilogue(c) and c.dtype.size * c.n * c.k * math.prod(c.out) > isa.caches()[2] // 4


def build(c: Conv, choice: str = "") -> Launch:
    """`choice`: one of CHANGES, where the Launch offers it."""
    if c.dtype.category != dt.FLOAT: raise unsupported("convolution", c.dtype, instead="convert the operands to a floating-point type")
    if winograd.pays(c): return winograd.build(c)
    if depthwise.accepts(c): return depthwise.build(c)
    if grouped.pays(c): return grouped.build(c)
    t = tile(accumulator(c.dtype))
    weight = c.which == "weight"
    m, channels = (c.c // c.groups, c.k // c.groups) if c.which == "input" else (c.k // c.groups, c.c // c.groups)
    taps = math.prod(c.taps)
    size, width = (c.out, c.out[2]) if c.which == "input" else (c.size, c.size[2])            # of the images that are read
    phases = 1 if c.which == "input" else c.stride[2]
    staged = phases > 1 or c.dtype is not t.acc
    pitch = -(-width // phases)
    s_h = phases * pitch if staged else width
    volume = size[0] * size[1] * s_h
    source = dict(s_h=s_h, s_d=size[1] * s_h, s_channel=volume, s_image=channels * c.groups * volume, x_d=size[0], x_h=size[1])
    in_place, alone = c.dtype is t.acc, m == channels == 1
    shapes = list(_residues(c, s_h, source["s_d"])) if c.which == "input" else [_forward(c, pitch, phases, s_h, source["s_d"])]
    turned = c.which == "forward" and in_place and not alone and len(shapes[0][1]) == taps and _turns(t, c.n, math.prod(c.out), m)
    parts, packed, width_a = [], 0, t.columns if turned else t.rows
    for shape, tap_list in shapes:
        n = len(tap_list)
        block = channels if not (in_place or weight) else even_split(channels, max(K_BLOCK // (2 if weight else 1) // max(n, 1), 1), 1)
        if alone: at_once = 64
        elif weight: at_once = max(256 // t.columns, 1)
        elif m * channels * n * t.acc.size <= isa.caches()[1] // 2: at_once = 1              # the weights stay in L2
        else: at_once = max(isa.caches()[1] // 2 // (t.acc.size * max(block * n, 1) * t.columns), 1)
        at_once = max(int(at_once * CHANGES.get(choice, 1)), 1)
        pixels = shape["g0"] * shape["g1"] * shape["g2"]
        g = period(t, pixels, c.n)
        per, room = -(-g * pixels // t.columns), plan_words(t, shape["g2"], n, bool(shape["flat"]))
        kept = max(-(-at_once // max(per, 1)), 1) * per if per * room * 8 <= PLAN_BYTES else at_once
        values = dict(source, **shape, period=g, period_panels=max(per, 1), panels_total=c.n // g * per + -(-(c.n % g) * pixels // t.columns),
                      plans=max(kept, 1), plan_words=room, taps=n, block=max(block, 1), panels_at_once=at_once, a_off=packed,
                      ordered=int(c.alike if weight else c.which == "forward" and n == taps))
        parts.append((values, tap_list))
        packed += c.groups * -(-m // width_a) * (channels * n * width_a + PAD)
    kernels = micro(t.acc)
    if weight:                                 # rows are (channel, tap): all panels of one height, the last one's excess is left behind
        wide = parts[0][0]["block"] * taps
        panels = -(-wide // t.rows)
        height, taller = -(-wide // max(panels, 1)), 0
        for vectors in {min(-(-m // t.lanes), t.vectors), -(-(m % t.columns) // t.lanes)} - {0}: kernels.need(height, vectors, direct=True)
    else:
        panels = -(-m // width_a)
        height, taller = divmod(m, max(panels, 1))
        heights = ({height, height + 1} if taller else {height}) - {0}
        if turned:
            for rows, count in itertools.product(conv_image.turned_rows(t, c.n, math.prod(c.out)), heights): kernels.need(rows, -(-count // t.lanes), direct=True)
        else:
            for rows, vectors in itertools.product(heights, range(1, t.vectors + 1)): kernels.need(rows, vectors)
    rows = c.n * channels * c.groups * size[0] * size[1]
    stage_size = rows * s_h if staged else 0
    per_thread = conv_image.tiles_room(t) * t.acc.size + 8 * segment_words(t) + 8 * max(v["plans"] * v["plan_words"] for v, _ in parts)
    if weight:
        v, outputs = parts[0][0], -(-m // t.columns) * t.columns
        depth = v["panels_at_once"] * t.columns
        own = per_thread // t.acc.size + panels * height * (depth + t.columns) + outputs * depth + taps * t.lanes + PAD
        per_thread = (own + c.groups * max(-(-channels // v["block"]) * panels * height * outputs, m * channels * taps) + PAD) * t.acc.size
        shared = MOST_THREADS * 8 + stage_size * t.acc.size
    else:
        own = stage_size
        per_thread += max(v["panels_at_once"] * t.columns * t.acc.size * max(v["block"] * v["taps"], 1) for v, _ in parts)
        per_thread = max(per_thread, -(-taps // t.lanes) * t.lanes * -(-t.rows // t.lanes) * t.lanes * t.acc.size)        # to pack weights
        shared = (stage_size + packed) * t.acc.size
    address, _ = (conv_weight if weight else conv_image).driver(c.dtype)
    head = dict(driver=address, micro=kernels.address, tail=0, turned=int(turned), groups=c.groups if m * channels or not weight else 0, images=c.n, m=m,
                channels=max(channels, int(weight)), panels=panels, height=height, taller=taller,
                bias=int(c.bias), in_place=int(in_place), alone=int(alone), parts=len(parts), stage=int(staged), stage_rows=rows, stage_width=width,
                stage_phases=phases, stage_pitch=pitch, stage_step=s_h, shared_a=own, kept=-1,
                w_group=m * channels * taps, w_m=taps if c.which == "input" else channels * taps, w_channel=m * taps if c.which == "input" else taps,
                taps=taps)
    after = [x for values, tap_list in parts for x in (*(values[x] for x in PART), *itertools.chain(*tap_list))]
    if c.epilogue is not None:
        after += c.n, 0, 0, 0                  # the tail's batch axis
        head["tail"], tail_words = epilogue.build(c, t, len(WORDS) + len(after))
        after += tail_words
    words = [*(head[x] for x in WORDS), *after]
    entry_address, text = entry(len(c.operands))
    flops = 2 * c.n * c.k * (c.c // c.groups) * taps * math.prod(c.out)
    moved = c.dtype.size * (c.n * (c.c * math.prod(c.size) + c.k * math.prod(c.out)) + c.k * (c.c // c.groups) * taps)
    keeps = None
    if not weight and not alone:
        form = "conv", c.which, turned, c.dtype, c.groups, m, channels, c.taps, tuple([tuple([tap[-1] for tap in taps_of]) for _, taps_of in parts])
        keeps = Keeps(1, len(c.operands) + WORDS.index("kept"), packed * t.acc.size + 512, form)
    names = tuple(name for name in CHANGES if name != "fewer pixels" or all(v["panels_at_once"] > 1 for v, _ in parts))
    offered = choices.of_conv(c, names, build) if flops > choices.FLOPS and not weight and not alone else None
    return Launch(Code("conv", entry_address, text), tuple(words), flops > PARALLEL_FLOPS,
                  scratch=per_thread + 512, shared=shared + 512, bytes=moved, flops=flops, keeps=keeps, choices=offered)


def _turns(t: Tile, images: int, pixels: int, m: int) -> bool:
    """Are more lanes empty when columns are pixels than when they are channels? Turning tiles costs something, too."""
    def filled(n, lanes): return n / (-(-n // lanes) * lanes)
    return pixels > 0 < m and filled(period(t, pixels, images) * pixels, t.lanes) * 1.04 < filled(m, t.lanes * -(-m // t.columns))


def _forward(c: Conv, pitch: int, phases: int, s_h: int, s_d: int):
    """The one part of a forward product (and of the weight gradient, which pairs the same pixels): its shape words and its taps."""
    g = c.out
    shape = dict(g0=g[0], g1=g[1], g2=g[2], d_step=c.stride[0], h_step=c.stride[1], o_off=0, o_d=g[1] * g[2], o_h=g[2], o_w=1,
                 o_channel=math.prod(g), o_image=c.k * math.prod(g), flat=1)
    taps = []
    for i, at in enumerate(itertools.product(*map(range, c.taps))):
        d, h, x = (a * step - pad for a, step, pad in zip(at, c.dilation, c.padding))
        phase, w = x % phases, x // phases
        if c.which == "forward" and not _meet(c.out, c.stride, (d, h, x), c.size): continue
        taps.append((d, h, w, -(-(c.size[2] - phase) // phases), d * s_d + h * s_h + phase * pitch + w, i))
    return shape, taps


def _meet(pixels, steps, shifts, size) -> bool:
    """Does a tap read the image at all? In small images many taps never leave the padding."""
    def one(count, step, shift, n):
        first = max(-(shift // step), 0)
        return first < count and first * step + shift < n
    return all(map(one, pixels, steps, shifts, size))


def _residues(c: Conv, s_h: int, s_d: int):
    """The input gradient's parts: pixel i = residue + j * stride meets tap r at dy's pixel j + (residue + padding - r * dilation) / stride."""
    x = c.size
    for residue in itertools.product(*(range(min(s, n)) for s, n in zip(c.stride, x))):
        g = [-(-(n - a) // s) for n, a, s in zip(x, residue, c.stride)]
        strides = (x[1] * x[2], x[2], 1)
        o = [s * step for s, step in zip(c.stride, strides)]
        shape = dict(g0=g[0], g1=g[1], g2=g[2], d_step=1, h_step=1, o_off=sum(a * step for a, step in zip(residue, strides)),
                     o_d=o[0], o_h=o[1], o_w=o[2],
                     o_channel=math.prod(x), o_image=c.c * math.prod(x), flat=int(c.stride == (1, 1, 1)))
        taps = []
        for i, at in enumerate(itertools.product(*map(range, c.taps))):
            shifts = [a + pad - r * step for a, pad, r, step in zip(residue, c.padding, at, c.dilation)]
            if any(v % s for v, s in zip(shifts, c.stride)): continue
            d, h, w = (v // s for v, s in zip(shifts, c.stride))
            if not _meet(g, (1, 1, 1), (d, h, w), c.out): continue
            taps.append((d, h, w, c.out[2], d * s_d + h * s_h + w, i))
        yield shape, taps
