"""What an allocator did, and who asked for it: torch.cuda.memory._record_memory_history.

Comes in: events of one device's allocator, as they happen. Goes out: entries under PyTorch's names, the latest so many of them. Work is recorded before it runs, so the
lines that are noted are those where it ran: of a `.item()`, a `synchronize()`, the end of a window.
"""
from __future__ import annotations

import os
import sys
import time
from collections import deque

HOME = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
ACTIONS = ("alloc", "free_requested", "free_completed", "segment_alloc", "segment_free", "oom", "snapshot")
_WITH_FRAMES = {None: (), "state": ("alloc", "segment_alloc"), "alloc": ("alloc", "segment_alloc", "oom"), "all": ACTIONS}      # by `context`


class History:
    """Of one device. `on`: is anything noted? `entries`: what happened, if more than the state is kept."""

    def __init__(self, index: int): self.index, self.on, self.events, self.context, self.skip, self.entries = index, False, False, None, frozenset(), deque()

    def begin(self, events: bool, context: str | None, most: int, skip, clear: bool):
        """`events`: are they kept, or only where live memory came from?"""
        self.entries = deque([] if clear else self.entries, None if most >= sys.maxsize else most)
        self.on, self.events, self.context, self.skip = True, events, context, frozenset(skip)

    def end(self): self.on = False

    def note(self, action: str, at: int, size: int, stream: int, apart) -> list[dict]:
        """The lines of the program that led here, innermost first."""
        frames = lines() if action in _WITH_FRAMES[self.context] else []
        if self.events and action not in self.skip:
            place = {"device_free": at} if action == "oom" else {"addr": at}
            self.entries.append({"action": action, **place, "size": size, "stream": stream, "time_us": time.time_ns() // 1000, "compile_context": "N/A",
                                 "user_metadata": METADATA[0], "pool_id": (0, 0) if apart is None else tuple(apart), "frames": frames})
        return frames


METADATA = [""]                                # what the user wants noted with each entry


def lines() -> list[dict]:
    frame, out = sys._getframe(1), []
    while frame is not None:
        code = frame.f_code
        if not code.co_filename.startswith(HOME): out.append({"filename": code.co_filename, "line": frame.f_lineno, "name": code.co_name})
        frame = frame.f_back
    return out
