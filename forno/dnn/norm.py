"""Normalization rows: layer, group, batch, root-mean-square. One line to record, one gradient formula per operand, few kernels when planned.

Operands are the input, then weight and bias where the spec says so. Forward and gradients write the same mean and 1/deviation, so that
they are computed once where they meet in one plan. Statistics and arithmetic of half inputs are in float32; one rounding at the end.
Running statistics of batch_norm: rows `mean` and `var` over the same axes are the same expressions, hence free.
"""
from __future__ import annotations

import math
from typing import NamedTuple

from ..core import dtype as dt
from ..core.shape import CHANNELS_LAST, follows, is_channels_last, is_contiguous, named_layout
from .elementwise import TITLES, conjugate, times
from .functions import rsqrt
from .recipes import average, centred, need, recipe, total, up


class NormSpec(NamedTuple):
    """`axes` are reduced by the statistics. group_norm: `groups` instead. Weight and bias broadcast from the right (layer) or along axis 1."""
    axes: tuple[int, ...] = ()
    eps: float = 1e-5
    weight: bool = False
    bias: bool = False
    groups: int = 0


def affine(spec, more):
    """(weight, bias) of the operands that follow the statistics."""
    more = list(more)
    return (more.pop(0) if spec.weight else None), (more.pop(0) if spec.bias else None)


def _infer(spec, x, *more):
    need("normalization", x, (dt.FLOAT,))
    for t in more:
        if t.dtype is not x.dtype and t.dtype is not x.dtype.opmath:
            raise RuntimeError(f"expected scalar type {TITLES[x.dtype.name]} but found {TITLES[t.dtype.name]}")
    return x.dtype, x.shape


# ---- how the three kinds lay out their values: statistics run over `axes` of `fold(x)`
def fold(spec, x):
    """group_norm as (N, groups, everything else of the group)."""
    return x.reshape((x.shape[0], spec.groups, math.prod(x.shape[1:]) // spec.groups)) if spec.groups else x


def axes_of(spec): return (2,) if spec.groups else spec.axes


def spans(spec, t, x) -> bool:
    """Does a parameter cover the last axes of x (layer and RMS norm)? Otherwise it has one element per channel."""
    return not spec.groups and spec.axes == tuple(range(len(x.shape) - len(t.shape), len(x.shape)))


def channel(t, x, spec):
    """A parameter next to x."""
    return up(t) if spans(spec, t, x) else up(t).reshape((1, -1, *(1,) * (len(x.shape) - 2)))


def collect(g, like, x, spec):
    """A gradient in x's shape, summed down to a parameter."""
    axes = tuple(range(len(x.shape) - len(like.shape))) if spans(spec, like, x) else (0, *range(2, len(x.shape)))
    return total(g, axes).reshape(like.shape).to(like.dtype)


def statistics(spec, x):
    """(x - mean, 1 / deviation) of the folded float32 input."""
    x = fold(spec, up(x))
    d = centred(x, axes_of(spec))
    return d, (average(d * d, axes_of(spec)) + spec.eps).row(rsqrt)


def normalized(spec, x):
    d, r = statistics(spec, x)
    return (d * r).reshape(x.shape)


def _expand(spec, x, *more):
    w, b = affine(spec, more)
    y = normalized(spec, x)
    if w is not None: y = y * channel(w, x, spec)
    if b is not None: y = y + channel(b, x, spec)
    return y.to(x.dtype)


def _input_grad(g, o, x, *more, attr):
    """rstd · (g - mean(g) - x̂ · mean(g · x̂)), with g already times the weight."""
    w, _ = affine(attr, more)
    gw = up(g) if w is None else up(g) * channel(w, x, attr)
    gw = fold(attr, gw)
    d, r = statistics(attr, x)
    n, axes = d * r, axes_of(attr)
    return (r * (gw - average(gw, axes) - n * average(gw * n, axes))).reshape(x.shape).to(x.dtype)


def _weight_grad(g, o, x, *more, attr):
    w, b = affine(attr, more)
    if w is None: return collect(up(g), b, x, attr)                # the only parameter is a bias
    return collect(up(g) * normalized(attr, x), w, x, attr)


def _bias_grad(g, o, x, *more, attr): return collect(up(g), affine(attr, more)[1], x, attr)


def _images(attr, shape, x, *more):
    if x.memory is None or is_contiguous(shape, x.memory): return None
    return named_layout(shape, CHANNELS_LAST) if is_channels_last(shape, x.memory) else follows(attr, shape, x)


layer_norm = recipe("layer_norm", _infer, _expand, _input_grad, _weight_grad, _bias_grad)
group_norm = recipe("group_norm", _infer, _expand, _input_grad, _weight_grad, _bias_grad, layout=follows)
batch_norm = recipe("batch_norm", _infer, _expand, _input_grad, _weight_grad, _bias_grad, layout=_images)


# ---- batch norm with given statistics: (x, mean, var[, weight][, bias])
def _given(spec, x, mean, var): return (up(x) - channel(mean, x, spec)), (channel(var, x, spec) + spec.eps).row(rsqrt)


def _given_expand(spec, x, mean, var, *more):
    w, b = affine(spec, more)
    d, r = _given(spec, x, mean, var)
    y = d * (r if w is None else r * channel(w, x, spec))
    return (y if b is None else y + channel(b, x, spec)).to(x.dtype)


def _given_input_grad(g, o, x, mean, var, *more, attr):
    w, _ = affine(attr, more)
    r = (channel(var, x, attr) + attr.eps).row(rsqrt)
    return (up(g) * (r if w is None else r * channel(w, x, attr))).to(x.dtype)


def _given_weight_grad(g, o, x, mean, var, *more, attr):
    w, b = affine(attr, more)
    if w is None: return collect(up(g), b, x, attr)
    d, r = _given(attr, x, mean, var)
    return collect(up(g) * (d * r), w, x, attr)


batch_norm_given = recipe("batch_norm_given", _infer, _given_expand, _given_input_grad, None, None, _given_weight_grad,
                          lambda g, o, x, mean, var, *more, attr: collect(up(g), affine(attr, more)[1], x, attr), layout=_images)


# ---- root mean square
def _rms_infer(spec, x, *more): return (x.dtype, x.shape) if x.dtype.is_complex else _infer(spec, x, *more)


def _rms(spec, x): return (average(up(x) * up(x), spec.axes) + spec.eps).row(rsqrt)


def _rms_expand(spec, x, *more):
    w, _ = affine(spec, more)
    y = up(x) * _rms(spec, x)
    return (y if w is None else y * channel(w, x, spec)).to(x.dtype)


def _rms_input_grad(g, o, x, *more, attr):
    w, _ = affine(attr, more)
    gw, r = up(g) if w is None else times(up(g), channel(w, x, attr)), conjugate(_rms(attr, x))
    n = conjugate(up(x)) * r
    return (r * (gw - n * average(gw * n, attr.axes))).to(x.dtype)


rms_norm = recipe("rms_norm", _rms_infer, _rms_expand, _rms_input_grad, lambda g, o, x, w, attr: collect(times(up(g), up(x) * _rms(attr, x)), w, x, attr))
