"""torch.accelerator: whichever accelerator there is. There is none."""
from __future__ import annotations

from . import gpu

globals().update(gpu.answers(
    __name__,
    no="is_available",
    zero="device_count memory_allocated max_memory_allocated memory_reserved max_memory_reserved",
    nothing="current_accelerator empty_cache",
    refused="current_device_index current_device_idx set_device_index set_device_idx synchronize current_stream set_stream",
    error=lambda name: RuntimeError("Cannot access accelerator device when none is available.")))
