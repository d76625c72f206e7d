"""Small programs to time, written once for both libraries: two training steps, 200 tiny operations, and one workload per family of kernels.

PROGRAMS are the whole programs (bench/programs.py) and the small ones; FAMILIES are the kernels by themselves. Every function takes the library and what is
done to the model or the function before it runs (nothing, or torch.compile), and returns a step. A step returns the tensor that its user would look at, or
None, if the gradients are what it is for.
"""
from __future__ import annotations

import programs
from programs import same


# ---------------------------------------------------------------- small programs
def cnn(torch, compiled=same):
    """A training step of the demo's network: batch 64 of 8×8 digits, Adam."""
    nn, optim = torch.nn, torch.optim
    torch.manual_seed(0)
    model = compiled(nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
                                   nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Dropout(0.25), nn.Linear(64, 10)))
    return programs.classifying(torch, model, optim.Adam(model.parameters(), lr=2e-3), torch.rand(64, 1, 8, 8), 10)


def mlp(torch, compiled=same):
    """A training step of 784-512-512-10, batch 128, Adam."""
    model = compiled(perceptron(torch))
    return programs.classifying(torch, model, torch.optim.Adam(model.parameters(), lr=1e-3), torch.rand(128, 784), 10)


def mlp_sgd(torch, compiled=same):
    """The same with plain SGD: the matrix products alone."""
    model = compiled(perceptron(torch))
    return programs.classifying(torch, model, torch.optim.SGD(model.parameters(), lr=1e-2), torch.rand(128, 784), 10)


def perceptron(torch):
    nn = torch.nn
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def tiny(torch, compiled=same):
    """200 operations on 16 floats, forward and backward."""
    torch.manual_seed(0)
    x = torch.randn(16, requires_grad=True)

    @compiled
    def forward(h):
        for _ in range(100): h = (h * 1.01).tanh()
        return h.sum()

    def step():
        x.grad = None
        y = forward(x)
        y.backward()
        return y.detach()
    return step


def lstm_cell(torch, compiled=same):
    """An LSTM cell written by hand, 35 steps of batch 20, 200 units, forward and backward."""
    torch.manual_seed(0)
    hidden = 200
    wi, wh, b = (torch.randn(*s, requires_grad=True) for s in ((hidden, 4 * hidden), (hidden, 4 * hidden), (4 * hidden,)))
    xs = torch.randn(35, 20, hidden)

    @compiled
    def forward(xs, wi, wh, b):
        h, c = torch.zeros(20, hidden), torch.zeros(20, hidden)
        for t in range(35):
            i, f, o, u = (xs[t] @ wi + h @ wh + b).chunk(4, 1)       # (B, hidden) each
            c = f.sigmoid() * c + i.sigmoid() * u.tanh()
            h = o.sigmoid() * c.tanh()
        return (h * h).sum()

    def step():
        wi.grad = wh.grad = b.grad = None
        y = forward(xs, wi, wh, b)
        y.backward()
        return y.detach()
    return step


# ---------------------------------------------------------------- families of kernels
def matmul(torch, compiled=same):
    """1024³ float32."""
    torch.manual_seed(0)
    a, b = torch.randn(1024, 1024), torch.randn(1024, 1024)
    forward = compiled(lambda a, b: a @ b)
    return lambda: forward(a, b)


def conv(torch, compiled=same):
    """3×3 convolution, 64 channels of 56×56, batch 16, forward and backward."""
    torch.manual_seed(0)
    x, w, g = torch.randn(16, 64, 56, 56, requires_grad=True), torch.randn(64, 64, 3, 3, requires_grad=True), torch.randn(16, 64, 56, 56)
    forward = compiled(lambda x, w: torch.nn.functional.conv2d(x, w, padding=1))
    return gradients(forward, g, x, w)


def attention(torch, compiled=same):
    """Causal attention of 512 keys, 4 × 12 heads of 64 features, forward and backward."""
    torch.manual_seed(0)
    q, k, v, g = (torch.randn(4, 12, 512, 64, requires_grad=grad) for grad in (True, True, True, False))
    forward = compiled(lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True))
    return gradients(forward, g, q, k, v)


def layer_norm(torch, compiled=same):
    """Layer norm forward and backward over (4096, 1024)."""
    torch.manual_seed(0)
    x, w, b = torch.randn(4096, 1024, requires_grad=True), torch.ones(1024, requires_grad=True), torch.zeros(1024, requires_grad=True)
    forward = compiled(lambda x, w, b: torch.nn.functional.layer_norm(x, (1024,), w, b))
    return gradients(forward, torch.randn(4096, 1024), x, w, b)


def gradients(forward, g, *leaves):
    def step():
        for leaf in leaves: leaf.grad = None
        forward(*leaves).backward(g)
    return step


def pointwise(torch, compiled=same):
    """gelu(x*w+b)+r on 4M floats."""
    torch.manual_seed(0)
    x, r, w, b = torch.randn(4096, 1024), torch.randn(4096, 1024), torch.randn(1024), torch.randn(1024)
    forward = compiled(lambda x, r, w, b: torch.nn.functional.gelu(x * w + b) + r)
    return lambda: forward(x, r, w, b)


def softmax(torch, compiled=same):
    """softmax over rows of (4096, 1024)."""
    torch.manual_seed(0)
    x = torch.randn(4096, 1024)
    forward = compiled(lambda x: torch.softmax(x, 1))
    return lambda: forward(x)


PROGRAMS = {f.__name__: f for f in (mlp, programs.resnet18, programs.resnet50_1, programs.resnet50_8, programs.gpt, programs.gpt2_prefill, programs.gpt2_decode, programs.lstm_lm,
                                    programs.dcgan, programs.vit_tiny, tiny, programs.chain, programs.vae, programs.unet)}
FAMILIES = {f.__name__: f for f in (matmul, conv, attention, layer_norm, softmax, pointwise, lstm_cell, mlp_sgd, cnn)}
WORKLOADS = PROGRAMS | FAMILIES
WHOLE_STEP = set(PROGRAMS)                      # forno.compile takes these steps whole; of the others the model, as torch.compile does everywhere
