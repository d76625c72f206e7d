"""Hooks on what backward keeps: which values they see, what backward makes of what they give, when memory goes, and that programs without them stay as they were."""
import gc

import numpy
import pytest
import torch

import forno

LIBRARIES = (torch, forno)


def seen(lib, make):
    """Shapes of the packed values, shapes of the unpacked ones, gradients."""
    x, w = lib.arange(1.0, 7).reshape(2, 3).requires_grad_(), lib.arange(3.0, 9).reshape(2, 3).requires_grad_()
    packed, unpacked = [], []
    with lib.autograd.graph.saved_tensors_hooks(lambda t: packed.append(tuple(t.shape)) or t.detach(), lambda t: unpacked.append(tuple(t.shape)) or t): y = make(lib, x, w)
    y.sum().backward()
    return sorted(packed), sorted(unpacked), [None if t.grad is None else t.grad for t in (x, w)]


MADE = ["x * w", "x * 2", "x * w.detach()", "x + w", "x.exp()", "x.log()", "x.sin() * w", "x / w", "x @ w.t()", "x.detach() @ w.t()", "x.relu()", "x.sigmoid().tanh()", "x.sum(1)", "(x * x).sqrt()", "x[0] * w[1]",
        "torch.where(x > 2, x, w)", "x.softmax(1)", "x.view(3, 2).exp()", "torch.nn.functional.linear(x, w)", "torch.cat([x, w]).cos()", "x.clone() - 1", "x ** 2", "x ** 3"]


@pytest.mark.parametrize("text", MADE)
def test_what_hooks_see(text):
    (a, b, g), (c, d, h) = (seen(lib, lambda torch, x, w: eval(text)) for lib in LIBRARIES)
    assert (a, b) == (c, d)
    for s, t in zip(g, h): assert (s is None) == (t is None) and (s is None or numpy.allclose(s.tolist(), t.tolist(), rtol=1e-5, atol=1e-6))


def network(lib):
    lib.manual_seed(0)
    return lib.nn.Sequential(lib.nn.Linear(8, 16), lib.nn.GELU(), lib.nn.LayerNorm(16), lib.nn.Linear(16, 4))


def gradients(lib, pack, unpack, steps=3, value_first=False, inside=False):
    """Gradients of a few steps with hooks, then of one without."""
    net, x, found = network(lib), lib.linspace(-1, 1, 24).reshape(3, 8), []
    for k in range(steps + 1):
        net.zero_grad()
        if k < steps:
            with lib.autograd.graph.saved_tensors_hooks(pack, unpack):
                y = net(x).square().mean()
                if value_first: y.item()
                if inside: y.backward()
            if value_first: y.item()
            if not inside: y.backward()
        else: net(x).square().mean().backward()
        found.append([p.grad.tolist() for p in net.parameters()])
    return found


def close(a, b, rtol=1e-4):
    for s, t in zip(a, b, strict=True):
        for u, v in zip(s, t, strict=True): numpy.testing.assert_allclose(v, u, rtol=rtol, atol=1e-5)


@pytest.mark.parametrize("value_first", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_steps(value_first, inside):
    """The gradients are those without hooks, whenever windows run; and the step after the last has none."""
    plain = gradients(torch, lambda t: t, lambda t: t, value_first=value_first, inside=inside)
    for pack, unpack in ((lambda t: t.detach(), lambda t: t), (lambda t: t.detach().numpy().copy(), forno.from_numpy), (lambda t: (t.dtype, t.double()), lambda p: p[1].to(p[0]))):
        close(plain, gradients(forno, pack, unpack, value_first=value_first, inside=inside))


def test_backward_reads_what_unpack_gives():
    found = []
    for lib in LIBRARIES:
        x, w = lib.tensor([1.0, 2.0], requires_grad=True), lib.tensor([3.0, 4.0], requires_grad=True)
        with lib.autograd.graph.saved_tensors_hooks(lambda t: t.detach() * 10, lambda t: t + 1): y = x * w
        y.sum().backward()
        found.append([x.grad.tolist(), w.grad.tolist()])
        with lib.autograd.graph.saved_tensors_hooks(lambda t: t.detach(), lambda t: t):
            z = (x * w).exp()
            g, = lib.autograd.grad(z.sum(), x, create_graph=True)
        found[-1] += [g.tolist(), *(t.tolist() for t in lib.autograd.grad(g.sum(), (x, w)))]
    numpy.testing.assert_allclose(*found, rtol=1e-5)


def test_kept_values_go():
    """What is packed is the only thing that stays."""
    x = forno.ones(1000, 1000, requires_grad=True)

    def after(hooks):
        with hooks: y = ((x * 2).sin() * 3).cos().exp().sum()
        y.item()
        return y
    plain, packed = after(forno.autograd.graph.save_on_cpu()), after(forno.autograd.graph.saved_tensors_hooks(lambda t: t.detach().half(), lambda t: t.float()))
    plain.backward()
    want, x.grad = x.grad, None
    packed.backward()
    assert forno.allclose(x.grad, want, rtol=0.02, atol=0.02)
    node = packed.grad_fn.next_functions[0][0].node          # the exponential: its result is no more
    assert node.buf is None
    with pytest.raises(RuntimeError, match="second time"): packed.backward()


def test_packed_objects_go_with_the_graph():
    for lib in LIBRARIES:
        class Box:
            alive = 0

            def __init__(self, t):
                self.t = t.detach()
                Box.alive += 1

            def __del__(self): Box.alive -= 1
        x = lib.ones(3, requires_grad=True)
        with lib.autograd.graph.saved_tensors_hooks(Box, lambda b: b.t): y = x.exp().sin().sum()
        assert Box.alive == 2
        y.backward(retain_graph=True)
        assert Box.alive == 2
        y.backward()
        gc.collect()
        assert Box.alive == 0
        with lib.autograd.graph.saved_tensors_hooks(Box, lambda b: b.t): y = x.exp().sin().sum()
        del y
        (x + 1).tolist()                       # forno's window holds its lines until it runs
        gc.collect()
        assert Box.alive == 0


def test_nesting_and_order():
    found = []
    for lib in LIBRARIES:
        log, x = [], lib.ones(2, requires_grad=True)

        def hooks(name, lib=lib, log=log): return lib.autograd.graph.saved_tensors_hooks(lambda t: log.append(name) or t.detach(), lambda t: log.append(name + "'") or t)
        with hooks("a"):
            y = x.exp()
            with hooks("b"): y = y.sin()
            y = y.cos()
        y = y.exp()
        y.sum().backward()
        found.append(log)
    assert found[0] == found[1]


def test_custom_functions():
    for lib in LIBRARIES:
        log = []

        class Cube(lib.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x, None)
                return x ** 3

            @staticmethod
            def backward(ctx, g):
                x, none = ctx.saved_tensors
                assert none is None
                return g * 3 * x * x
        x = lib.tensor([1.0, 2.0], requires_grad=True)
        with lib.autograd.graph.saved_tensors_hooks(lambda t, log=log: log.append("pack") or t.detach(), lambda t, log=log: log.append("unpack") or t * 2): y = Cube.apply(x)
        y.sum().backward()
        assert log == ["pack", "unpack"] and x.grad.tolist() == [12, 48]


def test_leaves_are_the_users_own():
    for lib in LIBRARIES:
        x, seen = lib.ones(2, requires_grad=True), []
        with lib.autograd.graph.saved_tensors_hooks(lambda t, seen=seen: seen.append(t) or t.detach(), lambda t: t): y = x.log()
        assert len(seen) == 1 and seen[0].requires_grad and seen[0].data_ptr() == x.data_ptr() and y.requires_grad


@pytest.mark.parametrize("pack, unpack, error, text", [(lambda t: t.detach(), lambda t: 3, TypeError, "unpack_hook expected to be a Tensor but got result of type"),
                                                       (lambda t: t.detach().add_(1), lambda t: t, RuntimeError, "pack hook is modifying its input in place"),
                                                       (lambda t: 1 / 0, lambda t: t, ZeroDivisionError, "division")])
def test_errors(pack, unpack, error, text):
    for lib in LIBRARIES:
        x = lib.ones(2, requires_grad=True)
        with pytest.raises(error, match=text):
            with lib.autograd.graph.saved_tensors_hooks(pack, unpack): y = (x * 2).exp()
            y.sum().backward()
        assert (x * 2).exp().sum().item() == pytest.approx(2 * 7.389056)


def test_no_hooks():
    for lib in LIBRARIES:
        graph = lib.autograd.graph
        with graph.disable_saved_tensors_hooks("not here"):
            for context in (lambda graph=graph: graph.saved_tensors_hooks(lambda t: t, lambda t: t), graph.save_on_cpu):
                with pytest.raises(RuntimeError, match="not here"), context(): pass
        with graph.saved_tensors_hooks(lambda t: t, lambda t: t), pytest.raises(RuntimeError, match="nor here"), graph.disable_saved_tensors_hooks("nor here"): pass
        x = lib.ones(2, requires_grad=True)
        with graph.save_on_cpu(pin_memory=True): y = x.exp().sum()
        y.backward()
        assert x.grad.tolist() == pytest.approx([2.718281828] * 2)
        calls = []
        with graph.saved_tensors_hooks(calls.append, lambda t: t), lib.no_grad(): (x * 2).exp()
        with graph.saved_tensors_hooks(calls.append, lambda t: t): lib.ones(2).exp()
        assert not calls
