"""Reductions and contractions against PyTorch: types, values, errors, gradients to second order."""
import pytest
import torch
import torch.nn.functional as F

from forno.core.op import TABLE
from forno.dnn.contract import ConvSpec

from .derivatives import compare
from .duck import Duck, from_torch, to_torch

DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]


def rand(*shape, dtype=torch.float64):
    t = torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)
    return torch.complex(t, t.flip(0)) if dtype.is_complex else t.to(dtype)


@pytest.mark.parametrize("name", ["sum", "prod", "amax", "amin", "argmax", "argmin", "any", "all"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_types(name, dtype):
    x = (rand(3, 4, 2) * 3).to(dtype) if dtype is not torch.bool else rand(3, 4, 2) > 0
    for axes in ((1,), (0, 2), (0, 1, 2)):
        def f(x):
            if name.startswith("arg"):
                assert len(axes) != 2
                return getattr(torch, name)(x, axes[0], keepdim=True) if len(axes) == 1 else getattr(torch, name)(x).reshape(1, 1, 1)
            if name == "prod":
                for d in axes: x = x.prod(d, keepdim=True)
                return x
            return getattr(torch, name)(x, axes, keepdim=True)
        if name.startswith("arg") and len(axes) == 2: continue
        try: want = f(x)
        except Exception as e:
            with pytest.raises(type(e)): Duck.record(TABLE[name], from_torch(x), attr=axes)
            continue
        got = Duck.record(TABLE[name], from_torch(x), attr=axes)
        assert got.dtype.name == str(want.dtype)[6:] and got.shape == tuple(want.shape)
        tolerance = {torch.float16: 1e-2, torch.bfloat16: 6e-2}.get(dtype, 1e-5)
        torch.testing.assert_close(to_torch(got), want, rtol=tolerance, atol=tolerance)


def test_empty_and_nan():
    empty = from_torch(torch.zeros(0, 3))
    for name in ("amax", "amin", "argmax", "argmin"):
        with pytest.raises(IndexError, match="Expected reduction dim 0 to have non-zero size"): Duck.record(TABLE[name], empty, attr=(0,))
    assert [float(Duck.record(TABLE[n], empty, attr=(0,)).array[0, 0]) for n in ("sum", "prod", "any", "all")] == [0, 1, 0, 1]
    x = torch.tensor([[1.0, float("nan"), 3.0, float("nan")]])
    for name in ("amax", "amin"): assert torch.equal(to_torch(Duck.record(TABLE[name], from_torch(x), attr=(1,))).isnan(), torch.tensor([[True]]))
    for name in ("argmax", "argmin"): assert to_torch(Duck.record(TABLE[name], from_torch(x), attr=(1,))).item() == 1


@pytest.mark.parametrize("axes", [(0,), (1, 2), (0, 1, 2)])
def test_gradients(axes):
    x = rand(3, 4, 2).requires_grad_()
    ties = (rand(3, 4, 2) * 1.5).round().requires_grad_()
    compare("sum", axes, [x], lambda x: x.sum(axes, True))
    compare("sum", axes, [rand(3, 4, 2, dtype=torch.complex128).requires_grad_()], lambda x: x.sum(axes, True))
    for name in ("amax", "amin"):
        for t in (x, ties): compare(name, axes, [t], lambda t, f=getattr(torch, name): f(t, axes, True), second=False)


@pytest.mark.parametrize("zeros", [0, 1, 2])
def test_prod_gradient(zeros):
    x = rand(3, 5)
    x[1, :zeros] = 0
    compare("prod", (1,), [x.requires_grad_()], lambda x: x.prod(1, keepdim=True), second=zeros == 0)


@pytest.mark.parametrize("a, b", [((3, 4), (4, 5)), ((2, 3, 4), (4, 5)), ((2, 3, 4), (2, 4, 5)), ((2, 1, 3, 4), (5, 4, 2)), ((3, 4), (2, 4, 5)),
                                  ((3, 0), (0, 2)), ((1, 3, 4), (6, 4, 2))])
def test_matmul(a, b):
    compare("matmul", None, [rand(*a).requires_grad_(), (rand(*b) + 1).requires_grad_()], torch.matmul)
    if 0 not in a: compare("matmul", None, [rand(*a, dtype=torch.complex128).requires_grad_(), rand(*b, dtype=torch.complex128).requires_grad_()],
                           torch.matmul)


@pytest.mark.parametrize("a, b", [((2, 3), (4, 5)), ((2, 2, 3), (4, 5)), ((2, 3), (7, 4, 5)), ((2, 2, 3), (2, 4, 5)), ((3, 2, 3), (2, 3, 5))])
def test_matmul_shapes(a, b):
    with pytest.raises(RuntimeError) as want: rand(*a) @ rand(*b)
    with pytest.raises(RuntimeError) as got: Duck.record(TABLE["matmul"], from_torch(rand(*a)), from_torch(rand(*b)))
    assert str(got.value) == str(want.value)


@pytest.mark.parametrize("a, b", [(torch.float32, torch.float64), (torch.int64, torch.float32), (torch.bool, torch.bool),
                                  (torch.float16, torch.bfloat16)])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_matmul_types(a, b, batch):
    x, y = torch.ones(*batch, 2, 3).to(a), torch.ones(*batch, 3, 4).to(b)
    with pytest.raises((RuntimeError, NotImplementedError)) as want: x @ y
    with pytest.raises(want.type) as got: Duck.record(TABLE["matmul"], from_torch(x), from_torch(y))
    assert str(got.value) == str(want.value)


CONVS = [((2, 3, 9), (4, 3, 3), ConvSpec((1,), (0,), (1,))), ((2, 4, 9), (6, 2, 3), ConvSpec((2,), (1,), (1,), 2)),
         ((2, 3, 6, 7), (4, 3, 3, 2), ConvSpec((1, 2), (1, 0), (1, 1))), ((1, 4, 8, 7), (8, 1, 3, 3), ConvSpec((2, 2), (2, 1), (2, 1), 4)),
         ((1, 2, 4, 5, 4), (3, 2, 2, 3, 2), ConvSpec((1, 2, 1), (0, 1, 1), (1, 1, 2)))]


@pytest.mark.parametrize("x, w, spec", CONVS)
def test_conv(x, w, spec):
    f = (F.conv1d, F.conv2d, F.conv3d)[len(x) - 3]
    t = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[len(x) - 3]
    args = spec.stride, spec.padding, spec.dilation, spec.groups
    X, W, B = rand(*x).requires_grad_(), rand(*w).requires_grad_(), rand(w[0]).requires_grad_()
    compare("conv", spec, [X, W], lambda x, w: f(x, w, None, *args))
    compare("conv", spec, [X, W, B], lambda x, w, b: f(x, w, b, *args))
    y = f(X, W, None, *args).detach().requires_grad_()
    size = t(y, W, None, spec.stride, spec.padding, 0, spec.groups, spec.dilation).shape[2:]
    compare("conv_input", spec._replace(size=tuple(size)), [y, W], lambda y, w: t(y, w, None, spec.stride, spec.padding, 0, spec.groups,
                                                                                  spec.dilation))
    module = (torch.nn.grad.conv1d_weight, torch.nn.grad.conv2d_weight, torch.nn.grad.conv3d_weight)[len(x) - 3]
    compare("conv_weight", spec._replace(taps=w[2:]), [y.detach(), X.detach()], lambda y, x: module(x, w, y, *args))


@pytest.mark.parametrize("x, w, b, groups", [((1, 2, 8, 8), (4, 3, 3, 3), None, 1), ((1, 3, 2, 2), (4, 3, 3, 3), None, 1),
                                             ((1, 3, 8, 8), (4, 3, 3, 3), 5, 1),
                                             ((1, 3, 8, 8), (4, 3, 3, 3), None, 3), ((1, 3, 8, 8), (4, 3, 3, 3), None, 0)])
def test_conv_errors(x, w, b, groups):
    ins = [torch.ones(x), torch.ones(w), *([torch.ones(b)] if b else [])]
    with pytest.raises(RuntimeError) as want: F.conv2d(*ins, groups=groups)
    with pytest.raises(RuntimeError) as got: Duck.record(TABLE["conv"], *map(from_torch, ins), attr=ConvSpec((1, 1), (0, 0), (1, 1), groups))
    assert str(got.value) == str(want.value)
