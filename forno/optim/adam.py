"""Adam and its family: first moment by lerp, second moment by addcmul, bias corrected, then one addcdiv."""
from __future__ import annotations

from ..framework import api as torch
from .optimizer import Rule, check_betas, check_fused, check_lr, check_not_negative, number, rounded

WHOLE = frozenset((torch.float32, torch.float64))


class Adam(Rule):
    """p -= lr * m / (sqrt(v) + eps), m and v running means of g and g² without their bias to 0."""
    _older = {"amsgrad": False, "maximize": False, "foreach": None, "capturable": False, "differentiable": False,
              "decoupled_weight_decay": False, "fused": None}

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, *, foreach=None, maximize=False,
                 capturable=False, differentiable=False, fused=None, decoupled_weight_decay=False):
        if isinstance(lr, torch.Tensor) and foreach and not capturable:
            raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
        check_lr(lr)
        check_not_negative(epsilon=eps)
        check_betas(betas)
        check_not_negative(weight_decay=weight_decay)
        if not (all(isinstance(b, float) for b in betas) or all(isinstance(b, torch.Tensor) for b in betas)):
            raise ValueError("betas must be either both floats or both Tensors")
        for i, b in enumerate(betas):
            if not isinstance(b, torch.Tensor): continue
            if foreach and not capturable: raise ValueError(f"betas[{i}] as a Tensor is not supported for capturable=False and foreach=True")
            if b.numel() != 1: raise ValueError(f"Tensor betas[{i}] must be 1-element")
        check_fused(fused, foreach, differentiable)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, amsgrad=amsgrad, maximize=maximize, foreach=foreach,
                                      capturable=capturable, differentiable=differentiable, fused=fused,
                                      decoupled_weight_decay=decoupled_weight_decay))

    def _begin(self, p, group, state):
        state["step"] = self._begin_number(p, None, group)
        state["exp_avg"] = torch.zeros_like(p)
        state["exp_avg_sq"] = torch.zeros_like(p)
        if group["amsgrad"]: state["max_exp_avg_sq"] = torch.zeros_like(p)

    varying = "lr", "betas"

    def _varying(self, group): return () if group["capturable"] or group["differentiable"] else super()._varying(group)

    def rates(self, group, step):
        """(1 - β₁, β₂, 1 - β₂, what weights shrink by, √(1 - β₂ⁿ), -lr / (1 - β₁ⁿ)) of step n."""
        lr, (beta1, beta2) = number(group["lr"]), map(number, group["betas"])
        shrink = 1 - lr * group["weight_decay"] if group["decoupled_weight_decay"] else 1.0
        return 1 - beta1, beta2, 1 - beta2, shrink, (1 - beta2 ** step) ** 0.5, -(lr / (1 - beta1 ** step))

    def _update(self, group):
        if group["capturable"] or group["differentiable"]: return self._update_on_device(group)
        eps, weight_decay, decoupled, amsgrad, now = group["eps"], group["weight_decay"], group["decoupled_weight_decay"], group["amsgrad"], None
        for p, grad, state in self._each(group):
            mean, square, largest = state["exp_avg"], state["exp_avg_sq"], state["max_exp_avg_sq"] if amsgrad else None
            step = self._tick(p, state)
            if step != now: now, (take1, beta2, take2, shrink, root, rate) = step, self._rated(group, step)
            if weight_decay and not decoupled: grad = grad.add(p, alpha=weight_decay)
            if p.dtype in WHOLE and not amsgrad:           # the same arithmetic in three lines; narrow types round after each of more
                mean.lerp_(grad, take1)
                square._adam_square_(grad, beta2, take2)
                p._adam_step_(mean, square, shrink, root, eps, rate)
                continue
            if weight_decay and decoupled: p.mul_(shrink)
            if p.is_complex(): p, grad, mean, square, largest = self._reals(p, grad, mean, square, largest)
            mean.lerp_(grad, take1)
            square.mul_(beta2).addcmul_(grad, grad, value=take2)
            if amsgrad: square = largest.copy_(torch.maximum(largest, square))
            p.addcdiv_(mean, square.sqrt() / root + eps, value=rate)

    def _update_on_device(self, group):
        """The same arithmetic on the device's own step counter; the rate is folded into the denominator."""
        lr, eps, weight_decay, amsgrad = group["lr"], group["eps"], group["weight_decay"], group["amsgrad"]
        beta1, beta2 = map(number, group["betas"])
        for p, grad, state in self._each(group):
            mean, square, largest = state["exp_avg"], state["exp_avg_sq"], state["max_exp_avg_sq"] if amsgrad else None
            step = state["step"].add_(1)
            if weight_decay:
                if group["decoupled_weight_decay"]: p.mul_(1 - lr * weight_decay)
                else: grad = grad.add(p, alpha=weight_decay)
            if p.is_complex(): p, grad, mean, square, largest = self._reals(p, grad, mean, square, largest)
            mean.lerp_(grad, 1 - beta1)
            square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            if amsgrad: square = largest.copy_(torch.maximum(largest, square))
            rate = lr / (beta1 ** step - 1)
            p.addcdiv_(mean, (square.sqrt() / ((1 - beta2 ** step).sqrt() * rate)).add_(eps / rate))


class AdamW(Adam):
    """Adam whose weight decay shrinks the weights directly (Loshchilov and Hutter) instead of entering the gradient."""
    _older = Adam._older | {"decoupled_weight_decay": True}

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=1e-2, amsgrad=False, *, maximize=False, foreach=None,
                 capturable=False, differentiable=False, fused=None):
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, foreach=foreach, maximize=maximize, capturable=capturable,
                         differentiable=differentiable, fused=fused, decoupled_weight_decay=True)

    def __setstate__(self, state):
        super().__setstate__(state)
        for group in self.param_groups: group["decoupled_weight_decay"] = True


class Adamax(Rule):
    """Adam with the largest decayed gradient in place of the second moment."""
    _older = {"foreach": None, "maximize": False, "differentiable": False, "capturable": False}

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, foreach=None, *, maximize=False, differentiable=False,
                 capturable=False):
        check_lr(lr)
        check_not_negative(epsilon=eps)
        check_betas(betas)
        check_not_negative(weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, foreach=foreach, maximize=maximize,
                                      differentiable=differentiable, capturable=capturable))

    def _begin(self, p, group, state):
        state["step"] = self._begin_number(p, None, group)
        state["exp_avg"], state["exp_inf"] = torch.zeros_like(p), torch.zeros_like(p)

    def _update(self, group):
        lr, (beta1, beta2), eps, weight_decay = number(group["lr"]), group["betas"], group["eps"], group["weight_decay"]
        for p, grad, state in self._each(group):
            step, mean, peak = self._tick(p, state), state["exp_avg"], state["exp_inf"]
            if weight_decay: grad = grad.add(p, alpha=weight_decay)
            if p.is_complex(): p, grad, mean, peak = self._reals(p, grad, mean, peak)
            mean.lerp_(grad, 1 - beta1)
            peak.copy_(torch.maximum(peak.mul_(beta2), grad.abs().add_(eps)))
            p.addcdiv_(mean, peak, value=-(lr / (1 - beta1 ** step)))


class NAdam(Rule):
    """Adam with Nesterov momentum under Dozat's schedule; mu_product is the product of the momenta so far."""
    _older = {"maximize": False, "foreach": None, "capturable": False, "differentiable": False, "decoupled_weight_decay": False}

    def __init__(self, params, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, momentum_decay=4e-3, decoupled_weight_decay=False, *,
                 foreach=None, maximize=False, capturable=False, differentiable=False):
        check_lr(lr)
        check_not_negative(epsilon=eps)
        check_betas(betas)
        check_not_negative(weight_decay=weight_decay, momentum_decay=momentum_decay)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, momentum_decay=momentum_decay,
                                      decoupled_weight_decay=decoupled_weight_decay, maximize=maximize, foreach=foreach,
                                      capturable=capturable, differentiable=differentiable))

    def _begin(self, p, group, state):
        state["step"], state["mu_product"] = self._begin_number(p, None, group), self._begin_number(p, "mu_product", group, 1.0)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)

    def _update(self, group):
        lr, (beta1, beta2), eps, weight_decay = number(group["lr"]), group["betas"], group["eps"], group["weight_decay"]
        for p, grad, state in self._each(group):
            step, mean, square = self._tick(p, state), state["exp_avg"], state["exp_avg_sq"]
            q = p
            if p.is_complex(): q, grad, mean, square = self._reals(p, grad, mean, square)
            if weight_decay:
                if group["decoupled_weight_decay"]: q.mul_(1 - lr * weight_decay)
                else: grad = grad.add(q, alpha=weight_decay)
            mu = beta1 * (1.0 - 0.5 * 0.96 ** (step * group["momentum_decay"]))
            mu_next = beta1 * (1.0 - 0.5 * 0.96 ** ((step + 1) * group["momentum_decay"]))
            held = state["mu_product"]
            product = rounded(self._number(p, "mu_product", held) * rounded(mu, held), held)
            self._set_number(p, "mu_product", held, product)
            mean.lerp_(grad, 1 - beta1)
            square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            spread = square.div(1 - beta2 ** step).sqrt().add_(eps)
            q.addcdiv_(grad, spread, value=-lr * (1.0 - mu) / (1.0 - product))
            q.addcdiv_(mean, spread, value=(-lr * mu_next) / (1.0 - product * mu_next))


class RAdam(Rule):
    """Adam that steps without the second moment until its variance is tractable (Liu et al.)."""
    _older = {"foreach": None, "maximize": False, "differentiable": False, "decoupled_weight_decay": False, "capturable": False}

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, decoupled_weight_decay=False, *, foreach=None,
                 maximize=False, capturable=False, differentiable=False):
        check_lr(lr)
        check_not_negative(epsilon=eps)
        check_betas(betas)
        check_not_negative(weight_decay=weight_decay)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay, maximize=maximize, foreach=foreach,
                                      capturable=capturable, decoupled_weight_decay=decoupled_weight_decay, differentiable=differentiable))

    def _begin(self, p, group, state):
        state["step"] = self._begin_number(p, None, group)
        state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)

    def _update(self, group):
        lr, (beta1, beta2), eps, weight_decay = number(group["lr"]), group["betas"], group["eps"], group["weight_decay"]
        longest = 2 / (1 - beta2) - 1          # length of the moving average's memory, in steps
        for p, grad, state in self._each(group):
            step, mean, square = self._tick(p, state), state["exp_avg"], state["exp_avg_sq"]
            if p.is_complex(): p, grad, mean, square = self._reals(p, grad, mean, square)
            if weight_decay:
                if group["decoupled_weight_decay"]: p.mul_(1 - lr * weight_decay)
                else: grad = grad.add(p, alpha=weight_decay)
            mean.lerp_(grad, 1 - beta1)
            square.mul_(beta2).addcmul_(grad, grad, value=1 - beta2)
            bias1, bias2 = 1 - beta1 ** step, 1 - beta2 ** step
            length = longest - 2 * step * beta2 ** step / bias2
            move = mean / bias1 * lr
            if length > 5.0:
                rectify = ((length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)) ** 0.5
                move = move * (bias2 ** 0.5 / square.sqrt().add_(eps)) * rectify
            p.add_(move, alpha=-1.0)


class SparseAdam(Rule):
    """Adam for sparse gradients: only the elements that a gradient has, and their moments, move."""

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, maximize=False):
        if isinstance(lr, torch.Tensor) and lr.numel() != 1: raise ValueError("Tensor lr must be 1-element")
        if not lr > 0.0: raise ValueError(f"Invalid learning rate: {lr}")
        if not eps > 0.0: raise ValueError(f"Invalid epsilon value: {eps}")
        check_betas(betas)
        super().__init__(params, dict(lr=lr, betas=betas, eps=eps, maximize=maximize))
        places = [([i, j], p) for i, group in enumerate(self.param_groups) for j, p in enumerate(group["params"])]
        sparse, paired = [at for at, p in places if p.is_sparse], [at for at, p in places if p.is_complex()]
        if sparse: raise ValueError(f"Sparse params at indices {sparse}: SparseAdam requires dense parameter tensors")
        if paired: raise ValueError(f"Complex params at indices {paired}: SparseAdam does not support complex parameters")

    def _update(self, group):
        lr, (beta1, beta2), eps = number(group["lr"]), group["betas"], group["eps"]
        for p in group["params"]:
            grad = p.grad
            if grad is None: continue
            if not grad.is_sparse: raise RuntimeError("SparseAdam does not support dense gradients, please consider Adam instead")
            state = self.state[p]
            if not state: state["step"], state["exp_avg"], state["exp_avg_sq"] = 0, torch.zeros_like(p), torch.zeros_like(p)
            step = state["step"] = state["step"] + 1
            grad = (-grad if group["maximize"] else grad).coalesce()      # the update isn't linear: every place once
            at, values = tuple(grad._indices()), grad._values()
            if not values.numel(): continue
            mean, square = state["exp_avg"], state["exp_avg_sq"]
            m, v = mean[at].lerp(values, 1 - beta1), square[at].lerp(values * values, 1 - beta2)
            mean[at], square[at] = m, v
            size = lr * (1 - beta2 ** step) ** 0.5 / (1 - beta1 ** step)
            p[at] = p[at] - size * (m / (v.sqrt() + eps))
