"""The one screen: how much it says, in which order, and in columns that hold with Chinese, too."""
import json
import re
import sys

import pytest

from forno_doctor import checks, diagnose, page, report
from forno_doctor import machine as machines
from forno_doctor.finding import WARNING, Finding
from forno_doctor.words import Words

from . import healthy as healthy_machines
from .machines import Machine
from .schema import wrong


def healthy(folder):
    return Machine(folder).gpu("NVIDIA GeForce RTX 4090", "8.9", driver="550.54.14").torch("2.6.0+cu124", architectures=["5.0", "8.0", "8.6", "9.0"], extras={"torchvision": "0.21.0+cu124"}) \
        .package("triton", "3.2.0").package("numpy", "2.1.0").file("/usr/local/cuda-12.4/version.json", '{"cuda": {"version": "12.4.1"}}')


def broken(folder): return Machine(folder).gpu("NVIDIA GeForce RTX 5090", "12.0", driver="570.124.06").torch("2.6.0+cu124", architectures=["5.0", "9.0"])


def told(machine, language="en"): return report.told(diagnose(machine.host()), Words(language))


def text(machine, language="en", **more): return report.text(told(machine, language), Words(language), **more)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_all_is_well_on_one_screen(tmp_path, language):
    lines = text(healthy(tmp_path), language).splitlines()
    assert len(lines) <= 24 and max(map(report.columns, lines)) <= 100, "\n".join(lines)


@pytest.mark.parametrize("make", healthy_machines.MACHINES)
def test_machines_as_people_have_them(tmp_path, make):
    """Nothing wrong: one screen. Only what is copied, paths and commands, may be longer than a line; and programs read what was described."""
    report_ = diagnose(make(tmp_path / "m").host())
    for language in ("en", "zh"):
        t = report.told(report_, Words(language))
        lines = report.text(t, Words(language)).splitlines()
        assert len(lines) <= 24 or t["findings"], "\n".join(lines)
        assert not [line for line in lines if report.columns(line) > 100 and "/" not in line and "$ " not in line]
        assert not wrong(json.loads(json.dumps(t)))


def test_from_the_ground_up(tmp_path):
    lines = text(healthy(tmp_path)).splitlines()
    assert [line.split()[0] for line in lines[:9]] == ["GPU", "driver", "toolkits", "cuDNN", "cuBLAS", "NCCL", "cudart", "system", "Python"]
    assert "capability 8.9 · 24.0 GiB" in lines[0] and "speaks CUDA up to 12.4" in lines[1] and "12.4.1  /usr/local/cuda-12.4" in lines[2]
    assert "9.1.0.70 · nvidia-cudnn-cu12 · RUNPATH of libtorch_" in lines[3] and "glibc 2.39" in lines[7] and "built for CUDA 12.4" in lines[9]
    assert "torchvision 0.21.0+cu124 · torchaudio none · triton 3.2.0" in lines[10] and "numpy 2.1.0" in lines[11]


def test_three_versions_are_called_cuda(tmp_path):
    said = text(healthy(tmp_path))
    assert "driver   12.4   the newest CUDA" in said and "toolkit  12.4.1 what nvcc" in said and "CUDA 12.4 needs 525.60.13 or later, and 550.54.14 is here." in said


VERDICTS = {
    "too-old": lambda f: Machine(f).gpu("Tesla T4", "7.5", driver="470.57.02").torch("2.6.0+cu124", architectures=["7.5"]),
    "no-driver": lambda f: Machine(f).torch("2.6.0+cu124"), "no-cuda": lambda f: Machine(f).torch("2.6.0+cpu"), "no-torch": Machine,
    "unverified": lambda f: Machine(f).gpu("Tesla T4", "7.5").torch("2.99.0+cu149"),
    "mac": lambda f: Machine(f, system="macos", machine="arm64").torch("2.6.0"),
    "rocm": lambda f: Machine(f).package("torch", "2.6.0+rocm6.2").file("/opt/app/lib/python3.12/site-packages/torch/version.py", "__version__ = '2.6.0+rocm6.2'\ncuda = None\nhip = '6.2'\n"),
}


@pytest.mark.parametrize("verdict", VERDICTS)
@pytest.mark.parametrize("language", ["en", "zh"])
def test_which_of_them_count(tmp_path, verdict, language):
    t = told(VERDICTS[verdict](tmp_path), language)
    assert t["cuda"]["verdict"] == verdict and report.cuda_verdict(t, Words(language)).replace(" ", "") in report.text(t, Words(language)).replace("\n", "").replace(" ", "")


def test_a_finding_says_what_to_type(tmp_path):
    lines = text(broken(tmp_path)).splitlines()
    at = next(k for k, line in enumerate(lines) if line.startswith("✗ error    torch 2.6.0+cu124 has no code for NVIDIA GeForce RTX 5090"))
    assert lines[at + 1].strip() == "[no-code-for-gpu]"
    commands = [line.strip() for line in lines if line.strip().startswith("$ ")]
    assert commands == ["$ /opt/app/bin/python -m pip install torch==2.13.0+cu129 --index-url https://download.pytorch.org/whl/cu129"]
    assert any(line.strip().startswith("check: $ ") for line in lines) and "1 broken, 0 worth a look." in lines
    assert all(report.columns(line) <= 100 for line in lines if "$ " not in line and "site-packages" not in line)


def test_many_equal_gpus_are_one_row(tmp_path):
    m = Machine(tmp_path)
    for _ in range(8): m.gpu("NVIDIA H100 80GB HBM3", "9.0", memory=80 << 30)
    m.gpu("NVIDIA T400", "7.5")
    lines = text(m).splitlines()
    assert "8 × NVIDIA H100 80GB HBM3" in lines[0] and lines[1].strip().startswith("NVIDIA T400") and lines[2].startswith("driver")


def test_verbose_shows_all(tmp_path):
    m = healthy(tmp_path).file("/usr/local/cuda-11.8/version.json", '{"cuda": {"version": "11.8.0"}}').library("/usr/local/cuda-11.8/lib64/libcudnn.so.8.9.7")
    brief, long = text(m), text(m, verbose=True)
    assert "/usr/local/cuda-11.8/lib64/libcudnn.so.8.9.7" not in brief and "/usr/local/cuda-11.8/lib64/libcudnn.so.8.9.7" in long
    assert "GPU code" not in brief and re.search("GPU code +5.0 8.0 8.6 9.0\n", long) and "nvidia-cublas-cu12" in long and long.count("/opt/app/lib/python3.12/site-packages/nvidia/") >= 5


def test_colours_change_nothing_else(tmp_path):
    m = broken(tmp_path)
    painted = text(m, colour=True)
    plain = text(m)
    assert "\033[31m" in painted and "\033[" not in plain
    assert re.sub(r"\033\[\d+m", "", painted) == plain


def test_a_check_that_breaks_hides_nothing(tmp_path, monkeypatch):
    def bad(m):
        yield Finding("check-failed", WARNING, {"check": "first", "checks": ["first"], "error": "told before"})
        raise ZeroDivisionError("by nought")
    monkeypatch.setattr(sys.modules["forno_doctor.diagnose"], "ALL", [bad, *checks.ALL])
    t = told(broken(tmp_path))
    assert [f["id"] for f in t["findings"]] == ["no-code-for-gpu", "check-failed", "check-failed"] and t["code"] == 2
    f = t["findings"][-1]
    assert "test_report.bad broke" in f["title"] and "ZeroDivisionError: by nought" in f["cause"] and f["evidence"][0][0].startswith("test_report.py:") and f["severity"] == "warning"


def test_what_breaks_everywhere_is_told_once(tmp_path, monkeypatch):
    def bad(m): return 1 // 0
    def worse(m): return bad(m)
    def other(m): raise ValueError("another")
    monkeypatch.setattr(sys.modules["forno_doctor.diagnose"], "ALL", [bad, worse, bad, other])
    report_ = diagnose(Machine(tmp_path).host())
    for _ in range(2): failed = report_.as_data()["findings"]
    assert [(f["data"]["check"], f["data"]["checks"]) for f in failed] == [("test_report.bad (+1)", ["test_report.bad", "test_report.worse"]), ("test_report.other", ["test_report.other"])]


@pytest.mark.parametrize("part", ["copies", "gpus", "toolkits", "torch", "python", "driver", "system"])
def test_a_part_that_breaks_hides_nothing(tmp_path, monkeypatch, part):
    def bad(self): raise KeyError("of its own making")
    monkeypatch.setattr(machines.Machine, part, property(bad))
    t = told(broken(tmp_path))
    assert not wrong(json.loads(json.dumps(t))) and t["code"] and any(f["id"] == "check-failed" and "KeyError: 'of its own making'" in f["cause"] for f in t["findings"])
    assert text(broken(tmp_path / "more")) and page.html(t, Words())


def test_only_and_ignore(tmp_path):
    host = VERDICTS["too-old"](tmp_path).host()
    every = [f.id for f in diagnose(host).findings]
    assert "driver-too-old" in every and [f.id for f in diagnose(host, only=frozenset({"driver-too-old"})).findings] == ["driver-too-old"]
    assert [f.id for f in diagnose(host, ignore=frozenset({"driver-too-old"})).findings] == [i for i in every if i != "driver-too-old"]
    assert diagnose(host, only=frozenset({"cpu-build"})).code == 0


# ---------------------------------------------------------------- columns
def test_chinese_is_as_wide_as_it_looks():
    assert report.columns("驱动 CUDA") == 9 and report.pad("驱动", 8) == "驱动    " and report.columns("（") == 2 and report.columns("·") == 1


@pytest.mark.parametrize("width", [12, 20, 33, 80])
def test_lines_end_where_they_may(width):
    for sentence in ("这个 wheel 里没有 CUDA 代码：要么该平台的软件源只提供 CPU 版，要么另一次安装替换了 CUDA 版。", "a program starts, and its first kernel fails"):
        lines = report.wrap(sentence, width)
        assert all(report.columns(line) <= width for line in lines) and "".join(lines).replace(" ", "") == sentence.replace(" ", "")
        assert not any(line[0] in "，。：；）" for line in lines)


def test_long_paths_lose_their_middle():
    parts = ["2.6.0", "/srv/" + "very/long/" * 20 + "site-packages/torch", "own environment"]
    line = report.fit(parts, 80)
    assert report.columns(line) <= 80 and line.startswith("2.6.0 · /srv/") and "site-packages/torch · own environment" in line and "…" in line
    assert report.fit(["a" * 50, "b" * 50, "c" * 50], 80).endswith("… +2") and report.columns(report.elided("驱动" * 30, 21)) <= 21
    assert json.dumps(report.wrap("", 10)) == '[""]'
