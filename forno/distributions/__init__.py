"""torch.distributions: probability distributions with batches and events, transforms between them, divergences.

Comes in: parameters, as tensors or numbers. Goes out: samples (with gradients where `rsample` exists), log-probabilities, moments, entropies.
It knows tensors only. PyTorch has a module per distribution; here they stand together by kind, and PyTorch's modules are other names of ours.
"""
import sys as _sys

from . import (combined, constraint_registry, constraints, discrete, distribution, kl, multivariate, positive, real, simplex, transformed, transforms,
               utils)
from .combined import *
from .constraint_registry import biject_to, transform_to
from .discrete import *
from .distribution import Distribution, ExponentialFamily
from .kl import kl_divergence, register_kl
from .multivariate import *
from .positive import *
from .real import *
from .simplex import *
from .transformed import *
from .transforms import *

_MODULES = {
    combined: "independent mixture_same_family transformed_distribution",
    discrete: "bernoulli binomial categorical geometric multinomial negative_binomial one_hot_categorical poisson",
    distribution: "exp_family", multivariate: "lkj_cholesky lowrank_multivariate_normal multivariate_normal wishart",
    positive: "chi2 exponential fishersnedecor gamma", real: "cauchy generalized_pareto laplace normal studentT uniform von_mises",
    simplex: "beta continuous_bernoulli dirichlet",
    transformed: "gumbel half_cauchy half_normal inverse_gamma kumaraswamy log_normal logistic_normal pareto relaxed_bernoulli relaxed_categorical "
                 "weibull",
}
for _file, _names in _MODULES.items():
    for _name in _names.split(): globals()[_name] = _sys.modules[f"{__name__}.{_name}"] = _file

_FUNCTIONS = ("biject_to", "transform_to", "identity_transform", "kl_divergence", "register_kl")
__all__ = [n for n, x in globals().items() if n[0] != "_" and (isinstance(x, type) or n in _FUNCTIONS)]
