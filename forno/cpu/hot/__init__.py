"""Python functions as machine code: what every recorded operation goes through, without the interpreter.

Comes in: functions marked `core.hot.hot`, written in a small part of Python. Goes out: the same builtins with machine code of their own.

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
from .layout import SELF, Layout

PATCH = """
define void @patch(ptr %a, i64 %x, ptr %b, i64 %y) #0 {
  store i64 %x, ptr %a
  store i64 %y, ptr %b
  ret void
}

attributes #0 = { nounwind }
"""



_done: list[bool] = []
left: list[Exception] = []                     # why functions stay Python, where they do
_kept: list = []                               # constants live as long as the process


def install():
    """Give all hot functions marked so far their machine code, once."""
    if _done or not hot.POSSIBLE: return
    _done.append(True)
    try:
        layout = Layout()
        for cls in hot.known: layout.know(cls)
        ready, jobs = [], []
        for builtin, entry, f in hot.marked:
            try: text, constants = translate(f, layout)
            except (Unsupported, OSError, NameError, ValueError) as error:
                left.append(error)
                continue
            ready.append((builtin, entry, constants))
            jobs.append((text, "hot", 1))
        patch = ctypes.PYFUNCTYPE(None, *[ctypes.c_void_p] * 4)(code.load(PATCH, "patch", 1))
        for (builtin, entry, constants), address in zip(ready, code.precompile(jobs, tuple(RESULT))):
            _kept.append(constants)
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(constants))
            patch(id(builtin) + SELF, id(constants), ctypes.addressof(entry) + hot.Method.code.offset, address)     # one call that keeps the lock: no thread sees half of it
    except (ValueError, IndexError, AttributeError, RuntimeError) as error: left.append(error)        # other objects than expected, code that LLVM refuses
