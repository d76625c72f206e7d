"""The `forno` command. `forno demo` trains a small network on the bundled digits and shows what the stack did."""
from __future__ import annotations

import argparse
import sys

from . import demo


def _positive(text: str) -> int:
    n = int(text)
    if n < 1: raise argparse.ArgumentTypeError(f"{n} is not a positive number")
    return n


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="forno", description="Deep learning with PyTorch's API, from tensors to machine code, in readable Python.")
    commands = out.add_subparsers(dest="command", required=True, metavar="command")
    d = commands.add_parser("demo", help="train a small network on handwritten digits", description=demo.__doc__)
    d.add_argument("--device", default="cpu", help="where to train (default: cpu)")
    d.add_argument("--epochs", type=_positive, default=8, help="passes over the 1,471 training images (default: 8)")
    d.add_argument("--seed", type=int, default=0, help="start of all random numbers (default: 0)")
    d.add_argument("--compile", action="store_true", help="train through forno.compile")
    d.add_argument("--save", default="digits.pt", metavar="PATH", help="where the weights go, as a .pt file (default: digits.pt)")
    d.set_defaults(run=lambda a: demo.run(a.device, a.epochs, a.seed, a.compile, a.save))
    return out


def main(arguments=None) -> int:
    options = parser().parse_args(arguments)
    try: return options.run(options)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
