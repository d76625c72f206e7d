"""Winograd convolutions against float64 sums of every product: sizes that don't fill tiles, images of two pixels, all three directions; and when they are chosen."""
import itertools
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from forno.core import dtype as dt
from forno.core.flags import flags
from forno.core.kernels import Conv, Operand
from forno.kernel import conv, winograd

from .harness import run

FENCE = 4096                                    # elements


def noun(which, n, c, k, size, padding=(1, 1), taps=3, stride=1, bias=False, t=dt.float32, **changed):
    out = tuple((s + 2 * p - taps) // stride + 1 for s, p in zip(size, padding))
    values = dict(groups=1, dilation=(1, 1, 1)) | changed
    operands = [Operand(t, mode) for mode in ("r", "r", "w", *["r"] * bias)]
    return Conv(which, n, c, k, size=(1, *size), out=(1, *out), taps=(1, taps, taps), stride=(1, stride, stride), padding=(0, *padding), dtype=t, bias=bias,
                operands=tuple(operands), **values)


def results(build, n, c, k, size, padding=(1, 1), taps=3, stride=1, threads=1):
    """(kernel's result, float64's, which) of the three directions."""
    g = torch.Generator().manual_seed(1)
    out = noun("forward", n, c, k, size, padding, taps, stride).out[1:]
    x, w, dy, b = (torch.randn(s, generator=g) for s in ((n, c, *size), (k, c, taps, taps), (n, k, *out), (k,)))
    wide = [v.double() for v in (x, w, dy, b)]
    back = torch.ops.aten.convolution_backward(wide[2], wide[0], wide[1], [0], [stride] * 2, padding, [1, 1], False, [0, 0], 1, [True, True, False])
    y = torch.nn.functional.conv2d(wide[0], wide[1], wide[3], stride, padding)
    for which, ins, more, want in [("forward", [x, w], [b], y), ("input", [dy, w], [], back[0]), ("weight", [dy, x], [], back[1])]:
        whole = torch.full((want.numel() + 2 * FENCE,), 77.0)
        got = whole[FENCE:-FENCE].view(want.shape).fill_(float("nan"))
        run(build(noun(which, n, c, k, size, padding, taps, stride, bool(more))), [v.numpy() for v in (*ins, got, *more)], threads)
        assert (whole[:FENCE] == 77).all() and (whole[-FENCE:] == 77).all(), which
        yield got, want, which


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("case", [
    (2, 16, 32, (8, 8)), (3, 20, 17, (2, 2)), (2, 16, 16, (4, 4)), (3, 17, 33, (9, 7), (0, 0)), (2, 16, 16, (2, 9)), (2, 12, 40, (13, 2)), (1, 40, 70, (14, 14)),
    (2, 16, 16, (5, 6), (2, 1)), (1, 3, 5, (11, 3), (0, 2)), (40, 33, 50, (3, 3)), (2, 1, 1, (1, 1)), (1, 64, 35, (30, 21)),
    (2, 16, 20, (16, 16), (1, 1), 4, 2), (2, 32, 33, (8, 20), (1, 1), 4, 2), (3, 16, 5, (9, 7), (1, 1), 3, 2), (1, 48, 16, (12, 10), (0, 0), 3, 2), (2, 16, 40, (10, 14), (2, 2), 4, 2),
    (2, 16, 17, (11, 6), (2, 2), 3, 2), (1, 16, 16, (8, 6), (3, 3), 4, 2), (2, 16, 16, (30, 34), (1, 1), 4, 2), (1, 16, 16, (14, 30), (0, 0), 4, 2), (3, 16, 16, (2, 2), (1, 1), 4, 2),
], ids=str)
def test_directions(case, threads):
    for got, want, which in results(winograd.build, *case, threads=threads):
        assert (got.double() - want).abs().max() <= 4e-6 * want.abs().max(), which


def test_same_bits_for_any_number_of_threads():
    for case in [(6, 20, 40, (8, 8)), (2, 70, 70, (2, 2)), (4, 16, 40, (16, 16), (1, 1), 4, 2), (1, 70, 70, (28, 28))]:
        one, three = (list(results(winograd.build, *case, threads=threads)) for threads in (1, 3))
        assert all(torch.equal(a[0], b[0]) for a, b in zip(one, three))


@pytest.mark.parametrize("threads", [1, 2])
def test_every_choice_gives_the_same_bits(threads):
    """Blocks of other sizes (Winograd's), other numbers of pixels at once (direct products)."""
    def chosen(name):
        def build(c):
            launch = conv.build(c)
            if launch.choices is None or name not in launch.choices.names(): return launch
            words, scratch, shared = launch.choices.make(name)
            assert len(words) == len(launch.words) and words != launch.words
            tried.add((name, c.which))
            return replace(launch, words=words, scratch=scratch, shared=shared)
        return build
    tried = set()
    for case in [(2, 32, 64, (56, 56)), (32, 64, 64, (8, 8)), (16, 32, 64, (32, 32), (1, 1), 4, 2), (2, 600, 300, (14, 14), (0, 0), 1), (2, 8, 70, (20, 20), (1, 1), 3)]:
        usual = [got for got, _, _ in results(conv.build, *case, threads=threads)]
        for name in (*winograd.CHANGES, *conv.CHANGES):
            assert all(torch.equal(a, b) for a, (b, _, _) in zip(usual, results(chosen(name), *case, threads=threads))), (case, name)
    assert tried >= {(name, which) for name in ("larger blocks", "smaller blocks", "more pixels") for which in ("forward", "input")}
    assert not any(which == "weight" for _, which in tried)


def test_errors_are_bounded():
    """Normal numbers, 64 channels: what docs/differences.md says of errors relative to the largest result."""
    for got, want, which in results(winograd.build, 4, 64, 64, (24, 24)):
        error = ((got.double() - want).abs().max() / want.abs().max()).item()
        direct = [((g.double() - v).abs().max() / v.abs().max()).item() for g, v, w in results(_directly, 4, 64, 64, (24, 24)) if w == which]
        assert error < 3e-6 and direct[0] < 1e-6, (which, error, direct)


def _directly(c):
    flags.WINOGRAD = 0
    try: return conv.build(c)
    finally: flags.WINOGRAD = 1


@pytest.mark.parametrize("rule", [winograd.FOUR, winograd.HALF, winograd.TWO])
def test_rules_are_exact(rule):
    """In exact arithmetic the three matrices make the sum over the taps."""
    image, weight, result = ([[Fraction(x).limit_denominator(1 << 20) for x in row] for row in m] for m in rule)
    shift = 1 if rule is winograd.TWO else 0                               # its first input is under the second tap
    for o, tap, i in itertools.product(range(rule.outputs), range(len(rule.weight[0])), range(rule.inputs)):
        got = sum(result[o][x] * weight[x][tap] * image[x][i] for x in range(rule.points))
        assert abs(got - (i == o + tap - shift)) < Fraction(1, 10 ** 5), (o, tap, i)


def test_when_it_is_chosen():
    assert winograd.pays(noun("forward", 32, 64, 64, (8, 8)))
    assert winograd.pays(noun("weight", 32, 256, 256, (2, 2)))
    assert all(winograd.pays(noun(which, 16, 64, 128, (16, 16), taps=4, stride=2)) for which in ("forward", "input", "weight"))
    for other in [noun("forward", 32, 3, 64, (8, 8)), noun("forward", 1, 512, 512, (3, 3)), noun("forward", 32, 64, 64, (8, 8), groups=2), noun("forward", 2, 64, 64, (8, 8), t=dt.float64),
                  noun("forward", 32, 64, 64, (8, 8), dilation=(1, 1, 2)), noun("forward", 32, 64, 64, (8, 8), taps=5), noun("forward", 32, 64, 64, (9, 9), stride=3), noun("forward", 0, 64, 64, (8, 8))]:
        assert not winograd.pays(other), other
    flags.WINOGRAD = 0
    try: assert not winograd.pays(noun("forward", 32, 64, 64, (8, 8)))
    finally: flags.WINOGRAD = 1


def test_numbers_that_are_not_finite_stay_near():
    """An infinite pixel reaches its own tile's pixels only (as NaN, where a sum of every product may have infinities)."""
    x, w = np.zeros((1, 16, 16, 16), np.float32), np.ones((16, 16, 3, 3), np.float32)
    x[0, 0, 6, 6] = np.inf
    y = np.zeros((1, 16, 16, 16), np.float32)
    run(winograd.build(noun("forward", 1, 16, 16, (16, 16))), [x, w, y])
    assert not np.isfinite(y[0, :, 5:8, 5:8]).any() and np.isfinite(y[0, :, 12:]).all() and np.isfinite(y[0, :, :, 12:]).all()
