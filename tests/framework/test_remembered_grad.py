"""autograd.grad on programs seen before: gradients come from memory, and whatever differs from the remembered call is derived anew."""
import pytest
import torch

import forno
from forno.framework.engine import flush
from forno.graph.line import LOCAL


def both(program, times=4):
    """Run a program of (m, round) several times in both libraries; the results must agree. How many gradients forno took from memory."""
    before = LOCAL.run.stats.remembered
    for k in range(times):
        mine, want = program(forno, k), program(torch, k)
        for a, b in zip(mine, want, strict=True):
            assert (a is None) == (b is None)
            if b is not None: torch.testing.assert_close(torch.tensor(a.tolist()), b)
        flush()
    return LOCAL.run.stats.remembered - before


def leaf(m, k, *shape): return (m.arange(1.0, 1 + shape[0] * shape[1]).reshape(shape) * 0.1 + k).requires_grad_()


def test_in_one_window():
    def program(m, k):
        x, w = leaf(m, k, 2, 3), leaf(m, k + 1, 2, 3)
        return m.autograd.grad((x * w).tanh().sum(), (x, w))
    assert both(program) >= 2


@pytest.mark.parametrize("between", [False, True])
def test_several_roots_and_given_gradients(between):
    def program(m, k):
        x, w, g = leaf(m, k, 2, 3), leaf(m, k + 1, 2, 3), m.ones(2, 3) * (k + 2)
        y, z = x * w, (x + w).exp()
        if between: y.tolist()
        return m.autograd.grad((y, z.sum()), (w, x), (g, None))
    assert both(program) >= 1


def test_a_gradient_that_is_passed_on():
    def program(m, k):
        x, w, g = leaf(m, k, 2, 3), leaf(m, k, 2, 3), m.ones(2, 3) * k
        return m.autograd.grad(x + w, (x, w, x), g)
    assert both(program) >= 2


def test_what_is_asked_may_change():
    def program(m, k):
        x, w = leaf(m, k, 2, 3), leaf(m, k + 1, 2, 3)
        h = x * w
        y = (h * x).sum()
        return m.autograd.grad(y, ((x,), (w,), (h, x), (w, h))[k % 4])
    assert both(program, 12) >= 4


def test_unused_and_materialized():
    def program(m, k):
        x, w = leaf(m, k, 2, 3), leaf(m, k + 1, 2, 3)
        y = (x * 2).sum()
        return m.autograd.grad(y, (x, w), allow_unused=True, retain_graph=True) + m.autograd.grad(y, (w, x), materialize_grads=True)
    assert both(program) >= 4


def test_an_unused_leaf_that_comes_into_use():
    def program(m, k):
        x, w = leaf(m, k, 2, 3), leaf(m, k + 1, 2, 3)
        y = (x if k < 3 else w).exp().sum()
        return m.autograd.grad(y, (w, x), allow_unused=True)
    both(program, 6)


def test_a_leaf_changed_in_place_between_uses():
    def program(m, k):
        x, other = leaf(m, k, 2, 3), leaf(m, k, 2, 3)
        y = x.exp()
        with m.no_grad(): x.mul_(2)
        z = other if k % 2 else x
        return m.autograd.grad((y * z).sum(), (x,))
    both(program, 6)


def test_graphs_of_earlier_windows():
    def program(m, k):
        x, w = leaf(m, k, 2, 3), leaf(m, k + 1, 2, 3)
        y = (x * w).sin() * 2.5
        y.tolist()
        first = m.autograd.grad(y.sum(), (x, w), retain_graph=True)
        return first + m.autograd.grad(y.sum(), (w,))
    assert both(program) >= 2


def test_a_graph_is_freed_when_remembered_too():
    for _ in range(4):
        x = leaf(forno, 1, 2, 3)
        y = x.exp().sum()
        forno.autograd.grad(y, x)
        with pytest.raises(RuntimeError, match="second time"): forno.autograd.grad(y, x)
        flush()


def test_hooks_are_called():
    seen = []
    def program(m, k):
        x, w = leaf(m, k, 2, 3), leaf(m, k, 2, 3)
        h = x * w
        if k % 2: h.register_hook(lambda g: seen.append(m.__name__) or g * 3)
        if k == 4: x.register_hook(lambda g: g * 5)
        return m.autograd.grad(h.sum(), (x, w))
    both(program, 6)
    assert seen.count("forno") == seen.count("torch") == 3


def test_backward_with_given_gradients():
    def program(m, k):
        x, g = leaf(m, k, 2, 3), m.ones(2, 3) * k
        (x * x).backward(g)
        y, z = x.exp(), x * 3
        m.autograd.backward((y, z), (g, g))
        return x.grad,
    assert both(program) >= 2


def test_graphs_of_gradients():
    def program(m, k):
        x = leaf(m, k, 2, 3)
        g, = m.autograd.grad((x ** 3).sum(), x, create_graph=True)
        return m.autograd.grad(g.sum(), x)
    assert both(program) >= 6


@pytest.mark.parametrize("between", [False, True])
def test_gradients_of_gradients_in_a_loss(between):
    def program(m, k):
        x, w = leaf(m, k, 2, 3), leaf(m, k + 1, 3, 2)
        y = (x @ w).tanh()
        u, = m.autograd.grad(y, x, m.ones(2, 2), create_graph=True)
        if between: u.tolist()
        v, = m.autograd.grad(u.sum(), x, create_graph=True)
        (y.sum() + (u * u).sum() + v.exp().sum()).backward()
        return u, v, x.grad, w.grad
    assert both(program) >= 3


def test_tensors_laid_out_by_columns():
    def program(m, k):
        x, w = leaf(m, k, 2, 3), leaf(m, k, 3, 2)
        return m.autograd.grad((x.t() * w).t(), (x, w), m.ones(2, 3))
    both(program)


def test_same_leaf_by_two_names():
    def program(m, k):
        x, w = leaf(m, k, 2, 3), leaf(m, k + 1, 2, 3)
        a, b = (x, x) if k % 2 else (x, w)
        return m.autograd.grad((a * b.exp()).sum(), (a, b))
    both(program, 6)


# ---------------------------------------------------------------- graphs of several windows: the last one is the same program, what lies below differs
def looked(m, t):
    """A value that somebody looks at: a window ends here."""
    if m is forno: flush()
    return t


@pytest.mark.parametrize("asked", [False, True])
def test_rows_in_closed_windows(asked):
    """Rows that keep no value are part of what was derived, too."""
    between = (lambda m, y, w: y.clone(), lambda m, y, w: y * (w.detach() + 1), lambda m, y, w: y.exp(), lambda m, y, w: y.clone())

    def program(m, k):
        x = leaf(m, 0, 2, 3)
        y = looked(m, (x.clone() * 2).clone())
        z = looked(m, y.clone())
        y = looked(m, looked(m, between[k](m, y, x)).clone())
        loss = (y * x).sum() + z.sum()
        if asked: return m.autograd.grad(loss, (x,))
        loss.backward()
        return x.grad,
    both(program)


@pytest.mark.parametrize("asked", [False, True])
def test_runs_of_one_window(asked):
    """Two runs of a window have the same lines; whose value it is decides where gradients go."""
    def program(m, k):
        leaves = leaf(m, 0, 2, 3), leaf(m, 1, 2, 3)
        halves = [looked(m, w * 2) for w in leaves]
        u, v = looked(m, halves[0] + 1), looked(m, halves[k % 2] + 1)
        loss = (u * v).sum() + sum([w.sum() for w in leaves])
        if asked: return m.autograd.grad(loss, leaves)
        loss.backward()
        return [w.grad for w in leaves]
    assert both(program, 6) >= 2


def test_steps_that_end_in_their_middle_are_remembered():
    """A training step of several windows, again and again."""
    def program(m, k):
        w = leaf(m, 0, 3, 3)
        for _ in range(3):
            h = w
            for _ in range(3): h = looked(m, (h @ w).tanh())
            h.sum().backward()
        return w.grad,
    assert both(program) >= 8
