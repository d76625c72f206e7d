"""OpenMP: not used; threads are forno's own pool."""


def is_available() -> bool: return False
