"""Tensors as bytes and bytes as tensors: all that files, pickles and worker processes need to know about memory.

`held` and `raw_bytes` look at a tensor's memory without exposing it; `adopt` makes a tensor on memory that nobody else will touch, so that it is
written in place and never copied. What they return is valid as long as the tensor (or the given memory) lives and is not written.
"""
from __future__ import annotations

import ctypes
import math
from typing import NamedTuple

import numpy as np

from ..core import dtype as dt
from ..core.shape import View, contiguous
from ..cpu import memory as mem
from . import views
from .data import array_of, node_of, own_memory, realize
from .tensor import Tensor, wrap


class Held(NamedTuple):
    """A tensor's storage and how the tensor lies in it. Tensors that share memory have the same key."""
    key: tuple
    memory: memoryview
    view: View


def held(t: Tensor) -> Held:
    buffer, view = own_memory(t)
    bytes_of = memoryview((ctypes.c_ubyte * buffer.nbytes).from_address(buffer.address)).cast("B") if buffer.nbytes else memoryview(b"")
    return Held((buffer.address, buffer.nbytes) if buffer.nbytes else (id(t), 0), bytes_of, view)


def raw_bytes(t: Tensor) -> memoryview:
    """The elements in order; no copy when they lie so."""
    return memoryview(np.ascontiguousarray(array_of(realize(t))).reshape(-1).view(np.uint8)) if t.numel() else memoryview(b"")


def adopt(memory, dtype: dt.dtype, shape) -> Tensor:
    """A tensor on writable memory (anything with the buffer protocol), which it keeps."""
    nbytes = math.prod(shape) * dtype.size
    if not nbytes: return wrap(node_of(mem.empty(0), dtype, tuple(shape)))
    raw = (ctypes.c_ubyte * nbytes).from_buffer(memory)
    return wrap(node_of(mem.wrap(ctypes.addressof(raw), nbytes, raw), dtype, tuple(shape)))


def fresh(nbytes: int) -> memoryview:
    """New aligned memory to be filled and adopted."""
    buffer = mem.empty(nbytes)
    kind = ctypes.c_ubyte * nbytes
    raw = kind.from_address(buffer.address)
    raw.owner = buffer                         # memory goes back when the last look at it is gone
    return memoryview(raw).cast("B") if nbytes else memoryview(bytearray())


def stacked(tensors) -> Tensor | None:
    """torch.stack along a new first axis as one copy; None where that would lose a gradient or needs promotion, broadcasting or another device."""
    first = tensors[0]
    dtype, shape = first.dtype, first.shape
    if any(t.dtype is not dtype or t.shape != shape or t.requires_grad or t.device.type != "cpu" for t in tensors): return None
    out = fresh(len(tensors) * first.numel() * dtype.size)
    rows = np.frombuffer(out, dtype.code).reshape(len(tensors), *shape)
    for i, t in enumerate(tensors): rows[i] = array_of(realize(t))
    return adopt(out, dtype, rows.shape)


class Base:
    """A storage coming from outside: its first tensor owns the memory, the others are views of it."""

    def __init__(self, memory, device="cpu"):
        self.memory, self.device, self.nbytes, self.first = memory, device, len(memory), None

    def tensor(self, dtype: dt.dtype, view: View) -> Tensor:
        """The tensor that `view` shows; the caller has checked that it stays inside."""
        if self.first is None:
            whole = view.offset == 0 and view.strides == contiguous(view.shape) and math.prod(view.shape) * dtype.size == self.nbytes
            self.first = adopt(self.memory, dtype, view.shape if whole else (self.nbytes // dtype.size,)).to(self.device)
            self.memory = None
            if whole: return self.first
        base = self.first if self.first.dtype is dtype else self.first.reshape(-1).view(dtype)
        return views.as_strided(base, view.shape, view.strides, view.offset)


def rebuild(dtype, shape, memory, requires_grad) -> Tensor:
    """The inverse of `reduce`; also unpickles with out-of-band buffers."""
    own = fresh(len(memoryview(memory)))
    own[:] = memoryview(memory).cast("B")
    t = adopt(own, dtype, shape)
    return t.requires_grad_() if requires_grad else t


def reduce(t: Tensor):
    """Tensor.__reduce_ex__ for plain pickle: values, not memory, so two views come back as two tensors."""
    return rebuild, (t.dtype, tuple(t.shape), bytes(raw_bytes(t.detach())), t.requires_grad)
