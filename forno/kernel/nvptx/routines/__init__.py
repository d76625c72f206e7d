"""Kernels of GPUs with loops of their own: the CPU's `kernel/routines`, written for many threads.

Comes in: a core.kernels.Native and what to generate for. Goes out: a DeviceLaunch, with those that follow it. Results are the same bits in every run, but for sums
of numbers that are rounded at places that other tensors name (`index`), unless `use_deterministic_algorithms` asks for it.
"""
from __future__ import annotations

from ....core.errors import unsupported
from ....core.kernels import DeviceLaunch, Native
from ....cpu.isa import Isa
from . import attention, ctc, index, pad, recurrence, scan, sort

ROUTINES = {**index.ROUTINES, **pad.ROUTINES, **scan.ROUTINES, **sort.ROUTINES, **ctc.ROUTINES, **recurrence.ROUTINES, **attention.ROUTINES}


def build(n: Native, isa: Isa) -> DeviceLaunch:
    make = ROUTINES.get(n.name)
    if make is None: raise unsupported(n.label or n.name, n.operands[-1].dtype, "cuda", "use device='cpu' for it")
    return make(n, isa)
