"""Races on global memory within a launch: between threads, between blocks.

Per granule of every live allocation (the smallest access of global memory that the kernel makes): the last writer and two readers, each with its block,
thread and its warp's time. Blocks run one after the other here, but on the silicon at the same time: two of them that touch a place, one writing, race,
unless both accesses are atomic or otherwise strong. Threads of one block are ordered by its barriers, as in shared memory. A kernel with fences, acquires or
releases for the whole GPU may order its blocks by flags; there, only threads of the same block are compared.
"""
from __future__ import annotations

from ..layout import *
from ..native import i64, shift_right

_RECORD = 24                                   # bytes: writer, reader, another reader; each block << 32 | time << 12 | strong << 10 | thread


def clock_of(B, T): return i64[i64[B, CLOCKS] + i64[T, WARP] * 256, i64[T, WARP]] + 1


def ordered(B, T, record, strong):
    """May this thread's access go with an earlier one, of which one wrote?"""
    if record == 0 or (strong and record & 1024): return 1
    if shift_right(record, 32) != i64[B, BLOCK_ID]: return i64[B, FENCED]
    thread = record & 1023
    if thread == i64[T, LINEAR]: return 1
    return (shift_right(record, 12) & 0xFFFFF) <= i64[i64[B, CLOCKS] + i64[T, WARP] * 256, thread >> 5]


def note_global(B, T, allocation, address, info):
    """Checks an access of global memory against the shadow and writes it there. The record it conflicts with, or 0."""
    granule = i64[B, GLOBAL_GRANULE]
    base = i64[B, GLOBAL_SHADOW] + i64[i64[B, GLOBAL_OFFSETS], allocation] - shift_right(i64[i64[B, STARTS], allocation], granule) * _RECORD
    at = base + shift_right(address, granule) * _RECORD
    end = base + shift_right(address + (info & 255) - 1, granule) * _RECORD
    strong = (info & (STRONG | ATOMIC)) != 0
    record = i64[B, BLOCK_ID] << 32 | clock_of(B, T) << 12 | strong << 10 | i64[T, LINEAR]
    while at <= end:
        if ordered(B, T, i64[at], strong) == 0: return i64[at]
        if info & WRITES:
            if ordered(B, T, i64[at, 1], strong) == 0: return i64[at, 1]
            if ordered(B, T, i64[at, 2], strong) == 0: return i64[at, 2]
            if strong == 0:
                i64[at, 1] = 0
                i64[at, 2] = 0
            elif i64[at] != 0 and i64[at] & 1024 == 0:             # what is ordered before this atomic access must be so before the next ones, too
                i64[at, 2] = i64[at, 1]
                i64[at, 1] = i64[at]
            i64[at] = record
        else:
            before = i64[at, 1]
            if before != 0 and (before ^ record) & -4294966273 != 0: i64[at, 2] = before         # another block or thread
            i64[at, 1] = record
        at += _RECORD
    return 0
