"""What goes wrong most with CUDA builds of torch, as whole machines: the doctor finds it, finds nothing else, prints the command, and explains the message that people paste.

A row: the trouble, a machine that has it, what is found and how bad it is, what the command must say ("" where none can help), and the messages that such a machine shows.
"""
import re
from collections.abc import Callable
from typing import NamedTuple

import pytest

from forno_doctor import diagnose, explain
from forno_doctor.report import text, told
from forno_doctor.words import Words, catalogue

from . import healthy, test_dlls, test_driver, test_extensions, test_libraries, test_mixed, test_platforms
from .elf_file import library
from .machines import NCCL, Machine

INDEX, PIP = "https://download.pytorch.org/whl", "/opt/app/bin/python -m pip"
JAX = "nvidia-cudnn-cu12", "nvidia-nccl-cu12", "nvidia-cublas-cu12", "nvidia-cuda-runtime-cu12"               # not torch's: jax brought them
GONE = "_ZN3c104impl3cow23materialize_cow_storageERNS_11StorageImplE"
NO_KERNEL = "RuntimeError: CUDA error: no kernel image is available for execution on the device"
NO_CUDA = "AssertionError: Torch not compiled with CUDA enabled"
UNAVAILABLE = "torch.cuda.is_available(): False"
NMS = "RuntimeError: operator torchvision::nms does not exist"
NO_VERSION = "ERROR: Could not find a version that satisfies the requirement torch (from versions: none)\nERROR: No matching distribution found for torch"
WINDOWS_126 = 'OSError: [WinError 126] The specified module could not be found. Error loading "C:\\env\\lib\\site-packages\\torch\\lib\\fbgemm.dll" or one of its dependencies.'
TOO_OLD = "RuntimeError: The NVIDIA driver on your system is too old (found version {}). Please update your GPU driver"


class Trouble(NamedTuple):
    """`found`: severities by id, errors and warnings only; `notes`: ids of remarks that belong to it."""
    name: str
    machine: Callable
    found: dict
    command: str
    messages: tuple
    notes: frozenset = frozenset()


def gpu(folder, name, capability, driver, version, architectures, cudnn="9.1.0.70", **more):
    """torch with NVIDIA's packages of CUDA 12, but for those that `more` says."""
    m = healthy.with_torch(Machine(folder).gpu(name, capability, driver=driver), version, architectures, **{"cu": (), "triton": None, "nvidia": False, **more})
    return m.nvidia(12, versions={"nvidia-cudnn": cudnn}) if cudnn else m


# ---------------------------------------------------------------- the GPU and the build
def newer_gpu(f): return gpu(f, "NVIDIA GeForce RTX 5090", "12.0", "570.124.06", "2.6.0+cu124", healthy.PASCAL_TO_HOPPER)
def early_nightly(f): return gpu(f, "NVIDIA GeForce RTX 5080", "12.0", "570.124.06", "2.6.0.dev20241112+cu124", healthy.PASCAL_TO_HOPPER)
def notebook_image(f): return gpu(f, "Tesla P100-PCIE-16GB", "6.0", "580.95.05", "2.10.0+cu128", ["7.0", "7.5", "8.0", "8.6", "9.0", "10.0", "12.0"], "9.10.2.21")
def volta(f): return gpu(f, "Tesla V100-SXM2-16GB", "7.0", "570.124.06", "2.11.0+cu128", healthy.TURING_TO_BLACKWELL, "9.19.0.56")
def pascal_and_cuda_13(f): return healthy.cuda13(Machine(f).gpu("NVIDIA GeForce GTX 1080 Ti", "6.1"), "2.13.0+cu130", triton=None)


# ---------------------------------------------------------------- a build without CUDA
def ada(folder, **more): return Machine(folder, **more).gpu("NVIDIA GeForce RTX 4090", "8.9", driver="550.54.14")
def cpu_build(f): return ada(f).torch("2.6.0+cpu")
def replaced(f): return ada(f).torch("2.6.0+cpu").nvidia(12)


def beside_jax(f): return ada(f).torch("2.6.0+cpu").nvidia(12).package("jax-cuda12-plugin", "0.5.3", [f"{n}; extra == 'with-cuda'" for n in JAX])


def index_of_windows(f):
    m = test_platforms.windows(f).says("cuda", '{"library": "nvcuda.dll", "init": 0, "version": 12060, "devices": [{"name": "NVIDIA GeForce RTX 4090", "major": 8, "minor": 9, "memory": 0}], '
                                       '"nvml": {"init": 0, "driver": "560.94", "devices": []}}')
    m.file(f"{m.site}/torch-2.6.0+cu124.dist-info/METADATA", "Name: torch\nVersion: 2.6.0\n")
    return m.file(f"{m.site}/torch/version.py", "__version__ = '2.6.0+cpu'\ncuda = None\n")


def conda_cpu(f):
    m = ada(f, environment={"CONDA_PREFIX": "/opt/app"}).torch("2.6.0", installer="conda")
    return m.file("/opt/app/conda-meta/pytorch-2.6.0-cpu_generic_py312_h1.json", '{"name": "pytorch", "version": "2.6.0", "build": "cpu_generic_py312_h1", "channel": "conda-forge"}')


def pip_over_conda(f):
    m = healthy.pip_cu126(f)
    return m.file("/opt/app/conda-meta/pytorch-2.6.0-cpu_generic_py312_h1.json", '{"name": "pytorch", "version": "2.6.0", "build": "cpu_generic_py312_h1", "channel": "conda-forge"}')


# ---------------------------------------------------------------- the driver's age
def driver_470(f): return gpu(f, "Tesla T4", "7.5", "470.57.02", "2.6.0+cu124", ["7.5", "8.0"])
def driver_535(f): return healthy.cuda13(Machine(f).gpu("NVIDIA A100-SXM4-80GB", "8.0", driver="535.183.01"), "2.13.0+cu130", triton=None)
def no_build_left(f): return healthy.cuda13(Machine(f, python="3.14.0").gpu("Tesla T4", "7.5", driver="470.57.02"), "2.13.0+cu130", triton=None)


def compat_on_geforce(f):
    at = test_driver.COMPAT
    return test_driver.ada(f, init=804, environment={"LD_LIBRARY_PATH": at}).file(f"{at}/libcuda.so.560.35.03", library("libcuda.so.1")).link(f"{at}/libcuda.so.1", "libcuda.so.560.35.03")


# ---------------------------------------------------------------- torchvision, torchaudio
def beside(folder, torch, name, version, spec, symbols=(GONE,), needed=healthy.CUDA, path="_C.so", cudnn="9.1.0.70"):
    m = gpu(folder, "NVIDIA GeForce RTX 4090", "8.9", "550.54.14", torch, ["8.0", "8.6", "9.0"], cudnn)
    return m.extension(name, version, f"{name}/{path}", spec, needed, undefined=symbols)


def other_vision(f): return beside(f, "2.4.0+cu121", "torchvision", "0.20.1+cu124", ["torch==2.5.1"])
def cpu_vision(f): return beside(f, "2.6.0+cu124", "torchvision", "0.21.0+cpu", ["torch==2.6.0"], (healthy.SYMBOL,), healthy.CUDA[:2])
def loose_audio(f): return beside(f, "2.9.1+cu126", "torchaudio", "2.11.0", [], ("aoti_torch_abi_version", GONE), path="lib/libtorchaudio.so", cudnn="9.10.2.21")


# ---------------------------------------------------------------- libraries
def whisper(f): return test_libraries.consumer(test_libraries.plain(f), "ctranslate2", "4.4.0", "ctranslate2.libs/libcudnn-0a1b2c3d.so.8.9.7")


def parts_in_front(f):
    m = test_libraries.system_cudnn(test_libraries.plain(f, environment={"LD_LIBRARY_PATH": "/srv/cudnn/lib"}), "9.5.1", "/srv/cudnn/lib")
    m._place("/srv/cudnn/lib/libcudnn.so.9").unlink()
    return m


def older_cudnn(f): return test_libraries.system_cudnn(test_libraries.plain(f, environment={"LD_LIBRARY_PATH": "/srv/cudnn/lib"}), "9.0.0", "/srv/cudnn/lib")
def toolkit_in_front(f): return test_libraries.toolkit(test_libraries.plain(f, environment={"LD_LIBRARY_PATH": "/usr/local/cuda-12.1/lib64"}))


def cublas_lt(f):
    m, lib = toolkit_in_front(f), f"{test_libraries.SITE}/nvidia/cublas/lib"
    m._place("/usr/local/cuda-12.1/lib64/libcublas.so.12").unlink()
    m.library(f"{lib}/libcublas.so.12", needed=["libcublasLt.so.12"], undefined=["cublasLtHSHMatmulAlgoInit"], runpath="$ORIGIN")
    return m.library(f"{lib}/libcublasLt.so.12", defined=["cublasLtHSHMatmulAlgoInit"])


def cupti(f):
    m = test_libraries.plain(f, environment={"LD_LIBRARY_PATH": "/usr/local/cuda-12.1/extras/CUPTI/lib64"}, pins=(*test_libraries.PINS, "nvidia-cuda-cupti-cu12==12.4.127"))
    m.library("/usr/local/cuda-12.1/extras/CUPTI/lib64/libcupti.so.12", defined=["cuptiSubscribe"])
    m.package("nvidia-cuda-cupti-cu12", "12.4.127", files=[("nvidia/cuda_cupti/lib/libcupti.so.12", library(soname="libcupti.so.12", defined=["cuptiSubscribe", "cuptiActivityEnableDriverApi"]))])
    return m.library(f"{m.site}/torch/lib/libtorch_cpu.so", needed=["libc10.so", "libcupti.so.12"], runpath="$ORIGIN/../../nvidia/cuda_cupti/lib:$ORIGIN",
                     undefined=["cuptiActivityEnableDriverApi"], defined=[healthy.SYMBOL])


def system_nccl(f): return test_libraries.plain(f, environment={"LD_LIBRARY_PATH": "/srv/nccl/lib"}).library("/srv/nccl/lib/libnccl.so.2", defined=NCCL[:2])


def nccl_of_cuda_12(f):
    """Installed over that of CUDA 13, by a package that asks for it."""
    m = healthy.cuda13(Machine(f).gpu("NVIDIA H100 80GB HBM3", "9.0"), "2.13.0+cu130", triton=None)
    return m.package("nvidia-nccl-cu12", "2.21.5", files=[("nvidia/nccl/lib/libnccl.so.2", library(soname="libnccl.so.2", defined=NCCL[:2]))])


def vllm_of_cuda_13(f): return test_libraries.extension(test_libraries.plain(f), needed=["libtorch_cuda.so", "libcudart.so.13"])
def no_packages(f): return gpu(f, "NVIDIA GeForce RTX 4090", "8.9", "550.54.14", "2.6.0+cu124", ["8.0"], cudnn=None, cu=healthy.CU12)


def nvrtc_without_builtins(f):
    m = test_libraries.plain(f).package("nvidia-cuda-nvrtc-cu12", "12.4.127", files=[("nvidia/cuda_nvrtc/lib/libnvrtc.so.12", library(soname="libnvrtc.so.12"))])
    return m.library(f"{m.site}/torch/lib/libcaffe2_nvrtc.so", needed=["libnvrtc.so.12"], runpath="$ORIGIN/../../nvidia/cuda_nvrtc/lib")


def cudnn_of_cuda_13(f): return test_mixed.with_torch(f).package("nvidia-cudnn-cu13", "9.20.0.48", files=[(test_mixed.CUDNN, test_mixed.cudnn(5))])


# ---------------------------------------------------------------- extensions
FLASH = "flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so"


def flash(f): return test_extensions.with_torch(f).extension("flash-attn", "2.7.4.post1", FLASH, undefined=[GONE])
def scatter_on_cpu(f): return Machine(f).torch("2.6.0+cpu").extension("torch-scatter", "2.1.2", "torch_scatter/_scatter_cuda.so", needed=(*test_extensions.CUDA, "libcudart.so.12"), undefined=[healthy.SYMBOL])
def flash_strings(f): return test_extensions.with_torch(f).extension("flash-attn", "2.7.4", FLASH, undefined=[test_extensions.ERROR.replace("C1", "C2") + test_extensions.OLD_ABI])
def nvcc_11(f): return test_extensions.toolkit(test_extensions.toolkit(test_extensions.with_torch(f, environment={"CUDA_HOME": "/usr/local/cuda-11.8"}), "11.8"), "12.4")


# ---------------------------------------------------------------- the driver's state
def slept(f): return test_driver.ada(f, init=999)
def not_rebooted(f): return test_driver.ada(f, library_version="550.90.07", init=803)
def no_such_gpu(f): return test_driver.ada(f, environment={"CUDA_VISIBLE_DEVICES": "1"}).driver_says(init=100, devices=[])


def driver_in_wsl(f):
    m = test_driver.packages(test_driver.wsl(f), "libnvidia-compute-535", "nvidia-driver-535").library("/usr/lib/x86_64-linux-gnu/libcuda.so.535.183.01", soname="libcuda.so.1")
    return m.link("/usr/lib/x86_64-linux-gnu/libcuda.so.1", "libcuda.so.535.183.01").says("cuda", '{"library": "libcuda.so.1", "init": 100}')


def wsl_not_searched(f): return test_driver.wsl(f).says("cuda", '{"library": null, "error": "libcuda.so.1: cannot open shared object file"}')


# ---------------------------------------------------------------- Pythons, systems
def python_3_16(f): return Machine(f, python="3.16.0")
def alpine(f): return Machine(f, glibc="").python_says(musl=True).file("/lib/ld-musl-x86_64.so.1")
def numpy_2(f): return ada(f).torch("2.2.2+cu121", architectures=["8.0", "9.0"]).package("numpy", "2.0.1", files=["numpy/__init__.py"])
def windows(f, *about, **more): return test_dlls.plain(f, *about, **more).file(f"{test_dlls.SITE}/torch/__init__.py")
def no_openmp(f): return windows(f, "2.4.0+cpu").file(f"{test_dlls.LIB}/fbgemm.dll", test_dlls.dll("fbgemm.dll", needed=["libomp140.x86_64.dll"]))
def no_vc_runtime(f): return windows(f, runtime=())


E, W = "error", "warning"
TROUBLES = (
    Trouble("GPU newer than the build", newer_gpu, {"no-code-for-gpu": E}, f"{INDEX}/cu129",
            (NO_KERNEL, "NVIDIA GeForce RTX 5090 with CUDA capability sm_120 is not compatible with the current PyTorch installation.")),
    Trouble("GPU newer than a nightly", early_nightly, {"no-code-for-gpu": E}, f"{INDEX}/cu12", (NO_KERNEL,), frozenset({"torch-not-verified"})),
    Trouble("GPU older than the build", notebook_image, {"code-dropped-for-gpu": E}, f"{INDEX}/cu126", (NO_KERNEL,)),
    Trouble("GPU older than the build", volta, {"code-dropped-for-gpu": E}, f"{INDEX}/cu126", (NO_KERNEL,)),
    Trouble("GPU older than the build", pascal_and_cuda_13, {"code-dropped-for-gpu": E}, f"{INDEX}/cu126", ("No published PyTorch CUDA builds for release 2.13.0+cu130 support this GPU.",)),
    Trouble("CPU build", cpu_build, {"cpu-build": E}, f"{INDEX}/cu126", (NO_CUDA, UNAVAILABLE)),
    Trouble("CPU build", replaced, {"cpu-build-replaced": E}, f"{INDEX}/cu126", (NO_CUDA,)),
    Trouble("CPU build", beside_jax, {"cpu-build": E}, f"{INDEX}/cu126", (NO_CUDA,)),
    Trouble("CPU build", index_of_windows, {"cpu-build-from-index": E}, f"{INDEX}/cu126", (NO_CUDA,)),
    Trouble("driver too old", driver_470, {"driver-too-old": E}, f"{INDEX}/cu118",
            (TOO_OLD.format(11040), "RuntimeError: CUDA error: CUDA driver version is insufficient for CUDA runtime version", UNAVAILABLE), frozenset({"forno-driver"})),
    Trouble("driver too old", driver_535, {"driver-too-old": E}, f"{INDEX}/cu12", (TOO_OLD.format(12020),)),
    Trouble("driver too old", no_build_left, {"driver-too-old-for-all": E}, "", (TOO_OLD.format(11040),), frozenset({"forno-driver"})),
    Trouble("driver too old", compat_on_geforce, {"compat-driver": E}, "unset LD_LIBRARY_PATH", ("Error 804: forward compatibility was attempted on non supported HW",)),
    Trouble("torchvision of another torch", other_vision, {"unpaired": E}, "--no-deps torchvision==0.19.0", (NMS, "RuntimeError: Couldn't load custom C++ ops.")),
    Trouble("torchvision of another build", cpu_vision, {"other-build": E}, f"--no-deps torchvision==0.21.0 --index-url {INDEX}/cu124", (NMS,)),
    Trouble("torchaudio of another torch", loose_audio, {"unpaired": E}, "--no-deps torchaudio==2.9.1",
            ("OSError: /opt/app/torchaudio/lib/libtorchaudio.so: undefined symbol: aoti_torch_abi_version",)),
    Trouble("cuDNN of another generation", whisper, {"cudnn-of-another-generation": E}, f'{PIP} install "ctranslate2>=4.5.0"',
            ("Could not load library libcudnn_ops_infer.so.8. Error: libcudnn_ops_infer.so.8: cannot open shared object file: No such file or directory",)),
    Trouble("cuDNN's parts", parts_in_front, {"cudnn-parts-mixed": E}, "unset LD_LIBRARY_PATH",
            ("Unable to load any of {libcudnn_ops.so.9.1.0, libcudnn_ops.so.9.1, libcudnn_ops.so.9}\nInvalid handle. Cannot load symbol cudnnCreateTensorDescriptor",)),
    Trouble("other libraries in front", older_cudnn, {"cudnn-too-old": E}, "unset LD_LIBRARY_PATH",
            ("RuntimeError: cuDNN version incompatibility: PyTorch was compiled  against (9, 1, 0) but found runtime version (9, 0, 0).",)),
    Trouble("other libraries in front", toolkit_in_front, {"library-shadowed": W}, "unset LD_LIBRARY_PATH", ("RuntimeError: CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling `cublasSgemm`",)),
    Trouble("other libraries in front", cublas_lt, {"library-lacks-symbols": E}, "unset LD_LIBRARY_PATH",
            ("ImportError: /opt/app/libcublas.so.12: undefined symbol: cublasLtHSHMatmulAlgoInit, version libcublasLt.so.12",)),
    Trouble("other libraries in front", cupti, {"library-lacks-symbols": E}, "unset LD_LIBRARY_PATH",
            ("ImportError: /opt/app/torch/lib/libtorch_cpu.so: undefined symbol: cuptiActivityEnableDriverApi, version libcupti.so.12",)),
    Trouble("an older NCCL", system_nccl, {"library-lacks-symbols": E}, "unset LD_LIBRARY_PATH", ("ImportError: /opt/app/torch/lib/libtorch_cuda.so: undefined symbol: ncclCommRegister",)),
    Trouble("an older NCCL", nccl_of_cuda_12, {"cuda-files-overwritten": E}, "uninstall -y nvidia-nccl-cu12",
            ("ImportError: /opt/app/torch/lib/libtorch_cuda.so: undefined symbol: ncclCommResume",)),
    Trouble("two CUDA generations", vllm_of_cuda_13, {"built-for-another-cuda": E}, "", ("ImportError: libcudart.so.13: cannot open shared object file: No such file or directory",)),
    Trouble("two CUDA generations", no_packages, {"torch-packages-missing": E}, "nvidia-cuda-runtime-cu12==12.4.127", ("ImportError: libcudart.so.12: cannot open shared object file",)),
    Trouble("two CUDA generations", nvrtc_without_builtins, {"library-missing": W}, "nvidia-cuda-nvrtc-cu12", ("nvrtc: error: failed to open libnvrtc-builtins.so.12.4.",)),
    Trouble("two CUDA generations", cudnn_of_cuda_13, {"cuda-files-overwritten": E}, f"{PIP} uninstall -y nvidia-cudnn-cu13", ("RuntimeError: cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",)),
    Trouble("extension of another torch", flash, {"extension-other-torch": E}, "--no-build-isolation flash-attn==2.7.4.post1", (f"ImportError: /opt/app/{FLASH}: undefined symbol: {GONE}",)),
    Trouble("extension for CUDA on a CPU build", scatter_on_cpu, {"extension-needs-cuda": E}, "--no-build-isolation torch-scatter==2.1.2",
            ("ImportError: libc10_cuda.so: cannot open shared object file: No such file or directory", "ImportError: libcudart.so.12: cannot open shared object file")),
    Trouble("extension with other strings", flash_strings, {"extension-other-abi": E}, "--no-build-isolation flash-attn==2.7.4",
            (f"ImportError: /opt/app/{FLASH}: undefined symbol: _ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE",)),
    Trouble("toolkit of another CUDA", nvcc_11, {"nvcc-other-major": W}, "export CUDA_HOME=/usr/local/cuda-12.4",
            ("RuntimeError: The detected CUDA version (11.8) mismatches the version that was used to compile\nPyTorch (12.4). Please make sure to use the same CUDA versions.",)),
    Trouble("the driver after sleep", slept, {"cuda-unknown-error": E}, "sudo modprobe nvidia_uvm", ("RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment",)),
    Trouble("driver updated without reboot", not_rebooted, {"driver-mismatch": E}, "sudo reboot", ("Failed to initialize NVML: Driver/library version mismatch",)),
    Trouble("GPUs hidden", no_such_gpu, {"visible-invalid": E}, "unset CUDA_VISIBLE_DEVICES", ("RuntimeError: CUDA unknown error - this may be due to an incorrectly set up environment", UNAVAILABLE)),
    Trouble("WSL with a driver of Linux", driver_in_wsl, {"wsl-linux-driver": E}, "sudo apt purge libnvidia-compute-535 nvidia-driver-535", (UNAVAILABLE, "ImportError: libcuda.so.1: cannot open shared object file")),
    Trouble("WSL whose folder isn't searched", wsl_not_searched, {"wsl-not-searched": E}, "sudo ldconfig", ("ImportError: libcuda.so.1: cannot open shared object file",)),
    Trouble("conda's CPU build", conda_cpu, {"cpu-build-conda": E}, 'conda install -p /opt/app -c conda-forge "pytorch=*=*cuda*"', (NO_CUDA, UNAVAILABLE), frozenset({"torch-not-verified"})),
    Trouble("pip over conda", pip_over_conda, {"pip-over-conda": W}, "conda remove -p /opt/app --force -y pytorch", ()),
    Trouble("no wheel for this Python", python_3_16, {"python-too-new": W}, "uv venv --python 3.12", (NO_VERSION,)),
    Trouble("no wheel for this system", alpine, {"musl": W}, "", (NO_VERSION,)),
    Trouble("NumPy 2", numpy_2, {"numpy2-torch": E}, f'{PIP} install "numpy<2"', ("A module that was compiled using NumPy 1.x cannot be run in NumPy 2.0.1 as it may crash.",)),
    Trouble("Windows' runtimes", no_openmp, {"libomp-missing": E}, "torch==", (WINDOWS_126,)),
    Trouble("Windows' runtimes", no_vc_runtime, {"vc-runtime-missing": E}, "winget install", (WINDOWS_126,)),
)


def wrong(report) -> dict: return {f.id: f.severity for f in report.findings if f.severity != "note"}
def names(trouble) -> str: return f"{trouble.name}: {trouble.machine.__name__}"


@pytest.mark.parametrize("trouble", TROUBLES, ids=names)
def test_it_is_found_and_nothing_else(trouble, tmp_path):
    report = diagnose(trouble.machine(tmp_path).host())
    assert wrong(report) == trouble.found, [(f.id, f.data, f.evidence) for f in report.findings]
    assert report.code == (2 if E in trouble.found.values() else 1)
    assert {f.id for f in report.findings} - set(trouble.found) == set(trouble.notes)
    f = next(f for f in report.findings if f.id in trouble.found)
    assert f.verify and f.evidence and trouble.command in "\n".join(f.commands) and bool(trouble.command) is bool(f.commands), f.commands
    for language in ("en", "zh"):
        words = Words(language)
        said = text(told(report, words), words)
        assert f"[{f.id}]" in said and all(f"$ {c}" in said for c in f.commands) and (f.commands or words(f"{f.id}.fix", **f.data))


@pytest.mark.parametrize("trouble", [t for t in TROUBLES if t.messages], ids=names)
def test_its_messages_name_it(trouble, tmp_path):
    report = diagnose(trouble.machine(tmp_path).host())
    f = next(f for f in report.findings if f.id in trouble.found)
    for message in trouble.messages:
        found = explain.explain(f"Traceback (most recent call last):\n  File \"train.py\", line 3\n{message}\n", report)
        assert f.id in [x.id for m in found for x in m.findings], ([m.id for m in found], message)
        for language in ("en", "zh"):
            said = explain.text(found, report, Words(language))
            assert all(f"$ {c}" in said for c in f.commands) and f.verify in said


@pytest.mark.parametrize("driver, cuda, ptx, works", [("470.57.02", "11.4", None, False), ("525.60.13", "12.0", "8.0", True), ("535.183.01", "12.2", "8.2", True), ("550.54.14", "12.4", "8.4", True)])
def test_forno_writes_ptx_that_the_driver_takes(driver, cuda, ptx, works, tmp_path):
    """"The provided PTX was compiled with an unsupported toolchain" can't come from forno: it takes the driver's own version, and an older driver gets the CPU."""
    report = diagnose(Machine(tmp_path).gpu("Tesla T4", "7.5", driver=driver).host())
    assert [f.id for f in report.findings] == ([] if works else ["forno-driver"]) and report.code == 0
    about = report.machine.as_data()["forno"]
    assert (about["cuda"], about["ptx"], about["works"]) == (cuda, ptx, works)
    found = explain.explain("RuntimeError: CUDA error: the provided PTX was compiled with an unsupported toolchain.", report)
    assert [m.id for m in found] == ["unsupported_ptx"] and [f.id for f in found[0].findings] == [f.id for f in report.findings]


@pytest.mark.parametrize("machine, english, chinese", [(lambda f: Machine(f).gpu("Tesla T4", "7.5"), "simulated GPUs only", "只在模拟 GPU 上"), (test_platforms.windows, "On Windows forno has not been tested", "尚未在 Windows 上测试"),
    (healthy.aarch64, "On Arm (aarch64) forno has not been tested", "尚未在 Arm (aarch64) 上测试"),
    (test_platforms.mac, "on macOS it has not been tested", "尚未在 macOS 上测试")], ids=["GPU", "Windows", "Arm", "macOS"])
def test_forno_promises_nothing_that_was_never_tried(machine, english, chinese, tmp_path):
    report = diagnose(machine(tmp_path).host())
    for language, wanted in (("en", english), ("zh", chinese)): assert wanted in told(report, Words(language))["forno"]["told"]


PLAIN = re.compile("[A-Za-z]?[a-z]+( [A-Za-z]+)*|GPU code")                     # words, not names of files, variables, symbols or numbered things


def test_words_beside_evidence_are_the_readers(tmp_path):
    """What evidence is of is a name, or a word that both languages have."""
    english, names = catalogue("en"), {"conda-meta", "libcuda", "glibc", "conda", "pip", "uv"}
    for k, machine in enumerate((*(t.machine for t in TROUBLES), *healthy.MACHINES)):
        report = diagnose(machine(tmp_path / str(k)).host())
        for f in report.findings:
            own = {p.name for p in report.machine.environment.all} | names
            unknown = [what for what, _ in f.evidence if PLAIN.fullmatch(what) and what not in own and f"evidence.{what}" not in english]
            assert not unknown, (f.id, unknown)
    assert "[no-code-for-gpu]" in (said := text(told(diagnose(newer_gpu(tmp_path / "zh").host()), Words("zh")), Words("zh"))) and "GPU 代码" in said


def test_the_doctor_is_called_as_it_was(tmp_path):
    """`forno doctor verify` helps nobody who has the doctor alone."""
    said = told(diagnose(slept(tmp_path).host()), Words("en"), "python -m forno_doctor")
    assert said["findings"][0]["verify"] == "python -m forno_doctor verify" and "forno doctor" not in text(said, Words("en"))


def test_every_kind_of_trouble_is_here():
    """Sixteen kinds, the last of them forno's own."""
    assert len({t.name for t in TROUBLES}) >= 16 and len({t.machine for t in TROUBLES}) == len(TROUBLES)
