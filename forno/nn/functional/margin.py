"""Losses over numbers and distances: regression, ranking, margins and triplets."""
from __future__ import annotations


from ...core.errors import warn
from ...framework import api as torch
from .. import _reduction
from .activation import logsigmoid
from .distance import pairwise_distance


def _check_sizes(input, target):
    if target.size() != input.size():
        warn(f"Using a target size ({target.size()}) that is different to the input size ({input.size()}). This will likely lead to "
             f"incorrect "
             "results due to broadcasting. Please ensure they have the same size.")


def _weighted(loss, input, weight, reduction):
    """Elementwise weights; the mean divides by their sum."""
    if weight is None:
        return _reduction.apply(loss, reduction)
    if weight.size() != input.size():
        raise ValueError("Weights and input must have the same size.")
    loss = loss * weight
    return loss.sum() / weight.sum() if reduction == "mean" else _reduction.apply(loss, reduction)


def l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """|input - target|."""
    reduction = _reduction.resolve(reduction, size_average, reduce)
    _check_sizes(input, target)
    return _weighted((input - target).abs(), input, weight, reduction)


def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """(input - target)²."""
    reduction = _reduction.resolve(reduction, size_average, reduce)
    _check_sizes(input, target)
    difference = input - target
    if difference.is_complex(): raise NotImplementedError(f"\"mse_cpu\" not implemented for '{difference.type()[6:-6]}'")
    return _weighted(difference * difference, input, weight, reduction)


def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", beta=1.0):
    """Quadratic below beta, linear above (Girshick, 2015)."""
    reduction = _reduction.resolve(reduction, size_average, reduce)
    _check_sizes(input, target)
    if beta < 0:
        raise RuntimeError("smooth_l1_loss does not support negative values for beta.")
    difference = (input - target).abs()
    loss = difference if beta == 0 else torch.where(difference < beta, 0.5 * difference * difference / beta, difference - 0.5 * beta)
    return _reduction.apply(loss, reduction)


def huber_loss(input, target, reduction="mean", delta=1.0, weight=None):
    """smooth_l1_loss times delta: quadratic below delta, linear above (Huber, 1964)."""
    reduction = _reduction.resolve(reduction)
    _check_sizes(input, target)
    if delta <= 0:
        raise RuntimeError("huber_loss does not support non-positive values for delta.")
    difference = (input - target).abs()
    loss = torch.where(difference <= delta, 0.5 * difference * difference, delta * (difference - 0.5 * delta))
    return _weighted(loss, input, weight, reduction)


def soft_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """log(1 + exp(-target · input)) with targets ±1."""
    return _reduction.apply(torch.log1p((-target * input).exp()), _reduction.resolve(reduction, size_average, reduce))


def margin_ranking_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """max(0, -target · (input1 - input2) + margin): target 1 wants input1 larger, -1 smaller."""
    reduction = _reduction.resolve(reduction, size_average, reduce)
    if not input1.dim() == input2.dim() == target.dim():
        raise RuntimeError(f"margin_ranking_loss : All input tensors should have same dimension but got sizes: input1: {input1.size()}, "
                           f"input2: {input2.size()}, target: {target.size()} ")
    return _reduction.apply((-target * (input1 - input2) + margin).clamp_min(0), reduction)


def hinge_embedding_loss(input, target, margin=1.0, size_average=None, reduce=None, reduction="mean"):
    """The distance itself for target 1, max(0, margin - distance) for target -1."""
    reduction = _reduction.resolve(reduction, size_average, reduce)
    zero = torch.zeros_like(input)
    loss = torch.where(target != 1, (margin - input).clamp_min(0), zero) + torch.where(target != -1, input, zero)
    return _reduction.apply(loss, reduction)


def cosine_embedding_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """1 - cos for target 1, max(0, cos - margin) for target -1: inputs (N, D) and target (N,), or (D,) and ()."""
    reduction = _reduction.resolve(reduction, size_average, reduce)
    if target.dim() not in (0, 1):
        raise RuntimeError(f"0D or 1D target tensor expected, multi-target not supported, got target of shape {list(target.shape)}")
    if input1.dim() != target.dim() + 1 or input2.dim() != target.dim() + 1:
        what = ("1D target tensor expects 2D" if target.dim() else "0D target tensor expects 1D") + " input tensors"
        raise RuntimeError(f"{what}, but found inputs with sizes {list(input1.shape)} and {list(input2.shape)}.")
    d, tiny = target.dim(), 1e-12
    cos = (input1 * input2).sum(d) / (((input1 * input1).sum(d) + tiny) * ((input2 * input2).sum(d) + tiny)).sqrt()
    loss = torch.where(target == 1, 1 - cos, 0.0) + torch.where(target == -1, (cos - margin).clamp_min(0), 0.0)
    return _reduction.apply(loss, reduction)


def _check_rows(input):
    if input.dim() > 2 or 0 in input.shape[-1:]:
        raise RuntimeError(f"Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(input.shape)}")


def multi_margin_loss(input, target, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction="mean"):
    """Mean over the wrong classes of max(0, margin - input[target] + input[class])^p: input (N, C) or (C,)."""
    reduction = _reduction.resolve(reduction, size_average, reduce)
    if p not in (1, 2):
        raise ValueError("only p == 1 and p == 2 supported")
    if weight is not None and weight.dim() != 1:
        raise ValueError("weight must be one-dimensional")
    _check_rows(input)
    rows = input if input.dim() == 2 else input.reshape(1, -1)
    index = torch._class_index(target.reshape(-1), rows.size(1), RuntimeError, "target out of range")
    if index.size(0) != rows.size(0):
        raise RuntimeError(f"inconsistent target size, expected {rows.size(0)} but got {list(target.shape)}")
    if weight is not None and weight.numel() != rows.size(1):
        raise RuntimeError(f"inconsistent weight size, expected {rows.size(1)} but got {list(weight.shape)}")
    gap = (margin - rows.gather(1, index.unsqueeze(1)) + rows).clamp_min(0)                     # (N, C)
    loss = gap if p == 1 else gap * gap
    loss = loss if weight is None else loss * weight[index].unsqueeze(1)
    wrong = torch.arange(rows.size(1), device=input.device) != index.unsqueeze(1)
    loss = torch.where(wrong, loss, 0.0).sum(1) / rows.size(1)                                 # (N,)
    return _reduction.apply(loss if input.dim() == 2 else loss.reshape(target.shape), reduction)


def multilabel_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """Each target class against each other class; a row of targets ends at its first -1: input and target (N, C) or (C,)."""
    reduction = _reduction.resolve(reduction, size_average, reduce)
    _check_rows(input)
    if input.shape != target.shape:
        raise RuntimeError(f"inconsistent target size: {list(target.shape)} for input of size: {list(input.shape)}")
    rows, labels = (x if x.dim() == 2 else x.reshape(1, -1) for x in (input, target))
    given = (labels < 0).to(torch.long).cumsum(1) == 0                                         # (N, C): entries before the first -1
    index = torch._class_index(torch.where(given, labels, 0), rows.size(1), RuntimeError, "argument #2 'target' is out of range")
    is_target = torch.zeros_like(rows).scatter_add(1, index, given.to(rows.dtype)) > 0
    gap = (1 - rows.gather(1, index).unsqueeze(2) + rows.unsqueeze(1)).clamp_min(0)            # (N, target, class)
    loss = torch.where(given.unsqueeze(2) & ~is_target.unsqueeze(1), gap, 0.0).sum((1, 2)) / rows.size(1)
    return _reduction.apply(loss if input.dim() == 2 or reduction != "none" else loss.squeeze(0), reduction)


def multilabel_soft_margin_loss(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """Binary cross entropy with logits, averaged over the classes (the last dimension)."""
    if size_average is not None or reduce is not None:
        reduction = _reduction.legacy_get_string(size_average, reduce)
    if reduction not in ("none", "mean", "sum"):
        raise ValueError(reduction + " is not valid")
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    loss = loss if weight is None else loss * weight
    return _reduction.apply(loss.sum(-1) / input.size(-1), reduction)


def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False, size_average=None, reduce=None, reduction="mean"):
    """max(0, d(anchor, positive) - d(anchor, negative) + margin); swap takes the nearer negative distance (Balntas et al., 2016)."""
    reduction = _reduction.resolve(reduction, size_average, reduce)
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    return triplet_margin_with_distance_loss(anchor, positive, negative, margin=margin, swap=swap, reduction=reduction,
                                             distance_function=lambda x, y: pairwise_distance(x, y, p, eps))


def triplet_margin_with_distance_loss(anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False, reduction="mean"):
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"{reduction} is not a valid value for reduction")
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    a, p, n = anchor.dim(), positive.dim(), negative.dim()
    if not a == p == n:
        raise RuntimeError("The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: "
                           f"anchor {a}D, positive {p}D, and negative {n}D inputs")
    distance = pairwise_distance if distance_function is None else distance_function
    near, far = distance(anchor, positive), distance(anchor, negative)
    far = torch.minimum(far, distance(positive, negative)) if swap else far
    return _reduction.apply((margin + near - far).clamp_min(0), reduction)
