"""`forno doctor table`: what goes with what, for this machine, for one that is described, or all of it. Exit code 2: the description can't be read."""
from __future__ import annotations

import argparse
import json
import sys

from .. import table
from ..host import Host
from ..machine import Machine
from ..plan import Misread, Target, python_of, target
from ..words import Words


def add(commands):
    """Its help stands in the catalogues: help-table."""
    p = commands.add_parser("table", help=Words()("help-table.about"), description=Words()("help-table.description"))
    p.add_argument("names", nargs="*", choices=[*table.MAKERS, []], metavar="torch|cuda|cudnn|gpu")
    p.add_argument("--all", action="store_true")
    p.add_argument("--format", choices=("text", "markdown", "html", "json"), default="text")
    p.add_argument("--python", metavar="3.12|PATH", default=argparse.SUPPRESS)
    p.add_argument("--gpu", action="append", metavar="NAME|sm_86|8.6")
    p.add_argument("--driver", metavar="VERSION")
    p.add_argument("--os", metavar="linux|windows|macos|linux_aarch64")
    p.set_defaults(run=run)


def wanted(options) -> Target:
    """This machine, with what is said otherwise; a Python by its version or by its path."""
    try: version, path = python_of(options.python), sys.executable
    except Misread: version, path = None, options.python
    return target(Machine(Host(python=path)), python=version, gpu=options.gpu, driver=options.driver, os=options.os)


def run(options) -> int:
    words = options.words
    try: here = None if options.all else wanted(options)
    except Misread as error:
        print(words(f"plan-misread.{error.key}", **error.data), file=sys.stderr)
        return 2
    found = table.tables(options.names, here, words)
    if options.format == "json": print(json.dumps(table.as_data(found), indent=1, ensure_ascii=False))
    else: print({"text": table.text, "markdown": table.markdown, "html": table.page}[options.format](found, words), end="")
    return 0
