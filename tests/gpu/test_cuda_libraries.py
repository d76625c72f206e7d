"""torch.cuda's smaller modules on two simulated GPUs: tensors of several devices put together, files, storages, runtime functions, warnings when the host waits."""
import ctypes

import pytest

import forno as torch
from forno.cuda import comm, gds, nccl, profiler

pytestmark = pytest.mark.usefixtures("devices")


def pair(*values): return [torch.tensor(v, device=f"cuda:{k}") for k, v in enumerate(values)]
def lists(tensors): return [t.tolist() for t in tensors]


# ---------------------------------------------------------------- several devices in one process
@pytest.mark.parametrize("op, expected", [(0, [4.0, 7.0]), (1, [3.0, 10.0]), (2, [3.0, 5.0]), (3, [1.0, 2.0]), (4, [2.0, 3.5])])
def test_all_as_one(op, expected):
    x = pair([1.0, 5.0], [3.0, 2.0])
    assert nccl.is_available(x) and not nccl.is_available([x[0], x[0]]) and not nccl.is_available([torch.ones(2)])
    out = [torch.empty(2, device=t.device) for t in x]
    nccl.all_reduce(x, out, op)
    assert lists(out) == [expected] * 2 and [t.get_device() for t in out] == [0, 1]
    nccl.reduce(x, root=1, op=op)
    assert lists(x) == [[1.0, 5.0], expected]


def test_parts_of_several_devices():
    x = pair([1.0, 2.0, 3.0, 4.0], [5.0, 6.0, 7.0, 8.0])
    parts = [torch.empty(2, device=t.device) for t in x]
    nccl.reduce_scatter(x, parts)
    assert lists(parts) == [[6, 8], [10, 12]]
    whole = [torch.empty(2, 2, device=t.device) for t in x]
    nccl.all_gather(parts, whole)
    assert lists(whole) == [[[6, 8], [10, 12]]] * 2
    nccl.broadcast(x, root=1)
    assert lists(x) == [[5, 6, 7, 8]] * 2
    with pytest.raises(TypeError, match="Inputs should be a collection of tensors"): nccl.all_reduce(x[0])
    with pytest.raises(ValueError, match="unknown operation 9"): nccl.all_reduce(x, op=9)


def test_tensors_to_devices_and_back():
    x = torch.arange(10.0, device="cuda").reshape(5, 2)
    copies = comm.broadcast(x, ["cuda:0", 1])
    assert [c.get_device() for c in copies] == [0, 1] and lists(copies) == [x.tolist()] * 2
    assert [[t.get_device() for t in ts] for ts in comm.broadcast_coalesced([x, x + 1], [0, 1])] == [[0, 0], [1, 1]]
    parts = comm.scatter(x, [0, 1], chunk_sizes=[2, 3])
    assert [(p.get_device(), p.shape[0]) for p in parts] == [(0, 2), (1, 3)] and [p.shape[0] for p in comm.scatter(x, [0, 1])] == [3, 2]
    assert comm.gather(parts, destination=1).tolist() == x.tolist() and comm.gather(parts, destination=-1).device.type == "cpu"
    out = [torch.empty(4, 2, device="cuda:1"), torch.empty(1, 2, device="cuda:0")]
    comm.scatter(x, out=out)
    assert comm.gather(out, out=torch.empty(5, 2, device="cuda")).tolist() == x.tolist()
    total = comm.reduce_add([x, x.to("cuda:1")], 1)
    assert total.get_device() == 1 and total.tolist() == (x * 2).tolist() and lists(comm.reduce_add_coalesced([[x], [x.to("cuda:1")]])) == [(x * 2).tolist()]
    with pytest.raises(RuntimeError, match="Exactly one of 'devices' and 'out'"): comm.broadcast(x)
    with pytest.raises(RuntimeError, match="same GPU with one of the tensors"): comm.reduce_add([x, x], 1)
    with pytest.raises(ValueError, match="different sizes"): comm.reduce_add([x, x[:2]])


# ---------------------------------------------------------------- storages and files
def test_storages_and_files(tmp_path):
    x = torch.arange(6.0, device="cuda")
    s = x.untyped_storage()
    assert s.is_cuda and s.nbytes() == 24 and not s.cpu().is_cuda and s.cpu().cuda(1).device.index == 1 and bytes(s.cpu()) == bytes(s)
    f = gds.GdsFile(str(tmp_path / "values"), 0o102)                         # O_RDWR | O_CREAT
    f.save_storage(s, offset=8)
    y = torch.empty(6, device="cuda:1")
    f.load_storage(y.untyped_storage(), offset=8)
    assert y.tolist() == x.tolist()
    with pytest.raises(RuntimeError, match="ends 4 bytes before"): f.load_storage(y.untyped_storage(), offset=12)
    f.deregister_handle()
    with pytest.raises(AssertionError, match="not registered"): f.save_storage(s)


def test_types_by_name():
    x = torch.cuda.FloatTensor(2, 3)
    assert x.device == torch.device("cuda:0") and isinstance(x, torch.cuda.FloatTensor) and not isinstance(x, torch.FloatTensor)
    s = torch.cuda.HalfStorage([1, 2])
    assert isinstance(s, torch.cuda.HalfStorage) and not isinstance(s, torch.cuda.FloatStorage) and s.device.type == "cuda" and s.tolist() == [1, 2]


# ---------------------------------------------------------------- the runtime, waiting
def test_runtime_functions(devices):
    room = ctypes.create_string_buffer(8192)
    at = -(-ctypes.addressof(room) // 4096) * 4096
    rt = torch.cuda.cudart()
    torch.cuda.check_error(rt.cudaHostRegister(at, 4096, 0))
    with pytest.raises(torch.cuda.CudaError, match=r"already mapped \(712\)"): torch.cuda.check_error(rt.cudaHostRegister(at, 4096, 0))
    assert rt.cudaHostUnregister(at) == rt.cudaError.success and rt.cudaMemGetInfo(1)[1] == 2 << 30 and rt.cudaGetErrorString(2) == "out of memory"
    devices.fail("ProfilerStart", 801)
    with pytest.raises(torch.cuda.CudaError, match="not supported"), profiler.profile(): pass
    with profiler.profile(): pass


def test_the_host_waits():
    x = torch.ones(4, device="cuda")
    torch.cuda.set_sync_debug_mode("warn")
    try:
        assert torch.cuda.get_sync_debug_mode() == 1
        with pytest.warns(UserWarning, match="called a synchronizing CUDA operation"): x.sum().item()
        torch.cuda.set_sync_debug_mode("error")
        y = x * 2
        with pytest.raises(RuntimeError, match="called a synchronizing CUDA operation"): y.cpu().tolist()
    finally: torch.cuda.set_sync_debug_mode("default")
    assert (x + 1).tolist() == [2] * 4
    with pytest.raises(RuntimeError, match="expected one of `default`, `warn`, `error`"): torch.cuda.set_sync_debug_mode("often")


def test_names_from_before():
    torch.ones(4, device="cuda").sum().item()
    with pytest.warns(FutureWarning, match="renamed to `torch.cuda.memory_reserved`"): assert torch.cuda.memory_cached() == torch.cuda.memory_reserved() > 0
    with pytest.warns(FutureWarning, match="resets /all/ peak"): torch.cuda.reset_max_memory_allocated()
    with pytest.warns(FutureWarning, match="torch.amp.autocast"), torch.cuda.amp.autocast(): assert torch.is_autocast_enabled("cuda")
    with pytest.raises(AssertionError, match="Invalid device id"): torch.cuda.get_device_properties(5)
    with pytest.raises(AssertionError, match="Invalid peer device id"): torch.cuda.can_device_access_peer(0, 5)
    assert torch.cuda.Stream().__cuda_stream__()[0] == 0 and "-gencode compute=compute_90,code=sm_90" in torch.cuda.get_gencode_flags()
