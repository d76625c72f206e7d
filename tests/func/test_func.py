"""Function transforms against PyTorch's: values, nesting, arguments, errors; and every function of PyTorch's database that most programs use."""
from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.utils._pytree as torch_tree

import forno
from forno import func
from forno.utils._pytree import tree_leaves

from ..conformance import walk
from . import samples

HERE = Path(__file__).parent
NAMES = {tier: (HERE.parent / "conformance" / f"{tier}.txt").read_text().split() for tier in ("t0", "t1")}
DATA = {"x": torch.randn(3, 4, generator=torch.Generator().manual_seed(0)), "w": torch.randn(4, 5, generator=torch.Generator().manual_seed(1)),
        "image": torch.randn(6, 2, 5, 5, generator=torch.Generator().manual_seed(2)), "kernel": torch.randn(3, 2, 3, 3, generator=torch.Generator().manual_seed(3)),
        "label": torch.tensor([0, 1, 3])}


class Side:
    """The same program for both frameworks: s.t the framework, s.f its func, s.x … the data."""

    def __init__(self, t, f):
        self.t, self.f = t, f
        for k, v in DATA.items(): setattr(self, k, v if t is torch else walk.given(v))


def agree(program):
    mine, theirs = tree_leaves(program(Side(forno, func))), torch_tree.tree_leaves(program(Side(torch, torch.func)))
    assert len(mine) == len(theirs)
    for a, b in zip(mine, theirs):
        assert tuple(a.shape) == tuple(b.shape) and str(a.dtype) == str(b.dtype) and a.requires_grad == b.requires_grad
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), 2e-4, 2e-5)


PROGRAMS = {
    "vmap of a product": lambda s: s.f.vmap(s.t.dot)(s.x, s.x),
    "vmap shares what it captures": lambda s: s.f.vmap(lambda a: (a @ s.w).softmax(-1))(s.x),
    "vmap of indexing": lambda s: s.f.vmap(lambda a: a[1:3].sum() + a[s.label].prod())(s.x),
    "in_dims and out_dims": lambda s: s.f.vmap(lambda a, b: (a * b, a.sum()), in_dims=(0, 1), out_dims=(1, 0))(s.x, s.x.t()),
    "dicts in, dicts out": lambda s: s.f.vmap(lambda d: {"a": d["x"] * 2, "b": (d["y"],)}, in_dims=({"x": 0, "y": None},))({"x": s.x, "y": s.w}),
    "chunks": lambda s: s.f.vmap(lambda a: a.cumsum(0), chunk_size=2)(s.x),
    "vmap of vmap": lambda s: s.f.vmap(lambda a: s.f.vmap(lambda b: (a * b).sum())(s.x))(s.x),
    "vmap of an in-place program": lambda s: s.f.vmap(lambda a: a.clone().mul_(2).add_(a))(s.x),
    "values that all examples share": lambda s: s.f.vmap(lambda a: a * (2 if s.x.sum().item() > -1e9 else 3))(s.x),
    "gradient": lambda s: s.f.grad(lambda a: (a.sin() * a).sum())(s.x),
    "gradient of a gradient": lambda s: s.f.grad(s.f.grad(lambda a: a.sin() * a))(s.x[0, 0]),
    "gradient and value": lambda s: s.f.grad_and_value(lambda a, b: (a * b).sum(), argnums=(0, 1))(s.x, s.x + 1),
    "gradient with aux": lambda s: s.f.grad(lambda a: ((a * a).sum(), a * 3), has_aux=True)(s.x),
    "gradients per example": lambda s: s.f.vmap(s.f.grad(lambda w, a: ((a @ w).tanh() ** 2).sum()), in_dims=(None, 0))(s.w, s.x),
    "convolution gradients per example": lambda s: s.f.vmap(s.f.grad(lambda k, a: s.t.nn.functional.conv2d(a[None], k).relu().sum()), in_dims=(None, 0))(s.kernel, s.image),
    "cross entropy per example": lambda s: s.f.vmap(s.f.grad(lambda a, y: s.t.nn.functional.cross_entropy(a[None], y[None])))(s.x, s.label),
    "gradient through a vmap": lambda s: s.f.grad(lambda a: s.f.vmap(lambda b: (b * b).sum())(a).prod())(s.x),
    "vjp": lambda s: s.f.vjp(lambda a, b: (a @ b).tanh(), s.x, s.w)[1](s.t.ones(3, 5)),
    "vjp of a tuple": lambda s: s.f.vjp(lambda a: (a.sin(), a.sum()), s.x)[1]((s.x, s.t.ones(()))),
    "jvp": lambda s: s.f.jvp(lambda a, b: (a @ b).tanh().softmax(1), (s.x, s.w), (s.x * 2, s.w + 1)),
    "jvp of a jvp": lambda s: s.f.jvp(lambda a: s.f.jvp(lambda b: b.sin() * b, (a,), (s.x,))[1], (s.x,), (s.x,)),
    "jvp of a gradient": lambda s: s.f.jvp(s.f.grad(lambda a: (a.sin() * a.flip(0)).sum()), (s.x,), (s.x,)),
    "jvp with aux": lambda s: s.f.jvp(lambda a: (a * a, a + 1), (s.x,), (s.x,), has_aux=True),
    "jacrev": lambda s: s.f.jacrev(lambda a: a.sin() @ s.w)(s.x),
    "jacrev of two arguments": lambda s: s.f.jacrev(lambda a, b: (a @ b, a.sum(0)), argnums=(0, 1))(s.x, s.w),
    "jacfwd": lambda s: s.f.jacfwd(lambda a: (a.sin() @ s.w).cumsum(0))(s.x),
    "jacfwd of two arguments": lambda s: s.f.jacfwd(lambda a, b: (a @ b, a.sum(0)), argnums=(0, 1))(s.x, s.w),
    "hessian": lambda s: s.f.hessian(lambda a: (a.sin() @ s.w).pow(3).sum())(s.x),
    "hessian per example": lambda s: s.f.vmap(s.f.hessian(lambda a: (a.sin() * a.flip(0)).sum()))(s.x),
    "jacobian in chunks": lambda s: s.f.jacrev(lambda a: a.sin() @ s.w, chunk_size=4)(s.x),
    "gradient under no_grad": lambda s: no_grad(s, lambda: s.f.grad(lambda a: (a * a).sum())(s.x)),
    "a leaf outside keeps its history": lambda s: s.f.grad(lambda a, w=s.w.requires_grad_(): (a * w[:, 0]).sum())(s.x[0]).sum(),
}


def no_grad(s, f):
    with s.t.no_grad(): return f()


@pytest.fixture(autouse=True)
def clean():
    yield
    for t in DATA.values(): t.requires_grad_(False) if t.is_floating_point() else None


@pytest.mark.parametrize("name", PROGRAMS)
def test_program(name): agree(PROGRAMS[name])


def test_linearize():
    x = walk.given(DATA["x"])
    value, push = func.linearize(lambda a: a.sin() * a, x)
    want = func.jvp(lambda a: a.sin() * a, (x,), (x,))
    np.testing.assert_array_equal(value.numpy(), want[0].numpy())
    np.testing.assert_array_equal(push(x).numpy(), want[1].numpy())


def test_ensemble():
    """Equal modules as one batch: stack_module_state and functional_call."""
    def run(t, f):
        t.manual_seed(0)
        models = [t.nn.Sequential(t.nn.Linear(4, 8), t.nn.Tanh(), t.nn.Linear(8, 2)) for _ in range(3)]
        params, buffers = f.stack_module_state(models)
        x = t.arange(20.0).reshape(5, 4) / 10
        return f.vmap(lambda p, b, x: f.functional_call(models[0], (p, b), (x,)), in_dims=(0, 0, None))(params, buffers, x), params["0.weight"]
    (a, pa), (b, pb) = run(forno, func), run(torch, torch.func)
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), 1e-5, 1e-6)
    assert pa.requires_grad == pb.requires_grad and pa.shape == tuple(pb.shape) and pa.is_leaf == pb.is_leaf


# ---------------------------------------------------------------- random numbers
def test_random_numbers_need_a_word():
    with pytest.raises(RuntimeError, match="randomness"): func.vmap(lambda a: a + forno.rand(4))(walk.given(DATA["x"]))


@pytest.mark.parametrize("randomness", ["same", "different"])
def test_random_numbers(randomness):
    def run(t, f, x):
        t.manual_seed(3)
        return f.vmap(lambda a: a + t.rand(4), randomness=randomness)(x)
    np.testing.assert_allclose(run(forno, func, walk.given(DATA["x"])).numpy(), run(torch, torch.func, DATA["x"]).numpy(), 1e-6)


# ---------------------------------------------------------------- errors
ERRORS = {
    "no value per example": lambda t, f, x: f.vmap(lambda a: a * a.sum().item())(x),
    "no branch per example": lambda t, f, x: f.vmap(lambda a: a if a.sum() > 0 else -a)(x),
    "sizes differ": lambda t, f, x: f.vmap(t.add)(x, x[:2]),
    "no axis": lambda t, f, x: f.vmap(t.sin, in_dims=3)(x),
    "only tensors out": lambda t, f, x: f.vmap(lambda a: 3)(x),
    "shapes depend on values": lambda t, f, x: f.vmap(t.nonzero)(x),
    "a batched output has an axis": lambda t, f, x: f.vmap(t.sin, out_dims=None)(x),
    "nothing to map": lambda t, f, x: f.vmap(t.sin, in_dims=None)(x),
    "grad wants a number": lambda t, f, x: f.grad(t.sin)(x),
    "argnums": lambda t, f, x: f.grad(t.sum, argnums=2)(x),
    "jvp wants tuples": lambda t, f, x: f.jvp(t.sin, x, x),
    "jvp wants equal shapes": lambda t, f, x: f.jvp(t.sin, (x,), (x[0],)),
    "randomness": lambda t, f, x: f.vmap(t.sin, randomness="maybe")(x),
}


@pytest.mark.parametrize("name", ERRORS)
def test_error(name):
    with pytest.raises(Exception) as theirs: ERRORS[name](torch, torch.func, DATA["x"])
    with pytest.raises(type(theirs.value)): ERRORS[name](forno, func, walk.given(DATA["x"]))


def test_what_leaks_says_so():
    kept = []
    func.vmap(lambda a: (kept.append(a * 2), a)[1])(walk.given(DATA["x"]))
    with pytest.raises(RuntimeError, match="inside of vmap"): kept[0].numpy()


def test_a_shared_tensor_may_leave():
    kept, x = [], walk.given(DATA["x"])
    func.vmap(lambda a: (kept.append(x.sum() * 2), a)[1])(x)
    np.testing.assert_allclose(kept[0].numpy(), float(DATA["x"].sum()) * 2, 1e-5)


# ---------------------------------------------------------------- PyTorch's database
NO_VMAP = {"item": "a number per example", "equal": "a number per example", "nonzero": "a shape per example", "index_put": "a mask: a shape per example",
           "repeat_interleave": "a shape per example", "nn.functional.embedding": "max_norm writes into the weight that all examples share",
           "nn.functional.batch_norm": "writes into statistics that all examples share"}
NO_GRADIENT = {"nn.functional.embedding": "PyTorch has no gradient for one of the samples", "nn.functional.batch_norm": "PyTorch refuses gradients of the statistics",
               "bfloat16": "NumPy has no such type to compare in", "nn.functional.binary_cross_entropy_with_logits": "PyTorch refuses gradients of the weights",
               "scatter": "PyTorch has no gradient for one of the samples", "linalg.norm": "the norm of zeros has no derivative"}


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES["t0"])
def test_vmap_of(name):
    if name in NO_VMAP or name in walk.UNDEFINED or name not in walk.INFOS: pytest.skip(NO_VMAP.get(name, "random or without a value"))
    samples.quiet(samples.mapped, name)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES["t0"])
def test_jvp_of(name):
    if name in NO_GRADIENT or name in walk.UNDEFINED or name not in walk.INFOS: pytest.skip(NO_GRADIENT.get(name, "random or without a value"))
    if not walk.INFOS[name].supports_autograd: pytest.skip("not differentiable")
    samples.quiet(samples.pushed, name)
