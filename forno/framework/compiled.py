"""Functions whose calls are said again whole: torch.compile.

The first call at a place of a program runs as always. The second is watched (`world`), and what its Python could see is written down; the third is watched,
too, and must leave all of that as it was. From then on a call whose world and arguments are the same says its lines from memory (`phrase`), and no Python
of the function runs. A call that can't be said again runs as always, fused and cached as everything is; `explain` says why.
"""
from __future__ import annotations

import functools
import threading
import types
import weakref

from ..core.hot import hot
from ..graph.line import LOCAL
from . import phrase
from .phrase import MISS, again
from .tensor import Tensor
from .world import Transparent, Unrepeatable, Walk, Witness, World, differing

RECORDINGS = 8                                 # of one function at one place of a program
watching: set[int] = set()                     # threads in which one is watched: those inside it run as they are, what they see counts, too


class Draft:
    """A call that was watched once: what its Python could see, and its numbers."""
    __slots__ = ("world", "numbers")

    def __init__(self, world: World, numbers: list): self.world, self.numbers = world, numbers


class Compiled(Transparent):
    """f, called from memory where that is known to be the same."""

    def __init__(self, f, fullgraph: bool = False):
        self.f, self.fullgraph, self.reasons, self.said, self.run = f, fullgraph, [], 0, 0
        self.refusals, self.watch_from = 0, 0  # a call that is watched takes longer: who is refused again and again is watched ever less
        self.bound: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        functools.update_wrapper(self, f, updated=())

    def __call__(self, *args, **kw):
        run = LOCAL.run
        if watching and threading.get_ident() in watching: return self.f(*args, **kw)
        r = replayed(self, args, kw, run)
        if r is not MISS:
            self.said += 1
            return r
        self.run += 1
        return self.recorded(args, kw, run)

    def __get__(self, obj, cls=None):
        """A method: one compiled function for each object."""
        if obj is None: return self
        try:
            if obj not in self.bound: self.bound[obj] = Compiled(types.MethodType(self.f, obj), self.fullgraph)
            return self.bound[obj]
        except TypeError: return functools.partial(self, obj)              # no hash, or no weak references

    def __repr__(self): return f"<compiled {self.f!r}>"

    def recorded(self, args, kw, run):
        """The call itself, and what can be kept of it."""
        if run.level is not None or run.hold or run.saving is not None or self.run < self.watch_from: return self.f(*args, **kw)
        place = run.cur
        if place.phrases is None: place.phrases = {}
        entries = place.phrases.get(self)
        if entries is None:
            place.phrases[self] = []
            return self.f(*args, **kw)
        draft = entries.pop()[0] if entries and entries[-1][1] is None else None
        before = differing(draft.world if draft is not None else entries[-1][0]) if entries or draft is not None else None
        if before is not None: self.note(before)
        if before is not None or draft is None: draft, more, numbers = None, (), None
        else: more, numbers = tuple(draft.world.tensors), draft.world.numbers()
        flat = phrase.flattened((*args, *kw.values()))
        watching.add(threading.get_ident())
        try:
            with Witness() as witness: call = phrase.Call(self.f, args, kw, run, more)
        except Unrepeatable as error:          # before anything ran
            self.refuse(str(error))
            return self.f(*args, **kw)
        finally: watching.discard(threading.get_ident())
        if not call.new and LOCAL.run is run: self.keep(entries, draft, numbers, witness, call, flat)
        return call.result

    def keep(self, entries: list, draft: Draft | None, numbers, witness: Witness, call: phrase.Call, flat: list):
        """Write down the call's world; the second time, its phrase."""
        try:
            if witness.reason: raise Unrepeatable(witness.reason)
            if not unchanged(phrase.flattened((*call.args, *call.kw.values())), flat): raise Unrepeatable("it changes its arguments")
            if any([vars(t) for t in call.tensors]): raise Unrepeatable("a tensor it is given has attributes of its own")
            if draft is None: return entries.append((Draft(Walk(witness).all(self.f), call.numbers()), None))
            after = differing(draft.world)
            if after is not None or draft.world.numbers() != numbers: raise Unrepeatable(f"it changes what it can see: {after or 'rates of an optimizer'}")
            p, reason = call.phrase()
            if p is None: raise Unrepeatable(reason)
            if not same_numbers(draft.numbers, p): raise Unrepeatable("it computes with numbers that change from call to call")
            entries.append((draft.world, p))
            self.refusals = 0
            if len(entries) > RECORDINGS:
                del entries[0]
                raise Unrepeatable(f"at one place of the program it was different more than {RECORDINGS} times")
        except Unrepeatable as error: self.refuse(str(error))

    def note(self, reason: str):
        if reason not in self.reasons: self.reasons.append(reason)

    def refuse(self, reason: str):
        self.note(reason)
        self.refusals += 1
        self.watch_from = self.run + (1 << min(self.refusals, 12)) - 2
        if self.fullgraph: raise RuntimeError(f"{getattr(self.f, '__qualname__', self.f)} can't be compiled as a whole: {reason}")

    def explain(self) -> str:
        """How calls went, and why some can't be said again."""
        lines = [f"{getattr(self.f, '__qualname__', self.f)}: {self.said} calls from memory, {self.run} run"]
        return "\n".join([*lines, *(f"  {r}" for r in self.reasons)])


def same_numbers(before: list, p: phrase.Phrase) -> bool:
    """Are a call's numbers those of the call before, but for what its effects compute?"""
    computed = set() if p.effects is None else {k for *_, places in p.effects.rates for k, _ in places}
    return len(before) == len(p.numbers) and all([k in computed or a is b or a == b for k, (a, b) in enumerate(zip(before, p.numbers))])

def unchanged(now: list, before: list) -> bool:
    """The very same tensors, and equal values of other kinds."""
    return len(now) == len(before) and all([a is b or not isinstance(a, Tensor) and a.__class__ is b.__class__ and a == b for a, b in zip(now, before)])


@hot
def replayed(compiled, args, kw, run):
    """The result of a call from memory; MISS where nothing fitting is known."""
    phrases = run.cur.phrases
    if phrases is None: return MISS
    entries = phrases.get(compiled, None)
    if entries is None: return MISS
    for world, p in entries:
        if p is not None and differing(world) is None:
            r = again(p, args + tuple(world.tensors), kw, run)
            if r is not MISS: return r
    return MISS


def compile(f, fullgraph: bool = False) -> Compiled: return f if isinstance(f, Compiled) else Compiled(f, fullgraph)
