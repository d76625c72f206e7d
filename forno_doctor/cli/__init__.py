"""`forno doctor`: reads the command line and says what the floors below found. Each command is a module here with `add(commands)`, which describes it to argparse in English, and
`run(options) -> int`, its exit code: 0 all is well, 1 something is worth a look, 2 something doesn't work (argparse's own code for wrong usage is 2, too). Help in another
language stands in messages/<language>/cli.json: "help-<command>" has a sentence for each option, by its name, and one for "about"."""
from __future__ import annotations

import argparse
import ctypes
import os
import sys

from ..report import WIDTH, wrap
from ..words import LANGUAGES, Words, language
from . import data, explain, fleet, look, plan, table, verify

COMMANDS: tuple = (plan, verify, fleet, table, explain, data)
ALONE = "verbose", "html", "output", "redact", "only", "ignore"           # options of the report, which no command heeds
CHINESE = 0x04                                 # of Windows' language identifiers, the lower ten bits


def parser(words: Words, program: str = "forno doctor") -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog=program, description=words("help.about"), epilog=words("help.epilog", program=program))
    out.add_argument("--lang", choices=LANGUAGES, default=words.language, help="language of the answer (default: this shell's)")
    look.add(out)
    fleet.add_hosts(out, None)
    out.set_defaults(files=[], program=program)
    commands = out.add_subparsers(dest="command", metavar="command")
    for c in COMMANDS: c.add(commands)
    for p in commands.choices.values(): p.add_argument("--lang", choices=LANGUAGES, default=argparse.SUPPRESS, help="language of the answer")
    speak(out, "help", words)
    for line in commands._choices_actions: line.help = told("help-" + line.dest, "about", words, line.help)
    for name, p in commands.choices.items(): speak(p, f"help-{name}", words)
    return out


def speak(p: argparse.ArgumentParser, name: str, words: Words):
    """Help in a person's language, as wide as a page."""
    p._optionals.title, p._positionals.title = words("cli.options"), words("cli.commands" if name == "help" else "cli.arguments")
    p.formatter_class = lambda prog: Help(prog, words)
    if name != "help": p.description = told(name, "description", words, told(name, "about", words, p.description))
    for a in p._actions:
        if a.help != argparse.SUPPRESS: a.help = told(name, a.dest, words, a.help)


def told(name: str, part: str, words: Words, english: str | None) -> str | None:
    """Of an option: its own sentence, else what options of this name mean everywhere, else what the command says in English."""
    keys = (f"{name}.{part}",) if part in ("about", "description") else (f"{name}.{part}", f"help.{part}")
    if english is not None and words.language == "en": return english
    return next((words(key) for key in keys if words.has(key)), english)


class Help(argparse.HelpFormatter):
    """Wraps Chinese, too, and keeps the lines of examples."""

    def __init__(self, prog: str, words: Words):
        super().__init__(prog, max_help_position=26, width=WIDTH)
        self.words = words

    def add_usage(self, usage, actions, groups, prefix=None): super().add_usage(usage, actions, groups, self.words("cli.usage"))
    def _split_lines(self, text, width): return wrap(text, width)
    def _fill_text(self, text, width, indent): return "\n".join(part[:len(part) - len(part.lstrip())] + line for part in text.splitlines() for line in wrap(part, width))


def preferred(environment: dict) -> str:
    """A person's language, by the variables that name it; on Windows, which has none, by that of its menus."""
    if sys.platform == "win32" and not any(environment.get(v) for v in ("LANGUAGE", "LC_ALL", "LC_MESSAGES", "LANG")):
        try: return "zh" if ctypes.windll.kernel32.GetUserDefaultUILanguage() & 0x3FF == CHINESE else "en"
        except (OSError, AttributeError): return "en"
    return language(environment)


def called() -> str:
    """How this program was started, as it can be typed again."""
    folder, name = os.path.split(sys.argv[0])
    if name == "__main__.py" and os.path.basename(folder) == "forno_doctor": return "python -m forno_doctor"
    return "forno-doctor" if name.startswith("forno-doctor") else "forno doctor"


def main(arguments=None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):    # a console that can't show a character shows a question mark
        if hasattr(stream, "reconfigure"): stream.reconfigure(errors="replace")
    first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    first.add_argument("--lang", choices=LANGUAGES, default=preferred(dict(os.environ)))
    words = Words(first.parse_known_args(arguments)[0].lang)
    read = parser(words, called())
    options = read.parse_args(arguments)
    options.words = words
    if options.command is None and options.hosts is not None: options.run = fleet.run
    if options.run is not look.run:            # a report that was to be redacted and isn't would be worse than none
        own = {a.dest for x in read._actions if x.dest == "command" and options.command for a in x.choices[options.command]._actions}
        ignored = [name for name in ALONE if getattr(options, name) and name not in own]
        if ignored: read.error(words("cli.alone", option=f"--{ignored[0]}", command=options.command or "--hosts"))
    try: return options.run(options)
    except BrokenPipeError:                    # the reader of a pipe has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt: return 130
