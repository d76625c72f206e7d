"""Writes of many threads to one place: additions and extremes that L2 makes where the memory lies, one after the other in any order.

Comes in: a Device, a place in global memory, values. Goes out: instructions without a result. Extremes and sums of whole numbers are the same in any order, sums
that are rounded are not. What there is:

  integers of 4 and 8 bytes   sums, max, min; sums also in a block's memory
  float32                     sums
  float64                     sums, from compute capability 6.0 on
  float16                     sums, as pairs, from 7.0 on
  bfloat16                    sums, as pairs from 9.0 on; from 7.0 on, a word is exchanged if nobody has changed it meanwhile, else tried again
  complex numbers             sums of their parts
  16 bytes in one instruction float32, float16 and bfloat16, from 9.0 and PTX 8.1 on ("red.v4")
"""
from __future__ import annotations

from ....core import dtype as dt
from ....cpu.isa import Isa
from ...builder import HALVES
from ...routines.code import X
from ...text import PTR, TYPES
from .code import Device

SCOPE = 'syncscope("device") monotonic'
PAIR = {dt.float16: "f16x2", dt.bfloat16: "bf16x2"}
MINUS_ZERO = 0x8000                            # of either half type; adding it changes nothing


def combines(t: dt.dtype, mode: str, isa: Isa) -> bool:
    """Is there a way?"""
    if t.category == dt.INT: return t.size >= 4 and mode in ("sum", "amax", "amin")
    return mode == "sum" and t is not dt.complex32 and rounds(t) and isa.has({dt.float64: "red.f64", dt.float32: "fma"}.get(t.real, "cas.b16"))


def rounds(t: dt.dtype) -> bool:
    """Does the order show in the result?"""
    return t.category in (dt.FLOAT, dt.COMPLEX)


def widths(t: dt.dtype, isa: Isa) -> tuple[int, ...]:
    """How many neighbours one instruction adds to, the most first."""
    wide = (16 // t.size,) if isa.has("red.v4") and t in (dt.float32, *HALVES) else ()
    return (*wide, 2, 1) if t in HALVES else (*wide, 1)


def combine(c: Device, mode: str, x: X, out: X, at: X, numel: X):
    """x with element `at` of out's `numel`."""
    t, place = x.dtype, c.at(out, at, x.dtype)
    if t is dt.complex64 and c.b.isa.has("red.v4"): return _reduce(c, "add.v2.f32", place, [X(c, v) for v in x.v.parts])
    if x.v.parts:
        for i, part in enumerate(x.v.parts): combine(c, mode, X(c, part), out, at * 2 + i, numel)
    elif t in HALVES: _half(c, x, out, at, numel)
    else:
        name = "fadd" if t.is_floating_point else {"sum": "add", "amax": "max" if t.signed else "umax", "amin": "min" if t.signed else "umin"}[mode]
        c.b.emit(f"atomicrmw {name} ptr {place.v.text}, {x.v} {SCOPE}", t)


def tally(c: Device, x: X, room: X, at: X):
    """x to element `at` of a block's memory, which adds to 4 bytes at a time: of 8 the lower come first, and what carries goes to the upper."""
    place, unsigned = c.at(room, at, x.dtype), dt.uint32

    def added(part: X, half: int) -> X: return X(c, c.b.emit(f"atomicrmw add ptr {c.at(place, half, unsigned).v.text}, {part.v} {SCOPE}", unsigned))
    low = x.bits(unsigned) if x.dtype.size == 4 else x.to(unsigned)
    old = added(low, 0)
    if x.dtype.size == 8:
        rest = (x.bits(dt.uint64) >> 32).to(unsigned) + (old + low < old).to(unsigned)
        with c.when(rest.ne(0)): added(rest, 1)


def put(c: Device, x: X, out: X, at: X):
    """A store that others may make at the same time, of the same value."""
    place = c.at(out, at, x.dtype)
    for i, v in enumerate(x.v.parts or (x.v,)): c.b.put(f"store atomic {v}, ptr {c.at(place, i, v.dtype).v.text} {SCOPE}, align {v.dtype.size}")


# ---- neighbours
def neighbours(c: Device, t: dt.dtype, p: X, many: int, alike: bool) -> list[X]:
    """`many` elements from p on, as `add` wants them; `alike`: one element for all."""
    if alike:
        x = c.load(p, t)
        if t not in HALVES: return [x] * many
        bits = x.bits(dt.uint16).to(dt.uint32)
        return [bits | (bits << 16)] * (many // 2)
    return [X(c, v) for v in (c.b.load_wide(p.v, dt.uint32, many // 2) if t in HALVES else c.b.load_wide(p.v, t, many))]


def add(c: Device, t: dt.dtype, place: X, words: list[X]):
    """All of `neighbours`, to those at a place that is a multiple of their bytes."""
    if len(words) == 1: _pair(c, t, place, words[0])
    else: _reduce(c, f"add.noftz.v4.{PAIR[t]}" if t in HALVES else "add.v4.f32", place, words)


def _reduce(c: Device, what: str, place: X, values: list[X]):
    """PTX's red, where LLVM has no words for it."""
    letter = {dt.float32: "f", dt.uint32: "r"}[values[0].dtype]
    names = ", ".join(f"${i + 1}" for i in range(len(values)))
    if len(values) > 1: names = f"{{{names}}}"
    c.b.put(f'call void asm sideeffect "red.global.{what} [$0], {names};", "l,{",".join(letter * len(values))},~{{memory}}"'
            f'(ptr addrspace(1) {_global(c, place)}, {", ".join(str(x.v) for x in values)})')


# ---- halves
def _half(c: Device, x: X, out: X, at: X, numel: X):
    """GPUs add to pairs: the neighbour gets -0. The first or last of all, if its pair isn't there, goes alone."""
    place = c.at(out, at, x.dtype)
    odd = (c.address(place) >> 1) & 1
    with c.either(odd.ne(0).where(at > 0, at + 1 < numel)) as otherwise:
        bits = x.bits(dt.uint16).to(dt.uint32)
        _pair(c, x.dtype, c.at(place, odd * -2), odd.ne(0).where((bits << 16) | MINUS_ZERO, bits | (MINUS_ZERO << 16)))
        otherwise()
        _exchanged(c, place, dt.uint16, lambda old: (old.bits(x.dtype) + x).bits(dt.uint16))


def _pair(c: Device, t: dt.dtype, place: X, word: X):
    if t is dt.float16 or c.b.isa.has("red.bf16"): return _reduce(c, f"add.noftz.{PAIR[t]}", place, [word])
    def half(w: X, by: int) -> X: return (w >> by).to(dt.uint16).bits(t)
    def sum_of(w: X, by: int) -> X: return (half(w, by) + half(word, by)).bits(dt.uint16).to(dt.uint32)
    _exchanged(c, place, dt.uint32, lambda old: sum_of(old, 0) | (sum_of(old, 16) << 16))


def _exchanged(c: Device, place: X, t: dt.dtype, change):
    """The word there becomes change(word), tried again as long as somebody else comes in between."""
    old = c.var(X(c, c.b.emit(f"load atomic {TYPES[t]}, ptr {place.v.text} {SCOPE}, align {t.size}", t)), t)
    with c.forever() as leave:
        was = old.now
        found = _swapped(c, place, was, change(was))
        old.set(found)
        leave(found.eq(was))


def _swapped(c: Device, place: X, was: X, new: X) -> X:
    """What was there; if it is `was`, `new` is now."""
    kind = TYPES[was.dtype]
    if was.dtype.size == 2:                    # LLVM would take four bytes
        return X(c, c.b.emit(f'call {kind} asm sideeffect "atom.global.cas.b16 $0, [$1], $2, $3;", "=h,l,h,h,~{{memory}}"'
                             f"(ptr addrspace(1) {_global(c, place)}, {was.v}, {new.v})", was.dtype))
    both = c.b.emit(f"cmpxchg ptr {place.v.text}, {was.v}, {new.v} {SCOPE} monotonic", was.dtype)
    return X(c, c.b.emit(f"extractvalue {{ {kind}, i1 }} {both.text}, 0", was.dtype))


def _global(c: Device, place: X) -> str: return c.b.emit(f"addrspacecast ptr {place.v.text} to ptr addrspace(1)", PTR).text
