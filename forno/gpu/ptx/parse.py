"""PTX text to nouns: functions with their parameters, registers, variables and statements.

Comes in: the text of a module. Goes out: `Source`. Statements keep their line; nothing here knows what an instruction means. Names declared in an inner
`{ }` get a suffix, so that a function's names are unique, and calls of functions are replaced by their bodies (PTX from LLVM never recurses there).
"""
from __future__ import annotations

import bisect
import re
import struct
from dataclasses import dataclass, field

SIZES = {"pred": 1, **{f"{k}{n}": n // 8 for k in "bsuf" for n in (8, 16, 32, 64, 128)}, "f16x2": 4, "bf16": 2, "bf16x2": 4, "tf32": 4, "f32x2": 8, "s16x2": 4, "u16x2": 4,
         "e4m3x2": 2, "e5m2x2": 2}

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.S)
_UNDEFINED = re.compile(r"//\s*implicit-def:\s*(%[\w$]+)[^\n]*")
_LABEL = re.compile(r"([\w$%.]+)\s*:(?!:)")
_SPACE = re.compile(r"\s+")
_DIRECTIVE_LINE = re.compile(r"\.(?:loc|file|version|target|address_size)\b[^\n]*")
_NAME = re.compile(r"[%$A-Za-z_][\w$]*")
_GUARD = re.compile(r"@(!?)\s*([\w$%]+)\s+")
_VARIABLE = re.compile(r"((?:\.[\w:]+(?:\s+\d+(?=\s))?\s+)+)([\w$%]+)\s*((?:\[[^\]]*\]\s*)*)(?:=\s*(.*))?$", re.S)


class SyntaxFault(ValueError):
    """Text that is not PTX as this reader knows it."""


@dataclass(slots=True)
class Instruction:
    line: int
    text: str
    predicate: str | None
    negated: bool
    parts: tuple[str, ...]                     # the opcode, split at its dots
    args: tuple[str, ...]

    @property
    def opcode(self) -> str: return ".".join(self.parts)


@dataclass(slots=True)
class Label:
    name: str
    line: int


@dataclass(slots=True)
class Variable:
    """Something with an address. `data`: initial bytes; `links`: (offset, name, addend) of 8-byte addresses in them."""
    name: str
    space: str
    kind: str
    size: int
    align: int
    data: bytes = b""
    links: tuple = ()
    external: bool = False


@dataclass(slots=True)
class Parameter:
    name: str
    size: int
    align: int
    offset: int = 0


@dataclass
class Function:
    name: str
    entry: bool
    line: int
    params: list[Parameter] = field(default_factory=list)
    returns: list[Parameter] = field(default_factory=list)
    registers: dict[str, str] = field(default_factory=dict)       # name, or prefix of numbered ones -> type
    variables: dict[str, Variable] = field(default_factory=dict)  # .shared, .local and .param of the body
    targets: dict[str, list[str]] = field(default_factory=dict)   # .branchtargets
    body: list = field(default_factory=list)
    tuning: dict[str, tuple[int, ...]] = field(default_factory=dict)   # maxntid, reqntid, minnctapersm …

    def register(self, name: str) -> str | None:
        """The type of a register, or None where `name` is none."""
        found = self.registers.get(name)
        return found if found is not None else self.registers.get(_stem(name))


@dataclass
class Source:
    version: str = ""
    target: str = ""
    functions: dict[str, Function] = field(default_factory=dict)
    variables: dict[str, Variable] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)


def _stem(name: str) -> str:
    base, _, suffix = name.partition("~")
    base = base.rstrip("0123456789") + "<"
    return f"{base}~{suffix}" if suffix else base


def parse(text: str) -> Source: return _Reader(text).module()


class _Reader:
    def __init__(self, text: str):
        self.lines = text.split("\n")
        text = _UNDEFINED.sub(lambda m: f"undef {m[1]};", text)              # LLVM says which registers it reads without having written them
        self.text = _COMMENT.sub(lambda m: "\n" * m[0].count("\n") or " ", text)
        self.starts = [m.end() for m in re.finditer("\n", self.text)]
        self.at, self.scopes = 0, 0

    def line(self, at: int) -> int: return bisect.bisect_right(self.starts, at) + 1

    def fail(self, at: int, why: str):
        line = self.line(at)
        return SyntaxFault(f"PTX line {line}: {why}: {self.lines[line - 1].strip()}")

    def skip(self) -> bool:
        m = _SPACE.match(self.text, self.at)
        if m: self.at = m.end()
        return self.at < len(self.text)

    def until(self, *ends: str) -> str:
        """Text up to the nearest of the given characters, which is left."""
        found = [i for i in (self.text.find(e, self.at) for e in ends) if i >= 0]
        if not found: raise self.fail(self.at, f"'{ends[0]}' is missing after this")
        start, self.at = self.at, min(found)
        return self.text[start:self.at]

    # ---- the module
    def module(self) -> Source:
        out = Source(lines=self.lines)
        while self.skip():
            line = _DIRECTIVE_LINE.match(self.text, self.at)
            if line:
                words = line[0].replace(",", " ").split()
                if words[0] == ".version": out.version = words[1]
                if words[0] == ".target": out.target = words[1]
                self.at = line.end()
                continue
            start, head = self.at, self.until("{", ";")
            words = head.split()
            if not words: raise self.fail(start, "a stray brace or semicolon")
            if ".entry" in words or ".func" in words: self.function(start, head, out)
            elif words[0] == ".section": self.until("}"); self.at += 1
            else:
                if self.text[self.at] == "{": head += self.until(";")
                self.at += 1
                v = self.variable(head, start)
                if v.name not in out.variables or not v.external: out.variables[v.name] = v
        for f in out.functions.values():
            if f.entry: _inline(f, out.functions)
        return out

    def function(self, start: int, head: str, out: Source):
        entry = ".entry" in head.split()
        _, _, rest = head.partition(".entry" if entry else ".func")
        returns = re.match(r"\s*\(([^)]*)\)", rest) if not entry else None
        if returns: rest = rest[returns.end():]
        m = re.match(r"\s*([\w$.%]+)\s*(?:\(([^)]*)\))?(.*)", rest, re.S)
        f = Function(m[1], entry, self.line(start))
        f.params, f.returns = self.parameters(m[2], start), self.parameters(returns[1] if returns else "", start)
        for name, numbers in re.findall(r"\.(maxntid|reqntid|minnctapersm|maxnctapersm|maxnreg|reqnctapercluster)\s+([\d,\s]+)", m[3]):
            f.tuning[name] = tuple(int(n) for n in numbers.replace(",", " ").split())
        if self.text[self.at] == ";":                                        # a declaration
            self.at += 1
            return
        self.at += 1
        self.body(f)
        out.functions[f.name] = f

    def parameters(self, text: str, start: int) -> list[Parameter]:
        out, offset = [], 0
        for part in filter(str.strip, (text or "").split(",")):
            m = re.search(r"\.align\s+(\d+)", part.split(".ptr")[0])
            kind = next((k for k in re.findall(r"\.(\w+)", part) if k in SIZES), None)
            name = re.search(r"([\w$%]+)\s*(?:\[(\d*)\])?\s*$", part)
            if kind is None or name is None: raise self.fail(start, f"the parameter '{part.strip()}' has no type")
            size = SIZES[kind] * (int(name[2] or 0) if name[2] is not None else 1)
            align = int(m[1]) if m else SIZES[kind]
            offset = -(-offset // align) * align
            out.append(Parameter(name[1], size, align, offset))
            offset += size
        return out

    def variable(self, text: str, start: int) -> Variable:
        m = _VARIABLE.match(text.strip())
        if not m: raise self.fail(start, "not a declaration")
        words = m[1].replace(".", " .").split()
        align = next((int(words[i + 1]) for i, w in enumerate(words) if w == ".align"), 0)
        names = [w[1:] for w in words if w.startswith(".")]
        kind = next((n for n in names if n in SIZES), None)
        space = next((n for n in names if n in ("global", "const", "shared", "local", "param")), None)
        if kind is None or space is None or any(n in ("v2", "v4") for n in names): raise self.fail(start, "a declaration of a kind that isn't known")
        count = 1
        for n in re.findall(r"\[([^\]]*)\]", m[3]): count *= int(n or "0", 0)
        data, links = _initial(m[4], kind) if m[4] else (b"", ())
        size = max(SIZES[kind] * count, len(data))
        return Variable(m[2], space, kind, size, align or SIZES[kind], data, links, "extern" in names)

    # ---- a body
    def body(self, f: Function):
        scopes: list[dict] = [{}]                                            # what inner blocks call differently
        while scopes:
            if not self.skip(): raise self.fail(len(self.text) - 1, f"the body of {f.name} has no end")
            c = self.text[self.at]
            if c in "{}":
                self.at += 1
                if c == "{": scopes.append(dict(scopes[-1]))
                else: scopes.pop()
                continue
            line = _DIRECTIVE_LINE.match(self.text, self.at)
            if line: self.at = line.end(); continue
            label = _LABEL.match(self.text, self.at)
            if label:
                f.body.append(Label(scopes[-1].get(label[1], label[1]), self.line(label.start())))
                self.at = label.end()
                continue
            start = self.at
            statement = self.until(";").strip()
            self.at += 1
            if statement: self.statement(f, statement, start, scopes)

    def statement(self, f: Function, text: str, start: int, scopes: list):
        names, inner = scopes[-1], len(scopes) > 1
        if text.startswith(".branchtargets"):
            label = f.body.pop()
            f.targets[label.name] = [names.get(t.strip(), t.strip()) for t in text.split(None, 1)[1].split(",")]
        elif text.startswith(".reg"):
            words = text.split(None, 2)
            for name in words[2].split(","):
                name = name.strip()
                key = name.partition("<")[0] + "<" if "<" in name else name
                if inner: self.scopes += 1; names[key] = f"{key}~{self.scopes}"
                f.registers[names.get(key, key)] = words[1][1:]
        elif text.startswith(".pragma"): pass
        elif text.startswith("."):
            v = self.variable(text, start)
            if inner: self.scopes += 1; names[v.name] = v.name = f"{v.name}~{self.scopes}"
            f.variables[v.name] = v
        else: f.body.append(self.instruction(text, start, names))

    def instruction(self, text: str, start: int, names: dict) -> Instruction:
        guard = _GUARD.match(text)
        op, operands = ((text[guard.end():] if guard else text).split(None, 1) + [""])[:2]
        predicate = guard[2] if guard else None
        if names:
            operands = _NAME.sub(lambda m: _scoped(m[0], names), operands)
            predicate = predicate and _scoped(predicate, names)
        return Instruction(self.line(start), " ".join(text.split()), predicate, bool(guard and guard[1]), tuple(op.split(".")), split(operands))


def _scoped(name: str, names: dict) -> str:
    found = names.get(name) or names.get(_stem(name))
    if found is None: return name
    return found if not found.partition("~")[0].endswith("<") else f"{name}~{found.partition('~')[2]}"


def split(text: str) -> tuple[str, ...]:
    """Operands at top-level commas."""
    if not any(c in text for c in "[{("): return tuple(p.strip() for p in text.split(",")) if text.strip() else ()
    out, depth, start = [], 0, 0
    for i, c in enumerate(text):
        if c in "[{(": depth += 1
        elif c in "]})": depth -= 1
        elif c == "," and not depth: out.append(text[start:i].strip()); start = i + 1
    return (*out, text[start:].strip())


def number(text: str) -> int | float | None:
    """A literal: whole (any base, unsigned suffix), 0f/0d bits as a float, decimal floats; None for anything else."""
    sign, t = (-1, text[1:].lstrip()) if text.startswith("-") else (1, text)
    if not t[:1].isdigit() and not t.startswith("."): return None
    low = t.lower()
    if low.startswith("0f"): return sign * struct.unpack(">f", bytes.fromhex(t[2:]))[0]
    if low.startswith("0d"): return sign * struct.unpack(">d", bytes.fromhex(t[2:]))[0]
    t = low.rstrip("u")
    try: return sign * (int(t, 0) if len(t) == 1 or t[0] != "0" or t[1] in "xb" else int(t, 8))
    except ValueError: pass
    try: return sign * float(t)
    except ValueError: return None


def _initial(text: str, kind: str) -> tuple[bytes, tuple]:
    """The bytes of an initialiser, and the addresses in it."""
    out, links = bytearray(), []
    for item in (p.strip() for p in text.replace("{", " ").replace("}", " ").split(",")):
        value = number(item)
        if value is None:
            m = re.match(r"(?:generic\()?([\w$%.]+)\)?(?:\s*\+\s*(\d+))?$", item)
            if not m or SIZES[kind] != 8: raise SyntaxFault(f"the initial value '{item}' of type {kind}")
            links.append((len(out), m[1], int(m[2] or 0)))
            value = 0
        if kind[0] == "f" and kind != "f16": out += struct.pack("<f" if kind == "f32" else "<d", value)
        else: out += (int(value) & (1 << 8 * SIZES[kind]) - 1).to_bytes(SIZES[kind], "little")
    return bytes(out), tuple(links)


# ---- calls
def _inline(f: Function, functions: dict[str, Function]):
    """Every call in f becomes the called body: its names with a suffix, its parameters the caller's .param variables."""
    count = 0
    while True:
        at = next((i for i, s in enumerate(f.body) if isinstance(s, Instruction) and s.parts[0] == "call"), None)
        if at is None: return
        count += 1
        if count > 1000: raise NotImplementedError(f"{f.name}: more than 1000 calls of functions after inlining; recursion can't be run here")
        call = f.body[at]
        place = next(i for i, a in enumerate(call.args) if not a.startswith("("))        # call (results), name, (arguments)
        callee = functions.get(call.args[place])
        if callee is None: raise NotImplementedError(f"PTX line {call.line}: '{call.args[place]}' is called but not defined: {call.text}")
        results, given = ([n for a in side for n in split(a[1:-1])] for side in (call.args[:place], call.args[place + 1:]))
        names = dict(zip([p.name for p in callee.returns + callee.params], results + given))
        if any(v not in f.variables for v in names.values()): raise NotImplementedError(f"PTX line {call.line}: calls pass .param variables here: {call.text}")
        f.body[at:at + 1] = _body(f, callee, call, names, f"c{count}")


def _body(f: Function, callee: Function, call: Instruction, names: dict, suffix: str) -> list:
    mapped = dict(names)
    for key, kind in callee.registers.items():
        mapped[key] = new = f"{key}{'' if '~' in key else '~'}{suffix}"
        f.registers[new] = kind
    for v in callee.variables.values():
        mapped[v.name] = f"{v.name}~{suffix}"
        f.variables[mapped[v.name]] = Variable(mapped[v.name], v.space, v.kind, v.size, v.align, v.data, v.links)
    for s in callee.body:
        if isinstance(s, Label): mapped[s.name] = f"{s.name}~{suffix}"
    for label, targets in callee.targets.items():
        mapped[label] = f"{label}~{suffix}"
        f.targets[mapped[label]] = [mapped[t] for t in targets]
    end, skip, out = f"end~{suffix}", f"skip~{suffix}", []
    if call.predicate: out.append(Instruction(call.line, call.text, call.predicate, not call.negated, ("bra",), (skip,)))
    rename = re.compile(r"[%$A-Za-z_][\w$~]*")
    def renamed(name):
        if name in mapped: return mapped[name]
        stem = mapped.get(_stem(name))
        return name if stem is None else f"{name}{'' if '~' in name else '~'}{suffix}"
    for s in callee.body:
        if isinstance(s, Label): out.append(Label(mapped[s.name], s.line)); continue
        args = tuple(rename.sub(lambda m: renamed(m[0]), a) for a in s.args)
        parts = s.parts
        if parts[0] == "ret": parts, args = ("bra",), (end,)
        out.append(Instruction(s.line, s.text, s.predicate and renamed(s.predicate), s.negated, parts, args))
    return [*out, Label(end, call.line), Label(skip, call.line)]
