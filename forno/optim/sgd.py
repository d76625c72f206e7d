"""SGD and two relatives without second moments: averaged SGD and resilient propagation."""
from __future__ import annotations

from ..framework import api as torch
from .optimizer import Rule, check_fused, check_lr, check_not_negative, number, rounded


class SGD(Rule):
    """p -= lr * v, where v = momentum * v + (1 - dampening) * g (g itself without momentum)."""
    _older = {"nesterov": False, "maximize": False, "foreach": None, "differentiable": False, "fused": None}

    def __init__(self, params, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, *, maximize=False, foreach=None,
                 differentiable=False, fused=None):
        check_lr(lr)
        check_not_negative(momentum=momentum, weight_decay=weight_decay)
        if nesterov and (momentum <= 0 or dampening != 0): raise ValueError("Nesterov momentum requires a momentum and zero dampening")
        check_fused(fused, foreach, differentiable)
        super().__init__(params, dict(lr=lr, momentum=momentum, dampening=dampening, weight_decay=weight_decay, nesterov=nesterov,
                                      maximize=maximize, foreach=foreach, differentiable=differentiable, fused=fused))

    varying = "lr", "momentum"

    def rates(self, group, step): return -number(group["lr"]), float(group["momentum"])

    def _update(self, group):
        weight_decay, maximize, nesterov, keep = group["weight_decay"], group["maximize"], group["nesterov"], 1 - group["dampening"]
        lr, momentum = self._rated(group)
        for p in group["params"]:
            grad = p.grad
            if grad is None: continue
            if maximize: grad = -grad
            if weight_decay: grad = grad.add(p, alpha=weight_decay)
            if momentum:
                state = self.state[p]
                velocity = state.get("momentum_buffer")
                if velocity is None: velocity = state["momentum_buffer"] = grad.detach().clone()
                else: velocity.mul_(momentum).add_(grad, alpha=keep)
                grad = grad.add(velocity, alpha=momentum) if nesterov else velocity
            p.add_(grad, alpha=lr)


class ASGD(Rule):
    """SGD whose running average state['ax'] is the answer (Polyak and Juditsky); eta and mu are the next step's rate and weight."""
    _older = {"foreach": None, "maximize": False, "differentiable": False, "capturable": False}

    def __init__(self, params, lr=1e-2, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0, foreach=None, maximize=False, differentiable=False,
                 capturable=False):
        check_lr(lr)
        check_not_negative(weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, lambd=lambd, alpha=alpha, t0=t0, weight_decay=weight_decay, foreach=foreach, maximize=maximize,
                                      differentiable=differentiable, capturable=capturable))

    def _begin(self, p, group, state):
        anywhere = {"capturable": True}        # these three live where the parameter does
        state["step"] = self._begin_number(p, None, anywhere)
        state["eta"] = self._begin_number(p, "eta", anywhere, number(group["lr"]))
        state["mu"] = self._begin_number(p, "mu", anywhere, 1.0)
        state["ax"] = torch.zeros_like(p)

    def _update(self, group):
        lr, lambd, alpha, t0, weight_decay = number(group["lr"]), group["lambd"], group["alpha"], group["t0"], group["weight_decay"]
        for p, grad, state in self._each(group):
            step, ax = self._tick(p, state), state["ax"]
            eta, mu = self._number(p, "eta", state["eta"]), self._number(p, "mu", state["mu"])
            q = p
            if p.is_complex(): q, grad, ax = self._reals(p, grad, ax)
            if weight_decay: grad = grad.add(q, alpha=weight_decay)
            q.mul_(1 - lambd * eta)
            q.add_(grad, alpha=-eta)
            if mu != 1: ax.add_(q.sub(ax).mul_(mu))
            else: ax.copy_(q)
            self._set_number(p, "eta", state["eta"], rounded(lr / ((1 + lambd * lr * step) ** alpha), state["eta"]))
            self._set_number(p, "mu", state["mu"], rounded(1 / max(1, step - t0), state["mu"]))


class Rprop(Rule):
    """Steps by sign: each element's step size grows while its gradient keeps its sign, and shrinks when it flips."""
    _older = {"foreach": None, "maximize": False, "differentiable": False, "capturable": False}

    def __init__(self, params, lr=1e-2, etas=(0.5, 1.2), step_sizes=(1e-6, 50), *, capturable=False, foreach=None, maximize=False,
                 differentiable=False):
        check_lr(lr)
        if not 0.0 < etas[0] < 1.0 < etas[1]: raise ValueError(f"Invalid eta values: {etas[0]}, {etas[1]}")
        super().__init__(params, dict(lr=lr, etas=etas, step_sizes=step_sizes, foreach=foreach, maximize=maximize,
                                      differentiable=differentiable, capturable=capturable))

    def _begin(self, p, group, state):
        lr = number(group["lr"])
        state["step"] = self._begin_number(p, None, group)
        state["prev"] = torch.zeros_like(p)
        state["step_size"] = torch.full_like(p.grad, complex(lr, lr) if p.is_complex() else lr)

    def _update(self, group):
        (shrink, grow), (smallest, largest) = group["etas"], group["step_sizes"]
        for p, grad, state in self._each(group):
            prev, size = state["prev"], state["step_size"]
            state["step"].add_(1)
            q = p
            if p.is_complex(): q, grad, prev, size = self._reals(p, grad, prev, size)
            product = grad.mul(prev)
            flipped = product.lt(0)
            factor = torch.ones_like(size).masked_fill_(product.gt(0), grow).masked_fill_(flipped, shrink)
            size.mul_(factor).clamp_(smallest, largest)
            grad = grad.masked_fill(flipped, 0)
            q.addcmul_(grad.sign(), size, value=-1)
            prev.copy_(grad)
