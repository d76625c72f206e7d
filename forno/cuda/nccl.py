"""torch.cuda.nccl: one process's tensors on several devices put together. forno copies them itself, over peer access where devices have it; there is no NCCL."""
from __future__ import annotations

from collections.abc import Container

from ..core.errors import unsupported
from ..framework import api as torch

__all__ = ["all_gather", "all_reduce", "broadcast", "reduce", "reduce_scatter"]
SUM = 0                                        # ncclRedOp_t
_OPS = (torch.add, torch.mul, torch.maximum, torch.minimum)


def is_available(tensors) -> bool:
    """Can these be put together? They have to be dense, each on a device of its own."""
    tensors = list(tensors)
    return all([t.is_cuda and not t.is_sparse and t.is_contiguous() for t in tensors]) and len({t.get_device() for t in tensors}) == len(tensors)


def _absent(name: str): return unsupported(f"torch.cuda.nccl.{name}", device="cuda", instead="torch.cuda.comm moves tensors between the devices of a process")
def version(): raise _absent("version")
def unique_id(): raise _absent("unique_id")
def init_rank(num_ranks, uid, rank): raise _absent("init_rank")


def _several(x):
    if not isinstance(x, Container) or isinstance(x, torch.Tensor): raise TypeError("Inputs should be a collection of tensors")
    return list(x)


def _together(inputs, op: int, device):
    """All inputs as one, on a device."""
    if not 0 <= op < len(_OPS) and op != 4: raise ValueError(f"unknown operation {op}: 0 adds, 1 multiplies, 2 takes the largest, 3 the smallest, 4 the mean")
    out = inputs[0].detach().to(device)
    for x in inputs[1:]: out = _OPS[op % 4](out, x.detach().to(device))
    return out / len(inputs) if op == 4 else out


def all_reduce(inputs, outputs=None, op=SUM, streams=None, comms=None):
    """All inputs as one, in each output."""
    inputs = _several(inputs)
    outputs = inputs if outputs is None else _several(outputs)
    total = _together(inputs, op, inputs[0].device)
    for o in outputs: o.detach().copy_(total)


def reduce(inputs, output=None, root: int = 0, op: int = SUM, streams=None, comms=None, *, outputs=None):
    """All inputs as one, in the output of one device."""
    inputs = _several(inputs)
    if outputs is not None and output is not None: raise ValueError("'output' and 'outputs' can not be both specified. 'outputs' is deprecated in favor of 'output'")
    if outputs is not None: output = outputs[root]
    elif output is not None and not isinstance(output, torch.Tensor): output = output[root]
    if output is None: output = inputs[root]
    output.detach().copy_(_together(inputs, op, output.device))


def broadcast(inputs, root: int = 0, streams=None, comms=None):
    """One input's values in all."""
    inputs = _several(inputs)
    for x in inputs:
        if x is not inputs[root]: x.detach().copy_(inputs[root].detach())


def all_gather(inputs, outputs, streams=None, comms=None):
    """All inputs, one after the other, in each output."""
    inputs, outputs = _several(inputs), _several(outputs)
    for o in outputs: o.detach().copy_(torch.cat([x.detach().to(o.device).reshape(-1) for x in inputs]).reshape(o.shape))


def reduce_scatter(inputs, outputs, op: int = SUM, streams=None, comms=None):
    """All inputs as one, of which each output gets its part."""
    inputs, outputs = _several(inputs), _several(outputs)
    parts = _together(inputs, op, inputs[0].device).reshape(-1).chunk(len(outputs))
    for o, part in zip(outputs, parts): o.detach().copy_(part.reshape(o.shape))
