"""Every compute capability from 5.0 on: what is generated for it uses nothing that it lacks, asks for no PTX that a driver may not know, and computes what others do."""
import copy

import pytest

import forno as torch
from forno import cudart, gpu
from forno.core import dtype as dt
from forno.cpu.nvptx import isa_of
from forno.framework.engine import flush
from forno.gpu.chips import CHIPS, OLDEST, newest_ptx
from forno.gpu.driver import OLDEST as OLDEST_CUDA
from forno.gpu.ptx import Module, since
from forno.gpu.ptx.since import lacking
from forno.gpu.sim import Machine, Spec
from forno.graph.line import LOCAL, drop_trie
from forno.kernel.nvptx import build

from .test_products import OLDER, case, isa

OLD = {"Maxwell": ((5, 0), 12000), "Pascal": ((6, 1), 12020), "Volta": ((7, 0), 12040), "Turing": ((7, 5), 12080)}


@pytest.fixture(params=OLD)
def old(request, monkeypatch):
    """The only device of a machine, of an older kind. Its driver refuses whatever the device lacks."""
    flush()
    drop_trie()
    LOCAL.run.open(LOCAL.run.grad, LOCAL.run.inference)
    capability, version = OLD[request.param]
    machine = Machine([Spec("Simulated " + request.param, capability)], seed=3, version=version)
    with machine:
        monkeypatch.setattr(gpu, "_found", machine.driver())
        yield capability
        flush()
    drop_trie()


def test_steps(old):
    """A network with shuffles, special functions, products, convolutions and half types."""
    assert torch.cuda.get_device_capability() == old
    torch.manual_seed(0)
    here = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.BatchNorm2d(8), torch.nn.GELU(), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 40), torch.nn.Tanh(),
                               torch.nn.LayerNorm(40), torch.nn.Softmax(1))
    there, x = copy.deepcopy(here).cuda(), torch.randn(9, 3, 6, 6)
    for net in (here, there): (net(x.to(next(net.parameters()).device)) ** 2).sum().backward()
    for p, q in zip(here.parameters(), there.parameters()): assert torch.allclose(p.grad, q.grad.cpu(), 1e-3, 1e-5)
    for t in (torch.bfloat16, torch.float16):
        a, b = torch.randn(40, 64).to(t), torch.randn(64, 24).to(t)
        assert torch.allclose(torch.relu(a @ b).float(), torch.relu(a.cuda() @ b.cuda()).cpu().float(), 2e-2, 5e-2)


def test_atomics(old):
    """Additions from many threads to one place, in every type that has them, without the instructions that came later."""
    index = torch.arange(300) % 7
    for t in (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8):
        x = (torch.arange(300) % 3).to(t)
        here, there = (torch.zeros(7, dtype=t, device=x.device).index_add_(0, i, x) for x, i in ((x, index), (x.cuda(), index.cuda())))
        assert torch.equal(here, there.cpu()), t
    assert torch.equal(torch.bincount(index), torch.bincount(index.cuda()).cpu())
    keys = torch.randperm(200)
    assert torch.equal(keys.cuda().sort().values.cpu(), torch.arange(200)) and torch.equal(keys.cuda().cumsum(0).cpu(), keys.cumsum(0))


@pytest.mark.parametrize("capability", [c for c in CHIPS if c >= OLDEST], ids=str)
def test_target_and_version(capability, monkeypatch):
    """Under the oldest driver, and the oldest that knows the chip: the newest target there is, in the lowest PTX that has what is used."""
    chip = CHIPS[capability]
    for version in {OLDEST_CUDA, max(OLDEST_CUDA, chip.cuda)}:
        monkeypatch.setattr(gpu, "_found", Machine([Spec(capability=capability)], version=version).driver())
        target, ptx = cudart.target(0)
        known = [c for c in CHIPS.values() if c.capability <= capability and c.ptx <= newest_ptx(version)]
        assert target == known[-1].target and max(known[-1].ptx, 63) <= ptx <= newest_ptx(version)
        text = build.build(case(64, 64, 64)[0], isa_of(target, ptx)).ptx
        assert f".version {ptx // 10}.{ptx % 10}\n" in text and f".target {target}\n" in text
        assert lacking(Module(text).source) == []


@pytest.mark.parametrize("target", OLDER)
def test_products_lack_nothing(target):
    """Of what no assembler at hand is asked about."""
    for t in (dt.float32, dt.float64, dt.bfloat16, dt.complex64, dt.int64):
        for shape in ((40, 40, 40), (3, 70, 260), (20, 30, 1500)):
            launch = build.build(case(*shape, t)[0], isa(target))
            for one in (launch, *launch.then): assert lacking(Module(one.ptx).source) == [], (t, shape)


def test_table():
    """What the table says of single instructions, and that it knows what it doesn't know."""
    found = {text: since.of_opcode(tuple(text.split("."))) for text in (
        "shfl.sync.bfly.b32", "add.rn.f32", "atom.global.add.f64", "atom.global.cas.b32", "atom.sys.global.add.f32", "mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32",
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", "cvt.rn.bf16.f32", "cvt.f32.bf16", "red.relaxed.gpu.global.add.noftz.bf16x2", "ld.global.nc.L2::256B.v4.b32")}
    assert list(found.values()) == [(30, 60), (30, 31), (60, 50), (30, 31), (60, 50), (75, 65), (80, 70), (80, 70), (90, 78), (90, 78), (80, 74)]
    with pytest.raises(NotImplementedError, match="frobnicate"): since.of_opcode(("frobnicate", "b32"))
    text = build.build(case(64, 64, 64, dt.float16)[0], isa("sm_80")).ptx
    for bad in (text.replace(".target sm_80", ".target sm_70"), text.replace(".version 7.0", ".version 6.3")):
        assert any("needs sm_80 and PTX 7.0" in line for line in lacking(Module(bad).source))
