"""What distributions refuse, with PyTorch's exceptions and words; how validation is switched; subclasses of users."""
import importlib

import pytest

from .cases import both, outcome, plain

NAN = float("nan")
BAD_PARAMETERS = [
    ("Bernoulli", dict(probs=[0.5, 1.5])), ("Bernoulli", dict()), ("Bernoulli", dict(probs=[0.5], logits=[0.0])), ("Bernoulli", dict(logits=[NAN])),
    ("Bernoulli", dict(probs="x")), ("Beta", dict(concentration1=[0.0], concentration0=[1.0])), ("Binomial", dict(total_count=[-1.0], probs=[0.5])),
    ("Binomial", dict(total_count=3, probs=[2.0])), ("Categorical", dict(probs=[-0.5, 1.5])), ("Categorical", dict(probs=0.5)),
    ("Categorical", dict()),
    ("Categorical", dict(logits=[NAN, 0.0])), ("Cauchy", dict(loc=[0.0], scale=[-1.0])), ("Chi2", dict(df=[-1.0])),
    ("ContinuousBernoulli", dict(probs=[NAN])),
    ("ContinuousBernoulli", dict(probs=[2.0], validate_args=True)), ("Dirichlet", dict(concentration=[1.0, -1.0])), ("Exponential", dict(rate=[0.0])),
    ("FisherSnedecor", dict(df1=[-1.0], df2=[1.0])), ("Gamma", dict(concentration=[1.0], rate=[-1.0])), ("Gamma", dict(concentration=-1.0, rate=1.0)),
    ("GeneralizedPareto", dict(loc=[0.0], scale=[0.0], concentration=[0.0])), ("Geometric", dict(probs=[0.0, 0.5])), ("Geometric", dict(probs=[1.5])),
    ("Gumbel", dict(loc=[0.0], scale=[0.0])), ("HalfNormal", dict(scale=[-1.0])), ("HalfCauchy", dict(scale=-1.0)), ("LKJCholesky", dict(dim=1)),
    ("LKJCholesky", dict(dim=3, concentration=[-1.0])), ("Laplace", dict(loc=[NAN], scale=[1.0])), ("LogNormal", dict(loc=[0.0], scale=[0.0])),
    ("LowRankMultivariateNormal", dict(loc=[0.0, 1.0], cov_factor=[[1.0]], cov_diag=[1.0, 1.0])),
    ("LowRankMultivariateNormal", dict(loc=[0.0, 1.0], cov_factor=[[1.0], [2.0]], cov_diag=[1.0])),
    ("LowRankMultivariateNormal", dict(loc=[0.0, 1.0], cov_factor=[1.0, 2.0], cov_diag=[1.0, 1.0])),
    ("Multinomial", dict(total_count=2.5, probs=[0.5, 0.5])), ("MultivariateNormal", dict(loc=[0.0, 1.0])),
    ("MultivariateNormal", dict(loc=[0.0, 1.0], scale_tril=[[1.0, 0.0], [0.0, 1.0]], covariance_matrix=[[1.0, 0.0], [0.0, 1.0]])),
    ("MultivariateNormal", dict(loc=[0.0, 1.0], scale_tril=[1.0, 1.0])),
    ("MultivariateNormal", dict(loc=[0.0, 1.0], covariance_matrix=[[1.0, 2.0], [2.0, 1.0]])),
    ("MultivariateNormal", dict(loc=[0.0, 1.0], scale_tril=[[1.0, 2.0], [2.0, 1.0]])), ("NegativeBinomial", dict(total_count=[1.0], probs=[1.0])),
    ("NegativeBinomial", dict(total_count=[-1.0], probs=[0.5])), ("Normal", dict(loc=[0.0], scale=[-1.0, 2.0])), ("Normal", dict(loc=0.0, scale=0.0)),
    ("Normal", dict(loc=[0.0, 1.0], scale=[1.0, 2.0, 3.0])), ("OneHotCategorical", dict(probs=[[2.0, -1.0]])),
    ("Pareto", dict(scale=[1.0], alpha=[0.0])),
    ("Poisson", dict(rate=[-1.0])), ("RelaxedBernoulli", dict(temperature=[1.0], probs=[2.0])), ("StudentT", dict(df=[0.0])),
    ("Uniform", dict(low=[1.0], high=[0.0])),
    ("Uniform", dict(low=1.0, high=1.0)), ("VonMises", dict(loc=[0.0], concentration=[0.0])), ("Weibull", dict(scale=[1.0], concentration=[-1.0])),
    ("Wishart", dict(df=1.0, scale_tril=[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]])), ("Wishart", dict(df=3.0)),
]


def build(m, name, given):
    return getattr(m.distributions, name)(**{k: m.tensor(v) if isinstance(v, list) else v for k, v in given.items()})


def same_error(f):
    want, got = (outcome(lambda m=m: f(m)) for m in both())
    assert isinstance(want, Exception), f"PyTorch accepts it: {want!r}"
    assert (type(got).__name__, str(got)) == (type(want).__name__, str(want))


@pytest.mark.parametrize(("name", "given"), BAD_PARAMETERS, ids=lambda v: v if isinstance(v, str) else " ".join(v))
def test_parameters(name, given): same_error(lambda m: build(m, name, given))


BAD_VALUES = [
    ("Normal", dict(loc=[0.0, 1.0], scale=[1.0, 1.0]), [0.0, 1.0, 2.0]), ("Normal", dict(loc=[0.0], scale=[1.0]), [NAN]),
    ("Normal", dict(loc=0.0, scale=1.0), 0.5),
    ("Bernoulli", dict(probs=[0.5]), [0.5]), ("Binomial", dict(total_count=3, probs=[0.5]), [4.0]), ("Categorical", dict(probs=[0.5, 0.5]), [2]),
    ("Categorical", dict(probs=[0.5, 0.5]), [0.5]), ("Beta", dict(concentration1=[1.0], concentration0=[1.0]), [1.5]),
    ("Exponential", dict(rate=[1.0]), [-1.0]),
    ("Dirichlet", dict(concentration=[1.0, 1.0]), [0.7, 0.7]), ("Dirichlet", dict(concentration=[1.0, 1.0]), [0.2, 0.3, 0.5]),
    ("Poisson", dict(rate=[1.0]), [0.5]),
    ("Uniform", dict(low=[0.0], high=[1.0]), [1.5]), ("OneHotCategorical", dict(probs=[0.5, 0.5]), [1.0, 1.0]),
    ("Gamma", dict(concentration=[1.0], rate=[1.0]), [-1.0]),
    ("MultivariateNormal", dict(loc=[0.0, 0.0], scale_tril=[[1.0, 0.0], [0.0, 1.0]]), [0.0, 0.0, 0.0]),
    ("Multinomial", dict(total_count=2, probs=[0.5, 0.5]), [2.0, 2.0]),
    ("LogNormal", dict(loc=[0.0], scale=[1.0]), [-1.0]), ("HalfNormal", dict(scale=[1.0]), [-1.0]), ("Pareto", dict(scale=[2.0], alpha=[1.0]), [1.0]),
    ("Wishart", dict(df=3.0, scale_tril=[[1.0, 0.0], [0.0, 1.0]]), [[1.0, 2.0], [2.0, 1.0]]), ("LKJCholesky", dict(dim=2), [[1.0, 0.5], [0.5, 1.0]]),
]


@pytest.mark.parametrize(("name", "given", "value"), BAD_VALUES, ids=lambda v: v if isinstance(v, str) else "")
def test_values(name, given, value):
    same_error(lambda m: build(m, name, given).log_prob(m.tensor(value) if isinstance(value, list) else value))


def test_a_normal_cdf_validates_too(): same_error(lambda m: m.distributions.Uniform(m.zeros(2), m.ones(2)).cdf(m.tensor([2.0, 0.5])))


def test_other_refusals():
    for f in (lambda d, m: d.Independent(d.Normal(m.zeros(3), m.ones(3)), 2), lambda d, m: d.Independent(d.Bernoulli(m.ones(3) / 2), 1).enumerate_support(),
              lambda d, m: d.MixtureSameFamily(d.Normal(0.0, 1.0), d.Normal(m.zeros(3), m.ones(3))),
              lambda d, m: d.MixtureSameFamily(d.Categorical(m.ones(3)), 1),
              lambda d, m: d.MixtureSameFamily(d.Categorical(m.ones(2)), d.Normal(m.zeros(3), m.ones(3))),
              lambda d, m: d.MixtureSameFamily(d.Categorical(m.ones(4, 3)), d.Normal(m.zeros(2, 3), m.ones(3))),
              lambda d, m: d.Binomial(m.tensor([2.0, 3.0]), m.tensor([0.5, 0.5])).enumerate_support(),
              lambda d, m: d.Binomial(m.tensor([2.0, 3.0]), m.tensor([0.5, 0.5])).entropy(),
              lambda d, m: d.Normal(0.0, 1.0).enumerate_support(), lambda d, m: d.Poisson(m.ones(2)).entropy(),
              lambda d, m: d.Poisson(m.ones(2)).rsample(),
              lambda d, m: d.Categorical(m.ones(2)).mode.foo, lambda d, m: d.Normal.set_default_validate_args(3), lambda d, m: d.Distribution().mean,
              lambda d, m: d.Distribution(validate_args=False).expand((2,)), lambda d, m: d.kl_divergence(1, 2)):
        same_error(lambda m, f=f: f(m.distributions, m))


def test_switching_validation():
    for m in both():
        d = m.distributions
        off = d.Normal(m.tensor([0.0]), m.tensor([-1.0]), validate_args=False)
        assert plain(off.log_prob(m.tensor([0.5]))).shape == (1,) and off.expand((3,))._validate_args is False
        d.Distribution.set_default_validate_args(False)
        try:
            d.Normal(m.tensor([0.0]), m.tensor([-1.0]))
            with pytest.raises(ValueError, match="Expected parameter scale"): d.Normal(m.tensor([0.0]), m.tensor([-1.0]), validate_args=True)
        finally: d.Distribution.set_default_validate_args(True)
        with pytest.raises(ValueError, match="Expected parameter scale"): d.Normal(m.tensor([0.0]), m.tensor([-1.0]))


def test_subclasses():
    """Without a constructor they expand; with one they have to say how; without constraints and support they warn."""
    for m in both():
        d = m.distributions
        class Same(d.Normal): pass
        class Own(d.Normal):
            def __init__(self, x): super().__init__(x, m.ones(()))
        class OwnTransformed(d.TransformedDistribution):
            arg_constraints = {}
            def __init__(self, x): super().__init__(d.Normal(x, 1.0), d.ExpTransform())
        class Bare(d.Distribution): pass
        assert type(Same(m.zeros(1), m.ones(1)).expand((3,))) is Same
        with pytest.raises(NotImplementedError, match="Subclass Own of Normal that defines a custom __init__ method must also define a custom .expand"):
            Own(m.zeros(1)).expand((3,))
        with pytest.raises(NotImplementedError, match="Subclass OwnTransformed of TransformedDistribution"): OwnTransformed(m.zeros(1)).expand((3,))
        with pytest.warns(UserWarning, match="does not define `arg_constraints`"): bare = Bare()
        with pytest.warns(UserWarning, match="does not define `support`"): bare._validate_sample(m.zeros(()))
        with pytest.warns(FutureWarning, match="sample_n"): assert d.Normal(0.0, 1.0).sample_n(3).shape == (3,)


def test_names():
    """PyTorch's modules are there under their names, with what they define."""
    torch, forno = both()
    assert set(torch.distributions.__all__) == set(forno.distributions.__all__)
    for name in dir(torch.distributions):
        module = getattr(torch.distributions, name)
        if name[0] == "_" or not hasattr(module, "__all__"): continue
        ours = getattr(forno.distributions, name)
        assert importlib.import_module(f"forno.distributions.{name}") is ours
        missing = [x for x in module.__all__ if not hasattr(ours, x)]
        assert not missing, (name, missing)
