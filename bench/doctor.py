"""How long the doctor takes to examine this machine: wall and processor time of whole processes, Python's own start included.

    python bench/doctor.py [--rounds 15] [--python PATH]

The aim: below 0.5 s on a machine without a GPU, below 2 s with one. The first line is the start of Python alone, for comparison.
"""
from __future__ import annotations

import argparse
import pathlib
import resource
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).parents[1]


def run(arguments: list[str]) -> tuple[float, float]:
    """Seconds by the clock, and of processors, of a process with its children."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(arguments, cwd=ROOT, stdout=subprocess.DEVNULL, check=False)
    passed, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    return passed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--python", default=sys.executable, help="the interpreter whose packages are examined")
    options = parser.parse_args()
    doctor, python = ["-m", "forno_doctor"], ["--python", options.python]
    cases = {"Python alone": ["-c", "pass"], "forno doctor": doctor + python, "forno doctor --json": [*doctor, "--json", *python],
             "forno doctor plan torch": [*doctor, "plan", "torch"], "python -m forno.doctor": ["-m", "forno.doctor"]}
    measured = {name: [] for name in cases}
    for _ in range(options.rounds):
        for name, arguments in cases.items(): measured[name].append(run([sys.executable, *arguments]))
    print(f"{'':24}{'wall':>8}{'least':>8}{'most':>8}{'processor':>11}   seconds, medians of {options.rounds}")
    for name, times in measured.items():
        wall, cpu = zip(*times)
        print(f"{name:24}{statistics.median(wall):8.3f}{min(wall):8.3f}{max(wall):8.3f}{statistics.median(cpu):11.3f}")


if __name__ == "__main__": main()
