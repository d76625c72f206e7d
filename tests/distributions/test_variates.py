"""What the distributions stand on: gamma, Dirichlet and binomial variates with their gradients, incomplete gamma functions."""
import math

import numpy as np
import pytest

from .cases import both, outcome, plain
from .test_distributions import agree


def grid(m, *rows, dtype="float64"):
    """All combinations of the rows' numbers, as one vector each."""
    return [m.tensor(g.reshape(-1).tolist(), dtype=getattr(m, dtype)) for g in np.meshgrid(*map(np.array, rows), indexing="ij")]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_slopes(dtype):
    """Every branch of PyTorch's approximations: near the ends, between, at saddle points, on their singular lines."""
    shapes, points = [1e-3, 0.1, 0.5, 1.0, 3.0, 7.9, 8.1, 30.0, 120.0], [0.01, 0.1, 0.79, 0.81, 2.0, 7.5, 9.0, 30.0, 31.0, 50.0, 125.0, 300.0]
    rtol = 1e-10 if dtype == "float64" else 2e-4
    gammas = [plain(m._standard_gamma_grad(*grid(m, shapes, points, dtype=dtype))) for m in both()]
    agree(gammas[1], gammas[0], rtol=rtol, atol=1e-30)
    x, a, b = [1e-5, 0.01, 0.2, 0.49, 0.5, 0.51, 0.8, 0.95, 0.999], [0.05, 0.7, 2.0, 6.5, 20.0], [0.1, 1.5, 5.0, 8.0, 40.0]

    def dirichlet(m):
        x_, a_, b_ = grid(m, x, a, b, dtype=dtype)
        return plain(m._dirichlet_grad(x_, a_, a_ + b_))
    # PyTorch sums the series near 0 in the input's type; there float32 loses what float64 keeps
    agree(dirichlet(both()[1]), dirichlet(both()[0]), rtol=rtol if dtype == "float64" else 3e-3, atol=1e-30 if dtype == "float64" else 1e-3)


def test_slopes_are_the_distributions():
    """Against -(∂F/∂α)/f by differences of the cumulative distribution."""
    _, m = both()
    a, x = grid(m, [0.4, 1.7, 5.0, 20.0], [0.3, 1.2, 6.0, 22.0])
    h = 1e-4
    by_shape = (m.special.gammainc(a + h, x) - m.special.gammainc(a - h, x)) / (2 * h)
    density = ((a - 1) * x.log() - x - a.lgamma()).exp()
    np.testing.assert_allclose(plain(m._standard_gamma_grad(a, x)), plain(-by_shape / density), rtol=5e-3)


def test_streams_go_on():
    """A generator of one's own, and what is drawn after these from the default one."""
    def run(m):
        g = m.Generator().manual_seed(3)
        x = m.tensor([0.5, 2.0, 30.0])
        own = [m._standard_gamma(x, generator=g), m._sample_dirichlet(x, generator=g), m.binomial(x.floor(), x / 40, generator=g)]
        m.manual_seed(1)
        return plain([*own, m._standard_gamma(x.expand(4, 3)), m.rand(3), m.binomial(m.full((2, 1), 9.0), m.full((2, 1), 0.3)), m.randn(20)])
    agree(run(both()[1]), run(both()[0]), rtol=1e-6)


def test_refusals():
    for f in (lambda m: m._standard_gamma(m.tensor([2])), lambda m: m._standard_gamma(m.tensor([2.0]).half()), lambda m: m._sample_dirichlet(m.tensor([2.0]).bfloat16()),
              lambda m: m.binomial(m.tensor([3]), m.tensor([0.5])), lambda m: m.binomial(m.tensor([3.0]), m.tensor([1])),
              lambda m: m.binomial(m.tensor([3.0]), m.tensor([0.5], dtype=m.float64)), lambda m: m.igamma(m.tensor([2]), m.tensor([3])),
              lambda m: m.igamma(m.tensor([2.0]), 3.0), lambda m: m.igamma(m.tensor([2.0], requires_grad=True), m.tensor([3.0])).backward()):
        want, got = (outcome(lambda m=m: f(m)) for m in both())
        assert isinstance(want, Exception) and (type(got), str(got)) == (type(want), str(want)), (got, want)


def test_binomial_has_a_gradient_of_zero():
    _, m = both()
    n, p = m.tensor([3.0, 9.0], requires_grad=True), m.tensor([0.5, 0.2], requires_grad=True)
    (m.binomial(n, p) * 2).sum().backward()
    assert not n.grad.any() and not p.grad.any()


@pytest.mark.parametrize("name", ["gammainc", "gammaincc"])
def test_incomplete_gamma(name):
    """Series, continued fraction, the expansion for large parameters; and the derivative by the second argument."""
    torch, forno = both()
    rng = np.random.default_rng(0)
    a = np.concatenate([10 ** rng.uniform(-3, 2, 300), 10 ** rng.uniform(2, 6, 300)])
    x = np.concatenate([10 ** rng.uniform(-3, 2.3, 300), a[300:] * (1 + rng.normal(size=300) * 2 / np.sqrt(a[300:]))])

    def run(m):
        shape, point = m.tensor(a.tolist(), dtype=m.float64), m.tensor(x.tolist(), dtype=m.float64, requires_grad=True)
        y = getattr(m.special, name)(shape, point)
        return plain([y, *m.autograd.grad(y.sum(), point)])
    agree(run(forno), run(torch), rtol=3e-9, atol=1e-30)
    # the two of them are the whole, to the last digits
    y = forno.igamma(*map(forno.tensor, (a.tolist(), x.tolist()))) + forno.igammac(*map(forno.tensor, (a.tolist(), x.tolist())))
    np.testing.assert_allclose(plain(y), 1, rtol=3e-7)


def test_whole_parameters_are_sums_of_poisson_probabilities():
    """Q(n, x) = e^-x Σ x^k/k! over k < n"""
    _, forno = both()
    for n, x in ((1, 2.0), (7, 3.5), (30, 30.0), (150, 140.0), (300, 290.0), (1000, 1100.0)):
        q = math.fsum(math.exp(k * math.log(x) - x - math.lgamma(k + 1)) for k in range(n))
        got = forno.igammac(forno.tensor(float(n), dtype=forno.float64), forno.tensor(x, dtype=forno.float64))
        assert abs(float(got) / q - 1) < 1e-11, (n, x, float(got), q)
