"""`forno doctor`: reads the command line and says what the floors below found. Each command is a module here with `add(commands)`, which describes it to argparse, and
`run(options) -> int`, its exit code: 0 all is well, 1 something is worth a look, 2 something doesn't work (argparse's own code for wrong usage is 2, too)."""
from __future__ import annotations

import argparse
import os
import sys

from ..words import LANGUAGES, Words, language
from . import fleet, look, table, verify

COMMANDS: tuple = (verify, fleet, table)


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="forno doctor", description="Says which GPU, driver, CUDA, cuDNN and PyTorch are here, whether they fit together, and what to type if not.")
    out.add_argument("--lang", choices=LANGUAGES, default=language(dict(os.environ)), help="language of the answer (default: this shell's)")
    look.add(out)
    fleet.add_hosts(out, None)
    out.set_defaults(files=[])
    commands = out.add_subparsers(dest="command", metavar="command")
    for c in COMMANDS: c.add(commands)
    for p in commands.choices.values(): p.add_argument("--lang", choices=LANGUAGES, default=argparse.SUPPRESS, help="language of the answer")
    return out


def main(arguments=None) -> int:
    options = parser().parse_args(arguments)
    options.words = Words(options.lang)
    if options.command is None and options.hosts is not None: options.run = fleet.run
    try: return options.run(options)
    except BrokenPipeError:                    # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt: return 130
