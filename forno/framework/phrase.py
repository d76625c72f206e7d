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
import math
from operator import itemgetter

from ..core import errors
from ..core.dtype import dtype
from ..graph.line import BACKWARD, INPUT, LOCAL, ODD, Leaf, Line, Node, Run, Slice, new
from .data import look
from .layouts import OTHERS
from .size import Size, device, layout, memory_format
from .tensor import Alias, Storage, Tensor, read, share, version

SEQUENCES = frozenset((tuple, list, Size, slice))
PLAIN = frozenset((type(None), bool, int, float, complex, str, type, type(Ellipsis), dtype, device, layout, memory_format))
TRIES = 4                                      # a place where the arguments keep changing is left alone after so many phrases
MISS = object()

ENTERS, UNREAD, SAME = -1, -2, -3              # where a tensor stands: a slot; it enters here; only its shape counts; SAME - j: it is tensor j again
NEW, ARGUMENT, PART, OWN, PLAINLY, MANY = range(6)       # how a result is made


class Phrase:
    """`types`, `pick`, `plain`: what the arguments must be. `tensors`: (position, where, line, is it a leaf, slice) each. `lines`: (line, index of the tensor
    that enters by it or -1). `parts`: (position, view) of tensors that results are views of. `checks`: (position, key, check of known values). `rare`: see `differs`. `result`: a recipe, see `made`."""
    __slots__ = ("names", "nested", "types", "pick", "plain", "rare", "tensors", "parts", "checks", "lines", "numbers", "end", "result", "simple", "tries")


def remembered(f):
    """f, whose calls are remembered."""
    @functools.wraps(f)
    def call(*args, **kw):
        run = LOCAL.run
        phrases = run.cur.phrases
        if phrases is None: return first(f, args, kw, run)
        p = phrases.get(f, MISS)
        if p is None: return f(*args, **kw)
        if p is not MISS:
            r = again(p, args, kw, run)
            if r is not MISS: return r
        return first(f, args, kw, run)
    return call


def flattened(args) -> list:
    """Arguments with the members of sequences and slices in their place, after a length or the word slice."""
    out: list = []
    for a in args:
        c = a.__class__
        if c is slice: out.extend((slice, a.start, a.stop, a.step))
        elif c in SEQUENCES:
            out.append(len(a))
            out.extend(a if SEQUENCES.isdisjoint(map(type, a)) else flattened(a))
        else: out.append(a)
    return out


# ---------------------------------------------------------------- saying it again
def again(p: Phrase, args, kw, run: Run):
    """The result of a call that is p's; MISS where something is different."""
    if kw:
        if tuple(kw) != p.names: return MISS
        args = (*args, *kw.values())
    elif p.names: return MISS
    if tuple(map(type, args)) != p.types: return MISS
    if p.nested is not None:
        args = flattened(args)
        if tuple(map(type, args)) != p.nested: return MISS
    if p.pick is not None and p.pick(args) != p.plain: return MISS
    before, nodes, found = run.cur, run.nodes, []
    for k, where, line, leaf, shape in p.tensors:
        t = args[k]
        n = t.node
        if n is None:
            n = read(t)
            if run.cur is not before: return MISS          # what was written since is read by lines of its own
        if where >= 0:
            if nodes[where] is not n: return MISS
        elif where == ENTERS:
            buf = n.buf
            if n.line is not line or buf.__class__ in ODD and (buf.__class__ is not Slice or buf.shape != shape) or id(n) in run.inputs or buf.exposed: return MISS
            if leaf is not None and (n.past.__class__ is Leaf) is not leaf or shape is not None and buf.__class__ is not Slice: return MISS
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
    try:
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
        run.cur = p.end
    except BaseException:                      # an interrupt: all of the call's lines or none
        run.cur = before
        for n in nodes[before.nslots:]: run.inputs.pop(id(n), None)
        del nodes[before.nslots:], run.scalars[before.nscal:]
        raise
    if p.simple is not None:
        t = new(Tensor)
        t.node, t.alias = nodes[p.simple], None
        return t
    return made(p.result, nodes, args, {})


def differs(p: Phrase, args, found) -> bool:
    """What only some phrases must look at: signs of zeros, and tensors that must not be one."""
    zeros, entering = p.rare
    return any([math.copysign(1.0, args[k]) < 0 for k in zeros]) or len({id(found[j]) for j in entering}) != len(entering)


def made(recipe, nodes, args, stores):
    """A result by its recipe. `stores`: memory that several results see."""
    kind = recipe[0]
    if kind == NEW:
        t = new(Tensor)
        t.node, t.alias, t.ver = nodes[recipe[1]], None, recipe[2]
        return t
    if kind == ARGUMENT: return args[recipe[1]]
    if kind == PART:
        _, k, view, slot = recipe
        base = args[k]
        a = base.alias or share(base)
        t, b, store = new(Tensor), new(Alias), a.store
        b.store, b.view, b.cache, b.seen, b.leaf, b.frozen, b.own, b.base = store, view, nodes[slot], store.node, None, False, False, base if a.base is None else a.base
        t.node, t.alias = None, b
        return t
    if kind == OWN:
        _, content, view, slot, own, count, base = recipe
        if content not in stores:
            store, whole = Storage(nodes[content], [count]), new(Tensor)
            whole.node, whole.alias = None, Alias(store, None, None, None)
            stores[content] = whole
        whole = stores[content]
        store, t = whole.alias.store, new(Tensor)
        t.node, t.alias = None, Alias(store, view, nodes[slot], store.node) if slot is not None else Alias(store, None, None, None)
        t.alias.own = own
        if base: t.alias.base = whole
        return t
    if kind == PLAINLY: return recipe[1]
    results = [made(r, nodes, args, stores) for r in recipe[2]]
    return recipe[1]._make(results) if hasattr(recipe[1], "_make") else recipe[1](results)


# ---------------------------------------------------------------- keeping what was said
def first(f, args, kw, run: Run):
    """Call f; if the program knew all its lines already, keep them as a phrase."""
    if run.level is not None or run.hold or "out" in kw: return f(*args, **kw)
    flat = flattened((*args, *kw.values()) if kw else args)
    tensors = [(k, a) for k, a in enumerate(flat) if isinstance(a, Tensor)]
    if not tensors or any([a.__class__ in OTHERS for _, a in tensors]): return f(*args, **kw)
    nodes = [read(a) for _, a in tensors]
    if run is not LOCAL.run or run.level is not None: return f(*args, **kw)
    place, stats = run.cur, run.stats
    old = place.phrases.get(f, MISS) if place.phrases is not None else MISS
    if old is None: return f(*args, **kw)
    if old is not MISS:
        r = again(old, args, kw, run)
        if r is not MISS: return r
    outer, run.checks = run.checks, []
    state = run.id, stats.lines, stats.looks, errors.warned[0], run.grad, run.inference, run.autocast, len(run.freed), [version(a) for _, a in tensors]
    try: result = f(*args, **kw)
    finally:
        checks, run.checks = run.checks, outer
        if outer is not None: outer.extend(checks)
    if stats.lines != state[1]: return result  # a new program: its lines cost more than any call
    same = run is LOCAL.run and state == (run.id, stats.lines, stats.looks, errors.warned[0], run.grad, run.inference, run.autocast, len(run.freed), [version(a) for _, a in tensors])
    p = described(args, kw, flat, tensors, nodes, run, place, result, checks) if same and not run.eager else None
    if p is not None:
        p.tries = 1 if old is MISS else old.tries + 1
        if p.tries > TRIES: p = None
    if place.phrases is None: place.phrases = {}
    place.phrases[f] = p
    return result


def described(args, kw, flat, tensors, operands, run: Run, place: Line, result, checks) -> Phrase | None:
    """What a call recorded after `place`; None if it can't be said again."""
    lines, e, start = [], run.cur, place.nslots
    while e is not place:
        if e is None or e.op is BACKWARD: return None
        if e.slot >= 0: lines.append(e)
        e = e.prev
    lines.reverse()
    index: dict[int, int] = {}
    for j, n in enumerate(operands): index.setdefault(id(n), j)
    entries = []
    for e in lines:
        n = run.nodes[e.slot]
        if e.op is INPUT:
            if id(n) not in index: return None
            entries.append((e, index[id(n)]))
        elif n.past is not None or n.buf is not None: return None
        else: entries.append((e, -1))
    p = Phrase()
    p.names, p.types = tuple(kw), tuple(map(type, (*args, *kw.values())))
    p.nested = tuple(map(type, flat)) if not SEQUENCES.isdisjoint(p.types) else None
    plain = [k for k, a in enumerate(flat) if not isinstance(a, Tensor)]
    if any([flat[k].__class__ not in PLAIN for k in plain]): return None
    p.pick = itemgetter(*plain) if plain else None
    p.plain = p.pick(flat) if plain else None
    zeros = [k for k in plain if flat[k].__class__ is float and flat[k] == 0]
    if any([math.copysign(1.0, flat[k]) < 0 for k in zeros]): return None
    p.tensors = tuple([standing(run, k, n, j, index, start) for j, ((k, _), n) in enumerate(zip(tensors, operands))])
    entering = [j for j, (_, where, *_) in enumerate(p.tensors) if where == ENTERS]
    p.lines, p.numbers, p.end = tuple(entries), run.scalars[place.nscal:], run.cur
    parts: dict[int, tuple] = {}
    p.result = recipe(result, flat, run, start, parts)
    if p.result is None or p.result[0] == PLAINLY: return None
    p.checks = tuple([(k, key, check) for t, key, check in checks for k, a in tensors if a is t])
    p.parts, p.rare = tuple(parts.items()), (zeros, entering) if zeros or len(entering) > 1 else None
    p.simple = p.result[1] if p.result[0] == NEW and not p.result[2] else None
    return p


def standing(run: Run, k: int, n: Node, j: int, index: dict, start: int) -> tuple:
    """Where a tensor's node stands in the window, as a phrase keeps it."""
    s = n.line.slot
    if not (0 <= s < len(run.nodes) and run.nodes[s] is n): s = run.inputs.get(id(n))
    if s is None: return k, UNREAD, n.line, None, None
    if s < start: return k, s, None, None, None
    if index[id(n)] != j: return k, SAME - index[id(n)], None, None, None
    return k, ENTERS, n.line, n.past.__class__ is Leaf if n.line.grad else None, n.buf.shape if n.buf.__class__ is Slice else None


def recipe(r, flat, run: Run, start: int, parts: dict):
    """How to make a result from nodes and arguments; None where that can't be said."""
    if isinstance(r, Tensor):
        for k, a in enumerate(flat):
            if a is r: return ARGUMENT, k
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
        results = tuple([recipe(x, flat, run, start, parts) for x in r])
        return None if None in results or not results else (MANY, type(r), results)
    return (PLAINLY, r) if r.__class__ in PLAIN else None


def recorded(run: Run, n: Node, start: int) -> int | None:
    """The slot of a node, if this call recorded it."""
    s = n.line.slot
    return s if start <= s < len(run.nodes) and run.nodes[s] is n and n.line.op is not INPUT else None
