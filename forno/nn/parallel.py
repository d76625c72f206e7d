"""DataParallel: one process divides a batch over several GPUs. Several processes are refused when they are asked for.

Comes in: a module on the first device and a batch. Goes out: the module's outputs for the whole batch, on one device. On the way: `scatter` cuts the batch,
`replicate` copies the parameters, `parallel_apply` calls the replicas, `gather` joins what they gave. All copies are ordinary moves between devices, so the
gradients of all replicas find back to the parameters, and add up there, by themselves.
"""
from __future__ import annotations

import contextlib
import warnings
from itertools import chain

from ..core.errors import unsupported
from ..cudart import devices
from ..framework import api as torch
from .modules.module import Module

__all__ = ["replicate", "scatter", "parallel_apply", "gather", "data_parallel", "DataParallel", "DistributedDataParallel"]


def index_of(device) -> int:
    """The number of a GPU: given as such, by its name, or None for this thread's."""
    if isinstance(device, str): device = torch.device(device)
    if isinstance(device, torch.device):
        if device.type == "cpu": raise ValueError(f"Expected a non cpu device, but got: {device}")
        device = device.index
    return devices.current() if device is None else device


def gpu(index: int): return torch.device("cuda", index)


@contextlib.contextmanager
def selected(index: int):
    """Inside, "cuda" means this device."""
    before = devices.current()
    devices.select(index)
    try: yield
    finally: devices.select(before)


def is_namedtuple(x) -> bool: return isinstance(x, tuple) and hasattr(x, "_asdict") and hasattr(x, "_fields")


# ---------------------------------------------------------------- a batch to devices and back
def scatter(inputs, target_gpus, dim=0):
    """One piece of the inputs for each device: tensors are cut along `dim`, into fewer pieces where there are too few rows; anything else is the same for all."""
    if isinstance(inputs, torch.Tensor):
        return tuple(piece.to(gpu(index_of(d)), non_blocking=True) for piece, d in zip(inputs.chunk(len(target_gpus), dim), target_gpus))
    if isinstance(inputs, (tuple, list, dict)) and len(inputs):
        items = list(inputs.items()) if isinstance(inputs, dict) else inputs
        pieces = zip(*(scatter(x, target_gpus, dim) for x in items))
        return [type(inputs)(*p) if is_namedtuple(inputs) else type(inputs)(p) for p in pieces]
    return [inputs for _ in target_gpus]


def scatter_kwargs(inputs, kwargs, target_gpus, dim=0):
    """Positional and named arguments, piece by piece."""
    scattered, named = list(scatter(inputs, target_gpus, dim)) if inputs else [], list(scatter(kwargs, target_gpus, dim)) if kwargs else []
    scattered += [()] * (len(named) - len(scattered))
    named += [{}] * (len(scattered) - len(named))
    return tuple(scattered), tuple(named)


def gather(outputs, target_device, dim=0):
    """What several devices made, joined along `dim` on one device, which may be the CPU (also called -1)."""
    first = outputs[0]
    if isinstance(first, torch.Tensor): return joined(outputs, target_device, dim)
    if first is None: return None
    if isinstance(first, dict):
        if any(len(first) != len(d) for d in outputs): raise ValueError("All dicts must have the same number of keys")
        return type(first)((k, gather([d[k] for d in outputs], target_device, dim)) for k in first)
    parts = [gather(x, target_device, dim) for x in zip(*outputs)]
    return type(first)(*parts) if is_namedtuple(first) else type(first)(parts)


def joined(tensors, target_device, dim):
    if any(not t.is_cuda for t in tensors): raise AssertionError("Gather function not implemented for CPU tensors")
    if dim == 0 and all(t.dim() == 0 for t in tensors):
        warnings.warn("Was asked to gather along dimension 0, but all input tensors were scalars; will instead unsqueeze and return a vector.", stacklevel=2)
        tensors = [t.view(1) for t in tensors]
    device = torch.device("cpu") if target_device == -1 or str(target_device) == "cpu" else gpu(index_of(target_device))
    return torch.cat([t.to(device, non_blocking=device.type == "cuda") for t in tensors], dim)


# ---------------------------------------------------------------- a module on several devices
def replicate(network, devices, detach=False):
    """The module on each device. Replicas' parameters are plain tensors, computed from the module's own. On its own device buffers are the module's: running
    statistics that this replica writes stay."""
    return [replica_on(gpu(index_of(d)), network, detach or not torch.is_grad_enabled()) for d in devices]


def replica_on(device, network, detach: bool):
    """A copy of the tree of modules whose tensors are on a device; one that stands at several places is copied once."""
    moved: dict = {}

    def there(t, apart):
        if id(t) not in moved:
            t_there = (t.detach() if apart else t).to(device, non_blocking=True)
            moved[id(t)] = t.view_as(t) if t_there is t else t_there
        return moved[id(t)]
    copies = {m: blank(m) for m in network.modules()}
    for module, copy in copies.items():
        for name, child in module._modules.items(): copy._modules[name] = None if child is None else copies[child]
        for name, p in module._parameters.items():
            if p is None: copy._parameters[name] = None
            else: copy.__dict__[name] = there(p, detach)
        for name, b in module._buffers.items(): copy._buffers[name] = b if b is None or b.device == device else there(b, detach or not b.requires_grad)
    return copies[network]


def blank(module):
    """A module of the same class and settings, whose tables may be filled anew."""
    copy = object.__new__(type(module))
    copy.__dict__.update(module.__dict__)
    copy.__dict__.update(_parameters={}, _buffers=dict(module._buffers), _modules=dict(module._modules), _is_replica=True)
    return copy


def parallel_apply(modules, inputs, kwargs_tup=None, devices=None):
    """Each module's output for its inputs. They are called one after the other: a call only writes down what is to be done, and the devices do it at the same time."""
    for what, given in (("inputs", inputs), ("kwargs_tup", kwargs_tup), ("devices", devices)):
        if given is not None and len(given) != len(modules):
            raise AssertionError(f"The number of modules {len(modules)} is not equal to the number of {what} {len(given)}")
    out = []
    for i, (module, given) in enumerate(zip(modules, inputs)):
        named = {} if kwargs_tup is None else kwargs_tup[i]
        device = first_device((given, named)) if devices is None or devices[i] is None else index_of(devices[i])
        if device is None: raise RuntimeError(f"in replica {i}, no device was provided and no tensor input was found; device cannot be resolved")
        with selected(device): out.append(module(*(given if isinstance(given, (list, tuple)) else (given,)), **named))
    return out


def first_device(x):
    """Where the first tensor in nested arguments is."""
    if isinstance(x, torch.Tensor): return x.get_device()
    found = (first_device(y) for y in (x.values() if isinstance(x, dict) else x if isinstance(x, (list, tuple)) else ()))
    return next((d for d in found if d is not None), None)


# ---------------------------------------------------------------- all of it
def data_parallel(module, inputs, device_ids=None, output_device=None, dim=0, module_kwargs=None):
    """module(*inputs) with the batch divided over GPUs; the output is on `output_device`, or else on the first one."""
    if devices.count() == 0: raise RuntimeError("device type could not be determined")
    ids = [index_of(d) for d in (range(devices.count()) if device_ids is None else device_ids)]
    inputs = inputs if isinstance(inputs, tuple) else () if inputs is None else (inputs,)
    return divided(module, inputs, module_kwargs, ids, ids[0] if output_device is None else output_device, dim)


def divided(module, inputs, kwargs, ids, output_device, dim):
    for t in chain(module.parameters(), module.buffers()):
        if t.device != gpu(ids[0]):
            raise RuntimeError(f"module must have its parameters and buffers on device {gpu(ids[0])} (device_ids[0]) but found one of them on device: {t.device}")
    inputs, named = scatter_kwargs(inputs, kwargs, ids, dim)
    if not inputs: inputs, named = ((),), ({},)            # nothing to divide: the first device calls it
    if len(ids) == 1: return module(*inputs[0], **named[0])
    used = ids[:len(inputs)]
    return gather(parallel_apply(replicate(module, used), inputs, named, used), output_device, dim)


class DataParallel(Module):
    """Calls a module with the batch divided over GPUs (all, or those in `device_ids`); its parameters are on the first of them. Without a GPU, it's the module itself."""

    def __init__(self, module, device_ids=None, output_device=None, dim=0):
        super().__init__()
        self.dim, self.module = dim, module
        there = range(devices.count()) if device_ids is None else device_ids
        self.device_ids = [index_of(d) for d in there] if devices.count() else []
        self.output_device = None if not self.device_ids else self.device_ids[0] if output_device is None else output_device
        if len(self.device_ids) == 1: self.module.to(gpu(self.device_ids[0]))

    def forward(self, *inputs, **kwargs):
        if not self.device_ids: return self.module(*inputs, **kwargs)
        return divided(self.module, inputs, kwargs, self.device_ids, self.output_device, self.dim)


class DistributedDataParallel(Module):
    """A name that scripts import; there is no process group to make one in."""

    def __init__(self, module, *args, **kwargs):
        super().__init__()
        raise unsupported("DistributedDataParallel", instead="the module itself, or DataParallel on several GPUs: a program is one process, and uses all cores through its threads")
