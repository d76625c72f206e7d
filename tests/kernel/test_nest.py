"""Loop nests against NumPy: elementwise, reductions, several passes, guarded and indirect loads, strides of every kind."""
import os
import random
import subprocess
import sys

import numpy as np
import pytest

from forno.core import dtype as dt
from forno.core.kernels import Apply, Bound, Cast, Const, Index, Indirect, Load, Nest, Number, Operand, Reduce, Store
from forno.core.shape import contiguous
from forno.cpu import isa
from forno.kernel import nest as nests_module
from forno.kernel.nest import build

from . import nests
from .nests import op, reference, run

F, D, I, B = dt.float32, dt.float64, dt.int64, dt.bool
ADD = op(lambda b, x, y: b.add(x, y), np.add, "add")
SUB = op(lambda b, x, y: b.sub(x, y), np.subtract, "sub")
MUL = op(lambda b, x, y: b.mul(x, y), np.multiply, "mul")
DIV = op(lambda b, x, y: b.div(x, y), np.divide, "div")
MAX = op(lambda b, x, y: b.max(x, y), np.maximum, "max")
EXP = op(lambda b, x: b.exp(x), np.exp, "exp")
RSQRT = op(lambda b, x: b.rsqrt(x), lambda x: 1 / np.sqrt(x), "rsqrt")
LT = op(lambda b, x, y: b.lt(x, y), np.less, "lt")
WHERE = op(lambda b, c, x, y: b.select(c, x, y), np.where, "where")
REAL = [t for t in dt.ALL if t.category != dt.COMPLEX]


def data(rng, count, t):
    if t is B: return rng.integers(0, 2, count).astype(bool)
    if t.category == dt.INT: return rng.integers(0 if not t.signed else -50, 50, count).astype(t.code)
    return nests.narrow(rng.standard_normal(count), t)


def check(nest, values, threads=1, rtol=1e-5, atol=1e-6):
    """Runs it both ways on copies and compares everything that was written."""
    ours, theirs = ([v.copy() if isinstance(v, np.ndarray) else v for v in values] for _ in range(2))
    error = run(nest, ours, threads)
    reference(nest, theirs)
    assert not error.any()
    for k, o in enumerate(nest.operands):
        if o.mode not in ("w", "rw"): continue
        a, b = nests.widen(ours[k], o.dtype), nests.widen(theirs[k], o.dtype)
        if o.dtype.category < dt.FLOAT: np.testing.assert_array_equal(a, b)
        elif o.dtype.size == 2: np.testing.assert_allclose(a.astype(np.float64), b, 2e-2, 2e-2)
        else: np.testing.assert_allclose(a, b, rtol, atol)
    return ours


def strided(rng, shape, kind):
    """Strides, offset and room for an operand of this shape: dense, permuted, reversed, spread out or broadcast."""
    order = list(range(len(shape)))
    if kind != "dense": rng.shuffle(order)
    strides, step = [0] * len(shape), 1
    for d in reversed(order):
        if kind == "broadcast" and rng.random() < 0.5: continue
        if kind == "spread": step *= rng.choice([1, 2, 3, 4, 5])
        strides[d] = step
        step *= max(shape[d], 1)
    offset = 0
    if kind == "reversed":
        for d in range(len(shape)):
            if rng.random() < 0.5:
                offset += strides[d] * max(shape[d] - 1, 0)
                strides[d] = -strides[d]
    return tuple(strides), offset, step + 3


KINDS = ("dense", "dense", "permuted", "reversed", "spread", "broadcast")


def random_shape(rng):
    return tuple(rng.choice([1, 2, 3, 5, 7, 16, 17, 33, 64, 70]) if rng.random() < 0.95 else 0 for _ in range(rng.choice([0, 1, 1, 2, 2, 3, 4])))


@pytest.mark.parametrize("seed", range(60))
def test_elementwise_on_random_strides_and_types(seed):
    rng, nrng = random.Random(seed), np.random.default_rng(seed)
    shape = random_shape(rng)
    while np.prod(shape) > 40000: shape = shape[1:]
    t, u = rng.choice(REAL), rng.choice(REAL)
    result = rng.choice(REAL)
    work = rng.choice([F, D, I, dt.int32] if max(t.category, u.category) < dt.FLOAT else [F, D])
    views = [strided(rng, shape, rng.choice(KINDS)) for _ in range(2)]
    out = strided(rng, shape, rng.choice([k for k in KINDS if k != "broadcast"]))
    body = [Load(0, t, views[0][0], views[0][1]), Load(1, u, views[1][0], views[1][1]), Cast(0, work), Cast(1, work), Apply(ADD, (2, 3), work),
            Const(3.25 if work.category == dt.FLOAT else 3, work), Apply(MUL, (4, 5), work)]
    body += [Cast(6, dt.int64 if result.category == dt.INT else result), Cast(7, result), Store(2, 8, out[0], out[1], result)]
    nest = Nest(shape, (), (Operand(t, "r"), Operand(u, "r"), Operand(result, "w")), tuple(body))
    check(nest, [data(nrng, views[0][2], t), data(nrng, views[1][2], u), data(nrng, out[2], result)], rng.choice([1, 1, 3]))


COMBINE = ("sum", "prod", "max", "min", "argmax", "argmin", "any", "all")


@pytest.mark.parametrize("seed", range(80))
def test_reductions_on_random_strides_and_types(seed):
    rng, nrng = random.Random(seed), np.random.default_rng(seed)
    axes, window = random_shape(rng), tuple(max(n, 1) for n in random_shape(rng))
    while np.prod((*axes, *window)) > 60000: axes, window = axes[1:], window[1:] if len(window) > len(axes) else window
    combine, t = rng.choice(COMBINE), rng.choice(REAL)
    if combine == "prod": window = tuple(min(n, 5) for n in window[-2:])
    shape = (*axes, *window)
    strides, offset, room = strided(rng, shape, rng.choice(KINDS))
    result = {"argmax": I, "argmin": I, "any": B, "all": B}.get(combine, t)
    if combine in ("sum", "prod") and t.category < dt.FLOAT: result = I
    out = (*contiguous(axes), *(0,) * len(window))
    body = (Load(0, t, strides, offset), Reduce(combine, 0, result), Store(1, 1, out, 0, result))
    nest = Nest(axes, window, (Operand(t, "r"), Operand(result, "w")), body)
    x = data(nrng, room, t)
    if combine in ("any", "all") and rng.random() < 0.7: x[:] = 0 if combine == "any" else 1
    if t.category == dt.FLOAT and t is not dt.bfloat16 and rng.random() < 0.3 and combine not in ("any", "all"): x[rng.randrange(len(x))] = np.nan
    check(nest, [x, data(nrng, max(int(np.prod(axes)), 1), result)], rng.choice([1, 1, 3]), 1e-4, 1e-4)


def softmax(rows, columns, axis=1, t=F):
    """Over the last axis of (rows, columns), or over the first."""
    s = (columns, 1) if axis == 1 else (1, columns)
    axes, window = ((rows,), (columns,)) if axis == 1 else ((columns,), (rows,))
    body = (Load(0, t, s), Cast(0, F), Reduce("max", 1, F), Apply(SUB, (1, 2), F), Apply(EXP, (3,), F), Reduce("sum", 4, F),
            Apply(DIV, (4, 5), F), Cast(6, t), Store(1, 7, s, 0, t))
    return Nest(axes, window, (Operand(t, "r"), Operand(t, "w")), body)


@pytest.mark.parametrize("axis", (0, 1))
@pytest.mark.parametrize("shape", ((1, 1), (3, 10), (5, 64), (2, 1000), (70, 33), (1, 200000), (200000, 1), (3, 100000), (9, 7)))
@pytest.mark.parametrize("t", (F, dt.bfloat16, dt.float16))
def test_softmax(shape, axis, t):
    x = data(np.random.default_rng(0), shape[0] * shape[1], t)
    check(softmax(*shape, axis, t), [x, np.zeros_like(x)], 2)


def test_softmax_in_place():
    x = data(np.random.default_rng(0), 5000, F)
    n = softmax(5, 1000)
    body = tuple(Store(0, v.arg, v.strides, 0, F) if isinstance(v, Store) else v for v in n.body)
    check(Nest(n.axes, n.window, (Operand(F, "rw"),), body), [x], 2)


def layer_norm(rows, columns):
    """(x - mean) / sqrt(var + eps) * w + b with mean and rstd stored too."""
    s, o, c = (columns, 1), (1, 0), (0, 1)
    body = (Load(0, F, s), Reduce("sum", 0, F), Const(1 / columns, F), Apply(MUL, (1, 2), F), Apply(SUB, (0, 3), F), Apply(MUL, (4, 4), F),
            Reduce("sum", 5, F), Apply(MUL, (6, 2), F), Number(6, F), Apply(ADD, (7, 8), F), Apply(RSQRT, (9,), F), Apply(MUL, (4, 10), F),
            Load(1, F, c), Load(2, F, c),
            Apply(MUL, (11, 12), F), Apply(ADD, (14, 13), F), Store(3, 15, s, 0, F), Store(4, 3, o, 0, F), Store(5, 10, o, 0, F))
    return Nest((rows,), (columns,), (*(Operand(F, m) for m in "rrrwww"), Operand(D, "n")), body)


@pytest.mark.parametrize("shape", ((1, 1), (3, 10), (5, 64), (4, 1000), (70, 33), (1, 300000)))
def test_layer_norm(shape):
    rng, (r, c) = np.random.default_rng(0), shape
    values = [*(data(rng, n, F) for n in (r * c, c, c)), *(np.zeros(n, np.float32) for n in (r * c, r, r)), 1e-5]
    check(layer_norm(*shape), values, 3, 1e-4, 1e-5)


@pytest.mark.parametrize("last", (False, True))
@pytest.mark.parametrize("shape", ((4, 3, 50), (8, 33, 7), (64, 2, 3000), (2, 70, 1), (300, 2, 500)))
def test_batch_norm(shape, last):
    """Per channel, channels in the middle or last; (x - mean) * rstd written, the mean too."""
    n, c, p = shape
    s = (1, p * c, c) if last else (p, c * p, 1)
    body = (Load(0, F, s), Reduce("sum", 0, F), Const(1 / (n * p), F), Apply(MUL, (1, 2), F), Apply(SUB, (0, 3), F), Apply(MUL, (4, 4), F),
            Reduce("sum", 5, F), Apply(MUL, (6, 2), F), Const(1e-5, F), Apply(ADD, (7, 8), F), Apply(RSQRT, (9,), F), Apply(MUL, (4, 10), F),
            Store(1, 11, s, 0, F), Store(2, 3, (1, 0, 0), 0, F))
    nest = Nest((c,), (n, p), tuple(Operand(F, m) for m in "rww"), body)
    x = data(np.random.default_rng(1), n * c * p, F) + np.float32(1)
    check(nest, [x, np.zeros_like(x), np.zeros(c, np.float32)], 3, 1e-4, 1e-4)


@pytest.mark.parametrize("t", (F, D, dt.int32, dt.bfloat16))
@pytest.mark.parametrize("combine", ("sum", "max", "argmax", "argmin", "any"))
@pytest.mark.parametrize("shape", ((1, 300001), (300001, 1), (3, 90000), (70000, 5)))
def test_few_results_from_long_windows_do_not_depend_on_threads(shape, combine, t):
    """Threads share the window; any number of them gives the same bits."""
    rows, columns = shape
    result = {"argmax": I, "argmin": I, "any": B}.get(combine, t)
    if combine == "sum" and t.category < dt.FLOAT: result = I
    for axes, window, strides in (((rows,), (columns,), (columns, 1)), ((columns,), (rows,), (1, columns))):
        body = (Load(0, t, strides), Reduce(combine, 0, result), Store(1, 1, (1, 0), 0, result))
        nest = Nest(axes, window, (Operand(t, "r"), Operand(result, "w")), body)
        x = data(np.random.default_rng(2), rows * columns, t)
        if combine == "any": x[:] = 0
        out = [check(nest, [x, np.zeros(axes[0], result.code)], n, 1e-4, 1e-3)[1] for n in (1, 2, 5)]
        for o in out[1:]: np.testing.assert_array_equal(o, out[0])


def test_long_float_sums_are_accurate():
    x = np.random.default_rng(0).random(4_000_000, dtype=np.float32)
    nest = Nest((), (x.size,), (Operand(F, "r"), Operand(F, "w")), (Load(0, F, (1,)), Reduce("sum", 0, F), Store(1, 1, (0,), 0, F)))
    out = np.zeros(1, np.float32)
    run(nest, [x, out], 2)
    exact = x.sum(dtype=np.float64)
    assert abs(out[0] - exact) / exact < 2e-7
    nest = Nest((2,), (x.size // 2,), nest.operands, (Load(0, F, (1, 2)), Reduce("sum", 0, F), Store(1, 1, (1, 0), 0, F)))
    out = np.zeros(2, np.float32)
    run(nest, [x, out], 2)
    np.testing.assert_allclose(out, x.reshape(-1, 2).sum(0, dtype=np.float64), rtol=5e-7)


def test_arg_reductions_take_the_first_and_nan_wins():
    x = np.array([1, 5, 5, 2, np.nan, 9, np.nan, -np.inf, -np.inf, -np.inf, -np.inf, -np.inf], np.float32)
    nest = Nest((3,), (4,), (Operand(F, "r"), Operand(I, "w")), (Load(0, F, (4, 1)), Reduce("argmax", 0, I), Store(1, 1, (1, 0), 0, I)))
    out = np.zeros(3, np.int64)
    run(nest, [x, out])
    assert out.tolist() == [1, 0, 0]


@pytest.mark.parametrize("t", (F, B, dt.int16, dt.complex64, dt.float16))
@pytest.mark.parametrize("shape", ((5, 7), (20, 64), (4, 200)))
def test_guarded_loads(shape, t):
    """Padding: loads outside give the other value; the guard runs along lanes and across them."""
    rows, columns = shape
    bounds = (Bound((1, 0), -2, rows - 3), Bound((0, 1), -3, columns - 4))
    body = (Load(0, t, (columns - 4, 1), -2 * (columns - 4) - 3, bounds=bounds, other=2.0 if t is not B else 1), Store(1, 0, (columns, 1), 0, t))
    nest = Nest(shape, (), (Operand(t, "r"), Operand(t, "w")), body)
    rng = np.random.default_rng(0)
    x = data(rng, (rows - 3) * (columns - 4), t) if t.category != dt.COMPLEX else rng.standard_normal((rows - 3) * (columns - 4)).astype(t.code)
    check(nest, [x, np.zeros(rows * columns, t.code)])


@pytest.mark.parametrize("t", (F, B, dt.complex64))
def test_a_guard_may_vary_where_the_load_does_not(t):
    """One element per row, repeated, with edges of the other value."""
    rows, columns = 3, 70
    body = (Load(0, t, (1, 0), 0, bounds=(Bound((0, 1), -2, columns - 5),), other=2.0 if t is not B else 1), Store(1, 0, (columns, 1), 0, t))
    x = data(np.random.default_rng(0), rows, t if t.category != dt.COMPLEX else F).astype(t.code)
    check(Nest((rows, columns), (), (Operand(t, "r"), Operand(t, "w")), body), [x, np.zeros(rows * columns, t.code)])


@pytest.mark.parametrize("step", (-1, 2, 3, 4, 5))
@pytest.mark.parametrize("t", (F, B, dt.int16, D, dt.complex64))
def test_strided_loads_read_nothing_beyond_the_last_element(step, t):
    n = 131
    x = data(np.random.default_rng(0), abs(step) * (n - 1) + 1, t) if t.category != dt.COMPLEX else np.arange(abs(step) * (n - 1) + 1).astype(t.code)
    body = (Load(0, t, (step,), (n - 1) if step < 0 else 0), Store(1, 0, (1,), 0, t))
    check(Nest((n,), (), (Operand(t, "r"), Operand(t, "w")), body), [x, np.zeros(n, t.code)])


@pytest.mark.parametrize("t", (F, B, dt.int16, D, dt.bfloat16, dt.complex64))
@pytest.mark.parametrize("few,columns,rows", ((2, 70, 3), (3, 33, 2), (4, 8, 5), (2, 5, 4), (4, 64, 1)))
def test_repeated_pixels(few, columns, rows, t):
    """Stores along a loop of a few turns, of values that vary along it and of values that don't."""
    kind = t if t.category != dt.COMPLEX else F
    n, rng = rows * columns, np.random.default_rng(0)
    x = data(rng, n, kind).astype(t.code) if t.category == dt.COMPLEX else data(rng, n, t)
    same = op(lambda b, c, x: b.select(c, x, x), lambda c, x: x, "same")
    body = (Load(0, t, (columns, 1, 0)), Index((0, 0, 1), 0), Const(1, I), Apply(LT, (1, 2), B), Apply(same, (3, 0), t), Load(1, t, (columns * few, few, 1)),
            Apply(WHERE, (3, 4, 5), t), Store(2, 6, (columns * few, few, 1), 0, t), Store(3, 0, (columns * few, few, 1), 0, t))
    wide = lambda: np.concatenate([x] * few)
    nest = Nest((rows, columns, few), (), tuple(Operand(t, m) for m in "rrww"), body)
    for threads in (1, 3): check(nest, [x, wide()[::-1].copy(), np.zeros_like(wide()), np.zeros_like(wide())], threads)


def test_max_pooling_with_padding():
    n, h, w, k = 3, 18, 37, 3
    bounds = (Bound((0, 1, 0, 1, 0), -1, h), Bound((0, 0, 1, 0, 1), -1, w))
    body = (Load(0, F, (h * w, w, 1, w, 1), -w - 1, bounds=bounds, other=-np.inf), Reduce("max", 0, F), Store(1, 1, (h * w, w, 1, 0, 0), 0, F))
    x = data(np.random.default_rng(0), n * h * w, F)
    check(Nest((n, h, w), (k, k), (Operand(F, "r"), Operand(F, "w")), body), [x, np.zeros_like(x)])


@pytest.mark.parametrize("columns", (1, 3, 16, 50))
def test_indirect_rows_and_elements(columns):
    """An embedding (index per row) and a gather (index per element); negative indices count from the end."""
    rng, rows, table = np.random.default_rng(0), 40, 30
    x, i = data(rng, table * columns, F), rng.integers(-table, table, rows * columns)
    for strides in ((1, 0), (columns, 1)):
        body = (Load(0, I, strides), Load(1, F, (0, 1), at=(Indirect(0, columns, table),)), Store(2, 1, (columns, 1), 0, F))
        check(Nest((rows, columns), (), (Operand(I, "r"), Operand(F, "r"), Operand(F, "w")), body), [i, x, np.zeros(rows * columns, np.float32)], 2)


@pytest.mark.parametrize("where", (0, 5, 36))
@pytest.mark.parametrize("per_element", (False, True))
def test_an_index_out_of_range_is_reported(where, per_element):
    n = 37
    i = np.zeros(n, np.int64)
    i[where] = 99 if per_element else -31
    axes, s = ((n,), (1,)) if per_element else ((n, 4), (1, 0))
    body = (Load(0, I, s), Load(1, F, (0,) * len(axes), at=(Indirect(0, 1, 30),)), Store(2, 1, (1,) if per_element else (4, 1), 0, F))
    error = run(Nest(axes, (), (Operand(I, "r"), Operand(F, "r"), Operand(F, "w")), body), [i, np.ones(30, np.float32), np.zeros(n * 4, np.float32)])
    assert error.tolist() == [1, i[where], 30, 7]


@pytest.mark.parametrize("t", (dt.complex64, dt.complex128))
@pytest.mark.parametrize("n", (1, 5, 16, 37, 64))
def test_complex_numbers(n, t):
    rng = np.random.default_rng(0)
    x, y = ((rng.standard_normal(n) + 1j * rng.standard_normal(n)).astype(t.code) for _ in range(2))
    body = (Load(0, t, (1,)), Load(1, t, (-1,), n - 1), Apply(MUL, (0, 1), t), Number(4, t), Apply(ADD, (2, 3), t), Store(2, 4, (1,), 0, t),
            Cast(4, B), Store(3, 6, (2,), 0, B))
    nest = Nest((n,), (), (Operand(t, "r"), Operand(t, "r"), Operand(t, "w"), Operand(B, "w"), Operand(dt.complex128, "n")), body)
    check(nest, [x, y, np.zeros_like(x), np.zeros(2 * n, bool), 0.5 - 1j], 1, 1e-5, 1e-5)
    total = Nest((), (n,), (Operand(t, "r"), Operand(t, "w")), (Load(0, t, (1,)), Reduce("sum", 0, t), Store(1, 1, (0,), 0, t)))
    out = np.zeros(1, t.code)
    run(total, [x, out])
    np.testing.assert_allclose(out[0], x.sum(), rtol=1e-5)


def test_positions_and_several_stores_at_both_levels():
    r, c = 6, 45
    body = (Index((10, 1), 3), Load(0, F, (c, 1)), Cast(0, F), Apply(MUL, (1, 2), F), Store(1, 3, (c, 1), 0, F), Store(2, 0, (c, 1), 0, I),
            Reduce("sum", 3, F), Store(3, 6, (1, 0), 0, F), Reduce("max", 0, I), Store(4, 8, (1, 0), 0, I))
    nest = Nest((r,), (c,), (Operand(F, "r"), Operand(F, "w"), Operand(I, "w"), Operand(F, "w"), Operand(I, "w")), body)
    x = data(np.random.default_rng(0), r * c, F)
    check(nest, [x, np.zeros_like(x), np.zeros(r * c, np.int64), np.zeros(r, np.float32), np.zeros(r, np.int64)], 2, 1e-4, 1e-3)


@pytest.mark.parametrize("t", (F, D, B, dt.bfloat16, dt.int32))
@pytest.mark.parametrize("shape", ((2, 40, 133), (1, 64, 256), (3, 9, 8), (2, 300, 5)))
def test_transposed_operands(shape, t):
    """One operand as stored, one transposed: tiles of it pass through scratch."""
    n, r, c = shape
    s, st = (r * c, c, 1), (r * c, 1, r)
    body = (Load(0, t, s), Load(1, t, st), Cast(0, D), Cast(1, D), Apply(ADD, (2, 3), D), Cast(4, F), Store(2, 5, s, 0, F), Store(3, 1, s, 0, t))
    rng = np.random.default_rng(0)
    nest = Nest(shape, (), (Operand(t, "r"), Operand(t, "r"), Operand(F, "w"), Operand(t, "w")), body)
    check(nest, [data(rng, n * r * c, t), data(rng, n * r * c, t), np.zeros(n * r * c, np.float32), data(rng, n * r * c, t)], 3)


def test_transposed_in_place_update():
    """The same buffer read and written through the same permuted strides."""
    shape, s = (33, 50), (1, 33)
    body = (Load(0, F, s), Const(1.5, F), Apply(MUL, (0, 1), F), Store(1, 2, s, 0, F))
    x = data(np.random.default_rng(0), 33 * 50, F)
    want = x * np.float32(1.5)
    run(Nest(shape, (), (Operand(F, "r"), Operand(F, "w")), body), [x, x], 2)
    np.testing.assert_array_equal(x, want)


def test_empty_windows_give_the_identity():
    for combine, want in (("sum", 0), ("prod", 1), ("max", -np.inf)):
        out = np.full(3, 7, np.float32)
        body = (Load(0, F, (0, 1)), Reduce(combine, 0, F), Store(1, 1, (1, 0), 0, F))
        run(Nest((3,), (0,), (Operand(F, "r"), Operand(F, "w")), body), [np.zeros(1, np.float32), out])
        assert out.tolist() == [want] * 3


def test_a_new_shape_compiles_nothing():
    build(softmax(8, 1001))
    before = len(nests_module._programs)
    a, b = build(softmax(9, 1003)), build(softmax(8, 1001))
    assert len(nests_module._programs) == before and a.program is b.program and a.words != b.words


@pytest.mark.parametrize("level", [l for l in ("avx2", "baseline") if isa.level == "avx512" or (isa.level, l) == ("avx2", "baseline")])
def test_on_narrower_processors(level):
    if os.environ.get("FORNO_CPU", "native") != "native": pytest.skip("already narrowed")
    here = os.path.dirname(__file__)
    files = [os.path.join(here, f) for f in ("test_nest.py", "test_math.py")]
    done = subprocess.run([sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *files], env={**os.environ, "FORNO_CPU": level},
                          cwd=os.path.dirname(os.path.dirname(here)), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-2000:]
