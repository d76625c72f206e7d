"""torch.xpu on a machine without one."""


def is_available() -> bool: return False
def is_initialized() -> bool: return False
def device_count() -> int: return 0
def is_bf16_supported(including_emulation: bool = True) -> bool: return False
def manual_seed(seed: int): return None
def manual_seed_all(seed: int): return None
def empty_cache(): return None
def memory_allocated(device=None) -> int: return 0
def max_memory_allocated(device=None) -> int: return 0
def memory_reserved(device=None) -> int: return 0
def max_memory_reserved(device=None) -> int: return 0


def _needs(name):
    def f(*args, **kw): raise AssertionError("Torch not compiled with XPU enabled")
    f.__name__ = f.__qualname__ = name
    return f


for _n in ("init", "current_device", "synchronize", "get_device_name", "get_device_capability", "get_device_properties", "set_device", "current_stream", "initial_seed",
           "get_rng_state", "mem_get_info"): globals()[_n] = _needs(_n)
