"""torch.mps on a machine without one."""


def is_available() -> bool: return False
def device_count() -> int: return 0
def manual_seed(seed: int): return None
def seed(): return None


def _needs(name, call):
    def f(*args, **kw): raise RuntimeError(f"Cannot execute {call}() without MPS backend.")
    f.__name__ = f.__qualname__ = name
    return f


for _n, _c in dict(synchronize="deviceSynchronize", empty_cache="emptyCache", current_allocated_memory="getCurrentAllocatedMemory",
                   driver_allocated_memory="getDriverAllocatedMemory", recommended_max_memory="recommendedMaxMemory",
                   set_per_process_memory_fraction="setMemoryFraction", get_rng_state="getRngState",
                   set_rng_state="setRngState").items(): globals()[_n] = _needs(_n, _c)
