"""Python's garbage collector waits while a program is planned.

A plan is tens of thousands of objects that go when it is made, by their reference counts. The collector counts what is made and would walk all of them
several times, with every object of the process: a fifth of a first step.
"""
from __future__ import annotations

import gc
import os
import threading

_lock = threading.Lock()
_waiting = [0]                                 # threads that plan at the moment
_was_on = [False]                              # before the first of them began


class Waiting:
    """with Waiting(): no garbage is collected meanwhile, in any thread."""

    def __enter__(self):
        with _lock:
            if not _waiting[0]:
                _was_on[0] = gc.isenabled()
                gc.disable()
            _waiting[0] += 1

    def __exit__(self, *_):
        with _lock:
            _waiting[0] -= 1
            if not _waiting[0] and _was_on[0]: gc.enable()


def _alone() -> None:
    """In a forked child: threads that were planning are gone."""
    _lock.release()
    if _waiting[0] and _was_on[0]: gc.enable()
    _waiting[0] = 0


if hasattr(os, "register_at_fork"): os.register_at_fork(before=_lock.acquire, after_in_parent=_lock.release, after_in_child=_alone)
