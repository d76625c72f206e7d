"""Random programs agree with PyTorch: a few hundred here, ten thousand behind the marker `slow`."""
import os
import subprocess
import sys
import warnings

import hypothesis
import hypothesis.strategies as st
import pytest
import torch

from forno.core.flags import flags

from . import layouts
from .programs import Program, main


@pytest.fixture(autouse=True)
def quiet():
    threads, window = torch.get_num_threads(), flags.WINDOW
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    torch.set_num_threads(threads)
    flags.WINDOW = window


@hypothesis.settings(max_examples=120, deadline=None, database=None, suppress_health_check=list(hypothesis.HealthCheck))
@hypothesis.given(st.randoms(use_true_random=False))
def test_random_programs(r):
    """hypothesis decides every choice, and shrinks a program that differs."""
    log = []
    try: Program(r, log).run()
    except AssertionError as e: raise AssertionError("\n".join([str(e), *log])) from None


@pytest.mark.parametrize("first", [0, 100])
def test_seeds(first): assert main(first, first + 100) == 0


@pytest.mark.parametrize("window", [1, 3, 100])
def test_windows(window):
    """The same results, however few operations wait."""
    assert main(200, 240, window) == 0


def test_verified():
    """Every graph and plan passes its verifier."""
    command = [sys.executable, "-m", "tests.fuzz.programs", "300", "360"]
    done = subprocess.run(command, env={**os.environ, "FORNO_CHECK": "1"}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]


def test_layouts():
    """Every operation that makes memory, on operands that lie in every way: the strides are PyTorch's."""
    assert list(layouts.differing()) == []


@pytest.mark.slow
def test_ten_thousand(): assert main(10000, 20000) == 0
