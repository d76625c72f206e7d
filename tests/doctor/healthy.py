"""Machines on which nothing is wrong, as people have them: each a function from a folder to a Machine. A check that says otherwise gives a false alarm.

Versions are real ones that go together (forno_doctor/data/torch.json); what torch requires is what its wheel's METADATA says.
"""
from .machines import NCCL, Machine, library

SYMBOL = "_ZN2at4_ops3add4callE"
PASCAL_TO_HOPPER, TURING_TO_BLACKWELL = ["5.0", "6.0", "7.0", "7.5", "8.0", "8.6", "9.0"], ["7.5", "8.0", "8.6", "9.0", "10.0", "12.0"]
LINUX = "platform_system == 'Linux'"
CU12 = [f"nvidia-cuda-runtime-cu12==12.4.127; {LINUX}", f"nvidia-cublas-cu12==12.4.127; {LINUX}", f"nvidia-cudnn-cu12==9.1.0.70; {LINUX}", f"nvidia-nccl-cu12==2.21.5; {LINUX}"]
CU13 = [f"cuda-toolkit[cublas,cudart]==13.0.3; {LINUX}", f"nvidia-cudnn-cu13==9.20.0.48; {LINUX}", f"nvidia-nccl-cu13==2.29.7; {LINUX}"]
CUDA = ("libc10.so", "libtorch_cpu.so", "libc10_cuda.so", "libtorch_cuda.so")


def with_torch(m, version, architectures=(), cu=CU12, triton="3.7.1", **more):
    """torch with its compiled companions: what they ask for is there."""
    m.torch(version, architectures=architectures, requires=[*cu, *([f"triton=={triton}; {LINUX}"] if triton else [])], **more)
    if triton: m.package("triton", triton, files=["triton/__init__.py"])
    return m.library(f"{m.site}/torch/lib/libc10_cuda.so") if "+cu" in version else m


def torchvision(m, version, torch, architectures=("7.5", "8.0"), local="", spec="=="):
    codes = [("sass", int(a.replace(".", ""))) for a in architectures]
    m.extension("torchvision", version, "torchvision/_C.so", [f"torch{spec}{torch}", "numpy"], CUDA if codes else CUDA[:2], undefined=[SYMBOL, "malloc"], codes=codes)
    return m.file(f"{m.site}/torchvision/version.py", f"__version__ = '{version.partition('+')[0]}{local}'\n").package("numpy", "2.1.3", files=["numpy/__init__.py"])


def pip_cu126(folder):
    """PyTorch's own index, an older card."""
    m = with_torch(Machine(folder).gpu("NVIDIA GeForce GTX 1080 Ti", "6.1", driver="560.35.03"), "2.13.0+cu126", PASCAL_TO_HOPPER)
    return torchvision(m, "0.28.0+cu126", "2.13.0", ("5.0", "6.0", "8.0")).package("torchaudio", "2.11.0+cu126")


def cuda13(m, version, architectures=TURING_TO_BLACKWELL, **more):
    """torch of CUDA 13: its libraries share one folder, and cuda-toolkit stands between."""
    with_torch(m, version, architectures, CU13, nvidia=False, **more)
    lib = "nvidia/cu13/lib"
    packages = {("nvidia-cublas", "13.1.0.3"): (f"{lib}/libcublas.so.13", f"{lib}/libcublasLt.so.13"), ("nvidia-cuda-runtime", "13.0.96"): (f"{lib}/libcudart.so.13",),
                ("nvidia-cudnn-cu13", "9.20.0.48"): ("nvidia/cudnn/lib/libcudnn.so.9",), ("nvidia-nccl-cu13", "2.29.7"): ("nvidia/nccl/lib/libnccl.so.2",)}
    for (name, v), paths in packages.items():
        m.package(name, v, files=[(f, library(soname=f.rsplit("/", 1)[-1], machine=m.cpu, defined=NCCL if "nccl" in f else (), runpath="$ORIGIN")) for f in paths])
    m.package("cuda-toolkit", "13.0.3", [f"nvidia-cublas==13.1.0.*; {LINUX} and extra == 'cublas'", "nvidia-cuda-runtime==13.0.*; extra == 'cudart'", "nvidia-curand==10.4.*; extra == 'curand'"])
    path = "$ORIGIN/../../nvidia/cu13/lib:$ORIGIN/../../nvidia/cudnn/lib:$ORIGIN/../../nvidia/nccl/lib:$ORIGIN"
    needed = ["libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcudnn.so.9", "libnccl.so.2"]
    m.library(f"{m.site}/torch/lib/libtorch_cuda.so", needed=needed, runpath=path, codes=[("sass", int(a.replace(".", ""))) for a in architectures], undefined=NCCL)
    return m.library(f"{m.site}/torch/lib/libtorch_global_deps.so", needed=needed, runpath=path)


def pip_cu130(folder):
    """The package index's own wheel: its METADATA says no build, version.py does."""
    m = cuda13(Machine(folder).gpu("NVIDIA H100 80GB HBM3", "9.0", driver="580.95.05"), "2.13.0+cu130")
    with_build, without = (m._place(f"{m.site}/torch-2.13.0{tag}.dist-info") for tag in ("+cu130", ""))
    with_build.rename(without)
    m.file(f"{m.site}/torch-2.13.0.dist-info/METADATA", (without / "METADATA").read_text().replace("Version: 2.13.0+cu130", "Version: 2.13.0"))
    return torchvision(m, "0.28.0", "2.13.0", TURING_TO_BLACKWELL, local="+cu130")


def cpu(folder):
    """A laptop without NVIDIA's hardware."""
    m = with_torch(Machine(folder, python="3.11.9").card(0, vendor="0x8086", device="0x46a6", driver="i915"), "2.13.0+cpu", cu=(), triton=None)
    return torchvision(m, "0.28.0+cpu", "2.13.0", ())


def conda_forge(folder):
    """conda's packages: their libraries lie in the environment's own folder, and conda's rules aren't pip's."""
    m = Machine(folder, environment={"CONDA_PREFIX": "/opt/app", "CONDA_DEFAULT_ENV": "app"}).gpu("NVIDIA RTX A6000", "8.6", driver="570.124.06")
    m.torch("2.6.0", cuda="12.6", architectures=["5.0", "8.0", "8.6", "9.0+PTX"], nvidia=False, installer="conda", requires=["nvidia-cudnn-cu12==9.1.0.70", "sympy==1.13.1"])
    for name in ("libcudart.so.12", "libcublas.so.12", "libcublasLt.so.12", "libcudnn.so.9", "libnccl.so.2"): m.library(f"/opt/app/lib/{name}", defined=NCCL if "nccl" in name else ())
    for name in ("libtorch_cuda.so", "libtorch_global_deps.so"):
        m.library(f"{m.site}/torch/lib/{name}", needed=["libcudart.so.12", "libcublas.so.12", "libcudnn.so.9", "libnccl.so.2"], rpath="$ORIGIN/../../../../:$ORIGIN",
                  undefined=NCCL if "cuda" in name else (), codes=[("sass", 80), ("sass", 86)] if "cuda" in name else ())
    for name, version, build in (("pytorch", "2.6.0", "cuda126_mkl_py312_h0"), ("libtorch", "2.6.0", "cuda126_mkl_h0"), ("numpy", "2.2.3", "py312_0"), ("python", "3.12.4", "h194c7f8_0_cpython")):
        m.file(f"/opt/app/conda-meta/{name}-{version}-{build}.json", f'{{"name": "{name}", "version": "{version}", "build": "{build}", "channel": "conda-forge"}}')
    return m.package("numpy", "2.2.3", installer="conda").package("torchvision", "0.21.0", ["torch", "numpy"], installer="conda")


def wsl(folder):
    """Windows' driver seen from WSL 2: its library lies where WSL puts it."""
    m = Machine(folder, kernel="Linux version 5.15.153.1-microsoft-standard-WSL2 (root@build) (gcc 11.2.0)", environment={"WSL_DISTRO_NAME": "Ubuntu"})
    m.file("/dev/dxg").library("/usr/lib/wsl/lib/libcuda.so.1").file("/etc/ld.so.conf.d/ld.wsl.conf", "/usr/lib/wsl/lib\n").file("/usr/lib/wsl/lib/nvidia-smi")
    m.environment(LD_LIBRARY_PATH="/usr/lib/wsl/lib")
    device = {"name": "NVIDIA GeForce RTX 4070 Laptop GPU", "major": 8, "minor": 9, "memory": 8 << 30, "uuid": "0" * 32}
    m.driver_says(library="libcuda.so.1", init=0, version=12080, devices=[device], nvml={"init": 0, "driver": "572.16", "devices": [device]})
    return torchvision(with_torch(m, "2.7.0+cu128", TURING_TO_BLACKWELL, triton="3.3.0"), "0.22.0+cu128", "2.7.0", TURING_TO_BLACKWELL)


def two_gpus(folder):
    """Two generations that one build serves."""
    m = Machine(folder).gpu("Tesla T4", "7.5", driver="550.54.14").gpu("NVIDIA A100-SXM4-80GB", "8.0", driver="550.54.14")
    return torchvision(with_torch(m, "2.6.0+cu124", PASCAL_TO_HOPPER, triton="3.2.0"), "0.21.0+cu124", "2.6.0", ("7.5", "8.0"))


def nightly(folder):
    """A build that no table knows, with its pair of the same night."""
    m = Machine(folder).gpu("NVIDIA GeForce RTX 5090", "12.0", driver="595.58.03", cuda="13.2")
    cuda13(m, "2.16.0.dev20261101+cu130", triton=None)
    return torchvision(m, "0.30.0.dev20261101+cu130", "2.16.0.dev20261101", TURING_TO_BLACKWELL)


def aarch64(folder):
    """A server of Arm's kind: from 2.11 on the package index has CUDA builds for it."""
    m = Machine(folder, machine="aarch64").gpu("NVIDIA GH200 480GB", "9.0", driver="580.95.05")
    cuda13(m, "2.13.0+cu130", ["8.0", "9.0", "10.0", "11.0", "12.0"])
    return torchvision(m, "0.28.0+cu130", "2.13.0", ("8.0", "9.0"))


def free_threaded(folder):
    """Python without a global lock."""
    m = Machine(folder, python="3.14.0").python_says(free=True).gpu("NVIDIA L4", "8.9", driver="580.95.05")
    return torchvision(cuda13(m, "2.13.0+cu130"), "0.28.0+cu130", "2.13.0", TURING_TO_BLACKWELL)


def container(folder):
    """A GPU passed into a container, and extensions compiled for this torch."""
    m = Machine(folder).file("/.dockerenv").gpu("NVIDIA A100-SXM4-80GB", "8.0", driver="535.104.05")
    with_torch(m, "2.6.0+cu124", PASCAL_TO_HOPPER, triton="3.2.0")
    m.extension("flash-attn", "2.7.4.post1", "flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so", ["torch", "einops"], CUDA, undefined=[SYMBOL, "PyList_New"], codes=[("sass", 80), ("sass", 90)])
    return m.package("einops", "0.8.0").package("xformers", "0.0.29.post2", ["torch==2.6.0", "numpy"]).package("numpy", "1.26.4")


def several_frameworks(folder):
    """Others of the same CUDA generation beside torch, as a notebook's image has them."""
    m = with_torch(Machine(folder).gpu("NVIDIA L40S", "8.9", driver="550.54.14"), "2.6.0+cu124", PASCAL_TO_HOPPER, triton="3.2.0")
    m.package("jax", "0.5.3").package("jax-cuda12-plugin", "0.5.3", ["jax-cuda12-pjrt==0.5.3", "nvidia-cudnn-cu12<10.0,>=9.1; extra == 'with-cuda'"]).package("jax-cuda12-pjrt", "0.5.3")
    return m.package("cupy-cuda12x", "13.4.0", ["numpy<2.3,>=1.22"]).package("numpy", "2.1.3").package("transformers", "4.50.0", ["numpy>=1.17", "torch>=2.0; extra == 'torch'"])


def no_torch(folder): return Machine(folder, python="3.13.1").gpu("NVIDIA GeForce RTX 3060", "8.6", driver="580.95.05").package("numpy", "2.3.0")


MACHINES = (pip_cu126, pip_cu130, cpu, conda_forge, wsl, two_gpus, nightly, aarch64, free_threaded, container, several_frameworks, no_torch)
