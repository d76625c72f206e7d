"""Which forno this is, and which PyTorch it speaks.

`forno.__version__` is forno's own version: that is its text. Compared with `<`, `<=`, `>`, `>=` it answers for the PyTorch release whose API it has, so
that `torch.__version__ >= "2.0"` under `import forno as torch` takes the branch for today's PyTorch. `forno.torch_version` is a version of that release by
text, too, and is what `torch.__version__` says after `forno.install_as_torch()`, for scripts that take it apart.
"""
from __future__ import annotations

import re

SPEAKS = "2.13.0"
cuda = hip = rocm = xpu = None
debug, git_version = False, "Unknown"


def numbers(version) -> tuple:
    """(2, 13, 0) of '2.13.0+cpu'; a release is above its pre-releases."""
    if isinstance(version, (tuple, list)): return tuple(int(n) for n in version)
    m = re.match(r"(\d+(?:\.\d+)*)((?:a|b|rc|\.dev|dev)\d*)?", str(version))
    if m is None: raise ValueError(f"Invalid version: {version!r}")
    parts = [int(n) for n in m[1].split(".")]
    return (*parts, *[0] * (3 - len(parts)), *((-1,) if m[2] else ()))


class TorchVersion(str):
    """Text that is ordered as a version: against text, tuples and versions. `speaks`: what it is ordered as."""
    __slots__ = ("speaks",)

    def __new__(cls, text: str, speaks: str | None = None):
        self = super().__new__(cls, text)
        self.speaks = speaks or text
        return self

    def _order(self, other) -> int:
        a, b = numbers(self.speaks), numbers(getattr(other, "speaks", other))
        if isinstance(other, (tuple, list)): a = a[:max(len(b), 1)] if len(b) < len(a) else a
        return (a > b) - (a < b)

    def __lt__(self, other): return self._order(other) < 0
    def __le__(self, other): return self._order(other) <= 0
    def __gt__(self, other): return self._order(other) > 0
    def __ge__(self, other): return self._order(other) >= 0
    def __reduce__(self): return TorchVersion, (str(self), str(self.speaks))
