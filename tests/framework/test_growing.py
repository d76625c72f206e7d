"""Texts that are written token by token: keys and values grow, in a cache of fixed size or joined to what there is. Neither may cost a new program per length."""
from __future__ import annotations

import pytest
import torch as theirs

import forno
from forno.framework.data import place, realize
from forno.graph.line import LOCAL

HEADS, SIZE, WIDTH, ROOM = 2, 8, 16, 64


def network(torch, layers=3):
    """(first piece, step): `step(x, how, caches, at)` lets x, (1, T, WIDTH), attend to all that came before."""
    weights = [[torch.tensor(theirs.randn(WIDTH, n, generator=theirs.Generator().manual_seed(7 * k + n)).tolist()) / 4 for n in (3 * WIDTH, WIDTH)] for k in range(layers)]

    def step(x, how, caches, at):
        for (wide, back), cache in zip(weights, caches):
            q, k, v = [t.view(1, x.shape[1], HEADS, SIZE).transpose(1, 2) for t in (x @ wide).split(WIDTH, 2)]       # (1, HEADS, T, SIZE)
            k, v = how(torch, cache, k, v, at)
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
            x = torch.tanh(x + y.transpose(1, 2).reshape(x.shape) @ back)
        return x
    return torch.tensor(theirs.randn(1, 5, WIDTH, generator=theirs.Generator().manual_seed(1)).tolist()), step


def sliced(torch, cache, k, v, at):
    if not cache: cache[:] = torch.zeros(1, HEADS, ROOM, SIZE), torch.zeros(1, HEADS, ROOM, SIZE)
    end = at + k.shape[2]
    cache[0][:, :, at:end] = k
    cache[1][:, :, at:end] = v
    return cache[0][:, :, :end], cache[1][:, :, :end]


def copied(torch, cache, k, v, at):
    if not cache: cache[:] = torch.zeros(1, HEADS, ROOM, SIZE), torch.zeros(1, HEADS, ROOM, SIZE)
    places = torch.arange(at, at + k.shape[2])
    return cache[0].index_copy_(2, places, k)[:, :, :at + k.shape[2]], cache[1].index_copy_(2, places, v)[:, :, :at + k.shape[2]]


def joined(torch, cache, k, v, at):
    cache[:] = (torch.cat([c, new], 2) for c, new in zip(cache, (k, v))) if cache else (k, v)
    return cache


def written(torch, how, count, each=lambda caches: None):
    with torch.no_grad():
        caches = [[] for _ in range(3)]
        x, step = network(torch)
        at, out = x.shape[1], []
        x = step(x, how, caches, 0)[:, -1:]
        for i in range(count):
            x = step(x, how, caches, at + i)
            out.append(x.tolist())
            each(caches)
    return out, caches


@pytest.mark.parametrize("how", (sliced, copied, joined))
def test_numbers_are_pytorchs(how):
    ours, mine = written(forno, how, 24)
    want, his = written(theirs, how, 24)
    theirs.testing.assert_close(theirs.tensor(ours), theirs.tensor(want))
    for a, b in zip(mine, his):
        for x, y in zip(a, b):
            theirs.testing.assert_close(theirs.tensor(x.tolist()), y)
            assert x.stride() == y.stride() and x.is_contiguous() == y.is_contiguous()


@pytest.mark.parametrize("how, most", ((sliced, 12), (joined, 16)))
def test_a_longer_text_is_few_new_lines(how, most):
    """All layers of a step that takes long to plan are the program they were; what sees the length is planned anew, once for all layers."""
    lines = []
    written(forno, how, 30, lambda caches: lines.append(LOCAL.run.stats.lines))
    assert max(b - a for a, b in zip(lines[15:], lines[16:])) <= most


def test_a_slice_is_written_where_the_cache_lies():
    seen = set()
    written(forno, sliced, 24, lambda caches: seen.add(place(realize(caches[2][0]))[0].address))
    assert len(seen) == 1


def test_few_places_split_no_program():
    """A function that writes its results one by one is a program of one window."""
    def f(x):
        y = forno.zeros(6, 4)
        for i in range(6): y[i] = x[i] * 2
        return y.sum()
    x = forno.ones(6, 4)
    for _ in range(3): f(x).item()
    before = LOCAL.run.stats.flushes
    assert f(x).item() == 48
    assert LOCAL.run.stats.flushes == before + 1


def grown(torch, count, dim=1, dtype=None, shape=(2, 9, 4)):
    """A value that was joined `count` times, and how it should look."""
    dtype = dtype or torch.float32
    x = torch.arange(72).reshape(shape).to(dtype)
    for i in range(count): x = torch.cat([x, torch.full([1 if d == dim else n for d, n in enumerate(shape)], i, dtype=dtype) * 1], dim)
    return x


def same(a, b):
    theirs.testing.assert_close(theirs.tensor(a.tolist()), theirs.tensor(b.tolist()))
    assert a.stride() == b.stride() and a.shape == b.shape and a.is_contiguous() == b.is_contiguous()


def buffer(t): return place(realize(t))[0]


@pytest.mark.parametrize("dtype", ("float32", "bfloat16", "int64", "bool", "complex64"))
@pytest.mark.parametrize("dim, shape", ((0, (18, 4)), (1, (2, 9, 4)), (2, (2, 2, 18))))
def test_pieces_along_every_axis(dim, shape, dtype):
    a, b = (grown(t, 40, dim, getattr(t, dtype), shape) for t in (forno, theirs))
    same(a, b)


def test_only_the_piece_is_written():
    x, places = grown(forno, 3), []
    realize(x)
    for i in range(8):
        x = forno.cat([x, forno.ones(2, 1, 4) * i], 1)
        places.append(buffer(x).address)
    assert len(set(places)) == 1, "there is room behind it"


def test_two_texts_that_begin_alike():
    """The room behind a value is given away once."""
    def both(torch):
        x = grown(torch, 4)
        a = torch.cat([x, torch.ones(2, 1, 4) * 5], 1)
        b = torch.cat([x, torch.ones(2, 1, 4) * 6], 1)
        a = torch.cat([a, torch.ones(2, 1, 4) * 7], 1)
        return x, a, b, torch.cat([a, b[:, :2] * 2], 1)
    for mine, his in zip(both(forno), both(theirs)): same(mine, his)


def test_writes_into_a_grown_value_are_its_own():
    def all_of(torch):
        x = grown(torch, 4)
        y = torch.cat([x, torch.ones(2, 1, 4) * 5], 1)
        x[:, 0] = -1
        y[:, -1] = -2
        z = torch.cat([x, torch.ones(2, 1, 4) * 6], 1)
        y.mul_(2)
        return x, y, z, torch.cat([z, torch.ones(2, 1, 4) * 8], 1), torch.cat([y, torch.ones(2, 1, 4) * 9], 1)
    for mine, his in zip(all_of(forno), all_of(theirs)): same(mine, his)


def test_an_array_of_a_grown_value_is_dense():
    x = grown(forno, 4)
    a = x.numpy()
    assert a.flags.c_contiguous and a.shape == (2, 13, 4)
    y = forno.cat([x, forno.ones(2, 1, 4)], 1)
    a[:] = 0
    assert x.sum().item() == 0 and y[:, :9].sum().item() == sum(range(72))
    assert x.view(-1).data_ptr() == x.data_ptr()


def test_gradients_go_through_joins():
    w = forno.ones(2, 1, 4, requires_grad=True)
    x = grown(forno, 3)
    for _ in range(3):
        x = forno.cat([x, w * 2], 1)
        x.sum().item()
    x.sum().backward()
    assert w.grad.tolist() == [[[6.0] * 4]] * 2


def test_errors_are_raised_where_they_are_made():
    x = grown(forno, 4)
    x.sum().item()
    with pytest.raises(RuntimeError, match="Sizes of tensors must match except in dimension 1"): forno.cat([x, forno.ones(3, 1, 4)], 1)
    with pytest.raises(IndexError): forno.cat([x, forno.ones(9, 4).index_select(0, forno.tensor([99])).view(1, 1, 4).expand(2, 1, 4)], 1).tolist()
