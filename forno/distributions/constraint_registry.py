"""From a constraint to a transform that lands in its region: `biject_to(c)` one to one, `transform_to(c)` perhaps with redundant coordinates."""
from __future__ import annotations

from . import constraints, transforms
from .utils import Number

__all__ = ["ConstraintRegistry", "biject_to", "transform_to"]


class ConstraintRegistry:
    """A table from constraint classes to functions that make a transform from a constraint."""

    def __init__(self): self._registry = {}

    def register(self, constraint, factory=None):
        """Also a decorator: @registry.register(constraint)"""
        if factory is None: return lambda f: self.register(constraint, f)
        kind = type(constraint) if isinstance(constraint, constraints.Constraint) else constraint
        if not isinstance(kind, type) or not issubclass(kind, constraints.Constraint):
            raise TypeError(f"Expected constraint to be either a Constraint subclass or instance, but got {constraint}")
        self._registry[kind] = factory
        return factory

    def __call__(self, constraint):
        factory = self._registry.get(type(constraint))
        if factory is None: raise NotImplementedError(f"Cannot transform {type(constraint).__name__} constraints")
        return factory(constraint)


biject_to, transform_to = ConstraintRegistry(), ConstraintRegistry()


def _interval(c):
    low, high = c.lower_bound, c.upper_bound
    if isinstance(low, Number) and isinstance(high, Number) and (low, high) == (0, 1): return transforms.SigmoidTransform()
    return transforms.ComposeTransform([transforms.SigmoidTransform(), transforms.AffineTransform(low, high - low)])


def _from_bound(bound, sign): return transforms.ComposeTransform([transforms.ExpTransform(), transforms.AffineTransform(bound, sign)])


for _to in (biject_to, transform_to):
    for _kinds, _make in (
            ([constraints.real], lambda c: transforms.identity_transform),
            ([constraints.positive, constraints.nonnegative], lambda c: transforms.ExpTransform()),
            ([constraints.greater_than, constraints.greater_than_eq], lambda c: _from_bound(c.lower_bound, 1)),
            ([constraints.less_than], lambda c: _from_bound(c.upper_bound, -1)),
            ([constraints.interval, constraints.half_open_interval], _interval),
            ([constraints.corr_cholesky], lambda c: transforms.CorrCholeskyTransform()),
            ([constraints.independent],
             lambda c, to=_to: transforms.IndependentTransform(to(c.base_constraint), c.reinterpreted_batch_ndims)),
            ([constraints.cat], lambda c, to=_to: transforms.CatTransform([to(k) for k in c.cseq], c.dim, c.lengths)),
            ([constraints.stack], lambda c, to=_to: transforms.StackTransform([to(k) for k in c.cseq], c.dim))):
        for _kind in _kinds: _to.register(_kind, _make)

biject_to.register(constraints.simplex, lambda c: transforms.StickBreakingTransform())
transform_to.register(constraints.simplex, lambda c: transforms.SoftmaxTransform())
transform_to.register(constraints.lower_cholesky, lambda c: transforms.LowerCholeskyTransform())
for _kind in (constraints.positive_definite, constraints.positive_semidefinite):
    transform_to.register(_kind, lambda c: transforms.PositiveDefiniteTransform())
