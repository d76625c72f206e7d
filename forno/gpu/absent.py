"""A machine without a GPU. Absence is a backend: whoever asks gets an answer, and nobody above writes `if there is CUDA`."""
from __future__ import annotations


def device_count() -> int: return 0


def device_name(index: int) -> str: raise RuntimeError(f"there is no GPU {index}: this machine has none that forno can use")
