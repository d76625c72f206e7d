"""forno.compile of whole training steps: backward, optimizers, written tensors and drawn numbers from memory give what running gives, whatever changes between
two steps."""
import copy
import gc
import random
import types

import numpy as np
import pytest
import torch

import forno
from forno.cpu import memory
from forno.framework.engine import flush

OPTIMIZERS = {"SGD": dict(lr=0.1), "momentum": dict(lr=0.1, momentum=0.9, weight_decay=0.01), "nesterov": dict(lr=0.1, momentum=0.9, nesterov=True, maximize=True), "Adam": dict(lr=0.01),
              "decay": dict(lr=0.01, weight_decay=0.1), "amsgrad": dict(lr=0.01, amsgrad=True), "AdamW": dict(lr=0.01), "capturable": dict(lr=0.01, capturable=True), "NAdam": {}, "RAdam": {},
              "RMSprop": {}, "Adagrad": {}, "Adadelta": {}, "Adamax": {}, "Rprop": {}, "ASGD": {}}
CLASSES = {"momentum": "SGD", "nesterov": "SGD", "decay": "Adam", "amsgrad": "Adam", "capturable": "Adam"}
SAID = {"SGD", "momentum", "nesterov", "Adam", "decay", "amsgrad", "AdamW", "capturable", "Rprop", "RMSprop", "Adadelta"}


pytestmark = pytest.mark.usefixtures("fresh")


def network(lib):
    nn = lib.nn
    return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.4), nn.Linear(8, 3))


def optimizer(lib, name, params): return getattr(lib.optim, CLASSES.get(name, name))(params, **OPTIMIZERS[name])


class Training:
    """A model, its optimizer, and a step that may be compiled."""

    def __init__(self, lib, name="Adam", compiled=False):
        lib.manual_seed(0)
        self.lib, self.net, self.losses, self.compiled = lib, network(lib), [], None
        self.optimizer = optimizer(lib, name, self.net.parameters())
        net, opt, F = self.net, self.optimizer, lib.nn.functional

        def step(x, y):
            opt.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            opt.step()
            return loss.detach()
        self.step = step
        if compiled: self.step = self.compiled = forno.compile(step)

    def run(self, steps):
        for _ in range(steps):
            x, y = self.lib.randn(5, 6), self.lib.randint(0, 3, (5,))
            self.losses.append(self.step(x, y).item())
        return self

    def state(self): return [*self.losses, *[v.tolist() for v in self.net.state_dict().values()], [None if p.grad is None else p.grad.tolist() for p in self.net.parameters()],
                             [[v.tolist() if hasattr(v, "tolist") else v for v in s.values()] for s in self.optimizer.state_dict()["state"].values()], self.lib.rand(2).tolist()]


def both(name="Adam", change=None, steps=6):
    """A training that runs and one from memory, with something that changes after the first steps of both."""
    trainings = []
    for compiled in (False, True):
        t = Training(forno, name, compiled).run(steps)
        if change is not None:
            change(t)
            t.run(steps)
        trainings.append(t.state())
    assert trainings[0] == trainings[1], t.compiled.explain()
    return t.compiled


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name):
    c = both(name)
    assert (c.said >= 2) is (name in SAID), c.explain()


@pytest.mark.parametrize("name", sorted(SAID - {"capturable"}))       # which PyTorch has on GPUs only
def test_against_pytorch(name):
    ours, theirs = Training(forno, name, True).run(8), Training(torch, name).run(8)
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=2e-4)


def retained(t): t.old = [p.grad for p in t.net.parameters()]
def rate(t): t.optimizer.param_groups[0]["lr"] *= 0.3
def no_rate(t): t.optimizer.param_groups[0]["lr"] = 0.0
def betas(t): t.optimizer.param_groups[0]["betas"] = (0.5, 0.5)
def decay(t): t.optimizer.param_groups[0]["weight_decay"] = 0.3
def evaluation(t): t.net.eval()
def half_frozen(t): t.net[0].weight.requires_grad_(False)
def reloaded(t): t.optimizer.load_state_dict(copy.deepcopy(t.optimizer.state_dict()))
def weights(t): t.net.load_state_dict({k: v * 0.5 if v.is_floating_point() else v for k, v in t.net.state_dict().items()})
def hooked(t): t.net[0].weight.register_hook(lambda g: g * 2)
def module_hook(t): t.net[2].register_forward_hook(lambda m, args, out: out * 1.5)
def after_step(t): t.optimizer.register_step_post_hook(lambda o, args, kw: t.net[4].bias.data.fill_(0.25))
def seeded(t): forno.manual_seed(7)
def another(t): t.net[2] = forno.nn.Tanh()
def through_data(t): t.net[4].weight.data = t.net[4].weight.data * 2
def written(t): t.net[4].weight.data[0] = 1.0
def shared(t): t.memory = t.net[4].weight.detach().numpy()
def view_kept(t): t.row = t.net[4].weight[0]
def grown(t): t.optimizer.add_param_group({"params": [forno.nn.Parameter(forno.ones(2))], "lr": 0.5})
def no_gradient(t):
    for p in t.net.parameters(): p.grad = None
def own_gradient(t): t.net[4].bias.grad = forno.ones(3)
def grad_mode(t): t.step(forno.ones(5, 6), forno.zeros(5, dtype=forno.long)).item()
def batch_tail(t): t.step(forno.ones(2, 6), forno.zeros(2, dtype=forno.long)).item()
def attribute(t): t.net[3].p = 0.1
def counter_set(t): next(iter(t.optimizer.state.values()))["step"].fill_(40.0)
def state_gone(t): t.optimizer.state.pop(t.net[0].weight)


CHANGES = [retained, rate, no_rate, betas, decay, evaluation, half_frozen, reloaded, weights, hooked, module_hook, after_step, seeded, another, through_data, written, shared, view_kept, grown,
           no_gradient, own_gradient, grad_mode, batch_tail, attribute, counter_set, state_gone]


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_changes_between_steps(change): both("Adam", change)


def test_gradients_of_before_stay_the_users():
    t = Training(forno, compiled=True).run(5)
    old = [(p.grad, p.grad.tolist()) for p in t.net.parameters()]
    t.run(4)
    assert all(g.tolist() == v and g is not p.grad for (g, v), p in zip(old, t.net.parameters())) and t.compiled.said >= 3


def test_schedules():
    """A schedule outside of the step: its rates are the step's; the other options that it turns, too."""
    for make in (lambda o: forno.optim.lr_scheduler.ExponentialLR(o, 0.9), lambda o: forno.optim.lr_scheduler.OneCycleLR(o, 0.1, total_steps=40)):
        losses = []
        for compiled in (False, True):
            t = Training(forno, compiled=compiled)
            s = make(t.optimizer)
            for _ in range(12):
                t.run(1)
                s.step()
            losses.append(t.state())
        assert losses[0] == losses[1] and t.compiled.said >= 6, t.compiled.explain()


def accumulating(t, x, y):
    loss = t.lib.nn.functional.cross_entropy(t.net(x), y)
    loss.backward()
    return loss.detach()


def clipping(t, x, y):
    t.optimizer.zero_grad()
    loss = t.lib.nn.functional.cross_entropy(t.net(x), y)
    loss.backward()
    t.lib.nn.utils.clip_grad_norm_(t.net.parameters(), 0.1)
    t.optimizer.step()
    return loss.detach()


def zeroing(t, x, y):
    t.optimizer.zero_grad(set_to_none=False)
    loss = t.lib.nn.functional.cross_entropy(t.net(x), y)
    loss.backward()
    t.optimizer.step()
    return loss.detach()


def twice(t, x, y):
    t.optimizer.zero_grad()
    for part in (x, x * 2): loss = t.lib.nn.functional.cross_entropy(t.net(part), y); loss.backward()
    t.optimizer.step()
    t.optimizer.zero_grad()
    return loss.detach()


def penalty(t, x, y):
    t.optimizer.zero_grad()
    x = x.clone().requires_grad_()
    out = t.lib.nn.functional.cross_entropy(t.net(x), y)
    g, = t.lib.autograd.grad(out, x, create_graph=True)
    loss = out + (g * g).sum()
    loss.backward()
    t.optimizer.step()
    return loss.detach()


def by_hand(t, x, y):
    """Gradients that the step reads and takes away itself."""
    loss = t.lib.nn.functional.cross_entropy(t.net(x), y)
    loss.backward()
    with t.lib.no_grad():
        for p in t.net.parameters():
            p -= 0.1 * p.grad
            p.grad = None
    return loss.detach()


def graph_returned(t, x, y):
    t.optimizer.zero_grad()
    loss = t.lib.nn.functional.cross_entropy(t.net(x), y)
    loss.backward(retain_graph=True)
    t.optimizer.step()
    return loss


def average(t, x, y):
    """An average of the weights, kept beside them."""
    loss = clipping(t, x, y)
    with t.lib.no_grad():
        for a, p in zip(t.average, t.net.parameters()): a.lerp_(p, 0.1)
    return loss


STEPS = [accumulating, clipping, zeroing, twice, penalty, by_hand, graph_returned, average]


class Various(Training):
    """A training whose step is another."""

    def __init__(self, name, compiled, step):
        super().__init__(forno, name)
        self.average = [p.detach().clone() for p in self.net.parameters()]
        parts = types.SimpleNamespace(lib=forno, net=self.net, optimizer=self.optimizer, average=self.average)
        self.step = lambda x, y: step(parts, x, y)
        if compiled: self.step = self.compiled = forno.compile(self.step)

    def state(self): return [*super().state(), [a.tolist() for a in self.average]]


@pytest.mark.parametrize("step", STEPS, ids=lambda f: f.__name__)
def test_steps_of_other_kinds(step):
    states = []
    for compiled in (False, True):
        t = Various("Adam", compiled, step).run(9)
        states.append(t.state())
    assert states[0] == states[1], t.compiled.explain()
    if step is not penalty: assert t.compiled.said >= 4, t.compiled.explain()


def random_story(seed: int, compiled: bool):
    """A random step, optimizer and changes between steps; everything that can be seen at the end of each part."""
    draw = random.Random(seed)
    name, step = draw.choice(list(OPTIMIZERS)), draw.choice(STEPS)
    t, seen = Various(name, compiled, step), []
    for _ in range(draw.randint(1, 6)):
        change, steps = draw.choice(CHANGES), draw.randint(0, 7)
        for f in (lambda: change(t), lambda: t.run(steps)):
            try: f()
            except (RuntimeError, KeyError, StopIteration, ValueError, TypeError) as error: seen.append(type(error))
        seen.append(t.state())
    return seen, t


@pytest.mark.parametrize("seed", range(12))
def test_random_stories(seed):
    stories = []
    for compiled in (False, True):
        flush()
        stories.append(random_story(seed, compiled)[0])
    assert stories[0] == stories[1]


@pytest.mark.parametrize("name", ["SGD", "momentum", "nesterov", "Adam", "decay", "amsgrad", "AdamW", "capturable"])
def test_rates_of_other_types(name):
    """Weights of every type in one optimizer: all of its options that vary reach all of them."""
    states = []
    for compiled in (False, True):
        forno.manual_seed(0)
        weights = [forno.randn(3, dtype=t).requires_grad_() for t in (forno.float32, forno.float64, forno.complex64, forno.bfloat16, forno.float16)]
        opt = optimizer(forno, name, weights)

        def step(x):
            opt.zero_grad()
            sum(((w * x).abs() ** 2).sum().float() for w in weights).backward()
            opt.step()
        f, seen = forno.compile(step) if compiled else step, []
        for k in range(12):
            for group in opt.param_groups:
                group["lr"] *= 0.9
                if "betas" in group: group["betas"] = (group["betas"][0] * 0.99, group["betas"][1] * 0.99)
                elif group["momentum"]: group["momentum"] *= 0.95
            f(forno.randn(3))
            seen.append([w.tolist() for w in weights])
        states.append(seen)
    assert states[0] == states[1] and (f.said >= 4 or name == "capturable"), f.explain()


def test_several_steps_in_one():
    """Of one optimizer."""
    losses = []
    for compiled in (False, True):
        t = Training(forno)
        inner = t.step

        def twice(x, y):
            inner(x, y)
            return inner(x, y)
        t.step = forno.compile(twice) if compiled else twice
        losses.append(t.run(8).state())
    assert losses[0] == losses[1]


def test_the_optimizer_alone():
    """torch.compile(optimizer.step), and of a function around it."""
    states = []
    for form in (lambda f: f, forno.compile, lambda f: forno.compile(lambda: f())):
        t = Training(forno, "AdamW")
        step = form(t.optimizer.step)
        for _ in range(8):
            t.optimizer.zero_grad()
            loss = forno.nn.functional.cross_entropy(t.net(forno.randn(5, 6)), forno.randint(0, 3, (5,)))
            loss.backward()
            step()
            t.losses.append(loss.item())
        states.append(t.state())
        if form is not None and hasattr(step, "said"): assert step.said >= 3, step.explain()
    assert states[0] == states[1] == states[2]


def test_two_networks_against_each_other():
    """A generator and a discriminator with an optimizer each, in one step."""
    states = []
    for compiled in (False, True):
        forno.manual_seed(0)
        F = forno.nn.functional
        g, d = forno.nn.Sequential(forno.nn.Linear(3, 6), forno.nn.Tanh()), forno.nn.Sequential(forno.nn.Linear(6, 4), forno.nn.LeakyReLU(0.2), forno.nn.Linear(4, 1))
        og, od = forno.optim.Adam(g.parameters(), 0.01, betas=(0.5, 0.5)), forno.optim.Adam(d.parameters(), 0.02)

        def step(real):
            fake = g(forno.randn(4, 3))
            od.zero_grad()
            ld = F.softplus(-d(real)).mean() + F.softplus(d(fake.detach())).mean()
            ld.backward()
            od.step()
            og.zero_grad()
            lg = F.softplus(-d(fake)).mean()
            lg.backward()
            og.step()
            return ld.detach(), lg.detach()
        f = forno.compile(step) if compiled else step
        losses = []
        for k in range(10):
            if k == 6: og.param_groups[0]["betas"] = (0.5, 0.9)
            losses.append([v.item() for v in f(forno.randn(4, 6))])
        states.append((losses, [p.tolist() for p in (*g.parameters(), *d.parameters())], [p.grad.tolist() for p in d.parameters()]))
    assert states[0] == states[1] and f.said >= 5, f.explain()


def test_rates_that_the_step_sets_itself():
    """A step that writes to its optimizer's options: what it finds there counts, and what it leaves."""
    states = []
    for compiled in (False, True):
        t = Training(forno, "SGD")
        opt, inner = t.optimizer, t.step

        def step(x, y):
            for group in opt.param_groups: group["lr"] = 0.1 if group["lr"] > 0.05 else 0.01
            return inner(x, y)
        f = forno.compile(step) if compiled else step
        for k in range(12):
            if k == 5: opt.param_groups[0]["lr"] = 0.02
            if k == 9: opt.param_groups[0]["lr"] = 0.5
            t.losses.append(f(forno.randn(5, 6), forno.randint(0, 3, (5,))).item())
        states.append(t.state())
    assert states[0] == states[1]


def test_arguments_that_are_written():
    """Tensors that are given and written to; one tensor in two places is another call."""
    @forno.compile
    def f(a, b):
        a.add_(b)
        b.mul_(2)
        return a.sum()
    for k in range(8):
        a, b = forno.full((3,), float(k)), forno.ones(3)
        assert f(a, b).item() == 3 * (k + 1) and a.tolist() == [k + 1.0] * 3 and b.tolist() == [2.0] * 3 and a._version == 1
    assert f.said >= 4, f.explain()
    for _ in range(4):
        a = forno.ones(3)
        f(a, a)
        assert a.tolist() == [4.0] * 3
    for _ in range(3):
        a = forno.ones(2, 3)
        f(a[0], a[1])
        assert a.tolist() == [[2.0] * 3, [2.0] * 3]
    memory = np.ones(3, np.float32)
    f(forno.from_numpy(memory), forno.ones(3))
    assert memory.tolist() == [2.0] * 3


def stateful():
    """Steps that keep tensors from call to call: (step, what they keep) each, by where they keep it."""
    def in_a_list():
        held = [(forno.zeros(3), forno.ones(3))]

        def step(x):
            a, b = held[0]
            held[0] = (a.detach() + x, b * 0.5)
            return (held[0][0] * held[0][1]).sum()
        return step, lambda: held[0]

    def in_an_attribute():
        class Average:
            def __init__(self): self.value = forno.zeros(3)

            def step(self, x):
                self.value = self.value * 0.9 + x.detach() * 0.1
                return self.value.sum()
        a = Average()
        return a.step, lambda: [a.value]

    def in_a_variable():
        last = forno.zeros(3)

        def step(x):
            nonlocal last
            y, last = x - last, x * 1.0
            return y
        return step, lambda: [last]

    def given_back():
        held = {"h": forno.zeros(3)}

        def step(x):
            held["h"] = held["h"] + x
            return held["h"]
        return step, lambda: [held["h"]]
    return {f.__name__: f for f in (in_a_list, in_an_attribute, in_a_variable, given_back)}


@pytest.mark.parametrize("where", stateful())
def test_state_that_a_step_carries(where):
    results = []
    for compiled in (False, True):
        forno.manual_seed(0)
        step, state = stateful()[where]()
        f, seen = forno.compile(step) if compiled else step, []
        for k in range(14):
            r = f(forno.randn(3))
            seen.append((r.tolist(), [t.tolist() for t in state()]))
            if k == 5: state()[0].add_(1)
        results.append(seen)
    assert results[0] == results[1], f.explain()
    assert (f.said >= 3) is (where != "given_back"), f.explain()


def test_what_a_step_replaces_goes_at_once():
    """A call that is watched keeps no value of the step before, also where nobody collects cycles."""
    forno.manual_seed(0)
    net, x = forno.nn.Linear(256, 256), forno.randn(64, 256)
    optimizer = forno.optim.SGD(net.parameters(), 0.01, momentum=0.9)

    @forno.compile
    def step():
        optimizer.zero_grad()
        loss = net(x).square().mean()
        loss.backward()
        optimizer.step()
        return loss.detach()
    gc.collect()
    gc.disable()
    try:
        live = []
        for _ in range(7):
            float(step())
            live.append(memory.stats()["live"])
    finally: gc.enable()
    assert max(live[2:]) - min(live[2:]) < net.weight.nbytes, live
