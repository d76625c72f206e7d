"""torch.cuda: devices, streams, memory, graphs and random numbers of NVIDIA's GPUs.

Every function asks for a device when it is called. Where there is none, what asks says no, what configures does nothing, what needs a device raises PyTorch's error.
"""
from __future__ import annotations

from .. import gpu
from ..core.errors import OutOfMemoryError, unsupported
from ..cudart import devices, faults
from ..framework.engine import flush
from ..framework.legacy import LEGACY, tensor_type
from ..framework.randoms import default_of
from ..framework.runtime import AcceleratorError
from ..gpu import chips
from ..gpu.errors import CudaError
from . import amp, graphs, memory, nvtx, random, streams, where
from .graphs import CUDAGraph, graph, graph_pool_handle, is_current_stream_capturing, make_graphed_callables
from .memory import (empty_cache, get_per_process_memory_fraction, host_memory_stats, max_memory_allocated, max_memory_cached, max_memory_reserved, mem_get_info,
                     memory_allocated, memory_cached, memory_reserved, memory_snapshot, memory_stats, memory_stats_as_nested_dict, memory_summary,
                     reset_accumulated_memory_stats, reset_max_memory_allocated, reset_max_memory_cached, reset_peak_memory_stats, set_per_process_memory_fraction)
from .random import get_rng_state, get_rng_state_all, initial_seed, manual_seed, manual_seed_all, seed, seed_all, set_rng_state, set_rng_state_all
from .streams import Event, ExternalStream, Stream, StreamContext, current_stream, default_stream, get_stream_from_external, set_stream, stream

has_half, has_magma = True, False
for _t in LEGACY: globals()[tensor_type(_t, "cuda").__name__] = tensor_type(_t, "cuda")


def __getattr__(name: str):
    """`default_generators`: one for each device there is now."""
    if name == "default_generators": return tuple([default_of(i) for i in range(devices.count())])
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


class DeferredCudaCallError(Exception):
    """An error of a call that had waited for the first use of a device."""


# ---------------------------------------------------------------- is there one
def is_available() -> bool: return devices.count() > 0
def device_count() -> int: return devices.count()
def is_initialized() -> bool: return devices.count() > 0 and bool(devices.opened())


def init():
    """Opens this thread's device; without this, its first use does."""
    devices.use(where.number())


_lazy_init = init


def is_bf16_supported(including_emulation: bool = True) -> bool:
    return devices.count() > 0 and (including_emulation or get_device_capability() >= (8, 0))


def is_tf32_supported() -> bool: return devices.count() > 0 and get_device_capability() >= (8, 0)


def get_arch_list() -> list[str]:
    """What code is generated for; the driver makes it the device's own."""
    return [c.target for c in chips.CHIPS.values() if c.capability >= chips.OLDEST] if devices.count() else []


def get_gencode_flags() -> str: return ""


# ---------------------------------------------------------------- which one
def current_device() -> int:
    where.number()
    return devices.current()


def set_device(device):
    """"cuda" means this one in this thread from now on. Negative numbers mean 'no change', as in PyTorch."""
    if not (isinstance(device, int) and device < 0): devices.select(where.number(device))


class device:
    """Context manager that selects a device; None and negative numbers change nothing."""

    def __init__(self, device): self.idx = -1 if device is None or device.__class__ is int and device < 0 else device
    def __enter__(self):
        if self.idx == -1: return self
        self.idx = where.number(self.idx)
        self.prev_idx = devices.current()
        devices.select(self.idx)
        return self

    def __exit__(self, *error):
        if self.idx != -1: devices.select(self.prev_idx)
        return False


class device_of(device):
    """The device of a tensor; nothing for tensors on the CPU."""

    def __init__(self, obj): super().__init__(obj.get_device() if obj.is_cuda else -1)


def synchronize(device=None):
    """Waits for all that was recorded for a device, and queued there."""
    index = where.number(device)
    flush()
    devices.synchronize(index)
    faults.check(index)


# ---------------------------------------------------------------- what it is
def get_device_name(device=None) -> str:
    index = where.number(device)
    return devices.title(devices.use(index), index)


def get_device_capability(device=None) -> tuple[int, int]:
    index = where.number(device)
    return devices.capability(devices.use(index), index)


class _CudaDeviceProperties:
    """What a device has."""

    def __init__(self, index: int):
        driver = devices.use(index)
        def ask(name): return devices.attribute(driver, index, name)
        self.name, (self.major, self.minor), self.total_memory = devices.title(driver, index), devices.capability(driver, index), devices.all_memory(driver, index)
        self.multi_processor_count, self.warp_size, self.L2_cache_size = ask("sms"), ask("warp"), ask("l2")
        self.max_threads_per_multi_processor, self.max_threads_per_block, self.regs_per_multiprocessor = ask("sm_threads"), ask("block_threads"), ask("sm_registers")
        self.shared_memory_per_block, self.shared_memory_per_block_optin, self.shared_memory_per_multiprocessor = ask("block_shared"), ask("optin_shared"), ask("sm_shared")
        self.is_integrated, self.is_multi_gpu_board = ask("integrated"), ask("multi_gpu_board")
        self.clock_rate, self.memory_clock_rate, self.memory_bus_width = ask("clock"), ask("memory_clock"), ask("bus_width")
        self.pci_bus_id, self.pci_device_id, self.pci_domain_id = ask("pci_bus"), ask("pci_device"), ask("pci_domain")
        raw = driver.DeviceGetUuid(driver.DeviceGet(index)).hex()
        self.uuid, self.gcnArchName = "-".join((raw[:8], raw[8:12], raw[12:16], raw[16:20], raw[20:])), self.name

    def __repr__(self):
        return (f"_CudaDeviceProperties(name='{self.name}', major={self.major}, minor={self.minor}, total_memory={self.total_memory >> 20}MB, "
                f"multi_processor_count={self.multi_processor_count}, uuid={self.uuid}, pci_bus_id={self.pci_bus_id}, pci_device_id={self.pci_device_id}, "
                f"pci_domain_id={self.pci_domain_id}, L2_cache_size={self.L2_cache_size >> 20}MB)")


def get_device_properties(device=None) -> _CudaDeviceProperties: return _CudaDeviceProperties(where.number(device))


def can_device_access_peer(device, peer_device) -> bool:
    """Can a device touch another one's memory? Copies between them then don't go through the host."""
    index, other = where.number(device), where.number(peer_device)
    return devices.can_reach(index, other)


def get_allocator_backend() -> str:
    where.number()
    return "native"


def ipc_collect():
    """Memory isn't shared between processes, so there is none to collect."""
    where.number()


def list_gpu_processes(device=None) -> str:
    if devices.count() == 0: return "no CUDA device is available"
    raise unsupported("torch.cuda.list_gpu_processes", device="cuda", instead="ask nvidia-smi")


globals().update(gpu.answers(
    __name__,
    refused="""current_blas_handle cudart caching_allocator_alloc caching_allocator_delete get_sync_debug_mode set_sync_debug_mode utilization temperature power_draw
               clock_rate memory_usage""",
    error=lambda name: unsupported(f"torch.cuda.{name}", device="cuda", instead="nvidia-smi tells how busy a GPU is") if devices.count() else AssertionError(devices.ABSENT)))


class MemPool:
    """Memory apart from that of others: only graphs have such (`graph_pool_handle`)."""

    def __init__(self, *args, **kw):
        if devices.count() == 0: raise RuntimeError("torch.cuda.MemPool requires CUDA support")
        raise unsupported("torch.cuda.MemPool", device="cuda", instead="graph_pool_handle() gives graphs memory to share")
