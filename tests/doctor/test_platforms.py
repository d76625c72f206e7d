"""What the doctor knows of systems, toolkits, programs and drivers: Linux, Windows and macOS made of files, and a real process where time is what matters."""
import json
import os
import random
import shutil
import subprocess
import sys
import time

import pytest

from forno_doctor import Host, diagnose, nvidia, system
from forno_doctor.machine import Machine as Examined

from .machines import Machine

TOOLKITS = "C:/Program Files/NVIDIA GPU Computing Toolkit/CUDA"
DARWIN = "Darwin Kernel Version 23.5.0: root:xnu-10063.121.3~5/RELEASE_ARM64_T6020"
ADA = {"name": "NVIDIA GeForce RTX 4090", "major": 8, "minor": 9, "memory": 24 << 30}


def ids(m) -> set: return {f.id for f in diagnose(m.host()).findings}


# ---------------------------------------------------------------- Windows
def windows(folder, **environment):
    site = "C:/app/Lib/site-packages"
    m = Machine(folder, system="windows", environment={"SystemRoot": "C:\\Windows", **environment}).file("C:/Windows/System32/nvcuda.dll")
    m.site = site
    m.file(f"{site}/torch/version.py", "__version__ = '2.6.0+cu124'\ncuda = '12.4'\n").package("torch", "2.6.0+cu124")
    return m.python_says(path=["C:\\app\\Lib\\site-packages"], prefix="C:\\app", base="C:\\Python312", kernel="10.0.22631", machine="AMD64", here="C:\\app")


def test_windows(tmp_path):
    m = windows(tmp_path, CUDA_PATH=TOOLKITS.replace("/", "\\") + "\\v12.4").file(f"{TOOLKITS}/v12.4/version.json", '{"cuda": {"version": "12.4.1"}}')
    m.file(f"{TOOLKITS}/v11.8/include/cuda.h", "#define CUDA_VERSION 11080\n")
    m.says("cuda", json.dumps({"library": "nvcuda.dll", "init": 0, "version": 12060, "devices": [ADA], "nvml": {"init": 0, "driver": "560.94", "devices": [ADA]}}))
    report = diagnose(m.host())
    x = report.machine
    assert (x.system.name, x.system.platform, x.system.kernel) == ("Windows 11", "windows_x86_64", "10.0.22631")
    assert (x.driver.version, x.driver.cuda, x.driver.library) == ("560.94", "12.6", "C:/Windows/System32/nvcuda.dll") and x.gpus[0].capability == "8.9"
    assert {(t.version, tuple(t.named_by)) for t in x.toolkits} == {("12.4.1", ("CUDA_PATH", TOOLKITS)), ("11.8", (TOOLKITS,))}
    assert x.torch and x.torch.version == "2.6.0+cu124" and not {f.id for f in report.findings if f.area in ("driver", "python")}


def test_windows_by_nvidia_smi(tmp_path):
    m = windows(tmp_path).says(" ".join(nvidia.SMI), "NVIDIA GeForce RTX 4090, 560.94, 8.9, 24564, GPU-1\r\n")
    x = Examined(m.host())
    assert x.driver.version == "560.94" and (x.gpus[0].memory, x.gpus[0].source) == (24564 << 20, "nvidia-smi")


def test_windows_and_numpy_2(tmp_path):
    """Its wheels of 2.3 and 2.4.0 were still made for NumPy 1."""
    m = windows(tmp_path)
    m.file(f"{m.site}/torch/version.py", "__version__ = '2.3.1+cu121'\ncuda = '12.1'\n").package("numpy", "2.0.0")
    assert "numpy2-torch" in ids(m)


# ---------------------------------------------------------------- macOS
def mac(folder, machine="arm64", kernel=DARWIN, **more):
    plist = "<dict><key>ProductName</key><string>macOS</string><key>ProductVersion</key>\n\t<string>14.5</string></dict>"
    return Machine(folder, system="macos", machine=machine, **more).file("/System/Library/CoreServices/SystemVersion.plist", plist).python_says(machine=machine, kernel=kernel)


def test_macos(tmp_path):
    m = mac(tmp_path).torch("2.6.0")
    assert not ids(m)
    assert (x := Examined(m.host()).system).name == "macOS 14.5" and x.platform == "macos_arm64"


def test_an_intel_python_on_apple_silicon(tmp_path): assert ids(mac(tmp_path, machine="x86_64")) == {"rosetta"}


@pytest.mark.parametrize("python, severity, command", [("3.12.4", "note", '/opt/app/bin/python -m pip install "torch==2.2.2" "numpy<2"'), ("3.13.1", "warning", "uv venv --python 3.12")])
def test_macs_with_intel(tmp_path, python, severity, command):
    f, = diagnose(mac(tmp_path, "x86_64", "Darwin Kernel Version 22.6.0: root:xnu-8796/RELEASE_X86_64", python=python).host()).findings
    assert (f.id, f.severity, f.commands[0], f.data["last"]) == ("intel-mac", severity, command, "3.12")


def test_a_wheel_for_a_newer_macos(tmp_path):
    m = mac(tmp_path).torch("2.6.0")
    m.file(f"{m.site}/torch-2.6.0.dist-info/WHEEL", "Tag: cp312-none-macosx_15_0_arm64\n")
    f, = diagnose(m.host()).findings
    assert f.id == "wheel-needs-macos" and f.data["needed"] == "15.0" and f.data["macos"] == "14.5"


# ---------------------------------------------------------------- Linux
def test_systems(tmp_path):
    alpine = Machine(tmp_path / "a", glibc="").file("/lib/ld-musl-x86_64.so.1").file("/etc/os-release", 'ID=alpine\nPRETTY_NAME="Alpine Linux v3.20"\n').file("/proc/meminfo", "MemTotal:  16384 kB\n")
    x = Examined(alpine.host()).system
    assert (x.name, x.musl, x.glibc, x.memory, x.distribution) == ("Alpine Linux v3.20", True, None, 16 << 20, ["alpine"]) and ids(alpine) == {"musl"}
    board = Examined(Machine(tmp_path / "b", machine="aarch64").file("/etc/nv_tegra_release", "# R35 (release), REVISION: 4.1, GCID: 33958178\n").host()).system
    assert board.jetson == "35.4.1" and board.container is None and board.platform == "linux_aarch64"
    wsl = Examined(Machine(tmp_path / "c", kernel="Linux version 5.15.90.1-microsoft-standard-WSL2").file("/.dockerenv").host()).system
    assert (wsl.wsl, wsl.container) == (2, "docker")


def toolkits(m) -> list: return [(t.path, t.version, t.named_by) for t in Examined(m.host()).toolkits]


def test_toolkits(tmp_path):
    m = Machine(tmp_path, environment={"PATH": "/usr/local/bin:/usr/local/cuda/bin", "CUDA_HOME": "/srv/cuda-gone", "CONDA_PREFIX": "/opt/conda/envs/x"})
    m.file("/usr/local/bin/nvcc", "#!/bin/sh\n").file("/usr/local/cuda-13.0/bin/nvcc").file("/usr/local/cuda-13.0/include/cuda.h", "#define CUDA_VERSION 13000\n").link("/usr/local/cuda", "cuda-13.0")
    m.file("/usr/local/cuda-12.4/lib64/libcudart.so.12.4.127").file("/usr/local/cudnn/readme").file("/usr/lib/cuda/version.txt", "CUDA Version 11.5.119\n")
    assert toolkits(m) == [("/srv/cuda-gone", None, ["CUDA_HOME"]), ("/usr/local/cuda-13.0", "13.0", ["PATH", "/usr/local", "/usr/local"]),
                           ("/usr/local/cuda-12.4", "12.4", ["/usr/local"]), ("/usr/lib/cuda", "11.5.119", ["/usr/lib"])]
    m.file("/opt/conda/envs/x/bin/nvcc").file("/opt/conda/envs/x/targets/x86_64-linux/include/cuda.h", "#define CUDA_VERSION 12060\n")
    assert ("/opt/conda/envs/x", "12.6", ["conda"]) in toolkits(m)


def test_the_bus(tmp_path):
    m = Machine(tmp_path).card(0, driver="nvidia").card(1, vendor="0x1002", device="0x744c", driver="amdgpu").card(2, vendor="0x1af4")
    m.file("/sys/bus/pci/devices/0000:09:00.0/vendor", "0x10de\n").file("/sys/bus/pci/devices/0000:09:00.0/class", "0x040300\n")               # its sound
    x = Examined(m.host())
    assert [(c.maker, c.device, c.driver) for c in x.bus] == [("nvidia", "0x2684", "nvidia"), ("amd", "0x744c", "amdgpu")] and len(x.cards) == 1


def test_packages_of_debian(tmp_path):
    status = ("Package: nvidia-driver-535\nStatus: deinstall ok config-files\nVersion: 535.1\n\nPackage: libnvidia-compute-550\nArchitecture: amd64\nStatus: install ok installed\n"
              "Version: 550.54.14-0ubuntu1\n\nPackage: nano\nStatus: install ok installed\nVersion: 7\n")
    assert nvidia.debs(Machine(tmp_path).file("/var/lib/dpkg/status", status).host()) == {"libnvidia-compute-550": "550.54.14-0ubuntu1"}


def test_ptx_of_forno():
    """As forno itself chooses it."""
    chips = pytest.importorskip("forno.gpu.chips")
    for x, y in [(12, k) for k in range(10)] + [(13, k) for k in range(5)]:
        ptx = chips.newest_ptx(1000 * x + 10 * y)
        assert nvidia.forno(nvidia.Driver(cuda=f"{x}.{y}")) == {"cuda": f"{x}.{y}", "ptx": f"{ptx // 10}.{ptx % 10}", "works": True}
    assert nvidia.forno(nvidia.Driver()) is None and nvidia.forno(nvidia.Driver(cuda="11.8"))["works"] is False


# ---------------------------------------------------------------- real processes
def program(path, text):
    path.write_text(text)
    path.chmod(0o755)
    return str(path)


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's script")
def test_programs_that_hang_are_asked_side_by_side(tmp_path, monkeypatch):
    monkeypatch.setattr(nvidia, "SECONDS", 1.0)
    monkeypatch.setattr(system, "SECONDS", 1.0)
    began = time.monotonic()
    m = Examined(Host(python=program(tmp_path / "python", "#!/bin/sh\nexec sleep 60\n")))
    m.ask()
    assert time.monotonic() - began < 1.9 and m.driver.hung and m.python.problem == "hung"


@pytest.mark.skipif(sys.platform == "win32", reason="a shell's script")
def test_a_program_that_is_no_python(tmp_path):
    m = Examined(Host(python=program(tmp_path / "python", "#!/bin/sh\necho no; exit 3\n")))
    assert m.python.problem == "silent" and m.python.said == "no" and not m.driver.hung
    assert Examined(Host(python=str(tmp_path / "none"))).python.problem == "missing" and Examined(Host(python=str(tmp_path))).python.problem == "missing"


def test_a_real_python_says_what_it_is(tmp_path, monkeypatch):
    (tmp_path / "platform.py").write_text("raise SystemExit('the doctor ran what lay in this folder')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    p = system.python(Host())
    assert p.problem is None and p.version == ".".join(map(str, sys.version_info[:3])) and p.bits == 64 and os.path.realpath(p.here) == os.path.realpath(tmp_path)


FAKE_CUDA = """
#include <string.h>
#include <stdlib.h>
#include <unistd.h>
int cuInit(unsigned f) { %s }
int cuDriverGetVersion(int *v) { *v = 12040; return 0; }
int cuDeviceGetCount(int *n) { *n = 1; return 0; }
int cuDeviceGet(int *d, int k) { *d = k; return 0; }
int cuDeviceGetName(char *s, int n, int d) { strcpy(s, "Fake"); return 0; }
int cuDeviceGetAttribute(int *v, int a, int d) { *v = a == 75 ? 8 : a == 76 ? 9 : 0; return 0; }
"""
FAKE_NVML = """
#include <string.h>
int nvmlInit_v2(void) { return 0; }
int nvmlSystemGetDriverVersion(char *s, unsigned n) { strcpy(s, "550.54.14"); return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 1; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned k, void **h) { *h = h; return 0; }
int nvmlDeviceGetName(void *h, char *s, unsigned n) { strcpy(s, "Fake"); return 0; }
int nvmlDeviceGetMigMode(void *h, unsigned *a, unsigned *b) { *a = *b = 1; return 0; }
int nvmlDeviceGetMaxMigDeviceCount(void *h, unsigned *n) { *n = 2; return 0; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *h, unsigned k, void **p) { *p = p; return k; }
int nvmlDeviceGetUUID(void *h, char *s, unsigned n) { strcpy(s, "MIG-1"); return 0; }
"""


@pytest.fixture
def fake(tmp_path):
    """A host whose driver is one of these."""
    compiler = shutil.which("gcc")
    if compiler is None or not sys.platform.startswith("linux"): pytest.skip("needs gcc")

    def made(init):
        for name, text in (("libcuda.so.1", FAKE_CUDA % init), ("libnvidia-ml.so.1", FAKE_NVML)):
            subprocess.run([compiler, "-x", "c", "-", "-shared", "-fPIC", "-w", "-o", str(tmp_path / name)], input=text.encode(), check=True, timeout=60)
        return Host(environment={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)})
    return made


def test_a_driver_is_asked(fake, tmp_path):
    d, gpus = nvidia.driver_and_gpus(fake("return 0;"))
    assert (d.init, d.cuda, d.nvml, d.hung, d.crashed) == (0, "12.4", 0, False, None) and os.path.realpath(d.library) == os.path.realpath(tmp_path / "libcuda.so.1")
    assert [(g.name, g.capability, g.source) for g in gpus] == [("Fake", "8.9", "driver")] and d.all[0].instances == ["MIG-1"]


def test_a_driver_that_refuses(fake): assert nvidia.driver_and_gpus(fake("return 999;"))[0].init == 999


def test_a_driver_that_ends_the_process(fake):
    d, gpus = nvidia.driver_and_gpus(fake("abort();"))
    assert d.crashed == -6 and d.init is None and gpus[0].source == "nvml"


def test_a_driver_that_hangs(fake, monkeypatch):
    """What NVML said before isn't lost."""
    monkeypatch.setattr(nvidia, "SECONDS", 2.0)
    began = time.monotonic()
    d, gpus = nvidia.driver_and_gpus(fake("sleep(60); return 0;"))
    assert d.hung and time.monotonic() - began < 10 and gpus[0].source == "nvml"


def test_another_python_asks_the_driver_where_the_examined_one_cannot(fake, tmp_path):
    host = fake("return 0;")
    host.python = program(tmp_path / "python", "#!/bin/sh\necho no; exit 3\n")
    assert nvidia.driver_and_gpus(host)[0].init == 0


# ---------------------------------------------------------------- machines that are well
def healthy():
    """Name, and what makes it of a folder."""
    def pod(d):
        m = Machine(d, environment={"KUBERNETES_SERVICE_HOST": "10.0.0.1", "NVIDIA_VISIBLE_DEVICES": "GPU-00000000-0000-0000-0000-000000000000"}).gpu("NVIDIA H100 80GB HBM3", "9.0")
        return m.file("/.dockerenv").card(7).torch("2.6.0+cu124", architectures=["9.0"])                           # a second card of the host, not for this pod

    def job(d): return node(d).environment(CUDA_VISIBLE_DEVICES="1,3", SLURM_JOB_ID="7")

    def node(d):
        m = Machine(d)
        for _ in range(4): m.gpu("NVIDIA H100 80GB HBM3", "9.0", driver="570.124.06")
        return m.torch("2.6.0+cu124", architectures=["9.0"])

    def forward(d):
        compat = "/usr/local/cuda-12.4/compat"
        m = Machine(d, environment={"LD_LIBRARY_PATH": compat}).gpu("NVIDIA A100-SXM4-40GB", "8.0", driver="535.183.01", cuda="12.4").torch("2.6.0+cu124", architectures=["8.0"])
        return m.library(f"{compat}/libcuda.so.550.54.14", soname="libcuda.so.1").link(f"{compat}/libcuda.so.1", "libcuda.so.550.54.14")

    def part(d):
        gpu = {"name": "NVIDIA A100-SXM4-40GB", "uuid": "GPU-1", "major": 8, "minor": 0, "compute_mode": 0}
        m = Machine(d).gpu(gpu["name"], "8.0").torch("2.6.0+cu124", architectures=["8.0"])
        return m.driver_says(devices=[gpu], nvml={"init": 0, "devices": [gpu | {"instances": ["MIG-1"]}]}).environment(CUDA_VISIBLE_DEVICES="MIG-1")

    def wsl(d):
        m = Machine(d, kernel="Linux version 5.15.153.1-microsoft-standard-WSL2").file("/dev/dxg").library("/usr/lib/wsl/lib/libcuda.so.1").torch("2.6.0+cu124", architectures=["8.9"])
        nvml = {"init": 0, "driver": "560.94", "devices": [ADA]}
        return m.driver_says(library="libcuda.so.1", file="/usr/lib/wsl/lib/libcuda.so.1", init=0, version=12060, devices=[ADA], nvml=nvml).file("/etc/ld.so.conf.d/ld.wsl.conf", "/usr/lib/wsl/lib\n")

    def board(d):
        m = Machine(d, machine="aarch64").file("/etc/nv_tegra_release", "# R36 (release), REVISION: 4.0\n").library("/usr/lib/aarch64-linux-gnu/nvidia/libcuda.so.1.1", machine="aarch64")
        m.driver_says(library="libcuda.so.1", init=0, version=12060, devices=[{"name": "Orin", "major": 8, "minor": 7}], nvml={})
        return m.file(f"{m.site}/torch/version.py", "__version__ = '2.5.0a0+872d972e41.nv24.08'\ncuda = '12.6'\n").package("torch", "2.5.0a0+872d972e41.nv24.08")

    def laptop(d): return Machine(d).card(vendor="0x8086", device="0x46a6", driver="i915").torch("2.6.0+cpu").package("numpy", "2.1.0")

    def conda(d):
        m = Machine(d, environment={"CONDA_PREFIX": "/opt/app"}).torch("2.6.0").file("/opt/app/conda-meta/pytorch-2.6.0-cpu_mkl_py312_100.json", '{"channel": "conda-forge"}')
        return m.file(f"{m.site}/torch-2.6.0.dist-info/INSTALLER", "conda\n")

    def editable(d): return Machine(d, environment={"PYTHONPATH": "/srv/project/src"}).torch("2.6.0+cpu").file("/srv/project/src/model/__init__.py").python_says(here="/srv/project/src")

    def free_threads(d): return Machine(d, python="3.13.2").python_says(free=True).torch("2.6.0+cpu")

    def mac_here(d): return mac(d).torch("2.6.0").package("numpy", "2.1.0")

    def windows_here(d):
        return windows(d).driver_says(library="nvcuda.dll", init=0, version=12060, devices=[ADA], nvml={"init": 0, "driver": "560.94", "devices": [ADA]})

    def old(d): return Machine(d, python="3.8.19", glibc="2.17").gpu("Tesla V100-SXM2-16GB", "7.0", driver="525.85.12").torch("2.2.2+cu121", architectures=["7.0"]).package("numpy", "1.24.4")

    return [pod, job, node, forward, part, wsl, board, laptop, conda, editable, free_threads, mac_here, windows_here, old]


@pytest.mark.parametrize("made", healthy(), ids=lambda made: made.__name__)
def test_machines_that_are_well(tmp_path, made):
    report = diagnose(made(tmp_path).host())
    assert not [f for f in report.findings if f.area in ("driver", "python") or f.severity == "error"] and report.machine.torch


# ---------------------------------------------------------------- answers that are none
NONSENSE = None, 5, -1, "x", "", [], {}, [1], {"a": 1}, True, 1.5, "9" * 5000, 2 ** 70, [[1]], ["x", None], "a\0b"


def spoiled(said, rng):
    """With a part of it replaced."""
    if isinstance(said, dict) and said and rng.random() < 0.8:
        key = rng.choice(list(said))
        return {**said, key: spoiled(said[key], rng)}
    if isinstance(said, list) and said and rng.random() < 0.8:
        k = rng.randrange(len(said))
        return [*said[:k], spoiled(said[k], rng), *said[k + 1:]]
    return rng.choice(NONSENSE)


def test_answers_of_the_wrong_kind(tmp_path):
    m = Machine(tmp_path).gpu(ADA["name"], "8.9", driver="550.54.14").torch("2.6.0+cu124", architectures=["8.9"]).package("numpy", "2.1.0").python_says(user="/srv/home", here="/srv/project")
    said, rng = {k: json.loads(m.answers[k]["out"]) for k in ("cuda", "python")}, random.Random(7)
    for _ in range(25):
        m.answers.update({k: {"out": json.dumps(v)} for k, v in said.items()})
        which = rng.choice(["cuda", "python"])
        m.says(which, json.dumps(spoiled(spoiled(said[which], rng), rng)))
        report = diagnose(m.host())
        assert json.dumps(report.as_data()) and "check-failed" not in {f.id for f in report.findings}, m.answers[which]["out"]
