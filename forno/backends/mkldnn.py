"""oneDNN: not used; convolutions are forno's own. The switches keep what scripts set."""
import contextlib

VERBOSE_OFF, VERBOSE_ON, VERBOSE_ON_CREATION = 0, 1, 2
enabled, deterministic, allow_tf32 = True, False, True


def is_available() -> bool: return False


class verbose:
    """oneDNN's log, of which there is none."""

    def __init__(self, level): self.level = level
    def __enter__(self): return self
    def __exit__(self, *error): return False


@contextlib.contextmanager
def flags(enabled=False, deterministic=False, allow_tf32=True, fp32_precision="none"):
    """Set the switches for the length of a block."""
    asked, here = locals(), globals()
    before = {name: here[name] for name in ("enabled", "deterministic", "allow_tf32")}
    here.update({name: asked[name] for name in before})
    try: yield
    finally: here.update(before)
