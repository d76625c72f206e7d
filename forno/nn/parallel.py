"""DataParallel on one device: the module itself, under the name 'module' in state dicts. Several processes are refused when they are asked for."""
from __future__ import annotations

from ..core.errors import unsupported
from .modules.module import Module

__all__ = ["DataParallel", "DistributedDataParallel"]


class DataParallel(Module):
    """Wraps a module as scripts expect it; a batch is not split over several devices."""

    def __init__(self, module, device_ids=None, output_device=None, dim=0):
        super().__init__()
        if device_ids is not None and len(device_ids) > 1:
            raise unsupported("DataParallel over several devices", device=str(list(device_ids)),
                              instead="one device")
        self.dim, self.module, self.device_ids = dim, module, list(device_ids or [])
        self.output_device = output_device if output_device is not None else next(iter(self.device_ids), None)

    def forward(self, *inputs, **kwargs): return self.module(*inputs, **kwargs)


class DistributedDataParallel(Module):
    """A name that scripts import; there is no process group to make one in."""

    def __init__(self, module, *args, **kwargs):
        super().__init__()
        raise unsupported("DistributedDataParallel", instead="the module itself: a program is one process, and uses all cores through its threads")
