"""torch.autograd.functional: Jacobians, Hessians and their products with vectors, by backward and double backward.

Every function takes `func` and its inputs (a tensor or a tuple) and gives results nested as PyTorch nests them: outputs outside, inputs inside.
https://docs.pytorch.org/docs/2.13/autograd.html#functional-higher-level-api
"""
from __future__ import annotations

from ..core.dtype import COMPLEX
from ..dnn import movement as mv
from . import autograd, functions as fn, modes, views
from .bind import apply
from .tensor import Tensor
from .views import shape_of


def tuple_of(x, what: str, name: str) -> tuple:
    """The tensors of an argument or a result, and PyTorch's TypeErrors."""
    for i, t in enumerate(x if isinstance(x, tuple) else (x,)):
        if not isinstance(t, Tensor):
            inside = f"{i}-th entry of the {what}" if isinstance(x, tuple) else what
            raise TypeError(f"The {inside} given to {name} must be either a Tensor or a tuple of Tensors but got {type(t).__name__}")
    return x if isinstance(x, tuple) else (x,)


def called(func, inputs, create_graph: bool, name: str):
    """(inputs to differentiate, outputs): inputs are fresh views of the user's with create_graph, else copies that own their graph."""
    given = tuple_of(inputs, "inputs", name)
    with modes.enable_grad():
        xs = tuple(views.view_as(x, x) if create_graph and x.requires_grad else x.detach().requires_grad_() for x in given)
        out = func(*xs)
    return xs, out, tuple_of(out, "outputs of the user-provided function", name)


def gradients(outs, xs, vs, create_graph: bool, strict: bool, name: str) -> tuple:
    """Gradients, zeros where an output doesn't depend on an input (an error with `strict`)."""
    pairs = [(o, v) for o, v in zip(outs, vs) if o.requires_grad and v is not None]
    if pairs: got = autograd.grad([o for o, _ in pairs], xs, [v for _, v in pairs], retain_graph=True, create_graph=create_graph, allow_unused=True)
    else: got = (None,) * len(xs)
    if strict:
        for i, g in enumerate(got):
            if g is None: raise RuntimeError(f"Output 0 of the user-provided function is independent of input {i}. This is not allowed in strict mode ({name}).")
    return tuple(zeros(x) if g is None else g for g, x in zip(got, xs))


def zeros(like: Tensor) -> Tensor: return apply(mv.full, attr=(shape_of(like), like.dtype, 0))
def shaped(found, x): return tuple(found) if isinstance(x, tuple) else found[0]
def released(found, create_graph: bool): return found if create_graph else tuple(released(t, False) if isinstance(t, tuple) else t.detach() for t in found)


def vectors(v, like, name: str) -> tuple:
    """The vectors of a product; without any, the function must give (or take) one number."""
    if v is None:
        if len(like) != 1 or like[0].numel() != 1:
            raise RuntimeError("The vector v can only be None if the user-provided function returns a single Tensor with a single element.")
        return (apply(mv.full, attr=(shape_of(like[0]), like[0].dtype, 1)),)
    vs = tuple_of(v, "v", name)
    if len(vs) != len(like): raise RuntimeError(f"v is a tuple of invalid length: should be {len(like)} but got {len(vs)}.")
    for i, (a, b) in enumerate(zip(vs, like)):
        if shape_of(a) != shape_of(b): raise RuntimeError(f"Entry {i} in v has invalid size: should be {b.shape} but got {a.shape}.")
    return vs


# ---------------------------------------------------------------- products
def vjp(func, inputs, v=None, create_graph=False, strict=False):
    """(outputs, vᵀ · Jacobian)."""
    xs, out, outs = called(func, inputs, create_graph, "vjp")
    got = gradients(outs, xs, vectors(v, outs, "vjp"), create_graph, strict, "vjp")
    return shaped(released(outs, create_graph), out), shaped(released(got, create_graph), inputs)


def jvp(func, inputs, v=None, create_graph=False, strict=False):
    """(outputs, Jacobian · v): the gradient of uᵀ · Jacobian in the direction of u, which is linear in u."""
    xs, out, outs = called(func, inputs, create_graph, "jvp")
    vs = vectors(v, xs, "jvp")
    with modes.enable_grad():
        us = tuple(zeros(o).requires_grad_() for o in outs)
        pulled = gradients(outs, xs, us, True, strict, "jvp")
        got = gradients(pulled, us, vs, create_graph, strict, "jvp")
    return shaped(released(outs, create_graph), out), shaped(released(got, create_graph), out)


def scalar(out, outs, name: str):
    if isinstance(out, tuple) or len(outs) != 1: raise RuntimeError(f"The function given to {name} should return a single Tensor")
    if outs[0].numel() != 1: raise RuntimeError(f"The Tensor returned by the function given to {name} should contain a single element")


def vhp(func, inputs, v=None, create_graph=False, strict=False):
    """(output, vᵀ · Hessian)."""
    xs, out, outs = called(func, inputs, create_graph, "vhp")
    scalar(out, outs, "vhp")
    with modes.enable_grad():
        slope = gradients(outs, xs, (apply(mv.full, attr=(shape_of(out), out.dtype, 1)),), True, strict, "vhp")
        got = gradients(slope, xs, vectors(v, xs, "vhp"), create_graph, strict, "vhp")
    return released(outs, create_graph)[0], shaped(released(got, create_graph), inputs)


def hvp(func, inputs, v=None, create_graph=False, strict=False):
    """(output, Hessian · v). The Hessian of a real function is symmetric, so this is vhp, which is cheaper than jvp of the gradient."""
    return vhp(func, inputs, v, create_graph, strict)


# ---------------------------------------------------------------- matrices
def jacobian(func, inputs, create_graph=False, strict=False, vectorize=False, strategy="reverse-mode"):
    """∂output/∂input: shape (*output, *input), one row by one backward."""
    if strategy not in ("reverse-mode", "forward-mode"): raise ValueError(f'Expected strategy to be either "reverse-mode" or "forward-mode", but got: {strategy}.')
    xs, out, outs = called(func, inputs, create_graph, "jacobian")
    found = tuple(shaped(rows(o, xs, create_graph, strict), inputs) for o in outs)
    return shaped(released(found, create_graph), out)


def rows(out: Tensor, xs, create_graph: bool, strict: bool) -> tuple:
    """For each input the stacked gradients of every element of one output."""
    shape = shape_of(out)
    with modes.enable_grad():
        flat = views.reshape(out, (-1,))
        got = [gradients((views.select(flat, 0, j),), xs, (apply(mv.full, attr=((), out.dtype, 1)),), create_graph, strict, "jacobian") for j in range(out.numel())]
        if not got: return tuple(apply(mv.full, attr=(shape + shape_of(x), x.dtype, 0)) for x in xs)
        return tuple(views.reshape(fn.stack([g[i] for g in got], 0), shape + shape_of(x)) for i, x in enumerate(xs))


def hessian(func, inputs, create_graph=False, strict=False, vectorize=False, outer_jacobian_strategy="reverse-mode"):
    """Second derivatives of a function of one number: for inputs i and j, shape (*input i, *input j)."""
    given = tuple_of(inputs, "inputs", "hessian")
    if any(x.dtype.category == COMPLEX for x in given): raise NotImplementedError("'hessian' is not implemented for complex inputs; differentiate real and imaginary parts")

    def slope(*xs):
        out = func(*xs)
        scalar(out, tuple_of(out, "outputs of the user-provided function", "hessian"), "hessian")
        got = gradients((out,), xs, (apply(mv.full, attr=(shape_of(out), out.dtype, 1)),), True, strict, "hessian")
        return got if isinstance(inputs, tuple) else got[0]
    return jacobian(slope, inputs, create_graph, strict)
