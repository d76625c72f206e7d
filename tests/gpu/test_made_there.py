"""What makes tensors makes them on the device that is asked for, and what draws them on its parameters'."""
import pytest
import torch as reference

import forno as torch
from forno import distributions as d
from forno.framework import creation

pytestmark = pytest.mark.usefixtures("devices")
MAKERS = {"zeros": (3,), "ones": (3,), "empty": (3,), "full": ((3,), 1.0), "eye": (3,), "arange": (3,), "range": (0, 3), "linspace": (0, 1, 4), "logspace": (0, 1, 4), "rand": (3,), "randn": (3,),
          "randint": (3, (3,)), "randperm": (4,), "tensor": ([1.0],), "as_tensor": ([1.0],), "asarray": ([1.0],), "scalar_tensor": (1.0,), "empty_strided": ((2, 2), (1, 2)),
          "empty_permuted": ((2, 3), (0, 1)), "normal": (0.0, 1.0, (3,)), "hann_window": (8,), "hamming_window": (8,), "blackman_window": (8,), "bartlett_window": (8,), "kaiser_window": (8,),
          "tril_indices": (3, 3), "triu_indices": (3, 3), "fft.fftfreq": (8,), "fft.rfftfreq": (8,), "signal.windows.hann": (8,), "signal.windows.gaussian": (8,), "signal.windows.kaiser": (8,),
          "signal.windows.bartlett": (8,), "signal.windows.cosine": (8,), "signal.windows.exponential": (8,), "signal.windows.general_hamming": (8,), "signal.windows.nuttall": (8,)}
UNTOLD = {"empty", "empty_strided", "empty_permuted", "rand", "randn", "randint", "randperm", "normal"}         # whose values are others on a GPU, or anything


@pytest.mark.filterwarnings("ignore:torch.range")
@pytest.mark.parametrize("name", MAKERS)
def test_makers(name):
    def made(lib, **kw):
        for part in name.split("."): lib = getattr(lib, part)
        return lib(*MAKERS[name], **kw)
    asked = made(torch, device="cuda:1")
    with torch.device("cuda:0"): surrounded = made(torch)
    assert (str(asked.device), str(surrounded.device)) == ("cuda:1", "cuda:0")
    want = made(reference)
    assert asked.shape == surrounded.shape == want.shape and str(asked.dtype) == str(want.dtype)
    if name not in UNTOLD: reference.testing.assert_close(reference.tensor(asked.tolist(), dtype=want.dtype), want)


def distributions(x):
    """Each on parameters like x, a positive vector of three; some parameters are numbers."""
    p, square = x / x.sum(), torch.eye(3, device=x.device, dtype=x.dtype)
    return [d.Normal(x, 1.0), d.Normal(0.0, x), d.Laplace(x, 1.0), d.Cauchy(x, 1.0), d.Gumbel(x, 1.0), d.Uniform(0.0, x), d.Exponential(x), d.Gamma(x, 2.0), d.Chi2(x), d.StudentT(x), d.Beta(x, 1.0),
            d.Dirichlet(x), d.Bernoulli(p), d.Binomial(4, p), d.Categorical(p), d.OneHotCategorical(p), d.Multinomial(5, p), d.Geometric(p), d.Poisson(x), d.NegativeBinomial(3.0, p), d.HalfNormal(x),
            d.HalfCauchy(x), d.LogNormal(x, 1.0), d.Pareto(x, 1.0), d.Weibull(x, 1.0), d.VonMises(x, 1.0), d.Kumaraswamy(x, 1.0), d.InverseGamma(x, 2.0), d.FisherSnedecor(x, 4.0),
            d.RelaxedBernoulli(torch.tensor(0.5, device=x.device), p), d.RelaxedOneHotCategorical(torch.tensor(0.5, device=x.device), p), d.LogisticNormal(x, 1.0), d.ContinuousBernoulli(p),
            d.MultivariateNormal(x, square), d.LowRankMultivariateNormal(x, x[:, None], x), d.Wishart(torch.tensor(4.0, device=x.device), square), d.LKJCholesky(3, x[0])]


def test_distributions():
    x = torch.tensor([0.7, 1.3, 2.1], dtype=torch.float64)
    for here, there in zip(distributions(x), distributions(x.cuda())):
        name = type(there).__name__
        drawn = there.sample((2,))
        assert drawn.is_cuda and drawn.shape == here.sample((2,)).shape, name
        said = there.log_prob(drawn)
        assert said.is_cuda, name
        reference.testing.assert_close(reference.tensor(said.tolist()), reference.tensor(here.log_prob(drawn.cpu()).tolist()), rtol=1e-5, atol=1e-7, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize("how", ["sum", "mean", "max", "min", "prod"])
def test_segments(how, monkeypatch):
    """What they begin with, and the places that are looked up, are made where the data is."""
    made = []
    for name in ("full", "arange"): monkeypatch.setattr(creation, name, lambda *args, make=getattr(creation, name), **kw: made.append(make(*args, **kw)) or made[-1])

    def run(lib, device, initial):
        x = lib.arange(12.0).reshape(4, 3).to(device).requires_grad_()
        y = lib.segment_reduce(x, how, lengths=lib.tensor([1, 0, 3], device=device), initial=initial)
        y.sum().backward()
        return y.detach(), x.grad
    for initial in (None, 2.5):
        got, want = run(torch, "cuda:1", initial), run(reference, "cpu", initial)
        assert all(str(t.device) == "cuda:1" for t in (*got, *made)) and made
        for a, b in zip(got, want): reference.testing.assert_close(reference.tensor(a.tolist()), b, equal_nan=True)
        made.clear()
    assert torch.nonzero_static(torch.tensor([1, 0, 2], device="cuda:1"), size=3).tolist() == [[0], [2], [-1]] and [str(t.device) for t in made] == ["cuda:1"]
