"""Which file the dynamic loader of Linux would take for a library, and why: ld.so's search, without loading anything.

Comes in: a Host, a program and what it loads. Goes out: everything that comes with it, each with its file, the rule that found it and the files that would have been next.
The order: what is loaded already (by name, soname or file); RPATH of the library that asks, of those that brought it and of the program, unless the asking one has a RUNPATH;
LD_LIBRARY_PATH; RUNPATH of the asking one alone; /etc/ld.so.cache; default folders. LD_PRELOAD and /etc/ld.so.preload come before all libraries.
Source: ld.so(8), and glibc's elf/dl-load.c (_dl_map_object, open_path, open_verify), elf/dl-cache.c, elf/rtld.c. Folders that glibc searched for a processor's name before 2.37
("tls", "haswell") are left out: nobody installs there.
"""
from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from posixpath import dirname, join, normpath

from .elf import Library
from .host import Host

TRIPLETS = {"x86_64": "x86_64-linux-gnu", "aarch64": "aarch64-linux-gnu"}
INTERPRETERS = {"x86_64": "/lib64/ld-linux-x86-64.so.2", "aarch64": "/lib/ld-linux-aarch64.so.1"}
SYSTEM_FOLDERS = re.compile(rb"(?:/[\w./+-]*lib[\w./+-]*/\0)+")                            # as ld.so holds its own default folders, one after the other
LEVELS = {"x86_64": (("x86-64-v4", "avx512f avx512bw avx512cd avx512dq avx512vl"), ("x86-64-v3", "avx avx2 bmi1 bmi2 f16c fma abm movbe xsave"),
                     ("x86-64-v2", "cx16 lahf_lm popcnt sse4_1 sse4_2 ssse3"))}           # folders in glibc-hwcaps, the best first; each needs those after it
MAGIC, EXTENSION_MAGIC = b"glibc-ld.so.cache1.1", 0xEAA42174
FLAGS = {"x86_64": 0x303, "aarch64": 0xA03}    # of an entry in the cache that is for this machine
BY_LEVEL = 1 << 62                             # an entry from a folder in glibc-hwcaps; its lower half says which
MOST = 5000                                    # libraries that one process brings


@dataclass
class Found:
    """`rule`: "RPATH", "LD_LIBRARY_PATH", "RUNPATH", "ld.so.cache", "default", "LD_PRELOAD", "path" (it was asked for by its place) or "loaded" (one of this name was
    there already); `by`: the file that needs it; `others`: (rule, file) that a later rule would have found. `path`: None, nothing was found. `broken`: the file that ends the
    search is no library: the loader doesn't go on behind it, and the process ends."""
    name: str
    path: str | None
    rule: str | None
    by: str | None
    others: list[tuple[str, str]] = field(default_factory=list)
    broken: bool = False


class Loader:
    """Of one process. `program`: what it runs; `loaded`: by name, soname and place, what it has."""

    def __init__(self, host: Host, environment: dict | None = None, program: str = ""):
        self.host, self.environment = host, host.environment if environment is None else environment
        self.loaded: dict[str, Found] = {}
        self.chains: dict[str, tuple] = {}     # file to (file, library) of itself and of those that brought it, the nearest first
        self._files: set[str | None] = set()   # what is loaded, without symbolic links
        self._names: dict[str, frozenset] = {}
        self.program = self.host.real(program) or "" if program else ""
        library = self.host.library(self.program) if self.program else None
        self.main = (self.program, library) if library is not None else None
        if self.main is not None: self._note(self.program, Found(program, self.program, "path", None), ())
        if program: self.preload()
        if self.main is not None: self._bring(self.program)

    # ---- what a process loads
    def preload(self):
        """What LD_PRELOAD and /etc/ld.so.preload put before all else."""
        listed = re.sub(r"#.*", "", self.host.text("/etc/ld.so.preload") or "")
        for name in [n for n in re.split(r"[ :]+", self.environment.get("LD_PRELOAD") or "") if n] + re.split(r"[\s:]+", listed):
            found = self.search(self.substituted(name, self.program), self.program, self.main[1] if self.main else Library()) if name else None
            if found is None or found.path is None or found.broken: continue               # the loader only says so and goes on
            if self._note(name, Found(found.name, found.path, "LD_PRELOAD", None), ()): self._bring(found.path)

    def load(self, path: str) -> dict[str, Found]:
        """A library by its place, with all that comes with it, breadth first, as the loader does it."""
        if self.host.exists(path) and self._note(path, Found(path.rsplit("/", 1)[-1], path, "path", None), ()): self._bring(path)
        return self.loaded

    def asked(self, name: str, by: str = "") -> Found:
        """What a library (or the program, "") gets that asks for a name while it runs; nothing is noted as loaded."""
        if name in self.loaded: return Found(name, self.loaded[name].path, "loaded", by or None, broken=self.loaded[name].broken)
        chain = self.chains.get(by) or ((by, self.host.library(by) or Library()),) if by else ()
        return self.search(name, by or self.program, chain[0][1] if chain else self.main[1] if self.main else Library(), chain[1:])

    outside = asked

    def branch(self) -> Loader:
        """The same process, to try something in."""
        other = copy(self)
        other.loaded, other.chains, other._files = dict(self.loaded), dict(self.chains), set(self._files)
        return other

    def _bring(self, path: str):
        """What a library needs, and what that needs; what isn't found is noted, too."""
        todo = [path]
        while todo and len(self.loaded) < MOST:
            here = todo.pop(0)
            chain = self.chains[here]
            for name in chain[0][1].needed:
                if name in self.loaded: continue
                found = self.search(name, here, chain[0][1], chain[1:])
                if self._note(name, found, chain): todo.append(found.path or "")

    def _note(self, name: str, found: Found, chain: tuple) -> bool:
        """Is a file new in this process? One that is there under another name isn't loaded again."""
        library = self.host.library(found.path) if found.path and not found.broken else None
        self.loaded[name] = found
        if library is None or found.path is None: return False
        if library.soname: self.loaded.setdefault(library.soname, found)
        real = self.host.real(found.path)
        if real in self._files: return False
        self._files.add(real)
        self.chains[found.path] = ((found.path, library), *chain)
        return True

    # ---- the search
    def search(self, name: str, by: str, library, chain=()) -> Found:
        """A library that `by` needs; `chain`: (file, library) of those that brought `by`, the nearest first."""
        if "/" in name:
            place = self.substituted(name, by)
            return Found(name, place if self.host.exists(place) else None, "path", by or None)
        hits = [(rule, path) for rule, folders in self.rules(by, library, chain) for path in self._in(folders, name)]
        hits += [("ld.so.cache", p) for p in self.cache.get(name, ())[:1] if self._verdict(p) is not None]
        hits += [("default", p) for p in self._in(self.defaults, name)]
        if not hits: return Found(name, None, None, by or None)
        rule, path = hits[0]
        if not self._verdict(path): return Found(name, path, rule, by or None, broken=True)
        unique: dict[str | None, tuple[str, str]] = {}
        for r, p in hits: unique.setdefault(self.host.real(p), (r, p))
        return Found(name, path, rule, by or None, list(unique.values())[1:])

    def rules(self, by: str, library, chain) -> list[tuple[str, list[str]]]:
        """Folders in the order in which they are searched, before the cache."""
        out = []
        if not library.runpath:
            above = [(by, library), *chain]
            if self.main is not None and self.main not in above: above.append(self.main)
            out += [("RPATH", self.expanded(x.rpath, file)) for file, x in above if x.rpath and not x.runpath]
        out.append(("LD_LIBRARY_PATH", self.library_path))
        out.append(("RUNPATH", self.expanded(library.runpath, by)))
        return out

    @cached_property
    def library_path(self) -> list[str]:
        """LD_LIBRARY_PATH's folders; colons and semicolons part them, and $ORIGIN there is where the program lies. Nothing between two colons is the current folder."""
        text = self.environment.get("LD_LIBRARY_PATH")
        return self.expanded(re.split("[:;]", text), self.program) if text else []

    def expanded(self, folders, file: str) -> list[str]:
        return [normpath(join(self.environment.get("PWD") or ".", self.substituted(f, file))) for f in folders]

    def substituted(self, text: str, file: str) -> str:
        """With ld.so's words replaced: $ORIGIN, $LIB, $PLATFORM, with or without braces."""
        if "$" not in text: return text
        words = {"ORIGIN": dirname(self.host.real(file) or file), "LIB": self.lib, "PLATFORM": self.host.machine}
        return re.sub(r"\$(?:{(ORIGIN|LIB|PLATFORM)}|(ORIGIN|LIB|PLATFORM)(?![A-Za-z0-9_]))", lambda m: words[m[1] or m[2]], text)

    def _in(self, folders, name: str) -> Iterator[str]:
        for folder in folders:
            inside = self._listed(folder)
            subfolders = [f"{folder}/glibc-hwcaps/{level}" for level in self.levels] if "glibc-hwcaps" in inside else []
            for place in (*subfolders, folder):
                if name in self._listed(place) and self._verdict(join(place, name)) is not None: yield join(place, name)

    def _listed(self, folder: str) -> frozenset:
        if folder not in self._names: self._names[folder] = frozenset(self.host.names(folder))
        return self._names[folder]

    def _verdict(self, path: str) -> bool | None:
        """True: the loader takes this file; None: it passes it over, because it can't be read or is for another machine; False: it is no library, and the loader gives up."""
        library = self.host.library(path)
        if library is not None: return True if library.machine == self.host.machine else None
        data = self.host.bytes(path)
        return None if data is None or data[:5] == b"\x7fELF\1" else False

    # ---- what a machine's loader was built with
    @cached_property
    def defaults(self) -> list[str]:
        """The last folders to be searched. They are written in ld.so itself; where that can't be read, as Debian or as everybody else has them."""
        m = SYSTEM_FOLDERS.search(self.host.bytes(INTERPRETERS.get(self.host.machine, "")) or b"")
        if m is not None: return [f.decode("utf-8", "replace").rstrip("/") for f in m[0].split(b"\0") if f]
        triplet = TRIPLETS.get(self.host.machine)
        if triplet and self.host.is_folder(f"/usr/lib/{triplet}") or self.host.is_folder(f"/lib/{triplet}"): return [f"/lib/{triplet}", f"/usr/lib/{triplet}", "/lib", "/usr/lib"]
        return ["/lib64", "/usr/lib64"] if self.host.is_folder("/usr/lib64") or self.host.is_folder("/lib64") else ["/lib", "/usr/lib"]

    @cached_property
    def lib(self) -> str:
        """What $LIB stands for: "lib/x86_64-linux-gnu" on Debian, "lib64" on Red Hat."""
        return re.sub(r"^/(usr/)?", "", self.defaults[0])

    @cached_property
    def levels(self) -> list[str]:
        """The folders in glibc-hwcaps that this processor may use, the best first."""
        m = re.search(r"^flags\s*:(.*)$", self.host.text("/proc/cpuinfo") or "", re.MULTILINE)
        has, out = set((m[1] if m else "").split()), []
        for level, needs in reversed(LEVELS.get(self.host.machine, ())):
            if not set(needs.split()) <= has: break
            out.insert(0, level)
        return out

    @cached_property
    def cache(self) -> dict[str, list[str]]:
        """/etc/ld.so.cache: names to files for this machine, the one that counts first: that of the best level, then the order in which ldconfig wrote them."""
        data = self.host.bytes("/etc/ld.so.cache") or b""
        start = data.find(MAGIC)
        ranked: dict[str, list[tuple[int, str]]] = {}
        if start < 0: return {}
        try: entries = list(_entries(data[start:], self.levels))
        except (struct.error, ValueError): return {}
        for flags, rank, name, path in entries:
            if flags == FLAGS.get(self.host.machine, flags) and rank is not None: ranked.setdefault(name, []).append((rank, path))
        return {name: [path for _, path in sorted(files, key=lambda f: f[0])] for name, files in ranked.items()}


def _entries(data: bytes, levels: list[str]) -> Iterator[tuple[int, int | None, str, str]]:
    """(flags, rank, name, file); rank: 0 is best, None: not for this processor."""
    count, _, _, extension = struct.unpack_from("<IIB3xI", data, len(MAGIC))
    names = _levels_of(data, extension)
    for k in range(min(count, (len(data) - 48) // 24)):
        flags, key, value, _, level = struct.unpack_from("<iIIIQ", data, 48 + 24 * k)
        rank: int | None = len(levels)
        if level & BY_LEVEL:
            named = names[level & 0xFFFFFFFF] if level & 0xFFFFFFFF < len(names) else ""
            rank = levels.index(named) if named in levels else None
        elif level: rank = None                # for a processor's name, as before glibc 2.33
        yield flags, rank, _text(data, key), _text(data, value)


def _levels_of(data: bytes, at: int) -> list[str]:
    """Names of levels from the cache's extension: sections of (kind, flags, place, size), of which kind 1 lists them."""
    if not at: return []
    magic, count = struct.unpack_from("<II", data, at)
    for k in range(min(count, 100) if magic == EXTENSION_MAGIC else 0):
        kind, _, place, size = struct.unpack_from("<IIII", data, at + 8 + 16 * k)
        if kind == 1: return [_text(data, x) for x, in struct.iter_unpack("<I", data[place:place + size // 4 * 4])]
    return []


def _text(data: bytes, at: int) -> str: return data[at:data.index(b"\0", at)].decode("utf-8", "replace")
