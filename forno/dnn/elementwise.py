"""Elementwise rows: arithmetic, comparisons, logic, bits, and the functions of one number.

A row reads in one line: name, types it takes, `emit` on the kernel floor's builder, NumPy oracle, gradient per operand.

Rules of types (`rule`):   promote   PyTorch's result type of all operands
                           inexact   the same, integers and bools compute in the default float
                           choose    (condition, a, b): the condition is bool, a and b promote
                           keep      the first operand's type, whatever the others are
`types` lists the categories the compute type may have: b bool, i integer, f float, c complex; others raise PyTorch's error.
`result` maps the compute type to the result's: same, boolean, real.

Gradient rules are `(g, o, *operands)`. Their numbers are Tensors or references to run-time numbers, so a number is only ever an operand
of an operator. Integer division by zero has no result here: the kernel gives 0 or -1; PyTorch raises RuntimeError "ZeroDivisionError".
"""
from __future__ import annotations

import math

import numpy as np

from ..core import dtype as dt
from ..core.op import Elementwise, dtype_of
from ..core.shape import broadcast
from ..core.state import state

# ---- rules of types
TITLES = {"uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int", "int64": "Long", "uint16": "UInt16", "uint32": "UInt32", "uint64": "UInt64",
          "float16": "Half", "bfloat16": "BFloat16", "float32": "Float", "float64": "Double", "complex32": "ComplexHalf", "complex64": "ComplexFloat",
          "complex128": "ComplexDouble", "bool": "Bool"}


def promote(kinds, default): return dt.result_type(kinds, default)


def inexact(kinds, default):
    t = dt.result_type(kinds, default)
    return t if t.category >= dt.FLOAT else default


def choose(kinds, default): return (dt.bool, *(promote(kinds[1:], default),) * 2)


def keep(kinds, default): return kinds[0][0] if isinstance(kinds[0], tuple) else dt.default_for(kinds[0], default)


def fill(kinds, default): return kinds[0][0], dt.bool, kinds[0][0]


def same(t): return t
def boolean(t): return dt.bool
def part(t): return t.real
def complexed(t): return t.to_complex()


def operand_dtypes(row: Elementwise, operands) -> tuple[dt.dtype, ...]:
    """The type every operand is converted to before `row.emit` sees it."""
    t = row.compute([dtype_of(x) for x in operands], state.default_dtype)
    return t if isinstance(t, tuple) else (t,) * len(operands)


def infer_elementwise(row_compute, row_result, operands):
    t = row_compute([dtype_of(x) for x in operands], state.default_dtype)
    return row_result(t[-1] if isinstance(t, tuple) else t), broadcast(*(x.shape for x in operands if not isinstance(x, type)))


def row(name, emit, oracle, *grads, rule=promote, result=same, types="bifc", saves="", names=None, kernel=None, refuse=None) -> Elementwise:
    """Make one row. `kernel` is PyTorch's name for it in "not implemented for" errors; `refuse` maps a category to another error text."""
    allowed = {"bifc".index(c) for c in types}

    def compute(kinds, default):
        out = rule(kinds, default)
        t = out[-1] if isinstance(out, tuple) else out
        if t.category not in allowed:
            if refuse and t.category in refuse: raise RuntimeError(refuse[t.category])
            raise NotImplementedError(f"\"{kernel or name + '_cpu'}\" not implemented for '{TITLES[t.name]}'")
        return out

    return Elementwise(name, lambda attr, *xs: infer_elementwise(compute, result, xs),
                       grads=tuple(g and (lambda g_, o, *xs, attr=None, rule_=g: rule_(g_, o, *xs)) for g in grads), saves=saves,
                       oracle=lambda attr, *xs: _quiet(oracle, xs), emit=emit, compute=compute, result=result,
                       names=(name,) if names is None else tuple(names.split()))


def _quiet(oracle, xs):
    with np.errstate(all="ignore"): return oracle(*xs)


# ---- what gradient rules are written with
def conjugate(t):
    """The conjugate of a tensor; a real one is its own."""
    return t.row(conj_) if t.dtype.is_complex else t


def times(g, x):
    """g · conjugate(x), where x may be a number: conjugate(conjugate(g) · x)."""
    return conjugate(conjugate(g) * x) if g.dtype.is_complex else g * x


def over(g, x): return conjugate(conjugate(g) / x) if g.dtype.is_complex else g / x


def select(cond, a, b): return cond.row(where, a, b)


def zeros(t): return t.filled(t.shape, 0)


def as_tensor(x, like):
    """A number as a 0-d tensor of `like`'s type, for rules that need a function of it."""
    return x if hasattr(x, "shape") else like.filled((), 0, like.dtype) + x


def const(b, x, value):
    """A constant of x's type, next to x."""
    return b.const(value, x)


# ---- arithmetic
BOOL_SUB = "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` operator instead."
BOOL_NEG = "Negation, the `-` operator, on a bool tensor is not supported. If you are trying to invert a mask, use the `~` or `logical_not()` operator instead."


def _int_div(x, y):
    """Division of integers rounding to minus infinity, 0 where y is 0."""
    safe = np.where(y == 0, np.ones_like(y), y)
    return np.where(y == 0, np.zeros_like(x), x // safe)


def _floor_divide(x, y):
    if x.dtype.kind in "iu": return _int_div(x, y)
    q = np.floor_divide(x, y)
    return np.where(y == 0, x / y, q)


def _trunc_divide(x, y):
    if x.dtype.kind not in "iu": return np.trunc(x / y)
    q = _int_div(x, y)
    return q + ((x - q * y != 0) & ((x < 0) != (y < 0)) & (y != 0)).astype(q.dtype)


def _remainder(x, y):
    if x.dtype.kind not in "iu": return np.remainder(x, y)
    return np.where(y == 0, np.zeros_like(x), np.remainder(x, np.where(y == 0, np.ones_like(y), y)))


def _fmod(x, y):
    if x.dtype.kind not in "iu": return np.fmod(x, y)
    return np.where(y == 0, np.zeros_like(x), np.fmod(x, np.where(y == 0, np.ones_like(y), y)))


add = row("add", lambda b, x, y: b.add(x, y), np.add, lambda g, o, x, y: g, lambda g, o, x, y: g, names="")
sub = row("sub", lambda b, x, y: b.sub(x, y), np.subtract, lambda g, o, x, y: g, lambda g, o, x, y: -g, types="ifc", refuse={dt.BOOL: BOOL_SUB}, names="")
mul = row("mul", lambda b, x, y: b.mul(x, y), np.multiply, lambda g, o, x, y: times(g, y), lambda g, o, x, y: times(g, x), saves="ab", names="mul multiply")
div = row("div", lambda b, x, y: b.div(x, y), np.divide, lambda g, o, x, y: over(g, y), lambda g, o, x, y: -times(g, x / y / y),
          rule=inexact, types="fc", saves="ab", names="true_divide")
# x + alpha·y, as one row: PyTorch fuses the product too; sub(alpha=k) is this row with -k
add_scaled = row("add_scaled", lambda b, x, y, k: b.fma(y, k, x), lambda x, y, k: x + y * k,
                 lambda g, o, x, y, k: g, lambda g, o, x, y, k: times(g, k), names="")
floor_divide = row("floor_divide", lambda b, x, y: b.floordiv(x, y), _floor_divide, None, None, types="if", kernel="div_floor_cpu")
trunc_divide = row("trunc_divide", lambda b, x, y: b.truncdiv(x, y), _trunc_divide, None, None, types="if", kernel="div_trunc_cpu", names="")
remainder = row("remainder", lambda b, x, y: b.mod(x, y), _remainder, lambda g, o, x, y: g, lambda g, o, x, y: -g * (x - o) / y, types="if", saves="ab")
fmod = row("fmod", lambda b, x, y: b.rem(x, y), _fmod, lambda g, o, x, y: g, lambda g, o, x, y: -g * (x / y).row(trunc), types="if", saves="ab")
neg = row("neg", lambda b, x: b.neg(x), np.negative, lambda g, o, x: -g, types="ifc", refuse={dt.BOOL: BOOL_NEG}, names="neg negative")
reciprocal = row("reciprocal", lambda b, x: b.div(const(b, x, 1), x), lambda x: 1 / x, lambda g, o, x: -times(g, o * o), rule=inexact, types="fc", saves="o")
square = row("square", lambda b, x: b.mul(x, x), np.square, lambda g, o, x: times(g, 2 * x), types="ifc", saves="a")


def _pow(x, y):
    if x.dtype.kind not in "iu": return np.power(x, y)
    out = np.power(x, np.maximum(y, 0))                            # a negative exponent of an integer truncates 1/xⁿ
    return np.where(y < 0, np.where(x == 1, 1, np.where(x == -1 if x.dtype.kind == "i" else False, 1 - 2 * (y & 1), 0)), out).astype(x.dtype)


def _pow_base(g, o, x, y):
    less = (x.filled((), -1, x.dtype) + y) if not hasattr(y, "shape") else y - 1
    return select(as_tensor(y, x) == 0, 0, times(g, y * x ** less))


def _pow_exponent(g, o, x, y):
    base = as_tensor(x, y)
    return select((base == 0).row(logical_and, y >= 0) if not base.dtype.is_complex and not y.dtype.is_complex else base == 0, 0, times(g, o * base.row(log)))


pow_ = row("pow", lambda b, x, y: b.pow(x, y), _pow, _pow_base, _pow_exponent, types="ifc", saves="abo", names="")
maximum = row("maximum", lambda b, x, y: b.max(x, y), np.maximum, lambda g, o, x, y: select(x == y, g / 2, select(x < y, 0, g)),
              lambda g, o, x, y: select(y == x, g / 2, select(y < x, 0, g)), types="bif", saves="ab")
minimum = row("minimum", lambda b, x, y: b.min(x, y), np.minimum, lambda g, o, x, y: select(x == y, g / 2, select(x > y, 0, g)),
              lambda g, o, x, y: select(y == x, g / 2, select(y > x, 0, g)), types="bif", saves="ab")
abs_ = row("abs", lambda b, x: b.abs(x), np.abs, lambda g, o, x: g * x.row(sgn), result=part, types="ifc", saves="a", names="abs absolute")
sign = row("sign", lambda b, x: _sign(b, x), lambda x: np.where(x > 0, 1, np.where(x < 0, -1, 0)).astype(x.dtype), lambda g, o, x: zeros(g), types="bif")

# ---- comparisons and logic; the result is bool and has no gradient
lt = row("lt", lambda b, x, y: b.lt(x, y), np.less, types="bif", result=boolean, names="lt less")
le = row("le", lambda b, x, y: b.le(x, y), np.less_equal, types="bif", result=boolean, names="le less_equal")
gt = row("gt", lambda b, x, y: b.gt(x, y), np.greater, types="bif", result=boolean, names="gt greater")
ge = row("ge", lambda b, x, y: b.ge(x, y), np.greater_equal, types="bif", result=boolean, names="ge greater_equal")
eq = row("eq", lambda b, x, y: b.eq(x, y), np.equal, result=boolean)
ne = row("ne", lambda b, x, y: b.ne(x, y), np.not_equal, result=boolean, names="ne not_equal")


def _true(b, x): return x if x.dtype is dt.bool else b.ne(x, const(b, x, 0))


logical_not = row("logical_not", lambda b, x: b.not_(_true(b, x)), np.logical_not, result=boolean)
logical_and = row("logical_and", lambda b, x, y: b.and_(_true(b, x), _true(b, y)), np.logical_and, result=boolean)
logical_or = row("logical_or", lambda b, x, y: b.or_(_true(b, x), _true(b, y)), np.logical_or, result=boolean)
logical_xor = row("logical_xor", lambda b, x, y: b.xor(_true(b, x), _true(b, y)), np.logical_xor, result=boolean)
bitwise_not = row("bitwise_not", lambda b, x: b.not_(x), np.invert, types="bi")
bitwise_and = row("bitwise_and", lambda b, x, y: b.and_(x, y), np.bitwise_and, types="bi")
bitwise_or = row("bitwise_or", lambda b, x, y: b.or_(x, y), np.bitwise_or, types="bi")
bitwise_xor = row("bitwise_xor", lambda b, x, y: b.xor(x, y), np.bitwise_xor, types="bi")


def _shift(ufunc, far):
    """Shifting by the width or more, or by less than 0, gives what shifting every bit out gives."""
    def oracle(x, y):
        bits = x.dtype.itemsize * 8
        ok = (y >= 0) & (y < bits)
        return np.where(ok, ufunc(x, np.where(ok, y, 0).astype(x.dtype)), far(x)).astype(x.dtype)
    return oracle


bitwise_left_shift = row("bitwise_left_shift", lambda b, x, y: b.shl(x, y), _shift(np.left_shift, np.zeros_like), types="i", kernel="lshift_cpu")
bitwise_right_shift = row("bitwise_right_shift", lambda b, x, y: b.shr(x, y), _shift(np.right_shift, lambda x: np.where(x < 0, -1, 0) if x.dtype.kind == "i" else np.zeros_like(x)),
             types="i", kernel="rshift_cpu")

# ---- choosing
where = row("where", lambda b, c, x, y: b.select(c, x, y), np.where, None, lambda g, o, c, x, y: select(c, g, 0), lambda g, o, c, x, y: select(c, 0, g),
            rule=choose, saves="a", names="")
masked_fill = row("masked_fill", lambda b, x, m, v: b.select(m, v, x), lambda x, m, v: np.where(m, v, x),
                  lambda g, o, x, m, v: select(m, 0, g), None, lambda g, o, x, m, v: select(m, g, 0), rule=fill, saves="b")
clamp = row("clamp", lambda b, x, lo, hi: b.min(b.max(x, lo), hi), lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi),
            lambda g, o, x, lo, hi: select((x >= lo).row(logical_and, x <= hi), g, 0),
            lambda g, o, x, lo, hi: select((lo < hi).row(logical_and, x < lo), g, 0),
            lambda g, o, x, lo, hi: select((x > hi).row(logical_or, hi < lo), g, 0), types="if", saves="abc", names="")
clamp_min = row("clamp_min", lambda b, x, lo: b.max(x, lo), np.maximum, lambda g, o, x, lo: select(x >= lo, g, 0),
                lambda g, o, x, lo: select(x < lo, g, 0), types="if", saves="ab")
clamp_max = row("clamp_max", lambda b, x, hi: b.min(x, hi), np.minimum, lambda g, o, x, hi: select(x <= hi, g, 0),
                lambda g, o, x, hi: select(x > hi, g, 0), types="if", saves="ab")


# ---- functions of one number: floats, and integers in the default float
def fn(name, emit, oracle, grad, saves="a", names=None, types="fc", **more) -> Elementwise:
    return row(name, emit, oracle, grad, rule=inexact, types=types, saves=saves, names=names, **more)


def _sign(b, x):
    if x.dtype is dt.bool: return x
    zero = const(b, x, 0)
    return b.select(b.gt(x, zero), const(b, x, 1), b.select(b.lt(x, zero), const(b, x, -1), zero)) if x.dtype.signed else b.min(x, const(b, x, 1))


def _whole(name, emit, oracle, names=None):
    """Rounding: integers stay as they are, and no gradient passes."""
    return row(name, lambda b, x: emit(b, x) if x.dtype.category == dt.FLOAT else x, lambda x: oracle(x) if x.dtype.kind == "f" else x,
               lambda g, o, x: zeros(g), types="if", names=names)


floor = _whole("floor", lambda b, x: b.floor(x), np.floor)
ceil = _whole("ceil", lambda b, x: b.ceil(x), np.ceil)
trunc = _whole("trunc", lambda b, x: b.trunc(x), np.trunc, "trunc fix")
round_ = _whole("round", lambda b, x: b.round(x), np.rint, "")
sqrt = fn("sqrt", lambda b, x: b.sqrt(x), np.sqrt, lambda g, o, x: over(g, 2 * o), "o")
rsqrt = fn("rsqrt", lambda b, x: b.rsqrt(x), lambda x: 1 / np.sqrt(x), lambda g, o, x: -0.5 * times(g, o * o * o), "o")
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
tanh = fn("tanh", lambda b, x: b.tanh(x), np.tanh, lambda g, o, x: times(g, 1 - o * o), "o")
sigmoid = fn("sigmoid", lambda b, x: b.sigmoid(x), lambda x: _sigmoid(x), lambda g, o, x: times(g, (1 - o) * o), "o", "sigmoid special.expit")
relu = row("relu", lambda b, x: b.max(x, const(b, x, 0)), lambda x: np.maximum(x, np.zeros_like(x)), lambda g, o, x: select(o <= 0, 0, g), types="if", saves="o",
           refuse={dt.BOOL: "Boolean inputs not supported for relu"})


def _sigmoid(x):
    e = np.exp(-np.abs(x)) if x.dtype.kind == "f" else np.exp(-x)
    return np.where(x >= 0, 1 / (1 + e), e / (1 + e)).astype(x.dtype) if x.dtype.kind == "f" else 1 / (1 + e)


conj_ = row("conj", lambda b, x: b.conj(x), np.conj, lambda g, o, x: conjugate(g), names="")
sgn = row("sgn", lambda b, x: b.sgn(x) if x.dtype.is_complex else _sign(b, x), lambda x: np.where(x == 0, 0, x / np.where(x == 0, 1, np.abs(x))).astype(x.dtype)
          if x.dtype.kind == "c" else np.sign(x) if x.dtype.kind != "b" else x, lambda g, o, x: _sgn_grad(g, o, x), saves="a")


def _sgn_grad(g, o, x):
    """Zero for real x; for complex x the part of g across x's direction, over |x|."""
    if not x.dtype.is_complex: return zeros(g)
    size = x.row(abs_)
    return select(size == 0, 0, (g / size - o * (o * conjugate(g) + conjugate(o) * g) / (2 * size)) )
