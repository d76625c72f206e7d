"""Products with a few rows against NumPy: panels of all heights, columns and sums that fill nothing, pieces of k, epilogues; and when they are chosen."""
import numpy as np
import pytest

from forno.core import dtype as dt
from forno.core.kernels import Apply, Gemm, Load, Matrix, Nest, Operand, Store
from forno.dnn.elementwise import add as ADD
from forno.kernel import few, gemm

from .harness import run
from .test_gemm import check


def noun(m, n, k, t=dt.float32, lies="k", rounding=False):
    b = Matrix(t, (), 1, k) if lies == "k" else Matrix(t, (), n, 1)
    return Gemm((), m, n, k, Matrix(t, (), k, 1), b, Matrix(t, (), n, 1), (Operand(t, "r"), Operand(t, "r"), Operand(t, "w")), rounding=rounding)


@pytest.mark.parametrize("m", range(2, few.MOST + 2))
def test_every_number_of_rows(m):
    for n, k in [(1, 130), (3, 128), (65, 200), (530, 131)]: check(m, n, k, dt.float32, "n", "t", "n", seed=m)


@pytest.mark.parametrize("m", [2, 6, few.FAR])
def test_columns_that_are_asked_for_ahead(m, monkeypatch):
    monkeypatch.setattr(few, "far", lambda g: True)
    for n, k in [(3, 128), (530, 131)]: check(m, n, k, dt.float32, "n", "t", "n", seed=m)
    assert few.accepts(noun(m, 100, 300)) and not few.accepts(noun(few.FAR + 1, 100, 300))


@pytest.mark.parametrize("t", [dt.float32, dt.float64], ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_batches_and_layouts(t, threads):
    for i, (m, n, k) in enumerate([(4, 70, 1024), (7, 33, 1025), (12, 19, 2500), (2, 1100, 1040)]):
        for lc in "nts":
            for batch in [(), (3,), (2, 2)]: check(m, n, k, t, "n", "t", lc, batch, threads, seed=i)
    check(5, 70, 300, t, "nb", "tr", "n", (4,), threads)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("m", [3, 8, 13])
def test_epilogues(m, threads, monkeypatch):
    monkeypatch.setattr(few, "far", lambda g: False)
    n, k, f = 600, 1030, Operand(dt.float32, "r")
    rng = np.random.default_rng(m)
    a, b, bias, c = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((n, k)).astype(np.float32), rng.standard_normal(n).astype(np.float32), np.zeros((m, n), np.float32)
    body = Load(0, dt.float32, (0, 0)), Load(2, dt.float32, (0, 1)), Apply(ADD, (0, 1), dt.float32), Store(1, 2, (n, 1), 0, dt.float32)
    nest = Nest((m, n), (), (f, Operand(dt.float32, "w"), f), body)
    g = Gemm((), m, n, k, Matrix(dt.float32, (), k, 1), Matrix(dt.float32, (), 1, k), Matrix(dt.float32, (), n, 1), (f, f, Operand(dt.float32, "w"), f), nest)
    assert few.accepts(g)
    run(gemm.build(g), [a, b, c, bias], threads)
    np.testing.assert_allclose(c, a.astype(np.float64) @ b.T.astype(np.float64) + bias, rtol=1e-4, atol=1e-4)


def test_same_bits_for_any_number_of_threads_and_any_neighbours():
    m, n, k = 6, 300, 1500
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((n, k)).astype(np.float32)
    results = []
    for threads, columns in [(1, n), (3, n), (2, 70)]:
        c = np.zeros((m, columns), np.float32)
        run(gemm.build(noun(m, columns, k)), [a, b, c], threads)
        results.append(c[:, :17].tobytes())
    assert len(set(results)) == 1


def test_when_it_is_chosen():
    assert few.accepts(noun(4, 100, 300)) and few.accepts(noun(4, 100, 300, dt.float64))
    for g in [noun(1, 100, 300), noun(few.MOST + 1, 100, 300), noun(4, 100, 300, lies="n"), noun(4, 100, 8), noun(4, 100, 300, dt.float16), noun(4, 100, 300, dt.int32),
              noun(4, 100, 300, dt.complex64), noun(4, 100, 300, rounding=True)]:
        assert not few.accepts(g)
    assert gemm.build(noun(4, 4000, 3000)).choices.names() == ()                           # nothing else gives its bits
