"""Random programs over several devices: PyTorch runs them on the CPU; forno's tensors lie on the CPU and on two GPUs of a simulated machine.

    python -m tests.fuzz.devices FIRST LAST [WINDOW]      runs the programs of these seeds and prints what differs

The statements are those of programs on one device. An operand of another device than the first is sent there, in PyTorch's program it is copied; where PyTorch
lets devices meet (numbers on the CPU, `copy_`, masks), they meet. Besides, tensors move, are looked at, go through pinned memory and other streams, and are trained by
optimizers across devices. What the simulated machine finds (races, memory used too late) is a difference, too; each seed is another order of its streams.
"""
from __future__ import annotations

import contextlib
import random
import sys

import torch

import forno
from forno import gpu
from forno.core.flags import flags
from forno.framework.engine import flush
from forno.gpu.sim import Machine

from . import programs
from .programs import Mismatch, Program
from .statements import STATEMENTS, floating, writable

DEVICES = ("cpu", "cuda:0", "cuda:1")
MEETING = ("add", "sub", "mul", "div", "lt", "ge", "eq", "add_", "mul_", "sub_", "+=")       # a number on the CPU goes along
OPTIMIZERS = dict(SGD=dict(lr=0.05, momentum=0.9), Adam=dict(lr=0.05), AdamW=dict(lr=0.05), RMSprop=dict(lr=0.01), Adagrad=dict(lr=0.05))


@contextlib.contextmanager
def machine(seed: int):
    """A machine with two GPUs in place of this one's; what it finds is raised at the end."""
    flush()                                    # what others left
    before, window, simulated = gpu._found, flags.WINDOW, Machine(2, seed=seed, poisoning=True)
    gpu._found = simulated.driver()
    try:
        yield simulated
        flush()
        simulated.drain()
    except RuntimeError as error:              # what a device found is said by the next call that asks it
        if not simulated.findings(): raise
        raise Mismatch("\n".join([str(error), *map(str, simulated.findings())])) from None
    else:
        if simulated.findings(): raise Mismatch("\n".join(map(str, simulated.findings())))
    finally:
        flags.WINDOW = window
        with contextlib.suppress(Exception): flush()
        gpu._found = before


class DeviceProgram(Program):
    """A program whose tensors lie on several devices. `where`: the device of each."""

    def __init__(self, *args):
        super().__init__(*args)
        self.where: list[str] = []

    def do(self, text, ids, f, new=True, rough=False, to=None):
        home, goes = self.arranged(text, ids, new)

        def here(m, *operands):
            if m is torch: return f(m, *[x.clone() if goes[k] else x for k, x in enumerate(operands)])
            with forno.device(home): return f(m, *[x.to(home) if goes[k] else x for k, x in enumerate(operands)])
        before = len(self.forno)
        if len(set(self.where)) > 1 or not ids: text = f"{text}   on {home}{f', goes there: {[i for i, g in zip(ids, goes) if g]}' if any(goes) else ''}"
        super().do(text, ids, here, new, rough)
        if len(self.forno) == before: return
        self.where.append(to or home)
        if str(self.forno[-1].device) != self.where[-1]: raise Mismatch(f"{text}: the result is on {self.forno[-1].device}, not on {self.where[-1]}")

    def arranged(self, text, ids, new):
        """Where a statement takes place, and which of its operands are sent there."""
        at = [self.where[i] for i in ids]
        if len(set(at)) < 2: return at[0] if at else self.r.choice(DEVICES), [False] * len(at)
        verb = "+=" if " += " in text else text.split()[0]
        if len(ids) == 2 and self.r.random() < 0.7:
            i, j = ids
            if verb in MEETING and at[1] == "cpu" and not self.torch[j].dim(): return at[0], [False, False]
            if verb in MEETING and at[0] == "cpu" and not self.torch[i].dim() and new: return at[1], [False, False]
            if " copy_ " in f" {text}" or text.endswith(f"] = {j}") and not text.startswith(f"{i}[{j}]"): return at[0], [False, False]
            if text.startswith(f"{i}[{j}]") and at[1] == "cpu": return at[0], [False, False]
        home = at[0] if not new else self.r.choice(at)
        return home, [d != home for d in at]

    def compare(self):
        super().compare()
        for i, f in enumerate(self.forno):
            if f.is_leaf and f.grad is not None and f.grad.device != f.device: raise Mismatch(f"{i}: its gradient is on {f.grad.device}, itself on {f.device}")


# ---------------------------------------------------------------- statements
def on_gpu(p, ok=lambda t: True):
    found = [i for i, d in enumerate(p.where) if d != "cpu" and ok(p.torch[i])]
    return p.r.choice(found[-6:]) if found else None


def move(p):
    i, to, form = p.pick(), p.r.choice(DEVICES), p.r.choice(["to", "to", "to", "method", "copy", "dtype", "device of"])
    late, name = to != "cpu" and p.r.random() < 0.5, p.r.choice(["float64", "float32"])
    j = next((k for k, d in enumerate(p.where) if d == to), None)
    if form == "dtype" and not floating(p.torch[i]) or form == "device of" and j is None: form = "to"
    stays = p.where[i] == to and form != "copy"

    def run(m, t):
        kind = getattr(m, name) if form == "dtype" else t.dtype
        if m is torch: return t.to(kind) if stays or t.dtype is not kind else t.clone()
        soon = not late or t.is_pinned()       # what is sent from pinned memory mustn't be written before it has gone
        if form == "method": return t.cpu() if to == "cpu" else t.cuda(int(to[5:]), non_blocking=not soon)
        return t.to(p.forno[j].device if form == "device of" else to, kind, non_blocking=not soon, copy=form == "copy")
    p.do(f"move {i} {to} {form} {name if form == 'dtype' else ''}{' later' if late else ''}", (i,), run, to=to)


def copied(p):
    """Into memory that was made for it."""
    i, to, late = p.pick(), p.r.choice(DEVICES), p.r.random() < 0.5

    def run(m, t):
        if m is torch: return m.empty_like(t).copy_(t)
        return m.empty_like(t, device=to).copy_(t, non_blocking=late and to != "cpu" and not t.is_pinned())
    p.do(f"empty_like on {to} .copy_ {i}{' later' if late else ''}", (i,), run, to=to)


def pinned(p):
    """Through pinned memory, by copies that nobody waits for."""
    i = p.pick(lambda t: t.numel())
    if i is None: return
    at, to = p.where[i], p.r.choice(DEVICES[1:])
    p.foreign.add(len(p.torch))                # strides of axes of length 1 aren't kept
    if at == "cpu":
        p.do(f"pinned {i} {to}", (i,), lambda m, t: t.detach().contiguous().clone() if m is torch else t.detach().contiguous().pin_memory().to(to, non_blocking=True), to=to)
        return
    wait, into = p.r.choice(["device", "event", "stream"]), p.r.random() < 0.5

    def fetched(m, t):
        t = t.detach().contiguous()
        if m is torch: return m.empty(tuple(t.shape), dtype=t.dtype).copy_(t) if into else t.clone()
        with m.cuda.device(at):
            if into: out = m.empty(tuple(t.shape), dtype=t.dtype, device="cpu", pin_memory=True).copy_(t, non_blocking=True)
            else: out = t.to("cpu", non_blocking=True)
            if wait == "device": m.cuda.synchronize(at)
            elif wait == "stream": m.cuda.current_stream().synchronize()
            else: m.cuda.current_stream().record_event().synchronize()
        return out
    p.do(f"fetched {i} {wait}{' into' if into else ''}", (i,), fetched, to="cpu")
    p.unversioned.add(programs.storage(p.torch[-1]))


def streamed(p):
    """In another stream, which waits for this one and is waited for."""
    i = on_gpu(p)
    if i is None: return
    at, back, write = p.where[i], p.r.choice(["stream", "event", "host"]), p.r.random() < 0.3 and writable(p, i) and p.torch[i].dtype is not torch.bool
    p.on_view = p.torch[i]._is_view()

    def body(m, t):
        if write: return t.mul_(2)
        return (t * 2).tanh() * t if p.torch[i].dtype.is_floating_point else t * 2 + 1

    def run(m, t):
        if m is torch: return body(m, t)
        here, there = m.cuda.current_stream(at), m.cuda.Stream(at)
        there.wait_stream(here)
        with m.cuda.stream(there): out = body(m, t)
        t.record_stream(there)
        out.record_stream(here)
        if back == "stream": here.wait_stream(there)
        elif back == "event": here.wait_event(there.record_event())
        else: there.synchronize()
        return out
    p.do(f"in a stream {'mul_' if write else ''} {i} {back}", (i,), run, new=not write, rough=not write)


def item(p):
    i = p.pick(lambda t: t.numel())
    if i is None: return
    k = p.r.randrange(p.torch[i].numel())
    p.do(f"item {i} {k}", (i,), lambda m, t: m.tensor(t.detach().reshape(-1)[k].item()))


def housekeeping(p):
    kind = p.r.choice(["synchronize", "empty_cache", "current device"])
    if p.log is not None: p.log.append(kind)
    if kind == "empty_cache": forno.cuda.empty_cache()
    elif kind == "synchronize": forno.cuda.synchronize(p.r.choice(DEVICES[1:]))
    else: forno.cuda.set_device(p.r.choice(DEVICES[1:]))


def optimized(p):
    """A model whose two weights lie on two devices, trained for a few steps."""
    i = p.pick(lambda t: t.dtype in (torch.float32, torch.float64) and t.numel())
    if i is None: return
    name, steps, look, first, second = p.r.choice(list(OPTIMIZERS)), p.r.choice([2, 3]), p.r.random() < 0.3, p.r.choice(DEVICES), p.r.choice(DEVICES)

    def run(m, t):
        def to(x, d): return x.clone() if m is torch else x.to(d, copy=True)
        t = t.detach().clamp(-2, 2)
        w, v = to(t, first).requires_grad_(), to(t * 0.5 + 1, second).requires_grad_()
        x, losses = to(t, first), []
        optimizer = getattr(m.optim, name)([w, v], **OPTIMIZERS[name])
        for _ in range(steps):
            optimizer.zero_grad()
            loss = (to((w * x + 0.5).tanh(), second) * v).square().mean()
            loss.backward()
            optimizer.step()
            losses.append(m.tensor(loss.item(), dtype=t.dtype) if look else to(loss.detach(), t.device))
        return m.stack([*losses, to(w.detach(), t.device).sum(), to(v.detach(), t.device).sum()])
    p.foreign.add(len(p.torch))
    p.do(f"{name} {i} on {first} and {second} steps={steps} look={look}", (i,), run, rough=True)


MOVES = {move: 25, copied: 4, pinned: 5, streamed: 6, item: 4, housekeeping: 3, optimized: 1.5}
DeviceProgram.statements = {s: n for s, n in STATEMENTS.items() if n > 1} | MOVES


# ---------------------------------------------------------------- seeds
def run(seed: int, window=None, log=None) -> bool:
    """The program of a seed, several times for one in five."""
    with machine(seed):
        try: return all([DeviceProgram(random.Random(seed), log, window, k).run() for k in range(3 if seed % 5 == 0 else 1)])
        finally: forno.cuda.set_device(0)


def main(first: int, last: int, window=None) -> int: return programs.main(first, last, window, run)


if __name__ == "__main__": sys.exit(bool(main(*map(int, sys.argv[1:]))))
