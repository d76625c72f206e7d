"""What programs read: schema 1."""
import json
from pathlib import Path

import pytest

from forno_doctor import Host, diagnose, report
from forno_doctor.words import Words

from .machines import Machine
from .schema import SCHEMA, keys, wrong

DOCS = Path(__file__).parents[2] / "docs/doctor.md"


def told(machine, language="en"): return json.loads(json.dumps(report.told(diagnose(machine.host()), Words(language))))


def machines():
    yield lambda f: Machine(f)
    yield lambda f: Machine(f).gpu("NVIDIA GeForce RTX 5090", "12.0", driver="570.124.06").torch("2.6.0+cu124", architectures=["5.0", "9.0"], extras={"torchvision": "0.20.1+cu124"})
    yield lambda f: Machine(f).gpu("Tesla T4", "7.5", driver="470.57.02").gpu("Tesla T4", "7.5", driver="470.57.02").torch("2.6.0+cu124", architectures=["7.5"])
    yield lambda f: Machine(f, kernel="Linux version 5.15.90.1-microsoft-standard-WSL2", environment={"CONDA_PREFIX": "/opt/conda"}).torch("2.6.0+cpu")
    yield lambda f: Machine(f, system="windows").torch("2.6.0+cpu")
    yield lambda f: Machine(f).torch("2.99.0+cu149", cuda="14.9")


@pytest.mark.parametrize("make", list(machines()))
@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_report_is_as_described(tmp_path, make, language): assert not wrong(told(make(tmp_path), language))


def test_this_machine_is_as_described(): assert not wrong(json.loads(json.dumps(report.told(diagnose(Host()), Words()))))


def test_the_description_can_fail(tmp_path):
    good = told(Machine(tmp_path).torch("2.6.0+cu124"))
    for change in ({"schema": 2}, {"code": True}, {"more": 1}, {"counts": {"error": 0, "warning": 0}}, {"machine": good["machine"] | {"cards": [1]}}, {"cuda": good["cuda"] | {"torch": 12.4}}):
        assert wrong(good | change), change


def test_every_key_is_documented():
    text = DOCS.read_text(encoding="utf-8")
    missing = [k for k in keys(SCHEMA) if f"`{k.split('.', 1)[1] if k.startswith('machine.') else k}`" not in text]
    assert not missing, missing


def test_sentences_are_inside(tmp_path):
    f = told(Machine(tmp_path).gpu("Tesla T4", "7.5", driver="470.57.02").torch("2.6.0+cu124", architectures=["7.5"]), "zh")
    assert f["language"] == "zh" and f["code"] == 2 and f["counts"]["error"] == sum(x["severity"] == "error" for x in f["findings"]) > 0
    assert "470.57.02" in f["findings"][0]["title"] and "驱动" in f["findings"][0]["title"] and f["findings"][0]["area"] == "builds"
    assert f["cuda"] == {"driver": "11.4", "toolkit": None, "torch": "12.4", "floor": "525.60.13", "verdict": "too-old"} and f["forno"]["device"] == "cpu"
