"""Composite rows: one line to record, expanded into other rows when planned, with PyTorch's own gradient formula.

mean var std norm logsumexp   attr = axes (sorted, non-negative; with more fields where noted); the result keeps them with length 1
softmax log_softmax           attr = the axis
power                         attr = the exponent, a number that is part of the program

Half types compute in float32 and are rounded once, as PyTorch's kernels do. `expand` and gradient rules write equal expressions for equal
things (the mean in var and in its gradient), so that the planner's common-subexpression pass computes them once.
"""
from __future__ import annotations

import math
from typing import NamedTuple

from ..core import dtype as dt
from ..core.op import Composite
from ..core.state import state
from .elementwise import TITLES, abs_, isinf, isnan, reciprocal, select, sgn, square, times, zeros
from .functions import exp, imag, log, pow_, real, rsqrt, sqrt
from .movement import put, view


# ---- what recipes are written with
def up(x): return x.to(x.dtype.opmath)


def count(shape, axes): return math.prod([shape[d] for d in axes])


def kept(shape, axes): return tuple([1 if d in axes else n for d, n in enumerate(shape)])


def total(x, axes): return x.sum(axes, True) if axes else x


def average(x, axes): return total(x, axes) / count(x.shape, axes) if count(x.shape, axes) else total(x, axes) * math.nan


def powered(x):
    """|x|², real."""
    return x * x if not x.dtype.is_complex else x.row(real) * x.row(real) + x.row(imag) * x.row(imag)


def need(kernel, x, categories):
    if x.dtype.category not in categories: raise NotImplementedError(f"\"{kernel}\" not implemented for '{TITLES[x.dtype.name]}'")


def recipe(name, infer, expand, *grads, saves="a", pointwise=False, layout=None) -> Composite:
    return Composite(name, infer, grads, saves, expand=expand, pointwise=pointwise, layout=layout)


# ---- mean, variance
def _mean_infer(axes, x):
    if x.dtype.category < dt.FLOAT:
        raise RuntimeError("mean(): could not infer output dtype. Input dtype must be either a floating point or complex dtype. "
                           f"Got: {TITLES[x.dtype.name]}")
    return x.dtype, kept(x.shape, axes)


mean = recipe("mean", _mean_infer, lambda axes, x: average(up(x), axes).to(x.dtype),
              lambda g, o, x, attr: g.expand(x.shape) / max(count(x.shape, attr), 1), saves="")


class Spread(NamedTuple):
    """var and std divide the squares' sum by the number of elements less `correction`."""
    axes: tuple[int, ...]
    correction: float = 1


def _spread_infer(name):
    def infer(attr, x):
        if x.dtype.category < dt.FLOAT: raise RuntimeError(f"{name} only support floating point and complex dtypes")
        return x.dtype.real, kept(x.shape, attr.axes)
    return infer


def centred(x, axes): return x - average(x, axes)


def _var(attr, x):
    n = count(x.shape, attr.axes) - attr.correction
    squares = total(powered(centred(up(x), attr.axes)), attr.axes)
    return squares / n if n > 0 else squares / 0.0


def _var_grad(g, x, attr):
    n = count(x.shape, attr.axes) - attr.correction
    return (up(g) * (2 / n if n > 0 else math.nan if n == 0 else math.inf) * centred(up(x), attr.axes)).to(x.dtype)


var = recipe("var", _spread_infer("var"), lambda attr, x: _var(attr, x).to(x.dtype.real), lambda g, o, x, attr: _var_grad(g, x, attr))
std = recipe("std", _spread_infer("std"), lambda attr, x: _var(attr, x).row(sqrt).to(x.dtype.real),
             lambda g, o, x, attr: _var_grad(select(o == 0, 0, g / (o * 2)), x, attr), saves="ao")


# ---- points
def _linspace(dtype, i, start, end, gap):
    n, work = i.shape[0], dt.float64 if dtype.category < dt.FLOAT else dtype.opmath
    return select(i < n // 2, i.to(work) * gap + start, end - (n - 1 - i).to(work) * gap).to(dtype)


linspace = recipe("linspace", lambda dtype, i, *numbers: (dtype, i.shape), _linspace, saves="")
"""attr = dtype. Operands: positions 0 … n - 1, then three numbers: first point, last, and the gap between two. Points are mirrored, as PyTorch's are."""


# ---- norms
class Norm(NamedTuple):
    p: float
    axes: tuple[int, ...]


def _norm_infer(attr, x):
    if x.dtype.category < dt.FLOAT:
        raise RuntimeError(f"linalg.vector_norm: Expected a floating point or complex tensor as input. Got {TITLES[x.dtype.name]}")
    if attr.p in (math.inf, -math.inf) and not count(x.shape, attr.axes) and math.prod(kept(x.shape, attr.axes)):
        raise RuntimeError(f"linalg.vector_norm cannot compute the {attr.p} norm on an empty tensor because the operation does not have an identity")
    return x.dtype.real, kept(x.shape, attr.axes)


def _norm(attr, x):
    p, axes = attr
    x = up(x)
    if p == 2: return total(powered(x), axes).row(sqrt)
    if p == 0: return total((x != 0).to(x.dtype.real), axes)
    size = x.row(abs_)
    if p == math.inf: return size.amax(axes, True) if axes else size
    if p == -math.inf: return size.amin(axes, True) if axes else size
    if p == 1: return total(size, axes)
    return total(raised(size, p), axes).row(power, attr=1 / p)


def raised(x, p): return x if p == 1 else x.row(power, attr=p)


def _divided(g, o, n=1):
    """g / oⁿ, and 0 where o is, in gradients of this gradient, too."""
    return select(o == 0, 0, g / raised(select(o == 0, 1, o), n))


def _norm_grad(g, o, x, attr):
    """Step by step in x's type, as PyTorch does it: in half types, powers of small or large norms are 0 or infinite."""
    p, axes = attr
    if p == 0: return zeros(x)
    if p == 1: out = x.row(sgn) * g
    elif p == 2: out = x * _divided(g, o)
    elif p in (math.inf, -math.inf):
        hit = (x.row(abs_) == o) | x.row(isnan)
        out = x.row(sgn) * hit * (g / total(hit, axes))
    elif p < 1: out = select(x == 0, 0, x.row(sgn) * raised(x.row(abs_), p - 1)) * g * raised(o, 1 - p)
    elif p < 2: out = x.row(sgn) * raised(x.row(abs_), p - 1) * _divided(g, o, p - 1)
    else: out = x * raised(x.row(abs_), p - 2) * _divided(g, o, p - 1)
    return out


norm = recipe("norm", _norm_infer, lambda attr, x: _norm(attr, x).to(x.dtype.real), _norm_grad, saves="ao")


# ---- exponentials that share a maximum
def _softmax_infer(name):
    def infer(axis, x):
        need(name, x, (dt.FLOAT,))
        return x.dtype, x.shape
    return infer


def _shifted(x, axes): return x - (x.amax(axes, True) if math.prod(x.shape) else 0)


def _softmax(axis, x):
    axes = (axis,) if x.shape else ()
    e = _shifted(up(x), axes).row(exp)
    return (e / total(e, axes)).to(x.dtype)


def _log_softmax(axis, x):
    axes = (axis,) if x.shape else ()
    d = _shifted(up(x), axes)
    return (d - total(d.row(exp), axes).row(log)).to(x.dtype)


def _softmax_grad(g, o, x, attr):
    g, o = up(g), up(o)
    return (o * (g - total(g * o, (attr,) if x.shape else ()))).to(x.dtype)


def _log_softmax_grad(g, o, x, attr):
    g, o = up(g), up(o)
    return (g - o.row(exp) * total(g, (attr,) if x.shape else ())).to(x.dtype)


softmax = recipe("softmax", _softmax_infer("softmax_lastdim_kernel_impl"), _softmax, _softmax_grad, saves="o")
log_softmax = recipe("log_softmax", _softmax_infer("log_softmax_lastdim_kernel_impl"), _log_softmax, _log_softmax_grad, saves="o")


def _logsumexp_infer(axes, x):
    return x.dtype if x.dtype.category >= dt.FLOAT else state.default_dtype, kept(x.shape, axes)


def _logsumexp(axes, x, out):
    if not count(x.shape, axes): return total(up(x).row(exp), axes).row(log).to(out)
    x = up(x.to(out))
    size = x.row(real) if x.dtype.is_complex else x
    top = size.amax(axes, True) if axes else size
    top = select(top.row(isinf), 0, top)
    return (total((x - top).row(exp), axes).row(log) + top).to(out)


logsumexp = recipe("logsumexp", _logsumexp_infer, lambda axes, x: _logsumexp(axes, x, _logsumexp_infer(axes, x)[0]),
                   lambda g, o, x, attr: times(up(g), (up(x) - up(o)).row(exp)).to(x.dtype), saves="ao")


# ---- powers whose exponent is part of the program
def _power(n, x):
    if n == 2: return x.row(square)
    h, x = x.dtype, up(x)
    if n == 0: return x.filled(x.shape, 1, h)
    if n == 1: return x.to(h)
    out = {3: lambda: x * x * x, 0.5: lambda: x.row(sqrt), -0.5: lambda: x.row(rsqrt), -1: lambda: x.row(reciprocal),
           -2: lambda: (x * x).row(reciprocal)}.get(n)
    return (out() if out else x.row(pow_, n)).to(h)


def _power_infer(n, x):
    need("pow", x, (dt.FLOAT, dt.COMPLEX))
    if isinstance(n, complex) and not x.dtype.is_complex:
        raise TypeError(f"power: the exponent {n} of a real tensor is an operand of the row pow, not an attribute")
    return x.dtype, x.shape


power = recipe("power", _power_infer, _power, lambda g, o, x, attr: zeros(g) if attr == 0 else times(g, raised(x, attr - 1) * attr), pointwise=True)


# ---- writes
as_strided_scatter = recipe("as_strided_scatter", lambda attr, x, v: (x.dtype, x.shape), lambda attr, x, v: x.row(put, v, attr=attr),
                            lambda g, o, x, v, attr: zeros(g).row(put, g.row(view, attr=attr), attr=attr), lambda g, o, x, v, attr: g.row(view, attr=attr), saves="")
"""x with v written through attr, a View. x's gradient is what PyTorch gives it, and nobody else would: that of the elements written over."""


# ---- cubic interpolation (Keys, 1981)
A = -0.75


def _cubic_grad(g, o, d, attr):
    """Written as PyTorch's derivative is, whose steps round half types each."""
    return g * ((d * (3 * (A + 2)) - 2 * (A + 3)) * d) if attr else g * ((d * (3 * A) - 10 * A) * d + 8 * A)


cubic = recipe("cubic", lambda near, d: (d.dtype, d.shape),
               lambda near, d: (d * (A + 2) - (A + 3)) * d * d + 1 if near else ((d * A - 5 * A) * d + 8 * A) * d - 4 * A, _cubic_grad, pointwise=True)
"""A neighbour's weight by its distance; attr = is it nearer than 1?"""
