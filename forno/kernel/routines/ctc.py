"""Connectionist temporal classification: the probability of all alignments of labels with steps, and its gradient (Graves et al., 2006).

Comes in: Natives with operands log-probabilities (T, N, C), labels (N, S), input lengths (N), target lengths (N), result; words (T, N, C, S, blank, items at
once). Goes out: Launches. spec = (kind, dtype, whether infinite losses count as 0); kind "loss" leaves (N,), "gradient" (T, N, C).

An item's **positions** are its labels with blanks around them, 2 S + 1. alpha[t][s] is the log-probability of all beginnings that stand at position s after t
steps, beta[t][s] of all ends from there; a step takes the log-sum of staying, moving on, and skipping a blank between different labels, as PyTorch's does.
Vectors run along positions. Every step waits for the one before, so several items take turns. Positions behind an item's last one hold something, but nothing
comes back from there. The gradient keeps all of alpha, and walks back with one row of beta.
"""
from __future__ import annotations

from ...core import dtype as dt
from ...core.kernels import Launch, Native
from ...cpu import isa
from .code import Code, X
from .index import Words, launch, program

LEAD = 2                                       # elements in front of a row: positions that don't exist, -inf
LOSS = -1                                      # in front of the row of posteriors stands the item's loss
KEPT = 1 << 21                                 # bytes of alpha of items that take turns
AT_ONCE = 8


def _width(t: dt.dtype) -> int: return isa.vector_bytes // t.size


def _room(t: dt.dtype, labels: int) -> int:
    """Elements of a row: what stands in front, whole vectors of positions, and one behind them."""
    w = _width(t)
    return LEAD + -(-(2 * labels + 1) // w) * w + w


def _log_sum(xs: list[X]) -> X:
    """As PyTorch sums: from the largest, which is 0 where all are -inf."""
    top = xs[0]
    for x in xs[1:]: top = (x > top).where(x, top)
    top = top.eq(float("-inf")).where(0.0, top)
    total = [(x - top)._("exp") for x in xs]
    return sum(total[1:], total[0])._("log") + top


class _Items:
    """The items of one thread, `at_once` of them in scratch: per item its labels at positions, what skipping there costs, beta, posteriors, and rows of alpha."""

    def __init__(self, c: Code, t: dt.dtype, rows: bool):
        self.c, self.t, self.width = c, t, _width(t)
        self.scores, self.labels, self.inputs, self.targets, self.result = (c.operand(k) for k in range(5))
        self.steps, self.n, self.classes, self.most, self.blank, self.at_once = Words(c, 5)(6)
        vectors = (self.most * 2 + self.width) // self.width
        self.positions = vectors * self.width
        self.room = self.positions + (LEAD + self.width)
        self.kept = self.room if rows else c.const(0)                         # from one row of alpha to the next: the loss needs the last one only
        bytes_of_row = self.room * t.size
        self.size = self.room * 8 + bytes_of_row * 3 + (bytes_of_row * (self.steps + 1) if rows else bytes_of_row)
        self.bytes_of_row = bytes_of_row

    def at(self, slot: X) -> _Item: return _Item(self, self.c.at(self.c.scratch(), slot * self.size))

    def vectors(self, body, reverse=False):
        with self.c.loop(0, self.positions, self.width) as s: body(self.positions - self.width - s if reverse else s)

    def line(self, step: X, n: X) -> X:
        """Where the scores of one step of item n begin."""
        return (step * self.n + n) * self.classes

    def lengths(self, n: X) -> tuple[X, X]:
        """Of item n's input and target; what has no room counts as what has."""
        c = self.c
        return tuple(c.load(p, dt.int64, n).max(0).min(most) for p, most in ((self.inputs, self.steps), (self.targets, self.most)))


class _Item:
    def __init__(self, items: _Items, base: X):
        c, row = items.c, items.bytes_of_row
        self.items, self.c, self.t, self.symbols = items, c, items.t, base
        first = c.at(base, items.room * 8)
        self.skip, self.beta, self.post, self.alpha = (c.at(c.at(first, row * k), LEAD, items.t) for k in range(4))

    def fill(self, row: X, x: float):
        """A row and what is around it."""
        with self.c.loop(0, self.items.room, 1) as s: self.c.store(self.c.const(x, self.t), row, s - LEAD)

    def begin(self, n: X):
        """Labels with blanks around them; a blank, or an equal label two positions before, can't be skipped. alpha before the first step."""
        c, items = self.c, self.items
        self.fill(self.skip, float("-inf"))
        self.fill(self.alpha, float("-inf"))
        c.store(c.const(0.0, self.t), self.alpha)
        with c.loop(0, items.room) as s: c.store(items.blank, self.symbols, s)
        with c.loop(0, items.lengths(n)[1]) as i:
            label = c.checked(c.load(items.labels, dt.int64, n * items.most + i), items.classes, 0)
            c.store(label, self.symbols, i * 2 + 1)
            with c.when(i > 0), c.when(label.ne(c.load(self.symbols, dt.int64, i * 2 - 1))): c.store(c.const(0.0, self.t), self.skip, i * 2 + 1)

    def row(self, step: X) -> X: return self.c.at(self.alpha, step * self.items.kept, self.t)

    def emitted(self, line: X, s: X) -> X:
        c, t = self.c, self.t
        return X(c, c.b.gather(c.at(self.items.scores, line, t).v, c.load(self.symbols, dt.int64, s, self.items.width).v, t))

    def forward(self, step: X, n: X):
        """The row of alpha after `step`, from the last position down: it may be written over the one before."""
        c, t, w, before, after, line = self.c, self.t, self.items.width, self.row(step), self.row(step + 1), self.items.line(step, n)
        for k in range(LEAD): c.store(c.const(float("-inf"), t), after, c.i64(k - LEAD))

        def move(s):
            stay, on, skip = (c.load(before, t, s - k, w) for k in range(3))
            c.store(_log_sum([stay, on, skip + c.load(self.skip, t, s, w)]) + self.emitted(line, s), after, s)
        self.items.vectors(move, reverse=True)

    def loss(self, n: X) -> X:
        """-log of the probability to stand on the last label or the blank behind it."""
        c, (steps, targets) = self.c, self.items.lengths(n)
        row = self.row(steps)
        return -_log_sum([c.load(row, self.t, targets * 2), c.load(row, self.t, targets * 2 - 1)])

    def backward(self, step: X, n: X, loss: X) -> X:
        """beta before `step`; posteriors of its positions, and of the blank alone."""
        c, t, w, line, alpha = self.c, self.t, self.items.width, self.items.line(step, n), self.row(step + 1)
        blank, even = c.var(c.splat(c.const(0.0, t), w)), (c.iota(w) & 1).eq(0)

        def move(s):
            stay, on, skip = (c.load(self.beta, t, s + k, w) for k in range(3))
            rest = _log_sum([stay, on, skip + c.load(self.skip, t, s + 2, w)])
            post = (c.load(alpha, t, s, w) + rest + loss)._("exp")
            c.store(rest + self.emitted(line, s), self.beta, s)
            c.store(post, self.post, s)
            blank.add(even.where(post, 0.0))
        self.items.vectors(move)
        return X(c, c.b.reduce(blank.now.v, c.b.add))


def _in_turns(c: Code, items: _Items, body):
    """body(each, first item, slots) for groups of this thread's items; each(): a loop over (slot, item's number)."""
    lo, hi = c.share(items.n)
    with c.loop(lo, hi, items.at_once) as first:
        count = items.at_once.min(hi - first)

        def each(do):
            with c.loop(0, count) as k: do(items.at(k), first + k)
        each(lambda item, n: item.begin(n))
        with c.loop(0, items.steps) as step:
            def forward(item, n):
                with c.when(step < items.lengths(n)[0]): item.forward(step, n)
            each(forward)
        body(each)


def _loss(c: Code, t: dt.dtype, zero_infinity: bool):
    items = _Items(c, t, rows=False)

    def leave(item, n):
        loss = item.loss(n)
        c.store(loss.eq(float("inf")).where(0.0, loss) if zero_infinity else loss, items.result, n)
    _in_turns(c, items, lambda each: each(leave))


def _gradient(c: Code, t: dt.dtype, zero_infinity: bool):
    """exp(score) minus the posterior of its class, NaN wherever PyTorch's difference of infinities is; nothing behind an item's last step."""
    items = _Items(c, t, rows=True)

    def classes(line: X, values):
        """A line of the result, vector by vector: values(place, mask)."""
        with c.loop(0, items.classes, items.width) as i:
            mask = c.b.mask((items.classes - i).min(items.width).v, items.width)
            c.b.store_masked(values(line + i, mask).v, c.at(items.result, line + i, t).v, mask)

    def clear(step, n): classes(items.line(step, n), lambda place, mask: c.splat(c.const(0.0, t), items.width))

    def subtract(line: X, symbol: X, x: X): c.store(c.load(items.result, t, line + symbol) - x, items.result, line + symbol)

    def one(item, n, step, loss):
        line, blank = items.line(step, n), item.backward(step, n, loss)

        def spread(place, mask):
            score = X(c, c.b.load_masked(c.at(items.scores, place, t).v, t, mask))
            return score._("exp") + (score - score) + (loss - loss)
        classes(line, spread)
        subtract(line, items.blank, blank)
        with c.loop(0, items.lengths(n)[1]) as i:
            s = i * 2 + 1
            subtract(line, c.load(item.symbols, dt.int64, s), c.load(item.post, t, s))

    def back(each):
        def start(item, n):
            item.fill(item.beta, float("-inf"))
            c.store(c.const(0.0, t), item.beta, items.lengths(n)[1] * 2)
            c.store(item.loss(n), item.post, LOSS)
        each(start)
        with c.loop(0, items.steps) as k:
            step = items.steps - 1 - k

            def walk(item, n):
                loss, here = c.load(item.post, t, LOSS), step < items.lengths(n)[0]
                if zero_infinity: here = here & loss.ne(float("inf"))
                with c.either(here) as otherwise:
                    one(item, n, step, loss)
                    otherwise()
                    clear(step, n)
            each(walk)
    _in_turns(c, items, back)


def ctc(n: Native) -> Launch:
    kind, t, _ = n.spec
    steps, count, _, labels, *_ = n.words
    room = _room(t, labels)
    rows = steps + 1 if kind == "gradient" else 1
    size = room * (8 + (3 + rows) * t.size)
    at_once = max(min(KEPT // size, AT_ONCE, count), 1)
    return launch(n, program(f"ctc_{kind}", _loss if kind == "loss" else _gradient, *n.spec[1:]), (*n.words, at_once), scratch=at_once * size)


ROUTINES = {"ctc": ctc}
