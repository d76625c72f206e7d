"""Rows that read and write through indices, against torch, for several thread counts."""
import numpy as np
import pytest
import torch

from forno.core.kernels import Native, Operand
from forno.core.op import TABLE
from forno.dnn import gather as g
from forno.kernel import routines

from .native import DTYPES, OutOfRange, call, run, same, sample, value

ALL = [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.float16, torch.bfloat16, torch.float32, torch.float64,
       torch.complex64, torch.complex128]
THREADS = [1, 2, 5]


def check(row, attr, operands, want, **close):
    for threads in THREADS:
        got = run(row, attr, *operands, threads=threads)
        assert same(got, want, **close), (row.name, attr, [tuple(o.shape) for o in operands], threads, got, want)
    arrays = [o.numpy() for o in operands if o.dtype is not torch.bfloat16]
    if len(arrays) == len(operands):           # the oracle too
        oracle = row.oracle(attr, *arrays)
        assert oracle.shape == tuple(want.shape)
        np.testing.assert_allclose(oracle, want.numpy(), rtol=1e-3)


INDEX = [((7,), (0,), [(4,)]), ((5, 6), (0,), [(3,)]), ((5, 6), (1,), [(3, 2)]), ((5, 6), (0, 1), [(4,), (4,)]), ((5, 6), (0, 1), [(4, 1), (3,)]),
         ((3, 4, 5), (1,), [(6,)]), ((3, 4, 5), (0, 2), [(6,), (6,)]), ((3, 4, 5), (1, 2), [(2, 3), (3,)]), ((3, 4, 5), (0, 1, 2), [(2,), (2,), (1,)]),
         ((2, 3, 4, 5), (1, 3), [(2,), (2,)]), ((2, 3, 4, 5), (1, 2), [(2, 1), (3,)]), ((4, 0), (0,), [(3,)]), ((4, 5), (0,), [(0,)]), ((4, 700), (0,), [(9,)]),
         ((4,), (0,), [()]), ((3, 1, 5), (1,), [(4,)])]


def indices(shape, axes, shapes, dtype=torch.int64, negative=True):
    return [torch.randint(-shape[d] if negative else 0, shape[d], s).to(dtype) for d, s in zip(axes, shapes)]


def key(ndim, axes, idx):
    full = [slice(None)] * ndim
    for d, i in zip(axes, idx): full[d] = i.long()
    return tuple(full)


@pytest.mark.parametrize("shape,axes,shapes", INDEX)
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_index(shape, axes, shapes, dtype):
    torch.manual_seed(0)
    x, idx = sample(shape, torch.float32), indices(shape, axes, shapes, dtype)
    want = x[key(len(shape), axes, idx)]
    check(g.index, axes, [x, *idx], want)
    v = sample(want.shape, torch.float32)
    check(g.index_back, (axes, shape), [v, *idx], put(torch.zeros(shape), axes, idx, v))


def put(x, axes, idx, v, accumulate=True):
    at = [None] * x.ndim
    for d, i in zip(axes, idx): at[d] = i.long()
    return torch.ops.aten.index_put(x, at, v, accumulate)


@pytest.mark.parametrize("shape,axes,shapes", INDEX)
def test_index_put(shape, axes, shapes):
    torch.manual_seed(1)
    x, idx = sample(shape, torch.float32), indices(shape, axes, shapes)
    want_shape = x[key(len(shape), axes, idx)].shape
    for v in (sample(want_shape, torch.float32), sample((), torch.float32), sample(want_shape[-1:], torch.float32)):
        check(g.index_put, (axes, "sum", True), [x, *idx, v], put(x, axes, idx, v))
        check(g.index_put, (axes, "set", True), [x, *idx, v], last_wins(x, key(len(shape), axes, idx), v))


def last_wins(x, key, v):
    shape, flat, where = x.shape, x.clone().reshape(-1), torch.arange(x.numel()).reshape(x.shape)[key]
    for at, x in zip(where.reshape(-1).tolist(), v.expand(where.shape).reshape(-1)): flat[at] = x
    return flat.reshape(shape)


@pytest.mark.parametrize("dtype", ALL)
def test_dtypes(dtype):
    torch.manual_seed(2)
    x, i = sample((6, 5, 3), dtype), torch.tensor([1, -1, 3, 1])
    check(g.index, (1,), [x, i], x[:, i])
    v = sample((6, 4, 3), dtype, 0, 3)
    check(g.index_back, ((1,), (6, 5, 3)), [v, i], put(torch.zeros(6, 5, 3, dtype=dtype), (1,), [i], v))
    j = torch.randint(0, 6, (4, 5, 2))
    check(g.gather, 0, [x, j], x.gather(0, j))
    check(g.scatter, (0, "sum", True), [x, j, v2 := sample((4, 5, 2), dtype, 0, 3)], x.scatter_add(0, j, v2))
    w = sample((1000, 33), dtype)
    rows = torch.randint(0, 1000, (500,))
    check(g.embedding, (None, False), [w, rows], w[rows])


@pytest.mark.parametrize("shape,dim,ishape", [((7,), 0, (4,)), ((5, 6), 0, (3, 6)), ((5, 6), 1, (5, 9)), ((5, 6), 1, (2, 1)), ((3, 4, 5), 1, (3, 2, 5)), ((3, 4, 5), 2, (1, 4, 8)),
                                            ((3, 4, 5), 0, (9, 4, 2)), ((), 0, ()), ((4, 5), 0, (0, 5)), ((6, 1), 1, (6, 3)), ((40, 300), 0, (70, 300))])
def test_gather_scatter(shape, dim, ishape):
    torch.manual_seed(3)
    x, i = sample(shape, torch.float32), torch.randint(0, shape[dim] if shape else 1, ishape)
    check(g.gather, dim, [x, i], x.gather(dim, i))
    v = sample(ishape, torch.float32)
    check(g.gather_back, (dim, shape), [v, i], torch.zeros(shape).scatter_add(dim, i, v))
    check(g.scatter, (dim, "sum", True), [x, i, v], x.scatter_add(dim, i, v))
    if v.numel(): check(g.scatter, (dim, "set", True), [x, i, torch.tensor(3.0)], x.scatter(dim, i, 3.0))
    big = sample(tuple(n + 2 for n in ishape), torch.float32)
    check(g.scatter, (dim, "sum", True), [x, i, big], x.scatter_add(dim, i, big))
    for mode in ("sum", "prod", "amax", "amin"):
        for include in (True, False):
            check(g.scatter_reduce, (dim, mode, include), [x, i, v], x.scatter_reduce(dim, i, v, mode, include_self=include))


@pytest.mark.parametrize("n", [15, 16, 37, 200])
@pytest.mark.parametrize("type", [torch.int64, torch.int32])
def test_several_at_a_time(n, type):
    """Lines long enough for vectors of indices: in range, from the end, wrong in one lane."""
    torch.manual_seed(6)
    x = sample((9, n), torch.float32)
    i, j = torch.randint(0, n, (9, n)).to(type), torch.randint(0, 9, (9, n)).to(type)
    for dim, at in ((1, i), (0, j)):
        check(g.gather, dim, [x, at], x.gather(dim, at.long()))
        check(g.gather_back, (dim, (9, n)), [x, at], torch.zeros(9, n).scatter_add(dim, at.long(), x))
        check(g.scatter, (dim, "set", True), [x, at, torch.tensor(3.0)], x.scatter(dim, at.long(), 3.0))
        wrong = at.clone()
        wrong[4, n // 2] = -1
        for row, attr, operands in ((g.gather, dim, [x, wrong]), (g.gather_back, (dim, (9, n)), [x, wrong]), (g.scatter, (dim, "set", True), [x, wrong, x])):
            with pytest.raises(OutOfRange, match="-1"): run(row, attr, *operands, threads=2)
    rows, columns = j[0], torch.where(torch.rand(n) < 0.1, i[0] - n, i[0])
    check(g.index, (0, 1), [x, rows, columns], x[rows.long(), columns.long()])
    check(g.index_put, ((0, 1), "set", True), [x, rows, columns, x[0].contiguous()], last_wins(x, (rows.long(), columns.long()), x[0]))
    few = rows[:5]                             # one value all along a row of the result
    check(g.index_put, ((0,), "set", True), [x, few, torch.tensor(7.0)], last_wins(x, (few.long(),), torch.tensor(7.0)))
    check(g.index_put, ((0,), "sum", True), [x, few, x[:5, :1].contiguous()], put(x, (0,), [few], x[:5, :1]))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.bfloat16, torch.bool])
def test_reduce_dtypes(dtype):
    torch.manual_seed(4)
    x, i, v = sample((5, 6), dtype, 1, 3), torch.randint(0, 5, (9, 6)), sample((9, 6), dtype, 1, 3)
    for mode in ("sum", "prod", "amax", "amin"):
        for include in (True, False):
            check(g.scatter_reduce, (0, mode, include), [x, i, v], x.scatter_reduce(0, i, v, mode, include_self=include))
    if dtype.is_floating_point:
        v[3, 2] = float("nan")
        check(g.scatter_reduce, (0, "amax", True), [x, i, v], x.scatter_reduce(0, i, v, "amax"))


@pytest.mark.parametrize("shape,dim,n", [((7,), 0, 4), ((5, 6), 0, 9), ((5, 6), 1, 3), ((3, 4, 5), 1, 6), ((3, 4, 5), 2, 1), ((4, 2000), 0, 6), ((4, 5), 1, 0)])
def test_select(shape, dim, n):
    torch.manual_seed(5)
    x, i = sample(shape, torch.float32), torch.randint(0, shape[dim], (n,))
    want = x.index_select(dim, i)
    check(g.index_select, dim, [x, i], want)
    v = sample(want.shape, torch.float32)
    check(g.index_select_back, (dim, shape), [v, i], torch.zeros(shape).index_add(dim, i, v))
    check(g.index_write, (dim, "sum", True), [x, i, v], x.index_add(dim, i, v))
    order = torch.randperm(shape[dim])
    v = sample(shape, torch.float32)
    check(g.index_write, (dim, "set", True), [x, order, v], x.index_copy(dim, order, v))
    v = sample(want.shape, torch.float32)
    for mode in ("prod", "amax", "amin"):
        if n: check(g.index_reduce, (dim, mode, False), [x, i, v], x.index_reduce(dim, i, v, mode, include_self=False))


def test_take_and_put():
    torch.manual_seed(6)
    x, i, v = sample((4, 5), torch.float32), torch.randint(-20, 20, (3, 7)), sample((3, 7), torch.float32)
    check(g.take, None, [x, i], x.take(i))
    check(g.take_back, (None, (4, 5)), [v, i], torch.zeros(4, 5).put_(i, v, accumulate=True))
    check(g.put_at, (None, "sum", True), [x, i, v], x.clone().put_(i, v, accumulate=True))


def test_embedding():
    torch.manual_seed(7)
    for rows, width, ishape in ((10, 8, (3, 4)), (10, 1, (6,)), (500, 768, (64,)), (3, 5, ())):
        w, i = torch.randn(rows, width), torch.randint(0, rows, ishape)
        check(g.embedding, (None, False), [w, i], torch.nn.functional.embedding(i, w))
        v = sample((*ishape, width), torch.float32)
        check(g.embedding_back, ((None, False), (rows, width)), [v, i], torch.zeros(rows, width).index_add(0, i.reshape(-1), v.reshape(-1, width)))


def test_sums_do_not_depend_on_threads():
    torch.manual_seed(8)
    for width in (1, 16, 600):
        v, i = torch.randn(300, width), torch.randint(0, 7, (300,))
        results = [run(g.index_select_back, (0, (7, width)), v, i, threads=t) for t in (1, 2, 3, 8)]
        assert all(torch.equal(r, results[0]) for r in results)
        assert torch.allclose(results[0], torch.zeros(7, width).index_add(0, i, v), atol=1e-4)


@pytest.mark.parametrize("row,attr,bad", [(g.index, (0,), 5), (g.index, (0,), -6), (g.gather, 0, -1), (g.index_select, 0, 5), (g.embedding, (None, False), -1), (g.take, None, 20)])
def test_out_of_range(row, attr, bad):
    x, i = sample((5, 4), torch.float32), torch.tensor([0, bad, 1])
    if row is g.gather: i = i.reshape(3, 1)
    with pytest.raises(OutOfRange) as error: run(row, attr, x, i, threads=2)
    size = 20 if row is g.take else 5
    assert error.value.args == (bad, size, 17)
    ok = sample((3, 4), torch.float32) if row is not g.gather else sample((3, 1), torch.float32)
    back, where = TABLE[f"{row.name}_back"], (attr, (5, 4))
    if row is g.take: ok = sample((3,), torch.float32)
    with pytest.raises(OutOfRange): run(back, where, ok, i, threads=2)


def test_errors():
    x = value(torch.zeros(3, 4))
    with pytest.raises(IndexError, match="could not be broadcast together with shapes"): g.index.infer((0, 1), x, value(torch.zeros(2).long()), value(torch.zeros(3).long()))
    with pytest.raises(IndexError, match="size 0"): g.index.infer((0,), value(torch.zeros(0, 4)), value(torch.zeros(2).long()))
    with pytest.raises(RuntimeError, match="number of dimensions"): g.gather.infer(0, x, value(torch.zeros(2).long()))
    with pytest.raises(RuntimeError, match="apart from dimension 0"): g.gather.infer(0, x, value(torch.zeros(2, 5).long()))
    with pytest.raises(RuntimeError, match="same dtype"): g.scatter.infer((0, "sum", True), x, value(torch.zeros(2, 4).long()), value(torch.zeros(2, 4).double()))
    with pytest.raises(RuntimeError, match="cannot be broadcast"): g.index_put.infer(((0,), "sum", True), x, value(torch.zeros(2).long()), value(torch.zeros(3)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.int8, torch.float64, torch.bfloat16])
def test_addput(dtype):
    torch.manual_seed(9)
    views = ((30, (5, 4), (6, 1), 2), (10, (4, 3), (2, 1), 1), (12, (3, 4), (0, 1), 4), (9, (), (), 3), (40, (2, 3, 4), (20, 4, 1), 0), (8, (0, 3), (1, 1), 0))
    for size, shape, strides, offset in views:
        base, v = sample((size,), dtype, 0, 3), sample(shape, dtype, 0, 3)
        want = base.clone()
        where = torch.arange(size).as_strided(shape, strides, offset)
        want.index_put_((where.reshape(-1),), v.reshape(-1), accumulate=True)
        t = DTYPES[dtype]
        native = Native("addput", (t,), (len(shape), *shape, *strides, offset, size), (Operand(t, "r"), Operand(t, "rw")))
        for threads in THREADS:
            out = base.clone()
            call(routines.build(native), [v.data_ptr(), out.data_ptr()], threads)
            assert same(out, want), (size, shape, strides, threads)


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("shape", [(0,), (5,), (300,), (7, 30), (2, 3, 40), (), (3, 0, 2)])
def test_nonzero(dtype, shape):
    torch.manual_seed(10)
    x = sample(shape, dtype, -1, 2)
    want = x.nonzero()
    for threads in THREADS:
        counts = run(g.nonzero_count, None, x, threads=threads)
        assert int(counts.sum()) == len(want)
        assert same(run(g.nonzero_fill, len(want), x, counts, threads=threads), want)
