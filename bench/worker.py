"""One side of a comparison, in its own process: makes a workload, does its first step, then times a block of steps whenever bench/run.py asks.

    python bench/worker.py LIBRARY MODE NAME       LIBRARY torch or forno; MODE eager, or compile (the model, or the whole step: see WHOLE_STEP)

It writes JSON lines: {"ready": …} after the first steps, a line per block, and one at the end with the peak memory. On its input every line asks for a
block of so many seconds; end of input is the end. The runner keeps the processes of all libraries alive and asks them in turns, so that they share the
machine's good and bad moments, and none runs while another is timed.
"""
from __future__ import annotations

import importlib
import json
import resource
import statistics
import sys
import time

WARM = 3                                       # steps after the first that aren't timed


def answer(**fields): print(json.dumps(fields), flush=True)


def serve(make):
    """make() -> a function that does one step to its end and returns its number, or None."""
    start = time.perf_counter()
    step = make()
    made = time.perf_counter()
    losses = [step()]
    first = time.perf_counter()
    losses += [step() for _ in range(WARM)]
    answer(ready=True, made_s=made - start, first_s=first - made, losses=losses)
    for line in sys.stdin: answer(**block(step, float(line)))
    # of the whole process; the runner imports next to nothing, because Linux begins a child's count at its parent's
    answer(peak_mb=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def block(step, seconds: float) -> dict:
    times: list[float] = []
    until = time.perf_counter() + seconds
    while len(times) < 3 or time.perf_counter() < until:
        t = time.perf_counter()
        step()
        times.append(time.perf_counter() - t)
    return {"median_ms": 1e3 * statistics.median(times), "least_ms": 1e3 * min(times), "steps": len(times)}


def program(library: str, mode: str, name: str):
    """make() for a workload: forno's is lazy, so models and data are really made before the first step, and every step ends in values."""
    workloads = importlib.import_module("workloads")
    torch = importlib.import_module(library)
    flush = importlib.import_module("forno.framework.engine").flush if library == "forno" else lambda: None
    whole = library == "forno" and name in workloads.WHOLE_STEP

    def make():
        compiled = torch.compile if mode == "compile" and not whole else workloads.same
        step = workloads.WORKLOADS[name](torch, compiled)
        flush()
        if mode == "compile" and whole: step = torch.compile(step)

        def ended():
            y = step()
            if y is not None and y.numel() == 1: return y.item()
            flush()
            return None
        return ended
    return make


if __name__ == "__main__": serve(program(*sys.argv[1:4]))
