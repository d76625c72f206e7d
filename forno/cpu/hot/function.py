"""A hot function as LLVM IR: statements, arguments, what is let go of at the end."""
from __future__ import annotations

import ast
import itertools
import sys
from types import FunctionType

from .expressions import DECLARED, Cell, Expressions, Held
from .layout import Layout

NO_KEYWORDS: dict = {}
SUPPORT = r"""
@wrong_number = private constant [33 x i8] c"wrong number of values to unpack\00"
@unbound = private constant [40 x i8] c"a local variable is used before its set\00"

define internal void @keep(ptr %x) alwaysinline {
  KEEP
  ret void
}

define internal void @release(ptr %x) alwaysinline {
  RELEASE
}

define internal void @let_go(ptr %x) alwaysinline {
  %none = icmp eq ptr %x, null
  br i1 %none, label %done, label %some
some:
  call void @release(ptr %x)
  br label %done
done:
  ret void
}

define internal void @copied(ptr %to, ptr %from, i64 %n) #0 {
entry:
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %done
body:
  %a = getelementptr ptr, ptr %from, i64 %i
  %x = load ptr, ptr %a
  call void @keep(ptr %x)
  %b = getelementptr ptr, ptr %to, i64 %i
  store ptr %x, ptr %b
  %next = add i64 %i, 1
  br label %head
done:
  ret void
}
"""
if sys.version_info >= (3, 12):                # objects that never end have counts of their own
    SUPPORT = SUPPORT.replace("KEEP", "call void @Py_IncRef(ptr %x)").replace("RELEASE", "call void @Py_DecRef(ptr %x)\n  ret void")
else:
    SUPPORT = SUPPORT.replace("KEEP", "%n = load i64, ptr %x\n  %m = add i64 %n, 1\n  store i64 %m, ptr %x").replace("RELEASE", """%n = load i64, ptr %x
  %m = sub i64 %n, 1
  store i64 %m, ptr %x
  %last = icmp eq i64 %m, 0
  br i1 %last, label %end, label %done
end:
  call void @_Py_Dealloc(ptr %x)
  br label %done
done:
  ret void""")


class Function(Expressions):
    """One function's text."""

    # -- statements
    def block(self, statements):
        for s in statements:
            if self.ended(): return            # after a return nothing follows
            method = getattr(self, f"do_{type(s).__name__.lower()}", None)
            if method is None: raise self.unsupported(s)
            method(s)

    def do_pass(self, node): pass

    def do_expr(self, node):
        if isinstance(node.value, ast.Constant): return
        self.drop(self.value(node.value))

    def do_annassign(self, node):
        if node.value is not None: self.do(f"store i64 {self.integer(node.value)}, ptr %{node.target.id}.var")

    def do_assign(self, node):
        if isinstance(node.value, ast.Tuple) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Tuple) and len(node.targets[0].elts) == len(node.value.elts):
            values = [self.own(self.value(e)) for e in node.value.elts]
            for t, v in zip(node.targets[0].elts, values): self.store(t, v)
            return
        if len(node.targets) == 1 and isinstance(node.targets[0], ast.Name) and node.targets[0].id in self.integers:
            self.do(f"store i64 {self.integer(node.value)}, ptr %{node.targets[0].id}.var")
            return
        v = self.value(node.value)
        if len(node.targets) > 1: v = self.own(v)
        for t in node.targets[:-1]: self.store(t, self.own(self.name(v)))
        self.store(node.targets[-1], v)

    def do_augassign(self, node):
        """The target is read and written: it is a name, or an attribute or member of something without effects."""
        now = ast.parse(ast.unparse(node.target), mode="eval").body
        self.do_assign(ast.Assign([node.target], ast.BinOp(now, node.op, node.value)))

    def store(self, target, v):
        if isinstance(target, ast.Name):
            if target.id in self.integers:
                n = self.call("PyLong_AsSsize_t", self.name(v))
                self.drop(v)
                self.minus_one(n)
                self.do(f"store i64 {n}, ptr %{target.id}.var")
            else: self.assign(target.id, v)
        elif isinstance(target, ast.Tuple): self.unpack(target, v)
        elif isinstance(target, ast.Attribute): self.set_attribute(target, v)
        elif isinstance(target, ast.Subscript):
            x, k = self.value(target.value), self.value(target.slice)
            self.checked(self.new(f"icmp slt i32 {self.call('PyObject_SetItem', self.name(x), self.name(k), self.name(v))}, 0"))
            self.drop(x, k, v)
        else: raise self.unsupported(target)

    def unpack(self, target, v):
        """a, b = v."""
        t = self.made("PySequence_Tuple", self.name(v))
        self.drop(v)
        bad, fine = self.label("bad"), self.label("fine")
        self.fork(self.new(f"icmp eq i64 {self.size(t.name)}, {len(target.elts)}"), fine, bad)
        self.at(bad)
        self.call("PyErr_SetString", self.constant(ValueError), "@wrong_number")
        self.go(self.errors[-1])
        self.at(fine)
        for k, e in enumerate(target.elts):
            m = self.new(f"load ptr, ptr {self.new(f'getelementptr i8, ptr {t.name}, i64 {self.layout.tuple + 8 * k}')}")
            self.store(e, m)
        self.drop(t)

    def set_attribute(self, target, v):
        x = self.value(target.value)
        found, done, other = self.layout.slots.get(target.attr, ()), self.label("done"), self.label("other")
        t = self.type_of(self.name(x)) if found else None
        for cls, offset in found:
            mine, next_ = self.label("slot"), self.label("next")
            self.fork(self.same(t, self.constant(cls)), mine, next_)
            self.at(mine)
            place = self.new(f"getelementptr i8, ptr {self.name(x)}, i64 {offset}")
            old = self.new(f"load ptr, ptr {place}")
            self.do(f"call void @keep(ptr {self.name(v)})")
            self.do(f"store ptr {self.name(v)}, ptr {place}")
            self.do(f"call void @let_go(ptr {old})")
            self.go(done)
            self.at(next_)
        self.go(other)
        self.at(other)
        self.checked(self.new(f"icmp slt i32 {self.call('PyObject_SetAttr', self.name(x), self.constant(sys.intern(target.attr)), self.name(v))}, 0"))
        self.go(done)
        self.at(done)
        self.drop(x, v)

    def do_if(self, node): self.when(node.test, lambda: self.block(node.body), (lambda: self.block(node.orelse)) if node.orelse else None)

    def when(self, test, body, orelse):
        yes, no, end = self.label("then"), self.label("else"), self.label("end")
        self.condition(test, yes, no)
        self.at(yes)
        body()
        self.go(end)
        self.at(no)
        if orelse is not None: orelse()
        self.go(end)
        self.at(end)

    def do_return(self, node):
        x = self.take(self.value(node.value)) if node.value is not None else self.take(self.constant(None))
        self.do(f"store ptr {x}, ptr %result")
        for e in itertools.chain(*self.caught): self.do(f"call void @let_go(ptr {self.new(f'load ptr, ptr {e}')})")
        for k in self.kept(): self.do(f"call void @let_go(ptr {self.new(f'load ptr, ptr %place{k}')})")
        self.do("br label %leave")

    def kept(self): return [k for k in range(self.places) if k not in self.free]

    def do_while(self, node):
        if node.orelse: raise self.unsupported(node)
        head, body, end = self.label("head"), self.label("body"), self.label("end")
        self.go(head)
        self.at(head)
        self.condition(node.test, body, end)
        self.at(body)
        self.loops.append((head, end))
        self.block(node.body)
        self.loops.pop()
        self.go(head)
        self.at(end)

    def do_for(self, node):
        if node.orelse: raise self.unsupported(node)
        if self.counts(node.iter): return self.count_up(node)
        self.loop(node.target, node.iter, lambda: self.block(node.body))

    def count_up(self, node):
        """for i in range(n)."""
        first, last = ("0", *map(self.integer, node.iter.args)) if len(node.iter.args) == 1 else tuple(map(self.integer, node.iter.args))
        head, body, step, end = (self.label(h) for h in ("head", "body", "step", "end"))
        counter = self.new("alloca i64")
        self.do(f"store i64 {first}, ptr {counter}")
        self.go(head)
        self.at(head)
        i = self.new(f"load i64, ptr {counter}")
        self.fork(self.new(f"icmp slt i64 {i}, {last}"), body, end)
        self.at(body)
        self.do(f"store i64 {i}, ptr %{node.target.id}.var")
        self.loops.append((step, end))
        self.block(node.body)
        self.loops.pop()
        self.go(step)
        self.at(step)
        self.do(f"store i64 {self.new(f'add i64 {i}, 1')}, ptr {counter}")
        self.go(head)
        self.at(end)

    def loop(self, target, node, body, into=None):
        """body() with `target` as every member of a sequence (read by its number) or of anything that gives an iterator; `into`: a list that gets the members."""
        sequence = self.own(self.value(node))
        s = self.name(sequence)
        indexed, other, start, head, by_index, by_next, have, step, end = (self.label(h) for h in ("indexed", "other", "start", "head", "byindex", "bynext", "have", "step", "end"))
        t = self.type_of(s)
        self.fork(self.new(f"or i1 {self.same(t, self.constant(list))}, {self.same(t, self.constant(tuple))}"), indexed, other)
        self.at(other)
        iterator = self.call("PyObject_GetIter", s)
        self.checked(self.new(f"icmp eq ptr {iterator}, null"))
        last = self.lines[-1].rstrip(":")
        self.go(start)
        self.at(indexed)
        self.go(start)
        self.at(start)
        it = self.held(self.new(f"phi ptr [ {iterator}, %{last} ], [ null, %{indexed} ]"))
        counter = self.new("alloca i64")
        self.do(f"store i64 0, ptr {counter}")
        self.go(head)
        self.at(head)
        self.fork(self.new(f"icmp eq ptr {it.name}, null"), by_index, by_next)
        self.at(by_index)
        i = self.new(f"load i64, ptr {counter}")
        self.do(f"store i64 {self.new(f'add i64 {i}, 1')}, ptr {counter}")
        n = self.new(f"load i64, ptr {self.new(f'getelementptr i8, ptr {s}, i64 16')}")
        inside = self.label("inside")
        self.fork(self.new(f"icmp slt i64 {i}, {n}"), inside, end)
        self.at(inside)
        a = self.item(s, i)
        from_index = self.label("from")
        self.go(from_index)
        self.at(from_index)
        self.go(have)
        self.at(by_next)
        b = self.call("PyIter_Next", it.name)
        empty = self.label("empty")
        self.fork(self.new(f"icmp eq ptr {b}, null"), empty, have)
        self.at(empty)
        self.fork(self.new(f"icmp eq ptr {self.call('PyErr_Occurred')}, null"), end, self.errors[-1])
        self.at(have)
        x = self.held(self.new(f"phi ptr [ {a}, %{from_index} ], [ {b}, %{by_next} ]"))
        if into is None: self.store(target, x)
        else:
            self.checked(self.new(f"icmp slt i32 {self.call('PyList_Append', into.name, x.name)}, 0"))
            self.drop(x)
        self.loops.append((step, end))
        body()
        self.loops.pop()
        self.go(step)
        self.at(step)
        self.go(head)
        self.at(end)
        self.forget(it)
        self.do(f"call void @let_go(ptr {it.name})")
        self.drop(sequence)

    def do_break(self, node): self.go(self.loops[-1][1])
    def do_continue(self, node): self.go(self.loops[-1][0])

    def do_try(self, node):
        """try … except E: one handler; `except BaseException` may raise again."""
        if node.finalbody or len(node.handlers) != 1: raise self.unsupported(node)
        handler = node.handlers[0]
        caught, handle, end = self.label("caught"), self.label("handle"), self.label("end")
        kept, outer = self.kept(), self.errors[-1]
        self.errors.append(caught)
        self.block(node.body)
        self.errors.pop()
        if not self.ended(): self.block(node.orelse)
        self.go(end)
        self.at(caught)
        self.lines.append(("release", kept))   # which places there are is known at the end
        self.fork(self.new(f"icmp eq i32 {self.call('PyErr_ExceptionMatches', self.constant(self.value_of(handler.type.id)))}, 0"), outer, handle)
        self.at(handle)
        error = [self.new("alloca ptr") for _ in range(3)]
        self.call("PyErr_Fetch", *error)
        if handler.name:
            self.call("PyErr_NormalizeException", *error)
            self.assign(handler.name, self.new(f"load ptr, ptr {error[1]}"))
        self.caught.append(error)
        self.block(handler.body)
        self.caught.pop()
        if not self.ended():
            for e in error: self.do(f"call void @let_go(ptr {self.new(f'load ptr, ptr {e}')})")
        self.go(end)
        self.at(end)

    def do_raise(self, node):
        if node.exc is not None: return self.raised(node)
        if not self.caught: raise self.unsupported(node)
        self.call("PyErr_Restore", *[self.new(f"load ptr, ptr {e}") for e in self.caught[-1]])
        self.go(self.errors[-1])

    def raised(self, node):
        if node.cause is not None: raise self.unsupported(node)
        x = self.value(node.exc)               # an exception, not its class
        self.call("PyErr_SetObject", self.type_of(self.name(x)), self.name(x))
        self.drop(x)
        self.go(self.errors[-1])

    # -- the whole
    def text(self) -> str:
        """IR of a function `hot(constants as a list, arguments, their number, names of keywords)`."""
        self.lines = ["entry:"]
        self.prologue()
        self.block(self.tree.body)
        if not self.ended(): self.do_return(ast.Return(None))
        body, out = self.lines, []
        for line in body:
            if isinstance(line, str): out.append(line)
            else: out += self.released(line[1])
        objects = [v for v in self.locals if v not in self.integers]
        allocas = [f"  %place{k} = alloca ptr\n  store ptr null, ptr %place{k}" for k in range(self.places)]
        allocas += [f"  %{v}.var = alloca ptr\n  store ptr null, ptr %{v}.var" for v in objects]
        allocas += [f"  %{v}.var = alloca i64\n  store i64 0, ptr %{v}.var" for v in sorted(self.integers)]
        allocas += [f"  %arguments = alloca [{self.width} x ptr]", "  %result = alloca ptr"]
        counters = [line for line in out if line.endswith(("= alloca i64", "= alloca ptr"))]     # in the entry block, once, wherever they are used
        apart = set(counters)
        out = [line for line in out if line not in apart]
        leave = [line for v in objects for line in (f"  %last.{v} = load ptr, ptr %{v}.var", f"  call void @let_go(ptr %last.{v})")]
        lines = [out[0], *allocas, *counters, *out[1:], "fail:", *self.released([]), "  store ptr null, ptr %result", "  br label %leave", "leave:", *leave,
                 "  %last = load ptr, ptr %result", "  ret ptr %last"]
        return "\n".join([*(f"declare {d.replace(' ', ' @', 1)}" for d in DECLARED), SUPPORT, "define ptr @hot(ptr %self, ptr %given, i64 %count, ptr %names) #0 {", *lines, "}",
                          'attributes #0 = { nounwind "frame-pointer"="none" }', ""])

    def released(self, kept) -> list[str]:
        out = []
        for k in range(self.places):
            if k in kept: continue
            name = f"%r{next(self.count)}"
            out += [f"  {name} = load ptr, ptr %place{k}", f"  store ptr null, ptr %place{k}", f"  call void @let_go(ptr {name})"]
        return out

    def prologue(self):
        """Arguments into variables. A call in another manner (keywords, defaults, a wrong number) goes to the function as it was written."""
        held = self.new(f"load ptr, ptr {self.new(f'getelementptr i8, ptr %self, i64 {self.layout.constants}')}")
        self.do(f"%constants = load ptr, ptr {self.new(f'getelementptr i8, ptr {held}, i64 {self.layout.list}')}")
        n, usual, other = len(self.parameters), self.label("usual"), self.label("other")
        number = self.new("and i64 %count, 9223372036854775807")
        fits = self.new(f"icmp {'uge' if self.rest else 'eq'} i64 {number}, {n}")
        if not self.keywords: fits = self.new(f"and i1 {fits}, {self.new('icmp eq ptr %names, null')}")
        self.fork(fits, usual, other)
        self.at(other)
        self.do(f"ret ptr {self.call('PyObject_Vectorcall', self.constant(self.f), '%given', number, '%names')}")
        self.at(usual)
        for k, p in enumerate(self.parameters):
            x = self.member("%given", k)
            if p in self.integers: self.store(ast.Name(p, ast.Store()), x)
            else: self.assign(p, x)
        if self.rest: self.assign(self.rest, self.given_tuple(n, self.new(f"sub i64 {number}, {n}")))
        if self.keywords: self.given_dict(number)

    def given_tuple(self, first: int, count: str) -> Held:
        out = self.made("PyTuple_New", count)
        items = self.new(f"getelementptr i8, ptr {out.name}, i64 {self.layout.tuple}")
        rest = self.new(f"getelementptr ptr, ptr %given, i64 {first}")
        self.do(f"call void @copied(ptr {items}, ptr {rest}, i64 {count})")
        return out

    def given_dict(self, number: str):
        """**kw: without keywords the one empty dictionary, which nobody writes to."""
        some, done, head, body = (self.label(h) for h in ("some", "done", "head", "body"))
        self.assign(self.keywords, self.constant(NO_KEYWORDS))
        self.fork(self.new("icmp eq ptr %names, null"), done, some)
        self.at(some)
        kw, n = self.made("PyDict_New"), self.size("%names")
        counter = self.new("alloca i64")
        self.do(f"store i64 0, ptr {counter}")
        self.go(head)
        self.at(head)
        i = self.new(f"load i64, ptr {counter}")
        end = self.label("end")
        self.fork(self.new(f"icmp slt i64 {i}, {n}"), body, end)
        self.at(body)
        key = self.member(self.new(f"getelementptr i8, ptr %names, i64 {self.layout.tuple}"), i)
        x = self.member("%given", self.new(f"add i64 {number}, {i}"))
        self.checked(self.new(f"icmp slt i32 {self.call('PyDict_SetItem', kw.name, key, x)}, 0"))
        self.do(f"store i64 {self.new(f'add i64 {i}, 1')}, ptr {counter}")
        self.go(head)
        self.at(end)
        self.assign(self.keywords, kw)
        self.go(done)
        self.at(done)


_texts: dict = {}                              # code -> (IR, constants)


def translate(f: FunctionType, layout: Layout) -> tuple[str, list]:
    """(IR, constants) of a hot function."""
    if f.__code__ not in _texts:
        function = Function(f, layout)
        _texts[f.__code__] = function.text(), function.constants
    text, constants = _texts[f.__code__]
    cells = dict(zip(f.__code__.co_freevars, f.__closure__ or ()))
    return text, [f, *(cells[c.name].cell_contents if isinstance(c, Cell) else c for c in constants[1:])]
