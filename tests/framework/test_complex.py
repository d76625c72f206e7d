"""Complex tensors against PyTorch: arithmetic and promotion, functions, gradients twice over, in-place writes, conversion, printing."""
import itertools

import numpy as np
import pytest
import torch

import forno

pytestmark = pytest.mark.filterwarnings("ignore")

START = """
c = torch.tensor([[1+2j, -3+0.5j, 0.25-1j], [2j, -1.5, 0.75+0.25j]])
d = torch.tensor([[0.5-1j, 2+1j, -1-1j], [1+1j, 3-2j, -0.5j]])
z, w = c.to(torch.complex128), d.to(torch.complex128)
x = torch.tensor([[1., -2., 3.], [0.5, 0.25, -4.]])
xd, i = x.double(), torch.tensor([[1, 2, 3], [4, -5, 6]])
b = i > 2

def grad(f, *xs):
    xs = [t.clone().requires_grad_() for t in xs]
    o = f(*xs)
    (o.abs() if o.is_complex() else o).mul(torch.arange(1, o.numel() + 1).reshape(o.shape)).sum().backward()
    return [o, *[t.grad for t in xs]]

def twice(f, *xs):
    xs = [t.clone().requires_grad_() for t in xs]
    o = f(*xs)
    g = torch.autograd.grad((o.abs() ** 2 if o.is_complex() else o ** 2).sum(), xs, create_graph=True)
    sum([(t.abs() ** 2).sum() if t.is_complex() else (t ** 2).sum() for t in g]).backward()
    return [*g, *[t.grad for t in xs]]
"""
STARTED = {}


def outcome(statement, lib):
    if lib not in STARTED: STARTED[lib] = compile(START, "start", "exec")
    space = {"torch": lib, "np": np}
    exec(STARTED[lib], space)
    *lines, last = statement.split("; ")
    try:
        for line in lines: exec(line, space)
        return plain(eval(last, space), lib)
    except Exception as error: return f"{type(error).__name__}"


def plain(x, lib):
    if isinstance(x, lib.Tensor): return str(x.dtype), x.requires_grad, x.detach().resolve_conj().resolve_neg().numpy().copy()
    if isinstance(x, (tuple, list)): return [plain(y, lib) for y in x]
    return str(x) if isinstance(x, (lib.dtype, lib.Size)) else x


def same(a, b) -> bool:
    if isinstance(a, (tuple, list)): return isinstance(b, (tuple, list)) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, np.ndarray):
        if a.dtype.kind == "c": return a.dtype == b.dtype and same(a.real.copy(), b.real.copy()) and same(a.imag.copy(), b.imag.copy())
        return a.shape == b.shape and a.dtype == b.dtype and (np.allclose(a, b, 3e-5, 2e-5, equal_nan=True) if a.dtype.kind == "f" else np.array_equal(a, b))
    if isinstance(a, (float, complex)): return type(a) is type(b) and np.isclose(a, b, 2e-5, 2e-5, equal_nan=True)
    return a == b


def check(statements):
    wrong = []
    for s in statements:
        a, b = outcome(s, torch), outcome(s, forno)
        if not same(a, b): wrong.append(f"{s}\n  torch: {a}\n  forno: {b}")
    assert not wrong, "\n".join(wrong)


OPERANDS = ("c", "z", "x", "xd", "i", "b", "c[0, 0]", "z[0, 0]", "2", "1.5", "1j")
PAIRS = [p for p in itertools.product(OPERANDS, repeat=2) if {"c", "z", "c[0, 0]", "z[0, 0]", "1j"} & set(p) and any(o[0].isalpha() for o in p)]


@pytest.mark.parametrize("operator", ["+", "-", "*", "/", "=="])
def test_arithmetic_and_promotion(operator): check([f"{a} {operator} {b}" for a, b in PAIRS])


def test_powers():
    check([f"{a} ** {b}" for a, b in itertools.product(("c", "z", "x", "i", "c[0, 0]", "2", "0.5j"), repeat=2) if {"c", "z", "c[0, 0]"} & {a, b}])
    check(["c ** -1", "c ** 3", "c ** 0.5", "c ** 0", "torch.tensor([-8 + 0j]) ** (1 / 3)", "2 ** c", "1j ** c", "torch.float_power(c, 2)"])


def test_comparison():
    check([f"{a} {o} {b}" for o in ("==", "!=", "<", ">=") for a, b in (("c", "d"), ("c", "x"), ("c", "2j"), ("x", "c"), ("c", "c.real"), ("z", "c"), ("x", "1j"))])
    check(["torch.equal(c, c.clone())", "torch.isclose(c, c + 1e-9)", "torch.allclose(c, d)", "c[1, 1] == -1.5", "torch.logical_and(c, d)", "torch.logical_not(c * 0)"])


def test_beyond_range():
    """Infinity, NaN, zero divisors, numbers whose squares leave the range."""
    check(["c / 0", "c / torch.zeros(2, 3)", "c / b", "torch.ones(7) * 1j / 0", "0j / (c * 0)", "torch.reciprocal(torch.tensor([0j, 1e25 + 1e25j]))",
           "1 / torch.tensor([1j, 1e30 + 1e30j, 1e-30 + 1e-30j])", "torch.tensor([1e30 + 1e30j, 1e-30 + 1e-30j]).abs()", "c / complex('inf')", "c / torch.tensor(complex('infj'))",
           "torch.tensor([complex('inf'), complex('nanj')]) * 2", "torch.tensor([complex('inf')]) * torch.tensor([1j])",
           "torch.sqrt(torch.tensor([-1 + 0j, complex(-1, -0.0), 0j, -4.]))", "torch.log(torch.tensor([-1 + 0j, complex(-1, -0.0), 0j]))",
           "torch.sgn(torch.tensor([0j, 3 + 4j]))", "torch.angle(torch.tensor([0j, -1 + 0j, complex(-1, -0.0)]))"])


UNARY = ("abs angle conj real imag exp log log2 log10 log1p expm1 sqrt rsqrt sin cos tan sinh cosh tanh asin acos atan asinh acosh atanh sigmoid reciprocal neg square sgn "
         "conj_physical view_as_real positive sum mean prod var std norm t flatten tril triu trace diff sinc").split()
AXIS = {"cumsum": "1", "cumprod": "1", "flip": "(0,)", "sum": "1", "mean": "0", "prod": "1", "var": "1", "std": "0", "roll": "1"}


def test_functions():
    check([f"torch.{f}({v})" for f in UNARY for v in ("c", "z")] + [f"torch.{f}(c, {a})" for f, a in AXIS.items()])
    check([f"torch.{f}(c)" for f in ("isnan", "isinf", "isfinite", "isreal", "resolve_conj", "resolve_neg", "any", "all", "nonzero", "count_nonzero", "std_mean", "var_mean",
                                     "sign", "ceil", "erf", "max", "amax", "sort", "argsort", "relu", "bitwise_not", "trapezoid", "corrcoef", "cov")])
    check(["torch.sum(x, 1, dtype=torch.complex64)", "c.sum(dtype=torch.complex128)", "torch.prod(c, 0, keepdim=True)", "c.mean(1, keepdim=True)", "c.norm(1)", "torch.std(c, unbiased=False)",
           "torch.linalg.vector_norm(c, float('inf'))", "torch.linalg.matrix_norm(c)", "torch.linalg.norm(c - d)", "torch.clamp(c, 0, 1)", "torch.softmax(c, 1)", "c % 2", "c // 2"])


def test_products():
    check(["c @ d.t()", "c @ d.mH", "c @ d[0]", "c @ x.t()", "torch.mm(c, d.t())", "torch.bmm(c[None], d.t()[None])", "torch.dot(c[0], d[0])", "torch.vdot(c[0], d[0])", "torch.mv(c, d[0])",
           "torch.addmm(torch.ones(2, 2, dtype=torch.complex64), c, d.t(), beta=1j, alpha=2)", "torch.einsum('ij,ij->i', c, d)", "torch.einsum('ij,kj->ik', c.conj(), d)",
           "torch.tensordot(c, d, 2)", "torch.inner(c, d)", "torch.outer(c[0], d[0])", "torch.kron(c, d)", "c.H, c.mH, c.mT, c.adjoint()", "torch.linalg.det(c @ d.t())",
           "torch.linalg.inv(c @ d.t())", "torch.linalg.solve(c @ d.t() + 5, c)", "torch.fft.fft(c), torch.fft.ifft2(c), torch.fft.irfft(c), torch.fft.rfft(x)"])


def test_gradients_of_functions():
    smooth = [f for f in UNARY if f not in ("angle", "positive", "t", "flatten", "triu", "trace", "diff", "sinc", "conj_physical", "norm")]
    check([f"grad(lambda t: torch.{f}(t), c)" for f in UNARY if f != "sinc"])
    check([f"twice(lambda t: torch.{f}(t), z)" for f in smooth] + [f"twice(lambda t: torch.{f}(t, {a}), z)" for f, a in AXIS.items() if f != "roll"])


BINARY = ("a * b", "a / b", "a + b", "a - b", "a ** b", "a @ b.t()", "a @ b.conj().t()", "torch.vdot(a[0], b[1])", "torch.dot(a[0], b[1])", "torch.where(a.real > 0, a, b)",
          "torch.cat([a, b])", "torch.stack([a, b])", "a * 2j", "2j / a", "a ** 2", "a ** 3", "a ** -1", "a ** 0.5", "a ** (1 + 1j)", "2 ** a", "(1 + 1j) ** a",
          "torch.addcmul(a, a, b)", "torch.addcdiv(a, a, b)", "torch.lerp(a, b, 0.3)", "torch.outer(a[0], b[0])", "torch.einsum('ij,kj->ik', a, b)", "torch.kron(a, b)",
          "torch.complex(a.real, b.imag)", "torch.polar(a.abs(), b.angle())", "torch.linalg.norm(a - b)", "(a - b).norm(1)", "torch.linalg.det(a @ b.t())",
          "torch.linalg.inv(a @ b.t() + 5)", "torch.linalg.solve(a @ b.t() + 5, a)", "torch.fft.fft(a * b)", "torch.fft.irfft(a)", "torch.nn.functional.linear(a, b)",
          "torch.nn.functional.l1_loss(a, b)", "a[:, [0, 2]] * b[0, 1]", "a.masked_fill(a.real > 0, 2j) * b", "torch.cross(a, b)", "a.expand(2, 2, 3).sum(0) * b")


@pytest.mark.parametrize("block", range(3))
def test_gradients_of_two(block):
    check([f"grad(lambda a, b: {f}, c, d)" for f in BINARY[block::3]] + [f"twice(lambda a, b: {f}, z, w)" for f in BINARY[block::3]])


def test_gradients_with_real_operands():
    check([f"grad(lambda a, b: {f}, {xs})" for f in ("a * b", "a / b", "a + b", "b - a", "a ** b") for xs in ("c, x", "x, c", "z, x", "xd, c", "c[:, :1], x")])


def test_gradients_at_zero():
    check([f"q = torch.zeros(3, dtype=torch.complex64, requires_grad=True); {f}.backward(); q.grad" for f in
           ("q.abs().sum()", "q.angle().sum()", "q.sgn().real.sum()", "(q ** 2).real.sum()", "q.prod().real")])


def test_backward_of_complex_results():
    check(["c.requires_grad_(); c.sum().backward()", "c.requires_grad_(); (c * 1j).backward(d); c.grad", "x.requires_grad_(); (x * 1j).sum().backward()",
           "x.requires_grad_(); ((x * 1j) ** 2).real.sum().backward(); x.grad", "c.requires_grad_(); torch.autograd.grad(c.sum(), c, torch.tensor(2j))",
           "c.requires_grad_(); y = c * 1; y.register_hook(lambda g: g * 1j); y.abs().sum().backward(); c.grad"])


def test_in_place():
    check([f"{s}; [c, x, c._version, x._version]" for s in
           ("c.add_(1)", "c.mul_(2j)", "c += x", "c -= z", "c /= 2", "c *= d", "x += c", "x *= 1j", "i += 1j", "c **= 2", "c[0] = 5", "c[0] = x[1]", "x[0] = c[0]", "c[c.real > 0] = 1j",
            "c.zero_()", "c.fill_(1 + 2j)", "x.fill_(1j)", "c.copy_(x)", "x.copy_(c)", "c.neg_()", "c.conj_physical_()", "c.sqrt_()", "c.exp_()", "c.clamp_(0)", "c.masked_fill_(b, 3j)",
            "c.sub_(d, alpha=2j)", "c.add_(d, alpha=2)", "c.addcmul_(c, d, value=1j)", "c.index_add_(0, torch.tensor([1]), d[:1])", "c.reciprocal_()", "c.pow_(2)",
            "c.lerp_(d, 0.5)", "c.cumsum_(1)", "c.round_()", "c.sigmoid_()", "c.scatter_(1, torch.tensor([[0, 1], [2, 0]]), d)", "c.t_()", "c.unsqueeze_(0)", "c.real.add_(3)", "c.imag = x")])


def test_making_and_converting():
    check(["torch.tensor([1, 2j])", "torch.tensor([1.5, 2j], dtype=torch.complex128)", "torch.tensor(1j, dtype=torch.float32)", "torch.as_tensor(np.array([1j]))", "torch.full((2,), 1j)",
           "torch.zeros(2, dtype=torch.complex64)", "torch.ones_like(c)", "torch.eye(2, dtype=torch.complex64)", "torch.linspace(0, 1, 3, dtype=torch.complex64)", "torch.linspace(0, 1j, 3)",
           "torch.result_type(c, xd)", "torch.promote_types(torch.complex64, torch.float64)", "torch.can_cast(torch.complex64, torch.float32)", "torch.is_complex(c), c.is_complex()",
           "c.to(torch.float32)", "c.int()", "c.bool()", "c.half()", "x.cfloat()", "x.cdouble()", "i.to(torch.complex128)", "c.double()", "c.type()", "c.dtype.to_real()",
           "torch.finfo(torch.complex64).eps", "c.element_size()", "torch.complex(x, x)", "torch.complex(xd, xd)", "torch.complex(x, xd)", "torch.complex(i, i)", "torch.polar(x.abs(), x)",
           "torch.manual_seed(0); torch.randn(5, dtype=torch.complex64)", "torch.manual_seed(0); torch.rand(20, dtype=torch.complex128)", "torch.manual_seed(0); c.normal_()",
           "torch.where(b, c, 0)", "torch.where(b, c, x)", "torch.where(b, 1j, x)", "c.tolist()", "c[0, 0].item()", "complex(c[0, 0])", "float(c[0, 0])", "int(c[0, 0])", "bool(c[0, 0])",
           "torch.nn.functional.pad(c, (1, 1))", "c.repeat(2, 1)", "c[:, [2, 0]]", "c[c.abs() > 1]", "torch.masked_select(c, b)", "torch.take(c, torch.tensor([0, 3]))",
           "c.gather(1, torch.tensor([[0], [2]]))", "torch.default_generator is None, torch.get_default_dtype()"])


def test_printing():
    check([f"str({v})" for v in ("c", "z", "c[0, 0]", "c * 1e6", "c * 1e-7", "torch.zeros(0, dtype=torch.complex64)", "torch.full((2000,), 1 + 2j)", "c.real", "c.imag[1]",
                                 "torch.tensor([float('nan') + 1j, complex(1, float('inf'))])", "c.clone().requires_grad_()")] + ["f'{c[0, 0]}'", "repr(c)", "format(c[0, 0])"])


def test_conjugates_are_computed():
    """Unlike PyTorch's, whose conj() is a view with a mark (docs/differences.md)."""
    c = forno.tensor([1 + 2j, 3j])
    y = c.conj()
    y.mul_(2)
    assert not y.is_conj() and y.resolve_conj() is y and not y.is_neg() and y.resolve_neg() is y
    assert c.tolist() == [1 + 2j, 3j] and y.tolist() == [2 - 4j, -6j] and forno.view_as_real(y).tolist() == [[2, -4], [0, -6]]
