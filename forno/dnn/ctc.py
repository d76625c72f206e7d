"""Connectionist temporal classification: how likely labels are, whatever the steps at which they are said. kernel/routines/ctc.py has the recursions.

scores (T, N, C), log-probabilities; labels (N, S), of which each item's first target_lengths count; input_lengths (N), target_lengths (N): all int64

ctc            scores, labels, input_lengths, target_lengths → (N), -log of the probability of all alignments; infinite if there is none
ctc_gradient   the same → (T, N, C), its derivative for the scores as PyTorch has it: as if they were a log-softmax, exp(scores) - posteriors
"""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..core import dtype as dt
from ..core.kernels import Native, Operand
from ..core.op import Routine
from .elementwise import TITLES


class CtcSpec(NamedTuple):
    blank: int
    zero_infinity: bool


def _infer(spec, scores, labels, inputs, targets):
    if scores.dtype not in (dt.float32, dt.float64): raise NotImplementedError(f"\"ctc_loss_cpu\" not implemented for '{TITLES[scores.dtype.name]}'")
    return scores.dtype, (scores.shape[1],)


def _plan(kind):
    def plan(spec, out, scores, labels, inputs, targets):
        operands = (*(Operand(x.dtype, "r") for x in (scores, labels, inputs, targets)), Operand(out.dtype, "w"))
        steps, n, classes = scores.shape
        work = steps * n * (classes + 64 * (labels.shape[1] + 1))
        return Native("ctc", (kind, scores.dtype, spec.zero_infinity), (steps, n, classes, labels.shape[1], spec.blank), operands, work, f"ctc {kind}")
    return plan


# ---- in NumPy
def _log_sum(*xs):
    top = max(xs)
    return top if top == -math.inf else top + math.log(sum(math.exp(x - top) for x in xs))


def _walk(scores, symbols):
    """(steps + 1, positions): log-probabilities of all ways to stand at a position after so many steps."""
    rows = [[0.0] + [-math.inf] * (len(symbols) - 1)]
    for line in scores:
        old = rows[-1]
        rows.append([_log_sum(*(old[s - k] for k in range(3) if s >= k and (k < 2 or s % 2 and s > 2 and symbols[s] != symbols[s - 2]))) + line[symbol]
                     for s, symbol in enumerate(symbols)])
    return np.array(rows)


def _items(spec, scores, labels, inputs, targets):
    """Per item its scores, its positions' symbols, and its loss."""
    for n, (steps, count) in enumerate(zip(inputs, targets)):
        symbols = [spec.blank]
        for label in labels[n, :count]: symbols += [int(label), spec.blank]
        mine = scores[:steps, n].astype(np.float64)
        rows = _walk(mine, symbols)
        loss = -_log_sum(*rows[-1][-2:])
        yield n, mine, symbols, rows, 0.0 if spec.zero_infinity and loss == math.inf else loss


def _oracle(spec, scores, *more): return np.array([loss for *_, loss in _items(spec, scores, *more)], scores.dtype)


def _gradient_oracle(spec, scores, *more):
    out = np.zeros(scores.shape)
    for n, mine, symbols, alpha, loss in _items(spec, scores, *more):
        beta, possible = _walk(mine[::-1], symbols[::-1])[::-1, ::-1], _log_sum(*alpha[-1][-2:]) > -math.inf
        if not possible:
            out[:len(mine), n] = 0.0 if spec.zero_infinity else np.nan
            continue
        out[:len(mine), n] = np.exp(mine)
        for t, line in enumerate(mine):
            for s, symbol in enumerate(symbols): out[t, n, symbol] -= math.exp(alpha[t + 1][s] + beta[t][s] - line[symbol] + loss)
    return out.astype(scores.dtype)


# ---- the rows
def _twice(*_, attr): raise RuntimeError("derivative for aten::_ctc_loss_backward is not implemented")


def _rule(g, o, scores, labels, inputs, targets, attr):
    return g.reshape((1, scores.shape[1], 1)) * scores.row(ctc_gradient, labels, inputs, targets, attr=attr)


ctc_gradient = Routine("ctc_gradient", lambda spec, scores, *more: (_infer(spec, scores, *more)[0], scores.shape), (_twice,), "abcd", _gradient_oracle,
                       plan=_plan("gradient"))
ctc = Routine("ctc", _infer, (_rule,), "abcd", _oracle, plan=_plan("loss"))
