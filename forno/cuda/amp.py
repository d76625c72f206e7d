"""torch.cuda.amp, the older spelling of torch.amp for one device."""
from __future__ import annotations

import warnings

from .. import amp as _amp
from ..framework import api as torch, size

__all__ = ["GradScaler", "amp_definitely_not_available", "autocast", "custom_bwd", "custom_fwd"]


def _old(call: str, now: str):
    warnings.warn(f"`torch.cuda.amp.{call}` is deprecated. Please use `torch.amp.{now}` instead.", FutureWarning, stacklevel=3)


def amp_definitely_not_available() -> bool: return not size.there("cuda")


def custom_fwd(fwd=None, *, cast_inputs=None):
    """torch.amp.custom_fwd for CUDA."""
    _old("custom_fwd(args...)", "custom_fwd(args..., device_type='cuda')")
    return _amp.custom_fwd(fwd, device_type="cuda", cast_inputs=cast_inputs)


def custom_bwd(bwd):
    """torch.amp.custom_bwd for CUDA."""
    _old("custom_bwd(args...)", "custom_bwd(args..., device_type='cuda')")
    return _amp.custom_bwd(bwd, device_type="cuda")


class autocast(_amp.autocast):
    """torch.amp.autocast for CUDA."""

    def __init__(self, enabled: bool = True, dtype=torch.float16, cache_enabled: bool = True):
        _old("autocast(args...)", "autocast('cuda', args...)")
        super().__init__("cuda", dtype, enabled, cache_enabled)


class GradScaler(_amp.GradScaler):
    """torch.amp.GradScaler for CUDA."""

    def __init__(self, init_scale: float = 2.0 ** 16, growth_factor: float = 2.0, backoff_factor: float = 0.5, growth_interval: int = 2000, enabled: bool = True):
        _old("GradScaler(args...)", "GradScaler('cuda', args...)")
        super().__init__("cuda", init_scale, growth_factor, backoff_factor, growth_interval, enabled)
