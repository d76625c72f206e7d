"""What happens before what: vector clocks of streams, and the accesses that nothing orders.

Comes in: operations as they run, with the ranges of memory they touch. Goes out: findings. An operation knows all that happened before it: what its stream
did, what it waited for, and what the host had seen when it was launched. Two accesses of one byte, of which at least one writes, must know of each other in
one direction; where neither does, another machine or another day may run them in the other order, whatever order they had here.

The host is one: threads that tell each other things do so by ways that can't be seen here, so what one has waited for, all have.
"""
from __future__ import annotations

from dataclasses import dataclass

_KEEP = 256                                    # accesses that one allocation remembers


@dataclass(slots=True)
class Access:
    start: int
    end: int
    writes: bool
    lane: int
    tick: int
    name: str


@dataclass(frozen=True)
class Finding:
    """Something wrong with the program that runs on the simulated machine. `kind` is one word or two, `text` a sentence with all names and numbers."""
    kind: str
    text: str

    def __str__(self): return f"{self.kind}: {self.text}"


def join(a: dict, b: dict) -> dict:
    """What both know; the same object where one knows nothing new."""
    if a is b or not b: return a
    if not a: return b
    out = None
    for lane, tick in b.items():
        if a.get(lane, 0) < tick:
            if out is None: out = dict(a)
            out[lane] = tick
    return a if out is None else out


def touch(history: list[Access], new: Access, clock: dict) -> Access | None:
    """Adds an access to an allocation's history; an earlier one that conflicts and is not known to have happened before, if there is one."""
    conflict, kept = None, []
    for old in history:
        known = clock.get(old.lane, 0) >= old.tick
        if old.end <= new.start or new.end <= old.start:
            kept.append(old)
            continue
        if not known and (old.writes or new.writes) and conflict is None: conflict = old
        # what the new access covers and follows need not be remembered: who follows the new one, follows the old one, too
        covered = known and new.start <= old.start and old.end <= new.end and (new.writes or not old.writes)
        if not covered: kept.append(old)
    kept.append(new)
    history[:] = kept[-_KEEP:]
    return conflict


def lanes_of(edges: list[list[int]]) -> list[int]:
    """Numbers for the nodes of a graph, given each node's predecessors (all before it): nodes of one number follow each other, so that one clock entry
    does for them."""
    lanes, tail = [], {}
    for k, before in enumerate(edges):
        lane = next((lanes[b] for b in before if tail[lanes[b]] == b), len(tail))
        tail[lane] = k
        lanes.append(lane)
    return lanes
