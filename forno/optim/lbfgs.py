"""Limited-memory BFGS with an optional strong-Wolfe line search (Nocedal and Wright, algorithms 3.5, 3.6 and 7.4)."""
from __future__ import annotations

from typing import Any, NamedTuple

from ..framework import api as torch
from .optimizer import Optimizer, check_lr, number


class Trial(NamedTuple):
    """A step length along the search direction and what the objective is there."""
    t: Any
    loss: Any
    grad: Any
    slope: Any


def _cubic_minimum(a: Trial, b: Trial, low, high):
    """Where the cubic through both points' values and slopes is smallest, inside [low, high]."""
    if a.t > b.t: a, b = b, a
    d1 = a.slope + b.slope - 3 * (a.loss - b.loss) / (a.t - b.t)
    d2 = d1 ** 2 - a.slope * b.slope
    if d2 < 0 or d2 != d2: return (low + high) / 2.0
    d2 = d2.sqrt()
    best = b.t - (b.t - a.t) * ((b.slope + d2 - d1) / (b.slope - a.slope + 2 * d2))
    return min(max(best, low), high)


def _strong_wolfe(at, t, start: Trial, direction_size, tolerance_change, max_steps, armijo=1e-4, curvature=0.9):
    """A trial that falls enough (Armijo) and flattens enough (curvature), found by bracketing and then zooming. `at(t)` evaluates the objective.

    Returns the trial and how often the objective was evaluated.
    """
    def too_high(x): return x.loss > start.loss + armijo * x.t * start.slope
    def flat(x): return abs(x.slope) <= -curvature * start.slope

    previous, now, calls, steps = start, at(t), 1, 0
    bracket = None
    while steps < max_steps:
        if too_high(now) or (steps > 1 and now.loss >= previous.loss):
            bracket = [previous, now]
            break
        if flat(now): return now, calls
        if now.slope >= 0:
            bracket = [previous, now]
            break
        t = _cubic_minimum(previous, now, now.t + 0.01 * (now.t - previous.t), now.t * 10)
        previous, now = now, at(t)
        calls, steps = calls + 1, steps + 1
    if bracket is None: bracket = [start, now]

    stalled = False
    low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
    while steps < max_steps:
        left, right = min(x.t for x in bracket), max(x.t for x in bracket)
        if (right - left) * direction_size < tolerance_change: break
        t = _cubic_minimum(bracket[0], bracket[1], left, right)
        margin = 0.1 * (right - left)
        if min(right - t, t - left) < margin:          # too close to an end: allowed once, then moved inside
            if stalled or t >= right or t <= left:
                t = right - margin if abs(t - right) < abs(t - left) else left + margin
                stalled = False
            else: stalled = True
        else: stalled = False
        now = at(t)
        calls, steps = calls + 1, steps + 1
        if too_high(now) or now.loss >= bracket[low].loss:
            bracket[high] = now
            low, high = (0, 1) if bracket[0].loss <= bracket[1].loss else (1, 0)
            continue
        done = flat(now)
        if not done and now.slope * (bracket[high].t - bracket[low].t) >= 0: bracket[high] = bracket[low]
        bracket[low] = now
        if done: break
    return bracket[low], calls


class LBFGS(Optimizer):
    """Second order from the last `history_size` gradient differences; `step(closure)` evaluates the closure several times."""

    def __init__(self, params, lr=1, max_iter=20, max_eval=None, tolerance_grad=1e-7, tolerance_change=1e-9, history_size=100,
                 line_search_fn=None):
        check_lr(lr)
        if max_eval is None: max_eval = max_iter * 5 // 4
        super().__init__(params, dict(lr=lr, max_iter=max_iter, max_eval=max_eval, tolerance_grad=tolerance_grad,
                                      tolerance_change=tolerance_change, history_size=history_size, line_search_fn=line_search_fn))
        if len(self.param_groups) != 1: raise ValueError("LBFGS doesn't support per-parameter options (parameter groups)")

    @property
    def _params(self): return self.param_groups[0]["params"]

    def _flat_grad(self):
        parts = []
        for p in self._params:
            grad = torch.zeros_like(p) if p.grad is None else p.grad
            parts.append((torch.view_as_real(grad) if p.is_complex() else grad).reshape(-1))
        return torch.cat(parts, 0)

    def _move(self, t, direction):
        start = 0
        for p in self._params:
            q = torch.view_as_real(p) if p.is_complex() else p
            n = q.numel()
            q.add_(direction[start:start + n].view(q.shape), alpha=number(t))
            if p.is_complex(): p.copy_(torch.view_as_complex(q))
            start += n

    def step(self, closure):
        with torch.no_grad(): return self._step(closure)

    def _step(self, closure):
        def evaluate():
            with torch.enable_grad(): return closure()

        group = self.param_groups[0]
        lr, max_iter, max_eval = number(group["lr"]), group["max_iter"], group["max_eval"]
        tolerance_grad, tolerance_change, search = group["tolerance_grad"], group["tolerance_change"], group["line_search_fn"]
        if search not in (None, "strong_wolfe"): raise RuntimeError("only 'strong_wolfe' is supported")
        state = self.state[self._params[0]]
        state.setdefault("func_evals", 0)
        state.setdefault("n_iter", 0)
        first_loss = evaluate()
        loss, grad, evals = number(first_loss), self._flat_grad(), 1
        state["func_evals"] += 1
        if grad.abs().max() <= tolerance_grad: return first_loss
        d, t, previous, previous_loss = (state.get(k) for k in ("d", "t", "prev_flat_grad", "prev_loss"))

        for iteration in range(1, max_iter + 1):
            state["n_iter"] += 1
            d = self._direction(state, grad, previous, d, t, group["history_size"])
            previous = grad.clone() if previous is None else previous.copy_(grad)
            previous_loss = loss
            t = min(1.0, 1.0 / grad.abs().sum()) * lr if state["n_iter"] == 1 else lr
            slope = grad.dot(d)
            if slope > -tolerance_change: break
            calls, optimal = 0, False
            if search is not None:
                x = [p.clone() for p in self._params]

                def at(t, d=d, x=x):
                    self._move(t, d)
                    loss, grad = number(evaluate()), self._flat_grad()
                    for p, old in zip(self._params, x): p.copy_(old)
                    return Trial(t, loss, grad, grad.dot(d))
                best, calls = _strong_wolfe(at, t, Trial(0, loss, grad.clone(), slope), d.abs().max(), tolerance_change, max_eval - evals)
                t, loss, grad = best.t, best.loss, best.grad
                self._move(t, d)
                optimal = grad.abs().max() <= tolerance_grad
            else:
                self._move(t, d)
                if iteration != max_iter:              # nothing reads the loss after the last move
                    loss, grad, calls = number(evaluate()), self._flat_grad(), 1
                    optimal = grad.abs().max() <= tolerance_grad
            evals += calls
            state["func_evals"] += calls
            if iteration == max_iter or evals >= max_eval or optimal: break
            if d.mul(t).abs().max() <= tolerance_change or abs(loss - previous_loss) < tolerance_change: break
        state.update(d=d, t=t, prev_flat_grad=previous, prev_loss=previous_loss)
        return first_loss

    @staticmethod
    def _direction(state, grad, previous, d, t, history):
        """-H g by the two-loop recursion; the memory lives in the state under PyTorch's names."""
        if state["n_iter"] == 1:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1)
            return grad.neg()
        ys, ss, ro = state["old_dirs"], state["old_stps"], state["ro"]
        y, s = grad.sub(previous), d.mul(t)
        curvature = y.dot(s)
        if curvature > 1e-10:
            if len(ys) == history: del ys[0], ss[0], ro[0]
            ys.append(y)
            ss.append(s)
            ro.append(1.0 / curvature)
            state["H_diag"] = curvature / y.dot(y)
        alphas = state.setdefault("al", [None] * history)
        q = grad.neg()
        for i in range(len(ys) - 1, -1, -1):
            alphas[i] = ss[i].dot(q) * ro[i]
            q.sub_(ys[i] * alphas[i])
        r = torch.mul(q, state["H_diag"])
        for i in range(len(ys)): r.add_(ss[i] * (alphas[i] - ys[i].dot(r) * ro[i]))
        return r
