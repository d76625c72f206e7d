"""A plan's kernels in one native call.

Comes in: a plan's steps as addresses and words. Goes out: a `Table`, flat native arrays made once; `run(vals)` walks them. The caller runs serial steps
alone; a parallel step wakes the pool, and its end is the only barrier. A plan without parallel steps never touches a worker.

A kernel that meets a wrong index writes the error record; the walk stops after that step, as eager execution would, and `run` returns the record.
"""
from __future__ import annotations

import array
import ctypes
import itertools
import struct
import time
from typing import NamedTuple

from . import code, isa, memory, threads

QUICK = 50e-6                                  # plans shorter than this keep the GIL: releasing it costs little, getting it back from a busy thread 5 ms

_TEXT = """
declare i32 @clock_gettime(i32, ptr)

define internal i64 @now() #0 {
  %t = alloca [2 x i64], align 16
  %r = call i32 @clock_gettime(i32 CLOCK, ptr %t)
  %s = load i64, ptr %t
  %np = getelementptr i64, ptr %t, i64 1
  %n = load i64, ptr %np
  %sn = mul i64 %s, 1000000000
  %ns = add i64 %sn, %n
  ret i64 %ns
}

; call: pool, steps, first, last, times (null: none), walks begun. A step: kernel, words, parallel, unused. Returns the number of the step that failed plus 1, or 0.
define i64 @walk(ptr %call, ptr %vals) #0 {
entry:
  %pool = load ptr, ptr %call
  %steps.p = getelementptr i64, ptr %call, i64 1
  %steps = load ptr, ptr %steps.p
  %first.p = getelementptr i64, ptr %call, i64 2
  %first = load i64, ptr %first.p
  %last.p = getelementptr i64, ptr %call, i64 3
  %last = load i64, ptr %last.p
  %times.p = getelementptr i64, ptr %call, i64 4
  %times = load ptr, ptr %times.p
  %timed = icmp ne ptr %times, null
  %ctx = getelementptr i8, ptr %pool, i64 SERIAL
  %mystep = getelementptr i64, ptr %ctx, i64 STEP
  %error = getelementptr i8, ptr %pool, i64 ERROR
  %dispatch.p = getelementptr i8, ptr %pool, i64 DISPATCH
  %dispatch = load ptr, ptr %dispatch.p
  store i64 0, ptr %error
  %begun.p = getelementptr i64, ptr %call, i64 5
  %begun.n = load i64, ptr %begun.p
  %begun.n1 = add i64 %begun.n, 1
  store i64 %begun.n1, ptr %begun.p
  br i1 %timed, label %start, label %head
start:
  %t0 = call i64 @now()
  %t0.p = getelementptr i64, ptr %times, i64 %first
  store i64 %t0, ptr %t0.p
  br label %head
head:
  %i = phi i64 [ %first, %entry ], [ %first, %start ], [ %i1, %next ]
  %more = icmp slt i64 %i, %last
  br i1 %more, label %step, label %done
step:
  %s = getelementptr [4 x i64], ptr %steps, i64 %i
  %kernel = load ptr, ptr %s
  %words.p = getelementptr i64, ptr %s, i64 1
  %words = load ptr, ptr %words.p
  %parallel.p = getelementptr i64, ptr %s, i64 2
  %parallel = load i64, ptr %parallel.p
  %all = icmp ne i64 %parallel, 0
  br i1 %all, label %together, label %alone
together:
  call void %dispatch(ptr %pool, ptr %kernel, ptr %vals, ptr %words, i64 %i)
  br label %after
alone:
  store i64 %i, ptr %mystep
  call void %kernel(ptr %ctx, ptr %vals, ptr %words)
  br label %after
after:
  %i1 = add i64 %i, 1
  br i1 %timed, label %clock, label %check
clock:
  %t = call i64 @now()
  %t.p = getelementptr i64, ptr %times, i64 %i1
  store i64 %t, ptr %t.p
  br label %check
check:
  %bad = load i64, ptr %error
  %failed = icmp ne i64 %bad, 0
  br i1 %failed, label %stop, label %next
next:
  br label %head
stop:
  ret i64 %i1
done:
  ret i64 0
}

attributes #0 = { ATTRIBUTES }
"""


class Step(NamedTuple):
    """One kernel on its operands: `words` are the operands' positions in the value table, then the kernel's own numbers."""
    address: int
    words: tuple[int, ...]
    parallel: bool = False
    scratch: int = 0
    shared: int = 0


class Frame(NamedTuple):
    """One run's values: the bytes that kernels read, and the arena they point into."""
    vals: bytes
    arena: memory.Buffer | None


class Error(NamedTuple):
    code: int                                  # 1: index out of range; 2: a row's check failed, `index` says which
    index: int
    size: int
    step: int


def _walker():
    text = _TEXT
    for name, value in (("CLOCK", time.CLOCK_MONOTONIC), ("SERIAL", threads.AT["serial"]), ("ERROR", threads.AT["error"]), ("STEP", threads.STEP),
                        ("DISPATCH", threads.AT["dispatch"]), ("ATTRIBUTES", isa.attributes)):
        text = text.replace(name, str(value))
    address = code.load(text, "walk", 1, ("clock_gettime",))
    arguments = ctypes.c_int64, ctypes.c_void_p, ctypes.c_char_p
    return ctypes.CFUNCTYPE(*arguments)(address), ctypes.PYFUNCTYPE(*arguments)(address)


class Table:
    """The native form of a plan.

    The value table that kernels see is what the caller passes (`nvals` words: addresses of inputs and outputs, numbers), then one word per entry of
    `arena_offsets`: the address of that byte of the run's arena. So operand positions nvals, nvals + 1, … are intermediates.
    """
    _free = _held = None                       # the native function with the GIL released, and with it held; made at first use

    def __init__(self, steps, nvals: int, arena_bytes: int = 0, arena_offsets: tuple[int, ...] = ()):
        self.steps, self.nvals, self.arena_bytes, self.arena_offsets = [Step(*s) for s in steps], nvals, arena_bytes, tuple(arena_offsets)
        self._words = array.array("q", [w for s in self.steps for w in s.words])
        at, flat = self._words.buffer_info()[0], []
        for s in self.steps:
            flat += s.address, at, int(s.parallel), 0
            at += 8 * len(s.words)
        self._steps = array.array("q", flat)
        self._call = array.array("q", [0, self._steps.buffer_info()[0], 0, len(self.steps), 0, 0])
        self._call_address = self._call.buffer_info()[0]
        self._scratch = max((s.scratch for s in self.steps), default=0)
        self._shared = max((s.shared for s in self.steps), default=0)
        self._tail, self._tail_base = b"", -1
        self._trials, self._quickest = 3, 1.0
        if Table._free is None: Table._free, Table._held = _walker()
        self._native, self._pool, self._nbytes = Table._free, None, 8 * nvals

    def __len__(self): return len(self.steps)

    @property
    def begun(self) -> int:
        """Native walks so far. Python delivers an interrupt only after a walk it met: who sees this number change knows that the results are there."""
        return self._call[5]

    def error(self) -> Error | None:
        """The last walk's error record."""
        e = Error(*self._pool.error())
        return e if e.code else None

    def frame(self, vals: bytes) -> Frame:
        """Values with their arena. A plan that stops for host steps makes one frame and runs its parts on it."""
        if not self.arena_offsets: return Frame(vals, None)
        arena = memory.empty(self.arena_bytes)
        base = arena.address
        if base != self._tail_base:            # mostly the block of last time
            self._tail, self._tail_base = struct.pack(f"{len(self.arena_offsets)}q", *[base + o for o in self.arena_offsets]), base
        return Frame(vals + self._tail, arena)

    def run(self, vals: bytes) -> Error | None:
        """All steps; `vals` are struct.pack'ed 8-byte words. None, or what went wrong first."""
        if len(vals) != self._nbytes: raise RuntimeError(f"{len(vals)} bytes of values for a plan that takes {self.nvals} words")
        if self.arena_offsets: vals, _arena = self.frame(vals)         # _arena lives until the end of this call
        with threads.lock: return self._walk(vals)

    def run_part(self, frame: Frame, first: int, last: int) -> Error | None:
        """Steps first … last-1 on a frame."""
        with threads.lock:
            self._call[2], self._call[3] = first, last
            try: return self._walk(frame.vals)
            finally: self._call[2], self._call[3] = 0, len(self.steps)

    def _walk(self, vals: bytes) -> Error | None:
        pool = threads.pool()
        if pool is not self._pool:
            pool.reserve(self._scratch, self._shared)
            self._pool, self._call[0] = pool, pool.address
        failed = self._try(vals) if self._trials else self._native(self._call_address, vals)
        return Error(*pool.error()) if failed else None

    def _try(self, vals: bytes) -> int:
        """The first runs, timed: a plan that is always quick will keep the GIL from then on."""
        start = time.perf_counter()
        failed = self._free(self._call_address, vals)
        self._quickest = min(self._quickest, time.perf_counter() - start)
        self._trials -= 1
        if not self._trials and self._quickest < QUICK: self._native = Table._held
        return failed

    def timed(self, vals: bytes) -> tuple[Error | None, list[float]]:
        """A run with the seconds of each step."""
        times = array.array("q", [0] * (len(self.steps) + 1))
        with threads.lock:
            self._call[4] = times.buffer_info()[0]
            try: error = self.run(vals)
            finally: self._call[4] = 0
        return error, [max(b - a, 0) * 1e-9 for a, b in itertools.pairwise(times)]
