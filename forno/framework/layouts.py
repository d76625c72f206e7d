"""Tensors of other layouts: what stands where a dense tensor has its memory, and the way from a function to the one that knows the layout.

A sparse tensor is made of dense ones and has no node of its own. Whatever asks it for one meets Elsewhere, which raises NotDense. That is an
AttributeError, too, so that the hot path's own handler leads to its slow half, and dense operations pay nothing; the slow half asks `elsewhere`.
Comes in: names of functions and their arguments. Goes out: the layout's own result, or an error that names the operation, the layout and to_dense().
"""
from __future__ import annotations

import functools
import sys

from .size import layout
from .tensor import Tensor

HERE = __name__.rpartition(".")[0]
OTHERS: set[type] = set()                      # classes of tensors without a node
FUNCTIONS: dict = {}                           # name -> the function for them


class NotDense(NotImplementedError, AttributeError):
    """A dense value was asked of a tensor that has none."""


class Elsewhere:
    """Stands in Tensor.alias."""
    __slots__ = ("layout",)

    def __init__(self, layout): self.layout = layout
    def refuse(self): raise refusal(operation(), self.layout)

    store = view = leaf = frozen = own = property(refuse)


def refusal(name, layout) -> NotDense:
    return NotDense(f"'{name}' is not implemented for tensors with layout {layout!r}; use it on x.to_dense()")


PLUMBING = frozenset(("fast", "slow", "call", "first", "method", "f", "operator", "known"))


def operation() -> str:
    """The framework's function that the user (or a library) called."""
    frame, name = sys._getframe(2), "this operation"
    while frame is not None and frame.f_globals.get("__name__", "").startswith(HERE):
        name = title(frame)
        frame = frame.f_back
    return name


def title(frame) -> str:
    name, held = frame.f_code.co_name, frame.f_locals
    if name in PLUMBING:
        for key in ("name", "op", "f"):
            x = held.get(key)
            found = x if isinstance(x, str) else getattr(x, "name", None) or getattr(x, "__name__", None)
            if found: return found
    return name.rstrip("_")


def elsewhere(name: str, *args, **kw):
    """The function `name` for arguments of which at least one isn't dense, or is another layout."""
    f = FUNCTIONS.get(name)
    if f is None: raise refusal(name, next(x.layout if x.__class__ in OTHERS else x for x in args if x.__class__ in OTHERS or x.__class__ is layout))
    return f(*args, **kw)


def routed(f, name: str):
    """f, which leaves arguments that aren't dense to FUNCTIONS[name]."""
    @functools.wraps(f)
    def known(*args, **kw):
        try: return f(*args, **kw)
        except NotDense: pass
        return elsewhere(name, *args, **kw)
    return known


def carrier(x: Tensor) -> Tensor:
    """The dense tensor that a gradient flows through."""
    return x.carrier if x.__class__ in OTHERS else x


def along(g, x):
    """A gradient of x for x's carrier."""
    return x.values_at(g) if x.__class__ in OTHERS and g is not None else g
