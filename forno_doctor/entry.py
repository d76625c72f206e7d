"""The `forno` command: the doctor is started without the rest, which may be what is broken; everything else is forno's own command line."""
import importlib
import sys

from . import cli


def main() -> int:
    if sys.argv[1:2] == ["doctor"]: return cli.main(sys.argv[2:])
    try: rest = importlib.import_module("forno.cli")
    except Exception as error:                 # what NumPy and llvmlite raise when they are broken has many types
        print(f"forno: {type(error).__name__}: {error}\n`forno doctor` says what is wrong and what to type.", file=sys.stderr)
        return 2
    return rest.main()
