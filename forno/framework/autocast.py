"""Automatic mixed precision: which functions compute in a narrow type inside an autocast block, which in float32, which in the widest type they are given.

Comes in: a function as users call it. Goes out: the same function, which casts its arguments first where autocast is on. The casts are ordinary lines, so
gradients come back in the type of what was cast, and what is cast twice in a window (a weight that is used twice) is cast once. Autocast is a mode of
the thread's window, as gradient mode is: a change of it is a line. Inside a function that it applies to it is off.
"""
from __future__ import annotations

import functools
import threading

from ..core import dtype as dt
from ..dnn.movement import cast as CAST
from ..graph.line import LOCAL, record, set_autocast_mode
from . import functions as fn
from .autocast_lists import AS_IS, FLOAT32, FLOAT32_CUDA, NARROW, NARROW_CUDA, WIDEST, WIDEST_CUDA, Narrow
from .layouts import OTHERS
from .tensor import Tensor, device_name, owned, read

DTYPES = {"cpu": dt.bfloat16, "cuda": dt.float16, "xpu": dt.float16, "mps": dt.float16}



class _State(threading.local):
    """What this thread's blocks say, by device type. The window holds what follows from it: a type for the CPU alone, or a Narrow."""

    def __init__(self): self.enabled, self.dtypes, self.cached, self.depth = {}, {}, True, 0


STATE = _State()


def enable(device: str, on: bool, dtype: dt.dtype):
    """Autocast of one device type on or off, with this narrow type."""
    STATE.enabled[device], STATE.dtypes[device] = on, dtype
    if device in Narrow._fields: set_autocast_mode(mode(*[narrow_type(d) if enabled(d) else None for d in Narrow._fields]))


@functools.cache
def mode(cpu: dt.dtype | None, cuda: dt.dtype | None):
    """What the window holds; equal modes are one object."""
    return cpu if cuda is None else Narrow(cpu, cuda)


def on_gpu(args) -> bool:
    """Is the first tensor among the arguments on a GPU?"""
    for x in args:
        if isinstance(x, Tensor): return device_name(x).startswith("cuda")
        if x.__class__ in (list, tuple) and x: return on_gpu(x)
    return False


def fast_type(now, gpu: bool) -> dt.dtype | None:
    """The narrow type where the window holds `now`; None: autocast is off there."""
    if now.__class__ is Narrow: return now.cuda if gpu else now.cpu
    return None if gpu else now


def enabled(device: str) -> bool: return STATE.enabled.get(device, False)


def narrow_type(device: str) -> dt.dtype:
    try: return STATE.dtypes.get(device) or DTYPES[device]
    except KeyError: raise RuntimeError(f"unsupported autocast device_type: '{device}'") from None


def eligible(x) -> bool: return isinstance(x, Tensor) and x.dtype.category == dt.FLOAT and x.dtype is not dt.float64


def cast(x, to: dt.dtype):
    """x, or the tensors in it, in another type: floating point ones, but for float64."""
    if isinstance(x, Tensor):
        if not eligible(x) or x.dtype is to: return x
        return x.to(to) if x.__class__ in OTHERS else owned(record(CAST, (read(x),), to))
    if x.__class__ is list or x.__class__ is tuple: return x.__class__([cast(y, to) for y in x])
    return x


def in_float32(x: Tensor) -> Tensor:
    """x as functions of FLOAT32 get it, on the CPU."""
    now = LOCAL.run.autocast
    return x if now is None or on_gpu((x,)) or fast_type(now, False) is None else cast(x, dt.float32)


def widest(fast: dt.dtype, args) -> dt.dtype:
    """float32 if one of the tensors is, else the narrow type; float64 doesn't count."""
    to = fast
    for x in args:
        if x.__class__ in (list, tuple): to = dt.float32 if widest(fast, x) is dt.float32 else to
        elif eligible(x):
            if x.dtype is dt.float32: to = dt.float32
            elif x.dtype is not fast and to is not dt.float32: raise RuntimeError("Unexpected floating ScalarType in at::autocast::prioritize")
    return to


def casting(f, policy, policy_gpu):
    """f under autocast. `policy(fast, args)` is the type that its arguments get on the CPU, the other one's on a GPU; None: they stay.
    Where a policy is None, f is on no list, and what it is made of is looked at instead."""
    @functools.wraps(f)
    def call(*args, **kw):
        now = LOCAL.run.autocast
        if now is None or kw.get("out") is not None: return f(*args, **kw)
        gpu = on_gpu((*args, *kw.values()))
        fast, here = fast_type(now, gpu), policy_gpu if gpu else policy
        if fast is None or here is None: return f(*args, **kw)
        to = here(fast, (*args, *kw.values()))
        if to is not None: args, kw = [cast(x, to) for x in args], {k: cast(x, to) for k, x in kw.items()}
        set_autocast_mode(None)
        try: return f(*args, **kw)
        finally: set_autocast_mode(now)
    call.casts = True
    return call


def unsafe(fast, args):
    raise RuntimeError("torch.nn.functional.binary_cross_entropy and torch.nn.BCELoss are unsafe to autocast.\nMany models use a sigmoid layer right before the binary cross entropy layer. "
                       "In this case, combine the two layers using torch.nn.functional.binary_cross_entropy_with_logits\nor torch.nn.BCEWithLogitsLoss.  "
                       "binary_cross_entropy_with_logits and BCEWithLogits are\nsafe to autocast.")


def stay(fast, args): return None
def narrow(fast, args): return fast
def wide(fast, args): return dt.float32
def resized(fast, args): return None if any(x.__class__ is str and x == "area" for x in args) else dt.float32          # averages over areas are a pool


POLICIES = dict.fromkeys(NARROW, narrow) | dict.fromkeys(FLOAT32, wide) | dict.fromkeys(WIDEST, widest) | dict.fromkeys(AS_IS, stay)
POLICIES_CUDA = dict.fromkeys(NARROW_CUDA, narrow) | dict.fromkeys(FLOAT32_CUDA, wide) | dict.fromkeys(WIDEST_CUDA, widest) | {"binary_cross_entropy": unsafe, "interpolate": resized, "upsample": resized}


def apply(f, name: str):
    """f, which users know by this name, under autocast if it is on a list."""
    if name not in POLICIES and name not in POLICIES_CUDA or hasattr(f, "casts"): return f
    return casting(f, POLICIES.get(name), POLICIES_CUDA.get(name))


matmul = apply(fn.matmul, "matmul")
"""The product inside functions that PyTorch writes with products of its own, which autocast sees: einsum, matrix_power and the like."""
