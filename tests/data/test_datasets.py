"""Datasets, samplers and collation against PyTorch: the same orders from the same seeds, the same batches, the same errors."""
import collections

import numpy as np
import pytest
import torch
import torch.utils.data as td

import forno.utils.data as fd
from forno.framework import api as ft


def plain(x):
    """A batch as nested Python values with its types, to compare batches of both libraries."""
    if hasattr(x, "dtype") and hasattr(x, "tolist"): return "tensor", str(x.dtype), tuple(x.shape), x.tolist()
    if isinstance(x, dict): return {k: plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)): return type(x).__name__, [plain(v) for v in x]
    return x


Point = collections.namedtuple("Point", "x y")
BATCHES = [
    lambda t: [t.tensor([1.0, 2.0]), t.tensor([3.0, 4.0])], lambda t: [np.zeros(2), np.ones(2)], lambda t: [np.float32(1), np.float32(2)],
    lambda t: [1, 2, 3], lambda t: [1.5, 2.5], lambda t: ["a", "b"], lambda t: [True, False], lambda t: [(1, t.tensor(2.0)), (3, t.tensor(4.0))],
    lambda t: [{"a": 1, "b": t.zeros(2)}, {"a": 2, "b": t.ones(2)}], lambda t: [Point(1, 2.0), Point(3, 4.0)], lambda t: [[1, 2], [3, 4]],
    lambda t: [{"a": [1, {"b": "x"}]}, {"a": [2, {"b": "y"}]}], lambda t: [np.arange(3), np.arange(3)], lambda t: [b"a", b"b"],
    lambda t: [collections.OrderedDict(a=1), collections.OrderedDict(a=2)],
]


@pytest.mark.parametrize("make", BATCHES)
def test_collate_and_convert(make):
    a, b = fd.default_collate(make(ft)), td.default_collate(make(torch))
    assert plain(a) == plain(b) and type(a).__name__ == type(b).__name__
    for x, y in zip(make(ft), make(torch)): assert plain(fd.default_convert(x)) == plain(td.default_convert(y))


def test_collate_errors():
    for bad, match in (([object(), object()], "found <class 'object'>"), ([[1, 2], [3]], "equal size"), ([np.array(["a"]), np.array(["b"])], "<U1")):
        kind = RuntimeError if "equal" in match else TypeError
        with pytest.raises(kind, match=match): fd.default_collate(bad)
        with pytest.raises(kind, match=match): td.default_collate(bad)
    with pytest.raises(RuntimeError): fd.default_collate([ft.zeros(2), ft.zeros(3)])


def seeded(t, seed): return t.Generator().manual_seed(seed)


@pytest.mark.parametrize("name,args", [
    ("SequentialSampler", (range(7),)), ("RandomSampler", (range(10),)), ("RandomSampler", (range(10), False, 25)),
    ("RandomSampler", (range(10), True)),
    ("RandomSampler", (range(1000), True, 77)), ("SubsetRandomSampler", ([5, 3, 9],)), ("WeightedRandomSampler", ([0.1, 0.9, 0.4, 0.0], 20)),
    ("WeightedRandomSampler", ([0.1, 0.9, 0.4, 0.3], 3, False)),
])
def test_samplers(name, args):
    extra = lambda t: {} if name == "SequentialSampler" else {"generator": seeded(t, 5)}
    a, b = getattr(fd, name)(*args, **extra(ft)), getattr(td, name)(*args, **extra(torch))
    for _ in range(3): assert list(a) == list(b)
    assert len(a) == len(b)
    if name == "WeightedRandomSampler": return
    ft.manual_seed(3)
    ours = list(getattr(fd, name)(*args))
    torch.manual_seed(3)
    assert ours == list(getattr(td, name)(*args))


def test_batch_and_distributed_samplers():
    for n in (0, 1, 6, 7):
        for drop in (False, True):
            a, b = fd.BatchSampler(range(n), 3, drop), td.BatchSampler(range(n), 3, drop)
            assert list(a) == list(b) and len(a) == len(b)
    for n in (2, 10, 11):
        for rank in range(4):
            for options in ({}, {"shuffle": False}, {"drop_last": True}, {"seed": 7}):
                a, b = fd.DistributedSampler(range(n), 4, rank, **options), td.DistributedSampler(range(n), 4, rank, **options)
                a.set_epoch(2)
                b.set_epoch(2)
                assert list(a) == list(b) and len(a) == len(b)
    for wrong in (dict(batch_size=0, drop_last=False), dict(batch_size=2, drop_last=1)):
        with pytest.raises(ValueError): fd.BatchSampler(range(3), **wrong)
    with pytest.raises(ValueError): fd.RandomSampler([], )
    with pytest.raises(TypeError): fd.RandomSampler(range(3), replacement=1)
    with pytest.raises(ValueError): fd.WeightedRandomSampler([[1.0]], 1)
    with pytest.raises(ValueError): fd.DistributedSampler(range(3), 2, 2)
    with pytest.raises(RuntimeError, match="num_replicas"): fd.DistributedSampler(range(3))


class Squares:
    """Made into a dataset of either library."""
    def __init__(self, n): self.n = n
    def __len__(self): return self.n

    def __getitem__(self, i):
        if not 0 <= i < self.n: raise IndexError(i)
        return i * i


def test_combinations():
    def build(t, m):
        class D(Squares, m.Dataset): pass
        x = m.TensorDataset(t.arange(6).reshape(3, 2), t.tensor([1.0, 2.0, 3.0]))
        chain = m.ConcatDataset([D(3), D(2), D(4)])
        return [plain(x[1]), plain(x[-1]), len(x), [chain[i] for i in range(-9, 9)], len(chain), (D(2) + D(3))[4],
                m.Subset(chain, [3, 8])[1], m.Subset(chain, [3, 8, 0])[-2], m.Subset(m.Subset(chain, [3, 8, 0]), [2, 1])[0],
                m.StackDataset(D(2), D(2))[1], m.StackDataset(a=D(2), b=D(2))[1],
                m.StackDataset(D(3), m.Subset(D(5), [4, 3, 2])).__getitems__([0, 2]),
                m.StackDataset(a=D(3)).__getitems__([1])]
    assert build(ft, fd) == build(torch, td)
    with pytest.raises(AssertionError, match="Size mismatch"): fd.TensorDataset(ft.zeros(2), ft.zeros(3))
    with pytest.raises(ValueError, match="absolute value"): fd.ConcatDataset([Squares(2)])[-3]
    with pytest.raises(ValueError, match="At least one"): fd.StackDataset()
    with pytest.raises(NotImplementedError): fd.Dataset()[0]

    class Stream(fd.IterableDataset):
        def __init__(self, n): self.n = n
        def __iter__(self): return iter(range(self.n))
        def __len__(self): return self.n
    assert list(Stream(2) + Stream(3)) == [0, 1, 0, 1, 2] and len(Stream(2) + Stream(3)) == 5
    with pytest.raises(AssertionError): fd.ConcatDataset([Stream(2)])
    with pytest.raises(AssertionError): list(fd.ChainDataset([[1, 2]]))

    class Mine(fd.Subset):
        def __getitem__(self, i): return 0
    with pytest.raises(NotImplementedError, match="__getitems__"): Mine(Squares(2), [0])


def test_random_split():
    for lengths in ([3, 7], [0.5, 0.5], [0.33, 0.33, 0.34], [10, 0]):
        a = fd.random_split(Squares(10), lengths, generator=seeded(ft, 42))
        b = td.random_split(Squares(10), lengths, generator=seeded(torch, 42))
        assert [s.indices for s in a] == [s.indices for s in b]
    ft.manual_seed(1)
    ours = [s.indices for s in fd.random_split(Squares(10), [4, 6])]
    torch.manual_seed(1)
    assert ours == [s.indices for s in td.random_split(Squares(10), [4, 6])]
    with pytest.raises(ValueError, match="does not equal"): fd.random_split(Squares(10), [3, 3])
    with pytest.warns(UserWarning, match="Length of split"): fd.random_split(Squares(2), [0.5, 0.25, 0.25])
