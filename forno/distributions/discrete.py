"""Distributions of counts, categories and coins."""
from __future__ import annotations

from ..framework import api as torch
from ..nn.functional import binary_cross_entropy_with_logits, logsigmoid, one_hot
from . import constraints
from .distribution import Counts, Distribution, ExponentialFamily, Odds, checked
from .positive import Gamma
from .utils import broadcast_all, lazy_property

__all__ = ["Bernoulli", "Binomial", "Categorical", "Geometric", "Multinomial", "NegativeBinomial", "OneHotCategorical",
           "OneHotCategoricalStraightThrough", "Poisson"]

_ODDS = {"probs": constraints.unit_interval, "logits": constraints.real}
_CLASSES = {"probs": constraints.simplex, "logits": constraints.real_vector}


def cross_entropy(logits, target): return binary_cross_entropy_with_logits(logits, target, reduction="none")


class Bernoulli(Odds, ExponentialFamily):
    """1 with probability p, else 0."""
    arg_constraints = _ODDS
    support, has_enumerate_support = constraints.boolean, True
    parts = ("probs", "logits")
    _mean_carrier_measure = 0

    def __init__(self, probs=None, logits=None, validate_args=None):
        name, value = self._one_of(probs, logits)
        self._given(validate_args, **{name: value})

    @property
    def mean(self): return self.probs

    @property
    def mode(self): return torch.where(self.probs == 0.5, torch.nan, (self.probs >= 0.5).to(self.probs))

    @property
    def variance(self): return self.probs * (1 - self.probs)

    def sample(self, sample_shape=()):
        with torch.no_grad(): return torch.bernoulli(self.probs.expand(self._extended_shape(sample_shape)))

    @checked
    def log_prob(self, value): return -cross_entropy(*broadcast_all(self.logits, value))

    def entropy(self): return cross_entropy(self.logits, self.probs)
    def enumerate_support(self, expand=True): return self._enumerated(torch.arange(2, dtype=self._param.dtype, device=self._param.device), expand)

    @property
    def _natural_params(self): return torch.logit(self.probs),

    def _log_normalizer(self, x): return x.exp().log1p()


class Geometric(Odds):
    """Failures before the first success."""
    arg_constraints = _ODDS
    support = constraints.nonnegative_integer
    parts = ("probs", "logits")

    def __init__(self, probs=None, logits=None, validate_args=None):
        name, value = self._one_of(probs, logits)
        self._given(validate_args, **{name: value})
        if not self._validate_args or probs is None or (self.probs > 0).all(): return
        p = self.probs
        raise ValueError(f"Expected parameter probs ({type(p).__name__} of shape {tuple(p.shape)}) of distribution {self!r} to be positive but found "
                         f"invalid values:\n{p.data[~(p > 0)]}")

    @property
    def mean(self): return 1.0 / self.probs - 1.0

    @property
    def mode(self): return torch.zeros_like(self.probs)

    @property
    def variance(self): return (1.0 / self.probs - 1.0) / self.probs

    def sample(self, sample_shape=()):
        p = self.probs
        with torch.no_grad():
            u = torch.empty(self._extended_shape(sample_shape), dtype=p.dtype, device=p.device).uniform_(torch.finfo(p.dtype).tiny, 1)
            return (u.log() / (-p).log1p()).floor()

    @checked
    def log_prob(self, value):
        value, p = broadcast_all(value, self.probs)
        p = torch.where((p == 1) & (value == 0), 0, p)                  # 0 · log 0 is 0
        return value * (-p).log1p() + self.probs.log()

    def entropy(self): return cross_entropy(self.logits, self.probs) / self.probs


class Poisson(ExponentialFamily):
    """Events in a unit of time at a given rate."""
    arg_constraints = {"rate": constraints.nonnegative}
    support = constraints.nonnegative_integer
    parts = ("rate",)

    def __init__(self, rate, validate_args=None): self._given(validate_args, rate=rate)

    @property
    def mean(self): return self.rate

    @property
    def mode(self): return self.rate.floor()

    @property
    def variance(self): return self.rate

    def sample(self, sample_shape=()):
        with torch.no_grad(): return torch.poisson(self.rate.expand(self._extended_shape(sample_shape)))

    @checked
    def log_prob(self, value):
        rate, value = broadcast_all(self.rate, value)
        return value.xlogy(rate) - rate - (value + 1).lgamma()

    @property
    def _natural_params(self): return self.rate.log(),

    def _log_normalizer(self, x): return x.exp()


class Binomial(Counts):
    """Successes among `total_count` trials."""
    arg_constraints = {"total_count": constraints.nonnegative_integer} | _ODDS
    has_enumerate_support = True
    parts = ("total_count", "probs", "logits")

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self): return constraints.integer_interval(0, self.total_count)

    @property
    def mean(self): return self.total_count * self.probs

    @property
    def mode(self): return ((self.total_count + 1) * self.probs).floor().clamp(max=self.total_count)

    @property
    def variance(self): return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape=()):
        shape = self._extended_shape(sample_shape)
        with torch.no_grad(): return torch.binomial(self.total_count.expand(shape), self.probs.expand(shape))

    @checked
    def log_prob(self, value):
        """log n!/(k!(n-k)!) + k·logits - n·log(1 + e^logits), the last one without overflow."""
        n, z = self.total_count, self.logits
        positive = (z.clamp(min=0) + z - z.clamp(max=0)) / 2            # max(z, 0), with half a gradient at 0
        normalizer = n * positive + n * (-z.abs()).exp().log1p() - (n + 1).lgamma()
        return value * z - (value + 1).lgamma() - (n - value + 1).lgamma() - normalizer

    def _same_count(self, what):
        n = int(self.total_count.max())
        if self.total_count.min() != n: raise NotImplementedError(f"Inhomogeneous total count not supported by `{what}`.")
        return n

    def entropy(self):
        self._same_count("entropy")
        p = self.log_prob(self.enumerate_support(False))
        return -(p.exp() * p).sum(0)

    def enumerate_support(self, expand=True):
        return self._enumerated(torch.arange(1 + self._same_count("enumerate_support"), dtype=self._param.dtype, device=self._param.device), expand)


class NegativeBinomial(Counts):
    """Successes before `total_count` failures."""
    arg_constraints = {"total_count": constraints.greater_than_eq(0), "probs": constraints.half_open_interval(0.0, 1.0), "logits": constraints.real}
    support = constraints.nonnegative_integer
    parts = ("total_count", "probs", "logits")

    def __init__(self, total_count, probs=None, logits=None, validate_args=None): super().__init__(total_count, probs, logits, validate_args)

    @property
    def mean(self): return self.total_count * self.logits.exp()

    @property
    def mode(self): return ((self.total_count - 1) * self.logits.exp()).floor().clamp(min=0.0)

    @property
    def variance(self): return self.mean / torch.sigmoid(-self.logits)

    @lazy_property
    def _gamma(self): return Gamma(self.total_count, (-self.logits).exp(), validate_args=False)

    def sample(self, sample_shape=()):
        """A Poisson variate whose rate is a gamma variate."""
        with torch.no_grad(): return torch.poisson(self._gamma.sample(sample_shape))

    @checked
    def log_prob(self, value):
        n = self.total_count
        normalizer = (1.0 + value).lgamma() + n.lgamma() - (n + value).lgamma()
        return n * logsigmoid(-self.logits) + value * logsigmoid(self.logits) - normalizer.masked_fill(n + value == 0.0, 0.0)


# ---------------------------------------------------------------- categories
class Categorical(Odds):
    """0 … n-1 with the given probabilities, or logits; both are normalised."""
    arg_constraints = _CLASSES
    has_enumerate_support, _binary = True, False
    parts, kept = ("probs", "logits"), ("_num_events",)

    def __init__(self, probs=None, logits=None, validate_args=None):
        name, value = self._one_of(probs, logits)
        if value.dim() < 1: raise ValueError(f"`{name}` parameter must be at least one-dimensional.")
        setattr(self, name, value / value.sum(-1, keepdim=True) if logits is None else value - value.logsumexp(-1, keepdim=True))
        self._num_events = value.size(-1)
        super().__init__(value.shape[:-1], validate_args=validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=0)
    def support(self): return constraints.integer_interval(0, self._num_events - 1)

    @property
    def mean(self): return self._filled(torch.nan, self.probs)

    @property
    def mode(self): return self.probs.argmax(-1)

    @property
    def variance(self): return self._filled(torch.nan, self.probs)

    def sample(self, sample_shape=()):
        drawn = torch.multinomial(self.probs.reshape(-1, self._num_events), torch.Size(sample_shape).numel(), True)      # (batch, samples)
        return drawn.T.reshape(self._extended_shape(sample_shape))

    @checked
    def log_prob(self, value):
        index, logits = value.long().unsqueeze(-1), self.logits
        if value.shape != self._batch_shape:
            index, logits = torch.broadcast_tensors(index, logits)
            index = index[..., :1]
        return logits.gather(-1, index).squeeze(-1)

    def entropy(self): return -(self.logits.clamp(min=torch.finfo(self.logits.dtype).min) * self.probs).sum(-1)
    def enumerate_support(self, expand=True): return self._enumerated(torch.arange(self._num_events, device=self._param.device), expand)


class _OverCategories(Distribution):
    """Vectors with a place per category, over a Categorical."""
    arg_constraints = _CLASSES
    parts = ("_categorical",)

    def _new(self, *args, **kw): return self._categorical._new(*args, **kw)

    @property
    def _param(self): return self._categorical._param

    @property
    def probs(self): return self._categorical.probs

    @property
    def logits(self): return self._categorical.logits

    @property
    def param_shape(self): return self._categorical.param_shape

    def _over(self, probs, logits, validate_args, inner=None):
        self._categorical = Categorical(probs, logits, validate_args=inner)
        Distribution.__init__(self, self._categorical.batch_shape, self.param_shape[-1:], validate_args=validate_args)


class OneHotCategorical(_OverCategories):
    """A category as a vector with a single 1."""
    support, has_enumerate_support = constraints.one_hot, True
    parts = ("_categorical",)

    def __init__(self, probs=None, logits=None, validate_args=None): self._over(probs, logits, validate_args)

    @property
    def mean(self): return self.probs

    @property
    def mode(self): return one_hot(self.probs.argmax(-1), self.event_shape[0]).to(self.probs)

    @property
    def variance(self): return self.probs * (1 - self.probs)

    def sample(self, sample_shape=()): return one_hot(self._categorical.sample(sample_shape), self.event_shape[0]).to(self.probs)

    @checked
    def log_prob(self, value): return self._categorical.log_prob(value.max(-1)[1])

    def entropy(self): return self._categorical.entropy()

    def enumerate_support(self, expand=True):
        n = self.event_shape[0]
        values = torch.eye(n, dtype=self._param.dtype, device=self._param.device).view((n,) + (1,) * len(self.batch_shape) + (n,))
        return values.expand((n,) + self.batch_shape + (n,)) if expand else values


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """Samples pass gradients on to the probabilities as if they were them (Bengio, Léonard and Courville 2013)."""
    has_rsample = True

    def rsample(self, sample_shape=()): return self.sample(sample_shape) + (self.probs - self.probs.detach())


class Multinomial(_OverCategories):
    """How often each category comes up in `total_count` draws."""
    parts, kept = ("_categorical",), ("total_count",)

    def __init__(self, total_count=1, probs=None, logits=None, validate_args=None):
        if not isinstance(total_count, int): raise NotImplementedError("inhomogeneous total_count is not supported")
        self.total_count = total_count
        self._over(probs, logits, validate_args)

    @constraints.dependent_property(is_discrete=True, event_dim=1)
    def support(self): return constraints.multinomial(self.total_count)

    @property
    def mean(self): return self.probs * self.total_count

    @property
    def variance(self): return self.total_count * self.probs * (1 - self.probs)

    def sample(self, sample_shape=()):
        drawn = self._categorical.sample((self.total_count, *sample_shape)).movedim(0, -1)
        return torch.zeros(self._extended_shape(sample_shape), dtype=torch.long, device=drawn.device).scatter_add_(-1, drawn, torch.ones_like(drawn)).type_as(self.probs)

    def entropy(self):
        """n·H - log n! + Σ over categories of E[log k!], k binomial."""
        n, coins = torch.tensor(self.total_count), Binomial(self.total_count, probs=self.probs)
        counts = coins.enumerate_support(expand=False)[1:]
        return n * self._categorical.entropy() - (n + 1).lgamma() + (coins.log_prob(counts).exp() * (counts + 1).lgamma()).sum([0, -1])

    @checked
    def log_prob(self, value):
        logits, value = broadcast_all(self.logits, value)
        logits = torch.where((value == 0) & (logits == -torch.inf), 0, logits)
        return (value.sum(-1) + 1).lgamma() - (value + 1).lgamma().sum(-1) + (logits * value).sum(-1)
