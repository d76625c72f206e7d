"""Every instruction on edge values and random ones, against Python's integers and fractions."""
import math
import random
import re
from fractions import Fraction

import numpy as np
import pytest

from . import ptx_oracle as oracle
from .ptx_tools import HEAD, LAUNCHED, assemble, launch, ptxas, whole_file

COUNT = 192                                    # operand tuples of each instruction
REGISTER = {1: "p", 8: "h", 16: "h", 32: "r", 64: "d"}


@pytest.fixture(scope="module", autouse=True)
def launched(): LAUNCHED.clear()               # by other files' tests


def width(kind: str) -> int: return {"pred": 1, "bf16": 16, "f16x2": 32, "bf16x2": 32, "f32x2": 64, "tf32": 32}.get(kind) or int(re.search(r"\d+$", kind)[0])


def kernel(cases) -> str:
    """One kernel that runs many instructions on the same words. A case: (statement with {d} = result, {a} {b} {c} {e} = operands, their types, result type)."""
    body = []
    for k, (statement, kinds, result) in enumerate(cases):
        names = {}
        for j, kind in enumerate(kinds):
            bits = width(kind)
            names["abce"[j]] = name = f"%{REGISTER[bits]}{j}"
            if bits == 1: body.append(f"ld.global.b32 %r9, [%in+{8 * COUNT * j}]; setp.ne.s32 {name}, %r9, 0;")
            else: body.append(f"ld.global.{'u8' if bits == 8 else f'b{bits}'} {name}, [%in+{8 * COUNT * j}];")
        bits = width(result)
        names["d"] = f"%{REGISTER[bits]}8"
        body.append("{" + statement.format(**names) + "}" if "{" in statement.format(**names)[:1] else statement.format(**names))
        if bits == 1: body.append("selp.b32 %r8, 1, 0, %p8;")
        body.append(f"st.global.{'u8' if bits == 8 else f'b{max(32, bits) if bits == 1 else bits}'} [%out+{8 * COUNT * k}], %{REGISTER[max(32, bits) if bits == 1 else bits]}8;")
    return HEAD.replace("8.0", "8.6") + """.visible .entry k(.param .u64 x, .param .u64 y) {
  .reg .pred %p<10>; .reg .b16 %h<10>; .reg .b32 %r<10>; .reg .b64 %d<10>; .reg .b64 %in, %out, %at; .reg .b32 %t, %u;
  ld.param.u64 %in, [x]; ld.param.u64 %out, [y];
  mov.u32 %t, %tid.x; mov.u32 %u, %ctaid.x; mad.lo.u32 %t, %u, 32, %t; mul.wide.u32 %at, %t, 8;
  add.u64 %in, %in, %at; add.u64 %out, %out, %at;
  """ + "\n  ".join(body) + "\n  ret;\n}\n"


def compute(cases, operands, **more) -> list[list[int]]:
    """Results of each case as unsigned bits. operands: one list of words per operand."""
    data = np.array([w & (1 << 64) - 1 for o in operands for w in o], np.uint64)
    out = np.zeros(len(cases) * COUNT, np.uint64)
    got = launch(kernel(cases), [data, out], grid=COUNT // 32, **more)[1].reshape(len(cases), COUNT)
    return [[int(v) & (1 << width(c[2])) - 1 for v in row] for c, row in zip(cases, got)]


def draw(rng, kinds, pools):
    return [[rng.choice(pools[k]) if rng.random() < 0.6 else rng.getrandbits(width(k)) for _ in range(COUNT)] for k in kinds]


# ---------------------------------------------------------------- integers
def sign(x: int, kind: str) -> int:
    bits = width(kind)
    x &= (1 << bits) - 1
    return x - (1 << bits) if kind[0] == "s" and x >> bits - 1 else x


def edges(kind: str) -> list[int]:
    bits = width(kind)
    return [0, 1, 2, 3, 7, 31, 32, 33, (1 << bits) - 1, (1 << bits) - 2, 1 << bits - 1, (1 << bits - 1) - 1, (1 << bits - 1) + 1, 0x5A5A5A5A5A5A5A5A & (1 << bits) - 1, 255, 128]


def quotient(a, b, bits): return -1 if b == 0 else abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)
def remainder(a, b, bits): return a if b == 0 else abs(a) % abs(b) * (-1 if a < 0 else 1)


def clamped_shift(a, n, bits, left, kind):
    n &= 0xFFFFFFFF
    if left: return a << n if n < bits else 0
    return a >> min(n, bits if kind[0] != "s" else bits - 1)


def find(a, kind):
    a = ~a if a < 0 else a
    return a.bit_length() - 1


def field(a, p, n, kind):
    bits, p, n = width(kind), p & 255, n & 255
    if n == 0: return 0
    if kind[0] == "u": return (a >> p) & (1 << n) - 1
    last = min(p + n - 1, bits - 1)
    negative = (a & (1 << bits) - 1) >> last & 1
    value = 0
    for i in range(bits):                      # the definition, bit by bit
        take = (a & (1 << bits) - 1) >> (p + i) & 1 if i < n and p + i < bits else negative
        value |= take << i
    return value


def insert(a, b, p, n, bits):
    p, n = p & 255, n & 255
    for i in range(n):
        if p + i < bits: b = b & ~(1 << p + i) | (a >> i & 1) << p + i
    return b


def integer_cases(kind):
    """(statement, operand types, result type, oracle on numbers)."""
    bits, s = width(kind), kind[0] == "s"
    b, out = f"b{bits}", []
    def add(text, kinds, result, f): out.append((text, kinds, result, f))
    for op, f in (("add", lambda x, y: x + y), ("sub", lambda x, y: x - y), ("mul.lo", lambda x, y: x * y), ("mul.hi", lambda x, y: x * y >> bits),
                  ("div", lambda x, y: quotient(x, y, bits)), ("rem", lambda x, y: remainder(x, y, bits)), ("min", min), ("max", max)):
        add(f"{op}.{kind} {{d}}, {{a}}, {{b}};", (kind, kind), kind, f)
    if bits < 64: add(f"mul.wide.{kind} {{d}}, {{a}}, {{b}};", (kind, kind), f"{kind[0]}{2 * bits}", lambda x, y: x * y)
    if bits < 64: add(f"mad.wide.{kind} {{d}}, {{a}}, {{b}}, {{c}};", (kind, kind, f"{kind[0]}{2 * bits}"), f"{kind[0]}{2 * bits}", lambda x, y, z: x * y + z)
    add(f"mad.lo.{kind} {{d}}, {{a}}, {{b}}, {{c}};", (kind,) * 3, kind, lambda x, y, z: x * y + z)
    if bits > 16: add(f"mad.hi.{kind} {{d}}, {{a}}, {{b}}, {{c}};", (kind,) * 3, kind, lambda x, y, z: (x * y >> bits) + z)
    add(f"sad.{kind} {{d}}, {{a}}, {{b}}, {{c}};", (kind,) * 3, kind, lambda x, y, z: abs(x - y) + z)
    if s:
        add(f"abs.{kind} {{d}}, {{a}};", (kind,), kind, abs)
        add(f"neg.{kind} {{d}}, {{a}};", (kind,), kind, lambda x: -x)
    if kind == "s32":
        clamp = lambda v: max(-(1 << 31), min((1 << 31) - 1, v))
        add("add.sat.s32 {d}, {a}, {b};", (kind, kind), kind, lambda x, y: clamp(x + y))
        add("sub.sat.s32 {d}, {a}, {b};", (kind, kind), kind, lambda x, y: clamp(x - y))
        add("min.relu.s32 {d}, {a}, {b};", (kind, kind), kind, lambda x, y: max(0, min(x, y)))
    add(f"shl.{b} {{d}}, {{a}}, {{b}};", (kind, "u32"), kind, lambda x, n: clamped_shift(x, n, bits, True, kind))
    add(f"shr.{kind} {{d}}, {{a}}, {{b}};", (kind, "u32"), kind, lambda x, n: clamped_shift(x, n, bits, False, kind))
    for op, f in (("eq", "=="), ("ne", "!="), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">=")):
        add(f"setp.{op}.{kind} {{d}}, {{a}}, {{b}};", (kind, kind), "pred", eval(f"lambda x, y: x {f} y"))
    add(f"setp.lt.and.{kind} {{d}}, {{a}}, {{b}}, {{c}};", (kind, kind, "pred"), "pred", lambda x, y, p: x < y and p)
    add(f"setp.lt.or.{kind} %p7|{{d}}, {{a}}, {{b}}, !{{c}};", (kind, kind, "pred"), "pred", lambda x, y, p: x >= y or not p)
    if bits >= 32: add(f"set.le.u32.{kind} {{d}}, {{a}}, {{b}};", (kind, kind), "u32", lambda x, y: -(x <= y))
    add(f"selp.{kind} {{d}}, {{a}}, {{b}}, {{c}};", (kind, kind, "pred"), kind, lambda x, y, p: x if p else y)
    add(f"slct.{kind}.s32 {{d}}, {{a}}, {{b}}, {{c}};", (kind, kind, "s32"), kind, lambda x, y, z: x if z >= 0 else y)
    if bits == 16: return out
    add(f"bfind.{kind} {{d}}, {{a}};", (kind,), "u32", lambda x: find(x, kind))
    add(f"bfind.shiftamt.{kind} {{d}}, {{a}};", (kind,), "u32", lambda x: bits - 1 - find(x, kind) if find(x, kind) >= 0 else -1)
    add(f"bfe.{kind} {{d}}, {{a}}, {{b}}, {{c}};", (kind, "u32", "u32"), kind, lambda x, p, n: field(x, p, n, kind))
    return out


def bit_cases(kind):
    bits, out = width(kind), []
    for op, f in (("and", lambda x, y: x & y), ("or", lambda x, y: x | y), ("xor", lambda x, y: x ^ y)): out.append((f"{op}.{kind} {{d}}, {{a}}, {{b}};", (kind, kind), kind, f))
    out.append((f"not.{kind} {{d}}, {{a}};", (kind,), kind, lambda x: ~x))
    out.append((f"cnot.{kind} {{d}}, {{a}};", (kind,), kind, lambda x: int(x == 0)))
    if bits == 16: return out
    out.append((f"popc.{kind} {{d}}, {{a}};", (kind,), "u32", lambda x: bin(x).count("1")))
    out.append((f"clz.{kind} {{d}}, {{a}};", (kind,), "u32", lambda x: bits - x.bit_length()))
    out.append((f"brev.{kind} {{d}}, {{a}};", (kind,), kind, lambda x: int(f"{x:0{bits}b}"[::-1], 2)))
    out.append((f"bfi.{kind} {{d}}, {{a}}, {{b}}, {{c}}, {{e}};", (kind, kind, "u32", "u32"), kind, lambda x, y, p, n: insert(x, y, p, n, bits)))
    return out


def permuted(a, b, s, mode):
    both, out = a | b << 32, 0
    for i in range(4):
        k = s & 3
        pick = {"": s >> 4 * i & 15, ".f4e": k + i, ".b4e": (k - i) % 8, ".rc8": k, ".ecl": max(k, i), ".ecr": min(k, i), ".rc16": (k & 1) * 2 + (i & 1)}[mode]
        byte = both >> 8 * (pick & 7) & 255
        if mode == "" and pick & 8: byte = 255 if byte & 128 else 0
        out |= byte << 8 * i
    return out


def dot(a, b, c, ka, kb, bits=8, shift=0):
    part = lambda w, i, n, kind: sign(w >> n * i, f"{kind}{n}")
    if bits == 8: return c + sum(part(a, i, 8, ka) * part(b, i, 8, kb) for i in range(4))
    return c + sum(part(a, i, 16, ka) * part(b, i + shift, 8, kb) for i in range(2))


def word_cases():
    u, out = ("u32",) * 3, []
    for mode in ("", ".f4e", ".b4e", ".rc8", ".ecl", ".ecr", ".rc16"): out.append((f"prmt.b32{mode} {{d}}, {{a}}, {{b}}, {{c}};", u, "u32", lambda a, b, s, m=mode: permuted(a, b, s, m)))
    for table in (0x80, 0xFE, 0x96, 0xCA, 0x1B, 0, 255):
        f = lambda a, b, c, t=table: sum((t >> ((a >> i & 1) << 2 | (b >> i & 1) << 1 | c >> i & 1) & 1) << i for i in range(32))
        out.append((f"lop3.b32 {{d}}, {{a}}, {{b}}, {{c}}, {table:#x};", u, "u32", f))
    both = lambda a, b: b << 32 | a
    out.append(("shf.l.wrap.b32 {d}, {a}, {b}, {c};", u, "u32", lambda a, b, n: both(a, b) << (n & 31) >> 32))
    out.append(("shf.r.wrap.b32 {d}, {a}, {b}, {c};", u, "u32", lambda a, b, n: both(a, b) >> (n & 31)))
    out.append(("shf.l.clamp.b32 {d}, {a}, {b}, {c};", u, "u32", lambda a, b, n: both(a, b) << min(n, 32) >> 32))
    out.append(("shf.r.clamp.b32 {d}, {a}, {b}, {c};", u, "u32", lambda a, b, n: both(a, b) >> min(n, 32)))
    for ka in "us":
        for kb in "us":
            out.append((f"dp4a.{ka}32.{kb}32 {{d}}, {{a}}, {{b}}, {{c}};", u, "u32", lambda a, b, c, x=ka, y=kb: dot(a, b, c, x, y)))
            out.append((f"dp2a.lo.{ka}32.{kb}32 {{d}}, {{a}}, {{b}}, {{c}};", u, "u32", lambda a, b, c, x=ka, y=kb: dot(a, b, c, x, y, 16)))
            out.append((f"dp2a.hi.{ka}32.{kb}32 {{d}}, {{a}}, {{b}}, {{c}};", u, "u32", lambda a, b, c, x=ka, y=kb: dot(a, b, c, x, y, 16, 2)))
    q = ("u64", "u64")
    halves = "mov.b64 {{%r0, %r1}}, {a}; mov.b64 {{%r2, %r3}}, {b};"
    out.append((halves + "add.cc.u32 %r4, %r0, %r2; addc.u32 %r5, %r1, %r3; mov.b64 {d}, {{%r4, %r5}};", q, "u64", lambda a, b: a + b))
    out.append((halves + "sub.cc.u32 %r4, %r0, %r2; subc.u32 %r5, %r1, %r3; mov.b64 {d}, {{%r4, %r5}};", q, "u64", lambda a, b: a - b))
    out.append((halves + "mad.lo.cc.u32 %r4, %r0, %r2, %r1; madc.hi.u32 %r5, %r0, %r2, 0; mov.b64 {d}, {{%r4, %r5}};", q, "u64", lambda a, b: (a & 0xFFFFFFFF) * (b & 0xFFFFFFFF) + (a >> 32)))
    out.append(("mul24.lo.s32 {d}, {a}, {b};", ("u32", "u32"), "u32", lambda a, b: sign(a << 8, "s32") // 256 * (sign(b << 8, "s32") // 256)))
    out.append(("mad24.lo.u32 {d}, {a}, {b}, {c};", u, "u32", lambda a, b, c: (a & 0xFFFFFF) * (b & 0xFFFFFF) + c))
    pairs = lambda f: lambda a, b: sum((f(sign(a >> 16 * i, "s16"), sign(b >> 16 * i, "s16")) & 0xFFFF) << 16 * i for i in range(2))
    for op, f in (("add", lambda x, y: x + y), ("min", min), ("max", max)): out.append((f"{op}.s16x2 {{d}}, {{a}}, {{b}};", ("u32", "u32"), "u32", pairs(f)))
    return out


def check_integers(cases):
    rng = random.Random(1)
    arity = max(len(c[1]) for c in cases)
    pool = {k: edges(k) if k != "pred" else [0, 1] for c in cases for k in c[1]}
    by_signature = {}
    for c in cases: by_signature.setdefault(c[1], []).append(c)
    assert arity <= 4
    for kinds, group in by_signature.items():
        operands = draw(rng, kinds, pool)
        for row, (text, _, result, f) in zip(compute([c[:3] for c in group], operands), group):
            for i, got in enumerate(row):
                x = [sign(o[i], k) if k != "pred" else bool(o[i] & 1) for o, k in zip(operands, kinds)]
                want = int(f(*x)) & (1 << width(result)) - 1
                assert got == want, f"{text} {[hex(v) for v in x]}: {got:#x}, not {want:#x}"


@pytest.mark.parametrize("kind", ["u16", "s16", "u32", "s32", "u64", "s64"])
def test_integers(kind): check_integers(integer_cases(kind))


@pytest.mark.parametrize("kind", ["b16", "b32", "b64"])
def test_bits(kind): check_integers(bit_cases(kind))


def test_words(): check_integers(word_cases())


# ---------------------------------------------------------------- floats
def float_edges(form: str) -> list[int]:
    p, low, high, size = oracle.FORMS[form]
    size = max(16, size)
    top = (high - low + 2) << p
    found = [0, 1, 2, (1 << p) - 1, 1 << p, (1 << p) + 1, top - 1, top, top | 1 << p - 1, (-low + 1) << p, ((-low + 1) << p) + 1, ((-low + 1) << p) - 1, (-low + 2) << p, (-low) << p, (-low + 1 + p) << p,
             ((-low + 1) << p) + (1 << p - 1), (-low + 14) << p, ((-low + 8) << p) + 5]
    return found + [v | 1 << size - 1 for v in found]


def same(got: int, want: int | None, form: str) -> bool:
    return math.isnan(oracle.decode(got, form)) if want is None else got == want


def fused(op): return "fma" if op in ("fma", "mad") else op


@pytest.mark.parametrize("mode", ["rn", "rz", "rm", "rp"])
@pytest.mark.parametrize("form", ["f32", "f64", "f16", "bf16"])
def test_arithmetic(form, mode):
    if form != "f32" and mode != "rn": pytest.skip("PTX has other roundings of float32; of float64 LLVM never writes them")
    rng, edge = random.Random(2), {form: float_edges(form)}
    ops = ["add", "sub", "mul", "fma"] + (["div", "rcp", "sqrt"] if form in ("f32", "f64") else [])
    suffix = "" if form in ("f16", "bf16") and mode == "rn" else f".{mode}"
    for op in ops:
        arity = {"fma": 3, "rcp": 1, "sqrt": 1}.get(op, 2)
        written = f"fma.rn.{form}" if op == "fma" and suffix == "" else f"{op}{suffix}.{form}"
        text = f"{written} {{d}}, " + ", ".join("{" + n + "}" for n in "abc"[:arity]) + ";"
        operands = draw(rng, (form,) * arity, edge)
        row, = compute([(text, (form,) * arity, form)], operands)
        for i, got in enumerate(row):
            x = [oracle.decode(o[i] & (1 << width(form)) - 1, form) for o in operands]
            exact = oracle.arithmetic(op, *x)
            want = oracle.encode(exact, form, mode)
            if want is not None and exact == 0 and isinstance(exact, Fraction): got, want = got & ~(1 << width(form) - 1), 0   # exact cancellation: the sign follows the rounding
            assert same(got, want, form), f"{text} {x}: {got:#x}, not {want if want is None else hex(want)}"


def tiny(x): return isinstance(x, Fraction) and x != 0 and abs(x) < Fraction(2) ** -126


@pytest.mark.parametrize("op", ["add", "mul", "fma"])
def test_flush_to_zero(op):
    rng, arity = random.Random(3), 3 if op == "fma" else 2
    operands = draw(rng, ("f32",) * arity, {"f32": [1, 0x80000001, 0x7FFFFF, 0x807FFFFF, 0x800000, 0x80800000, 0x3F800000, 0x3F000000, 0xBF800000, 0x20000000, 0xA0000000, 0, 0xC00000, 0x80A00000, 0x80C00000]})
    text = f"{op}.rn.ftz.f32 {{d}}, " + ", ".join("{" + n + "}" for n in "abc"[:arity]) + ";"
    row, = compute([(text, ("f32",) * arity, "f32")], operands)
    flushed = 0
    for i, got in enumerate(row):
        x = [oracle.decode(o[i] & 0xFFFFFFFF, "f32") for o in operands]
        x = [(-0.0 if v < 0 else Fraction(0)) if tiny(v) else v for v in x]
        exact = oracle.arithmetic(op, *x)
        want = oracle.encode(exact, "f32")
        if want is not None and 0 < want & 0x7FFFFFFF < 0x800000: want, flushed = want & 0x80000000, flushed + 1
        if want is not None and want & 0x7FFFFFFF == 0 and isinstance(exact, Fraction) and exact == 0: got, want = got & 0x7FFFFFFF, 0
        assert same(got, want, "f32"), (text, x, hex(got), want)
    assert flushed


def test_saturate():
    rng = random.Random(4)
    operands = draw(rng, ("f32", "f32"), {"f32": float_edges("f32")})
    rows = compute([("add.sat.f32 {d}, {a}, {b};", ("f32", "f32"), "f32"), ("cvt.sat.f32.f32 {d}, {a};", ("f32",), "f32")], operands)
    for i, (total, clamped) in enumerate(zip(*rows)):
        a, b = (oracle.decode(o[i] & 0xFFFFFFFF, "f32") for o in operands)
        for got, exact in ((total, oracle.arithmetic("add", a, b)), (clamped, a)):
            want = 0 if exact != exact or exact <= 0 else min(oracle.encode(exact, "f32"), 0x3F800000)
            assert got & 0x7FFFFFFF == want, (a, b, hex(got))


@pytest.mark.parametrize("kind", ["f16x2", "bf16x2", "f32x2"])
@pytest.mark.parametrize("op", ["add", "sub", "mul", "fma", "min", "max", "neg", "abs"])
def test_pairs(kind, op):
    """Both halves are the scalar instruction's results."""
    if kind == "f32x2" and op not in ("add", "mul", "fma"): pytest.skip("PTX has no such instruction")
    form, rng = kind[:-2], random.Random(5)
    bits = width(form)
    low_bits = (1 << bits) - 1
    arity = {"fma": 3, "neg": 1, "abs": 1}.get(op, 2)
    halves = draw(rng, (form,) * 2 * arity, {form: float_edges(form)})
    packed = [[low & low_bits | (high & low_bits) << bits for low, high in zip(*halves[2 * j:2 * j + 2])] for j in range(arity)]
    names = ", ".join("{" + n + "}" for n in "abc"[:arity])
    written = "fma.rn" if op == "fma" else f"{op}.rn" if kind == "f32x2" else op
    row, = compute([(f"{written}.{kind} {{d}}, {names};", (kind,) * arity, kind)], packed)
    for half in range(2):
        single, = compute([(f"{written}.{form} {{d}}, {names};", (form,) * arity, form)], halves[half::2])
        assert [v >> bits * half & low_bits for v in row] == single


@pytest.mark.parametrize("form", ["f32", "f64", "f16", "bf16"])
def test_extremes(form):
    """NaN gives the other operand, or with .NaN NaN; -0 lies below +0."""
    rng, edge = random.Random(6), {form: float_edges(form)}
    operands = draw(rng, (form, form), edge)
    cases = [(f"{op}{nan}.{form} {{d}}, {{a}}, {{b}};", (form, form), form) for op in ("min", "max") for nan in (("", ".NaN") if form != "f64" else ("",))]
    order = lambda v: (v, math.copysign(1, v) if isinstance(v, float) else 1)
    for (text, *_), row in zip(cases, compute(cases, operands)):
        for i, got in enumerate(row):
            x = [oracle.decode(o[i] & (1 << width(form)) - 1, form) for o in operands]
            good = [v for v in x if v == v]
            if not good or (".NaN" in text and len(good) < 2): want = None
            else: want = oracle.encode((min if "min" in text else max)(good, key=order), form)
            assert same(got, want, form), (text, x, hex(got))


@pytest.mark.parametrize("form", ["f32", "f64", "f16", "bf16"])
def test_comparisons(form):
    rng, edge = random.Random(7), {form: float_edges(form)}
    operands = draw(rng, (form, form), edge)
    base = {"eq": lambda x, y: x == y, "ne": lambda x, y: x != y, "lt": lambda x, y: x < y, "le": lambda x, y: x <= y, "gt": lambda x, y: x > y, "ge": lambda x, y: x >= y}
    names = [*base, *(n + "u" for n in base), "num", "nan"]
    cases = [(f"setp.{n}.{form} {{d}}, {{a}}, {{b}};", (form, form), "pred") for n in names]
    if form == "f32": cases.append(("set.gt.u32.f32 {d}, {a}, {b};", (form, form), "u32")); names.append("gt")
    for n, row in zip(names, compute(cases, operands)):
        for i, got in enumerate(row):
            x, y = (oracle.decode(o[i] & (1 << width(form)) - 1, form) for o in operands)
            unordered = x != x or y != y
            if n in ("num", "nan"): want = unordered == (n == "nan")
            else: want = n.endswith("u") if unordered else base[n[:2]](x, y)
            assert bool(got) == want, (n, x, y)


APPROXIMATE = {"ex2": (lambda x: 2.0 ** x, 2 ** -20), "lg2": (lambda x: math.log2(x), 2 ** -20), "sin": (math.sin, 2 ** -19), "cos": (math.cos, 2 ** -19), "tanh": (math.tanh, 2 ** -10),
               "rcp": (lambda x: 1 / x, 2 ** -21), "rsqrt": (lambda x: 1 / math.sqrt(x), 2 ** -20), "sqrt": (math.sqrt, 2 ** -20)}


@pytest.mark.parametrize("op", APPROXIMATE)
def test_approximations(op):
    f, tolerance = APPROXIMATE[op]
    rng = random.Random(8)
    values = [abs(rng.gauss(0, 1)) + 0.01 if op in ("lg2", "rsqrt", "sqrt") else rng.gauss(0, 1) for _ in range(COUNT)]
    values = [float(np.float32(v)) for v in values]
    bits = [oracle.bits_of(v, "f32") for v in values]
    cases = [(f"{op}.approx{ftz}.f32 {{d}}, {{a}};", ("f32",), "f32") for ftz in ([""] if op == "tanh" else ["", ".ftz"])]
    exact, wrong = compute(cases, [bits]), compute(cases, [bits], approximate=True)
    assert sum(a != b for r, s in zip(exact, wrong) for a, b in zip(r, s)) > COUNT // 4, "the silicon errs, and so does the runner if it is asked to"
    for row in exact + wrong:
        for v, got in zip(values, row): assert abs(float(oracle.decode(got, "f32")) - f(v)) <= tolerance * max(abs(f(v)), 0.5 if op in ("sin", "cos", "lg2") else 0), (op, v)


def test_division_approximated():
    """Two units at most, and zero where the reciprocal of the divisor would be subnormal."""
    rng = random.Random(17)
    operands = draw(rng, ("f32", "f32"), {"f32": [0x3F800000, 0x40490FDB, 0xC2F60000, 0x7E800001, 0xFF000000, 0x7E800000, 0x7F800000]})
    rows = compute([(f"div.{m}.f32 {{d}}, {{a}}, {{b}};", ("f32", "f32"), "f32") for m in ("approx", "full")], operands)
    for i in range(COUNT):
        a, b = (oracle.decode(o[i] & 0xFFFFFFFF, "f32") for o in operands)
        exact = oracle.encode(oracle.arithmetic("div", a, b), "f32")
        assert same(rows[1][i], exact, "f32"), (a, b)
        if a == a and b == b and Fraction(2) ** 126 < abs(b) < math.inf: exact = None if abs(a) == math.inf else (o_sign(a) ^ o_sign(b)) << 31
        assert same(rows[0][i], exact, "f32"), (a, b, hex(rows[0][i]))


def o_sign(x) -> int: return int(x < 0 or (isinstance(x, float) and math.copysign(1, x) < 0))


def test_signs_and_classes():
    rng, edge = random.Random(9), {"f32": float_edges("f32")}
    operands = draw(rng, ("f32", "f32"), edge)
    names = ("finite", "infinite", "number", "notanumber", "normal", "subnormal")
    cases = [(f"testp.{n}.f32 {{d}}, {{a}};", ("f32",), "pred") for n in names]
    cases += [("copysign.f32 {d}, {a}, {b};", ("f32", "f32"), "f32"), ("neg.f32 {d}, {a};", ("f32",), "f32"), ("abs.f32 {d}, {a};", ("f32",), "f32")]
    rows = compute(cases, operands)
    for i in range(COUNT):
        a, b = (o[i] & 0xFFFFFFFF for o in operands)
        e, m = a >> 23 & 255, a & 0x7FFFFF
        want = [e < 255, e == 255 and not m, e < 255 or not m, e == 255 and m > 0, 0 < e < 255, e == 0 and m > 0, a & 0x80000000 | b & 0x7FFFFFFF, a ^ 0x80000000, a & 0x7FFFFFFF]
        assert [r[i] for r in rows] == [int(w) for w in want], hex(a)


# ---------------------------------------------------------------- conversions
def whole(x, mode: str, kind: str) -> int:
    """A float as an integer type: rounded, then the nearest there is; NaN is 0."""
    bits = width(kind)
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if kind[0] == "s" else (0, (1 << bits) - 1)
    if x != x: return 0
    if isinstance(x, float) and math.isinf(x): return high if x > 0 else low
    x = Fraction(x)
    value = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}[mode](x)
    return max(low, min(high, value))


@pytest.mark.parametrize("form", ["f32", "f64", "f16"])
def test_float_to_integer(form):
    rng, edge = random.Random(10), {form: float_edges(form) + [oracle.encode(Fraction(v), form) for v in (5, -5, Fraction(5, 2), Fraction(7, 2), Fraction(-5, 2), 127, 128, -129, 255)]}
    operands = draw(rng, (form,), edge)
    cases = [(f"cvt.{m}.{k}.{form} {{d}}, {{a}};", (form,), k) for m in ("rni", "rzi", "rmi", "rpi") for k in ("s16", "u16", "s32", "u32", "s64", "u64")]
    for (text, _, kind), row in zip(cases, compute(cases, operands)):
        for o, got in zip(operands[0], row):
            x = oracle.decode(o & (1 << width(form)) - 1, form)
            assert got == whole(x, text[4:7], kind) & (1 << width(kind)) - 1, (text, x)


@pytest.mark.parametrize("kind", ["s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"])
def test_integer_to_float(kind):
    rng = random.Random(11)
    operands = draw(rng, (kind,), {kind: edges(kind)})
    modes = ("rn", "rz", "rm", "rp") if width(kind) >= 32 else ("rn",)
    cases = [(f"cvt.{m}.{f}.{kind} {{d}}, {{a}};", (kind,), f) for m in modes for f in ("f32", "f64", "f16")]
    for (text, _, form), row in zip(cases, compute(cases, operands)):
        for o, got in zip(operands[0], row): assert got == oracle.encode(Fraction(sign(o, kind)), form, text[4:6]), (text, sign(o, kind))


def holds(to: str, kind: str) -> bool:
    """Every number of one type is one of another (then PTX has no .sat)."""
    return width(to) > width(kind) and (to[0] == "s" or kind[0] == "u") or to == kind


@pytest.mark.parametrize("kind", ["s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64"])
def test_integer_to_integer(kind):
    rng = random.Random(12)
    operands = draw(rng, (kind,), {kind: edges(kind)})
    cases = [(f"cvt{sat}.{k}.{kind} {{d}}, {{a}};", (kind,), k) for k in ("s8", "u8", "s16", "u16", "s32", "u32", "s64", "u64") for sat in ("", ".sat") if k != kind and not (sat and holds(k, kind))]
    for (text, _, to), row in zip(cases, compute(cases, operands)):
        bits = width(to)
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if to[0] == "s" else (0, (1 << bits) - 1)
        for o, got in zip(operands[0], row):
            x = sign(o, kind)
            assert got == (max(low, min(high, x)) if ".sat" in text else x) & (1 << bits) - 1, (text, x)


@pytest.mark.parametrize(("source", "to", "modes"), [("f64", "f32", "rn rz rm rp"), ("f32", "f16", "rn rz"), ("f64", "f16", "rn rz"), ("f32", "bf16", "rn rz"), ("f32", "f64", ""), ("f16", "f32", ""),
                                                     ("f16", "f64", ""), ("bf16", "f32", ""), ("f16", "bf16", "rn"), ("bf16", "f16", "rn")])
def test_float_to_float(source, to, modes):
    rng, edge = random.Random(13), {source: float_edges(source)}
    near = [0x33000000, 0x33000001, 0x33800000, 0x477FE000, 0x477FEFFF, 0x477FF000, 0x387FC000, 0x387FE000, 0x3F808000, 0x3F818000, 0x7F7FFFFF, 0x7F7F8000] if source == "f32" else []
    operands = draw(rng, (source,), {source: edge[source] + near})
    cases = [(f"cvt{'.' + m if m else ''}.{to}.{source} {{d}}, {{a}};", (source,), to) for m in modes.split() or [""]]
    for (text, *_), mode, row in zip(cases, modes.split() or ["rn"], compute(cases, operands)):
        for o, got in zip(operands[0], row):
            x = oracle.decode(o & (1 << width(source)) - 1, source)
            assert same(got, oracle.encode(x, to, mode), to), (text, x, hex(got))


@pytest.mark.parametrize("mode", ["rni", "rzi", "rmi", "rpi"])
@pytest.mark.parametrize("form", ["f32", "f64"])
def test_round_to_whole(form, mode):
    rng, edge = random.Random(14), {form: float_edges(form) + [oracle.encode(Fraction(n, 2), form) for n in range(-9, 10)]}
    operands = draw(rng, (form,), edge)
    row, = compute([(f"cvt.{mode}.{form}.{form} {{d}}, {{a}};", (form,), form)], operands)
    f = {"rni": round, "rzi": math.trunc, "rmi": math.floor, "rpi": math.ceil}[mode]
    for o, got in zip(operands[0], row):
        x = oracle.decode(o & (1 << width(form)) - 1, form)
        if x != x or isinstance(x, float): want = oracle.encode(x, form)
        else: want = oracle.encode(Fraction(f(x)), form) | (1 << width(form) - 1 if x < 0 else 0)
        assert same(got, want, form), (x, hex(got))


def test_packed_conversions():
    rng, edge = random.Random(15), {"f32": float_edges("f32") + [0x477FF000, 0x43E00000, 0x43E80000, 0x3C000000, 0x47600000, 0x37800000]}
    operands = draw(rng, ("f32", "f32"), edge)
    forms = {"f16x2": "f16", "bf16x2": "bf16", "e4m3x2": "e4m3", "e5m2x2": "e5m2"}
    cases = [("cvt.rn.f16x2.f32", "f16x2", {}), ("cvt.rz.f16x2.f32", "f16x2", {"mode": "rz"}), ("cvt.rn.bf16x2.f32", "bf16x2", {}), ("cvt.rn.relu.bf16x2.f32", "bf16x2", {"relu": True}),
             ("cvt.rn.satfinite.e4m3x2.f32", "e4m3x2", {"saturate": True}), ("cvt.rn.satfinite.e5m2x2.f32", "e5m2x2", {"saturate": True})]
    rows = compute([(f"{t} {{d}}, {{a}}, {{b}};", ("f32", "f32"), "u16" if "m" in k else "u32") for t, k, _ in cases], operands)
    for (text, kind, how), row in zip(cases, rows):
        form = forms[kind]
        bits = oracle.FORMS[form][3]
        for i, got in enumerate(row):
            for half, o in ((1, operands[0]), (0, operands[1])):
                x = oracle.decode(o[i] & 0xFFFFFFFF, "f32")
                if how.get("relu") and x < 0: x = Fraction(0)
                want = oracle.encode(x, form, how.get("mode", "rn"), how.get("saturate", False))
                part = got >> bits * half & (1 << bits) - 1
                if how.get("relu") and want == 0: part &= (1 << bits - 1) - 1
                assert same(part, want, form), (text, x, hex(part), want)


def test_tf32_and_small_floats():
    rng, edge = random.Random(16), {"f32": float_edges("f32"), "u16": list(range(0, 65536, 257))}
    operands = draw(rng, ("f32",), edge)
    row, = compute([("cvt.rna.tf32.f32 {d}, {a};", ("f32",), "u32")], operands)
    for o, got in zip(operands[0], row):
        x = oracle.decode(o & 0xFFFFFFFF, "f32")
        want = oracle.encode(x, "tf32", "rna")
        assert math.isnan(oracle.decode(got, "f32")) if want is None else got == want << 13, (x, hex(got))
    for small in ("e4m3", "e5m2"):
        operands = draw(rng, ("u16",), edge)
        row, = compute([(f"cvt.rn.f16x2.{small}x2 {{d}}, {{a}};", ("u16",), "u32")], operands)
        for o, got in zip(operands[0], row):
            for half in range(2): assert same(got >> 16 * half & 0xFFFF, oracle.encode(oracle.decode(o >> 8 * half & 255, small), "f16"), "f16")


@pytest.mark.slow
@pytest.mark.skipif(ptxas() is None, reason="needs ptxas (pip install nvidia-cuda-nvcc)")
def test_ptxas_takes_what_was_run(tmp_path, request):
    """After the tests above: their statements are PTX, not only what this reader takes for it."""
    if whole_file(request): return
    assert len(LAUNCHED) > 50, "run the whole file"
    refused = {}
    for text in LAUNCHED:
        blackwell = "f32x2" in text
        said = assemble(text.replace(".target sm_90", ".target sm_100") if blackwell else text, "sm_100" if blackwell else "sm_90", tmp_path)
        refused.update((line.partition(";")[2], text.split("\n")[int(line.split("line ")[1].split(";")[0]) - 1]) for line in said.split("\n") if "line " in line)
    assert not refused, "\n".join(f"{said}: {text}" for said, text in refused.items())
