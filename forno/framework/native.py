"""From a graph to one native call: plan it, compile its kernels, lay out its value table.

The value table is a row of 8-byte words: inputs' addresses, outputs' addresses, arena places, Python numbers.
"""
from __future__ import annotations

import time

from ..core.trace import trace


def prepare(graph, lines):
    raise NotImplementedError
