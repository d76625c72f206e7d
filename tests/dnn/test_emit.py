"""Every elementwise row's machine code against its NumPy oracle, on every type the row computes in."""
import ctypes

import numpy as np
import pytest

from forno.core import dtype as dt
from forno.core.kernels import Apply, Load, Nest, Operand, Store
from forno.core.op import TABLE
from forno.cpu import balance
from forno.dnn import activation, elementwise, functions, oracle, special  # noqa: F401
from forno.kernel.nest import build

FLOATS = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 0.25, 2.0, -2.0, 3.0, -3.0, 6.0, 1.5, -1.5, 2.5, 0.7, 1e-3, -1e-3, 10.0, -10.0, 30.0, -30.0, np.inf,
          -np.inf, np.nan]
INTS = [0, 1, -1, 2, -2, 3, 5, -7, 11, 40, 100, -100, 7, 8, 9, 63]
TOLERANCE = {dt.float32: 2e-6, dt.float64: 1e-13, dt.float16: 1e-3, dt.bfloat16: 8e-3, dt.complex64: 1e-5, dt.complex128: 1e-12}
LIMIT = {"erfinv": 20, "logit": 5, "gelu_tanh": 4, "tanhshrink": 10, "softsign": 2, "sinc": 100, "frac": 2, "bce_with_logits": 4, "mish": 4,
         "gelu": 20, "atanh": 8, "pow": 8, "adam_step": 4, "igamma": 8, "igammac": 8, **{n: 40 for n in TABLE if "chebyshev" in n}}       # a cosine of n · acos(x)
ROWS = [n for n, op in TABLE.items() if op.kind == "elementwise" and n != "cast"]


def arity(op):
    for k in (3, 4) if op.name in ("where", "masked_fill", "nan_to_num") else range(1, 8):
        if (op.name, k) == ("nan_to_num", 3): continue
        try: op.oracle(None, *[np.ones(1, np.int64 if op.name.startswith("bitwise") or op.name in ("gcd", "lcm") else bool if op.name == "where"
                                       else np.float64) for _ in range(k)])
        except (TypeError, ValueError): continue
        return k


def inputs(t, k):
    """k arrays that meet in all combinations."""
    if t is dt.bool: xs = np.array([False, True])
    elif t.category == dt.INT: xs = np.array(INTS).astype(t.code) if t.signed else np.abs(INTS).astype(t.code)
    elif t.category == dt.FLOAT: xs = oracle.convert(np.array(FLOATS), t)
    # away from poles and branch cuts
    else: xs = np.array([a + 1j * b for a in FLOATS[2:18:2] for b in (0.3, -1.0, 0.25, 3.0, -2.5)]).astype(t.code)
    if k == 1: return [np.tile(xs, 3)]
    if k > 2: xs = xs[:12]
    grid = np.meshgrid(*[xs] * min(k, 3), indexing="ij")
    return [g.reshape(-1) for g in grid] + [grid[0].reshape(-1)[::-1].copy() for _ in range(k - 3)]


def stored(x, t): return oracle.bits(x) if t is dt.bfloat16 else np.ascontiguousarray(x).astype(t.code)


def run(op, arrays, types, result):
    n = arrays[0].size
    operands = (*(Operand(t, "r") for t in types), Operand(result, "w"))
    body = (*(Load(i, t, (1,)) for i, t in enumerate(types)), Apply(op, tuple(range(len(types))), result),
            Store(len(types), len(types), (1,), 0, result))
    launch = build(Nest((n,), (), operands, body, op.name))
    memory = [stored(x, t) for x, t in zip(arrays, types)]
    out = np.zeros(n, result.code)
    vals = np.array([*(m.ctypes.data for m in memory), out.ctypes.data], np.int64)
    words = np.array([*range(len(vals)), *launch.words], np.int64)
    wait = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(lambda _: None)
    error = np.zeros(4, np.int64)
    private, shared = np.zeros(launch.scratch + 64, np.uint8), np.zeros(launch.shared + 64, np.uint8)
    ctx = np.array([0, 1, private.ctypes.data, shared.ctypes.data, ctypes.cast(wait, ctypes.c_void_p).value, error.ctypes.data, 0, 0, balance.WHOLE, 0], np.int64)
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)(launch.program.address)(ctx.ctypes.data, vals.ctypes.data,
                                                                                                      words.ctypes.data)
    return oracle.unbits(out) if result is dt.bfloat16 else out


@pytest.mark.parametrize("t", [dt.float32, dt.float64, dt.bfloat16, dt.float16, dt.int64, dt.uint8, dt.bool, dt.complex64], ids=lambda t: t.name)
@pytest.mark.parametrize("name", ROWS)
def test_emit(name, t):
    op, k = TABLE[name], arity(TABLE[name])
    kinds = [(dt.bool if (name, i) in {("where", 0), ("masked_fill", 1)} else t, 1) for i in range(k)]
    try: types = op.compute(kinds, dt.float32)
    except (RuntimeError, NotImplementedError): return
    types = types if isinstance(types, tuple) else (types,) * k
    if types[-1] is not t: return                                  # computes in another type, which has its own turn
    result = op.result(types[-1])
    xs = inputs(t, k)
    xs = [x != 0 if u is dt.bool else x for x, u in zip(xs, types)]
    if name == "nextafter" and t.size == 2: return                 # the oracle's step is float32's
    if name in ("zeta", "polygamma"): xs = [np.where(np.isfinite(x), np.abs(x), 2).astype(x.dtype) for x in xs]
    if name == "polygamma": xs = [np.clip(np.round(xs[0]), 1, 6).astype(xs[0].dtype), xs[1]]
    got = run(op, xs, types, result)
    want = oracle.convert(np.asarray(op.oracle(None, *[x.astype(oracle.code(u.opmath)) for x, u in zip(xs, types)])), result)
    tolerance = TOLERANCE.get(result, 0) * LIMIT.get(name, 1)
    np.testing.assert_allclose(got.astype(np.complex128 if result.is_complex else np.float64),
                               want.astype(np.complex128 if result.is_complex else np.float64),
                               rtol=tolerance, atol=tolerance)
