"""Memory: loads, stores, atomics, addresses, asynchronous copies."""
from __future__ import annotations

from ..code import WIDTHS
from ..layout import *
from ..parse import SIZES
from .real import llvm, narrow, suffix, widen
from .table import instruction, kind_of, unknown

_WINDOWS = {"shared": SHARED_WINDOW, "local": LOCAL_WINDOW, "param": PARAM_WINDOW}
_STRONG = {"volatile", "relaxed", "acquire", "release", "mmio"}


def space_of(ins) -> str:
    return next((s for s in ("global", "shared", "local", "param", "const") for p in ins.parts[1:] if p.partition("::")[0] == s), "")


def cluster(ins):
    """Distributed shared memory is another block's."""
    if any(p == "shared::cluster" for p in ins.parts): raise unknown(ins)


def vector(text: str) -> list[str]: return [n.strip() for n in text[1:-1].split(",")] if text.startswith("{") else [text]


def pointer(code, ins, arg: str, size: int, flags: int) -> str:
    """A checked pointer for an access of `size` bytes."""
    cluster(ins)
    space = space_of(ins)
    if space == "param":
        place = code.param_place(arg)
        if place is None: raise unknown(ins)
        return place
    if _STRONG.intersection(ins.parts): flags |= STRONG
    return code.access(space, code.address(arg), size, flags)


@instruction("ld ldu")
def load(code, ins):
    kind = kind_of(ins)
    bits, each = WIDTHS[kind], SIZES[kind]
    names = vector(ins.args[0])
    at = pointer(code, ins, ins.args[1], each * len(names), 0)
    values = [code.op(f"load i{bits}, ptr {code.op(f'getelementptr i8, ptr {at}, i64 {i * each}') if i else at}, align 1") for i in range(len(names))]
    for name, value in zip(names, values): code.put(name, value, bits, kind[0] == "s")


@instruction("st")
def store(code, ins):
    if ins.parts[1] in ("async", "bulk"): raise unknown(ins)
    kind = kind_of(ins)
    bits, each = WIDTHS[kind], SIZES[kind]
    values = [code.get(n, bits) for n in vector(ins.args[1])]
    at = pointer(code, ins, ins.args[0], each * len(values), WRITES)
    for i, value in enumerate(values):
        code.emit(f"store i{bits} {value}, ptr {code.op(f'getelementptr i8, ptr {at}, i64 {i * each}') if i else at}, align 1")


@instruction("cvta")
def convert_address(code, ins):
    """Between a space's addresses and generic ones."""
    bits = WIDTHS[kind_of(ins)]
    cluster(ins)
    window = _WINDOWS.get(space_of(ins), 0)
    value = code.wide(code.get(ins.args[1], bits), bits) if not ins.args[1].startswith("[") else code.address(ins.args[1])
    code.put(ins.args[0], code.resize(code.op(f"{'sub' if 'to' in ins.parts else 'add'} i64 {value}, {window}"), 64, bits), bits)


@instruction("isspacep")
def in_space(code, ins):
    window = code.op(f"lshr i64 {code.get(ins.args[1], 64)}, 24")
    number = _WINDOWS.get(space_of(ins), 0) >> 24
    code.put(ins.args[0], code.op(f"icmp eq i64 {window}, {number}" if number else f"icmp ugt i64 {window}, 3"), 1)


# ---- atomics. Threads run one at a time, so that an atomic is a load, an operation and a store.
_WHOLE = {"add": "add", "and": "and", "or": "or", "xor": "xor"}


@instruction("atom red")
def atomic(code, ins):
    red = ins.parts[0] == "red"
    if red and ins.parts[1] == "async": raise unknown(ins)
    op = next((p for p in ins.parts[1:] if p in ("add", "min", "max", "and", "or", "xor", "exch", "cas", "inc", "dec")), None)
    if op is None: raise unknown(ins)
    kind = kind_of(ins)
    bits, each = WIDTHS[kind], SIZES[kind]
    args = ins.args if red else ins.args[1:]
    operands = [vector(a) for a in args[1:] if not a.startswith("%cache")]
    count = len(operands[0])
    values = [[code.get(o[i], bits) for o in operands[:2 if op == "cas" else 1]] for i in range(count)]
    at = pointer(code, ins, args[0], each * count, WRITES | STRONG | ATOMIC)
    for i in range(count):
        place = code.op(f"getelementptr i8, ptr {at}, i64 {i * each}") if i else at
        old = code.op(f"load i{bits}, ptr {place}, align 1")
        code.emit(f"store i{bits} {combine(code, ins, op, kind, bits, old, values[i])}, ptr {place}, align 1")
        if not red: code.put(vector(ins.args[0])[i], old, bits, kind[0] == "s")


def combine(code, ins, op, kind, bits, old, x) -> str:
    t = f"i{bits}"
    if op == "exch": return x[0]
    if op == "cas": return code.op(f"select i1 {code.op(f'icmp eq {t} {old}, {x[0]}')}, {t} {x[1]}, {t} {old}")
    if op == "inc":
        wrap = code.op(f"icmp uge {t} {old}, {x[0]}")
        return code.op(f"select i1 {wrap}, {t} 0, {t} {code.op(f'add {t} {old}, 1')}")
    if op == "dec":
        wrap = code.op(f"or i1 {code.op(f'icmp eq {t} {old}, 0')}, {code.op(f'icmp ugt {t} {old}, {x[0]}')}")
        return code.op(f"select i1 {wrap}, {t} {x[0]}, {t} {code.op(f'sub {t} {old}, 1')}")
    if kind[0] == "f" or kind[:2] == "bf": return combine_reals(code, ins, op, kind, bits, old, x[0])
    if op in _WHOLE: return code.op(f"{_WHOLE[op]} {t} {old}, {x[0]}")
    return code.intrinsic(f"{'s' if kind[0] == 's' else 'u'}{op}.{t}", t, (t, old), (t, x[0]))


def combine_reals(code, ins, op, kind, bits, old, x) -> str:
    form = kind.removesuffix("x2")
    if form in ("f32", "f64"):
        a, b = (code.op(f"bitcast i{bits} {v} to {llvm(form)}") for v in (old, x))
        if op == "add": value = code.op(f"fadd {llvm(form)} {a}, {b}")
        else: value = code.intrinsic(f"{op}imumnum.{suffix(form)}", llvm(form), (llvm(form), a), (llvm(form), b))
        return code.op(f"bitcast {llvm(form)} {value} to i{bits}")
    def one(a, b):
        a, b = widen(code, a, form), widen(code, b, form)
        if op == "add": return narrow(code, code.call("add_odd", a, b, kinds="dd", result="double"), form, 0)
        return narrow(code, code.intrinsic(f"{op}imumnum.f64", "double", ("double", a), ("double", b)), form, 0)
    if bits == 16: return one(old, x)
    low = one(*(code.op(f"trunc i32 {v} to i16") for v in (old, x)))
    high = one(*(code.op(f"trunc i32 {code.op(f'lshr i32 {v}, 16')} to i16") for v in (old, x)))
    return code.op(f"or i32 {code.resize(low, 16, 32)}, {code.op(f'shl i32 {code.resize(high, 16, 32)}, 16')}")


# ---- what only hints, or orders what is in order here
@instruction("membar fence prefetch prefetchu discard applypriority nanosleep griddepcontrol setmaxnreg pmevent")
def hint(code, ins):
    """Threads run one at a time and memory is one: fences have nothing to do."""


@instruction("createpolicy")
def policy(code, ins): code.put(ins.args[0], "0", 64)


# ---- asynchronous copies
@instruction("cp")
def copy(code, ins):
    if ins.parts[1] != "async" or "bulk" in ins.parts or "mbarrier" in ins.parts: raise unknown(ins)
    if "commit_group" in ins.parts: return code.call("copy_commit", "%B.in", "%T.in")
    if "wait_group" in ins.parts: return code.call("copy_wait", "%B.in", "%T.in", code.wide(code.get(ins.args[0], 32), 32))
    if "wait_all" in ins.parts: return code.call("copy_wait", "%B.in", "%T.in", "-1")
    args = list(ins.args)
    if "L2::cache_hint" in ins.parts: args.pop()
    size = int(args[2], 0)
    amount = str(size)
    if len(args) > 3:                                            # the number of bytes to read, or a predicate: read nothing
        if code.width(args[3]) == 1: amount = code.op(f"select i1 {code.get(args[3], 1)}, i64 0, i64 {size}")
        else: amount = code.wide(code.get(args[3], 32), 32)
    target, source = code.address(args[0]), code.address(args[1])
    code.unless(code.call("copy_start", "%B.in", "%T.in", target, source, amount, str(size | code.line << 16)))
