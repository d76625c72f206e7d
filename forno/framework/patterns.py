"""Where the elements of a sparse tensor are: index tensors, and what is known about them.

Comes in: index tensors in one of PyTorch's layouts (coordinates; rows or columns compressed). Goes out: positions per axis, pointers, the order that sorts
them, the same places transposed. A pattern never changes and holds no values; tensors with the same pattern share it, and with it everything that was
worked out once (a graph's adjacency is sorted once, not once per layer and step).
"""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..core.shape import contiguous
from ..dnn import gather as ga
from ..dnn import movement as mv
from ..graph.line import LOCAL
from . import functions as fn, gathering, views
from .bind import apply
from .modes import no_grad
from .size import sparse_coo, sparse_csc, sparse_csr
from .tensor import Tensor
from .views import shape_of

POINTERS = {sparse_csr: 0, sparse_csc: 1}      # compressed layouts and the axis that is compressed


def arange(n: int, dtype=dt.int64) -> Tensor: return apply(mv.iota, attr=(n, dtype, 0, 1))
def zeros(shape, dtype) -> Tensor: return apply(mv.full, attr=(tuple(shape), dtype, 0))


def rows(t: Tensor, index: Tensor) -> Tensor: return apply(ga.index_select, t, index, attr=0)


def added(t: Tensor, index: Tensor, n: int) -> Tensor:
    """Zeros (n, …) with the rows of t added where index says."""
    return apply(ga.index_select_back, t, index, attr=(0, (n, *shape_of(t)[1:])))


def kept(make):
    """A fact about a pattern, worked out when it is asked for the first time."""
    name = make.__name__

    def fact(self, *args):
        found = self.facts.get((name, args))
        if found is None:
            with no_grad(): found = make(self, *args)
            if not LOCAL.run.inference and LOCAL.run.level is None: self.facts[name, args] = found
        return found
    fact.__name__, fact.__doc__ = name, make.__doc__
    return fact


class Pattern:
    """Coordinates: `parts` is (places,), int64 (axes, nnz). Compressed: (pointers (n + 1,), places along the other axis (nnz,))."""
    __slots__ = ("layout", "size", "parts", "coalesced", "facts")

    def __init__(self, layout, size, parts, coalesced=False):
        self.layout, self.size, self.parts, self.facts = layout, tuple(size), parts, {}
        self.coalesced = coalesced or layout is not sparse_coo or self.nnz < 2

    @property
    def nnz(self) -> int: return shape_of(self.parts[-1])[-1]

    @property
    def axes(self) -> int: return len(self.size)

    # ---------------------------------------------------------------- positions
    @kept
    def at(self, d: int) -> Tensor:
        """(nnz,): positions along axis d."""
        if self.layout is sparse_coo: return views.contiguous_(views.select(self.parts[0], 0, d))
        if d != POINTERS[self.layout]: return self.parts[1]
        pointers = self.parts[0]
        ends = views.narrow(pointers, 0, 1, shape_of(pointers)[0] - 1)
        return gathering.searchsorted(ends, arange(self.nnz, pointers.dtype), right=True)

    def all(self) -> list[Tensor]: return [self.at(d) for d in range(self.axes)]

    @kept
    def keys(self) -> Tensor:
        """(nnz,): positions as one number, row-major."""
        return self.flat(tuple(range(self.axes)))

    def flat(self, axes) -> Tensor:
        """Positions along some of the axes as one number."""
        out = zeros((self.nnz,), dt.int64)
        for d, step in zip(axes, contiguous([self.size[d] for d in axes])): out = out + fn.to(self.at(d), dt.int64) * step
        return out

    def room(self, axes) -> int: return math.prod([self.size[d] for d in axes])

    @kept
    def coordinates(self) -> Pattern:
        """The same elements in the same order as coordinates; compressed columns come out sorted by column."""
        if self.layout is sparse_coo: return self
        places = fn.stack([fn.to(i, dt.int64) for i in self.all()], 0)
        return Pattern(sparse_coo, self.size, (places,), self.layout is sparse_csr)

    # ---------------------------------------------------------------- order
    @kept
    def sorted(self) -> tuple:
        """(order, group, first, pattern): elements in row-major order, which element of the result each belongs to, one element of each group, and the
        pattern without duplicates. This needs the number of different places, so it runs the window."""
        keys = self.keys()
        order = gathering.argsort(keys, 0, stable=True)
        keys = rows(keys, order)
        n = self.nnz
        if n < 2: starts = arange(n)
        else:
            differs = views.narrow(keys, 0, 1, n - 1) != views.narrow(keys, 0, 0, n - 1)
            starts = gathering.nonzero(fn.cat([differs.new_ones(1), differs]), as_tuple=True)[0]
        group = gathering.searchsorted(starts, arange(n), right=True) - 1
        first = rows(order, starts)
        places = apply(ga.index_select, self.coordinates().parts[0], first, attr=1)
        return order, group, first, Pattern(sparse_coo, self.size, (places,), True)

    @kept
    def ordered(self, d: int) -> tuple:
        """(order, pointers): elements in order of their position along axis d, and where each position begins."""
        at = fn.to(self.at(d), dt.int64)
        if self.layout is not sparse_coo and d == POINTERS[self.layout]: return arange(self.nnz), fn.to(self.parts[0], dt.int64)
        order = gathering.argsort(at, 0, stable=True)
        return order, gathering.searchsorted(rows(at, order), arange(self.size[d] + 1))

    # ---------------------------------------------------------------- other axes
    def permuted(self, order) -> Pattern:
        size = tuple([self.size[d] for d in order])
        if self.layout is not sparse_coo: return self if order == (0, 1) else Pattern(sparse_csc if self.layout is sparse_csr else sparse_csr, size, self.parts)
        return self.transposed(tuple(order))

    @kept
    def transposed(self, order) -> Pattern:
        size = tuple([self.size[d] for d in order])
        return Pattern(sparse_coo, size, (fn.stack([self.at(d) for d in order], 0),), self.coalesced and (order == tuple(range(self.axes)) or self.nnz < 2))
