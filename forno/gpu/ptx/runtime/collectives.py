"""What the lanes of a warp do together: shuffles, votes, matches, reductions, and the matrix fragments of ldmatrix and mma.

Operands and results lie in each lane's frame, from word X. `F` is the frame of lane 0, `lanes` those that take part.
"""
from __future__ import annotations

from ..layout import *
from ..native import bits, f64, i64, single, to_f32, to_f64, to_int, trailing_zeros, u16
from .memory import fault, shared_access, shared_place
from .numbers import F16, narrow, widen_half


def perform(B, F, lanes, kind, T):
    stride = i64[B, STRIDE]
    if kind <= SHFL_IDX: return shuffle(B, F, lanes, kind, stride)
    if kind <= VOTE_BALLOT: return vote(F, lanes, kind, stride)
    if kind <= MATCH_ALL: return match(F, lanes, kind, stride)
    if kind <= REDUX_FMAX: return redux(F, lanes, kind, stride)
    if kind == WARP_SYNC:
        clock = i64[B, CLOCKS] + i64[F, WARP] * 256
        i64[clock, i64[F, WARP]] = i64[clock, i64[F, WARP]] + 1
        return 0
    if kind == ELECT:
        leader = trailing_zeros(lanes)
        for lane in range(32):
            if lanes >> lane & 1:
                i64[F + lane * stride, X] = leader
                i64[F + lane * stride, X + 1] = lane == leader
        return 0
    if lanes != 0xFFFFFFFF: return 1 - fault(B, T, DIVERGENT, 0, i64[T, PLACE] << 16)
    if kind == MMA: return multiply(B, F, stride)
    return matrix(B, F, kind, stride)


def shuffle(B, F, lanes, kind, stride):
    for lane in range(32):
        if lanes >> lane & 1:
            T = F + lane * stride
            b = i64[T, X + 1] & 31
            clamp = i64[T, X + 2] & 31
            segment = i64[T, X + 2] >> 8 & 31
            last = lane & segment | clamp & ~segment
            j = lane
            inside = 1
            if kind == SHFL_UP:
                j = lane - b
                inside = j >= last
            if kind == SHFL_DOWN:
                j = lane + b
                inside = j <= last
            if kind == SHFL_BFLY:
                j = lane ^ b
                inside = j <= last
            if kind == SHFL_IDX:
                j = lane & segment | b & ~segment
                inside = j <= last
            if inside == 0: j = lane
            if lanes >> j & 1 == 0:
                fault(B, T, INACTIVE, 0, i64[T, PLACE] << 16)
                i64[B, FAULT_OTHER] = j
                return 1
            i64[T, X + 3] = i64[F + j * stride, X]
            i64[T, X + 4] = inside
    for lane in range(32):
        if lanes >> lane & 1:
            T = F + lane * stride
            i64[T, X] = i64[T, X + 3]
            i64[T, X + 1] = i64[T, X + 4]
    return 0


def vote(F, lanes, kind, stride):
    ballot = 0
    for lane in range(32):
        if lanes >> lane & 1 and i64[F + lane * stride, X]: ballot |= 1 << lane
    out = ballot
    if kind == VOTE_ALL: out = ballot == lanes
    if kind == VOTE_ANY: out = ballot != 0
    if kind == VOTE_UNI: out = ballot == lanes or ballot == 0
    for lane in range(32):
        if lanes >> lane & 1: i64[F + lane * stride, X] = out
    return 0


def match(F, lanes, kind, stride):
    for lane in range(32):
        if lanes >> lane & 1:
            equal = 0
            for k in range(32):
                if lanes >> k & 1 and i64[F + k * stride, X] == i64[F + lane * stride, X]: equal |= 1 << k
            i64[F + lane * stride, X + 2] = equal
    for lane in range(32):
        if lanes >> lane & 1:
            T = F + lane * stride
            i64[T, X] = i64[T, X + 2]
            if kind == MATCH_ALL:
                i64[T, X + 1] = i64[T, X + 2] == lanes
                if i64[T, X + 2] != lanes: i64[T, X] = 0
    return 0


def redux(F, lanes, kind, stride):
    out = i64[F + trailing_zeros(lanes) * stride, X]
    for lane in range(trailing_zeros(lanes) + 1, 32):
        if lanes >> lane & 1:
            x = i64[F + lane * stride, X]
            if kind == REDUX_ADD: out += x
            if kind == REDUX_AND: out &= x
            if kind == REDUX_OR: out |= x
            if kind == REDUX_XOR: out ^= x
            if kind == REDUX_MIN or kind == REDUX_MINU: out = x if x < out else out
            if kind == REDUX_MAX or kind == REDUX_MAXU: out = x if x > out else out
    for lane in range(32):
        if lanes >> lane & 1: i64[F + lane * stride, X] = out
    return 0


# ---- 8 × 8 matrices of 16-bit elements between shared memory and registers
def matrix(B, F, kind, stride):
    """X: address, X+1: how many, X+2: transposed, X+3: line; of stmatrix from X+4 the registers. Results from X."""
    count = i64[F, X + 1]
    flipped = i64[F, X + 2]
    scratch = i64[B, SCRATCH]
    info = 16 | i64[F, X + 3] << 16
    if kind == STMATRIX: info |= WRITES
    for row in range(count * 8):
        T = F + row * stride
        host = shared_access(B, T, i64[T, X], info) if i64[B, SHADOW] else shared_place(B, T, i64[T, X], info)
        if host == 0: return 1
        i64[scratch, row] = host
    for lane in range(32):
        T = F + lane * stride
        for m in range(count):
            low = lane >> 2
            if flipped:
                row = (lane & 3) * 2
                first = i64[scratch, m * 8 + row] + low * 2
                second = i64[scratch, m * 8 + row + 1] + low * 2
            else:
                first = i64[scratch, m * 8 + low] + (lane & 3) * 4
                second = first + 2
            if kind == LDMATRIX: i64[T, X + m] = u16[first] | u16[second] << 16
            else:
                u16[first] = i64[T, X + 4 + m]
                u16[second] = i64[T, X + 4 + m] >> 16
    return 0


# ---- matrix products m16 n8
(MMA_F16, MMA_BF16, MMA_TF32, MMA_S8, MMA_U8) = range(5)


def element(register, j, form) -> f64:
    if form == MMA_F16: return widen_half(register >> (16 * j) & 0xFFFF)
    if form == MMA_BF16: return to_f64(single((register >> (16 * j) & 0xFFFF) << 16))
    if form == MMA_TF32: return to_f64(single(register & 0xFFFFE000))
    byte = register >> (8 * j) & 255
    if form == MMA_S8 and byte > 127: byte -= 256
    return to_f64(byte)


def multiply(B, F, stride):
    """X: A's form | B's form << 4 | registers of B << 8 | (0 f32, 1 f16, 2 s32 accumulators) << 12 | saturate << 16; from X+1 the registers of A, B, C, one
    after the other. Sums are exact (float64) and rounded once. Results from X."""
    packed = i64[F, X]
    form = packed & 15
    other = packed >> 4 & 15
    blocks = packed >> 8 & 15
    result = packed >> 12 & 15
    each = 2
    if form == MMA_TF32: each = 1
    if form >= MMA_S8: each = 4
    a = i64[B, SCRATCH]
    b = a + 16 * 64 * 8
    for lane in range(32):
        T = F + lane * stride
        row = lane >> 2
        column = (lane & 3) * each
        for i in range(2 * blocks):
            for j in range(each):
                f64[a, (row + 8 * (i & 1)) * 64 + column + 4 * each * (i >> 1) + j] = element(i64[T, X + 1 + i], j, form)
        for i in range(blocks):
            for j in range(each):
                f64[b, row * 64 + column + 4 * each * i + j] = element(i64[T, X + 1 + 2 * blocks + i], j, other)
    depth = 4 * each * blocks
    for lane in range(32):
        T = F + lane * stride
        for i in range(4):
            left = a + ((lane >> 2) + 8 * (i >> 1)) * 512
            right = b + ((lane & 3) * 2 + (i & 1)) * 512
            total = 0.0
            for k in range(depth): total += f64[left, k] * f64[right, k]
            accumulate(T, i, total, result, X + 1 + 3 * blocks, packed >> 16)
        for i in range(4): i64[T, X + i] = i64[T, 28 + i]
    return 0


def accumulate(T, i, total: f64, result, C, saturate):
    """Result i of a lane, into words 28 to 31 of its frame, which nothing else uses."""
    if result == 0: i64[T, 28 + i] = bits(to_f32(total + to_f64(single(i64[T, C + i]))))
    elif result == 1:
        half = narrow(total + widen_half(i64[T, C + (i >> 1)] >> (16 * (i & 1)) & 0xFFFF), F16, 0)
        if i & 1: i64[T, 28 + (i >> 1)] = i64[T, 28 + (i >> 1)] | half << 16
        else: i64[T, 28 + (i >> 1)] = half
    else:
        c = i64[T, C + i] & 0xFFFFFFFF
        if c > 0x7FFFFFFF: c -= 1 << 32
        c += to_int(total)
        if saturate:
            if c > 0x7FFFFFFF: c = 0x7FFFFFFF
            if c < -0x80000000: c = -0x80000000
        i64[T, 28 + i] = c & 0xFFFFFFFF
    return 0
