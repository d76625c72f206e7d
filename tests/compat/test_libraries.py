"""torch.testing, torch.multiprocessing, torch.serialization and other small libraries that scripts import."""
import os
import re
import signal
import subprocess
import sys

import pytest
import torch

import forno
from forno import multiprocessing as mp

CASES = """1.0,1.0 1.0,1.001 1,1.0 1,2 True,True True,False 1j,1j+1e-9 float('nan'),float('nan') t.ones(2),t.ones(2) t.ones(2),t.zeros(2) t.ones(2),t.ones(3) t.ones(2),t.ones(2).double()
t.ones(2),t.ones(2)+1e-6 t.ones(2).half(),t.ones(2).half()*1.0009 t.tensor([1,2]),t.tensor([1,3]) t.tensor(1.),t.tensor(2.) t.tensor([float('nan')]),t.tensor([float('nan')])
t.tensor([[1.,2],[3,4]]),t.tensor([[1.,2],[3.5,9]]) [t.ones(1),2],[t.ones(1),2] [t.ones(1),2],[t.ones(1),3] [1],[1,2] {'a':1},{'a':1} {'a':1},{'b':1} {'a':[t.ones(2)]},{'a':[t.zeros(2)]}
'a','a' t.ones(2),[1.,1.] None,None t.ones(2),t.ones(2),rtol=1 t.ones(2),t.ones(2)*1.5,rtol=.5,atol=0 t.ones(2),t.ones(2)*1.5,rtol=.3,atol=0 t.tensor([float('inf')]),t.tensor([float('inf')])
t.tensor([float('nan')]),t.tensor([float('nan')]),equal_nan=True t.ones(2),t.ones(2).double(),check_dtype=False t.ones(2,3),t.ones(3,2).t(),check_stride=True t.ones(2),t.zeros(2),msg='mine'
t.ones(2),t.zeros(2),msg=lambda.m:m[:12] t.zeros(0),t.zeros(0) t.tensor([True]),t.tensor([False]) 2.5,2.5+1e-9 t.ones(2,dtype=t.complex64),t.ones(2,dtype=t.complex64)*1j""".split()


@pytest.mark.parametrize("case", CASES)
def test_assert_close(case):
    told = []
    for t in (torch, forno):
        try: told.append(eval(f"t.testing.assert_close({case.replace('lambda.', 'lambda ')})", {"t": t}))
        except Exception as e: told.append((type(e), re.sub(r"torch|forno", "", str(e)).split(" at index")[0][:60]))
    assert told[0] == told[1]


def shout(rank, queue, x):
    x[rank] = rank + 1                         # memory shared with the parent
    queue.put((rank, forno.full((2,), float(rank))))


def fail(rank):
    if rank == 1: raise ValueError("in process one")


def die(rank): os.kill(os.getpid(), signal.SIGKILL)
def leave(rank): sys.exit(3)


def test_spawn():
    queue, x = mp.get_context("spawn").SimpleQueue(), forno.zeros(2).share_memory_()
    mp.spawn(shout, args=(queue, x), nprocs=2)
    assert x.tolist() == [1.0, 2.0]
    assert sorted((r, t.tolist()) for r, t in (queue.get(), queue.get())) == [(0, [0.0, 0.0]), (1, [1.0, 1.0])]


@pytest.mark.parametrize("fn,kind,match", [(fail, mp.ProcessRaisedException, "(?s)Process 1 terminated.*in fail.*in process one"),
                                           (die, mp.ProcessExitedException, "signal SIGKILL"), (leave, mp.ProcessRaisedException, "SystemExit: 3")])
def test_spawned_processes_that_fail(fn, kind, match):
    with pytest.raises(kind, match=match): mp.start_processes(fn, nprocs=2, start_method="fork")


def test_names():
    assert mp.get_sharing_strategy() in mp.get_all_sharing_strategies() and mp.cpu_count() > 0 and mp.Process is not None
    mp.set_sharing_strategy("file_system")
    with pytest.raises(NotImplementedError, match="file_descriptor"): mp.set_sharing_strategy("pigeons")
    assert forno.serialization.load is forno.load and forno.serialization.get_safe_globals() == []
    assert "LLVM" in forno.__config__.show() and "threads" in forno.__config__.parallel_info()
    backend = forno.nn.attention.SDPBackend
    assert [(b.name, int(b)) for b in backend] == [(b.name, b.value) for n, b in torch.nn.attention.SDPBackend.__members__.items()]
    with forno.nn.attention.sdpa_kernel([backend.MATH, backend.FLASH_ATTENTION]): pass
    with pytest.raises(TypeError), forno.nn.attention.sdpa_kernel("math"): pass
    with pytest.raises(NotImplementedError, match="one process"): forno.nn.parallel.DistributedDataParallel(forno.nn.Linear(1, 1))


def test_imports_of_training_scripts():
    done = subprocess.run([sys.executable, "-c", """
import forno
forno.install_as_torch()
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.serialization import add_safe_globals
from torch.testing import assert_close
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.hooks import RemovableHandle
from torch.cuda.random import manual_seed_all
import torch
print(torch.serialization is forno.serialization)
"""], capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout == "True\n", done.stderr
