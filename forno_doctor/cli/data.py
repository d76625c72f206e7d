"""`forno doctor data`: the tables, what they rest on, and with --check how old they are. Exit code 1 with --check: a table is older than 90 days."""
from __future__ import annotations

import argparse
import datetime
import json

from .. import age
from ..words import Words


def add(commands):
    """Its help stands in the catalogues: help-data."""
    p = commands.add_parser("data", help=Words()("help-data.about"), description=Words()("help-data.description"))
    p.add_argument("--check", action="store_true")
    p.add_argument("--today", metavar="DATE", type=datetime.date.fromisoformat, default=None)
    p.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    p.set_defaults(run=run)


def run(options) -> int:
    found = age.ages(options.today or datetime.date.today())
    if options.json: print(json.dumps(age.as_data(found), indent=1, ensure_ascii=False))
    else: print(age.text(found, options.words, options.check))
    return 1 if options.check and any(a.old for a in found) else 0
