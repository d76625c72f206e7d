"""Distributions of waiting times and sums of squares. (LogNormal, Pareto, Weibull and others that are transforms of these are in transformed.py.)"""
from __future__ import annotations

from .. import special
from ..framework import api as torch
from . import constraints
from .distribution import Distribution, ExponentialFamily, checked
from .utils import broadcast_all

__all__ = ["Exponential", "Gamma", "Chi2", "FisherSnedecor"]


class Exponential(ExponentialFamily):
    """Waiting time for an event of a given rate."""
    arg_constraints = {"rate": constraints.positive}
    support, has_rsample = constraints.nonnegative, True
    parts = ("rate",)
    _mean_carrier_measure = 0

    def __init__(self, rate, validate_args=None): self._given(validate_args, rate=rate)

    @property
    def mean(self): return self.rate.reciprocal()

    @property
    def mode(self): return torch.zeros_like(self.rate)

    @property
    def stddev(self): return self.rate.reciprocal()

    @property
    def variance(self): return self.rate.pow(-2)

    def rsample(self, sample_shape=()):
        return torch.empty(self._extended_shape(sample_shape), dtype=self.rate.dtype, device=self.rate.device).exponential_() / self.rate

    @checked
    def log_prob(self, value): return self.rate.log() - self.rate * value

    @checked
    def cdf(self, value): return 1 - (-self.rate * value).exp()

    def icdf(self, value): return -(-value).log1p() / self.rate
    def entropy(self): return 1.0 - self.rate.log()

    @property
    def _natural_params(self): return -self.rate,

    def _log_normalizer(self, x): return -(-x).log()


class Gamma(ExponentialFamily):
    """Shape `concentration` and `rate`; samples move with the shape by implicit differentiation (Figurnov et al. 2018)."""
    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support, has_rsample = constraints.nonnegative, True
    parts = ("concentration", "rate")
    _mean_carrier_measure = 0

    def __init__(self, concentration, rate, validate_args=None): self._given(validate_args, concentration=concentration, rate=rate)

    @property
    def mean(self): return self.concentration / self.rate

    @property
    def mode(self): return ((self.concentration - 1) / self.rate).clamp(min=0)

    @property
    def variance(self): return self.concentration / self.rate.pow(2)

    def rsample(self, sample_shape=()):
        shape = self._extended_shape(sample_shape)
        value = torch._standard_gamma(self.concentration.expand(shape)) / self.rate.expand(shape)
        value.detach().clamp_(min=torch.finfo(value.dtype).tiny)        # the value only: a gradient goes through unclamped
        return value

    def log_prob(self, value):
        a, rate, value = self.concentration, self.rate, torch.as_tensor(value, dtype=self.rate.dtype)
        if self._validate_args: self._validate_sample(value)
        return torch.xlogy(a, rate) + torch.xlogy(a - 1, value) - rate * value - a.lgamma()

    def entropy(self):
        a = self.concentration
        return a - self.rate.log() + a.lgamma() + (1.0 - a) * a.digamma()

    @checked
    def cdf(self, value): return special.gammainc(self.concentration, self.rate * value)

    @property
    def _natural_params(self): return self.concentration - 1, -self.rate

    def _log_normalizer(self, x, y): return (x + 1).lgamma() + (x + 1) * (-y.reciprocal()).log()


class Chi2(Gamma):
    """The sum of `df` squared standard normal numbers."""
    arg_constraints = {"df": constraints.positive}
    parts = ("concentration", "rate")

    def __init__(self, df, validate_args=None): super().__init__(0.5 * df, 0.5, validate_args=validate_args)

    @property
    def df(self): return self.concentration * 2


class FisherSnedecor(Distribution):
    """The ratio of two independent mean squares, with `df1` and `df2` degrees of freedom."""
    arg_constraints = {"df1": constraints.positive, "df2": constraints.positive}
    support, has_rsample = constraints.positive, True
    parts = ("df1", "df2", "_gamma1", "_gamma2")

    def __init__(self, df1, df2, validate_args=None):
        self.df1, self.df2 = broadcast_all(df1, df2)
        self._gamma1, self._gamma2 = (Gamma(df * 0.5, df) for df in (self.df1, self.df2))
        super().__init__(self.df1.shape, validate_args=validate_args)

    @property
    def mean(self):
        d = torch.where(self.df2 <= 2, torch.nan, self.df2)
        return d / (d - 2)

    @property
    def mode(self):
        mode = (self.df1 - 2) / self.df1 * self.df2 / (self.df2 + 2)
        return torch.where(self.df1 <= 2, torch.nan, mode)

    @property
    def variance(self):
        d = torch.where(self.df2 <= 4, torch.nan, self.df2)
        return 2 * d.pow(2) * (self.df1 + d - 2) / (self.df1 * (d - 2).pow(2) * (d - 4))

    def rsample(self, sample_shape=()):
        x1, x2 = self._gamma1.rsample(sample_shape), self._gamma2.rsample(sample_shape)
        tiny = torch.finfo(x2.dtype).tiny
        return (x1 / x2.clamp(min=tiny)).clamp(min=tiny)

    @checked
    def log_prob(self, value):
        a, b, ratio = self.df1 * 0.5, self.df2 * 0.5, self.df1 / self.df2
        return (a + b).lgamma() - a.lgamma() - b.lgamma() + a * ratio.log() + (a - 1) * value.log() - (a + b) * (ratio * value).log1p()
