"""cuDNN's switches. `enabled`: is a provider of that name asked for kernels (there is none unless a program adds it)? `allow_tf32`: may convolutions of float32 on a GPU
round their factors to tf32? The others keep what scripts set."""
import contextlib
import sys
import types

from ..core.state import state
from ..framework import allowed

benchmark, deterministic, benchmark_limit, fp32_precision, depthwise_kernel = False, False, 10, "none", "auto"
_SWITCHES = "enabled", "benchmark", "benchmark_limit", "deterministic", "allow_tf32", "fp32_precision", "depthwise_kernel"


def is_available() -> bool: return False
def version(): return None
def is_acceptable(tensor) -> bool: return False


def set_flags(_enabled=None, _benchmark=None, _benchmark_limit=None, _deterministic=None, _allow_tf32=None, _fp32_precision="none", _depthwise_kernel=None):
    """Set some of the switches; how all were before."""
    here = sys.modules[__name__]
    before = tuple([getattr(here, name) for name in _SWITCHES])
    for name, value in zip(_SWITCHES, (_enabled, _benchmark, _benchmark_limit, _deterministic, _allow_tf32, _fp32_precision, _depthwise_kernel)):
        if value is not None: setattr(here, name, value)
    return before


@contextlib.contextmanager
def flags(enabled=False, benchmark=False, benchmark_limit=10, deterministic=False, allow_tf32=True, fp32_precision="none", depthwise_kernel="auto"):
    """Set the switches for the length of a block."""
    before = set_flags(enabled, benchmark, benchmark_limit, deterministic, allow_tf32, fp32_precision, depthwise_kernel)
    try: yield
    finally: set_flags(*before)


class _Module(types.ModuleType):
    """Two of the switches do something when they are set."""
    enabled = property(lambda self: "cudnn" not in state.without, lambda self, on: allowed.use_provider("cudnn", bool(on)))
    allow_tf32 = property(lambda self: state.tf32[allowed.CONVOLUTIONS], lambda self, on: allowed.allow_tf32(allowed.CONVOLUTIONS, on))


sys.modules[__name__].__class__ = _Module
