"""Rates per element from squared gradients: summed (Adagrad), averaged (RMSprop), averaged with averaged steps (Adadelta)."""
from __future__ import annotations

from ..framework import api as torch
from .optimizer import Rule, check_fused, check_lr, check_not_negative, number


class Adagrad(Rule):
    """p -= lr * g / (sqrt(sum of g²) + eps)"""
    _sparse_too = True
    _older = {"foreach": None, "maximize": False, "differentiable": False, "fused": None}

    def __init__(self, params, lr=1e-2, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10, foreach=None, *, maximize=False,
                 differentiable=False, fused=None):
        check_lr(lr)
        check_not_negative(lr_decay=lr_decay, weight_decay=weight_decay, initial_accumulator_value=initial_accumulator_value, epsilon=eps)
        check_fused(fused, foreach, differentiable)
        super().__init__(params, dict(lr=lr, lr_decay=lr_decay, eps=eps, weight_decay=weight_decay,
                                      initial_accumulator_value=initial_accumulator_value, foreach=foreach, maximize=maximize,
                                      differentiable=differentiable, fused=fused))
        for group in self.param_groups:
            for p in group["params"]: self._begin(p, group, self.state[p])

    def _begin(self, p, group, state):
        start = self.defaults["initial_accumulator_value"]
        state["step"] = self._begin_number(p, None, group)
        state["sum"] = torch.full_like(p, complex(start, start) if p.is_complex() else start)

    def share_memory(self):
        for state in self.state.values():
            state["step"].share_memory_()
            state["sum"].share_memory_()

    def _update(self, group):
        lr, lr_decay, eps, weight_decay = number(group["lr"]), group["lr_decay"], group["eps"], group["weight_decay"]
        for p, grad, state in self._each(group):
            step, total = self._tick(p, state), state["sum"]
            if grad.is_sparse:
                self._sparse(p, grad, total, lr / (1 + (step - 1) * lr_decay), eps, weight_decay)
                continue
            if weight_decay: grad = grad.add(p, alpha=weight_decay)
            if p.is_complex(): p, grad, total = self._reals(p, grad, total)
            total.addcmul_(grad, grad, value=1)
            p.addcdiv_(grad, total.sqrt().add_(eps), value=-(lr / (1 + (step - 1) * lr_decay)))

    def _sparse(self, p, grad, total, rate, eps, weight_decay):
        """A sparse gradient moves the elements it has."""
        if weight_decay: raise RuntimeError("weight_decay option is not compatible with sparse gradients")
        grad = grad.coalesce()
        at, values = tuple(grad._indices()), grad._values()
        if not values.numel(): return
        sums = total[at] + values * values
        total[at], p[at] = sums, p[at] - rate * values / (sums.sqrt() + eps)


class RMSprop(Rule):
    """p -= lr * g / (sqrt(mean of g²) + eps), optionally with the mean of g taken off (centered) and with momentum."""
    _older = {"momentum": 0, "centered": False, "foreach": None, "maximize": False, "differentiable": False, "capturable": False}

    def __init__(self, params, lr=1e-2, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False, capturable=False, foreach=None,
                 maximize=False, differentiable=False):
        check_lr(lr)
        check_not_negative(epsilon=eps, momentum=momentum, weight_decay=weight_decay, alpha=alpha)
        super().__init__(params, dict(lr=lr, momentum=momentum, alpha=alpha, eps=eps, centered=centered, weight_decay=weight_decay,
                                      capturable=capturable, foreach=foreach, maximize=maximize, differentiable=differentiable))

    def _begin(self, p, group, state):
        state["step"], state["square_avg"] = self._begin_number(p, None, group), torch.zeros_like(p)
        if group["momentum"] > 0: state["momentum_buffer"] = torch.zeros_like(p)
        if group["centered"]: state["grad_avg"] = torch.zeros_like(p)

    def _update(self, group):
        lr, alpha, eps, weight_decay = number(group["lr"]), group["alpha"], group["eps"], group["weight_decay"]
        momentum, centered = group["momentum"], group["centered"]
        for p, grad, state in self._each(group):
            square, mean, velocity = state["square_avg"], state.get("grad_avg"), state.get("momentum_buffer")
            state["step"].add_(1)
            if weight_decay: grad = grad.add(p, alpha=weight_decay)
            if p.is_complex(): p, grad, square, mean, velocity = self._reals(p, grad, square, mean, velocity)
            square.mul_(alpha).addcmul_(grad, grad, value=1 - alpha)
            if centered:
                mean.lerp_(grad, 1 - alpha)
                spread = square.addcmul(mean, mean, value=-1).sqrt_().add_(eps)
            else: spread = square.sqrt().add_(eps)
            if momentum > 0:
                velocity.mul_(momentum).addcdiv_(grad, spread)
                p.add_(velocity, alpha=-lr)
            else: p.addcdiv_(grad, spread, value=-lr)


class Adadelta(Rule):
    """RMSprop whose rate is the running size of its own steps."""
    _older = {"foreach": None, "maximize": False, "differentiable": False, "capturable": False}

    def __init__(self, params, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0, foreach=None, *, capturable=False, maximize=False,
                 differentiable=False):
        check_lr(lr)
        if not 0.0 <= rho <= 1.0: raise ValueError(f"Invalid rho value: {rho}")
        check_not_negative(epsilon=eps, weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, rho=rho, eps=eps, weight_decay=weight_decay, maximize=maximize, capturable=capturable,
                                      foreach=foreach, differentiable=differentiable))

    def _begin(self, p, group, state):
        state["step"] = self._begin_number(p, None, group)
        state["square_avg"], state["acc_delta"] = torch.zeros_like(p), torch.zeros_like(p)

    def _update(self, group):
        lr, rho, eps, weight_decay = number(group["lr"]), group["rho"], group["eps"], group["weight_decay"]
        for p, grad, state in self._each(group):
            square, steps = state["square_avg"], state["acc_delta"]
            state["step"].add_(1)
            if weight_decay: grad = grad.add(p, alpha=weight_decay)
            if p.is_complex(): p, grad, square, steps = self._reals(p, grad, square, steps)
            square.mul_(rho).addcmul_(grad, grad, value=1 - rho)
            spread = square.add(eps).sqrt_()
            move = steps.add(eps).sqrt_().div_(spread).mul_(grad)
            steps.mul_(rho).addcmul_(move, move, value=1 - rho)
            p.add_(move, alpha=-lr)
