"""The fast path of attention layers at inference."""
_fastpath = True


def get_fastpath_enabled() -> bool: return _fastpath


def set_fastpath_enabled(value: bool):
    global _fastpath
    _fastpath = bool(value)
