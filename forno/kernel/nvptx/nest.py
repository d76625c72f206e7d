"""Loop nests for a GPU.

Comes in: core.kernels.Nest. Goes out: a DeviceLaunch. Indices and values are worked out by the CPU's lowering with one lane; here is who does what:

  'map'      a thread per element
  'rows'     a group of threads per result: neighbours read neighbours along the window; what they found is combined by shuffles, then by shared memory
  'columns'  32 results side by side per block, so that loads are contiguous; the window is divided among its warps

Results are the same bits in every run: who adds what is a matter of sizes alone.
"""
from __future__ import annotations

import contextlib
import functools
import math
from dataclasses import dataclass

from ...core import dtype as dt
from ...core.kernels import DeviceLaunch, Nest
from ...cpu import nvptx
from ...cpu.isa import Isa
from ..abi import float_word
from ..combine import combine
from ..nest import bytes_of
from ..lower import Lowering, Scope, affine_maps
from ..schedule import Loop, Schedule, canonical, constants_of, dependences, depths, form_and_lane
from ..text import Val
from .abi import LATE, WARP, DeviceKernel

MAP_THREADS = 256
MAX_BLOCKS = 1 << 20                           # beyond that, threads take several units in turn


@dataclass(slots=True)
class DeviceSchedule(Schedule):
    """`group`: threads that share a unit of work. `threads`: of a block."""
    group: int = 1
    threads: int = MAP_THREADS

    @property
    def block(self) -> int: return 1

    @property
    def blocks(self) -> int: return 1 if self.form == "rows" or self.lane < 0 else self.loops[self.lane].extent

    @property
    def units(self) -> int:
        """Units of work of one block at a time."""
        return self.threads // self.group

    @property
    def spec(self): return (*Schedule.spec.fget(self), self.group, self.threads)


def schedule(nest: Nest, isa: Isa) -> DeviceSchedule:
    nest = canonical(nest)
    loops = [Loop(n, False) for n in nest.axes] + [Loop(n, True) for n in nest.window]
    deps = dependences(nest)
    form, lane = form_and_lane(nest, deps, loops, isa.vector_bytes)
    if lane >= 0 and loops[lane].extent <= 1 and form != "rows": lane = -1
    out = DeviceSchedule(nest, loops, form, lane, 1, -1, True, False, -1, (), deps=deps, depth=depths(nest), constants=constants_of(nest))
    row = math.prod(loops[i].extent for i in out.window)
    if form == "rows": out.group, out.threads = row_group(out.results, row)
    if form == "columns" and lane >= 0: out.group, out.threads = column_group(out.results, row)
    return out


def row_group(results: int, row: int) -> tuple[int, int]:
    """(threads per result, per block)."""
    if row < 16 or row < 64 and results >= 1 << 16: return 1, 128
    if row <= 1024 and results >= 64: return WARP, 128
    group = min(1024, max(64, 1 << (row // 4 - 1).bit_length()))
    return group, group


def column_group(results: int, row: int) -> tuple[int, int]:
    if row < 32 or results >= 1 << 18: return 1, MAP_THREADS
    group = min(32, 1 << (row // 16 - 1).bit_length())
    return group, WARP * group


class DeviceLowering(Lowering, DeviceKernel):
    """`member`: this thread's number in its group. `live`: has its unit any work? None: always. `place`: where a group's shared memory is."""

    def __init__(self, s: DeviceSchedule, isa: Isa):
        self.isa, self.threads_per_block = isa, s.threads
        super().__init__(s)

    def kernel(self):
        s = self.s
        with self.body("nest"):
            self.prologue = self.entry
            thread = self.hoisted(lambda: self.special("tid.x"))
            units = s.units
            if s.group == 1: self.member, self.unit = None, thread
            elif s.form == "rows": self.unit, self.member = self.hoisted(lambda: (self.shr(thread, _log(s.group)), self.and_(thread, s.group - 1)))
            else: self.unit, self.member = self.hoisted(lambda: (self.and_(thread, units - 1), self.shr(thread, _log(units))))
            self.live = None
            self.units(False, self._map_unit if s.form == "map" else self._whole_unit)
            self.report_checks()
        return self.module(), tuple(self.keys)

    # ---- who does what
    @contextlib.contextmanager
    def turns(self, total: Val, tell: bool):
        """This thread's units of range(total). Where the block meets at barriers all its threads take as many turns; units beyond the last are not live."""
        per = self.s.units
        first = self.mul(self.special("ctaid.x"), per)
        step = self.mul(self.special("nctaid.x"), per)
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
        return self.s.group > 1 and (self.s.form == "columns" or self.s.group > WARP)

    def _map_unit(self, scope, _, block, __):
        if self.s.lane >= 0: scope = Scope(scope, {self.s.lane: block})
        self.fill(scope, self.needed, 0)
        for i in self.outer_stores: self.write(scope, i)

    def write(self, scope: Scope, i: int):
        conditions = [c for c in (self.live, self.eq(self.member, 0) if self.member is not None and i in self.outer_stores else None) if c is not None]
        if not conditions: return super().write(scope, i)
        with self.if_(functools.reduce(self.and_, conditions)): super().write(scope, i)

    # ---- a window divided among a group
    def divided(self, scope: Scope, order, body) -> bool:
        """Every group-th position of the window is this thread's, counted row-major."""
        if self.member is None: return False
        inner = list(reversed(order))
        total = functools.reduce(self.mul, [self.word("extent", i) for i in inner])
        with self.loop(self.member, total, self.s.group) as at:
            loops, rest = {}, at
            for i in inner[:-1]: rest, loops[i] = self._divmod(rest, self.word("extent", i))
            loops[inner[-1]] = rest
            body(Scope(scope, loops))
        return True

    def total(self, i: int, places):
        acc, s = tuple(map(self.get, places)), self.s
        if s.group == 1: return acc
        how = self.body_values[i].combine
        if s.form == "rows":
            for k in range(_log(min(s.group, WARP))): acc = combine(self, how, acc, tuple(self.butterfly(x, 1 << k) for x in acc))
        return self.met(acc, how) if self.meets else acc

    def met(self, acc, how: str):
        """What the block's threads found, combined by way of shared memory."""
        s = self.s
        if s.form == "rows": count, mine, others, writes = s.group // WARP, self.shr(self.member, 5), lambda k: self.index(k), self.eq(self.and_(self.member, WARP - 1), 0)
        else: count, mine, others, writes = s.group, self.add(self.mul(self.member, s.units), self.unit), lambda k: self.add(self.unit, k * s.units), None
        room = self.shared_memory(s.threads * 32)
        places, at = [], 0
        for x in acc:                          # one row of values per accumulator
            places.append((self.offset(room, at), x.dtype))
            at += s.threads * (1 if x.dtype is dt.bool else x.dtype.size)
        self.barrier()                         # what was read of an earlier one is read
        def put():
            for x, (p, t) in zip(acc, places): self.store(x, self.offset(p, mine, t))
        if writes is None: put()
        else:
            with self.if_(writes): put()
        self.barrier()
        found = [tuple(self.load(self.offset(p, others(k), t), t) for p, t in places) for k in range(count)]
        return functools.reduce(lambda a, b: combine(self, how, a, b), found)


def _log(n: int) -> int: return n.bit_length() - 1


# ---------------------------------------------------------------- launches
_programs: dict = {}                           # (spec, processor) -> (PTX, keys of its words)


def build(nest: Nest, isa: Isa) -> DeviceLaunch:
    s = schedule(nest, isa)
    key = s.spec, isa.cpu
    if key not in _programs:
        text, keys = DeviceLowering(s, isa).kernel()
        _programs[key] = nvptx.ptx(text, "nest", isa), keys
    ptx, keys = _programs[key]
    late = tuple((k, key[0]) for k, key in enumerate(keys) if key[0] in LATE)
    blocks = max(1, min(MAX_BLOCKS, -(-s.results // s.units)))
    return DeviceLaunch("nest", ptx, numbers(s, keys), (blocks, 1, 1), (s.threads, 1, 1), late=late, bytes=bytes_of(s))


def numbers(s: DeviceSchedule, keys) -> tuple[int, ...]:
    """The words of a launch: what each key means for this schedule."""
    maps, body = affine_maps(s), s.nest.body

    def number(key):
        what = key[0]
        if what in LATE: return 0
        if what == "extent": return s.loops[key[1]].extent
        if what == "coefficient": return maps[key[1]][0][key[2]]
        if what == "offset": return maps[key[1]][1]
        if what == "constant": return float_word(body[key[1]].value) if body[key[1]].dtype.category == dt.FLOAT else int(body[key[1]].value)
        if what == "at stride": return body[key[1]].at[key[2]].stride
        if what == "at size": return body[key[1]].at[key[2]].size
        if what == "bound size": return body[key[1]].bounds[key[2]].size
        return getattr(s, what)                # results, blocks, tiles
    return tuple(map(number, keys))
