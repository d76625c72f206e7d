"""Users' kernels on simulated GPUs: the numbers and gradients that they have on the CPU."""
import pytest

import forno as torch
from forno import kernels

pytestmark = pytest.mark.usefixtures("devices")


@kernels.elementwise
def gate(x, y, slope): return kernels.where(x > y, x * kernels.sigmoid(slope * x), y.tanh() - 1)


@kernels.elementwise
def mixed(i, seed): return ((i ^ seed) * 0x45D9F3B >> 7) & 1023


@kernels.row
def normed(x, w, eps):
    d = x - x.mean()
    return d * ((d * d).mean() + eps).rsqrt() * w


@kernels.row
def largest(x): return (x * x).max()


@kernels.row
def with_statistics(x, w, eps):
    m, v = x.mean(), x.var(correction=0)
    return (x - m) * (v + eps).rsqrt() * w, m, v


@kernels.elementwise
def rotated(x, y, c): return x * c - y, (x + y * c).sin()


def both(f, *xs):
    """f's value and gradients here and there."""
    out = []
    for device in ("cpu", "cuda"):
        args = [x.detach().to(device).requires_grad_(x.dtype.is_floating_point) if isinstance(x, torch.Tensor) else x for x in xs]
        ys = f(*args)
        ys = ys if isinstance(ys, tuple) else (ys,)
        assert all(y.device.type == device for y in ys)
        if ys[0].dtype.is_floating_point: sum((y * y).sum() for y in ys).backward()
        out.append([*[y.detach().cpu() for y in ys], *[x.grad.cpu() for x in args if isinstance(x, torch.Tensor) and x.grad is not None]])
    return zip(*out)


@pytest.mark.parametrize(("f", "xs"), [
    (gate, lambda: (torch.randn(37, 19), torch.randn(19), 0.5)), (gate, lambda: (torch.randn(40).bfloat16(), torch.randn(40).bfloat16(), 2.0)),
    (mixed, lambda: (torch.arange(100, dtype=torch.int32), 77)), (normed, lambda: (torch.randn(9, 70), torch.randn(70), 1e-5)), (largest, lambda: (torch.randn(3, 5, 40),)),
    (with_statistics, lambda: (torch.randn(7, 130), torch.randn(130), 1e-5)), (with_statistics, lambda: (torch.randn(4, 3, 66).half(), torch.randn(66).half(), 1e-5)),
    (rotated, lambda: (torch.randn(9, 40)[:, ::2], torch.randn(20, 9).t()[:1], 0.5)), (normed, lambda: (torch.randn(64, 5, 3).permute(1, 2, 0), torch.randn(64), 1e-5)),
], ids=["elements", "bfloat16", "bits", "rows", "one per row", "three results", "half rows", "strided", "turned rows"])
def test_as_on_the_cpu(f, xs):
    torch.manual_seed(0)
    for here, there in both(f, *xs()):
        tolerance = {torch.bfloat16: 2e-2, torch.float16: 4e-3}.get(here.dtype, 1e-5)
        assert here.dtype is there.dtype and torch.allclose(here.float(), there.float(), tolerance, tolerance)


def test_devices_are_not_mixed():
    with pytest.raises(RuntimeError, match="same device"): gate(torch.ones(3, device="cuda"), torch.ones(3), 1.0)
    assert gate(torch.ones(3, device="cuda"), 0.5, 1.0).is_cuda
