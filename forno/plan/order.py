"""Kernels in an order: dependencies first, then whatever keeps memory low.

Comes in: tasks and who must precede whom. Goes out: the tasks in the order in which they run.
"""
from __future__ import annotations

import heapq
from dataclasses import dataclass, field

from ..core.graph import Value

LOOKAHEAD = 12                                    # ready tasks compared at each choice: enough to see a gradient that can be summed now


@dataclass(eq=False, slots=True)
class Task:
    """A kernel to be: a Draft or a finished noun. `operands`: the value whose buffer each is, or a Scalar; `position`: its place in the program."""
    kernel: object
    operands: list
    modes: list[str]
    position: int
    group: object
    label: str
    reason: str
    after: set = field(default_factory=set)
    copies: bool = False                          # only copies one buffer into another, and may turn out not to be needed

    def buffers(self): return [x for x, m in zip(self.operands, self.modes) if m and x.__class__ is Value]
    def reads(self): return [x for x, m in zip(self.operands, self.modes) if "r" in m and x.__class__ is Value]
    def writes(self): return [x for x, m in zip(self.operands, self.modes) if "w" in m]


def order(tasks: list[Task], kept: set[int], nbytes) -> list[Task]:
    """Among the ready tasks that come first in the program: the one that frees most. `kept`: buffers that outlive the plan."""
    number = {id(t): i for i, t in enumerate(tasks)}
    waiting = {id(t): len(t.after) for t in tasks}
    then: dict[int, list[Task]] = {id(t): [] for t in tasks}
    readers: dict[int, int] = {}
    for t in tasks:
        for b in t.after: then[id(b)].append(t)
        for x in t.reads(): readers[id(x)] = readers.get(id(x), 0) + 1
    born: set[int] = set()

    def gain(t: Task) -> int:
        """Bytes that running t frees, less those it needs."""
        freed = sum([nbytes(x) for x in t.reads() if readers[id(x)] == 1 and id(x) not in kept and x.op is not None])
        needed = sum([nbytes(x) for x in t.writes() if id(x) not in born and id(x) not in kept])
        if t.copies: return -needed if freed < needed else 0          # a copy waits until nobody else reads its source: then it costs nothing
        return freed - needed
    for t in tasks:                               # what waits for nothing need not come before its first reader does
        if not t.after and then[id(t)]: t.position = max(t.position, min([n.position for n in then[id(t)]]) - 1)
    ready = [(t.position, number[id(t)], t) for t in tasks if not t.after]
    heapq.heapify(ready)
    out = []
    while ready:
        first = [heapq.heappop(ready) for _ in range(min(LOOKAHEAD, len(ready)))]
        t = first.pop(choose([gain(x[2]) for x in first], [x[2].copies for x in first]))[2]
        for x in first: heapq.heappush(ready, x)
        out.append(t)
        for x in t.reads(): readers[id(x)] -= 1
        born.update(map(id, t.writes()))
        for n in then[id(t)]:
            waiting[id(n)] -= 1
            if not waiting[id(n)]: heapq.heappush(ready, (n.position, number[id(n)], n))
    assert len(out) == len(tasks), "kernels wait for each other in a circle"
    return out


def choose(gains: list[int], copies: list[bool]) -> int:
    """What frees memory; else the first, but a copy only when it costs nothing or nothing else is left."""
    best = max(range(len(gains)), key=lambda i: (gains[i], -i))
    if gains[best] > 0: return best
    return next((i for i, (n, copy) in enumerate(zip(gains, copies)) if not copy or n == 0), 0)
