"""Means, spreads, norms, comparisons of whole tensors."""
from __future__ import annotations


from ..core import dtype as dt
from ..dnn import elementwise as ew
from ..dnn import movement as mv
from ..dnn import recipes as rc
from ..graph.line import record
from . import data, functions as fn, gathering, linalg, views
from .bind import apply
from .phrase import remembered
from .results import named
from .tensor import read
from .views import shape_of


def spread(row, name):
    def f(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
        if isinstance(dim, bool): dim, unbiased = None, dim
        axes = fn.axes_of(dim, len(shape_of(input)))
        c = correction if correction is not None else 1 if unbiased is None or unbiased else 0
        return fn.drop(record(row, (read(input),), rc.Spread(axes, c)), axes, keepdim)
    f.__name__ = name
    return f


var, std = spread(rc.var, "var"), spread(rc.std, "std")


def both(first, second, name):
    def f(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
        if isinstance(dim, bool): dim, unbiased = None, dim
        return first(input, dim, unbiased, keepdim, correction=correction), second(input, dim, keepdim)
    f.__name__ = name
    return f


var_mean, std_mean = both(var, fn.mean, "var_mean"), both(std, fn.mean, "std_mean")


def nansum(input, dim=None, keepdim=False, *, dtype=None):
    if input.dtype.is_complex: raise RuntimeError("nansum on CPU does not support complex inputs")
    return fn.sum(apply(ew.masked_fill, input, apply(ew.isnan, input), 0) if input.dtype.category == dt.FLOAT else input, dim, keepdim, dtype=dtype)


def nanmean(input, dim=None, keepdim=False, *, dtype=None):
    if input.dtype.category < dt.FLOAT: raise RuntimeError(f"nanmean(): expected input to have floating point or complex dtype but got {ew.TITLES[input.dtype.name]}")
    return fn.div(nansum(input, dim, keepdim, dtype=dtype), fn.sum(apply(ew.logical_not, apply(ew.isnan, input)), dim, keepdim))


def count_nonzero(input, dim=None): return fn.sum(apply(ew.ne, input, 0), dim)


def aminmax(input, *, dim=None, keepdim=False):
    return named("aminmax", min=fn.amin(input, dim if dim is not None else (), keepdim), max=fn.amax(input, dim if dim is not None else (), keepdim))


# ---------------------------------------------------------------- norms
def vector_norm(x, ord=2, dim=None, keepdim=False, *, dtype=None):
    if dtype is not None: x = fn.to(x, dtype)
    axes = fn.axes_of(dim, len(shape_of(x)))
    return fn.drop(record(rc.norm, (read(x),), rc.Norm(ord, axes)), axes, keepdim)


def norm(input, p="fro", dim=None, keepdim=False, dtype=None):
    if p == "nuc": return linalg.matrix_norm(input, "nuc", (-2, -1) if dim is None else dim, keepdim, dtype=dtype)
    if p == "fro" and isinstance(dim, (tuple, list)) and len(dim) > 2: raise RuntimeError(f"linalg.matrix_norm: dim must be a 2-tuple. Got {' '.join(map(str, dim))}")
    return vector_norm(input, 2 if p in ("fro", None) else p, dim, keepdim, dtype=dtype)


def dist(input, other, p=2): return vector_norm(fn.sub(input, other), p)


def renorm(input, p, dim, maxnorm):
    n = input.ndim
    if n < 2: raise RuntimeError(f"renorm: input needs at least 2 dimensions, got {n} dimensions")
    if p <= 0: raise RuntimeError("renorm: non-positive-norm not supported")
    if maxnorm < 0: raise RuntimeError(f"renorm: expected maxnorm to be >= 0 but got {maxnorm}")
    d = views.normalize_dim(dim, n)
    size = vector_norm(input, p, tuple(i for i in range(n) if i != d), True)
    scale = apply(ew.where, apply(ew.gt, size, maxnorm), apply(ew.div, apply(mv.full, attr=((), input.dtype, maxnorm)), apply(ew.add, size, 1e-7)), 1.0)
    return apply(ew.mul, input, scale)


def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    x, y = vector_norm(x1, 2, dim, True), vector_norm(x2, 2, dim, True)
    return fn.sum(apply(ew.mul, apply(ew.div, x1, apply(ew.clamp_min, x, eps)), apply(ew.div, x2, apply(ew.clamp_min, y, eps))), dim)


# ---------------------------------------------------------------- comparisons
def isclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    if input.dtype is not other.dtype: raise RuntimeError(f"{ew.TITLES[input.dtype.name]} did not match {ew.TITLES[other.dtype.name]}")
    if rtol < 0 or atol < 0: raise RuntimeError("rtol must be greater than or equal to zero, but got " + str(rtol) if rtol < 0 else "atol must be greater than or equal to zero, but got " + str(atol))
    close = apply(ew.eq, input, other)
    if input.dtype.category >= dt.FLOAT:
        if equal_nan: close = apply(ew.logical_or, close, apply(ew.logical_and, apply(ew.isnan, input), apply(ew.isnan, other)))
        gap, room = apply(ew.abs_, fn.sub(input, other)), fn.add(apply(ew.mul, apply(ew.abs_, other), rtol), atol)
        near = apply(ew.logical_and, apply(ew.isfinite, gap), apply(ew.le, gap, room))
        return apply(ew.logical_or, close, near)
    gap, room = fn.to(apply(ew.abs_, fn.sub(fn.to(input, dt.int64), fn.to(other, dt.int64))), dt.float64), fn.add(apply(ew.mul, fn.to(apply(ew.abs_, fn.to(other, dt.int64)), dt.float64), rtol), atol)
    return apply(ew.logical_or, close, apply(ew.le, gap, room))


def allclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False): return bool(data.item(fn.all(isclose(input, other, rtol, atol, equal_nan))))


def equal(input, other):
    if shape_of(input) != shape_of(other): return False
    if input.dtype is not other.dtype: raise RuntimeError(f"Expected object of data type {ew.TITLES[input.dtype.name]} but got data type {ew.TITLES[other.dtype.name]} for argument #2 'other' in call to equal")
    return input.numel() == 0 or bool(data.item(agreement(input, other)))


@remembered
def agreement(input, other): return fn.all(apply(ew.eq, input, other))


def round(input, *, decimals=0):
    if decimals == 0: return apply(ew.round_, input)
    k = 10.0 ** abs(decimals)
    up, down = (apply(ew.mul, input, k), apply(ew.div, input, k))
    return apply(ew.div, apply(ew.round_, up), k) if decimals > 0 else apply(ew.mul, apply(ew.round_, down), k)


def bincount(input, weights=None, minlength=0):
    if input.dtype.category != dt.INT: raise NotImplementedError(f"\"bincount_cpu\" not implemented for '{ew.TITLES[input.dtype.name]}'")
    if minlength < 0: raise RuntimeError("minlength should be >= 0")
    if input.ndim != 1: raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    n = int(data.item(fn.amax(input))) + 1 if input.numel() else 0
    if input.numel() and int(data.item(fn.amin(input))) < 0: raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    n = max(n, minlength)
    if weights is None: return gathering.scatter_add(apply(mv.full, attr=((n,), dt.int64, 0)), 0, fn.to(input, dt.int64), apply(mv.full, attr=(shape_of(input), dt.int64, 1)))
    kind = weights.dtype if weights.dtype in (dt.float32, dt.float64) else dt.float64
    return gathering.scatter_add(apply(mv.full, attr=((n,), kind, 0)), 0, fn.to(input, dt.int64), fn.to(weights, kind))
