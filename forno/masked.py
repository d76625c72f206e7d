"""torch.masked: reductions and normalizations that leave out the elements where a mask is false.

In: tensors, and masks that broadcast to them. Out: tensors; where a mask leaves nothing, the operation's identity (NaN where it has none). An element
left out is one replaced by that identity, so everything here is an ordinary operation after a fill, and fuses with it.
"""
from __future__ import annotations

import math

from .framework import api as torch

__all__ = ["amax", "amin", "argmax", "argmin", "cumprod", "cumsum", "log_softmax", "logaddexp", "logsumexp", "mean", "median", "norm", "normalize", "prod",
           "softmax", "softmin", "std", "sum", "var"]


# ---------------------------------------------------------------- masks and what stands for an element left out
def _lowest(dtype): return -math.inf if _inexact(dtype) else torch.iinfo(dtype).min
def _highest(dtype): return math.inf if _inexact(dtype) else torch.iinfo(dtype).max
def _inexact(dtype): return dtype.is_floating_point or dtype.is_complex


def _full_mask(input, mask):
    if mask.ndim > input.ndim: raise IndexError("_input_mask expected broadcastable mask (got mask dimensionality higher than of the input)")
    return torch.broadcast_to(mask, input.shape).to(torch.bool)


def _filled(input, mask, identity):
    """`identity` is a number or a function of the type."""
    if mask is None: return input
    return input.masked_fill(~_full_mask(input, mask), identity(input.dtype) if callable(identity) else identity)


def _dims(dim, ndim) -> tuple:
    """Axes, counted from 0, in order; all of them for None and ()."""
    if dim is None or dim == (): return tuple(range(ndim))
    ndim, out = max(ndim, 1), []
    for d in (dim,) if isinstance(dim, int) else dim:
        if d in out: raise RuntimeError(f"dim={d} appears multiple times in the list of dims")
        if not -ndim <= d < ndim: raise IndexError(f"Dimension out of range (expected to be in range of [{-ndim}, {ndim - 1}], but got {d})")
        out.append(d % ndim)
    return tuple(sorted(out))


def _summed_type(dtype): return dtype if _inexact(dtype) else torch.int64


# ---------------------------------------------------------------- reductions
def sum(input, dim=None, *, keepdim=False, dtype=None, mask=None):
    return torch.sum(_filled(input, mask, 0), _dims(dim, input.ndim), bool(keepdim), dtype=dtype or _summed_type(input.dtype))


def prod(input, dim=None, *, keepdim=False, dtype=None, mask=None):
    out = _filled(input, mask, 1).to(dtype or _summed_type(input.dtype))
    for d in reversed(_dims(dim, input.ndim)): out = out.prod(d, bool(keepdim))
    return out


def amax(input, dim=None, *, keepdim=False, dtype=None, mask=None):
    return torch.amax(_filled(input, mask, _lowest), _dims(dim, input.ndim), bool(keepdim)).to(dtype or input.dtype)


def amin(input, dim=None, *, keepdim=False, dtype=None, mask=None):
    return torch.amin(_filled(input, mask, _highest), _dims(dim, input.ndim), bool(keepdim)).to(dtype or input.dtype)


def argmax(input, dim=None, *, keepdim=False, dtype=None, mask=None):
    return torch.argmax(_filled(input, mask, _lowest), dim, bool(keepdim)).to(dtype or input.dtype)


def argmin(input, dim=None, *, keepdim=False, dtype=None, mask=None):
    return torch.argmin(_filled(input, mask, _highest), dim, bool(keepdim)).to(dtype or input.dtype)


def logsumexp(input, dim=None, *, keepdim=False, dtype=None, mask=None):
    return torch.logsumexp(_filled(input, mask, _lowest), _dims(dim, input.ndim), keepdim=keepdim).to(dtype or input.dtype)


def logaddexp(input, other, *, dtype=None, input_mask=None, other_mask=None):
    return torch.logaddexp(_filled(input, input_mask, _lowest), _filled(other, other_mask, _lowest)).to(dtype or input.dtype)


def norm(input, ord=2.0, dim=None, *, keepdim=False, dtype=None, mask=None):
    filled = _filled(input, mask, math.inf if ord == -math.inf else 0)
    return torch.linalg.vector_norm(filled, 2 if ord is None else ord, _dims(dim, input.ndim), bool(keepdim), dtype=dtype or input.dtype)


def _count(input, dim, keepdim, mask):
    """How many elements there are to each result."""
    kept = torch.ones(input.shape, dtype=torch.bool, device=input.device) if mask is None else _full_mask(input, mask)
    return kept.sum(_dims(dim, input.ndim), bool(keepdim))


def mean(input, dim=None, *, keepdim=False, dtype=None, mask=None):
    source, dtype = ("Input", input.dtype) if dtype is None else ("Optional", dtype)
    if not _inexact(dtype):
        raise ValueError(f"mean(): Could not infer output dtype. {source} dtype must be either a floating point or complex dtype. Got: {dtype}")
    return sum(input, dim, keepdim=keepdim, dtype=dtype, mask=mask) / _count(input, dim, keepdim, mask)


def median(input, dim=-1, *, keepdim=False, dtype=None, mask=None):
    real = input if input.is_floating_point() else input.to(torch.float32)
    out = torch.nanmedian(_filled(real, mask, math.nan), _dims(dim, input.ndim)[0], keepdim).values
    if input.is_floating_point(): return out
    if out.isnan().any(): raise ValueError("masked median expects no fully masked out rows if dtype is not floating point")
    return out.to(dtype or input.dtype)


def var(input, dim=None, unbiased=None, *, correction=None, keepdim=False, dtype=None, mask=None):
    if unbiased is not None and correction is not None: raise AssertionError("Only one of unbiased and correction may be given")
    correction = (1.0 if unbiased is None or unbiased else 0.0) if correction is None else float(correction)
    dtype = dtype or (input.dtype if _inexact(input.dtype) else torch.float32)
    wide = dtype if _inexact(dtype) else torch.float32
    count = _count(input, dim, True, mask)
    gap = input - sum(input, dim, keepdim=True, dtype=dtype, mask=mask) / count
    total = sum(gap * gap.conj(), dim, keepdim=keepdim, dtype=wide, mask=mask)
    freedom = count.reshape(total.shape)
    if correction: freedom = (freedom.to(wide.to_real()) - correction).clamp(min=0)
    return (total / freedom).to(dtype)


def std(input, dim=None, unbiased=None, *, correction=None, keepdim=False, dtype=None, mask=None):
    return var(input, dim, unbiased, correction=correction, keepdim=keepdim, dtype=dtype, mask=mask).sqrt()


# ---------------------------------------------------------------- results of the input's shape
def cumsum(input, dim, *, dtype=None, mask=None):
    return torch.cumsum(_filled(input, mask, 0), _dims(dim, input.ndim)[0], dtype=dtype or input.dtype)


def cumprod(input, dim, *, dtype=None, mask=None):
    return torch.cumprod(_filled(input, mask, 1), _dims(dim, input.ndim)[0], dtype=dtype or input.dtype)


def softmax(input, dim, *, dtype=None, mask=None):
    return torch.softmax(_filled(input, mask, _lowest), _dims(dim, input.ndim)[0], dtype=dtype or input.dtype)


def log_softmax(input, dim, *, dtype=None, mask=None):
    return torch.log_softmax(_filled(input, mask, _lowest), _dims(dim, input.ndim)[0], dtype=dtype or input.dtype)


def softmin(input, dim, *, dtype=None, mask=None):
    return torch.softmax(-_filled(input, mask, _highest), _dims(dim, input.ndim)[0], dtype=dtype or input.dtype)


def normalize(input, ord, dim, *, eps=1e-12, dtype=None, mask=None):
    size = norm(input, ord, dim, keepdim=True, dtype=dtype, mask=mask)
    return _filled(input, mask, 0) / torch.maximum(size, size.new_full([], eps))
