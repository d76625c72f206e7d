"""NumPy, buffers, DLPack, storages, shared memory: the same expressions give the same on torch."""
import ctypes
import gc
import multiprocessing
import os

import numpy as np
import pytest
import torch

import forno

LIBS = (torch, forno)
ALL = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64", "complex64", "complex128"]


def outcome(f, lib):
    try: r = f(lib)
    except Exception as e: return type(e), str(e)
    return repr(r)


ARRAYS = [lambda t: np.asarray(t.ones(2)), lambda t: np.asarray(t.ones(2, requires_grad=True)), lambda t: np.asarray(t.ones(2), dtype=np.int32),
          lambda t: np.add(np.ones(3), t.ones(3)), lambda t: np.sin(t.ones(3)), lambda t: t.ones(3) * np.ones(3), lambda t: np.float64(2) * t.ones(3),
          lambda t: t.ones(3) + np.float32(1), lambda t: np.array([t.tensor(1.0), t.tensor(2.0)]), lambda t: np.array(t.arange(4).reshape(2, 2)),
          lambda t: t.tensor([np.float32(1), np.float32(2)]), lambda t: np.concatenate([t.ones(2), np.zeros(1)]), lambda t: np.array(t.tensor(3)),
          lambda t: t.tensor(np.arange(3)), lambda t: t.as_tensor(np.arange(3.0)), lambda t: np.isnan(t.tensor([1.0, float("nan")])).dtype,
          lambda t: list(np.ones(2) @ np.asarray(t.ones(2, 2)))]
ASARRAY = [lambda t: t.asarray([1, 2], dtype=t.float32), lambda t: t.asarray(t.ones(2), copy=False, dtype=t.int32), lambda t: t.asarray([1], copy=False),
           lambda t: t.asarray(bytearray(b"abcdefgh")), lambda t: t.asarray(bytearray(b"ab")), lambda t: t.asarray(np.float32(2)), lambda t: t.asarray(3.5),
           lambda t: t.asarray(np.arange(3)), lambda t: t.asarray(t.ones(2, requires_grad=True)), lambda t: t.asarray(t.ones(2, requires_grad=True) * 2, requires_grad=False),
           lambda t: t.asarray(t.ones(2), requires_grad=True), lambda t: t.asarray([1 + 1j])]
BUFFERS = [lambda t: t.frombuffer(bytearray(b"12345678"), dtype=t.int32), lambda t: t.frombuffer(bytearray(b"1234567"), dtype=t.int32),
           lambda t: t.frombuffer(bytearray(0), dtype=t.int32), lambda t: t.frombuffer(bytearray(8), dtype=t.int32, offset=9), lambda t: t.frombuffer(3, dtype=t.int32),
           lambda t: t.frombuffer(bytearray(8), dtype=t.int32, count=3), lambda t: t.frombuffer(bytearray(9), dtype=t.int32, offset=1),
           lambda t: t.frombuffer(bytearray(8), dtype=t.int32, count=0), lambda t: t.frombuffer(bytearray(b"\x80\x3f\x00\x40"), dtype=t.bfloat16),
           lambda t: t.frombuffer(bytearray(8), dtype=t.float64, requires_grad=True), lambda t: t.frombuffer(bytearray(b"abcd"), dtype=t.uint8, count=2, offset=1)]
STORAGES = [lambda t: t.ones(2).untyped_storage(), lambda t: t.ones(2).untyped_storage().nbytes(),
            lambda t: len(t.ones(2, 3)[0].untyped_storage()),
            lambda t: t.is_storage(t.ones(1).untyped_storage()), lambda t: t.ones(2)[:].is_set_to(t.ones(2)), lambda t: (lambda z: (z.is_set_to(z[:]), z.is_set_to(z[1:])))(t.ones(2)),
            lambda t: t.zeros(1).set_(t.arange(6.0).untyped_storage(), 1, (2, 2), (2, 1)), lambda t: t.zeros(3).set_(), lambda t: t.zeros(2).set_(t.ones(2, dtype=t.int32)),
            lambda t: t.ones(4).resize_(2, 2), lambda t: t.arange(6.0).resize_(2), lambda t: t.arange(2.0).resize_(3)[:2], lambda t: t.ones(2, requires_grad=True).resize_(1),
            lambda t: (lambda z: z.untyped_storage().data_ptr() == z[1:].untyped_storage().data_ptr())(t.ones(4)),
            lambda t: (lambda z: z[1:].data_ptr() - z.data_ptr())(t.ones(4)), lambda t: (lambda z: t.Tensor(z).data_ptr() == z.data_ptr())(t.ones(4))]


@pytest.mark.parametrize("family", [ARRAYS, ASARRAY, BUFFERS, STORAGES])
@pytest.mark.filterwarnings("ignore")
def test_like_torch(family):
    for k, f in enumerate(family): assert outcome(f, forno) == outcome(f, torch), k


@pytest.mark.parametrize("lib", LIBS)
def test_memory_is_shared(lib):
    a = np.zeros(3, np.float32)
    for t in (lib.from_numpy(a), lib.as_tensor(a), lib.asarray(a), lib.frombuffer(a, dtype=lib.float32), lib.from_dlpack(a)):
        t += 1
        assert t.tolist() == a.tolist()
    assert a.tolist() == [5, 5, 5]
    x = lib.zeros(3)
    y, n = x[:2], np.asarray(x)
    assert y.tolist() == [0, 0]
    n[0] = 7
    assert y.tolist() == [7, 0]
    n[1] = 8
    assert y.tolist() == [7, 8] and (y * 2).tolist() == [14, 16]
    y[0] = 1
    assert n.tolist() == [1, 8, 0]
    z = lib.zeros(2).set_(x)
    z[2] = 3
    assert x.tolist() == n.tolist() == [1, 8, 3]


@pytest.mark.parametrize("name", ALL)
def test_dlpack_both_ways(name):
    source = torch.tensor([[0, 1, 1], [1, 0, 1]]).to(getattr(torch, name)).t()
    ours = forno.from_dlpack(source)
    assert (repr(ours), ours.stride()) == (repr(source), source.stride())
    source[0, 1] = 0
    assert repr(ours) == repr(source)
    mine = forno.tensor([[0, 1, 1], [1, 0, 1]]).to(getattr(forno, name)).t()
    theirs = torch.from_dlpack(mine)
    assert (repr(theirs), theirs.stride()) == (repr(mine), mine.stride())
    theirs[0, 1] = 0
    assert repr(mine) == repr(theirs)
    if name != "bfloat16": assert np.from_dlpack(mine).tolist() == mine.tolist()
    assert forno.from_dlpack(mine).data_ptr() == mine.data_ptr() and tuple(mine.__dlpack_device__()) == (1, 0)


def test_dlpack_capsules():
    x = forno.arange(3.0)
    capsule = forno.utils.dlpack.to_dlpack(x)
    y = torch.utils.dlpack.from_dlpack(capsule)
    y[0] = 5
    assert x[0].item() == 5
    with pytest.raises(RuntimeError, match="consumed only once"): forno.from_dlpack(capsule)
    for lib in LIBS:
        with pytest.raises(BufferError, match="require gradient"): lib.ones(2, requires_grad=True).__dlpack__()
    assert forno.from_dlpack(torch.utils.dlpack.to_dlpack(torch.ones(2))).tolist() == [1, 1]
    forno.utils.dlpack.to_dlpack(x)            # a capsule nobody takes
    del x, y, capsule
    gc.collect()


def test_dlpack_keeps_memory_alive():
    y = torch.from_dlpack(forno.arange(100000.0) + 1)
    z = forno.from_dlpack(torch.arange(100000.0) + 1)
    gc.collect()
    junk = [forno.zeros(100000) for _ in range(4)]
    assert y.sum().item() == torch.arange(1.0, 100001.0).sum().item() and z[99999].item() == 100000 and junk


def add_one(t, done):
    t += 1
    done.put(t.is_shared())


@pytest.mark.parametrize("context", ["fork", "spawn"])
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes")
def test_shared_memory(context):
    ctx = multiprocessing.get_context(context)
    base = forno.zeros(4).share_memory_()
    part, weights = base[1:3], forno.nn.Parameter(forno.ones(2)).share_memory_()
    done = ctx.Queue()
    workers = [ctx.Process(target=add_one, args=(t, done)) for t in (base, part, weights.detach())]
    for w in workers:                          # one after the other: adding one to the same element isn't atomic
        w.start()
        assert done.get(timeout=60)
        w.join(30)
    assert base.tolist() == [1, 2, 2, 1] and part.tolist() == [2, 2] and weights.tolist() == [2, 2] and weights.requires_grad
    assert base.is_shared() and part.is_shared() and not base.clone().is_shared() and not forno.ones(1).is_shared()


def give(queue, taken, t):
    queue.put(t)
    taken.wait(60)                             # a descriptor is fetched from its sender, as in torch


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes")
def test_tensors_through_queues():
    ctx = multiprocessing.get_context("fork")
    queue, shared = ctx.Queue(), forno.zeros(2).share_memory_()
    for t in (forno.arange(5.0)[1:], shared, forno.nn.Parameter(forno.ones(1))):
        taken = ctx.Event()
        worker = ctx.Process(target=give, args=(queue, taken, t))
        worker.start()
        got = queue.get(timeout=60)
        taken.set()
        worker.join(30)
        assert type(got) is type(t) and got.tolist() == t.tolist() and got.requires_grad == t.requires_grad
        if t is shared:
            got[0] = 4
            assert shared[0].item() == 4


def test_shared_memory_stays_where_it_is():
    t = forno.zeros(3).share_memory_()
    at = t.data_ptr()
    t.add_(1)
    t[0] = 5
    t.copy_(t * 2)
    assert t.data_ptr() == at and list((ctypes.c_float * 3).from_address(at)) == [10, 2, 2] == t.tolist()
