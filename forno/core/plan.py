"""What the planner writes: kernels in order, and where every operand lies."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .shape import View


class Place(NamedTuple):
    """kind 'in' (input `index`), 'out' (fresh output `index`), 'arena' (byte offset `index`), 'number' (Python number `index`)."""
    kind: str
    index: int


@dataclass(frozen=True, slots=True)
class Step:
    """One kernel on its operands. `reason` says in words why these rows share a kernel and a device."""
    kernel: Any                                # core.kernels: Nest, Gemm, Conv, Native, Host
    places: tuple[Place, ...]
    device: str = "cpu"
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Out:
    """How output `number` gets its buffer: 'fresh' (nbytes), 'donated' (takes over `source`'s buffer), 'alias' (a view of `source`'s value).

    A fresh or donated one with a `view` is the buffer seen through it: an expanded value whose elements nobody else needs.
    """
    kind: str
    nbytes: int = 0
    source: Place | None = None
    view: View | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    steps: tuple[Step, ...]
    outs: tuple[Out, ...]
    arena: int = 0                             # bytes of intermediates that live only inside this plan
    notes: tuple[str, ...] = field(default=())

    def __str__(self):
        lines = [f"plan: {len(self.steps)} steps, {len(self.outs)} outputs, {self.arena} bytes of arena"]
        for i, s in enumerate(self.steps):
            where = " ".join(f"{p.kind}{p.index}" for p in s.places)
            lines.append(f"  {i:3} {s.device} {type(s.kernel).__name__.lower():7} {s.kernel.label or '':40} [{where}]  {s.reason}")
        return "\n".join(lines)
