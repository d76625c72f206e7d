"""Scans against torch, forwards and reversed, along every axis."""
import numpy as np
import pytest
import torch

from forno.dnn import scan as s

from .native import run, same, sample

SHAPES = [(7,), (5, 6), (3, 4, 5), (2, 3, 37), (0,), (4, 0), (0, 3), (), (1, 9, 1), (6, 200)]
TYPES = [torch.bool, torch.uint8, torch.int16, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64]


def check(row, x, dim, want, rtol=0.0, reverse=False):
    for threads in (1, 3):
        got = run(row, (dim, reverse), x, threads=threads)
        assert same(got, want, rtol, rtol), (row.name, x.shape, dim, threads, got, want)
    if x.dtype is not torch.bfloat16 and x.numel():
        np.testing.assert_allclose(row.oracle((dim, reverse), x.numpy()), want.numpy(), rtol=1e-2 if x.dtype is torch.float16 else 1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", [*TYPES, torch.complex64, torch.complex128])
def test_sums_and_products(shape, dtype):
    torch.manual_seed(0)
    x = sample(shape, dtype) if not (dtype.is_floating_point or dtype.is_complex) else torch.randn(shape, dtype=torch.complex128 if dtype.is_complex else torch.float64).to(dtype)
    for dim in range(max(x.ndim, 1)):
        check(s.cumsum, x, dim, x.cumsum(dim))
        if dtype.is_complex: check(s.cumprod, x, dim, x.cumprod(dim), 1e-5)
        else: check(s.cumprod, x, dim, x.cumprod(dim))
        if x.ndim: check(s.cumsum, x, dim, x.flip(dim).cumsum(dim).flip(dim), reverse=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", TYPES)
def test_extremes(shape, dtype):
    torch.manual_seed(1)
    x = sample(shape, dtype)
    if dtype.is_floating_point and x.numel() > 4: x.view(-1)[x.numel() // 2] = float("nan")
    for dim in range(max(x.ndim, 1)):
        check(s.cummax, x, dim, x.cummax(dim)[1])
        check(s.cummin, x, dim, x.cummin(dim)[1])
        if x.ndim and x.numel(): check(s.cummax, x, dim, x.shape[dim] - 1 - x.flip(dim).cummax(dim)[1].flip(dim), reverse=True)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype,rtol", [(torch.float32, 2e-6), (torch.float64, 1e-14), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)])
def test_log_sums(shape, dtype, rtol):
    torch.manual_seed(2)
    x = (torch.randn(shape) * 10).to(dtype)
    if x.numel() > 6:
        flat = x.view(-1)
        flat[1], flat[3] = float("-inf"), float("inf")
        flat[-1] = float("nan")
    for dim in range(max(x.ndim, 1)): check(s.logcumsumexp, x, dim, x.logcumsumexp(dim), rtol)


def test_types():
    with pytest.raises(NotImplementedError, match="ComplexFloat"): run(s.cummax, (0, False), torch.ones(3, dtype=torch.complex64))
    with pytest.raises(NotImplementedError, match="Long"): run(s.logcumsumexp, (0, False), torch.ones(3, dtype=torch.int64))
