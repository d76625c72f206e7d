"""MKL: not used; matrix products are forno's own."""
VERBOSE_OFF, VERBOSE_ON = 0, 1


def is_available() -> bool: return False


class verbose:
    """MKL's log, of which there is none."""

    def __init__(self, enable): self.enable = enable
    def __enter__(self): return self
    def __exit__(self, *error): return False
