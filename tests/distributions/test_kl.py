"""Divergences: the same table as PyTorch's, the same numbers for every pair, the same warnings and errors."""
import warnings

import numpy as np
import pytest

from .cases import CASES, both, make, outcome, plain
from .test_distributions import agree

PAIRED = ("Bernoulli probs", "Beta", "Binomial", "Categorical", "Cauchy", "Chi2", "ContinuousBernoulli", "Dirichlet", "Exponential", "Gamma", "Geometric",
          "Gumbel", "HalfNormal", "Independent", "Laplace", "LogNormal", "LowRankMultivariateNormal", "LowRankMultivariateNormal batch", "MultivariateNormal",
          "MultivariateNormal covariance", "Normal", "OneHotCategorical", "Pareto", "Poisson", "Transformed", "Uniform", "Wishart", "StudentT")
SECOND = {k: [0.5 * v + 0.3 for v in range(1, 4)] for k in ("concentration1", "concentration0", "rate", "scale", "alpha", "df")}


def other(m, case):
    """A second distribution of the case's class, with other parameters."""
    name, given = CASES[case]
    changed = {k: m.tensor(SECOND[k], dtype=m.float64) for k in given if k in SECOND and np.shape(given[k]) == (3,)}
    return make(m, case, **changed)[0]


@pytest.mark.parametrize("case", PAIRED)
def test_pairs(case):
    torch, forno = both()
    for second in PAIRED:
        f = lambda m, second=second: plain(m.distributions.kl_divergence(make(m, case)[0], other(m, second)))
        want, got = outcome(lambda f=f: f(torch)), outcome(lambda f=f: f(forno))
        agree(got, want, f"{case} to {second}", rtol=1e-7, atol=1e-8)
        if isinstance(want, NotImplementedError): assert " ".join(str(got).split()) == " ".join(str(want).split())


def test_the_table():
    pairs = [{(p.__name__, q.__name__) for p, q in m.distributions.kl._KL_REGISTRY} for m in both()]
    assert pairs[0] == pairs[1]


@pytest.mark.parametrize("case", ["Uniform", "Uniform numbers"])
def test_uniform_inside_the_unit_interval(case):
    """Against distributions on [0, 1] and [0, ∞)."""
    torch, forno = both()
    for second in ("Beta", "ContinuousBernoulli", "Exponential", "Gamma", "Pareto", "Gumbel", "Normal"):
        def f(m, second=second):
            p = m.distributions.Uniform(m.tensor([0.1, 0.2, 0.9], dtype=m.float64), m.tensor([0.5, 0.9, 0.95], dtype=m.float64))
            return plain(m.distributions.kl_divergence(p, make(m, second)[0]))
        agree(f(forno), f(torch), second, rtol=1e-7)


def test_impossible_outcomes():
    """Probabilities of 0 and 1: infinite where q excludes what p allows, 0 where p excludes it."""
    torch, forno = both()
    for name, rows in (("Bernoulli", [[0.0, 1.0, 0.5, 0.0, 0.3]] * 2), ("Bernoulli", [[0.5, 0.0, 0.2], [0.0, 1.0, 1.0]]),
                       ("Categorical", [[[0.5, 0.5, 0.0]], [[0.0, 1.0, 0.0]]]), ("OneHotCategorical", [[[0.0, 1.0]], [[0.5, 0.5]]])):
        f = lambda m, name=name, rows=rows: plain(m.distributions.kl_divergence(*(getattr(m.distributions, name)(m.tensor(r)) for r in rows)))
        agree(f(forno), f(torch), name, rtol=1e-5)


def test_sums_over_samples():
    """A divergence is the mean of log p - log q over p's samples."""
    _, forno = both()
    for case in ("Normal", "Gamma", "Beta", "MultivariateNormal", "Gumbel"):
        p, q = make(forno, case)[0], other(forno, case)
        forno.manual_seed(0)
        x = p.sample((40000,))
        gap = p.log_prob(x) - q.log_prob(x)
        wide = 6 * plain(gap.std(0)) / 200 + 1e-9
        np.testing.assert_array_less(abs(plain(gap.mean(0)) - plain(forno.distributions.kl_divergence(p, q))), wide, err_msg=case)


def test_gradients():
    torch, forno = both()
    for case in ("Normal", "Gamma", "Beta", "Dirichlet", "Categorical logits", "MultivariateNormal"):
        def f(m, case=case):
            p, parameters = make(m, case, grad=True)
            parameters = [t for t in parameters if t.requires_grad]
            kl, q = m.distributions.kl_divergence, make(m, case)[0]
            return plain(m.autograd.grad(kl(p, q).sum() + kl(q, p).sum() * 2, parameters))
        agree(f(forno), f(torch), case, rtol=1e-6, atol=1e-8)


def test_registering():
    """A subclass finds its parent's entry, a nearer entry wins, two equally near ones warn; what isn't a distribution is refused."""
    for m in both():
        d = m.distributions
        class Base(d.Distribution): arg_constraints = {}
        class Left(Base): pass
        class Right(Base): pass
        d.register_kl(Base, Base)(lambda p, q: "base")
        assert d.kl_divergence(Left(), Right()) == "base"
        d.register_kl(Left, Base)(lambda p, q: "left")
        assert d.kl_divergence(Left(), Right()) == "left"
        d.register_kl(Base, Right)(lambda p, q: "right")
        with pytest.warns(RuntimeWarning, match=r"Ambiguous kl_divergence\(Left, Right\). Please register_kl\(Left, Right\)"):
            got = d.kl_divergence(Left(), Right())
        assert got == "left"
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert d.kl_divergence(Left(), Right()) == "left"               # remembered, and warned about once
        with pytest.raises(NotImplementedError): d.kl_divergence(Left(), d.Normal(0.0, 1.0))
        for pair in [k for k in d.kl._KL_REGISTRY if k[0] in (Base, Left)]: del d.kl._KL_REGISTRY[pair]
    with pytest.raises(TypeError, match="Expected type_p to be a Distribution subclass"): d.register_kl(int, Base)
