"""torch.cuda's names on a machine without a usable GPU: what asks says no, what configures does nothing, what needs a device raises PyTorch's error."""
from __future__ import annotations

from collections import OrderedDict

from ..core.errors import OutOfMemoryError
from .. import gpu
from ..framework.legacy import LEGACY, tensor_type
from . import amp

ABSENT = "Torch not compiled with CUDA enabled"
has_half, has_magma = True, False
default_generators: tuple = ()
for _t in LEGACY: globals()[tensor_type(_t, "cuda").__name__] = tensor_type(_t, "cuda")


class CudaError(RuntimeError):
    """An error code of the driver."""


class DeferredCudaCallError(Exception):
    """An error of a call that had waited for the first use of a device."""


# ---------------------------------------------------------------- what asks, what configures, what needs a device
def is_available() -> bool: return gpu.device_count() > 0
def device_count() -> int: return gpu.device_count()
def get_arch_list() -> list[str]: return []
def get_gencode_flags() -> str: return ""
def get_rng_state_all() -> list: return []
def memory_stats(device=None) -> OrderedDict: return OrderedDict()
def memory_stats_as_nested_dict(device=None) -> dict: return {}
def host_memory_stats() -> OrderedDict: return OrderedDict()
def memory_snapshot(mempool_id=None) -> list: return []
def memory_summary(device=None, abbreviated: bool = False) -> str: return "no CUDA device is available; nothing is allocated"
def list_gpu_processes(device=None) -> str: return "no CUDA device is available"


globals().update(gpu.answers(
    __name__,
    no="is_initialized is_bf16_supported is_tf32_supported is_current_stream_capturing",
    zero="memory_allocated max_memory_allocated memory_reserved max_memory_reserved memory_cached max_memory_cached",
    nothing="""empty_cache manual_seed manual_seed_all seed seed_all set_rng_state set_rng_state_all reset_peak_memory_stats
               reset_accumulated_memory_stats reset_max_memory_allocated reset_max_memory_cached set_stream""",
    refused="""_lazy_init init current_device get_device_name get_device_capability get_device_properties synchronize initial_seed mem_get_info
               get_rng_state current_stream default_stream ipc_collect can_device_access_peer current_blas_handle cudart
               set_per_process_memory_fraction caching_allocator_alloc caching_allocator_delete get_sync_debug_mode set_sync_debug_mode utilization
               temperature power_draw clock_rate memory_usage graph_pool_handle make_graphed_callables get_allocator_backend""",
    error=lambda name: AssertionError(ABSENT)))


def set_device(device):
    """Negative numbers mean 'no change', as in PyTorch."""
    if not (isinstance(device, int) and device < 0): raise AssertionError(ABSENT)


class device:
    """Context manager that selects a device. Entering it with a real device raises."""

    def __init__(self, device): self.idx = device if isinstance(device, int) else getattr(device, "index", None) or (0 if device is not None else -1)

    def __enter__(self):
        if self.idx is not None and self.idx >= 0: raise AssertionError(ABSENT)
        return self

    def __exit__(self, *error): return False


class device_of(device):
    """The device of a tensor; nothing for tensors on the CPU."""

    def __init__(self, obj): super().__init__(-1)


def _dummy(name):
    def __init__(self, *args, **kw): raise RuntimeError(f"torch.cuda.{name} requires CUDA support")
    return type(name, (), {"__init__": __init__, "__module__": "torch.cuda", "__doc__": "Needs a CUDA device."})


Stream, ExternalStream, Event, CUDAGraph, MemPool = map(_dummy, ("Stream", "ExternalStream", "Event", "CUDAGraph", "MemPool"))


class StreamContext:
    """`with torch.cuda.stream(None)` is allowed everywhere."""

    def __init__(self, stream): self.stream = stream
    def __enter__(self): return None
    def __exit__(self, *error): return None


def stream(stream) -> StreamContext: return StreamContext(stream)


class nvtx:
    """Ranges for NVIDIA's profiler: accepted and dropped."""
    range_push = staticmethod(lambda msg: -1)
    range_pop = staticmethod(lambda: -1)
    mark = staticmethod(lambda msg: None)

    class range:
        def __init__(self, msg, *args, **kw): self.msg = msg
        def __enter__(self): return None
        def __exit__(self, *error): return None
