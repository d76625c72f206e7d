"""A scheduled loop nest as LLVM IR.

Comes in: a Schedule. Goes out: the text of `void nest(ctx, vals, words)` and the keys of its words; `nest.numbers` turns keys into integers for any
schedule of the same spec.

The kernel is a loop over units of work (a parallel index, or a block of lanes of one; times a chunk of the window if it is split). Inside a unit
the window is walked once per pass; each walk ends in the results of its Reduces, which later walks use. A Scope is the inside of some loops: it knows
their indices and the values and addresses already computed there. Every value is computed in the outermost scope that knows all its loops.
"""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..core.kernels import Apply, Cast, Const, Index, Load, Number, Reduce, Store
from .abi import CHECK_ERROR, PRIVATE, SHARED, Kernel
from .combine import ARG, combine, identity
from .schedule import BLOCK, TILE, TILE_LANES, Schedule, alike, arguments, fixed, sequence, value_type
from .text import PTR, Val

class Scope:
    """`count` lanes are in use (None: all n). `full`: True, False, or a Val that says whether they are all."""
    __slots__ = ("parent", "loops", "bound", "values", "sums", "full", "count")

    def __init__(self, parent=None, loops=(), full=True, count=None):
        self.parent, self.loops, self.values, self.sums = parent, dict(loops), {}, {}
        self.bound = (parent.bound if parent else 0) | sum(1 << i for i in self.loops)
        inherits = parent is not None and full is True and count is None
        self.full, self.count = (parent.full, parent.count) if inherits else (full, count)

    def find(self, i):
        scope = self
        while scope is not None:
            if i in scope.values: return scope.values[i]
            scope = scope.parent
        return None


def affine_maps(s: Schedule) -> dict:
    """Every affine function of the loop indices, by name: (coefficients, offset)."""
    out = {}
    for i, v in enumerate(s.nest.body):
        if isinstance(v, (Load, Store)): out["at", i] = v.strides, v.offset
        if isinstance(v, Load):
            for j, g in enumerate(v.bounds): out["bound", i, j] = g.coeffs, g.offset
        if isinstance(v, Index): out["index", i] = v.coeffs, v.offset
    if any(isinstance(v, Reduce) and v.combine in ARG for v in s.nest.body): out["position"] = _row_major(s, s.window), 0
    if s.kept: out["kept"] = _row_major(s, sequence(s)), 0
    return out


def _row_major(s: Schedule, order) -> tuple[int, ...]:
    steps = [0] * len(s.loops)
    for k, i in enumerate(order): steps[i] = math.prod(s.loops[j].extent for j in order[k + 1:])
    return tuple(steps)


class Lowering(Kernel):
    def __init__(self, s: Schedule):
        super().__init__(s.nest.operands)
        self.s, self.body_values = s, s.nest.body
        self.maps, self.alike, self.prologue = affine_maps(s), alike(s.nest), None
        self.window_bits = sum(1 << i for i in s.window)
        self.reduces = [i for i, v in enumerate(self.body_values) if isinstance(v, Reduce)]
        self.passes = max((s.depth[i] for i in self.reduces), default=0)
        stores = [i for i, v in enumerate(self.body_values) if isinstance(v, Store)]
        self.inner_stores = [i for i in stores if s.deps[i] & self.window_bits]
        self.outer_stores = [i for i in stores if not s.deps[i] & self.window_bits]
        # inner stores come in the last walk that reads anything: an operand may be the buffer that is written
        self.store_pass = max([self.passes - 1, *(s.depth[i] for i in self.inner_stores)]) if self.inner_stores else -1
        self.walks = max(self.passes, self.store_pass + 1)
        self.first_use: dict[int, int] = {}
        self.broken: dict = {}                     # (value, lanes) -> where its row's check found fault so far
        self.needs = [self._needed(p) for p in range(self.walks)]
        self.needed = set().union(*self.needs, self._closure(self.outer_stores, -1))

    # ---- what is needed where
    def _closure(self, roots, p) -> set[int]:
        seen, todo = set(), [a for r in roots for a in arguments(self.body_values[r])]
        while todo:
            i = todo.pop()
            if i in seen: continue
            seen.add(i)
            kept = i in self.s.kept and self.first_use.setdefault(i, p) != p
            if not isinstance(self.body_values[i], Reduce) and not kept: todo += arguments(self.body_values[i])
        return seen

    def _needed(self, p: int) -> set[int]:
        roots = [i for i in self.reduces if self.s.depth[i] == p + 1] + (self.inner_stores if p == self.store_pass else [])
        return self._closure(roots, p)

    # ---- words and addresses, which are read in the entry block
    def hoisted(self, write):
        """What `write` emits goes to the entry block: words, bases and numbers don't change."""
        if self.lines is self.prologue: return write()
        outside, self.lines = self.lines, self.prologue
        try: return write()
        finally: self.lines = outside

    def once(self, key, write) -> Val:
        """What `write` emits, in the entry block and only once."""
        if key not in self._bases: self._bases[key] = self.hoisted(write)
        return self._bases[key]

    def word(self, *key) -> Val: return self._words[key] if key in self._words else self.hoisted(lambda: super(Lowering, self).word(*key))
    def base(self, k) -> Val: return self._bases[k] if k in self._bases else self.hoisted(lambda: super(Lowering, self).base(k))

    def origin(self, i: int) -> Val:
        """Where the index of access i counts from."""
        v, t = self.body_values[i], self.access_type(i)
        if i not in self.alike: return self.base(v.operand)
        return self.once(("origin", i), lambda: self.offset(self.base(v.operand), self.word("offset", ("at", i)), t))

    def access_type(self, i: int): return self.body_values[i].dtype or self.operands[self.body_values[i].operand].dtype

    def coefficient(self, name, i: int) -> Val:
        """The coefficient of loop i, as a constant where it is part of the spec."""
        name = self.map_of(name)
        c = self.maps[name][0][i]
        if c == 0 or fixed(c) and i == self.s.lane: return self.index(c)
        return self.word("coefficient", name, i)

    def affine(self, scope: Scope, name) -> Val:
        """The function `name` at the scope's indices (loops not open count as 0; the lanes' loop at its first lane), without the offset if `origin` has it."""
        name = self.map_of(name)
        if name not in scope.sums:
            total = self.affine(scope.parent, name) if scope.parent else self.index(0) if self.shared_map(name) else self.word("offset", name)
            for i, index in scope.loops.items(): total = self.add(total, self.mul(index, self.coefficient(name, i)))
            scope.sums[name] = total
        return scope.sums[name]

    def map_of(self, name):
        """The name that accesses with the same strides share."""
        return ("at", self.alike[name[1]]) if self.shared_map(name) else name

    def shared_map(self, name) -> bool: return name[0] == "at" and name[1] in self.alike

    def lane_step(self, scope: Scope, name) -> Val:
        """How much the function `name` grows from lane to lane."""
        if self.s.n == 1 or not scope.bound >> self.s.lane & 1: return self.index(0)
        return self.coefficient(name, self.s.lane)

    def lanes(self, scope: Scope, name) -> Val:
        """The function `name` at every lane; lanes out of use repeat the last one in use, so that addresses stay valid."""
        first, step = self.affine(scope, name), self.lane_step(scope, name)
        return first if step.const == 0 else self.add(first, self.mul(self.numbers_of_lanes(scope), step))

    def numbers_of_lanes(self, scope: Scope) -> Val:
        iota = self.iota(self.s.n)
        return iota if scope.full is True else self.intrinsic("umin", iota, self.splat(self.sub(scope.count, 1), self.s.n))

    def active(self, scope: Scope) -> Val | None:
        """Lanes in use, None if all are."""
        return None if scope.full is True else self.mask(scope.count, self.s.n)

    # ---- values
    def fill(self, scope: Scope, needed, finished: int):
        """Compute in this scope whatever is needed, possible and not yet there."""
        for name in self.maps: self.affine(scope, name)
        for i, v in enumerate(self.body_values):
            if i not in needed or isinstance(v, Reduce) or self.s.deps[i] & ~scope.bound or self.s.depth[i] > finished: continue
            if scope.find(i) is None: scope.values[i] = self.compute(scope, i, v, finished)

    def compute(self, scope: Scope, i: int, v, walk: int) -> Val:
        if i in self.s.kept and scope.bound & self.window_bits:
            place = self.offset(self._scratch("kept", i), self.mul(self.affine(scope, "kept"), 1 if self.s.form == "rows" else self.s.n), v.dtype)
            if walk != self.first_use[i]: return self.load(place, v.dtype, self.s.n)
            x = self._evaluate(scope, i, v)
            self.store(self.splat(x, self.s.n), place)
            return x
        return self._evaluate(scope, i, v)

    def _scratch(self, *key) -> Val:
        """Where this thread's scratch called `key` begins."""
        return self.once(key, lambda: self.offset(self.context(PRIVATE, PTR), self.word(*key)))

    def _evaluate(self, scope: Scope, i: int, v) -> Val:
        if isinstance(v, Load): return self._load_staged(scope, i, v) if i in self.s.staged else self._load(scope, i, v)
        if isinstance(v, Index): return self.lanes(scope, ("index", i))
        if isinstance(v, Const): return self._constant(i, v)
        if isinstance(v, Number): return self.once((v.operand, v.dtype), lambda: self.number(v.operand, v.dtype))
        if isinstance(v, Cast): return self.cast(scope.find(v.arg), v.dtype)
        assert isinstance(v, Apply), v
        args = [scope.find(a) for a in v.args]
        if v.checked: self.check(scope, i, v.op.check.violated(self, *args))
        return self.value(v.op.emit(self, *args), v.dtype)

    def check(self, scope: Scope, i: int, bad: Val | None):
        """Remember lanes that break what value i's row demands; `report_checks` tells, once."""
        if bad is None: return
        live = self.active(scope) if bad.n > 1 else None
        if live is not None: bad = self.and_(bad, live)
        place = self.broken.get((i, bad.n))
        if place is None: place = self.broken[i, bad.n] = self.hoisted(lambda: self.variable(self.const(False, dt.bool, bad.n)))
        self.set(place, self.or_(self.get(place), bad))

    def report_checks(self):
        """The first value of the body whose row found fault is written last."""
        for (i, _), place in sorted(self.broken.items(), reverse=True, key=lambda x: x[0]):
            with self.if_(self.any_lane(self.get(place))): self.report(self.index(i), self.index(0), CHECK_ERROR)

    def _constant(self, i: int, v: Const) -> Val:
        if i not in self.s.constants: return self.const(v.value, v.dtype)
        if v.dtype.category != dt.FLOAT: return self.cast(self.word("constant", i), v.dtype)
        return self.once(("constant", i), lambda: self.cast(self.bitcast(super(Lowering, self).word("constant", i), dt.float64), v.dtype))

    # ---- loads
    def _load(self, scope: Scope, i: int, v: Load) -> Val:
        name = "at", i
        chosen = [(self.cast(scope.find(t.index), dt.int64), j) for j, t in enumerate(v.at)]
        bounds = [("bound", i, j) for j in range(len(v.bounds))]
        step = self.lane_step(scope, name)
        steps = [self.lane_step(scope, g) for g in bounds]
        scattered = any(x.n > 1 for x, _ in chosen)
        if step.const == 0 and not scattered and all(t.const == 0 for t in steps): return self._load_scalar(scope, i, v, chosen, bounds)
        near = step.const == 1 or (step.const not in (0, None) and v.dtype.category != dt.COMPLEX)
        if not near or scattered: return self._load_gather(scope, i, v, chosen, bounds)
        at = self.affine(scope, name)
        for x, j in chosen: at = self.add(at, self.mul(self._checked(scope, i, j, x, None), self.word("at stride", i, j)))
        p = self.offset(self.origin(i), at, v.dtype)

        def whole(): return self._load_stride(self.next_tile(p, v.dtype) if step.const == 1 else p, v.dtype, step.const)
        inside = scope.full
        for g, t in zip(bounds, steps):
            first = self.affine(scope, g)
            both = [self._within(first, g)]
            if t.const != 0: both.append(self._within(self.add(first, self.mul(t, self.s.n - 1)), g))
            for ok in both: inside = ok if inside is True else inside if inside is False else self.and_(inside, ok)
        if inside is True: return whole()
        if bounds: partial = lambda: self._load_gather(scope, i, v, [], bounds, at)
        elif step.const == 1 and _maskable(self.isa, v.dtype): partial = lambda: self.load_masked(p, v.dtype, self.active(scope))
        elif step.const == -1 and _maskable(self.isa, v.dtype):
            partial = lambda: self.reversed(self.load_masked(self.offset(p, 1 - self.s.n, v.dtype), v.dtype, self.reversed(self.active(scope))))
        elif _maskable(self.isa, v.dtype): partial = lambda: self._load_stride(p, v.dtype, step.const, scope.count)
        else: partial = lambda: self._load_gather(scope, i, v, [], bounds, at)
        def masked():
            if _maskable(self.isa, v.dtype) and step.const: self.ahead(i, p, self.s.n * abs(step.const) * v.dtype.size)
            return partial()
        return masked() if inside is False else self.choose(inside, whole, masked)

    def ahead(self, i: int, p: Val, nbytes: int):
        """Asks for what access i will touch in the next row: prefetchers don't see masked accesses."""
        if not self.s.outer: return
        step = self.coefficient(("at", i), self.s.outer[-1])
        if step.const == 0: return
        q = self.offset(p, step, self.access_type(i))
        for k in range(0, nbytes, 64): self.prefetch(self.offset(q, k))

    def next_tile(self, p: Val, t) -> Val:
        """p; where there are tiles, what the next one touches behind a vector at p is asked for: pieces this short are none for a prefetcher."""
        for k in range(0, self.s.n if self.s.tile >= 0 else 0, max(64 // t.size, 1)): self.prefetch(self.offset(p, TILE_LANES + k, t), write=True)
        return p

    def _load_stride(self, p: Val, t, step: int, count=None) -> Val:
        """n elements `step` apart: whole vectors, of which the last one ends at the last element, and shuffles. With a count, only so many are touched."""
        n = self.s.n
        if step == 1: return self.load(p, t, n)
        if step == -1: return self.reversed(self.load(self.offset(p, 1 - n, t), t, n))
        starts = [k * n for k in range(step)]
        if count is None: starts[-1] = (n - 1) * step + 1 - n
        else: end = self.add(self.mul(self.sub(count, 1), step), 1)

        def vector(k):
            at = self.offset(p, starts[k], t)
            return self.load(at, t, n) if count is None else self.load_masked(at, t, self.lt(self.iota(n), self.splat(self.sub(end, starts[k]), n)))
        out = vector(0)
        for k in range(1, step):
            # elements that earlier vectors hold stay (at first where they were loaded, then in their lanes); others come from this one if it has them
            def source(lane, at, k=k):
                if at < k * n: return at if k == 1 else lane
                return n + at - starts[k] if at - starts[k] < n else lane
            out = self.shuffle(out, vector(k), [source(lane, lane * step) for lane in range(n)])
        return out

    def _load_scalar(self, scope, i, v, chosen, bounds) -> Val:
        at, ok = self.affine(scope, ("at", i)), None
        for g in bounds:
            inside = self._within(self.affine(scope, g), g)
            ok = inside if ok is None else self.and_(ok, inside)
        for x, j in chosen: at = self.add(self.cast(at, dt.int64), self.mul(self._checked(scope, i, j, x, ok), self.word("at stride", i, j)))

        def load(): return self.load(self.offset(self.origin(i), at, v.dtype), v.dtype)
        return load() if ok is None else self.choose(ok, load, lambda: self.const(v.other, v.dtype))

    def _load_gather(self, scope, i, v, chosen, bounds, at=None) -> Val:
        name, n = ("at", i), self.s.n
        step = self.lane_step(scope, name)
        first = self.affine(scope, name) if at is None else at
        at = first if step.const == 0 else self.add(first, self.mul(self.numbers_of_lanes(scope), step))
        ok = None
        for g in bounds:
            inside = self._within(self.lanes(scope, g), g)
            ok = inside if ok is None else self.and_(ok, inside)
        for x, j in chosen: at = self.add(at, self.mul(self._checked(scope, i, j, x, ok), self.word("at stride", i, j)))
        at = self.splat(at, n)
        if ok is None: return self.gather(self.origin(i), at, v.dtype)
        ok = self.splat(ok, n)
        # element 0 of the operand stands in for those outside: every buffer has one
        return self.select(ok, self.gather(self.origin(i), self.select(ok, at, 0), v.dtype), self.const(v.other, v.dtype))

    def _within(self, x: Val, bound) -> Val:
        _, i, j = bound
        size = self.splat(self.word("bound size", i, j), x.n)
        return self.emit(f"icmp ult {x}, {size.text}", dt.bool, x.n)      # negative numbers are huge

    def _checked(self, scope: Scope, i: int, j: int, x: Val, ok: Val | None) -> Val:
        """The index from 0 on; one out of range is reported and read as 0."""
        size = self.word("at size", i, j)
        index = self.select(self.lt(x, 0), self.add(x, size), x)
        bad = self.emit(f"icmp uge {index}, {self.splat(size, index.n).text}", dt.bool, index.n)
        live = self.active(scope) if index.n > 1 else None
        blame = bad
        for mask in (live, ok):
            if mask is not None: blame = self.and_(blame, mask)
        with self.if_(self.any_lane(blame)):
            worst = self.reduce(self.select(blame, self.splat(x, blame.n), -2**63), self.max)
            self.report(worst, size)
        return self.select(bad, self.const(0, index), index)

    # ---- stores
    def write(self, scope: Scope, i: int):
        v: Store = self.body_values[i]
        x = self.cast(scope.find(v.arg), v.dtype or self.operands[v.operand].dtype)
        at, step, n = self.affine(scope, ("at", i)), self.lane_step(scope, ("at", i)), self.s.n
        p = self.offset(self.origin(i), at, x.dtype)
        if step.const == 0 and x.n == 1: return self.store(x, p)
        x = self.splat(x, n)
        if step.const not in (1, -1) or step.const == -1 and x.parts: return self._store_lanes(scope, x, p, step)
        ordered = (lambda y: y) if step.const == 1 else self.reversed
        first = p if step.const == 1 else self.offset(p, 1 - n, x.dtype)

        def whole(): self.store(ordered(x), self.next_tile(first, x.dtype))
        def partial():
            if _maskable(self.isa, x.dtype):
                self.ahead(i, first, n * x.dtype.size)
                self.store_masked(ordered(x), first, ordered(self.active(scope)))
            else: self._store_lanes(scope, x, p, step)
        if scope.full is True: return whole()
        if scope.full is False: return partial()
        self.choose(scope.full, whole, partial)

    def _store_lanes(self, scope: Scope, x: Val, p: Val, step: Val):
        """One lane after the other, by way of memory."""
        place = self.alloca(x.dtype.real if x.parts else dt.uint8 if x.dtype is dt.bool else x.dtype, x.n * (2 if x.parts else 1))
        self.store(x, place)
        with self.loop(0, x.n if scope.full is True else scope.count) as k:
            self.store(self.load(self.offset(place, k, x.dtype), x.dtype), self.offset(p, self.mul(k, step), x.dtype))

    def _alternate(self, scope: Scope):
        """The stores of a loop of a few turns, contiguous along it: lanes of its turns alternate in memory."""
        few = self.s.loops[self.s.short].extent
        turns = [Scope(scope, {self.s.short: self.index(e)}) for e in range(few)]
        for turn in turns: self.fill(turn, self.needed, 0)
        for i in self.outer_stores:
            v: Store = self.body_values[i]
            t = v.dtype or self.operands[v.operand].dtype
            xs = [self.splat(self.cast(turn.find(v.arg), t), self.s.n) for turn in turns]
            x = self.alternate([self.cast(x, dt.uint8) for x in xs] if t is dt.bool else xs)
            p = self.offset(self.origin(i), self.affine(turns[0], ("at", i)), t)

            def partial(x=x, p=p):
                count = self.mul(scope.count, few)
                if _maskable(self.isa, x.dtype): return self.store_masked(x, p, self.mask(count, x.n))
                place = self.alloca(x.dtype, x.n)
                self.store(x, place)
                with self.loop(0, count) as k: self.store(self.load(self.offset(place, k, x.dtype), x.dtype), self.offset(p, k, x.dtype))
            if scope.full is True: self.store(x, p)
            elif scope.full is False: partial()
            else: self.choose(scope.full, lambda x=x, p=p: self.store(x, p), partial)

    # ---- reductions
    def accumulate_type(self, v: Reduce):
        if v.combine in ("any", "all"): return dt.bool
        if v.combine in ("sum", "prod"): return v.dtype.opmath
        return value_type(self.s.nest, v.arg).opmath

    def start(self, i: int):
        """Accumulators of one Reduce: places for its value (and position)."""
        v, n = self.body_values[i], self.s.n
        t = self.accumulate_type(v)
        first = [self.variable(self.const_lanes(identity(v.combine, t), t, n))]
        return (*first, self.variable(self.const_lanes(-1, dt.int64, n))) if v.combine in ARG else tuple(first)

    def const_lanes(self, value, t, n: int) -> Val: return self.splat(self.const(value, t), n)

    def reset(self, i: int, places):
        v = self.body_values[i]
        self.set(places[0], self.const(identity(v.combine, self.accumulate_type(v)), self.accumulate_type(v)))

    def accumulate(self, scope: Scope, i: int, places):
        v, n = self.body_values[i], self.s.n
        t = self.accumulate_type(v)
        x = self.splat(self.cast(scope.find(v.arg), t), n)
        partial = self.s.form == "rows" and scope.full is not True and n > 1
        if v.combine in ARG:
            at = self.splat(self.lanes(scope, "position"), n)
            if partial: at = self.select(self.active(scope), at, -1)
            new = x, at
        elif partial:
            def masked(): return self.select(self.active(scope), x, self.const(identity(v.combine, t), t))
            new = (masked() if scope.full is False else self.choose(scope.full, lambda: x, masked),)
        else: new = (x,)
        old = tuple(map(self.get, places))
        for place, y in zip(places, combine(self, v.combine, old, new)): self.set(place, y)

    def result(self, i: int, acc) -> Val:
        """The value of a Reduce from its accumulators' contents."""
        v = self.body_values[i]
        return self.cast(acc[-1], v.dtype)

    def total(self, i: int, places):
        """Accumulators' contents; lanes combined if they ran along the window."""
        v = self.body_values[i]
        acc = tuple(map(self.get, places))
        return self.reduce(acc, lambda x, y: combine(self, v.combine, x, y)) if self.s.form == "rows" else acc

    # ---- loops
    def lane_loop(self, scope: Scope, lo, hi, body):
        """body(scope) for lanes from lo to hi, n at a time."""
        s, i = self.s, self.s.lane
        lo, hi = self.index(lo), self.index(hi)
        if s.n == 1 or s.exact:
            with self.loop(lo, hi, s.n) as at: body(Scope(scope, {i: at}))
        elif s.unrolled:
            end = self.add(lo, self.and_(self.sub(hi, lo), -s.n))
            with self.loop(lo, end, s.n) as at: body(Scope(scope, {i: at}))
            with self.if_(self.lt(end, hi)): body(Scope(scope, {i: end}, False, self.sub(hi, end)))
        else:
            with self.loop(lo, hi, s.n) as at: body(self.lanes_from(scope, at, hi))

    def lanes_from(self, scope: Scope, at: Val, hi: Val) -> Scope:
        """The scope of n lanes from `at` on, of which those below hi are in use."""
        if self.s.n == 1 or self.s.exact: return Scope(scope, {self.s.lane: at})
        left = self.sub(hi, at)
        return Scope(scope, {self.s.lane: at}, self.ge(left, self.s.n), self.intrinsic("smin", left, self.index(self.s.n)))

    def walk(self, scope: Scope, p: int, part) -> dict:
        """One pass over the window (`part`: the range of the split loop); gives accumulators by Reduce."""
        reduces = [i for i in self.reduces if self.s.depth[i] == p + 1]
        places = {i: self.start(i) for i in reduces}
        sums = [i for i in reduces if self.s.blocked >= 0 and self.body_values[i].combine == "sum" and self.body_values[i].dtype.category >= dt.FLOAT]
        inner = {**places, **{i: self.start(i) for i in sums}}
        order = sequence(self.s)

        def innermost(child):
            self.fill(child, self.needs[p], p)
            for i in reduces: self.accumulate(child, i, inner[i])
            if p == self.store_pass:
                for i in self.inner_stores: self.write(child, i)

        def nest(outer, k):
            if k == len(order): return innermost(outer)
            i = order[k]
            lo, hi = part if i == self.s.split else (self.index(0), self.word("extent", i))

            def run(lo, hi):
                if i == self.s.lane: return self.lane_loop(outer, lo, hi, innermost)
                with self.loop(lo, hi) as at:
                    child = Scope(outer, {i: at})
                    if k + 1 < len(order): self.fill(child, self.needs[p], p)
                    nest(child, k + 1)
            if i != self.s.blocked: return run(lo, hi)
            step = BLOCK * (self.s.n if i == self.s.lane else 1)
            with self.loop(lo, hi, step) as block:
                for j in sums: self.reset(j, inner[j])
                run(block, self.intrinsic("smin", self.add(block, step), hi))
                for j in sums: self.set(places[j][0], self.add(self.get(places[j][0]), self.get(inner[j][0])))
        if not self.divided(scope, order, innermost): nest(scope, 0)
        return places

    def divided(self, scope: Scope, order, body) -> bool:
        """Did several threads divide the window among themselves, each calling body(scope) for its positions?"""
        return False

    # ---- units of work
    def turns(self, total: Val, tell: bool):
        """A loop over this thread's part of range(total)."""
        return self.loop(*self.share(total, tell))

    def units(self, chunked: bool, body, tell: bool = True):
        """body(scope, result number, chunk) for this thread's units."""
        s = self.s
        with self.turns(self.word("units") if chunked and s.split >= 0 else self.word("results"), tell) as u:
            chunk = None
            if chunked and s.split >= 0: u, chunk = self._divmod(u, self.word("chunks"))
            rest, block = self._divmod(u, self.word("blocks")) if s.form != "rows" and s.lane >= 0 else (u, None)
            loops, self.tile_block = {}, None
            if s.tile >= 0: rest, self.tile_block = self._divmod(rest, self.word("tiles"))
            for i in reversed(s.outer[1:]): rest, loops[i] = self._divmod(rest, self.word("extent", i))
            if s.outer: loops[s.outer[0]] = rest
            scope = Scope(None, ())
            scope.loops, scope.bound = loops, sum(1 << i for i in loops)
            self.fill(scope, self.needed, 0)
            body(scope, u, block, chunk)

    def _divmod(self, x: Val, y: Val):
        q = self.truncdiv_small(x, y)
        return q, self.sub(x, self.mul(q, y))

    def columns_of(self, scope: Scope, block) -> Scope:
        """The scope of one block of columns: n results at once."""
        if self.s.form != "columns" or self.s.lane < 0: return scope
        out = self.lanes_from(scope, self.mul(block, self.s.n), self.word("extent", self.s.lane))
        self.fill(out, self.needed, 0)
        return out

    def kernel(self):
        s = self.s
        with self.body("nest"):
            self.prologue = self.entry
            if s.form == "map": self.units(False, self._map_unit)
            elif s.split < 0: self.units(False, self._whole_unit)
            else: self._split()
            self.report_checks()
        return self.module(), tuple(self.keys)

    def _map_unit(self, scope, _, block, __):
        def body(child):
            self.fill(child, self.needed, 0)
            if self.s.short >= 0: return self._alternate(child)
            for i in self.outer_stores: self.write(child, i)
        if self.s.lane < 0: return body(scope)
        lo = self.mul(block, self.word("block"))
        hi = self.intrinsic("smin", self.add(lo, self.word("block")), self.word("extent", self.s.lane))
        if self.s.tile < 0: return self.lane_loop(scope, lo, hi, body)
        first = self.mul(self.tile_block, TILE)
        last = self.intrinsic("smin", self.add(first, TILE), self.word("extent", self.s.tile))
        for i in self.s.staged: self._stage(scope, i, lo, hi, first, last)
        self.tile_origin = lo, first
        with self.loop(first, last) as t:
            child = Scope(scope, {self.s.tile: t})
            self.fill(child, self.needed, 0)
            self.lane_loop(child, lo, hi, body)

    # ---- loads that are contiguous along another loop than the lanes
    def _stage(self, scope: Scope, i: int, lo, hi, first, last):
        """Transpose one tile of load i into scratch, where lanes are contiguous."""
        v: Load = self.body_values[i]
        t = dt.uint8 if v.dtype is dt.bool else v.dtype
        side, step = min(16, self.isa.vector_bytes // t.size), self.coefficient(("at", i), self.s.lane)
        start = self.affine(scope, ("at", i))
        with self.loop(lo, hi, side) as lane, self.loop(first, last, side) as at:
            source = self.offset(self.origin(i), self.add(self.add(start, self.mul(lane, step)), at), t)
            place = self.offset(self._scratch("staged", i), self.add(self.mul(self.sub(at, first), TILE_LANES), self.sub(lane, lo)), t)
            rows, columns = self.sub(hi, lane), self.sub(last, at)
            def turned(load, last):                # rows lie too far apart for a prefetcher
                starts = [self.offset(source, self.mul(step, k if last is None else self.intrinsic("smin", self.index(k), last)), t) for k in range(side)]
                for p in starts: self.prefetch(self.offset(p, 2 * TILE, t))
                for k, x in enumerate(self.transpose(list(map(load, starts)))): self.store(x, self.offset(place, k * TILE_LANES, t))
            def whole(): turned(lambda p: self.load(p, t, side), None)
            def masked():                          # rows behind the last are the last again: what is too much in scratch nobody reads
                mask = self.mask(self.intrinsic("smin", columns, self.index(side)), side)
                turned(lambda p: self.load_masked(p, t, mask), self.sub(rows, 1))
            def scalar():
                high, wide = (self.intrinsic("smin", x, self.index(side)) for x in (rows, columns))
                with self.loop(0, high) as k, self.loop(0, wide) as j:
                    self.store(self.load(self.offset(source, self.add(self.mul(k, step), j), t), t), self.offset(place, self.add(self.mul(j, TILE_LANES), k), t))
            self.choose(self.and_(self.ge(rows, side), self.ge(columns, side)), whole, masked if _maskable(self.isa, t) else scalar)

    def _load_staged(self, scope: Scope, i: int, v: Load) -> Val:
        lo, first = self.tile_origin
        at = self.add(self.mul(self.sub(scope.parent.loops[self.s.tile], first), TILE_LANES), self.sub(scope.loops[self.s.lane], lo))
        return self.load(self.offset(self._scratch("staged", i), at, v.dtype), v.dtype, self.s.n)

    def _whole_unit(self, scope, _, block, __):
        scope = self.columns_of(scope, block)
        for p in range(self.walks):
            for i, places in self.walk(scope, p, None).items(): scope.values[i] = self.result(i, self.total(i, places))
            self.fill(scope, self.needed, p + 1)
        for i in self.outer_stores: self.write(scope, i)

    # ---- a window divided among threads
    def _split(self):
        for p in range(self.walks):
            def unit(scope, number, block, chunk, p=p):
                scope = self._resume(self.columns_of(scope, block), number, p)
                lo = self.mul(chunk, self.word("chunk"))
                part = lo, self.intrinsic("smin", self.add(lo, self.word("chunk")), self.word("extent", self.s.split))
                for i, places in self.walk(scope, p, part).items():
                    for x, place in zip(self.total(i, places), self._partials(i, number, chunk)): self.store(x, place)
            self.units(True, unit)
            if p < self.walks - 1 or self.outer_stores: self.barrier()
        if not self.outer_stores: return

        def finish(scope, number, block, _):
            scope = self._resume(self.columns_of(scope, block), number, self.passes)
            for i in self.outer_stores: self.write(scope, i)
        self.units(False, finish, tell=False)

    def _resume(self, scope: Scope, number: Val, finished: int) -> Scope:
        """The scope with the results of finished walks, combined from all chunks' parts in order."""
        for d in range(finished):
            for i in self.reduces:
                if self.s.depth[i] != d + 1: continue
                v, n = self.body_values[i], 1 if self.s.form == "rows" else self.s.n
                t = self.accumulate_type(v)
                kinds = (t, dt.int64) if v.combine in ARG else (t,)
                places = [self.variable(self.load(p, k, n)) for p, k in zip(self._partials(i, number, self.index(0)), kinds)]
                with self.loop(1, self.word("chunks")) as c:
                    new = tuple(self.load(p, k, n) for p, k in zip(self._partials(i, number, c), kinds))
                    for place, x in zip(places, combine(self, v.combine, tuple(map(self.get, places)), new)): self.set(place, x)
                scope.values[i] = self.result(i, tuple(map(self.get, places)))
            self.fill(scope, self.needed, d + 1)
        return scope

    def _partials(self, i: int, number: Val, chunk: Val) -> list[Val]:
        """Where the part of Reduce i from this chunk lies (and its position's)."""
        v, n = self.body_values[i], 1 if self.s.form == "rows" else self.s.n
        at = self.mul(self.add(self.mul(number, self.word("chunks")), chunk), n)
        shared = self.hoisted(lambda: self.context(SHARED, PTR)) if "shared" not in self._bases else self._bases["shared"]
        self._bases["shared"] = shared
        kinds = (self.accumulate_type(v), dt.int64) if v.combine in ARG else (self.accumulate_type(v),)
        return [self.offset(self.offset(shared, self.word("partial", i, k)), at, t) for k, t in enumerate(kinds)]

    # ---- how much scratch
    def scratch(self, s: Schedule) -> dict:
        """Byte offsets of kept values and partial results for a schedule, and the totals."""
        out, private, shared = {}, 0, 0
        for i in s.kept:
            out["kept", i] = private
            items = s.row + s.n if s.form == "rows" else (s.row + 1) * s.n
            private += -(-items * s.nest.body[i].dtype.size // 64) * 64
        for i in s.staged:
            out["staged", i] = private
            private += (TILE * TILE_LANES + s.n) * s.nest.body[i].dtype.size // 64 * 64 + 64
        if s.split >= 0:
            items = s.results * s.chunks * (1 if s.form == "rows" else s.n)
            for i in self.reduces:
                v = self.body_values[i]
                for k, size in enumerate((self.accumulate_type(v).size, 8) if v.combine in ARG else (self.accumulate_type(v).size,)):
                    out["partial", i, k] = shared
                    shared += -(-items * size // 64) * 64
        out["private"], out["shared"] = private, shared
        return out


def _maskable(isa, t) -> bool:
    """Has the processor masked loads and stores of this type?"""
    if t.category == dt.COMPLEX: return False
    return isa.level == "avx512" or (isa.level == "avx2" and t.size >= 4)
