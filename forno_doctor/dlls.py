"""Which DLLs Windows would take for `import torch`, and which of them are missing: the counterpart of loader.py.

Comes in: a Host, the folder of torch and its Python. Goes out: what is found, by name, with the rule, and what isn't.
torch loads every DLL of its own folder by LoadLibraryExW(..., LOAD_LIBRARY_SEARCH_DEFAULT_DIRS | LOAD_LIBRARY_SEARCH_DLL_LOAD_DIR): DLLs that are needed are searched in the
folder of the one that is loaded, beside python.exe, in the folders of os.add_dll_directory, and in System32. If that fails (error 126), it puts those folders into PATH and
calls LoadLibraryW: beside python.exe, System32, the folders of Windows, PATH. What is loaded is found by its name before all that; so are API sets and known DLLs.
Source: torch/__init__.py (_load_dll_libraries); "Dynamic-link library search order", Microsoft Learn. Names are equal in capital and small letters. Windows
doesn't say in which order the folders of os.add_dll_directory are searched; here it is that in which torch adds them.
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from .host import Host
from .loader import Found

API_SETS = "api-ms-", "ext-ms-"                # names that stand for parts of Windows; there is no file
KNOWN = frozenset("""advapi32 clbcatq combase comdlg32 coml2 difxapi gdi32 gdiplus imagehlp imm32 kernel32 kernelbase msctf msvcrt normaliz nsi ntdll ole32 oleaut32 psapi rpcrt4
                     sechost setupapi shcore shell32 shlwapi user32 wldap32 ws2_32""".split())            # KnownDLLs: always System32's
MOST = 5000


def slashed(path: str) -> str: return path.replace("\\", "/").rstrip("/")


@dataclass
class Process:
    """A Python that imports torch. `loaded`: by name in small letters; `lost`: what nothing has, by name."""
    host: Host
    torch: str
    own: str
    added: list[str]
    loaded: dict[str, Found] = field(default_factory=dict)
    lost: dict[str, Found] = field(default_factory=dict)
    _names: dict[str, dict[str, str]] = field(default_factory=dict, repr=False)

    @property
    def windows(self) -> str: return slashed(variable(self.host, "SystemRoot") or "C:/Windows")

    def rules(self, file: str, again: bool) -> list[tuple[str, str]]:
        """Folders in their order; `again`: the second attempt, by PATH."""
        system = [("System32", f"{self.windows}/System32")]
        application = [("application", self.own)]
        if not again: return [("DLL folder", file.rsplit("/", 1)[0]), *application, *(("add_dll_directory", f) for f in self.added), *system]
        path = [slashed(f) for f in (variable(self.host, "PATH") or "").split(";") if f]
        return [*application, *system, ("Windows", f"{self.windows}/System"), ("Windows", self.windows), *(("PATH", f) for f in (*self.added, *path))]

    def load(self, path: str):
        """A library by its place, with all that comes with it, in one of two ways."""
        new: dict[str, Found] = {}
        lost: list[Found] = []
        for again in False, True:
            new, lost = self._tree(path, self.rules(path, again))
            if not lost: break
        for n, f in new.items(): self.loaded.setdefault(n, f)
        for f in lost: self.lost.setdefault(f.name, f)

    def _tree(self, path: str, rules) -> tuple[dict[str, Found], list[Found]]:
        name = path.rsplit("/", 1)[-1].lower()
        new, lost, todo = {name: Found(name, path, "path", None)}, [], [path]
        while todo and len(new) < MOST:
            here = todo.pop(0)
            library = self.host.library(here)
            wanted = [n.lower() for n in library.needed if n not in library.delayed] if library is not None else []
            for needed in wanted:
                if needed in self.loaded or needed in new or needed.startswith(API_SETS) or needed.rpartition(".")[0] in KNOWN: continue
                found = self.search(needed, here, rules)
                if found.path is None: lost.append(found)
                else:
                    new[needed] = found
                    if found.rule != "System32": todo.append(found.path)       # Windows itself is taken for whole
        return new, lost

    def search(self, name: str, by: str, rules) -> Found:
        hits: dict[str, tuple[str, str]] = {}
        for rule, folder in rules:
            real = self.names(folder).get(name)
            if real: hits.setdefault(f"{folder}/{real}".lower(), (rule, f"{folder}/{real}"))
        (rule, path), *others = list(hits.values()) or [(None, None)]
        return Found(name, path, rule, by, others)

    def names(self, folder: str) -> dict[str, str]:
        if folder not in self._names: self._names[folder] = {n.lower(): n for n in self.host.names(folder)}
        return self._names[folder]


def variable(host: Host, name: str) -> str | None: return next((v for k, v in host.environment.items() if k.lower() == name.lower()), None)


def process(host: Host, torch: str, executable: str, prefix: str, cuda: str | None) -> Process:
    """What `import torch` loads; `prefix`: sys.prefix, `cuda`: the version that torch was built with."""
    prefix, torch = slashed(prefix), slashed(torch)
    home = re.search(r"^home\s*=\s*(.+)$", host.text(f"{prefix}/pyvenv.cfg") or "", re.MULTILINE)
    base = slashed(home[1].strip()) if home else ""
    out = Process(host, torch, base or slashed(executable).rsplit("/", 1)[0], [])            # an environment's python.exe only starts that of its base
    out.added = added(host, out, [f"{torch}/lib", f"{prefix}/Library/bin", *([f"{base}/Library/bin"] if base else []), f"{prefix}/bin"], cuda)
    for name in ("vcruntime140.dll", "msvcp140.dll", *(["vcruntime140_1.dll"] if host.machine == "x86_64" else [])):
        found = out.search(name, f"{torch}/__init__.py", out.rules("", False)[1:])
        if found.path: out.loaded[name] = found
    for name in sorted(out.names(f"{torch}/lib").values()):
        if name.lower().endswith(".dll"): out.load(f"{torch}/lib/{name}")
    for name in sorted(out.names(torch).values()):
        if re.fullmatch(r"_C\.(?:.*\.)?pyd", name): out.load(f"{torch}/{name}")
    return out


def added(host: Host, process: Process, folders: list[str], cuda: str | None) -> list[str]:
    """The folders that torch adds: its own, those of Python, and a toolkit's where it brought no CUDA itself."""
    out = [f for f in folders if host.is_folder(f)]
    programs = slashed(variable(host, "ProgramFiles") or "C:/Program Files")
    more = []
    if not any("nvtoolsext64_1.dll" in process.names(f) for f in out):
        more.append(f"{slashed(variable(host, 'NVTOOLSEXT_PATH') or f'{programs}/NVIDIA Corporation/NvToolsExt')}/bin/x64")
    if cuda and not any(fnmatchcase(n, "cudart64*.dll") for f in out for n in process.names(f)):
        named = variable(host, f"CUDA_PATH_V{cuda.replace('.', '_')}")
        more.append(f"{slashed(named or f'{programs}/NVIDIA GPU Computing Toolkit/CUDA/v{cuda}')}/bin")
    return out + [f for f in more if host.is_folder(f)]
