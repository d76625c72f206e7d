"""forno.framework.storage for PyTorch's tensors: lets the file formats be tested without the core."""
import ctypes
import math
from typing import NamedTuple

import torch

from forno.core.shape import View


class Held(NamedTuple):
    key: tuple
    memory: memoryview
    view: View


def held(t):
    s = t.untyped_storage()
    raw = memoryview((ctypes.c_ubyte * s.nbytes()).from_address(s.data_ptr())).cast("B") if s.nbytes() else memoryview(b"")
    return Held((s._cdata,), raw, View(tuple(t.shape), t.stride(), t.storage_offset()))


def raw_bytes(t):
    return memoryview(t.detach().contiguous().reshape(-1).view(torch.uint8).numpy()) if t.numel() else memoryview(b"")


def adopt(memory, dtype, shape):
    return torch.frombuffer(memory, dtype=dtype, count=math.prod(shape)).reshape(shape) if math.prod(shape) else torch.empty(shape, dtype=dtype)


def fresh(nbytes): return memoryview(bytearray(nbytes))


class Base:
    def __init__(self, memory, device="cpu"):
        flat = torch.frombuffer(memory, dtype=torch.uint8) if len(memory) else torch.empty(0, dtype=torch.uint8)
        self.flat, self.nbytes = flat.to(device), len(memory)

    def tensor(self, dtype, view):
        n = self.nbytes // dtype.itemsize * dtype.itemsize
        if not self.nbytes: return torch.empty(0, dtype=dtype).set_(torch.empty(0, dtype=dtype).untyped_storage(), 0, view.shape, view.strides)
        return torch.empty(0, dtype=dtype).set_(self.flat[:n].untyped_storage(), view.offset, view.shape, view.strides)


