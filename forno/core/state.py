"""Ambient settings that rows ask for while a line is made. Whoever changes one records a marker line first (graph.record.ambient)."""
from . import dtype as dt


class State:
    default_dtype: dt.dtype = dt.float32
    deterministic: bool = False
    rounding: bool = False                     # products of float32 may round their factors (set_float32_matmul_precision)
    tf32: tuple[bool, bool] = (False, True)    # products, convolutions of float32 may round their factors to tf32 on a GPU: PyTorch's defaults
    without: frozenset = frozenset()           # names of providers of a GPU's kernels that are switched off (kernel/nvptx/providers.py)
    anomaly: bool = False                      # autograd.detect_anomaly: gradients are looked at as they are made
    memory: int = 1 << 62                      # bytes the machine has; set by the engine


state = State()
