"""The builder's arithmetic: functions in ulp against mpmath, special values, integer division, conversions, half types, complex numbers."""
import ctypes

import mpmath
import numpy as np
import pytest
import torch

from forno.core import dtype as dt
from forno.cpu.code import load
from forno.kernel.builder import Builder
from forno.kernel.text import PTR, Val

F, D = dt.float32, dt.float64
FLOATS = (F, D)


def apply(emit, *arrays, types=None, n=16, result=None):
    """emit(b, *xs) on arrays of one length (padded to whole vectors)."""
    types = types or [dt.FROM_NUMPY[a.dtype] for a in arrays]
    b, count = Builder(), -(-len(arrays[0]) // n) * n
    arrays = [np.concatenate([a, np.repeat(a[:1], count - len(a))]) for a in arrays]
    names = [f"%p{k}" for k in range(len(arrays))]
    with b.function("k", ", ".join(f"ptr {p}" for p in [*names, "%out"]) + ", i64 %n"), b.loop(0, Val("%n", dt.int64), n) as i:
        out = emit(b, *(b.load(b.offset(Val(p, PTR), i, t), t, n) for p, t in zip(names, types)))
        b.store(b.splat(out, n), b.offset(Val("%out", PTR), i, out.dtype))
    out_array = np.zeros(count, (result or out.dtype).code)
    f = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (len(arrays) + 1), ctypes.c_int64)(load(b.module(), "k"))
    f(*(a.ctypes.data for a in arrays), out_array.ctypes.data, count)
    return out_array


def call(name, *arrays, **more): return apply(lambda b, *xs: getattr(b, name)(*xs), *arrays, **more)


M = mpmath.mp.clone()
M.prec = 120
# range, reference, ulp allowed in (float32, float64)
FUNCTIONS = {
    "exp": (-103, 88.7, M.exp, 1.1, 1.1), "exp2": (-140, 127.9, lambda x: M.mpf(2) ** x, 1.1, 1.1), "expm1": (-20, 88, M.expm1, 1.5, 1.7),
    "log": (0, 1e4, M.log, 1, 1), "log2": (0, 1e4, lambda x: M.log(x) / M.log(2), 0.6, 2), "log10": (0, 1e4, M.log10, 0.6, 2.6),
    "log1p": (-1, 100, M.log1p, 1.3, 1.3),
    "sin": (-1e5, 1e5, M.sin, 1.6, 2), "cos": (-1e5, 1e5, M.cos, 1.6, 2), "tan": (-1e4, 1e4, M.tan, 0.6, 3),
    "asin": (-1, 1, M.asin, 0.6, 2.2), "acos": (-1, 1, M.acos, 0.6, 1.5), "atan": (-10, 10, M.atan, 0.6, 1.2),
    "sinh": (-80, 80, M.sinh, 0.6, 2), "cosh": (-80, 80, M.cosh, 1.5, 1.5), "tanh": (-10, 10, M.tanh, 1.6, 2),
    "asinh": (-1e3, 1e3, M.asinh, 0.6, 2), "acosh": (1, 1e3, M.acosh, 0.6, 2.5), "atanh": (-1, 1, M.atanh, 0.6, 2.2),
    "sigmoid": (-50, 50, lambda x: 1 / (1 + M.exp(-x)), 2.5, 2.5), "erf": (-5, 5, M.erf, 1.2, 1), "erfc": (-5, 9, M.erfc, 0.6, 2.5),
    "rsqrt": (0, 100, lambda x: 1 / M.sqrt(x), 1.6, 1.6), "sqrt": (0, 100, M.sqrt, 0.5, 0.5),
    "lgamma": (-20, 50, lambda x: M.log(abs(M.gamma(x))), 2, 50), "digamma": (-20, 50, M.digamma, 2, 8),
}


def ulps(got, want, floor=0.0):
    """Distance from exact numbers, in units of the last place of a number of that size (at least `floor`)."""
    unit = np.spacing(np.maximum(np.abs(np.array([float(w) for w in want])), floor).astype(got.dtype)).astype(np.float64)
    return np.array([float(abs(M.mpf(float(g)) - w)) for g, w in zip(got, want)]) / unit


@pytest.mark.parametrize("t", FLOATS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_accuracy(name, t):
    lo, hi, exact, *limits = FUNCTIONS[name]
    rng = np.random.default_rng(1)
    near = rng.uniform(max(lo, -2), min(hi, 2), 150), max(lo, 0) + np.exp(rng.uniform(-20, 0, 100))
    x = np.concatenate([rng.uniform(lo, hi, 350), *near, rng.uniform(0.5, 1.5, 40) if lo < 1 and hi > 1.5 else near[0]]).astype(t.code)
    if name in ("sin", "cos", "tan"): x[:100] = 10.0 ** rng.uniform(5, 38 if t is F else 300, 100)
    x = x[(x > lo) & (x < hi) | (np.abs(x) > 1e5)] if lo == 0 or abs(lo) == 1 else x
    error = ulps(call(name, x)[:len(x)], [exact(M.mpf(float(v))) for v in x], 1.0 if "gamma" in name else 0.0)
    worst = int(np.argmax(error))
    assert error[worst] <= limits[t is D], f"{name}({x[worst]!r}): {error[worst]:.2f} ulp"


SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1.0, -1.0, 0.5, -0.5, 2.0, -2.0, 1e-40, -1e-40, 5e-324, 1e30, -1e30, 3.0, -3.0, 0.25, 100.0, -200.0,
           1e300, -1e300]


@pytest.mark.parametrize("t", FLOATS)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_special_values(name, t):
    """Infinities, NaN, zeros with their sign, denormals, huge numbers: as PyTorch gives them."""
    with np.errstate(all="ignore"): x = np.array(SPECIAL).astype(t.code)
    functions = {"erf": torch.erf, "erfc": torch.erfc, "lgamma": torch.lgamma, "digamma": torch.digamma}
    want = (functions.get(name) or getattr(torch, name))(torch.from_numpy(x)).numpy()
    got = call(name, x)[:len(x)]
    if name == "digamma": want = np.where(np.abs(x) == np.inf, got, want)              # PyTorch's NaN and inf there are accidents of its recursion
    if name in ("lgamma", "digamma"): want, got = (np.where((np.abs(x) < 1e-37) & (x != 0) | (np.abs(x) >= 1e30), 0, v) for v in (want, got))
    np.testing.assert_allclose(got, want, rtol=2e-6 if t is F else 1e-13, atol=1e-45 if t is F else 1e-323)
    zero = (got == 0) & (want == 0) & (name != "lgamma")
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


@pytest.mark.parametrize("n", (1, 2, 8, 64))
@pytest.mark.parametrize("name", ("exp", "log", "sin", "tanh", "erf"))
def test_any_number_of_lanes(name, n):
    for t in FLOATS:
        x = np.random.default_rng(0).uniform(0.1, 5, 100).astype(t.code)
        np.testing.assert_allclose(call(name, x, n=n)[:100], call(name, x)[:100], rtol=1e-6)


PAIRS = [(x, y) for x in (0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, 3.0, -3.0, np.inf, -np.inf, np.nan, 1e-320, 1e300) for y in
         (0.0, -0.0, 1.0, -1.0, 2.0, 3.0, -3.0, 0.5, -0.5, 1e300, 2.0 ** 53, np.inf, -np.inf, np.nan)]


TWO = {"pow": torch.pow, "atan2": torch.atan2, "hypot": torch.hypot, "rem": torch.fmod, "mod": torch.remainder,
       "max": torch.maximum, "min": torch.minimum, "floordiv": lambda x, y: torch.div(x, y, rounding_mode="floor")}


@pytest.mark.parametrize("name", TWO)
@pytest.mark.parametrize("t", FLOATS)
def test_functions_of_two_numbers(name, t):
    rng = np.random.default_rng(0)
    def random(): return rng.standard_normal(400) * 10 ** rng.uniform(-3, 3, 400)
    with np.errstate(all="ignore"): x, y = (np.concatenate([np.array([p[k] for p in PAIRS]), random()]).astype(t.code) for k in (0, 1))
    if name == "pow": x[-200:] = np.abs(x[-200:])
    want, got = TWO[name](torch.from_numpy(x), torch.from_numpy(y)).numpy(), call(name, x, y)[:len(x)]
    exact = name in ("rem", "max", "min")
    if name in ("mod", "floordiv", "rem"): x, y, want, got = (v[(np.abs(y) < np.inf) & (y != 0)] for v in (x, y, want, got))
    np.testing.assert_allclose(got, want, rtol=0 if exact else 2e-7 if t is F else 1e-15, atol=0)
    zero = (got == 0) & (want == 0) if name not in ("max", "min", "mod") else []
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


def test_pow_accuracy():
    rng = np.random.default_rng(0)
    for t, limit in ((F, 0.6), (D, 1)):
        x, y = rng.uniform(0, 3, 600).astype(t.code), rng.uniform(-70, 70, 600).astype(t.code)
        x[:200] = 1 + rng.standard_normal(200) * 1e-3
        y[:200] *= 300
        want = [M.mpf(float(a)) ** M.mpf(float(c)) for a, c in zip(x, y)]
        fits = np.array([1e-37 < w < 1e38 for w in want])
        assert ulps(call("pow", x, y)[:600][fits], [w for w, ok in zip(want, fits) if ok]).max() <= limit


@pytest.mark.parametrize("t", [t for t in dt.ALL if t.category == dt.INT])
def test_integer_division_never_traps(t):
    info = np.iinfo(t.code)
    edge = np.array([0, 1, 2, 3, 7, info.max, info.max - 1, info.min, *((info.min + 1, -1, -2, -7) if t.signed else (5, 9, 11, 13))], t.code)
    x, y = (v.ravel() for v in np.meshgrid(edge, edge))
    safe = y.copy()
    safe[y == 0] = 1
    with np.errstate(all="ignore"):
        wide = np.array([int(a) // int(c) for a, c in zip(x, safe)], object)
        floor = np.array([int(v) & (1 << 8 * t.size) - 1 for v in wide], np.uint64).astype(t.code)
        mod = np.array([int(a) % int(c) for a, c in zip(x, safe)], object).astype(t.code)
        fmod = np.array([abs(int(a)) % abs(int(c)) * (1 if a >= 0 else -1) for a, c in zip(x, safe)], object).astype(t.code)
    for name, want in (("floordiv", floor), ("mod", mod), ("rem", fmod)):
        np.testing.assert_array_equal(call(name, x, y)[:len(x)], np.where(y == 0, 0, want), err_msg=name)


@pytest.mark.parametrize("t", (dt.int8, dt.int32, dt.int64, dt.uint8))
def test_integer_powers_and_shifts(t):
    rng = np.random.default_rng(0)
    x, y = rng.integers(-5 if t.signed else 0, 6, 200).astype(t.code), rng.integers(-3 if t.signed else 0, 7, 200).astype(t.code)
    up = np.where(y > 0, y, 0).astype(t.code)
    with np.errstate(all="ignore"): want = torch.pow(torch.from_numpy(x), torch.from_numpy(up)).numpy()
    want = np.where(y < 0, np.where(x == 1, 1, np.where(x == -1, 1 - 2 * (y.astype(int) & 1), 0)), want) if t.signed else want
    np.testing.assert_array_equal(call("pow", x, y)[:200], want.astype(t.code))
    bits = 8 * t.size
    x, y = rng.integers(-100 if t.signed else 0, 100, 200).astype(t.code), rng.integers(-2 if t.signed else 0, bits + 3, 200).astype(t.code)
    far = (y < 0) | (y >= bits)
    shift = np.where(far, 0, y).astype(t.code)
    np.testing.assert_array_equal(call("shl", x, y)[:200], np.where(far, 0, np.left_shift(x, shift)))
    want = np.where(far, np.where(x < 0, -1, 0) if t.signed else 0, np.right_shift(x, shift)).astype(t.code)
    np.testing.assert_array_equal(call("shr", x, y)[:200], want)


REAL = [t for t in dt.ALL if t.category != dt.COMPLEX]


@pytest.mark.parametrize("a", REAL)
def test_conversions(a):
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.uniform(-140, 140, 64)).abs() if not a.signed else torch.from_numpy(rng.uniform(-140, 140, 64))
    x = x.to(getattr(torch, a.name))
    x[0] = 0
    stored = x.view(torch.uint16).numpy() if a is dt.bfloat16 else x.numpy()
    for b in REAL:
        want = x.to(getattr(torch, b.name))
        got = apply(lambda k, v, b=b: k.cast(v, b), stored, types=[a])
        np.testing.assert_array_equal(got, want.view(torch.uint16).numpy() if b is dt.bfloat16 else want.numpy(), err_msg=f"{a} to {b}")


def test_every_half_number_and_its_rounding():
    with np.errstate(all="ignore"):
        for t, name in ((dt.float16, torch.float16), (dt.bfloat16, torch.bfloat16)):
            halves = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(name)
            stored = halves.view(torch.uint16).numpy() if t is dt.bfloat16 else halves.numpy()
            np.testing.assert_array_equal(apply(lambda k, v: k.cast(v, F), stored, types=[t]), halves.float().numpy())
            x = np.random.default_rng(0).integers(0, 2 ** 32, 200000, dtype=np.uint64).astype(np.uint32).view(np.float32)
            x[:65536] = np.nextafter(halves.float().numpy(), np.float32(np.inf))
            x[65536:131071] = (halves.float().numpy()[1:] + halves.float().numpy()[:-1]) / 2       # ties
            got = apply(lambda k, v, t=t: k.cast(v, t), x)[:len(x)]
            want = torch.from_numpy(x).to(name)
            bits = want.view(torch.uint16).numpy()
            nan = np.isnan(x)
            np.testing.assert_array_equal(got.view(np.uint16)[~nan], bits[~nan])
            assert torch.from_numpy(got.view(np.uint16)).view(name)[torch.from_numpy(nan)].isnan().all()


def test_half_arithmetic_rounds_every_result():
    for t, name in ((dt.float16, torch.float16), (dt.bfloat16, torch.bfloat16)):
        x, y = (torch.randn(256, generator=torch.Generator().manual_seed(s)).to(name) for s in (0, 1))
        a, b = (v.view(torch.uint16).numpy() if t is dt.bfloat16 else v.numpy() for v in (x, y))
        cases = (("add", (a, b), x + y), ("mul", (a, b), x * y), ("div", (a, b), x / y), ("max", (a, b), torch.maximum(x, y)), ("neg", (a,), -x),
                 ("abs", (a,), x.abs()), ("exp", (a,), x.exp()), ("floor", (a,), x.floor()))
        for method, xs, want in cases:
            got = call(method, *xs, types=[t] * len(xs))
            np.testing.assert_array_equal(got, want.view(torch.uint16).numpy() if t is dt.bfloat16 else want.numpy(), err_msg=f"{method} {t}")


@pytest.mark.parametrize("t", FLOATS)
def test_rounding_and_signs(t):
    x = [0.5, 1.5, 2.5, -0.5, -1.5, 0.49999997, -0.49999997, 1e10, -1e18, np.inf, -np.inf, np.nan, 0.0, -0.0, 2.0 ** 23 + 1, 2.0 ** 52 + 1]
    x = np.array(x, t.code)
    for name, function in (("floor", np.floor), ("ceil", np.ceil), ("trunc", np.trunc), ("round", np.round)):
        got = call(name, x)
        np.testing.assert_array_equal(got, function(x))
        np.testing.assert_array_equal(np.signbit(got), np.signbit(function(x)))
    y = x[::-1].copy()
    np.testing.assert_array_equal(np.signbit(call("copysign", x, y)), np.signbit(y))
    for name, function in (("isnan", np.isnan), ("isinf", np.isinf), ("isfinite", np.isfinite), ("signbit", np.signbit)):
        np.testing.assert_array_equal(call(name, x), function(x))


def test_fma_rounds_once():
    rng = np.random.default_rng(0)
    for t in FLOATS:
        x, y = rng.standard_normal((2, 300)).astype(t.code)
        z = -(x * y)
        want = [M.mpf(float(a)) * M.mpf(float(c)) + M.mpf(float(d)) for a, c, d in zip(x, y, z)]
        assert ulps(call("fma", x, y, z)[:300], want).max() <= 0.51


COMPLEX = ("add", "sub", "mul", "div", "neg", "conj", "abs", "angle", "exp", "log", "sqrt", "rsqrt", "sin", "cos", "tan", "sinh", "cosh", "tanh",
           "asin", "acos", "atan", "asinh", "acosh", "atanh", "pow", "log2", "log10", "log1p", "expm1", "sigmoid", "sgn")


@pytest.mark.parametrize("n", (1, 8))
@pytest.mark.parametrize("t", (dt.complex64, dt.complex128))
@pytest.mark.parametrize("name", COMPLEX)
def test_complex(name, t, n):
    rng = np.random.default_rng(0)
    x, y = ((rng.standard_normal(64) + 1j * rng.standard_normal(64)).astype(t.code) for _ in range(2))
    tx, ty = torch.from_numpy(x).to(torch.complex128), torch.from_numpy(y).to(torch.complex128)
    two = name in ("add", "sub", "mul", "div", "pow")
    want = (torch.conj_physical if name == "conj" else getattr(torch, name))(*((tx, ty) if two else (tx,))).numpy()
    rtol, atol = (3e-6, 1e-6) if t is dt.complex64 else (1e-13, 1e-14)
    np.testing.assert_allclose(call(name, *((x, y) if two else (x,)), n=n), want, rtol, atol)
