"""What the planner reads: a graph of immutable values, one per primitive row application."""
from __future__ import annotations

from typing import NamedTuple

from .dtype import dtype
from .shape import View


class Scalar(NamedTuple):
    """A Python number of this run: its position among the run's numbers and its type. Its value is not known to the plan."""
    index: int
    type: type


class Value:
    """op(ins; attr): a tensor value. Its buffer, if it ever gets one, is dense with `strides` (None: row-major).

    An input has op None; `view` says how its elements lie in the buffer it was given (None: dense row-major), `number` which input it is.
    `device`: where it is to be; the planner is given values of one device only.
    """
    __slots__ = ("op", "ins", "attr", "dtype", "shape", "strides", "view", "number", "device")

    def __init__(self, op, ins, attr, dtype: dtype, shape: tuple[int, ...], strides=None, view: View | None = None, number: int = -1, device: str = "cpu"):
        self.op, self.ins, self.attr, self.dtype, self.shape = op, ins, attr, dtype, shape
        self.strides, self.view, self.number, self.device = strides, view, number, device

    def __repr__(self):
        name = f"input{self.number}" if self.op is None else self.op.name
        return f"{name}{'' if self.attr is None else f'[{self.attr}]'} : {self.dtype.name}{list(self.shape)}"


class Graph(NamedTuple):
    """One window's work: `outputs` must have buffers afterwards; inputs whose number is in `donated` may be overwritten once read."""
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    donated: frozenset[int]
    prefer: dict[int, int]                     # output number -> input number whose buffer it should take over if it can (parameters keep their address)
