"""From a host to a report."""
from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import PurePath

from .checks import ALL
from .finding import ERROR, ORDER, WARNING, Finding
from .host import Host
from .machine import Machine

SCHEMA = 1
FAILED = "check-failed"

# What a process shows, by the finding that says how it came about
FOLLOWS = {"cuda-files-overwritten": {"library-lacks-symbols", "cudnn-too-old", "cudnn-parts-mixed"}}


@dataclass
class Report:
    machine: Machine
    findings: list[Finding]

    @property
    def code(self) -> int: return code_of(self.findings)

    def as_data(self) -> dict:
        broken: list[tuple[str, Exception]] = []
        machine = self.machine.as_data(broken)
        findings = once(self.findings + [failure(f"machine.{part}", error) for part, error in broken])
        return {"schema": SCHEMA, "machine": machine, "findings": [f.as_data() for f in findings], "code": code_of(findings)}


def code_of(findings: list[Finding]) -> int:
    """0: nothing is wrong; 1: something is worth a look; 2: something doesn't work."""
    return 2 if any(f.severity == ERROR for f in findings) else 1 if any(f.severity == WARNING for f in findings) else 0


def diagnose(host: Host | None = None, only: frozenset[str] = frozenset(), ignore: frozenset[str] = frozenset()) -> Report:
    """`only`: ids of the findings that are wanted, empty: all; `ignore`: ids that aren't. That a check broke is told whatever is wanted, because it may have been the one."""
    machine = Machine(host or Host())
    found = [f for check in (started, *ALL) for f in guarded(check, machine) if (not only or f.id in only or f.id == FAILED) and f.id not in ignore]
    return Report(machine, sorted(once(told_once(found)), key=lambda f: ORDER.index(f.severity)))


def once(found: list[Finding]) -> list[Finding]:
    """What broke at one place for one reason is one finding, however many checks came by."""
    out: dict[tuple, Finding] = {}
    for k, f in enumerate(found):
        first = out.setdefault((f.data["error"], *f.evidence) if f.id == FAILED else (k,), f)
        if first is f: continue
        names = first.data["checks"] = list(dict.fromkeys(first.data["checks"] + f.data["checks"]))
        first.data["check"] = names[0] + (f" (+{len(names) - 1})" if len(names) > 1 else "")
    return list(out.values())


def told_once(found: list[Finding]) -> list[Finding]:
    """Without what follows from another finding about the same file."""
    def files(f: Finding) -> set[str]: return {where.split(" (")[0] for _, where in f.evidence}
    causes = [(f, FOLLOWS[f.id]) for f in found if f.id in FOLLOWS]
    return [f for f in found if not any(f.id in ids and files(f) & files(cause) for cause, ids in causes)]


def started(machine: Machine) -> Iterator[Finding]:
    """Begins with what takes longest."""
    machine.ask()
    yield from ()


def guarded(check: Callable, machine: Machine) -> Iterator[Finding]:
    """What a check finds; one that breaks hides nothing of what others find, nor of what it found before."""
    area = check.__module__.rsplit(".", 1)[-1]
    try:
        for f in check(machine):
            f.area = area
            yield f
    except Exception as error: yield failure(f"{area}.{check.__name__}", error)


def failure(what: str, error: Exception) -> Finding:
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{PurePath(where.filename).name}:{where.lineno}"
    return Finding(FAILED, WARNING, {"check": what, "checks": [what], "error": f"{type(error).__name__}: {error}"}, [(place, where.name)], area="doctor")
