"""Shapes and affine views: pure functions on tuples of ints.

A View maps an index to an element of contiguous memory: `offset + sum(i * stride)`, strides and offset in elements.
"""
from __future__ import annotations

import functools
import math
from typing import NamedTuple

import numpy as np


class View(NamedTuple):
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int


def contiguous(shape) -> tuple[int, ...]:
    """Row-major strides of a shape; axes of length 0 count as 1, as in PyTorch."""
    return _row_major(tuple(shape))


@functools.lru_cache(4096)
def _row_major(shape: tuple[int, ...]) -> tuple[int, ...]:
    out, step = [], 1
    for n in reversed(shape):
        out.append(step)
        step *= n if n > 1 else 1
    return tuple(reversed(out))


def is_contiguous(shape, strides) -> bool:
    """PyTorch's test: strides of axes of length 1 don't matter, nor do any when there is no element."""
    step = 1
    if 0 in shape: return True
    for n, s in zip(reversed(shape), reversed(strides)):
        if n == 1: continue
        if s != step: return False
        step *= n
    return True


def whole(shape) -> View: return View(tuple(shape), contiguous(shape), 0)


def broadcast(*shapes) -> tuple[int, ...]:
    """The common shape, or PyTorch's RuntimeError with the axis at fault."""
    ndim = max(map(len, shapes), default=0)
    out = [1] * ndim
    for shape in shapes:
        for i, n in enumerate(shape, ndim - len(shape)):
            if n == 1 or n == out[i]: continue
            if out[i] != 1:
                raise RuntimeError(f"The size of tensor a ({out[i]}) must match the size of tensor b ({n}) at non-singleton dimension {i}")
            out[i] = n
    return tuple(out)


def expand_strides(shape, strides, to) -> tuple[int, ...]:
    """Strides that repeat `shape` over the larger shape `to`: 0 wherever an axis is broadcast."""
    lead = len(to) - len(shape)
    return (0,) * lead + tuple(s if n == m else 0 for n, s, m in zip(shape, strides, to[lead:]))


def dense_layout(shape, strides) -> tuple[int, ...]:
    """The strides that PyTorch's preserve_format gives a copy: the same where they are dense, else dense in the same order of axes."""
    return tuple(strides) if dense(shape, strides) else packed(shape, by_strides(shape, [strides]))


def broadcast_layout(shape, operands) -> tuple[int, ...] | None:
    """Strides that PyTorch gives an elementwise result (aten's TensorIterator), to the letter; None for row-major.

    `operands`: (shape, strides or None) pairs in PyTorch's order. Operands that all lie alike decide at once, also about axes of length 1;
    else axes are ordered by all operands' strides.
    """
    seen = [(tuple(n), contiguous(n) if st is None else st) for n, st in operands]
    if all([n == shape for n, _ in seen]):
        if all([is_contiguous(shape, st) for _, st in seen]): return None
        if all([is_channels_last(shape, st) for _, st in seen]): return named_layout(shape, CHANNELS_LAST)
        first = seen[0][1]
        if all([st == first for _, st in seen]) and dense(shape, first): return exactly(shape, first)
    ndim = len(shape)
    steps = []
    for n, st in seen:
        lead = ndim - len(n)
        steps.append((0,) * lead + tuple(0 if k == 1 and shape[lead + i] != 1 else s for i, (k, s) in enumerate(zip(n, st))))
    order = by_strides(shape, steps)
    return None if order == list(range(ndim - 1, -1, -1)) else exactly(shape, packed(shape, order, 0))


def exactly(shape, strides) -> tuple[int, ...] | None:
    """These strides, or None when row-major strides are the very same numbers."""
    return None if strides == contiguous(shape) else tuple(strides)


def by_strides(shape, steps) -> list[int]:
    """Axes, fastest first. The first operand whose strides tell two axes apart decides their order; axes that none tells apart stay row-major.

    `steps`: strides over `shape` per operand, 0 where it is broadcast. (An insertion sort as in aten: the comparison isn't transitive.)
    """
    def order(a, b):
        for st in steps:
            if st[a] == 0 or st[b] == 0: continue
            if st[a] != st[b]: return -1 if st[a] < st[b] else 1
            if shape[a] > shape[b]: return 1
        return 0
    perm = list(range(len(shape) - 1, -1, -1))
    for i in range(1, len(shape)):
        here = i
        for j in range(i - 1, -1, -1):
            c = order(perm[j], perm[here])
            if c > 0: perm[j], perm[here] = perm[here], perm[j]; here = j
            elif c < 0: break
    return perm


def packed(shape, fastest_first, least=1) -> tuple[int, ...]:
    """Dense strides with the axes in this order. `least`: what an axis of length 0 counts as."""
    strides, step = [0] * len(shape), 1
    for d in fastest_first:
        strides[d] = step
        step *= max(shape[d], least)
    return tuple(strides)


CHANNELS_LAST = {4: (1, 3, 2, 0), 5: (1, 4, 3, 2, 0)}      # axes of images and volumes, fastest first


def named_layout(shape, formats) -> tuple[int, ...] | None:
    """Strides of a shape in a format that says an order of axes per rank; None for row-major."""
    return exactly(shape, packed(shape, formats[len(shape)])) if len(shape) in formats else None


def is_channels_last(shape, strides) -> bool:
    """Are these strides those of channels_last images (not volumes: PyTorch's iterators don't ask)?"""
    if len(shape) != 4: return False
    step = 1
    for d in CHANNELS_LAST[4]:
        if shape[d] == 1: continue
        if strides[d] != step: return False
        step *= shape[d]
    return True


def suggests_channels_last(shape, strides) -> bool:
    """Would PyTorch go on in channels_last after an operand that lies so (suggest_memory_format)? Sliced operands count; ambiguous ones don't."""
    if len(shape) not in CHANNELS_LAST or strides is None: strides = contiguous(shape)
    if len(shape) not in CHANNELS_LAST or strides[1] == 0: return False
    least = 0
    for d in CHANNELS_LAST[len(shape)]:
        if shape[d] == 0 or strides[d] < least or d == 0 and least == strides[1]: return False
        least = strides[d] * max(shape[d], 1)
    return True


def follows(attr, shape, *operands) -> tuple[int, ...] | None:
    """Layout rule of rows on images: channels_last when the first operand suggests it."""
    x = operands[0]
    return named_layout(shape, CHANNELS_LAST) if x.memory is not None and suggests_channels_last(x.shape, x.memory) else None


def preserves(attr, shape, *operands) -> tuple[int, ...] | None:
    """Layout rule of rows whose result PyTorch makes with empty_like of the first operand."""
    x = operands[0]
    return None if x.memory is None else exactly(shape, dense_layout(shape, x.memory))


def overlaps(view: View) -> bool:
    """May two indices reach one element? (Exact for nested strides, careful otherwise.)"""
    if 0 in view.shape: return False
    reach = 0
    for s, n in sorted((abs(s), n) for s, n in zip(view.strides, view.shape) if n > 1):
        if s <= reach: return True
        reach += s * (n - 1)
    return False


def reach(view: View) -> tuple[int, int]:
    """Lowest and highest element a view touches (highest < lowest when it is empty)."""
    if 0 in view.shape: return 0, -1
    spans = [(n - 1) * s for n, s in zip(view.shape, view.strides)]
    return view.offset + sum(min(d, 0) for d in spans), view.offset + sum(max(d, 0) for d in spans)


def restride(shape, strides, to) -> tuple[int, ...] | None:
    """Strides showing the same elements in the same order as `to`, or None when only a copy can (aten's computeStride)."""
    if math.prod(shape) == 0:
        return contiguous(to) if math.prod(to) == 0 else None
    out = [0] * len(to)
    k = len(to) - 1
    base, chunk, count = (strides[-1] if shape else 1), 1, 1        # the innermost run of mergeable axes
    for d in range(len(shape) - 1, -1, -1):
        chunk *= shape[d]
        if d == 0 or (shape[d - 1] != 1 and strides[d - 1] != chunk * base):
            while k >= 0 and (count < chunk or to[k] == 1):
                out[k] = count * base
                count *= to[k]
                k -= 1
            if count != chunk: return None
            if d > 0: base, chunk, count = strides[d - 1], 1, 1
    for i in range(k, -1, -1): out[i] = contiguous(to)[i]
    return tuple(out) if k < 0 or all(to[i] == 1 for i in range(k + 1)) else None


def compose(outer: View, inner: View) -> View | None:
    """The view `inner` of the contiguous value that `outer` shows, as one view of outer's memory; None when it needs a copy.

    A contiguous position is a number in mixed radix, one digit per axis of `outer`. The map stays affine exactly when no sum of
    inner's steps carries from one digit into the next; axes that continue each other in memory are merged first.
    """
    if outer.strides == contiguous(outer.shape): return View(inner.shape, inner.strides, outer.offset + inner.offset)
    if 0 in inner.shape: return View(inner.shape, inner.strides, outer.offset)
    axes: list[list[int]] = []                 # [length, memory stride], outermost first
    for n, t in zip(outer.shape, outer.strides):
        if n == 1: continue
        if axes and axes[-1][1] == t * n: axes[-1] = [axes[-1][0] * n, t]
        else: axes.append([n, t])

    def digits(linear):
        out = []
        for n, _ in reversed(axes): linear, d = divmod(linear, n); out.append(d)
        return out[::-1] if linear == 0 else None
    top = digits(inner.offset)
    if top is None: return None
    offset, strides = outer.offset + sum(d * t for d, (_, t) in zip(top, axes)), []
    for n, s in zip(inner.shape, inner.strides):
        if n == 1 or s == 0: strides.append(s); continue
        step = digits(abs(s))
        if step is None or s < 0: return None
        top = [d + m * (n - 1) for d, m in zip(top, step)]
        strides.append(sum(m * t for m, (_, t) in zip(step, axes)))
    if any(d >= n for d, (n, _) in zip(top, axes)): return None
    return View(inner.shape, tuple(strides), offset)


def dense(shape, strides) -> bool:
    """Do these strides reach every element of their range exactly once, in some order of axes?"""
    step = 1
    for s, n in sorted((s, n) for s, n in zip(strides, shape) if n > 1):
        if s != step: return False
        step *= n
    return True


def permutation(strides, shape) -> tuple[int, ...] | None:
    """The axis order, outermost first, in which this memory is row-major; None when it already is, or isn't dense."""
    if is_contiguous(shape, strides): return None
    order = sorted(range(len(shape)), key=lambda d: (-strides[d], shape[d] == 1))
    return tuple(order) if is_contiguous([shape[d] for d in order], [strides[d] for d in order]) else None


def normalize_dim(dim: int, ndim: int) -> int:
    """A non-negative axis, or PyTorch's IndexError."""
    n = max(ndim, 1)
    if not -n <= dim < n:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {dim})")
    return dim % n


def as_numpy_strided(array: np.ndarray, view: View) -> np.ndarray:
    """A NumPy window on a flat array through a view (for oracles and tests)."""
    lo, hi = reach(view)
    if hi >= lo and not (lo >= 0 and hi < array.size):
        raise RuntimeError(f"view {tuple(view)} reaches elements {lo}..{hi} of memory with {array.size}")
    flat = array.reshape(-1)
    return np.lib.stride_tricks.as_strided(flat[min(view.offset, flat.size):], view.shape, [s * array.itemsize for s in view.strides])
