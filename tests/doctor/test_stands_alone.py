"""The doctor works where everything else is broken, and reads a real torch without importing it."""
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run(*arguments, path=(), **more):
    return subprocess.run([sys.executable, *arguments], env={"PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join([*map(str, path), str(ROOT)])}, capture_output=True, text=True, timeout=60, **more)


@pytest.fixture
def broken(tmp_path):
    """NumPy, llvmlite and torch that don't load."""
    for name in ("numpy", "llvmlite", "torch"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise OSError('{name} is broken')\n")
    return tmp_path


@pytest.mark.parametrize("command", [["-m", "forno.doctor"], ["-m", "forno_doctor"], ["-m", "forno", "doctor"], ["-c", "import sys; sys.argv = ['forno', 'doctor', *sys.argv[1:]]; from forno_doctor.entry import main; sys.exit(main())"]])
def test_it_starts_where_all_is_broken(broken, command):
    done = run(*command, "--json", path=[broken])
    assert done.returncode in (0, 1, 2) and json.loads(done.stdout)["schema"] == 1, done.stderr


def test_forno_says_where_the_doctor_is(broken):
    done = run("-c", "import forno as torch; torch.ones(3)", path=[broken])
    assert "ImportError: forno stands on NumPy and llvmlite" in done.stderr and "is broken" in done.stderr and "python -m forno.doctor" in done.stderr


def test_asked_for_the_doctor_the_package_loads_nothing_else():
    done = run("-X", "importtime", "-m", "forno.doctor", "--json")
    assert json.loads(done.stdout)["schema"] == 1 and not re.search(r"\|\s+(?:numpy|llvmlite)\b", done.stderr)


def test_the_command_says_so_too(broken):
    done = run("-c", "import sys; sys.argv = ['forno', 'demo']; from forno_doctor.entry import main; sys.exit(main())", path=[broken])
    assert done.returncode == 2 and "is broken" in done.stderr and "`forno doctor`" in done.stderr and "Traceback" not in done.stderr


def test_a_real_torch_is_read_and_not_imported():
    torch = pytest.importorskip("torch")
    done = run("-X", "importtime", "-m", "forno_doctor", "--json")
    assert json.loads(done.stdout)["machine"]["torch"]["version"] == torch.__version__
    assert re.search(r"\|\s+forno_doctor\b", done.stderr) and not re.search(r"\|\s+(?:torch|numpy|llvmlite|forno)\b", done.stderr)
