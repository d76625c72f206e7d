"""Streams, events, the default stream, copies of pinned and pageable memory, pools; and the races that are found whatever the order was."""
import ctypes
import threading

import numpy as np
import pytest

from forno.gpu import prototypes
from forno.gpu.prototypes import POINTER, POOL
from forno.gpu.sim import Machine, Spec

from .conftest import seeds
from .simulated import Program, code

SEEDS = seeds(range(12))
N = 64


def pinned(p, values):
    """(address, array) of pinned memory."""
    values = np.asarray(values, np.float32)
    at = p.d.MemHostAlloc(values.nbytes, 0)
    view = np.ctypeslib.as_array((ctypes.c_float * values.size).from_address(at))
    view[:] = values
    return at, view


def kinds(m): return [f.kind for f in m.findings()]


# ---------------------------------------------------------------- order
@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_runs_before_somebody_waits(seed):
    p = Program(seed=seed)
    p.machine.eager = 0.0
    at, s = p.array(np.ones(N)), p.stream()
    for _ in range(5): p.launch("scale", at, N, stream=s)
    assert len(p.machine.ready) == 1
    p.d.StreamSynchronize(s)
    assert not p.machine.ready and (p.read(at, N, s) == 32).all()


def interleaving(seed):
    """The order in which two streams' operations run."""
    m = Machine(seed=seed)
    p = Program(m)
    a, b, s, t = p.array(np.ones(N)), p.array(np.ones(N)), p.stream(), p.stream()
    order = []
    run = m._run
    m._run = lambda op: (order.append(str(op.stream)), run(op))
    for _ in range(6):
        p.launch("scale", a, N, stream=s)
        p.launch("scale", b, N, stream=t)
    p.d.CtxSynchronize()
    return tuple(order)


def test_the_order_depends_on_the_seed_alone():
    orders = [interleaving(seed) for seed in range(20)]
    assert orders == [interleaving(seed) for seed in range(20)] and len(set(orders)) > 10


@pytest.mark.parametrize("seed", SEEDS)
def test_events_order_streams(seed):
    with Machine(seed=seed) as m:
        p = Program(m)
        a, b, s, t = p.array(np.ones(N)), p.array(np.zeros(N)), p.stream(), p.stream()
        for _ in range(4):
            p.launch("scale", a, N, stream=s)
            p.wait(t, s)
            p.launch("move", b, a, N, stream=t)
            p.wait(s, t)
        assert (p.read(b, N, t) == 16).all()


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("dropped", ["after", "before"])
def test_a_missing_wait_is_a_race(seed, dropped):
    """Whatever the order was this time."""
    p = Program(seed=seed)
    a, b, s, t = p.array(np.ones(N)), p.array(np.zeros(N)), p.stream(), p.stream()
    for _ in range(2):
        p.launch("scale", a, N, stream=s)
        if dropped != "after": p.wait(t, s)
        p.launch("move", b, a, N, stream=t)
        if dropped != "before": p.wait(s, t)
    p.d.CtxSynchronize()
    assert "race" in kinds(p.machine) and all("scale" in f.text and "move" in f.text for f in p.machine.findings())


def test_readers_do_not_race():
    with Machine(seed=1) as m:
        p = Program(m)
        a = p.array(np.ones(N))
        outs = [p.array(np.zeros(N)) for _ in range(3)]
        for out in outs: p.launch("move", out, a, N, stream=p.stream())
        p.d.CtxSynchronize()


def test_parts_of_one_allocation():
    """An allocator divides its memory: its parts don't race, and nobody leaves his."""
    with Machine(seed=2) as m:
        p = Program(m)
        at = p.array(np.ones(4 * N))
        m.divide(at, [(at, at + 4 * N), (at + 8 * N, at + 12 * N)])
        p.launch("scale", at, N, stream=p.stream())
        p.launch("scale", at + 8 * N, N, stream=p.stream())
        p.d.CtxSynchronize()
    m.eager = 0.0
    p.launch("scale", at, N)
    m.divide(at, [])                                                            # all is free, which does not concern what was launched before
    assert (p.read(at, N) == 4).all()
    p.launch("scale", at, 1)
    assert code(p.d.CtxSynchronize) == 700 and "out of bounds" in kinds(m)


@pytest.mark.parametrize("seed", SEEDS)
def test_memory_that_is_given_out_again(seed):
    """Its new owner finds nothing in it; what was queued before still does."""
    with Machine(seed=seed) as m:
        p = Program(m)
        a, b, s = p.array(np.ones(N)), p.array(np.zeros(N)), p.stream()
        p.launch("move", b, a, N, stream=s)
        m.poison(a, 4 * N, s)
        assert np.isnan(p.read(a, N, s)).all() and (p.read(b, N, s) == 1).all()
        p.d.StreamBeginCapture(s, 0)
        m.poison(a, 4 * N, s)
        assert p.d.StreamGetCaptureInfo(s)[4] == 0
        p.d.StreamEndCapture(s)
    p.launch("scale", a, N, stream=p.stream())
    m.poison(a, 4 * N, s)
    p.d.CtxSynchronize()
    assert kinds(m) == ["race"]


@pytest.mark.parametrize("seed", SEEDS)
def test_what_the_host_has_waited_for_is_ordered(seed):
    with Machine(seed=seed) as m:
        p = Program(m)
        a, s, t, e = p.array(np.ones(N)), p.stream(), p.stream(), p.event()
        p.launch("scale", a, N, stream=s)
        p.d.StreamSynchronize(s)
        p.launch("scale", a, N, stream=t)
        p.d.EventRecord(e, t)
        while not p.d.EventQuery(e): pass
        p.launch("scale", a, N, stream=s)
        while not p.d.StreamQuery(s): pass
        p.launch("scale", a, N, stream=t)
        assert (p.read(a, N, t) == 16).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_default_stream_waits_for_blocking_ones(seed):
    with Machine(seed=seed) as m:
        p = Program(m)
        a, s, t = p.array(np.ones(N)), p.stream(blocking=True), p.stream(blocking=True)
        for _ in range(3):
            p.launch("scale", a, N, stream=s)
            p.launch("one", a, N, stream=0)
            p.launch("scale", a, N, stream=t)
            p.launch("one", a, N, stream=1)
        p.d.StreamSynchronize(0)
        x = 1
        for _ in range(3): x = 2 * (2 * x + 1) + 1
        assert (p.read(a, N) == x).all()


@pytest.mark.parametrize("seed", SEEDS)
def test_the_default_stream_does_not_wait_for_others(seed):
    p = Program(seed=seed)
    a, s = p.array(np.ones(N)), p.stream()
    p.launch("scale", a, N, stream=s)
    p.launch("one", a, N, stream=0)
    p.d.CtxSynchronize()
    assert kinds(p.machine) == ["race"]


def test_per_thread_default_streams():
    """Each thread has its own, which is a blocking one."""
    p = Program(seed=5)
    a, b = p.array(np.ones(N)), p.array(np.ones(N))

    def work(at):
        p.use()
        p.launch("scale", at, N, stream=2)
        p.d.StreamSynchronize(2)
    threads = [threading.Thread(target=work, args=(at,)) for at in (a, b)]
    for t in threads: t.start()
    for t in threads: t.join()
    assert len(p.machine.devices[0].context.threads) == 2
    assert (p.read(a, N) == 2).all() and (p.read(b, N) == 2).all() and not p.machine.findings()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_destroyed_stream_still_ends_its_work(seed):
    with Machine(seed=seed) as m:
        p = Program(m)
        a, s = p.array(np.ones(N)), p.stream()
        p.launch("scale", a, N, stream=s)
        p.d.StreamDestroy(s)
        assert code(p.d.StreamSynchronize, s) == 400
        p.d.CtxSynchronize()
        assert (p.read(a, N) == 2).all()


# ---------------------------------------------------------------- events and time
def test_time_is_the_models():
    """The same for every seed: what operations cost, not how they were interleaved."""
    def elapsed(seed):
        p = Program(seed=seed)
        n = 1 << 20
        a, s, t = p.array(np.ones(n)), p.stream(), p.stream()
        e, f = p.event(), p.event()
        p.d.EventRecord(e, s)
        for _ in range(10): p.launch("scale", a, n, stream=s, threads=256)
        p.d.EventRecord(f, s)
        p.d.MemsetD8Async(p.d.MemAlloc(64), 0, 64, t)
        p.d.EventSynchronize(f)
        return p.d.EventElapsedTime(e, f)
    times = {elapsed(seed) for seed in range(4)}
    assert len(times) == 1 and 0.03 < times.pop() < 1.0


def test_slow_copies():
    def elapsed(slow):
        p = Program()
        p.machine.slow = slow
        at, view = pinned(p, np.ones(1 << 20))
        a, e, f = p.d.MemAlloc(view.nbytes), p.event(), p.event()
        p.d.EventRecord(e, 0)
        p.d.MemcpyHtoDAsync(a, at, view.nbytes, 0)
        p.d.EventRecord(f, 0)
        p.d.EventSynchronize(f)
        return p.d.EventElapsedTime(e, f)
    assert elapsed(100.0) > 50 * elapsed(1.0)


def test_events_that_can_not_be_timed():
    p = Program()
    a, b, quiet = p.event(), p.event(), p.d.EventCreate(2)
    assert code(p.d.EventElapsedTime, a, b) == 400                              # never recorded
    for e in (a, b, quiet): p.d.EventRecord(e, 0)
    p.d.CtxSynchronize()
    assert code(p.d.EventElapsedTime, a, quiet) == 400 and p.d.EventElapsedTime(a, b) >= 0
    p.d.EventDestroy(a)
    assert code(p.d.EventQuery, a) == 400 and p.d.EventQuery(p.event())         # what was never recorded is done


def test_queries_say_not_yet():
    p = Program(seed=0)
    p.machine.eager = 0.0
    a, s, e = p.array(np.ones(N)), p.stream(), p.event()
    for _ in range(5): p.launch("scale", a, N, stream=s)
    p.d.EventRecord(e, s)
    answers = []
    while not answers or not answers[-1]: answers.append(p.d.EventQuery(e))
    assert answers[0] is False and len(answers) <= 6                            # asking lets things go on


# ---------------------------------------------------------------- the host's memory
@pytest.mark.parametrize("seed", SEEDS)
def test_pageable_memory_may_be_used_at_once(seed):
    """It is read at the call, and written before the call returns."""
    with Machine(seed=seed) as m:
        p = Program(m)
        x, s = np.ones(N, np.float32), p.stream()
        a = p.d.MemAlloc(x.nbytes)
        p.d.MemcpyHtoDAsync(a, x.ctypes.data, x.nbytes, s)
        x[:] = 9
        p.d.MemcpyDtoHAsync(x.ctypes.data, a, x.nbytes, s)
        assert (x == 1).all()


def test_pinned_memory_is_read_when_the_copy_runs():
    p = Program()
    p.machine.eager = 0.0
    at, x = pinned(p, np.ones(N))
    a, s = p.d.MemAlloc(x.nbytes), p.stream()
    p.d.MemcpyHtoDAsync(a, at, x.nbytes, s)
    x[:] = 9
    p.d.StreamSynchronize(s)
    assert (p.read(a, N, s) == 9).all() and kinds(p.machine) == ["early reuse"]


def test_pinned_memory_that_an_operation_writes_is_no_early_reuse():
    with Machine() as m:
        p = Program(m)
        m.eager = 0.0
        at, x = pinned(p, np.zeros(N))
        a, b, s = p.array(np.ones(N)), p.d.MemAlloc(4 * N), p.stream()
        p.d.MemcpyDtoHAsync(at, a, x.nbytes, s)
        p.d.MemcpyHtoDAsync(b, at, x.nbytes, s)
        p.d.StreamSynchronize(s)
        assert (x == 1).all() and (p.read(b, N, s) == 1).all()


def test_pinned_results_come_later():
    p = Program()
    p.machine.eager = 0.0
    a, s = p.array(np.ones(N)), p.stream()
    at, x = pinned(p, np.zeros(N))
    p.d.MemcpyDtoHAsync(at, a, x.nbytes, s)
    assert (x == 0).all()
    p.d.StreamSynchronize(s)
    assert (x == 1).all()


def test_two_copies_into_pinned_memory_race():
    p = Program(seed=1)
    at, x = pinned(p, np.zeros(N))
    for s in (p.stream(), p.stream()): p.d.MemcpyDtoHAsync(at, p.array(np.ones(N)), x.nbytes, s)
    p.d.CtxSynchronize()
    assert kinds(p.machine) == ["race"] and "pinned memory" in p.machine.findings()[0].text


def test_registered_memory_and_pointers():
    p = Program()
    x = np.ones(1024, np.float32)
    at = x.ctypes.data
    assert code(p.d.PointerGetAttribute, POINTER["memory_type"], at) == 1
    p.d.MemHostRegister(at, x.nbytes, 0)
    assert code(p.d.MemHostRegister, at + 64, 64, 0) == 712
    assert p.d.PointerGetAttribute(POINTER["memory_type"], at) == 1 and p.d.PointerGetAttribute(POINTER["host_pointer"], at + 4) == at + 4
    mapped = p.d.MemHostGetDevicePointer(at, 0)
    p.launch("scale", mapped, 1024)
    p.d.CtxSynchronize()
    assert (x == 2).all()
    p.d.MemHostUnregister(at)
    assert code(p.d.MemHostUnregister, at) == 713 and code(p.d.MemHostGetDevicePointer, at, 0) == 1
    a = p.array(np.ones(N))
    assert [p.d.PointerGetAttribute(POINTER[k], a + 4) for k in ("memory_type", "device", "range_start", "range_size")] == [2, 0, a, 4 * N]
    host, _ = pinned(p, np.ones(N))
    assert code(p.d.MemFreeHost, host + 64) == 1 and code(p.d.MemFreeHost, host) == 0 and code(p.d.MemFreeHost, host) == 1


_Callback = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


@pytest.mark.parametrize("seed", SEEDS)
def test_host_functions(seed):
    """They run in the stream's order, with their data, and may not call the driver."""
    with Machine(seed=seed) as m:
        p = Program(m)
        at, x = pinned(p, np.zeros(N))
        a, s, seen = p.array(np.ones(N)), p.stream(), []

        def called(data): seen.append((data, x[0], code(p.d.MemGetInfo), code(p.d.StreamSynchronize, s)))
        f = _Callback(called)
        p.launch("scale", a, N, stream=s)
        p.d.MemcpyDtoHAsync(at, a, x.nbytes, s)
        p.d.LaunchHostFunc(s, f, 77)
        p.d.StreamSynchronize(s)
        assert seen == [(77, 2.0, 800, 800)]


def test_host_functions_run_while_somebody_waits():
    """Not within other calls, whose caller may hold a lock that they take."""
    p = Program(seed=1)
    p.machine.eager = 1.0
    s, t, lock = p.stream(), p.stream(), threading.Lock()

    def called(data):
        assert lock.acquire(timeout=5)
        lock.release()
    f = _Callback(called)
    with lock:
        p.d.LaunchHostFunc(s, f, None)
        for _ in range(5): p.d.EventRecord(p.event(), t)
    p.d.StreamSynchronize(s)
    assert not p.machine.findings()


def test_other_threads_go_on_during_a_host_function():
    p = Program()
    s, inside, done = p.stream(), threading.Event(), threading.Event()

    def called(data):
        inside.set()
        assert done.wait(10)

    def other():
        assert inside.wait(10)
        p.use()
        p.d.MemAlloc(64)
        done.set()
    f, t = _Callback(called), threading.Thread(target=other)
    t.start()
    p.d.LaunchHostFunc(s, f, None)
    p.d.StreamSynchronize(s)
    t.join()
    assert done.is_set() and not p.machine.findings()


# ---------------------------------------------------------------- values
@pytest.mark.parametrize("seed", SEEDS)
def test_values_order_streams(seed):
    with Machine(seed=seed) as m:
        p = Program(m)
        a, flag, s, t = p.array(np.ones(N)), p.array(np.zeros(1)), p.stream(), p.stream()
        p.d.StreamWaitValue32(t, flag, 3, 0)
        p.launch("one", a, N, stream=t)
        p.launch("scale", a, N, stream=s)
        p.d.StreamWriteValue32(s, flag, 3, 0)
        assert (p.read(a, N, t) == 3).all()


def test_a_value_that_never_comes_is_a_hang(monkeypatch):
    from forno.gpu.sim import machine
    monkeypatch.setattr(machine, "PATIENCE", 0.2)
    p = Program()
    flag, s = p.array(np.zeros(1)), p.stream()
    p.d.StreamWaitValue32(s, flag, 1, 0)
    assert code(p.d.StreamSynchronize, s) == 702 and kinds(p.machine) == ["hang"]


# ---------------------------------------------------------------- pools
@pytest.mark.parametrize("seed", SEEDS)
def test_allocations_in_the_order_of_streams(seed):
    with Machine(seed=seed) as m:
        p = Program(m)
        s = p.stream()
        for _ in range(3):
            a = p.d.MemAllocAsync(4 * N, s)
            x = np.ones(N, np.float32)
            p.d.MemcpyHtoDAsync(a, x.ctypes.data, x.nbytes, s)
            p.launch("scale", a, N, stream=s)
            assert (p.read(a, N, s) == 2).all()
            p.d.MemFreeAsync(a, s)
        p.d.StreamSynchronize(s)
        assert p.d.MemPoolGetAttribute(p.d.DeviceGetDefaultMemPool(0), POOL["used"]) == 0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("mistake", ["used after", "other stream frees", "other stream uses", "freed twice"])
def test_memory_used_after_it_was_freed(seed, mistake):
    """In a stream's order, and where nothing orders the freeing and the use."""
    p = Program(seed=seed)
    s, t = p.stream(), p.stream()
    a = p.d.MemAllocAsync(4 * N, s)
    p.d.MemsetD32Async(a, 0, N, s)
    if mistake == "used after":                                       # the call itself is refused if the memory is already gone
        p.d.MemFreeAsync(a, s)
        code(p.d.MemsetD32Async, a, 0, N, s)
    elif mistake == "other stream frees": p.d.MemFreeAsync(a, t)
    elif mistake == "other stream uses": p.launch("scale", a, N, stream=t)
    else:
        p.d.MemFreeAsync(a, s)
        assert code(p.d.MemFreeAsync, a, s) in (1, 700)
        return
    code(p.d.CtxSynchronize)
    assert p.machine.findings() and all(k in ("race", "use after free", "out of bounds") for k in kinds(p.machine)), p.machine.findings()
    assert "pool allocation" in p.machine.findings()[0].text


def test_freed_memory_is_there_again_when_it_is_needed():
    p = Program(devices=[Spec(nbytes=1 << 20)])
    p.machine.eager = 0.0
    s = p.stream()
    for _ in range(10): p.d.MemFreeAsync(p.d.MemAllocAsync(900 << 10, s), s)
    assert code(p.d.MemAllocAsync, 2 << 20, s) == 2 and not p.machine.findings()


def test_pools():
    p = Program(devices=2)
    pool = p.d.MemPoolCreate(prototypes.PoolProps(1, 0, prototypes.MemLocation(1, 0)))
    s = p.stream()
    a = p.d.MemAllocFromPoolAsync(4 * N, pool, s)
    assert p.d.PointerGetAttribute(POINTER["mempool"], a) == pool and p.d.MemPoolGetAttribute(pool, POOL["used"]) == 4 * N
    keep = ctypes.c_uint64(1 << 40)
    p.d.MemPoolSetAttribute(pool, POOL["release_threshold"], ctypes.byref(keep))
    assert p.d.MemPoolGetAttribute(pool, POOL["release_threshold"]) == 1 << 40
    assert p.d.DeviceGetMemPool(0) == p.d.DeviceGetDefaultMemPool(0) != pool
    p.d.DeviceSetMemPool(0, pool)
    assert p.d.DeviceGetMemPool(0) == pool
    p.d.MemsetD32Async(a, 0x3F800000, N, s)
    p.d.StreamSynchronize(s)
    far = Program(p.machine, device=1)
    out = far.array(np.zeros(N))
    far.launch("move", out, a, N)
    assert code(far.d.CtxSynchronize) == 700                                   # not its memory
    far.d.DevicePrimaryCtxReset(1)
    far = Program(p.machine, device=1)
    p.d.MemPoolSetAccess(pool, prototypes.AccessDesc(prototypes.MemLocation(1, 1), 3), 1)
    out = far.array(np.zeros(N))
    far.launch("move", out, a, N)
    assert (far.read(out, N) == 1).all()
    p.d.MemPoolDestroy(pool)
    assert code(p.d.MemPoolGetAttribute, pool, POOL["used"]) == 1


# ---------------------------------------------------------------- several devices
@pytest.mark.parametrize("seed", SEEDS)
def test_peers(seed):
    with Machine(devices=2, seed=seed) as m:
        p, q = Program(m, device=0), Program(m, device=1)
        b = q.array(np.full(N, 5))
        p.use()
        a, s = p.array(np.ones(N)), p.stream()
        p.d.MemcpyPeerAsync(a, p.context, b, q.context, 4 * N, s)                # goes without access
        p.d.CtxEnablePeerAccess(q.context, 0)
        assert code(p.d.CtxEnablePeerAccess, q.context, 0) == 704
        p.launch("sum", a, a, b, N, stream=s)
        assert (p.read(a, N, s) == 10).all()
        p.d.CtxDisablePeerAccess(q.context)
        assert code(p.d.CtxDisablePeerAccess, q.context) == 705
    p.launch("sum", a, a, b, N, stream=s)
    assert code(p.d.StreamSynchronize, s) == 700 and "of device 1" in str(m.findings()[0])


def test_devices_that_can_not_reach_each_other():
    m = Machine(devices=2, peers=[[0, 0], [0, 0]])
    p, q = Program(m, device=0), Program(m, device=1)
    p.use()
    assert code(p.d.CtxEnablePeerAccess, q.context, 0) == 217 and p.d.DeviceGetP2PAttribute(2, 0, 1) == 0
    s = p.stream()
    q.use()
    e = q.event()
    assert code(p.d.EventRecord, e, s) == 400                                   # an event of one context, a stream of the other


@pytest.mark.parametrize("seed", SEEDS)
def test_streams_of_two_devices_are_ordered_by_events(seed):
    with Machine(devices=2, seed=seed) as m:
        p, q = Program(m, device=0), Program(m, device=1)
        b, t = q.array(np.zeros(N)), q.stream()
        p.use()
        a, s = p.array(np.ones(N)), p.stream()
        p.launch("scale", a, N, stream=s)
        p.wait(t, s)
        p.d.MemcpyPeerAsync(b, q.context, a, p.context, 4 * N, t)
        q.use()
        assert (q.read(b, N, t) == 2).all()


# ---------------------------------------------------------------- memory apart from addresses
def props(device=0): return prototypes.AllocationProp(1, 1, prototypes.MemLocation(1, device))


def test_mapped_memory_needs_access():
    p = Program()
    page = p.d.MemGetAllocationGranularity(props(), 0)
    at = p.d.MemAddressReserve(4 * page, 0, 0, 0)
    memory = p.d.MemCreate(page, props(), 0)
    p.d.MemMap(at, page, 0, memory, 0)
    assert code(p.d.MemMap, at, page, 0, memory, 0) == 208
    p.launch("scale", at, N)
    assert code(p.d.CtxSynchronize) == 700                                      # nobody has access yet
    p.d.DevicePrimaryCtxReset(0)


def test_mapped_memory_keeps_what_it_holds():
    p = Program()
    page = p.d.MemGetAllocationGranularity(props(), 0)
    free = p.d.MemGetInfo()[0]
    at = p.d.MemAddressReserve(4 * page, 0, 0, 0)
    memory = p.d.MemCreate(page, props(), 0)
    access = prototypes.AccessDesc(prototypes.MemLocation(1, 0), 3)
    for k in (0, 2):
        p.d.MemMap(at + k * page, page, 0, memory, 0)
        p.d.MemSetAccess(at + k * page, page, access, 1)
        if k == 0: p.d.MemsetD32Async(at, 0x3F800000, N, 0)
        else: p.launch("scale", at + k * page, N)
        p.d.MemUnmap(at + k * page, page)
    p.d.MemMap(at, page, 0, memory, 0)
    p.d.MemSetAccess(at, page, access, 1)
    p.d.MemRelease(memory)                                                      # the mapping holds it
    assert (p.read(at, N) == 2).all() and p.d.MemGetInfo()[0] == free - page
    assert code(p.d.MemAddressFree, at, 4 * page) == 1                          # still mapped
    p.d.MemUnmap(at, page)
    p.d.MemAddressFree(at, 4 * page)
    assert p.d.MemGetInfo()[0] == free and not p.machine.findings()


def test_memory_is_handed_on_by_a_file():
    p = Program()
    page = p.d.MemGetAllocationGranularity(props(), 0)
    access = prototypes.AccessDesc(prototypes.MemLocation(1, 0), 3)
    memory, file = p.d.MemCreate(page, props(), 0), ctypes.c_int()
    p.d.MemExportToShareableHandle(ctypes.byref(file), memory, 1, 0)
    other = p.d.MemImportFromShareableHandle(file.value, 1)
    places = [p.d.MemAddressReserve(page, 0, 0, 0) for _ in range(2)]
    for at, m in zip(places, (memory, other)):
        p.d.MemMap(at, page, 0, m, 0)
        p.d.MemSetAccess(at, page, access, 1)
    p.d.MemsetD32Async(places[0], 0x40000000, N, 0)
    assert (p.read(places[1], N) == 2).all()


@pytest.mark.parametrize("seed", range(4))
def test_threads_use_a_machine_together(seed):
    """Each with its own stream and memory; one frees while others launch."""
    with Machine(seed=seed) as m:
        p = Program(m)
        results, errors = {}, []

        def work(k):
            try:
                p.use()
                s, a, x = p.stream(), p.d.MemAlloc(4 * N), np.full(N, k, np.float32)
                p.d.MemcpyHtoDAsync(a, x.ctypes.data, 4 * N, s)
                for step in range(10):
                    p.launch("one", a, N, stream=s)
                    if step % 3 == k % 3: p.d.MemFree(p.d.MemAlloc(256))
                    if step % 4 == 0: p.d.StreamSynchronize(s)
                results[k] = p.read(a, N, s)
            except Exception as e: errors.append(e)
        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for t in threads: t.start()
        for t in threads: t.join()
        assert not errors and all((results[k] == k + 10).all() for k in range(4))
