"""Kernels that users write: numbers, types and gradients are those of the same function of tensors; each is one kernel; errors name the user's line."""
import math
import pathlib
import re

import numpy as np
import pytest
import torch as oracle

import forno as torch
from forno import kernels
from forno.core.op import TABLE
from forno.dnn import oracle as reference
from forno.framework import programs
from forno.framework.engine import flush
from forno.graph.line import LOCAL


@kernels.elementwise
def swiglu(x, y, slope): return x * kernels.sigmoid(slope * x) * y


@kernels.elementwise
def chosen(x, y): return kernels.where((x > y) & (x < 2), x * 2, kernels.maximum(y, -x)) - x.clamp(-0.5, 0.5)


@kernels.elementwise
def polynomial(x): return x ** 3 + 2 * x ** 2 - x / 4 + abs(x) ** 0.5


@kernels.elementwise
def hashed(i, seed):
    i = (i ^ seed) * 0x45D9F3B
    return (i ^ (i >> 16)) & 0xFFFF


@kernels.row
def softmax(x, t):
    e = ((x - x.max()) / t).exp()
    return e / e.sum()


@kernels.row
def normed(x, w, b, eps):
    d = x - x.mean()
    return d * ((d * d).mean() + eps).rsqrt() * w + b


@kernels.row
def logsumexp(x):
    top = x.max()
    return (x - top).exp().sum().log() + top


def theirs(x): return oracle.from_numpy(x.detach().numpy().copy()).requires_grad_(x.requires_grad)


def agree(ours, want, *xs, tolerance=1e-5):
    """Values, and first and second gradients with respect to every tensor."""
    given = [x.requires_grad_() if isinstance(x, torch.Tensor) and x.dtype.is_floating_point else x for x in xs]
    others = [theirs(x) if isinstance(x, torch.Tensor) else x for x in given]
    for torch_, f, args in ((torch, ours, given), (oracle, want, others)):
        leaves = [x for x in args if isinstance(x, torch_.Tensor) and x.requires_grad]
        out = f(*args)
        first = torch_.autograd.grad((out * out).sum(), leaves, create_graph=True) if leaves else ()
        second = torch_.autograd.grad(sum((g * g).sum() for g in first), leaves) if leaves else ()
        if torch_ is torch: mine = out, *first, *second
        else: known = out, *first, *second
    for a, b in zip(mine, known):
        assert str(a.dtype) == str(b.dtype) and tuple(a.shape) == tuple(b.shape)
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), tolerance, tolerance * max(1.0, float(b.detach().abs().max())))


def randn(*shape): return torch.randn(*shape, dtype=torch.float64)


@pytest.fixture(autouse=True)
def seeded(): torch.manual_seed(0)


def kernels_of(f, *args) -> int:
    """How many kernels a call takes by itself."""
    flush()
    seen, make = [], programs.make
    from forno.framework import native
    kept = native.make
    native.make = lambda *a: seen.append(make(*a)) or seen[-1]
    try:
        y = f(*args)
        flush()
    finally: native.make = kept
    del y
    return sum(len(p.steps) for p in seen)


# ---------------------------------------------------------------- elements
@pytest.mark.parametrize(("ours", "want", "xs"), [
    (swiglu, lambda x, y, s: x * oracle.sigmoid(s * x) * y, lambda: (randn(5, 7), randn(7), 1.5)),
    (swiglu, lambda x, y, s: x * oracle.sigmoid(s * x) * y, lambda: (randn(5, 1), randn(7), randn(()))),
    (chosen, lambda x, y: oracle.where((x > y) & (x < 2), x * 2, oracle.maximum(y, -x)) - x.clamp(-0.5, 0.5), lambda: (randn(6, 5), randn(6, 1))),
    (polynomial, lambda x: x ** 3 + 2 * x ** 2 - x / 4 + abs(x) ** 0.5, lambda: (randn(40),)),
], ids=["numbers", "broadcast", "choices", "powers"])
def test_as_the_function_of_tensors(ours, want, xs):
    agree(ours, want, *xs(), tolerance=1e-9)


def test_one_line_and_one_kernel():
    x, y = torch.randn(64, 64), torch.randn(64, 64)
    flush()
    swiglu(x, y, 1.0)
    assert [l.op.kind for l in LOCAL.run.cur.program()] == ["input", "input", "elementwise"] or LOCAL.run.cur.op.name.startswith("swiglu_")
    assert kernels_of(swiglu, x, torch.randn(64, 64), 1.0) == 1


def test_numbers_are_not_part_of_the_program():
    x = torch.randn(9)
    rows = len(TABLE)
    a, b = swiglu(x, x, 0.25).tolist(), swiglu(x, x, 0.5).tolist()
    made = len(TABLE)
    assert a != b and made <= rows + 1 and swiglu(x, x, slope=7.5).shape == (9,) and len(TABLE) == made


@pytest.mark.parametrize(("dtypes", "expected"), [((torch.int32, torch.float32), torch.float32), ((torch.bfloat16, torch.bfloat16), torch.bfloat16), ((torch.float16, torch.float32), torch.float32),
                                                  ((torch.int64, torch.int64), torch.float32), ((torch.bfloat16, torch.float64), torch.float64)], ids=str)
def test_types_are_promoted(dtypes, expected):
    x, y = (torch.randn(50).to(torch.float32).mul(4).to(t) for t in dtypes)
    out = swiglu(x, y, 0.5)
    assert out.dtype is expected
    wide = x.double() * torch.sigmoid(0.5 * x.double()) * y.double()
    assert torch.allclose(out.double(), wide, 1e-2 if expected is torch.bfloat16 else 1e-5, 1e-5)


def test_halves_are_rounded_once():
    x = torch.randn(1000).bfloat16()
    f = kernels.elementwise(lambda x: ((x * 1.1 + 0.3) * 1.7 - x) / 3)
    assert torch.equal(f(x), f(x.float()).bfloat16())
    rounded = kernels.elementwise(lambda x: (x * 1.1).to(torch.bfloat16) * 1.7)
    assert torch.equal(rounded(x), x * 1.1 * 1.7)
    assert torch.equal(rounded(x.float()), (x.float() * 1.1).bfloat16() * 1.7)


def test_bits():
    i = torch.arange(-50, 50, dtype=torch.int32)
    want = (theirs(i) ^ 12345) * 0x45D9F3B
    assert hashed(i, 12345).tolist() == ((want ^ (want >> 16)) & 0xFFFF).tolist()


def test_a_mask_and_a_number_as_operands():
    keep = kernels.elementwise(lambda m, x, p: kernels.where(m, x / (1 - p), 0))
    m, x = torch.tensor([True, False, True]), torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    out = keep(m, x, 0.5)
    out.sum().backward()
    assert (out.tolist(), x.grad.tolist()) == ([2, 0, 6], [2, 0, 2])


def test_a_gradient_of_the_users():
    asked = []

    def slope(g, x, k):
        asked.append(tuple(k.shape))
        return g * k * 100, None
    f = kernels.elementwise(lambda x, k: x * k, grad=slope)
    x = torch.ones(3, 4, requires_grad=True)
    f(x, 2.0).sum().backward()
    assert x.grad.tolist() == [[200.0] * 4] * 3 and asked == [()]
    wrong = kernels.elementwise(lambda x, y: x * y, grad=lambda g, x, y: (g,))
    with pytest.raises(RuntimeError, match="returned 1 values for 2 operands"): wrong(x, x).sum().backward()


def test_the_oracle_says_the_same():
    """Rows of kernels, in NumPy."""
    x, y = torch.randn(30), torch.randn(30)
    for f, args in ((swiglu, (x, y, 0.5)), (chosen, (x, y)), (polynomial, (x,))):
        out = f(*args)
        op = LOCAL.run.cur.op
        wanted, t = reference.evaluate(op, None, [(a.numpy(), a.dtype) if isinstance(a, torch.Tensor) else a for a in args])
        assert t is out.dtype
        np.testing.assert_allclose(out.numpy(), wanted, 1e-5, 1e-6)


def test_layouts():
    x = torch.randn(6, 5).t()
    out = swiglu(x, x, 1.0)
    assert out.stride() == x.stride() and torch.allclose(out, swiglu(x.contiguous(), x.contiguous(), 1.0))
    assert swiglu(torch.randn(0, 3), 1.0, 1.0).shape == (0, 3)


# ---------------------------------------------------------------- rows
@pytest.mark.parametrize(("ours", "want", "xs"), [
    (softmax, lambda x, t: oracle.softmax(x / t, -1), lambda: (randn(4, 9), 2.0)),
    (normed, lambda x, w, b, eps: oracle.nn.functional.layer_norm(x, x.shape[-1:], w, b, eps), lambda: (randn(3, 4, 10), randn(10), randn(10), 1e-3)),
    (logsumexp, lambda x: oracle.logsumexp(x, -1), lambda: (randn(3, 8),)),
    (kernels.row(lambda x, y: (x * y).sum() / (x * x).sum().sqrt()), lambda x, y: (x * y).sum(-1) / (x * x).sum(-1).sqrt(), lambda: (randn(5, 1, 6), randn(4, 6))),
    (kernels.row(lambda x, y: x * (x.max() - y.min())), lambda x, y: x * (x.amax(-1, True) - y.amin(-1, True)), lambda: (randn(3, 8), randn(8))),
], ids=["softmax", "layer norm", "logsumexp", "cosine", "extremes"])
def test_rows_as_the_function_of_tensors(ours, want, xs):
    agree(ours, want, *xs(), tolerance=1e-8)


@pytest.mark.parametrize("shape", [(64, 100), (2, 3, 50), (4, 5000)])
def test_a_row_kernel_is_one(shape):
    assert kernels_of(softmax, torch.randn(*shape), 1.0) == 1
    assert kernels_of(normed, torch.randn(*shape), torch.randn(shape[-1]), torch.randn(shape[-1]), 1e-5) == 1


def test_rows_of_other_types():
    x = torch.randn(4, 33)
    assert torch.equal(softmax(x.bfloat16(), 1.0), softmax(x.bfloat16().float(), 1.0).bfloat16())
    count = kernels.row(lambda x: (x > 0).sum())
    assert count(x).tolist() == (x > 0).sum(1).tolist() and count(x).dtype is torch.int64
    assert kernels.row(lambda x: x.argmax())(x).tolist() == x.argmax(1).tolist()
    assert kernels.row(lambda i: i.sum() // 2)(torch.arange(6).reshape(2, 3)).tolist() == [1, 6]


def test_an_operand_with_one_number_per_row():
    """It is repeated along the row before anything else: its sum is the row's length times it."""
    x, c = torch.ones(2, 5), torch.tensor([[1.0], [2.0]])
    assert kernels.row(lambda x, c: x * c.sum())(x, c).tolist() == [[5.0] * 5, [10.0] * 5]


def test_a_result_that_doesnt_need_every_operand():
    f = kernels.row(lambda x, c: c * 2 + 1)
    assert f(torch.ones(2, 3), torch.tensor([[1.0], [2.0]])).tolist() == [[3.0] * 3, [5.0] * 3]


# ---------------------------------------------------------------- several results
@kernels.elementwise
def rotated(x, y, c, s): return x * c - y * s, x * s + y * c


@kernels.row
def normed_with(x, eps):
    d = x - x.mean()
    r = ((d * d).mean() + eps).rsqrt()
    return d * r, x.mean(), r


def layer_norm_with(x, eps):
    m, v = x.mean(-1), x.var(-1, correction=0)
    return (x - m[..., None]) * (v + eps).rsqrt()[..., None], m, (v + eps).rsqrt()


@pytest.mark.parametrize("part", range(3))
def test_several_results(part):
    agree(lambda x: normed_with(x, 1e-3)[part], lambda x: layer_norm_with(x, 1e-3)[part], randn(3, 4, 10), tolerance=1e-8)
    if part < 2: agree(lambda x, y: rotated(x, y, 0.6, 0.8)[part], lambda x, y: (x * 0.6 - y * 0.8, x * 0.8 + y * 0.6)[part], randn(5, 7), randn(7), tolerance=1e-9)


def test_several_results_are_one_kernel_and_one_backward():
    x = torch.randn(64, 96)
    assert kernels_of(normed_with, x, 1e-3) == 1 and kernels_of(rotated, x, x + 1, 0.6, 0.8) == 1
    x.requires_grad_()
    y, m, r = normed_with(x, 1e-3)
    ((y * y).sum() + (m * 3).sum() + (r * r).sum()).backward()
    z = theirs(x)
    y, m, r = layer_norm_with(z, 1e-3)
    ((y * y).sum() + (m * 3).sum() + (r * r).sum()).backward()
    np.testing.assert_allclose(x.grad.numpy(), z.grad.numpy(), 1e-3, 1e-5)
    a, b = kernels.elementwise(lambda x: (x > 0, [x * 2][0]))(x.bfloat16())
    assert a.dtype is torch.bool and b.dtype is torch.bfloat16 and b.requires_grad and not a.requires_grad


def test_operands_that_may_be_left_out_and_rows_by_other_names():
    x = torch.randn(4, 9)
    f = torch.nn.functional
    for name, want in (("softplus", f.softplus), ("leaky_relu", f.leaky_relu), ("elu", f.elu), ("hardtanh", f.hardtanh)):
        assert torch.allclose(kernels.elementwise(lambda x: getattr(x, name)())(x), want(x), 1e-6, 1e-6)
    assert torch.allclose(kernels.elementwise(lambda x: kernels.clamp(x, -0.5, 0.5))(x), x.clamp(-0.5, 0.5))
    for g, want in ((lambda x: x.var(), x.var(-1)), (lambda x: x.std(-1, correction=0), x.std(-1, correction=0)), (lambda x: x.norm(), x.norm(dim=-1)),
                    (lambda x: x.sum(dim=-1, keepdim=True), x.sum(-1)), (lambda x: x.mean(-1), x.mean(-1))):
        assert torch.allclose(kernels.row(g)(x), want, 1e-5, 1e-6)
    assert torch.equal(kernels.elementwise(lambda x: round(x) + math.floor(x))(x), x.round() + x.floor())
    z = torch.complex(x, x + 1)
    assert torch.equal(kernels.elementwise(lambda z: z.real + z.imag)(z), z.real + z.imag)


# ---------------------------------------------------------------- with what else there is
def test_under_vmap():
    x, w = torch.randn(4, 3, 8), torch.randn(8)
    assert torch.allclose(torch.vmap(lambda a: swiglu(a, w, 0.5))(x), swiglu(x, w, 0.5))
    assert torch.allclose(torch.vmap(lambda a: softmax(a, 0.5), in_dims=1)(x), softmax(x.transpose(0, 1), 0.5))
    norms = torch.vmap(torch.func.grad(lambda a: logsumexp(a).sum()))(x)
    assert torch.allclose(norms, torch.softmax(x, -1), 1e-5, 1e-6)


def test_forward_mode():
    x, t = randn(3, 6), randn(3, 6)
    for f, want in ((lambda a: swiglu(a, a, 0.5), lambda a: a * oracle.sigmoid(0.5 * a) * a), (lambda a: softmax(a, 1.0), lambda a: oracle.softmax(a, -1))):
        _, ours = torch.func.jvp(f, (x,), (t,))
        _, known = oracle.func.jvp(want, (theirs(x),), (theirs(t),))
        np.testing.assert_allclose(ours.numpy(), known.numpy(), 1e-9, 1e-9)


def test_under_compile():
    @torch.compile
    def step(x, w): return softmax(swiglu(x, w, 0.5), 2.0).sum(0)
    w = torch.randn(8)
    for k in range(5):
        x = torch.randn(4, 8) + k
        assert torch.allclose(step(x, w), torch.softmax(x * torch.sigmoid(0.5 * x) * w / 2, -1).sum(0), 1e-5, 1e-6)
    assert getattr(step, "compiled", step).said > 0


def test_functions_are_those_of_tensors_outside():
    x = torch.rand(5) * 0.8 + 0.1
    for name in kernels.FUNCTIONS: assert callable(getattr(torch, name)), name
    assert torch.equal(kernels.exp(x), x.exp()) and torch.equal(kernels.where(x > 0.5, x, 0.0), torch.where(x > 0.5, x, 0.0))


@pytest.mark.parametrize("name", sorted(set(kernels.FUNCTIONS) - {"where", "clamp", "bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"}))
def test_every_function(name):
    x = torch.rand(20) * 0.8 + 0.1
    y, f = torch.rand(20) + 1.05, getattr(kernels, name)
    a = y if name == "acosh" else x
    two = name in "atan2 copysign fmax fmin fmod hypot logaddexp logical_and logical_or logical_xor maximum minimum pow remainder".split()
    ours, want = (kernels.elementwise(lambda a, b: f(a, b))(a, y), getattr(torch, name)(a, y)) if two else (kernels.elementwise(lambda a: f(a))(a), getattr(torch, name)(a))
    assert ours.dtype is want.dtype and torch.allclose(ours, want, 1e-5, 1e-6)


# ---------------------------------------------------------------- what can't be
def here(text): return next(k for k, line in enumerate(pathlib.Path(__file__).read_text().splitlines(), 1) if text in line)


@pytest.mark.parametrize(("f", "error", "said"), [
    (lambda x: x if x > 0 else -x, TypeError, "where"),             # marked: value
    (lambda x: math.exp(x), TypeError, "x.exp"),                    # marked: math
    (lambda x: x & 1.5, NotImplementedError, "bitwise_and"),        # marked: bits
    (lambda x: x.conv2d(), AttributeError, "'conv2d'"),             # marked: name
    (lambda x: x * OUTSIDE, TypeError, "pass it as one of them"),   # marked: tensor
    (lambda x: x - x.mean(), TypeError, "kernels.row"),             # marked: mean
    (lambda x: torch.exp(x), TypeError, "kernels.exp"),             # marked: outer
    (lambda x: x.max(0), TypeError, "kernels.maximum"),             # marked: axis
    (lambda x: x[0], TypeError, "no neighbours"),                   # marked: place
    (lambda x: divmod(x, 2), TypeError, "Python's operators"),      # marked: divmod
    (lambda x: x.atan2(), TypeError, "takes 2 operands"),           # marked: count
], ids=["value", "math", "bits", "name", "tensor", "mean", "outer", "axis", "place", "divmod", "count"])
def test_errors_name_the_line(f, error, said, request):
    with pytest.raises(error, match=re.escape(said)) as caught: kernels.elementwise(f)(torch.ones(3))
    mark = request.node.callspec.id
    assert f"{pathlib.Path(__file__).name}, line {here('# marked: ' + mark)}" in str(caught.value)


OUTSIDE = torch.ones(3)


def test_refused():
    with pytest.raises(TypeError, match="numbers only"): swiglu(1.0, 2.0, 3.0)
    with pytest.raises(TypeError, match="operand 'y' must be a Tensor or a number, not str"): swiglu(torch.ones(2), "a", 1.0)
    with pytest.raises(TypeError, match="missing a required argument"): swiglu(torch.ones(2))
    with pytest.raises(TypeError, match="fixed number"): kernels.elementwise(lambda *xs: xs[0])
    with pytest.raises(TypeError, match="9 operands, 8 are possible"): kernels.elementwise(lambda a, b, c, d, e, f, g, h, i: a)
    with pytest.raises(TypeError, match="is to return one value"): kernels.elementwise(lambda x: (x, (x, x)))(torch.ones(2))
    with pytest.raises(TypeError, match="grad= is for one"): kernels.elementwise(lambda x: (x, x + 1), grad=lambda g, x: g)(torch.ones(2))
    with pytest.raises(TypeError, match="their one axis is -1"): kernels.row(lambda x: x.sum(0))(torch.ones(2, 2))
    with pytest.raises(TypeError, match="one value per row already"): kernels.row(lambda x: x.sum().sum())(torch.ones(2))
    with pytest.raises(RuntimeError, match="goes over rows"): kernels.row(lambda x: x - x.max())(torch.tensor(1.0))
    with pytest.raises(IndexError, match="has length 0"): softmax(torch.ones(3, 0), 1.0)
    with pytest.raises(RuntimeError, match="not implemented: give kernel"):
        kernels.elementwise(lambda x, y: x.heaviside(y))(torch.ones(2, requires_grad=True), torch.ones(2)).sum().backward()


def test_what_would_be_several_kernels_is_refused():
    def long(x):
        for k in range(80): x = (x * x.max()).sin() + k
        return x
    with pytest.raises(RuntimeError, match="can't be one kernel"): kernels.row(long)(torch.randn(8, 16))


# ---------------------------------------------------------------- the page
def test_the_page_runs():
    """docs/kernels.md, from top to bottom."""
    page = (pathlib.Path(__file__).parents[2] / "docs" / "kernels.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.S)
    assert len(blocks) >= 4
    names: dict = {}
    for block in blocks: exec(compile(block, "docs/kernels.md", "exec"), names)
