"""Does NVIDIA's driver work: in the kernel, as a library, in this container, in WSL, and for the GPUs that this environment lets it see?

Source: CUDA Driver API, CUresult and "CUDA Environment Variables"; README of NVIDIA's Linux driver; NVIDIA Container Toolkit, "Specialized Configurations"; "CUDA on WSL User
Guide"; "CUDA Compatibility"; MIG User Guide.
"""
from __future__ import annotations

import re
from collections.abc import Iterator

from .. import facts, nvidia
from ..finding import ERROR, NOTE, WARNING, Finding
from ..machine import Machine
from .common import bound, python

PROOF = "forno doctor verify"
REBOOT = "sudo reboot"
NVML_MISMATCH, STUB, MISMATCH, NO_COMPAT = 18, 34, 803, 804
# What cuInit returned, where nothing that can be seen from outside explains it: the finding that says what that code means, and what to type
CODES = {2: ("driver-out-of-memory", ["nvidia-smi", "free -h"]), 46: ("device-unavailable", ["nvidia-smi"]), 100: ("no-device", ["sudo dmesg | grep -i -E 'nvrm|xid'"]),
         304: ("driver-os-error", ["ls -l /dev/nvidia*"]), 802: ("fabric-manager", ["sudo systemctl enable --now nvidia-fabricmanager"]),
         805: ("mps-server", ["echo quit | nvidia-cuda-mps-control", "nvidia-cuda-mps-control -d"]),
         999: ("cuda-unknown-error", ["sudo modprobe -r nvidia_uvm", "sudo modprobe nvidia_uvm"])}
CODES[806] = CODES[807] = CODES[805]
NAMES = {1: "INVALID_VALUE", 2: "OUT_OF_MEMORY", 3: "NOT_INITIALIZED", 4: "DEINITIALIZED", 34: "STUB_LIBRARY", 36: "CALL_REQUIRES_NEWER_DRIVER", 46: "DEVICE_UNAVAILABLE",
         100: "NO_DEVICE", 101: "INVALID_DEVICE", 304: "OPERATING_SYSTEM", 500: "NOT_FOUND", 800: "NOT_PERMITTED", 801: "NOT_SUPPORTED", 802: "SYSTEM_NOT_READY",
         803: "SYSTEM_DRIVER_MISMATCH", 804: "COMPAT_NOT_SUPPORTED_ON_DEVICE", 805: "MPS_CONNECTION_FAILED", 806: "MPS_RPC_FAILURE", 807: "MPS_SERVER_NOT_READY", 999: "UNKNOWN"}
# Variables that change how CUDA runs programs, by the finding that says how
SWITCHES = {"CUDA_DISABLE_PTX_JIT": ("ptx-jit-off", WARNING), "CUDA_FORCE_PTX_JIT": ("ptx-jit-forced", WARNING), "CUDA_LAUNCH_BLOCKING": ("launch-blocking", NOTE)}
INSTALL = {"ubuntu": ["sudo apt update", "sudo ubuntu-drivers install"], "debian": ["sudo apt install linux-headers-amd64 nvidia-driver"],
           "fedora": ["sudo dnf install akmod-nvidia xorg-x11-drv-nvidia-cuda"], "arch": ["sudo pacman -S nvidia nvidia-utils"]}
LIBRARY = {"ubuntu": "sudo apt install libnvidia-compute-{branch}", "debian": "sudo apt install libcuda1", "fedora": "sudo dnf install xorg-x11-drv-nvidia-cuda-libs",
           "arch": "sudo pacman -S nvidia-utils"}
CONTAINERS = {"docker": ["docker run --gpus all IMAGE"], "podman": ["podman run --device nvidia.com/gpu=all IMAGE"], "apptainer": ["apptainer exec --nv IMAGE COMMAND"]}
KEYS = "/var/lib/shim-signed/mok/MOK.der", "/var/lib/dkms/mok.pub", "/etc/pki/akmods/certs/public_key.der"     # of modules that this machine builds and signs itself
HEADERS = {"ubuntu": "sudo apt install linux-headers-$(uname -r)", "debian": "sudo apt install linux-headers-$(uname -r)", "fedora": "sudo dnf install kernel-devel-$(uname -r)"}
BLACKLIST = "printf 'blacklist nouveau\\noptions nouveau modeset=0\\n' | sudo tee /etc/modprobe.d/blacklist-nouveau.conf"
INITRAMFS = {"ubuntu": "sudo update-initramfs -u", "debian": "sudo update-initramfs -u", "fedora": "sudo dracut --force", "arch": "sudo mkinitcpio -P"}
ELSEWHERE = "/run/opengl-driver/lib", "/usr/local/nvidia/lib64"          # NixOS; Google's Kubernetes
MAXWELL, TURING, LAST_OF_OLD = 0x1340, 0x1E00, 580         # the first numbers of these generations on the bus; the last branch for those before Turing
JOBS = "SLURM_JOB_ID", "PBS_JOBID", "LSB_JOBID", "JOB_ID"     # set by batch systems (Slurm, PBS, LSF, Grid Engine), which close a node's other GPUs to a job
SHARED = 64 << 20                              # bytes of /dev/shm that Docker gives unless told otherwise
WINDOWS_SIDE = "/mnt/c/Windows/System32/nvcuda.dll"
# Intel's GPUs that builds for XPU are made for, by their numbers on the bus: Arc A and Flex, Arc B, Max, and the graphics of Core Ultra
XPU = re.compile("0x(56[9abc]|e2[012]|0bd|7d[45]5|7d51|64a0)")


def wants_gpu(m: Machine) -> bool: return bool(m.torch and m.torch.cuda)
def severity(m: Machine) -> str: return ERROR if wants_gpu(m) else WARNING
def bare(m: Machine) -> bool: return m.host.system == "linux" and not m.system.container and not m.system.wsl and not m.system.jetson
def devices(m: Machine) -> list[str]: return [n for n in m.host.names("/dev") if n.startswith("nvidia")]
def by_distribution(m: Machine, table: dict): return next((table[d] for d in m.system.distribution if d in table), None)


def hardware(m: Machine) -> bool:
    """Is there an NVIDIA GPU, as far as anything but CUDA says?"""
    return bool(m.cards or m.driver.kernel or m.driver.all or m.gpus or m.system.wsl or m.host.system == "windows" and m.driver.library)


# ---------------------------------------------------------------- a driver that is there and doesn't work
def broken(m: Machine) -> Iterator[Finding]:
    """The first cause that explains it; later ones follow from it."""
    for cause in (hangs, crashes, jetson, wsl, compat, stub, mismatch, not_searched, container, no_driver, no_library, dropped, denied, no_uvm, mig, hidden, by_code):
        found = list(cause(m))
        yield from found
        if found: return


def hangs(m: Machine) -> Iterator[Finding]:
    if m.driver.hung:
        yield Finding("driver-hangs", ERROR, {"seconds": int(nvidia.SECONDS)}, seen(m), [] if m.system.container else ["sudo dmesg | grep -i -E 'nvrm|xid'", REBOOT], PROOF)


def crashes(m: Machine) -> Iterator[Finding]:
    if m.driver.crashed:
        yield Finding("driver-crashes", ERROR, {"code": m.driver.crashed}, seen(m), [], PROOF)


def seen(m: Machine) -> list[tuple[str, str]]:
    d = m.driver
    return [(what, value) for what, value in (("kernel", d.kernel), ("libcuda", d.library and f"{d.library} {d.library_version or ''}".strip()), ("cuInit", code_name(d.init)),
                                              ("error", d.error)) if value]


def code_name(code: int | None) -> str | None: return f"{code} CUDA_ERROR_{NAMES[code]}" if code in NAMES else str(code) if code else None


def is_compat(path: str | None) -> bool: return bool(path) and "/compat/" in path


def compat(m: Machine) -> Iterator[Finding]:
    """The libcuda of a cuda-compat package comes first, on a GPU or driver that it isn't for."""
    d, path = m.driver, next((p for p in (m.driver.library, m.host.real(m.driver.library or "/")) if is_compat(p)), None)
    if d.init not in (3, MISMATCH, NO_COMPAT) or path is None: return
    package = next((p for p in nvidia.debs(m.host) if p.startswith("cuda-compat")), None)
    commands = without_entry(m, path) or ([f"sudo apt remove {package}", "sudo ldconfig"] if package else [])
    yield Finding("compat-driver", ERROR, {"path": path, "code": d.init, "kernel": d.kernel or "?"}, seen(m), commands, PROOF)


def stub(m: Machine) -> Iterator[Finding]:
    """The toolkit's libcuda for linking."""
    d = m.driver
    if hardware(m) and (d.init == STUB or d.init not in (None, 0) and "/stubs/" in (d.library or "")):
        yield Finding("stub-driver", ERROR, {"path": d.library or "?"}, seen(m), without_entry(m, d.library or ""), PROOF)


def without_entry(m: Machine, library: str) -> list[str]:
    """LD_LIBRARY_PATH without the folder that brings a library, if one does."""
    entries = [e for e in (m.host.environment.get("LD_LIBRARY_PATH") or "").split(":") if e]
    kept = [e for e in entries if m.host.real(f"{e.rstrip('/')}/libcuda.so.1") != (m.host.real(library) or library)]
    if kept == entries: return []
    return [f"export LD_LIBRARY_PATH={':'.join(kept)}"] if kept else ["unset LD_LIBRARY_PATH"]


def mismatch(m: Machine) -> Iterator[Finding]:
    """The kernel still runs another version of the module than the libraries on disk (A12)."""
    d = m.driver
    if m.host.system != "linux" or m.system.wsl or d.init == 0 or is_compat(d.library) or m.system.container and not devices(m): return
    if d.kernel and d.library_version and d.kernel != d.library_version or d.nvml == NVML_MISMATCH or d.init == MISMATCH:
        yield Finding("driver-mismatch-in-container" if m.system.container else "driver-mismatch", ERROR, {"kernel": d.kernel or "?", "library": d.library_version or "?"}, seen(m),
                      [] if m.system.container else [REBOOT], "nvidia-smi")


def not_searched(m: Machine) -> Iterator[Finding]:
    """Systems that keep the driver's library where no loader looks."""
    if m.host.system != "linux" or m.driver.library or m.driver.init is not None: return
    folder = next((f for f in ELSEWHERE if m.host.exists(f"{f}/libcuda.so.1")), None)
    if folder is not None:
        old = m.host.environment.get("LD_LIBRARY_PATH")
        yield Finding("libcuda-not-searched", severity(m), {"folder": folder}, [("libcuda", f"{folder}/libcuda.so.1"), *seen(m)],
                      [f"export LD_LIBRARY_PATH={folder}{':' + old if old else ''}"], PROOF)


def dropped(m: Machine) -> Iterator[Finding]:
    """Cards before Turing: NVIDIA's open module has never run them, and its drivers end with branch 580."""
    d, opened = m.driver, "Open Kernel Module" in (m.host.text("/proc/driver/nvidia/version") or "")
    unbound = [c for c in m.bus if c.maker == "nvidia" and c.driver != "nvidia"]
    left = [c for c in unbound if re.fullmatch("0x[0-9a-f]{4}", c.device) and MAXWELL <= int(c.device, 16) < TURING]
    if not bare(m) or not d.kernel or not left or not opened and int(d.kernel.split(".")[0]) <= LAST_OF_OLD: return
    command, evidence = by_distribution(m, {"ubuntu": f"sudo apt install nvidia-driver-{LAST_OF_OLD}"}), [("card", f"{c.address} {c.device}") for c in left]
    yield Finding("card-left-by-driver", WARNING if d.init == 0 else ERROR, {"driver": d.kernel, "last": LAST_OF_OLD}, evidence + seen(m), [command, REBOOT] if command else [],
                  "nvidia-smi -L")


def no_library(m: Machine) -> Iterator[Finding]:
    """The kernel has the driver, programs don't."""
    d = m.driver
    if m.host.system != "linux" or not d.kernel or d.init is not None or d.error is None: return
    if d.library is not None: yield Finding("libcuda-broken", ERROR, {"path": d.library, "error": d.error}, seen(m), [], PROOF)
    elif not m.system.container:
        command = by_distribution(m, LIBRARY)
        yield Finding("libcuda-missing", severity(m), {"kernel": d.kernel}, seen(m), [command.format(branch=d.kernel.split(".")[0])] if command else [], PROOF)


def denied(m: Machine) -> Iterator[Finding]:
    d = m.driver
    if not d.denied or d.init == 0: return
    groups = dict(re.findall(r"^([^:\n]+):[^:\n]*:(\d+):", m.host.text("/etc/group") or "", re.MULTILINE))
    name = next((g for _, gid in d.denied if gid is not None for g, number in groups.items() if int(number) == gid), None)
    yield Finding("device-permission", ERROR, {"path": d.denied[0][0]}, [("device", path) for path, _ in d.denied] + seen(m),
                  [f"sudo usermod -aG {name} $USER", f"newgrp {name}"] if name else ["sudo chmod a+rw " + " ".join(path for path, _ in d.denied)], PROOF)


def no_uvm(m: Machine) -> Iterator[Finding]:
    here = devices(m)
    if m.host.system == "linux" and m.driver.init not in (None, 0) and "nvidiactl" in here and "nvidia-uvm" not in here:
        yield Finding("uvm-missing", ERROR, {}, [("/dev", " ".join(here)), *seen(m)], [] if m.system.container else ["sudo nvidia-modprobe -u -c=0"], PROOF)


def by_code(m: Machine) -> Iterator[Finding]:
    code = m.driver.init
    if not code or not hardware(m): return
    id, commands = CODES.get(code, ("cuda-init", ["sudo dmesg | grep -i -E 'nvrm|xid'"]))
    if m.host.system == "windows" and code not in (2, 46, 100): id = "cuda-init"
    if m.system.wsl: commands = ["wsl.exe --shutdown"]
    elif m.system.container or m.host.system != "linux": commands = []
    yield Finding(id, severity(m) if m.torch else ERROR, {"code": code}, seen(m), commands, PROOF)


# ---------------------------------------------------------------- no driver
def no_driver(m: Machine) -> Iterator[Finding]:
    """An NVIDIA card without NVIDIA's driver; of Windows, whose bus isn't read here, only that a CUDA build finds no driver."""
    d = m.driver
    if m.host.system == "windows" and d.library is None and not m.gpus and wants_gpu(m):
        yield Finding("windows-no-driver", ERROR, {"version": m.torch.version}, [("torch", m.torch.folder)], [], "nvidia-smi")
    if not bare(m) or not m.cards or d.kernel or d.init == 0: return
    found = [c for c in m.bus if c.maker == "nvidia"]
    evidence = [("card", f"{c.address} {c.device} {c.driver}".strip()) for c in found]
    if all(c.driver == "vfio-pci" for c in found): yield Finding("card-passed-on", NOTE, {}, evidence)
    else: yield from _without_module(m, evidence, any(c.driver in ("nouveau", "nova") for c in found))


def _without_module(m: Machine, evidence, nouveau: bool) -> Iterator[Finding]:
    """Installed or not? Built for this kernel or not? Kept away by Secure Boot or by nouveau?"""
    package = next((p for p in sorted(nvidia.debs(m.host)) if re.match(r"nvidia-(driver|dkms|kernel-open|open)|cuda-drivers", p)), None)
    index, kernel = m.host.text(f"/lib/modules/{m.system.kernel}/modules.dep"), m.system.kernel
    built = index and re.search(r"^(\S*\bnvidia\.ko[.\w]*):", index, re.MULTILINE)
    evidence = evidence + ([("package", package)] if package else []) + ([("module", built[1])] if built else [])
    if not package and not m.driver.library and not built:
        commands = by_distribution(m, INSTALL)
        yield Finding("nouveau" if nouveau else "no-driver", severity(m), {}, evidence, [*commands, REBOOT] if commands else [], "nvidia-smi")
    elif index and not built:
        build = {"fedora": "sudo akmods --force"}.get((m.system.distribution or [""])[0], "sudo dkms autoinstall")
        yield Finding("module-not-built", ERROR, {"kernel": kernel}, evidence, [c for c in (by_distribution(m, HEADERS), build, "sudo modprobe nvidia") if c], "nvidia-smi")
    elif built and m.system.secure_boot:
        key = next((k for k in KEYS if m.host.exists(k)), None)
        yield Finding("secure-boot", ERROR, {}, evidence, [f"sudo mokutil --import {key}", REBOOT] if key else [], "nvidia-smi")
    elif nouveau: yield Finding("nouveau-in-the-way", ERROR, {}, evidence, [c for c in (BLACKLIST, by_distribution(m, INITRAMFS), REBOOT) if c], "nvidia-smi")
    else: yield Finding("module-not-loaded", ERROR, {"kernel": kernel}, evidence, ["sudo modprobe nvidia", "sudo dmesg | grep -i -E 'nvrm|nvidia'"], "nvidia-smi")


def container(m: Machine) -> Iterator[Finding]:
    """A container without the GPUs of its host, which its kernel shows."""
    kind, d = m.system.container, m.driver
    if kind is None or d.init == 0 or m.torch and not m.torch.cuda: return
    if devices(m):
        if d.library is None and d.init is None and d.error and kind == "apptainer":
            yield Finding("apptainer-without-nv", severity(m), {}, seen(m), CONTAINERS[kind], PROOF)
        elif d.library is None and d.init is None and d.error:
            yield Finding("container-without-libcuda", severity(m), {}, [("NVIDIA_DRIVER_CAPABILITIES", m.host.environment.get("NVIDIA_DRIVER_CAPABILITIES", "")), *seen(m)],
                          ["docker run --gpus all -e NVIDIA_DRIVER_CAPABILITIES=compute,utility IMAGE"] if kind == "docker" else [], PROOF)
        return
    if m.host.exists("/dev/dxg") or m.system.jetson: return
    evidence = [("container", kind)] + [("card", a) for a in m.cards] + [(v, m.host.environment[v]) for v in ("NVIDIA_VISIBLE_DEVICES",) if v in m.host.environment] + seen(m)
    if d.kernel or m.cards: yield Finding("container-without-gpu", ERROR if wants_gpu(m) else NOTE, {"container": kind}, evidence, CONTAINERS.get(kind, []), PROOF)
    elif wants_gpu(m): yield Finding("container-no-gpu-seen", NOTE, {"container": kind, "version": m.torch.version}, evidence, CONTAINERS.get(kind, []), PROOF)


# ---------------------------------------------------------------- WSL, boards
def wsl(m: Machine) -> Iterator[Finding]:
    """Windows' driver reaches Linux through /dev/dxg and /usr/lib/wsl/lib, and nothing else may be in its way (A13)."""
    if not m.system.wsl or m.system.container or m.driver.init == 0: return
    d, host, windows = m.driver, m.host, m.host.exists(WINDOWS_SIDE)
    theirs = host.real(f"{nvidia.WSL_LIBRARIES}/libcuda.so.1")
    if m.system.wsl == 1:
        name = host.environment.get("WSL_DISTRO_NAME", "Ubuntu")
        if windows or wants_gpu(m): yield Finding("wsl1", severity(m), {}, [("kernel", m.system.kernel)], [f"wsl.exe --set-version {name} 2"], PROOF)
        return
    if not host.exists("/dev/dxg") or theirs is None:
        if windows or wants_gpu(m): yield Finding("wsl-no-driver", severity(m), {}, seen(m), ["wsl.exe --update", "wsl.exe --shutdown"], PROOF)
    elif host.library(theirs) is None: yield Finding("wsl-broken-library", ERROR, {"path": theirs}, seen(m), ["wsl.exe --update", "wsl.exe --shutdown"], PROOF)
    elif d.library is None:
        yield Finding("wsl-not-searched", ERROR, {}, [("libcuda", theirs)], [f"echo {nvidia.WSL_LIBRARIES} | sudo tee /etc/ld.so.conf.d/ld.wsl.conf", "sudo ldconfig"], PROOF)
    elif host.real(d.library) != theirs and not d.library.startswith(("/usr/lib/wsl/", "/mnt/")) and not is_compat(d.library) and "/stubs/" not in d.library:
        packages = [p for p in nvidia.debs(host) if re.match(r"nvidia-(driver|dkms|utils|kernel|compute)|libnvidia-(?!container)|cuda-drivers|libcuda1", p)]
        yield Finding("wsl-linux-driver", ERROR, {"path": d.library}, [("libcuda", theirs)] + [("package", p) for p in packages] + seen(m),
                      ["sudo apt purge " + " ".join(packages), "sudo ldconfig"] if packages else [], PROOF)


def jetson(m: Machine) -> Iterator[Finding]:
    """A Jetson board up to L4T 36 runs a driver of its own: the wheels of the package index have no code for it."""
    if not m.system.jetson: return
    if int(m.system.jetson.split(".")[0]) < 38 and m.torch and m.torch.release and (m.torch.tag == "cpu" or "+" in m.torch.version):
        yield Finding("jetson-wheel", ERROR, {"version": m.torch.version, "release": m.system.jetson}, [("torch", m.torch.folder), ("/etc/nv_tegra_release", m.system.jetson)], [],
                      python(m, "import torch; print(torch.cuda.is_available())"))


def others(m: Machine) -> Iterator[Finding]:
    """GPUs of other makers, where there is none of NVIDIA's: what they are, and which builds are for them."""
    if m.cards or m.gpus or m.host.system != "linux" or m.system.container or m.torch and m.torch.tag.startswith(("rocm", "xpu")): return
    for maker, id in (("amd", "amd-gpu"), ("intel", "intel-gpu")):
        here = [c for c in m.bus if c.maker == maker and (maker == "amd" or XPU.match(c.device))]
        release = next((r for r in facts.releases() if (r.row["rocm"] if maker == "amd" else r.row["xpu"])), None)
        if not here or release is None: continue
        tag = f"rocm{release.row['rocm'][-1]}" if maker == "amd" else "xpu"
        yield Finding(id, WARNING if wants_gpu(m) else NOTE, {"tag": tag}, [("card", f"{c.address} {c.device} {c.driver}".strip()) for c in here],
                      bound(m, f"pip install --force-reinstall torch=={release.version} --index-url {facts.INDEX}/{tag}") if m.system.platform == "linux_x86_64" else [],
                      python(m, "import torch; print(torch.accelerator.current_accelerator())"))


# ---------------------------------------------------------------- which GPUs a program sees
def hidden(m: Machine) -> Iterator[Finding]:
    """CUDA_VISIBLE_DEVICES: the first entry that names no GPU ends the list, and one that comes twice empties it."""
    value, all_of_them = m.host.environment.get("CUDA_VISIBLE_DEVICES"), m.driver.all or [g for g in m.gpus if g.source != "driver"]
    if value is None or not all_of_them: return
    kept, bad, twice = visible(value, all_of_them)
    data = {"value": value, "count": len(all_of_them), "kept": kept}
    evidence = [("CUDA_VISIBLE_DEVICES", repr(value))] + [(f"GPU {k}", f"{g.name} {g.uuid or ''}".strip()) for k, g in enumerate(all_of_them)]
    undo = ["set CUDA_VISIBLE_DEVICES=" if m.host.system == "windows" else "unset CUDA_VISIBLE_DEVICES"]
    if twice is not None: yield Finding("visible-twice", ERROR, data | {"entry": twice}, evidence, undo, PROOF)
    elif bad and kept and not bad.startswith("-"): yield Finding("visible-cut", WARNING, data | {"entry": bad}, evidence, undo, PROOF)
    elif bad is not None and not kept and bad not in ("", "-1", "none", "None", "NoDevFiles"): yield Finding("visible-invalid", ERROR, data | {"entry": bad}, evidence, undo, PROOF)
    elif not kept: yield Finding("gpus-hidden", WARNING, data, evidence, undo, PROOF)


def visible(value: str, gpus: list[nvidia.Gpu]) -> tuple[int, str | None, str | None]:
    """(how many entries count, the first that names no GPU, one that comes twice), as the driver reads the variable."""
    parts = [u for g in gpus for u in g.instances or ()]
    names, taken = [u for g in gpus for u in (g.uuid,) if u] + parts, []
    for entry in value.split(","):
        entry = entry.strip()
        number = re.match(r"[+-]?\d+", entry)
        if entry.startswith(("GPU-", "MIG-")):
            matches = [u for u in names if u.startswith(entry)]
            if len(matches) != 1 and "/" not in entry and names: return len(taken), entry, None
            this = matches[0] if matches else entry
        elif number is None or int(number[0]) < 0 or int(number[0]) >= len(gpus) and not parts: return len(taken), entry, None
        else: this = int(number[0])
        if this in taken: return 0, None, entry
        taken.append(this)
    return len(taken), None, None


def mig(m: Machine) -> Iterator[Finding]:
    """Multi-Instance GPU: on, but without instances, there is nothing to run on."""
    empty = [k for k, g in enumerate(m.driver.all) if g.instances == []]
    if empty and m.driver.init not in (None, 0) and len(empty) == len(m.driver.all):
        yield Finding("mig-without-instance", ERROR, {"gpu": m.driver.all[empty[0]].name}, [(f"GPU {k}", m.driver.all[k].name) for k in empty],
                      [] if m.system.container else [f"sudo nvidia-smi mig -i {empty[0]} -cgi 0 -C"], "nvidia-smi -L")


def instances(m: Machine) -> Iterator[Finding]:
    """A process sees one instance, however many there are."""
    parts = [(g.name, u) for g in m.driver.all for u in g.instances or ()]
    if len(parts) > 1 and m.driver.init == 0: yield Finding("mig-instances", NOTE, {"count": len(parts)}, parts, [f"export CUDA_VISIBLE_DEVICES={parts[0][1]}"], "nvidia-smi -L")


def modes(m: Machine) -> Iterator[Finding]:
    for k, g in enumerate(m.driver.all):
        if g.compute_mode in (2, 3):
            yield Finding("compute-prohibited" if g.compute_mode == 2 else "compute-exclusive", ERROR if g.compute_mode == 2 else NOTE, {"gpu": g.name}, [(f"GPU {k}", g.name)],
                          [f"sudo nvidia-smi -i {k} -c DEFAULT"], f"nvidia-smi -i {k} -q -d COMPUTE")


def order(m: Machine) -> Iterator[Finding]:
    """CUDA numbers GPUs by speed, nvidia-smi by their place on the bus: with different GPUs, "1" means two things."""
    all_of_them, environment = m.driver.all, m.host.environment
    if len({g.name for g in all_of_them}) < 2 or environment.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID" or m.driver.init != 0: return
    value = environment.get("CUDA_VISIBLE_DEVICES")
    bus, cuda = [g.uuid for g in all_of_them], [g.uuid for g in m.gpus]
    if value is None and sorted(map(str, bus)) == sorted(map(str, cuda)) and bus != cuda or value is not None and re.match(r"\s*\d", value):
        yield Finding("device-order", NOTE, {}, [(f"nvidia-smi {k}", g.name) for k, g in enumerate(all_of_them)] + [(f"CUDA {k}", g.name) for k, g in enumerate(m.gpus)],
                      ["set CUDA_DEVICE_ORDER=PCI_BUS_ID" if m.host.system == "windows" else "export CUDA_DEVICE_ORDER=PCI_BUS_ID"], "nvidia-smi -L")


def lost(m: Machine) -> Iterator[Finding]:
    """A card that the kernel's module has, and that the driver doesn't list: it has fallen off the bus. In a job it may be closed to it, too."""
    virtual = [c.address for c in m.bus if m.host.exists(f"/sys/bus/pci/devices/{c.address}/physfn")]          # parts of a card for virtual machines
    held = [c for c in m.bus if c.maker == "nvidia" and c.driver == "nvidia" and c.address not in virtual]
    if bare(m) and not any(v in m.host.environment for v in JOBS) and m.driver.nvml == 0 and 0 < len(m.driver.all) < len(held):
        evidence = [("card", f"{c.address} {c.device}") for c in held] + [("GPU", g.name) for g in m.driver.all]
        yield Finding("gpu-lost", WARNING, {"count": len(held), "seen": len(m.driver.all)}, evidence, ["sudo dmesg | grep -i -E 'nvrm|xid'", REBOOT], "nvidia-smi -L")


def switches(m: Machine) -> Iterator[Finding]:
    for variable, (id, severe) in SWITCHES.items():
        if m.gpus and m.host.environment.get(variable) == "1":
            yield Finding(id, severe, {}, [(variable, "1")], [f"set {variable}=" if m.host.system == "windows" else f"unset {variable}"], PROOF)


# ---------------------------------------------------------------- remarks
def no_smi(m: Machine) -> Iterator[Finding]:
    if m.host.system == "linux" and m.driver.init == 0 and m.gpus and m.host.which("nvidia-smi") is None and not m.system.wsl and not m.system.jetson:
        yield Finding("no-nvidia-smi", NOTE, {"driver": m.driver.version or "?"}, seen(m), [], PROOF)


def shared_memory(m: Machine) -> Iterator[Finding]:
    """Workers of a DataLoader hand over tensors through /dev/shm."""
    if m.torch and m.system.container and m.system.shared is not None and m.system.shared <= SHARED:
        yield Finding("small-shm", NOTE, {"size": m.system.shared >> 20}, [("/dev/shm", f"{m.system.shared >> 20} MiB")],
                      [f"{m.system.container} run --shm-size=8g IMAGE"] if m.system.container in ("docker", "podman") else [], "df -h /dev/shm")


def forno_floor(m: Machine) -> Iterator[Finding]:
    """forno writes PTX as the driver reads it, from CUDA 12.0 on (A16)."""
    about = nvidia.forno(m.driver)
    if about is not None and not about["works"]:
        yield Finding("forno-driver", NOTE, {"cuda": about["cuda"], "needed": facts.floor("12.0", m.system.platform) or "525"}, seen(m), [], PROOF)


CHECKS = [broken, instances, modes, order, lost, switches, others, no_smi, shared_memory, forno_floor]
