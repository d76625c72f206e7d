"""Elementwise rows of neural networks: activations and the pointwise part of losses.

Slopes, limits and thresholds are operands: run-time numbers that never make new code. Gradients are PyTorch's, also at the kinks.
"""
from __future__ import annotations

import math

import numpy as np

from ..core import dtype as dt
from ..core.op import Check
from ..core.shape import preserves
from .claims import outside
from .elementwise import abs_, clamp_min, isnan, row, select, sign, tensors, tensors_inexact, times, wide
from .functions import exp, libm, log, log1p, logistic, sigmoid, tanh

SELU_ALPHA, SELU_SCALE = 1.6732632423543772848170429916717, 1.0507009873554804934193349852946
INV_SQRT2, INV_SQRT_2PI = 1 / math.sqrt(2), 1 / math.sqrt(2 * math.pi)
GELU_BETA, GELU_KAPPA = math.sqrt(2 / math.pi), 0.044715
LITTLE = 1 << 10                               # tensors up to here are told apart from vectors' multiples
SIXTH = float(np.float32(1 / 6))               # PyTorch's in hardsigmoid's gradient, also in float64


def act(name, emit, oracle, *grads, types="f", saves="a", names="", rule=tensors, **more):
    return row(name, wide(emit), oracle, *grads, types=types, saves=saves, names=names, rule=rule, **more)


def _clamp(b, x, lo, hi): return b.min(hi, b.max(lo, x))
def _np_sigmoid(x): return 1 / (1 + np.exp(-x))
def _np_softplus(x): return np.logaddexp(x, 0)


# ---- rectifiers
def _passes(x, inside, step=64):
    """Where the gradient passes, if that is `inside`. At NaN PyTorch says no in its loop over `step` bytes at a time and yes to what is left at the end."""
    n, step = math.prod(x.shape), step // x.dtype.size
    whole = n - n % step
    if n == whole or n > LITTLE: return inside
    return inside | (x.row(isnan) & (x.ramp(n).reshape(x.shape) >= whole) if whole else x.row(isnan))


BOOL_HARDTANH = {dt.BOOL: "Bool inputs not supported for hardtanh"}
relu = row("relu", lambda b, x: b.max(0, x), lambda x: np.maximum(x, np.zeros_like(x)), lambda g, o, x: select(o <= 0, 0, g), types="if", saves="o",
           refuse={dt.BOOL: "Boolean inputs not supported for relu"}, kernel="clamp_min_scalar_cpu")
relu6 = act("relu6", lambda b, x: _clamp(b, x, 0, 6), lambda x: np.clip(x, 0, 6), lambda g, o, x: select(_passes(x, (x > 0) & (x < 6)), g, 0), types="if",
            refuse=BOOL_HARDTANH, layout=preserves)
hardtanh = act("hardtanh", _clamp, lambda x, lo, hi: np.minimum(np.maximum(x, lo), hi), lambda g, o, x, lo, hi: select(_passes(x, (x > lo) & (x < hi)), g, 0),
               types="if", refuse=BOOL_HARDTANH, layout=preserves)
leaky_relu = act("leaky_relu", lambda b, x, k: b.select(b.gt(x, 0), x, b.mul(x, k)), lambda x, k: np.where(x > 0, x, x * k),
                 lambda g, o, x, k: select(x > 0, g, g * k))
prelu = act("prelu", lambda b, x, w: b.select(b.gt(x, 0), x, b.mul(x, w)), lambda x, w: np.where(x > 0, x, x * w),
            lambda g, o, x, w: select(x > 0, g, g * w), lambda g, o, x, w: select(x > 0, 0, g * x), saves="ab")
threshold = act("threshold", lambda b, x, t, v: b.select(b.le(x, t), v, x), lambda x, t, v: np.where(x <= t, v, x),
                lambda g, o, x, t, v: select(x <= t, 0, g), types="if")
hardshrink = act("hardshrink", lambda b, x, k: b.select(b.le(b.abs(x), k), 0, x), lambda x, k: np.where(np.abs(x) <= k, 0, x),
                 lambda g, o, x, k: select(_passes(x, x.row(abs_) > k), g, 0), rounds=(1,))
softshrink = act("softshrink", lambda b, x, k: b.select(b.gt(x, k), b.sub(x, k), b.select(b.lt(x, b.neg(k)), b.add(x, k), b.mul(x, 0))),
                 lambda x, k: np.where(x > k, x - k, np.where(x < -k, x + k, x * 0)), lambda g, o, x, k: select(_passes(x, x.row(abs_) > k), g, 0))

# ---- exponential units
def _below(x):
    """x where it is negative (or NaN): exp of the others would overflow in second derivatives."""
    return select(x >= 0, 0, x)


elu = act("elu", lambda b, x, a: b.select(b.le(x, 0), b.mul(b.expm1(x), a), x), lambda x, a: np.where(x <= 0, np.expm1(np.minimum(x, 0)) * a, x),
          lambda g, o, x, a: select(_passes(x, x > 0, 128), g, g * _below(x).row(exp) * a), kernel="elu_cpu")
selu = act("selu", lambda b, x: b.mul(b.select(b.le(x, 0), b.mul(b.expm1(x), SELU_ALPHA), x), SELU_SCALE),
           lambda x: SELU_SCALE * np.where(x <= 0, np.expm1(np.minimum(x, 0)) * SELU_ALPHA, x),
           lambda g, o, x: select(_passes(x, x > 0, 128), g * SELU_SCALE, g * _below(x).row(exp) * (SELU_ALPHA * SELU_SCALE)), names="selu")
celu = act("celu", lambda b, x, a: b.select(b.le(x, 0), b.mul(b.expm1(b.div(x, a)), a), x),
           lambda x, a: np.where(x <= 0, np.expm1(np.minimum(x, 0) / a) * a, x),
           lambda g, o, x, a: select(_passes(x, x > 0, 128), g, g * (_below(x) / a).row(exp)), kernel="elu_cpu")
softplus = act("softplus", lambda b, x, k, t: b.select(b.gt(b.mul(x, k), t), x, b.div(b.log1p(b.exp(b.mul(x, k))), k)),
               lambda x, k, t: np.where(x * k > t, x, _np_softplus(x * k) / k), lambda g, o, x, k, t: select(x * k > t, g, g * (x * k).row(sigmoid)))
logsigmoid = act("logsigmoid", lambda b, x: b.sub(b.min(x, 0), b.log1p(b.exp(b.neg(b.abs(x))))), lambda x: -_np_softplus(-x),
                 lambda g, o, x: g * (-x).row(sigmoid))

# ---- smooth gates
silu = act("silu", lambda b, x: b.mul(x, logistic(b, x)), lambda x: x * _np_sigmoid(x), lambda g, o, x: _silu_grad(g, x), types="fc")


def _silu_grad(g, x):
    s = x.row(sigmoid)
    return times(g, s * (1 + x * (1 - s)))


# Mills' ratio of the normal distribution over 1 / (1 + MILLS · a), by powers of the latter: within 4e-8 of its value for all a >= 0
MILLS, RATIO = 0.35, (-0.029158441480466417, 0.14403420383704452, -0.25584695036144295, 0.15933005242790335, -0.023220332132492194, 0.10555622580523677,
                      0.1198202599106817, 0.13986366872101436, 0.13962129739326334)


def _normal(b, x):
    """(Φ(x), exp(-x²/2)): the normal distribution and its density, but for a factor. One exponential and a division in float32."""
    bell = b.exp(b.mul(b.mul(x, x), -0.5))
    if x.dtype is not dt.float32: return b.mul(b.add(1, b.erf(b.mul(x, INV_SQRT2))), 0.5), bell
    t = b.div(1, b.fma(b.abs(x), MILLS, 1))
    ratio = b.const(RATIO[0], x, x.n)
    for c in RATIO[1:]: ratio = b.mad(ratio, t, c)
    tail = b.mul(b.mul(ratio, t), bell)
    return b.select(b.gt(x, 0), b.sub(1, tail), tail), bell


def _bell(x): return (-0.5 * (x * x)).row(exp) * INV_SQRT_2PI


def _gelu_slope(b, x):
    below, bell = _normal(b, x)
    return b.mad(x, b.mul(bell, INV_SQRT_2PI), below)


gelu = act("gelu", lambda b, x: b.mul(x, _normal(b, x)[0]), lambda x: x * 0.5 * (1 + libm(math.erf)(x * INV_SQRT2)), lambda g, o, x: g * x.row(gelu_slope))
gelu_slope = act("gelu_slope", _gelu_slope, lambda x: 0.5 * (1 + libm(math.erf)(x * INV_SQRT2)) + x * np.exp(-0.5 * x * x) * INV_SQRT_2PI,
                 lambda g, o, x: g * ((2 - x * x) * _bell(x)))


def _twice(b, x): return b.mul(2 * GELU_BETA, b.fma(b.mul(b.mul(x, x), x), GELU_KAPPA, x))


def _gelu_tanh_slope(b, x):
    """s + x · s · (1 - s) · u′ where s is the sigmoid of u; by exp(-|u|), which loses nothing where s is almost 1."""
    e = b.exp(b.neg(b.abs(_twice(b, x))))
    r = b.div(1, b.add(1, e))                                      # the sigmoid of |u|; of -|u| it is e · r
    er = b.mul(e, r)
    return b.mad(b.mul(b.mul(er, r), x), b.mad(b.mul(x, x), 6 * GELU_BETA * GELU_KAPPA, 2 * GELU_BETA), b.select(b.gt(x, 0), r, er))


def _np_squashed(x): return _np_sigmoid(2 * GELU_BETA * (x + GELU_KAPPA * x ** 3))
def _np_gelu_tanh_slope(x): return _np_squashed(x) * (1 + x * (1 - _np_squashed(x)) * 2 * GELU_BETA * (1 + 3 * GELU_KAPPA * x * x))


# (1 + tanh(u)) / 2 is the sigmoid of 2 u
gelu_tanh = act("gelu_tanh", lambda b, x: b.mul(x, logistic(b, _twice(b, x))), lambda x: x * _np_squashed(x), lambda g, o, x: g * x.row(gelu_tanh_slope))
gelu_tanh_slope = act("gelu_tanh_slope", _gelu_tanh_slope, _np_gelu_tanh_slope, lambda g, o, x: g * _gelu_tanh_bend(x))


def _gelu_tanh_bend(x):
    u = 2 * GELU_BETA * (x + GELU_KAPPA * (x * x * x))
    s, rest, v = u.row(sigmoid), (-u).row(sigmoid), 2 * GELU_BETA * (1 + 3 * GELU_KAPPA * (x * x))         # v: the slope of u
    return s * rest * (2 * v + x * (v * v * (rest - s) + 12 * GELU_BETA * GELU_KAPPA * x))


mish = act("mish", lambda b, x: _mish_emit(b, x), lambda x: x * np.tanh(_np_softplus(x)), lambda g, o, x: _mish_grad(g, x))


def _mish_emit(b, x):
    """tanh(log(1 + e)) = (e² + 2e) / (e² + 2e + 2): one exp instead of three functions; above 20 it is 1."""
    e = b.exp(b.min(x, 20))
    n = b.mul(e, b.add(e, 2))
    return b.mul(x, b.div(n, b.add(n, 2)))


def _mish_grad(g, x):
    s, t = x.row(sigmoid), x.row(softplus, 1.0, 20.0).row(tanh)
    return g * (t + x * s * (1 - t * t))


softsign = act("softsign", lambda b, x: b.div(x, b.add(1, b.abs(x))), lambda x: x / (1 + np.abs(x)),
               lambda g, o, x: g / ((1 + x.row(abs_)) * (1 + x.row(abs_))), rule=tensors_inexact)
tanhshrink = act("tanhshrink", lambda b, x: b.sub(x, b.tanh(x)), lambda x: x - np.tanh(x), lambda g, o, x: times(g, x.row(tanh) * x.row(tanh)),
                 rule=tensors_inexact, types="fc")
hardsigmoid = act("hardsigmoid", lambda b, x: b.div(_clamp(b, b.add(x, 3), 0, 6), 6), lambda x: np.clip(x + 3, 0, 6) / 6,
                  lambda g, o, x: select((x > -3) & (x < 3), g * SIXTH, 0))
hardswish = act("hardswish", lambda b, x: b.div(b.mul(x, _clamp(b, b.add(x, 3), 0, 6)), 6), lambda x: x * np.clip(x + 3, 0, 6) / 6,
                lambda g, o, x: select(x <= -3, 0, select(_passes(x, x >= 3, 128), g, g * (x / 3 + 0.5))))

# ---- pointwise losses; reductions are separate rows
binary_cross_entropy = act("binary_cross_entropy", lambda b, x, y: _bce(b, x, y),
                           lambda x, y: (y - 1) * np.maximum(np.log1p(-x), -100) - y * np.maximum(np.log(x), -100),
                           lambda g, o, x, y: g * (x - y) / ((1 - x) * x).row(clamp_min, 1e-12),
                           lambda g, o, x, y: g * ((-x).row(log1p) - x.row(log)), saves="ab",
                           check=Check(0, lambda dtype: True, lambda b, x, y: b.not_(b.and_(_within(b, x), _within(b, y))),
                                       lambda x, y: outside(x, 0, 1) | outside(y, 0, 1), lambda attr, x=None, y=None: _refusal(x)))


def _within(b, x): return b.and_(b.ge(x, 0), b.le(x, 1))


def _refusal(x): return RuntimeError(f"all elements of {'input' if x is None or outside(x, 0, 1).any() else 'target'} should be between 0 and 1")


def _bce(b, x, y):
    return b.sub(b.mul(b.sub(y, 1), b.max(b.log1p(b.neg(x)), -100)), b.mul(y, b.max(b.log(x), -100)))


bce_with_logits = act("bce_with_logits", lambda b, x, y: b.add(b.sub(b.max(x, 0), b.mul(x, y)), b.log1p(b.exp(b.neg(b.abs(x))))),
                      lambda x, y: np.maximum(x, 0) - x * y + np.log1p(np.exp(-np.abs(x))), lambda g, o, x, y: g * (x.row(sigmoid) - y),
                      lambda g, o, x, y: g * -x, saves="ab")
smooth_l1 = act("smooth_l1", lambda b, x, y, k: _smooth_l1(b, x, y, k),
                lambda x, y, k: np.where(np.abs(x - y) < k, 0.5 * (x - y) ** 2 / k, np.abs(x - y) - 0.5 * k),
                lambda g, o, x, y, k: _smooth_l1_grad(g, x - y, k), lambda g, o, x, y, k: -_smooth_l1_grad(g, x - y, k), saves="ab")
huber = act("huber", lambda b, x, y, k: _huber(b, x, y, k),
            lambda x, y, k: np.where(np.abs(x - y) <= k, 0.5 * (x - y) ** 2, k * (np.abs(x - y) - 0.5 * k)),
            lambda g, o, x, y, k: _huber_grad(g, x - y, k), lambda g, o, x, y, k: -_huber_grad(g, x - y, k), saves="ab")


def _smooth_l1(b, x, y, k):
    size = b.abs(b.sub(x, y))
    return b.select(b.lt(size, k), b.div(b.mul(b.mul(size, size), 0.5), k), b.sub(size, b.mul(k, 0.5)))


def _smooth_l1_grad(g, d, k): return g * select(d.row(abs_) < k, d / k, d.row(sign))


def _huber(b, x, y, k):
    size = b.abs(b.sub(x, y))
    return b.select(b.le(size, k), b.mul(b.mul(size, size), 0.5), b.mul(k, b.sub(size, b.mul(k, 0.5))))


def _huber_grad(g, d, k): return g * select(d.row(abs_) <= k, d, d.row(sign) * k)
