"""Windows: DLLs that `import torch` doesn't find: "[WinError 126] … Error loading fbgemm.dll or one of its dependencies" (A15)."""
from __future__ import annotations

import re
from collections.abc import Iterator

from .. import commands
from ..finding import ERROR, Finding
from ..loader import Found
from ..machine import Machine
from ..plan import Plan, Wish, plan, target
from .common import PAIRED, bound, python, repaired

RUNTIME = re.compile(r"(?:vcruntime|msvcp|concrt|vcomp|vccorlib)140(?:_\w+)?\.dll")
DRIVER = "nvcuda.dll", "nvml.dll", "nvcuvid.dll"                                           # come with the driver; torch starts without them
GET_RUNTIME = "winget install --id Microsoft.VCRedist.2015+.{kind}"


def missing(m: Machine) -> Iterator[Finding]:
    lost = [f for n, f in (m.dlls.lost if m.dlls else {}).items() if n not in DRIVER]
    if m.dlls is None or m.torch is None or not m.dlls.names(f"{m.dlls.windows}/System32"): return
    runtime, openmp = [f for f in lost if RUNTIME.fullmatch(f.name)], [f for f in lost if f.name.startswith("libomp140")]
    rest = [f for f in lost if f not in runtime and f not in openmp]
    kind = "arm64" if m.host.machine in ("aarch64", "arm64") else "x64"
    if runtime: yield _finding(m, "vc-runtime-missing", runtime, [GET_RUNTIME.format(kind=kind)])
    if openmp: yield _finding(m, "libomp-missing", openmp, _later(m))
    if rest: yield _finding(m, "dll-missing", rest, repaired(m, again=True) if all(_was_here(m, f) for f in rest) else [])


def _finding(m: Machine, id: str, lost: list[Found], todo: list[str]) -> Finding:
    data = {"library": lost[0].name, "by": (lost[0].by or "").rsplit("/", 1)[-1], "count": len(lost), "version": m.torch.version if m.torch else ""}
    return Finding(id, ERROR, data, [(f.name, f.by or "") for f in lost], todo, python(m, "import torch"))


def _later(m: Machine) -> list[str]:
    """A release of torch that doesn't ask for it."""
    found = plan(target(m), Wish(">=2.4.1", {p: "" for p in PAIRED if m.environment.get(p)}))
    return bound(m, *commands.pip(found, reinstall=True)) if isinstance(found, Plan) else []


def _was_here(m: Machine, f: Found) -> bool:
    """Did torch bring it?"""
    package = m.environment.get("torch")
    return package is not None and any(n.lower() == f"torch/lib/{f.name}" for n in package.files)


CHECKS = [missing]
