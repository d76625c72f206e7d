"""Floats. float32 and float64 are the host's; float16 and bfloat16 are computed in float64, rounded to odd, and rounded once more.

What PTX approximates (ex2, sin, rcp.approx …) is computed as exactly as the host's library does: any result within the documented error is right.
"""
from __future__ import annotations

import struct

from ..code import WIDTHS
from .integer import combine, compare_word
from .table import instruction, kind_of, unknown

ROUNDINGS = {"rn": 0, "rz": 1, "rp": 2, "rm": 3, "rna": 4, "rni": 0, "rzi": 1, "rpi": 2, "rmi": 3}
FORMATS = {"f16": 0, "bf16": 1, "f32": 2, "tf32": 3, "f64": 4, "e4m3": 5, "e5m2": 6}
_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
_ODD = {"add": "add_odd", "sub": "add_odd", "mul": "fma_odd", "fma": "fma_odd", "mad": "fma_odd", "div": "divide_odd", "rcp": "divide_odd", "sqrt": "root_odd"}
_LIBRARY = {"ex2": "exp2", "lg2": "log2", "sin": "sin", "cos": "cos", "tanh": "tanh"}
# What PTX's documentation allows: of the result, and besides. (f16 and bf16 forms: half of their last place and a little.)
_ERRORS = {"ex2": (2 ** -22, 0), "lg2": (2 ** -22, 2 ** -22), "sin": (0, 2 ** -20.5), "cos": (0, 2 ** -20.5), "tanh": (2 ** -11, 0), "rcp": (2 ** -23, 0), "rsqrt": (2 ** -22.9, 0),
           "sqrt": (2 ** -23, 0), "div": (2 ** -22, 0)}
_ORDERED = {"eq": "oeq", "ne": "one", "lt": "olt", "le": "ole", "gt": "ogt", "ge": "oge", "equ": "ueq", "neu": "une", "ltu": "ult", "leu": "ule", "gtu": "ugt",
            "geu": "uge", "num": "ord", "nan": "uno"}
NAN32, NAN64 = "0x7FFFFFFFE0000000", "0x7FFFFFFFFFFFFFFF"


def llvm(kind: str) -> str: return "double" if kind == "f64" else "float"


def suffix(kind: str) -> str: return "f64" if kind == "f64" else "f32"


def rounding(ins) -> int: return next((ROUNDINGS[p] for p in ins.parts if p in ROUNDINGS), 0)


def flush(code, x: str, wanted: bool = True) -> str:
    """A subnormal float32 becomes zero of its sign (.ftz)."""
    if not wanted: return x
    small = code.op(f"fcmp olt float {code.intrinsic('fabs.f32', 'float', ('float', x))}, 0x3810000000000000")
    return code.op(f"select i1 {small}, float {code.intrinsic('copysign.f32', 'float', ('float', '0.0'), ('float', x))}, float {x}")


def saturate(code, x: str, kind: str) -> str:
    """Into [0, 1]; NaN becomes 0."""
    t = llvm(kind)
    up = code.op(f"select i1 {code.op(f'fcmp ogt {t} {x}, 0.0')}, {t} {x}, {t} 0.0")
    return code.op(f"select i1 {code.op(f'fcmp olt {t} {up}, 1.0')}, {t} {up}, {t} 1.0")


def relu(code, x: str, kind: str) -> str:
    t = llvm(kind)
    return code.op(f"select i1 {code.op(f'fcmp olt {t} {x}, 0.0')}, {t} 0.0, {t} {x}")


def approximated(code, ins, x: str, kind: str) -> str:
    """The result of an approximation, off by what is allowed if the launch wants it."""
    if not code.exact or kind != "f32" or not {"approx", "full"}.intersection(ins.parts): return x
    bounds = ("0x" + struct.pack(">d", e).hex().upper() for e in _ERRORS[ins.parts[0]])
    wide = code.call("approximated", "%B.in", code.op(f"fpext float {x} to double"), *bounds, kinds="iddd", result="double")
    return code.op(f"fptrunc double {wide} to float")


def operands(code, ins, kind):
    ftz = "ftz" in ins.parts and kind == "f32"
    return [flush(code, code.real(a, kind), ftz) for a in ins.args[1:]]


def canonical(code, x: str) -> str:
    """The silicon's one NaN of float32. (The host's has a sign, which sorts and sign tests would see.)"""
    return code.op(f"select i1 {code.op(f'fcmp uno float {x}, {x}')}, float {NAN32}, float {x}")


def finish(code, ins, x, kind):
    """.ftz and .sat of a result, and its place."""
    if kind == "f32": x = canonical(code, flush(code, approximated(code, ins, x, kind), "ftz" in ins.parts))
    if "sat" in ins.parts: x = saturate(code, x, kind)
    if "relu" in ins.parts: x = relu(code, x, kind)
    code.put_real(ins.args[0], x, kind)


# ---- small floats: widen, work, narrow
def widen(code, bits: str, form: str) -> str:
    """iN bits of a format as double."""
    if form == "f16": return code.call("widen_half", code.wide(bits, 16), result="double")
    if form in ("e4m3", "e5m2"): return code.call("widen_small", code.wide(bits, 8), str(FORMATS[form]), result="double")
    if form == "bf16": bits = code.op(f"shl i32 {code.resize(bits, 16, 32)}, 16")
    if form == "f64": return code.op(f"bitcast i64 {bits} to double")
    return code.op(f"fpext float {code.op(f'bitcast i32 {bits} to float')} to double")


def narrow(code, x: str, form: str, mode: int) -> str:
    """A double as bits of a format, iN."""
    bits = {"f16": 16, "bf16": 16, "f64": 64, "e4m3": 8, "e5m2": 8}.get(form, 32)
    return code.op(f"trunc i64 {code.call('narrow', x, str(FORMATS[form]), str(mode), kinds='dii')} to i{bits}") if bits < 64 else code.op(f"bitcast double {x} to i64")


def each_half(code, ins, form: str, f):
    """f on 16-bit operands; of packed types, on both halves."""
    if not kind_of(ins).endswith("x2"): return code.put(ins.args[0], f(*(code.get(a, 16) for a in ins.args[1:])), 16)
    values = [code.get(a, 32) for a in ins.args[1:]]
    low = f(*(code.op(f"trunc i32 {v} to i16") for v in values))
    high = f(*(code.op(f"trunc i32 {code.op(f'lshr i32 {v}, 16')} to i16") for v in values))
    code.put(ins.args[0], code.op(f"or i32 {code.resize(low, 16, 32)}, {code.op(f'shl i32 {code.resize(high, 16, 32)}, 16')}"), 32)


def flush_half(code, h: str) -> str:
    small = code.op(f"icmp eq i16 {code.op(f'and i16 {h}, 31744')}, 0")
    return code.op(f"select i1 {small}, i16 {code.op(f'and i16 {h}, -32768')}, i16 {h}")


def half_arithmetic(code, ins, form: str):
    root = ins.parts[0]
    def one(*operands):
        if "ftz" in ins.parts and form == "f16": operands = [flush_half(code, h) for h in operands]
        h = narrow(code, odd(code, root, [widen(code, h, form) for h in operands]), form, rounding(ins))
        if "ftz" in ins.parts and form == "f16": h = flush_half(code, h)
        if "sat" not in ins.parts and "relu" not in ins.parts: return h
        x = code.op(f"fptrunc double {widen(code, h, form)} to float")
        x = saturate(code, x, "f32") if "sat" in ins.parts else relu(code, x, "f32")
        return narrow(code, code.op(f"fpext float {x} to double"), form, 0)
    each_half(code, ins, form, one)


def odd(code, root: str, x: list[str]) -> str:
    """The exact result of an operation on doubles that hold at most 26 bits, rounded to odd."""
    if root == "sub": x = [x[0], code.op(f"fneg double {x[1]}")]
    if root == "mul": return code.op(f"fmul double {x[0]}, {x[1]}")
    if root == "rcp": x = ["1.0", x[0]]
    return code.call(_ODD[root], *x, kinds="d" * len(x), result="double")


# ---- arithmetic
@instruction("add sub mul fma mad", "real")
def arithmetic(code, ins):
    kind, root = kind_of(ins), ins.parts[0]
    form = kind.removesuffix("x2")
    if form in ("f16", "bf16"):
        if ins.parts.count("f32") == 0: return half_arithmetic(code, ins, form)
    if kind == "f32x2": return each_single(code, ins)
    x = operands(code, ins, kind)
    value = one_result(code, ins, root, kind, x)
    finish(code, ins, value, kind)


def one_result(code, ins, root, kind, x) -> str:
    mode = rounding(ins)
    if mode and kind == "f64": raise unknown(ins)
    if mode:                                                     # exact in float64 but for one bit, then rounded as told
        wide = odd(code, root, [code.op(f"fpext float {v} to double") for v in x])
        return code.op(f"bitcast i32 {narrow(code, wide, 'f32', mode)} to float")
    if root in ("fma", "mad"): return code.intrinsic(f"fma.{suffix(kind)}", llvm(kind), *((llvm(kind), v) for v in x))
    return code.op(f"{_OPS[root]} {llvm(kind)} {x[0]}, {x[1]}")


def each_single(code, ins):
    """Two float32 in one 64-bit register."""
    values, out = [code.get(a, 64) for a in ins.args[1:]], "0"
    for by in (0, 32):
        x = [code.op(f"bitcast i32 {code.resize(code.op(f'lshr i64 {v}, {by}'), 64, 32)} to float") for v in values]
        x = [flush(code, v, "ftz" in ins.parts) for v in x]
        y = canonical(code, flush(code, one_result(code, ins, ins.parts[0], "f32", x), "ftz" in ins.parts))
        part = code.wide(code.op(f"bitcast float {y} to i32"), 32)
        out = code.op(f"or i64 {out}, {code.op(f'shl i64 {part}, {by}')}")
    code.put(ins.args[0], out, 64)


@instruction("div", "real")
def divide(code, ins):
    kind = kind_of(ins)
    a, b = operands(code, ins, kind)
    value = rounded(code, ins, "div", kind, [a, b], f"fdiv {llvm(kind)} {a}, {b}")
    if "approx" in ins.parts:                                    # it multiplies by a reciprocal, which is zero for divisors above 2^126
        size = code.intrinsic("fabs.f32", "float", ("float", b))
        huge = code.op(f"and i1 {code.op(f'fcmp ogt float {size}, 0x47D0000000000000')}, {code.op(f'fcmp one float {size}, 0x7FF0000000000000')}")
        zero = code.op(f"fmul float {a}, {code.intrinsic('copysign.f32', 'float', ('float', '0.0'), ('float', b))}")
        value = code.op(f"select i1 {huge}, float {zero}, float {value}")
    finish(code, ins, value, kind)


@instruction("rcp", "real")
def reciprocal(code, ins):
    kind = kind_of(ins)
    a, = operands(code, ins, kind)
    if kind == "f64" and "approx" in ins.parts: a = upper_half(code, a)
    value = rounded(code, ins, "rcp", kind, [a], f"fdiv {llvm(kind)} 1.0, {a}")
    finish(code, ins, upper_half(code, value) if kind == "f64" and "approx" in ins.parts else value, kind)


def upper_half(code, x: str) -> str:
    """A float64 without its lower 32 bits, which approximations neither read nor write."""
    whole = code.op(f"bitcast double {x} to i64")
    high = code.op(f"and i64 {whole}, -4294967296")
    return code.op(f"bitcast i64 {high} to double")


@instruction("sqrt", "real")
def root(code, ins):
    kind = kind_of(ins)
    a, = operands(code, ins, kind)
    if rounding(ins): value = rounded(code, ins, "sqrt", kind, [a], "")
    else: value = code.intrinsic(f"sqrt.{suffix(kind)}", llvm(kind), (llvm(kind), a))
    finish(code, ins, value, kind)


def rounded(code, ins, op, kind, x, nearest):
    mode = rounding(ins)
    if not mode: return code.op(nearest)
    if kind == "f64": raise unknown(ins)
    wide = odd(code, op, [code.op(f"fpext float {v} to double") for v in x])
    return code.op(f"bitcast i32 {narrow(code, wide, 'f32', mode)} to float")


@instruction("rsqrt", "real")
def reciprocal_root(code, ins):
    kind = kind_of(ins)
    a, = operands(code, ins, kind)
    wide = code.op(f"fpext float {a} to double") if kind == "f32" else a
    value = code.op(f"fdiv double 1.0, {code.intrinsic('sqrt.f64', 'double', ('double', wide))}")
    finish(code, ins, code.op(f"fptrunc double {value} to float") if kind == "f32" else value, kind)


@instruction("ex2 lg2 sin cos tanh", "real")
def transcendental(code, ins):
    kind, name = kind_of(ins), _LIBRARY[ins.parts[0]]
    form = kind.removesuffix("x2")
    if form in ("f16", "bf16"):
        return each_half(code, ins, form, lambda h: narrow(code, code.library(name, "double", widen(code, h, form)), form, 0))
    a, = operands(code, ins, kind)
    finish(code, ins, code.library(name + ("f" if kind == "f32" else ""), llvm(kind), a), kind)


# ---- signs, extremes, tests
@instruction("abs neg", "real")
def sign(code, ins):
    kind = kind_of(ins)
    bits = WIDTHS[kind]
    a = code.get(ins.args[1], bits)
    if "ftz" in ins.parts and kind == "f32": a = code.op(f"bitcast float {flush(code, code.op(f'bitcast i32 {a} to float'))} to i32")
    signs = 1 << bits - 1 | (1 << 15 if kind.endswith("x2") else 0)
    value = code.op(f"xor i{bits} {a}, {signs}") if ins.parts[0] == "neg" else code.op(f"and i{bits} {a}, {(1 << bits) - 1 & ~signs}")
    code.put(ins.args[0], value, bits)


@instruction("copysign", "real")
def copy_sign(code, ins):
    bits = WIDTHS[kind_of(ins)]
    a, b = (code.get(x, bits) for x in ins.args[1:3])
    sign_of = code.op(f"and i{bits} {a}, {1 << bits - 1}")
    code.put(ins.args[0], code.op(f"or i{bits} {sign_of}, {code.op(f'and i{bits} {b}, {(1 << bits - 1) - 1}')}"), bits)


@instruction("min max", "real")
def extreme(code, ins):
    """-0 is less than +0; a NaN gives the other operand, or with .NaN the canonical NaN."""
    kind = kind_of(ins)
    form = kind.removesuffix("x2")
    if form in ("f16", "bf16"):
        def one(*h):
            if "ftz" in ins.parts: h = [flush_half(code, x) for x in h]
            x = extreme_of(code, ins, [code.op(f"fptrunc double {widen(code, v, form)} to float") for v in h], "f32")
            return narrow(code, code.op(f"fpext float {x} to double"), form, 0)
        return each_half(code, ins, form, one)
    finish(code, ins, extreme_of(code, ins, operands(code, ins, kind), kind), kind)


def extreme_of(code, ins, x, kind):
    t, s = llvm(kind), suffix(kind)
    name = ins.parts[0] + ("imum" if "NaN" in ins.parts else "imumnum")
    signs = None
    if "xorsign" in ins.parts:
        bits = [code.op(f"bitcast {t} {v} to i{WIDTHS[kind]}") for v in x]
        signs = code.op(f"bitcast i{WIDTHS[kind]} {code.op(f'xor i{WIDTHS[kind]} {bits[0]}, {bits[1]}')} to {t}")
        x = [code.intrinsic(f"fabs.{s}", t, (t, v)) for v in x]
    value = x[0]
    for v in x[1:]: value = code.intrinsic(f"{name}.{s}", t, (t, value), (t, v))
    if signs: value = code.intrinsic(f"copysign.{s}", t, (t, value), (t, signs))
    lost = code.op(f"fcmp uno {t} {value}, {value}")
    return code.op(f"select i1 {lost}, {t} {NAN64 if kind == 'f64' else NAN32}, {t} {value}")


@instruction("setp", "real")
def set_predicate(code, ins):
    combine(code, ins, test(code, ins, ins.args[1:3]), ins.args[3:]) if not kind_of(ins).endswith("x2") else halves(code, ins)


def test(code, ins, args):
    kind = kind_of(ins)
    word = _ORDERED[ins.parts[1]]
    if kind in ("f16", "bf16"):
        a, b = (widen(code, code.get(x, 16), kind) for x in args)
        return code.op(f"fcmp {word} double {a}, {b}")
    ftz = "ftz" in ins.parts and kind == "f32"
    a, b = (flush(code, code.real(x, kind), ftz) for x in args)
    return code.op(f"fcmp {word} {llvm(kind)} {a}, {b}")


def halves(code, ins):
    """setp.f16x2: a predicate of each half."""
    form = kind_of(ins).removesuffix("x2")
    names = [n.strip() for n in ins.args[0].split("|")]
    a, b = (code.get(x, 32) for x in ins.args[1:3])
    for name, by in zip(names, (0, 16)):
        x, y = (widen(code, code.op(f"trunc i32 {code.op(f'lshr i32 {v}, {by}')} to i16"), form) for v in (a, b))
        code.put(name, code.op(f"fcmp {_ORDERED[ins.parts[1]]} double {x}, {y}"), 1)


@instruction("set")
def set_value(code, ins):
    """A comparison as all ones, or 1.0."""
    to, kind = ins.parts[-2], ins.parts[-1]
    if kind[0] == "f" or kind[:2] == "bf": t = test(code, ins, ins.args[1:3])
    else:
        a, b = (code.get(x, WIDTHS[kind]) for x in ins.args[1:3])
        t = code.op(f"icmp {compare_word(ins.parts[1], kind)} i{WIDTHS[kind]} {a}, {b}")
    if to == "f32": return code.put_real(ins.args[0], code.op(f"select i1 {t}, float 1.0, float 0.0"), "f32")
    if to not in ("u32", "s32"): raise unknown(ins)
    code.put(ins.args[0], code.op(f"sext i1 {t} to i32"), 32)


@instruction("testp", "real")
def property_of(code, ins):
    kind = kind_of(ins)
    t, s = llvm(kind), suffix(kind)
    classes = {"finite": 0x1F8, "infinite": 0x204, "number": 0x3FC, "notanumber": 0x3, "normal": 0x108, "subnormal": 0x90}
    x = code.real(ins.args[1], kind)
    code.put(ins.args[0], code.intrinsic(f"is.fpclass.{s}", "i1", (t, x), ("i32", str(classes[ins.parts[1]]))), 1)
