"""Python functions as machine code: what every recorded operation goes through, without the interpreter.

Comes in: functions marked `core.hot.hot`, written in a small part of Python. Goes out: the same callables with machine code of their own.

What makes it quick: attributes that are slots of known classes, members of lists and tuples, and comparisons are read where they lie; the rest goes through
CPython's C functions (https://docs.python.org/3/c-api/), as the interpreter itself does. Semantics are Python's with two exceptions: `x.__class__` is the
type, whatever x says, and signals are handled after a hot function, not within.
"""
from __future__ import annotations

import ctypes

from ...core import hot
from .. import code
from .expressions import RESULT, Unsupported
from .function import translate
from .layout import Layout

_done: list[bool] = []
left: list[Exception] = []                     # why functions stay Python, where they do


def install():
    """Give all hot functions marked so far their machine code, once."""
    if _done or hot.Hot is None: return
    _done.append(True)
    try:
        layout = Layout(hot.Hot)
        for cls in hot.known: layout.know(cls)
        equip(hot.marked, layout)
        hot.translate_now.append(lambda function: equip([function], layout))
        hot.marked.clear()
    except FAILURES as error: left.append(error)


def equip(functions, layout: Layout):
    """Machine code for hot functions; those of one code share it."""
    ready, jobs = [], []
    for function in functions:
        try: text, constants = translate(function.f, layout)
        except (Unsupported, OSError, NameError, ValueError) as error:
            left.append(error)
            continue
        ready.append((function, constants))
        jobs.append((text, "hot", 1))
    for (function, constants), address in zip(ready, code.precompile(jobs, tuple(RESULT))):
        function.constants = constants         # they live as long as the function
        ctypes.c_void_p.from_address(id(function) + hot.ADDRESS).value = address


FAILURES = ValueError, IndexError, AttributeError, TypeError, RuntimeError          # other objects than expected, code that LLVM refuses
