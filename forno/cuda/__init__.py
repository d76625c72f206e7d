"""torch.cuda: devices, streams, memory, graphs and random numbers of NVIDIA's GPUs.

Every function asks for a device when it is called. Where there is none, what asks says no, what configures does nothing, what needs a device raises PyTorch's error.
"""
from __future__ import annotations

from ..core.errors import AcceleratorError as AcceleratorError, OutOfMemoryError as OutOfMemoryError, unsupported
from ..cudart import devices, faults, ipc
from ..cudart import memory as device_memory
from ..framework.engine import flush
from ..framework.legacy import LEGACY, tensor_type
from ..framework.randoms import default_of
from ..gpu import chips, nvml
from . import amp, comm, gds, graphs, green_contexts, jiterator, memory, nccl, nvtx, profiler, random, runtime, sparse, storages, streams, tunable, where
from .graphs import CUDAGraph, graph, graph_pool_handle, is_current_stream_capturing, make_graphed_callables
from .green_contexts import GreenContext
from .memory import *
from .random import get_rng_state, get_rng_state_all, initial_seed, manual_seed, manual_seed_all, seed, seed_all, set_rng_state, set_rng_state_all
from .runtime import CudaError, check_error, cudart, cudaStatus
from .storages import *
from .streams import Event, ExternalStream, Stream, StreamContext, current_stream, default_stream, get_stream_from_external, set_stream, stream

has_half, has_magma = True, False
_TYPES = {t.__name__: t for t in [tensor_type(d, "cuda") for d in LEGACY]}
globals().update(_TYPES)

__all__ = ["CUDAGraph", "CudaError", "DeferredCudaCallError",
           "Event", "ExternalStream", "GreenContext", "Stream", "StreamContext", "amp", "can_device_access_peer", "check_error", "clock_rate", "cudaStatus", "cudart",
           "current_blas_handle", "current_device", "current_solver_handle", "current_stream", "default_generators", "default_stream", "device", "device_count",
           "device_memory_used", "device_of", "get_arch_list", "get_device_capability", "get_device_name", "get_device_properties", "get_gencode_flags",
           "get_stream_from_external", "get_sync_debug_mode", "graph", "graph_pool_handle", "graphs", "has_half", "has_magma", "init", "ipc_collect", "is_available",
           "is_bf16_supported", "is_current_stream_capturing", "is_initialized", "is_tf32_supported", "jiterator", "make_graphed_callables", "memory", "memory_usage", "nccl",
           "nvtx", "power_draw", "profiler", "random", "set_device", "set_stream", "set_sync_debug_mode", "sparse", "stream", "streams", "synchronize", "temperature",
           "tunable", "utilization"]
__all__ += memory.__all__ + storages.__all__ + random.__all__ + list(_TYPES)


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


def _lazy_call(callable, **kwargs):
    """Nothing has to wait for a first use here."""
    callable()


def _is_compiled() -> bool: return True


def is_bf16_supported(including_emulation: bool = True) -> bool:
    """Older devices compute in float32 and round."""
    return devices.count() > 0 and (including_emulation or get_device_capability() >= (8, 0))


def is_tf32_supported() -> bool: return devices.count() > 0 and get_device_capability() >= (8, 0)


def get_arch_list() -> list[str]:
    """What code is generated for; the driver makes it the device's own."""
    return [c.target for c in chips.CHIPS.values() if c.capability >= chips.OLDEST] if devices.count() else []


def get_gencode_flags() -> str:
    """The same, as NVIDIA's compiler takes it."""
    return " ".join([f"-gencode compute=compute_{t.removeprefix('sm_')},code={t}" for t in get_arch_list()])


# ---------------------------------------------------------------- which one
def current_device() -> int:
    """The device that "cuda" means in this thread."""
    where.number()
    return devices.current()


def set_device(device):
    """"cuda" means this one in this thread from now on. Negative numbers mean 'no change', as in PyTorch."""
    if not (isinstance(device, int) and device < 0): devices.select(where.number(device))


class device:
    """Context manager that selects a device; None and negative numbers change nothing."""

    def __init__(self, device): self.idx, self.prev_idx = -1 if device is None or device.__class__ is int and device < 0 else device, -1

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
    """What its maker calls a device."""
    index = where.number(device)
    return devices.title(devices.use(index), index)


def get_device_capability(device=None) -> tuple[int, int]:
    """What a device can do, as (major, minor)."""
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
        self.uuid, self.gcnArchName = where.uuid(index), self.name

    def __repr__(self):
        return (f"_CudaDeviceProperties(name='{self.name}', major={self.major}, minor={self.minor}, total_memory={self.total_memory >> 20}MB, "
                f"multi_processor_count={self.multi_processor_count}, uuid={self.uuid}, pci_bus_id={self.pci_bus_id}, pci_device_id={self.pci_device_id}, "
                f"pci_domain_id={self.pci_domain_id}, L2_cache_size={self.L2_cache_size >> 20}MB)")


def get_device_properties(device=None) -> _CudaDeviceProperties:
    """All that a device has."""
    return _CudaDeviceProperties(where.valid(device))


def can_device_access_peer(device, peer_device) -> bool:
    """Can a device touch another one's memory? Copies between them then don't go through the host."""
    index, other = where.valid(device), where.valid(peer_device, "peer device")
    return devices.can_reach(index, other)


# ---------------------------------------------------------------- how it is, as nvidia-smi says
def _busy(name: str, ask):
    def answer(device=None) -> int: return ask(where.sensors(f"torch.cuda.{name}", where.number(device)))
    answer.__name__ = answer.__qualname__ = name
    return answer


utilization, memory_usage = _busy("utilization", lambda uuid: nvml.rates(uuid).gpu), _busy("memory_usage", lambda uuid: nvml.rates(uuid).memory)
temperature, power_draw = _busy("temperature", nvml.temperature), _busy("power_draw", nvml.milliwatts)
clock_rate, device_memory_used = _busy("clock_rate", nvml.megahertz), _busy("device_memory_used", lambda uuid: nvml.memory(uuid).used)


# ---------------------------------------------------------------- waiting, other processes, libraries
_MODES = {"default": 0, "warn": 1, "error": 2}


def set_sync_debug_mode(debug_mode):
    """What is done when the host waits for a value: 0 or "default" nothing, 1 or "warn" a warning, 2 or "error" an error."""
    where.number()
    if isinstance(debug_mode, str):
        if debug_mode not in _MODES: raise RuntimeError("invalid value of debug_mode, expected one of `default`, `warn`, `error`")
        debug_mode = _MODES[debug_mode]
    if debug_mode not in (0, 1, 2): raise RuntimeError("invalid value of debug_mode, expected one of 0,1,2")
    flush()                                    # what was recorded before isn't meant
    device_memory.ON_WAIT[0] = debug_mode


def get_sync_debug_mode() -> int:
    """What is done when the host waits for a value."""
    where.number()
    return device_memory.ON_WAIT[0]


def ipc_collect():
    """Takes back memory that other processes are done with."""
    where.number()
    ipc.collect()


def _no_library(name: str, library: str):
    def refuse():
        where.number()
        raise unsupported(f"torch.cuda.{name}", device="cuda", instead=f"kernels are forno's own, and there is no {library} to have a handle of")
    refuse.__name__ = refuse.__qualname__ = name
    return refuse


current_blas_handle, current_solver_handle = _no_library("current_blas_handle", "cuBLAS"), _no_library("current_solver_handle", "cuSOLVER")
