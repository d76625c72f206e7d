"""What a first step may cost: no garbage collection while it is planned, and equal kernels are built once."""
import gc
import os
import threading

import pytest

import forno as torch
from forno.core import collector
from forno.framework import native


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
