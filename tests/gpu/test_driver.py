"""The driver's table: every declaration is CUDA's own, every code becomes an error, and every way of having no driver is one clear sentence."""
import ctypes
import functools
import glob
import os
import pickle
import re
import shutil
import subprocess
import sys
from uuid import UUID

import pytest

from forno import gpu
from forno.core.errors import OutOfMemoryError
from forno.gpu import chips, errors, nvml, prototypes, sim, visible
from forno.gpu.driver import Driver, resolve, start
from forno.gpu.errors import CudaError, Missing
from forno.gpu.prototypes import INPUT, PROTOTYPES
from tests.laws.tree import ROOT

HEADERS = sorted(glob.glob("/usr/local/cuda*/include/cudaTypedefs.h") + glob.glob(os.path.join(os.environ.get("CUDA_HOME", "/nowhere"), "include/cudaTypedefs.h")))


@functools.cache
def typedefs() -> str: return "".join(open(p, encoding="utf-8").read() for p in (HEADERS[-1], HEADERS[-1].replace("cudaTypedefs", "cudaProfilerTypedefs")))


headers = pytest.mark.skipif(not HEADERS, reason="needs CUDA's headers (cudaTypedefs.h in CUDA_HOME or /usr/local/cuda)")


# ---------------------------------------------------------------- the table
def kind(declared: str) -> str:
    """A C argument as the table's type, without whether it goes out."""
    text = re.sub(r"\b(const|struct)\b", "", declared).strip()
    stars = text.count("*")
    base = re.sub(r"\w+$", "", text.replace("*", " ").strip()).strip() if not stars else text.replace("*", " ").split()[0]
    if stars: return "pointer"
    base = base.strip()
    if base in ("CUdeviceptr", "CUdeviceptr_v2"): return "address"
    if base in ("size_t",): return "size"
    if base in ("unsigned long long", "cuuint64_t", "CUmemGenericAllocationHandle", "CUmemGenericAllocationHandle_v1", "CUgraphConditionalHandle"): return "u64"
    if base in ("unsigned int", "cuuint32_t"): return "uint"
    if base == "unsigned char": return "u8"
    if base == "unsigned short": return "u16"
    if base in ("CUcontext CUstream CUevent CUmodule CUfunction CUkernel CUlibrary CUlinkState CUgraph CUgraphNode CUgraphExec CUmemoryPool").split(): return "handle"
    if base == "CUhostFn": return "pointer"
    if base in ("CUipcMemHandle_v1", "CUipcEventHandle_v1"): return "ipc"
    if base.startswith(("int", "CUdevice", "CUresult", "CUlimit", "CUjit", "CUfunction_attribute", "CUpointer_attribute", "CUmem", "CUtensorMap", "CUstreamCapture", "CUmulticast")):
        return "int"
    raise AssertionError(f"unknown C type {declared!r}")


def expected(prototype) -> list[str]:
    out = []
    for a in prototype.arguments:
        if a.type == "chars": out += ["pointer", "int"]
        else: out.append("pointer" if a.out or a.type in ("ptr", "text") else a.type)
    return out


@headers
@pytest.mark.parametrize("name", PROTOTYPES)
def test_declarations_are_cudas(name):
    """Types in C's order, for just the version that is asked for."""
    text = typedefs()
    found = re.search(rf"PFN_cu{name}_v{PROTOTYPES[name].version}\)\(([^;]*)\)\s*;", text)
    assert found, f"cu{name} has no version {PROTOTYPES[name].version}: {re.findall(rf'PFN_cu{name}_v([0-9]+)[)]', text)}"
    declared = [] if found.group(1).strip() == "void" else [kind(a) for a in found.group(1).split(",")]
    assert declared == expected(PROTOTYPES[name])


POINTEES = {"int": "int", "uint": "unsigned int", "u64": "cuuint64_t|unsigned long long|CUmemGenericAllocationHandle|CUgraphConditionalHandle|void", "size": "size_t",
            "address": "CUdeviceptr", "float": "float", "text": r"char \*", "chars": "char", "uuid": "CUuuid", "ipc": "CUipc(Mem|Event)Handle", "ptr": r"void \*|const CUgraphNode \*",
            "handle": "CUcontext|CUstream|CUevent|CUmodule|CUfunction|CUkernel|CUlibrary|CUlinkState|CUgraph|CUmemoryPool"}


@headers
@pytest.mark.parametrize("name", [n for n, p in PROTOTYPES.items() if p.outputs])
def test_outputs_are_cudas(name):
    """What C writes has the size that Python reads."""
    text = typedefs()
    declared = re.search(rf"PFN_cu{name}_v{PROTOTYPES[name].version}\)\(([^;]*)\)\s*;", text).group(1).split(",")
    at = 0
    for a in PROTOTYPES[name].arguments:
        if a.out:
            fits = re.search(POINTEES[a.type], declared[at]) or (a.type == "int" and re.search(r"CUdevice|CUstreamCaptureStatus|CUgraphNodeType|CUdriverProcAddress", declared[at]))
            assert fits, (a, declared[at])
        at += 2 if a.type == "chars" else 1


SIZES = dict(LaunchConfig=56, LaunchAttribute=72, Memcpy2D=128, Memcpy3D=200, MemLocation=8, AllocationProp=32, AccessDesc=12, PoolProps=88, MulticastProp=32, TensorMap=128,
             KernelNodeParams=72, MemcpyNodeParams=216, MemsetNodeParams=48, HostNodeParams=16, ChildGraphParams=16, ConditionalParams=32, NodeParams=256, ExecUpdateResult=24)


@pytest.mark.parametrize("name", SIZES)
def test_structures_have_cs_sizes(name): assert ctypes.sizeof(getattr(prototypes, name)) == SIZES[name]


OFFSETS = [("LaunchConfig", "stream", 32), ("LaunchConfig", "attributes", 40), ("LaunchAttribute", "value", 8), ("Memcpy2D", "tox", 56), ("Memcpy2D", "width", 112),
           ("Memcpy3D", "tox", 88), ("Memcpy3D", "width", 176), ("AllocationProp", "win32", 16), ("AllocationProp", "flags", 24), ("PoolProps", "maximum", 24),
           ("PoolProps", "usage", 32), ("KernelNodeParams", "shared", 32), ("KernelNodeParams", "params", 40), ("MemcpyNodeParams", "copy", 16),
           ("NodeParams", "members", 16), ("ExecUpdateResult", "node", 8), ("MemsetNodeParams", "width", 24)]


@pytest.mark.parametrize("name, field, at", OFFSETS)
def test_fields_lie_where_c_has_them(name, field, at): assert getattr(getattr(prototypes, name), field).offset == at


def test_tensor_maps_are_aligned():
    assert all(ctypes.addressof(prototypes.TensorMap.aligned()) % 64 == 0 for _ in range(20))


def test_prototypes_print_as_they_are_called():
    assert str(PROTOTYPES["MemGetInfo"]) == "free, total = MemGetInfo()"
    assert str(PROTOTYPES["StreamQuery"]) == "ready = StreamQuery(stream)"
    assert str(PROTOTYPES["MemFree"]) == "MemFree(at)"


def test_the_floor_is_cuda_12():
    """Only what the driver's methods say so themselves needs more."""
    assert {n for n, p in PROTOTYPES.items() if p.version > 12000} == {
        "MulticastCreate", "MulticastAddDevice", "MulticastBindMem", "MulticastGetGranularity", "GraphAddNode", "GraphConditionalHandleCreate"}


# ---------------------------------------------------------------- methods, over a table made by hand
class Fake:
    """C functions made of Python ones: name -> function(*C arguments) -> code. Exports cuGetProcAddress_v2 as a driver does."""

    def __init__(self, version=12020, devices=2, init=0, **functions):
        def put(at, value, kind=ctypes.c_int): ctypes.cast(at, ctypes.POINTER(kind))[0] = value

        def version_of(at): return put(at, version) or 0
        def count(at): return put(at, devices) or 0
        self.put, self.asked = put, []
        self.keep, self.table = [], {}
        for name, f in ({"DriverGetVersion": version_of, "Init": lambda flags: init, "DeviceGetCount": count} | functions).items(): self.add(name, f)

    def add(self, name, f):
        types = []
        for a in PROTOTYPES[name].arguments: types += [ctypes.c_size_t, ctypes.c_int] if a.type == "chars" else [ctypes.c_size_t if a.out or a.type in ("ptr", "text", "handle") else INPUT[a.type]]
        thunk = ctypes.CFUNCTYPE(ctypes.c_int, *types)(f)
        self.keep.append(thunk)
        self.table[name] = ctypes.cast(thunk, ctypes.c_void_p).value

    def symbol(self, name):
        """dlsym"""
        if name == "cuDriverGetVersion": return self.table["DriverGetVersion"]
        if name != "cuGetProcAddress_v2": return 0

        def by_name(symbol, out, version, flags, status):
            name = ctypes.string_at(symbol).decode()[2:]
            self.asked.append((name, version, flags))
            self.put(out, self.table.get(name, 0), ctypes.c_size_t)
            self.put(status, 0 if name in self.table else 1)
            return 0 if name in self.table else 500
        thunk = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_int, ctypes.c_uint64, ctypes.c_size_t)(by_name)
        self.keep.append(thunk)
        return ctypes.cast(thunk, ctypes.c_void_p).value

    def driver(self): return start(self.symbol)


def test_outputs_are_returned():
    fake = Fake()

    def info(free, total):
        fake.put(free, 5, ctypes.c_size_t)
        fake.put(total, 7 << 33, ctypes.c_size_t)
        return 0

    def alloc(out, nbytes):
        fake.put(out, 0xFFF0_0000_0000_0000 + nbytes, ctypes.c_uint64)
        return 0

    def name(out, size, device):
        ctypes.memmove(out, b"GPU %d\0" % device, 6)
        return 0

    def elapsed(out, a, b):
        fake.put(out, 1.5, ctypes.c_float)
        return 0
    for n, f in (("MemGetInfo", info), ("MemAlloc", alloc), ("DeviceGetName", name), ("EventElapsedTime", elapsed)): fake.add(n, f)
    d = fake.driver()
    assert d.MemGetInfo() == (5, 7 << 33)
    assert d.MemAlloc(64) == 0xFFF0_0000_0000_0040
    assert d.DeviceGetName(3) == "GPU 3"
    assert d.EventElapsedTime(1, 2) == 1.5
    assert d.version == 12020 and "12.2" in repr(d)
    with pytest.raises(TypeError, match="1 arguments, not 2"): d.DeviceGetName(3, 4)
    with pytest.raises((TypeError, ctypes.ArgumentError)): d.MemAlloc(64, 1)
    with pytest.raises((TypeError, ctypes.ArgumentError)): d.MemAlloc("much")


def test_queries_answer():
    codes = iter((600, 0, 700))
    d = Fake(StreamQuery=lambda stream: next(codes)).driver()
    assert d.StreamQuery(None) is False and d.StreamQuery(0) is True
    with pytest.raises(CudaError, match="illegal memory access") as e: d.StreamQuery(0)
    assert e.value.code == 700 and e.value.function == "StreamQuery" and e.value.sticky


def test_every_code_has_a_name_and_a_cause():
    for code in errors.CODES.values():
        name, text, hint = errors.described(code)
        assert name.startswith("CUDA_") and text
        if code: assert name in str(errors.error("X", code))
    e = errors.error("MemAlloc", 2)
    assert isinstance(e, OutOfMemoryError) and isinstance(e, CudaError) and "out of memory" in str(e) and not e.sticky
    assert "4242" in str(errors.error("X", 4242))
    again = pickle.loads(pickle.dumps(errors.error("LaunchKernel", 719)))
    assert again.code == 719 and again.function == "LaunchKernel" and str(again) == str(errors.error("LaunchKernel", 719))


@headers
def test_codes_are_cudas():
    text = open(HEADERS[-1].replace("cudaTypedefs.h", "cuda.h"), encoding="utf-8").read()
    theirs = {n: int(v) for n, v in re.findall(r"\bCUDA_ERROR_(\w+)\s*=\s*(\d+)", text)}
    ours = {n: c for n, c in errors.CODES.items() if n not in ("SUCCESS", "INSUFFICIENT_DRIVER")}          # 35 is the runtime's alone
    assert {n: theirs.get(n) for n in ours} == ours
    device = {int(v) for v in re.findall(r"CU_DEVICE_ATTRIBUTE_\w+\s*=\s*(\d+)", text)}
    assert set(prototypes.DEVICE.values()) <= device
    for ours, prefix in ((prototypes.DEVICE["optin_shared"], "CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"), (prototypes.FUNCTION["dynamic_shared"], "CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES"),
                         (prototypes.POINTER["device"], "CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL"), (prototypes.NODE["conditional"], "CU_GRAPH_NODE_TYPE_CONDITIONAL"),
                         (prototypes.JIT["error_log"], "CU_JIT_ERROR_LOG_BUFFER"), (prototypes.LAUNCH["cluster"], "CU_LAUNCH_ATTRIBUTE_CLUSTER_DIMENSION")):
        assert int(re.search(rf"\b{prefix}\s*=\s*(\d+)", text).group(1)) == ours


def test_missing_functions_say_what_they_need():
    d = Fake(version=12000).driver()
    with pytest.raises(NotImplementedError, match=r"cuGraphAddNode needs a driver of CUDA 12\.2; this one is of 12\.0: install a newer"): d.GraphAddNode(1, None, 0, None)
    with pytest.raises(NotImplementedError, match=r"cuMemAlloc needs a driver of CUDA 3\.2; this one is of 12\.0: the driver should have it"): d.MemAlloc(8)
    with pytest.raises(NotImplementedError, match="cuLaunchKernel"): d.address("LaunchKernel")
    assert not d.has("LaunchKernel") and d.has("Init") and d.address("Init") == d.table["Init"]


def test_functions_are_asked_for_by_their_version():
    fake = Fake(version=12010)
    fake.driver()
    asked = {name: (version, flags) for name, version, flags in fake.asked}
    assert asked["MemAlloc"] == (3020, 1) and asked["StreamGetCaptureInfo"] == (11030, 1) and asked["MulticastCreate"] == (12010, 1)
    assert "GraphAddNode" not in asked and "GraphConditionalHandleCreate" not in asked


# ---------------------------------------------------------------- no driver: one sentence
@pytest.mark.parametrize("fake, says", [
    (dict(version=11080), "speaks CUDA 11.8, forno needs 12.0"),
    (dict(init=803), "kernel module are of different versions"),
    (dict(init=804), "cuda-compat"),
    (dict(init=35), "insufficient.*525 or later"),
    (dict(init=34), "stub for linking"),
    (dict(init=802), "fabricmanager"),
    (dict(init=46), "exclusive mode"),
    (dict(init=100), "shows this process no GPU"),
    (dict(init=101), "CUDA_VISIBLE_DEVICES renumbers"),
    (dict(init=102), "no licence"),
    (dict(init=304), "locked memory"),
    (dict(init=805), r"unset CUDA_MPS_PIPE_DIRECTORY"),
    (dict(init=806), "Restart the MPS daemon"),
    (dict(init=807), "Try again; if it stays"),
    (dict(init=808), "End other processes on this GPU"),
    (dict(init=809), "End other processes on this GPU"),
    (dict(init=999), "nvidia-uvm"),
    (dict(devices=0), "shows this process no GPU.*where MIG is on, instances have to be made first"),
])
def test_a_driver_that_refuses(fake, says, monkeypatch):
    for name in ("CUDA_VISIBLE_DEVICES", "CUDA_MPS_PIPE_DIRECTORY"): monkeypatch.delenv(name, raising=False)
    with pytest.raises(Missing, match=f"(?s){says}") as e: Fake(**fake).driver()
    assert "\n" not in str(e.value)


def test_which_library_it_was(monkeypatch):
    """A mismatch names the module and the file; a daemon that doesn't answer, where it was looked for."""
    module = sys.modules["forno.gpu.driver"]
    monkeypatch.setattr(module, "kernel_module", lambda: "550.54.14")
    monkeypatch.setattr(module, "loaded_library", lambda: "/lib/libcuda.so.535.104.05")
    with pytest.raises(Missing, match=r"the kernel module is 550\.54\.14; the library is /lib/libcuda\.so\.535\.104\.05: libcuda and the loaded"): Fake(init=803).driver()
    with pytest.raises(Missing, match=r"the library is /lib/libcuda\.so\.535\.104\.05: The cuda-compat libcuda"): Fake(init=804).driver()
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/tmp/mps")
    with pytest.raises(Missing, match="CUDA_MPS_PIPE_DIRECTORY is '/tmp/mps': Restart the MPS daemon"): Fake(init=805).driver()


@pytest.mark.parametrize("value, says", [
    ("", "hides every GPU: unset"), ("-1", "negative"), ("7", "no GPU 7"), ("MIG-1234", "MIG instance"), ("GPU-abc", "names a GPU that is not"), ("first", "neither"),
    ("0,0", "names 0 twice"), ("1,0,1", "names 1 twice"), ("GPU-a,GPU-a", "names GPU-a twice"), ("1gpu,2,1x", "names 1 twice"), (",0", "hides every GPU")])
def test_visible_devices(value, says, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", value)
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "PCI_BUS_ID")
    with pytest.raises(Missing, match=f"CUDA_VISIBLE_DEVICES='{value}'.*{says}"): Fake(init=100).driver()
    with pytest.raises(Missing, match="cuda-compat"): Fake(init=804).driver()                # not everything is that variable's fault


def test_an_order_that_is_none(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("CUDA_DEVICE_ORDER", "BY_NAME")
    with pytest.raises(Missing, match="no GPU 3.*; CUDA_DEVICE_ORDER='BY_NAME' is none of FASTEST_FIRST and PCI_BUS_ID"): Fake(init=100).driver()


UUIDS = ["GPU-1aa0", "GPU-1ab0", "GPU-2cc0"]


@pytest.mark.parametrize("value, numbers", [
    (None, [0, 1, 2]), ("2,0", [2, 0]), ("", []), ("-1", []), ("0,-1,1", [0]), ("1,1", []), ("0,5,1", [0]), ("1gpu2,2ampere", [1, 2]), (" 2 , 1", [2, 1]), ("+1", [1]),
    ("GPU-2", [2]), ("GPU-2,GPU-1aa", [2, 0]), ("GPU-1", []), ("GPU-2,GPU-1,GPU-1ab", [2]), ("GPU-2cc0,GPU-2", []), ("GPU-2,0", [2]), ("0,GPU-2", [0]), ("gpu-2", []), ("MIG-1", [])])
def test_which_devices_are_visible(value, numbers):
    """As NVIDIA's driver does, and PyTorch where it counts without it."""
    assert visible.numbers(value, UUIDS) == numbers


def test_visible_devices_of_a_simulated_machine(monkeypatch):
    def uuids():
        d = sim.install(3)
        return [d.DeviceGetUuid(d.DeviceGet(k)) for k in range(d.DeviceGetCount())]
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    everyone = uuids()
    assert len(set(everyone)) == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", f"GPU-{UUID(bytes=everyone[2])},GPU-{everyone[0].hex()[:8]}")
    assert uuids() == [everyone[2], everyone[0]]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1,1")
    with pytest.raises(Missing, match="names 1 twice, which hides every GPU"): uuids()


def test_files_that_may_not_be_opened(monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    names = {"/dev/nvidiactl", "/dev/nvidia0", "/dev/nvidia-uvm"}
    monkeypatch.setattr(os, "listdir", lambda folder: ["null", "nvidia0", "nvidia-caps"])
    monkeypatch.setattr(os.path, "exists", lambda path: path in names)
    monkeypatch.setattr(os, "access", lambda path, mode: path != "/dev/nvidia0")
    for code in (100, 999):
        with pytest.raises(Missing, match=r"may not open /dev/nvidia0; add the user"): Fake(init=code).driver()


def test_no_library(monkeypatch):
    module = sys.modules["forno.gpu.driver"]
    monkeypatch.setattr(module, "libraries", lambda: ["libnothere.so.1"])
    monkeypatch.setattr(module, "kernel_module", lambda: "")
    monkeypatch.setattr(os.path, "exists", lambda path: False)
    with pytest.raises(Missing, match="there is no NVIDIA driver on this machine"): module.open_library()
    monkeypatch.setattr(module, "kernel_module", lambda: "550.54.14")
    with pytest.raises(Missing, match="--gpus all"): module.open_library()


def test_a_library_that_is_something_else(monkeypatch, tmp_path):
    """Found but not loadable; and loadable but not NVIDIA's."""
    module = sys.modules["forno.gpu.driver"]
    (tmp_path / "libcuda.so.1").write_bytes(b"not a library")
    monkeypatch.setattr(module, "libraries", lambda: [str(tmp_path / "libcuda.so.1")])
    with pytest.raises(Missing, match="can't be loaded.*reinstall"): module.open_library()
    with pytest.raises(Missing, match="another library of that name"): resolve(lambda name: 0)


LIBCUDA = """
#include <stdint.h>
#include <string.h>
#define STUB %d
int cuDriverGetVersion(int *v) { *v = 12040; return STUB ? 34 : 0; }
static int init(unsigned flags) { return 0; }
static int count(int *n) { *n = 3; return 0; }
int cuGetProcAddress_v2(const char *name, void **f, int version, uint64_t flags, int *status) {
    *f = !strcmp(name, "cuInit") ? (void *)init : !strcmp(name, "cuDeviceGetCount") ? (void *)count : !strcmp(name, "cuDriverGetVersion") ? (void *)cuDriverGetVersion : 0;
    *status = *f ? 0 : 1;
    return *f ? 0 : 500;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc to build a library")
@pytest.mark.parametrize("stub, says", [(0, "3 None"), (1, "toolkit's stub for linking")])
def test_a_library_of_the_system(stub, says, tmp_path):
    """The whole way: found by its name, resolved, initialised."""
    (tmp_path / "cuda.c").write_text(LIBCUDA % stub)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "libcuda.so.1", tmp_path / "cuda.c"], check=True)
    done = run("from forno import gpu\nr = gpu.reason()\nprint(r if r else f'{gpu.driver().DeviceGetCount()} {r}')", LD_LIBRARY_PATH=str(tmp_path))
    assert says in done.stdout, done.stderr


NVML = """
#include <string.h>
static int none = 1;
const char *nvmlErrorString(int code) { return code == 2 ? "Invalid Argument" : "Unknown Error"; }
int nvmlInit_v2(void) { return 0; }
int nvmlDeviceGetHandleByUUID(const char *uuid, void **out) { *out = &none; return strcmp(uuid, "MIG-12") ? 2 : 0; }
int nvmlDeviceGetUtilizationRates(void *d, unsigned *out) { out[0] = 87; out[1] = 41; return d == &none ? 0 : 2; }
int nvmlDeviceGetTemperature(void *d, int kind, unsigned *out) { *out = 61 + kind; return 0; }
int nvmlDeviceGetPowerUsage(void *d, unsigned *out) { *out = 512000; return 0; }
int nvmlDeviceGetClockInfo(void *d, int kind, unsigned *out) { *out = 1980 + kind; return 0; }
int nvmlDeviceGetMemoryInfo(void *d, unsigned long long *out) { out[0] = 80; out[1] = 30; out[2] = 50; return 0; }
typedef struct { unsigned pid; unsigned long long used; unsigned a, b; } process;
int nvmlDeviceGetComputeRunningProcesses_v3(void *d, unsigned *count, process *out) {
    if (*count < 2) { *count = 2; return 7; }
    out[0] = (process){4711, 3 << 20, 0, 0}; out[1] = (process){12, ~0ull, 0, 0}; *count = 2;
    return 0;
}
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc to build a library")
def test_how_busy_devices_are(tmp_path, monkeypatch):
    """The functions of NVIDIA's management library as C declares them, by a library made for this."""
    (tmp_path / "nvml.c").write_text(NVML)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", tmp_path / "libnvidia-ml.so.1", tmp_path / "nvml.c"], check=True)
    monkeypatch.setattr(nvml, "NAMES", ("libnothere.so", str(tmp_path / "libnvidia-ml.so.1")))
    r = nvml.rates("12")
    assert (r.gpu, r.memory, nvml.temperature("12"), nvml.milliwatts("12"), nvml.megahertz("12"), nvml.memory("12").used) == (87, 41, 61, 512000, 1981, 50)
    assert nvml.processes("12") == [(4711, 3 << 20), (12, 0)]
    with pytest.raises(RuntimeError, match=r"nvmlDeviceGetHandleByUUID: Invalid Argument \(2\)"): nvml.rates("13")
    monkeypatch.setattr(nvml, "NAMES", ("libnothere.so",))
    with pytest.raises(RuntimeError, match="can't be loaded .*libnothere.*capability 'utility'"): nvml.rates("12")


# ---------------------------------------------------------------- the floor's own functions
def run(code, **env):
    env = {k: v for k, v in os.environ.items() if not k.startswith(("FORNO_", "CUDA_"))} | {"PYTHONPATH": str(ROOT)} | env
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, timeout=60, check=False)


def test_import_opens_nothing():
    done = run("import sys, forno; from forno import gpu; print(gpu._found, 'forno.gpu.sim' in sys.modules, 'forno.gpu.ptx' in sys.modules)", FORNO_GPU="sim")
    assert done.stdout == "None False False\n", done.stderr


def test_none_says_so():
    done = run("from forno import gpu; print(gpu.reason()); print(gpu.forked())\ntry: gpu.driver()\nexcept gpu.Missing as e: print(e)", FORNO_GPU="none")
    assert done.stdout.splitlines() == ["FORNO_GPU=none turns GPUs off: unset it to use the one that may be there", "False",
                                        "FORNO_GPU=none turns GPUs off: unset it to use the one that may be there"]


def test_unknown_kinds_are_refused():
    done = run("import forno", FORNO_GPU="many")
    assert done.returncode and "expected one of auto, none, sim" in done.stderr


def test_the_driver_is_opened_once(monkeypatch):
    made, fake = [], Fake()
    monkeypatch.setattr(gpu, "_found", None)
    monkeypatch.setattr(gpu, "_open", lambda kind: made.append(kind) or Driver(fake.table))
    assert gpu.driver() is gpu.driver() and len(made) == 1 and gpu.reason() is None and not gpu.forked()
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    assert gpu.forked()


# ---------------------------------------------------------------- chips
def test_targets_of_chips():
    assert chips.targets((9, 0), 12000)[:3] == ["sm_90a", "sm_90", "sm_89"]
    assert chips.targets((8, 6), 12000) == ["sm_86", "sm_80", "sm_75", "sm_70", "sm_61", "sm_60", "sm_52", "sm_50"]
    assert chips.targets((10, 3), 12080)[:7] == ["sm_100", "sm_90", "sm_89", "sm_87", "sm_86", "sm_80", "sm_75"]            # the driver is older than the chip's own names
    assert chips.targets((10, 3), 12090)[:4] == ["sm_103a", "sm_103f", "sm_100f", "sm_103"]
    assert chips.targets((12, 0), 13000)[:2] == ["sm_120a", "sm_120f"]
    assert chips.targets((13, 0), 13000)[0] == "sm_121"                     # a chip of the future: what all take


@pytest.mark.parametrize("target, capability, answer", [("sm_80", (9, 0), True), ("sm_90", (8, 0), False), ("sm_90a", (9, 0), True), ("sm_90a", (10, 0), False),
                                                        ("sm_100f", (10, 3), True), ("sm_103f", (10, 0), False), ("sm_100f", (12, 0), False), ("sm_75", (12, 1), True)])
def test_targets_run(target, capability, answer): assert chips.runs(target, capability) is answer


@pytest.mark.parametrize("capability, threads, registers, shared, blocks", [
    ((9, 0), 256, 32, 0, 8), ((9, 0), 256, 64, 0, 4), ((9, 0), 1024, 64, 0, 1), ((9, 0), 32, 32, 0, 32), ((9, 0), 128, 32, 227 << 10, 1), ((9, 0), 128, 32, 113 << 10, 2),
    ((8, 6), 512, 40, 0, 3), ((7, 5), 1024, 32, 0, 1), ((9, 0), 2048, 32, 0, 0), ((9, 0), 32, 32, 228 << 10, 0), ((9, 0), 384, 168, 229440, 1), ((8, 0), 128, 225, 48 << 10, 2)])
def test_resident_blocks(capability, threads, registers, shared, blocks):
    """As NVIDIA's occupancy calculator has them."""
    assert chips.CHIPS[capability].resident(threads, registers, shared) == blocks


def test_newest_ptx_of_drivers():
    assert [chips.newest_ptx(v) for v in (11080, 12000, 12020, 12060, 12090, 13000, 14000)] == [78, 80, 82, 85, 88, 90, 91]
