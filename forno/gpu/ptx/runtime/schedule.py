"""Blocks and threads in random order, barriers, and the meeting of warps.

A compiled kernel runs one thread until it ends or must wait; `STEP` is its address. Kernels in which no thread ever waits need one frame. In others each
thread has its own, a random warp among those that can go on runs next, and its lanes run one after the other.
"""
from __future__ import annotations

from ..layout import *
from ..native import fill, i64, invoke, less, popcount, trailing_zeros
from .chance import random
from .collectives import perform
from .memory import copy_wait, fault


def run_grid(B):
    """All blocks, in a random order (an arithmetic one with a random step); 1 after a fault."""
    total = i64[B, BLOCKS]
    at = i64[B, BLOCK_START]
    for n in range(total):
        i64[B, BLOCK_ID] = at
        i64[B, CTA_X] = at % i64[B, GRID_X]
        rest = at // i64[B, GRID_X]
        i64[B, CTA_Y] = rest % i64[B, GRID_Y]
        i64[B, CTA_Z] = rest // i64[B, GRID_Y]
        if i64[B, SHARED_SIZE]:
            fill(i64[B, SHARED], 0xCB, i64[B, SHARED_SIZE])
            if i64[B, SHADOW]:
                fill(i64[B, SHADOW], 0, ((i64[B, SHARED_SIZE] >> i64[B, GRANULE]) + 1) * 12)
        if i64[B, WAITS]:
            fill(i64[B, CLOCKS], 0, 32 * 256)
            if run_together(B): return 1
        else:
            if run_apart(B): return 1
        at = (at + i64[B, BLOCK_FACTOR]) % total
    return 0


def begin(B, T, linear):
    """A thread's frame at its start."""
    fill(T, 0, i64[B, HEADER])
    x = i64[B, NTID_X]
    if x == i64[B, THREADS]: i64[T, TID_X] = linear
    else:
        i64[T, TID_X] = linear % x
        i64[T, TID_Y] = linear // x % i64[B, NTID_Y]
        i64[T, TID_Z] = linear // x // i64[B, NTID_Y]
    i64[T, LINEAR] = linear
    i64[T, LANE] = linear & 31
    i64[T, WARP] = linear >> 5
    if i64[B, LOCAL_SIZE]: fill(T + i64[B, LOCAL], 0xBA, i64[B, LOCAL_SIZE])
    return 0


def run_apart(B):
    T = i64[B, FRAMES]
    threads = i64[B, THREADS]
    step = i64[B, STEP]
    thread = random(B) % threads
    for n in range(threads):
        begin(B, T, thread)
        if invoke(step, B, T): return 1
        if i64[T, PENDING]: copy_wait(B, T, -1)
        thread += 1
        if thread == threads: thread = 0
    return 0


def run_together(B):
    threads = i64[B, THREADS]
    warps = i64[B, WARPS]
    fill(i64[B, BARRIERS], 0, 16 * BARRIER_WORDS * 8)
    for n in range(threads): begin(B, i64[B, FRAMES] + n * i64[B, STRIDE], n)
    ready = 0
    for w in range(warps):
        W = i64[B, WARP_TABLE] + w * (WARP_WORDS * 8)
        lanes = threads - w * 32
        if lanes > 32: lanes = 32
        i64[W, EXISTS] = (1 << lanes) - 1
        i64[W, READY] = (1 << lanes) - 1
        i64[W, ENDED] = 0
        ready |= 1 << w
    i64[B, LIVING] = threads
    while i64[B, LIVING]:
        w = pick(B, ready)
        W = i64[B, WARP_TABLE] + w * (WARP_WORDS * 8)
        before = i64[W, ENDED]
        if run_warp(B, w, W): return 1
        if i64[W, ENDED] != before:
            i64[B, LIVING] = i64[B, LIVING] - popcount(i64[W, ENDED] & ~before)
            if barriers(B): return 1
        if meet(B, w, W): return 1
        ready = 0
        for k in range(warps):
            if i64[i64[B, WARP_TABLE] + k * (WARP_WORDS * 8), READY]: ready |= 1 << k
        if ready == 0 and i64[B, LIVING]:
            ready = wake(B, warps)
            if ready == 0: return 1 - fault(B, first_waiting(B, threads), DEADLOCK, 0, 0)
    return 0


def pick(B, mask):
    """The number of a random bit of a mask."""
    skip = random(B) % popcount(mask)
    for n in range(skip): mask &= mask - 1
    return trailing_zeros(mask)


def frame(B, w, lane): return i64[B, FRAMES] + (w * 32 + lane) * i64[B, STRIDE]


def run_warp(B, w, W):
    """Every ready lane runs until it waits."""
    ready = i64[W, READY]
    i64[W, READY] = 0
    first = random(B) & 31
    for n in range(32):
        lane = (n + first) & 31
        if ready >> lane & 1:
            T = frame(B, w, lane)
            i64[T, WAIT] = EXIT
            if invoke(i64[B, STEP], B, T): return 1
            if i64[T, WAIT] == EXIT:
                if i64[T, PENDING]: copy_wait(B, T, -1)
                i64[W, ENDED] = i64[W, ENDED] | 1 << lane
            elif i64[T, WAIT] == BARRIER:
                if arrive(B, T, W, lane): return 1
            elif i64[T, WAIT] != ACTIVE:
                if i64[T, MASK] >> lane & 1 == 0: return 1 - fault(B, T, NO_MEMBER, i64[T, MASK], i64[T, PLACE] << 16)
    return 0


# ---- barriers of the block
def arrive(B, T, W, lane):
    number = i64[T, X]
    bar = i64[B, BARRIERS] + number * (BARRIER_WORDS * 8)
    wanted = i64[T, X + 1]
    flags = i64[T, X + 2]
    if less(15, number) or wanted & 31: return 1 - fault(B, T, BARRIER_MISUSE, number, i64[T, PLACE] << 16)
    kind = flags >> 4
    if i64[bar, ARRIVED] == 0:
        i64[bar, WANTED] = wanted
        i64[bar, REDUCTION] = kind
        i64[bar, RESULT] = 1 if kind == 1 else 0
        fill(bar + KNOWN * 8, 0, 256)
    if i64[bar, WANTED] != wanted or i64[bar, REDUCTION] != kind: return 1 - fault(B, T, BARRIER_MISUSE, number, i64[T, PLACE] << 16)
    i64[bar, ARRIVED] = i64[bar, ARRIVED] + 1
    value = i64[T, X + 3]
    if kind == 1: i64[bar, RESULT] = i64[bar, RESULT] & value
    if kind == 2: i64[bar, RESULT] = i64[bar, RESULT] | value
    if kind == 3: i64[bar, RESULT] = i64[bar, RESULT] + value
    clock = i64[B, CLOCKS] + i64[T, WARP] * 256
    learn(clock, bar + KNOWN * 8, i64[T, WARP])
    if flags & ARRIVE_ONLY:                                          # what it does from here on is not known to who waits
        i64[clock, i64[T, WARP]] = i64[clock, i64[T, WARP]] + 1
        i64[W, READY] = i64[W, READY] | 1 << lane
    return opens(B, number, bar)


def learn(clock, known, warp):
    """What a warp knows, and all that it has done itself, goes into `known`."""
    for k in range(32):
        if i64[known, k] < i64[clock, k]: i64[known, k] = i64[clock, k]
    if i64[known, warp] <= i64[clock, warp]: i64[known, warp] = i64[clock, warp] + 1
    return 0


def barriers(B):
    """After threads have ended, nobody waits for them: opens every barrier whose threads have come."""
    for number in range(16):
        bar = i64[B, BARRIERS] + number * (BARRIER_WORDS * 8)
        if i64[bar, ARRIVED] and opens(B, number, bar): return 1
    return 0


def opens(B, number, bar):
    """Opens a barrier if its threads have come; 1 after a fault."""
    wanted = i64[bar, WANTED]
    if wanted == 0: wanted = i64[B, LIVING]
    if i64[bar, ARRIVED] > wanted: return 1 - fault(B, i64[B, FRAMES], BARRIER_MISUSE, number, 0)
    if i64[bar, ARRIVED] < wanted: return 0
    return release(B, number, bar)


def release(B, number, bar):
    """All go on, and know what all have done. An aligned barrier is one place per warp."""
    i64[bar, ARRIVED] = 0
    for w in range(i64[B, WARPS]):
        W = i64[B, WARP_TABLE] + w * (WARP_WORDS * 8)
        waiting = 0
        place = 0
        for lane in range(32):
            if i64[W, EXISTS] >> lane & 1 and (i64[W, ENDED] >> lane & 1) == 0:
                T = frame(B, w, lane)
                if i64[T, WAIT] == BARRIER and i64[T, X] == number and (i64[W, READY] >> lane & 1) == 0:
                    if waiting and i64[T, X + 2] & ALIGNED and place != i64[T, PLACE]: return 1 - fault(B, T, DIVERGENT, 0, i64[T, PLACE] << 16)
                    place = i64[T, PLACE]
                    waiting |= 1 << lane
                    aligned = i64[T, X + 2] & ALIGNED
        if waiting:
            if aligned and waiting != (i64[W, EXISTS] & ~i64[W, ENDED]):
                return 1 - fault(B, frame(B, w, trailing_zeros(waiting)), DIVERGENT, 0, place << 16)
            clock = i64[B, CLOCKS] + w * 256
            for k in range(32):
                if i64[clock, k] < i64[bar, KNOWN + k]: i64[clock, k] = i64[bar, KNOWN + k]
            for lane in range(32):
                if waiting >> lane & 1:
                    T = frame(B, w, lane)
                    i64[T, X] = i64[bar, RESULT]
                    i64[T, WAIT] = RUN
            i64[W, READY] = i64[W, READY] | waiting
    return 0


# ---- warps
def meet(B, w, W):
    """Performs every collective of a warp whose lanes have all come."""
    left = i64[W, EXISTS] & ~i64[W, ENDED] & ~i64[W, READY]
    while left:
        lane = trailing_zeros(left)
        left &= left - 1
        T = frame(B, w, lane)
        kind = i64[T, WAIT]
        if kind > BARRIER and kind != ACTIVE:
            lanes = i64[T, MASK] & i64[W, EXISTS] & ~i64[W, ENDED]
            come = 0
            others = lanes
            while others:
                k = trailing_zeros(others)
                others &= others - 1
                O = frame(B, w, k)
                if (i64[W, READY] >> k & 1) == 0 and i64[O, WAIT] == kind and i64[O, PLACE] == i64[T, PLACE]:
                    if i64[O, MASK] != i64[T, MASK]: return 1 - fault(B, O, DIVERGENT, 0, i64[O, PLACE] << 16)
                    come |= 1 << k
            if come == lanes:
                left &= ~lanes
                if perform(B, frame(B, w, 0), lanes, kind, T): return 1
                i64[W, READY] = i64[W, READY] | lanes
                others = lanes
                while others:
                    k = trailing_zeros(others)
                    others &= others - 1
                    i64[frame(B, w, k), WAIT] = RUN
    return 0


def wake(B, warps):
    """activemask: when nothing else can go on, lanes that wait for it at one place are what is active there."""
    for w in range(warps):
        W = i64[B, WARP_TABLE] + w * (WARP_WORDS * 8)
        place = -1
        together = 0
        for lane in range(32):
            T = frame(B, w, lane)
            if i64[W, EXISTS] >> lane & 1 and (i64[W, ENDED] >> lane & 1) == 0 and i64[T, WAIT] == ACTIVE:
                if place < 0: place = i64[T, PLACE]
                if place == i64[T, PLACE]: together |= 1 << lane
        if together:
            for lane in range(32):
                if together >> lane & 1:
                    i64[frame(B, w, lane), X] = together
                    i64[frame(B, w, lane), WAIT] = RUN
            i64[W, READY] = together
            return 1 << w
    return 0


def first_waiting(B, threads):
    for n in range(threads):
        T = i64[B, FRAMES] + n * i64[B, STRIDE]
        if i64[T, WAIT] != EXIT: return T
    return i64[B, FRAMES]
