"""The pool: every thread runs, barriers hold, nothing gets stuck, forks and exits are survived."""
import ctypes
import os
import struct
import time

import numpy as np
import pytest

from forno.cpu import balance, code, isa, launch, threads

from .handmade import bump, kernel


@pytest.fixture(autouse=True)
def default_threads():
    yield
    threads.set_num_threads(2)


# adds tid to *p, meets, reads what all have added, meets, and stores that reading at p[1 + tid]; `words[1]` times
ROUNDS = kernel("""  %p = load ptr, ptr %vals
  %tid = load i64, ptr %ctx
  %n.p = getelementptr i64, ptr %words, i64 1
  %n = load i64, ptr %n.p
  %b.p = getelementptr i64, ptr %ctx, i64 4
  %barrier = load ptr, ptr %b.p
  %t1 = add i64 %tid, 1
  %mine = getelementptr i64, ptr %p, i64 %t1
  br label %loop
loop:
  %i = phi i64 [ 0, %0 ], [ %i1, %loop ]
  %o = atomicrmw add ptr %p, i64 1 seq_cst
  call void %barrier(ptr %ctx)
  %now = load i64, ptr %p
  %had = load i64, ptr %mine
  %sum = add i64 %had, %now
  store i64 %sum, ptr %mine
  call void %barrier(ptr %ctx)
  %i1 = add i64 %i, 1
  %more = icmp ult i64 %i1, %n
  br i1 %more, label %loop, label %out
out:""")


def dispatcher(pool):
    address, = struct.unpack_from("q", pool._view, threads.AT["dispatch"])
    return ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4, ctypes.c_int64)(address)


def rounds(nt, n, dispatch, pool):
    """Runs ROUNDS on a pool and checks every reading."""
    out = np.zeros(1 + nt, np.int64)
    vals, words = np.array([out.ctypes.data]), np.array([0, n])
    dispatch(pool.address, code.load(ROUNDS, "k"), vals.ctypes.data, words.ctypes.data, 0)
    assert out[0] == n * nt and (out[1:] == nt * n * (n + 1) // 2).all()


@pytest.mark.parametrize("futex", [True, False])
@pytest.mark.parametrize("nt", [1, 2, 3, 8])
def test_all_threads_meet(nt, futex):
    pool = threads.Pool(nt, futex)
    try:
        dispatch, start = dispatcher(pool), time.perf_counter()
        for n in (1, 50, 1, 3): rounds(nt, n, dispatch, pool)
        assert time.perf_counter() - start < 10
    finally: pool.stop()


@pytest.mark.parametrize("futex", [True, False])
def test_oversubscribed_and_asleep(futex):
    """Eight threads on this machine's few cores, with pauses in which all fall asleep."""
    pool = threads.Pool(8, futex)
    try:
        dispatch, start = dispatcher(pool), time.perf_counter()
        for i in range(200):
            rounds(8, 2, dispatch, pool)
            if i % 50 == 0: time.sleep(0.02)
        assert time.perf_counter() - start < 20
    finally: pool.stop()


# counts to 200 times its part of WHOLE / 1024, thread words[0] five times as far; says how large its part is
SLOW = kernel("""  %from.p = getelementptr i64, ptr %ctx, i64 7
  %to.p = getelementptr i64, ptr %ctx, i64 8
  %done.p = getelementptr i64, ptr %ctx, i64 9
  %from = load i64, ptr %from.p
  %to = load i64, ptr %to.p
  %part = sub i64 %to, %from
  store i64 %part, ptr %done.p
  %tid = load i64, ptr %ctx
  %slow = load i64, ptr %words
  %is = icmp eq i64 %tid, %slow
  %times = select i1 %is, i64 1000, i64 200
  %scaled = lshr i64 %part, 10
  %n = mul i64 %scaled, %times
  %place = alloca i64
  br label %loop
loop:
  %i = phi i64 [ 0, %0 ], [ %i1, %loop ]
  store volatile i64 %i, ptr %place
  %i1 = add i64 %i, 1
  %more = icmp ult i64 %i1, %n
  br i1 %more, label %loop, label %out
out:""")


def parts(pool): return [struct.unpack_from("2q", pool._view, threads._context(tid) + threads.FROM * 8) for tid in range(pool.nt)]


def test_quicker_threads_get_more():
    pool = threads.Pool(2)
    try:
        dispatch, slow_kernel = dispatcher(pool), code.load(SLOW, "k")
        assert parts(pool) == [(0, balance.WHOLE // 2), (balance.WHOLE // 2, balance.WHOLE)]
        for slow in (1, 0):
            words, until = np.array([slow]), time.perf_counter() + 5
            while time.perf_counter() < until:
                dispatch(pool.address, slow_kernel, words.ctypes.data, words.ctypes.data, 0)
                (zero, cut), (also, whole) = parts(pool)
                assert (zero, also, whole) == (0, cut, balance.WHOLE)
                if (cut if slow else whole - cut) > 0.65 * balance.WHOLE: break
            else: raise AssertionError(f"after five seconds thread {slow}, a fifth as quick, still has its part of {parts(pool)}")
    finally: pool.stop()


@pytest.mark.parametrize("nt", [1, 3, 7])
def test_parts_are_equal_at_first_and_cover_everything(nt):
    pool = threads.Pool(nt)
    try:
        edges = parts(pool)
        assert edges[0][0] == 0 and edges[-1][1] == balance.WHOLE and all(a[1] == b[0] for a, b in zip(edges, edges[1:]))
        assert all(abs(b - a - balance.WHOLE / nt) <= 1 for a, b in edges)
    finally: pool.stop()


def test_busy_cores_do_not_stop_the_pool():
    """Pools beside each other, as another spinning runtime in the process would be."""
    pools = [threads.Pool(2) for _ in range(3)]
    try:
        start = time.perf_counter()
        for _ in range(100):
            for p in pools: rounds(2, 3, dispatcher(p), p)
        assert time.perf_counter() - start < 20
    finally:
        for p in pools: p.stop()


def test_workers_end_and_are_named(script):
    out = script("""
import os
from forno.cpu import threads
def names(): return sorted(open(f'/proc/self/task/{t}/comm').read().strip() for t in os.listdir('/proc/self/task'))
before = len(names())
p = threads.Pool(4); print([n for n in names() if n.startswith('forno')])
p.stop(); print(len(names()) - before, [n for n in names() if n.startswith('forno')])
for _ in range(50):
    q = threads.Pool(3); q.stop(); q.stop()
print(len(names()) - before)
""", OPENBLAS_NUM_THREADS="1")
    assert out.stdout == "['forno-1', 'forno-2', 'forno-3']\n0 []\n0\n"


def test_set_num_threads_speaks_pytorch():
    threads.set_num_threads(3)
    assert threads.get_num_threads() == 3
    for bad in (0, -1):
        with pytest.raises(RuntimeError, match="set_num_threads expects a positive integer"): threads.set_num_threads(bad)
    for bad in ("a", 2.5, True):
        with pytest.raises(RuntimeError, match=f"set_num_threads expects an int, but got {type(bad).__name__}"): threads.set_num_threads(bad)
    assert threads.get_num_threads() == 3


def test_the_number_can_change_between_plans():
    count = np.zeros(1, np.int64)
    table = launch.Table([(code.load(bump(), "k"), (0,), True)], 1)
    for n in (1, 2, 5, 2, 1, 4):
        threads.set_num_threads(n)
        count[0] = 0
        for _ in range(5): table.run(struct.pack("q", count.ctypes.data))
        assert count[0] == 5 * n and threads.pool().nt == n


@pytest.mark.parametrize("setting, want", [({"FORNO_NUM_THREADS": "5", "OMP_NUM_THREADS": "3"}, 5), ({"OMP_NUM_THREADS": "3"}, 3), ({"OMP_NUM_THREADS": "3,2"}, 3),
                                           ({"OMP_NUM_THREADS": "junk"}, None)])
def test_the_environment_sets_the_default(script, setting, want):
    assert script("from forno.cpu import threads\nprint(threads.get_num_threads())", **setting).stdout == f"{want or isa.cores()}\n"


RUN = """
import os, struct, threading, time, signal, sys
import numpy as np
from forno.cpu import code, launch, threads
threads.set_num_threads(3)
count = np.zeros(1, np.int64)
table = launch.Table([(code.load(bump(), 'k'), (0,), True)] * 4, 1)
vals = struct.pack('q', count.ctypes.data)
def once():
    count[0] = 0
    assert table.run(vals) is None
    return int(count[0])
"""


def test_fork_in_every_state(script):
    """Before the pool exists, while workers spin, while they sleep, in a child of a child; both sides go on with all threads."""
    out = script(RUN + """
def child(f):
    pid = os.fork()
    if pid == 0:
        try: os._exit(f())
        except BaseException: os._exit(99)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
print(child(once), once(), child(once), end=' ')
time.sleep(0.05)
print(child(once), child(lambda: child(once)), once())
import multiprocessing as mp
def work(i): return once() + i
with mp.get_context('fork').Pool(2) as p: print(p.map(work, range(4)), once())
""")
    assert out.stdout == "12 12 12 12 12 12\n[12, 13, 14, 15] 12\n"


def test_fork_while_other_threads_run_plans(script):
    out = script(RUN + """
stop = []
def busy():
    while not stop: table.run(vals)
ts = [threading.Thread(target=busy) for _ in range(3)]
for t in ts: t.start()
codes = []
for _ in range(20):
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        os._exit(once())
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
stop.append(1)
for t in ts: t.join()
print(set(codes))
""")
    assert out.stdout == "{12}\n"


def test_exit_is_quiet_in_every_state(script):
    """Workers spinning, asleep, and a daemon thread in the middle of a plan."""
    for end in ("once()", "once(); time.sleep(0.05)", "once(); os._exit(0)", "once(); sys.exit(0)",
                "threading.Thread(target=lambda: [once() for _ in iter(int, 1)], daemon=True).start(); time.sleep(0.02)"):
        done = script(RUN + end)
        assert (done.stdout, done.stderr) == ("", "")


def test_signals_reach_python(script):
    out = script(RUN + """
got = [once()]
def rung(*a):
    got.append(once())
    if len(got) < 30: signal.setitimer(signal.ITIMER_REAL, 0.005)            # the next only when this one is done
signal.signal(signal.SIGALRM, rung)
signal.setitimer(signal.ITIMER_REAL, 0.005)
end = time.perf_counter() + 20
while time.perf_counter() < end and len(got) < 30: table.run(vals)
print(len(got) == 30, set(got))
try:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.kill(os.getpid(), signal.SIGINT)
    while True: table.run(vals)
except KeyboardInterrupt: print('interrupted', once())
""")
    assert out.stdout == "True {12}\ninterrupted 12\n"


def test_too_few_threads_are_said(script):
    out = script("""
import resource
from forno.cpu import code, threads
threads._libc = type('L', (), {'__getattr__': lambda s, n: getattr(__import__('ctypes').CDLL(None), n) if n != 'pthread_create' else lambda *a: 11})()
print(threads.Pool(4).nt)
""")
    assert out.stdout == "1\n" and "only 1 of 4 threads" in out.stderr
    assert os.cpu_count()
