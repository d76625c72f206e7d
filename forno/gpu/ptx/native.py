"""A small part of Python as LLVM IR: the language the PTX runner's own machinery (memory checks, schedulers, matrix units) is written in.

Comes in: Python modules whose functions use whole numbers (64 bits, wrapping), `f32`, `f64`, and memory. Goes out: one IR text with all functions, and a
function that writes their addresses into a table. No objects, no exceptions, no recursion depth to speak of.

    def total(words, count):
        out = 0                               # i64[words, i]: the i-th 8-byte word behind the address `words`
        for i in range(count): out += i64[words, i]
        return out

Arguments and results are whole numbers unless annotated `f64` or `f32`. `//` and `%` are the machine's (towards zero), `>>` keeps the sign. Constants
come from the module's namespace. A comparison is a condition: it may be tested, stored, or used as 0 or 1.
"""
from __future__ import annotations

import ast
import inspect
import itertools
import struct


class Cell:
    """Memory seen as elements of one type: `u32[address]`, `u32[base, index]`, both as value and as target."""

    def __init__(self, llvm: str, size: int, signed: bool = True): self.llvm, self.size, self.signed = llvm, size, signed


i8, i16, i32, i64 = Cell("i8", 1), Cell("i16", 2), Cell("i32", 4), Cell("i64", 8)
u8, u16, u32 = Cell("i8", 1, False), Cell("i16", 2, False), Cell("i32", 4, False)
f32, f64 = Cell("float", 4), Cell("double", 8)

# What the language knows besides functions of the modules: names that the translator replaces.
BUILTINS = """less shift_right bits double single to_f64 to_f32 to_int unsigned_to_f64 fma absolute square_root count_zeros trailing_zeros popcount copy move fill invoke""".split()


def _builtin(name):
    def stand_in(*args): raise TypeError(f"{name} exists in native code only")
    stand_in.__name__ = name
    return stand_in


(less, shift_right, bits, double, single, to_f64, to_f32, to_int, unsigned_to_f64, fma, absolute, square_root, count_zeros, trailing_zeros, popcount,
 copy, move, fill, invoke) = map(_builtin, BUILTINS)

_COMPARE = {ast.Lt: ("slt", "olt"), ast.LtE: ("sle", "ole"), ast.Gt: ("sgt", "ogt"), ast.GtE: ("sge", "oge"), ast.Eq: ("eq", "oeq"), ast.NotEq: ("ne", "une")}
_WHOLE = {ast.Add: "add", ast.Sub: "sub", ast.Mult: "mul", ast.FloorDiv: "sdiv", ast.Mod: "srem", ast.BitAnd: "and", ast.BitOr: "or", ast.BitXor: "xor",
          ast.LShift: "shl", ast.RShift: "ashr"}
_REAL = {ast.Add: "fadd", ast.Sub: "fsub", ast.Mult: "fmul", ast.Div: "fdiv"}
_DECLARED = """declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memmove.p0.p0.i64(ptr, ptr, i64, i1)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
declare i64 @llvm.ctlz.i64(i64, i1)
declare i64 @llvm.cttz.i64(i64, i1)
declare i64 @llvm.ctpop.i64(i64)
declare double @llvm.fma.f64(double, double, double)
declare float @llvm.fma.f32(float, float, float)
declare double @llvm.fabs.f64(double)
declare float @llvm.fabs.f32(float)
declare double @llvm.sqrt.f64(double)
declare float @llvm.sqrt.f32(float)
"""


def functions(*modules) -> dict:
    """Name -> (its tree, its module) of every function that the modules define themselves, in order."""
    out = {}
    for m in modules:
        for node in ast.parse(inspect.getsource(m)).body:
            if isinstance(node, ast.FunctionDef): out[node.name] = node, m
    return out


def text(*modules, table: str) -> str:
    """The IR of all functions of the modules, and of `table(ptr)`, which writes their addresses behind each other in the order of `functions`."""
    known = functions(*modules)
    signatures = {name: _signature(node) for name, (node, _) in known.items()}
    parts = [_DECLARED]
    parts += [_Function(node, vars(m), signatures).text() for node, m in known.values()]
    stores = [f"  %p{i} = getelementptr i64, ptr %out, i64 {i}\n  store ptr @{name}, ptr %p{i}" for i, name in enumerate(known)]
    return "\n".join([*parts, f"define void @{table}(ptr %out) {{", *stores, "  ret void", "}"])


def _signature(node: ast.FunctionDef) -> tuple[str, list[str]]:
    return _annotated(node.returns), [_annotated(a.annotation) for a in node.args.args]


def _annotated(node) -> str: return {None: "i64", "f32": "float", "f64": "double"}[node.id if node is not None else None]


class _Function:
    """One function on its way. A value is (LLVM name, LLVM type); a local variable is an alloca that LLVM turns into registers."""

    def __init__(self, node, names, signatures):
        self.node, self.names, self.signatures = node, names, signatures
        self.lines, self.allocas, self.types, self.loops, self.count = [], [], {}, [], itertools.count()
        self.result, self.arguments = signatures[node.name]

    def text(self) -> str:
        args = [a.arg for a in self.node.args.args]
        for name, kind in zip(args, self.arguments): self.store_local(name, (f"%{name}.in", kind))
        self.block(self.node.body)
        self.lines.append(f"  ret {self.result} {'0' if self.result == 'i64' else '0.0'}")
        head = ", ".join(f"{kind} %{name}.in" for name, kind in zip(args, self.arguments))
        return "\n".join([f"define internal {self.result} @{self.node.name}({head}){' alwaysinline' if self.small() else ''} {{", *self.allocas, *self.lines, "}"])

    def small(self) -> bool:
        """A single expression, not in terms of itself, costs less where it is wanted than a call."""
        body = [s for s in self.node.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
        return len(body) == 1 and isinstance(body[0], ast.Return) and not any(isinstance(n, ast.Name) and n.id == self.node.name for n in ast.walk(body[0]))

    # ---- small tools
    def op(self, what: str, kind: str):
        name = f"%t{next(self.count)}"
        self.lines.append(f"  {name} = {what}")
        return name, kind

    def label(self, name: str) -> str: return f"{name}{next(self.count)}"

    def go(self, label: str): self.lines.append(f"  br label %{label}")

    def at(self, label: str): self.lines.append(f"{label}:")

    def store_local(self, name, value):
        if name not in self.types:
            self.types[name] = "i64" if value[1] == "i1" else value[1]
            self.allocas.append(f"  %{name} = alloca {self.types[name]}")
        value = self.as_type(value, self.types[name])
        self.lines.append(f"  store {value[1]} {value[0]}, ptr %{name}")

    def as_type(self, value, kind):
        name, has = value
        if has == kind: return value
        if has == "i1" and kind == "i64": return self.op(f"zext i1 {name} to i64", "i64")
        if kind == "i1": return self.op(f"icmp ne i64 {name}, 0", "i1")
        if {has, kind} == {"float", "double"}: return self.op(f"{'fpext' if kind == 'double' else 'fptrunc'} {has} {name} to {kind}", kind)
        raise TypeError(f"{self.node.name}: {has} where {kind} is needed")

    def fail(self, node, what): raise TypeError(f"{self.node.name}, line {node.lineno}: {what}: {ast.unparse(node)}")

    # ---- statements
    def block(self, body):
        for node in body: getattr(self, "do_" + type(node).__name__)(node)

    def do_Pass(self, node): pass

    def do_Expr(self, node):
        if not isinstance(node.value, ast.Constant): self.value(node.value)

    def do_Assign(self, node):
        value = self.value(node.value)
        for target in node.targets: self.assign(target, value)

    def do_AugAssign(self, node):
        load = ast.copy_location(ast.BinOp(node.target, node.op, node.value), node)
        self.assign(node.target, self.value(load))

    def assign(self, target, value):
        if isinstance(target, ast.Name): return self.store_local(target.id, value)
        cell, address = self.place(target)
        if cell.llvm in ("float", "double"): value = self.as_type(value, cell.llvm)
        else:
            value = self.as_type(value, "i64")
            if cell.size < 8: value = self.op(f"trunc i64 {value[0]} to {cell.llvm}", cell.llvm)
        self.lines.append(f"  store {cell.llvm} {value[0]}, ptr {address}, align 1")

    def do_Return(self, node):
        value = self.as_type(self.value(node.value), self.result) if node.value else ("0", "i64")
        self.lines.append(f"  ret {self.result} {value[0]}")
        self.at(self.label("after"))

    def do_If(self, node):
        yes, no, end = (self.label(n) for n in ("then", "else", "end"))
        self.branch(node.test, yes, no)
        self.at(yes); self.block(node.body); self.go(end)
        self.at(no); self.block(node.orelse); self.go(end)
        self.at(end)

    def do_While(self, node):
        top, body, end = (self.label(n) for n in ("while", "body", "done"))
        self.go(top); self.at(top)
        self.branch(node.test, body, end)
        self.at(body)
        self.loops.append((top, end)); self.block(node.body); self.loops.pop()
        self.go(top); self.at(end)

    def do_For(self, node):
        """`for i in range(...)` with steps upwards; the bound is worked out once."""
        args = [self.value(a) for a in node.iter.args]
        start, stop = (("0", "i64"), args[0]) if len(args) == 1 else args[:2]
        step = args[2][0] if len(args) == 3 else "1"
        top, body, more, end = (self.label(n) for n in ("for", "body", "next", "done"))
        self.store_local(node.target.id, start)
        self.go(top); self.at(top)
        i = self.op(f"load i64, ptr %{node.target.id}", "i64")
        test = self.op(f"icmp slt i64 {i[0]}, {stop[0]}", "i1")
        self.lines.append(f"  br i1 {test[0]}, label %{body}, label %{end}")
        self.at(body)
        self.loops.append((more, end)); self.block(node.body); self.loops.pop()
        self.go(more); self.at(more)
        i = self.op(f"load i64, ptr %{node.target.id}", "i64")
        self.store_local(node.target.id, self.op(f"add i64 {i[0]}, {step}", "i64"))
        self.go(top); self.at(end)

    def do_Break(self, node): self.go(self.loops[-1][1]); self.at(self.label("after"))

    def do_Continue(self, node): self.go(self.loops[-1][0]); self.at(self.label("after"))

    def branch(self, test, yes, no):
        """`and`, `or` and `not` as jumps."""
        if isinstance(test, ast.BoolOp):
            for part in test.values[:-1]:
                middle = self.label("also")
                if isinstance(test.op, ast.And): self.branch(part, middle, no)
                else: self.branch(part, yes, middle)
                self.at(middle)
            return self.branch(test.values[-1], yes, no)
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not): return self.branch(test.operand, no, yes)
        self.lines.append(f"  br i1 {self.as_type(self.value(test), 'i1')[0]}, label %{yes}, label %{no}")

    # ---- expressions
    def value(self, node):
        method = getattr(self, "of_" + type(node).__name__, None)
        return method(node) if method else self.fail(node, "not in this language")

    def of_Constant(self, node): return self.constant(node.value)

    def constant(self, value):
        if isinstance(value, float): return "0x" + struct.pack(">d", value).hex().upper(), "double"
        return str(int(value)), "i64"

    def of_Name(self, node):
        if node.id in self.types: return self.op(f"load {self.types[node.id]}, ptr %{node.id}", self.types[node.id])
        if not isinstance(self.names.get(node.id), (int, float)): self.fail(node, "neither a variable nor a constant")
        return self.constant(self.names[node.id])

    def of_UnaryOp(self, node):
        if isinstance(node.op, ast.Not): return self.condition(node)
        value = self.value(node.operand)
        if value[1] in ("float", "double"): return self.op(f"fneg {value[1]} {value[0]}", value[1])
        value = self.as_type(value, "i64")
        return self.op(f"xor i64 {value[0]}, -1" if isinstance(node.op, ast.Invert) else f"sub i64 0, {value[0]}", "i64")

    def of_BinOp(self, node):
        a, b = self.value(node.left), self.value(node.right)
        if "double" in (a[1], b[1]) or "float" in (a[1], b[1]):
            kind = "double" if "double" in (a[1], b[1]) else "float"
            return self.op(f"{_REAL[type(node.op)]} {kind} {self.as_type(a, kind)[0]}, {self.as_type(b, kind)[0]}", kind)
        a, b = self.as_type(a, "i64"), self.as_type(b, "i64")
        return self.op(f"{_WHOLE[type(node.op)]} i64 {a[0]}, {b[0]}", "i64")

    def of_Compare(self, node):
        if len(node.ops) > 1: self.fail(node, "one comparison at a time")
        a, b = self.value(node.left), self.value(node.comparators[0])
        words = _COMPARE[type(node.ops[0])]
        if a[1] in ("float", "double"): return self.op(f"fcmp {words[1]} {a[1]} {a[0]}, {self.as_type(b, a[1])[0]}", "i1")
        return self.op(f"icmp {words[0]} i64 {self.as_type(a, 'i64')[0]}, {self.as_type(b, 'i64')[0]}", "i1")

    def condition(self, node):
        """The value of a test made of jumps."""
        yes, no, end = (self.label(n) for n in ("yes", "no", "end"))
        self.branch(node, yes, no)
        self.at(yes); self.go(end); self.at(no); self.go(end); self.at(end)
        return self.op(f"phi i1 [ true, %{yes} ], [ false, %{no} ]", "i1")

    def of_BoolOp(self, node): return self.condition(node)

    def of_IfExp(self, node):
        yes, no, end, place = (self.label(n) for n in ("yes", "no", "end", "chosen"))
        self.branch(node.test, yes, no)
        for label, part in ((yes, node.body), (no, node.orelse)):
            self.at(label)
            self.store_local(place, self.value(part))
            self.go(end)
        self.at(end)
        return self.op(f"load {self.types[place]}, ptr %{place}", self.types[place])

    def place(self, node) -> tuple[Cell, str]:
        """The cell and the pointer of `u32[address]` or `u32[base, index]`."""
        cell = self.names.get(node.value.id)
        if not isinstance(cell, Cell): self.fail(node, "memory is i8 … f64")
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        address = self.as_type(self.value(parts[0]), "i64")
        pointer = self.op(f"inttoptr i64 {address[0]} to ptr", "ptr")
        if len(parts) == 2: pointer = self.op(f"getelementptr {cell.llvm}, ptr {pointer[0]}, i64 {self.as_type(self.value(parts[1]), 'i64')[0]}", "ptr")
        return cell, pointer[0]

    def of_Subscript(self, node):
        cell, pointer = self.place(node)
        value = self.op(f"load {cell.llvm}, ptr {pointer}, align 1", cell.llvm)
        if cell.llvm in ("float", "double", "i64"): return value
        return self.op(f"{'sext' if cell.signed else 'zext'} {cell.llvm} {value[0]} to i64", "i64")

    def of_Call(self, node):
        name = node.func.id
        args = [self.value(a) for a in node.args]
        if name in self.signatures:
            result, kinds = self.signatures[name]
            if len(kinds) != len(args): self.fail(node, f"{len(kinds)} arguments wanted")
            given = ", ".join(f"{k} {self.as_type(a, k)[0]}" for a, k in zip(args, kinds))
            return self.op(f"call {result} @{name}({given})", result)
        if name not in BUILTINS: self.fail(node, "unknown function")
        return getattr(self, "make_" + name)(*args)

    # ---- what the language knows
    def whole(self, *values): return [self.as_type(v, "i64")[0] for v in values]

    def make_less(self, a, b): return self.op("icmp ult i64 {}, {}".format(*self.whole(a, b)), "i1")
    def make_shift_right(self, a, b): return self.op("lshr i64 {}, {}".format(*self.whole(a, b)), "i64")
    def make_double(self, a): return self.op(f"bitcast i64 {self.whole(a)[0]} to double", "double")
    def make_to_f64(self, a): return self.as_type(a, "double") if a[1] == "float" else self.op(f"sitofp i64 {self.whole(a)[0]} to double", "double")
    def make_unsigned_to_f64(self, a): return self.op(f"uitofp i64 {self.whole(a)[0]} to double", "double")
    def make_to_f32(self, a): return self.as_type(a, "float")
    def make_to_int(self, a): return self.op(f"fptosi {a[1]} {a[0]} to i64", "i64")
    def make_count_zeros(self, a): return self.op(f"call i64 @llvm.ctlz.i64(i64 {self.whole(a)[0]}, i1 false)", "i64")
    def make_trailing_zeros(self, a): return self.op(f"call i64 @llvm.cttz.i64(i64 {self.whole(a)[0]}, i1 false)", "i64")
    def make_popcount(self, a): return self.op(f"call i64 @llvm.ctpop.i64(i64 {self.whole(a)[0]})", "i64")

    def make_bits(self, a):
        if a[1] == "double": return self.op(f"bitcast double {a[0]} to i64", "i64")
        return self.op(f"zext i32 {self.op(f'bitcast float {a[0]} to i32', 'i32')[0]} to i64", "i64")

    def make_single(self, a):
        return self.op(f"bitcast i32 {self.op(f'trunc i64 {self.whole(a)[0]} to i32', 'i32')[0]} to float", "float")

    def real(self, name, *args):
        kind = args[0][1]
        given = ", ".join(f"{kind} {self.as_type(a, kind)[0]}" for a in args)
        return self.op(f"call {kind} @llvm.{name}.{'f32' if kind == 'float' else 'f64'}({given})", kind)

    def make_fma(self, a, b, c): return self.real("fma", a, b, c)
    def make_absolute(self, a): return self.real("fabs", a)
    def make_square_root(self, a): return self.real("sqrt", a)

    def bytes_between(self, name, target, source, count):
        target, source, count = self.whole(target, source, count)
        to, at = self.op(f"inttoptr i64 {target} to ptr", "ptr")[0], self.op(f"inttoptr i64 {source} to ptr", "ptr")[0]
        self.lines.append(f"  call void @llvm.{name}.p0.p0.i64(ptr {to}, ptr {at}, i64 {count}, i1 false)")
        return "0", "i64"

    def make_copy(self, target, source, count): return self.bytes_between("memcpy", target, source, count)
    def make_move(self, target, source, count): return self.bytes_between("memmove", target, source, count)

    def make_fill(self, target, value, count):
        target, value, count = self.whole(target, value, count)
        to, byte = self.op(f"inttoptr i64 {target} to ptr", "ptr")[0], self.op(f"trunc i64 {value} to i8", "i8")[0]
        self.lines.append(f"  call void @llvm.memset.p0.i64(ptr {to}, i8 {byte}, i64 {count}, i1 false)")
        return "0", "i64"

    def make_invoke(self, function, *args):
        """A call of a function by its address; whole numbers only."""
        pointer = self.op(f"inttoptr i64 {self.whole(function)[0]} to ptr", "ptr")[0]
        return self.op(f"call i64 {pointer}({', '.join(f'i64 {a}' for a in self.whole(*args))})", "i64")
