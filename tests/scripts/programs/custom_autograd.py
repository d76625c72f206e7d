"""Custom functions, straight-through estimators, gradient reversal, spectral and weight normalisation, noise layers, PINN derivatives."""
import math

import torch
from torch import nn
from torch.autograd import Function, Variable

torch.manual_seed(1)


class LegendrePolynomial3(Function):
    @staticmethod
    def forward(ctx, input):
        ctx.save_for_backward(input)
        return 0.5 * (5 * input ** 3 - 3 * input)

    @staticmethod
    def backward(ctx, grad_output):
        input, = ctx.saved_tensors
        return grad_output * 1.5 * (5 * input ** 2 - 1)


class GradientReversal(Function):
    @staticmethod
    def forward(ctx, x, alpha):
        ctx.alpha = alpha
        return x.view_as(x)

    @staticmethod
    def backward(ctx, grad_output):
        return grad_output.neg() * ctx.alpha, None


class Binarize(Function):
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x.sign()

    @staticmethod
    def backward(ctx, g):
        x, = ctx.saved_tensors
        g = g.clone()
        g[x.abs() > 1] = 0
        return g


x = torch.linspace(-math.pi, math.pi, 200)
y = torch.sin(x)
a, b, c, d = (torch.full((), v, requires_grad=True) for v in (0.0, -1.0, 0.0, 0.3))
for t in range(60):
    y_pred = a + b * LegendrePolynomial3.apply(c + d * x)
    loss = (y_pred - y).pow(2).sum()
    if t % 20 == 19:
        print(t, loss.item())
    loss.backward()
    with torch.no_grad():
        for p in (a, b, c, d):
            p -= 5e-6 * p.grad
            p.grad = None
print(f'Result: y = {a.item():.4f} + {b.item():.4f} * P3({c.item():.4f} + {d.item():.4f} x)')


class DANN(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.utils.spectral_norm(nn.Linear(6, 8)), nn.ReLU(), nn.utils.weight_norm(nn.Linear(8, 8)))
        self.label, self.domain = nn.Linear(8, 3), nn.Linear(8, 2)

    def forward(self, x, alpha):
        f = self.features(x)
        return self.label(Binarize.apply(f)), self.domain(GradientReversal.apply(f, alpha))


net = DANN()
opt = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
data, labels, domains = Variable(torch.randn(20, 6)), torch.randint(3, (20,)), torch.randint(2, (20,))
for i in range(5):
    alpha = 2. / (1. + math.exp(-10 * i / 5)) - 1
    out, dom = net(data, alpha)
    loss = nn.functional.cross_entropy(out, labels) + nn.functional.cross_entropy(dom, domains)
    opt.zero_grad()
    loss.backward()
    opt.step()
    print(i, loss.item(), net.features[0].weight_orig.grad.norm().item())
net.eval()
print(net(data, 0.)[0].argmax(1).tolist(), sorted(net.state_dict()))

pinn = nn.Sequential(nn.Linear(1, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 1))
opt = torch.optim.Adam(pinn.parameters(), lr=1e-2)
t = torch.linspace(0, 1, 20).view(-1, 1).requires_grad_(True)
for i in range(8):
    u = pinn(t)
    du = torch.autograd.grad(u, t, torch.ones_like(u), create_graph=True)[0]
    d2u = torch.autograd.grad(du, t, torch.ones_like(du), create_graph=True)[0]
    loss = (d2u + 4 * u).pow(2).mean() + (u[0] - 1).pow(2).squeeze() + du[0].pow(2).squeeze()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if i % 4 == 3:
        print('pinn', i, loss.item())
