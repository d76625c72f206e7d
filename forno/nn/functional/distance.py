"""Distances and similarities between vectors."""
from __future__ import annotations

from ...framework import api as torch


def pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    """The p-norm of x1 - x2 + eps over the last dimension."""
    return torch.norm(x1 - x2 + eps, p, -1, keepdim)


def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """Scalar product of the two vectors, each divided by max(its norm, eps)."""
    if x1.dtype.is_complex or not (x1.is_floating_point() or x2.is_floating_point()):
        raise RuntimeError(f"expected common dtype to be floating point, yet common dtype is {x1.dtype}")
    x1, x2 = torch.broadcast_tensors(x1, x2)
    norm1, norm2 = (x.norm(2, dim, keepdim=True).clamp_min(eps) for x in (x1, x2))
    return ((x1 / norm1) * (x2 / norm2)).sum(dim)


def pdist(input, p=2.0):
    """The p-norm distances of all pairs of rows i < j: (n, d) -> (n (n-1) / 2,)."""
    if input.dim() != 2:
        raise RuntimeError(f"pdist only supports 2D tensors, got: {input.dim()}D")
    if p < 0:
        raise RuntimeError("pdist only supports non-negative p values")
    i, j = torch.triu_indices(input.size(0), input.size(0), 1, device=input.device)
    return torch.norm(input[i] - input[j], p, 1)
