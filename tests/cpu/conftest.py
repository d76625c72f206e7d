"""A way to run scripts in processes of their own, with a cache folder of their own."""
import os
import subprocess
import sys

import pytest


@pytest.fixture
def script(tmp_path):
    """run(source, **environment) -> CompletedProcess, with FORNO_CACHE_DIR under tmp_path."""
    prelude = f"import sys; sys.path.insert(0, {os.path.dirname(__file__)!r})\nfrom handmade import kernel, store, call, bump\n"

    def run(source, *, check=True, timeout=60, **environment):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("FORNO_", "OMP_"))}
        env = {**env, "FORNO_CACHE_DIR": str(tmp_path / "cache"), "PYTHONPATH": os.getcwd(), **environment}
        done = subprocess.run([sys.executable, "-c", prelude + source], check=False, env=env, capture_output=True, text=True, timeout=timeout)
        if check and done.returncode: raise AssertionError(f"exit {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done
    return run
