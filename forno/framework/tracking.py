"""What a derivative of a function is taken with respect to: copies of its inputs that have a history of their own.

`Tracked` is one such set of copies. Its gradients and tangents are recorded with history, so that they can be differentiated again by whoever is outside;
`released` cuts that history where nobody outside can ask for it.
"""
from __future__ import annotations

import threading

from ..core.dtype import FLOAT
from ..dnn import movement as mv
from ..graph.derive import Derivation, vertex
from ..graph.forward import Forward
from ..graph.line import LOCAL, History, Leaf, Node, ambient, record, set_grad_mode
from .autograd import FACE, root_gradient
from .bind import apply
from .tensor import Tensor, leaf_node, owned, read, wrap


class _Depth(threading.local):
    value = 0


DEPTH = _Depth()                               # how many transforms are open in this thread


class Tracked:
    """Use as a context: gradients are on inside, and the window stays open where lines are walked."""

    def __init__(self): self.mine: set[int] = set()        # leaves that this transform made

    def __enter__(self) -> Tracked:
        self.was = LOCAL.run.grad
        DEPTH.value += 1
        set_grad_mode(True)
        return self

    def __exit__(self, *error):
        DEPTH.value -= 1
        set_grad_mode(self.was)

    def copy(self, t: Tensor) -> Tensor:
        """t with a history that begins here."""
        n = read(t)
        if n.line.dtype.category < FLOAT:
            raise RuntimeError(f"only Tensors of floating point and complex dtype can be differentiated with respect to, got {n.line.dtype!r}; "
                               "convert the input, or leave it out of argnums")
        if not n.line.grad:
            leaf = Leaf()
            self.mine.add(id(leaf))
            n = leaf_node(n, leaf)
        return owned(record(mv.copy, (n,)))

    def gradients(self, outs, inputs, cotangents) -> list:
        """Gradients of the outputs, zeros where an output depends on none of the inputs. `inputs`: tensors as `copy` gave them."""
        roots = [(read(o), o, c) for o, c in zip(outs, cotangents) if read(o).line.grad]
        wanted = [read(x) for x in inputs]
        d = Derivation(FACE, True, True, {vertex(n): n for n in wanted})
        with held(("grad", True)): d.go([(n, root_gradient(o, n, c)) for n, o, c in roots])
        got = [d.got.get(vertex(n)) for n in wanted]
        return [zeros(n) if g is None else owned(read(g)) for g, n in zip(got, wanted)]

    def tangents(self, outs, inputs, tangents) -> list:
        """Directional derivatives of the outputs, zeros where an output depends on none of the inputs."""
        found = self.pushed(outs, {self.vertex(x): t for x, t in zip(inputs, tangents)})
        return [zeros(read(o)) if t is None else t for t, o in zip(found, outs)]

    def vertex(self, t: Tensor) -> int: return vertex(read(t))

    def pushed(self, outs, seeds: dict) -> list:
        """Tangents of tensors, given those of vertices they depend on; None where they depend on none."""
        with held(("forward", True)):
            walk = Forward(FACE, ungiven, seeds)
            found = [walk.of(read(o)) for o in outs]
            return [None if t is None else owned(read(t)) for t in found]

    def plain(self, outs) -> bool:
        """Is there no custom function in what these were made from? It may have a backward and no jvp."""
        d, todo, seen = Derivation(FACE, True, True), [read(o) for o in outs], set()
        while todo:
            x = todo.pop()
            if vertex(x) in seen or d.key(x) is None or x.past.__class__ is Leaf: continue
            seen.add(vertex(x))
            if x.past.__class__ is History and x.past.ctx is not None: return False
            todo.extend([y for y in d.operands(x) if y.__class__ is Node])
        return True

    def released(self, t):
        """A result for whoever called: without history, unless that leads to something outside this transform."""
        if not isinstance(t, Tensor): return t
        n = read(t)
        if not n.line.grad or self.was and (DEPTH.value > 1 or self.leads_outside(n)): return t
        return wrap(record(mv.detach, (n,)))

    def leads_outside(self, n: Node) -> bool:
        """Does n depend on a leaf that this transform did not make?"""
        d, todo, seen = Derivation(FACE, True, True), [n], set()
        while todo:
            x = todo.pop()
            v = vertex(x)
            if v in seen: continue
            seen.add(v)
            if x.past.__class__ is Leaf:
                if v not in self.mine: return True
                continue
            if not x.line.grad: continue
            if d.key(x) is None: return True   # recorded by a window around this one
            todo.extend([y for y in d.operands(x) if y.__class__ is Node])
        return False


class held:
    """The window stays as it is while lines are walked: nothing runs by itself."""

    def __init__(self, what): self.what = what

    def __enter__(self):
        self.run = LOCAL.run
        self.run.hold += 1
        ambient(self.what)

    def __exit__(self, *error):
        ambient(("end", self.run.grad))
        self.run.hold -= 1


def ungiven(like: Tensor) -> Tensor:
    """A gradient nobody gives: what a rule makes of it is differentiated, its value is never read."""
    n = read(like)
    return wrap(leaf_node(record(mv.full, (), (n.line.shape, n.line.dtype, 0)), Leaf()))


def zeros(n: Node) -> Tensor: return apply(mv.full, attr=(n.line.shape, n.line.dtype, 0))
