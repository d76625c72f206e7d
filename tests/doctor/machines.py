"""Machines that are made of files: fake /proc, /sys, packages and libraries in a folder, as a Host reads them.

    m = Machine(tmp_path).gpu("NVIDIA GeForce RTX 5090", "12.0", driver="570.124.06").torch("2.6.0+cu124")
    report = diagnose(m.host())
"""
import base64
import hashlib
import json
import os

from forno_doctor import Host

from .elf_file import MACHINES, library

SITE = "/opt/app/lib/python{python}/site-packages"
# What a CUDA wheel of torch needs beside itself: (package, folder, file), by CUDA's major version
NVIDIA = [("nvidia-cuda-runtime", "cuda_runtime", "libcudart.so.{m}"), ("nvidia-cublas", "cublas", "libcublas.so.{m}"), ("nvidia-cublas", "cublas", "libcublasLt.so.{m}"),
          ("nvidia-cudnn", "cudnn", "libcudnn.so.9"), ("nvidia-nccl", "nccl", "libnccl.so.2")]
NCCL = "ncclAllReduce", "ncclCommInitRank", "ncclCommRegister"


class Machine:
    """`python`: "3.12.4"; everything is written when it is said."""

    def __init__(self, folder, system="linux", machine="x86_64", python="3.12.4", kernel="Linux version 6.8.0-45-generic (gcc 13.2.0)", glibc="2.39", environment=None):
        self.folder, self.about = folder, {"system": system, "machine": machine, "environment": {"PATH": "/usr/bin", **(environment or {})}, "python": "/opt/app/bin/python"}
        self.cpu = machine if machine in MACHINES else "x86_64"
        self.shared = f"/usr/lib/{self.cpu}-linux-gnu"
        self.answers, self.short = {}, ".".join(python.split(".")[:2])
        self.site = SITE.format(python=self.short)
        folder.mkdir(parents=True, exist_ok=True)
        (self._place(self.site)).mkdir(parents=True)
        self.says("python", json.dumps({"version": python, "implementation": "CPython", "prefix": "/opt/app", "base": "/usr", "path": [self.site], "free": False, "bits": 64}))
        if system == "linux":
            self.file("/proc/version", kernel + "\n").file("/etc/os-release", 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 24.04 LTS"\n')
            self.file(f"/lib/{self.cpu}-linux-gnu/libc.so.6", f"GNU C Library (Ubuntu GLIBC {glibc}) stable release version {glibc}.\n")

    # ---- files and programs
    def _place(self, path): return self.folder / path.lstrip("/").replace(":", "")

    def file(self, path, content=""):
        place = self._place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes): place.write_bytes(content)
        else: place.write_text(content, encoding="utf-8")
        return self

    def link(self, path, to):
        place = self._place(path)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(to, place)
        return self

    def library(self, path, **about):
        """A shared library of this machine's kind."""
        return self.file(path, library(soname=about.pop("soname", path.rsplit("/", 1)[-1]), **{"machine": self.cpu, **about}))

    def environment(self, **variables): self.about["environment"].update(variables); return self

    def says(self, command, out="", code=0, err=""):
        """What a program answers; code None: it hangs."""
        self.answers[command] = {"code": code, "out": out, "err": err}
        return self

    # ---- packages
    def package(self, name, version, requires=(), files=(), installer="pip", site=None):
        """A distribution with its METADATA, RECORD and files ((path below site, content), of which the RECORD says hash and size, or a path that is only recorded)."""
        site = site or self.site
        info = f"{site}/{name.replace('-', '_')}-{version}.dist-info"
        self.file(f"{info}/METADATA", "\n".join(["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *(f"Requires-Dist: {r}" for r in requires), "", "text"]))
        self.file(f"{info}/INSTALLER", f"{installer}\n")
        listed = []
        for f in files:
            path, content = f if isinstance(f, tuple) else (f, None)
            if content is not None: self.file(f"{site}/{path}", content)
            listed.append(f"{path}," + ("," if content is None else _hashed(content)))
        return self.file(f"{info}/RECORD", "".join(f"{line}\n" for line in listed))

    def torch(self, version, cuda=None, architectures=(), extras=None, nvidia=True, runpath=True, site=None, requires=(), installer="pip"):
        """torch as its wheel lays it out: version.py, libraries that need NVIDIA's packages by RUNPATH, GPU code for `architectures` ("8.0", "9.0+PTX");
        `extras`: {"torchvision": "0.21.0+cu124"}; `requires`: its Requires-Dist."""
        site, tag = site or self.site, version.partition("+")[2]
        if cuda is None and tag.startswith("cu"): cuda = f"{tag[2:-1]}.{tag[-1]}"
        self.file(f"{site}/torch/version.py", f"__version__ = {version!r}\ndebug = False\ncuda = {cuda!r}\ngit_version = 'a1b2c3'\nhip = None\n")
        self.package("torch", version, requires, ["torch/version.py", "torch/__init__.py", "torch/lib/libtorch_cpu.so"], installer, site).file(f"{site}/torch/__init__.py", "raise SystemExit('the doctor imported torch')\n")
        lib = f"{site}/torch/lib"
        self.library(f"{lib}/libtorch_python.so", needed=["libtorch.so"], runpath="$ORIGIN").library(f"{lib}/libc10.so", defined=["_ZN3c105ErrorC1"])
        self.library(f"{lib}/libtorch.so", needed=["libtorch_cpu.so", *(["libtorch_cuda.so"] if cuda else [])], runpath="$ORIGIN")
        self.library(f"{lib}/libtorch_cpu.so", needed=["libc10.so"], runpath="$ORIGIN", defined=["_ZN2at4_ops3add4callE"])
        if cuda:
            wanted = [(p, f"{site}/nvidia/{d}/lib", n.format(m=cuda.split(".")[0])) for p, d, n in NVIDIA]
            path = ":".join(dict.fromkeys(f"$ORIGIN/../../nvidia/{f.split('/nvidia/')[1]}" for _, f, _ in wanted)) + ":$ORIGIN"
            codes = [c for a in architectures for c in _codes(a)]
            self.library(f"{lib}/libtorch_cuda.so", needed=[n for *_, n in wanted], **{"runpath" if runpath else "rpath": path}, codes=codes, undefined=NCCL)
            self.library(f"{lib}/libtorch_global_deps.so", needed=[n for *_, n in wanted], **{"runpath" if runpath else "rpath": path})
            if nvidia: self.nvidia(cuda.split(".")[0], site)
        for name, v in (extras or {}).items(): self.package(name, v, requires=[f"torch=={version.partition('+')[0]}"], files=[f"{name}/__init__.py"], site=site)
        return self

    def extension(self, package, version, path, requires=("torch",), needed=("libc10.so", "libtorch_cpu.so"), site=None, more=(), **about):
        """A package with one compiled part for torch, at `path` below site-packages; `more`: further files."""
        site = site or self.site
        self.package(package, version, requires, [path, *more], site=site)
        return self.library(f"{site}/{path}", needed=needed, **about)

    def nvidia(self, major, site=None, versions=None):
        """NVIDIA's packages of one CUDA generation."""
        site, by = site or self.site, {}
        for p, d, n in NVIDIA: by.setdefault(p, []).append(f"nvidia/{d}/lib/{n.format(m=major)}")
        for p, paths in by.items():
            name = f"{p}-cu{major}"
            files = [(f, library(soname=f.rsplit("/", 1)[-1], machine=self.cpu, defined=NCCL if "nccl" in f else (), runpath="$ORIGIN")) for f in paths]
            self.package(name, (versions or {}).get(p, "9.1.0.70" if "cudnn" in p else "2.21.5" if "nccl" in p else f"{major}.4.127"), files=files, site=site)
        return self

    # ---- GPUs
    def gpu(self, name, capability, driver="580.95.05", cuda=None, memory=24 << 30, library_version=None, init=0):
        """A GPU (again: one more) with its driver in kernel and user space; `init`: what cuInit returns."""
        self.file("/proc/driver/nvidia/version", f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Release Build\n").file("/sys/module/nvidia/version", f"{driver}\n")
        self.file("/dev/nvidiactl").file("/dev/nvidia0").file("/dev/nvidia-uvm").file("/sys/module/nvidia_uvm/initstate", "live\n")
        real = f"{self.shared}/libcuda.so.{library_version or driver}"
        if not self._place(f"{self.shared}/libcuda.so.1").is_symlink():
            self.library(real, soname="libcuda.so.1").link(f"{self.shared}/libcuda.so.1", real)
        said = json.loads(self.answers.get("cuda", {}).get("out") or '{"devices": []}')
        x, y = capability.split(".")
        speaks = cuda or {"450": "11.0", "470": "11.4", "525": "12.0", "535": "12.2", "550": "12.4", "560": "12.6", "570": "12.8", "580": "13.0"}.get(driver.split(".")[0], "13.0")
        a, b = speaks.split(".")
        said |= {"library": "libcuda.so.1", "init": init, "version": int(a) * 1000 + int(b) * 10}
        device = {"name": name, "major": int(x), "minor": int(y), "memory": memory}
        all_of_them = said.get("nvml", {}).get("devices", [])
        said["nvml"] = {"init": 0, "driver": driver, "devices": [*all_of_them, device | {"uuid": f"GPU-00000000-0000-0000-0000-{len(all_of_them):012x}", "compute_mode": 0}]}
        said["devices"].append(device | {"uuid": f"{len(said['devices']):032x}"})
        if init: said["devices"] = []
        self.file("/usr/bin/nvidia-smi")
        k = len(os.listdir(self._place("/sys/bus/pci/devices"))) if self._place("/sys/bus/pci/devices").exists() else 0
        self.card(k, driver="nvidia")
        return self.says("cuda", json.dumps(said))

    def card(self, k=0, vendor="0x10de", device="0x2684", driver=""):
        """A graphics card on the bus, NVIDIA's unless said otherwise; `driver`: the kernel's module that has it."""
        at = f"/sys/bus/pci/devices/0000:{k + 1:02x}:00.0"
        self.file(f"{at}/uevent", f"DRIVER={driver}\nPCI_CLASS=30000\n" if driver else "PCI_CLASS=30000\n")
        return self.file(f"{at}/vendor", f"{vendor}\n").file(f"{at}/class", "0x030000\n").file(f"{at}/device", f"{device}\n")

    def driver_says(self, **answer):
        """What the driver answers beside, or instead of, what `gpu` said."""
        return self.says("cuda", json.dumps({**json.loads(self.answers.get("cuda", {}).get("out") or "{}"), **answer}))

    def python_says(self, **answer):
        """What the examined Python answers beside, or instead of, the usual."""
        return self.says("python", json.dumps({**json.loads(self.answers["python"]["out"]), **answer}))

    def host(self) -> Host:
        self.file("/host.json", json.dumps(self.about)).file("/answers.json", json.dumps(self.answers))
        return Host.of(self.folder)


def _hashed(content) -> str:
    data = content if isinstance(content, bytes) else content.encode()
    return f"sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}"


def _codes(architecture):
    number = int(architecture.split("+")[0].replace(".", ""))
    return [("sass", number), *([("ptx", number)] if architecture.endswith("+PTX") else [])]
