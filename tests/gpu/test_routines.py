"""Kernels of GPUs with loops of their own, against the CPU's results: reading and writing through indices, padding, scanning, sorting, searching,
alignments of labels, recurrences, attention. Kernels are few and shapes are ragged: what takes time here is to make a kernel run on the processor.
"""
import itertools
import re
from types import SimpleNamespace

import pytest

import forno as torch
import forno.nn.functional as F
from forno import gpu
from forno.core import dtype as dt
from forno.core.shape import whole
from forno.cpu import nvptx
from forno.dnn import attention, ctc, gather, pad, recurrence, scan, sort
from forno.gpu.sim import Machine, Spec
from forno.kernel.nvptx import routines
from forno.kernel.nvptx.routines import atomic, code
from forno.kernel.recurrence import GATES

on_devices = pytest.mark.usefixtures("devices")


def results(x): return [y for part in x for y in results(part)] if isinstance(x, tuple | list) else [x]


def same(program, *tensors, tolerance=1e-5):
    """The same program on both sides, and the same numbers."""
    here, there = results(program(*tensors)), results(program(*[t.cuda() for t in tensors]))
    assert len(here) == len(there)
    for a, b in zip(here, there):
        assert b.is_cuda and a.dtype == b.dtype and a.shape == b.shape
        a, b = a.detach().reshape(-1), b.detach().reshape(-1)
        b = (b & True if b.dtype is torch.bool else b + 0).cpu()
        if a.dtype.is_floating_point or a.dtype.is_complex: assert torch.allclose(a, b, tolerance, tolerance, equal_nan=True), (a, b)
        else: assert torch.equal(a, b), (a, b)


def filled(shape, dtype, seed=0, low=-9, high=9):
    """Few different numbers, so that there are equal ones."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(low, high, shape, generator=generator)
    if dtype.is_complex: return torch.complex(x.double(), x.flip(0).double()).to(dtype)
    return x.abs().to(dtype) if dtype is torch.uint8 else x.to(dtype)


def places(shape, size, seed=1, low=0): return torch.randint(low, size, shape, generator=torch.Generator().manual_seed(seed))


def slopes(program):
    """The gradients of all floating tensors, of a sum with different weights."""
    def run(*tensors):
        tensors = [t.detach().requires_grad_() if t.dtype.is_floating_point else t for t in tensors]
        out = results(program(*tensors))
        loss = sum((o * torch.arange(1, o.numel() + 1, device=o.device).reshape(o.shape) / o.numel()).sum() for o in out if o.dtype.is_floating_point)
        loss.backward()
        return [*out, *[t.grad for t in tensors if t.requires_grad]]
    return run


# ---- indices
@on_devices
@pytest.mark.parametrize("dtype", [torch.bool, torch.bfloat16, torch.float32, torch.int64, torch.complex128])
def test_reads(dtype):
    x = filled((7, 5, 6), dtype)
    same(lambda x, i: (x[i], x[:, i], x[i, i], x.index_select(2, i), x.take(i)), x, places((9,), 5, low=-5) % 5)
    same(lambda x, i: (x[i], x.take(i)), x, places((3, 2), 5, low=-5))
    same(lambda x, i: [x.gather(d, i) for d in range(3)], x, places((4, 3, 5), 5))
    same(lambda x, i: F.embedding(i, x[0]), x, places((300,), 5, low=0).int())


@on_devices
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.int64, torch.uint8, torch.complex64])
def test_writes(dtype):
    """Several writes to one place: the last wins; sums are made in order."""
    x, v, i = filled((6, 5), dtype), filled((40, 5), dtype, 2), places((40, 5), 6)
    same(lambda x, v, i: (x.scatter(0, i, v), x.scatter_add(0, i, v)), x, v, i)
    same(lambda x, v, i: (x.index_add(0, i[:, 0], v), x.index_copy(0, i[:, 0], v)), x, v, i)
    same(lambda x, v, i: (x.index_put((i[:, 0], i[:, 1] % 5), v[:, 0], accumulate=True), x.put(i, v), x.index_put((i[:, 0],), v[0, 0], accumulate=True)), x, v, i)
    if not dtype.is_complex: same(lambda x, v, i: [x.scatter_reduce(0, i, v, how, include_self=s) for how, s in (("prod", True), ("amax", False), ("amin", True))], x, v, i)


@on_devices
def test_many_writes(alike):
    """More than a block sorts at a time. Where that is asked for sums are the CPU's, bit by bit, whatever else made them before; of plain writes the last wins always."""
    v, i, far = torch.randn(5000, generator=torch.Generator().manual_seed(3)), places((5000,), 30), places((2100,), 20000)
    def sums(v, i): return torch.zeros(30, device=v.device).index_add(0, i, v)
    same(sums, v, i, tolerance=1e-4)
    alike()
    same(sums, v, i, tolerance=0)
    same(lambda v, i, far: (torch.zeros(30, device=v.device).index_copy(0, i, v), torch.zeros(20000, device=v.device).index_copy(0, far, v[:2100])), v, i, far, tolerance=0)
    same(lambda v, i: torch.zeros(30, 3, device=v.device).index_put((i,), v[:, None] * torch.arange(3.0, device=v.device)), v, i, tolerance=0)
    same(lambda v, i: (i.new_zeros(30).index_add(0, i, i), i.bincount()), v, i)


def test_long_places_are_walked_by_warps(alike):
    """Where neighbours don't share what they read, a warp asks for many values and hands them around; both ways several reads are underway before the first sum."""
    alike()
    t, i = dt.float32, dt.int64
    alone = plan(gather.scatter, (0, "sum", True), value(t, 70, 80), value(t, 70, 80), value(i, 50, 80), value(t, 50, 80))
    rows = plan(gather.index_back, ((0,), (70, 80)), value(t, 70, 80), value(t, 9, 80), value(i, 9))
    for n, ballots in ((alone, 5), (rows, 0)):
        last = routines.build(n, nvptx.isa_of("sm_80", 70)).then[-1]
        assert last.name == "combine" and last.ptx.count("vote.sync.ballot") == ballots
        before, *between = last.ptx.split("add.rn.f32")[:8]
        assert len(re.findall(r"ld\.global\S*\.b32", before)) >= 8 and "ld.global" not in "".join(between)


@on_devices
@pytest.mark.parametrize(("dtype", "width"), [(torch.bfloat16, 1), (torch.float32, 1), (torch.float32, 9), (torch.float64, 3), (torch.complex64, 1)])
def test_many_writes_to_one_place(alike, dtype, width):
    """Places of every length, one of them of most that there is: what a warp walks through, and what a thread does, in the order of the CPU."""
    lengths = [1, 2, 7, 8, 9, 39, 40, 41, 0, 135, 136, 137, 264, 600]
    generator = torch.Generator().manual_seed(5)
    i = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    i = i[torch.randperm(len(i), generator=generator)]
    v = torch.randn(len(i), width, generator=generator).to(dtype)
    if dtype.is_complex: v = torch.complex(v.real, v.real.flip(0))
    alike()
    def base(v): return torch.full((len(lengths), width), 0.5, dtype=dtype, device=v.device)
    same(lambda v, i: base(v).index_add(0, i, v), v, i, tolerance=0)
    if dtype is torch.float32: same(lambda v, i: [base(v).index_reduce(0, i, v, how, include_self=s) for how, s in (("prod", True), ("amax", False), ("amin", True))], v * 0.1 + 1, i, tolerance=0)
    if dtype is torch.float32: same(lambda v, i: base(v).index_copy(0, i, v), v, i, tolerance=0)


@pytest.fixture
def alike():
    """A function that asks for the same bits in every run."""
    yield lambda: torch.use_deterministic_algorithms(True)
    torch.use_deterministic_algorithms(False)


@on_devices
def test_sums_over_windows(alike):
    """Of 3078 positions on several axes: two tiles, so that what is sorted lies in the other half of scratch."""
    x = torch.randn(20, 21, generator=torch.Generator().manual_seed(11))
    program = slopes(lambda x: (x.unfold(0, 3, 1).unfold(1, 3, 1), F.avg_pool2d(x[None], 3, 2, 1)))
    same(program, x, tolerance=1e-4)
    alike()
    same(program, x, tolerance=0)


@on_devices
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64])
def test_sums_of_rows(dtype):
    """Neighbours at once, where there are instructions for them: whole rows, pairs, one by one; memory that begins anywhere; one value all along; written places alone."""
    for width in (16, 6, 5):
        v, i = filled((41, width), dtype), places((40,), 7)
        same(lambda v, i: torch.zeros(7, v.shape[1], dtype=v.dtype, device=v.device).index_add(0, i, v[1:]), v, i)
        same(lambda v, i: torch.zeros(7, v.shape[1], dtype=v.dtype, device=v.device).index_add(0, i, v.reshape(-1)[1:-v.shape[1] + 1].reshape(-1, v.shape[1])), v, i)
        same(lambda v, i: (v.index_put((i,), v[0, 0], accumulate=True), v.index_put((i[:, None], i % 5), v[0, 1], accumulate=True)), v, i)
        if not dtype.is_complex: same(lambda v, i: v.index_reduce(0, i, v[1:], "mean", include_self=False), v, i, tolerance=4e-2)
        if not dtype.is_complex: same(slopes(lambda v, i: F.embedding(i, v)), v, i, tolerance=4e-2)


def test_sums_on_older_chips(monkeypatch):
    """Without instructions for bfloat16, or for many at once."""
    for spec in (Spec(capability=(7, 5)), Spec(capability=(8, 0))):
        with Machine([spec], seed=5) as machine:
            monkeypatch.setattr(gpu, "_found", machine.driver())
            for dtype, width in ((torch.bfloat16, 6), (torch.bfloat16, 3), (torch.float16, 3), (torch.float32, 4)):
                same(lambda v, i: torch.zeros(7, v.shape[1], dtype=v.dtype, device=v.device).index_add(0, i, v), filled((40, width), dtype), places((40,), 7))


@on_devices
def test_extremes_of_whole_numbers():
    for dtype in (torch.int32, torch.int64):
        x, v, i = filled((6, 5), dtype), filled((40, 5), dtype, 2), places((40, 5), 6)
        same(lambda x, v, i: [x.scatter_reduce(0, i, v, how, include_self=s) for how in ("amax", "amin", "sum") for s in (True, False)], x, v, i)


def test_sums_that_are_not_atomic_are_found(monkeypatch):
    def apart(c, mode, x, out, at, numel): c.store(c.load(out, x.dtype, at) + x, out, at)
    machine = Machine(1, seed=1)
    monkeypatch.setattr(gpu, "_found", machine.driver())
    monkeypatch.setattr(atomic, "combine", apart)
    code.program.cache_clear()
    try:
        with pytest.raises(Exception, match="race"), machine, pytest.raises(RuntimeError, match="CUDA error"): torch.zeros(3).cuda().index_add(0, places((40,), 3).cuda(), torch.ones(40).cuda()).tolist()
    finally: code.program.cache_clear()


def test_what_makes_sums(alike):
    """As few launches as there can be, unless results must have the same bits."""
    def names():
        first = routines.build(plan(gather.index_back, ((0,), (70, 80)), value(dt.float32, 70, 80), value(dt.float32, 3000, 80), value(dt.int64, 3000)), nvptx.isa_of("sm_90", 81))
        return [launch.name for launch in (first, *first.then)]
    assert names() == ["clear", "add"]
    alike()
    assert names() == ["clear", "tiles", "merge", "combine"]


@on_devices
def test_gradients_of_reads():
    x, i = filled((7, 6), torch.float32), places((12,), 7)
    same(slopes(lambda x, i: (x[i], x.gather(0, i[:6].reshape(1, 6)), F.embedding(i, x, padding_idx=2))), x, i)
    same(slopes(lambda x: (x.unfold(1, 3, 1), x.as_strided((5, 3), (2, 1)))), x)


@on_devices
def test_nonzero():
    for x in (filled((5, 7, 3), torch.float32, high=2), filled((), torch.bool), torch.zeros(0, 3), filled((40, 1000), torch.int16, low=-1, high=2)):
        same(lambda x: (x.nonzero(), x[x > 0], x.count_nonzero()), x)


@on_devices
def test_different_elements():
    x = filled((4, 6), torch.int64, high=3) % 3
    same(lambda x: [torch.unique(x, sorted=s, return_inverse=True, return_counts=True) for s in (True, False)], x)
    same(lambda x: [torch.unique(x.repeat(2, 1), return_inverse=True, return_counts=True, dim=d) for d in (0, 1)], x)
    same(lambda x: [torch.unique_consecutive(x.sort(1)[0], return_inverse=True, return_counts=True, dim=d) for d in (None, 0)], x)
    same(lambda x: (torch.unique(x[:0]), torch.unique(x > 1), torch.unique(x.to(torch.bfloat16)), torch.unique(x[0, 0], return_inverse=True)), x)


@on_devices
def test_counts():
    x, w, points = filled((900,), torch.int64).abs(), torch.linspace(0, 1, 900), torch.linspace(-1, 2, 120).reshape(40, 3) ** 2
    same(lambda x, w: (x.bincount(), x.bincount(minlength=20), x.bincount(w, 3), x[:0].bincount(), x[:0].bincount(minlength=2)), x, w)
    same(lambda x, p: (torch.histc(x.float(), 5), p[:, 0].histc(4, 0.1, 0.9), p.histogram(5), p.histogram(4, range=(0.0, 1.0), weight=p, density=True)), x, points)
    same(lambda p: (torch.histogramdd(p, [3, 2, 4]), torch.histogramdd(p, 2, range=[0.0, 1, 0, 2, 0, 3], weight=p[:, 0], density=True)), points)
    same(lambda x: (x.nonzero(as_tuple=True), x[5].nonzero(as_tuple=True), x.nonzero_static(size=1000), torch.argwhere(x[:9]), torch.where(x > 3)), x)


@on_devices
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_pad(mode):
    same(slopes(lambda x: (F.pad(x, (2, 1), mode), F.pad(x[None], (3, 2, 1, 0), mode))), filled((3, 4, 5), torch.float32))
    same(lambda x: F.pad(x, (4, 4), mode), filled((3, 2, 5), torch.complex128))


@on_devices
def test_constants_lie_with_their_operands():
    """What is made on the way, or instead of a result: of empty matrices, of pivots; complex numbers of halves as words."""
    a, b = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(12)), torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(13))
    same(lambda a, b: (torch.lu_solve(b, *torch.linalg.lu_factor(a)), *torch.lu_unpack(*torch.linalg.lu_factor(a), unpack_data=False), torch.linalg.lstsq(a, b, driver="gels").rank), a, b, tolerance=1e-3)
    same(lambda a: (torch.linalg.matrix_rank(a), torch.linalg.cond(a), *torch.linalg.inv_ex(a), *torch.lu_unpack(*torch.linalg.lu_factor(a))), torch.zeros(2, 0, 0))
    same(lambda a: (a.chalf().to(torch.complex64), torch.complex(a, a.flip(0)).to(torch.complex32).to(torch.complex64)), a, tolerance=1e-2)


# ---- lines
SHAPES = [((3, 5), 1), ((6, 45, 3), 1), ((2, 1300), 1), ((1300, 2), 0), ((9001,), 0), ((4, 0), 1), ((), 0)]


@on_devices
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8, torch.bfloat16, torch.int64])
def test_scans(dtype):
    for shape, d in SHAPES:
        same(lambda x: (x.cumsum(d), *x.cummax(d), *x.cummin(d)), filled(shape, dtype, high=5), tolerance=1e-2 if dtype is torch.bfloat16 else 1e-5)


@on_devices
def test_products_and_log_sums():
    for shape, d in SHAPES:
        x = torch.randn(shape, generator=torch.Generator().manual_seed(4)) / 8 + 1
        same(slopes(lambda x: (x.cumprod(d), x.logcumsumexp(d))), x, tolerance=1e-3)
    same(lambda x: (x.cumsum(0), x.cumprod(0)), filled((50, 3), torch.complex64) / 9, tolerance=1e-4)
    same(lambda x: x.cummax(0), torch.tensor([1.0, float("nan"), 3, float("-inf")] * 20))


@on_devices
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64, torch.uint8, torch.float64, torch.bool])
def test_sorts(dtype):
    for (shape, d), down in itertools.product([((3, 5), 1), ((5, 70, 3), 1), ((4200,), 0), ((2, 1), 1), ((3, 0), 1), ((), 0)], (False, True)):
        same(lambda x: torch.sort(x, dim=d, descending=down, stable=True), filled(shape, dtype))


@on_devices
def test_sorts_of_special_numbers():
    x = torch.tensor([0.0, float("nan"), -0.0, float("inf"), -1, float("-inf"), float("nan"), 2] * 9)
    same(lambda x: (x.sort(stable=True), x.sort(descending=True, stable=True), x.double().argsort(stable=True), x.half().sort(stable=True)), x)


@on_devices
def test_order_statistics():
    """What comes of equal elements is another on each side: values, and that they are where positions say."""
    def there(x, values, at, d): return values, x.gather(d, at).eq(values) | values.isnan()
    for shape, d in [((3, 5), 1), ((70, 4), 0), ((2300,), 0)]:
        x = filled(shape, torch.float32, high=6)
        k = min(3, shape[d])
        same(lambda x: [there(x, *x.topk(k, d, largest), d) for largest in (True, False)], x)
        same(lambda x: there(x, *x.kthvalue(k, d, keepdim=True), d), x)
        same(lambda x: [there(x, *f(x, d, keepdim=True), d) for f in (torch.median, torch.nanmedian, torch.mode)], x)
        same(lambda x: [torch.median(x, d), torch.nanmedian(x, d)], x.double().masked_fill(x == 5, float("nan")))
    same(lambda x: (x.unique(), x.unique(return_inverse=True, return_counts=True)), filled((60,), torch.float32))


@on_devices
def test_searches():
    bounds, values = filled((3, 20), torch.float32, low=-40, high=40).sort(1)[0], filled((3, 50), torch.float32, 5, -45, 45)
    same(lambda b, v: (torch.searchsorted(b, v), torch.searchsorted(b, v, right=True, out_int32=True), torch.bucketize(v, b[0])), bounds, values)
    mixed = filled((3, 20), torch.int64)
    same(lambda b, v: torch.searchsorted(b, v, sorter=b.argsort(1, stable=True)), mixed, filled((3, 7), torch.int64, 6))


# ---- layers
@on_devices
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ctc(dtype):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(12, 4, 6, generator=generator, dtype=dtype)
    labels, inputs, targets = places((4, 5), 6, 8).clamp(1), torch.tensor([12, 9, 3, 12]), torch.tensor([5, 3, 4, 0])
    for zero in (False, True):
        same(slopes(lambda x: F.ctc_loss(x.log_softmax(2), labels.to(x.device), inputs.to(x.device), targets.to(x.device), reduction="none", zero_infinity=zero)), x)


@on_devices
@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
def test_recurrences(kind):
    def run(x, *given):
        torch.manual_seed(1)
        net = getattr(torch.nn, kind)(5, 9, bidirectional=True).to(x.device)
        out, _ = net(x)
        out.square().sum().backward()
        return out, x.grad, [p.grad for p in net.parameters()]
    same(lambda x: run(x.detach().requires_grad_()), torch.randn(6, 3, 5, generator=torch.Generator().manual_seed(9)), tolerance=1e-4)


@on_devices
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention(dtype, monkeypatch):
    monkeypatch.setattr(attention, "TRAINED_SCORES", 0)
    generator = torch.Generator().manual_seed(10)
    q, k, v = (torch.randn(2, 4, n, 8 * m, generator=generator).to(dtype) for n, m in ((37, 1), (45, 1), (45, 5)))
    seen = torch.rand(37, 45, generator=generator) > 0.3
    seen[5] = False
    attend, tolerance = F.scaled_dot_product_attention, 1e-4 if dtype is torch.float32 else 3e-2
    same(slopes(lambda q, k, v: attend(q, k, v, is_causal=True)), q, k, v, tolerance=tolerance)
    same(slopes(lambda q, k, v, seen: attend(q, k, v, seen)), q, k, v, seen, tolerance=tolerance)
    same(slopes(lambda q, k, v: attend(q, k[:, :2], v[:, :2], enable_gqa=True)), q, k, v, tolerance=tolerance)
    same(lambda q, k, v: attend(q[..., :1, :], k, v), q, k, v, tolerance=tolerance)


# ---- what the checks see
def test_a_missing_barrier_is_found(monkeypatch):
    """A network whose threads don't wait for each other between its steps."""
    machine, barrier, calls = Machine(1, seed=1), code.Device.barrier, []
    monkeypatch.setattr(gpu, "_found", machine.driver())
    monkeypatch.setattr(code.Device, "barrier", lambda self: barrier(self) if calls else calls.append(1))
    code.program.cache_clear()
    try:
        with pytest.raises(Exception, match="race|nobody has written"), machine, pytest.raises(RuntimeError, match="CUDA error"): torch.arange(777, 0, -1).cuda().sort(stable=True)[0].tolist()
    finally: code.program.cache_clear()


@on_devices
def test_indices_out_of_range():
    """Are named; what is read instead exists, what was to be written is left out."""
    x, i = torch.zeros(6).cuda(), torch.tensor([1, 7]).cuda()
    for program in (lambda: x[i], lambda: x.index_add(0, i, x[:2]), lambda: x.scatter(0, i, x[:2])):
        with pytest.raises(RuntimeError, match="index 7 is out of bounds for dimension with size 6"): program().tolist()


# ---- as machine code
def value(dtype, *shape): return SimpleNamespace(dtype=dtype, shape=shape)
def plan(row, attr, out, *ins, **more): return row.plan(attr, out, *ins, **more)
def seen(row, attr, out, *ins): return plan(row, attr, out, *ins, views=[whole(x.shape) for x in ins])


def natives():
    """One of every kernel, in types that need many registers."""
    f, d, i, z = dt.float32, dt.float64, dt.int64, dt.complex128
    at, count, line = value(i, 50, 80), value(i, 1), value(d, 5000)
    yield plan(gather.index, (0,), None, value(f, 70, 80), value(i, 9))
    yield plan(gather.gather, 0, at, value(z, 70, 80), at)
    for t, mode in ((f, "sum"), (i, "sum"), (dt.bfloat16, "prod"), (d, "prod"), (z, "prod"), (z, "set")): yield plan(gather.scatter, (0, mode, True), value(t, 70, 80), value(t, 70, 80), at, value(t, 50, 80))
    for t in (dt.float16, dt.bfloat16, f, z): yield plan(gather.index_back, ((0,), (70, 80)), value(t, 70, 80), value(t, 9, 80), value(i, 9))
    yield plan(gather.nonzero_count, None, count, value(f, 70, 80))
    yield plan(gather.nonzero_fill, 9, value(i, 9, 2), value(f, 70, 80), count)
    yield plan(pad.reflection_pad, ((0, 0), (2, 3)), value(f, 70, 85), value(f, 70, 80))
    for row, t in ((scan.cumprod, z), (scan.logcumsumexp, d), (scan.cummax, d), (scan.cumsum, f)):
        for shape in ((70, 20), (70, 80), (5000,)): yield plan(row, (len(shape) - 1, False), value(i if row is scan.cummax else t, *shape), value(t, *shape))
    yield plan(sort.argsort, (0, False, True), None, line)
    yield plan(sort.topk, (0, True, 5, True), None, value(f, 50000))
    for row in (sort.median, sort.mode): yield plan(row, (0,), None, line)
    yield plan(sort.searchsorted, (False, i), None, line, line)
    for row in (ctc.ctc, ctc.ctc_gradient): yield plan(row, ctc.CtcSpec(0, False), line, value(d, 9, 4, 6), value(i, 4, 5), value(i, 4), value(i, 4))
    x, w, h, kept = value(d, 6, 3, 36), value(d, 36, 9), value(d, 3, 9), value(d, 6, 3, 45)
    yield seen(recurrence.recur, recurrence.RecurrenceSpec("lstm", kept=True), line, x, w, h, h)
    yield seen(recurrence.recurrence_back, recurrence.RecurrenceSpec("lstm", kept=True), line, value(d, 8, 3, 9), value(d, 8, 3, 9), w, kept)
    spec, q, lse, mask = attention.AttentionSpec(1.0, True, True, True), value(dt.bfloat16, 2, 4, 30, 8), value(f, 2, 4, 30), value(f, 30, 30)
    yield seen(attention.attend, spec, line, q, q, q, mask)
    yield seen(attention.attend_back, spec, line, q, q, lse, q, q, q, mask)


def variants():
    """The other types and modes of kernels that need the most registers."""
    f, d, i = dt.float32, dt.float64, dt.int64
    for t, zero in itertools.product((f, d), (False, True)):
        for row in (ctc.ctc, ctc.ctc_gradient): yield plan(row, ctc.CtcSpec(0, zero), value(t, 5000), value(t, 9, 4, 6), value(i, 4, 5), value(i, 4), value(i, 4))
    for t, (mode, gates) in itertools.product((f, d), GATES.items()):
        x, w, h = value(t, 6, 3, 9 * gates), value(t, 9 * gates, 9), value(t, 3, 9)
        more = {"lstm": [h], "gru": [value(t, 27)]}.get(mode, [])
        yield seen(recurrence.recur, recurrence.RecurrenceSpec(mode, kept=True), h, x, w, h, *more)
        yield seen(recurrence.recurrence_back, recurrence.RecurrenceSpec(mode, kept=True), h, *[value(t, 8, 3, 9)] * 2, w, *([value(t, 6, 3, 45)] if more else []))
    for t, mask in itertools.product((f, d, dt.bfloat16, dt.float16), (None, dt.bool, dt.float32)):
        spec, q, lse, more = attention.AttentionSpec(1.0, True, mask is not None, True), value(t, 2, 4, 30, 8), value(t.opmath, 2, 4, 30), [value(mask, 30, 30)] if mask else []
        yield seen(attention.attend, spec, lse, q, q, q, *more)
        yield seen(attention.attend_back, spec, lse, q, q, lse, q, q, q, *more)
