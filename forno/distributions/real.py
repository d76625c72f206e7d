"""Distributions on the real line, or an interval or circle of it, given by location and scale."""
from __future__ import annotations

import math

from ..framework import api as torch
from . import constraints
from .distribution import Distribution, ExponentialFamily, Symmetric, checked
from .positive import Chi2
from .utils import broadcast_all, lazy_property, standard_normal, uniform

__all__ = ["Cauchy", "GeneralizedPareto", "Laplace", "Normal", "StudentT", "Uniform", "VonMises"]

_LOC_SCALE = {"loc": constraints.real, "scale": constraints.positive}


class Normal(Symmetric, ExponentialFamily):
    """The normal distribution; `scale` is its standard deviation."""
    arg_constraints, support, has_rsample = _LOC_SCALE, constraints.real, True
    parts = ("loc", "scale")
    _mean_carrier_measure = 0

    def __init__(self, loc, scale, validate_args=None): self._given(validate_args, loc=loc, scale=scale)

    @property
    def stddev(self): return self.scale

    @property
    def variance(self): return self.stddev.pow(2)

    def sample(self, sample_shape=()):
        shape = self._extended_shape(sample_shape)
        with torch.no_grad(): return torch.normal(self.loc.expand(shape), self.scale.expand(shape))

    def rsample(self, sample_shape=()): return self.loc + standard_normal(self._extended_shape(sample_shape), self.loc) * self.scale

    @checked
    def log_prob(self, value): return -(value - self.loc) ** 2 / (2 * self.scale ** 2) - self.scale.log() - math.log(math.sqrt(2 * math.pi))

    @checked
    def cdf(self, value): return 0.5 * (1 + torch.erf((value - self.loc) * self.scale.reciprocal() / math.sqrt(2)))

    def icdf(self, value): return self.loc + self.scale * torch.erfinv(2 * value - 1) * math.sqrt(2)
    def entropy(self): return 0.5 + 0.5 * math.log(2 * math.pi) + self.scale.log()

    @property
    def _natural_params(self): return self.loc / self.scale.pow(2), -0.5 * self.scale.pow(2).reciprocal()

    def _log_normalizer(self, x, y): return -0.25 * x.pow(2) / y + 0.5 * (-math.pi / y).log()


class Laplace(Symmetric):
    """Two exponentials back to back."""
    arg_constraints, support, has_rsample = _LOC_SCALE, constraints.real, True
    parts = ("loc", "scale")

    def __init__(self, loc, scale, validate_args=None): self._given(validate_args, loc=loc, scale=scale)

    @property
    def variance(self): return 2 * self.scale.pow(2)

    @property
    def stddev(self): return 2 ** 0.5 * self.scale

    def rsample(self, sample_shape=()):
        u = torch.empty(self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device).uniform_(torch.finfo(self.loc.dtype).eps - 1, 1)
        return self.loc - self.scale * u.sign() * (-u.abs()).log1p()

    @checked
    def log_prob(self, value): return -(2 * self.scale).log() - (value - self.loc).abs() / self.scale

    @checked
    def cdf(self, value): return 0.5 - 0.5 * (value - self.loc).sign() * (-(value - self.loc).abs() / self.scale).expm1()

    def icdf(self, value):
        side = value - 0.5
        return self.loc - self.scale * side.sign() * (-2 * side.abs()).log1p()

    def entropy(self): return 1 + (2 * self.scale).log()


class Cauchy(Distribution):
    """The ratio of two normal numbers; it has no moments."""
    arg_constraints, support, has_rsample = _LOC_SCALE, constraints.real, True
    parts = ("loc", "scale")

    def __init__(self, loc, scale, validate_args=None): self._given(validate_args, loc=loc, scale=scale)

    @property
    def mean(self): return self._filled(torch.nan, self.loc)

    @property
    def mode(self): return self.loc

    @property
    def variance(self): return self._filled(torch.inf, self.loc)

    def rsample(self, sample_shape=()):
        return self.loc + torch.empty(self._extended_shape(sample_shape), dtype=self.loc.dtype, device=self.loc.device).cauchy_() * self.scale

    @checked
    def log_prob(self, value): return -math.log(math.pi) - self.scale.log() - (((value - self.loc) / self.scale) ** 2).log1p()

    @checked
    def cdf(self, value): return ((value - self.loc) / self.scale).atan() / math.pi + 0.5

    def icdf(self, value): return (math.pi * (value - 0.5)).tan() * self.scale + self.loc
    def entropy(self): return math.log(4 * math.pi) + self.scale.log()


class StudentT(Distribution):
    """A normal number over the root of a mean square with `df` degrees of freedom."""
    arg_constraints = {"df": constraints.positive} | _LOC_SCALE
    support, has_rsample = constraints.real, True
    parts = ("df", "loc", "scale", "_chi2")

    def __init__(self, df, loc=0.0, scale=1.0, validate_args=None):
        self.df, self.loc, self.scale = broadcast_all(df, loc, scale)
        self._chi2 = Chi2(self.df)
        super().__init__(self.df.shape, validate_args=validate_args)

    @property
    def mean(self): return torch.where(self.df <= 1, torch.nan, self.loc)

    @property
    def mode(self): return self.loc

    @property
    def variance(self):
        d, finite = self.df, self.df > 2
        spread = self.scale.pow(2) * d / torch.where(finite, d - 2, 1)
        return torch.where(d <= 1, torch.nan, torch.where(finite, spread, torch.inf))

    def rsample(self, sample_shape=()):
        x = standard_normal(self._extended_shape(sample_shape), self.df)
        return self.loc + self.scale * (x * (self._chi2.rsample(sample_shape) / self.df).rsqrt())

    def _log_beta(self): return (0.5 * self.df).lgamma() - (0.5 * (self.df + 1)).lgamma()

    @checked
    def log_prob(self, value):
        y = (value - self.loc) / self.scale
        normalizer = self.scale.log() + 0.5 * self.df.log() + 0.5 * math.log(math.pi) + self._log_beta()
        return -0.5 * (self.df + 1.0) * (y ** 2.0 / self.df).log1p() - normalizer

    def entropy(self):
        half, more = 0.5 * self.df, 0.5 * (self.df + 1)
        return self.scale.log() + more * (more.digamma() - half.digamma()) + 0.5 * self.df.log() + self._log_beta() + math.lgamma(0.5)


class Uniform(Distribution):
    """Equally likely in [low, high)."""
    has_rsample = True
    parts = ("low", "high")

    def __init__(self, low, high, validate_args=None): self._given(validate_args, low=low, high=high)

    @property
    def arg_constraints(self): return {"low": constraints.less_than(self.high), "high": constraints.greater_than(self.low)}

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self): return constraints.interval(self.low, self.high)

    @property
    def mean(self): return (self.high + self.low) / 2

    @property
    def mode(self): return torch.nan * self.high

    @property
    def stddev(self): return (self.high - self.low) / 12 ** 0.5

    @property
    def variance(self): return (self.high - self.low).pow(2) / 12

    def rsample(self, sample_shape=()):
        return self.low + uniform(self._extended_shape(sample_shape), self.low) * (self.high - self.low)

    @checked
    def log_prob(self, value):
        inside = self.low.le(value).type_as(self.low) * self.high.gt(value).type_as(self.low)
        return inside.log() - (self.high - self.low).log()

    @checked
    def cdf(self, value): return ((value - self.low) / (self.high - self.low)).clamp(min=0, max=1)

    def icdf(self, value): return value * (self.high - self.low) + self.low
    def entropy(self): return (self.high - self.low).log()


class GeneralizedPareto(Distribution):
    """Excesses over a threshold (Pickands 1975): exponential tails for concentration 0, heavier above it, bounded below it."""
    arg_constraints = _LOC_SCALE | {"concentration": constraints.real}
    has_rsample = True
    parts = ("loc", "scale", "concentration")

    def __init__(self, loc, scale, concentration, validate_args=None):
        self._given(validate_args, loc=loc, scale=scale, concentration=concentration)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self):
        return constraints.interval(self.loc, torch.where(self.concentration < 0, self.loc - self.scale / self.concentration, torch.inf))

    def _shape(self):
        """(is the concentration 0, one that can be divided by)"""
        zero = torch.isclose(self.concentration, torch.zeros_like(self.concentration))
        return zero, torch.where(zero, torch.ones_like(self.concentration), self.concentration)

    def _z(self, x): return (x - self.loc) / self.scale

    def rsample(self, sample_shape=()): return self.icdf(uniform(self._extended_shape(sample_shape), self.loc))

    @checked
    def log_prob(self, value):
        z, (zero, c) = self._z(value), self._shape()
        y = 1 / c + torch.ones_like(z)
        return -self.scale.log() - torch.where(zero, z, torch.where(y == 0, y, y * (c * z).log1p()))

    @checked
    def log_survival_function(self, value):
        z, (zero, c) = self._z(value), self._shape()
        return torch.where(zero, -z, -(c * z).log1p() / c)

    def log_cdf(self, value): return (-self.log_survival_function(value).exp()).log1p()
    def cdf(self, value): return self.log_cdf(value).exp()

    def icdf(self, value):
        zero, c = self._shape()
        log_u = (-value).log1p()
        return torch.where(zero, self.loc - self.scale * log_u, self.loc + self.scale / c * (-c * log_u).expm1())

    @property
    def mean(self):
        ok = self.concentration < 1
        return torch.where(ok, self.loc + self.scale / (1 - torch.where(ok, self.concentration, 0.5)), torch.nan)

    @property
    def variance(self):
        ok = self.concentration < 0.5
        c = torch.where(ok, self.concentration, 0.25)
        return torch.where(ok, self.scale ** 2 / ((1 - c) ** 2 * (1 - 2 * c)), torch.nan)

    @property
    def mode(self): return self.loc

    def entropy(self): return torch.broadcast_to(self.scale.log() + self.concentration + 1, self._batch_shape)


# log of the modified Bessel functions' polynomials, orders 0 and 1 (Abramowitz and Stegun 9.8.1-4): below 3.75, and above
_BESSEL = (((1.0, 3.5156229, 3.0899424, 1.2067492, 0.2659732, 0.360768e-1, 0.45813e-2),
            (0.39894228, 0.1328592e-1, 0.225319e-2, -0.157565e-2, 0.916281e-2, -0.2057706e-1, 0.2635537e-1, -0.1647633e-1, 0.392377e-2)),
           ((0.5, 0.87890594, 0.51498869, 0.15084934, 0.2658733e-1, 0.301532e-2, 0.32411e-3),
            (0.39894228, -0.3988024e-1, -0.362018e-2, 0.163801e-2, -0.1031555e-1, 0.2282967e-1, -0.2895312e-1, 0.1787654e-1, -0.420059e-2)))


def _log_bessel(x, order):
    def poly(y, c): return c[0] + y * poly(y, c[1:]) if len(c) > 1 else c[0]
    low, high = _BESSEL[order]
    small = poly((x / 3.75) * (x / 3.75), low)
    if order: small = x.abs() * small
    return torch.where(x < 3.75, small.log(), x - 0.5 * x.log() + poly(3.75 / x, high).log())


class VonMises(Symmetric):
    """The normal distribution's relative on the circle, samples in [-π, π)."""
    arg_constraints = {"loc": constraints.real, "concentration": constraints.positive}
    support = constraints.real

    def __init__(self, loc, concentration, validate_args=None): self._given(validate_args, loc=loc, concentration=concentration)

    def expand(self, batch_shape, _instance=None):
        return type(self)(self.loc.expand(batch_shape), self.concentration.expand(batch_shape), validate_args=self.__dict__.get("_validate_args"))

    @checked
    def log_prob(self, value):
        return self.concentration * (value - self.loc).cos() - math.log(2 * math.pi) - _log_bessel(self.concentration, 0)

    @lazy_property
    def _proposal_r(self):
        k = self.concentration.to(torch.double)
        tau = 1 + (1 + 4 * k ** 2).sqrt()
        rho = (tau - (2 * tau).sqrt()) / (2 * k)
        return torch.where(k < 1e-5, 1 / k + k, (1 + rho ** 2) / (2 * rho))

    def sample(self, sample_shape=()):
        """Rejection from a wrapped Cauchy distribution (Best and Fisher 1979), in float64."""
        loc, k, r = self.loc.to(torch.double), self.concentration.to(torch.double), self._proposal_r
        x = torch.empty(self._extended_shape(sample_shape), dtype=torch.double, device=loc.device)
        with torch.no_grad():
            done = torch.zeros_like(x, dtype=torch.bool)
            while not done.all():
                u1, u2, u3 = torch.rand((3, *x.shape), dtype=torch.double, device=loc.device).unbind()
                z = (math.pi * u1).cos()
                f = (1 + r * z) / (r + z)
                c = k * (r - f)
                accept = (c * (2 - c) - u2 > 0) | ((c / u2).log() + 1 - c >= 0)
                x, done = torch.where(accept, (u3 - 0.5).sign() * f.acos(), x), done | accept
            return ((x + math.pi + loc) % (2 * math.pi) - math.pi).to(self.loc.dtype)

    @lazy_property
    def variance(self):
        """The circular variance."""
        return 1 - (_log_bessel(self.concentration, 1) - _log_bessel(self.concentration, 0)).exp()
