"""Does each GPU really compute? One child process per device proves it (prove.py), with a time limit; and, if asked for, another one lets torch itself compute.

Comes in: a Host. Goes out: `Proof`s.
"""
from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from .host import Answer, Host, parsed

SECONDS, TORCH_SECONDS = 60.0, 180.0           # a first start of a driver takes several seconds, a first `import torch` from a slow disk a minute
SLOW = 0.5                                     # of the memory's own rate: below it something is wrong with the device or somebody else uses it
TORCH = """
import json, torch
out = []
for k in range(torch.cuda.device_count()):
    a = torch.arange(4096., device=f"cuda:{k}").reshape(64, 64) % 7
    x, w = torch.ones(1, 3, 16, 16, device=a.device), torch.ones(4, 3, 3, 3, device=a.device)
    sums = [float((a @ a).sum()), float(torch.nn.functional.conv2d(x, w).sum())]
    a, x, w = a.cpu(), x.cpu(), w.cpu()
    out.append(sums == [float((a @ a).sum()), float(torch.nn.functional.conv2d(x, w).sum())])
print(json.dumps({"version": torch.__version__, "devices": out}))
"""


@dataclass
class Proof:
    """`step`: the one that failed ("library", "open", "memory", "compile", "kernel", "bandwidth", "hung", "died"), None: all is well. `code`: what the driver returned.
    `bandwidth`: bytes per second inside the device's memory ("device"), from the host ("in") and to it ("out"); `theory`: the most that its memory can."""
    device: int
    name: str = ""
    step: str | None = None
    code: int | None = None
    function: str = ""
    error: str = ""
    wrong: int = 0
    seconds: float = 0.0
    bandwidth: dict = field(default_factory=dict)
    theory: float | None = None

    @property
    def ok(self) -> bool: return self.step is None and not self.wrong

    @property
    def slow(self) -> bool: return bool(self.ok and self.theory and self.bandwidth.get("device", self.theory) < SLOW * self.theory)


def verify(host: Host, devices: list[int], megabytes: int = 256, seconds: float = SECONDS) -> list[Proof]:
    """One after the other: they share the way to the host."""
    program = str(Path(__file__).with_name("prove.py"))
    out = []
    for k in devices:
        answer = host.ask(host.python, "-I", program, str(k), str(megabytes), seconds=seconds) if host.answers is None else host.ask(f"verify {k}")
        out.append(read(k, answer))
    return out


def read(device: int, answer: Answer | None) -> Proof:
    """A child's answer; one that it couldn't give is told apart by why."""
    if answer is None: return Proof(device, step="died", error="no Python")
    if answer.code is None: return Proof(device, step="hung")
    said = parsed(answer.out)
    if said is None: return Proof(device, step="died", code=answer.code, error=(answer.err.strip().splitlines() or [""])[-1])
    if not isinstance(said, dict) or not {"step", "wrong"} & said.keys(): return Proof(device, step="died", error=answer.out[:200])
    known = {k: v for k, v in said.items() if k in Proof.__dataclass_fields__}
    return Proof(**{"device": device, **known})


@dataclass
class TorchProof:
    """What torch itself computed: `devices`: is each device's result the CPU's? `error`: the last line of what it said instead."""
    version: str = ""
    devices: list[bool] = field(default_factory=list)
    error: str = ""

    @property
    def ok(self) -> bool: return bool(self.devices) and all(self.devices)


def torch(host: Host) -> TorchProof:
    """Lets torch multiply matrices and convolve on every device it sees, in a child process. The only place where torch is imported, and only when it is asked for."""
    answer = host.ask(host.python, "-c", TORCH, seconds=TORCH_SECONDS) if host.answers is None else host.ask("verify torch")
    if answer is None: return TorchProof(error="no Python")
    if answer.code is None: return TorchProof(error=f"no answer within {TORCH_SECONDS:.0f} s")
    said = parsed("".join(answer.out.strip().splitlines()[-1:]))
    if not isinstance(said, dict): return TorchProof(error=(answer.err.strip().splitlines() or [f"ended with {answer.code}"])[-1])
    return TorchProof(said.get("version", ""), said.get("devices", []))
