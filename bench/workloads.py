"""Programs to time, written once for both libraries. Each makes its state and returns a function that does one step.

    python bench/workloads.py LIBRARY NAME      times one workload in this process and prints a JSON line (bench/run.py alternates processes)
"""
from __future__ import annotations

import importlib
import json
import resource
import sys
import time

import numpy as np
from programs import PROGRAMS

STEP_SECONDS = 0.6                             # how long one timing block lasts, at least


def cnn(torch):
    """A training step of the demo's network: batch 64 of 8×8 digits, Adam."""
    nn, optim = torch.nn, torch.optim
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(),
                          nn.MaxPool2d(2), nn.Flatten(), nn.Linear(512, 64), nn.ReLU(), nn.Dropout(0.25), nn.Linear(64, 10))
    return training(torch, model, optim.Adam(model.parameters(), lr=2e-3), torch.rand(64, 1, 8, 8))


def mlp(torch):
    """A training step of 784-512-512-10, batch 128, Adam."""
    nn, optim = torch.nn, torch.optim
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    return training(torch, model, optim.Adam(model.parameters(), lr=1e-3), torch.rand(128, 784))


def mlp_sgd(torch):
    """The same with plain SGD: the matrix products alone."""
    nn, optim = torch.nn, torch.optim
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))
    return training(torch, model, optim.SGD(model.parameters(), lr=1e-2), torch.rand(128, 784))


def training(torch, model, optimizer, x):
    y = torch.randint(0, 10, (x.shape[0],))
    criterion = torch.nn.CrossEntropyLoss()

    def step():
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.item()
    return step


def pointwise(torch):
    """gelu(x*w+b)+r on 4M floats."""
    gelu = torch.nn.functional.gelu
    torch.manual_seed(0)
    x, r, w, b = torch.randn(4096, 1024), torch.randn(4096, 1024), torch.randn(1024), torch.randn(1024)
    run = finisher(torch)

    def step():
        y = gelu(x * w + b) + r
        run()
        return y
    return step


def softmax(torch):
    """softmax over rows of (4096, 1024)."""
    x, run = torch.randn(4096, 1024), finisher(torch)

    def step():
        y = torch.softmax(x, 1)
        run()
        return y
    return step


def layer_norm(torch):
    """Layer norm forward and backward over (4096, 1024)."""
    f = torch.nn.functional.layer_norm
    x, w, b = torch.randn(4096, 1024, requires_grad=True), torch.ones(1024, requires_grad=True), torch.zeros(1024, requires_grad=True)
    g, run = torch.randn(4096, 1024), finisher(torch)

    def step():
        x.grad = w.grad = b.grad = None
        f(x, (1024,), w, b).backward(g)
        run()
    return step


def conv(torch):
    """3×3 convolution, 64 channels of 56×56, batch 16, forward and backward."""
    f = torch.nn.functional.conv2d
    x, w = torch.randn(16, 64, 56, 56, requires_grad=True), torch.randn(64, 64, 3, 3, requires_grad=True)
    g, run = torch.randn(16, 64, 56, 56), finisher(torch)

    def step():
        x.grad = w.grad = None
        f(x, w, padding=1).backward(g)
        run()
    return step


def matmul(torch):
    """1024³ float32."""
    a, b, run = torch.randn(1024, 1024), torch.randn(1024, 1024), finisher(torch)

    def step():
        c = a @ b
        run()
        return c
    return step


def lstm(torch):
    """An LSTM cell written by hand, 35 steps of batch 20, 200 units, forward and backward."""
    torch.manual_seed(0)
    hidden = 200
    wi, wh, b = (torch.randn(*s, requires_grad=True) for s in ((hidden, 4 * hidden), (hidden, 4 * hidden), (4 * hidden,)))
    xs, run = torch.randn(35, 20, hidden), finisher(torch)

    def step():
        wi.grad = wh.grad = b.grad = None
        h, c = torch.zeros(20, hidden), torch.zeros(20, hidden)
        for t in range(35):
            i, f, o, u = (xs[t] @ wi + h @ wh + b).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * u.tanh()
            h = o.sigmoid() * c.tanh()
        (h * h).sum().backward()
        run()
    return step


def tiny(torch):
    """200 operations on 16 floats, forward and backward."""
    x, run = torch.randn(16, requires_grad=True), finisher(torch)

    def step():
        x.grad = None
        h = x
        for _ in range(100): h = (h * 1.01).tanh()
        h.sum().backward()
        run()
    return step


def finisher(torch):
    """Makes lazy work happen inside the timed step."""
    return importlib.import_module("forno.framework.engine").flush if torch.__name__ == "forno" else lambda: None


WORKLOADS = {f.__name__: f for f in (cnn, mlp, mlp_sgd, pointwise, softmax, layer_norm, conv, matmul, lstm, tiny)} | PROGRAMS


def main(library: str, name: str):
    start = time.perf_counter()
    torch = importlib.import_module(library)
    imported = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = WORKLOADS[name](torch)
    made = time.perf_counter()
    step()
    first = time.perf_counter()
    for _ in range(4): step()
    times: list[float] = []
    until = time.perf_counter() + STEP_SECONDS
    while time.perf_counter() < until or len(times) < 10:
        t = time.perf_counter()
        step()
        times.append(time.perf_counter() - t)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"library": library, "name": name, "import_s": imported - start, "first_s": first - made, "step_ms": 1e3 * float(np.median(times)),
                      "least_ms": 1e3 * min(times), "steps": len(times), "rss_before_mb": before / 1024, "rss_peak_mb": peak / 1024}))


if __name__ == "__main__": main(sys.argv[1], sys.argv[2])
