"""The benchmark's programs: forno's losses are PyTorch's, and what the runner counts and prints is right."""
import json
import os
import pathlib
import subprocess
import sys

import pytest
import torch

import forno
from bench import report

BENCH = pathlib.Path(__file__).parents[2] / "bench"
sys.path.append(str(BENCH))                    # its programs are run by path, and import each other so
import counts  # noqa: E402
import worker  # noqa: E402
from workloads import FAMILIES, PROGRAMS, WHOLE_STEP, WORKLOADS  # noqa: E402


@pytest.mark.parametrize("mode", ["eager", "compile"])
@pytest.mark.parametrize(("name", "close"), [("mlp", 1e-5), ("vae", 1e-6), ("lstm_lm", 1e-6), ("unet", 1e-4), ("tiny", 1e-5), ("lstm_cell", 2e-4)])
def test_first_losses_are_those_of_pytorch(name, close, mode):
    """Five steps; both libraries draw the same numbers from equal seeds, so weights, data and noise are the same, too."""
    theirs, ours = worker.program("torch", "eager", name)(), worker.program("forno", mode, name)()
    assert [ours() for _ in range(5)] == pytest.approx([theirs() for _ in range(5)], rel=close)


def test_every_program_says_what_it_is_and_can_be_compiled():
    for name, f in WORKLOADS.items(): assert f.__doc__ or name.startswith("resnet50_"), name
    assert len(PROGRAMS) == 14 and not set(PROGRAMS) & set(FAMILIES) and set(WORKLOADS) >= WHOLE_STEP
    seen = []
    WORKLOADS["mlp"](forno, lambda model: seen.append(model) or model)
    assert len(seen) == 1


def test_counted_by_hand():
    """Of a product: 2·n³ operations, two matrices read and one written. Of the MLP with Adam: weights three times, moments twice, x and y, and two activations kept twice."""
    assert {k: counts.count("matmul")[k] for k in ("flops", "bytes")} == {"flops": 2 * 1024 ** 3, "bytes": 3 * 4 * 1024 ** 2}
    weights, found = 784 * 512 + 512 * 512 + 512 * 10, counts.count("mlp")
    assert found["flops"] == 2 * 128 * (3 * weights - 784 * 512)             # forward, gradients of weights, of inputs but the first
    numbers = weights + 512 + 512 + 10
    assert found["held"] == pytest.approx(4 * (3 * numbers + 128 * 784) + 8 * 128, rel=1e-4)
    assert found["bytes"] == pytest.approx(4 * (3 * numbers + 4 * numbers + 128 * 784) + 8 * 128 + 2 * found["kept"], rel=1e-4)
    assert found["kept"] == pytest.approx(4 * 128 * (2 * 512 + 10), rel=1e-2)
    assert counts.count("chain")["bytes"] == 4 * (2 * 4096 * 1024 + 2 * 1024 + 1)
    assert counts.count("tiny")["flops"] == 0 and torch.is_grad_enabled()


# ---------------------------------------------------------------- the runner and its tables
def measured() -> dict:
    """A run of two programs and a family with round numbers; torch.compile fails on one."""
    def side(ms, **more): return {"ms": ms, "medians_ms": [ms, 2 * ms], "first_s": 0.5, "peak_mb": 100.0, "losses": [2.0, 1.0], **more}
    a = {"torch eager": side(10.0), "torch compile": side(8.0, first_s=20.0), "jax": side(5.0), "forno eager": side(6.0, cold_s=1.0), "forno compile": side(4.0, cold_s=3.0, first_s=1.5)}
    b = {"torch eager": side(10.0), "torch compile": {"failed": "no"}, "forno eager": side(20.0, peak_mb=150.0, losses=[2.0, 1.5]), "forno compile": side(20.0)}
    base = {"threads": 2, "program": True, "took_s": 1.0, "flops": 2e9, "bytes": 1 << 20}
    rows = [{"name": "a", "sides": a, **base}, {"name": "b", "sides": b, **base},
            {"name": "k", "sides": {"torch eager": side(1.0), "forno eager": side(0.5)}, **base, "program": False, "flops": 0, "bytes": 1 << 23}]
    return {"date": "2026-01-01", "machine": "m", "commit": "c", "rounds": 2, "minutes": 1.0, "rows": rows,
            "peaks": {"2": {"flops": 1e12, "bytes": {str(1 << 20): 1e11, str(1 << 24): 1e10}}}}


def test_ratios_are_ours_by_theirs():
    found = measured()
    a, b, k = found["rows"]
    assert (report.eager(a), report.compiled(a), report.best(a), report.rival(a)) == (0.6, 0.5, 0.8, "JAX")
    assert (report.eager(b), report.compiled(b), report.rival(b)) == (2.0, 2.0, "PyTorch")
    assert report.limit(a, found["peaks"]) == 2.0 and report.bound(a, found["peaks"]) == "compute"       # 2 GFLOP at 1 TFLOP/s
    assert report.limit(k, found["peaks"]) == pytest.approx(0.8389, rel=1e-3) and report.bound(k, found["peaks"]) == "memory"
    assert report.differs(a) == 0 and report.differs(b) == 0.25


def test_tables_tell_losses():
    text = "\n".join(report.full(measured()))
    assert "| a | 10.00 | 6.00 | **0.60** (0.60 … 0.60) | 8.00 | 4.00 | **0.50** | **0.80** JAX | 2.00 (compute) | 2.0 | 2.5 |" in text
    assert "eager / eager: geometric mean 1.10; above 1: b 2.00." in text and "| failed |" in text
    assert "More than a tenth of torch.compile's cold first step: a. Warm first step above 1 s: a. More memory than PyTorch: b 1.50." in text
    assert "| k | 2 | 1.000 | 0.500 | **0.50** |" in text
    assert report.short(measured(), True)[2] == "| a | **0.60** | – | **0.50** | – | **0.80** JAX | 1.00 / 0.50 s | 1.00 |"


def test_one_workload_through_the_runner():
    env = {**os.environ, "PYTHONPATH": str(BENCH.parent)}
    done = subprocess.run([sys.executable, BENCH / "run.py", "tiny", "--rounds", "2", "--seconds", "0.02", "--threads", "1", "--against", "eager"], env=env, text=True,
                          capture_output=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    row = next(l for l in done.stdout.splitlines() if l.startswith("| tiny |")).split("|")
    assert float(row[2]) > 0 and float(row[3]) > 0 and "(calls)" in done.stdout and "first losses within" in done.stderr


def test_a_side_that_fails_is_told():
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path.insert(0, {str(BENCH)!r}); import run\n"
                           "try: run.Side([sys.executable, '-c', 'raise ValueError(\"so\")'], 1)\nexcept run.Failed as e: print(e)"],
                          env={**os.environ, "PYTHONPATH": str(BENCH.parent)}, text=True, capture_output=True, timeout=60, check=False)
    assert done.stdout == "ValueError: so\n", done.stderr


def test_limits_of_the_machine():
    """In a process of its own: the loops are machine code. One thread of any x86-64 of this century does 2 GFLOP/s and moves 1 GB/s; none does 1000 times that."""
    done = subprocess.run([sys.executable, BENCH / "peaks.py", "--threads", "1"], text=True, capture_output=True, timeout=60, check=True)
    found = json.loads(done.stdout)
    assert 2e9 < found["flops"] < 2e12 and all(1e9 < b < 1e12 for b in found["bytes"].values())
