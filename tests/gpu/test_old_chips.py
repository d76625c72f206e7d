"""Every compute capability from 5.0 on: what is generated for it uses nothing that it lacks, asks for no PTX that a driver may not know, and computes what others do."""
import copy
import importlib.util
import os
import re
import subprocess

import pytest

import forno as torch
from forno import cudart, gpu
from forno.core import dtype as dt
from forno.cpu.nvptx import isa_of
from forno.framework.engine import flush
from forno.gpu.chips import CHIPS, OLDEST, newest_ptx
from forno.gpu.driver import OLDEST as OLDEST_CUDA
from forno.gpu.ptx import Module, since
from forno.gpu.ptx.parse import parse
from forno.gpu.ptx.since import lacking
from forno.gpu.sim import Machine, Spec
from forno.kernel.nvptx import build

from . import ptx_tools as tools
from .test_products import OLDER, case, isa, templates

OLD = {"Maxwell": ((5, 0), 12000), "Pascal": ((6, 1), 12020), "Volta": ((7, 0), 12040), "Turing": ((7, 5), 12080)}


@pytest.fixture(params=OLD)
def old(request, monkeypatch, fresh):
    """The only device of a machine, of an older kind. Its driver refuses whatever the device lacks."""
    capability, version = OLD[request.param]
    machine = Machine([Spec("Simulated " + request.param, capability)], seed=3, version=version)
    with machine:
        monkeypatch.setattr(gpu, "_found", machine.driver())
        yield capability
        flush()


@pytest.mark.parametrize("old", ["Maxwell", "Turing"], indirect=True)
def test_steps(old):
    """A network with shuffles, special functions, products, convolutions and half types."""
    assert torch.cuda.get_device_capability() == old
    torch.manual_seed(0)
    here = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), torch.nn.GELU(), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 40), torch.nn.LayerNorm(40), torch.nn.Softmax(1))
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
    for t in (dt.float32, dt.bfloat16, dt.float64):
        for shape in ((40, 40, 40), (3, 70, 260), (20, 30, 1500)):
            launch = build.build(case(*shape, t)[0], isa(target))
            for one in (launch, *launch.then): assert lacking(Module(one.ptx).source) == [], (t, shape)


def older_ptxas() -> str | None:
    """The assembler of CUDA 12, the last one that knows these chips."""
    spec = importlib.util.find_spec("nvidia")
    found = [os.path.join(folder, "cuda_nvcc", "bin", "ptxas") for folder in (spec.submodule_search_locations if spec else ())]
    return next((path for path in found if os.access(path, os.X_OK)), None)


@pytest.mark.slow
@pytest.mark.skipif(older_ptxas() is None, reason="needs ptxas of CUDA 12 (pip install nvidia-cuda-nvcc-cu12)")
@pytest.mark.parametrize("target", OLDER)
def test_machine_code(target, tmp_path):
    """Every template of products, without spills."""
    for name, make in templates(target):
        path = tmp_path / "kernel.ptx"
        path.write_text(make())
        done = subprocess.run([older_ptxas(), "-v", f"-arch={target}", path, "-o", tmp_path / "kernel.cubin"], capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0 and re.findall(r"(\d+) bytes spill", done.stderr) == ["0", "0"], (name, done.stdout + done.stderr)


SAMPLES = """
lop3.b32 %r1, %r2, %r3, %r1, 0x80;
dp4a.u32.u32 %r1, %r2, %r3, %r1;
bmsk.clamp.b32 %r1, %r2, %r3;
szext.wrap.s32 %r1, %r2, %r3;
nanosleep.u32 20;
shfl.sync.bfly.b32 %r1, %r2, 1, 31, -1;
vote.sync.ballot.b32 %r1, %p1, -1;
match.any.sync.b32 %r1, %r2, -1;
activemask.b32 %r1;
redux.sync.add.s32 %r1, %r2, -1;
elect.sync %r1|%p1, -1;
bar.warp.sync -1;
barrier.sync 0;
barrier.cta.sync 0;
barrier.cluster.arrive;
fence.acq_rel.gpu;
fence.sc.cluster;
fence.proxy.alias;
fence.proxy.async;
griddepcontrol.wait;
mbarrier.init.b64 [%a1], 1;
ld.relaxed.gpu.global.b32 %r1, [%a1];
ld.acquire.sys.global.b32 %r1, [%a1];
ld.weak.global.b32 %r1, [%a1];
st.release.gpu.global.b32 [%a1], %r1;
st.relaxed.sys.global.b32 [%a1], %r1;
ld.global.nc.b32 %r1, [%a1];
ld.global.L1::no_allocate.b32 %r1, [%a1];
ld.global.L2::128B.b32 %r1, [%a1];
ld.global.L2::256B.b32 %r1, [%a1];
ld.global.v4.b64 {%a1, %a2, %a3, %a4}, [%a5];
ld.global.v8.b32 {%r1, %r2, %r3, %r4, %r5, %r6, %r7, %r8}, [%a5];
ld.shared::cta.b32 %r1, [%a1];
ld.volatile.global.b32 %r1, [%a1];
atom.global.add.u32 %r1, [%a1], %r2;
atom.sys.global.add.u32 %r1, [%a1], %r2;
atom.gpu.global.add.u32 %r1, [%a1], %r2;
atom.relaxed.gpu.global.add.u32 %r1, [%a1], %r2;
atom.acq_rel.gpu.global.cas.b32 %r1, [%a1], %r2, %r3;
atom.global.add.f64 %d1, [%a1], %d2;
atom.global.add.f32 %f1, [%a1], %f2;
atom.global.max.s64 %a1, [%a2], %a3;
atom.global.and.b64 %a1, [%a2], %a3;
atom.global.add.noftz.f16 %h1, [%a1], %h2;
atom.global.add.noftz.f16x2 %r1, [%a1], %r2;
atom.global.add.noftz.bf16 %h1, [%a1], %h2;
atom.global.add.noftz.bf16x2 %r1, [%a1], %r2;
atom.global.cas.b16 %h1, [%a1], %h2, %h3;
red.global.add.v4.f32 [%a1], {%f1, %f2, %f3, %f4};
red.relaxed.gpu.global.add.f32 [%a1], %f1;
cp.async.cg.shared.global [%a1], [%a2], 16;
cp.async.commit_group;
ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%r1, %r2, %r3, %r4}, [%a1];
stmatrix.sync.aligned.m8n8.x4.shared.b16 [%a1], {%r1, %r2, %r3, %r4};
prefetch.global.L2 [%a1];
mapa.u64 %a1, %a2, %r1;
mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r1, %r2}, {%r3}, {%f1, %f2, %f3, %f4};
mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%f1, %f2, %f3, %f4}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4};
mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%f1, %f2, %f3, %f4}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4};
mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%f1, %f2, %f3, %f4}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4};
mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%f1, %f2, %f3, %f4}, {%r1, %r2}, {%r3}, {%f1, %f2, %f3, %f4};
mma.sync.aligned.m8n8k16.row.col.s32.s8.s8.s32 {%r1, %r2}, {%r3}, {%r4}, {%r5, %r6};
mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%r1, %r2, %r3, %r4}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%r1, %r2, %r3, %r4};
mma.sync.aligned.m8n8k4.row.col.f64.f64.f64.f64 {%d1, %d2}, {%d1}, {%d2}, {%d1, %d2};
mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32 {%f1, %f2, %f3, %f4}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%f1, %f2, %f3, %f4};
add.f16 %h1, %h2, %h3;
mul.f16x2 %r1, %r2, %r3;
add.rn.bf16 %h1, %h2, %h3;
mul.bf16x2 %r1, %r2, %r3;
fma.rn.f16 %h1, %h2, %h3, %h1;
fma.rn.bf16 %h1, %h2, %h3, %h1;
fma.rn.relu.f16 %h1, %h2, %h3, %h1;
neg.f16 %h1, %h2;
neg.bf16 %h1, %h2;
abs.f16 %h1, %h2;
abs.bf16x2 %r1, %r2;
min.f16 %h1, %h2, %h3;
max.bf16x2 %r1, %r2, %r3;
min.NaN.f32 %f1, %f2, %f3;
max.xorsign.abs.f32 %f1, %f2, %f3;
max.s16x2 %r1, %r2, %r3;
max.relu.s32 %r1, %r2, %r3;
setp.lt.f16 %p1, %h1, %h2;
setp.lt.bf16 %p1, %h1, %h2;
tanh.approx.f32 %f1, %f2;
tanh.approx.f16 %h1, %h2;
tanh.approx.bf16 %h1, %h2;
ex2.approx.f16 %h1, %h2;
ex2.approx.ftz.bf16 %h1, %h2;
ex2.approx.ftz.f32 %f1, %f2;
cvt.rn.bf16.f32 %h1, %f1;
cvt.rn.bf16x2.f32 %r1, %f1, %f2;
cvt.rn.f16x2.f32 %r1, %f1, %f2;
cvt.rn.f16.f32 %h1, %f1;
cvt.f32.f16 %f1, %h1;
cvt.f32.bf16 %f1, %h1;
cvt.rna.tf32.f32 %r1, %f1;
cvt.rn.tf32.f32 %r1, %f1;
cvt.pack.sat.s8.s32.b32 %r1, %r2, %r3, %r1;
add.rn.f32x2 %a1, %a2, %a3;
shf.l.wrap.b32 %r1, %r2, %r3, 3;
mov.u32 %r1, %clusterid.x;
createpolicy.fractional.L2::evict_last.b64 %a1, 1.0;
copysign.f32 %f1, %f2, %f3;
"""
KERNEL = """.version 4.0
.target sm_50
.address_size 64
.visible .entry k()
{
.reg .pred %p<9>; .reg .b16 %h<9>; .reg .b32 %r<9>; .reg .b64 %a<9>; .reg .f32 %f<9>; .reg .f64 %d<9>;""" + SAMPLES + "ret;\n}\n"


@pytest.mark.skipif(tools.ptxas() is None, reason="needs ptxas (pip install nvidia-cuda-nvcc)")
def test_table(tmp_path):
    """What the table says of instructions, against what NVIDIA's assembler says of all of them for the oldest chip in an old PTX."""
    said = tools.assemble(KERNEL, "sm_75", tmp_path)
    told = {}
    for line, what, major, minor in re.findall(r"line (\d+); error\s*: .* requires (\.target sm_|PTX ISA \.version )(\d+)\.?(\d*)", said):
        chip, version = told.get(int(line), (50, 40))
        told[int(line)] = (max(chip, int(major)), version) if "target" in what else (chip, max(version, 10 * int(major) + int(minor)))
    rows = [s for s in parse(KERNEL).functions["k"].body if s.opcode != "ret"]
    assert len(rows) == SAMPLES.count(";") and len(told) > 80
    for s in rows:
        chip, version = since.needs(s)
        assert (max(chip, 50), max(version, 40)) == told.get(s.line, (50, 40)), s.text


def test_lacking():
    """By target and by version; what isn't in the table is no guess."""
    with pytest.raises(NotImplementedError, match="frobnicate"): since.of_opcode(("frobnicate", "b32"))
    text = build.build(case(64, 64, 64, dt.float16)[0], isa("sm_80")).ptx
    assert lacking(Module(text).source) == []
    for bad in (text.replace(".target sm_80", ".target sm_70"), text.replace(".version 7.0", ".version 6.3")):
        assert any("needs sm_80 and PTX 7.0" in line for line in lacking(Module(bad).source))
