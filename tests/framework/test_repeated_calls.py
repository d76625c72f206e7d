"""Calls that repeat (framework.phrase) agree with PyTorch's when their arguments, modes and memory change between rounds."""
import pytest
import torch

import forno
from forno.framework.engine import flush


def same(program, times=4, strides=True):
    """program(m, round) in both libraries, each round in a window of its own; results must agree, how they lie in memory too."""
    for k in range(times):
        mine, want = program(forno, k), program(torch, k)
        for a, b in zip(mine, want, strict=True):
            assert (tuple(a.stride()) == tuple(b.stride()) or not strides) and a.requires_grad == b.requires_grad
            torch.testing.assert_close(torch.tensor(a.tolist()).reshape(tuple(a.shape)), b.detach(), check_dtype=False)
        flush()


def image(m, k, grad=False): return (m.arange(24.0).reshape(1, 2, 3, 4) + k).requires_grad_(grad)


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
def test_padding_changes_its_mind(mode):
    def program(m, k):
        x = image(m, k)
        y = m.nn.functional.pad(x, (1, 1, 1, 0) if k % 2 else [2, 1, 0, 1], mode)
        return y, m.nn.functional.pad(y, (1, 1, 1, 1), mode)
    same(program, 6)


def test_numbers_and_their_kinds():
    def program(m, k):
        x = m.arange(6).reshape(2, 3)
        return [m.nn.functional.pad(x.to(m.float32), (1, 1), value=v) for v in ((1, 1.0, True, 0.0, -0.0, None, 2.5, 3.5)[(k + i) % 8] for i in range(3))]
    same(program, 16)


def test_strides_of_arguments_count():
    def program(m, k):
        x = m.arange(96.0).reshape(2, 3, 4, 4) + k
        if k % 3 == 1: x = x.contiguous(memory_format=m.channels_last)
        if k % 3 == 2: x = x.transpose(2, 3)
        return m.nn.functional.pad(x, (1, 1, 1, 1)), m.nn.functional.interpolate(x, scale_factor=2), m.einsum("bchw->bwch", x)
    same(program, 9)


def test_sizes_that_are_tensors():
    def program(m, k): return m.nn.functional.interpolate(image(m, k), size=(m.tensor(2 + k), m.tensor(3))),
    same(program)


def test_gradients_and_writes():
    def program(m, k):
        x = image(m, k, True)
        y = m.nn.functional.pad(x, (1, 2, 1, 1), "reflect")
        z = m.nn.functional.pad(x, (1, 1, 0, 0), "replicate") if k % 2 else m.triu(x)
        y.mul_(2)
        y[..., 0] = 1.0
        return (y, *m.autograd.grad((y * y).sum() + z.sum(), x))
    same(program, 6)


def test_modes():
    def program(m, k):
        x = image(m, k, True)
        with m.set_grad_enabled(k % 2 == 0): return m.tril(x), x.repeat(2, 1, 1, 1)
    same(program, 6)


def test_an_argument_given_back():
    x = forno.ones(2, 3)
    for _ in range(3):
        assert forno.einsum("ij->ij", x) is x or forno.einsum("ij->ij", x)._version == x._version
        flush()


def test_views_as_results():
    def program(m, k):
        a, b = image(m, k)[0], image(m, k + 1)[0]
        y = m.einsum("cij,ckj->kci", a, b)
        y.add_(1)
        return y, y.t() if y.ndim == 2 else y.transpose(0, 1)
    same(program, strides=False)              # PyTorch's einsum contracts another way round


def test_warnings_come_every_time():
    for k in range(3):
        with pytest.warns(UserWarning, match="size_average"): forno.nn.functional.cross_entropy(forno.ones(2, 3), forno.tensor([0, 1]), size_average=True)
        flush()


def test_under_vmap():
    x = torch.arange(24.0).reshape(2, 3, 4)
    for _ in range(3):
        mine = forno.vmap(forno.triu)(forno.tensor(x.tolist()))
        torch.testing.assert_close(torch.tensor(mine.tolist()), torch.triu(x))
        flush()
