"""Which CUDA libraries a process with torch would load: copies with owners and versions, what is in front of torch's own, what lacks symbols or is missing, and healthy machines."""
import json
import sys
from importlib.util import find_spec
from random import Random

import pytest

from forno_doctor import Host, diagnose
from forno_doctor.checks import libraries as checks
from forno_doctor.diagnose import Report
from forno_doctor.finding import ORDER
from forno_doctor.libraries import wheel
from forno_doctor.machine import Machine as Examined
from forno_doctor.words import Words

from .elf_file import library
from .machines import Machine
from .test_loader import cache

PINS = "nvidia-cudnn-cu12==9.1.0.70", "nvidia-nccl-cu12==2.21.5", "nvidia-cublas-cu12==12.4.127", "nvidia-cuda-runtime-cu12==12.4.127"
SITE = "/opt/app/lib/python3.12/site-packages"
CUDNN = f"{SITE}/nvidia/cudnn/lib"
PARTS = "libcudnn_graph", "libcudnn_ops", "libcudnn_cnn"


def plain(folder, version="2.6.0+cu124", pins=PINS, **more) -> Machine:
    """A machine with torch 2.6 for CUDA 12.4 and its packages, cuDNN with its parts."""
    m = Machine(folder, **more).gpu("NVIDIA GeForce RTX 4090", "8.9", driver="550.54.14").torch(version, architectures=["8.0", "8.6", "9.0"])
    m.package("torch", version, requires=pins, files=["torch/version.py", "torch/__init__.py"])
    files = [("nvidia/cudnn/lib/libcudnn.so.9", library(soname="libcudnn.so.9", runpath="$ORIGIN"))]
    files += [(f"nvidia/cudnn/lib/{p}.so.9", library(soname=f"{p}.so.9", runpath="$ORIGIN")) for p in PARTS]
    return m.package("nvidia-cudnn-cu12", "9.1.0.70", files=files)


def toolkit(m, folder="/usr/local/cuda-12.1", cublas="12.1.3.1", symbols=()):
    """cuBLAS of a CUDA toolkit as it lies on disks: a long name, and links to it."""
    for name in "libcublas", "libcublasLt":
        m.library(f"{folder}/lib64/{name}.so.{cublas}", soname=f"{name}.so.12", defined=symbols).link(f"{folder}/lib64/{name}.so.12", f"{name}.so.{cublas}")
    return m.file(f"{folder}/version.json", json.dumps({"cuda": {"version": folder[-4:] + ".1"}, "libcublas": {"version": cublas}}))


def system_cudnn(m, version, folder="/usr/lib/x86_64-linux-gnu", parts=PARTS):
    major = version.split(".")[0]
    for name in ("libcudnn", *parts): m.library(f"{folder}/{name}.so.{version}", soname=f"{name}.so.{major}").link(f"{folder}/{name}.so.{major}", f"{name}.so.{version}")
    return m


def found(m) -> dict:
    """This file's findings, by id; each can be said in both languages."""
    machine = Examined(m.host())
    out = {f.id: f for check in checks.CHECKS for f in check(machine)}
    for f in out.values():
        assert f.severity in ORDER and f.evidence and f.verify and all(what and where for what, where in f.evidence), f
        for language in ("en", "zh"):
            w = Words(language)
            said = [w(f"{f.id}.{part}", **f.data) for part in ("title", "cause", *(["fix"] if w.has(f"{f.id}.fix") else []))]
            assert all(said) and (f.commands or w.has(f"{f.id}.fix")), f.id
    return out


# ---------------------------------------------------------------- copies
def test_copies_with_owners_versions_and_rules(tmp_path):
    m = toolkit(plain(tmp_path)).environment(LD_LIBRARY_PATH="/usr/local/cuda-12.1/lib64")
    system_cudnn(m, "9.5.1").file("/var/lib/dpkg/info/libcudnn9-cuda-12.list", "/.\n/usr/lib/x86_64-linux-gnu/libcudnn.so.9.5.1\n")
    by = {(c.kind, c.manager): c for c in Examined(m.host()).copies}
    own = by["cudnn", "pip"]
    assert (own.path, own.version, own.package, own.rule, own.by) == (f"{CUDNN}/libcudnn.so.9", "9.1.0.70", "nvidia-cudnn-cu12", "RUNPATH", f"{SITE}/torch/lib/libtorch_global_deps.so")
    other = by["cudnn", "dpkg"]
    assert (other.version, other.package, other.rule, other.instead) == ("9.5.1", "libcudnn9-cuda-12", None, f"{CUDNN}/libcudnn.so.9")
    assert (by["cublas", None].version, by["cublas", None].rule, by["cublas", "pip"].instead) == ("12.1.3.1", "LD_LIBRARY_PATH", "/usr/local/cuda-12.1/lib64/libcublas.so.12.1.3.1")
    assert by["nccl", "pip"].version == "2.21.5"


@pytest.mark.parametrize("files, version", [
    ({"/srv/cudnn/include/cudnn_version.h": "#define CUDNN_MAJOR 9\n#define CUDNN_MINOR 5\n#define CUDNN_PATCHLEVEL 1\n"}, "9.5.1"), ({"/srv/cudnn/include/cudnn_version.h": "rubbish"}, None), ({}, None)])
def test_versions_that_names_do_not_tell(tmp_path, files, version):
    m = plain(tmp_path, environment={"LD_LIBRARY_PATH": "/srv/cudnn/lib"}).library("/srv/cudnn/lib/libcudnn.so.9")
    for path, text in files.items(): m.file(path, text)
    assert next(c for c in Examined(m.host()).copies if c.path.startswith("/srv/cudnn")).version == version


def test_cupti_counts_years_in_its_name(tmp_path):
    m = toolkit(plain(tmp_path)).file("/usr/local/cuda-12.1/version.json", json.dumps({"cuda": {"version": "12.1.1"}, "cuda_cupti": {"version": "12.1.105"}}))
    m.library("/usr/local/cuda-12.1/extras/CUPTI/lib64/libcupti.so.2023.1.1", soname="libcupti.so.12")
    assert next(c for c in Examined(m.host()).copies if c.kind == "cupti").version == "12.1.105"


def test_conda_owns_its_libraries(tmp_path):
    m = plain(tmp_path).environment(CONDA_PREFIX="/opt/conda").library("/opt/conda/lib/libcudnn.so.9").file("/opt/conda/conda-meta/cudnn-9.3.0.75-cuda12.6.json", "{}")
    c = next(c for c in Examined(m.host()).copies if c.path.startswith("/opt/conda"))
    assert (c.package, c.manager, c.version) == ("cudnn", "conda", "9.3.0.75")


def test_of_two_owners_the_one_whose_size_it_has(tmp_path):
    """nvidia-nccl-cu12 was installed over nvidia-nccl-cu13: both say that the file is theirs."""
    m, path = plain(tmp_path), "nvidia/nccl/lib/libnccl.so.2"
    size = len((tmp_path / f"{SITE}/{path}".lstrip("/")).read_bytes())
    for name, version, n in (("nvidia-nccl-cu13", "2.27.7", 7), ("nvidia-nccl-cu12", "2.21.5", size)):
        m.package(name, version, files=[path]).file(f"{SITE}/{name.replace('-', '_')}-{version}.dist-info/RECORD", f"{path},sha256=x,{n}\n")
    assert next(c for c in Examined(m.host()).copies if c.kind == "nccl").package == "nvidia-nccl-cu12"


@pytest.mark.parametrize("kind, soname, cuda, name", [
    ("cudart", "libcudart.so.12", "12.4", "nvidia-cuda-runtime-cu12"), ("cudart", "libcudart.so.13", "12.4", "nvidia-cuda-runtime"), ("cufft", "libcufft.so.12", "13.0", "nvidia-cufft"),
    ("cufft", "libcufft.so.11", "12.6", "nvidia-cufft-cu12"), ("cudnn", "libcudnn.so.9", "13.0", "nvidia-cudnn-cu13"), ("nvshmem", "libnvshmem_host.so.3", "13.0", "nvidia-nvshmem-cu13"),
    ("cupti", "libcupti.so.12", "12.4", "nvidia-cuda-cupti-cu12"), ("nccl", "libnccl.so.2", None, None)])
def test_the_wheel_of_a_library(kind, soname, cuda, name): assert wheel(kind, soname, cuda) == name


# ---------------------------------------------------------------- other copies in front (A8)
@pytest.mark.parametrize("cublas, severity", [("12.1.3.1", "warning"), ("12.4.99", "note"), ("12.6.4.1", "note"), ("12.4.127", None)])
def test_a_toolkit_in_front(tmp_path, cublas, severity):
    m = toolkit(plain(tmp_path), cublas=cublas).environment(LD_LIBRARY_PATH="/srv/mine:/usr/local/cuda-12.1/lib64", HOME="/srv/me")
    m.file("/srv/me/.bashrc", "# export LD_LIBRARY_PATH=/usr/local/cuda-12.1/lib64\nalias x=y\nexport LD_LIBRARY_PATH=$LD_LIBRARY_PATH:/usr/local/cuda-12.1/lib64\n")
    said = found(m)
    if severity is None: assert not said; return
    f = said["library-shadowed"]
    assert set(said) == {"library-shadowed"} and f.severity == severity and f.commands == ["export LD_LIBRARY_PATH=/srv/mine"]
    assert ("/srv/me/.bashrc:3", "export LD_LIBRARY_PATH=$LD_LIBRARY_PATH:/usr/local/cuda-12.1/lib64") in f.evidence
    paths = " ".join(where for _, where in f.evidence)
    assert f"/usr/local/cuda-12.1/lib64/libcublas.so.{cublas} ({cublas})" in paths and f"{SITE}/nvidia/cublas/lib/libcublas.so.12 (12.4.127, nvidia-cublas-cu12)" in paths and f.data["count"] == 2


def test_nothing_else_in_the_variable(tmp_path):
    f = found(toolkit(plain(tmp_path)).environment(LD_LIBRARY_PATH="/usr/local/cuda-12.1/lib64"))["library-shadowed"]
    assert f.commands == ["unset LD_LIBRARY_PATH"] and ("LD_LIBRARY_PATH", "/usr/local/cuda-12.1/lib64") in f.evidence


def test_a_clusters_module_is_named(tmp_path):
    m = toolkit(plain(tmp_path)).environment(LD_LIBRARY_PATH="/usr/local/cuda-12.1/lib64", LOADEDMODULES="gcc/12:CUDA/12.1:openmpi/4")
    assert ("LOADEDMODULES", "CUDA/12.1") in found(m)["library-shadowed"].evidence


def test_a_folder_that_something_else_needs_stays(tmp_path):
    """Without it a library would be lost: torch's own folders come in front of it."""
    m = toolkit(plain(tmp_path)).environment(LD_LIBRARY_PATH="/usr/local/cuda-12.1/lib64").library("/usr/local/cuda-12.1/lib64/libcudart.so.12")
    (tmp_path / f"{SITE}/nvidia/cuda_runtime/lib/libcudart.so.12".lstrip("/")).unlink()
    assert found(m)["library-shadowed"].commands == [f"export LD_LIBRARY_PATH={SITE}/nvidia/cublas/lib:/usr/local/cuda-12.1/lib64"]


def test_symbols_that_the_one_in_front_lacks(tmp_path):
    """The wheel's cuBLAS asks cublasLt for what an older toolkit's doesn't have."""
    m, name = toolkit(plain(tmp_path), symbols=["cublasLtCreate"]).environment(LD_LIBRARY_PATH="/usr/local/cuda-12.1/lib64"), "cublasLtHSHMatmulAlgoInit"
    (tmp_path / "usr/local/cuda-12.1/lib64/libcublas.so.12").unlink()
    lib = f"{SITE}/nvidia/cublas/lib"
    m.library(f"{lib}/libcublas.so.12", needed=["libcublasLt.so.12"], undefined=[name, "cublasLtCreate"], runpath="$ORIGIN").library(f"{lib}/libcublasLt.so.12", defined=[name, "cublasLtCreate"])
    said = found(m)
    f = said["library-lacks-symbols"]
    assert set(said) == {"library-lacks-symbols"} and f.severity == "error" and (f.data["symbol"], f.data["by"]) == (name, "libcublas.so.12") and f.commands == ["unset LD_LIBRARY_PATH"]


def test_only_what_cublas_brings_is_in_the_way(tmp_path):
    """torch's RPATH finds cuBLAS before LD_LIBRARY_PATH; cuBLAS itself has a RUNPATH, which comes after it, and gets another cublasLt."""
    m = toolkit(plain(tmp_path)).environment(LD_LIBRARY_PATH="/usr/local/cuda-12.1/lib64")
    for name in "libtorch_cuda.so", "libtorch_global_deps.so": m.library(f"{SITE}/torch/lib/{name}", needed=["libcublas.so.12"], rpath="$ORIGIN/../../nvidia/cublas/lib")
    m.library(f"{SITE}/nvidia/cublas/lib/libcublas.so.12", needed=["libcublasLt.so.12"], runpath="$ORIGIN")
    f = found(m)["library-shadowed"]
    assert f.data["library"] == "libcublasLt.so.12" and f.data["count"] == 1


@pytest.mark.parametrize("version, severity", [("9.0.0.312", "error"), ("9.1.0.70", None), ("9.5.1.17", "note")])
def test_a_wheel_of_another_environment_in_front(tmp_path, version, severity):
    folder = "/srv/other/site-packages"
    m = plain(tmp_path).library(f"{folder}/nvidia/cudnn/lib/libcudnn.so.9").file(f"{folder}/nvidia_cudnn_cu12-{version}.dist-info/METADATA").environment(
        LD_LIBRARY_PATH=f"{folder}/nvidia/cudnn/lib")
    assert [f.severity for f in found(m).values()] == ([severity] if severity else [])


def test_preloaded(tmp_path):
    m = toolkit(plain(tmp_path)).library("/opt/app/bin/python").environment(LD_PRELOAD="/srv/libtrace.so:/usr/local/cuda-12.1/lib64/libcublas.so.12").library("/srv/libtrace.so")
    f = found(m)["library-preloaded"]
    assert f.severity == "warning" and f.commands == ["export LD_PRELOAD=/srv/libtrace.so"] and f.data["version"] == "12.1.3.1"


def test_preloaded_for_everybody(tmp_path):
    m = toolkit(plain(tmp_path)).library("/opt/app/bin/python").file("/etc/ld.so.preload", "/usr/local/cuda-12.1/lib64/libcublas.so.12\n")
    f = found(m)["library-preloaded"]
    assert f.commands == ["sudo sed -i '\\|/usr/local/cuda-12.1/lib64/libcublas.so.12|d' /etc/ld.so.preload"] and ("LD_PRELOAD", "/etc/ld.so.preload") in f.evidence


def test_every_command_gives_the_same_whole_value(tmp_path):
    """Two findings about two entries of one variable: whatever is typed last, neither entry comes back."""
    m = toolkit(system_cudnn(plain(tmp_path), "9.0.0", "/srv/cudnn/lib")).environment(LD_LIBRARY_PATH="/srv/cudnn/lib:/srv/mine:/usr/local/cuda-12.1/lib64")
    said = found(m)
    assert set(said) == {"cudnn-too-old", "library-shadowed"} and all(f.commands == ["export LD_LIBRARY_PATH=/srv/mine"] for f in said.values())


def test_the_systems_copy_because_no_path_leads_to_torchs_own(tmp_path):
    m = toolkit(plain(tmp_path)).file("/etc/ld.so.conf.d/cuda.conf", "/usr/local/cuda-12.1/lib64\n")
    m.file("/etc/ld.so.cache", cache([(n, f"/usr/local/cuda-12.1/lib64/{n}", None, 0x303) for n in ("libcublas.so.12", "libcublasLt.so.12")]))
    assert not found(m)                        # RUNPATH comes first
    for name in "libtorch_cuda.so", "libtorch_global_deps.so": m.library(f"{SITE}/torch/lib/{name}", needed=["libcublas.so.12"])
    f = found(m)["library-from-system"]
    assert f.commands == [f"export LD_LIBRARY_PATH={SITE}/nvidia/cublas/lib"] and ("/etc/ld.so.conf.d/cuda.conf:1", "/usr/local/cuda-12.1/lib64") in f.evidence


# ---------------------------------------------------------------- cuDNN (A7, A8)
@pytest.mark.parametrize("version, id", [("9.0.0", "cudnn-too-old"), ("9.1.1", "library-shadowed"), ("9.1.0", None), ("9.10.2", "library-shadowed")])
def test_another_cudnn_in_front(tmp_path, version, id):
    said = found(system_cudnn(plain(tmp_path), version, "/srv/cudnn/lib").environment(LD_LIBRARY_PATH="/srv/cudnn/lib"))
    assert set(said) == ({id} if id else set())
    if id == "cudnn-too-old": assert (said[id].severity, said[id].data["found"], said[id].data["compiled"]) == ("error", "9.0.0", "9.1.0.70") and said[id].commands == ["unset LD_LIBRARY_PATH"]
    elif id: assert said[id].severity == "note"


def test_a_cudnn_package_older_than_torchs(tmp_path):
    m = plain(tmp_path, "2.8.0+cu126", pins=["nvidia-cudnn-cu12==9.10.2.21"])
    assert found(m)["cudnn-too-old"].commands == ["/opt/app/bin/python -m pip install nvidia-cudnn-cu12==9.10.2.21"]


def test_parts_of_another_cudnn(tmp_path):
    """Only the parts lie in the folder that comes first."""
    m = plain(tmp_path).environment(LD_LIBRARY_PATH="/srv/cudnn/lib")
    system_cudnn(m, "9.5.1", "/srv/cudnn/lib")
    (tmp_path / "srv/cudnn/lib/libcudnn.so.9").unlink()
    f = found(m)["cudnn-parts-mixed"]
    assert f.severity == "error" and (f.data["cudnn"], f.data["version"], f.data["count"]) == ("9.1.0.70", "9.5.1", 3) and f.commands == ["unset LD_LIBRARY_PATH"]


def test_parts_of_another_cudnn_where_torch_has_an_rpath(tmp_path):
    """As in the wheel of 2.9.1: torch's RPATH finds its own cuDNN, whose RUNPATH comes after LD_LIBRARY_PATH when it asks for its parts."""
    m = system_cudnn(plain(tmp_path), "9.5.1", "/srv/cudnn/lib").environment(LD_LIBRARY_PATH="/srv/cudnn/lib")
    for name in "libtorch_cuda.so", "libtorch_global_deps.so": m.library(f"{SITE}/torch/lib/{name}", needed=["libcudnn.so.9"], rpath="$ORIGIN/../../nvidia/cudnn/lib")
    said = found(m)
    assert set(said) == {"cudnn-parts-mixed"} and said["cudnn-parts-mixed"].data["version"] == "9.5.1" and said["cudnn-parts-mixed"].commands == ["unset LD_LIBRARY_PATH"]


def test_two_cudnns_in_one_folder(tmp_path):
    m = system_cudnn(plain(tmp_path), "9.5.1", "/srv/cudnn/lib").environment(LD_LIBRARY_PATH="/srv/cudnn/lib")
    m.library("/srv/cudnn/lib/libcudnn_ops.so.9.1.0", soname="libcudnn_ops.so.9")
    (tmp_path / "srv/cudnn/lib/libcudnn_ops.so.9.5.1").unlink()
    (tmp_path / "srv/cudnn/lib/libcudnn_ops.so.9").unlink()
    f = found(m.link("/srv/cudnn/lib/libcudnn_ops.so.9", "libcudnn_ops.so.9.1.0"))["cudnn-parts-mixed"]
    assert (f.data["part"], f.data["version"], f.data["count"]) == ("libcudnn_ops.so.9", "9.1.0", 1)


def consumer(m, name, version, path, **about): return m.package(name, version, files=[(path, library(soname=path.rsplit("/", 1)[-1], **about))])


@pytest.mark.parametrize("name, version, path, about, command", [
    ("ctranslate2", "4.4.0", "ctranslate2.libs/libcudnn-0a1b2c3d.so.8.9.7", {}, 'pip install "ctranslate2>=4.5.0"'),
    ("onnxruntime-gpu", "1.18.0", "onnxruntime/capi/libonnxruntime_providers_cuda.so", {"needed": ["libcudnn.so.8"], "runpath": "$ORIGIN"}, 'pip install "onnxruntime-gpu>=1.19"'),
    ("tensorflow", "2.15.0", "tensorflow/libtensorflow_cc.so.2", {"text": b"x\0libcudnn.so.8\0y"}, "pip install --upgrade tensorflow")])
def test_a_package_for_cudnn_8(tmp_path, name, version, path, about, command):
    said = found(consumer(plain(tmp_path), name, version, path, **about))
    f = said["cudnn-of-another-generation"]
    assert set(said) == {"cudnn-of-another-generation"} and f.severity == "error" and (f.data["wanted"], f.data["brought"]) == ("8", "9.1.0.70")
    assert f.commands == [f"/opt/app/bin/python -m {command}"] and (name, f"{SITE}/{path}") in f.evidence


def test_a_package_for_cudnn_9_where_torch_brought_8(tmp_path):
    m = plain(tmp_path, "2.3.1+cu121", pins=["nvidia-cudnn-cu12==8.9.2.26"])
    for name in "libtorch_cuda.so", "libtorch_global_deps.so": m.library(f"{SITE}/torch/lib/{name}", needed=["libcudnn.so.8"], runpath="$ORIGIN/../../nvidia/cudnn/lib")
    m.package("nvidia-cudnn-cu12", "8.9.2.26", files=[("nvidia/cudnn/lib/libcudnn.so.8", library(soname="libcudnn.so.8"))])
    f = found(consumer(m, "ctranslate2", "4.5.0", "ctranslate2.libs/libcudnn-0a1b2c3d.so.9.1.0"))["cudnn-of-another-generation"]
    assert (f.data["wanted"], f.data["brought"]) == ("9", "8.9.2.26") and f.commands == ['/opt/app/bin/python -m pip install "ctranslate2==4.4.0"']


def test_the_same_cudnn_off_the_way(tmp_path):
    m = plain(tmp_path, environment={"LD_LIBRARY_PATH": "/srv/mine"})
    files = [(f"ctranslate2.libs/{n}", library(soname=n, text=b"libcublas.so.12\0")) for n in ("libcudnn-0a1b2c3d.so.9.1.0", "libctranslate2-0a1b2c3d.so.4.5.0")]
    f = found(m.package("ctranslate2", "4.5.0", files=files))["library-off-path"]
    assert f.severity == "note" and f.data["what"] == "cuBLAS 12, cuDNN 9" and f.commands == [f"export LD_LIBRARY_PATH={SITE}/nvidia/cublas/lib:{CUDNN}:/srv/mine"]


@pytest.mark.parametrize("version, cuda, id", [("2.9.1+cu130", "13", "cublas-of-another-generation"), ("2.6.0+cu124", "12", "library-off-path")])
def test_a_package_that_loads_cublas_by_name(tmp_path, version, cuda, id):
    """CTranslate2 without cuDNN, as from 4.6 on: `Library libcublas.so.12 is not found or cannot be loaded`."""
    m = consumer(plain(tmp_path, version, pins=[]), "ctranslate2", "4.8.5", "ctranslate2.libs/libctranslate2-a7a60d30.so.4.8.5", text=b"x\0libcublas.so.12\0", rpath="$ORIGIN")
    if cuda == "13":
        for name in f"{SITE}/nvidia/cublas/lib/libcublas.so.12", f"{SITE}/nvidia/cublas/lib/libcublasLt.so.12": assert not (tmp_path / name[1:]).exists()
    f = found(m)[id]
    assert f.data["what"] == "cuBLAS" + (" 12" if cuda == "12" else "") and "libcublas.so.12" in f.data["library"]
    assert f.commands == (["/opt/app/bin/python -m pip install nvidia-cublas-cu12"] if cuda == "13" else [f"export LD_LIBRARY_PATH={SITE}/nvidia/cublas/lib"])


def test_a_cudnn_8_of_the_system_serves_who_needs_it(tmp_path):
    m = system_cudnn(plain(tmp_path), "8.9.7", parts=("libcudnn_ops_infer",))
    assert not found(consumer(m, "onnxruntime-gpu", "1.18.0", "onnxruntime/capi/libonnxruntime_providers_cuda.so", needed=["libcudnn.so.8"]))
    assert not found(consumer(m, "ctranslate2", "4.4.0", "ctranslate2.libs/libcudnn-0a1b2c3d.so.8.9.7"))


# ---------------------------------------------------------------- NCCL (A9)
def test_an_older_nccl_of_another_package(tmp_path):
    m = plain(tmp_path)
    m.package("nvidia-nccl-cu11", "2.18.3", files=[("nvidia/nccl/lib/libnccl.so.2", library(soname="libnccl.so.2", defined=["ncclAllReduce", "ncclCommInitRank"]))])
    f = found(m)["library-lacks-symbols"]
    assert f.severity == "error" and f.data["symbol"] == "ncclCommRegister" and f.data["owner"] == "nvidia-nccl-cu11 2.18.3"
    assert "nvidia-nccl-cu12" in dict(f.evidence)
    assert f.commands == ["/opt/app/bin/python -m pip uninstall -y nvidia-nccl-cu11", "/opt/app/bin/python -m pip install --force-reinstall --no-deps nvidia-nccl-cu12==2.21.5"]


def test_an_older_nccl_of_the_system(tmp_path):
    m = plain(tmp_path).library("/srv/nccl/lib/libnccl.so.2", defined=["ncclAllReduce"]).environment(LD_LIBRARY_PATH="/srv/nccl/lib")
    f = found(m)["library-lacks-symbols"]
    assert f.data["count"] == 2 and f.data["owner"] == "/srv/nccl/lib/libnccl.so.2" and f.commands == ["unset LD_LIBRARY_PATH"]


# ---------------------------------------------------------------- missing, broken (A10)
def test_packages_that_are_not_there(tmp_path):
    m = Machine(tmp_path).gpu("NVIDIA GeForce RTX 4090", "8.9", driver="550.54.14").torch("2.6.0+cu124", architectures=["8.0"], nvidia=False)
    f = found(m)["library-missing"]
    assert f.severity == "error" and f.data["count"] == 5 and f.commands == [
        "/opt/app/bin/python -m pip install nvidia-cuda-runtime-cu12 nvidia-cublas-cu12 nvidia-cudnn-cu12 nvidia-nccl-cu12"]


def test_a_library_that_no_package_is_known_for(tmp_path):
    m = Machine(tmp_path).gpu("Tesla T4", "7.5", driver="450.80.02").torch("1.12.1", cuda="10.2", architectures=["7.5"], nvidia=False)
    f = found(m)["library-without-package"]
    assert f.severity == "error" and f.commands == [] and f.data["library"] == "libcudart.so.10"


def test_pins_behind_cuda_toolkit(tmp_path):
    m = plain(tmp_path, "2.12.0+cu130", pins=["cuda-toolkit[cublas]==13.0.3", "nvidia-nccl-cu13==2.29.3"])
    m.package("cuda-toolkit", "13.0.3", requires=['nvidia-cublas==13.1.*; extra == "cublas"', 'nvidia-cufft==12.0.*; extra == "cufft"'])
    assert {n: r.spec for n, r in checks.pins(Examined(m.host())).items()} == {"nvidia-cublas": "==13.1.*", "nvidia-nccl-cu13": "==2.29.3"}


def test_a_torch_of_conda_is_repaired_by_conda(tmp_path):
    m = Machine(tmp_path).gpu("NVIDIA GeForce RTX 4090", "8.9", driver="550.54.14").torch("2.6.0", cuda="12.4", nvidia=False)
    m.package("torch", "2.6.0", files=["torch/version.py"], installer="conda")
    assert found(m)["library-missing"].commands == ["conda install -p /opt/app -c conda-forge cuda-cudart libcublas cudnn nccl"]


def test_a_package_whose_file_is_gone(tmp_path):
    m = plain(tmp_path)
    (tmp_path / f"{SITE}/nvidia/cuda_runtime/lib/libcudart.so.12".lstrip("/")).unlink()
    assert found(m)["library-missing"].commands == ["/opt/app/bin/python -m pip install --force-reinstall --no-deps nvidia-cuda-runtime-cu12==12.4.127"]


def extension(m, **about):
    name = f"{SITE}/vllm/_C.abi3.so"
    m.package("vllm", "0.11.0", requires=["torch==2.6.0"], files=["vllm/_C.abi3.so", "vllm/_C_tests.so"])
    return m.library(name, soname="", **about)


def test_an_extension_for_another_cuda(tmp_path):
    f = found(extension(plain(tmp_path), needed=["libtorch_cuda.so", "libcudart.so.13"]))["built-for-another-cuda"]
    assert (f.data["package"], f.data["other"], f.data["cuda"], f.data["library"]) == ("vllm", "13", "12.4", "libcudart.so.13")


def test_an_extension_for_cuda_on_a_torch_for_the_cpu(tmp_path):
    m = Machine(tmp_path).gpu("NVIDIA GeForce RTX 4090", "8.9", driver="550.54.14").torch("2.6.0+cpu")
    f = found(extension(m, needed=["libtorch.so", "libcudart.so.12"]))["package-needs-cuda"]
    assert f.data["package"] == "vllm" and "install torch==2.6.0+cu126 --index-url https://download.pytorch.org/whl/cu126" in f.commands[0]


def test_an_extension_that_lacks_a_package(tmp_path):
    f = found(extension(plain(tmp_path), needed=["libtorch_cuda.so", "libcudart.so.12", "libcupti.so.12"]))["library-missing"]
    assert f.data["package"] == "vllm" and f.commands == ["/opt/app/bin/python -m pip install nvidia-cuda-cupti-cu12"]


def test_what_is_needed_later(tmp_path):
    f = found(plain(tmp_path).library(f"{SITE}/torch/lib/libcaffe2_nvrtc.so", needed=["libnvrtc.so.12", "libcuda.so.1"]))["library-missing"]
    assert f.severity == "warning" and f.data["library"] == "libnvrtc.so.12"


@pytest.mark.parametrize("beside", [True, False])
def test_what_nvrtc_asks_for(tmp_path, beside):
    m, files = plain(tmp_path), ["libnvrtc.so.12", *(["libnvrtc-builtins.so.12.4"] if beside else [])]
    m.package("nvidia-cuda-nvrtc-cu12", "12.4.127", files=[(f"nvidia/cuda_nvrtc/lib/{n}", library(soname=n)) for n in files])
    said = found(m.library(f"{SITE}/torch/lib/libcaffe2_nvrtc.so", needed=["libnvrtc.so.12"], runpath="$ORIGIN/../../nvidia/cuda_nvrtc/lib"))
    if beside: assert not said; return
    assert said["library-missing"].data["library"] == "libnvrtc-builtins.so.12.4" and said["library-missing"].commands == [
        "/opt/app/bin/python -m pip install --force-reinstall --no-deps nvidia-cuda-nvrtc-cu12"]


def test_a_file_that_is_no_library(tmp_path):
    f = found(plain(tmp_path).file(f"{SITE}/nvidia/cublas/lib/libcublasLt.so.12", b""))["library-broken"]
    assert f.data["size"] == 0 and f.commands == ["/opt/app/bin/python -m pip install --force-reinstall --no-deps nvidia-cublas-cu12==12.4.127"]


# ---------------------------------------------------------------- C and C++
def test_an_old_cpp_library_in_conda(tmp_path):
    """Conda's python has an RPATH: its own libstdc++ comes before the system's newer one."""
    m = plain(tmp_path).library("/opt/app/bin/python", rpath="$ORIGIN/../lib").file("/opt/app/conda-meta/history", "")
    m.library("/opt/app/lib/libstdc++.so.6", offers=["GLIBCXX_3.4.26", "GLIBCXX_3.4.9", "CXXABI_1.3"]).library("/usr/lib/libstdc++.so.6", offers=["GLIBCXX_3.4.30", "CXXABI_1.3"])
    m.library(f"{SITE}/torch/lib/libc10.so", needed=["libstdc++.so.6"], asks={"libstdc++.so.6": ["GLIBCXX_3.4.9", "GLIBCXX_3.4.30", "CXXABI_1.3"]})
    f = found(m)["libstdcxx-too-old"]
    assert (f.data["needed"], f.data["has"]) == ("GLIBCXX_3.4.30", "GLIBCXX_3.4.26") and f.commands == ['conda install -p /opt/app -c conda-forge "libstdcxx>=12"']
    assert ("libstdc++.so.6", "/usr/lib/libstdc++.so.6") in f.evidence


def test_an_old_cpp_library_in_front(tmp_path):
    m = plain(tmp_path).library("/srv/old/libstdc++.so.6", offers=["GLIBCXX_3.4.26"]).library("/usr/lib/libstdc++.so.6", offers=["GLIBCXX_3.4.26", "GLIBCXX_3.4.30"])
    m.library(f"{SITE}/torch/lib/libc10.so", needed=["libstdc++.so.6"], asks={"libstdc++.so.6": ["GLIBCXX_3.4.30"]})
    assert not found(m)
    assert found(m.environment(LD_LIBRARY_PATH="/srv/old:/srv/new"))["libstdcxx-too-old"].commands == ["export LD_LIBRARY_PATH=/srv/new"]


def test_an_extension_of_a_newer_linux(tmp_path):
    m = extension(plain(tmp_path), needed=["libtorch.so", "libc.so.6"], asks={"libc.so.6": ["GLIBC_2.14", "GLIBC_2.34", "GLIBC_2.32"]})
    m.library("/lib/x86_64-linux-gnu/libc.so.6", offers=["GLIBC_2.14", "GLIBC_2.31", "GLIBC_PRIVATE"])
    f = found(m)["glibc-too-old"]
    assert (f.data["needed"], f.data["has"], f.data["package"], f.data["by"]) == ("GLIBC_2.34", "GLIBC_2.31", "vllm", "_C.abi3.so")


# ---------------------------------------------------------------- what torch does itself
@pytest.mark.parametrize("needed, path", [(["libcudart.so.12"], "path"), ([], None)])
def test_torch_preloads_where_cudart_is_loaded(tmp_path, needed, path):
    m = plain(tmp_path).file(f"{SITE}/torch/__init__.py", INIT)
    for name in "libtorch_cuda.so", "libtorch_global_deps.so": m.library(f"{SITE}/torch/lib/{name}", needed=needed, runpath="$ORIGIN/../../nvidia/cuda_runtime/lib")
    loaded = Examined(m.host()).loaded
    assert (loaded["libnccl.so.2"].rule if path else loaded.get("libnccl.so.2")) == path


# ---------------------------------------------------------------- nothing is wrong
INIT = '''
    cuda_libs = [("cublas", "libcublas.so.*[0-9]"), ("nccl", "libnccl.so.*[0-9]"), ("cudnn", "libcudnn.so.*[0-9]"), ("cuda_runtime", "libcudart.so.*[0-9]"), ("cublas", "libcublasLt.so.*[0-9]")]
    try:
        with open("/proc/self/maps") as f:
            if "libcudart.so" not in _maps: return
            _preload_cuda_deps()
    except Exception: pass
'''


def aligned(m): return toolkit(m, cublas="12.4.127").environment(LD_LIBRARY_PATH="/usr/local/cuda-12.1/lib64")
def unneeded(m): return toolkit(m, cublas="11.1.1").environment(LD_LIBRARY_PATH="/srv/none:/usr/local/cuda-12.1")
def by_rpath(m): return toolkit(m.torch("2.6.0+cu124", architectures=["8.0"], runpath=False)).environment(LD_LIBRARY_PATH="/usr/local/cuda-12.1/lib64")
def for_arm(m): return m.library("/srv/arm/libcublas.so.12", machine="aarch64").environment(LD_LIBRARY_PATH="/srv/arm")
def same_place(m): return m.environment(LD_LIBRARY_PATH=f"{CUDNN}:{SITE}/nvidia/nccl/lib")
def with_extension(m): return extension(m.library("/usr/lib/libstdc++.so.6", offers=["GLIBCXX_3.4.30"]), needed=["libtorch_cuda.so", "libcudart.so.12", "libstdc++.so.6"], asks={"libstdc++.so.6": ["GLIBCXX_3.4.30"]})
def cudnn_in_system(m): return system_cudnn(system_cudnn(m, "8.9.7"), "9.5.1")
def onnx_for_cpu(m): return consumer(m, "onnxruntime", "1.20.0", "onnxruntime/capi/onnxruntime_pybind11_state.so")
def unversioned(m): return extension(m.library("/usr/lib/libgomp.so.1"), needed=["libtorch.so", "libgomp.so.1"], asks={"libgomp.so.1": ["GOMP_4.0"]})


def conda_with_a_wheel(m):
    """Another package brought a wheel of cuDNN; conda's torch has its own, found by its python's RPATH."""
    m.package("torch", "2.6.0+cu124", files=["torch/version.py"], installer="conda").library("/opt/app/bin/python", rpath="$ORIGIN/../lib")
    for name in "libtorch_cuda.so", "libtorch_global_deps.so": m.library(f"{SITE}/torch/lib/{name}", needed=["libcudnn.so.9"])
    return m.library("/opt/app/lib/libcudnn.so.9").file("/opt/app/conda-meta/cudnn-9.3.0.75-cuda12.6.json", "{}")


def other_place(m):
    """torch finds its packages in another folder of the path, and loads them itself."""
    for name in "libtorch_cuda.so", "libtorch_global_deps.so": m.library(f"{SITE}/torch/lib/{name}", needed=["libcublas.so.12", "libcudart.so.12"], runpath="/srv/none")
    return m.file(f"{SITE}/torch/__init__.py", INIT)


@pytest.mark.parametrize("change", [lambda m: m, aligned, unneeded, by_rpath, for_arm, same_place, with_extension, cudnn_in_system, onnx_for_cpu, unversioned, conda_with_a_wheel, other_place], ids=lambda f: f.__name__)
def test_nothing_is_wrong(tmp_path, change): assert found(change(plain(tmp_path))) == {}


def test_nothing_is_wrong_without_cuda_or_torch(tmp_path):
    assert found(Machine(tmp_path / "cpu").torch("2.6.0+cpu")) == {} and found(Machine(tmp_path / "none")) == {}
    assert found(Machine(tmp_path / "windows", system="windows").torch("2.6.0+cpu")) == {}


def test_damaged_libraries_stop_nothing(tmp_path):
    """Bytes are changed, ends are cut off: there may be findings, but never an error."""
    random = Random(7)
    m = extension(toolkit(plain(tmp_path)), needed=["libtorch_cuda.so", "libc.so.6"], asks={"libc.so.6": ["GLIBC_2.34"]}, offers=["A", "B"]).environment(LD_LIBRARY_PATH="/usr/local/cuda-12.1/lib64")
    files = [p for p in tmp_path.rglob("*.so*") if p.is_file() and not p.is_symlink()] + [tmp_path / "etc/ld.so.cache"]
    files[-1].write_bytes(cache([("libcublas.so.12", "/usr/local/cuda-12.1/lib64/libcublas.so.12", "x86-64-v2", 0x303)], ["x86-64-v2"]))
    whole = {p: p.read_bytes() for p in files}
    host = m.host()
    for _ in range(15):
        for p in files:
            data = bytearray(whole[p])
            for _ in range(random.choice([0, 0, 1, 3, 20])): data[random.randrange(len(data))] = random.choice([0, 1, 0xFF, random.randrange(256)])
            p.write_bytes(data[:random.randrange(len(data))] if random.random() < 0.1 else data)
        machine = Examined(host)
        assert all(f.evidence for check in checks.CHECKS for f in check(machine))
    assert len(Examined(host).copies) > 5


@pytest.mark.skipif(not sys.platform.startswith("linux") or find_spec("torch") is None, reason="no torch on Linux to look at")
def test_a_real_torch_that_works():
    machine = Examined(Host(python=sys.executable))
    assert not [f for check in checks.CHECKS for f in check(machine) if f.severity == "error"]
    taken = {n: f.rule for n, f in machine.loaded.items()}
    assert taken["libtorch_cpu.so"] in ("RPATH", "RUNPATH") and taken["libc.so.6"] and all(f.path for n, f in machine.loaded.items() if n.startswith(("libtorch", "libc10", "libstdc++")))


def test_findings_are_part_of_a_report(tmp_path):
    report = diagnose(toolkit(plain(tmp_path)).environment(LD_LIBRARY_PATH="/usr/local/cuda-12.1/lib64").host())
    assert isinstance(report, Report) and "library-shadowed" in [f.id for f in report.findings]
