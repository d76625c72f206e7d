"""Functions whose calls are said again whole: torch.compile.

The first call at a place of a program runs as always. The second is watched (`world`), and what its Python could see is written down; the third is watched,
too, and must leave all of that as it was. From then on a call whose world and arguments are the same says its lines from memory (`phrase`), and no Python
of the function runs. A call that looks at numbers is said in parts (`parts`). A call that can't be said again runs as always, fused and cached as everything
is; `explain` says why.
"""
from __future__ import annotations

import functools
import threading
import types
import weakref

from ..core.hot import hot, know
from ..cudart.allocator import CAPTURING
from ..graph.line import LOCAL
from . import parts, phrase
from .autograd import HOOKED
from .phrase import MISS, again, settled
from .tensor import Tensor
from .world import Transparent, Unrepeatable, Walk, Witness, differing

RECORDINGS = 8                                 # of one function at one place of a program
watching: set[int] = set()                     # threads in which one is watched: those inside it run as they are, what they see counts, too


@know
class Place:
    """What one function does at one place of a program. `said`: (world, phrase) each. `world`: what the Python of the calls that were watched last could see;
    `numbers`: what they computed with, by the program that they became and by their arguments. `learn`: so many calls are to be watched, because one
    looked at a value that nobody knew."""
    __slots__ = ("said", "world", "numbers", "learn")

    def __init__(self): self.said, self.world, self.numbers, self.learn = [], None, {}, 0


class Compiled(Transparent):
    """f, called from memory where that is known to be the same."""

    def __init__(self, f, fullgraph: bool = False):
        self.f, self.fullgraph, self.reasons, self.said, self.run = f, fullgraph, [], 0, 0
        self.forked: list[Place] = []          # where calls look at values
        self.refusals, self.watch_from = 0, 0  # a call that is watched takes longer: who is refused again and again is watched ever less
        self.bound: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        functools.update_wrapper(self, f, updated=())

    def __call__(self, *args, **kw):
        run = LOCAL.run
        if watching and threading.get_ident() in watching: return self.f(*args, **kw)
        if CAPTURING and threading.get_ident() in CAPTURING: return self.f(*args, **kw)        # numbers it draws are those of the graph's launches
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
        if HOOKED.data: self.note("a value that was computed has a hook: no backward is said from memory while it lives")
        line = run.cur
        if line.phrases is None: line.phrases = {}
        if self not in line.phrases:
            line.phrases[self] = Place()
            return self.f(*args, **kw)
        here = line.phrases[self]
        world = here.world or (here.said[-1][0] if here.said else None)
        before = None if world is None else differing(world)
        if before is not None: self.note(before)
        if before is not None or here.world is None: here.world, here.numbers, more, rates = None, {}, (), None
        else: more, rates = (*world.tensors, *world.state()), world.rates()
        flat = phrase.flattened((*args, *kw.values()))
        watching.add(threading.get_ident())
        try:
            with Witness() as witness: call = parts.Watched(self.f, args, kw, run, more, world.carried if more else (), not self.fullgraph)
        except Unrepeatable as error:          # before anything ran
            self.refuse(str(error))
            return self.f(*args, **kw)
        finally: watching.discard(threading.get_ident())
        if call.new or LOCAL.run is not run: return settled(call.result)
        try:
            if witness.reason: raise Unrepeatable(witness.reason)
            if not unchanged(phrase.flattened((*args, *kw.values())), flat): raise Unrepeatable("it changes its arguments")
            if any([vars(t) for t in call.tensors]): raise Unrepeatable("a tensor it is given has attributes of its own")
            plain = [a for a in flat if not isinstance(a, Tensor)]
            odd = [type(a).__name__ for a in plain if a.__class__ not in phrase.PLAIN]
            if odd: raise Unrepeatable(f"an argument is a {odd[0]}")
            self.keep(here, witness, call, rates, (*call.course(), *plain))
        except Unrepeatable as error: self.refuse(str(error))
        return settled(call.result)

    def keep(self, here: Place, witness: Witness, call: parts.Watched, rates: list | None, kind: tuple):
        """Write down the call's world; the second time, its phrases. `rates`: optimizers' options before the call."""
        if here.world is not None and not witness.codes.keys() <= here.world.codes.keys():       # other arguments or values, another way through the code
            witness.codes.update(here.world.codes)
            here.world, here.numbers = None, {}
        if here.world is None: here.world = Walk(witness).all(self.f)
        before = here.numbers.get(kind)
        here.numbers[kind] = call.numbers()
        if before is None:
            if len(here.numbers) <= 2 * RECORDINGS: return
            here.numbers.clear()
            raise Unrepeatable("its arguments that are no tensors change from call to call" if not call.steps else "it looks at values that change from call to call")
        changed = differing(here.world) or (None if here.world.rates() == rates else "options of an optimizer")
        if changed is not None:
            if here.world.rates() == rates and here.world.carries(): return
            here.world = None
            raise Unrepeatable(f"it changes what it can see: {changed}")
        steps = call.finish()
        if not all([same_numbers(b, s.phrase) for b, s in zip(before, steps)]): raise Unrepeatable("it computes with numbers that change from call to call")
        parts.grown(here.said, here.world, steps)
        if len(steps) > 1 and here not in self.forked: self.forked.append(here)
        self.refusals = 0
        if len(here.said) > RECORDINGS:
            del here.said[0]
            raise Unrepeatable(f"at one place of the program it was different more than {RECORDINGS} times")

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
        looks = [line for here in self.forked for _, p in here.said for line in parts.story(p)]
        return "\n".join([*lines, *(f"  {r}" for r in self.reasons), *looks])


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
    here = phrases.get(compiled, None)
    if here is None: return MISS
    if here.learn:
        here.learn -= 1
        return MISS
    place = run.cur
    for world, p in here.said:
        if differing(world) is None:
            if p.fork is not None: r = parts.said(here, p, world, args, kw, run)
            else:
                more = tuple(world.tensors)
                if world.carried: more = more + world.state()
                r = again(p, args + more, kw, run)
            if r is not MISS: return r
            if run.cur is not place: return MISS           # a tensor was read anew, or a part was said that goes on as nobody knows
    return MISS


def compile(f, fullgraph: bool = False) -> Compiled: return f if isinstance(f, Compiled) else Compiled(f, fullgraph)
