"""Random numbers of a launch, and what PTX leaves to chance."""
from __future__ import annotations

from ..layout import *
from ..native import absolute, f64, i64, shift_right, to_f64


def random(B):
    """xorshift, 62 bits."""
    x = i64[B, RANDOM]
    x ^= x << 13
    x ^= shift_right(x, 7)
    x ^= x << 17
    i64[B, RANDOM] = x
    return shift_right(x, 2)


def approximated(B, x: f64, relative: f64, fixed: f64) -> f64:
    """x, off by at most |x| * relative + fixed where the launch wants that."""
    if i64[B, APPROXIMATE] == 0 or x - x != 0.0: return x
    part = to_f64(random(B) & 0xFFFFF) / 524288.0 - 1.0
    return x + part * (absolute(x) * relative + fixed)
