"""Tensors on simulated GPUs against the CPU: the same programs, the same numbers, through every floor down to PTX."""
import copy

import pytest
import torch as oracle

import forno as torch

pytestmark = pytest.mark.usefixtures("devices")


def close(a, b, tolerance=1e-5): assert torch.allclose(a.detach().cpu(), b.detach().cpu(), tolerance, tolerance), (a, b)


@pytest.mark.parametrize("program", [
    lambda x, y: (x * 2 + y).exp(), lambda x, y: x.sum(), lambda x, y: x.mean(0), lambda x, y: x.amax(1), lambda x, y: x.argmax(1), lambda x, y: torch.softmax(x, 1),
    lambda x, y: torch.nn.functional.layer_norm(x, (67,)), lambda x, y: x.t() + y.t(), lambda x, y: x[3:9, ::2] * 3, lambda x, y: x @ y.t(), lambda x, y: x.t() @ y,
    lambda x, y: torch.where(x > y, x, y), lambda x, y: (x > 0).any(1), lambda x, y: x.double().std(), lambda x, y: x.bfloat16() * y.bfloat16(), lambda x, y: x.half().sum(0),
    lambda x, y: torch.cat([x, y], 1), lambda x, y: torch.arange(5, device=x.device) + 1, lambda x, y: (x.int() // 3) % 2, lambda x, y: torch.complex(x, y).abs()])
def test_same_numbers(program):
    torch.manual_seed(0)
    x, y = torch.randn(130, 67), torch.randn(130, 67)
    there = program(x.cuda(), y.cuda())
    assert there.device == torch.device("cuda:0")
    close(there.float() if there.dtype.is_floating_point else there, program(x, y).float() if there.dtype.is_floating_point else program(x, y))


def test_training_steps():
    torch.manual_seed(0)
    here = torch.nn.Sequential(torch.nn.Linear(20, 30), torch.nn.ReLU(), torch.nn.LayerNorm(30), torch.nn.Linear(30, 5))
    there, x, losses = copy.deepcopy(here).cuda(), torch.randn(8, 20), []
    for net in (here, there):
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
        for _ in range(5):
            optimizer.zero_grad()
            loss = (net(x.to(next(net.parameters()).device)) ** 2).mean()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert all(p.is_cuda and p.grad.is_cuda for p in there.parameters())


def test_several_devices():
    x = torch.arange(6.0).reshape(2, 3)
    a, b = x.to("cuda:0"), x.to("cuda:1")
    assert (a.device.index, b.device.index, b.get_device()) == (0, 1, 1)
    close((a * 2).to("cuda:1") + b, x * 3)
    with pytest.raises(RuntimeError, match="same device, but found at least two devices"): a + b
    with pytest.raises(RuntimeError, match="same device, but found at least two devices"): a + x
    close(a + torch.tensor(1.0), x + 1)                   # 0-d tensors go along
    with pytest.raises(RuntimeError, match="invalid device ordinal"): x.to("cuda:2")


def test_gradients_go_home():
    x = torch.arange(3.0, requires_grad=True)
    s = torch.tensor(2.0, requires_grad=True)
    (x.cuda() * s).sum().backward()
    assert x.grad.device.type == s.grad.device.type == "cpu"
    close(x.grad, torch.full((3,), 2.0))
    close(s.grad, torch.tensor(3.0))


def test_layouts_and_copies():
    x = torch.arange(12.0).reshape(3, 4)
    assert x.t().cuda().stride() == oracle.arange(12.0).reshape(3, 4).t().clone().stride() == (1, 4)
    y = x[:, 1:3].cuda()
    close(y, x[:, 1:3])
    y.zero_()
    y[0, 0] = 5
    assert y.is_cuda and y.tolist() == [[5, 0], [0, 0], [0, 0]]
    x.copy_(x.cuda() + 1)
    assert x.device.type == "cpu" and x.tolist()[0] == [1, 2, 3, 4]
    with pytest.raises(TypeError, match="can't convert cuda:0 device type tensor to numpy"): y.numpy()
    assert str(y[:1]) == "tensor([[5., 0.]], device='cuda:0')"


def test_values_that_share_memory_meet_later():
    """A copy that needs no kernel is a view until somebody reads it; who reads it may be another part of the window."""
    x = torch.randn(16, 24)
    here, there = x.t().contiguous(), x.cuda().t().contiguous()
    back = there.cpu()
    assert (back != here).sum() == 0
    assert ((back.cuda() + there).cpu() != here * 2).sum() == 0
