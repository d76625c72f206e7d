"""Do compiled extensions fit the installed torch: the symbols that they ask for, their C++ strings, their GPU code (A5, A6, A11)? And does the toolkit, for who compiles them?"""
from __future__ import annotations

import re
from collections.abc import Iterator

from .. import facts
from ..extensions import Extension, plain
from ..finding import ERROR, NOTE, WARNING, Finding
from ..machine import Machine, Torch
from ..nvidia import Toolkit
from ..packages import Package
from ..versions import at_least, numbers, parse
from .common import PAIRED, bound, known_gpus, module, other_build, pairs_with, python, realigned, repaired

# Each release of these has wheels for one torch, so that another release is needed, not another build; INDEXED: PyTorch's own index has them
INDEXED, WHEELS = ("xformers", "torchao", "torchcodec"), ("xformers", "torchao", "torchcodec", "vllm")
ENDED = {"torchtext": ("0.18.0", "2.3")}                             # no longer developed: the last release, and the torch that it goes with


def by_package(m: Machine) -> Iterator[tuple[Package, list[Extension]]]:
    """Packages with compiled parts; those of another torch or another build are looked at elsewhere (checks/builds.py)."""
    found: dict[str, list[Extension]] = {}
    for x in m.extensions: found.setdefault(x.package, []).append(x)
    for name, parts in found.items():
        p = m.environment.by_name[name]
        if not (name in PAIRED and (pairs_with(m, p) or other_build(m, p))): yield p, parts


def symbols(m: Machine) -> Iterator[Finding]:
    """Extensions that can't be loaded with this torch."""
    if not m.torch or not m.examiner: return
    for p, parts in by_package(m):
        broken = [x for x in parts if x.broken]
        needed = [x for x in broken if not x.optional]
        if not broken: continue
        first = (needed or broken)[0]
        data = {"package": p.name, "version": p.version, "torch": m.torch.version}
        evidence = [(x.path, x.missing[0] if x.missing else x.absent[0]) for x in (needed or broken)[:4]]
        severity, verify = ERROR if needed else NOTE if first.absent else WARNING, python(m, f"import {module(p)}")
        if p.name in ENDED:
            last, own = ENDED[p.name]
            yield Finding("extension-ended", severity, data | {"last": last, "own": own}, evidence, bound(m, f"pip uninstall -y {p.name}"), bound(m, "pip check")[0])
        elif first.absent:
            yield Finding("extension-needs-cuda" if any("cuda" in n for n in first.absent) else "extension-needs-other-build", severity,
                          data | {"library": first.absent[-1]}, evidence, repaired(m) if known_gpus(m) else remedy(m, m.torch, p), verify)
        elif first.abi and m.examiner.abi and first.abi != m.examiner.abi:
            yield Finding("extension-other-abi", severity, data | {"abi": first.abi, "own": m.examiner.abi}, evidence + wheel(m, m.torch, p), remedy(m, m.torch, p), verify)
        else:
            yield Finding("extension-other-torch", severity, data | {"symbol": plain(first.missing[0]), "count": len(first.missing)}, evidence + wheel(m, m.torch, p),
                          remedy(m, m.torch, p), verify)


def remedy(m: Machine, torch: Torch, p: Package) -> list[str]:
    if p.name in PAIRED: return realigned(m, p.name)
    index = f" --index-url {facts.INDEX}/{torch.tag}" if p.name in INDEXED and torch.tag.startswith(("cu", "cpu")) else ""
    if p.name in WHEELS: return bound(m, f'pip install --upgrade {p.name} "torch=={torch.version}"{index}')
    version = parse(p.version)
    return bound(m, f"pip install --force-reinstall --no-deps --no-cache-dir --no-build-isolation {p.name}=={version.public if version else p.version}")


def wheel(m: Machine, torch: Torch, p: Package) -> list[tuple[str, str]]:
    """How flash-attn names the wheel for this torch, Python and C++ strings."""
    version, own, cp = parse(p.version), parse(torch.version), "cp" + "".join(m.python.version.split(".")[:2])
    if p.name != "flash-attn" or not (version and own and torch.cuda and m.examiner and m.examiner.abi): return []
    abi, platform = "TRUE" if m.examiner.abi == "new" else "FALSE", "win_amd64" if m.host.system == "windows" else f"linux_{m.host.machine}"
    return [("wheel", f"flash_attn-{version.public}+cu{torch.cuda.split('.')[0]}torch{own.minor}cxx11abi{abi}-{cp}-{cp}{'t' if m.python.free else ''}-{platform}.whl")]


def gpu_code(m: Machine) -> Iterator[Finding]:
    """Extensions without code for a GPU that torch itself has code for."""
    if not (m.torch and m.torch.cuda and m.gpu_code): return
    full = facts.full_floor(m.torch.cuda, m.system.platform)
    compiles = bool(m.driver.version and full and at_least(m.driver.version, full))
    for p, parts in by_package(m):
        codes = sorted({c for x in parts for c in x.codes}, key=numbers)
        for gpu, capability in known_gpus(m) if codes else ():
            usable = [c for c in codes if not re.search("[af]", c) or c[:-1] == capability]
            if facts.covers(usable, capability, True) or not facts.covers(m.gpu_code.architectures, capability, compiles): continue
            yield Finding("extension-without-gpu-code", WARNING, {"package": p.name, "version": p.version, "gpu": gpu.name, "capability": capability, "has": " ".join(codes)},
                          [(p.name, next(x.path for x in parts if x.codes))],
                          [*([] if p.name in (*PAIRED, *WHEELS) else [f"export TORCH_CUDA_ARCH_LIST={capability}"]), *remedy(m, m.torch, p)], python(m, f"import {module(p)}"))
            break


# ---------------------------------------------------------------- for who compiles extensions
def compiler(m: Machine) -> Iterator[Finding]:
    """The toolkit that torch.utils.cpp_extension would take, and the CUDA of torch: their major versions must be one."""
    if not (m.torch and m.torch.cuda): return
    taken = chosen(m)
    if taken is None or not taken.version: return
    theirs, own = numbers(taken.version)[:2], numbers(m.torch.cuda)[:2]
    if theirs == own: return
    matching = next((t.path for t in m.toolkits if t.version and numbers(t.version)[0] == own[0] and has_nvcc(m, t)), None)
    point = "set" if m.host.system == "windows" else "export"
    commands = [f"{point} CUDA_HOME={matching}"] if matching else [f"conda install -p {m.system.conda} -c nvidia cuda-nvcc={m.torch.cuda}"] if m.system.conda else []
    other = theirs[0] != own[0]
    yield Finding("nvcc-other-major" if other else "nvcc-differs", WARNING if other and set(taken.named_by) - {"/usr/local"} else NOTE,
                  {"toolkit": taken.version, "cuda": m.torch.cuda, "torch": m.torch.version, "path": taken.path}, [(by, taken.path) for by in dict.fromkeys(taken.named_by)],
                  commands if other else [], python(m, "from torch.utils.cpp_extension import CUDA_HOME; print(CUDA_HOME)"))


def has_nvcc(m: Machine, t: Toolkit) -> bool: return any(m.host.exists(f"{t.path}/bin/{name}") for name in ("nvcc", "nvcc.exe"))


def chosen(m: Machine) -> Toolkit | None:
    """CUDA_HOME, CUDA_PATH, the nvcc of PATH, /usr/local/cuda: in this order (torch/utils/cpp_extension.py)."""
    with_nvcc = [t for t in m.toolkits if has_nvcc(m, t)]
    for by in ("CUDA_HOME", "CUDA_PATH", "PATH"):
        found = next((t for t in with_nvcc if by in t.named_by), None)
        if found: return found
    return next((t for t in with_nvcc if t.path == m.host.real("/usr/local/cuda")), None)


CHECKS = [symbols, gpu_code, compiler]
