"""From a host to a report."""
from __future__ import annotations

from dataclasses import dataclass

from .checks import ALL
from .finding import ERROR, ORDER, Finding
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


def diagnose(host: Host | None = None) -> Report:
    machine = Machine(host or Host())
    found = [f for check in ALL for f in check(machine)]
    return Report(machine, sorted(found, key=lambda f: ORDER.index(f.severity)))
