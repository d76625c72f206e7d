"""Products of some rows with weights that lie along k, against NumPy: lanes and panels that fill nothing, pieces of k, batches, layouts, epilogues; and when they are chosen."""
import numpy as np
import pytest

from forno.core import dtype as dt
from forno.core.kernels import Apply, Gemm, Load, Matrix, Nest, Operand, Store
from forno.dnn.elementwise import add as ADD
from forno.kernel import gemm, skinny

from .harness import run
from .test_few import noun
from .test_gemm import check


@pytest.mark.parametrize("m", [skinny.LEAST, 31, 32, 33, 47, 64, 65, 80, 95, 96, 97, 113, skinny.MOST])
def test_lanes(m):
    for n, k in [(64, 256), (65, 300), (197, 515), (301, 259)]: check(m, n, k, dt.float32, "n", "t", "n", seed=m)


@pytest.mark.parametrize("t", [dt.float32, dt.float64], ids=str)
@pytest.mark.parametrize("threads", [1, 3])
def test_pieces_batches_and_layouts(t, threads):
    for i, (m, n, k) in enumerate([(40, 70, 1024), (64, 133, 1025), (29, 100, 2500), (77, 64, 257)]):
        for lc in "nts":
            for batch in [(), (3,), (2, 2)]: check(m, n, k, t, "n", "t", lc, batch, threads, seed=i)
    check(50, 70, 300, t, "tb", "t", "n", (4,), threads)
    check(50, 70, 300, t, "nb", "tr", "n", (4,), threads)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("m", [32, 50])
def test_epilogues(m, threads):
    n, k, f = 200, 700, Operand(dt.float32, "r")
    rng = np.random.default_rng(m)
    a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((n, k)).astype(np.float32)
    bias, more, c = rng.standard_normal(n).astype(np.float32), rng.standard_normal((m, n)).astype(np.float32), np.zeros((m, n), np.float32)
    body = (Load(0, dt.float32, (0, 0)), Load(2, dt.float32, (0, 1)), Apply(ADD, (0, 1), dt.float32), Load(3, dt.float32, (n, 1)), Apply(ADD, (2, 3), dt.float32),
            Store(1, 4, (n, 1), 0, dt.float32))
    nest = Nest((m, n), (), (f, Operand(dt.float32, "w"), f, f), body)
    g = Gemm((), m, n, k, Matrix(dt.float32, (), k, 1), Matrix(dt.float32, (), 1, k), Matrix(dt.float32, (), n, 1), (f, f, Operand(dt.float32, "w"), f, f), nest)
    assert skinny.accepts(g)
    run(gemm.build(g), [a, b, c, bias, more], threads)
    np.testing.assert_allclose(c, a.astype(np.float64) @ b.T.astype(np.float64) + bias + more, rtol=1e-4, atol=1e-4)


def test_same_bits_for_any_number_of_threads_and_any_neighbours():
    m, n, k = 64, 300, 1500
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((m, k)).astype(np.float32), rng.standard_normal((n, k)).astype(np.float32)
    results = []
    for threads, rows, columns in [(1, m, n), (3, m, n), (2, m, 70), (1, 40, n)]:
        c = np.zeros((rows, columns), np.float32)
        run(gemm.build(noun(rows, columns, k)), [a, b, c], threads)
        results.append(c[:40, :70].tobytes())
    assert len(set(results)) == 1


def test_when_it_is_chosen():
    assert skinny.accepts(noun(64, 100, 300)) and skinny.accepts(noun(64, 100, 300, dt.float64))
    for g in [noun(skinny.LEAST - 1, 100, 300), noun(skinny.MOST + 1, 100, 300), noun(64, 100, 300, lies="n"), noun(64, 10, 300), noun(64, 100, 8), noun(64, 100, 300, dt.float16),
              noun(64, 100, 300, dt.int32), noun(64, 100, 300, dt.complex64), noun(64, 100, 300, rounding=True)]:
        assert not skinny.accepts(g)
    assert gemm.build(noun(64, 4000, 3000)).choices.names() == ()                          # nothing else gives its bits
