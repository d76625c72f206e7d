"""Checked memory. Every access of a kernel comes here first and gets a host address, or 0 after a fault.

Shared memory has a shadow: per granule (the smallest access the kernel makes) the last writer and two readers, each with the thread and its warp's time.
An access is ordered after another one if the same thread made it, or if its warp has learned of that time: at a barrier of the block, or at
bar.warp.sync. Other warp collectives (shfl, vote, mma) order nothing, as in PTX's memory model. A warp sync with part of the lanes counts as one of all:
that can hide a race, it never invents one. Atomic, volatile and relaxed accesses do not race with each other.
"""
from __future__ import annotations

from ..layout import *
from ..native import copy, fill, i64, less, shift_right, u32
from .chance import random
from .races import note_global

_RECORD = 12                                   # bytes: writer, reader, another reader; each time << 12 | pending << 11 | strong << 10 | thread


def fault(B, T, kind, address, info):
    """Notes the first fault of a launch; always 0."""
    if i64[B, FAULT] == 0:
        i64[B, FAULT] = kind
        i64[B, FAULT_ADDRESS] = address
        i64[B, FAULT_INFO] = info
        i64[B, FAULT_THREAD] = i64[T, LINEAR]
    return 0


def global_access(B, T, address, info):
    size = info & 255
    starts = i64[B, STARTS]
    ends = i64[B, ENDS]
    at = i64[B, LAST]
    if less(address, i64[starts, at]) or less(i64[ends, at] - size, address):
        low = 0
        high = i64[B, COUNT]
        while low < high:                                        # the last allocation that starts at or below
            middle = (low + high) >> 1
            if less(address, i64[starts, middle]): high = middle
            else: low = middle + 1
        at = low - 1
        if at < 0: return fault(B, T, OUT_OF_BOUNDS, address, info)
        if less(i64[ends, at], address + size): return fault(B, T, OUT_OF_BOUNDS, address, info)
        i64[B, LAST] = at
    if address & (size - 1): return fault(B, T, MISALIGNED, address, info)
    if i64[B, GLOBAL_SHADOW]:
        other = note_global(B, T, at, address, info)
        if other:
            fault(B, T, GLOBAL_RACE, address, info)
            i64[B, FAULT_OTHER] = other
            return 0
    seen = i64[B, TOUCHED] + at * 32
    if info & WRITES:
        if less(address, i64[seen, 2]): i64[seen, 2] = address
        if less(i64[seen, 3], address + size): i64[seen, 3] = address + size
    if (info & WRITES) == 0 or info & ATOMIC:
        if less(address, i64[seen]): i64[seen] = address
        if less(i64[seen, 1], address + size): i64[seen, 1] = address + size
    return address - i64[B, DELTA]


def shared_place(B, T, address, info):
    """Bounds and alignment alone."""
    size = info & 255
    if less(i64[B, SHARED_SIZE], size): return fault(B, T, SHARED_BOUNDS, address, info)
    if less(i64[B, SHARED_SIZE] - size, address): return fault(B, T, SHARED_BOUNDS, address, info)
    if address & (size - 1): return fault(B, T, MISALIGNED, address, info)
    return i64[B, SHARED] + address


def shared_access(B, T, address, info):
    """Everything: bounds, alignment, races, uninitialised reads."""
    host = shared_place(B, T, address, info)
    if host == 0: return 0
    if note(B, T, address, info & 255, info): return 0
    return host


def now(B, T): return i64[i64[B, CLOCKS] + i64[T, WARP] * 256, i64[T, WARP]] + 1


def knows(B, T, record):
    """Is what a record says ordered before this thread's next access?"""
    thread = record & 1023
    if thread == i64[T, LINEAR]: return 1
    return shift_right(record, 12) <= i64[i64[B, CLOCKS] + i64[T, WARP] * 256, thread >> 5]


def note(B, T, address, size, info):
    """Checks an access of shared memory against the shadow and writes it there; 1 after a fault."""
    granule = i64[B, GRANULE]
    at = i64[B, SHADOW] + (address >> granule) * _RECORD
    end = i64[B, SHADOW] + ((address + size - 1) >> granule) * _RECORD
    strong = (info & (STRONG | ATOMIC)) != 0
    record = now(B, T) << 12 | strong << 10 | i64[T, LINEAR]
    while at <= end:
        writer = u32[at]
        if writer & 2048: return conflict(B, T, NOT_LANDED, writer, address, info)
        if (info & WRITES) == 0 and writer == 0 and i64[B, POISON]:
            return 1 - fault(B, T, UNINITIALIZED, address, info)
        if writer != 0 and not (strong and writer & 1024):
            if knows(B, T, writer) == 0: return conflict(B, T, RACE, writer, address, info)
        if info & WRITES:
            for i in range(1, 3):
                reader = u32[at, i]
                if reader != 0 and not (strong and reader & 1024):
                    if knows(B, T, reader) == 0: return conflict(B, T, RACE, reader, address, info)
            if strong == 0:
                u32[at, 1] = 0
                u32[at, 2] = 0
            elif writer != 0 and writer & 1024 == 0:               # what is ordered before this atomic access must be so before the next ones, too
                u32[at, 2] = u32[at, 1]
                u32[at, 1] = writer
            u32[at] = record
        else:
            if u32[at, 1] != 0 and (u32[at, 1] & 1023) != (record & 1023): u32[at, 2] = u32[at, 1]
            u32[at, 1] = record
        at += _RECORD
    return 0


def conflict(B, T, kind, record, address, info):
    fault(B, T, kind, address, info)
    i64[B, FAULT_OTHER] = record & 1023
    return 1


def local_access(B, T, address, info):
    size = info & 255
    if less(i64[B, LOCAL_SIZE], address + size): return fault(B, T, LOCAL_BOUNDS, address, info)
    if address & (size - 1): return fault(B, T, MISALIGNED, address, info)
    return T + i64[B, LOCAL] + address


def generic_access(B, T, address, info):
    """A generic address lies in a window of its space, or is global."""
    window = shift_right(address, 24)
    if window == 1:
        if i64[B, SHADOW]: return shared_access(B, T, address - SHARED_WINDOW, info)
        return shared_place(B, T, address - SHARED_WINDOW, info)
    if window == 2: return local_access(B, T, address - LOCAL_WINDOW, info)
    if window == 3:
        if info & WRITES: return fault(B, T, READ_ONLY, address, info)
        return i64[B, PARAMS] + address - PARAM_WINDOW
    return global_access(B, T, address, info)


# ---- asynchronous copies: nothing arrives before it is waited for, so that a wait that is missing shows
def copy_start(B, T, target, source, amount, info):
    """cp.async of `info & 255` bytes, the first `amount` of them from global memory, the others zero. 1 after a fault."""
    size = info & 255
    if less(size, amount): return 1 - fault(B, T, COPY_SIZE, amount, info)
    if i64[T, PENDING] >= MAX_COPIES: return 1 - fault(B, T, TOO_MANY_COPIES, target, info)
    host = 0
    if amount > 0:
        if source & (size - 1): return 1 - fault(B, T, MISALIGNED, source, info)
        host = global_bytes(B, T, source, amount, info & ~WRITES)
        if host == 0: return 1
    if shared_place(B, T, target, info | WRITES) == 0: return 1
    if i64[B, SHADOW]:
        if note(B, T, target, size, info | WRITES): return 1
        at = i64[B, SHADOW] + (target >> i64[B, GRANULE]) * _RECORD
        end = i64[B, SHADOW] + ((target + size - 1) >> i64[B, GRANULE]) * _RECORD
        while at <= end:
            u32[at] = u32[at] | 2048
            at += _RECORD
    entry = copies_of(B, T) + i64[T, PENDING] * (COPY_WORDS * 8)
    i64[entry] = target
    i64[entry, 1] = host
    i64[entry, 2] = size
    i64[entry, 3] = amount
    i64[entry, 4] = i64[T, GROUP]
    i64[T, PENDING] = i64[T, PENDING] + 1
    return 0


def global_bytes(B, T, address, amount, info):
    """A checked read of any number of bytes: its first and its last."""
    host = global_access(B, T, address, (info & ~255) | 1)
    if host == 0: return 0
    if global_access(B, T, address + amount - 1, (info & ~255) | 1) == 0: return 0
    return host


def copies_of(B, T): return i64[B, COPIES] + (i64[T, LINEAR] if i64[B, WAITS] else 0) * (MAX_COPIES * COPY_WORDS * 8)


def copy_commit(B, T):
    i64[T, GROUP] = i64[T, GROUP] + 1
    return 0


def copy_wait(B, T, left):
    """Lands, in random order, the copies of all groups but the last `left`; -1: everything, committed or not."""
    newest = i64[T, GROUP] - left
    if left < 0: newest = i64[T, GROUP] + 1
    entries = copies_of(B, T)
    count = i64[T, PENDING]
    kept = 0
    start = random(B)
    for n in range(count):
        entry = entries + ((n + start) % count) * (COPY_WORDS * 8)
        if i64[entry, 4] < newest: land(B, T, entry)
    for n in range(count):
        entry = entries + n * (COPY_WORDS * 8)
        if i64[entry, 4] >= newest:
            move_entry(entries + kept * (COPY_WORDS * 8), entry)
            kept += 1
    i64[T, PENDING] = kept
    return 0


def move_entry(to, at):
    for i in range(COPY_WORDS): i64[to, i] = i64[at, i]
    return 0


def land(B, T, entry):
    target = i64[B, SHARED] + i64[entry]
    fill(target, 0, i64[entry, 2])
    if i64[entry, 3] > 0: copy(target, i64[entry, 1], i64[entry, 3])
    if i64[B, SHADOW]:
        at = i64[B, SHADOW] + (i64[entry] >> i64[B, GRANULE]) * _RECORD
        end = i64[B, SHADOW] + ((i64[entry] + i64[entry, 2] - 1) >> i64[B, GRANULE]) * _RECORD
        record = now(B, T) << 12 | i64[T, LINEAR]
        while at <= end:
            u32[at] = record
            at += _RECORD
    return 0
