"""Products of GPUs, as PTX run on the processor, against NumPy and torch: matrices in every layout, convolutions in every direction, tensor cores, few rows,
long sums, epilogues."""
import functools
import re
from dataclasses import replace

import numpy as np
import pytest
import torch as oracle

import forno as torch
from forno.core import dtype as dt
from forno.core.flags import flags
from forno.core.kernels import Apply, Conv, Gemm, Load, Matrix, Nest, Operand, Store
from forno.cpu import nvptx
from forno.dnn.activation import relu as RELU
from forno.dnn.elementwise import add as ADD
from forno.framework.engine import flush
from forno.gpu.chips import CHIPS
from forno.gpu.ptx import Fault, Memory, Module
from forno.kernel.nvptx import build, conv, gathered, gemm, mma, product, skinny
from forno.kernel.nvptx.product import SumKernel, program, tiled

from . import ptx_tools as tools
from .ptx_tools import from_bf16, to_bf16

TARGETS = {"sm_75": 63, "sm_80": 70, "sm_90": 78, "sm_100": 86, "sm_120": 87}
OLDER = {"sm_50": 63, "sm_60": 63, "sm_70": 63}            # an assembler of CUDA 13 doesn't know them
KERNELS = {"tile": "sm_75", "tensor": "sm_90"}


def isa(target: str): return nvptx.isa_of(target, (OLDER | TARGETS)[target])


@functools.cache
def module(ptx: str): return Module(ptx)


def run(launch, arrays, seed=0, change=lambda text: text):
    """The arrays of a launch's operands, after it and what follows it."""
    memory = Memory()
    places = [memory.put(a) for a in arrays]
    scratch = memory.put(np.full(launch.scratch, 0xFF, np.uint8)) if launch.scratch else 0
    for one in (launch, *launch.then):
        words = list(one.words)
        for k, what in one.late:
            assert what == "scratch"
            words[k] = scratch
        entry = module(change(one.ptx)).entries[one.name]
        entry.program(True).run(grid=one.grid, block=one.block, shared=one.shared, params=tools.words(*places, *words), memory=memory, seed=seed)
    return [memory.read(p, a.shape, a.dtype) for p, a in zip(places, arrays)]


# ---------------------------------------------------------------- matrices
def stored(x, t):
    """Numbers as a type keeps them in memory."""
    return to_bf16(x) if t is dt.bfloat16 else x.astype(t.code)


def read(x, t): return from_bf16(x) if t is dt.bfloat16 else x


def drawn(rng, t, *shape):
    if t.category == dt.INT: return rng.integers(-9, 9, shape)
    return rng.standard_normal(shape) + (1j * rng.standard_normal(shape) if t.category == dt.COMPLEX else 0)


def laid(x, order: str):
    """(batch, i, j) in memory with j fastest ("n"), i fastest ("t"), or with gaps ("g"); its Matrix's strides (batch, i, j) and what is behind them."""
    b, i, j = x.shape
    if order == "t": return np.ascontiguousarray(x.transpose(0, 2, 1)), (i * j, 1, i)
    if order == "n": return np.ascontiguousarray(x), (i * j, j, 1)
    wide = np.zeros((b, i, 2 * j + 1), x.dtype)
    wide[:, :, ::2][:, :, :j] = x
    return wide, (i * (2 * j + 1), 2 * j + 1, 2)


def case(m, n, k, t=dt.float32, orders="nnn", batch=(), seed=0, rounding=False, offset=0):
    """A Gemm, its arrays, where its result lies in the last of them, and what it should be."""
    rng, count = np.random.default_rng(seed), int(np.prod(batch))
    a, b = stored(drawn(rng, t, count, m, k), t), stored(drawn(rng, t, count, k, n), t)
    want = np.einsum("bik,bkj->bij", *(read(x, t).astype(np.complex128 if t.category == dt.COMPLEX else np.float64) for x in (a, b)))
    c = np.zeros((count, m, n), a.dtype)
    arrays, matrices = [], []
    for x, order in zip((a, b, c), orders):
        memory, (by_batch, *strides) = laid(x, order)
        steps = [by_batch * int(np.prod(batch[d + 1:])) for d in range(len(batch))]
        arrays.append(np.concatenate([np.zeros(offset, x.dtype), memory.reshape(-1)]))
        matrices.append(Matrix(t, tuple(steps), *strides, offset))
    g = Gemm(tuple(batch), m, n, k, *matrices, (Operand(t, "r"), Operand(t, "r"), Operand(t, "w")), None, "matmul", rounding)

    def result(array):
        memory, strides = laid(c, orders[2])
        return read(np.lib.stride_tricks.as_strided(array[offset:], c.shape, [s * c.itemsize for s in strides]), t)
    return g, arrays, result, want


def right(g, arrays, result, want, target="sm_75", launch=None, tolerance=None, **more) -> bool:
    got = result(run(build.build(g, isa(target)) if launch is None else launch, arrays, **more)[2])
    t = g.a.dtype
    unit = tolerance or {dt.float16: 2e-3, dt.bfloat16: 1e-2, dt.float64: 1e-13, dt.complex128: 1e-13}.get(t, 2e-6)
    if t.category == dt.INT: return np.array_equal(got, want.astype(np.int64).astype(t.code))
    return bool(np.abs(got - want).max() <= unit * max(1, np.abs(want).max())) if want.size else True


SHAPES = [(20, 30, 40), (65, 67, 33), (130, 70, 19), (64, 64, 64), (9, 9, 100)]
TYPES = [dt.float32, dt.float64, dt.float16, dt.bfloat16, dt.complex64, dt.complex128, dt.int32, dt.int64, dt.uint8]


@pytest.mark.parametrize("t", TYPES, ids=str)
def test_types(t):
    for shape in SHAPES[:3]: assert right(*case(*shape, t)), shape


@pytest.mark.parametrize("orders", ["nnn", "tnn", "ntt", "ttn", "gnn", "ngt", "nng"])
def test_layouts(orders):
    for seed, shape in enumerate(SHAPES):
        assert right(*case(*shape, orders=orders, seed=seed), seed=seed), shape
    assert right(*case(33, 20, 17, orders=orders, batch=(2, 3), offset=5))


def test_nothing_to_do():
    for m, n, k in [(0, 5, 7), (20, 0, 7), (20, 30, 0)]:
        for target in KERNELS.values(): assert right(*case(m, n, k, dt.bfloat16), target)
    assert right(*case(20, 30, 40, batch=(0,)))


def test_large_squares():
    """Eight results per side of a thread's square."""
    for shape, orders in [((130, 140, 50), "ntn"), ((128, 256, 32), "tnt")]:
        g, arrays, result, want = case(*shape, orders=orders)
        p = gemm.product_of(g)
        launch = tiled(gemm.TileKernel, p, isa("sm_75"), 128, 128, gemm.THREADS, gemm.depth_of(p), 8)
        assert right(g, arrays, result, want, launch=launch)


@pytest.mark.parametrize("target", KERNELS.values())
def test_long_sums(target):
    """Parts of them in blocks of their own: the same bits in every run."""
    for t in (dt.float32, dt.bfloat16):
        g, arrays, result, want = case(20, 30, 1500, t, "ntn", (2,))
        launch = build.build(g, isa(target))
        assert launch.then and launch.scratch
        assert right(g, arrays, result, want, launch=launch)
        first, second = (run(launch, arrays, seed=s)[2] for s in (1, 2))
        assert np.array_equal(first, second)


# ---------------------------------------------------------------- tensor cores
def tensor(g, tile=64, target="sm_90"):
    p = gemm.product_of(g)
    assert mma.accepts(p, isa(target))
    return tiled(mma.TensorKernel, p, isa(target), tile, tile, mma.THREADS, mma.LINE // p.a.dtype.size, tile)


@pytest.mark.parametrize("orders", ["nnn", "ntn", "tnn", "ttt", "gtg"])
@pytest.mark.parametrize("t", [dt.bfloat16, dt.float16], ids=str)
def test_tensor_cores(t, orders):
    for seed, (m, n, k) in enumerate([(64, 64, 64), (40, 50, 72), (65, 130, 200), (9, 8, 13), (72, 24, 16)]):
        g, *rest = case(m, n, k, t, orders, seed=seed)
        assert right(g, *rest, launch=tensor(g), seed=seed), (m, n, k)
    g, *rest = case(24, 40, 48, t, orders, (2, 2), offset=8)
    assert right(g, *rest, launch=tensor(g))


@pytest.mark.parametrize("t", [dt.bfloat16, dt.float32], ids=str)
def test_large_tensor_tiles(t):
    for orders in ("ntn", "tnt"):
        g, *rest = case(200, 136, 104, t, orders, rounding=True)
        assert right(g, *rest, launch=tensor(g, 128), tolerance=2e-3 if t is dt.float32 else None)


def test_tf32():
    """Only where a program allows it; factors are rounded to nearest."""
    g, arrays, result, want = case(40, 50, 72, orders="nnn", rounding=True)
    assert not mma.accepts(replace(gemm.product_of(g), rounding=False), isa("sm_90")) and not mma.accepts(gemm.product_of(g), isa("sm_75"))
    for orders in ("nnn", "ttn"):
        g, arrays, result, want = case(40, 50, 72, orders=orders, rounding=True)
        a, b = (((x.view(np.uint32) + 0x1000) & 0xFFFFE000).view(np.float32).astype(np.float64) for x in arrays[:2])
        nearest = (a.reshape(40, 72) if orders[0] == "n" else a.reshape(72, 40).T) @ (b.reshape(72, 50) if orders[1] == "n" else b.reshape(50, 72).T)
        got = result(run(tensor(g), arrays)[2])
        assert np.abs(got - nearest).max() < 1e-5 < 1e-3 < np.abs(got - want).max()


@pytest.mark.parametrize("offset", [1, 4])
def test_uneven_addresses(offset):
    g, *rest = case(40, 64, 64, dt.bfloat16, offset=offset)
    assert right(g, *rest, launch=tensor(g))


# ---------------------------------------------------------------- few rows
FEW = [(dt.float32, "ntn"), (dt.float32, "nnn"), (dt.float32, "gnt"), (dt.bfloat16, "ntn"), (dt.bfloat16, "nnn"), (dt.float64, "ntn"), (dt.complex64, "ntn"), (dt.complex64, "nnn"), (dt.int32, "ntn")]


@pytest.mark.parametrize(("t", "orders"), FEW, ids=str)
def test_few_rows(t, orders):
    for m, n, k, batch in [(1, 37, 128, ()), (3, 70, 260, ()), (8, 33, 100, (2,)), (40, 2, 67, ())]:
        g, *rest = case(m, n, k, t, orders, batch)
        assert skinny.launch(gemm.product_of(g), isa("sm_75")) is not None
        assert right(g, *rest), (m, n, k)


# ---------------------------------------------------------------- epilogues
def with_chain(g, first=3):
    """relu(product + a number per column), which begin at element `first`."""
    t, zeros = g.c.dtype, (0,) * len(g.batch)
    body = (Load(0, t, (*zeros, 0, 0)), Load(2, t, (*zeros, 0, 1), first), Apply(ADD, (0, 1), t), Apply(RELU, (2,), t), Store(1, 3, (*g.c.batch, g.c.rows, g.c.cols), g.c.offset, t))
    nest = Nest((*g.batch, g.m, g.n), (), (Operand(t, "r"), Operand(t, "w"), Operand(t, "r")), body)
    return replace(g, operands=(*g.operands, Operand(t, "r")), epilogue=nest)


@pytest.mark.parametrize("target", KERNELS.values())
@pytest.mark.parametrize("t", [dt.float32, dt.bfloat16], ids=str)
def test_epilogue(t, target):
    for m, n, k, batch, first in [(40, 50, 30, (2,), 3), (40, 54, 30, (2,), 4), (40, 52, 30, (2,), 4), (2, 50, 64, (), 3), (50, 2, 64, (), 3), (20, 30, 1100, (), 3)]:
        g, arrays, result, want = case(m, n, k, t, "ntn", batch)
        g, more = with_chain(g, first), stored(np.arange(n + first) % 7 - 3.0, t)
        assert build.accepts(g, isa(target))
        assert right(g, [*arrays, more], result, np.maximum(want + read(more, t)[first:], 0), target, tolerance=2e-2 if t is dt.bfloat16 else None), (m, n, k)


# ---------------------------------------------------------------- convolutions
IMAGES = [
    (2, 3, 5, (8, 8), (3, 3)), (1, 1, 1, (1, 1), (1, 1)), (3, 4, 6, (7, 5), (3, 3), (1, 1), (1, 1)), (2, 3, 20, (12, 12), (5, 5), (2, 2), (2, 2)),
    (2, 8, 4, (9, 11), (3, 2), (2, 3), (1, 0), (2, 1)), (4, 6, 6, (6, 6), (3, 3), (1, 1), (1, 1), (1, 1), 3), (2, 16, 16, (10, 10), (3, 3), (1, 1), (1, 1), (1, 1), 16),
    (3, 4, 8, (6, 6), (1, 1), (2, 2)), (2, 2, 3, (20, 20), (3, 3), (1, 1), (4, 4)), (2, 20, 17, (1, 1), (3, 3), (1, 1), (1, 1)), (1, 70, 33, (7, 7), (3, 3), (2, 2), (1, 1)),
    (3, 4, 6, (41,), (5,), (2,), (2,)), (2, 4, 6, (41,), (3,), (3,), (2,), (4,), 2), (2, 4, 4, (6, 5, 8), (2, 3, 3), (2, 1, 2), (1, 0, 1), (1, 2, 1), 2),
    (4, 2, 3, (18, 18), (3, 3), (1, 1), (1, 1)),              # a weight gradient in parts
]


def three(x, fill): return (fill,) * (3 - len(x)) + tuple(x)


def array_of(x: oracle.Tensor):
    """A tensor as memory holds it."""
    return x.view(oracle.int16).numpy().view(np.uint16) if x.dtype is oracle.bfloat16 else x.numpy()


def convolutions(n, c, k, size, taps, stride=None, padding=None, dilation=None, groups=1, t=dt.float32, bias=True):
    """(noun, arrays with the result third, what it should be) of each direction."""
    d = len(size)
    stride, padding, dilation = stride or (1,) * d, padding or (0,) * d, dilation or (1,) * d
    out = tuple((s + 2 * p - a * (r - 1) - 1) // st + 1 for s, p, a, r, st in zip(size, padding, dilation, taps, stride))
    make = functools.partial(oracle.randn, generator=oracle.Generator().manual_seed(0), dtype=getattr(oracle, t.name))
    x, w, dy, b = make(n, c, *size), make(k, c // groups, *taps), make(n, k, *out), make(k)
    y = getattr(oracle.nn.functional, f"conv{d}d")(x.double(), w.double(), b.double() if bias else None, stride, padding, dilation, groups)
    dx, dw, _ = oracle.ops.aten.convolution_backward(dy.double(), x.double(), w.double(), [0], stride, padding, dilation, False, [0] * d, groups, [True, True, False])
    common = (n, c, k, groups, three(size, 1), three(out, 1), three(taps, 1), three(stride, 1), three(padding, 0), three(dilation, 1), t)
    for which, ins, more, want in (("forward", [x, w], [b] if bias else [], y), ("input", [dy, w], [], dx), ("weight", [dy, x], [], dw)):
        operands = (Operand(t, "r"), Operand(t, "r"), Operand(t, "w"), *[Operand(t, "r")] * len(more))
        yield Conv(which, *common, bool(more), operands), [array_of(v) for v in (*ins, oracle.full(want.shape, np.nan, dtype=x.dtype), *more)], want.numpy()


@pytest.mark.parametrize("at", range(len(IMAGES)))
def test_convolutions(at):
    for c, arrays, want in convolutions(*IMAGES[at], t=(dt.float32, dt.float64)[at % 2], bias=at % 3 > 0):
        got = run(build.build(c, isa("sm_75")), arrays, seed=at)[2]
        assert np.abs(got - want).max() < 1e-4 * max(1, np.abs(want).max()), c.which


def test_parts_of_a_weight_gradient():
    launches = {c.which: build.build(c, isa("sm_75")) for c, *_ in convolutions(*IMAGES[-1])}
    assert launches["weight"].then and not launches["forward"].then


def test_convolution_epilogue():
    for c, arrays, want in convolutions(*IMAGES[2], bias=False):
        if c.which != "forward": continue
        pixels = c.out[1] * c.out[2]
        f, strides = dt.float32, (c.k * pixels, pixels, 1)
        body = (Load(0, f, strides), Load(2, f, (0, 1, 0)), Apply(ADD, (0, 1), f), Apply(RELU, (2,), f), Store(1, 3, strides, 0, f))
        nest = Nest((c.n, c.k, pixels), (), (Operand(f, "r"), Operand(f, "w"), Operand(f, "r")), body)
        more = np.arange(c.k, dtype=np.float32) - 2
        got = run(build.build(replace(c, operands=(*c.operands, Operand(f, "r")), epilogue=nest), isa("sm_75")), [*arrays, more])[2]
        assert np.allclose(got, np.maximum(want + more[:, None, None], 0), atol=1e-5)


HALVES = [
    (2, 16, 24, (9, 7), (3, 3), (1, 1), (1, 1)), (2, 9, 20, (12, 12), (3, 3), (2, 2), (1, 1)), (2, 32, 32, (6, 6), (3, 3), (1, 1), (1, 1), (1, 1), 2),
    (3, 24, 40, (5, 7), (1, 1)), (3, 16, 72, (8, 10), (1, 1)), (2, 16, 16, (8, 8), (1, 1), (2, 2)), (2, 10, 12, (21,), (5,), (2,), (2,)),
    (1, 8, 9, (5, 6, 7), (2, 3, 3), (2, 1, 2), (1, 0, 1), (1, 2, 1)), (2, 8, 70, (7, 7), (3, 3), (1, 1), (4, 4), (3, 2)),
]


def right_conv(c, arrays, want, launch, seed=0) -> bool:
    got = read(run(launch, arrays, seed=seed)[2], c.dtype)
    return bool(np.abs(got - want).max() <= {dt.float16: 2e-3, dt.bfloat16: 1e-2, dt.float32: 2e-3}[c.dtype] * max(1, np.abs(want).max()))


@pytest.mark.parametrize("at", range(len(HALVES)))
def test_convolutions_on_tensor_cores(at):
    """All directions, with tiles of both sizes."""
    t, tile = (dt.bfloat16, dt.float16)[at % 2], (64, 128)[at // 2 % 2]
    for c, arrays, want in convolutions(*HALVES[at], t=t, bias=at % 3 > 0):
        p = conv.product_of(c)
        assert gathered.accepts(p, isa("sm_90")) and not gathered.accepts(p, isa("sm_70")), c.which
        names = gathered.names_of(p, isa("sm_90"))
        if HALVES[at][4:] == ((1, 1),): assert bool(names) == (at == 3), "rows of images are copied where they are whole multiples of 16 bytes"
        launch = gathered.launch_with(p, isa("sm_90"), tile, names) if names else mma.launch(p, isa("sm_90"))
        assert right_conv(c, arrays, want, launch, at), (c.which, names)


def test_convolutions_of_tf32():
    for at in (0, 3):
        for c, arrays, want in convolutions(*HALVES[at]):
            p = replace(conv.product_of(c), rounding=True)
            assert not gathered.accepts(conv.product_of(c), isa("sm_80"))
            launch = gathered.launch(p, isa("sm_80"))
            assert "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32" in launch.ptx and right_conv(c, arrays, want, launch, at), c.which


def test_long_weight_gradient():
    """Of many pixels: in parts, with the same bits in every run."""
    for c, arrays, want in convolutions(4, 8, 8, (18, 18), (3, 3), (1, 1), (1, 1), t=dt.bfloat16):
        launch = build.build(c, isa("sm_90"))
        assert right_conv(c, arrays, want, launch) and bool(launch.then) == (c.which == "weight")
        assert np.array_equal(*[run(launch, arrays, seed=s)[2] for s in (1, 2)])


@pytest.mark.parametrize("orders", ["nnn", "ntn", "tnt", "gtg"])
def test_older_tensor_cores(orders):
    """Capability 7.5: float16, without asynchronous copies, half as deep."""
    for seed, (m, n, k) in enumerate([(64, 64, 64), (65, 40, 72), (9, 8, 13)]):
        g, *rest = case(m, n, k, dt.float16, orders, seed=seed)
        launch = build.build(g, isa("sm_75"))
        assert "mma.sync.aligned.m16n8k8" in launch.ptx and "cp.async" not in launch.ptx
        assert right(g, *rest, launch=launch, seed=seed), (m, n, k)
    for c, arrays, want in convolutions(*HALVES[0], t=dt.float16):
        launch = build.build(c, isa("sm_75"))
        assert "mma.sync.aligned.m16n8k8" in launch.ptx and right_conv(c, arrays, want, launch), c.which
    g, *_ = case(64, 64, 64, dt.bfloat16, orders)
    assert "mma.sync" not in build.build(g, isa("sm_75")).ptx


def test_wide_indices(monkeypatch):
    """64-bit ones, as for matrices beyond 2^31 elements."""
    monkeypatch.setattr(product, "NARROW", 2)
    for target, t, n in (("sm_75", dt.float32, 30), ("sm_90", dt.bfloat16, 30), ("sm_90", dt.bfloat16, 1)): assert right(*case(40, n, 1200, t, "ntn"), target)
    for c, arrays, want in convolutions(*IMAGES[4]): assert np.abs(run(build.build(c, isa("sm_75")), arrays)[2] - want).max() < 1e-3


# ---------------------------------------------------------------- through every floor
@pytest.mark.usefixtures("devices")
def test_network():
    """A convolutional network's training steps, in float32 and in bfloat16."""
    torch.manual_seed(0)
    from_scratch = lambda: torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.ReLU(), torch.nn.Conv2d(8, 12, 3, stride=2, groups=2), torch.nn.Flatten(),
                                               torch.nn.Linear(12 * 16, 10))
    here, there = from_scratch(), from_scratch()
    x = torch.randn(4, 3, 10, 10)
    there.load_state_dict(here.state_dict())
    there.cuda()
    (here(x) ** 2).mean().backward()
    (there(x.cuda()) ** 2).mean().backward()
    for p, q in zip(here.parameters(), there.parameters()): assert torch.allclose(p.grad, q.grad.cpu(), 1e-4, 1e-5)
    a, b = here.bfloat16()(x.bfloat16()), there.bfloat16()(x.cuda().bfloat16()).cpu()
    assert torch.allclose(a.float(), b.float(), 5e-2, 5e-2)


@pytest.mark.usefixtures("devices", "fresh")
def test_half_convolutions_through_every_floor(capsys, monkeypatch):
    """Not widened to float32 as on the CPU: three products of their own type."""
    x, w, b = torch.randn(2, 8, 7, 7), torch.randn(12, 8, 3, 3), torch.randn(12)
    found = []
    for device in ("cpu", "cuda"):
        inputs = [v.bfloat16().to(device).requires_grad_() for v in (x, w, b)]
        monkeypatch.setattr(flags, "SHOW", 5 if device == "cuda" else 0)
        torch.nn.functional.conv2d(*inputs, padding=1).relu().square().sum().backward()
        found.append([v.grad.cpu().float() for v in inputs])
        flush()
        monkeypatch.setattr(flags, "SHOW", 0)
    for here, there in zip(*found): assert torch.allclose(here, there, 2e-2, 2e-2 * here.abs().max().item())
    out = capsys.readouterr().out
    assert len(re.findall(r"^ +\d+ cpu conv ", out, re.M)) == 3 and out.count("m16n8k16.row.col.f32.bf16.bf16.f32") >= 3 * 16


@pytest.mark.usefixtures("devices")
def test_parts_through_every_floor():
    """A long sum is two launches, with scratch between them; bias and activation go with the second."""
    x, w, b = torch.randn(20, 1500), torch.randn(30, 1500), torch.randn(30)
    for t, tolerance in ((torch.float32, 1e-4), (torch.bfloat16, 2e-2)):
        there, here = (torch.relu(torch.nn.functional.linear(*[v.to(t).to(device) for v in (x, w, b)])).cpu() for device in ("cuda", "cpu"))
        assert torch.allclose(there.float(), here.float(), tolerance, tolerance)


# ---------------------------------------------------------------- planted bugs
def without(text: str, what: str, which: int) -> str:
    lines = text.split("\n")
    found = [i for i, line in enumerate(lines) if what in line]
    return "\n".join(line for i, line in enumerate(lines) if i != found[which])


BUGS = {
    "tile": {"the first barrier": lambda t: without(t, "bar.sync", 0), "the barrier of a step": lambda t: without(t, "bar.sync", 1),
             "before results": lambda t: without(t, "bar.sync", 2)},
    "tensor": {"the barrier of a step": lambda t: without(t, "bar.sync", 0), "before results": lambda t: without(t, "bar.sync", 2),
               "a wait": lambda t: without(t, "cp.async.wait_group", 0), "a group": lambda t: without(t, "cp.async.commit_group", 0),
               "fragments": lambda t: t.replace("ldmatrix.sync.aligned.m8n8.x4.shared", "ldmatrix.sync.aligned.m8n8.x4.trans.shared", 1)},
}
GATHERED = {"tables": lambda t: without(t, "bar.sync", 0), "the barrier of a step": lambda t: without(t, "bar.sync", 1), "before results": lambda t: without(t, "bar.sync", 2),
            "a wait": lambda t: without(t, "cp.async.wait_group", 0), "an image's edge": lambda t: re.sub(r"(setp\.lt\.u32\s+\S+ \S+) \S+;", r"\1 -1;", t)}


@pytest.mark.parametrize(("kernel", "bug"), [(kernel, bug) for kernel in BUGS for bug in BUGS[kernel]])
def test_planted(kernel, bug):
    """Found by a fault or by wrong numbers, with every seed."""
    g, *rest = case(70, 64, 160, dt.bfloat16, "ntn")
    for seed in range(3):
        try: assert not right(g, *rest, KERNELS[kernel], seed=seed, change=BUGS[kernel][bug])
        except Fault: pass


@pytest.mark.parametrize("bug", GATHERED)
def test_planted_in_gathered(bug):
    c, arrays, want = next(convolutions(2, 16, 24, (9, 9), (3, 3), (1, 1), (1, 1), t=dt.bfloat16))
    launch = build.build(c, isa("sm_90"))
    assert right_conv(c, arrays, want, launch)
    for seed in range(3):
        try: assert not right_conv(c, arrays, want, replace(launch, ptx=GATHERED[bug](launch.ptx)), seed)
        except Fault: pass


# ---------------------------------------------------------------- as machine code: sass.py asks the silicon's assembler
def templates(target):
    """(name, what makes its PTX) of every template and type."""
    it = isa(target)
    def made(kernel, name, p, *more): return lambda: program(kernel, name, p, *more)[0]
    for t, side in ((dt.float32, 4), (dt.float32, 8), (dt.float64, 4), (dt.bfloat16, 8), (dt.complex64, 4), (dt.complex128, 4), (dt.int32, 8), (dt.int64, 4)):
        yield f"tile {side} {t}", made(gemm.TileKernel, "product", gemm.product_of(case(16, 16, 16, t, "nnn", (2, 2))[0]), it, False, side)
    for orders in ("nnn", "ttt"): yield f"tile 4 {dt.float32} in parts {orders}", made(gemm.TileKernel, "product", gemm.product_of(case(16, 16, 16, orders=orders)[0]), it, True, 4)
    for t, orders in ((dt.float32, "nnn"), (dt.bfloat16, "ntn"), (dt.float64, "ntn")):
        p = gemm.product_of(case(16, 16, 16, t, orders)[0])
        yield f"few {t}", made(skinny.SkinnyKernel, "product", p, it, 8)
        yield f"sums {t}", made(SumKernel, "sums", p, it)
    tensors = ((dt.bfloat16, "ntn", 128), (dt.bfloat16, "tnn", 128), (dt.bfloat16, "nnn", 64), (dt.float16, "tnn", 128), (dt.float32, "nnn", 128), (dt.float32, "ntn", 64))
    for t, orders, tile in tensors if int(target[3:]) >= 80 else ():
        p = gemm.product_of(with_chain(case(16, 16, 16, t, orders, rounding=True)[0]))
        yield f"tensor {tile} {t} {orders}", made(mma.TensorKernel, "product", p, it, False, tile)
    for c, *_ in convolutions(2, 4, 4, (6, 5, 8), (2, 3, 3), (2, 1, 2)):
        for side in (4, 8): yield f"conv {side} {c.which}", made(gemm.TileKernel, "product", conv.product_of(c), it, False, side)
    def gathering(p, tile): return made(gathered.GatheredKernel, "product", p, nvptx.at_least(it, gathered.PTX), False, tile, gathered.names_of(p, it))
    for t, which, tile in ((dt.bfloat16, "forward", 128), (dt.bfloat16, "forward", 64), (dt.float16, "input", 128), (dt.bfloat16, "weight", 128), (dt.float32, "input", 64)):
        c = next(c for c, *_ in convolutions(2, 8, 8, (6, 5), (3, 3), (2, 2), (1, 1), t=t, bias=False) if c.which == which)
        p = replace(conv.product_of(c), rounding=True)
        if gathered.accepts(p, it): yield f"gathered {tile} {t} {which}", gathering(p, tile)
    if target == "sm_75": yield "gathered matrix", gathering(gemm.product_of(with_chain(case(16, 16, 16, dt.float16, "ttn")[0])), 64)


def test_templates_are_of_every_kind():
    for target in TARGETS:
        assert {name.split()[0] for name, _ in templates(target)} >= {"tile", "few", "sums", "conv", "gathered"} and CHIPS[int(target[3:-1]), int(target[-1])].target == target
