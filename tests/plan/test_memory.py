"""Who owns which buffer: arena offsets, donated inputs, aliases, layouts."""

import numpy as np
import pytest

from forno.core import dtype as dt
from forno.core.graph import Value
from forno.core.op import TABLE
from forno.core.shape import View, contiguous, whole
from forno.plan import explain
from forno.plan.memory import ALIGN, Region, pack, padded
from forno.plan.order import Task, order
from forno.plan.values import Expr, apply

from .interpret import check, graph, source


def rand(*shape): return np.random.default_rng(sum(shape)).standard_normal(shape).astype(np.float32)


def kinds(plan): return [(o.kind, o.source and tuple(o.source)) for o in plan.outs]


def test_pack_never_overlaps_and_reuses():
    r = np.random.default_rng(0)
    for _ in range(50):
        regions = []
        for _ in range(40):
            first = int(r.integers(30))
            regions.append(Region("arena", 0, int(r.integers(0, 1000)), first, first + int(r.integers(0, 8))))
        top = pack(regions)
        for i, a in enumerate(regions):
            assert a.index % ALIGN == 0 and a.index + padded(a.nbytes) <= top
            for b in regions[:i]:
                if a.first <= b.last and b.first <= a.last and a.nbytes and b.nbytes:
                    assert a.index + a.nbytes <= b.index or b.index + b.nbytes <= a.index
        assert top < sum(padded(a.nbytes) for a in regions)


def test_a_chain_of_products_needs_two_buffers():
    x = source(0, (32, 32))
    y = x
    for _ in range(10): y = (y @ x).tanh()
    assert check(graph([x], [y]), [rand(32, 32) / 8]).arena <= 2 * 32 * 32 * 4


def test_in_place_only_where_indices_agree():
    x, y = source(0, (6, 6)), source(1, (6, 6))
    arrays = [rand(6, 6), rand(6, 6)]
    assert kinds(check(graph([x, y], [x * y + x], donated=[0]), arrays)) == [("donated", ("in", 0))]
    assert kinds(check(graph([x, y], [x.transpose(0, 1) + y], donated=[0]), arrays)) == [("fresh", None)]
    assert kinds(check(graph([x, y], [x + x.transpose(0, 1)], donated=[0]), arrays)) == [("fresh", None)]
    assert kinds(check(graph([x, y], [x.transpose(0, 1) + y], donated=[0, 1]), arrays)) == [("donated", ("in", 1))]
    assert kinds(check(graph([x, y], [x * 2, x.sum()], donated=[0]), arrays))[0] in [("donated", ("in", 0)), ("fresh", None)]


def test_in_place_waits_for_the_last_pass():
    x = source(0, (4, 8))
    e = (x - x.amax(-1, True)).exp()
    plan = check(graph([x], [e / e.sum(-1, True)], donated=[0]), [rand(4, 8)])
    assert kinds(plan) == [("donated", ("in", 0))]
    d = x - x.mean(-1, True)
    plan = check(graph([x], [d, (d * x).sum(-1, True) + x], donated=[0]), [rand(4, 8)])
    assert kinds(plan)[0] == ("fresh", None)


def test_preferences_decide_who_gets_which_buffer():
    p, g = source(0, (5,)), source(1, (5,))
    arrays = [rand(5), rand(5)]
    plan = check(graph([p, g], [p - g, p + g], donated=[0, 1], prefer={1: 0, 0: 1}), arrays)
    assert kinds(plan) == [("donated", ("in", 1)), ("donated", ("in", 0))]
    plan = check(graph([p, g], [p - g, g * 2], donated=[0], prefer={1: 0}), arrays)
    assert kinds(plan)[0] == ("fresh", None)


def test_views_of_inputs_and_outputs_are_aliases():
    x = source(0, (4, 6))
    y = x * 2
    plan = check(graph([x], [y, y[1:3, ::2], y.reshape(24), x.transpose(0, 1), x, apply(TABLE["detach"], y)]), [rand(4, 6)])
    assert [o.kind for o in plan.outs] == ["fresh", "alias", "alias", "alias", "alias", "alias"] and len(plan.steps) == 1
    assert plan.outs[1].view == View((2, 3), (6, 2), 6) and plan.outs[3].source == ("in", 0)


def test_a_donated_input_that_is_an_output_keeps_its_value():
    x = source(0, (5,))
    assert kinds(check(graph([x], [x * 2, x], donated=[0]), [rand(5)])) == [("fresh", None), ("alias", ("in", 0))]


def test_put_into_a_donated_buffer_writes_only_the_window():
    x, v = source(0, (8, 4)), source(1, (4,))
    w = View((4,), (1,), 8)
    out = apply(TABLE["put"], x, v * 2, attr=w)
    plan = check(graph([x, v], [out], donated=[0]), [rand(8, 4), rand(4)])
    assert kinds(plan) == [("donated", ("in", 0))] and len(plan.steps) == 1 and plan.steps[0].kernel.axes == (4,)
    assert len(check(graph([x, v], [out]), [rand(8, 4), rand(4)]).steps) == 2           # a copy first
    plan = check(graph([x, v], [apply(TABLE["put"], x, x.viewed(*w) + v, attr=w)], donated=[0]), [rand(8, 4), rand(4)])
    assert kinds(plan) == [("donated", ("in", 0))] and len(plan.steps) == 1
    moved = apply(TABLE["put"], x, x.viewed((4,), (1,), 0) + v, attr=w)                 # reads another row than it writes
    assert len(check(graph([x, v], [moved], donated=[0]), [rand(8, 4), rand(4)]).steps) >= 2


def test_outputs_lie_as_asked():
    shape, strides = (2, 3, 4, 5), (60, 1, 15, 3)                                        # channels last
    x = source(0, shape, view=View(shape, strides, 0))
    v = (x * 2).value
    out = Expr(Value(v.op, v.ins, v.attr, v.dtype, v.shape, strides))
    plan = check(graph([x], [out], donated=[0]), [rand(*shape)])
    assert kinds(plan) == [("donated", ("in", 0))]
    store = plan.steps[0].kernel.body[-1]
    assert store.strides == strides
    flat = source(0, shape, view=View(shape, strides, 0)).reshape(6, 20) + 1             # no affine view of this memory
    check(graph([flat.value.ins[0].ins[0].op is None and Expr(flat.value.ins[0].ins[0])], [flat]), [rand(*shape)])


def test_constants_have_buffers_only_as_outputs():
    x = source(0, (3, 3))
    one = x.filled((3, 3), 1.0)
    assert len(check(graph([x], [x + one]), [rand(3, 3)]).steps) == 1
    assert len(check(graph([x], [one, x + one]), [rand(3, 3)]).steps) == 2


def test_nothing_to_do():
    x = source(0, (0, 3))
    plan = check(graph([x], [x * 2, x.sum(0), x.reshape(3, 0)]), [rand(0, 3)])
    assert [o.kind for o in plan.outs] == ["fresh", "fresh", "fresh"] and len(plan.steps) == 1


def test_a_plan_reads_well():
    x = source(0, (4, 6))
    text = explain.text(check(graph([x], [x.exp().sum(-1)]), [rand(4, 6)]), 3)
    assert "exp+sum" in text and "1 values with one index, 1 once per row of 6" in text and "window [6]" in text
    assert whole((2, 3)).strides == contiguous((2, 3)) and dt.float32.size == 4


@pytest.mark.parametrize("step", [1, -1])
def test_the_order_of_kernels_does_not_depend_on_addresses(step):
    """Kernels of one position stay in their order, wherever the tasks lie in memory."""
    first = Task(None, [], [], 0, None, "first", "")
    rest = [Task(None, [], [], 1, None, str(i), "", {first}) for i in range(20)][::step]
    assert order([first, *rest], set(), lambda v: 0) == [first, *rest]
