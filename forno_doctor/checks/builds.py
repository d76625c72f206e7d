"""Does torch's build fit the GPU, the driver, the packages beside it and what they ask for?"""
from __future__ import annotations

from collections.abc import Iterator

from .. import facts
from ..finding import ERROR, NOTE, WARNING, Finding
from ..machine import Machine, Torch
from ..packages import Package, constants
from ..requirements import Requirement
from ..versions import at_least, numbers, parse
from .common import PAIRED, bound, known_gpus, newer_driver, other_build, paired, pairs_with, python, realigned, repaired, tag

AVAILABLE = "import torch; print(torch.cuda.is_available())"
KERNEL = "import torch; print(torch.ones(2, device='cuda') + 1)"
MAKERS = {"rocm": "amd", "xpu": "intel"}
TRITONS = "triton", "pytorch-triton"
JUDGED = "torch", "torchvision", "numpy", *TRITONS                   # requirements on these are looked at, of all packages


def maker(torch: Torch) -> str | None: return next((who for start, who in MAKERS.items() if torch.tag.startswith(start)), None)


# ---------------------------------------------------------------- a build without CUDA
def cpu_build(m: Machine) -> Iterator[Finding]:
    """A CPU build where there is a GPU (A3), and where it came from."""
    if m.torch and m.torch.tag == "cpu" and known_gpus(m):
        id, evidence = origin(m, m.torch)
        yield Finding(id, ERROR, {"version": m.torch.version, "gpu": m.gpus[0].name}, [("torch", m.torch.folder), *evidence], repaired(m), python(m, AVAILABLE))


def origin(m: Machine, torch: Torch) -> tuple[str, list[tuple[str, str]]]:
    """How a CPU build gets onto a machine with a GPU: the finding that says so, and what shows it."""
    if torch.source == "conda":
        found = [n for n in m.host.names(f"{m.python.prefix}/conda-meta") if n.startswith(("cpuonly-", "pytorch-", "pytorch-mutex-", "libtorch-")) and "cpu" in n]
        return "cpu-build-conda", [("conda-meta", n) for n in found]
    others = {r.name for p in m.environment.by_name.values() if not p.name.startswith(("nvidia-", "torch")) for r in m.asked(p, None)}
    remains = [p for p in m.environment.all if p.name.startswith("nvidia-") and p.cuda_major and p.name not in others] + [p for p in paired(m) if tag(m, p).startswith("cu")]
    if remains: return "cpu-build-replaced", [(p.name, f"{p.version} {tag(m, p)}".strip()) for p in remains[:5]]
    package = m.environment.get("torch")
    if package is not None and package.local == "cpu": return "cpu-build", []           # the package index's wheels say so only in version.py
    if torch.release and torch.release.default_on(m.system.platform) == "cpu": return "cpu-build-from-index", [("platform", m.system.platform)]
    return "cpu-build-unexplained", []


def other_maker(m: Machine) -> Iterator[Finding]:
    """A build for AMD's or Intel's GPUs: another doctor's patient, unless only NVIDIA's are here."""
    who = maker(m.torch) if m.torch else None
    if not (m.torch and who): return
    wrong = bool(known_gpus(m)) and not any(c.maker == who for c in m.bus) and m.host.system == "linux"
    yield Finding("build-for-other-maker" if wrong else "other-maker-build", ERROR if wrong else NOTE,
                  {"version": m.torch.version, "maker": {"amd": "AMD", "intel": "Intel"}[who], **({"gpu": m.gpus[0].name} if wrong else {})},
                  [("torch", m.torch.folder)], repaired(m) if wrong else [], python(m, AVAILABLE) if wrong else "")


def not_verified(m: Machine) -> Iterator[Finding]:
    """A torch that the tables don't know: what follows from its files is said, the rest isn't."""
    if not m.torch or maker(m.torch): return
    build = m.torch.tag == "cpu" or m.torch.release and m.torch.release.build(m.torch.tag)
    if m.torch.release is None or not build or m.torch.source == "conda":
        yield Finding("torch-not-verified", NOTE, {"version": m.torch.version, "date": facts.table("torch")["as_of"]},
                      [("torch", m.torch.folder), *([("GPU code", " ".join(m.gpu_code.architectures))] if m.gpu_code else [])])


# ---------------------------------------------------------------- GPUs and driver
def gpu_code(m: Machine) -> Iterator[Finding]:
    """A build without code for a GPU (A1, A2), or with code that the driver has to compile first."""
    if not (m.torch and m.torch.cuda and m.gpu_code): return
    full = facts.full_floor(m.torch.cuda, m.system.platform)
    compiles = bool(m.driver.version and full and at_least(m.driver.version, full))
    told: set[str] = set()
    for gpu, capability in known_gpus(m):
        found = facts.code(m.gpu_code.architectures, capability, compiles)
        if found and found[0] == "machine" or capability in told: continue
        told.add(capability)
        data = {"gpu": gpu.name, "capability": capability, "version": m.torch.version, "has": " ".join(m.gpu_code.architectures)}
        evidence = [("GPU code", m.gpu_code.source if m.gpu_code.source != "table" else f"torch {m.torch.version}, {facts.table('torch')['as_of']}")]
        if found: yield Finding("only-ptx", WARNING, data | {"ptx": found[1]}, evidence, repaired(m), python(m, KERNEL))
        else: yield without_code(m, capability, data, evidence, full)


def without_code(m: Machine, capability: str, data: dict, evidence: list, full: str | None) -> Finding:
    has = [numbers(a)[:2] for a in data["has"].split()]
    mixed = len({c for _, c in known_gpus(m)}) > 1
    commands, branch = repaired(m), newer_driver(m)
    if full and facts.covers(data["has"].split(), capability, True):
        return Finding("ptx-needs-driver", ERROR, data | {"driver": m.driver.version or "?", "needed": full}, evidence, commands, python(m, KERNEL))
    if mixed and not commands:
        return Finding("gpus-without-common-build", ERROR, data | {"all": ", ".join(f"{g.name} ({c})" for g, c in known_gpus(m))}, evidence, [], python(m, KERNEL))
    if not commands and branch: return Finding("no-code-and-old-driver", ERROR, data | {"driver": m.driver.version or "?", "needed": branch}, evidence, [], python(m, KERNEL))
    return Finding("code-dropped-for-gpu" if numbers(capability)[:2] < min(has) else "no-code-for-gpu", ERROR, data, evidence, commands, python(m, KERNEL))


def driver_too_old(m: Machine) -> Iterator[Finding]:
    """A build for a newer CUDA than the driver speaks (A4)."""
    if not (m.torch and m.torch.cuda and m.driver.version) or m.system.jetson or m.gpus and not known_gpus(m): return
    floor = facts.floor(m.torch.cuda, m.system.platform)
    speaks = m.driver.cuda or facts.cuda_of_driver(m.driver.version)
    if m.driver.init == 0 and m.driver.cuda and numbers(m.driver.cuda)[0] >= numbers(m.torch.cuda)[0]: return           # by a compatibility package, whatever the module's version
    if floor and not at_least(m.driver.version, floor):
        commands = repaired(m)
        yield Finding("driver-too-old" if commands else "driver-too-old-for-all", ERROR,
                      {"version": m.torch.version, "cuda": m.torch.cuda, "driver": m.driver.version, "needed": floor, "speaks": speaks or "?", "branch": floor.split(".")[0]},
                      [("driver", m.driver.library or m.driver.version)], commands, python(m, AVAILABLE))


# ---------------------------------------------------------------- what stands beside torch
def pairs(m: Machine) -> Iterator[Finding]:
    """torchvision or torchaudio of another torch, or of another build (A5, A6)."""
    if not m.torch: return
    for p in paired(m):
        wanted, here = pairs_with(m, p), other_build(m, p)
        compiled = [x for x in m.extensions if x.package == p.name]
        lost = [(x.path, x.missing[0] if x.missing else x.absent[0]) for x in sorted(compiled, key=lambda x: x.optional) if x.broken]
        broken = not compiled or any(x.broken and not x.optional for x in compiled)
        if wanted:
            yield Finding("unpaired", ERROR if broken else WARNING, {"package": p.name, "version": p.version, "torch": m.torch.version, "wanted": wanted},
                          [(p.name, p.folder), *lost[:3]], realigned(m, p.name), python(m, f"import {p.name}"))
        elif here:
            one_is_cpu = "cpu" in (here, m.torch.tag)
            yield Finding("other-build", ERROR if compiled and broken or one_is_cpu else WARNING,
                          {"package": p.name, "version": p.version, "tag": here, "torch": m.torch.version, "wanted": m.torch.tag},
                          [(p.name, p.folder), *lost[:3]], realigned(m, p.name), python(m, f"import {p.name}"))


def judged(p: Package, r: Requirement) -> bool:
    """Is a requirement looked at here? Pairs, and NVIDIA's packages that torch asks for, are looked at elsewhere."""
    if r.name.startswith("nvidia-"): return p.name not in ("torch", "cuda-toolkit")
    return r.name in JUDGED and not (p.name in PAIRED and r.name == "torch")


def unmet(m: Machine) -> Iterator[Finding]:
    """What installed packages ask of torch, NumPy, Triton and NVIDIA's packages, and don't get. conda's packages have conda's rules."""
    asked: dict[str, list[tuple[Package, Requirement]]] = {}
    for p in m.environment.by_name.values():
        for r in m.asked(p) if p.installer != "conda" else ():
            if r.spec and judged(p, r): asked.setdefault(r.name, []).append((p, r))
    for name, asking in sorted(asked.items()):
        there = m.environment.get(name)
        if there is None and name in TRITONS: yield from no_triton(m, asking)
        if there is None or there.installer == "conda": continue
        wrong = [(p, r) for p, r in asking if r.met_by(parse(there.version)) is False]
        if wrong:
            yield Finding("requirement-unmet", WARNING, {"package": name, "version": there.version, "by": ", ".join(f"{p.name} {p.version} ({r.text})" for p, r in wrong)},
                          [(p.name, p.folder) for p, _ in wrong], bound(m, remedy(m, there, wrong, [r.spec for _, r in asking])),
                          bound(m, "pip check")[0])


def no_triton(m: Machine, asking: list[tuple[Package, Requirement]]) -> Iterator[Finding]:
    for p, r in asking:
        if p.name != "torch" or not m.torch: continue
        early = f" --index-url {facts.INDEX}/nightly/{m.torch.tag}" if r.name != "triton" else ""          # nightlies' Triton isn't on the package index
        yield Finding("triton-missing", WARNING, {"wanted": r.text, "version": p.version}, [("torch", p.folder)], bound(m, f'pip install "{r.text}"{early}'),
                      python(m, "import triton"))


def remedy(m: Machine, there: Package, wrong: list[tuple[Package, Requirement]], specs: list[str]) -> str:
    """NumPy, Triton and NVIDIA's packages follow the others; torch and what it asks for stay, and those that ask for another one are replaced by what goes with it."""
    torch = m.environment.get("torch")
    asked = torch is not None and there.name.startswith("nvidia-") and any(r.name == there.name for r in m.asked(torch))
    held = there if there.name in ("torch", "torchvision") else torch if asked else None
    if held is None: return f'pip install "{there.name}{",".join(dict.fromkeys(c for s in specs for c in s.split(",")))}"'
    return f'pip install --upgrade {" ".join(p.name for p, _ in wrong)} "{held.name}=={held.version}"'


# ---------------------------------------------------------------- a broken installation
def twice(m: Machine) -> Iterator[Finding]:
    """Several torches where Python looks: the first counts."""
    if not m.torch: return
    found = [p for p in m.environment.all if p.name == "torch"]
    folders = [f"{s}/torch" for s in m.environment.sites if m.host.exists(f"{s}/torch/version.py")]
    same = [p for p in found if p.site == found[0].site and p.installer != "conda"]               # pip over conda is told elsewhere (checks/python.py)
    if len(same) > 1:
        yield Finding("torch-two-records", WARNING, {"versions": ", ".join(p.version for p in same)}, [("torch", p.folder) for p in same],
                      [*bound(m, "pip uninstall -y torch") * len(same), *repaired(m, again=True)], python(m, "import torch; print(torch.__version__, torch.__file__)"))
    if len(folders) > 1:
        versions = [constants(m.host.text(f"{f}/version.py") or "").get("__version__", "?") for f in folders]
        yield Finding("torch-twice", WARNING if "/.local/" in folders[0] and versions[0] != versions[1] else NOTE, {"first": versions[0], "second": versions[1]},
                      [("torch", f) for f in folders], bound(m, "pip uninstall -y torch"), python(m, "import torch; print(torch.__version__, torch.__file__)"))


def remains(m: Machine) -> Iterator[Finding]:
    """What an interrupted installation left: folders that start with ~, and a torch without its parts."""
    left = [f"{s}/{n}" for s in m.environment.sites for n in m.host.names(s) if n.startswith("~") and m.host.is_folder(f"{s}/{n}")]
    if left:
        remove = [f'rmdir /s /q "{f}"' if m.host.system == "windows" else f"rm -r '{f}'" for f in left]
        yield Finding("pip-remains", NOTE, {"count": len(left)}, [("folder", f) for f in left], remove, bound(m, "pip check")[0])
    package = m.environment.get("torch")
    if package is None: return
    parts = [f for f in package.libraries if f.startswith("torch/lib/")]
    if parts: parts.append("torch/__init__.py")
    lost = [f for f in parts if not m.host.exists(f"{package.site}/{f}")] if package.installer != "conda" and not editable(m, package) else []
    if lost:
        yield Finding("torch-incomplete", ERROR, {"version": package.version, "count": len(lost), "first": lost[0]},
                      [("torch", package.folder), *(("missing", f) for f in lost[:5])], repaired(m, again=True), python(m, "import torch"))


def editable(m: Machine, package: Package) -> bool: return "editable" in (m.host.text(f"{package.folder}/direct_url.json") or "")


CHECKS = [cpu_build, other_maker, not_verified, gpu_code, driver_too_old, pairs, unmet, twice, remains]
