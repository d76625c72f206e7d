"""Exponentials, logarithms and powers of real numbers as polynomials on a Builder's values, in float32 and float64, any number of lanes.

Comes in: a builder and values of one float dtype. Goes out: values of that dtype. NaN, infinities, signed zeros and denormals are right.
Errors are at most 2 ulp unless a function says otherwise (tests/kernel/test_math.py measures them); rarely used float32 functions compute in float64.
Coefficients: Cephes and Juffa's for float32, fdlibm's for float64, Taylor where the interval is short.
"""
from __future__ import annotations

import math as m

from ..core import dtype as dt

FUNCTIONS = ("exp", "exp2", "expm1", "log", "log2", "log10", "log1p", "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "sigmoid", "pow", "rsqrt", "hypot")
INF, NAN = float("inf"), float("nan")
LN2, LOG2E = m.log(2), 1 / m.log(2)


def poly(b, x, *coefficients):
    """Horner's scheme, highest power first."""
    out = b.const(coefficients[0], x, x.n)
    for c in coefficients[1:]: out = b.mad(out, x, c)
    return out


def in_double(function):
    """float32 operands are computed in float64."""
    def method(b, *xs):
        if xs[0].dtype is dt.float64: return function(b, *xs)
        return b.cast(function(b, *(b.cast(x, dt.float64) for x in xs)), dt.float32)
    return method


def at_most(b, x, limit): return b.select(b.gt(x, limit), limit, x)      # NaN stays
def at_least(b, x, limit): return b.select(b.lt(x, limit), limit, x)


# ---- pieces that a processor may lack
def fma_soft(b, x, y, z):
    """x·y + z in float64 without the instruction: Dekker's product in two parts (not for |x| or |y| above 2^970)."""
    p, e = _two_product_soft(b, x, y)
    s, t = two_sum(b, p, z)
    out = b.add(s, b.add(t, e))
    return b.select(b.isfinite(out), out, b.add(b.mul(x, y), z))


def _two_product_soft(b, x, y):
    def split(v):
        c = b.mul(v, 134217729.0)
        hi = b.sub(c, b.sub(c, v))
        return hi, b.sub(v, hi)
    p, (xh, xl), (yh, yl) = b.mul(x, y), split(x), split(y)
    return p, b.add(b.add(b.add(b.sub(b.mul(xh, yh), p), b.mul(xh, yl)), b.mul(xl, yh)), b.mul(xl, yl))


def round_soft(b, how, x):
    """floor, ceil, trunc, roundeven by adding and taking away 2^23 (2^52), which rounds to even."""
    big = 2.0 ** (23 if x.dtype is dt.float32 else 52)
    a = b.abs(x)
    r = b.sub(b.add(a, big), big)
    if how == "trunc": r = b.sub(r, b.select(b.gt(r, a), b.const(1, x), 0.0))
    r = b.copysign(b.select(b.lt(a, big), r, a), x)
    if how == "floor": r = b.sub(r, b.select(b.gt(r, x), b.const(1, x), 0.0))
    if how == "ceil": r = b.copysign(b.add(r, b.select(b.lt(r, x), b.const(1, x), 0.0)), x)
    return b.select(b.isnan(x), x, r)


def from_half_soft(b, h):
    """float32 of float16 bits (int32): shift into place and let a multiplication by 2^112 fix the exponent, denormals included."""
    sign = b.shl(b.and_(h, 0x8000), 16)
    body = b.mul(b.from_bits(b.shl(b.and_(h, 0x7FFF), 13)), 2.0 ** 112)
    body = b.select(b.ge(body, 65536.0), b.or_(b.bits(body), 0x7F800000), b.bits(body))       # infinities and NaNs
    return b.from_bits(b.or_(body, sign))


def to_half_soft(b, x):
    """float16 bits (int32) of a float32, rounded to nearest even."""
    i = b.bits(x)
    sign, a = b.and_(b.shr(i, 16), 0x8000), b.and_(i, 0x7FFFFFFF)
    normal = b.shr(b.add(b.add(a, 0xFFF - (112 << 23)), b.and_(b.shr(a, 13), 1)), 13)
    small = b.sub(b.bits(b.add(b.from_bits(a), 0.5)), 0x3F000000)                             # the addition rounds to multiples of 2^-24
    out = b.select(b.lt(a, 113 << 23), small, normal)
    out = b.select(b.ge(a, 0x477FF000), b.const(0x7C00, i), out)
    return b.or_(b.select(b.gt(a, 0x7F800000), b.const(0x7E00, i), out), sign)


def scale(b, x, n):
    """x · 2^n for a whole n held as a float, right down to denormals and up to infinity."""
    if b.isa.level == "avx512": return _scalef(b, x, n)
    bits, bias = (23, 127) if x.dtype is dt.float32 else (52, 1023)
    k = whole(b, n)
    half = b.shr(k, 1)
    for part in (half, b.sub(k, half)): x = b.mul(x, b.from_bits(b.shl(b.add(part, bias), bits)))
    return x


def whole(b, n):
    """A whole float of moderate size as an integer of its width: adding 1.5·2^23 (2^52) leaves it in the low bits."""
    magic = 1.5 * 2.0 ** (23 if n.dtype is dt.float32 else 52)
    return b.sub(b.bits(b.add(n, magic)), b.bits(b.const(magic, n, n.n)))


def _scalef(b, x, n):
    """AVX-512 has the instruction, for whole registers."""
    x, n = b.align(x, n)
    lanes, kind, mask = (16, "ps", "i16") if x.dtype is dt.float32 else (8, "pd", "i8")
    if x.n < lanes:
        wide = [b.shuffle(v, None, [*range(v.n), *[0] * (lanes - v.n)]) if v.n > 1 else b.splat(v, lanes) for v in (x, n)]
        return b.part(_scalef(b, *wide), 0, x.n)
    out = []
    for k in range(0, x.n, lanes):
        y = b.part(x, k, lanes)
        name = f"llvm.x86.avx512.mask.scalef.{kind}.512"
        b.declared[name] = f"declare {y.type} @{name}({y.type}, {y.type}, {y.type}, {mask}, i32)"
        out.append(b.emit(f"call {y.type} @{name}({y}, {b.part(n, k, lanes)}, {y}, {mask} -1, i32 4)", x.dtype, lanes))
    while len(out) > 1: out = [b.shuffle(p, q, range(2 * p.n)) for p, q in zip(out[::2], out[1::2])]
    return out[0]


# ---- sums and products in two parts (hi + lo, exact)
def two_sum(b, x, y):
    s = b.add(x, y)
    t = b.sub(s, x)
    return s, b.add(b.sub(x, b.sub(s, t)), b.sub(y, t))


def two_product(b, x, y):
    if not b.fma_native: return _two_product_soft(b, x, y)
    p = b.mul(x, y)
    return p, b.fma(x, y, b.neg(p))


# ---- exponentials
def _exp_parts(b, x, lo, hi):
    """n and p with exp(x) = 2^n · (1 + p), |p| < 0.42, x held to [lo, hi]."""
    x = at_least(b, at_most(b, x, hi), lo)
    n = b.round(b.mul(x, LOG2E))
    if x.dtype is dt.float32:
        r = b.mad(n, 2.12194440e-4, b.mad(n, -0.693359375, x))
        return n, _expm1_short(b, r)
    r = b.mad(n, -1.90821492927058770002e-10, b.mad(n, -6.93147180369123816490e-01, x))
    return n, _expm1_short(b, r)


def _expm1_short(b, r):
    """exp(r) - 1 for |r| < 0.35."""
    if r.dtype is dt.float32:
        q = poly(b, r, 1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
    else:
        q = poly(b, r, *(1 / m.factorial(k) for k in range(13, 1, -1)))
    return b.mad(b.mul(r, r), q, r)


def _limits(x): return (-104.0, 89.0) if x.dtype is dt.float32 else (-746.0, 710.0)


def exp(b, x):
    n, p = _exp_parts(b, x, *_limits(x))
    return scale(b, b.add(p, 1.0), n)


def _exp_half(b, x):
    """exp(x) / 2, which overflows later than exp."""
    n, p = _exp_parts(b, x, _limits(x)[0], _limits(x)[1] + 1)
    return scale(b, b.add(p, 1.0), b.sub(n, 1.0))


def exp2(b, x):
    x = at_least(b, at_most(b, x, 129.0 if x.dtype is dt.float32 else 1025.0), -151.0 if x.dtype is dt.float32 else -1076.0)
    n = b.round(x)
    return scale(b, b.add(_expm1_short(b, b.mul(b.sub(x, n), LN2)), 1.0), n)


def expm1(b, x):
    lo, hi = (-20.0, 89.0) if x.dtype is dt.float32 else (-40.0, 710.0)
    n, p = _exp_parts(b, x, lo, hi)
    y = scale(b, b.add(p, b.sub(1.0, scale(b, b.const(1, x, x.n), b.neg(at_most(b, n, 64.0))))), n)
    return b.select(b.eq(x, 0.0), x, y)


def sigmoid(b, x): return b.div(1.0, b.add(exp(b, b.neg(x)), 1.0))


def sinh(b, x):
    if x.dtype is dt.float32: return b.cast(sinh(b, b.cast(x, dt.float64)), dt.float32)
    a = b.abs(x)
    t, e = expm1(b, at_most(b, a, 2.0)), _exp_half(b, a)
    small = b.mul(b.add(t, b.div(t, b.add(t, 1.0))), 0.5)
    return b.copysign(b.select(b.lt(a, 1.0), small, b.sub(e, b.div(0.25, e))), x)


def cosh(b, x):
    e = _exp_half(b, b.abs(x))
    return b.add(e, b.div(0.25, e))


def tanh(b, x):
    a = b.abs(x)
    if x.dtype is dt.float32:
        z = b.mul(x, x)
        p = poly(b, z, -5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
        small = b.mad(b.mul(p, z), a, a)
        large = b.sub(1.0, b.div(2.0, b.add(exp(b, b.add(a, a)), 1.0)))
        return b.copysign(b.select(b.lt(a, 0.625), small, large), x)
    t = expm1(b, b.mul(at_most(b, a, 20.0), 2.0))
    return b.copysign(b.div(t, b.add(t, 2.0)), x)


# ---- logarithms
def _log_parts(b, x):
    """k and f with x = 2^k · (1 + f), 1 + f between √½ and √2; denormal x are scaled up first."""
    bits, tiny, up = (23, 1.17549435e-38, 23.0) if x.dtype is dt.float32 else (52, 2.2250738585072014e-308, 52.0)
    small = b.lt(x, tiny)
    i = b.bits(b.select(small, b.mul(x, 2.0 ** up), x))
    root = 0x3F3504F3 if x.dtype is dt.float32 else 0x3FE6A09E667F3BCD
    k = b.shr(b.sub(i, root), bits)
    f = b.sub(b.from_bits(b.sub(i, b.shl(k, bits))), 1.0)
    kf = b.cast(k, dt.float32) if x.dtype is dt.float32 else _small_float(b, k)
    return b.sub(kf, b.select(small, b.const(up, x), 0.0)), f


def _small_float(b, k):
    """float64 of a small int64; processors before AVX-512 lack the instruction."""
    magic = b.const(1.5 * 2.0 ** 52, dt.float64, k.n)
    return b.sub(b.from_bits(b.add(k, b.bits(magic))), magic)


def _log_short(b, f):
    """log(1 + f) for 1 + f between √½ and √2."""
    if f.dtype is dt.float32:
        z = b.mul(f, f)
        p = poly(b, f, 7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1,
                  -2.4999993993e-1, 3.3333331174e-1)
        return f, b.mad(z, -0.5, b.mul(b.mul(p, f), z))
    s = b.div(f, b.add(f, 2.0))
    z, half = b.mul(s, s), b.mul(b.mul(f, f), 0.5)
    r = b.mul(z, poly(b, z, 1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01, 2.222219843214978396e-01,
                       2.857142874366239149e-01, 3.999999999940941908e-01, 6.666666666666735130e-01))
    return f, b.sub(b.mul(s, b.add(half, r)), half)


def _log_ends(b, x, y):
    """What a logarithm gives at 0, below it, at infinity and NaN."""
    y = b.select(b.lt(x, INF), y, x)                              # infinity and NaN are their own logarithms
    return b.select(b.gt(x, 0.0), y, b.select(b.eq(x, 0.0), b.const(-INF, x), b.const(NAN, x)))


def _log_finite(b, x):
    k, f = _log_parts(b, x)
    f, rest = _log_short(b, f)
    hi, lo = (0.693359375, -2.12194440e-4) if x.dtype is dt.float32 else (6.93147180369123816490e-01, 1.90821492927058770002e-10)
    return b.mad(k, hi, b.add(f, b.mad(k, lo, rest)))


def log(b, x): return _log_ends(b, x, _log_finite(b, x))


def log1p(b, x):
    """log of u = 1 + x, plus what the sum lost divided by u."""
    u = b.add(x, 1.0)
    lost = b.select(b.lt(b.abs(x), 1.0), b.sub(x, b.sub(u, 1.0)), b.sub(1.0, b.sub(u, x)))
    y = b.add(_log_finite(b, u), b.div(lost, u))
    return b.select(b.eq(x, 0.0), x, _log_ends(b, u, y))


def _log_base(b, x, ratio, base_hi, base_lo):
    k, f = _log_parts(b, x)
    f, rest = _log_short(b, f)
    y = b.add(b.mul(f, ratio), b.mul(rest, ratio))
    return _log_ends(b, x, b.add(b.mul(k, base_hi), b.mad(k, base_lo, y)))


@in_double
def log2(b, x): return _log_base(b, x, LOG2E, 1.0, 0.0)


@in_double
def log10(b, x): return _log_base(b, x, 1 / m.log(10), 3.01029995663611771306e-01, 3.69423907715893078616e-13)


@in_double
def asinh(b, x):
    a = b.abs(x)
    big = b.gt(a, 2.0 ** 28)
    z = b.mul(a, a)
    small = log1p(b, b.select(big, b.sub(a, 1.0), b.add(a, b.div(z, b.add(b.sqrt(b.add(z, 1.0)), 1.0)))))
    return b.copysign(b.select(big, b.add(small, LN2), small), x)


@in_double
def acosh(b, x):
    t = b.sub(x, 1.0)
    big = b.gt(x, 2.0 ** 28)
    y = log1p(b, b.select(big, t, b.add(t, b.sqrt(b.mad(t, t, b.add(t, t))))))
    return b.select(b.lt(x, 1.0), b.const(NAN, x), b.select(big, b.add(y, LN2), y))


@in_double
def atanh(b, x):
    a = b.abs(x)
    return b.copysign(b.mul(log1p(b, b.div(b.add(a, a), b.sub(1.0, a))), 0.5), x)


# ---- powers
def rsqrt(b, x): return b.div(1.0, b.sqrt(x))


@in_double
def hypot(b, x, y):
    x, y = b.abs(x), b.abs(y)
    hi, lo = b.select(b.gt(x, y), x, y), b.select(b.gt(x, y), y, x)
    ratio = b.div(lo, b.select(b.eq(hi, 0.0), b.const(1, x), hi))
    out = b.mul(hi, b.sqrt(b.mad(ratio, ratio, 1.0)))
    infinite = b.or_(b.eq(x, INF), b.eq(y, INF))
    return b.select(infinite, b.const(INF, x), out)


def _log2_two(b, x):
    """log2(x) in two parts, about 66 bits: s = f / (2 + f), log = 2s + 2s³/3 (both in two parts) + s⁵·(…)."""
    k, f = _log_parts(b, x)
    top, top_lo = two_sum(b, f, b.const(2, x, x.n))
    s = b.div(f, top)
    p, e = two_product(b, s, top)
    s_lo = b.div(b.sub(b.sub(b.sub(f, p), e), b.mul(s, top_lo)), top)
    z, z_lo = two_product(b, s, s)
    z_lo = b.mad(b.add(s, s), s_lo, z_lo)
    cube, c_lo = two_product(b, z, s)
    c_lo = b.add(c_lo, b.mad(z, s_lo, b.mul(z_lo, s)))
    third, t_lo = two_product(b, cube, b.const(1 / 3, x, x.n))
    t_lo = b.add(t_lo, b.mad(c_lo, 1 / 3, b.mul(cube, 1.850371707708594e-17)))
    rest = b.mul(b.mul(cube, z), poly(b, z, *(1 / d for d in range(23, 3, -2))))
    hi, lo = two_sum(b, s, third)
    lo = b.add(lo, b.add(b.add(s_lo, t_lo), rest))
    hi, lo = two_sum(b, hi, lo)
    ratio, ratio_lo = 2.8853900817779268, 4.0710547481862066e-17           # 2 / ln 2
    out, o_lo = two_product(b, hi, b.const(ratio, x, x.n))
    o_lo = b.add(o_lo, b.mad(lo, ratio, b.mul(hi, ratio_lo)))
    out, more = two_sum(b, k, out)
    return out, b.add(more, o_lo)


def pow(b, x, y):
    """Integers multiply; floats are 2^(y · log2 x), with the logarithm in two parts."""
    if x.dtype.category != dt.FLOAT: return _pow_int(b, x, y)
    a = b.abs(x)
    ends = b.or_(b.eq(a, 0.0), b.not_(b.isfinite(a)))
    if x.dtype is dt.float32: return _pow_special(b, x, y, b.select(ends, _pow_ends(b, a, y), _pow_single(b, b.select(ends, b.const(1, x), a), y)), 2.0 ** 24)
    hi, lo = _log2_two(b, b.select(ends, b.const(1, x), a))
    hi, lo = b.select(ends, b.select(b.eq(a, 0.0), b.const(-INF, x), a), hi), b.select(ends, b.const(0, x), lo)
    t, t_lo = two_product(b, y, hi)
    t_lo = b.mad(y, lo, t_lo)
    t_lo = b.select(b.lt(b.abs(t), 1100.0), t_lo, 0.0)
    t = at_least(b, at_most(b, t, 1100.0), -1100.0)
    n = b.round(t)
    r = b.mul(b.add(b.sub(t, n), t_lo), LN2)
    return _pow_special(b, x, y, scale(b, b.add(_expm1_short(b, r), 1.0), n), 2.0 ** 53)


def _pow_single(b, a, y):
    """a^y of positive finite float32, in float64 of which 36 bits are right."""
    k, f = (b.cast(v, dt.float64) for v in _log_parts(b, a))
    s = b.div(f, b.add(f, 2.0))
    t = b.mul(b.mad(s, poly(b, b.mul(s, s), *(2 * LOG2E / d for d in range(13, 0, -2))), k), b.cast(y, dt.float64))
    t = at_least(b, at_most(b, t, 300.0), -300.0)
    n = b.round(t)
    r = b.mul(b.sub(t, n), LN2)
    return b.cast(scale(b, poly(b, r, *(1 / m.factorial(k) for k in range(8, -1, -1))), n), dt.float32)


def _pow_ends(b, a, y):
    """a^y of zero and infinity, for y other than zero."""
    return b.select(b.xor(b.eq(a, 0.0), b.lt(y, 0.0)), b.const(0, a), INF)


def _pow_special(b, x, y, out, even):
    """x^y from |x|^y: signs, and what has a value of its own. From `even` on all numbers are even."""
    whole = b.eq(b.trunc(y), y)
    odd = b.and_(b.and_(whole, b.lt(b.abs(y), even)), b.ne(b.trunc(b.mul(y, 0.5)), b.mul(y, 0.5)))
    out = b.select(b.and_(b.signbit(x), odd), b.neg(out), out)
    out = b.select(b.and_(b.and_(b.lt(x, 0.0), b.gt(x, -INF)), b.not_(whole)), b.const(NAN, x), out)
    one = b.or_(b.or_(b.eq(y, 0.0), b.eq(x, 1.0)), b.and_(b.eq(x, -1.0), b.eq(b.abs(y), INF)))
    return b.select(b.or_(b.and_(b.isnan(x), b.ne(y, 0.0)), b.and_(b.isnan(y), b.ne(x, 1.0))), b.const(NAN, x), b.select(one, b.const(1, x), out))


def _pow_int(b, x, y):
    if x.dtype is dt.bool: return b.or_(x, b.not_(y))
    n = max(x.n, y.n)
    x, y = b.splat(x, n), b.splat(y, n)
    negative = b.lt(y, 0) if x.dtype.signed else b.const(False, dt.bool, n)
    base, left, out = b.variable(x), b.variable(b.select(negative, b.const(0, y), y)), b.variable(b.const(1, x, n))
    with b.loop_while() as again:
        e, v = b.get(left), b.get(base)
        b.set(out, b.select(b.ne(b.and_(e, 1), 0), b.mul(b.get(out), v), b.get(out)))
        b.set(base, b.mul(v, v))
        e = b.emit(f"lshr {e.type} {e.text}, {b.const(1, e, n).text}", e.dtype, n)
        b.set(left, e)
        again(b.any_lane(b.ne(e, 0)))
    r = b.get(out)
    if not x.dtype.signed: return r
    minus = b.select(b.ne(b.and_(y, 1), 0), b.const(-1, x, n), 1)
    inverse = b.select(b.eq(x, 1), b.const(1, x, n), b.select(b.eq(x, -1), minus, 0))
    return b.select(negative, inverse, r)


@in_double
def fmod(b, x, y):
    """Exact: quotients of at most 24 bits at a time leave remainders that float64 holds without rounding."""
    ay, n = b.splat(b.abs(y), max(x.n, y.n)), max(x.n, y.n)
    good = b.and_(b.isfinite(x), b.gt(ay, 0.0))
    left = b.variable(b.splat(b.select(good, b.abs(x), b.const(0, x)), n))
    safe = b.select(b.gt(ay, 0.0), ay, b.const(1, x, n))
    with b.loop_while() as again:
        r = b.get(left)
        q = b.div(r, safe)
        q = b.select(b.lt(b.abs(q), INF), q, b.copysign(b.const(1.7e308, x), q))
        q = b.trunc(b.from_bits(b.and_(b.bits(q), -1 << 29)))
        r = b.fma(b.neg(q), safe, r)
        b.set(left, r)
        again(b.any_lane(b.ge(b.abs(r), safe)))
    r = b.get(left)
    r = b.select(b.lt(r, 0.0), b.add(r, ay), r)
    r = b.select(b.isinf(y), b.abs(x), r)
    r = b.select(b.or_(b.not_(good), b.isnan(y)), b.const(NAN, x), r)
    return b.copysign(r, x)


def floordiv(b, x, y):
    """PyTorch's: by way of the remainder, so that the quotient's floor is not off by its rounding."""
    r = b.rem(x, y)
    q = b.div(b.sub(x, r), y)
    q = b.select(b.and_(b.ne(r, 0.0), b.xor(b.lt(y, 0.0), b.lt(r, 0.0))), b.sub(q, 1.0), q)
    whole = b.floor(q)
    whole = b.select(b.gt(b.sub(q, whole), 0.5), b.add(whole, 1.0), whole)
    direct = b.div(x, y)
    out = b.select(b.eq(q, 0.0), b.copysign(b.const(0, x), direct), whole)
    return b.select(b.eq(y, 0.0), direct, out)
