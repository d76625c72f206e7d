"""Mixed precision under PyTorch's names: autocast and GradScaler.

autocast is a block in which functions compute in the types of PyTorch's lists for CPUs (framework.autocast has them); for devices this machine lacks it is
off, as in PyTorch. A scaler is two numbers on the device.
"""
from __future__ import annotations

import functools
import warnings
from collections.abc import Iterable, Mapping

import numpy as np

from ..framework import api as torch
from ..framework.autocast import DTYPES, STATE, cast, enable
from ..framework.size import there
from ..optim.adam import Adam, AdamW
from ..optim.sgd import SGD

__all__ = ["GradScaler", "autocast", "custom_bwd", "custom_fwd", "is_autocast_available"]


def is_autocast_available(device_type: str) -> bool: return device_type in DTYPES


class autocast:
    """Context manager and decorator: inside, functions compute in the types of autocast's lists."""

    def __init__(self, device_type: str, dtype=None, enabled: bool = True, cache_enabled: bool | None = None):
        if not isinstance(device_type, str): raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
        if device_type not in DTYPES: raise RuntimeError(f"User specified an unsupported autocast device_type '{device_type}'")
        self.device, self.fast_dtype = device_type, torch.get_autocast_dtype(device_type) if dtype is None else dtype
        self._cache_enabled = STATE.cached if cache_enabled is None else cache_enabled
        if enabled and device_type == "cpu" and self.fast_dtype not in (torch.bfloat16, torch.float16):
            warnings.warn("In CPU autocast, but the target dtype is not supported. Disabling autocast.\n"
                          "CPU Autocast only supports dtypes of torch.bfloat16, torch.float16 currently.", stacklevel=2)
            enabled = False
        if enabled and not there(device_type):
            warnings.warn("CUDA is not available or torch_xla is imported. Disabling autocast." if device_type == "cuda" else
                          f"User provided device_type of '{device_type}', but {device_type.upper()} is not available. Disabling", stacklevel=2)
            enabled = False
        self._enabled, self._before = enabled, []              # one entry per time that the block is open

    def __enter__(self):
        self._before.append((STATE.cached, torch.is_autocast_enabled(self.device), torch.get_autocast_dtype(self.device)))
        enable(self.device, self._enabled, self.fast_dtype)
        STATE.cached = self._cache_enabled
        STATE.depth += 1
        return self

    def __exit__(self, *error):
        STATE.depth -= 1
        STATE.cached, *before = self._before.pop()
        enable(self.device, *before)
        return False

    def __call__(self, func):
        if not callable(func):
            raise TypeError(f"autocast()(func) requires a callable, but got {type(func).__name__}. Did you mean to use autocast as a context manager? For example:\n"
                            "    with torch.autocast(device_type=...):\n        output = model(input)")

        @functools.wraps(func)
        def inside(*args, **kw):
            with autocast(self.device, self.fast_dtype, self._enabled, self._cache_enabled): return func(*args, **kw)
        return inside


def _cast(value, device_type: str, dtype):
    """value with every tensor in it that is on this device and that autocast would cast in another type."""
    if isinstance(value, torch.Tensor): return cast(value, dtype) if value.device.type == device_type else value
    if isinstance(value, (str, bytes, np.ndarray)): return value
    if isinstance(value, Mapping): return {_cast(k, device_type, dtype): _cast(v, device_type, dtype) for k, v in value.items()}
    if isinstance(value, Iterable):
        items = (_cast(v, device_type, dtype) for v in value)
        return type(value)(items) if isinstance(value, (list, tuple)) else items
    return value


def custom_fwd(fwd=None, *, device_type: str, cast_inputs=None):
    """For the forward of an autograd.Function: with `cast_inputs` it runs on tensors of that type, with autocast off, when it is called where autocast is on."""
    if not isinstance(device_type, str): raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if fwd is None: return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    @functools.wraps(fwd)
    def inside(*args, **kw):
        ctx, on = args[0], torch.is_autocast_enabled(device_type)
        ctx._dtype, ctx._fwd_used_autocast = torch.get_autocast_dtype(device_type), on and cast_inputs is None
        if not on or cast_inputs is None: return fwd(*args, **kw)
        with autocast(device_type, enabled=False): return fwd(*_cast(args, device_type, cast_inputs), **_cast(kw, device_type, cast_inputs))
    return inside


def custom_bwd(bwd=None, *, device_type: str):
    """For the backward of an autograd.Function: it runs with autocast as its forward did."""
    if not isinstance(device_type, str): raise ValueError(f"Expected `device_type` of type `str`, got: `{type(device_type)}`")
    if bwd is None: return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def inside(*args, **kw):
        with autocast(device_type, args[0]._dtype, args[0]._fwd_used_autocast): return bwd(*args, **kw)
    return inside


READY, UNSCALED, STEPPED = range(3)            # where an optimizer is between two updates
_NO_SCALE = ("Attempted {} but _scale is None.  This may indicate your script did not use scaler.scale(loss or outputs) earlier in the iteration.")


class GradScaler:
    """Multiplies the loss so that small gradients survive in half precision, and skips steps whose gradients overflowed.

    The scale, the count of steps without overflow and whether there was one are tensors where the loss is. Nothing waits for them on a GPU if the optimizer
    counts no steps in Python: then a step is always taken, and taken back on the device where gradients overflowed.
    """

    def __init__(self, device: str = "cuda", init_scale: float = 2.0 ** 16, growth_factor: float = 2.0, backoff_factor: float = 0.5, growth_interval: int = 2000,
                 enabled: bool = True):
        if enabled and not there(device):
            warnings.warn(f"torch.{device}.amp.GradScaler is enabled, but {device.upper()} is not available.  Disabling.", stacklevel=2)
            enabled = False
        if enabled and growth_factor <= 1.0: raise AssertionError("The growth factor must be > 1.0.")
        if enabled and backoff_factor >= 1.0: raise AssertionError("The backoff factor must be < 1.0.")
        self._enabled, self._device = enabled, device
        self._init_scale, self._growth_factor, self._backoff_factor, self._growth_interval = float(init_scale), growth_factor, backoff_factor, growth_interval
        self._init_growth_tracker = 0
        self._scale = self._growth_tracker = None          # the first scaled output makes them; the tracker counts steps without overflow since the last change
        self._stages: dict[int, int] = {}      # by optimizer
        self._found: dict[int, torch.Tensor] = {}          # by optimizer: did its gradients overflow?

    def _scaled(self, doing: str):
        if self._scale is None: raise AssertionError(_NO_SCALE.format(doing))
        return self._scale

    def _begin(self, device):
        self._scale = torch.full((), self._init_scale, dtype=torch.float32, device=device)
        self._growth_tracker = torch.full((), self._init_growth_tracker, dtype=torch.int32, device=device)

    def scale(self, outputs):
        if not self._enabled: return outputs
        if isinstance(outputs, torch.Tensor):
            if self._scale is None: self._begin(outputs.device)
            return outputs * self._scale.to(outputs.device)
        if not isinstance(outputs, Iterable): raise ValueError("outputs must be a Tensor or an iterable of Tensors")
        return type(outputs)(map(self.scale, outputs)) if isinstance(outputs, (list, tuple)) else map(self.scale, outputs)

    def unscale_(self, optimizer):
        """Divide the gradients by the scale, once per step, before they are clipped or read."""
        if not self._enabled: return
        scale, key = self._scaled("unscale_"), id(optimizer)
        stage = self._stages.get(key, READY)
        if stage == UNSCALED: raise RuntimeError("unscale_() has already been called on this optimizer since the last update().")
        if stage == STEPPED: raise RuntimeError("unscale_() is being called after step().")
        grads = gradients(optimizer)
        if any(g.dtype is torch.float16 for g in grads): raise ValueError("Attempting to unscale FP16 gradients.")
        with torch.no_grad():
            finite = [g.isfinite().all().to(scale.device) for g in grads]
            factor = scale.double().reciprocal().float()
            for g in grads: g.mul_(factor.to(g.device))
            if grads: self._found[key] = ~torch.stack(finite).all()
        self._stages[key] = UNSCALED

    def step(self, optimizer, *args, **kw):
        if not self._enabled: return optimizer.step(*args, **kw)
        if "closure" in kw: raise RuntimeError("Closure use is not currently supported if GradScaler is enabled.")
        self._scaled("step")
        key = id(optimizer)
        if self._stages.get(key, READY) == STEPPED: raise RuntimeError("step() has already been called since the last update().")
        if self._stages.get(key, READY) == READY: self.unscale_(optimizer)
        if key not in self._found: raise AssertionError("No inf checks were recorded for this optimizer.")
        found = self._found[key]
        if found.device.type == "cuda" and counts_on_device(optimizer): done = step_or_back(optimizer, found, *args, **kw)
        else: done = None if found.item() else optimizer.step(*args, **kw)
        self._stages[key] = STEPPED
        return done

    def update(self, new_scale=None):
        """Adapt the scale to what was found since the last update."""
        if not self._enabled: return
        scale, tracker = self._scaled("update"), self._growth_tracker
        with torch.no_grad():
            if isinstance(new_scale, torch.Tensor): scale.copy_(new_scale.reshape(()))
            elif new_scale is not None: scale.fill_(new_scale)
            elif not self._found: raise AssertionError("No inf checks were recorded prior to update.")
            else:
                found, good, grown = torch.stack(list(self._found.values())).any(), tracker + 1, scale * self._growth_factor
                ripe = good == self._growth_interval
                kept = torch.where(ripe & grown.isfinite(), grown, scale)
                scale.copy_(torch.where(found, scale * self._backoff_factor, kept))
                tracker.copy_(torch.where(found | ripe, 0, good))
        self._stages.clear()
        self._found.clear()

    def get_scale(self) -> float: return 1.0 if not self._enabled else self._init_scale if self._scale is None else self._scale.item()
    def _get_growth_tracker(self) -> int: return self._init_growth_tracker if self._growth_tracker is None else self._growth_tracker.item()
    def is_enabled(self) -> bool: return self._enabled
    def get_growth_factor(self) -> float: return self._growth_factor
    def set_growth_factor(self, new_factor: float): self._growth_factor = new_factor
    def get_backoff_factor(self) -> float: return self._backoff_factor
    def set_backoff_factor(self, new_factor: float): self._backoff_factor = new_factor
    def get_growth_interval(self) -> int: return self._growth_interval
    def set_growth_interval(self, new_interval: int): self._growth_interval = new_interval

    def state_dict(self) -> dict:
        if not self._enabled: return {}
        return {"scale": self.get_scale(), "growth_factor": self._growth_factor, "backoff_factor": self._backoff_factor, "growth_interval": self._growth_interval,
                "_growth_tracker": self._get_growth_tracker()}

    def load_state_dict(self, state_dict: dict):
        if not self._enabled: return
        if not state_dict: raise RuntimeError("The source state dict is empty, possibly because it was saved from a disabled instance of GradScaler.")
        self._init_scale, self._init_growth_tracker = state_dict["scale"], state_dict["_growth_tracker"]
        if self._scale is not None: self._begin(self._scale.device)
        self._growth_factor, self._backoff_factor, self._growth_interval = (state_dict[k] for k in ("growth_factor", "backoff_factor", "growth_interval"))

    def __getstate__(self) -> dict:
        """Numbers instead of tensors, which need not find their device where this goes."""
        if self._stages: raise AssertionError("A GradScaler instance may only be pickled at the beginning of an iteration, or at the end after scaler.update().")
        return self.__dict__ | {"_init_scale": self.get_scale(), "_init_growth_tracker": self._get_growth_tracker(), "_scale": None, "_growth_tracker": None}


# ---------------------------------------------------------------- steps that are decided on the device
def gradients(optimizer) -> list:
    """The dense tensors that an optimizer's gradients are made of."""
    grads = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return [g._values() if g.is_sparse else g for g in grads]


def counts_on_device(optimizer) -> bool:
    """Is all that a step changes in tensors on the device, and nothing in Python? State that a step makes must be what zeros would have become."""
    if any(p.grad is not None and p.grad.is_sparse for group in optimizer.param_groups for p in group["params"]): return False
    if type(optimizer) is SGD: return all(not group["dampening"] for group in optimizer.param_groups)
    return type(optimizer) in (Adam, AdamW) and all(group["capturable"] for group in optimizer.param_groups)


def changing(optimizer) -> list:
    """What a step changes: parameters that have gradients, and their state."""
    moved = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    return moved + [x for p in moved for x in optimizer.state.get(p, {}).values() if isinstance(x, torch.Tensor)]


def step_or_back(optimizer, found, *args, **kw):
    """A step, and where gradients overflowed what was there before."""
    with torch.no_grad():
        before = {id(x): x.clone() for x in changing(optimizer)}
        done = optimizer.step(*args, **kw)
        for x in changing(optimizer): x.copy_(torch.where(found.to(x.device), before.get(id(x), 0), x))
    return done
