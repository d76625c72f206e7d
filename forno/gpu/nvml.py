"""How busy GPUs are: the few functions of NVIDIA's management library (NVML) that torch.cuda asks.

Comes in: a device's UUID, which holds under any CUDA_VISIBLE_DEVICES. Goes out: numbers. The library comes with the driver, and is opened when somebody asks.
"""
from __future__ import annotations

import ctypes
import functools
from ctypes import byref, c_uint, c_ulonglong, c_void_p

NAMES = ("libnvidia-ml.so.1", "nvml.dll")
_INSUFFICIENT_SIZE = 7                         # NVML_ERROR_INSUFFICIENT_SIZE: how many there are was written
_SM_CLOCK, _ON_CHIP = 1, 0                     # NVML_CLOCK_SM, NVML_TEMPERATURE_GPU
_NONE = (1 << 64) - 1                          # NVML_VALUE_NOT_AVAILABLE


class Rates(ctypes.Structure):
    """nvmlUtilization_t: percent of the last period in which kernels ran, and memory was touched."""
    _fields_ = [("gpu", c_uint), ("memory", c_uint)]


class Memory(ctypes.Structure):
    """nvmlMemory_t"""
    _fields_ = [("total", c_ulonglong), ("free", c_ulonglong), ("used", c_ulonglong)]


class Process(ctypes.Structure):
    """nvmlProcessInfo_t of version 3"""
    _fields_ = [("pid", c_uint), ("used", c_ulonglong), ("instance", c_uint), ("compute", c_uint)]


@functools.cache
def library(names: tuple[str, ...]):
    """NVML, initialised."""
    said = ""
    for name in names:
        try: found = ctypes.CDLL(name)
        except OSError as e: said = said or str(e)
        else:
            found.nvmlErrorString.restype = ctypes.c_char_p
            check(found, "nvmlInit_v2", found.nvmlInit_v2())
            return found
    raise RuntimeError(f"NVIDIA's management library, which knows how busy a GPU is, can't be loaded ({said}): it comes with the driver; "
                       "a container needs the driver's capability 'utility'")


def check(nvml, name: str, code: int):
    if code: raise RuntimeError(f"{name}: {nvml.nvmlErrorString(code).decode()} ({code})")


def handle(uuid: str) -> tuple:
    """(the library, its handle of a device); `uuid` without what kind it is, a GPU's or a MIG instance's."""
    nvml, out = library(NAMES), c_void_p()
    for kind in ("GPU-", "MIG-"):
        code = nvml.nvmlDeviceGetHandleByUUID(f"{kind}{uuid}".encode(), byref(out))
        if not code: break
    check(nvml, "nvmlDeviceGetHandleByUUID", code)
    return nvml, out


def ask(uuid: str, name: str, out, *before):
    """What a function writes for a device."""
    nvml, device = handle(uuid)
    check(nvml, name, getattr(nvml, name)(device, *before, byref(out)))
    return out


def rates(uuid: str) -> Rates: return ask(uuid, "nvmlDeviceGetUtilizationRates", Rates())
def temperature(uuid: str) -> int: return ask(uuid, "nvmlDeviceGetTemperature", c_uint(), _ON_CHIP).value
def milliwatts(uuid: str) -> int: return ask(uuid, "nvmlDeviceGetPowerUsage", c_uint()).value
def megahertz(uuid: str) -> int: return ask(uuid, "nvmlDeviceGetClockInfo", c_uint(), _SM_CLOCK).value
def memory(uuid: str) -> Memory: return ask(uuid, "nvmlDeviceGetMemoryInfo", Memory())


def processes(uuid: str) -> list[tuple[int, int]]:
    """(process, bytes of the device's memory) of all that compute there; 0 where the driver may not tell."""
    nvml, device = handle(uuid)
    count, found = c_uint(0), None
    for _ in range(3):                         # more may come while we ask
        code = nvml.nvmlDeviceGetComputeRunningProcesses_v3(device, byref(count), found)
        if code != _INSUFFICIENT_SIZE: break
        count.value += 4
        found = (Process * count.value)()
    check(nvml, "nvmlDeviceGetComputeRunningProcesses_v3", code)
    return [(p.pid, 0 if p.used == _NONE else p.used) for p in (found or ())[:count.value]]
