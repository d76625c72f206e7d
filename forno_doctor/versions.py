"""Versions as PEP 440 writes them: their order, and specifiers that choose among them.

Comes in: text from metadata, file names and people. Goes out: `Version`, which sorts, and `satisfies`. Text that is no version gives None, never an error:
it comes from files that may be broken.
"""
from __future__ import annotations

import functools
import re

VERSION = re.compile(r"\s*v?(?:(?P<epoch>\d+)!)?(?P<release>\d+(?:\.\d+)*)(?:[-_.]?(?P<pre>a|b|c|rc|alpha|beta|pre|preview)[-_.]?(?P<number>\d*))?"
                     r"(?:-(?P<implied>\d+)|[-_.]?(?P<post>post|rev|r)[-_.]?(?P<later>\d*))?(?:[-_.]?(?P<dev>dev)[-_.]?(?P<early>\d*))?"
                     r"(?:\+(?P<local>[a-z0-9]+(?:[-_.][a-z0-9]+)*))?\s*", re.IGNORECASE)
CLAUSE = re.compile(r"\s*(?P<how>===|==|!=|<=|>=|~=|<|>)\s*(?P<version>[^,\s]+)\s*")
PHASES = {"a": "a", "alpha": "a", "b": "b", "beta": "b", "c": "rc", "rc": "rc", "pre": "rc", "preview": "rc"}
SEPARATORS = re.compile(r"[-_.]+")
LAST = float("inf")                            # sorts behind every number


@functools.total_ordering
class Version:
    """`release`: its numbers; `local`: what stands behind the plus sign ("cu126"), or ""."""

    def __init__(self, text: str, release: tuple, key: tuple, local: str, early: bool):
        self.text, self.release, self.key, self.local, self.early = text, release, key, local, early

    def __eq__(self, other): return self.key == other.key if isinstance(other, Version) else NotImplemented
    def __lt__(self, other): return self.key < other.key
    def __hash__(self): return hash(self.key)
    def __str__(self): return self.text
    def __repr__(self): return f"Version({self.text!r})"

    @property
    def public(self) -> str: return self.text.split("+")[0]

    @property
    def minor(self) -> str: return ".".join(map(str, (*self.release, 0)[:2]))


@functools.lru_cache(4096)
def parse(text: str) -> Version | None:
    m = VERSION.fullmatch(text) if isinstance(text, str) and len(text) < 200 else None
    if m is None: return None
    release = tuple(int(n) for n in m["release"].split("."))
    shortened = release
    while len(shortened) > 1 and shortened[-1] == 0: shortened = shortened[:-1]
    pre = (PHASES[m["pre"].lower()], int(m["number"] or 0)) if m["pre"] else ("", -1) if m["dev"] and not (m["post"] or m["implied"]) else ("z", 0)
    post = int(m["implied"] or m["later"] or 0) if m["post"] or m["implied"] else -1
    dev = int(m["early"] or 0) if m["dev"] else LAST
    local = (m["local"] or "").lower().replace("-", ".").replace("_", ".")
    order = tuple((1, int(part), "") if part.isdigit() else (0, 0, part) for part in local.split(".")) if local else ()
    return Version(text.strip(), release, (int(m["epoch"] or 0), shortened, pre, post, dev, order), local, bool(m["pre"] or m["dev"]))


def satisfies(version: Version, spec: str) -> bool:
    """Is a version among those that "==2.6.*, !=2.6.1" or ">=2" names? An empty specifier names all that are final."""
    clauses = [c for c in spec.split(",") if c.strip()]
    named = [CLAUSE.fullmatch(c) for c in clauses]
    if any(m is None for m in named): raise ValueError(f"{spec!r} is no version specifier: write something like 2.6, ==2.6.0 or >=2.5,<2.8")
    return all(_holds(version, m["how"], m["version"]) for m in named)


def _holds(v: Version, how: str, text: str) -> bool:
    if how == "===": return v.text == text
    prefix = text.endswith(".*") and how in ("==", "!=")
    w = parse(text[:-2] if prefix else text)
    if w is None or how == "~=" and len(w.release) < 2: raise ValueError(f"{text!r} is no version that {how} can take")
    if prefix: return ((v.key[0], _padded(v, len(w.release))[:len(w.release)]) == (w.key[0], w.release)) is (how == "==")
    if not w.local: v = parse(v.public) or v
    if how == "~=": return v >= w and (v.key[0], _padded(v, len(w.release))[:len(w.release) - 1]) == (w.key[0], w.release[:-1])
    if how == "<": return v < w and not (v.early and not w.early and v.key[:2] == w.key[:2])                  # "<2.6" isn't 2.6's release candidate,
    if how == ">": return v > w and not (v.key[3] >= 0 and w.key[3] < 0 and v.key[:3] == w.key[:3])           # and ">2.6" not what was posted after it
    return {"==": v == w, "!=": v != w, "<=": v <= w, ">=": v >= w}[how]


def _padded(v: Version, n: int) -> tuple: return (*v.release, *(0,) * n)


def normal(name: str) -> str:
    """A package's name as indexes compare it (packaging.python.org, "Names and normalization")."""
    return SEPARATORS.sub("-", name).lower()


def at_least(found: str, needed: str) -> bool:
    """Is a dotted number ("535.104.05") as high as another? Numbers are compared one by one."""
    return numbers(found) >= numbers(needed)


def numbers(text: str) -> tuple[int, ...]: return tuple(int(n) for n in re.findall(r"\d+", text or ""))
