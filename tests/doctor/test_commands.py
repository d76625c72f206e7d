"""Commands are those that pytorch.org's "previous versions" page printed (printed_commands.json, 388 of them; PYTORCH_INDEX stands for the index); what differs is named here, with the reason."""
import json
import re
import tomllib
from pathlib import Path

import pytest

from forno_doctor import commands, facts
from forno_doctor.plan import Plan, Target, read, resolve, target

PRINTED = json.loads(Path(__file__).with_name("printed_commands.json").read_text(encoding="utf-8"))
# (release, installer, tag or "*") and why the page isn't followed
NOT_FOLLOWED = {
    ("1.7.0", "*", "*"): "the page pairs 1.7.0 with torchvision 0.8.0; 0.8.1 is the one whose metadata asks for torch 1.7.0 and that replaced it",
    ("1.10.0", "*", "*"): "the page's torchvision 0.11.0 was taken back (it asks for torch 1.10.0+cu102); 0.11.1 replaced it",
    ("2.0.0", "conda", "*"): "the page's torchvision 0.15.0 and torchaudio 2.0.0 were taken back; 0.15.1 and 2.0.1 are the pair, as the page's own pip lines say",
    ("1.9.1", "conda", "cpu"): "a slip of the page: pytorch==1.9.0 beside 1.9.1's companions",
    ("1.9.1", "pip", "rocm4.2"): "slips of the page: torch==1.9.0 beside 1.9.1's companions",
    ("1.9.1", "pip", "rocm4.1"): "the same",
    ("1.9.1", "pip", "cu102"): "another: torchaudio 0.9.0, which asks for torch 1.9.0",
    ("1.10.1", "pip", "rocm4.0.1"): "the page's torchvision 0.10.2 never was",
    ("1.8.0", "pip", "rocm4.0.1"): "the page names no version, and another list of wheels",
    ("1.8.2", "conda", "any"): "without versions, from a channel of its own",
}


def planned(version: str, tag: str, packages: dict[str, str]) -> Plan:
    r = facts.release(version)
    platform = "macos_x86_64" if tag == "macos" else "linux_x86_64"
    tag = "cpu" if tag == "macos" else tag
    return Plan(Target("3.9", platform), r, packages, tag, r.build(tag), tag == r.default_on(platform))


@pytest.mark.parametrize("version", PRINTED)
def test_they_are_the_printed_ones(version):
    r, seen = facts.release(version), set()
    for installer, by_tag in PRINTED[version].items():
        for tag, printed in by_tag.items():
            names = [n for n in ("torchvision", "torchaudio") if re.search(rf"\b{n}\b", printed)]
            p = planned(version, tag, {"torch": version, **{n: r.extra(n) for n in names}})
            mine = {"pip": commands.pip, "conda": commands.conda}[installer](p)
            page = re.sub("^pip3", "pip", printed).replace("PYTORCH_INDEX", facts.INDEX)
            why = {k for k in NOT_FOLLOWED if k[0] == version and k[1] in (installer, "*") and k[2] in (tag, "*")}
            seen |= why
            assert (mine == [page]) is (not why), (installer, tag, mine, page)
    assert seen == {k for k in NOT_FOLLOWED if k[0] == version}


def test_all_of_them_were_compared(): assert sum(len(by) for kinds in PRINTED.values() for by in kinds.values()) == 388


def fits(words: str, **machine) -> Plan:
    cuda = machine.pop("cuda", None)
    p = resolve(target(**{"python": "3.12", "os": "linux", **machine}), read(words.split(), cuda))
    assert isinstance(p, Plan), p
    return p


def test_uv():
    assert commands.uv(fits("torch==2.6 torchvision", gpu="RTX 4090")) == ["uv pip install torch==2.6.0 torchvision==0.21.0 --torch-backend=cu126"]
    assert commands.uv(fits("torch==2.6", os="macos")) == ["uv pip install torch==2.6.0"]
    old = fits("torch==1.13.1", python="3.10", gpu="V100", driver="470.57.02", cuda="11.6")
    assert commands.uv(old) == [f"uv pip install torch==1.13.1+cu116 --extra-index-url {facts.INDEX}/cu116"]


def test_a_project_binds_these_packages_and_no_others_to_the_index():
    text, add = commands.uv_project(fits("torch==2.6 torchvision", gpu="RTX 4090"))
    said = tomllib.loads(text)["tool"]["uv"]
    assert said["index"] == [{"name": "pytorch-cu126", "url": f"{facts.INDEX}/cu126", "explicit": True}] and add == "uv add torch==2.6.0 torchvision==0.21.0"
    assert set(said["sources"]) == {"torch", "torchvision"} and said["sources"]["torch"][0]["index"] == "pytorch-cu126"
    assert commands.uv_project(fits("torch==2.6", os="macos")) == ("", "uv add torch==2.6.0")
    assert tomllib.loads(commands.uv_project(fits("torch==2.9.1", cuda="rocm6.4"))[0])["tool"]["uv"]["sources"]["torch"][0] == {"index": "pytorch-rocm6-4", "marker": "sys_platform == 'linux'"}


def test_lines_of_a_file():
    assert commands.requirements_file(fits("torch==2.6 torchvision torchaudio triton", gpu="RTX 4090")) == [
        f"--extra-index-url {facts.INDEX}/cu126", "torch==2.6.0+cu126", "torchvision==0.21.0+cu126", "torchaudio==2.6.0+cu126", "triton==3.2.0"]
    assert commands.requirements_file(fits("torch==2.10.0", gpu="RTX 4090", cuda="12.8")) == ["torch==2.10.0"]                    # the package index's own build
    assert commands.requirements_file(fits("torch==2.14.1 triton", gpu="RTX 4090", cuda="cu130")) == ["torch==2.14.1", "triton~=3.8.0"]
    assert commands.requirements_file(fits("torch==1.9.1", python="3.9", gpu="V100", cuda="cu111"))[0] == f"--find-links {facts.INDEX}/torch_stable.html"


def test_another_build_is_replaced_and_nothing_else():
    """By its name where that holds the build; by installing all again where it doesn't."""
    assert commands.pip_instead(fits("torch==2.6 torchaudio", gpu="RTX 4090")) == ["pip install torch==2.6.0+cu126 torchaudio==2.6.0+cu126 --index-url https://download.pytorch.org/whl/cu126"]
    assert commands.pip_instead(fits("torch==2.6")) == ["pip install torch==2.6.0+cpu --index-url https://download.pytorch.org/whl/cpu"]
    assert commands.pip_instead(fits("torch==2.6", os="macos")) == ["pip install --force-reinstall torch==2.6.0"]
    assert commands.pip_instead(fits("torch==2.6", os="linux_aarch64")) == ["pip install --force-reinstall torch==2.6.0 --index-url https://download.pytorch.org/whl/cpu"]
    old = fits("torch==1.13.1 torchaudio", python="3.10", gpu="V100", driver="470.57.02", cuda="11.6")
    assert commands.pip_instead(old) == ["pip install torch==1.13.1+cu116 torchaudio==0.13.1 --extra-index-url https://download.pytorch.org/whl/cu116"]


def test_conda_ends():
    assert commands.conda(fits("torch==2.6")) == [] and commands.conda(fits("torch==2.5.1", gpu="RTX 4090")) == ["conda install pytorch==2.5.1 pytorch-cuda=12.4 -c pytorch -c nvidia"]
    assert commands.conda(fits("torch==2.5.1", os="linux_aarch64")) == [] and commands.conda(fits("torch==2.5.1", cuda="rocm6.2")) == []
    assert commands.conda_forge(fits("torch==2.9.1 torchvision", gpu="RTX 4090")) == ['conda install -c conda-forge "pytorch=2.9.1=cuda*" torchvision=0.24.1']
    assert commands.conda_forge(fits("torch==2.9.1")) == ['conda install -c conda-forge "pytorch=2.9.1=cpu*"']


def test_an_old_c_library_takes_the_package_indexs_own():
    p = fits("torch==2.6", gpu="T4", driver="535.54.03", glibc="2.17")
    assert p.tag == "cu124" and commands.pip(p) == ["pip install torch==2.6.0"]


@pytest.mark.parametrize("installer, expected", [("", '"/srv/my env/python" -m pip install torch==2.6.0'), ("uv", 'uv pip install --python "/srv/my env/python" torch==2.6.0')])
def test_they_are_bound_to_an_interpreter(installer, expected):
    assert commands.bound(["pip install torch==2.6.0"], "/srv/my env/python", installer) == [expected]
    assert commands.bound(["uv pip install torch", "conda install x"], "/p", installer) == ["uv pip install --python /p torch", "conda install x"]
