"""Random numbers as functions of their position: Philox 4x32 with ten rounds (Salmon et al. 2011).

Comes in: positions, and three integers that no other draw has (two halves of a seed and a counter; bits above the ones that are meant are ignored). Goes out:
one variate per position. Nothing depends on how many threads draw or in which order, so every GPU gives the same numbers, and a draw fuses with what uses it.
"""
from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from ..core import dtype as dt
from ..core.op import Composite, Elementwise
from .elementwise import bitwise_right_shift, row, select

ROUNDS = 10
FACTORS, WEYL = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
WORD = (1 << 32) - 1


# ---------------------------------------------------------------- bits
def _block(b, index, low, high, counter) -> list:
    """The four words of a position, as uint32."""
    def first(x): return b.cast(x, dt.uint32)
    def second(x): return b.cast(b.shr(b.cast(x, dt.uint64), 32), dt.uint32)
    c, k = [first(index), second(index), first(counter), second(counter)], [first(low), first(high)]
    for _ in range(ROUNDS):
        p, q = (b.mul(b.cast(x, dt.uint64), f) for x, f in zip(c[::2], FACTORS))
        c = [b.xor(b.xor(second(q), c[1]), k[0]), first(q), b.xor(b.xor(second(p), c[3]), k[1]), first(p)]
        k = [b.add(x, w) for x, w in zip(k, WEYL)]
    return c


def _block_oracle(index, low, high, counter) -> list:
    word, half = np.uint64(WORD), np.uint64(32)
    i, low, high, counter = (np.asarray(x, np.int64).view(np.uint64) for x in (index, low, high, counter))
    c, k = [i & word, i >> half, counter & word, counter >> half], [low & word, high & word]
    for _ in range(ROUNDS):
        p, q = (x * np.uint64(f) for x, f in zip(c[::2], FACTORS))
        c = [(q >> half) ^ c[1] ^ k[0], q & word, (p >> half) ^ c[3] ^ k[1], p & word]
        k = [(x + np.uint64(w)) & word for x, w in zip(k, WEYL)]
    return c


def _bits(name: str, first: int) -> Elementwise:
    def emit(b, *xs):
        low, high = (b.cast(x, dt.uint64) for x in _block(b, *xs)[first:first + 2])
        return b.cast(b.or_(low, b.shl(high, 32)), dt.int64)

    def oracle(*xs):
        low, high = _block_oracle(*xs)[first:first + 2]
        return (low | high << np.uint64(32)).view(np.int64)
    return row(name, emit, oracle, rule=lambda kinds, default: dt.int64, types="i", names="", wraps=0)


philox, philox_more = _bits("philox", 0), _bits("philox_more", 2)
"""(position, low half of the seed, high half, counter) -> the first 64 of a block's 128 bits, and the other 64."""


# ---------------------------------------------------------------- variates
class Draw(NamedTuple):
    kind: str
    dtype: dt.dtype


_DIGITS = {dt.float16: 11, dt.bfloat16: 8, dt.float32: 24, dt.float64: 53}


def _shifted(x, n: int, digits: int):
    """`digits` bits of x from bit n on."""
    return x.row(bitwise_right_shift, n) & (1 << digits) - 1


def _unit(bits, dtype):
    """Numbers in [0, 1), equally far from each other, that `dtype` holds exactly, in the type it computes in."""
    n, work = _DIGITS[dtype], dtype.opmath
    whole = _shifted(bits, 64 - n, n)
    return (whole if n > 31 else whole.to(dt.int32)).to(work) * 2.0 ** -n


def _positive(bits, work):
    """Numbers in (0, 1] with more digits where they are small."""
    n = 53 if work is dt.float64 else 32
    return (_shifted(bits, 64 - n if n > 32 else 0, n).to(work) + 0.5) * 2.0 ** -n


def _normal(bits, more, work):
    """Box and Muller's: a radius and an angle."""
    turn = _unit(more, dt.float64) if work is dt.float64 else _shifted(bits, 32, 32).to(work) * 2.0 ** -32
    return (_positive(bits, work).log() * -2.0).sqrt() * (turn * (2 * math.pi)).cos()


def _waiting(bits, work):
    """Exponential variates of rate 1; none is 0."""
    return (-_positive(bits, work).log()).max(2.0 ** -(54 if work is dt.float64 else 25))


def _between(bits, dtype, low, high, gap):
    """[low, high): what is rounded to `high` starts again."""
    x = (_unit(bits, dtype) * gap + low).to(dtype)
    return select(x >= high, low, x).to(dtype)


def _expand(draw: Draw, index, low, high, counter, *numbers):
    kind, dtype = draw
    work, bits = dtype.opmath if dtype.category == dt.FLOAT else dt.float32, index.row(philox, low, high, counter)
    if kind == "bits": return bits
    if kind == "unit": return _unit(bits, dtype).to(dtype)
    if kind == "uniform": return _between(bits, dtype, *numbers)
    if kind == "bernoulli": return (_unit(bits, dt.float32) < numbers[0]).to(dtype)
    if kind == "few": return ((_shifted(bits, 0, 32) * numbers[0]).row(bitwise_right_shift, 32) + numbers[1]).to(dtype)
    if kind == "many": return ((bits.to(dt.uint64) % numbers[0]).to(dt.int64) + numbers[1]).to(dtype)
    if kind == "every": return (bits + numbers[0]).to(dtype)
    if kind == "exponential": return (_waiting(bits, work) / numbers[0]).to(dtype)
    if kind == "geometric": return (_waiting(bits, work) * numbers[0]).ceil().to(dtype)
    if kind == "cauchy": return (((_positive(bits, work) - 0.5) * math.pi).tan() * numbers[1] + numbers[0]).to(dtype)
    x = _normal(bits, index.row(philox_more, low, high, counter) if work is dt.float64 else None, work)
    if kind == "normal": x = x * numbers[1] + numbers[0]
    if kind == "log_normal": x = (x * numbers[1] + numbers[0]).exp()
    return x.to(dtype)


variates = Composite("variates", lambda draw, index, *numbers: (draw.dtype, index.shape), expand=_expand)
"""attr = a Draw. Operands: positions, three integers that are this draw's, then the numbers that its kind has:

unit        none: [0, 1)                          few, many   how many numbers (at most 2^31; fewer than 2^64), the first of them
uniform     low, high, their distance             every       what is added to all 64 bits
standard    none: N(0, 1)                         bits        none: int64
normal      mean, standard deviation              bernoulli   the probability of 1: a number, or a tensor
log_normal  of the logarithm: the same two        exponential the rate
cauchy      median, sigma                         geometric   -1 / log(1 - p)
"""
