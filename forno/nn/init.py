"""Initial values, in place and without gradient. Every function draws random numbers in PyTorch's order, so equal seeds give equal weights.

Glorot and Bengio (2010): xavier; He et al. (2015): kaiming; Saxe et al. (2013): orthogonal; Martens (2010): sparse.
"""
from __future__ import annotations

import functools
import math
import warnings

from ..framework import api as torch

__all__ = ["calculate_gain", "uniform_", "normal_", "trunc_normal_", "constant_", "ones_", "zeros_", "eye_", "dirac_", "xavier_uniform_",
           "xavier_normal_", "kaiming_uniform_", "kaiming_normal_", "orthogonal_", "sparse_", "uniform", "normal", "constant", "eye", "dirac",
           "xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal", "orthogonal", "sparse"]

_UNIT_GAIN = {"linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "sigmoid"}


def calculate_gain(nonlinearity, param=None):
    """The factor by which a nonlinearity shrinks the standard deviation; `param` is leaky_relu's slope."""
    if nonlinearity in _UNIT_GAIN:
        return 1
    if nonlinearity == "leaky_relu":
        if param is not None and (isinstance(param, bool) or not isinstance(param, (int, float))):
            raise ValueError(f"negative_slope {param} not a valid number")
        slope = 0.01 if param is None else param
        return math.sqrt(2.0 / (1 + slope ** 2))
    gain = {"tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4}.get(nonlinearity)
    if gain is None:
        raise ValueError(f"Unsupported nonlinearity {nonlinearity}")
    return gain


@torch.no_grad()
def uniform_(tensor, a=0.0, b=1.0, generator=None): return tensor.uniform_(a, b, generator=generator)


@torch.no_grad()
def normal_(tensor, mean=0.0, std=1.0, generator=None): return tensor.normal_(mean, std, generator=generator)


@torch.no_grad()
def constant_(tensor, val): return tensor.fill_(val)


@torch.no_grad()
def ones_(tensor): return tensor.fill_(1.0)


@torch.no_grad()
def zeros_(tensor): return tensor.zero_()


@torch.no_grad()
def trunc_normal_(tensor, mean=0.0, std=1.0, a=-2.0, b=2.0, generator=None):
    """Normal numbers redrawn until they lie in [a, b]: whole fills while most are kept, rejection from a uniform proposal in far tails."""
    def cdf(x): return (1.0 + math.erf(x / math.sqrt(2.0))) / 2.0
    if mean < a - 2 * std or mean > b + 2 * std:
        warnings.warn("mean is more than 2 std from [a, b] in nn.init.trunc_normal_. The distribution of values may be incorrect.", stacklevel=2)
    if cdf((b - mean) / std) - cdf((a - mean) / std) > 0.3:
        low, high = (torch.tensor(x, dtype=tensor.dtype).item() for x in (a, b))      # the bounds as this dtype rounds them
        drawn = tensor.normal_(mean, std, generator=generator)
        outside = (drawn < low) | (drawn > high)
        while outside.any():
            drawn = torch.where(outside, torch.empty_like(drawn).normal_(mean, std, generator=generator), drawn)
            outside = (drawn < low) | (drawn > high)
        return tensor if drawn is tensor else tensor.copy_(drawn)

    peak = -0.5 * ((max(a, min(mean, b)) - mean) / std) ** 2                           # log density at its maximum within [a, b]

    def rejected(x):
        log_density = x.clone().sub_(mean).div_(std).pow_(2).mul_(-0.5).sub_(peak)
        return torch.empty_like(x).uniform_(generator=generator).log_().gt(log_density)
    drawn = tensor.uniform_(a, b, generator=generator)
    pending = rejected(drawn)
    while pending.any():
        candidates = torch.empty_like(tensor).uniform_(a, b, generator=generator)
        drawn = torch.where(pending, candidates, drawn)
        pending = torch.where(pending, rejected(candidates), pending)
    return tensor if drawn is tensor else tensor.copy_(drawn)


@torch.no_grad()
def eye_(tensor):
    if tensor.ndimension() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    return tensor.copy_(torch.eye(*tensor.shape, dtype=tensor.dtype, device=tensor.device))


@torch.no_grad()
def dirac_(tensor, groups=1):
    """A convolution that hands as many input channels on as it can, in each group."""
    if tensor.ndimension() not in (3, 4, 5):
        raise ValueError("Only tensors with 3, 4, or 5 dimensions are supported")
    if tensor.size(0) % groups != 0:
        raise ValueError("dim 0 must be divisible by groups")
    per_group = tensor.size(0) // groups
    centre = tuple(n // 2 for n in tensor.shape[2:])
    tensor.zero_()
    for g in range(groups):
        for d in range(min(per_group, tensor.size(1))):
            tensor[(g * per_group + d, d, *centre)] = 1
    return tensor


def _calculate_fan_in_and_fan_out(tensor):
    if tensor.dim() < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    field = math.prod(tensor.shape[2:])
    return tensor.size(1) * field, tensor.size(0) * field


def _calculate_correct_fan(tensor, mode):
    modes = ["fan_in", "fan_out"]
    if mode.lower() not in modes:
        raise ValueError(f"Mode {mode.lower()} not supported, please use one of {modes}")
    return _calculate_fan_in_and_fan_out(tensor)[modes.index(mode.lower())]


def _xavier_std(tensor, gain):
    return gain * math.sqrt(2.0 / float(sum(_calculate_fan_in_and_fan_out(tensor))))


def xavier_uniform_(tensor, gain=1.0, generator=None):
    bound = math.sqrt(3.0) * _xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor, gain=1.0, generator=None): return normal_(tensor, 0.0, _xavier_std(tensor, gain), generator)


def _kaiming_std(tensor, a, mode, nonlinearity):
    """None for a tensor without elements: there is nothing to do and the fan may be 0."""
    if 0 in tensor.shape:
        warnings.warn("Initializing zero-element tensors is a no-op", stacklevel=3)
        return None
    fan = _calculate_correct_fan(tensor, mode)
    return calculate_gain(nonlinearity, a) / math.sqrt(fan)


def kaiming_uniform_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    std = _kaiming_std(tensor, a, mode, nonlinearity)
    return tensor if std is None else uniform_(tensor, -math.sqrt(3.0) * std, math.sqrt(3.0) * std, generator)


def kaiming_normal_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    std = _kaiming_std(tensor, a, mode, nonlinearity)
    return tensor if std is None else normal_(tensor, 0, std, generator)


@torch.no_grad()
def orthogonal_(tensor, gain=1, generator=None):
    """Q of a random matrix's QR, signs fixed so that the result is uniform over orthogonal matrices."""
    if tensor.ndimension() < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if tensor.numel() == 0:
        return tensor
    rows, cols = tensor.size(0), tensor.numel() // tensor.size(0)
    drawn = torch.empty((rows, cols), dtype=tensor.dtype, device=tensor.device).normal_(0, 1, generator=generator)
    q, r = torch.linalg.qr(drawn.t() if rows < cols else drawn)
    q = q * torch.diag(r, 0).sign()
    tensor.copy_((q.t() if rows < cols else q).reshape(tensor.shape))
    return tensor.mul_(gain)


@torch.no_grad()
def sparse_(tensor, sparsity, std=0.01, generator=None):
    """Normal numbers with the fraction `sparsity` of every column set to zero."""
    if tensor.ndimension() != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    rows, cols = tensor.shape
    zeros = math.ceil(sparsity * rows)
    tensor.normal_(0, std, generator=generator)
    for col in range(cols):
        tensor[torch.randperm(rows)[:zeros], col] = 0
    return tensor


def _deprecated(fn):
    old = fn.__name__[:-1]

    @functools.wraps(fn)
    def call(*args, **kwargs):
        warnings.warn(f"`nn.init.{old}` is now deprecated in favor of `nn.init.{fn.__name__}`.", FutureWarning, stacklevel=2)
        return fn(*args, **kwargs)
    call.__name__ = old
    return call


uniform, normal, constant, eye, dirac = map(_deprecated, (uniform_, normal_, constant_, eye_, dirac_))
xavier_uniform, xavier_normal = map(_deprecated, (xavier_uniform_, xavier_normal_))
kaiming_uniform, kaiming_normal = map(_deprecated, (kaiming_uniform_, kaiming_normal_))
orthogonal, sparse = map(_deprecated, (orthogonal_, sparse_))
