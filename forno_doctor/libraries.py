"""Every copy of CUDA's libraries that a program could get, and the one that `import torch` would really load.

Comes in: a Host, its loader, its packages and the folder of torch. Goes out: `Copy`s.
"""
from __future__ import annotations

import re
from dataclasses import dataclass

from .host import Host
from .loader import Found, Loader
from .packages import Environment

KINDS = ("cudnn", "cublas", "cublasLt", "cudart", "nccl", "nvrtc", "cufft", "curand", "cusolver", "cusparse", "cusparseLt", "cupti", "nvJitLink")
FILE = re.compile(rf"lib({'|'.join(KINDS)})(?:-[0-9a-f]{{8}})?\.so\.([\d.]+)")
FIRST = "libtorch_global_deps.so", "libtorch_python.so", "libtorch_cuda.so"                # what `import torch` loads, in this order


@dataclass
class Copy:
    """One file of a CUDA library. `major`: as programs ask for it ("9" of libcudnn.so.9); `package`: the distribution that it belongs to; `rule`: of the loader's search by which
    a program that imports torch gets this file, None: it gets another one, or none."""
    kind: str
    path: str
    major: str
    version: str | None = None
    package: str | None = None
    rule: str | None = None
    by: str | None = None


def torch_process(host: Host, torch: str) -> dict[str, Found]:
    """What `import torch` loads, by name; `torch`: its folder."""
    loader = Loader(host)
    for name in FIRST:
        if host.exists(f"{torch}/lib/{name}"): loader.load(f"{torch}/lib/{name}")
    return loader.loaded


def copies(host: Host, environment: Environment, toolkits: list[str], torch: str | None, loaded: dict[str, Found]) -> list[Copy]:
    """By kind and then by place; a file that several links name stands there once."""
    taken = {host.real(f.path): f for f in loaded.values() if f.path}
    found: dict[str, Copy] = {}
    for folder in folders(host, environment, toolkits, torch):
        for name in host.names(folder):
            m = FILE.fullmatch(name)
            real = host.real(f"{folder}/{name}") if m else None
            if m is None or real is None or real in found: continue
            by = taken.get(real)
            found[real] = Copy(m[1], real, m[2].split(".")[0], version(real), rule=by.rule if by else None, by=by.by if by else None)
    for c in found.values():
        c.package = owner(environment, c.path)
        if c.version is None and c.package is not None: c.version = environment.by_name[c.package].version
    return sorted(found.values(), key=lambda c: (KINDS.index(c.kind), c.rule is None, c.path))


def folders(host: Host, environment: Environment, toolkits: list[str], torch: str | None) -> list[str]:
    """Where such files lie: packages' folders, the loader's, toolkits'."""
    out = [f"{torch}/lib"] if torch else []
    for site in environment.sites: out += [f"{site}/nvidia/{part}/lib" for part in host.names(f"{site}/nvidia")]
    loader = Loader(host)
    out += [f for f in loader.expanded((host.environment.get("LD_LIBRARY_PATH") or "").split(":"), "") if f != "."]
    out += sorted({path.rsplit("/", 1)[0] for name, paths in loader.cache.items() if FILE.fullmatch(name) for path in paths})
    out += [f"{t}/{lib}" for t in toolkits for lib in ("lib64", "lib")] + loader.defaults
    if host.environment.get("CONDA_PREFIX"): out.append(f"{host.environment['CONDA_PREFIX']}/lib")
    return list(dict.fromkeys(out))


def version(path: str) -> str | None:
    """By a file's name, where that has more than the major number."""
    m = FILE.fullmatch(path.rsplit("/", 1)[-1])
    return m[2] if m is not None and "." in m[2] else None


def owner(environment: Environment, path: str) -> str | None:
    """The distribution whose folder holds a file: site-packages/nvidia/cudnn/lib belongs to nvidia-cudnn-cu12."""
    for site in environment.sites:
        if not path.startswith(f"{site}/"): continue
        inside = path[len(site) + 1:]
        return next((p.name for p in environment.all if p.site == site and inside in p.record), None)
    return None
