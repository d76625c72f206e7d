"""First and second derivatives of indexing and scanning rows through the framework, against torch."""
import numpy as np
import pytest
import torch

from forno.dnn import gather as g, scan as s, sort as so
from forno.framework import api

I = torch.tensor([0, 3, 3, -1])
J = torch.tensor([0, 3, 3, 1])
G = torch.tensor([[0, 3, 1], [2, 3, 1], [0, 0, 1]])
P = torch.tensor([1, 3, 0])
R = torch.tensor([1, 0, 1, 2])


def ints(t): return api.tensor(t.numpy())


def zeros_in(x):
    x[0, 1] = x[2, 1] = x[1, 3] = 0
    return x


CASES = {
    "index": (lambda x: x.row(g.index, ints(I), attr=(0,)), lambda x: x[I], [(4, 5)]),
    "index two": (lambda x: x.row(g.index, ints(I), ints(R), attr=(0, 2)), lambda x: x[I, :, R], [(4, 5, 3)]),
    "index_put set": (lambda x, v: x.row(g.index_put, ints(P), v, attr=((0,), "set", True)), lambda x, v: x.index_put((P,), v), [(4, 5), (3, 5)]),
    "index_put add": (lambda x, v: x.row(g.index_put, ints(I), v, attr=((0,), "sum", True)), lambda x, v: x.index_put((I,), v, accumulate=True), [(4, 5), (5,)]),
    "gather": (lambda x: x.row(g.gather, ints(G), attr=0), lambda x: x.gather(0, G), [(4, 5)]),
    "scatter": (lambda x, v: x.row(g.scatter, ints(R[:, None]), v, attr=(1, "sum", True)), lambda x, v: x.scatter_add(1, R[:, None], v), [(4, 5), (4, 1)]),
    "scatter set": (lambda x, v: x.row(g.scatter, ints(R[:, None]), v, attr=(1, "set", True)), lambda x, v: x.scatter(1, R[:, None], v), [(4, 5), (4, 1)]),
    "index_select": (lambda x: x.row(g.index_select, ints(J), attr=1), lambda x: x.index_select(1, J), [(4, 5)]),
    "index_add": (lambda x, v: x.row(g.index_write, ints(J), v, attr=(1, "sum", True)), lambda x, v: x.index_add(1, J, v), [(4, 5), (4, 4)]),
    "take": (lambda x: x.row(g.take, ints(G), attr=None), lambda x: x.take(G), [(4, 5)]),
    "embedding": (lambda x: x.row(g.embedding, ints(G), attr=(None, False)), lambda x: torch.nn.functional.embedding(G, x), [(4, 5)]),
    "embedding padding": (lambda x: x.row(g.embedding, ints(G), attr=(3, False)), lambda x: torch.nn.functional.embedding(G, x, padding_idx=3), [(4, 5)]),
    "embedding scaled": (lambda x: x.row(g.embedding, ints(G), attr=(1, True)), lambda x: torch.nn.functional.embedding(G, x, padding_idx=1, scale_grad_by_freq=True), [(4, 5)]),
    "cumsum": (lambda x: x.row(s.cumsum, attr=(1, False)), lambda x: x.cumsum(1), [(4, 5)]),
    "cumprod": (lambda x: x.row(s.cumprod, attr=(0, False)), lambda x: x.cumprod(0), [(4, 5)]),
    "cumprod zeros": (lambda x: x.row(s.cumprod, attr=(0, False)), lambda x: x.cumprod(0), [zeros_in]),
    "logcumsumexp": (lambda x: x.row(s.logcumsumexp, attr=(1, False)), lambda x: x.logcumsumexp(1), [(4, 5)]),
    "cummax": (lambda x: x.row(g.gather, x.row(s.cummax, attr=(1, False)), attr=1), lambda x: x.cummax(1)[0], [(4, 5)]),
    "sort": (lambda x: x.row(g.gather, x.row(so.argsort, attr=(1, True, True)), attr=1), lambda x: x.sort(1, True)[0], [(4, 5)]),
}
for mode in ("sum", "prod", "amax", "amin", "mean"):
    for include in (True, False):
        row = (g.scatter_mean, (1, include)) if mode == "mean" else (g.scatter_reduce, (1, mode, include))
        CASES[f"scatter {mode} {include}"] = (lambda x, v, row=row: x.row(row[0], ints(G), v, attr=row[1]),
                                              lambda x, v, mode=mode, include=include: x.scatter_reduce(1, G, v, mode, include_self=include), [(3, 5), (3, 3)])
        row = (g.index_mean, (0, include)) if mode == "mean" else (g.index_reduce, (0, mode, include))
        if mode != "sum": CASES[f"index {mode} {include}"] = (lambda x, v, row=row: x.row(row[0], ints(R), v, attr=row[1]),
                                                             lambda x, v, mode=mode, include=include: x.index_reduce(0, R, v, mode, include_self=include), [(4, 5), (4, 5)])


@pytest.mark.filterwarnings("ignore:.*beta")
@pytest.mark.parametrize("name", CASES)
def test_gradients(name):
    ours, theirs, shapes = CASES[name]
    torch.manual_seed(0)
    data = [sh(torch.randn(4, 5).double()) if callable(sh) else torch.randn(sh).double() for sh in shapes]
    xs = [api.tensor(d.numpy()).requires_grad_(True) for d in data]
    ts = [d.clone().requires_grad_(True) for d in data]
    y, z = ours(*xs), theirs(*ts)
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-12)
    w = torch.randn(z.shape).double()
    gx, gt = api.autograd.grad((y * ints(w)).sum(), xs, create_graph=True), torch.autograd.grad((z * w).sum(), ts, create_graph=True)
    for a, b in zip(gx, gt): np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-10, atol=1e-12)
    if not any(b.requires_grad for b in gt): return
    sum((a * a * a).sum() for a in gx).backward()
    sum((b * b * b).sum() for b in gt).backward()
    for a, b in zip(xs, ts):
        want = torch.zeros_like(b) if b.grad is None else b.grad
        got = np.zeros(b.shape) if a.grad is None else a.grad.numpy()
        np.testing.assert_allclose(got, want.numpy(), rtol=1e-9, atol=1e-10)
