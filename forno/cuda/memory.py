"""torch.cuda's names for memory: what is held, at most and in all, and how to let go of it.

Numbers count blocks, which hold values: so what was recorded runs before one is asked for. Without a device everything is 0.
"""
from __future__ import annotations

from collections import OrderedDict

from ..core.errors import OutOfMemoryError
from ..cudart import allocator, devices, host
from ..cudart.statistics import size_text
from ..framework.engine import flush
from . import where

_ROWS = (("Allocated memory", "allocated_bytes", True), ("Active memory", "active_bytes", True), ("Requested memory", "requested_bytes", True),
         ("GPU reserved memory", "reserved_bytes", True), ("Non-releasable memory", "inactive_split_bytes", True), ("Allocations", "allocation", False),
         ("Active allocs", "active", False), ("GPU reserved segments", "segment", False), ("Non-releasable allocs", "inactive_split", False))
_POOLS = (("all", ""), ("large_pool", "      from large pool"), ("small_pool", "      from small pool"))


def _of(device=None) -> allocator.Allocator | None:
    """A device's allocator with all that was dropped taken back; None: it was never used, or there is no device."""
    if devices.count() == 0: return None
    index = where.number(device)
    flush()
    if index not in devices.opened(): return None
    mine = allocator.of(devices.use(index), index)
    with mine.lock: mine.collect()
    return mine


def memory_stats_as_nested_dict(device=None) -> dict:
    mine = _of(device)
    return {} if mine is None else mine.stats.shown()


def memory_stats(device=None) -> OrderedDict:
    """Every number of the allocator: "allocated_bytes.all.peak" …"""
    out = []

    def walk(prefix, x):
        if isinstance(x, dict):
            for k, v in x.items(): walk(f"{prefix}.{k}" if prefix else k, v)
        else: out.append((prefix, x))
    walk("", memory_stats_as_nested_dict(device))
    return OrderedDict(sorted(out))


def _tally(device, name: str, what: str) -> int:
    mine = _of(device)
    return 0 if mine is None else getattr(mine.stats.tallies[name]["all"], what)


def memory_allocated(device=None) -> int: return _tally(device, "allocated_bytes", "current")
def max_memory_allocated(device=None) -> int: return _tally(device, "allocated_bytes", "peak")
def memory_reserved(device=None) -> int: return _tally(device, "reserved_bytes", "current")
def max_memory_reserved(device=None) -> int: return _tally(device, "reserved_bytes", "peak")


memory_cached, max_memory_cached = memory_reserved, max_memory_reserved


def reset_peak_memory_stats(device=None):
    if (mine := _of(device)) is not None: mine.stats.reset_peaks()


def reset_accumulated_memory_stats(device=None):
    if (mine := _of(device)) is not None: mine.stats.reset_accumulated()


reset_max_memory_allocated = reset_max_memory_cached = reset_peak_memory_stats


def empty_cache():
    """Gives the driver back what nobody has: other programs can have it then."""
    if devices.count() == 0: return
    flush()
    for index in devices.opened(): allocator.of(devices.use(index), index).empty_cache()


def mem_get_info(device=None) -> tuple[int, int]:
    """(free, total) bytes of a device, all programs' use counted."""
    return devices.use(where.number(device)).MemGetInfo()


def set_per_process_memory_fraction(fraction, device=None):
    """A bound on what this process may have of a device's memory."""
    if not isinstance(fraction, float): raise TypeError("Invalid type for fraction argument, must be `float`")
    if not 0 <= fraction <= 1: raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~1")
    index = where.number(device)
    allocator.of(devices.use(index), index).fraction = fraction


def get_per_process_memory_fraction(device=None) -> float:
    index = where.number(device)
    return allocator.of(devices.use(index), index).fraction


def memory_snapshot(mempool_id=None) -> list[dict]:
    """All segments of all devices and what they are divided into."""
    if devices.count() == 0: return []
    flush()
    return [s for index in devices.opened() for s in allocator.of(devices.use(index), index).snapshot()]


def host_memory_stats() -> OrderedDict:
    """Pinned memory of the host."""
    if devices.count() == 0 or not devices.opened(): return OrderedDict()
    pinned = host.of(devices.use(devices.opened()[0]))
    with pinned.lock: pinned.collect()
    idle = sum(size * len(free) for size, free in pinned.idle.items())
    total = sum(pinned.sizes.values())
    return OrderedDict((("active_bytes.current", total - idle), ("allocated_bytes.current", total), ("allocation.current", len(pinned.sizes))))


def memory_summary(device=None, abbreviated: bool = False) -> str:
    """The numbers as a table."""
    if devices.count() == 0: return "no CUDA device is available; nothing is allocated"
    index, stats = where.number(device), memory_stats(device)
    lines = ["=" * 75, " {:^73} ".format("PyTorch CUDA memory summary, device ID " + str(index)), "-" * 75,
             "  CUDA OOMs: {:<12d} | cudaMalloc retries: {:<8d}  ".format(stats.get("num_ooms", 0), stats.get("num_alloc_retries", 0)), "=" * 75,
             "        Metric         | Cur Usage  | Peak Usage | Tot Alloc  | Tot Freed  "]
    for title, name, is_size in _ROWS:
        lines.append("-" * 75)
        for pool, shown in _POOLS[:1] if abbreviated else _POOLS:
            numbers = [stats.get(f"{name}.{pool}.{what}", 0) for what in ("current", "peak", "allocated", "freed")]
            cells = [(size_text(n) if is_size else str(n)) for n in numbers]
            lines.append(f" {shown or title:<21} | {cells[0]:>10} | {cells[1]:>10} | {cells[2]:>10} | {cells[3]:>10} ")
    return "|" + "|\n|".join([*lines, "=" * 75]) + "|\n"


__all__ = ["OutOfMemoryError", "empty_cache", "get_per_process_memory_fraction", "host_memory_stats", "max_memory_allocated", "max_memory_cached", "max_memory_reserved",
           "mem_get_info", "memory_allocated", "memory_cached", "memory_reserved", "memory_snapshot", "memory_stats", "memory_stats_as_nested_dict", "memory_summary",
           "reset_accumulated_memory_stats", "reset_max_memory_allocated", "reset_max_memory_cached", "reset_peak_memory_stats", "set_per_process_memory_fraction"]
