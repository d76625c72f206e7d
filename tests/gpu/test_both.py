"""The same calls on the simulated machine and, where there is one, on a GPU: what the simulator was told about the driver is asked of the driver.

Only calls that are defined: a stale handle may end a real driver's process. What ends a context runs in a process of its own.
"""
import ctypes
import functools
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from forno.core.flags import flags
from forno.gpu import chips, prototypes
from forno.gpu.driver import OLDEST, Driver, open_library, start
from forno.gpu.errors import Missing
from forno.gpu.prototypes import DEVICE, FUNCTION, NODE, POINTER, POOL, ExecUpdateResult, KernelNodeParams, LaunchConfig, NodeParams
from forno.gpu.sim import Machine
from tests.laws.tree import ROOT

from .ptx_tools import ptxas
from .simulated import PTX, Program, code
from .test_sim_core import encoded
from .test_sim_graphs import FORBIDDEN, GLOBAL, RELAXED, THREAD, Captured, kernel_params, words

N = 64
KINDS = ("simulated", "hardware")


@functools.cache
def hardware() -> Driver | str:
    """The real driver, or why there is none."""
    if flags.GPU == "none": return "FORNO_GPU=none"
    try: return start(open_library())
    except Missing as e: return str(e)


def made(kind, make=Program):
    if kind == "simulated": return make(Machine(seed=1, version=13000))
    if isinstance(driver := hardware(), str): pytest.skip(driver)
    return make(driver=driver)


@pytest.fixture(params=KINDS)
def p(request):
    """A program; what the simulated machine finds in it is an error."""
    out = made(request.param)
    yield out
    if out.machine: assert not out.machine.findings()


@pytest.fixture(params=KINDS)
def careless(request):
    """A program that is meant to make mistakes."""
    return made(request.param)


@pytest.fixture(params=KINDS)
def c(request):
    """A program with two streams that can be captured."""
    return made(request.param, Captured)


# ---------------------------------------------------------------- what there is
def test_the_device(p):
    d = p.d
    assert d.version >= OLDEST and d.DeviceGetCount() >= 1 and d.CtxGetDevice() == 0 and d.CtxGetCurrent() == p.context
    assert d.DeviceGetName(0) and len(d.DeviceGetUuid(0)) == 16 and any(d.DeviceGetUuid(0)) and d.DeviceGetPCIBusId(0).count(":") == 2
    free, total = d.MemGetInfo()
    assert 0 < free <= total and abs(total - d.DeviceTotalMem(0)) < total / 20
    least, greatest = d.CtxGetStreamPriorityRange()
    assert greatest <= least == 0


def test_the_table_of_chips(p):
    """What `chips` says of this capability is what the driver says."""
    ask = lambda name: p.d.DeviceGetAttribute(DEVICE[name], 0)                    # noqa: E731
    chip = chips.chip((ask("major"), ask("minor")))
    assert chip.capability == (ask("major"), ask("minor")), "a chip that forno does not know yet"
    assert {"sm_threads": chip.threads, "sm_shared": chip.shared, "optin_shared": chip.optin, "sm_blocks": chip.blocks, "sm_registers": chip.registers,
            "reserved_shared": chip.reserved_shared, "block_threads": chips.BLOCK_THREADS, "block_shared": chips.STATIC_SHARED, "warp": chips.WARP} == {
        k: ask(k) for k in ("sm_threads", "sm_shared", "optin_shared", "sm_blocks", "sm_registers", "reserved_shared", "block_threads", "block_shared", "warp")}
    f = p.function("scale")
    registers = p.d.FuncGetAttribute(FUNCTION["registers"], f)
    for threads in (32, 64, 96, 128, 256, 512, 1024):
        for shared in (0, 1024, 8 << 10, 40 << 10):
            assert p.d.OccupancyMaxActiveBlocksPerMultiprocessor(f, threads, shared) == chip.resident(threads, registers, shared), (threads, shared)


# ---------------------------------------------------------------- memory
def test_fills_and_copies(p):
    at = p.d.MemAlloc(256)
    assert at % 256 == 0
    p.d.MemsetD32Async(at, 0x3F800000, 64, 0)
    p.d.MemsetD16Async(at + 128, 0x4000, 2, 0)
    p.d.MemsetD8Async(at + 252, 0, 4, 0)
    got = p.read(at, 64)
    assert got[0] == 1 and got[32].view(np.uint32) == 0x40004000 and got[63] == 0
    square = np.arange(64, dtype=np.float32).reshape(8, 8)
    copy = prototypes.Memcpy2D(fromtype=1, fromhost=square.ctypes.data, frompitch=32, fromx=8, fromy=2, totype=2, to=at, topitch=32, tox=4, width=12, height=4)
    p.d.Memcpy2DAsync(copy, 0)
    assert (p.read(at, 64).reshape(8, 8)[:4, 1:4] == square[2:6, 2:5]).all()
    other = p.d.MemAlloc(256)
    p.d.MemcpyDtoDAsync(other, at, 256, 0)
    p.d.MemcpyAsync(other, at, 256, 0)
    assert (p.read(other, 64) == p.read(at, 64)).all()
    p.d.MemFree(at)
    p.d.MemFree(other)


def test_pageable_memory_may_be_used_at_once(p):
    x, s = np.ones(N, np.float32), p.stream()
    a = p.d.MemAlloc(x.nbytes)
    p.d.MemcpyHtoDAsync(a, x.ctypes.data, x.nbytes, s)
    x[:] = 9
    p.d.MemcpyDtoHAsync(x.ctypes.data, a, x.nbytes, s)
    assert (x == 1).all()


def test_pointers(p):
    a, host = p.array(np.ones(N)), p.d.MemHostAlloc(4 * N, 0)
    assert [p.d.PointerGetAttribute(POINTER[k], a + 4) for k in ("memory_type", "device", "range_start", "range_size", "context")] == [2, 0, a, 4 * N, p.context]
    assert p.d.PointerGetAttribute(POINTER["memory_type"], host) == 1 and p.d.PointerGetAttribute(POINTER["host_pointer"], host + 4) == host + 4
    p.d.MemFreeHost(host)


def test_registered_memory(careless):
    p = careless
    x = np.ones(4096, np.float32)
    p.d.MemHostRegister(x.ctypes.data, x.nbytes, 0)
    assert code(p.d.MemHostRegister, x.ctypes.data, x.nbytes, 0) == 712
    p.launch("scale", p.d.MemHostGetDevicePointer(x.ctypes.data, 0), 4096)
    p.d.CtxSynchronize()
    assert (x == 2).all()
    p.d.MemHostUnregister(x.ctypes.data)
    assert code(p.d.MemHostUnregister, x.ctypes.data) == 713


def test_sizes_that_are_refused(careless):
    p = careless
    assert code(p.d.MemAlloc, 0) == 1 and code(p.d.MemAlloc, 1 << 46) == 2 and code(p.d.MemHostAlloc, 0, 0) == 1
    at = p.d.MemAlloc(256)
    assert code(p.d.MemsetD32Async, at + 2, 0, 1, 0) == 1
    p.d.MemsetD8Async(at, 0, 0, 0)


def test_pools(p):
    pool, s = p.d.DeviceGetDefaultMemPool(0), p.stream()
    used = p.d.MemPoolGetAttribute(pool, POOL["used"])
    a = p.d.MemAllocAsync(4 * N, s)
    p.d.StreamSynchronize(s)
    assert p.d.MemPoolGetAttribute(pool, POOL["used"]) > used and p.d.PointerGetAttribute(POINTER["mempool"], a) == pool == p.d.DeviceGetMemPool(0)
    p.d.MemsetD32Async(a, 0x40000000, N, s)
    assert (p.read(a, N, s) == 2).all()
    p.d.MemFreeAsync(a, s)
    p.d.StreamSynchronize(s)
    assert p.d.MemPoolGetAttribute(pool, POOL["used"]) == used
    mine = p.d.MemPoolCreate(prototypes.PoolProps(1, 0, prototypes.MemLocation(1, 0)))
    keep = ctypes.c_uint64(1 << 30)
    p.d.MemPoolSetAttribute(mine, POOL["release_threshold"], ctypes.byref(keep))
    assert p.d.MemPoolGetAttribute(mine, POOL["release_threshold"]) == 1 << 30
    p.d.MemFreeAsync(p.d.MemAllocFromPoolAsync(4 * N, mine, s), s)
    p.d.StreamSynchronize(s)
    p.d.MemPoolTrimTo(mine, 0)
    p.d.MemPoolDestroy(mine)


def test_memory_apart_from_addresses(p):
    props = prototypes.AllocationProp(1, 1, prototypes.MemLocation(1, 0))
    access = prototypes.AccessDesc(prototypes.MemLocation(1, 0), 3)
    page = p.d.MemGetAllocationGranularity(props, 0)
    at, memory = p.d.MemAddressReserve(4 * page, 0, 0, 0), p.d.MemCreate(page, props, 0)
    assert at % page == 0
    for k in (0, 2):
        p.d.MemMap(at + k * page, page, 0, memory, 0)
        p.d.MemSetAccess(at + k * page, page, access, 1)
        if k == 0: p.d.MemsetD32Async(at, 0x3F800000, N, 0)
        else: p.launch("scale", at + k * page, N)
        p.d.CtxSynchronize()
        if k == 0: p.d.MemUnmap(at, page)
    assert (p.read(at + 2 * page, N) == 2).all()
    file = ctypes.c_int(-1)
    p.d.MemExportToShareableHandle(ctypes.byref(file), memory, 1, 0)
    other = p.d.MemImportFromShareableHandle(file.value, 1)
    os.close(file.value)
    p.d.MemMap(at, page, 0, other, 0)
    p.d.MemSetAccess(at, page, access, 1)
    assert (p.read(at, N) == 2).all()
    for m in (memory, other): p.d.MemRelease(m)
    for k in (0, 2): p.d.MemUnmap(at + k * page, page)
    p.d.MemAddressFree(at, 4 * page)


# ---------------------------------------------------------------- streams
def test_streams_and_events(p):
    a, b, s, t = p.array(np.ones(N)), p.array(np.zeros(N)), p.stream(), p.stream()
    assert p.d.StreamGetFlags(s) == 1 and p.d.StreamGetPriority(s) == 0 and p.d.StreamGetCtx(s) == p.context
    start, end, quiet = p.event(), p.event(), p.d.EventCreate(2)
    assert p.d.EventQuery(p.event()) is True
    p.d.EventRecord(start, s)
    for _ in range(4):
        p.launch("scale", a, N, stream=s)
        p.wait(t, s)
        p.launch("move", b, a, N, stream=t)
        p.wait(s, t)
    p.d.EventRecord(end, s)
    p.d.EventRecord(quiet, s)
    while not p.d.EventQuery(end): pass
    p.d.EventSynchronize(quiet)
    assert 0 < p.d.EventElapsedTime(start, end) < 1000 and code(p.d.EventElapsedTime, start, quiet) == 400
    assert (p.read(b, N, t) == 16).all() and p.d.StreamQuery(t) is True


def test_the_default_stream(p):
    a, s, t = p.array(np.ones(N)), p.stream(blocking=True), p.stream(blocking=True)
    for _ in range(3):
        p.launch("scale", a, N, stream=s)
        p.launch("one", a, N, stream=0)
        p.launch("scale", a, N, stream=t)
        p.launch("one", a, N, stream=1)
    x = 1
    for _ in range(3): x = 2 * (2 * x + 1) + 1
    assert (p.read(a, N) == x).all()


def test_host_functions(p):
    a, s, seen, host = p.array(np.ones(N)), p.stream(), [], p.d.MemHostAlloc(4 * N, 0)

    def called(data): seen.append((data, ctypes.c_float.from_address(host).value))
    f = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(called)
    p.launch("scale", a, N, stream=s)
    p.d.MemcpyDtoHAsync(host, a, 4 * N, s)
    p.d.LaunchHostFunc(s, f, 77)
    p.d.StreamSynchronize(s)
    assert seen == [(77, 2.0)]
    p.d.MemFreeHost(host)


def test_values(p):
    a, flag, s, t = p.array(np.ones(N)), p.array(np.zeros(1)), p.stream(), p.stream()
    p.d.StreamWaitValue32(t, flag, 3, 0)
    p.launch("one", a, N, stream=t)
    p.launch("scale", a, N, stream=s)
    p.d.StreamWriteValue32(s, flag, 3, 0)
    assert (p.read(a, N, t) == 3).all()


# ---------------------------------------------------------------- code
def test_functions(p):
    f = p.function("hungry")
    ask = lambda name: p.d.FuncGetAttribute(FUNCTION[name], f)                    # noqa: E731
    assert ask("static_shared") == 4096 and ask("threads") == 1024 and ask("dynamic_shared") == 44 << 10
    at, nbytes = p.d.ModuleGetGlobal(p.module, b"counter")
    assert nbytes == 4 and p.read(at, 1).view(np.uint32)[0] == 7
    assert code(p.function, "nothing") == 500


def test_libraries(p):
    lib = p.d.LibraryLoadData(PTX, None, None, 0, None, None, 0)
    k, at = p.d.LibraryGetKernel(lib, b"scale"), p.array([1, 2, 3])
    for f in (k, p.d.KernelGetFunction(k)): p.d.LaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, 0, p.params(at, 3), None)
    assert p.read(at, 3).tolist() == [4, 8, 12]
    assert p.d.LibraryGetGlobal(lib, b"counter")[1] == 4 and code(p.d.LibraryGetKernel, lib, b"nothing") == 500
    p.d.LibraryUnload(lib)


def test_cubins(p):
    link = p.d.LinkCreate(0, None, None)
    p.d.LinkAddData(link, 1, PTX, len(PTX), b"k", 0, None, None)
    cubin = ctypes.string_at(*p.d.LinkComplete(link))
    p.d.LinkDestroy(link)
    assert cubin.startswith(b"\x7fELF")
    f, at = p.d.ModuleGetFunction(p.d.ModuleLoadDataEx(cubin, 0, None, None), b"scale"), p.array([1, 2, 3])
    p.d.LaunchKernel(f, 1, 1, 1, 32, 1, 1, 0, 0, p.params(at, 3), None)
    assert p.read(at, 3).tolist() == [2, 4, 6]


@pytest.mark.parametrize("change, expected", [((b"7.5", b"9.9"), 222), ((b"add.f32", b"sum.f32"), 218), ((b"sm_80", b"sm_130"), 218), ((b"7.5", b"6.3"), 218),
                                              ((b"room[4096]", b"room[49153]"), 218)])
def test_code_that_is_refused(careless, change, expected):
    """With words in the log."""
    p = careless
    if p.machine and change[0] == b"add.f32": pytest.skip("the simulator knows instructions when it runs them")
    buffer = ctypes.create_string_buffer(4096)
    options, values = (ctypes.c_int * 2)(5, 6), (ctypes.c_size_t * 2)(ctypes.addressof(buffer), 4096)
    assert code(p.d.ModuleLoadDataEx, PTX.replace(*change), 2, options, values) == expected and buffer.value


def test_arguments_that_are_refused(careless):
    p = careless
    at, f = p.array([1, 2]), p.function("scale")
    values, size = (ctypes.c_uint64 * 2)(at, 2), ctypes.c_size_t(16)
    extra = (ctypes.c_size_t * 5)(1, ctypes.addressof(values), 2, ctypes.addressof(size), 0)
    assert code(p.d.LaunchKernel, f, 1, 1, 1, 32, 1, 1, 0, 0, p.params(at, 2), extra) == 1                     # parameters in both ways
    assert code(p.d.LaunchKernel, f, 1, 1, 1, 32, 1, 1, 0, 0, None, extra) == 0
    assert code(p.d.EventCreate, 4) == 1 and code(p.d.EventCreate, 64) == 1 and code(p.d.MemHostAlloc, 64, 64) == 1 and code(p.d.StreamCreateWithPriority, 2, 0) == 1
    assert code(p.d.ModuleLoadDataEx, PTX, 1, (ctypes.c_int * 1)(999), (ctypes.c_size_t * 1)(0)) == 1
    assert code(p.d.GetProcAddress, b"cuInit", p.d.version + 10, 1) == 1


def test_a_links_options_must_stay():
    p = Program(Machine(seed=1))
    options, values = (ctypes.c_int * 2)(5, 6), (ctypes.c_size_t * 2)(ctypes.addressof(buffer := ctypes.create_string_buffer(64)), 64)
    link = p.d.LinkCreate(2, options, values)
    values[0] = 0                              # as freed memory may
    p.d.LinkAddData(link, 1, PTX[:-1], len(PTX) - 1, None, 0, None, None)
    said = [str(f) for f in p.machine.findings()]
    assert len(said) == 2 and "changed or freed before LinkDestroy" in said[0] and "doesn't end with a 0" in said[1] and not buffer.value


@pytest.mark.parametrize("grid, block, shared, expected", [
    ((1, 1, 1), (1025, 1, 1), 0, 1), ((1, 1, 1), (64, 64, 1), 0, 1), ((1, 1, 1), (1, 1, 65), 0, 1), ((0, 1, 1), (1, 1, 1), 0, 1), ((1, 65536, 1), (1, 1, 1), 0, 1),
    ((1, 1, 1), (32, 1, 1), 45 << 10, 1), ((1, 1, 1), (32, 1, 1), 44 << 10, 0)])
def test_limits_of_launches(careless, grid, block, shared, expected):
    p = careless
    assert code(p.d.LaunchKernel, p.function("hungry"), *grid, *block, shared, 0, p.params(p.array([1, 2])), None) == expected


def test_more_shared_memory(careless):
    p = careless
    f, most = p.function("hungry"), p.d.DeviceGetAttribute(DEVICE["optin_shared"], 0)
    p.d.FuncSetAttribute(f, FUNCTION["dynamic_shared"], most - 4096)
    assert code(p.d.LaunchKernel, f, 1, 1, 1, 1, 1, 1, most - 4096, 0, p.params(p.array([1])), None) == 0
    assert code(p.d.FuncSetAttribute, f, FUNCTION["dynamic_shared"], most - 4095) == 1


def test_launches_by_configuration(p):
    at, s, f = p.array([1, 2, 3]), p.stream(), p.function("scale")
    config, size = LaunchConfig(1, 1, 1, 32, 1, 1, 0, s, None, 0), ctypes.c_size_t(16)
    p.d.LaunchKernelEx(config, f, p.params(at, 3), None)
    values = (ctypes.c_uint64 * 2)(at, 3)
    extra = (ctypes.c_size_t * 5)(1, ctypes.addressof(values), 2, ctypes.addressof(size), 0)
    p.d.LaunchKernelEx(config, f, None, extra)
    assert p.read(at, 3, s).tolist() == [4, 8, 12]


@pytest.mark.parametrize("changes, expected", [
    (dict(), 0), (dict(base=(1 << 20) + 8), 1), (dict(sizes=(0, 64)), 1), (dict(strides=(200,)), 1), (dict(box=(64, 257)), 1), (dict(box=(128, 32)), 1), (dict(box=(4, 32)), 1),
    (dict(steps=(0, 1)), 1), (dict(interleave=1), 1), (dict(rank=5, sizes=(64, 2, 3, 4, 5), strides=(128, 256, 768, 3072), box=(64, 1, 1, 1, 1), steps=(1,) * 5), 0)])
def test_tensor_maps(careless, changes, expected):
    p = careless
    if p.d.DeviceGetAttribute(DEVICE["tensor_map"], 0): assert encoded(p.d, **{"base": p.d.MemAlloc(1 << 20), **changes})[0] == expected
    else: pytest.skip("this chip has no tensor maps")


# ---------------------------------------------------------------- graphs
def test_replays(c):
    def body():
        c.launch("scale", c.a, N, stream=c.s)
        c.wait(c.t, c.s)
        c.launch("move", c.b, c.a, N, stream=c.t)
        c.launch("move", c.c, c.a, N, stream=c.s)
        c.wait(c.s, c.t)
        c.launch("sum", c.a, c.b, c.c, N, stream=c.s)
    graph = c.capture(body)
    assert c.count(graph) == 4 and (c.read(c.a, N, c.s) == 1).all()
    e = c.d.GraphInstantiateWithFlags(graph, 0)
    c.d.GraphUpload(e, c.s)
    for _ in range(3): c.d.GraphLaunch(e, c.s)
    assert (c.read(c.a, N, c.s) == 64).all()
    c.d.GraphExecDestroy(e)
    c.d.GraphDestroy(graph)


@pytest.mark.parametrize("name", FORBIDDEN)
def test_what_spoils_a_capture(c, name):
    c.s = c.stream(blocking=True)
    c.done, c.pool = c.event(), c.d.DeviceGetDefaultMemPool(0)
    c.d.EventRecord(c.done, c.t)
    make, expected = FORBIDDEN[name]
    c.d.StreamBeginCapture(c.s, GLOBAL)
    c.launch("scale", c.a, N, stream=c.s)
    got = code(*make(c)), c.d.StreamIsCapturing(c.s), code(c.d.MemsetD8Async, c.a, 0, 4, c.s), code(c.d.StreamEndCapture, c.s), c.d.StreamIsCapturing(c.s)
    assert got == (expected, 2, 901, 901, 0)


@pytest.mark.parametrize("mode, other, own", [(GLOBAL, 900, 900), (THREAD, 0, 900), (RELAXED, 0, 0)])
def test_modes_of_captures(c, mode, other, own):
    codes = []

    def elsewhere():
        c.use()
        codes.append(code(c.d.MemAlloc, 64))
    c.d.StreamBeginCapture(c.s, mode)
    t = threading.Thread(target=elsewhere)
    t.start()
    t.join()
    codes.append(code(c.d.MemAlloc, 64))
    codes.append(code(c.d.StreamEndCapture, c.s))
    assert codes == [other, own, 901 if own else 0]


def test_codes_of_captures(c):
    e = c.event()
    got = {"default stream": code(c.d.StreamBeginCapture, 0, GLOBAL), "not begun": code(c.d.StreamEndCapture, c.s)}
    c.d.StreamBeginCapture(c.s, RELAXED)
    got["begun twice"] = code(c.d.StreamBeginCapture, c.s, RELAXED)
    c.launch("scale", c.a, N, stream=c.s)
    c.d.EventRecord(e, c.s)
    got |= {"query": code(c.d.EventQuery, e), "synchronize": code(c.d.EventSynchronize, e)}
    c.d.StreamBeginCapture(c.t, RELAXED)
    got["merge"] = code(c.d.StreamWaitEvent, c.t, e, 0)
    got["merged"] = [code(c.d.StreamEndCapture, s) for s in (c.s, c.t)]
    c.d.StreamBeginCapture(c.s, GLOBAL)
    c.launch("scale", c.a, N, stream=c.s)
    c.wait(c.t, c.s)
    c.launch("one", c.a, N, stream=c.t)
    got["unjoined"] = code(c.d.StreamEndCapture, c.s)
    c.d.StreamBeginCapture(c.s, GLOBAL)
    c.wait(c.t, c.s)
    got["other stream"] = [code(c.d.StreamEndCapture, s) for s in (c.t, c.s)]
    assert got == {"default stream": 900, "not begun": 401, "begun twice": 401, "query": 907, "synchronize": 907, "merge": 902, "merged": [901, 901], "unjoined": 904,
                   "other stream": [903, 901]}


def test_graphs_by_hand(c):
    g = c.d.GraphCreate(0)
    one = c.d.GraphAddKernelNode(g, None, 0, kernel_params(c, "scale", c.a, N))
    two = c.d.GraphAddKernelNode(g, None, 0, kernel_params(c, "one", c.a, N))
    c.d.GraphAddDependencies(g, words(one), words(two), 1)
    assert code(c.d.GraphAddDependencies, g, words(one), words(two), 1) == 1 and set(c.nodes(g)) == {one, two} and c.d.GraphNodeGetType(two) == NODE["kernel"]
    e = c.d.GraphInstantiateWithFlags(g, 0)
    c.d.GraphLaunch(e, c.s)
    c.d.StreamSynchronize(c.s)
    c.d.GraphExecKernelNodeSetParams(e, two, kernel_params(c, "scale", c.a, N))
    c.d.GraphLaunch(e, c.s)
    assert (c.read(c.a, N, c.s) == 12).all()
    got = KernelNodeParams()
    c.d.GraphKernelNodeGetParams(one, ctypes.byref(got))
    assert got.blockx == N and ctypes.c_uint64.from_address(ctypes.c_size_t.from_address(got.params).value).value == c.a


def test_other_nodes(c):
    if not c.d.has("GraphAddNode"): pytest.skip("a driver before CUDA 12.2")
    calls = []
    f = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(calls.append)
    g = c.d.GraphCreate(0)
    host, fill, empty = (NodeParams(type=NODE[k]) for k in ("host", "memset", "empty"))
    host.host = prototypes.HostNodeParams(ctypes.cast(f, ctypes.c_void_p), 5)
    fill.memset = prototypes.MemsetNodeParams(c.c, 0, 0x3F800000, 4, N, 1, c.context)
    first = c.d.GraphAddNode(g, None, 0, host)
    c.d.GraphAddNode(g, words(c.d.GraphAddNode(g, words(first), 1, empty)), 1, fill)
    c.d.GraphLaunch(c.d.GraphInstantiateWithFlags(g, 0), c.s)
    assert (c.read(c.c, N, c.s) == 1).all() and calls == [5]


def test_updates(c):
    def of(*launches): return c.capture(lambda: [c.launch(name, at, N, stream=c.s) for name, at in launches])
    e, result = c.d.GraphInstantiateWithFlags(of(("scale", c.a), ("one", c.b)), 0), ExecUpdateResult()
    c.d.GraphExecUpdate(e, of(("one", c.b), ("scale", c.a)), ctypes.byref(result))
    assert result.result == 0
    assert code(c.d.GraphExecUpdate, e, of(("one", c.b)), ctypes.byref(result)) == 910 and result.result == 2
    assert code(c.d.GraphExecUpdate, e, c.capture(lambda: [c.launch("one", c.b, N, stream=c.s), c.d.MemsetD8Async(c.a, 0, 4, c.s)]), ctypes.byref(result)) == 910
    assert result.result == 3
    c.d.GraphLaunch(e, c.s)
    assert (c.read(c.a, N, c.s) == 2).all() and (c.read(c.b, N, c.s) == 1).all()


# ---------------------------------------------------------------- what ends a context
STICKY = """
import sys
import numpy as np
from tests.gpu.simulated import code
from tests.gpu.test_both import N, hardware, made
p = made(sys.argv[1])
at, s = p.array(np.ones(N)), p.stream()
p.launch(sys.argv[2], 1 << 50 if sys.argv[2] == "scale" else at, N, stream=s)
print(code(p.d.StreamSynchronize, s), code(p.d.MemAlloc, 64), code(p.d.CtxSynchronize), p.d.DeviceGetCount() > 0)
"""


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name, expected", [("scale", 700), ("crooked", 716), ("quit", 719)])
def test_kernels_that_fail(kind, name, expected):
    if kind == "hardware" and isinstance(hardware(), str): pytest.skip(hardware())
    done = subprocess.run([sys.executable, "-c", STICKY, kind, name], cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout == f"{expected} {expected} {expected} True\n", done.stderr


# ---------------------------------------------------------------- the tests' own kernels
@pytest.mark.skipif(ptxas() is None, reason="needs ptxas (pip install nvidia-cuda-nvcc)")
@pytest.mark.parametrize("arch", ["sm_80", "sm_90", "sm_120"])
def test_the_kernels_are_valid(arch, tmp_path):
    (tmp_path / "k.ptx").write_bytes(PTX.rstrip(b"\0"))
    done = subprocess.run([ptxas(), f"-arch={arch}", str(tmp_path / "k.ptx"), "-o", str(tmp_path / "k.cubin")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
