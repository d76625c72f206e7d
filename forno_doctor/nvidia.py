"""GPUs, NVIDIA's driver and CUDA toolkits of a machine: from the kernel's files first, which can't hang, then from the driver itself, in a program of its own.

Comes in: a Host. Goes out: plain values; None wherever a source is missing.
"""
from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from .host import Host
from .loader import Loader

NUMBER = re.compile(r"\b(\d{3}\.\d+(?:\.\d+)?)\b")
NVIDIA = "0x10de"
SMI = ("nvidia-smi", "--query-gpu=name,driver_version,compute_cap,memory.total,uuid", "--format=csv,noheader,nounits")
WSL_LIBRARIES = "/usr/lib/wsl/lib"


@dataclass
class Gpu:
    """`memory`: bytes; `source`: who said so."""
    name: str
    capability: str | None = None
    memory: int | None = None
    uuid: str | None = None
    source: str = ""


@dataclass
class Driver:
    """`kernel`: the loaded module's version; `library`: the file that would be loaded as libcuda, `library_version`: by its name; `cuda`: what it speaks, "12.4"; `init`: what
    cuInit returned; `hung`: it didn't answer in time."""
    kernel: str | None = None
    library: str | None = None
    library_rule: str | None = None
    library_version: str | None = None
    cuda: str | None = None
    init: int | None = None
    hung: bool = False
    error: str | None = None

    @property
    def version(self) -> str | None: return self.kernel or self.library_version


@dataclass
class Toolkit:
    """A CUDA toolkit: where, which, and who points to it ("CUDA_HOME", "PATH", "/usr/local")."""
    path: str
    version: str | None
    named_by: list[str] = field(default_factory=list)


def kernel_driver(host: Host) -> str | None:
    text = host.text("/sys/module/nvidia/version")
    if text: return text.strip()
    m = NUMBER.search(host.text("/proc/driver/nvidia/version") or "")
    return m[1] if m else None


def cards(host: Host) -> list[str]:
    """NVIDIA's display and 3D controllers on the bus, by address, driver or not."""
    root = "/sys/bus/pci/devices"
    return [a for a in host.names(root) if (host.text(f"{root}/{a}/vendor") or "").strip() == NVIDIA and (host.text(f"{root}/{a}/class") or "").startswith(("0x0300", "0x0302"))]


def driver_and_gpus(host: Host) -> tuple[Driver, list[Gpu]]:
    d = Driver(kernel_driver(host))
    found = Loader(host).outside("libcuda.so.1") if host.system == "linux" else None
    if found is not None and found.path:
        d.library, d.library_rule = found.path, found.rule
        m = NUMBER.search((host.real(found.path) or "").rsplit("/", 1)[-1])
        d.library_version = m[1] if m else None
    gpus = _asked(host, d) or _from_smi(host, d) or _from_proc(host)
    return d, gpus


def _asked(host: Host, d: Driver) -> list[Gpu]:
    answer = host.ask(host.python, "-I", str(Path(__file__).with_name("probe.py"))) if host.answers is None else host.ask("cuda")
    if answer is None: return []
    if answer.code is None: d.hung = True
    try: said = json.loads(answer.out)
    except ValueError: return []
    d.init, d.error = said.get("init"), said.get("error")
    if said.get("version"): d.cuda = f"{said['version'] // 1000}.{said['version'] % 1000 // 10}"
    return [Gpu(x["name"], f"{x['major']}.{x['minor']}" if "major" in x else None, x.get("memory"), x.get("uuid"), "driver") for x in said.get("devices", [])]


def _from_smi(host: Host, d: Driver) -> list[Gpu]:
    answer = host.ask(*SMI)
    if answer is None or answer.code != 0: return []
    out = []
    for line in answer.out.splitlines():
        name, version, capability, memory, uuid = ([x.strip() for x in line.split(",")] + [""] * 5)[:5]
        if not name: continue
        d.kernel = d.kernel or (version if NUMBER.fullmatch(version) else None)
        out.append(Gpu(name, capability if re.fullmatch(r"\d+\.\d", capability) else None, int(memory) << 20 if memory.isdigit() else None, uuid or None, "nvidia-smi"))
    return out


def _from_proc(host: Host) -> list[Gpu]:
    root, out = "/proc/driver/nvidia/gpus", []
    for name in host.names(root):
        m = re.search(r"^Model:\s*(.+)$", host.text(f"{root}/{name}/information") or "", re.MULTILINE)
        if m: out.append(Gpu(m[1].strip(), source="/proc"))
    return out


def toolkits(host: Host) -> list[Toolkit]:
    """Those that variables and PATH name, and those in /usr/local."""
    places: dict[str, list[str]] = {}
    for variable in ("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"):
        if host.environment.get(variable): places.setdefault(host.environment[variable], []).append(variable)
    for folder in host.environment.get("PATH", "").split(":"):
        if folder and host.exists(f"{folder}/nvcc"): places.setdefault((host.real(f"{folder}/nvcc") or f"{folder}/nvcc").rsplit("/bin/", 1)[0], []).append("PATH")
    for name in host.names("/usr/local"):
        if name.startswith("cuda"): places.setdefault(f"/usr/local/{name}", []).append("/usr/local")
    out: dict[str, Toolkit] = {}
    for path, by in places.items():
        real = host.real(path)
        if real is None: out[path] = Toolkit(path, None, by)
        elif real in out: out[real].named_by += by
        else: out[real] = Toolkit(real, toolkit_version(host, real), by)
    return list(out.values())


def toolkit_version(host: Host, path: str) -> str | None:
    text = host.text(f"{path}/version.json")
    if text:
        try: return json.loads(text)["cuda"]["version"]
        except (ValueError, KeyError, TypeError): pass
    m = re.search(r"CUDA Version (\d+\.\d+[\d.]*)", host.text(f"{path}/version.txt") or "") or re.search(r"#define CUDA_VERSION (\d+)", host.text(f"{path}/include/cuda.h") or "")
    if m is None: return None
    return m[1] if "." in m[1] else f"{int(m[1]) // 1000}.{int(m[1]) % 1000 // 10}"
