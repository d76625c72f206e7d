"""GPU code inside a library: which architectures, as machine code or as PTX.

Comes in: a library and where its sections of GPU code lie. Goes out: how many containers hold each `Code`, and from that a list as the tables write it: "8.0", "9.0+PTX".
NVIDIA publishes no description; the layout is what its own `fatbinary` writes (CUDA 13): containers with magic BA55ED50 (header size at 6, payload size at 8), in them entries
(kind at 0, header size at 4, payload size at 8, architecture at 28, flags at 40). Only headers are read: of a library of 500 MB that is less than one.
"""
from __future__ import annotations

import mmap
from collections import Counter
from typing import NamedTuple

from .elf import Broken, Reader

MAGIC = b"\x50\xed\x55\xba"
KINDS = {1: "ptx", 2: "sass"}
VARIANTS = {0x100000: "a", 0x200000: "f"}      # code for one chip only, or for its family
MOST = 1_000_000                               # entries
SHARE = 4


class Code(NamedTuple):
    kind: str
    number: int
    variant: str = ""


def read(path, sections: list[tuple[int, int]]) -> Counter:
    """How many containers of a library hold each code."""
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if hasattr(mmap, "MADV_RANDOM"): data.madvise(mmap.MADV_RANDOM)        # headers are far apart: what lies between needn't come from the disk
        return count(data, sections)


def architectures(data, sections: list[tuple[int, int]]) -> set[tuple[str, int]]: return {(c.kind, c.number) for c in count(data, sections)}


def count(data, sections: list[tuple[int, int]]) -> Counter:
    r, found, entries = Reader(data), Counter(), 0
    for start, n in sections:
        at, end = start, min(start + n, r.size)
        while at + 16 <= end:
            if bytes(r.bytes(at, 4)) != MAGIC:
                at = data.find(MAGIC, at, end)             # containers are padded
                if at < 0: break
            _, _, header, payload = r.unpack("<IHHQ", at)
            if header < 16: raise Broken(f"GPU code at {at} makes no sense")
            entry, at, here = at + header, at + header + payload, set()
            while entry + 32 <= min(at, end):
                kind, _, size, body = r.unpack("<HHIQ", entry)
                entries += 1
                if entries > MOST or size < 32: raise Broken(f"GPU code at {entry} makes no sense")
                flags = r.unpack("<Q", entry + 40)[0] if size >= 48 else 0
                if kind in KINDS: here.add(Code(KINDS[kind], *r.unpack("<I", entry + 28), "".join(v for bit, v in VARIANTS.items() if flags & bit)))
                entry += size + body
            found.update(here)
            found[None] += 1
    return found


def listed(found: Counter) -> list[str]:
    """What a library was built for: what at least a quarter of its containers hold. The rest are single kernels and parts of other libraries that were linked in: in torch
    2.13's libtorch_cuda.so six architectures are in all of 449 containers, three more in 1 to 59."""
    enough = {c for c, n in found.items() if c is not None and SHARE * n >= found[None]}
    numbers = sorted({(c.number, c.variant) for c in enough})
    text = {key: f"{key[0] // 10}.{key[0] % 10}{key[1]}" for key in numbers}
    return [text[n, v] + ("+PTX" if Code("ptx", n, v) in enough else "") for n, v in numbers]
