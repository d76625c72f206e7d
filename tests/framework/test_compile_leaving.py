"""forno.compile of functions whose numbers only leave: they are said whole, and whatever else happens to a number is seen."""
import itertools
import math

import pytest

import forno
from forno import nn

F = nn.functional


pytestmark = pytest.mark.usefixtures("fresh")


def seen(r):
    if isinstance(r, forno.Tensor): return r.tolist(), r.dtype, r._version
    if isinstance(r, dict): return [(k, seen(v)) for k, v in r.items()]
    return (type(r), [seen(x) for x in r]) if isinstance(r, (tuple, list)) else (type(r), repr(r))


def both(make, calls=14, fullgraph=False):
    """What a function's calls give as it runs and compiled; the compiled function. `make`: the function and what it changes."""
    stories = []
    for compiled in (False, True):
        forno.manual_seed(0)
        f, state = make()
        c = forno.compile(f, fullgraph=fullgraph) if compiled else f
        stories.append([(seen(c(forno.tensor(forno.randn(4).tolist()) * 1)), seen(state())) for _ in range(calls)])
    assert stories[0] == stories[1], c.explain()
    return c


class Helper:
    def __init__(self): self.last, self.all = 0.0, []
    def loss(self, x): return x, x.sum().item()
    def through(self, x):
        r = self.loss(x * 2)
        return r, {"max": x.max().item()}
    def kept(self, x):
        self.last = x.sum().item()
        return self.last
    def collected(self, x):
        self.all.append(x.sum().item())
        return x
    @forno.no_grad()
    def quiet(self, x): return [x.mean().item(), x.tolist(), (x > 0).sum().item(), bool(1), None, "text"]


def bare(x): return x.sum().item()
def two(x): return x.sum().item(), x + 1, [x.max().item(), 3, True]
def same_number(x): return 3, (x > -100).sum().item() - 0, 4, 4
def small_numbers(x): return 4, (x > -100).sum().item(), (x > 0).any().item(), True


def variable(x):
    total = x.sum()
    total = total.item()
    y = x * 2 + len(str(x.shape))
    out = {"total": total, "again": (total, total)}
    return y, out


def unused(x):
    x.sum().item()
    return x + 1


def argument(x): return x[0].item(), x * 2
def chosen(x, flag=True): return x.sum().item() if flag else 0


def after_loops(x):
    total, most = x.sum().item(), None
    for k in range(3):
        most = x.max().item()
        if k > 5: x = x + 1
        while k > 0: x, k = x + 1, k - 1
    return total, x, most


def inside(x):
    s = x.sum().item()
    if len(x) != 4: raise ValueError("four")
    with forno.no_grad(): y = x * 2
    return s, y


LEAVES = {"chosen": chosen, "after loops": after_loops, "inside": inside, "bare": bare, "two": two, "small numbers": small_numbers, "variable": variable, "unused": unused, "helper": Helper().loss, "through": Helper().through, "quiet": Helper().quiet,
          "argument": argument}


@pytest.mark.parametrize("fullgraph", [False, True])
@pytest.mark.parametrize("name", LEAVES)
def test_numbers_that_only_leave(name, fullgraph):
    c = both(lambda: (LEAVES[name], lambda: 0), fullgraph=fullgraph)
    assert c.said >= 6 and not c.forked, c.explain()


def branches(x):
    s = x.sum().item()
    return x + 1 if s > 0 else x - 1
def arithmetic(x): return x.sum().item() + 1
def compared(x): return x.sum().item() > 0
def called(x): return round(x.sum().item(), 2)
def logarithm(x): return math.log(1 + abs(x.sum().item()))
def logarithm_of_tensor(x): return math.log(1 + float(x.abs().sum()))
def text(x): return f"{x.sum().item():.3f}"
def percent(x): return "%.2f" % x.sum().item()         # noqa: UP031
def key(x): return {x.sum().item(): 1}
def ordered(x): return sorted([x[0], x[1], x[2]], key=forno.Tensor.item)
def ordered_otherwise(x): return sorted([x[0], x[1], x[2]], key=lambda t: t.item())
def mapped(x): return list(map(forno.Tensor.item, [x[0], x[1]]))
def largest(x): return max([x[0], x[1]], key=lambda t: t.item())
def number_back(x): return x * x.sum().item()
def listed(x): return [t.item() + 1 for t in (x[0], x[1])]
def summed(x): return sum(x.tolist())
def indexed(x): return x.tolist()[1] * 2
def unpacked(x):
    a, b = (x.sum().item(), x.max().item())
    return a - b
def closed_over(x):
    s = x.sum().item()
    def g(): return s * 2
    return g()
def looked_up(x):
    s = x.sum().item()
    return dict(locals())["s"] * 2
def asserted(x):
    s = x.sum().item()
    if s < -1e9: raise ValueError(s)
    return s
def looped(x):
    out = 0.0
    for k in range(3):
        s = (x * k).sum().item()
        out += s
    return out
def kept_in_loop(x):
    last = None
    for k in range(3):
        if last is not None and last > 0: x = x + 1
        last = (x * k).sum().item()
    return last, x
def short_circuit(x): return x.sum().item() or 1.0
def starred(x): return {"a": x.sum().item(), "b": [*[x.max().item()], 1]}
def tried(x):
    s = 0.0
    try:
        s = x.sum().item()
        {}[0]
    except KeyError: return s * 2
    return s
def suppressed(x):
    import contextlib
    with contextlib.suppress(ZeroDivisionError):
        s = x.sum().item()
        len(x.shape) // 0
    return s


OTHERS = [branches, arithmetic, compared, called, logarithm, logarithm_of_tensor, text, percent, key, ordered, ordered_otherwise, mapped, largest, number_back, listed, summed, indexed,
          unpacked, closed_over, looked_up, asserted, looped, kept_in_loop, short_circuit, starred, tried, suppressed]


@pytest.mark.parametrize("f", OTHERS, ids=lambda f: f.__name__)
def test_numbers_that_are_used(f): both(lambda: (f, lambda: 0))


@pytest.mark.parametrize("name", ["kept", "collected"])
def test_numbers_that_stay(name):
    def make():
        h = Helper()
        return getattr(h, name), lambda: [h.last, *h.all]
    both(make)


def test_what_is_written_after_the_look():
    """The number is that of the moment."""
    def make():
        w = forno.ones(4)

        def f(x):
            y = x * 2
            before, old = y.sum().item(), w[0].item()
            y.add_(1)
            w.add_(x)
            return before, y, old
        return f, lambda: w
    assert both(make).said >= 4


def test_an_argument_that_is_written():
    def f(x):
        first = x.sum().item()
        x.mul_(2)
        return first
    both(lambda: (f, lambda: 0))


def training(compiled, look):
    forno.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
    opt = forno.optim.AdamW(net.parameters(), 0.01)

    def step(x, y):
        opt.zero_grad()
        out = net(x)
        loss = F.cross_entropy(out, y)
        loss.backward()
        opt.step()
        return look(loss, out, y)
    f = forno.compile(step) if compiled else step
    out = [f(forno.randn(8, 6), forno.randint(0, 3, (8,))) for _ in range(12)]
    return out + [p.tolist() for p in net.parameters()], f


def test_training_steps_that_return_numbers():
    looks = [lambda loss, out, y: loss.item(), lambda loss, out, y: (loss.item(), (out.argmax(1) == y).sum().item()), lambda loss, out, y: {"loss": loss.item(), "out": out.detach().tolist()}]

    def direct(compiled, look): return training(compiled, look)
    for look in looks:
        (a, _), (b, f) = (direct(compiled, look) for compiled in (False, True))
        assert repr(a) == repr(b), f.explain()


def test_a_training_step_returns_its_loss():
    results = []
    for compiled in (False, True):
        forno.manual_seed(0)
        net = nn.Linear(6, 3)
        opt = forno.optim.SGD(net.parameters(), 0.1)

        def step(x, y):
            opt.zero_grad()
            out = net(x)
            loss = F.cross_entropy(out, y)
            loss.backward()
            opt.step()
            return loss.item(), {"hits": (out.argmax(1) == y).sum().item()}
        f = forno.compile(step) if compiled else step
        results.append([f(forno.randn(8, 6), forno.randint(0, 3, (8,))) for _ in range(12)])
    assert results[0] == results[1] and f.said >= 6 and not f.forked, f.explain()


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Linear(4, 4)

    def forward(self, x):
        y = self.a(x)
        return y, y.sum().item()


@pytest.mark.parametrize("hook", [None, lambda m, args, out: (out[0] * 2, out[1] + 1.0)], ids=["plain", "hook"])
def test_modules(hook):
    forno.manual_seed(0)
    m = Net()
    if hook is not None: m.register_forward_hook(hook)
    c = forno.compile(m)
    for k in range(10):
        x = forno.tensor([1.0 * k, 2.0, 3.0, 4.0])
        (a, s), (b, t) = c(x), m(x)
        assert a.tolist() == b.tolist() and s == t
    assert hook is not None or c.compiled.said >= 4, c.compiled.explain()


def test_numbers_beside_looks():
    """Some leave, some decide."""
    def f(x):
        y = x * 2
        total = y.sum().item()
        if y.max() > 1: y = y + 1
        return total, y, y.min().item()
    c = both(lambda: (f, lambda: 0), calls=24)
    assert c.said >= 6 and c.forked, c.explain()


def test_errors_come_where_the_call_is():
    c = forno.compile(lambda t, i: t[i].sum().item())
    t = forno.arange(6.0)
    for i, _ in itertools.product((0, 5), range(5)): assert c(t, forno.tensor([i])) == i
    with pytest.raises(IndexError): c(t, forno.tensor([6]))
    assert c(t, forno.tensor([3])) == 3.0
