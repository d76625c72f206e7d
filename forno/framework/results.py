"""Named results: torch.return_types' structseqs as named tuples, one class per function."""
from __future__ import annotations

from collections import namedtuple

_TYPES: dict = {}


def named(function: str, **fields):
    """A tuple whose fields have names; prints as torch.return_types.<function>."""
    key = function, tuple(fields)
    cls = _TYPES.get(key)
    if cls is None:
        base = namedtuple(function, tuple(fields))

        def text(self): return f"torch.return_types.{function}(\n" + ",\n".join(f"{k}={getattr(self, k)!r}" for k in self._fields) + ")"
        cls = _TYPES[key] = type(function, (base,), {"__slots__": (), "__repr__": text, "__module__": "torch.return_types"})
    return cls(**fields)
