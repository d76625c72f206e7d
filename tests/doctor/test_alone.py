"""The doctor as a package of its own: its wheel holds all that it needs, and works without this repository."""
import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[2] / "forno_doctor"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built as `pip install ./forno_doctor` does it, in a copy of the folder."""
    if importlib.util.find_spec("hatchling") is None: pytest.skip("no hatchling here, which builds the wheel: pip install hatchling")
    at = tmp_path_factory.mktemp("alone")
    shutil.copytree(FOLDER, at / "forno_doctor", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(at)], cwd=at / "forno_doctor", capture_output=True, text=True, timeout=120)
    found = list(at.glob("*.whl"))
    assert done.returncode == 0 and len(found) == 1, done.stderr
    return found[0]


def test_its_wheel_is_complete(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {f"forno_doctor/{f.relative_to(FOLDER).as_posix()}" for f in FOLDER.rglob("*") if f.is_file() and "__pycache__" not in f.parts and f.name != "pyproject.toml"}
    assert wanted == {n for n in names if n.startswith("forno_doctor/")}
    assert [n for n in names if n.endswith("entry_points.txt")] and not any("Requires-Dist" in zipfile.ZipFile(wheel).read(n).decode() for n in names if n.endswith("METADATA"))


def test_it_works_where_nothing_else_is(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = "import sys; sys.path.insert(0, '.'); from forno_doctor.cli import main; sys.argv = ['forno-doctor', *sys.argv[1:]]; sys.exit(main())"
    done = subprocess.run([sys.executable, "-S", "-c", program, "--json", "--html", "house.html"], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1, 2) and json.loads(done.stdout)["program"] == "forno-doctor", done.stderr
    assert "forno-doctor plan torch" in (tmp_path / "house.html").read_text(encoding="utf-8")


def test_its_command_is_named():
    assert 'forno-doctor = "forno_doctor.cli:main"' in (FOLDER / "pyproject.toml").read_text(encoding="utf-8")
