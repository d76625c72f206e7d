"""What a whole call does besides giving a result, and how it is done again: backward's lines, memory that is written, gradients that appear, numbers that are
drawn, steps that optimizers count.

Comes in: a call that ran while it was watched (`phrase.Call`), with how its tensors were before. Goes out: `Effects`, which a phrase carries; `ready` says
whether they can be done now, and draws; `entered` appends the call's nodes; `done` gives tensors, gradients and optimizers what they would have.
"""
from __future__ import annotations

from ..core.hot import hot, know
from ..core.state import state
from ..cpu import memory
from ..graph.line import INPUT, LOCAL, History, Leaf, Line, Node, new
from .autograd import HOOKED
from .data import node_of
from .engine import HOLE
from .tensor import Tensor, outside, read, settle_alone, version

NODE, ENTERING, FOREIGN, LEAF, DRAWN = 0, 1, 2, 3, 4       # how a node comes: it is new; a tensor's; a remembered backward's; new, of a leaf; drawn
NOWHERE = -1                                   # no slot of the window, no position among tensors
HELD = -2                                      # HELD - k: the node that tensor k had before


class Unsaid(Exception):
    """Why a call can't be said again."""


@know
class Effects:
    """Tensors are known by their positions among the arguments. `lines`: (line, how its node comes, which, what it replaces) each. `held`: tensors whose former
    nodes the window must keep. `draws`: (shape, dtype, fill). `leaves`: (tensor, had it a gradient). `takes`: leaves whose gradients are arguments, too.
    `written`: (tensor, slot, writes). `grads`: (leaf, slot or NOWHERE, writes). `counts`: (optimizer, its parameters and their counters), each set at one
    step. `rates`: (optimizer, group, index in counts or NOWHERE, places of its numbers). `apart`: tensors must be different ones. `carries`: (container, key,
    recipe) of tensors that replace others."""
    __slots__ = ("lines", "held", "draws", "leaves", "takes", "written", "grads", "counts", "rates", "freed", "backward", "apart", "carries")


class Before:
    """How a tensor was before a call. `plain`: it sees its memory alone."""
    __slots__ = ("node", "plain", "version", "leaf", "grad")

    def __init__(self, t: Tensor):
        if t.alias is not None: settle_alone(t)
        self.node, self.plain, self.version = read(t), t.alias is None, version(t)
        self.leaf = self.node.past if self.node.past.__class__ is Leaf else None
        self.grad = None if self.leaf is None else self.leaf.grad


def befores(tensors) -> dict[int, Before]:
    """Of tensors, and of the gradients they have."""
    out = {id(t): Before(t) for t in tensors}
    for b in list(out.values()):
        if b.grad.__class__ is Tensor: out[id(b.grad)] = Before(b.grad)
    return out


# ---------------------------------------------------------------- what optimizers tell a call that is watched
def rated(optimizer, group: dict, step, rates: tuple) -> tuple:
    """The numbers of an update, as objects of their own, which the call knows again by their identity."""
    journal = LOCAL.run.journal
    if journal is None: return rates
    rates = tuple([r * 1.0 for r in rates])
    journal.rates.append((optimizer, group, step, rates))
    return rates


def ticked(optimizer, p: Tensor, counter: Tensor, n):
    """A parameter's counter was set to n."""
    if LOCAL.run.journal is not None: LOCAL.run.journal.ticks.append((optimizer, p, counter, n))


def refused(reason: str):
    """The call can't be said again."""
    if LOCAL.run.journal is not None: LOCAL.run.journal.refusal = reason


# ---------------------------------------------------------------- what happened
class Account:
    """What happened in a call, from what it recorded and how its tensors are now."""

    def __init__(self, call, flat: list, lines: list[Line]):
        """`flat`: arguments and all other tensors; gradients that were there and took part are appended to it."""
        self.call, self.run, self.flat, self.start = call, call.run, flat, call.place.nslots
        run, e = self.run, Effects()
        self.effects, e.carries = e, ()
        e.freed = tuple(run.freed[call.freed:])
        e.backward = bool(e.freed) or any([run.nodes[x.slot].past is HOLE for x in lines])
        self.took_part(e)
        self.tensors = [(k, t) for k, t in enumerate(flat) if isinstance(t, Tensor)]
        self.operands = [call.befores[id(t)].node for _, t in self.tensors]
        self.position = {}                     # of every tensor, by identity: the first
        for k, t in self.tensors: self.position.setdefault(id(t), k)
        self.leaf = {id(call.befores[id(t)].leaf): k for k, t in reversed(self.tensors)}
        self.node = {id(n): k for (k, t), n in zip(self.tensors, self.operands) if call.befores[id(t)].plain}
        self.draw = {id(n): j for j, (n, *_) in enumerate(call.journal.drawn)}
        self.slot = {id(n): self.start + j for j, n in enumerate(run.nodes[self.start:])}
        self.entering = {}
        for j, n in enumerate(self.operands): self.entering.setdefault(id(n), j)
        if e.backward and any([self.goes_on(n, lines) for n in self.operands]): raise Unsaid("it calls backward through what was computed before")
        e.draws = tuple([d[1:] for d in call.journal.drawn])
        e.lines = tuple([self.entry(x) for x in lines])
        held = [n for n in run.held[call.held:] if id(n) not in self.slot]
        if any([id(n) not in self.node for n in held]): raise Unsaid("it writes to a tensor that it can't see")
        e.held = tuple([self.node[id(n)] for n in held])
        self.writes(e)
        self.gradients(e)
        self.steps(e)
        constant = set(map(id, call.more))
        e.apart = any([id(flat[k]) not in constant for k, *_ in e.written])

    def took_part(self, e: Effects):
        """Gradients that were there before and that the call reads or writes."""
        e.takes = []
        if not (self.call.journal.gradients or e.backward): return
        for k, t in enumerate(list(self.flat)):
            b = self.call.befores.get(id(t)) if isinstance(t, Tensor) else None
            if b is None or b.grad is None: continue
            if b.grad.__class__ is not Tensor: raise Unsaid("a gradient is sparse")
            g = self.call.befores[id(b.grad)]
            if id(g.node) not in self.run.inputs and not self.inside(g.node) and version(b.grad) == g.version: continue
            if all([x is not b.grad for x in self.flat]):
                e.takes.append(k)
                self.flat.append(b.grad)
        e.takes = tuple(e.takes)

    def goes_on(self, n: Node, lines: list[Line]) -> bool:
        """Could backward go on into what an operand was computed from? Not where only `detach` reads it, as a state that is carried from batch to batch."""
        if n.past.__class__ is not History or n.past.run is None: return False
        slot = self.run.inputs.get(id(n))
        return any([slot in x.ins and x.op.history != "cut" for x in lines])

    def inside(self, n: Node) -> bool: return 0 <= n.line.slot < len(self.run.nodes) and self.run.nodes[n.line.slot] is n

    def entry(self, x: Line) -> tuple:
        n = self.run.nodes[x.slot]
        if x.op is INPUT:
            if id(n) in self.draw: return x, DRAWN, self.draw[id(n)], NOWHERE
            if id(n) not in self.entering: raise Unsaid("it uses values that nobody can see: memory from outside, or of an earlier backward")
            return x, ENTERING, self.entering[id(n)], NOWHERE
        if n.buf is not None: raise Unsaid("it needs values at once")
        if n.past is HOLE: return x, FOREIGN, n, NOWHERE
        if n.past is None: return x, NODE, NOWHERE, self.replaced(n)
        if n.past.__class__ is not Leaf or id(n.past) not in self.leaf: raise Unsaid("it makes leaves, or has hooks or functions of its own in its history")
        return x, LEAF, self.leaf[id(n.past)], self.replaced(n)

    def replaced(self, n: Node) -> int:
        """Whose place in a tensor's memory a node took."""
        over = getattr(n, "over", None)
        if over is None: return NOWHERE
        if over in self.slot: return self.slot[over]
        return HELD - self.node[over] if over in self.node else NOWHERE        # NOWHERE: of a tensor that came and went in this call

    def writes(self, e: Effects):
        written = []
        for k, t in self.tensors:
            if self.position[id(t)] != k: continue
            b = self.call.befores[id(t)]
            if t.alias is not None: settle_alone(t)
            n = read(t)
            if n is b.node and version(t) == b.version: continue
            if not b.plain or t.alias is not None: raise Unsaid("it writes to a tensor that shares its memory")
            s = self.slot.get(id(n))
            if s is None or (n.past if n.past.__class__ is Leaf else None) is not b.leaf: raise Unsaid("it gives a tensor other memory, or changes what needs a gradient")
            written.append((k, s, version(t) - b.version))
        e.written = tuple(written)

    def gradients(self, e: Effects):
        leaves, grads, looks = [], [], self.call.journal.gradients or e.backward
        for k, t in self.tensors:
            b = self.call.befores[id(t)]
            if b.leaf is None or not looks or self.position[id(t)] != k: continue
            if b.leaf.hooks is not None or b.leaf.after is not None: raise Unsaid("a leaf has hooks")
            leaves.append((k, b.grad is not None))
            g = b.leaf.grad
            if g is b.grad: continue
            if g is None: grads.append((k, NOWHERE, 0)); continue
            if g.__class__ is not Tensor or g.__dict__ or hasattr(g, "kept"): raise Unsaid("a gradient is of a kind of its own")
            if g.alias is not None: settle_alone(g)
            s = None if g.alias is not None else self.slot.get(id(g.node))
            if s is None or g.node.past.__class__ is Leaf: raise Unsaid("a gradient shares its memory, or was there before")
            grads.append((k, s, version(g)))
        e.leaves, e.grads = tuple(leaves), tuple(grads)

    def steps(self, e: Effects):
        """Optimizers' counters and numbers: the very objects that went into the window tell where they stand."""
        journal = self.call.journal
        if len({(id(o), id(p)) for o, p, *_ in journal.ticks}) != len(journal.ticks): raise Unsaid("an optimizer makes several steps")
        counts: dict[tuple, list] = {}
        for optimizer, p, tensor, n in journal.ticks: counts.setdefault((id(optimizer), n), [optimizer]).append((p, tensor))
        order, e.counts = {key: j for j, key in enumerate(counts)}, tuple([(o, tuple(members)) for o, *members in counts.values()])
        numbers, rates = self.call.numbers(), []
        for optimizer, group, n, values in journal.rates:
            index = {id(v): j for j, v in enumerate(values)}
            places = tuple([(k, index[id(x)]) for k, x in enumerate(numbers) if id(x) in index])
            lost = set(range(len(values))) - {j for _, j in places}
            if any([values[j] not in (0.0, 1.0) for j in lost]): raise Unsaid(f"numbers of {type(optimizer).__name__} enter the program as others")
            rates.append((optimizer, group, NOWHERE if n is None else order[id(optimizer), n], places))
        e.rates = tuple(rates)

    def plain(self) -> bool:
        """Is a result all that the call gives?"""
        e = self.effects
        return not (e.backward or e.draws or e.written or e.leaves or e.counts or e.rates or e.held) and all([how < FOREIGN and over == NOWHERE for _, how, _, over in e.lines])


# ---------------------------------------------------------------- doing it again
@hot
def ready(e, args, run):
    """Numbers for a call with these effects, (nodes drawn, rates, counts); None where something is different."""
    k: int
    if run.level is not None or run.hold: return None
    if e.backward and (run.unmemo or state.anomaly or run.saving is not None or HOOKED.data): return None
    for k, had in e.leaves:
        t = args[k]
        n = t.node
        if n is None: n = read(t)
        past = n.past
        if past.__class__ is not Leaf or (past.grad is not None) is not had: return None
        if past.hooks is not None or past.after is not None: return None
    for k, slot, more in e.written:
        t = args[k]
        if t.alias is not None: settle_alone(t)
        if t.alias is not None or outside(t.node): return None
    if e.apart and not distinct(args): return None
    counts = []
    for optimizer, members in e.counts:
        n = counted(optimizer._numbers, members)
        if n is None: return None
        counts.append(n)
    rates = [rates_now(r, counts) for r in e.rates]
    return [drawn(d) for d in e.draws], rates, counts


def distinct(args) -> bool:
    tensors = [id(a) for a in args if isinstance(a, Tensor)]
    return len(set(tensors)) == len(tensors)


@hot
def counted(numbers, members):
    """How many steps parameters have made; None if that is unknown, or not the same for all."""
    count = None
    for p, tensor in members:
        seen = numbers.get(p, None)
        if seen is None or seen[0] is not tensor or seen[1] != version(tensor): return None
        if count is None: count = seen[2]
        elif count != seen[2]: return None
    return count


def rates_now(r, counts):
    optimizer, group, j, _ = r
    return optimizer.rates(group, None if j == NOWHERE else counts[j] + 1)


def drawn(d) -> Node:
    shape, dtype, count, fill = d
    buffer = memory.empty(count * dtype.size)
    fill(buffer.address, count)
    return node_of(buffer, dtype, shape)


@hot
def taken(e, args):
    """The arguments, and the gradients that take part; None where one isn't there."""
    k: int
    out = list(args)
    for k in e.takes:
        t = args[k]
        n = t.node
        if n is None: n = read(t)
        past = n.past
        if past.__class__ is not Leaf or past.grad is None or past.grad.__class__ is not Tensor: return None
        out.append(past.grad)
    return out


@hot
def entered(e, run, found, args, numbers):
    """Append the call's nodes to the window."""
    how: int
    over: int
    nodes, inputs = run.nodes, run.inputs
    for k in e.held:
        n = args[k].node
        if n.buf is not None and id(n) not in inputs: run.held.append(n)
    for line, how, which, over in e.lines:
        if how == FOREIGN: n = which
        elif how == ENTERING:
            n = found[which]
            inputs[id(n)] = line.slot
        elif how == DRAWN:
            n = numbers[0][which]
            inputs[id(n)] = line.slot
        else:
            n = new(Node)
            n.line, n.buf = line, None
            if how == LEAF: n.past = args[which].node.past
            else: n.past = None
            if over >= 0: n.over = id(nodes[over])
            elif over <= HELD: n.over = id(args[HELD - over].node)
        nodes.append(n)


@hot
def done(e, run, args, numbers, first):
    """Give numbers, tensors, leaves and optimizers what the call gave them. `first`: where its numbers stand."""
    j: int
    k: int
    slot: int
    first: int
    nodes, scalars = run.nodes, run.scalars
    rates, counts = numbers[1], numbers[2]
    for j in range(len(rates)):
        values = rates[j]
        for k, which in e.rates[j][3]: scalars[first + k] = values[which]
    run.freed.extend(e.freed)
    for k, slot, more in e.written:
        t = args[k]
        t.ver = version(t) + more
        t.node = nodes[slot]
    for k, slot, more in e.grads:
        n = args[k].node
        if n is None: n = read(args[k])
        leaf = n.past
        if slot == NOWHERE: leaf.grad = None
        else:
            g = new(Tensor)
            g.node, g.alias, g.ver = nodes[slot], None, more
            leaf.grad = g
    for j in range(len(counts)):
        optimizer, members = e.counts[j]
        n, known = counts[j] + 1, optimizer._numbers
        for p, tensor in members: known[p] = (tensor, version(tensor), n)
