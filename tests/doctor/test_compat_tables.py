"""The script that keeps the table of releases reads pip's lists, wheels' metadata and pytorch's build scripts, fills holes, and never changes what stands there."""
import copy
import json
import subprocess
import sys

import pytest

from forno_doctor import facts

from tools import compat_tables as tool

HOST = "https://files.example/packages"


def link(name, requires=">=3.10", found=True, note=""):
    start = "  Found link" if found else "  Skipping link: none of the wheel's tags (x) are compatible (run pip debug --verbose to show compatible tags):"
    return f"{start} {HOST}/aa/{name} (from {HOST}/torch/) (requires-python:{requires}){note}"


LISTING = "\n".join([
    "torch (9.1.0)", "Available versions: 9.1.0, 9.0.0",
    link("torch-9.1.0-cp311-cp311-manylinux_2_28_x86_64.whl"), link("torch-9.1.0-2-cp312-cp312-manylinux_2_28_x86_64.whl", found=False), link("torch-9.1.0-cp313-cp313t-manylinux_2_28_x86_64.whl", found=False),
    link("torch-9.1.0-cp311-cp311-manylinux_2_28_aarch64.whl", found=False), link("torch-9.1.0-cp311-cp311-win_amd64.whl", found=False), link("torch-9.1.0-cp311-none-macosx_14_0_arm64.whl", found=False),
    link("torch-9.0.0-cp310-cp310-manylinux2014_x86_64.whl", ">=3.9", False), link("torch-9.0.0rc1-cp310-cp310-manylinux2014_x86_64.whl", ">=3.9", False),
    "  Found link file:///srv/files/torch-9.3.0-cp311-cp311-manylinux_2_28_x86_64.whl#sha256=00 (from file:///srv/simple/torch/), version: 9.3.0",
    link("torch-9.1.0%2Bcpu-cp311-cp311-linux_x86_64.whl"), link("torch-9.2.0-cp311-cp311-win_amd64.whl", note=", yanked for reason: broken"), link("torchvision-1.0-cp311-cp311-win_amd64.whl")])
METADATA = {"requires_python": ">=3.10", "requires_dist": [
    "filelock", "cuda-toolkit[cublas,cudart]==13.2.2; platform_system == \"Linux\"", "nvidia-cudnn-cu13==9.26.0.51; platform_system == \"Linux\"", "nvidia-nccl-cu13==2.30.7; platform_system == \"Linux\"",
    "triton~=3.9.0; platform_system == \"Linux\" and python_version < \"3.16\""]}
OLDER = {"requires_dist": ["nvidia-cuda-runtime-cu12 (==12.1.105) ; platform_system == \"Linux\" and platform_machine == \"x86_64\"", "nvidia-cudnn-cu12 (==8.9.2.26) ; platform_system == \"Linux\" and platform_machine == \"x86_64\"",
                           "triton (==2.2.0) ; platform_system == \"Linux\" and platform_machine == \"x86_64\" and python_version < \"3.12\""]}
SCRIPT = '''
TORCH_CUDA_ARCH_LIST_TABLE: dict[str, dict[str, set[int]]] = {
    "12.6": {"x86_64": {50, 90, 60}, "aarch64": {80, 90}},
    "13.2": {"x86_64": {75, 100, 120}, "aarch64": {80, 110}},
}
_PTX_ARCHES: set[int] = {120}
def f(): raise SystemExit("this was run")
raise SystemExit("this was run")
'''
SHELL = '''
TORCH_CUDA_ARCH_LIST="5.0;6.0;7.0;7.5;8.0;8.6"
case ${CUDA_VERSION} in
    #removing sm_50
    12.8|12.9)
        TORCH_CUDA_ARCH_LIST="7.5;8.0;12.0+PTX" # remarks
        ;;
    12.6)
        TORCH_CUDA_ARCH_LIST="${TORCH_CUDA_ARCH_LIST};9.0"
        if [[ "$PACKAGE_TYPE" == "libtorch" ]]; then
            export TORCH_NVCC_FLAGS="${TORCH_NVCC_FLAGS} --compress-mode=default"
        fi
        ;;
    12.4)
        TORCH_CUDA_ARCH_LIST="${TORCH_CUDA_ARCH_LIST//7.0;/}"
        ;;
    12.1)
        if [[ "$X" == "y" ]]; then
            TORCH_CUDA_ARCH_LIST="1.0"
        fi
        ;;
    11.8)
        TORCH_CUDA_ARCH_LIST="$(compute)"
        ;;
    12.5) TORCH_CUDA_ARCH_LIST="4.0;${TORCH_CUDA_ARCH_LIST}" ;;
    11.[67]) TORCH_CUDA_ARCH_LIST="${TORCH_CUDA_ARCH_LIST};7.7" ;;
    13.0)
        TORCH_CUDA_ARCH_LIST="9.0;10.0;$([[ "$ARCH" == "aarch64" ]] && echo "11.0;" || echo "")12.0+PTX"
        ;;
    12.2) TORCH_CUDA_ARCH_LIST="${TORCH_CUDA_ARCH_LIST};12.0+PTX" # remarks
        if [[ "$PACKAGE_TYPE" == "libtorch" ]]; then
            TORCH_CUDA_ARCH_LIST="${TORCH_CUDA_ARCH_LIST//7.0;/}"  # remarks
        fi
        ;;
    13.9) TORCH_CUDA_ARCH_LIST='odd' ;;
    *)
        exit 1
        ;;
esac
TORCH_CUDA_ARCH_LIST="0.0"
'''
WINDOWS = 'TORCH_CUDA_ARCH_LIST_TABLE: dict[str, str] = {"126": "5.0;6.1", "132": "7.5;12.0"}'
MATRIX = '''
import os
CUDA_ARCHES = ["12.6", "13.2"]
CUDA_STABLE = "13.2"
PYTORCH_EXTRA_INSTALL_REQUIREMENTS: dict[str, str] = {
    "12.6": ("nvidia-cuda-nvrtc-cu12==12.6.77; platform_system == 'Linux' | " "nvidia-cudnn-cu12==9.10.2.21; platform_system == 'Linux' | "),
    "13.2": ("cuda-toolkit[nvrtc]==13.2.2 | nvidia-nccl-cu13==2.30.7"),
    "xpu": ("intel-cmplr-lib-rt==2025.0.4"),
}
OTHER = os.environ
'''


@pytest.fixture
def table(): return {"as_of": "2026-01-01", "sources": [], "count": 1, "releases": [copy.deepcopy(next(r.row for r in facts.releases() if str(r.version) == "2.6.0"))]}


def test_lists_of_files():
    found = tool.wheels(LISTING)
    assert set(found) == {"9.1.0", "9.0.0", "9.0.0rc1"}, "no local builds, no files of this machine, nothing yanked"
    row = tool.python_row(found["9.1.0"])
    assert row == {"requires": ">=3.10", "min": "3.11", "max": "3.13", "linux_x86_64_wheels": "3.11 3.12 3.13t", "same_on": [],
                   "other_platforms": {"linux_aarch64": "3.11", "macos_arm64": "3.11", "windows_x86_64": "3.11"}}
    assert tool.linux_tags(found["9.1.0"]) == ({"linux_aarch64": ["manylinux_2_28"], "linux_x86_64": ["manylinux_2_28"]}, {"linux_aarch64": "2.28", "linux_x86_64": "2.28"})
    assert tool.linux_tags(found["9.0.0"])[1] == {"linux_x86_64": "2.17"} and list(tool.wheels(LISTING, "torchvision")) == ["1.0"]


@pytest.mark.parametrize("python, abi, version", [("cp27", "cp27mu", "2.7"), ("cp37", "cp37m", "3.7"), ("cp313", "cp313t", "3.13t"), ("cp312", "abi3", "3.12+"), ("py3", "none", "py3"), ("cp35", "none", "3.5")])
def test_tags(python, abi, version): assert tool.python_of(python, abi) == version


def test_tags_of_platforms():
    assert [tool.platform_of(t) for t in ("manylinux1_x86_64", "manylinux_2_28_aarch64", "win_amd64", "macosx_10_9_x86_64", "macosx_11_0_arm64", "musllinux_1_1_x86_64", "win32", "manylinux2014_s390x")] == [
        "linux_x86_64", "linux_aarch64", "windows_x86_64", "macos_x86_64", "macos_arm64", None, None, None]


def test_metadata():
    assert tool.from_metadata(METADATA) == {"requires": ">=3.10", "pypi_default_cuda": "13.2", "cuda_toolkit": "13.2.2", "cudnn": "9.26.0.51", "nccl": "2.30.7", "triton": "~=3.9.0",
                                            "triton_where": "linux, python<3.16", "pypi_linux_aarch64": "cuda"}
    old = tool.from_metadata(OLDER)
    assert (old["pypi_default_cuda"], old["cudnn"], old["triton"], old["triton_where"], old["pypi_linux_aarch64"]) == ("12.1", "8.9.2.26", "2.2.0", "linux x86_64, python<3.12", "cpu")
    assert tool.from_metadata({}) == {}
    assert [tool.pin_of({"requires_dist": [x]}) for x in ("torch==2.6.0", "torch (==2.1.0)", "torch>=2.14.0", "torch", "torchvision==1", "numpy")] == ["==2.6.0", "==2.1.0", ">=2.14.0", "", "", ""]


def test_build_scripts_are_parsed_and_not_run():
    assert tool.lists_in_python(SCRIPT) == {("12.6", "x86_64"): "5.0;6.0;9.0", ("12.6", "aarch64"): "8.0;9.0", ("13.2", "x86_64"): "7.5;10.0;12.0+PTX", ("13.2", "aarch64"): "8.0;11.0"}
    assert tool.lists_in_shell(SHELL) == {("12.8", "x86_64"): "7.5;8.0;12.0+PTX", ("12.9", "x86_64"): "7.5;8.0;12.0+PTX", ("12.6", "x86_64"): "5.0;6.0;7.0;7.5;8.0;8.6;9.0",
                                          ("12.4", "x86_64"): "5.0;6.0;7.5;8.0;8.6", ("12.1", "x86_64"): None, ("11.8", "x86_64"): None,
                                          ("12.5", "x86_64"): "4.0;5.0;6.0;7.0;7.5;8.0;8.6", ("11.6", "x86_64"): "5.0;6.0;7.0;7.5;8.0;8.6;7.7",
                                          ("11.7", "x86_64"): "5.0;6.0;7.0;7.5;8.0;8.6;7.7", ("13.0", "x86_64"): "9.0;10.0;12.0+PTX", ("13.9", "x86_64"): None,
                                          ("12.2", "x86_64"): "5.0;6.0;7.0;7.5;8.0;8.6;12.0+PTX"}
    assert tool.lists_in_python(WINDOWS) == {("12.6", "windows"): "5.0;6.1", ("13.2", "windows"): "7.5;12.0"}
    release = tool.lists_in_python(SCRIPT + "def _is_release_build(): return True")
    assert release["13.2", "x86_64"] == "7.5;10.0;12.0", "releases leave PTX out"
    assert tool.builds_in_matrix(MATRIX) == {"12.6": "9.10.2.21", "13.2": None}
    assert tool.lists_in_shell("") == {} and tool.lists_in_python("") == {} and tool.builds_in_matrix("") == {}


def test_a_new_release_is_added_and_the_rest_stays(table):
    before = copy.deepcopy(table)
    lists = lambda v: (tool.builds_in_matrix(MATRIX), tool.lists_in_python(SCRIPT))
    p = tool.propose(table, {"9.1.0": tool.wheels(LISTING)["9.1.0"]}, lambda v, python: METADATA if (v, python) == ("9.1.0", "3.13") else None, lists,
                     lambda v: {"torchvision": "1.1", "torchvision_pin": f"=={v}", "torchvision_wheels": "3.11"})
    assert table == before and p.added == ["9.1.0"] and p.table["count"] == 2
    r = p.table["releases"][-1]
    assert (r["version"], r["torchvision"], r["torchaudio"], r["pypi_default_cuda"], r["triton"], r["released"], r["numpy2"]["linux"]) == ("9.1.0", "1.1", None, "13.2", "~=3.9.0", None, None)
    assert [(b["tag"], b.get("pypi_default", False), b["cudnn"], b["sm_linux_x86_64"], b.get("sm_linux_aarch64"), b["sm_windows"]) for b in r["cuda"]] == [
        ("cu126", False, "9.10.2.21", "5.0;6.0;9.0", "8.0;9.0", None), ("cu132", True, "9.26.0.51", "7.5;10.0;12.0+PTX", "8.0;11.0", None)]
    assert any("released" in x and "NumPy 2" in x for x in p.review) and any("RELEASE.md" in x for x in p.review)
    release = facts.Release(r)
    assert release.pythons("linux_x86_64") == {"3.11", "3.12", "3.13t"} and release.default().tag == "cu132", "the doctor reads what the script writes"


def test_holes_are_filled_and_other_differences_only_told(table):
    row = table["releases"][0]
    row["python"]["linux_x86_64_wheels"] = "3.9"
    row["cuda"][1]["sm_linux_x86_64"] = row["nccl"] = None
    tags = row["linux_tag"]
    found = {"2.6.0": [tool.Wheel("2.6.0", "3.9", "linux_x86_64", "manylinux1_x86_64", ">=3.9.0"), tool.Wheel("2.6.0", "3.10", "linux_x86_64", "manylinux1_x86_64", ">=3.9.0")]}
    p = tool.propose(table, found, None, lambda v: ({}, {("12.4", "x86_64"): "5.0;9.0", ("11.8", "x86_64"): "1.1"}))
    new = p.table["releases"][0]
    assert not p.added and ("2.6.0", "cu124.sm_linux_x86_64", "5.0;9.0") in p.filled and new["cuda"][1]["sm_linux_x86_64"] == "5.0;9.0"
    assert new["cuda"][0]["sm_linux_x86_64"] == row["cuda"][0]["sm_linux_x86_64"] and new["python"] == row["python"] and new["linux_tag"] == tags
    assert ("2.6.0", "python.linux_x86_64", "3.9", "3.9 3.10") in p.differs and any("the table says '3.9'" in x for x in p.review)


def test_unknown_cuda_and_capabilities_are_for_a_person(table):
    p = tool.propose(table, {"9.1.0": tool.wheels(LISTING)["9.1.0"]}, None, lambda v: ({"14.9": None}, {("14.9", "x86_64"): "9.0;19.0"}))
    assert any("CUDA 14.9 has no row" in x for x in p.review) and any("19.0" in x for x in p.review)


def test_the_table_is_written_as_it_stands():
    text = tool.TABLE.read_text(encoding="utf-8")
    assert tool.rendered(json.loads(text)) == text


def test_all_or_nothing_is_written(tmp_path):
    place = tmp_path / "t.json"
    place.write_text("{}")
    with pytest.raises(ValueError): tool.write(place, "{broken")
    assert place.read_text() == "{}" and [p.name for p in tmp_path.iterdir()] == ["t.json"]
    tool.write(place, '{"a": 1}')
    assert json.loads(place.read_text()) == {"a": 1} and [p.name for p in tmp_path.iterdir()] == ["t.json"]


@pytest.fixture
def checkout(tmp_path):
    git = lambda *a: subprocess.run(["git", "-C", str(tmp_path / "pytorch"), "-c", "user.name=n", "-c", "user.email=n@example", *a], check=True, capture_output=True)
    for path, text in ((".ci/manywheel/build_env_setup.py", SCRIPT), (".ci/pytorch/windows/build_env_setup.py", WINDOWS), (".ci/manywheel/build_cuda.sh", SHELL), (".github/scripts/generate_binary_build_matrix.py", MATRIX)):
        place = tmp_path / "pytorch" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "release")
    git("tag", "v9.1.0")
    return tmp_path / "pytorch"


def test_offline_with_a_checkout(tmp_path, table, checkout, capsys):
    place, listing = tmp_path / "torch.json", tmp_path / "listing.txt"
    place.write_text(json.dumps(table))
    listing.write_text(LISTING)
    assert tool.main(["--table", str(place), "--listing", str(listing), "--pytorch", str(checkout), "--write"]) == 1
    said = capsys.readouterr().out
    assert "new releases: 9.0.0, 9.1.0" in said and "not done: metadata of torch 9.1.0" in said and "not done: architectures of torch 9.0.0" in said
    assert "CUDA 12.1, x86_64: written in a way that a person must read" in said
    written = json.loads(place.read_text())
    assert {b["tag"]: b["sm_windows"] for b in written["releases"][-1]["cuda"]} == {"cu126": "5.0;6.1", "cu132": "7.5;12.0"}
    assert {b["tag"]: b["sm_linux_x86_64"] for b in written["releases"][-1]["cuda"]} == {"cu126": "5.0;6.0;9.0", "cu132": "7.5;10.0;12.0+PTX"}
    assert written["releases"][0] == table["releases"][0]


def test_without_a_list_nothing_is_proposed(tmp_path, table, capsys, monkeypatch):
    place, listing = tmp_path / "torch.json", tmp_path / "listing.txt"
    place.write_text(json.dumps(table))
    listing.write_text("ERROR: No matching distribution found for torch\n")
    assert tool.main(["--table", str(place), "--listing", str(listing), "--write"]) == 2 and json.loads(place.read_text()) == table
    monkeypatch.setattr(tool, "listing", lambda package: tool.Asked(None, "no network"))
    assert tool.main(["--table", str(place)]) == 2 and "no network" in capsys.readouterr().err


def test_programs_that_hang_or_are_missing(monkeypatch):
    monkeypatch.setattr(tool, "SECONDS", 0.3)
    assert "no answer" in tool.ask(sys.executable, "-c", "import time; time.sleep(9)").why and tool.ask("no-such-program-here").text is None
    assert tool.ask(sys.executable, "-c", "import sys; print('x', file=sys.stderr); sys.exit(3)") == tool.Asked(None, "x")


def test_a_report_that_cant_be_read(monkeypatch):
    for text in ("", "no json", '{"install": []}', '{"install": [{"metadata"'):
        monkeypatch.setattr(tool, "pip", lambda *a, text=text: tool.Asked(text))
        assert tool.metadata("torch", "9.1.0", "3.12")[0] is None
    monkeypatch.setattr(tool, "pip", lambda *a: tool.Asked('WARNING: slow\n{"install": [{"metadata": {"name": "torch"}}]}\n'))
    assert tool.metadata("torch", "9.1.0", "3.12") == ({"name": "torch"}, "")
