"""Regions that parameters and samples may lie in. A constraint's `check` takes a value and says for every event whether it lies inside.

`event_dim` counts the rightmost dimensions that form one event. A dependent constraint is known only from an instance's parameters.
"""
from __future__ import annotations

from ..framework import api as torch

__all__ = ["Constraint", "boolean", "cat", "corr_cholesky", "dependent", "dependent_property", "greater_than", "greater_than_eq", "independent",
           "integer_interval", "interval", "half_open_interval", "is_dependent", "less_than", "lower_cholesky", "lower_triangular",
           "MixtureSameFamilyConstraint", "multinomial", "nonnegative", "nonnegative_integer", "one_hot", "positive", "positive_semidefinite",
           "positive_definite", "positive_integer", "real", "real_vector", "simplex", "square", "stack", "symmetric", "unit_interval"]


class Constraint:
    """A region. Its repr is the class's name without the underscore."""
    is_discrete = False
    event_dim = 0

    def check(self, value): raise NotImplementedError
    def __repr__(self): return self.__class__.__name__[1:] + "()"


def _require(condition, text):
    if not condition: raise AssertionError(text)


def _require_constraint(c): _require(isinstance(c, Constraint), f"base_constraint must be a Constraint, got {type(c).__name__}")


# ---------------------------------------------------------------- constraints that parameters decide
class _Dependent(Constraint):
    def __init__(self, *, is_discrete=NotImplemented, event_dim=NotImplemented): self._is_discrete, self._event_dim = is_discrete, event_dim

    @property
    def is_discrete(self):
        if self._is_discrete is NotImplemented: raise NotImplementedError(".is_discrete cannot be determined statically")
        return self._is_discrete

    @property
    def event_dim(self):
        if self._event_dim is NotImplemented: raise NotImplementedError(".event_dim cannot be determined statically")
        return self._event_dim

    def __call__(self, *, is_discrete=NotImplemented, event_dim=NotImplemented):
        return _Dependent(is_discrete=self._is_discrete if is_discrete is NotImplemented else is_discrete,
                          event_dim=self._event_dim if event_dim is NotImplemented else event_dim)

    def check(self, x): raise ValueError("Cannot determine validity of dependent constraint")


def is_dependent(constraint): return isinstance(constraint, _Dependent)


class _DependentProperty(property, _Dependent):
    """A property on instances, a dependent constraint on the class. As a decorator with or without arguments."""

    def __init__(self, fn=None, *, is_discrete=NotImplemented, event_dim=NotImplemented):
        super().__init__(fn)
        self._is_discrete, self._event_dim = is_discrete, event_dim

    def __call__(self, fn): return _DependentProperty(fn, is_discrete=self._is_discrete, event_dim=self._event_dim)


# ---------------------------------------------------------------- constraints made of others
class _IndependentConstraint(Constraint):
    """Some batch dimensions of another constraint are part of the event: all of them have to hold."""

    def __init__(self, base_constraint, reinterpreted_batch_ndims):
        n = reinterpreted_batch_ndims
        _require_constraint(base_constraint)
        _require(isinstance(n, int), f"reinterpreted_batch_ndims must be an int, got {type(n).__name__}")
        _require(n >= 0, f"reinterpreted_batch_ndims must be >= 0, got {n}")
        self.base_constraint, self.reinterpreted_batch_ndims = base_constraint, n

    @property
    def is_discrete(self): return self.base_constraint.is_discrete

    @property
    def event_dim(self): return self.base_constraint.event_dim + self.reinterpreted_batch_ndims

    def check(self, value):
        ok, n = self.base_constraint.check(value), self.reinterpreted_batch_ndims
        if ok.dim() < n: raise ValueError(f"Expected value.dim() >= {self.event_dim} but got {value.dim()}")
        return ok.reshape(ok.shape[:ok.dim() - n] + (-1,)).all(-1)

    def __repr__(self): return f"{self.__class__.__name__[1:]}({self.base_constraint!r}, {self.reinterpreted_batch_ndims})"


class MixtureSameFamilyConstraint(Constraint):
    """The value must lie in every component's region."""

    def __init__(self, base_constraint):
        _require_constraint(base_constraint)
        self.base_constraint = base_constraint

    @property
    def is_discrete(self): return self.base_constraint.is_discrete

    @property
    def event_dim(self): return self.base_constraint.event_dim

    def check(self, value):
        ok = self.base_constraint.check(value.unsqueeze(-1 - self.event_dim))
        if value.dim() < self.event_dim: raise ValueError(f"Expected value.dim() >= {self.event_dim} but got {value.dim()}")
        return ok.reshape(ok.shape[:value.dim() - self.event_dim] + (-1,)).all(-1)

    def __repr__(self): return f"{self.__class__.__name__}({self.base_constraint!r})"


class _Sequence(Constraint):
    """Constraints along a dimension."""

    def __init__(self, cseq, dim=0):
        _require(all(isinstance(c, Constraint) for c in cseq), "All elements of cseq must be Constraint instances")
        self.cseq, self.dim = list(cseq), dim

    @property
    def is_discrete(self): return any(c.is_discrete for c in self.cseq)

    @property
    def event_dim(self): return max(c.event_dim for c in self.cseq)

    def _check_dim(self, value):
        _require(-value.dim() <= self.dim < value.dim(), f"dim {self.dim} out of range for value with {value.dim()} dimensions")


class _Cat(_Sequence):
    def __init__(self, cseq, dim=0, lengths=None):
        super().__init__(cseq, dim)
        self.lengths = [1] * len(self.cseq) if lengths is None else list(lengths)
        _require(len(self.lengths) == len(self.cseq), f"lengths ({len(self.lengths)}) must match cseq ({len(self.cseq)})")

    def check(self, value):
        self._check_dim(value)
        return torch.cat([c.check(v) for c, v in zip(self.cseq, value.split(self.lengths, self.dim))], self.dim)


class _Stack(_Sequence):
    @property
    def event_dim(self):
        dim = max(c.event_dim for c in self.cseq)
        return dim + (self.dim + dim < 0)

    def check(self, value):
        self._check_dim(value)
        return torch.stack([c.check(v) for c, v in zip(self.cseq, value.unbind(self.dim))], self.dim)


# ---------------------------------------------------------------- numbers
class _Bounded(Constraint):
    """Prints its bounds, in the order of `_bounds`."""
    _bounds = ()

    def __init__(self, *bounds, **named):
        for name, bound in zip(self._bounds, bounds): setattr(self, name, bound)
        for name, bound in named.items():
            if name not in self._bounds or name in self.__dict__: raise TypeError(f"{type(self).__name__}() got an unexpected argument '{name}'")
            setattr(self, name, bound)
        missing = [name for name in self._bounds if name not in self.__dict__]
        if missing or len(bounds) > len(self._bounds): raise TypeError(f"{type(self).__name__}() takes {', '.join(self._bounds)}")

    def __repr__(self): return f"{self.__class__.__name__[1:]}({', '.join(f'{b}={getattr(self, b)}' for b in self._bounds)})"


class _Above(_Bounded): _bounds = ("lower_bound",)
class _Below(_Bounded): _bounds = ("upper_bound",)
class _Between(_Bounded): _bounds = ("lower_bound", "upper_bound")


class _Boolean(Constraint):
    is_discrete = True
    def check(self, value): return (value == 0) | (value == 1)


class _IntegerInterval(_Between):
    is_discrete = True
    def check(self, value): return (value % 1 == 0) & (value >= self.lower_bound) & (value <= self.upper_bound)


class _IntegerLessThan(_Below):
    is_discrete = True
    def check(self, value): return (value % 1 == 0) & (value <= self.upper_bound)


class _IntegerGreaterThan(_Above):
    is_discrete = True
    def check(self, value): return (value % 1 == 0) & (value >= self.lower_bound)


class _Real(Constraint):
    def check(self, value): return value == value                                  # not NaN


class _GreaterThan(_Above):
    def check(self, value): return value > self.lower_bound


class _GreaterThanEq(_Above):
    def check(self, value): return value >= self.lower_bound


class _LessThan(_Below):
    def check(self, value): return value < self.upper_bound


class _Interval(_Between):
    def check(self, value): return (value >= self.lower_bound) & (value <= self.upper_bound)


class _HalfOpenInterval(_Between):
    def check(self, value): return (value >= self.lower_bound) & (value < self.upper_bound)


# ---------------------------------------------------------------- vectors and matrices
class _OneHot(Constraint):
    is_discrete, event_dim = True, 1
    def check(self, value): return ((value == 0) | (value == 1)).all(-1) & value.sum(-1).eq(1)


class _Simplex(Constraint):
    event_dim = 1
    def check(self, value): return (value >= 0).all(-1) & ((value.sum(-1) - 1).abs() < 1e-6)


class _Multinomial(Constraint):
    is_discrete, event_dim = True, 1
    def __init__(self, upper_bound): self.upper_bound = upper_bound
    def check(self, x): return (x >= 0).all(-1) & (x.sum(-1) <= self.upper_bound)


class _LowerTriangular(Constraint):
    event_dim = 2
    def check(self, value): return (value.tril() == value).reshape(value.shape[:-2] + (-1,)).all(-1)


class _LowerCholesky(_LowerTriangular):
    def check(self, value): return super().check(value) & (value.diagonal(dim1=-2, dim2=-1) > 0).all(-1)


class _CorrCholesky(_LowerCholesky):
    """Rows of unit length, up to rounding."""

    def check(self, value):
        tolerance = torch.finfo(value.dtype).eps * value.size(-1) * 10
        length = torch.linalg.norm(value.detach(), dim=-1)
        return super().check(value) & ((length - 1).abs() <= tolerance).all(-1)


class _Square(Constraint):
    event_dim = 2
    def check(self, value): return torch.full(value.shape[:-2], value.shape[-2] == value.shape[-1], dtype=torch.bool, device=value.device)


class _Symmetric(_Square):
    def check(self, value):
        square = super().check(value)
        return torch.isclose(value, value.mT, atol=1e-6).all(-2).all(-1) if square.all() else square


class _PositiveSemidefinite(_Symmetric):
    def check(self, value):
        ok = super().check(value)
        return torch.linalg.eigvalsh(value).ge(0).all(-1) if ok.all() else ok


class _PositiveDefinite(_Symmetric):
    def check(self, value):
        ok = super().check(value)
        return torch.linalg.cholesky_ex(value).info.eq(0) if ok.all() else ok


# ---------------------------------------------------------------- the names to use
dependent, dependent_property = _Dependent(), _DependentProperty
independent, cat, stack, multinomial = _IndependentConstraint, _Cat, _Stack, _Multinomial
boolean, one_hot = _Boolean(), _OneHot()
nonnegative_integer, positive_integer, integer_interval = _IntegerGreaterThan(0), _IntegerGreaterThan(1), _IntegerInterval
real, positive, nonnegative = _Real(), _GreaterThan(0.0), _GreaterThanEq(0.0)
real_vector = independent(real, 1)
greater_than, greater_than_eq, less_than = _GreaterThan, _GreaterThanEq, _LessThan
unit_interval, interval, half_open_interval = _Interval(0.0, 1.0), _Interval, _HalfOpenInterval
simplex, lower_triangular, lower_cholesky, corr_cholesky = _Simplex(), _LowerTriangular(), _LowerCholesky(), _CorrCholesky()
square, symmetric, positive_semidefinite, positive_definite = _Square(), _Symmetric(), _PositiveSemidefinite(), _PositiveDefinite()
