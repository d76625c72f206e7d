"""What the planner makes of convolutions: fewer taps, pixels so far apart, plain matrix products; compared with the rows' own oracles."""
from __future__ import annotations

import numpy as np
import pytest

from forno.core import kernels as k
from forno.core.op import TABLE
from forno.dnn.contract import ConvSpec
from forno.plan.values import apply

from .interpret import check, graph, source


def rand(*shape): return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def three(x, w, spec):
    """Forward product, input gradient and weight gradient of one convolution, as one graph, with its inputs' values."""
    a, b = source(0, x), source(1, w)
    y = apply(TABLE["conv"], a, b, attr=spec)
    g = source(2, y.shape)
    dx = apply(TABLE["conv_input"], g, b, attr=spec._replace(size=x[2:]))
    dw = apply(TABLE["conv_weight"], g, a, attr=spec._replace(taps=w[2:]))
    return graph([a, b, g], [y, dx, dw]), [rand(*x), rand(*w), rand(*y.shape)]


def kernels(plan, kind): return [s.kernel for s in plan.steps if s.kernel.__class__ is kind]


@pytest.mark.parametrize("stride", (1, 2))
def test_where_one_tap_meets_the_image_it_is_a_matrix_product(stride):
    """3 × 3 on single pixels: eight taps only meet padding."""
    plan = check(*three((4, 5, 1, 1), (6, 5, 3, 3), ConvSpec((stride, stride), (1, 1), (1, 1))))
    assert not kernels(plan, k.Conv) and len(kernels(plan, k.Gemm)) == 3
    copies = [s for s in plan.steps if s.kernel.__class__ is k.Nest and s.kernel.label == "copy"]
    assert len(copies) == 1, "the kernel's one tap is copied once, for both products"


@pytest.mark.parametrize("spec", (ConvSpec((1, 1), (0, 0), (1, 1)), ConvSpec((2, 3), (0, 0), (1, 1))))
def test_taps_as_large_as_the_image_are_a_matrix_product(spec):
    """A discriminator's last layer, a generator's first: one pixel on one side."""
    plan = check(*three((4, 5, 4, 3), (6, 5, 4, 3), spec))
    assert not kernels(plan, k.Conv) and len(kernels(plan, k.Gemm)) == len(plan.steps) == 3
    dilated = check(*three((4, 5, 3, 3), (6, 5, 2, 2), ConvSpec((1, 1), (0, 0), (2, 2))))
    assert len(kernels(dilated, k.Conv)) == 3


@pytest.mark.parametrize("t", (3, 4))
def test_taps_that_meet_a_single_result_are_a_matrix_product(t):
    """t × t taps with a stride of 2 on images of 2 × 2: the rest only meets padding. The kernel's window is copied once, channels side by side."""
    plan = check(*three((4, 5, 2, 2), (6, 5, t, t), ConvSpec((2, 2), (1, 1), (1, 1))))
    assert not kernels(plan, k.Conv) and len(kernels(plan, k.Gemm)) == 3
    assert [n.axes for n in kernels(plan, k.Nest) if n.label == "copy" and n.axes[0] == 6] == [(6, 2, 2, 5)]
    shifted = check(*three((4, 5, 2, 2), (6, 5, 4, 4), ConvSpec((4, 4), (2, 2), (1, 1))))
    assert not kernels(shifted, k.Conv)


def test_single_pixels_in_groups_stay_convolutions():
    plan = check(*three((4, 4, 1, 1), (6, 2, 3, 3), ConvSpec((1, 1), (1, 1), (1, 1), 2)))
    assert {c.taps for c in kernels(plan, k.Conv)} == {(1, 1, 1)}


def test_one_tap_with_a_stride_reads_pixels_apart():
    plan = check(*three((2, 5, 9, 6), (7, 5, 1, 1), ConvSpec((2, 3), (0, 0), (1, 1))))
    strides = {c.which: c.stride for c in kernels(plan, k.Conv)}
    assert strides == {"forward": (1, 1, 1), "weight": (1, 1, 1), "input": (1, 2, 3)}


@pytest.mark.parametrize("x, w", (((2, 3, 28, 25), (64, 3, 4, 4)), ((1, 5, 14, 12), (70, 5, 2, 2)), ((3, 2, 70), (65, 2, 2)), ((2, 2, 6, 8, 6), (64, 2, 2, 2, 1))))
def test_taps_that_tile_the_image_multiply_its_patches(x, w):
    """Forward product and weight gradient share one copy; what is left of an image over is never read. Few channels stay a convolution."""
    tight = ConvSpec(w[2:], (0,) * len(w[2:]), (1,) * len(w[2:]))
    plan = check(*three(x, w, tight))
    assert [c.which for c in kernels(plan, k.Conv)] == ["input"] and len(kernels(plan, k.Gemm)) == 2
    assert len([n for n in kernels(plan, k.Nest) if n.label == "copy"]) == 1
    assert len(kernels(check(*three(x, (12, *w[1:]), tight)), k.Conv)) == 3


@pytest.mark.parametrize("spec, x, w", (
    (ConvSpec((2, 2), (1, 1), (1, 1)), (3, 4, 2, 2), (5, 4, 3, 3)),           # some taps meet nothing, several something
    (ConvSpec((1, 1), (2, 2), (2, 2)), (3, 4, 2, 1), (5, 4, 3, 3)),
    (ConvSpec((3, 1), (0, 1), (1, 1)), (3, 4, 1, 7), (5, 4, 1, 3)),
    (ConvSpec((1, 1), (1, 1), (1, 1)), (3, 4, 1, 1), (5, 4, 1, 1)),           # padding around a single tap: results without a product
    (ConvSpec((1,), (3,), (1,)), (3, 4, 2), (5, 4, 3)),
    (ConvSpec((1, 1), (1, 1), (1, 1)), (1, 1, 1, 1), (1, 1, 3, 3))))
def test_taps_and_padding(spec, x, w): check(*three(x, w, spec))


def test_bias_of_single_pixels():
    a, b, c = source(0, (4, 5, 1, 1)), source(1, (6, 5, 3, 3)), source(2, (6,))
    plan = check(graph([a, b, c], [apply(TABLE["conv"], a, b, c, attr=ConvSpec((1, 1), (1, 1), (1, 1)))]), [rand(4, 5, 1, 1), rand(6, 5, 3, 3), rand(6)])
    assert not kernels(plan, k.Conv)


@pytest.mark.parametrize("biased", (False, True))
def test_batch_norm_residual_and_relu_run_on_its_tiles(biased):
    x, w, b, mean, scale, r = (source(i, s) for i, s in enumerate(((2, 3, 6, 5), (4, 3, 3, 3), (4,), (4,), (4,), (2, 4, 6, 5))))
    y = apply(TABLE["conv"], x, w, *([b] if biased else []), attr=ConvSpec((1, 1), (1, 1), (1, 1)))

    def channel(v): return v.reshape(1, 4, 1, 1)
    out = ((y - channel(mean)) * channel(scale) + r).relu()
    inputs = [x, w, b, mean, scale, r]
    arrays = [rand(*v.shape) for v in inputs]
    plan = check(graph(inputs, [out]), arrays, accepts=lambda kernel: True)
    assert [s.kernel.epilogue is not None for s in plan.steps] == [True], plan
    assert len(check(graph(inputs, [out]), arrays, accepts=lambda kernel: False).steps) == 2
    assert len(check(graph(inputs, [out, y]), arrays, accepts=lambda kernel: True).steps) == 2, "the product itself is wanted, too"
    check(graph(inputs, [out, out.sum((0, 2, 3))]), arrays, accepts=lambda kernel: True, tolerance=1e-4)


def test_bias_of_patches():
    a, b, c = source(0, (2, 3, 12, 24)), source(1, (64, 3, 2, 4)), source(2, (64,))
    plan = check(graph([a, b, c], [apply(TABLE["conv"], a, b, c, attr=ConvSpec((2, 4), (0, 0), (1, 1)))]), [rand(2, 3, 12, 24), rand(64, 3, 2, 4), rand(64)])
    assert not kernels(plan, k.Conv)


@pytest.mark.parametrize(("size", "dilation", "padding"), [((8, 12), (2, 3), (2, 3)), ((16, 8), (4, 1), (4, 1))], ids=str)
def test_taps_apart_are_neighbours_in_images_of_every_so_many_pixels(size, dilation, padding):
    """Pixels a dilation apart meet only each other: they become images of their own, for all three products, if there are many channels."""
    g, values = three((2, 96, *size), (97, 96, 3, 3), ConvSpec((1, 1), padding, dilation))
    convs = kernels(check(g, [x * 0.05 for x in values]), k.Conv)
    assert len(convs) == 3
    for c in convs: assert c.dilation == (1, 1, 1) and c.n == 2 * dilation[0] * dilation[1] and c.size == (1, size[0] // dilation[0], size[1] // dilation[1])


def test_taps_apart_stay_so_where_images_do_not_come_out_even_or_channels_are_few():
    for x, channels, padding in (((1, 96, 9, 8), 96, 2), ((1, 96, 8, 8), 40, 2), ((1, 96, 10, 10), 96, 1)):
        g, values = three(x, (channels, 96, 3, 3), ConvSpec((1, 1), (padding, padding), (2, 2)))
        assert all(c.dilation == (1, 2, 2) for c in kernels(check(g, [x * 0.05 for x in values]), k.Conv))
