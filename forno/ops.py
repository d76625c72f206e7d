"""torch.ops: functions by the names that PyTorch's dispatcher knows them by, as in `ops.aten.add.Tensor(x, y)`.

The name of an overload chooses nothing here: one function takes what all of its overloads take.
"""
from __future__ import annotations

from .framework import api as torch


class Overloads:
    """A function whose attributes (default, Tensor, int, …) are itself."""

    def __init__(self, name, f): self.__name__, self._f = name, f
    def __call__(self, *args, **kw): return self._f(*args, **kw)
    def __repr__(self): return f"<OpOverloadPacket(op='{self.__name__}')>"

    def __getattr__(self, overload):
        if overload.startswith("__"): raise AttributeError(overload)
        return self._f


class Aten:
    """torch.ops.aten: functions and methods of tensors, and the few that have no other name."""

    def __getattr__(self, name):
        f = _MORE.get(name) or getattr(torch, name, None) or getattr(torch.Tensor, name, None)
        if not callable(f): raise AttributeError(f"'_OpNamespace' 'aten' object has no attribute '{name}'")
        return Overloads(f"aten.{name}", f)


def _slice(input, dim=0, start=None, end=None, step=1):
    dim = dim % max(input.ndim, 1)
    return input[(slice(None),) * dim + (slice(start, end, step),)]


_MORE = {"slice": _slice}
aten = Aten()
