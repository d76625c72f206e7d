"""Helpers of the PTX tests: kernels from LLVM IR, launches on arrays, and ptxas where it is installed."""
import functools
import glob
import importlib.util
import os
import struct
import subprocess
import sys

import llvmlite.binding as llvm
import numpy as np

from forno.gpu.ptx import Memory, Module

HEAD = ".version 8.0\n.target sm_90\n.address_size 64\n"
LAUNCHED: dict[str, None] = {}                 # every text that a test has run in this process, in order


@functools.cache
def target():
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    return llvm.Target.from_triple("nvptx64-nvidia-cuda")


@functools.cache
def emitted(ir: str, cpu: str = "sm_80", features: str = "+ptx75", opt: int = 3) -> str:
    """PTX of an IR text, as LLVM writes it."""
    with llvm.create_context() as context, llvm.parse_assembly('target triple = "nvptx64-nvidia-cuda"\n' + ir, context) as module:
        module.verify()
        machine = target().create_target_machine(cpu=cpu, features=features, opt=opt)
        if opt:
            builder = llvm.create_pass_builder(machine, llvm.create_pipeline_tuning_options(speed_level=opt))
            builder.getModulePassManager().run(module, builder)
        return machine.emit_assembly(module)


def words(*values) -> bytes: return b"".join(struct.pack("<d" if isinstance(v, float) else "<Q", v if isinstance(v, float) else v & (1 << 64) - 1) for v in values)


def launch(text, arrays, *numbers, grid=1, block=32, shared=0, seed=0, exact=True, params=None, **more):
    """Runs the first entry of a PTX text on copies of arrays, whose addresses are its first parameters; returns what they hold then."""
    module = text if isinstance(text, Module) else Module(text)
    if isinstance(text, str): LAUNCHED[text] = None
    memory = Memory()
    places = [memory.put(a) for a in arrays]
    program = next(iter(module.entries.values())).program(exact)
    packed = words(*places, *numbers) if params is None else words(*places) + params
    program.run(grid if isinstance(grid, tuple) else (grid,), block if isinstance(block, tuple) else (block,), shared, packed, memory, seed, **more)
    return [memory.read(p, a.shape, a.dtype) for p, a in zip(places, arrays)]


@functools.cache
def ptxas() -> str | None:
    """The assembler of the package nvidia-cuda-nvcc, or of an installed toolkit."""
    spec = importlib.util.find_spec("nvidia")
    found = [p for root in (spec.submodule_search_locations if spec else ()) for p in glob.glob(os.path.join(root, "**", "bin", "ptxas*"), recursive=True)]
    found += glob.glob("/usr/local/cuda*/bin/ptxas")
    return next((p for p in found if os.access(p, os.X_OK)), None)


def assemble(text: str, arch: str, folder) -> str:
    """What ptxas says against a text; empty if nothing."""
    path = os.path.join(folder, "kernel.ptx")
    with open(path, "w") as f: f.write(text)
    done = subprocess.run([ptxas(), f"-arch={arch}", path, "-o", os.path.join(folder, "kernel.cubin")], capture_output=True, text=True, timeout=120, check=False)
    return done.stdout + done.stderr if done.returncode else ""


def whole_file(request) -> bool:
    """For a test that is about all others of its file: where it was chosen without them, they and it are run in a process of their own, and the answer is True."""
    if sum([item.path == request.path for item in request.session.items]) > 1: return False
    done = subprocess.run([sys.executable, "-m", "pytest", str(request.path), "-m", "", "-p", "no:cacheprovider"], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout[-4000:]
    return True


def to_bf16(x) -> np.ndarray:
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


def from_bf16(h) -> np.ndarray: return (h.astype(np.uint32) << 16).view(np.float32)
