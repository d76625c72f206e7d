"""Sorting rows against torch: order, ties, NaN, signed zeros, every axis."""
import numpy as np
import pytest
import torch

from forno.core import dtype as dt
from forno.dnn import sort as s

from .native import run, same, sample

TYPES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64]
SHAPES = [(9,), (5, 6), (3, 4, 5), (0,), (4, 0), (), (1,), (300,), (3, 1000), (200, 3), (1, 7000)]


def awkward(shape, dtype):
    x = sample(shape, dtype, -3, 4)
    if dtype.is_floating_point and x.numel() > 6:
        flat = x.view(-1)
        flat[1], flat[2], flat[3], flat[4], flat[-1] = float("nan"), -0.0, 0.0, float("-inf"), float("nan")
    return x


def check(row, attr, x, want, *more):
    for threads in (1, 3):
        got = run(row, attr, x, *more, threads=threads)
        assert same(got, want), (row.name, attr, x.shape, x.dtype, got, want)
    if x.dtype is not torch.bfloat16 and x.numel() < 2000: assert np.array_equal(row.oracle(attr, x.numpy(), *(m.numpy() for m in more)), want.numpy())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", TYPES)
def test_argsort(shape, dtype):
    torch.manual_seed(0)
    for x in (awkward(shape, dtype), torch.randn(shape).mul(1000).to(dtype)):
        for dim in range(max(x.ndim, 1)):
            for descending in (False, True):
                for stable in (False, True): check(s.argsort, (dim, descending, stable), x, x.sort(dim=dim, descending=descending, stable=stable)[1])


def test_wide_keys():
    torch.manual_seed(1)
    x = torch.randint(-(1 << 63), (1 << 63) - 1, (3000,))
    check(s.argsort, (0, False, True), x, x.sort(stable=True)[1])
    y = x.view(torch.float64)
    check(s.argsort, (0, True, True), y, y.sort(descending=True, stable=True)[1])


def crafted(n):
    """A line on which halving at a median of three goes wrong again and again, so that std::sort and std::nth_element turn to heaps (McIlroy's antiqsort)."""
    from forno.dnn.introsort import Items
    gas, solid, ranks = n, 0, [n] * n
    candidate = 0

    class Opponent(Items):
        def less(self, i, j):
            nonlocal solid, candidate
            x, y = self[i][1], self[j][1]
            if ranks[x] == gas == ranks[y]:
                ranks[x if x == candidate else y], solid = solid, solid + 1
            if ranks[x] == gas: candidate = x
            elif ranks[y] == gas: candidate = y
            return ranks[x] < ranks[y]
    line = Opponent((0, i) for i in range(n))
    line.insert = lambda lo, hi: None
    line.sort(0, n)
    return torch.tensor(ranks)


def test_lines_that_are_hard_to_halve():
    x = crafted(4000) // 3                     # with equal elements
    for descending in (False, True):
        y = -x if descending else x
        check(s.argsort, (0, descending, False), y, y.sort(descending=descending)[1])
        for k in (1000, 1500, 3990): check(s.topk, (0, descending, k, True), y, y.topk(k, 0, descending)[1])


@pytest.mark.parametrize("dtype", TYPES[1:])
@pytest.mark.parametrize("shape", [(9,), (5, 600), (3, 100, 5), (), (2, 2000)])
def test_topk(shape, dtype):
    torch.manual_seed(2)
    for x in (awkward(shape, dtype), torch.randn(shape).mul(1000).to(dtype)):
        for dim in range(max(x.ndim, 1)):
            n = x.shape[dim] if x.ndim else 1
            for k in {0, 1, min(5, n), n // 2, n}:
                if x.ndim == 0 and k != 1: continue
                for largest in (False, True):
                    for ordered in (False, True): check(s.topk, (dim, largest, k, ordered), x, x.topk(k, dim, largest, ordered)[1])
    with pytest.raises(RuntimeError, match="out of range"): run(s.topk, (0, True, 10, True), torch.zeros(9))
    with pytest.raises(RuntimeError, match="does not support bool"): run(s.topk, (0, True, 1, True), torch.zeros(9).bool())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.float64, torch.bfloat16])
def test_statistics(dtype):
    torch.manual_seed(3)
    for x in (awkward((6, 9, 4), dtype), awkward((5,), dtype), sample((3, 200), dtype)):
        for dim in range(x.ndim):
            n = x.shape[dim]
            for row, attr, want in ((s.median, (dim,), x.median(dim, True)[0]), (s.nanmedian, (dim,), x.nanmedian(dim, True)[0]),
                                    (s.kthvalue, (dim, n // 3), x.kthvalue(n // 3 + 1, dim, True)[0])):
                if row is s.kthvalue: check(row, attr, x, x.kthvalue(n // 3 + 1, dim, True)[1])
                at = run(row, attr, x, threads=2)
                assert same(x.gather(dim, at), want), (row.name, dim)
                if dtype is not torch.bfloat16: assert np.array_equal(row.oracle(attr, x.numpy()), at.numpy())
            if not x.is_floating_point() or not x.isnan().any():
                check(s.mode, (dim,), x, x.mode(dim, True)[1])


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32, torch.float64, torch.bfloat16])
def test_searchsorted(dtype):
    torch.manual_seed(4)
    for b, v in (((20,), (5, 6)), ((4, 30), (4, 7)), ((1,), (3,)), ((0,), (3,)), ((8,), ()), ((3, 2, 9), (3, 2, 0))):
        bounds, values = sample(b, dtype).sort(-1)[0], sample(v, dtype)
        if dtype.is_floating_point and values.numel() > 2: values.view(-1)[1] = float("nan")
        for right in (False, True):
            for result, t in ((dt.int64, False), (dt.int32, True)):
                check(s.searchsorted, (right, result), bounds, torch.searchsorted(bounds, values, right=right, out_int32=t), values)
        shuffled = sample(b, dtype)
        order = shuffled.sort(-1)[1]
        if order.numel(): check(s.searchsorted, (False, dt.int64), shuffled, torch.searchsorted(shuffled, values, sorter=order), values, order)
    with pytest.raises(RuntimeError, match="same dtype"): run(s.searchsorted, (False, dt.int64), torch.zeros(3), torch.zeros(3).double())
