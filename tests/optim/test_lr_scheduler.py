"""Schedules step for step against PyTorch: rates, momenta, state dicts, warnings."""
import copy
import warnings

import pytest
import torch

import forno.optim as fo
from forno.framework import api as ft

L, T = fo.lr_scheduler, torch.optim.lr_scheduler
CASES = {
    "lambda": lambda m, o: m.LambdaLR(o, lambda e: 0.9 ** e),
    "lambda two": lambda m, o: m.LambdaLR(o, [lambda e: 0.9 ** e, lambda e: 1 / (e + 1)]),
    "multiplicative": lambda m, o: m.MultiplicativeLR(o, lambda e: 0.95),
    "step": lambda m, o: m.StepLR(o, 3, 0.5),
    "multistep": lambda m, o: m.MultiStepLR(o, [2, 5, 5, 9], 0.5),
    "constant": lambda m, o: m.ConstantLR(o, 0.3, 4),
    "linear": lambda m, o: m.LinearLR(o, 0.2, 0.9, 6),
    "exponential": lambda m, o: m.ExponentialLR(o, 0.8),
    "polynomial": lambda m, o: m.PolynomialLR(o, 7, 2.0),
    "cosine": lambda m, o: m.CosineAnnealingLR(o, 5, 0.01),
    "restarts": lambda m, o: m.CosineAnnealingWarmRestarts(o, 3, 2, 0.01),
    "restarts same": lambda m, o: m.CosineAnnealingWarmRestarts(o, 4),
    "cyclic": lambda m, o: m.CyclicLR(o, 0.01, 0.1, 4),
    "cyclic 2": lambda m, o: m.CyclicLR(o, [0.01, 0.02], [0.1, 0.3], 3, 5, mode="triangular2"),
    "cyclic exp": lambda m, o: m.CyclicLR(o, 0.01, 0.1, 3, mode="exp_range", gamma=0.9, cycle_momentum=False),
    "cyclic own": lambda m, o: m.CyclicLR(o, 0.01, 0.1, 3, scale_fn=lambda x: 1 / (5 ** (x * 0.01)), scale_mode="iterations"),
    "one cycle": lambda m, o: m.OneCycleLR(o, 0.3, total_steps=16),
    "one cycle linear": lambda m, o: m.OneCycleLR(o, [0.3, 0.1], epochs=4, steps_per_epoch=4, anneal_strategy="linear", three_phase=True),
    "sequential": lambda m, o: m.SequentialLR(o, [m.ConstantLR(o, 0.1, 3), m.ExponentialLR(o, 0.9), m.StepLR(o, 2)], [3, 8]),
    "chained": lambda m, o: m.ChainedScheduler([m.ConstantLR(o, 0.1, 3), m.ExponentialLR(o, 0.9)], optimizer=o),
    "chained linear cosine": lambda m, o: m.ChainedScheduler([m.LinearLR(o, 0.1, total_iters=3), m.CosineAnnealingLR(o, 6)]),
}


def pair(optimizer="SGD", **options):
    def make(lib, tensor):
        params = [{"params": [tensor(2).requires_grad_()], "lr": 0.2}, {"params": [tensor(1).requires_grad_()]}]
        return getattr(lib, optimizer)(params, lr=0.1, **options)
    return make(fo, ft.zeros), make(torch.optim, torch.zeros)


def rates(opt):
    return [(g["lr"], g.get("momentum"), g.get("betas"), g.get("initial_lr")) for g in opt.param_groups]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_fifteen_steps(name, optimizer):
    a, b = pair(optimizer, **({"momentum": 0.9} if optimizer == "SGD" else {}))
    s, t = CASES[name](L, a), CASES[name](T, b)
    for _ in range(15):
        assert rates(a) == rates(b)
        assert s.get_last_lr() == t.get_last_lr()
        a.step()
        b.step()
        s.step()
        t.step()
    mine, theirs = s.state_dict(), t.state_dict()
    assert set(theirs) - set(mine) <= {"_get_lr_called_within_step", "_is_initial"} | {"_scale_fn_ref"}
    common = {k for k in theirs if k in mine and not k.startswith("_get") and k not in ("_schedulers",)}
    assert {k: mine[k] for k in common} == {k: theirs[k] for k in common}


@pytest.mark.parametrize("name", CASES)
def test_resume_from_torch(name):
    """A torch schedule's state dict continues in forno."""
    a, b = pair(momentum=0.9)
    t = CASES[name](T, b)
    for _ in range(6):
        b.step()
        t.step()
    saved, groups = copy.deepcopy(t.state_dict()), b.state_dict()["param_groups"]
    s = CASES[name](L, a)
    a.load_state_dict({"state": {}, "param_groups": groups})
    s.load_state_dict(saved)
    for _ in range(6):
        a.step()
        b.step()
        s.step()
        t.step()
        assert rates(a) == rates(b)


@pytest.mark.parametrize("options", [{}, dict(mode="max", factor=0.5, patience=1, cooldown=2), dict(threshold_mode="abs", patience=0, threshold=0.5),
                                     dict(min_lr=[0.05, 0.01], patience=0, mode="max", threshold_mode="abs")])
def test_plateau(options):
    a, b = pair()
    s, t = L.ReduceLROnPlateau(a, **options), T.ReduceLROnPlateau(b, **options)
    for metric in [5, 4, 4, 4.2, 4.1, 3, 3, 3, 3, 3, 2.9, 2.95, 3, 4, 5, 4, 3, 3, 3, 3, 3, 3, 3]:
        s.step(metric)
        t.step(metric)
        assert rates(a) == rates(b) and s.num_bad_epochs == t.num_bad_epochs
    assert s.state_dict() == t.state_dict()


@pytest.mark.parametrize("name", ["step", "multistep", "constant", "linear", "exponential", "polynomial", "cosine", "restarts"])
def test_epoch_argument(name):
    a, b = pair()
    s, t = CASES[name](L, a), CASES[name](T, b)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for epoch in (0, 3, 4, 11, 2):
            s.step(epoch)
            t.step(epoch)
            assert rates(a) == rates(b)


def test_warnings_on_order():
    a, _ = pair()
    s = L.StepLR(a, 2)
    with pytest.warns(UserWarning, match="before `optimizer.step"): s.step()
    a, _ = pair()
    s = L.StepLR(a, 2)
    a.step()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        s.step()
    with pytest.warns(UserWarning, match="get_last_lr"): s.get_lr()
    with pytest.warns(UserWarning, match="epoch parameter"): s.step(3)
    a, _ = pair()
    s = L.StepLR(a, 2)
    a.step = lambda: None
    with pytest.warns(UserWarning, match="overridden"): s.step()


def test_errors():
    a, _ = pair()
    other, _ = pair()
    with pytest.raises(TypeError, match="is not an Optimizer"): L.StepLR(3, 2)
    with pytest.raises(KeyError, match="initial_lr"): L.StepLR(a, 2, last_epoch=3)
    with pytest.raises(ValueError, match="Expected 2 lr_lambdas"): L.LambdaLR(a, [lambda e: e])
    with pytest.raises(ValueError, match="between 0 and 1"): L.ConstantLR(a, 2.0)
    with pytest.raises(ValueError, match="Factor should be"): L.ReduceLROnPlateau(a, factor=1.0)
    with pytest.raises(ValueError, match="same optimizer"): L.SequentialLR(a, [L.StepLR(a, 2), L.StepLR(other, 2)], [3])
    with pytest.raises(ValueError, match="milestone"): L.SequentialLR(a, [L.StepLR(a, 2), L.StepLR(a, 2)], [3, 4])
    with pytest.raises(ValueError, match="ReduceLROnPlateau"): L.ChainedScheduler([L.ReduceLROnPlateau(a)])
    with pytest.raises(ValueError, match="You must define either"): L.OneCycleLR(a, 0.1)
    with pytest.raises(ValueError, match="momentum or beta1"): L.OneCycleLR(fo.Adagrad([ft.zeros(1).requires_grad_()]), 0.1, total_steps=3)
    s = L.OneCycleLR(pair("Adam")[0], 0.1, total_steps=3)
    s.optimizer.step()
    for _ in range(3): s.step()
    with pytest.raises(ValueError, match="Tried to step 4 times"): s.step()


def test_tensor_rate_is_written_in_place():
    p = ft.zeros(1).requires_grad_()
    lr = ft.tensor(0.5)
    opt = fo.SGD([p], lr=lr)
    s = L.ExponentialLR(opt, 0.5)
    opt.step()
    s.step()
    assert opt.param_groups[0]["lr"] is lr and lr.item() == 0.25
