"""In the style of MAML and gradient-penalty code: create_graph, functional parameters, autograd.grad, Hessian-vector products, WGAN-GP."""
from collections import OrderedDict

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)


class Sine(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(OrderedDict([('l1', nn.Linear(1, 16)), ('r1', nn.ReLU()), ('l2', nn.Linear(16, 16)), ('r2', nn.ReLU()), ('l3', nn.Linear(16, 1))]))

    def forward(self, x, params=None):
        if params is None:
            return self.net(x)
        x = F.relu(F.linear(x, params['net.l1.weight'], params['net.l1.bias']))
        x = F.relu(F.linear(x, params['net.l2.weight'], params['net.l2.bias']))
        return F.linear(x, params['net.l3.weight'], params['net.l3.bias'])


model = Sine()
meta = torch.optim.Adam(model.parameters(), lr=1e-2)
for it in range(6):
    meta.zero_grad()
    outer = 0.0
    for task in range(3):
        amp, phase = torch.rand(1) * 4 + 1, torch.rand(1) * 3.14
        x = torch.rand(10, 1) * 10 - 5
        y = amp * torch.sin(x + phase)
        fast = OrderedDict(model.named_parameters())
        for _ in range(2):
            loss = F.mse_loss(model(x[:5], fast), y[:5])
            grads = torch.autograd.grad(loss, fast.values(), create_graph=True)
            fast = OrderedDict((n, p - 0.01 * g) for (n, p), g in zip(fast.items(), grads))
        outer = outer + F.mse_loss(model(x[5:], fast), y[5:])
    outer.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
    meta.step()
    print(it, outer.item())


def gradient_penalty(critic, real, fake):
    alpha = torch.rand(real.size(0), 1).expand_as(real)
    mixed = (alpha * real + (1 - alpha) * fake).requires_grad_(True)
    scores = critic(mixed)
    gradients = torch.autograd.grad(outputs=scores, inputs=mixed, grad_outputs=torch.ones_like(scores), create_graph=True, retain_graph=True, only_inputs=True)[0]
    return ((gradients.view(real.size(0), -1).norm(2, dim=1) - 1) ** 2).mean()


critic = nn.Sequential(nn.Linear(4, 16), nn.Softplus(), nn.LayerNorm(16), nn.Linear(16, 1))
opt = torch.optim.RMSprop(critic.parameters(), lr=1e-3)
for it in range(4):
    real, fake = torch.randn(8, 4) + 1, torch.randn(8, 4)
    loss = critic(fake).mean() - critic(real).mean() + 10 * gradient_penalty(critic, real, fake)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print('wgan', it, loss.item())


def hvp(loss, params, v):
    g = torch.autograd.grad(loss, params, create_graph=True)
    flat = torch.cat([x.reshape(-1) for x in g])
    h = torch.autograd.grad(flat @ v, params, retain_graph=True)
    return torch.cat([x.reshape(-1) for x in h])


small = nn.Sequential(nn.Linear(2, 3), nn.Tanh(), nn.Linear(3, 1))
x, y = torch.randn(5, 2), torch.randn(5, 1)
loss = F.mse_loss(small(x), y)
params = list(small.parameters())
n = sum(p.numel() for p in params)
v = torch.ones(n)
for _ in range(15):
    hv = hvp(loss, params, v)
    v = hv / hv.norm()
print('largest eigenvalue', (v @ hvp(loss, params, v)).item())
print(torch.autograd.functional.hessian(lambda w: (w ** 3).sum(), torch.arange(3.)).diagonal().tolist())
