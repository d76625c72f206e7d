"""Running sums, products, extremes and log-sums along one axis, on a GPU.

Comes in: Natives with operands x and result, words (outer, n, inner), spec = (kind, operand's dtype, result's dtype, reverse), as the CPU's routines/scan.py,
whose steps and carries these are. Goes out: DeviceLaunches. Three forms, chosen by sizes alone:

  many lines, or short ones     a thread per line; where inner > 1 neighbours read neighbours. Log-sums of complex numbers, which need all registers, always
  few lines                     a block per line takes EACH elements per thread at a time; what came before is carried from chunk to chunk
  very few and long             lines are cut into parts: a launch finds every part's total, then each part begins with the total of those before it
"""
from __future__ import annotations

from ....core import dtype as dt
from ....core.kernels import DeviceLaunch, Native
from ....cpu.isa import Isa
from ...routines.code import X
from ...routines.scan import _kind, _rank
from .code import THREADS, WARP, Device, blocks, chain, stage

EACH = 4                                       # neighbours that a thread takes in turn
CHUNK = THREADS * EACH
MANY, SHORT = 1 << 14, 32                      # lines for a thread each; elements of a line that needs no more than a thread
PARTS = 256                                    # of a line, at most: one per thread


class Scan:
    """What is carried, and how. `reverse`: element k of a line, counted from its end."""

    def __init__(self, c: Device, kind: str, t: dt.dtype, out: dt.dtype, reverse: bool):
        self.c, self.t, self.out_type, self.reverse, self.smallest = c, t, out, reverse, kind == "cummin"
        self.step, self.carried, self.start = _kind(kind, t, out)
        self.x, self.out = c.operand(0), c.operand(1)
        self.outer, self.n, self.inner = (c.word(2 + k) for k in range(3))
        self.lines = self.outer * self.inner
        self.nothing = (c.const(0, self.carried), c.const(-1)) if self.start is None else (c.const(self.start[0], self.carried),)

    def combine(self, a: tuple, b: tuple) -> tuple:
        """What is carried behind a, then b. Extremes: the later of equal ones; position -1 is none."""
        if self.start is not None: return self.step(self.c, a, b[0], None)[0]
        later = (b[0] >= a[0]) & (b[1] >= 0)
        return self.c.all_of(later, b, a)

    def first(self, line: X) -> X: return line // self.inner * self.n * self.inner + line % self.inner

    def place(self, k: X) -> X: return self.n - 1 - k if self.reverse else k

    def state(self, first: X, k: X) -> tuple:
        i = self.place(k)
        x = self.c.load(self.x, self.t, first + i * self.inner)
        return (_rank(x, self.t, self.smallest), i) if self.start is None else (x.to(self.carried),)

    def put(self, state: tuple, first: X, k: X): self.c.store(state[-1].to(self.out_type), self.out, first + self.place(k) * self.inner)

    def variables(self, state: tuple) -> list: return [self.c.var(x) for x in state]

    def chunk(self, first: X, base: X, end: X) -> list[tuple]:
        """The states up to each of this thread's EACH elements of a chunk; what is beyond the end adds nothing."""
        c, states, total = self.c, [], self.nothing
        for e in range(EACH):
            k = base + c.thread * EACH + e
            total = c.all_of(k < end, self.combine(total, self.state(first, k.min(end - 1))), total)
            states.append(total)
        return states


def _scan_threads(c: Device, *spec):
    s = Scan(c, *spec)
    with c.each(s.lines) as line:
        first, carry = s.first(line), s.variables(s.nothing)
        with c.loop(0, s.n) as k:
            state = s.combine(tuple(v.now for v in carry), s.state(first, k))
            for v, x in zip(carry, state): v.set(x)
            s.put(state, first, k)


def _scan_blocks(c: Device, form: str, *spec):
    """form: 'whole' lines; 'totals' of parts only; 'parts', after the totals. Words: the scan's, then parts per line, elements per part."""
    s = Scan(c, *spec)
    parts, length = (c.word(5), c.word(6)) if form != "whole" else (c.const(1), s.n)
    room = c.room(16 * (THREADS // WARP) * len(s.nothing))
    with c.each_block(s.lines * parts) as unit:
        line, part = (unit // parts, unit % parts) if form != "whole" else (unit, c.const(0))
        first, begin = s.first(line), part * length
        end, lead = (begin + length).min(s.n), s.nothing
        if form == "parts": _, lead = c.block_scan(_before(s, line * parts, part, parts), s.combine, s.nothing, room)
        carry = s.variables(lead)
        with c.loop(begin, end, CHUNK) as base:
            states = s.chunk(first, base, end)
            before, total = c.block_scan(states[-1], s.combine, s.nothing, room)
            so_far = tuple(v.now for v in carry)
            before = s.combine(so_far, before)
            if form != "totals":
                for e, state in enumerate(states):
                    k = base + c.thread * EACH + e
                    with c.when(k < end): s.put(s.combine(before, state), first, k)
            for v, x in zip(carry, s.combine(so_far, total)): v.set(x)
        if form == "totals":
            with c.when(c.thread.eq(0)):
                for v, p in zip(carry, _totals(s, parts)): c.store(v.now, p, unit)


def _totals(s: Scan, parts: X) -> list[X]:
    """Where the parts' totals lie in scratch, one array per value that is carried."""
    return [s.c.at(s.c.scratch(), s.lines * parts * 16 * i) for i in range(len(s.nothing))]


def _before(s: Scan, first: X, part: X, parts: X) -> tuple:
    """The total of this thread's part, if it is before this one."""
    c, at = s.c, (s.c.thread).min(parts - 1) + first
    return c.all_of(c.thread < part, tuple(c.load(p, x.dtype, at) for p, x in zip(_totals(s, parts), s.nothing)), s.nothing)


def scan(n: Native, isa: Isa) -> DeviceLaunch:
    outer, size, inner = n.words
    lines = outer * inner
    if lines >= MANY or size <= SHORT or n.spec[0] == "logcumsumexp" and n.spec[2].is_complex: return stage(n, isa, _scan_threads, n.spec, n.words, blocks(lines, WARP), WARP)
    parts = min(PARTS, max(1, 1024 // max(lines, 1)), -(-size // (4 * CHUNK)))
    if parts < 2: return stage(n, isa, _scan_blocks, ("whole", *n.spec), n.words, lines)
    length = -(-size // (parts * CHUNK)) * CHUNK
    parts = -(-size // length)
    words, count = (*n.words, parts, length), lines * parts
    return chain([stage(n, isa, _scan_blocks, (form, *n.spec), words, count) for form in ("totals", "parts")], 32 * count)


ROUTINES = {"scan": scan}
