"""Budgets: what one operation, one step and one import may cost. The numbers are measured; they may only be tightened.

Calls are counted, not timed, so that a slow machine changes nothing. Python 3.12 and later need fewer (comprehensions are inlined), never more.
`python bench/host.py` says what the counts mean in µs: the aim is 1.5 µs per recorded operation.
"""
import json
import os
import subprocess
import sys

import pytest

from .tree import ROOT

FIRST = {"files": 8, "python": 44, "builtin": 53}                # `a + b`, never seen before, up to the line (nothing runs yet)
# with machine code for the hot functions, and without: each further `a + b` of a known program; a known window, from flush() to the native call and back
WARM = {"1": {"python": 0, "builtin": 0}, "0": {"python": 1, "builtin": 3}}
FLUSH = {"1": {"python": 0, "builtin": 0}, "0": {"python": 9, "builtin": 8}}
PER_LINE = {                                                     # Python calls per line that a warm step walks, with and without
    "chain of 100 pointwise operations": (0.09, 0.6), "chain of 100 pointwise operations, split": (0.88, 1.6),
    "MLP with Adam": (3.2, 4.6), "MLP with Adam, split": (3.3, 4.7),
    "LSTM, 20 steps": (0.1, 0.7), "LSTM, 20 steps, split": (0.7, 1.3),
}
IMPORT_SECONDS = 0.3                                             # CPU time of `import forno`, beyond NumPy and llvmlite
IMPORT_MEGABYTES = 30                                            # resident memory, likewise
INSTALLED_MEGABYTES = 5


def environment(**more):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("FORNO_", "PYTHON"))}
    return {**env, "PYTHONPATH": str(ROOT), **more}


@pytest.fixture(scope="module", params=["1", "0"], ids=["machine code", "Python"])
def hot(request): return request.param


@pytest.fixture(scope="module")
def measured(hot, tmp_path_factory):
    env = environment(FORNO_HOT=hot, FORNO_CACHE_DIR=str(tmp_path_factory.mktemp("cache")), PYTHONDONTWRITEBYTECODE="1", FORNO_NUM_THREADS="1")
    done = subprocess.run([sys.executable, "-m", "tests.laws.measure"], cwd=ROOT, env=env, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_first_time(measured):
    python, builtin, files = measured["a + b, first time"]
    assert len(files) <= FIRST["files"], files
    assert python <= FIRST["python"] and builtin <= FIRST["builtin"], (python, builtin)


def test_warm_operation(measured, hot):
    python, builtin = measured["a + b, warm"]
    assert python <= WARM[hot]["python"] and builtin <= WARM[hot]["builtin"], (python, builtin)


def test_warm_flush(measured, hot):
    python, builtin = measured["flush"]
    assert python <= FLUSH[hot]["python"] and builtin <= FLUSH[hot]["builtin"], (python, builtin)


@pytest.mark.parametrize("program", PER_LINE)
def test_a_warm_step_makes_nothing(measured, program):
    """No line, no plan, no derivation, no kernel, with the garbage collector off."""
    assert not any(measured[program]["made"].values()), measured[program]["made"]


@pytest.mark.parametrize("program", PER_LINE)
def test_calls_per_line(measured, program, hot):
    m = measured[program]
    assert m["python"] / m["lines"] <= PER_LINE[program][hot == "0"], m


IMPORT = """
import time, numpy, llvmlite.binding
def resident(): return int(open("/proc/self/statm").read().split()[1]) * 4096 / 2**20
before, start = resident(), time.process_time()
import forno
print(time.process_time() - start, resident() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="resident memory is read from /proc")
def test_import(tmp_path):
    """The best of several runs, byte code compiled as an installed package's is."""
    env = environment(PYTHONPYCACHEPREFIX=str(tmp_path))
    runs = []
    for _ in range(6):
        done = subprocess.run([sys.executable, "-c", IMPORT], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=True)
        runs.append([float(x) for x in done.stdout.split()])
        if len(runs) > 1 and runs[-1][0] < IMPORT_SECONDS / 2: break
    seconds, megabytes = (min(column) for column in zip(*runs))
    assert seconds < IMPORT_SECONDS, f"{seconds:.3f} s: python -X importtime shows what is slow"
    assert megabytes < IMPORT_MEGABYTES, f"{megabytes:.0f} MiB"


def test_import_starts_nothing():
    """No LLVM, no thread pool, no folder, no torch before something is computed."""
    code = "import sys, threading, forno\nfrom forno.cpu import code\nprint(hasattr(code._local, 'compiler'), code._engine, threading.active_count(), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "False None 1 False\n"


def test_installed_size():
    size = sum(p.stat().st_size for p in (ROOT / "forno").rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    assert size < INSTALLED_MEGABYTES * 2**20, f"{size / 2**20:.1f} MiB"
