"""NNPACK: not used."""


def is_available() -> bool: return False
def set_flags(_enabled) -> tuple: return (False,)
