"""The ground that everything stands on: operating system, C library, container, Python.

Comes in: a Host. Goes out: plain values.
Source: os-release(5), ld.so(8); Python's library reference, "site" and "sysconfig"; Apple's SystemVersion.plist; NVIDIA's /etc/nv_tegra_release of Jetson boards; the UEFI
specification, "Globally Defined Variables" (SecureBoot).
"""
from __future__ import annotations

import re
from dataclasses import dataclass, field

from .host import Host, parsed, shaped

# Also Pythons are asked that are too old for everything else here (2.7, 3.5). First without the folder that it happens to run in: a platform.py there is nothing that the
# doctor may run.
ASK_PYTHON = """
import sys
here = sys.path.pop(0) if sys.path[:1] == [''] else None
import json, os, platform, site, sysconfig
name = os.uname() if hasattr(os, 'uname') else None
print(json.dumps(dict(
    version=platform.python_version(), implementation=platform.python_implementation(), prefix=sys.prefix, base=getattr(sys, 'base_prefix', sys.prefix),
    path=[p for p in sys.path if p],
    free=bool(sysconfig.get_config_var('Py_GIL_DISABLED')), bits=64 if sys.maxsize > 2 ** 32 else 32, musl='musl' in (sysconfig.get_config_var('HOST_GNU_TYPE') or ''),
    machine=name[4] if name else os.environ.get('PROCESSOR_ARCHITECTURE', ''), kernel=name[3] if name else '.'.join(map(str, sys.getwindowsversion()[:3])),
    user=getattr(site, 'USER_SITE', None) if getattr(site, 'ENABLE_USER_SITE', None) else None, here=os.getcwd() if here is not None else None)))
"""
SECONDS = 10.0                                 # a Python on a network drive takes some to start
ANSWER = {"version": str, "free": bool, "bits": int, "prefix": str, "base": str, "path": list, "implementation": str, "machine": str, "kernel": str, "musl": bool, "user": str,
          "here": str}
MISSING, SILENT, HUNG, VARIABLES = "missing", "silent", "hung", "variables"
MUSL = "/lib/ld-musl-x86_64.so.1", "/lib/ld-musl-aarch64.so.1"
SECURE_BOOT = "/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c"


@dataclass
class Python:
    """`version`: "3.12.3"; `free`: without a global lock; `path`: folders that it imports from; `virtual`: an environment of its own; `user`: the folder of packages for all
    environments of this person, if it is imported from; `here`: the folder it was started in, if that comes first; `problem`: why it didn't answer ("missing", "silent",
    "hung"), or "variables": it starts only without PYTHONPATH and PYTHONHOME; `said`: its last line of that."""
    executable: str
    version: str = ""
    free: bool = False
    bits: int = 64
    prefix: str = ""
    virtual: bool = False
    path: list[str] = field(default_factory=list)
    implementation: str = ""
    machine: str = ""
    kernel: str = ""
    musl: bool = False
    user: str | None = None
    here: str | None = None
    problem: str | None = None
    said: str = ""

    @property
    def tag(self) -> str:
        """As the tables name it: "3.12", "3.13t"."""
        return ".".join(self.version.split(".")[:2]) + ("t" if self.free else "")


@dataclass
class System:
    """`container`: "docker", "podman", "kubernetes" … or None; `wsl`: 1, 2 or None; `conda`: the environment's folder; `distribution`: of Linux, "ubuntu", and those that it is
    like; `jetson`: the release of NVIDIA's Linux for Jetson boards, "36.4.0"; `secure_boot`: only signed modules are loaded; `memory`, `shared` (/dev/shm), `free` (on the disk
    of the examined Python): bytes."""
    platform: str
    name: str = ""
    kernel: str = ""
    glibc: str | None = None
    container: str | None = None
    wsl: int | None = None
    conda: str | None = None
    musl: bool = False
    distribution: list[str] = field(default_factory=list)
    jetson: str | None = None
    secure_boot: bool | None = None
    memory: int | None = None
    shared: int | None = None
    free: int | None = None


def system(host: Host, python: Python | None = None) -> System:
    """`python`: the one that is examined; what it was built for decides which packages fit."""
    out = System(host.platform, host.system, conda=host.environment.get("CONDA_PREFIX"))
    place = host.space(python.prefix) if python is not None and python.prefix else None
    if place: out.free = place[0]
    if host.system == "linux": _linux(host, out)
    elif host.system == "macos": _macos(host, python, out)
    elif python is not None and re.fullmatch(r"[\d.]+", python.kernel):
        out.kernel, build = python.kernel, int(python.kernel.rsplit(".", 1)[-1])
        out.name = "Windows 11" if build >= 22000 else "Windows 10" if build >= 10240 else f"Windows {python.kernel}"
    return out


def _linux(host: Host, out: System):
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', host.text("/etc/os-release") or "", re.MULTILINE))
    version = host.text("/proc/version") or ""
    out.name, out.distribution = release.get("PRETTY_NAME", host.system), [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    out.kernel = (re.search(r"version (\S+)", version) or [None, ""])[1]
    if "microsoft" in version.lower(): out.wsl = 2 if host.exists("/dev/dxg") or "WSL2" in version or "microsoft-standard" in version else 1
    out.container, out.glibc = container(host), glibc(host)
    out.musl = out.glibc is None and any(host.exists(p) for p in MUSL)
    m = re.search(r"# R(\d+) \(release\), REVISION: ([\d.]+)", host.text("/etc/nv_tegra_release") or "")
    if m: out.jetson = f"{m[1]}.{m[2]}"
    boot = host.bytes(SECURE_BOOT)
    if boot and len(boot) == 5: out.secure_boot = boot[4] == 1     # four bytes of attributes, then the value
    m = re.search(r"^MemTotal:\s+(\d+) kB", host.text("/proc/meminfo") or "", re.MULTILINE)
    if m: out.memory = int(m[1]) << 10
    shared = host.space("/dev/shm")
    if shared: out.shared = shared[1]


def _macos(host: Host, python: Python | None, out: System):
    m = re.search(r"<key>ProductVersion</key>\s*<string>([\d.]+)", host.text("/System/Library/CoreServices/SystemVersion.plist") or "")
    out.name = f"macOS {m[1]}" if m else "macOS"
    if python is not None:
        out.kernel = python.kernel
        if python.machine: out.platform = f"macos_{python.machine}"


def container(host: Host) -> str | None:
    if "KUBERNETES_SERVICE_HOST" in host.environment: return "kubernetes"
    if host.exists("/.dockerenv"): return "docker"
    if host.exists("/run/.containerenv"): return "podman"
    if any(x in host.environment for x in ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")): return "apptainer"
    if host.environment.get("container") == "lxc" or (host.text("/run/systemd/container") or "").strip() == "lxc": return "lxc"
    return None


def glibc(host: Host) -> str | None:
    """From the library itself: its banner holds the version."""
    if host.system != "linux": return None
    for folder in ("/lib/x86_64-linux-gnu", "/lib/aarch64-linux-gnu", "/lib64", "/usr/lib64", "/usr/lib"):
        data = host.bytes(f"{folder}/libc.so.6")
        m = re.search(rb"GNU C Library[^\0]*?(?:release|stable release) version (\d+\.\d+)", data) if data else None
        if m: return m[1].decode()
    return None


def python(host: Host) -> Python:
    """The interpreter that is examined, asked in a process of its own; it need not be the one that runs this."""
    out = Python(host.python)
    answer = _ask(host)
    said = _said(answer)
    if answer is not None and answer.code is not None and not said:
        isolated = _ask(host, "-I")
        if _said(isolated): said, out.problem = _said(isolated), VARIABLES
    if answer is None: out.problem = MISSING
    elif answer.code is None: out.problem = HUNG
    elif not said: out.problem = SILENT
    if answer is not None and out.problem: out.said = next((line.strip() for line in reversed((answer.err or answer.out).splitlines()) if line.strip()), "")[:200]
    for key in ("version", "free", "bits", "prefix", "implementation", "machine", "kernel", "musl", "user", "here"):
        if key in said: setattr(out, key, said[key])
    out.machine = (out.machine or "").lower().replace("amd64", "x86_64")
    out.virtual = said.get("prefix") != said.get("base")
    if host.system == "windows": out.user, out.here = (p and p.replace("\\", "/") for p in (out.user, out.here))
    folders = [p.replace("\\", "/") if host.system == "windows" else p for p in said.get("path", ()) if isinstance(p, str)]
    out.path = [p for p in folders if host.is_folder(p)]
    return out


def _ask(host: Host, *flags: str):
    return host.ask(host.python, *flags, "-c", ASK_PYTHON, seconds=SECONDS) if host.answers is None else host.ask("python", *flags)


def _said(answer) -> dict:
    said = shaped(parsed(answer.out), ANSWER) if answer is not None else {}
    return said if re.match(r"\d+\.\d+", said.get("version", "")) else {}
