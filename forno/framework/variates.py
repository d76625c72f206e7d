"""Gamma, Dirichlet and binomial variates: same seed, same numbers as PyTorch's CPU generator, with gradients along the sample's path.

Comes in: tensors of parameters. Goes out: one number (or point of the simplex) per parameter. A gamma or Dirichlet sample moves with its
parameters by implicit differentiation, dx/dα = -(∂F/∂α) / f (Figurnov et al. 2018); the approximations of that quotient below are PyTorch's
(Jankowiak and Obermeyer 2018): Taylor series near the ends, a saddle point expansion for large parameters, a rational function between them.
"""
from __future__ import annotations

from ..core import dtype as dt
from ..dnn import elementwise as ew, functions as fns, special as sp
from . import data, functions as fn, views
from .custom import Function
from .bind import apply
from .randoms import constant_of, drawn, on_host
from .tensor import Tensor
from .views import shape_of

_TYPES = (dt.float32, dt.float64)


def _filled(shape, dtype, generator, draw, *parameters: Tensor) -> Tensor:
    """draw(engine, address, count, *addresses of the parameters' memory)"""
    def fill(source, *parameters):
        nodes = [data.realize(views.contiguous_(views.expand(p, shape))) for p in parameters]
        for n in nodes: data.settle(n)
        return drawn(shape, dtype, lambda a, k: draw(source(), a, k, *(n.buf.address for n in nodes)))
    return on_host(generator, fill, *parameters)


def _check(kernel: str, dtype):
    if dtype not in _TYPES: raise NotImplementedError(f"\"{kernel}\" not implemented for '{ew.TITLES[dtype.name]}'")


def _log(x): return apply(fns.log, x)
def _digamma(x): return apply(sp.digamma, x)
def _where(c, a, b): return apply(ew.where, c, a, b)
def _no_nan(x): return _where(apply(ew.ne, x, x), 0.0, x)


def _polynomial(x, *coefficients):
    """c0 + c1·x + c2·x² + …"""
    out = coefficients[-1]
    for c in coefficients[-2::-1]: out = c + x * out
    return out


# ---------------------------------------------------------------- gamma
class _Gamma(Function):
    @staticmethod
    def forward(ctx, shape, generator):
        x = _filled(shape_of(shape), shape.dtype, generator, lambda e, a, n, p: e.gamma(a, n, shape.dtype, p), shape)
        ctx.save_for_backward(shape, x)
        return x

    @staticmethod
    def backward(ctx, g): return g * standard_gamma_grad(*ctx.saved_tensors), None


def standard_gamma(input, generator=None):
    _check("gamma_cpu", input.dtype)
    return _Gamma.apply(input, generator)


# ∂x/∂α between the ends and below α = 8, as exp of a ratio of polynomials in u = log(x/α) and v = log α: a row per power of u
_MIDDLE = ((0.16009398, -0.094634809, 0.025146376, -0.0030648343, 1, 0.32668115, 0.10406089, 0.0014179084),
           (0.53487893, 0.1298071, 0.065735949, -0.0015649758, 0.16639465, 0.020070113, -0.0035938915, -0.00058392623),
           (0.040121004, -0.0065914022, -0.0026286047, -0.0013441777, 0.017050642, -0.0021309326, 0.00085092367, -1.5247877e-07))


def standard_gamma_grad(self, output):
    """∂x/∂α of a standard gamma sample x with shape α."""
    a, x = fn.to(self, dt.float64), fn.to(output, dt.float64)
    ratio = _log(x / a)
    low = _where(x < 0.8, _gamma_near_zero(a, x), _where(a > 8.0, _gamma_saddle(a, x, ratio), _gamma_between(a, ratio)))
    return fn.to(low, self.dtype)


def _gamma_near_zero(a, x):
    """The power series of the lower incomplete gamma function, and its derivative by α."""
    cdf, by_alpha, term = 1 / a, 1 / (a * a), 1.0
    for i in range(1, 6):
        term = term * x / -i
        cdf, by_alpha = cdf + term / (a + i), by_alpha + term / ((a + i) * (a + i))
    return _no_nan(x * apply(fns.exp, x) * (by_alpha - (_log(x) - _digamma(a)) * cdf))


def _gamma_saddle(a, x, ratio):
    near = ((1 + 24 * a * (1 + 12 * a)) * (1440 * a * a + 6 * x * (53 - 120 * x) - 65 * x * x / a + a * (107 + 3600 * x))
            / (1244160 * (a * a) * (a * a)))
    root, gap = apply(fns.sqrt, 8 * a), a - x
    away = fn.pow(x - a - a * ratio, -1.5)
    slope = ratio * (root / gap + _where(gap > 0, -away, away)) - apply(fns.sqrt, 2 / a) * (a + x) / (gap * gap)
    far = -(1 + 1 / (12 * a) * (1 + 1 / (24 * a))) * x * slope / root
    return _where((0.9 * a <= x) & (x <= 1.1 * a), near, far)


def _gamma_between(a, u):
    v = _log(a)
    c = [_polynomial(u, *column) for column in zip(*_MIDDLE)]
    return apply(fns.exp, _polynomial(v, *c[:4]) / _polynomial(v, *c[4:]))


# ---------------------------------------------------------------- Dirichlet
class _Dirichlet(Function):
    @staticmethod
    def forward(ctx, concentration, generator):
        x = _dirichlet_sample(concentration, generator)
        ctx.save_for_backward(concentration, x)
        return x

    @staticmethod
    def backward(ctx, g):
        concentration, x = ctx.saved_tensors
        total = views.expand(fn.sum(concentration, -1, True), shape_of(concentration))
        return dirichlet_grad(x, concentration, total) * (g - fn.sum(x * g, -1, True)), None


def _dirichlet_sample(concentration, generator):
    """Gamma variates in float64 over their sum, kept inside (0, 1)."""
    t, shape = concentration.dtype, shape_of(concentration)
    wide = fn.to(concentration, dt.float64)
    gammas = _filled(shape, dt.float64, generator, lambda e, a, n, p: e.gamma(a, n, dt.float64, p), wide)
    least, most = (2.0 ** -1022, 1 - 2.0 ** -53) if t is dt.float64 else (2.0 ** -126, 1 - 2.0 ** -24)
    return fn.clamp(fn.to(gammas / fn.sum(gammas, -1, True), t), least, most)


def sample_dirichlet(input, generator=None):
    """A point of the simplex per row of concentrations."""
    _check("dirichlet", input.dtype)
    return _Dirichlet.apply(input, generator)


# the correction of an analytic guess elsewhere: (numerator, denominator), powers of log x, of log(α/x), coefficients in a third variable
_CORRECTION = ((((1.003668233, -0.01061107488, -0.0657888334, 0.01201642863), (0.6336835991, -0.3557432599, 0.05486251648, -0.001465281033),
                 (-0.03276231906, 0.004474107445, 0.002429354597, -0.0001557569013)),
                ((0.221950385, -0.3187676331, 0.01799915743, 0.01074823814), (-0.2951249643, 0.06219954479, 0.01535556598, 0.001550077057),
                 (0.02155310298, 0.004170831599, 0.001292462449, 6.976601077e-05)),
                ((-0.05980841433, 0.008441916499, 0.01085618172, 0.002319392565), (0.02911413504, 0.01400243777, -0.002721828457, 0.000751041181),
                 (0.005900514878, -0.001936558688, -9.495446725e-06, 5.385558597e-05))),
               (((1, -0.02924021934, -0.04438342661, 0.007285809825), (0.6357567472, -0.3473456711, 0.05454656494, -0.002407477521),
                 (-0.03301322327, 0.004845219414, 0.00231480583, -0.0002307248149)),
                ((0.5925320577, -0.1757678135, 0.01505928619, 0.000564515273), (0.1014815858, -0.06589186703, 0.01272886114, -0.0007316646956),
                 (-0.007258481865, 0.001096195486, 0.0003934994223, -4.12701925e-05)),
                ((0.06469649321, -0.0236701437, 0.002902096474, -5.896963079e-05), (0.001925008108, -0.002869809258, 0.0008000589141, -6.063713228e-05),
                 (-0.0003477407336, 6.959756487e-05, 1.097287507e-05, -1.650964693e-06))))


def dirichlet_grad(x, alpha, total):
    """-(∂F/∂α) / f / (1 - x) of Beta(α, total - α) at x, from which a Dirichlet sample's derivatives follow."""
    t = x.dtype
    x, a, total = (fn.to(v, dt.float64) for v in (x, alpha, total))
    b = total - a
    edge = total * x * (1 - x)
    out = _where((a > 6) & (b > 6), _beta_saddle(x, a, b), _beta_between(x, a, total))
    out = _where((x >= 0.5) & (edge < 0.75), -_beta_near_zero_by_other(1 - x, b, a), out)
    return fn.to(_where((x <= 0.5) & (edge < 2.5), _beta_near_zero(x, a, b), out), t)


def _beta_near_zero(x, a, b):
    factor = _digamma(a) - _digamma(a + b) - _log(x)
    term, series = 1.0, (factor + 1 / a) / a
    for i in range(1, 11):
        term = term * (i - b) * x / i
        series = series + term / (a + i) * (factor + 1 / (a + i))
    return _no_nan(x * fn.pow(1 - x, -b) * series)


def _beta_near_zero_by_other(x, a, b):
    """The derivative by the other parameter, b, at small x."""
    factor = _digamma(a + b) - _digamma(b)
    term, falling, slope, series = 1.0, 1.0, 0.0, factor / a
    for i in range(1, 9):
        term = term * x / -i
        slope, falling = slope * (b - i) + falling, falling * (b - i)
        series = series + term / (a + i) * (slope + factor * falling)
    return _no_nan(-fn.pow(1 - x, 1 - b) * series)


def _beta_saddle(x, a, b):
    total = a + b
    mean, std = a / total, apply(fns.sqrt, a * b / (total + 1)) / total
    b2 = b * b
    poly = 47 * x * b2 * b2 + a * ((43 + 20 * (16 + 27 * b) * x) * b2 * b + a * (3 * (59 + 180 * b - 90 * x) * b2 + a * (
        (453 + 1620 * b * (1 - x) - 455 * x) * b + a * (8 * (1 - x) * (135 * b - 11)))))
    near = (1 + 12 * a) * (1 + 12 * b) / (total * total) / (1 - x) * poly / (12960 * a * a * a * b2 * (1 + 12 * total))
    tail = lambda v: 1 + 1 / (12 * v) + 1 / (288 * v * v)
    gap = a * (x - 1) + b * x
    first = (2 * (a * a) * (x - 1) + a * b * (x - 1) - x * b2) / (apply(fns.sqrt, 2 * a / b) * fn.pow(total, 1.5) * gap * gap)
    away = fn.pow(b * _log(b / (total * (1 - x))) + a * _log(a / (total * x)), -1.5)
    second = 0.5 * _log(a / (total * x)) * (apply(fns.sqrt, 8 * a * b / total) / gap + _where(x < mean, away, -away))
    far = tail(a) * tail(b) / tail(total) * -x / apply(fns.sqrt, 2 * a * b / total) * (first + second)
    return _where((mean - 0.1 * std <= x) & (x <= mean + 0.1 * std), near, far)


def _beta_between(x, a, total):
    u = _log(x)
    v = _log(a) - u
    w = _log(total) - v
    p, q = (_polynomial(u, *(_polynomial(v, *(_polynomial(w, *c) for c in row)) for row in table)) for table in _CORRECTION)
    return p / q * x * (_digamma(total) - _digamma(a)) / (total - a)


# ---------------------------------------------------------------- binomial
def binomial(count, prob, generator=None):
    """Successes among `count` trials; has no gradient."""
    for name, p in (("count", count), ("prob", prob)):
        if p.dtype.category != dt.FLOAT: raise ValueError(f"binomial only supports floating-point dtypes for {name}, got: {ew.TITLES[p.dtype.name]}")
    _check("binomial_cpu", count.dtype)
    if prob.dtype is not count.dtype: raise RuntimeError(f"Found dtype {ew.TITLES[prob.dtype.name]} but expected {ew.TITLES[count.dtype.name]}")
    shape = fn.broadcast(shape_of(count), shape_of(prob))
    out = _filled(shape, count.dtype, generator, lambda e, a, n, c, p: e.binomial(a, n, count.dtype, c, p), count, prob)
    return constant_of(out, count, prob) if shape == shape_of(count) else out
