"""Modules whose parameters have no values yet."""
from __future__ import annotations

import inspect

from ...framework import api as torch
from ..modules.module import Module

__all__ = ["skip_init"]


def skip_init(module_cls, *args, **kwargs):
    """Construct without initial values: those that the constructor records are never computed, and the random numbers' stream stays where it was."""
    if not issubclass(module_cls, Module):
        raise RuntimeError(f"Expected a Module; got {module_cls}")
    if "device" not in inspect.signature(module_cls).parameters:
        raise RuntimeError("Module must support a 'device' arg to skip initialization")
    final = kwargs.pop("device", "cpu")
    state = torch.get_rng_state()
    try: return module_cls(*args, device=final, **kwargs).to_empty(device=final)
    finally: torch.set_rng_state(state)
