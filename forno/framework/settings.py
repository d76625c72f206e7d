"""Switches of the whole program that PyTorch has: determinism, precision of products, the default device, autocast's state. And numbers by name.

On the CPU forno is deterministic and computes float32 products in float32 unless told otherwise; what has no effect is kept, answers as set, and complains where
PyTorch would.
"""
from __future__ import annotations

import math
import warnings

from ..core.errors import OutOfMemoryError
from ..core.state import state
from . import autocast
from .allowed import PRODUCTS, allow_tf32, switch
from .size import get_default_device, set_default_device


class Settings:
    deterministic_warn_only = False
    fill_uninitialized = True
    matmul_precision = "highest"
    warn_always = False



def use_deterministic_algorithms(mode: bool, *, warn_only: bool = False):
    """On: results don't depend on the number of threads either. (They never differ from run to run.)"""
    switch("deterministic", bool(mode))
    Settings.deterministic_warn_only = bool(warn_only)


def are_deterministic_algorithms_enabled() -> bool: return state.deterministic
def is_deterministic_algorithms_warn_only_enabled() -> bool: return Settings.deterministic_warn_only
def get_deterministic_debug_mode() -> int: return 0 if not state.deterministic else 1 if Settings.deterministic_warn_only else 2


def set_deterministic_debug_mode(debug_mode):
    modes = {"default": 0, "warn": 1, "error": 2}
    level = modes.get(debug_mode, debug_mode)
    if level not in (0, 1, 2): raise RuntimeError(f"invalid value of debug_mode, expected one of `default`, `warn`, or `error`, but got {debug_mode}")
    use_deterministic_algorithms(level > 0, warn_only=level == 1)


def get_float32_matmul_precision() -> str: return Settings.matmul_precision


def set_float32_matmul_precision(precision: str):
    """'medium' rounds the factors of float32 products to bfloat16 where the processor multiplies those faster. 'high' is as exact as 'highest': three products
    of bfloat16, which it stands for, take longer than one of float32 here. On GPUs both round to tf32, which has three bits more than bfloat16."""
    if precision in ("highest", "high", "medium"):
        switch("rounding", precision == "medium")
        allow_tf32(PRODUCTS, precision != "highest")
        Settings.matmul_precision = precision
    else: warnings.warn(f"{precision} is not one of 'highest', 'high', and 'medium'; the current setting stays {Settings.matmul_precision}", stacklevel=2)


def is_anomaly_enabled() -> bool: return state.anomaly
def is_anomaly_check_nan_enabled() -> bool: return state.anomaly
def set_flush_denormal(mode: bool) -> bool: return not mode    # kernels keep denormals: only turning it off succeeds
def is_warn_always_enabled() -> bool: return Settings.warn_always
def set_warn_always(b: bool): Settings.warn_always = bool(b)


# ---------------------------------------------------------------- autocast (framework.autocast does it, forno.amp has the blocks)
def is_autocast_enabled(device_type: str = "cuda") -> bool: return autocast.enabled(device_type)
def get_autocast_dtype(device_type: str): return autocast.narrow_type(device_type)


def set_autocast_enabled(device_type, enabled=None):
    if enabled is None: device_type, enabled = "cuda", device_type
    autocast.enable(device_type, bool(enabled), get_autocast_dtype(device_type))


def set_autocast_dtype(device_type: str, dtype): autocast.enable(device_type, is_autocast_enabled(device_type), dtype)
def is_autocast_cpu_enabled() -> bool: return is_autocast_enabled("cpu")
def get_autocast_cpu_dtype(): return get_autocast_dtype("cpu")
def get_autocast_gpu_dtype(): return get_autocast_dtype("cuda")
def is_autocast_cache_enabled() -> bool: return autocast.STATE.cached
def set_autocast_cache_enabled(enabled: bool): autocast.STATE.cached = bool(enabled)
def clear_autocast_cache(): """There is none: what is cast twice in a window is cast once, and a window never sees another's casts."""


def autocast_increment_nesting() -> int:
    autocast.STATE.depth += 1
    return autocast.STATE.depth


def autocast_decrement_nesting() -> int:
    autocast.STATE.depth -= 1
    return autocast.STATE.depth


NAMES = {name: f for name, f in list(globals().items()) if getattr(f, "__module__", None) == __name__ and not isinstance(f, type)} | {
    "OutOfMemoryError": OutOfMemoryError, "inf": math.inf, "nan": math.nan, "pi": math.pi, "e": math.e, "newaxis": None,
    "get_default_device": get_default_device, "set_default_device": set_default_device}
"""What torch's namespace gets from this file."""
