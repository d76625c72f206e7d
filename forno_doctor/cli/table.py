"""`forno doctor table`: what goes with what, for this machine or all of it."""
from __future__ import annotations

import argparse
import json

from .. import table
from ..host import Host
from ..machine import Machine
from ..plan import target


def add(commands):
    p = commands.add_parser("table", help="which torch, CUDA, cuDNN, driver and GPU go together",
                            description="Prints the tables of what goes with what, limited to what this machine can use.")
    p.add_argument("names", nargs="*", choices=[*table.MAKERS, []], metavar="torch|cuda|cudnn|gpu", help="which tables (default: all four)")
    p.add_argument("--all", action="store_true", help="everything that is known, not only what this machine can use")
    p.add_argument("--format", choices=("text", "markdown", "html", "json"), default="text", help="html is one page that needs no other file")
    p.add_argument("--python", metavar="PATH", default=argparse.SUPPRESS, help="the interpreter to choose for (default: the one that runs this)")
    p.set_defaults(run=run)


def run(options) -> int:
    here = None if options.all else target(Machine(Host(python=options.python)))
    found = table.tables(options.names, here, options.words)
    if options.format == "json": print(json.dumps(table.as_data(found), indent=1, ensure_ascii=False))
    else: print({"text": table.text, "markdown": table.markdown, "html": table.page}[options.format](found, options.words), end="")
    return 0
