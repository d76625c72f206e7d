"""Automatic mixed precision: which functions compute in a narrow type inside an autocast block, which in float32, which in the widest type they are given.

Comes in: a function as users call it. Goes out: the same function, which casts its arguments first where autocast is on. The casts are ordinary lines, so
gradients come back in the type of what was cast, and what is cast twice in a window (a weight that is used twice) is cast once. Autocast is a mode of
the thread's window, as gradient mode is: a change of it is a line. Inside a function that it applies to it is off.
"""
from __future__ import annotations

import functools
import threading
from typing import NamedTuple

from ..core import dtype as dt
from ..dnn.movement import cast as CAST
from ..graph.line import LOCAL, record, set_autocast_mode
from . import functions as fn
from .layouts import OTHERS
from .tensor import Tensor, device_name, owned, read

DTYPES = {"cpu": dt.bfloat16, "cuda": dt.float16, "xpu": dt.float16, "mps": dt.float16}

# PyTorch's lists for CPUs, by the names that functions have here
NARROW = frozenset("matmul mm bmm addmm baddbmm addbmm linear vecdot lstm conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d conv_transpose3d prelu "
                   "scaled_dot_product_attention __matmul__ __rmatmul__".split())
FLOAT32 = frozenset(
    "avg_pool3d adaptive_avg_pool3d max_pool3d adaptive_max_pool3d adaptive_max_pool3d_with_indices fractional_max_pool2d fractional_max_pool2d_with_indices "
    "fractional_max_pool3d fractional_max_pool3d_with_indices max_unpool1d max_unpool2d max_unpool3d grid_sample "
    "binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cross_entropy ctc_loss hinge_embedding_loss huber_loss kl_div l1_loss "
    "margin_ranking_loss mse_loss multi_margin_loss multilabel_margin_loss nll_loss poisson_nll_loss smooth_l1_loss soft_margin_loss triplet_margin_loss "
    "polar prod quantile nanquantile stft cdist trace view_as_complex cholesky cholesky_inverse cholesky_solve inverse lu_solve orgqr ormqr pinverse geqrf qr "
    "svd triangular_solve cholesky_ex cond eig eigh eigvals eigvalsh householder_product inv inv_ex lstsq matrix_rank solve svdvals tensorinv tensorsolve "
    "fft fft2 fftn ifft ifft2 ifftn rfft rfft2 rfftn irfft irfft2 irfftn hfft ihfft".split())
WIDEST = frozenset("cat concat concatenate stack index_copy".split())
AS_IS = frozenset(("bilinear",))               # made of others on these lists here, but not in PyTorch

# PyTorch's lists for CUDA. The functions that are rows (exp, log, pow and the like) are missing: they compute in float32 anyway, and give what they are given
NARROW_CUDA = frozenset("matmul mm bmm mv addmm addmv addr baddbmm addbmm linear chain_matmul multi_dot conv1d conv2d conv3d conv_tbc conv_transpose1d conv_transpose2d "
                        "conv_transpose3d prelu scaled_dot_product_attention lstm __matmul__ __rmatmul__".split())
FLOAT32_CUDA = frozenset(
    "binary_cross_entropy_with_logits cosine_embedding_loss cosine_similarity cross_entropy hinge_embedding_loss kl_div l1_loss margin_ranking_loss mse_loss "
    "multilabel_margin_loss multi_margin_loss nll_loss poisson_nll_loss smooth_l1_loss soft_margin_loss triplet_margin_loss softmax softmin log_softmax softplus layer_norm "
    "group_norm normalize norm pdist cdist dist renorm sum prod cumsum cumprod".split())
WIDEST_CUDA = frozenset("cat concat concatenate stack addcdiv addcmul atan2 bilinear cross dot grid_sample index_put scatter_add tensordot".split())


class Narrow(NamedTuple):
    """The narrow types of device types; None where autocast is off."""
    cpu: dt.dtype | None
    cuda: dt.dtype | None


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
    """x as functions of FLOAT32 get it."""
    now = LOCAL.run.autocast
    return x if now is None or fast_type(now, on_gpu((x,))) is None else cast(x, dt.float32)


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


POLICIES = dict.fromkeys(NARROW, narrow) | dict.fromkeys(FLOAT32, wide) | dict.fromkeys(WIDEST, widest) | dict.fromkeys(AS_IS, stay)
POLICIES_CUDA = dict.fromkeys(NARROW_CUDA, narrow) | dict.fromkeys(FLOAT32_CUDA, wide) | dict.fromkeys(WIDEST_CUDA, widest) | {"binary_cross_entropy": unsafe}


def apply(f, name: str):
    """f, which users know by this name, under autocast if it is on a list."""
    if name not in POLICIES and name not in POLICIES_CUDA or hasattr(f, "casts"): return f
    return casting(f, POLICIES.get(name), POLICIES_CUDA.get(name))


matmul = apply(fn.matmul, "matmul")
"""The product inside functions that PyTorch writes with products of its own, which autocast sees: einsum, matrix_power and the like."""
