"""--apply changes an environment only as it said, and only where it may: with a pip that is made here, and with a real one in a real environment, offline."""
import argparse
import base64
import hashlib
import json
import os
import sys
import time
import venv
import zipfile
from pathlib import Path

import pytest

from forno_doctor import apply
from forno_doctor.cli import plan as command
from forno_doctor.host import Host
from forno_doctor.machine import Machine
from forno_doctor.plan import Plan, resolve
from forno_doctor.words import Words

PIP = """
import json, os, sys
log = os.environ["FAKE_PIP_LOG"]
with open(log, "a") as f: f.write(json.dumps(sys.argv[1:]) + "\\n")
a = sys.argv[1:]
if "--report" in a:
    print("Downloading torch-2.15.0-cp311-cp311-linux_x86_64.whl (200.5 MB)")
    items = json.loads(os.environ["FAKE_PIP_REPORT"])
    json.dump({"install": [{"metadata": {"name": n, "version": v}, "download_info": {"url": "https://nowhere/" + n}} for n, v in items]}, open(a[a.index("--report") + 1], "w"))
print("ERROR: as asked", file=sys.stderr)
sys.exit(int(os.environ.get("FAKE_PIP_CODE_DRY" if "--dry-run" in a else "FAKE_PIP_CODE", "0")))
"""


class Env:
    """An environment of this Python's, without pip. `site`: where its packages are."""

    def __init__(self, folder: Path, fake=True):
        venv.EnvBuilder(with_pip=False, symlinks=os.name != "nt").create(folder)
        self.folder, self.python = folder, str(folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python"))
        self.site = next(p for p in folder.rglob("site-packages"))
        self.log = folder / "pip.log"
        if fake:
            (self.site / "pip").mkdir()
            (self.site / "pip" / "__init__.py").touch()
            (self.site / "pip" / "__main__.py").write_text(PIP)

    def package(self, name, version):
        info = self.site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        return self

    def calls(self): return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []
    def machine(self): return Machine(Host(python=self.python))


@pytest.fixture
def env(tmp_path, monkeypatch):
    e = Env(tmp_path / "env")
    monkeypatch.setenv("FAKE_PIP_LOG", str(e.log))
    monkeypatch.setenv("FAKE_PIP_REPORT", json.dumps([["torch", "2.15.0+cpu"], ["filelock", "3.20"]]))
    return e


@pytest.fixture
def doctor(capsys):
    def run(*arguments, lang="en"):
        p = argparse.ArgumentParser()
        p.add_argument("--json", action="store_true")
        command.add(p.add_subparsers())
        options = p.parse_args(["plan", *arguments, "--no-gpu", "--apply"])
        options.words = Words(lang)
        code = options.run(options)
        said = capsys.readouterr()
        return code, said.out + said.err
    return run


def index(e: Env) -> str:
    """The version of torch that this environment's Python is planned for."""
    m = e.machine()
    p = resolve(command.target(m, no_gpu=True), command.read(["torch"]))
    assert isinstance(p, Plan)
    return p.packages["torch"]


def test_nothing_is_changed_without_a_yes(env, doctor):
    env.package("torch", "2.6.0+cu124")
    code, said = doctor("--into", env.python)
    assert code == 1 and "torch  2.6.0+cu124 -> 2.15.0+cpu  (200.5 MB)" in said and "filelock  new -> 3.20" in said and "say --yes" in said
    assert len(env.calls()) == 1 and "--dry-run" in env.calls()[0] and not (env.folder / "forno-doctor").exists()


def test_with_a_yes_the_way_back_is_written_first(env, doctor):
    env.package("torch", "2.6.0+cu124").package("numpy", "2.1.0")
    code, said = doctor("--into", env.python, "--yes")
    dry, real = env.calls()
    assert code == 0 and dry[:2] == ["install", "--dry-run"] and " ".join(real) == f"install torch=={index(env)} --index-url https://download.pytorch.org/whl/cpu"
    file, = (env.folder / "forno-doctor").glob("before-*.txt")
    lines = file.read_text().splitlines()
    assert lines[-2:] == ["--extra-index-url https://download.pytorch.org/whl/cu124", "torch==2.6.0+cu124"] and not any("numpy" in line for line in lines)
    back = f"{env.python} -m pip install --force-reinstall --no-deps -r {file}"
    assert back in said and f"{env.python} -m pip uninstall -y filelock" in said and f"# {back}" in lines and os.listdir(file.parent) == [file.name]
    assert f'{env.python} -c "import torch' in said


def test_an_environments_folder_stands_for_its_python(env, doctor):
    assert doctor("--into", str(env.folder))[0] == 1 and "--dry-run" in env.calls()[0]


def test_a_person_is_asked(env, doctor, monkeypatch):
    monkeypatch.setattr(sys, "stdin", type("Terminal", (), {"isatty": lambda self: True})())
    for answer, code, calls in (("", 1, 1), ("n", 1, 2), ("y", 0, 4)):
        monkeypatch.setattr("builtins.input", lambda question, a=answer: a)
        assert doctor("--into", env.python)[0] == code and len(env.calls()) == calls


def test_an_installation_that_fails_says_how_to_go_back(env, doctor, monkeypatch):
    monkeypatch.setenv("FAKE_PIP_CODE", "7")
    code, said = doctor("--into", env.python, "--yes", "--json")
    assert code == 2 and "The installer ended with 7" in said and "ERROR: as asked" in said and said.count("uninstall -y") == 2
    monkeypatch.setenv("FAKE_PIP_CODE_DRY", "3")
    code, said = doctor("--into", env.python, "--yes")
    assert code == 2 and "ended with 3" in said and "--dry-run" in env.calls()[-1]


def test_nothing_to_change_is_all_well(env, doctor, monkeypatch):
    monkeypatch.setenv("FAKE_PIP_REPORT", "[]")
    code, said = doctor("--into", env.python, "--yes")
    assert code == 0 and "this set is installed" in said and len(env.calls()) == 1


def test_no_way_back_no_change(env, doctor, monkeypatch):
    (env.folder / "forno-doctor").write_text("in the way")
    code, said = doctor("--into", env.python, "--yes")
    assert code == 1 and "The way back can't be written" in said and len(env.calls()) == 1


@pytest.mark.parametrize("said, hindrance", [({"managed": True}, "managed"), ({}, "base"), ({"conda": True, "root": True}, "base"), ({"conda": True}, ""), ({"pip": False}, "no-installer")])
def test_where_it_may_not(env, doctor, monkeypatch, said, hindrance):
    """A Python that is no environment of its own: by what it answers."""
    answers = {"managed": False, "conda": False, "root": False, "pip": True, **said}
    monkeypatch.setattr(apply, "_installer", lambda python, has_pip: (python, "-m", "pip", "install") if has_pip else ())
    m = env.machine()
    m.python.virtual = False
    monkeypatch.setattr(Host, "ask", lambda self, *words, **_: apply.Answer(0, json.dumps(answers), ""))
    assert apply.place(m).hindrance == hindrance and apply.place(m).managed == bool(said.get("managed"))


def test_force_is_said_to_pip_where_the_system_manages(env):
    where = apply.Place(env.python, (env.python, "-m", "pip", "install"), "managed", True)
    apply.dry_run(env.machine(), where, ["torch"])
    apply.install(where, ["torch"], show=False)
    assert all("--break-system-packages" in c for c in env.calls())


def test_refusals_are_told(env, doctor, monkeypatch, tmp_path):
    for hindrance, force in (("managed", False), ("base", False), ("no-installer", True), ("no-python", True)):
        monkeypatch.setattr(apply, "place", lambda m, h=hindrance: apply.Place("/x/python", (), h))
        for lang in ("en", "zh"):
            code, said = doctor("--into", env.python, "--yes", *(["--force"] if force else []), lang=lang)
            assert code == 1 and "/x/python" in said
    monkeypatch.undo()
    code, said = doctor("--into", env.python, "--python", "3.9" if sys.version_info[:2] != (3, 9) else "3.10", "--yes")
    assert code == 1 and "the plan is for 3." in said and not env.calls()
    assert doctor("torch==1.8.2", "--into", env.python)[0] == 1


def test_what_hangs_is_ended_with_all_that_it_started(tmp_path):
    mark = tmp_path / "late"
    child = f"import time; time.sleep(0.8); open({str(mark)!r}, 'w')"
    started = time.perf_counter()
    answer = apply.run([sys.executable, "-c", f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"], 0.4)
    assert answer.code is None and time.perf_counter() - started < 5
    time.sleep(0.8)
    assert not mark.exists() or os.name == "nt"
    assert apply.run(["/nowhere/pip"], 5).code == 127


def test_uv_is_understood(env):
    uv = env.folder / "uv"
    uv.write_text(f"#!{env.python}\nimport sys, json\nopen({str(env.log)!r}, 'a').write(json.dumps(sys.argv[1:]) + chr(10))\n"
                  "sys.stderr.write('Would uninstall 1 package\\n - torch==2.6.0\\n + torch==2.9.1+cu128\\n + sympy==1.14\\n')\n")
    uv.chmod(0o755)
    where = apply.Place(env.python, (str(uv), "pip", "install", "--python", env.python), "")
    changes, answer = apply.dry_run(env.machine(), where, ["torch"])
    assert changes == [("sympy", None, "1.14", None), ("torch", "2.6.0", "2.9.1+cu128", None)] and answer.code == 0
    _, back = apply.way_back(env.machine(), where, changes, now=0)
    assert back[1] == f"{uv} pip uninstall --python {env.python} sympy" and back[0].startswith(f"{uv} pip install --python {env.python} --force-reinstall")


@pytest.mark.parametrize("out, err, code, there", [
    ("torch (2.9.1)\nAvailable versions: 2.9.1+cu128, 2.9.0+cu128\n", "", 0, True), ("Available versions: 2.9.1, 2.9.1+cpu\n", "", 0, False), ("", "", 1, None), ("odd", "", 0, None),
    ("Available versions: 2.9.1\n", "WARNING: Retrying after connection broken", 0, None)])                   # another index, which pip's settings name, has PyPI's
def test_the_index_is_asked_by_pip(monkeypatch, out, err, code, there):
    seen = []
    monkeypatch.setattr(apply, "run", lambda words, seconds: seen.append(words) or apply.Answer(code, out, err))
    assert apply.on_index("/p", "torch", "2.9.1+cu128", ["-i"], ("3.13t", "windows_x86_64")) is there
    assert seen == [["/p", "-m", "pip", "index", "versions", "torch", "-i", "--python-version", "3.13", "--only-binary=:all:", "--platform", "win_amd64"]]


def wheel(folder: Path, name: str, version: str) -> Path:
    """A wheel with one module, as PyPA's specification "Binary distribution format" says."""
    files = {f"{name}/__init__.py": f"__version__ = {version!r}\n", f"{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
             f"{name}-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    record = "".join(f"{p},sha256={base64.urlsafe_b64encode(hashlib.sha256(t.encode()).digest()).rstrip(b'=').decode()},{len(t)}\n" for p, t in files.items()) + f"{name}-{version}.dist-info/RECORD,,\n"
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as z:
        for p, t in {**files, f"{name}-{version}.dist-info/RECORD": record}.items(): z.writestr(p, t)
    return path


def test_a_real_environment_is_changed_and_brought_back(tmp_path, doctor, monkeypatch):
    pytest.importorskip("pip")
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    e = Env(tmp_path / "env", fake=False)
    new = index(e)
    wheel(wheels, "torch", new)
    with zipfile.ZipFile(wheel(wheels, "torch", "2.0.1")) as z: z.extractall(e.site)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    monkeypatch.setattr(apply.shutil, "which", lambda name: None)
    code, said = doctor("--into", e.python, "--yes", "--json")
    assert code == 0 and f"torch  2.0.1 -> {new}  (0.0 MB)" in said, said
    assert e.machine().environment.get("torch").version == new
    back = next(line.strip()[2:] for line in said.splitlines() if "--force-reinstall" in line)
    assert apply.run(back.split(), 60).code == 0 and e.machine().environment.get("torch").version == "2.0.1"
