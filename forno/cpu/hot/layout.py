"""Where things lie in this interpreter's objects: found out by looking at some. An interpreter whose objects look different gets no machine code."""
from __future__ import annotations

import ctypes
import struct
from types import MemberDescriptorType


def _words(address: int, count: int) -> tuple: return struct.unpack(f"{count}q", ctypes.string_at(address, 8 * count))


class Layout:
    """Byte offsets: members of a tuple, a list's pointer to its members, slots by class, the list of constants in what is called."""

    def __init__(self, called: type):
        mark = object()
        self.tuple = 8 * _words(id(x := (mark, mark)), x.__sizeof__() // 8).index(id(mark))
        items = [mark, mark]
        head = _words(id(items), 6)
        if _words(id(mark), 2)[1] != id(object) or head[1] != id(list) or head[2] != 2: raise ValueError("objects lie differently")
        inner = [k for k in (3, 4) if head[k] > 4096 and _words(head[k], 2) == (id(mark), id(mark))]
        self.list = 8 * inner[0]
        self.slots: dict[str, list[tuple[type, int]]] = {}
        self.know(called)
        ((_, self.constants),) = self.slots.pop("constants")
        del self.slots["f"]

    def know(self, cls: type):
        """Look where the slots of a class lie."""
        names = [n for c in cls.__mro__ for n, d in vars(c).items() if isinstance(d, MemberDescriptorType) and not n.startswith("__")]
        like = type("like", (cls,), {"__slots__": (), "__del__": lambda self: None})        # it lies alike, and ends quietly
        for name in names:
            x, mark = object.__new__(like), object()
            setattr(x, name, mark)
            at = [8 * k for k, w in enumerate(_words(id(x), cls.__basicsize__ // 8)) if w == id(mark)]
            if len(at) != 1: raise ValueError(f"{cls.__name__}.{name} lies differently")
            self.slots.setdefault(name, []).append((cls, at[0]))
