"""Dropout: zero random elements or channels in training and scale the rest so that the mean stays (Srivastava et al., 2014)."""
from __future__ import annotations

import math

from ...core.errors import warn
from ...framework import api as torch
from .activation import _into

_SELU_FLOOR = 1.7580993408473766             # -(value that SELU saturates at)


def _check(p):
    if p < 0.0 or p > 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")


def _noise(input, p, by_channel):
    if by_channel and input.dim() < 2:
        raise RuntimeError("Feature dropout requires at least 2 dimensions in the input")
    if not by_channel: return torch.empty_like(input).bernoulli_(1 - p)
    return torch.empty((*input.shape[:2], *(1,) * (input.dim() - 2)), dtype=input.dtype, device=input.device).bernoulli_(1 - p)


def _feature_dropout(input, p, training):
    if p == 0 or not training or input.numel() == 0:
        return input
    return input * 0 if p == 1 else input * (_noise(input, p, True) / (1 - p))


def _alpha_dropout(input, p, training, by_channel):
    """Dropped elements take SELU's floor, and an affine map restores mean and variance (Klambauer et al., 2017)."""
    if p == 0 or not training or input.numel() == 0:
        return input
    if p == 1:
        return input * 0
    kept = _noise(input, p, by_channel)
    a = 1.0 / math.sqrt((_SELU_FLOOR ** 2 * p + 1) * (1 - p))
    return input * (kept * a) + ((kept - 1) * (_SELU_FLOOR * a) + _SELU_FLOOR * a * p)


def dropout(input, p=0.5, training=True, inplace=False):
    _check(p)
    return _into(input, torch.dropout(input, p, True), inplace) if training and p > 0 else input


def alpha_dropout(input, p=0.5, training=False, inplace=False):
    _check(p)
    return _into(input, _alpha_dropout(input, p, training, False), inplace)


def feature_alpha_dropout(input, p=0.5, training=False, inplace=False):
    _check(p)
    return _into(input, _alpha_dropout(input, p, training, True), inplace)


def _unbatched(input, p, training, inplace, batched_dim):
    """Drop whole channels; an input without a batch dimension gets one for the moment."""
    if input.dim() == batched_dim:
        return _into(input, _feature_dropout(input, p, training), inplace)
    return _into(input, _feature_dropout(input.unsqueeze(0), p, training).squeeze(0), inplace)


def _purpose(n):
    """What a dropout of channels is for, as PyTorch's errors and warnings end."""
    return (f"Note that dropout{n}d exists to provide channel-wise dropout on inputs with {n} spatial dimension{'s' if n > 1 else ''}, a channel "
            f"dimension, and an optional batch dimension (i.e. {n + 1}D or {n + 2}D inputs).")


def _warn_of_rank(input, n):
    if input.dim() not in (n + 1, n + 2):
        warn(f"dropout{n}d: Received a {input.dim()}-D input to dropout{n}d, which is deprecated and will result in an error in a future "
             f"release. To retain the behavior and silence this warning, please use dropout instead. {_purpose(n)}")


def dropout1d(input, p=0.5, training=True, inplace=False):
    _check(p)
    if input.dim() not in (2, 3):
        raise RuntimeError(f"dropout1d: Expected 2D or 3D input, but received a {input.dim()}D input. {_purpose(1)}")
    return _unbatched(input, p, training, inplace, 3)


def dropout2d(input, p=0.5, training=True, inplace=False):
    _check(p)
    _warn_of_rank(input, 2)
    if input.dim() == 3:
        warn("dropout2d: Received a 3D input to dropout2d and assuming that channel-wise 1D dropout behavior is desired - input is "
             "interpreted as shape (N, C, L), where C is the channel dim. Use dropout1d to keep this behavior.")
    return _into(input, _feature_dropout(input, p, training), inplace)


def dropout3d(input, p=0.5, training=True, inplace=False):
    _check(p)
    _warn_of_rank(input, 3)
    return _unbatched(input, p, training, inplace, 5)
