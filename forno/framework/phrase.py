"""Calls that repeat.

Most calls of a program were made before, at this place, with these arguments: what differs from run to run is in the tensors. A **Phrase** is what one such
call recorded: its lines, where its tensors enter them, and how its results see their values. The next such call appends a node per line and is done; the
function's own Python (arguments, shapes, views, defaults) doesn't run.

Only a call whose result follows from its arguments is kept. `described` looks at what the call did and refuses whatever it can't say again: values that
were read, random numbers, memory that was written, warnings, tensors that came from elsewhere. Ambient state (gradient mode, default dtype) needs no check:
it is part of the place.
"""
from __future__ import annotations

import functools
import itertools
from math import copysign

from ..core import errors
from ..core.dtype import dtype
from ..core.hot import hot, know
from ..core.state import state
from ..graph.line import BACKWARD, INPUT, LOCAL, ODD, Journal, Leaf, Line, Node, Run, Slice, new
from .data import look
from .effects import Account, Unsaid, befores, done, entered, ready, taken
from .layouts import OTHERS
from .leaving import Later
from .size import Size, device, layout, memory_format
from .tensor import Alias, Storage, Tensor, read, settle_alone, share, version

SEQUENCES = frozenset((tuple, list, Size, slice, dict))
GATHERED = frozenset((tuple, list, dict))
PLAIN = frozenset((type(None), bool, int, float, complex, str, type, type(Ellipsis), dtype, device, layout, memory_format))
FEW = 8                                        # tensors that are compared two by two
TRIES = 4                                      # a place where the arguments keep changing is left alone after so many phrases
MISS = object()

ENTERS, UNREAD, SAME = -1, -2, -3              # where a tensor stands: a slot; it enters here; only its shape counts; SAME - j: it is tensor j again
NEW, ARGUMENT, PART, OWN, PLAINLY, MANY, GRADIENT, LATER = "new", "argument", "part", "own", "plainly", "many", "gradient", "later"       # how a result is made


@know
class Phrase:
    """`types`, `plain`: what the arguments must be. `exact`: the very objects that all but tensors were, where that says enough (see `unmoved`). `tensors`: (position, where, line, is it a leaf, slice) each. `lines`: (line, index of the tensor
    that enters by it or -1). `parts`: (position, view) of tensors that results are views of. `checks`: (position, key, check of known values). `rare`: see `differs`. `result`: a recipe, see `made`. `before`: an earlier phrase of the same
    function at the same place, for other arguments; MISS: none. `effects`: what it does besides (framework.effects), or None. `fork`: how calls go on that look
    at a value here (framework.parts), or None. `late`: there are numbers in its result."""
    __slots__ = ("names", "nested", "exact", "types", "plain", "rare", "tensors", "parts", "checks", "lines", "numbers", "end", "result", "simple", "before", "tries", "effects", "fork", "late")


def remembered(f):
    """f, whose calls are remembered."""
    @functools.wraps(f)
    def call(*args, **kw):
        run = LOCAL.run
        place = run.cur
        if place.phrases is None: return first(f, args, kw, run)
        p = place.phrases.get(f, MISS)
        if p is None: return f(*args, **kw)
        while p is not MISS:
            r = again(p, args, kw, run)
            if r is not MISS: return r
            p = p.before if run.cur is place else MISS     # a tensor was read anew: another place, with phrases of its own
        return first(f, args, kw, run)
    return hot(call)


def flattened(args) -> list:
    """Arguments with the members of sequences, dictionaries and slices in their place, after a length or the word slice."""
    out: list = []
    for a in args:
        c = a.__class__
        if c is slice: out.extend((slice, a.start, a.stop, a.step))
        elif c in SEQUENCES:
            out.append(len(a))
            if c is dict: a = [x for pair in a.items() for x in pair]
            out.extend(a if SEQUENCES.isdisjoint(map(type, a)) else flattened(a))
        else: out.append(a)
    return out


# ---------------------------------------------------------------- saying it again
@hot
def again(p, args, kw, run):
    """The result of a call that is p's; MISS where something is different."""
    k: int
    where: int
    j: int
    if kw:
        if tuple(kw) != p.names: return MISS
        args = args + tuple(kw.values())
    elif p.names: return MISS
    if different(args, p.types): return MISS
    if p.exact is None or not identical(args, p.exact):
        if p.nested is not None:
            args = flattened(args)
            if different(args, p.nested): return MISS
        for k, value in p.plain:
            a = args[k]
            if a is not value and a != value: return MISS
    before, nodes, found, effects = run.cur, run.nodes, [], p.effects
    if effects is not None:
        args = taken(effects, args)
        if args is None or run.cur is not before: return MISS
    for k, where, line, leaf, shape in p.tensors:
        t = args[k]
        n = t.node
        if n is None:
            n = read(t)
            if run.cur is not before: return MISS          # what was written since is read by lines of its own
        if where >= 0:
            if nodes[where] is not n: return MISS
        elif where == ENTERS:
            if n.line is not line or not fits(n, leaf, shape) or id(n) in run.inputs: return MISS
        elif where == UNREAD:
            if n.line is not line: return MISS
        elif found[SAME - where] is not n: return MISS
        found.append(n)
    for k, view in p.parts:
        a = args[k].alias
        if a is None:
            if view is not None: return MISS
        elif a.view != view or a.leaf is not None or a.frozen or a.store.__class__ is not Storage: return MISS
    if p.rare is not None and differs(p, args, found): return MISS
    for k, key, check in p.checks: look(args[k], key, check)
    if effects is not None:
        numbers, first = ready(effects, args, run), before.nscal
        if numbers is None or run.cur is not before: return MISS
    try:
        if effects is not None: entered(effects, run, found, args, numbers)
        for e, j in p.lines:
            if j < 0:
                n = new(Node)
                n.line = e
                n.buf = n.past = None
            else:
                n = found[j]
                run.inputs[id(n)] = e.slot
            nodes.append(n)
        if p.numbers: run.scalars.extend(p.numbers)
        if effects is not None:
            done(effects, run, args, numbers, first)
            for container, key, r in effects.carries: container[key] = made(r, nodes, args, {})
        run.cur = p.end
    except BaseException:                      # an interrupt: all of the call's lines or none
        undo(run, before)
        raise
    run.stats.said += 1
    if p.simple is not None:
        t = new(Tensor)
        t.node, t.alias = nodes[p.simple], None
        return t
    r = made(p.result, nodes, args, {})
    return settled(r) if p.late else r


@hot
def different(values, types):
    """Are the values' types not these?"""
    if len(values) != len(types): return True
    for i in range(len(types)):
        if values[i].__class__ is not types[i]: return True
    return False


@hot
def identical(values, members):
    """Are the values these very objects? `members`: (position, object) each."""
    k: int
    for k, a in members:
        if values[k] is not a: return False
    return True


@hot
def fits(n, leaf, shape):
    """Can a node from outside the window enter it as one did before: the same kind of leaf, the same kind of memory?"""
    buf = n.buf
    if buf.__class__ in ODD:
        if buf.__class__ is not Slice or buf.shape != shape or buf.exposed: return False
    elif shape is not None or (buf._writable is not None or buf._readable is not None) and buf.exposed: return False
    return leaf is None or (n.past.__class__ is Leaf) is leaf


def undo(run: Run, before: Line):
    """Take back what was appended since a line."""
    run.cur = before
    for n in run.nodes[before.nslots:]: run.inputs.pop(id(n), None)
    del run.nodes[before.nslots:], run.scalars[before.nscal:]


@hot
def differs(p, args, found):
    """What only some phrases must look at: signs of zeros, and tensors that must not be one."""
    i: int
    j: int
    k: int
    zeros, pairs, many = p.rare
    for k in zeros:
        if copysign(1.0, args[k]) < 0: return True
    for i, j in pairs:
        if found[i] is found[j]: return True
    return many is not None and doubled(found, many)


def doubled(found, many) -> bool: return len({id(found[j]) for j in many}) != len(many)


@hot
def made(recipe, nodes, args, stores):
    """A result by its recipe. `stores`: memory that several results see."""
    k: int
    slot: int
    kind = recipe[0]
    if kind is NEW:
        t = new(Tensor)
        t.node, t.alias, t.ver = nodes[recipe[1]], None, recipe[2]
        return t
    if kind is ARGUMENT: return args[recipe[1]]
    if kind is PART:
        _, k, view, slot = recipe
        base = args[k]
        a = base.alias
        if a is None: a = share(base)
        t, b, store = new(Tensor), new(Alias), a.store
        b.store, b.view, b.cache, b.seen, b.leaf, b.frozen, b.own = store, view, nodes[slot], store.node, None, False, False
        b.base = base if a.base is None else a.base
        t.node, t.alias = None, b
        return t
    if kind is OWN: return own(recipe, nodes, stores)
    if kind is GRADIENT: return read(args[recipe[1]]).past.grad
    if kind is PLAINLY: return recipe[1]
    if kind is LATER: return later(recipe, nodes, args)
    results = [made(r, nodes, args, stores) for r in recipe[2]]
    return recipe[1](results)


def later(recipe, nodes, args) -> Later: return Later(nodes[recipe[1]] if recipe[1] >= 0 else read(args[~recipe[1]]), recipe[2])


def alone(n: Node) -> Tensor:
    """A tensor of its own for a value."""
    t = new(Tensor)
    t.node, t.alias = n, None
    return t


def settled(r):
    """A result with its numbers, for which the window runs."""
    if r.__class__ is Later: return r.how(alone(r.n))
    if r.__class__ in GATHERED and any(map(is_late, r.values() if r.__class__ is dict else r)):
        return {k: settled(v) for k, v in r.items()} if r.__class__ is dict else r.__class__(map(settled, r))
    return r


def is_late(r) -> bool: return r.__class__ is Later or r.__class__ in GATHERED and any(map(is_late, r.values() if r.__class__ is dict else r))


@hot
def own(recipe, nodes, stores):
    """A result that sees memory of this call's."""
    _, content, view, slot, own, count, base = recipe
    whole = stores.get(content, None)
    if whole is None: whole = stores[content] = anew(nodes[content], count)
    store, t, a = whole.alias.store, new(Tensor), new(Alias)
    a.store, a.view, a.leaf, a.frozen, a.own = store, view, None, False, own
    a.base = whole if base else None
    if slot is None: a.cache = a.seen = None
    else: a.cache, a.seen = nodes[slot], store.node
    t.node, t.alias = None, a
    return t


@hot
def anew(n, count):
    """A tensor that sees all of a fresh storage."""
    s, a, t = new(Storage), new(Alias), new(Tensor)
    s.node, s.clock, s.shape, s.peers, s.exposed, s.leaf = n, [count], n.line.shape, None, None, False
    a.store, a.view, a.cache, a.seen, a.leaf, a.frozen, a.own, a.base = s, None, None, None, None, False, False, None
    t.node, t.alias = None, a
    return t


# ---------------------------------------------------------------- keeping what was said
def first(f, args, kw, run: Run):
    """Call f; if the program knew all its lines already, keep them as a phrase."""
    if run.level is not None or run.hold or "out" in kw: return f(*args, **kw)
    tensors = [a for a in flattened((*args, *kw.values()) if kw else args) if isinstance(a, Tensor)]
    if not tensors or any([a.__class__ in OTHERS for a in tensors]): return f(*args, **kw)
    came = run.cur
    for a in tensors: read(a)
    if run is not LOCAL.run or run.level is not None: return f(*args, **kw)
    place = run.cur
    old = place.phrases.get(f, MISS) if place.phrases is not None else MISS
    if old is None: return f(*args, **kw)
    p = old if place is not came else MISS     # where the call came from, all have been tried
    while p is not MISS:
        r = again(p, args, kw, run)
        if r is not MISS: return r
        p = p.before
    call = Call(f, args, kw, run)
    if call.new: return call.result            # a new program: its lines cost more than any call
    p = call.phrase()[0]
    if p is not None:
        p.before, p.tries = old, 1 if old is MISS else old.tries + 1
        if p.tries > TRIES: p = None
    if place.phrases is None: place.phrases = {}
    place.phrases[f] = p
    return call.result


class Part:
    """A call, or what it does before or after a look at a value, from its beginning on; and what must stay as it was for it to be said again. `ends`: a look ends it.
    `flat`: what its phrase is given."""

    def __init__(self, args, kw, run: Run, more: tuple | None = None, carried=()):
        """`more`: tensors that are used and aren't arguments; a phrase is given them after the positional ones. Such a call may have effects, too.
        `carried`: (container, key) of those that the call replaces."""
        self.args, self.kw, self.run, self.place, self.more, self.carried = args, kw, run, run.cur, more, carried
        self.tensors = [a for a in flattened((*args, *kw.values()) if kw else args) if isinstance(a, Tensor)]
        self.nodes = [read(a) for a in self.tensors]
        self.befores = None if more is None else befores([*self.tensors, *[a for a in flattened(more) if isinstance(a, Tensor)]])
        self.journal, self.result, self.ends, self.flat = Journal(), None, False, []
        self.before, self.freed, self.held = self.state(), len(run.freed), len(run.held)

    def state(self) -> dict:
        run, s = self.run, self.run.stats
        what = {"looks": s.looks, "window": run.id, "lines": s.lines, "warnings": errors.warned[0], "defaults": (state.default_dtype, state.deterministic, state.rounding, state.tf32, state.without)}
        if not self.ends: what["modes"] = run.grad, run.inference, run.autocast
        return what if self.more is not None else what | {"freed": len(run.freed), "versions": [version(a) for a in self.tensors]}

    def numbers(self) -> list: return self.run.scalars[self.place.nscal:]

    def phrase(self) -> tuple[Phrase | None, str]:
        """What was said, if it can be said again, or why not."""
        run = LOCAL.run
        if run is not self.run or run.eager: return None, "it needs values at once"
        after = self.state()
        different = [REASONS[k] for k, v in after.items() if v != self.before[k]]
        if different or self.journal.refusal: return None, self.journal.refusal or different[0]
        args = self.args if self.more is None else (*self.args, *self.more)
        self.flat = flat = flattened((*args, *self.kw.values()) if self.kw else args)
        count, cur = run.stats.lines, run.cur
        try: p = described(self, args, flat, since(cur, self.place))
        except Unsaid as error: return None, str(error)
        if run.stats.lines != count or run.cur is not cur: return None, "it can see a tensor that was written to"
        return p, "" if p is not None else "it uses values that nobody can see, or its arguments or its result are of kinds that can't be said again"


class Call(Part):
    """A call that is made now."""

    def __init__(self, f, args, kw, run: Run):
        super().__init__(args, kw, run)
        outer, run.journal = run.journal, self.journal
        try: self.result = f(*args, **kw)
        finally:
            run.journal = outer
            if outer is not None: outer.told(self.journal)
        self.new = run.stats.lines != self.before["lines"]


REASONS = {"window": "it needs values before its end, or is longer than a window (FORNO_WINDOW)", "lines": "it is a new program", "looks": "it looks at values of tensors (item, tolist, if, print)", "warnings": "it warns",
           "modes": "it changes a mode (gradients, inference, autocast)", "defaults": "it changes the default type or a mode of computing", "freed": "it calls backward", "versions": "it writes to tensors"}


def since(e: Line | None, place: Line) -> list[Line]:
    """The lines after a place."""
    lines = []
    while e is not place:
        if e is None: raise Unsaid("it needs values at once")
        lines.append(e)
        e = e.prev
    return lines[::-1]


def described(call: Part, args, flat, lines) -> Phrase | None:
    """What a call recorded; None if it can't be said again."""
    run, start = call.run, call.place.nslots
    p = Phrase()
    p.names, p.types = tuple(call.kw), tuple(map(type, (*args, *call.kw.values())))
    p.nested = tuple(map(type, flat)) if not SEQUENCES.isdisjoint(p.types) else None
    plain = [k for k, a in enumerate(flat) if not isinstance(a, Tensor)]
    if any([flat[k].__class__ not in PLAIN for k in plain]): return None
    p.plain = tuple([(k, flat[k]) for k in plain if flat[k] is not None])          # None is its type
    zeros = [k for k in plain if flat[k].__class__ is float and flat[k] == 0]
    if any([copysign(1.0, flat[k]) < 0 for k in zeros]): return None
    p.effects, p.fork, p.lines = None, None, ()
    p.exact = unmoved((*args, *call.kw.values())) if p.nested is not None and call.more is None and not zeros else None
    if call.more is None:
        if call.journal.rates: return None     # it draws on a GPU: new numbers each time
        tensors = [(k, a) for k, a in enumerate(flat) if isinstance(a, Tensor)]
        known = {id(a): n for a, n in zip(call.tensors, call.nodes)}
        operands = [known[id(a)] for _, a in tensors]
    else:
        account = Account(call, flat, [e for e in lines if e.slot >= 0])           # which adds to `flat`
        tensors, operands = account.tensors, account.operands
        if not account.plain() or call.carried and not call.ends: p.effects = account.effects
        if p.effects is not None and call.ends: raise Unsaid("it does something that can't be taken back before it looks at a value")
    index: dict[int, int] = {}
    for j, n in enumerate(operands): index.setdefault(id(n), j)
    if p.effects is None:
        p.lines = entries(run, lines, index)
        if p.lines is None: return None
    p.tensors = tuple([standing(run, k, n, j, index, start) for j, ((k, _), n) in enumerate(zip(tensors, operands))])
    entering = [j for j, (_, where, *_) in enumerate(p.tensors) if where == ENTERS]
    p.numbers, p.end = call.numbers(), run.cur
    parts: dict[int, tuple] = {}
    p.result = recipe(call.result, flat, run, start, parts, p.effects is not None)
    if p.result is None or p.result[0] == PLAINLY and p.effects is None and not call.ends: return None
    if call.carried and not call.ends: p.effects.carries = carries(call, flat, run, start)
    p.checks = tuple([(k, key, check) for t, key, check in call.journal.checks for k, a in tensors if a is t])
    p.parts, p.rare = tuple(parts.items()), (zeros, list(itertools.combinations(entering, 2)) if len(entering) <= FEW else (), entering if len(entering) > FEW else None) if zeros or len(entering) > 1 else None
    p.late = is_late(call.result)
    p.simple = p.result[1] if p.result[0] == NEW and not p.result[2] else None
    return p


def unmoved(args) -> tuple | None:
    """(position, object) of the arguments that are no tensors, if tuples of plain values are the only sequences among them, and stand behind the tensors:
    the same objects say the same then, and tensors have the same places before and after `flattened`. (A convolution's strides: a module hands out the same tuple.)"""
    others = [(k, a) for k, a in enumerate(args) if not isinstance(a, Tensor)]
    first = next(k for k, a in others if a.__class__ in SEQUENCES)
    if any([isinstance(a, Tensor) for a in args[first:]]): return None
    return tuple(others) if all([a.__class__ in PLAIN or a.__class__ is tuple and all([m.__class__ in PLAIN for m in a]) for _, a in others]) else None


def carries(call: Part, flat, run: Run, start: int) -> tuple:
    """(container, key, recipe) of what a call left for the next one."""
    values = [container[key] for container, key in call.carried]
    made_now = [t for t in flattened((call.result, *values)) if isinstance(t, Tensor) and all([t is not a for a in flat])]
    recipes = [recipe(v, flat, run, start, {}, True) for v in values]
    if len(set(map(id, made_now))) != len(made_now) or not all([r is not None and of_its_own(r) for r in recipes]): raise Unsaid("what it leaves for the next call shares its memory")
    return tuple([(container, key, r) for (container, key), r in zip(call.carried, recipes)])


def of_its_own(r) -> bool: return all(map(of_its_own, r[2])) if r[0] == MANY else r[0] in (NEW, ARGUMENT)


def entries(run: Run, lines, index: dict) -> tuple | None:
    """(line, index of the tensor that enters by it or -1) of a call without effects."""
    out = []
    for e in lines:
        if e.op is BACKWARD: return None
        if e.slot < 0: continue
        n = run.nodes[e.slot]
        if e.op is INPUT and id(n) not in index or e.op is not INPUT and (n.past is not None or n.buf is not None): return None
        out.append((e, index[id(n)] if e.op is INPUT else -1))
    return tuple(out)


def standing(run: Run, k: int, n: Node, j: int, index: dict, start: int) -> tuple:
    """Where a tensor's node stands in the window, as a phrase keeps it."""
    s = n.line.slot
    if not (0 <= s < len(run.nodes) and run.nodes[s] is n): s = run.inputs.get(id(n))
    if s is None: return k, UNREAD, n.line, None, None
    if s < start: return k, s, None, None, None
    if index[id(n)] != j: return k, SAME - index[id(n)], None, None, None
    return k, ENTERS, n.line, n.past.__class__ is Leaf if n.line.grad else None, n.buf.shape if n.buf.__class__ is Slice else None


def recipe(r, flat, run: Run, start: int, parts: dict, late: bool):
    """How to make a result from nodes and arguments; None where that can't be said. `late`: after effects."""
    if isinstance(r, Tensor):
        for k, a in enumerate(flat):
            if a is r: return ARGUMENT, k
        if late:
            for k, a in enumerate(flat):
                if isinstance(a, Tensor) and read(a).past.__class__ is Leaf and read(a).past.grad is r: return GRADIENT, k
            if r.alias is not None: settle_alone(r)
        if r.__class__ is not Tensor or hasattr(r, "kept") or r.__dict__: return None
        a = r.alias
        if a is None:
            slot = recorded(run, r.node, start)
            return None if slot is None else (NEW, slot, version(r))
        if a.frozen or a.leaf is not None or a.store.__class__ is not Storage or a.view is not None and (a.cache is None or a.seen is not a.store.node): return None
        for k, t in enumerate(flat):
            if isinstance(t, Tensor) and t.alias is not None and t.alias.store is a.store:
                if t.alias.leaf is not None or t.alias.frozen: return None
                parts[k] = t.alias.view
                slot = None if a.view is None else recorded(run, a.cache, start)
                return None if slot is None else (PART, k, a.view, slot)
        s = a.store
        if s.peers is not None or s.exposed or s.leaf or s.shape != s.node.line.shape: return None
        content, slot = recorded(run, s.node, start), None if a.view is None else recorded(run, a.cache, start)
        return None if content is None or slot is None and a.view is not None else (OWN, content, a.view, slot, a.own, s.version, a.base is not None)
    if isinstance(r, (tuple, list)):
        results = tuple([recipe(x, flat, run, start, parts, late) for x in r])
        return None if None in results or not results else (MANY, getattr(type(r), "_make", type(r)), results)
    if r.__class__ is Later: return left(r, flat, run, start)
    if r.__class__ is dict:
        results = tuple([recipe(x, flat, run, start, parts, late) for x in r.values()])
        return None if None in results or not results else (MANY, functools.partial(mapping, tuple(r)), results)
    return (PLAINLY, r) if r.__class__ in PLAIN else None


def mapping(keys: tuple, values: list) -> dict: return dict(zip(keys, values))


def left(r: Later, flat, run: Run, start: int) -> tuple | None:
    """The recipe of a number that leaves when the call is over: of a value that it recorded, or of an argument's."""
    slot = recorded(run, r.n, start)
    if slot is None: slot = next((~k for k, a in enumerate(flat) if isinstance(a, Tensor) and read(a) is r.n), None)
    return None if slot is None else (LATER, slot, r.how)


def recorded(run: Run, n: Node, start: int) -> int | None:
    """The slot of a node, if this call recorded it."""
    s = n.line.slot
    return s if start <= s < len(run.nodes) and run.nodes[s] is n and n.line.op is not INPUT else None
