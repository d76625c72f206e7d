"""Compiled extensions against the installed torch, read and never loaded."""
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from forno_doctor import diagnose, elf
from forno_doctor.extensions import NEW_ABI, OLD_ABI, Examiner, plain
from forno_doctor.host import Host
from forno_doctor.packages import LIBRARY

from . import findings
from .machines import Machine
from .pe_file import dll

ADD, GONE = "_ZN2at4_ops3add4callE", "_ZN3c104impl3cow23materialize_cow_storageERNS_11StorageImplE"
ERROR = "_ZN3c105ErrorC1ENS_14SourceLocationE"
CUDA = "libc10.so", "libtorch_cpu.so", "libc10_cuda.so", "libtorch_cuda.so"
ADA = "NVIDIA GeForce RTX 4090", "8.9"
PIP = "/opt/app/bin/python -m pip install"


found, _ = findings.of("extensions")


def with_torch(folder, version="2.6.0+cu124", abi=NEW_ABI, **more):
    """torch whose libc10 says which C++ strings it was compiled with."""
    m = Machine(folder, **more).gpu(*ADA).torch(version, architectures=["7.5", "8.0"] if "cu" in version else ())
    return m.library(f"{m.site}/torch/lib/libc10.so", defined=[ERROR + abi]).library(f"{m.site}/torch/lib/libc10_cuda.so")


def test_an_extension_that_fits(tmp_path):
    """What torch doesn't have, but the package itself, the C library or Python, isn't missing."""
    m = with_torch(tmp_path).extension("flash-attn", "2.7.4", "flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so", undefined=[ADD, ERROR + NEW_ABI, "_ZN2at4mine1fEv", "malloc", "PyList_New"],
                                       codes=[("sass", 80)], more=["flash_attn/lib/libmine.so.1"])
    assert not found(m.library(f"{m.site}/flash_attn/lib/libmine.so.1", defined=["_ZN2at4mine1fEv"]))


def test_a_symbol_that_nobody_has(tmp_path):
    path = "flash_attn_2_cuda.cpython-312-x86_64-linux-gnu.so"
    m = with_torch(tmp_path).extension("flash-attn", "2.7.4.post1+cu12torch2.5", path, undefined=[ADD, GONE, ERROR + NEW_ABI])
    f = found(m)["extension-other-torch"]
    assert f.severity == "error" and f.data["symbol"] == "c10::impl::cow::materialize_cow_storage" and f.data["count"] == 1
    assert (f"{m.site}/{path}", GONE) in f.evidence and ("wheel", "flash_attn-2.7.4.post1+cu12torch2.6cxx11abiTRUE-cp312-cp312-linux_x86_64.whl") in f.evidence
    assert f.commands == [f"{PIP} --force-reinstall --no-deps --no-cache-dir --no-build-isolation flash-attn==2.7.4.post1"]


def test_other_cpp_strings(tmp_path):
    m = with_torch(tmp_path).extension("flash-attn", "2.7.4", "flash_attn_2_cuda.so", undefined=[ERROR.replace("C1", "C2") + OLD_ABI])
    f = found(m)["extension-other-abi"]
    assert f.data["abi"] == "old" and f.data["own"] == "new" and "cxx11abiTRUE" in f.evidence[-1][1]
    m = with_torch(tmp_path / "b", abi=OLD_ABI).extension("torch-scatter", "2.1.2", "torch_scatter/_scatter_cuda.so", undefined=[ERROR + NEW_ABI])
    assert found(m)["extension-other-abi"].data["own"] == "old"


def test_an_extension_for_cuda_with_a_cpu_build(tmp_path):
    m = Machine(tmp_path).torch("2.6.0+cpu").extension("torch-scatter", "2.1.2", "torch_scatter/_scatter_cuda.so", needed=CUDA, undefined=[ADD, "_ZN3c104cuda9GetDeviceEPa"])
    f = found(m)["extension-needs-cuda"]
    assert f.data["library"] == "libtorch_cuda.so" and f.commands[0].endswith("--no-build-isolation torch-scatter==2.1.2")


def test_what_a_package_goes_on_without_is_a_warning(tmp_path):
    m = with_torch(tmp_path).package("torchvision", "0.21.0", ["torch==2.6.0"], ["torchvision/image.so", "torchvision/_C.so"])
    m.library(f"{m.site}/torchvision/image.so", needed=CUDA, undefined=[GONE]).library(f"{m.site}/torchvision/_C.so", needed=CUDA, undefined=[ADD])
    f = found(m)["extension-other-torch"]
    assert f.severity == "warning" and f.commands == [f"{PIP} --force-reinstall --no-deps torchvision==0.21.0 --index-url https://download.pytorch.org/whl/cu124"]


def test_packages_whose_releases_are_bound_to_one_torch(tmp_path):
    m = with_torch(tmp_path).extension("xformers", "0.0.28", "xformers/_C.so", undefined=[GONE])
    assert found(m)["extension-other-torch"].commands == [f'{PIP} --upgrade xformers "torch==2.6.0+cu124" --index-url https://download.pytorch.org/whl/cu124']


def test_a_part_for_cuda_that_a_package_goes_on_without(tmp_path):
    """torchao's wheel has parts for CUDA; with a CPU build it leaves them aside."""
    m = Machine(tmp_path).torch("2.6.0+cpu").extension("torchao", "0.18.0", "torchao/_C_cutlass_90a.abi3.so", needed=CUDA, undefined=[ADD])
    assert found(m)["extension-needs-cuda"].severity == "note"


def test_a_package_that_has_ended(tmp_path):
    m = with_torch(tmp_path).extension("torchtext", "0.18.0", "torchtext/lib/libtorchtext.so", ["torch>=2.3.0"], undefined=[ERROR + OLD_ABI])
    f = found(m)["extension-ended"]
    assert f.data["own"] == "2.3" and f.commands == ["/opt/app/bin/python -m pip uninstall -y torchtext"]


def test_unpaired_packages_are_told_once(tmp_path):
    m = with_torch(tmp_path).extension("torchvision", "0.20.1", "torchvision/_C.so", ["torch==2.5.1"], undefined=[GONE])
    assert {f.id for f in diagnose(m.host()).findings if f.severity != "note"} == {"unpaired"}


def test_extensions_for_other_pythons_are_passed_over(tmp_path):
    assert not found(with_torch(tmp_path).extension("flash-attn", "2.7.4", "flash_attn_2_cuda.cpython-310-x86_64-linux-gnu.so", undefined=[GONE]))


def test_nothing_is_said_where_torch_can_not_be_read(tmp_path):
    m = with_torch(tmp_path).extension("flash-attn", "2.7.4", "flash_attn_2_cuda.so", undefined=[GONE])
    m.file(f"{m.site}/torch/lib/libtorch_cpu.so", "")._place(f"{m.site}/torch/lib/libtorch_cpu.so").unlink()
    assert not found(m)


def test_windows(tmp_path):
    """Exports and imports of DLLs, whose names Microsoft's compiler makes otherwise."""
    m, lib = Machine(tmp_path, system="windows").torch("2.6.0+cpu"), "/opt/app/lib/python3.12/site-packages/torch/lib"
    m.file(f"{lib}/c10.dll", dll("c10.dll", exports=["?what@Error@c10@@UEBAPEBDXZ"])).file(f"{lib}/torch_cpu.dll", dll("torch_cpu.dll", exports=["?add@at@@YA?AVTensor@1@XZ"]))

    def with_extension(*names):
        data = dll(needed=[("c10.dll", names), "KERNEL32.dll"])
        return found(m.package("torch-scatter", "2.1.2", ["torch"], [("torch_scatter/_scatter_cpu.pyd", data)]))
    assert not with_extension("?what@Error@c10@@UEBAPEBDXZ", "malloc")
    assert with_extension("?gone@Error@c10@@UEBAPEBDXZ")["extension-other-torch"].data["symbol"] == "c10::Error::gone"


# ---------------------------------------------------------------- GPU code
@pytest.mark.parametrize("codes, wrong", [([("sass", 90)], True), ([("sass", 80)], False), ([("sass", 90), ("ptx", 80)], False), ([], False)])
def test_gpu_code_of_extensions(tmp_path, codes, wrong):
    f = found(with_torch(tmp_path).extension("flash-attn", "2.7.4", "flash_attn_2_cuda.so", undefined=[ADD], codes=codes))
    assert ("extension-without-gpu-code" in f) is wrong
    if wrong: assert f["extension-without-gpu-code"].commands[0] == "export TORCH_CUDA_ARCH_LIST=8.9"


# ---------------------------------------------------------------- toolkits
def toolkit(m, version, path=None):
    path = path or f"/usr/local/cuda-{version}"
    return m.file(f"{path}/bin/nvcc").file(f"{path}/version.json", f'{{"cuda": {{"version": "{version}.1"}}}}')


def test_nvcc_of_another_major_version(tmp_path):
    m = toolkit(toolkit(with_torch(tmp_path), "11.8"), "12.4").environment(CUDA_HOME="/usr/local/cuda-11.8")
    f = found(m)["nvcc-other-major"]
    assert f.severity == "warning" and f.commands == ["export CUDA_HOME=/usr/local/cuda-12.4"]


def test_a_toolkit_that_nobody_points_at_is_a_note(tmp_path):
    assert not found(toolkit(with_torch(tmp_path), "11.8"))
    assert found(toolkit(with_torch(tmp_path / "b"), "11.8", "/usr/local/cuda"))["nvcc-other-major"].severity == "note"


def test_nvcc_of_the_same_major_version(tmp_path):
    assert found(toolkit(with_torch(tmp_path), "12.6", "/usr/local/cuda"))["nvcc-differs"].severity == "note"
    assert not found(toolkit(with_torch(tmp_path / "b"), "12.4", "/usr/local/cuda"))


# ---------------------------------------------------------------- reading
@pytest.mark.parametrize("symbol, text", [(GONE, "c10::impl::cow::materialize_cow_storage"), ("_ZNK5torch8autograd13SavedVariable6unpackEv", "torch::autograd::SavedVariable::unpack"),
                                          ("_ZTIN3c105ErrorE", "c10::Error"), ("aoti_torch_abi_version", "aoti_torch_abi_version"), ("_ZN999999999999x", "_ZN999999999999x")])
def test_names(symbol, text): assert plain(symbol) == text


def test_libraries_of_a_record():
    text = 'a/_C.so,sha256=x,1\na/b.py,,\n"a/with space.pyd",,2\n../../bin/x.so,,\na/lib/libz.so.1.2,,\na/c.so.txt,,\n'
    assert LIBRARY.findall(text) == ["a/_C.so", "a/with space.pyd", "../../bin/x.so", "a/lib/libz.so.1.2"]


def with_gnu_hash(names) -> bytes:
    """A library whose symbols are found by GNU's hash table, with one bucket; `names` are defined."""
    hashes = {}
    for n in names:
        h = 5381
        for c in n.encode(): h = (h * 33 + c) & 0xFFFFFFFF
        hashes[n] = h
    strings, at = b"\0", {}
    for n in names:
        at[n] = len(strings)
        strings += n.encode() + b"\0"
    table = struct.pack("<IIII", 1, 1, 1, 0) + b"\xff" * 8 + struct.pack("<I", 1) + b"".join(struct.pack("<I", hashes[n] & ~1 | (k == len(names) - 1)) for k, n in enumerate(names))
    symbols = b"\0" * 24 + b"".join(struct.pack("<IBBHQQ", at[n], 0x12, 0, 1, 0, 0) for n in names)
    places, offset, parts = {}, 64 + 2 * 56, []
    for key, data in ((5, strings), (6, symbols), (elf.GNU_HASH, table)):
        data += b"\0" * (-len(data) % 8)
        places[key] = offset
        offset += len(data)
        parts.append(data)
    dynamic = b"".join(struct.pack("<qQ", k, v) for k, v in places.items()) + b"\0" * 16
    end = offset + len(dynamic)
    segments = struct.pack("<IIQQQQQQ", 1, 5, 0, 0, 0, end, end, 4096) + struct.pack("<IIQQQQQQ", 2, 6, offset, offset, 0, len(dynamic), len(dynamic), 8)
    return b"\x7fELF\2\1\1" + b"\0" * 9 + struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0) + segments + b"".join(parts) + dynamic


def test_single_symbols_by_gnus_hash_table(tmp_path):
    data, place = with_gnu_hash(["one", "two", ADD]), tmp_path / "libx.so"
    place.write_bytes(data)
    assert elf.defined(place, {"two", ADD, "three"}) == {"two", ADD} and elf.read(place, symbols=True).symbols[0] == {"one", "two", ADD}
    for k in range(0, len(data), 3):                                                # broken in any place it ends with Broken, or with an answer
        place.write_bytes(data[:k] + b"\xff" + data[k + 1:])
        try: assert elf.defined(place, {"two", "three"}) <= {"two", "three"}
        except elf.Broken: pass


def test_a_real_torch_has_what_its_own_parts_ask_for():
    """torch's Python part against its other libraries: nothing is missing, and what isn't there is found out."""
    torch = find_spec("torch")
    if torch is None or torch.origin is None: pytest.skip("there is no torch")
    folder = f"{Path(torch.origin).parent}/lib"
    e = Examiner(Host(), [folder], f"{sys.version_info.major}.{sys.version_info.minor}")
    if not e.able: pytest.skip("its libraries lie elsewhere")
    lost, _ = e.symbols(f"{folder}/libtorch_python.so", [], False)
    assert not lost and e.abi in ("new", "old")
    assert Host().defines(f"{folder}/libc10.so", {GONE + "x", "_ZNK3c105Error4whatEv"}) == {"_ZNK3c105Error4whatEv"}


def test_the_doctor_stays_quick():
    """Half a second without a GPU is promised; a busy machine gets some more."""
    code = "import time; t = time.process_time(); from forno_doctor import diagnose; diagnose().as_data(); print(time.process_time() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert float(done.stdout) < 0.5, done.stdout + done.stderr
