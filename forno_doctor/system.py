"""The ground that everything stands on: operating system, C library, container, Python.

Comes in: a Host. Goes out: plain values.
"""
from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

from .host import Host

ASK_PYTHON = ("import json,sys,sysconfig,site,platform;print(json.dumps(dict(version=platform.python_version(),implementation=platform.python_implementation(),"
              "prefix=sys.prefix,base=sys.base_prefix,path=[p for p in sys.path if p],free=bool(sysconfig.get_config_var('Py_GIL_DISABLED')),"
              "bits=64 if sys.maxsize>2**32 else 32,libc=platform.libc_ver())))")


@dataclass
class Python:
    """`version`: "3.12.3"; `free`: without a global lock; `path`: folders that it imports from; `virtual`: an environment of its own."""
    executable: str
    version: str = ""
    free: bool = False
    bits: int = 64
    prefix: str = ""
    virtual: bool = False
    path: list[str] = field(default_factory=list)

    @property
    def tag(self) -> str:
        """As the tables name it: "3.12", "3.13t"."""
        return ".".join(self.version.split(".")[:2]) + ("t" if self.free else "")


@dataclass
class System:
    """`container`: "docker", "podman", "kubernetes" … or None; `wsl`: 1, 2 or None; `conda`: the environment's folder."""
    platform: str
    name: str = ""
    kernel: str = ""
    glibc: str | None = None
    container: str | None = None
    wsl: int | None = None
    conda: str | None = None


def system(host: Host) -> System:
    release = dict(re.findall(r'^(\w+)="?([^"\n]*)"?$', host.text("/etc/os-release") or "", re.MULTILINE))
    version = host.text("/proc/version") or ""
    out = System(host.platform, release.get("PRETTY_NAME", host.system), (re.search(r"version (\S+)", version) or [None, ""])[1], conda=host.environment.get("CONDA_PREFIX"))
    if "microsoft" in version.lower(): out.wsl = 2 if host.exists("/dev/dxg") or "WSL2" in version else 1
    out.container = container(host)
    out.glibc = glibc(host)
    return out


def container(host: Host) -> str | None:
    if host.exists("/.dockerenv"): return "docker"
    if host.exists("/run/.containerenv"): return "podman"
    if "KUBERNETES_SERVICE_HOST" in host.environment: return "kubernetes"
    if any(x in host.environment for x in ("APPTAINER_CONTAINER", "SINGULARITY_CONTAINER")): return "apptainer"
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
    answer = host.ask(host.python, "-c", ASK_PYTHON) if host.answers is None else host.ask("python")
    try: said = json.loads(answer.out) if answer is not None else {}
    except ValueError: said = {}
    out = Python(host.python, said.get("version", ""), said.get("free", False), said.get("bits", 64), said.get("prefix", ""), said.get("prefix") != said.get("base"))
    out.path = [p for p in said.get("path", ()) if host.is_folder(p)]
    return out
