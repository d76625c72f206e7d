"""torch.autograd.functional: Jacobians, Hessians and their products with vectors, by backward, double backward and forward mode.

Every function takes `func` and its inputs (a tensor or a tuple) and gives results nested as PyTorch nests them: outputs outside, inputs inside.
https://docs.pytorch.org/docs/2.13/autograd.html#functional-higher-level-api
"""
from __future__ import annotations

from ..core.dtype import COMPLEX, FLOAT
from ..dnn import movement as mv
from . import autograd, creation, functions as fn, modes, views
from .batching import Level
from .bind import apply
from .tensor import Tensor
from .tracking import Tracked
from .views import shape_of


def tuple_of(x, what: str, name: str) -> tuple:
    """The tensors of an argument or a result, and PyTorch's TypeErrors."""
    for i, t in enumerate(x if isinstance(x, tuple) else (x,)):
        if not isinstance(t, Tensor):
            wrong = f"the value at index {i}" if isinstance(x, tuple) else f"the given {what}"
            raise TypeError(f"The {what} given to {name} must be either a Tensor or a tuple of Tensors but {wrong} has type {type(t)}.")
    return x if isinstance(x, tuple) else (x,)


def called(func, inputs, create_graph: bool, name: str):
    """(inputs to differentiate, outputs): inputs are fresh views of the user's with create_graph, else copies that own their graph."""
    given = tuple_of(inputs, "inputs", name)
    with modes.enable_grad():
        xs = tuple(views.view_as(x, x) if create_graph and x.requires_grad else x.detach().requires_grad_() for x in given)
        out = func(*xs)
    return xs, out, tuple_of(out, "outputs of the user-provided function", name)


def pulled(outs, xs, vs, create_graph: bool, batched=False) -> tuple:
    """Gradients of the outputs that have any; None where one doesn't depend on an input."""
    pairs = [(o, v) for o, v in zip(outs, vs) if o is not None and o.requires_grad]
    if not pairs: return (None,) * len(xs)
    return autograd.grad([o for o, _ in pairs], xs, [v for _, v in pairs], retain_graph=True, create_graph=create_graph, allow_unused=True, is_grads_batched=batched)


# ---------------------------------------------------------------- strict mode
NO_GRADIENT = dict(
    outputs="Output {i} of the user-provided function does not require gradients. The outputs must be computed in a differentiable manner from the input when running in strict mode.",
    grad_inputs="The gradient with respect to input {i} is independent of the inputs of the user-provided function. This is not allowed in strict mode.",
    jacobian="While computing the hessian, found that the jacobian of the user-provided function with respect to input {i} is independent of the input. This is not allowed in strict "
             "mode. You should ensure that your function is twice differentiable and that the jacobian depends on the inputs (this would be violated by a linear function for example).",
    hessian="The hessian of the user-provided function with respect to input {i} is independent of the input. This is not allowed in strict mode. You should ensure that your function "
            "is thrice differentiable and that the hessian depends on the inputs.")
INDEPENDENT = "The output of the user-provided function is independent of input {i}. This is not allowed in strict mode."
MISSING = dict(
    back=INDEPENDENT,
    back_trick="The gradient with respect to the input is independent of entry {i} in the grad_outputs when using the double backward trick to compute forward mode gradients. This is "
               "not allowed in strict mode.",
    double_back="The jacobian of the user-provided function is independent of input {i}. This is not allowed in strict mode.",
    double_back_trick="The hessian of the user-provided function is independent of entry {i} in the grad_jacobian. This is not allowed in strict mode as it prevents from using the double "
                      "backward trick to replace forward mode AD.")
CONSTANT = "The {what} of the user-provided function is independent of input {i}. This is not allowed in strict mode when create_graph=True."


def check(found, kind: str, strict: bool):
    """Strict mode: every one of these must depend on the inputs."""
    for i, t in enumerate(found if strict else ()):
        if t is None: raise RuntimeError(INDEPENDENT.format(i=i))
        if not t.requires_grad: raise RuntimeError(NO_GRADIENT[kind].format(i=i))


def filled(found, like, strict: bool, create_graph: bool, stage: str) -> tuple:
    """Zeros where an output doesn't depend on an input; an error in strict mode."""
    for i, g in enumerate(found if strict else ()):
        if g is None: raise RuntimeError(MISSING[stage].format(i=i))
        if create_graph and not g.requires_grad: raise RuntimeError(CONSTANT.format(what="hessian" if "double" in stage else "jacobian", i=i))
    return tuple([zeros(x) if g is None else g for g, x in zip(found, like)])


def zeros(like: Tensor) -> Tensor: return apply(mv.full, attr=(shape_of(like), like.dtype, 0))
def ones(like: Tensor) -> Tensor: return apply(mv.full, attr=(shape_of(like), like.dtype, 1))
def shaped(found, x): return tuple(found) if isinstance(x, tuple) else found[0]
def released(found, create_graph: bool): return found if create_graph else tuple(released(t, False) if isinstance(t, tuple) else t.detach() for t in found)


def vectors(v, like, many: bool, create_graph: bool, name: str, none: str) -> tuple:
    """The vectors of a product; without any, the function must give (or take) one number."""
    if v is None:
        if len(like) != 1 or like[0].numel() != 1: raise RuntimeError(f"The vector v can only be None if {none} a single Tensor with a single element.")
        return (ones(like[0]),)
    vs = tuple_of(v, "v", name)
    if len(vs) != len(like): raise RuntimeError(f"v is a tuple of invalid length: should be {len(like)} but got {len(vs)}." if many else "The given v should contain a single Tensor.")
    for i, (a, b) in enumerate(zip(vs, like)):
        if shape_of(a) != shape_of(b): raise RuntimeError(f"{f'Entry {i} in ' if many else ''}v has invalid size: should be {b.shape} but got {a.shape}.")
    return vs if create_graph else tuple([a.detach() for a in vs])


GIVES, TAKES = "the user-provided function returns", "the input to the user-provided function is"


# ---------------------------------------------------------------- products
def vjp(func, inputs, v=None, create_graph=False, strict=False):
    """(outputs, vᵀ · Jacobian)."""
    xs, out, outs = called(func, inputs, create_graph, "vjp")
    check(outs, "outputs", strict)
    vs = vectors(v, outs, isinstance(out, tuple), create_graph, "vjp", GIVES)
    got = filled(pulled(outs, xs, vs, create_graph), xs, strict, create_graph, "back")
    return shaped(released(outs, create_graph), out), shaped(released(got, create_graph), inputs)


def jvp(func, inputs, v=None, create_graph=False, strict=False):
    """(outputs, Jacobian · v)."""
    given = tuple_of(inputs, "inputs", "jvp")
    vs = vectors(v, given, isinstance(inputs, tuple), create_graph, "jvp", TAKES)
    xs, out, outs = called(func, inputs, create_graph, "jvp")
    check(outs, "outputs", strict)
    with modes.enable_grad(): got = pushed(outs, xs, vs, strict, create_graph)
    return shaped(released(outs, create_graph), out), shaped(released(got, create_graph), out)


def pushed(outs, xs, vs, strict: bool, create_graph: bool) -> tuple:
    """Jacobian · v in forward mode, or as PyTorch does it, where results or errors differ: the gradient of uᵀ · Jacobian, which is linear in u, in the direction of u."""
    level = Tracked()
    if not strict and all([t.dtype.category == FLOAT for t in (*outs, *xs)]) and level.plain(outs): return tuple(level.tangents(outs, xs, vs))
    us = tuple([zeros(o).requires_grad_() for o in outs])
    back = pulled(outs, xs, us, True)
    check(back, "grad_inputs", strict)
    return filled(pulled(back, us, vs, create_graph), outs, strict, create_graph, "back_trick")


def sloped(func, inputs, v, create_graph: bool, strict: bool, name: str):
    """(inputs, vectors, output, gradient with a history) of a function of one number."""
    given = tuple_of(inputs, "inputs", name)
    vs = vectors(v, given, isinstance(inputs, tuple), create_graph, name, TAKES)
    xs, out, outs = called(func, inputs, create_graph, name)
    check(outs, "outputs", strict)
    scalar(out, outs, name)
    with modes.enable_grad(): slope = pulled(outs, xs, (ones(outs[0]),), True)
    check(slope, "jacobian", strict)
    return xs, vs, outs, slope


def scalar(out, outs, name: str):
    if isinstance(out, tuple) or len(outs) != 1: raise RuntimeError(f"The function given to {name} should return a single Tensor")
    if outs[0].numel() != 1: raise RuntimeError(f"The Tensor returned by the function given to {name} should contain a single element")


def vhp(func, inputs, v=None, create_graph=False, strict=False):
    """(output, vᵀ · Hessian)."""
    xs, vs, outs, slope = sloped(func, inputs, v, create_graph, strict, "vhp")
    with modes.enable_grad(): got = filled(pulled(slope, xs, vs, create_graph), xs, strict, create_graph, "double_back")
    return released(outs, create_graph)[0], shaped(released(got, create_graph), inputs)


def hvp(func, inputs, v=None, create_graph=False, strict=False):
    """(output, Hessian · v). The Hessian of a real function is symmetric, so this is vhp, which is cheaper; in strict mode it goes PyTorch's way, with its errors."""
    xs, vs, outs, slope = sloped(func, inputs, v, create_graph, strict, "hvp")
    with modes.enable_grad():
        if not strict: got = filled(pulled(slope, xs, vs, create_graph), xs, False, create_graph, "double_back")
        else:
            us = tuple([zeros(x).requires_grad_() for x in xs])
            back = pulled(slope, xs, us, True)
            check(slope, "hessian", strict)
            got = filled(pulled(back, us, vs, create_graph), xs, strict, create_graph, "double_back_trick")
    return released(outs, create_graph)[0], shaped(released(got, create_graph), inputs)


# ---------------------------------------------------------------- matrices
FORWARD, REVERSE = "forward-mode", "reverse-mode"


def jacobian(func, inputs, create_graph=False, strict=False, vectorize=False, strategy=REVERSE):
    """∂output/∂input: shape (*output, *input), one row by one backward, or all at once (`vectorize`): one pull per output element, or one push per input element."""
    if strategy not in (FORWARD, REVERSE):
        raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode". Hint: If your function has more outputs than inputs, "forward-mode" tends to be more '
                             'performant. Otherwise, prefer to use "reverse-mode".')
    if strategy == FORWARD:
        if create_graph: raise NotImplementedError(APART.format("create_graph=True", 'strategy="forward-mode"', "create_graph=False", 'strategy="reverse-mode"'))
        return columns(func, inputs, strict, vectorize)
    xs, out, outs = called(func, inputs, create_graph, "jacobian")
    check(outs, "outputs", strict)
    if vectorize:
        if strict: raise RuntimeError("torch.autograd.functional.jacobian: `strict=True` and `vectorized=True` are not supported together. Please either set `strict=False` or "
                                      "`vectorize=False`.")
        found = at_once(outs, xs, create_graph)
    else: found = [rows(i, o, xs, create_graph, strict) for i, o in enumerate(outs)]
    return shaped(released(tuple([shaped(f, inputs) for f in found]), create_graph), out)


APART = "torch.autograd.functional.jacobian: `{}` and `{}` are not supported together (yet). Please either set `{}` or `{}`."


def rows(i: int, out: Tensor, xs, create_graph: bool, strict: bool) -> tuple:
    """For each input the stacked gradients of every element of output i."""
    shape, got = shape_of(out), []
    with modes.enable_grad():
        flat = views.reshape(out, (-1,))
        for j in range(out.numel()):
            gs = pulled((views.select(flat, 0, j),), xs, (None,), create_graph)
            for k, g in enumerate(gs if strict else ()):
                if g is None: raise RuntimeError(f"Output {i} of the user-provided function is independent of input {k}. This is not allowed in strict mode.")
                if create_graph and not g.requires_grad: raise RuntimeError(CONSTANT.format(what="jacobian", i=i))
            got.append([zeros(x) if g is None else g for g, x in zip(gs, xs)])
        return tuple(views.reshape(fn.stack([g[k] for g in got], 0), shape + shape_of(x)) for k, x in enumerate(xs))


def units(xs) -> list:
    """All unit vectors of the space of some tensors: for each tensor (N, elements), N their elements together."""
    sizes = [x.numel() for x in xs]
    starts = [sum(sizes[:k]) for k in range(len(xs))]
    return [views.narrow(creation.eye(sum(sizes), dtype=x.dtype), 1, start, n) for x, start, n in zip(xs, starts, sizes)]


def at_once(outs, xs, create_graph: bool) -> list:
    """The rows of all outputs by one backward over all unit vectors."""
    total, start, found = sum([o.numel() for o in outs]), 0, []
    with modes.enable_grad():
        if not total: return [tuple([apply(mv.full, attr=(shape_of(o) + shape_of(x), x.dtype, 0)) for x in xs]) for o in outs]
        got = pulled([views.reshape(o, (-1,)) for o in outs], xs, units(outs), create_graph, batched=True)         # per input (N, *input)
        got = [apply(mv.full, attr=((total, *shape_of(x)), x.dtype, 0)) if g is None else g for g, x in zip(got, xs)]
        for o in outs:
            found.append(tuple([views.reshape(views.narrow(g, 0, start, o.numel()), shape_of(o) + shape_of(x)) for g, x in zip(got, xs)]))
            start += o.numel()
    return found


def columns(func, inputs, strict: bool, vectorize: bool):
    """The Jacobian in forward mode: the function is run once, its tangents for all unit vectors of the inputs."""
    if strict: raise RuntimeError(APART.format("strict=True", 'strategy="forward-mode"', "strict=False", 'strategy="reverse-mode"'))
    if not vectorize: raise NotImplementedError("Computing Jacobian using forward-AD or forward-over-reverse Hessian isonly implemented for `vectorize=True`.")
    given = tuple_of(inputs, "inputs", "jacobian")
    rows_of_ones = units(given)
    with Level(sum([x.numel() for x in given])) as level, Tracked() as tracked:
        vs = [views.reshape(level.stand_in(u, 0), shape_of(x)) for u, x in zip(rows_of_ones, given)]
        xs = [tracked.copy(x) for x in given]
        out = func(*xs)
        outs = tuple_of(out, "outputs of the user-provided function", "jacobian")
        found = [level.results(tracked.released(t)) for t in tracked.tangents(outs, xs, vs)]
        shapes = [shape_of(o) for o in outs]
    by_output = []
    for (t, differs), shape in zip(found, shapes):
        start, parts = 0, []
        for x in given:
            part = views.narrow(t, 0, start, x.numel()) if differs else views.expand(views.unsqueeze(t, 0), (x.numel(), *shape))               # (n, *output)
            parts.append(views.reshape(views.movedim(part, 0, -1), shape + shape_of(x)))
            start += x.numel()
        by_output.append(shaped(parts, inputs))
    return shaped(by_output, out)


def hessian(func, inputs, create_graph=False, strict=False, vectorize=False, outer_jacobian_strategy=REVERSE):
    """Second derivatives of a function of one number: for inputs i and j, shape (*input i, *input j)."""
    given = tuple_of(inputs, "inputs", "hessian")
    if outer_jacobian_strategy not in (FORWARD, REVERSE): raise AssertionError('Expected strategy to be either "forward-mode" or "reverse-mode".')
    if any(x.dtype.category == COMPLEX for x in given): raise NotImplementedError("'hessian' is not implemented for complex inputs; differentiate real and imaginary parts")

    def number(*xs):
        out = func(*xs)
        outs = tuple_of(out, "outputs of the user-provided function", "hessian")
        check(outs, "outputs", strict)
        scalar(out, outs, "hessian")
        return views.squeeze(out)

    def slope(*xs):
        got = jacobian(number, xs, create_graph=True)
        check(got, "jacobian", strict)
        return got
    found = jacobian(slope, given, create_graph, strict, vectorize, outer_jacobian_strategy)
    return found if isinstance(inputs, tuple) else found[0][0]
