"""PTX to functions of a device."""
from __future__ import annotations

import functools


@functools.cache
def function(driver, index: int, ptx: str, name: str) -> int:
    """The handle of a kernel on a device, whose context is current."""
    return driver.ModuleGetFunction(driver.ModuleLoadDataEx(ptx.encode() + b"\0", 0, None, None), name.encode())
