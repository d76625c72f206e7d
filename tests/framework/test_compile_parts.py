"""forno.compile of functions that look at values: every way through them from memory, and never a way that the values don't say."""
import itertools
import random

import pytest

import forno
from forno import nn

GAIN = 2.0


pytestmark = pytest.mark.usefixtures("fresh")


def seen(r):
    """All that can be seen of a result."""
    if isinstance(r, forno.Tensor): return r.tolist(), r.dtype, r.shape, r.requires_grad, r._version
    return type(r), [seen(x) for x in (r.values() if isinstance(r, dict) else r)] if isinstance(r, (tuple, list, dict)) else repr(r)


def compared(f, inputs, least=1, prepare=lambda x: x):
    """f, compiled, gives what f gives for each of these arguments; the compiled function."""
    c = forno.compile(f)
    for args in inputs: assert seen(c(*map(prepare, args))) == seen(f(*map(prepare, args)))
    assert c.said >= least, c.explain()
    return c


def ends(*values): return [(forno.tensor([float(v)] * 3),) for v in values]


def bare(x): return x * 2 if x.sum() > 0 else x - 1


def nested(x):
    y = x * x + 1
    if y.sum() > 20:
        z = y.exp()
        if z.max() > 1e5: return z.log(), y
        return z
    return y - x, "small"


def loop(x):
    n = 0
    while x.sum() < 20 and n < 9:
        x, n = x * 2 + 1, n + 1
    return x, n


def integer(x): return sum([x * k for k in range(int(x.sum().to(forno.int64)) % 4)], x)


def looks_at_argument(x): return x + 1 if x[0] > 1 else x.clone()


def between(x):
    """Values of the first part are used in the third, and given back."""
    a, b = x + 1, x * 3
    if a.sum() > 0: c = b - a
    else: c = b + a
    if c.sum() > 4: return a, c, b[0]
    return c * a, [b, a]


def modes(x):
    with forno.no_grad():
        big = x.sum() > 3
        if big: x = x / 2
        if (x * 5).max() > 6: x = x - 1
    return x * 2


def helper(x): return x * GAIN
def helping(x): return x - 1 if x.sum() < 0 else helper(x)
def caught(x):
    try: return x + int(x.sum() / (x.sum() - 3))
    except (OverflowError, ValueError): return x


FUNCTIONS = [bare, nested, loop, integer, looks_at_argument, between, modes, helping, caught]
VALUES = (1, 1, 1, 1, 2, 2, 2, 2, -1, -1, -1, -1, 1, 2, -1, 5, 5, 5, 5, 1, 2, 5, -1, 0, 0, 0, 0, 1, 2, -1, 5, 0)


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_every_way(f): compared(f, ends(*VALUES), least=8)


@pytest.mark.parametrize("f", FUNCTIONS, ids=lambda f: f.__name__)
def test_every_way_in_a_window(f):
    """The call stands in the middle of a window, and what it gives is used in it."""
    compared(f, ends(*VALUES), 6, lambda x: x * 1 + 0)


def test_explain():
    c = compared(bare, ends(*[1] * 8, *[-1] * 8))
    assert "look 1 finds True" in c.explain() and "look 1 finds False" in c.explain()


def test_gradients_through_parts():
    w = forno.ones(3, requires_grad=True)

    def f(x):
        y = x * w
        if y.sum() > 3: y = y * w
        return y.sum()
    c = forno.compile(f)
    for k in (1, 1, 1, 1, 2, 2, 2, 2, 1, 2, 1, 2):
        grads = []
        for g in (f, c):
            w.grad = None
            g(forno.full((3,), float(k))).backward()
            grads.append(w.grad.tolist())
        assert grads[0] == grads[1]
    assert c.said >= 4, c.explain()


def test_worlds_of_ways():
    """What only one way sees counts there."""
    global GAIN
    x, y = forno.ones(3), -forno.ones(3)
    c = forno.compile(helping)
    try:
        for k, v in itertools.product(range(4), (x, y, x, x, y, y, x, y)):
            GAIN = 2.0 + k
            assert c(v).tolist() == helping(v).tolist()
    finally: GAIN = 2.0
    assert c.said >= 4, c.explain()


def other(x): return x * GAIN
def by_shape(x): return x * 3 if x.shape[0] > 3 else other(x)


def test_worlds_of_shapes():
    """Other arguments may take another way through the code, which sees other things."""
    global GAIN
    a, b = forno.rand(5), forno.ones(2)
    c = forno.compile(by_shape)
    for x in (a, a, a, a, b, b, b, b): assert c(x).tolist() == by_shape(x).tolist()
    try:
        GAIN = 7.0
        assert c(b).tolist() == [7.0, 7.0]
    finally: GAIN = 2.0


def test_floats_that_always_change():
    """Nobody says a part in vain for ever."""
    def f(x): return x + x.sum().item()
    c = forno.compile(f)
    for k in range(200): assert c(forno.full((2,), float(k // 2 if k < 20 else k))).tolist() == [3.0 * (k // 2 if k < 20 else k)] * 2
    assert c.watch_from > 100 and all(len(h.said) <= 8 for h in c.forked), c.explain()


def test_signs_of_zeros():
    def f(x): return x * 0 + (1 if str(x.sum().item()) == "0.0" else -1)
    compared(f, ends(*[0.0, 0.0, 0.0, 0.0, -0.0, -0.0, -0.0, -0.0, 0.0, -0.0]), least=2)


def test_effects_before_a_look():
    """What can't be taken back isn't said in vain."""
    count, steps = forno.zeros(()), []

    def written(x):
        count.add_(1)
        return x * 2 if x.sum() > 0 else x
    def drawn(x):
        y = x + forno.rand(3)
        return y if x.sum() > 0 else y * 2
    def collected(x):
        steps.append(1)
        return x * 2 if x.sum() > 0 else x
    for f in (written, drawn, collected):
        c = forno.compile(f)
        for k, v in enumerate((1, 1, 1, 1, -1, 1, -1, -1, 1)):
            forno.manual_seed(k)
            a = c(forno.full((3,), float(v)))
            forno.manual_seed(k)
            assert a.tolist() == f(forno.full((3,), float(v))).tolist()
        assert c.said == 0 and c.reasons, c.explain()
    assert count.item() == 18 and len(steps) == 18


def test_effects_behind_a_look():
    """A step that leaves out what isn't finite, and counts it."""
    results = []
    for compiled in (False, True):
        forno.manual_seed(0)
        net, skipped = nn.Linear(3, 2), forno.zeros(())
        opt = forno.optim.Adam(net.parameters(), 0.1)

        def step(x):
            if not forno.isfinite(x).all():
                skipped.add_(1)
                return None
            opt.zero_grad()
            loss = (net(x) ** 2).mean()
            loss.backward()
            opt.step()
            return loss.detach()
        f, out = forno.compile(step) if compiled else step, []
        for k in range(24):
            x = forno.randn(4, 3)
            if k % 5 in (3, 4): x[0, 0] = float("inf")
            out.append(seen(f(x)))
        results.append([out, [p.tolist() for p in net.parameters()], skipped.item(), [v.tolist() for s in opt.state.values() for v in s.values()]])
    assert results[0] == results[1] and f.said >= 6, f.explain()


def test_written_results_of_former_parts():
    def f(x):
        y = x * 2
        if y.sum() > 0: y.add_(1)
        return y, y * 3
    compared(f, ends(1, 1, 1, 1, -1, -1, -1, -1, 1, -1))


def test_fullgraph_refuses_looks():
    whole = forno.compile(bare, fullgraph=True)
    with pytest.raises(RuntimeError, match="looks at values"):
        for _ in range(4): whole(forno.ones(3))


def test_state_behind_looks():
    """A carried tensor beside a look."""
    results = []
    for compiled in (False, True):
        held = [forno.zeros(3)]

        def step(x):
            if x.sum() > 0: held[0] = held[0] * 0.5 + x
            else: held[0] = held[0] - x
            return held[0].sum()
        f = forno.compile(step) if compiled else step
        results.append([f(x).item() for x, in ends(*VALUES)] + held[0].tolist())
    assert results[0] == results[1]


def program(draw: random.Random):
    """A random function of two tensors that looks at values."""
    plan = [(draw.randrange(8), draw.uniform(-1, 1)) for _ in range(draw.randint(3, 9))]

    def f(x, y):
        kept = [x, y]
        for kind, c in plan:
            a, b = kept[-1], kept[-2]
            if kind == 0: kept.append(a * b + c)
            elif kind == 1: kept.append(a.sin() - b if a.sum() > c else b.cos())
            elif kind == 2 and bool((a > c).any()): kept.append(a[0] * b)
            elif kind == 3: kept.append(a * float((b.mean() > c).item()))
            elif kind == 4:
                with forno.no_grad(): kept.append(a * 2 if b.max() > c else a + b.amin())
            elif kind == 5: kept.append(a.expand_as(b) if int(a.sum().round().clamp(-2, 2)) > 0 else a + b)
            elif kind == 6: kept.append((a + 1).mul_(b))
            elif kind == 7 and x[0, 0].item() > 0: kept.append(x + a)
        return tuple(kept[2:]) or x
    return f


@pytest.mark.parametrize("seed", range(20))
def test_random_programs(seed):
    draw = random.Random(seed)
    f = program(draw)
    forno.manual_seed(seed)
    data = [(forno.tensor(forno.randn(2, 3).tolist()), forno.tensor(forno.randn(2, 3).tolist())) for _ in range(3)]
    if draw.random() < 0.3: data = [(x.requires_grad_(), y) for x, y in data]
    compared(f, [draw.choice(data) for _ in range(30)], least=0)
