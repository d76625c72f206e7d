"""What fits what: how wishes and machines are read, that an answer keeps its rules whatever is asked, what comes nearest, and how all of it is told."""
import argparse
import itertools
import json
import random
import re
import tomllib
from pathlib import Path

import pytest

import forno_doctor
from forno_doctor import apply, cli, facts
from forno_doctor.cli import plan as command
from forno_doctor.host import Host
from forno_doctor.machine import Machine as Examined
from forno_doctor.plan import FORNO_CAPABILITY, FORNO_PYTHON, Misread, Plan, Refusal, Target, Wish, forno, plan, read, resolve, target
from forno_doctor.versions import at_least, satisfies
from forno_doctor.words import Words

from .machines import Machine
from .test_cases import CASES

ROOT = Path(__file__).parents[2]


# ---------------------------------------------------------------- what is asked
@pytest.mark.parametrize("words, wish", [
    ("torch", Wish()), ("torch==latest", Wish()), ("latest", Wish()), ("2.6", Wish("==2.6.*")), ("2.6.0+cu124", Wish("==2.6.0", {}, "cu124")), ("nightly", Wish("nightly")), ("torch==2.6", Wish("==2.6.*")), ("torch==2", Wish("==2.*")), ("torch==2.6.0", Wish("==2.6.0")), ("torch=2.6", Wish("==2.6.*")),
    ("pytorch@2.6", Wish("==2.6.*")), ("Torch>=2.4,<2.6", Wish(">=2.4,<2.6")), ("torch~=2.4.0", Wish("~=2.4.0")), ("torch==2.6.0+cu124", Wish("==2.6.0", {}, "cu124")),
    ("torch==2.6 torchvision torchaudio==2.6.0+cpu", Wish("==2.6.*", {"torchvision": "", "torchaudio": "==2.6.0"}, "cpu")), ("torchvision==0.21", Wish("", {"torchvision": "==0.21.*"})),
    ("torch numpy>=2", Wish("", {"numpy": ">=2"})), ("torch==nightly", Wish("nightly")), ("torch[opt-einsum]==2.6.0", Wish("==2.6.0"))])
def test_wishes_are_read(words, wish): assert read(words.split()) == wish


@pytest.mark.parametrize("words, cuda, key", [
    ("flask", None, "other-package"), ("torch torchtext", None, "other-package"), ("torch==two", None, "unreadable"), ("torch==", None, None), ("==2.6", None, "unreadable"), ("torch<>2", None, "unreadable"),
    ("torch", "twelve", "unreadable-tag"), ("torch==2.6.0+cu124 torchvision==0.21.0+cu118", None, "two-tags"), ("torch==2.6.0+cu124", "12.6", "two-tags"), ("torch==2.6.0+abc", None, "unreadable-tag")])
def test_what_cant_be_read_says_so(words, cuda, key):
    if key is None: assert read(words.split(), cuda) == Wish()
    else:
        with pytest.raises(Misread) as error: read(words.split(), cuda)
        assert error.value.key == key and Words("zh")(f"plan-misread.{key}", **error.value.data)


@pytest.mark.parametrize("cuda", ["12.6", "126", "cu126", "cuda12.6", "12.6.3", "CU126"])
def test_tags_are_read(cuda): assert read(["torch"], cuda).tag == "cu126"


def test_gpus_are_found_by_many_names():
    for name, capability in [("RTX 4090", "8.9"), ("rtx4090", "8.9"), ("NVIDIA GeForce RTX 4090", "8.9"), ("4090", "8.9"), ("1080ti", "6.1"), ("RTX3070Ti", "8.6"), ("4070 ti super", "8.9"), ("gtx 1080 ti", "6.1"), ("980", "5.2"), ("V100", "7.0"), ("Tesla V100-SXM2-32GB", "7.0"),
                             ("H100 80GB HBM3", "9.0"), ("A100-SXM4-80GB", "8.0"), ("sm_86", "8.6"), ("86", "8.6"), ("8.6", "8.6"), ("sm_90a", "9.0"), ("sm_120", "12.0"), ("RTX 7090", None), ("", None)]:
        assert facts.capability(name) == capability, name


# ---------------------------------------------------------------- for which machine
@pytest.fixture
def gaming(tmp_path): return Machine(tmp_path).gpu("NVIDIA GeForce RTX 4090", "8.9", driver="550.54.14")


def test_a_machine_is_a_target(gaming):
    m = Examined(gaming.host())
    assert target(m) == Target("3.12", "linux_x86_64", ("8.9",), "550.54.14", "2.39")
    assert target(m, gpu="GTX 1080 Ti") == Target("3.12", "linux_x86_64", ("6.1",), None, "2.39")                       # another GPU may have another driver
    assert target(m, os="windows") == Target("3.12", "windows_x86_64", None, None, None)                                # another system is another machine
    assert target(m, os="linux", python="3.9.1", driver="470.57.02") == Target("3.9", "linux_x86_64", ("8.9",), "470.57.02", "2.39")
    assert target(m, no_gpu=True) == Target("3.12", "linux_x86_64", None, None, "2.39")
    assert target(m, gpu=["RTX 7090", "8.6"]).unknown == ("RTX 7090",)
    assert target(python="3.12", os="linux-aarch64", gpu="GB10").platform == "linux_aarch64" and target(python="3.12", numpy="2.1").numpy == "==2.1.*"
    with pytest.raises(Misread): target(os="linux")                                                                     # which Python isn't guessed
    for wrong in ({"os": "beos"}, {"python": "three"}, {"driver": "new"}):
        with pytest.raises(Misread): target(m, **wrong)


def test_as_a_library(gaming):
    m = Examined(gaming.host())
    assert forno_doctor.plan is plan
    p = plan("torch==2.6 torchvision", machine=m)
    assert isinstance(p, Plan) and p.packages == {"torch": "2.6.0", "torchvision": "0.21.0"} and p.tag == "cu126" and p.floor() == "525.60.13"
    assert plan("torch==2.6 torchvision", machine=m, cuda="11.8").tag == "cu118"
    assert plan(Target("3.12", "linux_x86_64", "8.9", "550.54.14"), Wish("==2.6.*", {"torchvision": ""})).packages == p.packages
    assert plan("torch==2.6", machine=m, gpu="RTX 5090", driver="570.26").reason == "arch"


def test_two_gpus_of_a_machine_are_both_heeded(gaming):
    m = Examined(gaming.gpu("NVIDIA GeForce GTX 1080 Ti", "6.1", driver="550.54.14").host())
    assert target(m).capabilities == ("6.1", "8.9") and plan("torch==2.7.1", machine=m).tag == "cu126"


# ---------------------------------------------------------------- rules that every answer keeps
def test_every_answer_keeps_the_rules():
    random.seed(6)
    drivers, gpus = ["440.33", "450.80.02", "525.60.13", "550.54.14", "570.26", "580.65.06", "595.58.03", None], [a["cc"] for a in facts.table("gpu_arch")["architectures"]]
    found = 0
    for _ in range(300):
        t = Target(random.choice(["3.8", "3.9", "3.10", "3.12", "3.13", "3.14"]), random.choice(["linux_x86_64", "windows_x86_64", "linux_aarch64"]),
                   tuple(random.sample(gpus, random.choice([1, 1, 2]))), random.choice(drivers), random.choice([None, "2.17", "2.35"]))
        wish = Wish(random.choice(["", "==2.6.*", ">=2.4", "<2.3"]), dict.fromkeys(random.sample(["torchvision", "torchaudio"], random.choice([0, 1, 2])), ""))
        p = resolve(t, wish)
        if isinstance(p, Refusal):
            assert p.reasons
            continue
        found += 1
        b = p.build
        assert t.python in p.release.pythons(t.platform) and (not wish.torch or satisfies(p.release.version, wish.torch))
        assert all(p.packages[k] == p.release.extra(k) for k in wish.extras) and set(p.packages) == {"torch", *wish.extras}
        assert set(p.codes()) == set(t.capabilities) and all(kind == "ptx" or code.split(".")[0] == c.split(".")[0] for c, (kind, code) in p.codes().items())
        if t.driver and not t.jetson: assert at_least(t.driver, p.floor())
        assert b.offered(t.platform) and not (b.tag == "cu132" and "torchaudio" in p.packages)
        for higher, _ in p.higher: assert float(p.release.build(higher).cuda) > float(b.cuda)
    assert found > 75


def test_a_newer_driver_never_means_an_older_release():
    for cc in ("6.1", "7.0", "8.6", "12.0"):
        previous = None
        for driver in ("450.80.02", "525.60.13", "570.26", "580.65.06", "595.58.03"):
            p = resolve(Target("3.12", "linux_x86_64", cc, driver), Wish())
            if isinstance(p, Plan):
                assert previous is None or p.release.version >= previous
                previous = p.release.version
        assert previous is not None


def test_what_is_known_to_be_impossible_isnt_called_unknown():
    """2.15.0's lists aren't known; but CUDA 13 makes no code below 7.5."""
    assert resolve(Target("3.12", "linux_x86_64", "6.1", "580.95.05"), Wish("==2.15.0")).builds == (("cu132", "arch"), ("cu130", "arch"))
    assert resolve(Target("3.12", "linux_x86_64", "8.9", "580.95.05"), Wish("==2.15.0")).builds == (("cu132", "unknown"), ("cu130", "unknown"))


def test_what_is_nearest_fits():
    for case_python, cc, driver, spec in itertools.product(["3.9", "3.13"], ["3.7", "7.0", "12.0"], ["470.57.02", "580.65.06"], ["==2.0.*", "==2.6.*", "==2.15.0"]):
        t = Target(case_python, "linux_x86_64", cc, driver)
        r = resolve(t, Wish(spec))
        if isinstance(r, Plan): continue
        for key in r.nearest.keys() & {"first_torch", "last_torch"}: assert isinstance(resolve(t, Wish(f"=={r.nearest[key]}")), Plan), (t, spec, key)


# ---------------------------------------------------------------- forno itself
@pytest.mark.parametrize("t, device, why", [
    (Target("3.12", "linux_x86_64", "6.1", "525.60.13"), "gpu", ""), (Target("3.12", "linux_x86_64", "6.1", "525.60.12"), "cpu", "old_driver"), (Target("3.12", "windows_x86_64", "12.0", "528.33"), "gpu", ""),
    (Target("3.12", "windows_x86_64", "12.0", "528.32"), "cpu", "old_driver"), (Target("3.12", "linux_x86_64", "3.7", "470.57.02"), "cpu", "old_gpu"), (Target("3.12", "linux_x86_64", ("3.7", "8.6"), "580.65.06"), "gpu", ""),
    (Target("3.9", "linux_x86_64", "8.6", "580.65.06"), "nowhere", "python"), (Target("3.13", "macos_arm64"), "cpu", "macos"), (Target("3.12", "linux_x86_64"), "cpu", "no_gpu"),
    (Target("3.12", "linux_x86_64", "8.6"), "gpu", "driver_unknown"), (Target("3.12", "linux_aarch64", "8.7", "36.4"), "gpu", "jetson"), (Target("3.12", "linux_x86_64", None, "700.1", unknown=("RTX 7090",)), "cpu", "unknown_gpu"),
    (Target("3.12", "linux_x86_64", "14.0", "700.10"), "gpu", "")])
def test_forno_runs_nearly_everywhere(t, device, why):
    f = forno(t)
    assert (f.device, f.why) == (device, why) and Words("zh")(f"plan-forno.{why or 'gpu'}", floor=f.floor)


def test_fornos_limits_are_its_own():
    oldest = re.search(r"^OLDEST = \((\d+), (\d+)\)", (ROOT / "forno/gpu/chips.py").read_text(encoding="utf-8"), re.MULTILINE)
    assert ".".join(oldest.groups()) == FORNO_CAPABILITY
    assert tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"] == f">={FORNO_PYTHON}"


# ---------------------------------------------------------------- the command
@pytest.fixture
def doctor(gaming, monkeypatch, capsys):
    """Runs the command on a machine made of files: (exit code, what it printed)."""
    def run(*arguments, host=None, lang="en"):
        monkeypatch.setattr(command, "Host", lambda python: host or gaming.host())
        p = argparse.ArgumentParser()
        p.add_argument("--json", action="store_true")
        command.add(p.add_subparsers())
        options = p.parse_args(["plan", *arguments])
        options.words = Words(lang)
        code = options.run(options)
        said = capsys.readouterr()
        return code, said.out + said.err
    monkeypatch.setattr(apply, "run", lambda *_: pytest.fail("something was started"))
    return run


def test_a_set_that_fits_is_told_with_its_reasons(doctor):
    code, said = doctor("torch==2.6", "torchvision")
    assert code == 0
    for line in ("torch 2.6.0  torchvision 0.21.0  [cu126]", "12.6 (cu126) is the highest", "needs 525.60.13 or later; this one is 550.54.14.", "NVIDIA GeForce RTX 4090 (8.9) gets machine code made for 8.6.",
                 "$ /opt/app/bin/python -m pip install torch==2.6.0 torchvision==0.21.0 --index-url https://download.pytorch.org/whl/cu126", "--torch-backend=cu126", "explicit = true",
                 "conda-forge (its own builds: not verified)", "torchvision==0.21.0+cu126", "Tables of 2026-11-21"): assert line in said, line
    assert "PyTorch's channel" not in said and "PyTorch's channel" in doctor("torch==2.5.1")[1]


def test_why_not_newer_and_not_higher(doctor):
    said = " ".join(doctor("--gpu", "RTX 5090", "--driver", "570.124.06")[1].split())
    assert "2.13.0 is the newest that fits. Not 2.15.0: not verified: for which GPUs it has code isn't known." in said
    assert "Not 2.14.1, 2.14.0: needs driver 580 or later (cu132, cu130); no code for RTX 5090 (12.0) (cu126)." in said and "Not cu132, cu130: needs driver 580 or later." in said


def test_what_is_impossible_is_told_with_what_comes_nearest(doctor):
    code, said = doctor("torch==2.14.1", "--gpu", "RTX 5090", "--driver", "570.124.06")
    assert code == 1
    for line in ("Nothing fits torch==2.14.1", "none of its CUDA builds fits.", "cu126: no code for RTX 5090 (12.0)", "an older release: torch 2.13.0", "driver 580 or later, then torch 2.14.1", "$ sudo apt install nvidia-driver-580", "whl/cu132", "forno should run here on the GPU",
                 "-m pip install ."): assert line in said, line
    code, said = doctor("torch==2.5", "--python", "3.14", "--no-gpu")
    assert code == 1 and "Python 3.13" in said and "uv venv --python 3.13 .venv" in said and "uv pip install --python .venv torch==2.5.1" in said
    assert "--pre torch --index-url https://download.pytorch.org/whl/nightly/cu126" in doctor("torch==nightly")[1]
    assert "torch==1.8.2 --extra-index-url https://download.pytorch.org/whl/lts/1.8/cu111" in doctor("torch==1.8.2")[1]
    assert "the CPU build" in doctor("torch", "--gpu", "RTX 7090")[1]
    said = doctor("torch==2.6", "--cuda", "13.4")[1]
    assert "torch 2.6.0: it has no cu134 build for linux_x86_64." in said and "builds that this release has: cu118 cu124 cu126" in said and "whl/cu126" in said
    said = doctor("torch==2.2.2", "numpy>=2", "--python", "3.11", "--no-gpu")[1]
    assert "newer release: torch 2.3.0" in said and '$ pip install "numpy<2"' in said and "$ pip install torch==2.2.2 --index-url https://download.pytorch.org/whl/cpu" in said
    said = doctor("torch", "--gpu", "K40", "--driver", "470.57.02", "--python", "3.9")[1]
    assert "torch 2.8.0: no build of it is known to have code for K40 (3.5)" in said and "uv venv --python 3.7 .venv" in said


def test_other_machines(doctor, tmp_path):
    windows = doctor("torch==2.9.1", "--os", "windows", "--gpu", "RTX 3060", "--driver", "580.88", lang="zh")[1]
    assert "$ pip install torch==2.9.1 --index-url https://download.pytorch.org/whl/cu130" in windows and "/opt/app" not in windows
    assert "through Metal" in doctor("torch", "--os", "macos")[1] and "through Metal" not in doctor("torch", "--os", "macos_x86_64", "--python", "3.11")[1]
    assert "Another machine is planned for" in doctor("torch", "--os", "windows")[1]
    card = Machine(tmp_path / "card").card()
    code, said = doctor("torch==2.6", host=card.host())
    assert code == 0 and "There is an NVIDIA card whose driver doesn't answer" in " ".join(said.split()) and "whl/cpu" in said
    wsl = Machine(tmp_path / "wsl", kernel="Linux version 5.15.0-microsoft-standard-WSL2").gpu("NVIDIA GeForce RTX 4090", "8.9", driver="470.57.02")
    assert "installed in Windows and not in WSL" in doctor("torch==2.9.1", host=wsl.host())[1]


def test_of_several_gpus_those_without_code_are_named(doctor):
    said = " ".join(doctor("torch==2.14.1", "--gpu", "4090,1080ti", "--driver", "580.95.05")[1].split())
    assert "Not cu132, cu130: no code for 1080ti (6.1)." in said and "1080ti (6.1) gets machine code made for 6.0. GPU 4090 (8.9) gets" in said


def test_another_build_of_the_same_version_is_replaced(doctor, gaming):
    gaming.torch("2.6.0+cpu")
    assert "-m pip install torch==2.6.0+cu126 --index-url https://download.pytorch.org/whl/cu126" in doctor("torch==2.6")[1]
    assert "-m pip install torch==2.5.1 --index-url https://download.pytorch.org/whl/cu124" in doctor("torch==2.5")[1]


def test_pairs_that_dont_match_are_told_both_ways(doctor):
    code, said = doctor("torch==2.6", "torchvision==0.20.1")
    assert code == 1 and "it goes with torchvision 0.21.0" in said
    assert "torch as asked with what goes with it: torch 2.6.0, torchvision 0.21.0" in said and "the pinned packages with their torch: torch 2.5.1, torchvision 0.20.1" in said
    assert "torch==2.5.1 torchvision==0.20.1 --index-url https://download.pytorch.org/whl/cu124" in said and "newer release" not in said
    assert "torch as asked with what goes with it: torch 1.13.0, torchvision 0.14.0" in doctor("torch==1.13.0", "torchvision==1.4.0", "--python", "3.10")[1]


def test_names_that_were_perhaps_meant(doctor):
    assert "perhaps meant: GeForce RTX 5090" in doctor("torch", "--gpu", "GeForce RTX 5990")[1] and "perhaps meant" not in doctor("torch", "--gpu", "Radeon")[1]


@pytest.mark.parametrize("kind, about", [("bits", {"bits": 32}), ("musl", {"musl": True}), ("pypy", {"implementation": "PyPy"})])
def test_pythons_for_which_there_is_nothing(doctor, gaming, kind, about):
    said = json.loads(gaming.answers["python"]["out"])
    gaming.says("python", json.dumps({**said, **about}))
    assert plan("torch", machine=Examined(gaming.host())).reason == kind and plan("torch", machine=Examined(gaming.host()), python="3.12").packages
    for lang in ("en", "zh"): assert doctor("torch", lang=lang)[0] == 1


def test_a_python_that_isnt_there(doctor, gaming):
    gaming.says("python", "", code=127)
    code, said = doctor("torch")
    assert code == 2 and "doesn't answer as a Python" in said


def test_uvs_environment_without_pip_is_changed_by_uv(doctor, gaming):
    gaming.file("/opt/app/pyvenv.cfg", "home = /usr/bin\nuv = 0.9.1\n")
    assert "$ uv pip install --python /opt/app/bin/python torch==2.6.0 --index-url https://download.pytorch.org/whl/cu126" in doctor("torch==2.6")[1]
    gaming.package("pip", "25.0")
    assert "$ /opt/app/bin/python -m pip install torch==2.6.0" in doctor("torch==2.6")[1]


def test_what_came_from_conda_is_taken_away_first(doctor, gaming):
    gaming.torch("2.5.1+cu124").package("torch", "2.5.1+cu124", installer="conda", files=["torch/version.py"])
    code, said = doctor("torch==2.6")
    assert code == 0 and "conda remove pytorch" in said


def test_the_whole_command_line(capsys):
    """On the real machine, as a person types it."""
    assert cli.main(["plan", "torch==2.6", "torchvision", "--no-gpu", "--python", "3.12", "--os", "linux", "--json", "--lang", "zh"]) == 0
    assert json.loads(capsys.readouterr().out)["commands"]["pip"] == ["pip install torch==2.6.0 torchvision==0.21.0 --index-url https://download.pytorch.org/whl/cpu"]
    assert cli.main(["plan", "flask"]) == 2 and "flask" in capsys.readouterr().err


def test_forno_alone(doctor):
    code, said = doctor("forno")
    assert code == 0 and "forno should run here on the GPU" in said and "simulated GPUs" in said and "$ /opt/app/bin/python -m pip install ." in said
    assert doctor("forno", "--python", "3.9")[0] == 1 and doctor("forno", "torch")[0] == 2


@pytest.mark.parametrize("arguments", [("flask",), ("torch==two",), ("torch", "--cuda", "x"), ("torch", "--os", "beos"), ("torch", "--driver", "new"), ("torch==2.6.0+cu118", "--cuda", "12.6")])
def test_wrong_usage_is_two(doctor, arguments):
    for lang in ("en", "zh"):
        code, said = doctor(*arguments, lang=lang)
        assert code == 2 and said.count("\n") == 1


def test_json(doctor):
    code, said = doctor("torch==2.6", "torchvision", "--json")
    d = json.loads(said)
    assert code == 0 and d["schema"] == 1 and d["plan"]["packages"] == {"torch": "2.6.0", "torchvision": "0.21.0"} and d["plan"]["codes"] == {"8.9": ["machine", "8.6"]} and d["refusal"] is None
    assert d["commands"]["pip"][0].startswith("/opt/app/bin/python -m pip install") and d["forno"]["device"] == "gpu" and d["target"]["driver"] == "550.54.14"
    d = json.loads(doctor("torch==2.6", "--gpu", "RTX 5090", "--driver", "570.26", "--json")[1])
    assert d["plan"] is None and d["refusal"]["reasons"] == ["arch"] and d["nearest"][0][:2] == ["first_torch", {"version": "2.7.0"}]


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_every_case_can_be_told(doctor, lang):
    """In both languages, without a word or a value that is missing."""
    for case in CASES:
        i = case["input"]
        w = i["want"]
        extras = w["extras"] if isinstance(w["extras"], dict) else dict.fromkeys(w["extras"], "")
        gpus = [i["gpu"]] if isinstance(i["gpu"], str) else i["gpu"] or []
        tag = "cpu" if w.get("cpu") else w.get("tag")
        code, said = doctor("torch" if w["torch"] == "latest" else f"torch{w['torch']}", *(f"{k}{v}" for k, v in extras.items()), *([f"numpy{w['numpy']}"] if w.get("numpy") else []),
                            *(x for g in gpus for x in ("--gpu", g)), *([] if gpus else ["--no-gpu"]), *(["--driver", i["driver"]] if i["driver"] else []), *(["--cuda", tag] if tag else []), "--os", i["os"],
                            *(["--glibc", i["glibc"]] if i.get("glibc") else []), "--python", i["python"], lang=lang)
        assert code == (0 if case["expect"]["ok"] else 1), (case["id"], said)
        assert "None" not in said and "{" not in re.sub(r"\{ index.*\}", "", said) and "?" not in said, (case["id"], said)


def test_online_only_when_it_is_said(doctor, monkeypatch):
    asked = []
    def index(python, package, version, address, other): asked.append((package, version, address, other)); return {"torch": True, "torchvision": None}[package]
    monkeypatch.setattr(apply, "on_index", index)
    doctor("torch==2.6")
    assert not asked
    said = doctor("torch==2.6", "torchvision", "--online")[1]
    options = "--index-url https://download.pytorch.org/whl/cu126".split()
    assert asked == [("torch", "2.6.0+cu126", options, None), ("torchvision", "0.21.0+cu126", options, None)]
    assert "torch 2.6.0+cu126 is on the index now." in said and "torchvision 0.21.0+cu126: not verified" in said
    doctor("torch==2.6", "--online", "--os", "windows", "--python", "3.11")
    assert asked[-1] == ("torch", "2.6.0+cpu", "--index-url https://download.pytorch.org/whl/cpu".split(), ("3.11", "windows_x86_64"))


def test_the_real_machine_is_planned_for_quickly():
    p = plan("torch==2.6", python="3.12", no_gpu=True, machine=Examined(Host()))
    assert isinstance(p, (Plan, Refusal))
