"""What bench/gpu.py launches, at its full sizes, on a simulated GPU that computes nothing: is every kernel built, every launch accepted, every kernel assembled without spills?

    python bench/gpu_dry.py [--keep FOLDER] [NAME …]          families of kernels and workloads; by default all families and resnet18, gpt, lstm_lm

Planning, PTX, the driver's checks of code and launches, memory and streams are the simulator's as ever; kernels alone are skipped, so results mean nothing, and a step takes
seconds instead of hours. Where ptxas is installed (pip install nvidia-cuda-nvcc), it assembles what was loaded for the device's chip. --keep leaves the PTX in a folder.
"""
from __future__ import annotations

import argparse
import contextlib
import glob
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]
import worker  # noqa: E402
from gpu import FIRST  # noqa: E402
from gpu_cases import FAMILIES, Library, families  # noqa: E402
from workloads import WORKLOADS  # noqa: E402

from forno import gpu  # noqa: E402
from forno.cudart import code  # noqa: E402
from forno.gpu.sim import Machine, Spec, work  # noqa: E402
from tests.gpu.ptx_tools import ptxas  # noqa: E402

STEPS, NBYTES = 3, 96 << 30                    # of what is run; of the device's memory, which nobody touches


def prepare(folder: str) -> Machine:
    """A machine whose kernels do nothing; the PTX that it loads goes to a folder."""
    work.Kernel.run = lambda self, machine, op: 1e-6
    load = code.function

    def function(driver, index: int, ptx: str, name: str) -> int:
        (pathlib.Path(folder) / f"{name}-{hashlib.sha1(ptx.encode()).hexdigest()[:12]}.ptx").write_text(ptx, encoding="utf-8")
        return load(driver, index, ptx, name)
    code.function = function
    machine = Machine([Spec(nbytes=NBYTES)])
    gpu._found = machine.driver()
    return machine


def family(library: Library, name: str):
    step, *_ = families(library, False)[name]()
    library.rounding("tf32" in name)
    for _ in range(STEPS):
        y = step()
        library.flush()
        del y
    library.rounding(False)
    library.wait()


def workload(library: Library, name: str, mode: str):
    library.torch.set_default_device("cuda")
    try:
        step = worker.program("forno", mode, name)()
        for _ in range(STEPS): step()
        library.wait()
    finally: library.torch.set_default_device("cpu")


def assembled(folder: str) -> list[str]:
    """What ptxas has against the kernels."""
    out = []
    for path in sorted(glob.glob(f"{folder}/*.ptx")):
        done = subprocess.run([ptxas(), "-arch=sm_90", "-v", path, "-o", os.devnull], capture_output=True, text=True, check=False)
        said = (done.stdout + done.stderr).splitlines()
        out += [f"{os.path.basename(path)}: {line.strip()}" for line in said if done.returncode or "spill" in line and " 0 bytes spill stores, 0 bytes spill loads" not in line]
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", default=[*FAMILIES, *FIRST])
    parser.add_argument("--keep", metavar="FOLDER", help="where the PTX stays")
    options = parser.parse_args()
    if unknown := set(options.names) - {*FAMILIES, *WORKLOADS}: parser.error(f"there is no {', '.join(sorted(unknown))}")
    with contextlib.ExitStack() as ended:
        folder = options.keep or ended.enter_context(tempfile.TemporaryDirectory())
        os.makedirs(folder, exist_ok=True)
        machine, bad = prepare(folder), []
        library = Library("forno")
        for name, mode in [(n, m) for n in options.names for m in (("",) if n in FAMILIES else ("eager", "compile"))]:
            began = time.monotonic()
            try: family(library, name) if name in FAMILIES else workload(library, name, mode)
            except Exception as e:
                bad.append(f"{name} {mode}: {type(e).__name__}: {e}")
                library.forget()
            print(f"{name} {mode}: {'failed' if bad and bad[-1].startswith(f'{name} {mode}:') else 'accepted'}, {time.monotonic() - began:.1f} s", flush=True)
        bad += [str(f) for f in machine.findings()]
        print(f"{len(os.listdir(folder))} kernels" + ("" if ptxas() else "; ptxas isn't installed"), flush=True)
        if ptxas(): bad += assembled(folder)
        if bad: sys.exit("\n".join(bad))


if __name__ == "__main__": main()
