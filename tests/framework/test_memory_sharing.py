"""Memory that NumPy and tensors share: writes are seen both ways at once, reads take a snapshot, and it is private again when the array dies."""
import numpy as np
import pytest
import torch

import forno
from forno.framework.engine import flush

from .agree import plain, same


def alike(f):
    a, b = plain(f(torch), torch), plain(f(forno), forno)
    assert same(a, b), f"torch: {a}\nforno: {b}"


def test_from_numpy_both_ways():
    def f(lib):
        a = np.arange(6.0).reshape(2, 3)
        t = lib.from_numpy(a)
        out = []
        a[0, 0] = 10
        out.append(t.clone())
        t[1, 2] = 20
        out.append(a.copy().tolist())
        t += 1
        out.append(a.copy().tolist())
        v = t.t()[1]
        v.mul_(2)
        out.append(a.copy().tolist())
        a[:, 1] = -1
        return out, v, t
    alike(f)


def test_numpy_both_ways():
    def f(lib):
        t = lib.arange(6.0).view(2, 3)
        a, b = t.numpy(), t.t().numpy()
        t.add_(1)
        first = a.tolist(), b.tolist()
        a[0, 0] = 50
        b[2, 1] = 60
        t[0, 1] = 70
        return first, t, a.tolist(), b.strides, t.sum()
    alike(f)


def test_reads_take_the_value_of_their_moment():
    a = np.ones(4, "f4")
    t = forno.from_numpy(a)
    y = t * 2                                  # pending
    z = t.sum()
    a[:] = 100
    assert y.tolist() == [2] * 4 and z.item() == 4 and (t * 2).tolist() == [200] * 4


@pytest.mark.parametrize("n", [4, 1 << 16])
def test_large_and_small_reads(n):
    a = np.ones(n, "f4")
    t = forno.from_numpy(a)
    y = t + 1
    a[:] = 7
    assert y[0].item() == 2 and y[-1].item() == 2 and t[n // 2].item() == 7


def test_a_clone_and_a_saved_value_are_not_shared():
    t = forno.ones(4)
    c = t.clone()
    w = forno.ones(4, requires_grad=True)
    y = (w * t).sum()
    t.numpy()[:] = 5
    y.backward()
    assert c.tolist() == [1] * 4 and t.tolist() == [5] * 4 and w.grad.tolist() == [5] * 4     # what backward needs of t is t's memory, as in PyTorch


@pytest.mark.parametrize("see", [lambda t: t, lambda t: t.detach(), lambda t: t[:]], ids=["itself", "detached", "a view"])
def test_pending_readers_have_their_values_before_memory_is_shown(see):
    t = forno.ones(4)
    t.tolist()
    readers = [t * 1, t.clone(), t[1:] + 0, t.reshape(2, 2).clone()]
    see(t).numpy()[:] = 5
    assert [r.sum().item() for r in readers] == [4, 4, 3, 4] and t.tolist() == [5] * 4


def test_private_again_when_the_array_dies():
    t = forno.ones(1000)
    a = t.numpy()
    assert t.data_ptr() == a.ctypes.data
    a[:] = 3
    del a
    t += 1
    u = t * 2
    t += 1
    assert u[0].item() == 8 and t[0].item() == 5
    b = np.ones(5)
    s = forno.from_numpy(b)
    del b
    s += 1
    r = s + 1
    s += 1
    assert r.tolist() == [3] * 5 and s.tolist() == [3] * 5


def test_arrays_keep_memory_alive():
    a = (forno.ones(1 << 18) + 1).numpy()
    for _ in range(3): forno.zeros(1 << 18).tolist()
    assert (a == 2).all()
    t = forno.from_numpy(np.full(1 << 18, 3.0))
    assert t.sum().item() == 3 * (1 << 18)


def test_parameters_written_from_outside():
    p = forno.nn.Parameter(forno.zeros(3))
    a = p.detach().numpy()
    for k in range(3):
        a[:] = k
        p.grad = None
        (p * p).sum().backward()
        assert p.grad.tolist() == [2 * k] * 3
        with forno.no_grad(): p -= p.grad
        assert a.tolist() == [-k] * 3


def test_two_tensors_on_one_array():
    a = np.zeros(6, "f4")
    s, t = forno.from_numpy(a), forno.from_numpy(a[2:])
    s += 1
    t += 1
    s.mul_(3)
    assert a.tolist() == [3, 3, 6, 6, 6, 6] and s.tolist() == a.tolist() and t.tolist() == [6] * 4


@pytest.mark.parametrize("make", [lambda a: a[::2], lambda a: a.T, lambda a: a[:, 1:3], lambda a: np.broadcast_to(a[:1], a.shape).copy()[::2], lambda a: a[0:0]])
def test_odd_arrays(make):
    def f(lib):
        a = make(np.arange(20.0).reshape(4, 5))
        t = lib.from_numpy(a)
        t.add_(1)
        if a.size: a[0] = 9
        return t, t.stride(), t.sum(), a.tolist()
    alike(f)


def test_refusals():
    for bad in (np.ones(3)[::-1], np.array(["a"]), np.ones(2, ">f4"), [1]):
        with pytest.raises((TypeError, ValueError)): forno.from_numpy(bad)
    with pytest.raises(RuntimeError): forno.ones(2, requires_grad=True).numpy()
    with pytest.raises(TypeError): forno.ones(2, dtype=forno.bfloat16).numpy()


def test_dlpack_shares():
    t = forno.arange(4.0)
    a = np.from_dlpack(t)
    t += 1
    assert a.tolist() == [1, 2, 3, 4]
    u = forno.utils.dlpack.from_dlpack(torch.ones(3)) if hasattr(forno.utils, "dlpack") else forno.from_dlpack(torch.ones(3))
    assert (u + 1).tolist() == [2, 2, 2]


def test_gradients_can_be_shared():
    w = forno.ones(3, requires_grad=True)
    (w * 2).sum().backward()
    g = w.grad.numpy()
    flush()
    (w * 2).sum().backward()
    assert g.tolist() == [4] * 3 and w.grad.tolist() == [4] * 3
    w.grad.zero_()
    assert g.tolist() == [0] * 3
