"""Differentiable functions written in Python: torch.autograd.Function and what its forward leaves for its backward.

Comes in: a subclass of Function and its arguments. Goes out: forward's tensors, each by way of a line of the row `function`, whose History calls
the Python backward when a gradient comes by (or jvp, for a tangent). A backward is never remembered across windows that hold such lines.
"""
from __future__ import annotations

import functools

from ..core.dtype import FLOAT
from ..dnn import movement as mv
from ..graph.derive import AFTER, BEFORE, called
from ..graph.line import LOCAL, NOT_SAVED, record
from .layouts import along, carrier
from .modes import no_grad
from .tensor import Tensor, history, is_inference, owned, read, write


class Context:
    """What forward() leaves for backward(): saved tensors, and any attribute."""

    def __init__(self):
        self._saved, self._versions, self.needs_input_grad, self._dirty, self._plain, self._fill = (), (), (), (), (), True

    def save_for_backward(self, *tensors):
        for i, t in enumerate(tensors):
            if t is not None and not isinstance(t, Tensor): raise TypeError(f"save_for_backward can only save variables, but argument {i} is of type {type(t).__name__}")
        self._saved = tensors

    save_for_forward = save_for_backward
    def mark_dirty(self, *tensors): self._dirty = tensors
    def mark_non_differentiable(self, *tensors): self._plain = tensors
    def set_materialize_grads(self, value: bool): self._fill = bool(value)

    @property
    def saved_tensors(self):
        if self._saved is None: raise RuntimeError(FREED)
        return tuple(self._saved)


FREED = ("Trying to backward through the graph a second time (or directly access saved tensors after they have already been freed). Saved intermediate values of the graph are "
         "freed when you call .backward() or autograd.grad(). Specify retain_graph=True if you need to backward through the graph a second time or if you need to access saved "
         "tensors after calling backward.")


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

    setup_context = None

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
            out = cls.forward(*args) if cls.setup_context is not None else cls.forward(ctx, *args)
            if cls.setup_context is not None: cls.setup_context(ctx, args, out)
        if not tracked: return out
        if not LOCAL.run.inference and any([isinstance(x, Tensor) and is_inference(carrier(x)) for x in ctx._saved]): raise RuntimeError(NOT_SAVED)
        many = isinstance(out, tuple)
        outs = out if many else (out,)
        group = _Group(cls, ctx, args, before, outs)
        made = tuple(group.attach(i, o) if isinstance(o, Tensor) else o for i, o in enumerate(outs))
        return made if many else made[0]


class _Vertex:
    """What a vertex of a custom function does in a backward (called with node and gradient), and in forward mode."""

    def __init__(self, back, push=None, ctx=None, edges=()): self.back, self.push, self.ctx, self.edges = back, push, ctx, edges
    def __call__(self, node, g): return self.back(node, g)

    def free(self):
        if self.ctx is not None: self.ctx._saved = None


class _Group:
    """The outputs of one apply(). A vertex before them all collects their gradients, so that backward runs once."""

    def __init__(self, cls, ctx, args, before, outs):
        self.cls, self.ctx, self.args, self.before = cls, ctx, args, before
        self.shapes = [(tuple(o.shape), o.dtype) if isinstance(o, Tensor) else None for o in outs]
        self.anchors = [x for x in before if x.line.grad]
        LOCAL.run.unmemo = True
        first = next((read(o) for o in outs if isinstance(o, Tensor)), None)
        self.root = None if first is None else record(FUNCTION, (*self.anchors, first if first.line.dtype.category >= FLOAT else self.anchors[0]), (cls.__name__, -1))
        self.grads = [None] * len(outs)
        if self.root is not None: history(self.root).ctx = _Vertex(self.back, ctx=self.ctx, edges=before)

    def attach(self, i, out):
        if any(out is p for p in self.ctx._plain) or out.dtype.category < FLOAT: return out
        joint = record(FUNCTION, (self.root, read(out)), (self.cls.__name__, i))
        history(joint).ctx = _Vertex(functools.partial(self.collect, i), functools.partial(self.push, i))
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
        moved = self.cls.jvp(self.ctx, *(tangent_of(next(nodes)) if isinstance(x, Tensor) else None for x in self.args))
        return moved[i] if isinstance(moved, tuple) else moved

    def back(self, node, _):
        grads, self.grads = self.grads, [None] * len(self.grads)
        like = next(g for g in grads if g is not None)
        if self.ctx._fill: grads = [like.filled(s[0], 0, s[1]) if g is None and s is not None else g for g, s in zip(grads, self.shapes)]
        hooks = node.past.hooks
        grads = called(hooks, BEFORE, tuple(grads))
        got = self.cls.backward(self.ctx, *grads)
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

    def fitting(self, k, g, line):
        """A gradient as its operand is: summed to its shape, in its type."""
        if tuple(g.shape) != line.shape:
            lead = len(g.shape) - len(line.shape)
            if lead < 0 or any([m not in (1, n) for m, n in zip(line.shape, g.shape[lead:])]):
                raise RuntimeError(f"Function {self.cls.__name__}Backward returned an invalid gradient at index {k} - got {list(g.shape)} but expected shape "
                                   f"compatible with {list(line.shape)}")
            g = g.sum_to_size(line.shape)
        return g if g.dtype is line.dtype else g.to(line.dtype)


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
