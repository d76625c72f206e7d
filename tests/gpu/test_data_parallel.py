"""A batch over two GPUs: by hand, and by nn.DataParallel and its parts. What comes out is what one device makes of the whole batch."""
import copy
from collections import namedtuple

import pytest

import forno as torch
from forno import nn
from forno.nn import parallel

from .conftest import seeds

pytestmark = [pytest.mark.usefixtures("devices"), pytest.mark.parametrize("devices", seeds([2]), indirect=True)]
Pair = namedtuple("Pair", "x y")


def close(a, b, tolerance=1e-5): assert torch.allclose(a.detach().cpu(), b.detach().cpu(), tolerance, tolerance), (a, b)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 3)
        self.register_buffer("scale", torch.tensor(0.5))

    def forward(self, x, shift=None):
        y = self.last(self.norm(self.first(x)).relu()) * self.scale
        return y if shift is None else y + shift


def batch(rows=10):
    torch.manual_seed(1)
    return torch.randn(rows, 6), torch.randn(rows, 3)


def trained(net, forward, x, y, steps=3):
    """Losses of some steps."""
    optimizer, losses = torch.optim.SGD(net.parameters(), 0.1, momentum=0.9), []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ((forward(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# ---------------------------------------------------------------- by hand
def test_gradients_added_across_devices():
    """Two replicas with optimizers of their own; gradients are added by copies from GPU to GPU."""
    torch.manual_seed(0)
    net, (x, y) = Net(), batch()
    nets = [copy.deepcopy(net).to(d) for d in ("cuda:0", "cuda:1")]
    optimizers = [torch.optim.Adam(n.parameters(), 0.01) for n in nets]
    losses = []
    for _ in range(3):
        parts = []
        for n, o, xs, ys in zip(nets, optimizers, x.chunk(2), y.chunk(2)):
            o.zero_grad()
            device = n.last.weight.device
            parts.append(((n(xs.to(device)) - ys.to(device)) ** 2).sum() / y.numel())
            parts[-1].backward()
        for p, q in zip(*(n.parameters() for n in nets)):
            p.grad += q.grad.to(p.device, non_blocking=True)
            q.grad.copy_(p.grad)
        for o in optimizers: o.step()
        losses.append(sum(loss.item() for loss in parts))
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for want in losses:
        optimizer.zero_grad()
        loss = ((net(x) - y) ** 2).mean()
        loss.backward()
        optimizer.step()
        assert loss.item() == pytest.approx(want, rel=1e-4)
    for p, a, b in zip(net.parameters(), *(n.parameters() for n in nets)):
        assert a.device.index == 0 and b.device.index == 1 and (a.cpu() != b.cpu()).sum() == 0
        close(a, p, 1e-4)


# ---------------------------------------------------------------- DataParallel
def test_training_is_that_of_one_device():
    torch.manual_seed(0)
    net, (x, y) = Net(), batch(9)                          # pieces of 5 and 4 rows
    there = nn.DataParallel(copy.deepcopy(net).cuda())
    assert there.device_ids == [0, 1] and there.output_device == 0 and list(there.state_dict())[0] == "module.scale"
    out = there(x)                                         # the batch may lie anywhere
    assert out.device.index == 0
    close(out, net(x))
    assert trained(there, there, x.cuda(), y.cuda()) == pytest.approx(trained(net, net, x, y), rel=1e-4)
    for p, q in zip(net.parameters(), there.module.parameters()):
        assert q.device.index == 0 and q.grad.device.index == 0 and q.is_leaf
        close(p, q, 1e-4)


def test_arguments_and_devices():
    net, (x, y) = Net().to("cuda:1"), batch()
    there = nn.DataParallel(net, device_ids=["cuda:1", 0], output_device=0)
    with torch.no_grad():
        out = there(x, shift=y)
        assert out.device.index == 0 and not out.requires_grad
        close(out, net(x.to("cuda:1"), shift=y.to("cuda:1")))
        assert there(x[:1]).shape == (1, 3)                # one row: one replica
        close(parallel.data_parallel(net, x, [1, 0], -1), net(x.to("cuda:1")))
        assert parallel.data_parallel(net, x, [1, 0], -1).device.type == "cpu"
    with pytest.raises(RuntimeError, match="on device cuda:0 .* but found one of them on device: cuda:1"): nn.DataParallel(net)(x)
    assert next(nn.DataParallel(Net(), device_ids=[1]).parameters()).device.index == 1


def test_running_statistics_are_the_first_replica_s():
    norm, x = nn.BatchNorm1d(4).cuda(), torch.randn(8, 4)
    same = nn.BatchNorm1d(4)
    nn.DataParallel(norm)(x.cuda())
    same(x[:4])
    close(norm.running_mean, same.running_mean)
    close(norm.running_var, same.running_var)
    assert norm.num_batches_tracked.item() == 1


def test_current_devices_and_recurrent_layers():
    seen = []

    class Asks(nn.Module):
        def __init__(self):
            super().__init__()
            self.lstm = nn.LSTM(3, 4, batch_first=True)
            self.tied = nn.Linear(4, 4)
            self.again = self.tied

        def forward(self, x):
            seen.append((torch.cuda.current_device(), len(list(self.parameters())), self.tied is self.again))
            return self.again(self.tied(self.lstm(x)[0]))
    torch.manual_seed(0)
    net, x = Asks(), torch.randn(4, 5, 3)
    there = copy.deepcopy(net).cuda()
    out = nn.DataParallel(there)(x)
    assert seen == [(0, 0, True), (1, 0, True)] and torch.cuda.current_device() == 0
    close(out, net(x))
    out.square().sum().backward()
    net(x).square().sum().backward()
    for p, q in zip(net.parameters(), there.parameters()): close(p.grad, q.grad, 1e-4)


# ---------------------------------------------------------------- the parts
def test_scatter_and_gather():
    x = torch.arange(6.0).reshape(3, 2)
    a, b = parallel.scatter(x, [0, 1])
    assert (a.tolist(), b.tolist(), a.device.index, b.device.index) == ([[0, 1], [2, 3]], [[4, 5]], 0, 1)
    nested = parallel.scatter({"p": Pair(x, "same"), "l": [x, (x, 7)], "none": []}, ["cuda:1", torch.device("cuda:0")], dim=1)
    assert [n["p"].x.tolist() for n in nested] == [[[0], [2], [4]], [[1], [3], [5]]] and [n["p"].y for n in nested] == ["same"] * 2
    assert nested[0]["l"][1][1] == 7 and nested[1]["l"][0].device.index == 0 and nested[0]["none"] == []
    back = parallel.gather([{"t": (n["p"], None)} for n in [{"p": Pair(n["p"].x, n["p"].x)} for n in nested]], "cpu", 1)
    assert back["t"][0].y.tolist() == x.tolist() and back["t"][1] is None and back["t"][0].x.device.type == "cpu"
    with pytest.warns(UserWarning, match="all input tensors were scalars"): assert parallel.gather([a.sum(), b.sum()], 1).tolist() == [6, 9]
    with pytest.raises(AssertionError, match="not implemented for CPU tensors"): parallel.gather([x, x], 0)
    with pytest.raises(ValueError, match="same number of keys"): parallel.gather([{"a": a}, {}], 0)
    with pytest.raises(AssertionError, match="number of modules 1 is not equal to the number of inputs 2"): parallel.parallel_apply([Net()], [x, x])


def test_gradients_through_the_parts():
    net, x = Net().cuda(), torch.randn(4, 6, requires_grad=True)
    replicas = parallel.replicate(net, [0, 1])
    assert all(not list(r.parameters()) for r in replicas) and replicas[1].first.weight.device.index == 1 and not replicas[0].last.bias.is_leaf
    assert replicas[0].scale is net.scale and replicas[1].scale.device.index == 1
    outs = parallel.parallel_apply(replicas, parallel.scatter(x, [0, 1]))
    parallel.gather(outs, 1).square().sum().backward()
    want = copy.deepcopy(net).cpu()
    z = x.detach().clone().requires_grad_()
    want(z).square().sum().backward()
    close(x.grad, z.grad)
    for p, q in zip(want.parameters(), net.parameters()): close(p.grad, q.grad, 1e-4)
    assert not parallel.replicate(net, [1], detach=True)[0].first.weight.requires_grad
