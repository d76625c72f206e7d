"""Asks NVIDIA's driver what it is and which devices it has. Runs as a program of its own, because a driver may hang or end the process.

No context is made and no memory is taken. Prints two lines of JSON: what NVML says, which sees all GPUs; then the same with what CUDA says, which sees those that this
process may use. The first is worth having where the second never comes.
Source: CUDA Driver API, "Initialization", "Version Management", "Device Management"; NVML API Reference, "Device Queries", "Multi Instance GPU Management".
"""
import ctypes
import glob
import json
import os
import stat
import sys

ATTRIBUTES = {"major": 75, "minor": 76, "integrated": 18, "compute_mode": 20, "ecc": 32, "processors": 16}
WINDOWS = sys.platform == "win32"
LIBRARY, MANAGEMENT = ("nvcuda.dll", "nvml.dll") if WINDOWS else ("libcuda.so.1", "libnvidia-ml.so.1")


def probe(out: dict) -> dict:
    try: cuda = ctypes.CDLL(LIBRARY)
    except OSError as error: return {**out, "error": str(error)}
    out.update(library=LIBRARY, file=loaded_file(), init=call(cuda, "cuInit", 0))
    number = ctypes.c_int()
    if call(cuda, "cuDriverGetVersion", ctypes.byref(number)) == 0: out["version"] = number.value
    if out["init"]: return out
    call(cuda, "cuDeviceGetCount", ctypes.byref(number))
    out["devices"] = [device(cuda, k) for k in range(number.value)]
    return out


def call(library, name: str, *arguments):
    """What a function returns; None where this library, which may be old, doesn't have it."""
    f = getattr(library, name, None)
    return None if f is None else f(*arguments)


def device(cuda, index: int) -> dict:
    handle, number, size = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name, uuid = ctypes.create_string_buffer(256), (ctypes.c_ubyte * 16)()
    call(cuda, "cuDeviceGet", ctypes.byref(handle), index)
    call(cuda, "cuDeviceGetName", name, 256, handle)
    out = {"name": name.value.decode("utf-8", "replace")}
    if call(cuda, "cuDeviceTotalMem_v2", ctypes.byref(size), handle) == 0: out["memory"] = size.value
    if call(cuda, "cuDeviceGetUuid", ctypes.byref(uuid), handle) == 0: out["uuid"] = bytes(uuid).hex()
    for key, attribute in ATTRIBUTES.items():
        if call(cuda, "cuDeviceGetAttribute", ctypes.byref(number), attribute, handle) == 0: out[key] = number.value
    return out


def management() -> dict:
    """What NVML says: its own code, the driver's version, and all GPUs."""
    try: nvml = ctypes.CDLL(MANAGEMENT)
    except OSError: return {}
    out, text, count = {"init": call(nvml, "nvmlInit_v2")}, ctypes.create_string_buffer(96), ctypes.c_uint()
    if out["init"]: return out
    if call(nvml, "nvmlSystemGetDriverVersion", text, 96) == 0: out["driver"] = text.value.decode("ascii", "replace")
    call(nvml, "nvmlDeviceGetCount_v2", ctypes.byref(count))
    out["devices"] = [d for d in (managed(nvml, k) for k in range(count.value)) if d]
    return out


def managed(nvml, index: int) -> dict:
    handle, text, memory = ctypes.c_void_p(), ctypes.create_string_buffer(96), (ctypes.c_ulonglong * 3)()
    a, b, out = ctypes.c_int(), ctypes.c_int(), {}
    if call(nvml, "nvmlDeviceGetHandleByIndex_v2", index, ctypes.byref(handle)) != 0: return out
    for key, name in (("name", "nvmlDeviceGetName"), ("uuid", "nvmlDeviceGetUUID")):
        if call(nvml, name, handle, text, 96) == 0: out[key] = text.value.decode("utf-8", "replace")
    if call(nvml, "nvmlDeviceGetMemoryInfo", handle, memory) == 0: out["memory"] = memory[0]
    if call(nvml, "nvmlDeviceGetCudaComputeCapability", handle, ctypes.byref(a), ctypes.byref(b)) == 0: out.update(major=a.value, minor=b.value)
    if call(nvml, "nvmlDeviceGetComputeMode", handle, ctypes.byref(a)) == 0: out["compute_mode"] = a.value
    if call(nvml, "nvmlDeviceGetMigMode", handle, ctypes.byref(a), ctypes.byref(b)) == 0 and a.value:
        out["instances"] = []
        call(nvml, "nvmlDeviceGetMaxMigDeviceCount", handle, ctypes.byref(b))
        for k in range(b.value):
            part = ctypes.c_void_p()
            if call(nvml, "nvmlDeviceGetMigDeviceHandleByIndex", handle, k, ctypes.byref(part)) == 0 and call(nvml, "nvmlDeviceGetUUID", part, text, 96) == 0:
                out["instances"].append(text.value.decode("ascii", "replace"))
    return out


def denied() -> list:
    """[file, group that may use it, or None] for each of the driver's devices that this user may not."""
    out = []
    for path in sorted(glob.glob("/dev/nvidia[0-9]*") + glob.glob("/dev/nvidiactl") + glob.glob("/dev/nvidia-uvm")):
        if os.access(path, os.R_OK | os.W_OK): continue
        try: s = os.stat(path)
        except OSError: continue
        both = stat.S_IRGRP | stat.S_IWGRP
        out.append([path, s.st_gid if s.st_gid and s.st_mode & both == both else None])
    return out


def loaded_file():
    """The file that this process got for the driver's library."""
    try:
        with open("/proc/self/maps", encoding="utf-8", errors="replace") as f: return next((line.split(None, 5)[5].strip() for line in f if "/libcuda.so" in line), None)
    except OSError: return None


if __name__ == "__main__":
    first = {"library": None, "denied": denied(), "nvml": management()}
    print(json.dumps(first), flush=True)
    print(json.dumps(probe(first)))
