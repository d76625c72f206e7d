"""cuDNN's switches. `enabled`: is a provider of that name asked for kernels (there is none unless a program adds it)? `allow_tf32`: may convolutions of float32 on a GPU
round their factors to tf32? The others keep what scripts set."""
import contextlib
import sys
import types

from ..core.state import state
from ..framework import allowed

benchmark, deterministic, benchmark_limit, fp32_precision = False, False, 10, "none"
_SWITCHES = "enabled", "benchmark", "benchmark_limit", "deterministic", "allow_tf32", "fp32_precision"


def is_available() -> bool: return False
def version(): return None
def is_acceptable(tensor) -> bool: return False


@contextlib.contextmanager
def flags(enabled=False, benchmark=False, benchmark_limit=10, deterministic=False, allow_tf32=True, fp32_precision="none"):
    """Set the switches for the length of a block."""
    asked, here = locals(), sys.modules[__name__]
    before = {name: getattr(here, name) for name in _SWITCHES}
    for name in _SWITCHES: setattr(here, name, asked[name])
    try: yield
    finally:
        for name, value in before.items(): setattr(here, name, value)


class _Module(types.ModuleType):
    """Two of the switches do something when they are set."""
    enabled = property(lambda self: "cudnn" not in state.without, lambda self, on: allowed.use_provider("cudnn", bool(on)))
    allow_tf32 = property(lambda self: state.tf32[allowed.CONVOLUTIONS], lambda self, on: allowed.allow_tf32(allowed.CONVOLUTIONS, on))


sys.modules[__name__].__class__ = _Module
