"""Scaled dot-product attention: softmax(scale · Q Kᵀ + mask) V without a matrix of scores in memory.

q (*batch, L, E), k (*batch, S, E), v (*batch, S, V), where k and v may have fewer heads (the last batch axis); mask broadcasts to (*batch, L, S)

attention       q, k, v[, mask][, lse] → (*batch, L, V). `lse` is what attention_lse gave: nothing but a value that backward need not compute again
attention_lse   q, k, v[, mask] → (*batch, L), per query the logarithm of its sum of exponentials; infinite where every key is masked
attention_q     g, o, lse, q, k, v[, mask] → the gradient for q of `attention` at gradient g and result o; attention_k and attention_v likewise

All are views of one of two routines, which equal values make one kernel: `attend` leaves (result, lse) one after the other, `attend_back` the three gradients.
Small problems and second derivatives are ordinary rows with a matrix of scores. A query whose keys are all masked gives zeros, as PyTorch has it.
"""
from __future__ import annotations

import math
import struct
from typing import NamedTuple

from ..core import dtype as dt
from ..core.kernels import Native, Operand
from ..core.op import Routine
from ..core.shape import contiguous, expand_strides
from .contract import sum_to
from .elementwise import TITLES, select
from .recipes import recipe, softmax, total, up

TRAINED_SCORES = 1 << 20                       # of all heads together: up to here keeping them is quicker than making them again in backward
HEADS = -3


class AttentionSpec(NamedTuple):
    """`mask`, `lse`: are these operands there?"""
    scale: float
    causal: bool = False
    mask: bool = False
    lse: bool = False


def mask_of(spec, more): return more[0] if spec.mask else None
def masked(mask): return () if mask is None else (mask,)
def group(q, k): return q.shape[HEADS] // max(k.shape[HEADS], 1) if len(q.shape) > 2 else 1


def fused(spec, q, k) -> bool:
    """One kernel, or ordinary rows? Those are quicker for few queries, which leave most lanes empty, and in training while the scores are few. A single query
    has a kernel of its own."""
    queries, keys = q.shape[-2], k.shape[-2]
    if queries == 1 and not spec.lse and not spec.causal: return True
    if queries < 8 or queries <= 16 and keys > 8 * queries: return False
    return not spec.lse or _rows(q) * keys > TRAINED_SCORES


def _infer(spec, q, k, v, *more):
    if q.dtype.category != dt.FLOAT or k.dtype is not q.dtype or v.dtype is not q.dtype:
        raise RuntimeError(f"expected scalar type {TITLES[q.dtype.name]} but found {TITLES[(v if k.dtype is q.dtype else k).dtype.name]}")
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise RuntimeError(f"query {list(q.shape)}, key {list(k.shape)} and value {list(v.shape)} don't fit together: query and key need equally long vectors, "
                           "key and value equally many")
    return q.dtype, (*q.shape[:-1], v.shape[-1])


def _lse_infer(spec, q, k, v, *more): return q.dtype.opmath, q.shape[:-1]


# ---- with a matrix of scores: queries that share a key head are more rows of it
def joined(x, k):
    """(…, H, L, n) as (…, heads of k, H / heads of k · L, n)"""
    n = group(x, k)
    return x if n == 1 else x.reshape((*k.shape[:-2], n * x.shape[-2], x.shape[-1]))


def apart(x, q): return x if x.shape[:-1] == q.shape[:-1] else x.reshape((*q.shape[:-1], x.shape[-1]))
def last(x): return (len(x.shape) - 1,)
def turned(x): return x.transpose(-1, -2)


def scores(spec, q, k, mask):
    s = (joined(up(q), k) * spec.scale).matmul(turned(up(k)))
    if not spec.causal and mask is None: return s
    s = apart(s, q)
    if spec.causal: s = select(q.ramp(k.shape[-2]) <= q.ramp(q.shape[-2]).reshape((q.shape[-2], 1)), s, -math.inf)
    if mask is not None: s = select(mask, s, -math.inf) if mask.dtype is dt.bool else s + mask.to(s.dtype)
    return joined(s, k)


def weights(spec, q, k, mask):
    s = scores(spec, q, k, mask)
    w = s.row(softmax, attr=len(s.shape) - 1)
    return w if mask is None or not s.shape[-1] else select(s.amax(last(s), True) == -math.inf, 0, w)


class Slopes(NamedTuple):
    """weights P = softmax(scores), D = G Vᵀ, the scores' gradient S = P ∘ (D - rowsum(P ∘ D)); queries and G joined.

    rowsum(P ∘ D) is rowsum(G ∘ O). In half types and four axes PyTorch's kernel takes it from the result O as it was rounded, which shows.
    """
    q: object
    k: object
    v: object
    g: object
    p: object
    lead: object                               # D - rowsum(P ∘ D)
    d: object

    @property
    def s(self): return self.p * self.lead


def slopes(spec, g, o, q, k, v, mask) -> Slopes:
    p, g, v = weights(spec, q, k, mask), joined(up(g), k), up(v)
    d = g.matmul(turned(v))
    mean = total(p * d, last(p)) if o is None else total(g * joined(up(o), k), last(g))
    return Slopes(joined(up(q), k), up(k), v, g, p, d - mean, d)


def _formula(which, spec, g, o, q, k, v, mask):
    rounded = q.dtype.opmath is not q.dtype and len(q.shape) == 4 and q.shape[-1] == v.shape[-1] and which != "mask"
    x = slopes(spec, g, o if rounded else None, q, k, v, mask)
    if which == "q": return apart(x.s.matmul(x.k) * spec.scale, q).to(q.dtype)
    if which == "k": return (turned(x.s).matmul(x.q) * spec.scale).to(k.dtype)
    if which == "v": return turned(x.p).matmul(x.g).to(v.dtype)
    return sum_to(apart(x.s, q), mask.shape).to(mask.dtype)


def _second(which, to, spec, u, g, q, k, v, mask):
    """The gradient for operand `to` of attention_<which> at gradient u, which runs through S (as W), P, and directly."""
    x, u = slopes(spec, g, None, q, k, v, mask), joined(up(u), k) if which == "q" else up(u)
    if which == "v":
        through_p, through_d = x.g.matmul(turned(u)), None
    else:
        w = (u.matmul(turned(x.k)) if which == "q" else x.q.matmul(turned(u))) * spec.scale
        mean = total(w * x.p, last(w))
        through_p, through_d = w * x.lead - x.d * mean, x.p * (w - mean)
    s = x.p * (through_p - total(x.p * through_p, last(x.p)))
    if to == "g": return apart(x.p.matmul(u) if which == "v" else through_d.matmul(x.v), q).to(g.dtype)
    if to == "v": return turned(through_d).matmul(x.g).to(v.dtype)
    if to == "q": return apart((s.matmul(x.k) + x.s.matmul(u) if which == "k" else s.matmul(x.k)) * spec.scale, q).to(q.dtype)
    if to == "k": return ((turned(s).matmul(x.q) + turned(x.s).matmul(u) if which == "q" else turned(s).matmul(x.q)) * spec.scale).to(k.dtype)
    return sum_to(apart(s, q), mask.shape).to(mask.dtype)


# ---- the routines
def _words(spec, names, values, views, saved):
    """What kernel/attention.py reads: sizes, then where each operand lies; heads are (heads of k, queries' heads for each)."""
    q, k, v = (values[x] for x in "qkv")
    batch, n = q.shape[:-2], group(q, k)
    heads = (*batch[:-1], batch[-1] // n, n) if batch else ()
    places, axes = [], []
    for name in names:
        x, w = values[name], views[name]
        rank = 1 if name == "l" else 2
        own, matrix = w.strides[:-rank], (*w.strides[-rank:], 0)[:2]
        if name == "m":
            strides = expand_strides(x.shape, w.strides, (*batch, q.shape[-2], k.shape[-2]))
            own, matrix = strides[:-2], strides[-2:]
        places += (w.offset, *matrix)
        axes.append(((*own[:-1], own[-1], 0) if name in "kv" else (*own[:-1], own[-1] * n, own[-1])) if batch else ())
    bits = struct.unpack("<q", struct.pack("<d", spec.scale))[0]
    head = (q.shape[-2], k.shape[-2], q.shape[-1], v.shape[-1], n, int(spec.causal), int(saved), bits, len(heads))
    return (*head, *places, *(x for line in zip(heads, *axes) for x in line))


def _native(which, positions, canonical, spec, result, ins, views) -> Native:
    names = [*positions, *(["m"] if spec.mask else [])]
    values, views = dict(zip(names, ins)), dict(zip(names, views))
    mask = values["m"].dtype if spec.mask else None
    words = _words(spec, [*canonical, *(["m"] if spec.mask else [])], values, views, spec.lse)
    operands = (*(Operand(x.dtype, "r") for x in ins), Operand(result.dtype, "w"))
    return Native("attention", (which, values["q"].dtype, mask), words, operands, sum(math.prod(x.shape) * x.dtype.size for x in (*ins, result)), f"attention {which}")


def _sizes(q, k, v): return math.prod(q.shape), math.prod(k.shape), math.prod(v.shape)
def _rows(q): return math.prod(q.shape[:-1])


attend = Routine("attend", lambda spec, q, k, v, *m: (q.dtype.opmath, (_rows(q) * (v.shape[-1] + spec.lse),)), strided=True,
                 plan=lambda spec, result, *ins, views: _native("forward", "qkv", "qkv", spec, result, ins, views))
attend_back = Routine("attend_back", lambda spec, g, o, lse, q, k, v, *m: (q.dtype.opmath, (sum(_sizes(q, k, v)),)), strided=True,
                      plan=lambda spec, result, *ins, views: _native("backward", "golqkv", "qkvgol", spec, result, ins, views))


def part(flat, shape, offset=0): return flat.viewed(shape, contiguous(shape), offset)


# ---- the rows
def _expand(spec, q, k, v, *more):
    mask = mask_of(spec, more)
    if not fused(spec, q, k): return apart(weights(spec, q, k, mask).matmul(up(v)), q).to(q.dtype)
    return part(q.row(attend, k, v, *masked(mask), attr=spec), (*q.shape[:-1], v.shape[-1])).to(q.dtype)


def _expand_lse(spec, q, k, v, *more):
    if fused(spec, q, k): return part(q.row(attend, k, v, *more, attr=spec), q.shape[:-1], _rows(q) * v.shape[-1])
    s = scores(spec, q, k, mask_of(spec, more))
    if not s.shape[-1]: return q.filled(q.shape[:-1], math.inf, s.dtype)
    top = s.amax(last(s), True)
    safe = select(top == -math.inf, 0, top)
    return select(top == -math.inf, math.inf, safe + total((s - safe).exp(), last(s)).log()).reshape(q.shape[:-1])


def _expand_back(which):
    def expand(spec, g, o, lse, q, k, v, *more):
        mask = mask_of(spec, more)
        if not fused(spec, q, k): return _formula(which, spec, g, o, q, k, v, mask)
        before, x = _sizes(q, k, v)[:"qkv".index(which)], dict(q=q, k=k, v=v)[which]
        return part(g.row(attend_back, o, lse, q, k, v, *masked(mask), attr=spec), x.shape, sum(before)).to(x.dtype)
    return expand


def _first(row):
    """A gradient rule of `attention`."""
    def rule(g, o, q, k, v, *more, attr):
        mask, spec = mask_of(attr, more), attr._replace(lse=True)
        lse = more[-1] if attr.lse else q.row(attention_lse, k, v, *masked(mask), attr=spec)
        return g.row(row, o, lse, q, k, v, *masked(mask), attr=spec)
    return rule


def _mask_rule(g, o, q, k, v, mask, *lse, attr): return _formula("mask", attr, g, o, q, k, v, mask)


def _back_row(which):
    def rule(to): return lambda u, _, g, o, lse, q, k, v, *more, attr: _second(which, to, attr, u, g, q, k, v, mask_of(attr, more))
    position = "qkv".index(which) + 3
    return recipe(f"attention_{which}", lambda spec, *operands: (operands[position].dtype, operands[position].shape), _expand_back(which),
                  rule("g"), None, None, rule("q"), rule("k"), rule("v") if which != "v" else None, rule("mask"))


attention_lse = recipe("attention_lse", _lse_infer, _expand_lse)
attention_q, attention_k, attention_v = map(_back_row, "qkv")
attention = recipe("attention", _infer, _expand, _first(attention_q), _first(attention_k), _first(attention_v), _mask_rule, saves="ao")
