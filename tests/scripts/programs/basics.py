"""The sixty-minute tour: tensors, numpy bridges, autograd, printing, saving, indexing idioms, in-place arithmetic, broadcasting, statistics."""
import os
import tempfile

import numpy as np
import torch

torch.manual_seed(2)
x = torch.rand(5, 3)
print(x)
print(x[:, 1], x[1], x.view(15)[:4], x.view(-1, 5).size())
y = torch.ones(5, 3)
y.add_(x)
print(y.t().numpy().shape, torch.add(x, y).mean(), y.mul_(2).sum(dim=0))
a = np.ones(5)
b = torch.from_numpy(a)
np.add(a, 1, out=a)
print(a, b)
b += 1
print(a.tolist(), b.dtype)
t = torch.arange(24).reshape(2, 3, 4)
print(t[..., -1], t[:, [0, 2]].shape, t[t % 2 == 0].tolist(), t.sum((0, 2)), t.float().mean(), t.argmax(), t.max(dim=1))
t[0, :, 1:3] = -1
t[t < 0] *= 5
print(t)
print(torch.tensor([[1, 2], [3, 4]]) @ torch.tensor([[5], [6]]), torch.tensor(3.0).item(), torch.tensor([1e-8, 1., 1e5]), torch.tensor([1.5, float('nan'), float('inf')]))
print(torch.cat([x[:1], y[:1]]), torch.stack([x[0], y[0]], dim=1), torch.hstack((x[0], y[0])).shape)
w = torch.randn(3, requires_grad=True)
z = (w * 2).exp().sum()
print(z.grad_fn.__class__.__name__, w.is_leaf, z.requires_grad)
z.backward(retain_graph=True)
print(torch.allclose(w.grad, 2 * (2 * w).exp()))
w.grad.zero_()
z.backward()
with torch.no_grad():
    w -= 0.1 * w.grad
    w.grad = None
print(w)
h = w.detach().clone().requires_grad_()
handle = h.register_hook(lambda g: g * 2)
(h ** 2).sum().backward()
print(torch.equal(h.grad, 4 * h.detach()))
handle.remove()
print(torch.linspace(0, 1, 5), torch.logspace(0, 2, 3), torch.eye(2), torch.zeros(2, dtype=torch.int8), torch.full((2,), 7), torch.empty(0))
print(torch.where(x > 0.5, x, torch.zeros_like(x))[0], x.clamp(0.2, 0.8)[0], x.sort(descending=True)[0][0], x.topk(2)[1][0], x.cumsum(1)[0], x.std(), x.var(0), x.median())
print(x.unsqueeze(0).shape, x.squeeze().shape, x.permute(1, 0).is_contiguous(), x.expand(2, 5, 3).stride(), x.repeat(1, 2).shape, torch.flatten(x, 0).shape)
print([c.tolist() for c in torch.arange(7).chunk(3)], [s.shape for s in x.split([2, 3])], torch.unbind(torch.arange(3)))
print(torch.einsum('ij,kj->ik', x, y)[0], torch.bmm(x[None], y.t()[None]).shape, x.norm(), torch.dot(x[0], y[0]), torch.outer(x[0], y[0])[0])
print(torch.bincount(torch.tensor([0, 1, 1, 3])), torch.unique(torch.tensor([3, 1, 3])), torch.histc(x, 4, 0, 1), torch.nonzero(torch.tensor([0, 1, 0, 2])).tolist())
print(x.scatter(1, torch.tensor([[0], [1]]), 9.0)[:2], x.gather(1, torch.tensor([[2], [0], [1], [1], [0]])).flatten(), x.index_select(0, torch.tensor([4, 0])).shape)
print(x.type(torch.float64).dtype, x.half()[0], x.bfloat16()[0], x.int()[0], (x > 0.5).long()[0], x.to(torch.complex64)[0, :1])
print(torch.tensor([True, False]) | torch.tensor([False, False]), ~torch.tensor([True]), torch.tensor([5, -5]) // 2, torch.tensor([5, -5]) % 3, 2 ** torch.arange(4), 1 / torch.tensor([2, 4]))
print(f"{x[0, 0]:.3f} {x.mean():.2e} {torch.tensor(7)} {torch.tensor([1.0])}", len(x), x.numel(), x.dim(), x.ndim, x.nelement(), x.element_size(), bool(torch.tensor(1)))
print(torch.triu(torch.ones(3, 3)), torch.tril(torch.ones(2, 2), -1), torch.diag(torch.arange(2)), torch.trace(torch.eye(3)), torch.cross(x[0], x[1], dim=0))
print(torch.meshgrid(torch.arange(2), torch.arange(3), indexing='ij')[1], torch.cartesian_prod(torch.arange(2), torch.arange(2)).tolist(), torch.combinations(torch.arange(3)).tolist())
print(torch.linalg.inv(torch.tensor([[2., 0.], [0., 4.]])), torch.linalg.norm(x), torch.det(torch.eye(2) * 3), torch.svd(torch.eye(2) * 2)[1], torch.linalg.solve(torch.eye(2) * 2, torch.ones(2)))
path = os.path.join(tempfile.mkdtemp(), 'tensors.pt')
torch.save({'x': x, 'w': w, 'n': 3}, path)
loaded = torch.load(path)
print(torch.equal(loaded['x'], x), loaded['w'].requires_grad, loaded['n'])
os.remove(path)
print(torch.Tensor([1, 2]).dtype, torch.get_default_dtype(), torch.is_tensor(x), torch.result_type(torch.tensor(1), 1.0), torch.finfo(torch.float32).max, torch.Size([1, 2]) + (3,))
