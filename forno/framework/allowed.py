"""What a program allows GPUs to do: round factors of float32 in products and convolutions, and use other providers' kernels. torch.backends' switches set it."""
from __future__ import annotations

from ..core.state import state
from ..graph.line import ambient
from .engine import flush

PRODUCTS, CONVOLUTIONS = range(2)


def switch(name: str, value):
    """Sets an ambient setting. What was recorded before is planned under the one it had."""
    if value == getattr(state, name): return
    flush()
    ambient((name, value))
    setattr(state, name, value)


def allow_tf32(which: int, on: bool):
    """May factors of float32 be rounded to tf32?"""
    switch("tf32", tuple([bool(on) if i == which else x for i, x in enumerate(state.tf32)]))


def use_provider(name: str, on: bool):
    """May a provider be asked for kernels?"""
    switch("without", state.without - {name} if on else state.without | {name})
