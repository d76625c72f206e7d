"""Tensors as bytes and bytes as tensors: all that files, pickles and worker processes need to know about memory.

`Memories` and `raw_bytes` look at tensors' memory without exposing it; `adopt` makes a tensor on memory that nobody else will touch, so that it is
written in place and never copied. What they return is valid as long as the tensor (or the given memory) lives and is not written.
"""
from __future__ import annotations

import ctypes
import math

import numpy as np

from ..core import dtype as dt
from ..core.shape import View, contiguous
from ..cpu import memory as mem
from . import views
from .data import array_of, node_of, own_memory, realize
from .device import on_host
from .tensor import Tensor, alone, memory, root, wrap


class Memories:
    """The storages behind a number of tensors, numbered as they appear.

    What shares memory is found by the storage's identity, not by its address: taking a tensor's memory may move it.
    """

    def __init__(self):
        self.all: list[memoryview] = []
        self._number: dict[int, int] = {}
        self._kept: list = []

    def of(self, t: Tensor) -> tuple[int, View]:
        """The number of t's storage, and how t lies in it."""
        a = t.alias
        sharers = [t] if a is None else [root(a.store), *(a.store.peers or ())]
        number = next((self._number[id(s)] for s in sharers if id(s) in self._number), None)
        if number is None:
            buffer, view = own_memory(t)
            number = len(self.all)
            self.all.append(look(buffer))
        else: view = memory(t)
        for s in sharers: self._number[id(s)] = number
        self._kept += sharers
        return number, view


def look(buffer) -> memoryview:
    """A buffer's bytes; keeps it. A GPU's are copied."""
    if not buffer.nbytes: return memoryview(b"")
    if buffer.device != "cpu": buffer = on_host(buffer, buffer.nbytes)
    raw = (ctypes.c_ubyte * buffer.nbytes).from_address(buffer.address)
    raw.owner = buffer
    return memoryview(raw).cast("B")


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
    return look(mem.empty(nbytes)) if nbytes else memoryview(bytearray())


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
            if self.nbytes % dtype.size: self.first = adopt(self.memory, dt.uint8, (self.nbytes,)).to(self.device)
        if self.first is None:
            whole = view.offset == 0 and view.strides == contiguous(view.shape) and math.prod(view.shape) * dtype.size == self.nbytes
            self.first = adopt(self.memory, dtype, view.shape if whole else (self.nbytes // dtype.size,)).to(self.device)
            self.memory = None
            if whole: return self.first
        base = self.first.detach() if self.first.requires_grad else self.first             # a view of it must be a leaf, too
        if base.dtype is not dtype: base = base.reshape(-1).view(dtype)
        return alone(views.as_strided(base, view.shape, view.strides, view.offset))
