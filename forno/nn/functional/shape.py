"""Functions that only move values: padding, pixel and channel shuffles, unfold and fold."""
from __future__ import annotations

import math

from ...framework import api as torch, autocast, neural, views
from .._arguments import _pair

_PADDED_AXES = {2: (2, 3), 4: (3, 4), 6: (4, 5)}          # length of `pad` -> input dimensions for which the non-constant modes are defined


def _pad_constant(input, pad, value):
    start, length, shape, given = [], [], list(input.shape), input
    for axis in range(input.dim()):
        i = 2 * (input.dim() - 1 - axis)
        low, high = (pad[i], pad[i + 1]) if i < len(pad) else (0, 0)
        shape[axis] += low + high
        if shape[axis] < 0:
            raise RuntimeError(f"The input size {input.size(axis)}, plus negative padding {low} and {high}, resulted in a negative output size, "
                               f"which is "
                               f"invalid. Check dimension {axis} of your input.")
        first = max(-low, 0)
        input = input if low >= 0 and high >= 0 else input.narrow(axis, first, max(input.size(axis) - first - max(-high, 0), 0))
        start.append(max(low, 0))
        length.append(input.size(axis))
    out = torch.full(shape, value, dtype=input.dtype, device=input.device)
    out[tuple(slice(s, s + n) for s, n in zip(start, length))] = input
    return views.channels_like(out, given)


def pad(input, pad, mode="constant", value=None):
    """`pad` lists (before, after) of the last dimension, then of the one before it, …; modes constant, reflect, replicate, circular."""
    pad = tuple(pad)
    if len(pad) % 2:
        raise RuntimeError("Padding length must be divisible by 2")
    if len(pad) > 2 * input.dim():
        raise RuntimeError("Padding length should be less than or equal to two times the input dimension but got padding length "
                           f"{len(pad)} and input of dimension {input.dim()}")
    if mode == "constant":
        return _pad_constant(input, pad, 0 if value is None else value)
    if value:
        raise RuntimeError(f'Padding mode "{mode}" doesn\'t take in value argument')
    if input.dim() not in _PADDED_AXES.get(len(pad), ()):
        raise NotImplementedError("Only 2D, 3D, 4D, 5D padding with non-constant padding are supported for now")
    if mode not in ("reflect", "replicate", "circular"):
        raise NotImplementedError(f"Unrecognised padding mode {mode}")
    for i in range(len(pad) // 2):
        axis, low, high = input.dim() - 1 - i, pad[2 * i], pad[2 * i + 1]
        n = input.size(axis)
        if mode == "reflect" and not (low < n and high < n):
            raise RuntimeError(f"Padding size should be less than the corresponding input dimension, but got: padding ({low}, {high}) at dimension "
                               f"{axis} of input {list(input.shape)}")
        if mode == "circular" and not (low <= n and high <= n):
            raise RuntimeError("Padding value causes wrapping around more than once.")
        if n + low + high < (1 if mode != "circular" else 0):
            raise RuntimeError(f"input {list(input.shape)} is too small for padding ({low}, {high}) at dimension {axis}")
    if mode == "replicate" or mode == "reflect" and len(pad) < 6: input = autocast.in_float32(input)
    amounts = [(0, 0)] * input.dim()
    for i in range(len(pad) // 2):
        axis, low, high = input.dim() - 1 - i, pad[2 * i], pad[2 * i + 1]
        if mode == "circular" and (low < 0 or high < 0):                     # what is cut is gone before anything is repeated
            input = input.narrow(axis, max(-low, 0), input.size(axis) - max(-low, 0) - max(-high, 0))
            low, high = max(low, 0), max(high, 0)
        amounts[axis] = low, high
    return neural.padded(input, mode, tuple(amounts))


def _check_shuffle(function, input, name, factor):
    if input.dim() < 3:
        raise RuntimeError(f"{function} expects input to have at least 3 dimensions, but got input with {input.dim()} dimension(s)")
    if factor <= 0:
        raise RuntimeError(f"{function} expects a positive {name}, but got {factor}")


def pixel_shuffle(input, upscale_factor):
    """(*, C r², H, W) -> (*, C, H r, W r) (Shi et al., 2016)."""
    r = upscale_factor
    _check_shuffle("pixel_shuffle", input, "upscale_factor", r)
    *lead, c, h, w = input.shape
    if c % (r * r):
        raise RuntimeError(f"pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, but "
                           f"input.size(-3)={c} is not divisible by {r * r}")
    x = input.reshape(*lead, c // (r * r), r, r, h, w)
    n = len(lead)
    x = x.permute(*range(n + 1), n + 3, n + 1, n + 4, n + 2).reshape(*lead, c // (r * r), h * r, w * r)     # (*, C, H, r, W, r)
    return views.channels_like(x, input)


def pixel_unshuffle(input, downscale_factor):
    """(*, C, H r, W r) -> (*, C r², H, W)."""
    r = downscale_factor
    _check_shuffle("pixel_unshuffle", input, "downscale_factor", r)
    *lead, c, h, w = input.shape
    for name, size in (("height", h), ("width", w)):
        if size % r:
            raise RuntimeError(f"pixel_unshuffle expects {name} to be divisible by downscale_factor, but {size} is not divisible by {r}")
    x = input.reshape(*lead, c, h // r, r, w // r, r)
    n = len(lead)
    x = x.permute(*range(n + 1), n + 2, n + 4, n + 1, n + 3).reshape(*lead, c * r * r, h // r, w // r)      # (*, C, r, r, H, W)
    return views.channels_like(x, input)


def channel_shuffle(input, groups):
    """Interleave `groups` groups of channels: (N, g, C/g, *) -> (N, C/g, g, *) (Zhang et al., 2018)."""
    if input.dim() < 3:
        raise RuntimeError(f"channel_shuffle expects input with > 2 dims, but got input with sizes {list(input.shape)}")
    n, c = input.shape[:2]
    if groups <= 0:
        raise RuntimeError(f"Number of groups to divide channels in must be positive. Value of groups:{groups}")
    if c % groups:
        raise RuntimeError(f"Number of channels must be divisible by groups. Got {c} channels and {groups} groups.")
    return input.reshape(n, groups, c // groups, *input.shape[2:]).transpose(1, 2).reshape(input.shape)


native_channel_shuffle = channel_shuffle


def _blocks(size, kernel, dilation, padding, stride):
    """How many windows fit along each of the two axes."""
    return tuple((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, d, p, s in zip(size, kernel, dilation, padding, stride))


def _check_windows(kernel, dilation, padding, stride):
    for name, pair, least in (("kernel", kernel, 1), ("dilation", dilation, 1), ("padding", padding, 0), ("stride", stride, 1)):
        if min(pair) < least:
            raise RuntimeError(f"{name} should be {'greater than zero' if least else 'non-negative'}, but got {name}_height: {pair[0]} {name}_width: "
                               f"{pair[1]}")


def unfold(input, kernel_size, dilation=1, padding=0, stride=1):
    """Sliding blocks as columns: (N, C, H, W) -> (N, C kh kw, L)."""
    kernel, dilation, padding, stride = map(_pair, (kernel_size, dilation, padding, stride))
    _check_windows(kernel, dilation, padding, stride)
    if input.dim() not in (3, 4) or 0 in input.shape[-3:]:
        raise RuntimeError("Expected 3D or 4D (batch mode) tensor with possibly 0 batch size and other non-zero dimensions for input, but got: "
                           f"{list(input.shape)}")
    x = input if input.dim() == 4 else input.unsqueeze(0)
    blocks = _blocks(x.shape[2:], kernel, dilation, padding, stride)
    if min(blocks) < 1:
        raise RuntimeError(f"Given input with spatial size {tuple(x.shape[2:])}, kernel_size={kernel}, dilation={dilation}, padding={padding}, "
                           f"calculated shape of the array of sliding blocks as {blocks}, but its components must be at least one.")
    if any(padding):
        x = _pad_constant(x, (padding[1], padding[1], padding[0], padding[0]), 0)
    for axis in (0, 1):
        x = x.unfold(2 + axis, dilation[axis] * (kernel[axis] - 1) + 1, stride[axis])        # (N, C, oh, ow, span h, span w)
    x = x[..., ::dilation[0], ::dilation[1]].permute(0, 1, 4, 5, 2, 3)                       # (N, C, kh, kw, oh, ow)
    x = x.reshape(x.size(0), math.prod(x.shape[1:4]), blocks[0] * blocks[1])
    return x if input.dim() == 4 else x.squeeze(0)


def fold(input, output_size, kernel_size, dilation=1, padding=0, stride=1):
    """Sum of columns at their places, the adjoint of unfold: (N, C kh kw, L) -> (N, C, H, W)."""
    size, kernel, dilation, padding, stride = map(_pair, (output_size, kernel_size, dilation, padding, stride))
    _check_windows(kernel, dilation, padding, stride)
    if input.dim() not in (2, 3) or 0 in input.shape[-2:]:
        raise RuntimeError("Expected 2D or 3D (batch mode) tensor for input with possibly 0 batch size and non-zero dimensions for input, but got: "
                           f"{list(input.shape)}")
    x = input if input.dim() == 3 else input.unsqueeze(0)
    kh, kw = kernel
    if x.size(1) % (kh * kw):
        raise RuntimeError("Expected size of input's dimension 1 to be divisible by the product of kernel_size, but got "
                           f"input.size(1)={x.size(1)} and kernel_size={kernel}.")
    oh, ow = _blocks(size, kernel, dilation, padding, stride)
    if oh < 1 or ow < 1 or x.size(2) != oh * ow:
        raise RuntimeError(f"Given output_size={size}, kernel_size={kernel}, dilation={dilation}, padding={padding}, stride={stride}, expected size "
                           f"of "
                           f"input's dimension 2 to match the calculated number of sliding blocks {oh} * {ow} = {oh * ow}, but got "
                           f"input.size(2)={x.size(2)}.")
    x = x.reshape(x.size(0), x.size(1) // (kh * kw), kh, kw, oh, ow)
    out = torch.zeros(x.size(0), x.size(1), size[0] + 2 * padding[0], size[1] + 2 * padding[1], dtype=x.dtype, device=x.device)
    for i in range(kh):
        for j in range(kw):
            top, left = i * dilation[0], j * dilation[1]
            out[:, :, top:top + stride[0] * oh:stride[0], left:left + stride[1] * ow:stride[1]] += x[:, :, i, j]
    out = out[:, :, padding[0]:padding[0] + size[0], padding[1]:padding[1] + size[1]]
    return out if input.dim() == 3 else out.squeeze(0)
