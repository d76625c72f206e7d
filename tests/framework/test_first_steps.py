"""What a first step may cost: no garbage collection while it is planned, and equal kernels are built once."""
import gc
import os
import threading

import pytest

import forno as torch
from forno.core import collector
from forno.core.dtype import float32
from forno.core.kernels import Const, Nest, Operand, Store
from forno.framework import native
from forno.kernel import build


def test_no_collection_while_a_program_is_planned(monkeypatch):
    seen, make = [], native.make
    monkeypatch.setattr(native, "make", lambda *args: seen.append(gc.isenabled()) or make(*args))
    (torch.ones(3, 5) * 2.5).tolist()
    assert seen == [False] and gc.isenabled()


def test_collection_goes_on_after_an_error(monkeypatch):
    def fails(*_): raise RuntimeError("no plan")
    monkeypatch.setattr(native, "make", fails)
    with pytest.raises(RuntimeError, match="no plan"): (torch.ones(3, 7) * 2.5).tolist()
    assert gc.isenabled()


def test_collection_waits_for_the_last_thread():
    inside, leave = threading.Event(), threading.Event()

    def plan():
        with collector.Waiting():
            inside.set()
            leave.wait()
    other = threading.Thread(target=plan)
    other.start()
    inside.wait()
    with collector.Waiting(): pass
    assert not gc.isenabled()
    leave.set()
    other.join()
    assert gc.isenabled()


def test_collection_stays_off_where_a_user_switched_it_off():
    gc.disable()
    try:
        with collector.Waiting(): pass
        assert not gc.isenabled()
    finally: gc.enable()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_collection_goes_on_in_a_child_forked_meanwhile():
    with collector.Waiting():
        child = os.fork()
        if not child: os._exit(0 if gc.isenabled() else 1)
    assert os.waitpid(child, 0)[1] == 0


def test_equal_kernels_are_built_once(monkeypatch):
    built = []
    for noun, f in build._BUILDERS.items(): monkeypatch.setitem(build._BUILDERS, noun, lambda k, f=f: built.append(k) or f(k))
    x = torch.rand(6, 37)
    layers = [torch.rand(37, 37) for _ in range(5)]
    for w in layers: x = (x @ w).tanh().sum(1, keepdim=True) / 3 + x
    x.tolist()
    assert 0 < len(built) < 10                 # five layers of at least two kernels


def test_kernels_that_differ_in_the_sign_of_zero_are_two():
    def filled(x): return Nest((3,), (), (Operand(float32, "w"),), (Const(x, float32), Store(0, 0, (1,), dtype=float32)))
    plus, minus = filled(0.0), filled(-0.0)
    assert plus == minus and build.told_apart(plus) != build.told_apart(minus)
    assert build.build(plus) != build.build(minus)
