"""Does torch's build fit the GPU, the driver and the packages beside it?"""
from __future__ import annotations

from collections.abc import Iterator

from .. import commands, facts
from ..finding import ERROR, WARNING, Finding
from ..machine import Machine
from ..plan import Plan, Target, Wish, plan
from ..versions import at_least, parse

VERIFY = "python -c \"import torch; print(torch.cuda.is_available())\""


def target(m: Machine) -> Target:
    oldest = min(m.capabilities, key=lambda c: tuple(map(int, c.split("."))), default=None)
    return Target(m.python.tag, m.system.platform, oldest, m.driver.version)


def repaired(m: Machine) -> list[str]:
    """Commands for the nearest set that fits: the same release if it can be, else the newest."""
    extras = {p: "" for p in ("torchvision", "torchaudio") if m.environment.get(p)}
    for wish in (f"=={parse(m.torch.version).public}", ""):
        found = plan(target(m), Wish(wish, extras))
        if isinstance(found, Plan): return commands.bound(commands.pip(found, reinstall=True), m.python.executable, m.torch.source)
    return []


def cpu_build(m: Machine) -> Iterator[Finding]:
    """A CPU build where there is a GPU (A3)."""
    if m.torch and m.torch.tag == "cpu" and m.capabilities:
        yield Finding("cpu-build", ERROR, {"version": m.torch.version, "gpu": m.gpus[0].name}, [("torch", m.torch.folder)], repaired(m), VERIFY)


def no_code_for_gpu(m: Machine) -> Iterator[Finding]:
    """A build without code for a GPU (A1, A2)."""
    build = m.torch and m.torch.release and m.torch.release.build(m.torch.tag)
    if not build: return
    architectures = build.architectures(m.system.platform)
    full = facts.full_floor(build.cuda, m.system.platform)
    can_compile = bool(m.driver.version and full and at_least(m.driver.version, full))
    for gpu, capability in zip(m.gpus, m.capabilities):
        if architectures is not None and not facts.covers(architectures, capability, can_compile):
            yield Finding("no-code-for-gpu", ERROR, {"gpu": gpu.name, "capability": capability, "version": m.torch.version, "has": " ".join(architectures)},
                          [("torch", m.torch.folder)], repaired(m), VERIFY)


def driver_too_old(m: Machine) -> Iterator[Finding]:
    """A build for a newer CUDA than the driver speaks (A4)."""
    if not (m.torch and m.torch.cuda and m.driver.version): return
    floor = facts.floor(m.torch.cuda, m.system.platform)
    if floor and not at_least(m.driver.version, floor):
        yield Finding("driver-too-old", ERROR, {"version": m.torch.version, "cuda": m.torch.cuda, "driver": m.driver.version, "needed": floor,
                                                "speaks": m.driver.cuda or facts.cuda_of_driver(m.driver.version)}, [("driver", m.driver.library or "")], repaired(m), VERIFY)


def pairs(m: Machine) -> Iterator[Finding]:
    """torchvision or torchaudio of another torch (A5, A6)."""
    release = m.torch and m.torch.release
    if not release: return
    for name in ("torchvision", "torchaudio"):
        p, wanted = m.environment.get(name), release.extra(name)
        if p is None or wanted is None: continue
        if parse(p.version) and parse(p.version).public != wanted:
            yield Finding("unpaired", ERROR, {"package": name, "version": p.version, "torch": m.torch.version, "wanted": wanted}, [(name, p.folder)], repaired(m),
                          f"python -c \"import {name}\"")
        elif p.local and m.torch.tag and p.local != m.torch.tag:
            yield Finding("other-build", WARNING, {"package": name, "version": p.version, "torch": m.torch.version}, [(name, p.folder)], repaired(m),
                          f"python -c \"import {name}\"")


CHECKS = [cpu_build, no_code_for_gpu, driver_too_old, pairs]
