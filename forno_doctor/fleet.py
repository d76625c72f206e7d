"""Many machines at once: every node of a cluster examines itself, through a launcher that is there anyway, and what differs among them is told.

Comes in: hosts or a job, or files of reports (`--json`). Goes out: `Fleet`. Nodes write their reports in short lines with a mark, because launchers mix and label what their
processes print: a line of less than 512 bytes arrives whole (POSIX, PIPE_BUF).
"""
from __future__ import annotations

import base64
import json
import re
import zlib
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from .finding import ORDER
from .host import Host, parsed

CHUNK = 400
LINE = re.compile(r"forno-doctor:([^:\s]{1,255}):(\d{1,5})/(\d{1,5}):([A-Za-z0-9+/=]+)")
MOST = 32 << 20                                # bytes of one report
SECONDS = 120.0
LAUNCHERS = "srun", "mpiexec", "ray", "ssh"


@dataclass
class Fleet:
    """`reports`: by node; `silent`: nodes that were named and didn't answer; `errors`: what the launcher said."""
    reports: dict[str, dict] = field(default_factory=dict)
    silent: list[str] = field(default_factory=list)
    errors: str = ""

    def differences(self) -> list[Difference]:
        """Facts that aren't the same on all nodes, in the order of the report."""
        facts = {node: facts_of(r) for node, r in self.reports.items()}
        keys = list(dict.fromkeys(k for f in facts.values() for k in f))
        found = [Difference(k, _groups({n: f.get(k) for n, f in facts.items()})) for k in keys]
        return [d for d in found if len(d.groups) > 1]

    def findings(self) -> dict[tuple[str, str], list[str]]:
        """(id, severity) to the nodes that have it."""
        out: dict[tuple[str, str], list[str]] = {}
        for node, r in self.reports.items():
            for f in r.get("findings", ()):
                if f.get("severity") in ORDER: out.setdefault((str(f.get("id")), f["severity"]), []).append(node)
        return {k: sorted(set(nodes)) for k, nodes in out.items()}

    @property
    def code(self) -> int:
        """0: all alike and well; 1: something differs or is worth a look; 2: a node is silent, or something doesn't work there."""
        if self.silent or not self.reports or any([r.get("code") == 2 for r in self.reports.values()]): return 2
        return int(bool(self.differences()) or any([r.get("code") for r in self.reports.values()]))

    def as_data(self) -> dict:
        return {"schema": 1, "nodes": self.reports, "silent": self.silent, "errors": self.errors, "code": self.code,
                "differences": [{"fact": d.fact, "values": [{"value": v, "nodes": nodes} for v, nodes in d.groups]} for d in self.differences()]}


@dataclass
class Difference:
    """`groups`: (value, nodes), what most nodes have first."""
    fact: str
    groups: list[tuple[str | None, list[str]]]


def _groups(values: dict[str, str | None]) -> list[tuple[str | None, list[str]]]:
    counted = Counter(values.values())
    return sorted(((v, sorted(n for n, x in values.items() if x == v)) for v in counted), key=lambda g: (-len(g[1]), g[1]))


def facts_of(report: dict) -> dict[str, str]:
    """What should be alike in a cluster, as plain text by name; a report of another version may lack some."""
    m = report.get("machine")
    if not isinstance(m, dict): return {}
    out = {}
    for part, keys in (("system", ("platform", "name", "kernel", "glibc", "container")), ("python", ("version", "executable")), ("driver", ("kernel", "library_version", "cuda")),
                       ("torch", ("version", "cuda", "folder"))):
        about = m.get(part)
        for key in keys:
            if isinstance(about, dict) and about.get(key): out[f"{part}.{key}"] = str(about[key])
    gpus = Counter(str(g.get("name")) for g in m.get("gpus", ()))
    if gpus: out["gpus"] = ", ".join(f"{n} x {name}" for name, n in sorted(gpus.items()))
    for c in m.get("libraries", ()):
        if c.get("rule"): out[f"library.{c.get('kind')}"] = f"{c.get('version')} ({c.get('path')})"
    for p in m.get("packages", ()): out.setdefault(f"package.{p.get('name')}", str(p.get("version")))
    return out


# ---------------------------------------------------------------- the way of a report
def lines(node: str, report: dict) -> list[str]:
    """A report as lines that survive being mixed with others'."""
    text = base64.b64encode(zlib.compress(json.dumps(report, ensure_ascii=False).encode())).decode()
    chunks = [text[k:k + CHUNK] for k in range(0, len(text), CHUNK)]
    node = re.sub(r"[:\s]", "_", node) or "?"
    return [f"forno-doctor:{node}:{k}/{len(chunks)}:{c}" for k, c in enumerate(chunks)]


def gathered(text: str) -> dict[str, dict]:
    """Reports from the lines of all nodes; what isn't whole is left out."""
    parts: dict[tuple[str, int], dict[int, str]] = {}
    for node, k, n, chunk in LINE.findall(text): parts.setdefault((node, int(n)), {})[int(k)] = chunk
    out = {}
    for (node, n), chunks in parts.items():
        if sorted(chunks) == list(range(n)) and (report := _unpacked("".join(chunks[k] for k in range(n)))) is not None: out[node] = report
    return out


def _unpacked(text: str) -> dict | None:
    try: report = parsed(zlib.decompressobj().decompress(base64.b64decode(text), MOST))
    except (ValueError, zlib.error): return None
    return report if isinstance(report, dict) else None


# ---------------------------------------------------------------- launchers
def launcher(host: Host) -> str | None:
    """The one at hand: of a running job first."""
    inside = {"srun": "SLURM_JOB_ID", "ray": "RAY_ADDRESS"}
    for name, variable in inside.items():
        if host.environment.get(variable) and host.which(name): return name
    return next((n for n in ("srun", "mpiexec", "ssh") if host.which(n)), None)


def command(host: Host, by: str, hosts: list[str]) -> list[list[str]]:
    """What starts one process on each node; `hosts` may be empty where a job knows its own."""
    node = [host.python, "-m", "forno_doctor", "node"]
    if by == "srun":
        if hosts: return [["srun", f"--nodelist={','.join(hosts)}", f"--nodes={len(hosts)}", f"--ntasks={len(hosts)}", "--ntasks-per-node=1", *node]]
        count = host.environment.get("SLURM_JOB_NUM_NODES") or host.environment.get("SLURM_NNODES") or "1"
        return [["srun", f"--ntasks={count}", "--ntasks-per-node=1", *node]]
    if by == "mpiexec":
        answer = host.ask("mpiexec", "--version")
        said = answer.out + answer.err if answer is not None else ""
        if "Open MPI" in said or "open-mpi" in said: return [["mpiexec", *(["--host", ",".join(hosts)] if hosts else []), "--map-by", "ppr:1:node", *node]]
        return [["mpiexec", *(["-hosts", ",".join(hosts), "-n", str(len(hosts))] if hosts else []), "-ppn", "1", *node]]          # MPICH, Intel MPI and their kin
    if by == "ray": return [[host.python, str(Path(__file__).with_name("on_ray.py"))]]
    return [["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", h, *node] for h in hosts]


def collect(host: Host, by: str, hosts: list[str], seconds: float = SECONDS) -> Fleet:
    """Starts the doctor on every node and waits for all, or until the time is over."""
    answers = [a for a in host.ask_all(command(host, by, hosts), seconds) if a is not None]
    reports = gathered("\n".join(a.out for a in answers))
    errors = "\n".join(a.err.strip() for a in answers if a.code != 0 and a.err.strip())
    silent = [h for h in hosts if not any([_same(h, node) for node in reports])]
    return Fleet(reports, silent if len(reports) < len(hosts) else [], errors[-2000:])         # nodes call themselves otherwise than their addresses


def _same(asked: str, node: str) -> bool:
    """Is a node the one that was asked for, with or without its domain and user?"""
    asked = asked.rsplit("@", 1)[-1].split(":")[0]
    return asked == node or asked.split(".")[0] == node.split(".")[0]


def from_files(paths: list[str]) -> Fleet:
    """Reports that were written before; named by their files."""
    out = Fleet()
    for path in paths:
        try:
            report = json.loads(Path(path).read_text(encoding="utf-8"))
            if not isinstance(report, dict) or "machine" not in report: raise ValueError("no report of this doctor")
            out.reports[Path(path).stem] = report
        except (OSError, ValueError, RecursionError) as error:
            out.silent.append(Path(path).stem)
            out.errors += f"{path}: {error}\n"
    return out
