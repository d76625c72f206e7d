"""`forno doctor` without a command: examine this machine and one of its Pythons, and say it as text, as JSON or as a page."""
from __future__ import annotations

import argparse
import ctypes
import json
import shutil
import sys

from .. import page, report
from ..diagnose import diagnose
from ..files import write
from ..host import Host
from ..redact import redacted
from ..words import Words
from .common import interpreter


def add(parser: argparse.ArgumentParser):
    parser.add_argument("--python", metavar="PATH", type=interpreter, default=sys.executable, help="examine this interpreter's packages (default: the one that runs this)")
    parser.add_argument("--verbose", action="store_true", help="show every copy of every CUDA library and all packages")
    parser.add_argument("--json", action="store_true", help="print everything as JSON, schema 1 (docs/doctor.md describes it)")
    parser.add_argument("--html", metavar="FILE", help="draw this machine's stack as a page of its own, too")
    parser.add_argument("--output", metavar="FILE", help="write to this file instead, all of it or nothing")
    parser.add_argument("--redact", action="store_true", help="replace names of users, hosts and folders, addresses, UUIDs and serial numbers, for bug reports")
    parser.add_argument("--only", metavar="ID,…", type=ids, default=frozenset(), help="only these findings, for CI")
    parser.add_argument("--ignore", metavar="ID,…", type=ids, default=frozenset(), help="without these findings, for CI")
    parser.add_argument("--color", choices=("auto", "always", "never"), default="auto", help="default: on terminals; NO_COLOR and FORCE_COLOR are heeded")
    parser.set_defaults(run=run)


def ids(text: str) -> frozenset[str]:
    """A finding that doesn't exist is a mistake in typing, which must not pass for good news."""
    found, known = frozenset(i.strip() for i in text.split(",") if i.strip()), Words()
    wrong = sorted(i for i in found if not (known.has(f"{i}.title") and known.has(f"{i}.cause")))
    if wrong: raise argparse.ArgumentTypeError(f"no finding has the id {', '.join(wrong)}")
    return found


def run(options) -> int:
    words, host = options.words, Host(python=options.python)
    found = report.told(diagnose(host, options.only, options.ignore), words, options.program)
    if options.redact: found = redacted(found, host)
    try:
        if options.html: write(options.html, page.html(found, words))
        if options.json: said = json.dumps(found, indent=1, ensure_ascii=not options.output and not can_show("，", sys.stdout.encoding))
        else:
            colour = not options.output and coloured(options.color, sys.stdout, host.environment)
            said = report.text(found, words, colour, options.verbose, width(), ascii=not options.output and not can_show("✗✓", sys.stdout.encoding))
        if options.output: write(options.output, said + "\n")
        else: print(said)
    except OSError as error:
        if isinstance(error, BrokenPipeError): raise
        print(words("cli.unwritten", file=error.filename, error=error.strerror), file=sys.stderr)
        return 2
    return found["code"]


def coloured(wish: str, stream, environment: dict) -> bool:
    """As no-color.org and force-color.org have it; what was typed comes first."""
    if wish != "auto": return wish == "always"
    if environment.get("NO_COLOR"): return False
    if environment.get("FORCE_COLOR"): return True
    return stream.isatty() and environment.get("TERM") != "dumb" and understood()


def understood() -> bool:
    """Windows' consoles understand colours where they are told to (Console Virtual Terminal Sequences); others always do."""
    if sys.platform != "win32": return True
    console, mode = ctypes.windll.kernel32, ctypes.c_ulong()
    handle = console.GetStdHandle(-11)
    return bool(console.GetConsoleMode(handle, ctypes.byref(mode)) and console.SetConsoleMode(handle, mode.value | 4))


def can_show(text: str, encoding: str | None) -> bool:
    try: text.encode(encoding or "ascii")
    except (UnicodeEncodeError, LookupError): return False
    return True


def width() -> int: return min(max(shutil.get_terminal_size((report.WIDTH, 24)).columns, 60), report.WIDTH)
