"""Activation checkpointing: forward keeps the inputs only, backward runs the function again.

torch.utils.checkpoint's API. Both variants (use_reentrant True and False) are one here: the function is run again under the saved random
state, and gradients flow through the second run. https://docs.pytorch.org/docs/2.13/checkpoint.html
"""
from __future__ import annotations

import contextlib

from ..amp import autocast
from ..framework import api as torch
from ..framework.custom import Function
from ..framework.randoms import restore, states


def block(kind: str) -> autocast:
    """Autocast as it is now."""
    return autocast(kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))


class _Again(Function):
    @staticmethod
    def forward(ctx, run, preserve, contexts, *args):
        ctx.run, ctx.args, ctx.contexts = run, args, contexts
        ctx.state = states() if preserve else []
        ctx.again = [block("cpu")] + [block("cuda")] * torch.is_autocast_enabled("cuda")         # in the same types, wherever backward is called
        with contexts[0]: return run(*args)

    @staticmethod
    def backward(ctx, *grads):
        args = [a.detach().requires_grad_(a.requires_grad) if isinstance(a, torch.Tensor) else a for a in ctx.args]
        now = states() if ctx.state else []
        restore(ctx.state)
        try:
            with contextlib.ExitStack() as around:
                for block in (torch.enable_grad(), *ctx.again, ctx.contexts[1]): around.enter_context(block)
                out = ctx.run(*args)
        finally: restore(now)
        outs = out if isinstance(out, tuple) else (out,)
        pairs = [(o, g) for o, g in zip(outs, grads) if isinstance(o, torch.Tensor) and o.requires_grad and g is not None]
        torch.autograd.backward([o for o, _ in pairs], [g for _, g in pairs])
        return None, None, None, *(a.grad if isinstance(a, torch.Tensor) else None for a in args)


def checkpoint(function, *args, use_reentrant=None, context_fn=None, determinism_check="default", debug=False, early_stop=True, preserve_rng_state=True, **kwargs):
    """function(*args, **kwargs) without keeping what it computes inside for backward."""
    contexts = context_fn() if context_fn is not None else (contextlib.nullcontext(), contextlib.nullcontext())
    run = (lambda *a: function(*a, **kwargs)) if kwargs else function
    if not torch.is_grad_enabled(): return run(*args)
    anchor = () if any(isinstance(a, torch.Tensor) and a.requires_grad for a in args) else (torch.empty(0, requires_grad=True),)
    if anchor:                                 # parameters inside the function may need gradients though no argument does
        return _Again.apply(lambda *a: run(*a[:-1]), preserve_rng_state, contexts, *args, *anchor)
    return _Again.apply(run, preserve_rng_state, contexts, *args)


def checkpoint_sequential(functions, segments, input, use_reentrant=None, **kwargs):
    """A chain of modules in `segments` checkpointed parts; the last part is kept."""
    functions = list(functions.children()) if hasattr(functions, "children") else list(functions)
    size = len(functions) // segments

    def part(lo, hi):
        def run(x):
            for f in functions[lo:hi]: x = f(x)
            return x
        return run
    lo = 0
    for _ in range(segments - 1):
        input = checkpoint(part(lo, lo + size), input, use_reentrant=use_reentrant, **kwargs)
        lo += size
    return part(lo, len(functions))(input)
