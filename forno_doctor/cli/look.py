"""`forno doctor` without a command: examine this machine and one of its Pythons."""
from __future__ import annotations

import argparse
import json
import sys

from .. import report
from ..diagnose import diagnose
from ..host import Host


def add(parser: argparse.ArgumentParser):
    parser.add_argument("--python", metavar="PATH", default=sys.executable, help="examine this interpreter's packages (default: the one that runs this)")
    parser.add_argument("--json", action="store_true", help="print everything as JSON (docs/doctor.md describes it)")
    parser.set_defaults(run=run)


def run(options) -> int:
    found = diagnose(Host(python=options.python))
    if options.json: print(json.dumps(found.as_data(), indent=1, ensure_ascii=False))
    else: print(report.text(found, options.words, colour=sys.stdout.isatty()))
    return found.code
