"""copy, deepcopy and pickle against PyTorch's: what is shared, what is kept, what is refused."""
import copy
import pickle

import numpy as np
import pytest
import torch

import forno

LIBS = (torch, forno)


class Marked(forno.Tensor): pass


def look(t): return t.detach().double().tolist(), tuple(t.shape), tuple(t.stride()), str(t.dtype), t.requires_grad, t.is_leaf


def makers(lib):
    yield lib.arange(6.0).reshape(2, 3)
    yield lib.arange(6.0).reshape(2, 3).t()
    yield lib.arange(24.0).reshape(1, 2, 3, 4).permute(0, 2, 3, 1)
    yield lib.tensor(2.5, requires_grad=True)
    yield lib.zeros(0, 3)
    for name in ("bool", "int8", "uint8", "int64", "float16", "bfloat16", "float64"): yield lib.tensor([0, 1, 2]).to(getattr(lib, name))
    yield lib.ones(3, requires_grad=True).detach()


@pytest.mark.parametrize("way", [copy.deepcopy, copy.copy, *(lambda t, p=p: pickle.loads(pickle.dumps(t, p)) for p in range(2, 6))])
def test_values_and_layout_survive(way):
    for ours, theirs in zip(makers(forno), makers(torch), strict=True): assert look(way(ours)) == look(way(theirs))


@pytest.mark.parametrize("lib", LIBS)
def test_deepcopy_keeps_sharing(lib):
    x = lib.arange(6.0).reshape(2, 3)
    a, row, column, again, cut = copy.deepcopy((x, x[0], x[:, 1], x, x.detach()))
    a[0, 1] = 9
    assert row.tolist() == [0, 9, 2] and column.tolist() == [9, 4] and again is a and cut.tolist() == a.tolist() and x.tolist() == [[0, 1, 2], [3, 4, 5]]
    row += 1
    assert a.tolist() == [[1, 10, 3], [3, 4, 5]]
    alone = copy.deepcopy(x[1])
    x.zero_()
    assert alone.tolist() == [3, 4, 5]


@pytest.mark.parametrize("lib", LIBS)
def test_deepcopy_of_leaves(lib):
    w = lib.ones(2, requires_grad=True)
    (w * 3).sum().backward()
    w.note = ["kept"]
    c = copy.deepcopy(w)
    assert look(c) == look(w) and c.grad.tolist() == [3, 3] and c.grad is not w.grad and c.note == ["kept"] and c.note is not w.note
    with lib.no_grad(): c += 1
    assert w.tolist() == [1, 1]
    (c * c).sum().backward()
    assert c.grad.tolist() == [7, 7] and w.grad.tolist() == [3, 3]
    with pytest.raises(RuntimeError, match="graph leaves"): copy.deepcopy(w * 2)


@pytest.mark.parametrize("lib", LIBS)
def test_leaf_and_its_view_in_one_deepcopy(lib):
    w = lib.ones(3, requires_grad=True)
    a, b = copy.deepcopy((w, w.detach()[1:]))
    b += 1
    assert a.tolist() == [1, 2, 2] and a.requires_grad and a.is_leaf and not b.requires_grad
    (a * a).sum().backward()
    assert a.grad.tolist() == [2, 4, 4]


@pytest.mark.parametrize("lib", LIBS)
def test_copy_shares(lib):
    x = lib.ones(2)
    x.note = 1
    y = copy.copy(x)
    y += 1
    assert x.tolist() == [2, 2] and y.note == 1
    assert copy.copy(x.requires_grad_()).is_leaf and copy.copy(x * 2).requires_grad


@pytest.mark.parametrize("lib", LIBS)
def test_pickle_is_by_value(lib):
    x = lib.arange(4.0)
    x.note = "n"
    a, b, again = pickle.loads(pickle.dumps((x, x[:2], x)))
    a[0] = 9
    assert b[0].item() == 0 and again is a and a.note == "n"
    w = lib.ones(2, requires_grad=True)
    w.grad = lib.ones(2)
    back = pickle.loads(pickle.dumps(w))
    assert back.is_leaf and back.requires_grad and back.grad is None
    assert pickle.loads(pickle.dumps(w * 2)).is_leaf


def test_buffers_beside_the_pickle():
    x, beside = forno.arange(1000.0), []
    small = pickle.dumps(x, 5, buffer_callback=beside.append)
    assert len(small) < 500 and len(beside) == 1
    x.zero_()
    assert pickle.loads(small, buffers=beside).tolist() == list(range(1000))


@pytest.mark.parametrize("lib", LIBS)
def test_parameters_and_modules(lib):
    p = lib.nn.Parameter(lib.ones(2))
    p.note = 3
    for way in (pickle.dumps, None):
        q = copy.copy(p) if way is None else pickle.loads(way(p))
        assert type(q) is lib.nn.Parameter and q.requires_grad and q.is_leaf and q.note == 3
    m = lib.nn.Sequential(lib.nn.Linear(2, 3), lib.nn.BatchNorm1d(3))
    m[0].weight.grad = lib.ones(3, 2)
    for n in (copy.deepcopy(m), pickle.loads(pickle.dumps(m))):
        assert all(a.tolist() == b.tolist() and a is not b for a, b in zip(m.state_dict().values(), n.state_dict().values()))
        before = m[0].weight.tolist()
        with lib.no_grad(): n[0].weight.zero_()
        assert m[0].weight.tolist() == before
    tied = lib.nn.ModuleList([lib.nn.Linear(2, 2), lib.nn.Linear(2, 2)])
    tied[1].weight = tied[0].weight
    for n in (copy.deepcopy(tied), pickle.loads(pickle.dumps(tied))): assert n[0].weight is n[1].weight


def test_subclasses_come_back_as_themselves():
    s = forno.ones(2).as_subclass(Marked)
    s.note = {"a": 1}
    for t in (pickle.loads(pickle.dumps(s)), copy.deepcopy(s), copy.copy(s)): assert type(t) is Marked and t.tolist() == [1, 1] and t.note == {"a": 1}


def test_dtypes_devices_sizes_travel():
    for x in (forno.float32, forno.device("cpu"), forno.Size([1, 2]), forno.strided, forno.channels_last):
        for y in (pickle.loads(pickle.dumps(x)), copy.deepcopy(x)): assert y == x and type(y) is type(x)
    assert pickle.loads(pickle.dumps(forno.bfloat16)) is forno.bfloat16


def test_random_views_in_one_deepcopy():
    rng = np.random.default_rng(3)
    for _ in range(20):
        steps = [(int(rng.integers(0, 4)), int(rng.integers(1, 3))) for _ in range(4)]

        def build(lib, steps=steps):
            x = lib.arange(24.0).reshape(4, 6)
            return [x, *(x[i:, ::k] for i, k in steps), x.t(), x.reshape(-1)[3:9]]
        ours, theirs = copy.deepcopy(build(forno)), copy.deepcopy(build(torch))
        for k in range(len(ours)):
            for family in (ours, theirs): family[k].mul_(2).add_(k)
            assert [t.tolist() for t in ours] == [t.tolist() for t in theirs]


def test_views_of_a_part_that_is_a_leaf():
    """A part of NumPy's memory as a leaf: views of it lead to it."""
    outside = np.arange(12, dtype=np.float32)
    x = forno.from_numpy(outside)[4:].detach().requires_grad_()
    (x.view(2, 4)[:, 1:] * 2).sum().backward()
    assert x.grad.tolist() == [0, 2, 2, 2] * 2
    assert x[None].requires_grad and x.split(2)[1].requires_grad and x.reshape(4, 2).t().requires_grad


@pytest.mark.parametrize("size", [10, 100000])
@pytest.mark.parametrize("make", [lambda x: x.clone(), lambda x: x[::2].clone(), lambda x: x.reshape(2, -1).t().contiguous(), lambda x: x[1:].clone()[2:], lambda x: x.reshape(2, -1).t().clone()])
def test_a_copy_is_no_part_of_what_numpy_sees(make, size):
    outside = np.ones(size, np.float32)
    c = make(forno.from_numpy(outside))
    assert c.sum().item() == c.numel()
    outside[:] = 5
    assert c.sum().item() == c.numel()
    c.mul_(3)
    assert outside[0] == 5 and c.reshape(-1)[0].item() == 3
