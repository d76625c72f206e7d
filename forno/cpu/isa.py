"""What the processor can do, asked of LLVM feature by feature; names of processors are not trusted (virtual machines lie about them).

Comes in: the host, and `FORNO_CPU`, which narrows it to test code for smaller processors. Goes out: one `Isa`, and its fields as names of
this module: what LLVM generates for, how wide vectors are, which instructions a kernel may use, how big the caches are, how many cores there are.
"""
from __future__ import annotations

import ctypes
import functools
import glob
import os
import platform
from dataclasses import dataclass

import llvmlite.binding as llvm

from ..core.flags import flags

# Each level: what it must have, what it may use besides, LLVM's generic processor of that level (its tuning and scheduling model).
_BASE = ("sse", "sse2", "cmov", "cx8", "fxsr")
_AVX2 = ("sse3", "ssse3", "sse4.1", "sse4.2", "popcnt", "avx", "avx2", "fma", "f16c", "bmi", "bmi2")
_AVX512 = ("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512cd")
_MORE2 = ("lzcnt", "movbe", "cx16", "sahf", "crc32", "xsave")
_MORE512 = ("avx512bf16", "avx512fp16", "avx512vnni", "avx512vbmi", "avx512vbmi2", "avx512ifma", "avx512bitalg", "avx512vpopcntdq",
            "amx-tile", "amx-bf16", "amx-int8", "amx-fp16")
_LEVELS = {                                    # widest first: 'native' takes the first one the host has in full
    "avx512": (_BASE + _AVX2 + _AVX512, _MORE2 + _MORE512, "x86-64-v4", 64),
    "avx2": (_BASE + _AVX2, _MORE2, "x86-64-v3", 32),
    "baseline": (_BASE, (), "x86-64", 16),
}
_NEON_MORE = ("fp-armv8", "fullfp16", "dotprod", "bf16", "i8mm", "fp16fml", "lse", "rdm", "crc", "sve", "sve2")


@dataclass(frozen=True, slots=True)
class Isa:
    level: str                                 # avx512, avx2, baseline, neon
    cpu: str                                   # LLVM's name: a generic processor of the level, never the host's
    features: str                              # flattened, for llvm.Target.create_target_machine
    vector_bytes: int
    usable: frozenset[str]

    def has(self, name: str) -> bool: return name in self.usable

    @property
    def attributes(self) -> str:
        """Function attributes of every kernel: without the widths LLVM splits 512-bit vectors in two on processors it thinks slow at them."""
        width = f' "prefer-vector-width"="{self.vector_bytes * 8}" "min-legal-vector-width"="{self.vector_bytes * 8}"' if self.level == "avx512" else ""
        return f'nounwind "no-trapping-math"="true" "frame-pointer"="none"{width}'


def host_features() -> frozenset[str]:
    """LLVM's names of what the host has and the operating system saves (AVX and AMX state included)."""
    have = {name for name, on in llvm.get_host_cpu_features().items() if on}
    if "amx-tile" in have and not _amx_permitted(): have = {f for f in have if not f.startswith("amx")}
    return frozenset(have)


def _amx_permitted() -> bool:
    """Linux gives the 8 KB of tile registers only to processes that ask, once, before their threads start: hence at import."""
    if not hasattr(os, "uname") or os.uname().sysname != "Linux": return False
    libc = ctypes.CDLL(None, use_errno=True)
    arch_prctl, request_permission, tile_data = 158, 0x1023, 18
    return libc.syscall(arch_prctl, request_permission, tile_data) == 0


def choose(wanted: str, have: frozenset[str], machine: str) -> Isa:
    """The level `wanted` ('native': the widest) on a machine with the features `have`; an error that says what is missing if it can't be."""
    if machine.lower() in ("aarch64", "arm64"):
        if wanted not in ("native", "baseline"): raise RuntimeError(f"FORNO_CPU={wanted}: this is an {machine} processor; use native or baseline")
        use = frozenset({"neon"} | ({f for f in _NEON_MORE if f in have} if wanted == "native" else set()))
        return Isa("neon", "generic", ",".join(f"+{f}" for f in sorted(use)), 16, use)
    if machine.lower() not in ("x86_64", "amd64"): raise RuntimeError(f"no code generator for {machine} processors: x86-64 and aarch64 only")
    for level, (must, may, cpu, width) in _LEVELS.items():
        missing = [f for f in must if f not in have]
        if missing and level == wanted:
            raise RuntimeError(f"FORNO_CPU={wanted}: this processor lacks {', '.join(missing)}; set a narrower level, or native")
        if missing or wanted not in ("native", level): continue
        use = frozenset(must) | {f for f in may if f in have}
        # every optional feature is switched on or off by name: the generic processor's own list must not add what the host lacks
        flat = [f"+{f}" for f in sorted(use)] + [f"-{f}" for f in sorted({*_MORE2, *_MORE512} - use)]
        if level != "avx512": flat += ["-avx512f"]
        if level == "avx512": flat += ["-prefer-256-bit"]
        if level == "baseline": flat += ["-sse3", "-avx"]
        if "sse4a" in have: flat += ["+prefer-no-gather"]      # AMD's gathers are slower than loads one by one, and their prefetchers don't see them
        return Isa(level, cpu, ",".join(flat), width, use)
    raise RuntimeError(f"this x86-64 processor lacks {', '.join(f for f in _BASE if f not in have)}")


if os.name != "posix": raise RuntimeError("forno's CPU floor needs Linux or macOS; on Windows run it under WSL")
current = choose(flags.CPU, host_features(), platform.machine())
level, cpu, features, vector_bytes, attributes, has = (
    current.level, current.cpu, current.features, current.vector_bytes, current.attributes, current.has)


def _read(path: str, default: str = "") -> str:
    try:
        with open(path) as f: return f.read().strip()
    except OSError: return default


@functools.cache
def caches() -> tuple[int, int, int]:
    """Bytes of L1 data, L2 and L3 as one core sees them; common sizes where the system doesn't tell."""
    found = {1: 32 << 10, 2: 512 << 10, 3: 8 << 20}
    for folder in glob.glob("/sys/devices/system/cpu/cpu0/cache/index*"):
        size, kind, depth = (_read(f"{folder}/{name}") for name in ("size", "type", "level"))
        unit = {"K": 10, "M": 20, "G": 30}.get(size[-1:], 0)
        digits = size.rstrip("KMG")
        if kind in ("Data", "Unified") and digits.isdigit() and int(digits): found[int(depth)] = int(digits) << unit
    return found[1], found[2], found[3]


@functools.cache
def cores() -> int:
    """Physical cores this process may use: affinity and a container's quota count, a core's second hyperthread doesn't."""
    may = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)
    count = len({_read(f"/sys/devices/system/cpu/cpu{i}/topology/thread_siblings_list", str(i)) for i in may})
    quota, _, period = _read("/sys/fs/cgroup/cpu.max", "max 100000").partition(" ")
    if quota.isdigit() and period.isdigit() and int(period): count = min(count, -(-int(quota) // int(period)))
    return max(count, 1)


def describe() -> str:
    l1, l2, l3 = caches()
    extras = [f for f in ("avx512bf16", "avx512fp16", "amx-bf16", "amx-int8", "fullfp16", "bf16", "sve2") if has(f)]
    forced = "" if flags.CPU == "native" else f" (FORNO_CPU={flags.CPU})"
    return (f"{platform.machine()} {level}{forced}, vectors of {vector_bytes} bytes{', with ' + ' '.join(extras) if extras else ''}, "
            f"{cores()} cores, L1 {l1 >> 10} KiB, L2 {l2 >> 10} KiB, L3 {l3 >> 10} KiB")
