"""Convolutions and their gradients against torch: 1-D to 3-D, strides, padding, dilation, groups, small and large images."""
import numpy as np
import pytest
import torch

from forno.core import dtype as dt
from forno.core.kernels import Conv, Operand
from forno.kernel import conv, grouped

from .harness import run

TORCH = {dt.float32: torch.float32, dt.float64: torch.float64, dt.float16: torch.float16, dt.bfloat16: torch.bfloat16}


FENCE = 4096                                    # elements


def three(x, fill): return (fill,) * (3 - len(x)) + tuple(x)


def array(x):
    """A tensor's memory as NumPy sees it (bfloat16 as 16 bits)."""
    x = x.contiguous()
    return (x.view(torch.int16) if x.dtype in (torch.bfloat16, torch.float16) else x).numpy()


def check(n, c, k, size, taps, stride=None, padding=None, dilation=None, groups=1, t=dt.float32, bias=True, threads=1, seed=0):
    d = len(size)
    stride, padding, dilation = stride or (1,) * d, padding or (0,) * d, dilation or (1,) * d
    out = tuple((s + 2 * p - a * (r - 1) - 1) // st + 1 for s, p, a, r, st in zip(size, padding, dilation, taps, stride))
    if min(out) < 1: return
    g = torch.Generator().manual_seed(seed)
    make = lambda *shape: torch.randn(shape, generator=g, dtype=torch.float64).to(TORCH[t])
    x, w, dy, b = make(n, c, *size), make(k, c // groups, *taps), make(n, k, *out), make(k)
    wide = [v.double() for v in (x, w, dy, b)]
    y = torch.nn.functional.conv1d if d == 1 else torch.nn.functional.conv2d if d == 2 else torch.nn.functional.conv3d
    want_y = y(wide[0], wide[1], wide[3] if bias else None, stride, padding, dilation, groups)
    if c == 0: want_y = wide[3].view(1, k, *(1,) * d).expand(n, k, *out)          # torch 2.13 forgets k here
    want = torch.ops.aten.convolution_backward(wide[2], wide[0], wide[1], [0], stride, padding, dilation, False, [0] * d, groups, [True, True, False])
    common = (n, c, k, groups, three(size, 1), three(out, 1), three(taps, 1), three(stride, 1), three(padding, 0), three(dilation, 1), t)
    unit = {dt.float32: 2e-6, dt.float64: 1e-14, dt.float16: 2e-3, dt.bfloat16: 1e-2}[t]
    cases = [("forward", [x, w], [b] if bias else [], want_y), ("input", [dy, w], [], want[0]), ("weight", [dy, x], [], want[1])]
    for which, ins, more, wanted in cases:
        whole = torch.full((wanted.numel() + 2 * FENCE,), 77.0, dtype=TORCH[t])
        got = whole[FENCE:-FENCE].view(wanted.shape)               # with a fence on both sides
        operands = [Operand(t, "r"), Operand(t, "r"), Operand(t, "w")] + [Operand(t, "r")] * len(more)
        launch = conv.build(Conv(which, *common, bool(more), tuple(operands)))
        got.fill_(float("nan"))
        view = array(got)
        run(launch, [*map(array, ins), view, *map(array, more)], threads)
        assert (whole[:FENCE] == 77).all() and (whole[-FENCE:] == 77).all(), which
        error = (got.double() - wanted).abs().max().item() if got.numel() else 0.0
        scale = max(wanted.abs().max().item(), 1.0) if got.numel() else 1.0
        assert error <= unit * scale * 4, (which, error, scale)


@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("case", [
    (2, 3, 5, (8, 8), (3, 3)), (1, 1, 1, (1, 1), (1, 1)), (3, 4, 6, (7, 5), (3, 3), (1, 1), (1, 1)), (2, 3, 20, (12, 12), (5, 5), (2, 2), (2, 2)),
    (2, 8, 4, (9, 11), (3, 2), (2, 3), (1, 0), (2, 1)), (4, 6, 6, (6, 6), (3, 3), (1, 1), (1, 1), (1, 1), 3),
    (2, 16, 16, (10, 10), (3, 3), (1, 1), (1, 1), (1, 1), 16),
    (3, 4, 8, (5, 5), (1, 1)), (3, 4, 8, (6, 6), (1, 1), (2, 2)), (2, 3, 64, (32, 32), (7, 7), (2, 2), (3, 3)),
    (5, 33, 17, (4, 4), (3, 3), (1, 1), (1, 1)),
    (70, 3, 9, (3, 3), (2, 2)), (40, 2, 2, (2, 1), (2, 1)), (2, 40, 70, (14, 14), (3, 3), (1, 1), (1, 1)),
    (2, 2, 3, (20, 20), (3, 3), (1, 1), (4, 4)),
    (2, 20, 17, (1, 1), (3, 3), (1, 1), (1, 1)), (3, 18, 5, (2, 2), (5, 5), (2, 2), (2, 2)), (2, 5, 16, (2, 3), (7, 7), (2, 2), (4, 3)),
    (1, 3, 2, (30, 30), (3, 3), (3, 3), (1, 1), (5, 5)), (2, 4, 6, (9, 9), (2, 2), (4, 4)), (2, 600, 15, (4, 4), (3, 3), (1, 1), (1, 1)),
    (1, 130, 64, (7, 7), (1, 1)), (1, 70, 33, (7, 7), (3, 3), (2, 2), (1, 1)), (2, 600, 96, (3, 3), (1, 1)), (1, 40, 32, (14, 14), (5, 5), (1, 1), (2, 2)),   # turned
], ids=str)
def test_images(case, threads): check(*case, threads=threads)


@pytest.mark.parametrize("case", [
    (3, 4, 6, (40,), (5,)), (3, 4, 6, (41,), (5,), (2,), (2,)), (2, 4, 6, (41,), (3,), (3,), (2,), (4,), 2), (1, 2, 2, (100,), (64,)),
    (2, 3, 4, (5, 6, 7), (3, 3, 3), (1, 1, 1), (1, 1, 1)), (2, 4, 4, (6, 5, 8), (2, 3, 3), (2, 1, 2), (1, 0, 1), (1, 2, 1), 2),
], ids=str)
def test_lines_and_volumes(case): check(*case, threads=2)


@pytest.mark.parametrize("t", TORCH, ids=str)
def test_types(t):
    for case in [(2, 3, 5, (9, 9), (3, 3), (1, 1), (1, 1)), (2, 4, 6, (11, 7), (3, 3), (2, 2), (1, 1), (1, 1), 2), (3, 5, 40, (3, 3), (2, 2))]:
        for threads in (1, 2): check(*case, t=t, threads=threads)


DEPTHWISE = [
    (3, 5, 5, (7, 7), (3, 3), (1, 1), (1, 1)), (2, 6, 6, (14, 17), (3, 3), (2, 2), (1, 1)), (2, 3, 3, (40, 70), (7, 7), (1, 1), (3, 3)), (11, 4, 4, (9, 5), (5, 5), (2, 2), (2, 2)),
    (2, 3, 3, (20, 23), (3, 2), (3, 3), (1, 0)), (2, 2, 2, (33, 36), (3, 3), (1, 1), (2, 2), (2, 2)), (1, 2, 2, (30, 31), (4, 4), (2, 2), (1, 1), (3, 3)), (1, 3, 3, (2, 2), (5, 5), (1, 1), (2, 2)),
    (1, 2, 2, (150, 130), (3, 3), (2, 2), (1, 1)), (1, 1, 1, (90, 200), (5, 9), (1, 1), (2, 4)), (2, 3, 3, (50,), (3,), (2,), (1,)), (2, 3, 3, (4, 5, 6), (3, 3, 3), (1, 1, 1), (1, 1, 1)),
]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("case", DEPTHWISE, ids=str)
def test_depthwise(case, threads):
    """One channel per group: planes in one piece and in bands, strides 1 to 3, more padding than an input gradient's stage has."""
    dilation = case[7] if len(case) > 7 else None
    check(*case[:7], dilation, case[1], threads=threads)
    check(*case[:6], tuple(p + 3 for p in case[6]), dilation, case[1], threads=threads, bias=False)


@pytest.mark.parametrize("t", TORCH, ids=str)
def test_depthwise_types(t):
    for case in DEPTHWISE[:5]: check(*case[:7], None, case[1], t=t)


GROUPED = [
    (2, 16, 16, (14, 15), (3, 3), (1, 1), (1, 1), (1, 1), 4), (5, 24, 40, (9, 16), (3, 3), (1, 1), (1, 1), (1, 1), 4), (2, 12, 20, (33, 31), (3, 3), (2, 2), (1, 1), (1, 1), 4),
    (3, 8, 12, (20, 16), (5, 5), (3, 3), (2, 2), (1, 1), 4), (1, 64, 64, (70, 64), (3, 3), (1, 1), (1, 1), (2, 2), 4), (2, 128, 36, (40, 32), (3, 3), (1, 1), (1, 1), (1, 1), 4),
    (4, 12, 3, (32, 32), (4, 4), (2, 2), (1, 1)), (4, 3, 7, (18, 16), (3, 3), (1, 1), (2, 2)), (9, 5, 16, (12, 16), (2, 3), (1, 1), (0, 1)), (2, 16, 16, (100, 130), (1, 1), (2, 2), (0, 0), (1, 1), 4),
    (4, 8, 8, (16, 16), (2, 2), (3, 3), (0, 0), (1, 1), 2), (3, 96, 32, (16, 48), (7, 7), (2, 2), (3, 3), (1, 1), 4),
    (2, 3, 40, (30, 33), (7, 7), (2, 2), (3, 3)), (1, 3, 64, (230, 226), (7, 7), (2, 2), (3, 3)), (1, 4, 35, (63, 67), (11, 11), (4, 4), (2, 2)),            # many rows of few planes
    (2, 8, 9, (12, 13), (3, 3), (1, 1), (4, 4)), (2, 3, 33, (20, 15), (3, 3), (1, 1), (0, 0)),
]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("case", GROUPED, ids=str)
def test_grouped(case, threads):
    """Few channels per group, or few that are left: planes in one piece and in bands, strides 1 to 3, residues without taps."""
    check(*case, threads=threads)
    check(*case, threads=threads, bias=False)


def test_grouped_is_taken():
    """The cases above meet the kernel they are for, each of them in at least one direction."""
    for n, c, k, size, taps, stride, padding, *more in GROUPED:
        dilation, groups = more or ((1, 1), 1)
        out = tuple((s + 2 * p - a * (r - 1) - 1) // st + 1 for s, p, a, r, st in zip(size, padding, dilation, taps, stride))
        shape = (n, c, k, groups, three(size, 1), three(out, 1), three(taps, 1), three(stride, 1), three(padding, 0), three(dilation, 1), dt.float32, False, ())
        assert any(grouped.pays(Conv(which, *shape)) for which in ("forward", "input", "weight")), (n, c, k, size)


@pytest.mark.parametrize("t", TORCH, ids=str)
def test_grouped_types(t):
    for case in GROUPED[:3]: check(*case, t=t, threads=2)


def test_no_images():
    check(0, 3, 4, (5, 5), (3, 3))
    check(0, 3, 4, (5, 5), (3, 3), threads=2)


def test_no_channels():
    for threads in (1, 2):
        check(2, 0, 4, (5, 5), (3, 3), threads=threads)


def test_random():
    rng = np.random.default_rng(3)
    for i in range(60):
        d = int(rng.integers(1, 4))
        groups = int(rng.choice([1, 1, 2, 3]))
        pick = lambda lo, hi: tuple(int(v) for v in rng.integers(lo, hi, d))
        check(int(rng.integers(1, 6)), groups * int(rng.integers(1, 8)), groups * int(rng.integers(1, 9)), pick(1, 14 if d < 3 else 7),
              pick(1, 5), pick(1, 4), pick(0, 4), pick(1, 4), groups, bias=bool(i % 2), threads=1 + i % 3, seed=i)


def test_integers_are_refused():
    with pytest.raises(NotImplementedError, match="convolution"): conv.build(Conv("forward", 1, 1, 1, 1, *((1, 1, 1),) * 6, dt.int32, False, ()))
