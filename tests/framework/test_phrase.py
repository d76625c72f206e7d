"""Remembered calls: the second and later runs of a program must give what the first gave, and anything that differs must be seen."""
import warnings

import numpy as np
import pytest
import torch

import forno
from forno.framework.engine import flush
from forno.graph.line import LOCAL, drop_trie

CALLS = {
    "one tensor": "m.softmax(x, 1)", "keyword": "x.sum(dim=1, keepdim=True)", "scalars": "m.clamp(x, -0.5, 0.25)", "two tensors": "m.nn.functional.linear(x, y)",
    "the same twice": "m.nn.functional.linear(x, x)", "only its shape": "x[0].expand_as(y)", "sequence": "m.cat([x, y, x], 1)", "nested": "m.stack((x, y)).transpose(0, 2)",
    "view": "x.view(-1)", "view of a view": "x.t()[1:, ::2]", "views": "m.stack(x.split(2, 1))", "unbind": "x.unbind(1)[2]", "itself": "x.contiguous() + 1",
    "permuted": "(x.t() * 2).sum(0)", "named": "x.max(1).values", "permuted result": "m.einsum('ij,kj->ik', x, y)", "slices": "x[None, 1:3, ..., 2]", "tensor index": "x[i]",
    "written inside": "m.index_put(x, (i,), y[0])", "pad": "m.nn.functional.pad(x, (1, 2), value=3.0)", "reflect": "m.nn.functional.pad(x[None], (1, 2), 'reflect')",
    "loss": "m.nn.functional.cross_entropy(x, i)", "norm": "m.nn.functional.layer_norm(x, (6,), y[0], y[1])", "text": "m.nn.functional.gelu(x, approximate='tanh')",
    "fresh part": "m.nn.functional.pad(x, (1, 1))[:, 1:3]", "dtype": "x.to(m.float64)", "half": "m.matmul(x.bfloat16(), y.bfloat16().t()).float()", "interpolate": "m.nn.functional.interpolate(x[None, None], scale_factor=2, mode='bilinear')",
}


def given(m, seed):
    r = np.random.default_rng(seed)
    return dict(m=m, x=m.tensor(r.standard_normal((4, 6)).astype("f")), y=m.tensor(r.standard_normal((4, 6)).astype("f")), i=m.tensor(r.integers(0, 4, 4)))


@pytest.fixture
def hits():
    """How many calls were said again, in a program that no other test began."""
    flush()
    drop_trie()
    LOCAL.run.open(LOCAL.run.grad, LOCAL.run.inference)
    stats = LOCAL.run.stats
    before = stats.said
    return lambda: stats.said - before


def state(t): return tuple(t.shape), t.stride(), t.storage_offset(), t.requires_grad, t.dtype.itemsize


def agree(ours, theirs):
    assert state(ours) == state(theirs)
    np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=2e-5, atol=2e-6)


@pytest.mark.parametrize("grad", (False, True))
@pytest.mark.parametrize("name", CALLS)
def test_said_again(name, grad, hits):
    for seed in range(5):
        results = []
        for m in (forno, torch):
            names = given(m, seed)
            if grad: names["x"].requires_grad_(), names["y"].requires_grad_()
            out = eval(CALLS[name], names)
            if grad: (out * out).sum().backward()
            results.append((out, names["x"].grad, names["y"].grad))
        agree(results[0][0], results[1][0])
        for a, b in zip(results[0][1:], results[1][1:]):
            assert (a is None) is (b is None)
            if b is not None: np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=2e-5, atol=2e-6)
        flush()
    assert hits() > 0


@pytest.mark.parametrize("first,later", [
    ("x.sum(0)", "x.sum(1)"), ("m.clamp(x, 0.0)", "m.clamp(x, -0.0)"), ("x.to(m.float64)", "x.to(m.float16)"), ("m.cat([x, y])", "m.cat([x, x])"), ("m.cat([x, y])", "m.cat([x, y, y])"),
    ("x.sum(0, True)", "x.sum(0, False)"), ("x.clamp(1, 2)", "x.clamp(True, 2)"), ("x.clamp(min=0)", "x.clamp(max=0)"), ("m.nn.functional.linear(x, y)", "m.nn.functional.linear(x, y[:2])"),
    ("m.softmax(x, 1)", "m.softmax(x.double(), 1)"), ("x.view(-1)", "x.view(2, 12)"), ("x[1:3]", "x[1:4]"), ("x[1]", "x[2]"), ("x[:, 1]", "x[1, :]"),
    ("m.where(x > 0, x, y)", "m.where(x > 0, y, x)"), ("x.t().reshape(-1)", "x.reshape(-1)"), ("m.flip(x, (0,))", "m.flip(x, (1,))"), ("m.flip(x, (0,))", "m.flip(x, [0])"),
    ("x.permute(0, 1)", "x.permute(1, 0)"), ("m.full_like(x, 2)", "m.full_like(x, 3)"), ("m.nn.functional.pad(x, (1, 1))", "m.nn.functional.pad(x, (1, 2))"),
])
def test_other_arguments(first, later):
    for seed, text in enumerate([first] * 4 + [later] * 4 + [first, later]):
        ours, theirs = (eval(text, given(m, seed)) for m in (forno, torch))
        agree(ours, theirs)
        assert np.signbit(ours.numpy()).tolist() == np.signbit(theirs.numpy()).tolist()
        flush()


def test_the_same_objects_as_arguments(hits):
    """Sequences that are the very same objects aren't looked into, unless somebody may have changed them, or they move tensors to other places."""
    def step(m, strides, pads, k):
        names = given(m, k)
        x, w = names["x"].view(1, 1, 4, 6), names["y"][:, :4].reshape(1, 1, 4, 4)
        f = m.nn.functional
        return f.conv2d(f.pad(x, pads), w, None, strides[k % 3], (1, 1)), m.cat([x, x], 0), m.where(x > 0, m.flip(x, [0, k % 2 + 2]), x)
    pads = [1, 1, 1, 1]
    strides = (1, 1), (2, 1), tuple(pads[:2])  # equal tuples that aren't the same
    for k in range(16):
        pads[0] = k // 5
        for mine, other in zip(*(step(m, strides, pads, k) for m in (forno, torch))): agree(mine, other)
        flush()
    assert hits() > 0


def test_results_share_memory_with_arguments(hits):
    for seed in range(6):
        rows = []
        for m in (forno, torch):
            x = given(m, seed)["x"]
            v, (a, b) = x.view(6, 4), x.split(3, 1)
            v.mul_(2)
            b[0] = 7
            a.t()[1, :2].add_(v[0, 0])
            rows.append((x, v, a, b))
        for mine, other in zip(*rows): agree(mine, other)
        assert [t._version for t in rows[0]] == [t._version for t in rows[1]]
        flush()
    assert hits() > 0


def test_modes_and_leaves(hits):
    """The same call under other gradient modes, on leaves and on what was computed."""
    for seed in range(8):
        got = []
        for m in (forno, torch):
            x = given(m, seed)["x"]
            x.requires_grad_(seed % 2 == 1)
            with m.set_grad_enabled(seed < 6): y = m.softmax(x, 1)
            with m.no_grad(): z = m.softmax(y, 1)
            w = m.softmax(y.detach() if seed % 3 else y, 1)
            got.append((x, y, z, w))
        for a, b in zip(*got): agree(a, b)
        flush()
    assert hits() > 0


def test_memory_that_others_write():
    """An argument's memory may be written by NumPy after the call, and before the values are needed."""
    for seed in range(6):
        a = np.random.default_rng(seed).standard_normal((3, 4)).astype("f")
        x = forno.from_numpy(a)
        y, before = forno.softmax(x, 1), a.copy()
        a[...] = 0
        np.testing.assert_allclose(y.numpy(), torch.softmax(torch.from_numpy(before), 1).numpy(), rtol=1e-6)
        flush()


def test_values_are_read_each_time():
    """A function that looks at values is not remembered, one that draws numbers neither."""
    for k in range(6):
        x = forno.tensor([0.0, 1.0, float(k % 2)])
        assert x.nonzero().tolist() == torch.tensor(x.tolist()).nonzero().tolist()
        assert x.repeat_interleave(forno.tensor([1, k, 2])).numel() == 3 + k
        assert forno.equal(x, forno.tensor([0.0, 1.0, 1.0])) is bool(k % 2)
        flush()
    draws = set()
    for _ in range(6):
        draws.add(tuple(forno.nn.functional.dropout(forno.ones(32), 0.5).tolist()))
        flush()
    assert len(draws) == 6


def test_written_arguments_are_written_each_time():
    for _ in range(6):
        mean, var = forno.zeros(3), forno.ones(3)
        forno.nn.functional.batch_norm(forno.arange(12.0).reshape(4, 3), mean, var, training=True)
        assert mean.tolist() == pytest.approx([0.45, 0.55, 0.65]) and mean._version > 0
        y = forno.nn.functional.relu(x := forno.tensor([-1.0, 2.0]), inplace=True)
        assert y is x and x.tolist() == [0.0, 2.0] and x._version == 1
        flush()


def test_warnings_come_each_time():
    for _ in range(5):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            forno.nn.functional.mse_loss(forno.ones(3, 1), forno.ones(3))
        assert len(seen) == 1 and seen[0].filename == __file__
        flush()


def test_changing_arguments_are_left_alone():
    """After a few phrases at one place the function simply runs."""
    x = forno.ones(40, 3)
    for k in range(30):
        for _ in range(2):
            assert x.narrow(0, k, 2).sum().item() == 6
            flush()


def test_out_and_errors():
    for _ in range(5):
        x, out = forno.arange(6.0).reshape(2, 3), forno.empty(3)
        assert forno.sum(x, 0, out=out) is out and out.tolist() == [3.0, 5.0, 7.0]
        with pytest.raises(IndexError): x.sum(2)
        with pytest.raises(RuntimeError): x.view(4)
        flush()


def test_an_interrupt_leaves_the_window_whole():
    """All lines of a call or none."""
    x = forno.ones(3)

    class Struck(list):
        struck = False

        def append(self, n):
            if len(self) == 2 and not Struck.struck:
                Struck.struck = True
                raise KeyboardInterrupt
            super().append(n)

    for k in range(5):
        flush()
        if k == 4: LOCAL.run.nodes = Struck()
        if k < 4: forno.nn.functional.softplus(forno.softmax(x, 0))
        else:
            with pytest.raises(KeyboardInterrupt): forno.nn.functional.softplus(forno.softmax(x, 0))
            assert len(LOCAL.run.nodes) == LOCAL.run.cur.nslots
            LOCAL.run.nodes = list(LOCAL.run.nodes)
            np.testing.assert_allclose(forno.nn.functional.softplus(forno.softmax(x, 0)).numpy(), np.log1p(np.exp(1 / 3)).repeat(3), rtol=1e-6)


def test_values_are_checked_each_time():
    """Wrong indices are refused where the call is, whoever made it before with right ones."""
    F, x = forno.nn.functional, forno.ones(4, 3)
    right, wrong = forno.tensor([0, 1, 2, 1]), forno.tensor([0, 1, 3, 1])
    for _ in range(6):
        assert F.cross_entropy(x, right).item() == pytest.approx(1.0986, 1e-4) and F.embedding(right, x).sum().item() == 12 and x.index_select(1, right).sum().item() == 16
        with pytest.raises(IndexError, match="Target 3 is out of bounds"): F.cross_entropy(x, wrong)
        with pytest.raises(IndexError): F.embedding(wrong + 1, x).sum().item()
        with pytest.raises(IndexError): F.embedding(forno.tensor([4]), x)
        with pytest.raises(RuntimeError, match="id=3"): x.index_select(1, wrong)
        flush()


def test_values_that_others_write_are_checked_again():
    a = np.array([0, 1, 2])
    x, i = forno.ones(4, 3), forno.from_numpy(a)
    for _ in range(4):
        a[:] = [0, 1, 2]
        assert x.index_select(1, i).sum().item() == 12
        a[1] = 3
        with pytest.raises(RuntimeError, match="id=3"): x.index_select(1, i)
        flush()
    a[:] = [0, 1, 2]
    x.index_select(1, i).sum().item()
    a[1] = 3
    del a
    with pytest.raises(RuntimeError, match="id=3"): x.index_select(1, i)
