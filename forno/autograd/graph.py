"""torch.autograd.graph: looking at the graph, and hooks on several tensors at once.

The graph is lines, not objects that hold saved tensors: hooks that pack and unpack what backward saved have nothing to be called with here.
"""
from __future__ import annotations

import contextlib
from collections import namedtuple

from ..core.errors import unsupported
from ..framework.autograd import Handle
from ..framework.gradfn import GradFn as Node

GradientEdge = namedtuple("GradientEdge", "node output_nr")


def get_gradient_edge(tensor) -> GradientEdge:
    """The vertex that a tensor's gradient arrives at."""
    if not tensor.requires_grad: raise RuntimeError("It is not possible to get the gradient edge for a Tensor that does not require gradients")
    fn = tensor.grad_fn if tensor.grad_fn is not None else tensor.view_as(tensor).grad_fn.next_functions[0][0]
    return GradientEdge(fn, 0)


def register_multi_grad_hook(tensors, fn, *, mode="all"):
    """mode "all": fn(gradients) once all these tensors have theirs; "any": fn(gradient) at the first of them in every backward through all."""
    if mode not in ("all", "any"): raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    got = [None] * len(tensors)
    arrived = [0]

    def at(i):
        def hook(g):
            got[i] = g
            arrived[0] += 1
            if mode == "any" and arrived[0] == 1: fn(g)
            if arrived[0] == len(wanted):
                if mode == "all": fn(list(got))
                got[:], arrived[0] = [None] * len(tensors), 0
        return hook
    wanted = [(t, at(i)) for i, t in enumerate(tensors) if t.requires_grad]
    handles = [t.register_hook(h) for t, h in wanted]
    return _Handles(handles)


class _Handles(Handle):
    """Several hooks removed as one."""

    def __init__(self, handles): self.handles = handles

    def remove(self):
        for h in self.handles: h.remove()


def save_on_cpu(pin_memory=False, device_type="cuda"):
    """Saved values are in the CPU's memory already."""
    return contextlib.nullcontext()


class saved_tensors_hooks:
    def __init__(self, pack_hook, unpack_hook):
        raise unsupported("saved_tensors_hooks", instead="use torch.utils.checkpoint to keep less for backward")


def disable_saved_tensors_hooks(error_message):
    """There are none to disable."""
    return contextlib.nullcontext()


__all__ = ["GradientEdge", "Node", "disable_saved_tensors_hooks", "get_gradient_edge", "register_multi_grad_hook", "save_on_cpu", "saved_tensors_hooks"]
