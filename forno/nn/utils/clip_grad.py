"""Bounds on gradients: by their total norm, or element by element. All work in place on `.grad`."""
from __future__ import annotations

import warnings

from ...framework import api as torch

__all__ = ["get_total_norm", "clip_grads_with_norm_", "clip_grad_norm_", "clip_grad_norm", "clip_grad_value_"]


def _as_list(tensors): return [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
def _grads(parameters): return [p.grad for p in _as_list(parameters) if p.grad is not None]


@torch.no_grad()
def get_total_norm(tensors, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """The norm of all elements of all tensors as one vector."""
    tensors, norm_type = _as_list(tensors), float(norm_type)
    if not tensors:
        return torch.tensor(0.0)
    device = tensors[0].device
    norms = [torch.norm(t, norm_type) for t in tensors]
    norms = torch.stack([n if n.device == device else n.to(device) for n in norms])
    total = torch.norm(norms, norm_type)
    if error_if_nonfinite and torch.logical_or(total.isnan(), total.isinf()):
        raise RuntimeError(f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, so it cannot be clipped. To disable "
                           f"this "
                           "error and scale the gradients by the non-finite norm anyway, set `error_if_nonfinite=False`")
    return total


@torch.no_grad()
def clip_grads_with_norm_(parameters, max_norm, total_norm, foreach=None):
    """Scale gradients by max_norm / total_norm where that is below 1; always a multiplication, so that nothing waits for the norm."""
    scale = (float(max_norm) / (total_norm + 1e-6)).clamp(max=1.0)
    here = scale.device
    for g in _grads(parameters):
        g.mul_(scale if g.device == here else scale.to(g.device))


@torch.no_grad()
def clip_grad_norm_(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """Bound the total norm of all gradients; returns the norm before."""
    parameters = _as_list(parameters)
    total = get_total_norm(_grads(parameters), norm_type, error_if_nonfinite, foreach)
    clip_grads_with_norm_(parameters, max_norm, total, foreach)
    return total


def clip_grad_norm(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    warnings.warn("`torch.nn.utils.clip_grad_norm` is now deprecated in favor of `torch.nn.utils.clip_grad_norm_`.", FutureWarning, stacklevel=2)
    return clip_grad_norm_(parameters, max_norm, norm_type, error_if_nonfinite, foreach)


@torch.no_grad()
def clip_grad_value_(parameters, clip_value, foreach=None):
    """Bound every element of every gradient to [-clip_value, clip_value]."""
    for g in _grads(parameters):
        g.clamp_(-float(clip_value), float(clip_value))
