"""Functions that are made of rows, recorded once: where a call is known, its lines are appended as they stand.

A function of tensors and plain Python values records the same lines whenever its tensors stand in the same slots and its values are equal. So its
first call in a place leaves them on a line of its own, and the next call there costs a node per line, however long it took to work them out:
arguments are not looked at again, nothing is checked twice. Comes in: a function that writes to none of its arguments and whose result is a new
tensor. Goes out: the same function, which remembers.

What can't be told from the arguments is never remembered: numbers that may vary from call to call (floats that aren't whole), results that share
an argument's memory, functions that needed a value or met a tensor from elsewhere.
"""
from __future__ import annotations

import functools

from ..core import dtype as dt
from ..graph.line import INPUT, LOCAL, MODE, Node, advance, new, slot_of
from .data import LOOKS
from .layouts import OTHERS
from .size import Size
from .tensor import Alias, Storage, Tensor, read, wrap

STATIC = frozenset((int, bool, str, type(None), dt.dtype))


class Lines:
    """What a call recorded: its lines and numbers, and where its result is (`how`: the alias to rebuild; None where the result owns its node)."""
    __slots__ = ("end", "lines", "scalars", "slot", "how")


UNFIT = Lines()                                # a call that can't be remembered


def recalled(f):
    def call(*args, **kw):
        run = LOCAL.run
        given = spelled(run, args, kw) if run.level is None else None
        if given is None or run.eager: return f(*args, **kw)
        e = advance(run, MODE, tuple(given[0]), (f, *given[1:]))
        m = e.memo
        if m is None: return learned(run, e, f, args, kw)
        if m is UNFIT: return f(*args, **kw)
        nodes, before = run.nodes, e
        try:
            for line in m.lines:
                n = new(Node)
                n.line = line; n.buf = n.past = None
                nodes.append(n)
            run.scalars.extend(m.scalars)
            run.cur = m.end
        except BaseException:                  # an interrupt: all of it or nothing
            run.cur = before
            del nodes[before.nslots:], run.scalars[before.nscal:]
            raise
        return wrap(nodes[m.slot]) if m.how is None else rebuilt(nodes, *m.how)
    return functools.update_wrapper(call, f)


def spelled(run, args, kw):
    """(slots of the tensors, everything else), or None where a value can't be part of the program."""
    slots, values, views = [], [], None
    for a in (*args, *kw.values()) if kw else args:
        c = a.__class__
        if c is Tensor or isinstance(a, Tensor):
            if c in OTHERS: return None
            slots.append(slot_of(run, read(a)))
            if a.alias is not None:
                if views is None: views = []
                views.append((len(slots), a.alias.view))
            values.append(c)
        elif c in STATIC: values.append((c, a))
        elif c is float:
            if a != int(a) if -1e9 < a < 1e9 else True: return None
            values.append((c, a, str(a)))
        elif c is tuple or c is list or c is Size:
            inner = spelled(run, a, None)
            if inner is None: return None
            slots.extend(inner[0])
            values.append((c, *inner[1:]))
        else: return None
    return slots, tuple(values), tuple(kw) if kw else None, None if views is None else tuple(views)


def learned(run, e, f, args, kw):
    """The first call in this place."""
    window, looks = run.id, LOOKS[0]
    e.memo = UNFIT
    r = f(*args, **kw)
    if run.id != window or LOOKS[0] != looks or run.unmemo or r.__class__ is not Tensor: return r
    nodes, k0 = run.nodes, e.nslots
    fresh = nodes[k0:]
    if any([n.line.op is INPUT or n.past is not None for n in fresh]): return r
    m, a = Lines(), r.alias
    if a is None: at, m.how = r.node, None
    else:
        at, s = a.store.node, a.store
        if s.__class__ is not Storage or a.leaf is not None or a.frozen or s.exposed or s.leaf or s.peers is not None: return r
        cache = None if a.cache is None else place(nodes, k0, a.cache)
        if a.cache is not None and cache is None: return r
        m.how = place(nodes, k0, at), s.shape, a.view, cache, a.seen is at, a.own, s.version
    m.slot = place(nodes, k0, at)
    if m.slot is None: return r
    m.end, m.lines, m.scalars = run.cur, [n.line for n in fresh], run.scalars[e.nscal:]
    e.memo = m
    return r


def place(nodes, k0, n: Node):
    """The slot of a node that the call recorded."""
    s = n.line.slot
    return s if k0 <= s < len(nodes) and nodes[s] is n else None


def rebuilt(nodes, content, shape, view, cache, seen, own, version) -> Tensor:
    """A tensor that sees memory of its own through a view, as the first call's did."""
    s = Storage(nodes[content], [version])
    s.shape = shape
    t = new(Tensor)
    t.node, t.alias = None, Alias(s, view, None if cache is None else nodes[cache], nodes[content] if seen else None)
    t.alias.own = own
    return t
