"""From a group of values to the body of one loop nest.

Comes in: a fused group. Goes out: a Draft, a kernels.Nest whose operands are still values instead of places.

The body is pulled from its stores: a value asks for its operands at the indices it needs them (a View from loop index to logical position),
down to loads. Asking twice at the same indices gives the same body entry.
"""
from __future__ import annotations

import math
from dataclasses import replace

from ..core import dtype as dt
from ..core import kernels as k
from ..core.graph import Scalar, Value
from ..core.op import TABLE
from ..core.shape import View, compose, expand_strides
from . import frame
from .fuse import Fusion, Group
from .layout import held, root_of
from .values import MOVE, SINK, Literal, is_identity, numel, operand_dtypes

NUMBER_DTYPE = {bool: dt.int64, int: dt.int64, float: dt.float64, complex: dt.complex128}


class Draft:
    """`operands`: a Value whose buffer it is, or a Scalar. `body` entries name operands by position."""
    __slots__ = ("axes", "window", "operands", "modes", "dtypes", "body", "levels")

    def reads(self): return [x for x, m in zip(self.operands, self.modes) if "r" in m]
    def writes(self): return [x for x, m in zip(self.operands, self.modes) if "w" in m]

    def accesses(self, position: int, kind) -> list:
        """Loads (or Stores) of one operand."""
        return [e for e in self.body if e.__class__ is kind and e.operand == position]

    def last_pass(self) -> int:
        """Passes over the window, counted from 0: a store in the last one comes after every load."""
        out = 0
        for e in self.body:
            if e.__class__ in (k.Reduce, k.Store): out = max(out, self.levels[e.arg])
        return out

    def retarget(self, old: int, new: int):
        """Loads of operand `old` become loads of `new`, which is the same memory."""
        self.body = [replace(e, operand=new) if e.__class__ is k.Load and e.operand == old else e for e in self.body]
        self.modes[new], self.modes[old] = "rw", ""

    def nest(self, label: str) -> tuple[k.Nest, list]:
        """The noun, and the operands that are left, in its order."""
        keep = [i for i, m in enumerate(self.modes) if m]
        body = self.body
        if len(keep) != len(self.modes):
            at = {old: new for new, old in enumerate(keep)}
            body = [replace(e, operand=at[e.operand]) if e.__class__ in (k.Load, k.Store, k.Number) else e for e in body]
        operands = tuple([k.Operand(self.dtypes[i], self.modes[i]) for i in keep])
        return k.Nest(self.axes, self.window, operands, tuple(body), label), [self.operands[i] for i in keep]


class Writer:
    """Writes one group's body."""

    def __init__(self, fusion: Fusion, g: Group, needed: set[int]):
        self.fusion, self.layout, self.g, self.needed = fusion, fusion.layout, g, needed
        axes = frame.axes(g.cuts, g.window)
        self.inner = frame.inner_map(g.cuts, g.window)
        self.outer = frame.outer_map(g.cuts, g.window) if g.window else self.inner
        self.perm = [i for i, a in enumerate(axes) if not a[2]] + [i for i, a in enumerate(axes) if a[2]]
        self.split = sum([not a[2] for a in axes])
        self.lengths = [axes[i][0] for i in self.perm]
        self.body: list = []
        self.dtypes: list = []
        self.levels: list[int] = []                # how many reductions deep
        self.varies: list[bool] = []               # with the window
        self.seen: dict = {}
        self.at: dict = {}
        self.made: dict[int, Value] = {}           # values computed here, in order
        self.read: set[int] = set()                # values loaded here
        self.operands: list = []
        self.modes: list[str] = []
        self.operand_dtypes: list = []
        self.operand_at: dict = {}

    def draft(self) -> Draft:
        stores = []
        for n in self.g.nodes:
            if id(n) in self.fusion.inlined: continue
            at = self.outer if id(n) in self.g.outer else self.inner
            if n.op is SINK:
                target, view = n.attr
                buffer = self.fusion.buffer(target)
                stores.append((buffer, n, compose(view, at) if not is_identity(view, numel(n)) else at))
            elif id(n) in self.needed:
                laid = self.layout.laid.get(id(n))
                stores.append((n, n, compose(laid, at) if laid is not None else at))
        args = [self.value(n, self.outer if id(n) in self.g.outer else self.inner) for _, n, _ in stores]
        for (buffer, n, to), arg in zip(stores, args):                # after every load: a store may go where a load came from
            if to is None: raise AssertionError(f"no affine place for {n!r}")
            self.add(k.Store(self.operand(buffer, "w", n.dtype), arg, self.ordered(to), to.offset, n.dtype), n.dtype)
        d = Draft()
        d.axes, d.window = tuple(self.lengths[:self.split]), tuple(self.lengths[self.split:])
        d.operands, d.modes, d.dtypes, d.body, d.levels = self.operands, self.modes, self.operand_dtypes, self.body, self.levels
        return d

    # ---- entries
    def ordered(self, at: View) -> tuple[int, ...]: return tuple([at.strides[i] for i in self.perm])

    def add(self, entry, dtype, level=0, varies=False) -> int:
        key = entry if entry.__class__ is not k.Const else (repr(entry.value), dtype)
        at = self.seen.get(key)
        if at is None:
            at = self.seen[key] = len(self.body)
            self.body.append(entry); self.dtypes.append(dtype); self.levels.append(level); self.varies.append(varies)
        return at

    def operand(self, x, mode: str, dtype=None) -> int:
        """`dtype`: the type its bytes are read as, if it isn't its own."""
        if dtype is None: dtype = x.dtype if x.__class__ is Value else NUMBER_DTYPE[x.type]
        key = (id(x), dtype) if x.__class__ is Value else x
        at = self.operand_at.get(key)
        if at is None:
            at = self.operand_at[key] = len(self.operands)
            self.operands.append(x)
            self.modes.append(mode)
            self.operand_dtypes.append(dtype)
        elif mode not in self.modes[at]: self.modes[at] = "rw"
        return at

    def convert(self, at: int, dtype) -> int:
        return at if self.dtypes[at] is dtype else self.add(k.Cast(at, dtype), dtype, self.levels[at], self.varies[at])

    def call(self, op, args, dtype) -> int:
        return self.add(k.Apply(op, tuple(args), dtype), dtype, max([self.levels[a] for a in args]), any([self.varies[a] for a in args]))

    def const(self, value, dtype) -> int:
        t = dtype.opmath
        if t.category == dt.FLOAT: value = float(value)
        elif t.category == dt.COMPLEX: value = complex(value)
        elif t.category == dt.INT: value = int(value)
        else: value = bool(value)
        return self.add(k.Const(value, t), t)

    def number(self, x: Scalar, dtype) -> int:
        return self.add(k.Number(self.operand(x, "n"), dtype.opmath), dtype.opmath)

    # ---- values
    def value(self, r: Value, at: View) -> int:
        """The body entry that is r's element at these indices, in r's own dtype."""
        key = (id(r), at.strides, at.offset)
        out = self.at.get(key)
        if out is not None: return out
        fusion = self.fusion
        again = id(r) in fusion.inlined or id(r) in self.g.again
        if again or fusion.free(r) and fusion.computable(r, at, ()): out = self.make(r, at)
        elif id(r) in fusion.home and fusion.of(r) is self.g and id(r) not in fusion.sinks:
            mine = self.outer if id(r) in self.g.outer else self.inner
            if at.strides != mine.strides or at.offset: raise AssertionError(f"{r!r} is read at other indices than its group computes it")
            out = self.make(r, at)
        else: out = self.load(r, at)
        self.at[key] = out
        return out

    def make(self, r: Value, at: View) -> int:
        out = self.compute(r, at)
        self.made[id(r)] = r
        return out

    def load(self, r: Value, at: View) -> int:
        laid = self.layout.laid.get(id(r))
        if laid is not None: at = compose(laid, at)
        if at is None: raise AssertionError(f"no affine order for reading {r!r}")
        self.read.add(id(held(r)))
        strides = self.ordered(at)
        return self.add(k.Load(self.operand(self.fusion.buffer(r), "r", r.dtype), r.dtype, strides, at.offset), r.dtype, 0, any(strides[self.split:]))

    def argument(self, shape, x: Value, at: View) -> int:
        """Operand x of a value of this shape, whose element lies at `at`."""
        root, w = root_of(x)
        if w.shape != shape: w = View(shape, expand_strides(w.shape, w.strides, shape), w.offset)
        return self.value(root, at if is_identity(w, numel(root)) else compose(w, at))

    def compute(self, r: Value, at: View) -> int:
        op = r.op
        if op is MOVE or op is SINK: return self.argument(r.shape, r.ins[0], at)
        if op.name == "full": return self.convert(self.number(r.ins[0], r.dtype) if r.ins else self.const(r.attr[2], r.dtype), r.dtype)
        if op.name == "iota": return self.ramp(r, at)
        if op.kind == "reduce": return self.reduce(r)
        if op.name == "cast": return self.convert(self.argument(r.shape, r.ins[0], at), r.dtype)
        args = []
        for i, (x, t) in enumerate(zip(r.ins, operand_dtypes(r))):
            if x.__class__ is Value: args.append(self.convert(self.convert(self.argument(r.shape, x, at), t), t.opmath))
            elif x.__class__ is Literal: args.append(self.const(x.value, t))
            elif i in op.rounds: args.append(self.convert(self.convert(self.number(x, t), t), t.opmath))
            else: args.append(self.number(x, t))
        return self.convert(self.call(op, args, r.dtype.opmath), r.dtype)

    def ramp(self, r: Value, at: View) -> int:
        """start + step * index; integers in int64, floats in float64, as aten computes arange."""
        _, dtype, start, step = r.attr
        if r.ins: start, step = r.ins
        wide = dt.int64 if dtype.category < dt.FLOAT else dt.float64
        strides = self.ordered(at)
        varies = any(strides[self.split:])
        if not any(strides) and not r.ins: return self.convert(self.const(start + step * at.offset, dtype), dtype)
        if wide is dt.int64 and not r.ins:
            i = self.add(k.Index(tuple([s * int(step) for s in strides]), at.offset * int(step) + int(start), wide), wide, 0, varies)
            return self.convert(i, dtype)
        i = self.add(k.Index(strides, at.offset, dt.int64), dt.int64, 0, varies) if any(strides) else self.const(at.offset, dt.int64)
        i = self.convert(i, wide)
        start, step = [self.number(x, wide) if x.__class__ is Scalar else self.const(x, wide) for x in (start, step)]
        return self.convert(self.convert(self.call(TABLE["add"], (self.call(TABLE["mul"], (i, step), wide), start), wide), dtype.opmath), dtype)

    def reduce(self, r: Value) -> int:
        x, combine = r.ins[0], r.op.combine
        arg = self.argument(x.shape, x, self.inner)
        if combine in ("any", "all"): t = dt.bool
        elif combine in ("argmax", "argmin"): t = x.dtype.opmath
        else: t = r.dtype.opmath
        if combine in ("sum", "prod", "max", "min") and self.dtypes[arg] is not r.dtype: arg = self.convert(arg, r.dtype)
        arg = self.convert(arg, t)
        out = dt.int64 if combine in ("argmax", "argmin") else t
        if not self.varies[arg] and combine != "prod":                # the same element over and over
            count = math.prod(self.lengths[self.split:])
            if combine == "sum": return self.convert(self.call(TABLE["mul"], (arg, self.const(count, out)), out), r.dtype)
            return self.convert(self.const(0, out) if combine.startswith("arg") else arg, r.dtype)
        return self.convert(self.add(k.Reduce(combine, arg, out), out, self.levels[arg] + 1), r.dtype)


def written_in_place(draft: Draft, base: Value, target: Value, laid: dict):
    """A put of what was computed from the very elements it overwrites reads them from the result's buffer, which starts as the base's copy."""
    if id(base) in laid: return
    at = {id(x): i for i, x in enumerate(draft.operands) if x.__class__ is Value and draft.dtypes[i] is target.dtype}
    old, new = at.get(id(base)), at.get(id(target))
    if old is None or new is None or draft.modes[old] != "r": return
    stores = draft.accesses(new, k.Store)
    if len(stores) != 1: return
    there = stores[0].strides, stores[0].offset
    if all([(e.strides, e.offset) == there for e in draft.accesses(old, k.Load)]): draft.retarget(old, new)
