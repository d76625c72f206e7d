"""What a GPU can do at most: bytes per second of copy and triad, float32 FLOP/s of multiply-adds, bf16 FLOP/s of mma.sync.

    limits(small) -> {"copy": bytes/s, "triad": bytes/s, "float32": FLOP/s, "bf16": FLOP/s}          facts() -> what the device is

The kernels are PTX written here, not forno's: a limit must not depend on what is measured against it. Of forno only the driver's table of functions is used, so
this also is the shortest way to see whether driver, module loading, launches and events work at all. Every number is the best of several launches, by events.
mma.sync is what chips from 8.0 on share; Hopper's and Blackwell's own instructions go further (on an H100 by about a half).
"""
from __future__ import annotations

import contextlib
import ctypes

from forno import gpu
from forno.gpu.prototypes import DEVICE

THREADS, VECTORS, CHAINS, TILES = 256, 4, 16, 8            # of a block; 16-byte vectors per turn; chains of multiply-adds, and of mma, per thread
HEAD = ".version {}\n.target {}\n.address_size 64\n"
START = """ .reg .pred %p<2>; .reg .b32 %r<9>; .reg .b64 %d<20>;
 mov.u32 %r1, %ctaid.x; mov.u32 %r2, %tid.x; mov.u32 %r3, %nctaid.x; mov.u32 %r4, %ntid.x;
"""


def memory_kernel(name: str, reads: int) -> str:
    """name(to, from …, bytes): every block walks over the arrays in runs of its own; two arrays: to = a + 3 b."""
    run, places = THREADS * VECTORS * 16, ["0", *map(str, range(1, reads + 1))]
    lines = [f".visible .entry {name}({', '.join(f'.param .u64 p{k}' for k in range(reads + 2))})\n{{\n{START} .reg .f32 %x<{16 * reads + 1}>;"]
    lines += [f" ld.param.u64 %d{k}, [p{k}];" for k in range(reads + 2)]
    lines += [f" mul.wide.u32 %d10, %r1, {run}; mul.wide.u32 %d11, %r3, {run}; mul.wide.u32 %d12, %r2, 16; add.s64 %d10, %d10, %d12;",
              f"$next:\n setp.ge.u64 %p1, %d10, %d{reads + 1};\n @%p1 bra $done;"]
    lines += [f" add.s64 %d{13 + int(k)}, %d{k}, %d10;" for k in places]
    for v in range(VECTORS):
        for a in range(reads):
            at = a * 16 + 4 * v
            lines.append(f" ld.global.v4.f32 {{%x{at}, %x{at + 1}, %x{at + 2}, %x{at + 3}}}, [%d{14 + a}+{v * THREADS * 16}];")
    for v in range(VECTORS):
        if reads == 2: lines += [f" fma.rn.f32 %x{4 * v + i}, %x{16 + 4 * v + i}, 0f40400000, %x{4 * v + i};" for i in range(4)]
        lines.append(f" st.global.v4.f32 [%d13+{v * THREADS * 16}], {{%x{4 * v}, %x{4 * v + 1}, %x{4 * v + 2}, %x{4 * v + 3}}};")
    return "\n".join([*lines, " add.s64 %d10, %d10, %d11;\n bra $next;\n$done:\n ret;\n}"])


def loop_kernel(name: str, registers: str, begin: list[str], body: list[str], end: list[str], result: str) -> str:
    """name(to, turns): `body` so many times; `end` leaves in `result` what depends on all of it, and it is stored."""
    return "\n".join([f".visible .entry {name}(.param .u64 p0, .param .u64 p1)\n{{\n{START} {registers}\n ld.param.u64 %d0, [p0]; ld.param.u64 %d1, [p1];", *begin, "$next:", *body,
                      " add.s64 %d1, %d1, -1;\n setp.ne.s64 %p1, %d1, 0;\n @%p1 bra $next;", *end,
                      f" mad.lo.s32 %r5, %r1, %r4, %r2; mul.wide.u32 %d2, %r5, 4; add.s64 %d0, %d0, %d2; st.global.f32 [%d0], {result};\n ret;\n}}"])


def fma_kernel() -> str:
    begin = [" cvt.rn.f32.u32 %x0, %r2;", *[f" add.f32 %x{k + 1}, %x0, 0f3F800000;" for k in range(CHAINS)]]
    return loop_kernel("multiply", f".reg .f32 %x<{CHAINS + 1}>;", begin, [f" fma.rn.f32 %x{k + 1}, %x{k + 1}, 0f3F000000, 0f3F800000;" for k in range(CHAINS)] * 4,
                       [f" add.f32 %x0, %x0, %x{k + 1};" for k in range(CHAINS)], "%x0")


def mma_kernel() -> str:
    """Products of 16 × 16 by 16 × 8; zeros draw less power than numbers, so what is multiplied comes from the threads' numbers."""
    accumulators = [[f"%c{4 * t + i}" for i in range(4)] for t in range(TILES)]
    begin = [" mul.lo.s32 %a0, %r2, 471901; and.b32 %a0, %a0, 8323199; or.b32 %a0, %a0, 1065369472;", *[f" add.s32 %a{i}, %a{i - 1}, 65537;" for i in range(1, 6)],
             *[f" mov.f32 {c}, 0f00000000;" for cs in accumulators for c in cs]]
    body = [f" mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {{{', '.join(cs)}}}, {{%a0, %a1, %a2, %a3}}, {{%a4, %a5}}, {{{', '.join(cs)}}};" for cs in accumulators]
    end = [f" add.f32 %c0, %c0, {c};" for cs in accumulators for c in cs if c != "%c0"]
    return loop_kernel("products", f".reg .b32 %a<6>; .reg .f32 %c<{4 * TILES}>;", begin, body, end, "%c0")


class Bench:
    """One device's context, with arrays and timed launches."""

    def __init__(self):
        self.d = gpu.driver()
        self.device = self.d.DeviceGet(0)
        self.d.CtxSetCurrent(self.d.DevicePrimaryCtxRetain(self.device))
        self.owned: list[int] = []

    def attribute(self, name: str) -> int: return self.d.DeviceGetAttribute(DEVICE[name], self.device)

    @property
    def capability(self) -> tuple[int, int]: return self.attribute("major"), self.attribute("minor")

    def array(self, nbytes: int) -> int:
        self.owned.append(self.d.MemAlloc(nbytes))
        self.d.MemsetD32Async(self.owned[-1], 0x3F800000, nbytes // 4, 0)          # ones
        return self.owned[-1]

    def free(self):
        while self.owned: self.d.MemFree(self.owned.pop())

    def kernel(self, text: str, name: str, old: bool = True) -> int:
        ptx = HEAD.format(*(("6.4", "sm_75") if old else ("7.0", "sm_80"))) + text
        return self.d.ModuleGetFunction(self.d.ModuleLoadDataEx(ptx.encode() + b"\0", 0, None, None), name.encode())

    def seconds(self, function: int, blocks: int, *words: int, times: int = 10) -> float:
        """The quickest of several launches."""
        values = (ctypes.c_uint64 * len(words))(*words)
        at = (ctypes.c_void_p * len(words))(*[ctypes.addressof(values) + 8 * k for k in range(len(words))])
        events = [self.d.EventCreate(0) for _ in range(times + 1)]
        self.d.LaunchKernel(function, blocks, 1, 1, THREADS, 1, 1, 0, 0, at, None)         # not timed: clocks rise
        self.d.EventRecord(events[0], 0)
        for e in events[1:]:
            self.d.LaunchKernel(function, blocks, 1, 1, THREADS, 1, 1, 0, 0, at, None)
            self.d.EventRecord(e, 0)
        self.d.CtxSynchronize()
        found = min(self.d.EventElapsedTime(a, b) for a, b in zip(events, events[1:])) / 1e3
        for e in events: self.d.EventDestroy(e)
        return found


def facts() -> dict:
    b = Bench()
    free, total = b.d.MemGetInfo()
    return {"gpu": b.d.DeviceGetName(b.device), "capability": list(b.capability), "sms": b.attribute("sms"), "clock_mhz": b.attribute("clock") // 1000,
            "memory_clock_mhz": b.attribute("memory_clock") // 1000, "bus_bits": b.attribute("bus_width"), "l2": b.attribute("l2"), "memory": total, "free": free,
            "cuda": f"{b.d.version // 1000}.{b.d.version % 1000 // 10}", "simulated": b.d.machine is not None}


def limits(small: bool = False) -> dict:
    b, run = Bench(), THREADS * VECTORS * 16
    blocks, turns, times = (2, 2, 1) if small else (8 * b.attribute("sms"), 1 << 12, 10)
    nbytes = 4 * run if small else min(1 << 30, b.d.MemGetInfo()[0] // 8) // run * run
    out = {}
    with contextlib.ExitStack() as ended:
        ended.callback(b.free)
        to, one, two = (b.array(nbytes) for _ in range(3))
        out["copy"] = 2 * nbytes / b.seconds(b.kernel(memory_kernel("copy", 1), "copy"), blocks, to, one, nbytes, times=times)
        out["triad"] = 3 * nbytes / b.seconds(b.kernel(memory_kernel("triad", 2), "triad"), blocks, to, one, two, nbytes, times=times)
        out["float32"] = 2 * 4 * CHAINS * turns * blocks * THREADS / b.seconds(b.kernel(fma_kernel(), "multiply"), blocks, to, turns, times=times)
        if b.capability >= (8, 0):
            out["bf16"] = 2 * 16 * 8 * 16 * TILES * turns * blocks * (THREADS // 32) / b.seconds(b.kernel(mma_kernel(), "products", False), blocks, to, turns, times=times)
    return out
