"""One direction of a recurrent layer over a whole sequence: LSTM, GRU, and Elman's with tanh or relu.

x (T, B, G·H) is the input's part of the G gates, made for all steps by one product outside, with all biases but the GRU's hidden one; w (G·H, H); h (B, H)
the first hidden state; then c (B, H) of an LSTM, or b (G·H), the hidden bias of a GRU

recurrence        x, w, h[, c or b][, kept] → (T + 1 [+ 1], B, H): all hidden states by time, the first one where it comes from (in front, or behind if the
                  sequence is walked in reverse), and an LSTM's last c behind them. `kept` is nothing but a value that backward need not compute again
recurrence_kept   x, w, h, c or b → (T, B, n·H): gates, and what they were applied to
recurrence_back   g, o, w[, kept] → flat: gradients of x, h, and c, or of the GRU's hidden part of the gates, which lacks the reset gate in x's

The first two are views of one routine, `recur`, which equal values make one kernel. A gradient that will be differentiated itself is ordinary rows, step by step.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..core.kernels import Native, Operand
from ..core.op import Routine
from ..core.shape import View, contiguous
from .activation import relu
from .elementwise import select
from .functions import sigmoid, tanh
from .movement import cat, view
from .recipes import recipe

GATES = {"lstm": 4, "gru": 3, "tanh": 1, "relu": 1}
KEPT = {"lstm": 5, "gru": 4, "tanh": 0, "relu": 0}
"""What is kept of every step, in parts of H: LSTM i, f, g, o and the c before it; GRU r, z, n and the hidden part of n."""


class RecurrenceSpec(NamedTuple):
    """`kept`: is this operand there?"""
    mode: str
    reverse: bool = False
    kept: bool = False

    @property
    def more(self) -> bool: return self.mode in ("lstm", "gru")

    @property
    def states(self) -> int: return 2 if self.mode == "lstm" else 1


def part(flat, shape, offset=0): return flat.row(view, attr=View(tuple(shape), contiguous(shape), offset))


# ---- step by step, in rows or in NumPy
class Rows:
    """What formulas are written with besides operators."""
    @staticmethod
    def sigmoid(x): return x.row(sigmoid)
    @staticmethod
    def tanh(x): return x.row(tanh)
    @staticmethod
    def relu(x): return x.row(relu)
    @staticmethod
    def passed(g, o): return select(o <= 0, 0, g)
    @staticmethod
    def turned(x): return x.transpose(-1, -2)
    @staticmethod
    def product(a, b): return a.matmul(b)
    @staticmethod
    def joined(xs, axis): return xs[0].row(cat, *xs[1:], attr=axis)
    @staticmethod
    def line(x, i): return part(x, x.shape[1:], i * x.shape[1] * x.shape[2])
    @staticmethod
    def flat(x): return x.reshape((-1,))
    @staticmethod
    def gates(x, n):
        size = x.shape[1] // n
        return [x.row(view, attr=View((x.shape[0], size), (x.shape[1], 1), k * size)) for k in range(n)]


class Arrays:
    @staticmethod
    def sigmoid(x): return 1 / (1 + np.exp(-x))
    tanh = staticmethod(np.tanh)
    @staticmethod
    def relu(x): return np.where(x <= 0, 0, x)
    @staticmethod
    def passed(g, o): return np.where(o <= 0, 0, g)
    turned = staticmethod(np.transpose)
    product = staticmethod(np.matmul)
    @staticmethod
    def joined(xs, axis): return np.concatenate(xs, axis)
    @staticmethod
    def line(x, i): return x[i]
    flat = staticmethod(np.ravel)
    @staticmethod
    def gates(x, n): return np.split(x, n, 1)


class Step(NamedTuple):
    """`kept` as in KEPT; `before` and `h`: the hidden state before and after."""
    time: int
    before: object
    kept: tuple
    h: object


def times(spec, steps): return range(steps)[::-1] if spec.reverse else range(steps)


def walk(f, spec, x, w, h, more=None) -> tuple[list[Step], object]:
    """All steps in the order they are walked, and the last c."""
    out, c, n = [], more if spec.mode == "lstm" else None, GATES[spec.mode]
    for t in times(spec, x.shape[0]):
        before, mine, theirs, kept = h, f.line(x, t), f.product(h, f.turned(w)), ()
        if spec.mode == "lstm":
            i, forget, new, last = (act(y) for act, y in zip((f.sigmoid, f.sigmoid, f.tanh, f.sigmoid), f.gates(mine + theirs, n)))
            kept, c = (i, forget, new, last, c), forget * c + i * new
            h = last * f.tanh(c)
        elif spec.mode == "gru":
            (xr, xz, xn), (hr, hz, hn) = f.gates(mine, n), f.gates(theirs + more, n)
            reset, update = f.sigmoid(xr + hr), f.sigmoid(xz + hz)
            new = f.tanh(xn + reset * hn)
            kept, h = (reset, update, new, hn), new + update * (h - new)
        else: h = (f.tanh if spec.mode == "tanh" else f.relu)(mine + theirs)
        out.append(Step(t, before, kept, h))
    return out, c


def slopes(f, spec, g, w, steps: list[Step]):
    """recurrence_back's result."""
    count, mine, theirs = len(steps), {}, {}
    at_h, at_c = None, f.line(g, count + 1) if spec.mode == "lstm" else None
    for t, before, kept, h in reversed(steps):
        here = f.line(g, t if spec.reverse else t + 1)
        at_h = here if at_h is None else at_h + here
        if spec.mode == "lstm":
            i, forget, new, last, c = kept
            up = f.tanh(forget * c + i * new)
            at_c = at_c + at_h * last * (1 - up * up)
            mine[t] = f.joined([at_c * new * i * (1 - i), at_c * c * forget * (1 - forget), at_c * i * (1 - new * new), at_h * up * last * (1 - last)], 1)
            at_c, at_h = at_c * forget, f.product(mine[t], w)
        elif spec.mode == "gru":
            reset, update, new, hn = kept
            at_new = at_h * (1 - update) * (1 - new * new)
            both = [at_new * hn * reset * (1 - reset), at_h * (before - new) * update * (1 - update)]
            mine[t], theirs[t] = f.joined([*both, at_new], 1), f.joined([*both, at_new * reset], 1)
            at_h = at_h * update + f.product(theirs[t], w)
        else:
            mine[t] = at_h * (1 - h * h) if spec.mode == "tanh" else f.passed(at_h, h)
            at_h = f.product(mine[t], w)
    last = [at_h + f.line(g, count if spec.reverse else 0), *([at_c] if spec.mode == "lstm" else [])]
    return f.joined([f.flat(y) for y in ([mine[t] for t in range(count)] + last + [theirs[t] for t in sorted(theirs)])], 0)


# ---- the routines
def _recur_oracle(spec, x, w, h, *more):
    steps, c = walk(Arrays, spec, x, w, h, *more)
    steps = sorted(steps)
    rows = [*[s.h for s in steps], h] if spec.reverse else [h, *[s.h for s in steps]]
    return np.concatenate([y.ravel() for y in (*rows, *([c] if spec.mode == "lstm" else []), *(np.concatenate(s.kept, 1) for s in steps if spec.kept))])


def _back_oracle(spec, g, o, w, *kept):
    def step(t): return Step(t, o[t + spec.reverse], Arrays.gates(kept[0][t], KEPT[spec.mode]) if kept else (), o[t + (not spec.reverse)])
    return slopes(Arrays, spec, g, w, [step(t) for t in times(spec, len(g) - spec.states)])


def _plan(which):
    def plan(spec, out, *ins, views):
        w = ins[1 if which == "forward" else 2]
        steps, batch = ins[0].shape[0] - (0 if which == "forward" else spec.states), ins[0].shape[1]
        operands = (*(Operand(y.dtype, "r") for y in ins), Operand(out.dtype, "w"))
        return Native("recurrence", (which, spec.mode, out.dtype), (steps, batch, w.shape[1], int(spec.reverse), int(spec.kept), *(v.offset for v in views)), operands,
                      sum(math.prod(y.shape) for y in (*ins, out)), f"{spec.mode} {which}")
    return plan


def _recur_infer(spec, x, w, h, *more):
    states, batch, size = _infer(spec, x, w, h)[1]
    return x.dtype, ((states + spec.kept * x.shape[0] * KEPT[spec.mode]) * batch * size,)


def _back_infer(spec, g, o, w, *kept):
    rows, batch, size = g.shape
    gates = (rows - spec.states) * GATES[spec.mode] * (1 + (spec.mode == "gru"))
    return g.dtype, ((gates + spec.states) * batch * size,)


recur = Routine("recur", _recur_infer, oracle=_recur_oracle, plan=_plan("forward"), strided=True, dense=True)


# ---- the rows
def _infer(spec, x, w, h, *more): return x.dtype, (x.shape[0] + spec.states, *h.shape)


def _kept_infer(spec, x, w, h, *more): return x.dtype, (*x.shape[:2], KEPT[spec.mode] * w.shape[1])


def _expand(spec, x, w, h, *more): return part(x.row(recur, w, h, *more[:spec.more], attr=spec), _infer(spec, x, w, h)[1])


def _expand_kept(spec, x, w, h, *more):
    shape = _kept_infer(spec, x, w, h)[1]
    return part(x.row(recur, w, h, *more, attr=spec), shape, math.prod(_infer(spec, x, w, h)[1]))


def _back(g, o, x, w, h, *more, attr):
    """recurrence_back's result. Would a gradient go through it, step by step."""
    made = g.row(recurrence_back, o, w, *more[attr.more:], attr=attr)
    return slopes(Rows, attr, g, w, walk(Rows, attr, x, w, h, *more[:attr.more])[0]) if made.requires_grad else made


def _grad_x(g, o, x, *rest, attr): return part(_back(g, o, x, *rest, attr=attr), x.shape)
def _grad_h(g, o, x, w, h, *more, attr): return part(_back(g, o, x, w, h, *more, attr=attr), h.shape, math.prod(x.shape))


def _hidden(g, o, x, w, h, *more, attr):
    """(T · B, G · H): gradients of the gates' hidden part, all steps below each other."""
    rows = x.shape[0] * x.shape[1], x.shape[2]
    return part(_back(g, o, x, w, h, *more, attr=attr), rows, math.prod(x.shape) + math.prod(h.shape) if attr.mode == "gru" else 0)


def _grad_w(g, o, x, w, h, *more, attr):
    before = part(o, (x.shape[0] * h.shape[0], h.shape[1]), math.prod(h.shape) if attr.reverse else 0)
    return Rows.turned(_hidden(g, o, x, w, h, *more, attr=attr)).matmul(before)


def _grad_more(g, o, x, w, h, *more, attr):
    if attr.mode == "gru": return _hidden(g, o, x, w, h, *more, attr=attr).sum((0,))
    return part(_back(g, o, x, w, h, *more, attr=attr), h.shape, math.prod(x.shape) + math.prod(h.shape))


def _never(*_, attr): raise AssertionError("a gradient through recurrence_back is made of rows")


recurrence_kept = recipe("recurrence_kept", _kept_infer, _expand_kept)
recurrence_back = Routine("recurrence_back", _back_infer, (_never,) * 4, "abcd", _back_oracle, plan=_plan("backward"), strided=True, dense=True)
recurrence = recipe("recurrence", _infer, _expand, _grad_x, _grad_w, _grad_h, _grad_more, saves="ao")
