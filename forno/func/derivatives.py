"""Derivatives of functions, as functions: reverse mode (grad, vjp, jacrev), forward mode (jvp, jacfwd, linearize), and both (hessian).

A transform gives the function copies of its inputs that have a history of their own, and asks the lines it recorded for derivatives with respect to those
copies. The derivatives are lines, too, so transforms nest; what comes out of the outermost one forgets the copies.
https://docs.pytorch.org/docs/2.13/func.api.html
"""
from __future__ import annotations

import functools

from ..framework.api import eye
from ..framework.tensor import Tensor
from ..framework.tracking import Tracked
from ..utils._pytree import tree_flatten, tree_map, tree_unflatten
from .vmap import vmap


# ---------------------------------------------------------------- arguments
def chosen(argnums, args, name: str) -> tuple:
    """Positions of the arguments to differentiate with respect to."""
    many = argnums if isinstance(argnums, tuple) else (argnums,)
    if not many: raise RuntimeError(f"{name}: argnums must be non-empty")
    out = []
    for k in many:
        if not isinstance(k, int): raise RuntimeError(f"argnums must be int or Tuple[int, ...], got: {argnums}")
        if not -len(args) <= k < len(args): raise RuntimeError(f"Got argnum={k}, but only {len(args)} positional inputs")
        out.append(k % len(args))
    if len(set(out)) != len(out): raise RuntimeError(f"argnums elements must be unique: {argnums}")
    return tuple(out)


def tensors_of(tree, name: str) -> tuple[list, object]:
    """(leaves, spec) of a tree that must hold tensors only."""
    leaves, spec = tree_flatten(tree)
    for x in leaves:
        if not isinstance(x, Tensor): raise RuntimeError(f"{name}: Expected all inputs and outputs to be tensors, got {type(x)}")
    return leaves, spec


def tracked(level: Tracked, args, argnums):
    """(arguments with copies in the chosen places, the copies, their spec)."""
    picked = tuple(args[k] for k in argnums)
    leaves, spec = tensors_of(picked, "derivative")
    copies = [level.copy(x) for x in leaves]
    return replaced(args, argnums, tree_unflatten(copies, spec)), tuple(alias(c) for c in copies), spec


def replaced(args, argnums, others) -> tuple:
    """The arguments with others in the chosen places."""
    places = dict(zip(argnums, others))
    return tuple(places.get(k, a) for k, a in enumerate(args))


def alias(t: Tensor) -> Tensor:
    """The same node under another name: the function may write into its own."""
    out = object.__new__(Tensor)
    out.node, out.alias = t.node, t.alias
    return out


def split_aux(out, has_aux: bool, name: str):
    """(output, aux) of what a function gave; aux is None unless it was announced."""
    if not has_aux: return out, None
    if not (isinstance(out, tuple) and len(out) == 2):
        raise RuntimeError(f"{name}: output of function f should be a tuple: (output, aux) if has_aux is True")
    return out


def as_asked(found, argnums):
    """One result per argument, or the only one where `argnums` is a number."""
    return found if isinstance(argnums, tuple) else found[0]


# ---------------------------------------------------------------- reverse mode
def grad_and_value(func, argnums=0, has_aux=False):
    """x -> (gradient of func at x, func(x)) for a func of one number."""
    @functools.wraps(func)
    def both(*args, **kwargs):
        with Tracked() as level:
            picked = chosen(argnums, args, "grad")
            given, copies, spec = tracked(level, args, picked)
            out, aux = split_aux(func(*given, **kwargs), has_aux, "grad_and_value(f)(*args)")
            if not isinstance(out, Tensor): raise RuntimeError(f"Expected f(*args) to return a Tensor, got type {type(out)}")
            if out.dim() != 0: raise RuntimeError(f"Expected f(*args) to return a scalar tensor, got tensor with {out.dim()} dims")
            found = level.gradients([out], copies, [None])
            grads = as_asked(tree_unflatten([level.released(g) for g in found], spec), argnums)
            value, aux = level.released(out), tree_map(level.released, aux)
        return (grads, (value, aux)) if has_aux else (grads, value)
    return both


def grad(func, argnums=0, has_aux=False):
    """x -> gradient of func at x, for a func of one number; nests for higher derivatives."""
    @functools.wraps(func)
    def gradient(*args, **kwargs):
        grads, value = grad_and_value(func, argnums, has_aux)(*args, **kwargs)
        return (grads, value[1]) if has_aux else grads
    return gradient


def vjp(func, *primals, has_aux=False):
    """(func(*primals), cotangents -> cotangents · Jacobian[, aux])."""
    level = Tracked()
    with level:
        given, copies, spec = tracked(level, primals, tuple(range(len(primals))))
        out, aux = split_aux(func(*given), has_aux, "vjp(f, *primals)")
        outs, out_spec = tensors_of(out, "vjp")
        values = tree_unflatten([level.released(o) for o in outs], out_spec)
        aux = tree_map(level.released, aux)

    def pullback(*cotangents, retain_graph=True, create_graph=None):      # PyTorch's options: lines are kept, and history follows from who asks
        given = cotangents[0] if len(cotangents) == 1 and out_spec.type is not tuple else tuple(cotangents)
        if len(cotangents) == 1 and out_spec.type is tuple and isinstance(cotangents[0], tuple): given = cotangents[0]
        vs, spec_v = tensors_of(given, "vjp")
        if spec_v != out_spec:
            raise RuntimeError(f"Expected pytree structure of cotangents to be the same as pytree structure of outputs to the function. cotangents: {spec_v.type}, "
                               f"primal output: {out_spec.type}")
        with level:
            found = level.gradients(outs, copies, vs)
            result = tree_unflatten([level.released(g) for g in found], spec)
        return result if len(primals) != 1 else result[0]
    return (values, pullback, aux) if has_aux else (values, pullback)


# ---------------------------------------------------------------- forward mode
def jvp(func, primals, tangents, *, strict=False, has_aux=False):
    """(func(*primals), Jacobian · tangents[, aux])."""
    if not isinstance(primals, tuple) or not isinstance(tangents, tuple):
        raise RuntimeError(f"jvp(f, primals, tangents): Expected primals and tangents to be tuples, got {type(primals)} and {type(tangents)}")
    if not primals: raise RuntimeError("jvp(f, primals, tangents): Expected at least one Tensor in primals")
    _, p_spec = tensors_of(primals, "jvp")
    ts, t_spec = tensors_of(tangents, "jvp")
    if p_spec != t_spec: raise RuntimeError("jvp(f, primals, tangents): Expected primals and tangents to have the same python structure.")
    for x, t in zip(tree_flatten(primals)[0], ts):
        if x.shape != t.shape: raise RuntimeError(f"jvp(f, primals, tangents): Expected primal and tangent to have the same shape, got {list(x.shape)} and {list(t.shape)}")
    with Tracked() as level:
        given, copies, _ = tracked(level, primals, tuple(range(len(primals))))
        out, aux = split_aux(func(*given), has_aux, "jvp(f, primals, tangents)")
        outs, spec = tensors_of(out, "jvp")
        found = level.tangents(outs, copies, ts)
        values, moved = (tree_unflatten([level.released(x) for x in xs], spec) for xs in (outs, found))
        aux = tree_map(level.released, aux)
    return (values, moved, aux) if has_aux else (values, moved)


def linearize(func, *primals):
    """(func(*primals), tangents -> Jacobian · tangents): the function is run once."""
    level = Tracked()
    with level:
        given, copies, p_spec = tracked(level, primals, tuple(range(len(primals))))
        outs, spec = tensors_of(func(*given), "linearize")
        values = tree_unflatten([level.released(o) for o in outs], spec)

    def pushforward(*tangents):
        ts, t_spec = tensors_of(tangents, "linearize")
        if t_spec != p_spec: raise RuntimeError("linearize: the tangents don't have the structure of the primals")
        with level: return tree_unflatten([level.released(t) for t in level.tangents(outs, copies, ts)], spec)
    return values, pushforward


# ---------------------------------------------------------------- matrices
def basis(xs) -> list:
    """All unit vectors of the space of some tensors: for each tensor (N, *shape), N their elements together."""
    total = sum(x.numel() for x in xs)
    out, start = [], 0
    for x in xs:
        out.append(eye(total, dtype=x.dtype)[:, start:start + x.numel()].reshape(total, *x.shape))
        start += x.numel()
    return out


def jacrev(func, argnums=0, *, has_aux=False, chunk_size=None, _preallocate_and_copy=False):
    """x -> ∂func/∂x, one pull per output element, at most chunk_size at a time: shape (*output, *input). PyTorch's last parameter changes nothing here."""
    if chunk_size is not None and chunk_size <= 0: raise ValueError("jacrev: `chunk_size` should be greater than 0.")

    @functools.wraps(func)
    def jacobian(*args, **kwargs):
        picked = chosen(argnums, args, "jacrev")

        def of_picked(*xs): return func(*replaced(args, picked, xs), **kwargs)
        out, pullback, *aux = vjp(of_picked, *(args[k] for k in picked), has_aux=has_aux)
        outs, out_spec = tree_flatten(out)
        cotangents = basis(outs)

        def pull(*vs):
            got = pullback(tree_unflatten(vs, out_spec)) if out_spec.type is not tuple else pullback(*tree_unflatten(vs, out_spec))
            return got if len(picked) != 1 else (got,)
        found = vmap(pull, chunk_size=chunk_size)(*cotangents)             # per argument (N, *input)
        leaves, spec = tree_flatten(found)
        by_output = []
        for k, o in enumerate(outs):
            start = sum(x.numel() for x in outs[:k])
            rows = [g.narrow(0, start, o.numel()).reshape(*o.shape, *g.shape[1:]) for g in leaves]
            by_output.append(as_asked(tree_unflatten(rows, spec), argnums))
        result = tree_unflatten(by_output, out_spec)
        return (result, aux[0]) if has_aux else result
    return jacobian


def jacfwd(func, argnums=0, has_aux=False, *, chunk_size=None, randomness="error"):
    """x -> ∂func/∂x, one push per input element, at most chunk_size at a time: shape (*output, *input)."""
    @functools.wraps(func)
    def jacobian(*args, **kwargs):
        picked = chosen(argnums, args, "jacfwd")
        xs, x_spec = tensors_of(tuple(args[k] for k in picked), "jacfwd")

        def of_picked(*leaves): return func(*replaced(args, picked, tree_unflatten(leaves, x_spec)), **kwargs)

        def push(*ts):
            _, moved, *aux = jvp(of_picked, tuple(xs), ts, has_aux=has_aux)
            return (moved, aux[0]) if has_aux else moved
        found = vmap(push, randomness=randomness, chunk_size=chunk_size)(*basis(xs))
        if has_aux: found, aux = found[0], tree_map(lambda a: a[0] if isinstance(a, Tensor) else a, found[1])
        outs, out_spec = tree_flatten(found)                               # (N, *output)
        by_output = []
        for o in outs:
            columns = [p.movedim(0, -1).reshape(*o.shape[1:], *x.shape) for p, x in zip(o.split([x.numel() for x in xs], 0), xs)]
            by_output.append(as_asked(tree_unflatten(columns, x_spec), argnums))
        result = tree_unflatten(by_output, out_spec)
        return (result, aux) if has_aux else result
    return jacobian


def hessian(func, argnums=0):
    """x -> ∂²func/∂x², forward over reverse."""
    return jacfwd(jacrev(func, argnums), argnums)
