"""What a distribution is: parameters that broadcast to a batch, events, validation, expansion; and exponential families.

A distribution names in `parts` the attributes that begin with its batch dimensions (tensors or other distributions), and in `kept` those that
do not; from that `expand` follows for all of them. Methods marked `checked` validate the value they are given, if the distribution validates.
"""
from __future__ import annotations

import functools
import operator
import warnings

from ..framework import api as torch
from . import constraints
from .utils import broadcast_all, lazy_property, logits_to_probs, probs_to_logits

__all__ = ["Distribution", "ExponentialFamily"]


def checked(method):
    """log_prob, cdf, …: the value is validated first."""
    @functools.wraps(method)
    def run(self, value):
        if self._validate_args: self._validate_sample(value)
        return method(self, value)
    return run


def _found(what, value, constraint):
    return f"Expected {what} ({type(value).__name__} of shape {tuple(value.shape)}) {constraint}, but found invalid values:\n{value}"


class Distribution:
    """A probability distribution over events of `event_shape`, one per place of `batch_shape`."""
    has_rsample = has_enumerate_support = False
    _validate_args = __debug__
    parts: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()

    @staticmethod
    def set_default_validate_args(value):
        """Whether distributions check their arguments when not told."""
        if value not in [True, False]: raise ValueError
        Distribution._validate_args = value

    def __init__(self, batch_shape=(), event_shape=(), validate_args=None):
        self._batch_shape, self._event_shape = torch.Size(batch_shape), torch.Size(event_shape)
        if validate_args is not None: self._validate_args = validate_args
        if self._validate_args: self._validate_parameters()

    def _validate_parameters(self):
        try: limits = self.arg_constraints
        except NotImplementedError:
            limits = {}
            warnings.warn(f"{self.__class__} does not define `arg_constraints`. Please set `arg_constraints = {{}}` or initialize the distribution "
                          "with `validate_args=False` to turn off validation.", stacklevel=4)
        known = [(name, c) for name, c in limits.items() if not constraints.is_dependent(c)
                 and (name in self.__dict__ or not isinstance(getattr(type(self), name), lazy_property))]
        valid = [c.check(getattr(self, name)).all() for name, c in known]
        if functools.reduce(operator.and_, valid, True): return          # one value to wait for
        name, c = next(k for k, ok in zip(known, valid) if not ok)
        raise ValueError(_found(f"parameter {name}", getattr(self, name), f"of distribution {self!r} to satisfy the constraint {c!r}"))

    def _given(self, validate_args, **parameters):
        """Numbers and tensors become parameters of one shape, the batch's."""
        for name, value in zip(parameters, broadcast_all(*parameters.values())): setattr(self, name, value)
        Distribution.__init__(self, value.shape, validate_args=validate_args)

    # ---- shapes
    @property
    def batch_shape(self): return self._batch_shape

    @property
    def event_shape(self): return self._event_shape

    def _extended_shape(self, sample_shape=()): return torch.Size(sample_shape) + self._batch_shape + self._event_shape

    def expand(self, batch_shape, _instance=None):
        """This distribution with its parameters expanded to a larger batch."""
        new, batch_shape = self._get_checked_instance(self._owner(), _instance), torch.Size(batch_shape)
        self._expand_parts(new, batch_shape)
        Distribution.__init__(new, batch_shape, self._event_shape, validate_args=False)
        new._validate_args = self._validate_args
        return new

    def _owner(self):
        """The class whose `parts` these are; subclasses with constructors of their own have to say how they expand."""
        owner = next(c for c in type(self).__mro__ if "parts" in c.__dict__)
        if owner is Distribution: raise NotImplementedError
        return owner

    def _expand_parts(self, new, batch_shape):
        for name in self.parts:
            if name not in self.__dict__ or name in new.__dict__: continue
            part = getattr(self, name)
            shape = part.shape if isinstance(part, torch.Tensor) else part.batch_shape
            setattr(new, name, part.expand(batch_shape + shape[len(self._batch_shape):]))
        for name in self.kept: setattr(new, name, getattr(self, name))

    def _get_checked_instance(self, cls, _instance=None):
        if _instance is None and type(self).__init__ != cls.__init__:
            raise NotImplementedError(f"Subclass {self.__class__.__name__} of {cls.__name__} that defines a custom __init__ method must also "
                                      "define a custom .expand() method.")
        return self.__new__(type(self)) if _instance is None else _instance

    # ---- what it is
    @property
    def arg_constraints(self): raise NotImplementedError

    @property
    def support(self): raise NotImplementedError

    @property
    def mean(self): raise NotImplementedError

    @property
    def mode(self): raise NotImplementedError(f"{self.__class__} does not implement mode")

    @property
    def variance(self): raise NotImplementedError

    @property
    def stddev(self): return self.variance.sqrt()

    # ---- what it does
    def sample(self, sample_shape=()):
        """A sample per place of the batch, without gradient."""
        with torch.no_grad(): return self.rsample(sample_shape)

    def rsample(self, sample_shape=()):
        """A sample that depends on the parameters, so that gradients flow to them."""
        raise NotImplementedError

    def sample_n(self, n):
        warnings.warn("`sample_n(n)` will be deprecated. Use `sample((n,))` instead.", FutureWarning, stacklevel=2)
        return self.sample(torch.Size((n,)))

    def log_prob(self, value): raise NotImplementedError
    def cdf(self, value): raise NotImplementedError
    def icdf(self, value): raise NotImplementedError
    def enumerate_support(self, expand=True): raise NotImplementedError
    def entropy(self): raise NotImplementedError
    def perplexity(self): return torch.exp(self.entropy())

    def _enumerated(self, values, expand):
        """The values 0, 1, … of a discrete distribution, along a new first dimension."""
        values = values.view((-1,) + (1,) * len(self._batch_shape))
        return values.expand((-1,) + self._batch_shape) if expand else values

    def _filled(self, number, like):
        return torch.full(self._extended_shape(), number, dtype=like.dtype, device=like.device)

    def _validate_sample(self, value):
        if not isinstance(value, torch.Tensor): raise ValueError("The value argument to log_prob must be a Tensor")
        shape, expected = value.size(), self._batch_shape + self._event_shape
        if shape[len(shape) - len(self._event_shape):] != self._event_shape:
            raise ValueError(f"The right-most size of value must match event_shape: {shape} vs {self._event_shape}.")
        for i, j in zip(reversed(shape), reversed(expected)):
            if i != 1 and j != 1 and i != j: raise ValueError(f"Value is not broadcastable with batch_shape+event_shape: {shape} vs {expected}.")
        try: support = self.support
        except NotImplementedError:
            warnings.warn(f"{self.__class__} does not define `support` to enable sample validation. Please initialize the distribution with "
                          "`validate_args=False` to turn off validation.", stacklevel=4)
            return
        if support is None: raise AssertionError("support is unexpectedly None")
        if not support.check(value).all():
            raise ValueError(_found("value argument", value, f"to be within the support ({support!r}) of the distribution {self!r}"))

    def __repr__(self):
        shown = {name: self.__dict__[name] for name in self.arg_constraints if name in self.__dict__}
        return f"{self.__class__.__name__}({', '.join(f'{k}: {v if v.numel() == 1 else v.size()}' for k, v in shown.items())})"


class Symmetric(Distribution):
    """Around `loc`, which is its mean and its mode."""

    @property
    def mean(self): return self.loc

    @property
    def mode(self): return self.loc


class Odds(Distribution):
    """Parametrised by exactly one of `probs` and `logits`; the other is computed when asked for. Binary, unless `_binary` is False."""
    _binary = True

    @staticmethod
    def _one_of(probs, logits):
        """(name, value) of the one that was given."""
        if (probs is None) == (logits is None): raise ValueError("Either `probs` or `logits` must be specified, but not both.")
        return ("logits", logits) if probs is None else ("probs", probs)

    @lazy_property
    def logits(self): return probs_to_logits(self.probs, is_binary=self._binary)

    @lazy_property
    def probs(self): return logits_to_probs(self.logits, is_binary=self._binary)

    @property
    def _param(self): return self.__dict__["probs" if "probs" in self.__dict__ else "logits"]

    @property
    def param_shape(self): return self._param.size()

    def _new(self, *args, **kw): return self._param.new(*args, **kw)


class Counts(Odds):
    """`total_count` trials with one of `probs` and `logits`; the count has the parameter's dtype."""

    def __init__(self, total_count=1, probs=None, logits=None, validate_args=None):
        name, value = self._one_of(probs, logits)
        total_count, value = broadcast_all(total_count, value)
        self.total_count = total_count.type_as(value)
        setattr(self, name, value)
        Distribution.__init__(self, value.shape, validate_args=validate_args)


class ExponentialFamily(Distribution):
    """p(x; θ) = exp(t(x)·θ - F(θ) + k(x)); a family that gives `_natural_params`, `_log_normalizer` F and the mean of k gets its entropy.

    Entropies and divergences follow from F and its gradient (Nielsen and Nock 2010).
    """

    @property
    def _natural_params(self): raise NotImplementedError

    def _log_normalizer(self, *natural_params): raise NotImplementedError

    @property
    def _mean_carrier_measure(self): raise NotImplementedError

    def entropy(self):
        theta = [p.detach().requires_grad_() for p in self._natural_params]
        normalizer = self._log_normalizer(*theta)
        out = normalizer - self._mean_carrier_measure
        for p, g in zip(theta, torch.autograd.grad(normalizer.sum(), theta, create_graph=True)):
            out = out - (p * g).reshape(self._batch_shape + (-1,)).sum(-1)
        return out
