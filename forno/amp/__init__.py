"""Mixed precision under PyTorch's names: autocast and GradScaler.

autocast on the CPU changes nothing in this version: everything is computed in the dtypes the tensors have, which is never less precise than what was
asked for; the first block says so once. For devices this machine lacks it is off, as in PyTorch. GradScaler is the real thing.
"""
from __future__ import annotations

import functools
import math
import warnings
from collections import defaultdict

from ..framework import api as torch
from ..framework.settings import AUTOCAST_DTYPES, Settings

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]


def is_autocast_available(device_type: str) -> bool: return device_type in AUTOCAST_DTYPES


class autocast:
    """Context manager and decorator: inside, scripts see autocast as enabled; see the module's text for what it does."""
    told = False

    def __init__(self, device_type: str, dtype=None, enabled: bool = True, cache_enabled: bool | None = None):
        if not isinstance(device_type, str): raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        if device_type not in AUTOCAST_DTYPES: raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'")
        self.device, self.fast_dtype = device_type, dtype or torch.get_autocast_dtype(device_type)
        if enabled and device_type == "cpu" and self.fast_dtype not in (torch.bfloat16, torch.float16):
            warnings.warn("In CPU autocast, but the target dtype is not supported. Disabling autocast.\n"
                          "CPU Autocast only supports dtype of torch.bfloat16, torch.float16 currently.", stacklevel=2)
            enabled = False
        if enabled and device_type != "cpu":
            warnings.warn("CUDA is not available or torch_xla is imported. Disabling autocast." if device_type == "cuda" else
                          f"User provided device_type of '{device_type}', but {device_type.upper()} is not available. Disabling", stacklevel=2)
            enabled = False
        self._enabled = enabled

    def __enter__(self):
        if self._enabled and not autocast.told:
            autocast.told = True
            warnings.warn("autocast on the CPU computes in the tensors' own dtypes in this version of forno; results are at least as precise", stacklevel=2)
        self.before = Settings.autocast.get(self.device)
        Settings.autocast[self.device] = self._enabled, self.fast_dtype
        return self

    def __exit__(self, *error):
        if self.before is None: del Settings.autocast[self.device]
        else: Settings.autocast[self.device] = self.before

    def __call__(self, f):
        @functools.wraps(f)
        def inside(*args, **kw):
            with autocast(self.device, self.fast_dtype, self._enabled): return f(*args, **kw)
        return inside


def custom_fwd(fwd=None, *, device_type="cuda", cast_inputs=None):
    """Marks a Function's forward; there are no casts to steer."""
    if fwd is None: return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)
    return fwd


def custom_bwd(bwd=None, *, device_type="cuda"):
    if bwd is None: return functools.partial(custom_bwd, device_type=device_type)
    return bwd


class GradScaler:
    """Multiplies the loss so that small gradients survive in half precision, and skips steps whose gradients overflowed."""

    def __init__(self, device: str = "cuda", init_scale: float = 2.0 ** 16, growth_factor: float = 2.0, backoff_factor: float = 0.5, growth_interval: int = 2000,
                 enabled: bool = True):
        if enabled and device != "cpu":
            warnings.warn(f"torch.{device}.amp.GradScaler is enabled, but {device.upper()} is not available.  Disabling.", stacklevel=2)
            enabled = False
        if growth_factor <= 1.0: raise AssertionError("The growth factor must be > 1.0.")
        if not 0.0 < backoff_factor < 1.0: raise AssertionError("The backoff factor must be < 1.0.")
        self._enabled, self._device = enabled, device
        self._scale, self._growth_factor, self._backoff_factor, self._growth_interval = float(init_scale), growth_factor, backoff_factor, growth_interval
        self._tracker = 0                      # steps without overflow since the last change
        self._found: defaultdict = defaultdict(lambda: None)   # optimizer -> did its gradients overflow? None: not unscaled yet

    def scale(self, outputs):
        if not self._enabled: return outputs
        if isinstance(outputs, torch.Tensor): return outputs * self._scale
        if isinstance(outputs, (list, tuple)): return type(outputs)(map(self.scale, outputs))
        raise ValueError("outputs must be a Tensor or an iterable of Tensors")

    def unscale_(self, optimizer):
        """Divide the gradients by the scale, once per step, before they are clipped or read."""
        if not self._enabled: return
        if self._found[id(optimizer)] is not None: raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        if any(g.dtype is torch.float16 for g in grads): raise ValueError("Attempting to unscale FP16 gradients.")
        finite = [g.isfinite().all() for g in grads]
        with torch.no_grad():
            for g in grads: g.mul_(1.0 / self._scale)
        self._found[id(optimizer)] = not all(bool(f) for f in finite)

    def step(self, optimizer, *args, **kw):
        if not self._enabled: return optimizer.step(*args, **kw)
        if "closure" in kw: raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        if self._found[id(optimizer)] is None: self.unscale_(optimizer)
        return None if self._found[id(optimizer)] else optimizer.step(*args, **kw)

    def update(self, new_scale=None):
        """Adapt the scale to what was found since the last update."""
        if not self._enabled: return
        if new_scale is not None: self._scale = float(new_scale)
        elif not any(f is not None for f in self._found.values()): raise AssertionError("No inf checks were recorded prior to update.")
        elif any(self._found.values()): self._scale, self._tracker = self._scale * self._backoff_factor, 0
        else:
            self._tracker += 1
            if self._tracker == self._growth_interval:
                grown = self._scale * self._growth_factor
                self._scale, self._tracker = grown if math.isfinite(grown) else self._scale, 0
        self._found.clear()

    def get_scale(self) -> float: return self._scale if self._enabled else 1.0
    def is_enabled(self) -> bool: return self._enabled
    def get_growth_factor(self) -> float: return self._growth_factor
    def set_growth_factor(self, new_factor: float): self._growth_factor = new_factor
    def get_backoff_factor(self) -> float: return self._backoff_factor
    def set_backoff_factor(self, new_factor: float): self._backoff_factor = new_factor
    def get_growth_interval(self) -> int: return self._growth_interval
    def set_growth_interval(self, new_interval: int): self._growth_interval = new_interval

    def state_dict(self) -> dict:
        if not self._enabled: return {}
        return {"scale": self._scale, "growth_factor": self._growth_factor, "backoff_factor": self._backoff_factor, "growth_interval": self._growth_interval,
                "_growth_tracker": self._tracker}

    def load_state_dict(self, state_dict: dict):
        if not self._enabled: return
        if not state_dict: raise RuntimeError("The source state dict is empty, possibly because it was saved from a disabled instance of GradScaler.")
        self._scale, self._tracker = state_dict["scale"], state_dict["_growth_tracker"]
        self._growth_factor, self._backoff_factor, self._growth_interval = (state_dict[k] for k in ("growth_factor", "backoff_factor", "growth_interval"))
