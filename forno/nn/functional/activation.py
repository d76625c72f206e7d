"""Activation functions. `inplace=True` overwrites the input and returns it."""
from __future__ import annotations


from ...core.errors import warn
from ...framework import api as torch

gelu, softplus, logsigmoid = torch.gelu, torch.softplus, torch.logsigmoid
hardshrink, softshrink, prelu = torch.hardshrink, torch.softshrink, torch.prelu


def _into(input, result, inplace):
    return input.copy_(result) if inplace and result is not input else result


def relu(input, inplace=False): return input.relu_() if inplace else torch.relu(input)
def relu6(input, inplace=False): return _into(input, torch.hardtanh(input, 0.0, 6.0), inplace)
def elu(input, alpha=1.0, inplace=False): return _into(input, torch.elu(input, alpha), inplace)
def selu(input, inplace=False): return _into(input, torch.selu(input), inplace)
def celu(input, alpha=1.0, inplace=False): return _into(input, torch.celu(input, alpha), inplace)
def leaky_relu(input, negative_slope=0.01, inplace=False): return _into(input, torch.leaky_relu(input, negative_slope), inplace)
def silu(input, inplace=False): return _into(input, torch.silu(input), inplace)
def mish(input, inplace=False): return _into(input, torch.mish(input), inplace)
def hardswish(input, inplace=False): return _into(input, torch.hardswish(input), inplace)
def hardsigmoid(input, inplace=False): return _into(input, torch.hardsigmoid(input), inplace)
def threshold(input, threshold, value, inplace=False): return _into(input, torch.threshold(input, threshold, value), inplace)
def tanhshrink(input): return input - input.tanh()
def softsign(input): return input / (input.abs() + 1)
def tanh(input): return input.tanh()
def sigmoid(input): return input.sigmoid()


def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    return _into(input, torch.hardtanh(input, min_val, max_val), inplace)


def glu(input, dim=-1):
    """First half of `dim` times the sigmoid of the second half."""
    if input.dim() == 0:
        raise RuntimeError("glu does not support scalars because halving size must be even")
    if input.size(dim) % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {dim} is size {input.size(dim)}")
    a, b = input.chunk(2, dim)
    return a * b.sigmoid()


def rrelu(input, lower=1.0 / 8, upper=1.0 / 3, training=False, inplace=False):
    """Leaky ReLU whose slope is uniform in [lower, upper] for each element in training, their mean otherwise (Xu et al., 2015)."""
    if lower > upper:
        raise RuntimeError("Lower bound should be less than or equal to the upper bound")
    if not training:
        return leaky_relu(input, (lower + upper) / 2, inplace)
    drawn = (input <= 0).reshape(-1).nonzero().squeeze(1)                    # PyTorch draws for these elements only, in double precision
    slope = torch.ones(input.numel(), dtype=torch.float64, device=input.device)
    slope = slope.index_copy(0, drawn, torch.empty(drawn.size(0), dtype=torch.float64, device=input.device).uniform_(lower, upper))
    return _into(input, input * slope.to(input.dtype).reshape(input.shape), inplace)


def relu_(input): return relu(input, True)
def elu_(input, alpha=1.0): return elu(input, alpha, True)
def selu_(input): return selu(input, True)
def celu_(input, alpha=1.0): return celu(input, alpha, True)
def leaky_relu_(input, negative_slope=0.01): return leaky_relu(input, negative_slope, True)
def hardtanh_(input, min_val=-1.0, max_val=1.0): return hardtanh(input, min_val, max_val, True)
def threshold_(input, threshold_, value): return threshold(input, threshold_, value, True)
def rrelu_(input, lower=1.0 / 8, upper=1.0 / 3, training=False): return rrelu(input, lower, upper, training, True)


def _get_softmax_dim(name, ndim, stacklevel):
    """The dimension that a call without one has always meant."""
    warn(f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument.",
                  stacklevel=stacklevel)
    return 0 if ndim in (0, 1, 3) else 1


def softmax(input, dim=None, _stacklevel=3, dtype=None):
    return input.softmax(_get_softmax_dim("softmax", input.dim(), _stacklevel) if dim is None else dim, dtype=dtype)


def softmin(input, dim=None, _stacklevel=3, dtype=None):
    return (-input).softmax(_get_softmax_dim("softmin", input.dim(), _stacklevel) if dim is None else dim, dtype=dtype)


def log_softmax(input, dim=None, _stacklevel=3, dtype=None):
    return input.log_softmax(_get_softmax_dim("log_softmax", input.dim(), _stacklevel) if dim is None else dim, dtype=dtype)


def gumbel_softmax(logits, tau=1, hard=False, eps=1e-10, dim=-1):
    """Samples of a relaxed categorical distribution; hard: one-hot forward, soft gradient (Jang et al., 2017)."""
    if eps != 1e-10:
        warn("`eps` parameter is deprecated and has no effect.")
    gumbels = -torch.empty_like(logits).exponential_().log()
    soft = ((logits + gumbels) / tau).softmax(dim)
    if not hard:
        return soft
    one = torch.zeros_like(logits).scatter_(dim, soft.max(dim, keepdim=True)[1], 1.0)
    return one - soft.detach() + soft
