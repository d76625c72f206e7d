"""Activation layers without parameters of their own, except PReLU. Attention is in attention.py."""
from __future__ import annotations

import warnings

from ...framework import api as torch
from .. import functional as F
from .. import init as _init
from ..parameter import Parameter
from .module import Module

__all__ = ["Threshold", "ReLU", "RReLU", "Hardtanh", "ReLU6", "Sigmoid", "Hardsigmoid", "Tanh", "SiLU", "Mish", "Hardswish", "ELU", "CELU", "SELU",
           "GLU",
           "GELU", "Hardshrink", "LeakyReLU", "LogSigmoid", "Softplus", "Softshrink", "PReLU", "Softsign", "Tanhshrink", "Softmin", "Softmax",
           "Softmax2d", "LogSoftmax"]


class _Inplace(Module):
    """Activations whose only option is `inplace`."""
    __constants__ = ["inplace"]

    def __init__(self, inplace=False):
        super().__init__()
        self.inplace = inplace

    def forward(self, input): return self._act(input, self.inplace)
    def extra_repr(self): return "inplace=True" if self.inplace else ""


class ReLU(_Inplace): _act = staticmethod(F.relu)
class SiLU(_Inplace): _act = staticmethod(F.silu)
class Mish(_Inplace): _act = staticmethod(F.mish)
class SELU(_Inplace): _act = staticmethod(F.selu)


class _InplaceUnsaid(_Inplace):
    """PyTorch's repr of these two does not tell."""
    def extra_repr(self): return ""


class Hardsigmoid(_InplaceUnsaid): _act = staticmethod(F.hardsigmoid)
class Hardswish(_InplaceUnsaid): _act = staticmethod(F.hardswish)


def _inplace_text(module): return ", inplace=True" if module.inplace else ""


class Threshold(Module):
    """x where x > threshold, `value` elsewhere."""
    __constants__ = ["threshold", "value", "inplace"]

    def __init__(self, threshold, value, inplace=False):
        super().__init__()
        self.threshold, self.value, self.inplace = threshold, value, inplace

    def forward(self, input): return F.threshold(input, self.threshold, self.value, self.inplace)
    def extra_repr(self): return f"threshold={self.threshold}, value={self.value}{_inplace_text(self)}"


class RReLU(Module):
    __constants__ = ["lower", "upper", "inplace"]

    def __init__(self, lower=1.0 / 8, upper=1.0 / 3, inplace=False):
        super().__init__()
        self.lower, self.upper, self.inplace = lower, upper, inplace

    def forward(self, input): return F.rrelu(input, self.lower, self.upper, self.training, self.inplace)
    def extra_repr(self): return f"lower={self.lower}, upper={self.upper}{_inplace_text(self)}"


class Hardtanh(Module):
    __constants__ = ["min_val", "max_val", "inplace"]

    def __init__(self, min_val=-1.0, max_val=1.0, inplace=False, min_value=None, max_value=None):
        super().__init__()
        for old, new, given in (("min_value", "min_val", min_value), ("max_value", "max_val", max_value)):
            if given is not None:
                warnings.warn(f"keyword argument `{old}` is deprecated and renamed to `{new}`", FutureWarning, stacklevel=2)
        self.min_val = min_val if min_value is None else min_value
        self.max_val = max_val if max_value is None else max_value
        self.inplace = inplace
        if self.max_val <= self.min_val:
            raise AssertionError(f"max_val ({self.max_val}) must be greater than min_val ({self.min_val})")

    def forward(self, input): return F.hardtanh(input, self.min_val, self.max_val, self.inplace)
    def extra_repr(self): return f"min_val={self.min_val}, max_val={self.max_val}{_inplace_text(self)}"


class ReLU6(Hardtanh):
    def __init__(self, inplace=False): super().__init__(0.0, 6.0, inplace)
    def extra_repr(self): return "inplace=True" if self.inplace else ""


class _Plain(Module):
    """Activations without options."""
    def forward(self, input): return self._act(input)


class Sigmoid(_Plain): _act = staticmethod(F.sigmoid)
class Tanh(_Plain): _act = staticmethod(F.tanh)
class LogSigmoid(_Plain): _act = staticmethod(F.logsigmoid)
class Softsign(_Plain): _act = staticmethod(F.softsign)
class Tanhshrink(_Plain): _act = staticmethod(F.tanhshrink)


class ELU(Module):
    __constants__ = ["alpha", "inplace"]

    def __init__(self, alpha=1.0, inplace=False):
        super().__init__()
        self.alpha, self.inplace = alpha, inplace

    def forward(self, input): return F.elu(input, self.alpha, self.inplace)
    def extra_repr(self): return f"alpha={self.alpha}{_inplace_text(self)}"


class CELU(ELU):
    def forward(self, input): return F.celu(input, self.alpha, self.inplace)


class GLU(Module):
    __constants__ = ["dim"]

    def __init__(self, dim=-1):
        super().__init__()
        self.dim = dim

    def forward(self, input): return F.glu(input, self.dim)
    def extra_repr(self): return f"dim={self.dim}"


class GELU(Module):
    """approximate='tanh' uses the tanh formula."""
    __constants__ = ["approximate"]

    def __init__(self, approximate="none"):
        super().__init__()
        self.approximate = approximate

    def forward(self, input): return F.gelu(input, approximate=self.approximate)
    def extra_repr(self): return f"approximate={self.approximate!r}"


class Hardshrink(Module):
    __constants__ = ["lambd"]

    def __init__(self, lambd=0.5):
        super().__init__()
        self.lambd = lambd

    def forward(self, input): return F.hardshrink(input, self.lambd)
    def extra_repr(self): return f"{self.lambd}"


class Softshrink(Hardshrink):
    def forward(self, input): return F.softshrink(input, self.lambd)


class LeakyReLU(Module):
    __constants__ = ["inplace", "negative_slope"]

    def __init__(self, negative_slope=0.01, inplace=False):
        super().__init__()
        self.negative_slope, self.inplace = negative_slope, inplace

    def forward(self, input): return F.leaky_relu(input, self.negative_slope, self.inplace)
    def extra_repr(self): return f"negative_slope={self.negative_slope}{_inplace_text(self)}"


class Softplus(Module):
    __constants__ = ["beta", "threshold"]

    def __init__(self, beta=1.0, threshold=20.0):
        super().__init__()
        self.beta, self.threshold = beta, threshold

    def forward(self, input): return F.softplus(input, self.beta, self.threshold)
    def extra_repr(self): return f"beta={self.beta}, threshold={self.threshold}"


class PReLU(Module):
    """Leaky ReLU with a learned slope, one for all or one per channel (He et al., 2015)."""
    __constants__ = ["num_parameters"]

    def __init__(self, num_parameters=1, init=0.25, device=None, dtype=None):
        self.num_parameters = num_parameters
        super().__init__()
        self.init = init
        self.weight = Parameter(torch.empty(num_parameters, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self): _init.constant_(self.weight, self.init)
    def forward(self, input): return F.prelu(input, self.weight)
    def extra_repr(self): return f"num_parameters={self.num_parameters}"


class _OverDim(Module):
    __constants__ = ["dim"]

    def __init__(self, dim=None):
        super().__init__()
        self.dim = dim

    def forward(self, input): return self._act(input, self.dim, _stacklevel=5)
    def extra_repr(self): return f"dim={self.dim}"

    def __setstate__(self, state):
        super().__setstate__(state)
        self.__dict__.setdefault("dim", None)


class Softmin(_OverDim): _act = staticmethod(F.softmin)
class Softmax(_OverDim): _act = staticmethod(F.softmax)
class LogSoftmax(_OverDim): _act = staticmethod(F.log_softmax)


class Softmax2d(Module):
    """Softmax over the channels of (N, C, H, W) or (C, H, W)."""

    def forward(self, input):
        if input.dim() not in (3, 4):
            raise ValueError(f"Softmax2d: expected input to be 3D or 4D, got {input.dim()}D instead")
        return F.softmax(input, -3)
