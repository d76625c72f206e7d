"""PTX to functions of a device."""
from __future__ import annotations

import functools

from . import devices


@functools.cache
def function(index: int, ptx: str, name: str) -> int:
    """The handle of a kernel on a device."""
    driver = devices.use(index)
    return driver.ModuleGetFunction(driver.ModuleLoadDataEx(ptx.encode() + b"\0", 0, None, None), name.encode())
