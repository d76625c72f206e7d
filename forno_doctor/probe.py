"""Asks NVIDIA's driver what it is and which devices it has. Runs as a program of its own, because a driver may hang or end the process; prints JSON.

No context is made and no memory is taken. Source: CUDA Driver API, "Initialization", "Version Management", "Device Management".
"""
import ctypes
import json
import sys

ATTRIBUTES = {"major": 75, "minor": 76, "integrated": 18, "compute_mode": 20, "ecc": 32, "processors": 16}
LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


def probe() -> dict:
    try: cuda = ctypes.CDLL(LIBRARY)
    except OSError as error: return {"library": None, "error": str(error)}
    out = {"library": LIBRARY, "init": cuda.cuInit(0)}
    number = ctypes.c_int()
    if cuda.cuDriverGetVersion(ctypes.byref(number)) == 0: out["version"] = number.value
    if out["init"]: return out
    cuda.cuDeviceGetCount(ctypes.byref(number))
    out["devices"] = [device(cuda, k) for k in range(number.value)]
    return out


def device(cuda, index: int) -> dict:
    handle, number, size = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t()
    name, uuid = ctypes.create_string_buffer(256), (ctypes.c_ubyte * 16)()
    cuda.cuDeviceGet(ctypes.byref(handle), index)
    cuda.cuDeviceGetName(name, 256, handle)
    out = {"name": name.value.decode("utf-8", "replace")}
    if cuda.cuDeviceTotalMem_v2(ctypes.byref(size), handle) == 0: out["memory"] = size.value
    if cuda.cuDeviceGetUuid(ctypes.byref(uuid), handle) == 0: out["uuid"] = bytes(uuid).hex()
    for key, attribute in ATTRIBUTES.items():
        if cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, handle) == 0: out[key] = number.value
    return out


if __name__ == "__main__": print(json.dumps(probe()))
