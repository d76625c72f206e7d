"""Small value types that scripts compare and print: Size, device, memory formats, layouts."""
from __future__ import annotations

import functools
import math
import re
import threading

from .. import cudart
from ..gpu.names import NAMES


class Size(tuple):
    """A shape: a tuple that prints as PyTorch's and knows numel()."""
    __slots__ = ()

    def numel(self) -> int: return math.prod(self)
    def __repr__(self): return f"torch.Size({list(self)})"
    def __getitem__(self, i): return Size(tuple.__getitem__(self, i)) if isinstance(i, slice) else tuple.__getitem__(self, i)
    def __add__(self, other): return Size(tuple.__add__(self, tuple(other)))
    def __radd__(self, other): return Size(tuple(other) + tuple(self))
    def __mul__(self, n): return Size(tuple.__mul__(self, n))
    __rmul__ = __mul__
    def __reduce__(self): return Size, (tuple(self),)


class device:
    """torch.device: a kind and an optional index."""
    __slots__ = ("type", "index")
    KINDS = ("cpu", "cuda", "meta", "mps", "xpu", "mkldnn", "opengl", "opencl", "ideep", "hip", "ve", "fpga", "maia", "xla", "lazy", "vulkan", "mtia", "privateuseone", "hpu", "ipu")

    def __new__(cls, type, index=None):
        if isinstance(type, device): return type
        self = object.__new__(cls)
        if isinstance(type, int): type, index = "cuda", type
        if index is not None and index < 0: raise RuntimeError("Device index must not be negative")
        if not isinstance(type, str): raise TypeError(f"device(): argument 'type' must be str, not {type.__class__.__name__}")
        if index is None:
            m = re.fullmatch(r"([a-z]+)(?::(\d+))?", type)
            if m is None: raise RuntimeError(f"Invalid device string: '{type}'")
            type, index = m[1], None if m[2] is None else int(m[2])
        if type not in cls.KINDS: raise RuntimeError(f"Expected one of {', '.join(cls.KINDS)} device type at start of device string: {type}")
        object.__setattr__(self, "type", type)
        object.__setattr__(self, "index", index)
        return self

    def __setattr__(self, name, value): raise AttributeError(f"attribute '{name}' of 'torch.device' objects is not writable")
    def __eq__(self, other): return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)
    def __hash__(self): return hash((self.type, self.index))
    def __repr__(self): return f"device(type='{self.type}'{'' if self.index is None else f', index={self.index}'})"
    def __str__(self): return self.type if self.index is None else f"{self.type}:{self.index}"
    def __reduce__(self): return device, (str(self),)

    def __enter__(self):
        """Tensors made inside are on this device, where a call names no other."""
        no_data(self)
        DEFAULT.stack.append(self)
        return self

    def __exit__(self, *error):
        DEFAULT.stack.pop()
        return False


CPU, META = device("cpu"), device("meta")
DEVICES = {"cpu": CPU, "meta": META} | {name: device(name) for name in NAMES}            # by the names that lines know them by


class _Default(threading.local):
    """Where this thread's tensors are made: the innermost `with device`, else what set_default_device said."""

    def __init__(self): self.stack = [CPU]


DEFAULT = _Default()


def get_default_device() -> device: return DEFAULT.stack[-1]


def set_default_device(device):
    d = CPU if device is None else type(CPU)(device)
    no_data(d)
    DEFAULT.stack[0] = d


def placed(f):
    """A function that makes tensors, on the default device where a call names none, and in pinned memory where one asks for that."""
    @functools.wraps(f)
    def call(*args, **kw):
        if DEFAULT.stack[-1] is not CPU and kw.get("device") is None: kw["device"] = DEFAULT.stack[-1]
        return pinned(f, args, kw) if kw and kw.get("pin_memory") else f(*args, **kw)
    return call


def pinned(make, args, kw):
    """What a function makes, in pinned memory of the host."""
    return make(*args, **kw | {"requires_grad": False}).pin_memory().requires_grad_(bool(kw.get("requires_grad")))


def place(where) -> str:
    """The name of the device that an argument names: "cpu", "meta", "cuda:0" … An error for devices that aren't there."""
    if where is None: return "cpu"             # forno's own: the default device is for what users call
    d = device(where)
    if d.type == "meta": return "meta"
    if d.type == "cuda":
        if where.__class__ is int and cudart.count() == 0: raise RuntimeError("Cannot access accelerator device when none is available.")
        return cudart.place(d.index)
    on_cpu(where)
    return "cpu"


def there(kind: str) -> bool:
    """Has this machine a device of that kind?"""
    return kind == "cpu" or kind == "cuda" and cudart.count() > 0


def no_data(where) -> bool:
    """Is a tensor to be made on device "meta"? An error for devices that this build lacks."""
    return place(where) == "meta"


def on_cpu(where) -> device:
    """The device an argument names, if this build has it."""
    d = CPU if where is None else device(where)
    if d.type == "cpu": return d
    if where.__class__ is int: raise RuntimeError("Cannot access accelerator device when none is available.")
    if d.type in ("cuda", "xpu"): raise AssertionError(f"Torch not compiled with {d.type.upper()} enabled")
    raise NotImplementedError(f"device '{d}' is not implemented; use device='cpu'")


class _Named:
    __slots__ = ("name",)

    def __init__(self, name): self.name = name
    def __repr__(self): return f"torch.{self.name}"
    def __reduce__(self): return self.name
    def __deepcopy__(self, memo): return self


class memory_format(_Named): """Order of axes in memory."""
class layout(_Named): """How elements are stored."""


contiguous_format, channels_last, channels_last_3d, preserve_format = map(memory_format, ("contiguous_format", "channels_last", "channels_last_3d", "preserve_format"))
strided, sparse_coo, sparse_csr, sparse_csc, sparse_bsr, sparse_bsc = map(layout, ("strided", "sparse_coo", "sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc"))
