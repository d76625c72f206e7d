"""Simulated devices for tests: what `gpu.driver()` finds, in place of this machine's."""
import pytest

from forno import gpu
from forno.framework.engine import flush
from forno.gpu.sim import Machine


@pytest.fixture(params=[1, 2], ids=lambda seed: f"seed {seed}")
def devices(request, monkeypatch):
    """A machine with two GPUs, which finds whatever is unordered, out of bounds or used too late."""
    flush()                                    # what other tests left
    machine = Machine(2, seed=request.param)
    with machine:
        monkeypatch.setattr(gpu, "_found", machine.driver())
        yield machine
        flush()
