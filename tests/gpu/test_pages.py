"""Devices that read the host's pages themselves (HMM): a copy of memory that isn't pinned may be done long after the call."""
import ctypes

import numpy as np
import pytest

import forno as torch
from forno import gpu
from forno.cudart import memory
from forno.framework.engine import flush
from forno.gpu.sim import Machine, Spec


@pytest.fixture(params=range(4))
def reader(request, monkeypatch):
    flush()
    with Machine([Spec(pageable=True)], seed=request.param) as machine:
        machine.eager = 0.0                    # nothing runs before somebody waits
        monkeypatch.setattr(gpu, "_found", machine.driver())
        yield machine
        flush()


def test_such_a_copy_reads_late(reader):
    """What the simulated machine is made to show."""
    x, out = np.ones(64, np.float32), np.empty(64, np.float32)
    block = memory.empty(x.nbytes, "cuda:0")
    gpu.driver().MemcpyHtoDAsync(block.address, x.ctypes.data, x.nbytes, 0)
    x[:] = 2
    memory.fetch_from("cuda:0", block.address, x.nbytes, out.ctypes.data)
    assert (out == 2).all()


def test_the_source_may_be_used_again_at_once(reader):
    x, out = np.arange(64, dtype=np.float32), np.empty(64, np.float32)
    block = memory.empty(x.nbytes, "cuda:0")
    memory.send_to("cuda:0", x.ctypes.data, x.nbytes, block.address)
    ctypes.memset(x.ctypes.data, 0xFF, x.nbytes)
    memory.fetch_from("cuda:0", block.address, x.nbytes, out.ctypes.data)
    assert (out == np.arange(64)).all()


def test_tensors_of_arrays(reader):
    x = np.arange(100_000, dtype=np.float32)
    y = torch.from_numpy(x).cuda()
    y.sum().item()
    x[:] = -1
    assert ((y + 1).cpu().numpy() == np.arange(1, 100_001)).all()


def test_random_numbers_of_graphs(reader):
    """A launch's words are the call's: the host's memory that they were in is something else by then."""
    x, graph, s = torch.zeros(40, device="cuda"), torch.cuda.CUDAGraph(), torch.cuda.Stream()
    torch.manual_seed(3)
    with torch.cuda.stream(s): (x + torch.rand(40, device="cuda")).sum()
    torch.manual_seed(3)
    with torch.cuda.graph(graph, stream=s): y = x + torch.rand(40, device="cuda")
    seen = []
    for _ in range(3):
        graph.replay()
        seen.append(y.clone())
    torch.manual_seed(3)
    assert all(torch.equal(a, torch.rand(40, device="cuda")) for a in seen)
