"""Which file the dynamic loader of Linux would take for a library, and why: ld.so's search, without loading anything.

Comes in: a Host and a library to load. Goes out: everything that comes with it, each with its file, the rule that found it and the files that would have been next.
Source: ld.so(8), "dynamic linker search order", and glibc's elf/dl-load.c.
"""
from __future__ import annotations

import struct
from dataclasses import dataclass, field
from functools import cached_property
from os.path import dirname, join, normpath

from .elf import Library
from .host import Host

WORDS = {"x86_64": ("lib64", "x86_64-linux-gnu"), "aarch64": ("lib64", "aarch64-linux-gnu")}
CAPABILITIES = {"x86_64": ("x86-64-v4", "x86-64-v3", "x86-64-v2")}
MAGIC, OLD_MAGIC = b"glibc-ld.so.cache1.1", b"ld.so-1.7.0\0"
MOST = 5000                                    # libraries that one load brings


@dataclass
class Found:
    """`rule`: "RPATH", "LD_LIBRARY_PATH", "RUNPATH", "ld.so.cache", "default", "path" or "loaded" (another one of this name was there first); `by`: the file that
    needs it; `others`: (rule, file) that a later rule would have found. `path`: None, nothing was found."""
    name: str
    path: str | None
    rule: str | None
    by: str | None
    others: list[tuple[str, str]] = field(default_factory=list)


class Loader:
    """Of one process: libraries that are loaded are found again by their names."""

    def __init__(self, host: Host, environment: dict | None = None):
        self.host, self.environment = host, host.environment if environment is None else environment
        self.loaded: dict[str, Found] = {}
        self.levels = CAPABILITIES.get(host.machine, ())

    @cached_property
    def cache(self) -> dict[str, list[str]]:
        """/etc/ld.so.cache: names to files, in its order; what is for other machines is left out where the files are read."""
        found: dict[str, list[str]] = {}
        data = self.host.bytes("/etc/ld.so.cache") or b""
        start = data.find(MAGIC)
        if start < 0: return found
        try:
            count, _ = struct.unpack_from("<II", data, start + len(MAGIC))
            for k in range(min(count, (len(data) - start - 48) // 24)):
                _, key, value, *_ = struct.unpack_from("<iIIIQ", data, start + 48 + 24 * k)
                name, path = (data[start + at:data.index(b"\0", start + at)].decode("utf-8", "replace") for at in (key, value))
                found.setdefault(name, []).append(path)
        except (struct.error, ValueError): pass
        return found

    @cached_property
    def defaults(self) -> list[str]:
        lib, triplet = WORDS.get(self.host.machine, ("lib64", ""))
        return [*(f"/{a}/{triplet}" for a in ("lib", "usr/lib") if triplet), f"/{lib}", f"/usr/{lib}", "/lib", "/usr/lib"]

    def load(self, path: str) -> dict[str, Found]:
        """All that comes with a library, breadth first, as the loader does it."""
        todo = [(path, None, ())]
        self._note(path, Found(path.rsplit("/", 1)[-1], path, "path", None))
        while todo and len(self.loaded) < MOST:
            here, _, chain = todo.pop(0)
            library = self.host.library(here)
            if library is None: continue
            for name in library.needed:
                if name in self.loaded: continue
                found = self.search(name, here, library, chain)
                self._note(name, found)
                if found.path is not None: todo.append((found.path, here, ((here, library), *chain)))
        return self.loaded

    def _note(self, name: str, found: Found):
        self.loaded[name] = found
        library = self.host.library(found.path) if found.path else None
        if library is not None and library.soname: self.loaded.setdefault(library.soname, found)

    def search(self, name: str, by: str, library, chain=()) -> Found:
        """A library that `by` needs; `chain`: (file, library) of those that needed `by`, the nearest first."""
        if "/" in name: return Found(name, name if self.host.exists(name) else None, "path", by)
        hits = [(rule, path) for rule, folders in self.rules(by, library, chain) for path in self._in(folders, name)]
        if name in self.cache: hits[len(hits):] = [("ld.so.cache", p) for p in self.cache[name] if self._fits(p)]
        hits += [("default", p) for p in self._in(self.defaults, name)]
        unique = list({self.host.real(p): (rule, p) for rule, p in reversed(hits)}.values())[::-1]
        if not unique: return Found(name, None, None, by)
        return Found(name, unique[0][1], unique[0][0], by, unique[1:])

    def outside(self, name: str) -> Found:
        """A library that a program asks for by name while it runs (dlopen)."""
        return self.search(name, "", Library())

    def rules(self, by: str, library, chain) -> list[tuple[str, list[str]]]:
        """Folders in the order in which they are searched."""
        out = []
        if not library.runpath:
            for file, x in ((by, library), *chain):
                if x.rpath and not x.runpath: out.append(("RPATH", self.expanded(x.rpath, file)))
        paths = self.environment.get("LD_LIBRARY_PATH")
        if paths: out.append(("LD_LIBRARY_PATH", self.expanded(paths.replace(";", ":").split(":"), by)))
        out.append(("RUNPATH", self.expanded(library.runpath, by)))
        return out

    def expanded(self, folders, file: str) -> list[str]:
        lib = WORDS.get(self.host.machine, ("lib64", ""))[0]
        words = {"ORIGIN": dirname(self.host.real(file) or file), "LIB": lib, "PLATFORM": self.host.machine}
        out = []
        for folder in folders:
            for word, value in words.items(): folder = folder.replace(f"${{{word}}}", value).replace(f"${word}", value)
            out.append(normpath(folder or "."))
        return out

    def _in(self, folders, name: str):
        for folder in folders:
            for place in (*(join(folder, "glibc-hwcaps", level) for level in self.levels), folder):
                path = join(place, name)
                if self.host.exists(path) and self._fits(path): yield path

    def _fits(self, path: str) -> bool:
        """Is it a library for this machine? Others are passed over."""
        library = self.host.library(path)
        return library is not None and library.machine == self.host.machine
