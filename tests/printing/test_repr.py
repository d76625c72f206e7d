"""repr, str and format of tensors against torch's, character for character."""
import itertools
import math

import numpy as np
import pytest
import torch

import forno
from forno.framework.printing import get_printoptions, printoptions

FLOATS = ["float32", "float64", "float16", "bfloat16"]
INTS = ["uint8", "int8", "int16", "int32", "int64"]
INF, NAN = math.inf, math.nan
VALUES = [0.0, [], [1.0], [0.5, -2.25], [1e-5, 1.0], [1e9, 1.0], [1.0, 2.0, 3.0], [INF, 1.0], [NAN, 0.5], [-INF, NAN, INF], [0.0, -0.0], [1e-4, 1e-4], [99999.0, 1.5],
          [12345.678, 0.1], [1e20], [1001.0, 1.0], [1e4, 100.5], [[1.0, 2.0], [3.5, -4.0]], [[[1.0], [2.0]], [[3.0], [4.0]]], [[]], [[[0.25] * 3] * 2] * 2, [1e-8] * 5,
          [0.1] * 30, [NAN], [INF], [123456789.0], [1.5e-3, 1.0], [-1.0, -2.0]]


@pytest.fixture(autouse=True)
def usual():
    yield
    for lib in (torch, forno): lib.set_printoptions(profile="default")


def same(make):
    ours, theirs = repr(make(forno)), repr(make(torch))
    assert ours == theirs
    assert str(make(forno)) == str(make(torch))


@pytest.mark.parametrize("dtype", FLOATS)
def test_floats(dtype):
    for v in VALUES: same(lambda lib: lib.tensor(v, dtype=getattr(lib, dtype)))


@pytest.mark.parametrize("dtype", INTS)
def test_ints(dtype):
    for v in (0, [], [1], [1, 100, 7], [[1, 2], [3, 4]], list(range(60)), 127): same(lambda lib: lib.tensor(v, dtype=getattr(lib, dtype)))
    if dtype != "uint8": same(lambda lib: lib.tensor([-5, 3, 120], dtype=getattr(lib, dtype)))


def test_bools():
    for v in (True, False, [True], [True, True], [True, False], [[False] * 3] * 2): same(lambda lib: lib.tensor(v))


@pytest.mark.parametrize("dtype", ["complex64", "complex128"])
def test_complex(dtype):
    for v in (1j, [1 + 2j, -3.5 - 1j], [1e6 + 1e-6j, 1], [complex(NAN, INF), 1j], [0j], [[1 + 1j] * 10] * 2, [complex(1, -0.0)], [1.5 + 1000j, 2]):
        same(lambda lib: lib.tensor(v, dtype=getattr(lib, dtype)))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (2, 0), (1,), (1001,), (1000,), (40, 40), (7, 200), (200, 7), (3, 20, 20), (11, 11, 11), (2, 2, 2, 300), (1, 1, 1), (10, 2, 60)])
def test_shapes(shape):
    n = math.prod(shape)
    for make in (lambda lib: lib.arange(n).reshape(shape), lambda lib: lib.arange(n, dtype=lib.float32).reshape(shape) / 7,
                 lambda lib: (lib.arange(n) % 3 == 0).reshape(shape), lambda lib: lib.arange(n, dtype=lib.bfloat16).reshape(shape) * 1.5):
        same(make)


@pytest.mark.parametrize("dtype", FLOATS)
def test_random_values(dtype):
    rng = np.random.default_rng(5)
    for k in range(60):
        shape = tuple(rng.integers(1, 5, rng.integers(0, 4)))
        a = rng.standard_normal(shape) * 10.0 ** rng.integers(-6, 10)
        if k % 3 == 0: a = np.round(a)
        if k % 5 == 0 and a.size: a = np.where(rng.random(shape) < 0.3, rng.choice([INF, -INF, NAN, 0.0]), a)
        values = a.tolist()
        same(lambda lib: lib.tensor(values, dtype=getattr(lib, dtype)))


def test_views():
    for f in (lambda t: t.t(), lambda t: t[1:, ::2], lambda t: t[0], lambda t: t[0, 1], lambda t: t.unsqueeze(0).expand(2, 3, 4), lambda t: t[:, None]):
        same(lambda lib: f(lib.arange(12.0).reshape(3, 4)))


def test_pending_values_print_like_any_other():
    same(lambda lib: (lib.arange(6.0) * 2 + 1).reshape(2, 3))


def test_history():
    def leaf(lib): return lib.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    cases = [lambda x: x, lambda x: x * 2, lambda x: 2 * x + 1, lambda x: x.sum(), lambda x: x.sum(0), lambda x: x.mean(), lambda x: x.mean(1), lambda x: x @ x,
             lambda x: x.detach(), lambda x: x.reshape(-1), lambda x: x[0], lambda x: x.exp().log(), lambda x: x.max(), lambda x: x.softmax(0), lambda x: 1 - x,
             lambda x: 1 / x, lambda x: x ** 2, lambda x: x.relu(), lambda x: x.double(), lambda x: x.unsqueeze(0), lambda x: x.permute(1, 0), lambda x: x.clone(),
             lambda x: -x, lambda x: x.norm(), lambda x: x.prod(), lambda x: x.std()]
    for f in cases: same(lambda lib: f(leaf(lib)))
    wide = "lib.ones(3, {}, dtype=lib.float64, requires_grad=True) * 1.5"
    for n in range(1, 14): same(lambda lib: eval(wide.format(n), {"lib": lib}))


def test_grad_fn_has_pytorchs_class():
    x = forno.ones(2, requires_grad=True)
    y = x * 3
    assert type(y.grad_fn).__name__ == "MulBackward0" == y.grad_fn.name()
    assert y.grad_fn == y.grad_fn and hash(y.grad_fn) == hash(y.grad_fn)
    (vertex, number), (none, _) = y.grad_fn.next_functions                # the number is an operand, too
    assert none is None
    assert (type(vertex).__name__, number) == ("AccumulateGrad", 0)
    y.sum().backward()
    assert vertex.variable.grad.tolist() == [3.0, 3.0] and x.grad_fn is None
    assert repr(y.grad_fn).startswith("<MulBackward0 object at 0x")
    linear = forno.nn.Linear(2, 2)(forno.ones(1, 2))
    assert linear.grad_fn.name() == "AddmmBackward0"

    class Twice(forno.autograd.Function):
        @staticmethod
        def forward(ctx, x): return x * 2

        @staticmethod
        def backward(ctx, g): return g * 2
    assert repr(Twice.apply(x)) == "tensor([2., 2.], grad_fn=<TwiceBackward>)"


@pytest.mark.parametrize("options", [dict(precision=2), dict(precision=8), dict(threshold=5), dict(threshold=5, edgeitems=1), dict(edgeitems=0, threshold=3), dict(linewidth=40),
                                     dict(linewidth=200), dict(sci_mode=True), dict(sci_mode=False), dict(profile="short"), dict(profile="full"),
                                     dict(profile="full", precision=1), dict(profile="default")])
def test_options(options):
    for lib in (torch, forno): lib.set_printoptions(**options)
    assert get_printoptions() == torch._tensor_str.get_printoptions()
    for shape in ((), (7,), (3, 4), (40, 30), (2, 3, 4)):
        n = math.prod(shape)
        same(lambda lib: (lib.arange(n, dtype=lib.float32) / 3 + 0.01).reshape(shape))
        same(lambda lib: lib.arange(n).reshape(shape))
        same(lambda lib: lib.complex(lib.arange(n, dtype=lib.float32), -lib.arange(n, dtype=lib.float32)).reshape(shape))
    same(lambda lib: lib.tensor([1e10, 1.0, NAN]))


def test_printoptions_block():
    with printoptions(precision=1): assert repr(forno.tensor(0.25)) == "tensor(0.2)"
    assert repr(forno.tensor(0.25)) == "tensor(0.2500)"


def test_default_dtype():
    try:
        for name in ("float64", "float16", "float32"):
            for lib in (torch, forno): lib.set_default_dtype(getattr(lib, name))
            for dtype in ("float32", "float64", "float16", "complex64", "complex128", "int64"):
                same(lambda lib: lib.ones(2).to(getattr(lib, dtype)))
                same(lambda lib: lib.ones(0).to(getattr(lib, dtype)))
    finally:
        for lib in (torch, forno): lib.set_default_dtype(lib.float32)


def test_format():
    for lib in (torch, forno):
        x = lib.tensor(3.14159)
        assert f"{x:.2f}" == "3.14" and f"{x:>8.1f}" == "     3.1" and f"{lib.tensor(7):3d}" == "  7" and f"{lib.tensor(2.5, requires_grad=True):.1f}" == "2.5"
        assert f"{lib.tensor([1.0])}" == "tensor([1.])" and f"{lib.tensor(True)}" == "True"
        with pytest.raises(TypeError): f"{lib.tensor([1.0, 2.0]):.2f}"
    assert f"{forno.tensor(0.1)}" == f"{torch.tensor(0.1)}"


def test_parameters():
    values = [[1.0, 2.5], [0.0, -1.0]]
    same(lambda lib: lib.nn.Parameter(lib.tensor(values)))
    same(lambda lib: lib.nn.Parameter(lib.tensor(values), requires_grad=False))
    same(lambda lib: list(lib.nn.Linear(1, 2, bias=False).requires_grad_(False).apply(lambda m: lib.nn.init.constant_(m.weight, 2)).parameters()))
    same(lambda lib: {"a": lib.nn.Parameter(lib.zeros(3))})


def test_summary_reads_no_more_than_it_shows():
    big = forno.zeros(3000, 3000)
    assert repr(big) == repr(torch.zeros(3000, 3000))


def test_subclass_names():
    def make(lib):
        class Mine(lib.Tensor): pass
        t = lib.tensor([1.0, 2.0])
        if lib is torch: return t.as_subclass(Mine)
        r = lib.Tensor._make_subclass(Mine, t)
        return r
    same(make)


@pytest.mark.parametrize("kind, n", list(itertools.product(["int64", "float32"], [995, 999, 1000, 1001, 1005])))
def test_threshold(kind, n): same(lambda lib: lib.arange(n, dtype=getattr(lib, kind)))
