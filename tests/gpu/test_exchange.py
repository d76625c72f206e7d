"""Memory of devices that other libraries and other processes see: `__cuda_array_interface__`, DLPack, multiprocessing. The other library is played by small classes."""
import gc
import os
import subprocess
import sys

import pytest

import forno as torch
from forno import gpu
from forno.cudart import allocator
from forno.gpu.sim import Machine, Spec
from tests.laws.tree import ROOT

pytestmark = pytest.mark.usefixtures("devices")


class Array:
    """What another library has: a dictionary that tells of its memory."""

    def __init__(self, keep, **more): self.keep, self.told = keep, {**keep.__cuda_array_interface__, **more}
    __cuda_array_interface__ = property(lambda self: self.told)


class Producer:
    """Another library's tensor, which speaks DLPack: its memory is that of a tensor of ours, its stream the one where it was made. `asked`: with what."""

    def __init__(self, keep, old=False): self.keep, self.old, self.asked, self.stream = keep, old, None, torch.cuda.current_stream()
    def __dlpack_device__(self): return self.keep.__dlpack_device__()

    def __dlpack__(self, **asked):
        if self.old and "max_version" in asked: raise TypeError("unexpected keyword argument 'max_version'")
        self.asked = asked
        with torch.cuda.stream(self.stream): return self.keep.__dlpack__(**asked)


# ---------------------------------------------------------------- __cuda_array_interface__
@pytest.mark.parametrize("dtype, typestr", [("float32", "<f4"), ("float16", "<f2"), ("bfloat16", "<V2"), ("int8", "|i1"), ("uint16", "<u2"), ("bool", "|b1"), ("complex64", "<c8")])
def test_arrays_are_described(dtype, typestr):
    x = torch.ones(3, 4, device="cuda").to(getattr(torch, dtype))
    d = x.__cuda_array_interface__
    assert (d["typestr"], d["shape"], d["strides"], d["version"], d["stream"]) == (typestr, (3, 4), None, 3, 1) and d["data"] == (x.data_ptr(), False)
    part = x[1:, ::2].__cuda_array_interface__
    assert part["shape"] == (2, 2) and part["strides"] == (4 * x.element_size(), 2 * x.element_size()) and part["data"][0] == x.data_ptr() + 4 * x.element_size()


def test_what_has_no_description():
    assert not hasattr(torch.ones(2), "__cuda_array_interface__")
    with pytest.raises(RuntimeError, match="requires grad"): hasattr(torch.ones(2, device="cuda", requires_grad=True), "__cuda_array_interface__")
    assert torch.ones(0, 3, device="cuda").__cuda_array_interface__["data"][0] == 0


def test_arrays_are_shared():
    x = torch.arange(12.0, device="cuda").reshape(3, 4)
    y = torch.as_tensor(Array(x.t()))
    assert y.device == x.device and y.stride() == (1, 4) and y.data_ptr() == x.data_ptr()
    y[0, 0] = 50
    assert x[0, 0].item() == 50
    x.mul_(2)
    assert y.tolist() == x.t().tolist() and torch.asarray(Array(x)).data_ptr() == x.data_ptr()
    copy = torch.tensor(Array(x))
    copy.zero_()
    assert x.sum().item() == 2 * (66 + 50) and torch.as_tensor(Array(x), dtype=torch.int64).dtype is torch.int64
    assert torch.as_tensor(Array(x), device="cpu").device.type == "cpu"


def test_what_is_written_there_is_seen():
    """Values of memory that somebody else may write are read at once, also where they are only recorded otherwise."""
    x = torch.zeros(1000, device="cuda")
    y = torch.as_tensor(Array(x))
    before = y + 1
    x.fill_(5)
    assert before.sum().item() == 1000 and (y + 1).sum().item() == 6000
    w = torch.ones(1000, device="cuda", requires_grad=True)
    (w * y).sum().backward()
    x.fill_(7)
    assert w.grad.sum().item() == 5000


def test_arrays_keep_what_they_lie_in():
    y = torch.as_tensor(Array(torch.full((5000,), 3.0, device="cuda")))
    gc.collect()
    other = torch.full((5000,), 4.0, device="cuda")
    assert y.sum().item() == 15000 and other.sum().item() == 20000


def test_their_stream_comes_first():
    """An array that was written in another stream is read after that."""
    s = torch.cuda.Stream()
    x = torch.zeros(4096, device="cuda")
    s.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(s):
        for _ in range(4): x += 1
        y = Array(x)
    assert y.told["stream"] == s.cuda_stream
    assert torch.as_tensor(y).sum().item() == 4 * 4096
    torch.cuda.synchronize()


def test_the_race_of_who_does_not_wait(monkeypatch):
    """Without the stream the simulated machine finds it: the test above can fail."""
    machine = Machine(1, seed=3)
    monkeypatch.setattr(gpu, "_found", machine.driver())
    s, x = torch.cuda.Stream(), torch.zeros(4096, device="cuda")
    s.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(s):
        x += 1
        y = Array(x, stream=None)
    (torch.as_tensor(y) + 1).sum().item()
    torch.cuda.synchronize()
    machine.drain()
    assert any(f.kind == "race" for f in machine.findings())


@pytest.mark.parametrize("more, error, says", [
    (dict(typestr=">f4"), TypeError, "can't use elements of type '>f4'"), (dict(mask=1), NotImplementedError, "mask"), (dict(strides=(3,)), ValueError, "not a multiple"),
    (dict(strides=(4, 4)), TypeError, "same length"), (dict(strides=(-4,)), ValueError, "negative strides"), (dict(stream=0), ValueError, "ambiguous")])
def test_arrays_that_are_refused(more, error, says):
    x = torch.ones(4, device="cuda")
    with pytest.raises(error, match=says): torch.as_tensor(Array(x, **more))
    with pytest.raises(TypeError, match="read only"): torch.as_tensor(Array(x, data=(x.data_ptr(), True)))


# ---------------------------------------------------------------- DLPack
@pytest.mark.parametrize("dtype", "float32 float64 float16 bfloat16 int8 uint8 int16 uint16 int32 uint32 int64 uint64 bool complex64 complex128".split())
@pytest.mark.parametrize("old", [False, True], ids=["versioned", "old"])
def test_dlpack_both_ways(dtype, old):
    x = torch.arange(6, device="cuda").reshape(2, 3).to(getattr(torch, dtype))
    p = Producer(x.t(), old)
    y = torch.from_dlpack(p)
    assert (y.dtype, y.shape, y.stride(), y.data_ptr(), tuple(y.__dlpack_device__())) == (x.dtype, (3, 2), (1, 3), x.data_ptr(), (2, 0))
    assert p.asked == ({"stream": 1} if old else {"stream": 1, "max_version": (1, 0)}) and y.tolist() == x.t().tolist()
    y.zero_()
    assert not x.any().item()


def test_dlpack_waits_in_streams():
    """The producer makes the consumer's stream wait for its own: nothing is read too early under any seed."""
    s = torch.cuda.Stream()
    x = torch.zeros(4096, device="cuda")
    for _ in range(3): x += 1
    producer = Producer(x)
    with torch.cuda.stream(s):
        y = torch.from_dlpack(producer)
        total = (y * 2).sum()
    torch.cuda.current_stream().wait_stream(s)
    assert total.item() == 3 * 2 * 4096
    x.record_stream(s)
    assert producer.asked["stream"] == s.cuda_stream


@pytest.mark.parametrize("stream, error, says", [(0, AssertionError, "unsupported stream on CUDA: 0"), (2, BufferError, "per-thread default stream"), ("1", TypeError, "stream must be")])
def test_streams_that_dlpack_refuses(stream, error, says):
    with pytest.raises(error, match=says): torch.ones(2, device="cuda").__dlpack__(stream=stream)


def test_dlpack_refuses():
    with pytest.raises(BufferError, match="different CUDA device index. Expected: 1. Current device: 0"): torch.ones(2, device="cuda:1").__dlpack__()
    with pytest.raises(BufferError, match="require gradient"): torch.ones(2, device="cuda", requires_grad=True).__dlpack__()
    capsule = torch.ones(2, device="cuda").__dlpack__()
    torch.from_dlpack(capsule)
    with pytest.raises(RuntimeError, match="consumed only once"): torch.from_dlpack(capsule)
    with pytest.raises(ValueError, match="without copying"): torch.from_dlpack(torch.ones(2, device="cuda"), device="cpu", copy=False)


def test_dlpack_to_other_places():
    x = torch.arange(4.0, device="cuda")
    assert torch.from_dlpack(x, device="cpu").tolist() == [0, 1, 2, 3] and torch.from_dlpack(x.__dlpack__(dl_device=(1, 0))).device.type == "cpu"
    y = torch.from_dlpack(x, copy=True)
    y.zero_()
    assert x.sum().item() == 6 and torch.ones(2).pin_memory().__dlpack_device__() == (3, 0)
    assert torch.from_dlpack(torch.ones(2).pin_memory()).tolist() == [1, 1]


def test_loans_end():
    """What was lent is there as long as the borrower, or the capsule that nobody took, and no longer."""
    def held():
        gc.collect()
        return torch.cuda.memory_allocated()
    y = torch.from_dlpack(torch.full((5000,), 2.0, device="cuda"))
    assert y.sum().item() == 10000 and held() >= 20000
    del y
    capsule = torch.full((5000,), 2.0, device="cuda").__dlpack__()
    assert held() >= 20000
    del capsule
    assert held() == 0


def test_loans_that_are_over_make_room(monkeypatch):
    """Before memory is said to be exhausted, what borrowers have given back is taken."""
    machine = Machine([Spec(nbytes=64 << 20)], seed=3)
    monkeypatch.setattr(gpu, "_found", machine.driver())
    y = torch.from_dlpack(torch.ones(10 << 20, device="cuda"))
    del y
    x = torch.ones(12 << 20, device="cuda")
    torch.cuda.synchronize()
    assert x[5].item() == 1


# ---------------------------------------------------------------- processes
SHARED = """
import forno as torch, forno.multiprocessing as mp
from multiprocessing import reduction
from forno import gpu
from forno.cudart import ipc

def child(first, queue, back):
    part = queue.get()
    part.mul_(2)
    torch.cuda.synchronize()
    back.put((first.tolist(), part.device.index, part.stride()))
    try: reduction.ForkingPickler.dumps(part)
    except RuntimeError as e: back.put(str(e))

if __name__ == "__main__":
    context = mp.get_context("spawn")
    queue, back = context.Queue(), context.Queue()
    x = torch.arange(10.0, device="cuda:1").reshape(2, 5)
    first = torch.ones(3, device="cuda")
    process = context.Process(target=child, args=(first, queue, back))
    process.start()
    queue.put(x[:, 1:4])
    said = [back.get(timeout=60) for _ in range(2)]
    held = len(ipc.sent(gpu.driver()))
    process.join()
    torch.cuda.ipc_collect()
    print(said, x.tolist(), held, len(ipc.sent(gpu.driver())))
"""


@pytest.mark.parametrize("devices", [1], indirect=True)
def test_processes_share_memory(tmp_path):
    """What the other process writes is seen here; what it has is kept until it ends."""
    (tmp_path / "shared.py").write_text(SHARED)
    done = subprocess.run([sys.executable, "shared.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
                          env={**os.environ, "FORNO_GPU": "sim:2", "PYTHONPATH": str(ROOT)})
    assert done.stdout == ("[([1.0, 1.0, 1.0], 1, (5, 1)), 'Attempted to send CUDA tensor received from another process; this is not currently supported. "
                           "Consider cloning before sending.'] [[0.0, 2.0, 4.0, 6.0, 4.0], [5.0, 12.0, 14.0, 16.0, 9.0]] 2 0\n"), done.stdout + done.stderr


EVENTS = """
import forno as torch, forno.multiprocessing as mp

def child(queue, back):
    x, ready, handle = queue.get()
    mine = torch.cuda.Event.from_ipc_handle(torch.device("cuda:1"), handle)
    stream = torch.cuda.Stream(device=1)
    ready.wait(stream)
    with torch.cuda.stream(stream):
        x.mul_(2)
        mine.record()
    back.put((ready.query(), mine.device, len(mine.ipc_handle())))
    queue.get()

if __name__ == "__main__":
    context = mp.get_context("spawn")
    queue, back = context.Queue(), context.Queue()
    process = context.Process(target=child, args=(queue, back))
    process.start()
    with torch.cuda.device(1):
        x, ready, done = torch.zeros(1000, device="cuda"), torch.cuda.Event(interprocess=True), torch.cuda.Event(interprocess=True)
        x.add_(1)
        ready.record()
        queue.put((x, ready, done.ipc_handle()))
    said = back.get(timeout=60)
    with torch.cuda.device(1): done.wait()
    print(said, x.sum().item(), done.query())
    queue.put(None)
    process.join()
"""


@pytest.mark.parametrize("devices", [1], indirect=True)
def test_processes_wait_for_each_others_events(tmp_path):
    (tmp_path / "events.py").write_text(EVENTS)
    done = subprocess.run([sys.executable, "events.py"], cwd=tmp_path, capture_output=True, text=True, timeout=100, check=False,
                          env={**os.environ, "FORNO_GPU": "sim:2", "PYTHONPATH": str(ROOT)})
    assert done.stdout == "(True, device(type='cuda', index=1), 64) 2000.0 True\n", done.stdout + done.stderr


def test_events_for_other_processes():
    """A recorded event that another process knows is over when the call returns, with all that came before it; the host has seen nothing of it."""
    x, plain, e = torch.ones(1000, device="cuda"), torch.cuda.Event(), torch.cuda.Event(interprocess=True)
    with pytest.raises(RuntimeError, match="invalid resource handle"): plain.ipc_handle()
    with pytest.raises(RuntimeError, match="invalid argument"): torch.cuda.Event(enable_timing=True, interprocess=True).record()
    assert e.device is None and e.ipc_handle() == e.ipc_handle() and str(e.device) == "cuda:0"
    x.mul_(2)
    e.record()
    assert e.query()
    for shared, message in ((b"short", "expects byte-like object of size 64, but got 5"), (bytes(64), "invalid argument"), (e.ipc_handle(), "invalid device context")):
        with pytest.raises(RuntimeError, match=message): torch.cuda.Event.from_ipc_handle("cuda:0", shared)
    with pytest.raises(RuntimeError, match="device type cpu"): torch.cuda.Event.from_ipc_handle("cpu", e.ipc_handle())
    handle = e.cuda_event
    del e
    fresh = torch.cuda.Event(interprocess=True)
    fresh.record()
    with pytest.raises(RuntimeError, match="invalid resource handle"): gpu.driver().EventQuery(handle)
    assert x.sum().item() == 2000


def test_what_processes_can_not_share():
    driver = gpu.driver()
    torch.ones(3, device="cuda").data_ptr()
    segment = next(iter(allocator.of(driver, 0).segments))
    with pytest.raises(RuntimeError, match="invalid argument"): driver.IpcGetMemHandle(segment + 512)
    handle = driver.IpcGetMemHandle(segment)
    assert len(handle) == 64 and handle == driver.IpcGetMemHandle(segment)
    with pytest.raises(RuntimeError, match="invalid device context"): driver.IpcOpenMemHandle(handle, 1)          # where it is from
    with pytest.raises(RuntimeError, match="invalid argument"): driver.IpcOpenMemHandle(bytes(64), 1)
    with pytest.raises(RuntimeError, match="invalid argument"): driver.IpcCloseMemHandle(segment)
    assert torch.ones(2, device="cuda").is_shared() and torch.ones(2, device="cuda").share_memory_().is_cuda
