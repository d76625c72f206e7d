"""torch.distributed as a build of PyTorch without it answers: not available, never initialized; training code then runs on one process."""
from __future__ import annotations

from ..core.errors import unsupported

GONE = "Default process group has not been initialized, please make sure to call init_process_group."


def is_available() -> bool: return False
def is_initialized() -> bool: return False
def is_mpi_available() -> bool: return False
def is_nccl_available() -> bool: return False
def is_gloo_available() -> bool: return False
def is_ucc_available() -> bool: return False
def is_xccl_available() -> bool: return False
def is_backend_available(backend: str) -> bool: return False
def is_torchelastic_launched() -> bool: return False


def _needs_group(name):
    def f(*args, **kw): raise ValueError(GONE)
    f.__name__ = f.__qualname__ = name
    return f


for _n in ("get_rank", "get_world_size", "get_backend", "barrier", "all_reduce", "all_gather", "all_gather_object", "broadcast", "broadcast_object_list", "reduce",
           "reduce_scatter", "scatter", "gather", "send", "recv", "isend", "irecv", "all_to_all", "new_group", "destroy_process_group"): globals()[_n] = _needs_group(_n)


def init_process_group(backend=None, init_method=None, timeout=None, world_size=-1, rank=-1, store=None, group_name="", pg_options=None, device_id=None):
    raise unsupported("torch.distributed.init_process_group", instead="run on one process (torch.distributed.is_available() is False)")


class ReduceOp:
    """Names of reductions, for signatures that mention them."""
    SUM, PRODUCT, MIN, MAX, BAND, BOR, BXOR, AVG, PREMUL_SUM = range(9)


class ProcessGroup: """For annotations."""
class group: WORLD = None
