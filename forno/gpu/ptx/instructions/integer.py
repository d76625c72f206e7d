"""Whole numbers, bits and predicates."""
from __future__ import annotations

from ..code import WIDTHS
from ..parse import number
from .table import instruction, kind_of, unknown

_BITS = {"and": "and", "or": "or", "xor": "xor"}
_COMPARE = {"eq": "eq", "ne": "ne", "lo": "ult", "ls": "ule", "hi": "ugt", "hs": "uge"}


def signed(kind: str) -> bool: return kind[0] == "s"


def compare_word(op: str, kind: str) -> str:
    if op in _COMPARE: return _COMPARE[op]
    return ("s" if signed(kind) else "u") + op


def operands(code, ins, bits, sign=False): return [code.get(a, bits, sign) for a in ins.args[1:]]


def saturated(code, name: str, bits: int, a: str, b: str) -> str: return code.intrinsic(f"{name}.sat.i{bits}", f"i{bits}", (f"i{bits}", a), (f"i{bits}", b))


@instruction("add sub", "whole")
def add(code, ins):
    kind, op = kind_of(ins), ins.parts[0]
    if kind.endswith("x2"): return pairs(code, ins, lambda x, y: code.op(f"{op} i16 {x}, {y}"))
    bits = WIDTHS[kind]
    a, b = operands(code, ins, bits)
    if "cc" in ins.parts: return carry(code, ins, a, b, None)
    value = saturated(code, f"s{op}", bits, a, b) if "sat" in ins.parts else code.op(f"{op} i{bits} {a}, {b}")
    code.put(ins.args[0], value, bits, signed(kind))


@instruction("addc subc", "whole")
def add_with_carry(code, ins):
    a, b = operands(code, ins, WIDTHS[kind_of(ins)])
    carry(code, ins, a, b, code.load("~carry")[0])


def carry(code, ins, a, b, came):
    """a ± b (± the carry that came), one bit wider; .cc keeps the new carry (of a subtraction: the borrow)."""
    bits = WIDTHS[kind_of(ins)]
    op = ins.parts[0][:3]
    wide = bits + 1
    total = code.op(f"{op} i{wide} {code.resize(a, bits, wide)}, {code.resize(b, bits, wide)}")
    if came: total = code.op(f"{op} i{wide} {total}, {code.op(f'zext i1 {came} to i{wide}')}")
    if "cc" in ins.parts: code.store("~carry", code.op(f"trunc i{wide} {code.op(f'lshr i{wide} {total}, {bits}')} to i1"))
    code.put(ins.args[0], code.op(f"trunc i{wide} {total} to i{bits}"), bits)


def pairs(code, ins, f):
    """An operation on the two 16-bit halves of 32-bit operands."""
    values = operands(code, ins, 32)
    halves = [[code.op(f"trunc i32 {v} to i16") for v in values], [code.op(f"trunc i32 {code.op(f'lshr i32 {v}, 16')} to i16") for v in values]]
    low, high = (code.op(f"zext i16 {f(*h)} to i32") for h in halves)
    code.put(ins.args[0], code.op(f"or i32 {low}, {code.op(f'shl i32 {high}, 16')}"), 32)


def product(code, ins, kind: str) -> tuple[str, int]:
    """a · b of mul and mad: its low half, its high half, or all of it."""
    bits, sign = WIDTHS[kind], signed(kind)
    a, b = (code.get(x, bits) for x in ins.args[1:3])
    if "wide" not in ins.parts and "hi" not in ins.parts: return code.op(f"mul i{bits} {a}, {b}"), bits
    whole = code.op(f"mul i{2 * bits} {code.resize(a, bits, 2 * bits, sign)}, {code.resize(b, bits, 2 * bits, sign)}")
    if "wide" in ins.parts: return whole, 2 * bits
    return code.op(f"trunc i{2 * bits} {code.op(f'lshr i{2 * bits} {whole}, {bits}')} to i{bits}"), bits


@instruction("mul mad madc", "whole")
def multiply(code, ins):
    kind = kind_of(ins)
    value, bits = product(code, ins, kind)
    if ins.parts[0] == "mul": return code.put(ins.args[0], value, bits, signed(kind))
    c = code.get(ins.args[3], bits)
    if "sat" in ins.parts: return code.put(ins.args[0], saturated(code, "sadd", bits, value, c), bits)
    came = code.load("~carry")[0] if ins.parts[0] == "madc" else None
    wide = bits + 1
    total = code.op(f"add i{wide} {code.resize(value, bits, wide)}, {code.resize(c, bits, wide)}")
    if came: total = code.op(f"add i{wide} {total}, {code.op(f'zext i1 {came} to i{wide}')}")
    if "cc" in ins.parts: code.store("~carry", code.op(f"trunc i{wide} {code.op(f'lshr i{wide} {total}, {bits}')} to i1"))
    code.put(ins.args[0], code.op(f"trunc i{wide} {total} to i{bits}"), bits, signed(kind))


@instruction("mul24 mad24", "whole")
def multiply24(code, ins):
    kind = kind_of(ins)
    def low(x):
        x = code.op(f"shl i32 {code.get(x, 32)}, 8")
        return code.wide(code.op(f"{'ashr' if signed(kind) else 'lshr'} i32 {x}, 8"), 32, signed(kind))
    value = code.op(f"mul i64 {low(ins.args[1])}, {low(ins.args[2])}")
    if "hi" in ins.parts: value = code.op(f"lshr i64 {value}, 16")
    value = code.op(f"trunc i64 {value} to i32")
    if ins.parts[0] == "mad24": value = code.op(f"add i32 {value}, {code.get(ins.args[3], 32)}")
    code.put(ins.args[0], value, 32)


@instruction("div rem", "whole")
def divide(code, ins):
    """By zero, PTX's result is unspecified; here, as on the silicon, all ones, and the dividend as remainder."""
    kind, rem = kind_of(ins), ins.parts[0] == "rem"
    bits, word = WIDTHS[kind], ("s" if signed(kind) else "u") + ins.parts[0]
    a, b = operands(code, ins, bits)
    zero = code.op(f"icmp eq i{bits} {b}, 0")
    safe = zero
    if signed(kind):                                             # the smallest number by -1 would trap on the host
        least = code.op(f"icmp eq i{bits} {a}, {-(1 << bits - 1)}")
        safe = code.op(f"or i1 {zero}, {code.op(f'and i1 {least}, ' + code.op(f'icmp eq i{bits} {b}, -1'))}")
    value = code.op(f"{word} i{bits} {a}, {code.op(f'select i1 {safe}, i{bits} 1, i{bits} {b}')}")
    code.put(ins.args[0], code.op(f"select i1 {zero}, i{bits} {a if rem else -1}, i{bits} {value}"), bits, signed(kind))


@instruction("min max", "whole")
def least(code, ins):
    kind = kind_of(ins)
    name = ("s" if signed(kind) else "u") + ins.parts[0]
    bits = 16 if kind.endswith("x2") else WIDTHS[kind]
    def one(a, b):
        value = code.intrinsic(f"{name}.i{bits}", f"i{bits}", (f"i{bits}", a), (f"i{bits}", b))
        return code.intrinsic(f"smax.i{bits}", f"i{bits}", (f"i{bits}", value), (f"i{bits}", "0")) if "relu" in ins.parts else value
    if kind.endswith("x2"): return pairs(code, ins, one)
    code.put(ins.args[0], one(*operands(code, ins, bits)), bits, signed(kind))


@instruction("abs neg", "whole")
def absolute(code, ins):
    kind = kind_of(ins)
    bits = WIDTHS[kind]
    a, = operands(code, ins, bits)
    if ins.parts[0] == "neg": value = code.op(f"sub i{bits} 0, {a}")
    else: value = code.intrinsic(f"abs.i{bits}", f"i{bits}", (f"i{bits}", a), ("i1", "false"))
    code.put(ins.args[0], value, bits, True)


@instruction("and or xor", "whole")
def bitwise(code, ins):
    bits = WIDTHS[kind_of(ins)]
    a, b = operands(code, ins, bits)
    code.put(ins.args[0], code.op(f"{ins.parts[0]} i{bits} {a}, {b}"), bits)


@instruction("not", "whole")
def invert(code, ins):
    bits = WIDTHS[kind_of(ins)]
    code.put(ins.args[0], code.op(f"xor i{bits} {operands(code, ins, bits)[0]}, -1"), bits)


@instruction("cnot", "whole")
def is_zero(code, ins):
    bits = WIDTHS[kind_of(ins)]
    code.put(ins.args[0], code.op(f"zext i1 {code.op(f'icmp eq i{bits} {operands(code, ins, bits)[0]}, 0')} to i{bits}"), bits)


@instruction("shl shr", "whole")
def shift(code, ins):
    """Amounts are 32-bit, unsigned, and clamped to the width."""
    kind = kind_of(ins)
    bits = WIDTHS[kind]
    a, n = code.get(ins.args[1], bits), code.get(ins.args[2], 32)
    far = code.op(f"icmp uge i32 {n}, {bits}")
    near = code.resize(code.op(f"select i1 {far}, i32 {bits - 1}, i32 {n}"), 32, bits)
    if ins.parts[0] == "shr" and signed(kind): return code.put(ins.args[0], code.op(f"ashr i{bits} {a}, {near}"), bits, True)
    value = code.op(f"{'shl' if ins.parts[0] == 'shl' else 'lshr'} i{bits} {a}, {near}")
    code.put(ins.args[0], code.op(f"select i1 {far}, i{bits} 0, i{bits} {value}"), bits)


@instruction("shf", "whole")
def funnel(code, ins):
    a, b, n = operands(code, ins, 32)
    if "clamp" in ins.parts: n = code.intrinsic("umin.i32", "i32", ("i32", n), ("i32", "32"))
    else: n = code.op(f"and i32 {n}, 31")
    both = code.op(f"or i64 {code.op(f'shl i64 {code.wide(b, 32)}, 32')}, {code.wide(a, 32)}")
    if ins.parts[1] == "l": value = code.op(f"lshr i64 {code.op(f'shl i64 {both}, {code.wide(n, 32)}')}, 32")
    else: value = code.op(f"lshr i64 {both}, {code.wide(n, 32)}")
    code.put(ins.args[0], code.op(f"trunc i64 {value} to i32"), 32)


@instruction("popc", "whole")
def population(code, ins):
    bits = WIDTHS[kind_of(ins)]
    n = code.intrinsic(f"ctpop.i{bits}", f"i{bits}", (f"i{bits}", operands(code, ins, bits)[0]))
    code.put(ins.args[0], code.resize(n, bits, 32), 32)


@instruction("clz", "whole")
def leading_zeros(code, ins):
    bits = WIDTHS[kind_of(ins)]
    n = code.intrinsic(f"ctlz.i{bits}", f"i{bits}", (f"i{bits}", operands(code, ins, bits)[0]), ("i1", "false"))
    code.put(ins.args[0], code.resize(n, bits, 32), 32)


@instruction("brev", "whole")
def reverse(code, ins):
    bits = WIDTHS[kind_of(ins)]
    code.put(ins.args[0], code.intrinsic(f"bitreverse.i{bits}", f"i{bits}", (f"i{bits}", operands(code, ins, bits)[0])), bits)


@instruction("bfind", "whole")
def first_bit(code, ins):
    """The place of the highest bit that is not the sign; all ones where there is none."""
    kind = kind_of(ins)
    bits = WIDTHS[kind]
    a, = operands(code, ins, bits)
    if signed(kind): a = code.op(f"xor i{bits} {a}, {code.op(f'ashr i{bits} {a}, {bits - 1}')}")
    zeros = code.resize(code.intrinsic(f"ctlz.i{bits}", f"i{bits}", (f"i{bits}", a), ("i1", "false")), bits, 32)
    value = zeros if "shiftamt" in ins.parts else code.op(f"sub i32 {bits - 1}, {zeros}")
    code.put(ins.args[0], code.op(f"select i1 {code.op(f'icmp eq i{bits} {a}, 0')}, i32 -1, i32 {value}"), 32)


@instruction("lop3", "whole")
def logic(code, ins):
    """Any function of three bits, by its table of eight."""
    a, b, c = (code.get(x, 32) for x in ins.args[1:4])
    table, value = number(ins.args[4]), "0"
    for i in range(8):
        if not table >> i & 1: continue
        terms = [x if i >> k & 1 else code.op(f"xor i32 {x}, -1") for x, k in ((a, 2), (b, 1), (c, 0))]
        value = code.op(f"or i32 {value}, {code.op(f'and i32 {terms[0]}, ' + code.op(f'and i32 {terms[1]}, {terms[2]}'))}")
    code.put(ins.args[0], value, 32)


@instruction("bfe bfi prmt dp4a dp2a sad fns", "whole")
def by_runtime(code, ins):
    """Rare or long: functions of the runtime on 64-bit words."""
    kind, root = kind_of(ins), ins.parts[0]
    bits, args = WIDTHS[kind], ins.args[1:]
    if root == "bfe":
        words = [code.wide(code.get(args[0], bits, signed(kind)), bits, signed(kind)), *(code.wide(code.get(a, 32), 32) for a in args[1:])]
        value = code.call("bit_field", *words, str(bits), str(int(signed(kind))))
    elif root == "bfi":
        words = [*(code.wide(code.get(a, bits), bits) for a in args[:2]), *(code.wide(code.get(a, 32), 32) for a in args[2:])]
        value = code.call("bit_insert", *words, str(bits))
    elif root == "prmt":
        modes = ("f4e", "b4e", "rc8", "ecl", "ecr", "rc16")
        mode = next((i + 1 for i, m in enumerate(modes) if m in ins.parts), 0)
        value, bits = code.call("permute", *(code.wide(code.get(a, 32), 32) for a in args), str(mode)), 32
    elif root == "sad":
        a, b, c = (code.wide(code.get(x, bits, signed(kind)), bits, signed(kind)) for x in args)
        less = code.op(f"icmp {'slt' if signed(kind) else 'ult'} i64 {a}, {b}")
        value = code.op(f"add i64 {c}, {code.op(f'select i1 {less}, i64 ' + code.op(f'sub i64 {b}, {a}') + ', i64 ' + code.op(f'sub i64 {a}, {b}'))}")
    elif root in ("dp4a", "dp2a"):
        kinds = [p for p in ins.parts if p in ("u32", "s32")]
        words = [code.wide(code.get(a, 32), 32) for a in args]
        value, bits = code.call(root, *words, str(int(kinds[0] == "s32")), str(int(kinds[1] == "s32")), *([str(int("hi" in ins.parts))] if root == "dp2a" else [])), 32
    else: raise unknown(ins)
    code.put(ins.args[0], code.resize(value, 64, bits), bits, signed(kind))


# ---- comparisons and choices
def combine(code, ins, test: str, rest: tuple[str, ...]):
    """The results of setp: test (and, or, xor with a predicate), and its complement's."""
    first, _, second = ins.args[0].partition("|")
    tests = [(first, test)] + ([(second, code.op(f"xor i1 {test}, true"))] if second else [])
    op = next((p for p in ins.parts[2:] if p in _BITS), None)
    other = code.get(rest[0], 1) if op else None
    values = [(name, code.op(f"{op} i1 {t}, {other}") if op else t) for name, t in tests]
    for name, value in values: code.put(name, value, 1)


@instruction("setp", "whole")
def set_predicate(code, ins):
    kind = kind_of(ins)
    bits = WIDTHS[kind]
    a, b = (code.get(x, bits) for x in ins.args[1:3])
    combine(code, ins, code.op(f"icmp {compare_word(ins.parts[1], kind)} i{bits} {a}, {b}"), ins.args[3:])


@instruction("selp")
def select(code, ins):
    bits = WIDTHS[kind_of(ins)]
    a, b = (code.get(x, bits) for x in ins.args[1:3])
    code.put(ins.args[0], code.op(f"select i1 {code.get(ins.args[3], 1)}, i{bits} {a}, i{bits} {b}"), bits)


@instruction("slct")
def select_by_sign(code, ins):
    """a if c >= 0 else b; the second type is c's."""
    bits, other = WIDTHS[ins.parts[-2]], ins.parts[-1]
    a, b = (code.get(x, bits) for x in ins.args[1:3])
    if other == "f32": test = code.op(f"fcmp oge float {code.real(ins.args[3], 'f32')}, 0.0")
    else: test = code.op(f"icmp sge i32 {code.get(ins.args[3], 32)}, 0")
    code.put(ins.args[0], code.op(f"select i1 {test}, i{bits} {a}, i{bits} {b}"), bits)


@instruction("mov")
def move(code, ins):
    """Also packs {a, b, …} into a wider register, lowest first, and unpacks."""
    bits = WIDTHS[kind_of(ins)]
    to, source = ins.args
    if to.startswith("{"):
        names = [n.strip() for n in to[1:-1].split(",")]
        value, each = code.get(source, bits), bits // len(names)
        parts = [code.resize(code.op(f"lshr i{bits} {value}, {i * each}") if i else value, bits, each) for i in range(len(names))]
        for name, part in zip(names, parts): code.put(name, part, each)
        return
    if source.startswith("{"):
        names = [n.strip() for n in source[1:-1].split(",")]
        each, value = bits // len(names), "0"
        for i, name in enumerate(names):
            part = code.resize(code.get(name, each), each, bits)
            value = code.op(f"or i{bits} {value}, {code.op(f'shl i{bits} {part}, {i * each}') if i else part}")
        return code.put(to, value, bits)
    code.put(to, code.get(source, bits), bits)


@instruction("undef")
def undefined(code, ins):
    """LLVM says that it reads this register unwritten, and that its value doesn't matter: it gets one that shows."""
    bits = code.width(ins.args[0])
    code.put(ins.args[0], "true" if bits == 1 else str(int("7F8BAD5A7FF4BAD5A" * 2, 16) & (1 << bits) - 1), bits)
