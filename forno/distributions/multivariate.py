"""Distributions of vectors and matrices that a covariance describes: normal vectors, covariance matrices, correlation matrices.

Everything is computed from a lower Cholesky factor kept without expansion to the batch (`_unbroadcasted_scale_tril`), so that one factor for many
samples is one triangular system with many right-hand sides.
"""
from __future__ import annotations

import math
import warnings

from ..framework import api as torch
from . import constraints
from .distribution import Distribution, ExponentialFamily, Symmetric, checked
from .positive import Chi2
from .simplex import Beta
from .utils import Number, broadcast_all, lazy_property, standard_normal

__all__ = ["LKJCholesky", "LowRankMultivariateNormal", "MultivariateNormal", "Wishart"]

_MATRICES = {"covariance_matrix": constraints.positive_definite, "precision_matrix": constraints.positive_definite,
             "scale_tril": constraints.lower_cholesky}


def times_vector(matrix, vector): return (matrix @ vector.unsqueeze(-1)).squeeze(-1)
def log_diagonal(factor): return factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)


def mahalanobis(factor, x):
    """|L⁻¹x|² for a factor (B, n, n) and vectors (…, B, n): dimensions in front of the factor's become right-hand sides."""
    front = x.dim() + 1 - factor.dim()
    columns = x.reshape(-1, *x.shape[front:]).movedim(0, -1)             # (B, n, N)
    return torch.linalg.solve_triangular(factor, columns, upper=False).pow(2).sum(-2).movedim(-1, 0).reshape(x.shape[:-1])


def factor_of_precision(p):
    """The lower Cholesky factor of p's inverse: p turned around is factored, and turned back that factor is an inverse's transpose."""
    upper = torch.linalg.cholesky(p.flip((-2, -1))).flip((-2, -1))
    return torch.linalg.solve_triangular(upper.mT, torch.eye(p.shape[-1], dtype=p.dtype, device=p.device), upper=False)


def _the_one(matrices, error, text):
    """(name, matrix) of the only one given."""
    given = [(k, v) for k, v in matrices.items() if v is not None]
    if len(given) != 1: raise error("Exactly one of covariance_matrix or precision_matrix or scale_tril may be specified.")
    name, matrix = given[0]
    if matrix.dim() < 2: raise ValueError(text.format("scale_tril matrix" if name == "scale_tril" else name))
    return name, matrix


class _Scaled(Distribution):
    """Described by one of covariance, precision and Cholesky factor; the others are computed when asked for."""
    def _factored(self, name, matrix):
        make = {"scale_tril": lambda m: m, "covariance_matrix": torch.linalg.cholesky, "precision_matrix": factor_of_precision}
        self._unbroadcasted_scale_tril = make[name](matrix)

    def _matrix(self, m): return m.expand(self._batch_shape + m.shape[-2:])

    @lazy_property
    def scale_tril(self): return self._matrix(self._unbroadcasted_scale_tril)

    @lazy_property
    def covariance_matrix(self): return self._matrix(self._unbroadcasted_scale_tril @ self._unbroadcasted_scale_tril.mT)

    @lazy_property
    def precision_matrix(self): return self._matrix(torch.cholesky_inverse(self._unbroadcasted_scale_tril))


class MultivariateNormal(Symmetric, _Scaled):
    """Normal vectors."""
    arg_constraints = {"loc": constraints.real_vector} | _MATRICES
    support, has_rsample = constraints.real_vector, True
    parts, kept = ("loc", "covariance_matrix", "precision_matrix", "scale_tril"), ("_unbroadcasted_scale_tril",)

    def __init__(self, loc, covariance_matrix=None, precision_matrix=None, scale_tril=None, validate_args=None):
        if loc.dim() < 1: raise ValueError("loc must be at least one-dimensional.")
        name, matrix = _the_one(dict(covariance_matrix=covariance_matrix, precision_matrix=precision_matrix, scale_tril=scale_tril), ValueError,
                                "{} must be at least two-dimensional, with optional leading batch dimensions")
        batch = torch.broadcast_shapes(matrix.shape[:-2], loc.shape[:-1])
        self.loc = loc.expand(batch + (-1,))
        setattr(self, name, matrix.expand(batch + (-1, -1)))
        super().__init__(batch, self.loc.shape[-1:], validate_args=validate_args)
        self._factored(name, matrix)

    @property
    def variance(self): return self._unbroadcasted_scale_tril.pow(2).sum(-1).expand(self._batch_shape + self._event_shape)

    def rsample(self, sample_shape=()):
        return self.loc + times_vector(self._unbroadcasted_scale_tril, standard_normal(self._extended_shape(sample_shape), self.loc))

    @checked
    def log_prob(self, value):
        factor = self._unbroadcasted_scale_tril
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + mahalanobis(factor, value - self.loc)) - log_diagonal(factor)

    def entropy(self):
        h = 0.5 * self._event_shape[0] * (1.0 + math.log(2 * math.pi)) + log_diagonal(self._unbroadcasted_scale_tril)
        return h.expand(self._batch_shape) if self._batch_shape else h


# ---------------------------------------------------------------- W·Wᵀ + diag(D), by Woodbury's identity and the matrix determinant lemma
def capacitance_factor(w, d):
    """The Cholesky factor of I + Wᵀ D⁻¹ W"""
    return torch.linalg.cholesky((w.mT / d.unsqueeze(-2)) @ w + torch.eye(w.size(-1), dtype=w.dtype, device=w.device))


def low_rank_logdet(w, d, factor): return 2 * log_diagonal(factor) + d.log().sum(-1)


def low_rank_mahalanobis(w, d, x, factor):
    return (x.pow(2) / d).sum(-1) - mahalanobis(factor, times_vector(w.mT / d.unsqueeze(-2), x))


class LowRankMultivariateNormal(Symmetric):
    """Normal vectors with covariance cov_factor · cov_factorᵀ + diag(cov_diag)."""
    arg_constraints = {"loc": constraints.real_vector, "cov_factor": constraints.independent(constraints.real, 2),
                       "cov_diag": constraints.independent(constraints.positive, 1)}
    support, has_rsample = constraints.real_vector, True
    parts, kept = ("loc", "cov_diag", "cov_factor"), ("_unbroadcasted_cov_factor", "_unbroadcasted_cov_diag", "_capacitance_tril")

    def __init__(self, loc, cov_factor, cov_diag, validate_args=None):
        if loc.dim() < 1: raise ValueError("loc must be at least one-dimensional.")
        event = loc.shape[-1:]
        if cov_factor.dim() < 2: raise ValueError("cov_factor must be at least two-dimensional, with optional leading batch dimensions")
        if cov_factor.shape[-2:-1] != event: raise ValueError(f"cov_factor must be a batch of matrices with shape {event[0]} x m")
        if cov_diag.shape[-1:] != event: raise ValueError(f"cov_diag must be a batch of vectors with shape {event}")
        try: loc_, self.cov_factor, diag_ = torch.broadcast_tensors(loc.unsqueeze(-1), cov_factor, cov_diag.unsqueeze(-1))
        except RuntimeError as e:
            raise ValueError(f"Incompatible batch shapes: loc {loc.shape}, cov_factor {cov_factor.shape}, cov_diag {cov_diag.shape}") from e
        self.loc, self.cov_diag = loc_[..., 0], diag_[..., 0]
        self._unbroadcasted_cov_factor, self._unbroadcasted_cov_diag = cov_factor, cov_diag
        self._capacitance_tril = capacitance_factor(cov_factor, cov_diag)
        super().__init__(self.loc.shape[:-1], event, validate_args=validate_args)

    @property
    def _low_rank(self): return self._unbroadcasted_cov_factor, self._unbroadcasted_cov_diag

    def _matrix(self, m): return m.expand(self._batch_shape + m.shape[-2:])

    @lazy_property
    def variance(self):
        w, d = self._low_rank
        return (w.pow(2).sum(-1) + d).expand(self._batch_shape + self._event_shape)

    @lazy_property
    def scale_tril(self):
        w, d = self._low_rank
        root = d.sqrt().unsqueeze(-1)
        v = w / root
        return self._matrix(root * torch.linalg.cholesky(v @ v.mT + torch.eye(v.size(-2), dtype=v.dtype, device=v.device)))

    @lazy_property
    def covariance_matrix(self):
        w, d = self._low_rank
        return self._matrix(w @ w.mT + d.diag_embed())

    @lazy_property
    def precision_matrix(self):
        w, d = self._low_rank
        a = torch.linalg.solve_triangular(self._capacitance_tril, w.mT / d.unsqueeze(-2), upper=False)
        return self._matrix(d.reciprocal().diag_embed() - a.mT @ a)

    def rsample(self, sample_shape=()):
        shape, (w, d) = self._extended_shape(sample_shape), self._low_rank
        along = standard_normal(shape[:-1] + self.cov_factor.shape[-1:], self.loc)
        return self.loc + times_vector(w, along) + d.sqrt() * standard_normal(shape, self.loc)

    def _logdet(self): return low_rank_logdet(*self._low_rank, self._capacitance_tril)

    @checked
    def log_prob(self, value):
        m = low_rank_mahalanobis(*self._low_rank, value - self.loc, self._capacitance_tril)
        return -0.5 * (self._event_shape[0] * math.log(2 * math.pi) + self._logdet() + m)

    def entropy(self):
        h = 0.5 * (self._event_shape[0] * (1.0 + math.log(2 * math.pi)) + self._logdet())
        return h.expand(self._batch_shape) if self._batch_shape else h


# ---------------------------------------------------------------- matrices
class Wishart(_Scaled, ExponentialFamily):
    """Σ over df normal vectors of x·xᵀ: covariance matrices. Samples by Bartlett's decomposition (1933)."""
    support, has_rsample = constraints.positive_definite, True
    parts, kept = ("df", "covariance_matrix", "precision_matrix", "scale_tril", "_unbroadcasted_scale_tril", "_dist_chi2"), ()
    _mean_carrier_measure = 0

    def __init__(self, df, covariance_matrix=None, precision_matrix=None, scale_tril=None, validate_args=None):
        name, matrix = _the_one(dict(covariance_matrix=covariance_matrix, precision_matrix=precision_matrix, scale_tril=scale_tril), AssertionError,
                                "scale_tril must be at least two-dimensional, with optional leading batch dimensions")
        if isinstance(df, Number): batch, self.df = matrix.shape[:-2], torch.tensor(df, dtype=matrix.dtype, device=matrix.device)
        else:
            batch = torch.broadcast_shapes(matrix.shape[:-2], df.shape)
            self.df = df.expand(batch)
        p = matrix.shape[-1]
        if (self.df <= p - 1).any(): raise ValueError(f"Value of df={df} expected to be greater than ndim - 1 = {p - 1}.")
        if (self.df < p).any():
            warnings.warn("Low df values detected. Singular samples are highly likely to occur for ndim - 1 < df < ndim.", stacklevel=2)
        setattr(self, name, matrix.expand(batch + (-1, -1)))
        super().__init__(batch, matrix.shape[-2:], validate_args=validate_args)
        self._factored(name, matrix)
        steps = torch.arange(p, dtype=matrix.dtype, device=matrix.device).expand(batch + (-1,))
        self._dist_chi2 = Chi2(self.df.unsqueeze(-1) - steps)

    @property
    def arg_constraints(self): return _MATRICES | {"df": constraints.greater_than(self.event_shape[-1] - 1)}

    def expand(self, batch_shape, _instance=None):
        new = self._get_checked_instance(Wishart, _instance)
        new._unbroadcasted_scale_tril = self._unbroadcasted_scale_tril.expand(torch.Size(batch_shape) + self.event_shape)
        return super().expand(batch_shape, new)

    def _per_matrix(self, x): return x.view(self._batch_shape + (1, 1))

    @property
    def mean(self): return self._per_matrix(self.df) * self.covariance_matrix

    @property
    def mode(self):
        factor = self.df - self.covariance_matrix.shape[-1] - 1
        return self._per_matrix(torch.where(factor <= 0, torch.nan, factor)) * self.covariance_matrix

    @property
    def variance(self):
        v = self.covariance_matrix
        d = v.diagonal(dim1=-2, dim2=-1)
        return self._per_matrix(self.df) * (v.pow(2) + d.unsqueeze(-1) * d.unsqueeze(-2))

    def _bartlett_sampling(self, sample_shape=()):
        """(L·A)(L·A)ᵀ with A's diagonal the roots of χ² numbers and normal numbers below it."""
        p, roots = self._event_shape[-1], self._dist_chi2.rsample(sample_shape).sqrt()
        noise = roots.clamp(min=torch.finfo(roots.dtype).eps).diag_embed()
        i, j = torch.tril_indices(p, p, offset=-1)
        noise[..., i, j] = torch.randn(torch.Size(sample_shape) + self._batch_shape + (p * (p - 1) // 2,), dtype=noise.dtype, device=noise.device)
        factor = self._unbroadcasted_scale_tril @ noise
        return factor @ factor.mT

    def _over_batch(self, x): return x.amax(tuple(range(-len(self._batch_shape), 0))) if self._batch_shape else x

    def rsample(self, sample_shape=(), max_try_correction=None):
        """As PyTorch 2.13 draws: what is positive definite at first is drawn again, and then until nothing is singular."""
        sample = self._bartlett_sampling(torch.Size(sample_shape))
        again = self._over_batch(self.support.check(sample))
        for _ in range(10 if max_try_correction is None else max_try_correction):
            if not again.any(): break
            fresh = self._bartlett_sampling((int(again.sum()),))
            sample[again] = fresh
            again = again.masked_scatter(again, self._over_batch(~self.support.check(fresh)))
        return sample

    @checked
    def log_prob(self, value):
        nu, p, factor = self.df, self._event_shape[-1], self._unbroadcasted_scale_tril
        trace = torch.cholesky_solve(value, factor).diagonal(dim1=-2, dim2=-1).sum(-1)
        return (-nu * (p * math.log(2) / 2 + log_diagonal(factor)) - torch.mvlgamma(nu / 2, p=p)
                + (nu - p - 1) / 2 * torch.linalg.slogdet(value).logabsdet - trace / 2)

    def entropy(self):
        nu, p = self.df, self._event_shape[-1]
        steps = torch.arange(p, dtype=nu.dtype, device=nu.device) / 2
        return ((p + 1) * (p * math.log(2) / 2 + log_diagonal(self._unbroadcasted_scale_tril)) + torch.mvlgamma(nu / 2, p=p)
                - (nu - p - 1) / 2 * ((nu / 2).unsqueeze(-1) - steps).digamma().sum(-1) + nu * p / 2)

    @property
    def _natural_params(self): return -self.precision_matrix / 2, (self.df - self._event_shape[-1] - 1) / 2

    def _log_normalizer(self, x, y):
        p = self._event_shape[-1]
        half = y + (p + 1) / 2
        return half * (math.log(2) * p - torch.linalg.slogdet(-2 * x).logabsdet) + torch.mvlgamma(half, p=p)


class LKJCholesky(Distribution):
    """Cholesky factors of correlation matrices; concentration 1 is uniform over these. Samples by the onion method
    (Lewandowski, Kurowicka and Joe 2009)."""
    arg_constraints, support = {"concentration": constraints.positive}, constraints.corr_cholesky
    parts, kept = ("concentration", "_beta"), ("dim",)

    def __init__(self, dim, concentration=1.0, validate_args=None):
        if dim < 2: raise ValueError(f"Expected dim to be an integer greater than or equal to 2. Found dim={dim}.")
        self.dim = dim
        self.concentration, = broadcast_all(concentration)
        offset = torch.arange(dim, dtype=self.concentration.dtype, device=self.concentration.device).sub(1).clamp(min=0)
        self._beta = Beta(offset + 0.5, (self.concentration + 0.5 * (dim - 2)).unsqueeze(-1) - 0.5 * offset)
        super().__init__(self.concentration.size(), torch.Size((dim, dim)), validate_args)

    def sample(self, sample_shape=()):
        """Row i: a direction in i dimensions, uniform, whose squared length is Beta, and what is missing to length 1 on the diagonal."""
        y = self._beta.sample(sample_shape).unsqueeze(-1)
        u = torch.randn(self._extended_shape(sample_shape), dtype=y.dtype, device=y.device).tril(-1)
        length = u.norm(dim=-1, keepdim=True)
        w = y.sqrt() * (u / torch.where(length == 0, 1, length))
        return w + (1 - (w ** 2).sum(-1)).clamp(min=torch.finfo(w.dtype).tiny).sqrt().diag_embed()

    @checked
    def log_prob(self, value):
        rows, below = torch.arange(2, self.dim + 1, device=value.device), self.dim - 1
        order = 2 * (self.concentration - 1).unsqueeze(-1) + self.dim - rows
        alpha = self.concentration + 0.5 * below
        normalizer = 0.5 * below * math.log(math.pi) + torch.mvlgamma(alpha - 0.5, below) - alpha.lgamma() * below
        return (order * value.diagonal(dim1=-1, dim2=-2)[..., 1:].log()).sum(-1) - normalizer
