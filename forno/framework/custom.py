"""Differentiable functions written in Python: torch.autograd.Function and what its forward leaves for its backward.

Comes in: a subclass of Function and its arguments. Goes out: forward's tensors, each by way of a line of the row `function`, whose History calls
the Python backward when a gradient comes by (or jvp, for a tangent). A backward is never remembered across windows that hold such lines.
"""
from __future__ import annotations

import copy
import functools
import weakref
from typing import NamedTuple

from ..core.dtype import FLOAT
from ..core.errors import unsupported
from ..dnn import movement as mv
from ..graph.derive import AFTER, BEFORE, called
from ..graph.line import LOCAL, NOT_SAVED, Node, record
from .batching import Level
from .layouts import along, carrier
from .modes import no_grad
from .tensor import Tensor, history, is_inference, owned, read, write


class Context:
    """What forward() leaves for backward(): saved tensors, and any attribute."""

    def __init__(self):
        self._saved, self.needs_input_grad, self._dirty, self._plain, self._fill = (), (), (), (), True
        self._outputs, self._joints = {}, {}   # position of a saved output -> its number -> a weak reference to its vertex

    def save_for_backward(self, *tensors):
        for i, t in enumerate(tensors):
            if t is not None and not isinstance(t, Tensor): raise TypeError(f"save_for_backward can only save variables, but argument {i} is of type {type(t).__name__}")
        self._saved = tensors

    save_for_forward = save_for_backward
    def mark_dirty(self, *tensors): self._dirty = tensors
    def mark_non_differentiable(self, *tensors): self._plain = tensors
    def set_materialize_grads(self, value: bool): self._fill = bool(value)

    def pack(self, packed):
        """Hooks on kept values: `packed(tensor)` stands for each of them from here on, and has a method `tensor`."""
        self._saved = tuple([packed(t) if isinstance(t, Tensor) else t for t in self._saved or ()])

    @property
    def saved_tensors(self):
        if self._saved is None: raise RuntimeError(FREED)
        saved = [t.tensor() if t is not None and not isinstance(t, Tensor) else t for t in self._saved]
        for k, i in self._outputs.items():
            n = self._joints[i]() if i in self._joints else None
            if n is not None: saved[k] = owned(n)              # with its history
        return tuple(saved)


FREED = ("Trying to backward through the graph a second time (or directly access saved tensors after they have already been freed). Saved intermediate values of the graph are "
         "freed when you call .backward() or autograd.grad(). Specify retain_graph=True if you need to backward through the graph a second time or if you need to access saved "
         "tensors after calling backward.")


class VmapInfo(NamedTuple):
    """What a Function's own vmap is told: how many examples, and what random numbers are to be."""
    batch_size: int
    randomness: str


class Function:
    """A differentiable function written in Python: subclass with static forward(ctx, *args) and backward(ctx, *grads), call with apply().

    `setup_context(ctx, inputs, output)` may be given instead of taking ctx in forward. https://docs.pytorch.org/docs/2.13/autograd.html#function
    """

    @staticmethod
    def forward(*args, **kw): raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def backward(ctx, *grads): raise NotImplementedError("You must implement either the backward or vjp method for your custom autograd.Function to use it with backward mode AD.")

    @staticmethod
    def jvp(ctx, *tangents): raise NotImplementedError("You must implement the jvp function for custom autograd.Function to use it with forward mode AD.")

    @staticmethod
    def vmap(info, in_dims, *args): raise NotImplementedError("To use autograd.Function with vmap, you must either override the vmap staticmethod or set generate_vmap_rule=True.")

    setup_context = None
    generate_vmap_rule = False                 # without it, too, forward and backward of one example are recorded again for all

    def __call__(self, *args, **kw):
        raise RuntimeError("Legacy autograd function with non-static forward method is deprecated. Please use new-style autograd function with static forward method. "
                           "(Example: https://pytorch.org/docs/stable/autograd.html#torch.autograd.Function)")

    @classmethod
    def apply(cls, *args):
        ctx = Context()
        tensors = [x for x in args if isinstance(x, Tensor)]
        ctx.needs_input_grad = tuple(isinstance(x, Tensor) and x.requires_grad for x in args)
        tracked = LOCAL.run.grad and any(ctx.needs_input_grad)
        before = [read(carrier(x)) for x in tensors]
        with no_grad():
            placed = batched(cls, LOCAL.run.level, args)
            out = placed if placed is not None else cls.forward(*args) if cls.setup_context is not None else cls.forward(ctx, *args)
            if cls.setup_context is not None: cls.setup_context(ctx, args, out)
        if not tracked: return out
        if not LOCAL.run.inference and any([isinstance(x, Tensor) and is_inference(carrier(x)) for x in ctx._saved]): raise RuntimeError(NOT_SAVED)
        many = isinstance(out, tuple)
        outs = out if many else (out,)
        group = _Group(cls, ctx, args, before, outs, placed is not None)
        made = tuple(group.attach(i, o) if isinstance(o, Tensor) else o for i, o in enumerate(outs))
        return made if many else made[0]


def batched(cls, level, args):
    """The outputs of a Function under vmap by its own rule, as that level's stand-ins; None where there is no such rule, or all arguments are the same for every example."""
    if level is None or cls.vmap is Function.vmap: return None
    if cls.generate_vmap_rule:
        raise RuntimeError(f"You tried to vmap over {cls.__name__}, but it has both generate_vmap_rule=True and an overriden vmap staticmethod. Please set generate_vmap_rule=False "
                           "or delete the overriden vmap staticmethod to avoid ambiguity.")
    whole = [level.results(x) if isinstance(x, Tensor) else (x, False) for x in args]
    if not any([differs for _, differs in whole]): return None
    with level.around(): outs, dims = cls.vmap(VmapInfo(level.size, level.randomness), tuple([0 if differs else None for _, differs in whole]), *[x for x, _ in whole])
    many = isinstance(outs, tuple)
    dims = dims if isinstance(dims, tuple) else (dims,) * (len(outs) if many else 1)
    made = tuple([o if d is None else level.stand_in(o, d) for o, d in zip(outs if many else (outs,), dims)])
    return made if many else made[0]


class _Vertex:
    """What a vertex of a custom function does in a backward (called with node and gradient), and in forward mode."""

    def __init__(self, group, back, push=None, ctx=None, edges=()): self.group, self.back, self.push, self.ctx, self.edges = group, back, push, ctx, edges
    def __call__(self, node, g): return self.back(node, g)

    def free(self):
        if self.ctx is not None: self.ctx._saved = None


class _Group:
    """The outputs of one apply(). A vertex before them all collects their gradients, so that backward runs once.

    Under vmap (`placed`: by the Function's own rule) `held` are the nodes of tensors that the context keeps, for whoever needs them for all examples.
    """

    def __init__(self, cls, ctx, args, before, outs, placed=False):
        self.cls, self.ctx, self.args, self.before, self.placed = cls, ctx, args, before, placed
        self.shapes = [(tuple(o.shape), o.dtype) if isinstance(o, Tensor) else None for o in outs]
        self.held = {k: read(t) for k, t in kept(ctx).items()} if LOCAL.run.level is not None else {}
        ctx._outputs = {k: i for k, t in enumerate(ctx._saved) for i, o in enumerate(outs) if t is o and t is not None}
        first = next((read(o) for o in outs if isinstance(o, Tensor)), None)
        self.root = None if first is None else self.rooted(first)

    def rooted(self, first: Node) -> Node:
        LOCAL.run.unmemo = True
        self.grads, anchors = [None] * len(self.shapes), [x for x in self.before if x.line.grad]
        root = record(FUNCTION, (*anchors, first if first.line.dtype.category >= FLOAT else anchors[0]), (self.cls.__name__, -1))
        history(root).ctx = _Vertex(self, self.back, ctx=self.ctx, edges=self.before)
        return root

    def joint(self, i, value: Node) -> Node:
        """The vertex of one output."""
        joint = record(FUNCTION, (self.root, value), (self.cls.__name__, i))
        history(joint).ctx = _Vertex(self, functools.partial(self.collect, i), functools.partial(self.push, i))
        self.ctx._joints[i] = weakref.ref(joint)
        return joint

    def around(self, level, before, first: Node, differs: bool) -> _Batched:
        """The same in the window around a level; `differs`: there is an output per example."""
        return _Batched(self, level, before, first, differs)

    def attach(self, i, out):
        if any(out is p for p in self.ctx._plain) or out.dtype.category < FLOAT: return out
        joint = self.joint(i, read(out))
        if any(out is d for d in self.ctx._dirty):
            write(out, joint, tracked=True)
            return out
        return owned(joint)

    def collect(self, i, node, g):
        self.grads[i] = g if self.grads[i] is None else self.grads[i] + g
        return [(self.root, g.filled((), 0))]

    def push(self, i, tangent_of):
        """The tangent of output i, by the function's own jvp."""
        nodes = iter(self.before)
        moved = self.pushed([tangent_of(next(nodes)) if isinstance(x, Tensor) else None for x in self.args])
        return moved[i] if isinstance(moved, tuple) else moved

    def pushed(self, tangents): return self.cls.jvp(self.ctx, *tangents)
    def pulled(self, ctx, grads): return self.cls.backward(ctx, *grads)

    def back(self, node, _):
        grads, self.grads = self.grads, [None] * len(self.grads)
        like = next(g for g in grads if g is not None)
        if self.ctx._fill: grads = [like.filled(s[0], 0, s[1]) if g is None and s is not None else g for g, s in zip(grads, self.shapes)]
        hooks = node.past.hooks
        grads = called(hooks, BEFORE, tuple(grads))
        got = self.pulled(self.ctx, grads)
        got = got if isinstance(got, tuple) else (got,)
        if len(got) != len(self.args) and (len(got) < len(self.args) or any(x is not None for x in got[len(self.args):])):
            raise RuntimeError(f"function {self.cls.__name__}Backward returned an incorrect number of gradients (expected {len(self.args)}, got {len(got)})")
        nodes, found = iter(self.before), []
        for k, (x, g) in enumerate(zip(self.args, got)):
            if not isinstance(x, Tensor): continue
            n = next(nodes)
            if g is not None and not isinstance(g, Tensor): raise RuntimeError(f"expected Variable or None (got {type(g).__name__})")
            found.append(None if g is None or not n.line.grad else self.fitting(k, along(g, x), n.line))
        by = {}
        for n, g in zip(self.before, called(hooks, AFTER, tuple(found), grads)):
            if g is not None: by[id(n)] = (n, by[id(n)][1] + g) if id(n) in by else (n, g)
        return list(by.values())

    def fitted(self, k, g):
        """The gradient of argument k as that is."""
        x = self.args[k] if k < len(self.args) else None
        return self.fitting(k, g, self.before[sum([isinstance(y, Tensor) for y in self.args[:k]])].line) if isinstance(x, Tensor) else g

    def fitting(self, k, g, line):
        """A gradient as its operand is: summed to its shape, in its type."""
        if tuple(g.shape) != line.shape:
            lead = len(g.shape) - len(line.shape)
            if lead < 0 or any([m not in (1, n) for m, n in zip(line.shape, g.shape[lead:])]):
                raise RuntimeError(f"Function {self.cls.__name__}Backward returned an invalid gradient at index {k} - got {list(g.shape)} but expected shape "
                                   f"compatible with {list(line.shape)}")
            g = g.sum_to_size(line.shape)
        return g if g.dtype is line.dtype else g.to(line.dtype)


def kept(ctx: Context) -> dict:
    """The tensors of a context: saved ones by position, others by the attribute's name."""
    return {k: t for k, t in (*enumerate(ctx._saved or ()), *((k, t) for k, t in vars(ctx).items() if k[0] != "_")) if isinstance(t, Tensor)}


class _Batched(_Group):
    """The same function on all examples of a level, recorded when the level is left: its context keeps all examples' tensors, and its backward is vmapped."""

    def __init__(self, group: _Group, level, before, first: Node, differs: bool):
        self.cls, self.args, self.before, self.inner, self.placed = group.cls, group.args, before, group, False
        self.level = (level.size, level.randomness) if differs else None
        self.ctx = copy.copy(group.ctx)
        self.ctx._joints = {}
        held = {k: (owned(m), many) for k, (m, many) in ((k, level.placed(n)) for k, n in group.held.items())}
        self.differ = {k for k, (_, many) in held.items() if many}
        self.ctx._saved = tuple([held[k][0] if k in held else None for k in range(len(group.ctx._saved or ()))])
        for k, (t, _) in held.items():
            if k.__class__ is str: setattr(self.ctx, k, t)
        self.shapes = [s and ((level.size, *s[0]), s[1]) for s in group.shapes] if differs else group.shapes
        self.held = {k: read(t) for k, (t, _) in held.items()} if LOCAL.run.level is not None else {}
        self.root = self.rooted(first)

    def pulled(self, ctx, grads):
        """Gradients have the examples' axis in front, those that come and those that go."""
        if self.level is None: return self.inner.pulled(ctx, grads)
        saved = ctx.saved_tensors
        with Level(*self.level) as level:
            def one(k, t): return level.stand_in(t, 0) if k in self.differ else t
            ctx = copy.copy(ctx)
            ctx._saved, ctx._outputs = tuple([one(k, t) for k, t in enumerate(saved)]), {}
            for k in self.differ:
                if k.__class__ is str: setattr(ctx, k, one(k, getattr(ctx, k)))
            out = self.inner.pulled(ctx, [None if g is None else level.stand_in(g, 0) for g in grads])
            outs = [level.results(self.inner.fitted(k, g)) if isinstance(g, Tensor) else (g, True) for k, g in enumerate(out if isinstance(out, tuple) else (out,))]
        return tuple([t if differs else t.expand(level.size, *t.shape) for t, differs in outs])

    def pushed(self, tangents): raise unsupported(f"forward mode through vmap of {self.cls.__name__}", instead="take it inside (vmap(jvp(f)))")


class _Twice(Function):
    """The gradients of a function that may be differentiated once."""

    @staticmethod
    def forward(ctx, *xs): return tuple(x * 1 for x in xs)

    @staticmethod
    def backward(ctx, *grads): raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")


def once_differentiable(f):
    """Decorates a Function's backward that isn't differentiable itself."""
    @functools.wraps(f)
    def backward(ctx, *args):
        with no_grad(): outs = f(ctx, *args)
        if not LOCAL.run.grad or not any(isinstance(x, Tensor) and x.requires_grad for x in args): return outs
        many = outs if isinstance(outs, tuple) else (outs,)
        found = iter(_Twice.apply(*[o.detach().requires_grad_() for o in many if isinstance(o, Tensor)]))
        many = tuple(next(found) if isinstance(o, Tensor) else o for o in many)
        return many if isinstance(outs, tuple) else many[0]
    return backward


def _function_grad(g, o, *xs, attr): return None


class _FunctionRow(mv.Movement):
    def rules(self, n): return (_function_grad,) * n


FUNCTION = _FunctionRow("function", mv.last, grads=(_function_grad,), oracle=lambda attr, *xs: xs[-1], history="copy")
"""The result of a custom Function: the last operand's value; its History.ctx runs the Python backward."""
