"""Trains the network of examples/digits.py for a few seconds and shows what forno found on this machine, how well the network reads digits it has
never seen, and where the time went, floor by floor."""
from __future__ import annotations

import sys
import time

from . import cuda, nn, optim
from .compiler import compile as compile_model
from .core.trace import trace
from .cpu import isa
from .framework import api as torch
from .framework.serialize import save
from .utils.data import DataLoader, TensorDataset
from .vision.datasets import Digits

WIDTH = 24


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
        )                                      # (N, 32, 4, 4)
        self.classifier = nn.Sequential(nn.Flatten(), nn.Linear(32 * 4 * 4, 64), nn.ReLU(), nn.Dropout(0.25), nn.Linear(64, 10))

    def forward(self, x): return self.classifier(self.features(x))


class Line:
    """A line that is drawn over while it changes; where nobody watches, only its last state is printed."""

    def __init__(self, out):
        self.out, self.live, self.last = out, out.isatty(), 0.0

    def show(self, text):
        if self.live and time.perf_counter() - self.last > 0.05:
            self.out.write(f"\r{text}\x1b[K")
            self.out.flush()
            self.last = time.perf_counter()

    def end(self, text):
        self.out.write(f"\r{text}\x1b[K\n" if self.live else text + "\n")
        self.out.flush()


def bar(share: float) -> str:
    full = round(share * WIDTH)
    return "█" * full + "░" * (WIDTH - full)


def tensors(train: bool, device):
    digits = Digits(train=train)
    return digits.data.to(device).float().unsqueeze(1) / 255, digits.targets.to(device)          # (N, 1, 8, 8), (N,)


def accuracy(model, images, labels) -> float:
    model.eval()
    with torch.no_grad(): return (model(images).argmax(1) == labels).float().mean().item()


def epoch_of(model, loader, optimizer, title, out) -> tuple[float, float, float]:
    """Trains once over the data: (mean loss, accuracy while training, samples per second)."""
    model.train()
    line, criterion, start = Line(out), nn.CrossEntropyLoss(), time.perf_counter()
    seen, total, right = 0, 0.0, 0
    for step, (x, y) in enumerate(loader, 1):
        optimizer.zero_grad()
        logits = model(x)
        loss = criterion(logits, y)
        loss.backward()
        optimizer.step()
        seen += len(x)
        total += loss.item() * len(x)
        right += int((logits.argmax(1) == y).sum())
        speed = seen / (time.perf_counter() - start)
        line.show(f"{title} {bar(step / len(loader))} loss {total / seen:.4f}  accuracy {right / seen:6.1%}  {speed:7,.0f} samples/s")
    return total / seen, right / seen, speed


def where_time_went(wall: float) -> list[str]:
    """One line per floor from the trace's counters."""
    spent = trace.seconds
    program = max(0.0, wall - spent["plan"] - spent["compile"] - trace.running)          # recording happens inside the program's own lines
    rows = [("record   Python, lines and nodes", program), ("plan     fuse, order, place", spent["plan"]),
            ("compile  LLVM to machine code", spent["compile"]), ("run      kernels", trace.running)]
    lines = [f"  {name:32} {seconds:7.2f} s  {bar(seconds / wall)} {seconds / wall:6.1%}" for name, seconds in rows]
    made, hit = trace.counts["plans_made"], trace.hits
    if made + hit: lines.append(f"  plans: {made} made, {hit} found again ({hit / (made + hit):.1%} of {made + hit})")
    return lines


def run(device="cpu", epochs=8, seed=0, compile=False, path="digits.pt", out=None) -> int:
    out = out or sys.stdout
    found = cuda.get_device_name(0) if cuda.is_available() else "none"
    print(f"CPU   {isa.describe()}\nGPU   {found}", file=out)
    torch.manual_seed(seed)
    device = torch.device(device)
    images, labels = tensors(True, device)
    test = tensors(False, device)
    loader = DataLoader(TensorDataset(images, labels), batch_size=64, shuffle=True)
    model = Net().to(device)
    optimizer = optim.Adam(model.parameters(), lr=2e-3)
    step_model = compile_model(model) if compile else model
    weights = sum(p.numel() for p in model.parameters())
    print(f"{len(images):,} digits to learn from, {len(test[1])} to test with, {weights:,} weights, on {device}\n", file=out)
    trace.clear()
    start, reached = time.perf_counter(), 0.0
    for epoch in range(1, epochs + 1):
        title = f"epoch {epoch:{len(str(epochs))}d}/{epochs}"
        loss, right, speed = epoch_of(step_model, loader, optimizer, title, out)
        reached = accuracy(model, *test)
        Line(out).end(f"{title}  loss {loss:.4f}  accuracy {right:6.1%}  {speed:7,.0f} samples/s  test accuracy {reached:.1%}")
    wall = time.perf_counter() - start
    print(f"\nafter {wall:.1f} s the network reads {reached:.1%} of digits it has never seen. Where the time went:", file=out)
    print(*where_time_went(wall), sep="\n", file=out)
    save(model.state_dict(), path)
    print(f"weights saved to {path}: forno.load and torch.load read them", file=out)
    return 0
