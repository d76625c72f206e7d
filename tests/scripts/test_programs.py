"""Programs as people write them, run by PyTorch and by forno in processes of their own: the same text with the same numbers.

Equal seeds give equal numbers, so that losses, samples and chosen words agree step for step. A program is added by putting it into programs/.
"""
import json
import math
import os
import re
import subprocess
import sys

import pytest

from .run import PROGRAMS

ROOT = PROGRAMS.parents[2]
pytestmark = pytest.mark.timeout(120)
NAMES = sorted(p.stem for p in PROGRAMS.glob("*.py"))
NUMBER = re.compile(r"-?(?:\d+\.\d*(?:e[+-]?\d+)?|\d+e[+-]?\d+)|\b(?:inf|nan)\b")
RELATIVE, ABSOLUTE = 1e-3, 1.5e-4              # rounding differs and training amplifies it; some programs print four decimals


class Library:
    """One process that runs all programs; where it dies, the program it died in is to blame and another process goes on with the rest."""

    def __init__(self, name):
        self.name, self.results, self.waiting = name, {}, list(NAMES)
        self.start()

    def start(self):
        env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"}       # PyTorch's threads don't survive fork
        self.process = subprocess.Popen([sys.executable, "-m", "tests.scripts.run", self.name, *self.waiting], cwd=ROOT, env=env, text=True,
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def result(self, name):
        while name not in self.results:
            line = self.process.stdout.readline()
            if line:
                told = json.loads(line)
                self.results[self.waiting.pop(0)] = told
                continue
            error = self.process.communicate()[1]
            self.results[self.waiting.pop(0)] = {"out": "", "error": f"the process ended with {self.process.returncode}\n{error}"}
            if self.waiting: self.start()
        return self.results[name]

    def close(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="module")
def libraries():
    both = Library("torch"), Library("forno")
    yield both
    for library in both: library.close()


def agree(a: str, b: str) -> bool:
    x, y = float(a), float(b)
    if not (math.isfinite(x) and math.isfinite(y)): return x == y or (x != x and y != y)
    return abs(x - y) <= ABSOLUTE + RELATIVE * max(abs(x), abs(y))


@pytest.mark.parametrize("name", NAMES)
def test_same_output(libraries, name):
    want, got = (library.result(name) for library in libraries)
    assert want["error"] is None, want["error"]
    assert got["error"] is None, got["error"]
    theirs, ours = want["out"].splitlines(), got["out"].splitlines()
    assert theirs
    for a, b in zip(theirs, ours):
        assert NUMBER.sub("#", a) == NUMBER.sub("#", b)
        assert all(map(agree, NUMBER.findall(a), NUMBER.findall(b))), f"{b}\ninstead of\n{a}"
    assert len(theirs) == len(ours)


def test_a_difference_is_seen():
    """The comparison itself: other numbers, other text."""
    assert agree("1.0001", "1.0") and agree("nan", "nan") and agree("inf", "inf")
    assert not agree("1.01", "1.0") and not agree("inf", "1.0") and not agree("nan", "0.0")
    assert NUMBER.sub("#", "loss 1.5e-3, 4 steps") == "loss #, 4 steps"
