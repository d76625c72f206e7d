"""Threads and forks: windows belong to their thread, values cross over, nothing hangs."""
import os
import queue
import threading
import time

import numpy as np
import pytest

import forno


def run(*targets):
    """Run functions in threads; re-raise what they raised."""
    errors = []

    def guarded(f):
        try: f()
        except BaseException as e: errors.append(e)
    threads = [threading.Thread(target=guarded, args=(f,), daemon=True) for f in targets]
    for t in threads: t.start()
    deadline = time.monotonic() + 60
    while any(t.is_alive() for t in threads) and not errors and time.monotonic() < deadline: time.sleep(0.01)
    if errors: raise errors[0]
    assert not any(t.is_alive() for t in threads), "a thread hangs"


def test_pending_values_cross_over():
    x = forno.ones(100) * 3
    y = x.sum()                                # pending here
    got = []
    run(lambda: got.append((y + 1).item()))
    assert got == [301] and y.item() == 300


def test_values_of_a_thread_that_ended():
    made = []
    run(lambda: made.append(forno.ones(10) * 2))
    assert made[0].sum().item() == 20


def test_gradients_across_threads():
    w = forno.ones(4, requires_grad=True)
    losses = []
    run(lambda: losses.append((w * w * 3).sum()))
    losses[0].backward()
    assert w.grad.tolist() == [6] * 4


def test_many_threads_at_once():
    def work(k):
        def f():
            r = np.random.default_rng(k)
            a = r.standard_normal((16, 16)).astype("f4")
            w = forno.tensor(a, requires_grad=True)
            for _ in range(15):
                w.grad = None
                loss = (forno.tanh(w @ w.t()) * (k + 1)).sum()
                loss.backward()
                with forno.no_grad(): w -= w.grad * 1e-3
            found.append((k, w.detach().numpy().copy()))
        return f
    found = []
    run(*map(work, range(4)))
    alone, found = sorted(found, key=lambda p: p[0]), []
    for k in range(4): work(k)()
    for (_, a), (_, b) in zip(alone, found): assert np.allclose(a, b, rtol=1e-4, atol=1e-5)


def test_like_a_data_loader():
    """A producer hands pending batches over; the consumer trains meanwhile."""
    q, w = queue.Queue(2), forno.zeros(3, requires_grad=True)

    def produce():
        for k in range(20): q.put((forno.full((4, 3), float(k)) * 2 + forno.arange(3), k))
        q.put(None)

    def consume():
        while (item := q.get()) is not None:
            batch, k = item
            loss = (batch @ (w + 1)).sum()
            w.grad = None
            loss.backward()
            assert w.grad.tolist() == [4 * (2 * k + j) for j in range(3)]
    run(produce, consume)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_fork_with_pending_work_and_a_running_pool():
    big = forno.ones(600, 600)
    (big @ big).sum().item()                   # the pool has started
    x = forno.arange(5.0) * 2                  # pending over the fork
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            ok = x.tolist() == [0, 2, 4, 6, 8] and (big @ big)[0, 0].item() == 600 and (x + 1).sum().item() == 25
            os.write(write, b"y" if ok else b"n")
            status = 0
        finally: os._exit(status)
    os.close(write)
    said = os.read(read, 1)
    os.close(read)
    assert os.waitpid(pid, 0)[1] == 0 and said == b"y"
    assert x.tolist() == [0, 2, 4, 6, 8] and (big @ big)[1, 1].item() == 600
