"""How a loop nest will run: which loops, in which order, which of them becomes vector lanes, what threads divide, what is kept.

Comes in: a core.kernels.Nest. Goes out: a `Schedule` of canonical loops, whose `spec` holds everything that selects machine code and nothing else;
two nests with equal specs differ only in the words they are launched with.

Loops of length 1 are dropped and loops that every access walks in one go are merged. Then one of three forms:
  'map'      no reduction: lanes along a parallel loop
  'rows'     lanes along a window loop, combined at its end: one result (and everything computed from it) per parallel index
  'columns'  lanes along a parallel loop, the window runs in sequence: many results at once
`split`: few results from a long window; threads take chunks of a window loop, partial results meet in shared scratch after a barrier.
The number of chunks depends on sizes alone, never on the number of threads: results don't either.
"""
from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

from ..core import dtype as dt
from ..core.kernels import Apply, Cast, Const, Index, Load, Nest, Reduce, Store
from ..cpu import isa
from .builder import Builder
from .text import Val

KEEP_BYTES = 256 << 10                         # of private scratch for values that are dear to compute again
CHUNKS = 64                                    # parts of a split window
PARALLEL_WORK = 96 << 10                       # operations that are worth waking a thread for: three on each of 32K elements
TILE, TILE_LANES = 32, 128                     # a tile's size along `tile` and along the lanes: 16 KiB of float32
FIXED_STRIDE = 4                               # strides along the lanes from -1 to this are part of the machine code: a few loads and shuffles
BLOCK = 128                                    # steps of a long float sum before its total is put aside


@dataclass(slots=True)
class Loop:
    extent: int
    window: bool


@dataclass(slots=True)
class Schedule:
    nest: Nest                                 # with canonical loops: body strides are per loop of `loops`
    loops: list[Loop]                          # outermost first; parallel ones, then the window's
    form: str
    lane: int                                  # the loop that becomes vector lanes; -1: none, everything is a scalar
    n: int                                     # lanes
    split: int                                 # the window loop whose chunks threads share; -1: none
    exact: bool                                # no partial vectors
    unrolled: bool                             # a separate copy of the body for the last, partial vector
    blocked: int                               # float sums in two levels: the window loop that is cut into blocks; -1: none
    kept: tuple[int, ...]                      # values stored in private scratch by the pass that computes them first
    tile: int = -1                             # a parallel loop walked in blocks, because `staged` loads are contiguous along it; -1: none
    short: int = -1                            # a parallel loop of a few turns, written out: stores alternate its turns' lanes in memory; -1: none
    staged: tuple[int, ...] = ()               # loads that are transposed into private scratch, a tile at a time
    deps: list[int] = field(default_factory=list)
    depth: list[int] = field(default_factory=list)
    constants: dict = field(default_factory=dict)

    @property
    def parallel(self) -> list[int]: return [i for i, l in enumerate(self.loops) if not l.window]

    @property
    def window(self) -> list[int]: return [i for i, l in enumerate(self.loops) if l.window]

    @property
    def outer(self) -> list[int]: return [i for i in self.parallel if i not in (self.lane, self.tile, self.short)]

    # ---- run-time numbers
    @property
    def extents(self): return [l.extent for l in self.loops]

    @property
    def block(self) -> int:
        """Positions of the parallel lane loop that one unit of work covers."""
        if self.form == "rows" or self.lane < 0: return 1
        if self.tile >= 0: return TILE_LANES
        want = 4096 if self.form == "map" else self.n
        return max(self.n, min(want, -(-self.loops[self.lane].extent // self.n) * self.n))

    @property
    def blocks(self) -> int: return 1 if self.form == "rows" or self.lane < 0 else -(-self.loops[self.lane].extent // self.block)

    @property
    def chunk(self) -> int:
        """Positions of the split loop that one unit of work covers."""
        if self.split < 0: return 1
        step = self.n if self.split == self.lane else 1
        return max(1, -(-self.loops[self.split].extent // (CHUNKS * step))) * step

    @property
    def chunks(self) -> int: return 1 if self.split < 0 else max(1, -(-self.loops[self.split].extent // self.chunk))

    @property
    def tiles(self) -> int: return 1 if self.tile < 0 else -(-self.loops[self.tile].extent // TILE)

    @property
    def results(self) -> int: return math.prod(self.loops[i].extent for i in self.outer) * self.tiles * self.blocks

    @property
    def row(self) -> int:
        """Positions of the window that a kept value is stored for."""
        return math.prod(self.loops[i].extent for i in self.window)

    # ---- what selects machine code
    @property
    def spec(self):
        kinds = tuple(l.window for l in self.loops), self.lane, self.split, self.tile
        kinds += (self.short, self.short >= 0 and self.loops[self.short].extent)
        return (self.form, kinds, self.n, self.exact, self.unrolled, self.blocked, self.kept, self.staged, self.nest.operands, tuple(alike(self.nest).values()),
                tuple(self._value_spec(i, v) for i, v in enumerate(self.nest.body)))

    def stride_class(self, strides) -> tuple:
        """-1 to 4 or 'other' along the lanes, 0 or 'other' along other loops."""
        return tuple((s if fixed(s) else -2) if i == self.lane else -(s != 0) for i, s in enumerate(strides))

    def _value_spec(self, i, v):
        if isinstance(v, Load):
            return ("load", v.operand, v.dtype, self.stride_class(v.strides), tuple(t.index for t in v.at),
                    tuple(self.stride_class(g.coeffs) for g in v.bounds), v.other if v.bounds else None)
        if isinstance(v, Index): return "index", self.stride_class(v.coeffs)
        if isinstance(v, Const): return "const", v.dtype, None if i in self.constants else repr(v.value)
        if isinstance(v, Store): return "store", v.operand, v.arg, v.dtype, self.stride_class(v.strides)
        return v


def fixed(stride: int) -> bool: return -1 <= stride <= FIXED_STRIDE


# ---- canonical loops
def alike(nest: Nest) -> dict[int, int]:
    """For each access, the first one with the same strides: they share its index, and their offsets are added to their operands' addresses. Loads with
    bounds keep their own: they may begin before their operand does."""
    first: dict = {}
    return {i: first.setdefault(v.strides, i) for i, v in enumerate(nest.body) if isinstance(v, (Load, Store)) and not (isinstance(v, Load) and v.bounds)}


def _maps(nest: Nest) -> list[tuple[int, ...]]:
    """Every affine function of the indices that the body uses."""
    out = []
    for v in nest.body:
        if isinstance(v, (Load, Store)): out.append(v.strides)
        if isinstance(v, Load): out += [g.coeffs for g in v.bounds]
        if isinstance(v, Index): out.append(v.coeffs)
    return out


def _remap(nest: Nest, change, axes, window) -> Nest:
    """The nest with every affine function changed by `change` (a function of its coefficients)."""
    body = []
    for v in nest.body:
        if isinstance(v, Load):
            v = replace(v, strides=change(v.strides), bounds=tuple(replace(g, coeffs=change(g.coeffs)) for g in v.bounds))
        elif isinstance(v, Store): v = replace(v, strides=change(v.strides))
        elif isinstance(v, Index): v = replace(v, coeffs=change(v.coeffs))
        body.append(v)
    return Nest(tuple(axes), tuple(window), nest.operands, tuple(body), nest.label)


def canonical(nest: Nest) -> Nest:
    """Without loops of length 1; parallel loops sorted by the strides of stores, then loads; loops that continue each other merged.

    The window keeps its order where positions matter (argmax), else it is sorted too.
    """
    extents, k = (*nest.axes, *nest.window), len(nest.axes)
    ordered = any(isinstance(v, Reduce) and v.combine in ("argmax", "argmin") for v in nest.body)
    stores = [v.strides for v in nest.body if isinstance(v, Store)]
    loads = [v.strides for v in nest.body if isinstance(v, Load)]

    def weight(i): return (-sum(abs(s[i]) for s in stores), -sum(abs(s[i]) for s in loads), i)
    axes = sorted((i for i in range(k) if extents[i] != 1), key=weight)
    window = [i for i in range(k, len(extents)) if extents[i] != 1]
    if not ordered: window.sort(key=lambda i: (-max((abs(s[i]) for s in loads), default=0), i))
    maps = _maps(nest)
    if ordered:                                # positions count as one more access, so that only row-major neighbours merge
        steps = [math.prod(extents[j + 1:]) if j >= k else 0 for j in range(len(extents))]
        maps = [*maps, steps]

    def merged(order):
        groups = []
        for i in order:
            if groups and all(m[groups[-1][-1]] == m[i] * extents[i] for m in maps): groups[-1].append(i)
            else: groups.append([i])
        return groups
    axes, window = merged(axes), merged(window)
    groups = [*axes, *window]
    if len(groups) == len(extents) and all(g == [i] for i, g in enumerate(groups)): return nest
    return _remap(nest, lambda s: tuple(s[g[-1]] for g in groups), [math.prod(extents[i] for i in g) for g in axes],
                  [math.prod(extents[i] for i in g) for g in window])


# ---- facts about values
def dependences(nest: Nest) -> list[int]:
    """For each value, the loops it varies along, as bits."""
    window = sum(1 << i for i in range(len(nest.axes), len(nest.axes) + len(nest.window)))
    out: list[int] = []

    def bits(coefficients): return sum(1 << i for i, c in enumerate(coefficients) if c)
    for v in nest.body:
        d = 0
        if isinstance(v, Load):
            d = bits(v.strides)
            for g in v.bounds: d |= bits(g.coeffs)
            for t in v.at: d |= out[t.index]
        elif isinstance(v, Index): d = bits(v.coeffs)
        elif isinstance(v, Apply):
            for a in v.args: d |= out[a]
        elif isinstance(v, Cast): d = out[v.arg]
        elif isinstance(v, Reduce): d = out[v.arg] & ~window
        elif isinstance(v, Store): d = out[v.arg] | bits(v.strides)
        out.append(d)
    return out


def arguments(v) -> tuple[int, ...]:
    if isinstance(v, Apply): return v.args
    if isinstance(v, (Cast, Reduce, Store)): return (v.arg,)
    return tuple(t.index for t in v.at) if isinstance(v, Load) else ()


def depths(nest: Nest) -> list[int]:
    """For each value, how many passes over the window must be finished before it can be computed."""
    out = []
    for v in nest.body:
        d = max((out[a] for a in arguments(v)), default=0)
        out.append(d + 1 if isinstance(v, Reduce) else d)
    return out


_emitted: dict = {}                            # (row, operand types) -> instructions it writes


def cost(nest: Nest, v) -> int:
    """Instructions that a value stands for, per element (or vector)."""
    if isinstance(v, Load): return 4 if v.at or v.bounds else 1
    if isinstance(v, (Cast, Reduce, Store)): return 1
    if not isinstance(v, Apply): return 0
    types = tuple(value_type(nest, a) for a in v.args)
    key = v.op, types
    if key not in _emitted:
        b = Builder()
        v.op.emit(b, *(b.pair(*(Val("%x", t.real),) * 2) if t.category == dt.COMPLEX else Val("%x", t) for t in types))
        _emitted[key] = len(b.lines)
    return _emitted[key]


def value_type(nest: Nest, i: int): return nest.body[i].dtype or dt.int64      # an Index counts in int64


# ---- choosing
def _score(nest: Nest, deps, i: int, extent: int) -> float:
    """How well loop i serves as lanes: contiguous accesses are good, strided ones bad, short loops useless."""
    points, window = 0.0, -(1 << len(nest.axes)) if nest.window else 0
    for v, d in zip(nest.body, deps):
        if not isinstance(v, (Load, Store)): continue
        s, weight = v.strides[i], 2.0 if isinstance(v, Store) else 1.0
        if window and not d & window: weight = 0.05                # once per result, not once per element
        if isinstance(v, Load) and (v.at or v.bounds): weight /= 2
        points += weight * (2 if s == 1 else 1.5 if s == -1 else -1 if isinstance(v, Store) or not fixed(s) else 1 if s == 0 else 0.75)
    n = max(extent, 1)
    return points + math.log2(n / -(-n // 16)) + min(math.log2(n), 8) / 8                            # how full registers are, then how many there are


def _lanes(nest: Nest, live_types, extent: int, wide: int) -> int:
    """Lanes so that the widest type fills `wide` registers; fewer where the loop is shorter, or would leave more than an eighth of them empty."""
    size = max([t.real.opmath.size if t.category == dt.COMPLEX else t.opmath.size for t in live_types if t is not dt.bool] or [1])
    n = min(64, max(1, isa.vector_bytes * wide // size))
    while n > 1 and n >= 2 * extent: n //= 2
    few = [m for m in (n >> 2, n >> 1, n) if m >= isa.vector_bytes // size] or [n]
    filled = {m: -(-extent // m) * m for m in few}
    return max([m for m in few if 8 * filled[m] <= 9 * extent], default=min(few, key=lambda m: filled[m]))


def form_and_lane(nest: Nest, deps, loops, vector_bytes: int) -> tuple[str, int]:
    """(form, the loop whose neighbours are done side by side; -1: none)."""
    parallel, window = list(range(len(nest.axes))), list(range(len(nest.axes), len(loops)))
    best_parallel = max(parallel, key=lambda i: (_score(nest, deps, i, loops[i].extent), i), default=-1)
    best_window = max(window, key=lambda i: (_score(nest, deps, i, loops[i].extent), i), default=-1)
    inner = [v for v, d in zip(nest.body, deps) if isinstance(v, Store) and any(d >> i & 1 for i in window)]
    if not inner and not any(isinstance(v, Reduce) for v in nest.body): return "map", best_parallel
    if best_window < 0: return "columns" if best_parallel >= 0 else "rows", best_parallel
    rows = _score(nest, deps, best_window, loops[best_window].extent)
    columns = _score(nest, deps, best_parallel, loops[best_parallel].extent) if best_parallel >= 0 else -math.inf
    if best_parallel >= 0 and loops[best_parallel].extent <= 4 and loops[best_window].extent >= 64: columns = -math.inf
    short = loops[best_window].extent < vector_bytes // 8 and best_parallel >= 0 and loops[best_parallel].extent >= vector_bytes // 8
    return ("columns", best_parallel) if columns > rows or short else ("rows", best_window)


def constants_of(nest: Nest) -> dict:
    """Numbers that are words, not part of the machine code."""
    return {i: v.value for i, v in enumerate(nest.body) if isinstance(v, Const) and not _structural(v)}


def schedule(nest: Nest) -> Schedule:
    nest = canonical(nest)
    loops = [Loop(n, False) for n in nest.axes] + [Loop(n, True) for n in nest.window]
    deps, depth = dependences(nest), depths(nest)
    reduces, window = [v for v in nest.body if isinstance(v, Reduce)], list(range(len(nest.axes), len(loops)))
    form, lane = form_and_lane(nest, deps, loops, isa.vector_bytes)
    short = -1
    if form == "map": lane, short = _alternating(nest, lane)
    inside = -1 if form != "rows" else sum(1 << i for i in window)               # a row's results are made once
    work = sum(cost(nest, v) for v, d in zip(nest.body, deps) if d & inside or isinstance(v, Reduce))
    extent = loops[lane].extent if lane >= 0 else 1
    # several registers per value hide latency in short bodies; in long ones they would spill, and take long to compile. Columns are read in pieces
    # of memory this wide, a stride apart: wider is better there
    limits = {"map": (0, 24), "rows": (12, 48), "columns": (40, 1 << 30)}[form]
    wide = 4 if work <= limits[0] else 2 if work <= limits[1] and short < 0 else 1
    n = _lanes(nest, _types(nest), extent, wide) if lane >= 0 else 1
    if n == 1 and extent <= 1: lane = -1 if form != "rows" else lane
    constants = constants_of(nest)
    out = Schedule(nest, loops, form, lane, n, -1, False, work <= 16, -1, (), short=short, deps=deps, depth=depth, constants=constants)
    total = math.prod(l.extent for l in loops)
    if reduces and window and out.results < 16 and total >= 128 << 10 and not any(l.extent == 0 for l in loops):
        out.split = max(window, key=lambda i: (loops[i].extent // (n if i == lane else 1), -i))
    out.exact = n == 1 or (extent % n == 0)
    sums = any(v.combine == "sum" and v.dtype.category >= dt.FLOAT for v in reduces)
    if sums: out.blocked = next((i for i in reversed(sequence(out)) if _steps(out, i) > 2 * BLOCK), -1)
    if out.split < 0 and any(depth[i] for i, v in enumerate(nest.body) if isinstance(v, (Reduce, Store))): out.kept = _worth_keeping(out)
    if form == "map" and n > 1 and short < 0: out.tile, out.staged = transposed(out)
    return out


def _alternating(nest: Nest, lane: int) -> tuple[int, int]:
    """(lanes' loop, a loop of a few turns): what is stored is contiguous along the short one and goes on along the other, as when pixels are repeated."""
    stores, loops = [v for v in nest.body if isinstance(v, Store)], range(len(nest.axes))
    if any(v.dtype is not None and v.dtype.category == dt.COMPLEX or nest.operands[v.operand].dtype.category == dt.COMPLEX for v in stores): return lane, -1
    for k in loops:
        few = nest.axes[k]
        if few > FIXED_STRIDE or any(v.strides[k] != 1 for v in stores): continue
        for i in loops:
            if nest.axes[i] >= 8 and all(v.strides[i] == few for v in stores): return i, k
    return lane, -1


def _steps(s: Schedule, i: int) -> int:
    """Turns that one walk makes of window loop i."""
    return (min(s.loops[i].extent, s.chunk) if i == s.split else s.loops[i].extent) // (s.n if i == s.lane else 1)


def transposed(s: Schedule) -> tuple[int, tuple[int, ...]]:
    """The loop along which loads are contiguous that are strided along the lanes, and those loads."""
    found: dict[int, list[int]] = {}
    for i, v in enumerate(s.nest.body):
        if not isinstance(v, Load) or v.at or v.bounds or fixed(v.strides[s.lane]) or v.dtype.category == dt.COMPLEX: continue
        for t in s.outer:
            if v.strides[t] == 1 and s.loops[t].extent >= 8 and s.loops[s.lane].extent >= 8: found.setdefault(t, []).append(i)
    if not found: return -1, ()
    t = max(found, key=lambda t: (len(found[t]), -t))
    return t, tuple(found[t])


def sequence(s: Schedule) -> list[int]:
    """The window loops in the order they are nested: the lanes' loop last."""
    return [i for i in s.window if i != s.lane] + [i for i in s.window if i == s.lane]


def _types(nest: Nest):
    """The types whose size decides the number of lanes: not those of positions."""
    return [v.dtype for v in nest.body if not isinstance(v, (Store, Index)) and not (isinstance(v, Reduce) and v.combine.startswith("arg"))]


def _structural(v: Const) -> bool:
    """Constants worth their own machine code: the small ones that make instructions disappear."""
    if v.dtype.category in (dt.COMPLEX, dt.BOOL) or isinstance(v.value, (bool, complex)): return True
    return v.value in (0, 1, -1, 2, 0.5) or v.value != v.value or abs(v.value) == math.inf or not -2**63 <= v.value < 2**63


def _worth_keeping(s: Schedule) -> tuple[int, ...]:
    """Dear values that a later pass needs again; a row of them must fit the scratch."""
    if s.lane < 0: return ()
    body, bits = s.nest.body, sum(1 << i for i in s.window)
    uses: dict[int, set[int]] = {}
    last = max((s.depth[i] for i, v in enumerate(body) if isinstance(v, Store)), default=0)

    def need(i, p):
        if p in uses.setdefault(i, set()) or isinstance(body[i], Reduce): return
        uses[i].add(p)
        for a in arguments(body[i]): need(a, p)
    for i, v in enumerate(body):
        if isinstance(v, Reduce): need(v.arg, s.depth[i] - 1)
        if isinstance(v, Store) and s.deps[i] & bits: need(v.arg, last)
    out, room = [], KEEP_BYTES
    for i in sorted(uses, reverse=True):       # a kept value spares the ones it is made of
        v = body[i]
        if len(uses[i]) < 2 or not s.deps[i] & bits or not s.deps[i] >> s.lane & 1 or cost(s.nest, v) < 10 or v.dtype.category == dt.COMPLEX: continue
        size = s.row * (1 if s.form == "rows" else s.n) * v.dtype.size
        if size <= room: out.append(i); room -= size
    return tuple(sorted(out))
