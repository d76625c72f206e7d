"""What PyTorch's functions demand of values and no kernel needs: `within` passes its operand on, and a value out of range raises.

A claim costs what it takes to look at the values, in the loop that reads or makes them anyway. `attr = (exception class, text)`: the text may name
{x}, the first value that is wrong, and {i}, its position, and {n}, that from 1 on.
"""
from __future__ import annotations

import numpy as np

from ..core import dtype as dt
from ..core.op import Check
from .elementwise import row, tensors


def outside(x, low, high): return ~((x >= low) & (x <= high))                     # NaN is outside


def refusal(attr, x=None, low=None, high=None):
    kind, text = attr
    if x is None: return kind(text.format(x="?", i="?", n="?"))
    i = int(np.flatnonzero(outside(*np.broadcast_arrays(x, low, high)))[0])
    return kind(text.format(x=np.ravel(x)[i].item(), i=i, n=i + 1))


within = row("within", lambda b, x, low, high: x, lambda x, low, high: x, lambda g, o, x, low, high: g, rule=tensors, types="if", names="",
             check=Check(0, lambda dtype: dtype.category != dt.BOOL, lambda b, x, low, high: b.not_(b.and_(b.ge(x, low), b.le(x, high))), outside, refusal))
"""x, if low <= x <= high everywhere."""
