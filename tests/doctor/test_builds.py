"""Does torch's build fit the GPU, the driver and its companions?"""
import pytest

from forno_doctor import diagnose
from forno_doctor.words import Words, catalogue

from .machines import Machine


def found(machine) -> dict: return {f.id: f for f in diagnose(machine.host()).findings}


def healthy(folder): return Machine(folder).gpu("NVIDIA GeForce RTX 4090", "8.9", driver="550.54.14").torch("2.6.0+cu124", architectures=["5.0", "8.0", "8.6", "9.0"], extras={"torchvision": "0.21.0+cu124"})


def test_nothing_is_wrong(tmp_path):
    report = diagnose(healthy(tmp_path).host())
    assert not report.findings and report.code == 0
    assert report.machine.gpus[0].capability == "8.9" and report.machine.torch.cuda == "12.4"


def test_a_newer_gpu(tmp_path):
    f = found(Machine(tmp_path).gpu("NVIDIA GeForce RTX 5090", "12.0", driver="570.124.06").torch("2.6.0+cu124", architectures=["5.0", "9.0"]))["no-code-for-gpu"]
    assert f.severity == "error" and f.commands == ["/opt/app/bin/python -m pip install --force-reinstall torch==2.13.0 --index-url https://download.pytorch.org/whl/cu129"]


def test_a_cpu_build(tmp_path):
    f = found(Machine(tmp_path).gpu("NVIDIA GeForce RTX 4090", "8.9", driver="550.54.14").torch("2.6.0+cpu"))["cpu-build"]
    assert f.commands == ["/opt/app/bin/python -m pip install --force-reinstall torch==2.6.0 --index-url https://download.pytorch.org/whl/cu126"]


def test_an_old_driver(tmp_path):
    f = found(Machine(tmp_path).gpu("Tesla T4", "7.5", driver="470.57.02").torch("2.6.0+cu124", architectures=["7.5"]))["driver-too-old"]
    assert f.data["needed"] == "525.60.13" and f.data["speaks"] == "11.4" and "cu118" in f.commands[0]


@pytest.mark.parametrize("version, id", [("0.20.1+cu124", "unpaired"), ("0.21.0+cu118", "other-build")])
def test_pairs(tmp_path, version, id):
    m = Machine(tmp_path).gpu("NVIDIA GeForce RTX 4090", "8.9", driver="550.54.14").torch("2.6.0+cu124", architectures=["8.0"], extras={"torchvision": version})
    assert set(found(m)) == {id}


def test_catalogues_say_the_same_things():
    english, chinese = catalogue("en"), catalogue("zh")
    assert english.keys() == chinese.keys()
    for key, text in english.items():
        names = lambda t: sorted(set(__import__("re").findall(r"{(\w+)", t)))
        assert names(text) == names(chinese[key]), key


def test_every_finding_has_its_words(tmp_path):
    w = Words("zh")
    for f in diagnose(Machine(tmp_path).gpu("Tesla T4", "7.5", driver="470.57.02").torch("2.6.0+cu124", architectures=["8.0"]).host()).findings:
        assert all([w(f"{f.id}.{part}", **f.data) for part in ("title", "cause")])
