"""Random operations agree with PyTorch on every type and layout, and with themselves on any number of threads."""
import subprocess
import sys

import pytest

from .operations import HERE, main


def test_seeds(): assert main(6000, 6200) == 0


@pytest.mark.slow
def test_ten_thousand(): assert main(0, 10000) == 0


def digest(threads, deterministic):
    command = [sys.executable, "-m", "tests.fuzz.operations", "--digest", "6000", "6040", str(threads), str(deterministic)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HERE.parents[1], timeout=300, check=True)
    return done.stdout.strip()


def test_threads():
    """The same bits, run again, with one thread and with two; random numbers included."""
    first = digest(1, 1)
    assert len(first) == 64 and first == digest(2, 1) == digest(2, 0)
