"""Padding with the value's own elements, on a GPU: a thread per element of the result, whose position is folded back axis by axis.

Comes in: a Native of `dnn/pad.py`; of its words only the axes' matter here. Goes out: a DeviceLaunch.
"""
from __future__ import annotations

import math

from ....core.kernels import DeviceLaunch, Native
from ....cpu.isa import Isa
from ...routines.index import _RAW, Words
from ...routines.pad import _folded
from .code import Device, blocks, stage


def _pad(c: Device, name: str, rank: int, t):
    x, out, words = c.operand(0), c.operand(1), Words(c, 2)
    axes, total = [words(3) for _ in range(rank)], c.const(1)
    for length, *_ in axes: total = total * length
    with c.each(total) as e:
        rest, at, step = e, c.const(0), c.const(1)
        for length, n, low in reversed(axes):
            at, rest, step = at + _folded(c, name, rest % length - low, n) * step, rest // length, step * n
        c.store(c.load(x, t, at), out, e)


def pad(n: Native, isa: Isa) -> DeviceLaunch:
    name, rank, t = n.spec
    return stage(n, isa, _pad, (name, rank, _RAW.get(t.size, t)), n.words, blocks(math.prod(n.words[:3 * rank:3])))


ROUTINES = {"pad": pad}
