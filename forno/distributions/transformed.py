"""Distributions that are another one seen through transforms: their sampling, log_prob, cdf and icdf follow from that."""
from __future__ import annotations

import math

from ..framework import api as torch
from . import constraints
from .combined import TransformedDistribution
from .discrete import Categorical
from .distribution import Distribution, Odds, checked
from .positive import Exponential, Gamma
from .real import Cauchy, Normal, Uniform
from .transforms import AbsTransform, AffineTransform, ExpTransform, PowerTransform, SigmoidTransform, StickBreakingTransform
from .utils import Number, broadcast_all, clamp_probs, euler_constant, uniform

__all__ = ["Gumbel", "HalfCauchy", "HalfNormal", "InverseGamma", "Kumaraswamy", "LogNormal", "LogisticNormal", "Pareto", "RelaxedBernoulli",
           "RelaxedOneHotCategorical", "Weibull"]

_LOC_SCALE = {"loc": constraints.real, "scale": constraints.positive}


def _of_base(*names):
    """Properties that are the base distribution's."""
    return (property(lambda self, name=name: getattr(self.base_dist, name)) for name in names)


class Gumbel(TransformedDistribution):
    """The largest of many: -log(-log u), u uniform."""
    arg_constraints, support = _LOC_SCALE, constraints.real
    parts = ("loc", "scale")

    def __init__(self, loc, scale, validate_args=None):
        self.loc, self.scale = broadcast_all(loc, scale)
        info = torch.finfo(self.loc.dtype)
        ends = info.tiny, 1 - info.eps
        if not (isinstance(loc, Number) and isinstance(scale, Number)): ends = (torch.full_like(self.loc, e) for e in ends)
        super().__init__(Uniform(*ends, validate_args=validate_args),
                         [ExpTransform().inv, AffineTransform(0, -torch.ones_like(self.scale)), ExpTransform().inv,
                          AffineTransform(loc, -self.scale)],
                         validate_args=validate_args)

    @checked
    def log_prob(self, value):
        y = (self.loc - value) / self.scale
        return y - y.exp() - self.scale.log()

    @property
    def mean(self): return self.loc + self.scale * euler_constant

    @property
    def mode(self): return self.loc

    @property
    def stddev(self): return math.pi / math.sqrt(6) * self.scale

    @property
    def variance(self): return self.stddev.pow(2)

    def entropy(self): return self.scale.log() + (1 + euler_constant)


class _Half(TransformedDistribution):
    """The absolute value of a distribution around 0."""
    arg_constraints, support, has_rsample = {"scale": constraints.positive}, constraints.nonnegative, True
    parts = ()
    scale, = _of_base("scale")

    @property
    def mode(self): return torch.zeros_like(self.scale)

    @checked
    def log_prob(self, value):
        value = torch.as_tensor(value, dtype=self.scale.dtype)
        return torch.where(value >= 0, self.base_dist.log_prob(value) + math.log(2), -math.inf)

    @checked
    def cdf(self, value): return 2 * self.base_dist.cdf(value) - 1

    def icdf(self, prob): return self.base_dist.icdf((prob + 1) / 2)
    def entropy(self): return self.base_dist.entropy() - math.log(2)


class HalfNormal(_Half):
    """|x|, x normal."""
    parts = ()

    def __init__(self, scale, validate_args=None):
        super().__init__(Normal(0, scale, validate_args=False), AbsTransform(), validate_args=validate_args)

    @property
    def mean(self): return self.scale * math.sqrt(2 / math.pi)

    @property
    def variance(self): return self.scale.pow(2) * (1 - 2 / math.pi)


class HalfCauchy(_Half):
    """|x|, x a Cauchy number."""
    parts = ()

    def __init__(self, scale, validate_args=None):
        super().__init__(Cauchy(0, scale, validate_args=False), AbsTransform(), validate_args=validate_args)

    @property
    def mean(self): return self._filled(math.inf, self.scale)

    @property
    def variance(self): return self.base_dist.variance


class LogNormal(TransformedDistribution):
    """exp(x), x normal."""
    arg_constraints, support, has_rsample = _LOC_SCALE, constraints.positive, True
    parts = ()
    loc, scale = _of_base("loc", "scale")

    def __init__(self, loc, scale, validate_args=None):
        super().__init__(Normal(loc, scale, validate_args=validate_args), ExpTransform(), validate_args=validate_args)

    @property
    def mean(self): return (self.loc + self.scale.pow(2) / 2).exp()

    @property
    def mode(self): return (self.loc - self.scale.square()).exp()

    @property
    def variance(self):
        s = self.scale.pow(2)
        return s.expm1() * (2 * self.loc + s).exp()

    def entropy(self): return self.base_dist.entropy() + self.loc


class LogisticNormal(TransformedDistribution):
    """Normal numbers broken off a stick: proportions, one more than there are parameters."""
    arg_constraints, support, has_rsample = _LOC_SCALE, constraints.simplex, True
    parts = ()
    loc, scale = (property(lambda self, name=name: getattr(self.base_dist.base_dist, name)) for name in ("loc", "scale"))

    def __init__(self, loc, scale, validate_args=None):
        base = Normal(loc, scale, validate_args=validate_args)
        if not base.batch_shape: base = base.expand([1])
        super().__init__(base, StickBreakingTransform(), validate_args=validate_args)


class InverseGamma(TransformedDistribution):
    """1/x, x a gamma number."""
    arg_constraints = {"concentration": constraints.positive, "rate": constraints.positive}
    support, has_rsample = constraints.positive, True
    parts = ()
    concentration, rate = _of_base("concentration", "rate")

    def __init__(self, concentration, rate, validate_args=None):
        base = Gamma(concentration, rate, validate_args=validate_args)
        super().__init__(base, PowerTransform(-base.rate.new_ones(())), validate_args=validate_args)

    @property
    def mean(self): return torch.where(self.concentration > 1, self.rate / (self.concentration - 1), torch.inf)

    @property
    def mode(self): return self.rate / (self.concentration + 1)

    @property
    def variance(self):
        a = self.concentration
        return torch.where(a > 2, self.rate.square() / ((a - 1).square() * (a - 2)), torch.inf)

    def entropy(self):
        a = self.concentration
        return a + self.rate.log() + a.lgamma() - (1 + a) * a.digamma()


class Kumaraswamy(TransformedDistribution):
    """(1 - (1 - u)^(1/b))^(1/a): close to a Beta distribution, with a simple cdf."""
    arg_constraints = {"concentration1": constraints.positive, "concentration0": constraints.positive}
    support, has_rsample = constraints.unit_interval, True
    parts = ("concentration1", "concentration0")

    def __init__(self, concentration1, concentration0, validate_args=None):
        self.concentration1, self.concentration0 = a, b = broadcast_all(concentration1, concentration0)
        super().__init__(Uniform(torch.full_like(b, 0), torch.full_like(b, 1), validate_args=validate_args),
                         [PowerTransform(b.reciprocal()), AffineTransform(1.0, -1.0), PowerTransform(a.reciprocal())], validate_args=validate_args)

    def _moment(self, n):
        a, b = 1 + n / self.concentration1, self.concentration0
        return b * (a.lgamma() + b.lgamma() - (a + b).lgamma()).exp()

    @property
    def mean(self): return self._moment(1)

    @property
    def mode(self):
        a, b = self.concentration1, self.concentration0
        log_mode = b.reciprocal() * (-b).log1p() - (-b * a).log1p()
        return torch.where((b < 1) | (a < 1), torch.nan, log_mode).exp()

    @property
    def variance(self): return self._moment(2) - self.mean.pow(2)

    def entropy(self):
        a, b = self.concentration1, self.concentration0
        harmonic = (b + 1).digamma() + euler_constant
        return 1 - b.reciprocal() + (1 - a.reciprocal()) * harmonic - a.log() - b.log()


class Pareto(TransformedDistribution):
    """scale · exp(x), x exponential."""
    arg_constraints = {"alpha": constraints.positive, "scale": constraints.positive}
    parts = ("scale", "alpha")

    def __init__(self, scale, alpha, validate_args=None):
        self.scale, self.alpha = broadcast_all(scale, alpha)
        super().__init__(Exponential(self.alpha, validate_args=validate_args), [ExpTransform(), AffineTransform(0, self.scale)],
                         validate_args=validate_args)

    @constraints.dependent_property(is_discrete=False, event_dim=0)
    def support(self): return constraints.greater_than_eq(self.scale)

    @property
    def mean(self):
        a = self.alpha.clamp(min=1)
        return a * self.scale / (a - 1)

    @property
    def mode(self): return self.scale

    @property
    def variance(self):
        a = self.alpha.clamp(min=2)
        return self.scale.pow(2) * a / ((a - 1).pow(2) * (a - 2))

    def entropy(self): return (self.scale / self.alpha).log() + (1 + self.alpha.reciprocal())


class Weibull(TransformedDistribution):
    """scale · x^(1/concentration), x exponential."""
    arg_constraints, support = {"scale": constraints.positive, "concentration": constraints.positive}, constraints.positive
    parts = ("scale", "concentration", "concentration_reciprocal")

    def __init__(self, scale, concentration, validate_args=None):
        self.scale, self.concentration = broadcast_all(scale, concentration)
        self.concentration_reciprocal = self.concentration.reciprocal()
        super().__init__(Exponential(torch.ones_like(self.scale), validate_args=validate_args),
                         [PowerTransform(self.concentration_reciprocal), AffineTransform(0, self.scale)], validate_args=validate_args)

    def _log_moment(self, n): return (1 + n * self.concentration_reciprocal).lgamma()

    @property
    def mean(self): return self.scale * self._log_moment(1).exp()

    @property
    def mode(self): return self.scale * ((self.concentration - 1) / self.concentration) ** self.concentration.reciprocal()

    @property
    def variance(self): return self.scale.pow(2) * (self._log_moment(2).exp() - (2 * self._log_moment(1)).exp())

    def entropy(self): return euler_constant * (1 - self.concentration_reciprocal) + (self.scale * self.concentration_reciprocal).log() + 1


# ---------------------------------------------------------------- relaxations of discrete distributions (Maddison et al. 2017, Jang et al. 2017)
class LogitRelaxedBernoulli(Odds):
    """The logit of a relaxed coin: (logistic noise + logits) / temperature."""
    arg_constraints, support = {"probs": constraints.unit_interval, "logits": constraints.real}, constraints.real
    parts, kept = ("probs", "logits"), ("temperature",)

    def __init__(self, temperature, probs=None, logits=None, validate_args=None):
        self.temperature = temperature
        name, value = self._one_of(probs, logits)
        self._given(validate_args, **{name: value})

    def rsample(self, sample_shape=()):
        shape = self._extended_shape(sample_shape)
        p = clamp_probs(self.probs.expand(shape))
        u = clamp_probs(uniform(shape, p))
        return (u.log() - (-u).log1p() + p.log() - (-p).log1p()) / self.temperature

    @checked
    def log_prob(self, value):
        logits, value = broadcast_all(self.logits, value)
        diff = logits - value * self.temperature
        return self.temperature.log() + diff - 2 * diff.exp().log1p()


class RelaxedBernoulli(TransformedDistribution):
    """A coin between 0 and 1, the closer to them the lower the temperature."""
    arg_constraints = {"probs": constraints.unit_interval, "logits": constraints.real}
    support, has_rsample = constraints.unit_interval, True
    parts = ()
    temperature, logits, probs = _of_base("temperature", "logits", "probs")

    def __init__(self, temperature, probs=None, logits=None, validate_args=None):
        super().__init__(LogitRelaxedBernoulli(temperature, probs, logits), SigmoidTransform(), validate_args=validate_args)


class ExpRelaxedCategorical(Distribution):
    """The logarithm of a relaxed category: softmax of (Gumbel noise + logits) / temperature."""
    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support, has_rsample = constraints.real_vector, True
    parts, kept = ("_categorical",), ("temperature",)
    logits, probs, param_shape = (property(lambda self, name=name: getattr(self._categorical, name)) for name in ("logits", "probs", "param_shape"))

    def __init__(self, temperature, probs=None, logits=None, validate_args=None):
        self._categorical, self.temperature = Categorical(probs, logits), temperature
        super().__init__(self._categorical.batch_shape, self.param_shape[-1:], validate_args=validate_args)

    def _new(self, *args, **kw): return self._categorical._new(*args, **kw)

    def rsample(self, sample_shape=()):
        u = clamp_probs(uniform(self._extended_shape(sample_shape), self.logits))
        scores = (self.logits - (-u.log()).log()) / self.temperature
        return scores - scores.logsumexp(-1, keepdim=True)

    @checked
    def log_prob(self, value):
        k = self._categorical._num_events
        logits, value = broadcast_all(self.logits, value)
        scale = torch.full_like(self.temperature, float(k)).lgamma() + self.temperature.log() * (k - 1)
        score = logits - value * self.temperature
        return (score - score.logsumexp(-1, keepdim=True)).sum(-1) + scale


class RelaxedOneHotCategorical(TransformedDistribution):
    """Proportions that are nearly one-hot at low temperatures."""
    arg_constraints = {"probs": constraints.simplex, "logits": constraints.real_vector}
    support, has_rsample = constraints.simplex, True
    parts = ()
    temperature, logits, probs = _of_base("temperature", "logits", "probs")

    def __init__(self, temperature, probs=None, logits=None, validate_args=None):
        base = ExpRelaxedCategorical(temperature, probs, logits, validate_args=validate_args)
        super().__init__(base, ExpTransform(), validate_args=validate_args)
