"""A plan's kernels, queued in a stream of one device.

Every parameter of a kernel is an 8-byte word: operands' addresses and numbers, which each run has anew, then the kernel's own numbers.
"""
from __future__ import annotations

import ctypes
import struct

from ..core.kernels import DeviceLaunch
from . import code, devices, memory


class Table:
    """The launches of a plan: `nvals` words of values come with each run, and one more per entry of `arena_offsets`, the address of that byte of the run's arena."""

    def __init__(self, device: str, steps: list[tuple[DeviceLaunch, tuple[int, ...]]], nvals: int, arena_bytes: int, arena_offsets: tuple[int, ...]):
        self.device, self.index, self.nvals, self.arena_bytes, self.arena_offsets = device, devices.number_of(device), nvals, arena_bytes, arena_offsets
        self.steps = []
        for launch, places in steps:
            words = (ctypes.c_int64 * (len(places) + len(launch.words)))(*[0] * len(places), *launch.words)
            at = ctypes.addressof(words)
            self.steps.append((launch, places, words, (ctypes.c_void_p * len(words))(*[at + 8 * k for k in range(len(words))])))

    def frame(self, vals: bytes) -> Frame: return Frame(self, vals)


class Frame:
    """One run's values; they and the arena live until its work is queued."""
    __slots__ = ("table", "values", "arena")

    def __init__(self, table: Table, vals: bytes):
        self.table, self.arena = table, memory.empty(table.arena_bytes, table.device) if table.arena_offsets else None
        self.values = (*struct.unpack(f"{table.nvals}q", vals), *[self.arena.address + o for o in table.arena_offsets])

    def run(self, first: int, last: int):
        """Queue some of the steps."""
        driver, values, index = devices.use(self.table.index), self.values, self.table.index
        for launch, places, words, parameters in self.table.steps[first:last]:
            for k, p in enumerate(places): words[k] = values[p]
            driver.LaunchKernel(code.function(driver, index, launch.ptx, launch.name), *launch.grid, *launch.block, launch.shared, 0, parameters, None)
