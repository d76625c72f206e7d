"""cvt: between all types, with PTX's roundings and saturations."""
from __future__ import annotations

from ..code import WIDTHS
from ..parse import SIZES
from .integer import signed
from .real import FORMATS, ROUNDINGS, canonical, flush, narrow, relu, saturate, widen
from .table import instruction, unknown

_REAL = ("f16", "bf16", "f32", "f64", "tf32")
_PACKED = {"f16x2": "f16", "bf16x2": "bf16", "e4m3x2": "e4m3", "e5m2x2": "e5m2"}
_TO_WHOLE = {"rni": "roundeven", "rzi": "trunc", "rmi": "floor", "rpi": "ceil"}


def types(ins) -> tuple[str, str]:
    """Destination and source: the last two types."""
    kinds = [p for p in ins.parts if p in SIZES]
    return kinds[-2], kinds[-1]


def mode_of(ins) -> int:
    found = next((ROUNDINGS[p] for p in ins.parts if p in ("rn", "rz", "rp", "rm", "rna")), 0)
    return found + (16 if "satfinite" in ins.parts else 0)


@instruction("cvt")
def convert(code, ins):
    if ins.parts[1] == "pack": return pack(code, ins)
    to, kind = types(ins)
    if to in _PACKED: return pair(code, ins, to, kind)
    if to in _REAL and kind in _REAL: return real_to_real(code, ins, to, kind)
    if to in _REAL: return whole_to_real(code, ins, to, kind)
    if kind in _REAL: return real_to_whole(code, ins, to, kind)
    whole_to_whole(code, ins, to, kind)


def whole_to_whole(code, ins, to, kind):
    have, want = WIDTHS[kind], WIDTHS[to]
    value = code.get(ins.args[1], have)
    if "sat" in ins.parts:
        value = code.resize(value, have, 128, signed(kind))
        low, high = (-(1 << want - 1), (1 << want - 1) - 1) if signed(to) else (0, (1 << want) - 1)
        value = code.op(f"select i1 {code.op(f'icmp slt i128 {value}, {low}')}, i128 {low}, i128 {value}")
        value = code.op(f"select i1 {code.op(f'icmp sgt i128 {value}, {high}')}, i128 {high}, i128 {value}")
        have = 128
    code.put(ins.args[0], code.resize(value, have, want, signed(kind)), want, signed(to))


def whole_to_real(code, ins, to, kind):
    bits, word = WIDTHS[kind], "sitofp" if signed(kind) else "uitofp"
    value = code.get(ins.args[1], bits)
    if to in ("f32", "f64") and mode_of(ins) == 0:
        t = "double" if to == "f64" else "float"
        x = code.op(f"{word} i{bits} {value} to {t}")
        return code.put_real(ins.args[0], saturate(code, x, to) if "sat" in ins.parts else x, to)
    wide = code.wide(value, bits, signed(kind))
    packed = code.call("narrow_signed" if signed(kind) else "narrow_unsigned", wide, str(FORMATS[to]), str(mode_of(ins)))
    if "sat" in ins.parts: raise unknown(ins)
    code.put(ins.args[0], code.resize(packed, 64, WIDTHS[to]), WIDTHS[to])


def source(code, ins, kind) -> tuple[str, str]:
    """The operand as float or double, and which."""
    if kind == "f64": return code.real(ins.args[1], "f64"), "f64"
    if kind == "f32": return flush(code, code.real(ins.args[1], "f32"), "ftz" in ins.parts), "f32"
    return code.op(f"fptrunc double {widen(code, code.get(ins.args[1], 16), kind)} to float"), "f32"


def real_to_whole(code, ins, to, kind):
    """Out of range gives the nearest number there is, NaN gives 0."""
    x, wide = source(code, ins, kind)
    t = "double" if wide == "f64" else "float"
    x = code.intrinsic(f"{next(n for p, n in _TO_WHOLE.items() if p in ins.parts)}.{wide}", t, (t, x))
    bits = WIDTHS[to]
    name = f"fpto{'s' if signed(to) else 'u'}i.sat.i{bits}.{wide}"
    code.put(ins.args[0], code.intrinsic(name, f"i{bits}", (t, x)), bits, signed(to))


def real_to_real(code, ins, to, kind):
    whole = next((n for p, n in _TO_WHOLE.items() if p in ins.parts), None)
    x, wide = source(code, ins, kind)
    if whole: x = code.intrinsic(f"{whole}.{wide}", "double" if wide == "f64" else "float", ("double" if wide == "f64" else "float", x))
    if to == "f64": return code.put_real(ins.args[0], finish(code, ins, x if wide == "f64" else code.op(f"fpext float {x} to double"), "f64"), "f64")
    if to == "f32" and wide == "f32": return code.put_real(ins.args[0], finish(code, ins, x, "f32"), "f32")
    if to == "f32" and mode_of(ins) == 0:
        x = flush(code, code.op(f"fptrunc double {x} to float"), "ftz" in ins.parts)
        return code.put_real(ins.args[0], finish(code, ins, x, "f32"), "f32")
    packed = to_bits(code, ins, finish(code, ins, x, wide), wide, to)
    bits = WIDTHS[to]
    if to == "tf32": packed = code.op(f"shl i32 {packed}, 13")
    code.put(ins.args[0], packed, bits)


def finish(code, ins, x, kind):
    if kind == "f32": x = canonical(code, x)
    if "sat" in ins.parts: x = saturate(code, x, kind)
    return relu(code, x, kind) if "relu" in ins.parts else x


def to_bits(code, ins, x, wide, form) -> str:
    """A float or double in a smaller format. The commonest case, bfloat16 to nearest, is a few integer operations."""
    if form == "bf16" and wide == "f32" and mode_of(ins) == 0:
        b = code.op(f"bitcast float {x} to i32")
        last = code.op(f"and i32 {code.op(f'lshr i32 {b}, 16')}, 1")
        up = code.op(f"add i32 {b}, 32767")
        up = code.op(f"add i32 {up}, {last}")
        up = code.op(f"lshr i32 {up}, 16")
        lost = code.op(f"fcmp uno float {x}, {x}")
        return code.op(f"trunc i32 {code.op(f'select i1 {lost}, i32 32767, i32 {up}')} to i16")
    if wide == "f32": x = code.op(f"fpext float {x} to double")
    return narrow(code, x, form, mode_of(ins))


def pair(code, ins, to, kind):
    """Two floats into one register: the first operand above the second."""
    form = _PACKED[to]
    each = 8 if form in ("e4m3", "e5m2") else 16
    if kind in _PACKED:                                          # e4m3x2 from f16x2, or back
        half = WIDTHS[kind] // 2
        v = code.get(ins.args[1], 2 * half)
        parts = [widen(code, code.op(f"trunc i{2 * half} {code.op(f'lshr i{2 * half} {v}, {by}')} to i{half}"), _PACKED[kind]) for by in (half, 0)]
        high, low = (narrow(code, x, form, mode_of(ins)) for x in parts)
    else:
        if len(ins.args) != 3: raise unknown(ins)
        high, low = (to_bits(code, ins, finish(code, ins, flush(code, code.real(a, "f32"), "ftz" in ins.parts), "f32"), "f32", form) for a in ins.args[1:3])
    bits = 2 * each
    code.put(ins.args[0], code.op(f"or i{bits} {code.resize(low, each, bits)}, {code.op(f'shl i{bits} {code.resize(high, each, bits)}, {each}')}"), bits)


def pack(code, ins):
    """cvt.pack.sat.to.s32.b32 d, a, b, c: saturated a and b, above what c holds."""
    to = ins.parts[3]
    bits = WIDTHS[to]
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed(to) else (0, (1 << bits) - 1)
    def one(arg):
        v = code.intrinsic("smax.i32", "i32", ("i32", code.get(arg, 32)), ("i32", str(low)))
        return code.op(f"and i32 {code.intrinsic('smin.i32', 'i32', ('i32', v), ('i32', str(high)))}, {(1 << bits) - 1}")
    value = code.op(f"or i32 {code.op(f'shl i32 {one(ins.args[1])}, {bits}')}, {one(ins.args[2])}")
    if len(ins.args) == 4: value = code.op(f"or i32 {code.op(f'shl i32 {code.get(ins.args[3], 32)}, {2 * bits}')}, {value}")
    code.put(ins.args[0], value, 32)
