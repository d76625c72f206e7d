"""Compiled extensions of torch, examined without loading: do the symbols that they ask for exist in the installed torch?

Comes in: a Host, a package and the folders of torch's libraries. Goes out: `Extension`s. An extension that was compiled for another torch asks for functions that this
one lacks, or has with other arguments: compilers make a symbol from a function's name and its arguments (Itanium C++ ABI, "External Names").
Only names of torch's own are judged, and only if neither torch nor another library of the package has them.
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field

from .host import Host
from .packages import Package

PROVIDERS = ("c10", "torch_cpu", "torch", "torch_python", "c10_cuda", "torch_cuda", "torch_cuda_cu", "torch_cuda_cpp", "torch_cuda_linalg", "c10_hip", "torch_hip", "c10_xpu",
             "torch_xpu", "torch_global_deps", "shm", "caffe2_nvrtc", "torch_nvshmem", "aoti_custom_ops")
NEEDED = "c10", "torch_cpu"                    # without these nothing can be said
OURS = re.compile(r"_Z(?:T[VIST]|GV)?NV?K?(?:3c10|2at|5torch|6caffe2)|aoti_torch_|torch_library_|torch_call_|torch_c10_|torch_(?:get|set|cuda)_\w*stream")
OURS_ON_WINDOWS = re.compile(r"\?.*@(?:c10|at|torch|caffe2)@@|aoti_torch_|torch_library_|torch_call_|torch_c10_")
NEW_ABI, OLD_ABI = "NSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE", "Ss"
ERROR = "_ZN3c105ErrorC{}ENS_14SourceLocationE{}"                                        # a function that every release has, with a string among its arguments
PYTHON = re.compile(r"\.(?:cpython-|cp)(\d)(\d+)(t?)-")
# What its package goes on without: the import is tried, and a warning printed
OPTIONAL = re.compile(r"/torchvision/image\.|/torio/|/torchaudio/lib/(?:_torchaudio_sox|libtorchaudio_sox|libctc|pybind11_|torchaudio_prefixctc)|/torchao/|/xformers/")
MOST = 200                                     # files of one package


@dataclass
class Extension:
    """`path`: the file; `needs`: torch's libraries that it names; `absent`: those of them that aren't there; `missing`: symbols that nobody has; `abi`: the C++ strings that it was
    compiled with, "new", "old" or None: not known; `codes`: GPU code inside."""
    package: str
    version: str
    path: str
    needs: list[str] = field(default_factory=list)
    absent: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    abi: str | None = None
    codes: list[str] = field(default_factory=list)

    @property
    def optional(self) -> bool: return OPTIONAL.search(self.path) is not None

    @property
    def broken(self) -> bool: return bool(self.absent or self.missing)


class Examiner:
    """`folders`: where torch's libraries lie; `python`: "3.12", for which extensions are looked at."""

    def __init__(self, host: Host, folders: list[str], python: str):
        self.host, self.python, self.windows = host, python, host.system == "windows"
        self.ours = OURS_ON_WINDOWS if self.windows else OURS
        self.torch = {n: p for n in PROVIDERS for p in (next((f"{f}/{self.file(n)}" for f in folders if host.exists(f"{f}/{self.file(n)}")), None),) if p}
        self.known: dict[str, bool] = {}

    def file(self, name: str) -> str: return f"{name}.dll" if self.windows else f"lib{name}.so"

    @property
    def able(self) -> bool: return all(n in self.torch for n in NEEDED)

    @property
    def abi(self) -> str | None:
        """Which C++ strings torch was compiled with."""
        if self.windows: return None
        names = {ERROR.format(k, s): abi for k in (1, 2) for abi, s in (("new", NEW_ABI), ("old", OLD_ABI))}
        found = {names[n] for n in self.host.defines(self.torch["c10"], names) or ()} if "c10" in self.torch else set()
        return found.pop() if len(found) == 1 else None

    def examine(self, package: Package) -> list[Extension]:
        """A package's libraries that need torch's, for this Python."""
        out, paths = [], [f"{package.site}/{f}" for f in package.libraries][:MOST]
        for path in paths:
            if not self.fits(path): continue
            library = self.host.library(path)
            needs = [n for n in PROVIDERS if library is not None and self.file(n) in library.needed]
            if not needs: continue
            x = Extension(package.name, package.version, path, needs, [self.file(n) for n in needs if n not in self.torch])
            x.missing, x.abi = self.symbols(path, paths, bool(x.absent))
            x.codes = self.host.gpu_code(path)
            out.append(x)
        return out

    def fits(self, path: str) -> bool:
        m = PYTHON.search(path)
        return m is None or not self.python or f"{m[1]}.{m[2]}{m[3]}" == self.python

    def symbols(self, path: str, siblings: list[str], incomplete: bool) -> tuple[list[str], str | None]:
        """(those that nobody has, the kind of its C++ strings). Where libraries of torch are absent, theirs are missing anyhow: then nothing is said of symbols."""
        library = self.host.library(path, symbols=True)
        if library is None or library.symbols is None: return [], None
        asked = {n for n in library.symbols[1] if self.ours.match(n)}
        abi = None if self.windows else "new" if any(NEW_ABI in n for n in asked) else "old" if any(n.startswith("_ZN3c105ErrorC") and n.endswith(OLD_ABI) for n in asked) else None
        if incomplete: return [], abi
        new = asked - self.known.keys()
        for p in self.torch.values(): new -= self._learn(p, new)
        lost = {n for n in asked if not self.known.get(n)}
        for p in siblings:
            if lost and p != path: lost -= self.host.defines(p, lost) or set()
        return sorted(lost), abi

    def _learn(self, path: str, names: set[str]) -> set[str]:
        found = self.host.defines(path, names) or set()
        self.known.update(dict.fromkeys(found, True))
        return found


def plain(symbol: str) -> str:
    """A C++ name as people know it: "c10::Error", from its mangled form; arguments are left out."""
    if (windows := re.match(r"\?\??([\w@]+?)@@", symbol)) is not None: return "::".join(reversed(windows[1].split("@")))
    m = re.match(r"_Z(?:T[VIST])?NV?K?", symbol)
    if m is None: return symbol
    at, parts = m.end(), []
    while (n := re.compile(r"\d+").match(symbol, at)) is not None and int(n[0]) < 200:
        parts.append(symbol[n.end():n.end() + int(n[0])])
        at = n.end() + int(n[0])
    return "::".join(parts) if parts else symbol
