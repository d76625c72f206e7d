"""bench/gpu.py on a simulated GPU: a part of what it runs, what happens to cases that end their process, and its tables."""
import json
import os
import pathlib
import subprocess
import sys

import pytest

BENCH = pathlib.Path(__file__).parents[2] / "bench"
sys.path.append(str(BENCH))                    # its programs are run by path, and import each other so
import gpu as runner  # noqa: E402
import gpu_report  # noqa: E402

QUICK = runner.arguments(["--simulated", "--quick"])


# ---------------------------------------------------------------- processes and their cases
def test_kernels_against_the_cpu():
    names = ["first launch", "broadcast and numbers", "sum of rows", "product float32", "own kernel", "own row kernel"]
    found = runner.Walk("smoke", "forno", names, QUICK, 120, 30).run()
    assert list(found) == names and not [c["failed"] for c in found.values() if "failed" in c]


def test_samples_against_pytorch():
    pytest.importorskip("expecttest")
    found = runner.Walk("conformance", "forno", ["add"], QUICK, 120, 60).run()
    assert found["add"].get("checks", 0) >= 6, found


def test_limits_and_facts(tmp_path):
    """The command itself, its file and its page."""
    done = subprocess.run([sys.executable, BENCH / "gpu.py", "--simulated", "--quick", "--only", "limits", "--out", tmp_path / "gpu.json"], capture_output=True, text=True, timeout=200,
                          check=False, env={**os.environ, "PYTHONPATH": str(BENCH.parent)})
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["machine"]["simulated"] and found["machine"]["capability"] == [9, 0] and set(found["limits"]) >= {"copy", "triad", "float32", "bf16"}
    assert "**Limits of the device**" in done.stdout and "Simulated H200, simulated" in done.stdout


def test_a_family_is_timed():
    found = runner.Walk("families", "forno", ["softmax float32", "product bf16"], QUICK, 120, 60).run()
    assert found["softmax float32"]["bytes"] == 2 * 4 * 16 * 64 and found["product bf16"]["flops"] == 2 * 32 ** 3 and found["product bf16"]["ms"] > 0, found


SCRIPT = """
import os, sys, time
for line in sys.stdin:
    name = line.strip()
    if name == "dies": sys.stderr.write("so it said"); sys.stderr.flush(); os._exit(7)
    if name == "hangs": time.sleep(60)
    if name == "talks": print("{ no, a compiler")
    print('{"name": "%s", "s": 1}' % name, flush=True)
    if name == "breaks": os._exit(3)
"""


def test_a_case_that_ends_its_process_costs_no_other(monkeypatch):
    monkeypatch.setattr(runner, "START", 1)
    walk = runner.Walk("smoke", "forno", ["a", "dies", "b", "hangs", "c", "breaks", "d"], QUICK, 60, 0.5)
    walk.command = [sys.executable, "-c", SCRIPT]
    found = walk.run()
    assert found.pop("dies") == {"failed": "the process ended: exit status 7, so it said"} and found.pop("hangs")["failed"].startswith("no answer in ")
    assert found == dict.fromkeys(["a", "b", "c", "breaks", "d"], {"s": 1})


def test_without_time_cases_are_not_reached():
    walk = runner.Walk("smoke", "forno", ["a", "b"], QUICK, -1, 1)
    assert walk.run() == {} and "2 not reached in time" in gpu_report.tally("Kernels", {}, 2)[0]


# ---------------------------------------------------------------- tables
def measured() -> dict:
    families = {"forno": {"sum": {"ms": 2.0, "bytes": 10 ** 9, "flops": 0, "limit": "float32"}, "product": {"ms": 4.0, "bytes": 10 ** 6, "flops": 2 * 10 ** 12, "limit": "bf16"},
                          "sort": {"failed": "NotImplementedError: no"}}, "torch": {"sum": {"ms": 4.0}}}
    workloads = {"mlp": {"torch eager": {"ms": 1.0}, "torch compile": {"failed": "no"}, "forno eager": {"ms": 0.5}, "forno compile": {"ms": 0.25}}}
    return {"date": "2026-01-01", "commit": "c", "minutes": 9.5, "machine": {"gpu": "G", "cuda": "12.8", "driver": "570.1", "simulated": False},
            "planned": {"smoke": 3, "conformance": 2}, "smoke": {"a": {"s": 1}, "b": {"failed": "wrong"}}, "conformance": {"add": {"s": 1}, "mul": {"s": 1}},
            "limits": {"copy": 1e12, "triad": 2e12, "float32": 5e13, "bf16": 1e15}, "families": families, "workloads": workloads}


def test_what_the_page_says():
    text = "\n".join(gpu_report.full(measured()))
    assert "1 of 3 right, 1 not reached in time:" in text and "- b: wrong" in text and "2 of 2 right." in text
    assert "| sum | 2.000 | 0.500 (memory) | 4.00 | 4.000 | **0.50** |" in text and "| product | 4.000 | 2.000 (compute) | 2.00 | – | – |" in text
    assert "| sort | failed |" in text and "- sort: NotImplementedError: no" in text
    assert "| mlp | 1.00 | failed | 0.50 | 0.25 | **0.50** | – |" in text and "G, driver 570.1, commit c; 9.5 minutes" in text


def test_a_whole_run_takes_ten_minutes_at_most():
    options = runner.arguments([])
    assert options.seconds + 2 * runner.START < 720 and sum(runner.SHARES.values()) < 600 and options.out.name == "gpu.json"
    assert QUICK.out is None and runner.arguments(["--smoke"]).out is None and runner.arguments(["--smoke"]).seconds < 60


def test_torch_compile_comes_last(monkeypatch):
    asked = []
    monkeypatch.setattr(runner, "beside", lambda name, labels, options: asked.append((name, *labels)) or {label: {"ms": 1.0} for label in labels})
    options = runner.arguments(["--workloads", "mlp", "tiny"])
    assert set(runner.workloads(options, 60, True)["mlp"]) == {"torch eager", "torch compile", "forno eager", "forno compile"}
    both = ("torch eager", "forno eager", "forno compile"), ("torch compile", "forno compile")
    assert asked == [(name, *labels) for labels in both for name in ("mlp", "tiny")]
    assert runner.workloads(options, 60, False)["tiny"].keys() == {"forno eager", "forno compile"} and runner.workloads(options, -1, True) == {}
