"""A recurrent layer over a whole sequence on a GPU: a block per item of the batch, which takes all steps, its threads meeting between them.

Comes in: a Native of dnn/recurrence.py, operands dense, wherever they begin. Goes out: a DeviceLaunch. The cells are the CPU's.

    forward    a warp per hidden column: its lanes divide the products of the hidden state with that column's weights, of all gates at once
    backward   a thread per hidden column: first the cell; then, when all have theirs, the gradient of the state before, along the columns of the weights

What goes from step to step (c, gradients of h and c) lies in the result, or in scratch.
"""
from __future__ import annotations

from ....core import dtype as dt
from ....core.errors import unsupported
from ....core.kernels import DeviceLaunch, Native
from ....cpu.isa import Isa
from ...recurrence import GATES, KEPT, Number, gru, gru_back, lstm, lstm_back
from ...routines.code import X
from ...routines.index import Words
from .code import WARP, Device, stage

WIDE = 512                                     # threads of a block
ONE_BLOCK = ' "nvvm.minctasm"="1"'             # ptxas would make room for a second one where that takes spills
GIVEN = 5                                      # words: steps, items, hidden size, reverse, kept; then where every operand begins


class Layer:
    def __init__(self, c: Device, mode: str, t: dt.dtype, operands: int):
        self.c, self.t, self.gates, self.saved = c, t, GATES[mode], KEPT[mode]
        w = Words(c, operands + 1)
        self.steps, self.batch, self.size, self.reverse, self.kept = w(GIVEN)
        self.operands = [c.at(c.operand(i), start, t) for i, start in enumerate(w(operands))]
        self.out, self.state = c.operand(operands), self.batch * self.size

    def at(self, base: X, i) -> X: return self.c.at(base, i, self.t)
    def load(self, base: X, i) -> X: return self.c.load(base, self.t, i)
    def number(self, x: X) -> Number: return Number(self.c.b, x.v)
    def numbers(self, base: X, line: X, j: X, n: int) -> list[Number]: return [self.number(self.load(base, (line * n + k) * self.size + j)) for k in range(n)]
    def put(self, x: Number, base: X, i): self.c.store(X(self.c, x.v), base, i)

    def put_all(self, xs, base: X, line: X, j: X):
        for k, x in enumerate(xs): self.put(x, base, (line * len(xs) + k) * self.size + j)

    def time(self, s: X, backward=False) -> X: return self.reverse.eq(int(backward)).where(s, self.steps - 1 - s)
    def after(self, t: X) -> X: return (t + 1 - self.reverse) * self.state
    def before(self, t: X) -> X: return (t + self.reverse) * self.state


def _recurrence_forward(c: Device, mode: str, t: dt.dtype, operands: int):
    c.b.tuning = ONE_BLOCK
    f = Layer(c, mode, t, operands)
    x, w, h, more = (*f.operands, None)[:4]
    last_c = (f.steps + 1) * f.state
    kept = f.at(f.out, last_c + (f.state if mode == "lstm" else 0))
    with c.each_block(f.batch) as item:
        own = item * f.size
        with c.across(f.size) as j:
            c.store(f.load(h, own + j), f.out, f.reverse * f.steps * f.state + own + j)
            if mode == "lstm": c.store(f.load(more, own + j), f.out, last_c + own + j)
        with c.loop(0, f.steps) as s:
            c.barrier()
            now = f.time(s)
            before, after, line = f.before(now) + own, f.after(now) + own, now * f.batch + item
            with c.loop(c.thread >> 5, f.size, WIDE // WARP) as j:
                theirs = [f.number(y) for y in _products(c, f, f.at(f.out, before), w, j)]
                mine = f.numbers(x, line, j, f.gates)
                with c.when(c.lane.eq(0)): _cell(c, f, mode, mine, theirs, more, (before + j, after + j, last_c + own + j), kept, line, j)
        c.barrier()


def _products(c: Device, f: Layer, state: X, w: X, j: X) -> tuple[X, ...]:
    """Per gate, the hidden state times column j's weights; all lanes get them."""
    sums = [c.var(c.const(0, f.t)) for _ in range(f.gates)]
    with c.loop(c.lane, f.size, WARP) as i:
        here = f.load(state, i)
        for g, total in enumerate(sums): total.set(here.fma(f.load(w, (f.size * g + j) * f.size + i), total.now))
    return c.over_warp(tuple(s.now for s in sums), lambda a, b: tuple(p + q for p, q in zip(a, b)))


def _cell(c: Device, f: Layer, mode: str, mine, theirs, more: X, places: tuple, kept: X, line: X, j: X):
    before, after, of_c = places
    saved = ()
    if mode == "lstm":
        state, now_c, saved = lstm(mine, theirs, f.number(f.load(f.out, of_c)))
        f.put(now_c, f.out, of_c)
    elif mode == "gru": state, saved = gru(mine, theirs, f.numbers(more, c.const(0), j, 3), f.number(f.load(f.out, before)))
    elif mode == "tanh": state = (mine[0] + theirs[0]).tanh()
    else: state = f.number(X(c, c.b.max(0, (mine[0] + theirs[0]).v)))
    f.put(state, f.out, after)
    if saved:
        with c.when(f.kept.ne(0)): f.put_all(saved, kept, line, j)


def _recurrence_backward(c: Device, mode: str, t: dt.dtype, operands: int):
    c.b.tuning = ONE_BLOCK
    f = Layer(c, mode, t, operands)
    g, o, w, kept = (*f.operands, None)[:4]
    depth = f.size * f.gates
    at_h = f.at(f.out, f.steps * f.batch * depth)
    at_c, carry = f.at(at_h, f.state), c.scratch()
    hidden = at_c if mode == "gru" else f.out                                # gradients of the gates' hidden part
    with c.each_block(f.batch) as item:
        own = item * f.size
        with c.across(f.size) as j:
            c.store(c.const(0, t), carry, own + j)
            if mode == "lstm": c.store(f.load(g, (f.steps + 1) * f.state + own + j), at_c, own + j)
        with c.loop(0, f.steps) as s:
            now = f.time(s, backward=True)
            line = now * f.batch + item
            with c.across(f.size) as j: _cell_back(c, f, mode, (g, o, kept, hidden, at_c, carry), now, line, own + j, j)
            c.barrier()
            with c.across(f.size) as j:
                total = c.var(f.load(carry, own + j) if mode == "gru" else c.const(0, t))
                with c.loop(0, depth) as r: total.set(f.load(hidden, line * depth + r).fma(f.load(w, r * f.size + j), total.now))
                c.store(total.now, carry, own + j)
            c.barrier()
        with c.across(f.size) as j:            # the first state is one of o's rows
            c.store(f.load(carry, own + j) + f.load(g, f.reverse * f.steps * f.state + own + j), at_h, own + j)


def _cell_back(c: Device, f: Layer, mode: str, arrays: tuple, now: X, line: X, place: X, j: X):
    g, o, kept, hidden, at_c, carry = arrays
    grad = f.number(f.load(carry, place) + f.load(g, f.after(now) + place))
    saved = f.numbers(kept, line, j, f.saved) if f.saved else []
    if mode == "lstm":
        gates, before_c = lstm_back(grad, f.number(f.load(at_c, place)), saved)
        f.put(before_c, at_c, place)
    elif mode == "gru":
        gates, theirs, rest = gru_back(grad, saved, f.number(f.load(o, f.before(now) + place)))
        f.put_all(theirs, hidden, line, j)
        f.put(rest, carry, place)
    else:
        state = f.number(f.load(o, f.after(now) + place))
        gates = grad * (1.0 - state * state) if mode == "tanh" else f.number((X(c, state.v) <= 0.0).where(0.0, X(c, grad.v))),
    f.put_all(gates, f.out, line, j)


def recurrence(n: Native, isa: Isa) -> DeviceLaunch:
    which, mode, t = n.spec
    if t not in (dt.float32, dt.float64): raise unsupported(n.label, t, "cuda", "run it step by step")
    batch, size = n.words[1:3]
    return stage(n, isa, _recurrence_forward if which == "forward" else _recurrence_backward, (mode, t, len(n.operands) - 1), n.words, batch, WIDE,
                 scratch=batch * size * t.size if which == "backward" else 0)


ROUTINES = {"recurrence": recurrence}
