"""Attention on a GPU without a matrix of scores in memory: softmax(scale · Q Kᵀ + mask) V and its three gradients, for any type and strides.

Comes in: a Native of dnn/attention.py, whose words say where operands lie. Goes out: DeviceLaunches. 32 keys (or queries) at a time, a warp has

    forward       a query: a lane per key for scores, running maximum and sum; then a lane per column of V
    backward, Q   a query: weights exp(score - lse), slopes weight · (g·v - δ), δ = g·o, which it leaves in scratch; then a lane per column of K
    backward, KV  a key, and all queries of its head's group in order: a lane per query; then a lane per column of Q and of G

Sums have one order. Each warp adds into its own line of the result.
"""
from __future__ import annotations

from ....core import dtype as dt
from ....core.errors import unsupported
from ....core.kernels import DeviceLaunch, Native
from ....cpu.isa import Isa
from ...attention import BACKWARD, FORWARD, GIVEN, POSITIONS
from ...routines.code import X
from ...routines.index import Words
from .code import WARP, Device, blocks, chain, stage

WARPS = 4                                      # of a block
NONE = float("-inf")


class Heads:
    """The words of a direction, and what the warps of its kernels do."""

    def __init__(self, c: Device, which: str, stored: dt.dtype, mask: dt.dtype | None, rank: int):
        self.c, self.stored, self.mask, self.t = c, stored, mask, stored.opmath
        names = [*(FORWARD if which == "forward" else BACKWARD), *(["m"] if mask is not None else [])]
        w, at = Words(c, len(c.operands)), POSITIONS[which]
        self.queries, self.keys, self.depth, self.width, self.group, self.causal, self.saved, scale, _ = w(len(GIVEN))
        self.scale = scale.bits(dt.float64).to(self.t)
        self.base, self.start, self.row, self.col = {name: c.operand(at[name]) for name in names}, {}, {}, {}
        for name in names: self.start[name], self.row[name], self.col[name] = w(3)
        self.axes = [(w(), dict(zip(names, w(len(names))))) for _ in range(rank)]
        self.items, self.result = c.const(1), c.operand(len(c.operands) - 1)
        for length, _ in self.axes: self.items = self.items * length

    def type(self, name: str) -> dt.dtype: return {"m": self.mask, "l": self.t}.get(name, self.stored)

    def of(self, item: X) -> dict:
        """Where every operand's matrix of this item begins."""
        places = dict(self.start)
        for d in range(len(self.axes) - 1, -1, -1):
            length, strides = self.axes[d]
            i, item = (item % length, item // length) if d else (item, item)
            places = {name: at + i * strides[name] for name, at in places.items()}
        return {name: self.c.at(self.base[name], at, self.type(name)) for name, at in places.items()}

    def load(self, x: dict, name: str, i: X, j=0) -> X:
        return self.c.load(x[name], self.type(name), i * self.row[name] + self.col[name] * j).to(self.t)

    def dot(self, x: dict, a: str, i: X, b: str, j: X, n: X, first=0, step=1) -> X:
        """Row i of a times row j of b."""
        total = self.c.var(self.c.const(0, self.t))
        with self.c.loop(first, n, step) as d: total.set(self.load(x, a, i, d).fma(self.load(x, b, j, d), total.now))
        return total.now

    def score(self, x: dict, q: X, key: X, seen: X) -> X:
        """Of a query and a key that are there; what isn't `seen` has no weight."""
        s = self.dot(x, "q", q, "k", key, self.depth) * self.scale
        if self.mask is not None:
            m = self.c.load(x["m"], self.mask, q * self.row["m"] + key * self.col["m"])
            s = m.where(s, NONE) if self.mask is dt.bool else s + m.to(self.t)
        return seen.where(s, NONE)

    def total(self, x: X) -> X: return self.c.over_warp((x,), lambda a, b: (a[0] + b[0],))[0]

    def add(self, out: X, n: X, weight: X, count: X, x: dict, name: str, first: X, factor: X | None = None):
        """out[j] = factor · out[j] + Σ over the first `count` lanes of their weight · row (first + lane) of an operand; a lane per j."""
        c = self.c
        with c.loop(0, n, WARP) as column:
            j = column + c.lane
            inside, here = j < n, j.min(n - 1)
            total = c.var(c.either_of(inside, lambda: (c.load(out, self.t, j),), lambda: (c.const(0, self.t),))[0])
            if factor is not None: total.set(total.now * factor)
            with c.loop(0, count) as k: total.set(c.from_lane(weight, k).fma(self.load(x, name, first + k, here), total.now))
            with c.when(inside): c.store(total.now, out, j)

    def clear(self, out: X, n: X):
        with self.c.loop(self.c.lane, n, WARP) as j: self.c.store(self.c.const(0, self.t), out, j)

    def last_seen(self, q: X) -> X: return self.causal.ne(0).where((q + 1).min(self.keys), self.keys)


def _attention_forward(c: Device, *spec):
    f = Heads(c, "forward", *spec)
    with c.each_warp(f.items * f.queries) as unit:
        item, q = unit // f.queries, unit % f.queries
        x, keys, out = f.of(item), f.last_seen(q), c.at(f.result, unit * f.width, f.t)
        f.clear(out, f.width)
        top, total = c.var(c.const(NONE, f.t)), c.var(c.const(0, f.t))
        with c.loop(0, keys, WARP) as first:
            key = first + c.lane
            score = f.score(x, q, key.min(keys - 1), key < keys)
            now = top.now.max(c.over_warp((score,), lambda a, b: (a[0].max(b[0]),))[0])
            shift = now.eq(NONE).where(0.0, now)                             # nothing seen so far
            weight, factor = (score - shift)._("exp"), (top.now - shift)._("exp")
            total.set(total.now * factor + f.total(weight))
            top.set(now)
            f.add(out, f.width, weight, (keys - first).min(WARP), x, "v", first, factor)
        none = total.now.eq(0.0)               # every key is masked: zeros, and weights that stay zero in backward
        part = none.where(0.0, c.const(1, f.t) / total.now)
        with c.loop(c.lane, f.width, WARP) as j: c.store(c.load(out, f.t, j) * part, out, j)
        with c.when(c.lane.eq(0) & f.saved.ne(0)):
            c.store(none.where(float("inf"), top.now + total.now._("log")), f.result, f.items * f.queries * f.width + unit)


def _attention_queries(c: Device, *spec):
    f = Heads(c, "backward", *spec)
    with c.each_warp(f.items * f.queries) as unit:
        item, q = unit // f.queries, unit % f.queries
        x, keys, out = f.of(item), f.last_seen(q), c.at(f.result, unit * f.depth, f.t)
        delta, lse = f.total(f.dot(x, "g", q, "o", q, f.width, c.lane, WARP)), f.load(x, "l", q)
        with c.when(c.lane.eq(0)): c.store(delta, c.scratch(), unit)
        f.clear(out, f.depth)
        with c.loop(0, keys, WARP) as first:
            key, here = first + c.lane, (first + c.lane).min(keys - 1)
            weight = (f.score(x, q, here, key < keys) - lse)._("exp")
            slope = weight * (f.dot(x, "g", q, "v", here, f.width) - delta) * f.scale
            f.add(out, f.depth, slope, (keys - first).min(WARP), x, "k", first)


def _attention_keys(c: Device, *spec):
    c.b.tuning = ' "nvvm.minctasm"="4"'        # half of the threads that ptxas would make room for: it spills then
    f = Heads(c, "backward", *spec)
    units = f.items // f.group
    with c.each_warp(units * f.keys) as line:
        unit, key = line // f.keys, line % f.keys
        all_q = f.items * f.queries * f.depth
        dk, dv = c.at(f.result, all_q + line * f.depth, f.t), c.at(f.result, all_q + units * f.keys * f.depth + line * f.width, f.t)
        f.clear(dk, f.depth)
        f.clear(dv, f.width)
        with c.loop(0, f.group) as member:
            item = unit * f.group + member
            x = f.of(item)
            with c.loop(f.causal.ne(0).where(key & -WARP, c.const(0)), f.queries, WARP) as first:
                q, here = first + c.lane, (first + c.lane).min(f.queries - 1)
                seen = (q < f.queries) & (f.causal.eq(0) | (key <= q))
                weight = (f.score(x, here, key, seen) - f.load(x, "l", here))._("exp")
                slope = weight * (f.dot(x, "g", here, "v", key, f.width) - c.load(c.scratch(), f.t, item * f.queries + here)) * f.scale
                count = (f.queries - first).min(WARP)
                f.add(dk, f.depth, slope, count, x, "q", first)
                f.add(dv, f.width, weight, count, x, "g", first)


def attention(n: Native, isa: Isa) -> DeviceLaunch:
    which, stored, mask = n.spec
    if stored.category != dt.FLOAT: raise unsupported(n.label, stored, "cuda", "convert the operands to a floating-point type")
    given = dict(zip(GIVEN, n.words))
    names, items = len(POSITIONS[which]) - (mask is None), 1
    for length in n.words[len(GIVEN) + 3 * names::names + 1]: items *= length
    spec, queries, threads = (stored, mask, given["rank"]), items * given["queries"], WARPS * WARP
    if which == "forward": return stage(n, isa, _attention_forward, spec, n.words, blocks(queries, WARPS), threads)
    keys = items // given["group"] * given["keys"]
    return chain([stage(n, isa, _attention_queries, spec, n.words, blocks(queries, WARPS), threads),
                  stage(n, isa, _attention_keys, spec, n.words, blocks(keys, WARPS), threads)], queries * stored.opmath.size)


ROUTINES = {"attention": attention}
