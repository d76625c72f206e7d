"""Pinned memory of the host, and copies that nobody waits for.

Comes in: tensors. Goes out: tensors in pinned memory, and copies to and from a device that are queued when they are asked for (`non_blocking=True`). What such a copy
reads or writes on the host is the program's business until it is done, as in PyTorch: an event or `synchronize()` tells. Gradients need no hurry: a tensor that
has some goes the usual way, and so does a value that lies scattered.
"""
from __future__ import annotations

import math

import numpy as np

from ..core.shape import contiguous
from ..cudart import devices, host
from ..cudart import memory as device_memory
from ..cudart import random as states
from ..dnn.elementwise import TITLES
from ..graph.line import LOCAL
from .data import array_of, node_of, own_memory, place, realize
from .engine import flush
from .tensor import Tensor, is_meta, on_device, read, root, touched, wrap


def pinned_memory(t: Tensor):
    """The pinned memory that a tensor lies in, or None."""
    n = t.node if t.alias is None else root(t.alias.store).node
    return n.buf if n.buf.__class__ is host.Pinned else None


def is_pinned(self, device=None) -> bool: return not is_meta(self) and pinned_memory(self) is not None


def pin_memory(self, device=None):
    """A copy in pinned memory; the tensor itself where it lies there, or where there is no device that could use it."""
    where = read(self).line.device
    if where != "cpu":
        raise RuntimeError(f"cannot pin '{'Meta' if where == 'meta' else 'torch.cuda.'}{TITLES[self.dtype.name]}{'Type' if where == 'meta' else 'Tensor'}' "
                           "only dense CPU tensors can be pinned")
    if devices.count() == 0 or is_pinned(self): return self
    n = realize(self)
    out = node_of(host.empty(math.prod(n.line.shape) * n.line.dtype.size), n.line.dtype, n.line.shape)
    np.copyto(array_of(out), array_of(n))
    return wrap(out)


def record_stream(self, stream):
    """The tensor's memory is used in another stream than it was made for: it isn't given out again before that is done."""
    if not read(self).line.device.startswith("cuda"): return
    device_memory.used_in(place(realize(self))[0], stream.stream_id)


capturing = states.capturing                   # optimizers ask


def dense(view) -> bool: return view.strides == contiguous(view.shape)


def moved(t: Tensor, where: str) -> Tensor:
    """t on another device, by a copy that is only queued if it can be."""
    line, out = read(t).line, None
    if not line.grad and LOCAL.run.level is None:
        if where.startswith("cuda") and pinned_memory(t) is not None: out = sent(t, where)
        elif where == "cpu" and line.device.startswith("cuda"): out = fetched(t)
    return on_device(t, where) if out is None else out


def sent(t: Tensor, where: str) -> Tensor | None:
    source, view = own_memory(t)
    if not dense(view): return None
    size = t.dtype.size
    nbytes = math.prod(view.shape) * size
    block = device_memory.empty(nbytes, where)
    device_memory.send_pinned(source, view.offset * size, nbytes, block)
    return wrap(node_of(block, t.dtype, view.shape))


def fetched(t: Tensor) -> Tensor | None:
    block, view = place(realize(t))
    if not dense(view): return None
    out = host.empty(math.prod(view.shape) * t.dtype.size)
    device_memory.fetch_pinned(block, view.offset * t.dtype.size, out.nbytes, out)
    return wrap(node_of(out, t.dtype, view.shape))


def fetched_into(target: Tensor, source: Tensor) -> bool:
    """target.copy_(source) from a device into pinned memory, if that can be only queued."""
    line, other = read(target).line, read(source).line
    if pinned_memory(target) is None or not other.device.startswith("cuda") or line.grad or other.grad: return False
    if (line.dtype, line.shape) != (other.dtype, other.shape): return False
    block, view = place(realize(source))
    flush()                                    # who wants the old values has them now
    memory, mine = own_memory(target)
    if not dense(view) or not dense(mine): return False
    size = line.dtype.size
    device_memory.fetch_pinned(block, view.offset * size, math.prod(view.shape) * size, memory, mine.offset * size)
    touched(target)
    return True
