"""Windows: which DLLs `import torch` would take, and what is missing."""
import json

import pytest

from forno_doctor import dlls
from forno_doctor.checks import dlls as checks
from forno_doctor.machine import Machine as Examined
from forno_doctor.words import Words

from .machines import Machine
from .pe_file import dll

PYTHON, SITE, SYSTEM = "C:/Python312", "C:/Python312/Lib/site-packages", "C:/Windows/System32"
RUNTIME = "vcruntime140.dll", "vcruntime140_1.dll", "msvcp140.dll"
LIB = f"{SITE}/torch/lib"


def plain(folder, version="2.6.0+cpu", runtime=RUNTIME, prefix=PYTHON, **environment) -> Machine:
    """Python of python.org with torch; `runtime`: what of the Visual C++ runtime Windows has."""
    m = Machine(folder, system="windows", environment={"PATH": "", "SystemRoot": "C:\\Windows", "ProgramFiles": "C:\\Program Files", **environment})
    m.about["python"] = f"{prefix}/Scripts/python.exe" if prefix != PYTHON else f"{PYTHON}/python.exe"
    m.says("python", json.dumps({"version": "3.12.4", "implementation": "CPython", "prefix": prefix, "base": PYTHON, "path": [SITE], "free": False, "bits": 64}))
    for name in ("python.exe", "python312.dll"): m.file(f"{PYTHON}/{name}", dll())
    for name in ("KERNEL32.dll", "dbghelp.dll", *runtime): m.file(f"{SYSTEM}/{name}", dll(name))
    m.file(f"{SITE}/torch/version.py", f"__version__ = '{version}'\ncuda = {'12.4' if 'cu' in version else None!r}\n".replace("None", "None")).package(
        "torch", version, files=["torch/version.py", "torch/lib/c10.dll", "torch/lib/fbgemm.dll", "torch/lib/asmjit.dll"], site=SITE)
    m.file(f"{LIB}/asmjit.dll", dll("asmjit.dll", needed=["KERNEL32.dll", "VCRUNTIME140.dll", "api-ms-win-crt-heap-l1-1-0.dll"]))
    m.file(f"{LIB}/c10.dll", dll("c10.dll", needed=["dbghelp.dll", "MSVCP140.dll", "VCRUNTIME140_1.dll"]))
    return m.file(f"{LIB}/fbgemm.dll", dll("fbgemm.dll", needed=["ASMJIT.DLL", "c10.dll"], delayed=["never.dll"])).file(f"{SITE}/torch/_C.cp312-win_amd64.pyd", dll("_C", needed=["c10.dll", "python312.dll"]))


def process(m) -> dlls.Process: return Examined(m.host()).dlls


def found(m) -> dict:
    machine = Examined(m.host())
    out = {f.id: f for check in checks.CHECKS for f in check(machine)}
    for f in out.values(): assert all([Words(language)(f"{f.id}.{part}", **f.data) for language in ("en", "zh") for part in ("title", "cause", "fix")])
    return out


def test_what_is_taken_and_why(tmp_path):
    p = process(plain(tmp_path))
    taken = {n: (f.rule, f.path) for n, f in p.loaded.items()}
    assert not p.lost and taken["asmjit.dll"] == ("path", f"{LIB}/asmjit.dll") and taken["dbghelp.dll"] == ("System32", f"{SYSTEM}/dbghelp.dll")
    assert taken["python312.dll"] == ("application", f"{PYTHON}/python312.dll") and "kernel32.dll" not in taken and "never.dll" not in taken


@pytest.mark.parametrize("places, rule", [
    (["torch", "application", "added", "system", "path"], "DLL folder"), (["application", "added", "system", "path"], "application"), (["added", "system", "path"], "add_dll_directory"),
    (["system", "path"], "System32"), (["windows", "path"], "Windows"), (["path"], "PATH"), ([], None)])
def test_folders_in_their_order(tmp_path, places, rule):
    folders = {"torch": LIB, "application": PYTHON, "added": f"{PYTHON}/Library/bin", "system": SYSTEM, "windows": "C:/Windows", "path": "D:/tools"}
    m = plain(tmp_path, PATH="D:\\none;D:\\tools\\").file(f"{LIB}/aaa.dll", dll("aaa.dll", needed=["Helper.dll"]))
    for place in places: m.file(f"{folders[place]}/helper.DLL", dll())
    p = process(m)
    f = p.loaded.get("helper.dll") or p.lost["helper.dll"]
    assert f.rule == rule and (rule is None or f.path == f"{folders[places[0]]}/helper.DLL")


def test_an_environment_runs_the_python_of_its_base(tmp_path):
    m = plain(tmp_path, prefix="D:/env").file("D:/env/pyvenv.cfg", "home = C:\\Python312\nversion = 3.12.4\n").file(f"{PYTHON}/Library/bin/libuv.dll", dll())
    p = process(m.file(f"{LIB}/uses.dll", dll("uses.dll", needed=["libuv.dll"])))
    assert p.own == PYTHON and p.loaded["python312.dll"].rule == "application" and p.loaded["libuv.dll"].rule == "add_dll_directory"


@pytest.mark.parametrize("own, rule", [(True, "DLL folder"), (False, "add_dll_directory")])
def test_a_toolkit_serves_where_torch_brought_no_cuda(tmp_path, own, rule):
    m = plain(tmp_path, "2.6.0+cu124", CUDA_PATH_V12_4="E:\\cuda").file("E:/cuda/bin/cudart64_12.dll", dll()).file(f"{LIB}/c10_cuda.dll", dll(needed=["cudart64_12.dll"]))
    if own: m.file(f"{LIB}/cudart64_12.dll", dll())
    p = process(m)
    assert p.loaded["cudart64_12.dll"].rule == rule and ("E:/cuda/bin" in p.added) is not own


@pytest.mark.parametrize("runtime", [(), ("vcruntime140.dll", "vcruntime140_1.dll"), ("vcruntime140.dll", "msvcp140.dll")])
def test_no_runtime(tmp_path, runtime):
    f = found(plain(tmp_path, runtime=runtime))["vc-runtime-missing"]
    assert f.severity == "error" and f.data["count"] == 3 - len(runtime) and f.commands == ["winget install --id Microsoft.VCRedist.2015+.x64"]
    assert all(where.startswith(LIB) for _, where in f.evidence)


def test_no_openmp(tmp_path):
    m = plain(tmp_path, "2.4.0+cpu").file(f"{LIB}/fbgemm.dll", dll("fbgemm.dll", needed=["libomp140.x86_64.dll"]))
    f = found(m)["libomp-missing"]
    assert f.data["by"] == "fbgemm.dll" and len(f.commands) == 1 and f.commands[0].startswith(f"{PYTHON}/python.exe -m pip install --force-reinstall torch==2.")
    assert not found(m.file(f"{SYSTEM}/libomp140.x86_64.dll", dll()))


def test_a_file_that_is_gone(tmp_path):
    m = plain(tmp_path)
    (tmp_path / "C/Python312/Lib/site-packages/torch/lib/asmjit.dll").unlink()
    f = found(m)["dll-missing"]
    assert f.data["library"] == "asmjit.dll" and "--force-reinstall torch==2.6.0" in f.commands[0]
    other = found(m.file(f"{LIB}/asmjit.dll", dll()).file(f"{LIB}/plug.dll", dll(needed=["elsewhere.dll"])))["dll-missing"]
    assert other.data["library"] == "elsewhere.dll" and not other.commands


@pytest.mark.parametrize("change", [lambda m: m, lambda m: m.file(f"{LIB}/caffe2_nvrtc.dll", dll(needed=["nvcuda.dll"])), lambda m: m.file(f"{LIB}/cut.dll", b"MZ")])
def test_nothing_is_wrong(tmp_path, change): assert found(change(plain(tmp_path))) == {}


def test_nothing_is_known_of_windows(tmp_path):
    """No System32 to be seen: no guess."""
    assert found(Machine(tmp_path, system="windows").torch("2.6.0+cpu").file("/opt/app/lib/python3.12/site-packages/torch/lib/c10.dll", dll(needed=["vcruntime140.dll"]))) == {}


def test_copies(tmp_path):
    """Every CUDA library that could be meant, with the toolkit's versions; torch's own have none that can be read."""
    m = plain(tmp_path, "2.6.0+cu124", PATH="D:\\cuda\\bin").file("D:/cuda/bin/cudart64_110.dll", dll()).file("D:/cuda/version.json", json.dumps({"cuda_cudart": {"version": "11.8.89"}}))
    for name in "cudart64_12.dll", "cudnn64_9.dll", "nvrtc64_120_0.dll": m.file(f"{LIB}/{name}", dll(name))
    copies = {(c.kind, c.major): c for c in Examined(m.host()).copies}
    assert set(copies) == {("cudart", "12"), ("cudart", "11"), ("cudnn", "9"), ("nvrtc", "12")}
    assert (copies["cudart", "11"].version, copies["cudart", "11"].rule) == ("11.8.89", None) and (copies["cudnn", "9"].version, copies["cudnn", "9"].rule) == (None, "path")
