"""torch.cuda.amp, the older spelling of torch.amp for one device."""
from __future__ import annotations

import functools

from .. import amp as _amp
from ..framework import api as torch

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd"]
custom_fwd = functools.partial(_amp.custom_fwd, device_type="cuda")
custom_bwd = functools.partial(_amp.custom_bwd, device_type="cuda")


class autocast(_amp.autocast):
    def __init__(self, enabled: bool = True, dtype=torch.float16, cache_enabled: bool = True): super().__init__("cuda", dtype, enabled, cache_enabled)


class GradScaler(_amp.GradScaler):
    def __init__(self, init_scale=2.0 ** 16, growth_factor=2.0, backoff_factor=0.5, growth_interval=2000, enabled=True):
        super().__init__("cuda", init_scale, growth_factor, backoff_factor, growth_interval, enabled)
