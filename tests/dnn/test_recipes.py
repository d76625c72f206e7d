"""Composite rows against PyTorch: values, dtypes, gradients to second order, from their expansion into other rows."""
import math

import pytest
import torch
import torch.nn.functional as F

from forno.core.op import TABLE
from forno.dnn.norm import NormSpec
from forno.dnn.recipes import Norm, Spread

from .duck import Duck, from_torch, grads, to_torch


def rand(*shape): return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def with_zeros(t):
    t.view(-1)[::5] = 0
    return t


def last(axes, n): return tuple(range(-n, 0)) if axes is None else axes


def layer(x, w=None, b=None): return F.layer_norm(x, x.shape[-2:], w, b, 1e-5)
def batch(x, w=None, b=None): return F.batch_norm(x, None, None, w, b, True)
def group(x, w=None, b=None): return F.group_norm(x, 2, w, b)
def given(x, m, v, w=None, b=None): return F.batch_norm(x, m, v, w, b)


X = rand(3, 4, 5)
CASES = {
    "mean": ("mean", (0, 2), [X], lambda x: x.mean((0, 2), True)),
    "mean none": ("mean", (), [X], lambda x: x),
    "var": ("var", Spread((1, 2)), [X], lambda x: x.var((1, 2), keepdim=True)),
    "var biased": ("var", Spread((0,), 0), [X], lambda x: x.var(0, correction=0, keepdim=True)),
    "std": ("std", Spread((0, 1, 2)), [X], lambda x: x.std((0, 1, 2), keepdim=True)),
    "var of complex": ("var", Spread((1,)), [torch.complex(X, X.flip(0))], lambda x: x.var(1, keepdim=True)),
    **{f"norm {p}": ("norm", Norm(p, (1, 2)), [with_zeros(X.clone())], lambda x, p=p: torch.linalg.vector_norm(x, p, (1, 2), True))
       for p in (0, 0.5, 1, 1.5, 2, 3, math.inf, -math.inf)},
    "softmax": ("softmax", 1, [X], lambda x: x.softmax(1)),
    "softmax 0-d": ("softmax", 0, [rand()], lambda x: x.softmax(0)),
    "log_softmax": ("log_softmax", 2, [X], lambda x: x.log_softmax(2)),
    "logsumexp": ("logsumexp", (0, 2), [X], lambda x: x.logsumexp((0, 2), True)),
    **{f"power {n}": ("power", n, [X.abs() + 0.1], lambda x, n=n: x ** n) for n in (0, 1, 2, 3, 0.5, -0.5, -1, -2, 1.7, -3)},
    "power of negative": ("power", 5, [with_zeros(X.clone())], lambda x: x ** 5),
    "layer_norm": ("layer_norm", NormSpec((1, 2)), [X], layer),
    "layer_norm w": ("layer_norm", NormSpec((1, 2), weight=True), [X, rand(4, 5)], layer),
    "layer_norm wb": ("layer_norm", NormSpec((1, 2), weight=True, bias=True), [X, rand(4, 5), rand(4, 5) + 1], layer),
    "layer_norm b": ("layer_norm", NormSpec((1, 2), bias=True), [X, rand(4, 5)], lambda x, b: layer(x, None, b)),
    "batch_norm": ("batch_norm", NormSpec((0, 2)), [X], batch),
    "batch_norm wb": ("batch_norm", NormSpec((0, 2), weight=True, bias=True), [X, rand(4), rand(4) + 1], batch),
    "batch_norm 2-d": ("batch_norm", NormSpec((0,), weight=True, bias=True), [rand(6, 4), rand(4), rand(4) + 1], batch),
    "batch_norm 4-d": ("batch_norm", NormSpec((0, 2, 3), weight=True, bias=True), [rand(2, 4, 3, 2), rand(4), rand(4) + 1], batch),
    "group_norm": ("group_norm", NormSpec(groups=2), [X], group),
    "group_norm wb": ("group_norm", NormSpec(groups=2, weight=True, bias=True), [X, rand(4), rand(4) + 1], group),
    "batch_norm_given": ("batch_norm_given", NormSpec((0, 2)), [X, rand(4).detach(), rand(4).abs()], given),
    "batch_norm_given wb": ("batch_norm_given", NormSpec((0, 2), weight=True, bias=True), [X, rand(4), rand(4).abs(), rand(4) + 1, rand(4)], given),
    "rms_norm": ("rms_norm", NormSpec((2,)), [X], lambda x: F.rms_norm(x, (5,), None, 1e-5)),
    "rms_norm w": ("rms_norm", NormSpec((1, 2), weight=True), [X, rand(4, 5)], lambda x, w: F.rms_norm(x, (4, 5), w, 1e-5)),
}
FIXED = {"batch_norm_given": (1, 2)}


@pytest.mark.parametrize("case", CASES)
def test_gradients(case):
    name, attr, ins, f = CASES[case]
    ins = [t.detach().clone().requires_grad_(i not in FIXED.get(name, ())) for i, t in enumerate(ins)]
    wants = [t for t in ins if t.requires_grad]
    y = f(*ins)
    ducks = [from_torch(t) for t in ins]
    out = Duck.record(TABLE[name], *ducks, attr=attr)
    torch.testing.assert_close(to_torch(out), y.detach(), rtol=1e-10, atol=1e-10)
    cot = torch.randn_like(y).requires_grad_()
    g1 = torch.autograd.grad(y, wants, cot, create_graph=True, allow_unused=True)
    if any(g is None for g in g1): return                          # PyTorch has no gradient here
    c = from_torch(cot)
    want_ducks = [d for d, t in zip(ducks, ins) if t.requires_grad]
    h1 = grads([out], [c], want_ducks)
    for a, b in zip(g1, h1): torch.testing.assert_close(to_torch(b), a.detach(), rtol=1e-8, atol=1e-8, equal_nan=True)
    used = [i for i, g in enumerate(g1) if g.requires_grad]
    if not used or case in ("layer_norm b", "norm 0", "norm inf", "norm -inf", "norm 0.5", "norm 1.5"): return
    cots = [torch.randn_like(g1[i]) for i in used]
    g2 = torch.autograd.grad([g1[i] for i in used], [*wants, cot], cots, allow_unused=True)
    h2 = grads([h1[i] for i in used], [from_torch(t) for t in cots], [*want_ducks, c])
    for a, b in zip(g2, h2):
        a = torch.zeros(()) if a is None else a
        b = torch.zeros((), dtype=a.dtype) if b is None else to_torch(b)
        torch.testing.assert_close(*torch.broadcast_tensors(b, a.to(b.dtype)), rtol=1e-7, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("case", [c for c in CASES if "complex" not in c])
def test_dtypes(case, dtype):
    name, attr, ins, f = CASES[case]
    ins = [t.to(dtype) for t in ins]
    y = f(*ins)
    out = Duck.record(TABLE[name], *map(from_torch, ins), attr=attr)
    assert out.dtype.name == str(y.dtype)[6:]
    tolerance = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    torch.testing.assert_close(to_torch(out), y, rtol=tolerance, atol=tolerance)


def test_edges():
    inf = torch.tensor([[-math.inf, -math.inf], [math.inf, 1.0], [1.0, 2.0]])
    for name, attr, f in (("softmax", 1, lambda x: x.softmax(1)), ("log_softmax", 1, lambda x: x.log_softmax(1)),
                          ("logsumexp", (1,), lambda x: x.logsumexp(1, True)),
                          ("var", Spread((1,), 2), lambda x: x.var(1, correction=2, keepdim=True))):
        torch.testing.assert_close(to_torch(Duck.record(TABLE[name], from_torch(inf), attr=attr)), f(inf), equal_nan=True)
    ints = torch.tensor([[1, 2], [3, 4]])
    torch.testing.assert_close(to_torch(Duck.record(TABLE["logsumexp"], from_torch(ints), attr=(1,))), ints.logsumexp(1, True))
    for name, attr in (("mean", (0,)), ("var", Spread((0,))), ("norm", Norm(2, (0,)))):
        with pytest.raises(RuntimeError): Duck.record(TABLE[name], from_torch(ints), attr=attr)
    with pytest.raises(NotImplementedError): Duck.record(TABLE["softmax"], from_torch(ints), attr=0)
    empty = torch.zeros(0, 3)
    torch.testing.assert_close(to_torch(Duck.record(TABLE["mean"], from_torch(empty), attr=(0,))), empty.mean(0, True), equal_nan=True)
    torch.testing.assert_close(to_torch(Duck.record(TABLE["softmax"], from_torch(empty), attr=0)), empty.softmax(0))
    torch.testing.assert_close(to_torch(Duck.record(TABLE["logsumexp"], from_torch(empty), attr=(0,))), empty.logsumexp(0, True))
