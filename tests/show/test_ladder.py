"""Every rung of FORNO_SHOW prints what it promises, and what the rungs below it print."""
import os
import subprocess
import sys

import pytest

PROGRAM = "import forno as torch; x = torch.ones(4, 3, requires_grad=True); (x * 2).exp().sum().backward(); print(x.grad.sum().item())"
SAYS = {1: "run:", 2: "plan:", 3: "values with one index", 4: " = apply", 5: "define", 6: ".text"}


@pytest.mark.parametrize("rung", [0, *SAYS])
def test_rung(rung, tmp_path):
    env = {k: v for k, v in os.environ.items() if not k.startswith("FORNO_")}
    env |= {"FORNO_SHOW": str(rung), "FORNO_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.getcwd()}
    done = subprocess.run([sys.executable, "-c", PROGRAM], env=env, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) == pytest.approx(2 * 12 * 2.718281828459045 ** 2, rel=1e-5)
    for r, text in SAYS.items(): assert (text in done.stdout) == (r <= rung), (r, done.stdout[:2000])
