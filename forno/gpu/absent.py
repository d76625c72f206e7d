"""A machine without a GPU. Absence is a backend: whoever asks gets an answer, and nobody above writes `if there is CUDA`."""
from __future__ import annotations


def device_count() -> int: return 0


def device_name(index: int) -> str: raise RuntimeError(f"there is no GPU {index}: this machine has none that forno can use")


def answers(module: str, *, no: str = "", zero: str = "", nothing: str = "", refused: str = "", error=RuntimeError) -> dict:
    """The functions by which a module of PyTorch's speaks of a device that is missing, by name; each takes any arguments.

    `no`: what asks (False); `zero`: what counts (0); `nothing`: what configures, kept quiet so that scripts need no `if` (None); `refused`: what needs
    the device and raises error(name).
    """
    out = {name: _answer(value) for names, value in ((no, False), (zero, 0), (nothing, None)) for name in names.split()}
    out |= {name: _refusal(error, name) for name in refused.split()}
    for name, f in out.items(): f.__name__, f.__qualname__, f.__module__ = name, name, module
    return out


def _answer(value):
    def answer(*args, **kw): return value
    return answer


def _refusal(error, name):
    def refuse(*args, **kw): raise error(name)
    return refuse
