"""Circular functions and their inverses as polynomials on a Builder's values, in float32 and float64, any number of lanes.

Comes in: a builder and values of one float dtype. Goes out: values of that dtype. NaN, infinities, signed zeros and denormals are right, and angles of
any size: those up to 2^20 are reduced in three parts of π/2, larger ones with as many bits of 2/π as they ask for. Errors are as in math.py.
"""
from __future__ import annotations

import math as m

from ..core import dtype as dt
from .math import INF, NAN, at_least, at_most, in_double, poly, whole

FUNCTIONS = ("sin", "cos", "tan", "asin", "acos", "atan", "atan2")
_PIO2 = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591833e-33)


def _two_over_pi() -> str:
    """2/π as words of 64 bits, most significant first, after a word of zeros: enough for the largest float64. π by Machin's formula in integers."""
    bits = 64 * 20 + 64

    def arctan_inverse(q):
        total, term, k = 0, (1 << bits) // q, 0
        while term: total, term, k = total + (term if k % 2 == 0 else -term) // (2 * k + 1), term // (q * q), k + 1
        return total

    pi = 4 * (4 * arctan_inverse(5) - arctan_inverse(239))
    value = (1 << 2 * bits + 1) // pi >> bits - 64 * 20
    words = [0] + [value >> 64 * (19 - i) & (1 << 64) - 1 for i in range(20)]
    return "@two_over_pi = internal constant [21 x i64] [" + ", ".join(f"i64 {w - (1 << 64) if w >> 63 else w}" for w in words) + "]"


def _payne_hanek() -> str:
    """@huge_angle(x, ptr r): for finite |x| >= 2^20 the quadrant (0..3) of x, and r = x - its multiple of π/2.

    x = m·2^e; bits of 2/π that give multiples of 4 quadrants are skipped, the next 192 times m leave 2 bits of quadrant and 190 of fraction.
    """
    return """define internal i64 @huge_angle(double %x, ptr %r) #0 {
  %i = bitcast double %x to i64
  %eb = lshr i64 %i, 52
  %ea = and i64 %eb, 2047
  %e = sub i64 %ea, 1075
  %ma = and i64 %i, 4503599627370495
  %m = or i64 %ma, 4503599627370496
  %k = add i64 %e, 62
  %w = lshr i64 %k, 6
  %s = and i64 %k, 63
  %p0 = getelementptr i64, ptr @two_over_pi, i64 %w
  %p1 = getelementptr i64, ptr %p0, i64 1
  %p2 = getelementptr i64, ptr %p0, i64 2
  %p3 = getelementptr i64, ptr %p0, i64 3
  %a0 = load i64, ptr %p0
  %a1 = load i64, ptr %p1
  %a2 = load i64, ptr %p2
  %a3 = load i64, ptr %p3
  %t0 = call i64 @llvm.fshl.i64(i64 %a0, i64 %a1, i64 %s)
  %t1 = call i64 @llvm.fshl.i64(i64 %a1, i64 %a2, i64 %s)
  %t2 = call i64 @llvm.fshl.i64(i64 %a2, i64 %a3, i64 %s)
  %mw = zext i64 %m to i128
  %t1w = zext i64 %t1 to i128
  %t2w = zext i64 %t2 to i128
  %lo = mul i128 %mw, %t2w
  %lh = lshr i128 %lo, 64
  %mid = mul i128 %mw, %t1w
  %acc = add i128 %mid, %lh
  %q1 = trunc i128 %acc to i64
  %ah = lshr i128 %acc, 64
  %ac = trunc i128 %ah to i64
  %top = mul i64 %m, %t0
  %q0 = add i64 %top, %ac
  %q2 = trunc i128 %lo to i64
  %quad = lshr i64 %q0, 62
  %f0 = call i64 @llvm.fshl.i64(i64 %q0, i64 %q1, i64 2)
  %f1 = call i64 @llvm.fshl.i64(i64 %q1, i64 %q2, i64 2)
  %round = lshr i64 %f0, 63
  %qr = add i64 %quad, %round
  %d0 = sitofp i64 %f0 to double
  %d1 = uitofp i64 %f1 to double
  %g0 = fmul double %d0, 0x3BF0000000000000
  %g1 = fmul double %d1, 0x37F0000000000000
  %g = fadd double %g0, %g1
  %rr = fmul double %g, 0x3FF921FB54442D18
  %isneg = icmp slt i64 %i, 0
  %nr = fneg double %rr
  %rs = select i1 %isneg, double %nr, double %rr
  store double %rs, ptr %r
  %nq = sub i64 0, %qr
  %qs = select i1 %isneg, i64 %nq, i64 %qr
  %out = and i64 %qs, 3
  ret i64 %out
}
"""


def _angle(b, x):
    """(q, r): x = r + q·π/2 with |r| <= π/4 in float64; q as int64. |x| up to 2^20 by Cody-Waite in three parts, above by Payne and Hanek."""
    n = b.round(b.mul(x, 2 / m.pi))
    r = x
    for part in _PIO2: r = b.fma(n, -part, r)
    # the last step's rounding matters only where the first left next to nothing, and there it is exact
    q = whole(b, at_least(b, at_most(b, n, 2.0 ** 50), -2.0 ** 50))
    a = b.abs(x)
    huge = b.and_(b.ge(a, 2.0 ** 20), b.lt(a, INF))

    def slow():
        b.helper("two_over_pi", _two_over_pi)
        b.helper("huge_angle", _payne_hanek)
        b.declared["llvm.fshl.i64"] = "declare i64 @llvm.fshl.i64(i64, i64, i64)"
        xs, qs, rs = (b.variable(v) for v in (x, q, r))
        with b.loop(0, x.n) as i:
            y = b.load(b.offset(xs[0], i, dt.float64), dt.float64)
            ya = b.abs(y)
            with b.if_(b.and_(b.ge(ya, 2.0 ** 20), b.lt(ya, INF))):
                turn = b.emit(f"call i64 @huge_angle({y}, ptr {b.offset(rs[0], i, dt.float64).text})", dt.int64)
                b.store(turn, b.offset(qs[0], i, dt.int64))
        return b.get(qs), b.get(rs)
    return b.choose(b.any_lane(huge), slow, lambda: (q, r))


def _sin_short(b, r):
    z = b.mul(r, r)
    if r.dtype is dt.float32: p = poly(b, z, -1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
    else: p = poly(b, z, 1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06, -1.98412698298579493134e-04,
                    8.33333333332248946124e-03, -1.66666666666666324348e-01)
    return b.mad(b.mul(z, r), p, r)


def _cos_short(b, r):
    z = b.mul(r, r)
    if r.dtype is dt.float32: p = poly(b, z, 2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
    else: p = poly(b, z, -1.13596475577881948265e-11, 2.08757232129817482790e-09, -2.75573143513906633035e-07, 2.48015872894767294178e-05,
                    -1.38888888888741095749e-03, 4.16666666666666019037e-02)
    half = b.mul(z, 0.5)
    w = b.sub(1.0, half)
    return b.add(w, b.mad(b.mul(z, z), p, b.sub(b.sub(1.0, w), half)))


def _wave(b, x, shift):
    """sin of x + shift·π/2."""
    q, r = _angle(b, b.cast(x, dt.float64))
    q, r = b.cast(q, dt.int32 if x.dtype is dt.float32 else dt.int64), b.cast(r, x.dtype)
    q = b.add(q, shift)
    y = b.select(b.ne(b.and_(q, 1), 0), _cos_short(b, r), _sin_short(b, r))
    flip = b.shl(b.and_(q, 2), 30 if x.dtype is dt.float32 else 62)
    y = b.from_bits(b.xor(b.bits(y), flip))
    return y if shift else b.select(b.eq(x, 0.0), x, y)


def sin(b, x): return _wave(b, x, 0)
def cos(b, x): return _wave(b, x, 1)


@in_double
def tan(b, x):
    q, r = _angle(b, x)
    s, c = _sin_short(b, r), _cos_short(b, r)
    odd = b.ne(b.and_(q, 1), 0)
    y = b.div(b.select(odd, b.neg(c), s), b.select(odd, s, c))
    return b.select(b.eq(x, 0.0), x, y)


@in_double
def atan(b, x):
    a = b.abs(x)
    far, middle = b.gt(a, 2.414213562373095), b.gt(a, 0.41421356237309503)
    top = b.select(far, b.const(-1, x), b.select(middle, b.sub(a, 1.0), a))
    z = b.div(top, b.select(far, a, b.select(middle, b.add(a, 1.0), b.const(1, x))))
    w = b.mul(z, z)
    p = poly(b, w, 1.62858201153657823623e-02, -3.65315727442169155270e-02, 4.97687799461593236017e-02, -5.83357013379057348645e-02,
              6.66107313738753120669e-02, -7.69187620504482999495e-02, 9.09088713343650656196e-02, -1.11111104054623557880e-01,
              1.42857142725034663711e-01, -1.99999999998764832476e-01, 3.33333333333329318027e-01)
    hi = b.select(far, b.const(m.pi / 2, x), b.select(middle, b.const(m.pi / 4, x), 0.0))
    lo = b.select(far, b.const(_PIO2[1], x), b.select(middle, b.const(_PIO2[1] / 2, x), 0.0))
    return b.copysign(b.add(hi, b.add(b.mad(b.mul(z, w), b.neg(p), lo), z)), x)


@in_double
def atan2(b, y, x):
    ay, ax = b.abs(y), b.abs(x)
    same = b.and_(b.eq(ay, ax), b.or_(b.eq(ay, INF), b.eq(ay, 0.0)))      # ∞/∞ is a diagonal, 0/0 an axis
    ratio = b.select(same, b.select(b.eq(ay, 0.0), b.const(0, x), 1.0), b.div(ay, ax))
    t = atan(b, ratio)
    t = b.select(b.signbit(x), b.sub(m.pi, b.sub(t, 2 * _PIO2[1])), t)
    return b.select(b.or_(b.isnan(x), b.isnan(y)), b.const(NAN, x), b.copysign(t, y))


def _arc(b, z):
    """(asin(√z) - √z) / √z for z up to 1/4."""
    p = poly(b, z, 3.47933107596021167570e-05, 7.91534994289814532176e-04, -4.00555345006794114027e-02, 2.01212532134862925881e-01,
              -3.25565818622400915405e-01, 1.66666666666666657415e-01)
    q = poly(b, z, 7.70381505559019352791e-02, -6.88283971605453293030e-01, 2.02094576023350569471e+00, -2.40339491173441421878e+00, 1.0)
    return b.div(b.mul(z, p), q)


def _halved(b, x):
    """(is |x| below 1/2?, √z, `_arc` of z): z is x² there, and elsewhere (1 - |x|) / 2, by the formula for half the angle."""
    a = b.abs(x)
    near = b.lt(a, 0.5)
    z = b.select(near, b.mul(x, x), b.mul(b.sub(1.0, a), 0.5))
    return near, b.sqrt(z), _arc(b, z)


@in_double
def asin(b, x):
    near, s, r = _halved(b, x)
    a = b.abs(x)
    far = b.sub(m.pi / 2, b.sub(b.mul(b.mad(s, r, s), 2.0), _PIO2[1]))
    return b.copysign(b.select(near, b.mad(a, r, a), far), x)


@in_double
def acos(b, x):
    near, s, r = _halved(b, x)
    middle = b.sub(m.pi / 2, b.sub(x, b.sub(_PIO2[1], b.mul(x, r))))
    edge = b.mul(b.mad(s, r, s), 2.0)
    return b.select(near, middle, b.select(b.gt(x, 0.0), edge, b.sub(m.pi, b.sub(edge, 2 * _PIO2[1]))))
