"""Plans run by the kernels they name: the nouns mean the same on both floors."""
import struct

import numpy as np
import pytest

from forno import plan as planner
from forno.cpu import launch
from forno.kernel.build import accepts, build

from .interpret import Machine, buffer_of, direct
from .test_random import program

SLACK = 64                                        # bytes behind each buffer, as the allocator leaves them


def execute(g, arrays, numbers):
    plan = planner.make(g, accepts)
    ins = [np.concatenate([buffer_of(a, v), np.zeros(SLACK, np.uint8)]) for a, v in zip(arrays, g.inputs)]
    outs = [np.full(o.nbytes + SLACK, 0x5A, np.uint8) for o in plan.outs]
    buffers, offsets = [*ins, *outs], {}

    def position(p):
        if p.kind == "in": return p.index
        if p.kind == "out": return len(ins) + p.index
        if p.kind == "number": return len(buffers) + p.index
        return len(buffers) + len(numbers) + offsets.setdefault(p.index, len(offsets))
    steps = []
    for s in plan.steps:
        k = build(s.kernel)
        steps.append((k.program.address, tuple(position(p) for p in s.places) + k.words, k.parallel, k.scratch, k.shared))
    if steps:
        table = launch.Table(steps, len(buffers) + len(numbers), plan.arena, tuple(offsets))
        assert table.run(struct.pack(f"{len(buffers)}q{len(numbers)}d", *[b.ctypes.data for b in buffers], *numbers)) is None
    machine = object.__new__(Machine)                                 # only to read its outputs
    machine.g, machine.plan, machine.ins, machine.outs = g, plan, [b[:-SLACK] for b in ins], [b[:-SLACK] for b in outs]
    taken = {o.source.index for o in plan.outs if o.kind == "donated"}
    for i, (a, v) in enumerate(zip(arrays, g.inputs)):
        if i not in taken: assert (ins[i][:-SLACK] == buffer_of(a, v)).all(), f"input {i} was overwritten"
    return plan, [machine.out(i) for i in range(len(outs))]


@pytest.mark.parametrize("seed", range(24))
def test_kernels_compute_what_rows_mean(seed):
    exact = seed % 2 == 0
    g, arrays = program(50_000 + seed, exact)
    plan, got = execute(g, arrays, (0.5, -0.25))
    for x, y in zip(got, direct(g, arrays, (0.5, -0.25))):
        np.testing.assert_allclose(x, y, rtol=0 if exact else 2e-2, atol=0 if exact else 2e-2, err_msg=str(plan))
