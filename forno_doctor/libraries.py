"""Every copy of CUDA's libraries that a program could get, and the one that `import torch` would really load.

Comes in: a Host, its packages and the folder of torch. Goes out: the `Process` that imported torch, and `Copy`s with exact versions, owners, and the rule by which
each would be loaded or what is loaded in its stead.
Sources: torch/__init__.py (_load_global_deps and what it preloads, read from the installed one); version.json of CUDA toolkits; cudnn_version.h, nccl.h; names of wheels, of
conda's packages and of dpkg's lists.
"""
from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import NamedTuple

from .dlls import slashed, variable
from .host import Host, parsed
from .loader import Found, Loader
from .packages import Environment, Package


class Kind(NamedTuple):
    """What a library is called elsewhere: its wheel without -cu12, its name in a toolkit's version.json, conda's package; `tied`: its soname's number is CUDA's major version."""
    wheel: str
    part: str
    conda: str
    tied: bool = False


KINDS = {
    "cudnn": Kind("nvidia-cudnn", "", "cudnn"), "cublas": Kind("nvidia-cublas", "libcublas", "libcublas", True), "cublasLt": Kind("nvidia-cublas", "libcublas", "libcublas", True),
    "cudart": Kind("nvidia-cuda-runtime", "cuda_cudart", "cuda-cudart", True), "nccl": Kind("nvidia-nccl", "", "nccl"),
    "nvrtc": Kind("nvidia-cuda-nvrtc", "cuda_nvrtc", "cuda-nvrtc", True), "nvrtc-builtins": Kind("nvidia-cuda-nvrtc", "cuda_nvrtc", "cuda-nvrtc", True),
    "cufft": Kind("nvidia-cufft", "libcufft", "libcufft"), "curand": Kind("nvidia-curand", "libcurand", "libcurand"),
    "cusolver": Kind("nvidia-cusolver", "libcusolver", "libcusolver"), "cusparse": Kind("nvidia-cusparse", "libcusparse", "libcusparse"),
    "cusparseLt": Kind("nvidia-cusparselt", "", "cusparselt"), "cupti": Kind("nvidia-cuda-cupti", "cuda_cupti", "cuda-cupti", True),
    "nvJitLink": Kind("nvidia-nvjitlink", "libnvjitlink", "libnvjitlink", True), "nvshmem": Kind("nvidia-nvshmem", "", "libnvshmem"),
    "cufile": Kind("nvidia-cufile", "libcufile", "libcufile"), "nvToolsExt": Kind("nvidia-nvtx", "cuda_nvtx", "cuda-nvtx")}
SUFFIXED = "cudnn", "nccl", "cusparseLt", "nvshmem"                                        # from CUDA 13 on only their wheels end in -cu13
OLDEST = 11                                    # the first CUDA version whose libraries NVIDIA gave pip as wheels
FILE = re.compile(rf"lib({'|'.join(KINDS)})(?:_host)?(?:-[0-9a-f]{{8}})?\.so\.([\d.]+)")
DLL = re.compile(rf"({'|'.join(KINDS)})(?:64)?_(\d+)[\d_.]*\.dll", re.IGNORECASE)            # cudart64_12.dll, cudart64_110.dll (11.0), nvrtc64_120_0.dll
LATER = "libcaffe2_nvrtc.so", "libtorch_cuda_linalg.so", "libtorch_nvshmem.so"              # torch loads them when they are first needed
PAIR = re.compile(r"""["'](\w+)["']\s*[,:]\s*["'](lib[\w-]+\.so[^"'\s]*)["']""")             # a folder and files that torch/__init__.py preloads
HEADERS = {"cudnn": ("cudnn_version.h", "CUDNN_MAJOR", "CUDNN_MINOR", "CUDNN_PATCHLEVEL"), "nccl": ("nccl.h", "NCCL_MAJOR", "NCCL_MINOR", "NCCL_PATCH")}
DEBS = "libcudnn", "libnccl", "libcu", "libnv", "cuda-"


class Process(NamedTuple):
    """One that imported torch and used it. `at_import`: the names of what was loaded at once; torch loads the rest when it is first needed."""
    loader: Loader
    at_import: frozenset[str]


@dataclass
class Copy:
    """One file of a CUDA library. `major`: as programs ask for it ("9" of libcudnn.so.9); `package`: what it belongs to, by `manager` ("pip", "conda", "dpkg" or None: nobody's);
    `rule`: of the loader's search by which a program that imports torch gets this file, None: it gets `instead`, or doesn't ask for any."""
    kind: str
    path: str
    major: str
    version: str | None = None
    package: str | None = None
    manager: str | None = None
    rule: str | None = None
    by: str | None = None
    instead: str | None = None


# ---------------------------------------------------------------- the process
def process(host: Host, torch: str, program: str = "", sites: list[str] | None = None) -> Process:
    """What `import torch` loads, in its order; `torch`: its folder, `program`: the interpreter, `sites`: the folders that it imports from."""
    first, sites = f"{torch}/lib/libtorch_global_deps.so", sites or []
    text = host.text(f"{torch}/__init__.py") or ""
    loader = Loader(host, program=program)
    loader.load(first)
    missing = any(f.path is None and FILE.fullmatch(n) for n, f in loader.loaded.items())
    if missing:                                # torch then loads NVIDIA's packages itself, and tries again
        loader = Loader(host, program=program)
        for path in _files(host, sites, PAIR.findall(text)): loader.load(path or "")
        loader.load(first)
    else:
        for path in _files(host, sites, afterwards(text, loader)):
            if path is None: break             # as torch does it: the first that isn't there ends this
            loader.load(path)
    extension = next((n for n in host.names(torch) if re.fullmatch(r"_C\.(?:.*\.)?so", n)), None)
    for name in (extension, *(() if extension else ("lib/libtorch_python.so",)), "lib/libtorch_cuda.so"):
        if name: loader.load(f"{torch}/{name}")
    names = frozenset(loader.loaded)
    for name in LATER: loader.load(f"{torch}/lib/{name}")
    return Process(loader, names)


def afterwards(text: str, loader: Loader) -> list[tuple[str, str]]:
    """What torch preloads although all was found: (folder, pattern of file names). Some releases do, and only if a certain file is among what is loaded."""
    m = re.search(r"/proc/self/maps(.*?)\n\s*except", text, re.DOTALL)
    mark = re.search(r"""["']([^"'\n]*libcudart\.so[^"'\n]*)["'] not in""", m[1]) if m else None
    if m is None or mark is None or not any(mark[1] in (f.path or "") for f in loader.loaded.values()): return []
    return PAIR.findall(text) if "_preload_cuda_deps()" in m[1] else PAIR.findall(m[1])


def _files(host: Host, sites: list[str], wanted: list[tuple[str, str]]) -> list[str | None]:
    """The file that torch would preload for each, from the first folder that has one."""
    out: list[str | None] = []
    for folder, pattern in wanted:
        places = [f"{s}/{p}/lib" for s in sites for p in (f"nvidia/{folder}", *(f"nvidia/{n}" for n in host.names(f"{s}/nvidia") if re.fullmatch(r"cu\d\d", n)), folder)]
        out.append(next((f"{p}/{n}" for p in places for n in host.names(p) if fnmatchcase(n, pattern)), None))
    return out


# ---------------------------------------------------------------- copies
def copies(host: Host, environment: Environment, toolkits: list[str], torch: str | None, loaded: dict[str, Found]) -> list[Copy]:
    """By kind and then by place; a file that several links name stands there once."""
    taken: dict[str | None, Found] = {}
    for f in loaded.values():
        if f.path: taken.setdefault(host.real(f.path), f)
    names = {what: host.real(f.path) for n, f in loaded.items() for what in [kind_of(host, n)] if what and f.path}
    found: dict[str, Copy] = {}
    for folder in folders(host, environment, toolkits, torch):
        for name in host.names(folder):
            what = kind_of(host, name)
            real = host.real(f"{folder}/{name}") if what else None
            if what is None or real is None or real in found: continue
            by = taken.get(real)
            found[real] = copy(host, environment, what[0], real, what[1])
            if by is not None: found[real].rule, found[real].by = by.rule, by.by
            else: found[real].instead = names.get(what)
    return sorted(found.values(), key=lambda c: (list(KINDS).index(c.kind), c.rule is None, c.path))


def kind_of(host: Host, name: str) -> tuple[str, str] | None:
    """(kind, major) of a file by its name."""
    m = (DLL if host.system == "windows" else FILE).fullmatch(name)
    if m is None: return None
    kind = next(k for k in KINDS if k.lower() == m[1].lower())
    return kind, m[2][:2] if host.system == "windows" and len(m[2]) == 3 else m[2].split(".")[0]


def copy(host: Host, environment: Environment, kind: str, path: str, major: str) -> Copy:
    """A file with its owner and version."""
    out = Copy(kind, path, major)
    mine = owners(environment, path)
    if mine: out.package, out.manager, out.version = mine[0].name, "pip", mine[0].version if mine[0].name.startswith("nvidia-") else None
    else: out.package, out.manager, out.version = _from_conda(host, kind, path) or _from_dpkg(host, path) or _from_elsewhere(host, kind, path) or (None, None, None)
    out.version = _by_name(kind, path) or out.version or _by_toolkit(host, kind, path) or _by_header(host, kind, path)
    return out


def folders(host: Host, environment: Environment, toolkits: list[str], torch: str | None) -> list[str]:
    """Where such files lie: packages' folders, the loader's, toolkits'."""
    out = [f"{torch}/lib"] if torch else []
    if host.system == "windows":
        out += [f"{s}/nvidia/{part}/bin" for s in environment.sites for part in host.names(f"{s}/nvidia")] + [f"{t}/{b}" for t in toolkits for b in ("bin", "bin/x64")]
        return list(dict.fromkeys(out + [slashed(f) for f in (variable(host, "PATH") or "").split(";") if f]))
    for site in environment.sites:
        out += [f"{site}/nvidia/{part}/lib" for part in host.names(f"{site}/nvidia")] + [f"{site}/{n}" for n in host.names(site) if n.endswith(".libs")]
    loader = Loader(host)
    out += loader.library_path
    out += sorted({path.rsplit("/", 1)[0] for name, paths in loader.cache.items() if FILE.fullmatch(name) for path in paths})
    out += [f"{t}/{lib}" for t in toolkits for lib in ("lib64", "lib", "extras/CUPTI/lib64")] + loader.defaults
    if host.environment.get("CONDA_PREFIX"): out.append(f"{host.environment['CONDA_PREFIX']}/lib")
    return list(dict.fromkeys(out))


def owners(environment: Environment, path: str) -> list[Package]:
    """The distributions that say a file is theirs; that whose RECORD has its size first: of several that were written over each other, the last one."""
    for site in environment.sites:
        if not path.startswith(f"{site}/"): continue
        inside = path[len(site) + 1:]
        found = [p for p in environment.all if p.site == site and _may_own(p, inside) and inside in p.files]
        if len(found) < 2: return found
        size = str(environment.host.size(path))
        return sorted(found, key=lambda p: p.files[inside].rpartition(",")[2] != size)
    return []


def _may_own(package: Package, inside: str) -> bool:
    """Could a path be of this package? Saves reading every list of files."""
    top = inside.split("/")[0]
    return package.name.startswith("nvidia-") if top == "nvidia" else package.name.replace("-", "_").startswith(top.split(".")[0].replace("-", "_")[:5].lower())


def _by_name(kind: str, path: str) -> str | None:
    """By a file's name, where that has more than the major number. CUPTI's names count years instead of CUDA's versions."""
    m = FILE.fullmatch(path.rsplit("/", 1)[-1])
    return m[2] if m is not None and "." in m[2] and not (kind == "cupti" and m[2].startswith("20")) else None


def _from_conda(host: Host, kind: str, path: str) -> tuple[str, str, str] | None:
    prefix, _, _ = path.rpartition("/lib/")
    for name in host.names(f"{prefix}/conda-meta") if prefix else ():
        m = re.fullmatch(rf"{re.escape(KINDS[kind].conda)}-(\d[\w.]*)-[^-]+\.json", name)
        if m: return KINDS[kind].conda, "conda", m[1]
    return None


def _from_dpkg(host: Host, path: str) -> tuple[str, str, None] | None:
    folder = "/var/lib/dpkg/info"
    for name in host.names(folder) if path.startswith(("/usr/", "/lib/")) else ():
        if name.startswith(DEBS) and name.endswith(".list") and f"{path}\n" in f"{host.text(f'{folder}/{name}') or ''}\n":
            return name[:-len(".list")].split(":")[0], "dpkg", None
    return None


def _from_elsewhere(host: Host, kind: str, path: str) -> tuple[str, None, str] | None:
    """A wheel in another environment: by the name of its folder."""
    site = path.partition("/nvidia/")[0]
    pattern = rf"({KINDS[kind].wheel.replace('-', '_')}(?:_cu\d+)?)-(\d[\d.]*)\.dist-info"
    found = [m for m in (re.fullmatch(pattern, n) for n in (host.names(site) if site != path else ())) if m]
    return (found[0][1].replace("_", "-"), None, found[0][2]) if len(found) == 1 else None


def _by_toolkit(host: Host, kind: str, path: str) -> str | None:
    part = KINDS[kind].part
    m = re.match(r"(.*?)/(?:lib|lib64|bin|bin/x64|targets/[^/]+/lib|extras/CUPTI/lib64)/[^/]+$", path)
    try: return parsed(host.text(f"{m[1]}/version.json"))[part]["version"] if m and part else None
    except (KeyError, TypeError): return None


def _by_header(host: Host, kind: str, path: str) -> str | None:
    """From the header beside it: .../lib/libcudnn.so.9 and .../include/cudnn_version.h."""
    if kind not in HEADERS: return None
    name, *words = HEADERS[kind]
    base = re.sub(r"/(?:lib64|lib)(?:/[^/]*-linux-gnu)?/[^/]+$", "", path) or "/usr"
    for place in (f"{base}/include/{name}", f"{base}/include/{host.machine}-linux-gnu/{name}"):
        said = dict(re.findall(r"^#define (\w+) +(\d+)", host.text(place) or "", re.MULTILINE))
        if all(w in said for w in words): return ".".join(said[w] for w in words)
    return None


# ---------------------------------------------------------------- names
def wheel(kind: str, soname: str, cuda: str | None) -> str | None:
    """The wheel that has a library: for "libcudart.so.12" nvidia-cuda-runtime-cu12; `cuda`: torch's, where the name doesn't say it."""
    m = FILE.fullmatch(soname)
    major = m[2].split(".")[0] if m and KINDS[kind].tied else (cuda or "").split(".")[0]
    if not major.isdigit() or int(major) < OLDEST: return None
    return KINDS[kind].wheel + (f"-cu{major}" if int(major) < 13 or kind in SUFFIXED else "")
