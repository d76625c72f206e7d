"""Is mixed precision on a GPU out of the question, and how its older names say that they are old."""
from __future__ import annotations

import warnings

from ...framework import size

__all__ = ["amp_definitely_not_available"]


def amp_definitely_not_available() -> bool: return not size.there("cuda")


def old(call: str, now: str):
    warnings.warn(f"`torch.cuda.amp.{call}` is deprecated. Please use `torch.amp.{now}` instead.", FutureWarning, stacklevel=3)
