"""Graph in, graph out: fewer and simpler values. A rule is here only if it keeps every bit, NaN and -0 included (but for the order of a convolution's sums).

After this pass there are no history rows, no view of a view that is one affine view, and no value without elements but constants.
"""
from __future__ import annotations

import functools
import math

from ..core.dtype import bool as BOOL
from ..core.graph import Value
from ..core.op import TABLE
from ..core.shape import View, compose, contiguous, overlaps, whole
from .expand import replaced, rewrite
from .values import ASSEMBLE, MOVE, Literal, is_identity, nbytes, numel


def simplify(outputs: list[Value]) -> list[Value]:
    return rewrite(outputs, rule)


def rule(v: Value, ins: tuple) -> Value:
    v = replaced(v, ins)
    if v.op.history is not None: return laid(v) if v.op.name == "copy" else ins[-1]           # history rows pass their last operand on
    if 0 in v.shape and v.op.kind != "opaque" and v.op.name != "full": return constant(v, 0)
    by_name = RULES.get(v.op.name)
    if by_name is not None: return by_name(v)
    return reduce(v) if v.op.kind == "reduce" else v


def laid(v: Value) -> Value:
    """A copy that puts the axes of what a kernel of its own writes in another order is made once, for all who read it."""
    x = v.ins[-1]
    return Value(MOVE, (x,), "its axes in another order", v.dtype, v.shape) if v.attr.__class__ is tuple and x.op is not None and x.op.kind == "contract" else x


def constant(v: Value, value) -> Value:
    return Value(TABLE["full"], (), (v.shape, v.dtype, value), v.dtype, v.shape)


def make(name: str, *ins, attr, dtype=None, shape=None) -> Value:
    return rule(Value(TABLE[name], ins, attr, dtype or ins[0].dtype, ins[0].shape if shape is None else shape), ins)


def cast(v):
    """A cast to the type a value has is that value."""
    return v.ins[0] if v.ins[0].dtype is v.dtype else v


def view(v):
    """View of a view, view of a constant, and the view that shows everything in order."""
    x, w = v.ins[0], v.attr
    if w.shape == x.shape and is_identity(w, numel(x)): return x
    if x.op is None: return v
    if x.op.name == "full": return Value(x.op, x.ins, (w.shape, x.dtype, x.attr[2]), x.dtype, w.shape)
    if x.op.name == "view":
        both = compose(x.attr, w)
        if both is not None: return view(Value(v.op, x.ins, both, v.dtype, v.shape))
    return part(v) if x.op.name == "bitcast" else v


def part(v):
    """The real or imaginary parts of what a loop computes, seen in its bytes: taken in that loop."""
    x, w = v.ins[0].ins[0], v.attr
    while x.op is not None and x.op.name == "view": x = x.ins[0]
    strides = [s for n, s in zip(w.shape, w.strides) if n > 1]
    if x.dtype.real is not v.dtype or x.dtype is v.dtype or x.op is None or x.op.kind != "elementwise" or any([s % 2 for s in strides]): return v
    half = View(w.shape, tuple([s // 2 for s in w.strides]), w.offset // 2)
    seen = make("view", v.ins[0].ins[0], attr=half, shape=w.shape)
    return Value(TABLE["imag" if w.offset % 2 else "real"], (seen,), None, v.dtype, v.shape)


def bitcast(v):
    """Bytes have no shape, and their type back is what they were."""
    x, (source, to) = v.ins[0], v.attr
    if to is source: return make("view", x, attr=whole(v.shape), shape=v.shape)
    if x.op is not None and x.op.name == "view" and is_identity(x.attr, numel(x.ins[0])): return bitcast(replaced(v, x.ins))
    if x.op is not None and x.op.name == "bitcast":
        below = x.ins[0]
        return make("view", make("bitcast", below, attr=(below.dtype, to), dtype=to, shape=(nbytes(below) // to.size,)), attr=whole(v.shape), shape=v.shape)
    return v


def put(v):
    """Nothing written: the base. Everything written in order: what was written."""
    base, x = v.ins
    if 0 in x.shape: return base
    if is_identity(v.attr, numel(v)): return view(Value(TABLE["view"], (x,), whole(v.shape), v.dtype, v.shape))
    return v


def add(v):
    """Values written into zeros, added: written next to each other, if their windows are apart. (The gradient of split, of slices.)

    Adding 0 is all that remains of the sum: it makes -0 what it would have become.
    """
    if len(v.ins) != 2 or any([x.__class__ is not Value or x.dtype is not v.dtype or x.shape != v.shape for x in v.ins]): return v
    a, b = pieces(v.ins[0]), pieces(v.ins[1])
    if not a or not b or any([not apart(p, q, v.shape) for p, _ in a for q, _ in b]): return v
    both = [(w, x if plus_zero(x) else Value(v.op, (x, Literal(0)), None, v.dtype, x.shape)) for w, x in (*a, *b)]
    if sum([numel(x) for _, x in both]) == numel(v):
        windows, values = zip(*sorted(both, key=lambda p: p[0].offset))
        return Value(ASSEMBLE, values, windows, v.dtype, v.shape)
    out = constant(v, 0)
    for w, x in both: out = Value(TABLE["put"], (out, x), w, v.dtype, v.shape)
    return out


def plus_zero(x) -> bool: return x.op is not None and x.op.name == "add" and x.ins[1] == Literal(0)


def pieces(v) -> list:
    """[(view, value), …] of a value that is zero but for them, where they don't overlap."""
    out = []
    while v.op is not None and v.op.name == "put":
        if any([not apart(v.attr, w, v.shape) for w, _ in out]): return []
        out.append((v.attr, v.ins[1]))
        v = v.ins[0]
    zero = v.op is not None and v.op.name == "full" and not v.ins and repr(v.attr[2]) in ("0", "0.0", "False")
    return out[::-1] if zero else []


@functools.lru_cache(4096)                        # a chain of puts asks for every pair again at each of its links
def apart(a: View, b: View, shape) -> bool:
    """Do two views of a row-major value surely share no element? Windows are compared axis by axis; others are taken to overlap."""
    p, q = box(a, shape), box(b, shape)
    return p is not None and q is not None and any([hi <= lo2 or hi2 <= lo for (lo, hi), (lo2, hi2) in zip(p, q)])


def box(w: View, shape) -> list[tuple[int, int]] | None:
    """The window [low, high) per axis of the value that a view reaches, if each of its axes runs along one of the value's."""
    low, out = w.offset, []
    for s in contiguous(shape):
        at, low = divmod(low, s)
        out.append([at, at + 1])
    strides = contiguous(shape)
    for n, s in zip(w.shape, w.strides):
        if n == 1: continue
        d = next((d for d, (m, t) in enumerate(zip(shape, strides)) if m > 1 and s >= t and s % t == 0 and s < t * m), None)
        if d is None or out[d][1] - out[d][0] != 1: return None
        out[d][1] += (n - 1) * (s // strides[d])
    return [(lo, hi) for lo, hi in out] if all(hi <= n for (_, hi), n in zip(out, shape)) else None


def addput(v):
    """Adding through a view that reaches each element once is a put of the sum."""
    base, x = v.ins
    if 0 in x.shape: return base
    if overlaps(v.attr): return v
    seen = make("view", base, attr=v.attr, shape=v.attr.shape)
    return make("put", base, make("add", seen, x, attr=None, shape=x.shape), attr=v.attr)


def cat(v):
    """Operands without elements don't count."""
    ins = tuple([x for x in v.ins if 0 not in x.shape])
    return ins[0] if len(ins) == 1 else replaced(v, v.ins if len(ins) == len(v.ins) else ins)


EMPTY = {"sum": 0, "prod": 1, "any": False, "all": True}


def reduce(v):
    """Reducing nothing gives the identity; reducing axes of length 1 moves nothing."""
    x = v.ins[0]
    if 0 in x.shape: return constant(v, EMPTY[v.op.combine])
    count = math.prod([x.shape[a] for a in v.attr])
    if count == 1 and v.op.combine in ("sum", "prod", "max", "min"): return x if x.dtype is v.dtype else make("cast", x, attr=v.dtype, dtype=v.dtype)
    if count == 1 and v.op.combine in ("argmax", "argmin"): return constant(v, 0)
    if count == 1: return make("cast", make("ne", x, Literal(0), attr=None, dtype=BOOL), attr=v.dtype, dtype=v.dtype)
    return v


def matmul(v):
    """A sum over no products is zero."""
    return constant(v, 0) if v.ins[0].shape[-1] == 0 else v


def conv(v):
    """A gradient from no images is zero. Where only one tap ever meets a pixel, or the taps that do are as large as the image, they are the kernel; taps that tile
    the image multiply its patches; one tap with a stride reads pixels so far apart; taps that lie apart are neighbours in images of every so many pixels."""
    if v.op.name != "conv" and any(0 in x.shape for x in v.ins): return constant(v, 0)
    forward, back, spec = v.op.name == "conv", v.op.name == "conv_weight", v.attr
    image, kernel, out = (v.ins[0], v.ins[1], v) if forward else (v.ins[1], v, v.ins[0]) if back else (v, v.ins[1], v.ins[0])
    size, taps, out = image.shape[2:], kernel.shape[2:], out.shape[2:]
    met = [meeting(*axis) for axis in zip(size, out, taps, spec.stride, spec.padding, spec.dilation)]
    inside = all([m and m[0] * d == p for m, p, d in zip(met, spec.padding, spec.dilation)])             # the first tap that is met reads the first pixel
    counts = tuple([m[-1] + 1 - m[0] if m else 0 for m in met])
    plain = spec.groups == 1 and size == counts and math.prod(out) == 1 and inside and (max(spec.dilation) == 1 or math.prod(counts) == 1)
    plain = plain and (len(v.ins) == 2 or v.dtype.opmath is v.dtype)
    if inside and counts != taps and (plain or math.prod(counts) == 1):
        strides = contiguous(kernel.shape)
        fewer = spec._replace(padding=(0,) * len(taps), taps=counts if back else ())
        window = View((*kernel.shape[:2], *counts), strides, sum([m[0] * s for m, s in zip(met, strides[2:])]))
        ins = v.ins if back else (v.ins[0], make("view", kernel, attr=window, shape=window.shape), *v.ins[2:])
        small = Value(v.op, ins, fewer, v.dtype, window.shape if back else v.shape)
        small = product(small, math.prod(counts) > 1) if plain else conv(small)
        return make("put", constant(v, 0), small, attr=window, shape=v.shape) if back else small
    if plain: return product(v)
    if v.op.name != "conv_input" and spec.stride == taps and tiles(v, spec, kernel, out): return patches(v, image, kernel, out)
    if math.prod(taps) == 1 and max(spec.stride) > 1 and not any(spec.padding) and (forward or back):
        strides = contiguous(image.shape)
        seen = View((*image.shape[:2], *out), (*strides[:2], *[s * step for s, step in zip(strides[2:], spec.stride)]), 0)
        image, plain = make("view", image, attr=seen, shape=seen.shape), spec._replace(stride=(1,) * len(out))
        return Value(v.op, (image, *v.ins[1:]) if forward else (v.ins[0], image), plain, v.dtype, v.shape)
    return apart_taps(v) if sifts(v, spec, size, out, image.shape[1], kernel.shape[0]) else v


def sifts(v, spec, size, out, *channels) -> bool:
    """Do pixels a dilation apart make images of their own, whose taps lie side by side, and so many channels that copying pays?"""
    d, same = spec.dilation, size == out and max(spec.stride) == spec.groups == 1
    whole_images = all([n % a == 0 and p % a == 0 and n >= 4 * a for n, p, a in zip(size, spec.padding, d)])
    return len(d) == 2 and max(d) > 1 and same and whole_images and min(channels) >= 96 and v.dtype.opmath is v.dtype


def apart_taps(v):
    """A convolution whose taps lie `dilation` apart, as one of images of every so many pixels, with neighbours as taps."""
    (down, across), spec = v.attr.dilation, v.attr

    def sifted(x):
        n, c, h, w = x.shape
        s = contiguous(x.shape)
        fine = View((n, down, across, c, h // down, w // across), (s[0], w, 1, s[1], w * down, across), 0)
        whole_shape = n * down * across, c, h // down, w // across
        return make("view", make("view", x, attr=fine, shape=fine.shape), attr=whole(whole_shape), shape=whole_shape)

    def woven(y, shape):
        n, c, h, w = shape
        s = contiguous((n, down, across, c, h // down, w // across))
        fine = View((n, c, h // down, down, w // across, across), (s[0], s[3], s[4], s[1], s[5], s[2]), 0)
        y = make("view", y, attr=whole((n, down, across, c, h // down, w // across)), shape=(n, down, across, c, h // down, w // across))
        return make("view", make("view", y, attr=fine, shape=fine.shape), attr=whole(shape), shape=shape)
    near = spec._replace(dilation=(1, 1), padding=(spec.padding[0] // down, spec.padding[1] // across),
                         **({"size": (v.shape[2] // down, v.shape[3] // across)} if v.op.name == "conv_input" else {}))
    if v.op.name == "conv_weight": return Value(v.op, (sifted(v.ins[0]), sifted(v.ins[1])), near, v.dtype, v.shape)
    n, c, h, w = v.shape
    small = Value(v.op, (sifted(v.ins[0]), *v.ins[1:]), near, v.dtype, (n * down * across, c, h // down, w // across))
    return woven(small, v.shape)


def product(v, turning=False):
    """A convolution whose taps are as large as the image, as the matrix product it is. `turning`: sums run over pixels, then channels; for a window of a kernel
    has few taps side by side, which are no line to copy, but many channels."""
    def order(shape):
        """Strides of (n, c, *size) as the matrix has it."""
        if not turning: return contiguous(shape)
        n, *pixels, c = contiguous((shape[0], *shape[2:], shape[1]))
        return n, c, *pixels

    def matrix(x):
        line, strides = (x.shape[0], math.prod(x.shape[1:])), contiguous(x.shape)
        if turning: x = make("view", x, attr=View((x.shape[0], *x.shape[2:], x.shape[1]), (strides[0], *strides[2:], strides[1]), 0),
                             shape=(x.shape[0], *x.shape[2:], x.shape[1]))
        return make("view", x, attr=whole(line), shape=line)

    def turned(x): return make("view", x, attr=View(x.shape[::-1], (1, x.shape[1]), 0), shape=x.shape[::-1])
    a, b, *bias = v.ins
    a, b = (matrix(a), turned(matrix(b))) if v.op.name == "conv" else (matrix(a), matrix(b)) if v.op.name == "conv_input" else (turned(matrix(a)), matrix(b))
    out = make("matmul", a, b, attr=None, shape=(a.shape[0], b.shape[1]))
    if bias: out = make("add", out, bias[0], attr=None, shape=out.shape)
    return make("view", out, attr=View(v.shape, order(v.shape), 0), shape=v.shape)


def tiles(v, spec, kernel, out) -> bool:
    """Is it worth copying the image in patches, as its taps cut it? They must be read by many channels."""
    tight = math.prod(spec.stride) > 1 and not any(spec.padding) and max(spec.dilation) == spec.groups == 1
    return tight and kernel.shape[0] >= 64 and math.prod(out) >= 32 and v.dtype.opmath is v.dtype


def patches(v, image, kernel, out):
    """A convolution whose taps lie side by side, as the product of its kernel and the image's patches, (n, c * taps, pixels)."""
    (n, c), (k, *_), s = image.shape[:2], kernel.shape, contiguous(image.shape)
    taps, pixels, depth = kernel.shape[2:], math.prod(out), math.prod(kernel.shape[1:])

    def plain(x, *shape): return make("view", x, attr=whole(shape), shape=shape)
    cut = View((n, c, *taps, *out), (*s, *[a * b for a, b in zip(s[2:], taps)]), 0)
    p = plain(make("view", image, attr=cut, shape=cut.shape), n, depth, pixels)
    if v.op.name == "conv_weight":
        p = make("view", p, attr=View((n, pixels, depth), (depth * pixels, 1, pixels), 0), shape=(n, pixels, depth))
        each = make("matmul", plain(v.ins[0], n, k, pixels), p, attr=None, shape=(n, k, depth))
        return plain(make("sum", each, attr=(0,), shape=(1, k, depth)), *v.shape)
    y = make("matmul", plain(kernel, k, depth), p, attr=None, shape=(n, k, pixels))
    if len(v.ins) > 2: y = make("add", y, plain(v.ins[2], k, 1), attr=None, shape=y.shape)
    return plain(y, *v.shape)


def meeting(size: int, out: int, taps: int, stride: int, padding: int, dilation: int) -> list[int]:
    """An axis's taps that meet a pixel for some output."""
    starts = [tap * dilation - padding for tap in range(taps)]        # of output 0; output j is j * stride further on
    return [tap for tap, at in enumerate(starts) if max(-(at // stride), 0) <= min((size - 1 - at) // stride, out - 1)]


RULES = {"add": add, "cast": cast, "view": view, "bitcast": bitcast, "put": put, "addput": addput, "cat": cat, "matmul": matmul, "conv": conv,
         "conv_input": conv, "conv_weight": conv}
