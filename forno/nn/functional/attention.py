"""Attention: the scaled dot product, and the multi-head layer around it with explicit weights (Vaswani et al., 2017)."""
from __future__ import annotations

import math

from ...core.errors import warn
from ...framework import api as torch
from ...framework.attention import attention
from .dropout import dropout
from .linear import linear
from .shape import pad


def scaled_dot_product_attention(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False):
    """softmax(scale · Q Kᵀ + mask) V: query (*, H, L, E), key (*, H, S, E), value (*, H, S, Ev) -> (*, H, L, Ev).

    A boolean mask is True where attention is allowed; a row that is masked entirely gives zeros. is_causal lets position i see keys 0..i.
    enable_gqa: key and value may have fewer heads, each shared by H / H_kv queries.
    """
    for name, x in (("query", query), ("key", key), ("value", value)):
        if x.dim() < 2:
            raise RuntimeError(f"scaled_dot_product_attention: Expected query, key, and value to all be at least 2 dimensional, but got {name} with "
                               f"{x.dim()}")
    if not query.dtype == key.dtype == value.dtype:
        raise RuntimeError("Expected query, key, and value to have the same dtype, but got "
                           f"query.dtype: {query.dtype} key.dtype: {key.dtype} and value.dtype: {value.dtype} instead.")
    if attn_mask is not None and is_causal:
        raise RuntimeError("_scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    if enable_gqa and query.size(-3) != key.size(-3):
        if query.size(-3) % key.size(-3) or key.size(-3) != value.size(-3):
            raise RuntimeError(f"Number of heads in key and value must divide the number of heads in query, got {query.size(-3)}, {key.size(-3)} and "
                               f"{value.size(-3)}")
        if dropout_p > 0.0 or not query.dim() == key.dim() == value.dim() or not query.shape[:-3] == key.shape[:-3] == value.shape[:-3]:
            key, value = (x.repeat_interleave(query.size(-3) // x.size(-3), -3) for x in (key, value))
    dtype, scale = query.dtype, (1.0 / math.sqrt(query.size(-1)) if query.size(-1) else 1.0) if scale is None else scale
    if dropout_p == 0.0 and dtype.is_floating_point:
        return attention(*_same_batch(query, key, value, attn_mask), attn_mask, is_causal, scale)
    if dtype in (torch.bfloat16, torch.float16):                             # one rounding at the end, as in a fused kernel
        query, key, value = query.float(), key.float(), value.float()
    scores = torch.matmul(query * scale, key.transpose(-2, -1))                                        # (*, H, L, S)
    if is_causal:
        seen = torch.arange(key.size(-2), device=query.device) <= torch.arange(query.size(-2), device=query.device).unsqueeze(1)
        scores = torch.where(seen, scores, float("-inf"))
    elif attn_mask is not None:
        scores = torch.where(attn_mask, scores, float("-inf")) if attn_mask.dtype == torch.bool else scores + attn_mask
    weights = scores.softmax(-1)
    if attn_mask is not None:
        weights = torch.where((scores == float("-inf")).all(-1, keepdim=True), 0.0, weights)
    return torch.matmul(dropout(weights, dropout_p) if dropout_p > 0.0 else weights, value).to(dtype)


def _same_batch(query, key, value, attn_mask):
    """The three with equal axes in front of the last two; shared heads stay shared."""
    batches = [x.shape[:-2] for x in (query, key, value)] + ([] if attn_mask is None else [attn_mask.shape[:-2]])
    if query.dim() > 2 and query.shape[:-3] == key.shape[:-3] == value.shape[:-3] and key.size(-3) == value.size(-3) != query.size(-3): batches[1:3] = []
    batch = torch.broadcast_shapes(*batches)
    if len(batches) > 2: key, value = (x if x.shape[:-2] == batch else x.expand(*batch, *x.shape[-2:]) for x in (key, value))
    elif batch[:-1] != key.shape[:-3]: key, value = (x.expand(*batch[:-1], *x.shape[-3:]) for x in (key, value))
    return query if query.shape[:-2] == batch else query.expand(*batch, *query.shape[-2:]), key, value


# ---- the multi-head layer ---------------------------------------------------------------------------------------------------------------

def _check(condition, message):
    if not condition:
        raise AssertionError(message)


def _check_shapes(query, key, value, key_padding_mask, attn_mask, num_heads):
    """Whether the call is batched (L, N, E), or not (L, E)."""
    d = query.dim()
    _check(d in (2, 3), f"query should be unbatched 2D or batched 3D tensor but received {d}-D query tensor")
    kind = "batched (3-D)" if d == 3 else "unbatched (2-D)"
    _check(key.dim() == d and value.dim() == d,
           f"For {kind} `query`, expected `key` and `value` to be {d}-D but found {key.dim()}-D and {value.dim()}-D tensors respectively")
    if key_padding_mask is not None:
        _check(key_padding_mask.dim() == d - 1,
               f"For {kind} `query`, expected `key_padding_mask` to be `None` or {d - 1}-D but found {key_padding_mask.dim()}-D tensor instead")
    if attn_mask is not None:
        _check(attn_mask.dim() in (2, 3), f"For {kind} `query`, expected `attn_mask` to be `None`, 2-D or 3-D but found {attn_mask.dim()}-D tensor "
                                          f"instead")
        if d == 2 and attn_mask.dim() == 3:
            expected = (num_heads, query.shape[0], key.shape[0])
            _check(tuple(attn_mask.shape) == expected, f"Expected `attn_mask` shape to be {expected} but got {attn_mask.shape}")
    return d == 3


def _canonical_mask(mask, mask_name, other_type, other_name, target_type, check_other=True):
    """A mask as numbers to add: -inf where a boolean mask is True."""
    if mask is None:
        return None
    is_float = mask.is_floating_point()
    _check(is_float or mask.dtype == torch.bool, f"only bool and floating types of {mask_name} are supported")
    if check_other and other_type is not None and mask.dtype != other_type:
        warn(f"Support for mismatched {mask_name} and {other_name} is deprecated. Use same type for both instead.")
    return mask if is_float else torch.zeros_like(mask, dtype=target_type).masked_fill_(mask, float("-inf"))


def _none_or_dtype(input): return None if input is None else input.dtype


def _rows(x, weight, bias):
    """linear(x), its rows taken in the order in which they lie: batch_first inputs come transposed."""
    turned = not x.is_contiguous() and x.transpose(0, 1).is_contiguous()
    return linear(x.transpose(0, 1), weight, bias).transpose(0, 1) if turned else linear(x, weight, bias)


def _projected(query, key, value, weight, bias):
    """q, k, v from one stacked weight (3 E, E); one product where the inputs are the same tensor."""
    e = query.size(-1)
    if query is key and key is value:
        return _rows(query, weight, bias).chunk(3, -1)
    if key is value:
        k, v = _rows(key, weight[e:], None if bias is None else bias[e:]).chunk(2, -1)
        return _rows(query, weight[:e], None if bias is None else bias[:e]), k, v
    biases = (None,) * 3 if bias is None else bias.chunk(3)
    return tuple(_rows(x, w, b) for x, w, b in zip((query, key, value), weight.chunk(3), biases))


def _check_separate(query, key, value, weights, biases):
    e = query.size(-1)
    for name, x, w, b in zip(("query", "key", "value"), (query, key, value), weights, biases):
        _check(w is not None, f"use_separate_proj_weight is True but {name[0]}_proj_weight is None")
        _check(tuple(w.shape) == (e, x.size(-1)), f"expecting {name} weights shape of {(e, x.size(-1))}, but got {w.shape}")
        _check(b is None or tuple(b.shape) == (e,), f"expecting {name} bias shape of {(e,)}, but got {None if b is None else b.shape}")


def _checked_attn_mask(attn_mask, heads, tgt_len, src_len):
    if attn_mask is None:
        return None
    expected = {2: (tgt_len, src_len), 3: (heads, tgt_len, src_len)}.get(attn_mask.dim())
    if expected is None:
        raise RuntimeError(f"attn_mask's dimension {attn_mask.dim()} is not supported")
    if tuple(attn_mask.shape) != expected:
        raise RuntimeError(f"The shape of the {attn_mask.dim()}D attn_mask is {attn_mask.shape}, but should be {expected}.")
    return attn_mask.unsqueeze(0) if attn_mask.dim() == 2 else attn_mask


def _heads(x, static, name, count, head_dim):
    """(S, N, E) -> (N heads, S, head_dim), or the given static tensor of that shape."""
    if static is None:
        return x.reshape(x.shape[0], count, head_dim).transpose(0, 1)
    _check(static.size(0) == count, f"expecting {name}.size(0) of {count}, but got {static.size(0)}")
    _check(static.size(2) == head_dim, f"expecting {name}.size(2) of {head_dim}, but got {static.size(2)}")
    return static


def multi_head_attention_forward(query, key, value, embed_dim_to_check, num_heads, in_proj_weight, in_proj_bias, bias_k, bias_v, add_zero_attn,
                                 dropout_p,
                                 out_proj_weight, out_proj_bias, training=True, key_padding_mask=None, need_weights=True, attn_mask=None,
                                 use_separate_proj_weight=False, q_proj_weight=None, k_proj_weight=None, v_proj_weight=None, static_k=None,
                                 static_v=None,
                                 average_attn_weights=True, is_causal=False):
    """query (L, N, E), key (S, N, Ek), value (S, N, Ev), or without N -> (output (L, N, E), weights (N, [heads,] L, S) or None)."""
    batched = _check_shapes(query, key, value, key_padding_mask, attn_mask, num_heads)
    if not batched:                                                          # one tensor stays one tensor, for the joint projection
        same_kv, same_qk = key is value, query is key
        query = query.unsqueeze(1)
        key = query if same_qk else key.unsqueeze(1)
        value = key if same_kv else value.unsqueeze(1)
        key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
    (tgt_len, bsz, embed_dim), src_len = query.shape, key.shape[0]
    key_padding_mask = _canonical_mask(key_padding_mask, "key_padding_mask", _none_or_dtype(attn_mask), "attn_mask", query.dtype)
    if is_causal and attn_mask is None:
        raise RuntimeError("Need attn_mask if specifying the is_causal hint. You may use the Transformer module method "
                           "`generate_square_subsequent_mask` to create this mask.")
    if is_causal and key_padding_mask is None and not need_weights:
        attn_mask = None                                                     # the causal path makes its own
    else:
        attn_mask = _canonical_mask(attn_mask, "attn_mask", None, "", query.dtype, check_other=False)
        is_causal = is_causal and key_padding_mask is None
    _check(embed_dim == embed_dim_to_check, f"was expecting embedding dimension of {embed_dim_to_check}, but got {embed_dim}")
    head_dim, heads = embed_dim // num_heads, bsz * num_heads
    _check(head_dim * num_heads == embed_dim, f"embed_dim {embed_dim} not divisible by num_heads {num_heads}")

    if use_separate_proj_weight:
        _check(key.shape[:2] == value.shape[:2], f"key's sequence and batch dims {key.shape[:2]} do not match value's {value.shape[:2]}")
        weights = (q_proj_weight, k_proj_weight, v_proj_weight)
        biases = (None,) * 3 if in_proj_bias is None else in_proj_bias.chunk(3)
        _check_separate(query, key, value, weights, biases)
        q, k, v = (_rows(x, w, b) for x, w, b in zip((query, key, value), weights, biases))
    else:
        _check(key.shape == value.shape, f"key shape {key.shape} does not match value shape {value.shape}")
        _check(in_proj_weight is not None, "use_separate_proj_weight is False but in_proj_weight is None")
        q, k, v = _projected(query, key, value, in_proj_weight, in_proj_bias)
    attn_mask = _checked_attn_mask(attn_mask, heads, tgt_len, src_len)

    extra = 0                                                                # keys beyond the given ones: the masks grow by as many zeros
    _check((bias_k is None) == (bias_v is None), "bias_k is set but bias_v is None" if bias_v is None else "bias_v is set but bias_k is None")
    if bias_k is not None:
        _check(static_k is None, "bias cannot be added to static key.")
        _check(static_v is None, "bias cannot be added to static value.")
        k, v, extra = torch.cat([k, bias_k.repeat(1, bsz, 1)]), torch.cat([v, bias_v.repeat(1, bsz, 1)]), 1
    q = q.reshape(tgt_len, heads, head_dim).transpose(0, 1)                  # (N heads, L, hd)
    k, v = _heads(k, static_k, "static_k", heads, head_dim), _heads(v, static_v, "static_v", heads, head_dim)
    if add_zero_attn:
        k, v = (torch.cat([x, torch.zeros(heads, 1, head_dim, dtype=x.dtype, device=x.device)], 1) for x in (k, v))
        extra += 1
    src_len = k.size(1)
    if extra:
        attn_mask, key_padding_mask = (None if m is None else pad(m, (0, extra)) for m in (attn_mask, key_padding_mask))
    if key_padding_mask is not None:
        for i, size in enumerate((bsz, src_len)):
            _check(key_padding_mask.shape[i] == size, f"Expected key_padded_mask.shape[{i}] to be {size}, but got {key_padding_mask.shape[i]}")
        by_head = key_padding_mask.reshape(bsz, 1, 1, src_len).expand(-1, num_heads, -1, -1).reshape(heads, 1, src_len)
        attn_mask = by_head if attn_mask is None else attn_mask + by_head
    return _attended(q, k, v, attn_mask, dropout_p if training else 0.0, is_causal, out_proj_weight, out_proj_bias, need_weights,
                     average_attn_weights,
                     batched, bsz, num_heads)


def _attended(q, k, v, attn_mask, dropout_p, is_causal, out_weight, out_bias, need_weights, average, batched, bsz, num_heads):
    """The product itself, with weights when they are asked for, and the projection of its result."""
    tgt_len, head_dim = q.shape[1:]
    src_len, weights = k.size(1), None
    if need_weights:
        _check(not (is_causal and attn_mask is None), "is_causal needs attn_mask when weights are returned")
        scaled = q * math.sqrt(1.0 / head_dim)
        scores = torch.bmm(scaled, k.transpose(-2, -1))                      # (N heads, L, S)
        weights = (scores if attn_mask is None else scores + attn_mask).softmax(-1)
        weights = dropout(weights, dropout_p) if dropout_p > 0.0 else weights
        out = torch.bmm(weights, v).transpose(0, 1)                          # (L, N heads, hd)
        weights = weights.reshape(bsz, num_heads, tgt_len, src_len)
        weights = weights.mean(1) if average else weights
    else:
        if attn_mask is not None:
            attn_mask = attn_mask.unsqueeze(0) if attn_mask.size(0) == 1 else attn_mask.reshape(bsz, num_heads, -1, src_len)
        q, k, v = (x.reshape(bsz, num_heads, -1, head_dim) for x in (q, k, v))
        out = scaled_dot_product_attention(q, k, v, attn_mask, dropout_p, is_causal).permute(2, 0, 1, 3)      # (L, N, heads, hd)
    out = linear(out.reshape(tgt_len * bsz, num_heads * head_dim), out_weight, out_bias).reshape(tgt_len, bsz, out_weight.size(0))
    if batched:
        return out, weights
    return out.squeeze(1), None if weights is None else weights.squeeze(0)
