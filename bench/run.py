"""Ratios to PyTorch: every workload in separate processes, alternating, medians of blocks with their spread.

    python bench/run.py [NAME …] [--rounds 5]

A ratio is PyTorch's time by forno's: above 1 forno is faster. Writes bench/results/cpu.json and prints a Markdown table.
"""
from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))
from workloads import WORKLOADS  # noqa: E402


def measure(library: str, name: str) -> dict:
    env = {**os.environ, "OMP_NUM_THREADS": "2", "PYTHONPATH": str(HERE.parent)}
    out = subprocess.run([sys.executable, HERE / "workloads.py", library, name], capture_output=True, text=True, env=env, timeout=600)
    if out.returncode: raise SystemExit(f"{library} {name} failed:\n{out.stderr[-2000:]}")
    return json.loads(out.stdout.splitlines()[-1])


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(WORKLOADS))
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    rows = []
    print("| workload | torch / forno | least … most | forno first step | peak memory forno / torch |\n|---|---|---|---|---|")
    for name in options.names or WORKLOADS:
        pairs = [(measure("torch", name), measure("forno", name)) for _ in range(options.rounds)]
        ratios = [a["step_ms"] / b["step_ms"] for a, b in pairs]
        grown = [[r["rss_peak_mb"] - r["rss_before_mb"] for r in pair] for pair in pairs]
        row = {"name": name, "ratio": statistics.median(ratios), "least": min(ratios), "most": max(ratios), "first_s": statistics.median(b["first_s"] for _, b in pairs),
               "memory": statistics.median(f / max(t, 1) for t, f in grown), "torch_ms": statistics.median(a["step_ms"] for a, _ in pairs),
               "forno_ms": statistics.median(b["step_ms"] for _, b in pairs)}
        rows.append(row)
        print(f"| {name} | **{row['ratio']:.2f}** | {row['least']:.2f} … {row['most']:.2f} | {row['first_s']:.2f} s | {row['memory']:.2f} |", flush=True)
    results = HERE / "results"
    results.mkdir(exist_ok=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE).stdout.strip()
    (results / "cpu.json").write_text(json.dumps({"date": datetime.date.today().isoformat(), "machine": platform.processor() or platform.machine(), "commit": commit,
                                                  "threads": 2, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__": main()
