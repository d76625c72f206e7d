"""What a GPU can do at most, one case each: bytes per second of copies and triads, of the driver's own copies, FLOP/s of multiply-adds and of mma.sync, launches per second.

    LIMITS[name](small) -> {"rate": …, "best": milliseconds of a launch, "median": …}          facts() -> what the device is

The kernels are PTX written here, not forno's: a limit must not depend on what is measured against it. Of forno only the driver's table of functions is used, so
this also is the shortest way to see whether driver, module loading, launches and events work at all. Every number is the best of several launches, by events, after
some that aren't timed. mma.sync is what chips from 8.0 on share; Hopper's and Blackwell's own instructions go further (on an H100 by about a half).
"""
from __future__ import annotations

import contextlib
import ctypes
import statistics

from forno import gpu
from forno.gpu.driver import kernel_module
from forno.gpu.errors import CudaError, error
from forno.gpu.prototypes import DEVICE, JIT

THREADS, VECTORS, CHAINS, TILES = 256, 4, 16, 8            # of a block; 16-byte vectors per turn; chains of multiply-adds, and of mma, per thread
EMPTY = 200                                    # launches of nothing that are timed as one
WARM, LOG = 3, 8192                            # launches that aren't timed; bytes of what the driver's compiler says
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


def mma_kernel(kind: str, k: int) -> str:
    """Products of 16 × k by k × 8; zeros draw less power than numbers, so what is multiplied comes from the threads' numbers."""
    accumulators = [[f"%c{4 * t + i}" for i in range(4)] for t in range(TILES)]
    begin = [" mul.lo.s32 %a0, %r2, 471901; and.b32 %a0, %a0, 8323199; or.b32 %a0, %a0, 1065369472;", *[f" add.s32 %a{i}, %a{i - 1}, 65537;" for i in range(1, 6)],
             *[f" mov.f32 {c}, 0f00000000;" for cs in accumulators for c in cs]]
    body = [f" mma.sync.aligned.m16n8k{k}.row.col.f32.{kind}.{kind}.f32 {{{', '.join(cs)}}}, {{%a0, %a1, %a2, %a3}}, {{%a4, %a5}}, {{{', '.join(cs)}}};" for cs in accumulators]
    end = [f" add.f32 %c0, %c0, {c};" for cs in accumulators for c in cs if c != "%c0"]
    return loop_kernel("products", f".reg .b32 %a<6>; .reg .f32 %c<{4 * TILES}>;", begin, body, end, "%c0")


class Bench:
    """One device's context, with arrays and timed work."""

    def __init__(self, small: bool):
        self.d, self.small = gpu.driver(), small
        self.device = self.d.DeviceGet(0)
        self.d.CtxSetCurrent(self.d.DevicePrimaryCtxRetain(self.device))
        self.blocks, self.turns = (2, 2) if small else (8 * self.attribute("sms"), 1 << 12)
        self.owned: list[int] = []

    def attribute(self, name: str) -> int: return self.d.DeviceGetAttribute(DEVICE[name], self.device)

    @property
    def capability(self) -> tuple[int, int]: return self.attribute("major"), self.attribute("minor")

    @property
    def nbytes(self) -> int:
        """Of an array that no cache holds."""
        run = THREADS * VECTORS * 16
        return 4 * run if self.small else min(1 << 30, self.d.MemGetInfo()[0] // 8) // run * run

    def array(self, nbytes: int) -> int:
        self.owned.append(self.d.MemAlloc(nbytes))
        self.d.MemsetD32Async(self.owned[-1], 0x3F800000, nbytes // 4, 0)          # ones
        return self.owned[-1]

    def free(self):
        while self.owned: self.d.MemFree(self.owned.pop())

    def kernel(self, text: str, name: str, old: bool = True) -> int:
        """A refusal has what the driver's compiler said, and the text."""
        ptx, log = HEAD.format(*(("6.4", "sm_75") if old else ("7.0", "sm_80"))) + text, ctypes.create_string_buffer(LOG)
        options, values = (ctypes.c_int * 2)(JIT["error_log"], JIT["error_size"]), (ctypes.c_void_p * 2)(ctypes.addressof(log), LOG)
        try: module = self.d.ModuleLoadDataEx(ptx.encode() + b"\0", 2, options, values)
        except CudaError as e: raise error(e.function, e.code, f"{log.value.decode(errors='replace').strip()}\n{ptx}") from None
        return self.d.ModuleGetFunction(module, name.encode())

    def launches(self, function: int, blocks: int, *words: int):
        """work(): one launch."""
        values = (ctypes.c_uint64 * max(1, len(words)))(*words)
        at = (ctypes.c_void_p * max(1, len(words)))(*[ctypes.addressof(values) + 8 * k for k in range(max(1, len(words)))])
        return lambda: self.d.LaunchKernel(function, blocks, 1, 1, THREADS, 1, 1, 0, 0, at, None) or values          # the words live as long as it does

    def timed(self, work, amount: float) -> dict:
        """`amount` per second of the quickest of several, by events."""
        times = 1 if self.small else 10
        events = [self.d.EventCreate(0) for _ in range(times + 1)]
        for _ in range(1 if self.small else WARM): work()
        self.d.EventRecord(events[0], 0)
        for e in events[1:]:
            work()
            self.d.EventRecord(e, 0)
        self.d.CtxSynchronize()
        ms = [self.d.EventElapsedTime(a, b) for a, b in zip(events, events[1:])]
        for e in events: self.d.EventDestroy(e)
        return {"rate": amount / (min(ms) / 1e3), "best": min(ms), "median": statistics.median(ms)}


def moved(name: str, reads: int):
    def measure(b: Bench) -> dict:
        arrays = [b.array(b.nbytes) for _ in range(reads + 1)]
        return b.timed(b.launches(b.kernel(memory_kernel(name, reads), name), b.blocks, *arrays, b.nbytes), (reads + 1) * b.nbytes)
    return measure


def driver_copy(b: Bench) -> dict:
    to, one = b.array(b.nbytes), b.array(b.nbytes)
    return b.timed(lambda: b.d.MemcpyDtoDAsync(to, one, b.nbytes, 0), 2 * b.nbytes)


def fill(b: Bench) -> dict:
    to = b.array(b.nbytes)
    return b.timed(lambda: b.d.MemsetD32Async(to, 0x3F800000, b.nbytes // 4, 0), b.nbytes)


def multiplied(b: Bench) -> dict:
    to = b.array(4 * b.blocks * THREADS)
    return b.timed(b.launches(b.kernel(fma_kernel(), "multiply"), b.blocks, to, b.turns), 2 * 4 * CHAINS * b.turns * b.blocks * THREADS)


def matrices(kind: str, k: int):
    def measure(b: Bench) -> dict:
        if b.capability < (8, 0): return {"missing": f"mma.sync of {kind} needs capability 8.0"}
        to = b.array(4 * b.blocks * THREADS)
        return b.timed(b.launches(b.kernel(mma_kernel(kind, k), "products", False), b.blocks, to, b.turns), 2 * 16 * 8 * k * TILES * b.turns * b.blocks * (THREADS // 32))
    return measure


def launched(b: Bench) -> dict:
    """By Python: what a launch costs at most, host and device together."""
    work, times = b.launches(b.kernel(".visible .entry nothing()\n{\n ret;\n}", "nothing"), 1), 2 if b.small else EMPTY

    def several():
        for _ in range(times): work()
    return b.timed(several, times)


LIMITS = {"copy": moved("copy", 1), "triad": moved("triad", 2), "driver's copy": driver_copy, "driver's fill": fill, "float32": multiplied,
          "tf32": matrices("tf32", 8), "bf16": matrices("bf16", 16), "launches": launched}


def limit(name: str, small: bool) -> dict:
    with contextlib.ExitStack() as ended:
        b = Bench(small)
        ended.callback(b.free)
        return LIMITS[name](b)


def facts() -> dict:
    b = Bench(True)
    free, total = b.d.MemGetInfo()
    return {"gpu": b.d.DeviceGetName(b.device), "uuid": b.d.DeviceGetUuid(b.device).hex(), "capability": list(b.capability), "sms": b.attribute("sms"),
            "clock_mhz": b.attribute("clock") // 1000,
            "memory_clock_mhz": b.attribute("memory_clock") // 1000, "bus_bits": b.attribute("bus_width"), "l2": b.attribute("l2"),
            "ecc": b.attribute("ecc"), "memory": total, "free": free,
            "cuda": f"{b.d.version // 1000}.{b.d.version % 1000 // 10}", "kernel_module": kernel_module(), "functions": repr(b.d), "simulated": b.d.machine is not None}
