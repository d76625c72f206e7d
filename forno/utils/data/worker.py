"""Worker processes: what they run, and how a batch travels.

Each worker has one duplex pipe. Requests and answers are small messages; everything big in an answer (tensors, NumPy arrays, long pickles) is written
once into an anonymous shared-memory file whose descriptor is sent along, and which the parent maps. There is no name that could stay behind when
somebody is killed, and the size of /dev/shm does not matter. Where descriptors can't be sent (Windows), bytes go through the pipe.
"""
from __future__ import annotations

import io
import mmap
import os
import pickle
import random
import socket
import struct
import sys
import tempfile
import traceback
import weakref
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from ...framework import api as torch
from ...framework import storage as memory
from .collate import default_collate
from .dataset import rows_at_once

INLINE = 2048                                  # bytes up to which an answer goes through the pipe itself
ALIGN = 64
SENDS_FILES = hasattr(socket, "send_fds")


@dataclass(frozen=True)
class WorkerInfo:
    """What a worker knows about itself: `get_worker_info()` in datasets, samplers and init functions."""
    id: int
    num_workers: int
    seed: int
    dataset: Any


_info: WorkerInfo | None = None


def get_worker_info() -> WorkerInfo | None:
    """This worker's WorkerInfo; None in the main process."""
    return _info


class KeyErrorMessage(str):
    """A KeyError prints its argument's repr; this one stays readable."""
    __slots__ = ()
    def __repr__(self): return str(self)


class ExceptionWrapper:
    """An exception on its way between processes: its type and its traceback as text."""

    def __init__(self, where: str):
        kind, value, tb = sys.exc_info()
        self.exc_type, self.where = kind, where
        self.exc_msg = "".join(traceback.format_exception(kind, value, tb))

    def reraise(self):
        msg = f"Caught {self.exc_type.__name__} {self.where}.\nOriginal {self.exc_msg}"
        if self.exc_type is KeyError: raise KeyError(KeyErrorMessage(msg))
        try: exception = self.exc_type(message=msg) if getattr(self.exc_type, "message", None) else self.exc_type(msg)
        except Exception: exception = RuntimeError(msg)        # its constructor wants something else
        raise exception from None


@dataclass(frozen=True)
class Exhausted:
    """The answer of a worker whose iterable dataset has ended."""
    worker: int


class Job(NamedTuple):
    """What a DataLoader tells its workers."""
    dataset: Any
    iterable: bool
    batched: bool
    collate_fn: Any
    drop_last: bool
    init_fn: Any
    num_workers: int


class Fetcher:
    """Loads one batch; the same object serves the main process and the workers."""

    def __init__(self, job: Job):
        self.dataset, self.iterable, self.batched, self.collate_fn, self.drop_last = job[:5]
        self.stream, self.ended = (iter(self.dataset) if self.iterable else None), False

    def fetch(self, index):
        if self.iterable: return self.collate_fn(self._take(index))
        if not self.batched: return self.collate_fn(self.dataset[index])
        if self.collate_fn is default_collate:
            batch = rows_at_once(self.dataset, index)
            if batch is not None: return batch
        many = getattr(self.dataset, "__getitems__", None)
        return self.collate_fn(many(index) if many else [self.dataset[i] for i in index])

    def _take(self, index):
        if self.ended: raise StopIteration
        if not self.batched: return next(self.stream)
        rows = []
        for _ in index:
            try: rows.append(next(self.stream))
            except StopIteration:
                self.ended = True
                break
        if not rows or (self.drop_last and len(rows) < len(index)): raise StopIteration
        return rows


# ---- answers: a pickle and the buffers it refers to, behind each other in one block

class _Pickler(pickle.Pickler):
    """Keeps tensors and NumPy arrays out of the stream: it only says what they are, their bytes are in `tensors` and `arrays`."""

    def __init__(self, file):
        self.tensors, self.arrays = [], []
        super().__init__(file, protocol=5, buffer_callback=lambda b: self.arrays.append(b.raw()))

    def persistent_id(self, obj):
        if not isinstance(obj, torch.Tensor) or obj.layout is not torch.strided: return None
        self.tensors.append(memory.raw_bytes(obj))
        return obj.dtype, tuple(obj.shape), bool(obj.requires_grad), len(self.tensors) - 1


class _Unpickler(pickle.Unpickler):
    def __init__(self, file, tensors, arrays):
        super().__init__(file, buffers=arrays)
        self.tensors = tensors

    def persistent_load(self, key):
        dtype, shape, requires_grad, i = key
        out = memory.adopt(self.tensors[i], dtype, shape)
        return out.requires_grad_() if requires_grad else out


_HEADER = struct.Struct("<?QII")               # in shared memory?, bytes of the block, tensors, arrays


def _place(sizes, start) -> tuple[list[int], int]:
    """Aligned positions for parts of these sizes, and the end."""
    places = []
    for n in sizes:
        start = -(-start // ALIGN) * ALIGN
        places.append(start)
        start += n
    return places, start


def _fill(block, parts):
    """A table of sizes, then the parts."""
    sizes = [len(p) for p in parts]
    struct.pack_into(f"<{len(sizes)}Q", block, 0, *sizes)
    for at, p in zip(_place(sizes, 8 * len(sizes))[0], parts): block[at:at + len(p)] = p


def _new_block(nbytes: int) -> int:
    """Descriptor of shared memory without a name."""
    if hasattr(os, "memfd_create"): fd = os.memfd_create("forno-batch", os.MFD_CLOEXEC)
    else:
        with tempfile.TemporaryFile() as f: fd = os.dup(f.fileno())
    os.ftruncate(fd, nbytes)
    return fd


def send(conn, answer):
    """Sends an answer through a pipe, with a descriptor when it is big."""
    file = io.BytesIO()
    pickler = _Pickler(file)
    pickler.dump(answer)
    parts = [file.getbuffer(), *pickler.tensors, *pickler.arrays]
    total = _place([len(p) for p in parts], 8 * len(parts))[1]
    counts = len(pickler.tensors), len(pickler.arrays)
    if total <= INLINE or not SENDS_FILES:
        block = bytearray(total)
        _fill(block, parts)
        conn.send_bytes(_HEADER.pack(False, total, *counts) + block)
        return
    fd = _new_block(total)
    try:
        with mmap.mmap(fd, total) as block: _fill(block, parts)
        conn.send_bytes(_HEADER.pack(True, total, *counts))
        with socket.socket(fileno=os.dup(conn.fileno())) as channel: socket.send_fds(channel, [b"f"], [fd])
    finally: os.close(fd)


def receive(conn):
    """The answer at the end of a pipe; its tensors lie in the memory the worker wrote, which lives as long as one of them."""
    message = conn.recv_bytes()
    shared, total, tensors, arrays = _HEADER.unpack_from(message)
    if shared:
        with socket.socket(fileno=os.dup(conn.fileno())) as channel: _, fds, _, _ = socket.recv_fds(channel, 1, 1)
        if not fds: raise EOFError
        try: block = memoryview(mmap.mmap(fds[0], total))
        finally: os.close(fds[0])
    else: block = memoryview(bytearray(memoryview(message)[_HEADER.size:]))
    sizes = struct.unpack_from(f"<{1 + tensors + arrays}Q", block)
    views = [block[at:at + n] for at, n in zip(_place(sizes, 8 * len(sizes))[0], sizes)]
    return _Unpickler(io.BytesIO(views[0]), views[1:1 + tensors], views[1 + tensors:]).load()


# ---- the process

open_ends: weakref.WeakSet = weakref.WeakSet()     # the parent's ends of all pipes: a forked worker must close its copies,
                                                   # or the others would never see the parent's end close


def seed_everything(base_seed: int, worker: int) -> int:
    seed = base_seed + worker
    random.seed(seed)
    torch.manual_seed(seed)
    np.random.seed(np.random.SeedSequence([worker, base_seed & 0xFFFFFFFF, base_seed >> 32, 0]).generate_state(4))
    return seed


def work(conn, job, base_seed, worker):
    """The life of a worker: a request is an index (or a list of them), "again" or nothing more; each but "again" gets one answer."""
    global _info
    for end in list(open_ends): end.close()
    parent = os.getppid()
    try:
        torch.set_num_threads(1)
        _info = WorkerInfo(worker, job.num_workers, seed_everything(base_seed, worker), job.dataset)
        where = f"in DataLoader worker process {worker}"
        failure = fetcher = None
        try:
            if job.init_fn is not None: job.init_fn(worker)
            fetcher = Fetcher(job)
        except Exception: failure = ExceptionWrapper(where)
        while True:
            while not conn.poll(5.0):
                if os.getppid() != parent: return
            request = conn.recv()
            if request == "again":
                if failure is None: fetcher = Fetcher(job)
                continue
            if failure is not None: answer = failure
            else:
                try: answer = fetcher.fetch(request)
                except Exception as e:
                    ended = isinstance(e, StopIteration) and job.iterable
                    answer = Exhausted(worker) if ended else ExceptionWrapper(where)
            try: send(conn, answer)
            except (BrokenPipeError, ConnectionResetError): return
            except Exception: send(conn, ExceptionWrapper(where))      # a batch that can't be pickled
            del answer
    except (KeyboardInterrupt, EOFError, BrokenPipeError, ConnectionResetError): return
    finally: conn.close()
