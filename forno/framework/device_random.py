"""Random numbers of a GPU: an engine with the CPU's methods that records rows instead of filling memory.

Comes in: what randoms.py asks of any engine. Goes out: lines, whose numbers (seed and counter) are the run's; a call that is said again takes new ones. In a graph
that is captured they are values of the device, which each launch of the graph finds anew.
Variates that no row draws (gamma, Poisson, binomial) are drawn on the host by an engine that this one seeds.
"""
from __future__ import annotations

import math

from ..core import dtype as dt
from ..core.shape import View, whole
from ..cudart import random as states
from ..dnn import movement as mv
from ..dnn.elementwise import add
from ..dnn.philox import Draw, variates
from ..graph.line import LOCAL, Node, record
from . import gathering
from .data import node_of
from .effects import refused
from .random_core import Engine
from .tensor import Tensor, on_device, owned, read

FEW = 1 << 31                                  # up to so many different integers 32 bits decide


class Target:
    """Where an engine of a GPU leaves what it drew, in place of an address: a flat node, None until there is one."""
    __slots__ = ("values",)

    def __init__(self): self.values = None


class DeviceEngine(Engine):
    """Philox. `state`: seed and offset (cudart/random.py). The CPU engine's methods check their arguments and end in `_run`."""

    def __init__(self, state: states.Philox): self.state = state

    initial_seed = property(lambda self: self.state.initial_seed)
    def manual_seed(self, seed: int): self.state.manual_seed(seed)
    def seed(self) -> int: return self.state.seed()
    def get_state(self) -> bytes: return self.state.get_state()
    def set_state(self, state: bytes): self.state.set_state(state)
    def random(self) -> int: return self.on_host().random()

    def on_host(self) -> Engine:
        """A CPU engine for one draw."""
        low, high, counter = [x & states.MASK for x in self.state.take()]
        return Engine((low ^ high * 0x9E3779B9 ^ counter * 0x85EBCA6B) & states.MASK)

    def rates(self, *_) -> tuple[int, int, int]:
        """The next draw's numbers. Whoever says a call again asks for them as for an optimizer's (effects.rates_now)."""
        return self.state.take()

    def variates(self, draw: Draw, n: int, *numbers) -> Node:
        taken = within_graph(self.state) if states.capturing() else self.noted()
        return record(variates, (record(mv.iota, (), (n, dt.int64, 0, 1)), *taken, *numbers), draw)

    def noted(self) -> tuple[int, int, int]:
        """The next draw's numbers, for the call that is watched."""
        taken, journal = self.rates(), LOCAL.run.journal
        if journal is not None: journal.rates.append((self, None, None, taken))
        return taken

    def _run(self, kind: str, spec: tuple, target: Target, *values, words=()):
        kind, numbers = asked(kind, values, words[1:])
        target.values = self.variates(Draw(kind, spec[0]), words[0], *numbers)

    def permutation(self, target: Target, n: int, dtype):
        """The order of random keys; two that are equal are all but impossible."""
        order = read(gathering.argsort(owned(self.variates(Draw("bits", dt.int64), n))))
        target.values = order if dtype is dt.int64 else record(mv.cast, (order,), dtype)


def within_graph(state: states.Philox) -> tuple[Node, Node, Node]:
    """A draw's numbers in a graph that is captured: what the device has of the generator when the graph is launched, and this draw's place behind that."""
    refused("it draws in a graph that is captured")
    drawn, begin = states.within_graph(state)
    if drawn.above is None: drawn.above = node_of(drawn.block, dt.int64, (3,))
    low, high, counter = (record(mv.view, (drawn.above,), View((1,), (1,), k)) for k in range(3))
    return low, high, record(add, (counter, begin))


def asked(kind: str, values: tuple, words: tuple) -> tuple[str, tuple]:
    """A fill of the CPU's engine as a kind of variates and its numbers."""
    if kind == "uniform": return ("unit", ()) if values == (0.0, 1.0) else ("uniform", (*values, values[1] - values[0]))
    if kind in ("normal", "normal_serial"): return ("standard", ()) if values == (0.0, 1.0) else ("normal", values)
    if kind == "integers":
        count, base = words
        return ("few" if count <= FEW else "many", words) if count < 1 << 64 else ("every", (base,))
    if kind == "geometric": return kind, (-1.0 / math.log1p(-values[0]),)
    if kind in ("cauchy", "log_normal"): return kind, values
    return kind.removesuffix("_each"), values[:1]        # bernoulli, exponential


def drawn(shape, dtype, fill, device: str) -> Tensor:
    """A tensor on a GPU of what `fill(target, count)` draws."""
    target = Target()
    fill(target, math.prod(shape))
    values = target.values
    if values is None: values = record(mv.full, (), ((0,), dtype, 0))      # nothing to draw
    elif dtype.is_complex: values = record(mv.bitcast, (values,), (dtype.real, dtype))
    return on_device(owned(record(mv.view, (values,), whole(shape))), device)
