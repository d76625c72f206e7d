"""Does torch's build fit the GPU, the driver and its companions?"""
import json
import re

import pytest

from forno_doctor import diagnose
from forno_doctor.fatbin import Code, count, listed
from forno_doctor.words import FOLDER, LANGUAGES, Words, catalogue

from . import findings
from .elf_file import fatbin
from .machines import Machine

INDEX = "https://download.pytorch.org/whl"
PIP = "/opt/app/bin/python -m pip install"
ADA, BLACKWELL, PASCAL, T4 = ("NVIDIA GeForce RTX 4090", "8.9"), ("NVIDIA GeForce RTX 5090", "12.0"), ("NVIDIA GeForce GTX 1080 Ti", "6.1"), ("Tesla T4", "7.5")


found, _ = findings.of("builds")
def healthy(folder): return Machine(folder).gpu(*ADA, driver="550.54.14").torch("2.6.0+cu124", architectures=["5.0", "8.0", "8.6", "9.0"], extras={"torchvision": "0.21.0+cu124"})


def test_nothing_is_wrong(tmp_path):
    report = diagnose(healthy(tmp_path).host())
    assert not report.findings and report.code == 0
    assert report.machine.gpus[0].capability == "8.9" and report.machine.torch.cuda == "12.4"


# ---------------------------------------------------------------- GPU code
def test_architectures_are_read_from_the_library(tmp_path):
    m = diagnose(Machine(tmp_path).gpu(*ADA).torch("2.6.0+cu124", architectures=["7.5", "8.0+PTX"]).host()).machine
    assert m.gpu_code.architectures == ["7.5", "8.0+PTX"] and m.gpu_code.source == "/opt/app/lib/python3.12/site-packages/torch/lib/libtorch_cuda.so"
    assert m.as_data()["gpu_code"]["architectures"] == ["7.5", "8.0+PTX"]


def test_where_the_library_says_nothing_the_table_does(tmp_path):
    m = diagnose(Machine(tmp_path).gpu(*ADA, driver="550.54.14").torch("2.6.0+cu124").host()).machine
    assert m.gpu_code.source == "table" and "9.0" in m.gpu_code.architectures


def test_the_library_is_believed_and_not_the_table(tmp_path):
    """The table says that 2.6's cu124 has code for 8.0: this one was built by hand, for another GPU."""
    f = found(Machine(tmp_path).gpu(*ADA, driver="550.54.14").torch("2.6.0+cu124", architectures=["9.0"]))["code-dropped-for-gpu"]
    assert f.data["has"] == "9.0" and f.evidence[0][1].endswith("libtorch_cuda.so")


def test_single_kernels_do_not_count():
    """In torch 2.13's own library six architectures are in all containers, and code for one chip alone (sm_90a, sm_100f) in a few."""
    common, single = fatbin([("sass", 75), ("sass", 90), ("ptx", 90)]), bytearray(fatbin([("sass", 90), ("sass", 103)]))
    single[16 + 40:16 + 48] = (0x100011).to_bytes(8, "little")
    data = common * 4 + b"\0" * 24 + bytes(single)
    found = count(data, [(0, len(data))])
    assert found[Code("sass", 75)] == 4 and found[Code("sass", 90, "a")] == 1 and found[None] == 5
    assert listed(found) == ["7.5", "9.0+PTX"] and listed(count(bytes(single), [(0, len(single))])) == ["9.0a", "10.3"]


def test_a_newer_gpu(tmp_path):
    f = found(Machine(tmp_path).gpu(*BLACKWELL, driver="570.124.06").torch("2.6.0+cu124", architectures=["5.0", "9.0"]))["no-code-for-gpu"]
    assert f.severity == "error" and f.commands == [f"{PIP} torch==2.13.0+cu129 --index-url {INDEX}/cu129"]


def test_an_older_gpu(tmp_path):
    """A Pascal card with CUDA 13's build: the last build that has code for it is cu126's."""
    f = found(Machine(tmp_path).gpu(*PASCAL).torch("2.13.0+cu130", architectures=["7.5", "8.0", "12.0"], extras={"torchvision": "0.28.0"}))["code-dropped-for-gpu"]
    assert f.commands == [f"{PIP} torch==2.13.0+cu126 torchvision==0.28.0+cu126 --index-url {INDEX}/cu126"] and f.verify.startswith("/opt/app/bin/python -c")


def test_only_ptx(tmp_path):
    f = found(Machine(tmp_path).gpu(*BLACKWELL).torch("2.6.0+cu124", architectures=["8.0", "9.0+PTX"]))["only-ptx"]
    assert f.severity == "warning" and f.data["ptx"] == "9.0"


def test_ptx_of_a_newer_cuda_than_the_drivers(tmp_path):
    f = found(Machine(tmp_path).gpu(*BLACKWELL, driver="535.54.03", cuda="12.2").torch("2.6.0+cu124", architectures=["9.0+PTX"]))["ptx-needs-driver"]
    assert f.data["needed"] == "550.54.14"


def test_no_build_for_this_driver(tmp_path):
    f = found(Machine(tmp_path).gpu(*BLACKWELL, driver="470.57.02").torch("2.7.0+cu118", architectures=["5.0", "9.0"]))
    assert f["no-code-and-old-driver"].data["needed"] == "580" and not f["no-code-and-old-driver"].commands


def test_two_gpus_of_one_build(tmp_path):
    """The repair serves both: cu129 of 2.8 to 2.13 has neither 7.0 nor 6.1, but 7.5 and 12.0."""
    f = found(Machine(tmp_path).gpu(*T4).gpu(*BLACKWELL).torch("2.6.0+cu124", architectures=["7.5", "9.0"]))["no-code-for-gpu"]
    assert f.data["gpu"] == "NVIDIA GeForce RTX 5090" and f.commands


def test_two_gpus_without_a_common_build(tmp_path):
    f = found(Machine(tmp_path, python="3.14.0").gpu(*PASCAL).gpu(*BLACKWELL).torch("2.13.0+cu130", architectures=["7.5", "12.0"]))
    assert set(f) == {"gpus-without-common-build"} and "GTX 1080 Ti (6.1)" in f["gpus-without-common-build"].data["all"]


# ---------------------------------------------------------------- CPU builds
def cpu(folder, version="2.6.0+cpu", **more): return Machine(folder, **more).gpu(*ADA, driver="550.54.14").torch(version)


def test_a_cpu_build(tmp_path):
    f = found(cpu(tmp_path))["cpu-build"]
    assert f.commands == [f"{PIP} torch==2.6.0+cu126 --index-url {INDEX}/cu126"]


def test_a_cpu_build_that_replaced_another(tmp_path):
    f = found(cpu(tmp_path).nvidia(12))["cpu-build-replaced"]
    assert ("nvidia-cudnn-cu12", "9.1.0.70") in f.evidence
    assert "cpu-build-replaced" in found(cpu(tmp_path / "b").package("torchvision", "0.21.0+cu124"))


def test_a_cpu_build_of_the_package_index(tmp_path):
    m = Machine(tmp_path, machine="aarch64").gpu("NVIDIA GH200 480GB", "9.0").torch("2.6.0")
    assert "cpu-build-from-index" in found(m)


def test_a_cpu_build_of_windows(tmp_path):
    """There the package index's wheel says +cpu in version.py alone."""
    m = Machine(tmp_path, system="windows").torch("2.6.0+cpu").file("C:/Windows/System32/nvcuda.dll")
    device = {"name": ADA[0], "major": 8, "minor": 9, "memory": 24 << 30}
    m.driver_says(library="nvcuda.dll", init=0, version=12060, devices=[device], nvml={"init": 0, "driver": "560.94", "devices": [device]})
    place = m._place(f"{m.site}/torch-2.6.0+cpu.dist-info/METADATA")
    place.write_text(place.read_text().replace("2.6.0+cpu", "2.6.0"))
    f = found(m)["cpu-build-from-index"]
    assert f.commands == [f"{PIP} torch==2.6.0+cu126 --index-url {INDEX}/cu126"]


def test_a_cpu_build_of_conda(tmp_path):
    m = cpu(tmp_path, "2.6.0").file("/opt/app/conda-meta/pytorch-2.6.0-cpu_generic_py312_h1.json", "{}").file("/opt/app/lib/python3.12/site-packages/torch-2.6.0.dist-info/INSTALLER", "conda\n")
    f = found(m)["cpu-build-conda"]
    assert f.commands == ['conda install -p /opt/app -c conda-forge "pytorch=*=*cuda*"'] and ("conda-meta", "pytorch-2.6.0-cpu_generic_py312_h1.json") in f.evidence


def test_a_build_without_cuda_of_unknown_origin(tmp_path): assert "cpu-build-unexplained" in found(cpu(tmp_path, "2.6.0"))


@pytest.mark.parametrize("version, gpu, card, id", [("2.6.0+rocm6.2", True, None, "build-for-other-maker"), ("2.6.0+rocm6.2", True, "0x1002", "other-maker-build"),
                                                   ("2.6.0+rocm6.2", False, "0x1002", "other-maker-build"), ("2.6.0+xpu", False, None, "other-maker-build")])
def test_builds_for_other_makers(tmp_path, version, gpu, card, id):
    m = Machine(tmp_path).torch(version)
    if gpu: m.gpu(*ADA)
    if card: m.card(7, vendor=card)
    assert set(found(m)) == {id}


# ---------------------------------------------------------------- the driver
def test_an_old_driver(tmp_path):
    f = found(Machine(tmp_path).gpu(*T4, driver="470.57.02").torch("2.6.0+cu124", architectures=["7.5"]))["driver-too-old"]
    assert f.data["needed"] == "525.60.13" and f.data["speaks"] == "11.4" and "cu118" in f.commands[0] and "525" in Words()("driver-too-old.fix", **f.data)


def test_a_driver_too_old_for_every_build_of_this_python(tmp_path):
    f = found(Machine(tmp_path, python="3.14.0").gpu(*T4, driver="470.57.02").torch("2.13.0+cu130", architectures=["7.5"]))
    assert "driver-too-old-for-all" in f


def test_a_compatibility_package_makes_an_old_driver_do(tmp_path):
    """libcuda of a newer driver before the kernel's module of an older one: what CUDA itself says counts."""
    assert not found(Machine(tmp_path).gpu("NVIDIA A100-SXM4-80GB", "8.0", driver="550.54.14", cuda="13.0").torch("2.13.0+cu130", architectures=["8.0"]))


# ---------------------------------------------------------------- what stands beside torch
@pytest.mark.parametrize("version, id", [("0.20.1+cu124", "unpaired"), ("0.21.0+cu118", "other-build")])
def test_pairs(tmp_path, version, id):
    m = Machine(tmp_path).gpu(*ADA, driver="550.54.14").torch("2.6.0+cu124", architectures=["8.0"], extras={"torchvision": version})
    assert set(found(m)) == {id}


def test_the_repair_keeps_a_torch_that_fits(tmp_path):
    """torch is 3 GB with what it asks for; where it runs here, only its companion is changed."""
    f = found(Machine(tmp_path).gpu(*ADA, driver="580.95.05").torch("2.6.0+cu124", architectures=["8.0"], extras={"torchvision": "0.20.1+cu124"}))["unpaired"]
    assert f.commands == [f"{PIP} --force-reinstall --no-deps torchvision==0.21.0 --index-url {INDEX}/cu124"]
    m = Machine(tmp_path / "cpu").torch("2.6.0+cpu", extras={"torchvision": "0.20.1+cpu"})
    assert found(m)["unpaired"].commands == [f"{PIP} --force-reinstall --no-deps torchvision==0.21.0 --index-url {INDEX}/cpu"]
    m = Machine(tmp_path / "old").gpu(*BLACKWELL).torch("2.6.0+cu124", architectures=["8.0"], extras={"torchvision": "0.20.1+cu124"})
    assert "torch==" in found(m)["unpaired"].commands[0]


def test_a_build_that_only_the_packages_own_version_tells(tmp_path):
    m = Machine(tmp_path).gpu(*ADA).torch("2.6.0+cu124", architectures=["8.0"], extras={"torchvision": "0.21.0"})
    assert "other-build" in found(m.file(f"{m.site}/torchvision/version.py", "__version__ = '0.21.0+cpu'\n"))


def test_torchaudio_that_asks_for_no_torch(tmp_path):
    """torchaudio 2.11 says nothing of torch in its metadata; it goes with 2.11 and later."""
    for torch, wrong in (("2.9.1+cu126", True), ("2.13.0+cu126", False), ("2.11.0+cu126", False)):
        m = Machine(tmp_path / torch).gpu(*ADA).torch(torch, architectures=["8.0"]).package("torchaudio", "2.11.0")
        assert ("unpaired" in found(m)) is wrong, torch


def test_a_torchvision_that_takes_several_torches(tmp_path):
    m = Machine(tmp_path).gpu(*ADA).torch("2.14.1+cu126", architectures=["8.0"]).package("torchvision", "0.29.2", requires=["torch>=2.14.0"])
    assert not found(m)


def test_a_pair_whose_symbols_are_all_there(tmp_path):
    """It isn't what was tested together, but it loads: worth a look, not an error."""
    def beside(folder, symbol):
        m = Machine(folder).gpu(*ADA).torch("2.6.0+cu124", architectures=["8.0"])
        return found(m.extension("torchvision", "0.20.1", "torchvision/_C.so", ["torch==2.5.1"], undefined=[symbol]))["unpaired"]
    assert beside(tmp_path / "a", "_ZN2at4_ops3add4callE").severity == "warning"
    m = Machine(tmp_path / "c").gpu(*ADA).torch("2.6.0+cu124", architectures=["8.0"])
    m.package("torchvision", "0.20.1", ["torch==2.5.1"], ["torchvision/_C.so", "torchvision/image.so"]).library(f"{m.site}/torchvision/_C.so", needed=["libc10.so"])
    assert found(m.library(f"{m.site}/torchvision/image.so", needed=["libc10.so"], undefined=["_ZN3c104goneEv"]))["unpaired"].severity == "warning"       # it goes on without that part
    f = beside(tmp_path / "b", "_ZN2at4_ops4gone4callE")
    assert f.severity == "error" and f.evidence[1][1] == "_ZN2at4_ops4gone4callE"


def test_requirements(tmp_path):
    m = Machine(tmp_path).torch("2.6.0+cpu", requires=["triton==3.2.0; platform_system == 'Linux'", "numpy; extra == 'x'"])
    m.package("triton", "3.1.0").package("numpy", "2.1.0").package("old", "1.0", ["numpy<2", "numpy>=1.21"]).package("new", "1.0", ["numpy>=1.22; python_version >= '3.9'", "torch>=2.7", "absent>=9"])
    by = {f.data["package"]: f for f in diagnose(m.host()).findings if f.id == "requirement-unmet"}
    assert set(by) == {"numpy", "triton", "torch"}
    assert by["numpy"].data["by"] == "old 1.0 (numpy<2)" and by["numpy"].commands == ['/opt/app/bin/python -m pip install "numpy>=1.22,<2,>=1.21"']
    assert by["triton"].commands == ['/opt/app/bin/python -m pip install "triton==3.2.0"']
    assert by["torch"].commands == ['/opt/app/bin/python -m pip install --upgrade new "torch==2.6.0+cpu"']


def test_what_others_ask_of_nvidias_packages(tmp_path):
    m = healthy(tmp_path).package("cuml-cu12", "25.2", ["nvidia-cublas-cu12>=12.6", "nvidia-cudnn-cu12"])
    f = found(m)["requirement-unmet"]
    assert f.data["package"] == "nvidia-cublas-cu12" and f.commands == ['/opt/app/bin/python -m pip install "nvidia-cublas-cu12>=12.6"']


def test_what_torch_asks_for_stays(tmp_path):
    m = Machine(tmp_path).gpu(*ADA, driver="550.54.14").torch("2.6.0+cu124", architectures=["8.0"], requires=["nvidia-cublas-cu12==12.4.127"])
    assert found(m.package("cuml-cu12", "25.2", ["nvidia-cublas-cu12>=12.6"]))["requirement-unmet"].commands == ['/opt/app/bin/python -m pip install --upgrade cuml-cu12 "torch==2.6.0+cu124"']


def test_the_triton_of_nightlies(tmp_path):
    m = Machine(tmp_path).torch("2.16.0.dev20261101+cu130", requires=["pytorch-triton==3.9.0+git1; platform_system == 'Linux'"], nvidia=False)
    assert found(m)["triton-missing"].commands == [f'/opt/app/bin/python -m pip install "pytorch-triton==3.9.0+git1" --index-url {INDEX}/nightly/cu130']


def test_a_missing_triton(tmp_path):
    f = found(Machine(tmp_path).torch("2.6.0+cpu", requires=["triton==3.2.0; platform_system == 'Linux' and platform_machine == 'x86_64'"]))
    assert f["triton-missing"].commands == ['/opt/app/bin/python -m pip install "triton==3.2.0"']
    assert not found(Machine(tmp_path / "b", machine="aarch64").torch("2.6.0+cpu", requires=["triton==3.2.0; platform_machine == 'x86_64'"]))


# ---------------------------------------------------------------- what can't be known, and what is broken
@pytest.mark.parametrize("version", ["2.16.0.dev20261101+cu130", "2.6.0a0+git1234", "9.9.9"])
def test_a_torch_that_no_table_knows(tmp_path, version):
    f = found(Machine(tmp_path).gpu(*ADA).torch(version, cuda="12.4", architectures=["8.0"], extras={"torchvision": "0.99.0"}))
    assert set(f) == {"torch-not-verified"} and f["torch-not-verified"].severity == "note"


def test_torch_twice(tmp_path):
    m = healthy(tmp_path)
    m.python_says(path=["/opt/app/.local/lib/site-packages", m.site]).torch("2.5.1+cu124", architectures=["8.0"], site="/opt/app/.local/lib/site-packages")
    f = diagnose(m.host())
    f = {x.id: x for x in f.findings}["torch-twice"]
    assert f.severity == "warning" and f.data == {"first": "2.5.1+cu124", "second": "2.6.0+cu124"}


def test_a_folder_of_two_names_is_one(tmp_path):
    m = healthy(tmp_path).link("/opt/app/lib64", "/opt/app/lib")
    report = diagnose(m.file("/srv/more/x.py").python_says(path=[m.site.replace("/lib/", "/lib64/"), "/srv/more", m.site]).host())
    assert not report.findings and report.machine.environment.sites == ["/opt/app/lib64/python3.12/site-packages", "/srv/more"]


def test_two_records_in_one_folder(tmp_path):
    m = healthy(tmp_path)
    assert found(m.package("torch", "2.5.1+cu124"))["torch-two-records"].severity == "warning"


def test_remains(tmp_path):
    m = healthy(tmp_path)
    f = found(m.file(f"{m.site}/~orch/__init__.py").file(f"{m.site}/~orch-2.5.1.dist-info/METADATA", "Name: torch\nVersion: 2.5.1\n"))
    assert set(f) == {"pip-remains"} and f["pip-remains"].commands == [f"rm -r '{m.site}/~orch'", f"rm -r '{m.site}/~orch-2.5.1.dist-info'"]


def test_missing_files(tmp_path):
    m = healthy(tmp_path)
    m._place(f"{m.site}/torch/lib/libtorch_cpu.so").unlink()
    assert found(m)["torch-incomplete"].data["first"] == "torch/lib/libtorch_cpu.so"


# ---------------------------------------------------------------- words
def test_catalogues_say_the_same_things():
    english, chinese = catalogue("en"), catalogue("zh")
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        names = lambda t: sorted(set(re.findall(r"{(\w+)", t)))
        assert names(text) == names(chinese[key]), key


def test_no_id_stands_in_two_areas():
    """The last one read would take the others' sentences, with places that they have no values for."""
    for language in LANGUAGES:
        ids = [id for file in (FOLDER / language).glob("*.json") for id in json.loads(file.read_text(encoding="utf-8"))]
        assert len(ids) == len(set(ids)), sorted(id for id in ids if ids.count(id) > 1)


def test_every_finding_has_its_words(tmp_path):
    w = Words("zh")
    for f in diagnose(Machine(tmp_path).gpu(*T4, driver="470.57.02").torch("2.6.0+cu124", architectures=["8.0"]).host()).findings:
        assert all([w(f"{f.id}.{part}", **f.data) for part in ("title", "cause")])
