"""Where threads wait for each other: barriers of the block, collectives of a warp, matrix products."""
from __future__ import annotations

from ..code import WIDTHS
from ..layout import *
from .access import vector
from .table import instruction, kind_of, unknown

_SHUFFLES = {"up": SHFL_UP, "down": SHFL_DOWN, "bfly": SHFL_BFLY, "idx": SHFL_IDX}
_VOTES = {"all": VOTE_ALL, "any": VOTE_ANY, "uni": VOTE_UNI, "ballot": VOTE_BALLOT}
_REDUCTIONS = {"add": REDUX_ADD, "and": REDUX_AND, "or": REDUX_OR, "xor": REDUX_XOR}
_FORMS = {"f16": 0, "bf16": 1, "tf32": 2, "s8": 3, "u8": 4}
_BARRIER_OPS = {"and": 1, "or": 2, "popc": 3}
ALL = "4294967295"


def word(code, arg: str, bits: int = 32, sign: bool = False) -> str: return code.wide(code.get(arg, bits, sign), bits, sign)


def result(code, arg: str, bits: int, index: int = 0):
    """A result from word X + index into a register."""
    if arg == "_": return
    value = code.word("T", X + index)
    code.put(arg, code.op(f"icmp ne i64 {value}, 0") if bits == 1 else code.resize(value, 64, bits), bits)


@instruction("bar barrier")
def barrier(code, ins):
    """bar is barrier.aligned. The count includes threads that only arrive."""
    if "cluster" in ins.parts: raise unknown(ins)
    if "warp" in ins.parts: return code.wait(WARP_SYNC, {}, word(code, ins.args[0]))
    aligned = ALIGNED if ins.parts[0] == "bar" or "aligned" in ins.parts else 0
    reduction = next((_BARRIER_OPS[p] for p in ins.parts if p in _BARRIER_OPS), 0) if "red" in ins.parts else 0
    args = list(ins.args)
    to = args.pop(0) if reduction else None
    value = code.op(f"zext i1 {code.get(args.pop(), 1)} to i64") if reduction else "0"
    number = word(code, args[0])
    count = word(code, args[1]) if len(args) > 1 else "0"
    if len(args) == 1 and "arrive" in ins.parts: raise unknown(ins)
    flags = aligned | (ARRIVE_ONLY if "arrive" in ins.parts else 0) | reduction << 4
    code.wait(BARRIER, {X: number, X + 1: count, X + 2: str(flags), X + 3: value})
    if reduction: result(code, to, 32 if reduction == 3 else 1)


@instruction("shfl")
def shuffle(code, ins):
    if ins.parts[1] != "sync": raise unknown(ins)
    to, _, inside = ins.args[0].partition("|")
    code.wait(_SHUFFLES[ins.parts[2]], {X: word(code, ins.args[1]), X + 1: word(code, ins.args[2]), X + 2: word(code, ins.args[3])}, word(code, ins.args[4]))
    result(code, to.strip(), 32)
    if inside: result(code, inside.strip(), 1, 1)


@instruction("vote")
def vote(code, ins):
    if ins.parts[1] != "sync": raise unknown(ins)
    kind = _VOTES[ins.parts[2]]
    code.wait(kind, {X: code.op(f"zext i1 {code.get(ins.args[1], 1)} to i64")}, word(code, ins.args[2]))
    result(code, ins.args[0], 32 if kind == VOTE_BALLOT else 1)


@instruction("match")
def match(code, ins):
    to, _, equal = ins.args[0].partition("|")
    code.wait(MATCH_ANY if "any" in ins.parts else MATCH_ALL, {X: word(code, ins.args[1], WIDTHS[kind_of(ins)])}, word(code, ins.args[2]))
    result(code, to.strip(), 32)
    if equal: result(code, equal.strip(), 1, 1)


@instruction("redux")
def reduce(code, ins):
    kind = kind_of(ins)
    if kind == "f32": raise unknown(ins)
    op = ins.parts[2]
    number = _REDUCTIONS.get(op) or {"mins": REDUX_MIN, "maxs": REDUX_MAX, "minu": REDUX_MINU, "maxu": REDUX_MAXU}[op + kind[0]]
    code.wait(number, {X: word(code, ins.args[1], 32, kind[0] == "s")}, word(code, ins.args[2]))
    result(code, ins.args[0], 32)


@instruction("activemask")
def active(code, ins):
    code.wait(ACTIVE, {})
    result(code, ins.args[0], 32)


@instruction("elect")
def elect(code, ins):
    to, _, chosen = ins.args[0].partition("|")
    code.wait(ELECT, {}, word(code, ins.args[1]))
    result(code, to.strip(), 32)
    result(code, chosen.strip(), 1, 1)


@instruction("ldmatrix stmatrix")
def matrix(code, ins):
    loads = ins.parts[0] == "ldmatrix"
    if "m8n8" not in ins.parts or "b16" not in ins.parts: raise unknown(ins)
    registers = vector(ins.args[0] if loads else ins.args[1])
    address = code.address(ins.args[1] if loads else ins.args[0])
    if not any(p.startswith("shared") for p in ins.parts): address = code.op(f"sub i64 {address}, {SHARED_WINDOW}")
    operands = {X: address, X + 1: str(len(registers)), X + 2: str(int("trans" in ins.parts)), X + 3: str(code.line)}
    if not loads: operands |= {X + 4 + i: word(code, r) for i, r in enumerate(registers)}
    code.wait(LDMATRIX if loads else STMATRIX, operands, ALL)
    if loads:
        for i, r in enumerate(registers): result(code, r, 32, i)


@instruction("mma")
def multiply(code, ins):
    """mma.sync of m16n8: f16, bf16, tf32, s8 and u8."""
    shape = next((p for p in ins.parts if p.startswith("m16n8k")), None)
    kinds = ins.parts[-4:]
    if ins.parts[1] != "sync" or shape is None or any(p in ins.parts for p in ("and", "xor", "sp", "block_scale")): raise unknown(ins)
    if kinds[1] not in _FORMS or kinds[2] not in _FORMS or kinds[0] != kinds[3] or kinds[0] not in ("f32", "f16", "s32"): raise unknown(ins)
    to, *sources = (vector(a) for a in ins.args)
    blocks = len(sources[1])
    packed = _FORMS[kinds[1]] | _FORMS[kinds[2]] << 4 | blocks << 8 | ("f32", "f16", "s32").index(kinds[0]) << 12 | int("satfinite" in ins.parts) << 16
    if len(sources[0]) != 2 * blocks: raise unknown(ins)
    registers = [r for s in sources for r in s]
    code.wait(MMA, {X: str(packed), **{X + 1 + i: word(code, r) for i, r in enumerate(registers)}}, ALL)
    for i, r in enumerate(to): result(code, r, 32, i)
