"""Every elementwise row against PyTorch: result dtype, shape, values (by the oracle), exceptions, and gradients to second order."""
import numpy as np
import pytest
import torch
import torch.nn.functional as F

import forno
from forno.core.op import TABLE
from forno.dnn import bessel, polynomials

from .duck import Duck, from_torch, grads, to_torch

ELSEWHERE = {n for n, op in TABLE.items() if op in (*vars(bessel).values(), *vars(polynomials).values(), *polynomials.CHEBYSHEV)}       # values: test_special.py
# what a row is in PyTorch, where it isn't torch.<name>; a tuple's further entries are numbers given to both sides
TORCH = {
    **{n: getattr(torch.special, n) for n in ("zeta", "i0e", "i1", "i1e", "erfcx", "ndtr", "ndtri", "log_ndtr", *sorted(ELSEWHERE))},
    "polygamma": lambda n, x: torch.polygamma(int(n), x),
    "div_count": (torch.div, 3),
    "add_scaled": (lambda x, y, k: torch.add(x, y, alpha=k), 0.5), "addcmul": (lambda x, y, z, k: torch.addcmul(x, y, z, value=k), 0.5),
    "addcdiv": (lambda x, y, z, k: torch.addcdiv(x, y, z, value=k), 0.5), "lerp": (torch.lerp, 0.3), "lerp_number": (torch.lerp, 0.3),
    "trunc_divide": lambda x, y: torch.div(x, y, rounding_mode="trunc"),
    "where": torch.where, "masked_fill": (torch.masked_fill, 2), "clamp": (torch.clamp, -1, 2), "nan_to_num": (torch.nan_to_num, 0.5, 9.0, -9.0),
    "conj": lambda x: torch.conj(x).resolve_conj(), "entr": torch.special.entr, "xlog1py": torch.special.xlog1py, "logsigmoid": F.logsigmoid,
    "leaky_relu": (F.leaky_relu, 0.1), "threshold": (F.threshold, 0.5, 2.0), "hardshrink": (F.hardshrink, 0.5), "softshrink": (F.softshrink, 0.5),
    "elu": (F.elu, 1.5), "celu": (F.celu, 1.5), "softplus": (F.softplus, 2.0, 3.0), "hardtanh": (F.hardtanh, -1.0, 0.5), "relu6": F.relu6,
    "silu": F.silu,
    "gelu_slope": lambda x: torch.ops.aten.gelu_backward(torch.ones_like(x), x),
    "gelu_tanh_slope": lambda x: torch.ops.aten.gelu_backward(torch.ones_like(x), x, approximate="tanh"),
    "gelu": F.gelu, "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"), "mish": F.mish, "softsign": F.softsign, "tanhshrink": F.tanhshrink,
    "hardsigmoid": F.hardsigmoid, "hardswish": F.hardswish, "prelu": lambda x, w: torch.where(x > 0, x, x * w),
    "real": lambda x: torch.real(x), "binary_cross_entropy": lambda x, y: F.binary_cross_entropy(x, y, reduction="none"),
    "bce_with_logits": lambda x, y: F.binary_cross_entropy_with_logits(x, y, reduction="none"),
    "smooth_l1": (lambda x, y, k: F.smooth_l1_loss(x, y, beta=k, reduction="none"), 0.5),
    "huber": (lambda x, y, k: F.huber_loss(x, y, delta=k, reduction="none"), 0.5),
}
SKIP = {"cast", "within", "adam_square", "adam_step", "philox", "philox_more"}       # the last ones: tests/optim, tests/gpu/test_framework.py
ROWS = [n for n, op in TABLE.items() if op.kind == "elementwise" and n not in SKIP]
DTYPES = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64,
          torch.complex64, torch.complex128]
SPECIAL = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 0.25, 2.0, -2.0, 3.0, -3.0, 6.0, 1.5, -1.5, 2.5, 0.7, 1e-3, -1e-3, 10.0, -10.0, 30.0, -30.0,
           float("inf"), -float("inf"), float("nan")]
INTS = [0, 1, -1, 2, -2, 3, 5, -7, 11, 40, 100, -100]
INEXACT = {"igamma": 40, "igammac": 40}         # PyTorch's own are good to 4e-10 between 20 and 200
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 2e-5, torch.float64: 1e-11, torch.complex64: 5e-5, torch.complex128: 1e-10}


def function(name):
    f = TORCH.get(name, None) or getattr(torch, name)
    return (f[0], f[1:]) if isinstance(f, tuple) else (f, ())


ARITY = {"where": 3, "nan_to_num": 4}
for _n in ROWS:
    if _n in ARITY: continue
    for k in range(1, 6):
        try: TABLE[_n].oracle(None, *[np.ones(1, np.bool_ if (_n, i) in {("where", 0), ("masked_fill", 1)} else np.int64
                                              if _n.startswith("bitwise") or _n in ("gcd", "lcm") else np.float64) for i in range(k)])
        except (TypeError, ValueError): continue
        ARITY[_n] = k
        break


def tensors(name): return ARITY[name] - len(function(name)[1])


def sample(dtype, special=True):
    if dtype is torch.bool: return torch.tensor([True, False, True, True])
    if not dtype.is_floating_point and not dtype.is_complex: return torch.tensor([abs(i) if dtype is torch.uint8 else i for i in INTS]).to(dtype)
    xs = torch.tensor(SPECIAL if special else [x for x in SPECIAL if abs(x) < 20], dtype=torch.float64)
    if dtype.is_complex: return torch.complex(xs[:15], xs.flip(0)[-15:]).to(dtype)
    return xs.to(dtype)


def pairs(x, y): return (x[:, None], y) if x.ndim and y.ndim else (x, y)


def masks(name, xs):
    if name == "where": xs[0] = xs[0] != 0
    if name == "masked_fill": xs[1] = xs[1] != 0
    return xs


def excused(name, xs):
    """Combinations where forno differs on purpose."""
    types = [x.dtype for x in xs if isinstance(x, torch.Tensor)]
    if name in ("real", "imag") and not types[0].is_complex: return True                # the function layer returns x itself, or raises
    if name in ("prelu", *LOSSES) and (len(set(types)) > 1 or not types[0].is_floating_point): return True      # the function layer checks these
    # only here, or only in PyTorch
    if name in ("zeta", "erfcx", "log_ndtr", "ndtri", "nextafter") and (torch.float16 in types or torch.bfloat16 in types): return True
    if name == "zeta" and not all(x.isfinite().all() for x in xs if isinstance(x, torch.Tensor)): return True
    if name == "polygamma": return True                             # its own test
    if name == "softsign" and types[0].is_complex: return True
    # PyTorch's oneDNN path gives NaN for inf
    if name == "gelu" and types[0] is not torch.float64 and xs[0].is_floating_point() and xs[0].isinf().any(): return True
    if name in ("complex", "polar") and torch.bfloat16 in types: return True             # allowed here
    if name == "logaddexp" and any(t.is_complex for t in types): return True
    if name in ("lerp", "lerp_number", "complex", "polar", "addcdiv") and len(set(types)) > 1: return True                    # mixed types promote
    if name in ("softsign", "tanhshrink") and types[0] is torch.bool: return True       # composed in PyTorch, one row here
    if name in LOSSES and len({x.shape for x in xs}) > 1: return True
    if name == "binary_cross_entropy" and not all(((x >= 0) & (x <= 1)).all() for x in xs): return True         # the function layer's range check
    if name in ("complex", "polar") and types[0] is torch.float16: return True
    if name == "hardtanh" and types[0] is torch.uint8: return True
    if name == "pow" and types == [torch.bool] and xs[1] is True: return True
    # complex32 computes as complex64
    return torch.float16 in types and (any(t.is_complex for t in types) or 1j in [x for x in xs if isinstance(x, complex)])


LOSSES = ("binary_cross_entropy", "bce_with_logits", "smooth_l1", "huber")


def agree(name, xs, rough=1.0):
    """The row and PyTorch give the same dtype, shape and values, or the same kind of exception."""
    f, numbers = function(name)
    if excused(name, xs): return
    try: want = f(*xs, *numbers)
    except Exception as e: error = e
    else: error = None
    ducks = [from_torch(x) if isinstance(x, torch.Tensor) else x for x in xs]
    if error is not None:
        if "ZeroDivision" in str(error): return
        try: got = Duck.record(TABLE[name], *ducks, *numbers)
        except type(error): return
        except Exception as e: raise AssertionError(f"{name}: {type(e).__name__} {e}; PyTorch: {type(error).__name__} {error}") from None
        given = [x.dtype if isinstance(x, torch.Tensor) else x for x in xs]
        raise AssertionError(f"{name} {given}: no exception; PyTorch: {type(error).__name__} {error}")
    got = Duck.record(TABLE[name], *ducks, *numbers)
    assert (got.dtype.name, got.shape) == (str(want.dtype)[6:], tuple(want.shape)), f"{name} {xs}"
    tolerance = rough * TOLERANCE.get(want.dtype, 0) * INEXACT.get(name, 1)
    torch.testing.assert_close(to_torch(got), want, rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.mark.parametrize("name", ROWS)
def test_types(name):
    """All dtypes for one tensor operand; all pairs of them for two."""
    n = tensors(name)
    for a in DTYPES:
        if n == 1: agree(name, [sample(a, not a.is_complex)[:8]]); continue
        for b in DTYPES:
            x, y = sample(a, False)[1:4], sample(b, False)[1:4]
            agree(name, masks(name, [x, y, y][:n]), 4)


@pytest.mark.parametrize("name", [n for n in ROWS if tensors(n) == 2 and n not in ("where", "masked_fill", "prelu")])
def test_numbers(name):
    """A Python number or a 0-d tensor next to a tensor."""
    f, more = function(name)
    for a in DTYPES:
        x = sample(a, False)[1:4]
        for y in (True, 2, 2.5, 1j):
            agree(name, [x, torch.tensor(y)], 4)
            if name in NUMBERS and not more: agree(name, [x, y], 4)


NUMBERS = ("add", "sub", "mul", "div", "remainder", "fmod", "pow", "lt", "le", "gt", "ge", "eq", "ne", "bitwise_and", "bitwise_or", "bitwise_xor",
           "floor_divide")


@pytest.mark.parametrize("name", [n for n in ROWS if n not in ELSEWHERE])
def test_values(name):
    """Special values, and every pair of them, in the types that matter."""
    n = tensors(name)
    for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8):
        x = sample(dtype)
        if name in ("binary_cross_entropy", "bce_with_logits"): x = x[(x >= 0) & (x <= 1)]
        if n == 1: agree(name, [x], 2)
        elif n == 2: agree(name, masks(name, list(torch.broadcast_tensors(*pairs(x, x)))), 2)
        else: agree(name, masks(name, [x[:, None, None], x[:, None], x]), 2)


def smooth(name, count=9):
    """Points where PyTorch and we both have a derivative, kinks included."""
    rng = np.random.default_rng(3)
    x = torch.tensor(np.concatenate([rng.uniform(-2.5, 2.5, count), [0.5, -0.5, 1.0, 2.0, -3.0, 3.0, 0.0]]), dtype=torch.float64)
    if name in ("sqrt", "rsqrt", "log", "log2", "log10", "pow", "xlogy", "entr", "reciprocal", "lgamma", "digamma", "zeta"): x = x.abs() + 0.25
    if name in ("asin", "acos", "atanh", "erfinv", "logit"): x = (x / 4).abs() + 0.05
    if name in ("log1p", "xlog1py"): x = (x / 4)
    if name in ("acosh", "zeta"): x = x.abs() + 1.5
    if name == "polar": x = x.abs() + 0.1                           # PyTorch's gradient is wrong for a negative radius
    if name in ("binary_cross_entropy",): x = (x / 8).abs() + 0.1
    return x


DIFFERENTIABLE = [n for n in ROWS if TABLE[n].grads and any(TABLE[n].grads) and n not in ("floor_divide", "trunc_divide", "zeta", "igamma", "igammac")]


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_gradients(name, dtype):
    """First and second derivatives, with a random cotangent each."""
    f, numbers = function(name)
    n = tensors(name)
    x = smooth(name)
    ins = [x.clone(), x.flip(0)[:, None].clone() if n > 1 else None, x.roll(3).clone() if n > 2 else None][:n]
    if dtype.is_complex: ins = [torch.complex(t, t.roll(1) + 0.1) for t in ins]
    if name in ("sgn", "abs", "angle") and dtype.is_complex: ins = [t[t != 0] for t in ins]
    if excused(name, ins): return
    if name in ("elu", "selu", "celu", "huber", "atan2"): ins = [t[..., :-1] for t in ins]    # PyTorch's second derivative differs at the kink itself
    ins = [t if (name, i) in {("where", 0), ("masked_fill", 1)} else t.requires_grad_() for i, t in enumerate(masks(name, ins))]
    if name in ("where", "masked_fill"): ins = [t.detach() if t.dtype is torch.bool else t for t in ins]
    try: y = f(*ins, *numbers)
    except Exception: return
    if not y.requires_grad: return
    torch.manual_seed(1)
    wants = [t for t in ins if t.requires_grad]
    cot = torch.randn_like(y).requires_grad_()
    g1 = torch.autograd.grad(y, wants, cot, create_graph=True)
    ducks = [from_torch(t) for t in ins]
    want_ducks = [d for d, t in zip(ducks, ins) if t.requires_grad]
    out = Duck.record(TABLE[name], *ducks, *numbers)
    c = from_torch(cot)
    h1 = grads([out], [c], want_ducks)
    for a, b in zip(g1, h1): torch.testing.assert_close(to_torch(b), a.detach(), rtol=1e-8, atol=1e-8, equal_nan=True)
    used = [i for i, g in enumerate(g1) if g.requires_grad]
    if not used or name == "hardsigmoid": return                   # PyTorch has no second derivative of hardsigmoid
    cots = [torch.randn_like(g1[i]) for i in used]
    g2 = torch.autograd.grad([g1[i] for i in used], [*wants, cot], cots, allow_unused=True)
    h2 = grads([h1[i] for i in used], [from_torch(t) for t in cots], [*want_ducks, c])
    for a, b in zip(g2, h2):
        a = torch.zeros(()) if a is None else a
        b = torch.zeros((), dtype=a.dtype) if b is None else to_torch(b)
        torch.testing.assert_close(*torch.broadcast_tensors(b, a.to(b.dtype)), rtol=1e-7, atol=1e-7, equal_nan=True)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_polygamma(n):
    x = torch.tensor([0.1, 0.7, 1.0, 3.5, 20.0, -0.5, -2.3], dtype=torch.float64, requires_grad=True)
    y = torch.polygamma(n, x)
    dx, = torch.autograd.grad(y.sum(), x)
    duck = from_torch(x)
    out = Duck.record(TABLE["polygamma"], n, duck)
    torch.testing.assert_close(to_torch(out), y.detach(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(to_torch(grads([out], [from_torch(torch.ones_like(y))], [duck])[0]), dx, rtol=1e-9, atol=1e-9)
    q = x.detach()[:5].clone().requires_grad_()
    s = torch.full_like(q, n + 1.5)
    y = torch.special.zeta(s, q)
    duck = from_torch(q)
    got = grads([Duck.record(TABLE["zeta"], from_torch(s), duck)], [from_torch(torch.ones_like(q))], [duck])[0]
    torch.testing.assert_close(to_torch(got), torch.autograd.grad(y.sum(), q)[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(), (1,), (9,), (3, 40)])
@pytest.mark.parametrize("name", ["fmod", "remainder", "floor_divide"])
def test_remainders_of_half(name, shape):
    """Rounded twice, from float64 by float32: no instruction does that at once, and nothing outside may be called for it."""
    for half in ("float16", "bfloat16"):
        a, b = torch.full(shape, -5.5, dtype=getattr(torch, half)), torch.full(shape, 2.25, dtype=getattr(torch, half))
        x, y = forno.full(shape, -5.5, dtype=getattr(forno, half)), forno.full(shape, 2.25, dtype=getattr(forno, half))
        assert getattr(forno, name)(x, y).tolist() == getattr(torch, name)(a, b).tolist()
