"""Forward-mode derivatives by dual numbers (torch.autograd.forward_ad): a tensor and its tangent, through ordinary operations.

    with dual_level():
        y = f(make_dual(x, t))
        unpack_dual(y).tangent                 # Jacobian · t

A dual tensor is a copy with a history of its own; tangents are worked out when they are unpacked, so gradients must not be switched off in between.
https://docs.pytorch.org/docs/2.13/autograd.html#forward-mode-automatic-differentiation
"""
from __future__ import annotations

import threading
from typing import NamedTuple

from ..framework.tensor import Tensor
from ..framework.tracking import Tracked


class UnpackedDualTensor(NamedTuple):
    """tangent None: the tensor depends on no dual tensor of this level."""
    primal: Tensor
    tangent: Tensor | None


class _Levels(threading.local):
    def __init__(self): self.open = []


_LEVELS = _Levels()


class dual_level:
    """A context in which dual tensors exist. Levels don't nest, as in PyTorch."""

    def __enter__(self):
        if _LEVELS.open: raise RuntimeError("Nested forward mode AD is not supported at the moment")
        self.tracked = Tracked()
        _LEVELS.open.append((self.tracked, []))
        return 0

    def __exit__(self, *error): _LEVELS.open.pop()


def enter_dual_level(): return dual_level().__enter__()
def exit_dual_level(*, level=None): _LEVELS.open.pop()


def current():
    if not _LEVELS.open: raise RuntimeError("Trying to create a dual Tensor for forward AD but no level exists, make sure to enter_dual_level() first.")
    return _LEVELS.open[-1]


def make_dual(tensor, tangent, *, level=None):
    """`tensor` with a tangent of the same shape and type."""
    tracked, seeds = current()
    if tensor.dtype.category < 2: raise ValueError(f"Expected primal to be floating point or complex, but got: {tensor.dtype}")
    if tangent.dtype.category < 2: raise ValueError(f"Expected tangent to be floating point or complex, but got: {tangent.dtype}")
    if tensor.shape != tangent.shape: raise RuntimeError(f"Expected primal and tangent to have the same shape, got {list(tensor.shape)} and {list(tangent.shape)}")
    if tensor.dtype is not tangent.dtype: raise RuntimeError("Expected primal and tangent to have the same dtype")
    with tracked: dual = tracked.copy(tensor)
    seeds.append((tracked.vertex(dual), tangent))
    return dual


def unpack_dual(tensor, *, level=None) -> UnpackedDualTensor:
    """(the tensor without its tangent, its tangent or None)."""
    if not _LEVELS.open: return UnpackedDualTensor(tensor, None)
    tracked, seeds = current()
    with tracked:
        found, = tracked.pushed([tensor], dict(seeds))
        return UnpackedDualTensor(tracked.released(tensor), None if found is None else tracked.released(found))
