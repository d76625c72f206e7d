"""Every function that most programs use (T0) on device "cuda" of a simulated machine, forward and backward, as method, in place and with `out=`, against PyTorch's
database: two samples of each here, all samples marked slow.

The sweep runs in processes of its own, as many as there are cores: what an operation breaks there doesn't reach the next one.
"""
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from . import sweep

NAMES = sweep.names_in(sweep.T0)


def swept(limit: int, seconds: int) -> dict:
    """The sweep's result for each name."""
    count = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(count) as pool:
        parts = pool.map(lambda part: list(sweep.walked(part, limit, seconds)), [NAMES[k::count] for k in range(count)])
        return {r["name"]: r for part in parts for r in part}


def settled(result): assert result["checks"] > 0 and not result["failed"], "\n".join(": ".join(map(str, f[:4])) for f in result["failed"])


@pytest.fixture(scope="module")
def some(): return swept(2, 60)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", NAMES)
def test_two_samples(some, name): settled(some[name])


@pytest.fixture(scope="module")
def every(): return swept(0, 600)


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", NAMES)
def test_every_sample(every, name): settled(every[name])
