"""Facts of NVIDIA's chips by compute capability: what a multiprocessor holds, which code it takes, since when PTX and the driver know it.

Comes in: a capability as (major, minor), and the driver's CUDA version. Goes out: a `Chip`, names of targets, PTX versions, and how many blocks fit.
"""
from __future__ import annotations

from dataclasses import dataclass

WARP = 32
BLOCK_THREADS = 1024
STATIC_SHARED = 48 << 10                       # bytes of shared memory that a block gets without asking


@dataclass(frozen=True, slots=True)
class Chip:
    capability: tuple[int, int]
    family: str
    warps: int                                 # per multiprocessor, as all that follows
    blocks: int
    shared: int                                # bytes
    optin: int                                 # bytes of it that one block may have, if it asks
    ptx: int                                   # the first PTX version that knows this target; 80 is 8.0
    cuda: int                                  # the first CUDA version (driver) that does
    registers: int = 65536

    @property
    def threads(self) -> int: return self.warps * WARP

    @property
    def target(self) -> str: return "sm_{}{}".format(*self.capability)

    @property
    def reserved_shared(self) -> int: return 1024 if self.capability >= (8, 0) else 0          # bytes per block that the system takes

    def resident(self, threads: int, registers: int, shared: int) -> int:
        """Blocks of so many threads, registers per thread and bytes of shared memory that one multiprocessor holds at once; 0: not even one."""
        warps = -(-threads // WARP)
        if not 0 < threads <= BLOCK_THREADS or shared > self.optin: return 0
        limits = [self.blocks, self.warps // warps]
        if registers: limits.append(self.registers // (-(-registers * WARP // 256) * 256) // 4 * 4 // warps if registers <= 255 else 0)      # by quarters, 256 registers at a time
        if shared: limits.append(self.shared // (-(-(shared + self.reserved_shared) // 128) * 128))
        return min(limits)


CHIPS: dict[tuple[int, int], Chip] = {c.capability: c for c in (
    Chip((5, 0), "Maxwell", 64, 32, 64 << 10, 48 << 10, 40, 6050),
    Chip((5, 2), "Maxwell", 64, 32, 96 << 10, 48 << 10, 41, 7000),
    Chip((6, 0), "Pascal", 64, 32, 64 << 10, 48 << 10, 50, 8000),
    Chip((6, 1), "Pascal", 64, 32, 96 << 10, 48 << 10, 50, 8000),
    Chip((7, 0), "Volta", 64, 32, 96 << 10, 96 << 10, 60, 9000),
    Chip((7, 5), "Turing", 32, 16, 64 << 10, 64 << 10, 63, 10000),
    Chip((8, 0), "Ampere", 64, 32, 164 << 10, 163 << 10, 70, 11000),
    Chip((8, 6), "Ampere", 48, 16, 100 << 10, 99 << 10, 71, 11010),
    Chip((8, 7), "Ampere", 48, 16, 164 << 10, 163 << 10, 74, 11040),
    Chip((8, 9), "Ada", 48, 24, 100 << 10, 99 << 10, 78, 11080),
    Chip((9, 0), "Hopper", 64, 32, 228 << 10, 227 << 10, 78, 11080),
    Chip((10, 0), "Blackwell", 64, 32, 228 << 10, 227 << 10, 86, 12070),
    Chip((10, 3), "Blackwell", 64, 32, 228 << 10, 227 << 10, 88, 12090),
    Chip((11, 0), "Blackwell", 48, 24, 228 << 10, 227 << 10, 90, 13000),
    Chip((12, 0), "Blackwell", 48, 24, 100 << 10, 99 << 10, 87, 12080),
    Chip((12, 1), "Blackwell", 48, 24, 100 << 10, 99 << 10, 88, 12090),
)}
OLDEST = (5, 0)                                # what CUDA 12's drivers still know, and forno makes code for


def chip(capability: tuple[int, int]) -> Chip:
    """A chip that this table doesn't know is taken for the newest known one before it: code for that runs on it, and it has no less."""
    known = [c for c in CHIPS if c <= capability]
    return CHIPS[max(known) if known else min(CHIPS)]


_PTX = ((11000, 70), (11010, 71), (11020, 72), (11030, 73), (11040, 74), (11050, 75), (11060, 76), (11070, 77), (11080, 78), (12000, 80), (12010, 81), (12020, 82),
        (12030, 83), (12040, 84), (12050, 85), (12070, 86), (12080, 87), (12090, 88), (13000, 90), (13010, 91))


def newest_ptx(cuda: int) -> int:
    """The newest PTX version that a driver of this CUDA version takes (12.2: 8.2, as 82)."""
    return max([ptx for since, ptx in _PTX if since <= cuda], default=65)


def targets(capability: tuple[int, int], cuda: int) -> list[str]:
    """Targets whose PTX runs on this chip under this driver, the best first: its own instructions (sm_90a), its family's (sm_100f), then what every later chip
    takes, too."""
    out = []
    own = CHIPS.get(capability)
    if own is not None and capability >= (9, 0) and own.ptx <= newest_ptx(cuda) >= 80: out.append(own.target + "a")
    if capability[0] >= 10 and newest_ptx(cuda) >= 88: out += [c.target + "f" for c in reversed(CHIPS.values()) if c.capability[0] == capability[0] and c.capability <= capability]
    return out + [c.target for c in reversed(CHIPS.values()) if OLDEST <= c.capability <= capability and c.ptx <= newest_ptx(cuda)]


def capability_of(target: str) -> tuple[int, int]:
    """(9, 0) of "sm_90" and of "sm_90a"."""
    digits = target.removeprefix("sm_").rstrip("af")
    return int(digits[:-1]), int(digits[-1])


def runs(target: str, capability: tuple[int, int]) -> bool:
    """May PTX of this target become code for this chip?"""
    at = capability_of(target)
    if target.endswith("a"): return at == capability
    if target.endswith("f"): return at[0] == capability[0] and at <= capability
    return at <= capability
