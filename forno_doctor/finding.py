"""What is wrong, as data: an id, how bad it is, what shows it, and what to type. Words come from catalogues (messages/), so that findings can be told in any language."""
from __future__ import annotations

from dataclasses import asdict, dataclass, field

ERROR, WARNING, NOTE = "error", "warning", "note"
ORDER = (ERROR, WARNING, NOTE)


@dataclass
class Finding:
    """`data`: what the catalogue's sentences name; `evidence`: (what, where it was seen); `commands`: what to type, in order; `verify`: what shows that it helped;
    `area`: the module of checks that found it, which diagnose() writes down."""
    id: str
    severity: str
    data: dict = field(default_factory=dict)
    evidence: list[tuple[str, str]] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    verify: str = ""
    area: str = ""

    def as_data(self) -> dict: return asdict(self)
