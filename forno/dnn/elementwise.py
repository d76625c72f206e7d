"""Elementwise rows: arithmetic, comparisons, logic, bits, rounding, choosing. (Functions are in functions.py, activations in activation.py.)

A row reads in one line: name, `emit` on the kernel floor's builder, NumPy oracle, gradient per operand, then what it saves and accepts.

Rules of types (`rule`):   promote   PyTorch's result type of all operands
                           inexact   the same, integers and bools compute in the default float
                           choose    (condition, a, b): the condition is bool, a and b promote
                           tensors   PyTorch's result type of the tensors; numbers follow it
                           scaled    (a, b, factor): result type of a and b, which the factor must not exceed
                           fill      (x, mask, value): x's type, bool, x's type
`types` lists the categories the compute type may have: b bool, i integer, f float, c complex; others raise PyTorch's error.
`result` maps the compute type to the result's: same, boolean, part (of a complex number), complexed.

Gradient rules are `(g, o, *operands)`. Numbers in them are references to run-time numbers, so a number is only ever an operand of an
operator next to a tensor. `check` names what a row demands of values (core.op.Check), such as divisors that aren't zero.
"""
from __future__ import annotations

import numpy as np

from ..core import dtype as dt
from ..core.op import Check, Composite, Elementwise, dtype_of
from ..core.shape import broadcast, broadcast_layout, preserves
from ..core.state import state

# ---- rules of types
TITLES = {"uint8": "Byte", "int8": "Char", "int16": "Short", "int32": "Int", "int64": "Long", "uint16": "UInt16", "uint32": "UInt32",
          "uint64": "UInt64", "float16": "Half", "bfloat16": "BFloat16", "float32": "Float", "float64": "Double", "complex32": "ComplexHalf",
          "complex64": "ComplexFloat", "complex128": "ComplexDouble", "bool": "Bool"}


def promote(kinds, default):
    t = dt.result_type(kinds, default)
    return dt.complex64 if t is dt.complex32 else t                # complex32 is a storage type here: it computes as complex64


def inexact(kinds, default):
    t = promote(kinds, default)
    return t if t.category >= dt.FLOAT else default


def choose(kinds, default): return (dt.bool, *(promote(kinds[1:], default),) * 2)


def tensors(kinds, default): return dt.result_type([k for k in kinds if isinstance(k, tuple)], default)


def tensors_inexact(kinds, default): return inexact([k for k in kinds if isinstance(k, tuple)], default)


def scaled(kinds, default):
    t = dt.result_type(kinds[:2], default)
    if kinds[2] == dt.FLOAT and t.category < dt.FLOAT:
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    if kinds[2] == dt.COMPLEX and t.category < dt.COMPLEX:
        raise RuntimeError("For non-complex input tensors, argument alpha must not be a complex number.")
    return t


def integral(kinds, default): return dt.result_type([*kinds, dt.INT], default)


def subtraction(kinds, default):
    bools = [(k[0].category if isinstance(k, tuple) else k) == dt.BOOL for k in kinds]
    if any(bools): raise RuntimeError(BOOL_SUB if all(bools) else BOOL_SUB_ONE)
    return promote(kinds, default)


def alike(kinds, default):
    if kinds[0][0] is not kinds[1][0]: raise RuntimeError("heaviside is not yet implemented for tensors with different dtypes.")
    return kinds[0][0]


def fill(kinds, default): return kinds[0][0], dt.bool, kinds[0][0]


def same(t): return t
def boolean(t): return dt.bool
def part(t): return t.real
def complexed(t): return dt.complex128 if t is dt.float64 else dt.complex64


def operand_dtypes(row: Elementwise, operands) -> tuple[dt.dtype, ...]:
    """The type every operand is converted to before `row.emit` sees it."""
    t = row.compute([dtype_of(x) for x in operands], state.default_dtype)
    return t if isinstance(t, tuple) else (t,) * len(operands)


def infer_elementwise(row_compute, row_result, operands):
    t = row_compute([dtype_of(x) for x in operands], state.default_dtype)
    return row_result(t[-1] if isinstance(t, tuple) else t), broadcast(*(x.shape for x in operands if not isinstance(x, type)))


def row(name, emit, oracle, *grads, rule=promote, result=same, types="bifc", saves="", names=None, kernel=None, refuse=None, check=None, wraps=None,
        layout=None, passes=(), rounds=None) -> Elementwise:
    """Make one row. `kernel` is PyTorch's name for it in "not implemented for" errors; `refuse` maps a category to another error text; `wraps`: numbers
    that PyTorch turns into tensors (usually both operands). `rounds`: usually the same."""
    allowed = {"bifc".index(c) for c in types}

    def compute(kinds, default):
        out = rule(kinds, default)
        t = out[-1] if isinstance(out, tuple) else out
        if t.category not in allowed:
            if refuse and t.category in refuse: raise RuntimeError(refuse[t.category])
            raise NotImplementedError(f"\"{kernel or name + '_cpu'}\" not implemented for '{TITLES[t.name]}'")
        return out

    wraps = wraps if wraps is not None else 0 if rule in (tensors, tensors_inexact) else 2
    return Elementwise(name, lambda attr, *xs: infer_elementwise(compute, result, xs), check=check,
                       grads=tuple(g and (lambda g_, o, *xs, attr=None, rule_=g: rule_(g_, o, *xs)) for g in grads), saves=saves,
                       oracle=lambda attr, *xs: _quiet(oracle, xs), emit=emit, compute=compute, result=result,
                       names=(name,) if names is None else tuple(names.split()), layout=layout, passes=passes,
                       wraps=wraps, rounds=tuple(range(wraps)) if rounds is None else rounds)


# division of integers; a float's zero gives an infinity
DIVISOR = Check(1, lambda dtype: dtype.category == dt.INT, lambda b, x, y: None if y.const else b.eq(y, 0), lambda x, y: y == 0,
                lambda attr, *arrays: RuntimeError("ZeroDivisionError"))


def _quiet(oracle, xs):
    with np.errstate(all="ignore"): return oracle(*xs)


def wide(emit):
    """Let an `emit` of several steps compute half types in float32 and round once, as PyTorch's kernels do."""
    def run(b, *xs):
        half = next((x.dtype for x in xs if x.dtype.opmath is not x.dtype), None)
        if half is None: return emit(b, *xs)
        out = emit(b, *(b.cast(x, x.dtype.opmath) for x in xs))
        return b.cast(out, half) if out.dtype is half.opmath else out
    return run


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


def truncated(x, y):
    """The whole part of a quotient. PyTorch rounds quotients of half types before, unless one number divides all."""
    rounds = x.dtype is y.dtype and y.dtype.opmath is not y.dtype and any(n != 1 for n in y.shape)
    return x.row(rounded_quotient, y) if rounds else x.row(trunc_divide, y)


rounded_quotient = Composite("rounded_quotient", lambda attr, x, y: (x.dtype, broadcast(x.shape, y.shape)), (lambda g, o, x, y, attr: zeros(x), lambda g, o, x, y, attr: zeros(y)),
                             expand=lambda attr, x, y: x.row(div, y).row(trunc), pointwise=True)


def as_tensor(x, like):
    """A number as a 0-d tensor of `like`'s type, for rules that need a function of it."""
    return x if hasattr(x, "shape") else like.filled((), 0, like.dtype) + x


# ---- arithmetic
BOOL_SUB = "Subtraction, the `-` operator, with two bool tensors is not supported. Use the `^` or `logical_xor()` operator instead."
INVERT = "If you are trying to invert a mask, use the `~` or `logical_not()` operator instead."
BOOL_SUB_ONE = f"Subtraction, the `-` operator, with a bool tensor is not supported. {INVERT}"
BOOL_NEG = f"Negation, the `-` operator, on a bool tensor is not supported. {INVERT}"


def _integers(x): return x.dtype.kind in "biu"


def _nonzero(y): return np.where(y == 0, np.ones_like(y), y)


def _floor_divide(x, y):
    if _integers(x): return np.where(y == 0, np.zeros_like(x), x // _nonzero(y))
    return np.where(y == 0, x / y, np.floor_divide(x, y))


def _trunc_divide(x, y):
    if not _integers(x): return np.trunc(x / y)
    q = x // _nonzero(y)
    return np.where(y == 0, np.zeros_like(x), q + ((x != q * y) & (q < 0)).astype(q.dtype))


def _remainder(ufunc):
    def oracle(x, y): return np.where(y == 0, np.zeros_like(x), ufunc(x, _nonzero(y))) if _integers(x) else ufunc(x, y)
    return oracle


ADDCDIV = ("Integer division with addcdiv is no longer supported, and in a future  release addcdiv will perform a true division of tensor1 and tensor2. The historic "
           "addcdiv behavior can be implemented as (input + value * torch.trunc(tensor1 / tensor2)).to(input.dtype) for integer inputs and as (input + value * "
           "tensor1 / tensor2) for float inputs. The future addcdiv behavior is just the latter implementation: (input + value * tensor1 / tensor2), for all dtypes.")
def _once(b, y):
    """PyTorch adds and subtracts 1·y, a product of complex numbers, in which an infinite part spoils the other."""
    return b.pair(b.sub(y.re, b.mul(y.im, 0.0)), b.add(y.im, b.mul(y.re, 0.0))) if y.parts else y


def _np_once(y): return y * y.dtype.type(1) if y.dtype.kind == "c" else y


add = row("add", lambda b, x, y: b.add(x, _once(b, y)), lambda x, y: x + _np_once(y), lambda g, o, x, y: g, lambda g, o, x, y: g, names="")
sub = row("sub", lambda b, x, y: b.sub(x, _once(b, y)), lambda x, y: x - _np_once(y), lambda g, o, x, y: g, lambda g, o, x, y: -g, rule=subtraction, names="")
mul = row("mul", lambda b, x, y: b.mul(x, y), np.multiply, lambda g, o, x, y: times(g, y), lambda g, o, x, y: times(g, x), saves="ab",
          rounds=(), names="mul multiply")
div = row("div", lambda b, x, y: b.div(x, y), np.divide, lambda g, o, x, y: over(g, y), lambda g, o, x, y: -times(g, x / y / y),
          rule=inexact, types="fc", saves="ab", rounds=(), names="true_divide")
# a sum divided by how many were summed: unlike div it keeps nothing for backward
div_count = row("div_count", lambda b, x, y: b.div(x, y), np.divide, lambda g, o, x, n: g.row(div_count, n), rule=inexact, types="fc", names="", wraps=0)
# x + alpha·y with alpha a run-time number: add(alpha=), and sub(alpha=) with -alpha
add_scaled = row("add_scaled", lambda b, x, y, k: b.fma(y, k, x), lambda x, y, k: x + y * k,
                 lambda g, o, x, y, k: g, lambda g, o, x, y, k: times(g, k), rule=scaled, rounds=(0, 1, 2), names="")
addcmul = row("addcmul", wide(lambda b, x, y, z, k: b.fma(b.mul(k, y), z, x)), lambda x, y, z, k: x + k * y * z,
              lambda g, o, x, y, z, k: g, lambda g, o, x, y, z, k: times(g, z * k), lambda g, o, x, y, z, k: times(g, y * k), rule=tensors,
              saves="bc", passes=(0,), types="ifc", kernel="addcmul_cpu_out", names="")
addcdiv = row("addcdiv", wide(lambda b, x, y, z, k: b.add(x, b.div(b.mul(k, y), z))), lambda x, y, z, k: x + k * y / z,
              lambda g, o, x, y, z, k: g, lambda g, o, x, y, z, k: over(times(g, k), z), lambda g, o, x, y, z, k: -times(g, y * k / (z * z)),
              rule=tensors, saves="bc", passes=(0,), types="fc", names="",
              refuse=dict.fromkeys((dt.BOOL, dt.INT), ADDCDIV))
floor_divide = row("floor_divide", lambda b, x, y: b.floordiv(x, y), _floor_divide, lambda g, o, x, y: zeros(g), lambda g, o, x, y: zeros(g),
                   types="if", kernel="div_floor_cpu", check=DIVISOR, rounds=(0,))
trunc_divide = row("trunc_divide", wide(lambda b, x, y: b.truncdiv(x, y)), _trunc_divide,
                   lambda g, o, x, y: zeros(g), lambda g, o, x, y: zeros(g),
                   types="if", kernel="div_trunc_cpu", names="", check=DIVISOR, rounds=(0,))
remainder = row("remainder", lambda b, x, y: b.mod(x, y), _remainder(np.remainder), lambda g, o, x, y: g,
                lambda g, o, x, y: -g * as_tensor(x, y).row(floor_divide, y), types="if", saves="ab", check=DIVISOR)
fmod = row("fmod", lambda b, x, y: b.rem(x, y), _remainder(np.fmod), lambda g, o, x, y: g,
           lambda g, o, x, y: -g * truncated(as_tensor(x, y), y), types="if", saves="ab", check=DIVISOR)
neg = row("neg", lambda b, x: b.neg(x), np.negative, lambda g, o, x: -g, types="ifc", refuse={dt.BOOL: BOOL_NEG}, names="neg negative")
reciprocal = row("reciprocal", lambda b, x: b.div(1, x), lambda x: 1 / x, lambda g, o, x: -times(g, o * o), rule=inexact, types="fc", saves="o")
square = row("square", lambda b, x: b.mul(x, x), np.square, lambda g, o, x: times(g, 2 * x), rule=integral, saves="a")
conj_ = row("conj", lambda b, x: b.conj(x), np.conj, lambda g, o, x: conjugate(g), names="", layout=preserves)

# ---- size, sign, rounding
abs_ = row("abs", lambda b, x: b.abs(x), np.abs, lambda g, o, x: g * x.row(sgn), result=part, types="ifc", saves="a", names="abs absolute",
           layout=lambda attr, shape, x: preserves(attr, shape, x) if x.dtype.is_complex else broadcast_layout(shape, [(x.shape, x.memory)]))
sign = row("sign", lambda b, x: _sign(b, x), lambda x: ((x > 0).astype(np.int8) - (x < 0)).astype(x.dtype), lambda g, o, x: zeros(g), types="bif")
sgn = row("sgn", wide(lambda b, x: _direction(b, x) if x.dtype.is_complex else _sign(b, x)), lambda x: _np_sgn(x),
          lambda g, o, x: _sgn_grad(g, o, x), saves="ao")
signbit = row("signbit", lambda b, x: b.signbit(x), lambda x: np.signbit(x) if x.dtype.kind == "f" else x < 0, types="bif", result=boolean)
copysign = row("copysign", lambda b, x, y: b.copysign(x, y), np.copysign, lambda g, o, x, y: g * select(x == 0, 0, o / x),
               lambda g, o, x, y: zeros(g),
               rule=inexact, types="f", saves="ao")


def _sign(b, x):
    if x.dtype is dt.bool: return x
    positive = b.cast(b.gt(x, 0), x.dtype)
    return b.sub(positive, b.cast(b.lt(x, 0), x.dtype)) if x.dtype.signed else positive


def _direction(b, x):
    size = b.abs(x)
    zero = b.eq(size, 0)
    return b.div(x, b.pair(b.select(zero, 1, size), b.const(0, size)))


def _np_sgn(x):
    if x.dtype.kind == "c": return np.where(x == 0, 0, x / np.where(x == 0, 1, np.abs(x)))
    return ((x > 0).astype(np.int8) - (x < 0)).astype(x.dtype)


def _sgn_grad(g, o, x):
    """Zero for real x; for complex x the part of g across x's direction, over |x|."""
    if not x.dtype.is_complex: return zeros(g)
    size = x.row(abs_)
    return select(size == 0, 0, (g - o * (o * conjugate(g)).real) / size)


def _whole(name, emit, oracle, names=None):
    """Rounding: integers stay as they are, and no gradient passes."""
    return row(name, emit, lambda x: oracle(x) if x.dtype.kind == "f" else x, lambda g, o, x: zeros(g), types="if", names=names)


floor = _whole("floor", lambda b, x: b.floor(x), np.floor)
ceil = _whole("ceil", lambda b, x: b.ceil(x), np.ceil)
trunc = _whole("trunc", lambda b, x: b.trunc(x), np.trunc, "trunc fix")
round_ = _whole("round", lambda b, x: b.round(x), np.rint, "")
frac = row("frac", lambda b, x: b.sub(x, b.trunc(x)), lambda x: x - np.trunc(x), lambda g, o, x: g, types="f")

# ---- comparisons and logic; the result is bool and has no gradient
lt = row("lt", lambda b, x, y: b.lt(x, y), np.less, types="bif", result=boolean, names="lt less")
le = row("le", lambda b, x, y: b.le(x, y), np.less_equal, types="bif", result=boolean, names="le less_equal")
gt = row("gt", lambda b, x, y: b.gt(x, y), np.greater, types="bif", result=boolean, names="gt greater")
ge = row("ge", lambda b, x, y: b.ge(x, y), np.greater_equal, types="bif", result=boolean, names="ge greater_equal")
eq = row("eq", lambda b, x, y: b.eq(x, y), np.equal, result=boolean)
ne = row("ne", lambda b, x, y: b.ne(x, y), np.not_equal, result=boolean, names="ne not_equal")


def _true(b, x): return x if x.dtype is dt.bool else b.cast(x, dt.bool)


logical_not = row("logical_not", lambda b, x: b.not_(_true(b, x)), np.logical_not, result=boolean)
logical_and = row("logical_and", lambda b, x, y: b.and_(_true(b, x), _true(b, y)), np.logical_and, result=boolean)
logical_or = row("logical_or", lambda b, x, y: b.or_(_true(b, x), _true(b, y)), np.logical_or, result=boolean)
logical_xor = row("logical_xor", lambda b, x, y: b.xor(_true(b, x), _true(b, y)), np.logical_xor, result=boolean)
isnan = row("isnan", lambda b, x: b.isnan(x), np.isnan, result=boolean)
isinf = row("isinf", lambda b, x: b.isinf(x), np.isinf, result=boolean)
isfinite = row("isfinite", lambda b, x: b.isfinite(x), np.isfinite, result=boolean)
isposinf = row("isposinf", lambda b, x: b.eq(x, float("inf")) if x.dtype.category == dt.FLOAT else b.isinf(x), np.isposinf, types="bif",
               result=boolean, refuse={dt.COMPLEX: "isposinf does not support complex inputs."})
isneginf = row("isneginf", lambda b, x: b.eq(x, float("-inf")) if x.dtype.category == dt.FLOAT else b.isinf(x), np.isneginf, types="bif",
               result=boolean, refuse={dt.COMPLEX: "isneginf does not support complex inputs."})

# ---- bits
bitwise_not = row("bitwise_not", lambda b, x: b.not_(x), np.invert, types="bi")
bitwise_and = row("bitwise_and", lambda b, x, y: b.and_(x, y), np.bitwise_and, types="bi")
bitwise_or = row("bitwise_or", lambda b, x, y: b.or_(x, y), np.bitwise_or, types="bi")
bitwise_xor = row("bitwise_xor", lambda b, x, y: b.xor(x, y), np.bitwise_xor, types="bi")


def _shift(ufunc, empty):
    """Shifting by the width or more, or by less than 0, gives what shifting every bit out gives."""
    def oracle(x, y):
        ok = (y >= 0) & (y < x.dtype.itemsize * 8)
        return np.where(ok, ufunc(x, np.where(ok, y, 0).astype(x.dtype)), empty(x)).astype(x.dtype)
    return oracle


bitwise_left_shift = row("bitwise_left_shift", lambda b, x, y: b.shl(x, y), _shift(np.left_shift, np.zeros_like), types="i", kernel="lshift_cpu")
bitwise_right_shift = row("bitwise_right_shift", lambda b, x, y: b.shr(x, y), _shift(np.right_shift, lambda x: -(x < 0).astype(np.int8)), types="i",
                          kernel="rshift_cpu")


# ---- choosing. Of 0.0 and -0.0, b.max and b.min give their second operand: x where it is clamped, the first of fmax and fmin, as in PyTorch
def _larger(g, o, x, y): return select(x == y, g / 2, select(x < y, 0, g))
def _smaller(g, o, x, y): return select(x == y, g / 2, select(x > y, 0, g))


maximum = row("maximum", lambda b, x, y: b.max(x, y), np.maximum, _larger, lambda g, o, x, y: _smaller(g, o, x, y),
              types="bif", saves="ab", refuse={dt.COMPLEX: "maximum not implemented for complex tensors."})
minimum = row("minimum", lambda b, x, y: b.min(x, y), np.minimum, _smaller, lambda g, o, x, y: _larger(g, o, x, y),
              types="bif", saves="ab", refuse={dt.COMPLEX: "minimum not implemented for complex tensors."})
fmax = row("fmax", lambda b, x, y: b.select(b.isnan(x), y, b.select(b.isnan(y), x, b.max(y, x))), np.fmax,
           lambda g, o, x, y: select((x >= y) | y.row(isnan), g, 0), lambda g, o, x, y: select((x >= y) | y.row(isnan), 0, g), types="bif",
           saves="ab", refuse={dt.COMPLEX: "fmax not implemented for complex tensors."})
fmin = row("fmin", lambda b, x, y: b.select(b.isnan(x), y, b.select(b.isnan(y), x, b.min(y, x))), np.fmin,
           lambda g, o, x, y: select((x <= y) | y.row(isnan), g, 0), lambda g, o, x, y: select((x <= y) | y.row(isnan), 0, g), types="bif",
           saves="ab", refuse={dt.COMPLEX: "fmin not implemented for complex tensors."})
clamp = row("clamp", lambda b, x, lo, hi: b.min(hi, b.max(lo, x)), lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi),
            lambda g, o, x, lo, hi: select((x >= lo) & (x <= hi), g, 0),
            lambda g, o, x, lo, hi: select((lo < as_tensor(hi, lo)) & (as_tensor(x, lo) < lo), g, 0),
            lambda g, o, x, lo, hi: select((as_tensor(x, hi) > hi) | (as_tensor(lo, hi) > hi), g, 0), types="bif", saves="abc", names="", wraps=0)
clamp_min = row("clamp_min", lambda b, x, lo: b.max(lo, x), np.maximum, lambda g, o, x, lo: select(x >= lo, g, 0),
                lambda g, o, x, lo: select(x < lo, g, 0),
                types="bif", saves="ab", wraps=0)
clamp_max = row("clamp_max", lambda b, x, hi: b.min(hi, x), np.minimum, lambda g, o, x, hi: select(x <= hi, g, 0),
                lambda g, o, x, hi: select(x > hi, g, 0),
                types="bif", saves="ab", wraps=0)
where = row("where", lambda b, c, x, y: b.select(c, x, y), np.where, None, lambda g, o, c, x, y: select(c, g, 0),
            lambda g, o, c, x, y: select(c, 0, g),
            rule=choose, saves="a", names="", wraps=3)
masked_fill = row("masked_fill", lambda b, x, m, v: b.select(m, v, x), lambda x, m, v: np.where(m, v, x),
                  lambda g, o, x, m, v: select(m, 0, g), None, lambda g, o, x, m, v: select(m, g, 0), rule=fill, saves="b",
                  layout=lambda attr, shape, *operands: None)
nan_to_num = row("nan_to_num", lambda b, x, nan, high, low: _nan_to_num(b, x, nan, high, low), lambda x, nan, high, low: _numbers(x, nan, high, low),
                 lambda g, o, x, nan, high, low: select(x.row(isfinite), g, 0), rule=tensors, saves="a", names="", layout=preserves)
heaviside = row("heaviside", lambda b, x, y: b.select(b.eq(x, 0), y, b.cast(b.gt(x, 0), x.dtype)), lambda x, y: np.where(x == 0, y, x > 0),
                rule=alike, types="bif")


def _nan_to_num(b, x, nan, high, low):
    if x.parts: return b.pair(*(_nan_to_num(b, p, nan.re, high.re, low.re) for p in x.parts))
    if x.dtype.category != dt.FLOAT: return x
    return b.select(b.isnan(x), nan, b.select(b.eq(x, float("inf")), high, b.select(b.eq(x, float("-inf")), low, x)))


def _numbers(x, nan, high, low):
    if x.dtype.kind == "c": return _numbers(x.real, nan.real, high.real, low.real) + 1j * _numbers(x.imag, nan.real, high.real, low.real)
    if x.dtype.kind != "f": return x
    return np.where(np.isnan(x), nan, np.where(np.isposinf(x), high, np.where(np.isneginf(x), low, x)))
