"""Distributions made of others: batch dimensions turned into event dimensions, transformed, mixed."""
from __future__ import annotations

from ..framework import api as torch
from . import constraints
from .discrete import Categorical
from .distribution import Distribution, checked
from .transforms import ComposeTransform, Transform
from .utils import sum_rightmost

__all__ = ["Independent", "TransformedDistribution", "MixtureSameFamily"]


class Independent(Distribution):
    """The last batch dimensions of another distribution as event dimensions: log_prob and entropy are summed over them."""
    arg_constraints = {}
    parts, kept = ("base_dist",), ("reinterpreted_batch_ndims",)

    def __init__(self, base_distribution, reinterpreted_batch_ndims, validate_args=None):
        n, batch = reinterpreted_batch_ndims, base_distribution.batch_shape
        if n > len(batch):
            raise ValueError(f"Expected reinterpreted_batch_ndims <= len(base_distribution.batch_shape), actual {n} vs {len(batch)}")
        cut = len(batch) - n
        self.base_dist, self.reinterpreted_batch_ndims = base_distribution, n
        super().__init__(batch[:cut], batch[cut:] + base_distribution.event_shape, validate_args=validate_args)

    @property
    def has_rsample(self): return self.base_dist.has_rsample

    @property
    def has_enumerate_support(self): return self.reinterpreted_batch_ndims <= 0 and self.base_dist.has_enumerate_support

    @constraints.dependent_property
    def support(self):
        base, n = self.base_dist.support, self.reinterpreted_batch_ndims
        return constraints.independent(base, n) if n else base

    @property
    def mean(self): return self.base_dist.mean

    @property
    def mode(self): return self.base_dist.mode

    @property
    def variance(self): return self.base_dist.variance

    def sample(self, sample_shape=()): return self.base_dist.sample(sample_shape)
    def rsample(self, sample_shape=()): return self.base_dist.rsample(sample_shape)
    def log_prob(self, value): return sum_rightmost(self.base_dist.log_prob(value), self.reinterpreted_batch_ndims)
    def entropy(self): return sum_rightmost(self.base_dist.entropy(), self.reinterpreted_batch_ndims)

    def enumerate_support(self, expand=True):
        if self.reinterpreted_batch_ndims > 0: raise NotImplementedError("Enumeration over cartesian product is not implemented")
        return self.base_dist.enumerate_support(expand=expand)

    def __repr__(self): return f"{self.__class__.__name__}({self.base_dist}, {self.reinterpreted_batch_ndims})"


class TransformedDistribution(Distribution):
    """The distribution of y = transforms(x) with x from another one: log p(y) = log p(x) - log |dy/dx|."""
    arg_constraints = {}
    parts = ()

    def __init__(self, base_distribution, transforms, validate_args=None):
        if isinstance(transforms, Transform): transforms = [transforms]
        if not isinstance(transforms, list): raise ValueError(f"transforms must be a Transform or list, but was {transforms}")
        if not all(isinstance(t, Transform) for t in transforms): raise ValueError("transforms must be a Transform or a list of Transforms")
        self.transforms = transforms
        shape, base_event = base_distribution.batch_shape + base_distribution.event_shape, len(base_distribution.event_shape)
        chain = ComposeTransform(transforms)
        needed, made = chain.domain.event_dim, chain.codomain.event_dim
        if len(shape) < needed: raise ValueError(f"base_distribution needs to have shape with size at least {needed}, but got {shape}.")
        out = chain.forward_shape(shape)
        full = chain.inverse_shape(out)                                # what the transforms' own parameters broadcast the base to
        if shape != full: base_distribution = base_distribution.expand(full[:len(full) - base_event])
        if needed > base_event: base_distribution = Independent(base_distribution, needed - base_event)
        self.base_dist = base_distribution
        event_dim = max(made, base_event + made - needed)
        if len(out) < event_dim: raise AssertionError(f"forward_shape length {len(out)} must be >= event_dim {event_dim}")
        cut = len(out) - event_dim
        super().__init__(out[:cut], out[cut:], validate_args=validate_args)

    def expand(self, batch_shape, _instance=None):
        new, batch_shape = self._get_checked_instance(self._owner(), _instance), torch.Size(batch_shape)
        self._expand_parts(new, batch_shape)
        shape = batch_shape + self.event_shape
        for t in reversed(self.transforms): shape = t.inverse_shape(shape)
        new.base_dist, new.transforms = self.base_dist.expand(shape[:len(shape) - len(self.base_dist.event_shape)]), self.transforms
        Distribution.__init__(new, batch_shape, self.event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    @constraints.dependent_property(is_discrete=False)
    def support(self):
        if not self.transforms: return self.base_dist.support
        support = self.transforms[-1].codomain
        more = len(self.event_shape) - support.event_dim
        return constraints.independent(support, more) if more > 0 else support

    @property
    def has_rsample(self): return self.base_dist.has_rsample

    def sample(self, sample_shape=()):
        with torch.no_grad(): return self._forward(self.base_dist.sample(sample_shape))

    def rsample(self, sample_shape=()): return self._forward(self.base_dist.rsample(sample_shape))

    def _forward(self, x):
        for t in self.transforms: x = t(x)
        return x

    @checked
    def log_prob(self, value):
        event_dim, total, y = len(self.event_shape), 0.0, value
        for t in reversed(self.transforms):
            x = t.inv(y)
            event_dim += t.domain.event_dim - t.codomain.event_dim
            total = total - sum_rightmost(t.log_abs_det_jacobian(x, y), event_dim - t.domain.event_dim)
            y = x
        return total + sum_rightmost(self.base_dist.log_prob(y), event_dim - len(self.base_dist.event_shape))

    def _rising(self, value):
        """value, or 1 - value where the transforms turn the order around."""
        sign = 1
        for t in self.transforms: sign = sign * t.sign
        return value if isinstance(sign, int) and sign == 1 else sign * (value - 0.5) + 0.5

    def cdf(self, value):
        for t in reversed(self.transforms): value = t.inv(value)
        if self._validate_args: self.base_dist._validate_sample(value)
        return self._rising(self.base_dist.cdf(value))

    def icdf(self, value): return self._forward(self.base_dist.icdf(self._rising(value)))


class MixtureSameFamily(Distribution):
    """A categorical over the last batch dimension of a component distribution."""
    arg_constraints = {}
    parts, kept = ("_mixture_distribution", "_component_distribution"), ("_num_component", "_event_ndims")

    def __init__(self, mixture_distribution, component_distribution, validate_args=None):
        if not isinstance(mixture_distribution, Categorical):
            raise ValueError(" The Mixture distribution needs to be an  instance of torch.distributions.Categorical")
        if not isinstance(component_distribution, Distribution):
            raise ValueError("The Component distribution needs to be an instance of torch.distributions.Distribution")
        self._mixture_distribution, self._component_distribution = mixture_distribution, component_distribution
        weights, batch = mixture_distribution.batch_shape, component_distribution.batch_shape[:-1]
        for i, j in zip(reversed(weights), reversed(batch)):
            if i != 1 and j != 1 and i != j: raise ValueError(f"`mixture_distribution.batch_shape` ({weights}) is not compatible with "
                                                              f"`component_distribution.batch_shape`({batch})")
        n, given = mixture_distribution.logits.shape[-1], component_distribution.batch_shape[-1]
        if n != given: raise ValueError(f"`mixture_distribution component` ({n}) does not equal `component_distribution.batch_shape[-1]` ({given})")
        event = component_distribution.event_shape
        self._num_component, self._event_ndims = n, len(event)
        super().__init__(batch, event, validate_args=validate_args)

    @constraints.dependent_property
    def support(self): return constraints.MixtureSameFamilyConstraint(self._component_distribution.support)

    @property
    def mixture_distribution(self): return self._mixture_distribution

    @property
    def component_distribution(self): return self._component_distribution

    def _over_components(self, x):
        """Σ weight · x over the components."""
        w, n = self.mixture_distribution.probs, self._event_ndims
        missing = 0 if len(self.mixture_distribution.batch_shape) == 1 else len(self.batch_shape) - len(self.mixture_distribution.batch_shape)
        w = w.reshape(w.shape[:-1] + (1,) * missing + w.shape[-1:] + (1,) * n)
        return (w * x).sum(-1 - n)

    def _pad(self, x): return x.unsqueeze(-1 - self._event_ndims)

    @property
    def mean(self): return self._over_components(self.component_distribution.mean)

    @property
    def variance(self):
        """The law of total variance."""
        c = self.component_distribution
        return self._over_components(c.variance) + self._over_components((c.mean - self._pad(self.mean)).pow(2.0))

    def cdf(self, x): return (self.component_distribution.cdf(self._pad(x)) * self.mixture_distribution.probs).sum(-1)

    @checked
    def log_prob(self, x):
        return torch.logsumexp(self.component_distribution.log_prob(self._pad(x)) + torch.log_softmax(self.mixture_distribution.logits, -1), -1)

    def sample(self, sample_shape=()):
        with torch.no_grad():
            where, event = len(sample_shape) + len(self.batch_shape), self.event_shape
            chosen = self.mixture_distribution.sample(sample_shape)
            drawn = self.component_distribution.sample(sample_shape)
            index = chosen.reshape(chosen.shape + (1,) * (len(event) + 1)).repeat((1,) * (chosen.dim() + 1) + tuple(event))
            return drawn.gather(where, index).squeeze(where)

    def __repr__(self): return f"MixtureSameFamily(\n  {self.mixture_distribution},\n  {self.component_distribution})"
