"""Sums of matrix products become one product, and a weight that many products read is turned once."""

import numpy as np
import pytest

from forno.core import kernels as k

from .interpret import check, graph, source


def rand(*shape, seed=0): return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def gemms(plan): return [s.kernel for s in plan.steps if isinstance(s.kernel, k.Gemm)]


def steps(count, rows, m, n):
    """Inputs h (rows, m) and g (rows, n) per step, with their arrays."""
    pairs = [(source(2 * i, (r, m)), source(2 * i + 1, (r, n))) for i, r in zip(range(count), rows)]
    return pairs, [a for i, r in zip(range(count), rows) for a in (rand(r, m, seed=i), rand(r, n, seed=i + 50))]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("rows", [(3, 3, 3, 3), (4, 3, 2, 1)])
def test_a_sum_of_products_is_one_product(turned, rows):
    pairs, arrays = steps(4, rows, 16, 24)
    terms = [h.transpose(0, 1) @ g for h, g in pairs]
    if turned: terms = [t.transpose(0, 1) for t in terms]
    total = ((terms[3] + terms[2]) + terms[1]) + terms[0]
    (only,) = gemms(check(graph([x for p in pairs for x in p], [total]), arrays, tolerance=1e-4))
    assert only.k == sum(rows)


def test_other_terms_and_other_shapes_stay():
    pairs, arrays = steps(3, (2, 2, 2), 16, 24)
    more = source(6, (16, 24))
    terms = [h.transpose(0, 1) @ g for h, g in pairs]
    plan = check(graph([*(x for p in pairs for x in p), more], [terms[0] + terms[1] + more + terms[2]]), [*arrays, rand(16, 24)], tolerance=1e-4)
    assert [g.k for g in gemms(plan)] == [6]


def test_products_that_someone_else_reads_or_that_are_few_or_long_stay():
    pairs, arrays = steps(3, (2, 2, 2), 16, 24)
    inputs = [x for p in pairs for x in p]
    terms = [h.transpose(0, 1) @ g for h, g in pairs]
    assert len(gemms(check(graph(inputs, [terms[0] + terms[1] + terms[2], terms[1] * 2]), arrays, tolerance=1e-4))) == 3
    assert len(gemms(check(graph(inputs[:4], [terms[0] + terms[1]]), arrays[:4], tolerance=1e-4))) == 2
    pairs, arrays = steps(3, (32, 32, 32), 4, 4)
    terms = [h.transpose(0, 1) @ g for h, g in pairs]
    assert len(gemms(check(graph([x for p in pairs for x in p], [terms[0] + terms[1] + terms[2]]), arrays, tolerance=1e-4))) == 3


def test_rows_that_lie_below_each_other_are_not_copied():
    x, y = source(0, (4, 2, 16)), source(1, (4, 2, 24))
    terms = [x[i].transpose(0, 1) @ y[i] for i in range(4)]
    plan = check(graph([x, y], [terms[3] + terms[2] + terms[1] + terms[0]]), [rand(4, 2, 16), rand(4, 2, 24)], tolerance=1e-4)
    assert len(plan.steps) == 1 and gemms(plan)[0].k == 8


def test_a_weight_of_many_steps_is_turned_once():
    h, w = source(0, (3, 16)), source(1, (16, 16))
    def chained(count):
        x = h
        for _ in range(count): x = (x @ w.transpose(0, 1)).tanh()
        return check(graph([h, w], [x]), [rand(3, 16), rand(16, 16) / 8], tolerance=1e-4)
    assert {g.b.cols for g in gemms(chained(5))} == {1}
    assert {g.b.cols for g in gemms(chained(2))} == {16}
