"""The table of handlers."""
from __future__ import annotations

from ..parse import SIZES, Instruction

HANDLERS: dict[tuple[str, str], object] = {}


def instruction(names: str, family: str = ""):
    """A decorator: the function writes the instructions of these names (for types of that family)."""
    def register(f):
        for name in names.split(): HANDLERS[name, family] = f
        return f
    return register


def kind_of(ins: Instruction) -> str:
    """The instruction's type: the last word of its opcode that is one."""
    return next((p for p in reversed(ins.parts) if p in SIZES), "")


def handler(ins: Instruction):
    root = ins.parts[0]
    if (root, "") in HANDLERS: return HANDLERS[root, ""]
    kind = kind_of(ins)
    return HANDLERS.get((root, "real" if kind[:1] in ("f", "t") or kind[:2] in ("bf", "e4", "e5") else "whole"))


def unknown(ins: Instruction) -> NotImplementedError:
    return NotImplementedError(f"PTX line {ins.line}: '{ins.opcode}' can't be run on the processor yet: {ins.text}")
