"""The DataLoader against PyTorch's: order, seeds, options, errors; workers that fail, die, hang or are abandoned leave nothing behind."""
import functools
import gc
import glob
import os
import pathlib
import random
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
import torch
import torch.utils.data as td

import forno.utils.data as fd
from forno.framework import api as ft

from .test_datasets import Squares, plain

pytestmark = pytest.mark.filterwarnings("ignore:This DataLoader will create")


def both(options, dataset=lambda t, m: m.TensorDataset(t.arange(23), t.arange(46.0).reshape(23, 2)), epochs=2):
    """The epochs of both libraries with the same seed, as plain values."""
    out = []
    for t, m in ((ft, fd), (torch, td)):
        t.manual_seed(11)
        made = options(t, m) if callable(options) else options
        loader = m.DataLoader(dataset(t, m), **made)
        out.append([[plain(batch) for batch in loader] for _ in range(epochs)] + [len(loader)])
    return out


@pytest.mark.parametrize("options", [
    {}, dict(batch_size=4), dict(batch_size=4, shuffle=True), dict(batch_size=4, drop_last=True), dict(batch_size=None),
    dict(batch_size=None, shuffle=True),
    lambda t, m: dict(batch_size=5, shuffle=True, generator=t.Generator().manual_seed(3)), lambda t, m: dict(sampler=[3, 1, 2, 22], batch_size=3),
    lambda t, m: dict(batch_sampler=[[0, 1], [5], [22, 7, 3]]), lambda t, m: dict(batch_sampler=m.BatchSampler(m.RandomSampler(range(9)), 4, True)),
    lambda t, m: dict(batch_size=3, collate_fn=len), dict(batch_size=4, shuffle=True, num_workers=2),
    lambda t, m: dict(batch_size=3, num_workers=1, generator=t.Generator().manual_seed(3), shuffle=True),
    dict(batch_size=2, num_workers=2, persistent_workers=True, shuffle=True, prefetch_factor=4), dict(batch_size=None, num_workers=2),
])
def test_same_epochs(options):
    a, b = both(options)
    assert a == b


def test_subset_of_tensors_is_gathered_at_once():
    data = fd.TensorDataset(ft.arange(20).reshape(10, 2), ft.arange(10.0))
    calls = []

    class Watched(fd.TensorDataset):
        def __getitem__(self, i):
            calls.append(i)
            return super().__getitem__(i)
    part = fd.Subset(fd.Subset(data, range(9, -1, -1)), [1, 3, 5])
    (x, y), = fd.DataLoader(part, batch_size=3)
    assert x.tolist() == [[16, 17], [12, 13], [8, 9]] and y.tolist() == [8.0, 6.0, 4.0]
    (x, y), = fd.DataLoader(Watched(*data.tensors), batch_size=10)
    assert calls == list(range(10)) and x.shape == (10, 2)


def seeds_of(i): return [i, random.randrange(10 ** 9), int(np.random.randint(10 ** 9))]


class Seeds:
    def __len__(self): return 6
    def __getitem__(self, i): return seeds_of(i)


def test_worker_seeds():
    """Python's and NumPy's generators in workers start where PyTorch's workers start."""
    a, b = both(dict(num_workers=2, batch_size=None), dataset=lambda t, m: Seeds())
    assert a == b


class Shards:
    """An iterable dataset split between workers; worker 0 has more."""
    def __init__(self, n): self.n = n

    def __iter__(self):
        info = self.info()
        if info is None: return iter(range(self.n))
        assert info.num_workers == 2 and info.dataset.n == self.n and isinstance(info.seed, int)
        return iter(range(self.n // 4 * 3) if info.id == 0 else range(self.n // 4 * 3, self.n))


def shards(t, m):
    class Iterable(Shards, m.IterableDataset): info = staticmethod(m.get_worker_info)
    return Iterable(21)


def test_iterable_datasets():
    for options in (dict(batch_size=4), dict(batch_size=4, drop_last=True), dict(batch_size=None), dict(batch_size=3, num_workers=2),
                    dict(batch_size=2, drop_last=True, num_workers=2, persistent_workers=True)):
        got = []
        for t, m in ((ft, fd), (torch, td)):
            loader = m.DataLoader(shards(t, m), **options)
            got.append([[plain(b) for b in loader] for _ in range(2)])
        assert sorted(map(repr, got[0][0])) == sorted(map(repr, got[1][0])) == sorted(map(repr, got[0][1]))
        if "num_workers" not in options: assert got[0] == got[1]


def test_iterable_length_warning():
    class Liar(fd.IterableDataset):
        def __len__(self): return 2
        def __iter__(self): return iter(range(5))
    loader = fd.DataLoader(Liar(), batch_size=1)
    assert len(loader) == 2
    with pytest.warns(UserWarning, match="was reported to be 2"): list(loader)
    assert len(fd.DataLoader(Liar(), batch_size=4)) == 1 and len(fd.DataLoader(Liar(), batch_size=4, drop_last=True)) == 0


@pytest.mark.parametrize("options,kind,match", [
    (dict(num_workers=-1), ValueError, "non-negative"), (dict(timeout=-1), ValueError, "timeout"),
    (dict(prefetch_factor=2), ValueError, "prefetch_factor"),
    (dict(persistent_workers=True), ValueError, "persistent_workers"),
    (dict(shuffle=True, sampler=[1]), ValueError, "mutually exclusive with shuffle"),
    (dict(batch_sampler=[[1]], batch_size=2), ValueError, "batch_sampler option is mutually"),
    (dict(batch_size=None, drop_last=True), ValueError, "auto-batching"),
    (dict(batch_sampler=[[1]], shuffle=True), ValueError, "batch_sampler option"),
    (dict(multiprocessing_context="fork"), ValueError, "num_workers > 0"),
    (dict(multiprocessing_context="nope", num_workers=1), ValueError, "valid start method"),
    (dict(multiprocessing_context=3, num_workers=1), TypeError, "context"),
    (dict(batch_size=0), ValueError, "batch_size"),
])
def test_option_errors(options, kind, match):
    for m in (fd, td):
        with pytest.raises(kind, match=match): m.DataLoader(Squares(5), **options)


def test_iterable_option_errors():
    class Stream(fd.IterableDataset):
        def __iter__(self): return iter(range(5))
    for options in (dict(shuffle=True), dict(sampler=[1]), dict(batch_sampler=[[1]])):
        with pytest.raises(ValueError, match="IterableDataset"): fd.DataLoader(Stream(), **options)
    with pytest.raises(TypeError): len(fd.DataLoader(Stream()))
    loader = fd.DataLoader(Squares(3))
    with pytest.raises(ValueError, match="should not be set after"): loader.batch_size = 3
    with pytest.warns(UserWarning, match="suggested max number"): fd.DataLoader(Squares(3), num_workers=10000)


class Rich:
    """Samples with everything a batch may hold, big enough to travel in shared memory."""
    def __init__(self, t, n=4): self.t, self.n = t, n
    def __len__(self): return self.n

    def __getitem__(self, i):
        t = self.t
        return {"f": t.full((300, 20), float(i)), "b": t.full((3,), i, dtype=t.bfloat16), "h": t.ones(2, dtype=t.float16),
                "c": t.ones(2, dtype=t.complex64) * i,
                "m": t.tensor([True, False]), "s": "word" * 10, "n": np.arange(2000) + i, "e": t.zeros(0, 3), "z": t.tensor(i), "g": t.ones(2).t()}


def test_workers_give_tensors_that_own_shared_memory():
    loader = fd.DataLoader(Rich(ft), batch_size=2, num_workers=2)
    here = [plain(b) for b in fd.DataLoader(Rich(ft), batch_size=2)]
    there = list(loader)
    assert [plain(b) for b in there] == here
    there[0]["f"].add_(1)                      # writable, and alive when the loader is gone
    del loader
    assert there[0]["f"][1, 0, 0].item() == 2.0
    raw = list(fd.DataLoader(Rich(ft), batch_size=None, num_workers=1, collate_fn=lambda x: x))
    assert isinstance(raw[1]["n"], np.ndarray) and raw[1]["n"].tolist() == list(range(1, 2001)) and raw[2]["z"].shape == ()


def test_spawned_workers():
    loader = fd.DataLoader(Squares(6), batch_size=2, num_workers=1, multiprocessing_context="spawn")
    assert [b.tolist() for b in loader] == [[0, 1], [4, 9], [16, 25]]
    loader = fd.DataLoader(fd.TensorDataset(ft.arange(4), ft.ones(4, 2)), batch_size=4, num_workers=1, multiprocessing_context="spawn")
    assert [plain(b) for b in loader] == [plain([ft.arange(4), ft.ones(4, 2)])]


class Trouble(Squares):
    """Misbehaves at index 3."""
    def __init__(self, n, what): self.n, self.what = n, what

    def __getitem__(self, i):
        if i == 3: self.what()
        return i


def divide(): return 1 / 0
def missing(): return {}["absent"]
def die(): os.kill(os.getpid(), signal.SIGKILL)
def leave(): os._exit(7)
def hang(): time.sleep(60)


class Picky(Exception):
    def __init__(self, a, b): super().__init__(a, b)


def picky(): raise Picky(1, 2)


@pytest.mark.parametrize("what,kind,match", [
    (divide, ZeroDivisionError, "(?s)Caught ZeroDivisionError in DataLoader worker process 1.*in divide"),
    (missing, KeyError, "(?s)in DataLoader worker.*absent"),
    (picky, RuntimeError, "(?s)Caught Picky.*in picky"), (die, RuntimeError, r"worker \(pid\(s\) \d+\) exited unexpectedly.*SIGKILL"),
    (leave, RuntimeError, r"worker \(pid\(s\) \d+\) exited unexpectedly with exit code 7"),
])
def test_failing_workers(what, kind, match):
    loader = fd.DataLoader(Trouble(8, what), batch_size=2, num_workers=2)
    got = []
    with pytest.raises(kind, match=match):
        for batch in loader: got.append(batch.tolist())
    assert got == [[0, 1]]


def test_iteration_goes_on_after_an_exception():
    it = iter(fd.DataLoader(Trouble(8, divide), batch_size=2, num_workers=2))
    assert next(it).tolist() == [0, 1]
    with pytest.raises(ZeroDivisionError): next(it)
    assert [b.tolist() for b in it] == [[4, 5], [6, 7]]


def test_timeout():
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="timed out after 1 seconds"): list(fd.DataLoader(Trouble(8, hang), batch_size=2, num_workers=1, timeout=1))
    assert time.monotonic() - start < 20


def failing_init(worker): raise ValueError(f"init {worker}")
def good_init(path, worker): pathlib.Path(path, str(worker)).touch()


def test_worker_init(tmp_path):
    with pytest.raises(ValueError, match="(?s)worker process 0.*init 0"): list(fd.DataLoader(Squares(4), num_workers=2, worker_init_fn=failing_init))
    list(fd.DataLoader(Squares(4), num_workers=2, worker_init_fn=functools.partial(good_init, tmp_path)))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["0", "1"]


def test_unpicklable_batch_and_own_order():
    with pytest.raises(Exception, match="(?s)worker process 0.*pickle"):
        list(fd.DataLoader(Squares(2), num_workers=1, collate_fn=lambda x: lambda: x))
    out = list(fd.DataLoader(Slow(8), batch_size=None, num_workers=2, in_order=False))
    assert sorted(out) == list(range(8)) and out != list(range(8))


class Slow(Squares):
    def __getitem__(self, i):
        if i == 0: time.sleep(0.5)
        return i


def children():
    me, out = os.getpid(), []
    for path in glob.glob("/proc/[0-9]*/stat"):
        try: fields = pathlib.Path(path).read_text().rsplit(")", 1)[1].split()
        except OSError: continue
        if int(fields[1]) == me: out.append((path, fields[0]))
    return out


def test_nothing_is_left_behind():
    """No process, zombie, descriptor or file in /dev/shm after loaders end, are abandoned, fail or are dropped while persistent."""
    def use():
        list(fd.DataLoader(Rich(ft), batch_size=1, num_workers=2))
        it = iter(fd.DataLoader(Rich(ft, 40), batch_size=1, num_workers=2))
        next(it)
        del it
        for what in (divide, die):
            with pytest.raises((ZeroDivisionError, RuntimeError)): list(fd.DataLoader(Trouble(8, what), num_workers=2))
        keep = fd.DataLoader(Rich(ft), num_workers=2, persistent_workers=True)
        for _ in range(2): list(keep)
        next(iter(keep))
        assert len(list(keep)) == 4
    use()
    gc.collect()                               # iterators held by tracebacks of failed epochs
    before = children(), len(os.listdir("/proc/self/fd")), sorted(os.listdir("/dev/shm"))
    use()
    gc.collect()
    assert (children(), len(os.listdir("/proc/self/fd")), sorted(os.listdir("/dev/shm"))) == before


SCRIPT = """
    import os, sys, time
    import forno.utils.data as fd
    class D(fd.Dataset):
        def __len__(self): return 1000
        def __getitem__(self, i):
            time.sleep(0.05)
            return i
    if __name__ == "__main__":
        loader = fd.DataLoader(D(), num_workers=2, batch_size=1)
        it = iter(loader)
        next(it)
        print(*(w.process.pid for w in it.workers), flush=True)
        for _ in it: pass
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL, signal.SIGTERM])
def test_interrupted_program_takes_its_workers_along(how, tmp_path):
    script = tmp_path / "program.py"
    script.write_text(textwrap.dedent(SCRIPT))
    root = pathlib.Path(fd.__file__).parents[3]
    p = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
                         env=os.environ | {"PYTHONPATH": str(root)})
    try:
        pids = [int(x) for x in p.stdout.readline().split()]
        assert len(pids) == 2
        if how == signal.SIGINT: os.killpg(p.pid, how)         # as a terminal does
        else: p.send_signal(how)
        _, err = p.communicate(timeout=30)
        if how == signal.SIGINT:
            assert "KeyboardInterrupt" in err and err.count("Traceback") == 1
        deadline = time.monotonic() + 10
        while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline: time.sleep(0.1)
        assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)
    finally:
        if p.poll() is None: p.kill()
