"""Iteration domains, compared by where they cut a row-major position.

A shape's **cuts** are the products of its trailing lengths: (B, T, C) has C, TC, BTC. Two shapes describe one domain if their cuts together
still divide each other, so (B*T, C) and (B, T, C) meet in (B, T, C) without anyone asking whether a reshape is a view. The reduced axes
are intervals of positions, `window`: reducing T is ((C, TC),). Values that live in a domain are **inner** (one per position) or **outer**
(one per position of the kept axes alone). Axes of length 1 don't exist here.
"""
from __future__ import annotations

from ..core.shape import View

Cuts = tuple                                      # of ints, ascending
Window = tuple                                    # of (low, high) intervals, ascending, not adjacent


def cuts_of(shape) -> Cuts:
    out, step = [], 1
    for n in reversed(shape):
        if n != 1: step *= n; out.append(step)
    return tuple(out)


def window_of(shape, axes) -> Window:
    """The intervals that reducing these axes removes."""
    out, step = [], 1
    for d in range(len(shape) - 1, -1, -1):
        n = shape[d]
        if n == 1: continue
        if d in axes:
            if out and out[-1][1] == step: out[-1] = (out[-1][0], step * n)
            else: out.append((step, step * n))
        step *= n
    return tuple(out)


def size(cuts: Cuts) -> int: return cuts[-1] if cuts else 1


def kept(cuts: Cuts, window: Window | None) -> int:
    """Number of positions of the kept axes."""
    n = size(cuts)
    for lo, hi in window or (): n //= hi // lo
    return n


def meet(a: Cuts, b: Cuts) -> Cuts | None:
    """The coarsest domain finer than both."""
    if a == b: return a
    out, last = sorted({*a, *b}), 1
    for c in out:
        if c % last: return None
        last = c
    return tuple(out)


def axes(cuts: Cuts, window: Window | None) -> list[tuple[int, int, bool]]:
    """(length, row-major stride, reduced) of every axis, outermost first."""
    out, last = [], 1
    for c in cuts:
        out.append((c // last, last, any([lo <= last < hi for lo, hi in window or ()])))
        last = c
    return out[::-1]


def lift(cuts: Cuts, window: Window, outer: Cuts) -> Cuts | None:
    """`cuts`, refined so that the kept axes also have the cuts of an outer domain."""
    extra, step, todo = [], 1, list(outer)
    for n, stride, reduced in reversed(axes(cuts, window)):
        if reduced: continue
        while todo and todo[0] <= step * n:
            c = todo.pop(0)
            if c % step: return None
            extra.append(stride * (c // step))
        step *= n
    return None if todo else meet(cuts, tuple(sorted(extra)))


def inner_map(cuts: Cuts, window: Window | None) -> View:
    """Where an inner value's element lies, by index along `axes`."""
    a = axes(cuts, window)
    return View(tuple([n for n, _, _ in a]), tuple([s for _, s, _ in a]), 0)


def outer_map(cuts: Cuts, window: Window) -> View:
    a, step, strides = axes(cuts, window), 1, []
    for n, _, reduced in reversed(a):
        strides.append(0 if reduced else step)
        if not reduced: step *= n
    return View(tuple([n for n, _, _ in a]), tuple(strides[::-1]), 0)


def relation(w: View, count: int) -> tuple[str, Window | None]:
    """How a value of `count` elements, seen as `w` by its consumer, lies in the consumer's domain.

    'same': element for element. 'repeated': the same along the intervals given, in order along the rest. 'other': neither.
    """
    if w.offset: return "other", None
    out, step, expected = [], 1, 1
    for n, s in zip(reversed(w.shape), reversed(w.strides)):
        if n == 1: continue
        if s == 0:
            if out and out[-1][1] == step: out[-1] = (out[-1][0], step * n)
            else: out.append((step, step * n))
        elif s == expected: expected *= n
        else: return "other", None
        step *= n
    if expected != count: return "other", None
    return ("repeated", tuple(out)) if out else ("same", None)
