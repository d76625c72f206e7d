"""LLVM IR text, one instruction per call: values, functions, blocks and loops, constants, lanes. What instructions mean is the builder's business.

A `Val` knows its forno dtype (or PTR) and how many lanes it has. float16 and bfloat16 live in registers as their 16 bits; a complex Val is a pair of real
ones. Values in loops are kept in `alloca`s, which LLVM turns into registers: nobody writes a phi.
"""
from __future__ import annotations

import struct
from contextlib import contextmanager
from math import isnan

import numpy as np

from ..core import dtype as dt
from ..cpu import isa

PTR = "ptr"
TYPES = {dt.bool: "i1", dt.float32: "float", dt.float64: "double", dt.float16: "i16", dt.bfloat16: "i16", PTR: "ptr",
          **{t: f"i{8 * t.size}" for t in dt.ALL if t.category == dt.INT}}
SUFFIX = {"float": "f32", "double": "f64", "ptr": "p0"}


class Val:
    """One SSA value or constant: `text` as LLVM spells it, `n` lanes (1: a scalar), `const` the Python number if it is one."""
    __slots__ = ("text", "dtype", "n", "const", "parts")

    def __init__(self, text, dtype, n=1, const=None, parts=None):
        self.text, self.dtype, self.n, self.const, self.parts = text, dtype, n, const, parts

    @property
    def type(self): return vector_type(TYPES[self.dtype], self.n)

    @property
    def re(self): return self.parts[0]

    @property
    def im(self): return self.parts[1]

    def __str__(self): return f"{self.type} {self.text}"


def vector_type(scalar: str, n: int) -> str: return scalar if n == 1 else f"<{n} x {scalar}>"
def memory_type(t) -> str: return "i8" if t is dt.bool else TYPES[t]
def llvm_type(t, n: int = 1) -> str: return vector_type(TYPES[t], n)


def literal(value, t) -> str:
    """A number of type t as LLVM spells constants."""
    if t is dt.float32: return f"0x{struct.unpack('<Q', struct.pack('<d', float(np.float32(value))))[0]:016X}"
    if t is dt.float64: return f"0x{struct.unpack('<Q', struct.pack('<d', float(value)))[0]:016X}"
    if t is dt.float16: return str(int(np.array(value, np.float32).astype(np.float16).view(np.int16)))
    if t is dt.bfloat16:
        bits = int(np.array(value, np.float32).view(np.uint32))
        return str((bits + 0x7FFF + (bits >> 16 & 1)) >> 16 & 0xFFFF if not isnan(value) else 0x7FC0)
    if t is dt.bool: return "true" if value else "false"
    bits = 8 * t.size
    value = int(value) & (1 << bits) - 1
    return str(value - (1 << bits) if value >> bits - 1 else value)


class Writer:
    """The text of one module as it grows: instructions, functions, blocks and loops, constants, lanes. `isa`: what it is written for."""
    isa = isa.current

    def __init__(self):
        self.lines: list[str] = []
        self.entry: list[str] = []             # allocas of the function being written
        self.functions: list[str] = []
        self.declared: dict[str, str] = {}     # intrinsic -> its declare line
        self.shared: dict[str, str] = {}       # helper functions and tables of this module, by name
        self.count = 0
        self.block = ""                        # label of the block being written

    # ---- text
    def name(self, prefix: str = "%t") -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def put(self, line: str): self.lines.append(line)

    def emit(self, line: str, t, n: int = 1) -> Val:
        """`%new = line`, a value of type t."""
        self.count += 1
        out = f"%t{self.count}"
        self.lines.append(f"{out} = {line}")
        return Val(out, t, n)

    def call(self, name: str, t, *args: Val, n: int | None = None, extra: str = "") -> Val | None:
        """Call an intrinsic or helper; t None for void. `extra`: literal trailing arguments such as `, i1 false`."""
        n = args[0].n if n is None else n
        if name not in self.declared and name not in self.shared:
            tail = "".join(", " + a.split()[0] for a in extra.split(",")[1:])
            self.declared[name] = f"declare {'void' if t is None else llvm_type(t, n)} @{name}({', '.join(a.type for a in args)}{tail})"
        text = f"@{name}({', '.join(map(str, args))}{extra})"
        if t is None: return self.put(f"call void {text}")
        return self.emit(f"call {llvm_type(t, n)} {text}", t, n)

    def intrinsic(self, name: str, *args: Val, extra: str = "") -> Val:
        """llvm.<name>.<type of the first argument>, which returns that type."""
        x = args[0]
        scalar = TYPES[x.dtype]
        suffix = SUFFIX.get(scalar, scalar)
        return self.call(f"llvm.{name}.{f'v{x.n}' if x.n > 1 else ''}{suffix}", x.dtype, *args, extra=extra)

    # ---- functions, blocks, loops
    @contextmanager
    def inside(self, head):
        """What is written goes into a function; `head()` is the text in front of it, asked for when all is written."""
        outer = self.lines, self.entry, self.block
        self.lines, self.entry, self.block = [], [], "entry"
        yield
        self.functions.append(f"{head()} {{\nentry:\n" + "\n".join([*self.entry, *self.lines]) + "\n}\n")
        self.lines, self.entry, self.block = outer

    @contextmanager
    def function(self, name: str, args: str = "ptr %ctx, ptr %vals, ptr %words", result: str = "void", internal: bool = False):
        """The body ends with `ret void`, or with what the caller put there itself when `result` is something else."""
        with self.inside(lambda: f"define {'internal ' if internal else ''}{result} @{name}({args}) #0"):
            yield
            if result == "void": self.put("ret void")

    def label(self, name: str):
        self.block = name
        self.put(f"{name}:")

    @contextmanager
    def loop(self, lo, hi, step=1):
        """for i in range(lo, hi, step), step > 0; gives i (int64, or 32 bits if a bound is)."""
        k, lo, hi, step = self.name(""), self.index(lo), self.index(hi), self.index(step)
        t = dt.int32 if any([x.const is None and x.dtype is dt.int32 for x in (lo, hi, step)]) else dt.int64
        kind, i, before = TYPES[t], Val(f"%i{k}", t), self.block
        self.put(f"%c{k} = icmp slt {kind} {lo.text}, {hi.text}\nbr i1 %c{k}, label %body{k}, label %done{k}")
        self.label(f"body{k}")
        at = len(self.lines)
        self.put("")
        yield i
        self.put(f"%n{k} = add nsw {kind} {i.text}, {step.text}\n%d{k} = icmp slt {kind} %n{k}, {hi.text}\nbr i1 %d{k}, label %body{k}, label %done{k}")
        self.lines[at] = f"{i.text} = phi {kind} [ {lo.text}, %{before} ], [ %n{k}, %{self.block} ]"
        self.label(f"done{k}")

    @contextmanager
    def loop_while(self):
        """Runs the body, then again as long as the (scalar bool) value given to the yielded function is true."""
        k = self.name("")
        self.put(f"br label %body{k}")
        self.label(f"body{k}")
        again = []
        yield again.append
        self.put(f"br i1 {again[0].text}, label %body{k}, label %done{k}")
        self.label(f"done{k}")

    @contextmanager
    def if_(self, cond: Val):
        k = self.name("")
        self.put(f"br i1 {cond.text}, label %then{k}, label %end{k}")
        self.label(f"then{k}")
        yield
        self.put(f"br label %end{k}")
        self.label(f"end{k}")

    def choose(self, cond: Val, then, other):
        """A branch with results: `then()` and `other()` write code and return a Val (or a tuple of them); only one of them runs."""
        k = self.name("")
        self.put(f"br i1 {cond.text}, label %then{k}, label %else{k}")
        results, blocks = [], []
        for name, write in (("then", then), ("else", other)):
            self.label(f"{name}{k}")
            results.append(write())
            blocks.append(self.block)
            self.put(f"br label %end{k}")
        self.label(f"end{k}")
        return self._phi(*results, *blocks)

    def _phi(self, a, b, from_a, from_b):
        if a is None: return None
        if isinstance(a, tuple): return tuple(self._phi(x, y, from_a, from_b) for x, y in zip(a, b))
        if a.parts: return self.pair(*self._phi(a.parts, b.parts, from_a, from_b))
        return self.emit(f"phi {a.type} [ {a.text}, %{from_a} ], [ {b.text}, %{from_b} ]", a.dtype, a.n)

    def helper(self, name: str, write):
        """A function or table shared by the whole module: `write()` gives its text (or writes it with `function`) the first time."""
        if name in self.shared: return
        self.shared[name] = ""
        self.shared[name] = write() or ""

    def module(self) -> str:
        texts = [*(t for n, t in self.declared.items() if n not in self.shared), *filter(None, self.shared.values()), *self.functions]
        return "\n".join(texts) + f"\nattributes #0 = {{ {self.isa.attributes} }}\n"

    # ---- constants and lanes
    def const(self, value, like, n: int = 1) -> Val:
        """A number of `like`'s dtype (`like`: a Val or a dtype), as a scalar; operations splat it."""
        t = like.dtype if isinstance(like, Val) else like
        if t.category == dt.COMPLEX:
            z = complex(value)
            return self.pair(self.const(z.real, t.real), self.const(z.imag, t.real))
        out = Val(literal(value, t), t, 1, value)
        return out if n == 1 else self.splat(out, n)

    def index(self, x) -> Val: return x if isinstance(x, Val) else Val(str(int(x)), dt.int64, 1, int(x))

    def value(self, x, like: Val) -> Val: return x if isinstance(x, Val) else self.const(x, like)

    def splat(self, x: Val, n: int) -> Val:
        if x.n == n: return x
        if x.parts: return self.pair(*(self.splat(p, n) for p in x.parts))
        if x.const is not None and x.dtype is not PTR: return Val(f"splat ({TYPES[x.dtype]} {x.text})", x.dtype, n, x.const)
        t = llvm_type(x.dtype, n)
        one = self.emit(f"insertelement {t} poison, {x}, i32 0", x.dtype, n)
        return self.emit(f"shufflevector {t} {one.text}, {t} poison, <{n} x i32> zeroinitializer", x.dtype, n)

    def align(self, *xs: Val) -> tuple[Val, ...]:
        """The operands with one number of lanes."""
        n = max(x.n for x in xs)
        return tuple(x if x.n == n else self.splat(x, n) for x in xs)

    def _two(self, x, y) -> tuple[Val, Val]:
        if not isinstance(y, Val): y = self.const(y, x)
        elif not isinstance(x, Val): x = self.const(x, y)
        return (x, y) if x.n == y.n else self.align(x, y)

    def iota(self, n: int, t=dt.int64) -> Val:
        s = TYPES[t]
        return Val("0", t, 1, 0) if n == 1 else Val("<" + ", ".join(f"{s} {i}" for i in range(n)) + ">", t, n)

    def extract(self, x: Val, i: int) -> Val:
        if x.n == 1: return x
        if x.parts: return self.pair(*(self.extract(p, i) for p in x.parts))
        return self.emit(f"extractelement {x}, i64 {i}", x.dtype)

    def insert(self, x: Val, y: Val, i) -> Val: return self.emit(f"insertelement {x}, {y}, i64 {i.text if isinstance(i, Val) else i}", x.dtype, x.n)

    def shuffle(self, x: Val, y: Val | None, lanes) -> Val:
        """Lanes of x followed by y's, picked by position."""
        mask = ", ".join(f"i32 {i}" for i in lanes)
        return self.emit(f"shufflevector {x}, {y if y else f'{x.type} poison'}, <{len(lanes)} x i32> <{mask}>", x.dtype, len(lanes))

    def alternate(self, xs: list[Val]) -> Val:
        """Lane 0 of each vector, then lane 1 of each, …"""
        n, out = xs[0].n, xs[0]
        for k, x in enumerate(xs[1:], 1):      # `out` holds groups of k lanes
            x = self.shuffle(x, None, [min(i, n - 1) for i in range(out.n)])
            out = self.shuffle(out, x, [j for i in range(n) for j in (*range(i * k, i * k + k), out.n + i)])
        return out

    def reversed(self, x: Val) -> Val: return self.shuffle(x, None, range(x.n - 1, -1, -1))

    def part(self, x: Val, lo: int, n: int) -> Val:
        if x.n == n: return x
        if x.parts: return self.pair(*(self.part(p, lo, n) for p in x.parts))
        return self.extract(x, lo) if n == 1 else self.shuffle(x, None, range(lo, lo + n))

    def reduce(self, x, combine):
        """All lanes of x (a Val, or a tuple of them) combined in a tree: halves of the vector, always in the same order."""
        many = isinstance(x, tuple)
        xs = x if many else (x,)
        while xs[0].n > 1:
            h = xs[0].n // 2
            lo, hi = tuple(self.part(v, 0, h) for v in xs), tuple(self.part(v, h, h) for v in xs)
            xs = combine(lo, hi) if many else (combine(lo[0], hi[0]),)
        return xs if many else xs[0]

    def any_lane(self, x: Val) -> Val:
        if x.n == 1: return x
        return self.emit(f"icmp ne i{x.n} {self.emit(f'bitcast {x} to i{x.n}', dt.int64).text}, 0", dt.bool)

    def transpose(self, rows: list[Val]) -> list[Val]:
        """Columns of a square of n vectors with n lanes, by interleaving halves log2(n) times."""
        n = len(rows)
        half = n // 2
        low, high = ([i for k in range(half) for i in (k + base, n + k + base)] for base in (0, half))
        for _ in range(n.bit_length() - 1):
            pairs = list(zip(rows[:half], rows[half:]))
            rows = [x for a, b in pairs for x in (self.shuffle(a, b, low), self.shuffle(a, b, high))]
        return rows

    def pair(self, re: Val, im: Val) -> Val:
        re, im = self.align(re, im)
        return Val("", re.dtype.to_complex(), re.n, None, (re, im))
