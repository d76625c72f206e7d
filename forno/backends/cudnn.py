"""cuDNN: not used on the CPU. The switches keep what scripts set."""
import contextlib

enabled, benchmark, deterministic, allow_tf32 = True, False, False, True
benchmark_limit, fp32_precision = 10, "none"
_SWITCHES = "enabled", "benchmark", "benchmark_limit", "deterministic", "allow_tf32", "fp32_precision"


def is_available() -> bool: return False
def version(): return None
def is_acceptable(tensor) -> bool: return False


@contextlib.contextmanager
def flags(enabled=False, benchmark=False, benchmark_limit=10, deterministic=False, allow_tf32=True, fp32_precision="none"):
    """Set the switches for the length of a block."""
    asked, here = locals(), globals()
    before = {name: here[name] for name in _SWITCHES}
    here.update({name: asked[name] for name in _SWITCHES})
    try: yield
    finally: here.update(before)
