"""Functions of the GPU's own, one number per thread, against exact results, in units of the last place: `python -m tests.gpu.test_cores` measures them for docs/ptx.md.

Twice: with approximating instructions that are exact, which shows what a formula costs, and with ones that err as far as PTX's manual lets them.
"""
import functools
import pathlib
import re
import sys

import mpmath
import numpy as np
import pytest
import torch

from forno.core import dtype as dt
from forno.core.kernels import Operand
from forno.cpu import nvptx
from forno.dnn import activation, functions
from forno.gpu.ptx import Module
from forno.kernel import recurrence
from forno.kernel.nvptx import cores, exponentials
from forno.kernel.nvptx.routines.code import Device, X

from . import ptx_tools as tools

DOCS = pathlib.Path(__file__).parents[2] / "docs" / "ptx.md"
TYPES = {np.float32: dt.float32, np.float64: dt.float64, np.float16: dt.float16, np.uint16: dt.bfloat16}
M = mpmath.mp.clone()
M.prec = 120
FLOORED = ("lgamma", "digamma")                # errors are measured against 1 at least: they have zeros anywhere
# name -> where samples are dense; in float64; exactly
FUNCTIONS = {
    "exp": ((-104, 89), torch.exp, M.exp), "exp2": ((-150, 128), torch.exp2, lambda x: M.mpf(2) ** x), "expm1": ((-20, 89), torch.expm1, M.expm1),
    "log": ((0, 5), torch.log, M.log), "log2": ((0, 5), torch.log2, lambda x: M.log(x) / M.log(2)), "log10": ((0, 5), torch.log10, lambda x: M.log(x) / M.log(10)),
    "log1p": ((-1, 5), torch.log1p, M.log1p), "sigmoid": ((-104, 20), torch.sigmoid, lambda x: 1 / (1 + M.exp(-x))),
    "sinh": ((-5, 90), torch.sinh, M.sinh), "cosh": ((-5, 90), torch.cosh, M.cosh), "tanh": ((-10, 10), torch.tanh, M.tanh),
    "asinh": ((-20, 5000), torch.asinh, M.asinh), "acosh": ((1, 5000), torch.acosh, M.acosh), "atanh": ((-1, 1), torch.atanh, M.atanh),
    "sin": ((-30, 30), torch.sin, M.sin), "cos": ((-30, 30), torch.cos, M.cos), "tan": ((-30, 30), torch.tan, M.tan),
    "asin": ((-1, 1), torch.asin, M.asin), "acos": ((-1, 1), torch.acos, M.acos), "atan": ((-5, 5), torch.atan, M.atan),
    "erf": ((-4, 4), torch.erf, M.erf), "erfc": ((-4, 10.1), torch.erfc, M.erfc), "erfinv": ((-1, 1), torch.erfinv, M.erfinv), "rsqrt": ((0, 5), torch.rsqrt, lambda x: 1 / M.sqrt(x)),
    "lgamma": ((-10, 20), torch.lgamma, lambda x: M.log(abs(M.gamma(x)))), "digamma": ((-10, 20), torch.digamma, M.digamma),
    "pow": ((0, 4), torch.pow, M.power), "atan2": ((-5, 5), torch.atan2, M.atan2), "hypot": ((-5, 5), torch.hypot, M.hypot),
    "rem": ((-5, 5), torch.fmod, lambda x, y: x - y * int(x / y)),
}
TWO = ("pow", "atan2", "hypot", "rem")
SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1, -1, 0.5, -0.5, 2, -2, 3, -3, 1e-40, -1e-40, 1e-45, 3e38, -3e38, 1e5, 105615, 105616, 2**20, -(2**24), 1e10, 0.25, -0.75])


@functools.cache
def module(name: str, t: dt.dtype, target="sm_80", version=70) -> Module:
    operands = (*(Operand(t, "r") for _ in range(1 + (name in TWO))), Operand(t, "w"))
    c = Device(operands, nvptx.isa_of(target, version), 256)
    with c.kernel("core"), c.each(c.word(len(operands))) as i:
        first, *more = (c.load(c.operand(k), t, i) for k in range(len(operands) - 1))
        c.store(first._(name, *more), c.operand(len(operands) - 1), i)
    return Module(nvptx.ptx(c.text(), "core", c.b.isa))


def run(name: str, *xs: np.ndarray, approximate=False, seed=0) -> np.ndarray:
    t = TYPES[xs[0].dtype.type]
    grid = min(-(-len(xs[0]) // 256), 64)
    return tools.launch(module(name, t), [*xs, np.zeros_like(xs[0])], len(xs[0]), grid=grid, block=256, approximate=approximate, races=False, seed=seed, budget=1 << 22)[-1]


def samples(name: str, count: int, code=np.float32, seed=0) -> list[np.ndarray]:
    """Half of them dense where a function bends, the others of any size; what is special; of two numbers, all pairs of what is special."""
    rng = np.random.default_rng(seed)
    (low, high), out = FUNCTIONS[name][0], []
    bits, width = (np.uint32, 32) if code is np.float32 else (np.uint64, 64)
    for k in range(1 + (name in TWO)):
        dense = rng.uniform(low, high, count // 2) * (20 if k and name == "pow" else 1)
        anything = rng.integers(0, 1 << width, count // 4, bits, endpoint=False).view(code)
        small = rng.choice([-1, 1], count // 4) * 2.0 ** rng.uniform(-30, 3, count // 4) + (1 if name in ("log", "log2", "log10", "pow") and not k else 0)
        special = np.tile(SPECIAL, len(SPECIAL)) if k else np.repeat(SPECIAL, len(SPECIAL)) if name in TWO else SPECIAL
        with np.errstate(all="ignore"): out.append(np.concatenate([special, dense, anything, small]).astype(code))
    return out


def errors(got: np.ndarray, right: np.ndarray, floor=0.0) -> np.ndarray:
    """In units of the last place of the right result, which is of a longer type; infinite where one is finite or a number and the other isn't."""
    info = np.finfo(got.dtype)
    with np.errstate(all="ignore"):
        near = right.astype(got.dtype)
        unit = 2.0 ** np.maximum(np.floor(np.log2(np.maximum(np.abs(right), floor))) - info.nmant, info.minexp - info.nmant)
        out = np.abs(got.astype(right.dtype) - right) / unit
        out[~np.isfinite(near) | ~np.isfinite(got)] = np.inf
        largest = (1 - 4 * info.eps) * float(info.max)               # what lies between the largest number and infinity may become either
        out[(np.abs(right) > largest) & (np.abs(got) > largest) & (np.sign(right) == np.sign(got))] = 0
        out[(near == got) | np.isnan(near) & np.isnan(got)] = 0
    return out


def stated() -> dict[str, list[float]]:
    """Of docs/ptx.md: errors of float32, of float32 with PTX's errors, of float64, by function."""
    rows = re.findall(r"^\| `(\w+)` \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", DOCS.read_text(), re.MULTILINE)
    return {name: [float(x) for x in numbers] for name, *numbers in rows}


def measured(name: str, count: int, approximate: bool, seed=0):
    """(the largest error, where)"""
    xs = samples(name, count, seed=seed)
    got = run(name, *xs, approximate=approximate, seed=seed)
    right = FUNCTIONS[name][1](*(torch.from_numpy(x.astype(np.float64)) for x in xs)).numpy()
    if name == "digamma": right = np.where(np.isinf(xs[0]), got.astype(np.float64), right)           # PyTorch's there are accidents of its recursion
    found = errors(got, right, 1.0 if name in FLOORED else 0.0)
    worst = int(np.argmax(found))
    return found[worst], [float(x[worst]) for x in xs], got[worst], right[worst]


def test_every_function_is_stated(): assert list(stated()) == list(FUNCTIONS) and set(FUNCTIONS) == set(cores.SINGLE)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors(name):
    """Of float32: numbers of every size, what is special, huge angles, denormal operands and results."""
    for approximate, limit in enumerate(stated()[name][:2]):
        error, at, got, right = measured(name, 6000, bool(approximate), seed=approximate)
        assert error <= limit, f"{name}{tuple(at)} is {got!r}, not {right!r}: {error:.2f} ulp"


@pytest.mark.parametrize("name", FUNCTIONS)
def test_zeros(name):
    """Their signs."""
    x = np.array([0.0, -0.0], np.float32)
    xs = [x] if name not in TWO else [np.repeat(x, 2), np.tile(x, 2)]
    got, right = run(name, *xs), FUNCTIONS[name][1](*map(torch.from_numpy, xs)).numpy()
    np.testing.assert_array_equal(got == 0, right == 0)
    np.testing.assert_array_equal(np.signbit(got)[right == 0], np.signbit(right)[right == 0])


@pytest.mark.parametrize("name", ["exp", "log", "tan", "sin", "cos", "pow"])
def test_errors_of_doubles(name): doubles(name, 60)


@pytest.mark.slow
@pytest.mark.parametrize("name", FUNCTIONS)
def test_errors_of_all_doubles(name): doubles(name, 500)


def doubles(name: str, count: int):
    rng, exactly = np.random.default_rng(1), FUNCTIONS[name][2]
    low, high = FUNCTIONS[name][0]
    xs = [rng.uniform(low, high, count) * (20 if k and name == "pow" else 1) for k in range(1 + (name in TWO))]
    if name in ("sin", "cos", "tan"): xs[0][::3] = 10.0 ** rng.uniform(5, 300, len(xs[0][::3]))
    for got, *x in zip(run(name, *xs), *xs):
        right = exactly(*map(M.mpf, map(float, x)))
        size = max(abs(right), 1) if name in FLOORED else abs(right)
        error = abs(M.mpf(float(got)) - right) / M.mpf(2) ** (max(M.floor(M.log(size, 2)), -1022) - 52)
        assert error <= stated()[name][2], f"{name}{tuple(x)}: {float(error):.2f} ulp"


@pytest.mark.parametrize("brain", [False, True], ids=["float16", "bfloat16"])
@pytest.mark.parametrize("name", cores.NEARLY)
def test_halves(name, brain):
    """All numbers of a half type: with instructions that err, a neighbour at most, and seldom."""
    bits = np.arange(1 << 16, dtype=np.uint16)
    x = torch.from_numpy(bits.view(np.int16)).view(torch.bfloat16 if brain else torch.float16)
    got = torch.from_numpy(run(name, bits if brain else bits.view(np.float16), approximate=True).view(np.int16)).view(x.dtype)
    right = FUNCTIONS[name][1](x.double()).to(x.dtype)
    assert torch.equal(got.isnan(), right.isnan()) and (got == right)[~right.isnan()].float().mean() > 0.99
    far = (got.view(torch.int16).int() - right.view(torch.int16).int()).abs()[~right.isnan() & (right.abs() > 2.0**-126)]
    assert far.max() <= (4 if name == "tanh" and brain else 1)


def written(operands: int, body) -> str:
    """The PTX of a kernel that stores body(builder, first operand, …) for each element."""
    c = Device((*[Operand(dt.float32, "r")] * operands, Operand(dt.float32, "w")), nvptx.isa_of("sm_80", 70), 256)
    with c.kernel("core"), c.each(c.word(operands + 1)) as i:
        c.store(X(c, body(c.b, *(c.load(c.operand(k), dt.float32, i).v for k in range(operands)))), c.operand(operands), i)
    return nvptx.ptx(c.text(), "core", c.b.isa)


@pytest.mark.parametrize("row", [functions.sigmoid, activation.silu, activation.gelu_tanh], ids=lambda row: row.name)
def test_gates_have_the_short_sigmoid(row): assert "rcp.approx" in (text := written(1, row.emit)) and "rcp.rn" not in text


def test_recurrences_have_the_short_sigmoid():
    def run(b, *xs): return (recurrence.Number(b, xs[0]).sigmoid() * recurrence.Number(b, xs[1]).tanh()).v
    assert "rcp.approx" in (text := written(2, run)) and "rcp.rn" not in text


def test_an_error_is_seen(monkeypatch):
    """A coefficient that is wrong by a millionth."""
    monkeypatch.setattr(exponentials, "EXPM1", (*exponentials.EXPM1[:-1], exponentials.EXPM1[-1] * (1 + 1e-6)))
    monkeypatch.setitem(globals(), "module", functools.cache(module.__wrapped__))
    assert measured("expm1", 6000, False)[0] > stated()["expm1"][0]


def main(count: str, *names: str):
    for name in names or FUNCTIONS:
        for approximate in (False, True):
            error, at, got, right = measured(name, int(float(count)), approximate)
            print(f"{name}: {error:.2f} ulp at {at}: {got!r}, {right!r}", flush=True)


if __name__ == "__main__": main(*sys.argv[1:])
