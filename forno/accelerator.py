"""torch.accelerator: whichever accelerator there is. There is none."""


def is_available() -> bool: return False
def device_count() -> int: return 0
def current_accelerator(check_available: bool = False): return None
def empty_cache(): return None
def memory_allocated(device=None) -> int: return 0
def max_memory_allocated(device=None) -> int: return 0
def memory_reserved(device=None) -> int: return 0
def max_memory_reserved(device=None) -> int: return 0


def _needs(name):
    def f(*args, **kw): raise RuntimeError("Cannot access accelerator device when none is available.")
    f.__name__ = f.__qualname__ = name
    return f


for _n in ("current_device_index", "current_device_idx", "set_device_index", "set_device_idx", "synchronize", "current_stream", "set_stream"): globals()[_n] = _needs(_n)
