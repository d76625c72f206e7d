"""Libraries of Windows, read as files: what they import, what they export, and GPU code inside. The counterpart of elf.py, with the same answer.

Source: "PE Format", Microsoft Learn: headers, section table, import and export directories.
"""
from __future__ import annotations

import mmap

from .elf import MOST_SYMBOLS, Broken, Library, Reader

MACHINES = {0x8664: "x86_64", 0xAA64: "aarch64", 0x14C: "x86"}
EXPORTS, IMPORTS, DELAYED = 0, 1, 13
MOST_LIBRARIES = 10_000


def read(path, symbols: bool = False) -> Library:
    """The library at a path; with the names that it exports and imports if asked for."""
    with open(path, "rb") as f:
        f.seek(0, 2)
        if f.tell() < 64: raise Broken("shorter than a header")
        with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data: return parse(data, symbols)


class Image(Reader):
    """A file whose addresses are those that it has in memory."""

    def __init__(self, data):
        super().__init__(data)
        if bytes(self.bytes(0, 2)) != b"MZ": raise Broken("no PE file")
        start, = self.unpack("<I", 60)
        if bytes(self.bytes(start, 4)) != b"PE\0\0": raise Broken("no PE file")
        self.machine, count, _, _, _, optional, _ = self.unpack("<HHIIIHH", start + 4)
        magic, = self.unpack("<H", start + 24)
        if magic != 0x20B: raise Broken("not 64 bits")
        entries, = self.unpack("<I", start + 24 + 108)
        self.directories = [self.unpack("<II", start + 24 + 112 + 8 * k) for k in range(min(entries, 16))]
        table = start + 24 + optional
        self.sections = [self.unpack("<8sIIII", table + 40 * k) for k in range(min(count, 96))]        # name, size, address, size in the file, place in the file

    def directory(self, which: int) -> tuple[int, int]: return self.directories[which] if which < len(self.directories) else (0, 0)

    def place(self, address: int) -> int:
        for _, size, start, there, at in self.sections:
            if start <= address < start + max(size, there): return at + address - start
        raise Broken(f"address {address:#x} lies in no section")


def parse(data, symbols: bool = False) -> Library:
    r = Image(data)
    out = Library(MACHINES.get(r.machine, str(r.machine)))
    imported: set[str] = set()
    left = MOST_SYMBOLS                        # tables may overlap: what is read is bounded in all
    for which, step, name_at, names_at in ((IMPORTS, 20, 12, 0), (DELAYED, 32, 4, 16)):
        at, _ = r.directory(which)
        for k in range(MOST_LIBRARIES if at else 0):
            entry = r.place(at) + step * k
            name, = r.unpack("<I", entry + name_at)
            if not name: break
            out.needed.append(r.text(r.place(name)))
            if which == DELAYED: out.delayed.append(out.needed[-1])
            if symbols:
                names = _names(r, r.unpack("<I", entry + names_at)[0] or r.unpack("<I", entry + 16)[0], left)
                left -= len(names)
                imported |= set(names)
    exported = _exports(r, out)
    if symbols: out.symbols = frozenset(exported), frozenset(imported - {""})
    out.fatbins = [(at, there) for name, _, _, there, at in r.sections if name.rstrip(b"\0") in (b".nv_fatb", b".nvFatBi")]
    return out


def _names(r: Image, address: int, most: int) -> list[str]:
    out: list[str] = []
    for k in range(most if address else 0):
        value, = r.unpack("<Q", r.place(address) + 8 * k)
        if not value: break
        out.append("" if value >> 63 else r.text(r.place(value) + 2))           # some are asked for by number
    return out


def _exports(r: Image, out: Library) -> set[str]:
    at, _ = r.directory(EXPORTS)
    if not at: return set()
    place = r.place(at)
    name, _, _, count, _, names = r.unpack("<IIIIII", place + 12)
    if count > MOST_SYMBOLS: raise Broken(f"{count} exports")
    if name: out.soname = r.text(r.place(name))
    if not count: return set()
    table = r.place(names)
    return {r.text(r.place(r.unpack("<I", table + 4 * k)[0])) for k in range(count)}
