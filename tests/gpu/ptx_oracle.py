"""Arithmetic for the PTX tests, exact and slow: numbers are fractions, formats are rounded by their definition."""
import math
import struct
from fractions import Fraction

# precision (bits behind the first), smallest and largest exponent, bits
FORMS = {"f16": (10, -14, 15, 16), "bf16": (7, -126, 127, 16), "f32": (23, -126, 127, 32), "f64": (52, -1022, 1023, 64), "tf32": (10, -126, 127, 19),
         "e5m2": (2, -14, 15, 8), "e4m3": (3, -6, 8, 8)}
NAN = {"f16": 0x7FFF, "bf16": 0x7FFF, "f32": 0x7FFFFFFF, "f64": 0x7FF8 << 48, "e5m2": 0x7F, "e4m3": 0x7F}
INFINITY, MINUS = math.inf, -math.inf


def decode(bits: int, form: str):
    """A Fraction, ±inf, nan, or -0.0 as a float."""
    p, low, high, size = FORMS[form]
    sign, rest = bits >> size - 1 & 1, bits & (1 << size - 1) - 1
    exponent, fraction = rest >> p, rest & (1 << p) - 1
    if form == "e4m3":
        if rest == 0x7F: return math.nan
    elif exponent == high - low + 2: return math.nan if fraction else (MINUS if sign else INFINITY)
    value = Fraction(fraction + (1 << p if exponent else 0)) * Fraction(2) ** (max(exponent, 1) + low - 1 - p)
    if sign and value == 0: return -0.0
    return -value if sign else value


def encode(x, form: str, mode: str = "rn", saturate: bool = False) -> int | None:
    """Bits of a number in a format; None for NaN (any NaN is right)."""
    p, low, high, size = FORMS[form]
    if isinstance(x, float) and math.isnan(x): return None
    sign = 1 if x < 0 or (isinstance(x, float) and x == 0 and math.copysign(1, x) < 0) else 0
    top = 0x7F if form == "e4m3" else ((high - low + 2) << p)
    if isinstance(x, float) and math.isinf(x):
        if form == "e4m3" and not saturate: return None
        return sign << size - 1 | (top - 1 if saturate else top)
    x = abs(Fraction(x))
    exponent = low
    while exponent < high + 400 and x >= Fraction(2) ** (exponent + 1): exponent += max(1, (x / Fraction(2) ** (exponent + 1)).__floor__().bit_length() - 1)
    scaled = x / Fraction(2) ** (exponent - p)
    kept, rest = scaled.__floor__(), scaled - scaled.__floor__()
    up = {"rn": rest > Fraction(1, 2) or (rest == Fraction(1, 2) and kept & 1), "rz": False, "rp": rest > 0 and not sign, "rm": rest > 0 and sign,
          "rna": rest >= Fraction(1, 2)}[mode]
    kept += bool(up)
    bits = ((exponent - low) << p) + kept if exponent > low or kept >= 1 << p else kept
    if bits >= top:
        largest = mode == "rz" or (mode == "rp" and sign) or (mode == "rm" and not sign)
        if form == "e4m3" and not saturate: return None
        bits = top - 1 if saturate or largest else top
    return sign << size - 1 | bits


def special(op: str, *x):
    """Results of arithmetic that involve infinities, NaN or zeros of a sign, by the host's float64; None if the exact way serves."""
    if all(isinstance(v, Fraction) for v in x): return None
    f = [float(v) if isinstance(v, float) else math.copysign(1.5 if v else 0.0, -1 if v < 0 else 1) for v in x]
    if any(math.isnan(v) for v in f): return math.nan
    if op == "sub": f[1] = -f[1]
    if op in ("add", "sub"):
        if any(map(math.isinf, f)): return f[0] + f[1]
        return f[0] + f[1] if all(v == 0 for v in f) else None
    if op == "mul": return f[0] * f[1] if math.isinf(f[0]) or math.isinf(f[1]) or 0 in f else None
    if op == "fma":
        if any(map(math.isinf, f)): return f[0] * f[1] + f[2]
        return f[0] * f[1] + f[2] if f[0] * f[1] == 0 and f[2] == 0 else None
    if op == "div":
        if f[1] == 0: return math.nan if f[0] == 0 else math.copysign(INFINITY, f[0]) * math.copysign(1, f[1])
        if any(map(math.isinf, f)) or f[0] == 0: return f[0] / f[1]
        return None
    if op == "sqrt": return f[0] if f[0] == 0 else (math.nan if f[0] < 0 else f[0])
    raise ValueError(op)


def arithmetic(op: str, *x):
    """The exact result: a Fraction, or a special float. Zeros keep the sign that rounding to nearest gives them."""
    if op == "rcp": return arithmetic("div", Fraction(1), *x)
    found = special(op, *x)
    if found is not None: return found
    v = [Fraction(0) if isinstance(a, float) else a for a in x]
    if op == "add": return v[0] + v[1]
    if op == "sub": return v[0] - v[1]
    if op == "mul": return v[0] * v[1]
    if op == "fma": return v[0] * v[1] + v[2]
    if op == "div":
        if v[1] == 0: return math.nan if v[0] == 0 else math.copysign(INFINITY, v[0])
        return v[0] / v[1]
    if op == "sqrt":
        if v[0] < 0: return math.nan
        shift = 1200                                                           # far below the last bit of any format; odd where not exact
        whole = v[0] * Fraction(4) ** shift
        root = math.isqrt(whole.__floor__())
        return Fraction(root, 2 ** shift) if root * root == whole else Fraction(2 * root + 1, 2 ** (shift + 1))
    raise ValueError(op)


def bits_of(x: float, form: str) -> int:
    return struct.unpack("<I", struct.pack("<f", x))[0] if form == "f32" else struct.unpack("<Q", struct.pack("<d", x))[0]
