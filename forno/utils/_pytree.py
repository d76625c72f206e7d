"""Nested containers of values, taken apart and put together again (torch.utils._pytree): tuples, lists, dicts and named tuples are nodes, all else is a leaf."""
from __future__ import annotations

from collections import OrderedDict, defaultdict, deque
from collections.abc import Callable
from typing import Any, NamedTuple


class TreeSpec(NamedTuple):
    """The shape of a tree: how to make each container, and its children. A leaf has no children and no `make`."""
    make: Callable | None
    type: type | None
    keys: tuple | None
    children: tuple[TreeSpec, ...]

    @property
    def num_leaves(self) -> int: return 1 if self.make is None else sum(c.num_leaves for c in self.children)

    def is_leaf(self) -> bool: return self.make is None
    def __eq__(self, other): return isinstance(other, TreeSpec) and (self.type, self.keys, self.children) == (other.type, other.keys, other.children)
    def __ne__(self, other): return not self == other
    def __hash__(self): return hash((self.type, self.keys, self.children))


LEAF = TreeSpec(None, None, None, ())
_REGISTERED: dict[type, tuple[Callable, Callable]] = {}


def register_pytree_node(cls, flatten_fn, unflatten_fn, **ignored):
    """`flatten_fn(x) -> (children, context)`, `unflatten_fn(children, context) -> x` make instances of `cls` containers."""
    _REGISTERED[cls] = flatten_fn, unflatten_fn


def parts(tree):
    """(children, spec without children) of a container, None for a leaf."""
    kind = type(tree)
    if kind in _REGISTERED:
        flatten, unflatten = _REGISTERED[kind]
        children, context = flatten(tree)
        return list(children), TreeSpec(lambda c: unflatten(list(c), context), kind, None, ())
    if isinstance(tree, tuple) and hasattr(tree, "_fields"): return list(tree), TreeSpec(lambda c: kind(*c), kind, None, ())
    if kind in (tuple, list): return list(tree), TreeSpec(kind, kind, None, ())
    if kind is deque: return list(tree), TreeSpec(lambda c: deque(c, tree.maxlen), kind, None, ())
    if kind in (dict, OrderedDict, defaultdict):
        keys = tuple(tree)
        def make(c):
            out = defaultdict(tree.default_factory) if kind is defaultdict else kind()
            out.update(zip(keys, c))
            return out
        return list(tree.values()), TreeSpec(make, kind, keys, ())
    return None


def tree_flatten(tree, is_leaf=None) -> tuple[list, TreeSpec]:
    """(leaves from left to right, spec)."""
    found = None if is_leaf is not None and is_leaf(tree) else parts(tree)
    if found is None: return [tree], LEAF
    leaves, specs = [], []
    for child in found[0]:
        below, spec = tree_flatten(child, is_leaf)
        leaves += below
        specs.append(spec)
    return leaves, found[1]._replace(children=tuple(specs))


def tree_unflatten(leaves, spec: TreeSpec) -> Any:
    leaves = list(leaves)
    if len(leaves) != spec.num_leaves:
        raise ValueError(f"tree_unflatten(leaves, treespec): `leaves` has length {len(leaves)} but the spec refers to a pytree that holds "
                         f"{spec.num_leaves} items.")
    return _built(iter(leaves), spec)


def _built(leaves, spec: TreeSpec): return next(leaves) if spec.make is None else spec.make([_built(leaves, c) for c in spec.children])


def tree_leaves(tree, is_leaf=None) -> list: return tree_flatten(tree, is_leaf)[0]
def tree_structure(tree, is_leaf=None) -> TreeSpec: return tree_flatten(tree, is_leaf)[1]


def tree_map(f, tree, *rest, is_leaf=None):
    """f on every leaf; further trees of the same shape give further arguments."""
    leaves, spec = tree_flatten(tree, is_leaf)
    return tree_unflatten([f(*xs) for xs in zip(leaves, *(tree_leaves(r, is_leaf) for r in rest), strict=True)], spec)


def tree_map_only(kind, f, tree, is_leaf=None):
    """f on the leaves that are of a type (or for which a predicate holds)."""
    wanted = kind if callable(kind) and not isinstance(kind, type) else lambda x: isinstance(x, kind)
    return tree_map(lambda x: f(x) if wanted(x) else x, tree, is_leaf=is_leaf)


def tree_all(f, tree, is_leaf=None) -> bool: return all(map(f, tree_leaves(tree, is_leaf)))
def tree_any(f, tree, is_leaf=None) -> bool: return any(map(f, tree_leaves(tree, is_leaf)))


def broadcast_to_and_flatten(prefix, spec: TreeSpec, is_leaf=None) -> list | None:
    """The leaves of `prefix`, each repeated for all leaves of `spec` below its place; None where the shapes disagree."""
    found = None if is_leaf is not None and is_leaf(prefix) else parts(prefix)
    if found is None: return [prefix] * spec.num_leaves
    if spec.make is None or found[1].type is not spec.type or found[1].keys != spec.keys or len(found[0]) != len(spec.children): return None
    out = []
    for child, below in zip(found[0], spec.children):
        got = broadcast_to_and_flatten(child, below, is_leaf)
        if got is None: return None
        out += got
    return out


_broadcast_to_and_flatten = broadcast_to_and_flatten
