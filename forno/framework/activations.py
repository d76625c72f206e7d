"""Activation functions with PyTorch's parameters and defaults, as aten offers them."""
from __future__ import annotations

from ..dnn import activation as ac
from .bind import apply, unary

silu, mish, logsigmoid, hardsigmoid, hardswish, softsign, tanhshrink = map(unary, (ac.silu, ac.mish, ac.logsigmoid, ac.hardsigmoid, ac.hardswish, ac.softsign, ac.tanhshrink))
relu6 = unary(ac.relu6)
_gelu, _gelu_tanh = unary(ac.gelu), unary(ac.gelu_tanh)


def gelu(input, *, approximate="none"):
    if approximate == "none": return _gelu(input)
    if approximate == "tanh": return _gelu_tanh(input)
    raise RuntimeError("approximate argument must be either none or tanh.")


def leaky_relu(input, negative_slope=0.01): return apply(ac.leaky_relu, input, negative_slope)
def elu(input, alpha=1.0, scale=1, input_scale=1): return apply(ac.elu, input, alpha)
def celu(input, alpha=1.0):
    if alpha == 0: raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    return apply(ac.celu, input, alpha)


def hardtanh(input, min_val=-1.0, max_val=1.0): return apply(ac.hardtanh, input, min_val, max_val)
def softplus(input, beta=1.0, threshold=20.0): return apply(ac.softplus, input, beta, threshold)
def threshold(input, threshold, value): return apply(ac.threshold, input, threshold, value)
def hardshrink(input, lambd=0.5): return apply(ac.hardshrink, input, lambd)


def softshrink(input, lambd=0.5):
    if lambd < 0: raise RuntimeError(f"lambda must be greater or equal to 0, but found to be {lambd}.")
    return apply(ac.softshrink, input, lambd)


def prelu(input, weight):
    """weight: one number, or one per channel (axis 1)."""
    if weight.ndim > 1: raise RuntimeError(f"prelu: Expected `weight` to be a scalar or 1D tensor, but got: ndim = {weight.ndim}")
    if weight.numel() != 1:
        if input.ndim == 0: raise RuntimeError("Not allow zero-dim input tensor.")
        channels = input.shape[1] if input.ndim > 1 else 1
        if weight.numel() != channels:
            raise RuntimeError(f"Mismatch of parameter numbers and input channel size. Found parameter numbers = {weight.numel()} and channel size = {channels}.")
    shape = (1, -1) + (1,) * (input.ndim - 2) if input.ndim > 1 else (-1,) if input.ndim else ()
    return apply(ac.prelu, input, weight.reshape(shape))
