"""torch.mps on a machine without one."""
from __future__ import annotations

from . import gpu

_CALLS = dict(                                 # what PyTorch's errors call them
    synchronize="deviceSynchronize", empty_cache="emptyCache", current_allocated_memory="getCurrentAllocatedMemory",
    driver_allocated_memory="getDriverAllocatedMemory", recommended_max_memory="recommendedMaxMemory",
    set_per_process_memory_fraction="setMemoryFraction", get_rng_state="getRngState", set_rng_state="setRngState")

globals().update(gpu.answers(
    __name__,
    no="is_available",
    zero="device_count",
    nothing="manual_seed seed",
    refused=" ".join(_CALLS),
    error=lambda name: RuntimeError(f"Cannot execute {_CALLS[name]}() without MPS backend.")))
