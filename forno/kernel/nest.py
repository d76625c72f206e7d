"""Loop nests to launches: schedule, look the machine code up by what selects it, or write and compile it.

Comes in: core.kernels.Nest. Goes out: core.kernels.Launch. A nest of another shape with the same spec compiles nothing: its numbers are words.
"""
from __future__ import annotations

import math

from ..core.kernels import Launch, Load, Nest, Program, Store
from ..cpu import code
from .lower import Lowering, numbers
from .schedule import PARALLEL_WORK, Schedule, cost, schedule

TINY = 16                                      # elements; fewer are not worth optimising their code
_programs: dict = {}                           # (spec, level) -> (Program, keys of its words, its Lowering)


def build(nest: Nest) -> Launch:
    s = schedule(nest)
    elements = math.prod(s.extents)
    key = s.spec, 0 if elements <= TINY else 1
    program, keys, lowering = _programs.get(key) or _compile(s, key)
    places = lowering.scratch(s)
    work = elements * sum(cost(s.nest, v) for v in s.nest.body)
    return Launch(program, numbers(s, keys, places), work >= PARALLEL_WORK and s.results * s.chunks > 1, places["private"], places["shared"],
                  _bytes(s), work)


def _compile(s: Schedule, key):
    lowering = Lowering(s)
    text, keys = lowering.kernel()
    out = _programs[key] = Program("nest", code.load(text, "nest", key[1]), text), keys, lowering
    return out


def _bytes(s: Schedule) -> int:
    """Memory touched, each access counted over the loops it varies along."""
    return sum(math.prod(l.extent for l, step in zip(s.loops, v.strides) if step) * (v.dtype or s.nest.operands[v.operand].dtype).size
               for v in s.nest.body if isinstance(v, (Load, Store)))
