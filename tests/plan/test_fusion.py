"""How many kernels well-known pieces of programs become, and that they still compute the same."""

import numpy as np
import pytest

from forno.core.graph import Scalar
from forno.core.op import TABLE
from forno.core.shape import View
from forno.plan.values import Number, apply

from .interpret import check, graph, source


def rand(*shape, seed=0): return np.random.default_rng(seed + sum(shape)).standard_normal(shape).astype(np.float32)


def steps(plan): return len(plan.steps)


def gelu(x): return x * 0.5 * ((x * 0.7071067811865476).tanh() + 1)


def test_chain_is_one_kernel():
    x, w, b = source(0, (8, 6)), source(1, (6,)), source(2, (6,))
    plan = check(graph([x, w, b], [gelu(x * w + b)]), [rand(8, 6), rand(6), rand(6)])
    assert steps(plan) == 1 and plan.arena == 0


def softmax(x, dim=-1):
    e = (x - x.amax(dim, True)).exp()
    return e / e.sum(dim, True)


def test_softmax_is_one_kernel():
    x = source(0, (4, 5, 7))
    for dim in (-1, 1, 0):
        assert steps(check(graph([x], [softmax(x, dim)]), [rand(4, 5, 7)])) == 1


def test_softmax_backward_is_one_kernel():
    x, g = source(0, (4, 5)), source(1, (4, 5))
    y = softmax(x)
    dx = (g - (g * y).sum(-1, True)) * y
    assert steps(check(graph([x, g], [y, dx]), [rand(4, 5), rand(4, 5, seed=1)])) == 1


def norm(x, dims, eps=1e-5):
    mean = x.mean(dims, True)
    d = x - mean
    rstd = ((d * d).mean(dims, True) + eps).rsqrt()
    return d * rstd, mean, rstd


def test_layer_norm_is_one_kernel():
    x, w, b = source(0, (3, 4, 8)), source(1, (8,)), source(2, (8,))
    y, mean, rstd = norm(x, -1)
    assert steps(check(graph([x, w, b], [y * w + b, mean, rstd]), [rand(3, 4, 8), rand(8), rand(8)])) == 1


def test_batch_norm_with_running_statistics_is_one_kernel():
    x, w, b, rm, rv = source(0, (4, 6, 3, 3)), source(1, (6,)), source(2, (6,)), source(3, (6,)), source(4, (6,))
    y, mean, rstd = norm(x, (0, 2, 3))
    shape = (1, 6, 1, 1)
    out = y * w.reshape(shape) + b.reshape(shape)
    new_mean = rm * 0.9 + mean.reshape(6) * 0.1
    plan = check(graph([x, w, b, rm, rv], [out, mean.reshape(6), rstd.reshape(6), new_mean], donated=[3], prefer={3: 3}),
                 [rand(4, 6, 3, 3), rand(6), rand(6), rand(6), rand(6)])
    assert steps(plan) == 1 and plan.outs[3].kind == "donated" and plan.arena == 0


def test_cross_entropy_is_two_kernels():
    x, onehot = source(0, (5, 7)), source(1, (5, 7))
    m = x.amax(-1, True)
    logp = x - m - (x - m).exp().sum(-1, True).log()
    loss = -(logp * onehot).sum(-1).mean()
    plan = check(graph([x, onehot], [loss]), [rand(5, 7), np.eye(7, dtype=np.float32)[[1, 2, 0, 6, 3]]])
    assert steps(plan) <= 2


def test_bias_gradient_joins_the_chain_that_makes_it():
    g, h = source(0, (16, 6)), source(1, (16, 6))
    dz = g * (1 - h * h)
    assert steps(check(graph([g, h], [dz, dz.sum(0)]), [rand(16, 6), rand(16, 6, seed=3)])) == 1


def test_adam_is_one_kernel_in_place():
    p, m, v, g = (source(i, (10, 4)) for i in range(4))
    lr, eps = Number(Scalar(0, float)), Number(Scalar(1, float))
    m1, v1 = m * 0.9 + g * 0.1, v * 0.99 + g * g * 0.01
    p1 = p - m1 / (v1.sqrt() + eps) * lr
    arrays = [rand(10, 4, seed=i) for i in range(4)]
    arrays[2] = np.abs(arrays[2])
    plan = check(graph([p, m, v, g], [p1, m1, v1], donated=[0, 1, 2], prefer={0: 0, 1: 1, 2: 2}), arrays, (0.1, 1e-8))
    assert steps(plan) == 1
    assert [(o.kind, o.source.index) for o in plan.outs] == [("donated", 0), ("donated", 1), ("donated", 2)]


def test_mlp_step():
    x, w1, b1, w2, t = source(0, (8, 5)), source(1, (5, 6)), source(2, (6,)), source(3, (6, 3)), source(4, (8, 3))
    h = (x @ w1 + b1).tanh()
    d = h @ w2 - t
    loss = (d * d).mean()
    dy = d * (2 / 24)
    dw2 = h.transpose(0, 1) @ dy
    dz = (dy @ w2.transpose(0, 1)) * (1 - h * h)
    outs = [loss, dw2, x.transpose(0, 1) @ dz, dz.sum(0)]
    plan = check(graph([x, w1, b1, w2, t], outs), [rand(8, 5), rand(5, 6), rand(6), rand(6, 3), rand(8, 3)])
    assert steps(plan) == 5 + 3, str(plan)


@pytest.mark.parametrize("permuted", [False, True])
def test_views_are_read_in_place(permuted):
    x = source(0, (6, 4))
    y = x.transpose(0, 1) if permuted else x[1:4, ::2]
    plan = check(graph([x], [y + 1]), [rand(6, 4)])
    assert steps(plan) == 1 and plan.arena == 0


def test_permuted_chain_is_computed_where_it_is_read():
    x, y = source(0, (6, 4)), source(1, (4, 6))
    assert steps(check(graph([x, y], [x.exp().transpose(0, 1) + y]), [rand(6, 4), rand(4, 6)])) == 1


def test_epilogues_take_bias_and_activation():
    x, w, b, r = source(0, (2, 5, 4)), source(1, (4, 6)), source(2, (6,)), source(3, (2, 5, 6))
    arrays = [rand(2, 5, 4), rand(4, 6), rand(6), rand(2, 5, 6)]
    y = gelu(x @ w + b) + r
    assert steps(check(graph([x, w, b, r], [y]), arrays, accepts=lambda nest: True)) == 1
    assert steps(check(graph([x, w, b, r], [y, y.sum()]), arrays, accepts=lambda nest: True)) == 2
    assert steps(check(graph([x, w, b, r], [y]), arrays, accepts=lambda nest: False)) == 2
    heads = (x @ w + b).reshape(2, 5, 2, 3).transpose(1, 2)           # one product, its result read through a permutation
    assert steps(check(graph([x, w, b], [heads * 2]), arrays[:3], accepts=lambda nest: True)) == 2      # columns would have to be cut in two


def test_a_product_is_written_where_it_is_wanted():
    q, v = source(0, (2, 3, 5, 5)), source(1, (2, 3, 5, 4))
    heads = (q @ v).transpose(1, 2).reshape(2, 5, 12)
    w, u = source(2, (12, 7)), source(3, (2, 5, 7))
    assert steps(check(graph([q, v, w], [heads @ w]), [rand(2, 3, 5, 5), rand(2, 3, 5, 4), rand(12, 7)])) == 2
    both = apply(TABLE["cat"], u, heads @ w, attr=2)
    assert steps(check(graph([q, v, w, u], [both]), [rand(2, 3, 5, 5), rand(2, 3, 5, 4), rand(12, 7), rand(2, 5, 7)])) == 3


def zeros_with(x, w, v): return apply(TABLE["put"], x.filled(x.shape, 0), v, attr=w)


def test_gradients_of_slices_meet_in_one_buffer():
    x, a, b, c = source(0, (4, 9)), source(1, (4, 3)), source(2, (4, 3)), source(3, (4, 3))
    arrays = [rand(4, 9), rand(4, 3), rand(4, 3, seed=1), np.where(rand(4, 3) > 0, np.float32(-0.0), rand(4, 3))]
    parts = [zeros_with(x, View((4, 3), (9, 1), 3 * i), v) for i, v in enumerate((a, b, c))]
    plan = check(graph([x, a, b, c], [parts[0] + parts[1] + parts[2]]), arrays)
    assert steps(plan) == 3 and plan.arena == 0                      # no zeros, no sums
    plan = check(graph([x, a, b, c], [parts[0] + parts[2]]), arrays)
    assert steps(plan) == 3                                           # zeros, then two windows
    over = zeros_with(x, View((4, 3), (9, 1), 2), a) + parts[1]
    check(graph([x, a, b, c], [over, over.transpose(0, 1) + 1]), arrays)
    stepped = zeros_with(x, View((4, 3), (9, 2), 0), a) + zeros_with(x, View((4, 3), (9, 2), 1), b)      # interleaved: their boxes overlap
    check(graph([x, a, b, c], [stepped]), arrays)


def test_a_reduction_is_not_cut_into_short_runs():
    """What upsampling leaves has runs of 2; a sum over rows of 64 reads it from memory instead of going along with that."""
    x, y, z = source(0, (4, 4, 32, 1, 32, 1)), source(1, (4, 4, 32, 2, 32, 2)), source(2, (4, 4, 64, 64))
    total = ((x.exp() * y).reshape(4, 4, 64, 64) * z).sum((0, 2, 3))
    plan = check(graph([x, y, z], [total]), [rand(*v.shape) for v in (x, y, z)], tolerance=1e-4)
    assert 2 not in plan.steps[-1].kernel.window, plan
