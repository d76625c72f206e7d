"""Packed weights are kept with a buffer as long as its values are the same: every way to change them must be noticed."""
from __future__ import annotations

import ctypes

import numpy as np
import pytest
import torch as theirs

import forno as torch
from forno.framework.data import place, realize

F = torch.nn.functional


def layer():
    torch.manual_seed(0)
    conv = torch.nn.Conv2d(5, 20, 3, padding=1)
    return conv, torch.randn(2, 5, 9, 9)


def right(conv, x):
    """Does the layer compute what PyTorch does with the values its weights show?"""
    with torch.no_grad(): got = conv(x).tolist()
    want = theirs.nn.functional.conv2d(*(theirs.tensor(t.tolist()) for t in (x, conv.weight, conv.bias)), padding=1)
    return np.allclose(got, want.numpy(), atol=1e-4)


def kept(t): return place(realize(t))[0].kept


def in_place(w): w.mul_(2)
def element(w): w[3, 2, 1, 1] = 7
def through_a_view(w): w.view(-1)[5:50].add_(1)
def copied(w): w.copy_(torch.ones_like(w))
def data(w): w.data = w.data + 1
def numpy(w): w.detach().numpy()[1] = 4


def address(w):
    ctypes.c_float.from_address(w.data_ptr()).value = 9.0


@pytest.mark.parametrize("change", (in_place, element, through_a_view, copied, data, numpy, address))
def test_changed_weights_are_packed_again(change):
    conv, x = layer()
    for _ in range(4): assert right(conv, x)
    assert [m.nbytes for m in kept(conv.weight).values()], "the third run finds packed weights"
    for _ in range(2):
        with torch.no_grad(): change(conv.weight)
        for _ in range(3): assert right(conv, x)


def test_an_array_that_sees_the_weights_may_write_at_any_time():
    conv, x = layer()
    array = conv.weight.detach().numpy()
    for k in range(5):
        array[0] = k
        assert right(conv, x)
    assert not kept(conv.weight)


def test_memory_whose_address_was_asked_for_is_never_trusted():
    conv, x = layer()
    where = ctypes.c_float.from_address(conv.weight.data_ptr())
    for k in range(5):
        where.value = k
        assert right(conv, x)


def test_nothing_is_kept_in_training():
    conv, x = layer()
    optimizer = torch.optim.SGD(conv.parameters(), 0.1)
    for _ in range(5):
        optimizer.zero_grad()
        loss = conv(x).square().mean()
        loss.backward()
        optimizer.step()
        loss.item()
        assert not any((kept(conv.weight) or {}).values())
    assert right(conv, x)


def test_two_uses_of_one_weight():
    """A convolution and its transpose pack differently; both are kept."""
    w, x = torch.randn(6, 6, 3, 3), torch.randn(1, 6, 8, 8)
    with torch.no_grad():
        got = [F.conv_transpose2d(F.conv2d(F.conv2d(x, w), w), w).tolist() for _ in range(4)]
    a, b = theirs.tensor(x.tolist()), theirs.tensor(w.tolist())
    want = theirs.nn.functional
    want = want.conv_transpose2d(want.conv2d(want.conv2d(a, b), b), b).numpy()
    for y in got: np.testing.assert_allclose(y, want, rtol=1e-3, atol=1e-3)
    assert len([m for m in kept(w).values() if m]) == 2


@pytest.mark.parametrize("shape, channels", (((1, 96, 7, 7), 96), ((2, 40, 14, 14), 48), ((1, 600, 5, 5), 30), ((1, 256, 14, 14), 256)))
@pytest.mark.parametrize("taps, stride", ((3, 1), (1, 1), (3, 2), (4, 2)))
def test_kept_weights_give_the_same_bits(shape, channels, taps, stride):
    torch.manual_seed(0)
    x, w = torch.randn(*shape), torch.randn(channels, shape[1], taps, taps)
    with torch.no_grad(): got = [F.conv2d(x, w, stride=stride, padding=taps // 2).tolist() for _ in range(4)]
    assert any(kept(w).values())
    assert all(y == got[0] for y in got)
