"""Optimizers that read a gradient as a matrix: Adafactor keeps sums of its rows and columns, Muon makes its steps orthogonal."""
from __future__ import annotations

import math

from ..framework import api as torch
from .optimizer import Rule, number


class Adafactor(Rule):
    """RMSprop whose second moments, for matrices, are a row times a column (Shazeer and Stern); steps are as large as the weights ask, and clipped."""
    _older = {"foreach": None}

    def __init__(self, params, lr=1e-2, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, weight_decay=0.0, *, foreach=None, maximize=False):
        check_rate(lr)
        if not beta2_decay <= 0.0: raise ValueError(f"beta2_decay should be <= 0 but is: {beta2_decay}")
        if eps[0] is not None and not eps[0] >= 0.0: raise ValueError(f"epsilon1 should be >= 0 but is: {eps[0]}")
        if not eps[1] >= 0.0: raise ValueError(f"epsilon2 should be >= 0 but is: {eps[1]}")
        if not d >= 1.0: raise ValueError(f"Clipping threshold d should be >= 1 but is: {d}")
        if not weight_decay >= 0.0: raise ValueError(f"weight_decay should be >= 0 but is: {weight_decay}")
        super().__init__(params, dict(lr=lr, beta2_decay=beta2_decay, eps=eps, d=d, weight_decay=weight_decay, foreach=foreach, maximize=maximize))

    def _begin(self, p, group, state):
        grad = p.grad
        state["step"] = self._begin_number(p, None, {})
        if grad.dim() > 1:
            state["row_var"] = grad.new_zeros((*grad.shape[:-1], 1))
            state["col_var"] = grad.new_zeros((*grad.shape[:-2], 1, grad.shape[-1]))
        else: state["variance"] = torch.zeros_like(grad)

    def _update(self, group):
        lr, (floor, least), weight_decay = number(group["lr"]), group["eps"], group["weight_decay"]
        for p, grad, state in self._each(group):
            check_real("Adafactor", p)
            tiny = torch.finfo(p.dtype).eps if floor is None else floor
            step = self._tick(p, state)
            keep, rate = step ** group["beta2_decay"], min(lr, 1 / step ** 0.5)
            size = p.norm(2) / p.numel() ** 0.5
            if weight_decay: p.mul_(1 - lr * weight_decay)
            if grad.dim() > 1:
                rows, columns = state["row_var"], state["col_var"]                                      # (…, m, 1), (…, 1, n)
                rows.lerp_(torch.norm(grad, dim=-1, keepdim=True).square_().div_(grad.size(-1)), keep)
                columns.lerp_(torch.norm(grad, dim=-2, keepdim=True).square_().div_(grad.size(-2)), keep)
                spread = (rows @ columns).div_(rows.mean(-2, keepdim=True).clamp_(min=tiny))
            else: spread = state["variance"].lerp_(grad * grad, keep).clone()
            move = spread.clamp_(min=tiny * tiny).rsqrt_().mul_(grad)
            excess = (move.norm(2) / (move.numel() ** 0.5 * group["d"])).clamp(min=1.0)
            p.sub_(move * (size.clamp(min=least) * rate / excess))


class Muon(Rule):
    """SGD with momentum whose step, a matrix, is replaced by the orthogonal matrix nearest to it, by a few Newton-Schulz iterations in bfloat16 (Jordan)."""

    def __init__(self, params, lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True, ns_coefficients=(3.4445, -4.7750, 2.0315), eps=1e-7, ns_steps=5,
                 adjust_lr_fn=None):
        check_rate(lr)
        if not momentum >= 0.0: raise ValueError(f"momentum should be >= 0 but is: {momentum}")
        if not weight_decay >= 0.0: raise ValueError(f"weight decay should be >= 0 but is: {weight_decay}")
        if adjust_lr_fn not in (None, "original", "match_rms_adamw"): raise ValueError(f"Adjust learning rate function {adjust_lr_fn} is not supported")
        super().__init__(params, dict(lr=lr, weight_decay=weight_decay, momentum=momentum, nesterov=nesterov, ns_coefficients=ns_coefficients, eps=eps,
                                      ns_steps=ns_steps, adjust_lr_fn=adjust_lr_fn))
        for group in self.param_groups:
            for p in group["params"]:
                if p.ndim != 2: raise ValueError(f"Muon only supports 2D parameters whereas we found a parameter with size: {p.size()}")

    def _update(self, group):
        lr, momentum = number(group["lr"]), group["momentum"]
        for p in group["params"]:
            grad = p.grad
            if grad is None: continue
            check_real("Muon", p)
            if grad.ndim != 2: raise ValueError("Param gradient must be a 2D matrix")
            state = self.state[p]
            if "momentum_buffer" not in state: state["momentum_buffer"] = torch.zeros_like(grad)
            velocity = state["momentum_buffer"].lerp_(grad, 1 - momentum)
            move = grad.lerp(velocity, momentum) if group["nesterov"] else velocity
            m, n = p.shape
            stretch = 0.2 * math.sqrt(max(m, n)) if group["adjust_lr_fn"] == "match_rms_adamw" else math.sqrt(max(1, m / n))
            p.mul_(1 - lr * group["weight_decay"])
            p.add_(orthogonal(move, group["ns_coefficients"], group["ns_steps"], group["eps"]), alpha=-lr * stretch)


def orthogonal(x, coefficients, steps, eps):
    """U Vᴴ of a matrix U S Vᴴ, roughly: an odd polynomial, applied again and again, takes every singular value near to 1. (m, n) -> (m, n)"""
    if steps >= 100: raise ValueError("Number of steps must be less than 100 for computational efficiency")
    if len(coefficients) != 3: raise ValueError("Coefficients must be a tuple of exactly 3 values")
    a, b, c = coefficients
    tall = x.size(0) > x.size(1)
    out = x.bfloat16().T if tall else x.bfloat16()
    out = out / out.norm().clamp(min=eps)                                # no singular value is above 1
    for _ in range(steps):
        gram = out @ out.T
        out = torch.addmm(out, torch.addmm(gram, gram, gram, beta=b, alpha=c), out, beta=a)
    return out.T if tall else out


def check_rate(lr):
    if isinstance(lr, torch.Tensor) and lr.numel() != 1: raise ValueError("Tensor lr must be 1-element")
    if not lr >= 0.0: raise ValueError(f"Learning rate should be >= 0 but is: {lr}")


def check_real(name, p):
    if p.is_complex(): raise RuntimeError(f"{name} does not support complex parameters")
    if p.grad.is_sparse: raise RuntimeError(f"{name} does not support sparse gradients")
