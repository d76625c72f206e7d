"""Recurrences over whole sequences against NumPy, step by step: cells, directions, sizes and tails, threads; what is kept, and gradients."""
import numpy as np
import pytest

from forno.core import dtype as dt
from forno.core.graph import Value
from forno.core.shape import View, contiguous
from forno.dnn import recurrence as rc
from forno.kernel import recurrence

from .harness import run

SIZES = [(3, 2, 5), (4, 1, 32), (5, 15, 40), (2, 29, 64), (3, 6, 97), (1, 1, 1)]          # steps, batch, hidden columns


def inputs(mode, steps, batch, size, t):
    rng = np.random.default_rng(steps * 100 + batch * 10 + size)
    gates = rc.GATES[mode]
    out = [rng.standard_normal((steps, batch, gates * size)), rng.standard_normal((gates * size, size)) / size ** 0.5, rng.standard_normal((batch, size))]
    if mode == "lstm": out.append(rng.standard_normal((batch, size)))
    if mode == "gru": out.append(rng.standard_normal(gates * size))
    return [x.astype(t.code) for x in out]


def ran(op, spec, arrays, t, threads):
    """The kernel's result from operands that lie somewhere in their buffers."""
    values, views = [Value(None, (), None, t, x.shape) for x in arrays], [View(x.shape, contiguous(x.shape), 3 * k) for k, x in enumerate(arrays)]
    arrays = [np.concatenate([np.full(v.offset, np.nan, t.code), x.ravel()]) for x, v in zip(arrays, views)]
    result = Value(op, tuple(values), spec, *op.infer(spec, *values))
    out = np.full(result.shape[0] + 64, 7, t.code)
    run(recurrence.build(op.plan(spec, result, *values, views=views)), [*arrays, out], threads)
    assert (out[result.shape[0]:] == 7).all()
    return out[:result.shape[0]]


@pytest.mark.parametrize("mode", rc.GATES)
@pytest.mark.parametrize("sizes", SIZES)
def test_forward_and_backward(mode, sizes):
    for t, reverse, threads in ((dt.float32, False, 1), (dt.float32, True, 2), (dt.float64, True, 1), (dt.float64, False, 3)):
        spec, arrays = rc.RecurrenceSpec(mode, reverse, rc.KEPT[mode] > 0), inputs(mode, *sizes, t)
        tolerance = dict(rtol=1e-4, atol=2e-5) if t is dt.float32 else dict(rtol=1e-11, atol=1e-12)
        expected = rc.recur.oracle(spec, *arrays)
        np.testing.assert_allclose(ran(rc.recur, spec, arrays, t, threads), expected, **tolerance)
        states = (sizes[0] + spec.states, *sizes[1:])
        hidden, kept = np.split(expected, [np.prod(states)])
        g = np.random.default_rng(1).standard_normal(states).astype(t.code)
        back = [g, hidden.reshape(states), arrays[1], *([kept.reshape(*sizes[:2], -1)] if spec.kept else [])]
        np.testing.assert_allclose(ran(rc.recurrence_back, spec, back, t, threads), rc.recurrence_back.oracle(spec, *back), **tolerance)


def test_nothing_is_kept_unasked():
    arrays = inputs("lstm", 3, 4, 33, dt.float32)
    whole = rc.recur.oracle(rc.RecurrenceSpec("lstm"), *arrays)
    assert whole.size == 5 * 4 * 33
    np.testing.assert_allclose(ran(rc.recur, rc.RecurrenceSpec("lstm"), arrays, dt.float32, 1), whole, rtol=1e-4, atol=2e-5)


def test_threads_change_no_bit():
    for mode in rc.GATES:
        arrays, spec = inputs(mode, 4, 20, 130, dt.float32), rc.RecurrenceSpec(mode)
        assert np.array_equal(ran(rc.recur, spec, arrays, dt.float32, 1), ran(rc.recur, spec, arrays, dt.float32, 3))


def test_relu_lets_nan_through():
    arrays = inputs("relu", 2, 2, 3, dt.float32)
    arrays[0][0, 0, 0] = np.nan
    out = ran(rc.recur, rc.RecurrenceSpec("relu"), arrays, dt.float32, 1).reshape(3, 2, 3)
    assert np.isnan(out[1, 0, 0]) and np.isnan(out[2, 0]).all() and not np.isnan(out[:, 1]).any()
