"""One PTX kernel as LLVM IR.

Comes in: a function and what it can name. Goes out: the text of `i64 kernel(i64 block, i64 thread)` and a `Translated` about it. The function runs one thread
until it ends or waits (0), or until a fault (1). A thread that waits has said where it goes on; the next call starts there.

Statements are written once, in order, into basic blocks; what each reads and writes is noted on the way. Then a pass over the flow of control finds the
registers whose values must outlast a wait: they live in the thread's frame. All others become machine registers.
"""
from __future__ import annotations

import re
from dataclasses import dataclass

from .code import Code, quoted
from .instructions import access, flow
from .instructions.flow import block
from .instructions.table import handler, unknown
from .layout import FRAME_WORDS, STATE
from .parse import SIZES, Function, Instruction, Label, Source

LEAVES = {"bra", "brx", "ret", "exit", "trap", "brkpt"}


@dataclass(frozen=True)
class Translated:
    """What must be known of a kernel to run it."""
    waits: list[int]                           # lines
    header: int                                # bytes of a frame that a thread starts with as zeros
    frame: int                                 # bytes of a frame, without local memory
    local: int                                 # bytes of local memory
    shared: int                                # bytes of static shared memory
    granule: int                               # log2 of the smallest access of shared memory
    global_granule: int                        # and of global memory
    fenced: bool                               # are there fences, acquires or releases for the whole GPU?
    copies: bool                               # are there asynchronous copies?
    undefined: list[str]                       # registers that may be read before anything is written to them


@dataclass
class Piece:
    """A statement's text and its effect on registers."""
    lines: list[str]
    uses: set[str]
    defs: set[str]
    kills: bool                                # its results are always written
    waits: bool
    goes: list                                 # labels it may branch to
    falls: bool                                # may the next statement follow?


def places(source: Source, function: Function) -> tuple[dict[str, int], int, int]:
    """Offsets of shared and local variables; the bytes of both."""
    out, shared, local = {}, 0, 0
    used = {name for s in function.body if isinstance(s, Instruction) for a in s.args for name in _words(a)}
    for v in [v for v in source.variables.values() if v.space == "shared" and v.name in used] + list(function.variables.values()):
        if v.external: continue
        if v.space == "shared":
            out[v.name] = shared = -(-shared // v.align) * v.align
            shared += v.size
        else:
            out[v.name] = local = -(-local // v.align) * v.align
            local += v.size
    dynamic = [v for v in source.variables.values() if v.external and v.space == "shared" and v.name in used]
    if dynamic:
        align = max(16, *(v.align for v in dynamic))
        shared = -(-shared // align) * align
        for v in dynamic: out[v.name] = shared
    out["<dynamic>"] = shared
    return out, shared, local


def _words(arg: str): return re.findall(r"[\w$.~%]+", arg)


def translate(source: Source, function: Function, globals_: dict[str, int], runtime: dict[str, int], exact: bool) -> tuple[str, Translated]:
    where, shared, local = places(source, function)
    code, pieces = _pieces(source, function, where, globals_, runtime, exact, {})
    live, names = _liveness(pieces)
    undefined = sorted(_named(live[0], names))
    if undefined and exact:
        flags = {name: i for i, name in enumerate(undefined)}
        code, pieces = _pieces(source, function, where, globals_, runtime, exact, flags)
    kept = sorted(_kept(pieces, live, names))
    header = -(-(FRAME_WORDS * 8 + (len(undefined) if exact else 0)) // 16) * 16
    offsets, end = {}, header
    for name in kept:
        offsets[name] = end
        end += max(8, code.kinds[name] // 8)
    end = -(-end // 16) * 16
    text = _text(code, pieces, offsets).replace("<local offset>", str(end))
    copies = any(isinstance(s, Instruction) and s.parts[:2] == ("cp", "async") for s in function.body)
    return text, Translated(code.waits, header, end, local, shared, _granule(function, "shared"), _granule(function, "global"), _fenced(function), copies, undefined)


def _fenced(function: Function) -> bool:
    """Does the kernel order blocks among themselves? (What it orders for the whole system, it does for the host.)"""
    wide = {"gpu", "gl", "cluster"}
    ordering = {"membar", "fence", "acquire", "release", "acq_rel"}
    return any(isinstance(s, Instruction) and wide.intersection(s.parts) and ordering.intersection(s.parts) for s in function.body)


def _granule(function: Function, space: str) -> int:
    """log2 of the smallest access that can meet a space."""
    smallest = 16
    for s in function.body:
        if not isinstance(s, Instruction) or s.parts[0] not in ("ld", "ldu", "st", "atom", "red", "cp"): continue
        if s.parts[:2] == ("cp", "async") and len(s.args) > 2: smallest = min(smallest, int(s.args[2], 0))
        elif s.parts[0] != "cp" and access.space_of(s) in (("", "const", space) if space == "global" else ("", space)):
            count = len(access.vector(s.args[1 if s.parts[0] in ("st", "red") else 0]))
            smallest = min(smallest, SIZES[access.kind_of(s)] * count)
    return smallest.bit_length() - 1


def _pieces(source, function, where, globals_, runtime, exact, flags) -> tuple[Code, list[Piece]]:
    code = Code(source, function, where, globals_, runtime, exact)
    code.undefined = flags
    position = {s.name: i for i, s in enumerate(function.body) if isinstance(s, Label)}
    return code, [_piece(code, s, i, position) for i, s in enumerate(function.body)]


def _piece(code: Code, s, at: int, position: dict[str, int]) -> Piece:
    code.lines, code.uses, code.defs, code.line = [], set(), set(), s.line
    if isinstance(s, Label):
        code.emit(f"br label %{block(s.name)}")
        code.at(block(s.name))
        return Piece(code.lines, set(), set(), True, False, [], True)
    write = handler(s)
    if write is None: raise unknown(s)
    waits, skip = len(code.waits), None
    goes = [s.args[0]] if s.parts[0] == "bra" else code.function.targets[s.args[1]] if s.parts[0] == "brx" else []
    for target in goes:
        if target not in position: raise NotImplementedError(f"PTX line {s.line}: there is no label '{target}': {s.text}")
    if s.predicate:
        do, skip = code.label("do"), code.label("skip")
        test = code.get(s.predicate, 1)
        code.branch(test, *((skip, do) if s.negated else (do, skip)))
        code.at(do)
    if any(position[t] <= at for t in goes): flow.spend(code)
    try: write(code, s)
    except (KeyError, IndexError, ValueError, StopIteration) as error: raise unknown(s) from error    # a form of it that the handler doesn't know
    leaves = s.parts[0] in LEAVES
    if leaves: code.at(skip or code.label("after"))
    elif skip:
        code.go(skip)
        code.at(skip)
    return Piece(code.lines, code.uses, code.defs, skip is None, len(code.waits) > waits, goes, not leaves or skip is not None)


def _liveness(pieces: list[Piece]) -> tuple[list[int], list[str]]:
    """Registers whose values are wanted before each statement, as bits, and the registers' names."""
    label = {}
    for i, p in enumerate(pieces):
        if p.lines and p.lines[-1].endswith(":") and p.lines[-1].startswith('"L.'): label[p.lines[-1][3:-2]] = i
    names = sorted({n for p in pieces for n in p.uses | p.defs})
    bit = {n: 1 << i for i, n in enumerate(names)}
    uses = [sum(bit[n] for n in p.uses) for p in pieces]
    keeps = [~sum(bit[n] for n in p.defs) if p.kills else -1 for p in pieces]
    after = [[label[t] for t in p.goes] for p in pieces]
    live = [0] * (len(pieces) + 1)
    changed = True
    while changed:
        changed = False
        for i in range(len(pieces) - 1, -1, -1):
            out = live[i + 1] if pieces[i].falls else 0
            for j in after[i]: out |= live[j]
            new = uses[i] | out & keeps[i]
            if new != live[i]: live[i], changed = new, True
    return live, names


def _named(mask: int, names: list[str]) -> set[str]: return {n for i, n in enumerate(names) if mask >> i & 1}


def _kept(pieces: list[Piece], live: list[int], names: list[str]) -> set[str]:
    """Registers whose values are wanted after some wait."""
    out = set()
    for i, p in enumerate(pieces):
        if p.waits: out |= _named(live[i + 1], names) - (p.defs if p.kills else set())
    return out


def _text(code: Code, pieces: list[Piece], offsets: dict[str, int]) -> str:
    places = [f"  %{quoted(n)} = getelementptr i8, ptr %T, i64 {offsets[n]}" if n in offsets else f"  %{quoted(n)} = alloca i{bits}" for n, bits in sorted(code.kinds.items())]
    start = ["  br label %start"]
    if code.waits:
        cases = " ".join(f"i64 {i + 1}, label %resume.{i + 1}" for i in range(len(code.waits)))
        start = [f"  %state.at = getelementptr i64, ptr %T, i64 {STATE}", "  %state = load i64, ptr %state.at", f"  switch i64 %state, label %start [ {cases} ]"]
    body = [line for p in pieces for line in p.lines]
    code.lines = []
    flow.leave(code, None)
    return "\n".join([*sorted(code.declared), "define i64 @kernel(i64 %B.in, i64 %T.in) {", "  %B = inttoptr i64 %B.in to ptr", "  %T = inttoptr i64 %T.in to ptr", *places,
                      *start, "start:", *body, *code.lines, "fault:", "  ret i64 1", "}", ""])
