"""How old the tables are, what they rest on, and what may have changed since.

Comes in: today's date. Goes out: `Age`s, as text or data. A table older than 90 days still says what was true on its day; what came later it doesn't know, and the
doctor then says "not verified" instead of guessing.
"""
from __future__ import annotations

import datetime
from dataclasses import asdict, dataclass

from . import facts
from .report import wrap
from .table import WIDTH
from .words import Words

SCHEMA = 1
DAYS = 90
RECENT = 8                                     # releases by which the pace is measured


@dataclass
class Age:
    """A table. `counts`: (what, how many); `days`: since `as_of`, None: its date can't be read; `newest`: the latest release that it knows, with its day; `pace`: days
    between the latest releases; `missed`: releases that have probably appeared since."""
    name: str
    as_of: str
    days: int | None
    old: bool
    counts: list[tuple[str, int]]
    sources: list[tuple[str, str]]
    newest: tuple[str, str] | None = None
    pace: int | None = None
    missed: int = 0


def names_of(architecture: dict) -> int: return sum(len(n) for k in ("official", "other_names") for n in architecture.get(k, {}).values())


# What is counted in each table
COUNTED = {"torch": lambda t: [("releases", len(t["releases"])), ("builds", sum(len(r["cuda"] or ()) for r in t["releases"]))],
           "cuda_driver": lambda t: [("toolkits", len(t["toolkits"])), ("branches", len(t["driver_branch_to_cuda"]))],
           "cudnn_cuda": lambda t: [("rows", len(t["matrix"])), ("wheels", sum(map(len, t["wheel_versions"].values())))],
           "gpu_arch": lambda t: [("capabilities", len(t["architectures"])), ("names", sum(map(names_of, t["architectures"])))],
           "install": lambda t: [("templates", len(t["families"]))],
           "symptoms": lambda t: [("messages", len(t["symptoms"]))]}


def torch_days(t: dict) -> dict[str, str]: return {r["version"]: r["released"] for r in t["releases"] if r["released"]}
def cudnn_days(t: dict) -> dict[str, str]: return {v: day for group in t["wheel_versions"].values() for v, day in group.items()}


DATED = {"torch": torch_days, "cudnn_cuda": cudnn_days}


def ages(today: datetime.date) -> list[Age]: return [age(name, today) for name in COUNTED]


def age(name: str, today: datetime.date) -> Age:
    t = facts.table(name)
    written = day(t["as_of"])
    days = None if written is None else (today - written).days
    out = Age(name, t["as_of"], days, days is None or days > DAYS, COUNTED[name](t), [(s["id"], s["what"]) for s in t["sources"]])
    if name in DATED:
        out.newest, out.pace = pace(DATED[name](t))
        if out.pace and days: out.missed = max(0, (days + since(out.newest, written)) // out.pace)
    return out


def day(text: str) -> datetime.date | None:
    try: return datetime.date.fromisoformat(text)
    except ValueError: return None


def pace(released: dict[str, str]) -> tuple[tuple[str, str], int]:
    """The newest release with its day, and the days between the latest ones."""
    latest = sorted((d, v) for v, text in released.items() for d in (day(text),) if d)[-RECENT:]
    between = (latest[-1][0] - latest[0][0]).days // max(1, len(latest) - 1)
    return (latest[-1][1], str(latest[-1][0])), max(1, between)


def since(newest: tuple[str, str] | None, written: datetime.date | None) -> int:
    """Days from the newest release to the day of the table."""
    last = day(newest[1]) if newest else None
    return (written - last).days if written and last else 0


# ---------------------------------------------------------------- telling
def text(found: list[Age], words: Words, check: bool = False) -> str:
    out: list[str] = []
    for a in found:
        counts = words("age.and").join(words(f"age.{what}", count=n) for what, n in a.counts)
        out += wrap(words("age.table", name=a.name, date=a.as_of, age=how_old(a, words), counts=counts), WIDTH)
        if check: out += [f"  {line}" for sentence in checked(a, words) for line in wrap(sentence, WIDTH - 2)]
        else: out += [("  " if k == 0 else "    ") + line for id, what in a.sources for k, line in enumerate(wrap(f"{id}: {what}", WIDTH - 4))]
    out += ["", *(line for sentence in verdict(found, words) for line in wrap(sentence, WIDTH))]
    return "\n".join(out)


def how_old(a: Age, words: Words) -> str:
    if a.days is None: return words("age.undated")
    if a.days < 0: return words("age.ahead", days=-a.days)
    return words("age.day") if a.days == 1 else words("age.days", days=a.days)


def checked(a: Age, words: Words) -> list[str]:
    """What may have changed in a table since its day."""
    out = [words("age.old", most=DAYS)] if a.old else []
    if a.newest: out.append(words("age.newest", version=a.newest[0], date=a.newest[1], pace=a.pace))
    if a.missed: out.append(words("age.missed-one" if a.missed == 1 else "age.missed", count=a.missed))
    return [*out, words(f"age-review.{a.name}")]


def verdict(found: list[Age], words: Words) -> list[str]:
    old = [a.name for a in found if a.old]
    return [words("age.verdict-old", tables=words("age.and").join(old), most=DAYS) if old else words("age.verdict-new", most=DAYS), words("age.outside")]


def as_data(found: list[Age]) -> dict: return {"schema": SCHEMA, "most_days": DAYS, "tables": [asdict(a) for a in found], "old": [a.name for a in found if a.old]}
