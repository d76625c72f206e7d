"""The text of one translated kernel: values, registers, operands, addresses, checks and waits. Handlers in `instructions/` write through this.

A register is a place in memory by the name `%R.<name>`; `translate` decides later whether the place is the machine's register (an alloca that LLVM
removes) or lies in the thread's frame, because the register's value must outlast a wait.
"""
from __future__ import annotations

import itertools
import re
import struct

from .layout import *
from .parse import SIZES, Function, Instruction, Source, Variable, number

WIDTHS = {"pred": 1, **{k: 8 * n for k, n in SIZES.items() if k != "pred"}}
_ADDRESS = re.compile(r"\[\s*([\w$%.~]+|-?\d+)\s*(?:\+\s*(-?\s*\w+))?\s*\]$")
_AXES = (("tid", TID_X), ("ntid", NTID_X), ("ctaid", CTA_X), ("nctaid", GRID_X), ("clusterid", CTA_X), ("nclusterid", GRID_X))
_SPECIAL = {f"%{name}.{axis}": ("T" if name == "tid" else "B", word + i) for name, word in _AXES for i, axis in enumerate("xyz")}
_SPECIAL |= {"%laneid": ("T", LANE), "%warpid": ("T", WARP), "%nwarpid": ("B", WARPS), "%smid": ("B", BLOCK_ID), "%total_smem_size": ("B", SHARED_SIZE)}
_CONSTANT = {"%nsmid": 132, "%gridid": 0, "%cluster_ctarank": 0, "%cluster_nctarank": 1, "%is_explicit_cluster": 0, "WARP_SZ": 32,
             **{f"%cluster_{n}.{a}": v for n, v in (("ctaid", 0), ("nctaid", 1)) for a in "xyz"}}
_LANEMASK = {"%lanemask_eq": "1 << L", "%lanemask_lt": "(1 << L) - 1", "%lanemask_le": "(2 << L) - 1", "%lanemask_gt": "-(2 << L)", "%lanemask_ge": "-(1 << L)"}


class Code:
    """What is written, what is read and written by the current instruction, and where the kernel waits."""

    def __init__(self, source: Source, function: Function, places: dict[str, int], globals_: dict[str, int], runtime: dict[str, int], exact: bool):
        self.source, self.function, self.places, self.globals, self.runtime, self.exact = source, function, places, globals_, runtime, exact
        self.params = {p.name: p for p in function.params}
        self.lines: list[str] = []
        self.declared: set[str] = set()
        self.uses: set[str] = set()
        self.defs: set[str] = set()
        self.kinds: dict[str, int] = {"~carry": 1}                 # register -> bits, of all that occur
        self.waits: list[int] = []                                  # line of each place where threads wait
        self.undefined: dict[str, int] = {}                         # registers with a flag "written", and its number
        self.count = itertools.count()
        self.line = 0

    # ---- text
    def emit(self, text: str): self.lines.append("  " + text)

    def op(self, text: str) -> str:
        name = f"%t{next(self.count)}"
        self.lines.append(f"  {name} = {text}")
        return name

    def label(self, name: str = "b") -> str: return f"{name}.{next(self.count)}"

    def at(self, label: str): self.lines.append(f"{label}:")

    def go(self, label: str): self.lines.append(f"  br label %{label}")

    def branch(self, test: str, yes: str, no: str): self.lines.append(f"  br i1 {test}, label %{yes}, label %{no}")

    def intrinsic(self, name: str, result: str, *args: tuple[str, str]) -> str:
        """A call of llvm.<name>; args are (type, value)."""
        self.declared.add(f"declare {result} @llvm.{name}({', '.join(k for k, _ in args)})")
        return self.op(f"call {result} @llvm.{name}({', '.join(f'{k} {v}' for k, v in args)})")

    def library(self, name: str, kind: str, *values: str) -> str:
        """A call of a function of the host's mathematical library."""
        self.declared.add(f"declare {kind} @{name}({', '.join([kind] * len(values))})")
        return self.op(f"call {kind} @{name}({', '.join(f'{kind} {v}' for v in values)})")

    def word(self, base: str, index: int) -> str: return self.op(f"load i64, ptr {self.word_place(base, index)}")

    def word_place(self, base: str, index: int) -> str: return self.op(f"getelementptr i64, ptr %{base}, i64 {index}")

    def call(self, name: str, *args: str, kinds: str = "", result: str = "i64") -> str:
        """A call of a function of the runtime; arguments are i64 but where `kinds` says d (double)."""
        f = self.op(f"load ptr, ptr {self.word_place('B', FUNCTIONS + self.runtime[name])}")
        kinds = kinds or "i" * len(args)
        return self.op(f"call {result} {f}({', '.join(('double ' if k == 'd' else 'i64 ') + a for k, a in zip(kinds, args))})")

    # ---- faults
    def checked(self, host: str) -> str:
        """A pointer from the address that a check gave; 0 ends the thread."""
        good = self.label("ok")
        self.branch(self.op(f"icmp eq i64 {host}, 0"), "fault", good)
        self.at(good)
        return self.op(f"inttoptr i64 {host} to ptr")

    def unless(self, bad: str):
        """Ends the thread if a function of the runtime gave anything but 0."""
        good = self.label("ok")
        self.branch(self.op(f"icmp ne i64 {bad}, 0"), "fault", good)
        self.at(good)

    def fault_if(self, test: str, kind: int, address: str = "0"):
        bad, good = self.label("bad"), self.label("ok")
        self.branch(test, bad, good)
        self.at(bad)
        self.call("fault", "%B.in", "%T.in", str(kind), address, str(self.line << 16))
        self.go("fault")
        self.at(good)

    # ---- integers of any width
    def resize(self, value: str, have: int, want: int, signed: bool = False) -> str:
        if have == want: return value
        if have > want: return self.op(f"trunc i{have} {value} to i{want}")
        return self.op(f"{'sext' if signed else 'zext'} i{have} {value} to i{want}")

    def wide(self, value: str, bits: int, signed: bool = False) -> str: return self.resize(value, bits, 64, signed)

    # ---- registers
    def width(self, name: str) -> int | None:
        kind = self.function.register(name)
        if kind is None: return 1 if name == "~carry" else None
        bits = self.kinds[name] = WIDTHS[kind]
        return bits

    def load(self, name: str) -> tuple[str, int]:
        bits = self.width(name)
        self.uses.add(name)
        if name in self.undefined and name not in self.defs:
            flag = self.op(f"load i8, ptr {self.flag(name)}")
            self.fault_if(self.op(f"icmp eq i8 {flag}, 0"), UNDEFINED, str(self.undefined[name]))
        return self.op(f"load i{bits}, ptr %{quoted(name)}"), bits

    def store(self, name: str, value: str):
        bits = self.width(name)
        self.defs.add(name)
        if name in self.undefined: self.emit(f"store i8 1, ptr {self.flag(name)}")
        self.emit(f"store i{bits} {value}, ptr %{quoted(name)}")

    def flag(self, name: str) -> str: return self.op(f"getelementptr i8, ptr %T, i64 {FRAME_WORDS * 8 + self.undefined[name]}")

    # ---- operands
    def get(self, arg: str, bits: int, signed: bool = False) -> str:
        """An operand as iN. A wider register gives its low bits."""
        if arg.startswith("!"): return self.op(f"xor i1 {self.get(arg[1:], 1)}, true")
        if self.width(arg) is not None:
            value, have = self.load(arg)
            return self.resize(value, have, bits, signed)
        literal = literal_bits(arg, bits)
        if literal is not None: return str(literal) if bits > 1 else ("true" if literal & 1 else "false")
        if arg[:1] == "%" or arg in _CONSTANT: return self.resize(self.special(arg), 64, bits)
        return self.resize(self.symbol(arg), 64, bits)

    def put(self, arg: str, value: str, bits: int, signed: bool = False):
        """A result into a register, which may be wider. `_` takes nothing."""
        if arg == "_": return
        have = self.width(arg)
        if have is None: raise NotImplementedError(f"PTX line {self.line}: '{arg}' is not a register")
        self.store(arg, self.resize(value, bits, have, signed))

    def real(self, arg: str, kind: str) -> str:
        """An operand of type f32 or f64 as float or double."""
        bits = 64 if kind == "f64" else 32
        value = self.get(arg, bits)
        return self.op(f"bitcast i{bits} {value} to {'double' if bits == 64 else 'float'}")

    def put_real(self, arg: str, value: str, kind: str):
        bits = 64 if kind == "f64" else 32
        self.put(arg, self.op(f"bitcast {'double' if bits == 64 else 'float'} {value} to i{bits}"), bits)

    def special(self, name: str) -> str:
        """A special register, as i64."""
        if name in _SPECIAL: return self.word(*_SPECIAL[name])
        if name in _CONSTANT: return str(_CONSTANT[name])
        if name in ("%clock", "%clock64", "%clock_hi", "%globaltimer", "%globaltimer_lo"):
            return self.op(f"sub i64 0, {self.word('B', BUDGET)}")      # branches so far: it moves, and always the same way
        if name in _LANEMASK:
            base = self.op(f"shl i64 {2 if '(2' in _LANEMASK[name] else 1}, {self.word('T', LANE)}")
            if name in ("%lanemask_lt", "%lanemask_le"): base = self.op(f"sub i64 {base}, 1")
            if name in ("%lanemask_gt", "%lanemask_ge"): base = self.op(f"sub i64 0, {base}")
            return self.op(f"and i64 {base}, 4294967295")
        if name == "%dynamic_smem_size": return self.op(f"sub i64 {self.word('B', SHARED_SIZE)}, {self.places.get('<dynamic>', 0)}")
        raise NotImplementedError(f"PTX line {self.line}: the special register or name '{name}' isn't known")

    # ---- addresses
    def variable(self, name: str) -> Variable | None: return self.function.variables.get(name) or self.source.variables.get(name)

    def symbol(self, text: str) -> str:
        """The address of a name (+ offset) in its own space, as i64."""
        name, plus, offset = text.partition("+")
        name, offset = name.strip(), int(offset) if plus else 0
        if name in self.places: return str(self.places[name] + offset)
        if name in self.params: return str(self.params[name].offset + offset)
        if name in self.globals:
            table = self.op(f"inttoptr i64 {self.word('B', GLOBALS)} to ptr")
            base = self.op(f"load i64, ptr {self.op(f'getelementptr i64, ptr {table}, i64 {self.globals[name]}')}")
            return self.op(f"add i64 {base}, {offset}") if offset else base
        raise NotImplementedError(f"PTX line {self.line}: '{name}' isn't declared")

    def address(self, arg: str) -> str:
        """[base + offset] as i64."""
        m = _ADDRESS.match(arg)
        if not m: raise NotImplementedError(f"PTX line {self.line}: the address {arg}")
        base, offset = m[1], int(m[2].replace(" ", ""), 0) if m[2] else 0
        bits = self.width(base)
        if bits is not None: value = self.wide(self.load(base)[0], bits)
        elif base.lstrip("-").isdigit(): value = base
        else: value = self.symbol(base)
        if not offset: return value
        total = self.op(f"add i64 {value}, {offset}")
        return self.op(f"and i64 {total}, 4294967295") if bits == 32 else total

    def param_place(self, arg: str) -> str | None:
        """Where a parameter lies: of the kernel, or of a call (then in the frame)."""
        m = _ADDRESS.match(arg)
        name, offset = m[1], int(m[2], 0) if m[2] else 0
        if name in self.params:
            base = self.op(f"inttoptr i64 {self.word('B', PARAMS)} to ptr")
            return self.op(f"getelementptr i8, ptr {base}, i64 {self.params[name].offset + offset}")
        if name in self.places: return self.op(f"getelementptr i8, ptr {self.op('getelementptr i8, ptr %T, i64 <local offset>')}, i64 {self.places[name] + offset}")
        return None

    def access(self, space: str, address: str, size: int, flags: int = 0) -> str:
        """A checked pointer to `size` bytes of a space."""
        info = str(size | flags | self.line << 16)
        check = {"global": "global_access", "const": "global_access", "shared": "shared_access" if self.exact else "shared_place", "local": "local_access",
                 "": "generic_access"}[space]
        return self.checked(self.call(check, "%B.in", "%T.in", address, info))

    # ---- waits
    def wait(self, kind: int, operands: dict[int, str], mask: str | None = None):
        """The thread stops here; the scheduler goes on with it when what it waits for has come. operands: word -> i64."""
        self.waits.append(self.line)
        number = len(self.waits)
        for word, value in operands.items(): self.emit(f"store i64 {value}, ptr {self.word_place('T', word)}")
        if mask is not None: self.emit(f"store i64 {mask}, ptr {self.word_place('T', MASK)}")
        for word, value in ((WAIT, kind), (PLACE, self.line | number << 20), (STATE, number)):
            self.emit(f"store i64 {value}, ptr {self.word_place('T', word)}")
        self.emit("ret i64 0")
        self.at(f"resume.{number}")


def quoted(name: str) -> str: return f'"R.{name}"'


def literal_bits(text: str, bits: int) -> int | None:
    """A literal's bits at a width; decimal floats become that width's float."""
    negative, digits = text[:1] == "-", text.lstrip("-").strip()
    if digits[:2] in ("0f", "0F", "0d", "0D") and len(digits) in (10, 18):
        value = int(digits[2:], 16)
        return value ^ 1 << (len(digits) - 2) * 4 - 1 if negative else value
    value = number(text)
    if value is None: return None
    if isinstance(value, float): return int.from_bytes(struct.pack("<d" if bits == 64 else "<f", value), "little")
    return value & (1 << bits) - 1


def arguments(code: Code, ins: Instruction, count: int) -> tuple[str, ...]:
    """The operands, whose number must be right."""
    if len(ins.args) != count: raise NotImplementedError(f"PTX line {ins.line}: {count} operands expected: {ins.text}")
    return ins.args
