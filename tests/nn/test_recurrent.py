"""Whole sequences as one row against PyTorch: layers, directions, biases, layouts, first and second derivatives, function transforms; few lines are recorded."""
import numpy as np
import pytest
import torch

import forno
from forno.graph.line import LOCAL

LIBS = torch, forno


def layer(lib, kind, rng, **options):
    m = lib.nn.RNN(4, 6, nonlinearity="relu", **options) if kind == "relu" else getattr(lib.nn, kind)(4, 6, **options)
    m = m.double()
    with lib.no_grad():
        for p in m.parameters(): p.copy_(lib.tensor(rng.standard_normal(tuple(p.shape)) * 0.3))
    return m


def derivatives(lib, kind, twice=False, **options):
    """Results, gradients, and gradients of their squares; all results and states take part."""
    rng = np.random.default_rng(0)
    m, rows = layer(lib, kind, rng, **options), options["num_layers"] * (1 + options["bidirectional"])
    def leaf(*shape): return lib.tensor(rng.standard_normal(shape), requires_grad=True)
    x, *states = leaf(3, 3, 4), leaf(rows, 3, 6), *([leaf(rows, 3, 6)] if kind == "LSTM" else [])
    if options.get("batch_first"): x = leaf(3, 3, 4)
    y, ends = m(x, tuple(states) if kind == "LSTM" else states[0])
    outs = [y, *(ends if kind == "LSTM" else [ends])]
    loss = sum((o * lib.tensor(rng.standard_normal(tuple(o.shape)))).sum() for o in outs) + (y * y).sum()
    leaves = [x, *states, *m.parameters()]
    grads = lib.autograd.grad(loss, leaves, create_graph=twice)
    if twice: outs += lib.autograd.grad(sum((g * g).sum() for g in grads), leaves)
    return [o.detach().numpy() for o in (*outs, *grads)]


@pytest.mark.parametrize("twice", [False, True])
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN", "relu"])
def test_derivatives(kind, twice):
    for options in [dict(num_layers=1, bidirectional=True)] if twice else [dict(num_layers=2, bidirectional=True, batch_first=True), dict(num_layers=1, bidirectional=False, bias=False)]:
        theirs, ours = (derivatives(lib, kind, twice, **options) for lib in LIBS)
        for a, b in zip(theirs, ours): np.testing.assert_allclose(b, a, rtol=1e-9, atol=1e-10)


def test_a_flush_between_forward_and_backward():
    got = []
    for lib in LIBS:
        m = layer(lib, "LSTM", np.random.default_rng(0))
        y, (h, c) = m(lib.ones(5, 3, 4, dtype=lib.float64))
        values = [y.sum().item(), h.sum().item(), c.sum().item()]
        (y.sum() + (c * c).sum()).backward()
        got.append(values + [p.grad.sum().item() for p in m.parameters()])
    np.testing.assert_allclose(got[1], got[0], rtol=1e-10)


def test_results_are_tensors_of_their_own():
    m = forno.nn.LSTM(4, 6)
    with forno.no_grad(): y, (h, c) = m(forno.ones(5, 3, 4))
    last = y[-1].clone()
    y.zero_()
    assert y._base is None and y.is_contiguous() and y.untyped_storage().nbytes() == y.nbytes
    assert (h[0] == last).all()


@pytest.mark.parametrize("kind", ["LSTM", "GRU"])
def test_transforms(kind):
    """vmap over examples, and tangents, of the function that PyTorch runs."""
    rng, got = np.random.default_rng(0), []
    x, t = rng.standard_normal((2, 5, 3, 4)), rng.standard_normal((5, 3, 4))
    m = layer(forno, kind, rng)
    def f(x): return m(x)[0]
    with forno.no_grad(): got = forno.func.vmap(f)(forno.tensor(x)).numpy()
    for k in range(2): np.testing.assert_allclose(got[k], f(forno.tensor(x[k])).detach().numpy(), rtol=1e-12)
    y, tangent = forno.func.jvp(f, (forno.tensor(x[0]),), (forno.tensor(t),))
    step = 1e-6
    near = (f(forno.tensor(x[0] + step * t)) - f(forno.tensor(x[0] - step * t))) / (2 * step)
    np.testing.assert_allclose(tangent.detach().numpy(), near.detach().numpy(), rtol=1e-6, atol=1e-8)


def test_a_sequence_is_few_lines():
    """However long it is: what is recorded does not grow."""
    counts = []
    for steps in (10, 60):
        m = forno.nn.GRU(4, 6)
        before = LOCAL.run.stats.lines
        m(forno.ones(steps, 3, 4))[0].sum().backward()
        counts.append(LOCAL.run.stats.lines - before)
    assert counts[0] == counts[1] < 150


def test_a_compiled_step_carries_its_state():
    """A training step whose state goes on, detached, to the next batch is said from memory, and gives what it gave."""
    def losses(compiled):
        forno.manual_seed(0)
        m, xs = forno.nn.LSTM(4, 6), forno.randn(12, 5, 3, 4)
        optimizer, held = forno.optim.SGD(m.parameters(), 0.1), [(forno.zeros(1, 3, 6), forno.zeros(1, 3, 6))]

        def step(x):
            optimizer.zero_grad()
            y, state = m(x, tuple(s.detach() for s in held[0]))
            loss = (y * y).sum()
            loss.backward()
            optimizer.step()
            held[0] = state
            return loss.detach()
        if compiled: step = forno.compile(step)
        before, out = LOCAL.run.stats.said, [step(x).item() for x in xs.unbind(0)]
        return out, LOCAL.run.stats.said - before
    (eager, _), (said, times) = losses(False), losses(True)
    assert said == eager and times >= 4
