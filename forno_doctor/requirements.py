"""What a package asks for: lines of Requires-Dist with their markers, judged where that is simple.

Comes in: a line like `nvidia-nccl-cu12==2.21.5; platform_system == "Linux" and platform_machine == "x86_64"` and what is true of a Python. Goes out: `Requirement`, and whether
it applies. What can't be judged gives None ("not known"). Source: "Dependency specifiers", packaging.python.org.
"""
from __future__ import annotations

import re
from dataclasses import dataclass

from .versions import Version, normal, parse, satisfies

LINE = re.compile(r"\s*([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?)\s*(?:\[([^\]]*)\])?\s*((?:[(<>=!~][^;@]*?)?)\s*(?:;\s*(.*))?", re.DOTALL)
TOKEN = re.compile(r"""\s*(?:([()])|(and|or|not\s+in|in|===|==|!=|<=|>=|~=|<|>)(?![A-Za-z_])|('[^']*'|"[^"]*")|([a-z_]+(?:\.[a-z_]+)?))""")
VERSIONS = "python_version", "python_full_version", "implementation_version", "platform_release"
DEEPEST, LONGEST = 50, 2000


@dataclass(frozen=True)
class Requirement:
    """`spec`: "==2.21.5" or ""; `text`: as it was written, without its marker."""
    name: str
    spec: str
    extras: tuple[str, ...]
    marker: str
    text: str

    def met_by(self, version: Version | None) -> bool | None:
        """None: the version or the specifier can't be read."""
        if version is None: return None
        try: return satisfies(version, self.spec)
        except ValueError: return None


def requirement(text: str) -> Requirement | None:
    """None: it names an address, or makes no sense."""
    m = LINE.fullmatch(text) if len(text) <= LONGEST else None
    if m is None: return None
    name, extras, spec = normal(m[1]), tuple(e.strip() for e in (m[2] or "").split(",") if e.strip()), m[3].strip("() ").replace(" ", "")
    return Requirement(name, spec, extras, (m[4] or "").strip(), f"{m[1]}{f'[{m[2]}]' if m[2] else ''}{spec}")


def applies(marker: str, values: dict[str, str]) -> bool | None:
    """Is a marker true where `values` hold? Extras are taken as not asked for."""
    if not marker: return True
    tokens, at = [], 0
    while at < len(marker):
        m = TOKEN.match(marker, at)
        if m is None: return None
        tokens.append(re.sub(r"\s+", " ", m[0].strip()))
        at = m.end()
    try:
        answer, rest = _either(tokens, values, 0)
        return None if rest else answer
    except (IndexError, ValueError): return None


def _either(tokens: list[str], values, depth: int):
    left, tokens = _both(tokens, values, depth)
    while tokens and tokens[0] == "or":
        right, tokens = _both(tokens[1:], values, depth)
        left = True if left or right else None if left is None or right is None else False
    return left, tokens


def _both(tokens: list[str], values, depth: int):
    left, tokens = _one(tokens, values, depth)
    while tokens and tokens[0] == "and":
        right, tokens = _one(tokens[1:], values, depth)
        left = False if left is False or right is False else None if left is None or right is None else True
    return left, tokens


def _one(tokens: list[str], values, depth: int):
    if depth > DEEPEST: raise ValueError("too deep")
    if tokens[0] == "(":
        inside, rest = _either(tokens[1:], values, depth + 1)
        if rest[0] != ")": raise ValueError("no end")
        return inside, rest[1:]
    return _compared(tokens[0], tokens[1], tokens[2], values), tokens[3:]


def _compared(left: str, how: str, right: str, values) -> bool | None:
    a, b = (t[1:-1] if t[0] in "'\"" else values.get(t) for t in (left, right))
    if a is None or b is None: return None
    if how == "in": return a in b
    if how == "not in": return a not in b
    if left in VERSIONS:
        found = parse(a)
        return None if found is None else satisfies(found, f"{how}{b}")
    return {"==": a == b, "!=": a != b}.get(how)
