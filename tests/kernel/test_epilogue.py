"""Matrix products that end in an elementwise body, against NumPy."""
from dataclasses import replace

import numpy as np
import pytest
import torch

from forno.core import dtype as dt
from forno.core.kernels import Apply, Cast, Const, Conv, Gemm, Index, Load, Matrix, Nest, Number, Operand, Store
from forno.cpu import isa
from forno.dnn.activation import relu as RELU
from forno.dnn.elementwise import add as ADD
from forno.dnn.elementwise import mul as MUL
from forno.kernel import conv, gemm

from .harness import run



def product(m, n, k, batch=(), c_layout="n", t=dt.float32, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((*batch, m, k)).astype(t.code), rng.standard_normal((*batch, k, n)).astype(t.code)
    items = int(np.prod(batch))
    c = np.full(items * m * n, np.nan, t.code)
    rows, cols = (n, 1) if c_layout == "n" else (1, m)
    steps = [int(np.prod(batch[i + 1:])) for i in range(len(batch))]
    strides = lambda size: tuple(s * size for s in steps)
    matrices = Matrix(t, strides(m * k), k, 1), Matrix(t, strides(k * n), n, 1), Matrix(t, strides(m * n), rows, cols)
    view = np.lib.stride_tricks.as_strided(c, (*batch, m, n), [s * t.size for s in (*matrices[2].batch, rows, cols)])
    return a, b, c, matrices, view, a.astype(np.float64) @ b.astype(np.float64)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("c_layout", ["n", "t"])
@pytest.mark.parametrize("axis", ["columns", "rows", "both"])
@pytest.mark.parametrize("batch", [(), (3,), (2, 2)], ids=str)
def test_bias_and_relu(batch, axis, c_layout, threads):
    for m, n, k in [(5, 40, 3), (33, 70, 20), (1, 50, 9), (20, 1, 9), (3, 4, 900), (64, 64, 0)]:
        a, b, c, (ma, mb, mc), view, want = product(m, n, k, batch, c_layout)
        extra = np.random.default_rng(1).standard_normal(m * n + 3).astype(np.float32)
        row, col = {"columns": (0, 1), "rows": (1, 0), "both": (n, 1)}[axis]
        zeros = (0,) * len(batch)
        body = (Load(0, dt.float32, (*zeros, 0, 0)), Load(2, dt.float32, (*zeros, row, col), 3),
                Apply(ADD, (0, 1), dt.float32), Apply(RELU, (2,), dt.float32),
                Store(1, 3, (*mc.batch, mc.rows, mc.cols), 0, dt.float32))
        f = Operand(dt.float32, "r")
        nest = Nest((*batch, m, n), (), (f, Operand(dt.float32, "w"), f), body)
        assert gemm.accepts(nest)
        launch = gemm.build(Gemm(batch, m, n, k, ma, mb, mc, (f, f, Operand(dt.float32, "w"), f), nest))
        run(launch, [a, b, c, extra], threads)
        bias = np.lib.stride_tricks.as_strided(extra[3:], (m, n), (row * 4, col * 4))
        np.testing.assert_allclose(view, np.maximum(want + bias, 0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("c_layout", ["n", "t"])
@pytest.mark.parametrize("fused", [False, True])
def test_every_choice_gives_the_same_bits(fused, c_layout, threads):
    tried = set()
    for i, (m, n, k, batch) in enumerate([(300, 200, 60, ()), (33, 70, 700, (2,)), (2000, 10, 64, ()), (10, 512, 700, ()), (64, 300, 1200, ()), (197, 20, 90, (3,))]):
        a, b, c, (ma, mb, mc), _, _ = product(m, n, k, batch, c_layout, seed=i)
        extra, zeros, f = np.random.default_rng(i).standard_normal(n).astype(np.float32), (0,) * len(batch), Operand(dt.float32, "r")
        body = (Load(0, dt.float32, (*zeros, 0, 0)), Load(2, dt.float32, (*zeros, 0, 1)), Apply(ADD, (0, 1), dt.float32),
                Store(1, 2, (*mc.batch, mc.rows, mc.cols), 0, dt.float32))
        nest = Nest((*batch, m, n), (), (f, Operand(dt.float32, "w"), f), body) if fused else None
        g = Gemm(batch, m, n, k, ma, mb, mc, (f, f, Operand(dt.float32, "w"), f) if fused else (f, f, Operand(dt.float32, "w")), nest)
        launch, arrays = gemm.build(g), [a, b, c, extra] if fused else [a, b, c]
        choices = gemm._choices(g, gemm.product_tile(dt.float32))
        run(launch, arrays, threads)
        usual = c.tobytes()
        assert choices.make("")[:2] == (launch.words, launch.scratch)
        for name in choices.names():
            c[...] = np.nan
            words, scratch, _ = choices.make(name)
            assert len(words) == len(launch.words) and words != launch.words
            run(replace(launch, words=words, scratch=scratch), arrays, threads)
            assert c.tobytes() == usual, (m, n, k, batch, name)
            tried.add(name)
    assert set(gemm.CHANGES) <= tried and ("turned" in tried or isa.vector_bytes == 16)          # short vectors: sums would be cut elsewhere


@pytest.mark.parametrize("t", [dt.float64, dt.float16, dt.int32], ids=str)
def test_other_types_two_stores_and_numbers(t):
    m, n, k = 19, 37, 11
    rng = np.random.default_rng(2)
    a, b, c = (rng.integers(-3, 4, s).astype(t.code) for s in ((m, k), (k, n), (m, n)))
    flags, number = np.zeros((m, n), np.float32), np.array([2.0])
    body = (Load(0, t, (0, 0)), Number(2, t), Apply(MUL, (0, 1), t), Store(1, 2, (n, 1), 0, t), Const(1, t), Apply(ADD, (0, 4), t),
            Cast(5, dt.float32), Store(3, 6, (n, 1), 0, dt.float32))
    nest = Nest((m, n), (), (Operand(t, "r"), Operand(t, "w"), Operand(dt.float64, "n"), Operand(dt.float32, "w")), body)
    operands = (Operand(t, "r"), Operand(t, "r"), Operand(t, "w"), Operand(dt.float64, "n"), Operand(dt.float32, "w"))
    launch = gemm.build(Gemm((), m, n, k, Matrix(t, (), k, 1), Matrix(t, (), n, 1), Matrix(t, (), n, 1), operands, nest))
    run(launch, [a, b, c, number, flags], values={3: number.view(np.int64)[0]})
    np.testing.assert_array_equal(c, (a.astype(np.float64) @ b * 2).astype(t.code))
    np.testing.assert_array_equal(flags, a.astype(np.float64) @ b + 1)


def test_what_is_refused():
    f = (Operand(dt.float32, "r"), Operand(dt.float32, "w"))
    load, store = Load(0, dt.float32, (0, 0)), Store(1, 0, (4, 1), 0, dt.float32)
    good = Nest((4, 4), (), f, (load, store))
    assert gemm.accepts(good)
    for bad in [Nest((4,), (4,), f, (load, store)), Nest((4, 4), (), f, (load,)), Nest((4, 4), (), f, (load, Index((1, 0)), store))]:
        assert not gemm.accepts(bad)
        x = Matrix(dt.float32, (), 4, 1)
        with pytest.raises(NotImplementedError, match="epilogue"): gemm.build(Gemm((), 4, 4, 4, x, x, x, (f[0], f[0], f[1]), bad))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("case", [
    (1, 5, 20, (9, 9), (1, 1), (1, 1), (0, 0), 1), (5, 8, 17, (7, 7), (1, 1), (1, 1), (0, 0), 1), (2, 700, 15, (5, 5), (1, 1), (1, 1), (0, 0), 1),
    (3, 6, 8, (11, 10), (3, 3), (2, 2), (1, 1), 2), (2, 32, 40, (13, 12), (3, 3), (1, 1), (1, 1), 1), (3, 20, 33, (2, 2), (3, 3), (1, 1), (1, 1), 1),
    (2, 16, 24, (15, 16), (3, 3), (1, 1), (1, 1), 4), (4, 96, 5, (40, 48), (5, 5), (2, 2), (2, 2), 1),
    (1, 600, 64, (7, 7), (1, 1), (1, 1), (0, 0), 1), (1, 20, 32, (14, 14), (1, 1), (1, 1), (0, 0), 1)], ids=str)
def test_convolutions(case, threads):
    """Scale and shift per channel, another image added, relu: the planner's words for it, image by image, panels across images included."""
    n, c, k, size, taps, stride, padding, groups = case
    g = torch.Generator().manual_seed(1)
    x, w = torch.randn(n, c, *size, generator=g), torch.randn(k, c // groups, *taps, generator=g)
    y = torch.nn.functional.conv2d(x, w, None, stride, padding, 1, groups)
    scale, shift, other = (torch.randn(s, generator=g) for s in ((k,), (k,), y.shape))
    pixels, t = y[0, 0].numel(), dt.float32
    own = k * pixels, pixels, 1
    body = (Load(0, t, own), Load(2, t, (0, 1, 0)), Apply(MUL, (0, 1), t), Load(3, t, (0, 1, 0)), Apply(ADD, (2, 3), t), Load(4, t, own), Apply(ADD, (4, 5), t),
            Apply(RELU, (6,), t), Store(1, 7, own, 0, t))
    r, wr = Operand(t, "r"), Operand(t, "w")
    nest = Nest((n, k, pixels), (), (r, wr, r, r, r), body)

    def three(v, one): return (one, *v)
    noun = Conv("forward", n, c, k, groups, three(size, 1), three(y.shape[2:], 1), three(taps, 1), three(stride, 1), three(padding, 0), (1, 1, 1), t, False,
                (r, r, wr, r, r, r), epilogue=nest)
    assert conv.takes_epilogue(noun)
    got = np.full(y.shape, np.nan, np.float32)
    run(conv.build(noun), [a.numpy() for a in (x, w)] + [got] + [a.numpy() for a in (scale, shift, other)], threads)
    want = torch.relu(y.double() * scale[:, None, None] + shift[:, None, None] + other).numpy()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=2e-4 * np.abs(want).max())
