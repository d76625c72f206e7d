"""`forno doctor data`: the tables, what they rest on, and with --check how old they are. Exit code 1 with --check: a table is older than 90 days."""
from __future__ import annotations

import argparse
import datetime
import json

from .. import age


def add(commands):
    p = commands.add_parser("data", help="the tables that all answers rest on, and how old they are",
                            description="Lists the tables with their sources and dates. With --check it says how old they are and what may have changed since; exit code 1: one is older than 90 days.")
    p.add_argument("--check", action="store_true", help="how old each table is, and what may have changed since")
    p.add_argument("--today", metavar="DATE", type=datetime.date.fromisoformat, default=None, help="another day than today, as 2027-01-31")
    p.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help="print all of it as JSON")
    p.set_defaults(run=run)


def run(options) -> int:
    found = age.ages(options.today or datetime.date.today())
    if options.json: print(json.dumps(age.as_data(found), indent=1, ensure_ascii=False))
    else: print(age.text(found, options.words, options.check))
    return 1 if options.check and any(a.old for a in found) else 0
