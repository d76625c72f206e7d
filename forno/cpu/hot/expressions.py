"""Expressions of a hot function as LLVM IR.

An expression gives a name of LLVM's: borrowed from a constant, or new and `Held` in a place of its own until something takes it, so that an error at any
point knows what to let go of. A local variable owns what it names. LLVM turns variables and places into registers.
"""
from __future__ import annotations

import ast
import builtins
import inspect
import itertools
import linecache
import sys
import textwrap
from dataclasses import dataclass
from types import FunctionType

from ...core.hot import free, held
from .layout import Layout

OBJECT_FUNCTIONS = """PyObject_Vectorcall(ptr, ptr, i64, ptr); PyObject_VectorcallMethod(ptr, ptr, i64, ptr); PyObject_Call(ptr, ptr, ptr); PyObject_GetAttr(ptr, ptr);
PyObject_GetItem(ptr, ptr); PyObject_RichCompare(ptr, ptr, i32); PyObject_GetIter(ptr); PyIter_Next(ptr); PyType_GenericAlloc(ptr, i64); PyTuple_New(i64);
PyList_New(i64); PyDict_New(); PyDict_GetItemWithError(ptr, ptr); PyLong_FromSsize_t(i64); PyLong_FromVoidPtr(ptr); PyErr_Occurred(); PySequence_Tuple(ptr);
PyNumber_Add(ptr, ptr);
PyNumber_Subtract(ptr, ptr); PyNumber_Multiply(ptr, ptr); PyNumber_And(ptr, ptr); PyBytes_AsString(ptr); PyEval_SaveThread()"""
OTHER_FUNCTIONS = """i32 PyObject_SetAttr(ptr, ptr, ptr); i32 PyObject_SetItem(ptr, ptr, ptr); i32 PyObject_IsTrue(ptr); i32 PySequence_Contains(ptr, ptr);
i32 PyList_Append(ptr, ptr); i32 PyDict_SetItem(ptr, ptr, ptr); i32 PyErr_ExceptionMatches(ptr); i64 PyObject_Size(ptr); i64 PyLong_AsSsize_t(ptr); void PyErr_Clear();
void PyErr_SetObject(ptr, ptr); void PyEval_RestoreThread(ptr);
void PyErr_SetString(ptr, ptr); void PyErr_Fetch(ptr, ptr, ptr); void PyErr_Restore(ptr, ptr, ptr); void PyErr_NormalizeException(ptr, ptr, ptr);
void _Py_Dealloc(ptr); void Py_IncRef(ptr); void Py_DecRef(ptr)"""
DECLARED = [f"ptr {s.strip()}" for s in OBJECT_FUNCTIONS.split(";")] + [s.strip() for s in OTHER_FUNCTIONS.split(";")]
RESULT = {s.split()[1].split("(")[0]: s.split()[0] for s in DECLARED}
KINDS = {s.split()[1].split("(")[0]: s.split("(")[1].rstrip(")").split(", ") for s in DECLARED}
BEHIND = 1 << 63                               # PY_VECTORCALL_ARGUMENTS_OFFSET: the word before the arguments is free
COMPARE = {ast.Lt: 0, ast.LtE: 1, ast.Eq: 2, ast.NotEq: 3, ast.Gt: 4, ast.GtE: 5}
WORDS = {ast.Lt: "slt", ast.LtE: "sle", ast.Eq: "eq", ast.NotEq: "ne", ast.Gt: "sgt", ast.GtE: "sge"}
ARITHMETIC = {ast.Add: "PyNumber_Add", ast.Sub: "PyNumber_Subtract", ast.Mult: "PyNumber_Multiply", ast.BitAnd: "PyNumber_And"}
ALLOC = object.__new__


def source(f: FunctionType) -> str:
    """A function's text. (inspect.getsource looks through all modules first.)"""
    lines = linecache.getlines(f.__code__.co_filename)[f.__code__.co_firstlineno - 1:]
    if not lines: raise OSError(f"no source of {f.__qualname__}")
    return textwrap.dedent("".join(inspect.getblock(lines)))


class Unsupported(TypeError):
    """A hot function uses more of Python than this file knows."""


@dataclass(frozen=True)
class Cell:
    """A variable of an enclosing function, among a hot function's constants."""
    name: str


class Held:
    """A new reference in a place of its own."""

    def __init__(self, name: str, place: int): self.name, self.place = name, place


class Expressions:
    """A function's lines so far, and how expressions add to them."""

    def __init__(self, f: FunctionType, layout: Layout):
        self.f, self.layout = f, layout
        self.tree = ast.parse(source(f)).body[0]
        self.constants: list = [f]             # cells of a closure by their names: the text is the same for all functions of one code
        self.lines: list[str] = []
        self.count, self.width = itertools.count(), 1
        self.places, self.free = 0, []
        self.errors, self.loops, self.caught = ["fail"], [], []
        self.cells = dict(zip(f.__code__.co_freevars, [c.cell_contents for c in f.__closure__ or ()]))
        a = self.tree.args
        if a.kwonlyargs or a.posonlyargs: raise self.unsupported(self.tree)
        self.parameters = [x.arg for x in a.args]
        self.rest, self.keywords = a.vararg and a.vararg.arg, a.kwarg and a.kwarg.arg
        nodes = list(ast.walk(self.tree))
        stored = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        self.integers = {n.target.id for n in nodes if isinstance(n, ast.AnnAssign) and getattr(n.annotation, "id", None) == "int"}
        self.integers |= {n.target.id for n in nodes if isinstance(n, ast.For) and self.counts(n.iter)}
        stored |= {n.name for n in nodes if isinstance(n, ast.ExceptHandler) and n.name}
        self.locals = sorted({*self.parameters, *stored, *filter(None, (self.rest, self.keywords))})

    @staticmethod
    def counts(node) -> bool: return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "range"

    def unsupported(self, node): return Unsupported(f"{self.f.__qualname__}, line {getattr(node, 'lineno', '?')}: {ast.unparse(node)[:80]}")

    # -- small things
    def new(self, text: str) -> str:
        name = f"%v{next(self.count)}"
        self.lines.append(f"  {name} = {text}")
        return name

    def do(self, text: str): self.lines.append(f"  {text}")
    def label(self, hint: str = "l") -> str: return f"{hint}{next(self.count)}"
    def at(self, label: str): self.lines.append(f"{label}:")

    def go(self, label: str):
        if not self.ended(): self.do(f"br label %{label}")

    def ended(self) -> bool: return self.lines[-1].lstrip().startswith(("br ", "ret ", "unreachable"))
    def fork(self, condition: str, yes: str, no: str): self.do(f"br i1 {condition}, label %{yes}, label %{no}")

    def constant(self, value) -> str:
        for k, c in enumerate(self.constants):
            if c is value or isinstance(c, Cell) and c == value: break
        else:
            k = len(self.constants)
            self.constants.append(value)
        return self.member("%constants", k)

    def member(self, items: str, k) -> str: return self.new(f"load ptr, ptr {self.new(f'getelementptr ptr, ptr {items}, i64 {k}')}")
    def type_of(self, x: str) -> str: return self.new(f"load ptr, ptr {self.new(f'getelementptr i8, ptr {x}, i64 8')}")
    def same(self, a: str, b: str) -> str: return self.new(f"icmp eq ptr {a}, {b}")

    def call(self, name: str, *args: str) -> str:
        text = f"call {RESULT[name]} @{name}({', '.join(f'{k} {a}' for k, a in zip(KINDS[name], args))})"
        if RESULT[name] == "void": return self.do(text)
        return self.new(text)

    def checked(self, bad: str):
        """Go to where errors go, if `bad`."""
        fine = self.label("fine")
        self.fork(bad, self.errors[-1], fine)
        self.at(fine)

    def made(self, name: str, *args: str) -> Held:
        """A new reference from C, or its error."""
        x = self.call(name, *args)
        self.checked(self.new(f"icmp eq ptr {x}, null"))
        return self.held(x)

    def held(self, x: str) -> Held:
        if self.free: place = self.free.pop()
        else: place, self.places = self.places, self.places + 1
        self.do(f"store ptr {x}, ptr %place{place}")
        return Held(x, place)

    def name(self, v) -> str: return v.name if isinstance(v, Held) else v

    def drop(self, *values):
        for v in values:
            if isinstance(v, Held):
                self.forget(v)
                self.do(f"call void @release(ptr {v.name})")

    def forget(self, v: Held):
        self.do(f"store ptr null, ptr %place{v.place}")
        self.free.append(v.place)

    def take(self, v) -> str:
        """The reference itself, for somebody who keeps it."""
        if isinstance(v, Held): self.forget(v)
        else: self.do(f"call void @keep(ptr {v})")
        return self.name(v)

    def assign(self, variable: str, v):
        x = self.take(v)
        old = self.new(f"load ptr, ptr %{variable}.var")
        self.do(f"store ptr {x}, ptr %{variable}.var")
        self.do(f"call void @let_go(ptr {old})")

    def own(self, v):
        """v for as long as it takes, though its variable may change."""
        if isinstance(v, Held): return v
        self.do(f"call void @keep(ptr {v})")
        return self.held(v)

    # -- integers
    def is_integer(self, node) -> bool:
        if isinstance(node, ast.Name): return node.id in self.integers
        if isinstance(node, ast.BinOp):
            sides = node.left, node.right
            return any(map(self.is_integer, sides)) and all(self.is_integer(x) or self.literal(x) or self.global_integer(x) for x in sides)
        return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "len"

    def global_integer(self, node) -> bool:
        return isinstance(node, ast.Name) and node.id not in self.locals and node.id not in self.cells and type(self.value_of(node.id)) is int

    def literal(self, node) -> bool:
        return isinstance(node, ast.Constant) and type(node.value) is int or isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub) and self.literal(node.operand)

    def integer(self, node) -> str:
        """A number of 64 bits."""
        if self.literal(node): return str(ast.literal_eval(node))
        if isinstance(node, ast.Name):
            if node.id in self.integers: return self.new(f"load i64, ptr %{node.id}.var")
            if self.global_integer(node): return str(self.value_of(node.id))
        if isinstance(node, ast.BinOp) and self.is_integer(node):
            word = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul"}[type(node.op)]
            return self.new(f"{word} i64 {self.integer(node.left)}, {self.integer(node.right)}")
        if self.is_integer(node):
            x = self.value(node.args[0])
            n = self.size(self.name(x))
            self.drop(x)
            return n
        x = self.value(node)
        n = self.call("PyLong_AsSsize_t", self.name(x))
        self.drop(x)
        self.minus_one(n)
        return n

    def minus_one(self, n: str):
        """-1 may mean an error."""
        ask, fine = self.label("ask"), self.label("fine")
        self.fork(self.new(f"icmp eq i64 {n}, -1"), ask, fine)
        self.at(ask)
        self.fork(self.new(f"icmp eq ptr {self.call('PyErr_Occurred')}, null"), fine, self.errors[-1])
        self.at(fine)

    def size(self, x: str) -> str:
        n = self.call("PyObject_Size", x)
        self.checked(self.new(f"icmp slt i64 {n}, 0"))
        return n

    # -- names
    def value_of(self, name: str):
        """What a name that is no local means."""
        for names in (self.cells, self.f.__globals__, vars(builtins)):
            if name in names: return names[name]
        raise NameError(f"{self.f.__qualname__}: {name}")

    # -- expressions
    def value(self, node):
        if self.literal(node): return self.constant(ast.literal_eval(node))
        method = getattr(self, f"on_{type(node).__name__.lower()}", None)
        if method is None: raise self.unsupported(node)
        return method(node)

    def on_constant(self, node): return self.constant(node.value)

    def on_name(self, node):
        if node.id in self.integers: return self.made("PyLong_FromSsize_t", self.integer(node))
        if node.id in self.cells: return self.constant(Cell(node.id))
        if node.id not in self.locals: return self.constant(self.value_of(node.id))
        x = self.new(f"load ptr, ptr %{node.id}.var")
        if node.id not in self.parameters: self.bound(x, node.id)
        return x

    def of_module(self, node) -> bool:
        return isinstance(node.value, ast.Name) and node.value.id not in self.locals and node.value.id not in self.cells and inspect.ismodule(self.value_of(node.value.id))

    def bound(self, x: str, name: str):
        """Python's error where a variable has no value yet."""
        unset, fine = self.label("unset"), self.label("fine")
        self.fork(self.new(f"icmp eq ptr {x}, null"), unset, fine)
        self.at(unset)
        self.call("PyErr_SetString", self.constant(UnboundLocalError), "@unbound")
        self.go(self.errors[-1])
        self.at(fine)

    def on_attribute(self, node):
        if self.of_module(node): return self.constant(getattr(self.value_of(node.value.id), node.attr))
        x = self.value(node.value)
        out = self.held(self.type(self.name(x)) if node.attr == "__class__" else self.attribute(self.name(x), node.attr))
        self.drop(x)
        return out

    def type(self, x: str) -> str:
        t = self.type_of(x)
        self.do(f"call void @keep(ptr {t})")
        return t

    def attribute(self, x: str, name: str) -> str:
        """x.name, a new reference."""
        end, ways, other = self.label("end"), [], self.label("other")
        found = self.layout.slots.get(name, ())
        t = self.type_of(x) if found else None
        for cls, offset in found:
            mine, next_, there = self.label("slot"), self.label("next"), self.label("there")
            self.fork(self.same(t, self.constant(cls)), mine, next_)
            self.at(mine)
            v = self.new(f"load ptr, ptr {self.new(f'getelementptr i8, ptr {x}, i64 {offset}')}")
            self.fork(self.new(f"icmp eq ptr {v}, null"), other, there)        # never set: an AttributeError
            self.at(there)
            self.do(f"call void @keep(ptr {v})")
            self.go(end)
            ways.append((v, there))
            self.at(next_)
        self.go(other)
        self.at(other)
        v = self.call("PyObject_GetAttr", x, self.constant(sys.intern(name)))
        found_out = self.label("got")
        self.fork(self.new(f"icmp eq ptr {v}, null"), self.errors[-1], found_out)
        self.at(found_out)
        self.go(end)
        ways.append((v, found_out))
        self.at(end)
        return self.joined(ways)

    def on_subscript(self, node):
        x = self.value(node.value)
        if self.literal(node.slice) and ast.literal_eval(node.slice) >= 0 or self.is_integer(node.slice):
            out = self.held(self.item(self.name(x), self.integer(node.slice)))
        else:
            k = self.value(node.slice)
            out = self.made("PyObject_GetItem", self.name(x), self.name(k))
            self.drop(k)
        self.drop(x)
        return out

    def item(self, x: str, k: str) -> str:
        """x[k], a new reference."""
        end, other, t = self.label("end"), self.label("other"), self.type_of(x)
        a_list, no_list, a_tuple, inside, there = (self.label(h) for h in ("list", "nolist", "tuple", "inside", "there"))
        self.fork(self.same(t, self.constant(list)), a_list, no_list)
        self.at(no_list)
        self.fork(self.same(t, self.constant(tuple)), a_tuple, other)
        self.at(a_list)
        of_list = self.new(f"load ptr, ptr {self.new(f'getelementptr i8, ptr {x}, i64 {self.layout.list}')}")
        self.go(inside)
        self.at(a_tuple)
        of_tuple = self.new(f"getelementptr i8, ptr {x}, i64 {self.layout.tuple}")
        self.go(inside)
        self.at(inside)
        items = self.new(f"phi ptr [ {of_list}, %{a_list} ], [ {of_tuple}, %{a_tuple} ]")
        n = self.new(f"load i64, ptr {self.new(f'getelementptr i8, ptr {x}, i64 16')}")
        self.fork(self.new(f"icmp ult i64 {k}, {n}"), there, other)            # negative numbers are large
        self.at(there)
        v = self.member(items, k)
        self.do(f"call void @keep(ptr {v})")
        self.go(end)
        self.at(other)
        number = self.made("PyLong_FromSsize_t", k)
        w = self.call("PyObject_GetItem", x, number.name)
        self.drop(number)
        self.checked(self.new(f"icmp eq ptr {w}, null"))
        last = self.lines[-1].rstrip(":")
        self.go(end)
        self.at(end)
        return self.new(f"phi ptr [ {v}, %{there} ], [ {w}, %{last} ]")

    def on_tuple(self, node):
        members = [self.value(e) for e in node.elts]
        out = self.made("PyTuple_New", str(len(members)))
        for k, m in enumerate(members): self.do(f"store ptr {self.take(m)}, ptr {self.new(f'getelementptr i8, ptr {out.name}, i64 {self.layout.tuple + 8 * k}')}")
        return out

    def on_list(self, node):
        out = self.made("PyList_New", "0")
        for e in node.elts: self.append(out.name, e)
        return out

    def on_dict(self, node):
        if node.keys: raise self.unsupported(node)
        return self.made("PyDict_New")

    def append(self, x: str, node):
        m = self.value(node)
        self.checked(self.new(f"icmp slt i32 {self.call('PyList_Append', x, self.name(m))}, 0"))
        self.drop(m)

    def on_listcomp(self, node):
        (g,) = node.generators
        out = self.made("PyList_New", "0")

        def body():
            self.append(out.name, node.elt)
        self.loop(g.target, g.iter, body if not g.ifs else lambda: self.when(g.ifs[0], body, None))
        return out

    def on_binop(self, node):
        if self.is_integer(node): return self.made("PyLong_FromSsize_t", self.integer(node))
        if type(node.op) not in ARITHMETIC: raise self.unsupported(node)
        a, b = self.value(node.left), self.value(node.right)
        out = self.made(ARITHMETIC[type(node.op)], self.name(a), self.name(b))
        self.drop(a, b)
        return out

    def on_compare(self, node): return self.truth(node)
    def on_unaryop(self, node): return self.truth(node)

    def truth(self, node):
        """A condition as True or False."""
        return self.choice(node, lambda: self.constant(True), lambda: self.constant(False))

    def on_ifexp(self, node): return self.choice(node.test, lambda: self.value(node.body), lambda: self.value(node.orelse))

    def choice(self, test, body, orelse):
        yes, no = self.label("yes"), self.label("no")
        self.condition(test, yes, no)
        return self.branches((yes, body), (no, orelse))

    def branches(self, *ways):
        """One of several values: at each label what is made there. All of them start with the same places held, and let go of the same."""
        end, made, free = self.label("end"), [], list(self.free)
        for label, make in ways:
            self.free = list(free)
            self.at(label)
            x, last = self.take(make()), self.label("last")
            self.go(last)
            self.at(last)
            self.go(end)
            made.append((x, last))
        self.at(end)
        return self.held(self.joined(made))

    def joined(self, ways) -> str:
        """A value by the block it comes from."""
        return self.new("phi ptr " + ", ".join(f"[ {v}, %{where} ]" for v, where in ways))

    def on_boolop(self, node):
        """`a or b` as a value."""
        end, ways = self.label("end"), []
        for k, e in enumerate(node.values):
            x = self.value(e)
            stop, on = self.label("stop"), self.label("on")
            if k < len(node.values) - 1:
                true = self.is_true(self.name(x))
                self.fork(true, *((stop, on) if isinstance(node.op, ast.Or) else (on, stop)))
                self.at(stop)
            else:
                self.go(stop)
                self.at(stop)
            place, ways = x, [*ways, (self.name(x), stop)]
            free = list(self.free)
            self.take(x)
            self.go(end)
            if k < len(node.values) - 1:
                self.free = free               # on the other way the value is still held
                self.at(on)
                self.drop(place)
        self.at(end)
        return self.held(self.joined(ways))

    def on_call(self, node):
        f = node.func
        plain = not node.keywords and not any(isinstance(a, ast.Starred) for a in node.args)
        if isinstance(f, ast.Name) and f.id not in self.locals and f.id not in self.cells and plain:
            known = self.value_of(f.id)
            if known is ALLOC and len(node.args) == 1: return self.allocated(node.args[0])
            if known is id: return self.with_one(node.args[0], "PyLong_FromVoidPtr")
            if known is tuple and len(node.args) == 1: return self.with_one(node.args[0], "PySequence_Tuple")
            if known is len: return self.made("PyLong_FromSsize_t", self.integer(node))
            if known is held or known is free: return self.made("PyLong_FromSsize_t", self.native(known, node.args))
        if not plain: return self.call_with_tuple(node)
        if isinstance(f, ast.Attribute) and not self.of_module(f): return self.method(f, node.args)
        return self.vectorcall(self.value(f), [self.value(a) for a in node.args])

    def native(self, known, nodes) -> str:
        """A call of machine code by its address."""
        function, argument = map(self.integer, nodes[:2])
        text = self.own(self.value(nodes[2]))
        data = self.call("PyBytes_AsString", text.name)
        self.checked(self.new(f"icmp eq ptr {data}, null"))
        thread = self.call("PyEval_SaveThread") if known is free else None
        out = self.new(f"call i64 {self.new(f'inttoptr i64 {function} to ptr')}(i64 {argument}, ptr {data})")
        if thread: self.call("PyEval_RestoreThread", thread)
        self.drop(text)
        return out

    def allocated(self, node):
        cls = self.value(node)
        out = self.made("PyType_GenericAlloc", self.name(cls), "0")
        self.drop(cls)
        return out

    def with_one(self, node, name: str):
        x = self.value(node)
        out = self.made(name, self.name(x))
        self.drop(x)
        return out

    def arguments(self, values) -> str:
        self.width = max(self.width, len(values) + 1)
        for k, v in enumerate(values): self.do(f"store ptr {self.name(v)}, ptr {self.new(f'getelementptr ptr, ptr %arguments, i64 {k + 1}')}")
        return self.new("getelementptr ptr, ptr %arguments, i64 1")

    def vectorcall(self, f, values):
        first = self.arguments(values)
        out = self.made("PyObject_Vectorcall", self.name(f), first, str(len(values) | BEHIND), "null")
        self.drop(f, *values)
        return out

    def method(self, f, args):
        if f.attr == "append" and len(args) == 1: return self.list_append(f, args[0])
        values = [self.value(f.value), *[self.value(a) for a in args]]
        if f.attr == "get" and len(args) == 2: return self.dict_get(values)
        return self.called_method(f.attr, values)

    def called_method(self, name: str, values):
        first = self.arguments(values)
        out = self.made("PyObject_VectorcallMethod", self.constant(sys.intern(name)), first, str(len(values) | BEHIND), "null")
        self.drop(*values)
        return out

    def either(self, x: str, cls: type, quick, slow):
        """`quick()` if x is exactly of a class, else `slow()`."""
        yes, no = self.label("exact"), self.label("any")
        self.fork(self.same(self.type_of(x), self.constant(cls)), yes, no)
        return self.branches((yes, quick), (no, slow))

    def list_append(self, f, node):
        x, m = self.value(f.value), self.value(node)

        def quick():
            self.checked(self.new(f"icmp slt i32 {self.call('PyList_Append', self.name(x), self.name(m))}, 0"))
            self.drop(x, m)
            return self.constant(None)
        return self.either(self.name(x), list, quick, lambda: self.called_method(f.attr, [x, m]))

    def dict_get(self, values):
        d, key, default = values

        def quick():
            """The result is borrowed from the dictionary."""
            found = self.call("PyDict_GetItemWithError", self.name(d), self.name(key))
            none, some, here = self.label("none"), self.label("some"), self.label("here")
            self.go(here)
            self.at(here)
            self.fork(self.new(f"icmp eq ptr {found}, null"), none, some)
            self.at(none)
            fine = self.label("fine")
            self.fork(self.new(f"icmp eq ptr {self.call('PyErr_Occurred')}, null"), fine, self.errors[-1])
            self.at(fine)
            self.go(some)
            self.at(some)
            out = self.new(f"phi ptr [ {found}, %{here} ], [ {self.name(default)}, %{fine} ]")
            self.do(f"call void @keep(ptr {out})")
            kept = self.held(out)
            self.drop(*values)
            return kept
        return self.either(self.name(d), dict, quick, lambda: self.called_method("get", values))

    def call_with_tuple(self, node):
        """f(*args) and f(a, *args, **kw)."""
        if any(k.arg is not None for k in node.keywords) or len(node.keywords) > 1: raise self.unsupported(node)
        f = self.value(node.func)
        args = self.on_starred_tuple(node.args)
        kw = self.value(node.keywords[0].value) if node.keywords else "null"
        out = self.made("PyObject_Call", self.name(f), self.name(args), self.name(kw))
        self.drop(f, args, kw)
        return out

    def on_starred_tuple(self, nodes):
        if len(nodes) == 1 and isinstance(nodes[0], ast.Starred): return self.with_one(nodes[0].value, "PySequence_Tuple")
        out = self.made("PyList_New", "0")
        for e in nodes:
            if isinstance(e, ast.Starred): self.loop(ast.Name("each*", ast.Store()), e.value, lambda: None, out)
            else: self.append(out.name, e)
        done = self.made("PySequence_Tuple", out.name)
        self.drop(out)
        return done

    # -- conditions
    def is_true(self, x: str) -> str:
        known, ask, end = self.label("known"), self.label("ask"), self.label("end")
        yes = self.same(x, self.constant(True))
        quick = self.new(f"or i1 {yes}, {self.same(x, self.constant(False))}")
        quick = self.new(f"or i1 {quick}, {self.same(x, self.constant(None))}")
        self.fork(quick, known, ask)
        self.at(known)
        self.go(end)
        self.at(ask)
        n = self.call("PyObject_IsTrue", x)
        fine = self.label("fine")
        self.fork(self.new(f"icmp slt i32 {n}, 0"), self.errors[-1], fine)
        self.at(fine)
        asked = self.new(f"icmp ne i32 {n}, 0")
        self.go(end)
        self.at(end)
        return self.new(f"phi i1 [ {yes}, %{known} ], [ {asked}, %{fine} ]")

    def condition(self, node, yes: str, no: str):
        if isinstance(node, ast.BoolOp):
            for e in node.values[:-1]:
                on = self.label("on")
                self.condition(e, *((yes, on) if isinstance(node.op, ast.Or) else (on, no)))
                self.at(on)
            return self.condition(node.values[-1], yes, no)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not): return self.condition(node.operand, no, yes)
        if isinstance(node, ast.Compare): return self.comparison(node, yes, no)
        x = self.value(node)
        c = self.is_true(self.name(x))
        self.drop(x)
        self.fork(c, yes, no)

    def comparison(self, node, yes: str, no: str):
        if len(node.ops) != 1: raise self.unsupported(node)
        op, left, right = node.ops[0], node.left, node.comparators[0]
        if type(op) in WORDS and (self.is_integer(left) or self.is_integer(right)):
            return self.fork(self.new(f"icmp {WORDS[type(op)]} i64 {self.integer(left)}, {self.integer(right)}"), yes, no)
        a, b = self.value(left), self.value(right)
        if isinstance(op, (ast.Is, ast.IsNot)):
            c = self.same(self.name(a), self.name(b))
            if isinstance(op, ast.IsNot): yes, no = no, yes
        elif isinstance(op, (ast.In, ast.NotIn)):
            n = self.call("PySequence_Contains", self.name(b), self.name(a))
            self.checked(self.new(f"icmp slt i32 {n}, 0"))
            c = self.new(f"icmp ne i32 {n}, 0")
            if isinstance(op, ast.NotIn): yes, no = no, yes
        else:
            r = self.made("PyObject_RichCompare", self.name(a), self.name(b), str(COMPARE[type(op)]))
            c = self.is_true(r.name)
            self.drop(r)
        self.drop(a, b)
        self.fork(c, yes, no)
