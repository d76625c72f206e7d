"""Embedding with a sparse gradient: the rows that were looked up, instead of a dense table of mostly zeros.

Comes in: a table and indices. Goes out: rows, and for the backward a SparseTensor with one element per index, as it came (PyTorch's are uncoalesced, too).
"""
from __future__ import annotations

from ..core import dtype as dt
from ..dnn import gather as ga
from . import functions as fn, gathering, views
from .bind import apply
from .custom import Function, once_differentiable
from .patterns import Pattern, rows
from .size import sparse_coo
from .sparse import made
from .views import shape_of


class Lookup(Function):
    @staticmethod
    def forward(ctx, weight, indices, padding):
        ctx.at, ctx.padding, ctx.size = indices, padding, shape_of(weight)[0]
        return apply(ga.embedding, weight, indices, attr=(padding, False))

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        at, values = fn.to(views.reshape(ctx.at, (-1,)), dt.int64), views.reshape(g, (-1, shape_of(g)[-1]))
        if ctx.padding is not None:
            kept = gathering.nonzero(at != ctx.padding, as_tuple=True)[0]
            at, values = rows(at, kept), rows(values, kept)
        return made(Pattern(sparse_coo, (ctx.size,), (views.unsqueeze(at, 0),)), values), None, None


def lookup(weight, indices, padding, by_frequency):
    if by_frequency: raise RuntimeError("embedding_backward: scale_grad_by_freq not supported with sparse gradients")
    return Lookup.apply(weight, indices, padding)
