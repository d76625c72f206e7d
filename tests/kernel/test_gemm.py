"""Matrix products against NumPy: every type, transposition, stride, batch, tail and number of threads."""
import numpy as np
import pytest

from forno.core import dtype as dt
from forno.core.kernels import Gemm, Matrix, Operand
from forno.kernel import gemm

from .harness import run



def bf16(x): return ((x.astype(np.float32).view(np.uint32) + 0x7FFF + (x.astype(np.float32).view(np.uint32) >> 16 & 1)) >> 16).astype(np.uint16)
def widen(x, t): return (x.astype(np.uint32) << 16).view(np.float32) if t is dt.bfloat16 else x


def values(rng, shape, t):
    if t.category == dt.INT: return rng.integers(0 if not t.signed else -9, 10, shape).astype(t.code)
    x = rng.standard_normal(shape)
    if t.category == dt.COMPLEX: x = x + 1j * rng.standard_normal(shape)
    return bf16(x) if t is dt.bfloat16 else x.astype(t.code)


def strided(rng, batch, rows, cols, t, layout):
    """(flat buffer, Matrix, the values as an array): layout 'n', 't', 's' (no unit stride), with 'b' for a broadcast batch,
    'r' for a reversed one."""
    shape = [*batch, rows, cols]
    order = list(range(len(shape)))
    if "t" in layout: order[-1], order[-2] = order[-2], order[-1]
    lengths = [1 if "b" in layout and d < len(batch) else shape[d] for d in order]
    step = 2 if "s" in layout else 1
    strides = [0] * len(shape)
    reach = step
    for d, n in zip(reversed(order), reversed(lengths)):
        strides[d] = 0 if n == 1 and shape[d] != 1 else reach
        reach *= max(n, 1)
        if d == order[-1]: reach += 3                       # rows are not dense
    offset = 5
    if "r" in layout and batch:
        offset += strides[0] * max(batch[0] - 1, 0)
        strides[0] = -strides[0]
    buffer = values(rng, (reach + 16,), t)
    view = np.lib.stride_tricks.as_strided(buffer[offset:], shape, [s * t.size for s in strides])
    return buffer, Matrix(t, tuple(strides[:-2]), strides[-2], strides[-1], offset), view


def check(m, n, k, t=dt.float32, la="n", lb="n", lc="n", batch=(), threads=1, seed=0):
    rng = np.random.default_rng(seed)
    a, ma, va = strided(rng, batch, m, k, t, la)
    b, mb, vb = strided(rng, batch, k, n, t, lb)
    c, mc, vc = strided(rng, batch, m, n, t, lc)
    before = c.copy()
    launch = gemm.build(Gemm(batch, m, n, k, ma, mb, mc, (Operand(t, "r"), Operand(t, "r"), Operand(t, "w"))))
    wide = {dt.FLOAT: np.float64, dt.COMPLEX: np.complex128}.get(t.category)
    want = widen(va, t).astype(wide or t.code) @ widen(vb, t).astype(wide or t.code)
    run(launch, [a, b, c], threads)
    got = widen(np.ascontiguousarray(vc), t)
    if t.category == dt.INT: assert np.array_equal(got, want)
    else:
        unit = {dt.bfloat16: 2 ** -8, dt.float16: 2 ** -10, dt.float32: 2 ** -20, dt.complex64: 2 ** -20}.get(t, 2 ** -48)
        scale = np.abs(widen(va, t)).astype(np.float64) @ np.abs(widen(vb, t)).astype(np.float64) + 1e-30
        assert np.all(np.abs(got - want) <= unit * scale), np.max(np.abs(got - want) / scale)
    vc[...] = 0                                              # and nothing around it was touched
    np.lib.stride_tricks.as_strided(before[mc.offset:], vc.shape, vc.strides)[...] = 0
    assert np.array_equal(c.view(np.uint8), before.view(np.uint8))


SIZES = [(1, 1, 1), (4, 8, 8), (5, 3, 7), (14, 32, 16), (15, 33, 17), (13, 64, 100), (29, 70, 3), (128, 10, 64),
         (1, 77, 50), (50, 1, 33), (31, 100, 1), (60, 130, 555)]


@pytest.mark.parametrize("la", ["n", "t", "s"])
@pytest.mark.parametrize("lb", ["n", "t", "s"])
@pytest.mark.parametrize("lc", ["n", "t", "s"])
def test_layouts(la, lb, lc):
    for i, (m, n, k) in enumerate(SIZES): check(m, n, k, dt.float32, la, lb, lc, seed=i)


@pytest.mark.parametrize("t", [t for t in dt.ALL if t is not dt.bool], ids=str)
@pytest.mark.parametrize("layouts", ["nnn", "tnn", "ntn", "ttt", "sss"])
def test_types(t, layouts):
    for i, (m, n, k) in enumerate([(1, 1, 1), (15, 33, 17), (1, 40, 20), (30, 7, 65)]): check(m, n, k, t, *layouts, seed=i)


@pytest.mark.parametrize("t", [dt.float32, dt.float64, dt.bfloat16, dt.complex64, dt.int32], ids=str)
def test_nothing_to_sum(t):
    check(7, 40, 0, t)
    check(3, 5, 0, t, batch=(2,))
    for m, n, k in [(0, 3, 4), (3, 0, 4), (0, 0, 0)]: check(m, n, k, t)
    check(3, 4, 5, t, batch=(0,))


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("batch", [(), (5,), (2, 3), (1, 4, 2)], ids=str)
def test_batches(batch, threads):
    for la, lb, lc in [("n", "n", "n"), ("bn", "t", "n"), ("t", "bt", "t"), ("rn", "n", "n"), ("n", "rs", "rn")]:
        check(17, 40, 9, dt.float32, la, lb, lc, batch, threads)


@pytest.mark.parametrize("threads", [1, 2, 4])
def test_large(threads):
    for i, (m, n, k) in enumerate([(300, 200, 700), (1000, 40, 600), (20, 1000, 800), (3, 3, 5000), (1, 2000, 600), (2000, 1, 600)]):
        for la, lb in ["nn", "nt", "tn", "tt"]: check(m, n, k, dt.float32, la, lb, "n", threads=threads, seed=i)


@pytest.mark.parametrize("t", [dt.float32, dt.float64, dt.float16, dt.int8, dt.complex64], ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_one_row_or_column(t, threads):
    for i, (n, k) in enumerate([(1, 1), (1, 100), (9, 17), (600, 5), (5, 600), (1100, 40), (9000, 3), (7, 0)]):
        for la, lb, lc in [("n", "n", "n"), ("n", "t", "n"), ("s", "n", "s"), ("t", "s", "t")]:
            for batch in [(), (3,), (2, 2)]:
                check(1, n, k, t, la, lb, lc, batch, threads, seed=i)
                check(n, 1, k, t, la, lb, lc, batch, threads, seed=i)


def test_random_shapes():
    rng = np.random.default_rng(7)
    for i in range(60):
        m, n, k = (int(x) for x in rng.integers(0, 90, 3))
        t = [dt.float32, dt.float64, dt.float16, dt.bfloat16, dt.int64, dt.complex128][i % 6]
        check(m, n, k, t, *rng.choice(["n", "t", "s"], 3), batch=((), (2,))[i % 2], threads=1 + i % 2, seed=i)


def test_bool_is_refused():
    x = Matrix(dt.bool, (), 2, 1)
    with pytest.raises(NotImplementedError, match="matmul"): gemm.build(Gemm((), 2, 2, 2, x, x, x, (Operand(dt.bool, "r"),) * 3))
