"""Arguments in the forms that layers and functions accept: numbers or tuples, and everything `Module.to` takes."""
from __future__ import annotations

from collections.abc import Iterable

from ..framework import api as torch

def _ntuple(n, name="parse"):
    def parse(x): return tuple(x) if isinstance(x, Iterable) else (x,) * n
    parse.__name__ = name
    return parse


_single, _pair, _triple, _quadruple = _ntuple(1, "_single"), _ntuple(2, "_pair"), _ntuple(3, "_triple"), _ntuple(4, "_quadruple")


def _reverse_repeat_tuple(t, n):
    """(h, w), 2 -> (w, w, h, h): convolution padding in F.pad's order."""
    return tuple(x for x in reversed(t) for _ in range(n))


def _list_with_default(out_size, defaults):
    """Fill the None entries of an adaptive pool's output size from the input's last dimensions."""
    if isinstance(out_size, int):
        return out_size
    if len(defaults) <= len(out_size):
        raise ValueError(f"Input dimension should be at least {len(out_size) + 1}")
    return [d if v is None else v for v, d in zip(out_size, defaults[-len(out_size):])]


def typename(x) -> str:
    """The qualified name of a type, as error messages spell it: 'str', 'forno.Tensor', 'package.Class'."""
    if hasattr(x, "type") and hasattr(x, "dtype") and callable(x.type):
        return x.type()
    cls = x if isinstance(x, type) else type(x)
    return cls.__qualname__ if cls.__module__ in ("builtins", "__builtin__", None) else f"{cls.__module__}.{cls.__qualname__}"


def parse_to(*args, device=None, dtype=None, non_blocking=False, copy=False, tensor=None, other=None, memory_format=None):
    """The arguments of `Module.to` as (device, dtype, non_blocking, memory_format)."""
    rest = list(args)
    if rest and isinstance(rest[0], torch.Tensor):
        tensor = rest.pop(0)
    tensor = other if tensor is None else tensor
    if tensor is not None:
        device, dtype = tensor.device, tensor.dtype
    elif rest and isinstance(rest[0], torch.dtype):
        dtype = rest.pop(0)
    elif rest and (rest[0] is None or isinstance(rest[0], (str, int, torch.device)) and not isinstance(rest[0], bool)):
        device = rest.pop(0)
        if rest and (rest[0] is None or isinstance(rest[0], torch.dtype)):
            dtype = rest.pop(0)
    if rest and isinstance(rest[0], bool):
        non_blocking = rest.pop(0)
    if rest and isinstance(rest[0], bool):
        rest.pop(0)                             # copy: a module never keeps the old tensors
    if rest:
        got = ", ".join(type(a).__name__ for a in args)
        raise TypeError(f"to() received an invalid combination of arguments - got ({got}), but expected one of: (device, dtype, non_blocking, copy), "
                        "(dtype, non_blocking, copy), (tensor, non_blocking, copy), each also with memory_format=")
    return None if device is None else torch.device(device), dtype, non_blocking, memory_format


def factory_kwargs(kwargs):
    """device, dtype and memory_format out of a module's arguments, some of them given inside `factory_kwargs`."""
    if kwargs is None: return {}
    names = {"device", "dtype", "memory_format"}
    unknown = kwargs.keys() - names - {"factory_kwargs"}
    if unknown: raise TypeError(f"unexpected kwargs {unknown}")
    out = dict(kwargs.get("factory_kwargs", {}))
    for name in names & kwargs.keys():
        if name in out: raise TypeError(f"{name} specified twice, in **kwargs and in factory_kwargs")
        out[name] = kwargs[name]
    return out
