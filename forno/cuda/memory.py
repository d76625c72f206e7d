"""torch.cuda's names for memory: what is held, at most and in all, who asked for it, and how to let go of it.

Numbers count blocks, which hold values: so what was recorded runs before one is asked for. Without a device everything is 0.
"""
from __future__ import annotations

import contextlib
import pickle
import sys
import warnings
from collections import OrderedDict

from ..core.errors import OutOfMemoryError as OutOfMemoryError, unsupported
from ..cudart import allocator, devices, exchange, history, host, streams
from ..framework.engine import flush
from ..gpu import nvml
from . import where

__all__ = ["CUDAPluggableAllocator", "MemPool", "caching_allocator_alloc", "caching_allocator_delete", "caching_allocator_disabled", "caching_allocator_enable",
           "change_current_allocator", "empty_cache", "get_allocator_backend", "get_per_process_memory_fraction", "host_memory_stats", "host_memory_stats_as_nested_dict",
           "list_gpu_processes", "max_memory_allocated", "max_memory_cached", "max_memory_reserved", "mem_get_info", "memory_allocated", "memory_cached", "memory_reserved",
           "memory_snapshot", "memory_stats", "memory_stats_as_nested_dict", "memory_summary", "reset_accumulated_host_memory_stats", "reset_accumulated_memory_stats",
           "reset_max_memory_allocated", "reset_max_memory_cached", "reset_peak_host_memory_stats", "reset_peak_memory_stats", "set_per_process_memory_fraction", "use_mem_pool"]


def _of(device=None) -> allocator.Allocator | None:
    """A device's allocator with all that was dropped taken back; None: it was never used, or there is no device."""
    if devices.count() == 0: return None
    index = where.number(device)
    flush()
    if index not in devices.opened(): return None
    mine = allocator.of(devices.use(index), index)
    exchange.take_back()
    with mine.lock: mine.collect()
    return mine


def _all() -> list[allocator.Allocator]:
    """Those of all devices that were used."""
    if devices.count() == 0: return []
    flush()
    return [allocator.of(devices.use(index), index) for index in devices.opened()]


# ---------------------------------------------------------------- numbers
def memory_stats_as_nested_dict(device=None) -> dict:
    """Every number of a device's allocator, by what, which pool, and when."""
    mine = _of(device)
    return {} if mine is None else mine.stats.shown()


def _flat(nested: dict) -> OrderedDict:
    out = []

    def walk(prefix, x):
        if isinstance(x, dict):
            for k, v in x.items():
                name = "_".join(map(str, k)) if isinstance(k, tuple) else k
                walk(f"{prefix}.{name}" if prefix else name, v)
        else: out.append((prefix, x))
    walk("", nested)
    return OrderedDict(sorted(out))


def memory_stats(device=None) -> OrderedDict:
    """Every number of the allocator: "allocated_bytes.all.peak" …"""
    return _flat(memory_stats_as_nested_dict(device))


def _tally(device, name: str, what: str) -> int:
    mine = _of(device)
    return 0 if mine is None else getattr(mine.stats.tallies[name]["all"], what)


def memory_allocated(device=None) -> int: return _tally(device, "allocated_bytes", "current")
def max_memory_allocated(device=None) -> int: return _tally(device, "allocated_bytes", "peak")
def memory_reserved(device=None) -> int: return _tally(device, "reserved_bytes", "current")
def max_memory_reserved(device=None) -> int: return _tally(device, "reserved_bytes", "peak")


def memory_cached(device=None) -> int:
    """memory_reserved's old name."""
    warnings.warn("`torch.cuda.memory_cached` has been renamed to `torch.cuda.memory_reserved`", FutureWarning, stacklevel=2)
    return memory_reserved(device)


def max_memory_cached(device=None) -> int:
    """max_memory_reserved's old name."""
    warnings.warn("`torch.cuda.max_memory_cached` has been renamed to `torch.cuda.max_memory_reserved`", FutureWarning, stacklevel=2)
    return max_memory_reserved(device)


def reset_peak_memory_stats(device=None):
    """Peaks are counted from here on."""
    if (mine := _of(device)) is not None: mine.stats.reset_peaks()


def reset_accumulated_memory_stats(device=None):
    """What was given out and taken back in all is counted from here on."""
    if (mine := _of(device)) is not None: mine.stats.reset_accumulated()


def reset_max_memory_allocated(device=None):
    """reset_peak_memory_stats's old name."""
    warnings.warn("torch.cuda.reset_max_memory_allocated now calls torch.cuda.reset_peak_memory_stats, which resets /all/ peak memory stats.", FutureWarning, stacklevel=2)
    return reset_peak_memory_stats(device)


def reset_max_memory_cached(device=None):
    """reset_peak_memory_stats's old name."""
    warnings.warn("torch.cuda.reset_max_memory_cached now calls torch.cuda.reset_peak_memory_stats, which resets /all/ peak memory stats.", FutureWarning, stacklevel=2)
    return reset_peak_memory_stats(device)


def mem_get_info(device=None) -> tuple[int, int]:
    """(free, total) bytes of a device, all programs' use counted."""
    return devices.use(where.number(device)).MemGetInfo()


# ---------------------------------------------------------------- pinned memory of the host
def _pinned() -> host.Allocator | None:
    if devices.count() == 0 or not devices.opened(): return None
    pinned = host.of(devices.use(devices.opened()[0]))
    with pinned.lock: pinned.collect()
    return pinned


def host_memory_stats_as_nested_dict() -> dict:
    """Pinned memory of the host, by what and when."""
    pinned = _pinned()
    return {} if pinned is None else pinned.stats.shown()


def host_memory_stats() -> OrderedDict:
    """Pinned memory of the host: "active_bytes.peak" …"""
    return _flat(host_memory_stats_as_nested_dict())


def reset_accumulated_host_memory_stats():
    """What was given out and taken back in all is counted from here on."""
    if (pinned := _pinned()) is not None: pinned.stats.reset_accumulated()


def reset_peak_host_memory_stats():
    """Peaks are counted from here on."""
    if (pinned := _pinned()) is not None: pinned.stats.reset_peaks()


# ---------------------------------------------------------------- letting go, and bounds
def empty_cache():
    """Gives the driver back what nobody has: other programs can have it then."""
    for mine in _all(): mine.empty_cache()


def set_per_process_memory_fraction(fraction, device=None):
    """A bound on what this process may have of a device's memory."""
    index = where.number(device)
    if not isinstance(fraction, float): raise TypeError("Invalid type for fraction argument, must be `float`")
    if not 0 <= fraction <= 1: raise ValueError(f"Invalid fraction value: {fraction}. Allowed range: 0~1")
    allocator.of(devices.use(index), index).fraction = fraction


def get_per_process_memory_fraction(device=None) -> float:
    """What this process may have of a device's memory."""
    index = where.number(device)
    return allocator.of(devices.use(index), index).fraction


# ---------------------------------------------------------------- memory by address, and pools apart
def caching_allocator_alloc(size, device=None, stream=None) -> int:
    """The address of memory for other libraries, of the allocator that tensors' comes from."""
    index = where.number(device)
    if stream is None: stream = streams.current(index)
    elif not isinstance(stream, int): stream = getattr(stream, "cuda_stream", None)
    if not isinstance(stream, int): raise TypeError("Invalid type for stream argument, must be `torch.cuda.Stream` or `int` representing a pointer to an existing stream")
    return allocator.of(devices.use(index), index).lend(size, stream)


def caching_allocator_delete(mem_ptr):
    """Takes back what `caching_allocator_alloc` gave."""
    for mine in _all():
        if mem_ptr in mine.raw: return mine.take_back(mem_ptr)
    raise RuntimeError(f"invalid device pointer: {mem_ptr:#x}")


def caching_allocator_enable(value: bool = True):
    """Memory is always kept for what comes next."""
    if not value:
        raise unsupported("torch.cuda.caching_allocator_enable(False)", device="cuda", instead="torch.cuda.empty_cache() gives the driver back what is idle")


def caching_allocator_disabled():
    """A block in which nothing is kept: there is none."""
    raise unsupported("torch.cuda.caching_allocator_disabled", device="cuda", instead="torch.cuda.empty_cache() gives the driver back what is idle")


def get_allocator_backend() -> str:
    """Whose allocator it is."""
    where.number()
    return "native"


class CUDAPluggableAllocator:
    """Memory from somebody else's library: there is no such way."""

    def __init__(self, path_to_so_file: str, alloc_fn_name: str, free_fn_name: str):
        raise unsupported("torch.cuda.CUDAPluggableAllocator", device="cuda", instead="give tensors memory of other libraries by torch.from_dlpack")


def change_current_allocator(allocator):
    """Another allocator for all tensors: there is no such way."""
    raise unsupported("torch.cuda.change_current_allocator", device="cuda", instead="give tensors memory of other libraries by torch.from_dlpack")


class MemPool:
    """Memory apart from that of others, for what is recorded inside `use_mem_pool`. It is given back after this object and all tensors there have ended. `use_on_oom`: what
    is idle there is others' before they run out; `no_split`: what the driver gave at once is one tensor's."""

    def __init__(self, allocator=None, use_on_oom: bool = False, no_split: bool = False):
        if devices.count() == 0: raise RuntimeError("torch.cuda.MemPool requires CUDA support")
        if allocator is not None: raise unsupported(f"torch.cuda.MemPool(allocator={allocator!r})", device="cuda", instead="a pool without it")
        self.apart = _Apart()
        self.apart.users, self.apart.whole = 1, bool(no_split)
        if use_on_oom: _LAST_RESORT.append(self.apart)

    def __del__(self):
        if not hasattr(self, "apart"): return
        self.apart.users -= 1
        if self.apart in _LAST_RESORT: _LAST_RESORT.remove(self.apart)

    @property
    def id(self) -> tuple[int, int]:
        """The number, which graphs take as their pool, too."""
        return self.apart

    def use_count(self) -> int: return self.apart.users
    def snapshot(self, include_traces: bool = True) -> list[dict]: return memory_snapshot(self.id, include_traces)


_Apart, _LAST_RESORT = allocator.Graphs, allocator.LAST_RESORT


@contextlib.contextmanager
def use_mem_pool(pool: MemPool, device=None):
    """What this thread records inside has its memory from a pool."""
    index = where.number(device)
    flush()                                    # what came before lies where it always would
    mine = allocator.of(devices.use(index), index)
    mine.draw_from(pool.apart)
    try:
        yield
        flush()
    finally: mine.draw_no_more().users -= 1


# ---------------------------------------------------------------- what happened
def memory_snapshot(mempool_id=None, include_traces: bool = True) -> list[dict]:
    """All segments of all devices, or of one pool, and what they are divided into."""
    return [s for mine in _all() for s in mine.snapshot() if mempool_id is None or tuple(mempool_id) in ((0, 0), s["segment_pool_id"])]


def _record_memory_history(enabled="all", context="all", stacks="all", max_entries=sys.maxsize, device=None, clear_history=False, compile_context=False,
                           global_record_annotations=False, skip_actions=None):
    """Notes who asks for memory ("state"), and every event besides ("all"); None ends it. `stacks`: there are Python's lines only."""
    if isinstance(enabled, bool): enabled = "all" if enabled else None           # as it was called once
    if enabled not in (None, "state", "all"): raise RuntimeError(f"expected one of 'state', 'all' or None, but got {enabled!r}")
    if context not in (None, "state", "alloc", "all"): raise RuntimeError(f"expected one of 'state', 'alloc', 'all' or None as context, but got {context!r}")
    unknown = set(skip_actions or ()) - set(history.ACTIONS)
    if unknown: raise RuntimeError(f"unknown actions to skip: {', '.join(sorted(unknown))}; known are {', '.join(history.ACTIONS)}")
    driver = devices.use(where.number(device))
    flush()
    for mine in [allocator.of(driver, k) for k in range(devices.count())]:
        if enabled is None: mine.history.end()
        else: mine.history.begin(enabled == "all", context, max_entries, skip_actions or (), clear_history)


def _snapshot(device=None, augment_with_fx_traces: bool = False) -> dict:
    """Segments and events, as pytorch.org/memory_viz reads them from a pickle."""
    if augment_with_fx_traces: raise unsupported("torch.cuda.memory._snapshot(augment_with_fx_traces=True)", device="cuda", instead="a snapshot without them: there is no FX graph")
    here = _all()
    for mine in here:
        if mine.history.on: mine.history.note("snapshot", 0, 0, 0, None)
    traces = [[] for _ in range(devices.count())]
    for mine in here: traces[mine.index] = list(mine.history.entries)
    settings = {"PYTORCH_CUDA_ALLOC_CONF": "", "max_split_size": -1, "garbage_collection_threshold": 0.0, "expandable_segments": False, "backends": []}
    return {"segments": memory_snapshot(), "device_traces": traces, "allocator_settings": settings, "external_annotations": []}


def _dump_snapshot(filename="dump_snapshot.pickle", augment_with_fx_traces: bool = False):
    """Writes a snapshot to a file."""
    with open(filename, "wb") as f: pickle.dump(_snapshot(augment_with_fx_traces=augment_with_fx_traces), f)


def _set_memory_metadata(metadata: str):
    """What is noted with each event from now on."""
    history.METADATA[0] = metadata


def _get_memory_metadata() -> str: return history.METADATA[0]


def _allocation_traceback(data_ptr: int) -> list[dict] | None:
    """Who asked for the memory that begins there, if that was noted."""
    for s in memory_snapshot():
        for b in s["blocks"]:
            if b["address"] == data_ptr and b["state"] != allocator.IDLE and b["frames"]: return b["frames"]
    return None


# ---------------------------------------------------------------- as text
_ROWS = (("Allocated memory", "allocated_bytes"), ("Active memory", "active_bytes"), ("Requested memory", "requested_bytes"), ("GPU reserved memory", "reserved_bytes"),
         ("Non-releasable memory", "inactive_split_bytes"), ("Allocations", "allocation"), ("Active allocs", "active"), ("GPU reserved segments", "segment"),
         ("Non-releasable allocs", "inactive_split"))
_OVERSIZE = (("Oversize allocations", "oversize_allocations"), ("Oversize GPU segments", "oversize_segments"))
_POOLS = (("all", ""), ("large_pool", "      from large pool"), ("small_pool", "      from small pool"))
_WHAT = ("current", "peak", "allocated", "freed")


def _scaled(number: int, first: int, units, step: int, most: int) -> tuple[int, str]:
    """A number in the unit that suits the first of its column."""
    unit = units[0]
    for larger in units[1:]:
        if first < most: break
        unit, number, first = larger, number // step, first / step
    return number, unit


def _cells(name: str, numbers, firsts) -> str:
    if name.endswith("bytes"): shown = ["{:6d} {}".format(*_scaled(n, f, ("B  ", "KiB", "MiB", "GiB", "TiB", "PiB"), 1024, 768 * 1024)) for n, f in zip(numbers, firsts)]
    else: shown = ["{:7d} {} ".format(*_scaled(n, f, (" ", "K", "M"), 1000, 750 * 1000)) for n, f in zip(numbers, firsts)]
    return " | ".join(shown)


def memory_summary(device=None, abbreviated: bool = False) -> str:
    """The numbers as PyTorch's table."""
    if devices.count() == 0: return "no CUDA device is available; nothing is allocated"
    index, stats = where.number(device), memory_stats(device)
    lines = ["=" * 75, f" {'':16} PyTorch CUDA memory summary, device ID {index:<17d} ", "-" * 75,
             f"  {'':9} CUDA OOMs: {stats.get('num_ooms', 0):<12d} | {'':6} cudaMalloc retries: {stats.get('num_alloc_retries', 0):<8d}  ", "=" * 75,
             "        Metric         | Cur Usage  | Peak Usage | Tot Alloc  | Tot Freed  "]
    for title, name in _ROWS:
        lines.append("-" * 75)
        firsts = [stats.get(f"{name}.all.{what}", 0) for what in _WHAT]
        for pool, shown in _POOLS[:1] if abbreviated else _POOLS:
            lines.append(f" {shown or title:<21} | {_cells(name, [stats.get(f'{name}.{pool}.{what}', 0) for what in _WHAT], firsts)} ")
    for title, name in _OVERSIZE:
        numbers = [stats.get(f"{name}.{what}", 0) for what in _WHAT]
        lines += ["-" * 75, f" {title:<21} | {_cells(name, numbers, numbers)} "]
    return "|" + "|\n|".join([*lines, "=" * 75]) + "|\n"


def list_gpu_processes(device=None) -> str:
    """Who computes on a device, and with how much of its memory."""
    if devices.count() == 0: return "cuda driver can't be loaded, is cuda enabled?"
    index = where.number(device)
    found = nvml.processes(where.sensors("torch.cuda.list_gpu_processes", index))
    lines = [f"process {pid:>10d} uses {used / (1 << 20):>12.3f} MB GPU memory" for pid, used in found] or ["no processes are running"]
    return "\n".join([f"GPU:{index}", *lines])
