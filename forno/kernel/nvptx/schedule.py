"""How a loop nest is divided among the threads of a GPU.

Comes in: core.kernels.Nest. Goes out: a DeviceSchedule: who does what, how many neighbours a thread takes at once, what it keeps in registers, how many blocks
share a window. All of it follows from sizes and strides, never from a device's number of multiprocessors: results don't depend on it either.
"""
from __future__ import annotations

import math
from dataclasses import dataclass

from ...core.kernels import Load, Nest, Store
from ...cpu.isa import Isa
from ..lower import affine_maps
from ..schedule import Loop, Schedule, canonical, constants_of, cost, dependences, depths, form_and_lane, transposed
from .abi import WARP

MAP_THREADS = 256
MAX_BLOCKS = 1 << 20                           # beyond that, threads take several units in turn
SIDE = 32                                      # of a tile that is transposed
TILES_FROM = 1 << 12                           # elements: below, strided loads cost less than two barriers
VECTORS_FROM = 1 << 16                         # elements: below, more threads are worth more than more bytes per thread
SPLIT_FROM = 1 << 15                           # positions of a window that several blocks share
BLOCKS = 512                                   # what is wanted to keep any GPU busy
COPIES = 640                                   # instructions of an unrolled body


@dataclass(slots=True)
class DeviceSchedule(Schedule):
    group: int = 1                             # threads that share a unit of work
    threads: int = MAP_THREADS                 # of a block
    vector: int = 1                            # neighbours that a thread takes at once: one access of 16 bytes or less where the address allows
    several: int = 1                           # such vectors of one thread that are loaded before anything is computed
    held: int = 0                              # vectors of a row that a thread keeps in registers from pass to pass; 0: every pass loads again
    ragged: bool = False                       # does the last held vector of some threads lie beyond the row?
    parts: int = 1                             # blocks that share a window, at most
    narrow: bool = False                       # do indices fit 32 bits?
    wide: tuple[int, ...] = ()                 # accesses of whole vectors

    @property
    def block(self) -> int: return 1

    @property
    def blocks(self) -> int:
        if self.form == "rows" or self.lane < 0: return 1
        return self.loops[self.lane].extent if self.tile < 0 else -(-self.loops[self.lane].extent // SIDE)

    @property
    def units(self) -> int:
        """Units of work of one block at a time."""
        return self.threads // self.group

    @property
    def elementwise(self) -> bool:
        """Is work counted in elements, several to a thread?"""
        return self.form == "map" and self.vector * self.several > 1

    @property
    def chunk(self) -> int:
        """Positions of the window that one block takes."""
        step = self.group * self.vector * self.several
        return -(-self.row // (self.parts * step)) * step

    @property
    def chunks(self) -> int: return -(-self.row // self.chunk)

    @property
    def elements(self) -> int: return math.prod(self.nest.axes)

    @property
    def turns(self) -> int:
        """Blocks' worth of elements."""
        return -(-self.elements // (self.threads * self.vector * self.several))

    @property
    def spec(self):
        return (*Schedule.spec.fget(self), self.group, self.threads, self.vector, self.several, self.held, self.ragged, self.parts > 1, self.narrow, self.wide)


def schedule(nest: Nest, isa: Isa) -> DeviceSchedule:
    nest = canonical(nest)
    loops = [Loop(n, False) for n in nest.axes] + [Loop(n, True) for n in nest.window]
    deps = dependences(nest)
    form, lane = form_and_lane(nest, deps, loops, isa.vector_bytes)
    if lane >= 0 and loops[lane].extent <= 1 and form != "rows": lane = -1
    s = DeviceSchedule(nest, loops, form, lane, 1, -1, True, False, -1, (), deps=deps, depth=depths(nest), constants=constants_of(nest))
    if lane >= 0 and all(s.extents): {"map": _map, "rows": _rows, "columns": _columns}[form](s)
    s.narrow = fits(s)
    return s


def fits(s: DeviceSchedule) -> bool:
    """Do all numbers that indices are made of stay below 2^31, those of units beyond the last included?"""
    if math.prod(s.extents) >= 1 << 30 or s.results * (s.chunks if s.parts > 1 else 1) >= 1 << 30: return False
    if any(g.size >= 1 << 31 for v in s.nest.body if isinstance(v, Load) for g in v.bounds): return False
    return all(abs(offset) + sum(abs(c) * l.extent for c, l in zip(coefficients, s.loops)) < 1 << 31 for coefficients, offset in affine_maps(s).values())


# ---- vectors
def _vectors(s: DeviceSchedule, loop: int) -> tuple[int, tuple[int, ...]]:
    """(neighbours along a loop that all accesses contiguous along it can take as one, those accesses). Whether their first elements lie at multiples of 16 bytes is
    seen when the kernel runs; that the others do, then, is seen here."""
    found = [i for i, v in enumerate(s.nest.body) if isinstance(v, (Load, Store)) and v.strides[loop] == 1 and not (isinstance(v, Load) and (v.at or v.bounds))]
    sizes = [size_of(s, i) for i in found]
    if not found: return 1, ()
    n = max(1, 16 // max(min(sizes), 2 if max(sizes) > 1 else 1))
    steps = [c for i in found for k, c in enumerate(s.nest.body[i].strides) if k != loop]
    if len(s.loops) > 1: steps.append(s.loops[loop].extent)
    while any(c % n for c in steps): n //= 2
    return (n, tuple(found)) if n > 1 else (1, ())


def size_of(s: DeviceSchedule, i: int) -> int:
    v = s.nest.body[i]
    return (v.dtype or s.nest.operands[v.operand].dtype).size


def _work(s: DeviceSchedule) -> int: return max(1, sum(cost(s.nest, v) for v in s.nest.body))


def _free(s: DeviceSchedule, loop: int) -> list[int]:
    """Loads that vary along a loop and ask nothing before they touch memory."""
    return [i for i, v in enumerate(s.nest.body) if isinstance(v, Load) and not v.at and not v.bounds and s.deps[i] >> loop & 1]


def power(n: int) -> int:
    """The largest power of two that is at most n."""
    return 1 << n.bit_length() - 1


# ---- forms
def _map(s: DeviceSchedule):
    tile, staged = transposed(s)
    if tile >= 0 and s.elements >= TILES_FROM:
        s.tile, s.staged, s.group = tile, staged, MAP_THREADS
        return
    work = _work(s)
    if s.elements < VECTORS_FROM or 2 * work > COPIES: return
    varying = [i for i, v in enumerate(s.nest.body) if isinstance(v, (Load, Store)) and s.deps[i] >> s.lane & 1]
    n, wide = _vectors(s, s.lane)
    if set(varying) <= set(wide) and n * work <= COPIES:
        s.vector, s.wide, s.several = n, wide, 2 if 2 * n * work <= COPIES else 1
    elif set(_free(s, s.lane)) == {i for i in varying if isinstance(s.nest.body[i], Load)}: s.several = 4 if 4 * work <= COPIES else 2


def _rows(s: DeviceSchedule):
    row, results = s.row, s.results
    s.group, s.threads = 1, 128
    if row < WARP // 2 or row < WARP and results >= 1 << 12: return
    work, n, wide = _work(s), *_vectors(s, s.lane)
    while row // n < WARP and n > 1: n //= 2
    if results < BLOCKS // 2 and row >= SPLIT_FROM: s.parts = max(1, min(BLOCKS // results, row // (SPLIT_FROM // 4)))
    while s.parts == 1 and row % n: n //= 2
    s.vector, s.wide = n, wide if n > 1 else ()
    most = min(1024, max(WARP, power(row // n)))                  # every thread has a first vector
    if s.parts == 1 and row >= WARP and _hold(s, most, work): return
    s.group = min(256, most)
    s.threads = block_of(s.group)
    s.several = next((k for k in (4, 2) if k * n <= 8 and s.group * n * k <= row and k * n * work <= COPIES), 1)


def block_of(group: int) -> int:
    """Threads per block: warps that don't meet share one."""
    return 128 if group <= WARP else group


def _hold(s: DeviceSchedule, most: int, work: int) -> bool:
    """Rows in registers: the smallest group of threads for which a row is few enough elements each. False: it isn't for any."""
    n, vectors, loads = s.vector, s.row // s.vector, _free(s, s.lane)
    words = sum(max(4, size_of(s, i)) // 4 for i in loads) or 1    # registers per element
    want = max(n, 16 if s.results >= BLOCKS else 8)
    groups = [1 << k for k in range(5, 11) if 1 << k <= most]
    for limit in (want, 32):
        for group in groups:
            held = 1 << (-(-vectors // group) - 1).bit_length()
            if held * n > limit or held * n * words > (32 if group == 1024 else 64) or held * n * work > 2 * COPIES: continue
            s.group, s.threads, s.held, s.ragged = group, block_of(group), held, held * group != vectors
            return True
    return False


def _columns(s: DeviceSchedule):
    row, blocks = s.row, -(-s.results // WARP)
    if not s.window: return
    if row >= WARP and s.results < 1 << 18:
        s.group = min(16, 1 << (row // 16 - 1).bit_length())
        s.threads = WARP * s.group
    if all(i in _free(s, s.window[-1]) for i, v in enumerate(s.nest.body) if isinstance(v, Load) and s.deps[i] >> s.window[-1] & 1):
        s.several = next((k for k in (4, 2) if 2 * k * s.group <= row and k * _work(s) <= COPIES), 1)
    if s.group > 1 and blocks < BLOCKS // 2: s.parts = max(1, min(BLOCKS // blocks, row // (32 * s.group)))
