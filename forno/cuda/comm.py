"""torch.cuda.comm: tensors from one device to several and back, in one process."""
from __future__ import annotations

from ..framework import api as torch
from . import where

__all__ = ["broadcast", "broadcast_coalesced", "gather", "reduce_add", "reduce_add_coalesced", "scatter"]


def _device(d):
    """A device as comm's functions name it: -1 is the CPU."""
    return torch.device("cpu") if d == -1 or str(d) == "cpu" else where.name(where.number(d))


def _either(devices, out):
    if (devices is None) == (out is None): raise RuntimeError(f"Exactly one of 'devices' and 'out' must be specified, but got devices={devices} and out={out}")


def broadcast(tensor, devices=None, *, out=None) -> tuple:
    """A tensor on several devices; the first of them is its own."""
    _either(devices, out)
    if out is not None: return tuple([o.copy_(tensor) for o in out])
    return tuple([tensor.to(_device(d)) for d in devices])


def broadcast_coalesced(tensors, devices, buffer_size: int = 10485760) -> tuple:
    """Several tensors on several devices: for each device its copies."""
    return tuple([tuple([t.to(_device(d)) for t in tensors]) for d in devices])


def reduce_add(inputs, destination=None):
    """The sum of tensors of several devices, on one of them."""
    inputs = list(inputs)
    there = _device(where.number() if destination is None else destination)
    if not any(t.device == there for t in inputs): raise RuntimeError("reduce_add expects destination to be on the same GPU with one of the tensors")
    if any(t.shape != inputs[0].shape for t in inputs): raise ValueError(f"inputs have different sizes: {[tuple(t.shape) for t in inputs]}")
    total = inputs[0].to(there)
    for t in inputs[1:]: total = total + t.to(there)
    return total


def reduce_add_coalesced(inputs, destination=None, buffer_size: int = 10485760) -> tuple:
    """The sums of lists of tensors, one list for each device."""
    return tuple([reduce_add(same, destination) for same in zip(*inputs)])


def scatter(tensor, devices=None, chunk_sizes=None, dim: int = 0, streams=None, *, out=None) -> tuple:
    """Parts of a tensor, one for each device."""
    _either(devices, out)
    if out is not None:
        parts = tensor.split([o.shape[dim] for o in out], dim)
        return tuple([o.copy_(p) for o, p in zip(out, parts)])
    parts = tensor.chunk(len(list(devices)), dim) if chunk_sizes is None else tensor.split(list(chunk_sizes), dim)
    return tuple([p.to(_device(d)) for p, d in zip(parts, devices)])


def gather(tensors, dim: int = 0, destination=None, *, out=None):
    """Parts of several devices as one tensor; `destination` -1 is the CPU."""
    tensors = list(tensors)
    if out is not None:
        if destination is not None: raise RuntimeError(f"'destination' must not be specified when 'out' is specified, but got destination={destination}")
        return out.copy_(torch.cat([t.to(out.device) for t in tensors], dim))
    there = _device(where.number() if destination is None else destination)
    return torch.cat([t.to(there) for t in tensors], dim)
