"""Compiled calls that look at values on their way: data-dependent control flow.

A call that looks at a number (`if x.sum() > 0`, `int(n)`) is said in **parts**. The first is all that it recorded up to the look; the number that is found then
says how it goes on, as long as a call with that number was watched before. So what a function does is a tree: phrases, and behind each a `Fork` with the phrases
that follow, by number. Python is a function of what it sees: where the world, the arguments and every number it looked at are the same, it does the same.

Comes in: a call that is watched (`Watched`), which cuts itself where a value leaves. Goes out: its parts, which `grown` puts into the tree; `said` says a
call by it. A part that ends with a look only computes: a call whose number nobody knows runs from its beginning, and nothing has happened twice.
"""
from __future__ import annotations

import math
import struct
import sys
import weakref

from ..core.hot import know
from ..graph.line import INPUT, LOCAL, Line, Node, Run
from .data import item, number_in, tolist
from .effects import Before
from .engine import flush
from .leaving import Later, only_leaves
from .phrase import MISS, Part, Phrase, again, alone, flattened, recorded, since
from .tensor import Storage, Tensor, is_meta, outside, read, settle_alone, version
from .world import Unrepeatable, World, differing

BRANCHES = 8                                   # that are kept behind one look
DEPTH = 100                                    # looks of one call
MISSES = 8                                     # calls in a row that find a number nobody knows: then it is no use to begin
LEARN = 4                                      # calls that are watched after one
ASKED = frozenset((item.__code__, tolist.__code__))


@know
class Fork:
    """`target`: whose number is looked at: a slot of the part before, or ~k, for what stands at k among what the part was given. `modes`: those that the part ended in.
    `keeps`: slots whose values later parts use. `branches`: the newest last. `misses`: calls in a row that found a number nobody knows."""
    __slots__ = ("target", "modes", "keeps", "branches", "misses")

    def __init__(self, target: int, modes: tuple): self.target, self.modes, self.keeps, self.branches, self.misses = target, modes, set(), [], 0


class Branch:
    """How a call goes on where it found `number` (see `exactly`): `phrase`, said at `place` while `world` is as it was; it is given `brought`, which former parts
    computed, (part, slot) each. `said`: calls that went here."""
    __slots__ = ("number", "world", "place", "phrase", "brought", "said")

    def __init__(self, number, world: World, place: Line, phrase: Phrase, brought: tuple):
        self.number, self.world, self.place, self.phrase, self.brought, self.said = number, world, place, phrase, brought, 0


def exactly(x):
    """A number as what only the very same number equals: zeros have signs."""
    return struct.pack("d", x) if x.__class__ is float else struct.pack("dd", x.real, x.imag) if x.__class__ is complex else x


def readable(number) -> str: return str(number) if not isinstance(number, bytes) else " + j·".join(map(repr, struct.unpack("d" * (len(number) // 8), number)))


# ---------------------------------------------------------------- saying it
class Saying:
    """A call that is said by a tree, whose root is at `here` (compiled.Place). `held`: tensors of what later parts use, by (part, slot)."""

    def __init__(self, here, args, kw, run: Run): self.here, self.args, self.kw, self.run, self.held = here, args, kw, run, {}

    def part(self, p: Phrase, world: World, brought: tuple, depth: int):
        """What the call gives, from the part numbered `depth` on; MISS where something isn't known."""
        run, nodes = self.run, self.run.nodes
        args = (*self.args, *world.tensors, *world.state(), *[self.held[b] for b in brought])
        r = again(p, args, self.kw, run)
        if r is MISS or p.fork is None: return r
        fork = p.fork
        run.grad, run.inference, run.autocast = fork.modes
        for s in fork.keeps: self.held[depth, s] = alone(nodes[s])
        number = self.number(fork.target, nodes, args)
        return MISS if number is None else self.branch(fork, number, depth + 1)

    def number(self, target: int, nodes: list, args):
        """What stands where the part looks; None where that can't be computed: the function itself meets the error then."""
        t = alone(nodes[target]) if target >= 0 else flattened((*args, *self.kw.values()))[~target]
        try: return exactly(number_in(t))
        except Exception: return None

    def branch(self, fork: Fork, number, depth: int):
        run = self.run
        here = run.cur
        for b in reversed(fork.branches):
            if b.number != number or b.place is not here or differing(b.world) is not None: continue
            r = self.part(b.phrase, b.world, b.brought, depth)
            if r is not MISS:
                fork.misses = 0
                b.said += 1
                return r
            if run.cur is not here: break      # it went on and met what it doesn't know further down, or a tensor was read anew
        fork.misses += 1
        self.here.learn = LEARN
        return MISS


def said(here, p: Phrase, world: World, args, kw, run: Run):
    """The result of a call that looks at values; MISS where it must run: what was said of it then are values that nobody wants."""
    if run.level is not None or run.hold or run.saving is not None: return MISS
    modes = run.grad, run.inference, run.autocast
    r = Saying(here, args, kw, run).part(p, world, (), 0)
    if (run.grad, run.inference, run.autocast) != modes:
        if r is MISS: flush()
        run.grad, run.inference, run.autocast = modes
        if r is MISS: run.open(run.grad, run.inference)
    if r is MISS and any([f.misses > MISSES for f in forks(p)]): here.said = [e for e in here.said if e[1] is not p]
    return r


def forks(p: Phrase) -> list[Fork]:
    """Every look of a tree."""
    return [] if p.fork is None else [p.fork, *[f for b in p.fork.branches for f in forks(b.phrase)]]


def story(p: Phrase, depth: int = 1) -> list[str]:
    """A tree for people."""
    known = [] if p.fork is None else p.fork.branches
    return [line for b in known for line in (f"{'  ' * depth}where look {depth} finds {readable(b.number)}: {b.said} calls from memory", *story(b.phrase, depth + 1))]


# ---------------------------------------------------------------- watching
class Step:
    """A part that was watched: its phrase, or why it has none; where it began and ended, what it was brought, its numbers; the number that was found behind it."""
    __slots__ = ("phrase", "reason", "place", "end", "brought", "numbers", "found")


class Watched:
    """A call that is made now, and its parts. `looks`: may it be cut?"""

    def __init__(self, f, args, kw, run: Run, more: tuple, carried: tuple, looks: bool):
        self.f, self.args, self.kw, self.run, self.more, self.carried = f, args, kw, run, more, carried
        self.frame = sys._getframe()
        self.steps: list[Step] = []
        self.former: dict[int, tuple] = {}     # id of a node of a former part: (a weak reference to it, part, slot)
        self.brought: list[tuple] = []         # (part, slot, tensor)
        outer, lines, self.modes = run.journal, run.stats.lines, (run.grad, run.inference, run.autocast)
        self.looks, self.alone = looks, outer is None
        self.begin()
        self.tensors = self.part.tensors
        try: self.result = f(*args, **kw)
        finally:
            run.journal, self.frame, self.part.journal.look = outer, None, None     # no cycle: what the call replaced goes at once
            if outer is not None: outer.told(self.part.journal)
        self.new = run.stats.lines != lines

    def begin(self):
        self.part = Part(self.args, self.kw, self.run, self.more, self.carried)
        self.run.journal = self.part.journal
        if self.alone: self.part.journal.look = self.look

    def look(self, t: Tensor, how):
        """how(t), which the call asks for."""
        n, run, asks = read(t), self.run, sys._getframe(1)
        if LOCAL.run is not run or run.level is not None or run.hold or asks.f_code not in ASKED: return how(t)
        if fits(t, how) and not outside(n) and only_leaves(asks.f_back, asks.f_code, self.frame, self.f): return Later(n, how)
        return self.number(t, n) if how is number_in and self.looks and len(self.steps) < DEPTH else how(t)

    def number(self, t: Tensor, n: Node):
        """The number in t: a part of the call ends here."""
        part, run = self.part, self.run
        part.ends = True
        step = self.step()
        if step.phrase is not None:
            target = recorded(run, n, part.place.nslots)
            if target is None: target = next((~k for k, a in enumerate(part.flat) if isinstance(a, Tensor) and read(a) is n), None)
            if target is None: step.phrase, step.reason = None, "it looks at a value that nobody else can see"
            else: step.phrase.fork = Fork(target, (run.grad, run.inference, run.autocast))
        for s in range(part.place.nslots, len(run.nodes)):
            if run.nodes[s].line.op is not INPUT: self.former[id(run.nodes[s])] = weakref.ref(run.nodes[s]), len(self.steps) - 1, s
        del n
        try: number = number_in(t)
        except BaseException:
            part.journal.refusal = "a value that it looks at can't be computed"
            raise
        step.found = exactly(number)
        self.begin()
        return number

    def step(self) -> Step:
        """The part that ends now."""
        part, s = self.part, Step()
        self.bring(part)
        part.more = (*self.more, *[t for *_, t in self.brought])
        part.befores.update({id(t): Before(t) for *_, t in self.brought})
        s.phrase, s.reason = part.phrase()
        s.place, s.end, s.numbers, s.found, s.brought = part.place, self.run.cur, part.numbers(), None, tuple([b[:2] for b in self.brought])
        self.steps.append(s)
        return s

    def bring(self, part: Part):
        """Give a part what former parts computed and it uses: in lines, where it checks values, in its result."""
        if not self.former: return
        run, known, checks = self.run, {b[:2]: b[2] for b in self.brought}, part.journal.checks
        used = [run.nodes[e.slot] for e in since(run.cur, part.place) if e.op is INPUT]
        late = [r.n for r in flattened((part.result,)) if r.__class__ is Later]
        for n in (*used, *late, *[read(t) for t, *_ in checks]):
            at = self.source(n)
            if at is None or at in known: continue
            known[at] = alone(n)
            self.brought.append((*at, known[at]))
        for i, (t, *check) in enumerate(checks):
            at = self.source(read(t))
            if at is not None: checks[i] = (known[at], *check)
        results = {}
        for t in flattened((part.result,)):
            if isinstance(t, Tensor) and t.alias is not None and t.alias.base is not None: t = t.alias.base
            if t.__class__ is not Tensor or not as_made(t): continue
            at = self.source(t.node if t.alias is None else t.alias.store.node)
            if at is not None and at not in results:
                results[at] = t
                self.brought.append((*at, t))

    def source(self, n: Node) -> tuple | None:
        """(part, slot) of what a former part computed."""
        found = self.former.get(id(n))
        return found[1:] if found is not None and found[0]() is n else None

    def course(self) -> tuple:
        """What tells the call's way from others."""
        return *[(s.end, s.found) for s in self.steps], self.run.cur

    def numbers(self) -> list[list]: return [*[s.numbers for s in self.steps], self.part.numbers()]

    def finish(self) -> list[Step]:
        """The call's parts, if it can be said again."""
        self.part.result, self.part.before["modes"] = self.result, self.modes
        self.step()
        for s in self.steps:
            if s.phrase is None: raise Unrepeatable(s.reason)
        return self.steps


def fits(t: Tensor, how) -> bool:
    """Will how(t) give a value?"""
    return t.__class__ is Tensor and not is_meta(t) and (how is not number_in or math.prod(read(t).line.shape) == 1)


def as_made(t: Tensor) -> bool:
    """Is a tensor as the row left it that computed it, but for views of it?"""
    if t.alias is not None: settle_alone(t)
    a = t.alias
    whole = a is None or a.view is None and a.leaf is None and not a.frozen and a.store.__class__ is Storage and a.store.peers is None
    return whole and version(t) == 0 and not t.__dict__ and not hasattr(t, "kept")


# ---------------------------------------------------------------- the tree
def grown(entries: list, world: World, steps: list[Step]):
    """Put a call that was watched into the tree that `entries` are the roots of, (world, phrase) each."""
    p, path = steps[0].phrase, []
    if len(steps) == 1: entries[:] = [e for e in entries if not (alike(e[1], p) and differing(e[0]) is None)]
    known = next((q for w, q in entries if alike(q, p) and differing(w) is None), None)
    if known is None:                          # a tree of the same beginning that saw less of the world would be in front of it
        entries[:] = [e for e in entries if p.fork is None or e[1].fork is None or e[1].end is not p.end or e[1].plain != p.plain or differing(e[0]) is not None]
        entries.append((world, p))
    else: p = known
    for s, after in zip(steps, steps[1:]):
        path.append(p)
        p = grafted(p.fork, s.found, world, after)
    for part, slot in steps[-1].brought: path[part].fork.keeps.add(slot)


def grafted(fork: Fork, number, world: World, s: Step) -> Phrase:
    """The phrase of part s behind a look that found this number: the one that is known, or its own."""
    known = [b for b in fork.branches if b.number == number and b.place is s.place and b.brought == s.brought and alike(b.phrase, s.phrase) and differing(b.world) is None]
    if known and s.phrase.fork is not None: return known[-1].phrase
    fork.branches = [b for b in fork.branches if b not in known]
    fork.branches.append(Branch(number, world, s.place, s.phrase, s.brought))
    if len(fork.branches) > BRANCHES:
        del fork.branches[0]
        raise Unrepeatable(f"it goes on in more than {BRANCHES} ways after it looks at a value")
    return s.phrase


def alike(p: Phrase, q: Phrase) -> bool:
    """Do two phrases say the same, of the same arguments, and go on at looks at the same value?"""
    if (p.fork is None) is not (q.fork is None) or p.fork is not None and (p.fork.target, p.fork.modes) != (q.fork.target, q.fork.modes): return False
    return all([getattr(p, name) == getattr(q, name) for name in ("names", "nested", "types", "plain", "rare", "tensors", "parts", "checks", "lines", "numbers", "end")])
