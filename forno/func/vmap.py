"""vmap: a function of one example, run on a batch of them. https://docs.pytorch.org/docs/2.13/generated/torch.vmap.html"""
from __future__ import annotations

import functools

from ..framework.batching import Level
from ..framework.api import cat
from ..framework.tensor import Tensor
from ..utils._pytree import broadcast_to_and_flatten, tree_flatten, tree_unflatten


def vmap(func, in_dims=0, out_dims=0, randomness="error", *, chunk_size=None):
    """`func` with one more axis on its inputs and outputs.

    in_dims, out_dims: where that axis is, an int for all or a nest like the arguments' (None: shared by all examples, resp. only outputs that are).
    randomness: 'error' | 'same' | 'different', what random numbers drawn inside are. chunk_size: at most so many examples at a time.
    """
    if randomness not in ("error", "different", "same"):
        raise RuntimeError(f"Only allowed values for randomness are 'error', 'different', or 'same'. Got {randomness}")
    if chunk_size is not None and not chunk_size > 0: raise ValueError(f"vmap: chunk_size should be None or greater than 0. (got {chunk_size})")

    @functools.wraps(func)
    def mapped(*args, **kwargs):
        leaves, spec = tree_flatten((args, kwargs))
        dims = input_dims(in_dims, args, kwargs, func)
        size = batch_size(dims, leaves, func)
        dims = [d if d is None else d % max(x.dim(), 1) for d, x in zip(dims, leaves)]
        if chunk_size is None or chunk_size >= size: return run(func, leaves, spec, dims, size, out_dims, randomness)
        outs = []
        for start in range(0, size, chunk_size):
            n = min(chunk_size, size - start)
            part = [x if d is None else x.narrow(d, start, n) for x, d in zip(leaves, dims)]
            outs.append(run(func, part, spec, dims, n, out_dims, randomness))
        return joined(outs, out_dims, func)
    return mapped


def named(func) -> str: return getattr(func, "__name__", repr(func))


def input_dims(in_dims, args, kwargs, func) -> list:
    """in_dims for every leaf of (args, kwargs); keyword tensors are batched along axis 0."""
    if not isinstance(in_dims, (int, tuple)):
        if not (isinstance(in_dims, list) or in_dims is None):
            raise ValueError(f"vmap({named(func)}, in_dims={in_dims}, ...)(<inputs>): expected `in_dims` to be int or a (potentially nested) tuple matching the structure "
                             f"of inputs, got: {type(in_dims)}.")
        in_dims = tuple(in_dims) if in_dims is not None else None
    if not args and not kwargs:
        raise ValueError(f"vmap({named(func)})(<inputs>): got no inputs. Maybe you forgot to add inputs, or you are trying to vmap over a function with no inputs. "
                         "The latter is unsupported.")
    _, spec = tree_flatten(args)
    dims = broadcast_to_and_flatten(in_dims, spec)
    if dims is None:
        raise ValueError(f"vmap({named(func)}, in_dims={in_dims}, ...)(<inputs>): in_dims is not compatible with the structure of inputs. in_dims has structure "
                         f"{tree_flatten(in_dims)[1].type} but inputs has structure {spec.type}.")
    leaves = tree_flatten(args)[0]
    for x, d in zip(leaves, dims):
        if d is None: continue
        if not isinstance(d, int):
            raise ValueError(f"vmap({named(func)}, in_dims={in_dims}, ...)(<inputs>): Got in_dim={d} for an input but in_dim must be either an integer dimension or None.")
        if not isinstance(x, Tensor):
            way_out = "please use None as the respective in_dim" if in_dims == 0 else "expected None"
            raise ValueError(f"vmap({named(func)}, in_dims={in_dims}, ...)(<inputs>): Got in_dim={d} for an input but the input is of type {type(x)}. We cannot vmap over "
                             f"non-Tensor arguments, {way_out}.")
        if not -x.dim() <= d < x.dim():
            raise ValueError(f"vmap({named(func)}, in_dims={in_dims}, ...)(<inputs>): Got in_dim={d} for some input, but that input is a Tensor of dimensionality {x.dim()} "
                             f"so expected in_dim to satisfy -{x.dim()} <= in_dim < {x.dim()}.")
    return dims + [0 if isinstance(x, Tensor) else None for x in tree_flatten(kwargs)[0]]


def batch_size(dims, leaves, func) -> int:
    """How many examples there are; ValueError where inputs disagree or none has an axis of them."""
    sizes = [x.shape[d] for x, d in zip(leaves, dims) if d is not None]
    if not sizes: raise ValueError(f"vmap({named(func)}, ...)(<inputs>): expected at least one Tensor to vmap over, got none (all in_dims are None)")
    if len(set(sizes)) > 1: raise ValueError(f"vmap: Expected all tensors to have the same size in the mapped dimension, got sizes {sizes} for the mapped dimension")
    return sizes[0]


def output_dims(out_dims, spec, count: int, func) -> list:
    """out_dims for every one of `count` outputs; a list is as good as a tuple, and a tuple of one stands for a single output."""
    places = broadcast_to_and_flatten(tuple(out_dims) if isinstance(out_dims, list) else out_dims, spec)
    if places is None and isinstance(out_dims, tuple) and len(out_dims) == count == 1: places = list(out_dims)
    if places is None: raise ValueError(f"vmap({named(func)}, ..., out_dims={out_dims})(<inputs>): out_dims is not compatible with the structure of outputs.")
    return places


def run(func, leaves, spec, dims, size, out_dims, randomness):
    """One call of func on a stand-in example, its lines recorded for all `size` of them."""
    with Level(size, randomness) as level:
        xs = [x if d is None else level.stand_in(x, d) for x, d in zip(leaves, dims)]
        args, kwargs = tree_unflatten(xs, spec)
        outs, out_spec = tree_flatten(func(*args, **kwargs))
        for o in outs:
            if not isinstance(o, Tensor):
                raise ValueError(f"vmap({named(func)}, ...): `{named(func)}` must only return Tensors, got type {type(o)}. Did you mean to set out_dims= to None for output?")
        found = [placed(*level.results(o), o, d, size, func, level) for o, d in zip(outs, output_dims(out_dims, out_spec, len(outs), func))]
    return tree_unflatten(found, out_spec)


def placed(value, differs, inner, dim, size, func, level):
    """A result with the examples' axis where out_dims wants it."""
    if dim is None:
        if differs: raise ValueError(f"vmap({named(func)}, ...): `{named(func)}` can not return a BatchedTensor when out_dim is None")
        return value
    rank = inner.dim() + 1
    if not -rank <= dim < rank: raise IndexError(f"Dimension out of range (expected to be in range of [{-rank}, {rank - 1}], but got {dim})")
    with level.around():
        if not differs: value = value.unsqueeze(0).expand(size, *value.shape)
        return value if dim % rank == 0 else value.movedim(0, dim)


def joined(outs, out_dims, func):
    """Chunks' results, one after the other."""
    flat = [tree_flatten(o)[0] for o in outs]
    spec = tree_flatten(outs[0])[1]
    places = output_dims(out_dims, spec, len(flat[0]), func)
    return tree_unflatten([group[0] if d is None else cat(group, d) for group, d in zip(zip(*flat), places)], spec)
