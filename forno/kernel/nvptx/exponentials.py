"""Exponentials, logarithms, powers and hyperbolic functions of float32, from instructions that are nearly right.

Comes in: a builder and float32 values. Goes out: a float32. Errors stand in cores.py; NaN, infinities, signed zeros and denormals are right.
"""
from __future__ import annotations

from ...core import dtype as dt
from .. import math
from ..text import Val
from .seeds import INF, MAGIC, held, inverse_root, larger, near_one, power_of_two, reciprocal, root, saturated, smaller

LOG2E, LOG2E_LOW = 1.44269502162933349609375, 1.92596303e-8      # their sum is log2(e) to 50 bits
LN2, LN2_LOW = 0.693147182464599609375, -1.90465421e-9
LOG10E, LOG10E_LOW = 0.4342944920063019, -1.01030501e-08
LOG10_2, LOG10_2_LOW = 0.3010300099849701, -1.43209889e-08
EXPM1 = (0.0013870646, 0.008366259, 0.041667435, 0.16666546, 0.49999997)
SINH = (0.00020372833, 0.008330274, 0.16666716)
TANH = (-0.005695813, 0.020630825, -0.05373714, 0.1333141, -0.3333328)
LOG = (-0.12907857, 0.14007042, -0.12181063, 0.14001575, -0.16680679, 0.20010649, -0.24999794, 0.33333212, -0.5)
LOG2 = (-0.18584192, 0.20185104, -0.17585354, 0.20205268, -0.24063821, 0.28868884, -0.3606714, 0.48089668, -0.7213475)
LOG10 = (-0.056308802, 0.060900915, -0.052827314, 0.060791902, -0.0724511, 0.08690633, -0.108572386, 0.14476427, -0.21714725)
ATANH = (0.14937194, 0.19988751, 0.33333388)
FAR = 4096.0                                   # beyond, √(x² ± 1) is x in float32, but for what log(2x) doesn't see


def scaled_exp(b, x: Val, quarters: int = 0, low: Val | None = None) -> Val:
    """e^(x + low) / 4^quarters (x is positive, if any): 2^n with n whole, held to what is normal, times 2^(the rest), which takes what n can't: at 2^-140 it is -14."""
    whole = b.fma(saturated(b, b.fma(x, LOG2E / 253, 126 / 253)), 253.0, MAGIC + 1 - 2 * quarters)
    n = b.sub(whole, MAGIC + 127 - 2 * quarters)
    rest = b.fma(x, LOG2E_LOW, b.fma(x, LOG2E, b.neg(n)))
    if low is not None: rest = b.fma(low, LOG2E, rest)
    return b.mul(power_of_two(b, rest), b.from_bits(b.shl(b.bits(whole), 23)))


def exp(b, x: Val) -> Val: return scaled_exp(b, x)


def exp2(b, x: Val) -> Val:
    """The instruction, which takes denormal results when it is asked for half of them."""
    return b.call("llvm.nvvm.ex2.approx.f", dt.float32, x)


def expm1(b, x: Val) -> Val:
    """2^n · p + (2^n - 1), halved on the way, so that it overflows no sooner than the result."""
    x = held(b, x, -26.0, 89.0)
    shifted = b.fma(x, LOG2E, MAGIC)
    n = b.sub(shifted, MAGIC)
    r = b.fma(n, -LN2_LOW, b.fma(n, -LN2, x))
    p = b.fma(b.mul(r, r), math.poly(b, r, *EXPM1), r)
    half = b.from_bits(b.add(b.shl(b.bits(shifted), 23), 126 << 23))
    y = b.fma(p, half, b.sub(half, 0.5))
    return b.copysign(b.add(y, y), x)


def sigmoid(b, x: Val) -> Val:
    """1 / (1 + e^-x), or e^x / (e^x + 1): the exponential never overflows."""
    e = exp(b, b.neg(b.abs(x)))
    r = reciprocal(b, b.add(e, 1.0))
    return b.select(b.lt(x, 0.0), b.mul(e, r), r)


def sinh(b, x: Val) -> Val:
    a, z = b.abs(x), b.mul(x, x)
    t = scaled_exp(b, a, 1)
    far = b.fma(t, 2.0, b.mul(reciprocal(b, t), -0.125))
    near = b.fma(b.mul(math.poly(b, z, *SINH), z), a, a)
    return b.copysign(b.select(b.lt(a, 1.0), near, far), x)


def cosh(b, x: Val) -> Val:
    t = scaled_exp(b, b.abs(x), 1)
    return b.fma(t, 2.0, b.mul(reciprocal(b, t), 0.125))


def tanh(b, x: Val) -> Val:
    """1 - 2 / (e^2x + 1), and a polynomial where that would cancel."""
    a, z = b.abs(x), b.mul(x, x)
    far = b.fma(reciprocal(b, b.add(power_of_two(b, b.mul(a, 2 * LOG2E)), 1.0)), -2.0, 1.0)
    near = b.fma(b.mul(math.poly(b, z, *TANH), z), a, a)
    return b.copysign(b.select(b.lt(a, 0.625), near, far), x)


# ---- logarithms
def _parts(b, x: Val) -> tuple[Val, Val]:
    """k and f with x = 2^k · (1 + f), 1 + f between 2/3 and 4/3; denormal x are scaled up first."""
    small = b.lt(x, 2.0 ** -126)
    i = b.bits(b.select(small, b.mul(x, 2.0 ** 23), x))
    up = b.and_(b.sub(i, 0x3F2AAAAB), -1 << 23)
    f = b.sub(b.from_bits(b.sub(i, up)), 1.0)
    return b.fma(b.cast(up, dt.float32), 2.0 ** -23, b.select(small, b.const(-23, x), 0.0)), f


def _ended(b, x: Val, y: Val) -> Val:
    """A logarithm, and what it is at 0, below it, at infinity and NaN."""
    strange = b.ge(b.bitcast(x, dt.uint32), 0x7F800000)
    return b.select(b.eq(x, 0.0), b.const(-INF, x), b.select(strange, b.fma(x, INF, INF), y))


def _natural(b, k: Val, f: Val) -> Val: return b.fma(k, LN2, b.fma(b.mul(f, f), math.poly(b, f, *LOG), f))
def log(b, x: Val) -> Val: return _ended(b, x, _natural(b, *_parts(b, x)))


def log2(b, x: Val) -> Val:
    k, f = _parts(b, x)
    return _ended(b, x, b.add(b.fma(f, LOG2E, b.fma(b.mul(f, f), math.poly(b, f, *LOG2), b.mul(f, LOG2E_LOW))), k))


def log10(b, x: Val) -> Val:
    k, f = _parts(b, x)
    low = b.fma(k, LOG10_2_LOW, b.mul(f, LOG10E_LOW))
    return _ended(b, x, b.fma(k, LOG10_2, b.fma(f, LOG10E, b.fma(b.mul(f, f), math.poly(b, f, *LOG10), low))))


def log1p(b, x: Val) -> Val:
    """As log, where f = (1 + x) / 2^k - 1 is rounded once."""
    u = b.add(x, 1.0)
    up = b.and_(b.sub(b.bits(u), 0x3F2AAAAB), -1 << 23)
    f = b.add(b.fma(b.from_bits(b.sub(0x40800000, up)), 0.25, -1.0), b.from_bits(b.sub(b.bits(x), up)))
    return b.copysign(_ended(b, u, _natural(b, b.mul(b.cast(up, dt.float32), 2.0 ** -23), f)), x)


def asinh(b, x: Val) -> Val:
    """log(1 + a + a² / (1 + √(1 + a²)))"""
    a = b.abs(x)
    far, z = b.gt(a, FAR), b.mul(a, a)
    near = b.fma(z, reciprocal(b, b.add(root(b, b.add(z, 1.0)), 1.0)), a)
    y = log1p(b, b.select(far, b.sub(a, 1.0), near))
    return b.copysign(b.add(y, b.select(far, b.const(LN2, x), 0.0)), x)


def acosh(b, x: Val) -> Val:
    """log(1 + t + √(2t + t²)), t = x - 1"""
    t, far = b.sub(x, 1.0), b.gt(x, FAR)
    near = b.add(t, root(b, b.fma(t, t, b.add(t, t))))
    y = b.add(log1p(b, b.select(far, t, near)), b.select(far, b.const(LN2, x), 0.0))
    return b.select(b.lt(x, 1.0), b.const(float("nan"), x), y)


def atanh(b, x: Val) -> Val:
    """log(1 + 2a / (1 - a)) / 2; from 1 on the logarithm knows what it is"""
    a = smaller(b, b.abs(x), b.const(2, x))
    return b.copysign(b.mul(log1p(b, b.mul(b.add(a, a), reciprocal(b, b.sub(1.0, a)))), 0.5), x)


# ---- powers
def rsqrt(b, x: Val) -> Val: return inverse_root(b, x)


def hypot(b, x: Val, y: Val) -> Val:
    """√(x² + y²), both scaled by a power of two that brings the larger one near 1."""
    x, y = b.abs(x), b.abs(y)
    high, low, up = near_one(b, larger(b, x, y), smaller(b, x, y))
    out = b.mul(root(b, b.fma(high, high, b.mul(low, low))), up)
    out = b.select(b.isnan(b.add(x, y)), b.add(x, y), out)
    return b.select(b.or_(b.eq(x, INF), b.eq(y, INF)), b.const(INF, x), out)


def _log2_two(b, x: Val) -> tuple[Val, Val]:
    """log2 of a positive finite number in two parts: 2 atanh((x - 1) / (x + 1)) / ln 2, its argument in two parts, too."""
    small = b.lt(x, 2.0 ** -126)
    i = b.bits(b.select(small, b.mul(x, 2.0 ** 23), x))
    up = b.and_(b.sub(i, 0x3F3504F3), -1 << 23)
    f = b.sub(b.from_bits(b.sub(i, up)), 1.0)
    k = b.fma(b.cast(up, dt.float32), 2.0 ** -23, b.select(small, b.const(-23, x), 0.0))
    r = reciprocal(b, b.add(f, 2.0))
    q = b.mul(f, r)
    q_low = b.mul(r, b.fma(b.neg(q), f, b.fma(q, -2.0, f)))
    s = b.mul(q, q)
    rest = b.fma(b.mul(s, q), math.poly(b, s, *ATANH), q_low)
    high = b.mul(q, 2 * LOG2E)
    low = b.fma(rest, 2 * LOG2E, b.fma(q, 2 * LOG2E_LOW, b.fma(q, 2 * LOG2E, b.neg(high))))
    out = b.add(k, high)
    return out, b.add(b.add(b.sub(k, out), high), low)


def pow(b, x: Val, y: Val) -> Val:
    """2^(y · log2 |x|), then what has a value of its own."""
    a = b.abs(x)
    log, log_low = _log2_two(b, a)
    t = b.mul(log, y)
    t_low = b.fma(log_low, y, b.fma(log, y, b.neg(t)))
    t_low = b.select(b.lt(b.abs(t), 256.0), t_low, 0.0)
    n = b.intrinsic("roundeven", smaller(b, larger(b, t, b.const(-126.0, x)), b.const(127.0, x)))
    scale = b.from_bits(b.add(b.shl(b.bits(b.add(n, MAGIC)), 23), 0x3F800000))
    out = b.mul(power_of_two(b, b.add(b.sub(t, n), t_low)), scale)
    return _special(b, x, y, a, out)


def _special(b, x: Val, y: Val, a: Val, out: Val) -> Val:
    """x^y from |x|^y. From 2^24 on all numbers are even."""
    endless = b.eq(b.abs(y), INF)
    out = b.select(b.or_(b.eq(a, 0.0), b.eq(a, INF)), b.select(b.xor(b.eq(a, 0.0), b.lt(y, 0.0)), b.const(0, x), INF), out)
    odd = b.eq(b.abs(b.fma(b.trunc(b.mul(y, 0.5)), -2.0, y)), 1.0)
    out = b.select(odd, b.copysign(out, x), out)
    lost = b.and_(b.and_(b.lt(x, 0.0), b.lt(a, INF)), b.ne(b.trunc(y), y))
    sum_ = b.add(a, b.abs(y))
    out = b.select(b.or_(lost, b.isnan(sum_)), b.const(float("nan"), x), out)
    one = b.or_(b.or_(b.eq(y, 0.0), b.eq(x, 1.0)), b.and_(b.eq(a, 1.0), endless))
    return b.select(one, b.const(1, x), out)
