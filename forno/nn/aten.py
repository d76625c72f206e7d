"""Functions of nn under the names and argument orders of PyTorch's C++ library: torch.ctc_loss, torch.gru, torch.embedding_bag and their like.

Reductions, modes and paddings are numbers here: none 0 (what these functions default to), mean 1, sum 2. Every one calls what nn.functional calls.
"""
from __future__ import annotations

from ..framework import api as torch
from . import functional as F
from .functional.activation import _into
from .functional.dropout import _feature_dropout
from .functional.recurrent import CELLS, recurrent
from .functional.sparse import _renorm_

REDUCTIONS, BAGS = ("none", "mean", "sum"), ("sum", "mean", "max")
INTERPOLATIONS, PADDINGS = ("bilinear", "nearest", "bicubic"), ("zeros", "border", "reflection")

# alike in both places
bilinear, channel_shuffle, conv_tbc, pairwise_distance, pdist, pixel_shuffle, pixel_unshuffle = (
    F.bilinear, F.channel_shuffle, F.conv_tbc, F.pairwise_distance, F.pdist, F.pixel_shuffle, F.pixel_unshuffle)
native_channel_shuffle = channel_shuffle


# ---- losses
def binary_cross_entropy_with_logits(input, target, weight=None, pos_weight=None, reduction=0):
    return F.binary_cross_entropy_with_logits(input, target, weight, reduction=REDUCTIONS[reduction], pos_weight=pos_weight)


def cosine_embedding_loss(input1, input2, target, margin=0.0, reduction=0):
    return F.cosine_embedding_loss(input1, input2, target, margin, reduction=REDUCTIONS[reduction])


def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction=0, zero_infinity=False):
    return F.ctc_loss(log_probs, targets, input_lengths, target_lengths, blank, REDUCTIONS[reduction], zero_infinity)


def hinge_embedding_loss(input, target, margin=1.0, reduction=0): return F.hinge_embedding_loss(input, target, margin, reduction=REDUCTIONS[reduction])
def kl_div(input, target, reduction=0, *, log_target=False): return F.kl_div(input, target, reduction=REDUCTIONS[reduction], log_target=log_target)


def margin_ranking_loss(input1, input2, target, margin=0.0, reduction=0):
    return F.margin_ranking_loss(input1, input2, target, margin, reduction=REDUCTIONS[reduction])


def poisson_nll_loss(input, target, log_input, full, eps, reduction):
    return F.poisson_nll_loss(input, target, log_input, full, eps=eps, reduction=REDUCTIONS[reduction])


def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False, reduction=0):
    return F.triplet_margin_loss(anchor, positive, negative, margin, p, eps, swap, reduction=REDUCTIONS[reduction])


# ---- dropout and activations
def alpha_dropout(input, p, train): return F.alpha_dropout(input, p, train)
def alpha_dropout_(input, p, train): return F.alpha_dropout(input, p, train, inplace=True)
def dropout_(input, p, train): return F.dropout(input, p, train, inplace=True)
def feature_alpha_dropout(input, p, train): return F.feature_alpha_dropout(input, p, train)
def feature_alpha_dropout_(input, p, train): return F.feature_alpha_dropout(input, p, train, inplace=True)
def feature_dropout(input, p, train): return _feature_dropout(input, p, train)
def feature_dropout_(input, p, train): return _into(input, _feature_dropout(input, p, train), True)


def native_dropout(input, p, train=None):
    """(result, what was kept)."""
    if train is False or p == 0: return input.clone(), torch.ones_like(input, dtype=torch.bool)
    kept = torch.empty(input.shape, device=input.device).bernoulli_(1 - p).to(torch.bool)
    return input * kept * (1 / (1 - p) if p < 1 else 0.0), kept


def celu_(input, alpha=1.0): return F.celu(input, alpha, inplace=True)
def rrelu(input, lower=1 / 8, upper=1 / 3, training=False, generator=None): return F.rrelu(input, lower, upper, training)
def rrelu_(input, lower=1 / 8, upper=1 / 3, training=False, generator=None): return F.rrelu(input, lower, upper, training, inplace=True)
def selu_(input): return F.selu(input, inplace=True)
def threshold_(input, threshold, value): return F.threshold(input, threshold, value, inplace=True)


# ---- normalisation: the native ones give mean and 1 / deviation, too
def instance_norm(input, weight, bias, running_mean, running_var, use_input_stats, momentum, eps, cudnn_enabled):
    return F.instance_norm(input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps)


def _moments(x, dims, eps):
    x = x.detach()
    return x.mean(dims, keepdim=True), (x.var(dims, unbiased=False, keepdim=True) + eps).rsqrt()


def native_layer_norm(input, normalized_shape, weight, bias, eps):
    return F.layer_norm(input, normalized_shape, weight, bias, eps), *_moments(input, tuple(range(-len(normalized_shape), 0)), eps)


def native_group_norm(input, weight, bias, N, C, HxW, group, eps):
    mean, scale = _moments(input.reshape(N, group, -1), (-1,), eps)
    return F.group_norm(input, group, weight, bias, eps), mean.squeeze(-1), scale.squeeze(-1)


def native_batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps):
    axes = (0, *range(2, input.dim()))
    mean, scale = _moments(input, axes, eps) if training else (input.new_empty(0), input.new_empty(0))
    return torch.batch_norm(input, weight, bias, running_mean, running_var, training, momentum, eps, True), mean.reshape(-1), scale.reshape(-1)


# ---- grids, convolution, embeddings
def grid_sampler(input, grid, interpolation_mode, padding_mode, align_corners):
    return F.grid_sample(input, grid, INTERPOLATIONS[interpolation_mode], PADDINGS[padding_mode], align_corners)


grid_sampler_2d = grid_sampler_3d = grid_sampler
def affine_grid_generator(theta, size, align_corners): return F.affine_grid(theta, size, align_corners)


def convolution(input, weight, bias, stride, padding, dilation, transposed, output_padding, groups):
    n = input.dim() - 2
    if not transposed: return getattr(torch, f"conv{n}d")(input, weight, bias, stride, padding, dilation, groups)
    return getattr(torch, f"conv_transpose{n}d")(input, weight, bias, stride, padding, output_padding, groups, dilation)


def embedding_bag(weight, indices, offsets, scale_grad_by_freq=False, mode=0, sparse=False, per_sample_weights=None, include_last_offset=False, padding_idx=None):
    """(bags, the bag of each index, sizes of bags, where maxima come from); sums need the first only."""
    out = F.embedding_bag(indices, weight, offsets, scale_grad_by_freq=scale_grad_by_freq, mode=BAGS[mode], sparse=sparse, per_sample_weights=per_sample_weights,
                          include_last_offset=include_last_offset, padding_idx=padding_idx)
    count, zero = out.size(0), torch.zeros(out.size(0), dtype=indices.dtype)
    if mode == 0: return out, torch.empty(0, dtype=indices.dtype), zero, zero.clone()
    starts = offsets[:-1] if include_last_offset else offsets
    bag = torch.searchsorted(starts.contiguous(), torch.arange(indices.numel(), dtype=starts.dtype), right=True) - 1
    size = zero.index_add(0, bag, torch.ones_like(bag, dtype=zero.dtype))
    if mode == 1: return out, bag, size, size.clone()
    rows = torch.embedding(weight, indices).detach()
    places = torch.where(rows == out.detach()[bag], torch.arange(len(bag)).unsqueeze(1), len(bag))
    first = torch.full(out.shape, len(bag)).scatter_reduce(0, bag.unsqueeze(1).expand(rows.shape), places, "amin")
    from_ = torch.cat((indices, zero.new_zeros(1)))[first].reshape(count, -1)
    return out, bag, size, from_


def embedding_renorm_(input, indices, max_norm, norm_type):
    _renorm_(input, indices, max_norm, norm_type)
    return input


# ---- recurrent networks, as nn.RNN and nn.RNNCell call them
def _sequence(mode):
    many = mode == "LSTM"

    def run(input, hx, params, has_biases, num_layers, dropout, train, bidirectional, batch_first=False):
        """(input, hx, params, …, batch_first), or packed: (data, batch_sizes, hx, params, …)."""
        sizes = None
        if isinstance(params, torch.Tensor) or isinstance(has_biases, (tuple, list)):
            sizes, hx, params, has_biases, num_layers, dropout, train, bidirectional = hx.tolist(), params, has_biases, num_layers, dropout, train, bidirectional, batch_first
        per = (4 if has_biases else 2) + (len(params) % ((4 if has_biases else 2) * num_layers * (2 if bidirectional else 1)) > 0)
        weights = [list(params[k:k + per]) for k in range(0, len(params), per)]
        x = input.transpose(0, 1) if sizes is None and batch_first else input
        out, states = recurrent(mode, x, tuple(hx) if many else (hx,), weights, has_biases, num_layers, dropout, train, bidirectional, sizes)
        return (out.transpose(0, 1) if sizes is None and batch_first else out), *states
    run.__name__ = run.__qualname__ = mode.lower()
    return run


def _cell(mode):
    def run(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
        state = CELLS[mode](F.linear(input, w_ih, b_ih), tuple(hx) if mode == "LSTM" else (hx,), w_hh, b_hh)
        return state if mode == "LSTM" else state[0]
    run.__name__ = run.__qualname__ = mode.lower() + "_cell"
    return run


gru, lstm, rnn_tanh, rnn_relu = map(_sequence, ("GRU", "LSTM", "RNN_TANH", "RNN_RELU"))
gru_cell, lstm_cell, rnn_tanh_cell, rnn_relu_cell = map(_cell, ("GRU", "LSTM", "RNN_TANH", "RNN_RELU"))

__all__ = [name for name, f in list(globals().items()) if callable(f) and name[0] != "_" and f is not recurrent]
