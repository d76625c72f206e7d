"""torch.amp.autocast for CUDA, and what autograd functions need inside of it."""
from __future__ import annotations

from ... import amp
from ...framework import api as torch
from .common import old

__all__ = ["autocast", "custom_bwd", "custom_fwd"]


def custom_fwd(fwd=None, *, cast_inputs=None):
    """torch.amp.custom_fwd for CUDA."""
    old("custom_fwd(args...)", "custom_fwd(args..., device_type='cuda')")
    return amp.custom_fwd(fwd, device_type="cuda", cast_inputs=cast_inputs)


def custom_bwd(bwd):
    """torch.amp.custom_bwd for CUDA."""
    old("custom_bwd(args...)", "custom_bwd(args..., device_type='cuda')")
    return amp.custom_bwd(bwd, device_type="cuda")


class autocast(amp.autocast):
    """torch.amp.autocast for CUDA."""

    def __init__(self, enabled: bool = True, dtype=torch.float16, cache_enabled: bool = True):
        old("autocast(args...)", "autocast('cuda', args...)")
        super().__init__("cuda", dtype, enabled, cache_enabled)
