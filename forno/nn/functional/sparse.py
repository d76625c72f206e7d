"""Look-ups by index: embedding, embedding_bag, one_hot."""
from __future__ import annotations


from ...core.errors import warn
from ...framework import api as torch


@torch.no_grad()
def _renorm_(weight, indices, max_norm, norm_type):
    """Scale the rows that are looked up down to norm max_norm, in place."""
    flat = indices.reshape(-1)
    rows = weight.detach()[flat]                                             # (n, d)
    norm = rows.norm(norm_type, 1, keepdim=True)
    weight.detach()[flat] = torch.where(norm > max_norm, rows * (max_norm / (norm + 1e-7)), rows)     # equal indices write equal rows


def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    """weight (V, d), input of indices (*) -> (*, d). Row padding_idx gets no gradient."""
    if padding_idx is not None:
        if not -weight.size(0) <= padding_idx < weight.size(0):
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= weight.size(0)
    if max_norm is not None:
        _renorm_(weight, input, max_norm, norm_type)
    return torch.embedding(weight, input, -1 if padding_idx is None else padding_idx, scale_grad_by_freq, sparse)


def _check_bag(input, weight, offsets, mode, scale_grad_by_freq, sparse, per_sample_weights):
    if per_sample_weights is not None and input.size() != per_sample_weights.size():
        raise ValueError(f"embedding_bag: If per_sample_weights ({per_sample_weights.shape}) is not None, then it must have the same shape as the "
                         f"input ({input.shape})")
    if weight.dim() != 2:
        raise ValueError(f"weight has to be a 2D Tensor, but got Tensor of dimension {weight.dim()}")
    if input.dim() == 2 and offsets is not None:
        raise ValueError("if input is 2D, then offsets has to be None, as input is treated is a mini-batch of fixed length sequences. However, found "
                         f"offsets of type {type(offsets)}")
    if input.dim() == 1 and offsets is None:
        raise ValueError("offsets has to be a 1D Tensor but got None")
    if input.dim() == 1 and offsets.dim() != 1:
        raise ValueError("offsets has to be a 1D Tensor")
    if input.dim() not in (1, 2):
        raise ValueError(f"input has to be 1D or 2D Tensor, but got Tensor of dimension {input.dim()}")
    if mode not in ("sum", "mean", "max"):
        raise ValueError("mode has to be one of sum, mean or max")
    if mode == "max" and scale_grad_by_freq:
        raise ValueError("max mode does not support scaling the gradient by the frequency")
    if mode == "max" and sparse:
        raise ValueError("max mode does not support sparse weights")
    if per_sample_weights is not None and mode != "sum":
        raise NotImplementedError("embedding_bag: per_sample_weights was not None. per_sample_weights is only supported for mode='sum' "
                                  f"(got mode='{mode}').")


def embedding_bag(input, weight, offsets=None, max_norm=None, norm_type=2, scale_grad_by_freq=False, mode="mean", sparse=False,
                  per_sample_weights=None, include_last_offset=False, padding_idx=None):
    """The sum, mean or maximum of embeddings per bag: input (B, L), or (n,) cut at `offsets` (B,) -> (B, d). An empty bag gives zeros."""
    if weight.dtype == torch.long and input.is_floating_point():
        warn("Argument order of nn.functional.embedding_bag was changed. Usage `embedding_bag(weight, input, ...)` is deprecated, and "
             "should "
             "now be `embedding_bag(input, weight, ...)`.")
        weight, input = input, weight
    _check_bag(input, weight, offsets, mode, scale_grad_by_freq, sparse, per_sample_weights)
    if max_norm is not None:
        _renorm_(weight, input, max_norm, norm_type)
    if input.dim() == 2:
        count, bag = input.size(0), torch.arange(input.size(0), device=input.device).unsqueeze(1).expand(input.shape).reshape(-1)
    else:
        if offsets.numel():
            torch._claimed(offsets[:1], 0, 0, RuntimeError, "offsets[0] has to be 0, i.e., the first sequence in the mini-batch has to start from position 0. However, got {x}")
            torch._claimed(offsets[-1:], 0, input.size(0), RuntimeError,
                           f"offsets[-1] can not be greater than input's length {input.size(0)} but got offsets[-1] of {{x}}")
        starts = offsets[:-1] if include_last_offset else offsets
        count = starts.size(0)
        first = torch.zeros(input.size(0) + 1, dtype=torch.long, device=input.device)
        first = first.index_add(0, starts.to(torch.long), torch.ones(count, dtype=torch.long, device=input.device))
        bag = first.cumsum(0)[:-1] - 1                                       # (n,): which bag each index falls into
    n = weight.size(0)
    flat = torch._claimed(input.reshape(-1), 0, n - 1, RuntimeError, "embedding_bag: Expected idx >= 0 && idx < num_embeddings but found idx to be {x}" if mode == "max"
                          else f"Index {{i}} of input takes value {{x}} which is not in the valid range [0, {n})")
    rows = torch.embedding(weight, flat, -1 if padding_idx is None else padding_idx % weight.size(0), scale_grad_by_freq, sparse)     # (n, d)
    if padding_idx is not None:
        keep = (flat != padding_idx % weight.size(0)).nonzero().squeeze(1)
        rows, bag = rows[keep], bag[keep]
        per_sample_weights = None if per_sample_weights is None else per_sample_weights.reshape(-1)[keep]
    if per_sample_weights is not None:
        rows = rows * per_sample_weights.reshape(-1, 1)
    empty = torch.zeros(count, weight.size(1), dtype=rows.dtype, device=rows.device)
    if mode == "max":
        return empty.scatter_reduce(0, bag.unsqueeze(1).expand(rows.shape), rows, "amax", include_self=False)
    total = empty.index_add(0, bag, rows)                                    # (B, d)
    if mode == "sum":
        return total
    members = torch.zeros(count, dtype=rows.dtype, device=rows.device).index_add(0, bag, torch.ones_like(bag, dtype=rows.dtype))
    return total / members.clamp_min(1).unsqueeze(1)


def one_hot(tensor, num_classes=-1):
    """Indices (*) -> int64 (*, num_classes) with a 1 at each index."""
    if tensor.dtype != torch.long:
        raise RuntimeError("one_hot is only applicable to index tensor of type LongTensor.")
    if tensor.numel() == 0:
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
    elif not tensor.is_meta or num_classes == -1:
        if tensor.min().item() < 0:
            raise RuntimeError("Class values must be non-negative.")
        largest = tensor.max().item()
        if num_classes != -1 and largest >= num_classes:
            raise RuntimeError("Class values must be smaller than num_classes.")
        num_classes = largest + 1 if num_classes == -1 else num_classes
    return (tensor.unsqueeze(-1) == torch.arange(num_classes, device=tensor.device)).to(torch.long)
