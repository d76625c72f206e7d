"""Modules and optimizers do what PyTorch's do, by its databases (ModuleInfo, OptimizerInfo): the most used in float32, everything in other types marked slow.

A module takes over PyTorch's parameters; results, the state after a call and gradients of inputs and parameters are compared. An optimizer takes seven
steps from the same parameters down the same bowls, in one group of parameters and in two, and goes on from its own state_dict.
"""
from __future__ import annotations

import warnings

import numpy as np
import pytest

pytest.importorskip("expecttest")
import torch  # noqa: E402
from torch.testing._internal.common_modules import module_db  # noqa: E402
from torch.testing._internal.common_optimizers import optim_db  # noqa: E402

import forno  # noqa: E402

from . import walk  # noqa: E402

MODULES = {info.name: info for info in module_db}
OPTIMIZERS = {info.optim_cls.__name__: info for info in optim_db}
USUAL = [f"nn.{n}" for n in ("Linear Conv2d BatchNorm2d LayerNorm ReLU GELU Softmax Dropout MaxPool2d Embedding CrossEntropyLoss MSELoss LSTM MultiheadAttention").split() if f"nn.{n}" in MODULES]


# ---------------------------------------------------------------- modules
def run(module, args, kwargs, source, seed=1):
    """(tensors that came out, gradients of inputs and parameters, state)."""
    source.manual_seed(seed)
    out = walk.flat(module(*args, **kwargs), source.Tensor)
    ends = [t for t in out if t.requires_grad]
    leaves = [t for t in walk.flat([*args, *kwargs.values()], source.Tensor) if t.requires_grad] + list(module.parameters())
    if not ends or not leaves: return out, [], module.state_dict()
    cotangents = [torch.randn(tuple(t.shape), generator=torch.Generator().manual_seed(7)).to(getattr(torch, str(t.dtype).split(".")[1])) for t in ends]
    if source is forno: cotangents = [walk.given(c) for c in cotangents]
    return out, source.autograd.grad(ends, leaves, cotangents, allow_unused=True), module.state_dict()


def tensors(state): return {k: v for k, v in state.items() if hasattr(v, "shape")}


def compare(info, sample, dtype, training):
    make, call = sample.constructor_input, sample.forward_input
    torch.manual_seed(3)
    given, named = walk.apart(call.args), walk.apart(call.kwargs)
    theirs = info.module_cls(*make.args, **make.kwargs).to(dtype).train(training)
    if info.is_lazy: theirs(*given, **named)
    start = {k: v.detach().clone() for k, v in tensors(theirs.state_dict()).items()}
    want = run(theirs, given, named, torch)
    theirs.load_state_dict(start, strict=False)
    again = run(theirs, given, named, torch, 2)[0]
    values = all(np.array_equal(walk.array(a), walk.array(b), equal_nan=True) for a, b in zip(want[0], again))

    mine = getattr(forno.nn, info.module_cls.__name__)(*walk.given(make.args), **walk.given(make.kwargs)).to(walk.given(dtype)).train(training)
    args, kwargs = walk.given(given), walk.given(named)
    if info.is_lazy: mine(*args, **kwargs)
    assert sorted(tensors(mine.state_dict())) == sorted(start)
    mine.load_state_dict({k: walk.given(v) for k, v in start.items()}, strict=False)
    got = run(mine, args, kwargs, forno)
    walk.result(want[0], got[0], info.name + " norm", values)
    for k, v in tensors(want[2]).items(): walk.same(v, got[2][k], info.name + " norm", 1.0, values)
    assert len(want[1]) == len(got[1])
    for a, b in zip(want[1], got[1]):
        if a is None or b is None: assert (a is None or not a.any()) and (b is None or not walk.array(b).any())
        else: walk.same(a, b, info.name + " norm", 5.0, values)


def module(name, dtype, limit):
    info, bad = MODULES[name], []
    for training in (True, False) if info.train_and_eval_differ else (True,):
        torch.manual_seed(0)
        samples = [s for s in info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=training) if s.forward_input is not None]
        for i, s in enumerate(walk.spread(samples, limit)):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try: compare(info, s, dtype, training)
                except Exception as error: bad.append(f"{'train' if training else 'eval'} {i} {s.desc}: {type(error).__name__}: {str(error)[:300]}")
    assert not bad, "\n".join(bad)


@pytest.mark.parametrize("name", USUAL)
def test_module(name): module(name, torch.float32, 3)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", sorted(MODULES))
def test_every_module(name, dtype):
    if dtype not in MODULES[name].dtypes: pytest.skip("PyTorch doesn't have it either")
    module(name, dtype, 0 if dtype is torch.float64 else 8)


# ---------------------------------------------------------------- optimizers
def steps(source, info, kwargs, groups, again) -> tuple[list, list]:
    """Parameters after every step, and what the state is called."""
    random = np.random.default_rng(0)
    start = [random.standard_normal((4, 3)).astype("f4"), random.standard_normal((3, 3)).astype("f4")]
    convert = torch.from_numpy if source is torch else forno.from_numpy
    params = [source.nn.Parameter(convert(a)) for a in start]
    cls = getattr(source.optim, info.optim_cls.__name__)
    def make(): return cls([{"params": params[:1], "lr": 0.02}, {"params": params[1:]}] if groups else params, **kwargs)
    optimizer, trace = make(), []
    for k in range(7):
        if not k or not info.step_requires_closure: grads = [convert(random.standard_normal(p.shape).astype("f4")) for p in params]
        def closure():
            for p, g in zip(params, grads): p.grad = p.detach() - g
            return sum(((p - g) ** 2).sum() for p, g in zip(params, grads)).detach() / 2
        if info.step_requires_closure: optimizer.step(closure)
        else: closure(); optimizer.step()
        if again and k == 3:
            state = optimizer.state_dict()
            optimizer = make()
            optimizer.load_state_dict(state)
        trace += [walk.array(p).copy() for p in params]
    return trace, sorted((i, sorted(s)) for i, s in optimizer.state_dict()["state"].items())


def optimizer(name, limit):
    info = OPTIMIZERS[name]
    for i, s in enumerate(walk.spread(info.optim_inputs_func("cpu"), limit)):
        for groups in (False, True) if info.supports_param_groups and not i else (False,):
            for again in (False, True) if not i and not info.step_requires_closure else (False,):
                want, names = steps(torch, info, s.kwargs, groups, again)
                got, mine = steps(forno, info, walk.given(s.kwargs), groups, again)
                for k, (a, b) in enumerate(zip(want, got)): np.testing.assert_allclose(b, a, rtol=2e-4, atol=2e-5, err_msg=f"{s.kwargs}, step {k // 2}")
                assert names == mine, s.kwargs


@pytest.mark.parametrize("name", sorted(n for n in OPTIMIZERS if n != "SparseAdam"))
def test_optimizer(name): optimizer(name, 3)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(n for n in OPTIMIZERS if n != "SparseAdam"))
def test_every_configuration(name): optimizer(name, 0)
