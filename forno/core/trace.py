"""Where time went, by floor, and what was made or found again. Views of it are in show/."""
from __future__ import annotations

import time


class Trace:
    """seconds and counts by name; `events` is filled only while someone listens."""

    def __init__(self): self.clear()

    def clear(self):
        self.seconds = dict.fromkeys(("record", "plan", "compile", "run"), 0.0)
        self.counts = dict.fromkeys(("plans_made", "plans_hit", "kernels_built", "launches"), 0)
        self.events = None
        self.started = time.perf_counter()

    def add(self, floor: str, since: float) -> float:
        """Charge the time since `since` to a floor; returns now."""
        now = time.perf_counter()
        self.seconds[floor] += now - since
        return now


trace = Trace()
