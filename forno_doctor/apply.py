"""Brings a plan into an environment, for people who say so: what would change first, then the way back on disk, then pip or uv in a process of its own, with a time limit.

Comes in: a Machine (its interpreter is the one that is changed) and arguments of `pip install`. Goes out: the changes, and how it ended. pip's --report is described in
"Installation Report" of pip's documentation; PEP 668 describes the file EXTERNALLY-MANAGED.
"""
from __future__ import annotations

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

from . import facts
from .commands import quoted
from .files import write
from .host import Answer, parsed
from .machine import Machine
from .versions import normal

DRY_SECONDS, SECONDS = 900.0, 7200.0
ASK = ("import json,os,sys,sysconfig,importlib.util as u;print(json.dumps(dict(managed=os.path.exists(os.path.join(sysconfig.get_path('stdlib'),'EXTERNALLY-MANAGED')),"
       "conda=os.path.isdir(os.path.join(sys.prefix,'conda-meta')),root=os.path.isdir(os.path.join(sys.prefix,'condabin')),pip=u.find_spec('pip') is not None)))")
SIZE = re.compile(r"(?:Downloading|Using cached) (?:\S*/)?([A-Za-z0-9_.]+)-\S+\.(?:whl|tar\.gz|zip) \(([\d.]+) ([kMG]?)B\)")
UV_LINE = re.compile(r"^ ([-+~]) ([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)

WHEELS = {"linux_x86_64": ("manylinux_2_28_x86_64", "manylinux2014_x86_64", "manylinux1_x86_64", "linux_x86_64"),              # platforms in the names of torch's wheels
          "linux_aarch64": ("manylinux_2_28_aarch64", "manylinux2014_aarch64", "linux_aarch64"), "windows_x86_64": ("win_amd64",),
          "macos_arm64": ("macosx_14_0_arm64", "macosx_11_0_arm64"), "macos_x86_64": ("macosx_11_0_x86_64", "macosx_10_9_x86_64")}


class Change(NamedTuple):
    """`before`, `after`: versions, None: not there; `size`: bytes to download, None: not known."""
    name: str
    before: str | None
    after: str | None
    size: int | None = None


class Place(NamedTuple):
    """Where it is installed: `command`: what installs there; `hindrance`: "no-python", "no-installer", "managed", "base" or "": nothing speaks against it."""
    python: str
    command: tuple[str, ...]
    hindrance: str
    managed: bool = False


def place(machine: Machine) -> Place:
    python = machine.python
    answer = machine.host.ask(python.executable, "-c", ASK)
    said = parsed(answer.out) if answer and python.version else None
    if not isinstance(said, dict) or not said: return Place(python.executable, (), "no-python")
    command = _installer(python.executable, bool(said.get("pip")))
    named = said.get("conda") and not said.get("root")                # an environment of conda's that isn't its base
    managed = bool(said.get("managed")) and not python.virtual
    hindrance = "no-installer" if not command else "managed" if managed else "" if python.virtual or named else "base"
    return Place(python.executable, command, hindrance, managed)


def _installer(python: str, has_pip: bool) -> tuple[str, ...]:
    """The interpreter's own pip; else uv; else the pip of the Python that runs this."""
    if has_pip: return (python, "-m", "pip", "install")
    uv = shutil.which("uv")
    if uv: return (uv, "pip", "install", "--python", python)
    return (sys.executable, "-m", "pip", "--python", python, "install") if importlib.util.find_spec("pip") else ()


def run(command: list[str], seconds: float, show: bool = False) -> Answer:
    """A program and all that it starts, for so long; `show`: what it says is seen, not kept."""
    pipe = None if show else subprocess.PIPE
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_NO_INPUT": "1"}
    own = {} if sys.platform == "win32" else {"start_new_session": True}
    try: process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe, env=environment, text=True, errors="replace", **own)
    except (OSError, ValueError) as error: return Answer(127, "", str(error))
    try: out, err = process.communicate(timeout=seconds)
    except BaseException as error:                # too late, or stopped by the person: in both cases with all that it started
        try: process.kill() if sys.platform == "win32" else os.killpg(process.pid, signal.SIGKILL)
        except OSError: pass
        process.wait()
        if isinstance(error, subprocess.TimeoutExpired): return Answer(None, "", "")
        raise
    return Answer(process.returncode, out or "", err or "")


def dry_run(machine: Machine, where: Place, arguments: list[str], seconds: float = DRY_SECONDS) -> tuple[list[Change], Answer]:
    """What would change, without a change; and what the installer said."""
    before = {p.name: p.version for p in machine.environment.by_name.values()}
    extra = ["--break-system-packages"] if where.managed else []
    if _is_uv(where):
        answer = run([*where.command, "--dry-run", *extra, *arguments], seconds)
        return _uv_changes(answer.err + answer.out, before), answer
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        answer = run([*where.command, "--dry-run", "--report", str(report), *extra, *arguments], seconds)
        try: items = parsed(report.read_bytes())["install"]
        except (OSError, KeyError, TypeError): items = []
    sizes = {normal(m[1]): int(float(m[2]) * {"": 1, "k": 1000, "M": 10 ** 6, "G": 10 ** 9}[m[3]]) for m in SIZE.finditer(answer.out)}
    found = [(normal(i["metadata"]["name"]), i["metadata"]["version"], i.get("download_info", {}).get("url", "")) for i in items]
    return [Change(n, before.get(n), v, sizes.get(n) or _local_size(url)) for n, v, url in sorted(found)], answer


def _is_uv(where: Place) -> bool: return where.command[1:2] == ("pip",)


def _uv_changes(text: str, before: dict[str, str]) -> list[Change]:
    gone = {normal(n): v for how, n, v in UV_LINE.findall(text) if how == "-"}
    new = {normal(n): v for how, n, v in UV_LINE.findall(text) if how in "+~"}
    return [Change(n, gone.get(n) or before.get(n), new.get(n)) for n in sorted({*gone, *new})]


def _local_size(url: str) -> int | None:
    if not url.startswith("file://"): return None
    try: return os.path.getsize(url[7:])
    except OSError: return None


# ---------------------------------------------------------------- the way back
def way_back(machine: Machine, where: Place, changes: list[Change], now: float | None = None) -> tuple[str, list[str]]:
    """A requirements file with what was there, written whole or not at all; and the commands that bring it back. OSError where it can't be written."""
    was = [c for c in changes if c.before and c.before != c.after]
    new = [c.name for c in changes if not c.before]
    stamp = time.strftime("%Y%m%d-%H%M%S", time.localtime(now))
    folder = Path(machine.python.prefix or ".") / "forno-doctor"
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"before-{stamp}.txt"
    install, removed = list(where.command), [*where.command[:-1], "uninstall"]
    if _is_uv(where): removed = [*where.command[:2], "uninstall", *where.command[3:]]
    steps = [[*install, "--force-reinstall", "--no-deps", "-r", str(file)]] if was else []
    if new: steps.append([*removed, *([] if _is_uv(where) else ["-y"]), *new])
    commands = [" ".join(map(quoted, s)) for s in steps]
    tags = dict.fromkeys(c.before.partition("+")[2] for c in was if c.before and "+" in c.before)
    indexes = [f"--extra-index-url {facts.INDEX}/{t}" for t in tags if re.fullmatch(r"cpu|xpu|cu\d+|rocm[\d.]+", t)]
    lines = [*(f"# {c}" for c in commands), *indexes, *(f"{c.name}=={c.before}" for c in was)]
    write(file, "\n".join(lines) + "\n")
    return str(file), commands


def install(where: Place, arguments: list[str], seconds: float = SECONDS, show: bool = True) -> Answer:
    return run([*where.command, *(["--break-system-packages"] if where.managed else []), *arguments], seconds, show)


# ---------------------------------------------------------------- the index, now
def on_index(python: str, package: str, version: str, options: list[str], target: tuple[str, str] | None = None, seconds: float = 60.0) -> bool | None:
    """Has the index a version at this hour ("2.9.1+cu128": this build of it)? Asked by `pip index versions`; `options`: pip's, that name the index; `target`: (Python,
    platform), where it isn't this machine. None: it didn't answer, and another one that pip knows hasn't the version."""
    more = list(options)
    if target is not None:
        more += ["--python-version", target[0].rstrip("t"), "--only-binary=:all:", *(w for t in WHEELS[target[1]] for w in ("--platform", t))]
    answer = run([python, "-m", "pip", "index", "versions", package, *more], seconds)
    m = re.search(r"^Available versions: (.+)$", answer.out, re.MULTILINE)
    if answer.code != 0 or m is None: return None
    found = {v.strip() for v in m[1].split(",")}
    there = version in found or version in {v.partition("+")[0] for v in found}
    return True if there else None if "connection broken" in answer.err else False
