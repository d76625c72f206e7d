"""Loop nests to launches: schedule, look the machine code up by what selects it, or write and compile it.

Comes in: core.kernels.Nest. Goes out: core.kernels.Launch. A nest of another shape with the same spec compiles nothing: its numbers are words.
"""
from __future__ import annotations

import math

from ..core.kernels import Launch, Load, Nest, Program, Store
from ..cpu import code
from .lower import Lowering, numbers
from .schedule import PARALLEL_WORK, Schedule, cost, schedule

_programs: dict = {}                           # spec -> (Program, keys of its words, its Lowering)


def build(nest: Nest) -> Launch:
    s = schedule(nest)
    program, keys, lowering = _programs.get(s.spec) or _compile(s)
    places = lowering.scratch(s)
    elements = math.prod(s.extents)
    work = elements * sum(map(cost, s.nest.body))
    return Launch(program, numbers(s, keys, places), work >= PARALLEL_WORK and s.results * s.chunks > 1, places["private"], places["shared"],
                  _bytes(s), work)


def _compile(s: Schedule):
    lowering = Lowering(s)
    text, keys = lowering.kernel()
    out = _programs[s.spec] = Program("nest", code.load(text, "nest"), text), keys, lowering
    return out


def _bytes(s: Schedule) -> int:
    """Memory touched, each access counted over the loops it varies along."""
    return sum(math.prod(l.extent for l, step in zip(s.loops, v.strides) if step) * (v.dtype or s.nest.operands[v.operand].dtype).size
               for v in s.nest.body if isinstance(v, (Load, Store)))
