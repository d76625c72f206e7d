"""Does the examined Python start, can it have torch at all, does what is installed fit it, and does it import what its environment holds?

Source: "Platform compatibility tags" and PEP 600, 656 and 703 at packaging.python.org and peps.python.org; Python's library reference, "site" and "Command line and environment";
NumPy 2.0 migration guide, "ABI"; conda's documentation, "conda-meta"; torch's releases (data/torch.json).
"""
from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from .. import commands, facts
from ..finding import ERROR, NOTE, WARNING, Finding
from ..machine import Machine
from ..packages import Package
from ..plan import Plan, Wish, plan, target
from ..system import HUNG, MISSING, SILENT, VARIABLES
from ..versions import at_least, parse
from .common import bound, module, python

USUAL = "3.12"                                 # the Python that nearly all packages have wheels for
OLDEST_PIP = "20.3"                            # the first that knows tags like manylinux_2_28 (PEP 600)
OURS = "torch", "torchvision", "torchaudio", "numpy", "triton"
CONDA_NAMES = {"torch": ("pytorch", "pytorch-cpu", "pytorch-gpu"), "torchvision": ("torchvision",), "torchaudio": ("torchaudio",), "numpy": ("numpy",)}
CHANNEL_END = "2.5.1"
PROBLEMS = {MISSING: "python-missing", HUNG: "python-hangs", SILENT: "python-silent", VARIABLES: "python-variables"}
LOADED, NUMPY = "import torch; print(torch.__version__, torch.__file__)", "import torch, numpy; print(torch.from_numpy(numpy.ones(2)))"
NUMPY_1, NUMPY_2 = b"numpy.core._multiarray_umath", b"numpy._core._multiarray_umath"
SPACE = 8 << 30                                # bytes that a CUDA build of torch takes while it is installed, with its packages
LOOKED_AT = 2                                  # extensions of a package that are searched for what they import


# ---------------------------------------------------------------- the interpreter itself
def starts(m: Machine) -> Iterator[Finding]:
    """A path that is no Python, one that hangs, an environment whose Python is gone, variables that keep it from starting."""
    p = m.python
    if p.problem is None: return
    folder = p.executable.replace("\\", "/").rsplit("/", 2)[0]
    home = re.search(r"^home\s*=\s*(.+?)\s*$", m.host.text(f"{folder}/pyvenv.cfg") or "", re.MULTILINE)
    if home and p.problem != HUNG and (p.problem == MISSING or not m.host.exists(home[1])):
        yield Finding("python-lost", ERROR, {"path": p.executable, "home": home[1]}, [("pyvenv.cfg", f"{folder}/pyvenv.cfg")],
                      [f"uv venv --clear --python {USUAL} {folder}"], f"{p.executable} --version")
        return
    names = [v for v in ("PYTHONHOME", "PYTHONPATH") if v in m.host.environment]
    evidence = [("answer", p.said)] * bool(p.said) + [(v, m.host.environment[v]) for v in names]
    unset = [f"set {v}=" if m.host.system == "windows" else f"unset {v}" for v in names]
    yield Finding(PROBLEMS[p.problem], ERROR, {"path": p.executable}, evidence, unset if p.problem == VARIABLES else [], f"{p.executable} --version")


def kind(m: Machine) -> Iterator[Finding]:
    """Pythons that torch is never built for: the first reason counts."""
    p = m.python
    if not p.version or m.torch: return
    fresh, show = anew(m), shown(m, "import platform; print(platform.machine())")
    evidence = [("python", f"{p.version} ({p.executable})")]
    if p.implementation not in ("", "CPython"): yield Finding("python-other-kind", WARNING, {"kind": p.implementation}, evidence, fresh, shown(m, "import sys; print(sys.version)"))
    elif p.bits == 32: yield Finding("python-32-bit", WARNING, {"version": p.version}, evidence, fresh, show)
    elif p.musl or m.system.musl: yield Finding("musl", WARNING, {"system": m.system.name}, evidence, [], "ldd --version")
    elif not translated(m): yield from releases(m, evidence)


def anew(m: Machine, python: str = USUAL) -> list[str]:
    """An environment with another Python, and in it the set that fits this machine."""
    platform = "macos_arm64" if translated(m) else m.system.platform
    found = plan(replace(target(m), python=USUAL if python.startswith("cpython") else python, platform=platform, odd=""), Wish())
    lines = commands.uv(found) if isinstance(found, Plan) else ["uv pip install torch"]
    numpy = ' "numpy<2"' if isinstance(found, Plan) and found.release.numpy2(platform) is False else ""
    return [f"uv venv --python {python}", *commands.bound([line + numpy for line in lines], ".venv")]


def shown(m: Machine, code: str) -> str: return f'{".venv/Scripts/python.exe" if m.host.system == "windows" else ".venv/bin/python"} -c "{code}"'


def translated(m: Machine) -> bool: return m.system.platform == "macos_x86_64" and "ARM64" in m.python.kernel


def rosetta(m: Machine) -> Iterator[Finding]:
    if translated(m):
        yield Finding("rosetta", WARNING, {"version": m.python.version}, [("kernel", m.python.kernel), ("python", m.python.executable)],
                      anew(m, f"cpython-{USUAL}-macos-aarch64"), shown(m, "import platform; print(platform.machine())"))


def releases(m: Machine, evidence) -> Iterator[Finding]:
    """Which torch has wheels for this Python on this system: the newest, an older one, or none?"""
    p, platform, show = m.python, m.system.platform, shown(m, LOADED)
    offered = [r for r in facts.releases() if r.row["on_pypi"] and r.pythons(platform)]
    fit = [r for r in offered if p.tag in r.pythons(platform)]
    if not offered:
        yield Finding("no-torch-for-platform", NOTE, {"platform": platform}, evidence)
        return
    last = max((t for t in offered[0].pythons(platform) if not t.endswith("t")), key=number)
    if not fit:
        wanted = "intel-mac" if platform == "macos_x86_64" else "python-too-new" if number(p.tag) > number(last) else "no-torch-for-python"
        take = USUAL if USUAL in offered[0].pythons(platform) else last
        yield Finding(wanted, WARNING, {"python": p.tag, "torch": str(offered[0].version), "last": last}, evidence, anew(m, take), show)
    elif platform == "macos_x86_64":
        install = f'pip install "torch=={fit[0].version}"' + (' "numpy<2"' if fit[0].numpy2(platform) is False else "")
        yield Finding("intel-mac", NOTE, {"python": p.tag, "torch": str(fit[0].version), "last": last}, evidence, bound(m, install), python(m, LOADED))
    elif fit[0] is not offered[0]:
        yield Finding("python-old", NOTE, {"python": p.tag, "torch": str(fit[0].version), "newest": str(offered[0].version)}, evidence,
                      anew(m), show)
    elif (pip := m.environment.get("pip")) and not at_least(pip.version, OLDEST_PIP):
        update, told = bound(m, "pip install --upgrade pip", "pip --version")
        yield Finding("old-pip", WARNING, {"version": pip.version, "needed": OLDEST_PIP}, [("pip", pip.folder)], [update], told)
    else: yield from old_glibc(m, fit)


def number(tag: str) -> tuple[int, ...]: return tuple(map(int, tag.rstrip("t").split(".")))


def old_glibc(m: Machine, fit: list[facts.Release]) -> Iterator[Finding]:
    """pip passes over wheels for a newer C library without a word."""
    here, needed = m.system.glibc, fit[0].glibc(m.system.platform)
    if not here or not needed or at_least(here, needed): return
    last = next((r for r in fit if at_least(here, r.glibc(m.system.platform) or "999")), None)
    yield Finding("old-glibc", WARNING, {"glibc": here, "needed": needed, "newest": str(fit[0].version), "torch": str(last.version) if last else "-"}, [("glibc", here)],
                  bound(m, f"pip install torch=={last.version}") if last else [], python(m, LOADED))


def little_space(m: Machine) -> Iterator[Finding]:
    if not m.torch and m.gpus and m.system.free is not None and m.system.free < SPACE:
        yield Finding("little-space", NOTE, {"free": round(m.system.free / (1 << 30), 1), "needed": SPACE >> 30}, [("folder", m.python.prefix)], [],
                      python(m, "import shutil, sys; print(shutil.disk_usage(sys.prefix).free >> 30)"))


# ---------------------------------------------------------------- do the installed wheels fit?
def wheels(m: Machine) -> Iterator[Finding]:
    """Wheels for another Python, processor or system: environments that were copied, folders that PYTHONPATH adds, machines that share a home."""
    for p in m.related():
        if not m.python.version or p.installer == "conda": continue
        tags = re.findall(r"^Tag: (\w+)-(\w+)-(\S+?)\s*$", m.host.text(f"{p.folder}/WHEEL") or "", re.MULTILINE)
        reasons = [misfit(m, *tag) for tag in tags]
        if not reasons or None in reasons: continue
        id, data = reasons[0]
        yield Finding(id, ERROR, {"package": p.name, "version": p.version, **data}, [(p.name, p.folder), ("tag", "-".join(tags[0]))],
                      bound(m, f"pip install --force-reinstall {p.name}=={p.version}") if id == "wheel-for-other-python" else [], python(m, f"import {module(p)}"))


def misfit(m: Machine, which: str, abi: str, platform: str) -> tuple[str, dict] | None:
    """Why a wheel's tag doesn't fit; None: it does, or that can't be told."""
    x, y = map(int, m.python.version.split(".")[:2])
    interpreter = re.fullmatch(r"cp(\d)(\d+)", which)
    if interpreter and m.python.implementation in ("", "CPython"):
        built = int(interpreter[1]), int(interpreter[2])
        threads = re.fullmatch(r"cp\d+(t?)", abi)
        if built > (x, y) or built < (x, y) and abi != "abi3" or threads and bool(threads[1]) is not m.python.free:
            return "wheel-for-other-python", {"built": f"{built[0]}.{built[1]}{threads[1] if threads else ''}", "python": m.python.tag}
    if platform == "any": return None
    libc, mac = re.search(r"manylinux_(\d+_\d+)_", platform), re.match(r"macosx_(\d+)_(\d+)_", platform)
    system = "linux" if "linux" in platform else "macos" if mac else "windows" if platform.startswith("win") else None
    if system and system != m.host.system: return "wheel-for-other-system", {"tag": platform}
    machine = next((a for a in ("x86_64", "aarch64", "arm64", "amd64") if platform.endswith(a)), None)
    other_libc = "musllinux" in platform and m.system.glibc and not m.python.musl
    if other_libc or machine and machine.replace("amd64", "x86_64") != m.system.platform.split("_", 1)[1]: return "wheel-for-other-system", {"tag": platform}
    needed = libc[1].replace("_", ".") if libc else None
    if needed and m.system.glibc and not at_least(m.system.glibc, needed): return "wheel-needs-glibc", {"needed": needed, "glibc": m.system.glibc}
    here = re.search(r"macOS ([\d.]+)", m.system.name)
    if mac and here and not at_least(here[1], f"{mac[1]}.{mac[2]}"): return "wheel-needs-macos", {"needed": f"{mac[1]}.{mac[2]}", "macos": here[1]}
    return None


def numpy2(m: Machine) -> Iterator[Finding]:
    """NumPy 2 beside a torch that was compiled for NumPy 1: torch imports, and can't exchange arrays."""
    there = m.environment.get("numpy")
    version = parse(there.version) if there else None
    if there is None or version is None or version.release[0] < 2: return
    if m.torch and m.torch.release and m.torch.source != "conda" and m.torch.release.numpy2(m.system.platform) is False:
        yield Finding("numpy2-torch", ERROR, {"numpy": there.version, "torch": m.torch.version}, [("numpy", there.folder), ("torch", m.torch.folder)],
                      bound(m, 'pip install "numpy<2"'), python(m, NUMPY))
    for p in m.environment.by_name.values():
        old = p.name not in OURS and p.installer != "conda" and compiled_for_numpy1(m, p)
        if old:
            yield Finding("numpy2-extension", WARNING, {"package": p.name, "version": p.version, "numpy": there.version}, [(p.name, f"{p.site}/{old}")],
                          bound(m, f"pip install --upgrade {p.name}"), python(m, f"import {module(p)}"))


def compiled_for_numpy1(m: Machine, p: Package) -> str | None:
    """An extension that asks for NumPy's C functions where only NumPy 1 has them: made with NumPy 2's headers it would ask in the new place first."""
    if not any("numpy" in line for line in p.requires) or not any(r.name == "numpy" for r in p.asks): return None
    for name in [f for f in p.libraries if ".libs/" not in f][:LOOKED_AT]:
        data = m.host.bytes(f"{p.site}/{name}") or b""
        if NUMPY_1 in data and NUMPY_2 not in data: return name
    return None


# ---------------------------------------------------------------- does it import what its environment holds?
def user_site(m: Machine) -> Iterator[Finding]:
    """An environment that takes packages from the user's folder for all environments. venv keeps it out; conda doesn't."""
    user = m.python.user
    if user is None or user not in m.environment.sites or not (m.python.virtual or m.host.exists(f"{m.python.prefix}/conda-meta")): return
    taken = sorted((p for p in m.related() if p.site == user and m.environment.get(p.name) is p), key=lambda p: p.name not in OURS)
    if taken:
        yield Finding("user-site", WARNING, {"packages": listed(taken), "folder": user}, [(p.name, p.folder) for p in taken[:5]],
                      ["set PYTHONNOUSERSITE=1" if m.host.system == "windows" else "export PYTHONNOUSERSITE=1"], python(m, "import site; print(site.ENABLE_USER_SITE)"))


def listed(packages: list[Package]) -> str:
    return ", ".join(f"{p.name} {p.version}" for p in packages[:5]) + (" …" if len(packages) > 5 else "")


def entries(m: Machine) -> list[str]:
    """Folders of PYTHONPATH."""
    value = m.host.environment.get("PYTHONPATH", "")
    parts = value.replace("\\", "/").split(";") if m.host.system == "windows" else value.split(":")
    return list(dict.fromkeys(e.rstrip("/") for e in parts if e.rstrip("/")))


def python_path(m: Machine) -> Iterator[Finding]:
    """PYTHONPATH brings packages of another Python, or hides those of this one."""
    for entry in entries(m):
        mine = [p for p in m.related() if p.site == entry and m.environment.get(p.name) is p]
        other = re.search(r"/python(\d\.\d+)/(?:site|dist)-packages", entry)
        both = [p for p in mine if any(q.name == p.name and q.site != entry for q in m.environment.all)]
        if not mine or not m.python.version: continue
        if other and other[1] != m.python.tag.rstrip("t"): id, severity, told = "pythonpath-other-python", ERROR, mine
        elif both: id, severity, told = "pythonpath-shadows", WARNING, both
        else: continue
        data = {"entry": entry, "packages": listed(told), "python": m.python.tag, "other": other[1] if other else ""}
        yield Finding(id, severity, data, [(p.name, p.folder) for p in told], ["set PYTHONPATH=" if m.host.system == "windows" else "unset PYTHONPATH"],
                      python(m, LOADED if m.torch else "import sys; print(sys.path)"))


def in_front(m: Machine) -> Iterator[Finding]:
    """A file or folder that is called like a package, where Python looks first."""
    here, sites = m.python.here, m.environment.sites
    if here and m.host.real(here) in [m.host.real(s) for s in sites]: here = None
    for folder in ([here] if here else []) + [e for e in entries(m) if e in sites]:
        for name in OURS:
            file, package = f"{folder}/{name}.py", f"{folder}/{name}/__init__.py"
            found = file if m.host.exists(file) else package if folder == here and m.host.exists(package) else None
            behind = next((s for s in sites if s != folder and m.host.is_folder(f"{s}/{name}")), None)
            if found is None or behind is None: continue
            move = [f"mv {file} {folder}/my_{name}.py"] if found == file and m.host.system != "windows" else []
            yield Finding("module-in-front" if found == file else "folder-in-front", ERROR if found == file else WARNING, {"name": name, "path": found},
                          [(name, found), (name, f"{behind}/{name}")], move, python(m, f"import {name}; print({name}.__file__)"))


# ---------------------------------------------------------------- conda
def conda(m: Machine) -> Iterator[Finding]:
    """pip over conda: both believe that a package is theirs, and the next update by either breaks it (A14)."""
    noted = m.environment.conda
    for name, names in CONDA_NAMES.items():
        mine, theirs = m.environment.get(name), next((noted[n] for n in names if n in noted), None)
        if mine is None or theirs is None or mine.installer in ("", "conda"): continue
        index = f" --index-url {facts.INDEX}/{mine.local}" if mine.local and name != "numpy" else ""
        again = commands.bound([f"pip install --force-reinstall --no-deps {name}=={mine.version.partition('+')[0]}{index}"], m.python.executable, mine.installer)
        yield Finding("pip-over-conda", WARNING, {"package": name, "version": mine.version, "conda": f"{theirs.name} {theirs.version} {theirs.build}"},
                      [("conda", theirs.folder), (mine.installer, mine.folder)], [f"conda remove -p {theirs.site} --force -y {theirs.name}", *again],
                      python(m, f"import {name}; print({name}.__version__)"))
    torch = noted.get("pytorch")
    channel = re.search(r'"channel":\s*"([^"]*)"', m.host.text(torch.folder) or "") if torch else None
    if torch and channel and re.search(r"(^|/)pytorch(/|$)", channel[1]):
        yield Finding("conda-channel-ended", NOTE, {"version": torch.version, "last": CHANNEL_END}, [("conda", torch.folder)],
                      [f"conda install -p {torch.site} -c conda-forge --override-channels pytorch"], python(m, LOADED))


CHECKS = [starts, kind, rosetta, little_space, wheels, numpy2, user_site, python_path, in_front, conda]
