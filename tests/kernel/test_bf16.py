"""Products of bfloat16, whose panels hold pairs where the processor multiplies them as they are."""
import os
import subprocess
import sys

import numpy as np
import pytest

from forno.core import dtype as dt
from forno.core.kernels import Gemm, Matrix, Operand
from forno.cpu import code, isa
from forno.kernel import gemm, tile

from .harness import run
from .test_gemm import bf16, check, widen

BF = dt.bfloat16


@pytest.mark.parametrize("layouts", ["nnn", "ntn", "tnn", "ttt", "sss", "nst", "snn", "tsn"])
def test_odd_and_even_depths(layouts):
    for i, (m, n, k) in enumerate([(2, 5, 1), (3, 32, 2), (16, 33, 31), (29, 17, 32), (15, 64, 33), (43, 40, 64), (30, 100, 65), (128, 31, 40)]): check(m, n, k, BF, *layouts, seed=i)


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_batches_and_long_sums(threads):
    check(17, 40, 9, BF, "bn", "t", "n", (2, 3), threads)
    check(20, 70, 1500, BF, "n", "t", "n", (2,), threads)
    check(130, 260, 515, BF, "n", "n", "n", (), threads)


@pytest.mark.parametrize("k", [1, 7, 33, 65])
def test_an_odd_depth_reads_nothing_behind_it(k):
    """A pair's second half behind the last column of A, or row of B, is a zero, not what lies there (here NaN)."""
    m, n, nan = 20, 37, 0x7FC0
    rng = np.random.default_rng(k)
    a, b = np.full((m, k + 1), nan, np.uint16), np.full((n, k + 1), nan, np.uint16)
    a[:, :k], b[:, :k] = bf16(rng.standard_normal((m, k))), bf16(rng.standard_normal((n, k)))
    want = widen(a[:, :k], BF) @ widen(b[:, :k], BF).T
    for turned in (False, True):
        right, at = (np.ascontiguousarray(b.T), (n, 1)) if turned else (b, (1, k + 1))
        c = np.zeros((m, n), np.uint16)
        launch = gemm.build(Gemm((), m, n, k, Matrix(BF, (), k + 1, 1, 0), Matrix(BF, (), *at, 0), Matrix(BF, (), n, 1, 0), (Operand(BF, "r"), Operand(BF, "r"), Operand(BF, "w"))))
        run(launch, [a, right, c])
        assert np.allclose(widen(c, BF), want, rtol=0.01, atol=0.02)


def test_whole_numbers_are_exact():
    rng = np.random.default_rng(0)
    a, b = (rng.integers(-4, 5, s).astype(np.float32) for s in ((30, 60), (60, 70)))
    x, y, c = bf16(a), bf16(b), np.zeros((30, 70), np.uint16)
    run(gemm.build(Gemm((), 30, 70, 60, Matrix(BF, (), 60, 1, 0), Matrix(BF, (), 70, 1, 0), Matrix(BF, (), 70, 1, 0), (Operand(BF, "r"), Operand(BF, "r"), Operand(BF, "w")))), [x, y, c])
    assert np.array_equal(c, bf16(a @ b))


def test_the_instruction():
    t = tile.product_tile(BF)
    assert t.pairs == (isa.level == "avx512" and isa.has("avx512bf16")) and not tile.product_tile(dt.float16).pairs
    if not t.pairs: pytest.skip("this processor converts to float32")
    for direct in (False, True):
        text = code.assembly(tile.micro_kernel(t, t.rows, t.vectors, direct)[1], "micro")
        assert text.count("vdpbf16ps") >= t.rows * t.vectors and "vcvt" not in text


@pytest.mark.parametrize("level", ["avx2", "baseline"])
def test_on_narrower_processors(level):
    if isa.level != "avx512" or os.environ.get("FORNO_CPU", "native") != "native": pytest.skip("nothing narrower to try")
    here = os.path.dirname(__file__)
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", os.path.join(here, "test_bf16.py")], env={**os.environ, "FORNO_CPU": level},
                          cwd=os.path.dirname(os.path.dirname(here)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]


def rounded(m, n, k, sa, sb, threads=1):
    """A product of float32 whose factors may be rounded; sa, sb: is it stored turned?"""
    rng = np.random.default_rng(k)
    a, b, c = (rng.standard_normal(s).astype(np.float32) for s in ((k, m) if sa else (m, k), (n, k) if sb else (k, n), (m, n)))
    x, y = Matrix(dt.float32, (), *((1, m) if sa else (k, 1)), 0), Matrix(dt.float32, (), *((1, k) if sb else (n, 1)), 0)
    run(gemm.build(Gemm((), m, n, k, x, y, Matrix(dt.float32, (), n, 1, 0), tuple(Operand(dt.float32, how) for how in "rrw"), rounding=True)), [a, b, c], threads)
    return a.T if sa else a, b.T if sb else b, c


@pytest.mark.parametrize("turned", [(0, 0), (0, 1), (1, 0), (1, 1)], ids=str)
@pytest.mark.parametrize("size", [(1, 40, 33), (7, 5, 3), (15, 33, 31), (30, 70, 64), (64, 100, 515), (20, 64, 1502)], ids=str)
def test_factors_of_float32_rounded(size, turned):
    a, b, c = rounded(*size, *turned)
    pairs = tile.product_tile(dt.float32, True).pairs and size[0] > 1
    x, y = (widen(bf16(v), BF) if pairs else v for v in (a, b))
    assert np.allclose(c, x.astype(np.float64) @ y, rtol=1e-5, atol=2e-5 * size[2] ** 0.5)
    assert np.array_equal(c, rounded(*size, *turned)[2]) and pairs == (np.abs(c - a.astype(np.float64) @ b).max() > 1e-3)
