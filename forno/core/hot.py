"""Marks for the functions that every recorded operation goes through.

Comes in: a Python function, written in the small part of Python that `cpu.hot` knows. Goes out: a builtin that calls it, until `cpu.hot.install` gives the
builtin machine code that does the same. There is one source for both; where no machine code can be had, the Python is what runs.
"""
from __future__ import annotations

import ctypes
import functools
import inspect
import struct
import sys
import sysconfig
from types import BuiltinFunctionType, FunctionType

from .flags import flags

POSITIONAL, KEYWORDS = 0x80, 0x02              # METH_FASTCALL, METH_KEYWORDS


class Method(ctypes.Structure):
    """CPython's PyMethodDef."""
    _fields_ = [("name", ctypes.c_char_p), ("code", ctypes.c_void_p), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]


def possible() -> bool:
    """Is this CPython with words of 64 bits, with its global lock, and no debug build?"""
    usual = sys.implementation.name == "cpython" and struct.calcsize("P") == 8 and not hasattr(sys, "gettotalrefcount")
    return usual and not sysconfig.get_config_var("Py_GIL_DISABLED") and hasattr(ctypes.pythonapi, "PyObject_Vectorcall")


POSSIBLE = bool(flags.HOT) and possible()
marked: list[tuple] = []                       # (builtin, its method, the function): everything lives as long as the process
known: list[type] = []                         # classes whose slots hot functions read where they lie


def hot(f: FunctionType):
    """f as a builtin. At first it calls f: CPython's function for calling any object has the form of a builtin's code."""
    if not POSSIBLE: return f
    api = ctypes.pythonapi
    try: doc = f"{f.__name__}{inspect.signature(f)}\n--\n\n{f.__doc__ or ''}"
    except ValueError: doc = f.__doc__ or ""
    entry = Method(f.__name__.encode(), ctypes.cast(api.PyObject_Vectorcall, ctypes.c_void_p).value, POSITIONAL | KEYWORDS, doc.encode())
    make = api.PyCFunction_NewEx
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.py_object, ctypes.py_object]
    builtin = make(ctypes.addressof(entry), f, f.__module__)
    marked.append((builtin, entry, f))
    return builtin


def method(f):
    """f as a class may have it: builtins don't become methods by themselves."""
    if not isinstance(f, BuiltinFunctionType): return f
    make = ctypes.pythonapi.PyInstanceMethod_New
    make.restype, make.argtypes = ctypes.py_object, [ctypes.py_object]
    return make(f)


def know(cls: type) -> type:
    """A class whose slots hot functions may read where they lie (a decorator)."""
    known.append(cls)
    return cls


# ---------------------------------------------------------------- native calls, which hot functions make themselves
@functools.cache
def _prototype(kind, address: int): return kind(ctypes.c_int64, ctypes.c_void_p, ctypes.c_char_p)(address)


def held(function: int, argument: int, text: bytes) -> int:
    """The native i64 function(pointer, bytes) at an address, with Python's global lock held."""
    return _prototype(ctypes.PYFUNCTYPE, function)(argument, text)


def free(function: int, argument: int, text: bytes) -> int:
    """The same without the lock."""
    return _prototype(ctypes.CFUNCTYPE, function)(argument, text)
