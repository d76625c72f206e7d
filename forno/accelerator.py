"""torch.accelerator: whichever accelerator there is, which is torch.cuda's or none."""
from __future__ import annotations

from . import cuda
from .framework import api as torch

_NONE = "Cannot access accelerator device when none is available."


def is_available() -> bool: return cuda.is_available()
def device_count() -> int: return cuda.device_count()
def current_accelerator(check_available: bool = False): return torch.device("cuda") if cuda.is_available() else None


def _needed(name: str, theirs: str):
    """A function of torch.cuda's under its name here; without a device an error."""
    f = getattr(cuda, theirs)

    def call(*args, **kw):
        if not cuda.is_available(): raise RuntimeError(_NONE)
        return f(*args, **kw)
    call.__name__ = call.__qualname__ = name
    call.__module__, call.__doc__ = __name__, f.__doc__
    return call


for _name, _theirs in dict(current_device_index="current_device", current_device_idx="current_device", set_device_index="set_device", set_device_idx="set_device",
                           synchronize="synchronize", current_stream="current_stream", set_stream="set_stream", get_memory_info="mem_get_info").items():
    globals()[_name] = _needed(_name, _theirs)

empty_cache, memory_allocated, max_memory_allocated = cuda.empty_cache, cuda.memory_allocated, cuda.max_memory_allocated
memory_reserved, max_memory_reserved, memory_stats = cuda.memory_reserved, cuda.max_memory_reserved, cuda.memory_stats
reset_peak_memory_stats, reset_accumulated_memory_stats = cuda.reset_peak_memory_stats, cuda.reset_accumulated_memory_stats


class device_index(cuda.device):
    """Context manager that selects a device by its number; None changes nothing."""
