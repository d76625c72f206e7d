"""Elementwise rows of mathematics: powers, exponentials, trigonometry, error functions, complex numbers.

Integers and bools compute in the default float (rule `inexact`), except powers, which promote.
"""
from __future__ import annotations

import math

import numpy as np

from ..core import dtype as dt
from .elementwise import TITLES, abs_, as_tensor, complexed, inexact, over, part, reciprocal, row, select, sgn, tensors, times, wide, zeros

SQRT_PI = math.sqrt(math.pi)


# ---- powers
def _integer_power(x, y):
    """A negative exponent truncates 1/xⁿ."""
    out = np.power(x, np.maximum(y, 0))
    if x.dtype.kind != "i": return out
    return np.where(y < 0, np.where(x == 1, 1, np.where(x == -1, 1 - 2 * (y & 1), 0)), out).astype(x.dtype)


def _power_base(g, o, x, y):
    less = y - 1 if hasattr(y, "shape") else x.filled((), -1, x.dtype) + y
    return select(as_tensor(y, x) == 0, 0, times(g, y * x ** less))


def _power_exponent(g, o, x, y):
    base = as_tensor(x, y)
    whole = (y.row(imag) == 0) & (y.row(real) >= 0) if hasattr(y, "dtype") and y.dtype.is_complex else y >= 0
    dead = (base == 0) & whole
    return select(dead, 0, times(g, o * base.to(o.dtype).row(log)))           # negative numbers have complex logarithms


def _power_emit(b, x, y):
    """Floats and complex numbers: the builder's pow. Integers: a product of squares, one per bit of the exponent; they wrap."""
    if x.dtype.category != dt.INT: return b.pow(x, y)
    out, square = b.const(1, x), x
    for bit in range(8 * x.dtype.size - x.dtype.signed):
        out = b.mul(out, b.select(b.ne(b.and_(y, 1 << bit), 0), square, 1))
        square = b.mul(square, square)
    if not x.dtype.signed: return out
    turned = b.select(b.eq(b.and_(y, 1), 0), b.const(1, x), -1)    # a negative exponent truncates 1/xⁿ
    return b.select(b.lt(y, 0), b.select(b.eq(x, 1), b.const(1, x), b.select(b.eq(x, -1), turned, 0)), out)


pow_ = row("pow", _power_emit, lambda x, y: _integer_power(x, y) if x.dtype.kind in "iu" else np.power(x, y), _power_base, _power_exponent,
           types="ifc", saves="abo", kernel="pow", names="", wraps=0, rounds=(0, 1))
hypot = row("hypot", lambda b, x, y: b.hypot(x, y), np.hypot, lambda g, o, x, y: g * (x / o), lambda g, o, x, y: g * (y / o), types="f", saves="abo")


# ---- functions of one number
def fn(name, emit, oracle, grad, saves="a", names=None, types="fc", **more):
    return row(name, emit, oracle, grad, rule=inexact, types=types, saves=saves, names=names, **more)


def libm(f):
    """An oracle from Python's math, element by element."""
    return np.vectorize(f, otypes=[np.float64])


def _sigmoid(x):
    if x.dtype.kind == "c": return 1 / (1 + np.exp(-x))
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1, e) / (1 + e)


def logistic(b, x):
    """The sigmoid. Builders have their own of real numbers: GPUs take the reciprocal that they have an instruction for."""
    return b.div(1, b.add(1, b.exp(b.neg(x)))) if x.parts else b.sigmoid(x)


sqrt = fn("sqrt", lambda b, x: b.sqrt(x), np.sqrt, lambda g, o, x: over(g, 2 * o), "o")
rsqrt = fn("rsqrt", wide(lambda b, x: b.div(1, b.sqrt(x)) if x.parts else b.rsqrt(x)), lambda x: 1 / np.sqrt(x), lambda g, o, x: times(-0.5 * g, o * o * o), "o")
exp = fn("exp", lambda b, x: b.exp(x), np.exp, lambda g, o, x: times(g, o), "o")
exp2 = fn("exp2", lambda b, x: b.exp2(x), np.exp2, lambda g, o, x: times(g, o) * math.log(2), "o", "exp2 special.exp2")
expm1 = fn("expm1", lambda b, x: b.expm1(x), np.expm1, lambda g, o, x: times(g, o + 1), "o", "expm1 special.expm1")
log = fn("log", lambda b, x: b.log(x), np.log, lambda g, o, x: over(g, x))
log2 = fn("log2", lambda b, x: b.log2(x), np.log2, lambda g, o, x: over(g, x * math.log(2)))
log10 = fn("log10", lambda b, x: b.log10(x), np.log10, lambda g, o, x: over(g, x * math.log(10)))
log1p = fn("log1p", lambda b, x: b.log1p(x), np.log1p, lambda g, o, x: over(g, x + 1), names="log1p special.log1p")
sin = fn("sin", lambda b, x: b.sin(x), np.sin, lambda g, o, x: times(g, x.row(cos)))
cos = fn("cos", lambda b, x: b.cos(x), np.cos, lambda g, o, x: -times(g, x.row(sin)))
tan = fn("tan", lambda b, x: b.tan(x), np.tan, lambda g, o, x: times(g, 1 + o * o), "o")
asin = fn("asin", lambda b, x: b.asin(x), np.arcsin, lambda g, o, x: times(g, (1 - x * x).row(rsqrt)), names="asin arcsin")
acos = fn("acos", lambda b, x: b.acos(x), np.arccos, lambda g, o, x: -times(g, (1 - x * x).row(rsqrt)), names="acos arccos")
atan = fn("atan", lambda b, x: b.atan(x), np.arctan, lambda g, o, x: over(g, x * x + 1), names="atan arctan")
sinh = fn("sinh", lambda b, x: b.sinh(x), np.sinh, lambda g, o, x: times(g, x.row(cosh)))
cosh = fn("cosh", lambda b, x: b.cosh(x), np.cosh, lambda g, o, x: times(g, x.row(sinh)))
tanh = fn("tanh", lambda b, x: b.tanh(x), np.tanh, lambda g, o, x: times(g, 1 - o * o), "o")
asinh = fn("asinh", lambda b, x: b.asinh(x), np.arcsinh, lambda g, o, x: times(g, (x * x + 1).row(rsqrt)), names="asinh arcsinh")
acosh = fn("acosh", lambda b, x: b.acosh(x), np.arccosh,
           lambda g, o, x: times(g, (x - 1).row(rsqrt) * (x + 1).row(rsqrt) if x.dtype.is_complex else (x * x - 1).row(rsqrt)), names="acosh arccosh")
atanh = fn("atanh", lambda b, x: b.atanh(x), np.arctanh, lambda g, o, x: over(g, 1 - x * x), names="atanh arctanh")
sigmoid = fn("sigmoid", wide(logistic), _sigmoid, lambda g, o, x: times(g, (1 - o) * o), "o",
             "sigmoid special.expit")
logit = fn("logit", wide(lambda b, x: b.log(b.div(x, b.sub(1, x)))), lambda x: np.log(x / (1 - x)),
           lambda g, o, x: select((x < 0) | (x > 1), float("nan"), g / (x * (1 - x))), types="f", names="")
erf = fn("erf", lambda b, x: b.erf(x), libm(math.erf), lambda g, o, x: g * (2 / SQRT_PI) * (-(x * x)).row(exp), types="f", names="erf special.erf")
erfc = fn("erfc", lambda b, x: b.erfc(x), libm(math.erfc), lambda g, o, x: g * (-2 / SQRT_PI) * (-(x * x)).row(exp), types="f",
          names="erfc special.erfc")
deg2rad = fn("deg2rad", lambda b, x: b.mul(x, math.pi / 180), lambda x: x * x.dtype.type(math.pi / 180), lambda g, o, x: g * (math.pi / 180), "",
             types="f", refuse={dt.COMPLEX: "deg2rad is not supported for complex tensors."})
rad2deg = fn("rad2deg", lambda b, x: b.mul(x, 180 / math.pi), lambda x: x * x.dtype.type(180 / math.pi), lambda g, o, x: g * (180 / math.pi), "",
             types="f", refuse={dt.COMPLEX: "rad2deg is not supported for complex tensors."})


def _erfinv(x):
    out = np.full(np.shape(x), np.nan)
    flat, into = np.asarray(x, np.float64).reshape(-1), out.reshape(-1)
    for i, v in enumerate(flat):
        if not abs(v) < 1:
            into[i] = math.copysign(math.inf, v) if abs(v) == 1 else math.nan
            continue
        lo, hi = -6.0, 6.0
        for _ in range(100):
            mid = (lo + hi) / 2
            lo, hi = (mid, hi) if (math.erf(mid) < v if v < 0.5 else math.erfc(mid) > 1 - v) else (lo, mid)
        into[i] = mid
    return out


erfinv = fn("erfinv", lambda b, x: b.erfinv(x), _erfinv, lambda g, o, x: g * (SQRT_PI / 2) * (o * o).row(exp), "o", "erfinv special.erfinv", types="f")

# ---- of several numbers
lerp = row("lerp", wide(lambda b, x, y, w: _lerp_emit(b, x, y, w)), lambda x, y, w: _lerp(x, y, w),
           lambda g, o, x, y, w: g - times(g, w), lambda g, o, x, y, w: times(g, w), lambda g, o, x, y, w: times(g, y - x), rule=tensors,
           saves="abc", types="fc", kernel="lerp_kernel_scalar")
lerp_number = row("lerp_number", wide(lambda b, x, y, w: _lerp_emit(b, x, y, w)), lambda x, y, w: _lerp(x, y, w),
                  lambda g, o, x, y, w: g - times(g, w), lambda g, o, x, y, w: times(g, w), rule=tensors, types="fc", kernel="lerp_kernel_scalar", names="")


def _lerp(x, y, w): return np.where(np.abs(w) < 0.5, x + w * (y - x), y - (y - x) * (1 - w))


def _lerp_emit(b, x, y, w):
    size, span = b.abs(w), b.sub(y, x)
    return b.select(b.lt(size, 0.5), b.add(x, b.mul(w, span)), b.sub(y, b.mul(span, b.sub(1, w))))


atan2 = row("atan2", lambda b, x, y: b.atan2(x, y), np.arctan2, lambda g, o, x, y: g * y * _over_square(x, y),
            lambda g, o, x, y: g * -x * _over_square(x, y),
            rule=inexact, types="f", saves="ab", names="atan2 arctan2")


def _over_square(x, y):
    size = x * x + y * y
    return select(size == 0, 0, size.row(reciprocal))


logaddexp = row("logaddexp", wide(lambda b, x, y: _logaddexp(b, x, y, b.exp, b.log1p)), lambda x, y: _np_logaddexp(x, y),
                lambda g, o, x, y: over(g, 1 + (y - x).row(exp)), lambda g, o, x, y: over(g, 1 + (x - y).row(exp)), types="fc", saves="ab")
logaddexp2 = row("logaddexp2", wide(lambda b, x, y: _logaddexp(b, x, y, b.exp2, lambda v: b.mul(b.log1p(v), 1 / math.log(2)))), np.logaddexp2,
                 lambda g, o, x, y: g / (1 + (y - x).row(exp2)), lambda g, o, x, y: g / (1 + (x - y).row(exp2)), types="f", saves="ab")
xlogy = row("xlogy", wide(lambda b, x, y: b.select(b.isnan(y), y, b.select(b.eq(x, 0), 0, b.mul(x, b.log(y))))),
            lambda x, y: np.where(np.isnan(y), y, np.where(x == 0, 0, x * np.log(y))),
            lambda g, o, x, y: select((x == 0) & (y <= 0), 0, g.row(xlogy, y)), lambda g, o, x, y: g * x / y, rule=inexact, types="f", saves="ab",
            names="xlogy special.xlogy")
xlog1py = row("xlog1py", wide(lambda b, x, y: b.select(b.isnan(y), y, b.select(b.eq(x, 0), 0, b.mul(x, b.log1p(y))))),
              lambda x, y: np.where(np.isnan(y), y, np.where(x == 0, 0, x * np.log1p(y))),
              lambda g, o, x, y: select((x == 0) & (y <= -1), 0, g.row(xlog1py, y)), lambda g, o, x, y: g * x / (y + 1),
              rule=inexact, types="f", saves="ab", names="special.xlog1py")
sinc = fn("sinc", wide(lambda b, x: b.select(b.eq(x, 0), 1, b.div(b.sin(b.mul(x, math.pi)), b.mul(x, math.pi)))), np.sinc,
          lambda g, o, x: select(x == 0, 0, times(g, ((x * math.pi).row(cos) - o) / x)), "ao", "sinc special.sinc")
entr = fn("entr", wide(lambda b, x: b.select(b.eq(x, 0), 0, b.select(b.lt(x, 0), float("-inf"), b.neg(b.mul(x, b.log(x)))))),
          lambda x: np.where(x == 0, 0, np.where(x < 0, -np.inf, -x * np.log(x))), lambda g, o, x: g * (-x.row(log) - 1), types="f",
          names="special.entr")


def _logaddexp(b, x, y, exp, log1p):
    """max + log(1 + e^-|x-y|); equal infinities have no difference. Of complex numbers the one with the larger real part is the max."""
    if x.parts:
        less = b.lt(x.re, y.re)
        top = b.select(less, y, x)
        sum_ = b.add(top, log1p(exp(b.sub(b.select(less, x, y), top))))
        nan = b.const(math.nan, x.re)
        return b.select(b.or_(b.isnan(x), b.isnan(y)), b.pair(nan, nan), b.select(b.and_(b.eq(x, y), b.isinf(x.re)), x, sum_))
    top = b.max(x, y)
    sum_ = b.add(top, log1p(exp(b.neg(b.abs(b.sub(x, y))))))
    return b.select(b.and_(b.isinf(x), b.eq(x, y)), x, sum_)


def _np_logaddexp(x, y):
    if x.dtype.kind != "c": return np.logaddexp(x, y)
    less = x.real < y.real
    return np.where(less, y, x) + np.log1p(np.exp(np.where(less, x, y) - np.where(less, y, x)))


# ---- complex numbers
def _pair(re, im):
    out = np.empty(np.broadcast_shapes(re.shape, im.shape), np.result_type(re, np.complex64))
    out.real, out.imag = re, im
    return out


def parts(kinds, default):
    """The two parts of a complex number have one type."""
    a, b = kinds[0][0], kinds[1][0]
    if not (a.is_floating_point and b.is_floating_point):
        raise RuntimeError(f"Expected both inputs to be Half, Float or Double tensors but got {TITLES[a.name]} and {TITLES[b.name]}")
    if a is not b: raise RuntimeError(f"Expected object of scalar type {TITLES[a.name]} but got scalar type {TITLES[b.name]} for second argument")
    return a


real = row("real", lambda b, x: b.real(x), np.real, lambda g, o, x: g, types="c", result=part, names="")
imag = row("imag", lambda b, x: b.imag(x), np.imag, lambda g, o, x: zeros(g).row(complex_, g), types="c", result=part, names="")
complex_ = row("complex", wide(lambda b, x, y: b.pair(x, y)), lambda x, y: _pair(x, y), lambda g, o, x, y: g.row(real),
               lambda g, o, x, y: g.row(imag), rule=parts, types="f", result=complexed)
polar = row("polar", wide(lambda b, r, a: b.pair(b.mul(r, b.cos(a)), b.mul(r, b.sin(a)))), lambda r, a: _pair(r * np.cos(a), r * np.sin(a)),
            lambda g, o, r, a: g.row(real) * o.row(sgn).row(real) + g.row(imag) * o.row(sgn).row(imag),
            lambda g, o, r, a: g.row(imag) * o.row(real) - g.row(real) * o.row(imag), rule=parts, types="f", saves="o", result=complexed)
angle = row("angle", lambda b, x: b.atan2(b.imag(x), b.real(x)) if x.dtype.is_complex
            else b.select(b.isnan(x), x, b.select(b.lt(x, 0), b.const(math.pi, x), 0)),
            lambda x: np.angle(x) if x.dtype.kind == "c" else np.where(np.isnan(x), x, np.where(x < 0, np.pi, 0)),
            lambda g, o, x: _angle_grad(g, x), rule=inexact, types="fc", saves="a", result=part)


def _angle_grad(g, x):
    if not x.dtype.is_complex: return zeros(g)
    re, im, size = x.row(real), x.row(imag), x.row(abs_)
    scale = select(size == 0, 0, g / (size * size))
    return (-im * scale).row(complex_, re * scale)
