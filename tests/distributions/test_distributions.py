"""Every distribution against PyTorch's: samples of equal seeds, densities, moments, gradients, expansion, how it prints."""
import copy
import math
import pickle

import numpy as np
import pytest

from .cases import CASES, both, make, outcome, plain, tensor

NAMES = list(CASES)
LOOSE = {"Wishart": 2e-4, "LKJ": 1e-4, "LowRank": 1e-4, "Multivariate": 1e-4}              # float32 samples that went through matrix products
# what GeneralizedPareto, Wishart and a divergence of batches of low-rank normal vectors raise in PyTorch
FAULTS = ("Double did not match Float", "modified by an inplace operation", "the number of sizes provided (2) must be greater or equal")


def agree(got, want, what="", rtol=1e-9, atol=1e-9):
    """Values of the same type and shape; or exceptions of the same kind."""
    if isinstance(want, Exception):
        if any(text in str(want) for text in FAULTS): return
        assert isinstance(got, Exception) and type(got).__name__ == type(want).__name__, f"{what}: {got!r}, PyTorch: {want!r}"
        return
    if isinstance(got, Exception): raise AssertionError(f"{what}: {got!r}, PyTorch gives a value") from got
    if isinstance(want, list): return [agree(g, w, what, rtol, atol) for g, w in zip(got, want, strict=True)]
    got, want = np.asarray(got), np.asarray(want)
    assert (got.dtype, got.shape) == (want.dtype, want.shape), what
    np.testing.assert_allclose(got, want, rtol=rtol, atol=atol, equal_nan=True, err_msg=what)


def compare(f, *, what="", **tolerance):
    """f(library) in both."""
    torch, forno = both()
    want, got = (outcome(lambda m=m: plain(f(m))) for m in (torch, forno))
    agree(got, want, what, **tolerance)


def single(case): return case.endswith(("number", "numbers")) or case == "GeneralizedPareto"


def exactly(case):
    """Numbers as parameters are float32; so is GeneralizedPareto, whose density PyTorch can't take in float64."""
    return dict(rtol=3e-6, atol=1e-6) if single(case) else dict(rtol=1e-7, atol=1e-8)


def ours(m, case, **kw): return make(m, case, "float32" if single(case) else "float64", **kw)


def at(m, case, x): return tensor(m, x, "float32" if single(case) else "float64")


def seeded(m, f, seed=5):
    m.manual_seed(seed)
    return f()


def values(case, shape=(4,)):
    """Samples of PyTorch's, as the values at which both are asked."""
    torch, _ = both()
    return seeded(torch, lambda: outcome(lambda: make(torch, case)[0].sample(shape))).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", NAMES)
def test_samples(case, dtype):
    """Equal seeds, equal samples; and the generators are in the same state afterwards."""
    tolerance = next((t for name, t in LOOSE.items() if case.startswith(name)), 2e-6) if dtype == "float32" or single(case) else 1e-9
    for method in ("sample", "rsample"):
        for shape in ((), (5,), (3, 2)):
            def draw(m, method=method, shape=shape):
                d = make(m, case, dtype)[0]
                return [seeded(m, lambda: getattr(d, method)(shape)), m.rand(2)]
            compare(draw, what=f"{method} {shape}", rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("case", NAMES)
def test_values(case):
    x = values(case)
    for what in ("log_prob", "cdf", "log_survival_function"):
        compare(lambda m, what=what: getattr(ours(m, case)[0], what)(at(m, case, x)), what=what, **exactly(case))
    u = [[0.01], [0.3], [0.5], [0.999]]
    compare(lambda m: ours(m, case)[0].icdf(at(m, case, u)), what="icdf", **exactly(case))


@pytest.mark.parametrize("case", NAMES)
def test_properties(case):
    for what in ("mean", "mode", "variance", "stddev", "logits", "probs", "covariance_matrix", "precision_matrix", "scale_tril", "loc", "scale", "df", "rate",
                 "concentration", "concentration1", "temperature"):
        compare(lambda m, what=what: getattr(make(m, case)[0], what), what=what, **exactly(case))
    for what in ("entropy", "perplexity", "enumerate_support"): compare(lambda m, what=what: getattr(make(m, case)[0], what)(), what=what, **exactly(case))
    compare(lambda m: make(m, case)[0].enumerate_support(expand=False), what="enumerate_support")
    dists = [make(m, case)[0] for m in both()]
    for what in ("batch_shape", "event_shape", "has_rsample", "has_enumerate_support"):
        assert len({str(getattr(d, what)) for d in dists}) == 1, what
    assert repr(dists[0]) == repr(dists[1])
    assert repr(outcome(lambda: dists[0].support)) == repr(outcome(lambda: dists[1].support))
    assert list(dists[0].arg_constraints) == list(dists[1].arg_constraints)


@pytest.mark.parametrize("case", NAMES)
def test_gradients(case):
    """Of samples, densities and entropies with respect to every parameter; where the sample has none, PyTorch's has none either."""
    x = values(case)

    def gradients(f):
        def run(m):
            d, parameters = ours(m, case, grad=True, **({"validate_args": False} if "MixtureSameFamily" not in case else {}))
            y = seeded(m, lambda: f(m, d))
            weights = m.arange(y.numel(), dtype=m.float64).reshape(y.shape) + 1
            # above a factor's diagonal PyTorch's cholesky_solve leaves something
            seen = (lambda g: g.tril()) if case == "Wishart" else (lambda g: g)
            return [m.zeros(()) if g is None else seen(g) if g.dim() == 2 else g
                    for g in m.autograd.grad((y * weights.cos()).sum(), [p for p in parameters if p.requires_grad], allow_unused=True)]
        return run
    compare(gradients(lambda m, d: d.rsample((4,))), what="rsample", rtol=1e-5 if single(case) else 1e-6, atol=1e-6)
    compare(gradients(lambda m, d: d.log_prob(at(m, case, x))), what="log_prob", **(exactly(case) if single(case) else dict(rtol=1e-6, atol=1e-7)))
    compare(gradients(lambda m, d: d.entropy()), what="entropy", rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", NAMES)
def test_expand(case):
    """Shapes, samples and densities of an expanded distribution, and of one expanded twice."""
    x = values(case, (2,))

    def expanded(m):
        d = ours(m, case)[0]
        d = d.expand((2, *d.batch_shape))
        return d.expand((3, *d.batch_shape))
    dists = [expanded(m) for m in both()]
    assert (*dists[0].batch_shape, *dists[0].event_shape) == (*dists[1].batch_shape, *dists[1].event_shape)
    assert repr(dists[0]) == repr(dists[1])
    compare(lambda m: seeded(m, lambda: expanded(m).sample((2,))), what="sample", rtol=1e-6, atol=1e-9)
    compare(lambda m: expanded(m).log_prob(at(m, case, x)), what="log_prob", **exactly(case))
    compare(lambda m: expanded(m).mean, what="mean", **exactly(case))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
@pytest.mark.parametrize("case", NAMES)
def test_types(case, dtype):
    """Types of samples and moments follow the parameters'; samples don't require gradients, except where they may."""
    def kinds(m):
        d, seen = make(m, case, dtype, grad=True)[0], []
        for f in (d.sample, d.rsample): seen.append(outcome(lambda f=f: (str(f().dtype)[-8:], f().requires_grad)))
        for what in ("mean", "variance", "mode"): seen.append(outcome(lambda what=what: str(getattr(d, what).dtype)[-8:]))
        return [type(v).__name__ if isinstance(v, Exception) else v for v in seen]
    want, got = (outcome(lambda m=m: kinds(m)) for m in both())
    assert type(got).__name__ == type(want).__name__ if isinstance(want, Exception) else got == want


@pytest.mark.parametrize("case", ["Bernoulli probs", "Categorical logits", "Geometric", "RelaxedBernoulli", "ContinuousBernoulli logits"])
def test_what_is_computed_once_has_gradients(case):
    """Even when it was asked for without them."""
    def sides(m):
        with m.no_grad():
            d = make(m, case, grad=True)[0]
            return [getattr(d, what).requires_grad for what in ("logits", "probs")]
    assert len({str(sides(m)) for m in both()}) == 1


@pytest.mark.parametrize("case", NAMES)
def test_pickle(case):
    """A copy by pickling draws the same numbers."""
    _, forno = both()
    d = make(forno, case)[0]
    for other in (copy.deepcopy(d), pickle.loads(pickle.dumps(d))):
        agree(plain(seeded(forno, lambda other=other: other.sample((3,)))), plain(seeded(forno, lambda: d.sample((3,)))))


def test_many_samples_have_the_moments():
    """What equal seeds can't show: that mean and variance are those of the samples."""
    _, forno = both()
    for case in ("Gamma", "Beta", "Binomial", "VonMises", "StudentT number", "Kumaraswamy", "Gumbel", "Weibull", "NegativeBinomial"):
        d = make(forno, case)[0]
        x = seeded(forno, lambda d=d: d.sample((20000,)))
        if case != "VonMises": np.testing.assert_allclose(plain(x.mean(0)), plain(d.mean), atol=8 * math.sqrt(float(d.variance.max()) / 20000), err_msg=case)
