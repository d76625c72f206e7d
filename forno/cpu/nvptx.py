"""LLVM IR text to PTX, the assembly of NVIDIA GPUs, which the driver turns into machine code.

Comes in: IR text of a kernel and what it is for. Goes out: PTX, from this process, from the folder of compiled code, or from LLVM. LLVM ends the process when it
meets an intrinsic that it can't select for a GPU, so only those on a list are let through.
"""
from __future__ import annotations

import dataclasses
import functools
import hashlib
import re

import llvmlite
import llvmlite.binding as llvm

from . import code, emit
from .isa import Isa

FORMAT = 1                                     # raise it when the same text becomes other PTX
TRIPLE = "nvptx64-nvidia-cuda"
# what LLVM 22 selects by itself, by name without the types behind it
SELECTED = frozenset("""abs bitreverse bswap canonicalize ceil copysign ctlz ctpop cttz fabs floor fma fptosi.sat fptoui.sat fshl fshr maximum maxnum memcpy memset
    minimum minnum nearbyint rint round roundeven sadd.sat smax smin sqrt ssub.sat trunc uadd.sat umax umin usub.sat umul.with.overflow smul.with.overflow
    vector.reduce.add vector.reduce.or vector.reduce.and""".split())
NVVM = frozenset("""read.ptx.sreg.tid.x read.ptx.sreg.tid.y read.ptx.sreg.ntid.x read.ptx.sreg.ctaid.x read.ptx.sreg.ctaid.y read.ptx.sreg.ctaid.z read.ptx.sreg.nctaid.x
    read.ptx.sreg.nctaid.y read.ptx.sreg.laneid barrier.cta.sync.aligned.all bar.warp.sync shfl.sync.bfly.i32 shfl.sync.idx.i32 shfl.sync.up.i32 shfl.sync.down.i32
    vote.all.sync vote.any.sync vote.ballot.sync membar.cta membar.gl membar.sys ex2.approx.ftz.f lg2.approx.ftz.f rcp.approx.ftz.f rsqrt.approx.ftz.f
    ex2.approx.f lg2.approx.f rsqrt.approx.f sqrt.approx.ftz.f saturate.f
    prefetch.global.L2 cp.async.cg.shared.global.16.s cp.async.commit.group cp.async.wait.group ldmatrix.sync.aligned.m8n8.x4.b16.p3
    ldmatrix.sync.aligned.m8n8.x4.trans.b16.p3 mma.m16n8k8.row.col.f32.f32 mma.m16n8k16.row.col.bf16 mma.m16n8k16.row.col.f32.f32 mma.m16n8k8.row.col.tf32 f2tf32.rna""".split())
APPROXIMATE = frozenset(("tanh",))              # what it selects where a call says "afn", and nowhere else
_NAME = re.compile(r"@(llvm\.[\w.]+)")
_TYPES = re.compile(r"(\.(v\d+)?(i\d+|f\d+|bf16|p\d+))+$")


class Refused(emit.BadCode):
    """IR that can't become PTX here."""


def number_of(target: str) -> int:
    """80 of "sm_80", 90 of "sm_90a"."""
    return int(re.sub(r"\D", "", target))


def isa_of(target: str, ptx: int) -> Isa:
    """What to generate for GPUs of a target ("sm_80") in this version of PTX (63 is 6.3)."""
    number = number_of(target)
    # instructions for tanh, for rounding to bfloat16, for additions in memory: the first target and PTX that have them
    since = (("tanh", 75, 70), ("bf16", 80, 70), ("red.f64", 60, 50), ("cas.b16", 70, 63), ("red.bf16", 90, 78), ("red.v4", 90, 81))
    return Isa("ptx", target, f"+ptx{ptx}", 16, frozenset(("fma", "sse4.1", "f16c", *(name for name, chip, version in since if number >= chip and ptx >= version))))


def at_least(isa: Isa, ptx: int) -> Isa:
    """The same for a kernel that needs this version of PTX. (All drivers that forno works with know 8.0.)"""
    return isa if int(isa.features.removeprefix("+ptx")) >= ptx else dataclasses.replace(isa, features=f"+ptx{ptx}")


@functools.cache
def _target(cpu: str, features: str):
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple(TRIPLE).create_target_machine(cpu=cpu, features=features, opt=2)


def check(text: str, name: str):
    """Refuse what would end the process, or would be left for a linker that there isn't."""
    for full in set(_NAME.findall(text)):
        rest = full[5:]
        if rest.startswith("nvvm."):
            if rest[5:] not in NVVM: raise Refused(f"{name}: {full} is not on the list of what LLVM is known to select for GPUs")
        elif _TYPES.sub("", rest) in APPROXIMATE and all(" afn " in line for line in text.splitlines() if f"@{full}(" in line and " call " in line): continue
        elif _TYPES.sub("", rest) not in SELECTED: raise Refused(f"{name}: {full} can't be selected for GPUs")


@functools.cache
def ptx(text: str, name: str, isa: Isa) -> str:
    """The PTX of kernel `name`."""
    key = hashlib.sha256(f"ptx{FORMAT}|{llvm.llvm_version_info}|{llvmlite.__version__}|{isa.cpu}|{isa.features}|{name}|{text}".encode()).digest()
    known = code.cache.read(key)
    if known is not None: return known.decode()
    check(text, name)
    out = code.exclusively(lambda: _made(text, name, isa))
    if ".extern .func" in out: raise Refused(f"{name}: it calls a function that nobody defines: {out[out.index('.extern .func'):].splitlines()[0]}")
    code.cache.write(key, out.encode())
    return out


def _made(text: str, name: str, isa: Isa) -> str:
    machine = _target(isa.cpu, isa.features)
    with emit.parsed(text, name) as module:
        module.triple, module.data_layout = TRIPLE, str(machine.target_data)
        emit.tidy(module, llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=1)))
        return machine.emit_assembly(module)
