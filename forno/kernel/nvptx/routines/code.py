"""Idioms of a GPU's threads, for kernels that have their own control flow.

Comes in: a Python function that writes one kernel for one thread. Goes out: DeviceLaunches. `Device` is the CPU routines' `Code` inside a kernel of a GPU:
the same values with Python's operators, operands and words by number; besides, who am I (`thread`, `each`, `each_block`), what the threads of a warp or
of a block tell each other (`up`, `from_lane`, `block_scan`), memory of a block (`room`).

Words are numbered as on the CPU: operands' places come first, so that bodies written for it can be used here, where a thread has one piece of work.
"""
from __future__ import annotations

import functools
from contextlib import contextmanager
from dataclasses import replace

from ....core import dtype as dt
from ....core.kernels import DeviceLaunch, Native
from ....cpu import nvptx
from ....cpu.isa import Isa
from ...builder import HALVES
from ...routines.code import Code, X
from ...text import TYPES, Val
from ..abi import ALL, LATE, WARP, DeviceKernel

THREADS = 256
MOST_BLOCKS = 1 << 20                          # beyond that, threads take several pieces of work in turn


class Body(DeviceKernel):
    def __init__(self, operands, isa: Isa, threads: int):
        self.isa, self.threads_per_block = isa, threads
        super().__init__(operands)


class Device(Code):
    """Writes one kernel of `threads` threads per block."""

    def __init__(self, operands, isa: Isa, threads: int):
        self.b, self.operands, self.threads, self.taken = Body(operands, isa, threads), operands, threads, 0

    def kernel(self, name: str): return self.b.body(name)

    # ---- the ABI
    def operand(self, k: int) -> X: return X(self, self.b.base(k))
    def word(self, i) -> X: return X(self, self.b.word("word", i - len(self.operands)))
    def scratch(self) -> X: return X(self, self.b.word("scratch"))
    def report(self, index: X, size: X): self.b.report(index.v, size.v)

    def address(self, p: X) -> X: return X(self, self.b.emit(f"ptrtoint ptr {p.v.text} to i64", dt.int64))

    def barrier(self):
        """All threads of the block have come here and see each other's writes."""
        self.b.barrier()

    def checked(self, index: X, size, low) -> X:
        """index in [low, size), negative ones counted from the end; any other is reported and read as 0."""
        return self.tested(index, size, low)[0]

    def tested(self, index: X, size, low) -> tuple[X, X]:
        """(the same, whether it was in range)"""
        size = self.i64(size)
        bad = (index < low) | (index >= size)
        with self.when(bad): self.report(index, size)
        return bad.where(0, index + (index < 0).where(size, 0)), ~bad

    # ---- who am I
    @property
    def thread(self) -> X: return X(self, self.b.special("tid.x"))

    @property
    def block(self) -> X: return X(self, self.b.special("ctaid.x"))

    @property
    def lane(self) -> X: return self.thread & (WARP - 1)

    @property
    def first(self) -> X:
        """This thread's number among all."""
        return self.block * self.threads + self.thread

    def each(self, n):
        """One thread for each of n pieces of work."""
        return self.loop(self.first, n, X(self, self.b.special("nctaid.x")) * self.threads)

    def each_block(self, n):
        """One block for each of n pieces of work. All its threads come along, so that they may meet inside."""
        return self.loop(self.block, n, X(self, self.b.special("nctaid.x")))

    def each_warp(self, n):
        """One warp for each of n pieces of work."""
        return self.loop(self.first >> 5, n, X(self, self.b.special("nctaid.x")) * (self.threads // WARP))

    def across(self, n): return self.loop(self.thread, n, self.threads)

    def share(self, n: X) -> tuple[X, X]:
        """Bodies of the CPU that walk their part [lo, hi) of the work: one piece each. The grid must have a thread for every piece."""
        return self.first, (self.first + 1).min(n)

    # ---- values
    def either_of(self, condition: X, then, other):
        """A branch with results, X or tuples of them; only one of the two functions' code runs."""
        def values(write): return lambda: tuple(x.v for x in write())
        return tuple(X(self, v) for v in self.b.choose(condition.v, values(then), values(other)))

    def all_of(self, condition: X, xs, others) -> tuple: return tuple(condition.where(x, y) for x, y in zip(xs, others))

    # ---- lanes of a warp
    def _shuffled(self, how: str, x: Val, by: Val, limit: int) -> Val:
        t = x.dtype
        if x.parts: return self.b.pair(*(self._shuffled(how, p, by, limit) for p in x.parts))
        if t.size < 4:
            bits = self.b.bitcast(x, dt.uint16) if t in HALVES else x
            return self.b.bitcast(self.b.cast(self._shuffled(how, self.b.cast(bits, dt.uint32), by, limit), bits.dtype), t)
        if t.size == 8:
            both = self.b.emit(f"bitcast {x} to <2 x i32>", dt.int32, 2)
            low, high = (self._shuffled(how, self.b.extract(both, i), by, limit) for i in (0, 1))
            both = self.b.insert(self.b.insert(Val("poison", dt.int32, 2), low, 0), high, 1)
            return self.b.emit(f"bitcast {both} to {TYPES[t]}", t)
        out = self.b.call(f"llvm.nvvm.shfl.sync.{how}.i32", dt.int32, ALL, self.b.bitcast(x, dt.int32), by, Val(str(limit), dt.int32))
        return self.b.bitcast(out, t)

    def up(self, x: X, by: int) -> X:
        """x of the lane `by` before this one; the first `by` lanes keep theirs."""
        return X(self, self._shuffled("up", x.v, Val(str(by), dt.int32), 0))

    def from_lane(self, x: X, lane) -> X:
        """x of one lane."""
        by = lane.to(dt.int32).v if isinstance(lane, X) else Val(str(lane), dt.int32)
        return X(self, self._shuffled("idx", x.v, by, 31))

    def ballot(self, x: X) -> X:
        """The lanes of the warp that say yes, as bits of an int64."""
        return X(self, self.b.cast(self.b.call("llvm.nvvm.vote.ballot.sync", dt.uint32, ALL, x.v), dt.int64))

    def over_warp(self, state: tuple, combine) -> tuple:
        """The states of a warp's lanes combined, for all of them. The order in which they are is a lane's own: it must not matter."""
        for k in range(5): state = combine(state, tuple(X(self, self.b.butterfly(x.v, 1 << k)) for x in state))
        return state

    # ---- memory of a block
    def room(self, nbytes: int) -> X:
        """The block's memory: asked for once, before it is used."""
        return X(self, self.b.shared_memory(nbytes))

    # ---- threads of a block
    def block_scan(self, state: tuple, combine, nothing: tuple, room: X) -> tuple[tuple, tuple]:
        """(the states of the threads before this one combined in order, those of all threads). All threads of the block come here.

        `room`: 16 bytes per warp and value of the state, this scan's own. A scan may follow another at once.
        """
        warps, lane = self.threads // WARP, self.lane
        state, exclusive = self._lanes(state, combine, nothing, WARP)
        if warps == 1: return exclusive, tuple(self.from_lane(x, WARP - 1) for x in state)
        places = [self.at(room, 16 * warps * i) for i in range(len(state))]
        self.barrier()                         # what was read of an earlier one is read
        with self.when(lane.eq(WARP - 1)):
            for x, p in zip(state, places): self.store(x, p, self.thread >> 5)
        self.barrier()
        of_warp = tuple(self.load(p, x.dtype, lane & (warps - 1)) for x, p in zip(state, places))
        until, before = self._lanes(of_warp, combine, nothing, warps)
        lead = tuple(self.from_lane(x, self.thread >> 5) for x in before)
        return combine(lead, exclusive), tuple(self.from_lane(x, warps - 1) for x in until)

    def _lanes(self, state: tuple, combine, nothing: tuple, n: int) -> tuple[tuple, tuple]:
        """(the first lanes' states combined up to each one, up to the one before it), a power of two lanes."""
        lane = self.lane
        for k in range(n.bit_length() - 1):
            behind = combine(tuple(self.up(x, 1 << k) for x in state), state)
            state = self.all_of(lane >= 1 << k, behind, state)
        return state, self.all_of(lane.eq(0), nothing, tuple(self.up(x, 1) for x in state))

    @contextmanager
    def forever_while(self, condition):
        """with c.forever_while(lambda: x < y): …"""
        with self.forever() as leave:
            leave(~condition())
            yield


def blocks(n: int, threads: int = THREADS) -> int: return max(1, min(MOST_BLOCKS, -(-n // threads)))


@functools.cache
def program(name: str, write, operands: tuple, isa: Isa, threads: int, structure: tuple) -> tuple[str, tuple]:
    """(PTX, what its words mean) of the kernel whose body `write(c, *structure)` writes."""
    c = Device(operands, isa, threads)
    with c.kernel(name): write(c, *structure)
    return nvptx.ptx(c.text(), name, isa), tuple(c.b.keys)


def stage(n: Native, isa: Isa, write, structure: tuple, words, count: int, threads: int = THREADS, scratch: int = 0) -> DeviceLaunch:
    """A launch of `count` blocks; words are numbered from 0."""
    name = write.__name__.strip("_")
    ptx, keys = program(name, write, n.operands, isa, threads, structure)
    late = tuple((k, key[0]) for k, key in enumerate(keys) if key[0] in LATE)
    moved = sum(o.dtype.size for o in n.operands) * n.work
    return DeviceLaunch(name, ptx, tuple(0 if key[0] in LATE else int(words[key[1]]) for key in keys), (max(count, 1), 1, 1), (threads, 1, 1),
                        late=late, scratch=scratch, bytes=moved)


def chain(stages: list[DeviceLaunch], scratch: int = 0) -> DeviceLaunch:
    """Launches one after the other, with scratch that all of them see."""
    return replace(stages[0], then=tuple(stages[1:]), scratch=max(scratch, *(s.scratch for s in stages)))


__all__ = ["MOST_BLOCKS", "THREADS", "WARP", "Device", "blocks", "chain", "program", "stage"]
