"""A pool of native threads that waits without Python.

Comes in: a number of threads. Goes out: a `Pool`, a block of native memory in which `dispatch` runs one kernel on all threads, and `barrier`, which
kernels call. Its code is LLVM IR below. Whoever waits, waits in three gears: spinning (a parallel step costs under a microsecond when the
next one follows soon), giving its time slice away, sleeping in the kernel; so more threads than cores are slow but never stuck.

The caller is thread 0. Only the holder of `lock` may touch the pool; a second Python thread waits for its turn.
"""
from __future__ import annotations

import ctypes
import os
import signal
import string
import struct
import sys
import threading
import time
import warnings

from ..core.flags import flags
from . import balance, clock, code, isa, memory

STACK = 4 << 20                                # bytes per worker; kernels keep up to 64 KiB of tiles on it
# Gears: how often to spin and then yield, and for how long each time; after that, sleep. Without a yield every few microseconds a spinner can keep the
# very thread it waits for from its core. `idle`: a worker waits for a job (Python runs between plans). `join`: anyone waits for the others of this job.
# `polite`: a worker whose caller had to sleep: cores are short, and while the worker holds one the caller may queue behind strangers.
GEARS = {"idle": (250, 4e-6), "join": (25, 4e-6), "polite": (0, 0)}
_WORD, _LINE = 8, 128                          # two cache lines: the prefetcher fetches pairs

# A context is the first argument of every kernel: 10 words of the kernel ABI, then the pool's own.
TID, NT, SCRATCH, SHARED, BARRIER, ERROR, STEP, FROM, TO, DONE, POOL, WAITED, BUSY, WEIGHT = range(14)
CONTEXT = _LINE

# Byte offsets in the pool's memory. What the caller writes for one job lies together; what different threads write lies apart.
AT = {
    "epoch": 0, "kernel": 8, "vals": 16, "words": 24, "step": 32, "nt": 40, "stop": 48,
    "left": _LINE, "finished": 2 * _LINE, "sleepers": 3 * _LINE, "waiters": 4 * _LINE,
    "count": 5 * _LINE, "round": 6 * _LINE, "resting": 7 * _LINE,
    "idle": 8 * _LINE, "join": 8 * _LINE + 16, "polite": 8 * _LINE + 32, "dispatch": 8 * _LINE + 48, "worth": 8 * _LINE + 56,
    "error": 9 * _LINE, "mutex": 10 * _LINE, "cond": 11 * _LINE, "serial": 12 * _LINE, "contexts": 13 * _LINE,
}

_FUTEX = """
declare i64 @syscall(i64, ...)
define internal void @sleep(ptr %pool, ptr %word, i32 %old) #0 {
  %r = call i64 (i64, ...) @syscall(i64 $futex, ptr %word, i64 128, i32 %old, ptr null, ptr null, i64 0)
  ret void
}
define internal void @wake(ptr %pool, ptr %word) #0 {
  %r = call i64 (i64, ...) @syscall(i64 $futex, ptr %word, i64 129, i64 2147483647, ptr null, ptr null, i64 0)
  ret void
}
"""

_PTHREAD = """
declare i32 @pthread_mutex_lock(ptr)
declare i32 @pthread_mutex_unlock(ptr)
declare i32 @pthread_cond_wait(ptr, ptr)
declare i32 @pthread_cond_broadcast(ptr)
define internal void @sleep(ptr %pool, ptr %word, i32 %old) #0 {
  %mutex = getelementptr i8, ptr %pool, i64 $mutex
  %cond = getelementptr i8, ptr %pool, i64 $cond
  %l = call i32 @pthread_mutex_lock(ptr %mutex)
  %now = load atomic i32, ptr %word seq_cst, align 4
  %same = icmp eq i32 %now, %old
  br i1 %same, label %rest, label %out
rest:
  %w = call i32 @pthread_cond_wait(ptr %cond, ptr %mutex)
  br label %out
out:
  %u = call i32 @pthread_mutex_unlock(ptr %mutex)
  ret void
}
define internal void @wake(ptr %pool, ptr %word) #0 {
  %mutex = getelementptr i8, ptr %pool, i64 $mutex
  %cond = getelementptr i8, ptr %pool, i64 $cond
  %l = call i32 @pthread_mutex_lock(ptr %mutex)
  %b = call i32 @pthread_cond_broadcast(ptr %cond)
  %u = call i32 @pthread_mutex_unlock(ptr %mutex)
  ret void
}
"""

_TEXT = """
declare i32 @sched_yield()
declare void @$pause

; Until *word is no longer old, in the way of one of the gears. A sleeper counts itself first and the kernel compares again, so that no wake-up is lost.
define internal void @wait(ptr %pool, ptr %word, i32 %old, ptr %asleep, i64 %gear) #0 {
entry:
  %rounds.p = getelementptr i8, ptr %pool, i64 %gear
  %rounds = load i64, ptr %rounds.p
  %spins.p = getelementptr i64, ptr %rounds.p, i64 1
  %spins = load i64, ptr %spins.p
  br label %round
round:
  %i = phi i64 [ 0, %entry ], [ %i1, %yield ]
  %go = icmp ult i64 %i, %rounds
  br i1 %go, label %spin, label %sleep
spin:
  %k = phi i64 [ 0, %round ], [ %k1, %again ]
  %v = load atomic i32, ptr %word acquire, align 4
  %same = icmp eq i32 %v, %old
  br i1 %same, label %tired, label %done
tired:
  %more = icmp ult i64 %k, %spins
  br i1 %more, label %again, label %yield
again:
  call void @$pausing
  %k1 = add i64 %k, 1
  br label %spin
yield:
  %r = call i32 @sched_yield()
  %i1 = add i64 %i, 1
  br label %round
sleep:
  %in = atomicrmw add ptr %asleep, i32 1 seq_cst
  call void @sleep(ptr %pool, ptr %word, i32 %old)
  %out = atomicrmw sub ptr %asleep, i32 1 seq_cst
  %now = load atomic i32, ptr %word acquire, align 4
  %still = icmp eq i32 %now, %old
  br i1 %still, label %sleep, label %done
done:
  ret void
}

define internal void @notify(ptr %pool, ptr %word, ptr %asleep) #0 {
  %old = atomicrmw add ptr %word, i32 1 seq_cst
  %n = load atomic i32, ptr %asleep seq_cst, align 4
  %any = icmp ne i32 %n, 0
  br i1 %any, label %wake, label %done
wake:
  call void @wake(ptr %pool, ptr %word)
  br label %done
done:
  ret void
}

; A worker's life: wait for the next epoch, run the job on its context, count itself done; the last one tells the caller.
define ptr @worker(ptr %ctx) #0 {
entry:
  %pool.p = getelementptr i64, ptr %ctx, i64 $POOL
  %pool = load ptr, ptr %pool.p
  %mystep = getelementptr i64, ptr %ctx, i64 $STEP
  %sleepers = getelementptr i8, ptr %pool, i64 $sleepers
  %kernel.p = getelementptr i8, ptr %pool, i64 $kernel
  %vals.p = getelementptr i8, ptr %pool, i64 $vals
  %words.p = getelementptr i8, ptr %pool, i64 $words
  %step.p = getelementptr i8, ptr %pool, i64 $step
  %stop.p = getelementptr i8, ptr %pool, i64 $stop
  %left = getelementptr i8, ptr %pool, i64 $left
  %finished = getelementptr i8, ptr %pool, i64 $finished
  %waiters = getelementptr i8, ptr %pool, i64 $waiters
  br label %next
next:
  %last = phi i32 [ 0, %entry ], [ %epoch, %work ], [ %epoch, %tell ]
  %gear = phi i64 [ $idle, %entry ], [ $idle, %work ], [ %calm, %tell ]
  call void @wait(ptr %pool, ptr %pool, i32 %last, ptr %sleepers, i64 %gear)
  %epoch = load atomic i32, ptr %pool acquire, align 4
  %stop = load i64, ptr %stop.p
  %end = icmp ne i64 %stop, 0
  br i1 %end, label %out, label %work
work:
  %kernel = load ptr, ptr %kernel.p
  %vals = load ptr, ptr %vals.p
  %words = load ptr, ptr %words.p
  %step = load i64, ptr %step.p
  store i64 %step, ptr %mystep
  %begin = call i64 @now()
  call void @work(ptr %ctx, ptr %kernel, ptr %vals, ptr %words, i64 %begin)
  %n = atomicrmw sub ptr %left, i32 1 acq_rel
  %final = icmp eq i32 %n, 1
  br i1 %final, label %tell, label %next
tell:
  %n.asleep = load atomic i32, ptr %waiters seq_cst, align 4
  %crowded = icmp ne i32 %n.asleep, 0
  %calm = select i1 %crowded, i64 $polite, i64 $idle
  call void @notify(ptr %pool, ptr %finished, ptr %waiters)
  br label %next
out:
  ret ptr null
}

; One kernel on all threads; returns when all are done.
define void @dispatch(ptr %pool, ptr %kernel, ptr %vals, ptr %words, i64 %step) #0 {
entry:
  %nt.p = getelementptr i8, ptr %pool, i64 $nt
  %nt = load i64, ptr %nt.p
  %ctx = getelementptr i8, ptr %pool, i64 $contexts
  %mystep = getelementptr i64, ptr %ctx, i64 $STEP
  store i64 %step, ptr %mystep
  %one = icmp eq i64 %nt, 1
  br i1 %one, label %alone, label %all
alone:
  call void %kernel(ptr %ctx, ptr %vals, ptr %words)
  ret void
all:
  %kernel.p = getelementptr i8, ptr %pool, i64 $kernel
  store ptr %kernel, ptr %kernel.p
  %vals.p = getelementptr i8, ptr %pool, i64 $vals
  store ptr %vals, ptr %vals.p
  %words.p = getelementptr i8, ptr %pool, i64 $words
  store ptr %words, ptr %words.p
  %step.p = getelementptr i8, ptr %pool, i64 $step
  store i64 %step, ptr %step.p
  %nt32 = trunc i64 %nt to i32
  %others = sub i32 %nt32, 1
  %left = getelementptr i8, ptr %pool, i64 $left
  store atomic i32 %others, ptr %left monotonic, align 4
  %finished = getelementptr i8, ptr %pool, i64 $finished
  %old = load atomic i32, ptr %finished acquire, align 4
  %sleepers = getelementptr i8, ptr %pool, i64 $sleepers
  call void @notify(ptr %pool, ptr %pool, ptr %sleepers)
  %begin = call i64 @now()
  call void @work(ptr %ctx, ptr %kernel, ptr %vals, ptr %words, i64 %begin)
  %waiters = getelementptr i8, ptr %pool, i64 $waiters
  call void @wait(ptr %pool, ptr %finished, i32 %old, ptr %waiters, i64 $join)
  %busy.p = getelementptr i64, ptr %ctx, i64 $BUSY
  %busy = load i64, ptr %busy.p
  %worth.p = getelementptr i8, ptr %pool, i64 $worth
  %worth = load i64, ptr %worth.p
  %long = icmp sgt i64 %busy, %worth
  br i1 %long, label %learn, label %done
learn:
  call void @balance(ptr %pool, i64 %nt, i64 %busy)
  br label %done
done:
  ret void
}

; For kernels: returns when every thread of this step has called it.
define void @barrier(ptr %ctx) #0 {
entry:
  %nt.p = getelementptr i64, ptr %ctx, i64 $NT
  %nt = load i64, ptr %nt.p
  %one = icmp eq i64 %nt, 1
  br i1 %one, label %out, label %meet
meet:
  %pool.p = getelementptr i64, ptr %ctx, i64 $POOL
  %pool = load ptr, ptr %pool.p
  %count = getelementptr i8, ptr %pool, i64 $count
  %round = getelementptr i8, ptr %pool, i64 $round
  %resting = getelementptr i8, ptr %pool, i64 $resting
  %old = load atomic i32, ptr %round acquire, align 4
  %n = atomicrmw add ptr %count, i32 1 acq_rel
  %nt32 = trunc i64 %nt to i32
  %n1 = add i32 %n, 1
  %final = icmp eq i32 %n1, %nt32
  br i1 %final, label %open, label %stay
open:
  store atomic i32 0, ptr %count monotonic, align 4
  call void @notify(ptr %pool, ptr %round, ptr %resting)
  ret void
stay:
  %come = call i64 @now()
  call void @wait(ptr %pool, ptr %round, i32 %old, ptr %resting, i64 $join)
  %go = call i64 @now()
  %time = sub i64 %go, %come
  %waited.p = getelementptr i64, ptr %ctx, i64 $WAITED
  %waited = load i64, ptr %waited.p
  %longer = add i64 %waited, %time
  store i64 %longer, ptr %waited.p
  ret void
out:
  ret void
}

define void @pauses(i64 %n) #0 {
entry:
  br label %loop
loop:
  %i = phi i64 [ 0, %entry ], [ %i1, %loop ]
  call void @$pausing
  %i1 = add i64 %i, 1
  %more = icmp ult i64 %i1, %n
  br i1 %more, label %loop, label %out
out:
  ret void
}

define void @stop(ptr %pool) #0 {
  %stop.p = getelementptr i8, ptr %pool, i64 $stop
  store i64 1, ptr %stop.p
  %sleepers = getelementptr i8, ptr %pool, i64 $sleepers
  call void @notify(ptr %pool, ptr %pool, ptr %sleepers)
  ret void
}

define void @entries(ptr %out) #0 {
  store ptr @worker, ptr %out
  %p1 = getelementptr ptr, ptr %out, i64 1
  store ptr @dispatch, ptr %p1
  %p2 = getelementptr ptr, ptr %out, i64 2
  store ptr @barrier, ptr %p2
  %p3 = getelementptr ptr, ptr %out, i64 3
  store ptr @pauses, ptr %p3
  %p4 = getelementptr ptr, ptr %out, i64 4
  store ptr @stop, ptr %p4
  ret void
}

attributes #0 = { $attributes }
"""


def text(futex: bool) -> str:
    """The pool's IR for this machine: sleeping by Linux's futex, or by a POSIX condition variable."""
    arm = isa.level == "neon"
    pause, pausing = ("llvm.aarch64.hint(i32)", "llvm.aarch64.hint(i32 1)") if arm else ("llvm.x86.sse2.pause()",) * 2
    context = dict(NT=NT, STEP=STEP, POOL=POOL, FROM=FROM, TO=TO, DONE=DONE, WAITED=WAITED, BUSY=BUSY, WEIGHT=WEIGHT, CONTEXT=CONTEXT)
    weights = dict(time=balance.TIME, most=balance.MOST, alike=balance.ALIKE, least=balance.LEAST, whole=balance.WHOLE)
    names = dict(AT, **context, **weights, pause=pause, pausing=pausing, futex=98 if arm else 202, attributes=isa.attributes)
    return string.Template((_FUTEX if futex else _PTHREAD) + clock.TEXT + balance.TEXT + _TEXT).substitute(names)


_OUTSIDE = ("clock_gettime", "syscall", "sched_yield", "pthread_mutex_lock", "pthread_mutex_unlock", "pthread_cond_wait", "pthread_cond_broadcast")
_libc = ctypes.CDLL(None)
_address = ctypes.c_void_p
_of_pool = ctypes.CFUNCTYPE(None, _address)


class Pool:
    """`nt` threads, the caller among them. `address` is the native memory that dispatch and kernels use."""

    def __init__(self, nt: int, futex: bool = sys.platform == "linux"):
        entries = (ctypes.c_size_t * 5)()
        _of_pool(code.load(text(futex), "entries", 1, _OUTSIDE))(ctypes.addressof(entries))
        worker, dispatch, barrier, pauses, stop = entries
        self._stop, self.wanted = _of_pool(stop), nt
        self.scratch = self.shared = 0
        self._private = self._common = None
        self._memory = memory.empty(AT["contexts"] + nt * CONTEXT)
        self.address = self._memory.address
        ctypes.memset(self.address, 0, self._memory.nbytes)
        self._view = (ctypes.c_char * self._memory.nbytes).from_address(self.address)
        _libc.pthread_mutex_init(_address(self.address + AT["mutex"]), None)
        _libc.pthread_cond_init(_address(self.address + AT["cond"]), None)
        rate = 0 if nt > isa.cores() else _rate(pauses)
        for gear, (rounds, seconds) in GEARS.items(): self._put(AT[gear], rounds, int(rate * seconds))
        self._put(AT["dispatch"], dispatch, balance.WORTH * nt)
        for tid in range(-1, nt):              # -1: the caller alone, for serial steps
            self._put(_context(tid), max(tid, 0), nt if tid >= 0 else 1, 0, 0, barrier, self.address + AT["error"], 0, 0, balance.WHOLE, 0, self.address)
        self._handles = self._start(worker, nt)
        self.nt = len(self._handles) + 1
        if self.nt < nt:
            warnings.warn(f"forno: only {self.nt} of {nt} threads could be started", RuntimeWarning, stacklevel=2)
            for tid in range(self.nt): self._put(_context(tid) + NT * _WORD, self.nt)
        for tid in range(self.nt):
            self._put(_context(tid) + FROM * _WORD, balance.even(tid, self.nt), balance.even(tid + 1, self.nt))
            struct.pack_into("d", self._view, _context(tid) + WEIGHT * _WORD, 1 / self.nt)
        self._put(AT["nt"], self.nt)

    def _put(self, offset: int, *words: int) -> None: struct.pack_into(f"{len(words)}q", self._view, offset, *words)

    def _start(self, worker: int, nt: int) -> list[int]:
        """Workers take no signals: Python's handlers belong to its own threads."""
        handles, attr = [], ctypes.create_string_buffer(256)
        _libc.pthread_attr_init(attr)
        _libc.pthread_attr_setstacksize(attr, ctypes.c_size_t(STACK))
        old = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            for tid in range(1, nt):
                handle = _address()
                if _libc.pthread_create(ctypes.byref(handle), attr, _address(worker), _address(self.address + _context(tid))): break
                handles.append(handle.value)
                if sys.platform == "linux": _libc.pthread_setname_np(handle, f"forno-{tid}".encode())
        finally: signal.pthread_sigmask(signal.SIG_SETMASK, old)
        _libc.pthread_attr_destroy(attr)
        return handles

    def reserve(self, scratch: int, shared: int) -> None:
        """At least so many bytes of private scratch per thread, and of scratch that all see."""
        if scratch > self.scratch:
            each = scratch + _LINE - 1 & -_LINE
            self._private, self.scratch = memory.empty(each * self.nt), scratch
            for tid in range(-1, self.nt): self._put(_context(tid) + SCRATCH * _WORD, self._private.address + max(tid, 0) * each)
        if shared > self.shared:
            self._common, self.shared = memory.empty(shared), shared
            for tid in range(-1, self.nt): self._put(_context(tid) + SHARED * _WORD, self._common.address)

    def error(self) -> tuple[int, int, int, int]:
        """(code, index, size, step) as a kernel of the last run wrote them."""
        return struct.unpack_from("4q", self._view, AT["error"])

    def stop(self) -> None:
        """Ends the workers and waits for them."""
        self._stop(self.address)
        for handle in self._handles: _libc.pthread_join(_address(handle), None)
        self._handles = []
        self._private = self._common = None    # tables keep the pool they last ran on until they run again


def _context(tid: int) -> int: return AT["contexts"] + tid * CONTEXT if tid >= 0 else AT["serial"]


def _rate(pauses: int) -> float:
    """Pause instructions per second: one takes from 5 to 140 cycles, by processor."""
    count, best = 500, 1.0
    for _ in range(5):
        start = time.perf_counter()
        ctypes.CFUNCTYPE(None, ctypes.c_int64)(pauses)(count)
        best = min(best, time.perf_counter() - start)
    return count / best


# ---- the process's pool
lock = threading.RLock()                       # holder: may run plans. Reentrant, because finalizers and signal handlers run anywhere in Python
_pool: Pool | None = None
ready: list[Pool | None] = [None]              # the pool, when it has the number of threads wanted
_wanted = 0                                    # set by the user; 0: the default


def get_num_threads() -> int:
    if _wanted or flags.NUM_THREADS: return _wanted or flags.NUM_THREADS
    omp = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    return int(omp) if omp.isdigit() and int(omp) else isa.cores()


def set_num_threads(n: int) -> None:
    """From the next plan on, parallel kernels run on `n` threads."""
    global _wanted
    if type(n) is not int: raise RuntimeError(f"set_num_threads expects an int, but got {type(n).__name__}")
    if n < 1: raise RuntimeError("set_num_threads expects a positive integer")
    with lock: _wanted, ready[0] = n, None


def pool() -> Pool:
    """The pool with the number of threads wanted now; call it with `lock` held."""
    global _pool
    if ready[0] is None:
        wanted = get_num_threads()
        if _pool is None or _pool.wanted != wanted:
            if _pool is not None: _pool.stop()
            _pool = Pool(wanted)
        ready[0] = _pool
    return _pool


def _forget() -> None:
    """In a forked child the workers are gone; the pool's memory is dropped and the next plan starts new ones."""
    global _pool
    _pool = ready[0] = None
    lock.release()


if hasattr(os, "register_at_fork"): os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=_forget)
