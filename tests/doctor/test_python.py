"""The examined Python: does it start, can it have torch, do its wheels fit it, and does it import what its environment holds?"""
import json

import pytest

from forno_doctor import diagnose

from . import findings
from .machines import Machine

PYTHON = "/opt/app/bin/python"
found, only = findings.of("python")


def cpu(folder, **more): return Machine(folder, **more).torch("2.6.0+cpu")


def wheel(m, name, version, tag): return m.file(f"{m.site}/{name}-{version}.dist-info/WHEEL", f"Wheel-Version: 1.0\nTag: {tag}\n")


def test_what_works_is_left_alone(tmp_path):
    m = cpu(tmp_path / "a").package("numpy", "1.26.4").package("pip", "24.0")
    assert not found(wheel(wheel(m, "torch", "2.6.0+cpu", "cp312-cp312-manylinux_2_28_x86_64"), "numpy", "1.26.4", "cp312-cp312-manylinux_2_17_x86_64"))
    assert not found(Machine(tmp_path / "b", python="3.13.1"))
    assert not found(Machine(tmp_path / "c").torch("2.2.2+cpu").package("numpy", "1.26.4"))
    home = "/srv/home/.local/lib/python3.12/site-packages"
    assert not found(cpu(tmp_path / "d").python_says(user=home, prefix="/usr", base="/usr", path=[home, "/opt/app/lib/python3.12/site-packages"]).package("numpy", "2.1.0", site=home))
    assert not found(cpu(tmp_path / "e").python_says(here="/srv/project").file("/srv/project/train.py").file("/srv/project/torch/notes.txt"))
    assert not found(cpu(tmp_path / "f", environment={"PYTHONPATH": "/srv/project"}).file("/srv/project/tools.py"))


# ---------------------------------------------------------------- the interpreter itself
def test_no_python_at_that_path(tmp_path):
    m = Machine(tmp_path)
    del m.answers["python"]
    f = only(m)
    assert f.id == "python-missing" and f.data["path"] == PYTHON and diagnose(m.host()).code == 2


def test_an_environment_whose_python_is_gone(tmp_path):
    m = Machine(tmp_path).file("/opt/app/pyvenv.cfg", "home = /usr/local/bin\nversion = 3.9.2\n")
    del m.answers["python"]
    f = only(m)
    assert f.id == "python-lost" and f.data["home"] == "/usr/local/bin" and f.commands == ["uv venv --clear --python 3.12 /opt/app"]


def test_a_program_that_is_no_python(tmp_path):
    f = only(Machine(tmp_path).says("python", "usage: ls [-a]", code=2, err="ls: invalid option -- 'c'"))
    assert f.id == "python-silent" and f.evidence == [("answer", "ls: invalid option -- 'c'")]


def test_a_python_that_hangs(tmp_path): assert only(Machine(tmp_path).says("python", code=None)).id == "python-hangs"


def test_variables_that_keep_it_from_starting(tmp_path):
    m = cpu(tmp_path, environment={"PYTHONHOME": "/srv/other"})
    m.says("python -I", m.answers["python"]["out"]).says("python", code=1, err="ModuleNotFoundError: No module named 'encodings'")
    f = only(m)
    assert f.id == "python-variables" and f.commands == ["unset PYTHONHOME"] and diagnose(m.host()).machine.torch.version == "2.6.0+cpu"


@pytest.mark.parametrize("said, id", [({"implementation": "PyPy"}, "python-other-kind"), ({"bits": 32}, "python-32-bit"), ({"musl": True}, "musl")])
def test_kinds_of_python_without_torch(tmp_path, said, id):
    f = only(Machine(tmp_path).python_says(**said))
    assert f.id == id and f.severity == "warning"


@pytest.mark.parametrize("python, id, torch", [("3.16.0", "python-too-new", "2.15.0"), ("3.9.18", "python-old", "2.8.0"), ("3.4.10", "no-torch-for-python", "2.15.0")])
def test_ages_of_python(tmp_path, python, id, torch):
    f = only(Machine(tmp_path, python=python))
    assert f.id == id and f.data["torch"] == torch and f.commands[0] == "uv venv --python 3.12"


def test_the_new_environment_gets_what_fits_the_machine(tmp_path):
    """uv would install into an environment that is active, and without a backend the package index's own build."""
    f = only(Machine(tmp_path, python="3.16.0").gpu("NVIDIA GeForce RTX 4090", "8.9", driver="535.183.01"))
    assert f.commands[1].startswith("uv pip install --python .venv torch==2.") and f.commands[1].endswith("--torch-backend=cu126") and f.verify.startswith(".venv/bin/python -c")


def test_what_is_imported_to_see_that_it_helped(tmp_path):
    """Not every package is called like its module, and not every path is without spaces."""
    m = Machine(tmp_path, glibc="2.17").torch("2.6.0+cpu").package("onnxruntime-gpu", "1.20.0", files=["onnxruntime/__init__.py"]).package("nvidia-cudnn-cu12", "9.1.0.70")
    m.about["python"] = "/srv/my app/bin/python"
    for name, version in (("onnxruntime_gpu", "1.20.0"), ("nvidia_cudnn_cu12", "9.1.0.70")): wheel(m, name, version, "cp312-cp312-manylinux_2_27_x86_64")
    by = {f.data["package"]: f.verify for f in diagnose(m.host()).findings if f.id == "wheel-needs-glibc"}
    assert by == {"onnxruntime-gpu": '"/srv/my app/bin/python" -c "import onnxruntime"', "nvidia-cudnn-cu12": '"/srv/my app/bin/python" -c "import torch"'}


def test_free_threads(tmp_path):
    assert not found(Machine(tmp_path / "a", python="3.14.0").python_says(free=True))
    f = only(Machine(tmp_path / "b", python="3.13.1").python_says(free=True))
    assert f.id == "python-old" and f.data["python"] == "3.13t"


def test_platforms_without_torch(tmp_path): assert only(Machine(tmp_path, machine="ppc64le")).data == {"platform": "linux_ppc64le"}


def test_an_old_pip(tmp_path):
    f = only(Machine(tmp_path).package("pip", "19.2.3"))
    assert f.id == "old-pip" and f.commands == [f"{PYTHON} -m pip install --upgrade pip"]


def test_an_old_c_library(tmp_path):
    f = only(Machine(tmp_path, glibc="2.17"))
    assert f.id == "old-glibc" and f.data == {"glibc": "2.17", "needed": "2.28", "newest": "2.15.0", "torch": "2.6.0"} and f.commands == [f"{PYTHON} -m pip install torch==2.6.0"]


def test_little_space(tmp_path):
    m = Machine(tmp_path).gpu("NVIDIA GeForce RTX 4090", "8.9")
    m.about["spaces"] = {"/opt/app": [3 << 30, 100 << 30]}
    f = only(m)
    assert f.id == "little-space" and f.severity == "note" and f.data == {"free": 3.0, "needed": 8}
    m.about["spaces"] = {"/opt/app": [30 << 30, 100 << 30]}
    assert not found(m)


# ---------------------------------------------------------------- wheels
@pytest.mark.parametrize("tag, id, data", [("cp310-cp310-manylinux_2_28_x86_64", "wheel-for-other-python", {"built": "3.10", "python": "3.12"}),
    ("cp312-cp312t-manylinux_2_28_x86_64", "wheel-for-other-python", {"built": "3.12t"}), ("cp313-abi3-manylinux_2_28_x86_64", "wheel-for-other-python", {"built": "3.13"}), ("cp312-cp312-manylinux_2_28_aarch64", "wheel-for-other-system", {}),
    ("cp312-cp312-win_amd64", "wheel-for-other-system", {"tag": "win_amd64"}), ("cp312-cp312-musllinux_1_2_x86_64", "wheel-for-other-system", {}),
    ("cp312-cp312-manylinux_2_40_x86_64", "wheel-needs-glibc", {"needed": "2.40", "glibc": "2.39"})])
def test_wheels_that_do_not_fit(tmp_path, tag, id, data):
    f = only(wheel(cpu(tmp_path), "torch", "2.6.0+cpu", tag))
    assert f.id == id and f.severity == "error" and data.items() <= f.data.items() and ("tag", tag) in f.evidence


@pytest.mark.parametrize("tag", ["cp39-abi3-manylinux_2_28_x86_64", "py3-none-any", "py3-none-manylinux2014_x86_64", "cp312-none-linux_x86_64"])
def test_wheels_that_fit(tmp_path, tag): assert not found(wheel(cpu(tmp_path), "torch", "2.6.0+cpu", tag))


def test_numpy_2_and_an_old_torch(tmp_path):
    f = only(Machine(tmp_path).torch("2.2.2+cpu").package("numpy", "2.0.1"))
    assert f.id == "numpy2-torch" and f.commands == [f'{PYTHON} -m pip install "numpy<2"'] and "from_numpy" in f.verify


def test_an_extension_for_numpy_1(tmp_path):
    old, new = b"\x7fELF numpy.core._multiarray_umath\0", b"\x7fELF numpy._core._multiarray_umath\0numpy.core._multiarray_umath\0"
    m = cpu(tmp_path).package("numpy", "2.1.0").package("newer", "1.0", requires=["numpy"], files=[("newer/_a.so", new)])
    assert not found(m)
    f = only(m.package("older", "0.3", requires=["numpy>=1.20"], files=[("older/_a.cpython-312-x86_64-linux-gnu.so", old)]))
    assert f.id == "numpy2-extension" and f.data["package"] == "older" and f.evidence[0][1].endswith("older/_a.cpython-312-x86_64-linux-gnu.so")


# ---------------------------------------------------------------- what it imports
def test_packages_of_the_user_folder(tmp_path):
    home = "/srv/home/.local/lib/python3.12/site-packages"
    m = cpu(tmp_path).package("numpy", "1.26.4").package("numpy", "2.1.0", site=home).package("requests", "2.31", site=home)
    f = only(m.python_says(user=home, prefix="/opt/app", base="/opt/app", path=[home, m.site]).file("/opt/app/conda-meta/python-3.12.4-h99_0.json", "{}"))
    assert f.id == "user-site" and f.data["packages"] == "numpy 2.1.0" and f.commands == ["export PYTHONNOUSERSITE=1"]


def test_pythonpath_of_another_python(tmp_path):
    leak = "/srv/tool/lib/python3.9/site-packages"
    m = cpu(tmp_path, environment={"PYTHONPATH": leak}).package("numpy", "1.24.0", site=leak)
    f = only(m.python_says(path=[leak, m.site]))
    assert f.id == "pythonpath-other-python" and f.severity == "error" and f.data["other"] == "3.9" and f.commands == ["unset PYTHONPATH"]


def test_pythonpath_hides_packages(tmp_path):
    m = cpu(tmp_path, environment={"PYTHONPATH": "/srv/vendored/"}).package("numpy", "1.24.0", site="/srv/vendored").package("numpy", "1.26.4")
    assert only(m.python_says(path=["/srv/vendored", m.site])).id == "pythonpath-shadows"


def test_a_file_that_is_called_torch(tmp_path):
    m = cpu(tmp_path).python_says(here="/srv/project").file("/srv/project/torch.py")
    f = only(m)
    assert f.id == "module-in-front" and f.commands == ["mv /srv/project/torch.py /srv/project/my_torch.py"]
    assert not found(m.python_says(here=None))


def test_sources_of_torch_in_front(tmp_path):
    m = cpu(tmp_path).python_says(here="/srv/pytorch").file("/srv/pytorch/torch/__init__.py")
    assert only(m).id == "folder-in-front"
    assert not found(m.python_says(here=m.site))


# ---------------------------------------------------------------- conda
def conda(folder, **files):
    m = Machine(folder, environment={"CONDA_PREFIX": "/opt/app"})
    for name, content in files.items(): m.file(f"/opt/app/conda-meta/{name}.json", json.dumps(content))
    return m


def test_pip_over_conda(tmp_path):
    m = conda(tmp_path).file("/opt/app/conda-meta/pytorch-2.5.1-cuda126_py312h_303.json", '{"channel": "conda-forge"}').torch("2.6.0+cu124", architectures=["8.0"])
    f = only(m)
    assert f.id == "pip-over-conda" and f.data["conda"] == "pytorch 2.5.1 cuda126_py312h_303"
    assert f.commands == ["conda remove -p /opt/app --force -y pytorch",
                          f"{PYTHON} -m pip install --force-reinstall --no-deps torch==2.6.0 --index-url https://download.pytorch.org/whl/cu124"]


def test_a_channel_that_ended(tmp_path):
    note = "/opt/app/conda-meta/pytorch-2.5.1-py3.12_cuda12.4_cudnn9.1.0_0.json"
    m = conda(tmp_path).file(note, '{"channel": "https://conda.example/pytorch/linux-64"}').torch("2.5.1").file("/opt/app/lib/python3.12/site-packages/torch-2.5.1.dist-info/INSTALLER", "conda")
    f = only(m)
    assert f.id == "conda-channel-ended" and f.severity == "note" and f.commands[0].startswith("conda install -p /opt/app -c conda-forge")
    assert not found(m.file(note, '{"channel": "https://conda.example/conda-forge/linux-64"}'))


def test_what_conda_has_noted(tmp_path):
    noted = diagnose(conda(tmp_path, **{"pytorch-mutex-1.0-cpu": {}, "cpuonly-2.0-0": {}, "history": {}}).host()).machine.environment.conda
    assert [(p.name, p.version, p.build, p.installer) for p in noted.values()] == [("cpuonly", "2.0", "0", "conda"), ("pytorch-mutex", "1.0", "cpu", "conda")]
