"""What launches on a GPU cost the host: plans of several lengths, against a driver whose LaunchKernel does nothing.

    python bench/launches.py
"""
from __future__ import annotations

import ctypes
import time

from forno import gpu
from forno.core.kernels import DeviceLaunch
from forno.cpu import code as host_code
from forno.cudart import code, devices, launch
from forno.gpu.driver import Driver
from forno.gpu.sim import Machine

PTX = ".version 7.8\n.target sm_80\n.address_size 64\n.visible .entry nothing({})\n{{\n ret;\n}}\n"
STUB = "define i64 @stub(ptr %f, i32 %a, i32 %b, i32 %c, i32 %d, i32 %e, i32 %g, i32 %h, ptr %s, ptr %p, ptr %x) {\n  ret i64 0\n}\n"
OPERANDS, WORDS = 4, 6


def best(f, rounds: int = 7, runs: int = 200) -> float:
    """Seconds of one call: the least of several rounds' means."""
    out = []
    for _ in range(rounds):
        t = time.perf_counter()
        for _ in range(runs): f()
        out.append((time.perf_counter() - t) / runs)
    return min(out)


def main():
    machine = Machine(1)
    driver = Driver({**machine.table(), "LaunchKernel": host_code.load(STUB, "stub", 1)})
    driver.Init(0)
    gpu._found = driver
    ptx = PTX.format(", ".join(f".param .u64 p{k}" for k in range(OPERANDS + WORDS)))
    kernel = DeviceLaunch("nothing", ptx, tuple(range(WORDS)), (10, 1, 1), (128, 1, 1))
    print(f"launches of kernels with {OPERANDS + WORDS} parameters, microseconds each")
    for n in (1, 10, 100, 500):
        table = launch.Table("cuda:0", [(kernel, tuple(range(OPERANDS)))] * n, OPERANDS, 0, ())
        frame = table.frame(bytes(8 * OPERANDS))
        native = best(lambda: frame.run(0, n))
        print(f"{n:4d} in a plan: {native * 1e6 / n:.3f} (the call {native * 1e6:.2f})")
    words = (ctypes.c_int64 * (OPERANDS + WORDS))()
    places = (ctypes.c_void_p * len(words))(*[ctypes.addressof(words) + 8 * k for k in range(len(words))])

    def through_ctypes():
        devices.use(0)
        for k in range(OPERANDS): words[k] = k
        driver.LaunchKernel(code.function(driver, 0, ptx, "nothing"), 10, 1, 1, 128, 1, 1, 0, 0, places, None)
    print(f"one by one from Python: {best(through_ctypes) * 1e6:.3f}")


if __name__ == "__main__": main()
