"""Distributions of proportions: on the unit interval and on the simplex."""
from __future__ import annotations

import math

from ..framework import api as torch
from ..nn.functional import binary_cross_entropy_with_logits, one_hot
from . import constraints
from .distribution import ExponentialFamily, Odds, checked
from .utils import Number, broadcast_all, clamp_probs, lazy_property, logits_to_probs, uniform

__all__ = ["Beta", "ContinuousBernoulli", "Dirichlet"]


class Dirichlet(ExponentialFamily):
    """Proportions; samples move with the concentrations along their path (Jankowiak and Obermeyer 2018)."""
    arg_constraints = {"concentration": constraints.independent(constraints.positive, 1)}
    support, has_rsample = constraints.simplex, True
    parts = ("concentration",)

    def __init__(self, concentration, validate_args=None):
        if concentration.dim() < 1: raise ValueError("`concentration` parameter must be at least one-dimensional.")
        self.concentration = concentration
        super().__init__(concentration.shape[:-1], concentration.shape[-1:], validate_args=validate_args)

    def rsample(self, sample_shape=()): return torch._sample_dirichlet(self.concentration.expand(self._extended_shape(sample_shape)))

    @checked
    def log_prob(self, value):
        a = self.concentration
        return torch.xlogy(a - 1.0, value).sum(-1) + a.sum(-1).lgamma() - a.lgamma().sum(-1)

    @property
    def mean(self): return self.concentration / self.concentration.sum(-1, True)

    @property
    def mode(self):
        """Where all concentrations are below 1, a corner."""
        less = (self.concentration - 1).clamp(min=0.0)
        mode = less / less.sum(-1, True)
        corner = one_hot(mode.argmax(-1), less.shape[-1]).to(mode)
        return torch.where((self.concentration < 1).all(-1, True), corner, mode)

    @property
    def variance(self):
        a, total = self.concentration, self.concentration.sum(-1, True)
        return a * (total - a) / (total.pow(2) * (total + 1))

    def entropy(self):
        a, k, total = self.concentration, self.concentration.size(-1), self.concentration.sum(-1)
        return a.lgamma().sum(-1) - total.lgamma() - (k - total) * total.digamma() - ((a - 1.0) * a.digamma()).sum(-1)

    @property
    def _natural_params(self): return self.concentration,

    def _log_normalizer(self, x): return x.lgamma().sum(-1) - x.sum(-1).lgamma()


class Beta(ExponentialFamily):
    """The first proportion of a Dirichlet distribution with two."""
    arg_constraints = {"concentration1": constraints.positive, "concentration0": constraints.positive}
    support, has_rsample = constraints.unit_interval, True
    parts = ("_dirichlet",)

    def __init__(self, concentration1, concentration0, validate_args=None):
        if isinstance(concentration1, Number) and isinstance(concentration0, Number):
            both = torch.tensor([float(concentration1), float(concentration0)])
        else: both = torch.stack(broadcast_all(concentration1, concentration0), -1)
        self._dirichlet = Dirichlet(both, validate_args=validate_args)
        super().__init__(self._dirichlet.batch_shape, validate_args=validate_args)

    @property
    def concentration1(self): return self._dirichlet.concentration[..., 0]

    @property
    def concentration0(self): return self._dirichlet.concentration[..., 1]

    @property
    def mean(self): return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def mode(self): return self._dirichlet.mode[..., 0]

    @property
    def variance(self):
        total = self.concentration1 + self.concentration0
        return self.concentration1 * self.concentration0 / (total.pow(2) * (total + 1))

    def rsample(self, sample_shape=()): return self._dirichlet.rsample(sample_shape).select(-1, 0)

    @checked
    def log_prob(self, value): return self._dirichlet.log_prob(torch.stack([value, 1.0 - value], -1))

    def entropy(self): return self._dirichlet.entropy()

    @property
    def _natural_params(self): return self.concentration1, self.concentration0

    def _log_normalizer(self, x, y): return x.lgamma() + y.lgamma() - (x + y).lgamma()


class ContinuousBernoulli(Odds, ExponentialFamily):
    """Density proportional to p^x (1-p)^(1-x) on [0, 1] (Loaiza-Ganem and Cunningham 2019); near p = ½, within `lims`, Taylor series."""
    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support, has_rsample = constraints.unit_interval, True
    parts, kept = ("probs", "logits"), ("_lims",)
    _mean_carrier_measure = 0

    def __init__(self, probs=None, logits=None, lims=(0.499, 0.501), validate_args=None):
        name, value = self._one_of(probs, logits)
        value, = broadcast_all(value)
        if name == "probs":
            if validate_args is not None and not self.arg_constraints["probs"].check(value).all():
                raise ValueError("The parameter probs has invalid values")
            value = clamp_probs(value)
        self._lims = lims
        self._given(validate_args, **{name: value})

    @lazy_property
    def probs(self): return clamp_probs(logits_to_probs(self.logits, is_binary=True))

    def _stable(self): return (self.probs <= self._lims[0]) | (self.probs > self._lims[1])
    def _cut_probs(self): return torch.where(self._stable(), self.probs, self._lims[0] * torch.ones_like(self.probs))

    def _cont_bern_log_norm(self):
        p = self._cut_probs()
        low, high = torch.where(p <= 0.5, p, torch.zeros_like(p)), torch.where(p >= 0.5, p, torch.ones_like(p))
        away = ((-p).log1p() - p.log()).abs().log() - torch.where(p <= 0.5, (-2.0 * low).log1p(), (2.0 * high - 1.0).log())
        x = (self.probs - 0.5).pow(2)
        return torch.where(self._stable(), away, math.log(2.0) + (4.0 / 3.0 + 104.0 / 45.0 * x) * x)

    @property
    def mean(self):
        p, x = self._cut_probs(), self.probs - 0.5
        away = p / (2.0 * p - 1.0) + 1.0 / ((-p).log1p() - p.log())
        return torch.where(self._stable(), away, 0.5 + (1.0 / 3.0 + 16.0 / 45.0 * x.pow(2)) * x)

    @property
    def variance(self):
        p, x = self._cut_probs(), (self.probs - 0.5).pow(2)
        away = p * (p - 1.0) / (1.0 - 2.0 * p).pow(2) + 1.0 / ((-p).log1p() - p.log()).pow(2)
        return torch.where(self._stable(), away, 1.0 / 12.0 - (1.0 / 15.0 - 128.0 / 945.0 * x) * x)

    def rsample(self, sample_shape=()): return self.icdf(uniform(self._extended_shape(sample_shape), self.probs))

    @checked
    def log_prob(self, value):
        return -binary_cross_entropy_with_logits(*broadcast_all(self.logits, value), reduction="none") + self._cont_bern_log_norm()

    @checked
    def cdf(self, value):
        p = self._cut_probs()
        inside = (p.pow(value) * (1.0 - p).pow(1.0 - value) + p - 1.0) / (2.0 * p - 1.0)
        inside = torch.where(self._stable(), inside, value)
        return torch.where(value <= 0.0, torch.zeros_like(value), torch.where(value >= 1.0, torch.ones_like(value), inside))

    def icdf(self, value):
        p = self._cut_probs()
        away = ((-p + value * (2.0 * p - 1.0)).log1p() - (-p).log1p()) / (p.log() - (-p).log1p())
        return torch.where(self._stable(), away, value)

    def entropy(self):
        tails = (-self.probs).log1p()
        return self.mean * (tails - self.probs.log()) - self._cont_bern_log_norm() - tails

    @property
    def _natural_params(self): return self.logits,

    def _log_normalizer(self, x):
        low, high = self._lims[0] - 0.5, self._lims[1] - 0.5
        stable = (x <= low) | (x > high)
        cut = torch.where(stable, x, low * torch.ones_like(x))
        return torch.where(stable, cut.expm1().abs().log() - cut.abs().log(), 0.5 * x + x.pow(2) / 24.0 - x.pow(4) / 2880.0)
