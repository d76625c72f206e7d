"""Kernels with loops of their own: reading and writing through indices, padding, sorting, scanning, random numbers, alignments of labels. Attention and
recurrences join them from tile programs.

Comes in: a core.kernels.Native. Goes out: a core.kernels.Launch. `dnn/{gather,pad,sort,scan,random}.py` say what the words of each mean.

A Native's operands are its row's operands in order, then the result; a row whose operand 0 is 'rw' writes its result over that operand and has no
other result operand. All are dense and row-major, except those of `strided` rows, whose words say where they lie. Words follow the operands'
positions in the value table.
"""
from __future__ import annotations

from ...core.errors import unsupported
from ...core.kernels import Launch, Native
from .. import attention, recurrence
from . import ctc, index, pad, scan, sort

ROUTINES = {"attention": attention.build, "recurrence": recurrence.build, **ctc.ROUTINES, **index.ROUTINES, **pad.ROUTINES, **scan.ROUTINES, **sort.ROUTINES}


def build(n: Native) -> Launch:
    if n.name not in ROUTINES: raise unsupported(n.name)
    return ROUTINES[n.name](n)
