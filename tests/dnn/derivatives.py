"""One comparison for any row: value, first and second derivatives against PyTorch."""
import torch

from forno.core.op import TABLE

from .duck import Duck, from_torch, grads, to_torch


def compare(name, attr, ins, f, second=True, rtol=1e-9):
    """`ins`: tensors; those that require grad are differentiated. f(*ins) is PyTorch's version."""
    wants = [t for t in ins if t.requires_grad]
    y = f(*ins)
    ducks = [from_torch(t) for t in ins]
    out = Duck.record(TABLE[name], *ducks, attr=attr)
    assert out.dtype.name == str(y.dtype)[6:]
    torch.testing.assert_close(to_torch(out), y.detach(), rtol=rtol, atol=rtol, equal_nan=True)
    if not wants or not y.requires_grad: return
    torch.manual_seed(7)
    cot = torch.randn_like(y).requires_grad_()
    g1 = torch.autograd.grad(y, wants, cot, create_graph=True, allow_unused=True)
    c, want_ducks = from_torch(cot), [d for d, t in zip(ducks, ins) if t.requires_grad]
    h1 = grads([out], [c], want_ducks)
    for a, b in zip(g1, h1):
        if a is not None: torch.testing.assert_close(to_torch(b), a.detach(), rtol=10 * rtol, atol=10 * rtol, equal_nan=True)
    used = [i for i, g in enumerate(g1) if g is not None and g.requires_grad]
    if not used or not second: return
    cots = [torch.randn_like(g1[i]) for i in used]
    g2 = torch.autograd.grad([g1[i] for i in used], [*wants, cot], cots, allow_unused=True)
    h2 = grads([h1[i] for i in used], [from_torch(t) for t in cots], [*want_ducks, c])
    for a, b in zip(g2, h2):
        a = torch.zeros(()) if a is None else a
        b = torch.zeros((), dtype=a.dtype) if b is None else to_torch(b)
        torch.testing.assert_close(*torch.broadcast_tensors(b, a.to(b.dtype)), rtol=100 * rtol, atol=100 * rtol, equal_nan=True)
