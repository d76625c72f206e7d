"""From a host to a report."""
from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .checks import ALL
from .finding import ERROR, ORDER, WARNING, Finding
from .host import Host
from .machine import Machine

SCHEMA = 1


@dataclass
class Report:
    machine: Machine
    findings: list[Finding]

    @property
    def code(self) -> int:
        """0: nothing is wrong; 1: something is worth a look; 2: something doesn't work."""
        return 2 if any(f.severity == ERROR for f in self.findings) else 1 if any(f.severity != "note" for f in self.findings) else 0

    def as_data(self) -> dict: return {"schema": SCHEMA, "machine": self.machine.as_data(), "findings": [f.as_data() for f in self.findings], "code": self.code}


def diagnose(host: Host | None = None, only: frozenset[str] = frozenset(), ignore: frozenset[str] = frozenset()) -> Report:
    """`only`: ids of the findings that are wanted, empty: all; `ignore`: ids that aren't."""
    machine = Machine(host or Host())
    machine.ask()
    found = [f for check in ALL for f in guarded(check, machine) if (not only or f.id in only) and f.id not in ignore]
    return Report(machine, sorted(found, key=lambda f: ORDER.index(f.severity)))


def guarded(check: Callable, machine: Machine) -> Iterator[Finding]:
    """What a check finds; one that breaks hides nothing of what others find, nor of what it found before."""
    area = check.__module__.rsplit(".", 1)[-1]
    try:
        for f in check(machine):
            f.area = area
            yield f
    except Exception as error:
        where = traceback.extract_tb(error.__traceback__)[-1]
        yield Finding("check-failed", WARNING, {"check": f"{area}.{check.__name__}", "error": f"{type(error).__name__}: {error}"},
                      [(f"{where.filename.replace(chr(92), '/').rsplit('/', 1)[-1]}:{where.lineno}", where.name)], area="doctor")
