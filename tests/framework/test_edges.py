"""Values and errors at the edges of operations' domains, as random draws (tests/fuzz/operations.py) found them to differ: each is PyTorch's now."""
import itertools
import math

import numpy as np
import pytest
import torch

import forno

from ..conformance import walk

NAN, INF = math.nan, math.inf


def outcome(f, m):
    try: return walk.flat(f(m), m.Tensor)
    except Exception as e: return type(e)


def same(f):
    """Equal tensors (types, shapes, NaN, signs of zero), or one type of exception."""
    want, got = outcome(f, torch), outcome(f, forno)
    if isinstance(want, type): assert got is want, got
    else:
        assert len(want) == len(got)
        for a, b in zip(want, got):
            assert str(a.dtype) == str(b.dtype)
            a, b = walk.array(a), walk.array(b)
            np.testing.assert_allclose(b, a, rtol=1e-5, atol=1e-6)
            if a.dtype.kind == "f": np.testing.assert_array_equal(np.signbit(a) & (a == 0), np.signbit(b) & (b == 0))


def full(m, n, x): return m.full((n,), x)
def bools(m, *shape): return m.ones(shape, dtype=m.bool)
def complexes(m, *shape): return m.ones(shape, dtype=m.complex64)
def images(m, *shape): return m.arange(math.prod(shape), dtype=m.float32).reshape(shape)


def spoiled(m, *shape):
    """With a NaN in front and an infinity at the end."""
    x = images(m, *shape).reshape(-1)
    x[0], x[-1] = NAN, INF
    return x.reshape(shape)


def pooled_gradient(m):
    x = images(m, 1, 2, 7, 4).requires_grad_()
    g = spoiled(m, 1, 2, 5, 3)
    return m.autograd.grad(m.nn.functional.adaptive_avg_pool2d(x, (5, 3)), x, g)


def strided_gradient(m):
    """Of a view of a leaf that is itself a part of larger memory."""
    x = m.arange(8.)[2:5].detach().requires_grad_()
    return m.autograd.grad(m.as_strided(x, (3,), (1,), 3).pow(2).sum(), x)


def complex_view_gradient(m):
    x = m.arange(10.).view(5, 2).permute(0, 1).detach().requires_grad_()
    return m.autograd.grad((m.view_as_complex(x) * (1 + 2j)).abs().sum(), x)


def nothing_left_behind(m):
    """The refused in-place division leaves no divisor to be looked at later."""
    x = m.ones(3, dtype=m.int32)
    with pytest.raises(RuntimeError, match="can't be cast"): bools(m, 3).floor_divide_(m.zeros_like(x))
    return x + 1


WINDOWS = [((2, 3, 7), 5), ((1, 2, 7, 12), (5, 5)), ((1, 2, 4, 5, 6), (3, 2, 5)), ((1, 2, 3, 3), (5, 7)), ((1, 2, 8, 9), (4, 3))]
CASES = {
    **{f"adaptive_avg_pool {shape} to {size}": lambda m, shape=shape, size=size: getattr(m.nn.functional, f"adaptive_avg_pool{len(shape) - 2}d")(spoiled(m, *shape), size)
       for shape, size in WINDOWS},
    "adaptive_avg_pool's gradient": pooled_gradient,
    "avg_pool3d, a kernel beyond the input": lambda m: m.nn.functional.avg_pool3d(images(m, 1, 1, 1, 4, 4), 3, padding=1),
    "avg_pool2d, a kernel beyond the input": lambda m: m.nn.functional.avg_pool2d(images(m, 1, 1, 1, 1), 3, padding=1),
    **{f"nanmean of {t}": lambda m, t=t: m.nanmean(m.ones(3, dtype=getattr(m, t))) for t in ("bool", "int8", "int64")},
    **{f"{f} of {t}": lambda m, f=f, t=t: getattr(m, f)(m.ones(3, dtype=getattr(m, t)), 0)
       for f in ("median", "nanmedian", "mode", "max", "min", "amax", "argmax", "argmin") for t in ("bool", "complex64")},
    **{f"{f} of no {t}": lambda m, f=f, t=t: getattr(m, f)(m.ones(0, dtype=getattr(m, t)), 0) for f in ("median", "amax", "argmin", "max") for t in ("bool", "complex64", "float32")},
    **{f"median of no {t}": lambda m, t=t: m.median(m.ones(0, dtype=getattr(m, t))) for t in ("int16", "int32", "float32")},
    **{f"max of one {t}": lambda m, t=t: m.max(m.ones((), dtype=getattr(m, t)), 0) for t in ("bool", "complex64", "float32")},
    **{f"kthvalue {k} of {n} {t}": lambda m, k=k, n=n, t=t: m.kthvalue(m.ones(n, dtype=getattr(m, t)), k) for k in (0, 1) for n in (0, 1) for t in ("bool", "int64", "complex64")},
    **{f"topk {k} of one": lambda m, k=k: m.topk(m.tensor(5), k) for k in (0, 1, 2)},
    "searchsorted of bools": lambda m: m.searchsorted(bools(m, 2), bools(m, 3)),
    **{f"{f} {how} of {t}": lambda m, f=f, how=how, t=t: getattr(m.ones(4, dtype=getattr(m, t)), f)(0, m.tensor([0, 1]), m.ones(2, dtype=getattr(m, t)), how)
       for f in ("scatter_reduce", "index_reduce") for how in ("prod", "amax", "mean") for t in ("bool", "complex64", "uint8")},
    "scatter_reduce of complex, with a gradient": lambda m: complexes(m, 4).requires_grad_().scatter_reduce(0, m.tensor([0, 1]), complexes(m, 2), "sum"),
    "index_reduce without the old values": lambda m: m.ones(4).requires_grad_().index_reduce(0, m.tensor([0, 1]), m.ones(2), "mean", include_self=False).sum(),
    **{f"{f} of complex": lambda m, f=f: getattr(m, f)(complexes(m, 2)) for f in ("isposinf", "isneginf", "deg2rad", "rad2deg")},
    **{f"{f}_ by complex": lambda m, f=f: getattr(m.ones(2, dtype=m.int8), f + "_")(complexes(m, 2)) for f in ("remainder", "fmod", "floor_divide", "gt")},
    "a refused in-place division": nothing_left_behind,
    "norm along three axes": lambda m: m.norm(images(m, 2, 2, 2), dim=(0, 1, 2)),
    **{f"{f} of no {t}": lambda m, f=f, t=t: getattr(m, f)(m.ones((0, 3), dtype=getattr(m, t)), 1) for f in ("softmax", "log_softmax") for t in ("int8", "bool", "float32")},
    **{f"as_strided_scatter at {k}": lambda m, k=k: m.as_strided_scatter(m.arange(8.)[2:5], m.tensor([10., 11.]), (2,), (1,), k) for k in (None, 0, 1, 3, 4, 6)},
    "as_strided_scatter into steps": lambda m: m.as_strided_scatter(m.arange(8.)[1::2], m.tensor([10., 11.]), (2,), (1,), 1),
    "as_strided_scatter into one value": lambda m: m.as_strided_scatter(m.arange(8.)[:1].expand(3), m.tensor([10., 11.]), (2,), (1,), 1),
    "as_strided of a leaf within larger memory": strided_gradient,
    "view_as_complex of a leaf": complex_view_gradient,
    **{f"{f} of {a} and {b}, {n}": lambda m, f=f, a=a, b=b, n=n: getattr(m, f)(full(m, n, a), full(m, n, b))
       for f in ("fmax", "fmin") for a, b in ((0.0, -0.0), (-0.0, 0.0), (NAN, -0.0)) for n in (1, 40)},
    **{f"the {p} norm's gradient at NaN": lambda m, p=p: m.autograd.grad(m.linalg.vector_norm(x := m.tensor([1.0, NAN, -2.0], requires_grad=True), p).sum(), x) for p in (INF, -INF)},
    "acosh's gradient outside of its domain": lambda m: m.autograd.grad(m.acosh(x := m.tensor([-1.5, -1.0, 0.5, 1.0, 2.0], requires_grad=True)).sum(), x),
    **{f"relu of {x}": lambda m, x=x: m.relu(full(m, 40, x)) for x in (0.0, -0.0, NAN, -INF)},
    **{f"clamp of {x} at {k}": lambda m, x=x, k=k: (m.clamp(full(m, 40, x), k, 1.0), m.clamp(full(m, 40, x), -1.0, k)) for x in (0.0, -0.0, NAN) for k in (0.0, -0.0)},
}


@pytest.mark.parametrize("case", CASES)
def test_edge(case): same(CASES[case])


# ---------------------------------------------------------------- complex numbers
CORNERS = [complex(a, b) for a, b in itertools.product((0.0, -0.0, 1.0, -1.0, INF, -INF, NAN, 0.5, -2.5), repeat=2)]
FUNCTIONS = ("acos acosh asin asinh atan atanh cos cosh exp exp2 log log10 log1p log2 reciprocal rsqrt sigmoid sin sinh sqrt tan tanh").split()


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_complex_corners(name, dtype):
    """Branch cuts go by the sign of zeros; where one part is infinite or NaN, the other is what PyTorch has."""
    want = getattr(torch, name)(torch.tensor(CORNERS, dtype=getattr(torch, dtype))).numpy()
    got = getattr(forno, name)(forno.tensor(CORNERS, dtype=getattr(forno, dtype))).numpy()
    for a, b in ((want.real, got.real), (want.imag, got.imag)):
        np.testing.assert_array_equal(np.isnan(a), np.isnan(b))
        np.testing.assert_allclose(np.where(np.isinf(b), np.abs(b), b), np.where(np.isinf(a), np.abs(a), a), rtol=1e-5 if dtype == "complex64" else 1e-12, atol=1e-30)


@pytest.mark.parametrize("name", ["tan", "tanh", "log1p", "atan", "asinh"])
def test_complex_precision(name):
    """Near poles, zeros and far out."""
    rng = np.random.default_rng(1)
    z = rng.standard_normal(200) + 1j * rng.standard_normal(200)
    z = np.concatenate([z * 1e-6, z * 1e8, 1j * math.pi / 2 + z * 1e-5, math.pi / 2 + z * 1e-5, 1j + z * 1e-9, z.real * 1e-7 + 3j * z.imag])
    want, got = getattr(torch, name)(torch.from_numpy(z)).numpy(), getattr(forno, name)(forno.from_numpy(z)).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-11)


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex_powers(dtype):
    bases, powers = [INF + 0j, -0.1 + 0.1j, 2 + 0j, complex(-INF, 1)], [-0.04, complex(INF, 0), 0.5, 2 - 1j]
    x, y = zip(*itertools.product(bases, powers))
    want, got = (m.pow(m.tensor(x, dtype=getattr(m, dtype)), m.tensor(y, dtype=getattr(m, dtype))).numpy() for m in (torch, forno))
    finite = np.isfinite(want)
    np.testing.assert_array_equal(finite, np.isfinite(got))
    np.testing.assert_allclose(got[finite], want[finite], rtol=1e-5, atol=1e-30)


def test_complex_logaddexp():
    numbers = [complex(a, b) for a, b in itertools.product((0.0, 1.0, -2.5, INF, -INF, NAN), repeat=2)]
    x, y = (torch.tensor(v, dtype=torch.complex128) for v in zip(*itertools.product(numbers, repeat=2)))
    want, got = torch.logaddexp(x, y).numpy(), forno.logaddexp(walk.given(x), walk.given(y)).numpy()
    np.testing.assert_array_equal(np.isfinite(want), np.isfinite(got))
    np.testing.assert_allclose(got[np.isfinite(want)], want[np.isfinite(want)], rtol=1e-12)


def test_asinh_far_out():
    x = torch.tensor([2.0 ** 27, 2.0 ** 28 + 64, 3e8, 1e12, 1e300], dtype=torch.float64)
    np.testing.assert_allclose(forno.asinh(walk.given(x)).numpy(), torch.asinh(x).numpy(), rtol=1e-15)
