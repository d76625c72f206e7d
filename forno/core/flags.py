"""Every setting that comes from the environment: typed, read once at import, loud when wrong. docs/flags.md is generated from here."""
from __future__ import annotations

import os
from dataclasses import dataclass, fields
from typing import Any


def _flag(default, text, choices=None):
    return (default, text, choices)


_SPEC = {
    "SHOW": _flag(0, "debug ladder: 1 timings, 2 plan, 3 fusion and placement reasons, 4 loops, 5 LLVM IR, 6 assembly", range(7)),
    "STOP_AFTER": _flag("", "stop the pipeline after the pass of this name and print what it made"),
    "CPU": _flag("native", "instruction set to generate for: native, or a narrower one to test it", ("native", "avx512", "avx2", "baseline")),
    "GPU": _flag("auto", "auto: NVIDIA's driver if it is there; none: no GPU; sim, sim:2 …: so many simulated ones (a test tool)",
                 ("auto", "none", "sim", *(f"sim:{n}" for n in range(1, 9)))),
    "NUM_THREADS": _flag(0, "threads of the CPU pool; 0: OMP_NUM_THREADS if set, else one per core this process may use"),
    "CACHE_DIR": _flag("", "where compiled code is kept; empty: the user's cache folder"),
    "CACHE_SIZE": _flag(512, "bound of the compiled-code cache, MiB; 0 turns it off"),
    "OPT": _flag(-1, "LLVM optimisation level 0..3 for every kernel; -1: 1, and 0 for nests of up to 16 elements", range(-1, 4)),
    "WINDOW": _flag(4000, "operations recorded before they run without being asked for"),
    "MEMORY": _flag(0, "bound of the CPU allocator, MiB; 0: none but the machine's"),
    "EXECUTOR": _flag("native", "what runs a plan: native code, or each row's NumPy oracle (a test tool)", ("native", "oracle")),
    "WINOGRAD": _flag(1, "0: 3×3 convolutions of float32 sum every product, which is slower and a few times more exact", range(2)),
    "HOT": _flag(1, "0: what every recorded operation goes through stays Python (`forno/cpu/hot.py`)", range(2)),
    "TUNE": _flag(1, "0: every kernel runs as it was worked out, and nothing else is tried (`forno/cpu/tune.py`)", range(2)),
    "GRAPHS": _flag(1, "0: every kernel on a GPU is launched on its own; 1: a plan that repeats is one CUDA graph (`forno/cudart/replay.py`)", range(2)),
    "CHECK": _flag(0, "1: verify every graph and plan against its rules before it runs", range(2)),
}


@dataclass(slots=True)
class Flags:
    SHOW: int
    STOP_AFTER: str
    CPU: str
    GPU: str
    NUM_THREADS: int
    CACHE_DIR: str
    CACHE_SIZE: int
    OPT: int
    WINDOW: int
    MEMORY: int
    EXECUTOR: str
    WINOGRAD: int
    HOT: int
    TUNE: int
    GRAPHS: int
    CHECK: int


def _read(name: str) -> Any:
    default, _, choices = _SPEC[name]
    text = os.environ.get(f"FORNO_{name}")
    if text is None: return default
    try: value = type(default)(text)
    except ValueError: raise ValueError(f"FORNO_{name}={text!r}: expected {type(default).__name__}") from None
    if choices is not None and value not in choices:
        raise ValueError(f"FORNO_{name}={text!r}: expected one of {', '.join(map(str, choices))}")
    return value


def _unknown():
    known = {f"FORNO_{n}" for n in _SPEC}
    for name in os.environ:
        if name.startswith("FORNO_") and name not in known:
            raise ValueError(f"{name} is not a flag of forno; there are {', '.join(sorted(known))}")


_unknown()
flags = Flags(**{f.name: _read(f.name) for f in fields(Flags)})


def page() -> str:
    """docs/flags.md"""
    rows = ["# Flags", "", "Generated from `forno/core/flags.py`.", "", "| variable | default | meaning |", "|---|---|---|"]
    for name, (default, text, choices) in _SPEC.items():
        allowed = f" ({', '.join(map(str, choices))})" if isinstance(choices, tuple) else ""
        rows.append(f"| `FORNO_{name}` | `{default!r}` | {text}{allowed} |")
    return "\n".join(rows) + "\n"
