"""Ensembles: the parameters of several equal modules as one batch; batch norm without running statistics."""
from __future__ import annotations

from ..framework.api import stack
from ..nn import BatchNorm1d, BatchNorm2d, BatchNorm3d


def stack_module_state(models):
    """(parameters, buffers) of equal modules, stacked by name along a new first axis, for vmap over functional_call."""
    models = list(models)
    if not models: raise RuntimeError("stack_module_state: Expected at least one model, got 0.")
    if not (all(m.training for m in models) or all(not m.training for m in models)):
        raise RuntimeError("stack_module_state: Expected all models to have the same training/eval mode.")
    if any(type(m) is not type(models[0]) for m in models): raise RuntimeError("stack_module_state: Expected all models to be of the same class.")
    kinds = [dict(models[0].named_parameters()), dict(models[0].named_buffers())]
    return tuple({name: stacked([m.get_parameter(name) if k == 0 else m.get_buffer(name) for m in models]) for name in kind} for k, kind in enumerate(kinds))


def stacked(tensors):
    """A leaf that requires gradients where the tensors did."""
    return stack([t.detach() for t in tensors]).requires_grad_(any(t.requires_grad for t in tensors))


def replace_all_batch_norm_modules_(root):
    """Batch norms inside `root` stop tracking running statistics, which vmap can't write."""
    for m in root.modules():
        if isinstance(m, (BatchNorm1d, BatchNorm2d, BatchNorm3d)):
            m.track_running_stats, m.running_mean, m.running_var, m.num_batches_tracked = False, None, None, None
    return root
