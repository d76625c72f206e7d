"""Normalizations without batch statistics: LayerNorm, RMSNorm, GroupNorm, LocalResponseNorm."""
from __future__ import annotations

from .. import functional as F
from .batchnorm import _affine, _reset_affine
from .module import Module

__all__ = ["LocalResponseNorm", "CrossMapLRN2d", "LayerNorm", "GroupNorm", "RMSNorm"]


class _OverLast(Module):
    """Normalizes over the last dimensions, which must equal normalized_shape."""
    __constants__ = ["normalized_shape", "eps", "elementwise_affine"]

    def _set_up(self, normalized_shape, eps, elementwise_affine, bias, device, dtype):
        self.normalized_shape = (normalized_shape,) if hasattr(normalized_shape, "__index__") else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        _affine(self, elementwise_affine, bias, self.normalized_shape, device, dtype)

    def reset_parameters(self):
        if self.elementwise_affine:
            _reset_affine(self)


class LayerNorm(_OverLast):
    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, device=None, dtype=None):
        super().__init__()
        self._set_up(normalized_shape, eps, elementwise_affine, bias, device, dtype)
        self.reset_parameters()

    def forward(self, input): return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, bias={self.bias is not None}"


class RMSNorm(_OverLast):
    def __init__(self, normalized_shape, eps=None, elementwise_affine=True, device=None, dtype=None):
        super().__init__()
        self._set_up(normalized_shape, eps, elementwise_affine, False, device, dtype)
        del self._parameters["bias"]                        # RMSNorm has none, not even as None
        self.reset_parameters()

    def forward(self, x): return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)
    def extra_repr(self): return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(Module):
    """(N, C, *): each group of C / num_groups channels of each sample by itself."""
    __constants__ = ["num_groups", "num_channels", "eps", "affine"]

    def __init__(self, num_groups, num_channels, eps=1e-5, affine=True, device=None, dtype=None, *, bias=True):
        super().__init__()
        if num_channels % num_groups != 0:
            raise ValueError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        _affine(self, affine, bias, num_channels, device, dtype)
        self.reset_parameters()

    def reset_parameters(self):
        if self.affine:
            _reset_affine(self)

    def forward(self, input): return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self):
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, bias={self.bias is not None}"


class LocalResponseNorm(Module):
    __constants__ = ["size", "alpha", "beta", "k"]

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1.0):
        super().__init__()
        self.size, self.alpha, self.beta, self.k = size, alpha, beta, k

    def forward(self, input): return F.local_response_norm(input, self.size, self.alpha, self.beta, self.k)
    def extra_repr(self): return f"{self.size}, alpha={self.alpha}, beta={self.beta}, k={self.k}"


class CrossMapLRN2d(LocalResponseNorm):
    """LocalResponseNorm for images (N, C, H, W), under its older name."""

    def __init__(self, size, alpha=1e-4, beta=0.75, k=1):
        super().__init__(size, alpha, beta, k)

    def forward(self, input):
        if input.dim() != 4:
            raise ValueError(f"CrossMapLRN2d: Expected input to be 4D, got {input.dim()}D instead.")
        return super().forward(input)
