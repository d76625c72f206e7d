"""Random numbers fill a big tensor where it lies, so that an initialized model takes its weights' memory once; whoever else wants the old values keeps them."""
from __future__ import annotations

import pytest

import forno as torch
from forno.framework.data import place, realize


def big(): return torch.empty(512, 1024)            # 2 MiB


def test_a_big_fill_takes_the_memory_that_the_tensor_has():
    for t in (big(), torch.nn.Parameter(big()), torch.nn.Linear(1024, 512).weight):
        before = place(realize(t))[0].address
        with torch.no_grad(): t.normal_()
        assert place(realize(t))[0].address == before


def by_detach(t): return t.detach()
def by_view(t): return t[3:5]
def by_copy(t): return t.clone()
def by_value(t): return t * 1


@pytest.mark.parametrize("hold", (by_copy, by_value))
def test_a_big_fill_leaves_values_that_others_have(hold):
    t = torch.ones(512, 1024)
    other = hold(t)
    t.uniform_(5, 6)
    assert other.min().item() == other.max().item() == 1 and 5 <= t.min().item() <= t.max().item() <= 6


@pytest.mark.parametrize("share", (by_detach, by_view))
def test_a_big_fill_is_seen_through_shared_memory(share):
    t = torch.ones(512, 1024)
    other = share(t)
    t.uniform_(5, 6)
    assert (other == share(t)).all().item() and 5 <= other.min().item()


def test_a_big_fill_leaves_what_backward_keeps():
    t, w = torch.ones(512, 1024), torch.ones(1, requires_grad=True)
    y = (t * w).sum()
    y.item()
    t.normal_()
    y.backward()
    assert w.grad.item() == 512 * 1024
