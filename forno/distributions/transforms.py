"""Invertible functions between constrained regions, with the logarithm of their Jacobian's determinant.

Comes in: a tensor of the domain. Goes out: one of the codomain; `t.inv` goes back. A cache of size 1 remembers the last pair, so that the inverse
of a value just computed is exact and free. Events have `domain.event_dim` dimensions going in and `codomain.event_dim` coming out.
"""
from __future__ import annotations

import functools
import math
import operator

from ..framework import api as torch
from ..nn.functional import logsigmoid, pad, softplus
from . import constraints
from .utils import Number, broadcast_all, lazy_property, sum_rightmost, tril_matrix_to_vec, vec_to_tril_matrix

__all__ = ["AbsTransform", "AffineTransform", "CatTransform", "ComposeTransform", "CorrCholeskyTransform", "CumulativeDistributionTransform",
           "ExpTransform", "IndependentTransform", "LowerCholeskyTransform", "PositiveDefiniteTransform", "PowerTransform", "ReshapeTransform",
           "SigmoidTransform", "SoftplusTransform", "TanhTransform", "SoftmaxTransform", "StackTransform", "StickBreakingTransform", "Transform",
           "identity_transform"]


def _require(condition, text):
    if not condition: raise AssertionError(text)


def _deep_enough(shape, n):
    if len(shape) < n: raise ValueError("Too few dimensions on input")


class Transform:
    """A function with `_call`, `_inverse` and `log_abs_det_jacobian(x, y)`; `sign` of its slope if it is monotone."""
    bijective = False
    domain: constraints.Constraint
    codomain: constraints.Constraint

    def __init__(self, cache_size=0):
        if cache_size not in (0, 1): raise ValueError("cache_size must be 0 or 1")
        self._cache_size, self._inv, self._cached_x_y = cache_size, None, (None, None)

    def __getstate__(self): return self.__dict__ | {"_inv": None}

    @property
    def event_dim(self):
        if self.domain.event_dim == self.codomain.event_dim: return self.domain.event_dim
        raise ValueError("Please use either .domain.event_dim or .codomain.event_dim")

    @property
    def inv(self):
        if self._inv is None: self._inv = _InverseTransform(self)
        return self._inv

    @property
    def sign(self): raise NotImplementedError

    def with_cache(self, cache_size=1):
        """This transform, with a cache or without."""
        return self if self._cache_size == cache_size else self._again(cache_size)

    def _again(self, cache_size):
        if type(self).__init__ is Transform.__init__: return type(self)(cache_size=cache_size)
        raise NotImplementedError(f"{type(self)}.with_cache is not implemented")

    def __eq__(self, other): return self is other

    def __call__(self, x):
        if self._cache_size == 0: return self._call(x)
        x_old, y_old = self._cached_x_y
        if x is x_old: return y_old
        y = self._call(x)
        self._cached_x_y = x, y
        return y

    def _inv_call(self, y):
        if self._cache_size == 0: return self._inverse(y)
        x_old, y_old = self._cached_x_y
        if y is y_old: return x_old
        x = self._inverse(y)
        self._cached_x_y = x, y
        return x

    def _call(self, x): raise NotImplementedError
    def _inverse(self, y): raise NotImplementedError
    def log_abs_det_jacobian(self, x, y): raise NotImplementedError
    def __repr__(self): return self.__class__.__name__ + "()"
    def forward_shape(self, shape): return shape
    def inverse_shape(self, shape): return shape


class _Same(Transform):
    """A transform without parameters: all of its class are equal."""
    def __eq__(self, other): return isinstance(other, type(self))


class _InverseTransform(Transform):
    def __init__(self, transform):
        super().__init__(cache_size=transform._cache_size)
        self._inv = transform

    def __getstate__(self): return self.__dict__

    @constraints.dependent_property(is_discrete=False)
    def domain(self): return self._inv.codomain

    @constraints.dependent_property(is_discrete=False)
    def codomain(self): return self._inv.domain

    @property
    def bijective(self): return self._inv.bijective

    @property
    def sign(self): return self._inv.sign

    @property
    def inv(self): return self._inv

    def with_cache(self, cache_size=1): return self.inv.with_cache(cache_size).inv
    def __eq__(self, other): return isinstance(other, _InverseTransform) and self._inv == other._inv
    def __repr__(self): return f"{self.__class__.__name__}({self._inv!r})"
    def __call__(self, x): return self._inv._inv_call(x)
    def log_abs_det_jacobian(self, x, y): return -self._inv.log_abs_det_jacobian(y, x)
    def forward_shape(self, shape): return self._inv.inverse_shape(shape)
    def inverse_shape(self, shape): return self._inv.forward_shape(shape)


# ---------------------------------------------------------------- made of others
def _widened(constraint, event_dim):
    return constraints.independent(constraint, event_dim - constraint.event_dim) if event_dim > constraint.event_dim else constraint


class ComposeTransform(Transform):
    """One after the other."""

    def __init__(self, parts, cache_size=0):
        super().__init__(cache_size=cache_size)
        self.parts = [p.with_cache(cache_size) for p in parts] if cache_size else parts

    def __eq__(self, other): return isinstance(other, ComposeTransform) and self.parts == other.parts

    @constraints.dependent_property(is_discrete=False)
    def domain(self):
        if not self.parts: return constraints.real
        n = self.parts[-1].codomain.event_dim
        for p in reversed(self.parts): n = max(n + p.domain.event_dim - p.codomain.event_dim, p.domain.event_dim)
        return _widened(self.parts[0].domain, n)

    @constraints.dependent_property(is_discrete=False)
    def codomain(self):
        if not self.parts: return constraints.real
        n = self.parts[0].domain.event_dim
        for p in self.parts: n = max(n + p.codomain.event_dim - p.domain.event_dim, p.codomain.event_dim)
        return _widened(self.parts[-1].codomain, n)

    @lazy_property
    def bijective(self): return all(p.bijective for p in self.parts)

    @lazy_property
    def sign(self): return functools.reduce(operator.mul, (p.sign for p in self.parts), 1)

    @property
    def inv(self):
        if self._inv is None:
            self._inv = ComposeTransform([p.inv for p in reversed(self.parts)])
            self._inv._inv = self
        return self._inv

    def _again(self, cache_size): return ComposeTransform(self.parts, cache_size=cache_size)

    def __call__(self, x):
        for p in self.parts: x = p(x)
        return x

    def log_abs_det_jacobian(self, x, y):
        if not self.parts: return torch.zeros_like(x)
        xs, terms, n = [x], [], self.domain.event_dim
        for p in self.parts[:-1]: xs.append(p(xs[-1]))
        for p, a, b in zip(self.parts, xs, [*xs[1:], y]):
            terms.append(sum_rightmost(p.log_abs_det_jacobian(a, b), n - p.domain.event_dim))
            n += p.codomain.event_dim - p.domain.event_dim
        return functools.reduce(operator.add, terms)

    def forward_shape(self, shape):
        for p in self.parts: shape = p.forward_shape(shape)
        return shape

    def inverse_shape(self, shape):
        for p in reversed(self.parts): shape = p.inverse_shape(shape)
        return shape

    def __repr__(self): return f"{self.__class__.__name__}(\n    " + ",\n    ".join(map(repr, self.parts)) + "\n)"


identity_transform = ComposeTransform([])


class IndependentTransform(Transform):
    """Some batch dimensions of another transform belong to the event: determinants are summed over them."""

    def __init__(self, base_transform, reinterpreted_batch_ndims, cache_size=0):
        super().__init__(cache_size=cache_size)
        self.base_transform, self.reinterpreted_batch_ndims = base_transform.with_cache(cache_size), reinterpreted_batch_ndims

    def _again(self, cache_size): return IndependentTransform(self.base_transform, self.reinterpreted_batch_ndims, cache_size=cache_size)

    @constraints.dependent_property(is_discrete=False)
    def domain(self): return constraints.independent(self.base_transform.domain, self.reinterpreted_batch_ndims)

    @constraints.dependent_property(is_discrete=False)
    def codomain(self): return constraints.independent(self.base_transform.codomain, self.reinterpreted_batch_ndims)

    @property
    def bijective(self): return self.base_transform.bijective

    @property
    def sign(self): return self.base_transform.sign

    def _call(self, x):
        _deep_enough(x.shape, self.domain.event_dim)
        return self.base_transform(x)

    def _inverse(self, y):
        _deep_enough(y.shape, self.codomain.event_dim)
        return self.base_transform.inv(y)

    def log_abs_det_jacobian(self, x, y): return sum_rightmost(self.base_transform.log_abs_det_jacobian(x, y), self.reinterpreted_batch_ndims)
    def __repr__(self): return f"{self.__class__.__name__}({self.base_transform!r}, {self.reinterpreted_batch_ndims})"
    def forward_shape(self, shape): return self.base_transform.forward_shape(shape)
    def inverse_shape(self, shape): return self.base_transform.inverse_shape(shape)


class _Along(Transform):
    """Several transforms along one dimension."""

    def __init__(self, tseq, dim, cache_size):
        _require(all(isinstance(t, Transform) for t in tseq), "All elements of tseq must be Transform instances")
        super().__init__(cache_size=cache_size)
        self.transforms, self.dim = [t.with_cache(cache_size) for t in tseq] if cache_size else list(tseq), dim

    def _checked(self, z, size, name, meaning):
        what = "tensor with" if meaning == "call" else f"{name} with"
        _require(-z.dim() <= self.dim < z.dim(), f"dim {self.dim} out of range for {what} {z.dim()} dimensions")
        _require(z.size(self.dim) == size, f"{name}.size({self.dim}) = {z.size(self.dim)} must equal {self._size_name} {size}")
        return self._slices(z)

    def _call(self, x): return self._join([t(v) for t, v in zip(self.transforms, self._checked(x, self._size, "x", "call"))])
    def _inverse(self, y): return self._join([t.inv(v) for t, v in zip(self.transforms, self._checked(y, self._size, "y", "call"))])

    def _determinants(self, x, y):
        xs, ys = (self._checked(z, self._size, name, "jacobian") for z, name in ((x, "x"), (y, "y")))
        return [t.log_abs_det_jacobian(a, b) for t, a, b in zip(self.transforms, xs, ys)]

    @property
    def bijective(self): return all(t.bijective for t in self.transforms)


class CatTransform(_Along):
    """Transforms for consecutive slices of given lengths; the inverse of torch.cat's view of a tensor."""
    _size_name = "length"

    def __init__(self, tseq, dim=0, lengths=None, cache_size=0):
        super().__init__(tseq, dim, cache_size)
        self.lengths = [1] * len(self.transforms) if lengths is None else list(lengths)
        n = len(self.transforms)
        _require(len(self.lengths) == n, f"lengths ({len(self.lengths)}) must match transforms ({n})")

    @lazy_property
    def event_dim(self): return max(t.event_dim for t in self.transforms)

    @lazy_property
    def length(self): return sum(self.lengths)

    @property
    def _size(self): return self.length

    def _again(self, cache_size): return CatTransform(self.transforms, self.dim, self.lengths, cache_size)
    def _slices(self, z): return z.split(self.lengths, self.dim)
    def _join(self, zs): return torch.cat(zs, dim=self.dim)

    def log_abs_det_jacobian(self, x, y):
        terms = [sum_rightmost(v, self.event_dim - t.event_dim) for t, v in zip(self.transforms, self._determinants(x, y))]
        dim = self.dim - (x.dim() if self.dim >= 0 else 0) + self.event_dim
        return torch.cat(terms, dim=dim) if dim < 0 else sum(terms)

    @constraints.dependent_property
    def domain(self): return constraints.cat([t.domain for t in self.transforms], self.dim, self.lengths)

    @constraints.dependent_property
    def codomain(self): return constraints.cat([t.codomain for t in self.transforms], self.dim, self.lengths)


class StackTransform(_Along):
    """A transform for every place along a dimension."""
    _size_name = "len(transforms)"

    def __init__(self, tseq, dim=0, cache_size=0): super().__init__(tseq, dim, cache_size)

    @property
    def _size(self): return len(self.transforms)

    def _again(self, cache_size): return StackTransform(self.transforms, self.dim, cache_size)
    def _slices(self, z): return z.unbind(self.dim)
    def _join(self, zs): return torch.stack(zs, dim=self.dim)
    def log_abs_det_jacobian(self, x, y): return self._join(self._determinants(x, y))

    @constraints.dependent_property
    def domain(self): return constraints.stack([t.domain for t in self.transforms], self.dim)

    @constraints.dependent_property
    def codomain(self): return constraints.stack([t.codomain for t in self.transforms], self.dim)


class ReshapeTransform(Transform):
    """Events of one shape as events of another."""
    bijective = True

    def __init__(self, in_shape, out_shape, cache_size=0):
        self.in_shape, self.out_shape = torch.Size(in_shape), torch.Size(out_shape)
        if self.in_shape.numel() != self.out_shape.numel(): raise ValueError("in_shape, out_shape have different numbers of elements")
        super().__init__(cache_size=cache_size)

    @constraints.dependent_property
    def domain(self): return constraints.independent(constraints.real, len(self.in_shape))

    @constraints.dependent_property
    def codomain(self): return constraints.independent(constraints.real, len(self.out_shape))

    def _again(self, cache_size): return ReshapeTransform(self.in_shape, self.out_shape, cache_size=cache_size)
    def _batch(self, x, event): return x.shape[:x.dim() - len(event)]
    def _call(self, x): return x.reshape(self._batch(x, self.in_shape) + self.out_shape)
    def _inverse(self, y): return y.reshape(self._batch(y, self.out_shape) + self.in_shape)
    def log_abs_det_jacobian(self, x, y): return x.new_zeros(self._batch(x, self.in_shape))

    @staticmethod
    def _swap(shape, old, new):
        _deep_enough(shape, len(old))
        cut = len(shape) - len(old)
        if shape[cut:] != old: raise ValueError(f"Shape mismatch: expected {shape[cut:]} but got {old}")
        return shape[:cut] + new

    def forward_shape(self, shape): return self._swap(shape, self.in_shape, self.out_shape)
    def inverse_shape(self, shape): return self._swap(shape, self.out_shape, self.in_shape)


# ---------------------------------------------------------------- numbers
class ExpTransform(_Same):
    """y = exp(x)"""
    domain, codomain, bijective, sign = constraints.real, constraints.positive, True, +1
    def _call(self, x): return x.exp()
    def _inverse(self, y): return y.log()
    def log_abs_det_jacobian(self, x, y): return x


def _shape_of(x): return getattr(x, "shape", ())


class PowerTransform(Transform):
    """y = x ** exponent"""
    domain, codomain, bijective = constraints.positive, constraints.positive, True

    def __init__(self, exponent, cache_size=0):
        super().__init__(cache_size=cache_size)
        self.exponent, = broadcast_all(exponent)

    def _again(self, cache_size): return PowerTransform(self.exponent, cache_size=cache_size)

    @lazy_property
    def sign(self): return self.exponent.sign()

    def __eq__(self, other): return isinstance(other, PowerTransform) and self.exponent.eq(other.exponent).all().item()
    def _call(self, x): return x.pow(self.exponent)
    def _inverse(self, y): return y.pow(1 / self.exponent)
    def log_abs_det_jacobian(self, x, y): return (self.exponent * y / x).abs().log()
    def forward_shape(self, shape): return torch.broadcast_shapes(shape, _shape_of(self.exponent))
    inverse_shape = forward_shape


def _clipped_sigmoid(x):
    info = torch.finfo(x.dtype)
    return torch.sigmoid(x).clamp(min=info.tiny, max=1.0 - info.eps)


class SigmoidTransform(_Same):
    """y = 1 / (1 + exp(-x))"""
    domain, codomain, bijective, sign = constraints.real, constraints.unit_interval, True, +1
    def _call(self, x): return _clipped_sigmoid(x)

    def _inverse(self, y):
        info = torch.finfo(y.dtype)
        y = y.clamp(min=info.tiny, max=1.0 - info.eps)
        return y.log() - (-y).log1p()

    def log_abs_det_jacobian(self, x, y): return -softplus(-x) - softplus(x)


class SoftplusTransform(_Same):
    """y = log(1 + exp(x))"""
    domain, codomain, bijective, sign = constraints.real, constraints.positive, True, +1
    def _call(self, x): return softplus(x)
    def _inverse(self, y): return (-y).expm1().neg().log() + y
    def log_abs_det_jacobian(self, x, y): return -softplus(-x)


class TanhTransform(_Same):
    """y = tanh(x)"""
    domain, codomain, bijective, sign = constraints.real, constraints.interval(-1.0, 1.0), True, +1
    def _call(self, x): return x.tanh()
    def _inverse(self, y): return y.atanh()
    def log_abs_det_jacobian(self, x, y): return 2.0 * (math.log(2.0) - x - softplus(-2.0 * x))


class AbsTransform(_Same):
    """y = |x|"""
    domain, codomain = constraints.real, constraints.positive
    def _call(self, x): return x.abs()
    def _inverse(self, y): return y


class AffineTransform(Transform):
    """y = loc + scale · x, for events of `event_dim` dimensions."""
    bijective = True

    def __init__(self, loc, scale, event_dim=0, cache_size=0):
        super().__init__(cache_size=cache_size)
        self.loc, self.scale, self._event_dim = loc, scale, event_dim

    @property
    def event_dim(self): return self._event_dim

    @constraints.dependent_property(is_discrete=False)
    def domain(self): return _widened(constraints.real, self.event_dim)

    @constraints.dependent_property(is_discrete=False)
    def codomain(self): return _widened(constraints.real, self.event_dim)

    def _again(self, cache_size): return AffineTransform(self.loc, self.scale, self.event_dim, cache_size=cache_size)

    def __eq__(self, other):
        same = lambda a, b: a == b if isinstance(a, Number) and isinstance(b, Number) else (a == b).all().item()
        return isinstance(other, AffineTransform) and same(self.loc, other.loc) and same(self.scale, other.scale)

    @property
    def sign(self): return (self.scale > 0) - (self.scale < 0) if isinstance(self.scale, Number) else self.scale.sign()

    def _call(self, x): return self.loc + self.scale * x
    def _inverse(self, y): return (y - self.loc) / self.scale

    def log_abs_det_jacobian(self, x, y):
        n, s = self.event_dim, self.scale
        out = torch.full_like(x, math.log(abs(s))) if isinstance(s, Number) else s.abs().log()
        return sum_rightmost(out, n).expand(x.shape[:len(x.shape) - n])

    def forward_shape(self, shape): return torch.broadcast_shapes(shape, _shape_of(self.loc), _shape_of(self.scale))
    inverse_shape = forward_shape


class CumulativeDistributionTransform(Transform):
    """y = F(x) of a distribution: to the unit interval."""
    bijective, codomain, sign = True, constraints.unit_interval, +1

    def __init__(self, distribution, cache_size=0):
        super().__init__(cache_size=cache_size)
        self.distribution = distribution

    @property
    def domain(self): return self.distribution.support

    def _call(self, x): return self.distribution.cdf(x)
    def _inverse(self, y): return self.distribution.icdf(y)
    def log_abs_det_jacobian(self, x, y): return self.distribution.log_prob(x)
    def _again(self, cache_size): return CumulativeDistributionTransform(self.distribution, cache_size=cache_size)


# ---------------------------------------------------------------- vectors and matrices
class SoftmaxTransform(_Same):
    """y = exp(x) / sum; not invertible, its inverse is log."""
    domain, codomain = constraints.real_vector, constraints.simplex

    def _call(self, x):
        e = (x - x.max(-1, True)[0]).exp()
        return e / e.sum(-1, True)

    def _inverse(self, y): return y.log()

    def forward_shape(self, shape):
        _deep_enough(shape, 1)
        return shape
    inverse_shape = forward_shape


class StickBreakingTransform(_Same):
    """n numbers → a point of the simplex in n + 1 dimensions: each takes a sigmoid's share of what is left of the stick."""
    domain, codomain, bijective = constraints.real_vector, constraints.simplex, True

    @staticmethod
    def _log_pieces(x, n): return (n - x.new_ones(x.shape[-1]).cumsum(-1)).log()

    def _call(self, x):
        z = _clipped_sigmoid(x - self._log_pieces(x, x.shape[-1] + 1))
        return pad(z, [0, 1], value=1) * pad((1 - z).cumprod(-1), [1, 0], value=1)

    def _inverse(self, y):
        taken = y[..., :-1]
        left = (1 - taken.cumsum(-1)).clamp(min=torch.finfo(y.dtype).tiny)
        return taken.log() - left.log() + self._log_pieces(taken, y.shape[-1])

    def log_abs_det_jacobian(self, x, y):
        x = x - self._log_pieces(x, x.shape[-1] + 1)
        return (-x + logsigmoid(x) + y[..., :-1].log()).sum(-1)

    def forward_shape(self, shape):
        _deep_enough(shape, 1)
        return shape[:-1] + (shape[-1] + 1,)

    def inverse_shape(self, shape):
        _deep_enough(shape, 1)
        return shape[:-1] + (shape[-1] - 1,)


class LowerCholeskyTransform(_Same):
    """A square matrix → its lower triangle with the exponential of its diagonal."""
    domain, codomain = constraints.independent(constraints.real, 2), constraints.lower_cholesky
    def _call(self, x): return x.tril(-1) + x.diagonal(dim1=-2, dim2=-1).exp().diag_embed()
    def _inverse(self, y): return y.tril(-1) + y.diagonal(dim1=-2, dim2=-1).log().diag_embed()


class PositiveDefiniteTransform(_Same):
    """A square matrix → L·Lᵀ of its Cholesky factor L as above."""
    domain, codomain = constraints.independent(constraints.real, 2), constraints.positive_definite

    def _call(self, x):
        x = LowerCholeskyTransform()(x)
        return x @ x.mT

    def _inverse(self, y): return LowerCholeskyTransform().inv(torch.linalg.cholesky(y))


class CorrCholeskyTransform(Transform):
    """D(D-1)/2 numbers → the Cholesky factor of a D×D correlation matrix: tanh of each is a partial correlation, and a row's entries are sticks
    broken off its unit length (Lewandowski, Kurowicka and Joe 2009)."""
    domain, codomain, bijective = constraints.real_vector, constraints.corr_cholesky, True

    def _call(self, x):
        eps = torch.finfo(x.dtype).eps
        r = vec_to_tril_matrix(x.tanh().clamp(min=-1 + eps, max=1 - eps), diag=-1)
        left = (1 - r ** 2).sqrt().cumprod(-1)
        return (r + torch.eye(r.shape[-1], dtype=r.dtype, device=r.device)) * pad(left[..., :-1], [1, 0], value=1)

    def _inverse(self, y):
        left = pad((1 - (y * y).cumsum(-1))[..., :-1], [1, 0], value=1)
        t = tril_matrix_to_vec(y, diag=-1) / tril_matrix_to_vec(left, diag=-1).sqrt()
        return (t.log1p() - t.neg().log1p()) / 2

    def log_abs_det_jacobian(self, x, y, intermediates=None):
        left = tril_matrix_to_vec(1 - (y * y).cumsum(-1), diag=-2)
        return 0.5 * left.log().sum(-1) - 2 * (x + softplus(-2 * x) - math.log(2.0)).sum(-1)

    def forward_shape(self, shape):
        _deep_enough(shape, 1)
        n = shape[-1]
        d = round((0.25 + 2 * n) ** 0.5 + 0.5)
        if d * (d - 1) // 2 != n: raise ValueError("Input is not a flattened lower-diagonal number")
        return shape[:-1] + (d, d)

    def inverse_shape(self, shape):
        _deep_enough(shape, 2)
        d = shape[-1]
        if shape[-2] != d: raise ValueError("Input is not square")
        return shape[:-2] + (d * (d - 1) // 2,)
