"""Random numbers' state of each device: a seed, and how far its numbers were used.

Nothing is drawn here: `take` gives the numbers that one draw's kernel computes from (dnn/philox.py), and no other draw will have.
"""
from __future__ import annotations

import functools
import os
import struct
import threading

from ..core.errors import unsupported
from .allocator import CAPTURING

DEFAULT_SEED = 67280421310721
STEP = 4                                       # one draw's offset: PyTorch counts numbers, in fours
MASK = (1 << 32) - 1
TALL = 1 << 62                                 # makes a small number an object of its own, which a call that is remembered knows again; kernels read the bits below


class Philox:
    """A counter-based generator: every number is a function of (seed, offset, position)."""
    __slots__ = ("initial_seed", "offset")

    def __init__(self, seed: int | None = None): self.manual_seed(_seed[0] if seed is None else seed)

    def manual_seed(self, seed: int):
        """Any Python integer from -2^63 to 2^64 - 1."""
        if not -(1 << 63) <= seed < 1 << 64: raise ValueError(f"Overflow when unpacking long: seed {seed} needs more than 64 bits")
        self.initial_seed, self.offset = seed & (1 << 64) - 1, 0

    def seed(self) -> int:
        """Seeds from the system's entropy and tells with what."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self.initial_seed

    def take(self) -> tuple[int, int, int]:
        """(low half of the seed, high half, counter) of one draw. A graph would draw the same numbers whenever it runs."""
        if CAPTURING and threading.get_ident() in CAPTURING:
            raise unsupported("random numbers in a graph", device="cuda", instead="draw them before the capture, into a tensor that the graph reads")
        counter = self.offset
        self.offset += STEP
        return TALL + (self.initial_seed & MASK), TALL + (self.initial_seed >> 32), TALL + counter

    def get_state(self) -> bytes:
        """PyTorch's CUDAGeneratorImplState."""
        return struct.pack("<Qq", self.initial_seed, self.offset)

    def set_state(self, state: bytes):
        if len(state) not in (8, 16): raise RuntimeError("RNG state is wrong size")
        self.initial_seed, self.offset = struct.unpack("<Qq", state.ljust(16, b"\0"))


_seed = [DEFAULT_SEED]                         # of generators that nobody asked for yet
_known: list[Philox] = []


@functools.cache
def default(index: int) -> Philox:
    """The generator that a device's numbers come from where a call names none."""
    _known.append(Philox())
    return _known[-1]


def manual_seed_all(seed: int):
    """The default generators of all devices."""
    _seed[0] = seed
    for g in _known: g.manual_seed(seed)
