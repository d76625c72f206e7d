"""Gradients beyond the formulas: hooks, modes, custom functions, checkpoint, anomaly mode, double backward, freed graphs, depth."""
import gc
import sys
import threading
import weakref

import numpy as np
import pytest
import torch

import forno
from forno.framework.engine import flush
from forno.graph.line import LOCAL

from .agree import plain, same

BOTH = pytest.mark.parametrize("lib", [torch, forno], ids=["torch", "forno"])


def alike(f):
    """The same answer of f(library) in both libraries."""
    a, b = plain(f(torch), torch), plain(f(forno), forno)
    assert same(a, b), f"torch: {a}\nforno: {b}"


# ---------------------------------------------------------------- hooks
def test_order_of_hooks():
    def f(lib):
        seen = []
        x = lib.tensor([1.0, 2.0], requires_grad=True)
        y = x * 3
        y.register_hook(lambda g: seen.append(("y1", g.clone())) or g * 2)
        y.retain_grad()
        y.register_hook(lambda g: seen.append(("y2", g.clone())) or g + 1)
        x.register_hook(lambda g: seen.append(("x", g.clone())))
        x.register_post_accumulate_grad_hook(lambda t: seen.append(("post", t.grad.clone())))
        (y * y).sum().backward()
        return seen, y.grad, x.grad
    alike(f)


def test_hooks_can_be_removed_and_outlive_windows():
    def f(lib):
        x = lib.tensor([1.0, 2.0], requires_grad=True)
        out, handle = [], x.register_hook(lambda g: g * 10)
        for k in range(4):
            if k == 2: handle.remove()
            x.grad = None
            (x * k).sum().backward()
            out.append(x.grad.clone())
            x.tolist()                         # a flush in forno
        return out
    alike(f)


def test_hooks_follow_a_leaf_through_updates():
    def f(lib):
        x, seen = lib.tensor([1.0, 2.0], requires_grad=True), []
        x.register_hook(lambda g: seen.append(g.clone()))
        for _ in range(3):
            (x * x).sum().backward()
            with lib.no_grad(): x.sub_(x.grad * 0.1)
            x.grad = None
        return seen, x
    alike(f)


def test_warm_programs_notice_a_new_hook():
    x = forno.tensor([1.0, 2.0], requires_grad=True)

    def step():
        x.grad = None
        (x * 2).sum().backward()
        return x.grad.tolist()
    for _ in range(4): assert step() == [2, 2]
    handle = x.register_hook(lambda g: g * 5)
    assert step() == [10, 10]
    handle.remove()
    assert step() == [2, 2]


# ---------------------------------------------------------------- modes
def test_modes():
    def f(lib):
        x = lib.ones(2, requires_grad=True)
        out = []

        @lib.no_grad()
        def plain_(): return (x * 2).requires_grad

        @lib.enable_grad()
        def tracked(): return (x * 2).requires_grad

        def numbers():
            for _ in range(2): yield (x * 2).requires_grad
        with lib.no_grad(): out += [(x * 2).requires_grad, tracked(), lib.is_grad_enabled()]
        with lib.set_grad_enabled(False): out += [(x * 2).requires_grad]
        with lib.inference_mode(): out += [(x * 2).requires_grad, lib.is_inference_mode_enabled()]
        try:
            with lib.no_grad(): raise KeyError
        except KeyError: pass
        return (*out, plain_(), lib.is_grad_enabled(), *numbers())
    alike(f)


def test_generators_run_under_the_mode_of_their_decorator():
    def f(lib):
        x = lib.ones(2, requires_grad=True)

        @lib.no_grad()
        def g():
            yield (x * 2).requires_grad
            yield (x * 3).requires_grad
        out = []
        for k in g(): out += [k, (x * 2).requires_grad]
        return tuple(out)
    alike(f)


def test_modes_belong_to_their_thread():
    found = []
    with forno.no_grad():
        t = threading.Thread(target=lambda: found.append(forno.is_grad_enabled()))
        t.start()
        t.join()
    assert found == [True]


# ---------------------------------------------------------------- graphs and windows
@pytest.mark.parametrize("between", [lambda t: None, lambda t: t.tolist()], ids=["one window", "flushed"])
def test_freed_graphs(between):
    def f(lib):
        x = lib.tensor([1.0, 2.0], requires_grad=True)
        y = (x * x).sum()
        between(y)
        y.backward(retain_graph=True)
        between(y)
        y.backward()
        between(x.grad)
        try: y.backward()
        except RuntimeError as e: return "second time" in str(e), x.grad
    alike(f)


@pytest.mark.parametrize("flushes", range(4))
def test_accumulation_over_windows(flushes):
    def f(lib):
        w = lib.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        out = []
        for k in range(6):
            loss = ((w @ lib.full((2, 1), k + 1.0)).tanh()).sum()
            if flushes & 1: loss.item()
            loss.backward()
            if flushes & 2: out.append(w.grad.tolist())
        return out, w.grad
    alike(f)


def test_a_replayed_backward_is_the_derived_one():
    """Programs seen before replay their backward: with existing .grad, after a flush, with fresh numbers in the graph."""
    w = forno.tensor([0.5, -0.25], requires_grad=True)
    v = torch.tensor([0.5, -0.25], requires_grad=True)
    was = LOCAL.run.stats.remembered
    for k in range(8):
        for lib, p in ((forno, w), (torch, v)):
            x = lib.tensor([1.0 + k, 2.0])
            loss = (p * x * (k + 0.5)).exp().sum() * 0.01
            if k % 2: loss.item()
            loss.backward()
            loss2 = (p * p).sum()
            loss2.backward()
            if k == 5: p.grad = None
    assert np.allclose(w.grad.numpy(), v.grad.numpy()) and LOCAL.run.stats.remembered > was


def test_saved_values_are_immutable():
    """In-place writes after an operation saved its operand: PyTorch refuses, forno has the old value."""
    x = forno.tensor([1.0, 2.0], requires_grad=True)
    y = x * 1
    z = (y * y).sum()
    y.add_(5)
    z.backward()
    assert x.grad.tolist() == [2, 4]


def test_graphs_die_with_their_tensors():
    x = forno.ones(1000, requires_grad=True)
    gc.disable()
    try:
        refs = []
        for _ in range(3):
            h = x
            for _ in range(5):
                h = (h * 1.5).tanh()
                flush()
            refs.append(weakref.ref(h.node))
            del h
        assert all(r() is None for r in refs[:-1])
    finally: gc.enable()


@pytest.mark.parametrize("n, flushed", [(20000, False), (20000, True)])
def test_depth(n, flushed):
    """No recursion anywhere: record, plan, backward, death."""
    limit = sys.getrecursionlimit()
    x = forno.ones(2, requires_grad=True)
    h = x
    for _ in range(n): h = h + 1 if not flushed else h * 1.0
    if flushed: h.tolist()
    h.sum().backward()
    assert x.grad.tolist() == [1, 1] and sys.getrecursionlimit() == limit
    del h


def test_grad_of_inner_tensors_and_inputs():
    def f(lib):
        x, z = lib.tensor([1.0, 2.0], requires_grad=True), lib.tensor([3.0, 4.0], requires_grad=True)
        y = x * z
        w = (y * y).sum()
        a = lib.autograd.grad(w, [y, x], retain_graph=True)
        w.backward(inputs=[y, z], retain_graph=True)
        w.backward(inputs=[x])
        return a, y.grad, z.grad, x.grad
    alike(f)


# ---------------------------------------------------------------- second derivatives
def test_double_backward():
    def f(lib):
        x = lib.tensor([[0.3, -0.7], [1.1, 0.2]], requires_grad=True)
        w = lib.tensor([[0.5, 0.1], [-0.4, 0.9]], requires_grad=True)
        y = (x @ w).tanh().softmax(1).log().sum()
        g, = lib.autograd.grad(y, x, create_graph=True)
        (g * g).sum().backward()
        return g, x.grad, w.grad
    alike(f)


def test_third_derivative_over_flushes():
    def f(lib):
        x = lib.tensor(0.7, requires_grad=True)
        y, out = x.sin() * x.exp(), []
        for _ in range(3):
            y, = lib.autograd.grad(y, x, create_graph=True)
            out.append(y.item())
        return tuple(out)
    alike(f)


ROWS = [
    (lambda t, x, y: x * y / (y * y + 1), 2), (lambda t, x, y: (x @ y.t()).tanh(), 2), (lambda t, x, y: x.softmax(1) * y, 2), (lambda t, x, y: t.where(x > 0, x * y, y), 2),
    (lambda t, x: x.exp().sum(0), 1), (lambda t, x: (x * x + 1).log(), 1), (lambda t, x: (x * x + 1).sqrt().mean(), 1), (lambda t, x: x.sigmoid().prod(1), 1),
    (lambda t, x: x[:, 1:].t().reshape(-1) ** 3, 1), (lambda t, x: x.cumsum(1), 1), (lambda t, x: t.cat([x, x * 2], 1).pow(2), 1), (lambda t, x: x.unfold(1, 2, 1).sin(), 1),
    (lambda t, x: x[t.tensor([0, 1, 0])] ** 2, 1), (lambda t, x: x.gather(1, t.tensor([[0, 2], [1, 1]])).exp(), 1), (lambda t, x: x.logsumexp(1), 1), (lambda t, x: x.var(1), 1),
    (lambda t, x: t.nn.functional.gelu(x), 1), (lambda t, x: t.nn.functional.layer_norm(x, (3,)), 1), (lambda t, x: x.norm(), 1), (lambda t, x: x.expand(2, 2, 3).amax(0), 1),
]


@pytest.mark.parametrize("k", range(len(ROWS)))
def test_gradcheck_and_gradgradcheck(k):
    f, n = ROWS[k]
    r = np.random.default_rng(k)
    xs = [forno.tensor(r.uniform(-1, 1, (2, 3)), requires_grad=True) for _ in range(n)]
    assert forno.autograd.gradcheck(lambda *a: f(forno, *a), xs) and forno.autograd.gradgradcheck(lambda *a: f(forno, *a), xs)


def test_gradcheck_finds_a_wrong_gradient():
    class Wrong(forno.autograd.Function):
        @staticmethod
        def forward(ctx, x): return x * 2
        @staticmethod
        def backward(ctx, g): return g * 3
    x = forno.ones(2, dtype=forno.float64, requires_grad=True)
    assert not forno.autograd.gradcheck(Wrong.apply, x, raise_exception=False)
    with pytest.raises(forno.autograd.GradcheckError): forno.autograd.gradcheck(Wrong.apply, x)


# ---------------------------------------------------------------- custom functions
def functions(lib):
    class Split(lib.autograd.Function):
        """Two outputs, one of them without a gradient, and an attribute."""
        @staticmethod
        def forward(ctx, x, scale):
            ctx.scale = scale
            ctx.save_for_backward(x)
            where = x > 0
            ctx.mark_non_differentiable(where)
            return x * scale, where, x.exp()

        @staticmethod
        def backward(ctx, g, unused, h):
            x, = ctx.saved_tensors
            return g * ctx.scale + h * x.exp(), None

    class Double(lib.autograd.Function):
        """In place."""
        @staticmethod
        def forward(ctx, x):
            x.mul_(2)
            ctx.mark_dirty(x)
            return x

        @staticmethod
        def backward(ctx, g): return g * 2

    class Cube(lib.autograd.Function):
        """Twice differentiable, with setup_context."""
        @staticmethod
        def forward(x): return x ** 3
        @staticmethod
        def setup_context(ctx, inputs, output): ctx.save_for_backward(*inputs)
        @staticmethod
        def backward(ctx, g):
            x, = ctx.saved_tensors
            return g * 3 * x * x
    return Split, Double, Cube


def test_function_with_several_outputs():
    def f(lib):
        Split, _, _ = functions(lib)
        x = lib.tensor([1.0, -2.0], requires_grad=True)
        a, where, b = Split.apply(x, 3.0)
        flags = a.requires_grad, where.requires_grad, b.requires_grad
        (a.sum() + (b * b).sum()).backward()
        first = x.grad.clone()
        x.grad = None
        Split.apply(x, 2.0)[0].sum().backward()                                 # the unused output's gradient is zeros
        return flags, where, first, x.grad
    alike(f)


def test_function_in_place():
    def f(lib):
        _, Double, _ = functions(lib)
        x = lib.tensor([1.0, -2.0], requires_grad=True)
        y = x * 1
        z = Double.apply(y)
        (z * z).sum().backward()
        return y, z is y, x.grad
    alike(f)


def test_function_twice():
    def f(lib):
        _, _, Cube = functions(lib)
        x = lib.tensor([1.0, -2.0], requires_grad=True)
        g, = lib.autograd.grad(Cube.apply(x).sum(), x, create_graph=True)
        g.sum().backward()
        return g, x.grad
    alike(f)


def test_function_errors():
    def f(lib):
        class Few(lib.autograd.Function):
            @staticmethod
            def forward(ctx, x, y): return x * y
            @staticmethod
            def backward(ctx, g): return g
        class Shape(lib.autograd.Function):
            @staticmethod
            def forward(ctx, x): return x * 2
            @staticmethod
            def backward(ctx, g): return g.sum()[None].expand(5)
        class Raises(lib.autograd.Function):
            @staticmethod
            def forward(ctx, x): return x * 2
            @staticmethod
            def backward(ctx, g): raise ValueError("mine")
        out = []
        for function, k in ((Few, 2), (Shape, 1), (Raises, 1)):
            x = lib.ones(3, requires_grad=True)
            try: function.apply(*[x] * k).sum().backward()
            except Exception as e: out.append(type(e).__name__)
        return tuple(out)
    alike(f)


def test_once_differentiable():
    def f(lib):
        once = lib.autograd.function.once_differentiable

        class Square(lib.autograd.Function):
            @staticmethod
            def forward(ctx, x):
                ctx.save_for_backward(x)
                return x * x
            @staticmethod
            @once
            def backward(ctx, g): return g * 2 * ctx.saved_tensors[0]
        x = lib.tensor([1.0, 3.0], requires_grad=True)
        g, = lib.autograd.grad(Square.apply(x).sum(), x, create_graph=True)
        try: g.sum().backward()
        except RuntimeError as e: return g.detach(), "once_differentiable" in str(e) or "twice" in str(e)
        return g.detach(), False
    alike(f)


# ---------------------------------------------------------------- checkpoint, anomaly mode
@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint(reentrant):
    from torch.utils.checkpoint import checkpoint as theirs

    from forno.utils.checkpoint import checkpoint as ours

    def f(lib):
        x, w = lib.tensor([[0.1, 0.2]], requires_grad=True), lib.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
        calls = []

        def block(a, scale=1.0):
            calls.append(lib.is_grad_enabled())
            return (a @ w).tanh() * scale, a * 2
        y, z = (ours if lib is forno else theirs)(block, x, use_reentrant=reentrant)
        (y.sum() * 2 + z.sum()).backward()
        return len(calls), y, x.grad, w.grad
    alike(f)


def test_checkpoint_repeats_dropout():
    from forno.utils.checkpoint import checkpoint
    forno.manual_seed(1)
    x = forno.ones(200, requires_grad=True)
    y = checkpoint(lambda a: forno.nn.functional.dropout(a, 0.5, True), x, use_reentrant=False)
    after = forno.rand(1).item()
    y.sum().backward()
    assert np.array_equal(x.grad.numpy(), y.detach().numpy())
    forno.manual_seed(1)
    forno.nn.functional.dropout(x, 0.5, True)
    assert after == forno.rand(1).item()       # the generator goes on where it was


def test_checkpoint_sequential_and_arguments():
    from forno.utils.checkpoint import checkpoint, checkpoint_sequential
    layers = forno.nn.Sequential(*[forno.nn.Linear(4, 4) for _ in range(4)])
    x = forno.rand(2, 4, requires_grad=True)
    plain_, again = layers(x).sum(), checkpoint_sequential(layers, 2, x, use_reentrant=False).sum()
    a, b = forno.autograd.grad(plain_, [x, *layers.parameters()]), forno.autograd.grad(again, [x], retain_graph=True)
    assert np.allclose(plain_.item(), again.item()) and np.allclose(a[0].numpy(), b[0].numpy())
    assert checkpoint(lambda a, flag=False: a + 1 if flag else a, forno.zeros(1), use_reentrant=False, flag=True).item() == 1


def test_anomaly_names_the_users_line():
    x = forno.tensor([0.0, 1.0], requires_grad=True)
    with forno.autograd.detect_anomaly(), pytest.warns(UserWarning):
        here = sys._getframe().f_lineno + 1
        y = (x * 0).sqrt() * x
        with pytest.raises(RuntimeError, match=rf"returned nan values.*test_autograd.py:{here}"): (y / y.detach()).sum().backward()
    (x * 2).sum().backward()                   # out of the mode: as ever


# ---------------------------------------------------------------- autograd.functional
def test_functional():
    a, b = np.random.default_rng(0).standard_normal((2, 3)), np.random.default_rng(1).standard_normal(3)

    def f(lib):
        F = lib.autograd.functional
        x, y = lib.tensor(a), lib.tensor(b)
        def two(p, q): return p.exp() * q, (q * q).sum()
        def one(p, q): return (p * q).exp().sum()
        return (F.jacobian(two, (x, y)), F.jacobian(lambda p: p.sin(), x), F.hessian(one, (x, y)), F.hessian(lambda p: (p ** 3).sum(), x),
                F.vjp(lambda p, q: p.exp() * q, (x, y), x), F.jvp(lambda p, q: p.exp() * q, (x, y), (x, y)), F.vhp(one, (x, y), (x, y)), F.hvp(one, (x, y), (x, y)),
                F.vjp(lambda p: p.sum(), x))
    alike(f)


def test_functional_errors_and_graphs():
    def f(lib):
        F, out = lib.autograd.functional, []
        x = lib.ones(2, requires_grad=True)
        for g in (lambda: F.vjp(lambda p: p * 2, x), lambda: F.hessian(lambda p: p * 2, x), lambda: F.jacobian(lambda p: 3, x), lambda: F.jvp(lambda p: p, x, lib.ones(3)),
                  lambda: F.jacobian(lambda p: lib.ones(2), x, strict=True)):
            try: g()
            except (RuntimeError, TypeError) as e: out.append(type(e).__name__)
        j = F.jacobian(lambda p: p ** 3, x, create_graph=True)
        j.sum().backward()
        return tuple(out), j.requires_grad, x.grad, F.jacobian(lambda p: p ** 3, x).requires_grad
    alike(f)
