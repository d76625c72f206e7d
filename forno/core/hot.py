"""Marks for the functions that every recorded operation goes through.

Comes in: a Python function, written in the small part of Python that `cpu.hot` knows. Goes out: a callable that calls it, until `cpu.hot.install` gives the
callable machine code that does the same. There is one source for both; where no machine code can be had, the Python is what runs.
"""
from __future__ import annotations

import ctypes
import functools
import struct
import sys
import sysconfig
from types import FunctionType

from .flags import flags

DESCR_GET, MEMBERS = 54, 72                    # slots of types: https://docs.python.org/3/c-api/type.html
DEFAULT, VECTORCALL, METHOD_DESCRIPTOR, BASE = 1 << 18, 1 << 11, 1 << 17, 1 << 10


class Source:
    """A function and what it is known by. `constants`: what its machine code reads."""
    __slots__ = ("f", "constants", "__dict__", "__weakref__")
    __name__: str
    __qualname__: str

    def __init__(self, f: FunctionType):
        self.f = f
        functools.update_wrapper(self, f)
        self.__wrapped__ = getattr(f, "__wrapped__", f)

    def __call__(self, *args, **kw): return self.f(*args, **kw)
    def __repr__(self): return f"<built-in method {self.__name__}>"
    def __reduce__(self): return self.__qualname__


class _Slot(ctypes.Structure): _fields_ = [("slot", ctypes.c_int), ("value", ctypes.c_void_p)]
class _Member(ctypes.Structure): _fields_ = [("name", ctypes.c_char_p), ("kind", ctypes.c_int), ("offset", ctypes.c_ssize_t), ("flags", ctypes.c_int), ("doc", ctypes.c_char_p)]


class _Spec(ctypes.Structure):
    _fields_ = [("name", ctypes.c_char_p), ("basicsize", ctypes.c_int), ("itemsize", ctypes.c_int), ("flags", ctypes.c_uint), ("slots", ctypes.POINTER(_Slot))]


def callable_type() -> tuple[type, int] | None:
    """Source's subclass whose instances are called by an address in themselves, as functions written in C are, and become methods as functions do; and where
    in them that address is. None where functions stay Python: another interpreter, other words, no global lock, a debug build."""
    usual = sys.implementation.name == "cpython" and struct.calcsize("P") == 8 and not hasattr(sys, "gettotalrefcount") and not sysconfig.get_config_var("Py_GIL_DISABLED")
    if not usual or not flags.HOT or not hasattr(ctypes.pythonapi, "PyObject_Vectorcall"): return None
    get_slot, make = ctypes.pythonapi.PyType_GetSlot, ctypes.pythonapi.PyType_FromSpecWithBases
    get_slot.restype, get_slot.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_int]
    make.restype, make.argtypes = ctypes.py_object, [ctypes.POINTER(_Spec), ctypes.py_object]
    at = Source.__basicsize__
    members = (_Member * 2)(_Member(b"__vectorcalloffset__", 19, at, 1, None))
    slots = (_Slot * 3)(_Slot(DESCR_GET, get_slot(FunctionType, DESCR_GET)), _Slot(MEMBERS, ctypes.addressof(members)))
    spec = _Spec(b"forno.core.hot.Hot", at + 8, 0, DEFAULT | BASE | VECTORCALL | METHOD_DESCRIPTOR, slots)
    _kept.extend((members, slots, spec))
    return make(ctypes.byref(spec), (Source,)), at


_kept: list = []
_made = callable_type()
Hot, ADDRESS = _made if _made else (None, 0)
FUNCTIONS = (FunctionType, Hot) if Hot else (FunctionType,)          # what is a function to people who look
marked: list = []                              # hot functions that have no machine code yet
translate_now: list = []                       # what gives machine code to a hot function, once programs repeat themselves
known: list[type] = []                         # classes whose slots hot functions read where they lie


def hot(f: FunctionType):
    """f as something that may get machine code."""
    if Hot is None: return f
    out = Hot(f)
    if translate_now: translate_now[0](out)
    else: marked.append(out)
    return out


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
