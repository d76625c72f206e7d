"""Padding rows against PyTorch: values in every dtype and rank, any number of threads, gradients to second order, vmap, layouts, names."""
import pytest
import torch

import forno
from forno.dnn.pad import circular_pad, reflection_pad, replication_pad

from .native import run

MODES = {"reflect": reflection_pad, "replicate": replication_pad, "circular": circular_pad}
CASES = [((2, 5), (1, 2)), ((2, 3, 70), (33, 3)), ((3, 4, 5), (2, 1, 1, 3)), ((2, 3, 4, 40), (3, 0, 0, 2)), ((2, 2, 3, 4, 5), (1, 2, 0, 1, 2, 1)), ((2, 3, 4, 5), (0, 0, 1, 1)), ((2, 3, 0), (0, 0)),
         ((0, 3, 4), (1, 1))]


def amounts(shape, pad): return tuple((0, 0) for _ in shape[len(pad) // 2:]) + tuple((pad[2 * i], pad[2 * i + 1]) for i in reversed(range(len(pad) // 2)))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.int64, torch.float16, torch.complex128], ids=str)
def test_kernel(mode, dtype, threads):
    for shape, pad in CASES:
        if 0 in shape: continue
        x = (torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 100).to(dtype)
        want = torch.nn.functional.pad(x[None] if len(shape) == len(pad) // 2 else x, pad, mode).reshape([n + a + b for n, (a, b) in zip(shape, amounts(shape, pad))])
        assert torch.equal(run(MODES[mode], amounts(shape, pad), x, threads=threads), want), (shape, pad)


@pytest.mark.parametrize("mode", ["reflect", "replicate"])
@pytest.mark.parametrize("pad", [(-1, 2, 3, -2), (-2, -1, 0, 1), (3, -5, -1, 0), (0, 3, 2, -4)], ids=str)
def test_amounts_below_zero_cut(mode, pad):
    x = torch.arange(60.0).reshape(2, 5, 6)
    mine = forno.tensor(x.tolist(), requires_grad=True)
    want = torch.nn.functional.pad(x.requires_grad_(), pad, mode)
    got = forno.nn.functional.pad(mine, pad, mode)
    assert got.tolist() == want.tolist()
    g = torch.rand(want.shape)
    a, = torch.autograd.grad(want, x, g)
    b, = forno.autograd.grad(got, mine, forno.tensor(g.tolist()))
    torch.testing.assert_close(torch.tensor(b.tolist()), a)


@pytest.mark.parametrize("mode", MODES)
def test_gradients_to_second_order(mode):
    x = forno.rand(2, 3, 4, dtype=forno.float64).requires_grad_()
    def f(x): return forno.nn.functional.pad(x, (2, 1, 0, 2), mode)
    assert forno.autograd.gradcheck(f, (x,)) and forno.autograd.gradgradcheck(f, (x,))


@pytest.mark.parametrize("mode", MODES)
def test_examples_at_once(mode):
    x = torch.rand(3, 2, 4, 5)
    want = torch.nn.functional.pad(x, (1, 2, 2, 1), mode)
    got = forno.vmap(lambda t: forno.nn.functional.pad(t, (1, 2, 2, 1), mode))(forno.tensor(x.tolist()))
    assert torch.equal(torch.tensor(got.tolist()), want)


@pytest.mark.parametrize("mode", MODES)
def test_layouts(mode):
    x, mine = torch.rand(2, 3, 4, 5).contiguous(memory_format=torch.channels_last), forno.rand(2, 3, 4, 5).contiguous(memory_format=forno.channels_last)
    assert forno.nn.functional.pad(mine, (1, 1, 1, 1), mode).stride() == torch.nn.functional.pad(x, (1, 1, 1, 1), mode).stride()


def test_refusals():
    pad = forno.nn.functional.pad
    with pytest.raises(RuntimeError, match="more than its 1 elements can give"): pad(forno.ones(1, 2, 3), (-2, 3), "circular")
    for mode, amount in (("reflect", 3), ("circular", 4)):
        with pytest.raises(RuntimeError): pad(forno.ones(1, 2, 3), (amount, 0), mode)
