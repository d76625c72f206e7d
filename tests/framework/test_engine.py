"""When windows run, what is planned once, what is remembered, and what a checked graph refuses."""
import gc

import numpy as np
import pytest

import forno
from forno.core.flags import flags
from forno.core.graph import Graph, Scalar, Value
from forno.core.op import TABLE
from forno.core.shape import View
from forno.core.state import state
from forno.dnn import movement as mv
from forno.framework.engine import flush
from forno.graph import line as lines
from forno.graph import spec
from forno.graph.line import LOCAL


def counted(f, warm=5):
    """What one more run makes after `warm` runs, without the garbage collector: (lines, plans, derived backwards)."""
    for _ in range(warm): f()
    gc.collect()
    gc.disable()
    try:
        s = LOCAL.run.stats
        before = s.lines, s.plans, s.derived
        for _ in range(3): f()
        return tuple(b - a for a, b in zip(before, (s.lines, s.plans, s.derived)))
    finally: gc.enable()


def net():
    forno.manual_seed(0)
    r = np.random.default_rng(0)
    model = forno.nn.Sequential(forno.nn.Linear(8, 16), forno.nn.ReLU(), forno.nn.Dropout(0.5), forno.nn.LayerNorm(16), forno.nn.Linear(16, 4))
    x, y = forno.tensor(r.standard_normal((5, 8)).astype("f4")), forno.tensor(r.integers(0, 4, 5))
    return model, x, y


@pytest.mark.parametrize("make", [lambda p: forno.optim.SGD(p, 0.1, momentum=0.9), lambda p: forno.optim.AdamW(p, 0.01)], ids=["sgd", "adamw"])
@pytest.mark.parametrize("read", ["never", "before backward", "after the step"])
def test_a_warm_training_step_makes_nothing(make, read):
    model, x, y = net()
    optimizer = make(model.parameters())

    def step():
        optimizer.zero_grad()
        loss = forno.nn.functional.cross_entropy(model(x), y)
        if read == "before backward": loss.item()
        loss.backward()
        optimizer.step()
        if read == "after the step": loss.item()
        flush()
    assert counted(step) == (0, 0, 0)


def test_fresh_numbers_and_shapes_in_turn_make_nothing():
    k = [0]

    def step():
        k[0] += 1
        x = forno.ones(3 + k[0] % 3) * (0.1 * k[0]) + k[0]
        return x.sum().item()
    assert counted(step, 9) == (0, 0, 0)


def test_accumulation_makes_nothing():
    w = forno.ones(4, requires_grad=True)

    def step():
        w.grad = None
        for _ in range(3): (w * 2).exp().sum().backward()
        w.grad.tolist()
    assert counted(step) == (0, 0, 0)


def test_parameters_stay_where_they_are():
    """Step after step in the same memory, if each step runs before the next begins (a window of several steps gives them new memory)."""
    model, x, y = net()
    optimizer = forno.optim.Adam(model.parameters(), 0.01)

    def step():
        loss = forno.nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        loss.item()
    for _ in range(2): step()
    where = [p.data_ptr() for p in model.parameters()]
    for _ in range(4): step()
    assert [p.data_ptr() for p in model.parameters()] == where


# ---------------------------------------------------------------- donation
def test_donation_never_changes_what_someone_holds():
    x = forno.arange(1000.0)
    x.tolist()
    kept, view = x, x[10:20]
    snapshot = x * 1
    flush()
    for k in range(4):
        x = x + 1                              # the name moves on, `kept` stays
        flush()
        snapshot += 1
        flush()
    assert kept[5].item() == 5 and view.tolist() == list(range(10, 20)) and x[5].item() == 9 and snapshot[5].item() == 9


def test_donation_and_saved_values():
    w = forno.ones(100, requires_grad=True)
    h = (w * 3).exp()
    flush()
    out = (h * h).sum()
    del h
    flush()
    out.backward()
    assert np.allclose(w.grad.numpy(), 6 * np.exp(6), rtol=1e-5)


# ---------------------------------------------------------------- when it runs
def test_flush_rules():
    s = LOCAL.run.stats
    x = forno.ones(3) + 1
    flush()
    for read in (lambda t: t.item(), lambda t: t.tolist(), lambda t: t.numpy(), bool, float, str, lambda t: t.data_ptr(), lambda t: t.nonzero()):
        y = x.sum() * 2
        before = s.flushes
        read(y)
        assert s.flushes > before
    before = s.flushes
    y = (x * 2).reshape(3, 1).expand(3, 4).t()
    y.shape, y.dtype, y.stride(), y.requires_grad, len(y), y._version
    assert s.flushes == before                 # metadata needs no values


def test_window_budget(monkeypatch):
    monkeypatch.setattr(flags, "WINDOW", 50)
    flush()
    s, x = LOCAL.run.stats, forno.ones(2)
    before = s.flushes
    for _ in range(400): x = x * 1.001
    assert 6 <= s.flushes - before <= 10 and len(LOCAL.run.nodes) <= 51
    assert np.allclose(x.numpy(), 1.001 ** 400, rtol=1e-4)


def test_byte_budget(monkeypatch):
    monkeypatch.setattr(state, "memory", 1 << 20)
    flush()
    s, x, kept = LOCAL.run.stats, forno.ones(1 << 14), []
    before = s.flushes
    for _ in range(40): kept.append(x + 1)
    assert s.flushes - before >= 3
    with pytest.raises(forno.core.errors.OutOfMemoryError): x.reshape(-1, 1) + x
    assert kept[-1][0].item() == 2


@pytest.fixture
def few_lines():
    bound = lines.lines_alive[1]
    lines.lines_alive[1] = 300
    yield
    lines.lines_alive[1] = bound


def test_trie_is_bounded(few_lines):
    flush()
    for k in range(1, 400):
        (forno.ones(k) * 2).sum().item()
        assert lines.lines_alive[0] < 400
    w = forno.ones(3, requires_grad=True)
    y = (w * 2).exp()
    y.tolist()
    for k in range(400, 700): (forno.ones(k) * 2).sum().item()
    y.sum().backward()                         # history outlives the trie that recorded it
    assert np.allclose(w.grad.numpy(), 2 * np.exp(2))


def test_poison_stays_and_spreads():
    i = forno.arange(2) + 5
    bad = forno.ones(3)[i]
    with pytest.raises(IndexError): bad.tolist()
    for use in (lambda: bad + 1, lambda: bad.tolist(), lambda: bad.sum().item(), lambda: print(bad)):
        with pytest.raises(IndexError): use()
    assert (forno.ones(2) + 1).tolist() == [2, 2]


# ---------------------------------------------------------------- FORNO_CHECK: rules of graphs
EXP, MUL = TABLE["exp"], TABLE["mul"]


def value(*shape, number=-1, view=None): return Value(None, (), None, forno.float32, shape, None, view, number)


def legal():
    x = value(3, number=0)
    return Graph((x,), (Value(EXP, (x,), None, forno.float32, (3,)),), frozenset(), {})


def test_checked_graphs():
    spec.verify(legal())
    x = value(3, number=0)
    wrong = [
        Value(EXP, (x,), None, forno.float32, (4,)),                                            # not the shape that follows
        Value(EXP, (x,), None, forno.int64, (3,)),                                              # nor the dtype
        Value(EXP, (value(3, number=0),), None, forno.float32, (3,)),                           # an input that isn't the graph's
        Value(mv.view, (x,), View((4,), (1,), 0), forno.float32, (4,)),                            # a view beyond its operand
        Value(mv.view, (x,), View((2,), (1,), -1), forno.float32, (2,)),
        Value(mv.put, (x, Value(EXP, (x,), None, forno.float32, (3,))), View((2,), (1,), 0), forno.float32, (3,)),
        Value(EXP, (x,), None, forno.float32, (3,), (2,)),                                      # strides with holes
        Value(MUL, (Value(MUL, (x, Scalar(0, int)), None, forno.float32, (3,)), Scalar(0, float)), None, forno.float32, (3,)),      # one number, two types
    ]
    for v in wrong:
        with pytest.raises(spec.GraphError): spec.verify(Graph((x,), (v,), frozenset(), {}))
    with pytest.raises(spec.GraphError): spec.verify(legal()._replace(donated=frozenset((3,))))
    with pytest.raises(spec.GraphError): spec.verify(legal()._replace(prefer={0: 0}))
    with pytest.raises(spec.GraphError): spec.fits(legal(), [forno.cpu.memory.empty(8)])


def test_the_check_runs(monkeypatch):
    monkeypatch.setattr(flags, "CHECK", 1)
    seen = []
    monkeypatch.setattr(spec, "verify", seen.append)
    (forno.ones(7, 3) * 2).cumsum(1).tolist()
    assert seen and isinstance(seen[0], Graph)
