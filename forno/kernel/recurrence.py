"""A recurrent layer over a whole sequence in one call, forward or backward: per step one product for all gates, then the cell.

Comes in: a Native of dnn/recurrence.py, operands dense, wherever they begin. Goes out: a Launch.

    forward    gates = x[t] + h Wᵀ, cell                  operands x, w, h[, c or b]; result hidden states, an LSTM's last c, what is kept of every step
    backward   cell, gradient of h = that of the gates · W, from the last step to the first             operands g, o, w[, kept]; result flat

Threads share panels of hidden columns: each packs its part of the weights once, and keeps it in its L2 for all steps. A step's product needs what all threads
made in the step before (forward) or in this one (backward), so they meet once per step. Sums have one order, however many threads make them.
"""
from __future__ import annotations

from contextlib import contextmanager

from ..core import dtype as dt
from ..core.errors import unsupported
from ..core.kernels import Launch, Native
from ..core.kernels import Program as Code
from ..cpu import code
from . import pack
from .text import Val
from .tile import Program, Tile, entry, kernel_of, micro, tile

GATES = {"lstm": 4, "gru": 3, "tanh": 1, "relu": 1}
KEPT = {"lstm": 5, "gru": 4, "tanh": 0, "relu": 0}
PARALLEL_FLOPS = 500_000                       # of a step: below this meeting costs more than another thread saves
ROOM = 64                                      # elements behind panels, which are written in whole vectors

GIVEN = "steps batch size reverse kept".split()
WORDS = ["driver", "micro", *GIVEN, "panels", "height", "taller"]               # then where the operands begin


class Layer:
    """A direction's run-time numbers and places. `columns`: the panels of hidden columns that this thread makes."""

    def __init__(self, p: Program, t: Tile, mode: str, ctx, w):
        self.p, self.t, self.mode, self.gates, self.ctx = p, t, mode, GATES[mode], ctx
        for i, name in enumerate(WORDS):
            if name not in ("driver", "micro"): setattr(self, name, p.read(w, i))
        self.table, self.scratch, self.shared = p.read_pointer(w, WORDS.index("micro")), p.read_pointer(ctx, 2), p.read_pointer(ctx, 3)
        count = p.ceil_div(self.size, t.columns)
        self.state, self.pitch = self.batch * self.size, count * t.columns
        self.columns = p.share(count, p.read(ctx, 1), p.read(ctx, 0))

    def at(self, base, i): return self.p.offset(base, i, self.t.acc)

    def meet(self):
        """All threads have come here, and see what the others wrote."""
        p = self.p
        with p.if_(p.read(self.ctx, 1) > 1): p.put(f"call void {p.read_pointer(self.ctx, 4).text}({self.ctx})")

    def time(self, s, backward=False):
        """The step that is walked as number s."""
        last = self.steps - 1 - s
        return self.p.pick(self.reverse.eq(int(backward)), s, last)

    def after(self, t): return (t + 1 - self.reverse) * self.state             # where the hidden state behind step t lies among all
    def before(self, t): return (t + self.reverse) * self.state

    @contextmanager
    def tiles(self):
        """For all panels of this thread's columns, for all of the batch's rows: (first column, columns, first row, rows)."""
        p = self.p
        with p.loop(*self.columns) as j, p.loop(0, self.panels) as q:
            more = q < self.taller
            col = j * self.t.columns
            yield col, p.min(self.size - col, self.t.columns), q * self.height + p.pick(more, q, self.taller), self.height + p.pick(more, 1, 0)

    def vectors(self, first, cols, body):
        """body(column, mask) for the vectors of `cols` columns from the first on. Whole ones have no mask: masked stores are slow."""
        p, L = self.p, self.t.lanes
        whole = cols // L * L
        with p.loop(0, whole, L) as v: body(first + v, None)
        with p.if_(whole.ne(cols)): body(first + whole, p.mask(cols - whole, L))

    def own(self, body):
        """body(row, column, mask) for all vectors of this thread's columns."""
        with self.tiles() as (col, cols, row, rows), self.p.loop(row, row + rows) as r: self.vectors(col, cols, lambda c, mask: body(r, c, mask))

    def multiply(self, a, depth, panel, c, pitch, rows, cols, adding):
        """c (+)= a · panel, `rows` rows of a that follow each other."""
        p, t = self.p, self.t
        kernel = kernel_of(p, t, self.table, rows, p.ceil_div(cols, t.lanes), 1)
        p.run(kernel, a, panel, c, depth, t.columns, pitch, adding, depth, 1)

    def load(self, base, i, mask=None):
        at, t = self.at(base, i), self.t
        return self.p.load(at, t.acc, t.lanes) if mask is None else self.p.load_masked(at, t.acc, mask)

    def store(self, x, base, i, mask=None):
        if mask is None: self.p.store(x, self.at(base, i))
        else: self.p.store_masked(x, self.at(base, i), mask)

    def parts(self, base, row, col, mask, n):
        """n vectors that lie H apart in a row of n · H."""
        return [self.load(base, row * (self.size * n) + k * self.size + col, mask) for k in range(n)]

    def put_parts(self, xs, base, row, col, mask):
        for k, x in enumerate(xs): self.store(x, base, row * (self.size * len(xs)) + k * self.size + col, mask)


# ---- cells: arithmetic on vectors
class Number:
    """A vector with Python's operators."""
    __slots__ = ("p", "v")

    def __init__(self, p: Program, v: Val): self.p, self.v = p, v

    def _with(self, op, o): return Number(self.p, getattr(self.p, op)(self.v, o.v if isinstance(o, Number) else o))
    def __add__(self, o): return self._with("add", o)
    def __sub__(self, o): return self._with("sub", o)
    def __mul__(self, o): return self._with("mul", o)
    def __rsub__(self, o): return Number(self.p, self.p.sub(self.p.const(o, self.v), self.v))
    def tanh(self): return Number(self.p, self.p.tanh(self.v))
    def sigmoid(self): return Number(self.p, self.p.sigmoid(self.v))


def numbers(p: Program, xs): return [Number(p, x) for x in xs]


def lstm(x, product, c):
    """(h, c, what is kept)"""
    i, forget, new, out = (y + z for y, z in zip(x, product))
    i, forget, new, out = i.sigmoid(), forget.sigmoid(), new.tanh(), out.sigmoid()
    now = forget * c + i * new
    return out * now.tanh(), now, (i, forget, new, out, c)


def lstm_back(g, at_c, kept):
    """(gradients of the gates, of c before)"""
    i, forget, new, out, c = kept
    up = (forget * c + i * new).tanh()
    at_c = at_c + g * out * (1.0 - up * up)
    return (at_c * new * i * (1.0 - i), at_c * c * forget * (1.0 - forget), at_c * i * (1.0 - new * new), g * up * out * (1.0 - out)), at_c * forget


def gru(x, product, bias, h):
    """(h, what is kept)"""
    reset, update, hidden = (y + z for y, z in zip(product, bias))
    reset, update = (x[0] + reset).sigmoid(), (x[1] + update).sigmoid()
    new = (x[2] + reset * hidden).tanh()
    return new + update * (h - new), (reset, update, new, hidden)


def gru_back(g, kept, h):
    """(gradients of the gates' input part, of their hidden part, of h without the product's)"""
    reset, update, new, hidden = kept
    at_new = g * (1.0 - update) * (1.0 - new * new)
    both = at_new * hidden * reset * (1.0 - reset), g * (h - new) * update * (1.0 - update)
    return (*both, at_new), (*both, at_new * reset), g * update


# ---- forward
def _forward(f: Layer, x, w, h, more, out):
    p, t = f.p, f.t
    with p.loop(*f.columns) as j:                                              # panels of W's rows, those of one gate after the other
        col = j * t.columns
        for g in range(f.gates):
            p.run("panel", f.at(w, (col + g * f.size) * f.size), f.size, 1, f.at(f.shared, (j * f.gates + g) * f.size * t.columns), t.columns,
                  p.min(f.size - col, t.columns), f.size)
    last_c = (f.steps + 1) * f.state
    kept = f.at(out, last_c + (f.state if f.mode == "lstm" else 0))

    def begin(r, c, mask):
        i = r * f.size + c
        f.store(f.load(h, i, mask), out, f.reverse * f.steps * f.state + i, mask)
        if f.mode == "lstm": f.store(f.load(more, i, mask), out, last_c + i, mask)
    f.own(begin)
    with p.loop(0, f.steps) as s:
        f.meet()
        now = f.time(s)
        before, after = f.before(now), f.after(now)
        with f.tiles() as (col, cols, row, rows):
            for g in range(f.gates):
                panel = f.at(f.shared, (col // t.columns * f.gates + g) * f.size * t.columns)
                f.multiply(f.at(out, before + row * f.size), f.size, panel, f.at(f.scratch, g * t.rows * t.columns), t.columns, rows, cols, 0)

            def cell(i, c, mask):
                line, place = now * f.batch + row + i, (row + i) * f.size + c
                mine = numbers(p, f.parts(x, line, c, mask, f.gates))
                theirs = numbers(p, [f.load(f.scratch, (g * t.rows + i) * t.columns + c - col) for g in range(f.gates)])
                saved = ()
                if f.mode == "lstm":
                    state, now_c, saved = lstm(mine, theirs, Number(p, f.load(out, last_c + place, mask)))
                    f.store(now_c.v, out, last_c + place, mask)
                elif f.mode == "gru":
                    state, saved = gru(mine, theirs, numbers(p, f.parts(more, p.int(0), c, mask, 3)), Number(p, f.load(out, before + place, mask)))
                elif f.mode == "tanh": state = (mine[0] + theirs[0]).tanh()
                else: state = Number(p, p.max(0, (mine[0] + theirs[0]).v))
                f.store(state.v, out, after + place, mask)
                if saved:
                    with p.if_(f.kept.ne(0)): f.put_parts([y.v for y in saved], kept, line, c, mask)
            with p.loop(0, rows) as i: f.vectors(col, cols, lambda c, mask: cell(i, c, mask))


# ---- backward
def _backward(f: Layer, g, o, w, kept, out):
    p, t = f.p, f.t
    depth = f.size * f.gates
    carry, panels = f.shared, f.at(f.shared, f.batch * f.pitch + ROOM)         # the gradient of h, rows `pitch` apart
    mine_end = f.steps * f.batch * depth
    at_h, at_c = f.at(out, mine_end), f.at(out, mine_end + f.state)
    hidden = at_c if f.mode == "gru" else out                                  # gradients of the gates' hidden part
    with p.loop(*f.columns) as j:
        col = j * t.columns
        p.run("panel", f.at(w, col), 1, f.size, f.at(panels, col * depth), t.columns, p.min(f.size - col, t.columns), depth)

    def begin(r, c, mask):
        f.store(p.const(0, t.acc, t.lanes), carry, r * f.pitch + c)
        if f.mode == "lstm": f.store(f.load(g, (f.steps + 1) * f.state + r * f.size + c, mask), at_c, r * f.size + c, mask)
    f.own(begin)
    with p.loop(0, f.steps) as s:
        now = f.time(s, backward=True)

        def cell(r, c, mask):
            place, line, here = r * f.size + c, now * f.batch + r, r * f.pitch + c
            grad = Number(p, p.add(f.load(carry, here), f.load(g, f.after(now) + place, mask)))
            saved = numbers(p, f.parts(kept, line, c, mask, KEPT[f.mode]))
            if f.mode == "lstm":
                gates, before_c = lstm_back(grad, Number(p, f.load(at_c, place, mask)), saved)
                f.store(before_c.v, at_c, place, mask)
            elif f.mode == "gru":
                gates, theirs, rest = gru_back(grad, saved, Number(p, f.load(o, f.before(now) + place, mask)))
                f.put_parts([y.v for y in theirs], hidden, line, c, mask)
                f.store(rest.v, carry, here)
            else:
                state = Number(p, f.load(o, f.after(now) + place, mask))
                gates = grad * (1.0 - state * state) if f.mode == "tanh" else Number(p, p.select(p.le(state.v, 0.0), p.const(0, state.v), grad.v)),
            f.put_parts([y.v for y in gates], out, line, c, mask)
        f.own(cell)
        f.meet()
        with f.tiles() as (col, cols, row, rows):
            a = f.at(hidden, (now * f.batch + row) * depth)
            f.multiply(a, depth, f.at(panels, col * depth), f.at(carry, row * f.pitch + col), f.pitch, rows, cols, int(f.mode == "gru"))

    def end(r, c, mask):
        place = r * f.size + c
        first = f.load(g, f.reverse * f.steps * f.state + place, mask)         # the first state is one of o's rows
        f.store(p.add(f.load(carry, r * f.pitch + c), first), at_h, place, mask)
    f.own(end)


@code.program("main")
def driver(which: str, mode: str, stored: dt.dtype) -> str:
    """The address of main(ctx, vals, words, w): w are WORDS."""
    p, t = Program(), tile(stored)
    pack.write(p, "panel", stored, t, True)
    with p.define("main", "ptr ctx, ptr vals, ptr words, ptr w", internal=False) as (ctx, vals, words, w):
        more = mode in ("lstm", "gru")                                       # forward: c or b; backward: kept
        *operands, out = (p.read_pointer(vals, p.read(words, i)) for i in range(4 + more))
        operands = [p.offset(x, p.read(w, len(WORDS) + i), stored) for i, x in enumerate(operands)] + [None] * (not more)
        (_forward if which == "forward" else _backward)(Layer(p, t, mode, ctx, w), *operands, out)
    return p.module()


def build(n: Native) -> Launch:
    which, mode, stored = n.spec
    if stored not in (dt.float32, dt.float64): raise unsupported("recurrence", stored, instead="run it step by step")
    t, values = tile(stored), dict(zip(GIVEN, n.words))
    batch, size, gates, kernels = values["batch"], values["size"], GATES[mode], micro(stored)
    panels, count = -(-batch // t.rows), -(-size // t.columns)
    height, taller = divmod(batch, panels)
    for rows in {height, height + (taller > 0)}:
        for vectors in {t.vectors * (size >= t.columns), -(-(size % t.columns) // t.lanes)} - {0}: kernels.need(rows, vectors, direct=True)
    values.update(driver=driver(which, mode, stored)[0], micro=kernels.address, panels=panels, height=height, taller=taller)
    address, text = entry(len(n.operands))
    flops, pitch = 2 * batch * size * size * gates, count * t.columns
    room = pitch * size * gates + ROOM + (batch * pitch + ROOM if which == "backward" else 0)
    return Launch(Code("recurrence", address, text), (*(values[x] for x in WORDS), *n.words[len(GIVEN):]), flops > PARALLEL_FLOPS and count > 1,
                  scratch=gates * t.rows * t.columns * stored.size, shared=room * stored.size, bytes=n.work * stored.size, flops=flops * values["steps"])
