"""Random numbers' state of each device: a seed, and how far its numbers were used.

Nothing is drawn here: `take` gives the numbers that one draw's kernel computes from (dnn/philox.py), and no other draw will have. A draw in a graph that is captured
reads them from memory of the device (`Captured`), where each launch of the graph writes them anew: so replays draw what the program would have drawn.
"""
from __future__ import annotations

import os
import struct
import threading

from ..core.errors import unsupported
from ..gpu.names import NAMES
from . import devices, memory
from .allocator import CAPTURING

DEFAULT_SEED = 67280421310721
STEP = 4                                       # one draw's offset: PyTorch counts numbers, in fours
MASK = (1 << 32) - 1
TALL = 1 << 62                                 # makes a small number an object of its own, which a call that is remembered knows again; kernels read the bits below
_WORDS = struct.Struct("3q")


class Philox:
    """A counter-based generator: every number is a function of (seed, offset, position)."""
    __slots__ = ("initial_seed", "offset")

    def __init__(self, seed: int | None = None): self.begin(_seed[0] if seed is None else seed)

    def begin(self, seed: int):
        if not -(1 << 63) <= seed < 1 << 64: raise ValueError(f"Overflow when unpacking long: seed {seed} needs more than 64 bits")
        self.initial_seed, self.offset = seed & (1 << 64) - 1, 0

    def manual_seed(self, seed: int):
        """Any Python integer from -2^63 to 2^64 - 1. While a graph is captured, only the one that is there, which changes nothing."""
        if not capturing(): self.begin(seed)
        elif seed & (1 << 64) - 1 != self.initial_seed:
            raise RuntimeError("CUDAGeneratorImpl::set_current_seed can be called during stream capture only if new seed is the same as the original seed.")

    def seed(self) -> int:
        """Seeds from the system's entropy and tells with what."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self.initial_seed

    @property
    def words(self) -> tuple[int, int, int]:
        """(low half of the seed, high half, counter) as they are now."""
        return TALL + (self.initial_seed & MASK), TALL + (self.initial_seed >> 32), TALL + self.offset

    def take(self) -> tuple[int, int, int]:
        """(low half of the seed, high half, counter) of one draw on the host or outside of graphs."""
        if capturing():
            raise unsupported("random numbers that the host draws, in a graph", device="cuda", instead="draw them before the capture, into a tensor that the graph reads")
        words = self.words
        self.offset += STEP
        return words

    def clone(self) -> Philox:
        out = Philox(self.initial_seed)
        out.offset = self.offset
        return out

    def get_state(self) -> bytes:
        """PyTorch's CUDAGeneratorImplState."""
        return struct.pack("<Qq", self.initial_seed, self.offset)

    def set_state(self, state: bytes):
        if len(state) not in (8, 16): raise RuntimeError("RNG state is wrong size")
        if capturing():
            raise RuntimeError("the state of a CUDA generator can't be set while a graph is captured, as its numbers are those of replays "
                               "(checkpoint has preserve_rng_state=False for that)")
        self.initial_seed, self.offset = struct.unpack("<Qq", state.ljust(16, b"\0"))


# ---------------------------------------------------------------- in graphs
class Captured:
    """What one graph draws from one generator. `block`: three words of the device, as they are when a launch begins; `count`: how far a launch's draws go;
    `above`: what the floor above knows of the words."""
    __slots__ = ("state", "block", "count", "above")

    def __init__(self, state: Philox, index: int): self.state, self.block, self.count, self.above = state, memory.empty(_WORDS.size, NAMES[index]), 0, None

    def begin_launch(self, index: int, stream: int):
        """Queues the words for a launch of the graph, which draws on from where the generator is."""
        driver = devices.use(index)
        if driver.StreamIsCapturing(stream):
            raise unsupported("a replay within a capture, of a graph that draws random numbers", device="cuda", instead="replay the two graphs one after the other")
        words = _WORDS.pack(*self.state.words)
        if devices.attribute(driver, index, "pageable"):           # a copy would read the words when its turn comes; a fill has them in the call
            for k, w in enumerate(struct.unpack(f"{_WORDS.size // 4}I", words)): driver.MemsetD32Async(self.block.address + 4 * k, w, 1, stream)
        else: driver.MemcpyHtoDAsync(self.block.address, words, _WORDS.size, stream)        # read now: it isn't pinned
        self.state.offset += self.count


class Draws:
    """The draws of a graph that is captured on a device, by generator."""

    def __init__(self, index: int, states): self.index, self.states, self.made = index, [*states, default(index)], {}

    def of(self, state: Philox) -> Captured:
        if all([state is not s for s in self.states]): raise RuntimeError("Attempt to increase offset for a CUDA generator not in capture mode.")
        if id(state) not in self.made: self.made[id(state)] = Captured(state, self.index)
        return self.made[id(state)]

    def begin_launch(self, stream: int):
        for c in self.made.values(): c.begin_launch(self.index, stream)


UNDERWAY: dict[int, Draws] = {}                # thread -> those of what it captures


def capturing() -> bool:
    """Does this thread capture a graph?"""
    return bool(CAPTURING) and threading.get_ident() in CAPTURING


def within_graph(state: Philox) -> tuple[Captured, int]:
    """Where one draw in the graph that is captured begins: (the generator's words there, how far behind them)."""
    mine = UNDERWAY[threading.get_ident()].of(state)
    begin = mine.count
    mine.count += STEP
    return mine, begin


# ---------------------------------------------------------------- of devices
_seed = [DEFAULT_SEED]                         # of generators that nobody asked for yet
DEFAULTS: dict[int, Philox] = {}               # device -> where its numbers come from if a call names no generator


def default(index: int) -> Philox:
    if index not in DEFAULTS: DEFAULTS[index] = Philox()
    return DEFAULTS[index]


def manual_seed_all(seed: int):
    """The default generators of all devices."""
    for g in DEFAULTS.values(): g.manual_seed(seed)
    _seed[0] = seed
