"""Pooling rows against PyTorch, by their expansions."""
import pytest
import torch
import torch.nn.functional as F

from forno.core.op import TABLE
from forno.dnn.pool import Window

from .derivatives import compare
from .duck import Duck, from_torch, to_torch


def rand(*shape): return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


WINDOWS = [((2, 3, 9), Window((3,), (2,), (1,), (1,))), ((2, 3, 9), Window((2,), (2,), (0,), (1,))),
           ((2, 3, 9), Window((2,), (2,), (0,), (1,), True)),
           ((2, 3, 8, 8), Window((2, 2), (2, 2), (0, 0), (1, 1))), ((2, 2, 7, 9), Window((2, 2), (2, 2), (0, 0), (1, 1))),
           ((1, 2, 7, 8), Window((3, 3), (2, 2), (1, 1), (1, 1))), ((1, 2, 7, 8), Window((3, 2), (2, 3), (1, 1), (1, 1), True)),
           ((1, 2, 9, 10), Window((3, 2), (1, 2), (1, 0), (2, 3))), ((1, 2, 5, 6, 4), Window((2, 3, 2), (2, 1, 2), (1, 1, 0), (1, 1, 1))),
           ((1, 2, 9, 9), Window((3, 3), (4, 4), (1, 1), (1, 1), True)), ((1, 2, 12, 9, 3), Window((4, 3, 1), (4, 3, 1), (0, 0, 0), (1, 1, 1))),
           ((1, 2, 24), Window((11,), (5,), (2,), (1,)))]
MAX, AVG = (F.max_pool1d, F.max_pool2d, F.max_pool3d), (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)


@pytest.mark.parametrize("shape, spec", WINDOWS)
@pytest.mark.parametrize("ties", [False, True])
def test_max(shape, spec, ties):
    f, args = MAX[len(shape) - 3], (spec.kernel, spec.stride, spec.padding, spec.dilation, spec.ceil)
    x = rand(*shape).round() if ties else rand(*shape)
    compare("max_pool", spec, [x.requires_grad_()], lambda x: f(x, *args), second=len(shape) < 5)
    compare("max_pool_indices", spec, [x.detach()], lambda x: f(x, *args, return_indices=True)[1])


@pytest.mark.parametrize("shape, spec", [(s, w) for s, w in WINDOWS if set(w.dilation) == {1}])
@pytest.mark.parametrize("count_pad, divisor", [(True, 0), (False, 0), (True, 3)])
def test_avg(shape, spec, count_pad, divisor):
    spec = spec._replace(count_pad=count_pad, divisor=divisor)
    if divisor and len(shape) == 3: return
    args = (spec.kernel, spec.stride, spec.padding, spec.ceil, count_pad) + ((divisor or None,) if len(shape) > 3 else ())
    compare("avg_pool", spec, [rand(*shape).requires_grad_()], lambda x: AVG[len(shape) - 3](x, *args))


@pytest.mark.parametrize("shape, out", [((2, 3, 8), (4,)), ((2, 3, 7), (3,)), ((2, 3, 8, 6), (1, 1)), ((2, 3, 8, 6), (3, 4)), ((2, 3, 5, 6), (7, 6)),
                                        ((1, 2, 4, 5, 6), (2, 3, 4))])
def test_adaptive(shape, out):
    n = len(out)
    avg, largest = getattr(F, f"adaptive_avg_pool{n}d"), getattr(F, f"adaptive_max_pool{n}d")
    compare("adaptive_avg_pool", out, [rand(*shape).requires_grad_()], lambda x: avg(x, out))
    for x in (rand(*shape), rand(*shape).round()):
        compare("adaptive_max_pool", out, [x.requires_grad_()], lambda x: largest(x, out), second=False)
        compare("adaptive_max_pool_indices", out, [x.detach()], lambda x: largest(x, out, return_indices=True)[1])


def test_types_and_errors():
    x = rand(1, 2, 6, 6)
    spec = Window((2, 2), (2, 2), (0, 0), (1, 1))
    for t in (torch.bfloat16, torch.float16, torch.float32):
        torch.testing.assert_close(to_torch(Duck.record(TABLE["max_pool"], from_torch(x.to(t)), attr=spec)), F.max_pool2d(x.to(t), 2))
        torch.testing.assert_close(to_torch(Duck.record(TABLE["avg_pool"], from_torch(x.to(t)), attr=spec)), F.avg_pool2d(x.to(t), 2))
    whole = torch.arange(36).reshape(1, 1, 6, 6)
    assert torch.equal(to_torch(Duck.record(TABLE["max_pool"], from_torch(whole), attr=spec)), F.max_pool2d(whole, 2))
    for bad in (spec._replace(padding=(2, 2)), spec._replace(kernel=(9, 9)), spec._replace(stride=(0, 0)), spec._replace(padding=(-1, 0)),
                spec._replace(dilation=(0, 1))):
        with pytest.raises(RuntimeError): F.max_pool2d(x, bad.kernel, bad.stride, bad.padding, bad.dilation)
        with pytest.raises(RuntimeError): Duck.record(TABLE["max_pool"], from_torch(x), attr=bad)
