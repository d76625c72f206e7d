"""Old and small names: torch.Tensor(…) and torch.FloatTensor(…), Tensor.new_*, questions about tensors and types, finfo and iinfo.

Comes in: Python values and tensors. Goes out: tensors, dtypes, truth values. Nothing here computes.
"""
from __future__ import annotations

import math
import operator

import numpy as np

from ..core import dtype as dt
from ..core.state import state
from ..cpu import threads
from ..dnn.elementwise import TITLES
from . import creation, data, methods, views
from .bind import element_type, number
from .layouts import OTHERS
from .sharing import TypedStorage, UntypedStorage
from .size import Size, on_cpu, place, there
from .tensor import Tensor, detached, is_inference, on_device


# ---------------------------------------------------------------- torch.Tensor(…)
def built(args, dtype: dt.dtype, device=None) -> Tensor:
    """The constructors from before torch.tensor: sizes make uninitialised memory, a sequence or array is copied, a tensor is shared."""
    if (where := place(device)) != "cpu": return on_device(built(args, dtype, "cpu"), where)
    if not args: return creation.empty(0, dtype=dtype)
    x = args[0]
    if len(args) == 1:
        if isinstance(x, Tensor): return detached(x)
        if isinstance(x, UntypedStorage): return x.base if x.base.dtype is dtype else views.view(x.base, dtype)
        if isinstance(x, Size): return creation.empty(x, dtype=dtype)
        if isinstance(x, (list, tuple, range, np.ndarray)): return data.from_data(list(x) if isinstance(x, range) else x, dtype)
        if isinstance(x, str): raise TypeError("new(): invalid data type 'str'")
        if isinstance(x, bool) or not hasattr(x, "__index__"): raise TypeError(f"new(): data must be a sequence (got {type(x).__name__})")
    for i, n in enumerate(args):
        if isinstance(n, bool) or not hasattr(n, "__index__"):
            raise TypeError(f'new(): argument \'size\' failed to unpack the object at pos {i + 1} with error "type must be tuple of ints,but got {type(n).__name__}"')
    return creation.empty(*map(operator.index, args), dtype=dtype)


_NOTHING = object()


def construct(cls, *args, data=_NOTHING, size=None, device=None, **kw):
    """Tensor.__new__, also of subclasses, whose __init__ may take what it likes."""
    t = built(args if data is _NOTHING and size is None else (data if size is None else Size(size),), state.default_dtype, device)
    return t if cls is Tensor else methods.make_subclass(cls, t)


class TensorType(type):
    """torch.FloatTensor and its like: constructors and isinstance checks of one dtype."""

    def __instancecheck__(cls, x): return isinstance(x, Tensor) and x.dtype is cls.dtype and x.device.type == cls.device_type and x.__class__ not in OTHERS
    def __call__(cls, *args, device=None):
        if not there(cls.device_type): raise TypeError(f"type {cls.__module__}.{cls.__name__} not available. Torch not compiled with CUDA enabled.")
        if cls.device_type != "cpu": device = device or cls.device_type
        return built(args, cls.dtype, device)

    def __repr__(cls): return f"<class '{cls.__module__}.{cls.__name__}'>"

    @property
    def is_cuda(cls): return cls.device_type == "cuda"


def tensor_type(dtype: dt.dtype, device_type="cpu") -> TensorType:
    module = "torch" if device_type == "cpu" else f"torch.{device_type}"
    return TensorType(TITLES[dtype.name] + "Tensor", (), {"dtype": dtype, "device_type": device_type, "__module__": module, "__doc__": f"Tensors of {dtype!r}."})


LEGACY = (dt.uint8, dt.int8, dt.int16, dt.int32, dt.int64, dt.float16, dt.bfloat16, dt.float32, dt.float64, dt.bool)
TYPES = {t.__name__: t for t in map(tensor_type, LEGACY)}


def set_default_tensor_type(t):
    """The old way to set the default dtype: by type or by its name."""
    if isinstance(t, str): t = TYPES.get(t.removeprefix("torch."), t)
    if isinstance(t, str): raise TypeError(f"invalid type object: {t}")
    dtype = getattr(t, "dtype", t)
    if not isinstance(t, TensorType) or dtype.category != dt.FLOAT: raise TypeError("invalid type object: only floating-point types are supported as the default type")
    creation.set_default_dtype(dtype)


# ---------------------------------------------------------------- new_*
def new(t: Tensor, *args, device=None): return built(args, t.dtype, device or t.device)


def new_tensor(t, data, *, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False):
    return creation.tensor(data, dtype=element_type(dtype) or t.dtype, device=device or t.device, requires_grad=requires_grad)


def new_full(t, size, fill_value, *, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False):
    return creation.full(size, fill_value, dtype=dtype or t.dtype, device=device or t.device, requires_grad=requires_grad)


def like_self(make):
    def method(self, *size, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False, **named):
        return make(*(size or (named["size"],)), dtype=dtype or self.dtype, device=device or self.device, requires_grad=requires_grad)
    return method


new_zeros, new_ones, new_empty = map(like_self, (creation.zeros, creation.ones, creation.empty))


def new_empty_strided(t, size, stride, dtype=None, device=None, requires_grad=False, layout=None, pin_memory=False):
    return creation.empty_strided(size, stride, dtype=dtype or t.dtype, device=device or t.device, requires_grad=requires_grad)


# ---------------------------------------------------------------- questions
def is_tensor(obj) -> bool: return isinstance(obj, Tensor)
def is_storage(obj) -> bool: return isinstance(obj, UntypedStorage)


def question(name, ask):
    def f(input):
        if not isinstance(input, Tensor): raise TypeError(f"{name}(): argument 'input' (position 1) must be Tensor, not {type(input).__name__}")
        return ask(input)
    f.__name__ = f.__qualname__ = name
    return f


def nonzero_number(t: Tensor) -> bool:
    if t.numel() == 0: raise RuntimeError("Boolean value of Tensor with no values is ambiguous")
    if t.numel() > 1: raise RuntimeError("Boolean value of Tensor with more than one value is ambiguous")
    return bool(data.item(t))


QUESTIONS = {name: question(name, ask) for name, ask in dict(
    numel=methods.numel, is_floating_point=lambda t: t.dtype.category == dt.FLOAT, is_complex=lambda t: t.dtype.category == dt.COMPLEX, is_signed=lambda t: t.dtype.signed,
    is_nonzero=nonzero_number, is_conj=lambda t: False, is_neg=lambda t: False, is_inference=is_inference, get_device=lambda t: t.get_device(),
    resolve_conj=lambda t: t, resolve_neg=lambda t: t, detach=detached).items()}


def is_same_size(input, other) -> bool: return tuple(input.shape) == tuple(other.shape)


# ---------------------------------------------------------------- types
def promote_types(type1, type2): return dt.promote_types(type1, type2)


def result_type(tensor1, tensor2) -> dt.dtype:
    """The dtype that arithmetic of two tensors or numbers has."""
    def seen(x): return (x.dtype, x.ndim) if isinstance(x, Tensor) else dt.SCALAR_CATEGORY[type(number(x))]
    return dt.result_type([seen(tensor1), seen(tensor2)], state.default_dtype)


def can_cast(from_, to) -> bool:
    """May a result of one type be written into a tensor of the other?"""
    return from_.category <= to.category


def broadcast_shapes(*shapes) -> Size:
    shapes = [(s,) if isinstance(s, int) else tuple(s) for s in shapes]
    out = [1] * max(map(len, shapes), default=0)
    for k, shape in enumerate(shapes):
        for i in range(-1, -1 - len(shape), -1):
            n = shape[i]
            if n < 0: raise RuntimeError(f"Trying to create tensor with negative dimension ({n}): ({n})")
            if n == 1 or n == out[i]: continue
            if out[i] != 1:
                raise RuntimeError(f"Attempting to broadcast a dimension of length {n} at {i}! Mismatching argument at index {k} had {shape}; "
                                   f"but expected shape should be broadcastable to {out}")
            out[i] = n
    return Size(out)


def typename(obj) -> str:
    if isinstance(obj, Tensor): return obj.type()
    named = obj if hasattr(obj, "__qualname__") else type(obj)
    module = getattr(named, "__module__", None) or ""
    module = "torch" + module[5:] if module == "forno" or module.startswith("forno.") else module
    return named.__qualname__ if module in ("", "builtins") else f"{module}.{named.__qualname__}"


class info:
    """What finfo and iinfo have in common. Two of one dtype are equal."""
    __slots__ = ("bits", "max", "min", "kind")

    @property
    def dtype(self) -> str: return self.kind.name
    def __eq__(self, other): return type(other) is type(self) and other.kind is self.kind
    def __hash__(self): return hash(self.kind)
    def __repr__(self): return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name):g}' for name in self.SHOWN)}, dtype={self.dtype})"
    def __reduce__(self): return type(self), (self.kind,)


class iinfo(info):
    """Limits of an integer type."""
    __slots__ = ()
    SHOWN = "min", "max"

    def __init__(self, type):
        if type is dt.bool: raise TypeError("torch.bool is not supported by torch.iinfo")
        if type.category != dt.INT: raise TypeError("torch.iinfo() requires an integer input type. Use torch.finfo to handle 'torch.iinfo'")
        self.kind, self.bits = type, type.size * 8
        self.min, self.max = dt.limits(type)


_FLOATS = {"float16": (10, -14, 15, 1e-3), "bfloat16": (7, -126, 127, 1e-2), "float32": (23, -126, 127, 1e-6), "float64": (52, -1022, 1023, 1e-15)}


class finfo(info):
    """Limits of a floating-point type; of the parts of a complex one."""
    __slots__ = ("eps", "tiny", "smallest_normal", "resolution")
    SHOWN = "resolution", "min", "max", "eps", "smallest_normal", "tiny"

    def __init__(self, type=None):
        type = (type or state.default_dtype).real
        if type.category != dt.FLOAT: raise TypeError("torch.finfo() requires a floating point input type. Use torch.iinfo to handle 'torch.finfo'")
        mantissa, low, high, self.resolution = _FLOATS[type.name]
        self.kind, self.bits = type, type.size * 8
        self.eps, self.tiny = math.ldexp(1.0, -mantissa), math.ldexp(1.0, low)
        self.smallest_normal, self.max = self.tiny, math.ldexp(2.0 - self.eps, high)
        self.min = -self.max


# ---------------------------------------------------------------- threads
get_num_threads, set_num_threads = threads.get_num_threads, threads.set_num_threads


class _Interop:
    """PyTorch's second pool. forno has one; the number is kept for scripts that ask."""
    threads = 1


def get_num_interop_threads() -> int: return _Interop.threads


def set_num_interop_threads(n: int):
    if n <= 0: raise RuntimeError("Expected a positive number of threads")
    _Interop.threads = n


def cuda(t, device=None, non_blocking=False, memory_format=None): return t.to("cuda" if device is None else device, non_blocking=non_blocking, memory_format=memory_format)
def xpu(t, device=None, non_blocking=False, memory_format=None): on_cpu("xpu")


def as_subclass(t: Tensor, cls) -> Tensor: return methods.make_subclass(cls, t, t.requires_grad and t.is_leaf)


def hang(cls):
    cls.__new__ = staticmethod(construct)
    for f in (new, new_tensor, new_full, new_empty_strided, is_same_size, as_subclass, cuda, xpu): setattr(cls, f.__name__, f)
    cls.new_zeros, cls.new_ones, cls.new_empty = new_zeros, new_ones, new_empty
    for name in ("is_nonzero", "is_conj", "is_neg", "is_inference", "resolve_conj", "resolve_neg"): setattr(cls, name, QUESTIONS[name])


NAMES = {name: globals()[name] for name in (
    "set_default_tensor_type", "is_tensor", "is_storage", "is_same_size", "promote_types", "result_type", "can_cast", "broadcast_shapes", "typename", "iinfo", "finfo",
    "get_num_threads", "set_num_threads", "get_num_interop_threads", "set_num_interop_threads", "UntypedStorage", "TypedStorage")} | QUESTIONS | TYPES
"""What torch's namespace gets from this file."""
