"""Where time went, by floor, and what was made or found again. Views of it are in show/."""
from __future__ import annotations

import time

from .hot import know


@know
class Trace:
    """seconds and counts by name, of running in fields of their own (`running`, `hits`: plans found again); `events` is filled only while someone listens."""
    __slots__ = ("seconds", "counts", "running", "hits", "events", "started")

    def __init__(self): self.clear()

    def clear(self):
        self.seconds = dict.fromkeys(("record", "plan", "compile"), 0.0)
        self.counts = dict.fromkeys(("plans_made", "kernels_built"), 0)
        self.running, self.hits = 0.0, 0
        self.events = None
        self.started = time.perf_counter()

    def add(self, floor: str, since: float) -> float:
        """Charge the time since `since` to a floor; returns now."""
        now = time.perf_counter()
        self.seconds[floor] += now - since
        return now


trace = Trace()
