"""Would the right libraries load? Other copies in front of torch's, too old ones, ones that lack symbols, parts of several cuDNNs, a cuDNN of another generation, none at all.

What a process that imported torch would load is known without loading it (loader.py); files are judged by their versions, and by the symbols that are really in them.
"""
from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import replace
from string import Template
from typing import NamedTuple

from .. import libraries
from ..finding import ERROR, NOTE, WARNING, Finding
from ..libraries import FILE, Copy
from ..loader import Found, Loader
from ..machine import Machine
from ..packages import Package
from ..requirements import Requirement
from ..versions import numbers, parse
from .common import bound, module, python, repaired

TRY = "import torch; x = torch.ones(1, 1, 8, 8, device='cuda'); print(torch.conv2d(x, x).sum() + (x @ x).sum(), torch.backends.cudnn.version())"
BY_SYSTEM = "ld.so.cache", "default", "RPATH"
PREFIXES = {"nccl": ("nccl",), "cupti": ("cupti",), "nvJitLink": ("nvJitLink", "__nvJitLink"), "cudnn": ("cudnn",), "cublasLt": ("cublasLt",), "cusparseLt": ("cusparseLt",)}
STARTUP = ".bashrc", ".bash_profile", ".profile", ".zshrc", ".zshenv", ".zprofile"        # files in which people set variables
MODULES = re.compile(r"cuda|cudnn|nccl|nvhpc|cutensor", re.IGNORECASE)                    # of a cluster's `module load`, which sets LD_LIBRARY_PATH
MOST_EXTENSIONS = 200
SEVERITY = {"older": WARNING, "unknown": NOTE, "patch": NOTE, "newer": NOTE}
PARTS = re.compile(r"(libcudnn_\w+)\.so\.(\d+)")
# Packages that load cuDNN and cuBLAS themselves, and their releases by cuDNN's generation: CTranslate2's notes of 4.5.0; ONNX Runtime, "CUDA Execution Provider"
CONSUMERS = {"ctranslate2": {"8": "ctranslate2==4.4.0", "9": "ctranslate2>=4.5.0"}, "onnxruntime-gpu": {"9": "onnxruntime-gpu>=1.19"}, "tensorflow": {}}
GENERATIONS = {"cudnn": re.compile(rb"libcudnn\w{0,30}\.so\.(\d{1,2})\b"), "cublas": re.compile(rb"libcublas\.so\.(\d{1,2})\b")}
SPOKEN = {"cudnn": "cuDNN", "cublas": "cuBLAS"}
COMPILERS = {"3.4.26": "9", "3.4.27": "9", "3.4.28": "9.3", "3.4.29": "11", "3.4.30": "12", "3.4.31": "13", "3.4.32": "13.2", "3.4.33": "14", "3.4.34": "15"}


class Taken(NamedTuple):
    """A CUDA library that a process with torch has: what the loader found, the copy that this is, and the copy of torch's own packages that it isn't."""
    name: str
    found: Found
    copy: Copy
    own: Copy | None


def taken(m: Machine) -> list[Taken]:
    out, copies = [], {c.path: c for c in m.copies}
    for name, f in m.loaded.items():
        kind = FILE.fullmatch(name)
        real = m.host.real(f.path) if kind and f.path and not f.broken else None
        if kind is None or real is None: continue
        mine = copies.get(real) or libraries.copy(m.host, m.environment, kind[1], real, kind[2].split(".")[0])
        next_ones = [copies[r] for r in (m.host.real(p) or "" for _, p in f.others) if r in copies]
        others = next_ones + [c for c in m.copies if c.package in pins(m)]
        own = next((c for c in others if (c.kind, c.major, c.manager) == (mine.kind, mine.major, "pip") and c.path != real), None)
        early = f.rule in ("LD_LIBRARY_PATH", "LD_PRELOAD") or f.rule in BY_SYSTEM and mine.manager != "pip"
        out.append(Taken(name, f, mine, own if early else None))
    return out


def relation(a: str | None, b: str | None) -> str:
    """Of one version to another: "same", "newer", "patch" (older in the last numbers), "older", "unknown". As many numbers as both have count."""
    x, y = numbers(a or ""), numbers(b or "")
    n = min(len(x), len(y))
    if n == 0: return "unknown"
    return "same" if x[:n] == y[:n] else "newer" if x[:n] > y[:n] else "patch" if x[:2] == y[:2] else "older"


def compiled(m: Machine) -> str | None:
    """The cuDNN that torch was compiled against: what it requires, else what the tables say of its build."""
    pin = next((r.spec for name, r in pins(m).items() if name.startswith("nvidia-cudnn-")), "")
    build = m.torch.release.build(m.torch.tag) if m.torch and m.torch.release else None
    return pin.partition("==")[2] or (build.cudnn if build else None)


def pins(m: Machine) -> dict[str, Requirement]:
    """NVIDIA's packages that torch requires, by name: itself, or by the extras of cuda-toolkit."""
    package, toolkit = m.environment.get("torch"), m.environment.get("cuda-toolkit")
    asked = m.asked(package) if package else []
    behind = [x for r in asked if toolkit and r.name == "cuda-toolkit" for x in m.asked(toolkit, r.extras)]
    return {r.name: r for r in (*asked, *behind) if r.name.startswith("nvidia-")}


# ---------------------------------------------------------------- whose fault it is, and what to type
def blamed(m: Machine, f: Found) -> list[tuple[str, str]]:
    """The line of a file, or the variable, that puts a library's folder in front."""
    folder, environment = (f.path or "").rsplit("/", 1)[0], m.host.environment
    if f.rule in ("LD_LIBRARY_PATH", "LD_PRELOAD"):
        home, conda = environment.get("HOME") or "", environment.get("CONDA_PREFIX") or ""
        files = [f"{home}/{n}" for n in STARTUP if home] + ["/etc/environment", "/etc/profile", "/etc/bash.bashrc"]
        files += _below(m, "/etc/profile.d") + _below(m, f"{conda}/etc/conda/activate.d")
        wanted = f.path or "" if f.rule == "LD_PRELOAD" else folder
        lines = [(file, k, line) for file in files for k, line in _lines(m, file) if f.rule in line and wanted in Template(line).safe_substitute(environment)]
        modules = ":".join(x for x in (environment.get("LOADEDMODULES") or "").split(":") if MODULES.search(x)) if f.rule == "LD_LIBRARY_PATH" else ""
        told = [(f"{file}:{k}", line.strip()) for file, k, line in lines] or [(f.rule, environment.get(f.rule) or "/etc/ld.so.preload")]
        return told + ([("LOADEDMODULES", modules)] if modules else [])
    if f.rule != "ld.so.cache": return []
    return [(f"{file}:{k}", line.strip()) for file in ["/etc/ld.so.conf", *_below(m, "/etc/ld.so.conf.d")] for k, line in _lines(m, file) if line.strip().rstrip("/") == folder]


def _below(m: Machine, folder: str) -> list[str]: return [f"{folder}/{n}" for n in m.host.names(folder)]
def _lines(m: Machine, file: str) -> list[tuple[int, str]]: return [(k, x) for k, x in enumerate((m.host.text(file) or "").splitlines(), 1) if not x.lstrip().startswith("#")]


def assigned(variable: str, parts: list[str]) -> str: return f"export {variable}={shlex.quote(':'.join(parts))}" if parts else f"unset {variable}"


def corrected(m: Machine, wrong: list[Taken]) -> list[str]:
    """The same variable without all entries that are in the way; where something else needs them, with torch's own folders in front."""
    rule, loader = wrong[0].found.rule, Loader(m.host, program=m.python.executable)
    wrong = wrong + [t for t in taken(m) if t.found.rule == rule and t.own and relation(t.copy.version, t.own.version) != "same"]
    own = list(dict.fromkeys(t.own.path.rsplit("/", 1)[0] for t in wrong if t.own))
    if rule == "LD_PRELOAD":
        named_ones, bad = [p for p in re.split("[ :]+", m.host.environment.get(rule) or "") if p], {t.found.path for t in wrong}
        kept = [p for p in named_ones if p not in bad and loader.asked(p).path not in bad]
        return [assigned(rule, kept)] if kept != named_ones else [f"sudo sed -i '\\|{b}|d' /etc/ld.so.preload" for b in sorted(filter(None, bad))]
    if rule != "LD_LIBRARY_PATH": return in_front(m, *own) if own else []
    places = {re.sub(r"(?:/glibc-hwcaps/[^/]+)?/[^/]+$", "", t.found.path or "") for t in wrong}
    entries = [e for e in re.split("[:;]", m.host.environment.get(rule) or "") if e]
    kept = [e for e in entries if loader.expanded([e], loader.program)[0] not in places]
    host = replace(m.host, environment={**m.host.environment, rule: ":".join(kept)})
    after = libraries.process(host, m.torch.folder if m.torch else "", m.python.executable, m.environment.sites)
    lost = [n for n, f in after.loader.loaded.items() if f.path is None and (n not in m.loaded or m.loaded[n].path)]
    return [assigned(rule, [*own, *entries] if lost and own else kept)]


def both(t: Taken) -> list[tuple[str, str]]: return [(t.name, named(c)) for c in (t.copy, t.own) if c]
def named(c: Copy) -> str: return f"{c.path} ({', '.join(filter(None, (c.version, c.package)))})" if c.version or c.package else c.path


def reinstalled(m: Machine, *wheels: str) -> list[str]:
    """NVIDIA's packages as torch wants them; those that are there already are written again. For a torch of conda, conda's packages of the same libraries."""
    if m.torch and m.torch.source == "conda":
        names = [k.conda for w in wheels for k in libraries.KINDS.values() if k.wheel == re.sub(r"-cu\d+$", "", w)]
        return [" ".join(["conda install", *(["-p", shlex.quote(m.python.prefix)] if m.python.prefix else []), "-c conda-forge", *dict.fromkeys(names)])] if names else []
    wanted = [pins(m)[w].text if w in pins(m) else w for w in wheels]
    quoted = " ".join(f'"{w}"' if re.search("[<>*~!]", w) else w for w in wanted)
    return bound(m, f"pip install --force-reinstall --no-deps {quoted}" if any(m.environment.get(w) for w in wheels) else f"pip install {quoted}")


# ---------------------------------------------------------------- symbols
def lacking(m: Machine, t: Taken) -> tuple[list[str], str]:
    """Symbols that a loaded library asks another one for, and that this copy doesn't have: (names, who asks)."""
    has = m.host.library(t.copy.path, symbols=True)
    should = m.host.library(t.own.path, symbols=True) if t.own else None
    if has is None or not has.symbols: return [], ""
    for path, chain in m.process.loader.chains.items() if m.process else ():
        if t.name not in chain[0][1].needed: continue
        asking = m.host.library(path, symbols=True)
        asked = asking.symbols[1] - has.symbols[0] if asking and asking.symbols else frozenset()
        if should is not None and should.symbols: gone = asked & should.symbols[0]
        else: gone = frozenset(x for x in asked if x.startswith(PREFIXES.get(t.copy.kind, ("\0",))))
        if gone and not gone <= _everything(m): return sorted(gone - _everything(m)), path
    return [], ""


def _everything(m: Machine) -> frozenset:
    """What all libraries of the process define."""
    read = (m.host.library(path, symbols=True) for path in (m.process.loader.chains if m.process else ()))
    return frozenset().union(*(x.symbols[0] for x in read if x and x.symbols))


def exact(m: Machine, t: Taken) -> bool:
    """Is it surely the file that torch was made for: of the one package and version that it requires?"""
    mine = libraries.owners(m.environment, t.copy.path)
    return len(mine) == 1 and mine[0].name in pins(m) and pins(m)[mine[0].name].met_by(parse(mine[0].version)) is True


def symbols_gone(m: Machine) -> Iterator[Finding]:
    """A library without symbols that torch asks for: `undefined symbol: ncclCommRegister` (A8, A9)."""
    for t in taken(m):
        gone, by = ([], "") if exact(m, t) or t.own is None and t.copy.kind not in PREFIXES else lacking(m, t)
        if not gone: continue
        mine = libraries.owners(m.environment, t.copy.path)
        right = libraries.wheel(t.copy.kind, t.name, m.torch.cuda if m.torch else None)
        if t.own: commands = corrected(m, [t])
        else: commands = removed(m, [p.name for p in mine if p.name != right and p.name.startswith("nvidia-")]) + (reinstalled(m, right) if right else [])
        owner = f"{mine[0].name} {mine[0].version}" if mine else t.copy.package or t.copy.path
        data = {"library": t.name, "symbol": gone[0], "count": len(gone), "owner": owner, "by": by.rsplit("/", 1)[-1], "rule": t.found.rule}
        evidence = [*both(t), (gone[0], by), *((p.name, p.folder) for p in mine[1:]), *blamed(m, t.found)]
        yield Finding("library-lacks-symbols", ERROR, data, evidence, commands, python(m, "import torch"))


def removed(m: Machine, names: list[str]) -> list[str]:
    if not names: return []
    if m.torch and m.torch.source == "uv": return [f"uv pip uninstall --python {shlex.quote(m.python.executable)} {' '.join(names)}"]
    return bound(m, f"pip uninstall -y {' '.join(names)}")


# ---------------------------------------------------------------- other copies in front
def shadowed(m: Machine) -> Iterator[Finding]:
    """A variable or the system puts another version in front of torch's own library (A8)."""
    groups: dict[str, list[tuple[Taken, str]]] = {}
    for t in taken(m):
        how = relation(t.copy.version, t.own.version) if t.own else "same"
        if how == "same" or lacking(m, t)[0] or t.copy.kind == "cudnn" and _too_old(m, t): continue
        id = "library-from-system" if t.found.rule in BY_SYSTEM else "library-preloaded" if t.found.rule == "LD_PRELOAD" else "library-shadowed"
        groups.setdefault(id, []).append((t, how))
    for id, found in groups.items():
        first, severity = found[0][0], WARNING if any(SEVERITY[how] == WARNING for _, how in found) else NOTE
        data = {"library": first.name, "version": first.copy.version or "?", "own": (first.own.version if first.own else None) or "?", "count": len(found)}
        evidence = [pair for t, _ in found for pair in both(t)] + [pair for t, _ in found for pair in blamed(m, t.found)]
        yield Finding(id, severity, data, list(dict.fromkeys(evidence)), corrected(m, [t for t, _ in found]), python(m, TRY))


def _too_old(m: Machine, t: Taken) -> bool:
    has, wanted = numbers(t.copy.version or "")[:2], numbers(compiled(m) or "")[:2]
    return t.copy.kind == "cudnn" and len(has) == len(wanted) == 2 and has[0] == wanted[0] and has < wanted


def cudnn_too_old(m: Machine) -> Iterator[Finding]:
    """`PyTorch was compiled against (9, 1, 0) but found runtime version (8, 9, 7)`: torch refuses a cuDNN with a lower minor number than its own (A8)."""
    for t in taken(m):
        if not _too_old(m, t): continue
        wheel = libraries.wheel("cudnn", t.name, m.torch.cuda if m.torch else None)
        commands = corrected(m, [t]) if t.own else bound(m, f"pip install {wheel}=={compiled(m)}") if wheel and t.copy.manager == "pip" else []
        data = {"found": t.copy.version, "compiled": compiled(m), "torch": m.torch.version if m.torch else ""}
        yield Finding("cudnn-too-old", ERROR, data, [*both(t), *blamed(m, t.found)], commands, python(m, "import torch; print(torch.backends.cudnn.version())"))


# ---------------------------------------------------------------- cuDNN's parts and generations
def parts_mixed(m: Machine) -> Iterator[Finding]:
    """cuDNN loads its parts by name while it runs: they must be of its own version (A7, A8)."""
    for t in taken(m):
        if t.copy.kind != "cudnn" or m.process is None: continue
        odd = [(name, real, version) for name, real, version, f in cudnn_parts(m, t) if relation(version, t.copy.version) not in ("same", "unknown")]
        if not odd: continue
        name, real, version = odd[0]
        found = m.process.loader.asked(name, t.found.path or "")
        commands = corrected(m, [Taken(name, found, t.copy, t.copy)]) if found.rule in ("LD_LIBRARY_PATH", "LD_PRELOAD") else \
            reinstalled(m, t.copy.package) if t.copy.manager == "pip" and t.copy.package else []
        yield Finding("cudnn-parts-mixed", ERROR, {"part": name, "version": version, "cudnn": t.copy.version, "count": len(odd)},
                      [(t.name, named(t.copy)), *((n, f"{r} ({v})") for n, r, v in odd), *blamed(m, found)], commands, python(m, TRY))


def cudnn_parts(m: Machine, t: Taken) -> list[tuple[str, str, str | None, Found]]:
    """(name, file, version, how it was found) of each part that lies beside a cuDNN, as that cuDNN would get it."""
    folder, out = t.copy.path.rsplit("/", 1)[0], []
    names = sorted({k[1] for n in m.host.names(folder) for k in [PARTS.match(n)] if k and k[2] == t.copy.major})
    exactly = ".".join(map(str, numbers(t.copy.version or "")[:3]))
    for part in names if m.process else ():
        asked = [m.process.loader.asked(f"{part}.so.{v}", t.found.path or "") for v in dict.fromkeys((exactly, exactly.rpartition(".")[0], t.copy.major)) if v]
        found = next((f for f in asked if f.path), None)
        real = m.host.real(found.path or "") if found else None
        if found is None or real is None: continue
        k, mine = re.search(r"\.so\.(\d+\.\d+[\d.]*)$", real), libraries.owners(m.environment, real)
        version = k[1] if k else mine[0].version if mine else t.copy.version if real.rsplit("/", 1)[0] == folder else _beside(m, real)
        out.append((found.name, real, version, found))
    return out


def _beside(m: Machine, part: str) -> str | None:
    """The version of the cuDNN in a part's folder."""
    folder = part.rsplit("/", 1)[0]
    main = next((n for n in m.host.names(folder) if n.startswith("libcudnn.so.")), None)
    real = m.host.real(f"{folder}/{main}") if main else None
    return libraries.copy(m.host, m.environment, "cudnn", real, "").version if real else None


def other_generation(m: Machine) -> Iterator[Finding]:
    """A package that loads another generation of cuDNN or cuBLAS than torch brought, or one that the loader doesn't find for it (A7)."""
    for name, releases in CONSUMERS.items():
        package, off = m.environment.get(name), []
        for t in [t for t in taken(m) if t.copy.kind in GENERATIONS] if package else []:
            major, file = wanted(m, package, t.copy.kind) if package else (None, "")
            if package is None or major is None: continue
            shim = t.copy.kind == "cudnn" and ".libs/" in file                             # a copy of its own is only cuDNN's door: it loads the parts
            library = f"lib{t.copy.kind}.so.{major}" if not shim else "libcudnn_ops_infer.so.8" if major == "8" else f"libcudnn_ops.so.{major}"
            if Loader(m.host, program=m.python.executable).asked(library, file).path: continue
            if major == t.copy.major: off.append((t, file, library))
            else: yield _generation(m, package, t, major, file, library, releases)
        if off and package:
            what = ", ".join(f"{SPOKEN[t.copy.kind]} {t.copy.major}" for t, *_ in off)
            data = {"package": name, "version": package.version, "what": what, "library": ", ".join(n for *_, n in off)}
            evidence = [pair for t, file, _ in off for pair in ((name, file), (t.name, named(t.copy)))]
            yield Finding("library-off-path", NOTE, data, evidence, in_front(m, *(t.copy.path.rsplit("/", 1)[0] for t, *_ in off)), python(m, f"import {name.split('-')[0]}"))


def _generation(m: Machine, package: Package, t: Taken, major: str, file: str, library: str, releases: dict[str, str]) -> Finding:
    data = {"package": package.name, "version": package.version, "what": SPOKEN[t.copy.kind], "wanted": major, "brought": t.copy.version or t.copy.major, "library": library}
    evidence, verify = [(package.name, file), (t.name, named(t.copy))], python(m, f"import {package.name.split('-')[0]}")
    if t.copy.kind == "cublas": return Finding("cublas-of-another-generation", ERROR, data, evidence, reinstalled(m, libraries.wheel("cublas", library, None) or ""), verify)
    fitting = releases.get(t.copy.major)
    upgrade = [f'pip install "{fitting}"'] if fitting else [f"pip install --upgrade {package.name}"] if int(major) < int(t.copy.major) else []
    return Finding("cudnn-of-another-generation", ERROR, data, evidence, bound(m, *upgrade), verify)


def in_front(m: Machine, *folders: str) -> list[str]: return [assigned("LD_LIBRARY_PATH", [*folders, *filter(None, [m.host.environment.get("LD_LIBRARY_PATH")])])]


def wanted(m: Machine, package: Package, kind: str) -> tuple[str | None, str]:
    """Which cuDNN or cuBLAS a package loads, and the file that shows it: by what it needs, by the name of a copy of its own, by names that it holds as text."""
    files = [f"{package.site}/{f}" for f in package.files if re.search(r"\.so(\.[\d.]+)?$", f)][:MOST_EXTENSIONS]
    for file in files:
        own, library = FILE.fullmatch(file.rsplit("/", 1)[-1]), m.host.library(file)
        needed = next((x for n in (library.needed if library else ()) for x in [FILE.fullmatch(n)] if x and x[1] == kind and not re.search("-[0-9a-f]{8}", n)), None)
        if needed or own and own[1] == kind: return (needed or own)[2].split(".")[0], file
    for file in files:
        found = m.host.texts(file, GENERATIONS[kind])
        if found: return sorted(found)[-1].decode(), file
    return None, ""


# ---------------------------------------------------------------- nothing, or rubbish
def missing(m: Machine) -> Iterator[Finding]:
    """`libcudart.so.13: cannot open shared object file`: a library that nothing has, or a file that is none (A10)."""
    if m.process is None or m.torch is None: return
    lost = [f for n, f in m.loaded.items() if f.path is None and f.by and FILE.fullmatch(n) and not _told(m, f)]
    for part, severity in (([f for f in lost if f.name in m.process.at_import], ERROR), ([f for f in lost if f.name not in m.process.at_import], WARNING)):
        if part: yield _missing(m, part, severity, "torch")
    for f in _builtins(m): yield _missing(m, [f], WARNING, "torch")
    yield from broken(m)
    for package, found in extensions(m):
        gone = [f for n, f in found.items() if n not in m.loaded and f.path is None and FILE.fullmatch(n)]
        if gone and m.torch.cuda: yield _missing(m, gone, ERROR, package.name)
        elif gone and not any(x.package == package.name and x.broken for x in m.extensions): yield _needs_cuda(m, gone, package)


def _needs_cuda(m: Machine, lost: list[Found], package: Package) -> Finding:
    """An extension for CUDA on a torch without it, of which it asks for nothing that tells (checks/extensions.py)."""
    data = {"library": lost[0].name, "by": (lost[0].by or "").rsplit("/", 1)[-1], "package": package.name, "version": m.torch.version if m.torch else ""}
    verify = python(m, f"import torch, {module(package)}")
    return Finding("package-needs-cuda", ERROR, data, [(f.name, f.by or "") for f in lost], repaired(m) if m.gpus else [], verify)


def _told(m: Machine, f: Found) -> bool:
    """A whole package is missing that torch requires, or cuda-toolkit, behind which several stand: checks/mixed.py says so."""
    kind, torch = FILE.fullmatch(f.name), m.environment.get("torch")
    name = libraries.wheel(kind[1], f.name, m.torch.cuda if m.torch else None) if kind else None
    lost = name in pins(m) and m.environment.get(name or "") is None
    behind = torch is not None and m.environment.get("cuda-toolkit") is None and any(r.name == "cuda-toolkit" for r in m.asked(torch))
    return (lost or behind) and m.torch is not None and m.torch.source != "conda"


def _builtins(m: Machine) -> Iterator[Found]:
    """NVRTC asks for libnvrtc-builtins of its own version when it compiles: `nvrtc: failed to open libnvrtc-builtins.so.13.0`."""
    for t in taken(m):
        version = numbers(t.copy.version or "")[:2]
        name = f"libnvrtc-builtins.so.{'.'.join(map(str, version))}"
        if t.copy.kind != "nvrtc" or len(version) < 2 or m.process is None or m.host.exists(f"{t.copy.path.rsplit('/', 1)[0]}/{name}"): continue
        found = m.process.loader.asked(name, t.found.path or "")
        if found.path is None: yield found


def _missing(m: Machine, lost: list[Found], severity: str, package: str) -> Finding:
    cuda = m.torch.cuda if m.torch else None
    kinds = [FILE.fullmatch(f.name) for f in lost]
    wheels = list(dict.fromkeys(w for k, f in zip(kinds, lost) if k for w in [libraries.wheel(k[1], f.name, cuda)] if w))
    other = next((k[2].split(".")[0] for k in kinds if k and libraries.KINDS[k[1]].tied and cuda and k[2].split(".")[0] != cuda.split(".")[0]), None)
    data = {"library": lost[0].name, "count": len(lost), "by": (lost[0].by or "").rsplit("/", 1)[-1], "package": package, "wheel": ", ".join(wheels) or "?", "cuda": cuda or "?"}
    evidence = [(f.name, f.by or "") for f in lost]
    show = python(m, "import torch" if package == "torch" else f"import torch, {module(m.environment.by_name[package])}")
    if other: return Finding("built-for-another-cuda", severity, data | {"other": other}, evidence, [], show)
    if not wheels: return Finding("library-without-package", severity, data, evidence, [], show)
    return Finding("library-missing", severity, data, evidence, reinstalled(m, *wheels), show)


def broken(m: Machine) -> Iterator[Finding]:
    """An empty or cut file under a library's name: an installation that was broken off."""
    for f in {f.path: f for f in m.loaded.values() if f.broken}.values():
        mine = libraries.owners(m.environment, f.path or "")
        yield Finding("library-broken", ERROR, {"library": f.name, "path": f.path, "size": m.host.size(f.path or "") or 0}, [(f.name, f.path or ""), *blamed(m, f)],
                      bound(m, *(f"pip install --force-reinstall --no-deps {p.name}=={p.version}" for p in mine)), python(m, "import torch"))


def extensions(m: Machine) -> Iterator[tuple[Package, dict[str, Found]]]:
    """Packages with compiled code on top of torch, and what the process has when that is loaded."""
    for package in m.environment.all:
        if m.process is None or package.name == "torch" or not any(r.name == "torch" for r in package.asks): continue
        loader = m.process.loader.branch()
        for file in [f"{package.site}/{f}" for f in package.files if f.endswith(".so") and ".libs/" not in f][:MOST_EXTENSIONS]:
            library = m.host.library(file)
            if library is not None and any(n.startswith(("libtorch", "libc10")) for n in library.needed): loader.load(file)
        if len(loader.chains) > len(m.process.loader.chains): yield package, loader.loaded


# ---------------------------------------------------------------- the ground: C and C++
def ground_too_old(m: Machine) -> Iterator[Finding]:
    """`version 'GLIBCXX_3.4.30' not found`, `version 'GLIBC_2.34' not found`: a library asks for a version that the loaded libstdc++ or C library doesn't have."""
    if m.process is None or m.torch is None: return
    told: set[str] = set()
    for owner, loaded in (("torch", m.loaded), *((p.name, found) for p, found in extensions(m))):
        for by in {f.path: f for f in loaded.values() if f.path and not f.broken}:
            library = m.host.library(by)
            for name, versions in library.asks.items() if library else ():
                found, offers = loaded.get(name), _offers(m, loaded.get(name))
                gone = [v for v in versions if v not in offers] if offers else []
                if not gone or found is None or name in told: continue
                told.add(name)
                yield _ground(m, owner, by, found, max(gone, key=numbers))


def _offers(m: Machine, found: Found | None) -> list[str]:
    library = m.host.library(found.path) if found and found.path else None
    return library.offers if library else []


def _ground(m: Machine, owner: str, by: str, found: Found, needed: str) -> Finding:
    family = needed.rpartition("_")[0]
    has = max((v for v in _offers(m, found) if v.rpartition("_")[0] == family and numbers(v)), key=numbers, default="?")
    data = {"needed": needed, "has": has, "library": found.name, "by": by.rsplit("/", 1)[-1], "package": owner}
    better = [(found.name, p) for _, p in found.others if needed in _offers(m, Found(found.name, p, None, None))]
    evidence = [(found.name, f"{found.path} ({found.rule})"), (needed, by), *better, *blamed(m, found)]
    verify = python(m, f"import {owner if owner == 'torch' else module(m.environment.by_name[owner])}")
    if family == "GLIBC": return Finding("glibc-too-old", ERROR, data, evidence, [], verify)
    if family not in ("GLIBCXX", "CXXABI"): return Finding("library-lacks-version", ERROR, data, evidence, [], verify)
    prefix = m.python.prefix if m.host.names(f"{m.python.prefix}/conda-meta") else ""
    if found.rule == "LD_LIBRARY_PATH": commands = corrected(m, [Taken(found.name, found, Copy("", found.path or "", ""), None)])
    elif prefix: commands = [f'conda install -p {shlex.quote(prefix)} -c conda-forge "libstdcxx{_at_least(needed)}"']
    else: commands = []
    return Finding("libstdcxx-too-old", ERROR, data, evidence, commands, verify)


def _at_least(needed: str) -> str:
    """The compiler whose libstdc++ has a version of symbols first, as a specifier; "": not in the table."""
    found = COMPILERS.get(needed.partition("_")[2]) if needed.startswith("GLIBCXX_") else None
    return f">={found}" if found else ""


CHECKS = [symbols_gone, cudnn_too_old, shadowed, parts_mixed, other_generation, missing, ground_too_old]
