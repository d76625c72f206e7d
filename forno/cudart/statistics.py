"""What an allocator counts: torch.cuda.memory_stats's numbers, under its names."""
from __future__ import annotations

from collections import defaultdict

POOLS = ("all", "large_pool", "small_pool")
TALLIES = ("allocation", "segment", "active", "inactive_split", "allocated_bytes", "reserved_bytes", "active_bytes", "inactive_split_bytes", "requested_bytes")
COUNTS = ("num_alloc_retries", "num_ooms", "num_sync_all_streams", "num_device_alloc", "num_device_free", "num_oom_rejections")


class Tally:
    """A quantity that goes up and down."""
    __slots__ = ("current", "peak", "allocated", "freed")

    def __init__(self): self.current = self.peak = self.allocated = self.freed = 0

    def up(self, n: int):
        self.current += n
        self.allocated += n
        self.peak = max(self.peak, self.current)

    def down(self, n: int):
        self.current -= n
        self.freed += n

    def shown(self) -> dict[str, int]: return {"current": self.current, "peak": self.peak, "allocated": self.allocated, "freed": self.freed}


def tallies() -> dict[str, Tally]: return {pool: Tally() for pool in POOLS}


class Statistics:
    """Tallies of one device, in all and by kind of pool."""

    def __init__(self):
        self.tallies = {name: tallies() for name in TALLIES}
        self.private: dict[tuple, dict[str, Tally]] = defaultdict(tallies)          # reserved bytes of pools apart from the others
        self.oversize = {"oversize_allocations": Tally(), "oversize_segments": Tally()}          # there is no bound on what is cut
        self.counts = dict.fromkeys(COUNTS, 0)

    @property
    def allocated(self) -> int: return self.tallies["allocated_bytes"]["all"].current

    @property
    def reserved(self) -> int: return self.tallies["reserved_bytes"]["all"].current

    def up(self, kind: str, **amounts: int):
        for name, n in amounts.items():
            for pool in ("all", kind): self.tallies[name][pool].up(n)

    def down(self, kind: str, **amounts: int):
        for name, n in amounts.items():
            for pool in ("all", kind): self.tallies[name][pool].down(n)

    def count(self, name: str): self.counts[name] += 1

    # ---- what happens to pieces (allocator.Piece)
    def given(self, p): self.up(p.pool.kind, allocation=1, allocated_bytes=p.size, active=1, active_bytes=p.size, requested_bytes=p.asked)
    def dropped(self, p): self.down(p.pool.kind, allocation=1, allocated_bytes=p.size)
    def ended(self, p): self.down(p.pool.kind, active=1, active_bytes=p.size, requested_bytes=p.asked)
    def parted(self, p): self.up(p.pool.kind, inactive_split=1, inactive_split_bytes=p.size)
    def joined(self, p): self.down(p.pool.kind, inactive_split=1, inactive_split_bytes=p.size)

    def opened(self, p):
        self.up(p.pool.kind, segment=1, reserved_bytes=p.size)
        self.count("num_device_alloc")
        for t in self.apart(p): t.up(p.size)

    def closed(self, p):
        self.down(p.pool.kind, segment=1, reserved_bytes=p.size)
        self.count("num_device_free")
        for t in self.apart(p): t.down(p.size)

    def apart(self, p) -> list[Tally]:
        """The tallies of the pool that a segment belongs to, if it is one apart from the others."""
        if p.pool.apart is None: return []
        mine = self.private[tuple(p.pool.apart)]
        return [mine["all"], mine[p.pool.kind]]

    # ---- as they are shown and begin anew
    def shown(self) -> dict:
        def all_of(pools): return {pool: t.shown() for pool, t in pools.items()}
        out = {name: all_of(pools) for name, pools in self.tallies.items()} | {name: t.shown() for name, t in self.oversize.items()}
        return out | self.counts | {"max_split_size": -1, "reserved_bytes_by_private_pools": {number: all_of(pools) for number, pools in self.private.items()}}

    def every(self) -> list[Tally]:
        return [t for pools in (*self.tallies.values(), *self.private.values()) for t in pools.values()] + [*self.oversize.values()]

    def reset_peaks(self):
        for t in self.every(): t.peak = t.current

    def reset_accumulated(self):
        for t in self.every(): t.allocated = t.freed = 0
        self.counts.update(dict.fromkeys(COUNTS, 0))


def size_text(n: int) -> str:
    """Bytes as PyTorch's messages give them."""
    for unit, bits in (("GiB", 30), ("MiB", 20), ("KiB", 10)):
        if n > 1 << bits: return f"{n / (1 << bits):.2f} {unit}"
    return f"{n} bytes"
