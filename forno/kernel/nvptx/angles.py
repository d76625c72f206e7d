"""Circular functions and their inverses on a GPU: in float32, and what float64 needs for angles of any size.

Comes in: a builder and values of one float dtype. Goes out: values of that dtype. Errors stand in cores.py; NaN, infinities, signed zeros and denormals are
right. Angles are reduced by π/2 in three parts, those from NEAR on with as many bits of 2/π as they ask for, in a branch that few threads take (Payne and
Hanek, 1983). The CPU's way does that by calls with memory, which is local memory here.
"""
from __future__ import annotations

from ...core import dtype as dt
from .. import circular, math
from ..text import PTR, Val
from .seeds import INF, MAGIC, PIO2, half_turn_less, larger, near_one, quarter_turn_less, quotient, reciprocal, root, smaller

NEAR = {dt.float32: 105615.0, dt.float64: 2.0 ** 20}             # above, multiples of π/2 take more bits than its parts have
PARTS = (1.5707960128784180, 3.1391647326017846e-07, 5.3903025299577648e-15)
WORDS = (0, 0xA2F9836E, 0x4E441529, 0xFC2757D1, 0xF534DDC0, 0xDB629599, 0x3C439041)      # 2/π, behind a word in front of its first
SIN = (-0.00019518082, 0.008332188, -0.16666655)
COS = (2.4432542e-05, -0.0013887311, 0.041666646, -0.5)
TAN = (0.009400406, 0.0030954597, 0.024444712, 0.05340744, 0.13338841, 0.33333156)
ASIN = (0.042158306, 0.024184778, 0.04546915, 0.074953094, 0.16666752)
ATAN = (0.0029203598, -0.01636652, 0.043209426, -0.075519934, 0.10665893, -0.14211024, 0.19993769, -0.33333153)


# ---- reduction
def reduced(b, x: Val) -> tuple[Val, Val]:
    """(q, r): x = r + q · π/2, r at most a little above π/4; q is a whole number of x's width."""
    single, a = x.dtype is dt.float32, b.abs(x)
    shift = MAGIC if single else 1.5 * 2.0 ** 52
    shifted = b.fma(x, 1 / PIO2, shift)
    n, r = b.sub(shifted, shift), x
    for part in PARTS if single else circular._PIO2: r = b.fma(n, -part, r)
    far = b.and_(b.ge(a, NEAR[x.dtype]), b.lt(a, INF))
    return b.choose(far, lambda: (_far if single else _far_double)(b, x, a), lambda: (b.bits(shifted), r))


def _table() -> str:
    return f"@two_over_pi_words = internal constant [{len(WORDS)} x i32] [{', '.join(f'i32 {w - (1 << 32) if w >> 31 else w}' for w in WORDS)}]"


def _window(b, table: str, first: Val, t: dt.dtype) -> list[Val]:
    """Three words of a table's bits from bit `first` on."""
    size = 8 * t.size
    place = b.offset(Val(f"@{table}", PTR), b.cast(b.shr(first, 5 if size == 32 else 6), dt.int64), t)
    words, by = [b.load(b.offset(place, k, t), t) for k in range(4)], b.and_(first, size - 1)
    return [b.intrinsic("fshl", p, q, by) for p, q in zip(words, words[1:])]


def _far(b, x: Val, a: Val) -> tuple[Val, Val]:
    """x = m · 2^(e - 31). What is above bit e - 32 of 2/π gives multiples of 4 quarters; the next 96 times m leave 2 bits of quarters and 62 of a fraction."""
    b.helper("two_over_pi_words", _table)
    i = b.bits(a)
    whole = b.bitcast(b.shl(b.or_(i, 0x800000), 8), dt.uint32)
    words = [b.bitcast(w, dt.uint32) for w in _window(b, "two_over_pi_words", b.sub(b.shr(i, 23), 128), dt.int32)]
    wide, *parts = (b.cast(v, dt.uint64) for v in (whole, *words))
    top, middle, bottom = (b.mul(wide, p) for p in parts)
    turned = b.add(b.add(b.shl(top, 32), middle), b.shr(bottom, 32))
    q = b.cast(b.shr(b.add(turned, 1 << 61), 62), dt.int32)
    r = b.cast(b.mul(b.cast(b.bitcast(b.shl(turned, 2), dt.int64), dt.float64), PIO2 * 2.0 ** -64), dt.float32)
    minus = b.lt(x, 0.0)
    return b.select(minus, b.neg(q), q), b.select(minus, b.neg(r), r)


def _far_double(b, x: Val, a: Val) -> tuple[Val, Val]:
    """The same with words of 64 bits, of which the fraction has 190 bits."""
    b.helper("two_over_pi", circular._two_over_pi)
    i = b.bits(a)
    whole = b.bitcast(b.or_(b.and_(i, (1 << 52) - 1), 1 << 52), dt.uint64)
    top, middle, bottom = (b.bitcast(w, dt.uint64) for w in _window(b, "two_over_pi", b.sub(b.shr(i, 52), 1013), dt.int64))
    carried = _high(b, whole, bottom)
    second = b.add(b.mul(whole, middle), carried)
    first = b.add(b.add(b.mul(whole, top), _high(b, whole, middle)), b.cast(b.lt(second, carried), dt.uint64))
    q = b.bitcast(b.shr(b.add(first, 1 << 61), 62), dt.int64)
    two = b.const(2, dt.uint64)
    high, low = b.intrinsic("fshl", first, second, two), b.intrinsic("fshl", second, b.mul(whole, bottom), two)
    r = b.mul(b.add(b.mul(b.cast(b.bitcast(high, dt.int64), dt.float64), 2.0 ** -64), b.mul(b.cast(low, dt.float64), 2.0 ** -128)), PIO2)
    minus = b.lt(x, 0.0)
    return b.select(minus, b.neg(q), q), b.select(minus, b.neg(r), r)


def _high(b, x: Val, y: Val) -> Val:
    """The upper word of a product of unsigned words of 64 bits."""
    p, q = (b.emit(f"zext {v} to i128", v.dtype).text for v in (x, y))
    product = b.emit(f"lshr i128 {b.emit(f'mul i128 {p}, {q}', x.dtype).text}, 64", x.dtype)
    return b.emit(f"trunc i128 {product.text} to i64", x.dtype)


# ---- sine, cosine, tangent
def sin_short(b, r: Val) -> Val:
    z = b.mul(r, r)
    return b.fma(b.fma(z, r, 0.0), math.poly(b, z, *SIN), r)         # the sum turns -0 to 0, which leaves r's own


def cos_short(b, r: Val) -> Val: return math.poly(b, b.mul(r, r), *COS, 1.0)


def tan_short(b, r: Val) -> Val:
    z = b.mul(r, r)
    return b.fma(b.mul(z, r), math.poly(b, z, *TAN), r)


def _wave(b, x: Val, quarters: int) -> Val:
    """The sine of x + quarters · π/2."""
    q, r = reduced(b, x)
    if quarters: q = b.add(q, quarters)
    single = x.dtype is dt.float32
    short = (cos_short, sin_short) if single else (circular._cos_short, circular._sin_short)
    y = b.select(b.ne(b.and_(q, 1), 0), *(f(b, r) for f in short))
    y = b.from_bits(b.xor(b.bits(y), b.shl(b.and_(q, 2), 30 if single else 62)))
    return y if single or quarters else b.select(b.eq(x, 0.0), x, y)


def sin(b, x: Val) -> Val: return _wave(b, x, 0)
def cos(b, x: Val) -> Val: return _wave(b, x, 1)


def tan(b, x: Val) -> Val:
    q, r = reduced(b, x)
    odd = b.ne(b.and_(q, 1), 0)
    if x.dtype is dt.float32:
        t = tan_short(b, r)
        return b.select(odd, b.neg(reciprocal(b, t)), t)
    s, c = circular._sin_short(b, r), circular._cos_short(b, r)
    y = b.div(b.select(odd, b.neg(c), s), b.select(odd, s, c))
    return b.select(b.eq(x, 0.0), x, y)


# ---- inverses
def _arc(b, x: Val) -> tuple[Val, Val]:
    """(is |x| below 1/2?, the arcsine of |x| or, if it isn't, of √((1 - |x|) / 2), which is half the arc cosine)"""
    a = b.abs(x)
    near = b.lt(a, 0.5)
    z = b.select(near, b.mul(x, x), b.fma(a, -0.5, 0.5))
    s = b.select(near, a, root(b, z))
    return near, b.fma(b.mul(math.poly(b, z, *ASIN), z), s, s)


def asin(b, x: Val) -> Val:
    near, r = _arc(b, x)
    return b.copysign(b.select(near, r, quarter_turn_less(b, b.add(r, r))), x)


def acos(b, x: Val) -> Val:
    near, r = _arc(b, x)
    twice = b.add(r, r)
    return b.select(near, quarter_turn_less(b, b.copysign(r, x)), b.select(b.gt(x, 0.0), twice, half_turn_less(b, twice)))


def _atan(b, t: Val) -> Val:
    """Of numbers up to 1."""
    z = b.mul(t, t)
    return b.fma(b.mul(math.poly(b, z, *ATAN), z), t, t)


def atan(b, x: Val) -> Val:
    a = b.abs(x)
    far = b.gt(a, 1.0)
    r = _atan(b, b.select(far, reciprocal(b, a), a))
    return b.copysign(b.select(far, quarter_turn_less(b, r), r), x)


def atan2(b, y: Val, x: Val) -> Val:
    """Of the smaller part over the larger one, then mirrored; ∞/∞ is a diagonal, 0/0 an axis."""
    ay, ax = b.abs(y), b.abs(x)
    high, low = larger(b, ay, ax), smaller(b, ay, ax)
    t = b.select(b.or_(b.eq(high, 0.0), b.eq(high, INF)), b.const(0, x), quotient(b, *near_one(b, high, low)[1::-1]))
    r = _atan(b, b.select(b.and_(b.eq(low, high), b.gt(high, 0.0)), b.const(1, x), t))
    r = b.select(b.gt(ay, ax), quarter_turn_less(b, r), r)
    r = b.copysign(b.select(b.signbit(x), half_turn_less(b, r), r), y)
    sum_ = b.add(ay, ax)
    return b.select(b.isnan(sum_), sum_, r)


SINGLE = {f.__name__: f for f in (sin, cos, tan, asin, acos, atan, atan2)}
DOUBLE = {f.__name__: f for f in (sin, cos, tan)}
