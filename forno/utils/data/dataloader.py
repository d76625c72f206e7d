"""The DataLoader: an order of batches, loaded in this process or ahead of time by workers, and given out in order."""
from __future__ import annotations

import itertools
import multiprocessing
import multiprocessing.connection
import os
import signal
import time
import warnings
import weakref
from collections import deque
from collections.abc import Mapping, Sequence

from ... import gpu
from ...framework import api as torch
from .collate import default_collate, default_convert
from .dataset import IterableDataset
from .sampler import BatchSampler, RandomSampler, SequentialSampler
from .worker import ExceptionWrapper, Exhausted, Fetcher, Job, open_ends, receive, work

_FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")


class _Forever:
    """The sampler of an iterable dataset, which alone knows where it ends."""
    def __iter__(self): return itertools.repeat(None)


class DataLoader:
    """Iterating gives batches of `dataset`; every `iter()` is one epoch in a new order. Options and errors are PyTorch's."""
    _ready = False

    def __init__(self, dataset, batch_size=1, shuffle=None, sampler=None, batch_sampler=None, num_workers=0, collate_fn=None, pin_memory=False,
                 drop_last=False, timeout=0, worker_init_fn=None, multiprocessing_context=None, generator=None, *, prefetch_factor=None,
                 persistent_workers=False, pin_memory_device="", in_order=True):
        if num_workers < 0:
            raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
        if timeout < 0: raise ValueError("timeout option should be non-negative")
        if num_workers == 0 and prefetch_factor is not None:
            raise ValueError("prefetch_factor option could only be specified in multiprocessing."
                             "let num_workers > 0 to enable multiprocessing, otherwise set prefetch_factor to None.")
        if prefetch_factor is not None and prefetch_factor <= 0: raise ValueError("prefetch_factor option should be positive")
        if persistent_workers and num_workers == 0: raise ValueError("persistent_workers option needs num_workers > 0")
        self.dataset, self.num_workers, self.timeout, self.worker_init_fn, self.in_order = dataset, num_workers, timeout, worker_init_fn, in_order
        self.prefetch_factor = 2 if num_workers > 0 and prefetch_factor is None else prefetch_factor
        self.pin_memory, self.pin_memory_device, self.persistent_workers = pin_memory, pin_memory_device, persistent_workers
        self.multiprocessing_context = multiprocessing_context
        self.iterable = isinstance(dataset, IterableDataset)
        if self.iterable:
            for name, option in (("shuffle", shuffle or None), ("sampler", sampler), ("batch_sampler", batch_sampler)):
                if option is not None:
                    raise ValueError(f"DataLoader with IterableDataset: expected unspecified {name} option, but got {name}={option}")
        if sampler is not None and shuffle: raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError("batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last")
            batch_size, drop_last = None, False
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
        if sampler is None:
            if self.iterable: sampler = _Forever()
            else: sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_size is not None and batch_sampler is None: batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self.batch_size, self.drop_last, self.sampler, self.batch_sampler, self.generator = batch_size, drop_last, sampler, batch_sampler, generator
        self.collate_fn = collate_fn or (default_collate if self._auto_collation else default_convert)
        self._iterator, self._claimed_length = None, None
        self._ready = True
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
        if cores and num_workers > cores:
            warnings.warn(f"This DataLoader will create {num_workers} worker processes in total. Our suggested max number of worker in current "
                          f"system is {cores}, which is smaller than what this DataLoader is going to create. Excessive worker creation might get "
                          "DataLoader running slow or even freeze, lower the worker number if necessary.", stacklevel=2)

    def __setattr__(self, name, value):
        if self._ready and name in _FIXED: raise ValueError(f"{name} attribute should not be set after {type(self).__name__} is initialized")
        super().__setattr__(name, value)

    @property
    def multiprocessing_context(self): return self._context

    @multiprocessing_context.setter
    def multiprocessing_context(self, context):
        if context is not None and self.num_workers == 0:
            raise ValueError(f"multiprocessing_context can only be used with multi-process loading (num_workers > 0), but got "
                             f"num_workers={self.num_workers}")
        if isinstance(context, str):
            valid = multiprocessing.get_all_start_methods()
            if context not in valid:
                raise ValueError(f"multiprocessing_context option should specify a valid start method in {valid!r}, but got "
                                 f"multiprocessing_context={context!r}")
            context = multiprocessing.get_context(context)
        if context is not None and not isinstance(context, multiprocessing.context.BaseContext):
            raise TypeError("multiprocessing_context option should be a valid context object or a string specifying the start method, but got "
                            f"multiprocessing_context={context}")
        self._context = context

    @property
    def _auto_collation(self) -> bool: return self.batch_sampler is not None

    @property
    def _index_sampler(self): return self.batch_sampler if self._auto_collation else self.sampler

    def _job(self) -> Job:
        return Job(self.dataset, self.iterable, self._auto_collation, self.collate_fn, self.drop_last, self.worker_init_fn, self.num_workers)

    def __iter__(self):
        if self.num_workers == 0: return _Here(self)
        if not self.persistent_workers: return _Workers(self)
        if self._iterator is None: self._iterator = _Workers(self)
        else: self._iterator.restart(self)
        return self._iterator

    def __len__(self):
        if not self.iterable: return len(self._index_sampler)
        self._claimed_length = n = len(self.dataset)
        if self.batch_size is None: return n
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)


class _Epoch:
    """What both ways of loading share: the order, the seed for workers, pinning, a check of claimed lengths."""

    def __init__(self, loader):
        self.loader = weakref.proxy(loader) if loader.persistent_workers else loader      # no cycle with loader._iterator
        self.dataset, self.pinned = loader.dataset, loader.pin_memory and gpu.reason() is None
        if loader.pin_memory and not self.pinned:
            warnings.warn("'pin_memory' argument is set as true but no accelerator is found, then device pinned memory won't be used.",
                          stacklevel=3)
        self.begin(loader)
        self.base_seed = torch.empty((), dtype=torch.int64).random_(generator=loader.generator).item()

    def begin(self, loader):
        self.order, self.given, self.claimed = iter(loader._index_sampler), 0, loader._claimed_length

    def __iter__(self): return self
    def __len__(self): return len(self.loader._index_sampler)
    def __getstate__(self): raise NotImplementedError(f"{type(self).__name__} cannot be pickled")

    def __next__(self):
        data = self.next_batch()
        self.given += 1
        if self.loader.iterable and self.claimed is not None and self.given > self.claimed:
            warnings.warn(f"Length of IterableDataset {self.dataset} was reported to be {self.claimed} (when accessing len(dataloader)), but "
                          f"{self.given} samples have been fetched. With workers, each must iterate over its own share of the data: see "
                          "get_worker_info().", stacklevel=2)
        return pin(data) if self.pinned else data


class _Here(_Epoch):
    """Loading in this process."""

    def __init__(self, loader):
        super().__init__(loader)
        self.fetcher = Fetcher(loader._job())

    def next_batch(self): return self.fetcher.fetch(next(self.order))


class _Worker:
    """The parent's view of one worker: its process, its pipe, how many answers it owes."""

    def __init__(self, context, job, base_seed, number):
        self.pipe, theirs = context.Pipe(duplex=True)
        open_ends.add(self.pipe)
        self.process = context.Process(target=work, args=(theirs, job, base_seed, number), daemon=True)
        try: self.process.start()
        finally: theirs.close()
        self.active, self.owed = True, 0

    def ask(self, request):
        try: self.pipe.send(request)
        except (BrokenPipeError, ConnectionResetError): pass       # it is dead: reading from it will say how it died
        self.owed += 1

    def answer(self):
        self.owed -= 1
        return receive(self.pipe)

    def death(self) -> RuntimeError:
        """How the process ended, as the error for the user."""
        self.process.join(5)
        pid, code = self.process.pid, self.process.exitcode
        how = f"exited unexpectedly with exit code {code}"
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            how = f"exited unexpectedly: it is killed by signal: {signal.strsignal(-code)} ({name})"
            if name == "SIGKILL": how += "; if you didn't kill it, the system ran out of memory: use fewer workers or smaller batches"
            if name == "SIGBUS": how += "; the machine ran out of shared memory: use fewer workers or smaller batches"
        return RuntimeError(f"DataLoader worker (pid(s) {pid}) {how}. Loading with num_workers=0 shows an error of the dataset itself.")


def _stop(workers, owner):
    """Ends worker processes: closing the pipes asks them to, and who does not listen is terminated. A forked copy of the parent has none to end."""
    if os.getpid() != owner: return
    for w in workers: w.pipe.close()
    deadline = time.monotonic() + 5
    for w in workers:
        if w.process.pid is None: continue
        try: w.process.join(max(0.0, deadline - time.monotonic()) if not w.owed else 0.2)
        except KeyboardInterrupt: pass         # a second Ctrl-C while stopping: don't wait for the rest
        if w.process.is_alive(): w.process.terminate()
    for w in workers:
        if w.process.pid is None: continue
        w.process.join(1)
        if w.process.is_alive(): w.process.kill()
        w.process.join(1)
        if not w.process.is_alive(): w.process.close()
    workers.clear()


class _Workers(_Epoch):
    """Loading ahead in processes. Batch n is asked of the next worker in turn, and answers are taken in that order (or as they come)."""

    def __init__(self, loader):
        super().__init__(loader)
        context, job = loader.multiprocessing_context or multiprocessing, loader._job()
        self.workers: list[_Worker] = []
        self._finalizer = weakref.finalize(self, _stop, self.workers, os.getpid())
        self.persistent, self.timeout, self.in_order, self.ahead = (loader.persistent_workers, loader.timeout, loader.in_order,
                                                                    loader.prefetch_factor * loader.num_workers)
        try:
            for i in range(loader.num_workers): self.workers.append(_Worker(context, job, self.base_seed, i))
        except BaseException:
            self.close()
            raise
        self.turn, self.expected = 0, deque()
        for _ in range(self.ahead): self.ask()

    def restart(self, loader):
        """A new epoch with the same processes; answers of an abandoned epoch are thrown away."""
        if not self.workers: raise RuntimeError("the workers of this DataLoader were shut down after an error; make a new DataLoader")
        for w in self.workers:
            while w.owed: self.collect(w)
            w.pipe.send("again")
            w.active = True
        self.begin(loader)
        self.turn, self.expected = 0, deque()
        for _ in range(self.ahead): self.ask()

    def close(self): self._finalizer()

    def ask(self):
        """Hands the next index to the next worker that still has data."""
        n = len(self.workers)
        for k in range(n):
            w = self.workers[(self.turn + k) % n]
            if w.active: break
        else: return
        try: index = next(self.order)
        except StopIteration: return
        self.turn = (self.turn + k + 1) % n
        w.ask(index)
        self.expected.append(w)

    def collect(self, worker=None):
        """The next answer: of this worker, or of whichever is first."""
        asked = [worker] if worker else [w for w in self.workers if w.owed]
        ready = multiprocessing.connection.wait([w.pipe for w in asked], self.timeout or None)
        if not ready:
            self.close()
            raise RuntimeError(f"DataLoader timed out after {self.timeout} seconds")
        w = next(w for w in asked if w.pipe is ready[0])
        try: return w, w.answer()
        except (EOFError, ConnectionResetError, BrokenPipeError):
            error = w.death()
            self.close()
            raise error from None

    def next_batch(self):
        while self.expected:
            try: w, answer = self.collect(self.expected[0] if self.in_order else None)
            except KeyboardInterrupt:
                self.close()
                raise
            self.expected.remove(w)
            if isinstance(answer, Exhausted):
                w.active = False
                self.ask()
                continue
            self.ask()
            if isinstance(answer, ExceptionWrapper): answer.reraise()
            return answer
        if not self.persistent: self.close()
        raise StopIteration


def pin(data):
    """Every tensor inside `data` in page-locked memory, from which copies to a GPU need not wait."""
    if isinstance(data, torch.Tensor) or (hasattr(data, "pin_memory") and callable(data.pin_memory)): return data.pin_memory()
    if isinstance(data, (str, bytes)): return data
    if isinstance(data, Mapping): return type(data)({k: pin(v) for k, v in data.items()})
    if isinstance(data, tuple) and hasattr(data, "_fields"): return type(data)(*map(pin, data))
    if isinstance(data, Sequence): return type(data)(map(pin, data))
    return data
