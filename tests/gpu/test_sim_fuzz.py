"""Random programs over streams and events: a right one gives its sequential result under every seed and no finding; one with a wait too few is always found.

`python -m tests.gpu.test_sim_fuzz FIRST LAST` runs more of them.
"""
import sys

import numpy as np
import pytest

from forno.gpu.errors import CudaError

from .simulated import Program

N, ARRAYS, STREAMS, LENGTH = 32, 4, 3, 14


class Step:
    """A kernel in a stream; `after`: earlier steps that its stream waits for by events."""

    def __init__(self, stream, name, writes, reads): self.stream, self.name, self.writes, self.reads, self.after = stream, name, writes, reads, []


def ordered(steps, skip=None):
    """By step, all earlier ones that come before it by streams and events alone; `skip` = (step, place) leaves a wait out."""
    before = []
    for k, s in enumerate(steps):
        mine = set()
        for j in range(k):
            if steps[j].stream == s.stream: mine |= before[j] | {j}
        for place, j in enumerate(s.after):
            if (k, place) != skip: mine |= before[j] | {j}
        before.append(mine)
    return before


def conflicts(steps, before):
    """Pairs of steps that touch one array, one of them writing, and nothing orders."""
    def touches(s): return {s.writes: True} | {r: False for r in s.reads if r != s.writes}
    return [(j, k) for k in range(len(steps)) for j in range(k) if j not in before[k]
            if any(a in touches(steps[j]) and (w or touches(steps[j])[a]) for a, w in touches(steps[k]).items())]


def program(rng, kinds=("scale", "one", "move", "sum")):
    """Steps with just enough waits: each is added where a conflict needs it. "renew" frees an array and allocates it anew, filled with 1."""
    steps = []
    for _ in range(LENGTH):
        name = rng.choice(kinds)
        arrays = [int(a) for a in rng.choice(ARRAYS, 3, replace=False)]
        reads = {"scale": arrays[:1], "one": arrays[:1], "move": arrays[1:2], "sum": arrays[1:], "renew": []}[name]
        steps.append(Step(int(rng.integers(STREAMS)), str(name), arrays[0], reads))
        while bad := [j for j, k in conflicts(steps, ordered(steps)) if k == len(steps) - 1]: steps[-1].after.append(max(bad))
    return steps


def sequential(steps):
    x = [np.full(N, k + 1, np.float32) for k in range(ARRAYS)]
    for s in steps:
        if s.name == "scale": x[s.writes] = x[s.writes] * 2
        if s.name == "one": x[s.writes] = x[s.writes] + 1
        if s.name == "renew": x[s.writes] = np.ones(N, np.float32)
        if s.name == "move": x[s.writes] = x[s.reads[0]]
        if s.name == "sum": x[s.writes] = x[s.reads[0]] + x[s.reads[1]]
    return x


def run(steps, seed, skip=None, captured=False):
    """The arrays at the end, and the machine. `captured`: as a graph, which the other streams join at its start and leave at its end."""
    p = Program(seed=seed)
    at = [p.array(np.full(N, k + 1)) for k in range(ARRAYS)]
    streams = [p.stream() for _ in range(STREAMS)]
    if captured:
        p.d.StreamBeginCapture(streams[0], 0)
        for s in streams[1:]: p.wait(s, streams[0])
    submit(p, steps, at, streams, skip)
    if captured:
        for s in streams[1:]: p.wait(streams[0], s)
        p.d.GraphLaunch(p.d.GraphInstantiateWithFlags(p.d.StreamEndCapture(streams[0]), 0), streams[0])
    p.d.CtxSynchronize()
    return [p.read(a, N) for a in at], p.machine


def run_lives(steps, seed, skip=None):
    """The same with memory from a pool, in the order of streams. What is wrong with it may also end it: then there are no arrays."""
    p = Program(seed=seed)
    streams, at = [p.stream() for _ in range(STREAMS)], []
    for k in range(ARRAYS):
        at.append(p.d.MemAllocAsync(4 * N, streams[0]))
        p.d.MemsetD32Async(at[k], int(np.float32(k + 1).view(np.uint32)), N, streams[0])
    p.d.CtxSynchronize()
    try:
        submit(p, steps, at, streams, skip)
        p.d.CtxSynchronize()
        return [p.read(a, N) for a in at], p.machine
    except CudaError: return None, p.machine


def submit(p, steps, at, streams, skip):
    events = []
    for k, s in enumerate(steps):
        for place, j in enumerate(s.after):
            if (k, place) != skip: p.d.StreamWaitEvent(streams[s.stream], events[j], 0)
        stream = streams[s.stream]
        if s.name == "renew":
            p.d.MemFreeAsync(at[s.writes], stream)
            at[s.writes] = p.d.MemAllocAsync(4 * N, stream)
            p.d.MemsetD32Async(at[s.writes], 0x3F800000, N, stream)
        pointers = [at[s.writes]] if s.name in ("scale", "one") else [at[s.writes], *[at[r] for r in s.reads]]
        if s.name != "renew": p.launch(s.name, *pointers, N, stream=stream)
        events.append(p.event())
        p.d.EventRecord(events[-1], stream)


def check(number, captured):
    steps = program(np.random.default_rng(number))
    expected = sequential(steps)
    got, machine = run(steps, number, captured=captured)
    assert not machine.findings(), (number, machine.findings())
    for x, y in zip(expected, got): np.testing.assert_array_equal(x, y)
    waits = [(k, place) for k, s in enumerate(steps) for place in range(len(s.after))]
    for skip in waits[:3]:
        racing = conflicts(steps, ordered(steps, skip))
        _, machine = run(steps, number, skip, captured)
        assert bool(machine.findings()) == bool(racing), (number, skip, racing, machine.findings())
        assert all(f.kind == "race" for f in machine.findings())


def check_lives(number):
    steps = program(np.random.default_rng(number), ("scale", "one", "move", "sum", "renew", "renew"))
    got, machine = run_lives(steps, number)
    assert not machine.findings(), (number, machine.findings())
    for x, y in zip(sequential(steps), got): np.testing.assert_array_equal(x, y)
    for skip in [(k, place) for k, s in enumerate(steps) for place in range(len(s.after))][:3]:
        racing = conflicts(steps, ordered(steps, skip))
        _, machine = run_lives(steps, number, skip)
        assert bool(machine.findings()) == bool(racing), (number, skip, racing, machine.findings())
        assert {f.kind for f in machine.findings()} <= {"race", "use after free", "out of bounds", "fault"}, machine.findings()


@pytest.mark.parametrize("number", range(40))
def test_random_lives_of_memory(number): check_lives(number)


@pytest.mark.parametrize("captured", [False, True])
@pytest.mark.parametrize("number", range(50))
def test_random_programs(number, captured): check(number, captured)


def test_some_waits_matter():
    """The test above is not empty: most waits are needed."""
    needed = total = 0
    for number in range(30):
        steps = program(np.random.default_rng(number))
        for skip in [(k, place) for k, s in enumerate(steps) for place in range(len(s.after))]:
            needed += bool(conflicts(steps, ordered(steps, skip)))
            total += 1
    assert total > 60 and needed > 0.7 * total


if __name__ == "__main__":
    for number in range(int(sys.argv[1]), int(sys.argv[2])):
        check(number, captured=number % 2 > 0)
        check_lives(number)
