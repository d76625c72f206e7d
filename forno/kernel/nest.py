"""Loop nests to launches: schedule, look the machine code up by what selects it, or write and compile it.

Comes in: core.kernels.Nest. Goes out: core.kernels.Launch. A nest of another shape with the same spec compiles nothing: its numbers are words.
"""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..core.kernels import Launch, Load, Nest, Program, Store
from ..cpu import code
from .abi import float_word, ours
from .lower import Lowering, affine_maps
from .schedule import PARALLEL_WORK, Schedule, cost, schedule

TINY = 16                                      # elements; fewer are not worth optimising their code
_programs: dict = {}                           # (spec, level) -> (Program, keys of its words, its Lowering)
_scheduled: dict = {}                          # id of a nest that will be built -> (the nest, its Schedule, key of its program)


def build(nest: Nest) -> Launch:
    same, *known = _scheduled.pop(id(nest), (None,))
    s, key = known if same is nest else _key(nest)
    if key not in _programs: compile_all([nest])
    program, keys, lowering = _programs[key]
    places = lowering.scratch(s)
    work = math.prod(s.extents) * sum(cost(s.nest, v) for v in s.nest.body)
    return Launch(program, numbers(s, keys, places), work >= PARALLEL_WORK and s.results * s.chunks > 1, places["private"], places["shared"],
                  bytes_of(s), work)


def _key(nest: Nest):
    s = schedule(nest)
    return s, (s.spec, 0 if math.prod(s.extents) <= TINY else 1)


def compile_all(nests, besides=()):
    """Machine code for what these nests still lack, in one go: threads share it, and the callables `besides`."""
    new = {}
    _scheduled.clear()                         # a plan that failed left some
    for nest in nests:
        s, key = _key(nest)
        _scheduled[id(nest)] = nest, s, key
        if key in _programs or key in new: continue
        lowering = Lowering(s)
        new[key] = lowering, code.Text(lowering.kernel, repr(s.spec) if all(map(ours, s.nest.body)) else None)
    addresses = code.precompile([(text, "nest", level) for (_, level), (_, text) in new.items()], besides=besides)
    for (key, (lowering, text)), address in zip(new.items(), addresses): _programs[key] = Program("nest", address, text), text.notes, lowering


def bytes_of(s: Schedule) -> int:
    """Memory touched, each access counted over the loops it varies along."""
    return sum(math.prod(l.extent for l, step in zip(s.loops, v.strides) if step) * (v.dtype or s.nest.operands[v.operand].dtype).size
               for v in s.nest.body if isinstance(v, (Load, Store)))


def numbers(s: Schedule, keys, places: dict) -> tuple[int, ...]:
    """The words of a launch."""
    return tuple(map(meaning(s, places), keys))


def meaning(s: Schedule, places: dict):
    """What each key means for this schedule, as a function of the key."""
    maps, body = affine_maps(s), s.nest.body

    def number(key):
        what = key[0]
        if what == "extent": return s.loops[key[1]].extent
        if what == "coefficient": return maps[key[1]][0][key[2]]
        if what == "offset": return maps[key[1]][1]
        if what == "constant": return float_word(body[key[1]].value) if body[key[1]].dtype.category == dt.FLOAT else int(body[key[1]].value)
        if what == "at stride": return body[key[1]].at[key[2]].stride
        if what == "at size": return body[key[1]].at[key[2]].size
        if what == "bound size": return body[key[1]].bounds[key[2]].size
        if what in ("kept", "staged", "partial"): return places[key]
        return s.results * s.chunks if what == "units" else getattr(s, what)       # results, chunks, chunk, block, blocks, tiles; on GPUs row, elements, turns, too
    return number
