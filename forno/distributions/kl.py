"""Kullback-Leibler divergences: a table from pairs of classes to functions of two distributions.

`kl_divergence(p, q)` takes the entry for the nearest classes above p's and q's. Formulas are E_p[log p - log q], worked out; between members of
one exponential family they are Bregman divergences of the log-normalizer (Nielsen and Nock 2010).
"""
from __future__ import annotations

import math
import warnings

from ..framework import api as torch
from ..nn.functional import softplus
from .combined import Independent, TransformedDistribution
from .discrete import Bernoulli, Binomial, Categorical, Geometric, OneHotCategorical, Poisson
from .distribution import Distribution, ExponentialFamily
from .multivariate import LowRankMultivariateNormal, MultivariateNormal, log_diagonal, low_rank_mahalanobis, mahalanobis
from .positive import Exponential, Gamma
from .real import Cauchy, Laplace, Normal, Uniform
from .simplex import Beta, ContinuousBernoulli, Dirichlet
from .transformed import Gumbel, HalfNormal, Pareto
from .utils import euler_constant, sum_rightmost

__all__ = ["register_kl", "kl_divergence"]

_KL_REGISTRY, _KL_MEMOIZE = {}, {}


def register_kl(type_p, type_q):
    """A decorator: the function is the divergence of these two classes and of what derives from them."""
    for name, t in (("type_p", type_p), ("type_q", type_q)):
        if not (isinstance(t, type) and issubclass(t, Distribution)): raise TypeError(f"Expected {name} to be a Distribution subclass but got {t}")

    def decorator(f):
        _KL_REGISTRY[type_p, type_q] = f
        _KL_MEMOIZE.clear()                    # a nearer entry may have come
        return f
    return decorator


def _below(a, b):
    """Is the pair a at least as special as b, looking at the first class first?"""
    for x, y in zip(a, b):
        if not issubclass(x, y): return False
        if x is not y: break
    return True


def _most_special(pairs):
    best, *rest = pairs
    for p in rest:
        if _below(p, best): best = p
    return best


def _dispatch_kl(type_p, type_q):
    matches = [(p, q) for p, q in _KL_REGISTRY if issubclass(type_p, p) and issubclass(type_q, q)]
    if not matches: return NotImplemented
    by_p = _most_special(matches)
    by_q = _most_special([(q, p) for p, q in matches])[::-1]
    f = _KL_REGISTRY[by_p]
    if f is not _KL_REGISTRY[by_q]:
        warnings.warn(f"Ambiguous kl_divergence({type_p.__name__}, {type_q.__name__}). Please register_kl({by_p[0].__name__}, {by_q[1].__name__})",
                      RuntimeWarning, stacklevel=3)
    return f


def kl_divergence(p, q):
    """KL(p ‖ q) = E_p[log p(x) - log q(x)], one number per place of the batch."""
    key = type(p), type(q)
    f = _KL_MEMOIZE.get(key)
    if f is None: f = _KL_MEMOIZE[key] = _dispatch_kl(*key)
    if f is NotImplemented:
        raise NotImplementedError(f"No KL(p || q) is implemented for p type {p.__class__.__name__} and q type {q.__class__.__name__}")
    return f(p, q)


def _infinite_if(condition, result): return torch.where(condition, math.inf, result)


# ---------------------------------------------------------------- q doesn't reach everywhere p does
for _p, _qs, _parameter in ((Beta, (Pareto,), "concentration1"), (ContinuousBernoulli, (Pareto,), "probs"), (Poisson, (Bernoulli, Binomial), "rate"),
                            (Exponential, (Beta, ContinuousBernoulli, Pareto, Uniform), "rate"),
                            (Gamma, (Beta, ContinuousBernoulli, Pareto, Uniform), "concentration"),
                            (Gumbel, (Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform), "loc"),
                            (Laplace, (Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform), "loc"),
                            (Normal, (Beta, ContinuousBernoulli, Exponential, Gamma, Pareto, Uniform), "loc"),
                            (Pareto, (Beta, ContinuousBernoulli, Uniform), "scale")):
    for _q in _qs: register_kl(_p, _q)(lambda p, q, name=_parameter: torch.full_like(getattr(p, name), math.inf))


# ---------------------------------------------------------------- made of others
@register_kl(ExponentialFamily, ExponentialFamily)
def _families(p, q):
    if type(p) is not type(q):
        raise NotImplementedError("The cross KL-divergence between different exponential families cannot be computed using Bregman divergences")
    theta = [t.detach().requires_grad_() for t in p._natural_params]
    normalizer = p._log_normalizer(*theta)
    gradients = torch.autograd.grad(normalizer.sum(), theta, create_graph=True)
    out = q._log_normalizer(*q._natural_params) - normalizer
    for a, b, g in zip(theta, q._natural_params, gradients): out = out - sum_rightmost((b - a) * g, len(q.event_shape))
    return out


@register_kl(Independent, Independent)
def _independents(p, q):
    if p.reinterpreted_batch_ndims != q.reinterpreted_batch_ndims: raise NotImplementedError
    return sum_rightmost(kl_divergence(p.base_dist, q.base_dist), p.reinterpreted_batch_ndims)


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p, q):
    """An invertible transform changes nothing."""
    if p.transforms != q.transforms or p.event_shape != q.event_shape: raise NotImplementedError
    return kl_divergence(p.base_dist, q.base_dist)


@register_kl(HalfNormal, HalfNormal)
def _half_normals(p, q): return _normals(p.base_dist, q.base_dist)


@register_kl(OneHotCategorical, OneHotCategorical)
def _one_hots(p, q): return _categoricals(p._categorical, q._categorical)


# ---------------------------------------------------------------- discrete
@register_kl(Bernoulli, Bernoulli)
def _bernoullis(p, q):
    def side(weight, other, sign):
        t = _infinite_if(other == 0, weight * (softplus(sign * q.logits) - softplus(sign * p.logits)))
        return torch.where(weight == 0, 0, t)
    return side(p.probs, q.probs, -1) + side(1 - p.probs, 1 - q.probs, 1)


@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p, q): return -p.entropy() - (p.probs * q.rate.log() - q.rate)


@register_kl(Binomial, Binomial)
def _binomials(p, q):
    if (p.total_count < q.total_count).any():
        raise NotImplementedError("KL between Binomials where q.total_count > p.total_count is not implemented")
    kl = p.total_count * (p.probs * (p.logits - q.logits) + (-p.probs).log1p() - (-q.probs).log1p())
    return _infinite_if(p.total_count > q.total_count, kl)


@register_kl(Categorical, Categorical)
def _categoricals(p, q):
    t = _infinite_if(q.probs == 0, p.probs * (p.logits - q.logits))
    return torch.where(p.probs == 0, 0, t).sum(-1)


@register_kl(Geometric, Geometric)
def _geometrics(p, q): return -p.entropy() - (-q.probs).log1p() / p.probs - q.logits


@register_kl(Poisson, Poisson)
def _poissons(p, q): return p.rate * (p.rate.log() - q.rate.log()) - (p.rate - q.rate)


# ---------------------------------------------------------------- p on the unit interval or the simplex
@register_kl(Beta, Beta)
def _betas(p, q):
    a, b, c, d = p.concentration1, p.concentration0, q.concentration1, q.concentration0
    n, m = a + b, c + d
    return (c.lgamma() + d.lgamma() + n.lgamma() - (a.lgamma() + b.lgamma() + m.lgamma()) + (a - c) * a.digamma() + (b - d) * b.digamma()
            + (m - n) * n.digamma())


@register_kl(Beta, ContinuousBernoulli)
@register_kl(Uniform, ContinuousBernoulli)
def _any_continuous_bernoulli(p, q):
    kl = -p.entropy() - p.mean * q.logits - (-q.probs).log1p() - q._cont_bern_log_norm()
    if isinstance(p, Beta): return kl
    return _infinite_if((p.high >= q.support.upper_bound) | (p.low <= q.support.lower_bound), kl)


@register_kl(Beta, Exponential)
@register_kl(ContinuousBernoulli, Exponential)
@register_kl(Gamma, Exponential)
def _any_exponential(p, q): return -p.entropy() - q.rate.log() + q.rate * p.mean


@register_kl(Beta, Gamma)
def _beta_gamma(p, q):
    a, n = p.concentration1, p.concentration1 + p.concentration0
    return (-p.entropy() + q.concentration.lgamma() - q.concentration * q.rate.log() - (q.concentration - 1) * (a.digamma() - n.digamma())
            + q.rate * a / n)


@register_kl(Beta, Normal)
@register_kl(ContinuousBernoulli, Normal)
def _any_normal(p, q):
    """From p's entropy and first two moments."""
    var = q.scale.pow(2)
    return -p.entropy() + 0.5 * (2 * math.pi * var).log() + (0.5 * (p.variance + p.mean.pow(2)) - q.loc * p.mean + 0.5 * q.loc.pow(2)) / var


@register_kl(Beta, Uniform)
def _beta_uniform(p, q):
    return _infinite_if((q.low > p.support.lower_bound) | (q.high < p.support.upper_bound), -p.entropy() + (q.high - q.low).log())


@register_kl(ContinuousBernoulli, Uniform)
def _continuous_bernoulli_uniform(p, q):
    return _infinite_if((q.low >= p.support.lower_bound) | (q.high <= p.support.upper_bound), -p.entropy() + (q.high - q.low).log())


@register_kl(ContinuousBernoulli, ContinuousBernoulli)
def _continuous_bernoullis(p, q):
    return (p.mean * (p.logits - q.logits) + p._cont_bern_log_norm() + (-p.probs).log1p() - q._cont_bern_log_norm() - (-q.probs).log1p())


@register_kl(Dirichlet, Dirichlet)
def _dirichlets(p, q):
    a, b = p.concentration, q.concentration
    n = a.sum(-1)
    return n.lgamma() - b.sum(-1).lgamma() - (a.lgamma() - b.lgamma()).sum(-1) + ((a - b) * (a.digamma() - n.digamma().unsqueeze(-1))).sum(-1)


# ---------------------------------------------------------------- p on the positive numbers
@register_kl(Exponential, Exponential)
def _exponentials(p, q):
    ratio = q.rate / p.rate
    return ratio - ratio.log() - 1


@register_kl(Exponential, Gamma)
def _exponential_gamma(p, q):
    ratio = q.rate / p.rate
    return ratio - q.concentration * ratio.log() + q.concentration.lgamma() + q.concentration * euler_constant - (1 + euler_constant)


@register_kl(Exponential, Gumbel)
def _exponential_gumbel(p, q):
    scale, loc = p.rate * q.scale, q.loc / q.scale
    return scale.log() - 1 - loc + loc.exp() * scale / (scale + 1) + scale.reciprocal()


@register_kl(Exponential, Normal)
def _exponential_normal(p, q):
    var, square = q.scale.pow(2), p.rate.pow(2)
    return 0.5 * (2 * math.pi * square * var).log() - 1 + (square.reciprocal() - q.loc / p.rate + 0.5 * q.loc.pow(2)) / var


@register_kl(Gamma, Gamma)
def _gammas(p, q):
    a, b = p.concentration, q.concentration
    return b * (p.rate / q.rate).log() + b.lgamma() - a.lgamma() + (a - b) * a.digamma() + (q.rate - p.rate) * (a / p.rate)


@register_kl(Gamma, Gumbel)
def _gamma_gumbel(p, q):
    a, scale, loc = p.concentration, p.rate * q.scale, q.loc / q.scale
    return (a - 1) * a.digamma() - a.lgamma() - a + scale.log() + a / scale + loc.exp() * (1 + scale.reciprocal()).pow(-a) - loc


@register_kl(Gamma, Normal)
def _gamma_normal(p, q):
    a, var, square = p.concentration, q.scale.pow(2), p.rate.pow(2)
    return (0.5 * (2 * math.pi * square * var).log() - a - a.lgamma() + (a - 1) * a.digamma()
            + (0.5 * (a.pow(2) + a) / square - q.loc * a / p.rate + 0.5 * q.loc.pow(2)) / var)


@register_kl(Pareto, Pareto)
def _paretos(p, q):
    ratio = q.alpha / p.alpha
    return _infinite_if(p.scale < q.scale, q.alpha * (p.scale / q.scale).log() - ratio.log() + ratio - 1)


@register_kl(Pareto, Exponential)
def _pareto_exponential(p, q):
    scale = p.scale * q.rate
    return _infinite_if(p.alpha <= 1, (p.alpha / scale).log() - p.alpha.reciprocal() + p.alpha * scale / (p.alpha - 1) - 1)


@register_kl(Pareto, Gamma)
def _pareto_gamma(p, q):
    log_mean = p.scale.log() + p.alpha.reciprocal()
    kl = (p.alpha.log() - log_mean + q.concentration.lgamma() - q.concentration * q.rate.log() + (1 - q.concentration) * log_mean
          + q.rate * p.alpha * p.scale / (p.alpha - 1) - 1)
    return _infinite_if(p.alpha <= 1, kl)


@register_kl(Pareto, Normal)
def _pareto_normal(p, q):
    step = p.scale / (p.alpha - 1)
    spread = p.alpha * step.pow(2) / (p.alpha - 2) + (p.alpha * step - q.loc).pow(2)
    kl = (math.sqrt(2 * math.pi) * q.scale * p.alpha / p.scale).log() - p.alpha.reciprocal() + spread / (2 * q.scale.pow(2)) - 1
    return _infinite_if(p.alpha <= 2, kl)


# ---------------------------------------------------------------- p on the real line
@register_kl(Cauchy, Cauchy)
def _cauchys(p, q): return ((p.scale + q.scale).pow(2) + (p.loc - q.loc).pow(2)).log() - (4 * p.scale * q.scale).log()


@register_kl(Gumbel, Gumbel)
def _gumbels(p, q):
    ratio, there, here = p.scale / q.scale, q.loc / q.scale, p.loc / q.scale
    return here - there - ratio.log() + ratio * euler_constant + (there + (1 + ratio).lgamma() - here).exp() - (1 + euler_constant)


@register_kl(Gumbel, Normal)
def _gumbel_normal(p, q):
    ratio = p.scale / q.scale
    shift = (p.loc + p.scale * euler_constant - q.loc) / q.scale
    return -(ratio / math.sqrt(2 * math.pi)).log() + (0.5 * math.pi * ratio).pow(2) / 3 + 0.5 * shift.pow(2) - (euler_constant + 1)


@register_kl(Laplace, Laplace)
def _laplaces(p, q):
    ratio, away = p.scale / q.scale, (p.loc - q.loc).abs()
    return -ratio.log() + away / q.scale + ratio * (-away / p.scale).exp() - 1


@register_kl(Laplace, Normal)
def _laplace_normal(p, q):
    var = q.scale.pow(2)
    ratio = p.scale.pow(2) / var
    return -0.5 * (2 * ratio / math.pi).log() + ratio + (0.5 * p.loc.pow(2) - p.loc * q.loc + 0.5 * q.loc.pow(2)) / var - 1


@register_kl(Normal, Normal)
def _normals(p, q):
    ratio = (p.scale / q.scale).pow(2)
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale).pow(2) - 1 - ratio.log())


@register_kl(Normal, Gumbel)
def _normal_gumbel(p, q):
    here, there, ratio = p.loc / q.scale, q.loc / q.scale, (p.scale / q.scale).pow(2)
    return -0.5 * ratio.log() + here - there + (-here + 0.5 * ratio + there).exp() - 0.5 * (1 + math.log(2 * math.pi))


@register_kl(Normal, Laplace)
def _normal_laplace(p, q):
    away = p.loc - q.loc
    z = away / p.scale
    distance = math.sqrt(2 / math.pi) * p.scale * (-0.5 * z.pow(2)).exp() + away * (math.sqrt(0.5) * z).erf()            # E|x - q.loc|
    return -(p.scale / q.scale).log() + distance / q.scale - 0.5 * (1 + math.log(0.5 * math.pi))


# ---------------------------------------------------------------- p uniform
def _mean_log(low, high):
    """E[log x] on [low, high]."""
    return (torch.xlogy(high, high) - torch.xlogy(low, low)) / (high - low) - 1


@register_kl(Uniform, Uniform)
def _uniforms(p, q): return _infinite_if((q.low > p.low) | (q.high < p.high), ((q.high - q.low) / (p.high - p.low)).log())


@register_kl(Uniform, Beta)
def _uniform_beta(p, q):
    a, b = q.concentration1, q.concentration0
    kl = (a.lgamma() + b.lgamma() - (a + b).lgamma() - (p.high - p.low).log() - (a - 1) * _mean_log(p.low, p.high)
          - (b - 1) * _mean_log(1 - p.high, 1 - p.low))
    return _infinite_if((p.high > q.support.upper_bound) | (p.low < q.support.lower_bound), kl)


@register_kl(Uniform, Exponential)
def _uniform_exponential(p, q):
    return _infinite_if(p.low < q.support.lower_bound, q.rate * (p.high + p.low) / 2 - ((p.high - p.low) * q.rate).log())


@register_kl(Uniform, Gamma)
def _uniform_gamma(p, q):
    a = q.concentration
    kl = a.lgamma() - (p.high - p.low).log() - a * q.rate.log() + (1 - a) * _mean_log(p.low, p.high) + q.rate * (p.high + p.low) / 2
    return _infinite_if(p.low < q.support.lower_bound, kl)


@register_kl(Uniform, Gumbel)
def _uniform_gumbel(p, q):
    share, high, low = q.scale / (p.high - p.low), (p.high - q.loc) / q.scale, (p.low - q.loc) / q.scale
    return share.log() + 0.5 * (high + low) - share * ((-high).exp() - (-low).exp())


@register_kl(Uniform, Normal)
def _uniform_normal(p, q):
    width, away = p.high - p.low, (p.high + p.low - 2 * q.loc) / 2
    return (math.sqrt(math.pi * 2) * q.scale / width).log() + 0.5 * (width.pow(2) / 12 + away.pow(2)) / q.scale.pow(2)


@register_kl(Uniform, Pareto)
def _uniform_pareto(p, q):
    kl = _mean_log(p.low, p.high) * (q.alpha + 1) - (q.alpha * q.scale.pow(q.alpha) * (p.high - p.low)).log()
    return _infinite_if(p.low < q.support.lower_bound, kl)


# ---------------------------------------------------------------- normal vectors: ½ (log det ratio + trace + distance - n)
def _square_sum(m): return m.pow(2).sum((-2, -1))


def _same_events(p, q, what):
    if p.event_shape != q.event_shape:
        raise ValueError(f"KL-divergence between two {what} with different event shapes cannot be computed")


def _solve(factor, m):
    """factor⁻¹ · m with their batches broadcast."""
    batch = torch.broadcast_shapes(factor.shape[:-2], m.shape[:-2])
    return torch.linalg.solve_triangular(factor.expand(batch + factor.shape[-2:]), m.expand(batch + m.shape[-2:]), upper=False)


@register_kl(MultivariateNormal, MultivariateNormal)
def _multivariate_normals(p, q):
    _same_events(p, q, "Multivariate Normals")
    a, b = p._unbroadcasted_scale_tril, q._unbroadcasted_scale_tril
    return log_diagonal(b) - log_diagonal(a) + 0.5 * (_square_sum(_solve(b, a)) + mahalanobis(b, q.loc - p.loc) - p.event_shape[0])


@register_kl(LowRankMultivariateNormal, MultivariateNormal)
def _low_rank_full(p, q):
    _same_events(p, q, "(Low Rank) Multivariate Normals")
    b, (w, d) = q._unbroadcasted_scale_tril, p._low_rank
    trace = _square_sum(_solve(b, w)) + _square_sum(_solve(b, d.sqrt().diag_embed()))
    return 0.5 * (2 * log_diagonal(b) - p._logdet() + trace + mahalanobis(b, q.loc - p.loc) - p.event_shape[0])


def _to_low_rank(p, q, p_logdet, trace):
    """`trace(scale, a)` of p's covariance times q's precision, given as D^-½ and the factor A of what Woodbury's identity subtracts."""
    w, d = q._low_rank
    a = torch.linalg.solve_triangular(q._capacitance_tril, w.mT / d.unsqueeze(-2), upper=False)
    distance = low_rank_mahalanobis(w, d, q.loc - p.loc, q._capacitance_tril)
    return 0.5 * (q._logdet() - p_logdet + trace(d.rsqrt().unsqueeze(-1), a) + distance - p.event_shape[0])


@register_kl(MultivariateNormal, LowRankMultivariateNormal)
def _full_low_rank(p, q):
    _same_events(p, q, "(Low Rank) Multivariate Normals")
    factor = p._unbroadcasted_scale_tril
    return _to_low_rank(p, q, 2 * log_diagonal(factor), lambda scale, a: _square_sum(factor * scale) - _square_sum(a @ factor))


@register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)
def _low_ranks(p, q):
    _same_events(p, q, "Low Rank Multivariate Normals")
    w, d = p._low_rank
    return _to_low_rank(p, q, p._logdet(), lambda scale, a: (d * scale.squeeze(-1).pow(2)).sum(-1) + _square_sum(w * scale)
                        - _square_sum(a * d.sqrt().unsqueeze(-2)) - _square_sum(a @ w))
