"""How a CPU kernel is called: `void name(ptr ctx, ptr vals, ptr words)`, and a builder that has read its arguments.

ctx, 8-byte words of one thread: thread number, threads taking part, private scratch, scratch shared by all, barrier function, error record, step; where its
part of the work begins and ends (of 2^WHOLE), and how much it had of the work that this is about, in the same measure (written, 0: it doesn't say).
vals: the plan's value table, addresses of buffers and numbers. words: positions in vals of the operands, then the kernel's own numbers.
"""
from __future__ import annotations

import struct
from contextlib import contextmanager

from ..core import dtype as dt
from ..core.kernels import Apply
from .builder import Builder
from .text import PTR, Val

TID, THREADS, PRIVATE, SHARED, BARRIER, ERROR, STEP, FROM, TO, DONE = range(10)
WHOLE = 20                                     # as in cpu/balance.py
INDEX_ERROR, CHECK_ERROR = 1, 2                # codes of the error record


class Kernel(Builder):
    """A Builder inside a kernel. `keys` collects what every word after the operands means; whoever launches turns keys into numbers."""

    def __init__(self, operands):
        super().__init__()
        self.operands, self.keys, self._words, self._bases = operands, [], {}, {}
        self.ctx, self.vals, self.words = (Val(f"%{n}", PTR) for n in ("ctx", "vals", "words"))

    @contextmanager
    def body(self, name: str):
        with self.function(name): yield self

    def context(self, field: int, t=dt.int64) -> Val: return self.load(self.offset(self.ctx, 8 * field), t)

    def word(self, *key) -> Val:
        """The run-time integer called `key`; read where it is first wanted, which must be the kernel's outermost level."""
        if key not in self._words:
            at = 8 * (len(self.operands) + len(self.keys))
            self.keys.append(key)
            self._words[key] = self.load(self.offset(self.words, at), dt.int64)
        return self._words[key]

    def base(self, k: int) -> Val:
        """Where operand k lies in memory."""
        if k not in self._bases: self._bases[k] = self.load(self._slot(k), PTR)
        return self._bases[k]

    def _slot(self, k: int) -> Val: return self.offset(self.vals, self.load(self.offset(self.words, 8 * k), dt.int64), dt.int64)

    def number(self, k: int, t) -> Val:
        """Operand k, a Python number of this run, as dtype t."""
        at, kind = self._slot(k), self.operands[k].dtype
        if kind.category == dt.COMPLEX:
            return self.cast(self.pair(self.load(at, dt.float64), self.load(self.offset(at, 8), dt.float64)), t)
        return self.cast(self.load(at, dt.float64 if kind.category == dt.FLOAT else dt.int64), t)

    def barrier(self):
        """All threads have come here and see each other's writes."""
        with self.if_(self.gt(self.context(THREADS), 1)):
            self.put(f"call void {self.context(BARRIER, PTR).text}({self.ctx})")

    def share(self, total, tell: bool = True) -> tuple[Val, Val]: return share(self, self.ctx, total, tell)

    def truncdiv_small(self, x: Val, y: Val) -> Val:
        """x // y for x >= 0 and y > 0: one instruction."""
        return self.emit(f"udiv i64 {x.text}, {y.text}", dt.int64)

    def report(self, index: Val, size: Val, code: int = INDEX_ERROR):
        """Write an error; the run goes on. Of a check: its row's position in the nest's body instead of an index."""
        record = self.context(ERROR, PTR)
        for i, x in enumerate((self.index(code), index, size, self.context(STEP))): self.store(x, self.offset(record, 8 * i))


def share(b: Builder, ctx: Val, total, tell: bool = True) -> tuple[Val, Val]:
    """This thread's part [lo, hi) of range(total). Parts differ by how quick threads are, and from run to run: no result may depend on them. Unless this
    is the smaller part of the kernel's work, `tell` says how much it is."""
    def bound(i): return b.emit(f"ashr i64 {b.add(b.mul(b.load(b.offset(ctx, 8 * i), dt.int64), total), 1 << WHOLE - 1).text}, {WHOLE}", dt.int64)
    lo, hi = bound(FROM), bound(TO)
    if tell: had(b, ctx, b.sub(hi, lo), total)
    return lo, hi


def had(b: Builder, ctx: Val, part: Val, total):
    """This thread has `part` of the `total` work, by which its speed is judged."""
    done = b.emit(f"udiv i64 {b.mul(part, 1 << WHOLE).text}, {b.intrinsic('umax', b.index(total), b.index(1)).text}", dt.int64)
    b.store(done, b.offset(ctx, 8 * DONE))


def float_word(x: float) -> int: return struct.unpack("<q", struct.pack("<d", x))[0]


def ours(v) -> bool:
    """Is what a body's value becomes written in forno's own source, so that its row's name says it all?"""
    return v.__class__ is not Apply or v.op.emit.__module__.startswith(__package__.partition(".")[0] + ".dnn.")
