"""Facts of machine code without a GPU: what NVIDIA's assembler makes of every template of kernels, for every generation of chips.

    python -m tests.gpu.sass [--chips sm_80,sm_90] [--families nests,products,routines,variants] [part of a name …]

prints registers per thread, spills and stack in bytes, and the loads and stores of global memory by width: as docs/performance.md has them. Widths are those of the
PTX, which ptxas keeps. With nvdisasm on the path (pip install nvidia-cuda-nvdisasm) they are those of sm_90's machine code, and instructions are counted.
test_sass.py asserts that nothing spills.
"""
from __future__ import annotations

import argparse
import collections
import contextlib
import functools
import itertools
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass

import forno as torch
from forno import gpu
from forno.cpu import nvptx
from forno.framework import device
from forno.framework.engine import flush
from forno.gpu.sim import Machine
from forno.kernel.nvptx import build

from . import test_products, test_routines
from .ptx_tools import ptxas

TARGETS = {"sm_75": 63, "sm_80": 70, "sm_90": 78, "sm_100": 86, "sm_120": 87}
COUNTED = "sm_90"                             # the chip whose accesses the table counts
REGISTERS = 65536
F = torch.nn.functional
SINGLE, DOUBLE, HALF, BRAIN = torch.float32, torch.float64, torch.float16, torch.bfloat16


@dataclass(frozen=True)
class Facts:
    threads: int                               # of a block
    registers: int
    spilled: int                               # bytes stored and loaded
    stack: int
    shared: int
    loads: dict[int, int]                      # of global memory: bytes of an access -> how many there are
    stores: dict[int, int]
    copies: int                                # of 16 bytes, asynchronous, to shared memory
    instructions: int                          # 0: nobody has counted


def isa(target: str): return nvptx.isa_of(target, TARGETS[target])


# ---------------------------------------------------------------- the assembler
def facts(text: str, target: str) -> Facts:
    with tempfile.TemporaryDirectory() as folder:
        path, out = os.path.join(folder, "kernel.ptx"), os.path.join(folder, "kernel.cubin")
        with open(path, "w") as f: f.write(text)
        done = subprocess.run([ptxas(), "-v", f"-arch={target}", path, "-o", out], capture_output=True, text=True, timeout=120, check=False)
        said = done.stdout + done.stderr
        if done.returncode: raise RuntimeError(f"ptxas: {said}")
        accesses = in_machine_code(out) if shutil.which("nvdisasm") else in_text(text)
    def total(pattern): return sum(map(int, re.findall(pattern, said)))
    threads = int(re.search(r"\.maxntid (\d+)", text)[1])
    return Facts(threads, total(r"Used (\d+) registers"), total(r"(\d+) bytes spill"), total(r"(\d+) bytes stack frame"), total(r"(\d+) bytes smem"), *accesses)


def in_text(text: str):
    """Accesses of global memory by bytes, as the PTX has them: (loads, stores, asynchronous copies, 0)"""
    found = {"ld": collections.Counter(), "st": collections.Counter()}
    for what, vector, bits in re.findall(r"\b(ld|st)\.(?:relaxed\.\w+\.|volatile\.)?global(?:\.nc)?(?:\.L\w+::\w+)*(?:\.v(\d))?\.\w(\d+)", text): found[what][int(vector or 1) * int(bits) // 8] += 1
    return dict(found["ld"]), dict(found["st"]), len(re.findall(r"\bcp\.async\.cg\.shared(?:::\w+)?\.global", text)), 0


def in_machine_code(path: str):
    text = subprocess.run(["nvdisasm", "-c", path], capture_output=True, text=True, timeout=120, check=True).stdout
    found = {"LDG": collections.Counter(), "STG": collections.Counter()}
    for what, modifiers in re.findall(r"\b(LDG|STG)((?:\.\w+)*)", text):
        width = next((m for m in modifiers.split(".") if re.fullmatch(r"128|64|[US]?16|[US]?8", m)), "32")
        found[what][int(width.lstrip("US")) // 8] += 1
    return dict(found["LDG"]), dict(found["STG"]), len(re.findall(r"\bLDGSTS\S*\.128", text)), len(re.findall(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?!.*\bNOP\b).+;", text, re.MULTILINE))


# ---------------------------------------------------------------- templates: name -> what makes its kernels' texts for a target
def normed(x, w, b): return F.layer_norm(x, x.shape[-1:], w, b)


PROGRAMS = {
    "x * 2 + y": (lambda x, y: x * 2 + y, ((1 << 20,),) * 2, (SINGLE, BRAIN, DOUBLE, torch.int8)),
    "gelu(x + bias), tanh": (lambda x, b: F.gelu(x + b, approximate="tanh"), ((1024, 1024), (1024,)), (SINGLE, BRAIN)),
    "gelu(x)": (F.gelu, ((1 << 20,),), (SINGLE,)), "sin(x)": (torch.sin, ((1 << 20,),), (SINGLE, DOUBLE)), "pow(x, y)": (torch.pow, ((1 << 20,),) * 2, (SINGLE,)),
    "lgamma(x)": (torch.lgamma, ((1 << 20,),), (SINGLE,)), "log(x)": (torch.log, ((1 << 20,),), (SINGLE, BRAIN)), "x[:, ::3] * 2": (lambda x: x[:, ::3] * 2, ((230, 1000),), (SINGLE,)),
    "x.t().contiguous() * 2": (lambda x: x.t().contiguous() * 2, ((1024, 1024),), (SINGLE,)),
    "softmax of 1024": (lambda x: torch.softmax(x, 1), ((512, 1024),), (SINGLE,)), "softmax of 4096": (lambda x: torch.softmax(x, 1), ((512, 4096),), (BRAIN,)),
    "softmax of 16384": (lambda x: torch.softmax(x, 1), ((64, 16384),), (SINGLE,)), "softmax of 100,000": (lambda x: torch.softmax(x, 1), ((64, 100000),), (SINGLE,)),
    "layer norm of 4096": (normed, ((512, 4096), (4096,), (4096,)), (SINGLE, BRAIN)), "sum of 2^18": (torch.sum, ((1 << 18,),), (SINGLE,)),
    "argmax of rows of 5000": (lambda x: x.argmax(1), ((512, 5000),), (SINGLE,)), "variance of 2^18": (torch.var, ((1 << 18,),), (DOUBLE,)),
    "batch norm": (lambda x: F.batch_norm(x, None, None, training=True), ((8, 16, 64, 64),), (SINGLE,)), "sum of 4096 rows of 96": (lambda x: x.sum(0), ((4096, 96),), (SINGLE,)),
}


def idle(self, buffers, scalars):
    """What DeviceRunner does, without its launches."""
    made, taken = dict(self.made), dict(self.taken)
    return device.shown(self, buffers, [device.device_memory.empty(made[j], self.device) if j in made else buffers[taken[j]] for j in range(self.outs)])


@contextlib.contextmanager
def instead(owner, name: str, value):
    before = getattr(owner, name)
    setattr(owner, name, value)
    try: yield
    finally: setattr(owner, name, before)


@functools.cache
def kernels_of(name: str, dtype) -> list:
    """The kernels that a program is planned as; none of them runs."""
    program, shapes, _ = PROGRAMS[name]
    found, make = [], build.build_all

    def spy(kernels, isa):
        found.extend(kernels)
        return make(kernels, isa)
    flush()
    with Machine(1, seed=1) as machine, instead(gpu, "_found", machine.driver()), instead(device.DeviceRunner, "__call__", idle):
        xs = [torch.empty(shape, dtype=dtype, device="cuda") for shape in shapes]
        flush()
        with instead(build, "build_all", spy):
            kept = program(*xs)
            flush()
        del xs, kept
        flush()
    return found


def chained(launch): return [(one.name, one.ptx) for one in (launch, *launch.then)]


def nests(target: str):
    for name, (_, _, dtypes) in PROGRAMS.items():
        for t in dtypes: yield f"{name} | {str(t).removeprefix('torch.')}", lambda name=name, t=t: [x for k in kernels_of(name, t) for x in chained(build.build(k, isa(target)))]


def products(target: str):
    for name, make in test_products.templates(target): yield name, lambda make=make: [("product", make())]


def routines(target: str, natives=test_routines.natives):
    seen = collections.Counter()
    for n in natives():
        seen[n.name] += 1
        types = ", ".join(dict.fromkeys(str(o.dtype).removeprefix("torch.") for o in n.operands))
        yield f"{n.name} {seen[n.name]} | {types}", lambda n=n: chained(build.build(n, isa(target)))


def variants(target: str): return routines(target, test_routines.variants)


USUAL = {"nests": nests, "products": products, "routines": routines}
FAMILIES = {**USUAL, "variants": variants}


def templates(family: str, targets=tuple(TARGETS)) -> dict[str, dict]:
    """name -> target -> what makes the kernels there, as (name, PTX)"""
    out: dict[str, dict] = {}
    for target in targets:
        for name, make in FAMILIES[family](target): out.setdefault(name, {})[target] = make
    return out


def table(targets, families, parts):
    print("| program | dtype | kernel, threads | registers | loads | stores | instructions |\n|---|---|---|---|---|---|---|")
    for name, makes in itertools.chain.from_iterable(templates(f, targets).items() for f in families):
        if parts and not any(p in name for p in parts): continue
        rows: dict = {}
        for target, make in makes.items():
            for k, (kernel, text) in enumerate(make()): rows.setdefault((k, kernel), {})[target] = facts(text, target)
        for (_, kernel), found in rows.items():
            notes = [f"{f.registers} (spills {f.spilled}, stack {f.stack})" if f.spilled or f.stack else str(f.registers) for f in found.values()]
            shown = found.get(COUNTED) or next(iter(found.values()))
            counts = [", ".join(f"{n} of {size}" for size, n in sorted(c.items(), reverse=True)) for c in (shown.loads, shown.stores)]
            if shown.copies: counts[0] += f", {shown.copies} copies of 16"
            program, _, dtype = name.replace("torch.", "").partition(" | ")
            print(f"| `{program}` | {dtype} | {kernel}, {shown.threads} | {', '.join(notes)} | {counts[0]} | {counts[1]} | {shown.instructions or ''} |", flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--chips", default=",".join(TARGETS))
    parser.add_argument("--families", default=",".join(USUAL))
    parser.add_argument("parts", nargs="*")
    given = parser.parse_args()
    table(given.chips.split(","), given.families.split(","), given.parts)


if __name__ == "__main__": main()
