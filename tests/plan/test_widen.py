"""Convolutions of half types are planned as those of float32; matrix products aren't."""
from __future__ import annotations

import pytest
import torch

import forno
from forno.core import dtype as dt
from forno.core import kernels as k
from forno.core.op import TABLE
from forno.dnn.contract import ConvSpec
from forno.plan import make
from forno.plan.values import apply

from .interpret import graph, source


@pytest.mark.parametrize("t", (dt.float16, dt.bfloat16), ids=str)
def test_kernels(t):
    x, w, bias, a, b = (source(i, s, t) for i, s in enumerate(((2, 3, 8, 8), (4, 3, 3, 3), (4,), (2, 5), (5, 2))))
    spec = ConvSpec((1, 1), (1, 1), (1, 1))
    y = apply(TABLE["conv"], x, w, bias, attr=spec)
    dw = apply(TABLE["conv_weight"], y, x, attr=spec._replace(taps=(3, 3)))
    plan = make(graph([x, w, bias, a, b], [y, dw, apply(TABLE["matmul"], a, b, attr=None)]))
    found = [s.kernel for s in plan.steps]
    assert [c.dtype for c in found if c.__class__ is k.Conv] == [dt.float32] * 2
    assert [g.a.dtype for g in found if g.__class__ is k.Gemm] == [t]


@pytest.mark.parametrize("name", ("float16", "bfloat16"))
def test_values(name):
    got = []
    for lib in (torch, forno):
        lib.manual_seed(0)
        t = getattr(lib, name)
        x, w = (lib.randn(*s).to(t).requires_grad_() for s in ((2, 4, 9, 9), (6, 4, 3, 3)))
        y = lib.nn.functional.conv2d(x, w, lib.ones(6).to(t), padding=1)
        (y.float() * lib.randn(*y.shape)).sum().backward()
        assert y.dtype is x.grad.dtype is w.grad.dtype is t
        got.append([v.detach().float().numpy() for v in (y, x.grad, w.grad)])
    for a, b in zip(*got): assert abs(a - b).max() <= (0.01 if name == "bfloat16" else 0.002) * abs(a).max()


@pytest.mark.parametrize("name", ("float16", "bfloat16"))
@pytest.mark.parametrize("last", (False, True), ids=("rows", "channels_last"))
def test_one_tap_is_a_matrix_product(name, last):
    t, spec = getattr(dt, name), ConvSpec((1, 1), (0, 0), (1, 1))
    x, w = source(0, (2, 5, 6, 7), t), source(1, (9, 5, 1, 1), t)
    y = apply(TABLE["conv"], x, w, attr=spec)
    plan = make(graph([x, w], [y, apply(TABLE["conv_input"], y, w, attr=spec._replace(size=(6, 7)))]))
    assert [s.kernel.a.dtype for s in plan.steps if s.kernel.__class__ is k.Gemm] == [t] * 2 and not any(s.kernel.__class__ is k.Conv for s in plan.steps)
    got = []
    for lib in (torch, forno):
        lib.manual_seed(0)
        x, w = lib.randn(2, 5, 6, 7).to(getattr(lib, name)), lib.randn(9, 5, 1, 1).to(getattr(lib, name)).requires_grad_()
        x = (x.to(memory_format=lib.channels_last) if last else x).requires_grad_()
        y = lib.nn.functional.conv2d(x, w)
        (y.float() * lib.randn(2, 9, 6, 7)).sum().backward()
        got.append([v.detach().float().numpy() for v in (y, x.grad, w.grad)])
        assert lib is torch or y.is_contiguous(memory_format=lib.channels_last) == last
    for a, b in zip(*got): assert abs(a - b).max() <= (0.01 if name == "bfloat16" else 0.002) * abs(a).max()
