"""Simulated devices for tests: what `gpu.driver()` finds, in place of this machine's.

Every test on them runs with two seeds, each of which runs streams in an order of its own; GPU_SEEDS=50 makes that 50, and GPU_SEEDS=17-20
the four from 17 on.
"""
import os

import pytest

import forno as torch
from forno import gpu
from forno.framework.engine import flush
from forno.gpu.sim import Machine
from forno.graph.line import LOCAL, drop_trie

ASKED = os.environ.get("GPU_SEEDS")
FIRST, _, LAST = (ASKED or "2").rpartition("-")
SEEDS = range(int(FIRST or 1), int(LAST) + 1)


def seeds(own):
    """Those of tests that have their own, if no more are asked for."""
    return SEEDS if ASKED and len(SEEDS) > len(own) else own


@pytest.fixture(params=SEEDS, ids=lambda seed: f"seed {seed}")
def devices(request, monkeypatch):
    """A machine with two GPUs, which finds whatever is unordered, out of bounds or used too late, and where memory that nobody wrote is NaN."""
    flush()                                    # what other tests left
    machine = Machine(2, seed=request.param, poisoning=True)
    with machine, torch.backends.cudnn.flags(enabled=True, allow_tf32=False):          # convolutions are compared with the CPU's
        monkeypatch.setattr(gpu, "_found", machine.driver())
        yield machine
        flush()


@pytest.fixture
def fresh():
    """Programs of this test are planned in it, whatever others have planned."""
    begin()
    yield
    begin()


def begin():
    flush()
    drop_trie()
    LOCAL.run.open(LOCAL.run.grad, LOCAL.run.inference)
