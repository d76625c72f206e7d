"""Bessel's and Airy's functions against mpmath (PyTorch's own are good to four digits in places), orthogonal polynomials against PyTorch; edges against PyTorch."""
import mpmath
import numpy as np
import pytest
import torch

import forno
from forno.core.op import TABLE

M = mpmath.mp.clone()
M.prec = 200
BESSEL = {
    "airy_ai": M.airyai, "bessel_j0": lambda x: M.besselj(0, x), "bessel_j1": lambda x: M.besselj(1, x), "bessel_y0": lambda x: M.bessely(0, x),
    "bessel_y1": lambda x: M.bessely(1, x), "modified_bessel_i0": lambda x: M.besseli(0, x), "modified_bessel_i1": lambda x: M.besseli(1, x),
    "modified_bessel_k0": lambda x: M.besselk(0, x), "modified_bessel_k1": lambda x: M.besselk(1, x),
    "scaled_modified_bessel_k0": lambda x: M.besselk(0, x) * M.exp(x), "scaled_modified_bessel_k1": lambda x: M.besselk(1, x) * M.exp(x),
    "spherical_bessel_j0": lambda x: M.sin(x) / x, "i1": lambda x: M.besseli(1, x), "i1e": lambda x: M.besseli(1, x) * M.exp(-abs(x)),
}
GRID = np.concatenate([np.linspace(-30, 30, 61) + 0.013, [1e-8, -1e-8, 1e-3, 2.05, 2.1, 4.99, 5.01, -2.05, -2.1, 60.0, 103.8, -104.0, 500.0, -500.0]])
EDGES = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e6, -1e6, 1e20, 1e200, -1e200, 104.0, -104.0, 710.0, 712.0, -712.0, 1e-310])
WAVES = ("airy_ai", "bessel_j0", "bessel_j1", "bessel_y0", "bessel_y1")
POLYNOMIALS = [*(f"{s}chebyshev_polynomial_{k}" for s in ("", "shifted_") for k in "tuvw"), "hermite_polynomial_h", "hermite_polynomial_he",
               "laguerre_polynomial_l", "legendre_polynomial_p"]


@pytest.mark.parametrize("t", [np.float32, np.float64])
@pytest.mark.parametrize("name", BESSEL)
def test_bessel_values(name, t):
    x = GRID.astype(t)
    if "_y" in name or "_k" in name: x = x[x > 0]
    want = np.array([float(BESSEL[name](M.mpf(float(v)))) for v in x])
    scale = np.maximum(np.abs(want), 0.03) if name in WAVES else np.abs(want)        # a wave has zeros
    if name == "airy_ai": scale = np.where(x > 0, np.abs(want), scale)
    got = getattr(forno.special, name)(forno.tensor(x)).numpy()
    assert got.dtype == t
    with np.errstate(over="ignore", invalid="ignore"):
        fits = (np.abs(want) < np.finfo(t).max) & (np.abs(want) > np.finfo(t).tiny)
        error = np.abs(got.astype(np.float64) - want) / scale
    assert fits.sum() > len(x) // 2 and error[fits].max() < (1.2e-7 if t is np.float32 else 3e-13)
    oracle = TABLE[name].oracle(None, x[fits].astype(np.float64))
    assert (np.abs(oracle - want[fits]) / (scale[fits] + 1e-3)).max() < 1e-10


@pytest.mark.parametrize("name", [n for n in BESSEL if n not in ("i1", "i1e")])
def test_bessel_edges(name):
    """Where PyTorch says infinity, NaN or a signed zero, so do we; far out it's as good as anyone's."""
    got, want = getattr(forno.special, name)(forno.tensor(EDGES)).numpy(), getattr(torch.special, name)(torch.from_numpy(EDGES)).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-6, equal_nan=True)
    number = ~np.isnan(want)
    assert (np.signbit(got) == np.signbit(want))[number].all()


@pytest.mark.parametrize("name", [*(n for n in BESSEL if n not in ("i1", "i1e")), *POLYNOMIALS])
def test_no_gradients_and_types(name):
    f, t = getattr(forno.special, name), getattr(torch.special, name)
    more = (3,) if name in POLYNOMIALS else ()
    assert not f(forno.ones(3, requires_grad=True), *more).requires_grad and not t(torch.ones(3, requires_grad=True), *more).requires_grad
    for dtype in ("float16", "bfloat16", "complex64"):
        with pytest.raises(NotImplementedError, match="not implemented for") as ours: f(forno.ones(3, dtype=getattr(forno, dtype)), *more)
        with pytest.raises(NotImplementedError) as theirs: t(torch.ones(3, dtype=getattr(torch, dtype)), *more)
        assert str(ours.value) == str(theirs.value)
    for dtype in ("bool", "uint8", "int64"): assert f(forno.ones(3, dtype=getattr(forno, dtype)), *more).dtype is forno.float32
    out = forno.zeros(3)
    assert f(forno.ones(3), *more, out=out) is out and out.tolist() == pytest.approx(t(torch.ones(3), *more).tolist(), rel=1e-5)
    with pytest.raises(TypeError): f(1.0, *more)


XS = np.array([0, -0.0, 0.5, 1, -1, -0.5, 2, -2, 7, -7, 0.999999, 1 - 1e-16, -1 + 1.2e-16, 1e-20, 1.5e-17, 0.25, 0.75, np.inf, -np.inf, 100.0, -1e5, 1e30,
               1e300, 0.9, -0.3])
NS = np.array([-3, -0.5, 0, 0.7, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 64, 127, 128, 129, 200, 511, 512, 513, np.inf, -np.inf, np.nan, 1e19])


@pytest.mark.parametrize("t", [np.float32, np.float64])
@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomials(name, t):
    """Every x with every n: edges, closed forms, where a type overflows, and n that aren't whole numbers of at least 0."""
    with np.errstate(over="ignore"): x, n = (v.astype(t).ravel() for v in np.meshgrid(XS, NS))
    got = getattr(forno.special, name)(forno.tensor(x), forno.tensor(n)).numpy()
    want = getattr(torch.special, name)(torch.from_numpy(x), torch.from_numpy(n)).numpy()
    tolerance = 1e-3 if t is np.float32 else 1e-7         # near ±1 the closed forms cancel
    assert got.dtype == t
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, equal_nan=True)
    np.testing.assert_allclose(TABLE[name].oracle(None, x, n), want, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("name", POLYNOMIALS)
def test_polynomials_of_numbers(name):
    f, t = getattr(forno.special, name), getattr(torch.special, name)
    assert f(0.3, forno.arange(6)).tolist() == pytest.approx(t(0.3, torch.arange(6)).tolist(), rel=1e-5)
    assert f(forno.tensor([0.3, -2.0]), 5).tolist() == pytest.approx(t(torch.tensor([0.3, -2.0]), 5).tolist(), rel=1e-5)
    assert f(forno.tensor([[0.3], [-2.0]]), forno.arange(4)).shape == (2, 4)
    assert np.isnan(f(forno.tensor([float("nan")]), 4).item())
