"""Machines on which nothing is wrong, as people have them: each a function from a folder to a Machine. A check that says otherwise gives a false alarm.

Versions are real ones that go together (forno_doctor/data/torch.json); what torch requires is what its wheel's METADATA says.
"""
from .machines import NCCL, Machine, library
from .pe_file import dll

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



DRIVERS_DLLS, RUNTIME = ("nvcuda.dll", "nvml.dll"), ("vcruntime140.dll", "vcruntime140_1.dll", "msvcp140.dll")


def windows(folder):
    """A gaming PC with PyTorch's own build: CUDA's libraries lie in torch's folder."""
    site = "C:/Python312/Lib/site-packages"
    m = Machine(folder, system="windows", environment={"PATH": "C:\\Windows\\System32", "SystemRoot": "C:\\Windows", "ProgramFiles": "C:\\Program Files"})
    m.site, m.about["python"] = site, "C:/Python312/python.exe"
    m.python_says(path=[site.replace("/", "\\")], prefix="C:\\Python312", base="C:\\Python312", kernel="10.0.22631", machine="AMD64")
    for path in ("C:/Python312/python.exe", "C:/Python312/python312.dll", *(f"C:/Windows/System32/{n}" for n in ("KERNEL32.dll", *RUNTIME, *DRIVERS_DLLS))): m.file(path, dll())
    lib = f"{site}/torch/lib"
    for name, needed in (("c10.dll", ["KERNEL32.dll", "MSVCP140.dll", "VCRUNTIME140_1.dll"]), ("torch_cpu.dll", ["c10.dll"]), ("cudart64_12.dll", []), ("cublas64_12.dll", []), ("cudnn64_9.dll", []),
                         ("c10_cuda.dll", ["c10.dll", "cudart64_12.dll"])): m.file(f"{lib}/{name}", dll(name, needed=needed))
    m.file(f"{lib}/torch_cuda.dll", dll("torch_cuda.dll", needed=["c10_cuda.dll", "cublas64_12.dll", "cudnn64_9.dll", "nvcuda.dll"], codes=[("sass", 86), ("sass", 90)]))
    m.file(f"{site}/torch/version.py", "__version__ = '2.6.0+cu124'\ncuda = '12.4'\n").file(f"{site}/torch/__init__.py")
    m.package("torch", "2.6.0+cu124", files=["torch/version.py", "torch/__init__.py", *(f"torch/lib/{n}" for n in ("c10.dll", "torch_cuda.dll"))])
    device = {"name": "NVIDIA GeForce RTX 4090", "major": 8, "minor": 9, "memory": 24 << 30, "uuid": "0" * 32}
    return m.driver_says(library="nvcuda.dll", init=0, version=12060, devices=[device], nvml={"init": 0, "driver": "560.94", "devices": [device]}).package("numpy", "2.1.3")


def macos(folder):
    """Apple silicon: the package index's wheel, which knows Metal."""
    m = Machine(folder, system="macos", machine="arm64").python_says(machine="arm64", kernel="Darwin Kernel Version 23.5.0: root:xnu-10063.121.3~5/RELEASE_ARM64_T6020")
    m.file("/System/Library/CoreServices/SystemVersion.plist", "<dict><key>ProductVersion</key>\n<string>14.5</string></dict>")
    m.file(f"{m.site}/torch/version.py", "__version__ = '2.13.0'\ncuda = None\n").file(f"{m.site}/torch/__init__.py").package("torch", "2.13.0", files=["torch/version.py", "torch/__init__.py"])
    m.file(f"{m.site}/torch-2.13.0.dist-info/WHEEL", "Tag: cp312-cp312-macosx_14_0_arm64\n")
    return m.package("torchvision", "0.28.0", ["torch==2.13.0", "numpy"], ["torchvision/__init__.py"]).package("numpy", "2.1.3")


def rocm(folder):
    """An AMD GPU with the build for it."""
    m = Machine(folder).card(0, vendor="0x1002", device="0x744c", driver="amdgpu").torch("2.6.0+rocm6.2.4", requires=["pytorch-triton-rocm==3.2.0; platform_system == 'Linux'"])
    m.file(f"{m.site}/torch/version.py", "__version__ = '2.6.0+rocm6.2.4'\ncuda = None\nhip = '6.2.41134'\n").package("pytorch-triton-rocm", "3.2.0", files=["triton/__init__.py"])
    return m.package("torchvision", "0.21.0+rocm6.2.4", ["torch==2.6.0"])


def jetson(folder):
    """A board with the torch of its JetPack."""
    m = Machine(folder, machine="aarch64", python="3.10.12", glibc="2.35").gpu("Orin", "8.7", driver="540.4.0", cuda="12.6")
    m.file("/etc/nv_tegra_release", "# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic\n")
    m.torch("2.5.0a0+872d972e41.nv24.08", cuda="12.6", architectures=["8.7"], nvidia=False)
    for name in ("libcudart.so.12", "libcublas.so.12", "libcublasLt.so.12", "libcudnn.so.9", "libnccl.so.2"): m.library(f"{m.shared}/{name}", defined=NCCL if "nccl" in name else ())
    return m.package("numpy", "1.26.4")


def uv_venv(folder):
    """An environment that uv made: no pip in it."""
    m = Machine(folder).gpu("NVIDIA GeForce RTX 3090", "8.6", driver="560.35.03").file("/opt/app/pyvenv.cfg", "home = /usr/bin\nimplementation = CPython\nuv = 0.5.4\nversion_info = 3.12.4\n")
    with_torch(m.python_says(prefix="/opt/app", base="/usr"), "2.13.0+cu126", PASCAL_TO_HOPPER, installer="uv")
    return torchvision(m, "0.28.0+cu126", "2.13.0", ("8.0", "8.6"))


def toolkit_beside(folder):
    """A newer toolkit in LD_LIBRARY_PATH, as NVIDIA's installation guide says it: newer libraries of one generation serve."""
    m = with_torch(Machine(folder, environment={"LD_LIBRARY_PATH": "/usr/local/cuda/lib64", "CUDA_HOME": "/usr/local/cuda"}), "2.6.0+cu124", PASCAL_TO_HOPPER, triton="3.2.0")
    m.gpu("NVIDIA RTX A5000", "8.6", driver="560.35.03").file("/usr/local/cuda-12.6/bin/nvcc").file("/usr/local/cuda-12.6/version.json", '{"cuda": {"version": "12.6.2"}}').link("/usr/local/cuda", "cuda-12.6")
    for name, version in (("libcublas", "12.6.3.3"), ("libcublasLt", "12.6.3.3"), ("libcudart", "12.6.77")):
        m.library(f"/usr/local/cuda-12.6/lib64/{name}.so.{version}", soname=f"{name}.so.12").link(f"/usr/local/cuda-12.6/lib64/{name}.so.12", f"{name}.so.{version}")
    return m


def login_node(folder):
    """No GPU here, and a CUDA build for the nodes that have one."""
    return torchvision(with_torch(Machine(folder, environment={"SLURM_CONF": "/etc/slurm/slurm.conf"}), "2.6.0+cu124", PASCAL_TO_HOPPER, triton="3.2.0"), "0.21.0+cu124", "2.6.0")


def job(folder):
    """Two of a node's eight GPUs: the others are closed to this job, and the driver doesn't list them."""
    m = Machine(folder, environment={"SLURM_JOB_ID": "4711", "CUDA_VISIBLE_DEVICES": "0,1"})
    for _ in range(2): m.gpu("NVIDIA H100 80GB HBM3", "9.0", driver="550.54.14")
    for k in range(2, 8): m.card(k, device="0x2330", driver="nvidia").file(f"/dev/nvidia{k}")
    return torchvision(with_torch(m, "2.6.0+cu124", PASCAL_TO_HOPPER, triton="3.2.0"), "0.21.0+cu124", "2.6.0", ("8.0", "9.0"))


def notebook(folder):
    """A service's container: the driver's library in a folder that a variable names, a toolkit, packages of Debian."""
    m = Machine(folder, environment={"LD_LIBRARY_PATH": "/usr/lib64-nvidia", "NVIDIA_VISIBLE_DEVICES": "all"}).file("/.dockerenv").gpu("Tesla T4", "7.5", driver="550.54.15")
    real = m._place(f"{m.shared}/libcuda.so.550.54.15")
    m.library("/usr/lib64-nvidia/libcuda.so.550.54.15", soname="libcuda.so.1").link("/usr/lib64-nvidia/libcuda.so.1", "libcuda.so.550.54.15")._place(f"{m.shared}/libcuda.so.1").unlink()
    real.unlink()
    m.file("/usr/local/cuda-12.5/bin/nvcc").file("/usr/local/cuda-12.5/version.json", '{"cuda": {"version": "12.5.82"}}').link("/usr/local/cuda", "cuda-12.5")
    m.package("tensorflow", "2.18.0", ["numpy<2.1.0,>=1.26.0", "nvidia-cudnn-cu12==9.3.0.75; extra == 'and-cuda'"])
    torchvision(with_torch(m, "2.6.0+cu124", PASCAL_TO_HOPPER, triton="3.2.0"), "0.21.0+cu124", "2.6.0", ("7.5", "8.0"))
    m._place(f"{m.site}/numpy-2.1.3.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 2.0.2\n")
    return m


def pip_in_conda(folder):
    """conda's Python with pip's torch: conda knows nothing of torch, and brings a C++ library of its own."""
    m = Machine(folder, environment={"CONDA_PREFIX": "/opt/app", "CONDA_DEFAULT_ENV": "app"}).gpu("NVIDIA GeForce RTX 4080", "8.9", driver="550.54.14")
    m.library("/opt/app/bin/python", rpath="$ORIGIN/../lib").library("/opt/app/lib/libstdc++.so.6", offers=["GLIBCXX_3.4.30", "CXXABI_1.3"]).library("/usr/lib/libstdc++.so.6", offers=["GLIBCXX_3.4.33", "CXXABI_1.3"])
    for name, version, build in (("python", "3.12.4", "h194c7f8_0_cpython"), ("pip", "24.2", "pyh8b19718_1"), ("libstdcxx", "12.4.0", "h3f4de04_0")):
        m.file(f"/opt/app/conda-meta/{name}-{version}-{build}.json", f'{{"name": "{name}", "version": "{version}", "build": "{build}", "channel": "conda-forge"}}')
    return torchvision(with_torch(m, "2.6.0+cu124", PASCAL_TO_HOPPER, triton="3.2.0"), "0.21.0+cu124", "2.6.0", ("8.0", "8.6")).package("pip", "24.2", installer="conda")


def nvidias_image(folder):
    """NVIDIA's container with a torch of its own, and a newer libcuda for an older driver, which a data-centre GPU may have."""
    compat = "/usr/local/cuda/compat/lib"
    m = Machine(folder, environment={"LD_LIBRARY_PATH": f"{compat}:/usr/local/nvidia/lib:/usr/local/nvidia/lib64", "NVIDIA_VISIBLE_DEVICES": "all"}).file("/.dockerenv")
    m.gpu("NVIDIA A100-SXM4-80GB", "8.0", driver="535.183.01", cuda="12.8").library(f"{compat}/libcuda.so.570.86.15", soname="libcuda.so.1").link(f"{compat}/libcuda.so.1", "libcuda.so.570.86.15")
    m.torch("2.6.0a0+ecf3bae40a.nv25.1", cuda="12.8", architectures=["7.5", "8.0", "8.6", "9.0", "10.0", "12.0+PTX"], nvidia=False)
    for name in ("libcudart.so.12", "libcublas.so.12", "libcublasLt.so.12", "libcudnn.so.9", "libnccl.so.2"): m.library(f"{m.shared}/{name}", defined=NCCL if "nccl" in name else ())
    return m.package("torchvision", "0.20.0a0", ["numpy", "torch"]).package("numpy", "1.26.4").package("flash-attn", "2.6.3", ["torch", "einops"])


def container_in_wsl(folder):
    """Docker on Windows: the driver's library comes through WSL into the container."""
    m = Machine(folder, kernel="Linux version 5.15.153.1-microsoft-standard-WSL2 (gcc 11.2.0)").file("/.dockerenv").file("/dev/dxg").library("/usr/lib/x86_64-linux-gnu/libcuda.so.1")
    device = {"name": "NVIDIA GeForce RTX 3060", "major": 8, "minor": 6, "memory": 12 << 30, "uuid": "0" * 32}
    m.driver_says(library="libcuda.so.1", init=0, version=12060, devices=[device], nvml={"init": 0, "driver": "560.94", "devices": [device]}).file("/usr/bin/nvidia-smi")
    return torchvision(with_torch(m, "2.6.0+cu124", PASCAL_TO_HOPPER, triton="3.2.0"), "0.21.0+cu124", "2.6.0", ("8.0", "8.6"))


def distribution(folder):
    """A distribution's own package: for the CPU, its libraries beside all others."""
    m = Machine(folder, python="3.13.2").file("/usr/lib/x86_64-linux-gnu/libtorch_cpu.so.2.6")
    m.file(f"{m.site}/torch/version.py", "__version__ = '2.6.0+debian'\ncuda = None\n").file(f"{m.site}/torch/__init__.py")
    m.file(f"{m.site}/torch-2.6.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: torch\nVersion: 2.6.0+debian\n").file(f"{m.site}/torch-2.6.0.dist-info/INSTALLER", "debian\n")
    return m.package("torchvision", "0.21.0", ["numpy", "torch"], installer="debian").package("numpy", "2.2.4", installer="debian")

MACHINES = (pip_cu126, pip_cu130, cpu, conda_forge, wsl, two_gpus, nightly, aarch64, free_threaded, container, several_frameworks, no_torch, windows, macos, rocm, jetson,
            uv_venv, toolkit_beside, login_node, job, notebook,
            pip_in_conda, nvidias_image, container_in_wsl, distribution)
