"""torch.cuda as its users know it, on two simulated GPUs: devices, streams, events, memory, graphs, random numbers."""
import gc
import os
import pickle
import struct
import subprocess
import sys
import weakref

import numpy as np
import pytest
import torch as oracle
from torch.cuda import _memory_viz as memory_viz

import forno as torch
from forno import cudart, gpu
from forno.core.kernels import DeviceLaunch
from forno.cudart import allocator, code, host, launch
from forno.cudart.statistics import size_text
from forno.gpu.sim import Machine, Spec

pytestmark = pytest.mark.usefixtures("devices")
MiB = 1 << 20
WRITE = """.version 7.8
.target sm_80
.address_size 64
.visible .entry write(.param .u64 p0)
{
 .reg .b64 %a<2>; .reg .b32 %r<2>;
 ld.param.u64 %a1, [p0]; mov.b32 %r1, 0; st.global.u32 [%a1+512], %r1; ret;
}
"""


@pytest.fixture
def small(monkeypatch):
    """One device with little memory."""
    machine = Machine([Spec(nbytes=64 * MiB)], seed=3)
    with machine:
        monkeypatch.setattr(gpu, "_found", machine.driver())
        yield machine


def there(n):
    """Ones that are in a device's memory by now."""
    x = torch.ones(n, device="cuda")
    torch.cuda.synchronize()
    return x


# ---------------------------------------------------------------- devices
def test_devices():
    assert torch.cuda.is_available() and torch.cuda.device_count() == 2 and torch.cuda.current_device() == 0
    assert not torch.cuda.is_initialized()
    torch.cuda.init()
    assert torch.cuda.is_initialized()
    with torch.cuda.device(1):
        assert torch.cuda.current_device() == 1 and torch.ones(2, device="cuda").device.index == 1
        with torch.cuda.device(None), torch.cuda.device(-1): assert torch.cuda.current_device() == 1
        with torch.cuda.device("cuda:0"): assert torch.cuda.current_device() == 0
    x = torch.ones(1, device="cuda:1")
    with torch.cuda.device_of(x): assert torch.cuda.current_device() == 1
    with torch.cuda.device_of(torch.ones(1)): assert torch.cuda.current_device() == 0
    torch.cuda.set_device(1)
    try: assert torch.cuda.current_device() == 1
    finally: torch.cuda.set_device("cuda:0")
    with pytest.raises(RuntimeError, match="invalid device ordinal"): torch.cuda.set_device(2)
    with pytest.raises(ValueError, match="Expected a cuda device, but got: cpu"): torch.cuda.synchronize("cpu")


def test_what_devices_are():
    assert torch.cuda.get_device_name() == "Simulated H200" and torch.cuda.get_device_capability(1) == (9, 0)
    p = torch.cuda.get_device_properties(0)
    assert (p.name, p.major, p.minor, p.total_memory, p.multi_processor_count, p.warp_size) == ("Simulated H200", 9, 0, 2 << 30, 132, 32)
    assert p.max_threads_per_multi_processor == 2048 and p.shared_memory_per_block_optin == 227 << 10 and "major=9" in repr(p)
    assert torch.cuda.can_device_access_peer(0, 1) and not torch.cuda.can_device_access_peer(0, 0)
    assert torch.cuda.is_bf16_supported() and "sm_90" in torch.cuda.get_arch_list()
    free, total = torch.cuda.mem_get_info()
    assert total == 2 << 30 and 0 < free <= total
    with pytest.raises(NotImplementedError, match="nvidia-smi"): torch.cuda.utilization()


# ---------------------------------------------------------------- streams and events
def test_streams_run_what_is_recorded_in_them():
    x = torch.arange(1000.0, device="cuda")
    s = torch.cuda.Stream()
    assert s != torch.cuda.current_stream() == torch.cuda.default_stream() and s.cuda_stream != 0 and s.device == torch.device("cuda:0")
    s.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(s):
        assert torch.cuda.current_stream() == s
        y = x * 2
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    torch.cuda.current_stream().wait_stream(s)
    z = y + 1
    assert z.sum().item() == float((np.arange(1000) * 2 + 1).sum())
    s.synchronize()
    assert s.query()


def test_work_that_nothing_orders_is_found(monkeypatch):
    machine = Machine(1, seed=5)
    monkeypatch.setattr(gpu, "_found", machine.driver())
    x = torch.ones(1000, device="cuda") * 3
    with torch.cuda.stream(torch.cuda.Stream()): y = x + 1
    torch.cuda.synchronize()
    del x, y
    machine.drain()
    assert any(f.kind == "race" for f in machine.findings())


def test_events():
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    assert start.query() and repr(start) == "<torch.cuda.Event uninitialized>"
    with pytest.raises(ValueError, match="must be recorded"): start.elapsed_time(end)
    x = torch.ones(1 << 16, device="cuda")
    start.record()
    for _ in range(3): x = x * 2 + 1
    end.record()
    end.synchronize()
    assert end.query() and 0 < start.elapsed_time(end) < 1000
    with pytest.raises(ValueError, match="enable_timing"): start.elapsed_time(torch.cuda.Event())
    s, e = torch.cuda.Stream(), torch.cuda.current_stream().record_event()
    s.wait_event(e)
    with torch.cuda.stream(s): y = x + 1
    y.record_stream(torch.cuda.current_stream())
    s.record_event().wait()
    assert y[0].item() == 16


def test_streams_of_a_pool():
    low, high = torch.cuda.Stream(), torch.cuda.Stream(priority=-1)
    assert (low.priority, high.priority) == (0, -1) and torch.cuda.Stream.priority_range() == (0, -3)
    assert len({torch.cuda.Stream() for _ in range(64)}) == 32
    same = torch.cuda.ExternalStream(low.cuda_stream)
    assert same == low and hash(same) == hash(low)
    torch.cuda.set_stream(low)
    try: assert torch.cuda.current_stream() == low
    finally: torch.cuda.set_stream(torch.cuda.default_stream())


def test_memory_of_another_stream_waits():
    """A tensor that another stream uses isn't overwritten before that stream is done, if it was told."""
    s = torch.cuda.Stream()
    for k in range(6):
        x = torch.full((4096,), float(k), device="cuda")
        s.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(s): y = x + 1
        x.record_stream(s)
        del x
        z = torch.full((4096,), -1.0, device="cuda") * 2                # would get x's memory
        torch.cuda.current_stream().wait_stream(s)
        assert y[7].item() == k + 1 and z[7].item() == -2


# ---------------------------------------------------------------- memory
def test_numbers_of_memory():
    assert torch.cuda.memory_allocated() == 0 and torch.cuda.memory_stats() == {}
    x = torch.ones(1000, device="cuda")
    assert torch.cuda.memory_allocated() == 4096 and torch.cuda.memory_reserved() == 2 * MiB
    y = torch.ones(MiB, device="cuda")                                       # 4 MiB, of a segment of 20
    assert torch.cuda.memory_allocated() == 4096 + 4 * MiB and torch.cuda.memory_reserved() == 22 * MiB
    big = torch.ones(6 * MiB - 1, device="cuda")
    assert torch.cuda.memory_reserved() == 46 * MiB                          # its own, a multiple of 2 MiB
    stats = torch.cuda.memory_stats()
    assert stats["allocation.small_pool.current"] == 1 and stats["allocation.large_pool.current"] == 2 and stats["segment.all.current"] == 3
    assert stats["requested_bytes.small_pool.current"] == 4000 and stats["inactive_split_bytes.large_pool.current"] == 16 * MiB
    assert stats["num_ooms"] == 0 and stats["num_device_alloc"] == 3
    del x, y, big
    assert torch.cuda.memory_allocated() == 0 and torch.cuda.max_memory_allocated() == 4096 + 28 * MiB
    torch.cuda.reset_peak_memory_stats()
    assert torch.cuda.max_memory_allocated() == 0 and torch.cuda.memory_stats()["inactive_split.all.current"] == 0
    torch.cuda.empty_cache()
    assert torch.cuda.memory_reserved() == 0 and torch.cuda.memory_stats()["num_device_free"] == 3
    assert torch.cuda.memory_allocated(1) == 0 and "Allocated memory" in torch.cuda.memory_summary()


def test_pieces_are_cut_and_joined():
    mine = allocator.of(cudart.devices.use(0), 0)
    a, b, c = (mine.allocate(n, 0) for n in (512, 1000, 2048))
    assert (b.address - a.address, c.address - b.address) == (512, 1024)
    for p in (a, c): mine.returned.append(p)
    d = mine.allocate(400, 0)
    assert d.address == a.address                                            # the best fit
    for p in (b, d): mine.returned.append(p)
    [segment] = mine.snapshot()
    assert [(s["size"], s["state"]) for s in segment["blocks"]] == [(2 * MiB, "inactive")] and len(mine.pools[0].idle) == 1
    other = mine.allocate(512, 99)                                           # another stream gets nothing of this one's
    assert not a.segment.address <= other.address < a.segment.address + 2 * MiB


@pytest.mark.parametrize("seed", range(4))
def test_pieces_never_overlap(seed):
    dice, mine, live = np.random.default_rng(seed), allocator.of(cudart.devices.use(0), 0), []
    for _ in range(300):
        if live and dice.random() < 0.5: mine.returned.append(live.pop(dice.integers(len(live))))
        else: live.append(mine.allocate(int(2 ** dice.uniform(0, 24)), int(dice.integers(3))))
        if len(live) > 20: mine.returned.append(live.pop(0))
    with mine.lock: mine.collect()
    spans = sorted((p.address, p.address + p.size) for p in live)
    assert all(a[1] <= b[0] for a, b in zip(spans, spans[1:])) and all(p.asked <= p.size for p in live)
    stats = mine.stats.shown()
    assert stats["allocated_bytes"]["all"]["current"] == sum(p.size for p in live) == sum(s["allocated_size"] for s in mine.snapshot())
    split = [b for s in mine.snapshot() for b in s["blocks"] if b["state"] == "inactive" and len(s["blocks"]) > 1]
    assert stats["inactive_split"]["all"]["current"] == len(split) and stats["inactive_split_bytes"]["all"]["current"] == sum(b["size"] for b in split)
    for p in live: mine.returned.append(p)
    mine.empty_cache()
    assert mine.stats.reserved == 0 and not mine.segments


def test_out_of_memory(small):
    x = there(6 * MiB)                                                       # 24 of 64 MiB
    with pytest.raises(torch.OutOfMemoryError, match=r"CUDA out of memory. Tried to allocate 128.00 MiB. GPU 0 has a total capacity of 64.00 MiB of which 40.00 MiB is free. "
                                                     r"Including non-PyTorch memory, this process has 24.00 MiB memory in use. "
                                                     r"Of the allocated memory 24.00 MiB is allocated by PyTorch, and 0 bytes is reserved by PyTorch but unallocated."):
        there(32 * MiB)
    assert torch.cuda.memory_stats()["num_ooms"] >= 1 and x.sum().item() == 6 * MiB


def test_what_is_idle_is_given_back_first(small):
    for n in (5 * MiB, 6 * MiB, 7 * MiB, 8 * MiB): assert there(n).sum().item() == n         # together they would be too much
    assert torch.cuda.memory_stats()["num_alloc_retries"] >= 1
    cycle = [there(8 * MiB)]
    cycle.append(cycle)
    torch.cuda.synchronize()
    del cycle
    gc.disable()
    try: assert there(9 * MiB).sum().item() == 9 * MiB                       # the garbage is collected
    finally: gc.enable()


def test_a_part_of_the_memory(small):
    torch.cuda.set_per_process_memory_fraction(0.25)
    assert torch.cuda.get_per_process_memory_fraction() == 0.25
    with pytest.raises(torch.OutOfMemoryError, match="16.00 MiB allowed"): there(5 * MiB)
    with pytest.raises(ValueError, match="Allowed range: 0~1"): torch.cuda.set_per_process_memory_fraction(2.0)
    with pytest.raises(TypeError, match="must be `float`"): torch.cuda.set_per_process_memory_fraction(1)


@pytest.mark.parametrize("n, text", [(0, "0 bytes"), (1024, "1024 bytes"), (1025, "1.00 KiB"), (1 << 20, "1024.00 KiB"), (1 << 30, "1024.00 MiB"), ((1 << 30) + 1, "1.00 GiB")])
def test_sizes_in_messages(n, text): assert size_text(n) == text


# what PyTorch 2.13 has on a GPU (torch/csrc/cuda/Module.cpp)
POOLED = "allocation segment active inactive_split allocated_bytes reserved_bytes active_bytes inactive_split_bytes requested_bytes".split()
COUNTED = "num_alloc_retries num_ooms num_sync_all_streams num_device_alloc num_device_free num_oom_rejections max_split_size".split()
WHAT = ("current", "peak", "allocated", "freed")


def test_keys_of_statistics():
    x = there(10)
    keys = {f"{n}.{pool}.{w}" for n in POOLED for pool in ("all", "large_pool", "small_pool") for w in WHAT}
    keys |= {f"{n}.{w}" for n in ("oversize_allocations", "oversize_segments") for w in WHAT} | set(COUNTED)
    assert set(torch.cuda.memory_stats()) == keys and x.sum().item() == 10
    p = torch.ones(10).pin_memory()
    host_keys = {f"{n}.{w}" for n in ("allocations", "allocated_bytes", "active_requests", "active_bytes") for w in WHAT} | {"num_host_alloc", "num_host_free"}
    host_keys |= {f"{n}.{w}" for n in ("host_alloc_time", "host_free_time") for w in ("total", "max", "min", "count", "avg")}
    stats = torch.cuda.host_memory_stats()
    assert set(stats) == host_keys and stats["active_bytes.current"] == 512 and stats["num_host_alloc"] == 1 and stats["host_alloc_time.count"] == 1
    del p
    assert torch.cuda.host_memory_stats()["active_requests.current"] == 0 and torch.cuda.host_memory_stats()["active_bytes.peak"] == 512
    torch.cuda.reset_peak_host_memory_stats()
    torch.cuda.reset_accumulated_host_memory_stats()
    assert torch.cuda.host_memory_stats()["active_bytes.peak"] == torch.cuda.host_memory_stats()["allocations.allocated"] == 0


def test_the_table_of_memory(monkeypatch):
    """Letter by letter what PyTorch makes of the same numbers."""
    x, y = there(1000), there(3 * MiB)
    stats = torch.cuda.memory_stats()
    monkeypatch.setattr(oracle.cuda.memory, "memory_stats", lambda device=None: stats)
    monkeypatch.setattr(oracle.cuda.memory, "_get_device_index", lambda device, optional=False: 0)
    for short in (False, True): assert torch.cuda.memory_summary(abbreviated=short) == oracle.cuda.memory_summary(abbreviated=short)
    assert x is not y and torch.cuda.memory_summary(1).startswith("|====")


def test_history_of_memory(tmp_path):
    torch.cuda.memory._record_memory_history(max_entries=100)
    torch.cuda.memory._set_memory_metadata("step 1")
    x = there(1000)
    address = x.data_ptr()
    assert torch.cuda.memory._allocation_traceback(address)[0]["filename"].endswith("test_cuda_api.py")
    del x
    torch.cuda.empty_cache()
    torch.cuda.memory._dump_snapshot(tmp_path / "snapshot.pickle")
    with open(tmp_path / "snapshot.pickle", "rb") as f: told = pickle.load(f)
    here, other = told["device_traces"]
    actions = [e["action"] for e in here]
    assert not other and [a for a in actions if a in ("segment_alloc", "alloc", "free_requested", "free_completed", "segment_free", "snapshot")] == actions
    mine = [e for e in here if e.get("addr") == address]
    assert [e["action"] for e in mine if not e["action"].startswith("segment")][:3] == ["alloc", "free_requested", "free_completed"] and {e["user_metadata"] for e in mine} == {"step 1"}
    assert any(f["name"] == "there" for f in mine[0]["frames"]) and mine[0]["pool_id"] == (0, 0) and actions[-2:] == ["segment_free", "snapshot"]
    svg = memory_viz.trace_plot(told) if hasattr(memory_viz, "trace_plot") else memory_viz.segsum(told)         # PyTorch's own tool reads it
    assert svg
    torch.cuda.memory._set_memory_metadata("")
    torch.cuda.memory._record_memory_history(enabled=None)
    there(1000)
    assert len(torch.cuda.memory._snapshot()["device_traces"][0]) == len(here)
    torch.cuda.memory._record_memory_history("state", max_entries=2)
    there(1000)
    assert len(torch.cuda.memory._snapshot()["device_traces"][0]) == 2
    with pytest.raises(RuntimeError, match="expected one of 'state', 'all' or None"): torch.cuda.memory._record_memory_history("some")


def test_pools_apart():
    pool = torch.cuda.MemPool()
    with torch.cuda.use_mem_pool(pool): x = there(1000)
    y = there(1000)
    assert [s["segment_pool_id"] for s in pool.snapshot()] == [tuple(pool.id)] and pool.use_count() == 1
    assert pool.snapshot()[0]["address"] <= x.data_ptr() < pool.snapshot()[0]["address"] + 2 * MiB and len(torch.cuda.memory_snapshot()) == 2
    assert torch.cuda.memory_stats()[f"reserved_bytes_by_private_pools.0_{pool.id[1]}.all.current"] == 2 * MiB
    del x
    torch.cuda.empty_cache()
    assert pool.snapshot()
    del pool
    torch.cuda.empty_cache()
    assert [s["segment_pool_id"] for s in torch.cuda.memory_snapshot()] == [(0, 0)] and y.sum().item() == 1000


def test_memory_by_address():
    at = torch.cuda.caching_allocator_alloc(1000, stream=torch.cuda.current_stream())
    assert torch.cuda.memory_allocated() == 1024
    torch.cuda.caching_allocator_delete(at)
    assert torch.cuda.memory_allocated() == 0
    with pytest.raises(RuntimeError, match="invalid device pointer"): torch.cuda.caching_allocator_delete(at)
    with pytest.raises(TypeError, match="Invalid type for stream"): torch.cuda.caching_allocator_alloc(8, stream="s")


def test_new_memory_is_poisoned(devices):
    """What nobody wrote is NaN, also where it was given out before."""
    x = there(1000)
    del x
    torch.cuda.synchronize()
    assert torch.empty(1000, device="cuda").isnan().all().item()
    devices.poisoning = False
    x = there(1000)
    del x
    assert torch.empty(1000, device="cuda").tolist() == [1] * 1000


def test_machines_die_with_their_drivers(monkeypatch):
    """Nothing that is remembered of a driver keeps it, or the simulated machine behind it."""
    machine = Machine(2, seed=4)
    monkeypatch.setattr(gpu, "_found", machine.driver())
    x = torch.arange(100.0, device="cuda")
    y = (x * 2).to("cuda:1")
    g = torch.cuda.CUDAGraph()
    torch.cuda.synchronize()
    with torch.cuda.graph(g): z = x + 1
    g.replay()
    with torch.cuda.stream(torch.cuda.Stream()): w = torch.ones(10).pin_memory().to("cuda", non_blocking=True)
    e = torch.cuda.Event(enable_timing=True)
    e.record()
    torch.gather(x, 0, torch.tensor([3], device="cuda")).item()              # a kernel with a record of failures
    for _ in range(8): (x * 2 + 1).sum().item()                              # a plan that becomes a graph
    torch.from_dlpack(x)
    torch.cuda.synchronize()
    machine.drain()
    assert not machine.findings() and z[0].item() == 1 and y[1].item() == 2 and w[0].item() == 1
    driver, machine = weakref.ref(gpu.driver()), weakref.ref(machine)
    del x, y, z, w, g, e
    monkeypatch.undo()
    gc.collect()
    assert driver() is None and machine() is None


def test_memory_that_was_given_back_is_found(monkeypatch):
    """The simulated machine knows the parts that are given out."""
    machine = Machine(1, seed=1)
    monkeypatch.setattr(gpu, "_found", machine.driver())
    x, y = there(1000), there(1000)
    write = DeviceLaunch("write", WRITE, (), (1, 1, 1), (1, 1, 1))
    frame = launch.Table("cuda:0", [(write, (0,))], 1, 0, ()).frame(struct.pack("q", x.data_ptr()))
    frame.run(0, 1)
    torch.cuda.synchronize()
    assert x[128].item() == 0
    del x
    z = there(100)
    del z
    there(10)
    frame.run(0, 1)
    with pytest.raises(RuntimeError, match="illegal memory access"): torch.cuda.synchronize()
    assert "out of bounds" in {f.kind for f in machine.findings()} and y is not None


# ---------------------------------------------------------------- pinned memory
def test_pinned_memory():
    x = torch.arange(1000.0)
    p = x.pin_memory()
    assert p.is_pinned() and not x.is_pinned() and p.pin_memory() is p and p.tolist() == x.tolist() and p[10:20].is_pinned()
    p.mul_(2)
    assert p.is_pinned() and p[3].item() == 6
    there = p.to("cuda", non_blocking=True)
    assert there.is_cuda and (there + 1)[999].item() == 1999
    assert p[5:9].cuda(non_blocking=True).tolist() == [10, 12, 14, 16]
    back = there.to("cpu", non_blocking=True)
    assert back.is_pinned()
    torch.cuda.synchronize()
    assert back.tolist() == p.tolist()
    room = torch.zeros(1000).pin_memory()
    room.copy_(there * 3, non_blocking=True)
    torch.cuda.synchronize()
    assert room.is_pinned() and room[7].item() == 42
    with pytest.raises(RuntimeError, match="cannot pin 'torch.cuda.FloatTensor' only dense CPU tensors can be pinned"): there.pin_memory()


def test_tensors_are_made_pinned():
    for x in (torch.empty(3, pin_memory=True), torch.zeros(3, pin_memory=True), torch.tensor([1.0, 2], pin_memory=True), torch.ones(2, pin_memory=True, requires_grad=True),
              torch.rand(2, pin_memory=True), torch.zeros_like(torch.ones(3), pin_memory=True)):
        assert x.is_pinned()
    assert torch.ones(2, pin_memory=True, requires_grad=True).requires_grad


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_pinned(workers):
    data = torch.utils.data.TensorDataset(torch.arange(12.0).reshape(6, 2), torch.arange(6))
    batches = list(torch.utils.data.DataLoader(data, batch_size=2, pin_memory=True, num_workers=workers))
    assert all(x.is_pinned() and y.is_pinned() for x, y in batches) and [y.cuda(non_blocking=True).tolist() for _, y in batches] == [[0, 1], [2, 3], [4, 5]]


def test_copies_keep_their_sources():
    """Pinned memory isn't given out again while a copy reads it."""
    there = []
    for k in range(20): there.append(torch.full((5000,), float(k)).pin_memory().to("cuda", non_blocking=True))
    assert [t[4999].item() for t in there] == list(range(20))
    torch.cuda.synchronize()
    pinned = host.of(gpu.driver())
    with pinned.lock: pinned.collect()
    torch.cuda.synchronize()
    with pinned.lock: pinned.collect()
    assert not pinned.waiting and sum(map(len, pinned.idle.values())) == len(pinned.starts) <= 20


def test_copies_that_go_the_usual_way():
    x = torch.arange(12.0).reshape(3, 4).pin_memory()
    assert x.t().to("cuda", non_blocking=True).tolist() == x.t().tolist()
    w = torch.ones(3, requires_grad=True)
    (w.to("cuda", non_blocking=True) * 2).sum().backward()
    assert w.grad.tolist() == [2, 2, 2]
    assert torch.ones(3).to("cuda", non_blocking=True).tolist() == [1, 1, 1]


def test_between_devices():
    x = torch.arange(5000.0, device="cuda:0")
    y = (x * 2).to("cuda:1")
    z = (y + 1).to("cuda:0", non_blocking=True)
    assert (z - x * 2).sum().item() == 5000


# ---------------------------------------------------------------- graphs
def test_a_graph():
    x, w = torch.ones(1000, device="cuda"), torch.full((1000,), 2.0, device="cuda")
    y = x * w + 1
    torch.cuda.synchronize()
    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g):
        assert torch.cuda.is_current_stream_capturing()
        y = x * w + 1
        z = (y * 2).sum()
    assert not torch.cuda.is_current_stream_capturing()
    for k in range(3):
        x.copy_(torch.full((1000,), float(k)))
        g.replay()
        assert y[10].item() == 2 * k + 1 and z.item() == 2000 * (2 * k + 1)
    kept = y.clone()
    x.fill_(10.0)
    g.replay()
    assert kept[0].item() == 5 and y[0].item() == 21
    y.zero_()
    g.replay()
    assert y[0].item() == 21
    g.reset()
    with pytest.raises(RuntimeError, match="without a preceding successful capture"): g.replay()


def test_a_graph_of_a_training_step():
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
    twin = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.ReLU(), torch.nn.Linear(16, 1))
    twin.load_state_dict(net.state_dict())
    net.cuda()
    batches = [torch.randn(4, 8) for _ in range(5)]
    x, opt, other = batches[0].cuda(), torch.optim.SGD(net.parameters(), lr=0.1), torch.optim.SGD(twin.parameters(), lr=0.1)

    def step(net, opt, x):
        opt.zero_grad(set_to_none=True)
        loss = (net(x) ** 2).mean()
        loss.backward()
        opt.step()
        return loss
    s = torch.cuda.Stream()
    s.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(s): step(net, opt, x)
    torch.cuda.current_stream().wait_stream(s)
    step(twin, other, batches[0])
    g = torch.cuda.CUDAGraph()
    opt.zero_grad(set_to_none=True)
    with torch.cuda.graph(g): loss = step(net, opt, x)
    for b in batches:
        x.copy_(b)
        g.replay()
        assert loss.item() == pytest.approx(step(twin, other, b).item(), rel=1e-4)
    for p, q in zip(net.parameters(), twin.parameters()): assert torch.allclose(p.cpu(), q, 1e-4, 1e-5)


def test_optimizers_that_count_steps():
    w, twin = (torch.arange(4.0, device=d).requires_grad_() for d in ("cuda", "cpu"))
    w.grad, twin.grad = torch.ones(4, device="cuda"), torch.ones(4)
    plain, opt, other = torch.optim.Adam([w]), torch.optim.Adam([w], lr=0.1, capturable=True), torch.optim.Adam([twin], lr=0.1)
    with pytest.raises(RuntimeError, match="instance of Adam but param_groups' capturable is False"), torch.cuda.graph(torch.cuda.CUDAGraph()): plain.step()
    opt.step()
    torch.cuda.synchronize()
    g = torch.cuda.CUDAGraph()
    with torch.cuda.graph(g): opt.step()
    for _ in range(3): g.replay()
    for _ in range(4): other.step()
    assert torch.allclose(w.detach().cpu(), twin.detach(), 1e-4, 1e-5)
    with pytest.raises(NotImplementedError, match="in a graph"), torch.cuda.graph(torch.cuda.CUDAGraph()): torch.optim.NAdam([w], capturable=True).step()


def test_what_graphs_refuse():
    x = torch.ones(10, device="cuda")
    torch.cuda.synchronize()
    g = torch.cuda.CUDAGraph()
    with pytest.raises(RuntimeError, match="non-default stream"): g.capture_begin()
    with pytest.raises(RuntimeError, match="capturing"), torch.cuda.graph(g): (x * 2).sum().item()
    with pytest.raises(RuntimeError, match="capturing"), torch.cuda.graph(torch.cuda.CUDAGraph()): (torch.ones(4).cuda() + 1)[0].item()
    assert (x + 1).sum().item() == 20                                        # all is well afterwards
    with pytest.raises(RuntimeError, match="Unknown capture error mode"): g.capture_begin(capture_error_mode="often")


def test_graphs_share_memory():
    x = torch.ones(100, device="cuda")
    torch.cuda.synchronize()
    a, b = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
    with torch.cuda.graph(a): y = x * 2
    with torch.cuda.graph(b, pool=a.pool()): z = y + 1
    x.fill_(5)
    a.replay()
    b.replay()
    assert z.tolist() == [11] * 100
    mine = allocator.of(gpu.driver(), 0)
    assert any(s["segment_pool_id"] != (0, 0) for s in mine.snapshot())
    del y, z
    a.reset()
    b.reset()
    torch.cuda.empty_cache()
    assert not any(s["segment_pool_id"] != (0, 0) for s in mine.snapshot())


def test_functions_as_graphs():
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Tanh())
    twin = torch.nn.Sequential(torch.nn.Linear(6, 6), torch.nn.Tanh())
    twin.load_state_dict(net.state_dict())
    net.cuda()
    graphed = torch.cuda.make_graphed_callables(net, (torch.randn(3, 6, device="cuda", requires_grad=True),))
    for _ in range(2):
        a = torch.randn(3, 6)
        x, y = a.cuda().requires_grad_(), a.clone().requires_grad_()
        (graphed(x) ** 2).sum().backward()
        (twin(y) ** 2).sum().backward()
        assert torch.allclose(x.grad.cpu(), y.grad, 1e-4, 1e-5)
        for p, q in zip(net.parameters(), twin.parameters()): assert torch.allclose(p.grad.cpu(), q.grad, 1e-4, 1e-5)


# ---------------------------------------------------------------- random numbers, profiler, processes
def test_states_of_random_numbers():
    torch.cuda.manual_seed_all(7)
    assert torch.cuda.initial_seed() == 7
    torch.cuda.manual_seed(5)
    state = torch.cuda.get_rng_state()
    assert state.dtype is torch.uint8 and state.shape == (16,) and len(torch.cuda.get_rng_state_all()) == 2 and torch.cuda.initial_seed() == 5
    torch.cuda.seed()
    torch.cuda.set_rng_state(state)
    assert torch.cuda.initial_seed() == 5 and [g.device.index for g in torch.cuda.default_generators] == [0, 1]
    with pytest.raises(TypeError, match="ByteTensor"): torch.cuda.set_rng_state(torch.ones(16))


def test_ranges_for_the_profiler():
    with torch.cuda.nvtx.range("step {}", 3): torch.cuda.nvtx.mark("here")
    assert isinstance(torch.cuda.nvtx.range_push("a"), int) and isinstance(torch.cuda.nvtx.range_pop(), int)


def test_a_forked_process_is_refused():
    done = subprocess.run([sys.executable, "-c", """
import os, forno as torch
torch.ones(2, device="cuda").sum().item()
pid = os.fork()
if pid == 0:
    try: torch.ones(2, device="cuda").sum().item()
    except RuntimeError as e: print(e, flush=True)
    os._exit(0)
os.waitpid(pid, 0)
"""], capture_output=True, text=True, timeout=60, env={**os.environ, "FORNO_GPU": "sim"}, check=False)
    assert done.stdout.startswith("Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the 'spawn' start method"), done.stdout + done.stderr


# ---------------------------------------------------------------- code and launches
def test_machine_code_is_kept(tmp_path, monkeypatch):
    cache = code.host_code.Cache(str(tmp_path / "cubin"), 1 << 20)
    monkeypatch.setattr(code, "cubins", lambda: cache)
    machine = gpu.driver().machine
    ptx = ".version 7.8\n.target sm_80\n.address_size 64\n.visible .entry nothing()\n{\n ret;\n}\n"
    index = cudart.devices.use(0) and 0
    counted = []
    monkeypatch.setattr(machine, "planned", lambda name: counted.append(name))
    code.function(gpu.driver(), index, ptx, "nothing")
    assert counted.count("LinkComplete") == 1 and len(os.listdir(tmp_path / "cubin")) == 1
    code.module.__wrapped__(gpu.driver(), index, ptx)
    assert counted.count("LinkComplete") == 1                                # found again
    [name] = os.listdir(tmp_path / "cubin")
    cache.write(bytes.fromhex(name), b"\x7fELF of another kind")
    code.module.__wrapped__(gpu.driver(), index, ptx)
    assert counted.count("LinkComplete") == 2                                # stale: made anew from PTX
    with pytest.raises(RuntimeError, match="invalid|ptxas"): code.function(gpu.driver(), index, ptx.replace("ret;", ".reg }"), "nothing")


def test_launches_that_are_refused():
    ptx = ".version 7.8\n.target sm_80\n.address_size 64\n.visible .entry nothing()\n{\n ret;\n}\n"
    good, bad = (DeviceLaunch("nothing", ptx, (), (n, 1, 1), (32, 1, 1)) for n in (1, 0))
    frame = launch.Table("cuda:0", [(good, ()), (bad, ())], 0, 0, ()).frame(b"")
    frame.run(0, 1)
    with pytest.raises(RuntimeError, match=r"invalid argument.*kernel nothing, \(0, 1, 1\) blocks of \(32, 1, 1\) threads"): frame.run(0, 2)
