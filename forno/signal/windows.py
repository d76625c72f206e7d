"""torch.signal.windows: window functions, symmetric for the design of filters or, with sym=False, one period for the analysis of spectra.

In: the number of points M and what shapes the window. Out: a vector. Each says where its points lie and what it is of them; `kind` is what all share:
dtype, layout, device, requires_grad.
"""
from __future__ import annotations

import math
from collections.abc import Iterable

from ..framework import api as torch

__all__ = ["bartlett", "blackman", "cosine", "exponential", "gaussian", "general_cosine", "general_hamming", "hamming", "hann", "kaiser", "nuttall"]


def _points(name, M, start, step, *, dtype=None, layout=torch.strided, device=None, requires_grad=False):
    """M numbers from `start` on; `name` is for errors."""
    dtype = dtype or torch.get_default_dtype()
    if M < 0: raise ValueError(f"{name} requires non-negative window length, got M={M}")
    if layout is not torch.strided: raise ValueError(f"{name} is implemented for strided tensors only, got: {layout}")
    if dtype not in (torch.float32, torch.float64): raise ValueError(f"{name} expects float32 or float64 dtypes, got: {dtype}")
    return torch.linspace(start, start + (M - 1) * step, M, dtype=dtype, device=device, requires_grad=requires_grad)


def _one(name, **kind): return _points(name, 1, 1, 0, **kind)
def _period(M, sym): return max(M - 1 if sym else M, 1)
def _span(M, sym): return M if not sym and M > 1 else M - 1


def exponential(M, *, center=None, tau=1.0, sym=True, **kind):
    """exp(-|n - center| / tau)"""
    if tau <= 0: raise ValueError(f"Tau must be positive, got: {tau} instead.")
    if sym and center is not None: raise ValueError("Center must be None for symmetric windows")
    center = _span(M, sym) / 2.0 if center is None else center
    return torch.exp(-torch.abs(_points("exponential", M, -center / tau, 1 / tau, **kind)))


def cosine(M, *, sym=True, **kind):
    """sin(π (n + 1/2) / M): half a wave"""
    step = math.pi / (_span(M, sym) + 1 or 1)
    return torch.sin(_points("cosine", M, 0.5 * step, step, **kind))


def gaussian(M, *, std=1.0, sym=True, **kind):
    """exp(-(n / std)² / 2), n from the middle"""
    if std <= 0: raise ValueError(f"Standard deviation must be positive, got: {std} instead.")
    step = 1 / (std * math.sqrt(2))
    return torch.exp(-_points("gaussian", M, -_span(M, sym) / 2.0 * step, step, **kind) ** 2)


def kaiser(M, *, beta=12.0, sym=True, **kind):
    """I0(√(beta² - k²)) / I0(beta), k from -beta to beta"""
    if beta < 0: raise ValueError(f"beta must be non-negative, got: {beta} instead.")
    if M == 1: return _one("kaiser", **kind)
    k = _points("kaiser", M, -beta, 2.0 * beta / _period(M, sym), **kind)
    top = torch.tensor(beta, dtype=k.dtype, device=k.device)
    return torch.i0(torch.sqrt((top * top - k * k).clamp(min=0))) / torch.i0(top)         # rounding must not leave the range


def bartlett(M, *, sym=True, **kind):
    """1 - |x|, x from -1 to 1: a triangle"""
    return _one("bartlett", **kind) if M == 1 else 1 - torch.abs(_points("bartlett", M, -1, 2 / _period(M, sym), **kind))


def general_cosine(M, *, a, sym=True, **kind):
    """Σ (-1)^i a_i cos(2π i n / M)"""
    if not isinstance(a, Iterable): raise TypeError("Coefficients must be a list/tuple")
    if not a: raise ValueError("Coefficients cannot be empty")
    if M == 1: return _one("general_cosine", **kind)
    k = _points("general_cosine", M, 0, 2 * math.pi / _period(M, sym), **kind)
    weights = torch.tensor([(-1) ** i * w for i, w in enumerate(a)], dtype=k.dtype, device=k.device).unsqueeze(-1)      # (terms, 1)
    return (weights * torch.cos(torch.arange(len(weights), dtype=k.dtype, device=k.device).unsqueeze(-1) * k)).sum(0)


def general_hamming(M, *, alpha=0.54, **kind): return general_cosine(M, a=[alpha, 1.0 - alpha], **kind)
def hamming(M, **kind): return general_hamming(M, **kind)
def hann(M, **kind): return general_hamming(M, alpha=0.5, **kind)
def blackman(M, **kind): return general_cosine(M, a=[0.42, 0.5, 0.08], **kind)
def nuttall(M, **kind): return general_cosine(M, a=[0.3635819, 0.4891775, 0.1365995, 0.0106411], **kind)
