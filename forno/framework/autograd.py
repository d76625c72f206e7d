"""backward() and grad(), hooks, and the memory of a derived backward.

A backward is derived from the lines once (graph.derive) and remembered on its own line: the next run of the same program extends its nodes
by placeholders and makes one Node and one Tensor per gradient. Backward and grad then cost per gradient, not per operation.
"""
from __future__ import annotations

import math
import warnings
import weakref
from collections.abc import Iterable
from typing import Any, NamedTuple

from ..core.dtype import FLOAT
from ..core.shape import contiguous, dense, exactly
from ..core.state import state
from ..dnn import movement as mv
from ..dnn.contract import conv_weight
from ..dnn.elementwise import isnan
from ..dnn.reduce import any_
from ..graph.derive import RETAIN, TENSOR, WALKING, Derivation, Face, vertex
from ..graph.line import BACKWARD, LOCAL, History, Leaf, Node, Poison, Slice, advance, ambient, new, record, slot_of
from .batching import Level
from .bind import apply
from .data import item
from .engine import HOLE
from .layouts import OTHERS, along, carrier
from .tensor import Tensor, device_name, history, on_device, owned, read, version, without_data, wrap, write


# ---------------------------------------------------------------- accumulation
def laid_as(n: Node, memory) -> Node:
    """A gradient in memory like that of its leaf, if that is dense: then optimizers read both in one order."""
    shape, mine = n.line.shape, n.line.strides
    alike = mine is memory is None or all([a == b for k, a, b in zip(shape, mine or contiguous(shape), memory or contiguous(shape)) if k > 1])
    if alike and mine == n.line.memory and (mine == memory or n.line.op is not conv_weight): return n
    wanted = None if memory is None or not dense(shape, memory) else exactly(shape, memory)
    return record(mv.copy, (n,), "dense" if wanted is None else wanted)


def accumulate(leaf: Leaf, memory, g: Tensor, create: bool):
    """AccumulateGrad: keep the first gradient, add later ones in place (out of place when their graph is wanted). `memory`: strides of the leaf's, None if row-major.

    Returns the node that the leaf's gradient now holds, None where a replay could not simply put such a node there.
    """
    if g.__class__ in OTHERS or leaf.grad.__class__ in OTHERS:                     # a sparse gradient stays sparse until a dense one comes
        leaf.grad = g if leaf.grad is None else g + leaf.grad if leaf.grad.__class__ in OTHERS else leaf.grad + g
        return None
    n = read(g)
    if leaf.grad is None:
        if not LOCAL.run.grad and n.line.grad: n = record(mv.detach, (n,))
        n = laid_as(n, memory)
        leaf.grad = owned(n)
        return n
    if create:
        leaf.grad = leaf.grad + g
        return None
    have, window = leaf.grad, LOCAL.run.id
    plain = have.alias is None and have.node.past is None
    write(have, read(have + g), tracked=False)
    return have.node if plain and have.alias is None and LOCAL.run.id == window else None     # a write into shared memory ran the window


def inspect(line, i, g: Tensor):
    """Anomaly mode: a NaN gradient names the user's forward line."""
    if g.dtype.category >= FLOAT and item(apply(any_, apply(isnan, g).reshape(-1), attr=(0,)).reshape(())):
        where = f"{line.where[0]}:{line.where[1]}" if line.where else "an unknown place"
        warnings.warn(f"Error detected in {backward_name(line)}. The forward call that caused the error was recorded at {where}", stacklevel=2)
        raise RuntimeError(f"Function '{backward_name(line)}' returned nan values in its {i}th output. Its forward was recorded at {where}.")


def backward_name(line) -> str:
    """PyTorch's style of name for the gradient of a row."""
    return "".join(w.capitalize() for w in line.op.name.split("_")) + "Backward0"


class detect_anomaly:
    """Gradients are checked for NaN as they are made, and errors name the forward line. Slow: every gradient is computed at once."""

    def __init__(self, check_nan=True): self.mode = check_nan
    def __enter__(self): self.was, state.anomaly = state.anomaly, self.mode
    def __exit__(self, *error): state.anomaly = self.was


class set_detect_anomaly(detect_anomaly):
    """Switches anomaly mode at once."""

    def __init__(self, mode, check_nan=True):
        self.was, state.anomaly = state.anomaly, bool(mode)
        self.mode = bool(mode)

    def __enter__(self): state.anomaly = self.mode


def placed(g: Tensor, device: str) -> Tensor:
    """A gradient where the value is that it belongs to. Sparse ones are on the CPU, as all sparse tensors are."""
    return g if g.__class__ in OTHERS or device_name(g) == device else on_device(g, device)


FACE = Face(wrap, read, accumulate, placed, inspect)


class Memo:
    """A derived backward, ready to be replayed.

    The lines that derivation recorded are replayed as placeholders (`holes`), except where one is an input from outside: a value that an
    earlier window kept (`walk` finds it again from what stands in this one, `starts`, operand by operand) or a gradient that is being added to. For grad() it also knows
    where the tensors asked for stand (`asked`), the leaves that were met and which of those they are (`ends`), and the slots of the gradients (`found`).
    The walk comes by every vertex of closed windows that was derived from, and `same` are further ways to its nodes: (vertex, operand, node).
    A place is a slot of the window, or ~k for the k-th node of the walk. Gradients that are to be differentiated again (`open`) need nodes of their own
    instead of placeholders.
    """
    __slots__ = ("end", "holes", "scalars", "freed", "walk", "leaves", "outs", "lines", "had", "fills", "numbers", "frees", "starts", "asked", "ends", "found", "open", "same")


def root_gradient(t: Tensor, n: Node, gradient):
    """The cotangent of one output under PyTorch's rules."""
    shape = n.line.shape
    if gradient is None:
        if math.prod(shape) != 1: raise RuntimeError("grad can be implicitly created only for scalar outputs")
        if n.line.dtype.category == 3: raise RuntimeError(f"grad can be implicitly created only for real scalar outputs but got {n.line.dtype!r}")
        return without_data(n.line.dtype, shape) if n.line.device == "meta" else apply(mv.full, attr=(shape, n.line.dtype, 1))
    if not isinstance(gradient, Tensor): raise TypeError(f"gradients can be either Tensors or None, but got {type(gradient).__name__}")
    if tuple(gradient.shape) != shape:
        raise RuntimeError(f"Mismatch in shape: grad_output[0] has a shape of {gradient.shape} and output[0] has a shape of {t.shape}.")
    return gradient


def needs_grad(n: Node):
    if not n.line.grad: raise RuntimeError("element 0 of tensors does not require grad and does not have a grad_fn")


def run_backward(tensors, gradients, retain, create, inputs=None):
    """Tensor.backward and autograd.backward."""
    run = LOCAL.run
    if run.saving is not None: run.saving.pack(run)
    roots = [read(t) for t in tensors]
    known = marked(run, roots, gradients, retain, create, False) if inputs is None else None
    if known is not None and replay(run, roots, *known) is not None: return
    for n in roots: needs_grad(n)
    for x in inputs or ():
        if x.__class__ is not GradientEdge and read(carrier(x)).past.__class__ is not Leaf: retain_grad(carrier(x))        # backward(inputs=…) fills .grad of any tensor
    inputs = None if inputs is None else list(map(arrival, inputs))
    was = run.grad
    run.hold += 1
    try:
        if known is not None: start = advance(run, BACKWARD, *known)
        else: ambient(("backward", create))
        k0, s0, freed0 = len(run.nodes), len(run.scalars), len(run.freed)
        run.grad = create
        d = Derivation(FACE, retain, create, None if inputs is None else {vertex(read(x)): x for x in inputs})
        d.go([(n, root_gradient(t, n, g)) for t, n, g in zip(tensors, roots, gradients)])
        run.stats.derived += 1
    finally:
        run.grad = was
        ambient(("end", was))                  # the mode changed back: a line, so that what follows is found under the right flags
        run.hold -= 1
    if inputs is not None:
        for x in inputs:
            n = read(x)
            if vertex(n) in d.got and n.past.__class__ is Leaf: d.collect(n, d.got[vertex(n)])
    elif known is not None and d.fresh and not create and not run.unmemo and not state.anomaly: remember(run, start, roots, d, k0, s0, freed0)


def marked(run, roots, gradients, retain, create, asking):
    """What a backward's own line says: slots of the roots and of gradients that were given, and how it was called. None: nothing can be remembered."""
    ins, attr = roots, (retain, create, asking)
    if len(roots) != 1 or gradients[0] is not None:
        if not all([g is None or isinstance(g, Tensor) and g.__class__ not in OTHERS for g in gradients]): return None
        ins = roots + [read(g) for g in gradients if g is not None]
        attr = (*attr, *[g is None for g in gradients])
    if run.level is not None and (asking or ins is not roots): return None
    for n in ins:
        if n.buf is not None and (n.buf.exposed or n.buf.__class__ is Poison): return None
    for n in roots:
        if not n.line.grad: return None
    return tuple([slot_of(run, n) for n in ins]), attr


def slice_of(n: Node): return n.buf.shape if n.buf.__class__ is Slice else None


def archived(n: Node) -> bool: return n.past.__class__ is History and n.past.run is not None


def remember(run, start, roots: list[Node], d: Derivation, k0, s0, freed0, wanted=(), got=()):
    """Keep what derivation did on its line, if a replay can find everything it needs. `got`: gradients of the nodes `wanted`."""
    m = Memo()
    fresh = run.nodes[k0:]
    starts = [s for s, n in enumerate(run.nodes[:k0]) if archived(n)]
    steps, at, below = walk_from([run.nodes[s] for s in starts])           # the archived part of the graph
    passed = {id(n) for n in d.passed if archived(n)} | d.leads.keys()     # what was derived follows from each of these: the next graph must have the same
    used: set[int] = {at[k] for k in passed if k in at}
    if any([id(n) not in at for n in d.passed if archived(n)]): return

    def source(n):                             # where a node from outside will be found
        if id(n) in at: used.add(at[id(n)]); return at[id(n)]
        return None

    def place(n):                              # where a node that was there before will be found
        s = n.line.slot if 0 <= n.line.slot < k0 and run.nodes[n.line.slot] is n else run.inputs.get(id(n), k0)
        if s < k0: return s
        w = source(n)
        return None if w is None else ~w
    grads = {id(n): j for n, j in d_gradients(run, d)}
    m.fills, m.leaves = [], []
    for p, n in enumerate(fresh):
        if run.inputs.get(id(n)) != k0 + p: continue
        if id(n) in grads: m.fills.append((p, ~grads[id(n)], n.line, slice_of(n))); continue
        w = source(n)
        if w is None: return
        m.fills.append((p, w, n.line, slice_of(n)))
    for n, g, had in d.leaves:
        m.leaves.append(place(n))
    m.numbers = []
    for n, i, ref in d.numbers:
        if ref.index is None: continue
        w = source(n)
        if w is None: return
        m.numbers.append((ref.index - s0, w, i))
    m.frees = [] if d.retain else [source(n) for n in d.freed if archived(n)]
    met = {id(n.past): n for n in d.ends.values()}
    order = {id(x.past): j for j, x in enumerate(wanted)}
    m.asked = [place(met.get(id(x.past), x)) for x in wanted]
    m.ends = [(place(n), order.get(id(n.past))) for n in d.ends.values()] if wanted else []
    m.found = [None if g is None else slot_in(run, g.node) for g in got]
    unused = [w is None and g is None and x.past.__class__ is Leaf for x, g, w in zip(wanted, got, m.asked)]       # a leaf from elsewhere, in no way of the walk
    if None in m.frees or None in m.leaves or None in [w for w, u in zip(m.asked, unused) if not u] or None in [w for w, _ in m.ends]: return
    if any([g is not None and w is None for g, w in zip(got, m.found)]): return
    m.outs, m.had = [g.line.slot - k0 for _, g, _ in d.leaves], [had for *_, had in d.leaves]
    m.lines = [g.line for _, g, _ in d.leaves]
    if any([o < 0 for o in m.outs]) or len(set(m.outs)) != len(m.outs) or len({id(n.past) for n, *_ in d.leaves}) != len(d.leaves): return
    m.starts, m.walk, to = prune(steps, used, starts)
    m.fills = [(p, to[w] if w >= 0 else w, *rest) for p, w, *rest in m.fills]
    m.leaves, m.asked = ([s if s is None or s >= 0 else ~to[~s] for s in places] for places in (m.leaves, m.asked))
    m.ends = [(~to[~s] if s < 0 else s, j) for s, j in m.ends]
    m.numbers = [(p, to[w], i) for p, w, i in m.numbers]
    m.frees = [to[w] for w in m.frees]
    m.same = [(to[k], i, to[at[id(x)]]) for k, n in enumerate(below) if id(n) in passed and archived(n) for i, x in enumerate(n.past.ins)
              if x.__class__ is Node and at[id(x)] in to and steps[at[id(x)]][:2] != (k, i)]
    m.end, m.scalars, m.freed = run.cur, run.scalars[s0:], (run.freed[freed0] if len(run.freed) > freed0 else None)
    m.holes, m.open = [placeholder(x.line, HOLE) for x in fresh], d.create
    if start.memo is None: start.memo = {}
    known = start.memo.setdefault(tuple([n.line for n in roots]), [])
    known.insert(0, m)
    del known[4:]


def placeholder(line, past) -> Node:
    h = new(Node)
    h.line, h.buf, h.past = line, None, past
    return h


def slot_in(run, n: Node | None):
    """Where a row-major value stands in the window, or None."""
    if n is None or n.line.strides is not None: return None
    return n.line.slot if 0 <= n.line.slot < len(run.nodes) and run.nodes[n.line.slot] is n else run.inputs.get(id(n))


def d_gradients(run, d):
    """Nodes that leaves' gradients held before they were added to, with the leaf's number."""
    for j, (n, g, had) in enumerate(d.leaves):
        if had and g is not None:
            for c in g.line.ins:
                if c.__class__ is int and run.nodes[c].line.op is not None and id(run.nodes[c]) in run.inputs and run.nodes[c].past is None and not archived(run.nodes[c]):
                    yield run.nodes[c], j
                    break


def walk_from(starts: list[Node]):
    """Every node reachable through closed windows: [(parent, operand, line)], the starts first, the position of each by identity, and all of them."""
    steps, at, nodes = [(-1, -1, n.line) for n in starts], {id(n): k for k, n in enumerate(starts)}, list(starts)
    for k, n in enumerate(nodes):              # grows while it runs
        if not archived(n): continue
        for i, x in enumerate(n.past.ins):
            if x.__class__ is Node and id(x) not in at:
                at[id(x)] = len(nodes)
                nodes.append(x)
                steps.append((k, i, x.line))
    return steps, at, nodes


def prune(steps, used, starts):
    """Only the starts (slot, line) and steps that lead to used positions, and every position's new number."""
    need = set()
    for w in used:
        while w >= 0 and w not in need:
            need.add(w)
            w = steps[w][0]
    to = {w: k for k, w in enumerate(sorted(need))}
    return [(starts[w], steps[w][2]) for w in to if w < len(starts)], [(to[steps[w][0]], steps[w][1], steps[w][2]) for w in to if w >= len(starts)], to


def replay(run, roots, ins, attr, wanted=()):
    """Backward on the hit path: the gradients of `wanted`, or None where nothing fitting is remembered."""
    if run.unmemo or state.anomaly or HOOKED.data: return None
    e, key = run.cur.next, (BACKWARD, ins, attr)
    if e.key != key: e = run.cur.alts.get(key)
    if e is None or e.memo is None: return None
    for m in e.memo.get(tuple([n.line for n in roots]), ()):
        found = play(run, roots, m, wanted)
        if found is not None: return found
    return None


def play(run, roots, m: Memo, wanted):
    nodes, got = run.nodes, []
    for s, line in m.starts:
        x = nodes[s]
        if x.line is not line or x.past is None or x.past.hooks is not None: return None
        got.append(x)
    for k, i, line in m.walk:
        past = got[k].past
        if past.__class__ is not History or past.run is None or past.hooks is not None or past.ctx is not None: return None
        x = past.ins[i]
        if x.line is not line: return None
        got.append(x)
    for k, i, j in m.same:                     # lines don't tell the runs of a window apart
        past = got[k].past
        if past.__class__ is not History or past.run is None or past.ins[i] is not got[j]: return None
    for n in roots:
        if n.past is not None and n.past.hooks is not None: return None
    for w in m.frees:
        if got[w].past.freed or got[w].past.hooks is not None: return None
    leaves = [nodes[s].past if s >= 0 else got[~s].past for s in m.leaves]
    for x, had in zip(leaves, m.had):
        if (x.grad is not None) != had or x.hooks is not None or x.after is not None: return None
    if len(set(map(id, leaves))) != len(leaves): return None
    if wanted and not stands(nodes, got, m, wanted): return None
    inputs = []
    for p, w, line, view in m.fills:
        if w >= 0: x = got[w]
        else:
            x = leaves[~w].grad.node
            if x is None or x.past is not None or x.line.dtype is not line.dtype or x.line.shape != line.shape or x.line.memory is not None: return None
        if x.buf is None or x.buf.__class__ is Poison or x.buf.exposed or slice_of(x) != view or id(x) in run.inputs: return None
        inputs.append((p, x))
    for had, leaf in zip(m.had, leaves):
        if had and (leaf.grad.alias is not None or leaf.grad.node.past is not None): return None
    k0, s0, freed0, cur = len(nodes), len(run.scalars), len(run.freed), run.cur
    run.stats.remembered += 1
    try: return commit(run, m, got, leaves, inputs, k0, s0)
    except KeyboardInterrupt:                  # all of it or nothing: begin again, then let the interrupt go on
        run.cur = cur
        del nodes[k0:], run.scalars[s0:], run.freed[freed0:]
        commit(run, m, got, leaves, inputs, k0, s0)
        raise


def stands(nodes, got, m: Memo, wanted) -> bool:
    """Are the tensors asked for where they were, and no other leaf one of them?"""
    for x, w in zip(wanted, m.asked):
        past, y = x.past, None if w is None else nodes[w] if w >= 0 else got[~w]
        if past is not None and past.hooks is not None or y is not x and (past.__class__ is not Leaf or y is not None and y.past is not past): return False
    order = {id(x.past): j for j, x in enumerate(wanted)}
    return all([order.get(id((nodes[w] if w >= 0 else got[~w]).past)) == j for w, j in m.ends])


def commit(run, m: Memo, got, leaves, inputs, k0, s0):
    """Append a remembered backward to the window and give the leaves their gradients; those that were asked for are returned."""
    nodes = run.nodes
    nodes.extend([placeholder(h.line, None) for h in m.holes] if m.open else m.holes)
    for p, x in inputs:
        nodes[k0 + p] = x
        run.inputs[id(x)] = k0 + p
    run.scalars.extend(m.scalars)
    for p, w, i in m.numbers: run.scalars[s0 + p] = got[w].past.ins[i]
    run.cur = m.end
    if m.freed is not None: run.freed.append(m.freed)
    for w in m.frees: got[w].past.freed = True
    for leaf, o, line, had in zip(leaves, m.outs, m.lines, m.had):
        g = nodes[k0 + o] = placeholder(line, None)
        if had:
            g.over = id(leaf.grad.node)
            leaf.grad.node = g
            leaf.grad.ver = version(leaf.grad) + 1
            continue
        leaf.grad = wrap(g) if line.strides is None else owned(g)
    out = []
    for w in m.found:
        if w is not None and nodes[w].past is HOLE: nodes[w] = placeholder(nodes[w].line, None)
        out.append(None if w is None else wrap(nodes[w]))
    return out


# ---------------------------------------------------------------- public functions
class GradientEdge(NamedTuple):
    """Where the gradient of a tensor arrives: output `output_nr` of a vertex. The token is that tensor's own node, where a vertex has several outputs."""
    node: Any
    output_nr: int
    ownership_token: Any = None


def arrival(x):
    """A tensor as it is; an edge as a tensor whose gradient is the edge's."""
    if x.__class__ is not GradientEdge: return x.carrier if x.__class__ in OTHERS else x
    return wrap(x.node.node if x.ownership_token is None else x.ownership_token.node)


def _tuple(x): return tuple(x) if isinstance(x, Iterable) and not isinstance(x, (Tensor, GradientEdge)) else (x,)


def backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, grad_variables=None, inputs=None):
    """Sum of gradients of `tensors` into the leaves (torch.autograd.backward)."""
    tensors = _tuple(tensors)
    grads = (None,) * len(tensors) if grad_tensors is None else _tuple(grad_tensors)
    if len(grads) < len(tensors): raise RuntimeError(f"got {len(tensors)} tensors and {len(grads)} gradients")
    if inputs is not None:
        inputs = _tuple(inputs)
        if not inputs: raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    tensors, grads = tuple(map(arrival, tensors)), tuple(map(along, grads, tensors))
    run_backward(tensors, grads, bool(create_graph if retain_graph is None else retain_graph), bool(create_graph), inputs)


def grad(outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, only_inputs=True, allow_unused=None, is_grads_batched=False,
         materialize_grads=False):
    """Gradients of `outputs` with respect to `inputs`, returned instead of accumulated (torch.autograd.grad)."""
    outputs, inputs = tuple([arrival(x) if x.__class__ is GradientEdge else x for x in _tuple(outputs)]), _tuple(inputs)
    grads = (None,) * len(outputs) if grad_outputs is None else _tuple(grad_outputs)
    if is_grads_batched: return rows_of_grads(outputs, inputs, grads, create_graph, allow_unused, materialize_grads)
    if len(grads) != len(outputs): raise RuntimeError(f"got {len(outputs)} outputs and {len(grads)} gradients")
    retain = create_graph if retain_graph is None else retain_graph
    if allow_unused is False and materialize_grads:
        raise ValueError("Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False.")
    if allow_unused is None: allow_unused = materialize_grads
    if LOCAL.run.saving is not None: LOCAL.run.saving.pack(LOCAL.run)
    run, roots, wanted = LOCAL.run, [read(carrier(t)) for t in outputs], [read(arrival(x)) for x in inputs]
    for n in roots: needs_grad(n)
    for n in wanted:
        if not n.line.grad: raise RuntimeError("One of the differentiated Tensors does not require grad")
    known = marked(run, roots, grads, bool(retain), bool(create_graph), len(wanted))
    got = None if known is None else replay(run, roots, *known, wanted)
    if got is None: got = derived(outputs, roots, grads, wanted, bool(retain), bool(create_graph), known)
    if materialize_grads: got = [apply(mv.full, attr=(n.line.shape, n.line.dtype, 0)) if g is None else g for n, g in zip(wanted, got)]
    elif not allow_unused and any([g is None for g in got]):
        raise RuntimeError("One of the differentiated Tensors appears to not have been used in the graph. Set allow_unused=True if this is the desired behavior.")
    return tuple([x.with_gradient(g) if x.__class__ in OTHERS and g is not None else g for x, g in zip(inputs, got)])


def derived(outputs, roots, grads, wanted, retain, create, known):
    """Gradients of the nodes `wanted`, from the lines."""
    run = LOCAL.run
    was = run.grad
    run.hold += 1
    try:
        if known is not None: start = advance(run, BACKWARD, *known)
        else: ambient(("grad", create))
        k0, s0, freed0 = len(run.nodes), len(run.scalars), len(run.freed)
        run.grad = create
        d = Derivation(FACE, retain, create, {vertex(n): n for n in wanted})
        d.go([(n, root_gradient(t, n, g)) for t, n, g in zip(map(carrier, outputs), roots, map(along, grads, outputs))])
        run.stats.derived += 1
        got = [d.got.get(vertex(n)) for n in wanted]
        sparse = any([g.__class__ in OTHERS for g in got])
        got = [g if g is None or g.__class__ in OTHERS else owned(read(g)) for g in got]
    finally:
        run.grad = was
        ambient(("end", was))
        run.hold -= 1
    if known is not None and d.fresh and not sparse and not run.unmemo and not state.anomaly: remember(run, start, roots, d, k0, s0, freed0, wanted, got)
    return got


def rows_of_grads(outputs, inputs, grads, create_graph, allow_unused, materialize_grads):
    """grad() for every row of the cotangents at once; each gradient has their first axis in front."""
    size = next(g.shape[0] for g in grads if g is not None)
    with Level(size) as level:
        one = tuple(None if g is None else level.stand_in(g, 0) for g in grads)
        found = [None if g is None else level.results(g) for g in grad(outputs, inputs, one, True, create_graph, True, allow_unused, False, materialize_grads)]
    return tuple(None if f is None else f[0] if f[1] else f[0].expand(size, *f[0].shape) for f in found)


# ---------------------------------------------------------------- hooks
def walking() -> Derivation:
    """The backward that calls the hook that asks."""
    return WALKING.stack[-1]


class Handle:
    """What register_hook returns: remove() takes the hook away; also a context manager."""

    def __init__(self, hooks: list, hook): self.hooks, self.hook = hooks, hook

    def remove(self):
        if self.hook in self.hooks: self.hooks.remove(self.hook)

    def __enter__(self): return self
    def __exit__(self, *error): self.remove()


class Hook:
    """Calls a user's function with the gradient."""

    def __init__(self, f, stage=TENSOR): self.f, self.stage = f, stage

    def __call__(self, g):
        r = self.f(g)
        if r is None: return None
        if not isinstance(r, Tensor): raise TypeError(f"hooks must return None or a Tensor, not {type(r).__name__}")
        self.fits(r, g)
        return r

    def fits(self, r, g):
        if tuple(r.shape) != tuple(g.shape): raise RuntimeError(f"hook '{self.called}' has changed the size of value")
        if r.dtype is not g.dtype: raise RuntimeError(f"hook '{self.called}' has changed the type of value")

    @property
    def called(self): return getattr(self.f, "__name__", self.f)


class VertexHook(Hook):
    """f(gradients) before a vertex uses them, or f(gradients of its operands, gradients) after. `edges`: the operands' nodes, None for what has no gradient;
    `inner`: nodes of other rows that belong to the same vertex."""

    def __init__(self, f, stage, edges=(), inner=()):
        super().__init__(f, stage)
        self.edges, self.inner = edges, inner

    def __call__(self, grads, *outputs):
        r = self.f(grads, *outputs)
        if r is None: return grads
        if not isinstance(r, tuple): raise TypeError(f"expected tuple, but hook returned '{type(r).__name__}'")
        if len(r) != len(grads): raise RuntimeError(f"hook '{self.called}' has returned an incorrect number of values (got {len(r)}, but expected {len(grads)})")
        for new_, g in zip(r, grads):
            if new_ is None: continue
            if g is None: raise RuntimeError("can't replace a None gradient with a non-None value")
            self.fits(new_, g)
        return r


def add_hook(t: Tensor, f) -> Handle: return hooked(read(t), Hook(f))


HOOKED = weakref.WeakSet()                     # nodes with hooks: while one lives, its graph may be part of any backward, and none is replayed


def hooked(n: Node, hook: Hook) -> Handle:
    if not n.line.grad: raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
    run = LOCAL.run
    run.unmemo = True
    while n.line.op is mv.straight and n.past.__class__ is not Leaf: n = source(run, n)        # hooks belong to the history, not to the value
    past = n.past if n.past.__class__ is Leaf else history(n)
    if past.__class__ is History: HOOKED.add(n)
    if past.hooks is None: past.hooks = []
    past.hooks.insert(sum(h.stage <= hook.stage for h in past.hooks), hook)
    return Handle(past.hooks, hook)


def source(run, n: Node) -> Node:
    """Operand 0 of a node, wherever its window is."""
    if n.past is not None and n.past.run is not None: return n.past.ins[0]
    return run.nodes[n.line.ins[0]]


def retain_grad(t: Tensor):
    n = read(t)
    if not n.line.grad: raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
    if n.past.__class__ is Leaf or getattr(t, "kept", None) is not None: return
    kept = t.kept = Leaf()

    def keep(g): kept.grad = g if kept.grad is None else kept.grad + g
    hooked(n, Hook(keep, RETAIN))


# ---------------------------------------------------------------- before tensors had gradients
class _VariableType(type):
    def __instancecheck__(cls, x): return isinstance(x, Tensor)

    def __call__(cls, data, requires_grad=False, volatile=False):
        out = data.detach()
        return out.requires_grad_() if requires_grad else out


class Variable(metaclass=_VariableType):
    """What tensors with gradients were before they were tensors: `Variable(t, requires_grad=True)` is t's memory as a leaf."""
