"""Loop nests on GPUs: every way in which threads divide work gives the CPU's numbers on ragged shapes.

What threads do depends on sizes; the sizes from which on they do it are small here, so that small tensors take every way.
"""
import re

import pytest

import forno as torch
from forno import gpu
from forno.core.kernels import Nest
from forno.cpu import nvptx
from forno.gpu.errors import CudaError
from forno.gpu.sim import Findings, Machine
from forno.kernel.nvptx import build, nest, schedule


SINGLE, DOUBLE, HALF, BRAIN = torch.float32, torch.float64, torch.float16, torch.bfloat16


@pytest.fixture(autouse=True)
def small(monkeypatch):
    for name, value in (("VECTORS_FROM", 256), ("TILES_FROM", 64), ("SPLIT_FROM", 512), ("BLOCKS", 64)): monkeypatch.setattr(schedule, name, value)


SEEN: dict = {}                                # test -> nests that were built for it; a program that is known is not built again


@pytest.fixture
def nests(monkeypatch, request):
    """The nests that were built, with their schedules."""
    seen, make = SEEN.setdefault(request.node.name.split("-")[-1].rstrip("]"), []), nest.build

    def spy(kernel, isa):
        seen.append((kernel, schedule.schedule(kernel, isa)))
        return make(kernel, isa)
    monkeypatch.setitem(build._BUILDERS, Nest, spy)
    return seen


def values(shape, dtype, seed=0):
    torch.manual_seed(seed)
    x = torch.randn(shape)
    return (x * 5).to(dtype) if not dtype.is_floating_point else x.to(dtype)


def same(program, *xs, tolerance=None):
    """A program's results on a device are the CPU's."""
    here, there = program(*xs), program(*[x.cuda() for x in xs])
    for a, b in zip(here if isinstance(here, tuple) else (here,), there if isinstance(there, tuple) else (there,)):
        assert b.is_cuda and a.dtype == b.dtype and a.shape == b.shape
        if not a.dtype.is_floating_point: assert a.tolist() == b.cpu().tolist()
        else:
            t = tolerance or {DOUBLE: 1e-12, SINGLE: 1e-5}.get(a.dtype, 1e-2)
            assert torch.allclose(a.double(), b.cpu().double(), t, t), (a.double() - b.cpu().double()).abs().max()


def normed(x, w, b): return torch.nn.functional.layer_norm(x, x.shape[-1:], w, b)


# name -> (program, shapes, dtype, what its schedule is like)
WAYS = {
    "vectors": (lambda x, y: x * 2 + y, ((1031,), (1031,)), SINGLE, lambda s: s.vector == 4 and s.several == 2 and s.narrow),
    "vectors of halves": (lambda x, y: torch.sigmoid(x) * y, ((515,), (515,)), BRAIN, lambda s: s.vector == 8),
    "vectors of float16": (lambda x: torch.tanh(x), ((521,),), HALF, lambda s: s.vector == 8),
    "vectors of doubles": (lambda x: x.exp() - 1, ((259,),), DOUBLE, lambda s: s.vector == 2),
    "vectors of bytes": (lambda x, y: x + y, ((1037,), (1037,)), torch.int8, lambda s: s.vector == 16),
    "vectors of two types": (lambda x: x > 0.5, ((1029,),), SINGLE, lambda s: s.vector == 8),
    "broadcast rows": (lambda x, y: x + y, ((20, 36), (36,)), SINGLE, lambda s: s.vector == 4),
    "broadcast columns": (lambda x, y: x * y, ((21, 37), (21, 1)), SINGLE, lambda s: s.vector == 1 and s.several == 4),
    "unaligned": (lambda x: x[1:] * 2, ((1030,),), SINGLE, lambda s: s.vector == 4),
    "strided": (lambda x: x[:, ::3] * 2, ((23, 100),), SINGLE, lambda s: s.form == "map"),
    "turned": (lambda x: x.permute(0, 2, 1).contiguous() * 2, ((2, 37, 45),), SINGLE, lambda s: s.tile >= 0),
    "turned halves": (lambda x: x.permute(1, 0).contiguous() + 1, ((70, 33),), BRAIN, lambda s: s.tile >= 0),
    "held rows": (lambda x: torch.softmax(x, 1), ((5, 300),), SINGLE, lambda s: s.held and s.group >= 32),
    "held odd rows": (lambda x: torch.softmax(x, 1), ((7, 67),), SINGLE, lambda s: s.held and s.ragged),
    "held rows of halves": (lambda x: torch.softmax(x, 1), ((3, 480),), BRAIN, lambda s: s.held and s.vector > 1),
    "layer norm": (normed, ((6, 264), (264,), (264,)), SINGLE, lambda s: s.held and s.vector > 1),
    "long rows": (lambda x, y, z: torch.log_softmax(x * y + z, 1), ((33, 9001),) * 3, SINGLE, lambda s: s.form == "rows" and not s.held and s.group > 1 and s.parts == 1),
    "row positions": (lambda x: (x.argmax(1), x.amax(1)), ((9, 131),), SINGLE, lambda s: s.form == "rows"),
    "shared window": (lambda x: x.sum(), ((5003,),), SINGLE, lambda s: s.parts > 1 and s.form == "rows"),
    "shared windows": (lambda x: (x.var(1, correction=0), x.mean(1)), ((3, 4096),), DOUBLE, lambda s: s.parts > 1),
    "shared positions": (lambda x: x.argmax(), ((3001,),), SINGLE, lambda s: s.parts > 1),
    "shared softmax": (lambda x: torch.softmax(x, 0), ((4099,),), SINGLE, lambda s: s.parts > 1),
    "columns": (lambda x: x.sum(0), ((700, 40),), SINGLE, lambda s: s.form == "columns" and s.several > 1),
    "shared columns": (lambda x: x.mean(0), ((4000, 37),), SINGLE, lambda s: s.form == "columns" and s.parts > 1),
    "channels": (lambda x: torch.nn.functional.batch_norm(x, None, None, training=True), ((6, 5, 12, 12),), SINGLE, lambda s: s.form == "rows"),
    "no window left": (lambda x: torch.ones(600, 20, device=x.device).sum(0) + x, ((20,),), SINGLE, lambda s: s.form == "map"),
    "a few rows": (lambda x: x.sum(1), ((40, 9),), SINGLE, lambda s: s.group == 1),
}


functional = torch.nn.functional
OTHERS = {
    "joined": (lambda x, y: torch.cat([x, y], 1) * 2, (40, 33), (40, 31)), "padded": (lambda x: functional.pad(x, (1, 2, 3, 4)) + 1, (40, 40)),
    "complex rows": (lambda x, y: torch.complex(x, y).sum(1).abs(), (20, 100), (20, 100)), "complex columns": (lambda x, y: torch.complex(x, y).sum(0).abs(), (400, 10), (400, 10)),
    "positions of bytes": (lambda x: ((x * 5).to(torch.int8).argmax(1), (x * 5).to(torch.int8).argmin(0)), (40, 300)), "looked up": (lambda x: x[(x[:, 0].abs() * 10).long() % 20], (50, 24)),
    "any": (lambda x: ((x > 2).any(1), (x > -9).all(0), (x > 5).any()), (70, 200)), "group norm": (lambda x: functional.group_norm(x, 4), (3, 8, 10, 10)),
    "layer norm's gradient": (lambda x: torch.func.grad(lambda v: (functional.layer_norm(v, (64,)) ** 3).sum())(x), (30, 64)), "two windows": (lambda x: x.sum((0, 2)), (30, 5, 50)),
    "turned rows": (lambda x: torch.softmax(x, 1), (5, 40, 12)), "pooled": (lambda x: functional.max_pool2d(x, 3, 2, 1), (2, 3, 33, 33)), "integers": (lambda x: (x * 100).int() // 7, (2001,)),
    "nothing": (lambda x: x[:0].sum(0) + 1, (5, 7)),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_numbers(name, devices):
    program, *shapes = OTHERS[name]
    same(program, *[values(shape, SINGLE, k) for k, shape in enumerate(shapes)], tolerance=1e-4)


@pytest.mark.parametrize("name", WAYS)
def test_numbers(name, nests, devices):
    program, shapes, dtype, wanted = WAYS[name]
    same(program, *[values(shape, dtype, k) for k, shape in enumerate(shapes)])
    assert any(wanted(s) for _, s in nests), [(s.form, s.vector, s.several, s.held, s.ragged, s.parts, s.group, s.tile) for _, s in nests]


def test_in_place(devices):
    """What is written where it was read."""
    for shape in ((1030,), (9, 67), (40, 128)):
        x = values(shape, SINGLE)
        y = x.cuda()
        y.mul_(2).add_(1)
        y.copy_(torch.softmax(y, -1))
        assert torch.allclose(y.cpu(), torch.softmax(x * 2 + 1, -1), 1e-6, 1e-6)


def test_same_bits(devices):
    """Sums are made in an order that only sizes decide."""
    x = values((50001,), SINGLE).cuda()
    assert len({x.sum().item() for _ in range(3)}) == 1 and (x.reshape(3, -1).sum(1) == x.clone().reshape(3, -1).sum(1)).all()


def test_wide_indices(nests, devices, monkeypatch):
    """Indices that don't fit 32 bits: the same kernels with 64."""
    monkeypatch.setattr(schedule, "fits", lambda s: False)
    same(lambda x, y: (x * y).exp().sum(1), values((11, 77), SINGLE), values((77,), SINGLE, 1))
    same(lambda x: x.t().contiguous() - 1, values((41, 39), SINGLE))
    same(lambda x: x - 1, values((999,), SINGLE))
    assert not any(s.narrow for _, s in nests)


@pytest.mark.parametrize("way,which", [("turned", 1), ("held rows", 1), ("held rows", 2), ("held rows", 3)])
def test_a_barrier_is_missed(way, which, monkeypatch):
    """A kernel without one of its barriers is caught. (The first is for blocks that go on to another tile or row.)"""
    def without(text, name, isa):
        lines = usual(text, name, isa).splitlines()
        found = [k for k, line in enumerate(lines) if re.match(r"\s*(bar|barrier)\.", line)]
        return "\n".join(line for k, line in enumerate(lines) if k not in found[which:which + 1]) + "\n"
    usual = nvptx.ptx
    monkeypatch.setattr(nest, "_programs", {})
    monkeypatch.setattr(nvptx, "ptx", without)
    program = {"turned": lambda x: x.t().contiguous() * (which + 6), "held rows": lambda x: torch.softmax(x, 1) * (which + 6.5)}[way]
    with pytest.raises((CudaError, Findings)), Machine(1, seed=which) as machine:
        monkeypatch.setattr(gpu, "_found", machine.driver())
        program(values((20, 330 + which), SINGLE).cuda()).tolist()


@pytest.mark.parametrize("divisor", [1, 2, 3, 5, 7, 641, 1000, 65535, 65537, 2**29 - 1, 2**30, 2**31 - 1])
def test_division(divisor):
    """Quotients by a multiplication are exact."""
    both = nest.divisor(divisor)
    shift, factor = both >> 32, both & 0xFFFFFFFF
    assert both < 1 << 63
    for n in {0, 1, divisor - 1, divisor, divisor + 1, 2 * divisor - 1, 2**31 - 1, (2**31 - 1) // divisor * divisor, (2**31 - 1) // divisor * divisor - 1}:
        if 0 <= n < 1 << 31: assert n * factor >> shift == n // divisor
