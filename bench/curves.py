"""Correctness at speed: every training program's losses over 50 steps, forno's beside PyTorch's from the same seed.

    python bench/curves.py [NAME …] [--steps 50] [--mode eager|compile]

A distance is the largest of |a - b| / max(|a|, |first loss| / 100) over the steps. What float32 noise means for a program is measured, not assumed: PyTorch
runs twice, as on this processor and as on an older one (PLAIN), whose sums have another order. Training amplifies the last digits, a GAN's most. A program
agrees while forno is no further from PyTorch than TIMES the distance between PyTorch's two runs, or LEAST. Programs without training give the same number in
every step: one is compared. Exit status 1 if one disagrees.
"""
from __future__ import annotations

import argparse
import importlib
import json
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))
from workloads import PROGRAMS  # noqa: E402

TIMES, LEAST = 4, 1e-5
PLAIN = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "COMPATIBLE"}
CONSTANT = ("resnet50_1", "resnet50_8", "gpt2_prefill", "gpt2_decode", "tiny", "chain")


def side(library: str, mode: str, name: str, steps: int):
    """The losses of one library, in this process."""
    step = importlib.import_module("worker").program(library, mode, name)()
    print(json.dumps([step() for _ in range(steps)]))


def losses(library: str, mode: str, name: str, steps: int, **more) -> list[float]:
    done = subprocess.run([sys.executable, __file__, "--side", library, "--mode", mode, "--steps", str(steps), name], capture_output=True, text=True, check=False,
                          env={**os.environ, "PYTHONPATH": str(HERE.parent), **more})
    if done.returncode: raise SystemExit(f"{library} {mode} {name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def distance(a: list[float], b: list[float]) -> float: return max(abs(x - y) / max(abs(x), abs(a[0]) / 100) for x, y in zip(a, b, strict=True))


def compare(name: str, steps: int, mode: str = "eager") -> dict:
    steps = 1 if name in CONSTANT else steps
    theirs, plain, ours = losses("torch", "eager", name, steps), losses("torch", "eager", name, steps, **PLAIN), losses("forno", mode, name, steps)
    noise, found = distance(theirs, plain), distance(theirs, ours)
    return {"name": name, "first": theirs[0], "last": theirs[-1], "ours": ours[-1], "noise": noise, "distance": found, "agrees": found <= max(LEAST, TIMES * noise)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--mode", choices=("eager", "compile"), default="eager")
    parser.add_argument("--side", choices=("torch", "forno"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side: return side(options.side, options.mode, options.names[0], options.steps)
    rows = []
    print("| program | first loss | last loss, PyTorch | forno | noise of PyTorch | distance of forno | agrees |\n|---|---|---|---|---|---|---|")
    for name in options.names or PROGRAMS:
        r = compare(name, options.steps, options.mode)
        rows.append(r)
        print(f"| {name} | {r['first']:.6g} | {r['last']:.6g} | {r['ours']:.6g} | {r['noise']:.1e} | {r['distance']:.1e} | {'yes' if r['agrees'] else '**no**'} |", flush=True)
    if wrong := [r["name"] for r in rows if not r["agrees"]]: sys.exit(f"further from PyTorch than float32 noise: {', '.join(wrong)}")


if __name__ == "__main__": main()
