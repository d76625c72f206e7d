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


def both(f, *xs):
    """f's value and gradients here and there."""
    out = []
    for device in ("cpu", "cuda"):
        args = [x.detach().to(device).requires_grad_(x.dtype.is_floating_point) if isinstance(x, torch.Tensor) else x for x in xs]
        y = f(*args)
        assert y.device.type == device
        if y.dtype.is_floating_point: (y * y).sum().backward()
        out.append([y.detach().cpu(), *[x.grad.cpu() for x in args if isinstance(x, torch.Tensor) and x.grad is not None]])
    return zip(*out)


@pytest.mark.parametrize(("f", "xs"), [
    (gate, lambda: (torch.randn(37, 19), torch.randn(19), 0.5)), (gate, lambda: (torch.randn(40).bfloat16(), torch.randn(40).bfloat16(), 2.0)),
    (mixed, lambda: (torch.arange(100, dtype=torch.int32), 77)), (normed, lambda: (torch.randn(9, 70), torch.randn(70), 1e-5)), (largest, lambda: (torch.randn(3, 5, 40),)),
], ids=["elements", "bfloat16", "bits", "rows", "one per row"])
def test_as_on_the_cpu(f, xs):
    torch.manual_seed(0)
    for here, there in both(f, *xs()):
        tolerance = 2e-2 if here.dtype is torch.bfloat16 else 1e-5
        assert here.dtype is there.dtype and torch.allclose(here.float(), there.float(), tolerance, tolerance)


def test_devices_are_not_mixed():
    with pytest.raises(RuntimeError, match="same device"): gate(torch.ones(3, device="cuda"), torch.ones(3), 1.0)
    assert gate(torch.ones(3, device="cuda"), 0.5, 1.0).is_cuda
