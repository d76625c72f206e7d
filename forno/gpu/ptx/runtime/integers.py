"""Integer instructions that take more than a few of the host's."""
from __future__ import annotations

from ..native import shift_right


def bit_field(a, position, length, bits, signed):
    """bfe: `length` bits from `position`, sign-extended by the field's last bit (or the number's)."""
    position &= 255
    length &= 255
    if length == 0: return 0
    if signed:
        last = position + length - 1
        if last > bits - 1: last = bits - 1
        sign = a >> last & 1
        if position >= bits: return -sign
        field = a >> position
        if length > 63: return field
        field &= (1 << length) - 1
        if sign and length < 64: field |= -1 << length
        return field
    if position >= bits: return 0
    field = shift_right(a, position)
    if length > 63: return field
    return field & ((1 << length) - 1)


def bit_insert(a, b, position, length, bits):
    """bfi: the low `length` bits of a go into b at `position`."""
    position &= 255
    length &= 255
    if length == 0 or position >= bits: return b
    mask = -1 << position
    if position + length < 64: mask &= (1 << (position + length)) - 1
    return b & ~mask | a << position & mask


def permute(a, b, selector, mode):
    """prmt: four bytes chosen from eight."""
    both = a | b << 32
    out = 0
    for i in range(4):
        pick = selector >> (4 * i) & 15
        s = selector & 3
        if mode == 1: pick = s + i
        if mode == 2: pick = (s - i) & 7
        if mode == 3: pick = s
        if mode == 4: pick = s if s > i else i
        if mode == 5: pick = s if s < i else i
        if mode == 6: pick = (s & 1) * 2 + (i & 1)
        byte = shift_right(both, (pick & 7) * 8) & 255
        if pick & 8 and mode == 0: byte = 255 if byte & 128 else 0
        out |= byte << (8 * i)
    return out


def part(word, i, bits, signed):
    """Element i of a packed word."""
    x = word >> (i * bits) & ((1 << bits) - 1)
    if signed and x >> (bits - 1): x -= 1 << bits
    return x


def dp4a(a, b, c, signed_a, signed_b):
    for i in range(4): c += part(a, i, 8, signed_a) * part(b, i, 8, signed_b)
    return c


def dp2a(a, b, c, signed_a, signed_b, high):
    for i in range(2): c += part(a, i, 16, signed_a) * part(b, i + 2 * high, 8, signed_b)
    return c
