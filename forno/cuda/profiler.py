"""torch.cuda.profiler: from where to where NVIDIA's profilers look, if they were told to wait for that."""
from __future__ import annotations

import contextlib

from .runtime import check_error, cudart

__all__ = ["profile", "start", "stop"]


def start():
    """A profiler looks from here on."""
    check_error(cudart().cudaProfilerStart())


def stop():
    """And no longer."""
    check_error(cudart().cudaProfilerStop())


@contextlib.contextmanager
def profile():
    """A block that a profiler looks at."""
    try:
        start()
        yield
    finally: stop()
