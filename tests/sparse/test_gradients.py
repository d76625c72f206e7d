"""Gradients through sparse tensors, sparse gradients, and optimizers on them, as torch has them."""
import numpy as np
import pytest
import torch

import forno

from .compare import both, same

I, V, T = [[0, 1, 1], [2, 0, 2]], [3.0, 4.0, 5.0], ([[1, 0, 1, 1], [2, 2, 0, 2]], [1.0, 2.0, 3.0, 4.0])


def x(t): return t.sparse_coo_tensor(t.tensor(I), t.tensor(V), (2, 3), is_coalesced=True).requires_grad_()
def y(t): return t.sparse_coo_tensor(t.tensor([[0, 0, 1], [0, 2, 1]]), t.tensor([1.0, -2.0, 0.5]), (2, 3), is_coalesced=True).requires_grad_()
def d(t): return t.sparse_coo_tensor(t.tensor(T[0]), t.tensor(T[1]), (2, 3), requires_grad=True)
def c(t): return t.sparse_csr_tensor(t.tensor([0, 1, 3]), t.tensor([2, 0, 2]), t.tensor(V), (2, 3), requires_grad=True)
def m(t, *shape): return (t.arange(float(np.prod(shape))).reshape(*shape) / 5 - 1).requires_grad_()


def run(make, *shapes):
    """Makes leaves, computes f, and returns the result with all leaves' gradients."""
    def decorate(f):
        def program(t):
            leaves = [k(t) for k in make] + [m(t, *s) for s in shapes]
            out = f(t, *leaves)
            dense = out.to_dense() if out.layout is not t.strided else out
            (dense * (t.arange(float(dense.numel())).reshape(dense.shape) + 1)).sum().backward()
            there = [t.ones(()) if leaf.layout is t.strided else (t.zeros_like(leaf.detach()).to_dense() + (leaf.detach().to_dense() != 0)) for leaf in leaves]
            return [out.detach(), *[leaf.grad.to_dense() * mask for leaf, mask in zip(leaves, there)]]
        return program
    return decorate


PROGRAMS = dict(
    to_dense=run([x])(lambda t, a: a.to_dense()), twice_to_dense=run([d])(lambda t, a: a.to_dense()), csr_to_dense=run([c])(lambda t, a: a.to_dense()),
    mm=run([x], (3, 2))(lambda t, a, b: a @ b), twice_mm=run([d], (3, 2))(lambda t, a, b: t.sparse.mm(a, b)), csr_mm=run([c], (3, 2))(lambda t, a, b: a @ b),
    addmm=run([x], (2, 2), (3, 2))(lambda t, a, b, e: t.sparse.addmm(b, a, e, beta=2, alpha=3)), mv=run([x], (3,))(lambda t, a, b: t.mv(a, b)), dense_mm=run([x], (4, 2))(lambda t, a, b: b @ a),
    mm_sparse=run([x, y])(lambda t, a, b: t.sparse.mm(a, b.t())), coalesce=run([d])(lambda t, a: a.coalesce()), values=run([x])(lambda t, a: a.values()), coalesced_values=run([d])(lambda t, a: a.coalesce().values()),
    times=run([x])(lambda t, a: a * 2), times_dense=run([x], (2, 3))(lambda t, a, b: a * b), times_sparse=run([x, y])(lambda t, a, b: a * b), plus=run([x, y])(lambda t, a, b: a + b),
    plus_scaled=run([x, y])(lambda t, a, b: t.add(a, b, alpha=3)), dense_plus=run([x], (2, 3))(lambda t, a, b: b + a), sums=run([x])(lambda t, a: t.sparse.sum(a)), sum_rows=run([x])(lambda t, a: t.sparse.sum(a, 0)),
    negative=run([x])(lambda t, a: -a), tanh=run([x])(lambda t, a: a.tanh()), powers=run([x])(lambda t, a: a ** 2), softmax=run([x])(lambda t, a: t.sparse.softmax(a, 1)), log_softmax=run([x])(lambda t, a: t.sparse.log_softmax(a, 1)),
    transposed=run([x], (2, 2))(lambda t, a, b: a.t() @ b), selected=run([x])(lambda t, a: a.index_select(0, t.tensor([1, 0, 1]))), joined=run([x, y])(lambda t, a, b: t.cat([a, b])),
    mask=run([], (2, 3))(lambda t, a: a.sparse_mask(x(t).detach())), from_dense=run([], (2, 3))(lambda t, a: a.to_sparse()), norm=run([x])(lambda t, a: a.norm()),
    sampled=run([c], (2, 4), (4, 3))(lambda t, a, b, e: t.sparse.sampled_addmm(a, b, e)), to_csr=run([x])(lambda t, a: a.to_sparse_csr()), double=run([x])(lambda t, a: a.double()),
)


@pytest.mark.parametrize("name", PROGRAMS)
def test_gradients(name):
    """Equal on the places of the leaf. (PyTorch's `a @ b` gives a sparse leaf a dense gradient, torch.sparse.mm gives it one on its places, as forno always does.)"""
    try: wanted = PROGRAMS[name](torch)
    except Exception as error: pytest.skip(f"torch has no gradient here: {error}")
    found = PROGRAMS[name](forno)
    for a, b in zip(found, wanted):
        assert (b is None) == (a is None)
        if b is None: continue
        np.testing.assert_allclose(a.to_dense().numpy(), b.to_dense().numpy(), rtol=1e-5, atol=1e-5)


def test_gradient_is_sparse():
    for make in (x, d, c):
        for t in (forno, torch):
            a = make(t)
            assert a.is_leaf and a.grad is None
            t.sparse.mm(a, t.ones(3, 2)).sum().backward()
            assert a.grad.layout is a.layout and tuple(a.grad.shape) == (2, 3) and a.grad.dtype is a.dtype
            t.sparse.mm(a, t.ones(3, 2)).sum().backward()
            assert a.grad.to_dense().tolist() == [[0, 0, 4], [4, 0, 4]]
            a.grad = None
            assert a.grad is None


def test_values_with_history():
    for t in (forno, torch):
        v = t.tensor(V, requires_grad=True)
        a = t.sparse_coo_tensor(t.tensor(I), v * 2, (2, 3))
        assert a.requires_grad and not a.is_leaf and a.grad_fn is not None
        t.sparse.mm(a, t.ones(3, 1)).pow(2).sum().backward()
        assert v.grad.tolist() == [24, 72, 72]


def test_grad_of():
    for t in (forno, torch):
        a, b = x(t), m(t, 3, 2)
        ga, gb = t.autograd.grad(t.sparse.mm(a, b).sum(), [a, b])
        np.testing.assert_allclose(ga.to_dense().numpy(), (t.ones(2, 2) @ b.detach().t() * (a.detach().to_dense() != 0)).numpy(), rtol=1e-5)
        assert ga.is_sparse and a.grad is None and gb.tolist() == [[4, 4], [0, 0], [8, 8]]


def test_second_derivative():
    for t in (forno, torch):
        v = t.tensor(V, requires_grad=True)
        b = m(t, 3, 2)
        out = (t.sparse_coo_tensor(t.tensor(I), v * v, (2, 3)).to_dense() @ b).sum()
        g, = t.autograd.grad(out, v, create_graph=True)
        g.sum().backward()
        np.testing.assert_allclose(v.grad.numpy(), 2 * b.detach().sum(1).numpy()[I[1]], rtol=1e-5)


def test_hooks_and_kept_gradients():
    for t in (forno, torch):
        a, seen = x(t), []
        b = a * 2
        b.retain_grad()
        b.register_hook(lambda g: seen.append(g.to_dense().tolist()))
        t.sparse.mm(b, t.ones(3, 1)).sum().backward()
        assert seen == [[[0, 0, 1], [1, 0, 1]]] and b.grad.is_sparse if t is forno else seen


def test_gradient_that_is_given():
    for t in (forno, torch):
        a = x(t)
        b = a * 2
        b.backward(t.ones(2, 3).sparse_mask(a.detach()))
        assert a.grad.to_dense().tolist() == [[0, 0, 2], [2, 0, 2]]


# ---------------------------------------------------------------- sparse gradients of dense parameters
def table(t, **kw):
    e = t.nn.Embedding(6, 3, sparse=True, **kw)
    with t.no_grad(): e.weight.copy_(t.arange(18.0).reshape(6, 3) / 10)
    return e


def looked_up(**kw):
    def program(t):
        e = table(t, **kw)
        e(t.tensor([[1, 4, 1], [0, 2, 1]])).pow(2).sum().backward()
        return e.weight.grad
    return program


@pytest.mark.parametrize("kw", [{}, dict(padding_idx=1)], ids=str)
def test_embedding(kw): both(looked_up(**kw))


def test_gradients_add_up():
    def program(t):
        e = table(t)
        for i in ([1, 2], [2, 5]): e(t.tensor(i)).sum().backward()
        first = e.weight.grad.coalesce()
        (e(t.tensor([0])).sum() + e(t.tensor([3, 3])).sum()).backward()
        sparse = e.weight.grad.coalesce()
        e.weight.pow(2).sum().backward()
        return [first, sparse, e.weight.grad]
    both(program)


def test_grad_function():
    def program(t):
        e = table(t)
        return list(t.autograd.grad(e(t.tensor([1, 2])).sum(), [e.weight]))
    both(program)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_embedding_bag(mode):
    def program(t):
        e = t.nn.EmbeddingBag(6, 3, mode=mode, sparse=True)
        with t.no_grad(): e.weight.copy_(t.arange(18.0).reshape(6, 3) / 10)
        out = e(t.tensor([1, 4, 1, 0, 2]), t.tensor([0, 2, 2]))
        out.pow(2).sum().backward()
        assert e.weight.grad.is_sparse
        return [out, e.weight.grad.to_dense()]
    both(program)


OPTIMIZERS = dict(sgd=lambda t, p: t.optim.SGD(p, lr=0.1), momentum=lambda t, p: t.optim.SGD(p, lr=0.1, momentum=0.9), adagrad=lambda t, p: t.optim.Adagrad(p, lr=0.1),
                  sparse_adam=lambda t, p: t.optim.SparseAdam(p, lr=0.1), adam=lambda t, p: t.optim.Adam(p, lr=0.1), adamw=lambda t, p: t.optim.AdamW(p, lr=0.1), rmsprop=lambda t, p: t.optim.RMSprop(p, lr=0.1),
                  decay=lambda t, p: t.optim.SGD(p, lr=0.1, weight_decay=0.1), adagrad_decay=lambda t, p: t.optim.Adagrad(p, lr=0.1, weight_decay=0.1), sparse_adam_up=lambda t, p: t.optim.SparseAdam(p, lr=0.1, maximize=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name):
    def program(t):
        e = table(t)
        opt = OPTIMIZERS[name](t, e.parameters())
        losses = []
        for i in ([1, 2, 1], [0, 5, 2], [1, 1, 1], [4, 0, 3]):
            opt.zero_grad()
            loss = (e(t.tensor(i)) - 1).pow(2).sum()
            loss.backward()
            assert e.weight.grad.is_sparse
            opt.step()
            losses.append(loss.detach())
        return [*losses, e.weight.detach()]
    both(program)


@pytest.mark.parametrize("name", "Adam AdamW RMSprop Adadelta Adamax NAdam RAdam ASGD Rprop".split())
def test_refusals(name):
    said = []
    for t in (forno, torch):
        e = table(t)
        e(t.tensor([1])).sum().backward()
        with pytest.raises(RuntimeError) as info: getattr(t.optim, name)(e.parameters(), lr=0.1).step()
        said.append(str(info.value))
    assert said[0] == said[1]


def test_sparse_parameter_learns():
    """A leaf that is sparse itself, trained by SGD."""
    for t in (forno, torch):
        a, losses = x(t), []
        opt = t.optim.SGD([a], lr=0.05)
        for _ in range(5):
            opt.zero_grad()
            loss = (t.sparse.mm(a, t.ones(3, 1)) - 2).pow(2).sum()
            loss.backward()
            opt.step()
            losses.append(loss.item())
        if t is forno: mine = losses
    np.testing.assert_allclose(mine, losses, rtol=1e-5)


def test_in_place_on_a_leaf():
    for t in (forno, torch):
        with pytest.raises(RuntimeError, match="leaf Variable"): x(t).mul_(2)
        a = x(t)
        with t.no_grad(): a.mul_(2)
        assert a.is_leaf and a.requires_grad and a.to_dense().tolist() == [[0, 0, 6], [8, 0, 10]]


def test_zero_grad_keeps_the_tensor(): same(zeroed(forno), zeroed(torch))


def zeroed(t):
    e = table(t)
    e(t.tensor([1, 2])).sum().backward()
    t.optim.SGD(e.parameters(), lr=0.1).zero_grad(set_to_none=False)
    return e.weight.grad
