"""GPUs, NVIDIA's driver and CUDA toolkits of a machine: from the kernel's files first, which can't hang, then from the driver itself, in a program of its own.

Comes in: a Host. Goes out: plain values; None wherever a source is missing.
Source: Linux's sysfs-bus-pci; README of NVIDIA's Linux driver, "Installed Components"; Debian Policy, "Control files" (dpkg's status); probe.py for what the driver says.
"""
from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

from .host import Host, parsed, shaped
from .loader import Loader

NUMBER = re.compile(r"\b(\d{3}\.\d+(?:\.\d+)?)\b")
MAKERS = {"0x10de": "nvidia", "0x1002": "amd", "0x8086": "intel"}
DISPLAYS = "0x0300", "0x0302", "0x0380", "0x1200"      # VGA and 3D controllers, other displays, accelerators
SMI = ("nvidia-smi", "--query-gpu=name,driver_version,compute_cap,memory.total,uuid", "--format=csv,noheader,nounits")
WSL_LIBRARIES = "/usr/lib/wsl/lib"
PROBE = str(Path(__file__).with_name("probe.py"))
SECONDS = 15.0                                 # eight GPUs without a persistent driver take about ten to start
WINDOWS_TOOLKITS = "C:/Program Files/NVIDIA GPU Computing Toolkit/CUDA"
WINDOWS_DRIVER = "System32/nvcuda.dll"
# What probe.py says
ANSWER = {"init": int, "error": str, "file": str, "version": int, "denied": list, "nvml": dict, "devices": list}
MANAGED = {"init": int, "driver": str, "devices": list}
DEVICE = {"name": str, "major": int, "minor": int, "memory": int, "uuid": str, "compute_mode": int, "instances": list}


@dataclass
class Gpu:
    """`memory`: bytes; `source`: who said so; `compute_mode`: 0 is the default, 2 prohibited, 3 one process; `instances`: UUIDs of MIG's parts, None: MIG is off."""
    name: str
    capability: str | None = None
    memory: int | None = None
    uuid: str | None = None
    source: str = ""
    compute_mode: int | None = None
    instances: list[str] | None = None


@dataclass
class Driver:
    """`kernel`: the loaded module's version; `library`: the file that would be loaded as libcuda, `library_version`: by its name; `cuda`: what it speaks, "12.4"; `init`: what
    cuInit returned; `hung`: it didn't answer in time; `crashed`: the signal or code that ended the process which asked it; `nvml`: what NVML's start returned;
    `all`: GPUs that NVML sees, whatever variables hide from CUDA; `denied`: [device file, group that may use it] of those that this user may not."""
    kernel: str | None = None
    library: str | None = None
    library_rule: str | None = None
    library_version: str | None = None
    cuda: str | None = None
    init: int | None = None
    hung: bool = False
    error: str | None = None
    crashed: int | None = None
    nvml: int | None = None
    all: list[Gpu] = field(default_factory=list)
    denied: list[list] = field(default_factory=list)

    @property
    def version(self) -> str | None: return self.kernel or self.library_version


@dataclass
class Card:
    """A graphics card on the bus, whatever its driver. `maker`: "nvidia", "amd", "intel"; `device`: its number there; `driver`: the kernel's module that has it, or ""."""
    address: str
    maker: str
    device: str
    driver: str


@dataclass
class Toolkit:
    """A CUDA toolkit: where, which, and who points to it ("CUDA_HOME", "PATH", "/usr/local" …)."""
    path: str
    version: str | None
    named_by: list[str] = field(default_factory=list)


# ---------------------------------------------------------------- the bus
def bus(host: Host) -> list[Card]:
    """Graphics cards of Linux's PCI buses."""
    root, out = "/sys/bus/pci/devices", []
    for a in host.names(root):
        if not (host.text(f"{root}/{a}/class") or "").startswith(DISPLAYS): continue
        maker = MAKERS.get((host.text(f"{root}/{a}/vendor") or "").strip())
        m = re.search(r"^DRIVER=(\S+)", host.text(f"{root}/{a}/uevent") or "", re.MULTILINE)
        if maker: out.append(Card(a, maker, (host.text(f"{root}/{a}/device") or "").strip(), m[1] if m else ""))
    return out


# ---------------------------------------------------------------- the driver
def kernel_driver(host: Host) -> str | None:
    """The loaded module's version, by either of the files that say it."""
    for file in ("/sys/module/nvidia/version", "/proc/driver/nvidia/version"):
        m = NUMBER.search((host.text(file) or "")[:4096])
        if m: return m[1]
    return None


def driver_and_gpus(host: Host) -> tuple[Driver, list[Gpu]]:
    """The driver, and the GPUs: those that CUDA sees; where it sees none, all that are known of."""
    d = Driver(kernel_driver(host))
    if host.system == "linux": _library(host, d)
    if host.system == "windows":
        place = f"{host.environment.get('SystemRoot', 'C:/Windows')}/{WINDOWS_DRIVER}".replace("\\", "/")
        d.library = place if host.exists(place) else None
    gpus = _asked(host, d) or d.all
    if not gpus and not d.hung: gpus = _from_smi(host, d)
    return d, gpus or _from_proc(host)


def _library(host: Host, d: Driver):
    found = Loader(host).outside("libcuda.so.1")
    if found.path is None: return
    d.library, d.library_rule = found.path, found.rule
    m = NUMBER.search((host.real(found.path) or "").rsplit("/", 1)[-1])
    d.library_version = m[1] if m else None


def _asked(host: Host, d: Driver) -> list[Gpu]:
    answer = host.ask(host.python, "-I", "-S", PROBE, seconds=SECONDS) if host.answers is None else host.ask("cuda")
    if host.answers is None and host.python != sys.executable and (answer is None or answer.code is not None and not last_said(answer.out)):     # that was no Python
        answer = host.ask(sys.executable, "-I", "-S", PROBE, seconds=SECONDS)
    if answer is None: return []
    d.hung = answer.code is None
    said = shaped(last_said(answer.out), ANSWER)
    if answer.code and said: d.crashed = answer.code
    d.init, d.error, d.denied = said.get("init"), said.get("error"), [[path, group] for path, group in _pairs(said.get("denied", []))]
    if said.get("file"): d.library = said["file"]
    if said.get("version"): d.cuda = f"{said['version'] // 1000}.{said['version'] % 1000 // 10}"
    management = shaped(said.get("nvml"), MANAGED)
    d.nvml, d.all = management.get("init"), [_gpu(x, "nvml") for x in management.get("devices", [])]
    if d.kernel is None and NUMBER.fullmatch(management.get("driver", "")): d.kernel = management["driver"]
    return [_gpu(x, "driver") for x in said.get("devices", [])]


def last_said(text: str) -> dict:
    """The last line of JSON."""
    for line in reversed(text.splitlines()):
        said = parsed(line)
        if isinstance(said, dict): return said
    return {}


def _pairs(listed: list): return [x for x in listed if isinstance(x, list) and len(x) == 2 and isinstance(x[0], str) and isinstance(x[1], (int, type(None)))]


def _gpu(x, source: str) -> Gpu:
    x = shaped(x, DEVICE)
    uuid, parts = x.get("uuid"), x.get("instances")
    if uuid and re.fullmatch("[0-9a-f]{32}", uuid): uuid = "GPU-" + "-".join((uuid[:8], uuid[8:12], uuid[12:16], uuid[16:20], uuid[20:]))
    return Gpu(x.get("name", ""), f"{x['major']}.{x['minor']}" if "major" in x and "minor" in x else None, x.get("memory"), uuid, source, x.get("compute_mode"),
               None if parts is None else [u for u in parts if isinstance(u, str)])


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


def debs(host: Host) -> dict[str, str]:
    """Packages of Debian's family that are the driver's or CUDA's, with their versions, if they are installed."""
    text, out = host.text("/var/lib/dpkg/status") or "", {}
    for m in re.finditer(r"^Package: ((?:lib)?(?:nvidia|cuda|xserver-xorg-video-nvidia)\S*|libcuda1)\n((?:.+\n)*)", text, re.MULTILINE):
        version = re.search(r"^Version: (\S+)", m[2], re.MULTILINE)
        if re.search(r"^Status: \S+ \S+ installed$", m[2], re.MULTILINE): out[m[1]] = version[1] if version else ""
    return out


# ---------------------------------------------------------------- toolkits
def toolkits(host: Host) -> list[Toolkit]:
    """Those that variables name, there or not; and where PATH, conda and the usual folders really have one."""
    places: dict[str, list[str]] = {}
    named, windows = set(), host.system == "windows"
    for variable in ("CUDA_HOME", "CUDA_PATH", "CUDA_ROOT"):
        value = host.environment.get(variable, "").replace("\\", "/" if windows else "\\").rstrip("/")
        if value:
            places.setdefault(value, []).append(variable)
            named.add(value)
    for folder in host.environment.get("PATH", "").split(";" if windows else ":"):
        folder = folder.replace("\\", "/").rstrip("/") if windows else folder
        compiler = f"{folder}/nvcc{'.exe' if windows else ''}"
        if folder and host.exists(compiler) and "/bin/" in (real := host.real(compiler) or compiler): places.setdefault(real.rsplit("/bin/", 1)[0], []).append("PATH")
    for root, start in ((WINDOWS_TOOLKITS, "v"),) if windows else (("/usr/local", "cuda"), ("/opt", "cuda"), ("/usr/lib", "cuda")):
        for name in host.names(root):
            if name.startswith(start): places.setdefault(f"{root}/{name}", []).append(root)
    conda = host.environment.get("CONDA_PREFIX", "").replace("\\", "/" if windows else "\\")
    if conda and any(host.exists(f"{conda}/{nvcc}") for nvcc in ("bin/nvcc", "Library/bin/nvcc.exe")): places.setdefault(conda, []).append("conda")
    out: dict[str, Toolkit] = {}
    for path, by in places.items():
        real = host.real(path)
        version = toolkit_version(host, real) if real else None
        if version is None and path not in named: continue
        if real is None: out[path] = Toolkit(path, None, by)
        elif real in out: out[real].named_by += by
        else: out[real] = Toolkit(real, version, by)
    return list(out.values())


def toolkit_version(host: Host, path: str) -> str | None:
    """By its own notes, else by its headers, else by the name of its runtime."""
    try: return str(parsed(host.text(f"{path}/version.json"))["cuda"]["version"])
    except (KeyError, TypeError): pass
    m = re.search(r"CUDA Version (\d+\.\d+[\d.]*)", host.text(f"{path}/version.txt") or "")
    if m: return m[1]
    for folder in ("", "targets/x86_64-linux/", "targets/sbsa-linux/", "targets/aarch64-linux/"):
        m = re.search(r"#define CUDA_VERSION (\d+)", host.text(f"{path}/{folder}include/cuda.h") or "")
        if m: return f"{int(m[1]) // 1000}.{int(m[1]) % 1000 // 10}"
    for folder in ("lib64", "lib"):
        m = next((m for n in host.names(f"{path}/{folder}") if (m := re.fullmatch(r"libcudart\.so\.(\d+\.\d+)\.\d+", n))), None)
        if m: return m[1]
    return None


# ---------------------------------------------------------------- forno itself
FORNO = 12, 0                                  # the oldest CUDA version of a driver that forno works with
PTX = (((12, 0), "8.0"), ((12, 1), "8.1"), ((12, 2), "8.2"), ((12, 3), "8.3"), ((12, 4), "8.4"), ((12, 5), "8.5"), ((12, 7), "8.6"), ((12, 8), "8.7"), ((12, 9), "8.8"),
       ((13, 0), "9.0"), ((13, 1), "9.1"))


def forno(d: Driver) -> dict | None:
    """What forno does with this driver: it writes PTX in the newest version that the driver takes. None: no driver answered."""
    if d.cuda is None: return None
    x, y = map(int, d.cuda.split("."))
    return {"cuda": d.cuda, "ptx": next((ptx for since, ptx in reversed(PTX) if since <= (x, y)), None), "works": (x, y) >= FORNO}
