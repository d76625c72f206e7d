"""bench/gpu.py on a simulated GPU: a part of what it runs, what happens to cases that end their process, what a run leaves, and its tables."""
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

from forno.cudart import code
from tests.gpu import ptx_tools

BENCH = pathlib.Path(__file__).parents[2] / "bench"
sys.path.append(str(BENCH))                    # its programs are run by path, and import each other so
import gpu as runner  # noqa: E402
import gpu_cases  # noqa: E402
import gpu_limits  # noqa: E402
import gpu_report  # noqa: E402

QUICK = runner.arguments(["--simulated", "--quick"])


# ---------------------------------------------------------------- processes and their cases
def test_kernels_against_the_cpu():
    names = ["first launch", "broadcast and numbers", "sum of rows", "product float32", "own kernel", "own row kernel"]
    found = runner.Walk("smoke", "forno", names, QUICK, 120, 30).run()
    assert list(found) == names and not [c["failed"] for c in found.values() if "failed" in c]


def test_samples_against_pytorch(tmp_path, monkeypatch):
    """Where the package that PyTorch's own tests need isn't installed."""
    (tmp_path / "expecttest.py").write_text("raise ImportError('not here')")
    monkeypatch.setattr(runner, "environment", lambda options, kept, real=runner.environment: (e := real(options, kept)) | {"PYTHONPATH": f"{tmp_path}:{e['PYTHONPATH']}"})
    found = runner.Walk("conformance", "forno", ["add", "no such operation"], QUICK, 120, 60).run()
    assert found["add"].get("checks", 0) >= 6 and found["no such operation"]["missing"].startswith("PyTorch"), found


def test_limits_and_facts(tmp_path):
    """The command itself, its file and its page."""
    done = subprocess.run([sys.executable, BENCH / "gpu.py", "--simulated", "--quick", "--only", "limits", "--out", tmp_path / "gpu.json", "--commit", "this one"], capture_output=True,
                          text=True, timeout=200, check=False, env={**os.environ, "PYTHONPATH": str(BENCH.parent)})
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["machine"]["simulated"] and found["machine"]["capability"] == [9, 0] and found["limits"].keys() == gpu_limits.LIMITS.keys() and found["commit"] == "this one"
    assert all(c["rate"] > 0 for c in found["limits"].values()) and os.listdir(tmp_path) == ["gpu.json"]
    assert "**Limits of the device**" in done.stdout and "Simulated H200, simulated" in done.stdout


@pytest.mark.skipif(ptx_tools.ptxas() is None, reason="needs ptxas (pip install nvidia-cuda-nvcc)")
def test_the_kernels_of_limits_are_valid(tmp_path):
    for text in (gpu_limits.memory_kernel("triad", 2), gpu_limits.fma_kernel(), gpu_limits.mma_kernel("bf16", 16), gpu_limits.mma_kernel("tf32", 8)):
        assert not ptx_tools.assemble(gpu_limits.HEAD.format("7.0", "sm_80") + text, "sm_90", tmp_path)


def test_a_family_is_timed():
    found = runner.Walk("families", "forno", ["softmax float32", "product bf16", "numbers at 16 places", "numbers at 16 places, in order"], QUICK, 120, 60).run()
    assert [c["bytes"] for name, c in found.items() if "16 places" in name] == [12 * 2048 + 8 * 16] * 2, found
    assert found["softmax float32"]["bytes"] == 2 * 4 * 16 * 64 and found["product bf16"]["flops"] == 2 * 32 ** 3, found
    assert all(c["clock_ms"] > c["ms"] > 0 for c in found.values()), found          # by events a simulated GPU is as quick as a real one


def test_full_sizes_on_a_gpu_that_computes_nothing():
    done = subprocess.run([sys.executable, BENCH / "gpu_dry.py", "softmax bf16"], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0 and done.stdout.startswith("softmax bf16 : accepted") and "kernels" in done.stdout, done.stderr


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


def test_walks_beside_each_other(monkeypatch):
    walks = [runner.Walk("smoke", "forno", names, QUICK, 60, 20) for names in (["a", "b"], ["c", "hangs"])]
    for w in walks: w.command = [sys.executable, "-c", SCRIPT]
    walks[1].until -= 58
    runner.beside_each_other(walks)
    assert walks[0].found.keys() == {"a", "b"} and walks[1].found == {"c": {"s": 1}}          # the whole time was over before its patience was


# ---------------------------------------------------------------- what is left of a run
def test_what_is_kept_of_a_case_that_fails(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCH_KEPT", str(tmp_path))
    monkeypatch.setattr(code, "function", lambda driver, index, ptx, name: 7)
    kept = gpu_cases.Kept("forno")
    kept.begin("smoke softmax's gradient")
    assert code.function(None, 0, "a text", "nest") == 7 and os.listdir(tmp_path) == ["smoke-softmax-s-gradient"]
    kept.good()
    assert not os.listdir(tmp_path)
    kept.begin("smoke sum")
    for k in range(gpu_cases.KERNELS + 5): code.function(None, 0, f"text {k}", "nest")
    try: raise ValueError("the driver's words")
    except ValueError as e: kept.failed(e)
    files = {p.name: p.read_text() for p in (tmp_path / "smoke-sum").iterdir()}
    assert "the driver's words" in files.pop("error.txt") and set(files.values()) == {f"text {k}" for k in range(5, gpu_cases.KERNELS + 5)}
    results = runner.Results(runner.arguments(["--smoke", "--out", str(tmp_path / "gpu.json")]))
    (results.kept / "case").mkdir()
    (results.kept / "case" / "nest-1.ptx").write_text("PTX")
    results.archive()
    results.end()
    assert zipfile.ZipFile(tmp_path / "gpu.failed.zip").read("case/nest-1.ptx") == b"PTX" and not results.kept.exists()


def command(monkeypatch, tmp_path, *more) -> dict:
    """The file that a run of the command leaves, in this process."""
    monkeypatch.setattr(sys, "argv", ["gpu.py", "--simulated", "--quick", "--out", str(tmp_path / "gpu.json"), *more])
    monkeypatch.setattr(runner.signal, "signal", lambda *_: None)
    monkeypatch.setattr(runner, "machine", lambda options: measured()["machine"])
    with pytest.raises(SystemExit) as e: runner.main()
    return json.loads((tmp_path / "gpu.json").read_text()) | {"exit": str(e.value)}


def test_a_section_that_breaks_down_costs_no_other(monkeypatch, tmp_path, capsys):
    def section(r, name, seconds, peers):
        if name == "limits": raise ValueError("no limits")
        r.found[name] = {} if name in ("families", "workloads") else {"a": {"s": seconds}}
    monkeypatch.setattr(runner, "section", section)
    found = command(monkeypatch, tmp_path)
    assert found["broken"] == {"limits": "ValueError: no limits"} and found["took"].keys() == runner.SHARES.keys() and found["exit"] == "failed: limits: ValueError: no limits"
    assert found["smoke"]["a"]["s"] < found["conformance"]["a"]["s"] < runner.WHOLE and found["absent"]["torch"].startswith("no PyTorch with CUDA")
    assert "Broken: limits: ValueError" in capsys.readouterr().out


def test_a_run_that_is_ended_leaves_what_it_has(monkeypatch, tmp_path, capsys):
    def section(r, name, seconds, peers):
        if name == "limits": runner.ended()
        r.found[name] = {"a": {"s": 1.0}}
    monkeypatch.setattr(runner, "section", section)
    found = command(monkeypatch, tmp_path)
    assert found["smoke"] == {"a": {"s": 1.0}} and found["conformance"] == {} and "ended before its time" in found["broken"]["the run"]
    assert f"1 of {len(gpu_cases.SMOKE)} right" in capsys.readouterr().out


# ---------------------------------------------------------------- tables
def measured() -> dict:
    families = {"forno": {"sum": {"ms": 2.0, "clock_ms": 2.5, "bytes": 10 ** 9, "flops": 0, "limit": "float32"},
                          "product": {"ms": 4.0, "bytes": 10 ** 6, "flops": 2 * 10 ** 12, "limit": "bf16"}, "sort": {"failed": "NotImplementedError: no"}}, "torch": {"sum": {"ms": 4.0}}}
    workloads = {"mlp": {"torch eager": {"ms": 1.0}, "torch compile": {"failed": "no"}, "forno eager": {"ms": 0.5}, "forno compile": {"ms": 0.25}}}
    limits = {"copy": {"rate": 1e12}, "triad": {"rate": 2e12}, "float32": {"rate": 5e13}, "bf16": {"rate": 1e15}, "launches": {"failed": "no launch"}}
    return {"date": "2026-01-01", "commit": "c", "minutes": 9.5, "absent": {"torch": "no PyTorch"},
            "machine": {"gpu": "G", "cuda": "12.8", "driver": "570.1", "simulated": True, "capability": [9, 0], "sms": 132, "memory": 1 << 37},
            "planned": {"smoke": 3, "conformance": 3}, "smoke": {"a": {"s": 1}, "b": {"failed": "wrong"}}, "conformance": {"add": {"s": 1}, "mul": {"s": 1}, "new": {"missing": "no"}},
            "limits": limits, "families": families, "workloads": workloads}


def test_what_the_page_says():
    text = "\n".join(gpu_report.full(measured()))
    assert "1 of 3 right, 1 not reached in time:" in text and "- b: wrong" in text and "2 of 3 right, 1 not in this PyTorch." in text
    assert "| copy | 1000.0 | GB/s |" in text and "| empty launches by Python | – |" in text and "- launches: no launch" in text
    assert "| sum | 2.000 | 2.500 | 0.500 (memory) | 4.00 | 4.000 | **0.50** |" in text and "| product | 4.000 | – | 2.000 (compute) | 2.00 | – | – |" in text
    assert "| sort | failed |" in text and "- sort: NotImplementedError: no" in text and "Not there: no PyTorch." in text
    assert "| mlp | 1.00 | failed | 0.50 | 0.25 | **0.50** | – |" in text and "- mlp, torch compile: no" in text and "G, simulated, driver 570.1, commit c; 9.5 minutes" in text


def test_a_whole_run_takes_less_than_ten_minutes():
    options = runner.arguments([])
    assert options.seconds == runner.WHOLE < 580 and options.out.name == "gpu.json" and set(runner.FIRST) <= set(options.workloads) and len(options.workloads) == len(runner.PROGRAMS)
    assert QUICK.out is None and runner.arguments(["--smoke"]).out is None and runner.arguments(["--smoke"]).seconds <= 120


def test_torch_compile_comes_last(monkeypatch):
    asked, results = [], runner.Results(runner.arguments(["--workloads", "mlp", "tiny"]))
    results.options.out = None
    monkeypatch.setattr(runner, "beside", lambda name, labels, *_: asked.append((name, *labels)) or {label: {"ms": 1.0} for label in labels})

    def found(seconds, peers):
        results.found["workloads"] = {}
        runner.workloads(results, seconds, peers)
        return results.found["workloads"]
    assert set(found(60, True)["mlp"]) == {"torch eager", "torch compile", "forno eager", "forno compile"}
    both = ("torch eager", "forno eager", "forno compile"), ("torch compile", "forno compile")
    assert asked == [(name, *labels) for labels in both for name in ("mlp", "tiny")]
    assert found(60, False)["tiny"].keys() == {"forno eager", "forno compile"} and found(-1, True) == {}
    results.end()
