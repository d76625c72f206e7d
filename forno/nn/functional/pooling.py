"""Pooling over windows of one, two or three dimensions: maximum, average, power mean; fixed, adaptive and fractional windows; unpooling."""
from __future__ import annotations

import math

from ...framework import api as torch
from .._arguments import _list_with_default, _ntuple, _pair, _single, _triple

avg_pool1d, avg_pool2d, avg_pool3d = torch.avg_pool1d, torch.avg_pool2d, torch.avg_pool3d
adaptive_avg_pool1d = torch.adaptive_avg_pool1d


def _either(name, with_indices):
    """One function for both forms: `return_indices` chooses the tuple or its first element."""
    def pool(*args, **kwargs):
        wanted = kwargs.get("return_indices", args[_RETURN_INDICES[name]] if len(args) > _RETURN_INDICES[name] else False)
        return with_indices(*args, **kwargs) if wanted else with_indices(*args, **kwargs)[0]
    pool.__name__ = pool.__qualname__ = name
    pool.__doc__ = with_indices.__doc__
    return pool


_RETURN_INDICES = {"adaptive_max_pool1d": 2, "adaptive_max_pool2d": 2, "adaptive_max_pool3d": 2, "fractional_max_pool2d": 4,
                   "fractional_max_pool3d": 4}


# ---- fixed windows ----------------------------------------------------------------------------------------------------------------------

def max_pool1d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    pool = torch.max_pool1d_with_indices if return_indices else torch.max_pool1d
    return pool(input, kernel_size, kernel_size if stride is None else stride, padding, dilation, ceil_mode)


def max_pool2d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    pool = torch.max_pool2d_with_indices if return_indices else torch.max_pool2d
    return pool(input, kernel_size, kernel_size if stride is None else stride, padding, dilation, ceil_mode)


def max_pool3d(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    pool = torch.max_pool3d_with_indices if return_indices else torch.max_pool3d
    return pool(input, kernel_size, kernel_size if stride is None else stride, padding, dilation, ceil_mode)


def max_pool1d_with_indices(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    return max_pool1d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool2d_with_indices(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    return max_pool2d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def max_pool3d_with_indices(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False):
    return max_pool3d(input, kernel_size, stride, padding, dilation, ceil_mode, True)


def _lp_pool(input, norm_type, kernel_size, stride, ceil_mode, n, max_pool, avg_pool):
    """(sum of x^p over the window)^(1/p); windows cut off by ceil_mode count as whole ones."""
    if norm_type in (float("inf"), -float("inf")):
        sign = 1 if norm_type > 0 else -1
        return sign * max_pool(sign * input.abs(), kernel_size, stride, 0, 1, ceil_mode)
    mean = avg_pool(input.pow(norm_type), kernel_size, kernel_size if stride is None else stride, 0, ceil_mode)
    return (torch.sign(mean) * torch.relu(torch.abs(mean))).mul(math.prod(_ntuple(n)(kernel_size))).pow(1.0 / norm_type)


def lp_pool1d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    return _lp_pool(input, norm_type, kernel_size, stride, ceil_mode, 1, max_pool1d, avg_pool1d)


def lp_pool2d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    return _lp_pool(input, norm_type, kernel_size, stride, ceil_mode, 2, max_pool2d, avg_pool2d)


def lp_pool3d(input, norm_type, kernel_size, stride=None, ceil_mode=False):
    return _lp_pool(input, norm_type, kernel_size, stride, ceil_mode, 3, max_pool3d, avg_pool3d)


# ---- windows that follow from the output size -------------------------------------------------------------------------------------------

def adaptive_avg_pool2d(input, output_size): return torch.adaptive_avg_pool2d(input, _list_with_default(output_size, input.size()))
def adaptive_avg_pool3d(input, output_size): return torch.adaptive_avg_pool3d(input, _list_with_default(output_size, input.size()))


def adaptive_max_pool1d_with_indices(input, output_size, return_indices=False):
    return torch.adaptive_max_pool1d(input, output_size)


def adaptive_max_pool2d_with_indices(input, output_size, return_indices=False):
    return torch.adaptive_max_pool2d(input, _list_with_default(output_size, input.size()))


def adaptive_max_pool3d_with_indices(input, output_size, return_indices=False):
    return torch.adaptive_max_pool3d(input, _list_with_default(output_size, input.size()))


adaptive_max_pool1d = _either("adaptive_max_pool1d", adaptive_max_pool1d_with_indices)
adaptive_max_pool2d = _either("adaptive_max_pool2d", adaptive_max_pool2d_with_indices)
adaptive_max_pool3d = _either("adaptive_max_pool3d", adaptive_max_pool3d_with_indices)


# ---- random windows ---------------------------------------------------------------------------------------------------------------------

def _window_starts(u, size, kernel, out):
    """First element of each window along one axis: a random, nearly regular sequence that ends at the border. u (...) in [0, 1) -> (..., out)."""
    if out == 1:
        return torch.full((*u.shape, 1), size - kernel, dtype=torch.long, device=u.device)
    alpha = (size - kernel) / (out - 1)
    i = torch.arange(out, dtype=u.dtype, device=u.device)
    u = u.unsqueeze(-1)
    starts = ((i + u) * alpha).to(torch.long) - (u * alpha).to(torch.long)
    return torch.where(i == out - 1, size - kernel, starts)


def _fractional_max_pool(input, kernel_size, output_size, output_ratio, samples, n):
    name, tuples = f"fractional_max_pool{n}d", _ntuple(n)
    if output_size is None and output_ratio is None:
        raise ValueError(f"{name} requires specifying either an output_size or an output_ratio")
    if output_size is None and isinstance(output_ratio, (tuple, list)) and len(output_ratio) > n:
        raise ValueError(f"{name} requires output_ratio to either be a single Int or tuple of Ints.")
    sizes, kernel = input.shape[-n:], tuples(kernel_size)
    out = tuples(output_size) if output_size is not None else tuple(int(s * r) for s, r in zip(sizes, tuples(output_ratio)))
    for s, k, o in zip(sizes, kernel, out):
        if o + k - 1 > s:
            raise RuntimeError(f"{name}(): pool size {k} too large relative to input size {s} for output size {o}")
    batched = input.dim() == n + 2
    x = input if batched else input.unsqueeze(0)
    if samples is None:
        samples = torch.rand(x.size(0), x.size(1), n, dtype=input.dtype, device=input.device)
    samples = samples[:x.size(0)]
    flat = torch.zeros((), dtype=torch.long, device=input.device)                            # index into the flattened space of each window element
    for axis in range(n):
        u = samples[..., n - 1 - axis if n == 2 else axis]                                   # PyTorch's samples are (w, h) in 2d, (t, h, w) in 3d
        at = _window_starts(u, sizes[axis], kernel[axis], out[axis]).unsqueeze(-1)           # (N, C, out, 1)
        at = at + torch.arange(kernel[axis], device=input.device)                            # (N, C, out, k)
        shape = [1] * (2 * n)
        shape[axis], shape[n + axis] = out[axis], kernel[axis]
        flat = flat + at.reshape(*x.shape[:2], *shape) * math.prod(sizes[axis + 1:])         # (N, C, *out, *kernel)
    flat = flat.reshape(*x.shape[:2], math.prod(out), math.prod(kernel))
    windows = x.flatten(2).gather(2, flat.flatten(2)).reshape(flat.shape)                    # (N, C, out, kernel)
    values, which = windows.max(-1)
    indices = flat.gather(-1, which.unsqueeze(-1)).squeeze(-1)
    shape = (*(x.shape[:2] if batched else x.shape[1:2]), *out)
    return values.reshape(shape), indices.reshape(shape)


def fractional_max_pool2d_with_indices(input, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None):
    """Max pooling over randomly placed windows (Graham, 2014)."""
    return _fractional_max_pool(input, kernel_size, output_size, output_ratio, _random_samples, 2)


def fractional_max_pool3d_with_indices(input, kernel_size, output_size=None, output_ratio=None, return_indices=False, _random_samples=None):
    """Max pooling over randomly placed windows (Graham, 2014)."""
    return _fractional_max_pool(input, kernel_size, output_size, output_ratio, _random_samples, 3)


fractional_max_pool2d = _either("fractional_max_pool2d", fractional_max_pool2d_with_indices)
fractional_max_pool3d = _either("fractional_max_pool3d", fractional_max_pool3d_with_indices)


# ---- unpooling --------------------------------------------------------------------------------------------------------------------------

def _unpool_output_size(input, kernel_size, stride, padding, output_size):
    n = len(kernel_size)
    default = [(input.shape[-n + d] - 1) * stride[d] + kernel_size[d] - 2 * padding[d] for d in range(n)]
    if output_size is None:
        return default
    size = list(output_size[2:] if len(output_size) == n + 2 else output_size)
    if len(size) != n:
        raise ValueError(f"output_size should be a sequence containing {n} or {n + 2} elements, but it has a length of '{len(size)}'")
    for d in range(n):
        if not default[d] - stride[d] < size[d] < default[d] + stride[d]:
            raise ValueError(f'invalid output_size "{size}" (dim {d} must be between {default[d] - stride[d]} and {default[d] + stride[d]})')
        if size[d] < 0:
            raise ValueError(f"max_unpooling: output_size must contain non-negative spatial dimensions, but got output_size[{d}]={size[d]}")
    return size


def _max_unpool(input, indices, kernel_size, stride, padding, output_size, n):
    if input.shape != indices.shape:
        raise RuntimeError(f"Expected shape of indices to be same as that of the input tensor ({tuple(input.shape)}) but got indices tensor with "
                           f"shape: "
                           f"{tuple(indices.shape)}")
    size = _unpool_output_size(input, kernel_size, kernel_size if stride is None else stride, padding, output_size)
    lead = input.shape[:-n]
    flat = torch.zeros(*lead, math.prod(size), dtype=input.dtype, device=input.device)
    volume = "x".join(map(str, size if n > 1 else (*size, 1)))
    places = torch._claimed(indices.flatten(-n), 0, math.prod(size) - 1, RuntimeError, f"Found an invalid max index: {{x}} (output volumes are of size {volume})")
    return flat.scatter(-1, places, input.flatten(-n)).reshape(*lead, *size)


def max_unpool1d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    return _max_unpool(input, indices, _single(kernel_size), None if stride is None else _single(stride), _single(padding), output_size, 1)


def max_unpool2d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    return _max_unpool(input, indices, _pair(kernel_size), None if stride is None else _pair(stride), _pair(padding), output_size, 2)


def max_unpool3d(input, indices, kernel_size, stride=None, padding=0, output_size=None):
    return _max_unpool(input, indices, _triple(kernel_size), None if stride is None else _triple(stride), _triple(padding), output_size, 3)
