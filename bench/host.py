"""What recording costs: µs per operation of the Python side, kernels left out.

    python bench/host.py [--torch] [--save]

Three programs, each run until nothing new is made, then timed: a chain of pointwise operations, an MLP with Adam, an LSTM. "split" runs the window
between forward and backward (as `print(loss.item())` there would), which makes the backward a program of its own. With kernels replaced by nothing,
what is left is what forno's Python costs: recording, walking the trie, deriving gradients from memory, flushing. The aim is 1.5 µs per operation;
tests/laws/test_budgets.py counts calls instead of time, because time is a matter of the machine.
`--torch` times PyTorch's eager mode on the same programs with tiny tensors, where its kernels cost almost nothing. `--save` writes
bench/results/host.json, from which tools/pages.py fills the READMEs' table.
"""
from __future__ import annotations

import argparse
import datetime
import gc
import importlib
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

SIZE = 8                                       # tiny tensors: the kernels that are left out would cost little anyway


def no_flush(): pass


def chain(torch, flush):
    """100 pointwise operations and their gradients; a program and the number of operations that a user called."""
    x, w = torch.ones(SIZE, SIZE), torch.ones(SIZE, requires_grad=True)

    def step():
        y = x * w
        for _ in range(33):
            y = (y + x).tanh() * 0.5
        loss = y.sum()
        flush()
        w.grad = None
        loss.backward()
        return w.grad
    return step, 2 + 3 * 33


def mlp(torch, flush):
    """Three linear layers with ReLU, mean squared error, Adam."""
    nn, optim = torch.nn, torch.optim
    model = nn.Sequential(nn.Linear(SIZE, SIZE), nn.ReLU(), nn.Linear(SIZE, SIZE), nn.ReLU(), nn.Linear(SIZE, 2))
    optimizer = optim.Adam(model.parameters(), lr=1e-3)
    x, y = torch.ones(SIZE, SIZE), torch.zeros(SIZE, 2)

    def step():
        loss = nn.functional.mse_loss(model(x), y)
        flush()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss
    return step, 6


def lstm(torch, flush):
    """20 steps of an LSTM cell written with tensors, forward and backward."""
    def leaf(*shape): return torch.full(shape, 0.1).requires_grad_(True)
    wx, wh, b = leaf(SIZE, 4 * SIZE), leaf(SIZE, 4 * SIZE), leaf(4 * SIZE)
    parameters = [wx, wh, b]
    xs = [torch.ones(2, SIZE) for _ in range(20)]

    def step():
        for p in parameters: p.grad = None
        h = c = torch.zeros(2, SIZE)
        for x in xs:
            gates = x @ wx + h @ wh + b        # (B, 4H)
            i, f, g, o = gates.chunk(4, 1)     # (B, H) each
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        loss = h.sum()
        flush()
        loss.backward()
        return wx.grad
    return step, 2 + 20 * 15


PROGRAMS = {"chain of 100 pointwise operations": chain, "MLP with Adam": mlp, "LSTM, 20 steps": lstm}


def per_step(step, after, repeat=60) -> float:
    """Median seconds of a warm step."""
    for _ in range(8):
        step()
        after()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        step()
        after()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def without_kernels():
    """Plans run as nothing: outputs get memory, no kernel is launched. Returns how to put the kernels back."""
    code, launch = importlib.import_module("forno.cpu.code"), importlib.import_module("forno.cpu.launch")
    nothing = code.load("define i64 @nothing(ptr %call, ptr %vals) {\n  ret i64 0\n}\n", "nothing")
    tables = [(t, t.walker) for t in gc.get_objects() if type(t) is launch.Table]
    for t, _ in tables: t.walker = nothing

    def back():
        for t, walker in tables: t.walker = walker
    return back


def measure_forno() -> list[tuple[str, int, float, float]]:
    """(program, lines recorded per step, µs per line, the same with a flush between forward and backward)."""
    forno, engine, line = (importlib.import_module(m) for m in ("forno", "forno.framework.engine", "forno.graph.line"))
    rows = []
    for name, make in PROGRAMS.items():
        found = []
        for between in (no_flush, engine.flush):
            step, _ = make(forno, between)
            for _ in range(4):
                step()
                engine.flush()
            lines = recorded(step, engine, line)
            back = without_kernels()
            try: found.append(per_step(step, engine.flush) * 1e6 / lines)
            finally: back()
        rows.append((name, lines, *found))
    return rows


def recorded(step, engine, line) -> int:
    """Lines that one warm step walks, counted where windows close."""
    count, opened = 0, line.Run.open

    def counting(run, grad, inference):
        nonlocal count
        count += len(run.nodes)
        opened(run, grad, inference)
    line.Run.open = counting
    try:
        step()
        engine.flush()
    finally: line.Run.open = opened
    return count


def measure_torch() -> list[tuple[str, int, float]]:
    torch = importlib.import_module("torch")
    torch.set_num_threads(1)
    rows = []
    for name, make in PROGRAMS.items():
        step, operations = make(torch, no_flush)
        rows.append((name, operations, per_step(step, no_flush) * 1e6))
    return rows


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--torch", action="store_true", help="PyTorch's eager mode on the same programs")
    options.add_argument("--save", action="store_true", help="write bench/results/host.json")
    options = options.parse_args()
    print(f"{'program':36} {'lines/step':>10} {'µs/step':>9} {'µs/line':>9} {'split: µs/line':>15}")
    rows = measure_forno()
    for name, lines, whole, split in rows: print(f"{name:36} {lines:10d} {whole * lines:9.0f} {whole:9.2f} {split:15.2f}")
    if options.torch:
        for name, _, whole in measure_torch(): print(f"{'PyTorch: ' + name:36} {'':10} {whole:9.0f}")
    if options.save: save(rows)


def save(rows):
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, cwd=HERE, check=False).stdout.strip()
    found = {"date": datetime.date.today().isoformat(), "machine": platform.processor() or platform.machine(), "commit": commit, "threads": os.cpu_count(),
             "rows": [dict(zip(("name", "lines", "whole", "split"), row)) for row in rows]}
    (HERE / "results").mkdir(exist_ok=True)
    (HERE / "results" / "host.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__": main()
