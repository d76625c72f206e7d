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
