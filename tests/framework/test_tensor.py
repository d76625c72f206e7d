"""What a tensor is: views, strides, versions, aliasing, in-place writes."""
import copy
import gc
import itertools
import pickle

import numpy as np
import pytest
import torch

import forno
from forno.framework.engine import flush

from .agree import plain, same

flushes = pytest.mark.parametrize("between", [lambda: None, flush], ids=["lazy", "flushed"])


def alike(f):
    a, b = plain(f(torch), torch), plain(f(forno), forno)
    assert same(a, b), f"torch: {a}\nforno: {b}"


def described(t): return tuple(t.shape), t.stride(), t.storage_offset(), t.is_contiguous(), t._version, t


VIEWS = {
    "t": lambda x: x.t(), "permute": lambda x: x.permute(1, 0), "narrow": lambda x: x.narrow(1, 1, 2), "select": lambda x: x.select(0, 1), "slice": lambda x: x[:, ::2],
    "diagonal": lambda x: x.diagonal(), "unfold": lambda x: x.unfold(1, 2, 1), "expand": lambda x: x[:, :1].expand(4, 5), "reshape": lambda x: x.reshape(2, 10),
    "reshape copy": lambda x: x.t().reshape(-1), "view": lambda x: x.view(-1), "flatten": lambda x: x.flatten(), "unsqueeze": lambda x: x.unsqueeze(1),
    "squeeze": lambda x: x[:, :1].squeeze(1), "movedim": lambda x: x.movedim(0, 1), "as_strided": lambda x: x.as_strided((3, 2), (5, 2), 1), "none": lambda x: x[None, ..., None],
    "split": lambda x: x.split(2, 1)[1], "chunk": lambda x: x.chunk(2)[0], "unbind": lambda x: x.unbind(1)[2], "T": lambda x: x.T, "view_as": lambda x: x.view_as(x),
    "expand_as": lambda x: x[0].expand_as(x), "tail": lambda x: x[1:, 1:], "detach": lambda x: x.detach(), "empty": lambda x: x[2:2], "last": lambda x: x[-1, -1],
}


@flushes
@pytest.mark.parametrize("name", VIEWS)
def test_views_share_memory(name, between):
    """Writes are seen both ways, at once, with PyTorch's strides and versions."""
    def f(lib):
        x = lib.arange(20.0).view(4, 5)
        v = VIEWS[name](x)
        between()
        x[1, 1] = -7
        first = described(v)
        if name not in ("expand", "expand_as", "unfold"): v.mul_(2)
        between()
        x += 1
        return first, described(v), described(x)
    alike(f)


@flushes
@pytest.mark.parametrize("names", [p for k, p in enumerate(itertools.product(VIEWS, VIEWS)) if k % 9 == 0])
def test_views_of_views(names, between):
    def f(lib):
        x = lib.arange(20.0).view(4, 5)
        try: v = VIEWS[names[1]](VIEWS[names[0]](x))
        except (RuntimeError, IndexError) as e: return type(e).__name__
        between()
        x.mul_(3)
        return described(v)
    alike(f)


def test_elementwise_results_keep_the_order_of_axes():
    def f(lib):
        x = lib.arange(24.0).view(2, 3, 4).permute(2, 0, 1)
        y = x + 1
        return y.stride(), (x * x.contiguous()).stride(), y.exp().stride(), x.clone().stride(), y.contiguous().stride(), y.reshape(-1), y.sum(1).stride()
    alike(f)


def test_overlapping_views():
    def f(lib):
        x = lib.arange(6.0)
        e, out = lib.ones(1, 3).expand(2, 3), []
        for g in (lambda: e.add_(1), lambda: e.zero_(), lambda: e.fill_(2), lambda: x.unfold(0, 3, 1).sum(), lambda: e.copy_(lib.zeros(2, 3)), lambda: e[0].add_(1)):
            try: out.append(g().clone())
            except RuntimeError as err: out.append(type(err).__name__)
        return out
    alike(f)


# ---------------------------------------------------------------- versions, identity
def test_versions():
    def f(lib):
        x = lib.zeros(4)
        v, d = x[1:], x.detach()
        out = [x._version]
        x += 1
        v.mul_(2)
        d.zero_()
        x[0] = 5
        out += [x._version, v._version, d._version, x.clone()._version]
        with lib.no_grad(): x.add_(1)
        return out + [x._version, x]
    alike(f)


def test_in_place_keeps_identity_and_memory():
    x = forno.zeros(1000)
    p = x.data_ptr()
    y = x
    for _ in range(5):
        x += 1
        x.tolist()
    assert y is x and x.data_ptr() == p and x[0].item() == 5
    v = x[10:]
    assert v.data_ptr() == p + 40
    v.zero_()
    assert v.data_ptr() == x.data_ptr() + 40 and x.sum().item() == 50


@flushes
def test_data_detach_and_no_grad_writes(between):
    def f(lib):
        w = lib.ones(3, requires_grad=True)
        y = w * 2
        between()
        with lib.no_grad(): y.mul_(3)
        y.data.add_(1)
        y.detach()[0] = 100
        between()
        y.sum().backward()
        w.data = lib.full((3,), 9.0)
        return y, w.grad, w, w.is_leaf, y.requires_grad
    alike(f)


@flushes
def test_in_place_through_views_with_history(between):
    def f(lib):
        w = lib.ones(2, 3, requires_grad=True)
        x = w * 2
        row = x[0]
        between()
        row.mul_(3)
        x[:, 1] = lib.tensor([7.0, 8.0])
        between()
        col = x.t()[2]
        col.add_(row[0])
        (x * x).sum().backward()
        return x, row, col, w.grad
    alike(f)


def test_assignment():
    def f(lib):
        x = lib.zeros(3, 4)
        x[1] = 1
        x[:, 2] = lib.arange(3)
        x[0, 1:3] = lib.tensor([5.0])
        x[lib.tensor([2, 0]), lib.tensor([3, 0])] = lib.tensor([8.0, 9.0])
        x[x > 7] = -1
        x[..., -1] += 2
        x[[0, 2]] *= 2
        x[None, 1:2, ::2] = 4.5
        x[lib.tensor([True, False, True]), 0] = 6
        x[2, 2] = lib.tensor(3, dtype=lib.int64)
        x[1, 1] = np.float64(2.5)
        return x
    alike(f)


def test_in_place_promotion_and_broadcast():
    def f(lib):
        out = []
        for g in (lambda: lib.ones(3, dtype=lib.float32).add_(lib.ones(3, dtype=lib.float64)), lambda: lib.ones(3, dtype=lib.int32).mul_(lib.tensor(2)),
                  lambda: lib.ones(3, dtype=lib.int32).add_(0.5), lambda: lib.ones(3, 1).add_(lib.ones(3)), lambda: lib.ones(3, 3).add_(lib.ones(3)),
                  lambda: lib.ones(3, dtype=lib.float16).mul_(lib.ones(3) * 3), lambda: lib.ones(2, dtype=lib.bool).logical_or_(lib.zeros(2, dtype=lib.bool)),
                  lambda: lib.ones(2, dtype=lib.uint8).sub_(2)):
            try: out.append(g())
            except (RuntimeError, TypeError) as e: out.append(type(e).__name__)
        return out
    alike(f)


def test_empty_and_0d():
    def f(lib):
        e, s = lib.zeros(0, 3), lib.tensor(2.0)
        e += 1
        s += 1
        s[...] = s * 2
        e[:, 1] = 5
        return e, s, e.sum(), e.sum(0), e.t().shape, (e @ lib.ones(3, 2)).shape, lib.cat([e, lib.ones(1, 3)]), s.expand(2, 2), s.view(1, 1)
    alike(f)


def test_copies():
    def f(lib):
        w = lib.arange(6.0).view(2, 3)
        v = w.t()
        a, b = copy.copy(v), copy.deepcopy(v)
        c = pickle.loads(pickle.dumps(v))
        w.zero_()
        return a, b, c, b.stride()
    alike(f)


def test_copies_share_what_was_shared():
    x = forno.zeros(4)
    pair = copy.deepcopy({"all": x, "part": x[1:]})
    pair["all"] += 1
    assert pair["part"].tolist() == [1, 1, 1] and x.tolist() == [0] * 4


def test_views_keep_memory_alive_and_nothing_else():
    gc.collect()
    base = forno.ones(1 << 20)
    v = base[5:7]
    del base
    v += 1
    assert v.tolist() == [2, 2]


def test_last_alias_owns_again():
    """After its views died, a tensor is written in place as before."""
    x = forno.zeros(100)
    v = x[3:]
    v += 1
    del v
    p = x.data_ptr()
    for _ in range(3):
        x += 1
        flush()
    assert x.data_ptr() == p and x[50].item() == 4


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", "int8", "uint8", "int16", "int32", "int64", "bool", "complex64", "complex128"])
def test_views_of_every_dtype(dtype):
    def f(lib):
        x = lib.arange(12).to(getattr(lib, dtype)).view(3, 4)
        y = x.t()[1:, ::2]
        y[0] = x[0, 2:4]
        return y, x, y.contiguous(), x[1].expand(2, 4).clone()
    alike(f)
