"""Ambient settings that rows ask for while a line is made. Whoever changes one records a marker line first (graph.record.ambient)."""
from . import dtype as dt


class State:
    default_dtype: dt.dtype = dt.float32
    deterministic: bool = False


state = State()
