"""Shared libraries of Linux, read as files and never loaded: what they need, where they look for it, what they offer and ask for, and GPU code inside.

Comes in: a path. Goes out: `Library`. Every number in the file is a claim: what points outside it, or is too many, ends the reading with `Broken`.
Source: System V ABI, chapters 4 and 5; the generic ABI's gABI 4.1 for dynamic sections; GNU's symbol versions.
"""
from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field

NEEDED, STRTAB, SYMTAB, SONAME, RPATH, RUNPATH, STRSZ, SYMENT = 1, 5, 6, 14, 15, 29, 10, 11
HASH, GNU_HASH = 4, 0x6FFFFEF5
VERDEF, VERDEFNUM, VERNEED, VERNEEDNUM = 0x6FFFFFFC, 0x6FFFFFFD, 0x6FFFFFFE, 0x6FFFFFFF
MACHINES = {62: "x86_64", 183: "aarch64", 3: "x86", 21: "ppc64le"}
MOST_SYMBOLS, LONGEST_NAME, MOST_VERSIONS = 4_000_000, 20_000, 10_000


class Broken(Exception):
    """Not a shared library, or a damaged one; says where."""


@dataclass
class Library:
    """`needed`: sonames, `delayed`: those of them that Windows loads when they are first used; `rpath`, `runpath`: lists of folders as written, with $ORIGIN; `fatbins`:
    (offset, size) of sections with GPU code, `texts`: of those with plain text; `asks`: names of versions that it needs, by the library that must have them, `offers`: those
    that it has; `symbols`: names that it defines, and that it asks for."""
    machine: str = ""
    soname: str = ""
    needed: list[str] = field(default_factory=list)
    delayed: list[str] = field(default_factory=list)
    rpath: list[str] = field(default_factory=list)
    runpath: list[str] = field(default_factory=list)
    fatbins: list[tuple[int, int]] = field(default_factory=list)
    texts: list[tuple[int, int]] = field(default_factory=list)
    asks: dict[str, list[str]] = field(default_factory=dict)
    offers: list[str] = field(default_factory=list)
    symbols: tuple[frozenset, frozenset] | None = None


class Reader:
    """A file's bytes, asked for by offset; nothing outside the file is ever read."""

    def __init__(self, data):
        self.data, self.size = data, len(data)

    def bytes(self, at: int, n: int):
        if at < 0 or n < 0 or at + n > self.size: raise Broken(f"{n} bytes at {at} of {self.size}")
        return self.data[at:at + n]

    def unpack(self, form: str, at: int) -> tuple: return struct.unpack(form, self.bytes(at, struct.calcsize(form)))

    def text(self, at: int) -> str:
        if not 0 <= at < self.size: raise Broken(f"a name at {at} of {self.size}")
        end = self.data.find(b"\0", at, min(at + LONGEST_NAME, self.size))
        if end < 0: raise Broken(f"a name without an end at {at}")
        return bytes(self.data[at:end]).decode("utf-8", "replace")


def read(path, symbols: bool = False) -> Library:
    """The library at a path; with its dynamic symbols if asked for (slower)."""
    with open(path, "rb") as f:
        f.seek(0, 2)
        if f.tell() < 64: raise Broken("shorter than a header")
        with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data: return parse(data, symbols)


def parse(data, symbols: bool = False) -> Library:
    r = Reader(data)
    ident = bytes(r.bytes(0, 16))
    if ident[:4] != b"\x7fELF": raise Broken("no ELF file")
    if ident[4] != 2 or ident[5] != 1: raise Broken("not 64 bits, little-endian")
    machine, = r.unpack("<H", 18)
    phoff, shoff, phsize, phnum, shsize, shnum, shstr = (*r.unpack("<QQ", 32), *r.unpack("<HHHHH", 54))
    out = Library(MACHINES.get(machine, str(machine)))
    segments = [r.unpack("<IIQQQQ", phoff + k * phsize) for k in range(phnum)] if phoff and phsize >= 40 else []
    loads = [(address, offset, n) for kind, _, offset, address, _, n in segments if kind == 1]
    dynamic = next(((offset, n) for kind, _, offset, _, _, n in segments if kind == 2), None)
    if dynamic is not None: _dynamic(r, out, *dynamic, loads, symbols)
    if shoff and shsize >= 64: out.fatbins, out.texts = _sections(r, shoff, shsize, shnum, shstr)
    return out


def _at(address: int, loads) -> int:
    """Where in the file an address lies."""
    for start, offset, n in loads:
        if start <= address < start + n: return offset + address - start
    raise Broken(f"address {address:#x} lies in no segment")


def _dynamic(r: Reader, out: Library, at: int, n: int, loads, symbols: bool):
    tags: dict[int, int] = {}
    needed = []
    for k in range(min(n // 16, 10_000)):
        tag, value = r.unpack("<qQ", at + 16 * k)
        if tag == 0: break
        if tag == NEEDED: needed.append(value)
        else: tags[tag] = value
    if STRTAB not in tags: return
    strings = _at(tags[STRTAB], loads)
    out.needed = [r.text(strings + x) for x in needed]
    if SONAME in tags: out.soname = r.text(strings + tags[SONAME])
    if RPATH in tags: out.rpath = _folders(r.text(strings + tags[RPATH]))
    if RUNPATH in tags: out.runpath = _folders(r.text(strings + tags[RUNPATH]))
    out.asks, out.offers = _asks(r, tags, strings, loads), _offers(r, tags, strings, loads)
    if symbols and SYMTAB in tags: out.symbols = _symbols(r, tags, strings, loads)


def _folders(text: str) -> list[str]: return text.split(":") if text else []     # nothing between two colons is the current folder


def _asks(r: Reader, tags, strings: int, loads) -> dict[str, list[str]]:
    """Versions that must be there: Verneed entries, each with a chain of Vernaux. Weak ones may be missing."""
    out: dict[str, list[str]] = {}
    at, left = _at(tags[VERNEED], loads) if VERNEED in tags else 0, MOST_VERSIONS
    for _ in range(min(tags.get(VERNEEDNUM, 0), MOST_VERSIONS) if at else 0):
        _, count, file, first, following = r.unpack("<HHIII", at)
        names, here = out.setdefault(r.text(strings + file), []), at + first
        for _ in range(count):
            _, flags, _, name, step = r.unpack("<IHHII", here)
            left -= 1
            if left < 0: raise Broken("too many versions")
            if not flags & 2: names.append(r.text(strings + name))
            if not step: break
            here += step
        if not following: break
        at += following
    return out


def _offers(r: Reader, tags, strings: int, loads) -> list[str]:
    """Versions that are defined here: Verdef entries, the first Verdaux of which is the name."""
    out = []
    at = _at(tags[VERDEF], loads) if VERDEF in tags else 0
    for _ in range(min(tags.get(VERDEFNUM, 0), MOST_VERSIONS) if at else 0):
        _, _, _, _, _, first, following = r.unpack("<HHHHIII", at)
        out.append(r.text(strings + r.unpack("<I", at + first)[0]))
        if not following: break
        at += following
    return out


def _symbols(r: Reader, tags, strings: int, loads) -> tuple[frozenset, frozenset]:
    """(defined, asked for and not weak)."""
    count = _symbol_count(r, tags, loads)
    if count > MOST_SYMBOLS: raise Broken(f"{count} symbols")
    table = r.bytes(_at(tags[SYMTAB], loads), 24 * count)
    defined, undefined = set(), set()
    for name, info, _, section, _, _ in struct.iter_unpack("<IBBHQQ", table):
        if name and (section or info >> 4 == 1): (defined if section else undefined).add(r.text(strings + name))
    return frozenset(defined), frozenset(undefined)


def _symbol_count(r: Reader, tags, loads) -> int:
    """The table doesn't say how long it is; hash tables do."""
    if HASH in tags: return r.unpack("<II", _at(tags[HASH], loads))[1]
    if GNU_HASH not in tags: return 0
    at = _at(tags[GNU_HASH], loads)
    buckets, first, bloom, _ = r.unpack("<IIII", at)
    if buckets > MOST_SYMBOLS: raise Broken(f"{buckets} buckets")
    chains = at + 16 + 8 * bloom + 4 * buckets
    last = max(r.unpack(f"<{buckets}I", chains - 4 * buckets), default=0)
    if last < first: return first
    while not r.unpack("<I", chains + 4 * (last - first))[0] & 1: last += 1
    return last + 1


def _sections(r: Reader, at: int, size: int, count: int, names: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Sections of GPU code, and of plain text. A library without section headers shows none."""
    if names >= count: return [], []
    strings, = r.unpack("<Q", at + names * size + 24)
    codes, texts = [], []
    for k in range(count):
        name, kind = r.unpack("<II", at + k * size)
        offset, n = r.unpack("<QQ", at + k * size + 24)
        title = r.text(strings + name) if kind != 8 else ""
        if title in (".nv_fatbin", "__nv_relfatbin"): codes.append((offset, n))
        elif title == ".rodata": texts.append((offset, n))
    return codes, texts


# ---------------------------------------------------------------- single symbols
def defined(path, names) -> set[str]:
    """Which of some names a library defines. Through its hash table, so that of 100,000 symbols only those few are looked at."""
    with open(path, "rb") as f:
        f.seek(0, 2)
        if f.tell() < 64: raise Broken("shorter than a header")
        with mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
            r = Reader(data)
            tags, loads = _tags(r)
            if GNU_HASH not in tags or STRTAB not in tags or SYMTAB not in tags:
                found = parse(data, symbols=True).symbols
                return set(names) & (found[0] if found else set())
            table = _Hash(r, _at(tags[GNU_HASH], loads))
            symbols, strings = _at(tags[SYMTAB], loads), _at(tags[STRTAB], loads)
            return {n for n in names if any(_is(r, symbols + 24 * k, strings, n) for k in table.candidates(n))}


def _tags(r: Reader) -> tuple[dict[int, int], list]:
    if bytes(r.bytes(0, 6)) != b"\x7fELF\2\1": raise Broken("no ELF file of 64 bits, little-endian")
    phoff, phsize, phnum = (*r.unpack("<Q", 32), *r.unpack("<HH", 54))
    segments = [r.unpack("<IIQQQQ", phoff + k * phsize) for k in range(phnum)] if phsize >= 40 else []
    loads = [(address, offset, n) for kind, _, offset, address, _, n in segments if kind == 1]
    at, n = next(((offset, n) for kind, _, offset, _, _, n in segments if kind == 2), (0, 0))
    return dict(r.unpack("<qQ", at + 16 * k) for k in range(min(n // 16, 10_000))), loads


def _is(r: Reader, at: int, strings: int, name: str) -> bool:
    start, _, _, section = r.unpack("<IBBH", at)
    return section != 0 and r.text(strings + start) == name


class _Hash:
    """GNU's hash table: numbers of symbols by their names."""

    def __init__(self, r: Reader, at: int):
        self.r = r
        self.count, self.first, bloom, _ = r.unpack("<IIII", at)
        self.buckets = at + 16 + 8 * bloom
        self.chains = self.buckets + 4 * self.count
        if not self.count: raise Broken("a hash table without buckets")

    def candidates(self, name: str):
        h = 5381
        for c in name.encode("utf-8", "surrogateescape"): h = (h * 33 + c) & 0xFFFFFFFF
        start, = self.r.unpack("<I", self.buckets + 4 * (h % self.count))
        for k in range(start, start + MOST_SYMBOLS if start >= self.first else start):
            here, = self.r.unpack("<I", self.chains + 4 * (k - self.first))
            if here | 1 == h | 1: yield k
            if here & 1: return
