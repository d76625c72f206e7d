"""Joins that make a value longer piece by piece: the keys and values of a text that is being written. Only the piece is written, into room behind the value.

Comes in: the nodes of a join. Goes out: the joined value as a Slice of a Room, or None where the join is an ordinary one. Such a value is no part of the
program, which would be another one for every length; the window ends before it, and after the attention that reads it (framework.attention).

Nobody sees the room: strides are those of the value's line, and whoever asks for an address or an array gets dense memory of the value's own (data.settle).
"""
from __future__ import annotations

import math

import numpy as np

from ..core.shape import View, contiguous
from ..cpu import memory as mem
from ..dnn import movement as mv
from ..graph.line import LOCAL, Node, Poison, Slice, given
from .data import array_of
from .engine import flush


class Room:
    """Memory for a value that may still grow along an axis. The first places are taken, and never written again."""
    __slots__ = ("buffer", "shape", "dtype", "axis", "taken")

    def __init__(self, shape, dtype, axis: int):
        places = shape[axis] * 5 // 4 + 16     # a quarter more: what is copied to larger rooms is four places for every new one
        self.shape, self.dtype, self.axis = (*shape[:axis], places, *shape[axis + 1:]), dtype, axis
        self.buffer = mem.empty(math.prod(self.shape) * dtype.size)
        self.taken = [0]                       # how many; empty for the moment in which a thread takes some

    def take(self, count: int, more: int) -> bool:
        """Are the places after the first `count` free? Then so many more are the caller's."""
        try: taken = self.taken.pop()
        except IndexError: return False
        free = taken == count and count + more <= self.shape[self.axis]
        self.taken.append(count + more if free else taken)
        return free

    def value(self, first: int, count: int) -> Node:
        """What lies in `count` places from the first one on."""
        shape, strides = (*self.shape[:self.axis], count, *self.shape[self.axis + 1:]), contiguous(self.shape)
        return given(Slice(self.buffer, View(shape, strides, first * strides[self.axis]), self.dtype.size), self.dtype, shape)

    def write(self, n: Node, first: int): np.copyto(array_of(self.value(first, n.line.shape[self.axis])), array_of(n))


def joined(nodes, axis: int) -> Node | None:
    """The join of a value that a join made and a smaller piece."""
    run = LOCAL.run
    if len(nodes) != 2 or run.hold or run.level is not None: return None
    old, piece = nodes
    room, line, more = getattr(old, "apart", None), old.line, piece.line
    if old.buf is None or room is None and line.op is not mv.cat or line.dtype is not more.dtype or run.grad and (line.grad or more.grad): return None
    count, added = line.shape[axis], more.shape[axis]
    shape = (*line.shape[:axis], count + added, *line.shape[axis + 1:])
    if 2 * added > count or mv.cat.layout(axis, shape, line, more) is not None: return None
    flush()                                    # a window that knew the length would be another one for every length
    if any([n.buf is None or n.buf.__class__ is Poison for n in nodes]): return None
    run.stats.looks += 1
    if room is None or room.axis != axis or not room.take(count, added):
        room = Room(shape, line.dtype, axis)
        room.take(0, count + added)
        room.write(old, 0)
    room.write(piece, count)
    n = room.value(0, count + added)
    n.apart = room
    return n
