"""torch.multiprocessing: Python's own multiprocessing, whose queues and pipes carry tensors (shared memory as a file descriptor, see
framework/sharing), and `spawn`, which starts a number of processes and brings the first failure back with its traceback."""
from __future__ import annotations

import multiprocessing
import multiprocessing.connection
import signal
import traceback
from multiprocessing import *

from .core.errors import unsupported

__all__ = list(multiprocessing.__all__)
__all__ += ["ProcessContext", "ProcessException", "ProcessExitedException", "ProcessRaisedException", "SpawnContext", "get_all_sharing_strategies",
           "get_sharing_strategy", "set_sharing_strategy", "spawn", "start_processes"]


def get_all_sharing_strategies() -> set[str]: return {"file_descriptor"}
def get_sharing_strategy() -> str: return "file_descriptor"


def set_sharing_strategy(new_strategy: str):
    """Memory travels as a file descriptor; 'file_system', which scripts choose when descriptors run out, is the same here."""
    if new_strategy not in ("file_descriptor", "file_system"): raise unsupported(f"sharing strategy {new_strategy!r}", instead="'file_descriptor'")


class ProcessException(Exception):
    """A process that was started together with others ended badly."""

    def __init__(self, message: str, error_index: int, pid: int):
        super().__init__(message)
        self.msg, self.error_index, self.pid = message, error_index, pid


class ProcessRaisedException(ProcessException):
    """It raised; the message holds its traceback."""


class ProcessExitedException(ProcessException):
    """It exited or was killed."""

    def __init__(self, message: str, error_index: int, error_pid: int, exit_code: int, signal_name: str | None = None):
        super().__init__(message, error_index, error_pid)
        self.exit_code, self.signal_name = exit_code, signal_name


def _run(fn, index, args, errors):
    signal.signal(signal.SIGINT, signal.SIG_DFL)               # Ctrl-C reaches the whole group; one traceback is enough
    try: fn(index, *args)
    except BaseException as e:
        if isinstance(e, SystemExit) and not e.code: return
        errors.put(traceback.format_exc())
        raise SystemExit(1) from e


class ProcessContext:
    """Processes that were started together. The first one that fails takes the others along."""

    def __init__(self, processes, errors): self.processes, self.errors, self.sentinels = processes, errors, {p.sentinel: i for i, p in enumerate(processes)}

    def pids(self) -> list[int]: return [p.pid for p in self.processes]

    def join(self, timeout: float | None = None, grace_period: float | None = None) -> bool:
        """True when all have ended well; raises what the first failing one raised."""
        if not self.sentinels: return True
        failed = None
        for s in multiprocessing.connection.wait(list(self.sentinels), timeout):
            index = self.sentinels.pop(s)
            self.processes[index].join()
            if self.processes[index].exitcode and failed is None: failed = index
        if failed is None: return not self.sentinels
        for p in self.processes: p.terminate()
        for p in self.processes:
            p.join(grace_period or 30)
            if p.is_alive(): p.kill()
        p, told = self.processes[failed], None
        if not self.errors[failed].empty(): told = self.errors[failed].get()
        if told is not None: raise ProcessRaisedException(f"\n\n-- Process {failed} terminated with the following error:\n{told}", failed, p.pid)
        if p.exitcode < 0:
            name = signal.Signals(-p.exitcode).name
            raise ProcessExitedException(f"process {failed} terminated with signal {name}", failed, p.pid, p.exitcode, name)
        raise ProcessExitedException(f"process {failed} terminated with exit code {p.exitcode}", failed, p.pid, p.exitcode)


SpawnContext = ProcessContext


def start_processes(fn, args=(), nprocs=1, join=True, daemon=False, start_method="spawn"):
    """`fn(i, *args)` in nprocs processes; waits for them if join."""
    context = multiprocessing.get_context(start_method)
    errors = [context.SimpleQueue() for _ in range(nprocs)]
    processes = [context.Process(target=_run, args=(fn, i, args, errors[i]), daemon=daemon) for i in range(nprocs)]
    for p in processes: p.start()
    started = ProcessContext(processes, errors)
    if not join: return started
    while not started.join(): pass
    return None


def spawn(fn, args=(), nprocs=1, join=True, daemon=False, start_method="spawn"):
    return start_processes(fn, args, nprocs, join, daemon, start_method)
