"""torch.autograd.graph: looking at the graph, and hooks on several tensors at once.

The graph is lines; what backward keeps of them is framework.saving's.
"""
from __future__ import annotations

import contextlib

from ..framework.autograd import GradientEdge, Handle, walking
from ..framework.gradfn import GradFn as Node
from ..framework.gradfn import edge_of as get_gradient_edge
from ..framework.saving import disable_saved_tensors_hooks, save_on_cpu, saved_tensors_hooks
from ..framework.tensor import Tensor, read, touched


def increment_version(tensor):
    """Say that a tensor, or several, was written by something that forno doesn't know of."""
    for t in (tensor,) if isinstance(tensor, Tensor) else tensor: touched(t)


def register_multi_grad_hook(tensors, fn, *, mode="all"):
    """mode "all": fn(gradients) in every backward, once all those of these tensors that it comes by have theirs (None for the others); "any": fn(gradient) at the first."""
    if mode not in ("all", "any"): raise ValueError(f"Expects mode to be one of ('all', 'any') but got {mode}")
    tensors, seen = tuple(tensors), {}         # id of a backward -> (itself, the gradients so far)

    def at(i, n):
        def hook(g):
            walk = walking()
            if id(walk) not in seen:
                seen.clear()
                seen[id(walk)] = walk, {}
            got = seen[id(walk)][1]
            got[i] = g
            if mode == "any" and len(got) == 1: fn(g)
            if mode == "all" and len(got) == sum(map(walk.will_visit, nodes)): fn([got.get(k) for k in range(len(tensors))])
        return hook
    nodes = [read(t) for t in tensors]
    if mode == "all" and not all(n.line.grad for n in nodes): raise AssertionError("Expected gradient function to be set")
    return _Handles([t.register_hook(at(i, n)) for i, (t, n) in enumerate(zip(tensors, nodes)) if n.line.grad])


class _Handles(Handle):
    """Several hooks removed as one."""

    def __init__(self, handles): self.handles = handles

    def remove(self):
        for h in self.handles: h.remove()


class _Kept:
    """What `allow_mutation_on_saved_tensors` gives: nothing is kept for it, so there is nothing to clear."""

    def clear(self): return None


@contextlib.contextmanager
def allow_mutation_on_saved_tensors():
    """Inside and outside, what backward saved may be written over: values are never changed, tensors are given new ones."""
    yield _Kept()


__all__ = ["GradientEdge", "Node", "allow_mutation_on_saved_tensors", "disable_saved_tensors_hooks", "get_gradient_edge", "increment_version", "register_multi_grad_hook",
           "save_on_cpu", "saved_tensors_hooks"]
