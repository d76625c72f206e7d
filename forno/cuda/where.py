"""Which device an argument of torch.cuda's functions names."""
from __future__ import annotations

from uuid import UUID

from ..core.errors import unsupported
from ..cudart import devices
from ..framework import api as torch


def number(device=None) -> int:
    """A device's number; None is this thread's. An error where there is no device at all, or not this one."""
    if isinstance(device, str): device = torch.device(device)
    if isinstance(device, torch.device):
        if device.type != "cuda": raise ValueError(f"Expected a cuda device, but got: {device}")
        device = device.index
    if devices.count() == 0: raise AssertionError(devices.ABSENT)
    if device is None or device.__class__ is int and device < 0: return devices.current()
    if not isinstance(device, int): raise ValueError(f"Expected a torch.device with a specified index or an integer, but got: {device}")
    devices.place(device)
    return device


def valid(device, what: str = "device") -> int:
    """The same, with the error of those functions that look for themselves."""
    try: return number(device)
    except RuntimeError: raise AssertionError(f"Invalid {what} id") from None


def name(index: int): return torch.device("cuda", index)


def uuid(index: int) -> str:
    """A device's identity, by which every program knows it."""
    driver = devices.use(index)
    return str(UUID(bytes=driver.DeviceGetUuid(driver.DeviceGet(index))))


def sensors(asked: str, index: int) -> str:
    """The same for NVIDIA's management library, which knows real devices only."""
    if devices.use(index).machine is not None: raise unsupported(asked, device="cuda", instead="a simulated GPU has no sensors; nvidia-smi tells of real ones")
    return uuid(index)
