"""Connectionist temporal classification on a GPU: a block per item, whose threads share positions and meet after every step.

Comes in: a Native of dnn/ctc.py; the CPU's routines/ctc.py explains its operands, words, and what alpha and beta are. Goes out: a DeviceLaunch.

An item's part of scratch: symbols of its positions, what skipping there costs, two rows of beta, posteriors, then rows of alpha: all of them for the gradient,
else two. In front of a row are LEAD positions that don't exist. A class gets its posteriors from one thread, which walks the positions in order.
"""
from __future__ import annotations

from ....core import dtype as dt
from ....core.kernels import DeviceLaunch, Native
from ....cpu.isa import Isa
from ...routines.code import X
from ...routines.ctc import LEAD, _log_sum
from ...routines.index import Words
from .code import THREADS, Device, stage

NONE = float("-inf")
BEFORE = 3                                     # rows in front of alpha: costs of skipping, two of beta; then posteriors


class Item:
    """Item n of the batch, in this block's hands."""

    def __init__(self, c: Device, t: dt.dtype, rows: bool):
        self.c, self.t, self.rows = c, t, rows
        self.scores, self.labels, self.inputs, self.targets, self.result = (c.operand(k) for k in range(5))
        self.steps, self.count, self.classes, self.most, self.blank = Words(c, 5)(5)
        self.room = self.most * 2 + (2 * LEAD + 2)
        self.size = self.room * 8 + self.room * t.size * (self.steps + (BEFORE + 2) if rows else c.const(BEFORE + 3))

    def begin(self, n: X):
        """Its lengths and its symbols; alpha before the first step."""
        c, t = self.c, self.t
        base = c.at(c.scratch(), n * ((self.size + 15) & -16))
        first = c.at(base, self.room * 8)
        self.n, self.symbols = n, base
        self.skip, *self.beta, self.post, self.alpha = (c.at(c.at(first, self.room * (t.size * k)), LEAD, t) for k in range(BEFORE + 2))
        self.length, self.target = (c.load(p, dt.int64, n).max(0).min(most) for p, most in ((self.inputs, self.steps), (self.targets, self.most)))
        self.positions = self.target * 2 + 1
        with c.across(self.positions) as s: c.store(self.symbol(s), self.symbols, s)
        self.fill(self.row(c.const(0)), 0)
        if not self.rows: self.fill(self.row(c.const(1)))
        c.barrier()
        with c.across(self.positions) as s:
            other = c.load(self.symbols, dt.int64, s).ne(c.load(self.symbols, dt.int64, (s - 2).max(0)))
            c.store(((s & 1).eq(1) & other).where(c.const(0.0, t), NONE), self.skip, s)
        c.barrier()

    def symbol(self, s: X) -> X:
        """A label between two blanks."""
        c = self.c

        def label(): return c.checked(c.load(self.labels, dt.int64, self.n * self.most + (s >> 1)), self.classes, 0),
        return c.either_of((s & 1).eq(1), label, lambda: (self.blank,))[0]

    def fill(self, row: X, sure: int = -LEAD - 1):
        """A row where only one position is possible, or none, and what is around it."""
        with self.c.across(self.room) as s: self.c.store((s - LEAD).eq(sure).where(self.c.const(0.0, self.t), NONE), row, s - LEAD)

    def row(self, step: X) -> X: return self.c.at(self.alpha, (step if self.rows else step & 1) * self.room, self.t)
    def line(self, step: X) -> X: return (step * self.count + self.n) * self.classes
    def emitted(self, step: X, s: X) -> X: return self.c.load(self.scores, self.t, self.line(step) + self.c.load(self.symbols, dt.int64, s))

    def forward(self):
        """All rows of alpha."""
        c, t = self.c, self.t
        with c.loop(0, self.length) as step:
            before, after = self.row(step), self.row(step + 1)
            if self.rows:
                with c.when(c.thread < LEAD): c.store(c.const(NONE, t), after, c.thread - LEAD)
            with c.across(self.positions) as s:
                stay, on, skip = (c.load(before, t, s - k) for k in range(3))
                c.store(_log_sum([stay, on, skip + c.load(self.skip, t, s)]) + self.emitted(step, s), after, s)
            c.barrier()

    def loss(self) -> X:
        row = self.row(self.length)
        return -_log_sum([self.c.load(row, self.t, self.target * 2 - k) for k in range(2)])


def _ctc_loss(c: Device, t: dt.dtype, zero_infinity: bool):
    item = Item(c, t, rows=False)
    with c.each_block(item.count) as n:
        item.begin(n)
        item.forward()
        with c.when(c.thread.eq(0)):
            loss = item.loss()
            c.store(loss.eq(float("inf")).where(0.0, loss) if zero_infinity else loss, item.result, n)
        c.barrier()


def _ctc_gradient(c: Device, t: dt.dtype, zero_infinity: bool):
    """exp(score) minus the posterior of its class, NaN wherever PyTorch's difference of infinities is; nothing behind an item's last step."""
    c.b.tuning = ' "nvvm.minctasm"="2"'        # ptxas would make room for more blocks where that takes spills
    item, zero = Item(c, t, rows=True), c.const(0.0, t)
    with c.each_block(item.count) as n:
        item.begin(n)
        for beta in item.beta: item.fill(beta)
        with c.across(item.room) as s: c.store(zero, item.post, s - LEAD)
        c.barrier()
        item.forward()
        loss = item.loss()
        with c.loop(0, item.steps) as k:
            step = item.steps - 1 - k
            here = step < item.length
            if zero_infinity: here = here & loss.ne(float("inf"))
            line = item.line(step)
            with c.either(here) as otherwise:
                _posteriors(c, item, t, step, loss)
                _classes(c, item, t, step, loss)
                otherwise()
                with c.across(item.classes) as i: c.store(zero, item.result, line + i)
        c.barrier()


def _posteriors(c: Device, item: Item, t: dt.dtype, step: X, loss: X):
    """beta before `step`, from the row behind it; how likely each position is."""
    odd, alpha = (step & 1).ne(0), item.row(step + 1)
    last = step.eq(item.length - 1)
    a, b = item.beta
    before, after = (X(c, c.b.select(odd.v, x.v, y.v)) for x, y in ((a, b), (b, a)))
    with c.across(item.positions) as s:
        stay, on, skip = (c.load(after, t, s + k) for k in range(3))
        able = c.load(item.skip, t, (s + 2).min(item.positions - 1))
        rest = last.where((s >= item.positions - 2).where(c.const(0.0, t), NONE), _log_sum([stay, on, skip + able]))
        c.store(rest + item.emitted(step, s), before, s)
        c.store((c.load(alpha, t, s) + rest + loss)._("exp"), item.post, s)
    c.barrier()


def _classes(c: Device, item: Item, t: dt.dtype, step: X, loss: X):
    """A line of the result: a thread per class."""
    line = item.line(step)
    with c.across(item.classes) as i:
        score, total = c.load(item.scores, t, line + i), None
        total = c.var(score._("exp") + (score - score) + (loss - loss))
        with c.loop(0, item.positions) as s:
            with c.when(c.load(item.symbols, dt.int64, s).eq(i)): total.add(-c.load(item.post, t, s))
        c.store(total.now, item.result, line + i)
    c.barrier()


def ctc(n: Native, isa: Isa) -> DeviceLaunch:
    kind, t, _ = n.spec
    steps, count, _, labels, *_ = n.words
    room = 2 * labels + 2 * LEAD + 2
    size = room * 8 + room * t.size * (steps + BEFORE + 2 if kind == "gradient" else BEFORE + 3)
    return stage(n, isa, _ctc_loss if kind == "loss" else _ctc_gradient, n.spec[1:], n.words, count, THREADS, count * ((size + 15) & -16))


ROUTINES = {"ctc": ctc}
