"""The simulated machine's thin slice: devices, memory, copies, kernels, errors."""
import ctypes
import gc
import os
import subprocess
import sys
import time
import weakref

import numpy as np
import pytest

from forno.cpu.code import load
from forno.gpu import prototypes
from forno.gpu.driver import start
from forno.gpu.errors import CudaError, Missing
from forno.gpu.prototypes import DEVICE, FUNCTION, PROTOTYPES, LaunchAttribute, LaunchConfig
from forno.gpu.sim import Findings, Machine, Spec, tensormap
from forno.gpu.sim.memory import DELTA
from tests.laws.tree import ROOT

from .conftest import seeds
from .simulated import HEAD, PTX, Program, code

SEEDS = seeds(range(10))


@pytest.mark.parametrize("seed", SEEDS)
def test_a_kernel_runs(seed):
    with Machine(seed=seed) as m:
        p = Program(m)
        x = np.arange(1000, dtype=np.float32)
        at, s = p.array(x), p.stream()
        p.launch("scale", at, 1000, stream=s)
        p.launch("one", at, 1000, stream=s)
        assert (p.read(at, 1000, s) == 2 * x + 1).all()


def test_the_real_way_in():
    """By cuGetProcAddress, as from a library."""
    m = Machine(version=12020, missing=("GraphUpload",))
    d = start(m.symbol)
    assert d.version == 12020 and d.DeviceGetCount() == 1 and d.has("LaunchKernelEx") and not d.has("GraphUpload")
    with pytest.raises(NotImplementedError, match="cuGraphUpload"): d.GraphUpload(1, 0)
    with pytest.raises(Missing, match="speaks CUDA 11.8"): start(Machine(version=11080).symbol)
    with pytest.raises(Missing, match="shows this process no GPU"): start(Machine(devices=0).symbol)
    old = start(Machine(version=12000).symbol)
    with pytest.raises(NotImplementedError, match=r"CUDA 12\.2; this one is of 12\.0"): old.GraphAddNode(1, None, 0, None)


def test_what_is_simulated():
    """Everything but multicast and tensor maps of convolutions."""
    assert PROTOTYPES.keys() - Machine(version=13000).table().keys() == {
        "MulticastCreate", "MulticastAddDevice", "MulticastBindMem", "MulticastGetGranularity",
        "TensorMapEncodeIm2col"}


def test_devices_are_what_was_asked_for():
    specs = [Spec(), Spec("Simulated 4090", (8, 9), 1 << 30, 128, 2.5e9, 1.0e12), Spec("Simulated T4", (7, 5), 1 << 28, 40, 1.6e9, 3.2e11)]
    d = Machine(specs, peers=[[0, 1, 0], [1, 0, 0], [0, 0, 0]]).driver()
    assert [d.DeviceGetName(i) for i in range(3)] == ["Simulated H200", "Simulated 4090", "Simulated T4"]
    assert [(d.DeviceGetAttribute(DEVICE["major"], i), d.DeviceGetAttribute(DEVICE["minor"], i)) for i in range(3)] == [(9, 0), (8, 9), (7, 5)]
    assert [d.DeviceGetAttribute(DEVICE["optin_shared"], i) >> 10 for i in range(3)] == [227, 99, 64]
    assert [d.DeviceTotalMem(i) for i in range(3)] == [2 << 30, 1 << 30, 1 << 28]
    assert len({d.DeviceGetUuid(i) for i in range(3)}) == 3 and len(d.DeviceGetUuid(0)) == 16
    assert [d.DeviceCanAccessPeer(0, i) for i in range(3)] == [0, 1, 0] and d.DeviceGetPCIBusId(1) == "0000:02:00.0"
    assert code(d.DeviceGetName, 3) == 101


def test_contexts():
    m = Machine(devices=2)
    d = m.driver()
    assert d.CtxGetCurrent() == 0 and code(d.MemAlloc, 8) == 201
    a, b = d.DevicePrimaryCtxRetain(0), d.DevicePrimaryCtxRetain(1)
    assert d.DevicePrimaryCtxRetain(0) == a != b and d.DevicePrimaryCtxGetState(0) == (0, 1)
    d.CtxSetCurrent(b)
    assert d.CtxGetCurrent() == b and d.CtxGetDevice() == 1
    at = d.MemAlloc(100)
    assert d.PointerGetAttribute(prototypes.POINTER["device"], at) == 1
    d.DevicePrimaryCtxRelease(1)
    assert code(d.MemAlloc, 8) == 709 and code(d.CtxSetCurrent, b) == 201          # gone, with its memory
    d.CtxSetCurrent(a)
    assert d.MemGetInfo()[0] == 2 << 30


def test_addresses_are_no_addresses_of_the_host():
    """Reading one ends the process at once."""
    done = subprocess.run([sys.executable, "-c", "import ctypes\nfrom tests.gpu.simulated import Program\np = Program()\nat = p.array([1, 2])\nprint('here', flush=True)\nctypes.string_at(at, 4)\nprint('there')"],
                          cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "here\n" and done.returncode < 0


def test_memory_is_poisoned_and_counted():
    p = Program()
    free = p.d.MemGetInfo()[0]
    at = p.d.MemAlloc(1000)
    assert at % 512 == 0 and p.d.MemGetInfo()[0] == free - 1024
    assert np.isnan(p.read(at, 250)).all()
    p.d.MemFree(at)
    assert p.d.MemGetInfo()[0] == free and p.d.MemAlloc(1000) != at           # addresses are not used again soon
    assert code(p.d.MemAlloc, 4 << 30) == 2 and code(p.d.MemAlloc, 0) == 1
    assert code(p.d.MemFree, at) == 1 and "double free" in str(p.machine.findings()[0])


def test_address_space_is_used_again_when_it_runs_out(monkeypatch):
    from forno.gpu.sim import memory
    monkeypatch.setattr(memory, "_TIMES", 2)
    p = Program(devices=[Spec(nbytes=4 << 20)])
    keep = p.array([5] * 100)
    for _ in range(50): p.d.MemFree(p.d.MemAlloc(1 << 20))
    assert (p.read(keep, 100) == 5).all()
    arena = p.machine.devices[0].arena
    assert arena.used == 512 * 2 and len(arena.taken) == 2                        # the array and the module's variable


@pytest.mark.parametrize("nbytes", [1 << 20, 20 << 20])
def test_red_zones(nbytes):
    p = Program()
    at = p.d.MemAlloc(nbytes)
    ctypes.c_ubyte.from_address(at - DELTA + nbytes + 3).value = 1       # as a foreign library might
    p.d.MemFree(at)
    assert "red zone" in str(p.machine.findings()[0]) and hex(at + nbytes + 3) in str(p.machine.findings()[0])


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name, expected, says", [("beyond", 700, ", 0 bytes past the end of allocation"), ("crooked", 716, "aligned to 4"), ("quit", 719, "trap")])
def test_a_kernel_that_fails_is_reported_later_and_for_good(seed, name, expected, says):
    p = Program(seed=seed)
    at, s = p.array(np.ones(64)), p.stream()
    p.machine.eager = 0.0
    p.launch(name, at, 64, stream=s)
    assert code(p.d.StreamSynchronize, s) == expected
    assert [code(f, *a) for f, a in ((p.d.MemAlloc, (8,)), (p.d.StreamSynchronize, (0,)), (p.d.CtxSynchronize, ()), (p.d.EventCreate, (0,)), (p.d.StreamQuery, (s,)))] == [expected] * 5
    finding, = p.machine.findings()
    assert says in finding.text and f"kernel {name}" in finding.text and "PTX line" in finding.text


def test_launches_that_block(monkeypatch):
    """CUDA_LAUNCH_BLOCKING=1: the launch itself reports what its kernel did."""
    monkeypatch.setenv("CUDA_LAUNCH_BLOCKING", "1")
    p = Program()
    assert code(p.launch, "beyond", p.array(np.ones(64)), 64) == 700


def test_addresses_that_copies_refuse():
    p = Program()
    at, host = p.array(np.ones(16)), np.empty(1000, np.float32)
    assert code(p.d.MemcpyDtoHAsync, host.ctypes.data, at, 68, 0) == 1
    assert code(p.d.MemcpyHtoDAsync, host.ctypes.data, at, 4, 0) == 1
    assert code(p.d.MemcpyDtoDAsync, at, at + 4096, 4, 0) == 1
    assert code(p.d.MemsetD32Async, at + 2, 0, 1, 0) == 1 and code(p.d.MemsetD8Async, at, 0, 65, 0) == 1
    assert "4 more than there are in allocation" in str(p.machine.findings()[0])


def test_fills_and_pitched_copies():
    p = Program()
    at = p.d.MemAlloc(64 * 4)
    p.d.MemsetD32Async(at, 0x3F800000, 64, 0)
    p.d.MemsetD16Async(at + 128, 0x4000, 2, 0)
    p.d.MemsetD8Async(at + 252, 0, 4, 0)
    got = p.read(at, 64)
    assert got[0] == 1 and got[32].view(np.uint32) == 0x40004000 and got[63] == 0 and (got[33:63] == 1).all()
    square = np.arange(64, dtype=np.float32).reshape(8, 8)
    copy = prototypes.Memcpy2D(fromtype=1, fromhost=square.ctypes.data, frompitch=32, fromx=8, fromy=2, totype=2, to=at, topitch=32, tox=4, width=12, height=4)
    p.d.Memcpy2DAsync(copy, 0)
    assert (p.read(at, 64).reshape(8, 8)[:4, 1:4] == square[2:6, 2:5]).all()
    copy.frompitch = 4
    assert code(p.d.Memcpy2DAsync, copy, 0) == 1


# ---------------------------------------------------------------- code
def test_functions_and_variables():
    p = Program()
    f = p.function("hungry")
    assert code(p.function, "nothing") == 500
    ask = lambda name: p.d.FuncGetAttribute(FUNCTION[name], f)                  # noqa: E731
    assert ask("static_shared") == 4096 and ask("threads") == 1024 and ask("dynamic_shared") == 44 << 10 and ask("binary") == 90
    at, nbytes = p.d.ModuleGetGlobal(p.module, b"counter")
    assert nbytes == 4 and p.read(at, 1).view(np.uint32)[0] == 7
    p.d.ModuleUnload(p.module)
    assert code(p.d.FuncGetAttribute, 0, f) == 400 and code(p.d.MemcpyDtoDAsync, at, at, 4, 0) == 1


def test_libraries():
    p = Program(devices=2)
    lib = p.d.LibraryLoadData(PTX, None, None, 0, None, None, 0)
    k = p.d.LibraryGetKernel(lib, b"scale")
    assert code(p.d.LibraryGetKernel, lib, b"nothing") == 500
    for device in (0, 1):                                                      # one kernel, in every context
        p.d.CtxSetCurrent(p.d.DevicePrimaryCtxRetain(device))
        at = p.array([1, 2, 3])
        p.d.LaunchKernel(k, 1, 1, 1, 32, 1, 1, 0, 0, p.params(at, 3), None)
        assert p.read(at, 3).tolist() == [2, 4, 6]
        assert p.d.LibraryGetGlobal(lib, b"counter")[1] == 4
    assert p.d.KernelGetFunction(k) != k
    p.d.KernelSetAttribute(FUNCTION["dynamic_shared"], 100 << 10, k, 1)
    p.d.LibraryUnload(lib)
    assert code(p.d.KernelGetFunction, k) == 400


def test_libraries_know_where_they_run():
    p = Program(devices=[Spec(), Spec(capability=(7, 5))])
    lib = p.d.LibraryLoadData(PTX, None, None, 0, None, None, 0)
    k = p.d.LibraryGetKernel(lib, b"scale")
    assert p.d.KernelGetFunction(k)
    p.d.CtxSetCurrent(p.d.DevicePrimaryCtxRetain(1))
    assert code(p.d.KernelGetFunction, k) == 209


def log_options():
    buffer = ctypes.create_string_buffer(512)
    return buffer, (ctypes.c_int * 2)(5, 6), (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 512)


@pytest.mark.parametrize("text, expected, says", [
    (b"hello\0", 200, "without"), (HEAD.encode() + b".visible .entry k(.param) { ret\0", 218, "ptxas"),
    (PTX.replace(b"7.5", b"9.0"), 222, "Unsupported .version 9.0"), (PTX.replace(b"sm_80", b"sm_100"), 218, "SM version specified by .target is higher"),
    (HEAD.encode() + b".extern .func (.param .b32 r) llvm.nvvm.nothing ();\n.visible .entry k() { ret; }\0", 218, "extern"), (b"\x7fELF and so on\0", 200, "")])
def test_code_that_is_refused(text, expected, says):
    p = Program()
    buffer, options, values = log_options()
    assert code(p.d.ModuleLoadDataEx, text, 2, options, values) == expected and says in buffer.value.decode()


@pytest.mark.parametrize("version, words, expected", [("7.5", 512, 0), ("7.5", 513, 218), ("8.1", 513, 0), ("8.1", 4096, 218)])
def test_parameters_have_a_limit(version, words, expected):
    """4096 bytes, or 32764 from PTX 8.1 on."""
    p = Program()
    buffer, options, values = log_options()
    text = HEAD.replace("7.5", version) + f".visible .entry k({', '.join(f'.param .u64 p{k}' for k in range(words))}) {{ ret; }}\n"
    assert code(p.d.ModuleLoadDataEx, text.encode() + b"\0", 2, options, values) == expected
    assert not expected or f"{8 * words} bytes required" in buffer.value.decode()


def test_kernels_that_can_not_be_simulated_say_so():
    p = Program()
    module = p.d.ModuleLoadDataEx(HEAD.encode() + b".visible .entry k() { frobnicate.u32 %r1; ret; }\0", 0, None, None)
    assert code(p.d.ModuleGetFunction, module, b"k") == 801 and "frobnicate" in str(p.machine.findings()[0])


def test_cubins_belong_to_a_chip():
    """PTX -> cubin -> module; another chip refuses it."""
    p = Program(devices=[Spec(), Spec(capability=(8, 0)), Spec(capability=(8, 6))])
    link = p.d.LinkCreate(0, None, None)
    p.d.LinkAddData(link, 1, PTX, len(PTX), b"k", 0, None, None)
    at, n = p.d.LinkComplete(link)
    cubin = ctypes.string_at(at, n)
    p.d.LinkDestroy(link)
    assert p.d.ModuleGetFunction(p.d.ModuleLoadDataEx(cubin, 0, None, None), b"scale")
    p.d.CtxSetCurrent(p.d.DevicePrimaryCtxRetain(1))
    assert code(p.d.ModuleLoadDataEx, cubin, 0, None, None) == 209
    link = p.d.LinkCreate(0, None, None)
    p.d.LinkAddData(link, 1, PTX, len(PTX), b"k", 0, None, None)
    cubin = ctypes.string_at(*p.d.LinkComplete(link))
    p.d.CtxSetCurrent(p.d.DevicePrimaryCtxRetain(2))
    assert p.d.ModuleLoadDataEx(cubin, 0, None, None)                          # 8.0's runs on 8.6
    assert code(p.d.LinkComplete, p.d.LinkCreate(0, None, None)) == 1


@pytest.mark.parametrize("grid, block, shared, expected", [
    ((1, 1, 1), (1025, 1, 1), 0, 1), ((1, 1, 1), (64, 64, 1), 0, 1), ((1, 1, 1), (1, 1, 65), 0, 1), ((0, 1, 1), (1, 1, 1), 0, 1), ((1, 65536, 1), (1, 1, 1), 0, 1),
    ((1, 1, 1), (32, 1, 1), 45 << 10, 1), ((1, 1, 1), (32, 1, 1), 44 << 10, 0)])
def test_limits_of_launches(grid, block, shared, expected):
    p = Program()
    at = p.array([1, 2])
    assert code(p.d.LaunchKernel, p.function("hungry"), *grid, *block, shared, 0, p.params(at), None) == expected


def test_more_shared_memory_must_be_asked_for():
    p = Program()
    at, f = p.array([1]), p.function("hungry")
    go = lambda: code(p.d.LaunchKernel, f, 1, 1, 1, 1, 1, 1, 200 << 10, 0, p.params(at), None)       # noqa: E731
    assert go() == 1
    p.d.FuncSetAttribute(f, FUNCTION["dynamic_shared"], 200 << 10)
    assert go() == 0 and code(p.d.FuncSetAttribute, f, FUNCTION["dynamic_shared"], 224 << 10) == 1
    assert p.d.OccupancyMaxActiveBlocksPerMultiprocessor(f, 256, 0) == 8 and p.d.OccupancyMaxActiveBlocksPerMultiprocessor(f, 256, 200 << 10) == 1


def test_launches_by_configuration():
    p = Program()
    at, s, f = p.array([1, 2, 3]), p.stream(), p.function("scale")
    attributes = (LaunchAttribute * 1)()
    attributes[0].id, attributes[0].value.cluster = prototypes.LAUNCH["cluster"], prototypes.Dim3(2, 1, 1)
    config = LaunchConfig(2, 1, 1, 32, 1, 1, 0, s, attributes, 1)
    p.d.LaunchKernelEx(config, f, p.params(at, 3), None)
    assert p.read(at, 3, s).tolist() == [2, 4, 6]
    config.gridx = 3
    assert code(p.d.LaunchKernelEx, config, f, p.params(at, 3), None) == 912
    config.count, size = 0, ctypes.c_size_t(16)
    words = (ctypes.c_uint64 * 2)(at, 3)
    extra = (ctypes.c_size_t * 5)(1, ctypes.addressof(words), 2, ctypes.addressof(size), 0)
    p.d.LaunchKernelEx(config, f, None, extra)
    assert p.read(at, 3, s).tolist() == [4, 8, 12]
    assert code(p.d.LaunchCooperativeKernel, f, 132 * 8 + 1, 1, 1, 256, 1, 1, 0, 0, p.params(at, 3)) == 720


# ---------------------------------------------------------------- tensor maps
MAP = dict(dtype=9, rank=2, base=1 << 20, sizes=(100, 64), strides=(208,), box=(64, 32), steps=(1, 1), interleave=0, swizzle=3, promotion=2, fill=0)


def encoded(d, **changes):
    m = {**MAP, **changes}
    out = prototypes.TensorMap.aligned()
    u64, u32 = (ctypes.c_uint64 * 5), (ctypes.c_uint32 * 5)
    args = (out, m["dtype"], m["rank"], m["base"], u64(*m["sizes"]), u64(*m["strides"]), u32(*m["box"]), u32(*m["steps"]), m["interleave"], m["swizzle"], m["promotion"], m["fill"])
    return code(d.TensorMapEncodeTiled, *args), bytes(out)


def test_tensor_maps():
    d = Machine().driver()
    assert encoded(d)[0] == 0 and tensormap.decode(encoded(d)[1]) == tensormap.Tiled(9, 1 << 20, (100, 64), (208,), (64, 32), (1, 1), 0, 3, False)
    assert tensormap.decode(bytes(128)) is None
    assert encoded(d, rank=5, sizes=(64, 2, 3, 4, 5), strides=(128, 256, 768, 3072), box=(64, 1, 1, 1, 1), steps=(1,) * 5)[0] == 0
    assert encoded(Machine([Spec(capability=(8, 0))]).driver())[0] == 801


@pytest.mark.parametrize("changes, says", [
    (dict(base=8), "address 0x8"), (dict(sizes=(0, 64)), "sizes"), (dict(strides=(200,)), "strides"), (dict(box=(64, 257)), "1 to 256"), (dict(box=(128, 32)), "256 bytes, more than the swizzle's 128"),
    (dict(box=(4, 32)), "8 bytes, which is no multiple of 16"), (dict(steps=(0, 1)), "steps"), (dict(swizzle=7), "unknown"), (dict(dtype=0, box=(64, 32), fill=1), "NaN"), (dict(interleave=1), "three axes")])
def test_tensor_maps_that_are_refused(changes, says):
    m = Machine()
    assert encoded(m.driver(), **changes)[0] == 1 and says in m.findings()[0].text


# ---------------------------------------------------------------- faults, findings, ends
def test_faults_on_demand():
    p = Program()
    p.machine.fail("MemAlloc", 2, nth=3)
    at = [p.d.MemAlloc(8), p.d.MemAlloc(8)]
    assert code(p.d.MemAlloc, 8) == 2 and p.d.MemAlloc(8) not in at
    p.machine.fail("ModuleLoadDataEx", 218, times=2)
    assert [code(p.d.ModuleLoadDataEx, PTX, 0, None, None) for _ in range(3)] == [218, 218, 0]
    p.machine.fail("MemHostAlloc", 2, times=10**6, chance=0.3)
    assert 10 < sum(code(p.d.MemHostAlloc, 8, 0) == 2 for _ in range(100)) < 60
    p.machine.break_context(0, 700)
    assert code(p.d.CtxSynchronize) == 700 and code(p.d.MemFree, at[0]) == 700
    p.d.DevicePrimaryCtxReset(0)
    p.d.CtxSetCurrent(p.d.DevicePrimaryCtxRetain(0))
    assert code(p.d.CtxSynchronize) == 0
    p.machine.lose(0)
    assert code(p.d.CtxSynchronize) == 999 and code(p.d.MemAlloc, 8) == 999 and code(p.d.DevicePrimaryCtxRetain, 0) == 999


def test_findings_raise_at_the_end():
    with pytest.raises(Findings, match="race: .*kernel (scale|one)") as e, Machine(seed=3) as m:
        p = Program(m)
        at = p.array(np.ones(64))
        p.launch("scale", at, 64, stream=p.stream())
        p.launch("one", at, 64, stream=p.stream())
    assert len(e.value.found) == 1 and str(e.value).count("simulated.py:") == 3           # from where both were launched and the memory comes
    with pytest.raises(ZeroDivisionError), Machine() as m:                     # the program's own error comes first
        m.find("race", "something")
        raise ZeroDivisionError


def test_installed_by_the_environment():
    """FORNO_GPU=sim:2; findings are printed at the end."""
    program = """
from forno import gpu
from tests.gpu.simulated import Program
d = gpu.driver()
print(d.DeviceGetCount(), gpu.driver() is d, gpu.reason(), d.machine is not None)
p = Program(d.machine)
at = p.array([1.0] * 64)
p.launch("scale", at, 64, stream=p.stream())
p.launch("one", at, 64, stream=p.stream())
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "FORNO_GPU": "sim:2"}, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "2 True None True\n", done.stderr
    assert done.stderr.count("simulated GPU: race") == 1 and "Traceback" not in done.stderr


def test_the_simulator_survives_itself(monkeypatch):
    """An error of its own is a code and a finding, never an exception through C."""
    p = Program()
    monkeypatch.setattr(p.machine.devices[0].arena, "reserve", lambda *a: 1 / 0)
    with pytest.raises(CudaError) as e: p.d.MemAlloc(8)
    assert e.value.code == 999 and "ZeroDivisionError" in str(p.machine.findings()[0])


NATIVE = """
define i64 @twice(ptr %launch, ptr %f, i64 %stream, ptr %params) {
  %a = call i32 %launch(ptr %f, i32 1, i32 1, i32 1, i32 64, i32 1, i32 1, i32 0, i64 %stream, ptr %params, ptr null)
  %b = call i32 %launch(ptr %f, i32 1, i32 1, i32 1, i32 64, i32 1, i32 1, i32 0, i64 %stream, ptr %params, ptr null)
  %c = or i32 %a, %b
  %r = sext i32 %c to i64
  ret i64 %r
}
"""


@pytest.mark.parametrize("kind", [ctypes.CFUNCTYPE, ctypes.PYFUNCTYPE])
def test_native_code_calls_the_driver(kind):
    """By address, with and without the interpreter's lock."""
    with Machine(seed=2) as m:
        p = Program(m)
        at, s = p.array(np.ones(64)), p.stream()
        f = kind(ctypes.c_int64, *[ctypes.c_void_p] * 4)(load(NATIVE, "twice"))
        assert f(p.d.address("LaunchKernel"), p.function("scale"), s, p.params(at, 64)) == 0
        assert (p.read(at, 64, s) == 4).all()
        assert f(p.d.address("LaunchKernel"), 12345, s, p.params(at, 64)) == 400


def test_machines_end():
    """Their addresses go back to the system: thousands fit into a process, one after the other."""
    gc.freeze()                                # what other tests left isn't walked each time
    try:
        for k in range(300):
            m = Machine(devices=8)
            p = Program(m) if k % 100 == 0 else None
            ref = weakref.ref(m.devices[0].arena)
            del m, p
            gc.collect(0 if k % 20 else 2)
        gc.collect()
        assert ref() is None
    finally: gc.unfreeze()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_is_told_so():
    done = subprocess.run([sys.executable, "-c", """
import os
from forno import gpu
print(gpu.forked()); gpu.driver(); print(gpu.forked(), flush=True)
pid = os.fork()
if pid: os.waitpid(pid, 0)
else:
    print(gpu.forked(), flush=True)
    os._exit(0)
"""], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "FORNO_GPU": "sim"}, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.split() == ["False", "False", "True"], done.stderr


def test_finalizers_run_in_the_middle_of_calls(monkeypatch):
    """The collector may end an object while a call is at work; its own calls come after that one."""
    p = Program(seed=0)
    at, s, order = p.array(np.ones(64)), p.stream(), []

    class Owner:
        def __init__(self): self.event, self.memory, self.me = p.event(), p.d.MemAlloc(64), self
        def __del__(self):
            p.d.EventDestroy(self.event)
            p.d.MemFree(self.memory)
            order.append(("ended", len(p.machine.later)))
    run = p.machine._run
    monkeypatch.setattr(p.machine, "_run", lambda op: (order.append("runs"), gc.collect(), run(op)))
    used = p.machine.devices[0].arena.used
    p.function("scale")
    gc.collect()                               # the collector doesn't come by itself before the kernel runs
    Owner()
    p.machine.eager = 0.0
    p.launch("scale", at, 64, stream=s)
    p.d.StreamSynchronize(s)
    assert order == ["runs", ("ended", 2)] and not p.machine.later and p.machine.devices[0].arena.used == used
    assert (p.read(at, 64, s) == 2).all() and not p.machine.findings()


def test_an_interrupt_is_not_lost(monkeypatch):
    p = Program()

    def interrupt(*args): raise KeyboardInterrupt
    monkeypatch.setattr(p.machine, "finish", interrupt)
    with pytest.raises(KeyboardInterrupt):
        code(p.d.CtxSynchronize)
        for _ in range(1000): time.sleep(0.01)             # it wakes no sleeper
