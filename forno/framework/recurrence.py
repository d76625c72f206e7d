"""The row of recurrences on tensors; forno/nn/functional/recurrent.py has PyTorch's layers around it."""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..dnn import recurrence as rc
from ..graph.line import LOCAL, record
from .tensor import owned, read

FEWEST_STEPS = 3                               # weights are packed for all steps of a call: below this that costs more than it saves


def fits(x, states, w_hh) -> bool:
    """Is the whole sequence one kernel? Half types round after every step; functions under vmap and few steps are lines of their own."""
    t, run = w_hh.dtype, LOCAL.run
    if run.level is not None or run.autocast is not None or x.shape[0] < FEWEST_STEPS or not math.prod(x.shape): return False
    return (t is dt.float32 or t is dt.float64) and all([y.dtype is t for y in (x, *states)])


def recurrence(mode, reverse, gates, w_hh, h, more):
    """(hidden states of all steps (T, B, H), the last h, the last c or None) from the input's part of the gates; `more`: c of an LSTM, the GRU's hidden bias."""
    nodes = [read(t) for t in (gates, w_hh, h, more) if t is not None]
    spec = rc.RecurrenceSpec(mode, reverse)
    if rc.KEPT[mode] and LOCAL.run.grad and any([n.line.grad for n in nodes]):
        spec = spec._replace(kept=True)
        nodes = [*nodes, record(rc.recurrence_kept, nodes, spec)]
    out, steps = owned(record(rc.recurrence, nodes, spec)), gates.shape[0]
    state = tuple(h.shape)
    line = math.prod(state)

    def row(k): return rc.part(out, state, k * line)
    return rc.part(out, (steps, *state), 0 if reverse else line), row(0 if reverse else steps), row(steps + 1) if mode == "lstm" else None
