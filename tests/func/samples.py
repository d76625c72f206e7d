"""PyTorch's own samples (OpInfo) under function transforms: vmap against a loop, forward mode against finite differences of nothing but PyTorch's own gradients."""
from __future__ import annotations

import warnings

import numpy as np
import torch

import forno
from forno import func

from ..conformance import walk


def picked(op, dtype, limit):
    samples = list(op.sample_inputs("cpu", dtype, requires_grad=False))
    if limit and len(samples) > limit: samples = [samples[i * (len(samples) - 1) // (limit - 1)] for i in range(limit)]
    return samples


def arguments(s):
    """(tensors of a sample, how to call a function on others in their place)."""
    every = walk.flat([s.input, *s.args, *s.kwargs.values()], torch.Tensor)

    def call(f, tensors, source):
        it = iter(tensors)
        def put(x):
            if isinstance(x, torch.Tensor): return next(it)
            if type(x) in (list, tuple): return type(x)(map(put, x))
            return walk.given(x) if source is forno else x
        head, args = put(s.input), [put(a) for a in s.args]
        return f(head, *args, **{k: put(v) for k, v in s.kwargs.items()})
    return every, call


def twins(t: torch.Tensor, n: int) -> torch.Tensor:
    """n examples like t: rolled copies, so that values stay in the operation's domain and differ."""
    flat = t.reshape(-1)
    return torch.stack([flat.roll(k).reshape(t.shape) for k in range(n)]) if t.dtype.is_floating_point and t.dim() < 2 else torch.stack([t.clone() for _ in range(n)])


def outputs(x, kind): return walk.flat(x, kind)


def mapped(name, limit=3, dtype=torch.float32):
    """vmap over each tensor of a sample alone, and over all together, equals the loop."""
    op = walk.INFOS[name]
    f = walk.twin(op.op, op.name)
    if dtype not in op.supported_dtypes("cpu"): dtype = torch.int64 if torch.int64 in op.supported_dtypes("cpu") else torch.complex64
    for s in picked(op, dtype, limit):
        tensors, call = arguments(s)
        if not tensors: continue
        for which in [tuple(range(len(tensors))), *([(k,) for k in range(len(tensors))] if len(tensors) > 1 else [])]:
            stacks = [twins(t, 2) if k in which else t for k, t in enumerate(tensors)]
            want = [outputs(call(op.op, [x[b] if k in which else x for k, x in enumerate(stacks)], torch), torch.Tensor) for b in range(2)]
            if len({tuple(t.shape for t in w) for w in want}) > 1: continue
            ours = [walk.given(x) for x in stacks]

            def one(*xs):
                it = iter(xs)
                return tuple(outputs(call(f, [next(it) if k in which else ours[k] for k in range(len(ours))], forno), forno.Tensor))
            got = func.vmap(one)(*(ours[k] for k in which))
            assert len(got) == len(want[0])
            for j, g in enumerate(got):
                for b in range(2): walk.same(want[b][j], g[b], name, 5.0)


def pushed(name, limit=3):
    """jvp equals v · (J t) of PyTorch, by its gradients: J^T v · t."""
    op = walk.INFOS[name]
    f = walk.twin(op.op, op.name)
    for i, s in enumerate(picked(op, torch.float64, limit)):
        tensors, call = arguments(s)
        which = [k for k, t in enumerate(tensors) if t.dtype.is_floating_point]
        if not which: continue
        draw = torch.Generator().manual_seed(i)
        xs = [t.detach().clone().requires_grad_() if k in which else t for k, t in enumerate(tensors)]
        ts = [torch.randn(tensors[k].shape, generator=draw, dtype=torch.float64) for k in which]
        outs = outputs(call(op.op, [x.clone() if k in which else x for k, x in enumerate(xs)], torch), torch.Tensor)
        vs = [torch.randn(o.shape, generator=draw, dtype=torch.float64) for o in outs]
        ends = [(o, v) for o, v in zip(outs, vs) if o.requires_grad]
        if not ends: continue
        grads = torch.autograd.grad([o for o, _ in ends], [xs[k] for k in which], [v for _, v in ends], allow_unused=True)
        want = sum(float((g * t).sum()) for g, t in zip(grads, ts) if g is not None)
        ours = [walk.given(t) for t in tensors]

        def one(*given):
            it = iter(given)
            return tuple(outputs(call(f, [next(it) if k in which else ours[k] for k in range(len(ours))], forno), forno.Tensor))
        _, moved = func.jvp(one, tuple(ours[k] for k in which), tuple(walk.given(t) for t in ts))
        got = sum(float((m.numpy() * v.numpy()).sum()) for m, v, o in zip(moved, vs, outs) if o.requires_grad)
        scale = max([1.0, *(float(g.abs().max()) * 10 for g in grads if g is not None and g.numel())])
        if np.isfinite(want): assert abs(got - want) <= 1e-6 * scale * max(1, abs(want)), f"sample {i}: {got}, expected {want}"


def quiet(check, *args):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return check(*args)
