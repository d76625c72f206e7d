"""`forno doctor --hosts` and `forno doctor fleet`: every node of a cluster examines itself, and what differs is told; `forno doctor node` is what a node runs."""
from __future__ import annotations

import argparse
import json
import platform
import sys

from ..diagnose import diagnose
from ..finding import ORDER
from ..fleet import LAUNCHERS, Fleet, collect, from_files, launcher, lines
from ..host import Host

FEW = 8                                        # nodes that are named in a line


def add(commands):
    c = commands.add_parser("fleet", help="examine every node of a cluster and say what differs",
                            description="Starts the doctor on every node through srun, mpiexec, Ray or ssh, and says what differs; or compares reports that `--json` wrote.")
    c.add_argument("files", nargs="*", metavar="REPORT.json", help="compare these reports instead")
    add_hosts(c, [])
    c.add_argument("--python", metavar="PATH", default=sys.executable, help="the Python on the nodes, which must have forno_doctor (default: this one)")
    c.add_argument("--json", action="store_true", help="print all reports and differences as JSON")
    c.set_defaults(run=run)
    n = commands.add_parser("node", help="print this machine's report in lines, for a launcher")
    n.add_argument("--name", default=platform.node(), help="this node's name (default: its host name)")
    n.set_defaults(run=node)


def add_hosts(parser: argparse.ArgumentParser, default: list[str] | None):
    """The options that the doctor's own command line has, too: `forno doctor --hosts`."""
    parser.add_argument("--hosts", type=names, nargs="?", const=[], default=default, metavar="A,B,…",
                        help="examine these nodes of a cluster (without names: those of the running job)")
    parser.add_argument("--launcher", choices=LAUNCHERS, help="how to reach them (default: the running job's, else srun, mpiexec or ssh)")


def names(text: str) -> list[str]:
    found = [h for h in text.replace(",", " ").split() if h]
    bad = [h for h in found if h.startswith("-")]              # it would be an option of the launcher
    if bad: raise argparse.ArgumentTypeError(f"{bad[0]} is no host")
    return found


def node(options) -> int:
    report = diagnose()
    print("\n".join(lines(options.name, report.as_data())), flush=True)
    return 0


def run(options) -> int:
    host = Host(python=options.python)
    if options.files: return tell(from_files(options.files), options)
    by = options.launcher or launcher(host)
    if by is None or by == "ssh" and not options.hosts:
        print(options.words("fleet.no-launcher"), file=sys.stderr)
        return 2
    return tell(collect(host, by, options.hosts), options)


def tell(fleet: Fleet, options) -> int:
    if options.json: print(json.dumps(fleet.as_data(), indent=1, ensure_ascii=False))
    else: print("\n".join(text(fleet, options.words)))
    return fleet.code


def text(fleet: Fleet, say) -> list[str]:
    out = [say("fleet.nodes", count=len(fleet.reports))]
    if fleet.silent: out += ["", say("fleet.silent", nodes=short(fleet.silent))]
    if fleet.errors: out += [f"  {line}" for line in fleet.errors.strip().splitlines()[-8:]]
    for (name, severity), nodes in sorted(fleet.findings().items(), key=lambda x: (ORDER.index(x[0][1]), x[0])):
        out += ["", f"{say(f'report.{severity}')}: [{name}]  {short(nodes)}"]
    differences = fleet.differences()
    if differences: out += ["", say("fleet.differs")]
    for d in differences:
        out.append(f"  {d.fact}")
        out += [f"    {v if v is not None else say('fleet.absent')}  ({len(nodes)}: {short(nodes)})" for v, nodes in d.groups]
    if not differences and len(fleet.reports) > 1: out += ["", say("fleet.alike")]
    return out


def short(nodes: list[str]) -> str: return ", ".join(nodes[:FEW]) + (f" … (+{len(nodes) - FEW})" if len(nodes) > FEW else "")
