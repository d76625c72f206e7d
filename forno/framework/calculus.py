"""Differences, integrals, distances, quantiles and histograms along axes."""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..core.shape import normalize_dim
from ..dnn import elementwise as ew
from ..dnn import functions as fns
from ..dnn import movement as mv
from . import creation, data, functions as fn, gathering, linalg, views
from .autocast import matmul
from .bind import apply, binary
from .results import named
from .tensor import Tensor, device_name, is_meta, on_meta
from .views import shape_of

multiply, divide = binary(ew.mul), binary(ew.div)


# ---------------------------------------------------------------- differences
def diff(input, n=1, dim=-1, prepend=None, append=None):
    if not shape_of(input): raise RuntimeError("diff expects input to be at least one-dimensional")
    if n < 0: raise RuntimeError(f"order must be non-negative but got {n}")
    d = normalize_dim(dim, len(shape_of(input)))
    for t in (prepend, append):
        if t is not None and len(shape_of(t)) != len(shape_of(input)): raise RuntimeError("diff expects prepend or append to be the same dimension as input")
    if n == 0: return views.clone(input)
    parts = [t for t in (prepend, input, append) if t is not None]
    if len(parts) > 1: input = fn.cat(parts, d)
    for _ in range(min(n, shape_of(input)[d])):
        k = max(shape_of(input)[d] - 1, 0)
        after, before = views.narrow(input, d, shape_of(input)[d] - k, k), views.narrow(input, d, 0, k)
        input = apply(ew.logical_xor, after, before) if input.dtype is dt.bool else fn.sub(after, before)
    return input


def gradient(input, *, spacing=1, dim=None, edge_order=1):
    """Second-order differences inside, first or second order at the edges; one tensor per axis."""
    spacing = 1 if spacing is None else spacing
    dims = list(range(input.ndim)) if dim is None else [dim] if isinstance(dim, int) else list(dim)
    dims = [normalize_dim(d, input.ndim) for d in dims]
    if len(set(dims)) != len(dims): raise RuntimeError("dim appears multiple times in the list of dims")
    if edge_order not in (1, 2): raise RuntimeError("torch.gradient only supports edge_order=1 and edge_order=2.")
    spaces = list(spacing) if isinstance(spacing, (list, tuple)) else [spacing] * len(dims)
    if len(spaces) != len(dims): raise RuntimeError(f"torch.gradient expected spacing to be unspecified, a scalar, or a list of length equal to 'self.dim() = {input.ndim}', got {len(spaces)}")
    out = []
    for d, s in zip(dims, spaces):
        n = shape_of(input)[d]
        if n < edge_order + 1: raise RuntimeError("torch.gradient expected each dimension size to be at least edge_order+1")

        def at(i, k): return views.narrow(input, d, i, k)

        def line(t): return views.reshape(t, (-1,) + (1,) * (input.ndim - d - 1))
        if isinstance(s, Tensor) and shape_of(s):
            steps = diff(s)
            h, k = line(views.narrow(steps, 0, 0, n - 2)), line(views.narrow(steps, 0, 1, n - 2))
            inner = ((at(2, n - 2) * h * h - at(0, n - 2) * k * k) + at(1, n - 2) * (k * k - h * h)) / (h * k * (h + k))
            first, last = (views.select(steps, 0, 0), views.select(steps, 0, min(1, n - 2))), (views.select(steps, 0, n - 2), views.select(steps, 0, max(n - 3, 0)))
        else: inner, first, last = (at(2, n - 2) - at(0, n - 2)) / (2 * s), (s, s), (s, s)
        if edge_order == 1: edges = (at(1, 1) - at(0, 1)) / first[0], (at(n - 1, 1) - at(n - 2, 1)) / last[0]
        else:
            h, k = first
            begin = at(0, 1) * (-(2 * h + k) / (h * (h + k))) + at(1, 1) * ((h + k) / (h * k)) - at(2, 1) * (h / (k * (h + k)))
            k, h = last
            end = at(n - 3, 1) * (k / (h * (h + k))) - at(n - 2, 1) * ((h + k) / (h * k)) + at(n - 1, 1) * ((2 * k + h) / (k * (h + k)))
            edges = begin, end
        out.append(fn.cat([edges[0], inner, edges[1]], d))
    return out


# ---------------------------------------------------------------- integrals
def _trapezoids(y, x, dx, dim):
    d = normalize_dim(dim, y.ndim)
    n = shape_of(y)[d]
    k = max(n - 1, 0)
    pairs = fn.add(views.narrow(y, d, n - k, k), views.narrow(y, d, 0, k))
    if x is None: return multiply(pairs, dx / 2.0), d
    if x.ndim == 0: raise RuntimeError("trapezoid: Currently we only support dx as a real number or x with at least one dimension")
    if x.ndim == 1:
        if shape_of(x)[0] != n: raise RuntimeError("trapezoid: There must be one `x` value for each sample point")
        width = views.reshape(diff(x), (-1,) + (1,) * (y.ndim - d - 1))
    else: width = diff(x, dim=d - y.ndim)
    return divide(multiply(pairs, width), 2.0), d


def trapezoid(y, x=None, *, dx=1, dim=-1):
    if shape_of(y)[normalize_dim(dim, y.ndim)] == 0: return creation.zeros(tuple(n for i, n in enumerate(shape_of(y)) if i != normalize_dim(dim, y.ndim)), dtype=y.dtype)
    parts, d = _trapezoids(y, x, dx, dim)
    return fn.sum(parts, d)


def cumulative_trapezoid(y, x=None, *, dx=1, dim=-1):
    parts, d = _trapezoids(y, x, dx, dim)
    return gathering.cumsum(parts, d)


# ---------------------------------------------------------------- distances and spreads
def cdist(x1, x2, p=2.0, compute_mode="use_mm_for_euclid_dist_if_necessary"):
    if x1.ndim < 2 or x2.ndim < 2: raise RuntimeError(f"cdist only supports at least 2D tensors, X{1 if x1.ndim < 2 else 2} got: {min(x1.ndim, x2.ndim)}D")
    if x1.shape[-1] != x2.shape[-1]: raise RuntimeError(f"X1 and X2 must have the same number of columns. X1: {x1.shape[-1]} X2: {x2.shape[-1]}")
    if p < 0: raise RuntimeError("cdist only supports non-negative p values")
    if x1.shape[-1] == 0: return creation.zeros((*fn.broadcast(shape_of(x1)[:-2], shape_of(x2)[:-2]), x1.shape[-2], x2.shape[-2]), dtype=x1.dtype)
    return linalg.vector_norm(fn.sub(views.unsqueeze(x1, -2), views.unsqueeze(x2, -3)), p, -1)


def cov(input, *, correction=1, fweights=None, aweights=None):
    if input.ndim > 2: raise RuntimeError(f"cov(): expected input to have two or fewer dimensions but got an input with {input.ndim} dimensions")
    x = views.reshape(input, (1, -1)) if input.ndim < 2 else input                                  # (variables, observations)
    n = shape_of(x)[1]
    w = None
    for name, t in (("fweights", fweights), ("aweights", aweights)):
        if t is None: continue
        if t.ndim > 1: raise RuntimeError(f"cov(): expected {name} to have one or fewer dimensions but got {name} with {t.ndim} dimensions")
        if name == "fweights" and t.dtype.category != dt.INT: raise RuntimeError(f"cov(): expected fweights to have integral dtype but got fweights with {ew.TITLES[t.dtype.name]} dtype")
        if name == "aweights" and t.dtype.category != dt.FLOAT: raise RuntimeError(f"cov(): expected aweights to have floating point dtype but got aweights with {ew.TITLES[t.dtype.name]} dtype")
        if t.numel() != n: raise RuntimeError(f"cov(): expected {name} to have the same numel as there are observations in the input but got {t.numel()} != {n}")
        t = gathering.claimed(t, 0, math.inf if name == "aweights" else dt.limits(t.dtype)[1], RuntimeError, f"cov(): {name} cannot be negative")
        w = t if w is None else multiply(w, t)
    total = n if w is None else fn.sum(w)
    mean = fn.sum(multiply(x, w) if w is not None else x, 1, True) / total
    if w is None or correction == 0: norm = total - correction
    elif aweights is None: norm = total - correction
    else: norm = total - correction * fn.sum(multiply(w, aweights)) / total
    norm = apply(ew.clamp_min, norm, 0) if isinstance(norm, Tensor) else max(norm, 0)
    x = fn.sub(x, mean)
    other = views.t(multiply(x, w) if w is not None else x)
    c = matmul(x, apply(ew.conj_, other) if other.dtype.is_complex else other) / norm
    return views.squeeze(c)


def corrcoef(input):
    c = cov(input)
    if c.ndim == 0: return c / c
    d = views.diagonal(c)
    size = apply(fns.sqrt, apply(fns.real, d) if d.dtype.is_complex else d)
    c = c / views.unsqueeze(size, 1) / views.unsqueeze(size, 0)
    return c if c.dtype.is_complex else fn.clamp(c, -1, 1)


# ---------------------------------------------------------------- quantiles, histograms
def _quantile(name, skip_nan):
    def f(input, q, dim=None, keepdim=False, *, interpolation="linear"):
        if input.dtype not in (dt.float32, dt.float64): raise RuntimeError(f"{name}() input tensor must be either float or double dtype")
        if interpolation not in ("linear", "lower", "higher", "midpoint", "nearest"):
            raise RuntimeError(f"{name}() interpolation must be one of linear, lower, higher, midpoint or nearest, but got {interpolation}")
        if not isinstance(q, Tensor):
            if not 0 <= q <= 1: raise RuntimeError(f"{name}() q must be in the range [0, 1] but got {q}")
            q = creation.tensor(q, dtype=input.dtype, device="cpu" if is_meta(input) else input.device)
        if q.ndim > 1: raise RuntimeError(f"{name}() q must be a scalar or 1D tensor")
        if q.dtype is not input.dtype: raise RuntimeError(f"{name}() q tensor must be same dtype as the input tensor")
        if not input.numel(): raise RuntimeError(f"{name}() input tensor must be non-empty")
        q = gathering.claimed(q, 0, 1, RuntimeError, "quantile() q values must be in the range [0, 1]")
        if is_meta(input): q = on_meta(q)
        axes = range(input.ndim) if dim is None or not input.ndim else (normalize_dim(dim, input.ndim),)
        x = views.reshape(input, (-1,)) if dim is None or not input.ndim else views.movedim(input, dim, -1)       # (…, n)
        n = shape_of(x)[-1]
        values, empty = gathering.sort(x, -1)[0], apply(ew.isnan, x)
        if skip_nan: rank = apply(ew.clamp_min, multiply(views.reshape(q, (-1,)), fn.sub(fn.to(fn.sum(apply(ew.logical_not, empty), -1, True), q.dtype), 1)), 0)
        else: rank = fn.where(fn.any(empty, -1, True), n - 1.0, multiply(views.reshape(q, (-1,)), n - 1.0))       # (…, quantiles)
        if interpolation in ("lower", "higher", "nearest"): rank = apply({"lower": ew.floor, "higher": ew.ceil, "nearest": ew.round_}[interpolation], rank)
        low = fn.to(rank, dt.int64)
        out = gathering.gather(values, -1, low)
        if interpolation in ("linear", "midpoint"):
            weight = fn.sub(rank, low) if interpolation == "linear" else apply(mv.full, attr=(shape_of(rank), rank.dtype, 0.5))
            out = apply(fns.lerp, out, gathering.gather(values, -1, fn.to(apply(ew.ceil, rank), dt.int64)), weight)
        out = views.movedim(out, -1, 0)
        if keepdim:
            for d in sorted(axes): out = views.unsqueeze(out, d + 1)
        return out if q.ndim else views.squeeze(out, 0)
    f.__name__ = name
    return f


quantile, nanquantile = _quantile("quantile", False), _quantile("nanquantile", True)


def histc(input, bins=100, min=0, max=0):
    if bins <= 0: raise RuntimeError("bins must be > 0")
    low, high = (data.item(v) if isinstance(v, Tensor) else v for v in (min, max))
    if low > high: raise RuntimeError("torch.histc: max must be larger than min")
    x = views.reshape(input, (-1,))
    if low == high and x.numel(): low, high = data.item(fn.amin(x)), data.item(fn.amax(x))
    if not (math.isfinite(low) and math.isfinite(high)): raise RuntimeError(f"torch.histc: range of [{low:g}, {high:g}] is not finite")
    if low == high: low, high = low - 1, high + 1
    inside = apply(ew.logical_and, apply(ew.ge, x, low), apply(ew.le, x, high))
    where = fn.clamp(fn.to(apply(ew.floor, divide(multiply(fn.sub(x, low), bins), high - low)), dt.int64), 0, bins - 1)
    return gathering.scatter_add(creation.zeros(bins, dtype=input.dtype, device=device_name(input)), 0, where, fn.to(inside, input.dtype))


def edges_of(x, bins, range):
    """Bounds of equally wide bins over `range` or over all of x; bounds that are given already stay."""
    if isinstance(bins, Tensor): return bins
    low, high = range or ((data.item(fn.amin(x)), data.item(fn.amax(x))) if x.numel() else (0.0, 1.0))
    if low == high: low, high = low - 0.5, high + 0.5
    return creation.linspace(low, high, bins + 1, dtype=x.dtype, device=device_name(x))


def bin_of(x, edges):
    """(bin, is it one): the last bin holds its upper bound, too."""
    n = shape_of(edges)[0] - 1
    where = fn.sub(gathering.searchsorted(edges, x, right=True), 1)
    where = fn.where(apply(ew.eq, x, views.select(edges, 0, n)), n - 1, where)
    return fn.clamp(where, 0, n - 1), apply(ew.logical_and, apply(ew.ge, x, views.select(edges, 0, 0)), apply(ew.le, x, views.select(edges, 0, n)))


def counted(where, inside, count, weight, dtype):
    mass = fn.to(inside, dtype) if weight is None else fn.where(inside, views.reshape(weight, (-1,)), 0.0)
    return gathering.scatter_add(creation.zeros(count, dtype=dtype, device=device_name(mass)), 0, where, mass)


def histogram(input, bins, *, range=None, weight=None, density=False):
    x = views.reshape(input, (-1,))
    edges = edges_of(x, bins, range)
    hist = counted(*bin_of(x, edges), shape_of(edges)[0] - 1, weight, input.dtype)
    if density: hist = divide(divide(hist, fn.sum(hist)), diff(edges))
    return named("histogram", hist=hist, bin_edges=edges)


def histogramdd(input, bins, *, range=None, weight=None, density=False):
    """Counts in the boxes of a grid; each column of the last axis is one of the grid's. (…, D) -> D axes"""
    if input.ndim < 2: raise RuntimeError(f"torch.histogramdd: input tensor should have at least 2 dimensions, but got {input.ndim}")
    axes = shape_of(input)[-1]
    bins = [bins] * axes if isinstance(bins, int) else list(bins)
    if len(bins) != axes: raise RuntimeError(f"torch.histogramdd: expected {axes} sequences of bin edges for a {axes}-dimensional histogram but got {len(bins)}")
    if range is not None and len(range) != 2 * axes: raise RuntimeError(f"torch.histogramdd: for a {axes}-dimensional histogram range should have {2 * axes} elements, but got {len(range)}")
    columns = views.unbind(views.reshape(input, (input.numel() // max(axes, 1), axes)), -1)
    edges = [edges_of(x, b, range and range[2 * k:2 * k + 2]) for k, (x, b) in enumerate(zip(columns, bins))]
    shape = tuple(shape_of(e)[0] - 1 for e in edges)
    box, inside = bin_of(columns[0], edges[0])
    for x, e, n in zip(columns[1:], edges[1:], shape[1:]):
        where, here = bin_of(x, e)
        box, inside = fn.add(multiply(box, n), where), apply(ew.logical_and, inside, here)
    hist = views.reshape(counted(box, inside, math.prod(shape), weight, input.dtype), shape)
    if density:
        hist = divide(hist, fn.sum(hist))
        for k, e in enumerate(edges): hist = divide(hist, views.reshape(diff(e), (-1,) + (1,) * (axes - k - 1)))
    return named("histogramdd", hist=hist, bin_edges=tuple(edges))
