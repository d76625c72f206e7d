"""`forno doctor explain-error`: what a log or a pasted message means, and what helps. Exit code 1: something was recognised; 0: nothing was; 2: the text can't be read."""
from __future__ import annotations

import argparse
import json
import os
import sys

from .. import explain
from ..diagnose import diagnose
from ..host import Host
from ..words import Words


def add(commands):
    """Its help stands in the catalogues: help-explain-error."""
    p = commands.add_parser("explain-error", help=Words()("help-explain-error.about"), description=Words()("help-explain-error.description"))
    p.add_argument("text", nargs="*")
    p.add_argument("--file", metavar="PATH")
    p.add_argument("--json", action="store_true", default=argparse.SUPPRESS)
    p.add_argument("--python", metavar="PATH", default=argparse.SUPPRESS)
    p.set_defaults(run=run)


def given(options, words: Words) -> bytes:
    """The text: a file's, the command line's, or standard input's."""
    path = options.file or (options.text[0] if len(options.text) == 1 and os.path.isfile(options.text[0]) else None)
    if path is not None:
        with open(path, "rb") as f: return f.read(explain.MOST + 1)
    if options.text: return " ".join(options.text).encode("utf-8", "replace")
    if sys.stdin.isatty(): print(words("explain.paste"), file=sys.stderr)
    return sys.stdin.buffer.read(explain.MOST + 1)


def run(options) -> int:
    words = options.words
    try: data = given(options, words)
    except OSError as error:
        print(words("explain.unreadable", path=error.filename, why=error.strerror), file=sys.stderr)
        return 2
    if not data.strip():
        print(words("explain.empty"), file=sys.stderr)
        return 2
    report = diagnose(Host(python=options.python))
    found = explain.explain(explain.decoded(data), report)
    if options.json: print(json.dumps(explain.as_data(found, words), indent=1, ensure_ascii=False))
    else: print(explain.text(found, report, words).replace("$ forno doctor", f"$ {options.program}"))
    if len(data) > explain.MOST: print(words("explain.cut", most=explain.MOST >> 20), file=sys.stderr)
    return 1 if found else 0
