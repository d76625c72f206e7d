"""What scripts ask of a machine without an accelerator: streams and events, storages by type, control flow as functions, symbolic numbers, removed functions.

Everything runs in order here, so a stream is always done and an event has always happened. Numbers are never symbolic.
"""
from __future__ import annotations

import math
import operator
import os
import warnings

import numpy as np

from ..core import dtype as dt
from ..core.errors import AcceleratorError as AcceleratorError
from ..core.state import state
from ..dnn.elementwise import TITLES
from . import creation, data, hurried, legacy, settings, views
from .bind import element_type
from .sharing import TypedStorage
from .size import contiguous_format, on_cpu
from .tensor import Tensor


# ---------------------------------------------------------------- streams
class Stream:
    """A queue of work: the one a CPU has."""

    def __init__(self, device=None, *, priority=0, stream_id=0, **kw): self.device, self.stream_id = on_cpu(device), stream_id
    device_index, device_type = -1, 0
    def query(self) -> bool: return True
    def synchronize(self): return None
    def wait_event(self, event): return None
    def wait_stream(self, stream): return None

    def record_event(self, event=None):
        event = Event() if event is None else event
        event.record(self)
        return event

    def __enter__(self): return self
    def __exit__(self, *error): return False
    def __eq__(self, other): return isinstance(other, Stream) and self.stream_id == other.stream_id
    def __hash__(self): return hash(self.stream_id)
    def __repr__(self): return f"torch.Stream device_type={self.device.type}, device_index=-1, stream_id={self.stream_id}"


class Event:
    """A point in a queue: passed as soon as it is recorded."""

    def __init__(self, device=None, *, enable_timing=False, blocking=False, interprocess=False):
        self.device, self.event_id = on_cpu(device), 0

    def record(self, stream=None): return None
    def wait(self, stream=None): return None
    def query(self) -> bool: return True
    def synchronize(self): return None
    def elapsed_time(self, other): raise NotImplementedError("Backend doesn't support elapsedTime.")
    def __repr__(self): return "torch.Event device_type=cpu, device_index=-1, event_flag=0, event_id=0"


# ---------------------------------------------------------------- storages by type
class StorageType(type):
    """torch.FloatStorage and its like: constructors and isinstance checks of one dtype."""

    def __instancecheck__(cls, x): return isinstance(x, TypedStorage) and x.dtype is cls.dtype

    def __call__(cls, *args, device=None):
        on_cpu(device)
        if len(args) > 1: raise RuntimeError(f"{cls.__name__}.__new__(): received too many positional arguments: {len(args)}")
        values = args[0] if args else 0
        return TypedStorage(creation.empty(values, dtype=cls.dtype) if isinstance(values, int) else data.from_data(list(values), cls.dtype))

    def __repr__(cls): return f"<class 'torch.{cls.__name__}'>"


STORED = (*legacy.LEGACY, dt.complex64, dt.complex128)
STORAGES = {f"{TITLES[t.name]}Storage": StorageType(f"{TITLES[t.name]}Storage", (), {"dtype": t, "__module__": "torch", "__doc__": f"Storages of {t!r}."}) for t in STORED}


def storage_type(self): return STORAGES[f"{TITLES[self.dtype.name]}Storage"]


# ---------------------------------------------------------------- control flow as functions: run at once, as PyTorch does outside a compiler
def truth(pred, name):
    if isinstance(pred, Tensor):
        if pred.dtype is not dt.bool or pred.numel() != 1: raise RuntimeError(f"Expected {name} to be bool or single-element tensor, but got {pred}.")
        return bool(pred)
    if not isinstance(pred, (bool, int)): raise RuntimeError(f"Expected {name} to be bool or single-element tensor, but got {pred}.")
    return bool(pred)


def cond(pred, true_fn, false_fn, operands=()):
    """true_fn(*operands) or false_fn(*operands)."""
    if not callable(true_fn) or not callable(false_fn): raise RuntimeError("Expect both branches to be callable.")
    if not isinstance(operands, (tuple, list)): raise RuntimeError(f"Expect operands to be a tuple of possibly nested dict/list/tuple that only consists of tensor leaves, but got {operands}.")
    return (true_fn if truth(pred, "pred") else false_fn)(*operands)


def while_loop(cond_fn, body_fn, carried_inputs):
    """carried = body_fn(*carried) as long as cond_fn(*carried)."""
    carried = tuple(carried_inputs)
    while truth(cond_fn(*carried), "cond_fn to return"):
        carried = body_fn(*carried)
        if not isinstance(carried, (tuple, list)) or len(carried) != len(carried_inputs):
            raise RuntimeError(f"body_fn should return a tuple of {len(carried_inputs)} elements as carried_inputs, but got {carried}")
        carried = tuple(carried)
    return carried


# ---------------------------------------------------------------- symbolic numbers
class SymInt: """A size that a compiler doesn't know yet; none exists here."""
class SymFloat: """A number that a compiler doesn't know yet; none exists here."""
class SymBool: """A truth value that a compiler doesn't know yet; none exists here."""


def sym_int(a) -> int: return math.trunc(a)
def sym_float(a) -> float: return float(a)
def sym_not(a) -> bool: return not a
def sym_ite(b, t, f): return t if b else f
def sym_sum(args): return sum(args)
def sym_sqrt(a) -> float: return math.sqrt(a)
def larger(pick, a, b): return float(pick(a, b)) if isinstance(a, float) or isinstance(b, float) else pick(a, b)
def sym_max(a, b): return larger(max, a, b)
def sym_min(a, b): return larger(min, a, b)
def sym_fresh_size(expr): return operator.index(expr)


# ---------------------------------------------------------------- what this build has, and what is gone
has_lapack = has_mkl = has_openmp = has_spectral = True
def compiled_with_cxx11_abi() -> bool: return True
def is_vulkan_available() -> bool: return False
def is_distributed(input) -> bool: return False
def cudnn_is_acceptable(tensor) -> bool: return False
def init_num_threads() -> None: """Threads are started by the first kernel that uses them."""


def set_anomaly_enabled(enabled: bool, check_nan: bool = True) -> None: state.anomaly = bool(enabled)
def set_autocast_cpu_enabled(enabled: bool) -> None: settings.set_autocast_enabled("cpu", enabled)
def set_autocast_cpu_dtype(dtype) -> None: settings.set_autocast_dtype("cpu", dtype)
def set_autocast_gpu_dtype(dtype) -> None: settings.set_autocast_dtype("cuda", dtype)
def dequantize(input): return input.to(dt.float32)
def thread_safe_generator() -> None: return None


def from_file(filename, shared=None, size=0, *, dtype=None, layout=None, device=None, requires_grad=False, pin_memory=False):
    """`size` elements of a file. Shared, they are the file: it grows to them, and writes go there."""
    size_, kind = int(size), element_type(dtype) or state.default_dtype
    on_cpu(device)
    if shared:
        with open(filename, "ab") as f: f.truncate(max(f.tell(), size_ * kind.size))
    code = np.uint16 if kind is dt.bfloat16 else kind.code
    have, need = os.path.getsize(filename), size_ * kind.size
    if have < need: raise RuntimeError(f"file <{filename}> size <{have}> is smaller than the required mapping size <{need}>")
    array = np.memmap(filename, code, "r+" if shared else "c", 0, (size_,))
    t = data.from_numpy(array)
    return creation.finish(views.view(t, kind) if kind is dt.bfloat16 else t, requires_grad)


def resize(self, *sizes):
    """Another shape for the same number of elements; unlike resize_ it keeps gradients."""
    warnings.warn("non-inplace resize is deprecated", stacklevel=2)
    sizes = views.ints(sizes)
    if math.prod(sizes) != self.numel(): raise RuntimeError(f"requested resize to {list(sizes)}, but the given tensor has a size of {list(self.shape)}. autograd's resize can only change the shape of a "
                                                            "given tensor, while preserving the number of elements.")
    return views.reshape(self, sizes)


def resize_as(self, tensor): return resize(self, tuple(tensor.shape))


def removed(name, instead):
    def f(*args, **kw): raise RuntimeError(f"This function was deprecated since version 1.9 and is now removed. Please use `{instead}` instead.")
    f.__name__ = f.__qualname__ = name
    return f


REMOVED = {name: removed(name, f"torch.linalg.{instead}") for name, instead in
           dict(eig="eig", symeig="eigh", lstsq="lstsq", solve="solve", matrix_rank="matrix_rank").items()}


def const_data_ptr(self) -> int: return self.data_ptr()
def reinforce(self, reward): raise RuntimeError("reinforce() was removed. Use torch.distributions instead. See https://pytorch.org/docs/main/distributions.html")


NAMES = {name: globals()[name] for name in (
    "AcceleratorError Stream Event cond while_loop SymInt SymFloat SymBool sym_int sym_float sym_not sym_ite sym_sum sym_sqrt sym_max sym_min sym_fresh_size has_lapack has_mkl has_openmp "
    "has_spectral set_anomaly_enabled set_autocast_cpu_enabled set_autocast_cpu_dtype set_autocast_gpu_dtype dequantize thread_safe_generator from_file compiled_with_cxx11_abi is_vulkan_available is_distributed cudnn_is_acceptable init_num_threads").split()} | STORAGES | REMOVED | {"Storage": STORAGES["FloatStorage"], "legacy_contiguous_format": contiguous_format}
"""What torch's namespace gets from this file."""


def hang(cls):
    for name in ("is_xla", "is_ipu", "is_maia", "is_mtia", "is_vulkan"): setattr(cls, name, property(lambda s: False))
    cls.volatile, cls.name = property(lambda s: False), property(lambda s: None)
    cls.grad_dtype = property(lambda s: s.dtype if s.dtype.category >= dt.FLOAT else None)
    cls.is_distributed, cls.storage_type, cls.reinforce, cls.const_data_ptr = is_distributed, storage_type, reinforce, const_data_ptr
    for name in ("eig", "symeig", "lstsq", "solve"): setattr(cls, name, REMOVED[name])
    cls.record_stream = hurried.record_stream
    cls.dequantize, cls.resize, cls.resize_as = dequantize, resize, resize_as
    return cls
