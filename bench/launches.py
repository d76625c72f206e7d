"""What launches on a GPU cost the host: plans of several lengths, one by one and as graphs, against a driver whose functions for launching do nothing.

    python bench/launches.py
"""
from __future__ import annotations

import ctypes
import struct
import time

from forno import gpu
from forno.core.flags import flags
from forno.core.kernels import DeviceLaunch
from forno.cpu import code as host_code
from forno.cudart import code, devices, launch, replay
from forno.gpu.driver import Driver
from forno.gpu.sim import Machine

PTX = ".version 7.8\n.target sm_80\n.address_size 64\n.visible .entry nothing({})\n{{\n ret;\n}}\n"
STUBS = {"LaunchKernel": "ptr %f, i32 %a, i32 %b, i32 %c, i32 %d, i32 %e, i32 %g, i32 %h, ptr %s, ptr %p, ptr %x",
         "GraphLaunch": "ptr %e, ptr %s", "GraphExecKernelNodeSetParams": "ptr %e, ptr %n, ptr %p"}
OPERANDS, WORDS = 4, 6


def best(f, rounds: int = 7, runs: int = 200) -> float:
    """Seconds of one call: the least of several rounds' means."""
    out = []
    for _ in range(rounds):
        t = time.perf_counter()
        for _ in range(runs): f()
        out.append((time.perf_counter() - t) / runs)
    return min(out)


def graphed(kernel, n: int):
    """The same as one graph, where nothing changes from run to run, or a number of half of the launches does."""
    places = [tuple(range(OPERANDS)) if k % 2 else (*range(OPERANDS - 1), OPERANDS) for k in range(n)]
    table = launch.Table("cuda:0", [(kernel, p) for p in places], OPERANDS + 1, 0, ())
    frames = [table.frame(struct.pack(f"{OPERANDS + 1}q", *range(OPERANDS), k)) for k in range(5)]
    for f in frames * 2: f.run(0, n)

    def all_of_them():
        for f in frames: f.run(0, n)
    same, other = best(lambda: frames[-1].run(0, n)), best(all_of_them) / len(frames)
    [r] = table.replays.values()
    assert r.chains and not r.misses
    print(f"     as a graph: {same * 1e6 / n:.3f} (the call {same * 1e6:.2f}); with a number of half of them changed: {other * 1e6 / n:.3f} (the call {other * 1e6:.2f})")


def main():
    machine = Machine(1)
    driver = Driver({**machine.table(), **{name: host_code.load(f"define i64 @stub({arguments}) {{\n  ret i64 0\n}}\n", "stub", 1) for name, arguments in STUBS.items()}})
    driver.Init(0)
    gpu._found = driver
    ptx = PTX.format(", ".join(f".param .u64 p{k}" for k in range(OPERANDS + WORDS)))
    kernel = DeviceLaunch("nothing", ptx, tuple(range(WORDS)), (10, 1, 1), (128, 1, 1))
    print(f"launches of kernels with {OPERANDS + WORDS} parameters, microseconds each")
    for n in (1, 10, 100, 500):
        table = launch.Table("cuda:0", [(kernel, tuple(range(OPERANDS)))] * n, OPERANDS, 0, ())
        frame = table.frame(bytes(8 * OPERANDS))
        flags.GRAPHS = 0
        native = best(lambda: frame.run(0, n))
        print(f"{n:4d} in a plan: {native * 1e6 / n:.3f} (the call {native * 1e6:.2f})")
        flags.GRAPHS = 1
        if n >= replay.LEAST: graphed(kernel, n)
    words = (ctypes.c_int64 * (OPERANDS + WORDS))()
    places = (ctypes.c_void_p * len(words))(*[ctypes.addressof(words) + 8 * k for k in range(len(words))])

    def through_ctypes():
        devices.use(0)
        for k in range(OPERANDS): words[k] = k
        driver.LaunchKernel(code.function(driver, 0, ptx, "nothing"), 10, 1, 1, 128, 1, 1, 0, 0, places, None)
    print(f"one by one from Python: {best(through_ctypes) * 1e6:.3f}")


if __name__ == "__main__": main()
