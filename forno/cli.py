"""The `forno` command. `forno demo` trains a small network on the bundled digits and shows what the stack did."""
from __future__ import annotations

import argparse
import os
import sys

from forno_doctor import cli as doctor

from . import demo
from .framework import api as torch


def _positive(text: str) -> int:
    n = int(text)
    if n < 1: raise argparse.ArgumentTypeError(f"{n} is not a positive number")
    return n


def _device(text: str) -> str:
    try: torch.zeros(1, device=text)
    except (RuntimeError, AssertionError) as e: raise argparse.ArgumentTypeError(f"{text}: {e}; use cpu") from e          # also NotImplementedError
    return text


def _file(text: str) -> str:
    """Refused now rather than after the training."""
    folder = os.path.dirname(os.path.abspath(text))
    if not os.path.isdir(folder): raise argparse.ArgumentTypeError(f"there is no folder {folder}")
    if os.path.isdir(text) or not os.access(folder, os.W_OK): raise argparse.ArgumentTypeError(f"{text} can't be written")
    return text


def parser() -> argparse.ArgumentParser:
    out = argparse.ArgumentParser(prog="forno", description="Deep learning with PyTorch's API, from tensors to machine code, in readable Python.")
    commands = out.add_subparsers(dest="command", required=True, metavar="command")
    d = commands.add_parser("demo", help="train a small network on handwritten digits", description=demo.__doc__)
    d.add_argument("--device", type=_device, default="cpu", help="where to train (default: cpu)")
    d.add_argument("--epochs", type=_positive, default=8, help="passes over the 1,471 training images (default: 8)")
    d.add_argument("--seed", type=int, default=0, help="start of all random numbers (default: 0)")
    d.add_argument("--compile", action="store_true", help="train through forno.compile")
    d.add_argument("--save", type=_file, default="digits.pt", metavar="PATH", help="where the weights go, as a .pt file (default: digits.pt)")
    d.set_defaults(run=lambda a: demo.run(a.device, a.epochs, a.seed, a.compile, a.save))
    commands.add_parser("doctor", help="say what of GPU, driver, CUDA and PyTorch is here, what is wrong, and what to type", add_help=False)
    return out


def main(arguments=None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    if arguments[:1] == ["doctor"]: return doctor.main(arguments[1:])
    options = parser().parse_args(arguments)
    try: return options.run(options)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
        return 130
