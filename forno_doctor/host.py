"""The machine that is examined, as files, an environment and answers of programs. Nothing else in this package looks at the real one.

A Host may be a folder that stands for a machine: then files are those below it, symbolic links lead nowhere outside, and programs answer what its answers.json says.
Whatever isn't there, can't be read or takes too long is None; nothing here raises.
"""
from __future__ import annotations

import errno
import json
import mmap
import os
import platform as platforms
import re
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from . import elf, fatbin, pe

MOST, MOST_TEXT = 4 << 20, 256 << 20            # bytes of a text file, and of text inside a library
LINKS = 40                                     # symbolic links on one path, as Linux allows
SECONDS, LAST_WORDS = 5.0, 1.0


class Answer(NamedTuple):
    """What a program said. `code`: None if it had to be stopped."""
    code: int | None
    out: str
    err: str


def parsed(text: str | bytes | None):
    """JSON's value; None: it is broken, or so deep that the parser gives up."""
    try: return json.loads(text or "")
    except (ValueError, RecursionError): return None


def shaped(said, shape: dict[str, type]) -> dict:
    """What a program said, without what isn't of the kind that it should be."""
    return {k: v for k, v in said.items() if type(v) is shape.get(k)} if isinstance(said, dict) else {}


@dataclass
class Host:
    """`system`: "linux", "windows" or "macos"; `machine`: "x86_64", "aarch64", "arm64"."""
    root: Path | None = None
    system: str = {"win32": "windows", "darwin": "macos"}.get(sys.platform, "linux")
    machine: str = platforms.machine().lower().replace("amd64", "x86_64")
    environment: dict = field(default_factory=lambda: dict(os.environ))
    answers: dict | None = None
    python: str = sys.executable
    spaces: dict = field(default_factory=dict)
    _libraries: dict = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, folder) -> Host:
        """A machine that lies in a folder: host.json says what it is, answers.json what its programs say."""
        folder = Path(folder)
        about = json.loads((folder / "host.json").read_text(encoding="utf-8"))
        answers = folder / "answers.json"
        return cls(folder, answers=json.loads(answers.read_text(encoding="utf-8")) if answers.exists() else {}, **about)

    # ---- files
    def real(self, path: str) -> str | None:
        """A path without symbolic links; None if nothing is there."""
        if self.root is None: return os.path.realpath(path) if os.path.exists(path) else None
        parts, done, followed = path.split("/")[::-1], "", 0
        while parts:
            part = parts.pop()
            if part in ("", "."): continue
            if part == "..": done = done.rpartition("/")[0]; continue
            here = f"{done}/{part}"
            try: link = os.readlink(str(self.root) + here.replace(":", ""))
            except OSError as error:
                if error.errno != errno.EINVAL: return None            # it isn't there; EINVAL: it is, and no link
                done = here
                continue
            except ValueError: return None
            followed += 1
            if followed > LINKS: return None
            if link.startswith("/"): done = ""
            parts += link.split("/")[::-1]
        return done or "/"

    def _place(self, path) -> Path: return self.root / str(path).lstrip("/").replace(":", "")
    def _open(self, path: str) -> Path | None:
        found = self.real(path)
        return None if found is None else Path(found) if self.root is None else self._place(found)

    def bytes(self, path: str) -> bytes | None:
        """A file's beginning."""
        place = self._open(path)
        if place is None: return None
        try:
            with open(place, "rb") as f: return f.read(MOST)
        except OSError: return None

    def text(self, path: str) -> str | None:
        data = self.bytes(path)
        return None if data is None else data.decode("utf-8", "replace")

    def names(self, path: str) -> list[str]:
        """What is in a folder, sorted."""
        place = self._open(path)
        try: return sorted(os.listdir(place)) if place is not None else []
        except OSError: return []

    def exists(self, path: str) -> bool: return self.real(path) is not None

    def space(self, path: str) -> tuple[int, int] | None:
        """(free, all) bytes of the disk that holds a path; of a folder that stands for a machine, what its host.json says of them ("spaces")."""
        if self.root is not None: return tuple(self.spaces[path]) if path in self.spaces else None
        try: used = shutil.disk_usage(path)
        except OSError: return None
        return used.free, used.total

    def is_folder(self, path: str) -> bool:
        place = self._open(path)
        return place is not None and place.is_dir()

    def size(self, path: str) -> int | None:
        place = self._open(path)
        try: return None if place is None else place.stat().st_size
        except OSError: return None

    def library(self, path: str, symbols: bool = False):
        """What a shared library says of itself (elf.Library or pe.Library); None: it isn't one. A file that hasn't changed is read once."""
        place = self._open(path)
        if place is None: return None
        try: about = place.stat()
        except OSError: return None
        key = str(place), about.st_mtime_ns, about.st_size
        known = self._libraries.get(key)
        if key in self._libraries and (known is None or known.symbols is not None or not symbols): return known
        try: self._libraries[key] = (pe if self.system == "windows" else elf).read(place, symbols)
        except (elf.Broken, OSError, ValueError): self._libraries[key] = None
        return self._libraries[key]

    def defines(self, path: str, names) -> set[str] | None:
        """Which of some symbols a library has for others; None: it can't be read."""
        if self.system == "windows":
            library = self.library(path, symbols=True)
            return None if library is None or library.symbols is None else set(names) & library.symbols[0]
        place = self._open(path)
        if place is None: return None
        try: return elf.defined(place, names)
        except (elf.Broken, OSError, ValueError): return None

    def texts(self, path: str, pattern: re.Pattern) -> set[bytes]:
        """What a pattern's group finds in the plain text inside a library."""
        library, place = self.library(path), self._open(path)
        if library is None or place is None or not library.texts: return set()
        try:
            with open(place, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as data:
                return {m[1] for at, n in library.texts for m in pattern.finditer(data, at, min(at + n, at + MOST_TEXT))}
        except (OSError, ValueError): return set()

    def gpu_code(self, path: str) -> list[str]:
        """What the GPU code in a library was built for ("8.0", "9.0+PTX"); empty: it has none, or it can't be read."""
        library, place = self.library(path), self._open(path)
        if library is None or place is None or not library.fatbins: return []
        try: return fatbin.listed(fatbin.read(place, library.fatbins))
        except (elf.Broken, OSError, ValueError): return []

    # ---- programs
    def which(self, program: str) -> str | None:
        """Where PATH finds a program."""
        if self.answers is None: return shutil.which(program, path=self.environment.get("PATH"))
        return next((f"{folder}/{program}" for folder in self.environment.get("PATH", "").split(":") if folder and self.exists(f"{folder}/{program}")), None)

    def ask_all(self, commands: list[list[str]], seconds: float = SECONDS) -> list[Answer | None]:
        """Several programs side by side."""
        out: list[Answer | None] = [None] * len(commands)

        def ask(k: int): out[k] = self.ask(*commands[k], seconds=seconds)
        threads = [threading.Thread(target=ask, args=(k,), daemon=True) for k in range(len(commands))]
        for t in threads: t.start()
        for t in threads: t.join()
        return out

    def ask(self, *command: str, seconds: float = SECONDS) -> Answer | None:
        """What a program says, which gets no input and so much time. None: it isn't there."""
        if self.answers is not None:
            found = self.answers.get(" ".join(command))
            return None if found is None else Answer(found.get("code", 0), found.get("out", ""), found.get("err", ""))
        try: process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment, errors="replace", text=True)
        except (OSError, ValueError): return None
        try: out, err = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            try: out, err = process.communicate(timeout=LAST_WORDS)
            except subprocess.TimeoutExpired: return Answer(None, "", "")               # one that hangs inside a driver doesn't even die: nobody waits for it
            return Answer(None, out, err)
        return Answer(process.returncode, out, err)

    @cached_property
    def platform(self) -> str:
        """As the tables name it: "linux_x86_64"."""
        return f"{self.system}_{self.machine}"
