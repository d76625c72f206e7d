"""Loop nests for a GPU.

Comes in: core.kernels.Nest. Goes out: a DeviceLaunch. Indices and values are worked out by the CPU's lowering with one lane; here is who does what:

  'map'      a thread per element, or a few vectors of neighbours per thread; what lies along another axis than it is stored is turned in shared memory
  'rows'     a group of threads per result: neighbours read neighbours along the window; what they found is combined by shuffles, then by shared memory. Rows that
             fit stay in registers from pass to pass
  'columns'  32 results side by side per block, so that loads are contiguous; the window is divided among its warps

Few results of a long window: blocks share it, and what each found lies in scratch until the next launch combines it in order. A walk over the window is a
launch then, and so is what comes behind the last one. Results are the same bits in every run: who adds what is a matter of sizes alone.
"""
from __future__ import annotations

import contextlib
import functools
from dataclasses import replace

from ...core import dtype as dt
from ...core.kernels import DeviceLaunch, Load, Nest, Store
from ...cpu import nvptx
from ...cpu.isa import Isa
from ..combine import ARG, combine
from ..nest import bytes_of, meaning
from ..lower import Lowering, Scope
from ..schedule import sequence
from ..text import Val
from .abi import LATE, WARP, DeviceKernel
from .schedule import MAX_BLOCKS, SIDE, DeviceSchedule, schedule

LONG = (*LATE, "constant", "divisor", "partial", "at stride", "at size")     # words that are 64 bits where indices aren't


class DeviceLowering(Lowering, DeviceKernel):
    """`stage`: which launch of several that share a window this is: the number of a walk, or of walks; None: there is one launch. `member`: this thread's number
    in its group. `live`: has its unit any work? None: always. `range`: where in the window this block begins and ends; None: all of it."""

    def __init__(self, s: DeviceSchedule, isa: Isa, stage: int | None = None):
        self.isa, self.threads_per_block, self.stage = isa, s.threads, stage
        self.divisors, self.live, self.member, self.range, self.now, self.postponed, self.met_bytes = {}, None, None, None, 0, False, 0
        super().__init__(s)

    def kernel(self):
        s = self.s
        with self.body("nest"):
            self.prologue = self.entry
            self.thread = self.unit = self.hoisted(lambda: self.counted(self.special("tid.x")))
            if s.tile >= 0: self.unit = self.counted(0)
            elif s.group > 1 and s.form == "rows": self.unit, self.member = self.hoisted(lambda: (self.shr(self.thread, _log(s.group)), self.and_(self.thread, s.group - 1)))
            elif s.group > 1: self.unit, self.member = self.hoisted(lambda: (self.and_(self.thread, s.units - 1), self.shr(self.thread, _log(s.units))))
            if s.elementwise: self.elements()
            elif self.stage is None: self.units(False, self._tile_unit if s.tile >= 0 else self._map_unit if s.form == "map" else self._whole_unit)
            else: self.units(self.stage < self.walks, self._part_unit if self.stage < self.walks else self._last_unit)
            self.report_checks()
        return self.module(), tuple(self.keys)

    # ---- numbers
    def counted(self, x) -> Val:
        """x in the type of indices."""
        return self.cast(self.index(x), dt.int32 if self.s.narrow else dt.int64)

    def word(self, *key) -> Val:
        if not self.s.narrow or key[0] in LONG: return super().word(*key)
        out = self.once(("narrow", *key), lambda: self.cast(super(DeviceLowering, self).word(*key), dt.int32))
        self.divisors[out.text] = key
        return out

    def lanes(self, scope: Scope, name) -> Val:
        """What leaves as a value is 64 bits."""
        out = super().lanes(scope, name)
        return self.cast(out, dt.int64) if name == "position" or name[0] == "index" else out

    def _divmod(self, x: Val, y: Val):
        """A division by a word: by a multiplication, where indices are narrow. The word "divisor" holds a factor and, above it, how far to shift."""
        key = self.divisors.get(y.text)
        if key is None: return super()._divmod(x, y)
        def parts():
            both = self.word("divisor", *key)
            return self.and_(both, 0xFFFFFFFF), self.emit(f"lshr i64 {both.text}, 32", dt.int64)
        factor, shift = self.once(("divisor", *key), parts)
        product = self.mul(self.emit(f"zext {x} to i64", dt.int64), factor)
        q = self.cast(self.emit(f"lshr i64 {product.text}, {shift.text}", dt.int64), dt.int32)
        return q, self.sub(x, self.mul(q, y))

    # ---- who does what
    @contextlib.contextmanager
    def turns(self, total: Val, tell: bool):
        """This thread's units of range(total). Where the block meets at barriers all its threads take as many turns; units beyond the last are not live."""
        per = self.s.units
        first, step = (self.mul(self.counted(self.special(name)), per) for name in ("ctaid.x", "nctaid.x"))
        if not self.meets:
            with self.loop(self.add(first, self.unit), total, step) as u: yield u
            return
        with self.loop(first, total, step) as base:
            u = self.add(base, self.unit)
            if per > 1:
                self.live = self.lt(u, total)
                u = self.intrinsic("smin", u, self.sub(total, 1))
            yield u
            self.live = None

    @property
    def meets(self) -> bool:
        """Do threads of the block wait for each other?"""
        return self.s.group > 1 and (self.s.form != "rows" or self.s.group > WARP)

    def units(self, chunked: bool, body, tell: bool = True):
        s = self.s
        with self.turns(self.word("units") if chunked else self.word("results"), tell) as u:
            chunk = None
            if chunked and s.form == "columns": chunk, u = self._divmod(u, self.word("results"))      # neighbours are of one chunk
            elif chunked: u, chunk = self._divmod(u, self.word("chunks"))
            rest, block = (u, None) if s.form == "rows" or s.lane < 0 else self._divmod(u, self.word("blocks")) if s.outer or s.tile >= 0 else (None, u)
            self.tile_block = None
            if s.tile >= 0: rest, self.tile_block = self._divmod(rest, self.word("tiles"))
            body(self.outer(rest), u, block, chunk)

    def outer(self, rest: Val | None) -> Scope:
        """Inside the outer loops, at one of their positions."""
        s, loops = self.s, {}
        for i in reversed(s.outer[1:]): rest, loops[i] = self._divmod(rest, self.word("extent", i))
        if s.outer: loops[s.outer[0]] = rest
        scope = Scope(None, loops)
        self.fill(scope, self.needed, 0)
        return scope

    def _map_unit(self, scope, _, block, __):
        if self.s.lane >= 0: scope = Scope(scope, {self.s.lane: block})
        self.fill(scope, self.needed, 0)
        for i in self.outer_stores: self.write(scope, i)

    @contextlib.contextmanager
    def guard(self, scope: Scope, i: int):
        """The code inside is for threads that have to write store i."""
        conditions = [c for c in (self.live, scope.full if isinstance(scope.full, Val) else None) if c is not None]
        if self.member is not None and i in self.outer_stores: conditions.append(self.eq(self.member, 0))
        conditions += [self.eq(at, 0) for at in self.repeats(scope, i)]
        with self.if_(functools.reduce(self.and_, conditions)) if conditions else contextlib.nullcontext(): yield

    def repeats(self, scope: Scope | None, i: int):
        """Indices of the loops along which store i comes back to one place (memory that was expanded): only their first turn writes."""
        while scope is not None:
            for loop, at in scope.loops.items():
                if self.body_values[i].strides[loop] == 0: yield at
            scope = scope.parent

    def write(self, scope: Scope, i: int):
        if self.postponed and i in self.s.wide: return
        if self.member is not None and i in self.outer_stores and self.reads(i): self.together()
        with self.guard(scope, i): super().write(scope, i)

    def reads(self, i: int) -> bool:
        """May what store i writes be read here, too, by all threads of a group, after they last waited for each other?"""
        written, size = self.body_values[i].operand, self.access_type(i).size      # a result may take the memory of any operand of its size
        return any([isinstance(v, Load) and (v.operand == written or not d & self.window_bits and v.dtype.size == size) for v, d in zip(self.body_values, self.s.deps)])

    def together(self):
        """The group's threads have read all that they will before one of them writes."""
        if self.meets: self.barrier()
        else: self.warp_barrier()

    # ---- several elements of one thread
    def elements(self):
        """Vectors where a block's worth of elements is there and lies at multiples of 16 bytes, else one element after the other. The last block's worth, which may
        be less, comes first: nobody waits for it then."""
        s = self.s
        thread, total, turns, width = self.thread, self.word("elements"), self.word("turns"), s.threads * s.vector * s.several
        with self.loop(self.counted(self.special("ctaid.x")), turns, self.counted(self.special("nctaid.x"))) as turn:
            first = self.mul(self.sub(self.sub(turns, turn), 1), width)
            end = self.add(first, width)
            whole = self.le(end, total)
            if s.wide: whole = self.and_(whole, self.aligned())

            def vectors():
                mine = self.add(first, self.mul(thread, s.vector))
                slots = [self.neighbours(self.element(self.add(mine, k * s.threads * s.vector)), s.lane) for k in range(s.several)]
                self.preload(slots, self.needed, aligned=True)
                for _, children in slots:
                    for c in children: self.fill(c, self.needed, 0)
                for slot in slots:
                    for i in self.outer_stores: self.write_all(slot, i, aligned=True)

            def singles():
                with self.loop(self.add(first, thread), self.intrinsic("smin", end, total), s.threads) as e: self._map_unit_at(self.element(e))
            self.choose(whole, vectors, singles)

    def element(self, e: Val) -> Scope:
        """At element e of all, counted along the lanes' loop first."""
        s = self.s
        rest, at = self._divmod(e, self.word("extent", s.lane)) if s.outer else (None, e)
        return Scope(self.outer(rest), {s.lane: at})

    def _map_unit_at(self, scope: Scope):
        self.fill(scope, self.needed, 0)
        for i in self.outer_stores: self.write(scope, i)

    def neighbours(self, base: Scope, loop: int, count: int | None = None) -> tuple[Scope, list[Scope]]:
        """(a scope, those of the vector of positions that begins there)"""
        for name in self.maps: self.affine(base, name)
        n = count or self.s.vector
        return base, [Scope(base, {loop: self.counted(j)}) for j in range(n)] if n > 1 else [base]

    def aligned(self) -> Val:
        """Do all vectors lie at multiples of their bytes, or of 16?"""
        def write():
            out = None
            for i in self.s.wide:
                low = self.and_(self.emit(f"ptrtoint ptr {self.origin(i).text} to i64", dt.int64), min(16, self.s.vector * self.access_type(i).size) - 1)
                out = low if out is None else self.or_(out, low)
            return self.eq(out, 0)
        return self.once("aligned", write)

    def preload(self, slots, needed, aligned: bool = False):
        """All that is needed and can be loaded without a question, before anything is computed of it: so many loads are under way at once."""
        body, s = self.body_values, self.s
        loads = [i for i in sorted(needed) if isinstance(body[i], Load) and not body[i].at and not body[i].bounds and not s.depth[i] and slots[0][1][0].find(i) is None]
        together = [i for i in loads if i in s.wide] if len(slots[0][1]) > 1 else []
        inner = next(iter(slots[0][1][0].loops))
        for i in loads:
            if i in together: continue
            for base, children in slots:
                for c in children if s.deps[i] >> inner & 1 else [base]: c.values[i] = self._load_scalar(c, i, body[i], [], [])
        if not together: return
        places = [(base, children, i, self.offset(self.origin(i), self.affine(base, ("at", i)), body[i].dtype)) for i in together for base, children in slots]
        def whole(): return tuple(tuple(self.load_wide(p, body[i].dtype, len(children))) for _, children, i, p in places)
        def singles(): return tuple(tuple(self.load(self.offset(p, j, body[i].dtype), body[i].dtype) for j in range(len(children))) for _, children, i, p in places)
        found = whole() if aligned else self.choose(self.aligned(), whole, singles)
        for (_, children, i, _), values in zip(places, found):
            for c, x in zip(children, values): c.values[i] = x

    def write_all(self, slot, i: int, aligned: bool = False):
        """Store i of a vector of positions."""
        base, children = slot
        if i not in self.s.wide or len(children) == 1:
            for c in children: self.write(c, i)
            return
        v: Store = self.body_values[i]
        t = self.access_type(i)
        with self.guard(base, i):
            xs = [self.cast(c.find(v.arg), t) for c in children]
            p = self.offset(self.origin(i), self.affine(base, ("at", i)), t)
            def singles():
                for j, x in enumerate(xs): self.store(x, self.offset(p, j, t))
            if aligned: self.store_wide(p, xs)
            else: self.choose(self.aligned(), lambda: self.store_wide(p, xs), singles)

    # ---- loads that are contiguous along another axis than stores
    def _tile_unit(self, scope: Scope, _, block, __):
        """SIDE × SIDE elements: loaded by threads side by side along one axis, kept in shared memory, used by threads side by side along the other."""
        s, body = self.s, self.body_values
        step, pitch, size = s.threads // SIDE, SIDE + 1, {i: body[i].dtype.size for i in s.staged}
        near, far = self.hoisted(lambda: (self.and_(self.thread, SIDE - 1), self.shr(self.thread, _log(SIDE))))
        lane, tile = self.mul(block, SIDE), self.mul(self.tile_block, SIDE)
        ends = {i: self.word("extent", i) for i in (s.lane, s.tile)}
        room, rooms, at = self.shared_memory(sum(SIDE * pitch * n for n in size.values())), {}, 0
        for i, n in sorted(size.items(), key=lambda x: -x[1]):     # the larger first: all lie at multiples of their size
            rooms[i] = self.offset(room, at)
            at += SIDE * pitch * n
        loaded = []
        for k in range(0, SIDE, step):
            row = self.add(far, k)
            place = Scope(scope, {s.tile: self.intrinsic("smin", self.add(tile, near), self.sub(ends[s.tile], 1)),
                                  s.lane: self.intrinsic("smin", self.add(lane, row), self.sub(ends[s.lane], 1))})
            loaded += [(i, self._load_scalar(place, i, body[i], [], []), self.add(self.mul(near, pitch), row)) for i in s.staged]
        self.barrier()                         # what was read of an earlier tile is read
        for i, x, to in loaded: self.store(x, self.offset(rooms[i], to, x.dtype))
        self.barrier()
        for k in range(0, SIDE, step):
            row = self.add(far, k)
            here = Scope(scope, {s.tile: self.add(tile, row), s.lane: self.add(lane, near)})
            for name in self.maps: self.affine(here, name)
            with self.if_(functools.reduce(self.and_, [self.lt(here.loops[i], end) for i, end in ends.items()])):
                for i in s.staged: here.values[i] = self.load(self.offset(rooms[i], self.add(self.mul(row, pitch), near), body[i].dtype), body[i].dtype)
                self._map_unit_at(here)

    # ---- a window divided among a group
    def walk(self, scope: Scope, p: int, part) -> dict:
        """A row in registers is walked by looking at what each thread has of it."""
        self.now = p
        if not self.s.held: return super().walk(scope, p, part)
        if p == 0: self.slots = self.held(scope)
        self.preload(self.slots, self.needs[p])
        places = {i: self.start(i) for i in self.reduces if self.s.depth[i] == p + 1}
        for _, children in self.slots:
            for c in children:
                self.fill(c, self.needs[p], p)
                for i, place in places.items(): self.accumulate(c, i, place)
        if p == self.store_pass:
            for slot in self.slots:
                for i in self.inner_stores: self.write_all(slot, i)
        return places

    def held(self, scope: Scope):
        """This thread's part of a row: every group-th vector. One beyond the row's end is the thread's first again, and is not used."""
        s = self.s
        first, out = self.mul(self.member, s.vector), []
        for k in range(s.held):
            at, inside = self.add(first, k * s.group * s.vector), True
            if k and s.ragged:
                inside = self.lt(at, self.word("row"))
                at = self.select(inside, at, first)
            out.append(self.slot(scope, at, s.vector, inside))
        return out

    def slot(self, scope: Scope, at: Val, count: int, inside=True):
        """Positions of the window from `at` on, counted row-major."""
        loops, rest, order = {}, at, list(reversed(sequence(self.s)))
        for i in order[:-1]: rest, loops[i] = self._divmod(rest, self.word("extent", i))
        loops[order[-1]] = rest
        return self.neighbours(Scope(scope, loops, inside), order[0], count)

    def accumulate(self, scope: Scope, i: int, places):
        if scope.full is True: return super().accumulate(scope, i, places)
        before = tuple(map(self.get, places))
        super().accumulate(scope, i, places)
        for place, x in zip(places, before): self.set(place, self.select(scope.full, self.get(place), x))

    def divided(self, scope: Scope, order, body) -> bool:
        """Every group-th vector of the window is this thread's, counted row-major; what is too little for all threads, element by element."""
        s = self.s
        if not order or s.group * s.vector * s.several == 1: return False
        lo, hi = self.range or (self.counted(0), self.word("row"))
        if self.live is not None: hi = self.select(self.live, hi, lo)              # who has no work reads nothing
        member, step, end = self.member or self.counted(0), s.group * s.vector * s.several, lo
        if step > s.group:
            end = self.add(lo, self.and_(self.sub(hi, lo), -step))
            with self.loop(self.add(lo, self.mul(member, s.vector)), end, step) as at:
                slots = [self.slot(scope, self.add(at, k * s.group * s.vector), s.vector) for k in range(s.several)]
                self.preload(slots, self.needs[self.now])
                self.postponed = True
                for _, children in slots:
                    for c in children: body(c)
                self.postponed = False
                for i in self.inner_stores if self.now == self.store_pass else ():
                    for slot in slots if i in s.wide else (): self.write_all(slot, i)
        with self.loop(self.add(end, member), hi, s.group) as at: body(self.slot(scope, at, 1)[0])
        return True

    def total(self, i: int, places):
        acc, s, how = tuple(map(self.get, places)), self.s, self.body_values[i].combine
        if s.group == 1: return acc
        if s.form == "rows": acc = self.over_lanes(acc, how, min(s.group, WARP))
        return self.met(acc, how) if self.meets else acc

    def over_lanes(self, acc, how: str, count: int):
        for k in range(_log(count)): acc = combine(self, how, acc, tuple(self.butterfly(x, 1 << k) for x in acc))
        return acc

    def met(self, acc, how: str):
        """What the block's threads found, combined by way of shared memory."""
        s = self.s
        count = s.group // WARP if s.form == "rows" else s.group
        mine = self.shr(self.member, 5) if s.form == "rows" else self.add(self.mul(self.member, s.units), self.unit)
        most = count if s.form == "rows" else s.threads
        self.met_bytes = max(self.met_bytes, sum(-(-most * x.dtype.size // 16) * 16 for x in acc))
        room, places, at = self.shared_memory(self.met_bytes), [], 0
        for x in acc:                          # one row of values per accumulator
            places.append((self.offset(room, at), x.dtype))
            at += -(-most * x.dtype.size // 16) * 16
        self.barrier()                         # what was read of an earlier one is read
        def put():
            for x, (p, t) in zip(acc, places): self.store(x, self.offset(p, mine, t))
        if s.form != "rows": put()
        else:
            with self.if_(self.eq(self.and_(self.member, WARP - 1), 0)): put()
        self.barrier()
        if s.form == "rows":                   # every warp combines what all found
            return self.over_lanes(tuple(self.load(self.offset(p, self.and_(self.member, count - 1), t), t) for p, t in places), how, count)
        found = [tuple(self.load(self.offset(p, self.add(self.unit, k * s.units), t), t) for p, t in places) for k in range(count)]
        return functools.reduce(lambda a, b: combine(self, how, a, b), found)

    # ---- a window divided among blocks
    def _part_unit(self, scope: Scope, number, block, chunk):
        """One walk over a chunk of the window; what it finds goes to scratch."""
        scope = self.columns_of(scope, block)
        self.resume(scope, number, self.stage)
        lo = self.mul(chunk, self.word("chunk"))
        self.range = lo, self.intrinsic("smin", self.add(lo, self.word("chunk")), self.word("row"))
        for i, places in self.walk(scope, self.stage, None).items():
            found, targets = self.total(i, places), self.partials(i, number, chunk)
            conditions = [self.eq(self.member, 0)] + ([self.live] if self.live is not None else [])
            with self.if_(functools.reduce(self.and_, conditions)):
                for x, (p, _) in zip(found, targets): self.store(x, p)

    def _last_unit(self, scope: Scope, number, block, _):
        scope = self.columns_of(scope, block)
        self.resume(scope, number, self.passes)
        for i in self.outer_stores: self.write(scope, i)

    def resume(self, scope: Scope, number: Val, finished: int):
        """The results of finished walks, combined from all chunks' by the threads of a group."""
        for d in range(finished):
            for i in (i for i in self.reduces if self.s.depth[i] == d + 1):
                places, how = self.start(i), self.body_values[i].combine
                with self.loop(self.member, self.word("chunks"), self.s.group) as c:
                    new = tuple(self.load(p, t) for p, t in self.partials(i, number, c))
                    for place, x in zip(places, combine(self, how, tuple(map(self.get, places)), new)): self.set(place, x)
                scope.values[i] = self.result(i, self.total(i, places))
            self.fill(scope, self.needed, d + 1)

    def partials(self, i: int, number: Val, chunk: Val) -> list[tuple[Val, object]]:
        """(where, type) of what a chunk found for Reduce i (and its position): neighbours are what threads read side by side."""
        rows = self.s.form == "rows"
        at = self.add(self.mul(number, self.word("chunks")), chunk) if rows else self.add(self.mul(chunk, self.word("results")), number)
        return [(self.offset(self.offset(self.word("scratch"), self.word("partial", i, k)), at, t), t) for k, t in enumerate(self.kinds(i))]

    def kinds(self, i: int) -> tuple:
        """The types of one Reduce's accumulators."""
        t = self.accumulate_type(self.body_values[i])
        return (t, dt.int64) if self.body_values[i].combine in ARG else (t,)

    def room_of(self, s: DeviceSchedule) -> tuple[dict, int]:
        """Byte offsets of what chunks find, for a schedule of this spec; all their bytes."""
        out, end = {}, 0
        for i in self.reduces:
            for k, t in enumerate(self.kinds(i)):
                out["partial", i, k] = end
                end += -(-s.results * s.chunks * t.size // 16) * 16
        return out, end


def _log(n: int) -> int: return n.bit_length() - 1


# ---------------------------------------------------------------- launches
_programs: dict = {}                           # (spec, processor) -> [(PTX, keys of its words, is its work counted in chunks?)] of its launches, a lowering


def build(nest: Nest, isa: Isa) -> DeviceLaunch:
    s = schedule(nest, isa)
    key = s.spec, isa.cpu
    if key not in _programs: _programs[key] = programs(s, isa)
    texts, lowering = _programs[key]
    places, scratch = lowering.room_of(s) if s.parts > 1 else ({}, 0)
    first, *rest = [launch(s, places, *text) for text in texts]
    return replace(first, scratch=scratch, then=tuple(rest), bytes=bytes_of(s))


def programs(s: DeviceSchedule, isa: Isa):
    first, out = DeviceLowering(s, isa), []
    stages = range(first.walks + bool(first.outer_stores)) if s.parts > 1 else (None,)
    for stage in stages:
        text, keys = DeviceLowering(s, isa, stage).kernel()
        out.append((nvptx.ptx(text, "nest", isa), keys, stage is not None and stage < first.walks))
    return out, first


def launch(s: DeviceSchedule, places: dict, ptx: str, keys, chunked: bool) -> DeviceLaunch:
    late = tuple((k, key[0]) for k, key in enumerate(keys) if key[0] in LATE)
    blocks = s.turns if s.elementwise else -(-s.results * (s.chunks if chunked else 1) // s.units)
    return DeviceLaunch("nest", ptx, numbers(s, keys, places), (max(1, min(MAX_BLOCKS, blocks)), 1, 1), (s.threads, 1, 1), late=late)


def divisor(d: int) -> int:
    """d as a factor and a shift: n // d is n * factor >> shift for all n below 2^31."""
    d = max(d, 1)
    shift = 31 + (d - 1).bit_length()
    return shift << 32 | -(-(1 << shift) // d)


def numbers(s: DeviceSchedule, keys, places: dict) -> tuple[int, ...]:
    """The words of a launch."""
    plain = meaning(s, places)
    return tuple([0 if key[0] in LATE else divisor(plain(key[1:])) if key[0] == "divisor" else plain(key) for key in keys])
