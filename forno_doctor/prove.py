"""Proves on one GPU that it works, through the driver alone: takes memory, runs a small kernel, reads back and compares, and measures how fast memory is copied. Runs as a
program of its own (`prove.py DEVICE MEGABYTES`), because a driver may hang or end the process; prints JSON.

The kernel is PTX 6.0 for compute capability 5.0, which every driver since CUDA 9.0 can compile for every GPU since Maxwell.
Source: CUDA Driver API, "Memory Management", "Execution Control", "Event Management"; PTX ISA, "Instruction Set".
"""
import ctypes
import json
import sys
import time
from ctypes import byref, c_float, c_int, c_size_t, c_uint, c_uint64, c_void_p

LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
COUNT, BLOCK, FACTOR = 1 << 16, 256, 2654435761            # numbers, threads of a block, and Knuth's multiplier: y[i] = x[i] * FACTOR + i, modulo 2**32
COPIES = 8
MEMORY_CLOCK, BUS_WIDTH = 36, 37                           # attributes of a device: kHz, bits

PTX = """.version 6.0
.target sm_50
.address_size 64

.visible .entry prove(.param .u64 y, .param .u64 x, .param .u32 n)
{
    .reg .pred %p;
    .reg .b32 %i, %n, %v, %t, %b, %w;
    .reg .b64 %x, %y, %o;
    mov.u32 %b, %ctaid.x;
    mov.u32 %w, %ntid.x;
    mov.u32 %t, %tid.x;
    mad.lo.u32 %i, %b, %w, %t;
    ld.param.u32 %n, [n];
    setp.ge.u32 %p, %i, %n;
    @%p bra END;
    ld.param.u64 %x, [x];
    ld.param.u64 %y, [y];
    mul.wide.u32 %o, %i, 4;
    add.u64 %x, %x, %o;
    add.u64 %y, %y, %o;
    ld.global.u32 %v, [%x];
    mad.lo.u32 %v, %v, """ + str(FACTOR - (1 << 32)) + """, %i;
    st.global.u32 [%y], %v;
END:
    ret;
}
"""


class Failed(Exception):
    """A function of the driver said no."""

    def __init__(self, function: str, code: int):
        super().__init__(f"{function} returned {code}")
        self.function, self.code = function, code


class Driver:
    """`find`: from a function's name to it."""

    def __init__(self, find): self.find = find

    def __call__(self, function: str, *arguments):
        code = self.find(function)(*arguments)
        if code: raise Failed(function, code)


def prove(driver, device: int, nbytes: int) -> dict:
    """What came out: "ok", or the "step" that failed with the driver's "code"; `nbytes`: of the copies that are measured (bytes per second)."""
    out: dict = {"device": device, "ok": False}
    start = time.perf_counter()
    try:
        for name, step in STEPS:
            out["step"] = name
            step(driver, out, nbytes)
    except Failed as failed: out |= {"function": failed.function, "code": failed.code}
    else:
        del out["step"]
        out["ok"] = out["wrong"] == 0
    out["seconds"] = round(time.perf_counter() - start, 3)
    return {k: v for k, v in out.items() if not k.startswith("_")}


def open_device(driver, out, nbytes):
    handle, context, number, name = c_int(), c_void_p(), c_int(), ctypes.create_string_buffer(256)
    driver("cuInit", c_uint(0))
    driver("cuDeviceGet", byref(handle), c_int(out["device"]))
    driver("cuDeviceGetName", name, c_int(256), handle)
    out["name"] = name.value.decode("utf-8", "replace")
    driver("cuDevicePrimaryCtxRetain", byref(context), handle)
    driver("cuCtxSetCurrent", context)
    found = []
    for attribute in (MEMORY_CLOCK, BUS_WIDTH):
        driver("cuDeviceGetAttribute", byref(number), c_int(attribute), handle)
        found.append(number.value)
    clock, width = found
    if clock and width: out["theory"] = 2e3 * clock * width / 8        # two transfers per clock; newer drivers report no clock


def take_memory(driver, out, nbytes):
    out["_x"], out["_y"] = c_uint64(), c_uint64()
    for place in (out["_x"], out["_y"]): driver("cuMemAlloc_v2", byref(place), c_size_t(max(nbytes, 4 * COUNT)))


def compile_kernel(driver, out, nbytes):
    module, out["_kernel"] = c_void_p(), c_void_p()
    driver("cuModuleLoadDataEx", byref(module), ctypes.c_char_p(PTX.encode()), c_uint(0), c_void_p(), c_void_p())
    driver("cuModuleGetFunction", byref(out["_kernel"]), module, ctypes.c_char_p(b"prove"))


def run_kernel(driver, out, nbytes):
    x, y, n = out["_x"], out["_y"], c_uint(COUNT)
    given = (c_uint * COUNT)(*((k * 40503) & 0xFFFFFFFF for k in range(COUNT)))
    got = (c_uint * COUNT)()
    driver("cuMemcpyHtoD_v2", x, ctypes.cast(given, c_void_p), c_size_t(4 * COUNT))
    parameters = (c_void_p * 3)(*(ctypes.addressof(p) for p in (y, x, n)))
    one, block = c_uint(1), c_uint(BLOCK)
    driver("cuLaunchKernel", out["_kernel"], c_uint((COUNT + BLOCK - 1) // BLOCK), one, one, block, one, one, c_uint(0), c_void_p(), ctypes.cast(parameters, c_void_p), c_void_p())
    driver("cuCtxSynchronize")
    driver("cuMemcpyDtoH_v2", ctypes.cast(got, c_void_p), y, c_size_t(4 * COUNT))
    out["wrong"] = sum([v != ((g * FACTOR + i) & 0xFFFFFFFF) for i, (g, v) in enumerate(zip(given, got))])


def measure(driver, out, nbytes):
    host, size = c_void_p(), c_size_t(nbytes)
    driver("cuMemHostAlloc", byref(host), size, c_uint(0))
    x, y, stream = out["_x"], out["_y"], c_void_p()
    out["bandwidth"] = {"device": 2 * _rate(driver, nbytes, "cuMemcpyDtoDAsync_v2", y, x, size, stream), "in": _rate(driver, nbytes, "cuMemcpyHtoDAsync_v2", x, host, size, stream),
                        "out": _rate(driver, nbytes, "cuMemcpyDtoHAsync_v2", host, x, size, stream)}
    driver("cuMemFreeHost", host)
    for place in (x, y): driver("cuMemFree_v2", place)


def _rate(driver, nbytes: int, function: str, *arguments) -> float:
    """Bytes per second of a copy, by the device's own clock; the first is not counted."""
    start, end, passed = c_void_p(), c_void_p(), c_float()
    for event in (start, end): driver("cuEventCreate", byref(event), c_uint(0))
    driver(function, *arguments)
    driver("cuEventRecord", start, c_void_p())
    for _ in range(COPIES): driver(function, *arguments)
    driver("cuEventRecord", end, c_void_p())
    driver("cuEventSynchronize", end)
    driver("cuEventElapsedTime", byref(passed), start, end)
    return COPIES * nbytes / max(passed.value, 1e-6) * 1e3


STEPS = ("open", open_device), ("memory", take_memory), ("compile", compile_kernel), ("kernel", run_kernel), ("bandwidth", measure)


def main(device: str, megabytes: str) -> int:
    try: library = ctypes.CDLL(LIBRARY)
    except OSError as error:
        print(json.dumps({"device": int(device), "ok": False, "step": "library", "error": str(error)}))
        return 1
    proof = prove(Driver(lambda name: getattr(library, name)), int(device), int(megabytes) << 20)
    print(json.dumps(proof))
    return not proof["ok"]


if __name__ == "__main__": sys.exit(main(*sys.argv[1:]))
