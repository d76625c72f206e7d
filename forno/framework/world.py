"""What the Python of a call can see, so that a later call can be known to go the same way.

Comes in: a call that is watched while it runs. Goes out: its `World`, every place that its code could read (globals it names, closures, defaults, the objects in
them: module trees, lists, dictionaries) with what stood there; or why the call can't be known to repeat (a clock, a file, an iterator, an array).

Which code ran and which built-in functions it called is seen by a profile function, not guessed. Where the same code starts from the same state with
the same arguments, it does the same: that is all a guard needs. State behind C, which nobody can look at, is refused.
"""
from __future__ import annotations

import builtins
import contextlib
import dis
import functools
import itertools
import os
import sys
import types
from collections import OrderedDict, defaultdict, deque
from importlib.util import find_spec

import numpy as np

from ..core.dtype import dtype
from ..core.hot import Source, hot, know
from .size import Size, device, layout, memory_format
from .tensor import Tensor

HOME, NUMPY, PYTHON = (os.path.dirname(f) + os.sep for f in (os.path.dirname(__file__), np.__file__, os.__file__))
PACKAGES = os.path.join(PYTHON, "site-packages")
OURS = NUMPY, os.path.dirname(find_spec("llvmlite").origin) + os.sep, "<frozen "
PLAIN = frozenset((type(None), bool, int, float, complex, str, bytes, type(Ellipsis), dtype, device, layout, memory_format, range, slice, type(NotImplemented)))
SEQUENCES = frozenset((list, tuple, Size, set, frozenset, deque))
DICTIONARIES = frozenset((dict, OrderedDict, defaultdict))
PURE_MODULES = frozenset("builtins math cmath _operator operator itertools functools _functools _collections _collections_abc _abc _struct _weakref typing".split())
IMPURE = frozenset("input open exec eval compile __import__ print breakpoint globals locals vars id hash iter next".split())
VALUES = (str, bytes, int, float, complex, list, tuple, dict, set, frozenset, OrderedDict, deque, range, slice)       # whose methods do nothing but to them
STATEFUL = frozenset(("_version", "retains_grad"))       # of tensors: neither in their lines nor in what effects look at
DYNAMIC = frozenset(("getattr", "hasattr", "setattr", "vars", "dir"))     # attributes whose names aren't in the code


class Unrepeatable(Exception):
    """Why a call can't be known to go the same way again."""


class Transparent:
    """Around a function: `f` is what can be seen of it."""


class Shown:
    """Says itself what calls that use it depend on, by `shown(walk)`."""


# ---------------------------------------------------------------- watching
class Witness:
    """Watches what runs: `codes` of functions outside forno with their globals."""

    def __init__(self): self.codes, self.reason = {}, None

    def __enter__(self):
        if sys.getprofile() is not None: raise Unrepeatable("a profiler watches already")
        sys.setprofile(self.saw)
        return self

    def __exit__(self, *_): sys.setprofile(None)

    def saw(self, frame, event, arg):
        if event == "call":
            if not ours(frame): self.codes.setdefault(frame.f_code, frame.f_globals)
        elif event == "c_call" and not pure(arg) and self.reason is None and not ours(frame) and not (arg is next and frame.f_code.co_filename == contextlib.__file__):
            where = f"{os.path.basename(frame.f_code.co_filename)}, line {frame.f_lineno}"
            if arg != sys.setprofile: self.reason = f"it calls {getattr(arg, '__qualname__', arg)} ({where}), which may be different every time"


def ours(frame) -> bool:
    """Is it forno that runs, Python's library, NumPy or LLVM for it, or a method that Python made for a class of forno's?"""
    while frame is not None and library(frame.f_code.co_filename): frame = frame.f_back
    if frame is None: return False
    file = frame.f_code.co_filename
    return file.startswith(HOME) or file == "<string>" and str(frame.f_globals.get("__name__")).startswith(("forno.", "namedtuple_"))


def library(file: str) -> bool: return file.startswith(OURS) or file.startswith(PYTHON) and not file.startswith((PACKAGES, HOME))


def pure(f) -> bool:
    """Does a built-in function do nothing but compute from its arguments?"""
    owner = getattr(f, "__self__", None)
    if owner is None or isinstance(owner, types.ModuleType):
        module = getattr(f, "__module__", None) or getattr(owner, "__name__", None)
        return module in PURE_MODULES and f.__name__ not in IMPURE
    return owner in VALUES if isinstance(owner, type) else isinstance(owner, VALUES)


# ---------------------------------------------------------------- what there was to see
@know
class World:
    """`dicts`: (dictionary, its keys, its values) each; `sequences`: (sequence, its members); `places`: (dictionary, key, value) of globals; `cells`: (cell,
    value). `tensors`: all that were met. `codes`: what ran. `kinds`: (dictionary, key, kind) of numbers that may be others next time. `carried`: (container, key) of tensors that
    every call replaces, like the state of a recurrence: it takes what is there as it takes its arguments."""
    __slots__ = ("dicts", "sequences", "places", "cells", "tensors", "kinds", "carried", "codes")

    def __init__(self, codes: dict):
        self.codes = codes
        self.dicts, self.sequences, self.places, self.cells, self.tensors, self.kinds, self.carried = [], [], [], [], [], [], []

    def rates(self) -> list: return [names[key] for names, key, _ in self.kinds]
    def state(self) -> tuple: return tuple([container[key] for container, key in self.carried])

    def carries(self) -> bool:
        """Is everything that changed tensors in the place of tensors? From now on these places are carried."""
        found = []
        for i, (d, keys, values) in enumerate(self.dicts):
            if len(d) != len(keys) or not all([a is b or a.__class__ is str and a == b for a, b in zip(d, keys)]): return False
            found += [(self.dicts, i, d, k, j, d[k]) for j, (k, v) in enumerate(zip(keys, values)) if d[k] is not v and not same(d[k], v)]
        for i, (x, members) in enumerate(self.sequences):
            if len(x) != len(members): return False
            found += [(self.sequences, i, x, j, j, m) for j, (m, v) in enumerate(zip(x, members)) if m is not v and not same(m, v)]
        for i, (c, value) in enumerate(self.cells):
            now = c.cell_contents
            if now is not value and not same(now, value): found.append((self.cells, i, Variable(c) if isinstance(c, types.CellType) else None, None, None, now))
        old = [e[i][-1] if j is None else e[i][-1][j] for e, i, _, _, j, _ in found]
        if not found or not all([made_of_tensors(a) and made_of_tensors(b) for a, (*_, b) in zip(old, found)]): return False
        if not all([isinstance(c, (dict, list, Variable)) for _, _, c, *_ in found]): return False
        gone = set(map(id, itertools.chain(*map(members_of, old))))
        self.tensors = [t for t in self.tensors if id(t) not in gone]
        for entries, i, container, key, j, _ in found:
            *head, values = entries[i]
            entries[i] = (*head, VARIES if j is None else (*values[:j], VARIES, *values[j + 1:]))
            self.carried.append((container, key))
        return True


class Variable:
    """A variable of an enclosing function, as a container of one value."""

    def __init__(self, cell): self.cell = cell
    def __getitem__(self, key): return self.cell.cell_contents
    def __setitem__(self, key, value): self.cell.cell_contents = value


def made_of_tensors(x) -> bool: return isinstance(x, Tensor) or type(x) in (tuple, list) and len(x) > 0 and all(map(made_of_tensors, x))
def members_of(x) -> list: return [x] if isinstance(x, Tensor) else [t for m in x for t in members_of(m)]


ABSENT, VARIES = object(), object()            # nothing stands there; whatever stands there


@functools.lru_cache(4096)
def names_of(code) -> tuple[frozenset, frozenset, frozenset]:
    """(globals that a code reads, attributes it reads, codes made in it)."""
    reads = {i.argval for i in dis.get_instructions(code) if i.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    if any(i.opname in ("STORE_GLOBAL", "DELETE_GLOBAL") for i in dis.get_instructions(code)): raise Unrepeatable(f"{code.co_name} writes a global variable")
    return frozenset(reads), frozenset(code.co_names), frozenset(c for c in code.co_consts if isinstance(c, types.CodeType))


class Walk:
    """Collects a World from the functions that ran and what they were called on."""

    def __init__(self, witness: Witness):
        self.world, self.met, self.functions, self.witness = World(witness.codes), {}, set(), witness
        self.attributes = frozenset().union(*[names_of(c)[1] for c in witness.codes])
        if self.attributes & STATEFUL: raise Unrepeatable(f"it reads {', '.join(sorted(self.attributes & STATEFUL))} of tensors")
        self.dynamic = bool(self.attributes & DYNAMIC)

    def all(self, root) -> World:
        self.see(root)
        for code, names in self.witness.codes.items():
            for name in names_of(code)[0]: self.place(names, name)
        made = frozenset().union(*[names_of(c)[2] for c in self.witness.codes])
        for code in self.witness.codes:
            if code.co_freevars and code not in self.functions and code not in made: raise Unrepeatable(f"{code.co_name} is a closure that nobody could find")
        return self.world

    def place(self, names: dict, name: str):
        """A global variable, or attribute of a module."""
        if (id(names), name) in self.met: return
        self.met[id(names), name] = names
        value = names.get(name, ABSENT)
        self.world.places.append((names, name, value))
        self.see(value if value is not ABSENT else getattr(builtins, name, None))

    def see(self, x):
        t = type(x)
        if t in PLAIN or id(x) in self.met: return
        self.met[id(x)] = x                    # it lives as long as the walk: nobody takes its number
        if isinstance(x, Tensor):
            self.world.tensors.append(x)
            if vars(x): self.dictionary(vars(x))
        elif t in DICTIONARIES: self.dictionary(x)
        elif t in SEQUENCES:
            members = tuple(x)
            if t is not tuple and t is not Size and t is not frozenset: self.world.sequences.append((x, members))
            for m in members: self.see(m)
        elif isinstance(x, (Source, Transparent)): self.see(x.f)
        elif isinstance(x, Shown): x.shown(self)
        elif t is types.FunctionType: self.function(x)
        elif t is types.MethodType:
            self.see(x.__func__)
            self.see(x.__self__)
        elif t is functools.partial:
            self.see(x.func)
            self.see(x.args)
            self.see(x.keywords)
        elif t is types.BuiltinFunctionType: return            # its calls are watched
        elif t is types.ModuleType: self.module(x)
        elif t is types.SimpleNamespace: self.dictionary(vars(x))
        elif isinstance(x, type): self.cls(x)
        elif isinstance(x, (property, classmethod, staticmethod)): self.descriptor(x)
        elif t is types.CellType: self.cell(x)
        else: self.instance(x)

    def entry(self, names: dict, key, varies: bool = False):
        """One of a dictionary's values; `varies`: only whether it's there and not zero counts."""
        if varies: self.world.kinds.append((names, key, kind(names[key])))
        else:
            self.world.places.append((names, key, names[key]))
            self.see(names[key])

    def dictionary(self, d: dict):
        self.world.dicts.append((d, tuple(d), tuple(d.values())))
        for v in d.values(): self.see(v)

    def cell(self, c):
        try: value = c.cell_contents
        except ValueError: return              # not filled yet: who reads it, raises
        self.world.cells.append((c, value))
        self.see(value)

    def function(self, f):
        self.functions.add(f.__code__)
        if f.__code__.co_filename.startswith(HOME): return self.see(getattr(f, "__wrapped__", None))     # torch.no_grad() around the user's, for example
        for c in f.__closure__ or (): self.see(c)
        self.see(f.__defaults__)
        self.see(f.__kwdefaults__)

    def module(self, m):
        """Attributes that code asks of a module that isn't forno's or Python's own."""
        home = getattr(m, "__file__", None) or ""
        if home.startswith(HOME) or not home or m.__name__.split(".")[0] in sys.stdlib_module_names: return
        for name in self.named(m.__dict__): self.place(m.__dict__, name)

    def named(self, names: dict):
        """Those of an object's attributes that code may read."""
        return list(names) if self.dynamic else sorted(self.attributes & names.keys())

    def cls(self, c: type):
        for base in c.__mro__:
            if base.__module__.split(".")[0] in ("builtins", "forno", "abc", "typing", "collections", "enum", "dataclasses"): continue
            ran = [name for name, f in base.__dict__.items() if getattr(f, "__code__", None) in self.witness.codes]       # by forno, like forward
            for name in dict.fromkeys((*self.named(base.__dict__), *ran)):
                if name in ("__dict__", "__weakref__", "__doc__", "__module__"): continue
                self.world.cells.append((Attribute(base, name), base.__dict__[name]))
                self.see(base.__dict__[name])

    def descriptor(self, d):
        for f in (getattr(d, "fget", None), getattr(d, "__func__", None)):
            if f is not None: self.see(f)

    def instance(self, x):
        t = type(x)
        if not t.__flags__ & 1 << 9 or issubclass(t, BaseException): raise Unrepeatable(f"it can see a {t.__module__}.{t.__qualname__}, whose state can't be looked at")
        if hasattr(t, "__next__"): raise Unrepeatable(f"it can see a {t.__qualname__}, an iterator")
        for base in t.__mro__:
            for name in base.__dict__.get("__slots__", ()):
                if name not in ("__dict__", "__weakref__"): raise Unrepeatable(f"it can see a {t.__qualname__}, which has slots")
        if isinstance(x, (list, dict, set)): self.dictionary(x) if isinstance(x, dict) else self.world.sequences.append((x, tuple(x)))
        if isinstance(x, (list, dict, set, tuple)):
            for m in x.values() if isinstance(x, dict) else x: self.see(m)
        self.cls(t)
        self.dictionary(vars(x))


class Attribute:
    """A class's attribute, read as a cell is."""
    __slots__ = ("owner", "name")

    def __init__(self, owner, name): self.owner, self.name = owner, name

    @property
    def cell_contents(self): return self.owner.__dict__.get(self.name, ABSENT)


# ---------------------------------------------------------------- is it as it was?
@hot
def same(a, b):
    """The very same object, an equal plain value, or where anything may be."""
    if a is b or b is VARIES: return True
    return a.__class__ is b.__class__ and a.__class__ in PLAIN and a == b


@hot
def differing(world):
    """Where the world isn't as it was: a sentence; None where it is."""
    for d, keys, values in world.dicts:
        if len(d) != len(keys): return changed(d, keys, values)
        if len(keys) == 0: continue            # most are tables of hooks that no module has
        now = tuple(d.values())
        for i in range(len(values)):
            if now[i] is not values[i] and not same(now[i], values[i]): return changed(d, keys, values)
        if tuple(d) != keys: return changed(d, keys, values)
    for x, members in world.sequences:
        if len(x) != len(members): return changed(x, None, members)
        now = tuple(x)
        for i in range(len(members)):
            if now[i] is not members[i] and not same(now[i], members[i]): return changed(x, None, members)
    for names, name, value in world.places:
        now = names.get(name, ABSENT)
        if now is not value and not same(now, value): return f_global(name, value, now)
    for cell, value in world.cells:
        now = cell.cell_contents
        if now is not value and not same(now, value): return f_cell(cell, value, now)
    for names, key, expected in world.kinds:
        if kind(names.get(key, None)) != expected: return f_global(key, expected, names.get(key, None))
    return None


def kind(x):
    """What decides about the way of a program that computes with a number."""
    return tuple(map(kind, x)) if isinstance(x, tuple) else (type(x), bool(x)) if isinstance(x, (int, float)) else type(x)


def short(x) -> str:
    """A value for people, without computing any."""
    if isinstance(x, Tensor): return "a tensor"
    if type(x) in (list, tuple): return f"{type(x).__name__} of {', '.join(map(short, x[:4]))}"
    return "nothing" if x is ABSENT else repr(x)[:60] if type(x) in PLAIN else f"a {type(x).__name__}"
def f_global(name, before, now) -> str: return f"global {name} was {short(before)} and is {short(now)}"
def f_cell(cell, before, now) -> str: return f"{getattr(cell, 'name', 'a variable of an enclosing function')} was {short(before)} and is {short(now)}"


def changed(x, keys, values) -> str:
    """What is different in a container, for people."""
    if keys is None: return f"a {type(x).__name__} had {short(values)} and has {short(tuple(x))}"
    for k, v in zip(keys, values):
        now = x.get(k, ABSENT)
        if now is not v and not same(now, v): return f"{k!r} was {short(v)} and is {short(now)}"
    return f"a dictionary had the keys {short(keys)} and has {short(tuple(x))}"
