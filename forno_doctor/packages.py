"""What is installed in a Python environment, read from its files and never imported.

Comes in: a Host and the folders that its Python imports from. Goes out: `Package`s with their versions, what they require and which files are theirs; and what torch's
own version.py says of its build.
"""
from __future__ import annotations

import csv
import io
import re
from dataclasses import dataclass, field
from functools import cached_property

from .host import Host
from .requirements import Requirement, requirement
from .versions import normal

LIBRARY = re.compile(r"^(?:\")?([^\n,\"]+\.(?:so|pyd|dll|so\.[\d.]+))(?:\")?,", re.MULTILINE)
CONSTANT = re.compile(r"""(?P<name>[A-Za-z_]\w{0,99})[ ]*(?::[^='"]{0,99})?=[ ]*(?:(?P<quote>['"])(?P<text>[^'"\\]{0,999})(?P=quote)|(?P<word>None|True|False)\b)""")
WORDS = {"None": None, "True": True, "False": False}


@dataclass
class Package:
    """One distribution. `folder`: its .dist-info or .egg-info; `site`: the folder it is imported from; `installer`: "pip", "uv", "conda" … or ""; `build`: as conda names it."""
    name: str
    version: str
    site: str
    folder: str
    host: Host = field(repr=False)
    requires: list[str] = field(default_factory=list)
    requires_python: str = ""
    installer: str = ""
    build: str = ""

    @cached_property
    def files(self) -> dict[str, str]:
        """The files that it says are its own, below `site`, with what it says of their contents ("sha256=…,1234"). Read when it is asked for: torch alone has 12,000."""
        text = self.host.text(f"{self.folder}/RECORD") or ""
        try: return {row[0]: ",".join(row[1:]) for row in csv.reader(io.StringIO(text)) if row}
        except csv.Error: return {}

    @cached_property
    def record(self) -> frozenset[str]: return frozenset(self.files)

    @cached_property
    def libraries(self) -> list[str]:
        """Its libraries, below `site`."""
        return [f for f in LIBRARY.findall(self.host.text(f"{self.folder}/RECORD") or "") if not f.startswith(("..", "/"))]

    @cached_property
    def asks(self) -> list[Requirement]:
        """What it requires, where that can be read; markers are still to be judged."""
        return [r for r in map(requirement, self.requires) if r is not None]

    @property
    def cuda_major(self) -> int | None:
        """The CUDA generation in a name like nvidia-cublas-cu12, cupy-cuda12x or jax-cuda13-plugin."""
        m = re.search(r"-cu(?:da)?(\d\d)x?(?:-|$)", self.name)
        return int(m[1]) if m else None

    @property
    def local(self) -> str:
        """The build behind the plus sign: "cu126", "cpu", ""."""
        return self.version.partition("+")[2]


class Environment:
    """The packages of folders in the order in which Python looks; of a package that is there twice the first counts."""

    def __init__(self, host: Host, sites: list[str]):
        self.host, self.sites = host, sites

    @cached_property
    def all(self) -> list[Package]:
        out = []
        for site in self.sites:
            for name in self.host.names(site):
                if name.endswith((".dist-info", ".egg-info")) and not name.startswith("~"): out += [p for p in (self.read(site, name),) if p is not None]
        return out

    @cached_property
    def by_name(self) -> dict[str, Package]:
        out: dict[str, Package] = {}
        for p in self.all: out.setdefault(p.name, p)
        return out

    def get(self, name: str) -> Package | None: return self.by_name.get(normal(name))

    def read(self, site: str, folder: str) -> Package | None:
        """From METADATA; where that is missing, from the folder's name."""
        place = f"{site}/{folder}"
        text = self.host.text(f"{place}/METADATA") or self.host.text(f"{place}/PKG-INFO") or ""
        head = header(text)
        name, _, rest = folder.rsplit(".", 1)[0].partition("-")
        name, version = (head.get("name") or [name])[0], (head.get("version") or [rest.split("-py")[0]])[0]
        if not name or not version: return None
        return Package(normal(name), version, site, place, self.host, head.get("requires-dist", []), (head.get("requires-python") or [""])[0],
                       (self.host.text(f"{place}/INSTALLER") or "").strip())

    @cached_property
    def conda(self) -> dict[str, Package]:
        """What conda has noted of its environment, by conda's names; `folder` is the note. Names of these files say enough: torch's own is of megabytes."""
        out: dict[str, Package] = {}
        for prefix in dict.fromkeys(site.rsplit("/", up)[0] for site in self.sites for up in (2, 3)):
            for note in self.host.names(f"{prefix}/conda-meta"):
                name, version, build = (["", "", *note[:-5].rsplit("-", 2)])[-3:]
                if note.endswith(".json") and name: out.setdefault(name, Package(name, version, prefix, f"{prefix}/conda-meta/{note}", self.host, installer="conda", build=build))
        return out

    # ---- torch
    def torch_build(self) -> dict[str, str | None] | None:
        """What torch/version.py was written with: __version__, cuda, hip, git_version, debug. It is parsed, not run."""
        for site in self.sites:
            text = self.host.text(f"{site}/torch/version.py")
            if text is not None: return constants(text)
        return None


def header(text: str) -> dict[str, list[str]]:
    """The fields in front of a METADATA's empty line, by their names in small letters."""
    out: dict[str, list[str]] = {}
    for line in text.split("\n\n", 1)[0].splitlines():
        key, colon, value = line.partition(":")
        if colon and key and not key[0].isspace(): out.setdefault(key.strip().lower(), []).append(value.strip())
    return out


def constants(text: str) -> dict[str, str | bool | None]:
    """Names that a module gives plain values, one in a line. Not by `ast`: a text with enough brackets can end the interpreter there."""
    return {m["name"]: m["text"] if m["quote"] else WORDS[m["word"]] for m in map(CONSTANT.match, text.splitlines()) if m is not None}
