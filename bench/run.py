"""forno against PyTorch and its other peers: every workload in separate processes that are timed in turns.

    python bench/run.py [NAME …] [--rounds 3] [--threads 2 1] [--against eager compile jax onnxruntime] [--peers PYTHON] [--save]

A ratio is forno's time by theirs: below 1 forno is faster. NAMEs are those of bench/workloads.py: whole programs, on which everything is measured, and
families of kernels, which run eagerly only. A side's time is the least over the rounds of the median step of a block; all sides of a workload are alive at
once and are asked for a block in turns (bench/worker.py), so that they meet the same moments of the machine.

A first step is timed without import and without making model and data. It is cold with an empty folder of compiled code (forno: FORNO_CACHE_DIR, PyTorch:
TORCHINDUCTOR_CACHE_DIR) and warm with the one that it left. Peak memory is that of the whole process, libraries included. JAX and ONNX Runtime run under
PYTHON, which needs `jax onnxruntime onnx onnxscript torch numpy`; what cannot be imported there is left out, and said. `--save` writes
bench/results/cpu.json, from which tools/pages.py fills the tables of README and docs/performance.md.
"""
from __future__ import annotations

import argparse
import datetime
import json
import os
import pathlib
import platform
import select
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE))
import report  # noqa: E402
from workloads import FAMILIES, PROGRAMS, WORKLOADS  # noqa: E402

PATIENCE = 600                                 # seconds for a first step or a block; after them a side has failed
JAX, ONNX = ("mlp", "resnet18", "gpt", "lstm_lm"), ("resnet50_1", "resnet50_8", "gpt2_prefill", "gpt2_decode")


def environment(threads: int, **more) -> dict:
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(HERE.parent), **more}


def bound(threads: int) -> list[str]:
    """The command that binds JAX to so many cores: it takes as many threads as there are, whatever OMP_NUM_THREADS says."""
    cores = sorted(os.sched_getaffinity(0))
    return ["taskset", "-c", ",".join(map(str, cores[-threads:]))] if threads < len(cores) else []


class Failed(Exception): pass


class Side:
    """A worker process of one library and mode."""
    patience = PATIENCE                        # seconds for an answer

    def __init__(self, command: list, threads: int, **more):
        self.blocks: list[dict] = []
        self.errors = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(list(map(str, command)), env=environment(threads, **more), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors,
                                        text=True, bufsize=1)
        self.found = self.line()

    def line(self) -> dict:
        """The next JSON line; compilers may write others."""
        until = time.monotonic() + self.patience
        while select.select([self.process.stdout], [], [], max(0, until - time.monotonic()))[0]:
            text = self.process.stdout.readline()
            if text.startswith("{"): return json.loads(text)
            if not text: break
        self.process.kill()
        self.process.wait()
        self.errors.seek(0)
        said = [text for text in self.errors.read().splitlines() if text.strip()] or [f"no answer in {self.patience:.0f} s"]
        raise Failed(([text for text in said if "Error: " in text] or said)[-1].strip()[:300])

    def block(self, seconds: float):
        print(seconds, file=self.process.stdin)
        self.blocks.append(self.line())

    def end(self) -> dict:
        self.process.stdin.close()
        found = self.found | self.line()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()
        if self.blocks: found |= {"ms": min(b["median_ms"] for b in self.blocks), "medians_ms": [b["median_ms"] for b in self.blocks]}
        return found


def sides(name: str, threads: int, options) -> dict[str, list]:
    """Label -> command; forno's last, so that a peer's compilers have warmed nothing but the machine."""
    worker, out = [sys.executable, HERE / "worker.py"], {}
    compiled = "compile" in options.against and name in PROGRAMS
    out["torch eager"] = [*worker, "torch", "eager", name]
    if compiled: out["torch compile"] = [*worker, "torch", "compile", name]
    if "jax" in options.against and name in JAX: out["jax"] = [*bound(threads), options.peers, HERE / "peers_jax.py", name]
    if "onnxruntime" in options.against and name in ONNX: out["onnxruntime"] = [options.peers, HERE / "peers_onnx.py", name]
    out["forno eager"] = [*worker, "forno", "eager", name]
    if compiled: out["forno compile"] = [*worker, "forno", "compile", name]
    return out


def compare(name: str, threads: int, options, caches: pathlib.Path) -> dict:
    """All sides of one workload at one number of threads. Every mode of forno has a cache of its own, which its first process finds empty."""
    started, found, alive = time.monotonic(), {}, {}

    def attempt(label, work):
        try: return work()
        except Failed as e:
            found[label] = {"failed": str(e)}
            print(f"{name}, {label}: {e}", file=sys.stderr)
            alive.pop(label, None)
            return None
    for label, command in sides(name, threads, options).items():
        folder = caches / f"{name}-{label}".replace(" ", "-")                     # compilers of others take no blanks in a path
        more = {"FORNO_CACHE_DIR": str(folder)} if label.startswith("forno") else {"TORCHINDUCTOR_CACHE_DIR": f"{folder}-{threads}"}
        cold = None
        if label.startswith("forno") and not folder.exists(): cold = attempt(label, lambda: Side(command, threads, **more).end())
        side = attempt(label, lambda: Side(command, threads, **more)) if label not in found else None
        if side is not None:
            alive[label] = side
            if cold: side.found["cold_s"], side.found["cold_made_s"] = cold["first_s"], cold["made_s"]
    for _ in range(options.rounds):
        for label, side in list(alive.items()): attempt(label, lambda: side.block(options.seconds))
    for label, side in list(alive.items()): found[label] = attempt(label, side.end) or found[label]
    return {"name": name, "threads": threads, "program": name in PROGRAMS, "took_s": time.monotonic() - started, "sides": found}


def lines(command: list, threads: int) -> list[dict]:
    """JSON lines of another program of this folder."""
    done = subprocess.run([str(c) for c in command], env=environment(threads), capture_output=True, text=True, check=False)
    if done.returncode: raise SystemExit(f"{command[1]} failed:\n{done.stderr[-2000:]}")
    return [json.loads(t) for t in done.stdout.splitlines()]


def peaks(options, before: dict) -> dict:
    """The machine's limits by number of threads; measured before and after the workloads, the better of both."""
    for p in lines([sys.executable, HERE / "peaks.py", "--threads", *options.threads], 1):
        old = before.get(str(p["threads"]), {"flops": 0, "bytes": {}})
        before[str(p["threads"])] = {"flops": max(p["flops"], old["flops"]), "bytes": {k: max(v, old["bytes"].get(k, 0)) for k, v in p["bytes"].items()}}
    return before


def importable(python: str, module: str) -> bool: return not subprocess.run([python, "-c", f"import {module}, torch"], capture_output=True, check=False).returncode


def processor() -> str:
    try: return next(l.split(":")[1].strip() for l in open("/proc/cpuinfo", encoding="utf-8") if l.startswith("model name"))
    except (OSError, StopIteration): return platform.processor() or platform.machine()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.5, help="how long a block of steps lasts, at least")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--against", nargs="+", choices=("eager", "compile", "jax", "onnxruntime"), default=["eager", "compile", "jax", "onnxruntime"])
    parser.add_argument("--peers", default=sys.executable, metavar="PYTHON")
    parser.add_argument("--save", action="store_true")
    options = parser.parse_args()
    if unknown := set(options.names) - set(WORKLOADS): parser.error(f"no such workload: {', '.join(sorted(unknown))}; there are {', '.join(WORKLOADS)}")
    for module in ("jax", "onnxruntime"):
        if module in options.against and not importable(options.peers, module):
            options.against.remove(module)
            print(f"{options.peers} cannot import {module} and torch: left out (--peers)", file=sys.stderr)
    started, names, rows = time.monotonic(), options.names or [*PROGRAMS, *FAMILIES], []
    limits = peaks(options, {})
    counted = {c.pop("name"): c for c in lines([sys.executable, HERE / "counts.py", *names], 1)}
    with tempfile.TemporaryDirectory() as caches:
        try:
            for name in names:
                for threads in options.threads:
                    rows.append(compare(name, threads, options, pathlib.Path(caches)) | counted[name])
                    print(report.brief(rows[-1]), file=sys.stderr, flush=True)
        except KeyboardInterrupt:
            print("interrupted: what follows is what was measured until then; nothing is saved", file=sys.stderr)
            options.save = False
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False).stdout.strip()
    found = {"date": datetime.date.today().isoformat(), "machine": processor(), "commit": commit, "rounds": options.rounds, "minutes": (time.monotonic() - started) / 60,
             "peaks": peaks(options, limits), "rows": rows}
    print(*report.full(found), sep="\n")
    if options.save: (HERE / "results" / "cpu.json").write_text(json.dumps(report.rounded(found), indent=1) + "\n", encoding="utf-8")
    if any("failed" in side for row in rows for label, side in row["sides"].items() if label.startswith("forno")): sys.exit("a side of forno's failed")


if __name__ == "__main__": main()
