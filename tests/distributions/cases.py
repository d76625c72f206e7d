"""The distributions that the tests walk: how each is made, in either library, from the same numbers."""
import warnings

import forno
import torch

A = [0.7, 2.5, 1.3]
B = [1.9, 0.4, 3.2]
P = [0.2, 0.5, 0.85]
Z = [-0.8, 0.0, 1.7]
ROWS = [[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]]
LOGITS = [[0.3, -1.0, 0.4], [2.0, 0.1, -0.3]]
TRIL = [[1.5, 0.0, 0.0], [0.3, 0.8, 0.0], [-0.4, 0.2, 1.1]]
COV = (torch.tensor(TRIL) @ torch.tensor(TRIL).T).tolist()
PRECISION = torch.tensor(COV, dtype=torch.float64).inverse().tolist()
FACTOR = [[1.0, 0.2], [0.5, -0.3], [-0.7, 0.9]]

# name, then the arguments; a list becomes a tensor, everything else stays
CASES = {
    "Bernoulli probs": ("Bernoulli", dict(probs=P)), "Bernoulli logits": ("Bernoulli", dict(logits=Z)),
    "Bernoulli number": ("Bernoulli", dict(probs=0.3)),
    "Beta": ("Beta", dict(concentration1=A, concentration0=B)), "Beta numbers": ("Beta", dict(concentration1=2.0, concentration0=3.0)),
    "Beta large": ("Beta", dict(concentration1=[9.0, 30.0], concentration0=[12.0, 8.0])),
    "Binomial": ("Binomial", dict(total_count=12, probs=P)), "Binomial logits": ("Binomial", dict(total_count=12, logits=Z)),
    "Binomial many": ("Binomial", dict(total_count=[100.0, 3.0, 50.0], probs=P)),
    "Categorical": ("Categorical", dict(probs=ROWS)), "Categorical logits": ("Categorical", dict(logits=LOGITS)),
    "Categorical one": ("Categorical", dict(probs=[0.1, 0.9])),
    "Cauchy": ("Cauchy", dict(loc=Z, scale=A)), "Chi2": ("Chi2", dict(df=A)),
    "ContinuousBernoulli": ("ContinuousBernoulli", dict(probs=P)), "ContinuousBernoulli logits": ("ContinuousBernoulli", dict(logits=Z)),
    "Dirichlet": ("Dirichlet", dict(concentration=[[0.7, 2.5, 1.3], [8.0, 9.0, 20.0], [0.3, 0.5, 0.2]])),
    "Exponential": ("Exponential", dict(rate=A)), "Exponential number": ("Exponential", dict(rate=2.0)),
    "FisherSnedecor": ("FisherSnedecor", dict(df1=[1.5, 3.0, 8.0], df2=[2.0, 5.0, 12.0])),
    "Gamma": ("Gamma", dict(concentration=[0.3, 2.5, 40.0], rate=B)), "Gamma numbers": ("Gamma", dict(concentration=2.0, rate=3.0)),
    "GeneralizedPareto": ("GeneralizedPareto", dict(loc=[0.1, 0.5, -1.0], scale=A, concentration=[0.0, 0.3, -0.4])),
    "Geometric": ("Geometric", dict(probs=P)), "Geometric logits": ("Geometric", dict(logits=Z)),
    "Gumbel": ("Gumbel", dict(loc=Z, scale=A)), "Gumbel numbers": ("Gumbel", dict(loc=0.5, scale=2.0)),
    "HalfCauchy": ("HalfCauchy", dict(scale=A)), "HalfNormal": ("HalfNormal", dict(scale=A)),
    "InverseGamma": ("InverseGamma", dict(concentration=[0.7, 2.5, 5.3], rate=B)),
    "Kumaraswamy": ("Kumaraswamy", dict(concentration1=A, concentration0=B)),
    "LKJCholesky": ("LKJCholesky", dict(dim=3, concentration=[0.7, 2.5])), "LKJCholesky number": ("LKJCholesky", dict(dim=4, concentration=1.5)),
    "Laplace": ("Laplace", dict(loc=Z, scale=A)), "LogNormal": ("LogNormal", dict(loc=Z, scale=A)),
    "LogisticNormal": ("LogisticNormal", dict(loc=Z, scale=A)), "LogisticNormal numbers": ("LogisticNormal", dict(loc=0.0, scale=1.0)),
    "LowRankMultivariateNormal": ("LowRankMultivariateNormal", dict(loc=Z, cov_factor=FACTOR, cov_diag=A)),
    "LowRankMultivariateNormal batch": ("LowRankMultivariateNormal", dict(loc=[Z, A], cov_factor=FACTOR, cov_diag=[A, B])),
    "MixtureSameFamily": ("mixture", dict(probs=ROWS, loc=[Z, A], scale=[A, B])),
    "MixtureSameFamily vectors": ("vectors", dict(probs=ROWS[0], loc=[[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]], scale=[[1.0, 0.5], [2.0, 1.0], [0.3, 0.8]])),
    "Multinomial": ("Multinomial", dict(total_count=7, probs=ROWS)), "Multinomial logits": ("Multinomial", dict(total_count=3, logits=LOGITS[0])),
    "MultivariateNormal": ("MultivariateNormal", dict(loc=Z, scale_tril=TRIL)),
    "MultivariateNormal covariance": ("MultivariateNormal", dict(loc=[Z, A], covariance_matrix=COV)),
    "MultivariateNormal precision": ("MultivariateNormal", dict(loc=Z, precision_matrix=PRECISION)),
    "NegativeBinomial": ("NegativeBinomial", dict(total_count=[3.0, 10.0, 1.0], probs=P)),
    "NegativeBinomial logits": ("NegativeBinomial", dict(total_count=4, logits=Z)),
    "Normal": ("Normal", dict(loc=Z, scale=A)), "Normal numbers": ("Normal", dict(loc=0.5, scale=2.0)),
    "Normal broadcast": ("Normal", dict(loc=[[0.0], [1.0]], scale=A)),
    "OneHotCategorical": ("OneHotCategorical", dict(probs=ROWS)), "OneHotCategorical logits": ("OneHotCategorical", dict(logits=LOGITS)),
    "OneHotCategoricalStraightThrough": ("OneHotCategoricalStraightThrough", dict(probs=ROWS)),
    "Pareto": ("Pareto", dict(scale=A, alpha=[0.7, 1.5, 3.2])), "Poisson": ("Poisson", dict(rate=[0.7, 12.5, 3.0])),
    "RelaxedBernoulli": ("RelaxedBernoulli", dict(temperature=[0.7], probs=P)),
    "RelaxedBernoulli logits": ("RelaxedBernoulli", dict(temperature=[2.0], logits=Z)),
    "RelaxedOneHotCategorical": ("RelaxedOneHotCategorical", dict(temperature=[0.7], probs=ROWS)),
    "RelaxedOneHotCategorical logits": ("RelaxedOneHotCategorical", dict(temperature=[2.0], logits=LOGITS)),
    "StudentT": ("StudentT", dict(df=[0.7, 1.5, 5.0], loc=Z, scale=A)), "StudentT number": ("StudentT", dict(df=3.0)),
    "Uniform": ("Uniform", dict(low=Z, high=[0.1, 2.0, 3.0])), "Uniform numbers": ("Uniform", dict(low=-1.0, high=3.0)),
    "VonMises": ("VonMises", dict(loc=Z, concentration=[0.5, 4.0, 20.0])),
    "Weibull": ("Weibull", dict(scale=A, concentration=B)),
    "Wishart": ("Wishart", dict(df=[5.0, 7.0], scale_tril=TRIL)), "Wishart covariance": ("Wishart", dict(df=4.5, covariance_matrix=COV)),
    "Wishart precision": ("Wishart", dict(df=6.0, precision_matrix=PRECISION)),
    "Independent": ("independent", dict(loc=[Z, A], scale=[A, B])), "Transformed": ("transformed", dict(loc=Z, scale=A)),
}


def both(): return torch, forno


def tensor(m, x, dtype="float64", **kw): return m.tensor(x, dtype=getattr(m, dtype), **kw)


def make(m, case, dtype="float64", grad=False, **more):
    """(the distribution in library m, its tensor parameters)"""
    name, given = CASES[case]
    given = {k: tensor(m, v, dtype, requires_grad=grad and k != "temperature") if isinstance(v, list) else v for k, v in given.items()} | more
    return BUILT.get(name, lambda m, **kw: getattr(m.distributions, name)(**kw))(m, **given), [v for v in given.values() if isinstance(v, m.Tensor)]


def _transformed(m, loc, scale, **kw):
    d = m.distributions
    return d.TransformedDistribution(d.Normal(loc, scale), [d.AffineTransform(0.5, -2.0), d.SigmoidTransform(), d.PowerTransform(scale)], **kw)


BUILT = {
    "independent": lambda m, loc, scale, **kw: m.distributions.Independent(m.distributions.Normal(loc, scale), 1, **kw),
    "transformed": _transformed,
    "mixture": lambda m, probs, loc, scale, **kw: m.distributions.MixtureSameFamily(
        m.distributions.Categorical(probs), m.distributions.Normal(loc, scale), **kw),
    "vectors": lambda m, probs, loc, scale, **kw: m.distributions.MixtureSameFamily(
        m.distributions.Categorical(probs), m.distributions.Independent(m.distributions.Normal(loc, scale), 1), **kw),
}


def plain(x):
    """Tensors as NumPy arrays, inside lists too."""
    if isinstance(x, (list, tuple)): return [plain(v) for v in x]
    return x.detach().numpy() if hasattr(x, "detach") else x


def outcome(f):
    """What f returns, or the exception it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try: return f()
        except Exception as e: return e
