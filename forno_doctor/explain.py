"""What a log says is wrong: known messages in it, the causes before their consequences, and what helps, on this machine where it has the same trouble.

Comes in: text, which is searched and never run, and a Report of this machine. Goes out: `Message`s, as text or data. Patterns are in data/symptoms.json, sentences in
the catalogues. Whatever is pasted, the time is bounded: a pattern is only tried around its hints (plain texts), a limited number of times, and its repetitions have ends.
"""
from __future__ import annotations

import functools
import heapq
import re
from dataclasses import asdict, dataclass, field, replace

from . import commands, facts
from .diagnose import Report
from .finding import NOTE, Finding
from .machine import Machine
from .plan import Plan, Wish, plan, target
from .report import wrap
from .table import WIDTH
from .words import Words

SCHEMA = 1
MOST = 64 << 20                                # bytes of a text
BEFORE, AFTER = 400, 600                       # characters around a hint
PLACES, VALUES = 60, 4                         # hints looked at, and messages with different values told, of one kind
LINE = 160
NEED_GPU = {"cpu-build", "driver-too-old", "no-code-for-gpu"}              # findings that only a machine with a GPU can show
UNIX = re.compile(r"\$[A-Z_]{3}|grep|^(?:unset|sudo|cat|ls|ldd|lsmod|lscpu|ldconfig|gcc) |^lscpu$|^CONDA_")                 # what Windows' shells don't know
ESCAPES = re.compile(r"\x1b\[[0-9;?]{0,32}[@-~]")              # colours of terminals


@dataclass(frozen=True)
class Symptom:
    """A kind of message. `families`: ids of findings with the same cause; `leads_to`: kinds that follow from it; `check`, `commands`: what to type."""
    id: str
    regex: re.Pattern
    hints: tuple[str, ...]
    families: tuple[str, ...] = ()
    leads_to: tuple[str, ...] = ()
    check: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()


@dataclass
class Message:
    """A known message in a text. `line`: where it stands first; `values`: what it names; `follows`: ids of those that caused it; `findings`: the same trouble on this machine;
    `here`: why there is none ("nothing-here", "no-gpu-here"), "" where that can't be said; `planned`: what would fit the machine that the message names."""
    id: str
    line: int
    text: str
    count: int
    values: dict[str, str]
    follows: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    here: str = ""
    planned: list[str] = field(default_factory=list)
    commands: list[str] = field(default_factory=list)
    check: list[str] = field(default_factory=list)


@functools.cache
def symptoms() -> dict[str, Symptom]:
    rows = facts.table("symptoms")["symptoms"]
    lists = ("hints", "families", "leads_to", "check", "commands")
    return {r["id"]: Symptom(r["id"], re.compile(r["regex"]), **{k: tuple(r.get(k, ())) for k in lists}) for r in rows}


# ---------------------------------------------------------------- reading
def decoded(data: bytes) -> str:
    """Text of a log: UTF-8, or UTF-16 as PowerShell writes it; what is neither stands as replacement characters."""
    encoding = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8"
    return ESCAPES.sub("", data[:MOST].decode(encoding, "replace")).replace("\r\n", "\n")


def search(text: str) -> list[Message]:
    """Known messages, those first that the others follow from, else in the order of the text."""
    found = [m for s in symptoms().values() for m in _of_kind(s, text)]
    return _ordered(found)


def _of_kind(s: Symptom, text: str) -> list[Message]:
    out: dict[tuple, Message] = {}
    starts: set[int] = set()
    for at in _places(s.hints, text):
        for m in s.regex.finditer(text, max(0, at - BEFORE), at + AFTER):
            if m.start() in starts: continue
            starts.add(m.start())
            values = read(m.groupdict())
            key = tuple(values.values())
            if key in out: out[key].count += 1
            elif len(out) < VALUES: out[key] = Message(s.id, text.count("\n", 0, m.start()) + 1, _line(text, m.start()), 1, values)
    return list(out.values())


def _places(hints: tuple[str, ...], text: str) -> list[int]:
    out = []
    for hint in hints:
        at = text.find(hint)
        for _ in range(PLACES):
            if at < 0: break
            out.append(at)
            at = text.find(hint, at + len(hint))
    return sorted(out)


def _line(text: str, at: int) -> str:
    """The line around a place, cut where it is long."""
    start, end = text.rfind("\n", max(0, at - LINE // 2), at) + 1, text.find("\n", at, at + LINE)
    start = start or max(0, at - LINE // 2)
    line = text[start:end if end >= 0 else at + LINE]
    return printable(line)


def printable(text: str) -> str:
    """Without what would move a terminal's cursor or change its colours."""
    return "".join(c if c.isprintable() else " " for c in text).strip()


def read(groups: dict[str, str | None]) -> dict[str, str]:
    """The values of a message in the words of this package: CUDA's number 11040 is 11.4, sm_120 is capability 12.0, (9, 1, 0) is 9.1.0."""
    out = {k: printable(v or "?") for k, v in groups.items()}
    if out.get("number", "").isdigit(): out["cuda"] = f"{int(out['number']) // 1000}.{int(out['number']) % 1000 // 10}"
    if out.get("sm", "").isdigit(): out["capability"] = facts.capability(out["sm"]) or "?"
    for k in ("compiled", "found"):
        if k in out: out[k] = ".".join(re.findall(r"\d+", out[k]))
    return out


def _ordered(found: list[Message]) -> list[Message]:
    """Each after all that it follows from; among the free, by line."""
    present = {m.id for m in found}
    for m in found: m.follows = [c for c in symptoms() if c in present and m.id in symptoms()[c].leads_to]
    waiting = {m.id: set(m.follows) for m in found}
    by_id: dict[str, list[Message]] = {}
    for m in found: by_id.setdefault(m.id, []).append(m)
    free = [(by_id[k][0].line, k) for k, causes in waiting.items() if not causes]
    heapq.heapify(free)
    out: list[Message] = []
    while free:
        id = heapq.heappop(free)[1]
        out += by_id[id]
        for k in symptoms()[id].leads_to:
            if id not in waiting.get(k, ()): continue
            waiting[k].discard(id)
            if not waiting[k]: heapq.heappush(free, (by_id[k][0].line, k))
    return out


# ---------------------------------------------------------------- this machine
def explain(text: str, report: Report) -> list[Message]:
    """Known messages of a text, with what this machine has to do with them."""
    found = search(text)
    for m in found:
        s = symptoms()[m.id]
        m.findings = [f for f in report.findings if f.id in s.families]
        if not m.findings: m.planned, m.here = planned(m.values, report.machine), absence(s, report.machine)
        m.commands, m.check = ([bound(c, report.machine) for c in group if typable(c, report.machine)] for group in (s.commands, s.check))
        for n in (11, 12, 13): m.values.setdefault(f"floor_{n}", facts.floor(f"{n}.0", report.machine.system.platform) or "?")
    return found


def absence(s: Symptom, m: Machine) -> str:
    """Why this machine has no finding of a kind."""
    if NEED_GPU & set(s.families) and not m.gpus and not m.cards: return "no-gpu-here"
    return "nothing-here" if s.families else ""


def planned(values: dict[str, str], m: Machine) -> list[str]:
    """How to install torch where the message comes from, if it names a GPU or a driver that isn't this machine's."""
    t, capability, speaks = target(m), values.get("capability"), values.get("cuda") if "number" in values else None
    if capability and capability not in m.capabilities: t = replace(t, capability=capability, driver=None, unknown=())
    elif speaks and t.capabilities and speaks != (m.driver.cuda or facts.cuda_of_driver(m.driver.version or "")): t = replace(t, driver=branch(speaks))
    else: return []
    if not t.python or not t.capabilities: return []
    extras = {p: "" for p in ("torchvision", "torchaudio") if m.environment.get(p)}
    found = plan(t, Wish("", extras))
    return commands.bound(commands.pip(found, reinstall=True), m.python.executable) if isinstance(found, Plan) else []


def branch(cuda: str) -> str | None:
    """The driver branch that speaks a CUDA version and no newer one."""
    return next((row["branch"].split("/")[0] for row in facts.table("cuda_driver")["driver_branch_to_cuda"] if row["cuda_reported_max"].split()[0] == cuda), None)


def typable(command: str, m: Machine) -> bool: return m.system.platform.split("_")[0] != "windows" or not UNIX.search(command)


def bound(command: str, m: Machine) -> str:
    """For the interpreter that is examined."""
    if command.startswith("python "): return f"{m.python.executable} {command[len('python '):]}"
    return commands.bound([command], m.python.executable, m.torch.source if m.torch else "")[0]


# ---------------------------------------------------------------- telling
def text(found: list[Message], report: Report, words: Words) -> str:
    if not found: return unknown(report, words)
    out = wrap(words("explain.found", count=len(found)), WIDTH)
    shown: dict[int, int] = {}
    for k, m in enumerate(found, 1):
        out += ["", *_hung(f"{k}. {words(f'symptom-{m.id}.title', **m.values)}  [{m.id}]", 0), *_hung(words("explain.times" if m.count > 1 else "explain.line", **asdict(m)))]
        if m.follows: out += _hung(words("explain.follows", titles="; ".join(title(i, found, words) for i in m.follows)))
        out += _hung(words(f"symptom-{m.id}.cause", **m.values)) + _hung(words("explain.fix", fix=words(f"symptom-{m.id}.fix", **m.values))) + typed(m.commands)
        out += _here(m, words, shown, k)
        if m.check: out += _hung(words("explain.look")) + typed(m.check)
    return "\n".join(out)


def title(id: str, found: list[Message], words: Words) -> str: return words(f"symptom-{id}.title", **next(m.values for m in found if m.id == id))


def _here(m: Message, words: Words, shown: dict[int, int], number: int) -> list[str]:
    """What this machine has to do with a message. `shown`: findings by the message under which they were told; again they are only named."""
    out: list[str] = []
    for f in m.findings:
        if id(f) in shown:
            out += _hung(words("explain.again", title=words(f"{f.id}.title", **f.data), number=shown[id(f)]))
            continue
        shown[id(f)] = number
        out += _hung(words("explain.here", title=words(f"{f.id}.title", **f.data))) + typed(f.commands)
        if f.verify: out.append(f"     {words('explain.verify', command=f.verify)}")
    if m.here: out += _hung(words(f"explain.{m.here}"))
    return out + (_hung(words("explain.other")) + typed(m.planned) if m.planned else [])


def typed(lines: list[str]) -> list[str]: return [f"     $ {line}" for line in lines]


def _hung(sentence: str, first: int = 3) -> list[str]: return [" " * (first if k == 0 else 3) + line for k, line in enumerate(wrap(sentence, WIDTH - 3))]


def unknown(report: Report, words: Words) -> str:
    """Nothing was recognised: how to report it, and what is wrong on this machine anyway."""
    out = wrap(words("explain.unknown"), WIDTH) + wrap(words("explain.report"), WIDTH)
    wrong = [f for f in report.findings if f.severity != NOTE]
    if wrong: out += ["", words("explain.also")]
    for f in wrong: out += _hung(words(f"{f.id}.title", **f.data)) + typed(f.commands)
    return "\n".join(out)


def as_data(found: list[Message], words: Words) -> dict:
    return {"schema": SCHEMA, "messages": [asdict(m) | {part: words(f"symptom-{m.id}.{part}", **m.values) for part in ("title", "cause", "fix")} for m in found]}
