"""NVIDIA's driver: in the kernel, as a library, in containers and WSL, on boards, and what variables let it see."""
import json
import os

import pytest

from forno_doctor import diagnose
from forno_doctor.checks import driver
from forno_doctor.nvidia import Gpu
from forno_doctor.words import Words

from . import findings
from .elf_file import library
from .machines import Machine

UBUNTU = 'ID=ubuntu\nID_LIKE=debian\nPRETTY_NAME="Ubuntu 24.04 LTS"\n'
COMPAT = "/usr/local/cuda-12.4/compat"
WSL = "Linux version 5.15.153.1-microsoft-standard-WSL2 (gcc 11.2.0)"
ADA = "NVIDIA GeForce RTX 4090"
found, only = findings.of("driver")


def ada(folder, torch="2.6.0+cu124", count=1, **more):
    m = Machine(folder, **({"environment": more.pop("environment")} if "environment" in more else {}))
    for _ in range(count): m.gpu(ADA, "8.9", driver="550.54.14", **more)
    return m.torch(torch, architectures=["8.9"]) if torch else m


def packages(m, *names):
    return m.file("/var/lib/dpkg/status", "".join(f"Package: {n}\nStatus: install ok installed\nVersion: 550.54.14-0ubuntu1\n\n" for n in names))


def test_what_works_is_left_alone(tmp_path):
    assert not found(ada(tmp_path / "plain"))
    for k, value in enumerate(("1", "0,1,", "0,-1", "GPU-00000000-0000-0000-0000-000000000001")):
        assert not found(ada(tmp_path / f"chosen{k}", count=2, environment={"CUDA_VISIBLE_DEVICES": value}))
    assert not found(Machine(tmp_path / "none").torch("2.6.0+cpu"))
    assert not found(Machine(tmp_path / "container").file("/.dockerenv").torch("2.6.0+cpu"))
    forward = ada(tmp_path / "forward", environment={"LD_LIBRARY_PATH": COMPAT}).file(f"{COMPAT}/libcuda.so.560.35.03", library("libcuda.so.1"))
    assert not found(forward.link(f"{COMPAT}/libcuda.so.1", "libcuda.so.560.35.03"))
    intel = Machine(tmp_path / "intel").card(vendor="0x8086", device="0x4680", driver="i915").torch("2.6.0+cpu")
    assert not found(intel)


# ---------------------------------------------------------------- a driver that is there
def test_an_update_without_reboot(tmp_path):
    f = only(ada(tmp_path, library_version="550.90.07", init=803))
    assert f.id == "driver-mismatch" and f.data == {"kernel": "550.54.14", "library": "550.90.07"} and f.commands == ["sudo reboot"] and f.severity == "error"


def test_nvml_alone_notices_a_mismatch(tmp_path):
    assert only(ada(tmp_path).driver_says(init=3, devices=[], nvml={"init": 18})).id == "driver-mismatch"


@pytest.mark.parametrize("code, id, command", [(2, "driver-out-of-memory", "free -h"), (46, "device-unavailable", "nvidia-smi"), (100, "no-device", "sudo dmesg | grep -i -E 'nvrm|xid'"),
    (304, "driver-os-error", "ls -l /dev/nvidia*"), (802, "fabric-manager", "sudo systemctl enable --now nvidia-fabricmanager"), (805, "mps-server", "nvidia-cuda-mps-control -d"),
    (999, "cuda-unknown-error", "sudo modprobe nvidia_uvm"), (3, "cuda-init", "sudo dmesg | grep -i -E 'nvrm|xid'"), (34, "stub-driver", None)])
def test_what_the_driver_returns(tmp_path, code, id, command):
    f = only(ada(tmp_path, init=code))
    assert f.id == id and f.severity == "error" and (f.commands[-1:] == [command] if command else not f.commands) and ("cuInit", driver.code_name(code)) in f.evidence


def test_forward_compatibility_on_a_geforce(tmp_path):
    m = ada(tmp_path, init=804, environment={"LD_LIBRARY_PATH": f"/srv/lib:{COMPAT}"}).file(f"{COMPAT}/libcuda.so.560.35.03", library("libcuda.so.1"))
    f = only(m.link(f"{COMPAT}/libcuda.so.1", "libcuda.so.560.35.03"))
    assert f.id == "compat-driver" and f.commands == ["export LD_LIBRARY_PATH=/srv/lib"] and f.data["path"].startswith(COMPAT)


def test_forward_compatibility_by_a_package(tmp_path):
    m = packages(ada(tmp_path, init=804).driver_says(file=f"{COMPAT}/libcuda.so.560.35.03"), "cuda-compat-12-6")
    assert only(m).commands == ["sudo apt remove cuda-compat-12-6", "sudo ldconfig"]


def test_a_stub_in_front(tmp_path):
    stubs = "/usr/local/cuda/lib64/stubs"
    f = only(ada(tmp_path, init=34, environment={"LD_LIBRARY_PATH": stubs}).library(f"{stubs}/libcuda.so.1"))
    assert f.id == "stub-driver" and f.commands == ["unset LD_LIBRARY_PATH"] and f.data["path"] == f"{stubs}/libcuda.so.1"


def test_a_driver_that_hangs_or_dies(tmp_path):
    assert only(ada(tmp_path / "a").says("cuda", code=None)).id == "driver-hangs"
    f = only(ada(tmp_path / "b").says("cuda", '{"library": null, "nvml": {"init": 0}}', code=-11))
    assert f.id == "driver-crashes" and f.data["code"] == -11


def test_no_permission(tmp_path):
    m = ada(tmp_path, init=304).driver_says(denied=[["/dev/nvidia0", 44], ["/dev/nvidiactl", 44]]).file("/etc/group", "root:x:0:\nvideo:x:44:\n")
    f = only(m)
    assert f.id == "device-permission" and f.commands[0] == "sudo usermod -aG video $USER" and ("device", "/dev/nvidiactl") in f.evidence
    assert only(m.driver_says(denied=[["/dev/nvidia0", None]])).commands == ["sudo chmod a+rw /dev/nvidia0"]
    assert not found(m.driver_says(init=0))


def test_no_uvm(tmp_path):
    m = ada(tmp_path, init=999)
    m._place("/dev/nvidia-uvm").unlink()
    f = only(m)
    assert f.id == "uvm-missing" and f.commands == ["sudo nvidia-modprobe -u -c=0"]


def test_a_module_without_its_library(tmp_path):
    m = ada(tmp_path).says("cuda", '{"library": null, "error": "libcuda.so.1: cannot open shared object file"}').file("/etc/os-release", UBUNTU)
    m._place("/usr/lib/x86_64-linux-gnu/libcuda.so.1").unlink()
    f = only(m)
    assert f.id == "libcuda-missing" and f.commands == ["sudo apt install libnvidia-compute-550"]


def test_a_library_where_no_loader_looks(tmp_path):
    m = Machine(tmp_path, environment={"LD_LIBRARY_PATH": "/srv/lib"}).file("/.dockerenv").file("/dev/nvidiactl").library("/usr/local/nvidia/lib64/libcuda.so.1").torch("2.6.0+cu124")
    f = only(m.says("cuda", '{"library": null, "error": "libcuda.so.1: cannot open shared object file"}'))
    assert f.id == "libcuda-not-searched" and f.commands == ["export LD_LIBRARY_PATH=/usr/local/nvidia/lib64:/srv/lib"]


@pytest.mark.parametrize("driver, module, device, left", [("590.44.01", "Kernel Module", "0x1b80", True), ("550.54.14", "Open Kernel Module for", "0x1db6", True),
    ("580.65.06", "Kernel Module", "0x1b80", False), ("590.44.01", "Kernel Module", "0x2684", False)])
def test_a_card_that_drivers_have_left(tmp_path, driver, module, device, left):
    m = Machine(tmp_path).gpu(ADA, "8.9", driver=driver, init=100).card(0, device=device).file("/proc/driver/nvidia/version", f"NVRM version: NVIDIA UNIX {module} x86_64  {driver}\n")
    f = only(m.driver_says(nvml={"init": 0, "devices": []}).file("/etc/os-release", UBUNTU))
    assert (f.id == "card-left-by-driver") is left and (f.id == "no-device") is not left and (not left or f.commands[0] == "sudo apt install nvidia-driver-580")


def test_a_library_that_does_not_load(tmp_path):
    f = only(ada(tmp_path).says("cuda", '{"library": null, "error": "invalid ELF header"}'))
    assert f.id == "libcuda-broken" and f.data["error"] == "invalid ELF header"


# ---------------------------------------------------------------- no driver
DEP = "/lib/modules/6.8.0-45-generic/modules.dep"


def card(folder, driver="", **more): return Machine(folder, **more).card(driver=driver).file("/etc/os-release", UBUNTU).torch("2.6.0+cu124", architectures=["8.9"])


@pytest.mark.parametrize("module, id", [("", "no-driver"), ("nouveau", "nouveau")])
def test_a_card_without_driver(tmp_path, module, id):
    f = only(card(tmp_path, module))
    assert f.id == id and f.severity == "error" and f.commands == ["sudo apt update", "sudo ubuntu-drivers install", "sudo reboot"]


def test_an_unknown_distribution_gets_prose(tmp_path):
    f = only(card(tmp_path).file("/etc/os-release", "ID=myos\n"))
    assert f.id == "no-driver" and not f.commands and Words("en").has("no-driver.fix")


def test_a_module_that_was_not_built(tmp_path):
    f = only(packages(card(tmp_path), "nvidia-driver-550").file(DEP, "kernel/fs/ext4/ext4.ko.zst: kernel/lib/crc16.ko.zst\n"))
    assert f.id == "module-not-built" and f.commands == ["sudo apt install linux-headers-$(uname -r)", "sudo dkms autoinstall", "sudo modprobe nvidia"]


def built(m): return packages(m, "nvidia-driver-550").file(DEP, "updates/dkms/nvidia-modeset.ko.zst: updates/dkms/nvidia.ko.zst\nupdates/dkms/nvidia.ko.zst:\n")


def test_secure_boot(tmp_path):
    m = built(card(tmp_path)).file("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\6\0\0\0\1").file("/var/lib/shim-signed/mok/MOK.der")
    f = only(m)
    assert f.id == "secure-boot" and f.commands[0] == "sudo mokutil --import /var/lib/shim-signed/mok/MOK.der" and ("module", "updates/dkms/nvidia.ko.zst") in f.evidence
    assert only(m.file("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", b"\6\0\0\0\0")).id == "module-not-loaded"


def test_nouveau_was_first(tmp_path):
    f = only(built(card(tmp_path, "nouveau")))
    assert f.id == "nouveau-in-the-way" and "blacklist nouveau" in f.commands[0] and f.commands[1:] == ["sudo update-initramfs -u", "sudo reboot"]


def test_a_card_for_a_virtual_machine(tmp_path): assert only(card(tmp_path, "vfio-pci")).severity == "note"


def test_windows_without_driver(tmp_path):
    site = "C:/app/Lib/site-packages"
    m = Machine(tmp_path, system="windows").python_says(path=[site]).file(f"{site}/torch/version.py", "__version__ = '2.6.0+cu124'\ncuda = '12.4'\n")
    assert only(m).id == "windows-no-driver"
    assert not found(m.file("C:/Windows/System32/nvcuda.dll"))


# ---------------------------------------------------------------- containers, WSL, boards
def test_a_container_without_its_gpu(tmp_path):
    m = Machine(tmp_path).file("/.dockerenv").card(driver="nvidia").file("/proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX x86_64 Kernel Module  550.54.14  Release Build\n")
    f = only(m.torch("2.6.0+cu124"))
    assert f.id == "container-without-gpu" and f.severity == "error" and f.commands == ["docker run --gpus all IMAGE"]
    assert "capabilities: [gpu]" in Words("en")("container-without-gpu.fix", **f.data)


@pytest.mark.parametrize("kind, command", [("podman", "podman run --device nvidia.com/gpu=all IMAGE"), ("apptainer", "apptainer exec --nv IMAGE COMMAND"), ("kubernetes", None)])
def test_other_containers(tmp_path, kind, command):
    m = Machine(tmp_path, environment={"kubernetes": {"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, "apptainer": {"APPTAINER_CONTAINER": "x.sif"}}.get(kind))
    if kind == "podman": m.file("/run/.containerenv")
    f = only(m.torch("2.6.0+cu124"))
    assert f.id == "container-no-gpu-seen" and f.severity == "note" and f.data["container"] == kind and f.commands == ([command] if command else [])


def test_a_container_without_libcuda(tmp_path):
    m = Machine(tmp_path).file("/.dockerenv").file("/dev/nvidiactl").file("/dev/nvidia0").file("/sys/module/nvidia/version", "550.54.14\n").torch("2.6.0+cu124")
    f = only(m.says("cuda", '{"library": null, "error": "libcuda.so.1: cannot open shared object file"}'))
    assert f.id == "container-without-libcuda" and "NVIDIA_DRIVER_CAPABILITIES=compute,utility" in f.commands[0]


def test_apptainer_without_nv(tmp_path):
    m = Machine(tmp_path, environment={"APPTAINER_CONTAINER": "x.sif"}).file("/dev/nvidiactl").file("/dev/nvidia0").file("/sys/module/nvidia/version", "550.54.14\n").torch("2.6.0+cu124")
    f = only(m.says("cuda", '{"library": null, "error": "libcuda.so.1: cannot open shared object file"}'))
    assert f.id == "apptainer-without-nv" and f.commands == ["apptainer exec --nv IMAGE COMMAND"]


def test_a_container_that_is_older_than_the_driver(tmp_path):
    f = only(ada(tmp_path, library_version="535.183.01", init=803).file("/.dockerenv"))
    assert f.id == "driver-mismatch-in-container" and not f.commands


def wsl(folder, theirs=True, **more):
    m = Machine(folder, kernel=WSL, environment={"WSL_DISTRO_NAME": "Debian"}, **more).file("/dev/dxg").file("/mnt/c/Windows/System32/nvcuda.dll").torch("2.6.0+cu124")
    return m.library("/usr/lib/wsl/lib/libcuda.so.1") if theirs else m


def test_a_linux_driver_in_wsl(tmp_path):
    m = packages(wsl(tmp_path), "libnvidia-compute-535", "nvidia-driver-535", "nvidia-container-toolkit", "libnvidia-container1", "nvidia-cuda-toolkit").library("/usr/lib/x86_64-linux-gnu/libcuda.so.535.183.01", soname="libcuda.so.1")
    m.link("/usr/lib/x86_64-linux-gnu/libcuda.so.1", "libcuda.so.535.183.01").says("cuda", '{"library": "libcuda.so.1", "init": 100}')
    f = only(m)
    assert f.id == "wsl-linux-driver" and f.commands[0] == "sudo apt purge libnvidia-compute-535 nvidia-driver-535" and ("package", "nvidia-driver-535") in f.evidence


def test_wsl_whose_folder_is_not_searched(tmp_path):
    f = only(wsl(tmp_path).says("cuda", '{"library": null, "error": "libcuda.so.1: cannot open shared object file"}'))
    assert f.id == "wsl-not-searched" and f.commands[0] == "echo /usr/lib/wsl/lib | sudo tee /etc/ld.so.conf.d/ld.wsl.conf"


def test_wsl_that_works(tmp_path):
    m = wsl(tmp_path).says("cuda", '{"library": "libcuda.so.1", "file": "/usr/lib/wsl/lib/libcuda.so.1", "init": 0, "version": 12060, "devices": [{"name": "RTX", "major": 8, "minor": 9}]}')
    assert not found(m)


def test_wsl_without_driver(tmp_path):
    f = only(wsl(tmp_path, theirs=False).says("cuda", '{"library": null, "error": "no"}'))
    assert f.id == "wsl-no-driver" and f.commands == ["wsl.exe --update", "wsl.exe --shutdown"]


def test_wsl_with_a_broken_library(tmp_path):
    assert only(wsl(tmp_path, theirs=False).file("/usr/lib/wsl/lib/libcuda.so.1", "not a library").says("cuda", '{"library": null, "error": "no"}')).id == "wsl-broken-library"


def test_wsl_1(tmp_path):
    m = Machine(tmp_path, kernel="Linux version 4.4.0-19041-Microsoft (gcc 5.4.0)", environment={"WSL_DISTRO_NAME": "Debian"}).file("/mnt/c/Windows/System32/nvcuda.dll")
    assert only(m).commands == ["wsl.exe --set-version Debian 2"]


def test_a_jetson(tmp_path):
    m = Machine(tmp_path, machine="aarch64").file("/etc/nv_tegra_release", "# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic\n").torch("2.6.0+cpu")
    f = only(m)
    assert f.id == "jetson-wheel" and f.data["release"] == "36.4.0" and "NVIDIA's own index" in Words("en")("jetson-wheel.fix", **f.data)
    thor = Machine(tmp_path / "thor", machine="aarch64").file("/etc/nv_tegra_release", "# R38 (release), REVISION: 2.0\n").torch("2.11.0+cu130")
    assert not found(thor)


@pytest.mark.parametrize("vendor, device, id, tag", [("0x1002", "0x744c", "amd-gpu", "rocm"), ("0x8086", "0xe20b", "intel-gpu", "xpu")])
def test_gpus_of_others(tmp_path, vendor, device, id, tag):
    f = only(Machine(tmp_path).card(vendor=vendor, device=device, driver="amdgpu").torch("2.6.0+cu124"))
    assert f.id == id and f.severity == "warning" and f"https://download.pytorch.org/whl/{tag}" in f.commands[0]
    assert not found(Machine(tmp_path / "theirs").card(vendor=vendor, device=device).torch(f"2.6.0+{tag}"))


# ---------------------------------------------------------------- which GPUs a program sees
@pytest.mark.parametrize("value, init, id, severity", [("", 100, "gpus-hidden", "warning"), ("-1", 100, "gpus-hidden", "warning"), ("7", 100, "visible-invalid", "error"),
    ("GPU-dead", 100, "visible-invalid", "error"), ("gpu0", 100, "visible-invalid", "error"), ("0,5", 0, "visible-cut", "warning"), ("NoDevFiles", 100, "gpus-hidden", "warning"), ("1,1", 100, "visible-twice", "error")])
def test_visible_devices(tmp_path, value, init, id, severity):
    f = only(ada(tmp_path, count=2, init=init, environment={"CUDA_VISIBLE_DEVICES": value}))
    assert f.id == id and f.severity == severity and f.commands == ["unset CUDA_VISIBLE_DEVICES"] and f.data["count"] == 2


def test_visible_devices_where_only_the_kernel_lists_them(tmp_path):
    m = ada(tmp_path, init=100, environment={"CUDA_VISIBLE_DEVICES": "3"}).driver_says(nvml={}).file("/proc/driver/nvidia/gpus/0000:01:00.0/information", f"Model: \t\t {ADA}\n")
    assert only(m).id == "visible-invalid"


def test_how_the_variable_is_read():
    a, b = Gpu("A", uuid="GPU-aa11"), Gpu("B", uuid="GPU-aa22", instances=["MIG-1", "MIG-2"])
    assert driver.visible("1,0", [a, a]) == (2, None, None) and driver.visible("1gpu2,0ampere", [a, a]) == (2, None, None)
    assert driver.visible("GPU-aa1", [a, b]) == (1, None, None) and driver.visible("GPU-aa", [a, b]) == (0, "GPU-aa", None)
    assert driver.visible("MIG-2", [b]) == (1, None, None) and driver.visible("5", [b]) == (1, None, None) and driver.visible("MIG-GPU-aa22/1/0", [b]) == (1, None, None)
    assert driver.visible("0,,1", [a, a]) == (1, "", None)


def test_mig(tmp_path):
    gpu = {"name": "NVIDIA A100-SXM4-40GB", "uuid": "GPU-1", "major": 8, "minor": 0, "compute_mode": 0}
    m = ada(tmp_path, init=100).driver_says(nvml={"init": 0, "devices": [gpu | {"instances": []}]})
    f = only(m)
    assert f.id == "mig-without-instance" and f.commands == ["sudo nvidia-smi mig -i 0 -cgi 0 -C"]
    f = only(m.driver_says(init=0, devices=[gpu], nvml={"init": 0, "devices": [gpu | {"instances": ["MIG-1", "MIG-2"]}]}))
    assert f.id == "mig-instances" and f.severity == "note" and f.commands == ["export CUDA_VISIBLE_DEVICES=MIG-1"]


@pytest.mark.parametrize("mode, id, severity", [(2, "compute-prohibited", "error"), (3, "compute-exclusive", "note")])
def test_compute_modes(tmp_path, mode, id, severity):
    f = only(ada(tmp_path).driver_says(nvml={"init": 0, "devices": [{"name": ADA, "compute_mode": mode}]}))
    assert f.id == id and f.severity == severity and f.commands == ["sudo nvidia-smi -i 0 -c DEFAULT"]


def test_different_gpus_are_numbered_differently(tmp_path):
    small, large = {"name": "NVIDIA T400", "uuid": "GPU-1", "major": 7, "minor": 5}, {"name": ADA, "uuid": "GPU-2", "major": 8, "minor": 9}
    m = ada(tmp_path).driver_says(devices=[large, small], nvml={"init": 0, "devices": [small, large]})
    f = only(m)
    assert f.id == "device-order" and f.severity == "note" and ("CUDA 0", ADA) in f.evidence
    assert not found(m.environment(CUDA_DEVICE_ORDER="PCI_BUS_ID"))


def test_a_gpu_that_fell_off_the_bus(tmp_path):
    m = ada(tmp_path, count=2)
    gpu = json.loads(m.answers["cuda"]["out"])["nvml"]["devices"][0]
    f = only(m.driver_says(nvml={"init": 0, "devices": [gpu]}))
    assert f.id == "gpu-lost" and f.data == {"count": 2, "seen": 1}
    second = sorted(n for n in os.listdir(m._place("/sys/bus/pci/devices")))[1]
    assert not found(m.file(f"/sys/bus/pci/devices/{second}/physfn"))
    m._place(f"/sys/bus/pci/devices/{second}/physfn").unlink()
    assert not found(m.file("/run/.containerenv"))


@pytest.mark.parametrize("variable, id, severity", [("CUDA_DISABLE_PTX_JIT", "ptx-jit-off", "warning"), ("CUDA_FORCE_PTX_JIT", "ptx-jit-forced", "warning"),
    ("CUDA_LAUNCH_BLOCKING", "launch-blocking", "note")])
def test_switches(tmp_path, variable, id, severity):
    f = only(ada(tmp_path / "on", environment={variable: "1"}))
    assert f.id == id and f.severity == severity and f.commands == [f"unset {variable}"]
    assert not found(ada(tmp_path / "off", environment={variable: "0"}))


def test_names_of_codes():
    """As forno itself calls them."""
    errors = pytest.importorskip("forno.gpu.errors")
    known = {code: errors.described(code)[0] for code in driver.NAMES}
    assert all(name in (f"CUDA_ERROR_{driver.NAMES[code]}", f"CUDA_ERROR_{code}") for code, name in known.items()) and set(driver.CODES) <= set(driver.NAMES)


# ---------------------------------------------------------------- remarks
def test_little_shared_memory(tmp_path):
    m = Machine(tmp_path).file("/.dockerenv").torch("2.6.0+cpu")
    m.about["spaces"] = {"/dev/shm": [60 << 20, 64 << 20]}
    f = only(m)
    assert f.id == "small-shm" and f.severity == "note" and f.commands == ["docker run --shm-size=8g IMAGE"]
    m.about["spaces"] = {"/dev/shm": [60 << 20, 8 << 30]}
    assert not found(m)


def test_nvidia_smi_is_not_needed(tmp_path):
    m = ada(tmp_path)
    m._place("/usr/bin/nvidia-smi").unlink()
    f = only(m)
    assert f.id == "no-nvidia-smi" and diagnose(m.host()).code == 0


def test_forno_on_old_drivers(tmp_path):
    report = diagnose(ada(tmp_path / "a").host())
    assert report.as_data()["machine"]["forno"] == {"cuda": "12.4", "ptx": "8.4", "works": True}
    f = only(Machine(tmp_path / "b").gpu("Tesla T4", "7.5", driver="470.57.02"))
    assert f.id == "forno-driver" and f.severity == "note" and f.data == {"cuda": "11.4", "needed": "525.60.13"}
