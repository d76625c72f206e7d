"""Packages of several CUDA generations, files that two packages write, and packages that torch asks for."""
import pytest

from forno_doctor import diagnose

from . import findings
from .elf_file import library
from .machines import NCCL, Machine

ADA = "NVIDIA GeForce RTX 4090", "8.9"
PIP = "/opt/app/bin/python -m pip"
CUDNN = "nvidia/cudnn/lib/libcudnn.so.9"
TORCH = ["nvidia-cudnn-cu12==9.1.0.70; platform_system == 'Linux'", "nvidia-nccl-cu12==2.21.5; platform_system == 'Linux'", "nvidia-cublas-cu12==12.4.127; platform_system == 'Linux'",
         "nvidia-cuda-runtime-cu12==12.4.127; platform_system == 'Linux'"]


found, _ = findings.of("mixed")
def with_torch(folder, **more): return Machine(folder).gpu(*ADA).torch("2.6.0+cu124", architectures=["8.0"], **{"requires": TORCH, **more})
def cudnn(size=0): return library(soname="libcudnn.so.9") + b"\0" * size


def test_one_generation(tmp_path): assert not found(with_torch(tmp_path).package("jax-cuda12-plugin", "0.5.0", ["nvidia-cudnn-cu12>=9.1; extra == 'with-cuda'"]))


def test_two_generations_write_the_same_file(tmp_path):
    """cuDNN of CUDA 13 came last: torch would load it."""
    f = found(with_torch(tmp_path).package("nvidia-cudnn-cu13", "9.20.0.48", files=[(CUDNN, cudnn(5))]))["cuda-files-overwritten"]
    assert f.severity == "error" and f.evidence[0][1].endswith(f"{CUDNN} (nvidia-cudnn-cu13 9.20.0.48)")
    assert f.commands == [f"{PIP} uninstall -y nvidia-cudnn-cu13", f"{PIP} install --force-reinstall --no-deps nvidia-cudnn-cu12==9.1.0.70"]


def test_the_other_generation_came_first(tmp_path):
    """torch's file is there, the other package's consumers don't get theirs."""
    m = Machine(tmp_path).gpu(*ADA).package("nvidia-nccl-cu11", "2.14.3", files=[("nvidia/nccl/lib/libnccl.so.2", cudnn(9))])
    f = found(m.torch("2.6.0+cu124", architectures=["8.0"]))["cuda-files-overwritten"]
    assert f.severity == "warning" and "nvidia-nccl-cu12 2.21.5" in f.evidence[0][1]


def test_who_asks_for_the_other_generation_moves_along(tmp_path):
    m = with_torch(tmp_path).package("jax-cuda13-plugin", "0.8.0", ["nvidia-cudnn-cu13>=9.8; extra == 'with-cuda'"]).package("nvidia-cudnn-cu13", "9.20.0.48", files=[(CUDNN, cudnn(5))])
    f = found(m)["cuda-files-overwritten"]
    assert f.evidence[-1] == ("jax-cuda13-plugin", "nvidia-cudnn-cu13") and f.commands[0] == f"{PIP} uninstall -y jax-cuda13-plugin nvidia-cudnn-cu13" and f.commands[2] == f'{PIP} install "jax[cuda12]==0.8.0"'


def test_the_same_file_of_both_is_no_matter(tmp_path):
    same = library(soname="libnccl.so.2", defined=NCCL, runpath="$ORIGIN")
    assert not found(with_torch(tmp_path).package("nvidia-nccl-cu11", "2.21.5", files=[("nvidia/nccl/lib/libnccl.so.2", same)], ).package("user", "1", ["nvidia-nccl-cu11"])).keys() - {"cuda-generations-mixed"}


def test_leftovers(tmp_path):
    f = found(with_torch(tmp_path).package("nvidia-cublas-cu11", "11.10.3.66", files=[("nvidia/cublas/lib/libcublas.so.11", cudnn())]))
    assert set(f) == {"cuda-leftovers"} and f["cuda-leftovers"].severity == "note" and f["cuda-leftovers"].commands == [f"{PIP} uninstall -y nvidia-cublas-cu11"]


def test_another_generation_in_its_own_folder(tmp_path):
    """From CUDA 13 on the folder tells: nvidia/cu13/lib."""
    m = with_torch(tmp_path).package("nvidia-cublas", "13.1.0.3", files=[("nvidia/cu13/lib/libcublas.so.13", cudnn())]).package("cupy-cuda13x", "14.0", ["nvidia-cublas"])
    f = found(m)["cuda-generations-mixed"]
    assert f.data["by"] == "cupy-cuda13x" and f.commands == [f"{PIP} install cupy-cuda12x"]


def test_a_compiler_of_another_generation_is_no_leftover(tmp_path):
    assert not found(with_torch(tmp_path).package("nvidia-cuda-nvcc", "13.0.88", files=["nvidia/cu13/lib/libnvvm.so.4"]))


@pytest.mark.parametrize("one, other", [("onnxruntime", "onnxruntime-gpu"), ("triton", "pytorch-triton")])
def test_two_products_in_one_folder(tmp_path, one, other):
    place = f"{one}/_C/lib.so"
    m = Machine(tmp_path).package(other, "1.20.0", files=[(place, cudnn(3))]).package(one, "1.20.1", files=[(place, cudnn(7))])
    f = found(m)["files-overwritten"]
    assert f.data["there"] == f"{one} 1.20.1" and f.data["count"] == 1
    assert f.commands == [f"{PIP} uninstall -y onnxruntime onnxruntime-gpu", f"{PIP} install onnxruntime-gpu==1.20.0"] or one == "triton"


# ---------------------------------------------------------------- what torch asks for
def test_a_changed_pin(tmp_path):
    f = found(with_torch(tmp_path, nvidia=False).nvidia(12, versions={"nvidia-nccl": "2.18.1"}))["torch-pins-unmet"]
    assert f.data["wrong"] == "nvidia-nccl-cu12 2.18.1 (==2.21.5)" and f.commands == [f"{PIP} install nvidia-nccl-cu12==2.21.5"]


def test_missing_packages(tmp_path):
    f = found(with_torch(tmp_path, nvidia=False))["torch-packages-missing"]
    assert f.severity == "error" and "nvidia-cudnn-cu12==9.1.0.70" in f.commands[0] and ("missing", "libcudnn.so.9") in f.evidence


def test_pins_behind_an_extra(tmp_path):
    """CUDA 13's builds ask for cuda-toolkit, whose extras ask for the libraries."""
    m = Machine(tmp_path).gpu(*ADA).torch("2.13.0+cu130", architectures=["8.0"], requires=["cuda-toolkit[cublas,cudart]==13.0.3; platform_system == 'Linux'"], nvidia=False)
    m.nvidia(13).package("cuda-toolkit", "13.0.3", ["nvidia-cublas==13.1.0.3; extra == 'cublas'", "nvidia-curand==1; extra == 'curand'"]).package("nvidia-cublas", "13.0.0.19")
    assert found(m)["torch-pins-unmet"].data["wrong"] == "nvidia-cublas 13.0.0.19 (==13.1.0.3)"


def test_missing_packages_are_told_once(tmp_path):
    """Without cuda-toolkit all that stands behind it is missing, too."""
    m = Machine(tmp_path).gpu(*ADA).torch("2.13.0+cu130", architectures=["8.0"], requires=["cuda-toolkit[cublas,cudart]==13.0.3"], nvidia=False)
    assert [f.id for f in diagnose(m.host()).findings] == ["torch-packages-missing"]


def test_conda_has_rules_of_its_own(tmp_path): assert not found(with_torch(tmp_path, nvidia=False, installer="conda"))
