"""Number formats that the host lacks or rounds otherwise: float16, bfloat16, tf32, the 8-bit floats, and every rounding of float32.

Everything goes through float64: sums are rounded to odd there (the last bit says whether something was lost), so that the one rounding that follows is
the exact result's.
"""
from __future__ import annotations

from ..native import absolute, bits, count_zeros, double, f64, fma, less, shift_right, square_root, to_f64

NEAREST, ZERO, UP, DOWN, AWAY = range(5)       # PTX: rn, rz, rp, rm, rna
F16, BF16, F32, TF32, F64, E4M3, E5M2 = range(7)
SATURATE_FINITE = 16                           # added to a rounding: what is too large becomes the largest number, not infinity


def mantissa_of(form):
    if form == BF16: return 7
    if form == F32: return 23
    if form == F64: return 52
    if form == E4M3: return 3
    if form == E5M2: return 2
    return 10


def bias_of(form):
    if form == F16 or form == E5M2: return 15
    if form == F64: return 1023
    if form == E4M3: return 7
    return 127


def infinity_of(form):
    """Bits of infinity; of e4m3, which has none, what lies above its largest number."""
    if form == F16: return 0x7C00
    if form == BF16: return 0x7F80
    if form == F32: return 0x7F800000
    if form == TF32: return 0x3FC00
    if form == E4M3: return 0x7F
    if form == E5M2: return 0x7C
    return 0x7FF << 52


def nan_of(form):
    if form == F16 or form == BF16: return 0x7FFF
    if form == F32: return 0x7FFFFFFF
    if form == TF32: return 0x3FFFF
    if form == E4M3 or form == E5M2: return 0x7F
    return 0x7FFFFFFFFFFFFFFF


def sign_shift(form):
    if form == F16 or form == BF16: return 15
    if form == E4M3 or form == E5M2: return 7
    if form == TF32: return 18
    if form == F64: return 63
    return 31


def pack(negative, exponent, significand, form, rounding):
    """Bits of ± significand / 2^62 * 2^exponent, where bit 62 of the significand is its first; its last bit may stand for everything below."""
    p = mantissa_of(form)
    bias = bias_of(form)
    mode = rounding & 15
    drop = 62 - p
    base = (exponent + bias - 1) << p
    if exponent < 1 - bias:
        drop += 1 - bias - exponent
        base = 0
        if drop > 62:                                            # less than the smallest number: at least half of it, or only something
            significand = shift_right(significand, 1) | significand & 1 if drop == 63 else 1
            drop = 62
    kept = shift_right(significand, drop)
    rest = significand & ((1 << drop) - 1)
    half = 1 << (drop - 1)
    more = 0
    if mode == NEAREST and (rest > half or (rest == half and kept & 1)): more = 1
    if mode == AWAY and rest >= half: more = 1
    if mode == UP and rest != 0 and negative == 0: more = 1
    if mode == DOWN and rest != 0 and negative != 0: more = 1
    out = base + kept + more
    top = infinity_of(form)
    if less(top - 1, out):
        out = top
        if rounding >= SATURATE_FINITE: out = top - 1
        elif form == E4M3: out = nan_of(form)
        elif mode == ZERO or (mode == UP and negative != 0) or (mode == DOWN and negative == 0): out = top - 1
    return negative << sign_shift(form) | out


def narrow(x: f64, form, rounding):
    """Bits of a float64 in another format."""
    b = bits(x)
    negative = shift_right(b, 63)
    exponent = shift_right(b, 52) & 2047
    fraction = b & ((1 << 52) - 1)
    if exponent == 2047:
        if fraction: return nan_of(form)
        if rounding >= SATURATE_FINITE: return negative << sign_shift(form) | (infinity_of(form) - 1)
        if form == E4M3: return negative << 7 | nan_of(form)
        return negative << sign_shift(form) | infinity_of(form)
    if exponent == 0:
        if fraction == 0: return negative << sign_shift(form)
        zeros = count_zeros(fraction)
        return pack(negative, -1011 - zeros, fraction << (zeros - 1), form, rounding)
    return pack(negative, exponent - 1023, (fraction | 1 << 52) << 10, form, rounding)


def narrow_whole(value, negative, form, rounding):
    """Bits of ± an unsigned 64-bit number."""
    if value == 0: return 0
    zeros = count_zeros(value)
    significand = value << (zeros - 1) if zeros else shift_right(value, 1) | value & 1
    return pack(negative, 63 - zeros, significand, form, rounding)


def narrow_signed(value, form, rounding): return narrow_whole(-value if value < 0 else value, value < 0, form, rounding)


def narrow_unsigned(value, form, rounding): return narrow_whole(value, 0, form, rounding)


def to_half(x: f64, rounding): return narrow(x, F16, rounding)


def widen_half(h) -> f64:
    """float16 bits to float64."""
    exponent = h >> 10 & 31
    fraction = h & 1023
    sign = (h >> 15 & 1) << 63
    if exponent == 31: return double(sign | 2047 << 52 | fraction << 42)
    if exponent == 0: return double(bits(to_f64(fraction) * 5.9604644775390625e-08) | sign)
    return double(sign | (exponent + 1008) << 52 | fraction << 42)


def widen_small(h, form) -> f64:
    """The 8-bit floats to float64."""
    p = mantissa_of(form)
    exponent = (h & 127) >> p
    fraction = h & ((1 << p) - 1)
    sign = (h >> 7 & 1) << 63
    if form == E4M3 and h & 127 == 127: return double(2047 << 52 | 1 << 51)
    if form == E5M2 and exponent == 31: return double(sign | 2047 << 52 | fraction << (52 - p))
    if exponent == 0: return double(bits(to_f64(fraction) * double((1024 - bias_of(form) - p) << 52)) | sign)
    return double(sign | (exponent + 1023 - bias_of(form)) << 52 | fraction << (52 - p))


def to_odd(s: f64, rest: f64) -> f64:
    """s + rest, where |rest| is less than a unit of s's last bit: rounded to odd."""
    if rest == 0.0 or absolute(s) == double(2047 << 52) or s != s or rest != rest: return s
    b = bits(s)
    if b & 1: return s
    if (rest > 0.0) == (s > 0.0): return double(b + 1)
    return double(b - 1)


def add_odd(a: f64, b: f64) -> f64:
    s = a + b
    back = s - a
    return to_odd(s, (a - (s - back)) + (b - back))


def fma_odd(a: f64, b: f64, c: f64) -> f64:
    """For factors of at most 26 bits: their product is exact."""
    return add_odd(a * b, c)


def divide_odd(a: f64, b: f64) -> f64:
    q = a / b
    if q == 0.0 or absolute(q) == double(2047 << 52) or b == 0.0: return q
    rest = fma(-q, b, a)
    return to_odd(q, rest if b > 0.0 else -rest)


def root_odd(a: f64) -> f64:
    r = square_root(a)
    if r == 0.0 or r != r: return r
    return to_odd(r, fma(-r, r, a))
