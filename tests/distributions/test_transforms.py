"""Transforms and constraints: both directions, determinants against autograd's, shapes, caches, equality, the registry, how they print."""
import copy
import pickle

import numpy as np
import pytest

from .cases import both, outcome, plain, tensor
from .test_distributions import agree, compare

X = [[0.3, -1.2, 0.8], [2.0, 0.1, -0.6]]
POSITIVE = [[0.3, 1.2, 0.8], [2.0, 0.1, 0.6]]
SQUARE = [[[0.5, 0.2, -0.1], [0.3, -0.4, 0.7], [0.9, 0.1, 0.2]]]
# how it is made (d: the distributions, t: makes a tensor), a point of its domain
TRANSFORMS = {
    "Abs": (lambda d, t: d.AbsTransform(), X), "Affine": (lambda d, t: d.AffineTransform(0.5, -2.0), X),
    "Affine tensors": (lambda d, t: d.AffineTransform(t([0.1, 0.2, 0.3]), t([1.0, -2.0, 3.0])), X),
    "Affine event": (lambda d, t: d.AffineTransform(0.5, t([1.0, -2.0, 3.0]), event_dim=1), X),
    "Cat": (lambda d, t: d.CatTransform([d.ExpTransform(), d.AffineTransform(1.0, 2.0)], dim=-1, lengths=[1, 2]), X),
    "Compose": (lambda d, t: d.ComposeTransform([d.AffineTransform(0.5, 2.0), d.SigmoidTransform()]), X),
    "Compose events": (lambda d, t: d.ComposeTransform([d.AffineTransform(0.5, 2.0), d.StickBreakingTransform()]), X),
    "CorrCholesky": (lambda d, t: d.CorrCholeskyTransform(), X), "Exp": (lambda d, t: d.ExpTransform(), X),
    "Exp inverse": (lambda d, t: d.ExpTransform().inv, POSITIVE),
    "CumulativeDistribution": (lambda d, t: d.transforms.CumulativeDistributionTransform(d.Normal(t(0.5), t(2.0))), X),
    "Independent": (lambda d, t: d.IndependentTransform(d.SigmoidTransform(), 1), X),
    "LowerCholesky": (lambda d, t: d.LowerCholeskyTransform(), SQUARE),
    "PositiveDefinite": (lambda d, t: d.PositiveDefiniteTransform(), SQUARE), "Power": (lambda d, t: d.PowerTransform(t([2.0, 0.5, -1.0])), POSITIVE),
    "Power number": (lambda d, t: d.PowerTransform(t(2.0)), POSITIVE), "Reshape": (lambda d, t: d.ReshapeTransform((3,), (3, 1)), X),
    "Sigmoid": (lambda d, t: d.SigmoidTransform(), X), "Softmax": (lambda d, t: d.SoftmaxTransform(), X),
    "Softplus": (lambda d, t: d.SoftplusTransform(), X),
    "Stack": (lambda d, t: d.StackTransform([d.ExpTransform(), d.TanhTransform(), d.identity_transform], dim=-1), X),
    "StickBreaking": (lambda d, t: d.StickBreakingTransform(), X), "Tanh": (lambda d, t: d.TanhTransform(), X),
    "identity": (lambda d, t: d.identity_transform, X),
}


def transform(m, name):
    make, x = TRANSFORMS[name]
    return make(m.distributions, lambda v: tensor(m, v)), tensor(m, x)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_values(name):
    def forward(m):
        t, x = transform(m, name)
        return t(x)

    def back(m):
        t, x = transform(m, name)
        return t.inv(t(x))

    def determinant(m, turned=False):
        t, x = transform(m, name)
        y = t(x)
        return t.inv.log_abs_det_jacobian(y, x) if turned else t.log_abs_det_jacobian(x, y)
    for f in (forward, back, determinant, lambda m: determinant(m, True)): compare(f, rtol=1e-8, atol=1e-9)
    for what in ("sign", "bijective", "event_dim", "domain", "codomain"):
        want, got = (outcome(lambda m=m, what=what: getattr(transform(m, name)[0], what)) for m in both())
        if isinstance(want, Exception): assert type(got).__name__ == type(want).__name__, what
        elif hasattr(want, "numpy"): agree(plain(got), plain(want))
        elif what not in ("domain", "codomain"): assert got == want, what
        elif "object at" not in repr(want): assert (repr(got), got.event_dim) == (repr(want), want.event_dim)
    ts = [transform(m, name)[0] for m in both()]
    assert repr(ts[0]) == repr(ts[1]) and repr(ts[0].inv) == repr(ts[1].inv)
    for shape in ((), (3,), (2, 3), (4, 3, 3), (2, 2)):
        for what in ("forward_shape", "inverse_shape"):
            want, got = (outcome(lambda m=m, t=t, what=what, shape=shape: tuple(getattr(t, what)(m.Size(shape)))) for m, t in zip(both(), ts))
            if isinstance(want, RuntimeError): assert isinstance(got, RuntimeError)                    # the tensors' own words
            elif isinstance(want, Exception): assert (type(got), str(got)) == (type(want), str(want)), (what, shape)
            else: assert got == want, (what, shape)


@pytest.mark.parametrize("name", ["Affine", "Compose", "Exp", "Power number", "Sigmoid", "Softplus", "Tanh", "CumulativeDistribution"])
def test_determinants_are_autograds(name):
    _, m = both()
    t, x = transform(m, name)
    x.requires_grad_()
    slope, = m.autograd.grad(t(x).sum(), x)
    np.testing.assert_allclose(plain(t.log_abs_det_jacobian(x, t(x))), plain(slope.abs().log()), rtol=1e-8, atol=1e-9)


def test_caches():
    """A value just computed is not computed again, in either direction; copies forget their inverse, not their cache size."""
    for m in both():
        d = m.distributions
        both_ways = d.ComposeTransform([d.ExpTransform(), d.AffineTransform(1.0, 2.0)])
        for t in (d.ExpTransform(cache_size=1), both_ways.with_cache(), d.StickBreakingTransform().with_cache(1)):
            x = m.tensor([0.3, 0.5])
            y = t(x)
            assert t(x) is y and t.inv(y) is x
            assert t.with_cache(1) is t
            assert pickle.loads(pickle.dumps(t))._cache_size == copy.deepcopy(t)._cache_size == t._cache_size
        plain_one = d.ExpTransform()
        assert plain_one(x) is not plain_one(x) and plain_one.inv.inv is plain_one
        with pytest.raises(ValueError, match="cache_size must be 0 or 1"): d.ExpTransform(cache_size=2)


def test_equality():
    for m in both():
        d, one = m.distributions, m.tensor(1.0)
        assert d.ExpTransform() == d.ExpTransform() != d.SigmoidTransform()
        assert d.ExpTransform().inv == d.ExpTransform().inv != d.ExpTransform()
        assert d.AffineTransform(0, 1) == d.AffineTransform(0.0, 1.0) != d.AffineTransform(0, 2)
        assert d.AffineTransform(one, 1) == d.AffineTransform(1, one) and d.PowerTransform(one) == d.PowerTransform(1.0) != d.PowerTransform(2.0)
        assert d.ComposeTransform([d.ExpTransform()]) == d.ComposeTransform([d.ExpTransform()]) != d.ComposeTransform([])
        with pytest.raises(TypeError): hash(d.ExpTransform())


def test_errors():
    def cases(m):
        d, x = m.distributions, m.zeros(3)
        return [lambda: d.ReshapeTransform((2,), (3,)), lambda: d.CatTransform([1]), lambda: d.CatTransform([d.ExpTransform()], lengths=[1, 2]),
                lambda: d.CatTransform([d.ExpTransform()])(x), lambda: d.CatTransform([d.ExpTransform()], dim=3)(x), lambda: d.StackTransform([d.ExpTransform()])(x),
                lambda: d.StackTransform([d.ExpTransform()]).log_abs_det_jacobian(x, x), lambda: d.IndependentTransform(d.ExpTransform(), 2)(x),
                lambda: d.AbsTransform().sign, lambda: d.AbsTransform().log_abs_det_jacobian(x, x), lambda: d.SoftmaxTransform().log_abs_det_jacobian(x, x),
                lambda: d.TransformedDistribution(d.Normal(0.0, 1.0), 3), lambda: d.TransformedDistribution(d.Normal(0.0, 1.0), [3]),
                lambda: d.TransformedDistribution(d.Normal(0.0, 1.0), d.StickBreakingTransform()), lambda: d.CorrCholeskyTransform().event_dim,
                lambda: d.transforms.vec_to_tril_matrix(m.zeros(4)), lambda: d.transforms.tril_matrix_to_vec(m.zeros(3, 3), 3),
                lambda: d.Transform()(x), lambda: d.Transform().inv(x)]
    for want, got in zip(*map(cases, both()), strict=True):
        want, got = outcome(want), outcome(got)
        assert isinstance(want, Exception) and (type(got), str(got)) == (type(want), str(want)), (got, want)


@pytest.mark.parametrize("diag", [-2, -1, 0, 1])
def test_triangles(diag):
    def there_and_back(m):
        u = m.distributions.utils
        vec = u.tril_matrix_to_vec(m.arange(16.0).reshape(4, 4) + 1, diag)
        return [vec, u.vec_to_tril_matrix(vec, diag)]
    compare(there_and_back)


# ---------------------------------------------------------------- constraints
CONSTRAINTS = {
    "boolean": (lambda c, t: c.boolean, [0.0, 1.0, 0.5]),
    "cat": (lambda c, t: c.cat([c.positive, c.boolean], -1, [1, 2]), [[0.5, 0.0, 1.0], [-1.0, 2.0, 1.0]]),
    "corr_cholesky": (lambda c, t: c.corr_cholesky, [[[1.0, 0.0], [0.6, 0.8]], [[1.0, 0.0], [0.6, 0.7]], [[1.0, 0.1], [0.6, 0.8]]]),
    "greater_than": (lambda c, t: c.greater_than(1.5), [1.0, 1.5, 2.0]),
    "greater_than_eq": (lambda c, t: c.greater_than_eq(lower_bound=1.5), [1.0, 1.5, 2.0]),
    "half_open_interval": (lambda c, t: c.half_open_interval(0, 2), [0.0, 1.0, 2.0]),
    "independent": (lambda c, t: c.independent(c.positive, 1), [[1.0, 2.0], [1.0, -2.0]]),
    "integer_interval": (lambda c, t: c.integer_interval(0, 3), [-1.0, 0.0, 1.5, 3.0, 4.0]),
    "interval": (lambda c, t: c.interval(t(0.0), t(2.0)), [0.0, 1.0, 2.5]),
    "less_than": (lambda c, t: c.less_than(1.5), [1.0, 1.5, 2.0]),
    "lower_cholesky": (lambda c, t: c.lower_cholesky, [[[1.0, 0.0], [5.0, 2.0]], [[1.0, 0.0], [5.0, -2.0]]]),
    "lower_triangular": (lambda c, t: c.lower_triangular, [[[1.0, 0.0], [5.0, -2.0]], [[1.0, 1.0], [5.0, 2.0]]]),
    "mixture": (lambda c, t: c.MixtureSameFamilyConstraint(c.interval(t([0.0, 1.0]), t([2.0, 3.0]))), [0.5, 1.5, 2.5]),
    "multinomial": (lambda c, t: c.multinomial(3), [[1.0, 2.0], [2.0, 2.0], [-1.0, 2.0]]), "nonnegative": (lambda c, t: c.nonnegative, [-1.0, 0.0]),
    "nonnegative_integer": (lambda c, t: c.nonnegative_integer, [-1.0, 0.0, 0.5, 2.0]),
    "one_hot": (lambda c, t: c.one_hot, [[0.0, 1.0], [1.0, 1.0], [0.5, 0.5]]),
    "positive": (lambda c, t: c.positive, [-1.0, 0.0, 1.0]), "positive_integer": (lambda c, t: c.positive_integer, [0.0, 1.0, 1.5]),
    "positive_definite": (lambda c, t: c.positive_definite, [[[2.0, 1.0], [1.0, 2.0]], [[1.0, 2.0], [2.0, 1.0]]]),
    "positive_semidefinite": (lambda c, t: c.positive_semidefinite, [[[2.0, 1.0], [1.0, 2.0]], [[1.0, 2.0], [2.0, 1.0]]]),
    "not symmetric": (lambda c, t: c.positive_definite, [[[2.0, 1.0], [0.0, 2.0]]]),
    "real": (lambda c, t: c.real, [0.0, float("inf"), float("nan")]), "real_vector": (lambda c, t: c.real_vector, [[0.0, 1.0], [float("nan"), 1.0]]),
    "simplex": (lambda c, t: c.simplex, [[0.3, 0.7], [0.3, 0.6], [-0.3, 1.3]]), "square": (lambda c, t: c.square, [[[1.0, 2.0]], [[3.0, 4.0]]]),
    "stack": (lambda c, t: c.stack([c.positive, c.boolean], -1), [[0.5, 0.0], [-1.0, 2.0]]),
    "symmetric": (lambda c, t: c.symmetric, [[[2.0, 1.0], [1.0, 2.0]], [[1.0, 2.0], [2.1, 1.0]]]),
    "unit_interval": (lambda c, t: c.unit_interval, [-0.1, 0.0, 1.0]),
}


@pytest.mark.parametrize("name", CONSTRAINTS)
def test_constraints(name):
    make, x = CONSTRAINTS[name]
    constraints = [make(m.distributions.constraints, lambda v, m=m: tensor(m, v)) for m in both()]
    agree(*(plain(c.check(tensor(m, x))) for c, m in reversed(list(zip(constraints, both())))))
    assert len({(repr(c), c.is_discrete, c.event_dim) for c in constraints}) == 1


@pytest.mark.parametrize("way", ["biject_to", "transform_to"])
@pytest.mark.parametrize("name", CONSTRAINTS)
def test_registry(name, way):
    """The same transform, and what comes out of it satisfies the constraint."""
    def mapped(m):
        c = CONSTRAINTS[name][0](m.distributions.constraints, lambda v: tensor(m, v))
        t = getattr(m.distributions, way)(c)
        x = tensor(m, SQUARE[0] if t.domain.event_dim == 2 else X[0][:2] if name in ("stack", "mixture") else X[0])
        y = t(x)
        return [y, c.check(y)]
    compare(mapped, rtol=1e-8)
    constraint = lambda m: CONSTRAINTS[name][0](m.distributions.constraints, lambda v: tensor(m, v))
    want, got = (outcome(lambda m=m: repr(getattr(m.distributions, way)(constraint(m)))) for m in both())
    assert str(got) == str(want)


def test_registering():
    for m in both():
        c, registry = m.distributions.constraints, m.distributions.constraint_registry.ConstraintRegistry()
        class Even(c.Constraint): pass
        with pytest.raises(NotImplementedError, match="Cannot transform Even constraints"): registry(Even())
        registry.register(Even)(lambda constraint: "found")
        assert registry(Even()) == "found"
        with pytest.raises(TypeError, match="Expected constraint to be either a Constraint subclass or instance, but got 3"):
            registry.register(3, lambda constraint: None)


def test_dependent_constraints():
    for m in both():
        c = m.distributions.constraints
        assert c.is_dependent(c.dependent) and c.is_dependent(m.distributions.Uniform.support) and not c.is_dependent(c.real)
        with pytest.raises(ValueError, match="Cannot determine validity of dependent constraint"): c.dependent.check(1)
        with pytest.raises(NotImplementedError, match=".event_dim cannot be determined statically"): _ = c.dependent.event_dim
        assert c.dependent(is_discrete=True, event_dim=2).event_dim == 2 and c.dependent(is_discrete=True).is_discrete
        assert m.distributions.Binomial.support.is_discrete and m.distributions.Uniform.support.event_dim == 0
