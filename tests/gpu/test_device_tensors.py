"""Tensors on simulated GPUs against the CPU: the same programs, the same numbers, through every floor down to PTX."""
import copy

import pytest
import torch as oracle

import forno as torch
from forno.utils.checkpoint import checkpoint

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


def test_views_that_overlap_travel_in_the_order_of_their_copy():
    x = torch.arange(4.0)
    for v in (x.as_strided((2, 3), (1, 1)), x.unfold(0, 2, 1).t()):
        there = v.cuda()
        assert there.stride() == v.clone().stride() and there.tolist() == v.tolist() == there.to("cuda:1").tolist()
        there[0] = 7
        assert there[1].tolist() == v[1].tolist()


def test_memory_that_is_expanded_is_written_once():
    x = torch.zeros(3, device="cuda")
    x[1:2].expand(4).zero_()
    x.as_strided((3, 2), (0, 1), 1).fill_(2)
    assert x.tolist() == [0, 2, 2]


def test_copies_onto_tensors_with_a_history():
    w, x = torch.ones(2, 3, device="cuda:1", requires_grad=True), torch.arange(3)
    for source in (x, x.cuda()):
        y = w * 2
        y[0] = source                          # whole numbers of another device
        y[1:].copy_(source)
        assert y.device.index == 1 and y.tolist() == [[0, 1, 2]] * 2
        y.sum().backward()
        assert w.grad.device == w.device and not w.grad.any()


def test_errors_of_values_that_only_travel():
    x, i = torch.arange(6.0, device="cuda"), torch.tensor([1, 9], device="cuda")
    with pytest.raises(torch.AcceleratorError, match=r"(?s)index 9 is out of bounds for dimension with size 6.*test_device_tensors.py"): (x[i] * 2).cpu().tolist()


class Across(torch.autograd.Function):
    """A user's function whose input and outputs lie on three devices."""
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return (x.to("cuda:0") * 2), (x.to("cuda:1") ** 2)

    @staticmethod
    def backward(ctx, g, h): return g.cpu() * 2 + h.cpu() * 2 * ctx.saved_tensors[0]


def test_functions_across_devices():
    x = torch.arange(3.0, requires_grad=True)
    a, b = Across.apply(x)
    assert a.device.index == 0 and b.device.index == 1
    ((a + 1).to("cuda:1") * b).sum().backward()
    y = oracle.arange(3.0, requires_grad=True)
    ((y * 2 + 1) * y ** 2).sum().backward()
    assert x.grad.tolist() == y.grad.tolist()


def test_checkpoints_across_devices():
    layers = torch.nn.Linear(4, 3).to("cuda:0"), torch.nn.Linear(3, 2).to("cuda:1")

    def model(x): return layers[1](layers[0](x.cuda()).relu().to("cuda:1"))
    x = torch.randn(5, 4, requires_grad=True)
    model(x).square().sum().backward()
    want, x.grad = x.grad, None
    checkpoint(model, x, use_reentrant=False).square().sum().backward()
    close(x.grad, want)
