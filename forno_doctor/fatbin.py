"""GPU code inside a library: which architectures, as machine code or as PTX.

Comes in: a library's bytes and where its sections of GPU code lie. Goes out: {("sass", 75), ("ptx", 80) …}. NVIDIA publishes no description; the layout is what its own
`fatbinary` writes: containers with magic BA55ED50 (header size at 6, payload size at 8), in them entries (kind at 0, header size at 4, payload size at 8, architecture at 28).
"""
from __future__ import annotations

from .elf import Broken, Reader

MAGIC = b"\x50\xed\x55\xba"
KINDS = {1: "ptx", 2: "sass"}
MOST = 1_000_000                               # entries


def architectures(data, sections: list[tuple[int, int]]) -> set[tuple[str, int]]:
    r, found, count = Reader(data), set(), 0
    for start, n in sections:
        at, end = start, min(start + n, r.size)
        while at + 16 <= end:
            if bytes(r.bytes(at, 4)) != MAGIC:
                at = data.find(MAGIC, at, end)             # containers are padded
                if at < 0: break
            _, _, header, payload = r.unpack("<IHHQ", at)
            entry, at = at + header, at + header + payload
            while entry + 32 <= min(at, end):
                kind, = r.unpack("<H", entry)
                size, = r.unpack("<I", entry + 4)
                body, = r.unpack("<Q", entry + 8)
                if kind in KINDS: found.add((KINDS[kind], *r.unpack("<I", entry + 28)))
                count += 1
                if count > MOST or size < 32: raise Broken(f"GPU code at {entry} makes no sense")
                entry += size + body
            if header < 16: raise Broken(f"GPU code at {at} makes no sense")
    return found
