"""Losses over classes and probabilities: cross entropy and its kin. Regression and margin losses are in margin.py."""
from __future__ import annotations

import math

from ...core.errors import warn
from ...framework import api as torch, autocast, neural
from .. import _reduction
from .activation import logsigmoid
from .linear import linear



# ---- classes ----------------------------------------------------------------------------------------------------------------------------

def _check_classes(input, target, weight, prob=False):
    """The class dimension of (N, C, d1, …) or (C,) with targets (N, d1, …) or ()."""
    dim = input.dim()
    if dim < 1:
        raise ValueError(f"Expected 1 or more dimensions (got {dim})")
    if dim > 1 and (target.dim() == 0 or input.size(0) != target.size(0)):
        raise ValueError(f"Expected input batch_size ({input.size(0)}) to match target batch_size ({target.size(0) if target.dim() else 0}).")
    classes = 0 if dim == 1 else 1
    if weight is not None and (weight.dim() != 1 or weight.numel() != input.size(classes)):
        raise RuntimeError(f"weight tensor should be defined either for all {input.size(classes)} classes or no classes but got weight tensor of "
                           f"shape: "
                           f"{list(weight.shape)}")
    expected = (*input.shape[:classes], *input.shape[classes + 1:])
    if not prob and tuple(target.shape) != expected:
        if dim == 2 or dim == 1:
            raise RuntimeError(f"0D or 1D target tensor expected, multi-target not supported, got target of shape {list(target.shape)}")
        raise RuntimeError(f"Expected target size {list(expected)}, got {list(target.shape)}")
    return classes


def _class_target(target):
    if target.dtype not in (torch.int64, torch.uint8):
        raise RuntimeError(f"expected scalar type Long but found {target.dtype}")
    return target.to(torch.int64)


def _picked(input, target, weight, ignore_index, classes):
    """(-input[target] · weight[target] or 0 where ignored, the weights used): both shaped like target."""
    target = _class_target(target)
    torch._check_targets(target, input.shape[classes], ignore_index)
    used = target != ignore_index
    index = torch._class_index(torch.where(used, target, 0), input.shape[classes])
    losses = -input.gather(classes, index.unsqueeze(classes)).squeeze(classes)
    scale = used.to(input.dtype) if weight is None else weight[index] * used
    return torch.where(used, losses if weight is None else losses * scale, 0.0), scale


def nll_loss(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
    """-input[target], with log-probabilities (N, C, d1, …) and class indices (N, d1, …); the mean divides by the weights used."""
    reduction = _reduction.resolve(reduction, size_average, reduce)
    classes = _check_classes(input, target, weight)
    losses, scale = _picked(input, target, weight, ignore_index, classes)
    return losses.sum() / scale.sum() if reduction == "mean" else _reduction.apply(losses, reduction)


def cross_entropy(input, target, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", label_smoothing=0.0):
    """nll_loss(log_softmax(input), target); a float target of input's shape holds class probabilities."""
    reduction = _reduction.resolve(reduction, size_average, reduce)
    if not 0.0 <= label_smoothing <= 1.0:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    prob = target.shape == input.shape and (target.is_floating_point() or input.dim() == 1)
    if prob and not target.is_floating_point():
        raise RuntimeError("Expected floating point type for target with class probabilities, got " f"{target.dtype}")
    if prob and ignore_index >= 0:
        raise RuntimeError("ignore_index is not supported for floating point target")
    classes = _check_classes(input, target, weight, prob)
    n = input.size(classes)
    logp = input.log_softmax(classes)                                        # (N, C, d1, ...)
    by_class = None if weight is None else weight.reshape(-1, *(1,) * (input.dim() - 1 - classes))
    if prob:
        target = target * (1 - label_smoothing) + label_smoothing / n if label_smoothing else target
        losses = -(logp * target if weight is None else logp * target * by_class).sum(classes)
        return losses.sum() / (input.numel() / n) if reduction == "mean" else _reduction.apply(losses, reduction)
    losses, scale = _picked(logp, target, weight, ignore_index, classes)
    if label_smoothing:
        even = -(logp if weight is None else logp * by_class).sum(classes)   # the loss of the uniform target, times n
        even = torch.where(target != ignore_index, even, 0.0)
        losses = losses * (1 - label_smoothing) + even * (label_smoothing / n)
    return losses.sum() / scale.sum() if reduction == "mean" else _reduction.apply(losses, reduction)


cross_entropy = autocast.apply(cross_entropy, "cross_entropy")


def linear_cross_entropy(input, linear_weight, target, *, linear_bias=None, weight=None, reduction="mean", ignore_index=None, label_smoothing=0.0,
                         options=None):
    """cross_entropy(linear(input, linear_weight, linear_bias), target): the last layer and its loss in one call."""
    if input.dim() not in (1, 2):
        raise RuntimeError(f"expected input with dimensionality 1 or 2, got {input.dim()}")
    if linear_weight.dim() < 2:
        raise RuntimeError(f"expected linear_weight with dimensionality at least 2, got {linear_weight.dim()}")
    if input.shape[-1] != linear_weight.shape[-1]:
        raise RuntimeError(f"expected equal input and linear_weight last dimensions (in_features), got {input.shape[-1]} and "
                           f"{linear_weight.shape[-1]}, "
                           "respectively")
    classes, *inner = linear_weight.shape[:-1]                               # further output dimensions d1, ...
    if linear_bias is not None and tuple(linear_bias.shape) != (classes, *inner):
        raise RuntimeError(f"expected linear_bias shape {(classes, *inner)}, got {tuple(linear_bias.shape)}")
    if inner and input.dim() == 1:
        raise RuntimeError(f"K-dimensional loss defined by linear_weight shape {tuple(linear_weight.shape)} requires batched input, "
                           f"(N, {input.shape[-1]}), got unbatched input with shape {tuple(input.shape)}")
    if ignore_index is not None and tuple(target.shape) == (*input.shape[:-1], classes, *inner):
        raise RuntimeError("ignore_index cannot be specified when target contains probabilities")
    logits = linear(input, linear_weight.reshape(-1, linear_weight.size(-1)), None if linear_bias is None else linear_bias.reshape(-1))
    logits = logits.reshape(*input.shape[:-1], classes, *inner)
    return cross_entropy(logits, target, weight=weight, reduction=reduction, ignore_index=-100 if ignore_index is None else ignore_index,
                         label_smoothing=label_smoothing)


# ---- probabilities ----------------------------------------------------------------------------------------------------------------------

def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """-(t log x + (1 - t) log(1 - x)) for probabilities x."""
    reduction = _reduction.resolve(reduction, size_average, reduce)
    if target.size() != input.size():
        raise ValueError(f"Using a target size ({target.size()}) that is different to the input size ({input.size()}) is deprecated. "
                         "Please ensure they have the same size.")
    loss = torch._binary_cross_entropy(input, target)
    return _reduction.apply(loss if weight is None else loss * weight, reduction)


def binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None):
    """binary_cross_entropy(sigmoid(input), target), stable for large logits; pos_weight multiplies the loss of positive targets."""
    reduction = _reduction.resolve(reduction, size_average, reduce)
    if target.size() != input.size():
        raise ValueError(f"Target size ({target.size()}) must be the same as input size ({input.size()})")
    log_sigmoid = logsigmoid(input)
    loss = (1 - target) * input - (log_sigmoid if pos_weight is None else ((pos_weight - 1) * target + 1) * log_sigmoid)
    return _reduction.apply(loss if weight is None else loss * weight, reduction)


def kl_div(input, target, size_average=None, reduce=None, reduction="mean", log_target=False):
    """t (log t - input), with log-probabilities as input; 'batchmean' divides the sum by the batch size."""
    if size_average is not None or reduce is not None:
        reduction = _reduction.legacy_get_string(size_average, reduce)
    elif reduction == "mean":
        warn("reduction: 'mean' divides the total loss by both the batch size and the support size. 'batchmean' divides only by the batch "
             "size, "
             "and aligns with the KL div math definition.")
    loss = target.exp() * (target - input) if log_target else torch.xlogy(target, target) - target * input
    if reduction == "batchmean":
        return loss.sum() / input.size(0) if input.dim() else loss.sum()
    return _reduction.apply(loss, _reduction.resolve(reduction))


def poisson_nll_loss(input, target, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"):
    """Poisson likelihood of counts; log_input: input is the log of the rate. full adds Stirling's approximation of log t!."""
    if size_average is not None or reduce is not None:
        reduction = _reduction.legacy_get_string(size_average, reduce)
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(reduction + " is not a valid value for reduction")
    loss = input.exp() - target * input if log_input else input - target * (input + eps).log()
    if full:
        stirling = target * target.log() - target + 0.5 * (2 * math.pi * target).log()
        loss = loss + torch.where(target <= 1, 0.0, stirling)
    return _reduction.apply(loss, reduction)


def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    """Gaussian likelihood with predicted mean and variance (Nix and Weigend, 1994); eps bounds the variance from below."""
    if isinstance(var, float):
        if var < 0:
            raise ValueError("var has negative entry/entries")
        var = var * torch.ones_like(input)
    elif torch.any(var < 0):
        raise ValueError("var has negative entry/entries")
    if var.size() != input.size():
        if input.size()[:-1] == var.size():
            var = var.unsqueeze(-1)
        elif input.dim() != var.dim() or sum(v for i, v in zip(input.shape, var.shape) if i != v) != 1:
            raise ValueError("var is of incorrect size")
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(reduction + " is not valid")
    var = var + (var.detach().clamp_min(eps) - var.detach())                 # bounded value, unbounded gradient
    loss = 0.5 * (var.log() + (input - target) ** 2 / var)
    return _reduction.apply(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)


# ---- sequences --------------------------------------------------------------------------------------------------------------------------

def _lengths(x, name, n, device):
    """(as a tensor, as numbers)"""
    x = torch.as_tensor(x, dtype=torch.long, device=device).reshape(-1)
    if x.numel() != n:
        raise RuntimeError(f"{name} must be of size batch_size")
    return x, x.tolist()


def _padded_targets(targets, target_lengths, longest):
    """(N, S) from (N, S) or from one concatenated row."""
    if targets.dim() == 2:
        return targets.to(torch.long)
    start = target_lengths.cumsum(0) - target_lengths                        # (N,)
    at = start.unsqueeze(1) + torch.arange(longest, device=targets.device)
    return targets.to(torch.long)[at.clamp_max(max(targets.numel() - 1, 0))] if targets.numel() else at * 0


_CTC = " (while checking arguments for ctc_loss_allocate_outputs)"


def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    """-log of the total probability of all alignments (Graves et al., 2006): log_probs (T, N, C) or (T, C), targets (N, S) or concatenated."""
    reduction = _reduction.resolve(reduction)
    batched = log_probs.dim() == 3
    if not batched:
        log_probs, targets = log_probs.unsqueeze(1), targets.unsqueeze(0) if targets.dim() == 1 else targets
    steps, n, c = log_probs.shape
    if not 0 <= blank < c:
        raise RuntimeError("blank must be in label range")
    if targets.is_floating_point():
        raise RuntimeError("targets must be integral")
    device = log_probs.device
    input_lengths, inputs = _lengths(input_lengths, "input_lengths", n, device)
    target_lengths, lengths = _lengths(target_lengths, "target_lengths", n, device)
    if max(inputs) > steps or min(inputs) < 0:
        raise RuntimeError(f"Expected input_lengths to have value at most {steps}, but got value {max(inputs)}{_CTC}")
    longest = max(lengths)
    if targets.dim() == 2 and longest > targets.size(1):
        raise RuntimeError(f"Expected tensor to have size at least {longest} at dimension 1, but got size {targets.size(1)} for argument #2 'targets'{_CTC}")
    loss = neural.ctc(log_probs, _padded_targets(targets, target_lengths, max(longest, 1)), input_lengths, target_lengths, blank, zero_infinity)      # (N,)
    if reduction == "mean":
        return (loss / target_lengths.clamp_min(1).to(loss.dtype)).mean()
    return loss.sum() if reduction == "sum" else loss if batched else loss.squeeze(0)
