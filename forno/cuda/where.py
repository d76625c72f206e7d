"""Which device an argument of torch.cuda's functions names."""
from __future__ import annotations

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


def name(index: int): return torch.device("cuda", index)
