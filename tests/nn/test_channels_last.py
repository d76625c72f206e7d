"""Models and images in channels_last: every result and gradient has PyTorch's strides and values, also after optimizer steps."""
import pytest
import torch

import forno

LAYERS = {
    "conv": lambda t: t.nn.Conv2d(8, 16, 3, padding=1), "one tap": lambda t: t.nn.Conv2d(8, 16, 1), "stride": lambda t: t.nn.Conv2d(8, 12, 3, 2, 1, bias=False),
    "depthwise": lambda t: t.nn.Conv2d(8, 8, 3, padding=1, groups=8), "grouped": lambda t: t.nn.Conv2d(8, 16, 3, padding=2, dilation=2, groups=2),
    "transposed": lambda t: t.nn.ConvTranspose2d(8, 4, 2, stride=2), "batch norm": lambda t: t.nn.BatchNorm2d(8), "group norm": lambda t: t.nn.GroupNorm(2, 8),
    "relu": lambda t: t.nn.ReLU(), "max pool": lambda t: t.nn.MaxPool2d(3, 2, 1), "avg pool": lambda t: t.nn.AvgPool2d(2), "adaptive pool": lambda t: t.nn.AdaptiveAvgPool2d(3),
    "nearest": lambda t: t.nn.Upsample(scale_factor=2), "bilinear": lambda t: t.nn.Upsample(scale_factor=2, mode="bilinear"), "pad": lambda t: t.nn.ZeroPad2d(1),
    "pixel shuffle": lambda t: t.nn.PixelShuffle(2), "flatten": lambda t: t.nn.Flatten(),
}
CALLS = {
    "add": lambda t, a, b, c: a + b, "add another": lambda t, a, b, c: a + c, "to another": lambda t, a, b, c: c * a, "cat": lambda t, a, b, c: t.cat([a, b], 1),
    "cat another": lambda t, a, b, c: t.cat([a, c], 1), "scaled": lambda t, a, b, c: a * b.mean((2, 3), keepdim=True), "channels": lambda t, a, b, c: a[:, 2:4] * b[:, 4:6],
    "chunks": lambda t, a, b, c: t.sigmoid(a.chunk(2, 1)[0]) * b.chunk(2, 1)[1], "window": lambda t, a, b, c: a[:, :, 1:, 1:].clone(), "contiguous": lambda t, a, b, c: a.contiguous() + b,
    "permuted": lambda t, a, b, c: a.permute(0, 2, 3, 1) * 2, "sum": lambda t, a, b, c: (a * b).sum(1), "roll": lambda t, a, b, c: t.roll(a, 1, 3),
}


def numbers(*shape): return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)))


def images(t, last, *shape):
    x = t.tensor(numbers(*shape).tolist())
    return (x.to(memory_format=t.channels_last) if last else x).requires_grad_()


def described(x): return None if x is None else (tuple(x.shape), tuple(x.stride()), torch.tensor(x.tolist()))


def agree(run):
    for mine, theirs in zip(run(forno), run(torch), strict=True):
        assert (mine is None) == (theirs is None)
        if mine is None: continue
        assert mine[:2] == theirs[:2]
        torch.testing.assert_close(mine[2], theirs[2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LAYERS)
def test_layers(name):
    def run(t):
        layer, x = LAYERS[name](t), images(t, True, 2, 8, 12, 12)
        with t.no_grad():
            for p in layer.parameters(): p.copy_(t.tensor(numbers(*p.shape).tolist()))
        layer = layer.to(memory_format=t.channels_last)
        y = layer(x)
        (y * y).sum().backward()
        return [described(v) for v in (y, x.grad, *layer.parameters(), *[p.grad for p in layer.parameters()])]
    agree(run)


@pytest.mark.parametrize("name", CALLS)
def test_calls(name):
    def run(t):
        a, b, c = images(t, True, 2, 8, 5, 6), images(t, True, 2, 8, 5, 6), images(t, False, 2, 8, 5, 6)
        y = CALLS[name](t, a, b, c)
        (y * y).sum().backward()
        return [described(v) for v in (y, a.grad, b.grad, c.grad)]
    agree(run)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_training(optimizer):
    """Gradients, optimizer states and weights lie alike, step after step."""
    def run(t):
        first, norm, second = t.nn.Conv2d(3, 8, 3, padding=1, bias=False), t.nn.BatchNorm2d(8), t.nn.Conv2d(8, 4, 1)
        model = t.nn.Sequential(first, norm, t.nn.ReLU(), second)
        with t.no_grad():
            for p in model.parameters(): p.copy_(t.tensor(numbers(*p.shape).tolist()))
        model, x = model.to(memory_format=t.channels_last), images(t, True, 2, 3, 6, 6).detach()
        how = dict(momentum=0.9) if optimizer == "SGD" else {}
        opt = getattr(t.optim, optimizer)(model.parameters(), 0.01, **how)
        for _ in range(3):
            opt.zero_grad()
            model(x).square().mean().backward()
            opt.step()
        states = [v for p in model.parameters() for v in opt.state[p].values() if isinstance(v, t.Tensor) and v.ndim]
        return [described(v) for v in (*model.parameters(), *[p.grad for p in model.parameters()], *states)]
    agree(run)


def test_accumulation():
    """Gradients that are added to keep their layout; one that a view of the weights shares its memory with is seen there."""
    def run(t):
        layer = t.nn.Conv2d(3, 4, 3)
        with t.no_grad():
            for p in layer.parameters(): p.copy_(t.tensor(numbers(*p.shape).tolist()))
        layer, x = layer.to(memory_format=t.channels_last), images(t, True, 2, 3, 6, 6)
        for _ in range(3): layer(x).square().sum().backward()
        flat = layer.weight.grad.permute(0, 2, 3, 1).reshape(-1)
        layer.weight.grad.mul_(2)
        return [described(v) for v in (layer.weight.grad, layer.bias.grad, x.grad, flat)]
    agree(run)
