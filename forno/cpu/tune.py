"""Choosing among words that give the same bits, by running them.

Comes in: a plan's table (launch.py) whose kernels have `choices` (core.kernels.Choices). Goes out: the same table, and the quickest words in it.

Nothing runs for tuning's sake. A plan that is run again and again gets its steps timed; in a step that matters, other words take the place of the usual ones
now and then, and what such a step took longer is the cost of looking, as are new machine code and this module's own time. All of it together stays below SHARE
of the time that plans took meanwhile, and below MOST per process: who has no budget left runs the usual words. A choice must be BETTER in the least of
several times, so that a noisy machine stays with what was worked out for it. What was found is kept for other plans, and in a file for other processes.

Only the holder of `threads.lock` gets here. There is no thread in the background, and a plan that has been looked at costs what it cost before.
"""
from __future__ import annotations

import array
import contextlib
import hashlib
import json
import os
import time
from dataclasses import dataclass, field

import llvmlite.binding as llvm

from ..core.flags import flags
from ..core.kernels import Choices
from . import code, isa, threads

SHARE, MOST = 0.02, 1.0                        # of the time plans took while they were looked at; seconds per process
SHORTEST = 300e-6                              # plans that are quicker are left alone
WALKS = 8                                      # times a plan is timed before anything is tried
MATTERS = 0.02                                 # of a plan's time: kernels that take less are left alone
SAMPLES = 6                                    # of each choice
HOPELESS, BETTER = 1.1, 0.95                   # of the usual words' time: dropped after two samples; taken
KEPT = 4096                                    # answers in the file, the latest ones

USUAL = ""


# ---------------------------------------------------------------- what it may cost
@dataclass(slots=True)
class Budget:
    seen: float = 0.0                          # seconds of plans that were looked at
    spent: float = 0.0

    @property
    def left(self) -> float: return min(SHARE * self.seen, MOST) - self.spent


budget = Budget()


# ---------------------------------------------------------------- what was found
class Answers:
    """What is quickest on this machine: kernel and number of threads → the name of a choice. `path`: None keeps nothing. A file that can't be read is none,
    and so is one that other `code` made."""

    def __init__(self, path: str | None, code: str = ""):
        self.path, self.code, self.unsaved, self.news = path, code, False, []
        self.found = self.read()

    def add(self, key: str, name: str, gain: float):
        self.found[key], self.unsaved = name, True
        if flags.SHOW: self.news.append(f"{key}: {name or 'usual'} {gain:.2f}")

    def read(self) -> dict[str, str]:
        try:
            with open(self.path or os.devnull) as f: kept = json.load(f)
        except (OSError, ValueError): return {}
        if not isinstance(kept, dict) or kept.get("code") != self.code: return {}
        found = kept.get("found")
        return found if isinstance(found, dict) and all(isinstance(name, str) for name in found.values()) else {}

    def save(self):
        """Whole or not at all, with what other processes found meanwhile; every failure of the disk means 'not kept'."""
        if self.path is None or not self.unsaved: return
        self.unsaved = False
        latest = list((self.read() | self.found).items())[-KEPT:]
        temporary = f"{self.path}.{os.getpid()}"
        try:
            os.makedirs(os.path.dirname(self.path), mode=0o700, exist_ok=True)
            with open(temporary, "w") as f: json.dump({"code": self.code, "found": dict(latest)}, f, indent=0)
            os.replace(temporary, self.path)
        except OSError:
            with contextlib.suppress(OSError): os.unlink(temporary)


def file() -> str | None:
    """One per kind of machine, beside the folder of compiled code."""
    if not code.cache.usable: return None
    machine = f"{llvm.get_host_cpu_name()}|{isa.features}|{isa.vector_bytes}|{isa.caches()}|{isa.cores()}"
    return os.path.join(os.path.dirname(code.cache.path), "choices", hashlib.sha256(machine.encode()).hexdigest()[:16] + ".json")


def written() -> str:
    """A digest of when the code that writes kernels was changed."""
    folder, found = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "kernel"), [code.FORMAT, llvm.llvm_version_info]
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        found += sorted((e.name, e.stat().st_size, e.stat().st_mtime_ns) for e in entries if e.name.endswith(".py"))
    return hashlib.sha256(repr(found).encode()).hexdigest()[:16]


_answers: list[Answers] = []


def answers() -> Answers:
    if not _answers: _answers.append(Answers(file(), written()))
    return _answers[0]


def key(choices: Choices) -> str: return f"{choices.kernel}; {threads.get_num_threads()} threads"


# ---------------------------------------------------------------- looking
@dataclass(slots=True)
class Time:
    """What is known of a choice."""
    least: float = float("inf")
    samples: int = 0

    def add(self, seconds: float): self.least, self.samples = min(self.least, seconds), self.samples + 1


@dataclass(slots=True)
class Contest:
    """A kernel of a plan, which may be several of its steps, and how long its choices took."""
    key: str
    choices: Choices
    steps: list[int]
    words: dict[str, list[array.array]] = field(default_factory=dict)          # by name, those of each step
    times: dict[str, Time] = field(default_factory=dict)                       # by name, of those that are still in it
    running: list[str] = field(default_factory=list)                           # by step

    @property
    def usual(self) -> float: return self.times[USUAL].least

    def draw(self, turn: int, left: float) -> float:
        """Choose what runs in each step, in turns; of `left` seconds, what that may cost."""
        names = list(self.times)
        self.running = [names[(turn + k) % len(names)] for k in range(len(self.steps))]
        cost = sum(max(min(self.times[name].least, 1.5 * self.usual) - self.usual, 0) for name in self.running)
        if cost <= left: return cost
        self.running = [USUAL] * len(self.steps)
        return 0.0

    def take(self, k: int, seconds: float) -> float:
        """This kernel's k-th step took so long; the seconds that were lost by trying."""
        name = self.running[k]
        self.times[name].add(seconds)
        return max(seconds - self.usual, 0) if name != USUAL else 0.0

    def winner(self) -> str | None:
        """The name of the quickest; None: not known yet."""
        bound = HOPELESS * self.usual
        self.times = {name: t for name, t in self.times.items() if t.samples < 2 or t.least <= bound}
        if len(self.times) > 1 and any(t.samples < SAMPLES for t in self.times.values()): return None
        best = min(self.times, key=lambda name: self.times[name].least)
        return best if self.times[best].least < BETTER * self.usual else USUAL


class Look:
    """What is known so far of one plan. `table`: steps, put, enlarge, timed_steps and settled, as launch.Table has them."""

    def __init__(self, table, clock=time.perf_counter):
        self.table, self.clock, self.pool = table, clock, table.pool
        self.walks, self.turn, self.total, self.exchanged = 0, 0, float("inf"), False
        self.ahead, self.open = contests(table), []
        self.usual = {i: float("inf") for c in self.ahead for i in c.steps}    # the least seconds of a step

    def walk(self, vals: bytes) -> int:
        """A walk that the program wants, timed, perhaps with some words in it exchanged."""
        start = self.clock()
        if self.table.pool is not self.pool or budget.spent > MOST: self.abandon()            # with other threads what was measured means nothing
        tries = self.walks >= WALKS and budget.left > 0
        if tries: self.prepare()
        elif self.exchanged: self.restore()
        begun = self.clock()
        failed, seconds = self.table.timed_steps(vals) if tries or self.walks < WALKS else (self.table.plain_walk(vals), None)
        ended = self.clock()
        budget.seen += ended - begun
        self.walks, self.total = self.walks + 1, min(self.total, ended - begun)
        if seconds is not None and not failed: self.learn(seconds, tries)
        if not (self.ahead or self.open): self.table.settled()
        budget.spent += begun - start + self.clock() - ended
        return failed

    def prepare(self):
        """Exchange words, as far as there is budget left."""
        if self.ahead: self.begin(self.ahead.pop())
        left, self.turn, self.exchanged = budget.left, self.turn + 1, True
        for c in self.open:
            left -= c.draw(self.turn, left)
            for k, i in enumerate(c.steps): self.table.put(i, c.words[c.running[k]][k])

    def restore(self):
        """The usual words everywhere."""
        self.exchanged = False
        for c in self.open:
            for i, words in zip(c.steps, c.words[USUAL]): self.table.put(i, words)

    def abandon(self):
        self.restore()
        self.ahead, self.open = [], []

    def begin(self, c: Contest):
        """Make the words of every choice, and machine code for them, if this kernel is worth it and LLVM need not be woken."""
        usual = [self.usual[i] for i in c.steps]
        if not MATTERS * self.total < sum(usual) < float("inf"): return
        before = c.choices.make(USUAL)[0]
        for name in (USUAL, *c.choices.names()):
            try:
                with code.modestly(): words, scratch, shared = c.choices.make(name)
            except code.Unmade: return
            self.table.enlarge(scratch, shared)
            c.words[name], c.times[name] = [changed(self.table.steps[i].words, before, words) for i in c.steps], Time()
        c.times[USUAL].add(min(usual))
        self.open.append(c)

    def learn(self, seconds, tried: bool):
        """`seconds(i)` of a step; None where it didn't run."""
        if not tried:
            self.usual = {i: min(t, seconds(i) or t) for i, t in self.usual.items()}
            return
        for c in self.open:
            for k, i in enumerate(c.steps):
                if (t := seconds(i)) is not None: budget.spent += c.take(k, t)
        if self.turn % 4: return
        self.open = [c for c in self.open if not self.settled(c)]
        answers().save()

    def settled(self, c: Contest) -> bool:
        """Take the winner, if there is one."""
        name = c.winner()
        if name is None: return False
        for i, words in zip(c.steps, c.words[name]): self.table.put(i, words)
        answers().add(c.key, name, c.times[name].least / c.usual)
        return True


def contests(table) -> list[Contest]:
    """Those that are still to be held."""
    found: dict[str, Contest] = {}
    for i, s in enumerate(table.steps):
        if s.choices is not None and (k := key(s.choices)) not in answers().found: found.setdefault(k, Contest(k, s.choices, [])).steps.append(i)
    return list(found.values())


def changed(words: tuple[int, ...], before: tuple[int, ...], after: tuple[int, ...]) -> array.array:
    """A step's words, which end in a kernel's own, with those changed that differ; a plan may have set others."""
    first = len(words) - len(before)
    return array.array("q", [*words[:first], *(new if new != old else word for word, old, new in zip(words[first:], before, after))])


def apply(table):
    """Give a new table what was found before."""
    if not flags.TUNE: return
    for i, s in enumerate(table.steps):
        if s.choices is None or not answers().found: continue
        name = answers().found.get(key(s.choices), USUAL)
        if name == USUAL or name not in s.choices.names(): continue
        words, scratch, shared = s.choices.make(name)
        table.enlarge(scratch, shared)
        table.put(i, changed(s.words, s.choices.make(USUAL)[0], words))


def look(table) -> Look | None:
    """Whether a plan that was run a few times is worth looking at."""
    if not flags.TUNE or table.quickest < SHORTEST or budget.spent > MOST: return None
    out = Look(table)
    return out if out.ahead else None
