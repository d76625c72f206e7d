"""DataParallel on one device: the module itself, under the name 'module' in state dicts. Several processes: forno.distributed."""
from __future__ import annotations

from ..core.errors import unsupported
from .modules.module import Module

__all__ = ["DataParallel"]


class DataParallel(Module):
    """Wraps a module as scripts expect it; splitting a batch over several GPUs of one process is DistributedDataParallel's work."""

    def __init__(self, module, device_ids=None, output_device=None, dim=0):
        super().__init__()
        if device_ids is not None and len(device_ids) > 1:
            raise unsupported("DataParallel over several devices", device=str(list(device_ids)),
                              instead="start one process per device and use nn.parallel.DistributedDataParallel")
        self.dim, self.module, self.device_ids = dim, module, list(device_ids or [])
        self.output_device = output_device if output_device is not None else next(iter(self.device_ids), None)

    def forward(self, *inputs, **kwargs): return self.module(*inputs, **kwargs)
