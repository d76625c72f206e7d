"""Second derivatives of PyTorch's samples: the gradient of a random combination of gradients, by PyTorch and by forno."""
from __future__ import annotations

import numpy as np
import torch

import forno

from . import walk

SMALL = 400                                    # elements of one sample; second derivatives of large ones say nothing new


def vectors(tensors, seed):
    """One fixed random tensor beside each."""
    g = torch.Generator().manual_seed(seed)
    return [torch.randn(t.shape, generator=g, dtype=getattr(torch, str(t.dtype).split(".")[1])) for t in tensors]


def derivatives(f, s, source, given):
    """(first, second) derivatives at a sample, in its leaves and in the cotangent; None where nothing depends."""
    out, leaves = walk.called(f, s, source)
    ends = [t for t in walk.flat(out, source.Tensor) if t.requires_grad]
    if not ends or not leaves: return [], []
    cotangents = [given(v).requires_grad_() for v in vectors(ends, 7)]
    first = source.autograd.grad(ends, leaves, cotangents, create_graph=True, allow_unused=True)
    linked = [g for g in first if g is not None and g.requires_grad]
    if not linked: return first, []
    return first, source.autograd.grad(linked, [*leaves, *cotangents], [given(v) for v in vectors(linked, 8)], allow_unused=True)


def certain(op, s) -> bool:
    """Is a sample's result the same for every seed?"""
    once = walk.flat(walk.called(op.op, s, torch)[0], torch.Tensor)
    torch.manual_seed(1)
    return all(np.array_equal(walk.array(a), walk.array(b), equal_nan=True) for a, b in zip(once, walk.flat(op.op(s.input, *s.args, **s.kwargs), torch.Tensor)))


def samples(op, dtype, limit):
    out = [s for s in op.sample_inputs("cpu", dtype, requires_grad=True) if sum(t.numel() for t in walk.flat([s.input, *s.args, *s.kwargs.values()], torch.Tensor)) <= SMALL]
    return walk.spread(out, limit)


def differentiable(op, dtype): return op.supports_autograd and op.supports_gradgrad and dtype in op.supported_backward_dtypes("cpu")


def checks(name, limit, dtype=torch.float64):
    """(number of the sample, thunk) of one entry."""
    op = walk.INFOS[name]
    f = walk.twin(op.op, op.name)
    for i, s in enumerate(samples(op, dtype, limit)):
        if certain(op, s): yield i, lambda s=s: compare(op, f, s, name)


def compare(op, f, s, name):
    first, second = derivatives(op.op, s, torch, lambda v: v.clone())
    mine, mine2 = derivatives(f, s, forno, walk.given)
    assert len(first) == len(mine), f"{len(mine)} gradients, expected {len(first)}"
    for order, want, got in (("first", first, mine), ("second", second, mine2)):
        for k, a in enumerate(want):
            b = got[k] if k < len(got) else None
            if a is None or b is None: assert (a is None or not a.any()) and (b is None or not walk.array(b).any()), f"{order} derivative {k}: {b}, expected {a}"
            else:
                try: walk.same(a, b, name, 50.0)
                except AssertionError as error: raise AssertionError(f"{order} derivative {k}: {error}") from None
