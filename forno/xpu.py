"""torch.xpu on a machine without one."""
from __future__ import annotations

from . import gpu

globals().update(gpu.answers(
    __name__,
    no="is_available is_initialized is_bf16_supported",
    zero="device_count memory_allocated max_memory_allocated memory_reserved max_memory_reserved",
    nothing="manual_seed manual_seed_all empty_cache",
    refused="""init current_device synchronize get_device_name get_device_capability get_device_properties set_device current_stream initial_seed
               get_rng_state mem_get_info""",
    error=lambda name: AssertionError("Torch not compiled with XPU enabled")))
